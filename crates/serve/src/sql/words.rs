//! A statement's tokens, read from the front: what the grammar of session commands is written with.

use super::command::Inner;
use super::lexer::{Lexed, Lexer, Token};

/// Tokens not yet read. They are looked for as they are asked for: most of a text is none of ours.
#[derive(Clone)]
pub(super) struct Words<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    next: Option<Lexed<'a>>,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut lexer = Lexer::new(text);
        let next = lexer.next();
        Self { text, lexer, next }
    }

    pub(super) fn peek(&self) -> Option<&Token<'a>> {
        self.next.as_ref().map(|lexed| &lexed.token)
    }

    fn take(&mut self) -> Option<Lexed<'a>> {
        std::mem::replace(&mut self.next, self.lexer.next())
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        self.take().map(|lexed| lexed.token)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next.is_none()
    }

    /// The next token in lower case if it is a word.
    pub(super) fn keyword(&self) -> Option<String> {
        match self.peek() {
            Some(Token::Word(word)) => Some(word.to_ascii_lowercase()),
            _ => None,
        }
    }

    /// Reads this word if it comes next.
    pub(super) fn eat(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(next)) if next.eq_ignore_ascii_case(word));
        if found {
            self.take();
        }
        found
    }

    /// Reads all of these words if they come next.
    pub(super) fn eat_all(&mut self, words: &[&str]) -> bool {
        let before = self.clone();
        let found = words.iter().all(|word| self.eat(word));
        if !found {
            *self = before;
        }
        found
    }

    /// Reads this character if it comes next.
    pub(super) fn symbol(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        if found {
            self.take();
        }
        found
    }

    /// Reads a name, plain (folded to lower case) or quoted.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = match self.peek()? {
            Token::Word(word) => word.to_lowercase(),
            Token::Name(name) => name.clone(),
            _ => return None,
        };
        self.take();
        Some(name)
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Option<String> {
        match self.peek() {
            Some(Token::Text(_)) => match self.next() {
                Some(Token::Text(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Text from the next token to the end.
    pub(super) fn rest(&self) -> &'a str {
        let start = self.next.as_ref().map_or(self.text.len(), |lexed| lexed.start);
        self.text.get(start..).unwrap_or_default()
    }

    /// A piece of the text as a query of its own, which knows its place.
    pub(super) fn inner(&self, piece: &str) -> Inner {
        let piece = piece.trim();
        let start = (piece.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let offset = self.text.get(..start).map(|before| before.chars().count());
        Inner { text: piece.to_owned(), offset }
    }

    /// Reads from `(` to the `)` that closes it and returns what stands between.
    pub(super) fn parenthesised(&mut self) -> Option<&'a str> {
        let from = self.next.as_ref().filter(|lexed| lexed.token == Token::Symbol('('))?.end;
        let before = self.clone();
        let mut depth = 0_usize;
        while let Some(lexed) = self.take() {
            match lexed.token {
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return self.text.get(from..lexed.start).filter(|between| !between.is_empty());
            }
        }
        *self = before;
        None
    }
}
