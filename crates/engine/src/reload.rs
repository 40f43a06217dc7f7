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
//! ```
//!
//! A mark of a row that is gone again says nothing wrong: a deletion, or the emptying of the table, leaves marks as they
//! are. Loaded again while it is being loaded again, a table gets marks of its own for that: nothing before counts.
//!
//! A table without a key has no marks: its rows come whole, at one place of the log, and take the place of what is there in
//! the step that brings them ([`crate::ingest`]).

use std::ops::Bound;

use relation::{Rows, SourceBatch, TableId};
use store::{Kind, Snapshot, Writes};

use crate::engine::Engine;
use crate::error::Result;
use crate::input::{Input, Noted};
use crate::load::{Again, Load};
use crate::operator::States;
use crate::states::BUILT;
use crate::step::Moves;
use crate::stored::Stored;

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

    /// The next rows without a mark. A portion ends at a key up to which rows and marks have both been looked at.
    pub(crate) fn portion(self) -> Result<Noted> {
        let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut marks = self.snapshot.range(self.marks, from, Bound::Unbounded);
        let mut mark = marks.next().transpose()?;
        let (mut rows, mut seen) = (Rows::new(), 0);
        let mut after: Option<Vec<u8>> = None;
        let ended = |rows, after, done| Noted::Swept { table: self.table, after, done, rows };
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
            _ => false,
        }
    }

    fn is_sweeping(&self, table: TableId) -> bool {
        self.network.tables.get(&table).is_some_and(|table| matches!(table.load, Load::Sweeping { .. }))
    }

    /// Gets states ready for the marks of tables that these inputs begin to load again.
    pub(crate) fn prepare_marks(&mut self, inputs: &[Input]) {
        for input in inputs {
            let Input::Reload { table, .. } = input else { continue };
            let is_keyed = self.network.relations.get(table).is_some_and(Stored::is_keyed);
            if !is_keyed || self.fresh_marks.contains_key(table) {
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
    pub(crate) fn settle_marks(&mut self, moves: &mut Moves, writes: &mut Writes) {
        for (id, load) in &moves.loads {
            let old = self.network.tables.get(id).and_then(|table| table.marks);
            let fresh = if moves.reloaded.contains(id) { self.fresh_marks.remove(id) } else { None };
            let now = load.again().and(fresh.or(old));
            for gone in [old, fresh].into_iter().flatten().filter(|&marks| Some(marks) != now) {
                self.catalog.remove(writes, gone);
            }
            moves.marks.insert(*id, now);
        }
    }

    /// Marks what a batch brings of tables that are loaded again.
    pub(crate) fn mark(&self, batch: &SourceBatch, moves: &Moves, writes: &mut Writes) {
        let mut key = Vec::with_capacity(64);
        for (id, changes) in &batch.tables {
            let Some(marks) = moves.marks_of(self, *id) else { continue };
            let Some(stored) = self.network.relations.get(id) else { continue };
            for (row, _) in changes.readable().filter(|(_, weight)| *weight >= 0) {
                key.clear();
                stored.push_key(row, &mut key);
                writes.put(marks, &key, &[]);
            }
        }
    }
}

impl Moves {
    /// Where the keys are marked that a table is brought, if it is loaded again.
    fn marks_of(&self, engine: &Engine, id: TableId) -> Option<TableId> {
        self.load(engine, id)?.again()?;
        match self.reloaded.contains(&id) {
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

    /// The rows of a table without a key have been replaced, or it was emptied: its load has begun, and no chunk of it takes
    /// the place of all that is there any more.
    pub(crate) fn note_replaced(&mut self, engine: &Engine, id: TableId) {
        if let Some(Load::Reloading { cursor: None, again }) = self.load(engine, id).cloned() {
            self.loads.insert(id, Load::Reloading { cursor: Some(Vec::new()), again });
        }
    }

    /// A chunk has come: how far its table is then, and since which step it was loaded again, if that has ended.
    pub(crate) fn after_chunk(&mut self, engine: &Engine, chunk: &relation::ChunkDone) -> Option<u64> {
        let is_keyed = engine.network.relations.get(&chunk.table).is_some_and(Stored::is_keyed);
        let now = self.load(engine, chunk.table)?.clone();
        let cursor = (!chunk.complete).then(|| chunk.cursor.clone());
        let mut ended = None;
        let next = match (now, cursor) {
            // A replayed record may tell of a table that was given up since; and what is swept has come whole.
            (Load::Parked { .. } | Load::Altered { .. } | Load::Sweeping { .. }, _) => return None,
            (Load::Reloading { again, .. }, Some(cursor)) => Load::Reloading { cursor: Some(cursor), again },
            (Load::Reloading { again, .. }, None) if is_keyed => Load::Sweeping { after: None, again },
            (Load::Reloading { again, .. }, None) => {
                ended = Some(again.since_step);
                Load::Complete
            }
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
