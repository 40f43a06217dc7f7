//! What a text says that can be meant, and hardly is: MySQL means something else by it. Nothing of it is refused.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::path_keys::paths_as_keys;
use crate::refusal::Refusal;
use crate::settings;

/// What is to be said of a text of SQL, each at its place.
pub fn suspicions(sql: &str) -> Vec<Refusal> {
    let mut told = paths_as_keys(sql);
    told.extend(casts_to_one_letter(sql));
    told.sort_by_key(|told| told.line);
    told
}

/// `cast(a as char)`, which is the whole text in MySQL and its first letter in PostgreSQL.
///
/// `a::char` is nothing that MySQL reads: who writes it knows the type.
fn casts_to_one_letter(sql: &str) -> Vec<Refusal> {
    let Ok(tokens) = Tokenizer::new(&settings::dialect(), sql).tokenize_with_location() else { return Vec::new() };
    let tokens: Vec<&TokenWithSpan> =
        tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    let keyword = |at: usize| match tokens.get(at).map(|token| &token.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    };
    // Whether each bracket that is open is that of a cast.
    let mut open = Vec::new();
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.token {
            Token::LParen => open.push(at > 0 && matches!(keyword(at - 1), Keyword::CAST | Keyword::TRY_CAST)),
            Token::RParen => _ = open.pop(),
            _ => {}
        }
        let is_type = open.last() == Some(&true) && keyword(at) == Keyword::AS;
        let is_char = matches!(keyword(at + 1), Keyword::CHAR | Keyword::CHARACTER);
        let ends = tokens.get(at + 2).is_some_and(|next| next.token == Token::RParen);
        if is_type && is_char && ends {
            let start = tokens[at + 1].span.start;
            found.push(Refusal {
                message: "a cast to CHAR without a length keeps one letter".to_owned(),
                detail: "CHAR is CHAR(1) in PostgreSQL, and a text of any length in MySQL.".to_owned(),
                hint: "Write cast(a as text), or a::text.".to_owned(),
                line: usize::try_from(start.line).ok().zip(usize::try_from(start.column).ok()),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_to_one_letter_are_told_at_the_type() {
        let places = |sql: &str| suspicions(sql).into_iter().map(|told| told.line.unwrap()).collect::<Vec<_>>();
        assert_eq!(
            places("select cast(v as char), cast(coalesce(v, ('x')) as\n  Character) from t"),
            [(1, 18), (2, 3)]
        );
        for meant in [
            "select cast(v as char(1)), cast(v as char varying), v::char from t",
            "select * from (select v as char) t",
            "select cast((select v as char) as text), 'cast(v as char)', cast(v as \"char\") from t",
            "select cast(v as char",
        ] {
            assert_eq!(places(meant), [], "{meant}");
        }
        assert_eq!(places("select cast(v as char), j ->> '$.a', cast(v as char) from t"), [(1, 18), (1, 31), (1, 48)]);
    }
}
