//! A statement's text as words, names, strings and signs, as the server's own lexer parts it.
//!
//! The law: white space and comments mean nothing wherever they stand, and what a comment hides is decided as the server
//! decides it: `--` opens one before white space or at the end only, the inside of `/*! … */` counts where the server is as
//! new as it says, and a `/*M! … */` where it is MariaDB. A quote opens a name or a string by the session's mode. Nothing is
//! allocated but names and strings with a quote or an escape inside.

use std::borrow::Cow;

/// What the text was written for: the server, and the session's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Dialect {
    pub(crate) mariadb: bool,
    /// 80404 for 8.4.4.
    pub(crate) version: u32,
    /// `"x"` is a name (`ANSI_QUOTES`).
    pub(crate) ansi_quotes: bool,
    /// A backslash is a letter like others (`NO_BACKSLASH_ESCAPES`).
    pub(crate) plain_backslashes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// Without quotes: a keyword, a name or a number.
    Word(&'a str),
    /// A name in quotes.
    Name(Cow<'a, str>),
    /// A string.
    Text(Cow<'a, str>),
    Sign(char),
}

/// Whether a token is a word, in whatever letters.
pub(crate) fn is_word(token: &Token<'_>, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.eq_ignore_ascii_case(word))
}

/// Parts a text; a copy of it looks ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexer<'a> {
    rest: &'a str,
    dialect: Dialect,
    /// Within a comment whose inside counts.
    in_comment: bool,
    /// A quote or a comment that nobody closes.
    is_broken: bool,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str, dialect: Dialect) -> Self {
        Self { rest: text, dialect, in_comment: false, is_broken: false }
    }

    /// Whether a quote or a comment did not end.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(crate) fn next(&mut self) -> Option<Token<'a>> {
        self.space();
        let first = self.rest.chars().next()?;
        match first {
            '\'' => self.quoted('\'', !self.dialect.plain_backslashes).map(Token::Text),
            '"' if self.dialect.ansi_quotes => self.quoted('"', false).map(Token::Name),
            '"' => self.quoted('"', !self.dialect.plain_backslashes).map(Token::Text),
            '`' => self.quoted('`', false).map(Token::Name),
            c if is_name(c) => {
                let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
                Some(Token::Word(self.take(end)))
            }
            sign => {
                self.take(sign.len_utf8());
                Some(Token::Sign(sign))
            }
        }
    }

    /// What comes next; it stays there.
    pub(crate) fn peek(&self) -> Option<Token<'a>> {
        let mut ahead = *self;
        ahead.next()
    }

    /// Passes over this word if it is the next.
    pub(crate) fn accept(&mut self, word: &str) -> bool {
        self.passes(|token| is_word(token, word))
    }

    /// Passes over one of these words if it is the next.
    pub(crate) fn any_of(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.accept(word))
    }

    /// Passes over this sign if it is the next.
    pub(crate) fn sign(&mut self, sign: char) -> bool {
        self.passes(|token| *token == Token::Sign(sign))
    }

    fn passes(&mut self, is_it: impl Fn(&Token<'a>) -> bool) -> bool {
        let mut ahead = *self;
        let is_next = ahead.next().is_some_and(|token| is_it(&token));
        if is_next {
            *self = ahead;
        }
        is_next
    }

    /// Passes over so many bytes, which end at a letter's end.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (head, tail) = self.rest.split_at(bytes);
        self.rest = tail;
        head
    }

    /// Passes over white space and comments.
    fn space(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches(is_space);
            let r = self.rest;
            if r.starts_with('#') || r.strip_prefix("--").is_some_and(|r| r.chars().next().is_none_or(opens_comment)) {
                self.rest = r.split_once('\n').map_or("", |(_, rest)| rest);
            } else if let Some(rest) = r.strip_prefix("*/").filter(|_| self.in_comment) {
                self.in_comment = false;
                self.rest = rest;
            } else if let Some(rest) = r.strip_prefix("/*") {
                self.comment(rest);
            } else {
                return;
            }
        }
    }

    /// Passes over a comment, or steps into it.
    fn comment(&mut self, rest: &'a str) {
        let inside = match rest.strip_prefix('!') {
            Some(inside) => Some(inside),
            None => rest.strip_prefix("M!").filter(|_| self.dialect.mariadb),
        };
        let Some(inside) = inside else { return self.pass(rest, false) };
        let digits = inside.bytes().take(6).take_while(u8::is_ascii_digit).count();
        // Fewer than five are no version.
        let (version, inside) = if digits < 5 { ("", inside) } else { inside.split_at(digits) };
        match version.is_empty() || self.dialect.runs(version, rest.starts_with('M')) {
            true => {
                self.in_comment = true;
                self.rest = inside;
            }
            false => self.pass(inside, true),
        }
    }

    /// Passes over the rest of a comment. One that is hidden by its version may have others inside.
    fn pass(&mut self, mut rest: &'a str, nests: bool) {
        let mut depth = 1_u32;
        loop {
            let Some(at) = rest.find("*/") else {
                self.is_broken = true;
                self.rest = "";
                return;
            };
            let opened = rest.find("/*").filter(|&open| open < at && nests);
            let end = opened.unwrap_or(at) + 2;
            rest = rest.get(end..).unwrap_or_default();
            depth = if opened.is_some() { depth.saturating_add(1) } else { depth - 1 };
            if depth == 0 {
                self.rest = rest;
                return;
            }
        }
    }

    /// What stands in quotes; a doubled quote stands for itself, and so does what follows a backslash.
    fn quoted(&mut self, quote: char, escapes: bool) -> Option<Cow<'a, str>> {
        self.take(quote.len_utf8());
        let mut owned: Option<String> = None;
        loop {
            let Some(at) = self.rest.find(|c| c == quote || escapes && c == '\\') else {
                self.is_broken = true;
                self.rest = "";
                return None;
            };
            let part = self.take(at);
            let is_escape = self.rest.starts_with('\\');
            self.take(1);
            let next = self.rest.chars().next();
            if is_escape && next.is_none() {
                self.is_broken = true;
                return None;
            }
            let kept = if is_escape { next } else { next.filter(|&c| c == quote) };
            match kept {
                Some(letter) => {
                    self.take(letter.len_utf8());
                    let text = owned.get_or_insert_default();
                    text.push_str(part);
                    text.push(letter);
                }
                None => {
                    return Some(match owned {
                        None => Cow::Borrowed(part),
                        Some(text) => Cow::Owned(text + part),
                    });
                }
            }
        }
    }
}

impl Dialect {
    /// Whether the server runs what stands in a comment for servers from this version on.
    fn runs(self, version: &str, is_for_mariadb: bool) -> bool {
        // Six digits at most: they fit.
        let version = version.parse().unwrap_or(u32::MAX);
        // MariaDB takes nothing that was written for a MySQL newer than the one it was made from.
        let is_foreign = self.mariadb && !is_for_mariadb && (50_700..=99_999).contains(&version);
        version <= self.version && !is_foreign
    }
}

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

fn opens_comment(c: char) -> bool {
    is_space(c) || c.is_ascii_control()
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}
