//! The names that a statement reads from, as they are written.
//!
//! What a list of tables looks like is known here, and no more of the grammar: a name that is a function's, or one that the
//! statement makes itself, may be among them, and whoever asks looks each one up.

use super::lexer::{Lexer, Token};

/// Words that end a list of tables.
const ENDS: [&str; 13] = [
    "where",
    "group",
    "order",
    "having",
    "limit",
    "offset",
    "fetch",
    "union",
    "intersect",
    "except",
    "on",
    "window",
    "select",
];

/// Names behind FROM and JOIN, `schema.name` or a name alone, in their order.
pub(crate) fn relations(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut tokens = Lexer::new(sql).map(|lexed| lexed.token).peekable();
    let (mut is_list, mut is_next) = (false, false);
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) if ["from", "join"].iter().any(|known| word.eq_ignore_ascii_case(known)) => {
                (is_list, is_next) = (true, true);
            }
            Token::Word(word) if ENDS.iter().any(|known| word.eq_ignore_ascii_case(known)) => {
                (is_list, is_next) = (false, false);
            }
            Token::Symbol(',') => is_next = is_list,
            Token::Word(_) | Token::Name(_) if is_next => {
                let mut name = text(token);
                while tokens.next_if(|token| *token == Token::Symbol('.')).is_some() {
                    name = format!("{name}.{}", tokens.next().map(text).unwrap_or_default());
                }
                found.push(name);
                is_next = false;
            }
            Token::Symbol('(' | ')') => (is_list, is_next) = (false, false),
            _ => is_next = false,
        }
    }
    found
}

/// A name as it is kept: what is not quoted is in lower case.
fn text(token: Token<'_>) -> String {
    match token {
        Token::Word(word) => word.to_lowercase(),
        Token::Name(name) => name,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_named() {
        let sql = "with a as (select x from Shop.orders) select extract(day from t), 'from b' from a as n, \"P\".\"T\" t join (select 1 from c) as d on true -- from e";
        assert_eq!(relations(sql), ["shop.orders", "t", "a", "P.T", "c"]);
    }
}
