//! The pump: the one thread that owns the engine.
//!
//! It takes what the sources have sent, at most [`STEP_ROWS_MAX`] rows or [`STEP_BYTES_MAX`] bytes, makes one step of it, and
//! publishes. When little arrives, steps are small and a change is visible at once; when the engine is behind, what waits
//! grows into larger steps, which cost less per change, and beyond that the sources wait. Where the disk is full the pump
//! waits for room with what it has taken, and readers read on.
//!
//! Models are built on a thread beside it, one after the other ([`engine::Build`]); between two steps the pump puts in place
//! what has been built. What was parked is begun again after a while, by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use connect::SourceEvent;
use engine::{Build, Coming, Finished, Input, Load, ModelState, SourceReject};
use plan::TableName;
use relation::{Schema, TableId};
use tokio::sync::{mpsc, oneshot};

use crate::clock::{Clock, Uptime};
use crate::definition::Definition;
use crate::latency::Tally;
use crate::recent::{RecentChange, RecentStep};
use crate::status::{Facts, REMEMBERED_MAX, RejectStatus, Stage, Status};
use crate::system_tables;
use crate::warehouse::Warehouse;

/// Rows from which a step takes no further batch.
pub const STEP_ROWS_MAX: usize = 40_000;
/// Bytes of rows from which it does not.
pub const STEP_BYTES_MAX: usize = 32 << 20;

/// How long the pump waits for something to do before it looks after its figures.
const IDLE_WAIT: Duration = Duration::from_millis(200);
/// How long it waits for room on a full disk before it tries again.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// How long what was parked waits until it is begun again, at first and at most; four times as long each time.
const HEAL_FIRST_US: i64 = 1_000_000;
const HEAL_MAX_US: i64 = 600_000_000;

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
    /// Waits until everything sent before it is visible, and what can be built of it is.
    Barrier(oneshot::Sender<u64>),
    /// A table that was missing at the start has come: its number, to be loaded from the start, or why that cannot be.
    TakeUp { source: String, name: TableName, schema: Schema, answer: oneshot::Sender<Result<TableId, String>> },
    /// Builds a definition beside what serves, and puts it in place.
    Apply { definition: Definition, answer: oneshot::Sender<Applied> },
    /// Goes back to what served before.
    Rollback(oneshot::Sender<Result<(), String>>),
    /// What serves now, and what it stands on.
    Describe(oneshot::Sender<Described>),
}

/// How an apply ended.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Applied {
    /// Models that came, that were built anew, that went, and that stayed as they were.
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub kept: Vec<String>,
    /// Why what served before serves on; empty where the new models are in place.
    pub failed: Vec<String>,
}

/// What serves, for who compares it with a project.
#[derive(Debug, Clone)]
pub struct Described {
    pub definition: Definition,
    /// Rows of tables and models.
    pub rows: BTreeMap<TableName, i64>,
    pub tables: Vec<(TableName, Schema)>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Barrier(_) => f.write_str("Barrier"),
            Self::TakeUp { name, .. } => write!(f, "TakeUp({name})"),
            Self::Apply { .. } => f.write_str("Apply"),
            Self::Rollback(_) => f.write_str("Rollback"),
            Self::Describe(_) => f.write_str("Describe"),
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
    uptime: Uptime,
    /// Where builds come back to.
    built: (mpsc::Sender<Built>, mpsc::Receiver<Built>),
    /// Ends the build that is under way.
    building: Option<Arc<AtomicBool>>,
    /// Who waits until all is visible and built.
    barriers: Vec<oneshot::Sender<u64>>,
    /// Who waits for the models that are coming, and what they come to.
    applying: Vec<(oneshot::Sender<Applied>, Applied)>,
    /// When what is parked is begun again, and how long that waits the next time.
    heal_at_us: Option<i64>,
    heal_wait_us: i64,
}

/// A build that has ended, and how.
type Built = (Build, engine::Result<()>);

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
        let mut pump = Self {
            warehouse,
            status,
            clock,
            stop,
            runtime,
            source_names,
            schemas: BTreeMap::new(),
            sources_of: BTreeMap::new(),
            refreshed_us: 0,
            uptime: Uptime::new(),
            built: mpsc::channel(1),
            building: None,
            barriers: Vec::new(),
            applying: Vec::new(),
            heal_at_us: None,
            heal_wait_us: HEAL_FIRST_US,
        };
        pump.status.facts().pending = pump.warehouse.is_outdated();
        pump.note_contents();
        pump.publish();
        pump
    }

    /// Runs until told to stop, or until the sources are gone. Errors: the store failed; nothing is lost.
    pub fn run(&mut self, inbox: &mut mpsc::Receiver<Message>) -> anyhow::Result<()> {
        let ended = self.run_until_stopped(inbox);
        if let Some(cancel) = self.building.take() {
            cancel.store(true, Ordering::Release);
            // The store is closed when nobody has it any more: wait for the build to let go of it.
            self.runtime.clone().block_on(self.built.1.recv());
        }
        // What was built or put in place is in no record of the log: folded, it need not be done again.
        if ended.is_ok()
            && self.warehouse.engine.has_unlogged()
            && let Err(error) = self.warehouse.engine.store().fold_now()
        {
            tracing::warn!(%error, "what was built last is built again at the next start");
        }
        match ended {
            // The store was closed under a commit that waited for room: what it would have written is read again.
            Err(_) if self.stop.load(Ordering::Acquire) => Ok(()),
            ended => ended,
        }
    }

    fn run_until_stopped(&mut self, inbox: &mut mpsc::Receiver<Message>) -> anyhow::Result<()> {
        if self.warehouse.is_outdated() {
            let wanted = self.warehouse.wanted.clone();
            self.propose(wanted)?;
        }
        self.build()?;
        self.note_started();
        while !self.stop.load(Ordering::Acquire) {
            let runtime = self.runtime.clone();
            let (wait, built) = (IDLE_WAIT, &mut self.built.1);
            let heard = runtime.block_on(async {
                tokio::select! {
                    biased;
                    built = built.recv() => built.map(|built| Heard::Built(Box::new(built))),
                    message = tokio::time::timeout(wait, inbox.recv()) => match message {
                        Err(_) => Some(Heard::Nothing),
                        Ok(message) => message.map(|message| Heard::Message(Box::new(message))),
                    },
                }
            });
            match heard {
                None => break,
                Some(Heard::Nothing) => {}
                Some(Heard::Built(built)) => {
                    let (build, outcome) = *built;
                    self.finish(build, outcome)?;
                }
                Some(Heard::Message(first)) => self.take(*first, inbox)?,
            }
            self.heal()?;
            // A shop that never pauses has its figures too.
            if self.uptime.now_us() - self.refreshed_us >= REFRESH_US {
                self.refresh_figures();
            }
        }
        Ok(())
    }

    fn take(&mut self, first: Message, inbox: &mut mpsc::Receiver<Message>) -> anyhow::Result<()> {
        let mut inputs = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let mut next = Some(first);
        let mut asked = Vec::new();
        while let Some(message) = next {
            match message {
                Message::Event(source, SourceEvent::Batch(batch)) => {
                    rows += batch.rows();
                    bytes += batch.bytes();
                    inputs.push(Input::Rows(source, batch));
                }
                Message::Event(source, event) => inputs.extend(self.note_event(source, event)),
                Message::Ask(request) => asked.push(request),
            }
            next = if rows < STEP_ROWS_MAX && bytes < STEP_BYTES_MAX { inbox.try_recv().ok() } else { None };
        }
        if !inputs.is_empty() {
            self.step(inputs, rows)?;
        }
        asked.into_iter().try_for_each(|request| self.answer(request))
    }

    fn step(&mut self, mut inputs: Vec<Input>, rows: usize) -> anyhow::Result<()> {
        let begun = self.clock.now_us();
        let seen = Seen::of(&inputs);
        let parks = inputs.iter().any(|input| matches!(input, Input::Park { .. }));
        let mut report = engine::StepReport::default();
        while let Some(more) = self.take_with_patience(&mut inputs)? {
            report.follow(more);
        }
        if report.step == 0 {
            return Ok(());
        }
        let visible = self.clock.now_us();
        self.note_step(&seen, &mut report, rows, begun, visible);
        for (table, reason) in &report.parked_tables {
            tracing::warn!(table = %self.table_name(*table), %reason, "table parked");
        }
        for model in &report.parked {
            tracing::warn!(%model, "model parked");
        }
        if !report.parked.is_empty() && self.heal_at_us.is_none() {
            self.heal_at_us = Some(self.uptime.now_us() + self.heal_wait_us);
        }
        if parks || !report.completed.is_empty() || !report.parked.is_empty() || !report.parked_tables.is_empty() {
            self.build()?;
        }
        Ok(())
    }

    /// A step, tried until the disk has room for it.
    fn take_with_patience(&mut self, inputs: &mut Vec<Input>) -> anyhow::Result<Option<engine::StepReport>> {
        let mut waits = false;
        loop {
            let error = match self.warehouse.engine.take(inputs) {
                Ok(report) => {
                    if waits {
                        tracing::info!("there is room on the disk again");
                        self.status.facts().message = "running".to_owned();
                    }
                    return Ok(report);
                }
                Err(engine::Error::Store(error))
                    if error.is_disk_full() || matches!(error, store::Error::Lost { .. }) =>
                {
                    error
                }
                Err(error) => return Err(error.into()),
            };
            if self.stop.load(Ordering::Acquire) {
                return Err(error.into());
            }
            if !waits {
                tracing::error!(%error, hint = error.hint(), "nothing is taken until there is room; readers read on");
                self.status.facts().message = format!("waiting for room on the disk: {error}");
                waits = true;
            }
            self.refresh_figures();
            // Whether there was room then is seen by the next try.
            self.warehouse.engine.store().wait_for_space(ROOM_WAIT).ok();
        }
    }

    fn answer(&mut self, request: Request) -> anyhow::Result<()> {
        match request {
            Request::Barrier(done) => {
                self.barriers.push(done);
                self.release_barriers();
            }
            Request::TakeUp { source, name, schema, answer } => self.take_up(&source, &name, &schema, answer)?,
            Request::Apply { definition, answer } => {
                let applied = self.propose(definition)?;
                self.applying.push((answer, applied));
                self.build()?;
            }
            Request::Rollback(answer) => {
                let done = self.warehouse.rollback()?;
                self.give_up_applying("it was rolled back");
                if done {
                    self.status.facts().pending = false;
                    self.warehouse.engine.store().fold_soon();
                    self.note_contents();
                    self.build()?;
                }
                let nothing = || "there is nothing to go back to: nothing was applied yet".to_owned();
                answer.send(if done { Ok(()) } else { Err(nothing()) }).ok();
            }
            Request::Describe(answer) => {
                answer.send(self.described()).ok();
            }
        }
        Ok(())
    }

    fn described(&self) -> Described {
        let engine = &self.warehouse.engine;
        let tables = engine.tables().map(|table| (table.name.clone(), engine.row_count(table.id)));
        let models = engine.models().into_iter().map(|model| (model.name.clone(), engine.row_count(model.relation)));
        Described {
            definition: self.warehouse.serving.definition.clone(),
            rows: tables.chain(models).collect(),
            tables: crate::warehouse::schemas(engine),
        }
    }

    /// Sets up a definition beside what serves.
    fn propose(&mut self, definition: Definition) -> anyhow::Result<Applied> {
        self.give_up_applying("another project was applied");
        if let Some(cancel) = &self.building {
            // A model of the version that is given up may be under way; one that is still wanted is begun again.
            cancel.store(self.warehouse.coming.is_some(), Ordering::Release);
        }
        let difference = self.warehouse.propose(definition)?;
        {
            let mut facts = self.status.facts();
            facts.pending = true;
            facts.not_applied.clear();
        }
        let text = |names: &[TableName]| names.iter().map(ToString::to_string).collect();
        Ok(Applied {
            added: text(&difference.added),
            changed: text(&difference.changed),
            removed: text(&difference.removed),
            kept: text(&difference.kept),
            failed: self.warehouse.waiting.iter().map(|(name, reason)| format!("{name}: {reason}")).collect(),
        })
    }

    fn give_up_applying(&mut self, reason: &str) {
        for (answer, mut applied) in self.applying.drain(..) {
            applied.failed = vec![reason.to_owned()];
            // Whoever asked may have left.
            answer.send(applied).ok();
        }
    }

    /// A table that has come is told to the source when the store knows it for good: the log names tables by number.
    fn take_up(
        &mut self,
        source: &str,
        name: &TableName,
        schema: &Schema,
        answer: oneshot::Sender<Result<TableId, String>>,
    ) -> anyhow::Result<()> {
        let id = match self.warehouse.take_up(source, name, schema) {
            Ok(id) => id,
            Err(error) => {
                answer.send(Err(error.to_string())).ok();
                return Ok(());
            }
        };
        let store = self.warehouse.engine.store().clone();
        std::thread::Builder::new().name("take-up".to_owned()).spawn(move || {
            let folded = store.fold_now().map(|()| id).map_err(|error| error.to_string());
            answer.send(folded).ok();
        })?;
        self.source_names = self.warehouse.engine.sources().map(|(id, name)| (id, name.to_owned())).collect();
        let wanted = self.warehouse.wanted.clone();
        self.propose(wanted)?;
        self.note_contents();
        self.build()
    }

    /// Begins to build what can be built, and publishes.
    fn build(&mut self) -> anyhow::Result<()> {
        if self.building.is_none()
            && let Some(build) = self.warehouse.engine.next_build()?
        {
            tracing::info!(model = %build.name(), "building");
            self.status.facts().message = format!("building {}", build.name());
            self.start(build)?;
        }
        if self.building.is_none() {
            self.look_at_coming()?;
            let mut facts = self.status.facts();
            if facts.message.starts_with("building ") {
                facts.message = "running".to_owned();
            }
        }
        self.publish();
        self.release_barriers();
        Ok(())
    }

    fn start(&mut self, mut build: Build) -> anyhow::Result<()> {
        self.building = Some(build.cancel());
        let done = self.built.0.clone();
        std::thread::Builder::new().name("build".to_owned()).spawn(move || {
            let outcome = build.run();
            // The pump takes it, or has ended.
            done.blocking_send((build, outcome)).ok();
        })?;
        Ok(())
    }

    /// Puts in place what was built.
    fn finish(&mut self, build: Build, outcome: engine::Result<()>) -> anyhow::Result<()> {
        self.building = None;
        match self.warehouse.engine.finish_build(build, outcome)? {
            Finished::Live(model) => {
                tracing::info!(%model, "live");
                self.heal_wait_us = HEAL_FIRST_US;
            }
            Finished::Failed(model, reason) => {
                tracing::error!(%model, %reason, "could not be built");
                self.heal_at_us.get_or_insert(self.uptime.now_us() + self.heal_wait_us);
            }
            Finished::Dropped => {}
            Finished::Again(build) => return self.start(build),
        }
        self.build()
    }

    /// Puts the models that are coming in place when they are all there, or gives them up when one cannot be built.
    fn look_at_coming(&mut self) -> anyhow::Result<()> {
        match self.warehouse.engine.coming() {
            Coming::Nothing | Coming::Building { .. } => return Ok(()),
            Coming::Ready => {
                self.warehouse.swap()?;
                self.warehouse.engine.store().fold_soon();
                self.note_contents();
                self.status.facts().pending = false;
                for (answer, applied) in self.applying.drain(..) {
                    answer.send(applied).ok();
                }
                tracing::info!("the project's models are in place");
            }
            Coming::Failed(models) => {
                self.warehouse.withdraw();
                let failed: Vec<String> = models.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
                tracing::error!(models = ?failed, "the project's models cannot be built; those before serve on");
                {
                    let mut facts = self.status.facts();
                    facts.pending = false;
                    facts.not_applied = failed.join("; ");
                    facts.message = format!("not applied: {}", facts.not_applied);
                }
                for (answer, mut applied) in self.applying.drain(..) {
                    applied.failed.clone_from(&failed);
                    answer.send(applied).ok();
                }
            }
        }
        Ok(())
    }

    /// Begins again what was parked, when its time has come.
    fn heal(&mut self) -> anyhow::Result<()> {
        let now = self.uptime.now_us();
        if self.building.is_some() || self.heal_at_us.is_none_or(|at| at > now) {
            return Ok(());
        }
        self.heal_at_us = None;
        self.heal_wait_us = (self.heal_wait_us * 4).min(HEAL_MAX_US);
        if self.warehouse.engine.heal()? {
            tracing::info!("models that were parked are built anew");
            self.build()?;
        }
        Ok(())
    }

    fn release_barriers(&mut self) {
        if self.building.is_some() {
            return;
        }
        for done in self.barriers.drain(..) {
            // Whoever asked may have left.
            done.send(self.warehouse.engine.current_step()).ok();
        }
    }

    fn publish(&mut self) {
        self.refresh_figures();
        let mut catalog = self.warehouse.readable();
        system_tables::add(&mut catalog, &self.status, &self.clock);
        self.status.publish(catalog, Arc::clone(&self.warehouse.serving.models));
    }

    fn note_started(&self) {
        let mut facts = self.status.facts();
        facts.started = true;
        facts.ready = true;
        facts.message = "running".to_owned();
    }

    /// What a source says beside its batches: what of it is an input, and what is only told.
    fn note_event(&mut self, source: u32, event: SourceEvent) -> Option<Input> {
        let name = self.source_names.get(&source).cloned().unwrap_or_default();
        match event {
            SourceEvent::Batch(batch) => return Some(Input::Rows(source, batch)),
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
            SourceEvent::Parked { table, reason }
            | SourceEvent::Reload { table, reason }
            | SourceEvent::Altered { table, statement: reason } => {
                tracing::warn!(source = %name, table = %self.table_name(table), reason = %reason, "table parked");
                return Some(Input::Park { table, reason });
            }
            SourceEvent::Rejected(row) => {
                return Some(Input::Reject(SourceReject {
                    table: row.table,
                    row: row.row,
                    reason: row.reason,
                    position: row.position.to_string(),
                    at_us: self.clock.now_us(),
                }));
            }
        }
        None
    }

    /// What the models and views are, and who reads whom: of what serves, and of what is wanted but waits.
    fn note_contents(&mut self) {
        let warehouse = &self.warehouse;
        let mut facts = self.status.facts();
        facts.lineage.clear();
        let mut names = BTreeSet::new();
        for text in &warehouse.serving.definition.models {
            note_model(&mut facts, text, "live");
            names.insert(text.table_name());
        }
        for (name, reason) in &warehouse.waiting {
            let text = warehouse.wanted.models.iter().find(|text| text.table_name() == *name);
            let Some(text) = text.filter(|_| !names.contains(name)) else { continue };
            note_model(&mut facts, text, "parked");
            let of = if text.is_view { &mut facts.views } else { &mut facts.models };
            let status = of.entry(name.clone()).or_default();
            status.state = "parked".to_owned();
            status.message.clone_from(reason);
            names.insert(name.clone());
        }
        facts.models.retain(|name, _| names.contains(name));
        facts.views.retain(|name, _| names.contains(name));
        self.sources_of = sources_of(warehouse, &facts.lineage);
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

    fn note_load(&self, facts: &mut Facts, id: TableId, loaded: (u64, u64)) {
        let Some(table) = self.warehouse.engine.table(id) else { return };
        let status = facts.tables.entry(table.name.clone()).or_default();
        status.snapshot_rows += loaded.0;
        status.snapshot_rows_total = loaded.1.max(status.snapshot_rows);
        status.state = load_word(&table.load).to_owned();
    }

    /// Figures that do not come with a step.
    fn refresh_figures(&mut self) {
        let now = self.clock.now_us();
        self.refreshed_us = self.uptime.now_us();
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
        for model in engine.models() {
            let status = facts.models.entry(model.name.clone()).or_default();
            status.rows = engine.row_count(model.relation);
            (status.state, status.message) = match &model.state {
                ModelState::Building => ("building".to_owned(), String::new()),
                ModelState::Live => ("live".to_owned(), String::new()),
                ModelState::Parked { reason } => ("parked".to_owned(), reason.clone()),
                ModelState::Failed { reason } => ("failed".to_owned(), reason.clone()),
            };
        }
        if let Ok(rejects) = rejects {
            facts.rejects = rejects.into_iter().map(shown).collect();
        }
        facts.sample(now);
    }
}

fn shown(reject: engine::Reject) -> RejectStatus {
    let row = match reject.row {
        engine::RejectedRow::Text(text) => text,
        engine::RejectedRow::Columns(columns) => {
            let row: serde_json::Map<String, serde_json::Value> =
                columns.iter().map(|(name, value)| (name.clone(), crate::output::json_of(value))).collect();
            serde_json::Value::Object(row).to_string()
        }
    };
    RejectStatus {
        id: reject.id,
        node: reject.node,
        reason: reject.reason,
        code: "22000".to_owned(),
        key: String::new(),
        row,
        position: reject.position,
        first_at_us: reject.at_us,
    }
}

/// What a model or view is, in the words of its project.
fn note_model(facts: &mut Facts, text: &crate::definition::ModelText, view_state: &str) {
    let name = text.table_name();
    let of = if text.is_view { &mut facts.views } else { &mut facts.models };
    let status = of.entry(name.clone()).or_default();
    status.materialized.clone_from(&text.materialized);
    status.sql.clone_from(&text.sql);
    status.path.clone_from(&text.file);
    status.description.clone_from(&text.description);
    status.message.clear();
    if text.is_view {
        status.state = view_state.to_owned();
    }
    facts.lineage.extend(text.upstream().map(|upstream| (upstream, name.clone())));
}

/// What the pump waits for.
enum Heard {
    Nothing,
    Built(Box<Built>),
    Message(Box<Message>),
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
    fn of(inputs: &[Input]) -> Self {
        let mut seen = Self::default();
        for input in inputs {
            let Input::Rows(source, batch) = input else { continue };
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
