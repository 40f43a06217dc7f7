//! MySQL's binary JSON as text, spelled as the server itself spells it.
//!
//! A document is a type byte and its data. Objects and arrays begin with a count, their size and a table of entries;
//! an entry is the type of a value and its offset, or the value itself where it is small. Offsets count from the
//! container's own start, so a value can be read, printed or copied without its surroundings: [`Raw`].
//!
//! Member order is the server's (shorter keys first, then by bytes), spacing `", "` and `": "`, doubles in the shortest
//! form that reads back the same. So the text equals what `SELECT` shows, and a snapshot can take the server's text.

use crate::base64;

use super::number::DecimalForm;
use super::temporal::{self, two_digits, write_fraction};

/// Nesting that MySQL itself refuses to exceed.
const DEPTH_MAX: usize = 100;

/// The bytes are no JSON document of MySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

type Result<T> = std::result::Result<T, Damaged>;

const SMALL_OBJECT: u8 = 0;
const LARGE_OBJECT: u8 = 1;
const SMALL_ARRAY: u8 = 2;
const LARGE_ARRAY: u8 = 3;
const LITERAL: u8 = 4;
const INT16: u8 = 5;
const UINT16: u8 = 6;
const INT32: u8 = 7;
const UINT32: u8 = 8;
const INT64: u8 = 9;
const UINT64: u8 = 10;
const DOUBLE: u8 = 11;
const STRING: u8 = 12;
const OPAQUE: u8 = 15;

/// Column types that an opaque value can carry and that have a spelling of their own.
const TYPE_TIMESTAMP: u8 = 7;
const TYPE_DATE: u8 = 10;
const TYPE_TIME: u8 = 11;
const TYPE_DATETIME: u8 = 12;
const TYPE_DECIMAL: u8 = 246;

/// How a document is spelled.
#[derive(Clone, Copy)]
pub(crate) struct Spelling {
    /// What stands between members, and between a key and its value.
    pub(crate) comma: &'static [u8],
    pub(crate) colon: &'static [u8],
    pub(crate) double: fn(f64, &mut Vec<u8>),
    /// Bytes that JSON has no word for are said to be of their type.
    pub(crate) names_types: bool,
}

impl Spelling {
    /// As the server spells it.
    pub(crate) const SERVER: Self = Self { comma: b", ", colon: b": ", double: write_double, names_types: true };
}

/// One value within a document: its type and where its data begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raw<'a> {
    kind: u8,
    data: &'a [u8],
}

impl<'a> Raw<'a> {
    /// The value of a whole document. An empty one is what a failed `ALTER` left behind; the server reads it as null.
    pub(crate) fn document(bytes: &'a [u8]) -> Self {
        match bytes.split_first() {
            Some((kind, data)) => Self { kind: *kind, data },
            None => Self { kind: LITERAL, data: &[0] },
        }
    }

    /// The members, if it is an object.
    pub(super) fn object(self) -> Result<Option<Container<'a>>> {
        match self.kind {
            SMALL_OBJECT | LARGE_OBJECT => Container::new(self.data, self.kind == LARGE_OBJECT, true).map(Some),
            _ => Ok(None),
        }
    }

    /// The elements, if it is an array.
    pub(super) fn array(self) -> Result<Option<Container<'a>>> {
        match self.kind {
            SMALL_ARRAY | LARGE_ARRAY => Container::new(self.data, self.kind == LARGE_ARRAY, false).map(Some),
            _ => Ok(None),
        }
    }

    /// Appends the value's text, as the server spells it.
    pub(super) fn write(self, out: &mut Vec<u8>) -> Result<()> {
        self.write_at(0, Spelling::SERVER, out)
    }

    pub(crate) fn write_at(self, depth: usize, spelling: Spelling, out: &mut Vec<u8>) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Damaged);
        }
        match self.kind {
            SMALL_OBJECT | LARGE_OBJECT => {
                let container = Container::new(self.data, self.kind == LARGE_OBJECT, true)?;
                out.push(b'{');
                for i in 0..container.count {
                    separate(i, spelling, out);
                    write_string(container.key(i)?, out);
                    out.extend_from_slice(spelling.colon);
                    container.value(i)?.write_at(depth + 1, spelling, out)?;
                }
                out.push(b'}');
            }
            SMALL_ARRAY | LARGE_ARRAY => {
                let container = Container::new(self.data, self.kind == LARGE_ARRAY, false)?;
                out.push(b'[');
                for i in 0..container.count {
                    separate(i, spelling, out);
                    container.value(i)?.write_at(depth + 1, spelling, out)?;
                }
                out.push(b']');
            }
            _ => self.write_scalar(spelling, out)?,
        }
        Ok(())
    }

    fn write_scalar(self, spelling: Spelling, out: &mut Vec<u8>) -> Result<()> {
        match self.kind {
            LITERAL => out.extend_from_slice(match self.data.first() {
                Some(0) => b"null",
                Some(1) => b"true",
                Some(2) => b"false",
                _ => return Err(Damaged),
            }),
            INT16 => write_display(i16::from_le_bytes(fixed(self.data)?), out),
            UINT16 => write_display(u16::from_le_bytes(fixed(self.data)?), out),
            INT32 => write_display(i32::from_le_bytes(fixed(self.data)?), out),
            UINT32 => write_display(u32::from_le_bytes(fixed(self.data)?), out),
            INT64 => write_display(i64::from_le_bytes(fixed(self.data)?), out),
            UINT64 => write_display(u64::from_le_bytes(fixed(self.data)?), out),
            DOUBLE => (spelling.double)(f64::from_le_bytes(fixed(self.data)?), out),
            STRING => write_string(sized(self.data)?, out),
            OPAQUE => {
                let (kind, rest) = self.data.split_first().ok_or(Damaged)?;
                write_opaque(*kind, sized(rest)?, spelling, out)?;
            }
            _ => return Err(Damaged),
        }
        Ok(())
    }
}

/// An object or array: its entries by number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Container<'a> {
    data: &'a [u8],
    large: bool,
    object: bool,
    pub(super) count: usize,
}

impl<'a> Container<'a> {
    fn new(data: &'a [u8], large: bool, object: bool) -> Result<Self> {
        let mut container = Self { data, large, object, count: 0 };
        container.count = container.offset(0)?;
        let size = container.offset(container.width())?;
        container.data = data.get(..size).ok_or(Damaged)?;
        // The entries must lie within the container before anybody counts on their number.
        if container.value_entry(container.count) > size {
            return Err(Damaged);
        }
        Ok(container)
    }

    fn width(&self) -> usize {
        if self.large { 4 } else { 2 }
    }

    /// The offset or size that is stored at `at`.
    fn offset(&self, at: usize) -> Result<usize> {
        let bytes = self.data.get(at..).ok_or(Damaged)?;
        if self.large {
            Ok(u32::from_le_bytes(fixed(bytes)?) as usize)
        } else {
            Ok(usize::from(u16::from_le_bytes(fixed(bytes)?)))
        }
    }

    fn value_entry(&self, i: usize) -> usize {
        let keys = if self.object { self.count * (self.width() + 2) } else { 0 };
        2 * self.width() + keys + i * (1 + self.width())
    }

    /// The key of member `i` of an object.
    pub(super) fn key(&self, i: usize) -> Result<&'a [u8]> {
        let entry = 2 * self.width() + i * (self.width() + 2);
        let start = self.offset(entry)?;
        let length = u16::from_le_bytes(fixed(self.data.get(entry + self.width()..).ok_or(Damaged)?)?);
        self.data.get(start..start + usize::from(length)).ok_or(Damaged)
    }

    /// The value of entry `i`.
    pub(super) fn value(&self, i: usize) -> Result<Raw<'a>> {
        let entry = self.value_entry(i);
        let kind = *self.data.get(entry).ok_or(Damaged)?;
        let inline = matches!(kind, LITERAL | INT16 | UINT16) || (self.large && matches!(kind, INT32 | UINT32));
        let start = if inline { entry + 1 } else { self.offset(entry + 1)? };
        // A value behind its own entry only: no document can lead back into itself.
        if start <= entry {
            return Err(Damaged);
        }
        Ok(Raw { kind, data: self.data.get(start..).ok_or(Damaged)? })
    }
}

/// Appends what stands before every entry but the first.
pub(super) fn separate(i: usize, spelling: Spelling, out: &mut Vec<u8>) {
    if i > 0 {
        out.extend_from_slice(spelling.comma);
    }
}

/// The first `N` bytes.
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.first_chunk().copied().ok_or(Damaged)
}

/// Data that is preceded by its length, seven bits a byte, lowest first.
fn sized(bytes: &[u8]) -> Result<&[u8]> {
    let mut length = 0;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return bytes.get(i + 1..).and_then(|rest| rest.get(..length)).ok_or(Damaged);
        }
    }
    Err(Damaged)
}

fn write_display(number: impl std::fmt::Display, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// A string with the server's escapes.
pub(super) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(text) {
        Ok(_) => write_quoted(text, b"0123456789abcdef", out),
        Err(_) => write_quoted(String::from_utf8_lossy(text).as_bytes(), b"0123456789abcdef", out),
    }
}

/// Appends UTF-8 in quotes, with the escapes that are needed and no others; what has no letter is told by these digits.
pub(crate) fn write_quoted(text: &[u8], digits: &[u8; 16], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut done = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[done..at]);
        done = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            8 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&text[done..]);
    out.push(b'"');
}

/// A double as the server writes it: the shortest digits that read back the same, plain for moderate exponents, and
/// always recognisable as no integer.
pub(super) fn write_double(number: f64, out: &mut Vec<u8>) {
    /// Significant digits that always survive a double; beyond this many places the server turns to exponents.
    const PLAIN_PLACES: i32 = 15;
    let scientific = shortest(number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    if number.is_sign_negative() {
        out.push(b'-');
    }
    if number == 0.0 {
        return out.extend_from_slice(b"0.0");
    }
    let plain = point > -PLAIN_PLACES && (point <= PLAIN_PLACES || length > point);
    if !plain {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        return out.extend_from_slice(format!("{first}{dot}{rest}e{}", point - 1).as_bytes());
    }
    let text = match usize::try_from(point) {
        Ok(0) | Err(_) => format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
        Ok(point) if point < digits.len() => {
            let (whole, fraction) = digits.split_at(point);
            format!("{whole}.{fraction}")
        }
        Ok(point) => format!("{digits:0<point$}.0"),
    };
    out.extend_from_slice(text.as_bytes());
}

/// The shortest digits that read back as the same number, and where two are equally near, the even one.
fn shortest(number: f64) -> String {
    /// Up to so many digits no two decimals are the same double, so that none are equally near.
    const DISTINCT_DIGITS: usize = 15;
    let found = format!("{number:e}");
    let digits = found.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count();
    if digits <= DISTINCT_DIGITS {
        return found;
    }
    let even = format!("{number:.*e}", digits - 1);
    if even.parse() == Ok(number) { even } else { found }
}

/// A value of a column type that JSON has no word for.
fn write_opaque(kind: u8, data: &[u8], spelling: Spelling, out: &mut Vec<u8>) -> Result<()> {
    match kind {
        TYPE_DECIMAL => {
            let (&[precision, scale], digits) = data.split_first_chunk().ok_or(Damaged)?;
            let text = DecimalForm::new(precision, scale).text(digits).ok_or(Damaged)?;
            out.extend_from_slice(text.as_bytes());
        }
        TYPE_DATE | TYPE_TIME | TYPE_DATETIME | TYPE_TIMESTAMP => {
            out.push(b'"');
            write_packed_time(kind, i64::from_le_bytes(fixed(data)?), out);
            out.push(b'"');
        }
        _ => {
            out.push(b'"');
            if spelling.names_types {
                out.extend_from_slice(format!("base64:type{kind}:").as_bytes());
            }
            base64::push(out, data);
            out.push(b'"');
        }
    }
    Ok(())
}

/// The server's packed time: 24 bits of microseconds below, then the parts as a DATETIME or TIME column has them.
fn write_packed_time(kind: u8, packed: i64, out: &mut Vec<u8>) {
    let magnitude = packed.unsigned_abs();
    let (whole, micros) = (magnitude >> 24, magnitude & 0xff_ffff);
    if kind == TYPE_TIME {
        let seconds = ((whole >> 12 & 0x3ff) * 60 + (whole >> 6 & 63)) * 60 + (whole & 63);
        let time = (seconds * 1_000_000 + micros).cast_signed();
        return temporal::write_time(if packed < 0 { -time } else { time }, 6, out);
    }
    let months = whole >> 22;
    out.extend_from_slice(format!("{:04}-", months / 13).as_bytes());
    two_digits(months % 13, out);
    out.push(b'-');
    two_digits(whole >> 17 & 31, out);
    if kind != TYPE_DATE {
        for (separator, shift, mask) in [(b' ', 12, 31), (b':', 6, 63), (b':', 0, 63)] {
            out.push(separator);
            two_digits(whole >> shift & mask, out);
        }
        write_fraction(micros, 6, out);
    }
}
