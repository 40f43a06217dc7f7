//! JSON as it stands in a message: borrowed, with numbers as they are written.
//!
//! A number is kept as its text. A decimal of thirty digits, or a key beyond 2^53, is read by the type of its column and never
//! passes through a float. Objects and arrays keep their text too: a column of the type `json` is given that.

use std::borrow::Cow;
use std::fmt;

/// A value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'a str),
    /// Its characters, and its text with quotes and escapes.
    Text(Cow<'a, str>, &'a str),
    /// Its elements, and its text.
    Array(Vec<Json<'a>>, &'a str),
    /// Its members in their order, and its text.
    Object(Vec<(Cow<'a, str>, Json<'a>)>, &'a str),
}

/// Why a text is no document, and at which of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoJson {
    at: usize,
    what: &'static str,
}

impl fmt::Display for NoJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// Deeper documents are refused: none of a format that is read here is.
const DEPTH_MAX: usize = 128;

impl<'a> Json<'a> {
    /// Reads one document, and nothing behind it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, NoJson> {
        let text = std::str::from_utf8(bytes).map_err(|e| NoJson { at: e.valid_up_to(), what: "it is no UTF-8" })?;
        let mut parser = Parser { text, at: 0 };
        parser.blanks();
        let value = parser.value(0)?;
        parser.blanks();
        match parser.peek() {
            None => Ok(value),
            Some(_) => Err(parser.bad("there is more behind the document")),
        }
    }

    /// The member of a name; of several the last one, as most readers have it.
    pub(super) fn get(&self, name: &str) -> Option<&Json<'a>> {
        match self {
            Self::Object(members, _) => members.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The characters of a text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text, _) => Some(text),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> Option<&[Json<'a>]> {
        match self {
            Self::Array(items, _) => Some(items),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) fn is_object(&self) -> bool {
        matches!(self, Self::Object(..))
    }

    /// As it is written.
    pub(super) fn raw(&self) -> &'a str {
        match self {
            Self::Null => "null",
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
            Self::Number(raw) | Self::Text(_, raw) | Self::Array(_, raw) | Self::Object(_, raw) => raw,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn bad(&self, what: &'static str) -> NoJson {
        NoJson { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// What was read since a place. Places are borders of characters: each is behind an ASCII one.
    fn since(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, NoJson> {
        if depth > DEPTH_MAX {
            return Err(self.bad("it is nested too deep"));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => {
                let from = self.at;
                let text = self.string()?;
                Ok(Json::Text(text, self.since(from)))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(_) => Err(self.bad("no value of JSON begins so")),
            None => Err(self.bad("it ends too early")),
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, NoJson> {
        let is_it = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word));
        if !is_it {
            return Err(self.bad("no value of JSON begins so"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn digits(&mut self) -> Result<usize, NoJson> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from { Err(self.bad("a number lacks digits")) } else { Ok(self.at - from) }
    }

    fn number(&mut self) -> Result<Json<'a>, NoJson> {
        let from = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leads_with_zero = self.peek() == Some(b'0');
        if self.digits()? > 1 && leads_with_zero {
            return Err(self.bad("a number begins with zero"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Json::Number(self.since(from)))
    }

    /// A text, from its quote on.
    fn string(&mut self) -> Result<Cow<'a, str>, NoJson> {
        self.at += 1;
        let from = self.at;
        loop {
            match self.peek() {
                None => return Err(self.bad("it ends too early")),
                Some(b'"') => {
                    let text = self.since(from);
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => break,
                Some(0..=0x1f) => return Err(self.bad("a text has a control character")),
                Some(_) => self.at += 1,
            }
        }
        let mut text = self.since(from).to_owned();
        loop {
            let run = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            text.push_str(self.since(run));
            match self.peek() {
                None => return Err(self.bad("it ends too early")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err(self.bad("a text has a control character")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NoJson> {
        self.at += 1;
        let Some(byte) = self.peek() else { return Err(self.bad("it ends too early")) };
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unit(),
            _ => return Err(self.bad("an unknown escape")),
        })
    }

    /// The character of one or two units behind `\u`.
    fn unit(&mut self) -> Result<char, NoJson> {
        let first = self.hex()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or_else(|| self.bad("half a character"));
        }
        let follows = self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u"));
        if first >= 0xdc00 || !follows {
            return Err(self.bad("half a character"));
        }
        self.at += 2;
        let second = self.hex()?;
        let is_low = (0xdc00..0xe000).contains(&second);
        let code = 0x10000 + ((first - 0xd800) << 10) + second.wrapping_sub(0xdc00);
        char::from_u32(code).filter(|_| is_low).ok_or_else(|| self.bad("half a character"))
    }

    fn hex(&mut self) -> Result<u32, NoJson> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.bad("an escape lacks digits"))?;
        self.at += 4;
        Ok(unit)
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>, NoJson> {
        let from = self.at;
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items, self.since(from)));
        }
        loop {
            self.blanks();
            items.push(self.value(depth + 1)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Json::Array(items, self.since(from)));
                }
                Some(_) => return Err(self.bad("an array goes on with a comma")),
                None => return Err(self.bad("it ends too early")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, NoJson> {
        let from = self.at;
        self.at += 1;
        let mut members = Vec::new();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(members, self.since(from)));
        }
        loop {
            self.blanks();
            match self.peek() {
                Some(b'"') => {}
                Some(_) => return Err(self.bad("a member of an object has no name")),
                None => return Err(self.bad("it ends too early")),
            }
            let name = self.string()?;
            self.blanks();
            match self.peek() {
                Some(b':') => self.at += 1,
                Some(_) => return Err(self.bad("a member of an object has no value")),
                None => return Err(self.bad("it ends too early")),
            }
            self.blanks();
            let value = self.value(depth + 1)?;
            members.push((name, value));
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Json::Object(members, self.since(from)));
                }
                Some(_) => return Err(self.bad("an object goes on with a comma")),
                None => return Err(self.bad("it ends too early")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_documents_are_as_they_are_written() {
        let text = r#" {"n": 12345678901234567890.10 ,"d":{ "a" : [1, 2e-7] },"t":"a\u00e4\n\ud83d\ude00/","n":-0} "#;
        let read = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(read.get("n"), Some(&Json::Number("-0")), "of several the last");
        assert_eq!(read.get("d").unwrap().raw(), r#"{ "a" : [1, 2e-7] }"#);
        assert_eq!(read.get("t").unwrap().text(), Some("aä\n😀/"));
        assert_eq!(read.get("t").unwrap().raw(), r#""a\u00e4\n\ud83d\ude00/""#);
    }

    #[test]
    fn what_is_no_document_says_where() {
        for (text, wanted) in [
            ("", "it ends too early at byte 0"),
            ("{\"a\":1", "it ends too early at byte 6"),
            ("{\"a\" 1}", "a member of an object has no value at byte 5"),
            ("{a:1}", "a member of an object has no name at byte 1"),
            ("[1 2]", "an array goes on with a comma at byte 3"),
            ("01", "a number begins with zero at byte 2"),
            ("1.", "a number lacks digits at byte 2"),
            ("-", "a number lacks digits at byte 1"),
            ("nul", "no value of JSON begins so at byte 0"),
            ("1 2", "there is more behind the document at byte 2"),
            ("\"a\nb\"", "a text has a control character at byte 2"),
            ("\"\\ud800x\"", "half a character at byte 7"),
            ("\"\\ud800\\u0041\"", "half a character at byte 13"),
            ("\"\\u12g4\"", "an escape lacks digits at byte 3"),
            ("\"\\x\"", "an unknown escape at byte 3"),
        ] {
            assert_eq!(Json::parse(text.as_bytes()).unwrap_err().to_string(), wanted, "{text}");
        }
        assert_eq!(Json::parse(b"\"\xff\"").unwrap_err().to_string(), "it is no UTF-8 at byte 1");
        let deep = "[".repeat(1000);
        assert_eq!(Json::parse(deep.as_bytes()).unwrap_err().to_string(), "it is nested too deep at byte 129");
    }
}
