//! A cell in PostgreSQL's binary format.

use bytes::{BufMut, BytesMut};

use super::numeric::Digits;
use super::{Cells, Column, Form, array, calendar, json};

/// What the binary form of a jsonb begins with.
const JSONB_VERSION: u8 = 1;

impl Column {
    /// Writes the binary form of a cell that is not NULL.
    pub(crate) fn binary(&self, row: usize, out: &mut BytesMut) {
        if self.form == Form::Jsonb {
            out.put_u8(JSONB_VERSION);
        }
        match &self.cells {
            Cells::Null => {}
            Cells::Bool(a) => out.put_u8(u8::from(a.value(row))),
            Cells::Int2(a) => out.put_i16(a.value(row)),
            Cells::Int4(a) => out.put_i32(a.value(row)),
            Cells::Int8(a) => out.put_i64(a.value(row)),
            Cells::UInt8(a) => Digits::new(&a.value(row), 0).binary(out),
            Cells::Float4(a) => out.put_f32(a.value(row)),
            Cells::Float8(a) => out.put_f64(a.value(row)),
            Cells::Decimal128(a, scale) => Digits::new(&a.value(row), *scale).binary(out),
            Cells::Decimal256(a, scale) => Digits::new(&a.value(row), *scale).binary(out),
            Cells::Text(a) if self.form == Form::Uuid => out.put_slice(&uuid(a.value(row))),
            Cells::Text(a) => out.put_slice(a.value(row).as_bytes()),
            Cells::LargeText(a) => out.put_slice(a.value(row).as_bytes()),
            Cells::TextView(a) => out.put_slice(a.value(row).as_bytes()),
            Cells::Registered(oids, _) => out.put_i32(oids.value(row)),
            Cells::Bytes(a) => out.put_slice(a.value(row)),
            Cells::Date(a) => out.put_i32(calendar::binary_date(a.value(row))),
            Cells::Time(a) => out.put_i64(a.value(row)),
            Cells::Timestamp(a) | Cells::TimestampTz(a) => out.put_i64(calendar::binary_timestamp(a.value(row))),
            Cells::Interval(a) => {
                let value = a.value(row);
                out.put_i64(value.nanoseconds.div_euclid(1_000));
                out.put_i32(value.days);
                out.put_i32(value.months);
            }
            Cells::List(offsets, values) if self.is_array() => {
                array::binary(out, values, array::range(offsets, row), self.form);
            }
            // The type of these is json, whose binary form is its text.
            Cells::List(..) | Cells::Struct(_) | Cells::Map(..) => json::cell(self, row, out),
        }
    }
}

/// The bytes of a uuid, by its hexadecimal digits.
fn uuid(text: &str) -> [u8; 16] {
    let digits = text.chars().filter_map(|c| c.to_digit(16));
    digits.fold(0_u128, |number, digit| number << 4 | u128::from(digit)).to_be_bytes()
}
