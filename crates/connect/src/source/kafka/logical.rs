//! What a message's schema says of its values: the types that Kafka Connect, Debezium and Avro have names for.
//!
//! ```text
//! {"schema": {"type":"struct","fields":[{"field":"after","type":"struct","fields":[{"field":"at","type":"int64",
//!             "name":"io.debezium.time.MicroTimestamp"}, …]}, …]}, "payload": {…}}
//! ```
//!
//! In Avro they are `connect.name` beside a type, or Avro's own `logicalType`; a schema of changes is known by its fields.

use std::collections::BTreeMap;

use super::declared::TimeUnit;
use super::json::Json;
use crate::avro;

/// What a value means beyond its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    /// Days since 1970-01-01.
    Days,
    /// A number of these since midnight.
    Time(TimeUnit),
    /// … since 1970.
    Timestamp(TimeUnit),
    /// … from nowhere.
    Duration(TimeUnit),
    /// The bytes of an unscaled number, of this scale.
    Decimal(i16),
    /// An object of a scale and the bytes of an unscaled number.
    VariableScale,
    /// The bytes of a number, the last ones first.
    Bits,
}

impl Logical {
    /// What it is called.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Days => "a date",
            Self::Time(_) => "a time of the day",
            Self::Timestamp(_) => "a timestamp",
            Self::Duration(_) => "a duration",
            Self::Decimal(_) | Self::VariableScale => "a decimal",
            Self::Bits => "bits",
        }
    }
}

/// What is known of fields, by their names.
pub(super) type Fields = BTreeMap<String, Logical>;

/// The payload of a document that brings its schema along, and the schema.
pub(super) fn unwrapped<'j, 'a>(json: &'j Json<'a>) -> Option<(&'j Json<'a>, &'j Json<'a>)> {
    let Json::Object(members, _) = json else { return None };
    let is_envelope = members.len() == 2;
    let is_one = |schema: &&Json<'_>| is_envelope && (schema.is_object() || schema.is_null());
    json.get("payload").zip(json.get("schema").filter(is_one))
}

/// The fields of a schema of rows.
pub(super) fn fields(schema: &Json<'_>) -> Fields {
    let items = schema.get("fields").and_then(Json::items).unwrap_or_default();
    let of = |field: &Json<'_>| Some((field.get("field")?.text()?.to_owned(), logical(field)?));
    items.iter().filter_map(of).collect()
}

/// The fields of the rows within a schema of changes.
pub(super) fn fields_of_rows(schema: &Json<'_>) -> Fields {
    let items = schema.get("fields").and_then(Json::items).unwrap_or_default();
    let is_row = |field: &&Json<'_>| matches!(field.get("field").and_then(Json::text), Some("after" | "before"));
    items.iter().filter(is_row).flat_map(fields).collect()
}

fn logical(field: &Json<'_>) -> Option<Logical> {
    // What is said of an array's elements.
    if let (Some("array"), Some(items)) = (field.get("type").and_then(Json::text), field.get("items")) {
        return logical(items);
    }
    let scale = || field.get("parameters")?.get("scale")?.text()?.parse().ok();
    of_connect(field.get("name")?.text()?, scale)
}

/// What a name of Kafka Connect's means.
fn of_connect(name: &str, scale: impl FnOnce() -> Option<i16>) -> Option<Logical> {
    use TimeUnit::{Microseconds, Milliseconds, Nanoseconds};
    Some(match name {
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Logical::Days,
        "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time" => Logical::Time(Milliseconds),
        "io.debezium.time.MicroTime" => Logical::Time(Microseconds),
        "io.debezium.time.NanoTime" => Logical::Time(Nanoseconds),
        "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => Logical::Timestamp(Milliseconds),
        "io.debezium.time.MicroTimestamp" => Logical::Timestamp(Microseconds),
        "io.debezium.time.NanoTimestamp" => Logical::Timestamp(Nanoseconds),
        "io.debezium.time.MicroDuration" => Logical::Duration(Microseconds),
        "io.debezium.time.NanoDuration" => Logical::Duration(Nanoseconds),
        "org.apache.kafka.connect.data.Decimal" => Logical::Decimal(scale()?),
        "io.debezium.data.VariableScaleDecimal" => Logical::VariableScale,
        "io.debezium.data.Bits" => Logical::Bits,
        _ => return None,
    })
}

/// What a word of Avro's own means.
fn of_avro(word: &str) -> Option<Logical> {
    use TimeUnit::{Microseconds, Milliseconds, Nanoseconds};
    Some(match word {
        "date" => Logical::Days,
        "time-millis" => Logical::Time(Milliseconds),
        "time-micros" => Logical::Time(Microseconds),
        "timestamp-millis" | "local-timestamp-millis" => Logical::Timestamp(Milliseconds),
        "timestamp-micros" | "local-timestamp-micros" => Logical::Timestamp(Microseconds),
        "timestamp-nanos" | "local-timestamp-nanos" => Logical::Timestamp(Nanoseconds),
        _ => return None,
    })
}

/// What is known of the fields of a record of Avro's; none where the node is no record.
pub(super) fn fields_of_avro(schema: &avro::Schema, at: usize) -> Fields {
    let fields = schema.record(at).map(|(_, fields)| fields).unwrap_or_default();
    fields.iter().filter_map(|field| Some((field.name.clone(), of_node(schema, field.node)?))).collect()
}

/// Where the rows are in a schema of Debezium's changes; none where it is of something else.
pub(super) fn row_of_envelope(schema: &avro::Schema) -> Option<usize> {
    let (_, fields) = schema.record(schema.root())?;
    let node = |name: &str| fields.iter().find(|field| field.name == name).map(|field| field.node);
    match (node("op"), node("before"), node("after"), node("source")) {
        (Some(_), Some(_), after @ Some(_), Some(_)) => after,
        _ => None,
    }
}

/// Whether a node is a decimal that says its own scale.
pub(super) fn is_variable_scale(node: &avro::Node) -> bool {
    node.connect.as_deref().and_then(|name| of_connect(name, || None)) == Some(Logical::VariableScale)
}

/// What a node of Avro's means.
pub(super) fn of_node(schema: &avro::Schema, at: usize) -> Option<Logical> {
    let node = schema.node(at);
    match &node.kind {
        avro::Kind::Union(branches) => branches.iter().find_map(|at| of_node(schema, *at)),
        avro::Kind::Array(items) => of_node(schema, *items),
        // Decimals are numbers when they have been read.
        _ => {
            let connect = node.connect.as_deref().and_then(|name| of_connect(name, || None));
            connect.or_else(|| of_avro(node.logical.as_deref()?))
        }
    }
    .filter(|logical| !matches!(logical, Logical::VariableScale))
}
