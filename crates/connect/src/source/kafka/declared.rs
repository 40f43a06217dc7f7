//! What a table of a topic is: the words of its `meta`, and its columns as they are declared.

use std::fmt;

use relation::{Column, DataType, Layout, Schema};
use serde_json::Value as Json;

use crate::source::{Declared, Failure, OnChange, TablePlace};

/// The words of `meta`.
pub(super) const KEYS: &[&str] = &["topic", "format", "key", "start", "database", "table", "time_unit"];

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    Maxwell,
    Debezium,
    Canal,
    Json,
    /// By the schemas of a registry: rows, or Debezium's envelopes.
    Avro,
}

impl Format {
    /// Whether values are as Kafka Connect writes those of Debezium.
    pub(super) fn is_of_connect(self) -> bool {
        matches!(self, Self::Debezium | Self::Avro)
    }
}

/// Where a table begins that has not been read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Earliest,
    Latest,
}

/// What a number counts that is a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Maxwell => "maxwell",
            Self::Debezium => "debezium",
            Self::Canal => "canal",
            Self::Json => "json",
            Self::Avro => "avro",
        })
    }
}

/// A table of a topic.
#[derive(Debug, Clone)]
pub(super) struct Topical {
    pub(super) topic: String,
    pub(super) format: Format,
    pub(super) start: Start,
    /// The database whose changes are the table's; none: any.
    pub(super) database: Option<String>,
    /// The table whose changes are; none: any.
    pub(super) table: Option<String>,
    pub(super) time_unit: Option<TimeUnit>,
    pub(super) schema: Schema,
    pub(super) layout: Layout,
}

impl Topical {
    /// Reads what is declared. Errors: all that is wrong.
    pub(super) fn read(place: &TablePlace) -> Result<Self, Vec<Failure>> {
        let mut wrong = Vec::new();
        let columns = columns(&place.declared, &mut wrong);
        Self::with(place, columns, wrong)
    }

    /// Whether its columns are those of a registry's schema: none are declared.
    pub(super) fn is_told(place: &TablePlace) -> bool {
        place.declared.columns.is_empty() && place.declared.get("format") == Some(Json::from("avro"))
    }

    /// The names of its key, as they are declared; none: they are not.
    pub(super) fn key_of(place: &TablePlace) -> Option<Vec<String>> {
        match place.declared.get("key")? {
            Json::String(name) => Some(vec![name]),
            Json::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        }
    }

    /// What is declared, with columns that are known already; `wrong` is what was wrong with them.
    pub(super) fn with(
        place: &TablePlace,
        columns: Vec<(String, DataType)>,
        mut columns_wrong: Vec<Failure>,
    ) -> Result<Self, Vec<Failure>> {
        let declared = &place.declared;
        let mut wrong = Vec::new();
        let topic = text(declared, "topic", &mut wrong);
        if topic.is_none() && wrong.is_empty() {
            wrong.push(failure("the topic is not said", "Write `config: {meta: {topic: …, format: …}}`."));
        }
        let format = format(declared, &mut wrong);
        let start = match text(declared, "start", &mut wrong).as_deref() {
            None | Some("earliest") => Start::Earliest,
            Some("latest") => Start::Latest,
            Some(word) => {
                wrong.push(failure(&format!("unknown `start` `{word}`"), "One of: earliest, latest."));
                Start::Earliest
            }
        };
        let time_unit = time_unit(declared, &mut wrong);
        let database = text(declared, "database", &mut wrong);
        let table = text(declared, "table", &mut wrong);
        wrong.append(&mut columns_wrong);
        let key = key(declared, format, &columns, &mut wrong);
        if let OnChange::Map(_) = place.columns.on_change {
            let message = "`on_change: map` says nothing of a table of a topic";
            wrong.push(failure(message, "Take it out: the columns are those that are declared."));
        }
        let of_place = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        // Topics of Maxwell and Canal have many tables in them, and each message says of which it is.
        let is_shared = matches!(format, Some(Format::Maxwell | Format::Canal));
        let (Some(topic), Some(format), true) = (topic, format, wrong.is_empty()) else { return Err(wrong) };
        let columns = columns.into_iter().enumerate();
        let columns = columns.map(|(at, (name, data_type))| Column { name, data_type, nullable: !key.contains(&at) });
        let schema = Schema::new(columns.collect(), key);
        Ok(Self {
            topic,
            format,
            start,
            database: database.or_else(|| of_place(&place.database).filter(|_| is_shared)),
            table: table.or_else(|| of_place(&place.name).filter(|_| is_shared)),
            time_unit,
            layout: Layout::new(schema.types()),
            schema,
        })
    }

    /// Errors: its messages are read by the schemas of a registry, and the connection has none.
    pub(super) fn needs_no_registry(&self, connection: &str) -> Result<(), Failure> {
        match self.format {
            Format::Avro => Err(Failure {
                message: "`format: avro` needs a schema registry".to_owned(),
                detail: "Messages of Avro name their schemas by numbers.".to_owned(),
                hint: format!(
                    "Write `schema_registry: 'http://…'` in connections.yml at the connection \"{connection}\"."
                ),
            }),
            _ => Ok(()),
        }
    }

    /// A word that is another one where messages would mean other rows.
    pub(super) fn word(&self) -> String {
        let Self { topic, format, database, table, time_unit, schema, .. } = self;
        format!("{topic} {format} {database:?} {table:?} {time_unit:?} {schema}")
    }

    /// Whether its topic has messages of other tables too.
    pub(super) fn is_shared(&self) -> bool {
        self.table.is_some() || self.database.is_some()
    }

    pub(super) fn is_keyed(&self) -> bool {
        !self.schema.key.is_empty()
    }
}

fn failure(message: &str, hint: &str) -> Failure {
    Failure { message: message.to_owned(), detail: String::new(), hint: hint.to_owned() }
}

fn text(declared: &Declared, key: &str, wrong: &mut Vec<Failure>) -> Option<String> {
    match declared.get(key)? {
        Json::String(text) if !text.is_empty() => Some(text),
        _ => {
            wrong.push(failure(&format!("`{key}` should be a text"), "Correct it in the table's `meta`."));
            None
        }
    }
}

fn format(declared: &Declared, wrong: &mut Vec<Failure>) -> Option<Format> {
    const WORDS: &str = "One of: maxwell, debezium, canal, json, avro.";
    let before = wrong.len();
    let Some(word) = text(declared, "format", wrong) else {
        if wrong.len() == before {
            wrong.push(failure("the format of the messages is not said", WORDS));
        }
        return None;
    };
    match word.as_str() {
        "maxwell" => Some(Format::Maxwell),
        "debezium" => Some(Format::Debezium),
        "canal" => Some(Format::Canal),
        "json" => Some(Format::Json),
        "avro" => Some(Format::Avro),
        _ => {
            wrong.push(failure(&format!("unknown `format` `{word}`"), WORDS));
            None
        }
    }
}

fn time_unit(declared: &Declared, wrong: &mut Vec<Failure>) -> Option<TimeUnit> {
    Some(match text(declared, "time_unit", wrong)?.as_str() {
        "seconds" => TimeUnit::Seconds,
        "milliseconds" => TimeUnit::Milliseconds,
        "microseconds" => TimeUnit::Microseconds,
        "nanoseconds" => TimeUnit::Nanoseconds,
        word => {
            let hint = "One of: seconds, milliseconds, microseconds, nanoseconds.";
            wrong.push(failure(&format!("unknown `time_unit` `{word}`"), hint));
            return None;
        }
    })
}

fn columns(declared: &Declared, wrong: &mut Vec<Failure>) -> Vec<(String, DataType)> {
    if declared.columns.is_empty() {
        wrong.push(failure(
            "its columns are not declared",
            "Messages do not say the types of their values: name the columns with their `data_type`.",
        ));
    }
    let mut columns: Vec<(String, DataType)> = Vec::new();
    for column in &declared.columns {
        let name = &column.name;
        let hint = "Types are those of SQL: bigint, text, numeric(10,2), timestamp.";
        if columns.iter().any(|(known, _)| known == name) {
            wrong.push(failure(&format!("column `{name}` is declared twice"), "Leave one of them out."));
        }
        match column.data_type {
            Some(data_type) => columns.push((name.clone(), data_type)),
            None if column.written.is_empty() => {
                wrong.push(failure(&format!("column `{name}` has no `data_type`"), hint));
            }
            None => {
                let message = format!("column `{name}` has the unknown type `{}`", column.written);
                wrong.push(failure(&message, hint));
            }
        }
    }
    columns
}

/// Positions of the key's columns.
fn key(
    declared: &Declared,
    format: Option<Format>,
    columns: &[(String, DataType)],
    wrong: &mut Vec<Failure>,
) -> Vec<usize> {
    let names: Vec<String> = match declared.get("key") {
        None => Vec::new(),
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(items)) if items.iter().all(Json::is_string) => {
            items.iter().filter_map(Json::as_str).map(str::to_owned).collect()
        }
        Some(_) => {
            wrong.push(failure("`key` should be a list of columns", "Write `key: [id]`."));
            return Vec::new();
        }
    };
    if let (true, Some(format @ (Format::Maxwell | Format::Debezium | Format::Canal))) = (names.is_empty(), format) {
        wrong.push(Failure {
            message: format!("a table of the format `{format}` has no `key`"),
            detail: "Its messages say what becomes of a row, and rows are known by their keys.".to_owned(),
            hint: "Write `key: [id]` in the table's `meta`, with the columns of its primary key.".to_owned(),
        });
    }
    let mut key = Vec::new();
    for name in &names {
        match columns.iter().position(|(known, _)| known == name) {
            Some(at) if key.contains(&at) => {
                wrong.push(failure(&format!("`{name}` is twice in `key`"), "Leave one of them out."));
            }
            Some(at) => key.push(at),
            // Of columns without types all was said.
            None if declared.columns.iter().any(|column| column.name == *name) => {}
            None => {
                let known: Vec<&str> = match declared.columns.is_empty() {
                    true => columns.iter().map(|(name, _)| name.as_str()).collect(),
                    false => declared.columns.iter().map(|column| column.name.as_str()).collect(),
                };
                let hint = match known.is_empty() {
                    true => "Declare it under `columns:`, with its `data_type`.".to_owned(),
                    false => format!(
                        "{}: {}.",
                        if declared.columns.is_empty() { "There are" } else { "Declared are" },
                        known.join(", ")
                    ),
                };
                wrong.push(failure(&format!("the key's column `{name}` is not declared"), &hint));
            }
        }
    }
    key
}
