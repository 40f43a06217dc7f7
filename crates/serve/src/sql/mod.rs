//! SQL as far as a connection must know it: where a statement ends, and whether it is the session's own.
//!
//! [`lexer`] knows quotes and comments, [`split`] cuts at semicolons, [`command`] recognises what the reader never
//! sees: transactions, settings, cursors, COPY, the one-row questions of drivers, and writes (refused). Everything else
//! goes to the reader, wrong SQL included: it has the better message. [`relations()`] tells what a tile of a dashboard reads.

pub(crate) mod command;
pub(crate) mod function;
mod lexer;
pub(crate) mod relations;
mod words;

pub(crate) use command::{Command, command};
pub(crate) use relations::relations;

use lexer::{Lexer, Token};

/// One statement of a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    /// Its text, without the semicolon and what surrounds it.
    pub(crate) text: &'a str,
    /// Characters of the query before it.
    pub(crate) offset: usize,
}

/// The statements of a query, empty ones left out.
pub(crate) fn split(query: &str) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for lexed in Lexer::new(query) {
        if lexed.token == Token::Symbol(';') {
            statements.extend(open.take().map(|span| statement(query, span)));
        } else {
            open = Some((open.map_or(lexed.start, |(start, _)| start), lexed.end));
        }
    }
    statements.extend(open.map(|span| statement(query, span)));
    statements
}

fn statement(query: &str, (start, end): (usize, usize)) -> Statement<'_> {
    let text = query.get(start..end).unwrap_or_default();
    let offset = query.get(..start).unwrap_or_default().chars().count();
    Statement { text, offset }
}
