//! JSON documents: read with a bound on their depth, looked into, and written as json or as jsonb.
//!
//! A json is the text that it was written as; a part of it is a part of that text. A jsonb is kept in one form: keys by
//! length, then by bytes, the last of equal keys, one space behind commas and colons. So two equal documents are equal
//! texts, but for numbers with zeros at their end.

use std::cmp::Ordering;

use datafusion_common::{Result, exec_err};
pub(crate) use relation::json::quoted;

/// How deep a document may nest.
const DEPTH_MAX: usize = 128;

/// A value of a document, with the text that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node<'a> {
    pub(crate) text: &'a str,
    pub(crate) value: Json<'a>,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(String),
    Array(Vec<Node<'a>>),
    Object(Vec<(String, Node<'a>)>),
}

/// Reads a document.
pub(crate) fn parse(text: &str) -> Result<Node<'_>> {
    let mut reader = Reader { text, at: 0 };
    match reader.node(0) {
        Some(node) if reader.rest().trim_start_matches([' ', '\t', '\n', '\r']).is_empty() => Ok(node),
        _ => exec_err!("invalid input syntax for type json: \"{}\"", text.chars().take(80).collect::<String>()),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn node(&mut self, depth: usize) -> Option<Node<'a>> {
        self.space();
        let from = self.at;
        let value = match self.rest().bytes().next()? {
            _ if depth > DEPTH_MAX => return None,
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => Json::Text(self.string()?),
            b't' if self.take("true") => Json::Bool(true),
            b'f' if self.take("false") => Json::Bool(false),
            b'n' if self.take("null") => Json::Null,
            b'-' | b'0'..=b'9' => Json::Number(self.number()?),
            _ => return None,
        };
        Some(Node { text: self.text.get(from..self.at)?, value })
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        let mut fields = Vec::new();
        self.at += 1;
        self.space();
        if self.take("}") {
            return Some(Json::Object(fields));
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            if !self.take(":") {
                return None;
            }
            fields.push((key, self.node(depth + 1)?));
            self.space();
            if self.take("}") {
                return Some(Json::Object(fields));
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json<'a>> {
        let mut elements = Vec::new();
        self.at += 1;
        self.space();
        if self.take("]") {
            return Some(Json::Array(elements));
        }
        loop {
            elements.push(self.node(depth + 1)?);
            self.space();
            if self.take("]") {
                return Some(Json::Array(elements));
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    fn number(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut end = usize::from(rest.starts_with('-'));
        let whole = digits(rest.get(end..)?);
        if whole == 0 || (whole > 1 && rest.get(end..)?.starts_with('0')) {
            return None;
        }
        end += whole;
        if let Some(fraction) = rest.get(end..)?.strip_prefix('.') {
            let count = digits(fraction);
            if count == 0 {
                return None;
            }
            end += 1 + count;
        }
        if rest.get(end..)?.starts_with(['e', 'E']) {
            let behind = rest.get(end + 1..)?;
            let sign = usize::from(behind.starts_with(['+', '-']));
            let count = digits(behind.get(sign..)?);
            if count == 0 {
                return None;
            }
            end += 1 + sign + count;
        }
        self.at += end;
        rest.get(..end)
    }

    fn string(&mut self) -> Option<String> {
        if !self.take("\"") {
            return None;
        }
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Some(out);
                }
                '\\' => match chars.next()?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    'b' => out.push('\u{8}'),
                    'f' => out.push('\u{c}'),
                    c @ ('"' | '\\' | '/') => out.push(c),
                    'u' => {
                        let high = hex(&mut chars)?;
                        let code = if (0xd800..0xdc00).contains(&high) {
                            if chars.next()?.1 != '\\' || chars.next()?.1 != 'u' {
                                return None;
                            }
                            let low = hex(&mut chars)?;
                            if !(0xdc00..0xe000).contains(&low) {
                                return None;
                            }
                            0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                        } else {
                            high
                        };
                        // No text of PostgreSQL holds the character 0.
                        out.push(char::from_u32(code).filter(|c| *c != '\0')?);
                    }
                    _ => return None,
                },
                c if c < ' ' => return None,
                c => out.push(c),
            }
        }
        None
    }
}

fn hex(chars: &mut std::str::CharIndices<'_>) -> Option<u32> {
    (0..4).try_fold(0, |sum, _| Some(sum * 16 + chars.next()?.1.to_digit(16)?))
}

impl<'a> Node<'a> {
    /// The value of a key; of equal keys the last.
    pub(crate) fn field(&self, key: &str) -> Option<&Node<'a>> {
        match &self.value {
            Json::Object(fields) => fields.iter().rev().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Whether it is one value, neither a list nor an object.
    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self.value, Json::Array(_) | Json::Object(_))
    }

    /// An element by its position, from the end where it is negative.
    pub(crate) fn element(&self, at: i64) -> Option<&Node<'a>> {
        match &self.value {
            Json::Array(elements) => elements.get(position(elements.len(), at)?),
            _ => None,
        }
    }

    /// What a path leads to.
    pub(crate) fn at_path<'n>(&'n self, path: impl Iterator<Item = &'n str>) -> Option<&'n Node<'a>> {
        let mut node = self;
        for step in path {
            node = match &node.value {
                Json::Object(_) => node.field(step)?,
                Json::Array(_) => node.element(step.parse().ok()?)?,
                _ => return None,
            };
        }
        Some(node)
    }

    /// The value as a text: that of a string without quotes, none of a null.
    pub(crate) fn as_text(&self, jsonb: bool) -> Option<String> {
        match &self.value {
            Json::Null => None,
            Json::Text(text) => Some(text.clone()),
            _ => Some(self.written(jsonb)),
        }
    }

    /// The value as a json, or as a jsonb.
    pub(crate) fn written(&self, jsonb: bool) -> String {
        if !jsonb {
            return self.text.to_owned();
        }
        let mut out = String::with_capacity(self.text.len());
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match &self.value {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(digits) => out.push_str(&number_text(digits)),
            Json::Text(text) => quoted(text, out),
            Json::Array(elements) => {
                out.push('[');
                for (at, element) in elements.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    element.write(out);
                }
                out.push(']');
            }
            Json::Object(fields) => {
                out.push('{');
                for (at, (key, node)) in in_order(fields).into_iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    quoted(key, out);
                    out.push_str(": ");
                    node.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Whether all of another value is found in this one, as `@>` has it. An array contains a scalar that is one of its
    /// elements; further down kinds must be the same.
    pub(crate) fn contains(&self, other: &Node<'_>) -> bool {
        match (&self.value, &other.value) {
            (Json::Array(own), Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_)) => {
                own.iter().any(|own| own.is_equal(other))
            }
            _ => self.holds(other),
        }
    }

    fn holds(&self, other: &Node<'_>) -> bool {
        match (&self.value, &other.value) {
            (Json::Object(_), Json::Object(wanted)) => {
                wanted.iter().all(|(key, node)| self.field(key).is_some_and(|own| own.holds(node)))
            }
            (Json::Array(own), Json::Array(wanted)) => {
                wanted.iter().all(|wanted| own.iter().any(|own| own.holds(wanted)))
            }
            _ => self.is_equal(other),
        }
    }

    fn is_equal(&self, other: &Node<'_>) -> bool {
        match (&self.value, &other.value) {
            (Json::Number(a), Json::Number(b)) => {
                number_text(a) == number_text(b) || significant(a).is_some_and(|a| Some(a) == significant(b))
            }
            _ => self.written(true) == other.written(true),
        }
    }

    /// `object`, `array`, `string`, `number`, `boolean` or `null`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.value {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::Text(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }
}

/// A position from the start, or from the end where it is negative.
pub(crate) fn position(len: usize, at: i64) -> Option<usize> {
    match usize::try_from(at) {
        Ok(at) => Some(at),
        Err(_) => len.checked_sub(usize::try_from(at.unsigned_abs()).ok()?),
    }
}

/// Keys as a jsonb has them: the shorter first, each once.
pub(crate) fn in_order<'n, 'a>(fields: &'n [(String, Node<'a>)]) -> Vec<(&'n str, &'n Node<'a>)> {
    let mut ordered: Vec<(&str, &Node<'a>)> = fields.iter().rev().map(|(key, node)| (key.as_str(), node)).collect();
    // The sort is stable: of equal keys the one that was written last comes first.
    ordered.sort_by(|(a, _), (b, _)| match a.len().cmp(&b.len()) {
        Ordering::Equal => a.cmp(b),
        other => other,
    });
    ordered.dedup_by(|(a, _), (b, _)| a == b);
    ordered
}

/// A number without its exponent, where that is short.
fn number_text(digits: &str) -> String {
    let Some((mantissa, exponent)) = digits.split_once(['e', 'E']) else { return digits.to_owned() };
    let Some(exponent) = exponent.parse::<i32>().ok().filter(|exponent| exponent.abs() <= 400) else {
        return digits.to_owned();
    };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let scale = i32::try_from(fraction.len()).unwrap_or(0) - exponent;
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{all}"),
        Ok(scale) => {
            let padded = format!("{all:0>width$}", width = scale + 1);
            let (whole, fraction) = padded.split_at_checked(padded.len() - scale).unwrap_or((&padded, ""));
            let whole = whole.trim_start_matches('0');
            format!("{sign}{}.{fraction}", if whole.is_empty() { "0" } else { whole })
        }
        Err(_) => {
            let zeros = "0".repeat(usize::try_from(scale.unsigned_abs()).unwrap_or(0));
            let whole = format!("{all}{zeros}");
            let whole = whole.trim_start_matches('0');
            format!("{sign}{}", if whole.is_empty() { "0" } else { whole })
        }
    }
}

/// The sign of a number, its digits without zeros at either end, and the power of ten that they stand at: equal for equal
/// numbers, of any number of digits.
fn significant(number: &str) -> Option<(bool, String, i64)> {
    let (negative, digits, scale) = super::forms::digits(number)?;
    let kept = digits.trim_end_matches('0');
    if kept.is_empty() {
        return Some((false, String::new(), 0));
    }
    let cut = i64::try_from(digits.len() - kept.len()).ok()?;
    Some((negative, kept.to_owned(), scale.checked_sub(cut)?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_document_is_kept_in_one_form() {
        let shown = |text: &str| parse(text).map(|node| node.written(true)).ok();
        assert_eq!(shown("{\"bb\":1,\"a\":[1, 2],\"a\":{}}").as_deref(), Some("{\"a\": {}, \"bb\": 1}"));
        assert_eq!(shown(" 1.50e2 ").as_deref(), Some("150"));
        assert_eq!(shown("\"\\u00e9\\n\"").as_deref(), Some("\"é\\n\""));
        assert_eq!(
            parse("{\"a\": [1 ,2]}").map(|n| n.field("a").map(|n| n.text.to_owned())).ok().flatten().as_deref(),
            Some("[1 ,2]")
        );
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{bad",
            "{\"a\":1}}",
            "01",
            "1.",
            "[1,]",
            "nul",
            "\"\\x\"",
            "\"\\ud800\"",
            "{\"a\"}",
            "'a'",
            deep.as_str(),
        ] {
            assert!(parse(text).is_err(), "{}", text.chars().take(20).collect::<String>());
        }
    }
}
