//! All rows of a node, out of what is kept below it: what a build is made of.
//!
//! Tables, and maps over them, are scanned by a query. Groups and windows come out of their states, which were built just
//! before. A join's rows are those of one of its sides, each met with the other side by the look-ups that its upkeep
//! uses. So a build needs memory for some portions of rows, however large the tables are: nothing is hashed or sorted as
//! a whole.

use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use plan::{NodeId, Op, TableName};
use relation::{Delta, Layout, TableId};

use crate::build::Builder;
use crate::error::{Error, Result};
use crate::graph::{Node, NodeIndex};
use crate::network::Network;
use crate::operator::aggregate::AggregateOp;
use crate::operator::top_k::TopKOp;
use crate::rejects::{Rejected, types};

/// Rows of one side of a join that are met with the other at first, and at most: how many pairs come of them is not known
/// before.
const JOIN_ROWS_FIRST: usize = 64;
const JOIN_ROWS_MAX: usize = 16_384;

/// What takes the rows of a node, portion by portion.
pub(crate) type Portion<'a> = dyn FnMut(&mut Builder, Delta) -> Result<()> + 'a;

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
        builder: &mut Builder,
        delta: &Delta,
        each: &mut dyn FnMut(&mut Builder, Delta) -> Result<usize>,
    ) -> Result<()> {
        let mut at = 0;
        while at < delta.len() {
            // Few pairs may come of many look-ups.
            builder.go_on()?;
            let rows = self.rows_max.min(delta.len() - at);
            let part = Delta::new(delta.batch.slice(at, rows), delta.weights[at..at + rows].to_vec());
            let looked_at = each(builder, part)?;
            at += rows;
            let per_row = looked_at.div_ceil(rows).max(1);
            let most = (self.rows_max * 2).min(JOIN_ROWS_MAX);
            self.rows_max = (builder.settings.build_rows_max / per_row).clamp(1, most);
        }
        Ok(())
    }
}

impl Builder {
    /// Hands over all rows of a node in portions of [`crate::Settings::build_rows_max`] or a little more.
    pub(crate) fn pour(&mut self, node: NodeIndex, each: &mut Portion<'_>) -> Result<()> {
        let arrow = Arc::clone(&self.network().graph.nodes[node].arrow);
        let mut parts: Vec<Delta> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        self.pour_node(node, &mut |builder, delta| {
            rows += delta.len();
            bytes += delta.batch.get_array_memory_size();
            parts.push(delta);
            if rows < builder.settings.build_rows_max && bytes < builder.settings.build_bytes_max {
                return Ok(());
            }
            (rows, bytes) = (0, 0);
            each(builder, Delta::concat(&arrow, &std::mem::take(&mut parts))?)
        })?;
        if rows == 0 { Ok(()) } else { each(self, Delta::concat(&arrow, &parts)?) }
    }

    /// Hands over all rows of a node as its rule makes them.
    pub(crate) fn pour_node(&mut self, at: NodeIndex, each: &mut Portion<'_>) -> Result<()> {
        let network = Arc::clone(self.network());
        let node = &network.graph.nodes[at];
        let counts = node.rejects.is_some_and(|table| self.owns(table)) && !self.counted.contains(&at);
        node.rule.pour(at, node, self, &mut |builder, delta| {
            builder.go_on()?;
            each(builder, delta)
        })?;
        if counts {
            self.counted.insert(at);
        }
        Ok(())
    }

    /// Counts rows that a node could not take, unless that was done by an earlier pour, or is done by the steps.
    pub(crate) fn count_rejects(&mut self, at: NodeIndex, rejected: &Rejected) -> Result<()> {
        let network = Arc::clone(self.network());
        let node = &network.graph.nodes[at];
        let own = node.rejects.filter(|&table| self.owns(table));
        let Some(table) = own.filter(|_| !rejected.is_empty() && !self.counted.contains(&at)) else { return Ok(()) };
        self.portion(|builder, states, writes| {
            network.note_rejects(node, table, rejected, states, builder.view().step(), writes)
        })
    }

    /// The rows of an aggregate's groups.
    pub(crate) fn pour_groups(&mut self, aggregate: &AggregateOp, each: &mut Portion<'_>) -> Result<()> {
        let rows_max = self.settings.build_rows_max;
        self.pour_entries(aggregate.groups_table(), &[], rows_max, &mut |builder, groups| {
            let groups = groups.iter().map(|(key, group)| (&**key, &**group));
            each(builder, aggregate.rows(groups)?)
        })
    }

    /// The windows of all partitions.
    pub(crate) fn pour_windows(&mut self, top: &TopKOp, each: &mut Portion<'_>) -> Result<()> {
        let (table, prefix) = top.partitions();
        let rows_max = (self.settings.build_rows_max as u64 / top.rows_max()).clamp(1, 4096);
        self.pour_entries(table, prefix, usize::try_from(rows_max).unwrap_or(1), &mut |builder, entries| {
            let partitions = entries.iter().map(|(key, _)| &key[prefix.len()..]);
            let delta = top.find(builder.states(), partitions)?;
            each(builder, delta)
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
        let mut scan = self.view().scan(table, prefix);
        loop {
            let mut entries = Vec::new();
            let mut bytes = 0;
            for entry in scan.by_ref().take(entries_max) {
                let entry = entry?;
                bytes += entry.0.len() + entry.1.len();
                entries.push(entry);
                if bytes >= self.settings.build_bytes_max {
                    break;
                }
            }
            if entries.is_empty() {
                return Ok(());
            }
            each(self, &entries)?;
        }
    }

    /// The answer of a node's query.
    pub(crate) fn pour_query(&mut self, at: NodeIndex, each: &mut Portion<'_>) -> Result<()> {
        let network = Arc::clone(self.network());
        let arrow = Arc::clone(&network.graph.nodes[at].arrow);
        let NodeQuery { mut stream, rejected } = self.query_node(at)?;
        let runtime = self.settings.runtime.clone();
        let mut counted = std::collections::BTreeSet::new();
        loop {
            let batch = runtime.block_on(stream.next()).transpose().map_err(query_error)?;
            let is_over = batch.is_none();
            if let Some(batch) = batch {
                let rows = batch.num_rows();
                let batch = relation::columns::batch(&arrow, batch.columns().to_vec(), rows)?;
                each(self, Delta::new(batch, vec![1; rows]))?;
            }
            // What is no scan stands on states that were poured before, and their pours told of the same rows.
            let failed = std::mem::take(&mut *rejected.lock().unwrap_or_else(PoisonError::into_inner));
            if network.graph.is_scan(at) {
                self.count_rejects_of_query(&network, at, failed.rows, &mut counted)?;
            }
            if is_over {
                break;
            }
        }
        let mut map = at;
        while network.graph.is_scan(at) && network.graph.nodes[map].rule.map().is_some() {
            counted.insert(map);
            map = network.graph.nodes[map].inputs[0];
        }
        self.counted.extend(counted);
        Ok(())
    }

    /// The rows that a query left out, each once per occurrence, by the map on which they failed.
    fn count_rejects_of_query(
        &mut self,
        network: &Network,
        at: NodeIndex,
        failed: Vec<query::Reject>,
        seen: &mut std::collections::BTreeSet<NodeIndex>,
    ) -> Result<()> {
        let (model, _) = network.graph.nodes[at].origin;
        let mut of_nodes: std::collections::BTreeMap<NodeIndex, Rejected> = std::collections::BTreeMap::new();
        for reject in failed {
            let index = network.models[model].placed[reject.node.0];
            let node: &Node = &network.graph.nodes[index];
            let rejected = of_nodes.entry(index).or_insert_with(Rejected::none);
            rejected.rows.push_values(&Layout::new(types(&network.graph, node)), &reject.row)?;
            rejected.weights.push(1);
            rejected.errors.push(reject.error);
        }
        for (index, rejected) in of_nodes {
            self.count_rejects(index, &rejected)?;
            seen.insert(index);
        }
        Ok(())
    }

    fn query_node(&self, at: NodeIndex) -> Result<NodeQuery> {
        let network = self.network();
        let (model, node) = network.graph.nodes[at].origin;
        let readable = Arc::new(network.readable_by(model));
        let session = query::Session::new(self.view().clone(), readable, Arc::clone(&self.queries));
        let rejected: Arc<Mutex<Failed>> = Arc::default();
        let report = Arc::clone(&rejected);
        let isolation = query::Isolation::Rows(Arc::new(move |reject| {
            report.lock().unwrap_or_else(PoisonError::into_inner).rows.push(reject);
        }));
        let flow = &network.models[model].flow;
        let node: NodeId = node;
        let stream = self.settings.runtime.block_on(session.flow(flow, node, &isolation)).map_err(query_error)?;
        Ok(NodeQuery { stream: stream.map(|batch| batch.map_err(query::Error::from)).boxed(), rejected })
    }
}

impl Network {
    /// What the flow of a model reads, by the names that it has there: of several versions the one that it stands on.
    fn readable_by(&self, model: usize) -> query::Catalog {
        let mut catalog = query::Catalog::new(Vec::new());
        let model = &self.models[model];
        let mut names: Vec<&TableName> = Vec::new();
        for (node, &at) in model.flow.nodes.iter().zip(&model.placed) {
            if let (Op::Table { table, .. }, Some((relation, _))) = (&node.op, self.graph.nodes[at].rule.table())
                && !names.contains(&table)
            {
                names.push(table);
                self.make_readable(&mut catalog, table, relation);
            }
        }
        catalog
    }
}

/// Rows that a running query left out so far.
#[derive(Default)]
struct Failed {
    rows: Vec<query::Reject>,
}

/// A running query of a node, and the rows it left out.
struct NodeQuery {
    stream: futures::stream::BoxStream<'static, query::Result<arrow::array::RecordBatch>>,
    rejected: Arc<Mutex<Failed>>,
}

fn query_error(error: query::Error) -> Error {
    Error::Query(error.to_string())
}
