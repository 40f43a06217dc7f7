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

/// The statements of a query, empty ones left out. Each is looked for when it is asked for: a text may hold millions.
pub(crate) fn split(query: &str) -> Statements<'_> {
    Statements { query, lexer: Lexer::new(query), counted: 0, characters: 0 }
}

/// Statements that are still to come.
pub(crate) struct Statements<'a> {
    query: &'a str,
    lexer: Lexer<'a>,
    /// Bytes of the query whose characters are counted, and how many these are.
    counted: usize,
    characters: usize,
}

impl<'a> Iterator for Statements<'a> {
    type Item = Statement<'a>;

    fn next(&mut self) -> Option<Statement<'a>> {
        let mut open: Option<(usize, usize)> = None;
        for lexed in self.lexer.by_ref() {
            if lexed.token != Token::Symbol(';') {
                open = Some((open.map_or(lexed.start, |(start, _)| start), lexed.end));
            } else if open.is_some() {
                break;
            }
        }
        let (start, end) = open?;
        let before = self.query.get(self.counted..start).unwrap_or_default();
        self.characters += before.chars().count();
        self.counted = start;
        Some(Statement { text: self.query.get(start..end).unwrap_or_default(), offset: self.characters })
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn each_statement_knows_the_characters_before_it() {
        let found: Vec<_> = split("; é; /* ; */ select ';' ;;\n-- ;\nb").collect();
        let found: Vec<_> = found.iter().map(|statement| (statement.offset, statement.text)).collect();
        assert_eq!(found, [(2, "é"), (13, "select ';'"), (32, "b")]);
    }

    /// Whose places are counted from the beginning each would not be through with this.
    #[test]
    fn millions_of_statements_are_no_work() {
        assert_eq!(split(&"1;".repeat(4_000_000)).last().map(|last| last.offset), Some(7_999_998));
    }
}
