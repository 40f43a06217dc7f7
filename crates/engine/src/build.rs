//! Building states beside the running steps: the rows of what each stands on ([`crate::pour`]), put into the form that its
//! rule keeps.
//!
//! A build takes a snapshot at step S and fills the states of one model from it, in portions that are committed beside the
//! steps: into tables that no step writes and nobody reads. What the steps have changed since stands in the log. The build
//! catches up with it as with one large step: the rules run over the net changes of S to T, on the states of S, and what they
//! write into the build's own tables is kept. A chain of steps ([`crate::chain`]) is part of that like any record: its changes
//! are read from its stage, which is kept for that long. S and T are steps that readers see, so that a chain is there as a whole
//! or not at all. Of all that only the tables that the model stands on are taken. When little is left the engine does the same
//! once more between two steps ([`Engine::finish_build`]), and the model is kept like all others from then on; where much has
//! come until then, a large chain most often, the build goes on beside the steps before. The catalogue calls a state built
//! only at the end, so that a build cut short is dropped and begun again.
//!
//! A model is built when all its tables are complete and all models that it reads are live; one that is built stays so while a
//! table is loaded again ([`crate::reload`]), and a build that is under way then goes on: what it has not seen stands in the log.
//! Nothing waits for it meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relation::{Rows, TableId};
use store::catalog::Entry;
use store::{Kind, Place, Record, Snapshot, StageId, Store, Writes};

use crate::chain::{changes_of_inputs, inputs_of_piece};
use crate::engine::{Engine, Model, ModelState, Settings};
use crate::error::{Error, Result};
use crate::graph::NodeIndex;
use crate::input::{Input, Logged, inputs_of};
use crate::network::{Change, Network, Scope, edit};
use crate::operator::aggregate::{Accumulation, AggregateOp};
use crate::operator::{Bounds, States};
use crate::states::BUILT;
use crate::step::fact_key;
use crate::stored::{Index, Keeping};

/// Something that a model needs and that is not built yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Missing {
    /// A node's own states; of a sink, its relation.
    Node(NodeIndex),
    /// A node's arrangement of this table.
    Arrangement(NodeIndex, TableId),
    /// An index of a stored relation, in this table.
    Index(TableId, TableId),
    /// The rows that a node could not take.
    Rejects(NodeIndex, TableId),
    /// A table that has never been whole.
    Table(TableId),
}

/// Rows that the engine catches up with between two steps.
const LAST_ROWS_MAX: usize = 1_000;
/// Bytes of the log, and of rows that a chain deletes, that it reads for that.
const LAST_BYTES_MAX: usize = 16 << 20;
/// How often a build with which more has to be caught up goes on beside the steps, before the engine does it all the same.
const GOES_ON_MAX: u32 = 8;
/// Rounds after which the engine does the rest, however much it is: steps that are as fast as the build would never be
/// caught up with.
const ROUNDS_MAX: usize = 12;

/// The building of one model, to be run on a thread of its own.
pub struct Build {
    builder: Builder,
    model: usize,
    missing: BTreeSet<Missing>,
    begun_again: u64,
    /// Its states are filled, as of the builder's snapshot.
    is_filled: bool,
    /// How often it went on since more had come than the engine catches up with.
    went_on: u32,
}

/// What became of a build.
pub enum Finished {
    /// The model is kept from now on.
    Live(plan::TableName),
    /// It could not be built, and why.
    Failed(plan::TableName, String),
    /// The model is not wanted any more.
    Dropped,
    /// What happened meanwhile cannot be caught up with, or is too much to do so between two steps: run this one.
    Again(Box<Build>),
}

/// What fills states.
pub(crate) struct Builder {
    network: Arc<Network>,
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) queries: Arc<query::Runtime>,
    /// Everything but the build's own tables is read as it was then.
    base: Snapshot,
    own: Arc<BTreeSet<TableId>>,
    /// The sources' tables that the model stands on.
    read: BTreeSet<TableId>,
    /// The base, and what its own tables have by now.
    view: Snapshot,
    /// Step of the snapshot that its states are filled from.
    begun: u64,
    /// Where the log was read to, up to the base.
    place: Option<Place>,
    /// Tables that it reads have rejected rows, or the log has told more of them than rows: how rows are to be taken then, the
    /// steps alone know.
    is_disturbed: bool,
    /// Nodes whose rejected rows have been counted.
    pub(crate) counted: BTreeSet<NodeIndex>,
    /// Rows of the model's relation.
    rows: i64,
    cancelled: Arc<AtomicBool>,
}

/// What has come since a build's snapshot.
struct Left {
    /// None where there was no step.
    changes: Option<Vec<Change>>,
    /// Bytes that were read for them.
    bytes: usize,
}

impl Network {
    /// What stands between a sink and being kept.
    pub(crate) fn missing(&self, sink: NodeIndex) -> BTreeSet<Missing> {
        let mut missing = BTreeSet::new();
        let ancestors = self.graph.ancestors(sink);
        // Of what others stand on as well only the part that this one asked for.
        let asked: BTreeSet<TableId> =
            ancestors.iter().flat_map(|&node| self.graph.nodes[node].asked.iter().copied()).collect();
        for index in ancestors {
            let node = &self.graph.nodes[index];
            if !node.built {
                missing.insert(Missing::Node(index));
            }
            let unbuilt =
                node.arrangements.iter().filter(|kept| !kept.built).map(|kept| kept.arrangement.buckets.table);
            let unbuilt = unbuilt.filter(|table| asked.contains(table));
            missing.extend(unbuilt.map(|table| Missing::Arrangement(index, table)));
            if let (Some(table), false) = (node.rejects, node.rejects_built) {
                missing.insert(Missing::Rejects(index, table));
            }
            if let Some((relation, _)) = node.rule.table() {
                if self.tables.get(&relation).is_some_and(|table| !table.load.was_whole()) {
                    missing.insert(Missing::Table(relation));
                }
                let indexes = self.relations[&relation].indexes.iter().filter(|index| !index.built);
                let indexes = indexes.map(|index| index.buckets.table).filter(|table| asked.contains(table));
                missing.extend(indexes.map(|table| Missing::Index(relation, table)));
            }
        }
        missing
    }

    /// The sources' tables that a node stands on.
    fn tables_below(&self, node: NodeIndex) -> BTreeSet<TableId> {
        let relations = self.graph.ancestors(node).into_iter();
        let relations = relations.filter_map(|node| self.graph.nodes[node].rule.table().map(|(relation, _)| relation));
        relations.filter(|relation| self.tables.contains_key(relation)).collect()
    }

    /// The tables that a part of a build fills.
    fn tables_of(&self, part: Missing) -> Vec<TableId> {
        match part {
            Missing::Table(_) => Vec::new(),
            Missing::Index(_, table) | Missing::Arrangement(_, table) | Missing::Rejects(_, table) => vec![table],
            Missing::Node(node) => self.graph.nodes[node].states.clone(),
        }
    }
}

impl Engine {
    /// The next model that can be built now, if none is being built: run it, then [`Engine::finish_build`].
    pub fn next_build(&mut self) -> Result<Option<Build>> {
        if self.building.is_some() {
            return Ok(None);
        }
        self.settle()?;
        self.refresh_models();
        let Some((model, missing)) = self.kept_models().into_iter().find_map(|number| self.buildable(number)) else {
            return Ok(None);
        };
        // Nothing may be stored under a number that the catalogue does not know.
        self.commit_unlogged(Writes::new())?;
        let own: BTreeSet<TableId> = missing.iter().flat_map(|&part| self.network.tables_of(part)).collect();
        let base = self.store.snapshot();
        // What comes from here on is caught up with out of the log.
        self.store.retain_from(base.step() + 1);
        self.building = Some(model);
        let own = Arc::new(own);
        let read = self.network.tables_below(self.network.models[model].sink);
        let builder = Builder {
            network: Arc::clone(&self.network),
            store: self.store.clone(),
            settings: self.settings.clone(),
            queries: Arc::clone(&self.queries),
            view: base.beside(&base, &own),
            begun: base.step(),
            base,
            own,
            place: None,
            is_disturbed: self.has_rejected(&read),
            read,
            counted: BTreeSet::new(),
            rows: 0,
            cancelled: Arc::new(AtomicBool::new(false)),
        };
        Ok(Some(Build { builder, model, missing, begun_again: 0, is_filled: false, went_on: 0 }))
    }

    /// Whether rows of one of these tables could not be decoded.
    fn has_rejected(&self, tables: &BTreeSet<TableId>) -> bool {
        self.rejected.keys().any(|table| tables.contains(table))
    }

    fn buildable(&self, number: usize) -> Option<(usize, BTreeSet<Missing>)> {
        let model = &self.network.models[number];
        if model.state != ModelState::Building {
            return None;
        }
        let missing = self.network.missing(model.sink);
        let is_loading = missing.iter().any(|part| matches!(part, Missing::Table(_)));
        (!is_loading && self.inputs_are_live(number)).then_some((number, missing))
    }

    /// Whether every model that this one reads is live: a parked or failed one keeps its readers waiting.
    fn inputs_are_live(&self, number: usize) -> bool {
        let ancestors = self.network.graph.ancestors(self.network.models[number].sink);
        let sinks = ancestors.iter().filter_map(|&node| self.network.graph.nodes[node].rule.sink());
        let mut others = sinks.filter(|&model| model != number);
        others.all(|model| self.network.models[model].state == ModelState::Live)
    }

    /// Puts what a build came to in its place. Call it between two steps.
    pub fn finish_build(&mut self, build: Build, outcome: Result<()>) -> Result<Finished> {
        self.settle()?;
        self.building = None;
        let Build { mut builder, model: number, missing, begun_again, is_filled, went_on } = build;
        let name = self.network.models[number].name.clone();
        if !self.kept_models().contains(&number) {
            self.store.retain_from(u64::MAX);
            return Ok(Finished::Dropped);
        }
        let budget = if went_on < GOES_ON_MAX { Budget::between_steps() } else { Budget::beside_steps() };
        let outcome = match outcome {
            Err(Error::Cancelled) => Err(Error::Cancelled),
            _ if self.has_left_out(&builder) => Err(Error::CannotCatchUp),
            outcome => outcome.and_then(|()| self.catch_up_last(&mut builder, number, budget)),
        };
        match outcome {
            Ok(None) => {
                self.building = Some(number);
                let went_on = went_on + 1;
                let again = Build { builder, model: number, missing, begun_again, is_filled, went_on };
                Ok(Finished::Again(Box::new(again)))
            }
            Ok(Some(writes)) => {
                self.keep_built(&builder, number, &missing, writes)?;
                self.store.retain_from(u64::MAX);
                self.store.fold_soon();
                Ok(Finished::Live(name))
            }
            Err(Error::CannotCatchUp) => {
                builder.begin_from_now();
                builder.is_disturbed = self.has_rejected(&builder.read);
                builder.network = Arc::clone(&self.network);
                self.building = Some(number);
                let begun_again = begun_again + 1;
                Ok(Finished::Again(Box::new(Build {
                    builder,
                    model: number,
                    missing,
                    begun_again,
                    is_filled: false,
                    went_on: 0,
                })))
            }
            Err(Error::Cancelled) => {
                self.store.retain_from(u64::MAX);
                Ok(Finished::Dropped)
            }
            Err(error @ Error::Store(store::Error::Closed)) => Err(error),
            Err(error) => {
                self.store.retain_from(u64::MAX);
                let reason = error.to_string();
                edit(&mut self.network).models[number].state = ModelState::Failed { reason: reason.clone() };
                // Who reads it waits for it.
                self.refresh_models();
                Ok(Finished::Failed(name, reason))
            }
        }
    }

    /// Whether a step since a build's beginning has left out what the log has of a table: its rows contradicted what is stored.
    /// It was parked then, and may be followed again by now.
    fn has_left_out(&self, builder: &Builder) -> bool {
        self.left_out.iter().any(|(table, step)| builder.read.contains(table) && *step > builder.begun)
    }

    /// The last changes, between two steps: what they write; none where they are to be caught up with beside the steps.
    fn catch_up_last(&self, builder: &mut Builder, number: usize, budget: Budget) -> Result<Option<Writes>> {
        let cone = self.network.graph.ancestors(self.network.models[number].sink);
        if let Some(reason) = cone.iter().find_map(|&node| self.network.graph.nodes[node].parked.as_ref()) {
            return Err(Error::Query(reason.clone()));
        }
        // Of a table that was parked meanwhile the steps have left out what the log may still have.
        let relations = cone.iter().filter_map(|&node| self.network.graph.nodes[node].rule.table());
        let is_parked = |network: &Network, id: TableId| network.tables.contains_key(&id) && !network.follows(id);
        if relations.into_iter().any(|(id, _)| is_parked(&self.network, id) && !is_parked(&builder.network, id)) {
            return Err(Error::CannotCatchUp);
        }
        let Some(left) = builder.left_until(self.step, budget)? else {
            return if budget.is_last { Err(Error::CannotCatchUp) } else { Ok(None) };
        };
        let Some(changes) = left.changes else { return Ok(Some(Writes::new())) };
        builder.run(&changes, number).map(Some)
    }

    fn keep_built(
        &mut self,
        builder: &Builder,
        number: usize,
        missing: &BTreeSet<Missing>,
        mut writes: Writes,
    ) -> Result<()> {
        let relation = self.network.models[number].relation;
        let entries = builder.own.iter().filter_map(|id| self.catalog.get(*id).cloned());
        let built: Vec<_> = entries.map(|entry| Entry { detail: BUILT.to_owned(), ..entry }).collect();
        built.iter().for_each(|entry| store::catalog::put(&mut writes, entry));
        if builder.own.contains(&relation) {
            writes.put(self.facts, &fact_key("rows", relation), &builder.rows.to_le_bytes());
        }
        self.commit_unlogged(writes)?;
        built.into_iter().for_each(|entry| self.catalog.adopt(entry));
        if builder.own.contains(&relation) {
            self.rows.insert(relation, builder.rows);
        }
        let network = edit(&mut self.network);
        for part in missing {
            network.note_built(*part);
        }
        network.graph.refresh_active();
        self.refresh_models();
        self.aim_outboxes();
        self.store_aims()
    }

    /// Builds every model that can be built now, one after the other on this thread, calling `progress` with each one's
    /// name, and answers with how many became live. A model whose build fails is marked failed; the others go on.
    pub fn build_ready(&mut self, progress: &mut dyn FnMut(&plan::TableName)) -> Result<usize> {
        let mut built = 0;
        while let Some(mut build) = self.next_build()? {
            progress(build.name());
            loop {
                let outcome = build.run();
                match self.finish_build(build, outcome)? {
                    Finished::Again(again) => build = *again,
                    Finished::Live(_) => {
                        built += 1;
                        break;
                    }
                    Finished::Failed(..) | Finished::Dropped => break,
                }
            }
        }
        Ok(built)
    }

    /// States of the catalogue that hold half a build: dropped at the start.
    pub(crate) fn drop_unfinished(&mut self) {
        let is_derived = |kind| matches!(kind, Kind::State | Kind::Model | Kind::Index | Kind::Rejects);
        let unfinished = self.catalog.entries().filter(|entry| is_derived(entry.kind) && entry.detail != BUILT);
        let unfinished: Vec<TableId> = unfinished.map(|entry| entry.id).collect();
        for id in unfinished {
            self.catalog.remove(&mut self.setup, id);
        }
    }
}

impl Network {
    fn note_built(&mut self, part: Missing) {
        match part {
            Missing::Table(_) => {}
            Missing::Node(node) => self.graph.nodes[node].built = true,
            Missing::Rejects(node, _) => self.graph.nodes[node].rejects_built = true,
            Missing::Arrangement(node, table) => {
                let kept = &mut self.graph.nodes[node].arrangements;
                let is_it = |kept: &&mut crate::graph::KeptArrangement| kept.arrangement.buckets.table == table;
                kept.iter_mut().filter(is_it).for_each(|kept| kept.built = true);
            }
            Missing::Index(relation, table) => {
                let stored = self.relations.get_mut(&relation);
                let indexes = stored.into_iter().flat_map(|stored| stored.indexes.iter_mut());
                indexes.filter(|index| index.buckets.table == table).for_each(|index| index.built = true);
            }
        }
    }
}

impl Build {
    /// The model's name.
    pub fn name(&self) -> &plan::TableName {
        &self.builder.network.models[self.model].name
    }

    /// How often it was begun again, since what had changed meanwhile was too much to catch up with.
    pub fn begun_again(&self) -> u64 {
        self.begun_again
    }

    /// What ends the build soon when it is set.
    pub fn cancel(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.builder.cancelled)
    }

    /// Fills the states, if they are not filled yet, and catches up until little is left. Where it cannot, the engine has it begin
    /// again, with tables as they are then.
    pub fn run(&mut self) -> Result<()> {
        if !self.is_filled {
            self.builder.begin()?;
            self.builder.fill(&self.missing)?;
            self.is_filled = true;
        }
        for _ in 0..ROUNDS_MAX {
            if !self.builder.catch_up(self.model)? {
                break;
            }
        }
        Ok(())
    }
}

fn is_rows(input: &Input) -> bool {
    match input {
        Input::Rows(_, batch) => !batch.tables.iter().any(|(_, changes)| changes.has_unread(0)),
        _ => false,
    }
}

impl Builder {
    pub(crate) fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// States as of the build's snapshot, its own as they are filled so far.
    pub(crate) fn states(&self) -> States<'_> {
        let Settings { workers: shards, shard_rows_min, .. } = self.settings;
        // It cuts its work into portions itself.
        States { snapshot: &self.view, hot: self.store.hot(), shards, shard_rows_min, bounds: Bounds::NONE }
    }

    pub(crate) fn view(&self) -> &Snapshot {
        &self.view
    }

    /// Takes what readers see now for what it builds from.
    fn begin_from_now(&mut self) {
        self.base = self.store.snapshot();
        self.begun = self.base.step();
        self.store.retain_from(self.base.step() + 1);
        self.place = None;
    }

    fn begin(&mut self) -> Result<()> {
        self.counted.clear();
        self.rows = 0;
        self.refresh();
        self.clear()
    }

    fn refresh(&mut self) {
        self.view = self.base.beside(&self.store.working(), &self.own);
    }

    /// Empties the build's own tables: what an attempt before this one left is not built upon.
    fn clear(&mut self) -> Result<()> {
        for &table in Arc::clone(&self.own).iter() {
            loop {
                let mut writes = Writes::new();
                for entry in self.view.scan(table, &[]).take(CLEARED_MAX) {
                    writes.delete(table, &entry?.0);
                }
                if writes.is_empty() {
                    break;
                }
                self.commit(writes)?;
            }
        }
        Ok(())
    }

    /// An error where the build is to end: asked at each portion, since one that only gathers commits nothing for long.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Acquire) { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn commit(&mut self, writes: Writes) -> Result<()> {
        self.go_on()?;
        if !writes.is_empty() {
            self.store.commit_beside(writes)?;
            self.refresh();
        }
        Ok(())
    }

    /// Indexes first: they depend on nothing but their tables. Then nodes, inputs first, each with its arrangements: the
    /// rows of one are made of what those below it keep. What was rejected on the way is known then, but for what only
    /// look-ups met.
    fn fill(&mut self, missing: &BTreeSet<Missing>) -> Result<()> {
        let mut parts: Vec<Missing> = missing.iter().copied().collect();
        let last = self.network.graph.nodes.len();
        parts.sort_by_key(|part| match *part {
            Missing::Table(_) | Missing::Index(..) => (0, 0),
            Missing::Node(node) => (1 + node, 0),
            Missing::Arrangement(node, _) => (1 + node, 1),
            Missing::Rejects(node, _) => (1 + last + node, 0),
        });
        for part in parts {
            let network = Arc::clone(&self.network);
            match part {
                Missing::Index(relation, table) => self.build_index(relation, table)?,
                Missing::Node(node) => network.graph.nodes[node].rule.build(node, &network.graph.nodes[node], self)?,
                Missing::Arrangement(node, table) => self.build_arrangement(node, table)?,
                Missing::Rejects(node, _) if !self.counted.contains(&node) => {
                    self.pour(node, &mut |_, _| Ok(()))?;
                }
                Missing::Rejects(..) | Missing::Table(_) => {}
            }
        }
        Ok(())
    }

    /// Whether the build fills this table.
    pub(crate) fn owns(&self, table: TableId) -> bool {
        self.own.contains(&table)
    }

    fn build_index(&mut self, relation: TableId, table: TableId) -> Result<()> {
        let network = Arc::clone(&self.network);
        let stored = &network.relations[&relation];
        let Some(index) = stored.indexes.iter().find(|index| index.buckets.table == table) else { return Ok(()) };
        let mut rows = Rows::new();
        let mut scan = self.view.scan(relation, &[]);
        loop {
            let next = scan.next().transpose()?;
            if let Some((_, value)) = &next {
                rows.push(stored.row_of(value)?.0);
            }
            let is_full =
                rows.len() >= self.settings.build_rows_max || rows.byte_len() >= self.settings.build_bytes_max;
            if is_full || next.is_none() {
                let changes = stored.index_changes(index, &rows, std::iter::repeat_n(1, rows.len()));
                self.portion(|_, states, writes| index.buckets.apply(Some(states), changes, writes))?;
                rows = Rows::new();
            }
            if next.is_none() {
                return Ok(());
            }
        }
    }

    fn build_arrangement(&mut self, node: NodeIndex, table: TableId) -> Result<()> {
        let network = Arc::clone(&self.network);
        let kept = network.graph.nodes[node].arrangements.iter().find(|kept| kept.arrangement.buckets.table == table);
        let Some(kept) = kept else { return Ok(()) };
        self.pour(node, &mut |builder, delta| {
            builder.portion(|_, states, writes| kept.arrangement.apply(&delta, Some(states), writes))
        })
    }

    /// Groups and multisets gather in memory, as a hash aggregation would, and are written when they are many and at the
    /// end.
    pub(crate) fn build_aggregate(&mut self, aggregate: &AggregateOp, input: NodeIndex) -> Result<()> {
        let mut accumulation = aggregate.accumulation();
        let mut is_first = true;
        self.pour(input, &mut |builder, delta| {
            accumulation.add(&delta, None)?;
            if accumulation.bytes() < builder.settings.build_bytes_max {
                return Ok(());
            }
            let full = std::mem::replace(&mut accumulation, aggregate.accumulation());
            builder.write_groups(full, std::mem::take(&mut is_first))
        })?;
        self.write_groups(accumulation, is_first)
    }

    fn write_groups(&mut self, accumulation: Accumulation<'_>, is_first: bool) -> Result<()> {
        self.portion(|_, states, writes| {
            // Nothing is there yet: nothing needs to be read.
            let states = if is_first { None } else { Some(states) };
            accumulation.finish(states, writes).map(|_| ())
        })
    }

    pub(crate) fn build_relation(&mut self, input: NodeIndex, relation: TableId) -> Result<()> {
        let network = Arc::clone(&self.network);
        let stored = &network.relations[&relation];
        let mut total = 0_i64;
        self.pour(input, &mut |builder, delta| {
            let (delta, rows) = if stored.is_keyed() {
                let rows = relation::columns::encode(&stored.layout, &delta.batch)?;
                (delta, rows)
            } else {
                delta.consolidate_encoded(&stored.layout)?
            };
            total += delta.weights.iter().sum::<i64>();
            // Its indexes are other parts of a build.
            let keeps = |_: &Index| false;
            builder.portion(|_, states, writes| {
                stored.write_net(&rows, &delta.weights, &mut Keeping { states, keeps: &keeps, writes })
            })
        })?;
        self.rows = total;
        Ok(())
    }

    /// Writes a part of a build: rules read the state as the parts before left it.
    pub(crate) fn portion(&mut self, write: impl FnOnce(&Self, States<'_>, &mut Writes) -> Result<()>) -> Result<()> {
        let mut writes = Writes::new();
        write(self, self.states(), &mut writes)?;
        self.commit(writes)
    }

    /// Takes in what the steps have changed since the build's snapshot; false when so little is left that the engine does
    /// it between two steps.
    fn catch_up(&mut self, model: usize) -> Result<bool> {
        self.go_on()?;
        let target = self.store.snapshot();
        let known = self.place;
        let left = self.left_until(target.step(), Budget::beside_steps())?.ok_or(Error::CannotCatchUp)?;
        let Some(changes) = left.changes else { return Ok(false) };
        let rows: usize = changes.iter().map(|change| change.rows.len()).sum();
        if rows <= LAST_ROWS_MAX && left.bytes <= LAST_BYTES_MAX / 2 {
            // They are read once more.
            self.place = known;
            return Ok(false);
        }
        let writes = self.run(&changes, model)?;
        self.store.commit_beside(writes)?;
        self.base = target;
        self.store.retain_from(self.base.step() + 1);
        self.refresh();
        Ok(true)
    }

    /// What steps after the build's snapshot, up to this one, have changed in tables that it reads; none where that is beyond
    /// a budget, and then nothing of it was taken.
    fn left_until(&mut self, step: u64, mut budget: Budget) -> Result<Option<Left>> {
        if step <= self.base.step() {
            return Ok(Some(Left { changes: None, bytes: 0 }));
        }
        let known = self.place;
        match self.changes_until(step, &mut budget) {
            Ok(changes) => Ok(Some(Left { changes: Some(changes), bytes: budget.read })),
            Err(error) => {
                self.place = known;
                if budget.is_exceeded { Ok(None) } else { Err(error) }
            }
        }
    }

    fn changes_until(&mut self, step: u64, budget: &mut Budget) -> Result<Vec<Change>> {
        let mut inputs: Vec<Input> = Vec::new();
        let mut chains = false;
        let mut records = self.store.replay_from(self.base.step(), self.place)?;
        loop {
            self.place = records.place();
            let Some((at, record)) = records.next().transpose()? else { break };
            if at > step {
                break;
            }
            match inputs_of(Record::decode(&record)?)? {
                Logged::Inputs(more) => self.take_read(more, record.len(), &mut inputs, budget)?,
                Logged::Chain(note) => {
                    chains = true;
                    // Tables that were begun to be loaded again among its parts.
                    if note.void.iter().any(|table| self.read.contains(table)) {
                        return Err(Error::CannotCatchUp);
                    }
                    for piece in self.store.read_stage(StageId(note.stage))? {
                        self.go_on()?;
                        let piece = piece?;
                        self.take_read(inputs_of_piece(&piece)?, piece.len(), &mut inputs, budget)?;
                    }
                }
            }
        }
        self.is_disturbed |= !inputs.iter().all(is_rows);
        if chains {
            self.normalise(&mut inputs, budget)?;
        }
        Ok(changes_of_inputs(inputs))
    }

    /// Takes of inputs, which took so many bytes, those of the tables that the build reads.
    fn take_read(&self, more: Vec<Input>, bytes: usize, inputs: &mut Vec<Input>, budget: &mut Budget) -> Result<()> {
        budget.read(bytes)?;
        let before = inputs.len();
        inputs.extend(more.into_iter().filter_map(|input| input.of_tables(&self.read)));
        if inputs.len() > before { budget.keep(bytes) } else { Ok(()) }
    }

    /// What a chain brings was normalised by its steps, which are in no record: here it is once more, as one step.
    fn normalise(&self, inputs: &mut Vec<Input>, budget: &mut Budget) -> Result<()> {
        for input in inputs.iter() {
            let Input::Rows(_, batch) = input else { continue };
            for (id, _) in batch.tables.iter().filter(|(_, changes)| changes.truncated) {
                for entry in self.view.scan(*id, &[]) {
                    budget.keep(entry?.1.len())?;
                }
            }
        }
        if self.is_disturbed {
            return Err(Error::CannotCatchUp);
        }
        self.network.normalise(inputs, self.states())?;
        // It parks a table by an input more.
        if inputs.iter().all(is_rows) { Ok(()) } else { Err(Error::CannotCatchUp) }
    }

    /// Runs the rules of what the model stands on over changes since the snapshot, and answers with what they write into
    /// the build's own tables. Errors: a rule failed.
    fn run(&mut self, changes: &[Change], model: usize) -> Result<Writes> {
        let model: &Model = &self.network.models[model];
        let nodes: BTreeSet<NodeIndex> = self.network.graph.ancestors(model.sink).into_iter().collect();
        let scope = Scope::Build { nodes: &nodes, own: &self.own };
        let states = States { bounds: self.settings.bounds, ..self.states() };
        let effects = self.network.run(states, changes, scope, self.base.step())?;
        let failed = effects.parked_nodes.into_iter().map(|(_, reason)| reason);
        let failed = failed.chain(effects.parked_tables.into_iter().map(|(_, reason)| reason)).next();
        if let Some(reason) = failed {
            return Err(Error::Query(reason));
        }
        let relation = model.relation;
        for change in effects.relations.iter().filter(|change| change.id == relation) {
            self.rows += change.inserted.cast_signed() - change.deleted.cast_signed();
        }
        Ok(effects.writes)
    }
}

/// Entries that are deleted at a time.
const CLEARED_MAX: usize = 50_000;
/// Bytes of log records, and of rows that a chain deletes, beyond which a build begins again instead of catching up with them
/// at once.
const CAUGHT_UP_BYTES_MAX: usize = 1 << 30;

/// How much is caught up with at once.
#[derive(Clone, Copy)]
struct Budget {
    /// Bytes read, and kept in memory until all of them are, so far.
    read: usize,
    kept: usize,
    read_max: usize,
    kept_max: usize,
    is_exceeded: bool,
    /// What is beyond it is not caught up with at all.
    is_last: bool,
}

impl Budget {
    /// Of a thread for which nobody waits.
    fn beside_steps() -> Self {
        let (read_max, kept_max) = (usize::MAX, CAUGHT_UP_BYTES_MAX);
        Self { read: 0, kept: 0, read_max, kept_max, is_exceeded: false, is_last: true }
    }

    /// Of the thread that the steps run on.
    fn between_steps() -> Self {
        let (read_max, kept_max) = (LAST_BYTES_MAX, LAST_BYTES_MAX);
        Self { read: 0, kept: 0, read_max, kept_max, is_exceeded: false, is_last: false }
    }

    fn read(&mut self, bytes: usize) -> Result<()> {
        self.read = self.read.saturating_add(bytes);
        self.check()
    }

    fn keep(&mut self, bytes: usize) -> Result<()> {
        self.kept = self.kept.saturating_add(bytes);
        self.check()
    }

    fn check(&mut self) -> Result<()> {
        self.is_exceeded = self.read > self.read_max || self.kept > self.kept_max;
        if self.is_exceeded { Err(Error::CannotCatchUp) } else { Ok(()) }
    }
}
