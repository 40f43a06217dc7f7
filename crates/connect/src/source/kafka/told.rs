//! The columns of a table that declares none: those of the newest schema that a registry has under its topic's subject, `<topic>-value`,
//! and of the key those of `<topic>-key`, where the table names none.
//!
//! They are asked for when the table is described, at a start and at an apply: a topic's messages may change under way, and a table's
//! columns do not.

use relation::DataType;

use super::declared::{TimeUnit, Topical};
use super::logical::{self, Logical};
use crate::avro::{Kind, Node, Schema};
use crate::registry::{Found, Registry};
use crate::source::{Failure, TablePlace};

/// Digits of a decimal that does not say how many it has, and the most there are.
const PRECISION: u64 = 38;
const PRECISION_MAX: u64 = 76;

/// Why a table's columns are not told.
pub(super) enum Untold {
    /// What is wrong.
    Wrong(Vec<Failure>),
    /// The registry could not be asked.
    Unasked(Failure),
}

impl From<Untold> for Vec<Failure> {
    fn from(untold: Untold) -> Self {
        match untold {
            Untold::Wrong(failures) => failures,
            Untold::Unasked(failure) => vec![failure],
        }
    }
}

/// The table of a place that declares no columns.
pub(super) async fn read(place: &TablePlace, registry: &Registry) -> Result<Topical, Untold> {
    let found = topic_of(place).map_err(Untold::Wrong)?;
    let subject = format!("{}-value", found.topic);
    let schema = match registry.latest(&subject).await {
        Ok(Found::Schema(schema, _)) => schema,
        Ok(Found::None(reason)) => {
            let hint = "Declare the columns with their `data_type`, or wait until the schema is registered.";
            return Err(Untold::Wrong(vec![failure("its columns are not known", &reason, hint)]));
        }
        Err(trouble) => return Err(Untold::Unasked(trouble.failure)),
    };
    let columns = columns(&schema);
    if columns.is_empty() {
        let detail = format!("The schema under \"{subject}\" is of no record.");
        let found = failure("its columns are not known", &detail, "Declare them with their `data_type`.");
        return Err(Untold::Wrong(vec![found]));
    }
    let mut place = place.clone();
    if Topical::key_of(&place).is_none()
        && let Some(key) = key(registry, &found.topic, &columns).await.map_err(Untold::Unasked)?
    {
        place.declared.meta.insert("key".to_owned(), serde_json::Value::from(key).to_string());
    }
    Topical::with(&place, columns, Vec::new()).map_err(Untold::Wrong)
}

/// What of such a table can be told without asking. Errors: what is wrong.
pub(super) fn topic_of(place: &TablePlace) -> Result<Topical, Vec<Failure>> {
    let key = Topical::key_of(place).unwrap_or_default();
    Topical::with(place, key.into_iter().map(|name| (name, DataType::Text)).collect(), Vec::new())
}

fn failure(message: &str, detail: &str, hint: &str) -> Failure {
    Failure { message: message.to_owned(), detail: detail.to_owned(), hint: hint.to_owned() }
}

/// The names of the key's columns, where the schema of a topic's keys is a record of such.
async fn key(registry: &Registry, topic: &str, columns: &[(String, DataType)]) -> Result<Option<Vec<String>>, Failure> {
    let schema = match registry.latest(&format!("{topic}-key")).await {
        Ok(Found::Schema(schema, _)) => schema,
        Ok(Found::None(_)) => return Ok(None),
        Err(trouble) => return Err(trouble.failure),
    };
    let Some((_, fields)) = schema.record(schema.root()) else { return Ok(None) };
    let is_column = |name: &str| columns.iter().any(|(known, _)| known == name);
    let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    Ok(Some(names).filter(|names| !names.is_empty() && names.iter().all(|name| is_column(name))))
}

/// The columns of a schema's rows: of its record, or of what is within Debezium's envelope.
pub(super) fn columns(schema: &Schema) -> Vec<(String, DataType)> {
    let row = logical::row_of_envelope(schema).unwrap_or(schema.root());
    let fields = schema.record(row).map(|(_, fields)| fields).unwrap_or_default();
    let mut columns: Vec<(String, DataType)> = Vec::with_capacity(fields.len());
    for field in fields {
        if !columns.iter().any(|(known, _)| *known == field.name) {
            columns.push((field.name.clone(), type_of(schema, field.node)));
        }
    }
    columns
}

/// The type that has all values of a node.
fn type_of(schema: &Schema, at: usize) -> DataType {
    let node = schema.node(at);
    let logical = || logical::of_node(schema, at);
    match &node.kind {
        Kind::Union(branches) => {
            let mut others = branches.iter().filter(|at| schema.node(**at).kind != Kind::Null);
            match (others.next(), others.next()) {
                (Some(only), None) => type_of(schema, *only),
                // Any of them, as a text.
                _ => DataType::Text,
            }
        }
        Kind::Boolean => DataType::Bool,
        Kind::Int | Kind::Long => match (logical(), node.connect.is_some(), node.logical.as_deref()) {
            (Some(Logical::Days), ..) => DataType::Date,
            // MySQL's may be before midnight, or beyond a day's end.
            (Some(Logical::Time(_)), true, None) => DataType::Text,
            (Some(Logical::Time(_)), ..) => DataType::Time,
            // Debezium's of Kafka Connect are of columns without a zone.
            (Some(Logical::Timestamp(_)), true, _) => DataType::Timestamp,
            (Some(Logical::Timestamp(_)), false, Some(word)) if word.starts_with("local-") => DataType::Timestamp,
            (Some(Logical::Timestamp(TimeUnit::Seconds)), ..) => DataType::Timestamp,
            (Some(Logical::Timestamp(_)), ..) => DataType::TimestampTz,
            (Some(Logical::Duration(_)), ..) => DataType::Interval,
            _ if node.kind == Kind::Int => DataType::Int32,
            _ => DataType::Int64,
        },
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::Bytes | Kind::Fixed(_) if is_decimal(node) => decimal(node),
        Kind::Bytes if logical() == Some(Logical::Bits) => DataType::UInt64,
        Kind::Fixed(12) if node.logical.as_deref() == Some("duration") => DataType::Interval,
        Kind::Fixed(16) if node.logical.as_deref() == Some("uuid") => DataType::Text,
        Kind::Bytes | Kind::Fixed(_) => DataType::Bytes,
        Kind::Text => match node.connect.as_deref() {
            Some("io.debezium.data.Json") => DataType::Json,
            Some("io.debezium.time.ZonedTimestamp") => DataType::TimestampTz,
            Some("io.debezium.time.ZonedTime" | "io.debezium.time.IsoTime") => DataType::Time,
            Some("io.debezium.time.IsoDate") => DataType::Date,
            Some("io.debezium.time.IsoTimestamp") => DataType::Timestamp,
            Some("io.debezium.time.Interval") => DataType::Interval,
            _ => DataType::Text,
        },
        // One of any scale is a decimal whose digits none of ours has room for.
        Kind::Null | Kind::Enum(_) => DataType::Text,
        Kind::Record(..) if logical::is_variable_scale(node) => DataType::Text,
        Kind::Array(items) => match type_of(schema, *items) {
            DataType::Json | DataType::Array(_) | DataType::Bytes => DataType::Json,
            element => element.array().unwrap_or(DataType::Json),
        },
        Kind::Map(_) | Kind::Record(..) => DataType::Json,
    }
}

fn is_decimal(node: &Node) -> bool {
    let is_connects = node.connect.as_deref() == Some("org.apache.kafka.connect.data.Decimal");
    is_connects || node.logical.as_deref() == Some("decimal")
}

fn decimal(node: &Node) -> DataType {
    let (scale, precision) = (i64::from(node.scale), node.precision.unwrap_or(PRECISION));
    match (i8::try_from(scale), u8::try_from(precision.min(PRECISION_MAX))) {
        (Ok(scale @ 0..=76), Ok(precision)) => {
            DataType::Decimal { precision: precision.max(scale.unsigned_abs()), scale }
        }
        _ => DataType::Text,
    }
}
