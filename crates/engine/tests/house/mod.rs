//! An engine over a store of its own, driven by a story: what comes about, act by act.
//!
//! A story is what a case file tells and what a random walk makes up, so that a walk that fails is printed as a case. A
//! [`House`] plays it, and knows the laws that hold after every act: models equal the batch engine's answer over the
//! tables, what can be live is live, and ([`states`]) every state equals its rebuild.

#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod delivery;
mod flaky;
pub(crate) mod states;
pub(crate) mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::operator::Bounds;
use engine::{Coming, Engine, Input, Load, ModelDefinition, ModelState, Settings};
use futures::StreamExt;
use plan::{Planned, TableInfo, TableName};
use relation::{ChunkDone, Layout, Position, Schema, SourceBatch, TableId, TransactionPart, Unread, Value};

use flaky::Flaky;
use story::{Act, Batch, Change, Piece};

/// A table whose name ends so has a source that tells what becomes of a key, and not what was there.
const BY_KEY: &str = "_by_key";

/// The schema of all tables and models.
pub(crate) const SCHEMA: &str = "public";

/// Stored entries of relations.
type Entries = Vec<(TableId, Vec<u8>, Vec<u8>)>;

/// Rows of every model, as text, sorted.
pub(crate) type Contents = BTreeMap<String, Vec<String>>;

/// What houses share: threads and the memory of queries.
#[derive(Clone)]
pub(crate) struct Host {
    runtime: Arc<tokio::runtime::Runtime>,
    queries: Arc<query::Runtime>,
}

impl Host {
    pub(crate) fn new() -> Result<Self, String> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().map_err(|e| e.to_string())?;
        let queries = query::Runtime::new(&query::Settings::default()).map_err(|e| e.to_string())?;
        Ok(Self { runtime: Arc::new(runtime), queries })
    }
}

/// How a house plays a story.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    pub(crate) workers: usize,
    /// A restart after every step.
    pub(crate) restart: bool,
    /// Models are built after the last act.
    pub(crate) build_last: bool,
    /// Portions of a build are one row.
    pub(crate) in_rows: bool,
    /// What was built is folded at once, as an instance does; a restart without it builds again.
    pub(crate) fold_built: bool,
    /// So many steps go on between a build's beginning, its run and its end; 0: none.
    pub(crate) beside: usize,
    /// Every batch without chunks comes in parts.
    pub(crate) parts: bool,
    /// Rows of a table from which it is emptied by a chain.
    pub(crate) emptied_rows_max: usize,
    /// What a rule may come to in one step.
    pub(crate) bounds: Bounds,
    /// A restart before the last part of every transaction, and after every second step within a chain.
    pub(crate) killed: bool,
    /// Every so many operations of log and stages the disk is full, and what is taken is tried again; 0: never.
    pub(crate) full_every: u64,
    /// A restart forgets the version before, so that the states are those of what serves alone.
    pub(crate) forgets_before: bool,
}

impl Default for Mode {
    fn default() -> Self {
        Self {
            workers: 1,
            restart: false,
            build_last: false,
            in_rows: false,
            fold_built: false,
            beside: 0,
            parts: false,
            emptied_rows_max: 50_000,
            bounds: Bounds { pairs: 50_000_000, bytes: 256 << 20 },
            killed: false,
            full_every: 0,
            forgets_before: false,
        }
    }
}

/// A store, an engine over it, and the plans of its models.
pub(crate) struct House {
    dir: tempfile::TempDir,
    host: Host,
    engine: Option<Engine>,
    tables: Vec<(String, Schema)>,
    /// Tables that load by chunks of the story's own.
    loading: BTreeSet<String>,
    models: Vec<(String, String)>,
    /// Plans of the first models: of the version that serves.
    plans: Vec<(TableName, Planned)>,
    /// All versions, the first one before anything was proposed; a version's label is its place.
    versions: Vec<Vec<(TableName, Planned)>>,
    /// The place of the one that is wanted: proposed last, or gone back to.
    wanted_version: usize,
    /// Whether the newest version was put in place since the engine was opened.
    swapped: bool,
    mode: Mode,
    offset: u64,
    /// How the store touches its files, if not as usual.
    files: Option<Arc<dyn store::files::Files>>,
    /// Those, where they are full now and then.
    flaky: Option<Arc<Flaky>>,
    /// What each thread of the store does first whose work nobody waits for.
    behind: fn(),
    /// Steps within chains, and transactions in parts that came twice, so far.
    links: usize,
    staged: usize,
    /// Steps since builds go on beside them.
    steps: usize,
    /// Number of the part of a transaction that came last.
    part: u32,
    /// A build that is under way, and how its run came out.
    build: Option<(engine::Build, Option<engine::Result<()>>)>,
    /// Outboxes by their names, with what is at the other side of each.
    pub(crate) deliveries: BTreeMap<String, delivery::Delivery>,
    /// When the last outbox was set up.
    pub(crate) life: i64,
}

impl House {
    /// A house that has heard nothing yet.
    pub(crate) fn new(host: &Host, mode: Mode) -> Result<Self, String> {
        // A walk syncs thousands of steps: in memory where there is such a place.
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let flaky = (mode.full_every > 0).then(|| Arc::new(Flaky::new(mode.full_every)));
        Ok(Self {
            dir: dir.map_err(|e| e.to_string())?,
            host: host.clone(),
            engine: None,
            tables: Vec::new(),
            loading: BTreeSet::new(),
            models: Vec::new(),
            plans: Vec::new(),
            versions: Vec::new(),
            wanted_version: 0,
            swapped: false,
            mode,
            offset: 0,
            files: flaky.clone().map(|files| files as Arc<dyn store::files::Files>),
            flaky,
            behind: || (),
            links: 0,
            staged: 0,
            steps: 0,
            part: 0,
            build: None,
            deliveries: BTreeMap::new(),
            life: 0,
        })
    }

    /// Has the store touch its files in another way.
    pub(crate) fn use_files(&mut self, files: Arc<dyn store::files::Files>) {
        self.files = Some(files);
    }

    /// Has the threads of the store do this first whose work nobody waits for, from the next opening on.
    pub(crate) fn set_behind(&mut self, behind: fn()) {
        self.behind = behind;
    }

    /// Another house with the same tables and models, over what is in this one's folder at this moment.
    pub(crate) fn copied(&mut self) -> Result<Self, String> {
        let mut house = Self::new(&self.host, self.mode)?;
        house.tables.clone_from(&self.tables);
        house.loading.clone_from(&self.loading);
        house.models.clone_from(&self.models);
        house.offset = self.offset;
        copy(self.dir.path(), house.dir.path()).map_err(|e| e.to_string())?;
        house.reopen()?;
        Ok(house)
    }

    /// How many batches the source has sent: the position of the last is the number of it.
    pub(crate) fn sent(&self) -> u64 {
        self.offset
    }

    /// Whether the last batch that the source has sent was taken.
    pub(crate) fn is_at_what_was_sent(&mut self) -> bool {
        let at = self.offset.to_string();
        let engine = self.engine();
        engine.source("test").and_then(|source| engine.position(source)).is_some_and(|position| position.0 == at)
    }

    /// Another setting from the next opening on.
    pub(crate) fn set_emptied_rows_max(&mut self, rows: usize) {
        self.mode.emptied_rows_max = rows;
    }

    /// Definitions of models over the tables, under their names.
    pub(crate) fn definitions(&self, models: &[(&str, &str)]) -> Result<Vec<ModelDefinition>, String> {
        let names = Names::new(&self.tables);
        let planned = models.iter().map(|(name, sql)| {
            let Planned { flow, schema, .. } = plan::plan_model(sql, &names).map_err(|e| format!("{name}: {e}"))?;
            Ok(ModelDefinition { name: TableName::new(SCHEMA, *name), flow, schema })
        });
        planned.collect()
    }

    /// Plays one act.
    pub(crate) fn act(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Table { name, schema, loading } => {
                self.tables.push((name.clone(), schema.clone()));
                if *loading {
                    self.loading.insert(name.clone());
                }
                Ok(())
            }
            Act::Model { name, sql } => {
                match self.models.iter_mut().find(|(known, _)| known == name) {
                    Some((_, told)) => told.clone_from(sql),
                    None => self.models.push((name.clone(), sql.clone())),
                }
                Ok(())
            }
            Act::Altered { name, schema } => self.altered(name, schema),
            Act::Propose => self.propose_anew(),
            Act::Load(rows) => self.begin(rows),
            Act::Step(batches) => self.step(batches),
            Act::Chain(parts) => self.chain(parts),
            Act::Outbox { name, words } => self.attach_words(name, words),
            Act::Deliver { name, rows } => self.deliver(name, *rows).map(|_| ()),
            Act::Portion { name, rows, fate } => self.portion(name, *rows, fate).map(|_| ()),
            Act::Tell { name, word } => self.tell(name, word),
            Act::Rollback => self.rollback(),
            Act::Fold => self.fold(),
            Act::Restart { folded } => self.restart(*folded),
        }
    }

    /// Opens the house, if it is not open, and loads tables that do not load by themselves.
    pub(crate) fn begin(&mut self, rows: &[Change]) -> Result<(), String> {
        if self.engine.is_none() {
            self.open()?;
        }
        self.load(rows)?;
        if self.mode.build_last { Ok(()) } else { self.build() }
    }

    /// Begins with empty tables where the story has loaded none.
    pub(crate) fn begun(&mut self) -> Result<(), String> {
        if self.engine.is_none() { self.begin(&[]) } else { Ok(()) }
    }

    fn open(&mut self) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        if self.versions.is_empty() {
            self.plan()?;
        }
        let behind = self.behind;
        let options = store::Options { cache_bytes: 8 << 20, hot_bytes: 8 << 20, behind, ..store::Options::default() };
        let store = match &self.files {
            Some(files) => store::Store::open_with_files(self.dir.path(), options, Arc::clone(files)),
            None => store::Store::open(self.dir.path(), options),
        };
        let store = store.map_err(|e| text(&e))?;
        let mut settings = Settings::new(self.mode.workers, self.host.runtime.handle().clone());
        settings.sweep_rows_max = SWEPT_EACH;
        // What is split where there is much of it is split however little there is.
        settings.shard_rows_min = 2;
        if self.mode.in_rows {
            (settings.build_rows_max, settings.build_bytes_max) = (1, 1);
        }
        settings.emptied_rows_max = self.mode.emptied_rows_max;
        settings.bounds = self.mode.bounds;
        let mut engine = Engine::open(store, Arc::clone(&self.host.queries), settings).map_err(|e| text(&e))?;
        let source = engine.register_source("test").map_err(|e| text(&e))?;
        for (name, schema) in &self.tables {
            engine.register_table(source, &TableName::new(SCHEMA, name), schema).map_err(|e| text(&e))?;
        }
        let label = engine.serving_label().map_err(|e| text(&e))?.unwrap_or_default();
        if !self.versions.is_empty() {
            self.plans = self.versions.get(version_of(&label)).ok_or("a version of an unknown label")?.clone();
        }
        let refused = engine.set_version(definitions(&self.plans), label).map_err(|e| text(&e))?;
        if let Some((name, error)) = refused.first() {
            return Err(format!("{name}: {error}"));
        }
        if let (Some(label), false) = (engine.before_label().map_err(|e| text(&e))?, self.mode.forgets_before) {
            let before = self.versions.get(version_of(&label)).ok_or("a version of an unknown label")?;
            engine.set_before(definitions(before), label);
        }
        engine.recover().map_err(|e| text(&e))?;
        let label = engine.serving_label().map_err(|e| text(&e))?.unwrap_or_default();
        let serves_wanted = version_of(&label) == self.wanted_version;
        self.engine = Some(engine);
        self.swapped = false;
        self.attach_again()?;
        if serves_wanted { Ok(()) } else { self.propose() }
    }

    /// The models of the version that is wanted, and its label.
    fn wanted_models(&self) -> Result<(Vec<(TableName, Planned)>, Vec<u8>), String> {
        let models = self.versions.get(self.wanted_version).ok_or("there is no version")?.clone();
        Ok((models, vec![u8::try_from(self.wanted_version).map_err(|e| e.to_string())?]))
    }

    /// What serves is what is wanted, whatever was proposed.
    fn want_what_serves(&mut self) -> Result<(), String> {
        let label = self.engine().serving_label().map_err(|e| e.to_string())?.unwrap_or_default();
        self.wanted_version = version_of(&label);
        Ok(())
    }

    /// A table has other columns from here on.
    fn altered(&mut self, name: &str, schema: &Schema) -> Result<(), String> {
        self.begun()?;
        let (id, _) = self.table(name)?;
        // So it is found from here on, whenever the engine is opened again.
        self.loading.insert(name.to_owned());
        let told = self.tables.iter_mut().find(|(known, _)| known == name).ok_or_else(|| format!("no table {name}"))?;
        told.1 = schema.clone();
        self.take(vec![Input::Altered { table: id, reason: "alter table".to_owned(), at_us: 1 }])?;
        let engine = self.engine();
        let source = engine.register_source("test").map_err(|e| e.to_string())?;
        let id = engine.register_table(source, &TableName::new(SCHEMA, name), schema).map_err(|e| e.to_string())?;
        engine.registered_step().map_err(|e| e.to_string())?;
        self.fold()?;
        // Its columns are again what they were.
        if self.engine().table(id).is_some_and(|table| matches!(table.load, Load::Altered { .. })) {
            self.take(vec![Input::Reload { table: id, reason: "as before".to_owned(), at_us: 2 }])?;
        }
        Ok(())
    }

    /// Plans all models as they were told of last, over the tables as they will be.
    fn propose_anew(&mut self) -> Result<(), String> {
        self.begun()?;
        if self.versions.is_empty() {
            self.versions.push(self.plans.clone());
        }
        let mut names = Names::new(&self.tables);
        let mut plans = Vec::new();
        for (name, sql) in &self.models {
            let planned = plan::plan_model(sql, &names).map_err(|e| format!("{name}: {e}"))?;
            names.add(name, &planned.schema);
            plans.push((TableName::new(SCHEMA, name), planned));
        }
        self.versions.push(plans);
        self.wanted_version = self.versions.len() - 1;
        self.propose()?;
        if self.mode.build_last { Ok(()) } else { self.build() }
    }

    /// Puts the version before in place again; a second time, the one that this has taken back.
    pub(crate) fn rollback(&mut self) -> Result<(), String> {
        self.begun()?;
        if !self.engine().rollback().map_err(|e| e.to_string())? {
            return Ok(());
        }
        self.want_what_serves()?;
        self.plans = self.wanted_models()?.0;
        self.swapped = true;
        // It is in no record of the log; who asked for it is answered when it is folded.
        self.fold()
    }

    fn propose(&mut self) -> Result<(), String> {
        let (wanted, label) = self.wanted_models()?;
        let (_, refused) = self.engine().propose(definitions(&wanted), label).map_err(|e| e.to_string())?;
        match refused.first() {
            Some((name, error)) => Err(format!("{name}: {error}")),
            None => Ok(()),
        }
    }

    /// Puts what is ready in place.
    fn swap(&mut self) -> Result<(), String> {
        match self.engine().coming() {
            Coming::Ready => {}
            Coming::Nothing | Coming::Building { .. } => return Ok(()),
            Coming::Failed(failed) => {
                let is_unloaded = |table: &engine::SourceTable| matches!(table.load, Load::Parked { whole: false, .. });
                if !self.engine().tables_to_come().any(is_unloaded) {
                    return Err(format!("coming: {failed:?}"));
                }
                // A model that serves would wait in vain: what serves goes on.
                self.engine().withdraw();
                return self.want_what_serves();
            }
        }
        if !self.engine().swap().map_err(|e| e.to_string())? {
            return Err("what is ready is not put in place".to_owned());
        }
        self.plans = self.wanted_models()?.0;
        self.swapped = true;
        if self.mode.fold_built { self.fold() } else { Ok(()) }
    }

    /// Tables that serve as they were, since their columns have changed.
    pub(crate) fn altered_tables(&mut self) -> BTreeSet<String> {
        let tables = self.engine().tables_to_come().filter(|table| table.is_coming);
        tables.map(|table| table.name.name.clone()).collect()
    }

    /// Whether parts of a transaction have come and not the last one: after a restart it would be read again from the first.
    pub(crate) fn is_in_parts(&self) -> bool {
        self.part > 0
    }

    /// Whether models were put in place since the engine was opened, or wait for that.
    pub(crate) fn is_between_versions(&mut self) -> bool {
        self.swapped || self.engine().coming() != Coming::Nothing
    }

    /// Plans the models that are not planned yet.
    fn plan(&mut self) -> Result<(), String> {
        let mut names = Names::new(&self.tables);
        self.plans.iter().for_each(|(name, planned)| names.add(&name.name, &planned.schema));
        for (name, sql) in &self.models[self.plans.len()..] {
            let planned = plan::plan_model(sql, &names).map_err(|e| format!("{name}: {e}"))?;
            names.add(name, &planned.schema);
            self.plans.push((TableName::new(SCHEMA, name), planned));
        }
        Ok(())
    }

    /// Drops the engine and opens it again: without a fold, what was not folded comes back out of the log. Tables and
    /// models that were told of meanwhile are there from now on.
    pub(crate) fn restart(&mut self, folded: bool) -> Result<(), String> {
        if folded {
            self.fold()?;
        }
        self.reopen()?;
        self.load(&[])?;
        if self.mode.build_last { Ok(()) } else { self.build() }
    }

    /// The engine is dropped and opened again, and nothing else.
    pub(crate) fn reopen(&mut self) -> Result<(), String> {
        self.build = None;
        // What they know goes with the process, and so does what they hold of the folder.
        self.drop_readers();
        self.engine = None;
        self.open()
    }

    pub(crate) fn fold(&mut self) -> Result<(), String> {
        self.engine().store().fold_now().map_err(|e| e.to_string())
    }

    pub(crate) fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("a house that was begun")
    }

    fn table(&mut self, name: &str) -> Result<(TableId, Schema), String> {
        let wanted = TableName::new(SCHEMA, name);
        let engine = self.engine();
        let table = engine.tables_to_come().find(|t| t.name == wanted).ok_or_else(|| format!("no table {name}"))?;
        let id = table.id;
        let stored = engine.relation(id).ok_or_else(|| format!("no rows of {name}"))?;
        Ok((id, stored.schema.clone()))
    }

    /// Loads tables whole that do not load by chunks of the story, table by table, a step each, as a source does.
    fn load(&mut self, rows: &[Change]) -> Result<(), String> {
        for (name, _) in self.tables.clone() {
            let (id, _) = self.table(&name)?;
            let is_new = self.engine().table(id).is_some_and(|table| table.load == Load::Loading { cursor: None });
            if !is_new || self.loading.contains(&name) {
                continue;
            }
            let rows = rows.iter().filter(|change| change.table == name).map(|change| change.values.clone());
            let chunk = Piece::Chunk { table: name.clone(), rows: rows.collect(), unread: Vec::new(), complete: true };
            self.run(&[vec![chunk]])?;
        }
        Ok(())
    }

    /// One step of some batches of the source; what can be built afterwards is built.
    pub(crate) fn step(&mut self, batches: &[Batch]) -> Result<(), String> {
        self.begun()?;
        let completed = self.run(batches)?;
        self.build_after(completed)
    }

    /// A transaction that comes in parts.
    pub(crate) fn chain(&mut self, parts: &[Batch]) -> Result<(), String> {
        self.begun()?;
        let completed = self.run_parts(parts)?;
        self.build_after(completed)
    }

    fn build_after(&mut self, completed: bool) -> Result<(), String> {
        if self.mode.beside > 0 {
            self.steps += 1;
            return if self.steps.is_multiple_of(self.mode.beside) { self.build_on().map(|_| ()) } else { Ok(()) };
        }
        if completed && !self.mode.build_last { self.build() } else { Ok(()) }
    }

    fn run(&mut self, batches: &[Batch]) -> Result<bool, String> {
        let mut inputs = Vec::new();
        let mut changed = false;
        for batch in batches {
            let mut pieces = Batch::new();
            for piece in batch {
                match piece {
                    Piece::Row(_) | Piece::Unread { .. } | Piece::Truncate(_) | Piece::Chunk { .. } => {
                        pieces.push(piece.clone());
                    }
                    Piece::Part { is_last } => {
                        self.part += 1;
                        let part = TransactionPart { number: self.part, is_last: *is_last };
                        inputs.push(self.as_part(&std::mem::take(&mut pieces), part)?);
                        if *is_last {
                            self.part = 0;
                        }
                    }
                    Piece::Sweep { whole: true, .. } => {
                        changed |= self.rows(&std::mem::take(&mut pieces), &mut inputs)?;
                        changed |= self.take(std::mem::take(&mut inputs))?;
                        changed |= self.sweep_whole(piece)?;
                    }
                    other => {
                        changed |= self.rows(&std::mem::take(&mut pieces), &mut inputs)?;
                        inputs.push(self.input_of(other)?);
                    }
                }
            }
            changed |= self.rows(&pieces, &mut inputs)?;
        }
        Ok(self.take(inputs)? | changed)
    }

    /// Rows and chunks of a batch, behind the inputs that are gathered so far: one more input, or the parts of a transaction.
    fn rows(&mut self, pieces: &Batch, inputs: &mut Vec<Input>) -> Result<bool, String> {
        if pieces.is_empty() {
            return Ok(false);
        }
        if self.mode.parts && !pieces.iter().any(|piece| matches!(piece, Piece::Chunk { .. })) {
            let changed = self.take(std::mem::take(inputs))?;
            return Ok(self.run_parts(&story::in_parts(pieces))? | changed);
        }
        inputs.push(self.input(pieces)?);
        Ok(false)
    }

    /// Sweeps a table until there is nothing left of it to sweep.
    fn sweep_whole(&mut self, piece: &Piece) -> Result<bool, String> {
        let (table, _) = self.table(piece.table().ok_or("a piece without a table")?)?;
        let is_swept =
            |engine: &mut Engine| engine.table(table).is_none_or(|table| !matches!(table.load, Load::Sweeping { .. }));
        let mut changed = false;
        while !is_swept(self.engine()) {
            changed |= self.take(vec![Input::Sweep { table }])?;
        }
        Ok(changed)
    }

    fn run_parts(&mut self, parts: &[Batch]) -> Result<bool, String> {
        let mut completed = false;
        if self.mode.killed && parts.len() > 1 {
            // Some parts come, then the source reads the transaction again.
            self.staged += 1;
            for at in 0..self.staged % parts.len() {
                let input = self.part(parts, at)?;
                self.take(vec![input])?;
            }
            self.restart(self.staged.is_multiple_of(2))?;
        }
        for at in 0..parts.len() {
            let input = self.part(parts, at)?;
            completed |= self.take(vec![input])?;
        }
        Ok(completed)
    }

    /// A batch of the source as the engine takes it.
    pub(crate) fn input(&mut self, batch: &Batch) -> Result<Input, String> {
        let source = self.engine().register_source("test").map_err(|e| e.to_string())?;
        Ok(Input::Rows(source, self.source_batch(batch)?))
    }

    /// A part of a transaction.
    pub(crate) fn part(&mut self, parts: &[Batch], at: usize) -> Result<Input, String> {
        let number = u32::try_from(at + 1).map_err(|e| e.to_string())?;
        self.as_part(&parts[at], TransactionPart { number, is_last: at + 1 == parts.len() })
    }

    fn as_part(&mut self, pieces: &[Piece], part: TransactionPart) -> Result<Input, String> {
        let source = self.engine().register_source("test").map_err(|e| e.to_string())?;
        let mut batch = self.source_batch(pieces)?;
        if !part.is_last {
            batch.position = Position::default();
        }
        batch.part = Some(part);
        Ok(Input::Rows(source, batch))
    }

    /// Has the engine take inputs, whole chains included; true where something can be built afterwards. What readers see
    /// does not change within a chain, and a build goes on beside it.
    pub(crate) fn take(&mut self, mut inputs: Vec<Input>) -> Result<bool, String> {
        let mut completed = false;
        let mut seen = None;
        while let Some(report) = self.take_with_patience(&mut inputs)? {
            completed |= !report.completed.is_empty() || !report.parked.is_empty();
            if !self.is_within_chain() {
                seen = None;
                continue;
            }
            let now = self.visible()?;
            if seen.as_ref().is_some_and(|seen| *seen != now) {
                return Err("readers see a part of a transaction".to_owned());
            }
            seen = Some(now);
            self.links += 1;
            if let Some((build, outcome @ None)) = &mut self.build {
                *outcome = Some(build.run());
            }
            if self.mode.killed && self.links % 2 == 1 {
                self.restart(self.links % 4 == 1)?;
                seen = None;
            }
        }
        Ok(completed)
    }

    /// One step, tried until the disk has room for it.
    fn take_with_patience(&mut self, inputs: &mut Vec<Input>) -> Result<Option<engine::StepReport>, String> {
        let flaky = self.flaky.clone();
        for _ in 0..TRIES_MAX {
            flaky.iter().for_each(|disk| disk.set(true));
            let taken = self.engine().take(inputs);
            flaky.iter().for_each(|disk| disk.set(false));
            match taken {
                Err(engine::Error::Store(error))
                    if flaky.is_some() && (error.is_disk_full() || matches!(error, store::Error::Lost { .. })) => {}
                taken => return taken.map_err(|e| e.to_string()),
            }
        }
        Err("it does not get on, though there is room now and then".to_owned())
    }

    /// Whether steps were taken that readers do not see yet.
    pub(crate) fn is_within_chain(&mut self) -> bool {
        let store = self.engine().store();
        store.working().step() != store.snapshot().step()
    }

    /// The step that readers see, the rows of tables and models as they are stored then, and what is told of rows that could
    /// not be read. As many rows of tables are counted as readers see.
    fn visible(&mut self) -> Result<(u64, Entries, Contents), String> {
        self.table_contents()?;
        let unread = self.unread_rows(&BTreeSet::new())?;
        let engine = self.engine();
        let snapshot = engine.store().snapshot();
        let models = engine.models().into_iter().map(|model| model.relation);
        let relations: Vec<TableId> = engine.tables().map(|table| table.id).chain(models).collect();
        let mut entries = Entries::new();
        for relation in relations {
            for entry in snapshot.scan(relation, &[]) {
                let (key, value) = entry.map_err(|e| e.to_string())?;
                entries.push((relation, key.to_vec(), value.to_vec()));
            }
        }
        Ok((snapshot.step(), entries, unread))
    }

    /// What a piece is that is no row.
    fn input_of(&mut self, piece: &Piece) -> Result<Input, String> {
        let (table, _) = self.table(piece.table().ok_or("a piece without a table")?)?;
        Ok(match piece {
            Piece::Reload(_) => Input::Reload { table, reason: "in doubt".to_owned(), at_us: 1 },
            Piece::Park(_) => Input::Park { table, reason: "parked".to_owned() },
            _ => Input::Sweep { table },
        })
    }

    /// A row that could not be read: of a key, or known by what is told of it.
    fn unread(&mut self, table: &str, key: &[String]) -> Result<Unread, String> {
        let (id, schema) = self.table(table)?;
        let columns = schema.key.iter().map(|&k| schema.columns[k].data_type).zip(key);
        let values: Result<Vec<Value>, _> = columns.map(|(t, text)| Value::parse(t, text)).collect();
        let known = self.engine().row_key(id, &values.map_err(|e| e.to_string())?);
        let row = key.join(" ");
        Ok(Unread {
            key: known.filter(|_| !key.is_empty()).unwrap_or_default(),
            image: relation::key::hash128(row.as_bytes()),
            row,
            reason: "unreadable".to_owned(),
            position: "somewhere".to_owned(),
            at_us: 1,
        })
    }

    /// A batch as a source hands it over.
    fn source_batch(&mut self, pieces: &[Piece]) -> Result<SourceBatch, String> {
        self.offset += 1;
        let mut batch = SourceBatch { position: Position(format!("{}", self.offset)), ..SourceBatch::default() };
        for piece in pieces {
            match piece {
                Piece::Row(change) => {
                    let (id, schema) = self.table(&change.table)?;
                    let layout = Layout::new(schema.types());
                    let table = batch.table(id);
                    table.by_key = change.table.ends_with(BY_KEY);
                    let values = parse(&schema, &change.values)?;
                    table.rows.push_values(&layout, &values).map_err(|e| e.to_string())?;
                    table.weights.push(change.weight);
                }
                Piece::Unread { table, key, weight } => {
                    let (id, _) = self.table(table)?;
                    let unread = self.unread(table, key)?;
                    batch.table(id).push_unread(&unread, *weight);
                }
                Piece::Truncate(name) => {
                    let (id, _) = self.table(name)?;
                    *batch.table(id) = relation::TableChanges { truncated: true, ..relation::TableChanges::default() };
                }
                Piece::Chunk { table, rows, unread, complete } => {
                    let (id, schema) = self.table(table)?;
                    let layout = Layout::new(schema.types());
                    let mut chunk = ChunkDone {
                        table: id,
                        cursor: format!("{}", self.offset).into_bytes(),
                        complete: *complete,
                        rows: relation::Rows::new(),
                        unread: relation::Rows::new(),
                        rows_estimate: 0,
                    };
                    for values in rows {
                        let values = parse(&schema, values)?;
                        chunk.rows.push_values(&layout, &values).map_err(|e| e.to_string())?;
                    }
                    for key in unread {
                        let mut bytes = Vec::new();
                        self.unread(table, key)?.write(&mut bytes);
                        chunk.unread.push(&bytes);
                    }
                    batch.chunks.push(chunk);
                }
                other => return Err(format!("not a piece of a batch: {other:?}")),
            }
        }
        Ok(batch)
    }

    /// Builds what can be built, and sees that whatever stands on whole tables is live.
    pub(crate) fn build(&mut self) -> Result<(), String> {
        if self.mode.beside > 0 {
            return self.build_on().map(|_| ());
        }
        self.build_all()
    }

    /// Ends the build that is under way, and makes all others that can be made.
    pub(crate) fn finish_builds(&mut self) -> Result<(), String> {
        while self.mode.beside > 0 && self.build_on()? {}
        self.build_all()
    }

    /// Sweeps whatever waits for it.
    pub(crate) fn finish_sweeps(&mut self) -> Result<(), String> {
        while let Some(table) = self.engine().sweeping() {
            self.take(vec![Input::Sweep { table }])?;
        }
        Ok(())
    }

    /// The next third of a build: its beginning, its run, its end. False when there is nothing to build.
    fn build_on(&mut self) -> Result<bool, String> {
        self.build = match self.build.take() {
            None => self.engine().next_build().map_err(|e| e.to_string())?.map(|build| (build, None)),
            Some((mut build, None)) => {
                let outcome = build.run();
                Some((build, Some(outcome)))
            }
            Some((build, Some(outcome))) => {
                match self.engine().finish_build(build, outcome).map_err(|e| e.to_string())? {
                    engine::Finished::Failed(name, reason) => return Err(format!("{name} failed: {reason}")),
                    engine::Finished::Again(build) => Some((*build, None)),
                    // The next one may begin.
                    engine::Finished::Live(_) | engine::Finished::Dropped => {
                        self.swap()?;
                        return Ok(true);
                    }
                }
            }
        };
        Ok(self.build.is_some())
    }

    fn build_all(&mut self) -> Result<(), String> {
        let built = self.engine().build_ready(&mut |_| {}).map_err(|e| e.to_string())?;
        if built > 0 && self.mode.fold_built {
            self.fold()?;
        }
        self.swap()?;
        self.check_live()
    }

    /// Every model whose tables are loaded is live, and what is coming is in place when all tables are.
    pub(crate) fn check_live(&mut self) -> Result<(), String> {
        let loading =
            |table: &engine::SourceTable| !matches!(table.load, Load::Complete | Load::Parked { whole: true, .. });
        let engine = self.engine();
        let mut waiting: BTreeSet<TableName> = engine.tables().filter(|t| loading(t)).map(|t| t.name.clone()).collect();
        for model in engine.models() {
            if model.flow.tables().iter().any(|table| waiting.contains(*table)) {
                waiting.insert(model.name.clone());
                continue;
            }
            match &model.state {
                ModelState::Live => {}
                ModelState::Building => return Err(format!("{} is not built", model.name)),
                ModelState::Waiting { reason } => return Err(format!("{} waits: {reason}", model.name)),
                ModelState::Failed { reason } => return Err(format!("{} failed: {reason}", model.name)),
                ModelState::Parked { reason } => return Err(format!("{} is parked: {reason}", model.name)),
            }
        }
        let is_whole = engine.tables_to_come().all(|table| table.load == Load::Complete);
        if is_whole && engine.coming() != Coming::Nothing {
            return Err(format!("not put in place: {:?}", engine.coming()));
        }
        Ok(())
    }

    /// Whether all models are live.
    pub(crate) fn all_live(&mut self) -> bool {
        self.engine().models().iter().all(|model| model.state == ModelState::Live)
    }

    fn session(&mut self) -> query::Session {
        let queries = Arc::clone(&self.host.queries);
        let engine = self.engine();
        let catalog = engine.readable(vec![SCHEMA.to_owned()]);
        query::Session::new(engine.store().snapshot(), Arc::new(catalog), queries)
    }

    pub(crate) fn model_rows(&mut self, name: &str) -> Result<Vec<String>, String> {
        let session = self.session();
        let sql = format!("select * from \"{SCHEMA}\".\"{name}\"");
        self.host.runtime.block_on(async {
            let answer = session.sql(&sql).await.map_err(|e| e.to_string())?;
            collect(answer.stream).await
        })
    }

    /// Plans of the models that are live.
    fn live(&mut self) -> Vec<(TableName, Planned)> {
        let engine = self.engine.as_ref().expect("a house that was begun");
        let is_live = |name: &TableName| engine.models().iter().any(|m| m.name == *name && m.state == ModelState::Live);
        self.plans.iter().filter(|(name, _)| is_live(name)).cloned().collect()
    }

    /// What the live models hold.
    pub(crate) fn contents(&mut self) -> Result<Contents, String> {
        let live = self.live();
        live.into_iter().map(|(name, _)| Ok((name.name.clone(), self.model_rows(&name.name)?))).collect()
    }

    /// What the live models ought to hold, by the batch engine.
    pub(crate) fn wanted(&mut self) -> Result<Contents, String> {
        let live = self.live();
        live.into_iter().map(|(name, planned)| Ok((name.name, self.batch_answer(&planned)?))).collect()
    }

    /// The batch engine's answer over the tables. A batch query ends at a failing row, so a model with rejected rows is
    /// answered by its flow with such rows left out.
    fn batch_answer(&mut self, planned: &Planned) -> Result<Vec<String>, String> {
        let session = self.session();
        let whole = self.host.runtime.block_on(async {
            let stream = session.logical(planned.logical.clone()).await.map_err(|e| e.to_string())?;
            collect(stream).await
        });
        whole.or_else(|_| {
            self.host.runtime.block_on(async {
                let isolation = query::Isolation::Rows(Arc::new(|_| {}));
                let flow = session.flow(&planned.flow, planned.flow.output, &isolation).await;
                collect(flow.map_err(|e| e.to_string())?).await
            })
        })
    }

    /// Every live model, as a reader sees it, equals the batch engine's answer.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.check_by(&|house, name| house.model_rows(name))
    }

    /// Every live model, as it is stored, equals the batch engine's answer: without a query for each, much faster.
    pub(crate) fn check_stored(&mut self) -> Result<(), String> {
        self.check_by(&|house, name| {
            let engine = house.engine();
            let relation = engine.models().iter().find(|model| model.name.name == name).map(|model| model.relation);
            let relation = relation.ok_or_else(|| format!("no model {name}"))?;
            house.stored_rows(name, relation)
        })
    }

    /// As many rows are counted as there are, too.
    fn check_by(&mut self, kept: &dyn Fn(&mut Self, &str) -> Result<Vec<String>, String>) -> Result<(), String> {
        for (name, planned) in self.live() {
            let kept = kept(self, &name.name)?;
            let batch = self.batch_answer(&planned)?;
            if kept != batch {
                let (kept, batch) = (Contents::from([(name.name.clone(), kept)]), Contents::from([(name.name, batch)]));
                return Err(format!("kept (+) against batch (-):\n{}", difference(&batch, &kept)));
            }
            let engine = self.engine();
            let relation = engine.models().iter().find(|m| m.name == name).map(|m| m.relation);
            let counted = relation.map_or(0, |relation| engine.row_count(relation));
            if usize::try_from(counted) != Ok(kept.len()) {
                return Err(format!("row count of {name}: {counted} counted, {} there", kept.len()));
            }
        }
        Ok(())
    }

    /// The rows of every table as they are stored, sorted.
    pub(crate) fn table_contents(&mut self) -> Result<Contents, String> {
        let tables: Vec<_> = self.engine().tables().map(|table| (table.name.name.clone(), table.id)).collect();
        tables.into_iter().map(|(name, id)| Ok((name.clone(), self.stored_rows(&name, id)?))).collect()
    }

    /// What is known of the rows that could not be read, and how many they are, of tables but these.
    pub(crate) fn unread_rows(&mut self, but: &BTreeSet<String>) -> Result<Contents, String> {
        let engine = self.engine();
        let rejects = engine.rejects(usize::MAX).map_err(|e| e.to_string())?;
        let mut found = Contents::new();
        for table in engine.tables().filter(|table| !but.contains(&table.name.name)) {
            let of_table = rejects.iter().filter(|reject| reject.node == table.name.to_string());
            let mut known: Vec<String> = of_table
                .filter_map(|reject| match &reject.row {
                    engine::RejectedRow::Text(row) => Some(row.clone()),
                    engine::RejectedRow::Columns(_) => None,
                })
                .collect();
            known.sort();
            known.push(format!("{} in all", engine.reject_count(table.id)));
            found.insert(table.name.name.clone(), known);
        }
        Ok(found)
    }

    /// The rows of a relation as they are stored, sorted, and as many as are counted.
    fn stored_rows(&mut self, name: &str, id: TableId) -> Result<Vec<String>, String> {
        let engine = self.engine();
        let stored = engine.relation(id).ok_or_else(|| format!("no rows of {name}"))?;
        let mut rows = Vec::new();
        for entry in engine.store().snapshot().scan(id, &[]) {
            let (_, value) = entry.map_err(|e| e.to_string())?;
            let (row, weight) = stored.row_of(&value).map_err(|e| e.to_string())?;
            (0..weight).for_each(|_| rows.push(text(&stored.layout.values(row))));
        }
        rows.sort();
        let counted = engine.row_count(id);
        if usize::try_from(counted) != Ok(rows.len()) {
            return Err(format!("row count of {name}: {counted} counted, {} there", rows.len()));
        }
        Ok(rows)
    }

    /// Tables of which nothing is missing, and that nothing is left to be swept of.
    pub(crate) fn complete_tables(&mut self) -> BTreeSet<String> {
        let complete = self.engine().tables_to_come().filter(|table| table.load == Load::Complete);
        complete.map(|table| table.name.name.clone()).collect()
    }

    /// Tables that are whole, or were until they were loaded again.
    pub(crate) fn whole_tables(&mut self) -> BTreeSet<String> {
        let was_whole = |load: &Load| match load {
            Load::Parked { whole, .. } => *whole,
            load => load.again().map_or(*load == Load::Complete, |again| again.whole),
        };
        let tables = self.engine().tables().filter(|table| was_whole(&table.load));
        tables.map(|table| table.name.name.clone()).collect()
    }

    /// A house of its own with the same tables and models, built out of these rows.
    pub(crate) fn rebuilt(&mut self, rows: &[Change]) -> Result<Self, String> {
        let mut house = Self::new(&self.host, Mode { workers: self.mode.workers, ..Mode::default() })?;
        house.tables.clone_from(&self.tables);
        house.models = self.models[..self.plans.len()].to_vec();
        house.plans.clone_from(&self.plans);
        let whole = self.whole_tables();
        let engine = self.engine.as_ref().expect("a house that was begun");
        house.tables.retain(|(name, _)| engine.tables().any(|table| table.name.name == *name));
        house.loading =
            house.tables.iter().map(|(name, _)| name.clone()).filter(|name| !whole.contains(name)).collect();
        house.begin(rows)?;
        Ok(house)
    }
}

/// Copies what is in a folder.
fn copy(from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir_all(&to)?;
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// The place of a version among all, by its label: what was set up before anything was proposed has none.
fn version_of(label: &[u8]) -> usize {
    label.first().map_or(0, |&at| usize::from(at))
}

/// How often a step is tried on a disk that is full now and then.
const TRIES_MAX: usize = 1_000;

/// Rows and marks that a portion of a sweep looks at.
const SWEPT_EACH: usize = 2;

fn definitions(plans: &[(TableName, Planned)]) -> Vec<ModelDefinition> {
    let definition = |(name, planned): &(TableName, Planned)| ModelDefinition {
        name: name.clone(),
        flow: planned.flow.clone(),
        schema: planned.schema.clone(),
    };
    plans.iter().map(definition).collect()
}

async fn collect<S, E>(mut stream: S) -> Result<Vec<String>, String>
where
    S: futures::Stream<Item = Result<arrow::array::RecordBatch, E>> + Unpin,
    E: std::fmt::Display,
{
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|e| e.to_string())?;
        let columns: Vec<_> = batch
            .schema()
            .fields()
            .iter()
            .map(|f| relation::DataType::from_arrow(f.data_type()).map(|t| relation::Column::new(f.name(), t)))
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())?;
        let types: Vec<_> = columns.iter().map(|c| c.data_type).collect();
        let arrays: Vec<_> = batch
            .columns()
            .iter()
            .zip(&types)
            .map(|(a, t)| arrow::compute::cast(a, &t.to_arrow()))
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())?;
        let schema = Schema::new(columns, vec![]);
        let cast = relation::columns::batch(&engine::expr::arrow_schema(&schema), arrays, batch.num_rows());
        let layout = Layout::new(types);
        let encoded =
            relation::columns::encode(&layout, &cast.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        rows.extend(encoded.iter().map(|row| text(&layout.values(row))));
    }
    rows.sort();
    Ok(rows)
}

/// Tables and models by name, for the planner.
pub(crate) struct Names(BTreeMap<String, TableInfo>);

impl Names {
    pub(crate) fn new(tables: &[(String, Schema)]) -> Self {
        let mut names = Self(BTreeMap::new());
        tables.iter().for_each(|(name, schema)| names.add(name, schema));
        names
    }

    pub(crate) fn add(&mut self, name: &str, schema: &Schema) {
        let info = TableInfo { name: TableName::new(SCHEMA, name), schema: schema.clone() };
        self.0.insert(name.to_owned(), info);
    }
}

impl plan::Catalog for Names {
    fn table(&self, _schema: Option<&str>, name: &str) -> Option<TableInfo> {
        self.0.get(name).cloned()
    }

    fn view(&self, _schema: Option<&str>, _name: &str) -> Option<String> {
        None
    }
}

fn parse(schema: &Schema, values: &[String]) -> Result<Vec<Value>, String> {
    if values.len() != schema.columns.len() {
        return Err(format!("{} values for {} columns", values.len(), schema.columns.len()));
    }
    let parsed = schema.columns.iter().zip(values).map(|(c, v)| Value::parse(c.data_type, v));
    parsed.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// Values as a case writes them: those with spaces in single quotes.
pub(crate) fn text(values: &[Value]) -> String {
    story::words_text(values.iter().map(ToString::to_string))
}

/// Rows that left and came, by model.
pub(crate) fn difference(before: &Contents, after: &Contents) -> String {
    let mut lines = Vec::new();
    for (model, rows) in after {
        let mut net: BTreeMap<&str, i64> = BTreeMap::new();
        before.get(model).into_iter().flatten().for_each(|row| *net.entry(row).or_insert(0) -= 1);
        rows.iter().for_each(|row| *net.entry(row).or_insert(0) += 1);
        for (sign, mark) in [(-1, '-'), (1, '+')] {
            for (row, count) in net.iter().filter(|(_, count)| count.signum() == sign) {
                (0..count.abs()).for_each(|_| lines.push(format!("{mark} {model} {row}")));
            }
        }
    }
    lines.join("\n")
}
