//! From a source's batches to the changes of a step.
//!
//! While a table is loading, the before-images of the log are not trusted: a row may have changed between the snapshot's
//! start and the reading of its chunk. Every change, and every chunk row, is then normalised against the row as of the
//! change before it, whichever batch of the step that came in: an insert or update is −present +after, a deletion −present.
//! The normalised pairs go to the log.
//!
//! A truncation becomes the deletion of what is there. Changes of the same step before it are left out: they would be
//! deleted at once.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use relation::{SourceBatch, TableChanges, TableId};

use crate::buckets::read_weighted;
use crate::engine::Load;
use crate::error::{Error, Result};
use crate::input::Input;
use crate::network::{Change, Network};
use crate::operator::States;
use crate::stored::Stored;

/// A table as it is after the changes seen so far in this step.
struct Present<'a> {
    stored: &'a Stored,
    states: States<'a>,
    /// What was stored before the step is gone.
    emptied: bool,
    /// Rows by key; none: deleted.
    rows: HashMap<Vec<u8>, Option<Vec<u8>>, FixedState>,
    /// Of a table without a key: how often a row is there.
    weights: HashMap<Vec<u8>, i64, FixedState>,
}

impl<'a> Present<'a> {
    fn new(stored: &'a Stored, states: States<'a>) -> Self {
        Self { stored, states, emptied: false, rows: HashMap::default(), weights: HashMap::default() }
    }

    fn empty(&mut self) {
        self.emptied = true;
        self.rows.clear();
        self.weights.clear();
    }

    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(row) = self.rows.get(key) {
            return Ok(row.clone());
        }
        if self.emptied {
            return Ok(None);
        }
        Ok(self.states.get_seldom(self.stored.id, key)?.map(|row| row.to_vec()))
    }

    /// One change against the row that is there. A change that is normalised already comes out as it is.
    fn upsert(&mut self, row: &[u8], weight: i8, out: &mut TableChanges) -> Result<()> {
        let mut key = Vec::with_capacity(48);
        self.stored.push_key(row, &mut key);
        if let Some(before) = self.row(&key)? {
            out.push(&before, -1);
        }
        let after = (weight > 0).then(|| row.to_vec());
        if let Some(after) = &after {
            out.push(after, 1);
        }
        self.rows.insert(key, after);
        Ok(())
    }

    /// One change of a table without a key that is not known whole: a row from before is not there to be deleted.
    fn count(&mut self, row: &[u8], weight: i8, out: &mut TableChanges) -> Result<()> {
        let mut key = Vec::with_capacity(48);
        self.stored.push_key(row, &mut key);
        let known = match self.weights.get(&key) {
            Some(weight) => *weight,
            None if self.emptied => 0,
            None => match self.states.get_seldom(self.stored.id, &key)? {
                Some(value) => read_weighted(&value)?.0,
                None => 0,
            },
        };
        let after = known + i64::from(weight);
        if after >= 0 {
            out.push(row, weight);
        }
        self.weights.insert(key, after.max(0));
        Ok(())
    }
}

impl Network {
    /// Normalises what loading tables bring, turns truncations into deletions, and drops what belongs to no table. A table
    /// whose stored rows contradict its changes is parked. Errors: the store cannot be read.
    pub(crate) fn normalise(&self, inputs: &mut Vec<Input>, states: States<'_>) -> Result<()> {
        let mut presents: BTreeMap<TableId, Present<'_>> = BTreeMap::new();
        let mut parked: BTreeMap<TableId, Option<String>> = BTreeMap::new();
        for at in 0..inputs.len() {
            let (before, rest) = inputs.split_at_mut(at);
            let batch = match &mut rest[0] {
                Input::Park { table, .. } => {
                    parked.entry(*table).or_insert(None);
                    continue;
                }
                Input::Reject(_) => continue,
                Input::Rows(_, batch) => batch,
            };
            let follows = |id: TableId| !parked.contains_key(&id) && self.follows(id);
            batch.tables.retain(|(id, _)| follows(*id));
            batch.chunks.retain(|chunk| follows(chunk.table));
            let mut failed = Vec::new();
            for (id, changes) in &mut batch.tables {
                match self.normalise_changes(*id, changes, before, states, &mut presents) {
                    Ok(()) => {}
                    Err(error @ Error::Store(_)) => return Err(error),
                    Err(error) => failed.push((*id, error.to_string())),
                }
            }
            for i in 0..batch.chunks.len() {
                match self.normalise_chunk(i, batch, states, &mut presents) {
                    Ok(()) => {}
                    Err(error @ Error::Store(_)) => return Err(error),
                    Err(error) => failed.push((batch.chunks[i].table, error.to_string())),
                }
            }
            for (id, reason) in failed {
                forget(&mut rest[0], id);
                parked.insert(id, Some(reason));
            }
        }
        let reasons = parked.into_iter().filter_map(|(table, reason)| Some(Input::Park { table, reason: reason? }));
        inputs.extend(reasons);
        Ok(())
    }

    fn normalise_changes<'a>(
        &'a self,
        id: TableId,
        changes: &mut TableChanges,
        before: &mut [Input],
        states: States<'a>,
        presents: &mut BTreeMap<TableId, Present<'a>>,
    ) -> Result<()> {
        let mut deletions = TableChanges::default();
        if changes.truncated {
            presents.entry(id).or_insert_with(|| Present::new(&self.relations[&id], states)).empty();
            before.iter_mut().for_each(|input| forget(input, id));
            deletions = self.deletions(id, states)?;
        }
        self.present_changes(id, changes, states, presents)?;
        if !deletions.rows.is_empty() {
            deletions.rows.append(&changes.rows);
            deletions.weights.extend_from_slice(&changes.weights);
            *changes = deletions;
        }
        changes.truncated = false;
        Ok(())
    }

    /// The rows of a chunk become changes of its table.
    fn normalise_chunk<'a>(
        &'a self,
        i: usize,
        batch: &mut SourceBatch,
        states: States<'a>,
        presents: &mut BTreeMap<TableId, Present<'a>>,
    ) -> Result<()> {
        let chunk = &mut batch.chunks[i];
        let (id, rows) = (chunk.table, std::mem::take(&mut chunk.rows));
        let changes = batch.table(id);
        let present = presents.entry(id).or_insert_with(|| Present::new(&self.relations[&id], states));
        for row in rows.iter() {
            if present.stored.is_keyed() { present.upsert(row, 1, changes)? } else { changes.push(row, 1) }
        }
        Ok(())
    }

    /// Changes against what is there, where that may lack rows which the log speaks of.
    fn present_changes<'a>(
        &'a self,
        id: TableId,
        changes: &mut TableChanges,
        states: States<'a>,
        presents: &mut BTreeMap<TableId, Present<'a>>,
    ) -> Result<()> {
        let stored = &self.relations[&id];
        let is_partial = self.tables[&id].load == Load::Partial;
        let is_loading = matches!(self.tables[&id].load, Load::Loading { .. });
        if !(is_partial || is_loading && stored.is_keyed()) {
            return Ok(());
        }
        let present = presents.entry(id).or_insert_with(|| Present::new(stored, states));
        let mut out = TableChanges::default();
        for (row, &weight) in changes.rows.iter().zip(&changes.weights) {
            match stored.is_keyed() {
                true => present.upsert(row, weight, &mut out)?,
                false => present.count(row, weight, &mut out)?,
            }
        }
        *changes = out;
        Ok(())
    }

    /// Whether a table is followed: nothing is taken of one that is parked.
    pub(crate) fn follows(&self, id: TableId) -> bool {
        self.tables.get(&id).is_some_and(|table| !matches!(table.load, Load::Parked { .. }))
    }

    /// All rows stored before the step, deleted.
    fn deletions(&self, id: TableId, states: States<'_>) -> Result<TableChanges> {
        let stored = &self.relations[&id];
        let mut out = TableChanges::default();
        for entry in states.snapshot.scan(id, &[]) {
            let (_, value) = entry?;
            let (row, weight) = stored.row_of(&value)?;
            (0..weight).for_each(|_| out.push(row, -1));
        }
        Ok(out)
    }
}

/// Leaves out what an input brings of a table.
fn forget(input: &mut Input, id: TableId) {
    if let Input::Rows(_, batch) = input {
        batch.tables.retain(|(table, _)| *table != id);
        batch.chunks.iter_mut().filter(|chunk| chunk.table == id).for_each(|chunk| chunk.rows = relation::Rows::new());
    }
}

/// The changes of a step, one of each table, over all batches in their order.
pub(crate) fn changes_of(batches: Vec<SourceBatch>) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for (id, more) in batches.into_iter().flat_map(|batch| batch.tables) {
        if more.rows.is_empty() {
            continue;
        }
        match changes.iter_mut().find(|change| change.id == id) {
            Some(change) => {
                change.rows.append(&more.rows);
                change.weights.extend_from_slice(&more.weights);
            }
            None => changes.push(Change { id, rows: more.rows, weights: more.weights }),
        }
    }
    changes
}
