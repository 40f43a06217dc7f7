//! What is stored of an outbox: facts of the engine, and three states.
//!
//! ```text
//! fact "outbox", name      its set-up: definition, states, the relation that it follows   written between two steps
//! fact "outbox at", name   how far it is: numbers, the walk's cursor, a pause              written by steps
//!
//! pending    key of the relation -> step, 8 bytes, big endian
//! accepted   key -> fingerprint, 16 bytes (zeros: unknown), and the row of the key's columns where the key does not hold it
//! refused    key -> parts: time, whether a row was to go, reason
//! ```
//! Numbers are little endian where nothing else is said.

use std::sync::Arc;

use plan::TableName;
use relation::{DataType, Layout, Rows, Schema, TableId, Value};
use store::{Catalog, Snapshot, Writes};

use super::Definition;
use crate::error::{Error, Result};
use crate::parts;
use crate::step::fact_key;

const SETUP: &[u8] = b"outbox\0";
const AT: &[u8] = b"outbox at\0";
const VERSION: u8 = 1;

/// Marks that are looked at for the oldest one.
const OLDEST_OF_MAX: usize = 10_000;

/// An outbox: its set-up, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outbox {
    pub(crate) definition: Definition,
    pub(crate) pending: TableId,
    pub(crate) accepted: TableId,
    pub(crate) refused: TableId,
    /// The columns that the keys in its states are made of: names and types.
    pub(crate) key: Vec<(String, DataType)>,
    /// The relation that it follows; none where there is none to follow.
    pub(crate) relation: Option<TableId>,
    /// When it was set up first, in microseconds since 1970: what another folder has made there is told from ours by it.
    pub(crate) life: i64,
    /// The step with which its set-up was written last.
    pub(crate) since: u64,
    pub(crate) at: At,
}

/// How far an outbox is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct At {
    /// How often the other side has lost what it had.
    pub(crate) generation: u64,
    /// Number of the portion that was settled last.
    pub(crate) sequence: u64,
    /// Of the last one of this generation with which the other side was changed; 0: none.
    pub(crate) sent: u64,
    /// The last step that marked a key or settled one.
    pub(crate) last: u64,
    /// Number of the walk, and how far it is.
    pub(crate) walk: u64,
    pub(crate) filled: Filled,
    /// Rows and keys that it has looked at.
    pub(crate) walked: u64,
    pub(crate) pending_rows: u64,
    pub(crate) pending_bytes: u64,
    pub(crate) refused_rows: u64,
    pub(crate) accepted_total: u64,
    pub(crate) removed_total: u64,
    pub(crate) refused_total: u64,
    /// The last step that changed keys without marking them.
    pub(crate) gap: u64,
    /// Bytes of marks that were there when it was resumed, and are beyond its bound.
    pub(crate) surplus: u64,
    pub(crate) paused: Option<String>,
    /// There are more marks than are kept: it marks nothing until it is resumed.
    pub(crate) is_full: bool,
}

/// How far a walk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Up to this key; no key is empty.
    Through(Vec<u8>),
    Whole,
}

impl Default for Filled {
    fn default() -> Self {
        Self::Through(Vec::new())
    }
}

impl At {
    /// Another walk begins.
    pub(crate) fn walk_again(&mut self) {
        self.walk += 1;
        self.filled = Filled::default();
        self.walked = 0;
    }

    pub(crate) fn write(&self, facts: TableId, name: &str, writes: &mut Writes) {
        writes.put(facts, &[AT, name.as_bytes()].concat(), &self.to_bytes());
    }

    fn numbers(&self) -> [u64; 14] {
        [
            self.generation,
            self.sequence,
            self.sent,
            self.last,
            self.walk,
            self.walked,
            self.pending_rows,
            self.pending_bytes,
            self.refused_rows,
            self.accepted_total,
            self.removed_total,
            self.refused_total,
            self.gap,
            self.surplus,
        ]
    }

    fn to_bytes(&self) -> Vec<u8> {
        let numbers: Vec<u8> = self.numbers().iter().flat_map(|number| number.to_le_bytes()).collect();
        let (whole, through): (u8, &[u8]) = match &self.filled {
            Filled::Whole => (1, &[]),
            Filled::Through(key) => (0, key),
        };
        let flags = [VERSION, whole, u8::from(self.paused.is_some()), u8::from(self.is_full)];
        let mut bytes = Vec::new();
        parts::join(&mut bytes, &[&flags, &numbers, through, self.paused.as_deref().unwrap_or_default().as_bytes()]);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let [flags, numbers, through, paused] = parts::split(bytes)?[..] else { return None };
        let [VERSION, whole, is_paused, is_full] = *flags else { return None };
        let numbers: Vec<u64> = numbers.chunks(8).map(number).collect::<Option<_>>()?;
        let &[
            generation,
            sequence,
            sent,
            last,
            walk,
            walked,
            pending_rows,
            pending_bytes,
            refused_rows,
            accepted_total,
            removed_total,
            refused_total,
            gap,
            surplus,
        ] = numbers.as_slice()
        else {
            return None;
        };
        Some(Self {
            generation,
            sequence,
            sent,
            last,
            walk,
            filled: if whole == 1 { Filled::Whole } else { Filled::Through(through.to_vec()) },
            walked,
            pending_rows,
            pending_bytes,
            refused_rows,
            accepted_total,
            removed_total,
            refused_total,
            gap,
            surplus,
            paused: if is_paused == 1 { Some(text(paused)?) } else { None },
            is_full: is_full == 1,
        })
    }
}

impl Outbox {
    /// The outbox of a name, as of a snapshot.
    pub(crate) fn load(snapshot: &Snapshot, facts: TableId, name: &str) -> Result<Option<Self>> {
        match snapshot.get(facts, &[SETUP, name.as_bytes()].concat())? {
            Some(setup) => Self::read(snapshot, facts, name, &setup).map(Some),
            None => Ok(None),
        }
    }

    /// All outboxes, as of a snapshot.
    pub(crate) fn load_all(snapshot: &Snapshot, facts: TableId) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in snapshot.scan(facts, SETUP) {
            let (key, setup) = entry?;
            let name = text(&key[SETUP.len()..]).ok_or_else(damaged)?;
            all.push(Self::read(snapshot, facts, &name, &setup)?);
        }
        Ok(all)
    }

    /// Writes its set-up, and how far it is.
    pub(crate) fn write(&self, facts: TableId, writes: &mut Writes) {
        let name = self.definition.name.as_bytes();
        writes.put(facts, &[SETUP, name].concat(), &self.setup());
        self.at.write(facts, &self.definition.name, writes);
    }

    /// Writes that it is no more.
    pub(crate) fn write_removal(&self, facts: TableId, writes: &mut Writes) {
        let name = self.definition.name.as_bytes();
        [SETUP, AT].iter().for_each(|word| writes.delete(facts, &[word, name].concat()));
    }

    pub(crate) fn states(&self) -> [TableId; 3] {
        [self.pending, self.accepted, self.refused]
    }

    fn setup(&self) -> Vec<u8> {
        let Definition { relation, columns, mapping, pending_bytes_max, .. } = &self.definition;
        let follows = self.relation.map(|id| id.0.to_le_bytes());
        let states = self.states().map(|id| id.0.to_le_bytes()).concat();
        let numbers = [self.life.cast_unsigned(), self.since, *mapping, *pending_bytes_max];
        let numbers = numbers.map(u64::to_le_bytes).concat();
        let key: Vec<String> = self.key.iter().map(|(name, data_type)| format!("{name}\0{data_type}")).collect();
        let key = key.join("\0");
        let mut all: Vec<&[u8]> = vec![
            &[VERSION],
            relation.schema.as_bytes(),
            relation.name.as_bytes(),
            follows.as_ref().map_or(&[][..], |id| &id[..]),
            &states,
            &numbers,
            key.as_bytes(),
        ];
        all.extend(columns.iter().map(String::as_bytes));
        let mut bytes = Vec::new();
        parts::join(&mut bytes, &all);
        bytes
    }

    fn read(snapshot: &Snapshot, facts: TableId, name: &str, setup: &[u8]) -> Result<Self> {
        let at = snapshot.get(facts, &[AT, name.as_bytes()].concat())?.ok_or_else(damaged)?;
        let at = At::read(&at).ok_or_else(damaged)?;
        Self::of(name, setup, at).ok_or_else(damaged)
    }

    fn of(name: &str, setup: &[u8], at: At) -> Option<Self> {
        let all = parts::split(setup)?;
        let (&[version, schema, table, follows, states, numbers, key], columns) = all.split_first_chunk::<7>()?;
        if *version != [VERSION] {
            return None;
        }
        let ids: Vec<TableId> = states.chunks(4).map(id).collect::<Option<_>>()?;
        let &[pending, accepted, refused] = ids.as_slice() else { return None };
        let numbers: Vec<u64> = numbers.chunks(8).map(number).collect::<Option<_>>()?;
        let &[life, since, mapping, pending_bytes_max] = numbers.as_slice() else { return None };
        let key = text(key)?;
        let key: Vec<&str> = if key.is_empty() { Vec::new() } else { key.split('\0').collect() };
        let column_of = |pair: &[&str]| match pair {
            [name, data_type] => Some(((*name).to_owned(), data_type.parse().ok()?)),
            _ => None,
        };
        Some(Self {
            definition: Definition {
                name: name.to_owned(),
                relation: TableName::new(text(schema)?, text(table)?),
                columns: columns.iter().map(|column| text(column)).collect::<Option<_>>()?,
                mapping,
                pending_bytes_max,
            },
            pending,
            accepted,
            refused,
            key: key.chunks(2).map(column_of).collect::<Option<_>>()?,
            relation: if follows.is_empty() { None } else { Some(id(follows)?) },
            life: life.cast_signed(),
            since,
            at,
        })
    }
}

/// What is kept of a key whose row was refused.
pub(crate) struct Refusal<'a> {
    pub(crate) at_us: i64,
    pub(crate) is_delete: bool,
    pub(crate) reason: &'a [u8],
}

/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 1_024;

impl<'a> Refusal<'a> {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let reason = &self.reason[..self.reason.len().min(REASON_BYTES_MAX)];
        parts::join(&mut bytes, &[&self.at_us.to_le_bytes(), &[u8::from(self.is_delete)], reason]);
        bytes
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let [at, [is_delete], reason] = parts::split(bytes)?[..] else { return None };
        Some(Self { at_us: i64::from_le_bytes(at.try_into().ok()?), is_delete: *is_delete == 1, reason })
    }
}

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
            is_aimed: outbox.relation.is_some(),
            paused: outbox.paused(),
            filling,
            generation: outbox.at.generation,
            pending_rows: outbox.at.pending_rows,
            pending_bytes: outbox.at.pending_bytes,
            oldest,
            oldest_is_exact: outbox.at.pending_rows <= OLDEST_OF_MAX as u64,
            refused_rows: outbox.at.refused_rows,
            accepted_total: outbox.at.accepted_total,
            removed_total: outbox.at.removed_total,
            refused_total: outbox.at.refused_total,
            name: outbox.definition.name,
            relation: outbox.definition.relation,
        })
    }

    pub(super) fn rows(self, snapshot: &Snapshot, relation: Option<TableId>) -> Result<u64> {
        let Some(relation) = relation else { return Ok(0) };
        let rows = snapshot.get(self.facts, &fact_key("rows", relation))?;
        Ok(rows.and_then(|rows| number(&rows)).unwrap_or(0))
    }

    /// The first refused rows of an outbox, in the order of their keys.
    pub fn refused(self, snapshot: &Snapshot, name: &str, rows_max: usize) -> Result<Vec<RefusedRow>> {
        let Some(outbox) = Outbox::load(snapshot, self.facts, name)? else { return Ok(Vec::new()) };
        let Some(followed) = Followed::load(snapshot, &outbox)? else { return Ok(Vec::new()) };
        let mut refused = Vec::new();
        for entry in snapshot.scan(outbox.refused, &[]).take(rows_max) {
            let (key, value) = entry?;
            let refusal = Refusal::read(&value).ok_or_else(damaged)?;
            let row = snapshot.get(followed.id, &key)?;
            let accepted = snapshot.get(outbox.accepted, &key)?;
            let key_row = accepted.as_deref().and_then(key_row_of);
            refused.push(RefusedRow {
                key: followed.key_values(&key, row.as_deref(), key_row).unwrap_or_default(),
                at_us: refusal.at_us,
                reason: String::from_utf8_lossy(refusal.reason).into_owned(),
                is_delete: refusal.is_delete,
                row: row.map(|row| followed.layout.values(&row)),
                schema: Arc::clone(&followed.schema),
            });
        }
        Ok(refused)
    }
}

impl Outbox {
    /// Why nothing is handed out.
    pub(crate) fn paused(&self) -> Option<String> {
        let max = self.definition.pending_bytes_max;
        let full = || {
            format!(
                "more than {max} bytes of keys have changed and were not delivered: resumed, it goes through all rows"
            )
        };
        self.at.paused.clone().or_else(|| self.at.is_full.then(full))
    }
}

/// The relation of an outbox, with which rows and keys are read.
#[derive(Debug, Clone)]
pub(crate) struct Followed {
    pub(crate) id: TableId,
    pub(crate) schema: Arc<Schema>,
    pub(crate) layout: Arc<Layout>,
    /// The key's columns alone, in the key's order.
    key_layout: Layout,
    /// Where the columns stand that are delivered.
    columns: Vec<usize>,
}

impl Followed {
    /// None where it follows nothing, or the relation lacks a column that is wanted.
    pub(crate) fn load(snapshot: &Snapshot, outbox: &Outbox) -> Result<Option<Self>> {
        let Some(id) = outbox.relation else { return Ok(None) };
        let Some(entry) = Catalog::entry_at(snapshot, id)? else { return Ok(None) };
        Ok(Self::new(id, entry.schema, &outbox.definition.columns))
    }

    pub(crate) fn new(id: TableId, schema: Schema, columns: &[String]) -> Option<Self> {
        let columns = columns.iter().map(|name| schema.position(name)).collect::<Option<_>>()?;
        let layout = Arc::new(Layout::new(schema.types()));
        let key_layout = Layout::new(key_of(&schema).into_iter().map(|(_, data_type)| data_type).collect());
        Some(Self { id, schema: Arc::new(schema), layout, key_layout, columns })
    }

    /// What tells a row from another one as they are delivered.
    pub(crate) fn fingerprint(&self, outbox: &Outbox, row: &[u8]) -> [u8; 16] {
        let mut bytes = Vec::with_capacity(row.len() + 16 + self.columns.len() * 5);
        bytes.extend_from_slice(&outbox.at.generation.to_le_bytes());
        bytes.extend_from_slice(&outbox.definition.mapping.to_le_bytes());
        for &column in &self.columns {
            if self.layout.is_null(row, column) {
                bytes.push(0);
                continue;
            }
            let value = self.layout.bytes(row, column);
            bytes.push(1);
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
            bytes.extend_from_slice(value);
        }
        relation::key::hash128(&bytes)
    }

    /// The row of a row's key columns, where its key does not hold them.
    pub(crate) fn key_row(&self, key: &[u8], row: &[u8]) -> Result<Option<Vec<u8>>> {
        let values: Vec<Value> = self.schema.key.iter().map(|&column| self.layout.value(row, column)).collect();
        let mut rows = Rows::new();
        rows.push_values(&self.key_layout, &values)?;
        let held = relation::key::holds_row(&self.key_layout, rows.get(0), key.len());
        Ok((!held).then(|| rows.get(0).to_vec()))
    }

    /// The values of a key: of its row, where there is one, of the row that was kept of it, or of the key itself. None where it
    /// is in none of these.
    pub(crate) fn key_values(&self, key: &[u8], row: Option<&[u8]>, key_row: Option<&[u8]>) -> Option<Vec<Value>> {
        if let Some(row) = row {
            return Some(self.schema.key.iter().map(|&column| self.layout.value(row, column)).collect());
        }
        if let Some(row) = key_row {
            return Some(self.key_layout.values(row));
        }
        let mut rows = Rows::new();
        relation::key::read_row(key, &self.key_layout, &mut rows).ok()?;
        Some(self.key_layout.values(rows.get(0)))
    }
}

/// The columns that keys are made of.
pub(crate) fn key_of(schema: &Schema) -> Vec<(String, DataType)> {
    let columns = schema.key.iter().map(|&column| &schema.columns[column]);
    columns.map(|column| (column.name.clone(), column.data_type)).collect()
}

/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 16;

/// The fingerprint of no row: whatever the other side has is unknown.
pub(crate) const UNKNOWN: [u8; FINGERPRINT_BYTES] = [0; FINGERPRINT_BYTES];

/// What is kept of an accepted row.
pub(crate) fn accepted(fingerprint: &[u8; 16], key_row: Option<&[u8]>) -> Vec<u8> {
    [&fingerprint[..], key_row.unwrap_or_default()].concat()
}

/// Whether what is kept says that this row was accepted.
pub(crate) fn is_accepted(accepted: &[u8], fingerprint: &[u8; 16]) -> bool {
    accepted.get(..FINGERPRINT_BYTES) == Some(fingerprint)
}

/// The key's row in what is kept of an accepted one.
pub(crate) fn key_row_of(accepted: &[u8]) -> Option<&[u8]> {
    accepted.get(FINGERPRINT_BYTES..).filter(|row| !row.is_empty())
}

/// The step of a mark.
pub(crate) fn mark_of(value: &[u8]) -> Result<u64> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| damaged())
}

pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

pub(crate) fn id(bytes: &[u8]) -> Option<TableId> {
    bytes.try_into().ok().map(|bytes| TableId(u32::from_le_bytes(bytes)))
}

pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(ToOwned::to_owned)
}

pub(crate) fn damaged() -> Error {
    Error::Store(store::Error::Decode { what: "an outbox", reason: "it is not as it was written" })
}
