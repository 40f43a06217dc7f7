//! Arrow columns from a case's text.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, ListArray, RecordBatch, StringArray, StructArray, new_empty_array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};

/// `id bigint, tags text[]` as fields; a type's name may hold a comma in parentheses.
pub(super) fn fields(text: &str) -> Result<Vec<Field>, String> {
    split(text, ',').iter().map(|column| field(column.trim())).collect()
}

pub(super) fn field(column: &str) -> Result<Field, String> {
    let (name, kind) = column.split_once(' ').ok_or_else(|| format!("no type: {column:?}"))?;
    let field = Field::new(name, data_type(kind.trim())?, true);
    let said = match kind.trim() {
        "json" => ("ARROW:extension:name".to_owned(), "arrow.json".to_owned()),
        // What the reader says of a column beside its values' type.
        named @ ("char" | "int2vector" | "oidvector" | "name" | "oid" | "_oid" | "numeric") => {
            ("tidemill.type".to_owned(), named.to_owned())
        }
        _ => return Ok(field),
    };
    Ok(field.with_metadata([said].into()))
}

/// Pieces between separators that stand outside of parentheses.
pub(super) fn split(text: &str, separator: char) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if c == separator && depth == 0 {
            pieces.push(String::new());
        } else if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces
}

pub(super) fn data_type(name: &str) -> Result<DataType, String> {
    if let Some(item) = name.strip_suffix("[]") {
        return Ok(DataType::new_list(data_type(item)?, true));
    }
    if let Some(inner) = name.strip_prefix("row(").and_then(|rest| rest.strip_suffix(')')) {
        return Ok(DataType::Struct(Fields::from(fields(inner)?)));
    }
    if let Some(inner) = name.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')) {
        let (precision, scale) = inner.split_once(',').ok_or("decimal(p,s)")?;
        let (precision, scale) = (precision.trim().parse().unwrap(), scale.trim().parse().unwrap());
        return Ok(if precision <= 38 {
            DataType::Decimal128(precision, scale)
        } else {
            DataType::Decimal256(precision, scale)
        });
    }
    Ok(match name {
        "boolean" => DataType::Boolean,
        "int1" => DataType::Int8,
        "uint1" => DataType::UInt8,
        "uint2" => DataType::UInt16,
        "uint4" => DataType::UInt32,
        "uint8" => DataType::UInt64,
        "smallint" => DataType::Int16,
        "int" => DataType::Int32,
        "bigint" => DataType::Int64,
        "real" => DataType::Float32,
        "double" => DataType::Float64,
        "text" | "json" | "char" | "name" => DataType::Utf8,
        "oid" => DataType::Int32,
        "numeric" => DataType::Decimal128(38, 10),
        // A value is `23/integer`.
        "regclass" | "regtype" | "regproc" | "regnamespace" => relation::schema::registered_type(name),
        "int2vector" => DataType::new_list(DataType::Int16, true),
        "oidvector" | "_oid" => DataType::new_list(DataType::Int32, true),
        "largetext" => DataType::LargeUtf8,
        "textview" => DataType::Utf8View,
        "words" => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        "bytea" => DataType::Binary,
        "date" => DataType::Date32,
        "time" => DataType::Time64(TimeUnit::Microsecond),
        "time_s" => DataType::Time32(TimeUnit::Second),
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamp_ns" => DataType::Timestamp(TimeUnit::Nanosecond, None),
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        "shanghai" => DataType::Timestamp(TimeUnit::Millisecond, Some(Arc::from("+08:00"))),
        "interval" => DataType::Interval(IntervalUnit::MonthDayNano),
        "duration" => DataType::Duration(TimeUnit::Second),
        "null" => DataType::Null,
        other => return Err(format!("no type {other:?}")),
    })
}

/// A batch of these rows.
pub(super) fn batch(schema: &SchemaRef, rows: &[Vec<String>]) -> Result<RecordBatch, String> {
    let columns = schema.fields().iter().enumerate().map(|(i, field)| {
        let cells: Vec<Option<&str>> = rows.iter().map(|row| row.get(i).map(String::as_str).and_then(value)).collect();
        column(field.data_type(), &cells)
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?).map_err(|e| e.to_string())
}

/// NULL is none, `''` the empty text.
fn value(cell: &str) -> Option<&str> {
    match cell {
        "NULL" => None,
        "''" => Some(""),
        cell => Some(cell),
    }
}

fn column(data_type: &DataType, cells: &[Option<&str>]) -> Result<ArrayRef, String> {
    match data_type {
        DataType::Binary => {
            let bytes: Vec<Option<Vec<u8>>> = cells.iter().map(|cell| cell.map(hex)).collect();
            Ok(Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>()))
        }
        DataType::List(item) => {
            let lists: Vec<Vec<&str>> = cells.iter().map(|cell| cell.map(items).unwrap_or_default()).collect();
            let flat: Vec<Option<&str>> = lists.iter().flatten().map(|item| value(item)).collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
            let nulls: NullBuffer = cells.iter().map(Option::is_some).collect();
            let values =
                if flat.is_empty() { new_empty_array(item.data_type()) } else { column(item.data_type(), &flat)? };
            Ok(Arc::new(ListArray::new(Arc::clone(item), offsets, values, Some(nulls))))
        }
        DataType::Struct(fields) => {
            let parts = fields.iter().enumerate().map(|(i, field)| {
                let cells: Vec<Option<&str>> =
                    cells.iter().map(|cell| cell.and_then(|cell| cell.split('/').nth(i)).and_then(value)).collect();
                column(field.data_type(), &cells)
            });
            let nulls: NullBuffer = cells.iter().map(Option::is_some).collect();
            Ok(Arc::new(StructArray::new(fields.clone(), parts.collect::<Result<_, _>>()?, Some(nulls))))
        }
        DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, None)
            if cells.iter().flatten().any(|cell| cell.starts_with('@')) =>
        {
            // Days or microseconds as a number, for what no parser reads.
            let numbers: Vec<Option<&str>> = cells.iter().map(|cell| cell.map(|cell| cell.trim_matches('@'))).collect();
            let width = if *data_type == DataType::Date32 { DataType::Int32 } else { DataType::Int64 };
            arrow::compute::cast(&column(&width, &numbers)?, data_type).map_err(|e| e.to_string())
        }
        DataType::Null => Ok(new_null_array(data_type, cells.len())),
        DataType::Decimal128(_, scale) if *scale < 0 => {
            let whole = column(&DataType::Decimal128(38, 0), cells)?;
            arrow::compute::cast(&whole, data_type).map_err(|e| e.to_string())
        }
        DataType::Duration(_) => {
            let seconds = column(&DataType::Int64, cells)?;
            arrow::compute::cast(&seconds, data_type).map_err(|e| e.to_string())
        }
        other => {
            let text: ArrayRef = Arc::new(StringArray::from(cells.to_vec()));
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&text, other, &options).map_err(|e| e.to_string())
        }
    }
}

fn items(cell: &str) -> Vec<&str> {
    if cell.is_empty() { Vec::new() } else { cell.split(';').collect() }
}

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Names of a schema with the rows of an Arrow stream.
pub(super) fn arrow_stream(bytes: &[u8]) -> String {
    let reader = match arrow::ipc::reader::StreamReader::try_new(bytes, None) {
        Ok(reader) => reader,
        Err(error) => return error.to_string(),
    };
    let schema: SchemaRef = reader.schema();
    let mut out = describe(&schema);
    for batch in reader {
        match batch {
            Ok(batch) => {
                let _ = write!(out, "\n{} rows", batch.num_rows());
            }
            Err(error) => return error.to_string(),
        }
    }
    out
}

fn describe(schema: &Schema) -> String {
    let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
    columns.collect::<Vec<_>>().join(", ")
}
