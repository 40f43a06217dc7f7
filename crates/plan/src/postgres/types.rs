//! Types of PostgreSQL that Arrow has no type of its own for: the field of a column says by which name it goes.
//!
//! json, jsonb, uuid, varchar, char and records are texts for the engine, and by their name for a client.

use arrow::datatypes::{DataType, Field};
use relation::schema::EXTENSION;

pub(crate) use relation::schema::{JSON, TYPE_NAME as KEY};

pub(crate) const JSONB: &str = "jsonb";
pub(crate) const VARCHAR: &str = "varchar";
pub(crate) const CHAR: &str = "bpchar";
/// The type of one byte, `"char"` between double quotes.
pub(crate) const ONE_CHAR: &str = "char";
pub(crate) const RECORD: &str = "record";
pub(crate) const UUID: &str = "uuid";

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

/// What PostgreSQL calls a type: people are told no other name.
pub fn name(data_type: &DataType) -> String {
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
        DataType::FixedSizeBinary(_) => "bytea".to_owned(),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => format!("{}[]", name(item.data_type())),
        DataType::Dictionary(_, value) => name(value),
        // What has fields, or keys.
        _ => "record".to_owned(),
    }
}

/// A text of the planner's with types by PostgreSQL's names, and literals as SQL writes them.
pub fn in_sql(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let is_within = out.ends_with(|before: char| before.is_alphanumeric() || matches!(before, '_' | '"'));
        let found = if is_within || !letter.is_ascii_uppercase() { None } else { arrow_at(rest, &out) };
        let read = match found {
            Some((read, told)) => {
                out.push_str(&told);
                read
            }
            None => {
                out.push(letter);
                letter.len_utf8()
            }
        };
        rest = rest.get(read..).unwrap_or_default();
    }
    out
}

/// What a text begins with where that is a type or a literal of Arrow's: its length, and how SQL writes it.
fn arrow_at(text: &str, before: &str) -> Option<(usize, String)> {
    let word_end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let (word, behind) = (text.get(..word_end)?, text.get(word_end..)?);
    let brackets = brackets(behind);
    if let Some(inner) = brackets {
        let end = word_end + inner.len() + 2;
        if let Ok(data_type) = text.get(..end)?.parse::<DataType>() {
            return Some((end, name(&data_type)));
        }
    }
    let data_type: DataType = word.parse().ok()?;
    match brackets {
        Some("NULL") => Some((word_end + 6, "NULL".to_owned())),
        Some(inner) => {
            let quoted = inner.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
            let literal = quoted.map_or_else(|| inner.to_owned(), |text| format!("'{}'", text.replace('\'', "''")));
            Some((word_end + inner.len() + 2, literal))
        }
        // Words of prose as well: types they are beside brackets, commas and quotes alone.
        None if matches!(data_type, DataType::Null | DataType::Binary) => {
            let is_listed = before.ends_with(['(', ',', '\'']) || behind.starts_with([')', ',', '\'']);
            is_listed.then(|| (word_end, name(&data_type)))
        }
        None => Some((word_end, name(&data_type))),
    }
}

/// What stands between the brackets with which a text begins.
fn brackets(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('(')?;
    let mut open = 1;
    let end = inner.char_indices().find_map(|(at, c)| {
        open += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        (open == 0).then_some(at)
    })?;
    inner.get(..end)
}

#[cfg(test)]
mod tests {
    use super::in_sql;

    #[test]
    fn no_name_of_arrows_is_left() {
        let told = [
            ("sum(Utf8)", "sum(text)"),
            ("Interval(MonthDayNano) + Timestamp(µs)", "interval + timestamp without time zone"),
            ("to Timestamp(ns, \"UTC\") and Decimal128(10, 2)", "to timestamp with time zone and numeric"),
            ("List(Int64), List(non-null Utf8)", "bigint[], text[]"),
            ("checked_plus(o.parts, Int64(1)) = Utf8(\"it's\")", "checked_plus(o.parts, 1) = 'it''s'"),
            ("Int64(NULL) of f(Null, Binary)", "NULL of f(unknown, bytea)"),
            ("a Null or Binary of MyInt64 and Int64x", "a Null or Binary of MyInt64 and Int64x"),
            ("column \"Int64\" of (an open", "column \"Int64\" of (an open"),
        ];
        for (text, wanted) in told {
            assert_eq!(in_sql(text), wanted);
        }
    }
}
