//! Times by PostgreSQL's templates.

use std::fmt::Write as _;

use arrow::datatypes::IntervalMonthDayNano;
use datafusion_common::{Result, exec_err};
use relation::value::{civil_from_days, days_from_civil};

use crate::postgres::calendar::{iso_week, weekday};

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Field { field: &'static str, fill: bool, ordinal: Option<&'static str> },
}

/// Patterns that are written, those that begin alike with the longest first.
const FIELDS: [&str; 75] = [
    "Y,YYY", "y,yyy", "IYYY", "iyyy", "YYYY", "yyyy", "IYY", "iyy", "YYY", "yyy", "IY", "iy", "YY", "yy", "IDDD",
    "iddd", "ID", "id", "IW", "iw", "I", "i", "Y", "y", "MONTH", "Month", "month", "MON", "Mon", "mon", "MM", "mm",
    "MI", "mi", "MS", "ms", "DAY", "Day", "day", "DDD", "ddd", "DD", "dd", "DY", "Dy", "dy", "D", "d", "HH24", "hh24",
    "HH12", "hh12", "HH", "hh", "SSSSS", "sssss", "SSSS", "ssss", "SS", "ss", "US", "us", "A.M.", "a.m.", "P.M.",
    "p.m.", "AM", "am", "PM", "pm", "Q", "q", "CC", "cc", "W",
];
const MORE: [&str; 36] = [
    "WW", "ww", "w", "TZH", "tzh", "TZM", "tzm", "TZ", "tz", "Tz", "OF", "of", "B.C.", "b.c.", "A.D.", "a.d.", "BC",
    "bc", "AD", "ad", "RM", "rm", "FF1", "ff1", "FF2", "ff2", "FF3", "ff3", "FF4", "ff4", "FF5", "ff5", "FF6", "ff6",
    "J", "j",
];

/// Patterns that PostgreSQL has and we have not.
const NOT_SUPPORTED: [&str; 2] = ["SP", "FX"];

/// Patterns of what an interval has: the others are of a day in a calendar.
const OF_INTERVALS: [&str; 27] = [
    "YYYY", "YYY", "YY", "Y", "Y,YYY", "MM", "DDD", "DD", "HH24", "HH12", "HH", "MI", "SS", "SSSS", "SSSSS", "MS",
    "US", "AM", "PM", "A.M.", "P.M.", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6",
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const ROMAN_MONTHS: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Reads a template.
pub(super) fn parts(template: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(first) = rest.chars().next() {
        let mut fill = true;
        let mut at = rest;
        // The names of the locale are English ones, and are not filled up either.
        while let Some(behind) = ["FM", "fm", "TM", "tm"].iter().find_map(|prefix| at.strip_prefix(prefix)) {
            (fill, at) = (false, behind);
        }
        let known = MORE.iter().chain(&FIELDS).filter(|field| at.starts_with(**field)).max_by_key(|field| field.len());
        if let Some(other) = NOT_SUPPORTED.iter().find(|other| at.starts_with(**other))
            && known.is_none_or(|field| field.len() < other.len())
        {
            return exec_err!("to_char: the pattern \"{other}\" is not supported");
        }
        if let Some(field) = known {
            at = at.strip_prefix(field).unwrap_or_default();
            let ordinal = ["TH", "th"].into_iter().find(|suffix| at.starts_with(suffix));
            at = ordinal.and_then(|suffix| at.strip_prefix(suffix)).unwrap_or(at);
            parts.push(Part::Field { field, fill, ordinal });
            rest = at;
            continue;
        }
        if !fill {
            rest = at;
            continue;
        }
        rest = rest.strip_prefix(first).unwrap_or_default();
        let text = match first {
            '"' => quoted(&mut rest),
            '\\' => match rest.chars().next() {
                Some(next) if next == '"' => {
                    rest = rest.strip_prefix(next).unwrap_or_default();
                    next.to_string()
                }
                _ => first.to_string(),
            },
            _ => first.to_string(),
        };
        match parts.last_mut() {
            Some(Part::Text(before)) => before.push_str(&text),
            _ => parts.push(Part::Text(text)),
        }
    }
    Ok(parts)
}

/// Reads a template of an interval.
pub(super) fn parts_of_interval(template: &str) -> Result<Vec<Part>> {
    let parts = parts(template)?;
    let is_of_day = |part: &Part| match part {
        Part::Text(_) => false,
        Part::Field { field, .. } => !OF_INTERVALS.contains(&field.to_ascii_uppercase().as_str()),
    };
    if parts.iter().any(is_of_day) {
        return exec_err!("invalid format specification for an interval value");
    }
    Ok(parts)
}

/// What stands between double quotes; a backslash takes the next letter as it is.
fn quoted(rest: &mut &str) -> String {
    let mut text = String::new();
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => text.extend(letters.next()),
            other => text.push(other),
        }
    }
    *rest = letters.as_str();
    text
}

/// A moment, taken apart.
struct Moment {
    year: i64,
    month: i64,
    day: i64,
    /// From 1.
    day_of_year: i64,
    /// From Sunday, which is 0.
    weekday: i64,
    iso_year: i64,
    iso_week: i64,
    /// Days since 1 January 4713 BC.
    julian_day: i64,
    /// Of an interval all its seconds.
    second_of_day: i64,
    micros: i64,
    /// Its zone's name; nothing where it has none.
    zone: &'static str,
}

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

impl Moment {
    fn of(us: i64, has_zone: bool) -> Self {
        let days = us.div_euclid(DAY_US);
        let in_day = us.rem_euclid(DAY_US);
        let (year, month, day) = civil_from_days(days);
        let (iso_year, iso_week) = iso_week(days);
        Self {
            year,
            month: i64::from(month),
            day: i64::from(day),
            day_of_year: days - days_from_civil(year, 1, 1) + 1,
            weekday: (weekday(days) + 1) % 7,
            iso_year,
            iso_week,
            julian_day: days + 2_440_588,
            second_of_day: in_day / SECOND_US,
            micros: in_day % SECOND_US,
            // Instants are told in UTC.
            zone: if has_zone { "UTC" } else { "" },
        }
    }

    fn of_interval(value: IntervalMonthDayNano) -> Self {
        let (months, days, micros) = (i64::from(value.months), i64::from(value.days), value.nanoseconds / 1_000);
        Self {
            year: months / 12,
            month: months % 12,
            day: days,
            day_of_year: months * 30 + days,
            weekday: 0,
            iso_year: 0,
            iso_week: 0,
            julian_day: 0,
            second_of_day: micros / SECOND_US,
            micros: micros % SECOND_US,
            zone: "",
        }
    }

    fn iso_weekday(&self) -> i64 {
        (self.weekday + 6) % 7 + 1
    }
}

/// Writes a time, in microseconds since 1970, which is an instant where it has a zone.
pub(super) fn write(parts: &[Part], us: i64, has_zone: bool, out: &mut String) {
    write_moment(parts, &Moment::of(us, has_zone), out);
}

/// Writes an interval.
pub(super) fn write_interval(parts: &[Part], value: IntervalMonthDayNano, out: &mut String) {
    write_moment(parts, &Moment::of_interval(value), out);
}

fn write_moment(parts: &[Part], time: &Moment, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Field { field, fill, ordinal } => {
                let begun = out.len();
                one(field, *fill, time, out);
                if let Some(suffix) = ordinal {
                    let number = out.get(begun..).unwrap_or_default().to_owned();
                    out.push_str(ordinal_of(&number, *suffix == "TH"));
                }
            }
        }
    }
}

fn one(field: &str, fill: bool, time: &Moment, out: &mut String) {
    let mut number = |value: i64, width: usize| {
        let width = if fill { width + usize::from(value < 0) } else { 0 };
        // A text takes all that is written.
        write!(out, "{value:0width$}").ok();
    };
    let hour = time.second_of_day / 3_600;
    match field.to_ascii_uppercase().as_str() {
        "YYYY" => number(time.year, 4),
        "YYY" => number(time.year % 1_000, 3),
        "YY" => number(time.year % 100, 2),
        "Y" => number(time.year % 10, 1),
        "Y,YYY" => {
            write!(out, "{},{:03}", time.year / 1_000, time.year % 1_000).ok();
        }
        "IYYY" => number(time.iso_year, 4),
        "IYY" => number(time.iso_year % 1_000, 3),
        "IY" => number(time.iso_year % 100, 2),
        "I" => number(time.iso_year % 10, 1),
        "Q" => number((time.month - 1) / 3 + 1, 1),
        "MM" => number(time.month, 2),
        "WW" => number((time.day_of_year - 1) / 7 + 1, 2),
        "W" => number((time.day - 1) / 7 + 1, 1),
        "IW" => number(time.iso_week, 2),
        "DDD" => number(time.day_of_year, 3),
        "IDDD" => number((time.iso_week - 1) * 7 + time.iso_weekday(), 3),
        "DD" => number(time.day, 2),
        "D" => number(time.weekday + 1, 1),
        "ID" => number(time.iso_weekday(), 1),
        "HH24" => number(hour, 2),
        "HH12" | "HH" => number(if hour % 12 == 0 { 12 } else { hour % 12 }, 2),
        "J" => number(time.julian_day, 0),
        fraction if fraction.starts_with("FF") => {
            let digits = fraction.get(2..).and_then(|digits| digits.parse().ok()).unwrap_or(6_usize);
            let text = format!("{:06}", time.micros.abs());
            out.push_str(text.get(..digits).unwrap_or(&text));
        }
        "RM" => {
            let month = usize::try_from(time.month - 1).ok().and_then(|at| ROMAN_MONTHS.get(at)).copied().unwrap_or("");
            let width = if fill { 4 } else { 0 };
            write!(out, "{:<width$}", cased(field, month)).ok();
        }
        "BC" | "AD" => out.push_str(&cased(field, if time.year <= 0 { "BC" } else { "AD" })),
        "B.C." | "A.D." => out.push_str(&cased(field, if time.year <= 0 { "B.C." } else { "A.D." })),
        "MI" => number(time.second_of_day / 60 % 60, 2),
        "SS" => number(time.second_of_day % 60, 2),
        "SSSS" | "SSSSS" => number(time.second_of_day, 1),
        "MS" => number(time.micros / 1_000, 3),
        "US" => number(time.micros, 6),
        "CC" => number((time.year - 1).div_euclid(100) + 1, 2),
        "TZ" => out.push_str(&cased(field, time.zone)),
        "TZH" | "OF" => out.push_str("+00"),
        "TZM" => out.push_str("00"),
        "AM" | "PM" => out.push_str(&cased(field, if hour % 24 < 12 { "AM" } else { "PM" })),
        "A.M." | "P.M." => out.push_str(&cased(field, if hour % 24 < 12 { "A.M." } else { "P.M." })),
        _ => named(field, fill, time, out),
    }
}

/// Names of months and days, padded to the longest where they are written in full.
fn named(field: &str, fill: bool, time: &Moment, out: &mut String) {
    let upper = field.to_ascii_uppercase();
    let of_month = upper.starts_with('M');
    let at = usize::try_from(if of_month { time.month - 1 } else { time.weekday }).unwrap_or_default();
    let name = if of_month { MONTHS.get(at) } else { DAYS.get(at) }.copied().unwrap_or_default();
    let is_short = matches!(upper.as_str(), "MON" | "DY");
    let name: String = if is_short { name.chars().take(3).collect() } else { name.to_owned() };
    let width = if fill && !is_short { 9 } else { 0 };
    write!(out, "{:<width$}", cased(field, &name)).ok();
}

/// A word in the case of its pattern.
fn cased(field: &str, word: &str) -> String {
    let mut letters = field.chars();
    match (letters.next().is_some_and(char::is_uppercase), letters.any(char::is_lowercase)) {
        (true, true) => word.to_owned(),
        (true, false) => word.to_uppercase(),
        (false, _) => word.to_lowercase(),
    }
}

pub(super) fn ordinal_of(number: &str, is_upper: bool) -> &'static str {
    let mut last = number.chars().rev();
    let (unit, ten) = (last.next(), last.next());
    let at = match (ten, unit) {
        (Some('1'), _) => 3,
        (_, Some('1')) => 0,
        (_, Some('2')) => 1,
        (_, Some('3')) => 2,
        _ => 3,
    };
    if is_upper { ["ST", "ND", "RD", "TH"][at] } else { ["st", "nd", "rd", "th"][at] }
}
