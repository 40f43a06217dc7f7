//! Building states: the rows of what each stands on ([`crate::pour`]), put into the form that its rule keeps.
//!
//! A model is built when all its tables are complete and all models that it reads are live. Nothing else moves meanwhile:
//! what arrives waits at the source. A build writes in portions of steps without a log record; the catalogue calls a state
//! built only in the last one, so that a build cut short is dropped and begun again.

use std::collections::BTreeSet;
use std::sync::Arc;

use relation::{Rows, TableId};
use store::{Kind, Writes};

use crate::engine::{Engine, Load, ModelState};
use crate::error::{Error, Result};
use crate::graph::{NodeIndex, Rule};
use crate::operator::States;
use crate::operator::aggregate::{Accumulation, AggregateOp};
use crate::operator::join::JoinOp;
use crate::pour::Slices;
use crate::rejects::NetRejects;
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
            self.graph.refresh_active();
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

    /// Indexes first: they depend on nothing but their tables. Then nodes, inputs first, each with its arrangements: the
    /// rows of one are made of what those below it keep.
    fn build_all(&mut self, missing: &BTreeSet<Missing>) -> Result<()> {
        let mut parts: Vec<Missing> = missing.iter().copied().collect();
        parts.sort_by_key(|part| match *part {
            Missing::Table(_) | Missing::Index(..) => (0, 0),
            Missing::Node(node) => (1 + node, 0),
            Missing::Arrangement(node, i) => (1 + node, 1 + i),
        });
        for part in parts {
            let ids = self.states_of(part);
            if ids.iter().any(|id| self.unfinished.contains(id)) {
                return Err(Error::Unfinished);
            }
            // What a failure leaves half built is not to be built upon; the next start drops it.
            self.unfinished.extend(&ids);
            match part {
                Missing::Index(relation, i) => self.build_index(relation, i)?,
                Missing::Node(node) => self.build_node(node)?,
                Missing::Arrangement(node, i) => self.build_arrangement(node, i)?,
                Missing::Table(_) => {}
            }
            ids.iter().for_each(|id| {
                self.unfinished.remove(id);
            });
        }
        Ok(())
    }

    /// The tables that a part of a build fills.
    fn states_of(&self, part: Missing) -> Vec<TableId> {
        match part {
            Missing::Table(_) => Vec::new(),
            Missing::Index(relation, i) => vec![self.relations[&relation].indexes[i].buckets.table],
            Missing::Arrangement(node, i) => vec![self.graph.nodes[node].arrangements[i].arrangement.buckets.table],
            Missing::Node(node) => {
                let sink = match self.graph.nodes[node].rule {
                    Rule::Sink { model } => Some(self.models[model].relation),
                    _ => None,
                };
                self.graph.nodes[node].states.iter().copied().chain(sink).collect()
            }
        }
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
        let state = self.graph.nodes[node].arrangements[i].arrangement.buckets.table;
        self.pour(node, &mut |engine, delta| {
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
        let states = node.states.clone();
        match &node.rule {
            Rule::Sink { model } => {
                let (relation, input) = (self.models[*model].relation, node.inputs[0]);
                self.build_relation(input, relation)?;
            }
            Rule::Aggregate(aggregate) => {
                let (aggregate, input) = (Arc::clone(aggregate), node.inputs[0]);
                self.build_aggregate(&aggregate, input)?;
            }
            Rule::TopK(top) => {
                let (top, input) = (Arc::clone(top), node.inputs[0]);
                self.pour(input, &mut |engine, delta| {
                    engine.commit_portion(|_, states, writes| top.keep(&delta, states, writes))
                })?;
            }
            Rule::Join(join) if !states.is_empty() => {
                let (join, input) = (Arc::clone(join), node.inputs[join.counting() as usize]);
                self.build_counts(index, &join, input)?;
            }
            _ => {}
        }
        self.finish_state(&states)?;
        self.graph.nodes[index].built = true;
        Ok(())
    }

    /// Groups and multisets gather in memory, as a hash aggregation would, and are written when they are many and at the
    /// end.
    fn build_aggregate(&mut self, aggregate: &AggregateOp, input: NodeIndex) -> Result<()> {
        let mut accumulation = aggregate.accumulation();
        let mut is_first = true;
        self.pour(input, &mut |engine, delta| {
            accumulation.add(&delta, None)?;
            if accumulation.bytes() < engine.settings.build_bytes_max {
                return Ok(());
            }
            let full = std::mem::replace(&mut accumulation, aggregate.accumulation());
            engine.write_groups(full, std::mem::take(&mut is_first))
        })?;
        self.write_groups(accumulation, is_first)
    }

    fn write_groups(&mut self, accumulation: Accumulation<'_>, is_first: bool) -> Result<()> {
        self.commit_portion(|_, states, writes| {
            // Nothing is there yet: nothing needs to be read.
            let states = if is_first { None } else { Some(states) };
            accumulation.finish(states, writes).map(|_| ())
        })
    }

    /// A join's counts, from the rows of one of its sides, and the pairs on which its condition fails.
    fn build_counts(&mut self, index: NodeIndex, join: &JoinOp, input: NodeIndex) -> Result<()> {
        let mut rejects = NetRejects::new();
        let mut slices = Slices::default();
        self.pour(input, &mut |engine, delta| {
            slices.each(engine, &delta, &mut |engine, part| {
                let mut looked_at = 0;
                engine.commit_portion(|engine, states, writes| {
                    let (failed, rows) = join.keep(&part, states, writes)?;
                    looked_at = rows;
                    let node = &engine.graph.nodes[index];
                    engine.gather_failed_pairs(node, &failed, &mut rejects)
                })?;
                Ok(looked_at)
            })
        })?;
        self.commit_portion(|engine, states, writes| {
            engine.settle_rejects(&engine.graph.nodes[index], &rejects, states, writes)
        })
    }

    fn build_relation(&mut self, input: NodeIndex, relation: TableId) -> Result<()> {
        let mut total = 0_i64;
        self.pour(input, &mut |engine, delta| {
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

    /// Writes a part of a build: rules read the state as the parts before left it.
    pub(crate) fn commit_portion(
        &mut self,
        write: impl FnOnce(&Self, States<'_>, &mut Writes) -> Result<()>,
    ) -> Result<()> {
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
