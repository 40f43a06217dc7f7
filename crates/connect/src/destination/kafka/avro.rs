//! Rows in Avro: schemas of a key and a value that are made of the columns, and bytes by them.
//!
//! ```text
//! {"type":"record","name":"Value","namespace":"<topic>","fields":[{"name":"id","type":"long"},
//!     {"name":"total","type":["null",{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}],"default":null}]}
//! ```
//!
//! Columns of the key are never NULL; all others may be, and are by default, so that one that comes or goes leaves the schema
//! compatible, both ways.

use relation::value::I256Bytes;
use relation::{DataType, Value, unreal};
use serde_json::{Value as Json, json};

use crate::avro::{is_name, push_bytes, push_frame, push_int, push_long, push_text, unscaled};
use crate::destination::kind::At;
use crate::destination::{Item, Mapping, Problem, Refusal};

const DAY_US: i64 = 86_400_000_000;
/// Digits of a number of 64 bits without a sign.
const UNSIGNED_PRECISION: u8 = 20;

/// The schemas of a sync's messages, as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schemas {
    pub(super) key: String,
    pub(super) value: String,
}

/// The numbers that a registry has given them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ids {
    pub(super) key: u32,
    pub(super) value: u32,
}

impl Schemas {
    /// Those of a mapping's columns. Errors: columns whose names Avro does not take.
    pub(super) fn of(mapping: &Mapping, topic: &str) -> Result<Self, Vec<Problem>> {
        let bad = mapping.fields().iter().enumerate().filter(|(_, field)| !is_name(&field.target));
        let found: Vec<Problem> = bad
            .map(|(at, field)| {
                let name = field.target.clone();
                let (at, key) = match mapping.key().contains(&at) {
                    true => (At::Match(name), "match"),
                    false => (At::Field(name), "fields"),
                };
                let problem = Problem::new(at, format!("`{}` is no name in Avro", field.target));
                let hint = "Letters, digits and `_`, and no digit at first";
                problem.hint(format!("{hint}: give it such a name in `{key}`."))
            })
            .collect();
        if !found.is_empty() {
            return Err(found);
        }
        let namespace = namespace(topic);
        let record = |name: &str, fields: Vec<Json>| {
            json!({"type": "record", "name": name, "namespace": namespace, "fields": fields}).to_string()
        };
        let plain = |name: &str, of: DataType| json!({"name": name, "type": type_of(of)});
        let key = mapping.key_fields().map(|field| plain(&field.target, field.data_type)).collect();
        let fields = mapping.fields().iter().enumerate().map(|(at, field)| match mapping.key().contains(&at) {
            true => plain(&field.target, field.data_type),
            false => json!({"name": field.target, "type": ["null", type_of(field.data_type)], "default": null}),
        });
        Ok(Self { key: record("Key", key), value: record("Value", fields.collect()) })
    }
}

/// A topic's name as Avro takes it: names with points between.
fn namespace(topic: &str) -> String {
    let name = |part: &str| {
        let letters: String = part.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if is_name(&letters) { letters } else { format!("_{letters}") }
    };
    topic.split('.').map(name).collect::<Vec<_>>().join(".")
}

/// Digits and places as Avro has them, which knows none before the point.
fn decimal(precision: u8, scale: i8) -> (u8, u8) {
    match u8::try_from(scale) {
        Ok(scale) => (precision.max(scale), scale),
        Err(_) => (precision.saturating_add(scale.unsigned_abs()), 0),
    }
}

fn type_of(data_type: DataType) -> Json {
    match data_type {
        DataType::Bool => json!("boolean"),
        DataType::Int16 | DataType::Int32 => json!("int"),
        DataType::Int64 => json!("long"),
        DataType::UInt64 => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": UNSIGNED_PRECISION, "scale": 0})
        }
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Decimal { precision, scale } => {
            let (precision, scale) = decimal(precision, scale);
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        DataType::Text | DataType::Json | DataType::Interval => json!("string"),
        DataType::Bytes => json!("bytes"),
        DataType::Date => json!({"type": "int", "logicalType": "date"}),
        DataType::Time => json!({"type": "long", "logicalType": "time-micros"}),
        DataType::Timestamp => json!({"type": "long", "logicalType": "local-timestamp-micros"}),
        DataType::TimestampTz => json!({"type": "long", "logicalType": "timestamp-micros"}),
        DataType::Array(element) => json!({"type": "array", "items": ["null", type_of(*element)]}),
    }
}

/// The key of an item, none of whose columns is NULL.
pub(super) fn key(mapping: &Mapping, item: Item<'_>, ids: Ids) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    push_frame(&mut out, ids.key);
    for (i, field) in mapping.key_fields().enumerate() {
        let (layout, row, at) = mapping.key_place(item, i);
        push(&mut out, &layout.value(row, at), field.data_type)?;
    }
    Ok(out)
}

/// The value of a row that is there.
pub(super) fn value(mapping: &Mapping, row: &[u8], ids: Ids) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    push_frame(&mut out, ids.value);
    for (i, field) in mapping.fields().iter().enumerate() {
        let value = mapping.layout().value(row, field.at);
        match mapping.key().contains(&i) {
            true => push(&mut out, &value, field.data_type)?,
            false => push_or_null(&mut out, &value, field.data_type)?,
        }
    }
    Ok(out)
}

/// A value, or NULL; a date that no calendar has is that.
fn push_or_null(out: &mut Vec<u8>, value: &Value, data_type: DataType) -> Result<(), Refusal> {
    if value.is_null() || is_unreal(value) {
        push_int(out, 0);
        return Ok(());
    }
    push_int(out, 1);
    push(out, value, data_type)
}

fn is_unreal(value: &Value) -> bool {
    match value {
        Value::Date(day) => unreal::is_day(i64::from(*day)),
        Value::Timestamp(us) | Value::TimestampTz(us) => unreal::is_instant(*us),
        _ => false,
    }
}

fn refused(what: impl Into<String>) -> Refusal {
    Refusal::new("no_value", what)
}

#[expect(clippy::cast_possible_truncation, reason = "what a single has become of becomes that single again")]
fn push(out: &mut Vec<u8>, value: &Value, data_type: DataType) -> Result<(), Refusal> {
    match value {
        Value::Null => return Err(refused("a NULL is where none can be")),
        _ if is_unreal(value) => return Err(refused("Avro has no date that no calendar has, and a key has no NULL")),
        Value::Bool(truth) => out.push(u8::from(*truth)),
        Value::Int(number) => push_long(out, *number),
        Value::UInt(number) => push_bytes(out, &unscaled(I256Bytes::from_i128(i128::from(*number)))),
        Value::Float(number) if data_type == DataType::Float32 => {
            out.extend_from_slice(&(*number as f32).to_le_bytes());
        }
        Value::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Decimal(number, scale) => {
            // Places before the point are digits.
            let tens = 10_i128.checked_pow(u32::from(scale.min(&0).unsigned_abs()));
            let number = tens.and_then(|tens| number.checked_mul(tens));
            let number = number.ok_or_else(|| refused("a decimal has too many digits"))?;
            push_bytes(out, &unscaled(I256Bytes::from_i128(number)));
        }
        Value::BigDecimal(_, scale) if *scale < 0 => return Err(refused("a decimal has too many digits")),
        Value::BigDecimal(number, _) => push_bytes(out, &unscaled(*number)),
        Value::Text(text) => push_text(out, text),
        Value::Bytes(bytes) => push_bytes(out, bytes),
        Value::Date(days) => push_int(out, *days),
        Value::Time(us) if (0..DAY_US).contains(us) => push_long(out, *us),
        Value::Time(_) => return Err(refused("Avro has no time beyond a day's")),
        Value::Timestamp(us) | Value::TimestampTz(us) => push_long(out, *us),
        Value::Interval(interval) => push_text(out, &interval.to_string()),
        Value::Array(items) => {
            let DataType::Array(element) = data_type else { return Err(refused("an array is where none can be")) };
            if !items.is_empty() {
                push_long(out, i64::try_from(items.len()).unwrap_or(i64::MAX));
                items.iter().try_for_each(|item| push_or_null(out, item, *element))?;
            }
            push_long(out, 0);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_a_namespace() {
        assert_eq!(namespace("shop.orders"), "shop.orders");
        assert_eq!(namespace("dws-trade.7d..x"), "dws_trade._7d._.x");
    }

    #[test]
    fn places_before_the_point_are_digits() {
        assert_eq!((decimal(10, 2), decimal(2, 4), decimal(3, -2)), ((10, 2), (4, 4), (5, 0)));
    }
}
