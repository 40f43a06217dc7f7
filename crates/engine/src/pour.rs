//! All rows of a node, out of what is kept below it: what a build is made of.
//!
//! Tables, and maps over them, are scanned by a query. Groups and windows come out of their states, which were built just
//! before. A join's rows are those of one of its sides, each met with the other side by the look-ups that its upkeep
//! uses. So a build needs memory for some portions of rows, however large the tables are: nothing is hashed or sorted as
//! a whole.

use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use plan::{JoinKind, NodeId};
use relation::{Delta, TableId};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::expr::MapProgram;
use crate::graph::{NodeIndex, Rule};
use crate::operator::aggregate::AggregateOp;
use crate::operator::join::{Found, JoinOp};
use crate::operator::top_k::TopKOp;
use crate::rejects::NetRejects;

/// Rows of one side of a join that are met with the other at first, and at most: how many pairs come of them is not
/// known before.
const JOIN_ROWS_FIRST: usize = 64;
const JOIN_ROWS_MAX: usize = 16_384;

/// What takes the rows of a node, portion by portion.
pub(crate) type Portion<'a> = dyn FnMut(&mut Engine, Delta) -> Result<()> + 'a;

/// Rows of one side of a join in slices: the fewer the more the rows before had to do with on the other side.
pub(crate) struct Slices {
    rows_max: usize,
}

impl Default for Slices {
    fn default() -> Self {
        Self { rows_max: JOIN_ROWS_FIRST }
    }
}

impl Slices {
    /// Calls `each` with slices of a delta; it answers with how much it looked at for one.
    pub(crate) fn each(
        &mut self,
        engine: &mut Engine,
        delta: &Delta,
        each: &mut dyn FnMut(&mut Engine, Delta) -> Result<usize>,
    ) -> Result<()> {
        let mut at = 0;
        while at < delta.len() {
            let rows = self.rows_max.min(delta.len() - at);
            let part = Delta::new(delta.batch.slice(at, rows), delta.weights[at..at + rows].to_vec());
            let looked_at = each(engine, part)?;
            at += rows;
            let per_row = looked_at.div_ceil(rows).max(1);
            let most = (self.rows_max * 2).min(JOIN_ROWS_MAX);
            self.rows_max = (engine.settings.build_rows_max / per_row).clamp(1, most);
        }
        Ok(())
    }
}

impl Engine {
    /// Hands over all rows of a node in portions of [`crate::Settings::build_rows_max`] or a little more.
    pub(crate) fn pour(&mut self, node: NodeIndex, each: &mut Portion<'_>) -> Result<()> {
        let arrow = Arc::clone(&self.graph.nodes[node].arrow);
        let mut parts: Vec<Delta> = Vec::new();
        let mut rows = 0;
        self.pour_node(node, &mut |engine, delta| {
            rows += delta.len();
            parts.push(delta);
            if rows < engine.settings.build_rows_max {
                return Ok(());
            }
            rows = 0;
            each(engine, Delta::concat(&arrow, &std::mem::take(&mut parts))?)
        })?;
        if rows == 0 { Ok(()) } else { each(self, Delta::concat(&arrow, &parts)?) }
    }

    fn pour_node(&mut self, node: NodeIndex, each: &mut Portion<'_>) -> Result<()> {
        let inputs = self.graph.nodes[node].inputs.clone();
        match &self.graph.nodes[node].rule {
            Rule::Map(program) if !self.is_scan(node) => {
                let program = Arc::clone(program);
                self.pour_map(node, inputs[0], &program, each)
            }
            Rule::Union => self.pour_union(node, &inputs, each),
            Rule::Join(join) if join.kind() != JoinKind::NullAwareAnti => {
                let join = Arc::clone(join);
                self.pour_join(node, inputs[join.pouring() as usize], &join, each)
            }
            Rule::Aggregate(aggregate) => {
                let aggregate = Arc::clone(aggregate);
                self.pour_groups(&aggregate, each)
            }
            Rule::TopK(top) => {
                let top = Arc::clone(top);
                self.pour_windows(&top, each)
            }
            _ => self.pour_query(node, each),
        }
    }

    /// Whether a node is a table, or constants, seen through filters and projections: one scan answers it.
    fn is_scan(&self, mut node: NodeIndex) -> bool {
        while let Rule::Map(_) = self.graph.nodes[node].rule {
            node = self.graph.nodes[node].inputs[0];
        }
        matches!(self.graph.nodes[node].rule, Rule::Table { .. } | Rule::Values)
    }

    fn pour_map(
        &mut self,
        node: NodeIndex,
        input: NodeIndex,
        program: &MapProgram,
        each: &mut Portion<'_>,
    ) -> Result<()> {
        let mut rejects = NetRejects::new();
        self.pour_node(input, &mut |engine, delta| {
            let mapped = program.evaluate(&delta.batch)?;
            engine.gather_rejects(&engine.graph.nodes[node], &delta, &mapped.failures, &mut rejects)?;
            each(engine, mapped.weighted(&delta.weights))
        })?;
        self.commit_portion(|engine, states, writes| {
            engine.settle_rejects(&engine.graph.nodes[node], &rejects, states, writes)
        })
    }

    fn pour_union(&mut self, node: NodeIndex, inputs: &[NodeIndex], each: &mut Portion<'_>) -> Result<()> {
        let arrow = Arc::clone(&self.graph.nodes[node].arrow);
        let columns: Vec<usize> = (0..arrow.fields().len()).collect();
        for &input in inputs {
            self.pour_node(input, &mut |engine, delta| each(engine, delta.project(&columns, &arrow)?))?;
        }
        Ok(())
    }

    fn pour_join(&mut self, node: NodeIndex, input: NodeIndex, join: &JoinOp, each: &mut Portion<'_>) -> Result<()> {
        let mut rejects = NetRejects::new();
        let mut slices = Slices::default();
        self.pour_node(input, &mut |engine, delta| {
            slices.each(engine, &delta, &mut |engine, part| {
                let snapshot = engine.store.snapshot();
                let met = join.expand(join.pouring(), &Found::all(part), engine.states(&snapshot))?;
                engine.gather_failed_pairs(&engine.graph.nodes[node], &met.failed, &mut rejects)?;
                if !met.found.delta.is_empty() {
                    each(engine, met.found.delta)?;
                }
                Ok(met.looked_at)
            })
        })?;
        // What keeps counts saw all pairs when they were built, and told of them.
        if !self.graph.nodes[node].states.is_empty() {
            return Ok(());
        }
        self.commit_portion(|engine, states, writes| {
            engine.settle_rejects(&engine.graph.nodes[node], &rejects, states, writes)
        })
    }

    fn pour_groups(&mut self, aggregate: &AggregateOp, each: &mut Portion<'_>) -> Result<()> {
        let rows_max = self.settings.build_rows_max;
        self.pour_entries(aggregate.groups_table(), &[], rows_max, &mut |engine, groups| {
            let groups = groups.iter().map(|(key, group)| (&**key, &**group));
            each(engine, aggregate.rows(groups)?)
        })
    }

    fn pour_windows(&mut self, top: &TopKOp, each: &mut Portion<'_>) -> Result<()> {
        let snapshot = self.store.snapshot();
        let (table, prefix) = top.partitions();
        let rows_max = (self.settings.build_rows_max as u64 / top.rows_max()).clamp(1, 4096);
        self.pour_entries(table, prefix, usize::try_from(rows_max).unwrap_or(1), &mut |engine, entries| {
            let partitions = entries.iter().map(|(key, _)| &key[prefix.len()..]);
            let delta = top.find(engine.states(&snapshot), partitions)?;
            each(engine, delta)
        })
    }

    /// Hands over the entries of a state whose keys begin so, a number of them at a time.
    fn pour_entries(
        &mut self,
        table: TableId,
        prefix: &[u8],
        entries_max: usize,
        each: &mut dyn FnMut(&mut Self, &[(store::Slice, store::Slice)]) -> Result<()>,
    ) -> Result<()> {
        let mut scan = self.store.snapshot().scan(table, prefix);
        loop {
            let entries = scan.by_ref().take(entries_max).collect::<store::Result<Vec<_>>>()?;
            if entries.is_empty() {
                return Ok(());
            }
            each(self, &entries)?;
        }
    }

    /// The answer of a node's query.
    fn pour_query(&mut self, node: NodeIndex, each: &mut Portion<'_>) -> Result<()> {
        let (model, id) = self.graph.nodes[node].origin;
        let arrow = Arc::clone(&self.graph.nodes[node].arrow);
        let NodeQuery { mut stream, rejected } = self.query_node(model, id)?;
        let runtime = self.settings.runtime.clone();
        while let Some(batch) = runtime.block_on(stream.next()).transpose().map_err(query_error)? {
            let rows = batch.num_rows();
            let batch = relation::columns::batch(&arrow, batch.columns().to_vec(), rows)?;
            each(self, Delta::new(batch, vec![1; rows]))?;
        }
        // What is no scan stands on states that were poured before, and their pours told of the same rows.
        if !self.is_scan(node) {
            return Ok(());
        }
        let rejected = std::mem::take(&mut *rejected.lock().unwrap_or_else(PoisonError::into_inner));
        let rejects = self.rejects_of_query(model, rejected)?;
        let mut at = node;
        while let Rule::Map(_) = self.graph.nodes[at].rule {
            let of_map = rejects.get(&at).cloned().unwrap_or_default();
            self.commit_portion(|engine, states, writes| {
                engine.settle_rejects(&engine.graph.nodes[at], &of_map, states, writes)
            })?;
            at = self.graph.nodes[at].inputs[0];
        }
        Ok(())
    }

    fn query_node(&self, model: usize, node: NodeId) -> Result<NodeQuery> {
        let readable = Arc::new(self.readable(Vec::new()));
        let session = query::Session::new(self.store.snapshot(), readable, Arc::clone(&self.queries));
        let rejected: Arc<Mutex<Vec<query::Reject>>> = Arc::default();
        let report = Arc::clone(&rejected);
        let isolation = query::Isolation::Rows(Arc::new(move |reject| {
            report.lock().unwrap_or_else(PoisonError::into_inner).push(reject);
        }));
        let flow = &self.models[model].flow;
        let stream = self.settings.runtime.block_on(session.flow(flow, node, &isolation)).map_err(query_error)?;
        Ok(NodeQuery { stream: stream.map(|batch| batch.map_err(query::Error::from)).boxed(), rejected })
    }
}

/// A running query of a node, and the rows it left out.
struct NodeQuery {
    stream: futures::stream::BoxStream<'static, query::Result<arrow::array::RecordBatch>>,
    rejected: Arc<Mutex<Vec<query::Reject>>>,
}

fn query_error(error: query::Error) -> Error {
    Error::Query(error.to_string())
}
