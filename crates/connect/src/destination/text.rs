//! How values are written for the other side: the same digits, in its words.
//!
//! Numbers, dates and times are texts in all languages; they differ in what is before all dates, in bytes and in JSON. Nothing is
//! rounded here, and what a language has no word for is refused.

use std::io::Write as _;

use relation::unreal;
use relation::value::civil_from_days;
use relation::{DataType, Layout, Value};

use super::portion::Refusal;

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    Postgres,
    Mysql,
    /// Texts and numbers in Redis; the words of PostgreSQL, but for truth and bytes.
    Redis,
}

const DAY_US: i64 = 86_400_000_000;

/// Writes column `at` of a row, which is not NULL, without quotes around it. Errors: there is no word for it.
pub(crate) fn push(out: &mut Vec<u8>, layout: &Layout, row: &[u8], at: usize, words: Words) -> Result<(), Refusal> {
    let bytes = layout.bytes(row, at);
    match layout.types()[at] {
        DataType::Text | DataType::Json => {
            if words == Words::Postgres && bytes.contains(&0) {
                return Err(Refusal::new("22021", "PostgreSQL has no text with a zero byte in it"));
            }
            out.extend_from_slice(bytes);
            Ok(())
        }
        DataType::Bytes if words == Words::Redis => {
            out.extend_from_slice(bytes);
            Ok(())
        }
        DataType::Bytes => {
            if words == Words::Postgres {
                out.extend_from_slice(b"\\x");
            }
            push_hex(out, bytes);
            Ok(())
        }
        _ => push_value(out, &layout.value(row, at), layout.types()[at], words),
    }
}

fn push_value(out: &mut Vec<u8>, value: &Value, data_type: DataType, words: Words) -> Result<(), Refusal> {
    match value {
        Value::Bool(truth) => out.extend_from_slice(match (words, truth) {
            (Words::Mysql, true) => b"1",
            (Words::Mysql, false) => b"0",
            (_, true) => b"true",
            (_, false) => b"false",
        }),
        Value::Int(number) => {
            if *number < 0 {
                out.push(b'-');
            }
            push_digits(out, number.unsigned_abs());
        }
        Value::UInt(number) => push_digits(out, *number),
        Value::Float(number) => return push_float(out, *number, data_type, words),
        Value::Decimal(unscaled, scale) if *scale >= 0 => push_decimal(out, *unscaled, scale.unsigned_abs()),
        Value::Date(days) => return push_date(out, i64::from(*days), words),
        Value::Time(us) => push_clock(out, *us),
        Value::Timestamp(us) | Value::TimestampTz(us) => {
            let (days, clock) = (us.div_euclid(DAY_US), us.rem_euclid(DAY_US));
            let is_unreal = unreal::is_instant(*us);
            if is_unreal && words != Words::Mysql {
                out.extend_from_slice(unreal::SHOWN.as_bytes());
                return Ok(());
            }
            push_day(out, days, words)?;
            out.push(b' ');
            push_clock(out, clock);
            // MySQL has no zones: the session's is UTC.
            if matches!(value, Value::TimestampTz(_)) && words != Words::Mysql {
                out.extend_from_slice(b"+00");
            }
            if is_backwards(days, words) && !is_unreal {
                out.extend_from_slice(b" BC");
            }
        }
        Value::Array(_) => push_json(out, value, data_type),
        other => put(out, format_args!("{other}")),
    }
    Ok(())
}

pub(crate) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A vector takes everything.
    out.write_fmt(text).ok();
}

pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// The reverse of [`push_hex`]; digits may be large ones.
pub(crate) fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(pair).collect()
}

fn push_digits(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn push_decimal(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let scale = usize::from(scale);
    let start = out.len();
    match u64::try_from(unscaled.unsigned_abs()) {
        Ok(small) => push_digits(out, small),
        Err(_) => put(out, format_args!("{}", unscaled.unsigned_abs())),
    }
    if scale == 0 {
        return;
    }
    let digits = out.len() - start;
    if digits <= scale {
        let lacking = scale + 1 - digits;
        drop(out.splice(start..start, std::iter::repeat_n(b'0', lacking)));
    }
    out.insert(out.len() - scale, b'.');
}

fn push_float(out: &mut Vec<u8>, number: f64, data_type: DataType, words: Words) -> Result<(), Refusal> {
    if !number.is_finite() {
        if words == Words::Mysql {
            return Err(Refusal::new("22003", "MySQL has no infinite numbers and no NaN"));
        }
        let word: &[u8] = match (number.is_nan(), number > 0.0) {
            (true, _) => b"NaN",
            (_, true) => b"Infinity",
            (_, false) => b"-Infinity",
        };
        out.extend_from_slice(word);
        return Ok(());
    }
    let start = out.len();
    #[expect(clippy::cast_possible_truncation, reason = "it was widened from a single one")]
    match data_type {
        // Its own digits, not those of the double that it was widened to.
        DataType::Float32 => put(out, format_args!("{:?}", number as f32)),
        _ => put(out, format_args!("{number:?}")),
    }
    if out[start..].ends_with(b".0") {
        out.truncate(out.len() - 2);
    }
    Ok(())
}

/// The first day of year 1: before it years are counted backwards.
const FIRST_DAY: i64 = -719_162;

fn push_date(out: &mut Vec<u8>, days: i64, words: Words) -> Result<(), Refusal> {
    if unreal::is_day(days) && words != Words::Mysql {
        out.extend_from_slice(unreal::SHOWN.as_bytes());
        return Ok(());
    }
    push_day(out, days, words)?;
    if is_backwards(days, words) && !unreal::is_day(days) {
        out.extend_from_slice(b" BC");
    }
    Ok(())
}

/// Whether a day's year is one before Christ; MySQL has a year 0 instead, and none before it.
fn is_backwards(days: i64, words: Words) -> bool {
    days < FIRST_DAY && words != Words::Mysql
}

/// Year, month and day, without what says that years are counted backwards.
fn push_day(out: &mut Vec<u8>, days: i64, words: Words) -> Result<(), Refusal> {
    let (year, month, day) = match unreal::is_day(days) {
        true => unreal_parts(days),
        false => civil_from_days(days),
    };
    let year = match words {
        Words::Mysql if !(0..=9_999).contains(&year) => {
            return Err(Refusal::new("22007", "MySQL has years from 0 to 9999"));
        }
        Words::Mysql => year,
        // There is no year 0: year 1 before Christ is before year 1.
        Words::Postgres | Words::Redis if year < 1 => 1 - year,
        Words::Postgres | Words::Redis => year,
    };
    // It is not negative in anybody's words.
    push_padded(out, year.unsigned_abs(), 4);
    out.push(b'-');
    push_padded(out, month.into(), 2);
    out.push(b'-');
    push_padded(out, day.into(), 2);
    Ok(())
}

/// Year, month and day of a date that no calendar has.
fn unreal_parts(days: i64) -> (i64, u32, u32) {
    let number = u32::try_from(days - i64::from(*unreal::DAYS.start())).unwrap_or(0);
    // As `unreal::day` packs them.
    let (year, month, day) = (number >> 9, number >> 5 & 15, number & 31);
    debug_assert_eq!(unreal::day(year, month, day).map(i64::from), Some(days), "packed as it is unpacked");
    (i64::from(year), month, day)
}

fn push_clock(out: &mut Vec<u8>, us: i64) {
    // Times of MySQL are lengths as well, and may be negative.
    let Ok(us) = u64::try_from(us) else {
        let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
        put(out, format_args!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60));
        if micros != 0 {
            put(out, format_args!(".{micros:06}"));
        }
        return;
    };
    let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
    push_padded(out, seconds / 3_600, 2);
    out.push(b':');
    push_padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_padded(out, seconds % 60, 2);
    if micros != 0 {
        out.push(b'.');
        push_padded(out, micros, 6);
    }
}

/// Digits, with zeros before them where there are fewer than `width`.
fn push_padded(out: &mut Vec<u8>, number: u64, width: usize) {
    let start = out.len();
    push_digits(out, number);
    let lacking = (start + width).saturating_sub(out.len());
    if lacking > 0 {
        out.resize(out.len() + lacking, b'0');
        out[start..].rotate_right(lacking);
    }
}

/// Column `at` of a row as JSON: numbers with all their digits, documents as they are, everything else as a text.
pub(crate) fn push_json_column(out: &mut Vec<u8>, layout: &Layout, row: &[u8], at: usize) {
    let (data_type, bytes) = (layout.types()[at], layout.bytes(row, at));
    if layout.is_null(row, at) {
        return out.extend_from_slice(b"null");
    }
    match data_type {
        DataType::Json => out.extend_from_slice(bytes),
        // It was checked when it was written.
        DataType::Text => push_json_text(out, &String::from_utf8_lossy(bytes)),
        DataType::Date | DataType::Time | DataType::Timestamp | DataType::TimestampTz => {
            out.push(b'"');
            // They have words in all languages, in which nothing is written otherwise in JSON.
            push_value(out, &layout.value(row, at), data_type, Words::Redis).ok();
            out.push(b'"');
        }
        _ => push_json(out, &layout.value(row, at), data_type),
    }
}

fn push_json(out: &mut Vec<u8>, value: &Value, data_type: DataType) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Text(document) if data_type == DataType::Json => out.extend_from_slice(document.as_bytes()),
        Value::Text(text) => push_json_text(out, text),
        Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Decimal(..) | Value::BigDecimal(..) => {
            // These have words in all languages.
            push_value(out, value, data_type, Words::Redis).ok();
        }
        Value::Float(number) if number.is_finite() => {
            push_value(out, value, data_type, Words::Redis).ok();
        }
        Value::Array(values) => {
            let DataType::Array(element) = data_type else { return out.extend_from_slice(b"null") };
            for (i, value) in values.iter().enumerate() {
                out.push(if i == 0 { b'[' } else { b',' });
                push_json(out, value, *element);
            }
            out.extend_from_slice(if values.is_empty() { b"[]" } else { b"]" });
        }
        other => {
            let mut text = Vec::new();
            push_value(&mut text, other, data_type, Words::Redis).ok();
            push_json_text(out, &String::from_utf8_lossy(&text));
        }
    }
}

/// A text between quotes.
pub(crate) fn push_json_text(out: &mut Vec<u8>, text: &str) {
    // Writing a text into memory does not fail.
    serde_json::to_writer(&mut *out, text).ok();
}

#[cfg(test)]
mod tests {
    use relation::Rows;

    use super::*;

    fn written(data_type: DataType, value: &Value, words: Words) -> String {
        let layout = Layout::new(vec![data_type]);
        let mut rows = Rows::new();
        rows.push_values(&layout, std::slice::from_ref(value)).expect("a row");
        let mut out = Vec::new();
        match push(&mut out, &layout, rows.get(0), 0, words) {
            Ok(()) => String::from_utf8(out).expect("text"),
            Err(refusal) => refusal.reason,
        }
    }

    fn all(data_type: DataType, value: &Value) -> [String; 3] {
        [Words::Postgres, Words::Mysql, Words::Redis].map(|words| written(data_type, value, words))
    }

    #[test]
    fn numbers_keep_all_digits() {
        let decimal = |unscaled, scale| {
            let data_type = DataType::Decimal { precision: 38, scale };
            written(data_type, &Value::Decimal(unscaled, scale), Words::Postgres)
        };
        assert_eq!(decimal(0, 2), "0.00");
        assert_eq!(decimal(-5, 3), "-0.005");
        assert_eq!(decimal(-100, 2), "-1.00");
        assert_eq!(decimal(7, -2), "700");
        assert_eq!(decimal(i128::MAX / 2, 10), "8507059173023461586584365185.7942052863");
        assert_eq!(all(DataType::Int64, &Value::Int(i64::MIN)), ["-9223372036854775808"; 3]);
        assert_eq!(all(DataType::UInt64, &Value::UInt(u64::MAX)), ["18446744073709551615"; 3]);
        assert_eq!(all(DataType::Float64, &Value::Float(2.0)), ["2"; 3]);
        assert_eq!(all(DataType::Float64, &Value::Float(1e300)), ["1e300"; 3]);
        assert_eq!(all(DataType::Float32, &Value::Float(f64::from(0.1_f32))), ["0.1"; 3]);
        let nan = all(DataType::Float64, &Value::Float(f64::NAN));
        assert_eq!(nan, ["NaN", "MySQL has no infinite numbers and no NaN", "NaN"]);
    }

    #[test]
    fn dates_are_exact_or_before_all_others() {
        let date = |text: &str| all(DataType::Date, &Value::parse(DataType::Date, text).expect("a date"));
        assert_eq!(date("2026-02-28"), ["2026-02-28"; 3]);
        assert_eq!(date("0000-00-00"), ["-infinity", "0000-00-00", "-infinity"]);
        assert_eq!(date("2020-00-07"), ["-infinity", "2020-00-07", "-infinity"]);
        assert_eq!(date("0000-02-03"), ["0001-02-03 BC", "0000-02-03", "0001-02-03 BC"]);
        assert_eq!(date("12345-06-07"), ["12345-06-07", "MySQL has years from 0 to 9999", "12345-06-07"]);
        let stamp =
            |text: &str| all(DataType::TimestampTz, &Value::parse(DataType::TimestampTz, text).expect("a time"));
        let plain = "2026-02-28 01:02:03.000450";
        assert_eq!(stamp("2026-02-28 01:02:03.00045"), [&format!("{plain}+00"), plain, &format!("{plain}+00")]);
        assert_eq!(stamp("2020-02-00 10:00:00"), ["-infinity", "2020-02-00 10:00:00", "-infinity"]);
        let ides = relation::value::days_from_civil(-43, 3, 15) * DAY_US + DAY_US / 2;
        assert_eq!(all(DataType::TimestampTz, &Value::TimestampTz(ides))[0], "0044-03-15 12:00:00+00 BC");
    }

    #[test]
    fn bytes_truth_and_lists_have_the_words_of_each() {
        let bytes = Value::Bytes(vec![0, 255]);
        assert_eq!(written(DataType::Bytes, &bytes, Words::Postgres), "\\x00ff");
        assert_eq!(written(DataType::Bytes, &bytes, Words::Mysql), "00ff");
        assert_eq!(all(DataType::Bool, &Value::Bool(true)), ["true", "1", "true"]);
        let zero = Value::Text("a\0b".to_owned());
        assert_eq!(all(DataType::Text, &zero), ["PostgreSQL has no text with a zero byte in it", "a\0b", "a\0b"]);
        let texts = DataType::Text.array().expect("an array");
        let list = Value::Array(vec![Value::Text("a\"b".to_owned()), Value::Null]);
        assert_eq!(all(texts, &list), ["[\"a\\\"b\",null]"; 3]);
        assert_eq!(all(texts, &Value::Array(Vec::new())), ["[]"; 3]);
        let days = DataType::Date.array().expect("an array").array().expect("an array");
        let list = Value::Array(vec![Value::Array(vec![Value::Date(0)]), Value::Array(vec![Value::Date(1)])]);
        assert_eq!(all(days, &list)[0], "[[\"1970-01-01\"],[\"1970-01-02\"]]");
    }
}
