//! A cell as JSON, for HTTP and for values with parts.
//!
//! Numbers: integers and finite floats are JSON numbers. A decimal is a JSON string, `"12.50"`: most readers of JSON
//! make a binary float of every number, and money must not pass through one; the answer's column list says the type.
//! Floats that JSON has no number for are the strings `"NaN"`, `"Infinity"`, `"-Infinity"`, as in PostgreSQL's `to_json`.
//! Timestamps have a `T`, and `+00:00` if they have a zone.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use super::array::range;
use super::{Cells, Column, calendar};

/// Writes a cell, NULL included.
pub(crate) fn cell(column: &Column, row: usize, out: &mut BytesMut) {
    if column.is_null(row) {
        return out.put_slice(b"null");
    }
    match &column.cells {
        Cells::Null => out.put_slice(b"null"),
        Cells::Bool(a) => out.put_slice(if a.value(row) { b"true" } else { b"false" }),
        Cells::Int2(_) | Cells::Int4(_) | Cells::Int8(_) | Cells::UInt8(_) => column.text(row, out),
        Cells::Float4(a) if a.value(row).is_finite() => column.text(row, out),
        Cells::Float8(a) if a.value(row).is_finite() => column.text(row, out),
        Cells::Text(a) => string(out, a.value(row)),
        Cells::LargeText(a) => string(out, a.value(row)),
        Cells::TextView(a) => string(out, a.value(row)),
        Cells::Registered(_, names) => string(out, names.value(row)),
        Cells::Bytes(a) => {
            // The backslash of `\x` must be escaped.
            out.put_slice(b"\"\\");
            super::text::hex(out, a.value(row));
            out.put_u8(b'"');
        }
        Cells::Timestamp(a) => instant(out, a.value(row), ""),
        Cells::TimestampTz(a) => instant(out, a.value(row), "+00:00"),
        Cells::List(offsets, values) => {
            sequence(out, *b"[]", range(offsets, row), |out, row| cell(values, row, out));
        }
        Cells::Struct(columns) => sequence(out, *b"{}", columns, |out, (name, column)| {
            string(out, name);
            out.put_u8(b':');
            cell(column, row, out);
        }),
        Cells::Map(offsets, keys, values) => sequence(out, *b"{}", range(offsets, row), |out, row| {
            key(out, keys, row);
            out.put_u8(b':');
            cell(values, row, out);
        }),
        // Decimals, dates, times, intervals, floats that are no numbers: text without anything to escape.
        _ => {
            out.put_u8(b'"');
            column.text(row, out);
            out.put_u8(b'"');
        }
    }
}

fn instant(out: &mut BytesMut, us: i64, zone: &str) {
    out.put_u8(b'"');
    calendar::timestamp(out, us, 'T', zone);
    out.put_u8(b'"');
}

/// A map's key is text in JSON, whatever its type.
fn key(out: &mut BytesMut, keys: &Column, row: usize) {
    let mut text = BytesMut::new();
    keys.text(row, &mut text);
    string(out, &String::from_utf8_lossy(&text));
}

fn sequence<T>(
    out: &mut BytesMut,
    ends: [u8; 2],
    items: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut BytesMut, T),
) {
    out.put_u8(ends[0]);
    for (i, each) in items.into_iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        item(out, each);
    }
    out.put_u8(ends[1]);
}

/// A JSON string with its quotes.
pub(crate) fn string(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|b| *b < 0x20 || matches!(b, b'"' | b'\\')) {
        out.put_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            control => {
                let _ = write!(out, "\\u{control:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    out.put_slice(rest);
    out.put_u8(b'"');
}
