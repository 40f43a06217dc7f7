//! What a step takes: everything that changes state, logged before it is run and run again after a crash.

use relation::{SourceBatch, TableId};
use store::Record;

use crate::error::{Error, Result};
use crate::rejects::SourceReject;

/// One input of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Whole transactions and snapshot chunks of a source.
    Rows(u32, SourceBatch),
    /// A table is not followed any more: its content is in doubt from here on.
    Park { table: TableId, reason: String },
    /// A row that a source could not decode.
    Reject(SourceReject),
}

/// A transaction, or the emptying of a large table, that is run as a chain of steps out of a staged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainNote {
    pub(crate) source: u32,
    pub(crate) stage: u64,
}

const PARK: &str = "park";
const REJECT: &str = "reject";
const CHAIN: &str = "chain";

/// The inputs as a log record: rows first, then the rest in its order. What follows a parking has no rows of that table, so
/// that order says the same.
pub(crate) fn record_of(inputs: Vec<Input>) -> Record {
    let mut record = Record::default();
    for input in inputs {
        match input {
            Input::Rows(source, batch) => record.batches.push((source, batch)),
            Input::Park { table, reason } => {
                record.notes.push((PARK.to_owned(), parts(&[&table.0.to_le_bytes(), reason.as_bytes()])));
            }
            Input::Reject(reject) => {
                let texts = [reject.row.as_bytes(), reject.reason.as_bytes(), reject.position.as_bytes()];
                let (id, at) = (reject.table.0.to_le_bytes(), reject.at_us.to_le_bytes());
                record.notes.push((REJECT.to_owned(), parts(&[&id, texts[0], texts[1], texts[2], &at])));
            }
        }
    }
    record
}

/// A record that begins a chain.
pub(crate) fn record_of_chain(chain: ChainNote) -> Record {
    let bytes = [&chain.source.to_le_bytes()[..], &chain.stage.to_le_bytes()].concat();
    Record { batches: Vec::new(), notes: vec![(CHAIN.to_owned(), bytes)] }
}

/// What a record holds.
pub(crate) enum Logged {
    Inputs(Vec<Input>),
    Chain(ChainNote),
}

/// The reverse of [`record_of`] and [`record_of_chain`]. Errors: notes of a kind that this Tidemill does not know.
pub(crate) fn inputs_of(record: Record) -> Result<Logged> {
    let mut inputs: Vec<Input> = record.batches.into_iter().map(|(source, batch)| Input::Rows(source, batch)).collect();
    for (name, bytes) in record.notes {
        match name.as_str() {
            CHAIN => return chain_of(&bytes).map(Logged::Chain).ok_or_else(unreadable),
            PARK => inputs.push(park_of(&bytes).ok_or_else(unreadable)?),
            REJECT => inputs.push(reject_of(&bytes).ok_or_else(unreadable)?),
            _ => return Err(unreadable()),
        }
    }
    Ok(Logged::Inputs(inputs))
}

pub(crate) fn chain_of(bytes: &[u8]) -> Option<ChainNote> {
    let (source, stage) = bytes.split_first_chunk::<4>()?;
    Some(ChainNote { source: u32::from_le_bytes(*source), stage: u64::from_le_bytes(stage.try_into().ok()?) })
}

fn park_of(bytes: &[u8]) -> Option<Input> {
    let parts = crate::parts::split(bytes)?;
    let [table, reason] = parts[..] else { return None };
    Some(Input::Park { table: id(table)?, reason: text(reason)? })
}

fn reject_of(bytes: &[u8]) -> Option<Input> {
    let parts = crate::parts::split(bytes)?;
    let [table, row, reason, position, at] = parts[..] else { return None };
    Some(Input::Reject(SourceReject {
        table: id(table)?,
        row: text(row)?,
        reason: text(reason)?,
        position: text(position)?,
        at_us: i64::from_le_bytes(at.try_into().ok()?),
    }))
}

fn id(bytes: &[u8]) -> Option<TableId> {
    Some(TableId(u32::from_le_bytes(bytes.try_into().ok()?)))
}

fn text(bytes: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(bytes).ok()?.to_owned())
}

fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::parts::join(&mut out, parts);
    out
}

fn unreadable() -> Error {
    Error::Store(store::Error::Decode { what: "an input of a step", reason: "it is of no known kind, or cut off" })
}
