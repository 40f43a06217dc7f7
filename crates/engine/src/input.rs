//! What a step takes: everything that changes state, logged before it is run and run again after a crash.

use std::collections::BTreeSet;

use relation::{Rows, SourceBatch, TableChanges, TableId};
use store::Record;

use crate::error::{Error, Result};
use crate::outbox::Told;
use crate::rejects::SourceReject;

/// One input of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Whole transactions and snapshot chunks of a source.
    Rows(u32, SourceBatch),
    /// A table is not followed any more: its content is in doubt from here on.
    Park { table: TableId, reason: String },
    /// The content of a table is in doubt from here on, and it is loaded again from the start: what comes of it behind this
    /// is what the source sends of a table that is being loaded.
    Reload { table: TableId, reason: String, at_us: i64 },
    /// The columns of a table are others from here on: nothing more comes of it. Register it with its new columns.
    Altered { table: TableId, reason: String, at_us: i64 },
    /// Sweep a portion of a table that was loaded again ([`crate::Load::Sweeping`]).
    Sweep { table: TableId },
    /// What became of a portion of an outbox, or what is wanted of it. Of an unknown name it does nothing.
    Outbox { name: String, told: Told },
    /// Of the engine's own making: what it found out before a step was logged.
    Note(Note),
}

/// What the engine found out before a step was logged, so that it needs not find it out again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note(pub(crate) Noted);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Noted {
    /// What a table differs in from what was brought since its load began again, up to a key; `done`: there is no more.
    Swept { table: TableId, after: Option<Vec<u8>>, done: bool, changes: TableChanges },
    /// The load of a table without a key begins: what was brought of it before is void, and these rows go.
    Begun { table: TableId, gone: Rows },
    /// Rows of a table without a key that is loaded again: they are counted beside it until its sweep comes to them.
    Beside { table: TableId, changes: TableChanges },
    /// A table was emptied: so are its rejects.
    Emptied { table: TableId },
    /// The rows of a table without a key have been replaced by those of the next batch, or by none: in a record from before
    /// such tables were swept.
    Replaced { table: TableId },
    /// A row that a source could not read, in a record from before such rows stood among the others.
    Rejected(SourceReject),
}

impl Noted {
    /// The table that it is about.
    pub(crate) fn table(&self) -> TableId {
        match self {
            Self::Swept { table, .. } | Self::Begun { table, .. } | Self::Beside { table, .. } => *table,
            Self::Emptied { table } | Self::Replaced { table } => *table,
            Self::Rejected(reject) => reject.table,
        }
    }
}

/// A transaction, or the emptying of a large table, that is run as a chain of steps out of a staged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainNote {
    pub(crate) source: u32,
    pub(crate) stage: u64,
    /// Rows of a large table that each of its steps deletes.
    pub(crate) emptied_rows_max: usize,
    /// Tables that were begun to be loaded again while its parts came: what it holds of them was so before that.
    pub(crate) void: Vec<TableId>,
}

impl Input {
    /// What of it changes these tables, or is told of them; none where nothing is.
    pub(crate) fn of_tables(mut self, tables: &BTreeSet<TableId>) -> Option<Self> {
        let is_about = match &mut self {
            Self::Rows(_, batch) => {
                batch.tables.retain(|(id, _)| tables.contains(id));
                batch.chunks.retain(|chunk| tables.contains(&chunk.table));
                !batch.tables.is_empty() || !batch.chunks.is_empty()
            }
            Self::Park { table, .. }
            | Self::Reload { table, .. }
            | Self::Altered { table, .. }
            | Self::Sweep { table } => tables.contains(table),
            Self::Note(Note(Noted::Rejected(reject))) => tables.contains(&reject.table),
            Self::Note(Note(
                Noted::Swept { table, .. }
                | Noted::Begun { table, .. }
                | Noted::Emptied { table }
                | Noted::Replaced { table },
            )) => tables.contains(table),
            // Nothing of it is in the table before it is swept.
            Self::Note(Note(Noted::Beside { .. })) => false,
            Self::Outbox { .. } => false,
        };
        is_about.then_some(self)
    }

    /// The table that it begins to load again.
    pub(crate) fn reloads(&self) -> Option<TableId> {
        match self {
            Self::Reload { table, .. } => Some(*table),
            _ => None,
        }
    }
}

const PARK: &str = "park";
const RELOAD: &str = "reload";
const ALTERED: &str = "altered";
const REJECT: &str = "reject";
const CHAIN: &str = "chain";
const SWEPT: &str = "swept";
const COUNTED: &str = "counted";
const BEGUN: &str = "begun";
const BESIDE: &str = "beside";
const EMPTIED: &str = "emptied";
const REPLACED: &str = "replaced";
const OUTBOX: &str = "outbox";

/// All kinds of notes.
#[cfg(test)]
pub(crate) const KINDS: [&str; 12] =
    [PARK, RELOAD, ALTERED, REJECT, CHAIN, SWEPT, COUNTED, BEGUN, BESIDE, EMPTIED, REPLACED, OUTBOX];

/// The inputs as a log record: rows, and beside them the rest, each with the number of batches that come before it.
pub(crate) fn record_of(inputs: Vec<Input>) -> Record {
    let mut record = Record::default();
    for input in inputs {
        let before = u32::try_from(record.batches.len()).unwrap_or(u32::MAX).to_le_bytes();
        let note = match input {
            Input::Rows(source, batch) => {
                record.batches.push((source, batch));
                continue;
            }
            // A step that has been normalised has none.
            Input::Sweep { .. } => continue,
            Input::Outbox { name, told } => {
                let told = told.to_parts();
                let first: [&[u8]; 2] = [&before, name.as_bytes()];
                let all: Vec<&[u8]> = first.into_iter().chain(told.iter().map(Vec::as_slice)).collect();
                (OUTBOX, parts(&all))
            }
            Input::Park { table, reason } => (PARK, parts(&[&table.0.to_le_bytes(), reason.as_bytes(), &before])),
            Input::Altered { table, reason, at_us } => {
                (ALTERED, parts(&[&before, &table.0.to_le_bytes(), reason.as_bytes(), &at_us.to_le_bytes()]))
            }
            Input::Reload { table, reason, at_us } => {
                (RELOAD, parts(&[&before, &table.0.to_le_bytes(), reason.as_bytes(), &at_us.to_le_bytes()]))
            }
            Input::Note(Note(Noted::Rejected(reject))) => {
                let texts = [reject.row.as_bytes(), reject.reason.as_bytes(), reject.position.as_bytes()];
                let (id, at) = (reject.table.0.to_le_bytes(), reject.at_us.to_le_bytes());
                (REJECT, parts(&[&id, texts[0], texts[1], texts[2], &at, &reject.key, &before]))
            }
            Input::Note(Note(Noted::Emptied { table })) => (EMPTIED, parts(&[&before, &table.0.to_le_bytes()])),
            Input::Note(Note(Noted::Replaced { table })) => (REPLACED, parts(&[&before, &table.0.to_le_bytes()])),
            Input::Note(Note(Noted::Swept { table, after, done, changes })) => {
                let (id, done) = (table.0.to_le_bytes(), [u8::from(done)]);
                let after = after.as_deref().unwrap_or_default();
                // Rows that go, most often.
                match changes.weights.iter().all(|weight| *weight == -1) {
                    true => (SWEPT, parts_and_rows(&[&before, &id, &done, after], &changes.rows)),
                    false => {
                        let weights = bytes_of(&changes.weights);
                        (COUNTED, parts_and_rows(&[&before, &id, &done, after, &weights], &changes.rows))
                    }
                }
            }
            Input::Note(Note(Noted::Begun { table, gone })) => {
                (BEGUN, parts_and_rows(&[&before, &table.0.to_le_bytes()], &gone))
            }
            Input::Note(Note(Noted::Beside { table, changes })) => {
                let weights = bytes_of(&changes.weights);
                (BESIDE, parts_and_rows(&[&before, &table.0.to_le_bytes(), &weights], &changes.rows))
            }
        };
        record.notes.push((note.0.to_owned(), note.1));
    }
    record
}

/// A record that begins a chain.
pub(crate) fn record_of_chain(chain: &ChainNote) -> Record {
    Record { batches: Vec::new(), notes: vec![(CHAIN.to_owned(), chain.to_bytes())] }
}

/// What a record holds.
pub(crate) enum Logged {
    Inputs(Vec<Input>),
    Chain(ChainNote),
}

/// Letters of an unknown kind that are shown.
const KIND_LETTERS: usize = 40;

/// Behind all batches.
const BEHIND: usize = usize::MAX;

/// The reverse of [`record_of`] and [`record_of_chain`]. Errors: notes of a kind that this Tidemill does not know.
pub(crate) fn inputs_of(record: Record) -> Result<Logged> {
    let mut inputs: Vec<Input> = Vec::with_capacity(record.batches.len() + record.notes.len());
    let mut batches = record.batches.into_iter().map(|(source, batch)| Input::Rows(source, batch));
    let mut taken = 0;
    for (name, bytes) in record.notes {
        let (before, input) = match name.as_str() {
            CHAIN if ChainNote::is_newer(&bytes) => return Err(newer("a chain of steps")),
            CHAIN => return ChainNote::read(&bytes).map(Logged::Chain).ok_or_else(unreadable),
            PARK => park_of(&bytes),
            REJECT => reject_of(&bytes),
            RELOAD | ALTERED => doubt_of(&name, &bytes),
            SWEPT => swept_of(&bytes),
            COUNTED => counted_of(&bytes),
            BEGUN => begun_of(&bytes),
            BESIDE => beside_of(&bytes),
            EMPTIED => noted_of(&bytes, |table| Noted::Emptied { table }),
            REPLACED => noted_of(&bytes, |table| Noted::Replaced { table }),
            OUTBOX if is_newer_outbox(&bytes) => return Err(newer("what an outbox is told")),
            OUTBOX => outbox_of(&bytes),
            kind => {
                let kind: String = kind.chars().take(KIND_LETTERS).collect();
                return Err(newer(&format!("an input of the kind {kind:?}, which is not known here,")));
            }
        }
        .ok_or_else(unreadable)?;
        while taken < before
            && let Some(batch) = batches.next()
        {
            inputs.push(batch);
            taken += 1;
        }
        inputs.push(input);
    }
    inputs.extend(batches);
    Ok(Logged::Inputs(inputs))
}

impl ChainNote {
    /// What its bytes begin with. Before there were layouts it was the number of a source, and those are larger.
    const LAYOUT: [u8; 4] = 1_u32.to_le_bytes();

    /// Whether it is in a later layout than ours.
    fn is_newer(bytes: &[u8]) -> bool {
        let layout = bytes.first_chunk::<4>().map(|layout| u32::from_le_bytes(*layout));
        layout.is_some_and(|layout| layout > u32::from_le_bytes(Self::LAYOUT) && layout < store::catalog::FIRST.0)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let emptied = u64::try_from(self.emptied_rows_max).unwrap_or(u64::MAX).to_le_bytes();
        let mut bytes = [&Self::LAYOUT[..], &self.source.to_le_bytes(), &self.stage.to_le_bytes(), &emptied].concat();
        self.void.iter().for_each(|table| bytes.extend_from_slice(&table.0.to_le_bytes()));
        bytes
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (source, rest) = bytes.strip_prefix(&Self::LAYOUT)?.split_first_chunk::<4>()?;
        let (stage, rest) = rest.split_first_chunk::<8>()?;
        let (emptied, void) = rest.split_first_chunk::<8>()?;
        let emptied_rows_max = usize::try_from(u64::from_le_bytes(*emptied)).ok()?;
        let void = void.chunks(4).map(id).collect::<Option<_>>()?;
        Some(Self { source: u32::from_le_bytes(*source), stage: u64::from_le_bytes(*stage), emptied_rows_max, void })
    }
}

fn park_of(bytes: &[u8]) -> Option<(usize, Input)> {
    let parts = crate::parts::split(bytes)?;
    let ([table, reason], before) = parts.split_first_chunk::<2>()?;
    let before = match before {
        [before] => number(before)?,
        // Written before the place was: what is told of other tables behind it is run as it was then.
        [] => BEHIND,
        _ => return None,
    };
    Some((before, Input::Park { table: id(table)?, reason: text(reason)? }))
}

fn doubt_of(name: &str, bytes: &[u8]) -> Option<(usize, Input)> {
    let parts = crate::parts::split(bytes)?;
    let [before, table, reason, at] = parts[..] else { return None };
    let (table, reason, at_us) = (id(table)?, text(reason)?, i64::from_le_bytes(at.try_into().ok()?));
    let input = match name {
        RELOAD => Input::Reload { table, reason, at_us },
        _ => Input::Altered { table, reason, at_us },
    };
    Some((number(before)?, input))
}

fn reject_of(bytes: &[u8]) -> Option<(usize, Input)> {
    let parts = crate::parts::split(bytes)?;
    let (key, before) = match parts.get(5..)? {
        [key, before] => (key.to_vec(), number(before)?),
        // Written before keys were known.
        [] => (Vec::new(), BEHIND),
        _ => return None,
    };
    let [table, row, reason, position, at] = *parts.first_chunk()?;
    let reject = SourceReject {
        table: id(table)?,
        key,
        row: text(row)?,
        reason: text(reason)?,
        position: text(position)?,
        at_us: i64::from_le_bytes(at.try_into().ok()?),
    };
    Some((before, Input::Note(Note(Noted::Rejected(reject)))))
}

fn swept_of(bytes: &[u8]) -> Option<(usize, Input)> {
    let parts = crate::parts::split(bytes)?;
    let ([before, table, [done], after], of_rows) = parts.split_first_chunk::<4>()? else { return None };
    let rows = rows_of(of_rows);
    let changes = TableChanges { weights: vec![-1; rows.len()], rows, truncated: false, by_key: false };
    let noted = Noted::Swept { table: id(table)?, after: key_of(after), done: *done == 1, changes };
    Some((number(before)?, Input::Note(Note(noted))))
}

fn counted_of(bytes: &[u8]) -> Option<(usize, Input)> {
    let parts = crate::parts::split(bytes)?;
    let ([before, table, [done], after, weights], rows) = parts.split_first_chunk::<5>()? else { return None };
    let changes = changes_of(weights, rows)?;
    let noted = Noted::Swept { table: id(table)?, after: key_of(after), done: *done == 1, changes };
    Some((number(before)?, Input::Note(Note(noted))))
}

fn begun_of(bytes: &[u8]) -> Option<(usize, Input)> {
    let parts = crate::parts::split(bytes)?;
    let ([before, table], rows) = parts.split_first_chunk::<2>()?;
    let noted = Noted::Begun { table: id(table)?, gone: rows_of(rows) };
    Some((number(before)?, Input::Note(Note(noted))))
}

fn beside_of(bytes: &[u8]) -> Option<(usize, Input)> {
    let parts = crate::parts::split(bytes)?;
    let ([before, table, weights], rows) = parts.split_first_chunk::<3>()?;
    let noted = Noted::Beside { table: id(table)?, changes: changes_of(weights, rows)? };
    Some((number(before)?, Input::Note(Note(noted))))
}

fn outbox_of(bytes: &[u8]) -> Option<(usize, Input)> {
    let parts = crate::parts::split(bytes)?;
    let ([before, name], told) = parts.split_first_chunk::<2>()?;
    Some((number(before)?, Input::Outbox { name: text(name)?, told: Told::of_parts(told)? }))
}

/// Whether an outbox is told something that is not known here.
fn is_newer_outbox(bytes: &[u8]) -> bool {
    crate::parts::split(bytes).and_then(|parts| Some(Told::is_newer(parts.get(2..)?))).unwrap_or(false)
}

/// No key is empty.
fn key_of(bytes: &[u8]) -> Option<Vec<u8>> {
    (!bytes.is_empty()).then(|| bytes.to_vec())
}

fn rows_of(parts: &[&[u8]]) -> Rows {
    let mut rows = Rows::new();
    parts.iter().for_each(|row| rows.push(row));
    rows
}

/// Rows with a weight each.
fn changes_of(weights: &[u8], rows: &[&[u8]]) -> Option<TableChanges> {
    let weights: Vec<i8> = weights.iter().map(|weight| weight.cast_signed()).collect();
    (weights.len() == rows.len()).then(|| TableChanges {
        rows: rows_of(rows),
        weights,
        truncated: false,
        by_key: false,
    })
}

fn bytes_of(weights: &[i8]) -> Vec<u8> {
    weights.iter().map(|weight| weight.cast_unsigned()).collect()
}

fn noted_of(bytes: &[u8], noted: impl Fn(TableId) -> Noted) -> Option<(usize, Input)> {
    let parts = crate::parts::split(bytes)?;
    let [before, table] = parts[..] else { return None };
    Some((number(before)?, Input::Note(Note(noted(id(table)?)))))
}

fn id(bytes: &[u8]) -> Option<TableId> {
    Some(TableId(u32::from_le_bytes(bytes.try_into().ok()?)))
}

fn number(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

fn text(bytes: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(bytes).ok()?.to_owned())
}

fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::parts::join(&mut out, parts);
    out
}

fn parts_and_rows(first: &[&[u8]], rows: &Rows) -> Vec<u8> {
    let mut all: Vec<&[u8]> = first.to_vec();
    all.extend(rows.iter());
    parts(&all)
}

fn unreadable() -> Error {
    Error::Store(store::Error::Decode { what: "an input of a step", reason: "it is not as it was written" })
}

/// What stands in a record, whose checksum holds, and is not known here.
fn newer(what: &str) -> Error {
    Error::Store(store::Error::Newer { what: format!("{what} in a record of the log") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(notes: &[(&str, Vec<u8>)]) -> String {
        let notes = notes.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        let record = Record { batches: Vec::new(), notes };
        // As it stands in the log.
        let read = Record::decode(&record.encode()).map_err(Error::Store).and_then(inputs_of);
        read.err().map_or_else(|| "read".to_owned(), |error| error.to_string())
    }

    /// A record of a newer Tidemill is none that is damaged, and one that is cut short is.
    #[test]
    fn what_is_not_known_is_of_a_newer_one() {
        let newer = format!("is of a newer Tidemill than this one ({})", env!("CARGO_PKG_VERSION"));
        let of = |what: &str| format!("{what} in a record of the log {newer}");
        assert_eq!(told(&[("teleport", vec![1])]), of("an input of the kind \"teleport\", which is not known here,"));
        let long = "x".repeat(100);
        assert!(told(&[(long.as_str(), Vec::new())]).len() < 200);
        let outbox = |told: &[&[u8]]| {
            let all: Vec<&[u8]> = [&[0; 4][..], b"o"].into_iter().chain(told.iter().copied()).collect();
            (OUTBOX, parts(&all))
        };
        assert_eq!(told(&[outbox(&[&[3]])]), "read");
        assert_eq!(told(&[outbox(&[&[99]])]), of("what an outbox is told"));
        let mut chain = ChainNote { source: 3, stage: 4, emptied_rows_max: 5, void: Vec::new() }.to_bytes();
        assert_eq!(told(&[(CHAIN, chain.clone())]), "read");
        chain[0] = 2;
        assert_eq!(told(&[(CHAIN, chain)]), of("a chain of steps"));
        let cut = "cannot read an input of a step: it is not as it was written";
        assert_eq!(told(&[(PARK, vec![1])]), cut);
        assert_eq!(told(&[outbox(&[])]), cut);
        assert_eq!(told(&[(CHAIN, vec![1])]), cut);
    }
}
