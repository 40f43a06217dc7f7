//! Intervals: months, days and microseconds, each with its own sign.
//!
//! A month has as many days as the date that it is added to says, a day as many hours as its time zone says; so the
//! parts are kept apart. Compared, sorted and grouped they are by [`Interval::span`], as in PostgreSQL: `1 mon`,
//! `30 days` and `720:00:00` are equal, and are three intervals.

use std::fmt;

use arrow::datatypes::IntervalMonthDayNano;

use crate::row::array;

const DAY_US: i128 = 86_400_000_000;
const MONTH_DAYS: i64 = 30;

/// Bytes of an interval in a row.
const INTERVAL_BYTES: usize = 16;

/// One interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

impl Interval {
    /// The microseconds by which intervals are compared: a month has 30 days, a day 24 hours.
    pub fn span(self) -> i128 {
        let days = i64::from(self.months) * MONTH_DAYS + i64::from(self.days);
        i128::from(days) * DAY_US + i128::from(self.micros)
    }

    /// What Arrow has, cut to microseconds.
    pub fn from_arrow(value: IntervalMonthDayNano) -> Self {
        Self { months: value.months, days: value.days, micros: value.nanoseconds.div_euclid(1_000) }
    }

    /// As Arrow has it; time beyond its nanoseconds (292 years) ends there.
    pub fn to_arrow(self) -> IntervalMonthDayNano {
        IntervalMonthDayNano::new(self.months, self.days, self.micros.saturating_mul(1_000))
    }

    /// The bytes in a row.
    pub fn to_bytes(self) -> [u8; INTERVAL_BYTES] {
        let mut out = [0; INTERVAL_BYTES];
        out[..4].copy_from_slice(&self.months.to_le_bytes());
        out[4..8].copy_from_slice(&self.days.to_le_bytes());
        out[8..].copy_from_slice(&self.micros.to_le_bytes());
        out
    }

    /// The reverse of [`Interval::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            months: i32::from_le_bytes(array(bytes)),
            days: i32::from_le_bytes(array(&bytes[4..])),
            micros: i64::from_le_bytes(array(&bytes[8..])),
        }
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut made = Self::default();
        let mut words = text.split_whitespace().peekable();
        words.peek()?;
        while let Some(word) = words.next() {
            if word.contains(':') {
                made.micros = made.micros.checked_add(clock(word)?)?;
                continue;
            }
            let count: i32 = word.parse().ok()?;
            match words.next()?.trim_end_matches('s') {
                "year" => made.months = made.months.checked_add(count.checked_mul(12)?)?,
                "mon" | "month" => made.months = made.months.checked_add(count)?,
                "day" => made.days = made.days.checked_add(count)?,
                _ => return None,
            }
        }
        Some(made)
    }
}

/// `-04:05:06.5` in microseconds.
fn clock(text: &str) -> Option<i64> {
    let (sign, clock) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.split(':');
    let mut part = || parts.next().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse::<i64>().ok();
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    if fraction.len() > 6 || !fraction.bytes().all(|b| b.is_ascii_digit()) || parts.next().is_some() {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    let whole = hours.checked_mul(3_600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)?;
    whole.checked_mul(1_000_000)?.checked_add(micros)?.checked_mul(sign)
}

/// `1 year 2 mons -3 days +04:05:06.5`, as PostgreSQL's IntervalStyle `postgres` has it.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut is_empty, mut is_negative) = (true, false);
        for (count, unit) in [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")] {
            if count == 0 {
                continue;
            }
            let gap = if is_empty { "" } else { " " };
            let sign = if is_negative && count > 0 { "+" } else { "" };
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{gap}{sign}{count} {unit}{plural}")?;
            (is_empty, is_negative) = (false, count < 0);
        }
        if !is_empty && self.micros == 0 {
            return Ok(());
        }
        let gap = if is_empty { "" } else { " " };
        let sign = match (self.micros < 0, is_negative) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        let size = self.micros.unsigned_abs();
        let (seconds, micros) = (size / 1_000_000, size % 1_000_000);
        write!(f, "{gap}{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        if micros == 0 {
            return Ok(());
        }
        write!(f, ".{}", format!("{micros:06}").trim_end_matches('0'))
    }
}
