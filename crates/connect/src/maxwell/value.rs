//! Values as Maxwell prints them: from the bytes of a row's image straight to JSON.
//!
//! The law: the default prints what the value is; [`Style::compat`] prints what Maxwell makes of it, where that is something
//! else. Nothing else differs between the two, and no value of either is lost.

use crate::base64;
use crate::source::mysql::log::parts::{
    Charset, Content, Parts, Raw, Read, Span, Spelling, geometry, inflate_column, json_diff, temporal, word,
    write_quoted,
};

use super::java;

/// How values are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Style {
    /// As Maxwell does, also where it is wrong.
    pub(crate) compat: bool,
    /// Dates with a zero part are null.
    pub(crate) null_zero_dates: bool,
}

impl Style {
    /// By which partitions are chosen, whatever is printed.
    pub(crate) const HASHED: Self = Self { compat: true, null_zero_dates: false };

    fn spelling(self) -> Spelling {
        let double = if self.compat { java::write_expanded } else { java::write_shortest };
        Spelling { comma: b",", colon: b":", double, names_types: false }
    }
}

/// Why a value cannot be printed, as a sentence.
pub(crate) type Fault = &'static str;

/// How far a value's bytes reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Fixed(usize),
    /// Behind a length of so many bytes.
    Prefixed(usize),
}

impl Width {
    /// That of the values that a reader reads.
    pub(crate) fn of(read: &Read) -> Self {
        let fraction = |digits: &u8| usize::from(digits.div_ceil(2));
        Self::Fixed(match read {
            Read::I8 | Read::U8 | Read::Year => 1,
            Read::I16 | Read::U16 => 2,
            Read::I24 | Read::U24 | Read::Date { .. } | Read::OldTime => 3,
            Read::I32 | Read::U32 | Read::F32 | Read::OldTimestamp { .. } => 4,
            Read::I64 | Read::U64 | Read::F64 | Read::OldDateTime { .. } => 8,
            Read::Decimal(form) => form.bytes,
            Read::Bit { width } | Read::Enum { width, .. } | Read::Set { width, .. } | Read::Bound { width } => *width,
            Read::DateTime { digits, .. } => 5 + fraction(digits),
            Read::Timestamp { digits, .. } => 4 + fraction(digits),
            Read::Time { digits } => 3 + fraction(digits),
            Read::Passed { span: Span::Bytes(width), .. } => *width,
            Read::Passed { span: Span::Prefixed(prefix), .. } => return Self::Prefixed(*prefix),
            Read::Utf8 { prefix } | Read::Variable { prefix, .. } | Read::Compressed { prefix, .. } => {
                return Self::Prefixed(*prefix);
            }
        })
    }

    /// Takes a value's bytes, without the length before them, off the front; none if they end too early.
    #[inline]
    pub(crate) fn take<'a>(self, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let length = match self {
            Self::Fixed(width) => width,
            Self::Prefixed(prefix) => {
                let (head, behind) = rest.split_at_checked(prefix)?;
                *rest = behind;
                usize::try_from(little_endian(head)).ok()?
            }
        };
        let (value, behind) = rest.split_at_checked(length)?;
        *rest = behind;
        Some(value)
    }
}

/// Appends a value's JSON; `bytes` are those that [`Width::take`] takes.
#[inline]
pub(crate) fn write(read: &Read, is_json: bool, bytes: &[u8], style: Style, out: &mut Vec<u8>) -> Result<(), Fault> {
    match read {
        Read::I8 => write_signed(i64::from(i8::from_le_bytes(fixed(bytes)?)), out),
        Read::I16 => write_signed(i64::from(i16::from_le_bytes(fixed(bytes)?)), out),
        Read::I24 => {
            let [a, b, c] = fixed(bytes)?;
            write_signed(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8), out);
        }
        Read::I32 => write_signed(i64::from(i32::from_le_bytes(fixed(bytes)?)), out),
        Read::I64 => write_signed(i64::from_le_bytes(fixed(bytes)?), out),
        Read::U8 | Read::U16 | Read::U24 | Read::U32 | Read::U64 => write_unsigned(little_endian(bytes), out),
        Read::F32 => {
            let number = f32::from_le_bytes(fixed(bytes)?);
            if style.compat { java::write_float(number, out) } else { java::write_shortest_float(number, out) }
        }
        Read::F64 => {
            let number = f64::from_le_bytes(fixed(bytes)?);
            if style.compat { java::write_double(number, out) } else { java::write_shortest(number, out) }
        }
        Read::Decimal(form) => {
            const BAD: Fault = "Its digits are no decimal number.";
            if style.compat {
                let mut plain = Vec::new();
                form.write_text(bytes, &mut plain).ok_or(BAD)?;
                java::write_decimal(&plain, out);
            } else {
                form.write_text(bytes, out).ok_or(BAD)?;
            }
        }
        Read::Bit { .. } => write_bits(bytes, style, out),
        Read::Year => {
            let [year] = fixed(bytes)?;
            write_unsigned(if year == 0 && !style.compat { 0 } else { 1900 + u64::from(year) }, out);
        }
        Read::Enum { labels, .. } => match little_endian(bytes).checked_sub(1) {
            None => out.extend_from_slice(b"null"),
            Some(index) => {
                let label = usize::try_from(index).ok().and_then(|index| labels.get(index));
                write_text(label.ok_or("Its number is beyond the labels of the enum.")?, out);
            }
        },
        Read::Set { labels, .. } => write_set(little_endian(bytes), labels, out)?,
        Read::Utf8 { .. } if is_json => write_inlined(bytes, out),
        Read::Utf8 { .. } => write_utf8(bytes, out),
        Read::Variable { content, .. } => write_content(*content, is_json, bytes, style, out)?,
        Read::Compressed { content, .. } => {
            let plain = inflate_column(bytes).ok_or("Its compressed bytes cannot be unpacked.")?;
            write_content(*content, is_json, &plain, style, out)?;
        }
        Read::Passed { .. } => out.extend_from_slice(b"null"),
        _ => return write_moment(read, bytes, style, out),
    }
    Ok(())
}

/// A document that the log describes by its differences to the one before.
pub(crate) fn write_changed(before: &[u8], diffs: &[u8], style: Style, out: &mut Vec<u8>) -> Result<(), Fault> {
    json_diff::apply(before, diffs, style.spelling(), out)
        .map_err(|_| "The differences do not fit the document before.")
}

fn write_content(content: Content, is_json: bool, bytes: &[u8], style: Style, out: &mut Vec<u8>) -> Result<(), Fault> {
    match content {
        Content::Text(charset, _) => write_of_charset(charset, is_json, bytes, style, out),
        // What the log has cut off is not put back: Maxwell does not either.
        Content::Bytes | Content::Padded(_) => write_bytes(bytes, out),
        Content::Json => {
            let written = Raw::document(bytes).write_at(0, style.spelling(), out);
            written.map_err(|_| "Its bytes are no JSON document.")?;
        }
        Content::Geometry => {
            out.push(b'"');
            geometry::write(bytes, out).ok_or("Its bytes are no geometry.")?;
            out.push(b'"');
        }
        Content::Vector => {
            out.extend_from_slice(word::vector(bytes).ok_or("Its bytes are no vector.")?.as_bytes());
        }
        Content::Uuid => write_text(&word::uuid(filled(bytes)?), out),
        Content::Inet4 => write_text(&word::inet4(filled(bytes)?), out),
        Content::Inet6 => write_text(&word::inet6(filled(bytes)?), out),
    }
    Ok(())
}

/// Text of any charset; `is_json`: it is JSON itself.
pub(crate) fn write_of_charset(charset: Charset, is_json: bool, bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    let mut text = Vec::with_capacity(bytes.len());
    charset.decode(bytes, &mut text);
    if style.compat && is_windows(charset) {
        text = without_controls(&text);
    }
    if is_json { write_inlined(&text, out) } else { write_utf8(&text, out) }
}

/// Whether Java reads a charset as Windows-1252, which has no character for five bytes.
fn is_windows(charset: Charset) -> bool {
    ["latin1", "ascii"].iter().any(|name| Charset::named(name) == Some(charset))
}

fn without_controls(text: &[u8]) -> Vec<u8> {
    let undefined = ['\u{81}', '\u{8d}', '\u{8f}', '\u{90}', '\u{9d}'];
    String::from_utf8_lossy(text).replace(undefined, "\u{fffd}").into_bytes()
}

pub(crate) fn write_bits(bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    let number = bytes.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    if style.compat && number.cast_signed() >= 0 {
        // It shifts ints, by the lowest five bits of the distance.
        let part = |(i, byte): (u32, &u8)| i64::from(i32::from(*byte).wrapping_shl(8 * i));
        return write_signed((0..).zip(bytes.iter().rev()).map(part).sum(), out);
    }
    write_unsigned(number, out);
}

pub(crate) fn write_set(bits: u64, labels: &[String], out: &mut Vec<u8>) -> Result<(), Fault> {
    if labels.len() < 64 && bits >> labels.len() != 0 {
        return Err("It has bits beyond the labels of the set.");
    }
    out.push(b'[');
    let mut is_first = true;
    for (_, label) in labels.iter().take(64).enumerate().filter(|(at, _)| bits >> at & 1 == 1) {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        write_text(label, out);
    }
    out.push(b']');
    Ok(())
}

/// Appends a date or time.
fn write_moment(read: &Read, bytes: &[u8], style: Style, out: &mut Vec<u8>) -> Result<(), Fault> {
    let big = |bytes: &[u8]| bytes.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    let micros = |stored: &[u8], digits: u8| temporal::fraction_micros(big(stored), digits);
    let (parts, digits) = match read {
        Read::Date { .. } => {
            let [a, b, c] = fixed(bytes)?;
            let date = temporal::date(u32::from_le_bytes([a, b, c, 0]));
            return write_date(&date, None, style, out);
        }
        Read::DateTime { digits, .. } => {
            let (whole, fraction) = bytes.split_at_checked(5).ok_or(SHORT)?;
            (temporal::datetime(big(whole), micros(fraction, *digits)), *digits)
        }
        Read::Timestamp { digits, .. } => {
            let (whole, fraction) = bytes.split_at_checked(4).ok_or(SHORT)?;
            (of_epoch(big(whole), micros(fraction, *digits)), *digits)
        }
        Read::Bound { .. } => {
            let (whole, fraction) = bytes.split_at_checked(4).ok_or(SHORT)?;
            (of_epoch(big(whole), micros(fraction, 6)), 6)
        }
        Read::OldDateTime { .. } => (temporal::old_datetime(u64::from_le_bytes(fixed(bytes)?)), 0),
        Read::OldTimestamp { .. } => (of_epoch(u64::from(u32::from_le_bytes(fixed(bytes)?)), 0), 0),
        Read::Time { digits } => {
            let time = match style.compat {
                true => sliced_time(bytes, *digits)?,
                false => temporal::time(big(bytes), *digits),
            };
            return write_time(time, *digits, out);
        }
        _ => {
            let [a, b, c] = fixed(bytes)?;
            let time = temporal::old_time(i32::from_le_bytes([0, a, b, c]) >> 8);
            return write_time(if style.compat { time.rem_euclid(DAY_US) } else { time }, 0, out);
        }
    };
    write_date(&parts, Some(digits), style, out)
}

const SHORT: Fault = "It ends too early.";
pub(crate) const DAY_US: i64 = 86_400_000_000;

pub(crate) fn write_time(micros: i64, digits: u8, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.push(b'"');
    temporal::write_time(micros, digits, out);
    out.push(b'"');
    Ok(())
}

/// A TIME as who passes over its sign reads it, within a day.
pub(crate) fn sliced_time(bytes: &[u8], digits: u8) -> Result<i64, Fault> {
    let (whole, fraction) = bytes.split_at_checked(3).ok_or(SHORT)?;
    let packed = whole.iter().fold(0, |sum: i64, byte| sum << 8 | i64::from(*byte));
    let seconds = ((packed >> 12 & 0x3ff) * 60 + (packed >> 6 & 63)) * 60 + (packed & 63);
    let stored = fraction.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    let micros = seconds * 1_000_000 + i64::from(temporal::fraction_micros(stored, digits));
    Ok(micros.rem_euclid(DAY_US))
}

/// A TIMESTAMP, of which the second 0 is the zero date.
fn of_epoch(seconds: u64, micros: u32) -> Parts {
    let Some(seconds) = u32::try_from(seconds).ok().filter(|seconds| *seconds > 0) else { return Parts::default() };
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = relation::value::civil_from_days(i64::from(days));
    Parts {
        year: u32::try_from(year).unwrap_or(0),
        month,
        day,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
        micros,
    }
}

/// A date, and a clock of so many digits. Any zero part makes it all zero.
pub(crate) fn write_date(parts: &Parts, digits: Option<u8>, style: Style, out: &mut Vec<u8>) -> Result<(), Fault> {
    if parts.year > 9_999 {
        return Err("Its parts are no date.");
    }
    let is_zero = parts.year == 0 || parts.month == 0 || parts.day == 0;
    if is_zero && style.null_zero_dates {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let parts = if is_zero { &Parts::default() } else { parts };
    let two = |number: u32, out: &mut Vec<u8>| temporal::two_digits(u64::from(number), out);
    out.push(b'"');
    two(parts.year / 100, out);
    two(parts.year % 100, out);
    out.push(b'-');
    two(parts.month, out);
    out.push(b'-');
    two(parts.day, out);
    if let Some(digits) = digits {
        for (sign, number) in [(b' ', parts.hour), (b':', parts.minute), (b':', parts.second)] {
            out.push(sign);
            two(number, out);
        }
        temporal::write_fraction(u64::from(parts.micros), digits, out);
    }
    out.push(b'"');
    Ok(())
}

/// Text that is JSON itself, on one line; what is none is a string.
pub(crate) fn write_inlined(bytes: &[u8], out: &mut Vec<u8>) {
    if serde_json::from_slice::<serde_json::Value>(bytes).is_err() {
        return write_utf8(bytes, out);
    }
    // A line's end is white space there: within a string it would be written otherwise.
    out.extend(bytes.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
}

pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    base64::push(out, bytes);
    out.push(b'"');
}

pub(crate) fn write_utf8(bytes: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => write_text(text, out),
        Err(_) => write_text(&String::from_utf8_lossy(bytes), out),
    }
}

/// Appends a text in quotes, with the escapes that are needed and no others.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    write_quoted(text.as_bytes(), b"0123456789ABCDEF", out);
}

/// Appends a number.
pub(crate) fn write_unsigned(number: u64, out: &mut Vec<u8>) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let (mut at, mut rest) = (DIGITS_MAX, number);
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The same with a sign.
pub(crate) fn write_signed(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    write_unsigned(number.unsigned_abs(), out);
}

/// What Java's `String.valueOf` makes of a value: by that partitions are chosen and rows are filtered.
pub(crate) fn java_text(read: &Read, is_json: bool, bytes: &[u8]) -> Result<String, Fault> {
    let mut json = Vec::new();
    write(read, is_json, bytes, Style::HASHED, &mut json)?;
    Ok(unquoted(&json, matches!(read, Read::Set { .. })))
}

/// A value's JSON without its quotes, and a list as Java shows it.
pub(crate) fn unquoted(json: &[u8], is_list: bool) -> String {
    let read = |json: &[u8]| serde_json::from_slice::<String>(json).ok();
    if is_list && let Ok(items) = serde_json::from_slice::<Vec<String>>(json) {
        return format!("[{}]", items.join(", "));
    }
    let text = if json.first() == Some(&b'"') { read(json) } else { None };
    text.unwrap_or_else(|| String::from_utf8_lossy(json).into_owned())
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    bytes.first_chunk().copied().ok_or(SHORT)
}

/// A value whose trailing zeros the log has cut off.
fn filled<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    let mut out = [0; N];
    out.get_mut(..bytes.len()).ok_or("It is longer than its type.")?.copy_from_slice(bytes);
    Ok(out)
}

#[inline]
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(read: &Read, bytes: &[u8]) -> [String; 2] {
        [false, true].map(|compat| {
            let mut out = Vec::new();
            write(read, false, bytes, Style { compat, ..Style::default() }, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn maxwell_prints_some_bits_and_times_and_years_otherwise() {
        let bit = Read::Bit { width: 8 };
        assert_eq!(printed(&bit, &(1_u64 << 32).to_be_bytes()), ["4294967296", "1"]);
        assert_eq!(printed(&bit, &(1_u64 << 31).to_be_bytes()), ["2147483648", "-2147483648"]);
        assert_eq!(printed(&bit, &u64::MAX.to_be_bytes()), ["18446744073709551615"; 2]);
        assert_eq!(printed(&Read::Bit { width: 2 }, &[0x36, 0x69]), ["13929"; 2]);
        let time = Read::Time { digits: 0 };
        // 838:59:59, and a second before midnight.
        assert_eq!(printed(&time, &[0xb4, 0x6e, 0xfb]), ["\"838:59:59\"", "\"22:59:59\""]);
        assert_eq!(printed(&time, &[0x7f, 0xff, 0xff]), ["\"-00:00:01\"", "\"16:04:03\""]);
        assert_eq!(printed(&time, &[0x80, 0xc5, 0xe1]), ["\"12:23:33\""; 2]);
        assert_eq!(printed(&Read::Year, &[0]), ["0", "1900"]);
        assert_eq!(printed(&Read::Year, &[126]), ["2026"; 2]);
    }

    #[test]
    fn text_has_the_escapes_that_it_needs() {
        let mut out = Vec::new();
        write_text("a\"b\\c/d\n\t\u{1}\u{1f}\u{7f}é😀", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"b\\\\c/d\\n\\t\\u0001\\u001F\u{7f}é😀\"");
    }

    #[test]
    fn lists_are_hashed_as_java_shows_them() {
        let labels = vec!["a".to_owned(), "b,c".to_owned()];
        assert_eq!(java_text(&Read::Set { width: 1, labels }, false, &[3]).unwrap(), "[a, b,c]");
        assert_eq!(java_text(&Read::F64, false, &1e7_f64.to_le_bytes()).unwrap(), "1.0E7");
        assert_eq!(unquoted(b"\"a\\nb\"", false), "a\nb");
    }
}
