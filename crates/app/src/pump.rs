//! The pump: the one thread that owns the engine.
//!
//! It takes what the sources have sent, at most [`STEP_ROWS_MAX`] rows, makes one step of it, and publishes. When little
//! arrives, steps are small and a change is visible at once; when the engine is behind, what waits grows into larger
//! steps, which cost less per change, and beyond that the sources wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use connect::SourceEvent;
use engine::{Load, ModelState};
use plan::TableName;
use relation::{Schema, SourceBatch, TableId};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::latency::Tally;
use crate::recent::{RecentChange, RecentStep};
use crate::status::{REMEMBERED_MAX, RejectStatus, Stage, Status};
use crate::system_tables;
use crate::warehouse::Warehouse;

/// Rows from which a step takes no further batch.
pub const STEP_ROWS_MAX: usize = 40_000;

/// How long the pump waits for something to do before it looks after its figures.
const IDLE_WAIT: Duration = Duration::from_millis(200);

/// What reaches the pump.
#[derive(Debug)]
pub enum Message {
    /// From the source of this number.
    Event(u32, SourceEvent),
    /// A request that must see the engine between two steps.
    Ask(Request),
}

/// A request and where its answer goes.
pub enum Request {
    /// Waits until everything sent before it is visible.
    Barrier(tokio::sync::oneshot::Sender<u64>),
    /// A table that was missing at the start has come: its number, to be loaded from the start, or why that cannot be.
    TakeUp {
        source: String,
        name: TableName,
        schema: Schema,
        answer: tokio::sync::oneshot::Sender<Result<TableId, String>>,
    },
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Barrier(_) => f.write_str("Barrier"),
            Self::TakeUp { name, .. } => write!(f, "TakeUp({name})"),
        }
    }
}

/// The engine with what it takes to run it.
pub struct Pump {
    pub warehouse: Warehouse,
    pub status: Arc<Status>,
    pub clock: Arc<dyn Clock>,
    pub stop: Arc<AtomicBool>,
    pub runtime: tokio::runtime::Handle,
    source_names: BTreeMap<u32, String>,
    /// Columns of what has changed so far.
    schemas: BTreeMap<TableId, Arc<Schema>>,
    /// The sources of a table, and those that a model stands on, however far below.
    sources_of: BTreeMap<TableName, BTreeSet<u32>>,
    /// When the figures that come with no step were last read.
    refreshed_us: i64,
}

/// How often figures that come with no step are read.
const REFRESH_US: i64 = 1_000_000;

impl Pump {
    /// A pump over a warehouse; publishes what there is.
    pub fn new(
        warehouse: Warehouse,
        status: Arc<Status>,
        clock: Arc<dyn Clock>,
        stop: Arc<AtomicBool>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let source_names = warehouse.engine.sources().map(|(id, name)| (id, name.to_owned())).collect();
        let sources_of = sources_of(&warehouse, &status.facts().lineage);
        let schemas = BTreeMap::new();
        let mut pump =
            Self { warehouse, status, clock, stop, runtime, source_names, schemas, sources_of, refreshed_us: 0 };
        pump.publish();
        pump
    }

    /// Runs until told to stop, or until the sources are gone. Errors: the store failed; nothing is lost.
    pub fn run(&mut self, inbox: &mut mpsc::Receiver<Message>) -> anyhow::Result<()> {
        self.build()?;
        self.note_started();
        while !self.stop.load(Ordering::Acquire) {
            let wait = async { tokio::time::timeout(IDLE_WAIT, inbox.recv()).await };
            match self.runtime.block_on(wait) {
                Err(_) => {}
                Ok(None) => break,
                Ok(Some(first)) => self.take(first, inbox)?,
            }
            // A shop that never pauses has its figures too.
            if self.clock.now_us() - self.refreshed_us >= REFRESH_US {
                self.refresh_figures();
            }
        }
        Ok(())
    }

    fn take(&mut self, first: Message, inbox: &mut mpsc::Receiver<Message>) -> anyhow::Result<()> {
        let mut batches = Vec::new();
        let mut rows = 0;
        let mut next = Some(first);
        let mut barriers = Vec::new();
        while let Some(message) = next {
            match message {
                Message::Event(source, SourceEvent::Batch(batch)) => {
                    rows += batch.rows();
                    batches.push((source, batch));
                }
                Message::Event(source, event) => self.note_event(source, event)?,
                Message::Ask(Request::Barrier(done)) => barriers.push(done),
                Message::Ask(Request::TakeUp { source, name, schema, answer }) => {
                    let taken = self.warehouse.take_up(&source, &name, &schema);
                    // Whoever asked may have left.
                    answer.send(taken.map_err(|error| error.to_string())).ok();
                }
            }
            next = if rows < STEP_ROWS_MAX { inbox.try_recv().ok() } else { None };
        }
        if !batches.is_empty() {
            self.step(batches, rows)?;
        }
        for done in barriers {
            // Whoever asked may have left.
            done.send(self.warehouse.engine.current_step()).ok();
        }
        Ok(())
    }

    fn step(&mut self, batches: Vec<(u32, SourceBatch)>, rows: usize) -> anyhow::Result<()> {
        let begun = self.clock.now_us();
        let seen = Seen::of(&batches);
        let mut report = self.warehouse.engine.step(batches)?;
        let visible = self.clock.now_us();
        self.note_step(&seen, &mut report, rows, begun, visible);
        if !report.completed.is_empty() || !report.parked.is_empty() {
            self.build()?;
        }
        Ok(())
    }

    /// Builds what can be built, and publishes.
    fn build(&mut self) -> anyhow::Result<()> {
        let status = Arc::clone(&self.status);
        let built = self.warehouse.engine.build_ready(&mut |name| {
            tracing::info!(model = %name, "building");
            status.facts().message = format!("building {name}");
        })?;
        if built > 0 {
            tracing::info!(models = built, "live");
        }
        self.publish();
        // What a build wrote is not in the log: folded at once, it is not built again at the next start.
        if built > 0
            && let Err(error) = self.warehouse.engine.store().fold_now()
        {
            tracing::warn!(%error, "models that were just built would be built again after a restart");
        }
        Ok(())
    }

    fn publish(&mut self) {
        self.refresh_figures();
        let mut catalog = self.warehouse.readable();
        system_tables::add(&mut catalog, &self.status, &self.clock);
        self.status.publish(catalog);
    }

    fn note_started(&self) {
        let mut facts = self.status.facts();
        facts.started = true;
        facts.ready = true;
        facts.message = "running".to_owned();
    }

    fn note_event(&mut self, source: u32, event: SourceEvent) -> anyhow::Result<()> {
        let name = self.source_names.get(&source).cloned().unwrap_or_default();
        match event {
            SourceEvent::Batch(_) => {}
            SourceEvent::State(state, message) => {
                let mut facts = self.status.facts();
                let source = facts.sources.entry(name).or_default();
                source.state = state.to_string();
                source.message = message;
            }
            SourceEvent::Failed(failure) => {
                tracing::error!(source = %name, detail = %failure.detail, hint = %failure.hint, "{}", failure.message);
                let mut facts = self.status.facts();
                let source = facts.sources.entry(name).or_default();
                source.state = "stalled".to_owned();
                let parts = [failure.message, failure.detail, failure.hint];
                source.message = parts.iter().filter(|p| !p.is_empty()).cloned().collect::<Vec<_>>().join(" ");
            }
            SourceEvent::Parked { table, reason } => {
                tracing::warn!(source = %name, table = %self.table_name(table), reason = %reason, "table parked");
                self.warehouse.engine.park_table(table, &reason)?;
                self.publish();
            }
            SourceEvent::Rejected(row) => {
                let node = self.table_name(row.table);
                let now = self.clock.now_us();
                let mut facts = self.status.facts();
                let id = format!("{}-{}", row.position, facts.rejects.len());
                facts.rejects.push_back(RejectStatus {
                    id,
                    node: node.to_string(),
                    reason: row.reason,
                    code: "22000".to_owned(),
                    key: String::new(),
                    row: row.row,
                    position: row.position.to_string(),
                    first_at_us: now,
                });
                if facts.rejects.len() > REMEMBERED_MAX {
                    facts.rejects.pop_front();
                }
            }
        }
        Ok(())
    }

    fn table_name(&self, id: TableId) -> TableName {
        self.warehouse.engine.table(id).map_or_else(|| TableName::new("", id.to_string()), |t| t.name.clone())
    }

    fn note_step(&mut self, seen: &Seen, report: &mut engine::StepReport, rows: usize, begun: i64, visible: i64) {
        let changes = self.recent_changes(report);
        let engine = &self.warehouse.engine;
        let mut facts = self.status.facts();
        let durable = begun + i64::try_from(report.durable_us).unwrap_or(0);
        let newest = seen.marks.iter().max_by_key(|mark| (mark.commit, mark.read)).copied();
        facts.recent.push(Arc::new(RecentStep {
            step: report.step,
            rows: rows as u64,
            transactions: seen.marks.len() as u64,
            commit_us: newest.map(|mark| mark.commit),
            read_us: newest.map(|mark| mark.read),
            begun_us: begun,
            durable_us: durable.min(visible),
            visible_us: visible,
            changes,
        }));
        let times = Times { durable, visible };
        for (source, position) in &seen.positions {
            let name = self.source_names.get(source).cloned().unwrap_or_default();
            let status = facts.sources.entry(name).or_default();
            status.position.clone_from(position);
            let marks = seen.marks.iter().filter(|mark| mark.source == *source);
            if let Some(newest) = marks.map(|mark| mark.commit).max() {
                status.last_commit_us = Some(newest);
                status.lag_us = (visible - newest).max(0);
            }
        }
        // Tables and models over the same sources have the same latencies.
        let mut latencies: BTreeMap<&BTreeSet<u32>, StepLatency> = BTreeMap::new();
        for change in &report.relations {
            let rows = engine.row_count(change.id);
            let changed = change.inserted.max(change.deleted);
            let sources = self.sources_of.get(&change.name).unwrap_or(&NO_SOURCES);
            let latency = latencies.entry(sources).or_insert_with(|| StepLatency::of(&seen.marks, sources, times));
            let newest = latency.newest;
            if change.is_model {
                let model = facts.models.entry(change.name.clone()).or_default();
                model.rows = rows;
                model.changes_total += changed;
                model.last_commit_us = newest.or(model.last_commit_us);
                model.lag_us = newest.map_or(model.lag_us, |newest| (visible - newest).max(0));
            } else {
                let table = facts.tables.entry(change.name.clone()).or_default();
                table.rows = rows;
                table.changes_total += changed;
                table.last_commit_us = newest.or(table.last_commit_us);
                table.lag_us = newest.map_or(table.lag_us, |newest| (visible - newest).max(0));
            }
            for (stage, histogram) in latency.stages() {
                facts.latency.entry((change.name.clone(), stage)).or_default().merge(histogram);
            }
        }
        for id in seen.chunks.keys() {
            self.note_load(&mut facts, *id, seen.chunks[id]);
        }
        facts.sample(visible);
    }

    fn recent_changes(&mut self, report: &mut engine::StepReport) -> Vec<RecentChange> {
        let mut changes = Vec::with_capacity(report.relations.len());
        for change in &mut report.relations {
            let Some(stored) = self.warehouse.engine.relation(change.id) else { continue };
            // A relation of other columns has another number, so what is known of one stays true.
            let schema = self.schemas.entry(change.id).or_insert_with(|| Arc::new(stored.schema.clone()));
            changes.push(RecentChange {
                node: change.name.clone(),
                inserted: change.inserted,
                deleted: change.deleted,
                schema: Arc::clone(schema),
                rows: std::mem::take(&mut change.rows),
                weights: std::mem::take(&mut change.weights),
            });
        }
        changes
    }

    fn note_load(&self, facts: &mut crate::status::Facts, id: TableId, loaded: (u64, u64)) {
        let Some(table) = self.warehouse.engine.table(id) else { return };
        let status = facts.tables.entry(table.name.clone()).or_default();
        status.snapshot_rows += loaded.0;
        status.snapshot_rows_total = loaded.1.max(status.snapshot_rows);
        status.state = load_word(&table.load).to_owned();
    }

    /// Figures that do not come with a step.
    fn refresh_figures(&mut self) {
        let now = self.clock.now_us();
        self.refreshed_us = now;
        let engine = &self.warehouse.engine;
        // Read before the facts are taken: who shows them should not wait for the store.
        let rejects = engine.rejects(REMEMBERED_MAX);
        let mut facts = self.status.facts();
        for table in engine.tables() {
            let status = facts.tables.entry(table.name.clone()).or_default();
            status.source = self.source_names.get(&table.source).cloned().unwrap_or_default();
            status.state = load_word(&table.load).to_owned();
            status.rows = engine.row_count(table.id);
            if let Load::Parked { reason } = &table.load {
                status.message.clone_from(reason);
            }
        }
        for (model, planned) in engine.models().iter().zip(&self.warehouse.models) {
            let status = facts.models.entry(model.name.clone()).or_default();
            status.materialized = planned.materialized.to_owned();
            status.rows = engine.row_count(model.relation);
            (status.state, status.message) = match &model.state {
                ModelState::Building => ("building".to_owned(), String::new()),
                ModelState::Live => ("live".to_owned(), String::new()),
                ModelState::Parked { reason } => ("parked".to_owned(), reason.clone()),
                ModelState::Failed { reason } => ("failed".to_owned(), reason.clone()),
            };
        }
        if let Ok(rejects) = rejects {
            // Those of sources have a position; those of models are read anew.
            facts.rejects.retain(|reject| !reject.position.is_empty());
            facts.rejects.extend(rejects.into_iter().map(of_model));
        }
        facts.sample(now);
    }
}

fn of_model(reject: engine::Reject) -> RejectStatus {
    let row: serde_json::Map<String, serde_json::Value> =
        reject.row.iter().map(|(name, value)| (name.clone(), crate::output::json_of(value))).collect();
    RejectStatus {
        id: reject.id,
        node: reject.model,
        reason: reject.reason,
        code: "22000".to_owned(),
        key: String::new(),
        row: serde_json::Value::Object(row).to_string(),
        position: String::new(),
        first_at_us: 0,
    }
}

fn load_word(load: &Load) -> &'static str {
    match load {
        Load::Loading { .. } => "snapshot",
        Load::Complete | Load::Partial => "streaming",
        Load::Parked { .. } => "parked",
    }
}

static NO_SOURCES: BTreeSet<u32> = BTreeSet::new();

/// The source of each table, and those below each model.
fn sources_of(warehouse: &Warehouse, lineage: &[(TableName, TableName)]) -> BTreeMap<TableName, BTreeSet<u32>> {
    let mut found: BTreeMap<TableName, BTreeSet<u32>> = BTreeMap::new();
    for table in warehouse.engine.tables() {
        found.entry(table.name.clone()).or_default().insert(table.source);
    }
    // As often as the longest way is long: readers may stand before what they read.
    loop {
        let mut grew = false;
        for (upstream, downstream) in lineage {
            let above = found.get(upstream).cloned().unwrap_or_default();
            let known = found.entry(downstream.clone()).or_default();
            let before = known.len();
            known.extend(above);
            grew |= known.len() > before;
        }
        if !grew {
            return found;
        }
    }
}

/// When a step was on disk, and when it could be read.
#[derive(Clone, Copy)]
struct Times {
    durable: i64,
    visible: i64,
}

/// Latencies of a step's transactions, of some sources.
struct StepLatency {
    /// The newest commit time.
    newest: Option<i64>,
    commit_visible: Tally,
    commit_read: Tally,
    read_durable: Tally,
    durable_visible: Tally,
}

impl StepLatency {
    fn of(marks: &[Mark], sources: &BTreeSet<u32>, times: Times) -> Self {
        let marks = || marks.iter().filter(|mark| sources.contains(&mark.source));
        let tally = |of: &dyn Fn(&Mark) -> i64| marks().map(of).collect();
        Self {
            newest: marks().map(|mark| mark.commit).max(),
            commit_visible: tally(&|mark| times.visible - mark.commit),
            commit_read: tally(&|mark| mark.read - mark.commit),
            // The log's sync runs beside the rules; only what came after it is the stage behind it.
            read_durable: tally(&|mark| times.durable - mark.read),
            durable_visible: tally(&|_| times.visible - times.durable),
        }
    }

    fn stages(&self) -> [(Stage, &Tally); 4] {
        [
            (Stage::CommitVisible, &self.commit_visible),
            (Stage::CommitRead, &self.commit_read),
            (Stage::ReadDurable, &self.read_durable),
            (Stage::DurableVisible, &self.durable_visible),
        ]
    }
}

/// A transaction's times.
#[derive(Clone, Copy)]
struct Mark {
    source: u32,
    commit: i64,
    read: i64,
}

/// What a step's batches say beside their rows.
#[derive(Default)]
struct Seen {
    /// One per transaction.
    marks: Vec<Mark>,
    positions: BTreeMap<u32, String>,
    /// Rows loaded and estimated, by table.
    chunks: BTreeMap<TableId, (u64, u64)>,
}

impl Seen {
    fn of(batches: &[(u32, SourceBatch)]) -> Self {
        let mut seen = Self::default();
        for (source, batch) in batches {
            let mark = |t: &relation::TransactionMark| Mark {
                source: *source,
                commit: t.commit_time_us,
                read: t.read_time_us,
            };
            seen.marks.extend(batch.transactions.iter().map(mark));
            if !batch.position.0.is_empty() {
                seen.positions.insert(*source, batch.position.0.clone());
            }
            for chunk in &batch.chunks {
                let entry = seen.chunks.entry(chunk.table).or_default();
                entry.0 += chunk.rows.len() as u64;
                entry.1 = entry.1.max(chunk.rows_estimate);
            }
        }
        seen
    }
}
