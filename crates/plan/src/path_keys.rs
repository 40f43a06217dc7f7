//! Paths into documents as MySQL writes them, where PostgreSQL reads the name of a key: `attrs ->> '$.colour'` is a key that is called
//! `$.colour`, and nearly always NULL.

use datafusion_sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::refusal::Refusal;
use crate::settings;

/// What is to be said of each of these in a text of SQL, at its place. They mean something, so nothing is refused.
pub(crate) fn paths_as_keys(sql: &str) -> Vec<Refusal> {
    // Most texts have none.
    if !sql.contains("'$") {
        return Vec::new();
    }
    let Ok(tokens) = Tokenizer::new(&settings::dialect(), sql).tokenize_with_location() else { return Vec::new() };
    let tokens: Vec<_> = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    let found = tokens.windows(2).filter_map(|pair| {
        let (operator, Token::SingleQuotedString(path)) = (&pair[0].token, &pair[1].token) else { return None };
        if !matches!(operator, Token::Arrow | Token::LongArrow) || !is_path(path) {
            return None;
        }
        let start = pair[1].span.start;
        Some(Refusal {
            message: format!("{operator} '{path}' reads a key of the name \"{path}\""),
            detail: "Paths that begin with $ are MySQL's.".to_owned(),
            hint: instead(*operator == Token::LongArrow, path),
            line: usize::try_from(start.line).ok().zip(usize::try_from(start.column).ok()),
        })
    });
    found.collect()
}

fn is_path(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What is written for a path.
fn instead(is_text: bool, path: &str) -> String {
    let parts: Vec<String> = path
        .trim_start_matches('$')
        .split(['.', '['])
        .map(|part| part.trim_end_matches(']').trim_matches('"').to_owned())
        .filter(|part| !part.is_empty())
        .collect();
    let is_plain = |part: &String| part.chars().all(|c| c.is_alphanumeric() || c == '_');
    let (one, many) = if is_text { ("->>", "#>>") } else { ("->", "#>") };
    match parts.as_slice() {
        parts if !parts.iter().all(is_plain) => {
            "Write ->> 'key', #>> '{a,b}', or jsonb_path_query(a, '$.key').".to_owned()
        }
        [] => "The document is the column itself.".to_owned(),
        [part] => match part.parse::<u64>() {
            Ok(_) => format!("Write {one} {part}."),
            Err(_) => format!("Write {one} '{part}'."),
        },
        parts => format!("Write {many} '{{{}}}'.", parts.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_mysql_are_told_with_what_is_meant() {
        let sql = "select a ->> '$.colour', a->'$.x[1].y',\n  a -> '$[0]', a ->> '$', a ->> '$.*', a ->> '$5', b = '$.x', '-> ''$.x' from t";
        let told: Vec<_> =
            paths_as_keys(sql).into_iter().map(|told| (told.line.unwrap(), told.message, told.hint)).collect();
        let told: Vec<_> = told.iter().map(|(at, message, hint)| (*at, message.as_str(), hint.as_str())).collect();
        assert_eq!(
            told,
            [
                ((1, 14), "->> '$.colour' reads a key of the name \"$.colour\"", "Write ->> 'colour'."),
                ((1, 29), "-> '$.x[1].y' reads a key of the name \"$.x[1].y\"", "Write #> '{x,1,y}'."),
                ((2, 8), "-> '$[0]' reads a key of the name \"$[0]\"", "Write -> 0."),
                ((2, 22), "->> '$' reads a key of the name \"$\"", "The document is the column itself."),
                (
                    (2, 33),
                    "->> '$.*' reads a key of the name \"$.*\"",
                    "Write ->> 'key', #>> '{a,b}', or jsonb_path_query(a, '$.key').",
                ),
            ]
        );
        assert_eq!(paths_as_keys("select 'a"), []);
    }
}
