//! Sources that are followed: what of a project's tables is there, one task per source, and what it knows of itself.
//!
//! A table that is not there, or cannot be captured, stops itself alone: it is parked with the reason, models over it wait
//! ([`Warehouse::open`]), and its source looks for it every few seconds ([`connect::source::LOOK_AGAIN`]). When it has come,
//! the pump is asked to take it up, and the source starts anew behind what was sent, with one table more.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use connect::source::{LOOK_AGAIN, until_there};
use connect::{
    Absence, Control, Failure, FollowedTable, Limits, Source, SourceEvent, SourceState, TableFacts, TablePlace,
};
use engine::Load;
use plan::TableName;
use relation::{Position, SourceBatch, TableId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::pump::{Message, Request};
use crate::setup::Setup;
use crate::sources::said;
use crate::status::Status;
use crate::warehouse::{AbsentTable, Described, SourceTable, Warehouse};

/// A source that is to be followed, and its tables.
pub struct PlannedFeed {
    pub name: String,
    pub source: Arc<dyn Source>,
    pub tables: Vec<PlannedTable>,
}

/// A table of a feed.
#[derive(Debug, Clone)]
pub struct PlannedTable {
    pub place: TablePlace,
    pub name: TableName,
    pub found: Found,
}

/// What a source said of a table at the start.
#[derive(Debug, Clone)]
pub enum Found {
    There(TableFacts),
    /// It is not there or cannot be captured, for this reason.
    Absent(String),
    /// The source could not be asked.
    Unasked,
}

/// Asks every source for its tables. Errors: a source of which nothing is known yet cannot be asked.
pub async fn plan_feeds(setup: &Setup) -> anyhow::Result<(Vec<PlannedFeed>, Described)> {
    let mut feeds = Vec::new();
    let mut described = Described::default();
    // What a data folder that was used before has is served on, whoever cannot be asked.
    let known = setup.data.join("store").is_dir();
    for feed in setup.feeds()? {
        let source = crate::sources::open(feed.connection).await?;
        let wanted = feed.wanted();
        let answers = match source.describe(&wanted).await {
            Ok(answers) => answers.into_iter().map(Found::of).collect::<Vec<_>>(),
            Err(failure) if known => {
                tracing::warn!(source = %feed.connection.name, "{}", said(&failure));
                wanted.iter().map(|_| Found::Unasked).collect()
            }
            Err(failure) => return Err(anyhow::anyhow!(said(&failure))),
        };
        let mut tables = Vec::new();
        for ((table, place), found) in feed.tables.iter().zip(wanted).zip(answers) {
            let (source, name) = (feed.connection.name.clone(), TableName::new(&table.source, &table.name));
            match &found {
                Found::There(facts) => {
                    let schema = facts.schema.clone();
                    described.tables.push(SourceTable { source, name: name.clone(), schema });
                }
                Found::Absent(reason) => {
                    let reason = not_there(&place, reason);
                    tracing::warn!(source = %source, table = %name, reason = %reason, "table parked");
                    described.absent.push(AbsentTable { source, name: name.clone(), reason });
                }
                Found::Unasked => {}
            }
            tables.push(PlannedTable { place, name, found });
        }
        feeds.push(PlannedFeed { name: feed.connection.name.clone(), source, tables });
    }
    Ok((feeds, described))
}

impl Found {
    fn of(answer: Result<TableFacts, Absence>) -> Self {
        match answer {
            Ok(facts) => Self::There(facts),
            Err(Absence(reason)) => Self::Absent(reason),
        }
    }
}

fn not_there(place: &TablePlace, reason: &str) -> String {
    format!("table {place} cannot be captured: {reason} It is looked for every {} s.", LOOK_AGAIN.as_secs())
}

/// A source that begins at a place of its log has no first load: its tables hold what the log says from there on.
pub fn skip_loads(feeds: &[PlannedFeed], warehouse: &mut Warehouse) {
    for table in feeds.iter().filter(|feed| !feed.source.loads()).flat_map(|feed| &feed.tables) {
        let id = warehouse.engine.tables().find(|t| t.name == table.name).map(|t| t.id);
        id.into_iter().for_each(|id| warehouse.engine.follow_without_load(id));
    }
}

/// Where a feed's events go, and who ends it.
#[derive(Clone)]
pub struct Outlet {
    pub inbox: mpsc::Sender<Message>,
    pub status: Arc<Status>,
    pub stopped: watch::Receiver<bool>,
}

/// Follows one source in a task of its own.
pub fn start(feed: PlannedFeed, warehouse: &Warehouse, outlet: &Outlet) -> tokio::task::JoinHandle<()> {
    let engine = &warehouse.engine;
    let number = engine.source(&feed.name).unwrap_or_default();
    let resume = engine.position(number).cloned();
    let mut tables = Vec::new();
    for table in feed.tables {
        let known = engine.tables().find(|t| t.name == table.name).map(|known| Known {
            id: known.id,
            load: known.load.clone(),
            schema: engine.relation(known.id).map(|r| r.schema.clone()).unwrap_or_default(),
        });
        tables.push((table, known));
    }
    {
        let mut facts = outlet.status.facts();
        let entry = facts.sources.entry(feed.name.clone()).or_default();
        entry.kind = feed.source.word().to_owned();
        entry.state = "connecting".to_owned();
        entry.position = resume.clone().unwrap_or_default().0;
    }
    let lag = watch_lag(feed.name.clone(), Arc::clone(&feed.source), outlet.clone());
    let follower = Follower {
        name: feed.name,
        number,
        source: feed.source,
        outlet: outlet.clone(),
        followed: Vec::new(),
        absent: Vec::new(),
        resume,
        pause: LOOK_AGAIN,
    };
    tokio::spawn(async move {
        let follow = async {
            // None: it was stopped, or nobody listens any more.
            follower.run(tables).await;
        };
        tokio::join!(follow, lag);
    })
}

/// How often a source is asked how much of its log is not read yet.
const LAG_INTERVAL: Duration = Duration::from_secs(5);

/// Notes how many bytes of a source's log are not read yet; while the source cannot say it, nobody knows.
async fn watch_lag(name: String, source: Arc<dyn Source>, outlet: Outlet) {
    let (status, mut stopped) = (outlet.status, outlet.stopped);
    while tokio::time::timeout(LAG_INTERVAL, stopped.wait_for(|stop| *stop)).await.is_err() {
        let position = status.facts().sources.get(&name).map(|source| source.position.clone()).unwrap_or_default();
        let position = Position(position);
        let behind = tokio::select! {
            behind = source.bytes_behind(&position) => behind.ok().flatten(),
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        if let Some(source) = status.facts().sources.get_mut(&name) {
            source.lag_bytes = behind.and_then(|bytes| i64::try_from(bytes).ok());
        }
    }
}

/// A table as the engine has it.
struct Known {
    id: TableId,
    load: Load,
    schema: relation::Schema,
}

/// How long to wait before asking again a source that could not be asked at the start.
const DESCRIBE_RETRY: Duration = Duration::from_secs(2);

/// Follows one source.
struct Follower {
    name: String,
    number: u32,
    source: Arc<dyn Source>,
    outlet: Outlet,
    /// Tables that are followed, loaded as far as what was sent.
    followed: Vec<FollowedTable>,
    /// Tables that are looked for.
    absent: Vec<(TablePlace, TableName)>,
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
}

type Looking = Pin<Box<dyn Future<Output = Vec<(usize, TableFacts)>> + Send>>;

impl Follower {
    /// Runs until stopped. None where it has ended before all was set up.
    async fn run(mut self, mut tables: Vec<(PlannedTable, Option<Known>)>) -> Option<()> {
        self.ask_for(&mut tables).await?;
        for (table, known) in tables {
            self.set_up(table, known).await?;
        }
        let (mut events, mut control) = self.start_source();
        let mut looking = self.look();
        let mut stopped = self.outlet.stopped.clone();
        loop {
            let next = tokio::select! {
                event = events.recv() => event.map(Next::Event),
                there = &mut looking => Some(Next::There(there)),
                _ = stopped.wait_for(|stop| *stop) => None,
            };
            let went_on = match next {
                None => None,
                Some(Next::Event(event)) => {
                    self.note(&event);
                    self.say(event).await
                }
                Some(Next::There(there)) => match self.take_up(there).await {
                    None => None,
                    Some(is_more) => {
                        if is_more {
                            // What was not taken is read again.
                            drop(events);
                            control.stop().await;
                            (events, control) = self.start_source();
                        }
                        looking = self.look();
                        Some(())
                    }
                },
            };
            if went_on.is_none() {
                break;
            }
        }
        drop(events);
        control.stop().await;
        Some(())
    }

    fn start_source(&self) -> (mpsc::Receiver<SourceEvent>, Control) {
        self.source.start(self.followed.clone(), self.resume.clone(), Limits::default())
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

    /// Asks for the tables that nobody could be asked for at the start, until there is an answer.
    async fn ask_for(&self, tables: &mut [(PlannedTable, Option<Known>)]) -> Option<()> {
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
                Err(failure) => {
                    self.say(stalled(&failure)).await?;
                    let wait = tokio::time::timeout(DESCRIBE_RETRY, stopped.wait_for(|stop| *stop)).await;
                    if wait.is_ok() {
                        return None;
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
                let reason = format!("table {} cannot be captured any more: {reason}", table.place);
                return self.say(SourceEvent::Parked { table: known.id, reason }).await;
            }
            (Found::Absent(reason), None) => {
                self.note_parked(&table.name, not_there(&table.place, &reason));
                self.absent.push((table.place, table.name));
                return Some(());
            }
            // It has come since the start.
            (Found::There(_), None) => {
                self.absent.push((table.place, table.name));
                return Some(());
            }
            (Found::Unasked, _) => return Some(()),
        };
        let Some(load) = load_of(&known.load) else { return Some(()) };
        if facts.schema != known.schema {
            let reason = "its columns changed while Tidemill could not see it; restart to load it again".to_owned();
            return self.say(SourceEvent::Parked { table: known.id, reason }).await;
        }
        self.followed.push(FollowedTable { id: known.id, place: table.place, facts, load });
        Some(())
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
            let (answer, answered) = oneshot::channel();
            let (source, schema) = (self.name.clone(), facts.schema.clone());
            self.send(Message::Ask(Request::TakeUp { source, name: name.clone(), schema, answer })).await?;
            match answered.await.ok()? {
                Ok(id) => {
                    let load = connect::Load::Pending { cursor: None };
                    self.followed.push(FollowedTable { id, place, facts, load });
                    is_more = true;
                }
                Err(reason) => self.note_parked(&name, reason),
            }
        }
        Some(is_more)
    }

    fn note_parked(&self, name: &TableName, reason: String) {
        note_parked(&self.outlet.status, &self.name, name, reason);
    }

    /// What is sent moves the place from which a new start goes on.
    fn note(&mut self, event: &SourceEvent) {
        match event {
            SourceEvent::Batch(batch) => self.note_batch(batch),
            SourceEvent::Parked { table, .. }
            | SourceEvent::Altered { table, .. }
            | SourceEvent::Reload { table, .. } => {
                self.followed.retain(|followed| followed.id != *table);
            }
            SourceEvent::State(..) | SourceEvent::Rejected(_) | SourceEvent::Failed(_) => {}
        }
    }

    fn note_batch(&mut self, batch: &SourceBatch) {
        // Parts of a transaction have no position before the last one.
        if !batch.position.0.is_empty() {
            self.resume = Some(batch.position.clone());
        }
        for chunk in &batch.chunks {
            let Some(followed) = self.followed.iter_mut().find(|followed| followed.id == chunk.table) else { continue };
            followed.load = match chunk.complete {
                true => connect::Load::Complete,
                false => connect::Load::Pending { cursor: Some(chunk.cursor.clone()) },
            };
        }
    }
}

/// A table that the engine does not know is parked all the same, for whoever asks.
pub fn note_parked(status: &Status, source: &str, name: &TableName, reason: String) {
    let mut facts = status.facts();
    let entry = facts.tables.entry(name.clone()).or_default();
    entry.source = source.to_owned();
    entry.state = "parked".to_owned();
    entry.message = reason;
}

fn stalled(failure: &Failure) -> SourceEvent {
    SourceEvent::State(SourceState::Stalled, said(failure).replace('\n', " "))
}

fn load_of(load: &Load) -> Option<connect::Load> {
    match load {
        Load::Loading { cursor } => Some(connect::Load::Pending { cursor: cursor.clone() }),
        Load::Complete | Load::Partial => Some(connect::Load::Complete),
        Load::Parked { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use connect::{Check, OwnFacts, Settings};
    use relation::{ChunkDone, Column, DataType, Rows, Schema, TransactionPart};

    use super::*;

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
        TableFacts { schema, rows_estimate: 0, own: OwnFacts::new(()) }
    }

    #[async_trait]
    impl Source for Told {
        fn word(&self) -> &'static str {
            "told"
        }

        async fn describe(&self, wanted: &[TablePlace]) -> Result<Vec<Result<TableFacts, Absence>>, Failure> {
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
        TablePlace { database: "shop".to_owned(), name: name.to_owned() }
    }

    /// A table that comes is taken up, and the source starts again behind what was sent: loaded as far, parts of a
    /// transaction not counted before their last one.
    #[tokio::test]
    async fn a_table_that_comes_is_followed_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = store::Store::open(&folder.path().join("store"), store::Options::default()).unwrap();
        let (inbox, mut outbox) = mpsc::channel(2);
        let (stop, stopped) = watch::channel(false);
        let chunk =
            ChunkDone { table: TableId(7), cursor: vec![9], complete: false, rows: Rows::new(), rows_estimate: 0 };
        let at = |text: &str| Position(text.to_owned());
        let loaded = SourceBatch { chunks: vec![chunk], position: at("five"), ..SourceBatch::default() };
        let part = Some(TransactionPart { number: 1, is_last: false });
        let open = SourceBatch { part, ..SourceBatch::default() };
        let source = Arc::new(Told {
            says: Mutex::new(vec![vec![SourceEvent::Batch(loaded), SourceEvent::Batch(open)]]),
            ..Told::default()
        });
        let follower = Follower {
            name: "shop".to_owned(),
            number: 3,
            source: Arc::clone(&source) as Arc<dyn Source>,
            outlet: Outlet { inbox, status: Status::new(store), stopped },
            followed: Vec::new(),
            absent: Vec::new(),
            resume: Some(at("four")),
            pause: Duration::from_millis(1),
        };
        let known = Known { id: TableId(7), load: Load::Loading { cursor: None }, schema: facts().schema };
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
