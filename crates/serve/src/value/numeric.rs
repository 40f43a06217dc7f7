//! Decimals, from Arrow's integer with a scale to PostgreSQL's text and its digits of base 10,000, and back.

use std::fmt::{self, Write as _};

use arrow::array::ArrayRef;
use arrow::array::{Decimal128Array, Decimal256Array};
use arrow::datatypes::i256;
use bytes::{BufMut, BytesMut};
use std::sync::Arc;

use crate::reader::SqlError;

/// The digits of a decimal without sign and point, up to the 77 of 256 bits.
pub(crate) struct Digits {
    negative: bool,
    scale: i8,
    bytes: [u8; 80],
    len: usize,
}

impl Digits {
    pub(crate) fn new(unscaled: &impl fmt::Display, scale: i8) -> Self {
        let mut digits = Self { negative: false, scale, bytes: [0; 80], len: 0 };
        let _ = write!(digits, "{unscaled}");
        digits
    }

    fn whole(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Digits before the point (with the zeros of a negative scale) and digits behind it (with leading zeros).
    fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let digits = self.whole();
        if self.scale <= 0 {
            let zeros = usize::from(self.scale.unsigned_abs());
            let zeros = if digits == b"0" { 0 } else { zeros };
            return ([digits, &vec![b'0'; zeros]].concat(), Vec::new());
        }
        let scale = usize::from(self.scale.unsigned_abs());
        match digits.len().checked_sub(scale) {
            Some(point) if point > 0 => (digits[..point].to_vec(), digits[point..].to_vec()),
            _ => (b"0".to_vec(), [&vec![b'0'; scale - digits.len()], digits].concat()),
        }
    }

    /// `-12.50`.
    pub(crate) fn text(&self, out: &mut BytesMut) {
        if self.negative {
            out.put_u8(b'-');
        }
        let digits = self.whole();
        let scale = usize::from(self.scale.unsigned_abs());
        if self.scale > 0 && digits.len() > scale {
            let (before, behind) = digits.split_at(digits.len() - scale);
            out.put_slice(before);
            out.put_u8(b'.');
            out.put_slice(behind);
            return;
        }
        let (before, behind) = self.parts();
        out.put_slice(&before);
        if !behind.is_empty() {
            out.put_u8(b'.');
            out.put_slice(&behind);
        }
    }

    /// Count of base-10,000 digits, weight of the first, sign, digits shown behind the point, then the digits.
    pub(crate) fn binary(&self, out: &mut BytesMut) {
        let (before, behind) = self.parts();
        let pad = (4 - before.len() % 4) % 4;
        let tail = (4 - behind.len() % 4) % 4;
        let all = [&vec![b'0'; pad], &before[..], &behind[..], &vec![b'0'; tail]].concat();
        let groups: Vec<i16> =
            all.chunks(4).map(|c| c.iter().fold(0, |sum, d| sum * 10 + i16::from(d - b'0'))).collect();
        let first = groups.iter().position(|g| *g != 0).unwrap_or(groups.len());
        let last = groups.iter().rposition(|g| *g != 0).map_or(first, |last| last + 1);
        // At most 77 digits and 127 zeros: every count below fits sixteen bits.
        let short = |n: usize| i16::try_from(n).unwrap_or(i16::MAX);
        let before_groups = short((pad + before.len()) / 4);
        let weight = if first == last { 0 } else { before_groups - 1 - short(first) };
        out.put_i16(short(last - first));
        out.put_i16(weight);
        out.put_u16(if self.negative { 0x4000 } else { 0 });
        out.put_i16(i16::from(self.scale.max(0)));
        for group in &groups[first..last] {
            out.put_i16(*group);
        }
    }
}

impl fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'-' {
                self.negative = true;
                continue;
            }
            *self.bytes.get_mut(self.len).ok_or(fmt::Error)? = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// A decimal of a client's text: `-12.50`, `1e3`. One element, of 38 digits where they suffice, else of 76.
pub(crate) fn from_text(text: &str) -> Result<ArrayRef, SqlError> {
    let wrong = || SqlError::new("22P02", format!("invalid input syntax for type numeric: \"{text}\""));
    let trimmed = text.trim();
    let (mantissa, exponent) = match trimmed.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| wrong())?),
        None => (trimmed, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (before, behind) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{before}{behind}");
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let scale = i32::try_from(behind.len()).map_err(|_| wrong())?.checked_sub(exponent).ok_or_else(wrong)?;
    from_digits(negative, &all, scale)
}

/// A decimal of digits and their scale.
fn from_digits(negative: bool, digits: &str, scale: i32) -> Result<ArrayRef, SqlError> {
    let too_large = || SqlError::new("22003", "numeric value out of range").detail("Decimals have up to 76 digits.");
    let zeros = usize::try_from(-scale.min(0)).map_err(|_| too_large())?;
    if zeros > 76 {
        return Err(too_large());
    }
    let digits = format!("{}{}", digits.trim_start_matches('0'), "0".repeat(zeros));
    let digits = if digits.trim_start_matches('0').is_empty() { "0".to_owned() } else { digits };
    let scale = i8::try_from(scale.max(0)).map_err(|_| too_large())?;
    let signed = if negative { format!("-{digits}") } else { digits.clone() };
    let needed = digits.len().max(usize::from(scale.unsigned_abs()));
    let failed = |_| too_large();
    if needed <= 38 {
        let value: i128 = signed.parse().map_err(|_| too_large())?;
        let array = Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).map_err(failed)?;
        return Ok(Arc::new(array));
    }
    if needed > 76 {
        return Err(too_large());
    }
    let value = i256::from_string(&signed).ok_or_else(too_large)?;
    let array = Decimal256Array::from(vec![value]).with_precision_and_scale(76, scale).map_err(failed)?;
    Ok(Arc::new(array))
}

/// A decimal of a client's binary form, see [`Digits::binary`].
pub(crate) fn from_binary(bytes: &[u8]) -> Result<ArrayRef, SqlError> {
    let wrong = || SqlError::new("22P03", "incorrect binary data format for type numeric");
    let mut shorts = bytes.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
    let mut next = || shorts.next().ok_or_else(wrong);
    let (count, weight, sign, scale) = (next()?, next()?, next()?, next()?);
    if bytes.len() != 8 + 2 * usize::try_from(count).map_err(|_| wrong())? || scale < 0 {
        return Err(wrong());
    }
    let negative = match sign {
        0 => false,
        0x4000 => true,
        _ => return Err(SqlError::new("22003", "NaN and infinity have no decimal value")),
    };
    let mut digits = String::new();
    for group in shorts {
        if !(0..10_000).contains(&group) {
            return Err(wrong());
        }
        let _ = write!(digits, "{group:04}");
    }
    // The groups stand for digits × 10^(4 × (weight + 1 - count)); cut or fill them to the scale shown.
    let held = 4 * (i32::from(count) - 1 - i32::from(weight));
    let behind = i32::from(scale);
    let missing = usize::try_from((behind - held).max(0)).map_err(|_| wrong())?;
    if missing > 200 {
        return Err(SqlError::new("22003", "numeric value out of range"));
    }
    digits.push_str(&"0".repeat(missing));
    let surplus = usize::try_from((held - behind).max(0)).map_err(|_| wrong())?;
    digits.truncate(digits.len().saturating_sub(surplus));
    if digits.is_empty() {
        digits.push('0');
    }
    from_digits(negative, &digits, behind)
}
