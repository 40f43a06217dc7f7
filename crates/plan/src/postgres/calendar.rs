//! Dates, times and intervals as PostgreSQL reads and writes them.
//!
//! Reading takes ISO 8601, `March 5, 2024`, `05-Mar-2024`, `03/05/2024` (month first), `20240305`, zones by offset and by
//! name. A day that no calendar has is an error of its own (22008), and so is what is no date at all (22007).

use std::fmt::Write as _;

use arrow::datatypes::IntervalMonthDayNano;
use chrono::{LocalResult, NaiveDateTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;
use datafusion_common::{Result, exec_err};
use relation::unreal;
use relation::value::{civil_from_days, days_from_civil};

pub(crate) const DAY: i64 = 86_400_000_000;
pub(crate) const HOUR: i64 = 3_600_000_000;
pub(crate) const MINUTE: i64 = 60_000_000;
pub(crate) const SECOND: i64 = 1_000_000;

/// The timestamp behind all others.
pub(crate) const INFINITY: i64 = i64::MAX;
/// The timestamp before all others: the first of those that no calendar has.
pub(crate) const MINUS_INFINITY: i64 = *unreal::INSTANTS.start();

/// The infinity that a timestamp stands for; none for one of a calendar.
pub(crate) fn infinite(micros: i64) -> Option<i64> {
    match micros {
        INFINITY => Some(INFINITY),
        micros if unreal::is_instant(micros) => Some(MINUS_INFINITY),
        _ => None,
    }
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What a text says of a point in time.
#[derive(Debug, Default, Clone, Copy)]
struct Said {
    date: Option<(i64, u32, u32)>,
    /// Microseconds since midnight.
    time: Option<i64>,
    zone: Option<Zone>,
    bc: bool,
    pm: Option<bool>,
}

/// A time zone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Zone {
    /// Microseconds to add to UTC.
    Fixed(i64),
    Named(Tz),
}

/// What went wrong with a text.
enum Wrong {
    Syntax,
    Range,
}

/// The number of a month by its name or the first letters of it.
pub(crate) fn month_named(word: &str) -> Option<u32> {
    let word = word.trim_end_matches('.').to_ascii_lowercase();
    let word = if word == "sept" { "sep" } else { &word };
    let at = MONTHS.iter().position(|month| *month == word || month.get(..3) == Some(word))?;
    u32::try_from(at + 1).ok()
}

/// How many days a month has.
pub(crate) fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The day of a date that there is.
pub(crate) fn day_of(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(-4713..=294_276).contains(&year) || !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    Some(days_from_civil(year, month, day))
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// `14:07`, `14:07:09.25`, `140709`.
fn clock(text: &str) -> std::result::Result<i64, Wrong> {
    let mut parts = text.split(':');
    let (hours, minutes) = (parts.next().and_then(number::<i64>), parts.next().and_then(number::<i64>));
    let (Some(hours), Some(minutes)) = (hours, minutes) else { return Err(Wrong::Syntax) };
    let seconds = match parts.next() {
        None => 0,
        Some(text) => seconds(text).ok_or(Wrong::Syntax)?,
    };
    if parts.next().is_some() {
        return Err(Wrong::Syntax);
    }
    let micros =
        hours.checked_mul(HOUR).and_then(|h| h.checked_add(minutes.checked_mul(MINUTE)?)?.checked_add(seconds));
    match micros {
        Some(micros) if minutes < 60 && seconds <= 60 * SECOND && micros <= DAY => Ok(micros),
        _ => Err(Wrong::Range),
    }
}

/// `9.25` in microseconds, rounded.
fn seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = if whole.is_empty() { 0 } else { number(whole)? };
    whole.checked_mul(SECOND)?.checked_add(fraction_of(fraction, SECOND)?)
}

/// The part of a unit that a fraction's digits stand for, rounded to the microsecond.
fn fraction_of(digits: &str, unit: i64) -> Option<i64> {
    if digits.is_empty() {
        return Some(0);
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = digits.chars().take(15).collect();
    let scale = 10_i128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let part: i128 = digits.parse().ok()?;
    i64::try_from((part * i128::from(unit) * 2 + scale) / (scale * 2)).ok()
}

/// A zone by offset (`+08`, `-05:30`, `+0800`) or by name.
pub(crate) fn zone(text: &str) -> Option<Zone> {
    let text = text.trim();
    if ["z", "utc", "gmt", "zulu"].iter().any(|known| text.eq_ignore_ascii_case(known)) {
        return Some(Zone::Fixed(0));
    }
    if let Some(rest) = text.strip_prefix(['+', '-']) {
        let negative = text.starts_with('-');
        let (hours, minutes) = match rest.split_once(':') {
            Some((hours, minutes)) => (number::<i64>(hours)?, number::<i64>(minutes.split(':').next()?)?),
            None if rest.len() > 2 => {
                let (hours, minutes) = rest.split_at_checked(rest.len() - 2)?;
                (number::<i64>(hours)?, number::<i64>(minutes)?)
            }
            None => (number::<i64>(rest)?, 0),
        };
        if hours > 15 || minutes > 59 {
            return None;
        }
        let offset = hours * HOUR + minutes * MINUTE;
        return Some(Zone::Fixed(if negative { -offset } else { offset }));
    }
    text.parse::<Tz>().ok().map(Zone::Named)
}

fn naive(micros: i64) -> Option<NaiveDateTime> {
    chrono::DateTime::from_timestamp_micros(micros).map(|at| at.naive_utc())
}

impl Zone {
    /// Microseconds that the zone is ahead of UTC at an instant.
    pub(crate) fn offset_at(self, instant: i64) -> i64 {
        match self {
            Self::Fixed(offset) => offset,
            Self::Named(tz) => naive(instant)
                .map_or(0, |at| i64::from(tz.offset_from_utc_datetime(&at).fix().local_minus_utc()) * SECOND),
        }
    }

    /// The instant at which clocks of the zone show this; of two the one of the time before the change, and within a gap
    /// what the clock before the gap says.
    pub(crate) fn instant(self, local: i64) -> Option<i64> {
        let offset = match self {
            Self::Fixed(offset) => offset,
            Self::Named(tz) => match naive(local) {
                None => 0,
                Some(at) => match tz.offset_from_local_datetime(&at) {
                    LocalResult::Single(offset) => i64::from(offset.fix().local_minus_utc()) * SECOND,
                    // Standard time is meant, as PostgreSQL takes it.
                    LocalResult::Ambiguous(a, b) => {
                        i64::from(a.fix().local_minus_utc().min(b.fix().local_minus_utc())) * SECOND
                    }
                    LocalResult::None => self.offset_at(local.checked_sub(DAY)?),
                },
            },
        };
        local.checked_sub(offset)
    }
}

impl Said {
    fn token(
        &mut self,
        token: &str,
        numbers: &mut Vec<u32>,
        month: &mut Option<u32>,
    ) -> std::result::Result<(), Wrong> {
        let lower = token.to_ascii_lowercase();
        if token.contains(':') && token.starts_with(|c: char| c.is_ascii_digit()) {
            let end = token.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(token.len());
            let (time, rest) = token.split_at_checked(end).ok_or(Wrong::Syntax)?;
            if self.time.replace(clock(time)?).is_some() {
                return Err(Wrong::Syntax);
            }
            return if rest.is_empty() { Ok(()) } else { self.token(rest, numbers, month) };
        }
        match lower.as_str() {
            "am" => self.pm = Some(false),
            "pm" => self.pm = Some(true),
            "bc" => self.bc = true,
            "ad" => {}
            _ if WEEKDAYS.iter().any(|day| lower.starts_with(day))
                && lower.bytes().all(|b| b.is_ascii_alphabetic()) => {}
            _ if self.date.is_none() && month.is_none() && month_named(&lower).is_some() => {
                *month = month_named(&lower)
            }
            _ if self.date.is_none() && token.bytes().all(|b| b.is_ascii_digit()) => self.digits(token, numbers)?,
            _ if self.date.is_none()
                && token.starts_with(|c: char| c.is_ascii_alphanumeric())
                && self.parted(token)? => {}
            _ => match zone(token) {
                Some(found) if self.zone.is_none() => self.zone = Some(found),
                _ => return Err(Wrong::Syntax),
            },
        }
        Ok(())
    }

    /// `20240305`, `2024`, `5`.
    fn digits(&mut self, token: &str, numbers: &mut Vec<u32>) -> std::result::Result<(), Wrong> {
        let value: u32 = number(token).ok_or(Wrong::Syntax)?;
        if token.len() == 8 && numbers.is_empty() {
            self.date = Some((i64::from(value / 10_000), value / 100 % 100, value % 100));
        } else if token.len() > 8 {
            return Err(Wrong::Syntax);
        } else {
            numbers.push(value);
        }
        Ok(())
    }

    /// `2024-03-05`, `03/05/2024`, `05-Mar-2024`; false if it is none of these.
    fn parted(&mut self, token: &str) -> std::result::Result<bool, Wrong> {
        let separator = if token.contains('/') { '/' } else { '-' };
        let separator = if token.contains(separator) { separator } else { '.' };
        let parts: Vec<&str> = token.split(separator).collect();
        let [a, b, c] = parts[..] else { return Ok(false) };
        let date = match (number::<u32>(a), month_named(b), number::<u32>(b), number::<u32>(c)) {
            (Some(day), Some(month), _, Some(year)) if a.len() <= 2 => (full(year, c), month, day),
            (Some(year), Some(month), _, Some(day)) => (i64::from(year), month, day),
            (Some(year), None, Some(month), Some(day)) if a.len() >= 3 => (i64::from(year), month, day),
            (Some(month), None, Some(day), Some(year)) => (full(year, c), month, day),
            _ => return Ok(false),
        };
        self.date = Some(date);
        Ok(true)
    }
}

/// A year of two digits is one of 1970 to 2069.
fn full(year: u32, written: &str) -> i64 {
    match (written.len(), year) {
        (0..=2, 70..) => i64::from(year) + 1900,
        (0..=2, _) => i64::from(year) + 2000,
        _ => i64::from(year),
    }
}

fn said(text: &str) -> std::result::Result<Said, Wrong> {
    let mut said = Said::default();
    let mut numbers = Vec::new();
    let mut month = None;
    // `T` stands between date and time only where a digit is on both sides.
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let spaced: String = text
        .char_indices()
        .map(|(at, c)| match c {
            'T' | 't' if is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)) => ' ',
            ',' => ' ',
            c => c,
        })
        .collect();
    for token in spaced.split_whitespace().take(16) {
        said.token(token, &mut numbers, &mut month)?;
    }
    if said.date.is_none() {
        said.date = match (month, &numbers[..]) {
            (Some(month), [day, year]) if *day <= 31 => Some((i64::from(*year), month, *day)),
            (Some(month), [year, day]) => Some((i64::from(*year), month, *day)),
            (None, []) => None,
            _ => return Err(Wrong::Syntax),
        };
    } else if !numbers.is_empty() || month.is_some() {
        return Err(Wrong::Syntax);
    }
    if let Some(pm) = said.pm {
        let time = said.time.ok_or(Wrong::Syntax)?;
        if !(HOUR..13 * HOUR).contains(&time) {
            return Err(Wrong::Range);
        }
        let of_half = if time >= 12 * HOUR { time - 12 * HOUR } else { time };
        said.time = Some(if pm { of_half + 12 * HOUR } else { of_half });
    }
    if let (true, Some((year, month, day))) = (said.bc, said.date) {
        said.date = Some((1 - year, month, day));
    }
    Ok(said)
}

fn refused<T>(wrong: &Wrong, data_type: &str, text: &str) -> Result<T> {
    match wrong {
        Wrong::Syntax => exec_err!("invalid input syntax for type {data_type}: \"{text}\""),
        Wrong::Range => exec_err!("date/time field value out of range: \"{text}\""),
    }
}

fn special(text: &str) -> Option<i64> {
    match text.trim().to_ascii_lowercase().as_str() {
        "infinity" | "+infinity" => Some(INFINITY),
        "-infinity" => Some(MINUS_INFINITY),
        "epoch" => Some(0),
        _ => None,
    }
}

/// Days since 1970-01-01 of a text.
pub(crate) fn parse_date(text: &str) -> Result<i32> {
    let days = match special(text) {
        Some(0) => return Ok(0),
        Some(MINUS_INFINITY) => return Ok(*unreal::DAYS.start()),
        Some(_) => return exec_err!("dates without end are not supported: \"{text}\""),
        None => said(text).and_then(|said| {
            let (year, month, day) = said.date.ok_or(Wrong::Syntax)?;
            day_of(year, month, day).ok_or(Wrong::Range)
        }),
    };
    let days = days.and_then(|days| i32::try_from(days).map_err(|_| Wrong::Range));
    days.or_else(|wrong| refused(&wrong, "date", text))
}

/// Microseconds of a text; a zone is left aside, as PostgreSQL does.
pub(crate) fn parse_timestamp(text: &str) -> Result<i64> {
    if let Some(special) = special(text) {
        return Ok(special);
    }
    said(text).and_then(|said| local(&said)).or_else(|wrong| refused(&wrong, "timestamp", text))
}

fn local(said: &Said) -> std::result::Result<i64, Wrong> {
    let (year, month, day) = said.date.ok_or(Wrong::Syntax)?;
    let days = day_of(year, month, day).ok_or(Wrong::Range)?;
    days.checked_mul(DAY).and_then(|day| day.checked_add(said.time.unwrap_or(0))).ok_or(Wrong::Range)
}

/// The instant of a text; without a zone in UTC.
pub(crate) fn parse_timestamptz(text: &str) -> Result<i64> {
    if let Some(special) = special(text) {
        return Ok(special);
    }
    let instant = said(text).and_then(|said| {
        let zone = said.zone.unwrap_or(Zone::Fixed(0));
        zone.instant(local(&said)?).ok_or(Wrong::Range)
    });
    instant.or_else(|wrong| refused(&wrong, "timestamp with time zone", text))
}

/// Microseconds of a text as a timestamp, in UTC where it is one with a zone.
pub fn timestamp_of(text: &str, with_zone: bool) -> Result<i64> {
    if with_zone { parse_timestamptz(text) } else { parse_timestamp(text) }
}

/// Microseconds since midnight of a text.
pub(crate) fn parse_time(text: &str) -> Result<i64> {
    let time = match said(text) {
        Ok(said) => said.time.ok_or(Wrong::Syntax),
        Err(wrong) => Err(wrong),
    };
    time.or_else(|wrong| refused(&wrong, "time", text))
}

/// An interval of a text: `1 day 02:30:00`, `1.5 hours`, `1 mon -1 days`, `P1DT2H`, `3 days ago`, `90` (seconds).
pub(crate) fn parse_interval(text: &str) -> Result<IntervalMonthDayNano> {
    interval_said(text).or_else(|wrong| match wrong {
        Wrong::Syntax => exec_err!("invalid input syntax for type interval: \"{text}\""),
        Wrong::Range => exec_err!("interval field value out of range: \"{text}\""),
    })
}

/// Months, days and microseconds, while an interval is read.
#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i64,
}

impl Sum {
    /// `number` of a unit, with the digits behind its point carried down as PostgreSQL does: 30 days a month.
    fn add(&mut self, negative: bool, whole: i64, fraction: &str, unit: &str) -> std::result::Result<(), Wrong> {
        let sign = if negative { -1 } else { 1 };
        let whole = whole.checked_mul(sign).ok_or(Wrong::Range)?;
        let of = |size: i64| fraction_of(fraction, size).map(|part| part * sign).ok_or(Wrong::Syntax);
        let plus = |a: i64, b: Option<i64>| b.and_then(|b| a.checked_add(b)).ok_or(Wrong::Range);
        let months = |sum: &mut Self, size: i64| -> std::result::Result<(), Wrong> {
            sum.months = plus(sum.months, whole.checked_mul(size))?;
            if size == 1 {
                let micros = of(30 * DAY)?;
                sum.days = plus(sum.days, Some(micros / DAY))?;
                sum.micros = plus(sum.micros, Some(micros % DAY))?;
            } else {
                // Of years only whole months are carried.
                sum.months = plus(sum.months, Some(of(size)?))?;
            }
            Ok(())
        };
        let days = |sum: &mut Self, size: i64| -> std::result::Result<(), Wrong> {
            sum.days = plus(sum.days, whole.checked_mul(size))?;
            let micros = of(size * DAY)?;
            sum.days = plus(sum.days, Some(micros / DAY))?;
            sum.micros = plus(sum.micros, Some(micros % DAY))?;
            Ok(())
        };
        let micros = |sum: &mut Self, size: i64| -> std::result::Result<(), Wrong> {
            sum.micros = plus(sum.micros, whole.checked_mul(size))?;
            sum.micros = plus(sum.micros, Some(of(size)?))?;
            Ok(())
        };
        match unit {
            "y" | "yr" | "yrs" | "year" | "years" => months(self, 12),
            "mon" | "mons" | "month" | "months" => months(self, 1),
            "decade" | "decades" | "dec" | "decs" => months(self, 120),
            "century" | "centuries" | "cent" | "c" => months(self, 1_200),
            "millennium" | "millennia" | "mil" | "mils" => months(self, 12_000),
            "w" | "week" | "weeks" => days(self, 7),
            "d" | "day" | "days" => days(self, 1),
            "h" | "hr" | "hrs" | "hour" | "hours" => micros(self, HOUR),
            "m" | "min" | "mins" | "minute" | "minutes" => micros(self, MINUTE),
            "" | "s" | "sec" | "secs" | "second" | "seconds" => micros(self, SECOND),
            "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => micros(self, 1_000),
            "us" | "usec" | "usecs" | "microsecond" | "microseconds" => micros(self, 1),
            _ => Err(Wrong::Syntax),
        }
    }
}

fn interval_said(text: &str) -> std::result::Result<IntervalMonthDayNano, Wrong> {
    let text = text.trim().to_ascii_lowercase();
    let mut sum = Sum::default();
    if let Some(iso) = text.strip_prefix('p') {
        iso_interval(iso, &mut sum)?;
    } else {
        let mut rest = text.trim_start_matches('@').trim_start();
        if rest.is_empty() {
            return Err(Wrong::Syntax);
        }
        while !rest.is_empty() {
            if rest == "ago" {
                (sum.months, sum.days, sum.micros) = (-sum.months, -sum.days, -sum.micros);
                break;
            }
            let negative = rest.starts_with('-');
            rest = rest.trim_start_matches(['+', '-']).trim_start();
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
            let (figure, behind) = rest.split_at_checked(end).ok_or(Wrong::Syntax)?;
            if figure.is_empty() {
                return Err(Wrong::Syntax);
            }
            if figure.contains(':') {
                sum.micros =
                    span(figure, negative).and_then(|span| sum.micros.checked_add(span)).ok_or(Wrong::Syntax)?;
                rest = behind.trim_start();
                continue;
            }
            // `1-2`: years and months.
            if let Some(months) = behind.strip_prefix('-')
                && months.starts_with(|c: char| c.is_ascii_digit())
            {
                let end = months.find(|c: char| !c.is_ascii_digit()).unwrap_or(months.len());
                let (months, behind) = months.split_at_checked(end).ok_or(Wrong::Syntax)?;
                sum.add(negative, number(figure).ok_or(Wrong::Syntax)?, "", "year")?;
                sum.add(negative, number(months).ok_or(Wrong::Syntax)?, "", "month")?;
                rest = behind.trim_start();
                continue;
            }
            let (whole, fraction) = figure.split_once('.').unwrap_or((figure, ""));
            let whole = if whole.is_empty() { 0 } else { number(whole).ok_or(Wrong::Range)? };
            let behind = behind.trim_start();
            let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
            let (unit, behind) = behind.split_at_checked(end).ok_or(Wrong::Syntax)?;
            // `3 04:05:06`: a number before a time of day is one of days.
            let unit = if unit.is_empty() && begins_with_time(behind) { "day" } else { unit };
            sum.add(negative, whole, fraction, unit)?;
            rest = behind.trim_start_matches(',').trim_start();
        }
    }
    interval(sum.months, sum.days, sum.micros).ok_or(Wrong::Range)
}

fn begins_with_time(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']);
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    digits.len() < text.len() && digits.starts_with(':')
}

/// `01:30`, `01:30:15.5`, of any number of hours.
fn span(text: &str, negative: bool) -> Option<i64> {
    let parts: Vec<&str> = text.split(':').collect();
    let (hours, minutes, rest) = match parts[..] {
        [hours, minutes] => (hours, minutes, "0"),
        [hours, minutes, rest] => (hours, minutes, rest),
        _ => return None,
    };
    let (hours, minutes) = (number::<i64>(hours)?, number::<i64>(minutes)?);
    if minutes > 59 {
        return None;
    }
    let micros = hours.checked_mul(HOUR)?.checked_add(minutes * MINUTE)?.checked_add(seconds(rest)?)?;
    Some(if negative { -micros } else { micros })
}

/// What stands behind the P: `1Y2M3DT4H5M6.7S`.
fn iso_interval(text: &str, sum: &mut Sum) -> std::result::Result<(), Wrong> {
    let mut rest = text;
    let mut of_day = false;
    if rest.is_empty() {
        return Err(Wrong::Syntax);
    }
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix('t') {
            (of_day, rest) = (true, behind);
            continue;
        }
        let negative = rest.starts_with('-');
        rest = rest.trim_start_matches(['+', '-']);
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or(Wrong::Syntax)?;
        let (figure, behind) = rest.split_at_checked(end).ok_or(Wrong::Syntax)?;
        let mut chars = behind.chars();
        let unit = match (chars.next(), of_day) {
            (Some('y'), false) => "year",
            (Some('m'), false) => "month",
            (Some('w'), false) => "week",
            (Some('d'), false) => "day",
            (Some('h'), true) => "hour",
            (Some('m'), true) => "minute",
            (Some('s'), true) => "second",
            _ => return Err(Wrong::Syntax),
        };
        let (whole, fraction) = figure.split_once('.').unwrap_or((figure, ""));
        sum.add(negative, number(whole).ok_or(Wrong::Syntax)?, fraction, unit)?;
        rest = chars.as_str();
    }
    Ok(())
}

/// An interval of these parts; none where one is out of range.
pub(crate) fn interval(months: i64, days: i64, micros: i64) -> Option<IntervalMonthDayNano> {
    let (months, days) = (i32::try_from(months).ok()?, i32::try_from(days).ok()?);
    Some(IntervalMonthDayNano::new(months, days, micros.checked_mul(1_000)?))
}

/// The microseconds of an interval's third part.
pub(crate) fn micros_of(interval: IntervalMonthDayNano) -> i64 {
    interval.nanoseconds.div_euclid(1_000)
}

/// Adds an interval to a timestamp: months first, by the calendar, then days and time.
pub(crate) fn plus(micros: i64, interval: IntervalMonthDayNano) -> Option<i64> {
    if let Some(infinite) = infinite(micros) {
        return Some(infinite);
    }
    let mut day = micros.div_euclid(DAY);
    if interval.months != 0 {
        let (year, month, of_month) = civil_from_days(day);
        let months =
            year.checked_mul(12)?.checked_add(i64::from(month) - 1)?.checked_add(i64::from(interval.months))?;
        let (year, month) = (months.div_euclid(12), u32::try_from(months.rem_euclid(12) + 1).ok()?);
        day = day_of(year, month, of_month.min(days_in_month(year, month)))?;
    }
    let day = day.checked_add(i64::from(interval.days))?;
    let made = day.checked_mul(DAY)?.checked_add(micros.rem_euclid(DAY))?.checked_add(micros_of(interval))?;
    (-210_866_803_200_000_000..INFINITY).contains(&made).then_some(made)
}

/// The interval with every part of the other sign.
pub(crate) fn negated(value: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    interval(-i64::from(value.months), -i64::from(value.days), micros_of(value).checked_neg()?)
}

/// The difference of two timestamps in whole days and a rest.
pub(crate) fn between(later: i64, earlier: i64) -> Option<IntervalMonthDayNano> {
    let micros = later.checked_sub(earlier)?;
    interval(0, micros / DAY, micros % DAY)
}

/// The difference in years, months and days by the calendar.
pub(crate) fn age(later: i64, earlier: i64) -> Option<IntervalMonthDayNano> {
    if later < earlier {
        return negated(age(earlier, later)?);
    }
    let (a, b) = (civil_from_days(later.div_euclid(DAY)), civil_from_days(earlier.div_euclid(DAY)));
    let mut months = (a.0 - b.0) * 12 + i64::from(a.1) - i64::from(b.1);
    let mut days = i64::from(a.2) - i64::from(b.2);
    let mut micros = later.rem_euclid(DAY) - earlier.rem_euclid(DAY);
    if micros < 0 {
        micros += DAY;
        days -= 1;
    }
    while days < 0 {
        // Days are borrowed of the month of the earlier date.
        days += i64::from(days_in_month(b.0, b.1));
        months -= 1;
    }
    interval(months, days, micros)
}

/// The digits of a fraction of a second, without zeros at the end.
fn write_fraction(out: &mut String, micros: i64) {
    if micros != 0 {
        let digits = format!("{micros:06}");
        write!(out, ".{}", digits.trim_end_matches('0')).ok();
    }
}

fn write_time(out: &mut String, micros: i64) {
    let seconds = micros / SECOND;
    write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60).ok();
    write_fraction(out, micros % SECOND);
}

/// `14:07:09.25`.
pub(crate) fn time_text(micros: i64) -> String {
    let mut out = String::new();
    write_time(&mut out, micros);
    out
}

/// `2024-03-05`, `0044-03-15 BC`.
pub(crate) fn date_text(days: i64) -> String {
    if unreal::is_day(days) {
        return unreal::SHOWN.to_owned();
    }
    let (year, month, day) = civil_from_days(days);
    match year {
        1.. => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{:04}-{month:02}-{day:02} BC", 1 - year),
    }
}

/// `2024-03-05 14:07:09.25`, with `+00` behind where there is a zone.
pub(crate) fn timestamp_text(micros: i64, with_zone: bool) -> String {
    match infinite(micros) {
        Some(INFINITY) => return "infinity".to_owned(),
        Some(_) => return unreal::SHOWN.to_owned(),
        None => {}
    }
    let (year, month, day) = civil_from_days(micros.div_euclid(DAY));
    let shown = if year > 0 { year } else { 1 - year };
    let mut out = format!("{shown:04}-{month:02}-{day:02} ");
    write_time(&mut out, micros.rem_euclid(DAY));
    out.push_str(if with_zone { "+00" } else { "" });
    out.push_str(if year > 0 { "" } else { " BC" });
    out
}

/// `1 year 2 mons 3 days 04:05:06.7`.
pub(crate) fn interval_text(value: IntervalMonthDayNano) -> String {
    relation::value::Interval::from_arrow(value).to_string()
}

/// The year and the number of the ISO week of a day. A week is of the year of its Thursday.
pub(crate) fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days - weekday(days) + 3;
    let (year, ..) = civil_from_days(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// Days since Monday.
pub(crate) fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7)
}
