//! What rows become: the words of `to`, and the messages that are made of a row.

use relation::{DataType, Layout};

use crate::base64;
use crate::destination::kind::At;
use crate::destination::text::{self, Words, push_json_column, push_json_text};
use crate::destination::{Field, Item, MARKERS, Mapping, Problem, Refusal, Target};

use super::avro::{self, Ids, Schemas};

/// The keys of `to`.
pub(super) const KEYS: [&str; 7] = ["topic", "format", "delivery", "create", "partitions", "replication", "table"];
const TEXTS: [&str; 4] = ["topic", "format", "delivery", "table"];
const SWITCHES: [&str; 1] = ["create"];
const NUMBERS: [&str; 2] = ["partitions", "replication"];
/// The longest name of a topic.
const NAME_MAX: usize = 249;
/// What the broker chooses: its own default.
const CHOSEN: i32 = -1;

/// How a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Its columns as an object.
    Json,
    /// In an envelope, as Debezium writes changes.
    Debezium,
    /// As Maxwell writes changes.
    Maxwell,
    /// By schemas that a registry has.
    Avro,
}

/// How a topic is made where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) partitions: i32,
    pub(super) replication: i32,
}

impl Made {
    /// One partition, and the broker chooses the rest.
    pub(super) const SINGLE: Self = Self { partitions: 1, replication: CHOSEN };
}

/// What a target says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) topic: String,
    /// Whether a portion and its mark are one transaction.
    pub(super) is_exact: bool,
    /// Whether the topic is made where there is none, and how.
    pub(super) made: Option<Made>,
    /// The schemas of its messages, where it is Avro.
    pub(super) avro: Option<Schemas>,
    format: Format,
    /// What messages call the database and the table that they are of.
    database: String,
    table: String,
    sync: String,
}

/// One message: a key, and a value unless it says that nothing is under the key any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

impl Form {
    /// What a target says. Errors: all problems.
    pub(super) fn of(target: &Target) -> Result<Self, Vec<Problem>> {
        let mut found = target.problems_of(&TEXTS, &SWITCHES, &NUMBERS);
        if !found.is_empty() {
            return Err(found);
        }
        let topic = topic(target).map_err(|problem| found.push(problem)).unwrap_or_default();
        let format = format(target).map_err(|problem| found.push(problem)).unwrap_or(Format::Json);
        let is_exact = is_exact(target).map_err(|problem| found.push(problem)).unwrap_or_default();
        let made = made(target).map_err(|problem| found.push(problem)).unwrap_or_default();
        let (database, table) =
            table(target, &topic, format).map_err(|problem| found.push(problem)).unwrap_or_default();
        found.extend(target.unfit_keys());
        let schemas = (format == Format::Avro).then(|| Schemas::of(&target.mapping, &topic)).transpose();
        let avro = schemas.map_err(|problems| found.extend(problems)).unwrap_or_default();
        match found.is_empty() {
            true => Ok(Self { topic, is_exact, made, avro, format, database, table, sync: target.sync.clone() }),
            false => Err(found),
        }
    }

    /// The messages for an item whose key has no NULL, in their order. The time is in milliseconds since 1970, and `ids` are those of its
    /// schemas, where it has some. Errors: there are none for it.
    pub(super) fn messages(
        &self,
        mapping: &Mapping,
        item: Item<'_>,
        now_ms: i64,
        ids: Ids,
    ) -> Result<Vec<Message>, Refusal> {
        if self.avro.is_some() {
            let value = match item {
                Item::Upsert(row) => Some(avro::value(mapping, row, ids)?),
                Item::Delete(_) => None,
            };
            return Ok(vec![Message { key: avro::key(mapping, item, ids)?, value }]);
        }
        let (key, value) = (self.key(mapping, item)?, self.value(mapping, item, now_ms)?);
        // Debezium tells what has become of a row, and then has the topic forget its key.
        let forgets = self.format == Format::Debezium && value.is_some() && matches!(item, Item::Delete(_));
        let mut messages = vec![Message { key, value }];
        if forgets {
            messages.push(Message { key: messages[0].key.clone(), value: None });
        }
        Ok(messages)
    }

    /// The key of an item: an object of what identifies its row.
    fn key(&self, mapping: &Mapping, item: Item<'_>) -> Result<Vec<u8>, Refusal> {
        let mut out = vec![b'{'];
        let is_maxwell = self.format == Format::Maxwell;
        if is_maxwell {
            out.extend_from_slice(b"\"database\":");
            push_json_text(&mut out, &self.database);
            out.extend_from_slice(b",\"table\":");
            push_json_text(&mut out, &self.table);
        }
        for (i, field) in mapping.key_fields().enumerate() {
            if out.len() > 1 {
                out.push(b',');
            }
            match is_maxwell {
                true => push_json_text(&mut out, &format!("pk.{}", field.target.to_lowercase())),
                false => push_json_text(&mut out, &field.target),
            }
            out.push(b':');
            let (layout, row, at) = mapping.key_place(item, i);
            self.push_value(&mut out, layout, row, at)?;
        }
        out.push(b'}');
        Ok(out)
    }

    fn value(&self, mapping: &Mapping, item: Item<'_>, now_ms: i64) -> Result<Option<Vec<u8>>, Refusal> {
        let mut out = Vec::new();
        let (before, after) = match item {
            Item::Delete(_) if self.format == Format::Json => return Ok(None),
            Item::Delete(_) => (Some(self.columns(mapping, item)?), None),
            Item::Upsert(_) => (None, Some(self.columns(mapping, item)?)),
        };
        let null = || b"null".to_vec();
        match self.format {
            // Those of Avro are made elsewhere.
            Format::Json | Format::Avro => return Ok(after),
            Format::Debezium => {
                let op = if after.is_some() { "c" } else { "d" };
                out.extend_from_slice(b"{\"before\":");
                out.extend(before.unwrap_or_else(null));
                out.extend_from_slice(b",\"after\":");
                out.extend(after.unwrap_or_else(null));
                out.extend_from_slice(b",\"source\":{\"connector\":\"tidemill\",\"name\":");
                push_json_text(&mut out, &self.sync);
                out.extend_from_slice(b",\"db\":");
                push_json_text(&mut out, &self.database);
                out.extend_from_slice(b",\"table\":");
                push_json_text(&mut out, &self.table);
                out.extend_from_slice(format!(",\"ts_ms\":{now_ms}}},\"op\":\"{op}\",\"ts_ms\":{now_ms}}}").as_bytes());
            }
            Format::Maxwell => {
                let kind = if after.is_some() { "insert" } else { "delete" };
                out.extend_from_slice(b"{\"database\":");
                push_json_text(&mut out, &self.database);
                out.extend_from_slice(b",\"table\":");
                push_json_text(&mut out, &self.table);
                let seconds = now_ms.div_euclid(1_000);
                out.extend_from_slice(format!(",\"type\":\"{kind}\",\"ts\":{seconds},\"data\":").as_bytes());
                out.extend(after.or(before).unwrap_or_else(null));
                out.push(b'}');
            }
        }
        Ok(Some(out))
    }

    /// What is known of a row as an object: all that is delivered, or its key where it leaves.
    fn columns(&self, mapping: &Mapping, item: Item<'_>) -> Result<Vec<u8>, Refusal> {
        let mut out = vec![b'{'];
        let mut push = |field: &Field, layout: &Layout, row: &[u8], at: usize| {
            if out.len() > 1 {
                out.push(b',');
            }
            push_json_text(&mut out, &field.target);
            out.push(b':');
            self.push_value(&mut out, layout, row, at)
        };
        match item {
            Item::Upsert(row) => {
                mapping.fields().iter().try_for_each(|field| push(field, mapping.layout(), row, field.at))?;
            }
            Item::Delete(_) => {
                let mut fields = mapping.key_fields().enumerate();
                fields.try_for_each(|(i, field)| {
                    let (layout, row, at) = mapping.key_place(item, i);
                    push(field, layout, row, at)
                })?;
            }
        }
        out.push(b'}');
        Ok(out)
    }

    /// Numbers with all their digits, documents as they are, everything else as a text. In Maxwell's messages truth is 1 or 0, and times
    /// are MySQL's, in UTC; there and in Debezium's bytes are in base64.
    fn push_value(&self, out: &mut Vec<u8>, layout: &Layout, row: &[u8], at: usize) -> Result<(), Refusal> {
        let is_maxwell = self.format == Format::Maxwell;
        match layout.types()[at] {
            _ if layout.is_null(row, at) => out.extend_from_slice(b"null"),
            DataType::Bytes if self.format != Format::Json => {
                out.push(b'"');
                base64::push(out, layout.bytes(row, at));
                out.push(b'"');
            }
            DataType::Bool if is_maxwell => text::push(out, layout, row, at, Words::Mysql)?,
            DataType::Date | DataType::Timestamp | DataType::TimestampTz if is_maxwell => {
                out.push(b'"');
                text::push(out, layout, row, at, Words::Mysql)?;
                out.push(b'"');
            }
            _ => push_json_column(out, layout, row, at),
        }
        Ok(())
    }
}

fn problem(at: &str, message: impl Into<String>) -> Problem {
    Problem::new(At::To(at.to_owned()), message)
}

/// Whether a topic can have a name.
fn is_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(is_letter) && text != "." && text != ".."
}

fn topic(target: &Target) -> Result<String, Problem> {
    let Some(name) = target.text("topic") else { return Err(problem("topic", "`to` names no `topic`")) };
    if !is_name(name) {
        let hint = format!("Letters, digits, `.`, `_` and `-`, {NAME_MAX} of them at most.");
        return Err(problem("topic", format!("`{name}` is no name of a topic")).hint(hint));
    }
    if name == MARKERS {
        return Err(problem("topic", format!("`{MARKERS}` is where deliveries leave their marks")));
    }
    Ok(name.to_owned())
}

fn format(target: &Target) -> Result<Format, Problem> {
    match target.text("format").unwrap_or("json") {
        "json" => Ok(Format::Json),
        "debezium" => Ok(Format::Debezium),
        "maxwell" => Ok(Format::Maxwell),
        "avro" => Ok(Format::Avro),
        unknown => {
            let found = problem("format", format!("unknown `format`: `{unknown}`"));
            Err(found.hint("One of: json, debezium, maxwell, avro."))
        }
    }
}

fn is_exact(target: &Target) -> Result<bool, Problem> {
    match target.text("delivery").unwrap_or("at_least_once") {
        "at_least_once" => Ok(false),
        "exactly_once" => Ok(true),
        unknown => {
            let found = problem("delivery", format!("unknown `delivery`: `{unknown}`"));
            Err(found.hint("One of: at_least_once, exactly_once."))
        }
    }
}

fn made(target: &Target) -> Result<Option<Made>, Problem> {
    let number = |key: &str, max: i64| match target.to.get(key).map(|value| value.as_i64()) {
        None => Ok(CHOSEN),
        Some(Some(number)) if (1..=max).contains(&number) => Ok(i32::try_from(number).unwrap_or(CHOSEN)),
        Some(_) => Err(problem(key, format!("`{key}` should be a number from 1 to {max}"))),
    };
    let made = Made { partitions: number("partitions", 10_000)?, replication: number("replication", 32)? };
    if target.is_on("create") {
        return Ok(Some(made));
    }
    match NUMBERS.iter().find(|key| target.to.contains_key(**key)) {
        None => Ok(None),
        Some(key) => {
            let found = problem(key, format!("`{key}` has no meaning without `create: true`"));
            Err(found.hint("It is of the topic that is made where there is none."))
        }
    }
}

/// The database and table that messages name: `table: database.table`, or the topic.
fn table(target: &Target, topic: &str, format: Format) -> Result<(String, String), Problem> {
    let word = match format {
        Format::Json => Some("json"),
        Format::Avro => Some("avro"),
        Format::Debezium | Format::Maxwell => None,
    };
    if let Some(word) = word.filter(|_| target.to.contains_key("table")) {
        return Err(problem("table", format!("`table` has no meaning with `format: {word}`")));
    }
    match target.text("table") {
        None => Ok(("tidemill".to_owned(), topic.to_owned())),
        Some(_) => {
            let (database, table) = target.table()?;
            Ok((database.unwrap_or("tidemill").to_owned(), table.to_owned()))
        }
    }
}
