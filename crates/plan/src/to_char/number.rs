//! Numbers by PostgreSQL's templates.

use datafusion_common::{Result, exec_err};

use super::time::ordinal_of;

/// Digits behind the point that a number has which is read by a template; none where the template cannot be read.
pub(crate) fn scale_of(template: &str) -> Option<i64> {
    i64::try_from(Template::of(template).ok()?.places()).ok()
}

/// The digits of a number that is read from a text by a template. Errors: the template cannot be read, or there are none.
pub(crate) fn digits_of(text: &str, template: &str) -> Result<String> {
    Template::of(template)?.read(text)
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `9` or `0`, or the point: what takes a place of the number.
    Place {
        is_zero: bool,
    },
    Group,
    Minus,
    Plus,
    /// Either of them.
    Sign,
    /// The sign of a currency, of which the C locale has none: a blank.
    Currency,
    /// `st`, `nd`, `rd` or `th`.
    Ordinal {
        is_upper: bool,
    },
    Text(String),
}

/// Where the sign of `S` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Before,
    Behind,
}

/// A template that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Template {
    parts: Vec<Part>,
    /// Digits before and behind the point.
    before: usize,
    behind: usize,
    has_point: bool,
    /// No blanks, and no zeros at the end.
    is_tight: bool,
    /// Digits before the first `0` that stands before the point.
    zeros_from: Option<usize>,
    /// Digits up to the last `0`.
    zeros_to: usize,
    sign: Option<Sign>,
    /// What is below zero stands in angle brackets.
    has_brackets: bool,
    /// In Roman numerals; in large letters.
    roman: Option<bool>,
}

/// Patterns that PostgreSQL has and we have not.
const NOT_SUPPORTED: [&str; 4] = ["EEEE", "V", "B", "C"];

impl Template {
    /// Reads a template.
    pub(super) fn of(template: &str) -> Result<Self> {
        let mut made = Self::default();
        let mut rest = template;
        while let Some(first) = rest.chars().next() {
            let upper: String = rest.chars().take(4).collect::<String>().to_ascii_uppercase();
            if let Some(other) = NOT_SUPPORTED.iter().find(|other| upper.starts_with(**other)) {
                return exec_err!("the pattern \"{other}\" of a number is not supported");
            }
            let width = made.take(first, &upper, &mut rest)?;
            rest = rest.get(width..).unwrap_or_default();
        }
        Ok(made)
    }

    /// Takes the pattern at the beginning of `rest`. Answers how many bytes of it are to be skipped.
    fn take(&mut self, first: char, upper: &str, rest: &mut &str) -> Result<usize> {
        if upper.starts_with("FM") {
            self.is_tight = true;
            return Ok(2);
        }
        if upper.starts_with("MI") || upper.starts_with("PL") {
            self.parts.push(if upper.starts_with("MI") { Part::Minus } else { Part::Plus });
            return Ok(2);
        }
        if upper.starts_with("SG") {
            self.parts.push(Part::Sign);
            return Ok(2);
        }
        if upper.starts_with("PR") {
            self.has_brackets = true;
            return Ok(2);
        }
        if upper.starts_with("RN") {
            self.roman = Some(first == 'R');
            return Ok(2);
        }
        if upper.starts_with("TH") {
            self.parts.push(Part::Ordinal { is_upper: first == 'T' });
            return Ok(2);
        }
        match first {
            'L' | 'l' => self.parts.push(Part::Currency),
            '0' => {
                if !self.has_point && self.zeros_from.is_none() {
                    self.zeros_from = Some(self.before);
                }
                self.place(true);
                self.zeros_to = self.before + self.behind;
            }
            '9' => self.place(false),
            '.' | 'D' | 'd' => {
                if self.has_point {
                    return exec_err!("a number has one point");
                }
                self.has_point = true;
                self.parts.push(Part::Place { is_zero: false });
            }
            ',' | 'G' | 'g' => self.parts.push(Part::Group),
            'S' | 's' => {
                if self.sign.is_some() {
                    return exec_err!("a number has one sign: \"S\" cannot be used twice");
                }
                let leads = !self.has_point && self.before == 0;
                self.sign = Some(if leads { Sign::Before } else { Sign::Behind });
            }
            '"' => {
                let text = rest.get(1..).unwrap_or_default();
                let (quoted, behind) = text.split_once('"').unwrap_or((text, ""));
                self.parts.push(Part::Text(quoted.to_owned()));
                *rest = behind;
                return Ok(0);
            }
            other => self.parts.push(Part::Text(other.to_string())),
        }
        Ok(first.len_utf8())
    }

    fn place(&mut self, is_zero: bool) {
        *(if self.has_point { &mut self.behind } else { &mut self.before }) += 1;
        self.parts.push(Part::Place { is_zero });
    }

    /// Digits behind the point.
    pub(super) fn places(&self) -> usize {
        self.behind
    }

    /// The number that a text holds by this template, in digits that a numeric is read from.
    fn read(&self, text: &str) -> Result<String> {
        let mut digits = String::new();
        let mut negative = false;
        let mut rest = text.chars().peekable();
        let is_sign = |c: &char| matches!(c, '-' | '+');
        for part in &self.parts {
            match part {
                Part::Place { .. } => {
                    while let Some(skipped) = rest.next_if(|c| c.is_whitespace() || (digits.is_empty() && is_sign(c))) {
                        negative |= skipped == '-';
                    }
                    let is_point = |c: &char| *c == '.' && self.has_point && !digits.contains('.');
                    digits.extend(rest.next_if(|c| c.is_ascii_digit() || is_point(c)));
                }
                Part::Group => drop(rest.next_if_eq(&',')),
                Part::Minus | Part::Plus | Part::Sign => {
                    while let Some(skipped) = rest.next_if(|c| c.is_whitespace() || is_sign(c)) {
                        negative |= skipped == '-';
                    }
                }
                Part::Currency => drop(rest.next_if(|c| !c.is_ascii_digit() && !matches!(c, '.' | ',') && !is_sign(c))),
                Part::Ordinal { .. } => drop(rest.by_ref().nth(1)),
                // As many characters as stand there, whichever they are.
                Part::Text(skipped) => drop(rest.by_ref().nth(skipped.chars().count().saturating_sub(1))),
            }
        }
        if self.sign == Some(Sign::Behind) {
            negative |= rest.find(|c| !c.is_whitespace()) == Some('-');
        }
        if !digits.contains(|c: char| c.is_ascii_digit()) {
            return exec_err!("invalid input syntax for type numeric: \"{text}\"");
        }
        Ok(if negative { format!("-{digits}") } else { digits })
    }

    /// Writes a number.
    pub(super) fn write(&self, number: Digits, out: &mut String) {
        if let Some(is_upper) = self.roman {
            let value = number.text.parse().ok().filter(|_| !number.is_negative);
            let text = value.and_then(roman).unwrap_or_else(|| "#".repeat(ROMAN_WIDTH));
            let text = if is_upper { text } else { text.to_lowercase() };
            let width = if self.is_tight { 0 } else { ROMAN_WIDTH };
            *out += &format!("{text:>width$}");
            return;
        }
        Writing::of(self, number).run(out);
    }
}

/// The longest number in Roman numerals, 3888.
const ROMAN_WIDTH: usize = 15;

/// A number in Roman numerals; none of what has none.
fn roman(mut value: u32) -> Option<String> {
    const LETTERS: [(u32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let mut text = String::new();
    (1..4000).contains(&value).then_some(())?;
    for (worth, letters) in LETTERS {
        while value >= worth {
            text.push_str(letters);
            value -= worth;
        }
    }
    Some(text)
}

/// A number in digits, rounded to as many places as a template has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digits {
    is_negative: bool,
    /// `12.30`.
    text: String,
}

impl Digits {
    /// A decimal; halves go away from zero.
    pub(super) fn of_decimal(value: i128, scale: i8, places: usize) -> Self {
        let scale = usize::try_from(scale).unwrap_or(0);
        let mut digits = value.unsigned_abs();
        let mut is_negative = value < 0;
        let mut kept = scale;
        if scale > places {
            let cut = u32::try_from(scale - places).ok().and_then(|n| 10_u128.checked_pow(n));
            digits = cut.map_or(0, |cut| digits / cut + u128::from(digits % cut >= cut.div_ceil(2)));
            kept = places;
            is_negative &= digits > 0;
        }
        let mut text = format!("{digits:0width$}", width = kept + 1);
        let zeros = "0".repeat(places - kept);
        if places > 0 {
            text.insert(text.len() - kept, '.');
            text.push_str(&zeros);
        }
        Self { is_negative, text }
    }

    /// A float.
    pub(super) fn of_float(value: f64, places: usize) -> Result<Self> {
        if !value.is_finite() {
            return exec_err!("to_char: {value} has no digits");
        }
        let text = format!("{value:.places$}");
        let is_negative = text.starts_with('-');
        Ok(Self { is_negative, text: text.trim_start_matches('-').to_owned() })
    }
}

/// A template at work.
struct Writing<'t> {
    template: &'t Template,
    is_negative: bool,
    number: Vec<char>,
    /// Where in the number the next digit is.
    at: usize,
    /// Places of the template so far.
    place: usize,
    /// Places before the first digit.
    blanks: usize,
    /// The last digit that a tight number shows.
    last: Option<usize>,
    sign_is_written: bool,
    has_digit: bool,
}

impl<'t> Writing<'t> {
    fn of(template: &'t Template, number: Digits) -> Self {
        let mut text = number.text.clone();
        let whole = text.find('.').unwrap_or(text.len());
        let blanks = template.before.saturating_sub(whole);
        if whole > template.before {
            text = "#".repeat(template.before);
            if template.has_point {
                text.push('.');
                text.push_str(&"#".repeat(template.behind));
            }
        }
        if template.has_point && !text.contains('.') {
            text.push('.');
        }
        let digits: Vec<char> = text.chars().collect();
        let last = (template.is_tight && template.has_point).then(|| last_shown(&digits, template, blanks)).flatten();
        // What has a place of its own is not written before the digits; a plus of its own says nothing of what is below zero.
        let has_minus = template.parts.contains(&Part::Minus) || template.parts.contains(&Part::Sign);
        let has_plus = template.parts.contains(&Part::Plus);
        let is_tight_plus = !has_plus && template.is_tight && template.sign.is_none() && !number.is_negative;
        let sign_is_written = has_minus || is_tight_plus;
        Self {
            template,
            is_negative: number.is_negative,
            number: digits,
            at: 0,
            place: 0,
            blanks,
            last,
            sign_is_written,
            has_digit: false,
        }
    }

    fn run(mut self, out: &mut String) {
        let is_tight = self.template.is_tight;
        for part in &self.template.parts {
            match part {
                Part::Place { is_zero } => self.place(*is_zero, out),
                Part::Group if self.has_digit => out.push(','),
                Part::Minus if self.is_negative => out.push('-'),
                Part::Plus if !self.is_negative => out.push('+'),
                Part::Sign => out.push(if self.is_negative { '-' } else { '+' }),
                Part::Currency => out.push(' '),
                // Neither what is below zero nor what has a fraction is counted.
                Part::Ordinal { is_upper } if !self.is_negative && !self.template.has_point => {
                    let digits: String = self.number.iter().collect();
                    out.push_str(if digits.contains('#') { "" } else { ordinal_of(&digits, *is_upper) });
                }
                Part::Ordinal { .. } => {}
                Part::Group | Part::Minus | Part::Plus if is_tight => {}
                Part::Group | Part::Minus | Part::Plus => out.push(' '),
                Part::Text(text) => out.push_str(text),
            }
        }
        if self.template.sign == Some(Sign::Behind) {
            out.push(self.sign());
        }
        match (self.template.has_brackets, self.is_negative) {
            (true, true) => out.push('>'),
            (true, false) if !is_tight => out.push(' '),
            _ => {}
        }
    }

    fn sign(&self) -> char {
        if self.is_negative { '-' } else { '+' }
    }

    /// One place of the number: a blank, a zero, the point or a digit, with the sign before the first of them.
    fn place(&mut self, is_zero: bool, out: &mut String) {
        let is_tight = self.template.is_tight;
        let has_zero = self.template.zeros_from.is_some_and(|from| from <= self.place);
        let is_inside = self.place >= self.blanks;
        let is_bare = self.last.and_then(|last| self.number.get(last)) == Some(&'.');
        if !self.sign_is_written && (is_inside || has_zero) && (!self.is_leading_zero() || is_bare) {
            self.sign_is_written = true;
            match self.template.sign {
                Some(Sign::Before) => out.push(self.sign()),
                Some(Sign::Behind) => {}
                None if self.is_negative => out.push(if self.template.has_brackets { '<' } else { '-' }),
                None if is_tight => {}
                None => out.push(' '),
            }
        }
        self.place += 1;
        if !is_inside {
            match (has_zero, is_tight) {
                (true, _) => {
                    out.push('0');
                    self.has_digit = true;
                }
                (false, true) => {}
                (false, false) => out.push(' '),
            }
            return;
        }
        let Some(&digit) = self.number.get(self.at) else { return };
        if digit == '.' {
            out.push('.');
        } else if self.last.is_some_and(|last| self.at > last) && !is_zero {
            // A zero at the end of a tight number.
        } else if self.is_leading_zero() {
            match (is_tight, is_bare) {
                (false, _) => out.push(' '),
                (true, true) => out.push('0'),
                (true, false) => {}
            }
        } else {
            out.push(digit);
            self.has_digit = true;
        }
        self.at += 1;
    }

    /// The zero before the point of `0.1`, where no `0` of the template asks for it.
    fn is_leading_zero(&self) -> bool {
        let asked = self.template.zeros_from.is_some();
        !asked && self.at == 0 && self.number.first() == Some(&'0') && self.template.behind > 0
    }
}

/// The last digit behind the point that is no zero, or that a `0` asks for; the point where there is none.
fn last_shown(number: &[char], template: &Template, blanks: usize) -> Option<usize> {
    let point = number.iter().position(|letter| *letter == '.')?;
    let last = number.iter().rposition(|letter| *letter != '0').map_or(point, |last| last.max(point));
    let asked = template.zeros_to.checked_sub(blanks).filter(|asked| *asked > 0);
    Some(asked.map_or(last, |asked| last.max(asked.min(number.len() - 1))))
}
