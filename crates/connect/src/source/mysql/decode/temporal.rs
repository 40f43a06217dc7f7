//! Dates and times, in the forms of the log since MySQL 5.6, in the older ones, and as a query shows them.
//!
//! Dates are days, timestamps microseconds since 1970-01-01. A date with a zero part, or one that no calendar has
//! (MySQL stores 30 February where its mode allows it), is NULL, or in a key what keeps it apart from the others:
//! [`Unreal`] decides that, for the log and for queries alike.

use relation::unreal;
use relation::value::days_from_civil;

/// Microseconds of a second.
const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// What becomes of a date that no calendar has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreal {
    Null,
    /// It is part of a key: NULL would make one row of several, so each has a value of its own ([`relation::unreal`]).
    Apart,
}

/// Why a date in a key is not read.
const NO_DATE: &str = "Its parts are no date.";

impl Unreal {
    /// Days since 1970-01-01; none is NULL.
    #[inline]
    pub(super) fn days(self, date: &Parts) -> Result<Option<i32>, &'static str> {
        match (date.days(), self) {
            (None, Self::Apart) => unreal::day(date.year, date.month, date.day).map(Some).ok_or(NO_DATE),
            (days, _) => Ok(days),
        }
    }

    /// Microseconds since 1970-01-01; none is NULL.
    #[inline]
    pub(super) fn micros(self, moment: &Parts) -> Result<Option<i64>, &'static str> {
        let days = self.days(moment)?;
        Ok(days.map(|days| i64::from(days) * DAY_US + moment.clock_us()))
    }

    /// Microseconds of a TIMESTAMP: seconds since 1970; 0 is the zero date.
    #[inline]
    pub(super) fn timestamp(self, seconds: u32, micros: u32) -> Result<Option<i64>, &'static str> {
        if seconds == 0 {
            return self.micros(&Parts::default());
        }
        Ok(Some(i64::from(seconds) * SECOND_US + i64::from(micros)))
    }
}

/// A point of the calendar and the clock, as the parts that MySQL stores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) year: u32,
    pub(crate) month: u32,
    pub(crate) day: u32,
    pub(crate) hour: u32,
    pub(crate) minute: u32,
    pub(crate) second: u32,
    pub(crate) micros: u32,
}

impl Parts {
    /// Days since 1970-01-01; none for a zero or impossible date.
    #[inline]
    fn days(&self) -> Option<i32> {
        if self.year == 0
            || self.month == 0
            || self.month > 12
            || self.day == 0
            || self.day > month_days(self.year, self.month)
        {
            return None;
        }
        i32::try_from(days_from_civil(i64::from(self.year), self.month, self.day)).ok()
    }

    /// Microseconds since midnight.
    #[inline]
    fn clock_us(&self) -> i64 {
        let seconds = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        seconds * SECOND_US + i64::from(self.micros)
    }
}

#[inline]
fn month_days(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// A DATE: 24 bits, year, month, day.
#[inline]
pub(crate) fn date(packed: u32) -> Parts {
    Parts { year: packed >> 9, month: packed >> 5 & 15, day: packed & 31, ..Parts::default() }
}

/// The 40-bit integer part of a DATETIME since 5.6, as stored (offset included).
#[inline]
pub(crate) fn datetime(stored: u64, micros: u32) -> Parts {
    let Some(packed) = stored.checked_sub(0x80_0000_0000) else {
        // Values before the offset would be negative dates, which do not exist, nor have they a place among the unreal.
        return Parts { year: u32::MAX, ..Parts::default() };
    };
    let part = |shift: u32, mask: u64| u32::try_from(packed >> shift & mask).unwrap_or(0);
    let months = part(22, 0x1_ffff);
    Parts {
        year: months / 13,
        month: months % 13,
        day: part(17, 31),
        hour: part(12, 31),
        minute: part(6, 63),
        second: part(0, 63),
        micros,
    }
}

/// A DATETIME of the old format: the decimal number YYYYMMDDhhmmss.
pub(crate) fn old_datetime(number: u64) -> Parts {
    let part = |divisor: u64, modulus: u64| u32::try_from(number / divisor % modulus).unwrap_or(0);
    Parts {
        year: part(10_000_000_000, 10_000),
        month: part(100_000_000, 100),
        day: part(1_000_000, 100),
        hour: part(10_000, 100),
        minute: part(100, 100),
        second: part(1, 100),
        micros: 0,
    }
}

/// A TIME since 5.6 as microseconds, from the big-endian number of its `3 + (digits + 1) / 2` bytes.
#[inline]
pub(crate) fn time(stored: u64, digits: u8) -> i64 {
    // Integer part and fraction are one number in excess notation: the fraction of a negative time counts downwards.
    let fraction_bits = 8 * u32::from(digits.div_ceil(2));
    let number = stored.cast_signed() - (0x80_0000 << fraction_bits);
    let magnitude = number.unsigned_abs();
    let part = |shift: u32, mask: u64| (magnitude >> (fraction_bits + shift) & mask).cast_signed();
    let fraction = fraction_micros(magnitude & ((1 << fraction_bits) - 1), digits);
    let micros = ((part(12, 0x3ff) * 60 + part(6, 63)) * 60 + part(0, 63)) * SECOND_US + i64::from(fraction);
    if number < 0 { -micros } else { micros }
}

/// A TIME of the old format: the decimal number hhmmss with its sign.
pub(crate) fn old_time(number: i32) -> i64 {
    let magnitude = i64::from(number.unsigned_abs());
    let seconds = magnitude / 10_000 * 3600 + magnitude / 100 % 100 * 60 + magnitude % 100;
    if number < 0 { -seconds * SECOND_US } else { seconds * SECOND_US }
}

/// Microseconds of a stored fraction: two digits per byte.
#[inline]
pub(crate) fn fraction_micros(stored: u64, digits: u8) -> u32 {
    let stored = u32::try_from(stored).unwrap_or(0);
    match digits {
        0 => 0,
        1 | 2 => stored * 10_000,
        3 | 4 => stored * 100,
        _ => stored,
    }
}

/// A time as MySQL spells it, with exactly `digits` digits behind the point: `838:59:59`, `-00:00:01.50`.
pub(crate) fn write_time(micros: i64, digits: u8, out: &mut Vec<u8>) {
    if micros < 0 {
        out.push(b'-');
    }
    let magnitude = micros.unsigned_abs();
    let (seconds, fraction) = (magnitude / 1_000_000, magnitude % 1_000_000);
    let hours = seconds / 3600;
    if hours > 99 {
        out.push(digit(hours / 100));
    }
    two_digits(hours % 100, out);
    out.push(b':');
    two_digits(seconds / 60 % 60, out);
    out.push(b':');
    two_digits(seconds % 60, out);
    write_fraction(fraction, digits, out);
}

/// A point and the first `digits` of six digits; nothing for none.
pub(crate) fn write_fraction(micros: u64, digits: u8, out: &mut Vec<u8>) {
    if digits == 0 {
        return;
    }
    out.push(b'.');
    let mut divisor = 100_000;
    for _ in 0..digits.min(6) {
        out.push(digit(micros / divisor));
        divisor /= 10;
    }
}

pub(crate) fn two_digits(number: u64, out: &mut Vec<u8>) {
    out.push(digit(number / 10));
    out.push(digit(number));
}

/// The last decimal digit of a number.
fn digit(number: u64) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or(0)
}

/// Reads `YYYY-MM-DD[ hh:mm:ss[.ffffff]]` as a query shows it.
pub(crate) fn parse(text: &[u8]) -> Option<Parts> {
    let date = |from: usize, to: usize| number(text.get(from..to)?);
    let mut parts = Parts { year: date(0, 4)?, month: date(5, 7)?, day: date(8, 10)?, ..Parts::default() };
    let mut is_date = text[4] == b'-' && text[7] == b'-';
    if text.len() > 10 {
        (parts.hour, parts.minute, parts.second) = (date(11, 13)?, date(14, 16)?, date(17, 19)?);
        parts.micros = fraction(text.get(19..)?)?;
        is_date &= text[10] == b' ' && text[13] == b':' && text[16] == b':';
        is_date &= parts.hour < 24 && parts.minute < 60 && parts.second < 60;
    }
    is_date.then_some(parts)
}

/// Reads `[-]hhh:mm:ss[.ffffff]` as a query shows it, as microseconds.
pub(crate) fn parse_time(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let colon = text.iter().position(|b| *b == b':')?;
    let hours = number(text.get(..colon)?)?;
    let minutes = number(text.get(colon + 1..colon + 3)?)?;
    let seconds = number(text.get(colon + 4..colon + 6)?)?;
    if text[colon + 3] != b':' || minutes > 59 || seconds > 59 {
        return None;
    }
    let whole = (i64::from(hours) * 60 + i64::from(minutes)) * 60 + i64::from(seconds);
    let micros = whole * SECOND_US + i64::from(fraction(text.get(colon + 6..)?)?);
    Some(if negative { -micros } else { micros })
}

fn fraction(text: &[u8]) -> Option<u32> {
    let Some(digits) = text.strip_prefix(b".") else { return text.is_empty().then_some(0) };
    let scale = 6_u32.checked_sub(u32::try_from(digits.len()).ok()?)?;
    Some(number(digits)? * 10_u32.pow(scale))
}

/// A number of up to nine digits.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    text.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')))
}
