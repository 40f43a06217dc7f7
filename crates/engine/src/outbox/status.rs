//! How outboxes are getting on, and what was refused: for who holds a snapshot and not the engine.

use std::sync::Arc;

use plan::TableName;
use relation::{Schema, TableId, Value};
use store::Snapshot;

use super::facts::{Filled, Followed, Outbox, Refusal, damaged, key_row_of, mark_of, number};
use crate::error::Result;
use crate::step::fact_key;

/// Marks that are looked at for the oldest one.
const OLDEST_OF_MAX: usize = 10_000;

/// Reads what is known of outboxes: for who holds a snapshot and not the engine.
#[derive(Debug, Clone, Copy)]
pub struct Outboxes {
    pub(crate) facts: TableId,
}

/// How an outbox is getting on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub name: String,
    pub relation: TableName,
    /// See [`Definition::place`].
    pub place: u64,
    /// Whether it is wanted no more; there is no relation then.
    pub is_retired: bool,
    /// Whether there is a relation that it follows. What it waits for otherwise says [`crate::Engine::outbox_waits`].
    pub is_aimed: bool,
    /// Why nothing is handed out.
    pub paused: Option<String>,
    /// How far it is filled; none when it is.
    pub filling: Option<Filling>,
    /// How often the other side has lost what it had.
    pub generation: u64,
    /// Keys that are marked, and the bytes of the marks: exact.
    pub pending_rows: u64,
    pub pending_bytes: u64,
    /// The oldest mark's step; of the first ten thousand marks, where there are more.
    pub oldest: Option<u64>,
    pub oldest_is_exact: bool,
    /// Keys of which the other side may have a row, as far as it has answered: exact.
    pub there_rows: u64,
    /// Keys whose newest row was refused.
    pub refused_rows: u64,
    /// Rows that were accepted, deletions that were, and what was refused, since the outbox was set up.
    pub accepted_total: u64,
    pub removed_total: u64,
    pub refused_total: u64,
}

/// How far a walk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filling {
    /// Keys that it has looked at, those that are to be deleted among them.
    pub walked: u64,
    /// Rows of the relation.
    pub rows: u64,
}

/// A row that the other side has refused.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedRow {
    /// The values of its key, in the key's order; empty where the key does not hold them and the row is gone.
    pub key: Vec<Value>,
    /// When it was refused, in microseconds since 1970.
    pub at_us: i64,
    pub reason: String,
    /// Whether a row was to be deleted.
    pub is_delete: bool,
    /// The row of that key as it is now, by the relation's columns.
    pub row: Option<Vec<Value>>,
    /// The relation's columns.
    pub schema: Arc<Schema>,
}

impl Outboxes {
    /// All outboxes as they were at the step of a snapshot.
    pub fn status(self, snapshot: &Snapshot) -> Result<Vec<Status>> {
        Outbox::load_all(snapshot, self.facts)?.into_iter().map(|outbox| self.status_of(snapshot, outbox)).collect()
    }

    fn status_of(self, snapshot: &Snapshot, outbox: Outbox) -> Result<Status> {
        let mut oldest: Option<u64> = None;
        for entry in snapshot.scan(outbox.pending, &[]).take(OLDEST_OF_MAX) {
            let step = mark_of(&entry?.1)?;
            oldest = Some(oldest.map_or(step, |known| known.min(step)));
        }
        let filling = match (&outbox.at.filled, outbox.relation) {
            (Filled::Whole, _) => None,
            (Filled::Through(_), relation) => {
                Some(Filling { walked: outbox.at.walked, rows: self.rows(snapshot, relation)? })
            }
        };
        Ok(Status {
            place: outbox.definition.place,
            is_retired: outbox.is_retired(),
            is_aimed: outbox.relation.is_some(),
            paused: outbox.paused(),
            filling,
            generation: outbox.at.generation,
            pending_rows: outbox.at.pending_rows,
            pending_bytes: outbox.at.pending_bytes,
            oldest,
            oldest_is_exact: outbox.at.pending_rows <= OLDEST_OF_MAX as u64,
            there_rows: outbox.at.there,
            refused_rows: outbox.at.refused_rows,
            accepted_total: outbox.at.accepted_total,
            removed_total: outbox.at.removed_total,
            refused_total: outbox.at.refused_total,
            name: outbox.definition.name,
            relation: outbox.definition.relation,
        })
    }

    /// Why nothing of an outbox is handed out.
    pub fn paused(self, snapshot: &Snapshot, name: &str) -> Result<Option<String>> {
        Ok(Outbox::load(snapshot, self.facts, name)?.and_then(|outbox| outbox.paused()))
    }

    pub(super) fn rows(self, snapshot: &Snapshot, relation: Option<TableId>) -> Result<u64> {
        let Some(relation) = relation else { return Ok(0) };
        let rows = snapshot.get(self.facts, &fact_key("rows", relation))?;
        Ok(rows.and_then(|rows| number(&rows)).unwrap_or(0))
    }

    /// The first refused rows of an outbox, in the order of their keys.
    pub fn refused(self, snapshot: &Snapshot, name: &str, rows_max: usize) -> Result<Vec<RefusedRow>> {
        self.read_refused(snapshot, name)?.take(rows_max).collect()
    }

    /// The refused rows of an outbox in the order of their keys, read as they are asked for.
    pub fn read_refused(
        self,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<impl Iterator<Item = Result<RefusedRow>> + Send + use<>> {
        let outbox = Outbox::load(snapshot, self.facts, name)?;
        let followed = match &outbox {
            Some(outbox) => Followed::load(snapshot, outbox)?,
            None => None,
        };
        let snapshot = snapshot.clone();
        Ok(outbox.zip(followed).into_iter().flat_map(move |(outbox, followed)| {
            let snapshot = snapshot.clone();
            snapshot.scan(outbox.refused, &[]).map(move |entry| -> Result<RefusedRow> {
                let (key, value) = entry?;
                let refusal = Refusal::read(&value).ok_or_else(damaged)?;
                let row = snapshot.get(followed.id, &key)?;
                let accepted = snapshot.get(outbox.accepted, &key)?;
                let key_row = accepted.as_deref().and_then(key_row_of);
                Ok(RefusedRow {
                    key: followed.key_values(&key, row.as_deref(), key_row).unwrap_or_default(),
                    at_us: refusal.at_us,
                    reason: String::from_utf8_lossy(refusal.reason).into_owned(),
                    is_delete: refusal.is_delete,
                    row: row.map(|row| followed.layout.values(&row)),
                    schema: Arc::clone(&followed.schema),
                })
            })
        }))
    }
}
