//! Dates and times as PostgreSQL writes them in its ISO style, for every day that 32 bits can count. Those that stand for
//! dates that no calendar has ([`relation::unreal`]) are `-infinity`.

use bytes::BytesMut;
use std::fmt::Write as _;

use relation::unreal;

const DAY_US: i64 = 86_400_000_000;

/// Days from 1970-01-01 to 2000-01-01, where the binary formats of dates start.
const EPOCH_DAYS: i32 = 10_957;

/// The same in microseconds, for timestamps.
const EPOCH_US: i64 = EPOCH_DAYS as i64 * DAY_US;

/// A date's binary form: days from 2000-01-01, or its `-infinity`.
pub(crate) fn binary_date(days: i32) -> i32 {
    // Days and instants at the very edge of the range stay at the edge.
    if unreal::is_day(i64::from(days)) { i32::MIN } else { days.saturating_sub(EPOCH_DAYS) }
}

/// Days from 1970-01-01 of a date in binary; `-infinity` is before all dates. None: beyond what can be counted.
pub(crate) fn date_from_binary(days: i32) -> Option<i32> {
    if days == i32::MIN { Some(*unreal::DAYS.start()) } else { days.checked_add(EPOCH_DAYS) }
}

/// The same of a timestamp, in microseconds.
pub(crate) fn timestamp_from_binary(us: i64) -> Option<i64> {
    match us {
        i64::MAX => Some(i64::MAX),
        i64::MIN => Some(i64::from(*unreal::DAYS.start()) * DAY_US),
        us => us.checked_add(EPOCH_US),
    }
}

/// A timestamp's binary form, in microseconds.
pub(crate) fn binary_timestamp(us: i64) -> i64 {
    match us {
        i64::MAX => i64::MAX,
        us if unreal::is_instant(us) => i64::MIN,
        us => us.saturating_sub(EPOCH_US),
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counts from 1 March of year 0, so that the leap day ends a year; 146,097 days are 400 years.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day = shifted.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, of_month)
}

/// `2026-03-01`; returns whether the year is before Christ, which is said last.
fn day(out: &mut BytesMut, days: i64) -> bool {
    let (year, month, day) = civil(days);
    let shown = if year > 0 { year } else { 1 - year };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
    year <= 0
}

/// A date: `2026-03-01`, `0044-03-15 BC`.
pub(crate) fn date(out: &mut BytesMut, days: i64) {
    if unreal::is_day(days) {
        return out.extend_from_slice(unreal::SHOWN.as_bytes());
    }
    if day(out, days) {
        out.extend_from_slice(b" BC");
    }
}

/// A time of day: `09:30:00`, `09:30:00.25`.
pub(crate) fn time(out: &mut BytesMut, us: i64) {
    let seconds = us.div_euclid(1_000_000);
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    fraction(out, us.rem_euclid(1_000_000));
}

/// A timestamp: `2026-03-01 09:30:00`, with `separator` between day and time and `zone` behind.
pub(crate) fn timestamp(out: &mut BytesMut, us: i64, separator: char, zone: &str) {
    match us {
        i64::MAX => return out.extend_from_slice(b"infinity"),
        us if unreal::is_instant(us) => return out.extend_from_slice(unreal::SHOWN.as_bytes()),
        _ => {}
    }
    let before_christ = day(out, us.div_euclid(DAY_US));
    let _ = out.write_char(separator);
    time(out, us.rem_euclid(DAY_US));
    out.extend_from_slice(zone.as_bytes());
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// An interval: `1 year 2 mons -3 days +04:05:06.5`, as IntervalStyle `postgres` has it.
pub(crate) fn interval(out: &mut BytesMut, months: i32, days: i32, us: i64) {
    let mut empty = true;
    let mut negative = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count == 0 {
            continue;
        }
        let gap = if empty { "" } else { " " };
        let sign = if negative && count > 0 { "+" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        let _ = write!(out, "{gap}{sign}{count} {unit}{plural}");
        (empty, negative) = (false, count < 0);
    }
    if empty || us != 0 {
        let gap = if empty { "" } else { " " };
        let sign = if us < 0 {
            "-"
        } else if negative {
            "+"
        } else {
            ""
        };
        let size = us.unsigned_abs();
        let seconds = size / 1_000_000;
        let _ = write!(out, "{gap}{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        fraction(out, i64::try_from(size % 1_000_000).unwrap_or(0));
    }
}

fn fraction(out: &mut BytesMut, us: i64) {
    if us > 0 {
        let digits = format!("{us:06}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}
