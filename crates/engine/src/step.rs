//! A step: whole transactions in, one commit out.
//!
//! ```text
//! batches ─► normalise ─► log (synced while the rules run) ─► tables and indexes ─► nodes, inputs first ─► commit
//! ```
//!
//! Nodes run in topological order, and only those with a changed input. All of them read the state before the step, so
//! what one writes no other reads; see [`crate::operator`].

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use plan::TableName;
use relation::columns::decode;
use relation::{Delta, Rows, SourceBatch, TableId};
use store::{Record, Snapshot, Writes};

use crate::engine::{Engine, Load, Logging, ModelState, fact_key};
use crate::error::{Error, Result};
use crate::expr::Failure;
use crate::graph::{Node, NodeIndex, Rule};
use crate::operator::States;
use crate::stored::Stored;

/// What one step did.
#[derive(Debug, Clone, Default)]
pub struct StepReport {
    pub step: u64,
    /// Tables and models that changed.
    pub relations: Vec<RelationReport>,
    /// Tables whose first load ended with this step.
    pub completed: Vec<TableId>,
    /// Models that were parked.
    pub parked: Vec<TableName>,
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

/// The changes of one table: −1 and +1 rows in source order.
struct Input {
    id: TableId,
    rows: Rows,
    weights: Vec<i8>,
}

/// Deltas of the nodes that ran.
#[derive(Default)]
struct Wave {
    open: BTreeSet<NodeIndex>,
    outputs: BTreeMap<NodeIndex, Delta>,
}

impl Engine {
    pub(crate) fn run_step(
        &mut self,
        step: u64,
        mut batches: Vec<(u32, SourceBatch)>,
        logging: Logging,
    ) -> Result<StepReport> {
        let entered = stopwatch();
        let snapshot = self.store.snapshot();
        if logging == Logging::Appended {
            let states = self.states(&snapshot);
            for (_, batch) in &mut batches {
                self.normalise(batch, states)?;
            }
        }
        let record = Record { batches, notes: Vec::new() };
        // The sync runs while the rules do; nothing is visible before both are done.
        let syncing = match logging {
            Logging::Appended => {
                self.log_buffer.clear();
                record.encode_into(&mut self.log_buffer);
                self.store.append_unsynced(step, &self.log_buffer)?;
                Some(self.store.start_sync())
            }
            Logging::Replayed => None,
        };
        let mut writes = std::mem::take(&mut self.setup);
        let mut report = StepReport { step, ..StepReport::default() };
        self.note_progress(&record.batches, &mut writes, &mut report);
        let inputs = inputs_of(record.batches);
        let begun = stopwatch();
        self.run_rules(&snapshot, &inputs, &mut writes, &mut report)?;
        self.write_counts(&report, &mut writes);
        let ran = begun.elapsed();
        if let Some(syncing) = syncing {
            syncing.wait()?;
        }
        report.durable_us = u64::try_from(entered.elapsed().as_micros()).unwrap_or(u64::MAX);
        let begun = stopwatch();
        self.store.commit(step, writes)?;
        report.rules_us = u64::try_from((ran + begun.elapsed()).as_micros()).unwrap_or(u64::MAX);
        self.step = step;
        for number in 0..self.models.len() {
            if !report.completed.is_empty() {
                self.refresh_model(number);
            }
        }
        Ok(report)
    }

    /// Positions and cursors move in the step that carries what they stand for.
    fn note_progress(&mut self, batches: &[(u32, SourceBatch)], writes: &mut Writes, report: &mut StepReport) {
        for (source, batch) in batches {
            if let Some((_, position)) = self.sources.get_mut(source)
                && *position != batch.position
                && !batch.position.0.is_empty()
            {
                *position = batch.position.clone();
                writes.put(self.facts, &fact_key("position", TableId(*source)), batch.position.0.as_bytes());
            }
            for chunk in &batch.chunks {
                let Some(table) = self.tables.get_mut(&chunk.table) else { continue };
                table.snapshot_rows_total = table.snapshot_rows_total.max(chunk.rows_estimate);
                let key = fact_key("load", chunk.table);
                if chunk.complete {
                    table.load = Load::Complete;
                    report.completed.push(chunk.table);
                    writes.put(self.facts, &key, &[1]);
                } else {
                    table.load = Load::Loading { cursor: Some(chunk.cursor.clone()) };
                    writes.put(self.facts, &key, &[&[0], chunk.cursor.as_slice()].concat());
                }
            }
        }
    }

    fn run_rules(
        &mut self,
        snapshot: &Snapshot,
        inputs: &[Input],
        writes: &mut Writes,
        report: &mut StepReport,
    ) -> Result<()> {
        let store = self.store.clone();
        let states = States { snapshot, hot: store.hot(), shards: self.settings.workers };
        let mut wave = Wave::default();
        for input in inputs {
            // A replayed record may name a table that has a new incarnation since.
            let Some(stored) = self.relations.get(&input.id) else { continue };
            stored.write_ordered(&input.rows, &input.weights, states, writes)?;
            let inserted = input.weights.iter().filter(|w| **w > 0).count() as u64;
            let deleted = input.weights.len() as u64 - inserted;
            let Some(table) = self.tables.get(&input.id) else { continue };
            let name = table.name.clone();
            let (rows, weights) = self.reported(&input.rows, input.weights.iter().map(|&w| i64::from(w)));
            report.relations.push(RelationReport {
                name,
                id: input.id,
                is_model: false,
                inserted,
                deleted,
                rows,
                weights,
            });
            for &feed in self.graph.feeds.get(&input.id).map_or(&[][..], Vec::as_slice) {
                let node = &self.graph.nodes[feed];
                if let Rule::Table { columns, .. } = &node.rule
                    && self.is_running(feed)
                {
                    let delta = table_delta(stored, columns, node, input)?;
                    if !delta.is_empty() {
                        wave.outputs.insert(feed, delta);
                        wave.open.insert(feed);
                    }
                }
            }
        }
        while let Some(node) = wave.open.pop_first() {
            self.run_node(node, &mut wave, states, writes, report);
        }
        Ok(())
    }

    fn is_running(&self, node: NodeIndex) -> bool {
        let node = &self.graph.nodes[node];
        node.built && node.active && node.parked.is_none()
    }

    /// Runs one node. Whatever goes wrong in it parks it and what reads it; everything else goes on.
    fn run_node(
        &mut self,
        index: NodeIndex,
        wave: &mut Wave,
        states: States<'_>,
        writes: &mut Writes,
        report: &mut StepReport,
    ) {
        if !self.is_running(index) {
            return;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.apply_rule(index, wave, states, writes, report)));
        let outcome = outcome.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Error::Query(format!("internal error: {}", said.unwrap_or_default())))
        });
        match outcome {
            Ok(delta) if delta.is_empty() => {}
            Ok(delta) => {
                wave.outputs.insert(index, delta);
                let readers = &self.graph.nodes[index].readers;
                wave.open.extend(readers.iter().copied());
            }
            Err(error) => self.park(index, &error.to_string(), report),
        }
    }

    fn apply_rule(
        &mut self,
        index: NodeIndex,
        wave: &mut Wave,
        states: States<'_>,
        writes: &mut Writes,
        report: &mut StepReport,
    ) -> Result<Delta> {
        let node = &self.graph.nodes[index];
        let fed = wave.outputs.remove(&index);
        let input = |i: usize| wave.outputs.get(&node.inputs[i]);
        let mut failures: Vec<Failure> = Vec::new();
        let empty = || Delta::empty(&node.arrow);
        let delta = match &node.rule {
            Rule::Values => empty(),
            Rule::Table { columns, .. } => match (fed, node.inputs.is_empty()) {
                (Some(delta), true) => delta,
                (None, true) => empty(),
                (_, false) => input(0).map_or_else(|| Ok(empty()), |d| d.project(columns, &node.arrow))?,
            },
            Rule::Map(program) => match input(0) {
                None => empty(),
                Some(delta) => {
                    let mut mapped = program.evaluate(&delta.batch)?;
                    failures = std::mem::take(&mut mapped.failures);
                    mapped.weighted(&delta.weights)
                }
            },
            Rule::Union => {
                let parts = (0..node.inputs.len()).filter_map(input);
                let parts = parts.map(|d| d.project(&(0..node.types.len()).collect::<Vec<_>>(), &node.arrow));
                Delta::concat(&node.arrow, &parts.collect::<relation::Result<Vec<_>>>()?)?
            }
            Rule::Join(op) => {
                let joined = op.apply(input(0), input(1), states, writes)?;
                self.note_failed_pairs(node, &joined.failed, states, writes)?;
                joined.delta
            }
            Rule::Aggregate(op) => match input(0) {
                None => empty(),
                Some(delta) => op.apply(delta, states, writes)?,
            },
            Rule::TopK(op) => match input(0) {
                None => empty(),
                Some(delta) => op.apply(delta, states, writes)?,
            },
            Rule::Sink { model } => match input(0) {
                None => empty(),
                Some(delta) => {
                    let delta = delta.consolidate(&node.types)?;
                    self.write_model(*model, &delta, states, writes, report)?;
                    delta
                }
            },
        };
        for kept in node.arrangements.iter().filter(|kept| kept.built) {
            kept.arrangement.apply(&delta, Some(states), writes)?;
        }
        if !failures.is_empty()
            && let Some(input) = wave.outputs.get(&node.inputs[0])
        {
            self.note_rejects(node, input, &failures, states, writes)?;
        }
        Ok(delta)
    }

    fn write_model(
        &self,
        model: usize,
        delta: &Delta,
        states: States<'_>,
        writes: &mut Writes,
        report: &mut StepReport,
    ) -> Result<()> {
        let model = &self.models[model];
        let stored = &self.relations[&model.relation];
        let rows = relation::columns::encode(&stored.layout, &delta.batch)?;
        stored.write_net(&rows, &delta.weights, states, writes)?;
        let sum = |sign: i64| delta.weights.iter().filter(|w| **w * sign > 0).map(|w| w.unsigned_abs()).sum();
        let (inserted, deleted) = (sum(1), sum(-1));
        let name = model.name.clone();
        let (rows, weights) = self.reported(&rows, delta.weights.iter().copied());
        let id = model.relation;
        report.relations.push(RelationReport { name, id, is_model: true, inserted, deleted, rows, weights });
        Ok(())
    }

    /// The first rows of a change, for the report.
    fn reported(&self, rows: &Rows, weights: impl Iterator<Item = i64>) -> (Rows, Vec<i64>) {
        let weights: Vec<i64> = weights.take(self.settings.report_rows_max).collect();
        let mut first = Rows::new();
        rows.iter().take(weights.len()).for_each(|row| first.push(row));
        (first, weights)
    }

    /// Rows of each relation are a fact of the step.
    fn write_counts(&mut self, report: &StepReport, writes: &mut Writes) {
        for change in &report.relations {
            let rows = self.rows.entry(change.id).or_insert(0);
            *rows += change.inserted.cast_signed() - change.deleted.cast_signed();
            writes.put(self.facts, &fact_key("rows", change.id), &rows.to_le_bytes());
        }
    }

    /// Stops a node and everything that reads it.
    fn park(&mut self, index: NodeIndex, reason: &str, report: &mut StepReport) {
        let mut open = vec![index];
        while let Some(at) = open.pop() {
            let node = &mut self.graph.nodes[at];
            if node.parked.is_some() {
                continue;
            }
            node.parked = Some(reason.to_owned());
            open.extend(node.readers.iter().copied());
            if let Rule::Sink { model } = node.rule {
                self.models[model].state = ModelState::Parked { reason: reason.to_owned() };
                report.parked.push(self.models[model].name.clone());
            }
        }
        self.distrust_parked();
    }
}

/// Durations of a step, for the figures about it alone: no answer depends on them.
#[expect(clippy::disallowed_methods, reason = "measures how long a step takes; no result depends on it")]
fn stopwatch() -> std::time::Instant {
    std::time::Instant::now()
}

/// One input per table, over all batches in their order.
fn inputs_of(batches: Vec<(u32, SourceBatch)>) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    for (id, changes) in batches.into_iter().flat_map(|(_, batch)| batch.tables) {
        if changes.rows.is_empty() {
            continue;
        }
        match inputs.iter_mut().find(|input| input.id == id) {
            Some(input) => {
                input.rows.append(&changes.rows);
                input.weights.extend_from_slice(&changes.weights);
            }
            None => inputs.push(Input { id, rows: changes.rows, weights: changes.weights }),
        }
    }
    inputs
}

/// The delta of a table node: the columns it needs. Updates that leave all of them as they were are no change.
fn table_delta(stored: &Stored, columns: &[usize], node: &Node, input: &Input) -> Result<Delta> {
    let layout = &stored.layout;
    let same = |a: &[u8], b: &[u8]| {
        columns.iter().all(|&c| match (layout.is_null(a, c), layout.is_null(b, c)) {
            (false, false) => layout.bytes(a, c) == layout.bytes(b, c),
            (a_null, b_null) => a_null && b_null,
        })
    };
    let mut kept = Vec::with_capacity(input.rows.len());
    let mut i = 0;
    while i < input.rows.len() {
        let pair = input.weights[i] < 0 && i + 1 < input.rows.len() && input.weights[i + 1] > 0;
        if pair && same(input.rows.get(i), input.rows.get(i + 1)) {
            i += 2;
            continue;
        }
        kept.push(i);
        i += 1;
    }
    let rows = kept.iter().map(|&i| input.rows.get(i));
    let batch = decode(rows, layout, columns, &node.arrow)?;
    Ok(Delta::new(batch, kept.iter().map(|&i| i64::from(input.weights[i])).collect()))
}
