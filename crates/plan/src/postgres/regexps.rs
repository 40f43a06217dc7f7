//! Functions of regular expressions: PostgreSQL's flags and options, and its names for what patterns mean.

use datafusion_common::{Result, exec_err};
use regex::Regex;

use super::calls::Kind::{Bool, Int4, Text, TextLists, Texts};
use super::calls::{Out, Overload, Row, with_optional};

/// How a pattern is read: what flags say, and the options that it begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Options {
    pub(super) ignores_case: bool,
    /// A dot, and what is none of some letters, is never the end of a line.
    pub(super) keeps_to_lines: bool,
    /// `^` and `$` are the ends of every line.
    pub(super) has_line_ends: bool,
    /// Blanks and comments in the pattern mean nothing.
    pub(super) is_spaced: bool,
    /// The pattern is a text that stands for itself.
    is_literal: bool,
}

impl Options {
    /// Takes a letter along. Errors: PostgreSQL has none of this name, or we have not.
    fn take(&mut self, letter: char) -> Result<()> {
        let newlines = match letter {
            'n' | 'm' => Some((true, true)),
            'p' => Some((true, false)),
            'w' => Some((false, true)),
            's' => Some((false, false)),
            _ => None,
        };
        match letter {
            'i' => self.ignores_case = true,
            'c' => self.ignores_case = false,
            'x' => self.is_spaced = true,
            't' => self.is_spaced = false,
            'q' => self.is_literal = true,
            'e' => {}
            'b' => return exec_err!("the regular expression option \"b\" is not supported"),
            _ => match newlines {
                Some((dots, ends)) => (self.keeps_to_lines, self.has_line_ends) = (dots, ends),
                None => return exec_err!("invalid regular expression option: \"{letter}\""),
            },
        }
        Ok(())
    }

    /// The options with those that a pattern begins with, `(?in)`, and what is behind them.
    fn within(mut self, pattern: &str) -> Result<(Self, &str)> {
        let Some((letters, behind)) = pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')')) else {
            return Ok((self, pattern));
        };
        if letters.is_empty() || !letters.bytes().all(|letter| letter.is_ascii_lowercase()) {
            return Ok((self, pattern));
        }
        letters.chars().try_for_each(|letter| self.take(letter))?;
        Ok((self, behind))
    }
}

/// What an argument of flags says: whether all matches are meant, and how the pattern is read.
fn flags(row: &Row<'_>, at: usize) -> Result<(bool, Options)> {
    let (mut global, mut options) = (false, Options::default());
    if row.has(at) {
        for letter in row.text(at).chars() {
            match letter {
                'g' => global = true,
                other => options.take(other)?,
            }
        }
    }
    Ok((global, options))
}

/// The same of a function that looks for one match.
fn options(row: &Row<'_>, at: usize, function: &str) -> Result<Options> {
    match flags(row, at)? {
        (true, _) => exec_err!("{function}() does not support the \"global\" option"),
        (false, options) => Ok(options),
    }
}

/// The pattern that an argument is.
pub(super) fn found_by(row: &Row<'_>, at: usize, options: Options) -> Result<Regex> {
    let (options, pattern) = options.within(row.text(at))?;
    row.pattern(pattern, options, |pattern| match options.is_literal {
        true => regex::escape(pattern),
        false => translated(pattern, options),
    })
}

/// What a pattern finds first: its first group if it has one.
pub(super) fn first_match(pattern: &Regex, text: &str, out: &mut Out) -> Result<()> {
    let found = pattern.captures(text);
    let group = usize::from(pattern.captures_len() > 1);
    out.some_text(found.and_then(|found| found.get(group)).map(|found| found.as_str()))
}

/// PostgreSQL's word borders by the names of the patterns that are matched here; where lines are kept to, the end of one is among
/// what no class of other letters has.
fn translated(pattern: &str, options: Options) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '[' && options.keeps_to_lines && chars.next_if_eq(&'^').is_some() {
            out.push_str("[^\\n");
            if chars.next_if_eq(&']').is_some() {
                out.push_str("\\]");
            }
            continue;
        }
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

pub(crate) const REGEXP_REPLACE: &[Overload] = &[
    with_optional(&[Text, Text, Text, Text], 1, Text, |row, out| {
        let (global, options) = flags(row, 3)?;
        let which = if global { Which::All } else { Which::Nth(0) };
        replaced(row, row.text(0), &found_by(row, 1, options)?, which, out)
    }),
    // From a character on the match of a number, all where that is zero.
    with_optional(&[Text, Text, Text, Int4, Int4, Text], 2, Text, |row, out| {
        let (_, options) = flags(row, 5)?;
        let which = match row.has(4).then(|| row.int(4)) {
            Some(0) => Which::All,
            Some(_) => Which::Nth(counted(row, 4)?),
            None => Which::Nth(0),
        };
        replaced(row, behind(row, 3)?, &found_by(row, 1, options)?, which, out)
    }),
];

/// Which matches are meant.
enum Which {
    All,
    /// From 0.
    Nth(usize),
}

/// The text with matches that lie in its end, `within`, replaced by the third argument.
fn replaced(row: &Row<'_>, within: &str, pattern: &Regex, which: Which, out: &mut Out) -> Result<()> {
    let (text, with) = (row.text(0), row.text(2));
    let mut made = String::with_capacity(text.len());
    made.push_str(text.get(..text.len() - within.len()).unwrap_or_default());
    let (skipped, taken) = match which {
        Which::All => (0, usize::MAX),
        Which::Nth(at) => (at, 1),
    };
    let mut from = 0;
    for found in pattern.captures_iter(within).skip(skipped).take(taken) {
        let Some(whole) = found.get(0) else { continue };
        made.push_str(within.get(from..whole.start()).unwrap_or_default());
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
    made.push_str(within.get(from..).unwrap_or_default());
    out.text(&made)
}

/// Bytes that one replacement may make.
pub(super) const MADE_BYTES_MAX: usize = 1 << 28;

pub(crate) const REGEXP_MATCH: &[Overload] = &[with_optional(&[Text, Text, Text], 1, Texts, |row, out| {
    let pattern = found_by(row, 1, options(row, 2, "regexp_match")?)?;
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
    let (global, options) = flags(row, 2)?;
    let pattern = found_by(row, 1, options)?;
    let first = usize::from(pattern.captures_len() > 1);
    let matches = pattern.captures_iter(row.text(0)).take(if global { usize::MAX } else { 1 });
    let groups = matches.map(|found| found.iter().skip(first).map(|group| group.map(|group| group.as_str())).collect());
    out.text_lists(&groups.collect::<Vec<Vec<Option<&str>>>>())
})];

pub(crate) const REGEXP_SPLIT: &[Overload] = &[with_optional(&[Text, Text, Text], 1, Texts, |row, out| {
    let pattern = found_by(row, 1, options(row, 2, "regexp_split_to_array")?)?;
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
    let pattern = found_by(row, 1, options(row, 3, "regexp_count")?)?;
    out.int(i64::try_from(pattern.find_iter(behind(row, 2)?).count()).unwrap_or(i64::MAX))
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

/// Which match an argument asks for, from 0.
fn counted(row: &Row<'_>, at: usize) -> Result<usize> {
    let nth = if row.has(at) { row.int(at) } else { 1 };
    match nth.checked_sub(1).and_then(|nth| usize::try_from(nth).ok()) {
        Some(skipped) => Ok(skipped),
        None => exec_err!("invalid value for parameter \"n\": {nth}"),
    }
}

/// The part of a match that an argument asks for: all of it, or a group.
fn part<'t>(row: &Row<'_>, at: usize, pattern: &Regex, text: &'t str, nth: usize) -> Result<Option<regex::Match<'t>>> {
    let group = if row.has(at) { row.int(at) } else { 0 };
    let Ok(group) = usize::try_from(group) else {
        return exec_err!("invalid value for parameter \"subexpr\": {group}");
    };
    Ok(pattern.captures_iter(text).nth(nth).and_then(|found| found.get(group)))
}

pub(crate) const REGEXP_SUBSTR: &[Overload] =
    &[with_optional(&[Text, Text, Int4, Int4, Text, Int4], 4, Text, |row, out| {
        let pattern = found_by(row, 1, options(row, 4, "regexp_substr")?)?;
        let nth = counted(row, 3)?;
        let found = part(row, 5, &pattern, behind(row, 2)?, nth)?;
        out.some_text(found.map(|found| found.as_str()))
    })];

/// The character at which a match begins, or that behind it; 0 where there is none.
pub(crate) const REGEXP_INSTR: &[Overload] =
    &[with_optional(&[Text, Text, Int4, Int4, Int4, Text, Int4], 5, Int4, |row, out| {
        let pattern = found_by(row, 1, options(row, 5, "regexp_instr")?)?;
        let (text, within, nth) = (row.text(0), behind(row, 2)?, counted(row, 3)?);
        let is_behind = match row.has(4).then(|| row.int(4)) {
            None | Some(0) => false,
            Some(1) => true,
            Some(other) => return exec_err!("invalid value for parameter \"endoption\": {other}"),
        };
        let Some(found) = part(row, 6, &pattern, within, nth)? else { return out.int(0) };
        let at = text.len() - within.len() + if is_behind { found.end() } else { found.start() };
        let before = text.get(..at).unwrap_or_default().chars().count();
        out.int(i64::try_from(before).unwrap_or(i64::MAX).saturating_add(1))
    })];

pub(crate) const REGEXP_LIKE: &[Overload] = &[with_optional(&[Text, Text, Text], 1, Bool, |row, out| {
    let pattern = found_by(row, 1, options(row, 2, "regexp_like")?)?;
    out.bool(pattern.is_match(row.text(0)))
})];

pub(crate) const SIMILAR_TO: &[Overload] = &[with_optional(&[Text, Text, Text], 1, Bool, |row, out| {
    let escape = if row.has(2) { row.text(2).chars().next() } else { Some('\\') };
    // The escape is part of what is compiled, so of the key too.
    let keyed = format!("{}\u{0}{}", escape.map(String::from).unwrap_or_default(), row.text(1));
    let pattern = row.pattern(&keyed, Options::default(), |keyed| {
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

#[cfg(test)]
mod tests {
    use super::{Options, similar, translated};

    #[test]
    fn patterns_are_those_of_the_whole_text() {
        assert!(!regex::Regex::new(&similar("abc", Some('\\'))).unwrap().is_match("xabcx"));
        assert!(regex::Regex::new(&similar("a%(b|c)_", Some('\\'))).unwrap().is_match("a.xyzbq"));
        assert_eq!(translated("\\mfoo\\M\\d", Options::default()), "\\b{start}foo\\b{end}\\d");
    }

    #[test]
    fn options_that_a_pattern_begins_with_are_its_own() {
        let (options, behind) = Options::default().within("(?in)a[^b]").unwrap();
        assert!(options.ignores_case && options.has_line_ends && !options.is_spaced);
        assert_eq!(translated(behind, options), "a[^\\nb]");
        assert_eq!(Options::default().within("(?:a)").unwrap().1, "(?:a)");
    }
}
