//! Arrays as text, as PostgreSQL writes them: `{1,NULL,"a b"}`.

use std::fmt;

use crate::schema::DataType;
use crate::value::Value;

/// Writes the elements of an array.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, values: &[Value]) -> fmt::Result {
    f.write_str("{")?;
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        match value {
            Value::Null | Value::Array(_) => write!(f, "{value}")?,
            element => write_element(f, &element.to_string())?,
        }
    }
    f.write_str("}")
}

/// An element, quoted where its text would be read as something else.
fn write_element(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let is_special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_ascii_whitespace() || c == '\x0b';
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.contains(is_special) {
        return f.write_str(text);
    }
    write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The elements of a text that [`write`] wrote; none where it is no such text.
pub(crate) fn parse(element: DataType, text: &str) -> Option<Vec<Value>> {
    let mut rest = text;
    let values = elements(element, &mut rest)?;
    rest.is_empty().then_some(values)
}

fn elements(element: DataType, rest: &mut &str) -> Option<Vec<Value>> {
    *rest = rest.strip_prefix('{')?;
    let mut values = Vec::new();
    if let Some(after) = rest.strip_prefix('}') {
        *rest = after;
        return Some(values);
    }
    loop {
        values.push(match element {
            DataType::Array(inner) if rest.starts_with('{') => Value::Array(elements(*inner, rest)?),
            scalar => match word(rest)? {
                (word, false) if word.eq_ignore_ascii_case("null") => Value::Null,
                (word, _) => value(scalar, word)?,
            },
        });
        let mut letters = rest.chars();
        let mark = letters.next()?;
        *rest = letters.as_str();
        match mark {
            ',' => {}
            '}' => return Some(values),
            _ => return None,
        }
    }
}

/// A text `NULL` between quotes is one, which [`Value::parse`] would take for none.
fn value(scalar: DataType, word: String) -> Option<Value> {
    match scalar {
        DataType::Text | DataType::Json => Some(Value::Text(word)),
        DataType::Array(_) => None,
        other => Value::parse(other, &word).ok(),
    }
}

/// The next element, and whether it stood between quotes.
fn word(rest: &mut &str) -> Option<(String, bool)> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', '}'])?;
        let (word, after) = rest.split_at(end);
        *rest = after;
        return (!word.is_empty()).then(|| (word.to_owned(), false));
    };
    let mut word = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next()? {
            '"' => break,
            '\\' => word.push(letters.next()?),
            letter => word.push(letter),
        }
    }
    *rest = letters.as_str();
    Some((word, true))
}
