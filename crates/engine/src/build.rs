//! Building states: each is the answer of a query over one snapshot, poured into the form that its rule keeps.
//!
//! A model is built when all its tables are complete and all models that it reads are live. Nothing else moves meanwhile:
//! what arrives waits at the source. A build writes in portions of steps without a log record; the catalogue calls a state
//! built only in the last one, so that a build cut short is dropped and begun again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use plan::NodeId;
use relation::{Delta, Rows, TableId};
use store::{Kind, Writes};

use crate::engine::{Engine, Load, ModelState};
use crate::error::{Error, Result};
use crate::graph::{NodeIndex, Rule};
use crate::operator::States;
use crate::operator::aggregate::AggregateOp;
use crate::states::BUILT;

/// Something that a model needs and that is not built yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// A node's own states, or a sink's relation.
    Node(NodeIndex),
    /// A node's arrangement, by position.
    Arrangement(NodeIndex, usize),
    /// A stored relation's index, by position.
    Index(TableId, usize),
    /// A table whose first load is under way.
    Table(TableId),
}

impl Engine {
    /// What stands between a sink and being kept.
    pub(crate) fn missing(&self, sink: NodeIndex) -> BTreeSet<Missing> {
        let mut missing = BTreeSet::new();
        for index in self.graph.ancestors(sink) {
            let node = &self.graph.nodes[index];
            if !node.built {
                missing.insert(Missing::Node(index));
            }
            let unbuilt = node.arrangements.iter().enumerate().filter(|(_, kept)| !kept.built);
            missing.extend(unbuilt.map(|(i, _)| Missing::Arrangement(index, i)));
            if let Rule::Table { relation, .. } = &node.rule {
                if self.tables.get(relation).is_some_and(|t| matches!(t.load, Load::Loading { .. })) {
                    missing.insert(Missing::Table(*relation));
                }
                let indexes = self.relations[relation].indexes.iter().enumerate().filter(|(_, index)| !index.built);
                missing.extend(indexes.map(|(i, _)| Missing::Index(*relation, i)));
            }
        }
        missing
    }

    /// Builds every model that can be built now, calling `progress` with each one's name, and answers with how many
    /// became live. A model whose build fails is marked failed; the others go on.
    pub fn build_ready(&mut self, progress: &mut dyn FnMut(&plan::TableName)) -> Result<usize> {
        let mut built = 0;
        for number in 0..self.models.len() {
            self.refresh_model(number);
            if self.models[number].state != ModelState::Building {
                continue;
            }
            let missing = self.missing(self.models[number].sink);
            if missing.iter().any(|m| matches!(m, Missing::Table(_))) || !self.inputs_are_live(number) {
                continue;
            }
            progress(&self.models[number].name.clone());
            match self.build_all(&missing) {
                Ok(()) => {
                    self.refresh_model(number);
                    built += 1;
                }
                Err(error @ Error::Store(_)) => return Err(error),
                Err(error) => self.models[number].state = ModelState::Failed { reason: error.to_string() },
            }
        }
        Ok(built)
    }

    /// Whether every model that this one reads is live: a parked or failed one keeps its readers waiting.
    fn inputs_are_live(&self, number: usize) -> bool {
        let ancestors = self.graph.ancestors(self.models[number].sink);
        let sinks = ancestors.iter().filter_map(|&node| match self.graph.nodes[node].rule {
            Rule::Sink { model } if model != number => Some(model),
            _ => None,
        });
        sinks.into_iter().all(|model| self.models[model].state == ModelState::Live)
    }

    fn build_all(&mut self, missing: &BTreeSet<Missing>) -> Result<()> {
        // Indexes and arrangements first: they depend on nothing; then nodes, whose order is topological.
        for part in missing {
            match part {
                Missing::Index(relation, i) => self.build_index(*relation, *i)?,
                Missing::Arrangement(node, i) => self.build_arrangement(*node, *i)?,
                Missing::Node(_) | Missing::Table(_) => {}
            }
        }
        for part in missing {
            if let Missing::Node(node) = part {
                self.build_node(*node)?;
            }
        }
        Ok(())
    }

    fn build_index(&mut self, relation: TableId, i: usize) -> Result<()> {
        let snapshot = self.store.snapshot();
        let stored = self.relations[&relation].clone();
        let index = stored.indexes[i].clone();
        let mut rows = Rows::new();
        let mut scan = snapshot.scan(relation, &[]);
        loop {
            let next = scan.next().transpose()?;
            if let Some((_, value)) = &next {
                rows.push(stored.row_of(value)?.0);
            }
            if rows.len() >= self.settings.build_rows_max || next.is_none() {
                let changes = stored.index_changes(&index, &rows, std::iter::repeat_n(1, rows.len()));
                self.commit_portion(|_, states, writes| index.buckets.apply(Some(states), changes, writes))?;
                rows = Rows::new();
            }
            if next.is_none() {
                break;
            }
        }
        self.finish_state(&[index.buckets.table])?;
        if let Some(stored) = self.relations.get_mut(&relation) {
            stored.indexes[i].built = true;
        }
        Ok(())
    }

    fn build_arrangement(&mut self, node: NodeIndex, i: usize) -> Result<()> {
        let (model, id) = self.graph.nodes[node].origin;
        let state = self.graph.nodes[node].arrangements[i].arrangement.buckets.table;
        self.each_portion(model, id, &mut |engine, delta| {
            engine.commit_portion(|engine, states, writes| {
                engine.graph.nodes[node].arrangements[i].arrangement.apply(&delta, Some(states), writes)
            })
        })?;
        self.finish_state(&[state])?;
        self.graph.nodes[node].arrangements[i].built = true;
        Ok(())
    }

    fn build_node(&mut self, index: NodeIndex) -> Result<()> {
        let node = &self.graph.nodes[index];
        let (model, id) = node.origin;
        let states = node.states.clone();
        match &node.rule {
            Rule::Sink { model } => {
                let relation = self.models[*model].relation;
                let output = self.models[*model].flow.output;
                self.build_relation(*model, output, relation)?;
            }
            Rule::Aggregate(_) => {
                let input = self.models[model].flow.node(id).inputs[0];
                self.build_aggregate(index, model, input)?;
            }
            Rule::TopK(_) => {
                let input = self.models[model].flow.node(id).inputs[0];
                self.each_portion(model, input, &mut |engine, delta| {
                    engine.commit_portion(|engine, states, writes| {
                        let Rule::TopK(op) = &engine.graph.nodes[index].rule else { return Ok(()) };
                        op.apply(&delta, states, writes).map(|_| ())
                    })
                })?;
                self.finish_state(&states)?;
            }
            _ => {}
        }
        self.graph.nodes[index].built = true;
        Ok(())
    }

    /// Groups and multisets gather in memory, as a hash aggregation would, and are written at the end.
    fn build_aggregate(&mut self, index: NodeIndex, model: usize, input: NodeId) -> Result<()> {
        let mut writes = Writes::new();
        let arrow = Arc::clone(&self.graph.nodes[self.graph.nodes[index].inputs[0]].arrow);
        {
            let Rule::Aggregate(op) = &self.graph.nodes[index].rule else { return Ok(()) };
            let mut accumulation = op.accumulation();
            self.each_batch(model, input, &mut writes, &mut |batch| {
                let rows = batch.num_rows();
                let batch = relation::columns::batch(&arrow, batch.columns().to_vec(), rows)?;
                accumulation.add(&Delta::new(batch, vec![1; rows]), None)
            })?;
            accumulation.finish(None, &mut writes)?;
        }
        self.commit_unlogged(writes)?;
        let states = self.graph.nodes[index].states.clone();
        self.finish_state(&states)
    }

    fn build_relation(&mut self, model: usize, output: NodeId, relation: TableId) -> Result<()> {
        let mut total = 0_i64;
        let node = self.models[model].placed[output.0];
        self.each_kept_portion(model, node, output, &mut |engine, delta| {
            let stored = &engine.relations[&relation];
            let delta = if stored.is_keyed() { delta } else { delta.consolidate(stored.layout.types())? };
            let rows = relation::columns::encode(&stored.layout, &delta.batch)?;
            total += delta.weights.iter().sum::<i64>();
            engine.commit_portion(|engine, states, writes| {
                engine.relations[&relation].write_net(&rows, &delta.weights, states, writes)
            })
        })?;
        self.rows.insert(relation, total);
        let mut writes = Writes::new();
        writes.put(self.facts, &crate::engine::fact_key("rows", relation), &total.to_le_bytes());
        self.commit_unlogged(writes)?;
        self.finish_state(&[relation])
    }

    /// Hands over all rows of a node in portions: out of the groups that were just built where they hold them, else as the
    /// answer of a query. A query would aggregate all over again, and in memory.
    fn each_kept_portion(
        &mut self,
        model: usize,
        node: NodeIndex,
        output: NodeId,
        each: &mut Portion<'_>,
    ) -> Result<()> {
        if self.is_kept_in_groups(node) { self.pour(node, each) } else { self.each_portion(model, output, each) }
    }

    fn is_kept_in_groups(&self, node: NodeIndex) -> bool {
        let node = &self.graph.nodes[node];
        match &node.rule {
            Rule::Map(_) | Rule::Union => node.inputs.iter().all(|&input| self.is_kept_in_groups(input)),
            Rule::Aggregate(aggregate) => node.built && aggregate.has_exact_keys(),
            _ => false,
        }
    }

    /// The rows of groups, through the maps and unions above them.
    fn pour(&mut self, node: NodeIndex, each: &mut Portion<'_>) -> Result<()> {
        let inputs = self.graph.nodes[node].inputs.clone();
        let arrow = Arc::clone(&self.graph.nodes[node].arrow);
        match &self.graph.nodes[node].rule {
            Rule::Aggregate(aggregate) => {
                let aggregate = Arc::clone(aggregate);
                self.pour_groups(&aggregate, each)
            }
            Rule::Map(program) => {
                let program = Arc::clone(program);
                self.pour(inputs[0], &mut |engine, delta| {
                    let mapped = program.evaluate(&delta.batch)?;
                    if !mapped.failures.is_empty() {
                        engine.commit_portion(|engine, states, writes| {
                            engine.note_rejects(&engine.graph.nodes[node], &delta, &mapped.failures, states, writes)
                        })?;
                    }
                    each(engine, mapped.weighted(&delta.weights))
                })
            }
            _ => {
                let columns: Vec<usize> = (0..arrow.fields().len()).collect();
                for input in inputs {
                    self.pour(input, &mut |engine, delta| each(engine, delta.project(&columns, &arrow)?))?;
                }
                Ok(())
            }
        }
    }

    fn pour_groups(&mut self, aggregate: &AggregateOp, each: &mut Portion<'_>) -> Result<()> {
        let snapshot = self.store.snapshot();
        let mut scan = snapshot.scan(aggregate.groups_table(), &[]);
        loop {
            let mut keys = Vec::new();
            for entry in scan.by_ref().take(self.settings.build_rows_max) {
                keys.push(entry?.0);
            }
            if keys.is_empty() {
                return Ok(());
            }
            let found = aggregate.find(self.states(&snapshot), keys.len(), &|i| &keys[i])?;
            each(self, found.delta)?;
        }
    }

    /// Runs the query of a flow's node and hands over its rows in portions, weight 1 each.
    fn each_portion(&mut self, model: usize, node: NodeId, each: &mut Portion<'_>) -> Result<()> {
        let schema = crate::expr::arrow_schema(&self.models[model].flow.node(node).schema);
        let BuildQuery { mut stream, rejected } = self.query_node(model, node)?;
        let mut parts: Vec<Delta> = Vec::new();
        let mut rows = 0;
        loop {
            let runtime = self.settings.runtime.clone();
            let next = runtime.block_on(stream.next()).transpose().map_err(query_error)?;
            if let Some(batch) = &next {
                let count = batch.num_rows();
                let batch = relation::columns::batch(&schema, batch.columns().to_vec(), count)?;
                parts.push(Delta::new(batch, vec![1; count]));
                rows += count;
            }
            if rows >= self.settings.build_rows_max || (next.is_none() && rows > 0) {
                let portion = Delta::concat(&schema, &parts)?;
                each(self, portion)?;
                parts.clear();
                rows = 0;
            }
            if next.is_none() {
                break;
            }
        }
        self.note_build_rejects(model, &rejected)
    }

    fn each_batch(
        &self,
        model: usize,
        node: NodeId,
        pending: &mut Writes,
        each: &mut dyn FnMut(arrow::array::RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let BuildQuery { mut stream, rejected } = self.query_node(model, node)?;
        while let Some(batch) = self.settings.runtime.block_on(stream.next()) {
            each(batch.map_err(query_error)?)?;
        }
        let mut writes = Writes::new();
        self.build_rejects(model, &rejected, &mut writes)?;
        *pending = writes;
        Ok(())
    }

    fn note_build_rejects(&mut self, model: usize, rejected: &Mutex<Vec<query::Reject>>) -> Result<()> {
        let mut writes = Writes::new();
        self.build_rejects(model, rejected, &mut writes)?;
        self.commit_unlogged(writes)
    }

    fn query_node(&self, model: usize, node: NodeId) -> Result<BuildQuery> {
        let readable = Arc::new(self.readable(Vec::new()));
        let session = query::Session::new(self.store.snapshot(), readable, Arc::clone(&self.queries));
        let rejected: Arc<Mutex<Vec<query::Reject>>> = Arc::default();
        let report = Arc::clone(&rejected);
        let isolation = query::Isolation::Rows(Arc::new(move |reject| {
            report.lock().unwrap_or_else(PoisonError::into_inner).push(reject);
        }));
        let flow = &self.models[model].flow;
        let stream = self.settings.runtime.block_on(session.flow(flow, node, &isolation)).map_err(query_error)?;
        Ok(BuildQuery { stream: stream.map(|batch| batch.map_err(query::Error::from)).boxed(), rejected })
    }

    /// Writes a part of a build: rules read the state as the parts before left it.
    fn commit_portion(&mut self, write: impl FnOnce(&Self, States<'_>, &mut Writes) -> Result<()>) -> Result<()> {
        let mut writes = Writes::new();
        let snapshot = self.store.snapshot();
        write(self, self.states(&snapshot), &mut writes)?;
        self.commit_unlogged(writes)
    }

    /// Commits a step without a record, with what the set-up left to be written.
    pub(crate) fn commit_unlogged(&mut self, writes: Writes) -> Result<()> {
        let mut all = std::mem::take(&mut self.setup);
        all.append(writes);
        let writes = all;
        if writes.is_empty() {
            return Ok(());
        }
        self.step += 1;
        Ok(self.store.commit(self.step, writes)?)
    }

    /// Notes that states hold everything.
    fn finish_state(&mut self, ids: &[TableId]) -> Result<()> {
        self.set_detail(ids, BUILT)
    }

    fn set_detail(&mut self, ids: &[TableId], detail: &str) -> Result<()> {
        let mut writes = Writes::new();
        for id in ids {
            if let Some(mut entry) = self.catalog.get(*id).cloned() {
                entry.detail = detail.to_owned();
                self.catalog.update(&mut writes, entry);
            }
        }
        self.commit_unlogged(writes)
    }

    /// The states of parked nodes are no longer true: the catalogue says so, and the next start builds them anew.
    pub(crate) fn distrust_parked(&mut self) {
        let parked = self.graph.nodes.iter().filter(|node| node.parked.is_some());
        let mut ids: Vec<TableId> = Vec::new();
        for node in parked {
            ids.extend(&node.states);
            ids.extend(node.arrangements.iter().map(|kept| kept.arrangement.buckets.table));
            if let Rule::Sink { model } = node.rule {
                ids.push(self.models[model].relation);
            }
        }
        for id in ids {
            if let Some(mut entry) = self.catalog.get(id).cloned() {
                entry.detail = "parked".to_owned();
                self.catalog.update(&mut self.setup, entry);
            }
        }
    }

    /// States of the catalogue that hold half a build: dropped at the start.
    pub(crate) fn drop_unfinished(&mut self) {
        let unfinished: Vec<TableId> = self
            .catalog
            .entries()
            .filter(|e| matches!(e.kind, Kind::State | Kind::Model | Kind::Index) && e.detail != BUILT)
            .map(|e| e.id)
            .collect();
        for id in unfinished {
            self.catalog.remove(&mut self.setup, id);
        }
    }
}

/// What takes the rows of a build, portion by portion.
type Portion<'a> = dyn FnMut(&mut Engine, Delta) -> Result<()> + 'a;

/// A running building query, and the rows it left out.
struct BuildQuery {
    stream: futures::stream::BoxStream<'static, query::Result<arrow::array::RecordBatch>>,
    rejected: Arc<Mutex<Vec<query::Reject>>>,
}

fn query_error(error: query::Error) -> Error {
    Error::Query(error.to_string())
}
