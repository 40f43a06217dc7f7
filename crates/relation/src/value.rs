//! A single value, for the places where speed does not matter: case files, messages, system tables, JSON.

use std::fmt;

pub use crate::interval::Interval;
use crate::schema::DataType;
use crate::{Error, Result, array_text, unreal};

/// A 256-bit two's complement integer as 32 little-endian bytes: the unscaled number of a long decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct I256Bytes(pub [u8; 32]);

impl I256Bytes {
    /// Sign-extends.
    pub fn from_i128(value: i128) -> Self {
        let mut out = [if value < 0 { 0xff } else { 0 }; 32];
        out[..16].copy_from_slice(&value.to_le_bytes());
        Self(out)
    }

    /// The number as Arrow has it.
    pub fn to_arrow(self) -> arrow::datatypes::i256 {
        arrow::datatypes::i256::from_le_bytes(self.0)
    }
}

/// One value of a column, or NULL.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    /// Unscaled number and scale.
    Decimal(i128, i8),
    /// Unscaled number and scale of a decimal of more than 38 digits.
    BigDecimal(I256Bytes, i8),
    Text(String),
    Bytes(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01.
    Timestamp(i64),
    /// Microseconds since 1970-01-01 UTC.
    TimestampTz(i64),
    /// Equal as a value only to one of the same parts.
    Interval(Interval),
    /// Elements of one type; of several dimensions, arrays.
    Array(Vec<Value>),
}

impl Value {
    /// Reads a value of a type from text: the reverse of [`fmt::Display`]; `NULL` is NULL.
    ///
    /// A date with a zero part, which MySQL writes, is the one that stands for it ([`unreal`]); they are all shown alike.
    pub fn parse(data_type: DataType, text: &str) -> Result<Self> {
        if text == "NULL" {
            return Ok(Self::Null);
        }
        let bad = || Error::Parse { data_type, text: text.to_owned() };
        Ok(match data_type {
            DataType::Bool => match text {
                "true" | "t" | "1" => Self::Bool(true),
                "false" | "f" | "0" => Self::Bool(false),
                _ => return Err(bad()),
            },
            DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Int(text.parse().map_err(|_| bad())?),
            DataType::UInt64 => Self::UInt(text.parse().map_err(|_| bad())?),
            DataType::Float32 | DataType::Float64 => Self::Float(text.parse().map_err(|_| bad())?),
            DataType::Decimal { precision: 0..=38, scale } => {
                Self::Decimal(parse_decimal(text, scale).ok_or_else(bad)?, scale)
            }
            DataType::Decimal { scale, .. } => {
                let digits = decimal_digits(text, scale).ok_or_else(bad)?;
                let number = arrow::datatypes::i256::from_string(&digits).ok_or_else(bad)?;
                Self::BigDecimal(I256Bytes(number.to_le_bytes()), scale)
            }
            DataType::Text | DataType::Json => Self::Text(text.to_owned()),
            DataType::Bytes => Self::Bytes(parse_hex(text).ok_or_else(bad)?),
            DataType::Date => Self::Date(parse_date(text).ok_or_else(bad)?),
            DataType::Time => Self::Time(parse_time(text).ok_or_else(bad)?),
            DataType::Timestamp => Self::Timestamp(parse_timestamp(text).ok_or_else(bad)?),
            DataType::TimestampTz => Self::TimestampTz(parse_timestamp(text.trim_end_matches("+00")).ok_or_else(bad)?),
            DataType::Interval => Self::Interval(Interval::parse(text).ok_or_else(bad)?),
            DataType::Array(element) => Self::Array(array_text::parse(*element, text).ok_or_else(bad)?),
        })
    }

    /// A number of single precision, as the one of double precision that is written alike: 0.1 stays 0.1, and is no
    /// 0.10000000149011612. It becomes the same single again.
    #[expect(clippy::cast_possible_truncation, reason = "whether it becomes the same single again is asked")]
    pub fn real(single: f32) -> Self {
        let written = single.to_string().parse().ok();
        let same = written.filter(|double: &f64| (*double as f32).to_bits() == single.to_bits());
        Self::Float(same.unwrap_or_else(|| f64::from(single)))
    }

    /// Whether the value is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(v) => write!(f, "{v}"),
            Self::UInt(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v}"),
            Self::Decimal(v, scale) => f.write_str(&scaled(&v.to_string(), *scale)),
            Self::BigDecimal(v, scale) => f.write_str(&scaled(&v.to_arrow().to_string(), *scale)),
            Self::Text(s) => f.write_str(s),
            Self::Bytes(bytes) => {
                f.write_str("\\x")?;
                bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
            Self::Date(days) if unreal::is_day(i64::from(*days)) => f.write_str(unreal::SHOWN),
            Self::Timestamp(us) | Self::TimestampTz(us) if unreal::is_instant(*us) => f.write_str(unreal::SHOWN),
            Self::Date(days) => write_date(f, i64::from(*days)),
            Self::Time(us) => write_time(f, *us),
            Self::Timestamp(us) | Self::TimestampTz(us) => {
                write_date(f, us.div_euclid(DAY_US))?;
                f.write_str(" ")?;
                write_time(f, us.rem_euclid(DAY_US))?;
                if matches!(self, Self::TimestampTz(_)) { f.write_str("+00") } else { Ok(()) }
            }
            Self::Interval(interval) => write!(f, "{interval}"),
            Self::Array(values) => array_text::write(f, values),
        }
    }
}

const DAY_US: i64 = 86_400_000_000;

/// Puts the decimal point into a string of digits.
fn scaled(digits: &str, scale: i8) -> String {
    let Ok(scale) = usize::try_from(scale) else {
        return format!("{digits}{}", "0".repeat(usize::from(scale.unsigned_abs())));
    };
    if scale == 0 {
        return digits.to_owned();
    }
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits),
    };
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// `12.3` at scale 2 as `1230`; none where digits would be lost, or where there are none: zeros that only the scale asks for
/// make no number of an empty text or of a sign.
fn decimal_digits(text: &str, scale: i8) -> Option<String> {
    let scale = usize::try_from(scale).ok()?;
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let are_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    (fraction.len() <= scale).then(|| format!("{sign}{whole}{fraction:0<scale$}"))
}

/// The unscaled number of a decimal text at a scale; none if it is no number or would lose digits.
pub fn parse_decimal(text: &str, scale: i8) -> Option<i128> {
    decimal_digits(text, scale)?.parse().ok()
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let hex = text.strip_prefix("\\x")?;
    let digits = hex.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant, "chrono-compatible date algorithms").
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month_shifted = i64::from((month + 9) % 12);
    let of_year = (153 * month_shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day number: the reverse of [`days_from_civil`].
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
}

/// Beyond every calendar, and far from where days are too many to be counted.
const YEARS_MAX: u64 = 1_000_000;

fn parse_date(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, '-');
    let year: i64 = parts.next()?.parse().ok()?;
    let month: u32 = parts.next()?.parse().ok()?;
    let day: u32 = parts.next()?.parse().ok()?;
    if month > 12 || day > 31 || year.unsigned_abs() > YEARS_MAX {
        return None;
    }
    if month == 0 || day == 0 {
        return unreal::day(u32::try_from(year).ok()?, month, day);
    }
    let days = days_from_civil(year, month, day);
    // 31 June would be 1 July.
    (civil_from_days(days) == (year, month, day)).then(|| i32::try_from(days).ok()).flatten()
}

fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.splitn(3, ':');
    let hours = clock_digits(parts.next()?)?;
    let minutes = clock_digits(parts.next()?).filter(|minutes| *minutes < 60)?;
    let seconds = clock_digits(parts.next().unwrap_or("0")).filter(|seconds| *seconds < 60)?;
    if fraction.len() > 6 {
        return None;
    }
    let micros = clock_digits(&format!("{fraction:0<6}"))?;
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

/// A number of up to six digits, and of nothing else: a sign has no place in the midst of a time.
fn clock_digits(text: &str) -> Option<i64> {
    let is_number = (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn parse_timestamp(text: &str) -> Option<i64> {
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    Some(i64::from(parse_date(date)?) * DAY_US + parse_time(time)?)
}

fn write_date(f: &mut fmt::Formatter<'_>, days: i64) -> fmt::Result {
    let (year, month, day) = civil_from_days(days);
    write!(f, "{year:04}-{month:02}-{day:02}")
}

fn write_time(f: &mut fmt::Formatter<'_>, us: i64) -> fmt::Result {
    let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
    write!(f, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    if micros != 0 {
        let digits = format!("{micros:06}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    Ok(())
}
