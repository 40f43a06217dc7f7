//! What a message's own schema says of its values: the types that Kafka Connect and Debezium have names for.
//!
//! ```text
//! {"schema": {"type":"struct","fields":[{"field":"after","type":"struct","fields":[{"field":"at","type":"int64",
//!             "name":"io.debezium.time.MicroTimestamp"}, …]}, …]}, "payload": {…}}
//! ```

use std::collections::BTreeMap;

use super::declared::TimeUnit;
use super::json::Json;

/// What a value means beyond its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    /// Days since 1970-01-01.
    Days,
    /// A number of these, since midnight or since 1970.
    Count(TimeUnit),
    /// The bytes of an unscaled number, of this scale.
    Decimal(i16),
    /// The bytes of a number, the last ones first.
    Bits,
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
    Some(match field.get("name")?.text()? {
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Logical::Days,
        "io.debezium.time.Time"
        | "io.debezium.time.Timestamp"
        | "org.apache.kafka.connect.data.Time"
        | "org.apache.kafka.connect.data.Timestamp" => Logical::Count(TimeUnit::Milliseconds),
        "io.debezium.time.MicroTime" | "io.debezium.time.MicroTimestamp" | "io.debezium.time.MicroDuration" => {
            Logical::Count(TimeUnit::Microseconds)
        }
        "io.debezium.time.NanoTime" | "io.debezium.time.NanoTimestamp" => Logical::Count(TimeUnit::Nanoseconds),
        "org.apache.kafka.connect.data.Decimal" => {
            let scale = field.get("parameters")?.get("scale")?;
            Logical::Decimal(scale.text()?.parse().ok()?)
        }
        "io.debezium.data.Bits" => Logical::Bits,
        _ => return None,
    })
}
