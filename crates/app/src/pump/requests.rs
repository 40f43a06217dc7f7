//! What is asked of the pump, and its answers: each between two steps.
//!
//! An apply is answered when what it proposed is in place, or cannot be; a newer one, or a rollback, takes its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use connect::{SourceEvent, TablePlace};
use engine::{Difference, Input, Load, ModelState};
use plan::TableName;
use relation::{Schema, TableId};
use tokio::sync::oneshot;

use super::Pump;
use super::kept::{Answer, Done};
use crate::clock::Clock as _;
use crate::control::SyncOrder;
use crate::definition::{Definition, ModelText};
use crate::delivery::{Places, Wanted};
use crate::follow::Kept;
use crate::reason::Reason;
use crate::reconcile::source::{OurTable, Ours};
use crate::warehouse::{AbsentTable, Proposal, Proposed, Warehouse, WentBack, schemas_to_come, told};

/// What is said of a project that was rolled back.
pub const HELD_BACK: &str = "a rollback gave up what the project said; `tidemill apply` takes it, and so does a start once the project has changed";

/// Why an apply has ended before its time.
pub const SUPERSEDED: &str = "another project was applied";

/// A request and where its answer goes.
pub enum Request {
    /// Waits until everything sent before it is visible, and what can be built of it is.
    Barrier(oneshot::Sender<u64>),
    /// A source that is new: its number, or why that cannot be.
    RegisterSource { source: String, answer: oneshot::Sender<Result<u32, String>> },
    /// What there is of a source by now.
    Kept { source: String, answer: oneshot::Sender<Kept> },
    /// A table that was missing at the start, or is new, has come: its number, or why that cannot be. It is to be loaded from
    /// the start, or holds what comes from now on.
    TakeUp {
        source: String,
        name: TableName,
        schema: Schema,
        loads: bool,
        answer: oneshot::Sender<Result<TableId, String>>,
    },
    /// A table is in doubt, and loaded again: whether it is known under this number.
    Reload { table: TableId, reason: String, answer: oneshot::Sender<bool> },
    /// Builds what is proposed beside what serves, and puts it in place; its syncs deliver from then on.
    Apply { proposal: Box<Proposal>, wanted: Arc<Wanted>, answer: oneshot::Sender<Applied> },
    /// Gives up what is coming, or goes back to what served before.
    Rollback(oneshot::Sender<Result<Undone, String>>),
    /// What serves now, and what it stands on.
    Describe(oneshot::Sender<Described>),
    /// Something that a person wants of a sync: what was done, in lines for people, or why it cannot be.
    Sync { name: String, order: SyncOrder, answer: oneshot::Sender<Result<Vec<String>, String>> },
    /// What holds the target of a sync has another name than before, and is the one that it was or another one.
    Moved { sync: String, is_there: bool, answer: oneshot::Sender<()> },
    /// The tables of a source at these places of it, and how to know where it stood.
    Tables { source: String, places: Vec<(TableName, TablePlace)>, answer: oneshot::Sender<SourceTables> },
}

/// What there is of a source.
#[derive(Debug)]
pub struct SourceTables {
    pub number: u32,
    pub tables: Vec<OurTable>,
    pub positions: engine::Positions,
}

/// Stands before a source table among the models that wait.
pub const SOURCE_TABLE: &str = "source table ";

/// How an apply ended.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Applied {
    /// Models that came, that were built anew, that went, and that stayed as they were.
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub kept: Vec<String>,
    /// Models that cannot be kept now, and source tables that cannot be read, and why; the others are in place all the same.
    #[serde(default)]
    pub waiting: Vec<String>,
    /// Models that serve on in the text that they had, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// Models that are in place and could not be built, and why; they are tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<String>,
    /// What is wrong with the project, each at its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What may be a mistake in it, each at its place; it is applied all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// What of the project is taken up by a restart alone.
    #[serde(default)]
    pub restart: Vec<String>,
    /// Roles and personal columns that are others from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Dashboards that came, went or are others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dashboards: Vec<String>,
    /// The same of syncs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub syncs: Vec<String>,
    /// Source tables that are followed from now on, and that are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_tables: Vec<String>,
    /// Those of which other columns are read from now on, and which: they are loaded anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_tables: Vec<String>,
    /// What may be a mistake, and is applied all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone_tables: Vec<String>,
    /// Why all of what served before serves on; empty where the new models are in place.
    pub failed: Vec<String>,
}

impl Applied {
    /// Whether all that the project says is in place. What waits is not, whatever it waits for, and since whenever it does.
    pub fn is_whole(&self) -> bool {
        [&self.failed, &self.held, &self.stopped, &self.waiting, &self.errors].iter().all(|of| of.is_empty())
    }
}

/// What a rollback undid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// What was coming is given up; what serves serves on.
    Coming,
    /// What served before serves again.
    Serving,
    /// The last rollback: what it gave up serves again.
    Rollback,
}

/// What serves, for who compares it with a project.
#[derive(Debug, Clone)]
pub struct Described {
    pub definition: Definition,
    /// Rows of tables and models.
    pub rows: BTreeMap<TableName, i64>,
    pub tables: Vec<(TableName, Schema)>,
    /// Tables that are not there, and why.
    pub absent: Vec<AbsentTable>,
    /// Models and views that are wanted and wait, as they are written.
    pub waiting: Vec<ModelText>,
    /// Where syncs have delivered to.
    pub places: Places,
}

impl Described {
    /// What serves in a warehouse.
    pub fn of(warehouse: &Warehouse) -> Self {
        let engine = &warehouse.engine;
        let tables = engine.tables().map(|table| (table.name.clone(), engine.row_count(table.id)));
        let models = engine.models().into_iter().map(|model| (model.name.clone(), engine.row_count(model.relation)));
        Self {
            places: engine.outbox_places(),
            definition: warehouse.serving.serves(),
            rows: tables.chain(models).collect(),
            tables: schemas_to_come(engine),
            absent: warehouse.absent.clone(),
            waiting: warehouse.waiting(),
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Barrier(_) => f.write_str("Barrier"),
            Self::RegisterSource { source, .. } => write!(f, "RegisterSource({source})"),
            Self::Kept { source, .. } => write!(f, "Kept({source})"),
            Self::TakeUp { name, .. } => write!(f, "TakeUp({name})"),
            Self::Reload { table, .. } => write!(f, "Reload({table})"),
            Self::Apply { .. } => f.write_str("Apply"),
            Self::Rollback(_) => f.write_str("Rollback"),
            Self::Describe(_) => f.write_str("Describe"),
            Self::Tables { source, .. } => write!(f, "Tables({source})"),
            Self::Moved { sync, is_there, .. } => write!(f, "Moved({sync}, {is_there})"),
            Self::Sync { name, order, .. } => write!(f, "Sync({name}, {order:?})"),
        }
    }
}

/// The answers to those who wait for models that are coming, which are in place by now.
struct Ended(Vec<(oneshot::Sender<Applied>, Applied)>);

impl Answer for Ended {
    fn is_unheard(&self) -> bool {
        self.0.iter().all(|(answer, _)| answer.is_closed())
    }

    fn tell(self: Box<Self>, kept: store::Result<()>) {
        for (answer, mut applied) in self.0 {
            applied.failed.extend(kept.as_ref().err().map(ToString::to_string));
            // Whoever asked may have left.
            answer.send(applied).ok();
        }
    }
}

impl Pump {
    pub(super) fn answer(&mut self, request: Request) -> anyhow::Result<()> {
        match request {
            Request::Barrier(done) => {
                self.barriers.push(done);
                self.release_barriers();
            }
            Request::RegisterSource { source, answer } => {
                let number = self.warehouse.register_source(&source).map_err(|error| error.to_string());
                self.source_names = self.warehouse.engine.sources().map(|(id, name)| (id, name.to_owned())).collect();
                self.answer_when_kept(number, answer);
            }
            Request::Kept { source, answer } => {
                answer.send(Kept::of(&self.warehouse.engine, &source)).ok();
            }
            Request::TakeUp { source, name, schema, loads, answer } => {
                self.take_up(&source, (&name, &schema), loads, answer)?;
            }
            Request::Reload { table, reason, answer } => {
                let source = self.warehouse.engine.table(table).map(|table| table.source);
                if let Some(source) = source {
                    let input = self.note_event(source, SourceEvent::Reload { table, reason });
                    self.step(input.into_iter().collect(), 0)?;
                }
                // Whoever asked may have left.
                answer.send(source.is_some()).ok();
            }
            Request::Apply { proposal, wanted, answer } => self.apply(*proposal, wanted, answer)?,
            Request::Sync { name, order, answer } => self.order_sync(name, order, answer)?,
            Request::Moved { sync, is_there, answer } => {
                match is_there {
                    true => self.warehouse.engine.outbox_is_there(&sync)?,
                    false => self.warehouse.engine.outbox_is_elsewhere(&sync)?,
                }
                // Whoever asked may have left.
                answer.send(()).ok();
            }
            Request::Rollback(answer) => {
                let undone = self.rollback()?;
                self.answer_when_kept(undone, answer);
            }
            Request::Tables { source, places, answer } => {
                let engine = &self.warehouse.engine;
                let tables = SourceTables {
                    number: engine.source(&source).unwrap_or_default(),
                    tables: Ours::tables(engine, &source, &places),
                    positions: engine.positions(),
                };
                answer.send(tables).ok();
            }
            Request::Describe(answer) => {
                answer.send(Described::of(&self.warehouse)).ok();
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        proposal: Proposal,
        wanted: Arc<Wanted>,
        answer: oneshot::Sender<Applied>,
    ) -> anyhow::Result<()> {
        tracing::info!("a project is applied");
        // What the project said at the start is of no more interest, whatever becomes of this.
        self.warehouse.forget_stalled();
        self.heal.soon(self.uptime.now_us());
        let new = &proposal.keepable.contents;
        if let Some((coming, difference)) = &self.warehouse.coming
            && coming.definition == new.definition
        {
            self.applying.push((answer, Applied::of(difference)));
            self.warehouse.wanted_again(proposal);
            self.deliver_with_coming(wanted);
            self.note_states();
            return Ok(());
        }
        match self.propose(proposal)? {
            Proposed::Coming(difference) => {
                self.deliver_with_coming(wanted);
                self.applying.push((answer, Applied::of(&difference)));
            }
            Proposed::InPlace(difference) => {
                self.deliver_with_coming(wanted);
                self.drop_unwanted_tables()?;
                self.applying.push((answer, Applied::of(&difference)));
                self.end_applying(&[])?;
            }
            Proposed::Refused(failed) => {
                answer.send(Applied { failed, ..Applied::default() }).ok();
            }
        }
        self.build()
    }

    fn rollback(&mut self) -> anyhow::Result<Result<Undone, String>> {
        let undone = if self.warehouse.give_up_coming()? {
            Undone::Coming
        } else if let Some(went) = self.warehouse.rollback()? {
            match went {
                WentBack::ToBefore => Undone::Serving,
                WentBack::ToWhatWasGivenUp => Undone::Rollback,
            }
        } else {
            let hint = "Hint: `tidemill plan` shows what the project on disk would change.";
            return Ok(Err(format!(
                "there is nothing to go back to: no change of the project is kept here, and none is once a source table has other columns\n{hint}"
            )));
        };
        self.give_up_building();
        self.give_up_applying("it was given up by a rollback")?;
        self.stranded.forget();
        {
            let mut facts = self.status.facts();
            facts.pending = false;
            facts.not_applied = Reason::default();
        }
        self.note_held_back();
        self.note_contents();
        self.build()?;
        Ok(Ok(undone))
    }

    /// Proposes what the project said at the start, where that is not what serves.
    pub(super) fn propose_outdated(&mut self) -> anyhow::Result<()> {
        let Some(proposed) = self.warehouse.propose_outdated()? else { return self.drop_unwanted_tables() };
        self.note_proposed(&proposed);
        match proposed {
            Proposed::InPlace(_) => self.drop_unwanted_tables(),
            Proposed::Coming(_) | Proposed::Refused(_) => Ok(()),
        }
    }

    /// Sets up a definition beside what serves.
    fn propose(&mut self, proposal: Proposal) -> anyhow::Result<Proposed> {
        let had_coming = self.warehouse.coming.is_some();
        let proposed = self.warehouse.propose(proposal)?;
        let is_coming_still = matches!(proposed, Proposed::Refused(_)) && self.warehouse.coming.is_some();
        if had_coming && !is_coming_still {
            self.give_up_building();
            self.give_up_applying(SUPERSEDED)?;
        }
        self.note_proposed(&proposed);
        Ok(proposed)
    }

    pub(super) fn note_proposed(&mut self, proposed: &Proposed) {
        {
            let mut facts = self.status.facts();
            facts.pending = self.warehouse.coming.is_some();
            match proposed {
                Proposed::Coming(_) | Proposed::InPlace(_) => facts.not_applied = Reason::default(),
                Proposed::Refused(reasons) => {
                    facts.not_applied = Reason::joined(reasons.iter().map(|reason| Reason::of(reason)));
                    tracing::error!(models = ?reasons, "the project is not applied; what served before serves on");
                }
            }
        }
        if matches!(proposed, Proposed::InPlace(_)) {
            self.note_held_back();
        }
        self.note_contents();
        self.note_stranded();
    }

    /// What is coming comes to something else than was thought: whoever waits for it is told so.
    pub(super) fn note_difference(&mut self, difference: &Difference) {
        for (_, applied) in &mut self.applying {
            *applied = Applied::of(difference);
        }
    }

    /// Models of these names that serve and are not kept, and why.
    fn stopped(&self, names: &[&String]) -> Vec<String> {
        let models = self.warehouse.engine.models().into_iter();
        let models = models.filter(|model| names.contains(&&model.name.to_string()));
        let stopped = models.filter_map(|model| match &model.state {
            ModelState::Failed { reason } => Some(format!("{}: could not be built: {reason}", model.name)),
            ModelState::Parked { reason } | ModelState::Waiting { reason } => Some(format!("{}: {reason}", model.name)),
            ModelState::Building | ModelState::Live => None,
        });
        stopped.collect()
    }

    /// The project says what a rollback gave up: whoever asks is told.
    pub(super) fn note_held_back(&self) {
        if self.warehouse.is_held_back {
            self.status.facts().not_applied = Reason::of(HELD_BACK);
        }
    }

    /// A model of the version that is given up may be under way; one that is still wanted is begun again.
    pub(super) fn give_up_building(&self) {
        if let Some(cancel) = &self.building {
            cancel.store(true, Ordering::Release);
        }
    }

    fn give_up_applying(&mut self, reason: &str) -> anyhow::Result<()> {
        self.end_applying(&[reason.to_owned()])
    }

    /// What is delivered when what is coming is in place.
    fn deliver_with_coming(&mut self, wanted: Arc<Wanted>) {
        if let Some(deliveries) = &mut self.deliveries {
            deliveries.comes(Some(wanted));
        }
    }

    /// Answers who waits for what is coming: it failed for these reasons, or is in place.
    pub(super) fn end_applying(&mut self, failed: &[String]) -> anyhow::Result<()> {
        if let Some(deliveries) = &mut self.deliveries {
            match failed {
                [] => deliveries.take(),
                _ => deliveries.comes(None),
            }
        }
        if self.applying.is_empty() {
            return Ok(());
        }
        // Who is told that it is in place finds it there.
        self.publish();
        self.attend_deliveries()?;
        let (held, waiting) = (told(&self.warehouse.serving.held), told(&self.warehouse.serving.waiting));
        let mut answers = std::mem::take(&mut self.applying);
        for (_, applied) in &mut answers {
            applied.failed = failed.to_vec();
            if failed.is_empty() {
                let names: Vec<&String> = applied.added.iter().chain(&applied.changed).collect();
                applied.stopped = self.stopped(&names);
                (applied.held, applied.waiting) = (held.clone(), waiting.clone());
            }
        }
        let ended = Box::new(Ended(answers));
        match failed {
            [] => self.when_kept(ended),
            _ => ended.tell(Ok(())),
        }
        Ok(())
    }

    /// A table that has come is told to the source when the store knows it for good: the log names tables by number.
    fn take_up(
        &mut self,
        source: &str,
        (name, schema): (&TableName, &Schema),
        loads: bool,
        answer: oneshot::Sender<Result<TableId, String>>,
    ) -> anyhow::Result<()> {
        let id = match self.warehouse.take_up(source, name, schema, loads) {
            Ok(id) => id,
            Err(error) => {
                answer.send(Err(error.to_string())).ok();
                return Ok(());
            }
        };
        let load = self.warehouse.engine.table(id).map(|table| table.load.clone());
        // Whatever it was before, changes of it have been missed.
        let is_begun = load.is_some_and(|load| !matches!(load, Load::Loading { cursor: None } | Load::Partial));
        if is_begun {
            let reason = "it is followed again".to_owned();
            self.step(vec![Input::Reload { table: id, reason, at_us: self.clock.now_us() }], 0)?;
        }
        self.answer_when_kept(Ok(id), answer);
        self.source_names = self.warehouse.engine.sources().map(|(id, name)| (id, name.to_owned())).collect();
        if self.warehouse.coming.is_some() {
            self.give_up_building();
        }
        self.propose_again()?;
        self.build()
    }

    /// Tells something when the store has for good what was done between steps, which is in no record of the log: also over a
    /// time in which the disk has no room. Whatever a request has done is told by this, so that who was told finds it after
    /// whatever comes next.
    fn when_kept(&mut self, answer: Box<dyn Answer>) {
        let engine = &self.warehouse.engine;
        if !engine.has_unlogged() {
            answer.tell(Ok(()));
            return;
        }
        self.answers.add(answer, engine.store(), &self.runtime);
    }

    /// Answers with what was done when the store has it.
    fn answer_when_kept<T: Send + 'static>(
        &mut self,
        done: Result<T, String>,
        answer: oneshot::Sender<Result<T, String>>,
    ) {
        self.when_kept(Box::new(Done { done, answer }));
    }

    /// Tables that the project has no more go when nothing reads them.
    pub(super) fn drop_unwanted_tables(&mut self) -> anyhow::Result<()> {
        let dropped = self.warehouse.drop_unwanted_tables()?;
        if dropped.is_empty() {
            return Ok(());
        }
        {
            let mut facts = self.status.facts();
            facts.tables.retain(|name, _| !dropped.contains(name));
        }
        for table in &dropped {
            tracing::info!(%table, "the project has it no more: dropped");
        }
        self.warehouse.engine.store().fold_soon();
        self.note_contents();
        Ok(())
    }

    /// What is wanted is proposed over the tables as they are now. Whoever waits for an apply waits for what it comes to then.
    pub(super) fn propose_again(&mut self) -> anyhow::Result<()> {
        let proposed = self.warehouse.propose_again()?;
        self.note_proposed(&proposed);
        match &proposed {
            Proposed::Coming(difference) => self.note_difference(difference),
            Proposed::InPlace(difference) => {
                self.note_difference(difference);
                self.end_applying(&[])?;
            }
            // What was coming before may still be.
            Proposed::Refused(_) if self.warehouse.coming.is_some() => {}
            Proposed::Refused(reasons) => self.end_applying(reasons)?,
        }
        self.note_contents();
        Ok(())
    }

    pub(super) fn release_barriers(&mut self) {
        if self.building.is_some() {
            return;
        }
        for done in self.barriers.drain(..) {
            // Whoever asked may have left.
            done.send(self.warehouse.engine.current_step()).ok();
        }
    }
}

impl Applied {
    fn of(difference: &Difference) -> Self {
        let text = |names: &[TableName]| names.iter().map(ToString::to_string).collect();
        Self {
            added: text(&difference.added),
            changed: text(&difference.changed),
            removed: text(&difference.removed),
            kept: text(&difference.kept),
            ..Self::default()
        }
    }
}
