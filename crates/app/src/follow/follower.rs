//! One source at work: its events go to the pump, its tables come, change and go, and people command it.

mod reload;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use connect::source::{Again, LOOK_AGAIN, REFUSED_AGAIN, until_there};
use connect::{
    Absence, Control, Failure, FollowedTable, LeftOut, Limits, OnChange, OwnFacts, Source, SourceEvent, SourceState,
    TableFacts, TablePlace, Unanswered,
};
use engine::Load;
use plan::TableName;
use relation::{Position, SourceBatch, TableId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::reload::{Answer, Asked};
use super::marks::Mark;
use super::planned::{AFTER_RESTART, Found, PlannedTable, not_there};
use super::{Command, Commanded, Outlet, note_left_out, note_parked};
use crate::pump::{Message, Request};
use crate::reconcile::amend::{Amended, Amendment};
use crate::warehouse::AbsentTable;

/// A table as the engine has it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: TableId,
    /// The source that it was read from.
    pub(super) source: u32,
    pub(super) load: Load,
    pub(super) schema: relation::Schema,
    /// Whether rows of it are stored.
    pub(super) has_rows: bool,
}

/// How long to wait before asking again a source that could not be asked at the start.
const DESCRIBE_RETRY: Duration = Duration::from_secs(2);

/// For how long further tables are waited for when one has other columns: a change of many tables begins their source anew once.
const TOGETHER: Duration = Duration::from_millis(300);

const ALTERED_MEANWHILE: &str = "its columns were altered while it was not read";
const FOLLOWED_AGAIN: &str = "it is followed again";
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
    /// Those of which the source sends no more. They are loaded again by the next one that can, which the engine is told before
    /// anything comes of them: it takes nothing of a table that is parked.
    halted: BTreeSet<TableId>,
    /// Why tables are loaded again, as was said last, until they are.
    doubts: BTreeMap<TableId, String>,
    /// Facts of tables that are true from the next batch on.
    learned: BTreeMap<TableId, OwnFacts>,
    /// Tables that are looked for.
    absent: Vec<(TablePlace, TableName)>,
    /// Tables that are followed again when a person says so.
    parked: Vec<(TablePlace, TableName)>,
    /// Tables have become absent since they were last looked for.
    looks_for_more: bool,
    /// The names of those that are followed.
    of: BTreeMap<TableId, TableName>,
    commands: mpsc::Receiver<Command>,
    /// Loads that were asked for and have not begun, and who waits for that.
    asked: Vec<(Asked, Answer)>,
    /// Why the source does not go on, as it said last; none while it does.
    stall: Option<String>,
    /// Behind all that was sent.
    resume: Option<Position>,
    /// Between two looks for tables that are absent.
    pause: Duration,
    /// For how long further altered tables are waited for.
    together: Duration,
    /// When the source is begun anew for those that were altered.
    anew_at: Option<Instant>,
    /// When a source that has ended is begun again: what it was refused for may be mended.
    again_at: Option<Instant>,
}

/// What a follower has to see to next.
enum Next {
    Event(SourceEvent),
    /// Tables that were absent, by their places among these.
    There(Vec<(usize, TableFacts)>),
    Command(Command),
    /// It is time to begin the source again: it has ended, or tables of it have other columns.
    Again,
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
            halted: BTreeSet::new(),
            learned: BTreeMap::new(),
            doubts: BTreeMap::new(),
            absent: Vec::new(),
            parked: Vec::new(),
            looks_for_more: false,
            of: BTreeMap::new(),
            commands,
            asked: Vec::new(),
            stall: None,
            resume,
            pause: LOOK_AGAIN,
            together: TOGETHER,
            anew_at: None,
            again_at: None,
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
                () = until(self.again_at), if running.is_some() => Some(Next::Again),
                () = until(self.anew_at), if running.is_some() => Some(Next::Again),
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
                Some(Next::Again) => {
                    self.start_anew(&mut running).await;
                    Some(())
                }
            };
            if went_on.is_none() {
                break;
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

    /// What a source says. It is drained at all times but while something else of ours answers: nothing is waited for that the
    /// source has to do.
    async fn take(&mut self, event: SourceEvent, running: &mut Option<Running>) -> Option<()> {
        match event {
            SourceEvent::Learned { table, facts } => {
                self.learned.insert(table, facts);
                Some(())
            }
            SourceEvent::Reload { table, reason } => {
                self.hold_in_doubt(table, reason.clone()).await?;
                self.note_begun(&SourceEvent::Reload { table, reason });
                Some(())
            }
            SourceEvent::Batch(batch) => {
                let of_tables = batch.tables.iter().map(|(id, _)| *id);
                let of_all = of_tables.chain(batch.chunks.iter().map(|chunk| chunk.table));
                let halted: BTreeSet<TableId> = of_all.filter(|id| self.halted.contains(id)).collect();
                for table in halted {
                    self.hold_in_doubt(table, FOLLOWED_AGAIN.to_owned()).await?;
                }
                self.pass_on(SourceEvent::Batch(batch), running).await
            }
            SourceEvent::Failed(failure) => {
                self.pass_on(SourceEvent::Failed(tried_again(failure, Again::Seldom)), running).await
            }
            event => self.pass_on(event, running).await,
        }
    }

    /// A table is in doubt from here on. One that the engine does not know under its number, since it has given it up, is looked
    /// for as if it were new.
    async fn hold_in_doubt(&mut self, table: TableId, reason: String) -> Option<()> {
        self.note(&SourceEvent::Reload { table, reason: reason.clone() });
        let (answer, answered) = oneshot::channel();
        self.send(Message::Ask(Request::Reload { table, reason, answer })).await?;
        if !self.answer_of(answered).await?
            && let Some(at) = self.followed.iter().position(|followed| followed.id == table)
        {
            let FollowedTable { place, .. } = self.followed.remove(at);
            if let Some(name) = self.of.remove(&table) {
                tracing::info!(source = %self.name, table = %name, "it was given up as it was, and is taken up anew");
                self.absent.push((place, name));
                self.looks_for_more = true;
            }
        }
        Some(())
    }

    /// An event goes to the pump. What is behind one that says of a table that its columns are others is read again by a
    /// source that knows the new ones.
    async fn pass_on(&mut self, event: SourceEvent, running: &mut Option<Running>) -> Option<()> {
        self.note(&event);
        // Rows are not copied: of a batch nothing more is to be seen to.
        let news = (!matches!(event, SourceEvent::Batch(_))).then(|| event.clone());
        self.say(event).await?;
        let Some(news) = news else { return Some(()) };
        self.note_begun(&news);
        let is_over = match &news {
            SourceEvent::Altered { table, statement } => {
                // Nothing more comes of it until then; the others go on.
                if self.adopt(*table, statement).await? {
                    self.anew_at = self.anew_at.or_else(|| Instant::now().checked_add(self.together));
                }
                false
            }
            SourceEvent::State(SourceState::Stalled, reason) => self.note_asked(reason).await?,
            SourceEvent::Failed(failure) => self.note_asked(&failure.text()).await?,
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
        let described = match self.source.describe(std::slice::from_ref(&place)).await {
            Ok(mut answers) => answers.pop(),
            // It is looked for like one that has gone, beside all else.
            Err(unanswered) => {
                let event = stalled(&unanswered);
                self.note(&event);
                self.say(event).await?;
                None
            }
        };
        match described {
            Some(Ok(facts)) => return self.register(place, name, facts, true).await.map(|_| true),
            Some(Err(Absence(reason))) => {
                let reason = not_there(&place, &reason);
                self.say(SourceEvent::Parked { table, reason }).await?;
            }
            None => {}
        }
        self.absent.push((place, name));
        self.looks_for_more = true;
        Some(true)
    }

    fn cannot_be_asked(&self) -> String {
        format!(
            "source \"{}\" cannot be asked for its tables yet\nHint: `tidemill status` says why, and whether it is asked again by itself.",
            self.name
        )
    }

    /// Has the pump take a table up as it is now, loaded from the start or only followed. Answers whether it is followed.
    async fn register(&mut self, place: TablePlace, name: TableName, facts: TableFacts, loads: bool) -> Option<bool> {
        self.note_left_out(&name, &facts);
        let (answer, answered) = oneshot::channel();
        let (source, schema) = (self.name.clone(), facts.schema.clone());
        self.send(Message::Ask(Request::TakeUp { source, name: name.clone(), schema, loads, answer })).await?;
        match self.answer_of(answered).await? {
            Ok(id) => {
                let load = if loads { connect::Load::Pending { cursor: None } } else { connect::Load::Complete };
                if let Some(word) = self.source.reads_by(&facts.own) {
                    self.outlet.marks.set(&self.name, &name, Mark { word, since: String::new() });
                }
                self.of.insert(id, name);
                self.followed.push(FollowedTable { id, place, facts, load });
                Some(true)
            }
            Err(reason) => {
                self.note_parked(&name, reason, false);
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
        let view = self.outlet.status.view().snapshot;
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
        self.answer_of(answered).await.map(drop)
    }

    /// Starts the source where it was left. A load without a cursor begins anew, where the log ends then, and the log up to
    /// there is passed over; with it would be the end of rows that the log has brought before. So their table is loaded again.
    async fn start_source(&mut self) -> Option<Running> {
        (self.again_at, self.anew_at) = (None, None);
        // What is behind the place where it goes on it learns again.
        self.learned.clear();
        self.ask_again().await?;
        let pending = connect::Load::Pending { cursor: None };
        for id in std::mem::take(&mut self.brought) {
            if self.followed.iter().any(|table| table.id == id && table.load == pending) {
                // What it is loaded again for is still the reason.
                let begun_anew = || "its source was begun anew before the first rows of its load had come".to_owned();
                let reason = self.doubts.get(&id).cloned().unwrap_or_else(begun_anew);
                self.hold_in_doubt(id, reason).await?;
            }
        }
        let (events, control) = self.source.start(self.followed.clone(), self.resume.clone(), Limits::default());
        if self.asked.iter().any(|(asked, _)| asked.is_of_all()) {
            control.restart_from_now();
        }
        Some((events, control))
    }

    /// What the pump answers, unless it is told to stop.
    async fn answer_of<T>(&self, answered: oneshot::Receiver<T>) -> Option<T> {
        let mut stopped = self.outlet.stopped.clone();
        tokio::select! {
            biased;
            answer = answered => answer.ok(),
            _ = async { drop(stopped.wait_for(|stop| *stop).await) } => None,
        }
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
            let (reason, is_unasked) = match table.found {
                Found::There(facts) => {
                    let loads = self.source.loads();
                    is_more |= self.register(table.place, table.name, facts, loads).await?;
                    continue;
                }
                Found::Absent(reason) => (reason, false),
                Found::Unasked => ("The source cannot be asked for it yet.".to_owned(), true),
            };
            self.note_parked(&table.name, not_there(&table.place, &reason), is_unasked);
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
        let reads_so = |place: &TablePlace| place.reads_as(&table.place);
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
            let id = followed.id;
            return self.read_by_now(id, &table.name).await.map(|()| true);
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
                    let pause = tokio::time::sleep(retry(unanswered.again));
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
            (Found::There(facts), Some(known)) if known.source == self.number => (facts, known),
            (Found::Absent(reason), Some(known)) => {
                // It goes on without us: what we have of it is no longer its content.
                let reason = match known.load {
                    Load::Parked { reason, .. } if reason == Absence::DROPPED => reason,
                    _ => not_there(&table.place, &reason),
                };
                self.absent.push((table.place, table.name));
                return self.say(SourceEvent::Parked { table: known.id, reason }).await;
            }
            (Found::Absent(reason), None) => {
                self.note_parked(&table.name, not_there(&table.place, &reason), false);
                self.absent.push((table.place, table.name));
                return Some(());
            }
            // Nobody could be asked for it before, or what there is of it is another source's.
            (Found::There(facts), _) => {
                let loads = self.source.loads();
                return self.register(table.place, table.name, facts, loads).await.map(|_| ());
            }
            (Found::Unasked, _) => return Some(()),
        };
        let facts = as_known(facts, &table.place, &known.schema);
        match load_of(&known.load) {
            Some(load) if facts.schema == known.schema => {
                self.note_left_out(&table.name, &facts);
                let name = table.name.clone();
                self.of.insert(known.id, table.name);
                if known.has_rows {
                    self.brought.insert(known.id);
                }
                self.followed.push(FollowedTable { id: known.id, place: table.place, facts, load });
                self.read_by_now(known.id, &name).await
            }
            // It was parked, or its columns have changed while nobody could be asked: it is loaded again.
            _ => self.register(table.place, table.name, facts, true).await.map(|_| ()),
        }
    }

    /// A table is read by the columns that its source has said now. Where those may be others than at the place where the source goes
    /// on, the table is in doubt.
    async fn read_by_now(&mut self, id: TableId, name: &TableName) -> Option<()> {
        let Some(table) = self.followed.iter().find(|table| table.id == id) else { return Some(()) };
        let reads_on = table.load != connect::Load::Pending { cursor: None };
        let Some(word) = self.source.reads_by(&table.facts.own) else { return Some(()) };
        if reads_on && !self.is_read_by(name, &word) {
            self.hold_in_doubt(id, ALTERED_MEANWHILE.to_owned()).await?;
        }
        self.outlet.marks.set(&self.name, name, Mark { word, since: String::new() });
        Some(())
    }

    /// Whether rows of a table behind the place where the source goes on are read by these columns, as far as is known.
    fn is_read_by(&self, name: &TableName, word: &str) -> bool {
        let Some(noted) = self.outlet.marks.get(&self.name, name) else { return true };
        let is_behind = |place: &Position| self.source.reached(place, &Position(noted.since.clone())).unwrap_or(false);
        noted.word == word && (noted.since.is_empty() || self.resume.as_ref().is_some_and(is_behind))
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

    fn note_parked(&self, name: &TableName, reason: String, is_unasked: bool) {
        let (source, name) = (self.name.clone(), name.clone());
        note_parked(&self.outlet.status, &AbsentTable { source, name, reason, is_unasked });
    }

    /// What is sent moves the place from which a new start goes on.
    fn note(&mut self, event: &SourceEvent) {
        match event {
            SourceEvent::Batch(batch) => self.note_batch(batch),
            SourceEvent::Reload { table, reason } => {
                self.doubts.insert(*table, reason.clone());
                let followed = self.followed.iter_mut().find(|followed| followed.id == *table);
                followed.into_iter().for_each(|table| table.load = connect::Load::Pending { cursor: None });
                self.brought.remove(table);
                self.halted.remove(table);
            }
            SourceEvent::Parked { table, .. } => {
                let followed = self.followed.iter_mut().find(|followed| followed.id == *table);
                followed.into_iter().for_each(|table| table.load = connect::Load::Pending { cursor: None });
                self.brought.remove(table);
                self.halted.insert(*table);
            }
            SourceEvent::Altered { .. } | SourceEvent::Learned { .. } | SourceEvent::Delayed { .. } => {}
            SourceEvent::State(SourceState::Stalled, reason) => self.stall = Some(reason.clone()),
            // A try is no success.
            SourceEvent::State(SourceState::Connecting, _) => {}
            SourceEvent::State(SourceState::Streaming | SourceState::Snapshot | SourceState::Paused, _) => {
                self.stall = None
            }
            SourceEvent::Failed(failure) => {
                self.stall = Some(failure.text());
                self.again_at = Instant::now().checked_add(REFUSED_AGAIN);
            }
        }
    }

    fn note_batch(&mut self, batch: &SourceBatch) {
        // Parts of a transaction have no position before the last one.
        if !batch.position.0.is_empty() {
            self.resume = Some(batch.position.clone());
            for (id, facts) in std::mem::take(&mut self.learned) {
                if let (Some(name), Some(word)) = (self.of.get(&id), self.source.reads_by(&facts)) {
                    // What they were before, too, they are since then.
                    let is_new = self.outlet.marks.get(&self.name, name).is_none_or(|noted| noted.word != word);
                    let since = batch.position.0.clone();
                    if is_new {
                        self.outlet.marks.set(&self.name, name, Mark { word, since });
                    }
                }
                let followed = self.followed.iter_mut().find(|followed| followed.id == id);
                followed.into_iter().for_each(|table| table.facts.own = facts.clone());
            }
        }
        self.brought.extend(batch.tables.iter().map(|(id, _)| *id));
        for chunk in &batch.chunks {
            if chunk.complete {
                self.doubts.remove(&chunk.table);
            }
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
        let is_new = |column: &&relation::Column| {
            !known.columns.iter().any(|of| of.name.to_lowercase() == column.name.to_lowercase())
        };
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

/// Waits until then; for ever where it is never.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

fn stalled(unanswered: &Unanswered) -> SourceEvent {
    let failure = tried_again(unanswered.failure.clone(), unanswered.again);
    match unanswered.again {
        Again::Soon => SourceEvent::State(SourceState::Stalled, failure.text()),
        Again::Seldom | Again::AfterRestart => SourceEvent::Failed(failure),
    }
}

/// A failure with what becomes of it by itself.
fn tried_again(failure: Failure, again: Again) -> Failure {
    match again {
        Again::Soon => failure.and(&format!("It is tried again in {} s.", retry(again).as_secs())),
        Again::Seldom => failure.and(&format!(
            "It is tried again every {} s; another password or setting is taken up by a restart.",
            retry(again).as_secs()
        )),
        Again::AfterRestart => failure.and(AFTER_RESTART),
    }
}

/// How long to wait until the next try.
fn retry(again: Again) -> Duration {
    match again {
        Again::Soon => DESCRIBE_RETRY,
        Again::Seldom | Again::AfterRestart => REFUSED_AGAIN,
    }
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
pub(super) mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use connect::{Check, OwnFacts, Requests, Settings};
    use relation::{ChunkDone, Column, DataType, Rows, Schema, TransactionPart};

    use tokio::sync::watch;

    use super::*;
    use crate::clock::WallClock;
    use crate::follow::Marks;
    use crate::status::Status;

    /// A source that says what it was told, once at each start, and lacks `customers` at first.
    #[derive(Debug, Default)]
    pub(in super::super) struct Told {
        says: Mutex<Vec<Vec<SourceEvent>>>,
        started: Mutex<Vec<(Vec<FollowedTable>, Option<Position>)>>,
        looks: Mutex<u32>,
        reloads: Requests,
        /// Questions that it does not answer from now on.
        unanswered: Mutex<u32>,
        /// It panics when it is started.
        is_buggy: bool,
    }

    impl Told {
        pub(in super::super) fn buggy() -> Self {
            Self { is_buggy: true, ..Self::default() }
        }
    }

    /// A table that is wanted and there.
    pub(in super::super) fn planned(name: &str) -> PlannedTable {
        PlannedTable { place: place(name), name: TableName::new("shop", name), found: Found::There(facts()) }
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
            let mut unanswered = self.unanswered.lock().unwrap();
            if *unanswered > 0 {
                *unanswered -= 1;
                let failure = Failure { message: "no".to_owned(), detail: String::new(), hint: String::new() };
                return Err(Unanswered { failure, again: Again::Soon });
            }
            let mut looks = self.looks.lock().unwrap();
            *looks += 1;
            let missing = *looks < 3;
            let answer = |place: &TablePlace| match missing && place.name == "customers" {
                true => Err(Absence("It is not there.".to_owned())),
                false => Ok(facts()),
            };
            Ok(wanted.iter().map(answer).collect())
        }

        fn reads_by(&self, facts: &OwnFacts) -> Option<String> {
            facts.get::<u32>().map(ToString::to_string)
        }

        fn start(
            &self,
            tables: Vec<FollowedTable>,
            resume: Option<Position>,
            _limits: Limits,
        ) -> (mpsc::Receiver<SourceEvent>, Control) {
            assert!(!self.is_buggy, "a bug that a test means");
            let (events, receiver) = mpsc::channel(8);
            let (stop, mut stopped) = watch::channel(false);
            let mut says = self.says.lock().unwrap();
            let says = if says.is_empty() { Vec::new() } else { says.remove(0) };
            self.started.lock().unwrap().push((tables, resume));
            let reloads = self.reloads.clone();
            let task = tokio::spawn(async move {
                let work = async {
                    // As the real one: it sees to requests when all that it has to say is taken.
                    for event in says {
                        if events.send(event).await.is_err() {
                            return;
                        }
                    }
                    loop {
                        for (table, reason) in reloads.taken().await {
                            if events.send(SourceEvent::Reload { table, reason }).await.is_err() {
                                return;
                            }
                        }
                    }
                };
                tokio::select! {
                    () = work => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
            (receiver, Control::new(stop, task).with_reloads(self.reloads.clone()))
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
        let outlet =
            Outlet { inbox, status: Status::new(store), clock: Arc::new(WallClock), stopped, marks: Arc::default() };
        let (line, commands) = mpsc::channel(1);
        let of = Arc::clone(&source) as Arc<dyn Source>;
        let follower = Follower::new(("shop".to_owned(), 3), of, outlet, commands, Some(at("four")));
        let known = |id, has_rows| Known {
            id: TableId(id),
            source: 3,
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
                Message::Ask(Request::Reload { table, answer, .. }) => {
                    said.push(format!("reload {}", table.0));
                    answer.send(true).unwrap();
                }
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
                                    Message::Ask(Request::Reload { table, answer, .. }) => {
                                        said.push(format!("reload {}", table.0));
                                        answer.send(true).unwrap();
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
        let outlet =
            Outlet { inbox, status: Status::new(store), clock: Arc::new(WallClock), stopped, marks: Arc::default() };
        let (_line, commands) = mpsc::channel(1);
        let of = Arc::clone(&source) as Arc<dyn Source>;
        let mut follower = Follower::new(("shop".to_owned(), 3), of, outlet, commands, Some(at("four")));
        follower.pause = Duration::from_millis(1);
        let known = Known {
            id: TableId(7),
            source: 3,
            load: Load::Loading { cursor: None },
            schema: facts().schema,
            has_rows: false,
        };
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

    /// A follower of tables with these numbers, all loaded, under test: what it says to the pump is answered here.
    struct Bench {
        _folder: tempfile::TempDir,
        outbox: mpsc::Receiver<Message>,
        line: mpsc::Sender<Command>,
        source: Arc<Told>,
        stop: watch::Sender<bool>,
        task: tokio::task::JoinHandle<Option<()>>,
        /// What was said and asked so far, batches by their positions.
        said: Vec<String>,
        /// Numbers that the engine does not know.
        unknown: BTreeSet<TableId>,
    }

    impl Bench {
        fn of(ids: &[u32], says: Vec<Vec<SourceEvent>>) -> Self {
            Self::noted(ids, says, Arc::default())
        }

        /// With notes of the columns by which tables were read.
        fn noted(ids: &[u32], says: Vec<Vec<SourceEvent>>, marks: Arc<Marks>) -> Self {
            Self::of_all(ids, says, marks, Duration::from_millis(1))
        }

        fn of_all(ids: &[u32], says: Vec<Vec<SourceEvent>>, marks: Arc<Marks>, together: Duration) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = store::Store::open(&folder.path().join("store"), store::Options::default()).unwrap();
            let (inbox, outbox) = mpsc::channel(8);
            let (stop, stopped) = watch::channel(false);
            let source = Arc::new(Told { says: Mutex::new(says), looks: Mutex::new(3), ..Told::default() });
            let outlet = Outlet { inbox, status: Status::new(store), clock: Arc::new(WallClock), stopped, marks };
            let (line, commands) = mpsc::channel(1);
            let of = Arc::clone(&source) as Arc<dyn Source>;
            let mut follower = Follower::new(("shop".to_owned(), 3), of, outlet, commands, None);
            (follower.pause, follower.together) = (Duration::from_millis(1), together);
            let known = |id| Known { id, source: 3, load: Load::Complete, schema: facts().schema, has_rows: true };
            let planned = |name: &str| PlannedTable {
                place: place(name),
                name: TableName::new("shop", name),
                found: Found::There(TableFacts { own: OwnFacts::new(1_u32), ..facts() }),
            };
            let tables = ids.iter().map(|id| (planned(&format!("t{id}")), Some(known(TableId(*id))))).collect();
            let task = tokio::spawn(follower.run(tables));
            Self { _folder: folder, outbox, line, source, stop, task, said: Vec::new(), unknown: BTreeSet::new() }
        }

        /// Takes what comes next.
        async fn take(&mut self) {
            let line = match self.outbox.recv().await.unwrap() {
                Message::Event(3, SourceEvent::Batch(batch)) => format!("batch {}", batch.position.0),
                Message::Event(3, SourceEvent::Parked { table, .. }) => format!("parked {}", table.0),
                Message::Event(3, SourceEvent::Altered { table, .. }) => format!("altered {}", table.0),
                Message::Event(3, SourceEvent::State(state, _)) => state.to_string(),
                Message::Ask(Request::Reload { table, answer, .. }) => {
                    answer.send(!self.unknown.contains(&table)).unwrap();
                    format!("reload {}", table.0)
                }
                Message::Ask(Request::TakeUp { name, answer, .. }) => {
                    let others = self.said.iter().filter(|line| line.starts_with("take up")).count();
                    answer.send(Ok(TableId(99 + u32::try_from(others).unwrap()))).unwrap();
                    format!("take up {name}")
                }
                other => panic!("{other:?}"),
            };
            self.said.push(line);
        }

        async fn until(&mut self, last: &str) {
            while self.said.last().is_none_or(|line| line != last) {
                self.take().await;
            }
        }

        /// What the answer to a command is.
        async fn command(&mut self, what: Commanded) -> Result<Vec<String>, String> {
            let (answer, mut answered) = oneshot::channel();
            self.line.send(Command { what, answer }).await.unwrap();
            loop {
                tokio::select! {
                    answer = &mut answered => return answer.unwrap(),
                    () = self.take() => {}
                }
            }
        }

        /// How a table was started for the so-manieth time.
        fn started(&self, time: usize, id: u32) -> FollowedTable {
            self.source.started.lock().unwrap()[time].0.iter().find(|table| table.id == TableId(id)).unwrap().clone()
        }

        async fn end(self) {
            self.stop.send_replace(true);
            self.task.await.unwrap();
        }
    }

    fn batch(position: &str, of: Option<u32>) -> SourceEvent {
        let mut batch = SourceBatch { position: Position(position.to_owned()), ..SourceBatch::default() };
        of.into_iter().for_each(|id| batch.table(TableId(id)).weights.push(1));
        SourceEvent::Batch(batch)
    }

    /// What a source has learned of a table's columns is true behind the next batch, and for no start before it.
    #[tokio::test]
    async fn a_source_is_started_with_the_facts_of_the_place_where_it_goes_on() {
        let (one, other) = (OwnFacts::new(1), OwnFacts::new(2));
        let learned = |facts: &OwnFacts| SourceEvent::Learned { table: TableId(7), facts: facts.clone() };
        let says = vec![learned(&one), batch("five", None), learned(&other), batch("", Some(7))];
        let mut bench = Bench::of(&[7], vec![says]);
        bench.until("batch ").await;
        bench.command(Commanded::Pause).await.unwrap();
        bench.command(Commanded::Resume).await.unwrap();
        assert!(bench.started(1, 7).facts.own == one);
        bench.end().await;
    }

    /// Rows of before are read by the columns of before: where those are others by now, or may be, the table is loaded again before
    /// anything of it is read.
    #[tokio::test]
    async fn a_table_that_was_altered_while_it_was_not_read_is_loaded_again() {
        let marks = Arc::new(Marks::default());
        let mark = |word: &str, since: &str| Mark { word: word.to_owned(), since: since.to_owned() };
        for (table, mark) in [("t7", mark("2", "")), ("t8", mark("1", "five")), ("t9", mark("1", ""))] {
            marks.set("shop", &TableName::new("shop", table), mark);
        }
        let learned = SourceEvent::Learned { table: TableId(9), facts: OwnFacts::new(3_u32) };
        let mut bench = Bench::noted(&[7, 8, 9], vec![vec![learned, batch("six", None)]], Arc::clone(&marks));
        bench.until("batch six").await;
        assert_eq!(bench.said, ["reload 7", "reload 8", "batch six"]);
        let pending = connect::Load::Pending { cursor: None };
        assert_eq!((bench.started(0, 7).load, bench.started(0, 9).load), (pending, connect::Load::Complete));
        bench.end().await;
        let noted = |table: &str| marks.get("shop", &TableName::new("shop", table)).unwrap();
        assert_eq!((noted("t7"), noted("t8"), noted("t9")), (mark("1", ""), mark("1", ""), mark("3", "six")));
    }

    /// A table that its source has parked is loaded by the next one, and the engine, which takes nothing of it, is told so when
    /// that has come to it.
    #[tokio::test]
    async fn what_its_source_has_parked_is_in_doubt_when_the_next_one_brings_it() {
        let parked = SourceEvent::Parked { table: TableId(7), reason: "It may not be locked.".to_owned() };
        let says = vec![vec![parked], vec![batch("six", Some(8)), batch("seven", Some(7))]];
        let mut bench = Bench::of(&[7, 8], says);
        bench.until("parked 7").await;
        bench.command(Commanded::Pause).await.unwrap();
        bench.command(Commanded::Resume).await.unwrap();
        bench.until("batch seven").await;
        assert_eq!(bench.said, ["parked 7", "paused", "batch six", "reload 7", "batch seven"]);
        assert_eq!(bench.started(1, 7).load, connect::Load::Pending { cursor: None });
        assert_eq!(bench.started(1, 8).load, connect::Load::Complete);
        bench.end().await;
    }

    /// A number that the engine has given up is followed no more: its table is taken up as if it were new.
    #[tokio::test]
    async fn a_table_whose_number_was_given_up_is_taken_up_anew() {
        let says = vec![vec![SourceEvent::Reload { table: TableId(7), reason: "CREATE TABLE t7".to_owned() }]];
        let mut bench = Bench::of(&[7, 8], says);
        bench.unknown.insert(TableId(7));
        bench.until("take up shop.t7").await;
        assert_eq!(bench.said, ["reload 7", "take up shop.t7"]);
        let told = bench.command(Commanded::Reload(vec![TableName::new("shop", "t7")])).await.unwrap();
        assert_eq!(told, ["shop.t7 is loaded again; what there is of it serves until then"]);
        assert_eq!(bench.said.last().unwrap(), "reload 99");
        assert_eq!(bench.started(1, 99).load, connect::Load::Pending { cursor: None });
        bench.end().await;
    }

    /// However many tables are asked for, and however much their source has to say first: whoever asks for them takes it.
    #[tokio::test]
    async fn many_tables_are_loaded_again_by_one_word() {
        let ids: Vec<u32> = (100..300).collect();
        let says = (0..100).map(|at| batch(&at.to_string(), None)).collect();
        let mut bench = Bench::of(&ids, vec![says]);
        let names = ids.iter().map(|id| TableName::new("shop", format!("t{id}"))).collect();
        let told = bench.command(Commanded::Reload(names)).await.unwrap();
        assert_eq!(told.len(), ids.len());
        let reloads = bench.said.iter().filter(|line| line.starts_with("reload")).count();
        assert_eq!(reloads, ids.len());
        bench.end().await;
    }

    /// Tables that have other columns one after the other are taken up together, and what the source brings meanwhile is taken.
    #[tokio::test]
    async fn many_altered_tables_begin_their_source_anew_once() {
        let altered = |id| SourceEvent::Altered { table: TableId(id), statement: "ALTER TABLE".to_owned() };
        let says = vec![altered(7), batch("five", Some(9)), altered(8)];
        let mut bench = Bench::of_all(&[7, 8, 9], vec![says], Arc::default(), Duration::from_secs(3_600));
        bench.until("take up shop.t8").await;
        let said = ["altered 7", "take up shop.t7", "batch five", "altered 8", "take up shop.t8"];
        assert_eq!(bench.said, said);
        bench.command(Commanded::Pause).await.unwrap();
        bench.command(Commanded::Resume).await.unwrap();
        let pending = connect::Load::Pending { cursor: None };
        assert_eq!((bench.started(1, 99).load, bench.started(1, 100).load), (pending.clone(), pending));
        assert_eq!(bench.started(1, 9).load, connect::Load::Complete);
        let places: Vec<_> = bench.source.started.lock().unwrap().iter().map(|(_, at)| at.clone()).collect();
        assert_eq!(places, [None, Some(Position("five".to_owned()))]);
        bench.end().await;
    }

    /// A table that was altered and cannot be described is looked for beside all else, which goes on.
    #[tokio::test]
    async fn an_altered_table_that_cannot_be_described_stops_nobody() {
        let altered = SourceEvent::Altered { table: TableId(7), statement: "ALTER TABLE t7".to_owned() };
        let mut bench = Bench::of(&[7, 8], vec![vec![altered], vec![batch("six", Some(8))]]);
        *bench.source.unanswered.lock().unwrap() = 2;
        bench.until("batch six").await;
        let told = bench.command(Commanded::LetGo(vec![TableName::new("shop", "t8")])).await.unwrap();
        assert_eq!(told, ["shop.t8 is followed no more"]);
        if !bench.said.iter().any(|line| line == "take up shop.t7") {
            bench.until("take up shop.t7").await;
        }
        bench.end().await;
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
