//! A table in doubt is loaded again, while its old rows serve.
//!
//! From the input that says so ([`crate::Input::Reload`]) on, every key that a chunk or a change of the log brings is
//! *marked*, in a state of the table under the same key bytes as its rows. Law: after the last chunk a stored row whose key
//! has no mark is not the source's: the chunks read all rows, and the log told of all changes since. So the *sweep* goes
//! through rows and marks side by side, in key order, and deletes the rows without a mark, a bounded portion in each step;
//! changes that the log brings meanwhile are marked like those before. When it is through the table is complete, and its
//! marks are dropped as a whole.
//!
//! ```text
//! Reload ─► chunks, changes: rows upserted, keys marked ─► last chunk ─► Sweep, Sweep, … ─► complete
//! without a key:             rows counted beside it
//! ```
//!
//! A mark of a row that is gone again says nothing wrong: a deletion, or the emptying of the table, leaves marks as they
//! are. Loaded again while it is being loaded again, a table gets marks of its own for that: nothing before counts.
//!
//! A table without a key has no keys to mark: what is brought of it is *counted* beside it, in the same state and as the table
//! itself is stored, and changes nothing of it. Law: after the last chunk the counts are the source's table. The sweep goes
//! through both side by side, and lets rows go and come until the table has them as often as they were counted; what the log
//! brings meanwhile goes into the table where the sweep has passed its key, and is counted where it has not
//! ([`crate::ingest`]). Counts begin anew with the first chunk, and where the table is emptied.

use std::cmp::Ordering;
use std::ops::Bound;

use relation::{Rows, SourceBatch, TableChanges, TableId};
use store::{Kind, Snapshot, Writes};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::input::{Input, Note, Noted};
use crate::load::{Again, Load};
use crate::operator::States;
use crate::states::BUILT;
use crate::step::Moves;
use crate::stored::{Index, Keeping, Stored};

/// Bytes of rows that one portion of a sweep deletes, about.
const SWEPT_BYTES_MAX: usize = 8 << 20;

/// The identity of the state of a table's marks.
pub(crate) fn marks_identity(table: TableId) -> String {
    format!("marks {table}")
}

/// Sweeps one table.
pub(crate) struct Sweeper<'a> {
    table: TableId,
    stored: &'a Stored,
    marks: TableId,
    after: Option<&'a [u8]>,
    snapshot: &'a Snapshot,
    /// Rows and marks that a portion looks at.
    entries_max: usize,
}

impl<'a> Sweeper<'a> {
    /// None where there is nothing to sweep.
    pub(crate) fn new(engine: &'a Engine, id: TableId, states: States<'a>) -> Option<Self> {
        let table = engine.network.tables.get(&id)?;
        let Load::Sweeping { after, .. } = &table.load else { return None };
        Some(Self {
            table: id,
            stored: engine.network.relations.get(&id)?,
            marks: table.marks?,
            after: after.as_deref(),
            snapshot: states.snapshot,
            entries_max: engine.settings.sweep_rows_max.max(1),
        })
    }

    /// What the table differs in from what was brought, the next portion of it.
    pub(crate) fn portion(self) -> Result<Noted> {
        if self.stored.is_keyed() { self.unmarked() } else { self.miscounted() }
    }

    /// The next rows that are there more or less often than they were counted.
    fn miscounted(self) -> Result<Noted> {
        let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut there = self.snapshot.range(self.table, from, Bound::Unbounded);
        let mut counted = self.snapshot.range(self.marks, from, Bound::Unbounded);
        let mut next = (there.next().transpose()?, counted.next().transpose()?);
        let mut changes = TableChanges::default();
        let (mut after, mut seen) = (None, 0);
        let ended = |changes, after, done| Noted::Swept { table: self.table, after, done, changes };
        loop {
            let order = match &next {
                (None, None) => return Ok(ended(changes, after, true)),
                (Some((there, _)), Some((counted, _))) => (**there).cmp(&**counted),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            let of_table = if order.is_le() { next.0.take() } else { None };
            let of_counts = if order.is_ge() { next.1.take() } else { None };
            let there_now = of_table.as_ref().map(|(_, value)| self.stored.row_of(value)).transpose()?;
            let wanted = of_counts.as_ref().map(|(_, value)| self.stored.row_of(value)).transpose()?;
            let Some((row, _)) = wanted.or(there_now) else { return Ok(ended(changes, after, true)) };
            let mut missing = wanted.map_or(0, |(_, count)| count) - there_now.map_or(0, |(_, count)| count);
            while missing != 0 {
                // A row that is there very often goes in several portions: the next one begins with it again.
                if changes.weights.len() >= self.entries_max || changes.rows.byte_len() >= SWEPT_BYTES_MAX {
                    return Ok(ended(changes, after, false));
                }
                changes.push(row, if missing > 0 { 1 } else { -1 });
                missing -= missing.signum();
            }
            after = of_table.as_ref().or(of_counts.as_ref()).map(|(key, _)| key.to_vec());
            seen += 1;
            if seen >= self.entries_max {
                return Ok(ended(changes, after, false));
            }
            if of_table.is_some() {
                next.0 = there.next().transpose()?;
            }
            if of_counts.is_some() {
                next.1 = counted.next().transpose()?;
            }
        }
    }

    /// The next rows without a mark. A portion ends at a key up to which rows and marks have both been looked at.
    fn unmarked(self) -> Result<Noted> {
        let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut marks = self.snapshot.range(self.marks, from, Bound::Unbounded);
        let mut mark = marks.next().transpose()?;
        let (mut rows, mut seen) = (Rows::new(), 0);
        let mut after: Option<Vec<u8>> = None;
        let ended = |rows: Rows, after, done| {
            let changes = TableChanges { weights: vec![-1; rows.len()], rows, truncated: false, by_key: false };
            Noted::Swept { table: self.table, after, done, changes }
        };
        for entry in self.snapshot.range(self.table, from, Bound::Unbounded) {
            let (key, value) = entry?;
            // Marks of rows that are gone.
            while let Some((passed, _)) = mark.as_ref().filter(|(mark, _)| **mark < *key) {
                if seen >= self.entries_max {
                    return Ok(ended(rows, after, false));
                }
                seen += 1;
                after = Some(passed.to_vec());
                mark = marks.next().transpose()?;
            }
            if seen >= self.entries_max || rows.byte_len() >= SWEPT_BYTES_MAX {
                return Ok(ended(rows, after, false));
            }
            seen += 1;
            match &mark {
                Some((marked, _)) if **marked == *key => mark = marks.next().transpose()?,
                _ => rows.push(self.stored.row_of(&value)?.0),
            }
            after = Some(key.to_vec());
        }
        Ok(ended(rows, after, true))
    }
}

impl Engine {
    /// A table that waits to be swept: give [`Input::Sweep`] for it, among the inputs of any step, until it is complete.
    pub fn sweeping(&self) -> Option<TableId> {
        let mut tables = self.network.tables.values();
        tables.find(|table| matches!(table.load, Load::Sweeping { .. })).map(|table| table.id)
    }

    /// Whether an input would do nothing.
    pub(crate) fn is_idle(&self, input: &Input) -> bool {
        match input {
            Input::Sweep { table } => !self.is_sweeping(*table),
            Input::Reload { table, .. } | Input::Altered { table, .. } => !self.network.tables.contains_key(table),
            Input::Outbox { name, .. } => !self.outboxes.contains_key(name),
            _ => false,
        }
    }

    fn is_sweeping(&self, table: TableId) -> bool {
        self.network.tables.get(&table).is_some_and(|table| matches!(table.load, Load::Sweeping { .. }))
    }

    /// Gets states ready for the marks or counts of tables that these inputs begin to load again.
    pub(crate) fn prepare_marks(&mut self, inputs: &[Input]) {
        for input in inputs {
            let (Input::Reload { table, .. } | Input::Note(Note(Noted::Begun { table, .. }))) = input else { continue };
            if !self.network.relations.contains_key(table) || self.fresh_marks.contains_key(table) {
                continue;
            }
            let mut writes = Writes::new();
            let (name, schema) = (marks_identity(*table), relation::Schema::default());
            let id = self.catalog.allocate(&mut writes, Kind::State, &name, &name, &schema, BUILT);
            self.defer(writes);
            self.fresh_marks.insert(*table, id);
        }
    }

    /// Which marks tables have after these moves; those that nobody needs any more are dropped.
    pub(crate) fn choose_marks(&self, moves: &mut Moves, writes: &mut Writes) {
        for (id, load) in &moves.loads {
            let old = self.network.tables.get(id).and_then(|table| table.marks);
            let fresh = if moves.begins_anew(*id) { self.fresh_marks.get(id).copied() } else { None };
            let now = load.again().and(fresh.or(old));
            for gone in [old, fresh].into_iter().flatten().filter(|&marks| Some(marks) != now) {
                self.catalog.write_removal(writes, gone);
                moves.gone_marks.push(gone);
            }
            moves.taken_marks.extend(fresh.map(|_| *id));
            moves.marks.insert(*id, now);
        }
    }

    /// Marks what a batch brings of tables that are loaded again.
    pub(crate) fn mark(&self, batch: &SourceBatch, moves: &Moves, writes: &mut Writes) {
        let mut key = Vec::with_capacity(64);
        for (id, changes) in &batch.tables {
            let Some(marks) = moves.marks_of(self, *id) else { continue };
            let Some(stored) = self.network.relations.get(id).filter(|stored| stored.is_keyed()) else { continue };
            for (row, _) in changes.readable().filter(|(_, weight)| *weight >= 0) {
                key.clear();
                stored.push_key(row, &mut key);
                writes.put(marks, &key, &[]);
            }
        }
    }
}

impl Engine {
    /// Counts what was set aside of tables without a key. Answers with the tables of which more rows have gone than were
    /// brought.
    pub(crate) fn count_beside(
        &self,
        moves: &mut Moves,
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<Vec<(TableId, String)>> {
        let mut contradicted = Vec::new();
        for (id, changes) in std::mem::take(&mut moves.aside) {
            let Some(counts) = moves.marks_of(self, id) else { continue };
            let Some(stored) = self.network.relations.get(&id) else { continue };
            let counts = Stored::new(counts, stored.schema.clone());
            let keeps = |_: &Index| false;
            let mut counted = Writes::new();
            let mut into = Keeping { states, keeps: &keeps, writes: &mut counted };
            match counts.write_ordered(&changes.rows, &changes.weights, &mut into) {
                Ok(()) => writes.append(counted),
                Err(error @ Error::Store(_)) => return Err(error),
                Err(error) => contradicted.push((id, error.to_string())),
            }
        }
        Ok(contradicted)
    }
}

impl Moves {
    /// Whether what was brought of a table until now is void.
    fn begins_anew(&self, id: TableId) -> bool {
        self.reloaded.contains(&id) || self.begun.contains(&id)
    }

    /// Where the keys are marked that a table is brought, or its rows counted, if it is loaded again.
    fn marks_of(&self, engine: &Engine, id: TableId) -> Option<TableId> {
        self.load(engine, id)?.again()?;
        match self.begins_anew(id) {
            true => engine.fresh_marks.get(&id).copied(),
            false => engine.network.tables.get(&id)?.marks,
        }
    }

    /// How far a table is after the inputs so far.
    pub(crate) fn load<'a>(&'a self, engine: &'a Engine, id: TableId) -> Option<&'a Load> {
        self.loads.get(&id).or_else(|| engine.network.tables.get(&id).map(|table| &table.load))
    }

    /// A table is loaded again from this step on.
    pub(crate) fn begin_again(&mut self, engine: &Engine, id: TableId, reason: String, since_us: i64, step: u64) {
        let Some(load) = self.load(engine, id) else { return };
        let again = Again { reason, since_us, since_step: step, whole: load.was_whole() };
        self.loads.insert(id, Load::Reloading { cursor: None, again });
        self.reloaded.insert(id);
    }

    /// The first chunk of a table without a key comes, or it was emptied: what was brought before is void.
    pub(crate) fn note_begun(&mut self, engine: &Engine, id: TableId) {
        let now = match self.load(engine, id).cloned() {
            Some(Load::Reloading { cursor: None, again }) => Load::Reloading { cursor: Some(Vec::new()), again },
            Some(other) => other,
            None => return,
        };
        self.loads.insert(id, now);
        self.begun.insert(id);
        self.aside.remove(&id);
    }

    /// Rows are to be counted beside their table.
    pub(crate) fn set_aside(&mut self, id: TableId, changes: TableChanges) {
        match self.aside.get_mut(&id) {
            Some(known) => changes.entries().for_each(|entry| known.push_entry(entry)),
            None => drop(self.aside.insert(id, changes)),
        }
    }

    /// The rows of a table without a key have been replaced, or it was emptied, in a record from before these were counted.
    pub(crate) fn note_replaced(&mut self, engine: &Engine, id: TableId) {
        self.note_begun(engine, id);
        self.replaced.insert(id);
    }

    /// A chunk has come: how far its table is then, and since which step it was loaded again, if that has ended.
    pub(crate) fn after_chunk(&mut self, engine: &Engine, chunk: &relation::ChunkDone) -> Option<u64> {
        let now = self.load(engine, chunk.table)?.clone();
        let cursor = (!chunk.complete).then(|| chunk.cursor.clone());
        let mut ended = None;
        let next = match (now, cursor) {
            // A replayed record may tell of a table that was given up since; and what is swept has come whole.
            (Load::Parked { .. } | Load::Altered { .. } | Load::Sweeping { .. }, _) => return None,
            (Load::Reloading { again, .. }, Some(cursor)) => Load::Reloading { cursor: Some(cursor), again },
            (Load::Reloading { again, .. }, None) if self.replaced.contains(&chunk.table) => {
                ended = Some(again.since_step);
                Load::Complete
            }
            (Load::Reloading { again, .. }, None) => Load::Sweeping { after: None, again },
            (_, Some(cursor)) => Load::Loading { cursor: Some(cursor) },
            (_, None) => Load::Complete,
        };
        if next == Load::Complete {
            self.completed.push(chunk.table);
        }
        self.loads.insert(chunk.table, next);
        ended
    }

    /// A portion was swept; answers since which step the table was loaded again, if that was the last one.
    pub(crate) fn after_sweep(&mut self, engine: &Engine, id: TableId, to: Option<Vec<u8>>, done: bool) -> Option<u64> {
        let Some(Load::Sweeping { after, again }) = self.load(engine, id).cloned() else { return None };
        if done {
            self.completed.push(id);
            self.loads.insert(id, Load::Complete);
            return Some(again.since_step);
        }
        self.loads.insert(id, Load::Sweeping { after: to.or(after), again });
        None
    }
}
