//! What is kept, and the one function that keeps it: [`Network::run`].
//!
//! The network changes only between steps, and a build that runs beside them holds the one that it began with. Running it
//! is a function of the states before and of the inputs: it moves no fact, and nothing in it fails but the reading of the
//! store. Whatever else goes wrong belongs to a table or to a node, whose writes are dropped and which is parked in this very
//! step; replayed, the step does the same.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use plan::TableName;
use relation::{Delta, Rows, TableId};
use store::Writes;

use crate::engine::{Model, SourceTable};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, NodeIndex};
use crate::operator::table::table_delta;
use crate::operator::{Around, Ruled, States};
use crate::step::RelationReport;
use crate::stored::{Keeping, Stored};

/// Source tables, models and the graph between them.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) graph: Graph,
    pub(crate) relations: BTreeMap<TableId, Stored>,
    pub(crate) tables: BTreeMap<TableId, SourceTable>,
    /// All models that have nodes: those that serve, those that are coming, those kept for going back.
    pub(crate) models: Vec<Model>,
    /// Changed rows of each relation that a report shows.
    pub(crate) report_rows_max: usize,
}

/// The changes of one table in one step: −1 and +1 rows in source order.
pub(crate) struct Change {
    pub(crate) id: TableId,
    pub(crate) rows: Rows,
    pub(crate) weights: Vec<i8>,
}

/// What running the network comes to.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) writes: Writes,
    /// Tables whose changes contradict what is stored, and how.
    pub(crate) parked_tables: Vec<(TableId, String)>,
    /// Nodes that failed, and how; what reads them is not among them.
    pub(crate) parked_nodes: Vec<(NodeIndex, String)>,
    /// Tables and models that changed.
    pub(crate) relations: Vec<RelationReport>,
}

/// Which part of the network runs.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// What is built and needed: a step.
    Kept,
    /// What a build stands on: the rows that came since it began are brought to the states that it fills.
    Build { nodes: &'a BTreeSet<NodeIndex>, own: &'a BTreeSet<TableId> },
}

impl Scope<'_> {
    fn runs(self, index: NodeIndex, node: &Node) -> bool {
        match self {
            Self::Kept => node.built && node.active && node.parked.is_none(),
            Self::Build { nodes, .. } => nodes.contains(&index),
        }
    }

    /// Whether a state is to be kept, which is built or not yet.
    pub(crate) fn keeps(self, table: TableId, built: bool) -> bool {
        match self {
            Self::Kept => built,
            Self::Build { own, .. } => own.contains(&table),
        }
    }
}

/// Deltas of the nodes that ran.
#[derive(Default)]
struct Wave {
    open: BTreeSet<NodeIndex>,
    outputs: BTreeMap<NodeIndex, Delta>,
    /// What failed in this step, with all that reads it.
    stopped: BTreeSet<NodeIndex>,
}

impl Network {
    /// Runs the rules over one step's changes, one of each table. Errors: the store cannot be read.
    pub(crate) fn run(
        &self,
        states: States<'_>,
        changes: &[Change],
        scope: Scope<'_>,
        step: u64,
    ) -> store::Result<Effects> {
        let mut effects = Effects::default();
        let mut wave = Wave::default();
        for change in changes {
            // A replayed record may name a table that has a new incarnation since.
            let (Some(stored), Some(table)) = (self.relations.get(&change.id), self.tables.get(&change.id)) else {
                continue;
            };
            let ran = guarded(|| self.run_table(stored, change, states, scope));
            match ran {
                Ok((writes, deltas)) => {
                    effects.writes.append(writes);
                    effects.relations.push(self.report_of(table, change));
                    for (feed, delta) in deltas {
                        wave.outputs.insert(feed, delta);
                        wave.open.insert(feed);
                    }
                }
                Err(Error::Store(error)) => return Err(error),
                Err(error) => effects.parked_tables.push((change.id, error.to_string())),
            }
        }
        while let Some(index) = wave.open.pop_first() {
            let node = &self.graph.nodes[index];
            if !scope.runs(index, node) || wave.stopped.contains(&index) {
                continue;
            }
            let mut writes = Writes::new();
            match guarded(|| self.run_node(index, &mut wave, states, scope, step, &mut writes)) {
                Ok(Ruled { delta, relation, .. }) => {
                    effects.writes.append(writes);
                    effects.relations.extend(relation);
                    if !delta.is_empty() {
                        wave.outputs.insert(index, delta);
                        wave.open.extend(node.readers.iter().copied());
                    }
                }
                Err(Error::Store(error)) => return Err(error),
                Err(error) => {
                    wave.stopped.extend(self.graph.descendants(index));
                    effects.parked_nodes.push((index, error.to_string()));
                }
            }
        }
        Ok(effects)
    }

    /// The rows of a table under their keys, its indexes, and what its readers get.
    fn run_table(
        &self,
        stored: &Stored,
        change: &Change,
        states: States<'_>,
        scope: Scope<'_>,
    ) -> Result<(Writes, Vec<(NodeIndex, Delta)>)> {
        let mut writes = Writes::new();
        let keeps = |index: &crate::stored::Index| scope.keeps(index.buckets.table, index.built);
        let into = &mut Keeping { states, keeps: &keeps, writes: &mut writes };
        match scope {
            Scope::Kept => stored.write_ordered(&change.rows, &change.weights, into)?,
            // The rows themselves are written by the steps.
            Scope::Build { .. } => stored.index_ordered(&change.rows, &change.weights, into)?,
        }
        let mut deltas = Vec::new();
        for &feed in self.graph.feeds.get(&change.id).map_or(&[][..], Vec::as_slice) {
            let node = &self.graph.nodes[feed];
            if scope.runs(feed, node) {
                let delta = table_delta(stored, node, change)?;
                if !delta.is_empty() {
                    deltas.push((feed, delta));
                }
            }
        }
        Ok((writes, deltas))
    }

    fn run_node(
        &self,
        index: NodeIndex,
        wave: &mut Wave,
        states: States<'_>,
        scope: Scope<'_>,
        step: u64,
        writes: &mut Writes,
    ) -> Result<Ruled> {
        let node = &self.graph.nodes[index];
        // What feeds it from outside of the graph has been put in its own place.
        let fed = if node.inputs.is_empty() { wave.outputs.remove(&index) } else { None };
        let ruled = match fed {
            Some(delta) => Ruled::from(delta),
            None => {
                let inputs: Vec<Option<&Delta>> = node.inputs.iter().map(|input| wave.outputs.get(input)).collect();
                node.rule.apply(node, &inputs, Around { network: self, states, scope }, writes)?
            }
        };
        for kept in &node.arrangements {
            if scope.keeps(kept.arrangement.buckets.table, kept.built) {
                kept.arrangement.apply(&ruled.delta, Some(states), writes)?;
            }
        }
        if !ruled.rejected.is_empty() {
            let table = node.rejects.ok_or_else(|| Error::Broken {
                node: node.identity.clone(),
                what: "rows are rejected by an operator that cannot fail",
            })?;
            if scope.keeps(table, node.rejects_built) {
                self.note_rejects(node, table, &ruled.rejected, states, step, writes)?;
            }
        }
        // A node that a build stands on, but that steps keep, writes nothing there.
        if let Scope::Build { own, .. } = scope {
            writes.retain(|table| own.contains(&table));
        }
        Ok(ruled)
    }

    fn report_of(&self, table: &SourceTable, change: &Change) -> RelationReport {
        let inserted = change.weights.iter().filter(|w| **w > 0).count() as u64;
        let (rows, weights) = self.reported(&change.rows, change.weights.iter().map(|&w| i64::from(w)));
        RelationReport {
            name: table.name.clone(),
            id: table.id,
            is_model: false,
            inserted,
            deleted: change.weights.len() as u64 - inserted,
            rows,
            weights,
        }
    }

    /// The first rows of a change, for the report.
    pub(crate) fn reported(&self, rows: &Rows, weights: impl Iterator<Item = i64>) -> (Rows, Vec<i64>) {
        let weights: Vec<i64> = weights.take(self.report_rows_max).collect();
        let mut first = Rows::new();
        rows.iter().take(weights.len()).for_each(|row| first.push(row));
        (first, weights)
    }

    /// The relation of a name among some models, for a model with its sink, and the tables: those of these that are coming,
    /// and those that serve.
    pub(crate) fn resolve(
        &self,
        name: &TableName,
        models: &[usize],
        coming: &[TableId],
    ) -> Option<(TableId, Option<NodeIndex>)> {
        let model = models.iter().map(|&number| &self.models[number]).find(|model| model.name == *name);
        let model = model.map(|model| (model.relation, Some(model.sink)));
        let mut of_name: Vec<&SourceTable> = self.tables.values().filter(|table| table.name == *name).collect();
        of_name.retain(|table| !table.is_coming || coming.contains(&table.id));
        model.or_else(|| of_name.iter().max_by_key(|table| table.is_coming).map(|table| (table.id, None)))
    }
}

/// A panic of a rule is a bug in it: an error of its node like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::Query(format!("internal error: {}", said.unwrap_or_default())))
    })
}

/// Changes of a network that a build may hold: made in a copy of its own then.
pub(crate) fn edit(network: &mut Arc<Network>) -> &mut Network {
    Arc::make_mut(network)
}
