//! One source at work: its events go to the pump, its tables come, change and go, and people command it.

mod reload;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use connect::source::{LOOK_AGAIN, until_there};
use connect::{
    Absence, Control, FollowedTable, LeftOut, Limits, OnChange, Source, SourceEvent, SourceState, TableFacts,
    TablePlace, Unanswered,
};
use engine::Load;
use plan::TableName;
use relation::{Position, SourceBatch, TableId};
use tokio::sync::{mpsc, oneshot};

use self::reload::{Answer, Asked};
use super::planned::{Found, PlannedTable, not_there};
use super::{Command, Commanded, Outlet, note_left_out, note_parked};
use crate::pump::{Message, Request};
use crate::reconcile::amend::{Amended, Amendment};
use crate::sources::said;

/// A table as the engine has it.
pub(super) struct Known {
    pub(super) id: TableId,
    pub(super) load: Load,
    pub(super) schema: relation::Schema,
    /// Whether rows of it are stored.
    pub(super) has_rows: bool,
}

/// How long to wait before asking again a source that could not be asked at the start.
const DESCRIBE_RETRY: Duration = Duration::from_secs(2);
/// How long where it is our settings that it refuses: a server may lock an account that is refused too often.
const REFUSED_RETRY: Duration = Duration::from_secs(60);

const STOPPING: &str = "the instance is stopping";

/// Follows one source.
pub(super) struct Follower {
    name: String,
    number: u32,
    source: Arc<dyn Source>,
    outlet: Outlet,
    /// Tables that are followed, loaded as far as what was sent.
    followed: Vec<FollowedTable>,
    /// Those of which the log has brought rows.
    brought: BTreeSet<TableId>,
    /// Tables that are looked for.
    absent: Vec<(TablePlace, TableName)>,
    /// Tables that are followed again when a person says so.
    parked: Vec<(TablePlace, TableName)>,
    /// Tables have become absent since they were last looked for.
    looks_for_more: bool,
    /// The names of those that are followed.
    of: BTreeMap<TableId, TableName>,
    commands: mpsc::Receiver<Command>,
    /// Those that have come at a time that did not suit them.
    deferred: VecDeque<Command>,
    /// Loads that were asked for and have not begun, and who waits for that.
    asked: Vec<(Asked, Answer)>,
    /// Why the source does not go on, as it said last; none while it does.
    stall: Option<String>,
    /// Behind all that was sent.
    resume: Option<Position>,
    /// Between two looks for tables that are absent.
    pause: Duration,
}

/// What a follower has to see to next.
enum Next {
    Event(SourceEvent),
    /// Tables that were absent, by their places among these.
    There(Vec<(usize, TableFacts)>),
    Command(Command),
}

/// The source at work.
type Running = (mpsc::Receiver<SourceEvent>, Control);

type Looking = Pin<Box<dyn Future<Output = Vec<(usize, TableFacts)>> + Send>>;

impl Follower {
    /// Follows a source, by its name and number, from behind `resume`.
    pub(super) fn new(
        (name, number): (String, u32),
        source: Arc<dyn Source>,
        outlet: Outlet,
        commands: mpsc::Receiver<Command>,
        resume: Option<Position>,
    ) -> Self {
        Self {
            name,
            number,
            source,
            outlet,
            followed: Vec::new(),
            brought: BTreeSet::new(),
            absent: Vec::new(),
            parked: Vec::new(),
            looks_for_more: false,
            of: BTreeMap::new(),
            commands,
            deferred: VecDeque::new(),
            asked: Vec::new(),
            stall: None,
            resume,
            pause: LOOK_AGAIN,
        }
    }

    /// Runs until stopped. None where it has ended before all was set up.
    pub(super) async fn run(mut self, mut tables: Vec<(PlannedTable, Option<Known>)>) -> Option<()> {
        self.ask_for(&mut tables).await?;
        for (table, known) in tables {
            self.set_up(table, known).await?;
        }
        // None while it is paused.
        let mut running = Some(self.start_source().await?);
        let mut looking = self.look();
        let mut stopped = self.outlet.stopped.clone();
        loop {
            let next = tokio::select! {
                event = next_event(&mut running) => Some(Next::Event(event)),
                there = &mut looking => Some(Next::There(there)),
                Some(command) = self.commands.recv() => Some(Next::Command(command)),
                _ = stopped.wait_for(|stop| *stop) => None,
            };
            let went_on = match next {
                None => None,
                Some(Next::Event(event)) => self.take(event, &mut running).await,
                Some(Next::There(there)) => match self.take_up(there).await {
                    None => None,
                    Some(is_more) => {
                        if is_more {
                            self.start_anew(&mut running).await;
                        }
                        looking = self.look();
                        Some(())
                    }
                },
                Some(Next::Command(command)) => {
                    self.carry_out(command, &mut running).await;
                    Some(())
                }
            };
            if went_on.is_none() {
                break;
            }
            while let Some(command) = self.deferred.pop_front() {
                self.carry_out(command, &mut running).await;
            }
            if self.looks_for_more {
                self.looks_for_more = false;
                looking = self.look();
            }
        }
        if let Some((events, control)) = running {
            drop(events);
            control.stop().await;
        }
        Some(())
    }

    /// An event goes to the pump. What is behind one that says of a table that its columns are others is read again by a
    /// source that knows the new ones.
    async fn take(&mut self, event: SourceEvent, running: &mut Option<Running>) -> Option<()> {
        self.note(&event);
        // Rows are not copied: of a batch nothing more is to be seen to.
        let news = (!matches!(event, SourceEvent::Batch(_))).then(|| event.clone());
        self.say(event).await?;
        let Some(news) = news else { return Some(()) };
        self.note_begun(&news);
        let is_over = match &news {
            SourceEvent::Altered { table, statement } => self.adopt(*table, statement).await?,
            SourceEvent::State(SourceState::Stalled, reason) => self.note_asked(reason).await?,
            SourceEvent::Failed(failure) => self.note_asked(&said(failure)).await?,
            _ => false,
        };
        if is_over {
            self.start_anew(running).await;
        }
        Some(())
    }

    /// A table has other columns: it is followed with these from now on. Answers whether there is something to start anew for.
    async fn adopt(&mut self, table: TableId, statement: &str) -> Option<bool> {
        let Some(at) = self.followed.iter().position(|followed| followed.id == table) else { return Some(false) };
        let FollowedTable { place, .. } = self.followed.remove(at);
        let Some(name) = self.of.remove(&table) else { return Some(false) };
        if place.columns.on_change == OnChange::Park {
            let reason = format!("its columns are others now ({statement}); `tidemill resnapshot {name}` takes them");
            self.say(SourceEvent::Parked { table, reason }).await?;
            self.parked.push((place, name));
            return Some(true);
        }
        let answer = self.describe(&place).await?;
        match answer {
            Ok(facts) => self.register(place, name, facts, true).await.map(|_| true),
            Err(Absence(reason)) => {
                let reason = not_there(&place, &reason);
                self.say(SourceEvent::Parked { table, reason }).await?;
                self.absent.push((place, name));
                self.looks_for_more = true;
                Some(true)
            }
        }
    }

    /// What a table is now; asked until there is an answer.
    async fn describe(&mut self, place: &TablePlace) -> Option<Result<TableFacts, Absence>> {
        loop {
            match self.source.describe(std::slice::from_ref(place)).await {
                Ok(mut answers) if answers.len() == 1 => return answers.pop(),
                Ok(_) => return Some(Err(Absence("The source does not say what it is.".to_owned()))),
                Err(unanswered) => {
                    let event = stalled(&unanswered);
                    self.note(&event);
                    self.say(event).await?;
                    self.wait_to_describe(retry(&unanswered)).await?;
                }
            }
        }
    }

    /// Between two questions for a table whose columns are others: what is commanded cannot be done, but tables that come and
    /// go wait until it is over.
    async fn wait_to_describe(&mut self, pause: Duration) -> Option<()> {
        let mut stopped = self.outlet.stopped.clone();
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return Some(()),
                Some(command) = self.commands.recv() => match command.what {
                    Commanded::Follow(_) | Commanded::LetGo(_) => self.deferred.push_back(command),
                    // Whoever asked may have left.
                    _ => {
                        command.answer.send(Err(self.cannot_be_asked())).ok();
                    }
                },
                _ = stopped.wait_for(|stop| *stop) => return None,
            }
        }
    }

    fn cannot_be_asked(&self) -> String {
        format!(
            "source \"{}\" cannot be asked for its tables yet: `tidemill status` says why\nHint: It is asked again by itself.",
            self.name
        )
    }

    /// Has the pump take a table up as it is now, loaded from the start or only followed. Answers whether it is followed.
    async fn register(&mut self, place: TablePlace, name: TableName, facts: TableFacts, loads: bool) -> Option<bool> {
        self.note_left_out(&name, &facts);
        let (answer, answered) = oneshot::channel();
        let (source, schema) = (self.name.clone(), facts.schema.clone());
        self.send(Message::Ask(Request::TakeUp { source, name: name.clone(), schema, loads, answer })).await?;
        match answered.await.ok()? {
            Ok(id) => {
                let load = if loads { connect::Load::Pending { cursor: None } } else { connect::Load::Complete };
                self.of.insert(id, name);
                self.followed.push(FollowedTable { id, place, facts, load });
                Some(true)
            }
            Err(reason) => {
                self.note_parked(&name, reason);
                self.parked.push((place, name));
                Some(false)
            }
        }
    }

    /// What was not taken is read again.
    async fn start_anew(&mut self, running: &mut Option<Running>) {
        if let Some((events, control)) = running.take() {
            drop(events);
            control.stop().await;
            *running = self.start_source().await;
        }
    }

    async fn carry_out(&mut self, command: Command, running: &mut Option<Running>) {
        let done = match command.what {
            Commanded::Reload(tables) => match self.reload(&tables, running).await {
                Ok(asked) => return self.wait_for(asked, command.answer),
                Err(reason) => Err(reason),
            },
            Commanded::ReloadAll => match self.reload_all(running).await {
                Ok(asked) => return self.wait_for(asked, command.answer),
                Err(reason) => Err(reason),
            },
            Commanded::Amend(amendment) => self.amend(&amendment, running).await,
            Commanded::Pause => self.set_paused(running).await,
            Commanded::Resume if running.is_some() => Err(format!("source \"{}\" is not paused", self.name)),
            Commanded::Resume => {
                *running = self.start_source().await;
                Ok(vec![format!("source \"{}\" goes on", self.name)])
            }
            Commanded::Follow(tables) => self.follow(tables, running).await.ok_or_else(|| STOPPING.to_owned()),
            Commanded::LetGo(names) => Ok(self.let_go(&names, running).await),
        };
        // Whoever asked may have left.
        command.answer.send(done).ok();
    }

    async fn set_paused(&mut self, running: &mut Option<Running>) -> Result<Vec<String>, String> {
        let Some((events, control)) = running.take() else {
            return Err(format!("source \"{}\" is paused already", self.name));
        };
        drop(events);
        control.stop().await;
        let message = format!("until `tidemill resume {}` or the next start", self.name);
        self.refuse_all();
        self.note_asked("it was paused").await.ok_or(STOPPING)?;
        let event = SourceEvent::State(SourceState::Paused, message);
        self.note(&event);
        self.say(event).await.ok_or(STOPPING)?;
        Ok(vec![format!("source \"{}\" is paused: what it has read is served, and grows old", self.name)])
    }

    /// Puts rows of a table right, while the source stands still for a moment.
    async fn amend(&mut self, amendment: &Amendment, running: &mut Option<Running>) -> Result<Vec<String>, String> {
        let is_it = |table: &FollowedTable| table.id == amendment.table() && table.load == connect::Load::Complete;
        if !self.followed.iter().any(is_it) {
            let name = &amendment.name;
            return Err(format!("table {name} is being loaded, or was taken up anew meanwhile: nothing was changed"));
        }
        if amendment.is_empty() {
            return Ok(amendment.told(Amended::default()));
        }
        let was_running = running.take();
        let is_running = was_running.is_some();
        if let Some((events, control)) = was_running {
            drop(events);
            control.stop().await;
        }
        let done = self.put_right(amendment).await;
        if is_running {
            *running = self.start_source().await;
        }
        done
    }

    /// Puts rows right at the place where the source stands.
    async fn put_right(&self, amendment: &Amendment) -> Result<Vec<String>, String> {
        let place = self.resume.clone().ok_or("the source has brought nothing yet")?;
        let text = |error: anyhow::Error| format!("{error:#}");
        // All that was sent is visible then.
        self.settled().await.ok_or(STOPPING)?;
        let touched = amendment.touched(&*self.source, &place).await.map_err(text)?;
        let view = self.outlet.status.view().1;
        let (batches, amended) = amendment.batches(&view, &touched, &place).map_err(text)?;
        for batch in batches {
            self.say(SourceEvent::Batch(batch)).await.ok_or(STOPPING)?;
        }
        self.settled().await.ok_or(STOPPING)?;
        Ok(amendment.told(amended))
    }

    /// Waits until all that was sent is visible; not for what is built of it.
    async fn settled(&self) -> Option<()> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Ask(Request::Tables { source: self.name.clone(), places: Vec::new(), answer })).await?;
        answered.await.ok().map(drop)
    }

    /// Starts the source where it was left. A load without a cursor begins anew, where the log ends then, and the log up to
    /// there is passed over; with it would be the end of rows that the log has brought before. So their table is loaded again.
    async fn start_source(&mut self) -> Option<Running> {
        self.ask_again().await?;
        let pending = connect::Load::Pending { cursor: None };
        for id in std::mem::take(&mut self.brought) {
            if self.followed.iter().any(|table| table.id == id && table.load == pending) {
                let reason = "it was left before the first rows of its load had come".to_owned();
                self.say(SourceEvent::Reload { table: id, reason }).await?;
            }
        }
        let (events, control) = self.source.start(self.followed.clone(), self.resume.clone(), Limits::default());
        if self.asked.iter().any(|(asked, _)| asked.is_of_all()) {
            control.restart_from_now();
        }
        Some((events, control))
    }

    /// Sends to the pump, unless it is told to stop.
    async fn send(&self, message: Message) -> Option<()> {
        let mut stopped = self.outlet.stopped.clone();
        tokio::select! {
            sent = self.outlet.inbox.send(message) => sent.ok(),
            _ = async { drop(stopped.wait_for(|stop| *stop).await) } => None,
        }
    }

    async fn say(&self, event: SourceEvent) -> Option<()> {
        self.send(Message::Event(self.number, event)).await
    }

    /// Follows tables too; those that are there are read from the next start of the source on, which is now.
    async fn follow(&mut self, tables: Vec<PlannedTable>, running: &mut Option<Running>) -> Option<Vec<String>> {
        let mut is_more = false;
        let mut done = Vec::new();
        for table in tables {
            if self.knows(&table.name) {
                if self.place_of(&table.name).is_some_and(|place| *place != table.place) {
                    is_more |= self.read_otherwise(table).await?;
                }
                continue;
            }
            done.push(format!("{} is followed", table.name));
            let reason = match table.found {
                Found::There(facts) => {
                    let loads = self.source.loads();
                    is_more |= self.register(table.place, table.name, facts, loads).await?;
                    continue;
                }
                Found::Absent(reason) => reason,
                Found::Unasked => "The source cannot be asked for it yet.".to_owned(),
            };
            self.note_parked(&table.name, not_there(&table.place, &reason));
            self.absent.push((table.place, table.name));
            self.looks_for_more = true;
        }
        if is_more {
            self.start_anew(running).await;
        }
        Some(done)
    }

    fn place_of(&self, name: &TableName) -> Option<&TablePlace> {
        let id = self.of.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
        let followed = self.followed.iter().find(|table| Some(table.id) == id).map(|table| &table.place);
        let mut beside = self.absent.iter().chain(&self.parked);
        followed.or_else(|| beside.find(|(_, known)| known == name).map(|(place, _)| place))
    }

    /// Another rule is wanted for a table that is known: where that makes a difference to its columns it is taken up as one whose
    /// columns were altered. Answers whether there is something to start anew for.
    async fn read_otherwise(&mut self, table: PlannedTable) -> Option<bool> {
        let reads_so = |place: &TablePlace| place.columns.reads_as(&table.place.columns);
        if self.place_of(&table.name).is_some_and(reads_so) {
            self.go_by(table);
            return Some(false);
        }
        let Found::There(facts) = table.found else { return Some(false) };
        let id = self.of.iter().find(|(_, known)| **known == table.name).map(|(id, _)| *id);
        if let Some(followed) = self.followed.iter_mut().find(|followed| Some(followed.id) == id)
            && followed.facts.schema == facts.schema
        {
            note_left_out(&self.outlet.status, &table.name, &facts.left_out);
            (followed.place, followed.facts) = (table.place, facts);
            return Some(true);
        }
        self.forget(&table.name);
        self.looks_for_more = true;
        let loads = self.source.loads();
        self.register(table.place, table.name, facts, loads).await.map(|_| true)
    }

    /// The same is read of a table, by another rule. One that waited for a person does not any more, where its columns are taken
    /// as they are.
    fn go_by(&mut self, table: PlannedTable) {
        let PlannedTable { place, name, .. } = table;
        let is_taken = place.columns.on_change != OnChange::Park;
        let id = self.of.iter().find(|(_, known)| **known == name).map(|(id, _)| *id);
        let followed =
            self.followed.iter_mut().filter(|followed| Some(followed.id) == id).map(|table| &mut table.place);
        let beside = self.absent.iter_mut().chain(&mut self.parked);
        let beside = beside.filter(|(_, known)| *known == name).map(|(place, _)| place);
        followed.chain(beside).for_each(|of| of.clone_from(&place));
        if is_taken {
            self.look_for(&name);
        }
    }

    /// A table is followed no more under the number that it has.
    fn forget(&mut self, name: &TableName) {
        let of = |known: &TableName| known == name;
        self.absent.retain(|(_, known)| !of(known));
        self.parked.retain(|(_, known)| !of(known));
        self.of.retain(|_, known| !of(known));
        self.followed.retain(|followed| self.of.contains_key(&followed.id));
    }

    fn knows(&self, name: &TableName) -> bool {
        let mut beside = self.absent.iter().chain(&self.parked);
        self.of.values().any(|known| known == name) || beside.any(|(_, known)| known == name)
    }

    /// Follows these tables no more.
    async fn let_go(&mut self, names: &[TableName], running: &mut Option<Running>) -> Vec<String> {
        self.absent.retain(|(_, name)| !names.contains(name));
        self.parked.retain(|(_, name)| !names.contains(name));
        self.of.retain(|_, name| !names.contains(name));
        let before = self.followed.len();
        self.followed.retain(|table| self.of.contains_key(&table.id));
        self.looks_for_more = true;
        if self.followed.len() < before {
            self.start_anew(running).await;
        }
        names.iter().map(|name| format!("{name} is followed no more")).collect()
    }

    /// Between two tries to ask a source: tables may come and go, and it can do nothing else.
    fn carry_out_unasked(&mut self, command: Command, tables: &mut Vec<(PlannedTable, Option<Known>)>) {
        let done = match command.what {
            Commanded::Follow(new) => {
                for table in new {
                    let table = PlannedTable { found: Found::Unasked, ..table };
                    match tables.iter_mut().find(|(known, _)| known.name == table.name) {
                        Some((known, _)) => *known = table,
                        None => tables.push((table, None)),
                    }
                }
                Ok(Vec::new())
            }
            Commanded::LetGo(names) => {
                tables.retain(|(table, _)| !names.contains(&table.name));
                Ok(Vec::new())
            }
            Commanded::Reload(_)
            | Commanded::Amend(_)
            | Commanded::ReloadAll
            | Commanded::Pause
            | Commanded::Resume => Err(self.cannot_be_asked()),
        };
        // Whoever asked may have left.
        command.answer.send(done).ok();
    }

    /// Asks for the tables that nobody could be asked for at the start, until there is an answer.
    async fn ask_for(&mut self, tables: &mut Vec<(PlannedTable, Option<Known>)>) -> Option<()> {
        let mut stopped = self.outlet.stopped.clone();
        loop {
            let is_unasked = |table: &&mut (PlannedTable, Option<Known>)| matches!(table.0.found, Found::Unasked);
            let unasked: Vec<_> = tables.iter_mut().filter(is_unasked).collect();
            if unasked.is_empty() {
                return Some(());
            }
            let wanted: Vec<_> = unasked.iter().map(|(table, _)| table.place.clone()).collect();
            match self.source.describe(&wanted).await {
                Ok(answers) => unasked.into_iter().zip(answers).for_each(|(t, answer)| t.0.found = Found::of(answer)),
                Err(unanswered) => {
                    let event = stalled(&unanswered);
                    self.note(&event);
                    self.say(event).await?;
                    let pause = tokio::time::sleep(retry(&unanswered));
                    tokio::pin!(pause);
                    loop {
                        tokio::select! {
                            () = &mut pause => break,
                            Some(command) = self.commands.recv() => self.carry_out_unasked(command, tables),
                            _ = stopped.wait_for(|stop| *stop) => return None,
                        }
                    }
                }
            }
        }
    }

    /// A table is followed, parked, or looked for.
    async fn set_up(&mut self, table: PlannedTable, known: Option<Known>) -> Option<()> {
        let (facts, known) = match (table.found, known) {
            (Found::There(facts), Some(known)) => (facts, known),
            (Found::Absent(reason), Some(known)) => {
                // It goes on without us: what we have of it is no longer its content.
                let reason = not_there(&table.place, &reason);
                self.absent.push((table.place, table.name));
                return self.say(SourceEvent::Parked { table: known.id, reason }).await;
            }
            (Found::Absent(reason), None) => {
                self.note_parked(&table.name, not_there(&table.place, &reason));
                self.absent.push((table.place, table.name));
                return Some(());
            }
            // Nobody could be asked for it before.
            (Found::There(facts), None) => {
                let loads = self.source.loads();
                return self.register(table.place, table.name, facts, loads).await.map(|_| ());
            }
            (Found::Unasked, _) => return Some(()),
        };
        let facts = as_known(facts, &table.place, &known.schema);
        match load_of(&known.load) {
            Some(load) if facts.schema == known.schema => {
                self.note_left_out(&table.name, &facts);
                self.of.insert(known.id, table.name);
                if known.has_rows {
                    self.brought.insert(known.id);
                }
                self.followed.push(FollowedTable { id: known.id, place: table.place, facts, load });
                Some(())
            }
            // It was parked, or its columns have changed while nobody could be asked: it is loaded again.
            _ => self.register(table.place, table.name, facts, true).await.map(|_| ()),
        }
    }

    /// Looks for the tables that are not there; never ends where there are none.
    fn look(&self) -> Looking {
        if self.absent.is_empty() {
            return Box::pin(std::future::pending());
        }
        let source = Arc::clone(&self.source);
        let places: Vec<TablePlace> = self.absent.iter().map(|(place, _)| place.clone()).collect();
        let pause = self.pause;
        Box::pin(async move { until_there(&*source, &places, pause).await })
    }

    /// Tables have come: the pump takes them up. Answers whether there is one more to follow.
    async fn take_up(&mut self, there: Vec<(usize, TableFacts)>) -> Option<bool> {
        let mut is_more = false;
        // From the last one on, so that the others keep their places.
        for (at, facts) in there.into_iter().rev() {
            let (place, name) = self.absent.remove(at);
            tracing::info!(source = %self.name, table = %name, "a table that was missing is there");
            is_more |= self.register(place, name, facts, true).await?;
        }
        Some(is_more)
    }

    fn note_left_out(&self, name: &TableName, facts: &TableFacts) {
        note_left_out(&self.outlet.status, name, &facts.left_out);
    }

    fn note_parked(&self, name: &TableName, reason: String) {
        note_parked(&self.outlet.status, &self.name, name, reason);
    }

    /// What is sent moves the place from which a new start goes on.
    fn note(&mut self, event: &SourceEvent) {
        match event {
            SourceEvent::Batch(batch) => self.note_batch(batch),
            SourceEvent::Reload { table, .. } => {
                let followed = self.followed.iter_mut().find(|followed| followed.id == *table);
                followed.into_iter().for_each(|table| table.load = connect::Load::Pending { cursor: None });
                self.brought.remove(table);
            }
            // A source that is started anew finds out for itself what it has parked.
            SourceEvent::Parked { .. } | SourceEvent::Altered { .. } => {}
            SourceEvent::State(SourceState::Stalled, reason) => self.stall = Some(reason.clone()),
            // A try is no success.
            SourceEvent::State(SourceState::Connecting, _) => {}
            SourceEvent::State(SourceState::Streaming | SourceState::Snapshot | SourceState::Paused, _) => {
                self.stall = None
            }
            SourceEvent::Failed(failure) => self.stall = Some(said(failure)),
        }
    }

    fn note_batch(&mut self, batch: &SourceBatch) {
        // Parts of a transaction have no position before the last one.
        if !batch.position.0.is_empty() {
            self.resume = Some(batch.position.clone());
        }
        self.brought.extend(batch.tables.iter().map(|(id, _)| *id));
        for chunk in &batch.chunks {
            let Some(followed) = self.followed.iter_mut().find(|followed| followed.id == chunk.table) else { continue };
            followed.load = match chunk.complete {
                true => connect::Load::Complete,
                false => connect::Load::Pending { cursor: Some(chunk.cursor.clone()) },
            };
        }
    }
}

/// A table that keeps its columns is followed with those that are known of it.
fn as_known(mut facts: TableFacts, place: &TablePlace, known: &relation::Schema) -> TableFacts {
    if place.columns.keeps(known, &facts.schema) {
        let is_new = |column: &&relation::Column| !known.columns.iter().any(|of| of.name == column.name);
        let reason = "it is not declared".to_owned();
        let left_out = |column: &relation::Column| LeftOut { column: column.name.clone(), reason: reason.clone() };
        facts.left_out.extend(facts.schema.columns.iter().filter(is_new).map(left_out));
        facts.schema = known.clone();
    }
    facts
}

/// The next event of a source; never, while it is paused, or once it has ended: people may still command it.
async fn next_event(running: &mut Option<Running>) -> SourceEvent {
    if let Some((events, _)) = running
        && let Some(event) = events.recv().await
    {
        return event;
    }
    std::future::pending().await
}

fn stalled(unanswered: &Unanswered) -> SourceEvent {
    SourceEvent::State(SourceState::Stalled, said(&unanswered.failure).replace('\n', " "))
}

/// How long to wait until the next try.
fn retry(unanswered: &Unanswered) -> Duration {
    if unanswered.is_ours { REFUSED_RETRY } else { DESCRIBE_RETRY }
}

fn load_of(load: &Load) -> Option<connect::Load> {
    match load {
        Load::Loading { cursor } | Load::Reloading { cursor, .. } => {
            Some(connect::Load::Pending { cursor: cursor.clone() })
        }
        // What is swept has come whole.
        Load::Sweeping { .. } | Load::Complete | Load::Partial => Some(connect::Load::Complete),
        Load::Parked { .. } | Load::Altered { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use connect::{Check, Failure, OwnFacts, Settings};
    use relation::{ChunkDone, Column, DataType, Rows, Schema, TransactionPart};

    use tokio::sync::watch;

    use super::*;
    use crate::clock::WallClock;
    use crate::status::Status;

    /// A source that says what it was told, once at each start, and lacks `customers` at first.
    #[derive(Debug, Default)]
    struct Told {
        says: Mutex<Vec<Vec<SourceEvent>>>,
        started: Mutex<Vec<(Vec<FollowedTable>, Option<Position>)>>,
        looks: Mutex<u32>,
    }

    fn facts() -> TableFacts {
        let column = Column { name: "id".to_owned(), data_type: DataType::Int64, nullable: false };
        let schema = Schema { columns: vec![column], key: vec![0] };
        TableFacts { schema, left_out: Vec::new(), rows_estimate: 0, own: OwnFacts::new(()) }
    }

    #[async_trait]
    impl Source for Told {
        fn word(&self) -> &'static str {
            "told"
        }

        async fn describe(&self, wanted: &[TablePlace]) -> Result<Vec<Result<TableFacts, Absence>>, Unanswered> {
            let mut looks = self.looks.lock().unwrap();
            *looks += 1;
            let missing = *looks < 3;
            let answer = |place: &TablePlace| match missing && place.name == "customers" {
                true => Err(Absence("It is not there.".to_owned())),
                false => Ok(facts()),
            };
            Ok(wanted.iter().map(answer).collect())
        }

        fn start(
            &self,
            tables: Vec<FollowedTable>,
            resume: Option<Position>,
            _limits: Limits,
        ) -> (mpsc::Receiver<SourceEvent>, Control) {
            let (events, receiver) = mpsc::channel(8);
            let (stop, mut stopped) = watch::channel(false);
            let mut says = self.says.lock().unwrap();
            let says = if says.is_empty() { Vec::new() } else { says.remove(0) };
            self.started.lock().unwrap().push((tables, resume));
            let task = tokio::spawn(async move {
                for event in says {
                    events.send(event).await.unwrap();
                }
                stopped.wait_for(|stop| *stop).await.map(|_| ()).ok();
            });
            (receiver, Control::new(stop, task))
        }

        async fn current_position(&self) -> Result<Option<Position>, Failure> {
            Ok(None)
        }

        fn reached(&self, current: &Position, target: &Position) -> Result<bool, Failure> {
            Ok(current == target)
        }

        async fn bytes_behind(&self, _position: &Position) -> Result<Option<u64>, Failure> {
            Ok(None)
        }

        async fn doctor(&self, _wanted: &[TablePlace]) -> Vec<Check> {
            Vec::new()
        }
    }

    fn place(name: &str) -> TablePlace {
        TablePlace { database: "shop".to_owned(), name: name.to_owned(), ..TablePlace::default() }
    }

    /// What the log brought of a table whose load has not come to a chunk is void when the source starts again: the log up to
    /// where the load begins then is passed over.
    #[tokio::test]
    async fn a_load_that_begins_anew_over_rows_is_said_to() {
        let folder = tempfile::tempdir().unwrap();
        let store = store::Store::open(&folder.path().join("store"), store::Options::default()).unwrap();
        let (inbox, mut outbox) = mpsc::channel(8);
        let (stop, stopped) = watch::channel(false);
        let at = |text: &str| Position(text.to_owned());
        let mut brought = SourceBatch { position: at("five"), ..SourceBatch::default() };
        brought.table(TableId(7)).weights.push(1);
        let source = Arc::new(Told { says: Mutex::new(vec![vec![SourceEvent::Batch(brought)]]), ..Told::default() });
        let outlet = Outlet { inbox, status: Status::new(store), clock: Arc::new(WallClock), stopped };
        let (line, commands) = mpsc::channel(1);
        let of = Arc::clone(&source) as Arc<dyn Source>;
        let follower = Follower::new(("shop".to_owned(), 3), of, outlet, commands, Some(at("four")));
        let known = |id, has_rows| Known {
            id: TableId(id),
            load: Load::Loading { cursor: None },
            schema: facts().schema,
            has_rows,
        };
        let planned = |name: &str| PlannedTable {
            place: place(name),
            name: TableName::new("shop", name),
            found: Found::There(facts()),
        };
        let tables = vec![
            (planned("orders"), Some(known(7, false))),
            (planned("items"), Some(known(8, true))),
            (planned("notes"), Some(known(9, false))),
        ];
        let running = tokio::spawn(follower.run(tables));
        let mut said = Vec::new();
        while said.len() < 3 {
            match outbox.recv().await.unwrap() {
                Message::Event(3, SourceEvent::Reload { table, .. }) => said.push(format!("reload {}", table.0)),
                Message::Event(3, SourceEvent::Batch(_)) => {
                    said.push("batch".to_owned());
                    for what in [Commanded::Pause, Commanded::Resume] {
                        let (answer, answered) = oneshot::channel();
                        line.send(Command { what, answer }).await.unwrap();
                        let answered = async { answered.await.unwrap().unwrap() };
                        tokio::pin!(answered);
                        loop {
                            tokio::select! {
                                _ = &mut answered => break,
                                message = outbox.recv() => match message.unwrap() {
                                    Message::Event(_, SourceEvent::State(..)) => {}
                                    Message::Event(_, SourceEvent::Reload { table, .. }) => {
                                        said.push(format!("reload {}", table.0));
                                    }
                                    other => panic!("{other:?}"),
                                },
                            }
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(said, ["reload 8", "batch", "reload 7"]);
        stop.send_replace(true);
        running.await.unwrap();
    }

    /// A table that comes is taken up, and the source starts again behind what was sent: loaded as far, parts of a
    /// transaction not counted before their last one.
    #[tokio::test]
    async fn a_table_that_comes_is_followed_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = store::Store::open(&folder.path().join("store"), store::Options::default()).unwrap();
        let (inbox, mut outbox) = mpsc::channel(2);
        let (stop, stopped) = watch::channel(false);
        let chunk = ChunkDone {
            table: TableId(7),
            cursor: vec![9],
            complete: false,
            rows: Rows::new(),
            unread: Rows::new(),
            rows_estimate: 0,
        };
        let at = |text: &str| Position(text.to_owned());
        let loaded = SourceBatch { chunks: vec![chunk], position: at("five"), ..SourceBatch::default() };
        let part = Some(TransactionPart { number: 1, is_last: false });
        let open = SourceBatch { part, ..SourceBatch::default() };
        let source = Arc::new(Told {
            says: Mutex::new(vec![vec![SourceEvent::Batch(loaded), SourceEvent::Batch(open)]]),
            ..Told::default()
        });
        let outlet = Outlet { inbox, status: Status::new(store), clock: Arc::new(WallClock), stopped };
        let (_line, commands) = mpsc::channel(1);
        let of = Arc::clone(&source) as Arc<dyn Source>;
        let mut follower = Follower::new(("shop".to_owned(), 3), of, outlet, commands, Some(at("four")));
        follower.pause = Duration::from_millis(1);
        let known =
            Known { id: TableId(7), load: Load::Loading { cursor: None }, schema: facts().schema, has_rows: false };
        let planned =
            |name: &str| PlannedTable { place: place(name), name: TableName::new("shop", name), found: Found::Unasked };
        let tables = vec![(planned("orders"), Some(known)), (planned("customers"), None)];
        let running = tokio::spawn(follower.run(tables));
        let mut batches = 0;
        let mut taken = false;
        while !(taken && source.started.lock().unwrap().len() == 2) {
            let message = tokio::select! {
                message = outbox.recv() => message.unwrap(),
                () = tokio::task::yield_now(), if taken => continue,
            };
            match message {
                Message::Event(3, SourceEvent::Batch(_)) => batches += 1,
                Message::Ask(Request::TakeUp { source, name, answer, .. }) => {
                    assert_eq!((source.as_str(), name.to_string().as_str()), ("shop", "shop.customers"));
                    answer.send(Ok(TableId(8))).unwrap();
                    taken = true;
                }
                other => panic!("{other:?}"),
            }
        }
        stop.send_replace(true);
        running.await.unwrap();
        let started = source.started.lock().unwrap();
        let of = |at: usize| -> Vec<_> { started[at].0.iter().map(|t| (t.id, t.load.clone())).collect() };
        assert_eq!(of(0), [(TableId(7), connect::Load::Pending { cursor: None })]);
        assert_eq!(started[0].1, Some(at("four")));
        // What had come by then was noted, whether or not both batches had.
        let cursor = (batches > 0).then(|| vec![9]);
        let loads =
            [(TableId(7), connect::Load::Pending { cursor }), (TableId(8), connect::Load::Pending { cursor: None })];
        assert_eq!(of(1), loads);
        assert_eq!(started[1].1, Some(at(if batches > 0 { "five" } else { "four" })));
    }

    /// Every kind has types of its own, and says what it does not know.
    #[tokio::test]
    async fn kinds_share_no_type_and_refuse_what_they_do_not_know() {
        let mut types: Vec<&str> = crate::sources::kinds().flat_map(|kind| kind.types()).copied().collect();
        let all = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), all);
        for kind in crate::sources::kinds() {
            let values = [("hots".to_owned(), serde_json::json!("db"))].into();
            let settings = Settings { connection: "shop".to_owned(), kind: kind.types()[0].to_owned(), values };
            let refused = kind.open(&settings).await.unwrap_err();
            assert_eq!(refused.message, "connection \"shop\": unknown setting `hots`");
        }
    }
}
