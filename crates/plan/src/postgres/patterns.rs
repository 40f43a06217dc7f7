//! `to_date`, `to_timestamp` and `to_number` by PostgreSQL's templates.
//!
//! A field takes as many digits as it has letters, fewer where the text has fewer; what stands between fields is skipped
//! over by its length, letters and signs alike. A field that the text does not have is that of the first of January of
//! year one.

use datafusion_common::{Result, exec_err};

use super::calendar::{DAY, HOUR, MINUTE, SECOND, day_of, month_named};
use super::calls::Kind::{Date, Float, Text, TimestampTz};
use super::calls::{Overload, over};
use super::times::instant_of;
use crate::to_char::number::digits_of;

pub(crate) const TO_DATE: &[Overload] =
    &[over(&[Text, Text], Date, |row, out| out.int(read(row.text(0), row.text(1))?.div_euclid(DAY)))];

/// The digits of `to_number`, which are read as a numeric.
pub(crate) const DIGITS_OF: &[Overload] =
    &[over(&[Text, Text], Text, |row, out| out.text(&digits_of(row.text(0), row.text(1))?))];

pub(crate) const TO_TIMESTAMP: &[Overload] = &[
    over(&[Text, Text], TimestampTz, |row, out| out.int(read(row.text(0), row.text(1))?)),
    over(&[Float], TimestampTz, instant_of),
];

/// Patterns, those that begin alike with the longest first.
const FIELDS: [&str; 28] = [
    "Y,YYY", "YYYY", "YYY", "YY", "Y", "MONTH", "MON", "MM", "MI", "MS", "DDD", "DD", "DAY", "DY", "D", "HH24", "HH12",
    "HH", "SSSSS", "SS", "US", "AM", "PM", "A.M.", "P.M.", "TZH", "TZM", "Q",
];

#[derive(Default)]
struct Found {
    year: Option<i64>,
    month: Option<u32>,
    day: Option<u32>,
    of_year: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    of_day: Option<i64>,
    pm: Option<bool>,
    half: bool,
    zone: i64,
    west: bool,
}

/// Microseconds since 1970 of a text by a template.
fn read(text: &str, template: &str) -> Result<i64> {
    let mut found = Found::default();
    let mut rest = text.trim_start();
    let mut pattern = template;
    while let Some(first) = pattern.chars().next() {
        let upper = head(pattern);
        if upper.starts_with("FM") || upper.starts_with("FX") {
            pattern = pattern.get(2..).unwrap_or_default();
            continue;
        }
        if let Some(field) = FIELDS.iter().filter(|field| upper.starts_with(**field)).max_by_key(|field| field.len()) {
            pattern = pattern.get(field.len()..).unwrap_or_default();
            if let Some(behind) = pattern.strip_prefix("TH").or_else(|| pattern.strip_prefix("th")) {
                pattern = behind;
            }
            let next_is_digit = FIELDS.iter().any(|field| head(pattern).starts_with(field));
            rest = take(field, rest.trim_start(), next_is_digit, &mut found, text)?;
            if let Some(behind) = ["st", "nd", "rd", "th"].iter().find_map(|suffix| rest.strip_prefix(suffix)) {
                rest = behind;
            }
            continue;
        }
        let mut chars = pattern.chars();
        chars.next();
        pattern = chars.as_str();
        if first == '"' {
            let (quoted, behind) = pattern.split_once('"').unwrap_or((pattern, ""));
            pattern = behind;
            let skipped = quoted.chars().count();
            rest = rest.char_indices().nth(skipped).and_then(|(at, _)| rest.get(at..)).unwrap_or_default();
            continue;
        }
        if first.is_ascii_alphabetic() {
            return exec_err!("the pattern \"{first}\" of a template is not supported");
        }
        // A separator takes one that is no letter and no digit, if there is one.
        let mut chars = rest.chars();
        match chars.next() {
            Some(c)
                if !(c.is_alphanumeric()
                    || matches!(c, '-' | '+') && upper.get(1..).is_some_and(|u| u.starts_with("TZH"))) =>
            {
                rest = chars.as_str();
            }
            _ => {}
        }
    }
    whole(&found, text)
}

/// The beginning of a pattern in capitals, as long as a field may be with a letter before it.
fn head(pattern: &str) -> String {
    pattern.chars().take(8).collect::<String>().to_ascii_uppercase()
}

fn take<'t>(field: &str, rest: &'t str, next_is_field: bool, found: &mut Found, text: &str) -> Result<&'t str> {
    let invalid = || exec_err!("invalid value \"{text}\" for \"{field}\"");
    let digits = |most: usize| {
        let sign = usize::from(rest.starts_with(['-', '+']) && field.starts_with("TZ"));
        let count = rest.bytes().skip(sign).take(most).take_while(u8::is_ascii_digit).count();
        rest.split_at_checked(sign + count).filter(|_| count > 0)
    };
    let word = || {
        let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        rest.split_at_checked(end).unwrap_or((rest, ""))
    };
    match field {
        "MONTH" | "MON" => {
            let (word, behind) = word();
            let (name, behind) = match month_named(word) {
                Some(_) => (word, behind),
                // Letters of the text may follow a short name at once.
                None => match rest.split_at_checked(3) {
                    Some(split) => split,
                    None => return invalid(),
                },
            };
            found.month = month_named(name);
            return if found.month.is_some() { Ok(behind) } else { invalid() };
        }
        "DAY" | "DY" => return Ok(word().1),
        "AM" | "PM" | "A.M." | "P.M." => {
            let upper: String = rest.chars().take(4).collect::<String>().to_ascii_uppercase();
            let len = if upper.starts_with(['A', 'P']) && upper.get(1..2) == Some(".") { 4 } else { 2 };
            found.pm = match upper.chars().next() {
                Some('A') => Some(false),
                Some('P') => Some(true),
                _ => return invalid(),
            };
            return Ok(rest.get(len..).unwrap_or_default());
        }
        _ => {}
    }
    let most = match field {
        "YYYY" | "Y,YYY" if !next_is_field => 18,
        "YYYY" => 4,
        "YYY" | "DDD" | "MS" => 3,
        "Y" | "D" | "Q" => 1,
        "SSSSS" => 5,
        "US" => 6,
        _ => 2,
    };
    let Some((figure, behind)) = digits(most) else { return invalid() };
    let Ok(value) = figure.trim_start_matches('+').parse::<i64>() else { return invalid() };
    let small = u32::try_from(value.unsigned_abs()).ok();
    match field {
        "Y,YYY" | "YYYY" => found.year = Some(value),
        "YYY" | "YY" | "Y" => found.year = Some(if value < 70 { value + 2000 } else { value + 1900 }),
        "MM" => found.month = small,
        "DD" => found.day = small,
        "DDD" => found.of_year = Some(value),
        "HH24" => found.hour = value,
        "HH12" | "HH" => (found.hour, found.half) = (value, true),
        "MI" => found.minute = value,
        "SS" => found.second = value,
        "MS" => found.micros = fraction(figure, 3) * 1_000,
        "US" => found.micros = fraction(figure, 6),
        "SSSSS" => found.of_day = Some(value),
        "TZH" => (found.zone, found.west) = (value.abs() * 60, figure.starts_with('-')),
        "TZM" => found.zone += value,
        _ => {}
    }
    Ok(behind)
}

/// `25` of three digits is 250: digits behind a point.
fn fraction(figure: &str, places: usize) -> i64 {
    format!("{figure:0<places$}").parse().unwrap_or_default()
}

fn whole(found: &Found, text: &str) -> Result<i64> {
    let out_of_range = || exec_err!("date/time field value out of range: \"{text}\"");
    let year = found.year.unwrap_or(1);
    let day = match found.of_year {
        Some(of_year) if found.month.is_none() => match day_of(year, 1, 1) {
            Some(first) if (1..=366).contains(&of_year) => Some(first + of_year - 1),
            _ => None,
        },
        _ => day_of(year, found.month.unwrap_or(1), found.day.unwrap_or(1)),
    };
    let Some(day) = day else { return out_of_range() };
    let hour = match (found.half, found.pm) {
        (true, _) if !(1..=12).contains(&found.hour) => {
            return exec_err!("hour \"{}\" is invalid for the 12-hour clock", found.hour);
        }
        (true, Some(true)) => found.hour % 12 + 12,
        (true, _) => found.hour % 12,
        (false, _) => found.hour,
    };
    let clock = hour < 24 && found.minute < 60 && found.second < 60 && found.of_day.unwrap_or(0) < 86_400;
    if !clock {
        return out_of_range();
    }
    let time = match found.of_day {
        Some(seconds) => seconds * SECOND,
        None => hour * HOUR + found.minute * MINUTE + found.second * SECOND,
    };
    let zone = if found.west { -found.zone } else { found.zone };
    let made = day.checked_mul(DAY).and_then(|day| day.checked_add(time + found.micros - zone * MINUTE));
    made.map_or_else(out_of_range, Ok)
}

#[cfg(test)]
mod tests {
    use super::super::calendar::timestamp_text;
    use super::read;

    #[test]
    fn texts_are_read_by_templates() {
        for (text, template, shown) in [
            ("2024-03-05", "YYYY-MM-DD", "2024-03-05 00:00:00"),
            ("20240305", "YYYYMMDD", "2024-03-05 00:00:00"),
            ("05 Mar 2024", "DD Mon YYYY", "2024-03-05 00:00:00"),
            ("March 5, 2024", "FMMonth DD, YYYY", "2024-03-05 00:00:00"),
            ("2024-03-05 02:07 PM", "YYYY-MM-DD HH12:MI AM", "2024-03-05 14:07:00"),
            ("2024-03-05 14:07:09.25", "YYYY-MM-DD HH24:MI:SS.MS", "2024-03-05 14:07:09.25"),
            ("5/3/24", "DD/MM/YY", "2024-03-05 00:00:00"),
            ("2024-065", "YYYY-DDD", "2024-03-05 00:00:00"),
        ] {
            assert_eq!(read(text, template).map(|at| timestamp_text(at, false)).ok().as_deref(), Some(shown), "{text}");
        }
        for (text, template) in
            [("2024-13-01", "YYYY-MM-DD"), ("2024-02-30", "YYYY-MM-DD"), ("x", "YYYY"), ("é", "MON"), ("1", "b")]
        {
            assert!(read(text, template).is_err(), "{text}");
        }
    }
}
