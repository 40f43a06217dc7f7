//! Types of PostgreSQL that Arrow has no type of its own for: the field of a column says by which name it goes.
//!
//! json, jsonb, varchar, char and records are texts for the engine, and by their name for a client.

use arrow::datatypes::{DataType, Field};
use relation::schema::EXTENSION;

pub(crate) use relation::schema::{JSON, TYPE_NAME as KEY};

pub(crate) const JSONB: &str = "jsonb";
pub(crate) const VARCHAR: &str = "varchar";
pub(crate) const CHAR: &str = "bpchar";
/// The type of one byte, `"char"` between double quotes.
pub(crate) const ONE_CHAR: &str = "char";
pub(crate) const RECORD: &str = "record";

/// The field under the name of a type.
pub(crate) fn named(field: Field, name: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(KEY.to_owned(), name.to_owned());
    if name == JSON || name == JSONB {
        metadata.insert(EXTENSION.to_owned(), "arrow.json".to_owned());
    }
    field.with_metadata(metadata)
}

/// The name that a field's type goes by, if it is none of Arrow's.
pub(crate) fn own_name(field: &Field) -> Option<&str> {
    field.metadata().get(KEY).map(String::as_str)
}

/// What PostgreSQL calls a type, for messages.
pub(crate) fn name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".to_owned(),
        DataType::Int32 | DataType::UInt16 => "integer".to_owned(),
        DataType::Int64 | DataType::UInt32 => "bigint".to_owned(),
        DataType::Float16 | DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone".to_owned(),
        DataType::Timestamp(_, None) => "timestamp without time zone".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
        DataType::Null => "unknown".to_owned(),
        DataType::List(item) => format!("{}[]", name(item.data_type())),
        decimal if decimal.is_decimal() || *decimal == DataType::UInt64 => "numeric".to_owned(),
        other => other.to_string(),
    }
}
