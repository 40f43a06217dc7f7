//! What tests ask of messages, lanes and positions, in text.

use std::collections::BTreeMap;

use relation::{Column, DataType, Entry, Layout, Position, SourceBatch, TableId, Unread};

use super::batch::Builder;
use super::declared::{Format, Topical};
use super::lanes::{Ends, Lane, Topic, Wants, merge, stall_of, sum_of};
use super::message::{Documents, Message, Parsed, Read, Schemas, read};
use super::position;
use super::shelf::Shelf;
use super::told;
use crate::avro;
use crate::registry::Found;
use crate::source::{Declared, DeclaredColumn, Limits, TablePlace};

/// A table of a topic, as it is declared: `meta` as JSON, and columns as `name type`.
#[derive(Debug)]
pub struct Table {
    topical: Topical,
    schemas: Schemas,
    shelf: Shelf,
}

impl Table {
    /// Errors: what is wrong with the declaration, a line each.
    pub fn declared(
        identifier: &str,
        database: &str,
        meta: &[(&str, &str)],
        columns: &[(&str, &str)],
    ) -> Result<Self, String> {
        let column = |(name, written): &(&str, &str)| DeclaredColumn {
            name: (*name).to_owned(),
            data_type: written.parse::<DataType>().ok(),
            written: (*written).to_owned(),
        };
        let place = TablePlace {
            database: database.to_owned(),
            name: identifier.to_owned(),
            declared: Declared {
                meta: meta.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
                columns: columns.iter().map(column).collect(),
            },
            ..TablePlace::default()
        };
        let lines =
            |failures: Vec<crate::Failure>| failures.iter().map(crate::Failure::text).collect::<Vec<_>>().join("\n");
        let topical = Topical::read(&place).map_err(lines)?;
        Ok(Self { topical, schemas: Schemas::default(), shelf: Shelf::default() })
    }

    /// What a registry has found of a schema's number: its text, and those that it refers to, or that there is none. Answers with what
    /// is wrong.
    pub fn found(&mut self, id: u32, text: Option<&str>, others: &[String]) -> String {
        let read = text.map(|text| avro::Schema::read(text, others));
        let (found, answer) = match read {
            None => (Found::None(format!("There is no schema {id}.")), String::new()),
            Some(Ok(schema)) => (Found::Schema(schema, text.map_or(0, str::len)), String::new()),
            Some(Err(error)) => (Found::None(format!("There is no schema {id}.")), error.to_string()),
        };
        self.shelf.put(id, found);
        answer
    }

    /// Columns of the table.
    pub fn columns(&self) -> &[Column] {
        &self.topical.schema.columns
    }

    /// What a message does, a line for each change: `+` a row, `-` a key, `!` a reject, `emptied`, `elsewhere`.
    pub fn told(&mut self, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> String {
        let message = Message { topic: "topic", partition: 0, offset, at_us: None, key, value };
        let mut builder = Builder::new(Limits::default());
        let documents = Documents::of(&message, &self.shelf);
        let parsed = match self.topical.format {
            Format::Avro => Parsed::of_avro(&message, &documents),
            _ => Parsed::of(&message),
        };
        match read(&self.topical, &parsed, &mut self.schemas) {
            Read::Elsewhere => return "elsewhere\n".to_owned(),
            Read::Told(told) => told.into_iter().for_each(|told| builder.tell((ID, &self.topical), told, &message, 0)),
            Read::Poison(reason) => builder.poison(ID, reason, &message, 0),
        }
        self.shown(&builder.take(Position::default()))
    }

    fn shown(&self, batch: &SourceBatch) -> String {
        let layout = &self.topical.layout;
        let key = |row: &[u8]| values(layout, row, &self.topical.schema.key);
        let all: Vec<usize> = (0..layout.types().len()).collect();
        let mut out = String::new();
        for (_, changes) in &batch.tables {
            if changes.truncated {
                out.push_str("emptied\n");
            }
            for entry in changes.entries() {
                out.push_str(&match entry {
                    Entry::Row(row, 1) => format!("+ {}\n", values(layout, row, &all)),
                    Entry::Row(row, _) => format!("- {}\n", key(row)),
                    Entry::Unread(bytes, _) => match Unread::read(bytes) {
                        Ok(unread) => {
                            let known = if unread.key.is_empty() { "no key" } else { "its key" };
                            format!("! {} ({known}) {}\n", unread.position, unread.reason)
                        }
                        Err(error) => format!("{error}\n"),
                    },
                });
            }
        }
        out
    }
}

/// The columns of a schema of rows or changes. Errors: it is none.
pub fn columns_of(schema: &str) -> Result<String, String> {
    let schema = avro::Schema::read(schema, &[]).map_err(|error| error.to_string())?;
    let columns = told::columns(&schema);
    Ok(columns.iter().map(|(name, data_type)| format!("{name} {data_type}\n")).collect())
}

const ID: TableId = TableId(7);

fn values(layout: &Layout, row: &[u8], columns: &[usize]) -> String {
    let shown = |at: &usize| match layout.value(row, *at) {
        relation::Value::Text(text) => format!("{text:?}"),
        value => value.to_string(),
    };
    columns.iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// Lanes at work, over topics that are told.
#[derive(Debug, Default)]
pub struct Play {
    lanes: Vec<Lane>,
}

impl Play {
    /// Lanes that are gone on with.
    pub fn resumed(position: &str) -> Result<Self, String> {
        let kept = position::read(&Position(position.to_owned())).map_err(|error| error.to_string())?;
        Ok(Self { lanes: kept.into_iter().map(|kept| Lane::resumed(kept, None)).collect() })
    }

    /// A topic is as it is told: its partitions with where they begin and end; none: it is not there.
    pub fn look(&mut self, topic: &str, partitions: Option<&[(i32, i64, i64)]>) {
        let there = topic_of(partitions);
        for lane in self.lanes.iter_mut().filter(|lane| lane.kept.topic == topic) {
            lane.look(&there);
        }
    }

    /// A table begins to be loaded.
    pub fn begin(&mut self, topic: &str, table: u32, partitions: &[(i32, i64, i64)], from_end: bool) {
        if let Topic::There(there) = topic_of(Some(partitions)) {
            self.lanes.extend(Lane::begun(topic, vec![TableId(table)], &there, from_end));
        }
    }

    /// The connection was lost.
    pub fn doubt(&mut self) {
        self.lanes.iter_mut().for_each(Lane::doubt);
    }

    /// What reads a topic could not read something of it.
    pub fn tear(&mut self, topic: &str) {
        self.lanes.iter_mut().filter(|lane| lane.kept.topic == topic).for_each(Lane::tear);
    }

    /// All topics are read anew.
    pub fn mend(&mut self) {
        self.lanes.iter_mut().for_each(Lane::mend);
    }

    /// A message comes; says which tables take it.
    pub fn message(&mut self, topic: &str, partition: i32, offset: i64, value: &str) -> String {
        let message = Message { topic, partition, offset, at_us: None, key: None, value: Some(value.as_bytes()) };
        let sum = sum_of(&message);
        let mut taken = Vec::new();
        for lane in self.lanes.iter_mut().filter(|lane| lane.kept.topic == topic) {
            if lane.take(&message, sum) == Wants::It {
                taken.extend(lane.kept.tables.iter().map(ToString::to_string));
            }
        }
        if taken.is_empty() { "none".to_owned() } else { taken.join(" ") }
    }

    /// The client has passed what is no message.
    pub fn pass(&mut self, topic: &str, partition: i32, offset: i64) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.kept.topic == topic) {
            lane.pass(partition, offset);
        }
    }

    /// Loads that are done are, and lanes that are alike become one.
    pub fn settle(&mut self) {
        self.lanes.iter_mut().filter(|lane| lane.is_loaded()).for_each(|lane| lane.to = None);
        merge(&mut self.lanes);
    }

    /// All lanes: of which tables, how far, whether they are loaded, and from where they are read.
    pub fn shown(&self) -> String {
        let mut out = String::new();
        for lane in &self.lanes {
            let tables: Vec<String> = lane.kept.tables.iter().map(ToString::to_string).collect();
            let at = |(partition, at): (&i32, &position::At)| {
                let from = lane.from(*partition).filter(|from| *from != at.next && lane.broken.is_none());
                format!("{partition}:{}{}", at.next, from.map_or(String::new(), |from| format!(" (from {from})")))
            };
            let at: Vec<String> = lane.kept.at.iter().map(at).collect();
            let state = match (&lane.broken, lane.is_loading()) {
                (Some(_), _) => "broken",
                (None, true) => "loading",
                (None, false) => "followed",
            };
            out.push_str(&format!("{} {} {state} {}\n", lane.kept.topic, tables.join(","), at.join(" ")));
        }
        if let Some(failure) = stall_of(&self.lanes) {
            out.push_str(&format!("{}\n", failure.text()));
        }
        out
    }

    /// As a batch carries it.
    pub fn position(&self) -> String {
        position::write(self.lanes.iter().map(|lane| &lane.kept)).0
    }
}

fn topic_of(partitions: Option<&[(i32, i64, i64)]>) -> Topic {
    let ends = |(partition, low, high): &(i32, i64, i64)| (*partition, Some(Ends { low: *low, high: *high }));
    partitions.map_or(Topic::Missing, |all| Topic::There(all.iter().map(ends).collect::<BTreeMap<_, _>>()))
}

/// Whether a position has seen all of another.
pub fn reached(current: &str, target: &str) -> Result<bool, String> {
    position::reached(&Position(current.to_owned()), &Position(target.to_owned())).map_err(|error| error.to_string())
}
