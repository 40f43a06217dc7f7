//! `COPY … TO STDOUT` in text, CSV and binary; what psql's `\copy` and many loaders read.

use bytes::{BufMut, BytesMut};
use pgwire::messages::PgWireBackendMessage as Reply;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};

use super::connection::{Connection, Failure};
use super::session::Running;
use super::statement::columns;
use crate::reader::SqlError;
use crate::sql::command::{Copy, CopyFormat};
use crate::value::Column;
use crate::value::array::length_prefixed;

/// Rows of one message's worth of writing, between two looks at what may end the statement.
const ROWS_AT_ONCE: usize = 1_024;

/// What a copy in binary begins with: a signature, flags, and the length of an extension that there is none of.
const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What ends it, in the place of a row's count of values.
const BINARY_END: i16 = -1;

impl Connection {
    /// Sends all rows as lines.
    pub(super) async fn copy_out(&mut self, mut running: Running, copy: &Copy) -> Result<(), Failure> {
        let width = running.schema.fields().len();
        let count = i16::try_from(width).map_err(|_| SqlError::new("54011", "too many columns"))?;
        let is_binary = copy.format == CopyFormat::Binary;
        let each = vec![i16::from(is_binary); width];
        self.send(&Reply::CopyOutResponse(CopyOutResponse::new(i8::from(is_binary), count, each)));
        // It goes out with the first row, as readers expect.
        let mut head = BytesMut::from(if is_binary { BINARY_HEADER } else { b"" });
        if copy.header && !is_binary {
            let mut line = BytesMut::new();
            for (i, field) in running.schema.fields().iter().enumerate() {
                separate(&mut line, i, copy.delimiter);
                value(&mut line, field.name().as_bytes(), copy);
            }
            self.line(line);
        }
        let mut sent = 0;
        while let Some(batch) = self.attend(running.next(ROWS_AT_ONCE)).await? {
            let columns = columns(&batch)?;
            for row in 0..batch.num_rows() {
                match is_binary {
                    true => {
                        let mut whole = std::mem::take(&mut head);
                        tuple(&mut whole, &columns, count, row);
                        self.send(&Reply::CopyData(CopyData::new(whole.freeze())));
                    }
                    false => self.line(line(&columns, row, copy)),
                }
            }
            sent += batch.num_rows();
            self.flush_much().await?;
        }
        if is_binary {
            head.put_i16(BINARY_END);
            self.send(&Reply::CopyData(CopyData::new(head.freeze())));
        }
        self.send(&Reply::CopyDone(CopyDone::new()));
        self.complete(format!("COPY {sent}"));
        Ok(())
    }

    fn line(&mut self, mut line: BytesMut) {
        line.put_u8(b'\n');
        self.send(&Reply::CopyData(CopyData::new(line.freeze())));
    }
}

/// A row in binary: how many values, each behind its length.
fn tuple(tuple: &mut BytesMut, columns: &[Column], count: i16, row: usize) {
    tuple.put_i16(count);
    for column in columns {
        length_prefixed(tuple, |out| {
            let has_value = !column.is_null(row);
            if has_value {
                column.binary(row, out);
            }
            has_value
        });
    }
}

fn line(columns: &[Column], row: usize, copy: &Copy) -> BytesMut {
    let (mut line, mut cell) = (BytesMut::new(), BytesMut::new());
    for (i, column) in columns.iter().enumerate() {
        separate(&mut line, i, copy.delimiter);
        if column.is_null(row) {
            line.put_slice(copy.null.as_bytes());
            continue;
        }
        cell.clear();
        column.text(row, &mut cell);
        value(&mut line, &cell, copy);
    }
    line
}

fn separate(line: &mut BytesMut, column: usize, delimiter: u8) {
    if column > 0 {
        line.put_u8(delimiter);
    }
}

fn value(line: &mut BytesMut, text: &[u8], copy: &Copy) {
    if copy.format == CopyFormat::Csv {
        crate::value::csv::field(line, text, copy.delimiter, &copy.null)
    } else {
        escaped(line, text, copy.delimiter)
    }
}

/// The text format: a backslash before what would end a value or a line.
fn escaped(line: &mut BytesMut, text: &[u8], delimiter: u8) {
    for byte in text {
        match byte {
            b'\\' => line.put_slice(b"\\\\"),
            b'\n' => line.put_slice(b"\\n"),
            b'\r' => line.put_slice(b"\\r"),
            b'\t' => line.put_slice(b"\\t"),
            0x08 => line.put_slice(b"\\b"),
            0x0b => line.put_slice(b"\\v"),
            0x0c => line.put_slice(b"\\f"),
            byte if *byte == delimiter => line.put_slice(&[b'\\', delimiter]),
            byte => line.put_u8(*byte),
        }
    }
}
