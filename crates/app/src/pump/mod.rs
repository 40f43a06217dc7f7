//! The pump: the one thread that owns the engine.
//!
//! It takes what the sources have sent, at most [`STEP_ROWS_MAX`] rows or [`STEP_BYTES_MAX`] bytes, makes one step of it, and
//! publishes. When little arrives, steps are small and a change is visible at once; when the engine is behind, what waits
//! grows into larger steps, which cost less per change, and beyond that the sources wait. Where the disk is full the pump
//! waits for room with what it has taken, and readers read on.
//!
//! Between two steps it answers requests ([`requests`]), puts in place what was built beside it ([`builds`]), and sees to what is
//! delivered ([`deliveries`]). What it knows of itself it notes for whoever asks ([`notes`]).

mod builds;
mod deliveries;
mod kept;
mod notes;
mod requests;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use connect::SourceEvent;
use engine::{Input, Load};
use plan::TableName;
use relation::{Schema, TableId};
use tokio::sync::{mpsc, oneshot};

use self::builds::{Again, Built};
use self::deliveries::Deliveries;
pub use self::requests::{Applied, Described, HELD_BACK, Request, SOURCE_TABLE, SUPERSEDED, SourceTables, Undone};
use self::seen::Seen;
use crate::clock::{Clock, Uptime};
use crate::status::Status;
use crate::warehouse::Warehouse;

/// Rows from which a step takes no further batch.
pub const STEP_ROWS_MAX: usize = 40_000;
/// Bytes of rows from which it does not.
pub const STEP_BYTES_MAX: usize = 32 << 20;

/// How long the pump waits for something to do before it looks after its figures.
const IDLE_WAIT: Duration = Duration::from_millis(200);
/// How long it waits for room on a full disk before it tries again.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// What reaches the pump.
#[derive(Debug)]
pub enum Message {
    /// From the source of this number.
    Event(u32, SourceEvent),
    /// A request that must see the engine between two steps.
    Ask(Request),
    /// What became of deliveries; it is said when the step that takes it is there for good.
    Told { input: Input, taken: oneshot::Sender<()> },
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
    /// Relations of the models that serve: steps keep those of the version before, and of the one that is coming, too.
    served: BTreeSet<TableId>,
    /// When the figures that come with no step were last read.
    refreshed_us: i64,
    uptime: Uptime,
    /// Where builds come back to.
    built: (mpsc::Sender<Built>, mpsc::Receiver<Built>),
    /// Ends the build that is under way.
    building: Option<Arc<AtomicBool>>,
    /// Who waits until all is visible and built.
    barriers: Vec<oneshot::Sender<u64>>,
    /// Who waits until the store has for good what was done for them.
    answers: kept::Answers,
    /// Who waits for the models that are coming, and what they come to.
    applying: Vec<(oneshot::Sender<Applied>, Applied)>,
    /// Loads that do not get on, and why.
    delays: BTreeMap<TableId, String>,
    /// When what is parked is begun again.
    heal: Again,
    /// When models are proposed again over altered tables that nothing is proposed over.
    stranded: Again,
    /// Whom to wake for what is to be delivered; none where nothing is, as in a folder that is only read.
    deliveries: Option<Deliveries>,
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
        let mut pump = Self {
            warehouse,
            status,
            clock,
            stop,
            runtime,
            source_names,
            schemas: BTreeMap::new(),
            sources_of: BTreeMap::new(),
            served: BTreeSet::new(),
            refreshed_us: 0,
            uptime: Uptime::new(),
            built: mpsc::channel(1),
            building: None,
            barriers: Vec::new(),
            answers: kept::Answers::default(),
            applying: Vec::new(),
            delays: BTreeMap::new(),
            heal: Again::new(),
            stranded: Again::new(),
            deliveries: None,
        };
        pump.status.facts().pending = pump.warehouse.is_outdated();
        pump.note_held_back();
        pump.note_contents();
        // What was parked when the folder was left.
        pump.heal.soon(pump.uptime.now_us());
        pump.publish();
        pump
    }

    /// Runs until told to stop, or until the sources are gone. Errors: the store failed; nothing is lost.
    pub fn run(&mut self, inbox: &mut mpsc::Receiver<Message>) -> anyhow::Result<()> {
        let ended = self.run_until_stopped(inbox);
        if let Some(deliveries) = &mut self.deliveries {
            // Those that wait for an answer of the pump wait for nobody any more.
            inbox.close();
            self.runtime.clone().block_on(deliveries.end_all());
        }
        if let Some(cancel) = self.building.take() {
            cancel.store(true, Ordering::Release);
            // The store is closed when nobody has it any more: wait for the build to let go of it.
            self.runtime.clone().block_on(self.built.1.recv());
        }
        self.answers.end(&self.runtime);
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
        self.propose_outdated()?;
        self.build()?;
        self.note_started();
        while !self.stop.load(Ordering::Acquire) {
            let runtime = self.runtime.clone();
            let wait = if self.sweeping().is_some() { Duration::ZERO } else { IDLE_WAIT };
            let built = &mut self.built.1;
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
            self.sweep()?;
            self.go_without_delayed()?;
            self.begin_again()?;
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
        let (mut asked, mut told) = (Vec::new(), Vec::new());
        while let Some(message) = next {
            match message {
                Message::Event(source, SourceEvent::Batch(batch)) => {
                    rows += batch.rows();
                    bytes += batch.bytes();
                    inputs.push(Input::Rows(source, batch));
                }
                Message::Event(source, event) => inputs.extend(self.note_event(source, event)),
                Message::Ask(request) => asked.push(request),
                Message::Told { input, taken } => {
                    inputs.push(input);
                    told.push(taken);
                }
            }
            next = if rows < STEP_ROWS_MAX && bytes < STEP_BYTES_MAX { inbox.try_recv().ok() } else { None };
        }
        if !inputs.is_empty() {
            self.step(inputs, rows)?;
        }
        // Whoever has said it may have ended.
        told.into_iter().for_each(|taken| taken.send(()).unwrap_or_default());
        asked.into_iter().try_for_each(|request| self.answer(request))
    }

    fn step(&mut self, mut inputs: Vec<Input>, rows: usize) -> anyhow::Result<()> {
        let begun = self.clock.now_us();
        let seen = Seen::of(&inputs);
        self.note_untaken(&seen);
        let parks = inputs.iter().any(|input| matches!(input, Input::Park { .. }));
        let doubts = inputs.iter().any(|input| matches!(input, Input::Reload { .. } | Input::Altered { .. }));
        let is_told = inputs.iter().all(|input| matches!(input, Input::Outbox { .. }));
        let mut report = engine::StepReport::default();
        while let Some(more) = self.take_with_patience(&mut inputs)? {
            report.follow(more);
        }
        self.note_taken(&seen);
        if report.step == 0 {
            return Ok(());
        }
        let visible = self.clock.now_us();
        let committed = seen.marks.iter().map(|mark| mark.commit).min();
        self.status.moments().note(report.step, visible, committed);
        if let Some(deliveries) = &self.deliveries {
            deliveries.wake(report.outboxes.iter());
        }
        if is_told && report.relations.is_empty() {
            // Of deliveries alone: nothing that is read has changed.
            return Ok(());
        }
        self.note_step(&seen, &mut report, rows, begun, visible);
        for (table, reason) in &report.parked_tables {
            tracing::warn!(table = %self.table_name(*table), %reason, "table parked, until it is loaded again");
            let source = self.warehouse.engine.table(*table).and_then(|table| self.source_names.get(&table.source));
            if let Some(source) = source.cloned() {
                self.status.facts().contradicted.insert(self.table_name(*table), source);
            }
        }
        for table in &report.completed {
            let name = self.table_name(*table);
            self.status.facts().tables.entry(name).or_default().loaded_us = Some(visible);
        }
        if !report.parked.is_empty() {
            self.heal.later(self.uptime.now_us());
        }
        if parks || !report.completed.is_empty() || !report.parked.is_empty() || !report.parked_tables.is_empty() {
            self.build()?;
        } else if doubts {
            // Who reads a model over it is told at once.
            self.refresh_figures();
        }
        Ok(())
    }

    /// A table of which rows that are no longer there are still to be deleted.
    fn sweeping(&self) -> Option<TableId> {
        let mut tables = self.warehouse.engine.tables_to_come();
        tables.find(|table| matches!(table.load, Load::Sweeping { .. })).map(|table| table.id)
    }

    /// Sweeps a portion of a table that was loaded again: what the sources bring comes in between.
    fn sweep(&mut self) -> anyhow::Result<()> {
        match self.sweeping() {
            Some(table) => self.step(vec![Input::Sweep { table }], 0),
            None => Ok(()),
        }
    }

    /// A step, tried until the disk has room for it.
    fn take_with_patience(&mut self, inputs: &mut Vec<Input>) -> anyhow::Result<Option<engine::StepReport>> {
        let mut waits = false;
        loop {
            let error = match self.warehouse.engine.take(inputs) {
                Ok(report) => {
                    if waits {
                        tracing::info!("there is room on the disk again");
                        let mut facts = self.status.facts();
                        facts.waits_since_us = None;
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
                let mut facts = self.status.facts();
                facts.waits_since_us = Some(self.clock.now_us());
                facts.waits = error.to_string();
                waits = true;
            }
            self.refresh_figures();
            // Whether there was room then is seen by the next try.
            self.warehouse.engine.store().wait_for_space(ROOM_WAIT).ok();
        }
    }
}

/// What the pump waits for.
enum Heard {
    Nothing,
    Built(Box<Built>),
    Message(Box<Message>),
}
