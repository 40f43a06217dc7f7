//! Sources that are followed: what of a project's tables is there, one task per source, and what it knows of itself.
//!
//! A table that is not there, or cannot be captured, stops itself alone: it is parked with the reason, models over it wait
//! ([`Warehouse::open`]), and its source looks for it every few seconds ([`connect::source::LOOK_AGAIN`]). When it has come,
//! the pump is asked to take it up, and the source starts anew behind what was sent, with one table more. A table whose
//! columns are others now is taken up in the same way: beside the one that serves, until it is loaded.
//!
//! People command a source through its [`Line`]: load tables again, pause, resume.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Whether it is parked where its columns become others, until a person has it loaded again.
    pub parks_on_change: bool,
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
            let parks_on_change = table.meta.get("on_change").is_some_and(|policy| policy == "park");
            tables.push(PlannedTable { place, name, found, parks_on_change });
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

/// What people command a source to do. The answer is what was done, in lines for people, or why it cannot be.
#[derive(Debug)]
pub struct Command {
    pub what: Commanded,
    pub answer: oneshot::Sender<Result<Vec<String>, String>>,
}

/// See [`Command`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commanded {
    /// Load these tables again, while what there is of them serves.
    Reload(Vec<TableName>),
    /// Load all tables again, from the present end of the source's log, whatever its position was.
    ReloadAll,
    /// Read nothing more until told to.
    Pause,
    Resume,
}

/// The way to a source that is followed.
pub type Line = mpsc::Sender<Command>;

/// Commands that may wait for a source.
const COMMANDS_MAX: usize = 8;

/// Follows one source in a task of its own.
pub fn start(feed: PlannedFeed, warehouse: &Warehouse, outlet: &Outlet) -> (tokio::task::JoinHandle<()>, Line) {
    let engine = &warehouse.engine;
    let number = engine.source(&feed.name).unwrap_or_default();
    let resume = engine.position(number).cloned();
    let mut tables = Vec::new();
    for table in feed.tables {
        let known = engine.tables_to_come().find(|t| t.name == table.name).map(|known| Known {
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
    let (line, commands) = mpsc::channel(COMMANDS_MAX);
    let follower = Follower {
        name: feed.name,
        number,
        source: feed.source,
        outlet: outlet.clone(),
        followed: Vec::new(),
        absent: Vec::new(),
        parked: Vec::new(),
        looks_for_more: false,
        of: BTreeMap::new(),
        parks_on_change: BTreeSet::new(),
        commands,
        resume,
        pause: LOOK_AGAIN,
    };
    let task = tokio::spawn(async move {
        let follow = async {
            // None: it was stopped, or nobody listens any more.
            follower.run(tables).await;
        };
        tokio::join!(follow, lag);
    });
    (task, line)
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

/// A table that the engine does not know is parked all the same, for whoever asks.
pub fn note_parked(status: &Status, source: &str, name: &TableName, reason: String) {
    let mut facts = status.facts();
    let entry = facts.tables.entry(name.clone()).or_default();
    entry.source = source.to_owned();
    entry.state = "parked".to_owned();
    entry.message = reason;
}
