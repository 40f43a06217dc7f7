//! Lists as PostgreSQL's arrays: a list of lists is an array of more dimensions.

use std::ops::Range;

use arrow::buffer::OffsetBuffer;
use bytes::{BufMut, BytesMut};

use super::{Cells, Column, Form};
use crate::reader::SqlError;

/// Elements of a row's list.
pub(crate) fn range(offsets: &OffsetBuffer<i32>, row: usize) -> Range<usize> {
    let at = |i: usize| offsets.get(i).and_then(|offset| usize::try_from(*offset).ok()).unwrap_or(0);
    at(row)..at(row + 1)
}

/// `{1,NULL,"a b"}`.
pub(crate) fn text(out: &mut BytesMut, values: &Column, range: Range<usize>) {
    out.put_u8(b'{');
    let mut cell = BytesMut::new();
    for (i, row) in range.enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        if values.is_null(row) {
            out.put_slice(b"NULL");
            continue;
        }
        if values.is_array() {
            values.text(row, out);
            continue;
        }
        cell.clear();
        values.text(row, &mut cell);
        element(out, &cell);
    }
    out.put_u8(b'}');
}

/// Errors: a list of lists that are NULL, or not as long as one another.
pub(crate) fn has_even_parts(offsets: &OffsetBuffer<i32>, values: &Column) -> Result<(), SqlError> {
    let Cells::List(inner, _) = &values.cells else { return Ok(()) };
    if !values.is_array() {
        return Ok(());
    }
    for row in 0..offsets.len().saturating_sub(1) {
        let parts = range(offsets, row);
        let length = range(inner, parts.start).len();
        if parts.into_iter().any(|part| values.is_null(part) || range(inner, part).len() != length) {
            let message = "multidimensional arrays must have array expressions with matching dimensions";
            return Err(SqlError::new("2202E", message));
        }
    }
    Ok(())
}

/// `1 2`.
pub(crate) fn vector(out: &mut BytesMut, values: &Column, range: Range<usize>) {
    for (i, row) in range.enumerate() {
        if i > 0 {
            out.put_u8(b' ');
        }
        values.text(row, out);
    }
}

/// An element, quoted where its text would be read as something else.
fn element(out: &mut BytesMut, text: &[u8]) {
    let special = |b: &u8| b"{},\"\\".contains(b) || b.is_ascii_whitespace() || *b == 0x0b;
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"null") && !text.iter().any(special) {
        return out.put_slice(text);
    }
    out.put_u8(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

/// Dimensions, whether NULLs occur, element type, length and lower bound, then the elements with their lengths.
pub(crate) fn binary(out: &mut BytesMut, values: &Column, range: Range<usize>, form: Form) {
    let (mut lengths, mut range, mut values) = (vec![range.len()], range, values);
    // All parts of a list are as long as its first, and lie one behind the other.
    while let Cells::List(offsets, inner) = &values.cells {
        let (first, last) = (self::range(offsets, range.start), self::range(offsets, range.end.saturating_sub(1)));
        lengths.push(if range.is_empty() { 0 } else { first.len() });
        range = if range.is_empty() { 0..0 } else { first.start..last.end };
        values = inner;
    }
    let nulls = range.clone().any(|row| values.is_null(row));
    let dimensions = if range.is_empty() { 0 } else { lengths.len() };
    out.put_i32(i32::try_from(dimensions).unwrap_or(i32::MAX));
    out.put_i32(i32::from(nulls));
    out.put_u32(element_oid(&values.cells, form));
    for length in lengths.iter().take(dimensions) {
        out.put_i32(i32::try_from(*length).unwrap_or(i32::MAX));
        out.put_i32(i32::from(form != Form::Vector));
    }
    for row in range {
        length_prefixed(out, |out| {
            if values.is_null(row) {
                return false;
            }
            values.binary(row, out);
            true
        });
    }
}

/// Writes a value behind its length; `write` says whether there is one (else the length is -1, a NULL).
pub(crate) fn length_prefixed(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> bool) {
    let at = out.len();
    out.put_i32(-1);
    if write(out) {
        // A value past two gigabytes never fits Arrow's batch; if it did, the client would see a wrong length and stop.
        let len = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
        out[at..at + 4].copy_from_slice(&len.to_be_bytes());
    }
}

fn element_oid(cells: &Cells, form: Form) -> u32 {
    use pgwire::api::Type;
    if let Form::Array(element) = form {
        return element;
    }
    let element = match cells {
        Cells::Bool(_) => Type::BOOL,
        Cells::Int2(_) => Type::INT2,
        Cells::Int4(_) if form == Form::Vector => Type::OID,
        Cells::Int4(_) => Type::INT4,
        Cells::Int8(_) => Type::INT8,
        Cells::UInt8(_) | Cells::Decimal128(..) | Cells::Decimal256(..) => Type::NUMERIC,
        Cells::Float4(_) => Type::FLOAT4,
        Cells::Float8(_) => Type::FLOAT8,
        Cells::Bytes(_) => Type::BYTEA,
        Cells::Date(_) => Type::DATE,
        Cells::Time(_) => Type::TIME,
        Cells::Timestamp(_) => Type::TIMESTAMP,
        Cells::TimestampTz(_) => Type::TIMESTAMPTZ,
        Cells::Interval(_) => Type::INTERVAL,
        _ => Type::TEXT,
    };
    element.oid()
}
