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

const SETUP: &[u8] = b"outbox\0";
const AT: &[u8] = b"outbox at\0";
const VERSION: u8 = 1;
/// Numbers of its set-up.
const SETUP_NUMBERS: usize = 7;
/// Numbers that tell how far an outbox is.
const NUMBERS: usize = 20;
/// Fewer than these are in folders of before: what is accepted was not counted there.
const NUMBERS_COUNTED: usize = 15;
const UNCOUNTED: u64 = u64::MAX;

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
    /// What holds its place is another one than before, by its name: whether it is that one with another name, or another one indeed, is
    /// told by what stands there.
    pub(crate) is_moved: bool,
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
    /// Keys in what is accepted.
    pub(crate) there: u64,
    /// Deletes for which it is paused until a person lets them go.
    pub(crate) asked: Consent,
    /// Deletes that a person has let go and that are not done.
    pub(crate) agreed: Consent,
    /// Number of the last portion with whose settlement nothing was out that nobody had heard of.
    pub(crate) heard: u64,
    pub(crate) paused: Option<String>,
    /// There are more marks than are kept: it marks nothing until it is resumed.
    pub(crate) is_full: bool,
}

/// Deletes of which a person is asked: so many, which were to go at a step. What is marked later is not among them, and a walk that
/// begins later finds others: it ends all consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Consent {
    pub(crate) rows: u64,
    pub(crate) step: u64,
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
        (self.asked, self.agreed) = (Consent::default(), Consent::default());
    }

    pub(crate) fn write(&self, facts: TableId, name: &str, writes: &mut Writes) {
        writes.put(facts, &[AT, name.as_bytes()].concat(), &self.to_bytes());
    }

    /// All numbers, in the order in which they are stored.
    fn numbers(&mut self) -> [&mut u64; NUMBERS] {
        [
            &mut self.generation,
            &mut self.sequence,
            &mut self.sent,
            &mut self.last,
            &mut self.walk,
            &mut self.walked,
            &mut self.pending_rows,
            &mut self.pending_bytes,
            &mut self.refused_rows,
            &mut self.accepted_total,
            &mut self.removed_total,
            &mut self.refused_total,
            &mut self.gap,
            &mut self.surplus,
            &mut self.there,
            &mut self.asked.rows,
            &mut self.asked.step,
            &mut self.agreed.rows,
            &mut self.agreed.step,
            &mut self.heard,
        ]
    }

    fn to_bytes(&self) -> Vec<u8> {
        let numbers: Vec<u8> = self.clone().numbers().into_iter().flat_map(|number| number.to_le_bytes()).collect();
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
        let mut at = Self {
            filled: if whole == 1 { Filled::Whole } else { Filled::Through(through.to_vec()) },
            paused: if is_paused == 1 { Some(text(paused)?) } else { None },
            is_full: is_full == 1,
            ..Self::default()
        };
        let stored: Vec<u64> = numbers.chunks(8).map(number).collect::<Option<_>>()?;
        match stored.len() {
            NUMBERS_COUNTED..=NUMBERS => {}
            14 => at.there = UNCOUNTED,
            _ => return None,
        }
        at.numbers().into_iter().zip(stored).for_each(|(place, number)| *place = number);
        Some(at)
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

    /// Whether it is wanted no more: what it follows has no name then.
    pub(crate) fn is_retired(&self) -> bool {
        self.definition.relation.name.is_empty()
    }

    pub(crate) fn states(&self) -> [TableId; 3] {
        [self.pending, self.accepted, self.refused]
    }

    fn setup(&self) -> Vec<u8> {
        let Definition { relation, columns, mapping, place, within, pending_bytes_max, .. } = &self.definition;
        let follows = self.relation.map(|id| id.0.to_le_bytes());
        let states = self.states().map(|id| id.0.to_le_bytes()).concat();
        let (life, is_moved) = (self.life.cast_unsigned(), u64::from(self.is_moved));
        let numbers: [u64; SETUP_NUMBERS] = [life, self.since, *mapping, *pending_bytes_max, *place, *within, is_moved];
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
        let at = At::read(&at).ok_or_else(|| unread(&at, 1, NUMBERS))?;
        let mut outbox = Self::of(name, setup, at).ok_or_else(|| unread(setup, 5, SETUP_NUMBERS))?;
        if outbox.at.there == UNCOUNTED {
            outbox.at.there = 0;
            for entry in snapshot.scan(outbox.accepted, &[]) {
                entry?;
                outbox.at.there += 1;
            }
        }
        Ok(outbox)
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
        if numbers.len() > SETUP_NUMBERS {
            return None;
        }
        // In folders of before the place is not told, or not what holds it.
        let (&[life, since, mapping, pending_bytes_max], rest) = numbers.split_first_chunk::<4>()?;
        let told = |at: usize| rest.get(at).copied().unwrap_or_default();
        let (place, within, is_moved) = (told(0), told(1), told(2) == 1);
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
                place,
                within,
                pending_bytes_max,
            },
            pending,
            accepted,
            refused,
            key: key.chunks(2).map(column_of).collect::<Option<_>>()?,
            relation: if follows.is_empty() { None } else { Some(id(follows)?) },
            is_moved,
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

    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let [at, [is_delete], reason] = parts::split(bytes)?[..] else { return None };
        Some(Self { at_us: i64::from_le_bytes(at.try_into().ok()?), is_delete: *is_delete == 1, reason })
    }
}

impl Outbox {
    /// What it is paused for where a person has said so, and not been asked.
    pub(crate) fn paused_by_hand(&self) -> Option<String> {
        self.at.paused.clone().filter(|_| self.at.asked == Consent::default())
    }

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

/// Why a fact cannot be read: it has a later version than ours as its first byte, or, in one of its parts, more numbers than are known.
fn unread(fact: &[u8], part: usize, numbers: usize) -> Error {
    let parts = parts::split(fact).unwrap_or_default();
    let is_later = parts.first().and_then(|of| of.first()).is_some_and(|version| *version > VERSION);
    let has_more = parts.get(part).is_some_and(|of| of.len() > numbers * 8);
    if is_later || has_more {
        return Error::Store(store::Error::Newer { what: "an outbox".to_owned() });
    }
    damaged()
}

#[cfg(test)]
pub(super) fn forms() -> String {
    format!("an outbox has {SETUP_NUMBERS} numbers, and {NUMBERS} of how far it is")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_comes_back_as_it_was_written() {
        let mut at = At { filled: Filled::Through(vec![1, 2]), is_full: true, ..At::default() };
        at.paused = Some("by hand".to_owned());
        at.numbers().into_iter().zip(1..).for_each(|(place, number)| *place = number);
        assert_eq!(At::read(&at.to_bytes()), Some(at.clone()));
        assert_eq!((at.generation, at.surplus, at.there, at.agreed), (1, 14, 15, Consent { rows: 18, step: 19 }));
        // Those of before lack the last numbers.
        let bytes = at.to_bytes();
        let parts = parts::split(&bytes).unwrap();
        let with = |numbers: &[u8]| {
            let mut bytes = Vec::new();
            parts::join(&mut bytes, &[parts[0], numbers, parts[2], parts[3]]);
            bytes
        };
        let read = At::read(&with(&parts[1][..14 * 8])).unwrap();
        assert_eq!((read.surplus, read.there, read.asked), (14, UNCOUNTED, Consent::default()));
        let read = At::read(&with(&parts[1][..19 * 8])).unwrap();
        assert_eq!((read.there, read.agreed.step, read.heard), (15, 19, 0));
        // What is cut short is damaged, and what says more is of a newer one.
        let told = |bytes: &[u8]| unread(bytes, 1, NUMBERS).to_string();
        let (short, long) = (with(&parts[1][..8]), with(&[parts[1], &[0; 8]].concat()));
        assert_eq!((At::read(&short), At::read(&long)), (None, None));
        assert_eq!(told(&short), "cannot read an outbox: it is not as it was written");
        assert!(told(&long).starts_with("an outbox is of a newer Tidemill than this one ("), "{}", told(&long));
        let mut later = bytes.clone();
        later[4] = VERSION + 1;
        assert_eq!(At::read(&later), None);
        assert_eq!(told(&later), told(&long));
    }
}
