//! What a source is to whoever runs it.
//!
//! Whoever runs sources matches on no kind: it opens a connection's settings ([`SourceKind::open`]) and then asks the
//! [`Source`] that it got. A new kind is a folder beside this file and a line in [`super::KINDS`].

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use relation::{Position, Schema, TableId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::{Again, Check, ColumnRule, Declared, Failure, LeftOut, Limits, Load, Settings, SourceEvent, Unanswered};

/// A kind of source: what connections of its `type:` are.
#[async_trait]
pub trait SourceKind: Send + Sync {
    /// The values of `type:` that mean it.
    fn types(&self) -> &'static [&'static str];

    /// Whether connections of a type are of this kind.
    fn is_of(&self, wanted: &str) -> bool {
        self.types().contains(&wanted)
    }

    /// Whether tables can be compared with such a source: see [`Source::open_whole`].
    fn is_comparable(&self) -> bool {
        true
    }

    /// Whether [`Source::describe`] reaches for nobody, and no setting is a secret.
    fn is_described_offline(&self) -> bool {
        false
    }

    /// The words of a table's `meta` by which such a source knows what the table is, beside its declared columns; empty where
    /// the source says it itself.
    fn declared_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// What a table is by its declaration alone, without asking anybody; none where the source says it. Errors: all that is wrong
    /// with the declaration, or that it needs of the connection's settings and does not find there.
    fn declared(&self, _: &Settings, _place: &TablePlace) -> Result<Option<Schema>, Vec<Failure>> {
        Ok(None)
    }

    /// A source of these settings, whose secrets are resolved here. It is not reached for yet.
    async fn open(&self, settings: &Settings) -> Result<Arc<dyn Source>, Failure>;
}

/// A source that can be asked and run. All tables are named as the source names them.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// The word for it in `tidemill.sources`.
    fn word(&self) -> &'static str;

    /// The names of all tables of a database that can be followed, in their order. Errors: it cannot be asked, there is no such
    /// database, or tables are not listed by a source of this kind.
    async fn tables(&self, _database: &str) -> Result<Vec<String>, Failure> {
        Err(Failure {
            message: format!("a source of the type `{}` does not list its tables", self.word()),
            detail: String::new(),
            hint: "Declare them under `sources:` in a YAML file beside the models.".to_owned(),
        })
    }

    /// Whether its tables are loaded before they are followed. Otherwise they hold what comes from some place of its log on.
    fn loads(&self) -> bool {
        true
    }

    /// Columns and sizes of tables, in the order asked for. Errors: it cannot be asked at all.
    async fn describe(&self, wanted: &[TablePlace]) -> Result<Vec<Result<TableFacts, Absence>>, Unanswered>;

    /// What the log's rows of a table mean that has these facts, as a word that is another one where they may mean something else; none
    /// where the log itself always tells.
    fn reads_by(&self, _facts: &OwnFacts) -> Option<String> {
        None
    }

    /// Follows tables from behind `resume`, or from where its settings say, on the current tokio runtime. The receiver gets
    /// events until [`SourceEvent::Failed`] or [`Control::stop`].
    fn start(
        &self,
        tables: Vec<FollowedTable>,
        resume: Option<Position>,
        limits: Limits,
    ) -> (mpsc::Receiver<SourceEvent>, Control);

    /// Where it ends now, for "until caught up"; none where it has no end.
    async fn current_position(&self) -> Result<Option<Position>, Failure>;

    /// Whether a position has seen all that another has. Errors: text that is no position of this kind.
    fn reached(&self, current: &Position, target: &Position) -> Result<bool, Failure>;

    /// Bytes of its log that a position has not seen; none where nobody knows.
    async fn bytes_behind(&self, position: &Position) -> Result<Option<u64>, Failure>;

    /// For how long its log behind a position is kept; none where that is not known, or for ever.
    async fn retention(&self, _position: &Position) -> Result<Option<Retention>, Failure> {
        Ok(None)
    }

    /// Whether its log leads on from a position, as it is now. Errors: it does not, or cannot be asked.
    async fn leads_on(&self, _position: &Position) -> Result<(), Failure> {
        Ok(())
    }

    /// Opens all tables for reading as they are at one place of its log.
    async fn open_whole(&self) -> Result<Box<dyn WholeReader>, Failure> {
        Err(Failure {
            message: format!("a source of the type `{}` cannot be compared with its tables", self.word()),
            detail: "It does not keep what it has sent.".to_owned(),
            hint: String::new(),
        })
    }

    /// Questions asked before it is used, about it and about these tables. Never fails: what cannot be asked because of an
    /// earlier answer is left out.
    async fn doctor(&self, wanted: &[TablePlace]) -> Vec<Check>;
}

/// For how long a source keeps of its log what is not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Seconds after which a part of the log is dropped that is written to no more.
    pub kept_s: u64,
    /// When that began of the part that is read next, in microseconds since 1970; none while it is still written to.
    pub closed_us: Option<i64>,
    /// The SQL that has it kept for longer.
    pub mend: String,
}

impl Retention {
    /// Of a hundred parts of the time that it is kept, how many are over.
    pub fn used_percent(&self, now_us: i64) -> u64 {
        let age_s = self.closed_us.map_or(0, |closed| now_us.saturating_sub(closed).max(0) / 1_000_000);
        u64::try_from(age_s).unwrap_or(0).saturating_mul(100) / self.kept_s.max(1)
    }
}

/// Takes the rows of a table that is read whole, each encoded by the table's layout, until it wants no more.
pub type RowSink<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + Send + 'a;

/// What is to be read of a table.
#[derive(Debug, Clone, Default)]
pub struct WholePart {
    /// Behind the row of this cursor; none: from the first row on. Only of a table with a key.
    pub after: Option<Vec<u8>>,
    /// No more rows than so many, about; none: to the end. Only of a table with a key.
    pub rows_max: Option<u64>,
    /// Those rows alone for which this holds, in the source's own language; in any order, and neither of the above.
    pub condition: Option<String>,
}

/// How much of the source a reading may take. Only tables with a key are read with pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WholePace {
    pub rows_per_second: Option<u64>,
    /// Of a hundred parts of the time the source works for us in so many, and pauses in the others.
    pub share: Option<u8>,
}

impl WholePace {
    /// How long to pause after so much work.
    pub fn pause_after(&self, work: Duration) -> Duration {
        match self.share {
            Some(share @ 1..100) => work * (100 - u32::from(share)) / u32::from(share),
            _ => Duration::ZERO,
        }
    }
}

/// What was read of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadWhole {
    pub rows: u64,
    /// Rows that are no rows of their columns' types, which a table's content lacks.
    pub unreadable: u64,
    /// Where there may be more: the cursor of the last row, which the sink has had.
    pub next: Option<Vec<u8>>,
}

/// Tables as they all were at one place of their source's log.
#[async_trait]
pub trait WholeReader: Send {
    /// That place: a position like those of batches.
    fn position(&self) -> &Position;

    /// Reads a part of a table: one with a key in the order that the source has for it, another one whole. Reading it once more
    /// gives the same rows.
    async fn read(
        &mut self,
        table: &FollowedTable,
        part: &WholePart,
        pace: WholePace,
        sink: &mut RowSink<'_>,
    ) -> Result<ReadWhole, Failure>;

    /// After what time a difference to what was read counts that is found once more; none where what was read is beyond doubt.
    fn counts_after(&self) -> Option<Duration> {
        None
    }

    /// Lets go of the source.
    async fn close(self: Box<Self>);
}

/// Where a table is in its source, and what is read of its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TablePlace {
    /// Empty where the source has no databases.
    pub database: String,
    pub name: String,
    pub columns: ColumnRule,
    /// What the project says of it, where its source does not ([`SourceKind::declared_keys`]); else empty.
    pub declared: Declared,
}

impl TablePlace {
    /// Whether the same is read of a table by another place of it, as long as its columns stay what they are.
    pub fn reads_as(&self, other: &Self) -> bool {
        self.columns.reads_as(&other.columns) && self.declared == other.declared
    }

    /// Whether another place is of the same table, whatever is read of it.
    pub fn is_of_one_table(&self, other: &Self) -> bool {
        (&self.database, &self.name) == (&other.database, &other.name)
    }
}

impl fmt::Display for TablePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.database.is_empty() {
            true => f.write_str(&self.name),
            false => write!(f, "{}.{}", self.database, self.name),
        }
    }
}

/// Why a table cannot be captured now, as a sentence. Time may heal it: it is asked for again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence(pub String);

impl Absence {
    /// Why a table is parked of which its source has told that it was dropped. It stands until the table is there again: that it is
    /// not there, which is all that can be seen later, does not say why.
    pub const DROPPED: &str = "the table was dropped: it is loaded again as soon as it is there; a project without it lets it go by \
                               `tidemill apply`";
}

/// A table that can be captured.
#[derive(Debug, Clone)]
pub struct TableFacts {
    pub schema: Schema,
    /// Columns that it has at the source and that are not read.
    pub left_out: Vec<LeftOut>,
    /// Rows, as the source estimates them.
    pub rows_estimate: u64,
    pub own: OwnFacts,
}

/// What a source wants back of a table that it has described: opaque to everybody else.
#[derive(Clone)]
pub struct OwnFacts(Arc<dyn Any + Send + Sync>);

impl OwnFacts {
    /// Facts of any form.
    pub fn new<T: Send + Sync + 'static>(facts: T) -> Self {
        Self(Arc::new(facts))
    }

    /// The facts, for the source that made them; none for another.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// Facts are the same where they are one and the same: what they say is nobody's business.
impl PartialEq for OwnFacts {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OwnFacts {}

impl fmt::Debug for OwnFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnFacts(…)")
    }
}

/// A table to follow.
#[derive(Debug, Clone)]
pub struct FollowedTable {
    pub id: TableId,
    pub place: TablePlace,
    /// As [`Source::describe`] gave them.
    pub facts: TableFacts,
    pub load: Load,
}

/// Tables that are to be loaded again, and why: asked for on one side, taken on the other. There is no more to wait for than
/// there are tables, so whoever asks never does.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    tables: Mutex<BTreeMap<TableId, String>>,
    came: Notify,
}

impl Requests {
    /// Asks for tables, all at once.
    fn ask(&self, tables: impl IntoIterator<Item = TableId>, reason: &str) {
        let asked = tables.into_iter().map(|table| (table, reason.to_owned()));
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner).extend(asked);
        self.0.came.notify_one();
    }

    /// Waits until tables are asked for, and takes them.
    pub async fn taken(&self) -> BTreeMap<TableId, String> {
        loop {
            let tables = mem::take(&mut *self.0.tables.lock().unwrap_or_else(PoisonError::into_inner));
            if !tables.is_empty() {
                return tables;
            }
            self.0.came.notified().await;
        }
    }
}

/// Commands a running source: to end, to load a table again, to begin anew.
#[derive(Debug)]
pub struct Control {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    reloads: Option<Requests>,
    restart: Option<watch::Sender<()>>,
}

impl Control {
    /// Of a task that ends soon after the word, and whose tables are never loaded again.
    pub fn new(stop: watch::Sender<bool>, task: JoinHandle<()>) -> Self {
        Self { stop, task, reloads: None, restart: None }
    }

    /// Of a task that also takes requests to load a table again, from a copy of `reloads`.
    pub fn with_reloads(self, reloads: Requests) -> Self {
        Self { reloads: Some(reloads), ..self }
    }

    /// Of a task that also listens to [`Control::restart_from_now`].
    pub fn with_restart(self, restart: watch::Sender<()>) -> Self {
        Self { restart: Some(restart), ..self }
    }

    /// Asks for tables to be loaded again, by hand: for each [`SourceEvent::Reload`] follows, or [`SourceEvent::Altered`] where its
    /// columns are others by now. Answers whether the request was taken; a source that has ended takes none. Nothing is waited
    /// for: whoever asks is who takes the source's events, and a source that has some to give sees to nothing else.
    pub fn reload(&self, tables: impl IntoIterator<Item = TableId>, reason: &str) -> bool {
        match &self.reloads {
            Some(reloads) if !self.task.is_finished() => {
                reloads.ask(tables, reason);
                true
            }
            _ => false,
        }
    }

    /// Takes the present end of the source's log as the start, whatever the position was, and loads every table again:
    /// [`SourceEvent::Reload`] for each comes once that end is known. Whatever stalled the source, its history included, does
    /// not matter any more. Answers whether a source of this kind can.
    pub fn restart_from_now(&self) -> bool {
        self.restart.as_ref().is_some_and(|restart| restart.send(()).is_ok())
    }

    /// Ends the source and waits until its connections are closed. What was not received is read again next time.
    pub async fn stop(self) {
        // A source that has ended does not listen; that is as good.
        self.stop.send(true).ok();
        self.task.await.ok();
    }
}

/// How often a source is asked whether tables that were not there have come.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long until it is asked again where it is our settings that it refuses: a server may lock an account that is refused too
/// often.
pub const REFUSED_AGAIN: Duration = Duration::from_secs(60);

/// Waits until one or more of these tables can be captured; answers which, by their place in `absent`, and what they are.
/// A source that cannot be asked is asked again at the next look.
pub async fn until_there(source: &dyn Source, absent: &[TablePlace], pause: Duration) -> Vec<(usize, TableFacts)> {
    loop {
        // Counted by the machine's uptime: a clock that is set does not matter.
        tokio::time::sleep(pause).await;
        let answers = match source.describe(absent).await {
            Ok(answers) => answers,
            Err(Unanswered { failure, again }) => {
                tracing::debug!(%failure, detail = %failure.detail, "tables that are missing cannot be looked for");
                if again != Again::Soon {
                    tokio::time::sleep(REFUSED_AGAIN).await;
                }
                continue;
            }
        };
        let there: Vec<_> = answers.into_iter().enumerate().filter_map(|(i, answer)| Some((i, answer.ok()?))).collect();
        if !there.is_empty() {
            return there;
        }
    }
}
