//! A cell as PostgreSQL's text.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use super::numeric::Digits;
use super::{Cells, Column, Form, array, calendar, json};

impl Column {
    /// Writes the text of a cell that is not NULL.
    pub(crate) fn text(&self, row: usize, out: &mut BytesMut) {
        // Writing into a buffer that grows cannot fail.
        let _ = match &self.cells {
            Cells::Null => Ok(()),
            Cells::Bool(a) => out.write_char(if a.value(row) { 't' } else { 'f' }),
            Cells::Int2(a) => write!(out, "{}", a.value(row)),
            Cells::Int4(a) => write!(out, "{}", a.value(row)),
            Cells::Int8(a) => write!(out, "{}", a.value(row)),
            Cells::UInt8(a) => write!(out, "{}", a.value(row)),
            Cells::Float4(a) => {
                let value = a.value(row);
                float(out, f64::from(value), &format!("{value:e}"), 6);
                Ok(())
            }
            Cells::Float8(a) => {
                let value = a.value(row);
                float(out, value, &format!("{value:e}"), 15);
                Ok(())
            }
            Cells::Decimal128(a, scale) => {
                Digits::new(&a.value(row), *scale).text(out);
                Ok(())
            }
            Cells::Decimal256(a, scale) => {
                Digits::new(&a.value(row), *scale).text(out);
                Ok(())
            }
            Cells::Text(a) => out.write_str(a.value(row)),
            Cells::LargeText(a) => out.write_str(a.value(row)),
            Cells::TextView(a) => out.write_str(a.value(row)),
            Cells::Registered(_, names) => out.write_str(names.value(row)),
            Cells::Bytes(a) => {
                hex(out, a.value(row));
                Ok(())
            }
            _ => {
                self.longer_text(row, out);
                Ok(())
            }
        };
    }

    /// Times, and values with parts.
    fn longer_text(&self, row: usize, out: &mut BytesMut) {
        match &self.cells {
            Cells::Date(a) => calendar::date(out, i64::from(a.value(row))),
            Cells::Time(a) => calendar::time(out, a.value(row)),
            Cells::Timestamp(a) => calendar::timestamp(out, a.value(row), ' ', ""),
            Cells::TimestampTz(a) => calendar::timestamp(out, a.value(row), ' ', "+00"),
            Cells::Interval(a) => {
                let value = a.value(row);
                calendar::interval(out, value.months, value.days, value.nanoseconds.div_euclid(1_000));
            }
            Cells::List(offsets, values) if self.form == Form::Vector => {
                array::vector(out, values, array::range(offsets, row));
            }
            Cells::List(offsets, values) if self.is_array() => array::text(out, values, array::range(offsets, row)),
            _ => json::cell(self, row, out),
        }
    }
}

/// `\x0aff`.
pub(crate) fn hex(out: &mut BytesMut, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len());
    out.put_slice(b"\\x");
    for byte in bytes {
        out.put_u8(DIGITS[usize::from(byte >> 4)]);
        out.put_u8(DIGITS[usize::from(byte & 15)]);
    }
}

/// The shortest digits that give the same float again, in PostgreSQL's layout.
///
/// `scientific` is Rust's `{:e}` of the value; numbers of `digits_max` digits before the point and more get an
/// exponent, as do those below 0.0001.
fn float(out: &mut BytesMut, value: f64, scientific: &str, digits_max: i32) {
    if value.is_nan() {
        return out.put_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits_max {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
        return;
    }
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: Vec<u8> = digits.bytes().filter(|b| *b != b'.').collect();
    out.put_slice(sign.as_bytes());
    // A decimal point stands after `exponent + 1` digits.
    match usize::try_from(exponent) {
        Ok(exponent) => {
            let point = (exponent + 1).min(digits.len());
            out.put_slice(&digits[..point]);
            out.put_bytes(b'0', exponent + 1 - point);
            if point < digits.len() {
                out.put_u8(b'.');
                out.put_slice(&digits[point..]);
            }
        }
        Err(_) => {
            out.put_slice(b"0.");
            out.put_bytes(b'0', usize::try_from(-exponent - 1).unwrap_or(0));
            out.put_slice(&digits);
        }
    }
}
