//! What a step's batches say beside their rows: times of transactions, positions, how far loads have come.

use std::collections::{BTreeMap, BTreeSet};

use engine::Input;
use relation::TableId;

use crate::latency::Tally;
use crate::status::Stage;

/// When a step was on disk, and when it could be read.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) durable: i64,
    pub(super) visible: i64,
}

/// Latencies of a step's transactions, of some sources; of those that flowed as they were made.
pub(super) struct StepLatency {
    /// The newest commit time.
    pub(super) newest: Option<i64>,
    commit_visible: Tally,
    commit_read: Tally,
    read_durable: Tally,
    durable_visible: Tally,
}

impl StepLatency {
    /// `flow_since`: from which commit on the transactions of each source flow, see [`crate::status::SourceStatus::flows_since_us`].
    pub(super) fn of(marks: &[Mark], sources: &BTreeSet<u32>, flow_since: &BTreeMap<u32, i64>, times: Times) -> Self {
        let marks = || marks.iter().filter(|mark| sources.contains(&mark.source));
        let flows = |mark: &&Mark| flow_since.get(&mark.source).is_some_and(|since| mark.commit >= *since);
        let tally = |of: &dyn Fn(&Mark) -> i64| marks().filter(flows).map(of).collect();
        Self {
            newest: marks().map(|mark| mark.commit).max(),
            commit_visible: tally(&|mark| times.visible - mark.commit),
            commit_read: tally(&|mark| mark.read - mark.commit),
            // The log's sync runs beside the rules; only what came after it is the stage behind it.
            read_durable: tally(&|mark| times.durable - mark.read),
            durable_visible: tally(&|_| times.visible - times.durable),
        }
    }

    pub(super) fn stages(&self) -> [(Stage, &Tally); 4] {
        [
            (Stage::CommitVisible, &self.commit_visible),
            (Stage::CommitRead, &self.commit_read),
            (Stage::ReadDurable, &self.read_durable),
            (Stage::DurableVisible, &self.durable_visible),
        ]
    }
}

/// A transaction's times.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub(super) source: u32,
    pub(super) commit: i64,
    pub(super) read: i64,
}

/// What a step's batches say beside their rows.
#[derive(Default)]
pub(super) struct Seen {
    /// One per transaction.
    pub(super) marks: Vec<Mark>,
    /// The oldest commit, by source.
    pub(super) oldest: BTreeMap<u32, i64>,
    pub(super) positions: BTreeMap<u32, String>,
    /// Bytes of changes, by table.
    pub(super) bytes: BTreeMap<TableId, u64>,
    /// Rows loaded and estimated, by table.
    pub(super) chunks: BTreeMap<TableId, (u64, u64)>,
}

impl Seen {
    /// Where the sources are behind it, for people.
    pub(super) fn position(&self, names: &BTreeMap<u32, String>) -> String {
        let mut positions = self.positions.iter();
        match (positions.next(), positions.next()) {
            (None, _) => String::new(),
            (Some((_, alone)), None) => alone.clone(),
            _ => {
                let named = |(source, position): (&u32, &String)| {
                    format!("{}: {position}", names.get(source).map_or("", String::as_str))
                };
                self.positions.iter().map(named).collect::<Vec<_>>().join("; ")
            }
        }
    }

    pub(super) fn of(inputs: &[Input]) -> Self {
        let mut seen = Self::default();
        for input in inputs {
            let Input::Rows(source, batch) = input else { continue };
            let mark = |t: &relation::TransactionMark| Mark {
                source: *source,
                commit: t.commit_time_us,
                read: t.read_time_us,
            };
            seen.marks.extend(batch.transactions.iter().map(mark));
            if let Some(oldest) = batch.transactions.iter().map(|t| t.commit_time_us).min() {
                let known = seen.oldest.entry(*source).or_insert(oldest);
                *known = oldest.min(*known);
            }
            if !batch.position.0.is_empty() {
                seen.positions.insert(*source, batch.position.0.clone());
            }
            for (table, changes) in &batch.tables {
                let bytes = seen.bytes.entry(*table).or_default();
                *bytes = bytes.saturating_add(changes.rows.byte_len() as u64);
            }
            for chunk in &batch.chunks {
                let entry = seen.chunks.entry(chunk.table).or_default();
                entry.0 += chunk.rows.len() as u64;
                entry.1 = entry.1.max(chunk.rows_estimate);
            }
        }
        seen
    }
}
