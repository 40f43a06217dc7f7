//! What is handed over next: rows of messages, and how far they were read.

use std::collections::BTreeMap;

use relation::key::hash128;
use relation::{ChunkDone, Position, Rows, SourceBatch, TableChanges, TableId, TransactionMark, Unread};

use super::declared::Topical;
use super::message::{Message, Told};
use crate::source::Limits;

/// Messages of a table that nobody could read, each of which is a reject of its own; further ones are one together.
const POISON_MAX: u64 = 10_000;

/// A batch that is being made.
#[derive(Debug)]
pub(super) struct Builder {
    limits: Limits,
    batch: SourceBatch,
    /// Positions have moved since the last one that was taken.
    has_moved: bool,
    /// Messages that nobody could read, by tables.
    poisoned: BTreeMap<TableId, u64>,
}

impl Builder {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, batch: SourceBatch::default(), has_moved: false, poisoned: BTreeMap::new() }
    }

    /// Whether there are rows in it.
    pub(super) fn has_rows(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Whether something is to be handed over, rows or not.
    pub(super) fn has_news(&self) -> bool {
        self.has_moved || self.has_rows()
    }

    pub(super) fn is_full(&self) -> bool {
        let batch = &self.batch;
        batch.transactions.len() >= self.limits.transactions_max
            || batch.rows() >= self.limits.rows_max
            || batch.bytes() >= self.limits.bytes_max
    }

    /// A position has moved.
    pub(super) fn moved(&mut self) {
        self.has_moved = true;
    }

    /// A message has changed so many rows. It is a transaction of its own: what was one at its source may be in several partitions.
    pub(super) fn commit(&mut self, at_us: Option<i64>, now_us: i64, changes: u32) {
        let commit_time_us = at_us.unwrap_or(now_us);
        self.batch.transactions.push(TransactionMark { commit_time_us, read_time_us: now_us, changes });
    }

    /// What a message says of a table.
    pub(super) fn tell(&mut self, table: (TableId, &Topical), told: Told, message: &Message<'_>, now_us: i64) {
        let (id, topical) = table;
        let encoded = |values: &[relation::Value]| {
            let mut rows = Rows::new();
            rows.push_values(&topical.layout, values).map(|()| rows)
        };
        let key_of = |rows: &Rows| {
            let mut key = Vec::new();
            relation::key::push_row(&mut key, &topical.layout, rows.get(0), &topical.schema.key);
            key
        };
        let (values, weight) = match &told {
            Told::Emptied => {
                let by_key = topical.is_keyed();
                *self.batch.table(id) = TableChanges { truncated: true, by_key, ..TableChanges::default() };
                return;
            }
            Told::Up(values) => (values, 1),
            Told::Gone(values) => (values, -1),
            Told::Unread { known, reason } => {
                let key = known.as_ref().and_then(|values| encoded(values).ok()).map(|rows| key_of(&rows));
                self.reject((id, key.unwrap_or_default()), reason.clone(), message, now_us);
                return;
            }
        };
        let changes = self.batch.table(id);
        changes.by_key = topical.is_keyed();
        match changes.rows.push_values(&topical.layout, values) {
            Ok(()) => changes.weights.push(weight),
            Err(error) => {
                changes.rows.abandon_row();
                self.reject((id, Vec::new()), format!("The row cannot be held: {error}."), message, now_us);
            }
        }
    }

    /// A message that nobody can read.
    pub(super) fn poison(&mut self, table: TableId, reason: String, message: &Message<'_>, now_us: i64) {
        self.reject((table, Vec::new()), reason, message, now_us);
    }

    fn reject(&mut self, (table, key): (TableId, Vec<u8>), reason: String, message: &Message<'_>, at_us: i64) {
        let position = message.to_string();
        let mut image = hash128(position.as_bytes());
        if key.is_empty() {
            let count = self.poisoned.entry(table).or_default();
            *count += 1;
            if *count > POISON_MAX {
                image = hash128(b"further messages that cannot be read");
            }
        }
        let unread = Unread { key, image, row: message.shown(), reason, position, at_us };
        let changes = self.batch.table(table);
        changes.push_unread(&unread, 1);
    }

    /// A mark of a table's load.
    pub(super) fn chunk(&mut self, table: TableId, cursor: Vec<u8>, complete: bool, rows_estimate: u64) {
        let (rows, unread) = (Rows::new(), Rows::new());
        self.batch.chunks.push(ChunkDone { table, cursor, complete, rows, unread, rows_estimate });
    }

    /// The batch, with the position behind it.
    pub(super) fn take(&mut self, position: Position) -> SourceBatch {
        self.has_moved = false;
        let mut batch = std::mem::take(&mut self.batch);
        batch.position = position;
        batch
    }
}
