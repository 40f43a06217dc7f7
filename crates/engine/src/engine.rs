//! The engine's own facts: sources, tables, models, and how they come back after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::{Flow, TableName};
use relation::{Position, Schema, TableId};
use store::{Catalog, Kind, Record, Snapshot, StageId, Store, Writes};

use crate::chain::{Chain, Staging};
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeIndex};
use crate::input::{ChainNote, Logged, inputs_of};
use crate::load::Load;
use crate::network::{Network, edit};
use crate::operator::{Bounds, States};
use crate::outbox::Outbox;
use crate::reload::marks_identity;
use crate::states::BUILT;
use crate::step::{PARKED, StepReport, Visible, fact_key};
use crate::stored::Stored;
use crate::versions::Versions;

/// How the engine runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads for a large delta.
    pub workers: usize,
    /// Rows from which it is split among them: a row costs some microseconds, a thread some tens.
    pub shard_rows_min: usize,
    /// Runs the building queries.
    pub runtime: tokio::runtime::Handle,
    /// Rows that are written at a time in a build.
    pub build_rows_max: usize,
    /// Bytes of groups that gather in memory in a build before they are written.
    pub build_bytes_max: usize,
    /// What one application of a rule may come to in a step.
    pub bounds: Bounds,
    /// Rows of a table up to which a truncation is part of one step; beyond, as many are deleted in each step of a chain.
    pub emptied_rows_max: usize,
    /// Changed rows of each relation that a step's report shows.
    pub report_rows_max: usize,
    /// Rows and marks that one portion of a sweep looks at.
    pub sweep_rows_max: usize,
}

impl Settings {
    /// Defaults on a runtime.
    pub fn new(workers: usize, runtime: tokio::runtime::Handle) -> Self {
        Self {
            workers,
            shard_rows_min: 1_024,
            runtime,
            build_rows_max: 100_000,
            build_bytes_max: 64 << 20,
            bounds: Bounds { pairs: 50_000_000, bytes: 256 << 20 },
            emptied_rows_max: 50_000,
            report_rows_max: 0,
            sweep_rows_max: 20_000,
        }
    }
}

/// A table of a source.
#[derive(Debug, Clone)]
pub struct SourceTable {
    pub id: TableId,
    pub source: u32,
    pub name: TableName,
    pub load: Load,
    /// Whether it waits beside the table of its name, whose columns are others, to take its place
    /// ([`Engine::tables_to_come`]).
    pub is_coming: bool,
    /// Where the keys are marked that it was brought since its load began again.
    pub(crate) marks: Option<TableId>,
    /// Rows loaded by the snapshot, and as many as the source estimates.
    pub snapshot_rows: u64,
    pub snapshot_rows_total: u64,
}

/// A model to be kept.
#[derive(Debug, Clone)]
pub struct ModelDefinition {
    pub name: TableName,
    pub flow: Flow,
    pub schema: Schema,
}

/// What a model is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelState {
    /// Its tables are loading, or its states are being built.
    Building,
    /// It is built when something below it is there that will not come by itself: a table that was parked before it was loaded
    /// whole, or a model that is parked or could not be built. The reason names it.
    Waiting {
        reason: String,
    },
    Live,
    Parked {
        reason: String,
    },
    /// It could not be built.
    Failed {
        reason: String,
    },
}

/// A kept model.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: TableName,
    pub flow: Arc<Flow>,
    pub schema: Schema,
    pub relation: TableId,
    pub state: ModelState,
    pub sink: NodeIndex,
    /// Where each node of the flow stands in the graph.
    pub(crate) placed: Vec<NodeIndex>,
    /// All that is stored for it: states, indexes, its relation. Other models may stand on some of it too.
    pub(crate) tables: BTreeSet<TableId>,
}

/// Source tables, models and the graph between them, over one store.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) catalog: Catalog,
    pub(crate) settings: Settings,
    pub(crate) queries: Arc<query::Runtime>,
    pub(crate) network: Arc<Network>,
    pub(crate) versions: Versions,
    /// How often the nodes of these identities were begun again.
    pub(crate) again: BTreeMap<String, u64>,
    pub(crate) sources: BTreeMap<u32, (String, Position)>,
    pub(crate) rows: BTreeMap<TableId, i64>,
    /// Rows of tables that their sources could not decode, where there are any.
    pub(crate) rejected: BTreeMap<TableId, u64>,
    /// Both as readers see them, while the steps of a chain do not show yet.
    pub(crate) shown: Option<Shown>,
    /// States for the marks of tables that are about to be loaded again.
    pub(crate) fresh_marks: BTreeMap<TableId, TableId>,
    pub(crate) facts: TableId,
    /// Rows that sources could not decode.
    pub(crate) rejects: TableId,
    pub(crate) step: u64,
    /// What the set-up wrote, until the first step takes it along.
    pub(crate) setup: Writes,
    /// Where a step's record is encoded: kept from step to step, since fresh memory costs more than the encoding.
    pub(crate) log_buffer: Vec<u8>,
    /// Tables were registered that no log record may name before the catalogue is folded.
    pub(crate) must_fold: bool,
    /// Whether the log's tail has been replayed.
    pub(crate) recovered: bool,
    /// Transactions that come in parts, by their source.
    pub(crate) staging: BTreeMap<u32, Staging>,
    /// A chain whose stage is whole, and of which the log does not know yet.
    pub(crate) sealed: Option<ChainNote>,
    pub(crate) chain: Option<Chain>,
    /// What a chain did that was run to its end out of its turn.
    pub(crate) settled: Option<StepReport>,
    /// Stages whose chains have ended, and the step with which they did.
    pub(crate) finished_stages: Vec<(StageId, u64)>,
    /// The model that a build is under way for.
    pub(crate) building: Option<usize>,
    /// By their names.
    pub(crate) outboxes: BTreeMap<String, Outbox>,
    /// What an outbox follows was set aside to be written, and no step may come to take it along.
    pub(crate) has_aimed: bool,
    /// The last step that has no record in the log.
    unlogged: u64,
    /// Tables that contradicted themselves in the inputs of a step that the store has not taken yet, and how.
    pub(crate) contradicted: Vec<(TableId, String)>,
    /// Tables whose rows contradicted what is stored, and the last step in which they did.
    pub(crate) left_out: BTreeMap<TableId, u64>,
    /// Those of them of which no record says yet that they are parked, and why.
    pub(crate) unsaid: BTreeMap<TableId, String>,
}

/// What is counted, as of the step before a chain.
pub(crate) struct Shown {
    pub(crate) rows: BTreeMap<TableId, i64>,
    pub(crate) rejected: BTreeMap<TableId, u64>,
}

impl Engine {
    /// Opens what the store holds. Follow with [`Engine::register_source`], [`Engine::register_table`] and
    /// [`Engine::set_models`] for what the project has now, then [`Engine::recover`].
    pub fn open(store: Store, queries: Arc<query::Runtime>, settings: Settings) -> Result<Self> {
        let snapshot = store.working();
        let mut catalog = Catalog::load(&snapshot)?;
        let mut writes = Writes::new();
        let mut own = |kind, name: &str| match catalog.by_name(kind, name) {
            Some(entry) => entry.id,
            None => catalog.allocate(&mut writes, kind, name, name, &Schema::default(), BUILT),
        };
        let facts = own(Kind::State, "facts");
        let rejects = own(Kind::Rejects, "rejects");
        let network = Network {
            graph: Graph::default(),
            relations: BTreeMap::new(),
            tables: BTreeMap::new(),
            models: Vec::new(),
            report_rows_max: settings.report_rows_max,
        };
        let mut engine = Self {
            step: snapshot.step(),
            store,
            catalog,
            settings,
            queries,
            network: Arc::new(network),
            versions: Versions::default(),
            again: BTreeMap::new(),
            sources: BTreeMap::new(),
            rows: BTreeMap::new(),
            rejected: BTreeMap::new(),
            shown: None,
            fresh_marks: BTreeMap::new(),
            facts,
            rejects,
            setup: Writes::new(),
            log_buffer: Vec::new(),
            must_fold: false,
            recovered: false,
            staging: BTreeMap::new(),
            sealed: None,
            chain: None,
            settled: None,
            finished_stages: Vec::new(),
            building: None,
            outboxes: BTreeMap::new(),
            has_aimed: false,
            unlogged: 0,
            contradicted: Vec::new(),
            left_out: BTreeMap::new(),
            unsaid: BTreeMap::new(),
        };
        engine.defer(writes);
        engine.drop_unfinished();
        engine.load_facts()?;
        engine.load_versions()?;
        engine.load_outboxes()?;
        engine.chain = engine.load_chain()?;
        Ok(engine)
    }

    fn load_facts(&mut self) -> Result<()> {
        let entries: Vec<_> = self.catalog.entries().cloned().collect();
        for entry in entries {
            match entry.kind {
                Kind::Source => {
                    let position = self.fact("position", entry.id)?.unwrap_or_default();
                    let position = Position(String::from_utf8_lossy(&position).into_owned());
                    self.sources.insert(entry.id.0, (entry.name.clone(), position));
                }
                Kind::Table => {
                    let table = self.table_of(&entry)?;
                    let network = edit(&mut self.network);
                    network.relations.insert(entry.id, Stored::new(entry.id, entry.schema.clone()));
                    network.tables.insert(entry.id, table);
                }
                _ => {}
            }
            if let Some(rows) = self.fact("rows", entry.id)? {
                let rows = rows.as_slice().try_into().map_err(|_| damaged_fact("the number of rows"))?;
                self.rows.insert(entry.id, i64::from_le_bytes(rows));
            }
            if let Some(rejected) = self.fact("rejected", entry.id)? {
                let rejected = rejected.as_slice().try_into().map_err(|_| damaged_fact("the number of rejects"))?;
                self.rejected.insert(entry.id, u64::from_le_bytes(rejected));
            }
        }
        self.rejected.retain(|_, count| *count > 0);
        Ok(())
    }

    fn table_of(&self, entry: &store::catalog::Entry) -> Result<SourceTable> {
        let load = Load::from_bytes(&self.fact("load", entry.id)?.unwrap_or_default())?;
        let marks = load.again().and_then(|_| self.catalog.by_identity(&marks_identity(entry.id)));
        // Of two of a name the older one serves.
        let mut of_name = self.catalog.entries().filter(|other| other.kind == Kind::Table && other.name == entry.name);
        let (schema, name) = entry.name.split_once('\0').unwrap_or(("", &entry.name));
        Ok(SourceTable {
            id: entry.id,
            source: entry.detail.parse().map_err(|_| damaged_fact("the source of a table"))?,
            name: TableName::new(schema, name),
            is_coming: of_name.any(|other| other.id < entry.id),
            marks: marks.map(|entry| entry.id),
            load,
            snapshot_rows: 0,
            snapshot_rows_total: 0,
        })
    }

    pub(crate) fn fact(&self, name: &str, id: TableId) -> Result<Option<Vec<u8>>> {
        let value = self.store.working().get(self.facts, &fact_key(name, id))?;
        Ok(value.map(|v| v.to_vec()))
    }

    /// Sets aside what the set-up writes: it travels in the first step, so that it takes no step's number. A record that
    /// is replayed must keep its own number, or a fold in between would cover records that were not replayed yet. It is kept
    /// until the store has it: what was decided between two steps holds, whichever commit takes it along.
    pub(crate) fn defer(&mut self, writes: Writes) {
        self.setup.append(writes);
    }

    /// The number of a source, new or known by its name.
    pub fn register_source(&mut self, name: &str) -> Result<u32> {
        if let Some(entry) = self.catalog.by_name(Kind::Source, name) {
            return Ok(entry.id.0);
        }
        let mut writes = Writes::new();
        let id = self.catalog.allocate(&mut writes, Kind::Source, name, name, &Schema::default(), "");
        self.defer(writes);
        self.must_fold = true;
        self.sources.insert(id.0, (name.to_owned(), Position::default()));
        Ok(id.0)
    }

    /// Commits what was registered since [`Engine::recover`], and answers with the step that has it: the log may name the
    /// new tables once that step is folded.
    pub fn registered_step(&mut self) -> Result<u64> {
        self.commit_unlogged(Writes::new())?;
        self.must_fold = false;
        Ok(self.step)
    }

    /// Replays the log's tail, and answers with the number of steps replayed. What was registered is durable afterwards:
    /// log records may only name tables that are.
    pub fn recover(&mut self) -> Result<u64> {
        self.recover_telling(|_, _| ())
    }

    /// The same, telling how many bytes of the log are behind it, and of how many.
    pub fn recover_telling(&mut self, mut told: impl FnMut(u64, u64)) -> Result<u64> {
        self.drop_unwanted();
        self.load_parked()?;
        let mut replayed = 0;
        // A chain that was under way when the last fold was made ends before what the log has behind it.
        if self.chain.is_some() {
            self.finish_chain()?;
            replayed += 1;
        }
        let mut replay = self.store.replay()?;
        while let Some(entry) = replay.next() {
            let (read, of) = replay.progress();
            told(read, of);
            let (step, bytes) = entry?;
            match inputs_of(Record::decode(&bytes)?)? {
                Logged::Inputs(inputs) => {
                    self.replay_step(step, inputs)?;
                }
                Logged::Chain(note) => self.replay_chain(step, note)?,
            }
            replayed += 1;
        }
        self.recovered = true;
        self.freeze_altered();
        self.aim_outboxes();
        self.commit_unlogged(Writes::new())?;
        if self.must_fold {
            self.store.fold_when_there_is_room()?;
            self.must_fold = false;
        }
        self.drop_other_stages()?;
        Ok(replayed)
    }

    /// Stages that no chain of this folder needs any more.
    fn drop_other_stages(&self) -> Result<()> {
        for stage in self.store.stages() {
            if !self.finished_stages.iter().any(|(known, _)| *known == stage) {
                self.store.drop_stage(stage)?;
            }
        }
        Ok(())
    }

    /// What was parked when the last fold was made.
    fn load_parked(&mut self) -> Result<()> {
        for entry in self.store.working().scan(self.facts, PARKED) {
            let (key, reason) = entry?;
            let identity = String::from_utf8_lossy(&key[PARKED.len()..]).into_owned();
            let node = self.network.graph.nodes.iter().position(|node| node.wanted && node.identity == identity);
            match node {
                Some(node) => {
                    self.park_node(node, &String::from_utf8_lossy(&reason));
                }
                None => self.setup.delete(self.facts, &key),
            }
        }
        Ok(())
    }

    /// Follows a table from a position of the log, without a first load.
    pub fn follow_without_load(&mut self, id: TableId) {
        if let Some(table) = edit(&mut self.network).tables.get_mut(&id)
            && table.load == (Load::Loading { cursor: None })
        {
            table.load = Load::Partial;
            self.setup.put(self.facts, &fact_key("load", id), &Load::Partial.to_bytes());
        }
    }

    /// Commits a step without a record, with what the set-up left to be written.
    pub(crate) fn commit_unlogged(&mut self, writes: Writes) -> Result<()> {
        self.settle()?;
        if self.setup.is_empty() && writes.is_empty() {
            return Ok(());
        }
        self.commit_with_setup(self.step + 1, writes, Visible::Now)?;
        self.unlogged = self.step;
        Ok(())
    }

    /// Commits a step with what the set-up left to be written. Where the store does not take it, nothing has happened: what
    /// the set-up left is left still.
    pub(crate) fn commit_with_setup(&mut self, step: u64, writes: Writes, visible: Visible) -> Result<()> {
        let mut all = self.setup.clone();
        all.append(writes);
        match visible {
            Visible::Now => self.store.commit(step, all)?,
            Visible::Later => self.store.commit_hidden(step, all)?,
        }
        self.setup = Writes::new();
        self.step = step;
        Ok(())
    }

    /// Whether something was built or put in place that a restart would do again: it is in no record, and not folded yet.
    pub fn has_unlogged(&self) -> bool {
        self.store.folded_step() < self.unlogged
    }

    /// The states that rules read, as of a snapshot.
    pub(crate) fn states<'a>(&'a self, snapshot: &'a Snapshot) -> States<'a> {
        let Settings { workers: shards, shard_rows_min, bounds, .. } = self.settings;
        States { snapshot, hot: self.store.hot(), shards, shard_rows_min, bounds }
    }

    /// The step that readers see.
    pub fn current_step(&self) -> u64 {
        self.step
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A source's number.
    pub fn source(&self, name: &str) -> Option<u32> {
        self.sources.iter().find(|(_, (known, _))| known == name).map(|(id, _)| *id)
    }

    /// Numbers and names of the sources.
    pub fn sources(&self) -> impl Iterator<Item = (u32, &str)> {
        self.sources.iter().map(|(id, (name, _))| (*id, name.as_str()))
    }

    /// Where a source stands.
    pub fn position(&self, source: u32) -> Option<&Position> {
        self.sources.get(&source).map(|(_, position)| position).filter(|p| !p.0.is_empty())
    }

    /// Where a source stood at the step of a snapshot.
    pub fn positions(&self) -> Positions {
        Positions { facts: self.facts }
    }

    /// The tables of all sources, as they serve.
    pub fn tables(&self) -> impl Iterator<Item = &SourceTable> {
        self.network.tables.values().filter(|table| !table.is_coming)
    }

    /// A source's table by number.
    pub fn table(&self, id: TableId) -> Option<&SourceTable> {
        self.network.tables.get(&id)
    }

    /// A relation's stored form.
    pub fn relation(&self, id: TableId) -> Option<&Stored> {
        self.network.relations.get(&id)
    }

    /// The graph between tables and models.
    pub fn graph(&self) -> &Graph {
        &self.network.graph
    }

    /// Rows of a relation, as readers see it.
    pub fn row_count(&self, id: TableId) -> i64 {
        let rows = self.shown.as_ref().map_or(&self.rows, |shown| &shown.rows);
        rows.get(&id).copied().unwrap_or(0)
    }

    /// The same after the last step, which may not show yet.
    pub(crate) fn rows_now(&self, id: TableId) -> i64 {
        self.rows.get(&id).copied().unwrap_or(0)
    }

    /// What queries may read now: tables that have been whole, live models, and why the others cannot be.
    pub fn readable(&self, search_path: Vec<String>) -> query::Catalog {
        let mut catalog = query::Catalog::new(search_path);
        for table in self.tables() {
            self.network.make_readable(&mut catalog, &table.name, table.id);
            catalog.set_rows(table.id, u64::try_from(self.row_count(table.id)).unwrap_or(0));
            if !table.load.was_whole() {
                let unavailable = match table.load.unloaded() {
                    Some(reason) => format!("table {} is parked and was never loaded: {reason}", table.name),
                    None => format!("table {} is being loaded", table.name),
                };
                let unavailable = query::Error::not_ready(unavailable).hint("Its state is in tidemill.tables.");
                catalog.add_unavailable(table.name.clone(), unavailable);
            }
        }
        for model in self.models() {
            let name = &model.name.name;
            let unavailable = match &model.state {
                ModelState::Live => {
                    self.network.make_readable(&mut catalog, &model.name, model.relation);
                    catalog.set_rows(model.relation, u64::try_from(self.row_count(model.relation)).unwrap_or(0));
                    continue;
                }
                ModelState::Building => format!("model \"{name}\" is being built"),
                ModelState::Waiting { reason } | ModelState::Parked { reason } => {
                    format!("model \"{name}\" is parked: {reason}")
                }
                ModelState::Failed { reason } => format!("model \"{name}\" could not be built: {reason}"),
            };
            let unavailable = query::Error::not_ready(unavailable).hint("Its state is in tidemill.models.");
            catalog.add_unavailable(model.name.clone(), unavailable);
        }
        catalog
    }
}

/// Reads where sources stood: for who holds a snapshot and not the engine.
#[derive(Debug, Clone, Copy)]
pub struct Positions {
    facts: TableId,
}

impl Positions {
    /// Where a source stood at the step of a snapshot; none before its first batch.
    pub fn at(self, snapshot: &Snapshot, source: u32) -> Result<Option<Position>> {
        let value = snapshot.get(self.facts, &fact_key("position", TableId(source)))?;
        Ok(value.map(|text| Position(String::from_utf8_lossy(&text).into_owned())))
    }
}

impl Network {
    /// Shows a stored relation to queries.
    pub(crate) fn make_readable(&self, catalog: &mut query::Catalog, name: &TableName, id: TableId) {
        let Some(stored) = self.relations.get(&id) else { return };
        let form = if stored.is_keyed() { query::Form::Keyed } else { query::Form::Bag };
        catalog.add_table(query::StoredTable { name: name.clone(), id, schema: stored.schema.clone(), form });
    }
}

fn damaged_fact(what: &'static str) -> Error {
    Error::Store(store::Error::Decode { what, reason: "the fact is not as it was written" })
}
