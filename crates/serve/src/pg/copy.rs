//! `COPY … TO STDOUT` in text and CSV; what psql's `\copy` and many loaders read.

use bytes::{BufMut, BytesMut};
use pgwire::messages::PgWireBackendMessage as Reply;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};

use super::connection::{Connection, Failure};
use super::session::Running;
use super::statement::columns;
use crate::reader::SqlError;
use crate::sql::command::Copy;
use crate::value::Column;

/// Rows of one message's worth of writing, between two looks at what may end the statement.
const ROWS_AT_ONCE: usize = 1_024;

impl Connection {
    /// Sends all rows as lines.
    pub(super) async fn copy_out(&mut self, mut running: Running, copy: &Copy) -> Result<(), Failure> {
        let width = running.schema.fields().len();
        let count = i16::try_from(width).map_err(|_| SqlError::new("54011", "too many columns"))?;
        self.send(&Reply::CopyOutResponse(CopyOutResponse::new(0, count, vec![0; width])));
        if copy.header {
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
                self.line(line(&columns, row, copy));
            }
            sent += batch.num_rows();
            self.flush_much().await?;
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
    if copy.csv {
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
