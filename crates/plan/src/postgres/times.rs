//! Functions of dates, times and intervals.

use std::borrow::Cow;

use arrow::datatypes::IntervalMonthDayNano;
use datafusion_common::{Result, exec_err};
use relation::unreal;
use relation::value::{civil_from_days, days_from_civil};

use super::calendar::{
    DAY, HOUR, INFINITY, MINUS_INFINITY, MINUTE, SECOND, Zone, age, between, day_of, infinite, interval, iso_week,
    micros_of, negated, plus, weekday, zone,
};
use super::calls::Kind::{Bool, Date, Float, Int4, Int8, Interval, Text, Time, Timestamp, TimestampTz};
use super::calls::{Out, Overload, Row, over, with_optional};

fn out_of_range<T>(value: Option<T>, what: &str) -> Result<T> {
    match value {
        Some(value) => Ok(value),
        None => exec_err!("{what} out of range"),
    }
}

fn midnight(row: &Row<'_>, at: usize) -> Result<i64> {
    out_of_range(i64::from(row.date(at)).checked_mul(DAY), "timestamp")
}

fn clock(row: &Row<'_>, day: usize, time: usize) -> Result<i64> {
    let midnight = midnight(row, day)?;
    out_of_range(infinite(midnight).or(midnight.checked_add(row.time(time))), "timestamp")
}

/// A day so many days later.
fn later(day: i32, by: i64) -> Result<i64> {
    if unreal::is_day(i64::from(day)) {
        return Ok(i64::from(*unreal::DAYS.start()));
    }
    let made = i64::from(day).saturating_add(by);
    // What stands below the days of a calendar must not be met by moving.
    out_of_range((made >= FIRST_DAY).then_some(made), "date")
}

/// 4713-11-24 BC, the first day that PostgreSQL has.
const FIRST_DAY: i64 = -2_440_588;

/// The day, where it is one of a calendar.
fn real_day(row: &Row<'_>, at: usize) -> Result<i64> {
    match i64::from(row.date(at)) {
        day if unreal::is_day(day) => crate::unreal::refused(),
        day => Ok(day),
    }
}

/// The timestamp, where it is one of a calendar.
fn real(row: &Row<'_>, at: usize) -> Result<i64> {
    let micros = row.micros(at);
    match infinite(micros) {
        None => Ok(micros),
        Some(INFINITY) => exec_err!("timestamp out of range: infinity cannot be reckoned with"),
        Some(_) => crate::unreal::refused(),
    }
}

/// A time of day so much later or earlier.
fn turned(time: i64, by: i64) -> i64 {
    (time % DAY + by % DAY).rem_euclid(DAY)
}

pub(crate) const PLUS: &[Overload] = &[
    over(&[Date, Int4], Date, |row, out| out.int(later(row.date(0), row.int(1))?)),
    over(&[Int4, Date], Date, |row, out| out.int(later(row.date(1), row.int(0))?)),
    over(&[Date, Interval], Timestamp, |row, out| out.int(shifted(midnight(row, 0)?, row.interval(1))?)),
    over(&[Interval, Date], Timestamp, |row, out| out.int(shifted(midnight(row, 1)?, row.interval(0))?)),
    over(&[Date, Time], Timestamp, |row, out| out.int(clock(row, 0, 1)?)),
    over(&[Time, Date], Timestamp, |row, out| out.int(clock(row, 1, 0)?)),
    over(&[Timestamp, Interval], Timestamp, |row, out| out.int(shifted(row.micros(0), row.interval(1))?)),
    over(&[TimestampTz, Interval], TimestampTz, |row, out| out.int(shifted(row.micros(0), row.interval(1))?)),
    over(&[Interval, Timestamp], Timestamp, |row, out| out.int(shifted(row.micros(1), row.interval(0))?)),
    over(&[Interval, TimestampTz], TimestampTz, |row, out| out.int(shifted(row.micros(1), row.interval(0))?)),
    over(&[Time, Interval], Time, |row, out| out.int(turned(row.time(0), micros_of(row.interval(1))))),
    over(&[Interval, Time], Time, |row, out| out.int(turned(row.time(1), micros_of(row.interval(0))))),
    over(&[Interval, Interval], Interval, |row, out| out.interval(sum(row.interval(0), row.interval(1))?)),
];

pub(crate) const MINUS: &[Overload] = &[
    // Of two ways that cost alike the first is taken: a text beside a time is one like it.
    over(&[Date, Date], Int4, |row, out| out.int(real_day(row, 0)? - real_day(row, 1)?)),
    over(&[Timestamp, Timestamp], Interval, difference),
    over(&[TimestampTz, TimestampTz], Interval, difference),
    over(&[Date, Int4], Date, |row, out| out.int(later(row.date(0), -row.int(1))?)),
    over(&[Date, Interval], Timestamp, |row, out| out.int(shifted(midnight(row, 0)?, opposite(row, 1)?)?)),
    over(&[Timestamp, Interval], Timestamp, |row, out| out.int(shifted(row.micros(0), opposite(row, 1)?)?)),
    over(&[TimestampTz, Interval], TimestampTz, |row, out| out.int(shifted(row.micros(0), opposite(row, 1)?)?)),
    over(&[Time, Time], Interval, |row, out| {
        out.interval(out_of_range(interval(0, 0, row.time(0) - row.time(1)), "interval")?)
    }),
    over(&[Time, Interval], Time, |row, out| out.int(turned(row.time(0), -(micros_of(row.interval(1)) % DAY)))),
    over(&[Interval, Interval], Interval, |row, out| out.interval(sum(row.interval(0), opposite(row, 1)?)?)),
];

pub(crate) const TIMES: &[Overload] = &[
    over(&[Interval, Float], Interval, |row, out| out.interval(scaled(row.interval(0), row.float(1))?)),
    over(&[Float, Interval], Interval, |row, out| out.interval(scaled(row.interval(1), row.float(0))?)),
];

pub(crate) const OVER: &[Overload] = &[over(&[Interval, Float], Interval, |row, out| {
    let by = row.float(1);
    if by == 0.0 {
        return exec_err!("division by zero");
    }
    out.interval(scaled(row.interval(0), 1.0 / by)?)
})];

fn shifted(micros: i64, by: IntervalMonthDayNano) -> Result<i64> {
    out_of_range(plus(micros, by), "timestamp")
}

fn opposite(row: &Row<'_>, at: usize) -> Result<IntervalMonthDayNano> {
    out_of_range(negated(row.interval(at)), "interval")
}

fn difference(row: &Row<'_>, out: &mut Out) -> Result<()> {
    out.interval(out_of_range(between(real(row, 0)?, real(row, 1)?), "interval")?)
}

fn sum(a: IntervalMonthDayNano, b: IntervalMonthDayNano) -> Result<IntervalMonthDayNano> {
    let micros = micros_of(a).checked_add(micros_of(b));
    let made = micros.and_then(|micros| {
        interval(i64::from(a.months) + i64::from(b.months), i64::from(a.days) + i64::from(b.days), micros)
    });
    out_of_range(made, "interval")
}

/// The interval so many times; parts of a month become days, parts of a day become time.
pub(crate) fn scaled(value: IntervalMonthDayNano, by: f64) -> Result<IntervalMonthDayNano> {
    let months = f64::from(value.months) * by;
    let whole_months = months.trunc();
    let days = f64::from(value.days) * by;
    let of_months = ((months - whole_months) * 30.0 * 1e9).round() / 1e9;
    let whole_days = days.trunc() + of_months.trunc();
    let of_days = (((days - days.trunc()) + (of_months - of_months.trunc())) * 86_400.0 * 1e6).round();
    #[expect(clippy::cast_precision_loss, reason = "a factor is a float")]
    let micros = (micros_of(value) as f64 * by).round() + of_days;
    let fits = |value: f64, limit: f64| value.is_finite() && value.abs() < limit;
    if !fits(whole_months, 2e9) || !fits(whole_days, 2e9) || !fits(micros, 9.2e15) {
        return exec_err!("interval out of range");
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked above")]
    let made = interval(whole_months as i64, whole_days as i64, micros as i64);
    out_of_range(made, "interval")
}

/// The interval that lies a fraction of the way from one to another.
pub(crate) fn between_two(
    low: IntervalMonthDayNano,
    high: IntervalMonthDayNano,
    fraction: f64,
) -> Result<IntervalMonthDayNano> {
    let distance = sum(high, out_of_range(negated(low), "interval")?)?;
    sum(low, scaled(distance, fraction)?)
}

/// By what intervals are compared: months of thirty days, days of 24 hours.
pub(crate) const LENGTH: &[Overload] = &[over(&[Interval], Int8, |row, out| {
    let value = row.interval(0);
    let days = i64::from(value.months) * 30 + i64::from(value.days);
    out.int(out_of_range(days.checked_mul(DAY).and_then(|d| d.checked_add(micros_of(value))), "interval")?)
})];

pub(crate) const AGE: &[Overload] = &[
    over(&[Timestamp, Timestamp], Interval, |row, out| {
        out.interval(out_of_range(age(real(row, 0)?, real(row, 1)?), "interval")?)
    }),
    over(&[TimestampTz, TimestampTz], Interval, |row, out| {
        out.interval(out_of_range(age(real(row, 0)?, real(row, 1)?), "interval")?)
    }),
];

pub(crate) const TIMEZONE: &[Overload] = &[
    over(&[Text, TimestampTz], Timestamp, |row, out| {
        let at = row.micros(1);
        if let Some(infinite) = infinite(at) {
            return out.int(infinite);
        }
        out.int(out_of_range(at.checked_add(known_zone(row.text(0))?.offset_at(at)), "timestamp")?)
    }),
    over(&[Text, Timestamp], TimestampTz, |row, out| match infinite(row.micros(1)) {
        Some(infinite) => out.int(infinite),
        None => out.int(out_of_range(known_zone(row.text(0))?.instant(row.micros(1)), "timestamp")?),
    }),
    over(&[Interval, TimestampTz], Timestamp, |row, out| match infinite(row.micros(1)) {
        Some(infinite) => out.int(infinite),
        None => out.int(out_of_range(row.micros(1).checked_add(offset(row)?), "timestamp")?),
    }),
    over(&[Interval, Timestamp], TimestampTz, |row, out| match infinite(row.micros(1)) {
        Some(infinite) => out.int(infinite),
        None => out.int(out_of_range(row.micros(1).checked_sub(offset(row)?), "timestamp")?),
    }),
];

/// How far a zone that is told as an interval is from UTC.
fn offset(row: &Row<'_>) -> Result<i64> {
    let offset = row.interval(0);
    if offset.months != 0 || offset.days != 0 {
        return exec_err!("interval time zone must not include months or days");
    }
    Ok(micros_of(offset))
}

fn known_zone(name: &str) -> Result<Zone> {
    match (name.starts_with(['+', '-']), zone(name)) {
        // A bare offset is one west of Greenwich, as POSIX has it.
        (true, Some(Zone::Fixed(offset))) => Ok(Zone::Fixed(-offset)),
        (_, Some(zone)) => Ok(zone),
        (_, None) => exec_err!("time zone \"{name}\" not recognized"),
    }
}

pub(crate) const TRUNC: &[Overload] = &[
    over(&[Text, Timestamp], Timestamp, |row, out| out.int(truncated(row.text(0), row.micros(1))?)),
    over(&[Text, TimestampTz], TimestampTz, |row, out| out.int(truncated(row.text(0), row.micros(1))?)),
    over(&[Text, TimestampTz, Text], TimestampTz, |row, out| {
        let (at, zone) = (row.micros(1), known_zone(row.text(2))?);
        if let Some(infinite) = infinite(at) {
            return out.int(infinite);
        }
        let local = out_of_range(at.checked_add(zone.offset_at(at)), "timestamp")?;
        out.int(out_of_range(zone.instant(truncated(row.text(0), local)?), "timestamp")?)
    }),
    over(&[Text, Interval], Interval, |row, out| out.interval(truncated_interval(row.text(0), row.interval(1))?)),
];

/// A word in lower case, without a copy where it is so already.
fn lower(word: &str) -> Cow<'_, str> {
    match word.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(word.to_ascii_lowercase()),
        false => Cow::Borrowed(word),
    }
}

/// The beginning of the unit that a time falls into.
fn truncated(unit: &str, micros: i64) -> Result<i64> {
    if let Some(infinite) = infinite(micros) {
        return Ok(infinite);
    }
    let days = micros.div_euclid(DAY);
    let of = |size: i64| micros.div_euclid(size).checked_mul(size);
    let (year, month, _) = civil_from_days(days);
    let first = |year: i64, month: u32| days_from_civil(year, month, 1).checked_mul(DAY);
    let begins = |years: i64| first((year - 1).div_euclid(years) * years + 1, 1);
    let made = match lower(unit).as_ref() {
        "microsecond" | "microseconds" | "us" => Some(micros),
        "millisecond" | "milliseconds" | "ms" => of(1_000),
        "second" | "seconds" | "s" | "sec" => of(SECOND),
        "minute" | "minutes" | "m" | "min" => of(MINUTE),
        "hour" | "hours" | "h" => of(HOUR),
        "day" | "days" | "d" => of(DAY),
        "week" | "weeks" | "w" => (days - weekday(days)).checked_mul(DAY),
        "month" | "months" | "mon" => first(year, month),
        "quarter" | "qtr" => first(year, (month - 1) / 3 * 3 + 1),
        "year" | "years" | "y" => first(year, 1),
        "decade" => first(year.div_euclid(10) * 10, 1),
        "century" => begins(100),
        "millennium" => begins(1_000),
        _ => return exec_err!("unit \"{unit}\" not recognized for type timestamp without time zone"),
    };
    out_of_range(made, "timestamp")
}

fn truncated_interval(unit: &str, value: IntervalMonthDayNano) -> Result<IntervalMonthDayNano> {
    let (months, days, micros) = (i64::from(value.months), i64::from(value.days), micros_of(value));
    let of_months = |size: i64| interval(months / size * size, 0, 0);
    let of_time = |size: i64| interval(months, days, micros / size * size);
    let made = match unit.to_ascii_lowercase().as_str() {
        "microsecond" | "microseconds" => of_time(1),
        "millisecond" | "milliseconds" => of_time(1_000),
        "second" | "seconds" => of_time(SECOND),
        "minute" | "minutes" => of_time(MINUTE),
        "hour" | "hours" => of_time(HOUR),
        "day" | "days" => interval(months, days, 0),
        "month" | "months" => of_months(1),
        "quarter" => of_months(3),
        "year" | "years" => of_months(12),
        "decade" => of_months(120),
        "century" => of_months(1_200),
        "millennium" => of_months(12_000),
        _ => return exec_err!("unit \"{unit}\" not supported for type interval"),
    };
    out_of_range(made, "interval")
}

pub(crate) const BIN: &[Overload] = &[
    over(&[Interval, Timestamp, Timestamp], Timestamp, bin),
    over(&[Interval, TimestampTz, TimestampTz], TimestampTz, bin),
    // As a courtesy: bins that begin with 1970.
    over(&[Interval, Timestamp], Timestamp, bin),
    over(&[Interval, TimestampTz], TimestampTz, bin),
];

fn bin(row: &Row<'_>, out: &mut Out) -> Result<()> {
    let origin = if row.len() > 2 { real(row, 2)? } else { 0 };
    let (stride, at) = (row.interval(0), row.micros(1));
    if stride.months != 0 {
        return exec_err!("timestamps cannot be binned into intervals containing months or years");
    }
    let size = i64::from(stride.days).checked_mul(DAY).and_then(|days| days.checked_add(micros_of(stride)));
    let Some(size) = size.filter(|size| *size > 0) else { return exec_err!("stride must be greater than zero") };
    if let Some(infinite) = infinite(at) {
        return out.int(infinite);
    }
    let made = at.checked_sub(origin).and_then(|span| span.div_euclid(size).checked_mul(size)?.checked_add(origin));
    out.int(out_of_range(made, "timestamp")?)
}

/// Digits behind the point of a second.
pub(crate) const PRECISION: &[Overload] = &[
    over(&[Timestamp, Int4], Timestamp, |row, out| out.int(rounded(row.micros(0), row.int(1))?)),
    over(&[TimestampTz, Int4], TimestampTz, |row, out| out.int(rounded(row.micros(0), row.int(1))?)),
    over(&[Time, Int4], Time, |row, out| out.int(rounded(row.time(0), row.int(1))?)),
];

fn rounded(micros: i64, digits: i64) -> Result<i64> {
    let Some(cut) = u32::try_from(digits).ok().and_then(|digits| 6_u32.checked_sub(digits.min(6))) else {
        return exec_err!("a precision must not be negative");
    };
    if let Some(infinite) = infinite(micros) {
        return Ok(infinite);
    }
    let unit = 10_i64.pow(cut);
    let away = if micros < 0 { -unit / 2 } else { unit / 2 };
    out_of_range(micros.checked_add(away).map(|micros| micros / unit * unit), "timestamp")
}

pub(crate) const ISFINITE: &[Overload] = &[
    over(&[Date], Bool, |row, out| out.bool(!unreal::is_day(i64::from(row.date(0))))),
    over(&[Timestamp], Bool, |row, out| out.bool(infinite(row.micros(0)).is_none())),
    over(&[TimestampTz], Bool, |row, out| out.bool(infinite(row.micros(0)).is_none())),
    over(&[Interval], Bool, |_, out| out.bool(true)),
];

pub(crate) const JUSTIFY_DAYS: &[Overload] = &[over(&[Interval], Interval, |row, out| {
    let value = row.interval(0);
    let (months, days) = justified_days(i64::from(value.months), i64::from(value.days));
    out.interval(out_of_range(interval(months, days, micros_of(value)), "interval")?)
})];

pub(crate) const JUSTIFY_HOURS: &[Overload] = &[over(&[Interval], Interval, |row, out| {
    let value = row.interval(0);
    let (days, micros) = justified_hours(i64::from(value.days), micros_of(value));
    out.interval(out_of_range(interval(i64::from(value.months), days, micros), "interval")?)
})];

pub(crate) const JUSTIFY: &[Overload] = &[over(&[Interval], Interval, |row, out| {
    let value = row.interval(0);
    let (days, micros) = justified_hours(i64::from(value.days), micros_of(value));
    let (mut months, mut days) = justified_days(i64::from(value.months), days);
    let mut micros = micros;
    if months > 0 && (days < 0 || (days == 0 && micros < 0)) {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && (days > 0 || (days == 0 && micros > 0)) {
        (months, days) = (months + 1, days - 30);
    }
    if days > 0 && micros < 0 {
        (days, micros) = (days - 1, micros + DAY);
    } else if days < 0 && micros > 0 {
        (days, micros) = (days + 1, micros - DAY);
    }
    out.interval(out_of_range(interval(months, days, micros), "interval")?)
})];

fn justified_days(months: i64, days: i64) -> (i64, i64) {
    let (months, days) = (months + days / 30, days % 30);
    match (months, days) {
        (1.., ..=-1) => (months - 1, days + 30),
        (..=-1, 1..) => (months + 1, days - 30),
        _ => (months, days),
    }
}

fn justified_hours(days: i64, micros: i64) -> (i64, i64) {
    let (days, micros) = (days + micros / DAY, micros % DAY);
    match (days, micros) {
        (1.., ..=-1) => (days - 1, micros + DAY),
        (..=-1, 1..) => (days + 1, micros - DAY),
        _ => (days, micros),
    }
}

/// Whole and broken seconds in microseconds.
fn of_seconds(seconds: f64) -> Result<i64> {
    let micros = (seconds * 1e6).round();
    if !micros.is_finite() || micros.abs() > 9.2e18 {
        return exec_err!("a number of seconds out of range");
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked above")]
    let whole = micros as i64;
    Ok(whole)
}

pub(crate) const MAKE_INTERVAL: &[Overload] =
    &[with_optional(&[Int4, Int4, Int4, Int4, Int4, Int4, Float], 7, Interval, |row, out| {
        let part = |at: usize| if row.has(at) { row.int(at) } else { 0 };
        let seconds = if row.has(6) { of_seconds(row.float(6))? } else { 0 };
        let time = (part(4) * HOUR).checked_add(part(5) * MINUTE).and_then(|time| time.checked_add(seconds));
        let made = time.and_then(|time| interval(part(0) * 12 + part(1), part(2) * 7 + part(3), time));
        out.interval(out_of_range(made, "interval")?)
    })];

pub(crate) const MAKE_DATE: &[Overload] =
    &[over(&[Int4, Int4, Int4], Date, |row, out| out.int(made_day(row.int(0), row.int(1), row.int(2))?))];

fn made_day(year: i64, month: i64, day: i64) -> Result<i64> {
    let (month, of_month) = (u32::try_from(month).unwrap_or(0), u32::try_from(day).unwrap_or(0));
    match day_of(year, month, of_month) {
        Some(days) if year != 0 => Ok(days),
        _ => exec_err!("date/time field value out of range: {year}-{month:02}-{day:02}"),
    }
}

fn made_time(hour: i64, minute: i64, seconds: f64) -> Result<i64> {
    let micros = of_seconds(seconds)?;
    let fits = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0..=60 * SECOND).contains(&micros);
    let time = if fits { hour * HOUR + minute * MINUTE + micros } else { -1 };
    if (0..=DAY).contains(&time) {
        return Ok(time);
    }
    exec_err!("time field value out of range: {hour}:{minute:02}:{seconds}")
}

pub(crate) const MAKE_TIME: &[Overload] =
    &[over(&[Int4, Int4, Float], Time, |row, out| out.int(made_time(row.int(0), row.int(1), row.float(2))?))];

fn made_timestamp(row: &Row<'_>) -> Result<i64> {
    let day = made_day(row.int(0), row.int(1), row.int(2))?;
    let time = made_time(row.int(3), row.int(4), row.float(5))?;
    out_of_range(day.checked_mul(DAY).and_then(|day| day.checked_add(time)), "timestamp")
}

pub(crate) const MAKE_TIMESTAMP: &[Overload] =
    &[over(&[Int4, Int4, Int4, Int4, Int4, Float], Timestamp, |row, out| out.int(made_timestamp(row)?))];

pub(crate) const MAKE_TIMESTAMPTZ: &[Overload] =
    &[with_optional(&[Int4, Int4, Int4, Int4, Int4, Float, Text], 1, TimestampTz, |row, out| {
        let zone = if row.has(6) { known_zone(row.text(6))? } else { Zone::Fixed(0) };
        out.int(out_of_range(zone.instant(made_timestamp(row)?), "timestamp")?)
    })];

/// A field of a time: its digits and how many of them are behind the point.
pub(crate) enum Part {
    Timestamp(i64),
    Time(i64),
    Interval(IntervalMonthDayNano),
}

/// Digits behind the point of a field.
pub(crate) fn field_scale(field: &str) -> i8 {
    match lower(field).as_ref() {
        "second" | "seconds" | "sec" | "secs" | "epoch" => 6,
        "millisecond" | "milliseconds" | "msec" | "ms" => 3,
        _ => 0,
    }
}

/// The digits of a field at its own scale.
pub(crate) fn field(name: &str, part: &Part) -> Result<i128> {
    let field = lower(name);
    let made = match part {
        Part::Timestamp(at) => of_timestamp(&field, *at),
        Part::Time(micros) => of_clock(&field, *micros).or_else(|| (field == "epoch").then(|| i128::from(*micros))),
        Part::Interval(value) => of_interval(&field, *value),
    };
    match made {
        Some(made) => Ok(made),
        None => exec_err!("unit \"{name}\" not recognized"),
    }
}

fn of_clock(field: &str, micros: i64) -> Option<i128> {
    Some(i128::from(match field {
        "microsecond" | "microseconds" | "usec" | "us" | "millisecond" | "milliseconds" | "msec" | "ms" | "second"
        | "seconds" | "sec" | "secs" => micros % MINUTE,
        "minute" | "minutes" | "min" => micros / MINUTE % 60,
        "hour" | "hours" => micros / HOUR,
        _ => return None,
    }))
}

fn of_timestamp(field: &str, at: i64) -> Option<i128> {
    let days = at.div_euclid(DAY);
    if let Some(of_day) = of_clock(field, at.rem_euclid(DAY)) {
        return Some(of_day);
    }
    let (year, month, day) = civil_from_days(days);
    // There is no year 0 before the first.
    let shown = if year > 0 { year } else { year - 1 };
    let ages = |years: i64| if shown > 0 { (shown + years - 1) / years } else { -((years - 1 - shown) / years) };
    Some(i128::from(match field {
        "year" | "years" => shown,
        "month" | "months" | "mon" => i64::from(month),
        "day" | "days" => i64::from(day),
        "quarter" | "qtr" => i64::from((month - 1) / 3 + 1),
        "dow" => (weekday(days) + 1) % 7,
        "isodow" => weekday(days) + 1,
        "doy" => days - days_from_civil(year, 1, 1) + 1,
        "week" | "weeks" => iso_week(days).1,
        "isoyear" => iso_week(days).0,
        "decade" => year.div_euclid(10),
        "century" => ages(100),
        "millennium" => ages(1_000),
        "julian" => days + 2_440_588,
        "epoch" => at,
        "timezone" | "timezone_hour" | "timezone_minute" => 0,
        _ => return None,
    }))
}

fn of_interval(field: &str, value: IntervalMonthDayNano) -> Option<i128> {
    let (months, micros) = (i64::from(value.months), micros_of(value));
    Some(match field {
        "year" | "years" => i128::from(months / 12),
        "month" | "months" | "mon" => i128::from(months % 12),
        "quarter" => i128::from(months % 12 / 3 + 1),
        "decade" => i128::from(months / 120),
        "century" => i128::from(months / 1_200),
        "millennium" => i128::from(months / 12_000),
        "day" | "days" => i128::from(value.days),
        // Years have 365.25 days, months thirty.
        "epoch" => {
            let (years, months) = (i128::from(months / 12), i128::from(months % 12));
            let days = i128::from(value.days) + months * 30;
            years * 31_557_600_000_000 + days * i128::from(DAY) + i128::from(micros)
        }
        other => of_clock(other, micros)?,
    })
}

/// `to_timestamp` of seconds since 1970.
pub(crate) fn instant_of(row: &Row<'_>, out: &mut Out) -> Result<()> {
    let seconds = row.float(0);
    if seconds.is_infinite() {
        return out.int(if seconds > 0.0 { INFINITY } else { MINUS_INFINITY });
    }
    out.int(of_seconds(seconds)?)
}

#[cfg(test)]
mod tests {
    use super::super::calendar::{
        interval_text, parse_date, parse_interval, parse_timestamp, parse_timestamptz, timestamp_text,
    };
    use super::{Part, field, truncated};

    #[test]
    fn times_are_read_as_postgresql_reads_them() {
        for (text, day) in [
            ("2024-03-05", 19_787),
            ("20240305", 19_787),
            ("March 5, 2024", 19_787),
            ("05-Mar-2024", 19_787),
            ("2024-3-5", 19_787),
            ("03/05/2024", 19_787),
            ("2024-03-05 14:07:09", 19_787),
        ] {
            assert_eq!(parse_date(text).ok(), Some(day), "{text}");
        }
        for text in ["2024-02-30", "", "x", "2024-13-01", "9".repeat(99).as_str(), "-", "::", "T", "é", "1 2 3 4"] {
            assert!(parse_date(text).is_err(), "{text}");
        }
        let shown = |text: &str| parse_timestamp(text).map(|at| timestamp_text(at, false)).ok();
        assert_eq!(shown("2024-03-05T14:07:09.123Z").as_deref(), Some("2024-03-05 14:07:09.123"));
        assert_eq!(shown("2024-03-05 2:07 PM").as_deref(), Some("2024-03-05 14:07:00"));
        let zoned = |text: &str| parse_timestamptz(text).map(|at| timestamp_text(at, true)).ok();
        assert_eq!(zoned("2024-03-05 23:00:00 Asia/Shanghai").as_deref(), Some("2024-03-05 15:00:00+00"));
        assert_eq!(zoned("2024-03-05 23:00+08").as_deref(), Some("2024-03-05 15:00:00+00"));
    }

    #[test]
    fn intervals_are_read_and_written_as_postgresql_does() {
        for (text, shown) in [
            ("1 year 2 months 3 days 04:05:06.7", "1 year 2 mons 3 days 04:05:06.7"),
            ("1 month - 1 day", "1 mon -1 days"),
            ("1.5 hours", "01:30:00"),
            ("90 minutes", "01:30:00"),
            ("-1 day", "-1 days"),
            ("1 week", "7 days"),
            ("P1DT2H", "1 day 02:00:00"),
            ("1-2", "1 year 2 mons"),
            ("3 days ago", "-3 days"),
            ("1.5 months", "1 mon 15 days"),
        ] {
            assert_eq!(parse_interval(text).map(interval_text).ok().as_deref(), Some(shown), "{text}");
        }
        for text in ["", "x", "1 x", "1:2:3:4", "P", "PX", "99999999999999999999 days", "-"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_time_makes_it_panic() {
        for at in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
            for unit in ["day", "week", "month", "quarter", "year", "decade", "century", "millennium", "hour", "x"] {
                truncated(unit, at).ok();
                field(unit, &Part::Timestamp(at)).ok();
            }
        }
    }
}
