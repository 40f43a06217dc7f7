//! Sources that are followed: what of a project's tables is there ([`planned`]), one task per source ([`follower`]), how far
//! behind it is ([`lag`]), and all of them ([`roster`]).
//!
//! A table that is not there, or cannot be captured, stops itself alone: it is parked with the reason, models over it wait
//! ([`Warehouse::open`]), and its source looks for it every few seconds ([`connect::source::LOOK_AGAIN`]). When it has come,
//! the pump is asked to take it up, and the source starts anew behind what was sent, with one table more. A table whose
//! columns are others now is taken up in the same way: beside the one that serves, until it is loaded.
//!
//! People command a source through its [`Line`]: load tables again, pause, resume.

mod again;
mod follower;
mod lag;
mod marks;
mod planned;
mod roster;

use std::collections::BTreeMap;
use std::sync::Arc;

use connect::{LeftOut, Source};
use plan::TableName;
use relation::Position;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::again::load_again;
use self::follower::{Follower, Known};
use self::lag::watch_lag;
pub use self::marks::Marks;
pub use self::planned::{Found, PlannedFeed, PlannedTable, plan_feeds};
pub use self::roster::{Roster, Wanted};
use crate::clock::Clock;
use crate::pump::Message;
use crate::reason::Reason;
use crate::reconcile::amend::Amendment;
use crate::status::Status;
use crate::warehouse::{AbsentTable, Warehouse};

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
    pub clock: Arc<dyn Clock>,
    pub stopped: watch::Receiver<bool>,
    /// By what columns tables are read.
    pub marks: Arc<Marks>,
}

/// What people command a source to do. The answer is what was done, in lines for people, or why it cannot be.
#[derive(Debug)]
pub struct Command {
    pub what: Commanded,
    pub answer: oneshot::Sender<Result<Vec<String>, String>>,
}

/// See [`Command`].
#[derive(Debug, Clone)]
pub enum Commanded {
    /// Load these tables again, while what there is of them serves.
    Reload(Vec<TableName>),
    /// Put these rows of a table in the places of what there is of them.
    Amend(Box<Amendment>),
    /// Load all tables again, from the present end of the source's log, whatever its position was.
    ReloadAll,
    /// Read nothing more until told to.
    Pause,
    Resume,
    /// Follow these tables too.
    Follow(Vec<PlannedTable>),
    /// Follow these no more.
    LetGo(Vec<TableName>),
}

/// The way to a source that is followed.
pub type Line = mpsc::Sender<Command>;

/// Commands that may wait for a source.
const COMMANDS_MAX: usize = 8;

/// What there is of a source: a source that is followed goes on from there.
#[derive(Debug)]
pub struct Kept {
    number: u32,
    /// Behind what of its log is stored.
    resume: Option<Position>,
    tables: BTreeMap<TableName, Known>,
}

impl Kept {
    /// What the engine has of the source of this name.
    pub fn of(engine: &engine::Engine, source: &str) -> Self {
        let number = engine.source(source).unwrap_or_default();
        let known = engine.tables_to_come().map(|known| {
            let schema = engine.relation(known.id).map(|r| r.schema.clone()).unwrap_or_default();
            let has_rows = engine.row_count(known.id) > 0;
            (
                known.name.clone(),
                Known { id: known.id, source: known.source, load: known.load.clone(), schema, has_rows },
            )
        });
        Self { number, resume: engine.position(number).cloned(), tables: known.collect() }
    }
}

/// Follows one source in a task of its own.
pub fn start(feed: PlannedFeed, warehouse: &Warehouse, outlet: &Outlet) -> (tokio::task::JoinHandle<()>, Line) {
    let Kept { number, resume, tables: mut kept } = Kept::of(&warehouse.engine, &feed.name);
    let known = |table: PlannedTable| {
        let known = kept.remove(&table.name);
        (table, known)
    };
    let tables = feed.tables.into_iter().map(known).collect();
    follow((feed.name, number), feed.source, tables, resume, outlet)
}

/// Follows one source, by its name and number, from behind `resume`.
fn follow(
    (name, number): (String, u32),
    source: Arc<dyn Source>,
    tables: Vec<(PlannedTable, Option<Known>)>,
    resume: Option<Position>,
    outlet: &Outlet,
) -> (tokio::task::JoinHandle<()>, Line) {
    {
        let mut facts = outlet.status.facts();
        let entry = facts.sources.entry(name.clone()).or_default();
        entry.kind = source.word().to_owned();
        entry.state = "connecting".to_owned();
        entry.position = resume.clone().unwrap_or_default().0;
    }
    let lag = watch_lag(name.clone(), Arc::clone(&source), outlet.clone());
    let (line, commands) = mpsc::channel(COMMANDS_MAX);
    let follower = Follower::new((name, number), source, outlet.clone(), commands, resume);
    let task = tokio::spawn(async move {
        let follow = async {
            // None: it was stopped, or nobody listens any more.
            follower.run(tables).await;
        };
        tokio::join!(follow, lag);
    });
    (task, line)
}

/// A table that the engine does not know is parked all the same, for whoever asks.
pub fn note_parked(status: &Status, table: &AbsentTable) {
    let mut facts = status.facts();
    let entry = facts.tables.entry(table.name.clone()).or_default();
    entry.source.clone_from(&table.source);
    entry.state = "parked".to_owned();
    entry.message = Reason::of(&table.reason);
    entry.is_unasked = table.is_unasked;
}

/// Columns of a table that are not read are told, with the reason.
fn note_left_out(status: &Status, name: &TableName, left_out: &[LeftOut]) {
    status.facts().tables.entry(name.clone()).or_default().left_out = left_out.to_vec();
}
