//! Schemas of a registry that were asked for, and messages by them.
//!
//! A message names its schemas by their numbers, one of its key and one of its value. What such a number means never changes, so a
//! schema is asked for once, and kept as long as there is room; that there is none is believed for a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::logical::{Fields, fields_of_avro, row_of_envelope};
use super::message::Message;
use crate::avro::{self, Schema};
use crate::registry::Found;

/// Bytes of schemas that are kept.
const BYTES_MAX: usize = 32 << 20;
/// So many are kept, however large: a message has two.
const KEPT_MIN: usize = 2;
/// Schemas that are kept, however small; also of those that are not there.
const KEPT_MAX: usize = 4096;
/// How long it is believed that there is no such schema.
const ABSENT: Duration = Duration::from_secs(30);

/// What a schema says of a message.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Of the fields of its record.
    pub(super) fields: Arc<Fields>,
    /// Of the rows' fields, where it is an envelope of Debezium's.
    pub(super) of_rows: Option<Arc<Fields>>,
    /// The full name of its record.
    pub(super) record: String,
}

impl Shape {
    fn of(schema: &Schema) -> Self {
        let Some((record, _)) = schema.record(schema.root()) else { return Self::default() };
        let of_rows = row_of_envelope(schema).map(|row| Arc::new(fields_of_avro(schema, row)));
        Self { fields: Arc::new(fields_of_avro(schema, schema.root())), of_rows, record: record.to_owned() }
    }
}

#[derive(Debug)]
enum Entry {
    Known { schema: Schema, shape: Arc<Shape>, bytes: usize },
    Absent { reason: String, until: Instant },
}

/// What was learnt of a registry's schemas.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    entries: BTreeMap<u32, Entry>,
    /// The oldest one first.
    order: VecDeque<u32>,
    bytes: usize,
}

/// A part of a message, read.
#[derive(Debug)]
pub(super) struct Decoded {
    /// A document; the error is a sentence.
    pub(super) document: Result<String, String>,
    pub(super) shape: Arc<Shape>,
}

impl Shelf {
    /// The number of a schema that is to be asked for before a message can be read.
    pub(super) fn lacking(&self, message: &Message<'_>) -> Option<u32> {
        let is_known = |id: &u32| match self.entries.get(id) {
            Some(Entry::Known { .. }) => true,
            Some(Entry::Absent { until, .. }) => Instant::now() < *until,
            None => false,
        };
        let ids = [message.value, message.key].into_iter().flatten().filter_map(avro::framed).map(|(id, _)| id);
        ids.into_iter().find(|id| !is_known(id))
    }

    /// Keeps what was found of a number.
    pub(super) fn put(&mut self, id: u32, found: Found) {
        self.remove(id);
        let entry = match found {
            Found::Schema(schema, bytes) => {
                let shape = Arc::new(Shape::of(&schema));
                self.bytes += bytes;
                Entry::Known { schema, shape, bytes }
            }
            Found::None(reason) => Entry::Absent { reason, until: Instant::now() + ABSENT },
        };
        self.entries.insert(id, entry);
        self.order.push_back(id);
        while self.order.len() > KEPT_MAX || (self.bytes > BYTES_MAX && self.order.len() > KEPT_MIN) {
            let Some(oldest) = self.order.front().copied() else { break };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: u32) {
        if let Some(Entry::Known { bytes, .. }) = self.entries.remove(&id) {
            self.bytes -= bytes;
        }
        self.order.retain(|known| *known != id);
    }

    /// A part of a message by its schema; none where it is not in the format of a registry.
    pub(super) fn decoded(&self, part: &[u8]) -> Option<Decoded> {
        let (id, bytes) = avro::framed(part)?;
        Some(match self.entries.get(&id) {
            Some(Entry::Known { schema, shape, .. }) => {
                let document = avro::decode(schema, bytes)
                    .map_err(|error| format!("The message is no value of the schema with the id {id}: {error}."));
                Decoded { document, shape: Arc::clone(shape) }
            }
            Some(Entry::Absent { reason, .. }) => Decoded { document: Err(reason.clone()), shape: Arc::default() },
            None => Decoded {
                document: Err(format!("The schema with the id {id} was not asked for.")),
                shape: Arc::default(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: usize) -> Found {
        Found::Schema(Schema::read("\"int\"", &[]).unwrap(), bytes)
    }

    #[tokio::test]
    async fn schemas_are_kept_as_long_as_there_is_room() {
        let mut shelf = Shelf::default();
        (0..10).for_each(|id| shelf.put(id, found(BYTES_MAX / 4)));
        assert_eq!(shelf.order, [6, 7, 8, 9]);
        shelf.put(7, found(1));
        assert_eq!((shelf.order.back(), shelf.bytes), (Some(&7), 3 * (BYTES_MAX / 4) + 1));
        // A message has two, which are never in one another's way.
        (20..23).for_each(|id| shelf.put(id, found(2 * BYTES_MAX)));
        assert_eq!(shelf.order, [21, 22]);
        (100..100 + 2 * 4096).for_each(|id| shelf.put(id, Found::None(String::new())));
        assert_eq!((shelf.order.len(), shelf.bytes), (KEPT_MAX, 0));
    }
}
