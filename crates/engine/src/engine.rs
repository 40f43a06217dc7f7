//! The engine's own facts: sources, tables, models, and how they come back after a restart.

use std::collections::{BTreeMap, BTreeSet};

use plan::{Flow, TableName};
use relation::{Position, Schema, TableId};
use store::{Catalog, Kind, Record, Snapshot, Store, Writes};

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeIndex, Surroundings, model_relation};
use crate::operator::States;
use crate::states::{BUILT, StateCatalog};
use crate::step::StepReport;
use crate::stored::Stored;

/// How the engine runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads for a large delta.
    pub workers: usize,
    /// Runs the building queries.
    pub runtime: tokio::runtime::Handle,
    /// Rows that are written at a time in a build.
    pub build_rows_max: usize,
    /// Bytes of groups that gather in memory in a build before they are written.
    pub build_bytes_max: usize,
    /// Changed rows of each relation that a step's report shows.
    pub report_rows_max: usize,
}

impl Settings {
    /// Defaults on a runtime.
    pub fn new(workers: usize, runtime: tokio::runtime::Handle) -> Self {
        Self { workers, runtime, build_rows_max: 100_000, build_bytes_max: 64 << 20, report_rows_max: 0 }
    }
}

/// How far a table's first load is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// Changes are normalised against what is stored; the source goes on from the cursor.
    Loading {
        cursor: Option<Vec<u8>>,
    },
    Complete,
    /// Followed from a position of the log, without a load: rows from before are not there, so changes are normalised
    /// for ever. Models may be built over it.
    Partial,
    /// Not followed any more, and why.
    Parked {
        reason: String,
    },
}

/// A table of a source.
#[derive(Debug, Clone)]
pub struct SourceTable {
    pub id: TableId,
    pub source: u32,
    pub name: TableName,
    pub load: Load,
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
#[derive(Debug)]
pub struct Model {
    pub name: TableName,
    pub flow: Flow,
    pub relation: TableId,
    pub state: ModelState,
    pub sink: NodeIndex,
    /// Where each node of the flow stands in the graph.
    pub(crate) placed: Vec<NodeIndex>,
}

/// Source tables, models and the graph between them, over one store.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) catalog: Catalog,
    pub(crate) settings: Settings,
    pub(crate) queries: std::sync::Arc<query::Runtime>,
    pub(crate) sources: BTreeMap<u32, (String, Position)>,
    pub(crate) tables: BTreeMap<TableId, SourceTable>,
    pub(crate) relations: BTreeMap<TableId, Stored>,
    pub(crate) rows: BTreeMap<TableId, i64>,
    pub(crate) graph: Graph,
    pub(crate) models: Vec<Model>,
    pub(crate) facts: TableId,
    pub(crate) rejects: TableId,
    pub(crate) step: u64,
    /// What the set-up wrote, until the first step takes it along.
    pub(crate) setup: Writes,
    /// Where a step's record is encoded: kept from step to step, since fresh memory costs more than the encoding.
    pub(crate) log_buffer: Vec<u8>,
    /// Tables were registered that no log record may name before the catalogue is folded.
    must_fold: bool,
    /// States that a failed build left half filled.
    pub(crate) unfinished: BTreeSet<TableId>,
}

/// Whether a step's record is written, or was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logging {
    Appended,
    Replayed,
}

impl Engine {
    /// Opens what the store holds. Follow with [`Engine::register_source`], [`Engine::register_table`] and
    /// [`Engine::set_models`] for what the project has now, then [`Engine::recover`].
    pub fn open(store: Store, queries: std::sync::Arc<query::Runtime>, settings: Settings) -> Result<Self> {
        let snapshot = store.snapshot();
        let mut catalog = Catalog::load(&snapshot)?;
        let mut writes = Writes::new();
        let mut own = |kind, name: &str| match catalog.by_name(kind, name) {
            Some(entry) => entry.id,
            None => catalog.allocate(&mut writes, kind, name, name, &Schema::default(), BUILT),
        };
        let facts = own(Kind::State, "facts");
        let rejects = own(Kind::Rejects, "rejects");
        let mut engine = Self {
            step: snapshot.step(),
            store,
            catalog,
            settings,
            queries,
            sources: BTreeMap::new(),
            tables: BTreeMap::new(),
            relations: BTreeMap::new(),
            rows: BTreeMap::new(),
            graph: Graph::default(),
            models: Vec::new(),
            facts,
            rejects,
            setup: Writes::new(),
            log_buffer: Vec::new(),
            must_fold: false,
            unfinished: BTreeSet::new(),
        };
        engine.defer(writes);
        engine.drop_unfinished();
        engine.load_facts()?;
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
                    self.relations.insert(entry.id, Stored::new(entry.id, entry.schema.clone()));
                    let table = self.table_of(&entry)?;
                    self.tables.insert(entry.id, table);
                }
                _ => {}
            }
            if let Some(rows) = self.fact("rows", entry.id)? {
                let rows = rows.as_slice().try_into().map_or(0, i64::from_le_bytes);
                self.rows.insert(entry.id, rows);
            }
        }
        Ok(())
    }

    fn table_of(&self, entry: &store::catalog::Entry) -> Result<SourceTable> {
        let load = match self.fact("load", entry.id)?.as_deref() {
            None | Some([]) => Load::Loading { cursor: None },
            Some([1, ..]) => Load::Complete,
            Some([3, ..]) => Load::Partial,
            Some([2, reason @ ..]) => Load::Parked { reason: String::from_utf8_lossy(reason).into_owned() },
            Some([_, cursor @ ..]) => Load::Loading { cursor: Some(cursor.to_vec()) },
        };
        let (schema, name) = entry.name.split_once('\0').unwrap_or(("", &entry.name));
        Ok(SourceTable {
            id: entry.id,
            source: entry.detail.parse().unwrap_or(0),
            name: TableName::new(schema, name),
            load,
            snapshot_rows: 0,
            snapshot_rows_total: 0,
        })
    }

    pub(crate) fn fact(&self, name: &str, id: TableId) -> Result<Option<Vec<u8>>> {
        let value = self.store.snapshot().get(self.facts, &fact_key(name, id))?;
        Ok(value.map(|v| v.to_vec()))
    }

    /// Sets aside what the set-up writes: it travels in the first step, so that it takes no step's number. A record that
    /// is replayed must keep its own number, or a fold in between would cover records that were not replayed yet.
    fn defer(&mut self, writes: Writes) {
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

    /// A table of a source, new or known. A table whose columns changed is a new incarnation: it is loaded again.
    ///
    /// Call before [`Engine::recover`], or with the log wholly folded.
    pub fn register_table(&mut self, source: u32, name: &TableName, schema: &Schema) -> Result<TableId> {
        let label = format!("{}\0{}", name.schema, name.name);
        let mut writes = Writes::new();
        if let Some(entry) = self.catalog.by_name(Kind::Table, &label) {
            if entry.schema == *schema && entry.detail == source.to_string() {
                return Ok(entry.id);
            }
            let old = entry.id;
            self.catalog.remove(&mut writes, old);
            self.tables.remove(&old);
            self.relations.remove(&old);
        }
        let id = self.catalog.allocate(&mut writes, Kind::Table, &label, &label, schema, &source.to_string());
        self.defer(writes);
        self.must_fold = true;
        self.relations.insert(id, Stored::new(id, schema.clone()));
        let load = Load::Loading { cursor: None };
        let table = SourceTable { id, source, name: name.clone(), load, snapshot_rows: 0, snapshot_rows_total: 0 };
        self.tables.insert(id, table);
        Ok(id)
    }

    /// The models to keep, each after those it reads. States whose identity is known are kept, others will be built by
    /// [`Engine::build_ready`]; states that no model has any more are dropped.
    ///
    /// A model that cannot be set up is answered with its error; the others are kept.
    pub fn set_models(&mut self, definitions: Vec<ModelDefinition>) -> Result<Vec<(TableName, Error)>> {
        let mut writes = Writes::new();
        let mut wanted = BTreeSet::new();
        let mut refused = Vec::new();
        for definition in definitions {
            let name = definition.name.clone();
            if let Err(error) = self.add_model(definition, &mut writes, &mut wanted) {
                refused.push((name, error));
            }
        }
        let garbage: Vec<TableId> = self
            .catalog
            .entries()
            .filter(|e| matches!(e.kind, Kind::State | Kind::Model | Kind::Index))
            .map(|e| e.id)
            .filter(|id| *id != self.facts && !wanted.contains(id))
            .collect();
        for id in garbage {
            self.catalog.remove(&mut writes, id);
        }
        self.defer(writes);
        self.graph.refresh_active();
        Ok(refused)
    }

    fn add_model(
        &mut self,
        definition: ModelDefinition,
        writes: &mut Writes,
        wanted: &mut BTreeSet<TableId>,
    ) -> Result<()> {
        let number = self.models.len();
        let name = definition.name.clone();
        let (tables, models) = (&self.tables, &self.models);
        let resolve = |wanted: &TableName| {
            let model = models.iter().find(|m| m.name == *wanted).map(|m| (m.relation, Some(m.sink)));
            model.or_else(|| tables.values().find(|t| t.name == *wanted).map(|t| (t.id, None)))
        };
        let mut states = StateCatalog { catalog: &mut self.catalog, writes, wanted };
        let mut around = Surroundings { relations: &mut self.relations, resolve: &resolve, states: &mut states };
        let placed = self.graph.add(number, &name, &definition.flow, &mut around)?;
        let output = placed[definition.flow.output.0];
        let identity = format!("model {name} {}", self.graph.nodes[output].identity);
        let (relation, built) = {
            let known = self.catalog.by_identity(&identity).map(|entry| (entry.id, entry.detail == BUILT));
            known.unwrap_or_else(|| {
                let schema = model_relation(&definition.schema);
                let label = format!("{}\0{}", name.schema, name.name);
                (self.catalog.allocate(writes, Kind::Model, &label, &identity, &schema, "building"), false)
            })
        };
        wanted.insert(relation);
        let schema = model_relation(&definition.schema);
        self.relations.insert(relation, Stored::new(relation, schema));
        let sink = self.graph.add_sink(number, &name, output, definition.flow.output, relation);
        self.graph.nodes[sink].built = built;
        let state = ModelState::Building;
        self.models.push(Model { name, flow: definition.flow, relation, state, sink, placed });
        self.refresh_model(number);
        Ok(())
    }

    /// A model is live when everything it stands on is built and its tables are complete.
    pub(crate) fn refresh_model(&mut self, number: usize) {
        let model = &self.models[number];
        if matches!(model.state, ModelState::Parked { .. } | ModelState::Failed { .. }) {
            return;
        }
        let live = self.graph.nodes[model.sink].built && self.missing(model.sink).is_empty();
        self.models[number].state = if live { ModelState::Live } else { ModelState::Building };
    }

    /// Replays the log's tail, and answers with the number of steps replayed. What was registered is durable afterwards:
    /// log records may only name tables that are.
    pub fn recover(&mut self) -> Result<u64> {
        let mut replayed = 0;
        for entry in self.store.replay()? {
            let (step, bytes) = entry?;
            let record = Record::decode(&bytes)?;
            self.run_step(step, record.batches, Logging::Replayed)?;
            replayed += 1;
        }
        self.commit_unlogged(Writes::new())?;
        if self.must_fold {
            self.store.fold_now()?;
            self.must_fold = false;
        }
        Ok(replayed)
    }

    /// One step of whole transactions: durable, then visible.
    pub fn step(&mut self, batches: Vec<(u32, relation::SourceBatch)>) -> Result<StepReport> {
        self.run_step(self.step + 1, batches, Logging::Appended)
    }

    /// Follows a table from a position of the log, without a first load.
    pub fn follow_without_load(&mut self, id: TableId) {
        if let Some(table) = self.tables.get_mut(&id)
            && table.load == (Load::Loading { cursor: None })
        {
            table.load = Load::Partial;
            self.setup.put(self.facts, &fact_key("load", id), &[3]);
        }
    }

    /// Stops following a table; everything else goes on.
    pub fn park_table(&mut self, id: TableId, reason: &str) -> Result<()> {
        let Some(table) = self.tables.get_mut(&id) else { return Ok(()) };
        table.load = Load::Parked { reason: reason.to_owned() };
        let mut writes = Writes::new();
        let value = [&[2], reason.as_bytes()].concat();
        writes.put(self.facts, &fact_key("load", id), &value);
        self.commit_unlogged(writes)
    }

    /// The states that rules read, as of a snapshot.
    pub(crate) fn states<'a>(&'a self, snapshot: &'a Snapshot) -> States<'a> {
        States { snapshot, hot: self.store.hot(), shards: self.settings.workers }
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

    /// The tables of all sources.
    pub fn tables(&self) -> impl Iterator<Item = &SourceTable> {
        self.tables.values()
    }

    /// A source's table by number.
    pub fn table(&self, id: TableId) -> Option<&SourceTable> {
        self.tables.get(&id)
    }

    /// A relation's stored form.
    pub fn relation(&self, id: TableId) -> Option<&Stored> {
        self.relations.get(&id)
    }

    /// The graph between tables and models.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Where rejected rows are kept: see [`Engine::rejects`].
    pub fn rejects_table(&self) -> TableId {
        self.rejects
    }

    /// The models in the order of their dependence.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Rows of a relation.
    pub fn row_count(&self, id: TableId) -> i64 {
        self.rows.get(&id).copied().unwrap_or(0)
    }

    /// What queries may read now: tables, live models, and why the others cannot be.
    pub fn readable(&self, search_path: Vec<String>) -> query::Catalog {
        let mut catalog = query::Catalog::new(search_path);
        let mut add = |name: &TableName, id: TableId| {
            let stored = &self.relations[&id];
            let form = if stored.is_keyed() { query::Form::Keyed } else { query::Form::Bag };
            catalog.add_table(query::StoredTable { name: name.clone(), id, schema: stored.schema.clone(), form });
            catalog.set_rows(id, u64::try_from(self.row_count(id)).unwrap_or(0));
        };
        self.tables.values().for_each(|table| add(&table.name, table.id));
        let live = self.models.iter().filter(|m| m.state == ModelState::Live);
        live.for_each(|model| add(&model.name, model.relation));
        for model in &self.models {
            match &model.state {
                ModelState::Live => {}
                ModelState::Building => {
                    catalog.add_unavailable(model.name.clone(), format!("model \"{}\" is being built", model.name.name))
                }
                ModelState::Parked { reason } => {
                    catalog.add_unavailable(
                        model.name.clone(),
                        format!("model \"{}\" is parked: {reason}", model.name.name),
                    );
                }
                ModelState::Failed { reason } => {
                    catalog.add_unavailable(
                        model.name.clone(),
                        format!("model \"{}\" could not be built: {reason}", model.name.name),
                    );
                }
            }
        }
        catalog
    }
}

/// The key of a fact about a table or source.
pub(crate) fn fact_key(name: &str, id: TableId) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}
