//! Single values: from the bytes of an image into a column of a row.
//!
//! [`Read::value`] is the innermost loop of the capture: each arm takes its bytes off the front of what is left of the
//! image and writes the column. A snapshot's values of the same kinds end in the same functions.

use relation::row::RowWriter;

use super::charset::{UNCLEAR, Unclear};
use super::compressed::inflate_column;
use super::json::Raw;
use super::plan::{Content, Read};
use super::{geometry, temporal, word};

/// Why a value is not read.
pub(super) enum Fault {
    /// The image ends within it.
    Short,
    /// Its bytes mean nothing; the next value begins behind them.
    Value(&'static str),
}

impl Fault {
    /// Why, for a value that is whole.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Short => "It ends too early.",
            Self::Value(reason) => reason,
        }
    }
}

impl Read {
    /// Reads the value at the start of `rest`, moves behind it and writes it into column `i`.
    #[inline]
    pub(super) fn value(&self, i: usize, rest: &mut &[u8], row: &mut RowWriter<'_>) -> Result<(), Fault> {
        match self {
            Self::I8 => row.fixed(i, &i16::from(i8::from_le_bytes(take(rest)?)).to_le_bytes()),
            Self::U8 => row.fixed(i, &i16::from(u8::from_le_bytes(take(rest)?)).to_le_bytes()),
            Self::I16 => row.fixed(i, &take::<2>(rest)?),
            Self::U16 => row.fixed(i, &i32::from(u16::from_le_bytes(take(rest)?)).to_le_bytes()),
            Self::I24 => {
                let [a, b, c] = take(rest)?;
                row.fixed(i, &(i32::from_le_bytes([0, a, b, c]) >> 8).to_le_bytes());
            }
            Self::U24 => {
                let [a, b, c] = take(rest)?;
                row.fixed(i, &[a, b, c, 0]);
            }
            Self::I32 | Self::F32 => row.fixed(i, &take::<4>(rest)?),
            Self::U32 => row.fixed(i, &i64::from(u32::from_le_bytes(take(rest)?)).to_le_bytes()),
            Self::I64 | Self::U64 | Self::F64 => row.fixed(i, &take::<8>(rest)?),
            Self::Decimal(form) => {
                let bytes = bytes(rest, form.bytes)?;
                form.write(i, bytes, row).ok_or(Fault::Value("Its digits are no decimal number."))?;
            }
            Self::Bit { width } => row.fixed(i, &big_endian(bytes(rest, *width)?).to_le_bytes()),
            Self::Year => {
                let [year] = take(rest)?;
                row.fixed(i, &year_number(year).to_le_bytes());
            }
            Self::Bound { width } => drop(bytes(rest, *width)?),
            Self::Passed { span, .. } => span.pass(rest)?,
            Self::Utf8 { prefix } => write_utf8(i, variable(rest, *prefix)?, row),
            Self::Variable { prefix, content } => {
                content.write(i, variable(rest, *prefix)?, row).map_err(Fault::Value)?
            }
            Self::Compressed { prefix, content } => {
                let plain = inflate_column(variable(rest, *prefix)?);
                let plain = plain.ok_or(Fault::Value("Its compressed bytes cannot be unpacked."))?;
                content.write(i, &plain, row).map_err(Fault::Value)?;
            }
            Self::Enum { width, labels } => write_enum(i, little_endian(bytes(rest, *width)?), labels, row)?,
            Self::Set { width, labels } => write_set(i, little_endian(bytes(rest, *width)?), labels, row)?,
            _ => return self.moment(i, rest, row),
        }
        Ok(())
    }

    /// Reads a date or time.
    #[inline]
    fn moment(&self, i: usize, rest: &mut &[u8], row: &mut RowWriter<'_>) -> Result<(), Fault> {
        let micros = match self {
            Self::Date { unreal } => {
                let [a, b, c] = take(rest)?;
                let date = temporal::date(u32::from_le_bytes([a, b, c, 0]));
                match unreal.days(&date).map_err(Fault::Value)? {
                    Some(days) => row.fixed(i, &days.to_le_bytes()),
                    None => row.null(i),
                }
                return Ok(());
            }
            Self::DateTime { digits, unreal } => {
                let whole = big_endian(&take::<5>(rest)?);
                unreal.micros(&temporal::datetime(whole, fraction(rest, *digits)?))
            }
            Self::Timestamp { digits, unreal } => {
                let seconds = u32::from_be_bytes(take(rest)?);
                unreal.timestamp(seconds, fraction(rest, *digits)?)
            }
            Self::OldDateTime { unreal } => unreal.micros(&temporal::old_datetime(u64::from_le_bytes(take(rest)?))),
            Self::OldTimestamp { unreal } => unreal.timestamp(u32::from_le_bytes(take(rest)?), 0),
            Self::Time { digits } => {
                let stored = big_endian(bytes(rest, 3 + usize::from(digits.div_ceil(2)))?);
                row.variable_with(i, |out| temporal::write_time(temporal::time(stored, *digits), *digits, out));
                return Ok(());
            }
            _ => {
                let [a, b, c] = take(rest)?;
                let number = i32::from_le_bytes([0, a, b, c]) >> 8;
                row.variable_with(i, |out| temporal::write_time(temporal::old_time(number), 0, out));
                return Ok(());
            }
        };
        match micros.map_err(Fault::Value)? {
            Some(micros) => row.fixed(i, &micros.to_le_bytes()),
            None => row.null(i),
        }
        Ok(())
    }
}

impl Content {
    /// Writes a value of this content into column `i`.
    pub(super) fn write(self, i: usize, bytes: &[u8], row: &mut RowWriter<'_>) -> Result<(), &'static str> {
        match self {
            Self::Text(charset, Unclear::Shown) => row.variable_with(i, |out| charset.decode(bytes, out)),
            Self::Text(charset, Unclear::Refused) => {
                let mut is_clear = false;
                row.variable_with(i, |out| is_clear = charset.decode_key(bytes, out));
                if !is_clear {
                    return Err(UNCLEAR);
                }
            }
            Self::Bytes => row.variable(i, bytes),
            Self::Padded(length) => row.variable_with(i, |out| {
                out.extend_from_slice(bytes);
                out.resize(out.len() + length.saturating_sub(bytes.len()), 0);
            }),
            Self::Json => {
                let mut result = Ok(());
                row.variable_with(i, |out| result = Raw::document(bytes).write(out));
                result.map_err(|_| "Its bytes are no JSON document.")?;
            }
            Self::Geometry => {
                let mut result = None;
                row.variable_with(i, |out| result = geometry::write(bytes, out));
                result.ok_or("Its bytes are no geometry.")?;
            }
            Self::Vector => {
                let text = word::vector(bytes).ok_or("Its bytes are no vector.")?;
                row.variable(i, text.as_bytes());
            }
            Self::Uuid => row.variable(i, word::uuid(filled(bytes)?).as_bytes()),
            Self::Inet4 => row.variable(i, word::inet4(filled(bytes)?).as_bytes()),
            Self::Inet6 => row.variable(i, word::inet6(filled(bytes)?).as_bytes()),
        }
        Ok(())
    }
}

/// Text that is UTF-8 already, unless it is broken.
#[inline]
pub(super) fn write_utf8(i: usize, bytes: &[u8], row: &mut RowWriter<'_>) {
    match std::str::from_utf8(bytes) {
        Ok(_) => row.variable(i, bytes),
        Err(_) => row.variable(i, String::from_utf8_lossy(bytes).as_bytes()),
    }
}

/// An enum by its number: the label, or NULL for 0, which stands for a value that was refused when it was written.
pub(super) fn write_enum(i: usize, number: u64, labels: &[String], row: &mut RowWriter<'_>) -> Result<(), Fault> {
    let Some(index) = number.checked_sub(1) else {
        row.null(i);
        return Ok(());
    };
    let label = usize::try_from(index).ok().and_then(|index| labels.get(index));
    row.variable(i, label.ok_or(Fault::Value("Its number is beyond the labels of the enum."))?.as_bytes());
    Ok(())
}

/// A set by its bits: the labels in order of definition, parted by commas. Where nothing stands yet, as behind an empty label, a server
/// writes no comma.
pub(super) fn write_set(i: usize, bits: u64, labels: &[String], row: &mut RowWriter<'_>) -> Result<(), Fault> {
    if labels.len() < 64 && bits >> labels.len() != 0 {
        return Err(Fault::Value("It has bits beyond the labels of the set."));
    }
    row.variable_with(i, |out| {
        let mut is_empty = true;
        for (_, label) in labels.iter().take(64).enumerate().filter(|(at, _)| bits >> at & 1 == 1) {
            if !is_empty {
                out.push(b',');
            }
            is_empty &= label.is_empty();
            out.extend_from_slice(label.as_bytes());
        }
    });
    Ok(())
}

/// The year of its byte: 0 is the year 0, the others count from 1900.
fn year_number(stored: u8) -> i32 {
    if stored == 0 { 0 } else { 1900 + i32::from(stored) }
}

/// A value whose trailing zeros the log has cut off.
fn filled<const N: usize>(bytes: &[u8]) -> Result<[u8; N], &'static str> {
    let mut out = [0; N];
    out.get_mut(..bytes.len()).ok_or("It is longer than its type.")?.copy_from_slice(bytes);
    Ok(out)
}

#[inline]
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (bytes, behind) = rest.split_first_chunk::<N>().ok_or(Fault::Short)?;
    *rest = behind;
    Ok(*bytes)
}

#[inline]
pub(super) fn bytes<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Fault> {
    let (bytes, behind) = rest.split_at_checked(length).ok_or(Fault::Short)?;
    *rest = behind;
    Ok(bytes)
}

/// Bytes behind a length of `prefix` bytes.
#[inline]
pub(super) fn variable<'a>(rest: &mut &'a [u8], prefix: usize) -> Result<&'a [u8], Fault> {
    let length = match prefix {
        1 => usize::from(u8::from_le_bytes(take(rest)?)),
        2 => usize::from(u16::from_le_bytes(take(rest)?)),
        _ => usize::try_from(little_endian(bytes(rest, prefix)?)).map_err(|_| Fault::Short)?,
    };
    bytes(rest, length)
}

/// The stored fraction of a second.
#[inline]
fn fraction(rest: &mut &[u8], digits: u8) -> Result<u32, Fault> {
    if digits == 0 {
        return Ok(0);
    }
    Ok(temporal::fraction_micros(big_endian(bytes(rest, usize::from(digits.div_ceil(2)))?), digits))
}

#[inline]
fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[inline]
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
