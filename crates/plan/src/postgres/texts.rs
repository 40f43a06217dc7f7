//! Functions of texts: lengths of types, quoting, patterns.

use datafusion_common::{Result, exec_err};

use super::calls::Kind::{self, Bool, Bytes, Char, Int4, Int8, OneChar, Text, TextLists, Texts, Varchar};
use super::calls::{Out, Overload, Row, over, with_optional};

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
    over(&[Text, Text], Text, |row, out| {
        let pattern = row.pattern(row.text(1), false, translated)?;
        first_match(&pattern, row.text(0), out)
    }),
];

/// What a pattern finds first: its first group if it has one.
fn first_match(pattern: &regex::Regex, text: &str, out: &mut Out) -> Result<()> {
    let found = pattern.captures(text);
    let group = usize::from(pattern.captures_len() > 1);
    out.some_text(found.and_then(|found| found.get(group)).map(|found| found.as_str()))
}

/// PostgreSQL's word borders by the names of the patterns that are matched here.
pub(crate) fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('y') => out.push_str("\\b"),
            Some('Y') => out.push_str("\\B"),
            Some('m') => out.push_str("\\b{start}"),
            Some('M') => out.push_str("\\b{end}"),
            Some('Z') => out.push_str("\\z"),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// The letters of an argument of flags.
fn flags(row: &Row<'_>, at: usize) -> Result<(bool, bool)> {
    let mut both = (false, false);
    if row.has(at) {
        for flag in row.text(at).chars() {
            match flag {
                'g' => both.0 = true,
                'i' => both.1 = true,
                'c' => both.1 = false,
                's' => {}
                other => return exec_err!("invalid regular expression option: \"{other}\""),
            }
        }
    }
    Ok(both)
}

pub(crate) const REGEXP_REPLACE: &[Overload] = &[with_optional(&[Text, Text, Text, Text], 1, Text, |row, out| {
    let (global, ignore_case) = flags(row, 3)?;
    let pattern = row.pattern(row.text(1), ignore_case, translated)?;
    let (text, with) = (row.text(0), row.text(2));
    let mut made = String::with_capacity(text.len());
    let mut from = 0;
    for found in pattern.captures_iter(text).take(if global { usize::MAX } else { 1 }) {
        let Some(whole) = found.get(0) else { continue };
        made.push_str(text.get(from..whole.start()).unwrap_or_default());
        let mut chars = with.chars();
        while let Some(c) = chars.next() {
            match (c, c == '\\') {
                (_, false) => made.push(c),
                (_, true) => match chars.next() {
                    Some('&') => made.push_str(whole.as_str()),
                    Some(digit @ '0'..='9') => {
                        let group = digit.to_digit(10).and_then(|group| usize::try_from(group).ok()).unwrap_or(0);
                        made.push_str(found.get(group).map_or("", |group| group.as_str()));
                    }
                    Some(other) => made.push(other),
                    None => made.push('\\'),
                },
            }
        }
        if made.len() > MADE_BYTES_MAX {
            return exec_err!("out of memory: a replacement makes a text that is too large");
        }
        from = whole.end();
    }
    made.push_str(text.get(from..).unwrap_or_default());
    out.text(&made)
})];

/// Bytes that one replacement may make.
const MADE_BYTES_MAX: usize = 1 << 28;

pub(crate) const REGEXP_MATCH: &[Overload] = &[with_optional(&[Text, Text, Text], 1, Texts, |row, out| {
    let (_, ignore_case) = flags(row, 2)?;
    let pattern = row.pattern(row.text(1), ignore_case, translated)?;
    let Some(found) = pattern.captures(row.text(0)) else {
        out.null();
        return Ok(());
    };
    let first = usize::from(pattern.captures_len() > 1);
    let groups: Vec<Option<&str>> = found.iter().skip(first).map(|group| group.map(|group| group.as_str())).collect();
    out.texts(&groups)
})];

/// All matches with the flag `g`, the first else: an array of groups for each.
pub(crate) const REGEXP_ALL_MATCHES: &[Overload] = &[with_optional(&[Text, Text, Text], 1, TextLists, |row, out| {
    let (global, ignore_case) = flags(row, 2)?;
    let pattern = row.pattern(row.text(1), ignore_case, translated)?;
    let first = usize::from(pattern.captures_len() > 1);
    let matches = pattern.captures_iter(row.text(0)).take(if global { usize::MAX } else { 1 });
    let groups = matches.map(|found| found.iter().skip(first).map(|group| group.map(|group| group.as_str())).collect());
    out.text_lists(&groups.collect::<Vec<Vec<Option<&str>>>>())
})];

pub(crate) const REGEXP_SPLIT: &[Overload] = &[with_optional(&[Text, Text, Text], 1, Texts, |row, out| {
    let (_, ignore_case) = flags(row, 2)?;
    let pattern = row.pattern(row.text(1), ignore_case, translated)?;
    let text = row.text(0);
    // An empty match at the ends splits nothing off.
    let is_split = |found: &regex::Match<'_>| !found.is_empty() || (found.start() > 0 && found.start() < text.len());
    let (mut parts, mut begin) = (Vec::new(), 0);
    for found in pattern.find_iter(text).filter(is_split) {
        parts.push(text.get(begin..found.start()));
        begin = found.end();
    }
    parts.push(text.get(begin..));
    out.texts(&parts)
})];

pub(crate) const REGEXP_COUNT: &[Overload] = &[with_optional(&[Text, Text, Int4, Text], 2, Int4, |row, out| {
    let (_, ignore_case) = flags(row, 3)?;
    let pattern = row.pattern(row.text(1), ignore_case, translated)?;
    let text = behind(row, 2)?;
    out.int(i64::try_from(pattern.find_iter(text).count()).unwrap_or(i64::MAX))
})];

/// The text from a character on.
fn behind<'a>(row: &Row<'a>, at: usize) -> Result<&'a str> {
    let from = if row.has(at) { row.int(at) } else { 1 };
    let Some(skipped) = from.checked_sub(1).and_then(|from| usize::try_from(from).ok()) else {
        return exec_err!("invalid value for parameter \"start\": {from}");
    };
    let text = row.text(0);
    let begin = text.char_indices().nth(skipped).map_or(text.len(), |(at, _)| at);
    Ok(text.get(begin..).unwrap_or_default())
}

pub(crate) const REGEXP_SUBSTR: &[Overload] = &[with_optional(&[Text, Text, Int4, Int4, Text], 3, Text, |row, out| {
    let (_, ignore_case) = flags(row, 4)?;
    let pattern = row.pattern(row.text(1), ignore_case, translated)?;
    let nth = if row.has(3) { row.int(3) } else { 1 };
    let Some(skipped) = nth.checked_sub(1).and_then(|nth| usize::try_from(nth).ok()) else {
        return exec_err!("invalid value for parameter \"n\": {nth}");
    };
    out.some_text(pattern.find_iter(behind(row, 2)?).nth(skipped).map(|found| found.as_str()))
})];

pub(crate) const REGEXP_LIKE: &[Overload] = &[with_optional(&[Text, Text, Text], 1, Bool, |row, out| {
    let (_, ignore_case) = flags(row, 2)?;
    out.bool(row.pattern(row.text(1), ignore_case, translated)?.is_match(row.text(0)))
})];

pub(crate) const SIMILAR_TO: &[Overload] = &[with_optional(&[Text, Text, Text], 1, Bool, |row, out| {
    let escape = if row.has(2) { row.text(2).chars().next() } else { Some('\\') };
    // The escape is part of what is compiled, so of the key too.
    let keyed = format!("{}\u{0}{}", escape.map(String::from).unwrap_or_default(), row.text(1));
    let pattern = row.pattern(&keyed, false, |keyed| {
        similar(keyed.split_once('\u{0}').map_or(keyed, |(_, pattern)| pattern), escape)
    })?;
    out.bool(pattern.is_match(row.text(0)))
})];

/// The pattern of SIMILAR TO as a regular expression over the whole text.
fn similar(pattern: &str, escape: Option<char>) -> String {
    let mut out = String::from("(?s)^(?:");
    let mut in_class = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            out.push_str(&regex::escape(&chars.next().map(String::from).unwrap_or_default()));
            continue;
        }
        match c {
            '[' => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
        match c {
            c if in_class => out.push(c),
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '|' | '*' | '+' | '?' | '{' | '}' | '(' | ')' | '[' | ']' => out.push(c),
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push_str(")$");
    out
}

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
    use super::{cut, lower, quoted_literal, quoted_name, similar, translated, upper};

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

    #[test]
    fn patterns_are_those_of_the_whole_text() {
        assert!(!regex::Regex::new(&similar("abc", Some('\\'))).unwrap().is_match("xabcx"));
        assert!(regex::Regex::new(&similar("a%(b|c)_", Some('\\'))).unwrap().is_match("a.xyzbq"));
        assert_eq!(translated("\\mfoo\\M\\d"), "\\b{start}foo\\b{end}\\d");
    }
}
