//! A statement's tokens, read from the front: what the grammar of session commands is written with.

use super::command::Inner;
use super::lexer::{Lexer, Token};

/// Tokens not yet read.
pub(super) struct Words<'a> {
    text: &'a str,
    tokens: Vec<(Token<'a>, usize, usize)>,
    at: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let tokens = Lexer::new(text).map(|lexed| (lexed.token, lexed.start, lexed.end)).collect();
        Self { text, tokens, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.at).map(|(token, ..)| token)
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peek().is_none()
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
        let found = self.keyword().is_some_and(|next| next == word);
        self.at += usize::from(found);
        found
    }

    /// Reads all of these words if they come next.
    pub(super) fn eat_all(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        let found = words.iter().all(|word| self.eat(word));
        if !found {
            self.at = start;
        }
        found
    }

    /// Reads this character if it comes next.
    pub(super) fn symbol(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    /// Reads a name, plain (folded to lower case) or quoted.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = match self.peek()? {
            Token::Word(word) => word.to_lowercase(),
            Token::Name(name) => name.clone(),
            _ => return None,
        };
        self.at += 1;
        Some(name)
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Option<String> {
        let Some(Token::Text(text)) = self.peek().cloned() else { return None };
        self.at += 1;
        Some(text)
    }

    /// Text from the next token to the end.
    pub(super) fn rest(&self) -> &'a str {
        let start = self.tokens.get(self.at).map_or(self.text.len(), |(_, start, _)| *start);
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
        let mut depth = 0_usize;
        for (i, (token, start, end)) in self.tokens.iter().enumerate().skip(self.at) {
            match token {
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                let from = self.tokens.get(self.at).map_or(*start, |(_, _, end)| *end);
                self.at = i + 1;
                return (*end > from + 1).then(|| self.text.get(from..*start)).flatten();
            }
        }
        None
    }
}
