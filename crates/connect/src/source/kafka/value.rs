//! From a value of a message to one of its column's type.
//!
//! The law: a value is taken whole or not at all. Digits are never rounded, and a number out of its type's range, a day that no calendar
//! has or a text that is no number is an error, by which its row becomes a reject. What a bare number means as a time is told by the
//! message's schema ([`Logical`]) or by the table's `time_unit`, and never guessed.

use std::borrow::Cow;

use relation::value::Interval;
use relation::{DataType, Value, unreal};

use super::declared::{Format, TimeUnit};
use super::json::Json;
use super::logical::Logical;
use crate::base64;

/// By what a value is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) format: Format,
    /// What the message's own schema says of it.
    pub(super) logical: Option<Logical>,
    /// What numbers count that are times.
    pub(super) time_unit: Option<TimeUnit>,
}

const DAY_US: i128 = 86_400_000_000;
/// Characters of a value that are shown.
const SHOWN_MAX: usize = 64;
/// What Debezium puts in the place of a value that the log does not have.
const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// A value of a type. Errors: it is none, as a clause that names it.
pub(super) fn value(json: &Json<'_>, data_type: DataType, how: How) -> Result<Value, String> {
    if json.is_null() {
        return Ok(Value::Null);
    }
    if how.format.is_of_connect() && is_unavailable(json) {
        return Err("the log did not have the value, which had not changed: have the table's log hold whole rows \
                    (`REPLICA IDENTITY FULL` in PostgreSQL)"
            .to_owned());
    }
    if let Some(digits) = digits_of(json, data_type, how) {
        let digits = digits.ok_or_else(|| no_value(json, data_type))?;
        return value(&Json::Number(&digits), data_type, How { logical: None, ..how });
    }
    if let (DataType::Text, Json::Number(_), Some(meant)) = (data_type, json, how.logical.and_then(type_of)) {
        return match counted(json).filter(|count| *count < 0 && meant == DataType::Time) {
            // MySQL's may be before midnight.
            Some(count) => {
                let behind = (-count).to_string();
                value(&Json::Number(&behind), meant, how).map(|value| Value::Text(format!("-{value}")))
            }
            None => value(json, meant, how).map(|value| Value::Text(value.to_string())),
        };
    }
    let read = match data_type {
        DataType::Bool => boolean(json),
        DataType::Int16 => whole(json, how, i128::from(i16::MIN)..=i128::from(i16::MAX)).map(int),
        DataType::Int32 => whole(json, how, i128::from(i32::MIN)..=i128::from(i32::MAX)).map(int),
        DataType::Int64 => whole(json, how, i128::from(i64::MIN)..=i128::from(i64::MAX)).map(int),
        DataType::UInt64 => {
            whole(json, how, 0..=i128::from(u64::MAX)).map(|n| Value::UInt(u64::try_from(n).unwrap_or(0)))
        }
        DataType::Float32 => float(json).filter(|f| !f.is_finite() || f.abs() <= f64::from(f32::MAX)).map(Value::Float),
        DataType::Float64 => float(json).map(Value::Float),
        DataType::Decimal { precision, scale } => return decimal(json, (precision, scale), how),
        DataType::Text => Some(Value::Text(text(json, how))),
        DataType::Json => document(json, how).map(Value::Text),
        DataType::Bytes => bytes(json, how).map(Value::Bytes),
        DataType::Date => return day(json, how),
        DataType::Time => return time(json, how),
        DataType::Timestamp => return instant(json, data_type, how).map(Value::Timestamp),
        DataType::TimestampTz => return instant(json, data_type, how).map(Value::TimestampTz),
        DataType::Interval => return interval(json, how),
        DataType::Array(element) => return array(json, *element, how),
    };
    read.ok_or_else(|| no_value(json, data_type))
}

/// The digits of what a message calls a decimal, whatever number or text its column is; the inner none: they cannot be read.
fn digits_of(json: &Json<'_>, data_type: DataType, how: How) -> Option<Option<String>> {
    match (how.logical, json) {
        _ if data_type == DataType::Bytes => None,
        (Some(Logical::Decimal(scale)), Json::Text(text, _)) => Some(unscaled(text, i64::from(scale))),
        // A decimal of any scale says its own.
        (Some(Logical::VariableScale), Json::Object(..)) => Some(variable_scale(json)),
        (None, Json::Object(..)) if how.format == Format::Debezium && matches!(data_type, DataType::Decimal { .. }) => {
            Some(variable_scale(json))
        }
        _ => None,
    }
}

fn variable_scale(json: &Json<'_>) -> Option<String> {
    let scale = json.get("scale").and_then(number).and_then(|scale| scale.parse().ok())?;
    unscaled(json.get("value").and_then(Json::text)?, scale)
}

/// The type by which a number is shown that a message's schema calls a time.
fn type_of(logical: Logical) -> Option<DataType> {
    match logical {
        Logical::Days => Some(DataType::Date),
        Logical::Time(_) => Some(DataType::Time),
        Logical::Timestamp(_) => Some(DataType::Timestamp),
        Logical::Duration(_) => Some(DataType::Interval),
        Logical::Decimal(_) | Logical::VariableScale | Logical::Bits => None,
    }
}

fn no_value(json: &Json<'_>, data_type: DataType) -> String {
    format!("{} is no {data_type}", shown(json.raw()))
}

/// The first characters of a text.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

fn is_unavailable(json: &Json<'_>) -> bool {
    // As it is, and as bytes are written.
    json.text().is_some_and(|text| text == UNAVAILABLE || text == "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==")
}

fn int(n: i128) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(0))
}

fn boolean(json: &Json<'_>) -> Option<Value> {
    match json {
        Json::Bool(value) => Some(Value::Bool(*value)),
        Json::Number("0") => Some(Value::Bool(false)),
        Json::Number("1") => Some(Value::Bool(true)),
        Json::Text(text, _) => match &**text {
            "true" | "1" => Some(Value::Bool(true)),
            "false" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        _ => None,
    }
}

/// The text of a number, whether it is written as one or as a text.
fn number<'j>(json: &'j Json<'_>) -> Option<&'j str> {
    match json {
        Json::Number(number) => Some(*number),
        Json::Text(text, _) => match Json::parse(text.as_bytes()) {
            Ok(Json::Number(number)) if number.len() == text.len() => Some(text.as_ref()),
            _ => None,
        },
        _ => None,
    }
}

fn whole(json: &Json<'_>, how: How, range: std::ops::RangeInclusive<i128>) -> Option<i128> {
    let read = match (how.logical, json) {
        (Some(Logical::Bits), _) => little_endian(&base64::read(json.text()?)?)?,
        (_, Json::Bool(value)) => i128::from(*value),
        _ => {
            let plain = plain(number(json)?)?;
            let (whole, fraction) = plain.split_once('.').unwrap_or((plain.as_ref(), ""));
            if !fraction.bytes().all(|digit| digit == b'0') {
                return None;
            }
            whole.parse().ok()?
        }
    };
    range.contains(&read).then_some(read)
}

fn float(json: &Json<'_>) -> Option<f64> {
    match json.text() {
        Some("NaN") => return Some(f64::NAN),
        Some("Infinity") => return Some(f64::INFINITY),
        Some("-Infinity") => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    number(json)?.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Digits with a point, of a number that may have an exponent; none where that has too many.
fn plain(number: &str) -> Option<Cow<'_, str>> {
    /// More than any type has.
    const DIGITS_MAX: i64 = 200;
    let Some(at) = number.find(['e', 'E']) else { return Some(Cow::Borrowed(number)) };
    let (mantissa, exponent) = (number.get(..at)?, number.get(at + 1..)?);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.bytes().all(|digit| digit == b'0') {
        return Some(Cow::Borrowed("0"));
    }
    let exponent: i64 = exponent.parse().ok()?;
    // Where the point stands among the digits.
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
    if point.abs() > DIGITS_MAX || digits.len() > 200 {
        return None;
    }
    let length = i64::try_from(digits.len()).ok()?;
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    let written = if point <= 0 {
        format!("0.{}{digits}", zeros(-point))
    } else if point >= length {
        format!("{digits}{}", zeros(point - length))
    } else {
        let (whole, fraction) = digits.split_at_checked(usize::try_from(point).ok()?)?;
        format!("{whole}.{fraction}")
    };
    Some(Cow::Owned(format!("{sign}{written}")))
}

fn decimal(json: &Json<'_>, (precision, scale): (u8, i8), how: How) -> Result<Value, String> {
    let data_type = DataType::Decimal { precision, scale };
    let Some(text) = number(json).and_then(plain).map(Cow::into_owned) else {
        if how.format.is_of_connect() && json.text().and_then(base64::read).is_some() {
            return Err(format!(
                "{} is the bytes of a decimal, and the message says no scale: {}",
                shown(json.raw()),
                match how.format {
                    Format::Avro => "have the writer's schema call it a `decimal`",
                    _ => "have messages bring their schema, or set `decimal.handling.mode=string`",
                }
            ));
        }
        return Err(no_value(json, data_type));
    };
    let digits = text.trim_start_matches('-').trim_start_matches('0');
    let whole = digits.split_once('.').map_or(digits, |(whole, _)| whole);
    let whole_max = i64::from(precision) - i64::from(scale);
    if i64::try_from(whole.len()).unwrap_or(i64::MAX) > whole_max.max(0) {
        return Err(no_value(json, data_type));
    }
    Value::parse(data_type, &text).map_err(|_| no_value(json, data_type))
}

/// The digits of an unscaled number of big-endian bytes.
fn unscaled(text: &str, scale: i64) -> Option<String> {
    let bytes = base64::read(text)?;
    let is_negative = bytes.first()? & 0x80 != 0;
    if bytes.len() > 32 {
        return None;
    }
    let mut wide = [if is_negative { 0xff } else { 0 }; 32];
    for (to, from) in wide.iter_mut().zip(bytes.iter().rev()) {
        *to = *from;
    }
    let digits = Value::BigDecimal(relation::value::I256Bytes(wide), 0).to_string();
    if !(-100..=100).contains(&scale) {
        return None;
    }
    plain(&format!("{digits}e{}", -scale)).map(Cow::into_owned)
}

fn little_endian(bytes: &[u8]) -> Option<i128> {
    if bytes.len() > 8 {
        return None;
    }
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | i128::from(*byte)))
}

fn text(json: &Json<'_>, how: How) -> String {
    match json {
        Json::Text(text, _) => text.to_string(),
        // A SET of Maxwell's: as MySQL writes it.
        Json::Array(items, _) if how.format == Format::Maxwell && items.iter().all(|item| item.text().is_some()) => {
            items.iter().filter_map(Json::text).collect::<Vec<_>>().join(",")
        }
        other => other.raw().to_owned(),
    }
}

/// The text of a document: what is a document in the message, or where documents are written as texts, the text.
fn document(json: &Json<'_>, how: How) -> Option<String> {
    let is_written_as_text = how.format == Format::Canal || how.format.is_of_connect();
    match json {
        Json::Text(text, _) if is_written_as_text => {
            Json::parse(text.as_bytes()).ok().map(|_| text.clone().into_owned())
        }
        other => Some(other.raw().to_owned()),
    }
}

fn bytes(json: &Json<'_>, how: How) -> Option<Vec<u8>> {
    let text = json.text()?;
    match how.format {
        // Canal writes each byte as the character of its number.
        Format::Canal => text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect(),
        _ => base64::read(text),
    }
}

/// A whole number that counts something of time.
fn counted(json: &Json<'_>) -> Option<i128> {
    match json {
        Json::Number(number) => number.parse().ok(),
        _ => None,
    }
}

fn day(json: &Json<'_>, how: How) -> Result<Value, String> {
    let refused = || no_value(json, DataType::Date);
    if let Some(days) = counted(json) {
        match how.logical {
            Some(Logical::Days) => {}
            None if how.format == Format::Debezium => {}
            Some(other) => return Err(format!("{}: its schema calls it {}", refused(), other.word())),
            None => return Err(format!("{}, and nothing says what it counts", refused())),
        }
        let days = i32::try_from(days).ok().filter(|days| DAYS.contains(days));
        return days.map(Value::Date).ok_or_else(refused);
    }
    let text = json.text().ok_or_else(refused)?;
    // Debezium's dates of the ISO kind have a zone, which a date has not.
    let text = text.strip_suffix('Z').unwrap_or(text);
    // Canal writes a time behind it for some servers.
    let text = text.strip_suffix(" 00:00:00").unwrap_or(text);
    Value::parse(DataType::Date, text).map_err(|_| refused())
}

/// A million years about 1970, and none of those days that stand for dates which no calendar has.
const DAYS: std::ops::RangeInclusive<i32> = -90_000_000..=365_000_000;

/// Microseconds that a number counts, as the schema says, where it calls it what is wanted, or the table's settings. Errors: nothing
/// says it.
fn micros(
    number: i128,
    refused: String,
    how: How,
    wanted: impl Fn(Logical) -> Option<TimeUnit>,
) -> Result<i128, String> {
    let unit = match how.logical {
        Some(logical) => match wanted(logical) {
            Some(unit) => Some(unit),
            None => return Err(format!("{refused}: its schema calls it {}", logical.word())),
        },
        None => how.time_unit,
    };
    match unit {
        Some(TimeUnit::Seconds) => Ok(number.saturating_mul(1_000_000)),
        Some(TimeUnit::Milliseconds) => Ok(number.saturating_mul(1_000)),
        Some(TimeUnit::Microseconds) => Ok(number),
        Some(TimeUnit::Nanoseconds) => Ok(number.div_euclid(1_000)),
        None => Err(format!(
            "{refused} as long as nothing says what it counts: set `time_unit` in the table's `meta`, or have messages bring \
             their schema"
        )),
    }
}

fn time(json: &Json<'_>, how: How) -> Result<Value, String> {
    let refused = || no_value(json, DataType::Time);
    if let Some(number) = counted(json) {
        let us = micros(number, refused(), how, |logical| match logical {
            Logical::Time(unit) | Logical::Duration(unit) => Some(unit),
            _ => None,
        })?;
        let us = i64::try_from(us).ok().filter(|us| (0..=i64::from(i32::MAX) * 1_000_000).contains(us));
        return us.map(Value::Time).ok_or_else(refused);
    }
    let text = json.text().ok_or_else(refused)?;
    let text = cut(text.strip_suffix('Z').unwrap_or(text));
    Value::parse(DataType::Time, &text).map_err(|_| refused())
}

/// Without the digits of a fraction beyond microseconds.
fn cut(time: &str) -> Cow<'_, str> {
    match time.split_once('.') {
        Some((clock, fraction))
            if (7..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Cow::Owned(format!("{clock}.{}", fraction.get(..6).unwrap_or_default()))
        }
        _ => Cow::Borrowed(time),
    }
}

/// Microseconds since 1970: of a text without a zone by UTC.
fn instant(json: &Json<'_>, data_type: DataType, how: How) -> Result<i64, String> {
    let refused = || no_value(json, data_type);
    let us = match (counted(json), how.logical) {
        (Some(days), Some(Logical::Days)) => days.saturating_mul(DAY_US),
        (Some(number), _) => micros(number, refused(), how, |logical| match logical {
            Logical::Timestamp(unit) => Some(unit),
            _ => None,
        })?,
        (None, _) => written_instant(json.text().ok_or_else(refused)?).ok_or_else(refused)?,
    };
    let is_written = counted(json).is_none();
    let us = i64::try_from(us).map_err(|_| refused())?;
    // Numbers may be on days that stand for others; texts are where they belong.
    let is_real = DAYS.contains(&i32::try_from(i128::from(us).div_euclid(DAY_US)).unwrap_or(i32::MIN));
    if is_real || is_written && unreal::is_instant(us) { Ok(us) } else { Err(refused()) }
}

fn written_instant(text: &str) -> Option<i128> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let (time, offset_us) = zone(time)?;
    let Value::Date(day) = Value::parse(DataType::Date, date).ok()? else { return None };
    let Value::Time(clock) = Value::parse(DataType::Time, &cut(time)).ok()? else { return None };
    let is_clock = i128::from(clock) < DAY_US;
    (is_clock && (offset_us == 0 || !unreal::is_day(i64::from(day))))
        .then(|| i128::from(day) * DAY_US + i128::from(clock) - offset_us)
}

/// A time without its zone, and by how much that is before UTC, in microseconds.
fn zone(time: &str) -> Option<(&str, i128)> {
    if let Some(time) = time.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = time.find(['+', '-']) else { return Some((time, 0)) };
    let (clock, offset) = (time.get(..at)?, time.get(at + 1..)?);
    let digits = offset.replace(':', "");
    let is_digits = digits.bytes().all(|b| b.is_ascii_digit()) && matches!(digits.len(), 2 | 4 | 6);
    let part = |from: usize| digits.get(from..from + 2).map_or(Some(0), |part| part.parse::<i128>().ok());
    let seconds = part(0)? * 3600 + part(2)? * 60 + part(4)?;
    let sign = if time.get(at..)?.starts_with('-') { -1 } else { 1 };
    (is_digits && seconds < 86_400).then_some((clock, sign * seconds * 1_000_000))
}

fn interval(json: &Json<'_>, how: How) -> Result<Value, String> {
    let refused = || no_value(json, DataType::Interval);
    if let Some(number) = counted(json) {
        let us = micros(number, refused(), how, |logical| match logical {
            Logical::Duration(unit) | Logical::Time(unit) => Some(unit),
            _ => None,
        })?;
        let micros = i64::try_from(us).map_err(|_| refused())?;
        return Ok(Value::Interval(Interval { months: 0, days: 0, micros }));
    }
    let text = json.text().ok_or_else(refused)?;
    match iso_interval(text) {
        Some(interval) => Ok(Value::Interval(interval)),
        None => Value::parse(DataType::Interval, text).map_err(|_| refused()),
    }
}

/// An interval as ISO 8601 writes it: `P1Y2M3DT4H5M6.78S`.
fn iso_interval(text: &str) -> Option<Interval> {
    let (date, time) = text.strip_prefix('P').map(|text| text.split_once('T').unwrap_or((text, "")))?;
    let mut made = Interval::default();
    for (part, is_time) in [(date, false), (time, true)] {
        let mut rest = part;
        while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic()) {
            let (count, unit, behind) = (rest.get(..at)?, rest.get(at..at + 1)?, rest.get(at + 1..)?);
            let whole = || count.parse::<i32>().ok();
            let micros_of = |unit_us: i64| count.parse::<i64>().ok()?.checked_mul(unit_us);
            match (unit, is_time) {
                ("Y", false) => made.months = made.months.checked_add(whole()?.checked_mul(12)?)?,
                ("M", false) => made.months = made.months.checked_add(whole()?)?,
                ("W", false) => made.days = made.days.checked_add(whole()?.checked_mul(7)?)?,
                ("D", false) => made.days = made.days.checked_add(whole()?)?,
                ("H", true) => made.micros = made.micros.checked_add(micros_of(3_600_000_000)?)?,
                ("M", true) => made.micros = made.micros.checked_add(micros_of(60_000_000)?)?,
                ("S", true) => made.micros = made.micros.checked_add(seconds_us(count)?)?,
                _ => return None,
            }
            rest = behind;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    (text.len() > 1 && !text.ends_with('T')).then_some(made)
}

/// Microseconds of `-6.78` seconds.
fn seconds_us(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.get(..6).filter(|_| fraction.len() <= 9).unwrap_or(fraction);
    let is_plain = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) && fraction.len() <= 6;
    let us: i64 = whole.parse::<i64>().ok().filter(|_| is_plain)?.checked_mul(1_000_000)?;
    let us = us.checked_add(format!("{fraction:0<6}").parse().ok()?)?;
    Some(if digits.len() < text.len() { -us } else { us })
}

fn array(json: &Json<'_>, element: DataType, how: How) -> Result<Value, String> {
    let items = json.items().ok_or_else(|| format!("{} is no array", shown(json.raw())))?;
    Ok(Value::Array(items.iter().map(|item| value(item, element, how)).collect::<Result<_, _>>()?))
}
