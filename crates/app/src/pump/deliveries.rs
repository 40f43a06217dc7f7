//! Outboxes for the project's syncs, and couriers that take their rows where they belong.
//!
//! What is wanted is looked at whenever something that it stands on may be another: at the start, when a project or a version is put in
//! place, when a model is built. What is as it was stays as it is, with its courier. A sync of which it is not known what it would
//! deliver has no courier; its outbox stays, and knows what has changed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use connect::destination::Problem;
use engine::Input;
use engine::outbox::{Definition, Told};
use plan::TableName;
use project::SyncPart;
use relation::Schema;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Message, Pump};
use crate::control::SyncOrder;
use crate::delivery::{Assignment, BY_HAND, Broken, Courier, Declared, DeliveryStatus, Line, Post, Wanted, WantedSync};
use crate::delivery::{figures, in_one_line};

/// What is delivered, and by whom.
pub(super) struct Deliveries {
    wanted: Arc<Wanted>,
    /// What a project that is being built wants: it is in force when that is in place.
    coming: Option<Arc<Wanted>>,
    /// As the engine has them.
    attached: BTreeMap<String, Definition>,
    couriers: BTreeMap<String, Running>,
    /// The way back to the pump, which does not keep it open.
    inbox: mpsc::WeakSender<Message>,
    stopped: watch::Receiver<bool>,
}

/// A courier that is under way.
struct Running {
    of: Arc<Assignment>,
    line: Arc<Line>,
    task: JoinHandle<()>,
}

/// What a sync comes to now.
enum Planned {
    Ready(Box<(Assignment, Definition)>),
    /// There is a mistake in it.
    Mistake(String),
    /// What it follows is not there, and why.
    Waits(String),
}

impl Planned {
    /// What is wrong is where it goes.
    fn mistaken(sync: &WantedSync, reason: &str) -> Self {
        Self::Mistake(format!("{}: {reason}", sync.sync.place_of(&SyncPart::AllTo)))
    }
}

impl Deliveries {
    fn new(wanted: Arc<Wanted>, inbox: &mpsc::Sender<Message>, stopped: watch::Receiver<bool>) -> Self {
        let (attached, couriers) = (BTreeMap::new(), BTreeMap::new());
        Self { wanted, coming: None, attached, couriers, inbox: inbox.downgrade(), stopped }
    }

    /// What is to be delivered when what is being built is in place.
    pub(super) fn comes(&mut self, wanted: Option<Arc<Wanted>>) {
        self.coming = wanted;
    }

    /// It is in place.
    pub(super) fn take(&mut self) {
        if let Some(coming) = self.coming.take() {
            self.wanted = coming;
        }
    }

    /// There may be something to deliver.
    pub(super) fn wake<'a>(&self, syncs: impl Iterator<Item = &'a String>) {
        syncs.filter_map(|sync| self.couriers.get(sync)).for_each(|courier| courier.line.wake.notify_one());
    }

    /// Ends a courier; its task may still be ending.
    fn end(&mut self, sync: &str) -> Option<JoinHandle<()>> {
        let running = self.couriers.remove(sync)?;
        running.task.abort();
        Some(running.task)
    }

    /// Ends all couriers: nothing of the store is theirs any more.
    pub(super) async fn end_all(&mut self) {
        let names: Vec<String> = self.couriers.keys().cloned().collect();
        let tasks: Vec<_> = names.iter().filter_map(|name| self.end(name)).collect();
        for task in tasks {
            task.await.ok();
        }
    }
}

impl Pump {
    /// Delivers from now on what a project wants.
    pub fn deliver(
        &mut self,
        wanted: Arc<Wanted>,
        inbox: &mpsc::Sender<Message>,
        stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        self.deliveries = Some(Deliveries::new(wanted, inbox, stopped));
        self.attend_deliveries()
    }

    /// Brings outboxes and couriers to what is wanted over what serves now.
    pub(super) fn attend_deliveries(&mut self) -> anyhow::Result<()> {
        let Some(deliveries) = &self.deliveries else { return Ok(()) };
        let wanted = Arc::clone(&deliveries.wanted);
        let planned = wanted.syncs.iter().map(|sync| (sync, self.planned(sync)));
        let mut planned: Vec<(&WantedSync, Planned)> = planned.collect();
        let unsettled = planned.iter().filter(|(_, of)| matches!(of, Planned::Mistake(_))).map(|(sync, _)| sync.name());
        let mut taken = wanted.taken(&self.warehouse.engine.outbox_places(), &unsettled.collect());
        for (sync, planned) in &mut planned {
            if let Some(failure) = taken.remove(sync.name()) {
                *planned = Planned::mistaken(sync, &in_one_line(&failure));
            }
        }
        let mut definitions = Vec::new();
        for (_, planned) in &planned {
            let Planned::Ready(ready) = planned else { continue };
            let (assignment, definition) = &**ready;
            if deliveries.attached.get(&assignment.sync) != Some(definition) {
                definitions.push(definition.clone());
            }
        }
        if !definitions.is_empty() {
            self.warehouse.engine.attach_outboxes(definitions.clone(), self.clock.now_us())?;
        }
        let Some(deliveries) = &mut self.deliveries else { return Ok(()) };
        deliveries.attached.extend(definitions.into_iter().map(|of| (of.name.clone(), of)));
        let known: BTreeSet<&str> = wanted.syncs.iter().map(WantedSync::name).collect();
        let unnamed: Vec<String> = self.warehouse.engine.outbox_names();
        let unnamed: Vec<String> = unnamed.into_iter().filter(|name| !known.contains(name.as_str())).collect();
        // The tasks of before end when they are asked for the last time; whoever follows waits for them.
        let gone: Vec<String> =
            deliveries.couriers.keys().filter(|name| !known.contains(name.as_str())).cloned().collect();
        gone.iter().for_each(|name| drop(deliveries.end(name)));
        if wanted.broken.is_empty() {
            for name in &unnamed {
                tracing::info!(sync = %name, "the project has it no more: what was delivered stays there, and is remembered here");
                self.warehouse.engine.retire_outbox(name)?;
                deliveries.attached.remove(name);
            }
        }
        self.note_planned(&wanted, &planned, &unnamed);
        for (sync, planned) in planned {
            match planned {
                Planned::Ready(ready) => self.send_courier(ready.0),
                Planned::Mistake(_) | Planned::Waits(_) => {
                    if let Some(deliveries) = &mut self.deliveries {
                        deliveries.end(sync.name());
                    }
                }
            }
        }
        if let Some(deliveries) = &self.deliveries {
            deliveries.wake(deliveries.couriers.keys());
        }
        self.note_waits();
        Ok(())
    }

    /// What a sync comes to over what serves now, as far as it alone says.
    fn planned(&self, sync: &WantedSync) -> Planned {
        if let Err(reason) = &sync.settings {
            return Planned::mistaken(sync, reason);
        }
        let schema = match self.followed(&sync.relation) {
            Ok(schema) => schema,
            Err(reason) => return Planned::Waits(reason),
        };
        match sync.target(schema) {
            Ok(target) => {
                let definition = sync.outbox(&target);
                match Assignment::of(sync, target) {
                    Some(assignment) => Planned::Ready(Box::new((assignment, definition))),
                    None => Planned::Waits("its destination is not known".to_owned()),
                }
            }
            // What serves is not what it is written for.
            Err(_) if self.is_coming(&sync.relation) => {
                Planned::Waits(format!("model {} is being built", sync.relation))
            }
            Err(problems) => Planned::Mistake(told(sync, &problems)),
        }
    }

    /// The columns and the key of what serves under a name. Errors: why nothing does.
    fn followed(&self, name: &TableName) -> Result<&Schema, String> {
        let engine = &self.warehouse.engine;
        let model = engine.models().into_iter().find(|model| model.name == *name).map(|model| model.relation);
        let relation = model.or_else(|| engine.tables().find(|table| table.name == *name).map(|table| table.id));
        if let Some(stored) = relation.and_then(|id| engine.relation(id)) {
            return Ok(&stored.schema);
        }
        let serving = &self.warehouse.serving;
        let coming = self.warehouse.next().into_iter().flat_map(|next| &next.waiting);
        let waiting =
            serving.waiting.iter().chain(coming).find(|(of, _)| of == name).map(|(_, reason)| reason.as_str());
        let absent = self.warehouse.absent.iter().find(|table| table.name == *name).map(|table| table.reason.as_str());
        Err(match (waiting, absent) {
            (Some(reason), _) => format!("model {name} is parked: {reason}"),
            (None, Some(reason)) => format!("table {name} is parked: {reason}"),
            (None, None) if self.is_coming(name) => format!("model {name} is being built"),
            (None, None) => format!("{name} does not serve: `tidemill status` says what does"),
        })
    }

    /// Whether a model of this name is among those that are coming.
    fn is_coming(&self, name: &TableName) -> bool {
        self.warehouse.next().is_some_and(|next| next.texts().any(|text| text.table_name() == *name))
    }

    /// Who delivers a sync: whoever does already, where nothing is another.
    fn send_courier(&mut self, of: Assignment) {
        let outboxes = self.warehouse.engine.outboxes();
        let Some(deliveries) = &mut self.deliveries else { return };
        let sync = of.sync.clone();
        if deliveries.couriers.get(&sync).is_some_and(|running| running.of.is_same(&of) && !running.task.is_finished())
        {
            return;
        }
        let (Some(inbox), Some(reader)) = (deliveries.inbox.upgrade(), self.warehouse.engine.outbox_reader(&sync))
        else {
            return;
        };
        let before = deliveries.end(&sync);
        let (of, line) = (Arc::new(of), Arc::new(Line::default()));
        let (status, clock) = (Arc::clone(&self.status), Arc::clone(&self.clock));
        let (stopped, kind_of) = (deliveries.stopped.clone(), connect::destination::kind_of);
        let post = Post { inbox, status, clock, stopped, kind_of };
        let courier = Courier::new(Arc::clone(&of), reader, outboxes, Arc::clone(&line), post);
        // Before it runs: what it notes itself is not to be taken back.
        if let Some(delivery) = self.status.facts().deliveries.get_mut(&sync) {
            (delivery.is_connected, delivery.trouble) = (false, None);
        }
        let task = self.runtime.spawn(courier.run(before));
        deliveries.couriers.insert(sync, Running { of, line, task });
    }

    /// What each sync comes to, for whoever asks.
    fn note_planned(&self, wanted: &Wanted, planned: &[(&WantedSync, Planned)], unnamed: &[String]) {
        let mut facts = self.status.facts();
        let mut before = std::mem::take(&mut facts.deliveries);
        for (sync, planned) in planned {
            let mut delivery = before.remove(sync.name()).unwrap_or_default();
            delivery.destination.clone_from(&sync.sync.destination);
            delivery.relation = Some(sync.relation.clone());
            delivery.declared = Declared::of(sync);
            (delivery.mistake, delivery.waits) = match planned {
                Planned::Ready(_) => (None, None),
                Planned::Mistake(mistake) => (Some(mistake.clone()), None),
                Planned::Waits(reason) => (None, Some(reason.clone())),
            };
            facts.deliveries.insert(sync.name().to_owned(), delivery);
        }
        for Broken { name, message } in &wanted.broken {
            if let Some(known) = facts.deliveries.get_mut(name) {
                // Another file has a sync of this file's name.
                known.mistake.get_or_insert_with(|| message.clone());
                continue;
            }
            let mut delivery = before.remove(name).unwrap_or_default();
            delivery.mistake = Some(message.clone());
            facts.deliveries.insert(name.clone(), delivery);
        }
        let Some(Broken { message, .. }) = wanted.broken.first() else { return };
        for name in unnamed.iter().filter(|name| !wanted.broken.iter().any(|broken| broken.name == **name)) {
            let mistake = format!("no file that can be read names it, and one cannot be read: {message}");
            let delivery = before.remove(name).unwrap_or_default();
            facts.deliveries.insert(name.clone(), DeliveryStatus { mistake: Some(mistake), ..delivery });
        }
    }

    /// What syncs wait for on this side: that changes with the models.
    pub(super) fn note_waits(&self) {
        let Some(deliveries) = &self.deliveries else { return };
        if deliveries.couriers.is_empty() {
            return;
        }
        let waits = self.warehouse.engine.outbox_waits();
        let mut facts = self.status.facts();
        for sync in deliveries.couriers.keys() {
            if let Some(delivery) = facts.deliveries.get_mut(sync) {
                delivery.waits = waits.get(sync).cloned();
            }
        }
    }

    /// Does what a person wants of a sync; lines for them.
    pub(super) fn order_sync(
        &mut self,
        name: String,
        order: SyncOrder,
        answer: oneshot::Sender<Result<Vec<String>, String>>,
    ) -> anyhow::Result<()> {
        let done = self.ordered(&name, order)?;
        // Whoever asked may have left.
        answer.send(done).ok();
        Ok(())
    }

    fn ordered(&mut self, name: &str, order: SyncOrder) -> anyhow::Result<Result<Vec<String>, String>> {
        if !self.warehouse.engine.outbox_names().iter().any(|known| known == name) {
            let told = self.status.facts().deliveries.get(name).map(DeliveryStatus::told);
            return Ok(Err(match told {
                Some((state, message)) => {
                    format!("sync \"{name}\" has delivered nothing yet: it is {state}: {message}")
                }
                None => format!("there is no sync \"{name}\""),
            }));
        }
        let (told, line) = match order {
            SyncOrder::Pause => {
                (Told::Pause { reason: BY_HAND.to_owned(), asked: None }, "is paused: what changes is marked meanwhile")
            }
            SyncOrder::Resume => (Told::Resume, "goes on"),
            SyncOrder::Refill => (Told::Refill { lost: true }, "sends all rows again"),
            SyncOrder::Retry => (Told::Retry, "sends the refused rows again"),
        };
        self.step(vec![Input::Outbox { name: name.to_owned(), told }], 0)?;
        figures::look_once(&self.status, self.warehouse.engine.outboxes())?;
        if let Some(courier) = self.deliveries.as_ref().and_then(|deliveries| deliveries.couriers.get(name)) {
            courier.line.wake.notify_one();
            courier.line.again.notify_one();
        }
        Ok(Ok(vec![format!("sync {name} {line}")]))
    }
}

/// What is wrong with a sync, in one line with its place.
fn told(sync: &WantedSync, problems: &[Problem]) -> String {
    let Some(first) = problems.first() else { return String::new() };
    let place = crate::delivery::check::place_of(&sync.sync, &first.at);
    let parts = [&first.detail, &first.hint];
    let more: Vec<&str> = parts.iter().filter(|part| !part.is_empty()).map(|part| part.as_str()).collect();
    let others = problems.len() - 1;
    let others = if others > 0 { format!(" (and {others} more)") } else { String::new() };
    let end = if more.is_empty() { "" } else { ". " };
    format!("{place}: {}{end}{}{others}", first.message, more.join(" "))
}
