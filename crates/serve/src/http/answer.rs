//! Rows as the body of an answer.
//!
//! JSON: `{"columns":[{"name":"total","type":"numeric(10,2)"}],"step":7,"rows":[["12.50"]],"row_count":1}`. A row is a
//! list, since two columns may have one name; `crate::value::json` says how values look. `"more":true` follows where the
//! request's limit left rows out.
//! CSV: a line of names, then lines; NULL is nothing, an empty text is `""`, booleans are `true` and `false`.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use arrow::ipc::writer::StreamWriter;
use bytes::{BufMut, BytesMut};
use relation::schema::registered_name;

use crate::reader::SqlError;
use crate::value::{Cells, Column, csv, json};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
    Arrow,
}

impl Format {
    /// The best of what a client accepts; JSON if it does not say.
    pub(super) fn accepted(header: Option<&str>) -> Option<Self> {
        let Some(header) = header else { return Some(Self::Json) };
        let mut best: Option<(f32, Self)> = None;
        for choice in header.split(',') {
            let mut parts = choice.split(';').map(str::trim);
            let Some(format) = parts.next().and_then(Self::named) else { continue };
            let weight = parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0);
            if weight > 0.0 && best.is_none_or(|(known, _)| weight > known) {
                best = Some((weight, format));
            }
        }
        best.map(|(_, format)| format)
    }

    fn named(media_type: &str) -> Option<Self> {
        match media_type.to_ascii_lowercase().as_str() {
            "application/json" | "*/*" | "application/*" => Some(Self::Json),
            "text/csv" | "text/*" => Some(Self::Csv),
            "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
            _ => None,
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Writes an answer piece by piece.
pub(super) enum Writer {
    Json { rows: u64 },
    Csv,
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Writer {
    /// A writer, and what precedes the rows.
    pub(super) fn new(format: Format, schema: &Schema, step: u64) -> Result<(Self, BytesMut), SqlError> {
        let mut out = BytesMut::new();
        let writer = match format {
            Format::Json => {
                json_head(&mut out, schema, step);
                Self::Json { rows: 0 }
            }
            Format::Csv => {
                for (i, field) in schema.fields().iter().enumerate() {
                    separate(&mut out, i);
                    csv::field(&mut out, field.name().as_bytes(), b',', "");
                }
                out.put_u8(b'\n');
                Self::Csv
            }
            Format::Arrow => Self::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema).map_err(arrow_error)?)),
        };
        Ok((writer, out))
    }

    /// Appends a batch's rows.
    pub(super) fn rows(&mut self, batch: &RecordBatch, out: &mut BytesMut) -> Result<(), SqlError> {
        if let Self::Arrow(writer) = self {
            writer.write(batch).map_err(arrow_error)?;
            out.extend_from_slice(&std::mem::take(writer.get_mut()));
            return Ok(());
        }
        let columns = batch.columns().iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            match self {
                Self::Json { rows } => {
                    separate(out, usize::from(*rows > 0));
                    json_row(out, &columns, row);
                    *rows += 1;
                }
                _ => csv_row(out, &columns, row),
            }
        }
        Ok(())
    }

    /// Appends what follows the rows; `cut` says that a limit left rows out.
    pub(super) fn end(&mut self, cut: bool, out: &mut BytesMut) -> Result<(), SqlError> {
        match self {
            Self::Json { rows } if cut => out.put_slice(format!("],\"row_count\":{rows},\"more\":true}}\n").as_bytes()),
            Self::Json { rows } => out.put_slice(format!("],\"row_count\":{rows}}}\n").as_bytes()),
            Self::Csv => {}
            Self::Arrow(writer) => {
                writer.finish().map_err(arrow_error)?;
                out.extend_from_slice(&std::mem::take(writer.get_mut()));
            }
        }
        Ok(())
    }
}

fn arrow_error(error: arrow::error::ArrowError) -> SqlError {
    SqlError::internal(error.to_string())
}

fn separate(out: &mut BytesMut, before: usize) {
    if before > 0 {
        out.put_u8(b',');
    }
}

fn json_head(out: &mut BytesMut, schema: &Schema, step: u64) {
    out.put_slice(b"{\"columns\":[");
    for (i, field) in schema.fields().iter().enumerate() {
        separate(out, i);
        out.put_slice(b"{\"name\":");
        json::string(out, field.name());
        out.put_slice(b",\"type\":");
        json::string(out, &type_name(field.data_type()));
        out.put_u8(b'}');
    }
    out.put_slice(format!("],\"step\":{step},\"rows\":[").as_bytes());
}

fn json_row(out: &mut BytesMut, columns: &[Column], row: usize) {
    out.put_u8(b'[');
    for (i, column) in columns.iter().enumerate() {
        separate(out, i);
        json::cell(column, row, out);
    }
    out.put_u8(b']');
}

fn csv_row(out: &mut BytesMut, columns: &[Column], row: usize) {
    let mut cell = BytesMut::new();
    for (i, column) in columns.iter().enumerate() {
        separate(out, i);
        if column.is_null(row) {
            continue;
        }
        cell.clear();
        match &column.cells {
            Cells::Bool(array) => cell.put_slice(if array.value(row) { b"true" } else { b"false" }),
            _ => column.text(row, &mut cell),
        }
        csv::field(out, &cell, b',', "");
    }
    out.put_u8(b'\n');
}

/// The type as SQL names it.
pub(super) fn type_name(data_type: &DataType) -> String {
    if let Some(registered) = registered_name(data_type) {
        return registered.to_owned();
    }
    let name = match data_type {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => return format!("numeric({p},{s})"),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            return format!("{}[]", type_name(item.data_type()));
        }
        DataType::Dictionary(_, values) => return type_name(values),
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => "smallint",
        DataType::UInt16 | DataType::Int32 => "integer",
        DataType::UInt32 | DataType::Int64 => "bigint",
        DataType::UInt64 => "bigint unsigned",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        nested if nested.is_nested() => "json",
        _ => "text",
    };
    name.to_owned()
}
