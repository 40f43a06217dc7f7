//! Functions of texts: lengths of types, quoting, bytes.

use datafusion_common::{Result, exec_err};

use super::calls::Kind::{self, Bytes, Char, Int4, Int8, OneChar, Text, Texts, Varchar};
use super::calls::{Out, Overload, Row, over, with_optional};
use super::regexps::{MADE_BYTES_MAX, Options, first_match, found_by};

/// Characters that a text of a declared length, or a padded one, may have.
const LENGTH_MAX: i64 = 10_485_760;

fn length(length: i64) -> Result<usize> {
    match usize::try_from(length) {
        Ok(length) if (1..=LENGTH_MAX).contains(&i64::try_from(length).unwrap_or(0)) => Ok(length),
        _ => exec_err!("length for type must be between 1 and {LENGTH_MAX}"),
    }
}

/// The first so many characters.
fn cut(text: &str, characters: usize) -> &str {
    match text.char_indices().nth(characters) {
        Some((at, _)) => text.get(..at).unwrap_or(text),
        None => text,
    }
}

/// A text of no other type.
pub(crate) const TEXT: &[Overload] = &[over(&[Text], Text, |row, out| out.text(row.text(0)))];

pub(crate) const VARCHAR: &[Overload] = &[with_optional(&[Text, Int4], 1, Varchar, |row, out| match row.len() {
    1 => out.text(row.text(0)),
    _ => out.text(cut(row.text(0), length(row.int(1))?)),
})];

/// The first character, whose type is `"char"`.
pub(crate) const ONE_CHAR: &[Overload] = &[over(&[Text], OneChar, |row, out| {
    let text = row.text(0);
    out.text(text.get(..text.chars().next().map_or(0, char::len_utf8)).unwrap_or_default())
})];

pub(crate) const BPCHAR: &[Overload] = &[over(&[Text, Int4], Char, |row, out| {
    let length = length(row.int(1))?;
    let kept = cut(row.text(0), length);
    let missing = length - kept.chars().count();
    out.text(&format!("{kept}{}", " ".repeat(missing)))
})];

pub(crate) const SUBSTRING: &[Overload] = &[
    with_optional(&[Text, Int4, Int4], 1, Text, |row, out| {
        let from = row.int(1);
        let end = match row.len() {
            3.. if row.int(2) < 0 => return exec_err!("negative substring length not allowed"),
            3.. => from.saturating_add(row.int(2)),
            _ => i64::MAX,
        };
        let skipped = usize::try_from(from.max(1) - 1).unwrap_or(usize::MAX);
        let taken = usize::try_from(end.saturating_sub(from.max(1)).max(0)).unwrap_or(usize::MAX);
        let text = row.text(0);
        let begin = text.char_indices().nth(skipped).map_or(text.len(), |(at, _)| at);
        out.text(cut(text.get(begin..).unwrap_or_default(), taken))
    }),
    with_optional(&[Bytes, Int4, Int4], 1, Bytes, |row, out| {
        let from = row.int(1);
        let end = match row.len() {
            3.. if row.int(2) < 0 => return exec_err!("negative substring length not allowed"),
            3.. => from.saturating_add(row.int(2)),
            _ => i64::MAX,
        };
        let bytes = row.bytes(0);
        let at = |position: i64| usize::try_from(position.max(1) - 1).unwrap_or(usize::MAX).min(bytes.len());
        out.bytes(bytes.get(at(from)..at(end).max(at(from))).unwrap_or_default())
    }),
    over(&[Text, Text], Text, |row, out| first_match(&found_by(row, 1, Options::default())?, row.text(0), out)),
];

pub(crate) const QUOTE_IDENT: &[Overload] = &[over(&[Text], Text, |row, out| out.text(&quoted_name(row.text(0))))];
pub(crate) const QUOTE_LITERAL: &[Overload] = &[over(&[Text], Text, |row, out| out.text(&quoted_literal(row.text(0))))];
pub(crate) const QUOTE_NULLABLE: &[Overload] = &[Overload {
    takes: &[Text],
    optional: 0,
    repeats: false,
    strict: false,
    gives: Text,
    run: |row, out| match row.has(0) {
        true => out.text(&quoted_literal(row.text(0))),
        false => out.text("NULL"),
    },
}];

/// Words that a name must not be without quotes.
const RESERVED: [&str; 40] = [
    "all", "and", "any", "array", "as", "asc", "both", "case", "cast", "check", "column", "create", "default", "desc",
    "distinct", "do", "else", "end", "except", "false", "for", "foreign", "from", "grant", "group", "having", "in",
    "into", "limit", "not", "null", "offset", "on", "or", "order", "select", "table", "then", "user", "where",
];

/// A name as it must be written in SQL, between double quotes where it needs them.
pub fn quoted_name(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !RESERVED.contains(&name);
    if plain { name.to_owned() } else { delimited(name) }
}

/// A name between double quotes, which is right for all names.
pub fn delimited(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn quoted_literal(text: &str) -> String {
    let sign = if text.contains('\\') { "E" } else { "" };
    format!("{sign}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

const FORMAT: &[Kind] = &[Text, Text];

/// Its values come as texts: the planner casts them.
pub(crate) const FORMATTED: &[Overload] = &[Overload {
    takes: FORMAT,
    optional: 1,
    repeats: true,
    strict: false,
    gives: Text,
    run: |row, out| {
        if !row.has(0) {
            out.null();
            return Ok(());
        }
        out.text(&formatted(row)?)
    },
}];

fn formatted(row: &Row<'_>) -> Result<String> {
    let mut out = String::new();
    let mut next = 1;
    let mut rest = row.text(0);
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(behind) = behind.strip_prefix('%') {
            out.push('%');
            rest = behind;
            continue;
        }
        let end = behind.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (layout, letter) = behind.split_at_checked(end).unwrap_or((behind, ""));
        let Some(letter) = letter.chars().next() else { return exec_err!("unterminated format() type specifier") };
        rest = behind.get(end + letter.len_utf8()..).unwrap_or_default();
        let (position, layout) = layout.split_once('$').map_or((None, layout), |(at, layout)| (Some(at), layout));
        let at = match position {
            Some(at) => at.parse::<usize>().unwrap_or(usize::MAX),
            None => next,
        };
        if at == 0 || at >= row.len() {
            return exec_err!("too few arguments for format()");
        }
        next = at + 1;
        let value = row.has(at).then(|| row.text(at));
        let shown = match (letter, value) {
            ('s', value) => value.unwrap_or_default().to_owned(),
            ('I', Some(value)) => quoted_name(value),
            ('I', None) => return exec_err!("null values cannot be formatted as an SQL identifier"),
            ('L', Some(value)) => quoted_literal(value),
            ('L', None) => "NULL".to_owned(),
            (other, _) => return exec_err!("unrecognized format() type specifier \"{other}\""),
        };
        let (left, width) = layout.strip_prefix('-').map_or((false, layout), |width| (true, width));
        let width = match width {
            "" => 0,
            width => match width.parse::<usize>() {
                Ok(width) if width <= 1 << 20 => width,
                _ => return exec_err!("a width of format() is out of range"),
            },
        };
        let missing = " ".repeat(width.saturating_sub(shown.chars().count()));
        out.push_str(&if left { format!("{shown}{missing}") } else { format!("{missing}{shown}") });
        if out.len() > MADE_BYTES_MAX {
            return exec_err!("out of memory: format() makes a text that is too large");
        }
    }
    out.push_str(rest);
    Ok(out)
}

pub(crate) const UNISTR: &[Overload] = &[over(&[Text], Text, |row, out| {
    let mut made = String::new();
    let mut rest = row.text(0);
    while let Some((before, behind)) = rest.split_once('\\') {
        made.push_str(before);
        if let Some(behind) = behind.strip_prefix('\\') {
            made.push('\\');
            rest = behind;
            continue;
        }
        let (skipped, digits) = match behind.chars().next() {
            Some('+') => (1, 6),
            Some('u') => (1, 4),
            Some('U') => (1, 8),
            _ => (0, 4),
        };
        let code = behind.get(skipped..skipped + digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(c) = code.and_then(char::from_u32).filter(|c| *c != '\0') else {
            return exec_err!("invalid Unicode escape");
        };
        made.push(c);
        rest = behind.get(skipped + digits..).unwrap_or_default();
    }
    made.push_str(rest);
    out.text(&made)
})];

/// The digits of a number below zero are those of its type.
pub(crate) const TO_HEX: &[Overload] = &[
    over(&[Int4], Text, |row, out| match i32::try_from(row.int(0)) {
        Ok(number) => out.text(&format!("{number:x}")),
        Err(_) => exec_err!("integer out of range"),
    }),
    over(&[Int8], Text, |row, out| out.text(&format!("{:x}", row.int(0)))),
];

/// The parts of a text between separators; without one its letters. What a part is written as that is NULL is the third.
pub(crate) const STRING_TO_ARRAY: &[Overload] =
    &[Overload { takes: &[Text, Text, Text], optional: 1, repeats: false, strict: false, gives: Texts, run: parts }];

fn parts(row: &Row<'_>, out: &mut Out) -> Result<()> {
    if !row.has(0) {
        out.null();
        return Ok(());
    }
    let text = row.text(0);
    let letter_ends =
        || text.char_indices().map(|(at, letter)| text.get(at..at + letter.len_utf8()).unwrap_or_default());
    let parts: Vec<&str> = match row.has(1).then(|| row.text(1)) {
        _ if text.is_empty() => Vec::new(),
        None => letter_ends().collect(),
        Some("") => vec![text],
        Some(separator) => text.split(separator).collect(),
    };
    let null = row.has(2).then(|| row.text(2));
    out.texts(&parts.into_iter().map(|part| Some(part).filter(|part| Some(*part) != null)).collect::<Vec<_>>())
}

pub(crate) const GET_BYTE: &[Overload] = &[over(&[Bytes, Int4], Int4, |row, out| {
    let bytes = row.bytes(0);
    match usize::try_from(row.int(1)).ok().and_then(|at| bytes.get(at)) {
        Some(byte) => out.int(i64::from(*byte)),
        None => exec_err!("index {} out of valid range, 0..{}", row.int(1), bytes.len().saturating_sub(1)),
    }
})];

/// The byte at a place in place of another.
pub(crate) const SET_BYTE: &[Overload] = &[over(&[Bytes, Int4, Int4], Bytes, |row, out| {
    let mut bytes = row.bytes(0).to_vec();
    let at = place(row.int(1), bytes.len())?;
    // Of a larger number the lowest eight bits.
    bytes[at] = row.int(2).to_le_bytes()[0];
    out.bytes(&bytes)
})];

/// Bits are counted from the lowest of each byte.
pub(crate) const GET_BIT: &[Overload] = &[over(&[Bytes, Int8], Int4, |row, out| {
    let bytes = row.bytes(0);
    let at = place(row.int(1), bytes.len().saturating_mul(8))?;
    out.int(i64::from(bytes[at / 8] >> (at % 8) & 1))
})];

pub(crate) const SET_BIT: &[Overload] = &[over(&[Bytes, Int8, Int4], Bytes, |row, out| {
    let mut bytes = row.bytes(0).to_vec();
    let at = place(row.int(1), bytes.len().saturating_mul(8))?;
    match row.int(2) {
        0 => bytes[at / 8] &= !(1 << (at % 8)),
        1 => bytes[at / 8] |= 1 << (at % 8),
        _ => return exec_err!("new bit must be 0 or 1"),
    }
    out.bytes(&bytes)
})];

fn place(at: i64, places: usize) -> Result<usize> {
    match usize::try_from(at).ok().filter(|at| *at < places) {
        Some(at) => Ok(at),
        None => exec_err!("index {at} out of valid range, 0..{}", places.saturating_sub(1)),
    }
}

/// Letters in a line of base64.
const LINE_LETTERS: usize = 76;

/// A text of ASCII in lines, as PostgreSQL writes base64.
pub(crate) const IN_LINES: &[Overload] = &[over(&[Text], Text, |row, out| {
    let text = row.text(0);
    let lines: Vec<&str> = (0..text.len())
        .step_by(LINE_LETTERS)
        .filter_map(|from| text.get(from..text.len().min(from + LINE_LETTERS)))
        .collect();
    out.text(&lines.join("\n"))
})];

/// Bytes as the letters that they are in ASCII, else by their digits to the base of eight.
pub(crate) const ESCAPED_BYTES: &[Overload] = &[over(&[Bytes], Text, |row, out| {
    let mut made = String::new();
    for byte in row.bytes(0) {
        match byte {
            b'\\' => made.push_str("\\\\"),
            0 | 128.. => made.push_str(&format!("\\{byte:03o}")),
            plain => made.push(char::from(*plain)),
        }
    }
    out.text(&made)
})];

pub(crate) const CHR: &[Overload] = &[over(&[Int4], Text, |row, out| match row.int(0) {
    0 => exec_err!("null character not permitted"),
    below if below < 0 => exec_err!("character number must be positive"),
    number => match u32::try_from(number).ok().and_then(char::from_u32) {
        Some(letter) => out.text(letter.encode_utf8(&mut [0; 4])),
        None => exec_err!("requested character too large for encoding: {number}"),
    },
})];

/// The bits that are set.
pub(crate) const BIT_COUNT: &[Overload] =
    &[over(&[Bytes], Int8, |row, out| out.int(row.bytes(0).iter().map(|byte| i64::from(byte.count_ones())).sum()))];

/// Bytes as a text, and a text as bytes: in UTF-8, which all texts are in here.
pub(crate) const CONVERT_FROM: &[Overload] = &[over(&[Bytes, Text], Text, |row, out| {
    is_utf8(row.text(1))?;
    match std::str::from_utf8(row.bytes(0)) {
        Ok(text) if !text.contains('\0') => out.text(text),
        _ => exec_err!("invalid byte sequence for encoding \"UTF8\""),
    }
})];

pub(crate) const CONVERT_TO: &[Overload] = &[over(&[Text, Text], Bytes, |row, out| {
    is_utf8(row.text(1))?;
    out.bytes(row.text(0).as_bytes())
})];

/// Whether an encoding is the one that there is.
fn is_utf8(encoding: &str) -> Result<()> {
    match encoding.to_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" | "unicode" => Ok(()),
        _ => exec_err!("encoding \"{encoding}\" is not supported: texts are UTF8 here"),
    }
}

/// `length` of a text in characters, of bytes in bytes.
pub(crate) const LENGTH: &[Overload] = &[
    over(&[Text], Int4, |row, out| out.int(i64::try_from(row.text(0).chars().count()).unwrap_or(i64::MAX))),
    over(&[Bytes], Int4, |row, out| out.int(i64::try_from(row.bytes(0).len()).unwrap_or(i64::MAX))),
];

/// One letter for one, as PostgreSQL's locales have it: what is written large by two letters, as ß and ﬁ, stays as it is.
fn upper(letter: char) -> char {
    let mut large = letter.to_uppercase();
    match (large.next(), large.next()) {
        (Some(large), None) => large,
        // Greek letters with a iota below are one letter when they are large, too.
        _ => match letter {
            'ᾀ'..='ᾇ' | 'ᾐ'..='ᾗ' | 'ᾠ'..='ᾧ' => char::from_u32(u32::from(letter) + 8).unwrap_or(letter),
            'ᾳ' => 'ᾼ',
            'ῃ' => 'ῌ',
            'ῳ' => 'ῼ',
            _ => letter,
        },
    }
}

/// The reverse. An İ is small without its dot.
fn lower(letter: char) -> char {
    letter.to_lowercase().next().unwrap_or(letter)
}

pub(crate) const UPPER: &[Overload] =
    &[over(&[Text], Text, |row, out| out.text(&row.text(0).chars().map(upper).collect::<String>()))];

pub(crate) const LOWER: &[Overload] =
    &[over(&[Text], Text, |row, out| out.text(&row.text(0).chars().map(lower).collect::<String>()))];

pub(crate) const INITCAP: &[Overload] = &[over(&[Text], Text, |row, out| {
    let mut is_within = false;
    let cased = row.text(0).chars().map(|letter| {
        let cased = if is_within { lower(letter) } else { upper(letter) };
        is_within = letter.is_alphanumeric();
        cased
    });
    out.text(&cased.collect::<String>())
})];

#[cfg(test)]
mod tests {
    use super::{cut, lower, quoted_literal, quoted_name, upper};

    /// As PostgreSQL answers in the locale C.UTF-8.
    #[test]
    fn letters_change_one_for_one() {
        let cased = |text: &str, case: fn(char) -> char| text.chars().map(case).collect::<String>();
        assert_eq!(cased("straße ŉ ﬁ ᾳ ᾧ ÿ µ ǆ ı", upper), "STRAßE ŉ ﬁ ᾼ ᾯ Ÿ Μ Ǆ I");
        assert_eq!(cased("İSTANBUL ΑΣ ẞ Ǆ", lower), "istanbul ασ ß ǆ");
    }

    #[test]
    fn texts_are_quoted_and_cut_by_characters() {
        assert_eq!(quoted_name("a b"), "\"a b\"");
        assert_eq!(quoted_name("select"), "\"select\"");
        assert_eq!(quoted_literal("it's"), "'it''s'");
        assert_eq!(cut("äöü", 2), "äö");
    }
}
