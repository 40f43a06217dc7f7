//! From a source's batches to the changes of a step.
//!
//! While a table is loading, for the first time or again, the before-images of the log are not trusted: a row may have
//! changed between the snapshot's start and the reading of its chunk, and of a table in doubt another row may be stored than
//! the log believes. Every change, and every chunk row, is then normalised against the row as of the change before it,
//! whichever batch of the step that came in: an insert or update is −present +after, a deletion −present. The normalised
//! pairs go to the log. The same is done for a key whose row could not be read once, and where the source tells what becomes of a
//! key and not what was there ([`TableChanges::by_key`]).
//!
//! A row that could not be read is no row here: what is stored under its key goes where it comes, and where it goes. Without
//! a key it is known by its image: one can go only where one has come ([`crate::rejects`]).
//!
//! Of a table that is loaded again a row that is brought as it is stored is no change: it has the weight 0, which says that
//! it was brought ([`crate::reload`]). Of one without a key nothing is a change before its sweep comes to it: what is brought
//! is set aside, to be counted beside the table.
//!
//! A truncation becomes the deletion of what is there. Changes of the same step before it are left out: they would be
//! deleted at once.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use relation::{Entry, Rows, SourceBatch, TableChanges, TableId, Unread};

use crate::buckets::read_weighted;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::input::{Input, Note, Noted};
use crate::load::Load;
use crate::network::{Change, Network};
use crate::operator::States;
use crate::rejects::{image_key, reject_key};
use crate::reload::Sweeper;
use crate::stored::Stored;

/// A table as it is after the changes seen so far in this step.
struct Present<'a> {
    stored: &'a Stored,
    states: States<'a>,
    /// What was stored before the step is gone.
    emptied: bool,
    /// Rows by key; none: deleted.
    rows: HashMap<Vec<u8>, Option<Vec<u8>>, FixedState>,
    /// Of a table without a key: how often a row is there, and the row.
    counts: HashMap<Vec<u8>, (i64, Vec<u8>), FixedState>,
    /// How often a row is there that could not be read, by its image.
    unread: BTreeMap<[u8; 16], i64>,
    /// None of those from before the step is there any more.
    has_read_all: bool,
}

impl<'a> Present<'a> {
    fn new(stored: &'a Stored, states: States<'a>) -> Self {
        Self {
            stored,
            states,
            emptied: false,
            rows: HashMap::default(),
            counts: HashMap::default(),
            unread: BTreeMap::new(),
            has_read_all: false,
        }
    }

    fn empty(&mut self) {
        self.emptied = true;
        self.rows.clear();
        self.counts.clear();
        self.read_all();
    }

    /// No row is there that could not be read.
    fn read_all(&mut self) {
        self.has_read_all = true;
        self.unread.clear();
    }

    fn key(&self, row: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(48);
        self.stored.push_key(row, &mut key);
        key
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
    fn upsert(&mut self, row: &[u8], weight: i8, again: bool, out: &mut TableChanges) -> Result<()> {
        let key = self.key(row);
        let before = self.row(&key)?;
        if again && weight > 0 && before.as_deref() == Some(row) {
            out.push(row, 0);
            return Ok(());
        }
        if let Some(before) = before {
            out.push(&before, -1);
        }
        let after = (weight > 0).then(|| row.to_vec());
        if let Some(after) = &after {
            out.push(after, 1);
        }
        self.rows.insert(key, after);
        Ok(())
    }

    /// One change that is taken as it comes, where later ones may not be.
    fn pass(&mut self, row: &[u8], weight: i8, out: &mut TableChanges) {
        self.rows.insert(self.key(row), (weight > 0).then(|| row.to_vec()));
        out.push(row, weight);
    }

    /// How often a row is there now.
    fn counted(&self, key: &[u8]) -> Result<i64> {
        match self.counts.get(key) {
            Some((count, _)) => Ok(*count),
            None if self.emptied => Ok(0),
            None => match self.states.get_seldom(self.stored.id, key)? {
                Some(value) => Ok(read_weighted(&value)?.0),
                None => Ok(0),
            },
        }
    }

    /// One change of a table without a key that is not known whole: a row from before is not there to be deleted.
    fn count(&mut self, row: &[u8], weight: i8, out: &mut TableChanges) -> Result<()> {
        let key = self.key(row);
        let after = self.counted(&key)?.checked_add(i64::from(weight)).ok_or(relation::Error::Overflow("weight"))?;
        if after >= 0 {
            out.push(row, weight);
        }
        self.counts.insert(key, (after.max(0), row.to_vec()));
        Ok(())
    }
}

/// The inputs of one step on their way to the log.
struct Ingest<'a> {
    /// None beside the steps: there, tables are as the log says, and nothing is swept.
    engine: Option<&'a Engine>,
    network: &'a Network,
    states: States<'a>,
    presents: BTreeMap<TableId, Present<'a>>,
    /// Tables of which nothing more is taken; with a reason where that was found out here.
    parked: BTreeMap<TableId, Option<String>>,
    /// Tables that are loaded again from this step on.
    reloaded: BTreeSet<TableId>,
    /// Tables without a key whose load, again, has begun in this step to bring rows.
    begun: BTreeSet<TableId>,
    /// How far tables are swept with this step; none: to their end.
    swept: BTreeMap<TableId, Option<Vec<u8>>>,
    /// Tables of which a row comes or goes in this step that could not be read: what is there of its key is known from the
    /// first input on, for what came of it before may have been taken as it was.
    rejected: BTreeSet<TableId>,
    /// Tables of which an input tells by key: what is there of a key is known from the first input on.
    by_key: BTreeSet<TableId>,
    /// What was found out, and before which inputs that belongs.
    notes: Vec<(usize, Noted)>,
}

impl Engine {
    /// Normalises what loading tables bring, turns truncations and sweeps into deletions, and drops what belongs to no table.
    /// A table whose stored rows contradict its changes is parked: answers with those. Errors: the store cannot be read.
    pub(crate) fn normalise(&self, inputs: &mut Vec<Input>, states: States<'_>) -> Result<Vec<(TableId, String)>> {
        normalise(Some(self), &self.network, inputs, states)
    }
}

impl Network {
    /// The same beside the steps, of rows alone, and where no table has rejects or is loaded again.
    pub(crate) fn normalise(&self, inputs: &mut Vec<Input>, states: States<'_>) -> Result<Vec<(TableId, String)>> {
        normalise(None, self, inputs, states)
    }

    /// Whether anything is taken of a table.
    pub(crate) fn follows(&self, id: TableId) -> bool {
        self.tables.get(&id).is_some_and(|table| table.load.is_followed())
    }
}

fn normalise(
    engine: Option<&Engine>,
    network: &Network,
    inputs: &mut Vec<Input>,
    states: States<'_>,
) -> Result<Vec<(TableId, String)>> {
    let mut ingest = Ingest {
        engine,
        network,
        states,
        presents: BTreeMap::new(),
        parked: BTreeMap::new(),
        reloaded: BTreeSet::new(),
        begun: BTreeSet::new(),
        swept: BTreeMap::new(),
        rejected: inputs.iter().flat_map(unread_tables).collect(),
        by_key: inputs.iter().flat_map(tables_by_key).collect(),
        notes: Vec::new(),
    };
    for at in 0..inputs.len() {
        let (before, rest) = inputs.split_at_mut(at);
        ingest.input(at, &mut rest[0], before)?;
    }
    let Ingest { parked, notes, .. } = ingest;
    for (at, noted) in notes.into_iter().rev() {
        inputs.insert(at, Input::Note(Note(noted)));
    }
    let contradicted: Vec<_> = parked.into_iter().filter_map(|(table, reason)| Some((table, reason?))).collect();
    inputs.extend(contradicted.iter().cloned().map(|(table, reason)| Input::Park { table, reason }));
    Ok(contradicted)
}

/// Tables of which an input brings rows that could not be read.
fn unread_tables(input: &Input) -> Vec<TableId> {
    let Input::Rows(_, batch) = input else { return Vec::new() };
    let changed = batch.tables.iter().filter(|(_, changes)| changes.has_unread(0)).map(|(id, _)| *id);
    changed.chain(batch.chunks.iter().filter(|chunk| !chunk.unread.is_empty()).map(|chunk| chunk.table)).collect()
}

/// Tables of which an input tells by key.
fn tables_by_key(input: &Input) -> Vec<TableId> {
    let Input::Rows(_, batch) = input else { return Vec::new() };
    batch.tables.iter().filter(|(_, changes)| changes.by_key).map(|(id, _)| *id).collect()
}

impl<'a> Ingest<'a> {
    fn input(&mut self, at: usize, input: &mut Input, before: &mut [Input]) -> Result<()> {
        match input {
            Input::Park { table, .. } | Input::Altered { table, .. } => {
                self.parked.entry(*table).or_insert(None);
            }
            Input::Reload { table, .. } => {
                self.reloaded.insert(*table);
            }
            Input::Sweep { table } => {
                let table = *table;
                let sweeper = self.engine.and_then(|engine| Sweeper::new(engine, table, self.states));
                let noted = sweeper.map(|sweeper| sweeper.portion()).transpose()?;
                let nothing = Noted::Swept { table, after: None, done: false, changes: TableChanges::default() };
                *input = Input::Note(Note(noted.unwrap_or(nothing)));
                self.note(input);
            }
            Input::Note(_) => self.note(input),
            Input::Outbox { .. } => {}
            Input::Rows(..) => self.rows(at, input, before)?,
        }
        Ok(())
    }

    /// What was swept is not there for what comes behind it. Inputs that are given a second time were normalised the first.
    fn note(&mut self, input: &Input) {
        match input {
            Input::Note(Note(Noted::Begun { table, .. } | Noted::Replaced { table })) => {
                self.begun.insert(*table);
            }
            Input::Note(Note(Noted::Swept { table, after, done, changes })) => {
                let Some(stored) = self.network.relations.get(table) else { return };
                if !stored.is_keyed() {
                    let before = self.load(*table).and_then(Load::swept_through);
                    let after = after.as_deref().or(before).unwrap_or_default().to_vec();
                    self.swept.insert(*table, (!done).then_some(after));
                    return;
                }
                let present = self.present(*table);
                for row in changes.rows.iter() {
                    present.rows.insert(present.key(row), None);
                }
            }
            _ => {}
        }
    }

    fn rows(&mut self, at: usize, input: &mut Input, before: &mut [Input]) -> Result<()> {
        let Input::Rows(_, batch) = input else { return Ok(()) };
        batch.tables.retain(|(id, _)| self.follows(*id));
        batch.chunks.retain(|chunk| self.follows(chunk.table));
        let mut failed = Vec::new();
        for (id, changes) in &mut batch.tables {
            match self.changes(at, *id, changes, before) {
                Ok(()) => {}
                Err(error @ Error::Store(_)) => return Err(error),
                Err(error) => failed.push((*id, error.to_string())),
            }
        }
        for i in 0..batch.chunks.len() {
            match self.chunk(at, i, batch) {
                Ok(()) => {}
                Err(error @ Error::Store(_)) => return Err(error),
                Err(error) => failed.push((batch.chunks[i].table, error.to_string())),
            }
        }
        for (id, reason) in failed {
            forget(input, id);
            // What was found out on the way belongs to what is not taken.
            self.notes.retain(|(of, noted)| *of != at || noted.table() != id);
            self.parked.insert(id, Some(reason));
        }
        Ok(())
    }

    fn present(&mut self, id: TableId) -> &mut Present<'a> {
        let (network, states) = (self.network, self.states);
        self.presents.entry(id).or_insert_with(|| Present::new(&network.relations[&id], states))
    }

    fn load(&self, id: TableId) -> Option<&'a Load> {
        self.network.tables.get(&id).map(|table| &table.load)
    }

    fn follows(&self, id: TableId) -> bool {
        let is_followed = self.load(id).is_some_and(|load| load.is_followed() || self.reloaded.contains(&id));
        is_followed && !self.parked.contains_key(&id)
    }

    fn is_again(&self, id: TableId) -> bool {
        self.reloaded.contains(&id) || self.load(id).is_some_and(|load| load.again().is_some())
    }

    /// Whether nothing has been brought yet of a table without a key that is loaded again: what the log says of it before the
    /// first chunk comes is shown by the chunks.
    fn is_unbegun(&self, id: TableId) -> bool {
        let is_new = matches!(self.load(id), Some(Load::Reloading { cursor: None, .. }));
        (is_new || self.reloaded.contains(&id)) && !self.begun.contains(&id)
    }

    /// The load of a table without a key begins to bring rows; `gone` go.
    fn begin(&mut self, at: usize, id: TableId, gone: Rows) {
        self.begun.insert(id);
        self.present(id).read_all();
        // What was set aside before is void, and what went before is among what goes.
        self.notes.retain(|(_, noted)| !matches!(noted, Noted::Beside { table, .. } if *table == id));
        for (_, noted) in &mut self.notes {
            if let Noted::Begun { table, gone } = noted
                && *table == id
            {
                *gone = Rows::new();
            }
        }
        self.notes.push((at, Noted::Begun { table: id, gone }));
    }

    /// Whether a row of a table without a key is counted beside the table, which is loaded again: not so when the sweep has
    /// passed its key, as the table is what was brought up to there.
    fn is_beside(&self, id: TableId, row: &[u8]) -> bool {
        let is_behind = |through: &[u8]| {
            let mut key = Vec::with_capacity(48);
            self.network.relations[&id].push_key(row, &mut key);
            key.as_slice() > through
        };
        match (self.load(id), self.swept.get(&id)) {
            _ if self.reloaded.contains(&id) => true,
            (_, Some(None)) => false,
            (_, Some(Some(through))) => is_behind(through),
            (Some(Load::Reloading { .. }), None) => true,
            (Some(Load::Sweeping { after, .. }), None) => is_behind(after.as_deref().unwrap_or_default()),
            _ => false,
        }
    }

    /// Sets aside what of the changes of a table without a key, which is loaded again, is counted beside it.
    fn set_aside(&mut self, at: usize, id: TableId, changes: &mut TableChanges) -> Result<()> {
        let (mut stays, mut aside) = (TableChanges::default(), TableChanges::default());
        let is_void = self.is_unbegun(id);
        for entry in changes.entries() {
            match entry {
                Entry::Unread(bytes, weight) => self.unread(id, bytes, weight, &mut stays)?,
                Entry::Row(..) if is_void => {}
                Entry::Row(row, weight) if weight != 0 && self.is_beside(id, row) => aside.push(row, weight),
                Entry::Row(row, weight) => stays.push(row, weight),
            }
        }
        *changes = stays;
        if !aside.rows.is_empty() {
            self.notes.push((at, Noted::Beside { table: id, changes: aside }));
        }
        Ok(())
    }

    fn changes(&mut self, at: usize, id: TableId, changes: &mut TableChanges, before: &mut [Input]) -> Result<()> {
        let is_counted = !self.network.relations[&id].is_keyed() && self.is_again(id);
        let mut deletions = TableChanges::default();
        if changes.truncated {
            self.present(id).empty();
            before.iter_mut().for_each(|input| forget(input, id));
            deletions = self.deletions(id)?;
            if is_counted {
                self.begin(at, id, std::mem::take(&mut deletions).rows);
            } else if self.has_rejects(id) {
                self.notes.push((at, Noted::Emptied { table: id }));
            }
        }
        match is_counted {
            true => self.set_aside(at, id, changes)?,
            false => self.present_changes(id, changes)?,
        }
        if !deletions.rows.is_empty() {
            deletions.rows.append(&changes.rows);
            deletions.weights.extend_from_slice(&changes.weights);
            *changes = deletions;
        }
        (changes.truncated, changes.by_key) = (false, false);
        Ok(())
    }

    /// The rows of a chunk become changes of its table.
    fn chunk(&mut self, at: usize, i: usize, batch: &mut SourceBatch) -> Result<()> {
        let chunk = &mut batch.chunks[i];
        let (id, rows, unread) = (chunk.table, std::mem::take(&mut chunk.rows), std::mem::take(&mut chunk.unread));
        let changes = batch.table(id);
        let again = self.is_again(id);
        let is_keyed = self.network.relations[&id].is_keyed();
        match (is_keyed, again) {
            (true, _) => {
                let present = self.present(id);
                rows.iter().try_for_each(|row| present.upsert(row, 1, again, changes))?;
            }
            (false, true) => {
                if self.is_unbegun(id) {
                    self.begin(at, id, Rows::new());
                    // What the batch tells from before is shown by the load, also rows that could not be read.
                    *changes = TableChanges::default();
                }
                let mut brought = TableChanges { weights: vec![1; rows.len()], rows, truncated: false, by_key: false };
                self.set_aside(at, id, &mut brought)?;
                brought.entries().for_each(|entry| changes.push_entry(entry));
            }
            (false, false) => rows.iter().for_each(|row| changes.push(row, 1)),
        }
        unread.iter().try_for_each(|bytes| self.unread(id, bytes, 1, changes))
    }

    /// A row that could not be read comes or goes.
    fn unread(&mut self, id: TableId, bytes: &[u8], weight: i8, out: &mut TableChanges) -> Result<()> {
        let unread = Unread::read(bytes)?;
        // The first load of a table without a key tells of what has gone behind the rows that were there.
        let is_exact = |load: &Load| match load {
            Load::Complete => true,
            Load::Loading { cursor } => cursor.is_some() && !self.network.relations[&id].is_keyed(),
            _ => false,
        };
        let is_whole = self.load(id).is_some_and(is_exact) && !self.reloaded.contains(&id);
        let (engine, states) = (self.engine, self.states);
        let present = self.present(id);
        if present.stored.is_keyed() && !unread.key.is_empty() {
            if let Some(before) = present.row(&unread.key)? {
                out.push(&before, -1);
            }
            present.rows.insert(unread.key, None);
            out.push_entry(Entry::Unread(bytes, weight));
            return Ok(());
        }
        let count = match (present.unread.get(&unread.image), engine) {
            (Some(count), _) => *count,
            (None, Some(engine)) if !present.has_read_all && engine.rejected.contains_key(&id) => {
                let kept = states.get_seldom(engine.rejects, &image_key(id, &unread.image))?;
                kept.map_or(Ok(0), |value| read_weighted(&value).map(|(count, _)| count))?
            }
            (None, _) => 0,
        };
        let after = count + i64::from(weight);
        if after < 0 && is_whole {
            return Err(Error::Broken {
                node: id.to_string(),
                what: "a row goes that could not be read and never came",
            });
        }
        present.unread.insert(unread.image, after.max(0));
        // Of a table that is not known whole, it need not be there to go.
        if after >= 0 {
            out.push_entry(Entry::Unread(bytes, weight));
        }
        Ok(())
    }

    /// Changes against what is there, where that may be another than the log believes.
    fn present_changes(&mut self, id: TableId, changes: &mut TableChanges) -> Result<()> {
        let is_keyed = self.network.relations[&id].is_keyed();
        let again = self.is_again(id);
        let is_partial = self.load(id) == Some(&Load::Partial);
        let is_loading = matches!(self.load(id), Some(Load::Loading { .. }));
        let is_doubtful = again || is_partial || (is_loading || changes.by_key) && is_keyed;
        let has_rejects = self.has_rejects(id);
        let is_mixed = is_keyed && (has_rejects || self.by_key.contains(&id));
        if !is_doubtful && !is_mixed && !changes.has_unread(0) {
            return Ok(());
        }
        let mut out = TableChanges::default();
        for entry in changes.entries() {
            match entry {
                Entry::Unread(bytes, weight) => self.unread(id, bytes, weight, &mut out)?,
                Entry::Row(row, 0) => out.push(row, 0),
                Entry::Row(row, weight) if is_keyed && (is_doubtful || self.is_rejected(id, row)?) => {
                    let present = self.present(id);
                    let key = present.key(row);
                    // What could not be read as it came may be read as it goes: then no row goes, but it does.
                    if weight < 0 && has_rejects && present.row(&key)?.is_none() {
                        out.push_unread(&Unread { key, ..Unread::default() }, -1);
                    }
                    present.upsert(row, weight, again, &mut out)?;
                }
                Entry::Row(row, weight) if is_keyed => self.present(id).pass(row, weight, &mut out),
                Entry::Row(row, weight) if is_doubtful => self.present(id).count(row, weight, &mut out)?,
                Entry::Row(row, weight) => out.push(row, weight),
            }
        }
        *changes = out;
        Ok(())
    }

    fn has_rejects(&self, id: TableId) -> bool {
        self.rejected.contains(&id) || self.engine.is_some_and(|engine| engine.rejected.contains_key(&id))
    }

    /// Whether the row of this row's key could not be read the last time; or what is there of it is known already.
    fn is_rejected(&mut self, id: TableId, row: &[u8]) -> Result<bool> {
        let present = self.present(id);
        let key = present.key(row);
        if present.rows.contains_key(&key) {
            return Ok(true);
        }
        let Some(engine) = self.engine.filter(|engine| engine.rejected.contains_key(&id)) else { return Ok(false) };
        Ok(self.states.get_seldom(engine.rejects, &reject_key(id, &key))?.is_some())
    }

    /// All rows stored before the step, deleted.
    fn deletions(&self, id: TableId) -> Result<TableChanges> {
        let stored = &self.network.relations[&id];
        let mut out = TableChanges::default();
        for entry in self.states.snapshot.scan(id, &[]) {
            let (_, value) = entry?;
            let (row, weight) = stored.row_of(&value)?;
            (0..weight).for_each(|_| out.push(row, -1));
        }
        Ok(out)
    }
}

/// Leaves out what an input brings of a table.
fn forget(input: &mut Input, id: TableId) {
    match input {
        Input::Rows(_, batch) => {
            batch.tables.retain(|(table, _)| *table != id);
            for chunk in batch.chunks.iter_mut().filter(|chunk| chunk.table == id) {
                (chunk.rows, chunk.unread) = (Rows::new(), Rows::new());
            }
        }
        Input::Note(Note(Noted::Swept { table, changes, .. } | Noted::Beside { table, changes })) if *table == id => {
            *changes = TableChanges::default();
        }
        Input::Note(Note(Noted::Begun { table, gone })) if *table == id => *gone = Rows::new(),
        _ => {}
    }
}

/// The changes of a step, one of each table, over all batches in their order, without what was brought as it is stored, and
/// what could not be read.
pub(crate) fn changes_of(batches: Vec<SourceBatch>) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for (id, more) in batches.into_iter().flat_map(|batch| batch.tables) {
        let is_plain = !more.weights.contains(&0) && !more.has_unread(0);
        let more = if is_plain { more } else { of_rows(&more, |weight| weight != 0) };
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

/// The rows of some weights, without what could not be read.
fn of_rows(changes: &TableChanges, is_wanted: impl Fn(i8) -> bool) -> TableChanges {
    let mut out = TableChanges::default();
    changes.readable().filter(|(_, weight)| is_wanted(*weight)).for_each(|(row, weight)| out.push(row, weight));
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use plan::TableName;
    use relation::{ChunkDone, Column, DataType, Layout, Position, Schema, Value};

    use super::*;
    use crate::engine::Settings;
    use crate::input::{Logged, inputs_of, record_of};

    fn row(rows: &mut Rows, k: i64, n: i64) {
        let layout = Layout::new(vec![DataType::Int64; 2]);
        rows.push_values(&layout, &[Value::Int(k), Value::Int(n)]).unwrap();
    }

    fn rows_of(of: &[(i64, i64)]) -> Rows {
        let mut rows = Rows::new();
        of.iter().for_each(|&(k, n)| row(&mut rows, k, n));
        rows
    }

    fn chunk(table: TableId, of: &[(i64, i64)], complete: bool) -> Input {
        let (cursor, rows, unread) = (vec![1], rows_of(of), Rows::new());
        let chunk = ChunkDone { table, cursor, complete, rows, unread, rows_estimate: 0 };
        Input::Rows(16, SourceBatch { chunks: vec![chunk], ..SourceBatch::default() })
    }

    fn changes(table: TableId, of: &[(i64, i64, i8)], truncated: bool) -> Input {
        let rows = rows_of(&of.iter().map(|&(k, n, _)| (k, n)).collect::<Vec<_>>());
        let weights = of.iter().map(|&(.., weight)| weight).collect();
        let tables = vec![(table, TableChanges { rows, weights, truncated, by_key: false })];
        Input::Rows(16, SourceBatch { tables, position: Position("1".to_owned()), ..SourceBatch::default() })
    }

    /// Inputs that come back out of a record, since the store could not take their step, are normalised again: that changes
    /// nothing, whatever they are and however far their tables are.
    #[test]
    fn what_is_given_again_is_normalised_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::open(dir.path(), store::Options::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let queries = query::Runtime::new(&query::Settings::default()).unwrap();
        let settings = Settings { sweep_rows_max: 2, ..Settings::new(1, runtime.handle().clone()) };
        let mut engine = Engine::open(store, Arc::clone(&queries), settings).unwrap();
        let source = engine.register_source("test").unwrap();
        let columns = ["k", "n"].map(|name| Column::new(name, DataType::Int64)).to_vec();
        let mut register = |name: &str, key| {
            let schema = Schema::new(columns.clone(), key);
            engine.register_table(source, &TableName::new("public", name), &schema).unwrap()
        };
        let (keyed, bag) = (register("keyed", vec![0]), register("bag", vec![]));
        engine.recover().unwrap();
        let first = [(1, 1), (2, 2), (3, 3), (4, 4)];
        let take = |engine: &mut Engine, mut inputs: Vec<Input>| while engine.take(&mut inputs).unwrap().is_some() {};
        take(&mut engine, vec![chunk(keyed, &first, true), chunk(bag, &first, true)]);
        let reload = |table| Input::Reload { table, reason: String::new(), at_us: 0 };
        let unread = |table, key: Vec<u8>, weights: &[i8]| {
            let mut batch = SourceBatch::default();
            let unread = Unread { key, ..Unread::default() };
            weights.iter().for_each(|&weight| batch.table(table).push_unread(&unread, weight));
            Input::Rows(16, batch)
        };
        let rejected = unread(keyed, engine.row_key(keyed, &[Value::Int(2)]).unwrap(), &[1]);
        let steps = [
            vec![rejected.clone(), changes(keyed, &[(1, 1, -1), (1, 5, 1), (2, 9, -1), (2, 10, 1)], false)],
            vec![
                reload(keyed),
                chunk(keyed, &[(1, 5), (2, 7)], false),
                changes(keyed, &[(3, 8, -1), (3, 9, 1)], false),
            ],
            vec![
                reload(bag),
                unread(bag, Vec::new(), &[1, 1]),
                chunk(bag, &[(1, 1), (1, 1), (7, 7)], true),
                unread(bag, Vec::new(), &[1, -1]),
                changes(bag, &[(7, 7, -1), (8, 8, 1)], false),
            ],
            vec![chunk(keyed, &[(6, 6)], true)],
            vec![Input::Sweep { table: bag }, changes(bag, &[(1, 1, 1), (9, 9, 1)], false)],
            vec![Input::Sweep { table: bag }, changes(bag, &[(1, 1, -1), (9, 9, -1)], false)],
            vec![Input::Sweep { table: bag }],
            vec![reload(bag), chunk(bag, &[(7, 7)], false)],
            vec![changes(bag, &[(1, 1, 1)], true), chunk(bag, &[(1, 1), (8, 8)], true)],
            vec![Input::Sweep { table: bag }],
            vec![Input::Sweep { table: bag }],
            vec![Input::Sweep { table: keyed }, changes(keyed, &[(1, 6, 1), (5, 5, 1)], false)],
            vec![Input::Sweep { table: keyed }],
            vec![rejected, changes(keyed, &[(2, 2, 1)], true), changes(bag, &[(8, 8, -1)], false)],
            vec![changes(keyed, &[(2, 2, -1), (3, 3, 1)], false)],
            // Nothing is taken of a table whose columns are others.
            vec![Input::Altered { table: keyed, reason: String::new(), at_us: 0 }, changes(keyed, &[(9, 9, 1)], false)],
            vec![changes(keyed, &[(9, 9, 1)], false), chunk(keyed, &[(9, 9)], true)],
        ];
        let mut brought = 0;
        for mut once in steps {
            let given = once.clone();
            let snapshot = engine.store.working();
            engine.normalise(&mut once, engine.states(&snapshot)).unwrap();
            let Logged::Inputs(mut again) = inputs_of(record_of(once.clone())).unwrap() else { panic!("a chain") };
            assert_eq!(again, once);
            engine.normalise(&mut again, engine.states(&snapshot)).unwrap();
            assert_eq!(again, once, "given: {given:?}");
            let tables = once.iter().flat_map(|input| match input {
                Input::Rows(_, batch) => batch.tables.as_slice(),
                _ => &[],
            });
            brought += tables.flat_map(|(_, changes)| &changes.weights).filter(|weight| **weight == 0).count();
            take(&mut engine, given);
        }
        // The one row that a chunk brought as it was stored is told as that.
        assert_eq!(brought, 1);
        let mut left = Vec::new();
        for id in [keyed, bag] {
            for entry in engine.store.snapshot().scan(id, &[]) {
                let stored = engine.relation(id).unwrap();
                let values = stored.layout.values(stored.row_of(&entry.unwrap().1).unwrap().0);
                left.push(values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            }
        }
        assert_eq!(left, ["3 3", "1 1"]);
    }
}
