//! A step: inputs in, one commit out.
//!
//! ```text
//! inputs ─► normalise ─► log (synced while the rules run) ─► run: tables, indexes, nodes ─► commit ─► facts move
//! ```
//!
//! What can fail is done before the log's record or is done again: running the rules ([`crate::network`]) is a function of
//! the states before and of the inputs, and nothing of the engine has moved until the store has committed what came of it.
//! So a step that the store could not take, a full disk most often, has not happened, and the same inputs may be given again.
//!
//! A table that is parked as a step runs, since its rows contradict what is stored, is parked once more by the record of the next
//! step. What knew of it may be an index that was built and is not folded yet: run again out of the log, the step has no such
//! index, and takes those rows; and of what came of the table behind it the log has nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use plan::TableName;
use relation::{Position, Rows, SourceBatch, TableChanges, TableId};
use store::{Record, Snapshot, Writes};

use crate::engine::{Engine, ModelState, Shown};
use crate::error::Result;
use crate::graph::NodeIndex;
use crate::ingest::changes_of;
use crate::input::{Input, Logged, Note, Noted, inputs_of, record_of};
use crate::load::Load;
use crate::network::{Effects, Scope, edit};
use crate::outbox::At;

/// What one step did.
#[derive(Debug, Clone, Default)]
pub struct StepReport {
    pub step: u64,
    /// Tables and models that changed.
    pub relations: Vec<RelationReport>,
    /// Tables whose load, the first one or one again, ended with this step.
    pub completed: Vec<TableId>,
    /// Models that were parked.
    pub parked: Vec<TableName>,
    /// Tables that were parked since what comes of them contradicts what is there, and why.
    pub parked_tables: Vec<(TableId, String)>,
    /// Outboxes that have rows to hand out since, or were told something.
    pub outboxes: Vec<String>,
    /// Time of rules and commit, without the waiting for the log's sync, in microseconds.
    pub rules_us: u64,
    /// From the step's beginning until its record was known to be on disk, in microseconds; the rules run meanwhile.
    pub durable_us: u64,
}

/// What changed in a relation.
#[derive(Debug, Clone)]
pub struct RelationReport {
    pub name: TableName,
    pub id: TableId,
    pub is_model: bool,
    pub inserted: u64,
    pub deleted: u64,
    /// The first changed rows and their weights, encoded by the relation's layout: at most
    /// [`crate::Settings::report_rows_max`].
    pub rows: Rows,
    pub weights: Vec<i64>,
}

/// What a step changes of the engine's own facts: written with the step, and moved when it is committed.
#[derive(Default)]
pub(crate) struct Moves {
    positions: BTreeMap<u32, Position>,
    pub(crate) loads: BTreeMap<TableId, Load>,
    /// Tables that are loaded again from this step on.
    pub(crate) reloaded: BTreeSet<TableId>,
    /// Tables without a key of which what was brought before is void.
    pub(crate) begun: BTreeSet<TableId>,
    /// Those among them whose rows have come with the step, as an older record has it.
    pub(crate) replaced: BTreeSet<TableId>,
    /// What is counted beside tables without a key that are loaded again.
    pub(crate) aside: BTreeMap<TableId, TableChanges>,
    /// The states of marks of the tables whose loads move.
    pub(crate) marks: BTreeMap<TableId, Option<TableId>>,
    /// Tables that take the states that were got ready for their marks, and states of marks that go.
    pub(crate) taken_marks: BTreeSet<TableId>,
    pub(crate) gone_marks: Vec<TableId>,
    snapshot_rows_total: BTreeMap<TableId, u64>,
    pub(crate) completed: Vec<TableId>,
    rows: BTreeMap<TableId, i64>,
    /// Rows of tables that their source could not decode, as many as there are then.
    pub(crate) rejected: BTreeMap<TableId, u64>,
    /// Keys of those that came with this step.
    pub(crate) new_rejects: BTreeMap<TableId, Vec<Vec<u8>>>,
    parked: BTreeMap<NodeIndex, String>,
    /// How far outboxes are then.
    pub(crate) outboxes: BTreeMap<String, At>,
}

/// Whether readers see a commit at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visible {
    Now,
    /// With the last step of the chain that this one belongs to.
    Later,
}

impl Engine {
    /// One step of whole transactions: durable, then visible. For who has nothing but rows, none of them in parts.
    pub fn step(&mut self, batches: Vec<(u32, SourceBatch)>) -> Result<StepReport> {
        let mut inputs: Vec<Input> = batches.into_iter().map(|(source, batch)| Input::Rows(source, batch)).collect();
        let mut last = StepReport { step: self.step, ..StepReport::default() };
        while let Some(report) = self.take(&mut inputs)? {
            last.follow(report);
        }
        Ok(last)
    }

    /// Takes the first of the inputs, as many as make one step, and answers with what it did; none when nothing is left. Of
    /// what is larger than a step, one step of its chain: readers see all of them with the last.
    ///
    /// Errors: the store cannot write or read. The inputs that are left have not been taken: where a disk was full, call
    /// again with the same ones.
    pub fn take(&mut self, inputs: &mut Vec<Input>) -> Result<Option<StepReport>> {
        if let Some(settled) = self.settled.take() {
            return Ok(Some(settled));
        }
        loop {
            if let Some(note) = self.sealed.clone() {
                self.begin_chain(note)?;
            }
            if self.chain.is_some() {
                return self.run_link().map(Some);
            }
            self.drop_stages()?;
            let idle = inputs.iter().take_while(|input| self.is_idle(input)).count();
            inputs.drain(..idle);
            let count = (0..inputs.len()).find(|&at| self.ends_before(inputs, at)).unwrap_or(inputs.len());
            if count > 0 {
                let rest = inputs.split_off(count);
                self.drop_void_parts(inputs);
                let taken = self.take_step(inputs);
                inputs.extend(rest);
                return taken.map(Some);
            }
            let Some(first) = inputs.first() else {
                self.store_aims()?;
                return Ok(None);
            };
            self.stage(first)?;
            inputs.remove(0);
        }
    }

    /// Whether a step that begins with these inputs must end before one of them: what comes before a table is loaded again
    /// does not count as brought, and a sweep reads what is stored before its step.
    fn ends_before(&self, inputs: &[Input], at: usize) -> bool {
        match &inputs[at] {
            Input::Reload { .. } => !inputs[..at].iter().all(|input| matches!(input, Input::Reload { .. })),
            Input::Sweep { .. } | Input::Note(Note(Noted::Swept { .. })) => at > 0,
            input => self.stands_alone(input),
        }
    }

    /// One step of all these inputs, which are gone when it is committed.
    fn take_step(&mut self, inputs: &mut Vec<Input>) -> Result<StepReport> {
        let entered = stopwatch();
        let snapshot = self.store.working();
        self.say_parked(inputs);
        let contradicted = self.normalise(inputs, self.states(&snapshot))?;
        // Inputs that are given a second time do not contradict any more.
        self.contradicted.extend(contradicted);
        self.prepare_marks(inputs);
        let reloaded: Vec<TableId> = inputs.iter().filter_map(Input::reloads).collect();
        let said = std::mem::take(&mut self.unsaid);
        let record = record_of(std::mem::take(inputs));
        self.log_buffer.clear();
        record.encode_into(&mut self.log_buffer);
        let mut outcome = self.log_and_run(record, &snapshot, entered);
        match &mut outcome {
            Ok(report) => {
                self.void_staged(&reloaded);
                report.parked_tables.append(&mut self.contradicted);
            }
            Err(_) => {
                self.unsaid.extend(said);
                *inputs = decode(&self.log_buffer)?;
            }
        }
        self.log_buffer.clear();
        self.log_buffer.shrink_to(LOG_BUFFER_KEPT_MAX);
        outcome
    }

    /// Has the record of these inputs say which tables the steps before have parked.
    fn say_parked(&self, inputs: &mut Vec<Input>) {
        for (table, reason) in &self.unsaid {
            let is_said = |input: &Input| match input {
                Input::Park { table: said, .. } | Input::Reload { table: said, .. } => said == table,
                _ => false,
            };
            let is_parked = self.network.tables.get(table).is_some_and(|it| matches!(it.load, Load::Parked { .. }));
            if is_parked && !inputs.iter().any(is_said) {
                inputs.insert(0, Input::Park { table: *table, reason: reason.clone() });
            }
        }
    }

    fn log_and_run(&mut self, record: Record, snapshot: &Snapshot, entered: Instant) -> Result<StepReport> {
        let step = self.step + 1;
        self.store.append_unsynced(step, &self.log_buffer)?;
        // The sync runs while the rules do; nothing is visible before both are done.
        let syncing = self.store.start_sync();
        let begun = stopwatch();
        let ran = match inputs_of(record)? {
            Logged::Inputs(inputs) => self.run(step, inputs, snapshot),
            Logged::Chain(_) => Ok(Default::default()),
        };
        let ran_for = begun.elapsed();
        syncing.wait()?;
        let durable_us = u64::try_from(entered.elapsed().as_micros()).unwrap_or(u64::MAX);
        let begun = stopwatch();
        let (effects, moves) = ran?;
        let mut report = self.commit(step, effects, moves, Visible::Now)?;
        report.rules_us = u64::try_from((ran_for + begun.elapsed()).as_micros()).unwrap_or(u64::MAX);
        report.durable_us = durable_us;
        Ok(report)
    }

    /// The same for what the log holds: it is durable.
    pub(crate) fn replay_step(&mut self, step: u64, inputs: Vec<Input>) -> Result<StepReport> {
        let snapshot = self.store.working();
        self.prepare_marks(&inputs);
        let (effects, moves) = self.run(step, inputs, &snapshot)?;
        self.commit(step, effects, moves, Visible::Now)
    }

    /// What inputs come to, run on the states of a snapshot: moves nothing.
    pub(crate) fn run(&self, step: u64, inputs: Vec<Input>, snapshot: &Snapshot) -> Result<(Effects, Moves)> {
        let mut moves = Moves::default();
        let mut own = Writes::new();
        let mut batches = Vec::with_capacity(inputs.len());
        let states = self.states(snapshot);
        let mut told = Vec::new();
        for input in inputs {
            match input {
                Input::Rows(source, batch) => {
                    self.mark(&batch, &moves, &mut own);
                    self.take_unread(&batch, states, step, &mut moves, &mut own)?;
                    for (table, since) in moves.note_progress(self, source, &batch) {
                        self.heal_older(table, since, states, &mut moves, &mut own)?;
                    }
                    batches.push(batch);
                }
                Input::Park { table, reason } => moves.note_parked(self, table, reason),
                Input::Altered { table, reason, at_us } => moves.note_altered(self, table, reason, at_us),
                Input::Reload { table, reason, at_us } => moves.begin_again(self, table, reason, at_us, step),
                Input::Note(Note(Noted::Rejected(reject))) => {
                    self.take_reject(&reject, states, step, &mut moves, &mut own)?;
                }
                Input::Note(Note(Noted::Emptied { table })) => {
                    self.heal_older(table, u64::MAX, states, &mut moves, &mut own)?;
                }
                Input::Note(Note(Noted::Swept { table, after, done, changes })) => {
                    if let Some(since) = moves.after_sweep(self, table, after, done) {
                        self.heal_older(table, since, states, &mut moves, &mut own)?;
                    }
                    batches.push(batch_of(table, changes));
                }
                Input::Note(Note(Noted::Begun { table, gone })) => {
                    moves.note_begun(self, table);
                    self.heal_older(table, u64::MAX, states, &mut moves, &mut own)?;
                    batches.push(deletion_of(table, gone));
                }
                Input::Note(Note(Noted::Beside { table, changes })) => moves.set_aside(table, changes),
                // What was replaced stands in the rows.
                Input::Note(Note(Noted::Replaced { table })) => {
                    moves.note_replaced(self, table);
                    self.heal_older(table, u64::MAX, states, &mut moves, &mut own)?;
                }
                Input::Outbox { name, told: of_it } => told.push((name, of_it)),
                // Normalised, a sweep is a note.
                Input::Sweep { .. } => {}
            }
        }
        let contradicted = self.count_beside(&mut moves, states, &mut own)?;
        let mut effects = self.network.run(states, &changes_of(batches), Scope::Kept, step)?;
        if !self.outboxes.is_empty() {
            self.keep_outboxes(told, &effects.writes, states, step, &mut moves, &mut own)?;
        }
        for (table, _) in &effects.parked_tables {
            self.leave_rejects(*table, states, &mut moves, &mut own)?;
        }
        effects.writes.append(own);
        effects.parked_tables.extend(contradicted);
        for change in &effects.relations {
            let rows = moves.rows.entry(change.id).or_insert_with(|| self.rows_now(change.id));
            *rows += change.inserted.cast_signed() - change.deleted.cast_signed();
        }
        for (table, reason) in &effects.parked_tables {
            moves.note_parked(self, *table, reason.clone());
        }
        moves.parked.extend(effects.parked_nodes.iter().cloned());
        Ok((effects, moves))
    }

    /// Publishes what a step came to, and moves the facts.
    pub(crate) fn commit(
        &mut self,
        step: u64,
        mut effects: Effects,
        mut moves: Moves,
        visible: Visible,
    ) -> Result<StepReport> {
        let mut writes = Writes::new();
        writes.append(effects.writes);
        self.choose_marks(&mut moves, &mut writes);
        moves.write(self, &mut writes);
        // What nobody can read yet is no news.
        effects.relations.retain(|change| !self.network.tables.get(&change.id).is_some_and(|table| table.is_coming));
        self.commit_with_setup(step, writes, visible)?;
        self.show_counts(visible);
        self.left_out.extend(effects.parked_tables.iter().map(|(table, _)| (*table, step)));
        self.unsaid.extend(effects.parked_tables.iter().cloned());
        let mut report = StepReport {
            step,
            relations: effects.relations,
            completed: moves.completed.clone(),
            parked_tables: effects.parked_tables,
            outboxes: moves.outboxes.keys().cloned().collect(),
            ..StepReport::default()
        };
        report.parked = self.adopt(moves);
        Ok(report)
    }

    /// Has readers be told of what is counted before a step moves it: of a chain, as it was before its first step until the
    /// last one.
    fn show_counts(&mut self, visible: Visible) {
        match visible {
            Visible::Now => self.shown = None,
            Visible::Later if self.shown.is_some() => {}
            Visible::Later => {
                self.shown = Some(Shown { rows: self.rows.clone(), rejected: self.rejected.clone() });
            }
        }
    }

    fn adopt(&mut self, moves: Moves) -> Vec<TableName> {
        for (source, position) in moves.positions {
            if let Some((_, at)) = self.sources.get_mut(&source) {
                *at = position;
            }
        }
        moves.gone_marks.into_iter().for_each(|marks| self.catalog.forget(marks));
        self.fresh_marks.retain(|table, _| !moves.taken_marks.contains(table));
        self.rows.extend(moves.rows);
        self.rejected.extend(moves.rejected);
        self.rejected.retain(|_, count| *count > 0);
        self.adopt_outboxes(moves.outboxes);
        let mut parked = Vec::new();
        let is_unloaded = |load: Option<&Load>| load.is_some_and(|load| load.unloaded().is_some());
        let of_table = |id: &TableId| self.network.tables.get(id).map(|table| &table.load);
        // Which models wait in vain follows from it.
        let turns = |(id, load): (&TableId, &Load)| is_unloaded(Some(load)) != is_unloaded(of_table(id));
        let is_turned = moves.loads.iter().any(turns);
        if !moves.loads.is_empty() || !moves.snapshot_rows_total.is_empty() {
            let network = edit(&mut self.network);
            for (id, load) in moves.loads {
                network.tables.entry(id).and_modify(|table| table.load = load);
            }
            for (id, marks) in moves.marks {
                network.tables.entry(id).and_modify(|table| table.marks = marks);
            }
            for (id, total) in moves.snapshot_rows_total {
                network.tables.entry(id).and_modify(|table| table.snapshot_rows_total = total);
            }
        }
        for (node, reason) in moves.parked {
            parked.extend(self.park_node(node, &reason));
        }
        if !moves.completed.is_empty() || is_turned {
            self.refresh_models();
            self.aim_outboxes();
        }
        parked
    }

    /// Stops a node and everything that reads it, and answers with the models among them.
    pub(crate) fn park_node(&mut self, index: NodeIndex, reason: &str) -> Vec<TableName> {
        let network = edit(&mut self.network);
        let mut models = Vec::new();
        for at in network.graph.descendants(index) {
            let node = &mut network.graph.nodes[at];
            if node.parked.is_some() {
                continue;
            }
            node.parked = Some(reason.to_owned());
            if let Some(model) = node.rule.sink() {
                network.models[model].state = ModelState::Parked { reason: reason.to_owned() };
                models.push(network.models[model].name.clone());
            }
        }
        models
    }
}

/// Changes of a table, as a batch.
pub(crate) fn batch_of(table: TableId, changes: TableChanges) -> SourceBatch {
    SourceBatch { tables: vec![(table, changes)], ..SourceBatch::default() }
}

/// Rows of a table that go, as a batch.
pub(crate) fn deletion_of(table: TableId, rows: Rows) -> SourceBatch {
    let weights = vec![-1; rows.len()];
    batch_of(table, TableChanges { rows, weights, truncated: false, by_key: false })
}

/// The inputs of an encoded record.
pub(crate) fn decode(record: &[u8]) -> Result<Vec<Input>> {
    match inputs_of(Record::decode(record)?)? {
        Logged::Inputs(inputs) => Ok(inputs),
        Logged::Chain(_) => Ok(Vec::new()),
    }
}

/// Bytes of the log's buffer that are kept from step to step.
pub(crate) const LOG_BUFFER_KEPT_MAX: usize = 32 << 20;

impl Moves {
    /// Positions and cursors move in the step that carries what they stand for. Answers with the tables that have been loaded
    /// again with it, and since which step.
    fn note_progress(&mut self, engine: &Engine, source: u32, batch: &SourceBatch) -> Vec<(TableId, u64)> {
        if !batch.position.0.is_empty() && engine.sources.contains_key(&source) {
            self.positions.insert(source, batch.position.clone());
        }
        let mut ended = Vec::new();
        for chunk in &batch.chunks {
            let Some(table) = engine.network.tables.get(&chunk.table) else { continue };
            let total = self.snapshot_rows_total.entry(chunk.table).or_insert(table.snapshot_rows_total);
            *total = (*total).max(chunk.rows_estimate);
            ended.extend(self.after_chunk(engine, chunk).map(|since| (chunk.table, since)));
        }
        ended
    }

    /// Nothing more comes of a table, as far as it is now.
    fn note_parked(&mut self, engine: &Engine, id: TableId, reason: String) {
        let Some(load) = self.load(engine, id) else { return };
        let whole = load.was_whole();
        self.loads.insert(id, Load::Parked { reason, whole });
    }

    /// Nothing more comes of a table with the columns that it has here.
    fn note_altered(&mut self, engine: &Engine, id: TableId, reason: String, since_us: i64) {
        let Some(load) = self.load(engine, id) else { return };
        let whole = load.was_whole();
        self.loads.insert(id, Load::Altered { reason, since_us, whole });
    }

    fn write(&self, engine: &Engine, writes: &mut Writes) {
        let facts = engine.facts;
        for (source, position) in &self.positions {
            if engine.position(*source) != Some(position) {
                writes.put(facts, &fact_key("position", TableId(*source)), position.0.as_bytes());
            }
        }
        for (table, load) in &self.loads {
            writes.put(facts, &fact_key("load", *table), &load.to_bytes());
        }
        for (relation, rows) in &self.rows {
            writes.put(facts, &fact_key("rows", *relation), &rows.to_le_bytes());
        }
        for (table, count) in &self.rejected {
            writes.put(facts, &fact_key("rejected", *table), &count.to_le_bytes());
        }
        for (name, at) in &self.outboxes {
            at.write(facts, name, writes);
        }
        for (node, reason) in &self.parked {
            writes.put(facts, &parked_key(&engine.network.graph.nodes[*node].identity), reason.as_bytes());
        }
    }
}

impl StepReport {
    /// More outboxes that have rows to hand out since.
    pub(crate) fn add_outboxes(&mut self, names: Vec<String>) {
        for name in names {
            if !self.outboxes.contains(&name) {
                self.outboxes.push(name);
            }
        }
    }

    /// Adds what a later step did.
    pub fn follow(&mut self, later: Self) {
        self.step = later.step;
        self.rules_us += later.rules_us;
        self.durable_us += later.durable_us;
        self.completed.extend(later.completed);
        self.parked.extend(later.parked);
        self.parked_tables.extend(later.parked_tables);
        self.add_outboxes(later.outboxes);
        for change in later.relations {
            match self.relations.iter_mut().find(|known| known.id == change.id) {
                Some(known) => {
                    known.inserted += change.inserted;
                    known.deleted += change.deleted;
                }
                None => self.relations.push(change),
            }
        }
    }
}

/// The key of a fact about a table or source.
pub(crate) fn fact_key(name: &str, id: TableId) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

/// The key of the fact that a node is parked.
pub(crate) fn parked_key(identity: &str) -> Vec<u8> {
    [PARKED, identity.as_bytes()].concat()
}

/// What the keys of such facts begin with.
pub(crate) const PARKED: &[u8] = b"parked\0";

/// Durations of a step, for the figures about it alone: no answer depends on them.
#[expect(clippy::disallowed_methods, reason = "measures how long a step takes; no result depends on it")]
fn stopwatch() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use relation::{ChunkDone, Column, DataType, Schema};
    use store::Catalog;

    use super::*;
    use crate::engine::Settings;

    /// An engine in a folder, and its one table `t`, of a source, with this key.
    fn engine(dir: &std::path::Path, runtime: &tokio::runtime::Runtime, key: Vec<usize>) -> (Engine, u32, TableId) {
        let store = store::Store::open(dir, store::Options::default()).unwrap();
        let queries = query::Runtime::new(&query::Settings::default()).unwrap();
        let settings = Settings::new(1, runtime.handle().clone());
        let mut engine = Engine::open(store, queries, settings).unwrap();
        let source = engine.register_source("test").unwrap();
        let schema = Schema::new(vec![Column::new("k", DataType::Int64)], key);
        let table = engine.register_table(source, &TableName::new("public", "t"), &schema).unwrap();
        engine.recover().unwrap();
        (engine, source, table)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    /// That a table was parked is told with the step that parks it, also where the store took that at the second attempt.
    #[test]
    fn a_contradiction_is_told_with_its_step() {
        let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
        let (mut engine, source, table) = engine(dir.path(), &runtime, vec![]);
        let (rows, unread) = (Rows::new(), Rows::new());
        let chunk = ChunkDone { table, cursor: vec![1], complete: true, rows, unread, rows_estimate: 0 };
        let loaded = SourceBatch { chunks: vec![chunk], ..SourceBatch::default() };
        engine.take(&mut vec![Input::Rows(source, loaded)]).unwrap();
        let mut changes = TableChanges::default();
        changes.push_unread(&relation::Unread::default(), -1);
        let mut inputs = vec![Input::Rows(source, batch_of(table, changes))];
        // Somebody else has taken its number.
        engine.store.commit(engine.step + 1, Writes::new()).unwrap();
        engine.take(&mut inputs).unwrap_err();
        engine.step += 1;
        let report = engine.take(&mut inputs).unwrap().unwrap();
        assert_eq!(report.parked_tables.iter().map(|(table, _)| *table).collect::<Vec<_>>(), [table]);
        assert!(!engine.table(table).unwrap().load.is_followed());
        assert!(engine.contradicted.is_empty());
    }

    /// A step that the store does not take has not happened: what the set-up has left is left still, and no fact has moved.
    #[test]
    fn what_the_store_does_not_take_has_not_happened() {
        let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
        let (mut engine, source, table) = engine(dir.path(), &runtime, vec![0]);
        let schema = engine.relation(table).unwrap().schema.clone();
        let chunk = |complete| {
            let (rows, unread) = (Rows::new(), Rows::new());
            let chunk = ChunkDone { table, cursor: vec![1], complete, rows, unread, rows_estimate: 0 };
            Input::Rows(source, SourceBatch { chunks: vec![chunk], ..SourceBatch::default() })
        };
        let reload = |at_us| Input::Reload { table, reason: "in doubt".to_owned(), at_us };
        engine.take(&mut vec![chunk(true)]).unwrap();
        engine.take(&mut vec![reload(1), chunk(false)]).unwrap();
        let marks = engine.table(table).unwrap().marks.unwrap();
        engine.register_table(source, &TableName::new("public", "other"), &schema).unwrap();
        let (step, catalog) = (engine.step, engine.catalog.clone());
        // Somebody else has taken its number.
        engine.store.commit(step + 1, Writes::new()).unwrap();

        let mut inputs = vec![reload(2), chunk(true)];
        engine.take(&mut inputs).unwrap_err();
        assert_eq!(inputs.len(), 2);
        engine.commit_unlogged(Writes::new()).unwrap_err();
        assert_eq!((engine.step, engine.table(table).unwrap().marks), (step, Some(marks)));
        assert!(engine.catalog.entries().count() > catalog.entries().count(), "new marks are ready");
        assert!(catalog.entries().all(|entry| engine.catalog.get(entry.id) == Some(entry)));

        engine.step += 1;
        engine.take(&mut inputs).unwrap();
        assert_ne!(engine.table(table).unwrap().marks, Some(marks));
        assert!(engine.catalog.get(marks).is_none());
        let stored = Catalog::load(&engine.store.working()).unwrap();
        assert!(stored.entries().eq(engine.catalog.entries()), "what was set up is there with it");
    }
}
