//! From a message to what becomes of a table's rows.
//!
//! Each format says for a table either that a message is of another one, or what becomes of its rows, or that nobody can tell. A row of
//! which the key can be read, in the message's value or in its key, and something else cannot is a reject of that key: what there was of
//! it goes, and the next good message of the key takes the reject out again. Any other message that nobody can tell anything of is
//! *poison*, a reject that is known by its place.

mod canal;
mod debezium;
mod maxwell;
mod plain;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use relation::{Value, unreal};

use super::declared::{Format, Topical};
use super::json::Json;
use super::logical::{self, Fields};
use super::shelf::{Decoded, Shape, Shelf};
use super::value::{How, value};

/// A message of a topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// When it was written, in microseconds since 1970; none: it does not say.
    pub(super) at_us: Option<i64>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

/// Where it stands, as Kafka's own tools write it.
impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@{}", self.topic, self.partition, self.offset)
    }
}

impl Message<'_> {
    /// Bytes that are shown of one that cannot be read.
    const SHOWN_MAX: usize = 512;

    /// The first bytes of its value, or of its key where it has none.
    pub(super) fn shown(&self) -> String {
        let bytes = self.value.or(self.key).unwrap_or_default();
        let first = bytes.get(..Self::SHOWN_MAX).unwrap_or(bytes);
        let mut text = String::from_utf8_lossy(first).replace('\0', "\u{fffd}");
        if first.len() < bytes.len() {
            text.push('…');
        }
        text
    }
}

/// Key and value of a message in Avro, as documents.
#[derive(Debug)]
pub(super) struct Documents {
    key: Option<Decoded>,
    /// None: there is no value. The inner one: it is not in the format of a registry.
    value: Option<Option<Decoded>>,
}

impl Documents {
    pub(super) fn of(message: &Message<'_>, shelf: &Shelf) -> Self {
        Self {
            key: message.key.and_then(|key| shelf.decoded(key)),
            value: message.value.map(|value| shelf.decoded(value)),
        }
    }

    /// The message with the document in the place of its value, which people can read.
    pub(super) fn shown<'a>(&'a self, message: &Message<'a>) -> Message<'a> {
        let document = |decoded: &'a Option<Decoded>| decoded.as_ref()?.document.as_deref().ok().map(str::as_bytes);
        Message { value: self.value.as_ref().and_then(document).or(message.value), ..*message }
    }
}

/// Key and value of a message, read once for all tables of its topic that are written alike.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    key: Key<'a>,
    /// None: there is no value. Errors: a sentence.
    value: Option<Result<Json<'a>, String>>,
    /// What a registry's schema says of the value, where one does.
    shape: Option<&'a Shape>,
}

/// A message's key.
#[derive(Debug)]
struct Key<'a> {
    /// One that is no document is the text that it is; none where it is not even that.
    json: Option<Json<'a>>,
    /// What a registry's schema says of its fields, where one does.
    fields: Option<&'a Arc<Fields>>,
}

impl<'a> Parsed<'a> {
    /// A message of JSON.
    pub(super) fn of(message: &Message<'a>) -> Self {
        let json = |bytes| Json::parse(bytes).map_err(|error| format!("The message is no JSON: {error}."));
        Self {
            key: Key { json: message.key.and_then(text_or_json), fields: None },
            value: message.value.map(json),
            shape: None,
        }
    }

    /// A message of Avro; its key may be written otherwise.
    pub(super) fn of_avro(message: &Message<'a>, documents: &'a Documents) -> Self {
        const NOT_FRAMED: &str = "The message does not begin as those of a schema registry do: with a zero, and the schema's id in \
                                  four bytes.";
        let json = |decoded: &'a Option<Decoded>| match decoded {
            None => Err(NOT_FRAMED.to_owned()),
            Some(Decoded { document, .. }) => match document {
                Ok(document) => {
                    Json::parse(document.as_bytes()).map_err(|error| format!("The message is no row: {error}."))
                }
                Err(reason) => Err(reason.clone()),
            },
        };
        let key = match &documents.key {
            None => Key { json: message.key.and_then(text_or_json), fields: None },
            Some(Decoded { document, shape }) => {
                let json = document.as_ref().ok().and_then(|document| Json::parse(document.as_bytes()).ok());
                Key { json, fields: Some(&shape.fields) }
            }
        };
        let shape = documents.value.as_ref().and_then(|decoded| Some(&*decoded.as_ref()?.shape));
        Self { key, value: documents.value.as_ref().map(json), shape }
    }
}

fn text_or_json(bytes: &[u8]) -> Option<Json<'_>> {
    match Json::parse(bytes) {
        Ok(json) => Some(json),
        Err(_) => std::str::from_utf8(bytes).ok().map(|text| Json::Text(Cow::Borrowed(text), text)),
    }
}

/// What a message says to a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Read {
    /// Nothing: it is of another table, or of no row.
    Elsewhere,
    Told(Vec<Told>),
    /// Nobody can tell, for this reason, a sentence.
    Poison(String),
}

/// What becomes of rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// The row is this one now.
    Up(Vec<Value>),
    /// The row of these key values is no more; the other values are NULL.
    Gone(Vec<Value>),
    /// No row is there any more.
    Emptied,
    /// What the row is cannot be read. Its values as far as they can, where its key is among them.
    Unread { known: Option<Vec<Value>>, reason: String },
}

/// Schemas that messages brought along, each read once.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    known: Vec<(String, Arc<Fields>)>,
}

impl Schemas {
    /// Schemas that are kept; the oldest one goes.
    const KEPT_MAX: usize = 16;
    /// Bytes of one that is kept.
    const BYTES_MAX: usize = 256 << 10;

    fn fields(&mut self, schema: &Json<'_>, read: fn(&Json<'_>) -> Fields) -> Arc<Fields> {
        let raw = schema.raw();
        if let Some((_, fields)) = self.known.iter().find(|(known, _)| known == raw) {
            return Arc::clone(fields);
        }
        let fields = Arc::new(read(schema));
        if raw.len() <= Self::BYTES_MAX {
            if self.known.len() >= Self::KEPT_MAX {
                self.known.remove(0);
            }
            self.known.push((raw.to_owned(), Arc::clone(&fields)));
        }
        fields
    }

    /// What a document is of, and what is known of its fields: by a registry's schema, or by the one that it brings along.
    fn opened<'j, 'a>(
        &mut self,
        json: &'j Json<'a>,
        beside: Option<&Arc<Fields>>,
        read: fn(&Json<'_>) -> Fields,
    ) -> (&'j Json<'a>, Arc<Fields>) {
        match (beside, logical::unwrapped(json)) {
            (Some(fields), _) => (json, Arc::clone(fields)),
            (None, Some((payload, schema))) => (payload, self.fields(schema, read)),
            (None, None) => (json, Arc::default()),
        }
    }
}

/// Reads a message as a table's format has it.
pub(super) fn read(table: &Topical, parsed: &Parsed<'_>, schemas: &mut Schemas) -> Read {
    let Parsed { key, value, shape } = parsed;
    let value = match value {
        None => None,
        Some(Ok(json)) => Some(json),
        Some(Err(reason)) => return known_by_key(table, key, Read::Poison(reason.clone()), schemas),
    };
    let read = match table.format {
        Format::Maxwell => maxwell::read(table, key.json.as_ref(), value),
        Format::Debezium => debezium::read(table, key, value, None, schemas),
        Format::Canal => canal::read(table, value),
        Format::Json => plain::read(table, key, value, None, schemas),
        Format::Avro => avro(table, key, (value, *shape), schemas),
    };
    match value {
        // Its key was looked at already.
        None => read,
        Some(_) => known_by_key(table, key, read, schemas),
    }
}

/// A message of which nobody can tell what it says is of the row that a tombstone with its key would take away, where there is one.
fn known_by_key(table: &Topical, key: &Key<'_>, read: Read, schemas: &mut Schemas) -> Read {
    let reason = match &read {
        Read::Poison(reason) => reason,
        Read::Told(told) => match &told[..] {
            [Told::Unread { known: None, reason }] => reason,
            _ => return read,
        },
        Read::Elsewhere => return read,
    };
    let gone = match table.format {
        _ if !table.is_keyed() => return read,
        Format::Maxwell => maxwell::read(table, key.json.as_ref(), None),
        // Several rows are in one message.
        Format::Canal => return read,
        // Of which table the key is where a topic has several is not said.
        Format::Debezium | Format::Json | Format::Avro if table.is_shared() => return read,
        Format::Debezium | Format::Json | Format::Avro => gone_by_key(table, key, schemas),
    };
    match gone {
        Read::Elsewhere => Read::Elsewhere,
        Read::Told(told) => match <[Told; 1]>::try_from(told) {
            Ok([Told::Gone(values)]) => Read::Told(vec![Told::Unread { known: Some(values), reason: reason.clone() }]),
            _ => read,
        },
        Read::Poison(_) => read,
    }
}

/// A message of Avro is a row, or a change in Debezium's envelope.
fn avro(
    table: &Topical,
    key: &Key<'_>,
    (value, shape): (Option<&Json<'_>>, Option<&Shape>),
    schemas: &mut Schemas,
) -> Read {
    let of_rows = shape.and_then(|shape| shape.of_rows.as_ref());
    match (value, of_rows) {
        (Some(_), Some(_)) if !table.is_keyed() => poison(
            "The message is a change in Debezium's envelope, and rows are known by their keys: write `key: [id]` in the table's `meta`.",
        ),
        (Some(_), Some(_)) => debezium::read(table, key, value, of_rows, schemas),
        // Of which table a key without a value is, where a topic has several, is not said.
        (None, _) if table.is_shared() => Read::Elsewhere,
        (Some(_), None) if !shape.is_some_and(|shape| is_record_of(table, &shape.record)) => Read::Elsewhere,
        _ => plain::read(table, key, value, shape.map(|shape| &shape.fields), schemas),
    }
}

/// Whether a record is a table's: by its name, or by its full one.
fn is_record_of(table: &Topical, record: &str) -> bool {
    let name = record.rsplit_once('.').map_or(record, |(_, name)| name);
    table.table.as_deref().is_none_or(|wanted| wanted == record || wanted == name)
}

fn poison(reason: &str) -> Read {
    Read::Poison(reason.to_owned())
}

/// A message of a table that nobody can read is the table's.
fn of_table(read: Read) -> Read {
    match read {
        Read::Poison(reason) => Read::Told(vec![Told::Unread { known: None, reason }]),
        told => told,
    }
}

/// Whether what a message says of its database and table is what a table takes.
fn is_of(table: &Topical, database: Option<&str>, name: Option<&str>) -> bool {
    let is = |wanted: &Option<String>, said: Option<&str>| wanted.as_deref().is_none_or(|wanted| said == Some(wanted));
    is(&table.database, database) && is(&table.table, name)
}

/// The members of which a row is read.
#[derive(Clone, Copy)]
struct Members<'j, 'a> {
    of: &'j Json<'a>,
    /// Those of the message's key, for columns that are not among the others.
    or: Option<&'j Json<'a>>,
}

impl<'j, 'a> Members<'j, 'a> {
    fn alone(of: &'j Json<'a>) -> Self {
        Self { of, or: None }
    }

    fn get(&self, name: &str) -> Option<&'j Json<'a>> {
        self.of.get(name).or_else(|| self.or.and_then(|or| or.get(name)))
    }
}

/// A row of members.
fn row(table: &Topical, members: Members<'_, '_>, fields: &Fields) -> Told {
    let mut fault = None;
    let columns = table.schema.columns.iter().enumerate();
    let read = columns.map(|(at, column)| {
        let Some(json) = members.get(&column.name) else { return Value::Null };
        let logical = fields.get(&column.name).copied();
        let how = How { format: table.format, logical, time_unit: table.time_unit };
        let read = value(json, column.data_type, how).unwrap_or_else(|clause| {
            fault.get_or_insert_with(|| format!("Column \"{}\" ({}): {clause}.", column.name, column.data_type));
            Value::Null
        });
        // A date that no calendar has is NULL, but for keys that must stay apart.
        if is_unreal(&read) && !table.schema.key.contains(&at) { Value::Null } else { read }
    });
    let values: Vec<Value> = read.collect();
    match (unkeyed(table, &values), fault) {
        (None, None) => Told::Up(values),
        (None, Some(reason)) => Told::Unread { known: Some(values).filter(|_| table.is_keyed()), reason },
        (Some(_), Some(reason)) => Told::Unread { known: None, reason },
        (Some(column), None) => {
            Told::Unread { known: None, reason: format!("The key's column \"{column}\" is missing or NULL.") }
        }
    }
}

fn is_unreal(value: &Value) -> bool {
    match value {
        Value::Date(day) => unreal::is_day(i64::from(*day)),
        Value::Timestamp(us) | Value::TimestampTz(us) => unreal::is_instant(*us),
        _ => false,
    }
}

/// The first column of the key that has no value.
fn unkeyed<'t>(table: &'t Topical, values: &[Value]) -> Option<&'t str> {
    let mut key = table.schema.key.iter();
    let column = key.find(|&&at| values.get(at).is_none_or(Value::is_null))?;
    table.schema.columns.get(*column).map(|column| column.name.as_str())
}

/// The row of a key that goes, out of members by the columns' names.
fn gone(table: &Topical, members: Members<'_, '_>, fields: &Fields) -> Told {
    let mut values = vec![Value::Null; table.schema.columns.len()];
    for &at in &table.schema.key {
        let column = &table.schema.columns[at];
        let how = How { format: table.format, logical: fields.get(&column.name).copied(), time_unit: table.time_unit };
        let read = match members.get(&column.name) {
            Some(json) => value(json, column.data_type, how),
            None => Ok(Value::Null),
        };
        match read {
            Ok(Value::Null) => {
                let reason = format!("A row goes, and the key's column \"{}\" is missing or NULL.", column.name);
                return Told::Unread { known: None, reason };
            }
            Ok(value) => values[at] = value,
            Err(clause) => {
                let reason = format!("A row goes: column \"{}\" ({}): {clause}.", column.name, column.data_type);
                return Told::Unread { known: None, reason };
            }
        }
    }
    Told::Gone(values)
}

/// What an update does: where the key was another one, its row goes first.
fn update(
    table: &Topical,
    before: Option<Members<'_, '_>>,
    after: Members<'_, '_>,
    fields: &Fields,
    out: &mut Vec<Told>,
) {
    let now = row(table, after, fields);
    if let (Some(before), Told::Up(values) | Told::Unread { known: Some(values), .. }) = (before, &now)
        && let Told::Gone(old) = gone(table, before, fields)
        && table.schema.key.iter().any(|&at| old[at] != values[at])
    {
        out.push(Told::Gone(old));
    }
    out.push(now);
}

/// The row that goes by the key of its message.
fn gone_by_key(table: &Topical, key: &Key<'_>, schemas: &mut Schemas) -> Read {
    let Some(json) = key.json.as_ref().filter(|json| !json.is_null()) else {
        return poison("The message has neither a value nor a key that can be read.");
    };
    let (key, fields) = schemas.opened(json, key.fields, logical::fields);
    let told = match (key, &table.schema.key[..]) {
        (Json::Object(..), _) => gone(table, Members::alone(key), &fields),
        (Json::Array(..), _) => return poison("The message has no value, and its key is no object."),
        (scalar, [at]) => {
            let name = Cow::Borrowed(table.schema.columns[*at].name.as_str());
            let of = Json::Object(vec![(name, scalar.clone())], "");
            gone(table, Members::alone(&of), &fields)
        }
        _ => return poison("The message has no value, and its key is one value for a key of several columns."),
    };
    match told {
        Told::Unread { known: None, reason } => Read::Poison(reason),
        told => Read::Told(vec![told]),
    }
}
