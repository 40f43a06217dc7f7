//! Tokens of SQL, enough to tell a semicolon in a string from one between statements.

/// A piece of SQL; comments and blanks are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or a plain name.
    Word(&'a str),
    /// A quoted name, unquoted.
    Name(String),
    /// A string, unquoted.
    Text(String),
    /// A number or a parameter, as written.
    Number(&'a str),
    /// Any other character.
    Symbol(char),
}

/// A token and its bytes in the text.
#[derive(Debug, Clone)]
pub(super) struct Lexed<'a> {
    pub(super) token: Token<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Reads a text from left to right. A quote that is never closed takes the rest.
#[derive(Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (start, end) = (self.at, (self.at + bytes).min(self.text.len()));
        self.at = end;
        self.text.get(start..end).unwrap_or_default()
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            let rest = rest.trim_start();
            self.at += blank;
            if rest.starts_with("--") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.at += comment(rest);
            } else {
                return;
            }
        }
    }

    fn word(&mut self) -> Token<'a> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
        let word = self.take(end);
        let quoted = self.rest().starts_with('\'');
        match word {
            "e" | "E" if quoted => Token::Text(self.quoted('\'', Escapes::Backslash)),
            "b" | "B" | "x" | "X" | "n" | "N" if quoted => Token::Text(self.quoted('\'', Escapes::None)),
            _ => Token::Word(word),
        }
    }

    /// A quoted piece; the quote itself is written twice inside.
    fn quoted(&mut self, quote: char, escapes: Escapes) -> String {
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c == '\\' && escapes == Escapes::Backslash {
                out.extend(chars.next().map(|(_, escaped)| unescape(escaped)));
            } else if c != quote {
                out.push(c);
            } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
                out.push(quote);
            } else {
                self.at += at + quote.len_utf8();
                return out;
            }
        }
        self.at = self.text.len();
        out
    }

    /// `$$ … $$` or `$tag$ … $tag$`; a parameter `$1`; else a lone dollar.
    fn dollar(&mut self) -> Token<'a> {
        let rest = self.rest();
        let inner = rest.get(1..).unwrap_or_default();
        if inner.starts_with(|c: char| c.is_ascii_digit()) {
            let end = inner.find(|c: char| !c.is_ascii_digit()).unwrap_or(inner.len());
            return Token::Number(self.take(1 + end));
        }
        let tag = inner.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(inner.len());
        if !inner.get(tag..).is_some_and(|behind| behind.starts_with('$')) {
            self.take(1);
            return Token::Symbol('$');
        }
        let fence = rest.get(..tag + 2).unwrap_or_default();
        let body = rest.get(fence.len()..).unwrap_or_default();
        let len = body.find(fence).unwrap_or(body.len());
        self.take(len + 2 * fence.len());
        Token::Text(body.get(..len).unwrap_or_default().to_owned())
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Lexed<'a>;

    fn next(&mut self) -> Option<Lexed<'a>> {
        self.skip_blank();
        let start = self.at;
        let token = match self.rest().chars().next()? {
            '\'' => Token::Text(self.quoted('\'', Escapes::None)),
            '"' => Token::Name(self.quoted('"', Escapes::None)),
            '$' => self.dollar(),
            c if c.is_alphabetic() || c == '_' => self.word(),
            c if c.is_ascii_digit() => {
                let rest = self.rest();
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'));
                Token::Number(self.take(end.unwrap_or(rest.len())))
            }
            c => {
                self.take(c.len_utf8());
                Token::Symbol(c)
            }
        };
        Some(Lexed { token, start, end: self.at })
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Escapes {
    None,
    Backslash,
}

fn unescape(c: char) -> char {
    match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        other => other,
    }
}

/// Length of a comment, comments inside it included.
fn comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}
