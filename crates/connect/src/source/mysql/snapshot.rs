//! Reading tables for their first load: chunks by primary key, as many tables at a time as the connection allows.
//!
//! Each table has one task, begun when the table's load begins and ended when the table is loaded again. It reads a chunk, asks the server where its log ends now, hands both over, and reads the
//! next chunk at once; the hand-over waits when nobody takes it. What a chunk is worth is decided in [`super::window`].
//! Cursors travel as values, each compared by the server in its column's own type and collation: a client cannot know
//! that order.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use relation::key::hash128;
use relation::{Rows, Unread};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::source::now_us;

use super::assemble::{fits, hex, shown, unhex};
use super::commits::{Since, WAITS, are_shown};
use super::decode::{SnapshotPlan, SourceColumn, keep_only};
use super::describe::{Kept, literal, quoted};
use super::error::{LOCKED, NO_SUCH_TABLE, Refused, WireError, failure};
use super::login::Met;
use super::position::{LogPoint, LogPosition};
use super::server::log_end;
use super::window::Chunk;
use super::wire::Wire;
use super::{CaptureTable, Load, MysqlConfig, describe, login};

/// Rows of the first chunk; the later ones aim at [`CHUNK_TIME`] and [`CHUNK_BYTES`].
const FIRST_CHUNK_ROWS: usize = 4_096;
const CHUNK_ROWS_MAX: usize = 500_000;
const CHUNK_TIME: Duration = Duration::from_millis(500);
const CHUNK_BYTES: usize = 8 << 20;
/// A chunk ends when it has become as large as this, whatever was asked for: nobody knows how long rows are that were
/// not read yet.
const CHUNK_BYTES_MAX: usize = 32 << 20;
/// It also ends after so many rows that could not be read.
const CHUNK_REJECTED_MAX: usize = 1_000;
/// Chunks that wait between the readers and the window.
const QUEUE: usize = 2;
/// What a user is told who may not lock tables of a database.
const NO_RIGHT_IN_DATABASE: u16 = 1044;
/// Before a reader tries again, at first and at most; twice as long each time, until it gets on.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often it tries what a server refuses for a reason that nobody knows here: for two minutes.
const TRIES_MAX: u32 = 8;
/// For how long a table stays locked, so that nobody writes to it, while its rows wait to be taken here, as on a full disk.
const LOCKED_MAX: Duration = Duration::from_secs(60);
/// The same of a transaction that reads: an ALTER of the table waits for its end, and all who come behind that.
const HELD_MAX: Duration = Duration::from_secs(600);
/// For how long a lock is waited for. Whoever waits for one stands in the way of those who come after.
const LOCK_WAIT_S: u32 = 5;

/// What a reader says.
#[derive(Debug)]
pub(crate) enum Loaded {
    Chunk(Chunk),
    /// The table's columns as they are read from now on, or those that it has instead of them; none: it is not there.
    Described {
        table: usize,
        run: u64,
        columns: Option<Vec<SourceColumn>>,
    },
    /// Another server answers than the one whose log is read.
    Elsewhere(WireError),
    /// Commits are waited for that the log has and no query shows yet.
    Waits,
    /// The table cannot be read now; it is tried again.
    Delayed {
        table: usize,
        run: u64,
        reason: String,
    },
    /// The table cannot be loaded; the others can.
    Parked {
        table: usize,
        run: u64,
        reason: String,
        /// It is for want of the right to lock it.
        is_locked_out: bool,
    },
}

/// The readers of one connection's time. Dropping them ends them.
#[derive(Debug)]
pub(crate) struct Loaders {
    config: Arc<MysqlConfig>,
    /// Whose log is read.
    met: Met,
    tasks: JoinSet<()>,
    /// The reader of each table that has one.
    readers: BTreeMap<usize, AbortHandle>,
    together: Arc<Semaphore>,
    bags: Arc<Semaphore>,
    /// Readers that wait until the log was read up to a place: they are told which transactions that are.
    behind: Vec<(LogPoint, oneshot::Sender<LogPosition>)>,
    sender: mpsc::Sender<Loaded>,
    pub(crate) loaded: mpsc::Receiver<Loaded>,
}

impl Loaders {
    /// No readers yet.
    pub(crate) fn new(config: &Arc<MysqlConfig>, met: Met) -> Self {
        let (sender, loaded) = mpsc::channel(QUEUE);
        Self {
            config: Arc::clone(config),
            met,
            tasks: JoinSet::new(),
            readers: BTreeMap::new(),
            together: Arc::new(Semaphore::new(config.snapshot_tables.max(1))),
            bags: Arc::new(Semaphore::new(1)),
            behind: Vec::new(),
            sender,
            loaded,
        }
    }

    /// Starts the reader of a table; `run` marks its chunks. It reads nothing before all is committed that the log has up to
    /// `high`, where it ends now. A reader that the table had before ends.
    pub(crate) fn start(&mut self, index: usize, table: CaptureTable, run: u64, high: LogPoint) {
        self.stop(index);
        while self.tasks.try_join_next().is_some() {}
        let (together, sender) = (Arc::clone(&self.together), self.sender.clone());
        let (config, bags) = (Arc::clone(&self.config), Arc::clone(&self.bags));
        let met = self.met.clone();
        let backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        let reader = TableReader { config, met, table, index, run, sender, together, bags, failures: 0, backoff };
        let (behind, is_behind) = oneshot::channel();
        self.behind.push((high, behind));
        let handle = self.tasks.spawn(async move {
            let since = Since::now();
            tokio::time::sleep(reader.config.snapshot_delay).await;
            // It goes with those who would read.
            if let Ok(until) = is_behind.await {
                reader.run(&until, &since).await;
            }
        });
        self.readers.insert(index, handle);
    }

    /// The log was read up to a place, and these are its transactions.
    pub(crate) fn is_read(&mut self, applied: &LogPoint, position: &LogPosition) {
        let (read, behind) = mem::take(&mut self.behind).into_iter().partition(|(high, _)| applied >= high);
        self.behind = behind;
        for (high, reader) in read {
            // It may have ended.
            drop(reader.send(LogPosition::new(high, position.gtids.clone())));
        }
    }

    /// Ends the readers of tables whose loads are over, or are to begin anew: nobody takes what they read, and others wait for their
    /// turn and for their locks.
    pub(crate) fn keep(&mut self, is_begun: impl Fn(usize) -> bool) {
        self.readers.retain(|index, reader| {
            let stays = is_begun(*index);
            if !stays {
                reader.abort();
            }
            stays
        });
    }

    /// Ends the reader of a table, if it has one.
    pub(crate) fn stop(&mut self, index: usize) {
        if let Some(reader) = self.readers.remove(&index) {
            reader.abort();
        }
    }
}

/// Why a table's load ends.
enum End {
    /// Whole, or nobody listens any more.
    Done,
    Differs(Option<Vec<SourceColumn>>),
    Parked(String),
    /// It may not be locked for a moment, which its load needs.
    LockedOut(String),
}

struct TableReader {
    config: Arc<MysqlConfig>,
    met: Met,
    table: CaptureTable,
    index: usize,
    run: u64,
    sender: mpsc::Sender<Loaded>,
    /// So many tables are read at a time: one that waits for its next try is none of them.
    together: Arc<Semaphore>,
    /// One table without a key is read at a time: its changes are kept back meanwhile.
    bags: Arc<Semaphore>,
    /// Tries that have failed since it got on.
    failures: u32,
    backoff: Backoff,
}

impl TableReader {
    async fn run(mut self, until: &LogPosition, since: &Since) {
        let mut is_shown = false;
        loop {
            let Ok(turn) = Arc::clone(&self.together).acquire_owned().await else { return };
            let waited = if is_shown { Ok(()) } else { self.wait_for_commits(until, since).await };
            is_shown = waited.is_ok();
            let result = if let Err(error) = waited {
                Err(error)
            } else if self.table.schema.key.is_empty() {
                self.bag().await
            } else {
                self.chunks().await
            };
            drop(turn);
            match result {
                Ok(End::Done) => return,
                Ok(End::Differs(columns)) => {
                    return self.tell(columns).await;
                }
                Ok(End::Parked(reason)) => return self.park(reason, false).await,
                Ok(End::LockedOut(reason)) => return self.park(reason, true).await,
                Err(error @ WireError::Elsewhere { .. }) => {
                    return drop(self.sender.send(Loaded::Elsewhere(error)).await);
                }
                Err(error) => match self.refusal(&error) {
                    Some(reason) => return self.park(reason, false).await,
                    None => self.wait_for_another_try(&error).await,
                },
            }
        }
    }

    /// A try has failed: why that will not be mended by another one, or none.
    fn refusal(&mut self, error: &WireError) -> Option<String> {
        self.failures = self.failures.saturating_add(1);
        match error {
            // It was there when its load began: the log will tell what became of it.
            WireError::Server(error) if error.code == NO_SUCH_TABLE => None,
            WireError::Server(error) => {
                let then = "then `tidemill resnapshot` of it has it loaded";
                match Refused::of(error, &full_name(&self.table), &self.config.user) {
                    Refused::ForNow => None,
                    Refused::Unclear if self.failures < TRIES_MAX => None,
                    Refused::Unclear => Some(format!(
                        "It cannot be read: {error}. It was tried {} times; have the server mended, {then}.",
                        self.failures
                    )),
                    Refused::Until(remedy) => Some(format!("It cannot be read: {error}. {remedy}; {then}.")),
                }
            }
            other => {
                let failure = failure(other, &self.config)?;
                Some(format!("{}. {} {}", failure.message, failure.detail, failure.hint))
            }
        }
    }

    /// Says why the load does not get on, and pauses. That a connection was lost once is not worth a word.
    async fn wait_for_another_try(&mut self, error: &WireError) {
        let pause = self.backoff.next();
        tracing::warn!(table = %self.table.name, %error, wait_ms = pause.as_millis(), "reading a table again");
        if error.code().is_some_and(|code| code != NO_SUCH_TABLE) || self.failures > 1 {
            let reason = format!("it cannot be read now: {error}; tried again at {}", clock_after(pause));
            // If nobody listens, nobody needs to know.
            drop(self.sender.send(Loaded::Delayed { table: self.index, run: self.run, reason }).await);
        }
        tokio::time::sleep(pause).await;
    }

    /// Waits until queries show all that the log has up to a place.
    async fn wait_for_commits(&self, until: &LogPosition, since: &Since) -> Result<(), WireError> {
        let mut wire = self.connect().await?;
        while !are_shown(&mut wire, until, since).await? {
            tracing::warn!(table = %self.table.name, "{WAITS}");
            drop(self.sender.send(Loaded::Waits).await);
        }
        wire.close().await;
        Ok(())
    }

    async fn tell(&self, columns: Option<Vec<SourceColumn>>) {
        // If nobody listens, nobody needs to know.
        drop(self.sender.send(Loaded::Described { table: self.index, run: self.run, columns }).await);
    }

    async fn park(&self, reason: String, is_locked_out: bool) {
        // If nobody listens, nobody needs to know.
        drop(self.sender.send(Loaded::Parked { table: self.index, run: self.run, reason, is_locked_out }).await);
    }

    async fn connect(&self) -> Result<Wire, WireError> {
        let mut wire = login::connect_again(&self.config, &self.met).await?;
        for statement in SnapshotPlan::SESSION {
            wire.execute(statement).await?;
        }
        // While nobody takes our chunks we do not read, and the server must not mind.
        wire.execute("SET SESSION net_write_timeout = 3600").await?;
        wait_shortly(&mut wire).await?;
        Ok(wire)
    }

    /// The columns as they are read from now on: where the table keeps its own, others than they were.
    fn adopt(&mut self, now: &[SourceColumn]) {
        if self.table.rule.declared().is_some() {
            self.table.columns = now.to_vec();
            keep_only(&mut self.table.columns, &self.table.schema);
        }
    }

    /// How its rows are read, or why they cannot be.
    fn plan(&self) -> Result<SnapshotPlan, String> {
        plan_of(&self.table)
    }

    /// The table's columns now.
    async fn columns(&self, wire: &mut Wire) -> Result<Option<Vec<SourceColumn>>, WireError> {
        describe::columns(wire, &self.table.database, &self.table.name, &self.table.rule).await
    }

    /// Columns that the user may not read are not among those that it is told of, though the log has them: that they are there is said by
    /// the refusal to show all. Where some are left out anyway nobody can say which these are.
    async fn see_all(&self, wire: &mut Wire) -> Result<(), WireError> {
        let rule = &self.table.rule;
        if !rule.left_out.is_empty() || rule.declared().is_some() {
            return Ok(());
        }
        wire.query(&format!("SELECT * FROM {} LIMIT 0", full_name(&self.table))).await.map(drop)
    }

    async fn connect_for_chunks(&self) -> Result<Wire, WireError> {
        let mut wire = self.connect().await?;
        wire.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        Ok(wire)
    }

    /// Reads on from the cursor until the end of the table.
    async fn chunks(&mut self) -> Result<End, WireError> {
        let keys = match key_columns(&self.table) {
            Ok(keys) => keys,
            Err(reason) => return Ok(End::Parked(reason)),
        };
        let mut wire = self.connect_for_chunks().await?;
        // Now that all is shown that the log had told when the load began.
        let columns = self.columns(&mut wire).await?;
        let Some(now) = columns.as_ref().filter(|columns| fits(columns, &self.table)) else {
            return Ok(End::Differs(columns));
        };
        self.adopt(now);
        self.see_all(&mut wire).await?;
        self.tell(columns).await;
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(reason) => return Ok(End::Parked(reason)),
        };
        let (rows_estimate, kept) = match size(&mut wire, &self.table).await? {
            Ok(size) => size,
            Err(reason) => return Ok(End::Parked(reason)),
        };
        let mut rows_max = FIRST_CHUNK_ROWS;
        loop {
            let Load::Pending { cursor } = &self.table.load else { return Ok(End::Done) };
            let sql = match chunk_query(&self.table, &plan, &keys, cursor.as_deref(), rows_max) {
                Ok(sql) => sql,
                Err(reason) => return Ok(End::Parked(reason)),
            };
            let begun = Instant::now();
            let mut read = Read::new(&plan, keys.len());
            let is_cut = match wire.query_with(&sql, |values| read.row(values)).await {
                // The rest of the answer is on its way: it goes with the connection.
                Err(WireError::Enough) => {
                    wire = self.connect_for_chunks().await?;
                    true
                }
                other => other.map(|_| false)?,
            };
            let took = begun.elapsed();
            if kept == Kept::AtOnce {
                self.wait_for_writers(&mut wire).await?;
            }
            let (high, _) = log_end(&mut wire).await?;
            let unread = unread(&read.rejected, &high);
            let complete = read.count < rows_max && !is_cut;
            let cursor = if read.count == 0 { cursor.clone().unwrap_or_default() } else { encode_cursor(&read.last) };
            rows_max = next_rows(read.count, read.rows.byte_len(), took);
            let chunk = Chunk {
                table: self.index,
                run: self.run,
                rows: read.rows,
                unread,
                cursor: cursor.clone(),
                complete,
                high,
                rows_estimate,
                begins: false,
                _turn: None,
            };
            if self.sender.send(Loaded::Chunk(chunk)).await.is_err() || complete {
                wire.close().await;
                return Ok(End::Done);
            }
            self.failures = 0;
            self.backoff.reset();
            self.table.load = Load::Pending { cursor: Some(cursor) };
        }
    }

    /// Reads a table without a key, portion by portion of one query, under one snapshot at a known place of the log.
    async fn bag(&mut self) -> Result<End, WireError> {
        let Ok(turn) = Arc::clone(&self.bags).acquire_owned().await else { return Ok(End::Done) };
        let mut turn = Some(turn);
        let mut wire = self.connect().await?;
        let columns = self.columns(&mut wire).await?;
        let Some(now) = columns.as_ref().filter(|columns| fits(columns, &self.table)) else {
            return Ok(End::Differs(columns));
        };
        self.adopt(now);
        self.see_all(&mut wire).await?;
        self.tell(columns).await;
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(reason) => return Ok(End::Parked(reason)),
        };
        wire.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
        let (rows_estimate, kept) = match size(&mut wire, &self.table).await? {
            Ok(size) => size,
            Err(reason) => return Ok(End::Parked(reason)),
        };
        let placed = match kept {
            Kept::InTransactions if wire.server.mariadb => Ok(mariadb_snapshot(&mut wire).await?),
            Kept::InTransactions => self.locked_snapshot(&mut wire).await?,
            Kept::AtOnce => self.locked(&mut wire).await?,
        };
        let high = match placed {
            Ok(high) => high,
            Err(reason) => return Ok(End::LockedOut(reason)),
        };
        let sql = format!("SELECT {} FROM {}", plan.select_list().join(", "), full_name(&self.table));
        let mut answer = wire.ask(&sql).await?;
        let mut begins = true;
        while !answer.is_over() {
            let mut read = Read::new(&plan, 0);
            match wire.rows(&mut answer, &mut |values: &[Option<&[u8]>]| read.row(values)).await {
                Ok(()) | Err(WireError::Enough) => {}
                Err(error) => return Err(error),
            }
            let complete = answer.is_over();
            let chunk = Chunk {
                table: self.index,
                run: self.run,
                unread: unread(&read.rejected, &high),
                rows: read.rows,
                // There is nothing to go on from: a reading that is broken off begins anew.
                cursor: Vec::new(),
                complete,
                high: high.clone(),
                rows_estimate,
                begins,
                _turn: if complete { turn.take() } else { None },
            };
            begins = false;
            let held_max = if kept == Kept::AtOnce { LOCKED_MAX } else { HELD_MAX };
            match tokio::time::timeout(held_max, self.sender.send(Loaded::Chunk(chunk))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(End::Done),
                Err(_) => {
                    let seconds = held_max.as_secs();
                    let what = format!(
                        "its rows were not taken here for {seconds} s, and its lock was not to be held for longer"
                    );
                    return Err(WireError::Protocol(what));
                }
            }
        }
        if kept == Kept::AtOnce {
            wire.execute("UNLOCK TABLES").await?;
        }
        wire.close().await;
        Ok(End::Done)
    }

    /// MySQL tells no place for a snapshot: the table is locked for the moment in which both are taken.
    ///
    /// The lock is one for writing, though nothing is written: a lock for reading waits until no writer is at work, which
    /// on a busy table is never, while writers queue behind one for writing. A server that takes no writes refuses it; there
    /// the other one is had at once.
    async fn locked_snapshot(&self, wire: &mut Wire) -> Result<Result<LogPoint, String>, WireError> {
        let mut locker = login::connect_again(&self.config, &self.met).await?;
        wait_shortly(&mut locker).await?;
        let name = full_name(&self.table);
        let mut locked = locker.execute(&format!("LOCK TABLES {name} WRITE")).await;
        if locked.as_ref().is_err_and(|error| error.code().is_some_and(|code| code != LOCKED)) {
            locked = locker.execute(&format!("LOCK TABLES {name} READ")).await;
        }
        if let Err(reason) = self.may_have(locked)? {
            return Ok(Err(reason));
        }
        wire.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
        let (high, _) = log_end(&mut locker).await?;
        locker.execute("UNLOCK TABLES").await?;
        locker.close().await;
        Ok(Ok(high))
    }

    /// An engine without transactions shows what is there when it is read: its writers wait until that has come to its end.
    async fn locked(&self, wire: &mut Wire) -> Result<Result<LogPoint, String>, WireError> {
        let locked = wire.execute(&format!("LOCK TABLES {} READ", full_name(&self.table))).await;
        match self.may_have(locked)? {
            Ok(()) => Ok(Ok(log_end(wire).await?.0)),
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// A lock was asked for: whether the user may have it.
    fn may_have(&self, locked: Result<(), WireError>) -> Result<Result<(), String>, WireError> {
        match locked {
            Err(WireError::Server(server)) if server.code == NO_RIGHT_IN_DATABASE => Ok(Err(format!(
                "It has no primary key, and may not be locked\nDetail: Loading it needs a short lock, which the server refuses: \
                 {server}. Once it may be locked it is loaded by itself.\nHint: {}, or add a primary key.",
                grant_lock(&self.table.database, &self.config.user)
            ))),
            other => other.map(Ok),
        }
    }

    /// Until all is logged that was read of an engine whose rows are seen as they are written: a lock is had when no statement writes
    /// any more. Who may not lock waits for as long as a statement takes.
    async fn wait_for_writers(&self, wire: &mut Wire) -> Result<(), WireError> {
        match wire.execute(&format!("LOCK TABLES {} READ", full_name(&self.table))).await {
            Ok(()) => wire.execute("UNLOCK TABLES").await,
            Err(WireError::Server(server)) if server.code == NO_RIGHT_IN_DATABASE => {
                tokio::time::sleep(self.config.snapshot_delay).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Rows of a chunk that could not be read, with the place up to which it shows the log.
fn unread(rejected: &[Unread], at: &LogPoint) -> Rows {
    let (mut out, mut bytes, at_us) = (Rows::new(), Vec::new(), now_us());
    for unread in rejected {
        bytes.clear();
        Unread { position: at.to_string(), at_us, ..unread.clone() }.write(&mut bytes);
        out.push(&bytes);
    }
    out
}

/// The statement by which tables of a database may be locked.
pub(super) fn grant_lock(database: &str, user: &str) -> String {
    format!("GRANT LOCK TABLES ON {}.* TO '{user}'@'%'", quoted(database))
}

/// Whether tables of a database may be locked. Nothing is: a lock is asked for of a table that is not there, which is found
/// out behind the question whether it may be had.
pub(super) async fn may_lock(wire: &mut Wire, database: &str) -> Result<bool, WireError> {
    match wire.execute(&format!("LOCK TABLES {}.`a lock for tidemill` READ", quoted(database))).await {
        Ok(()) => wire.execute("UNLOCK TABLES").await.map(|()| true),
        // Any other refusal is about the table, of which nothing is wanted.
        Err(WireError::Server(error)) => Ok(error.code != NO_RIGHT_IN_DATABASE),
        Err(error) => Err(error),
    }
}

/// How a table's rows are read by SQL, or why they cannot be.
pub(super) fn plan_of(table: &CaptureTable) -> Result<SnapshotPlan, String> {
    let plan = SnapshotPlan::new(&table.columns).map_err(|error| format!("{error}: {}", error.reason))?;
    match table.rule.declared() {
        None => Ok(plan),
        Some(_) => plan.mapped(&table.schema),
    }
}

/// Has a session wait for locks no longer than is polite.
async fn wait_shortly(wire: &mut Wire) -> Result<(), WireError> {
    wire.execute(&format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_S}")).await
}

/// The time of day after a pause, as people read it.
fn clock_after(pause: Duration) -> String {
    let second = now_us() / 1_000_000 + i64::try_from(pause.as_secs()).unwrap_or(0);
    format!("{:02}:{:02}:{:02} UTC", second / 3_600 % 24, second / 60 % 60, second % 60)
}

/// MariaDB knows the place of a snapshot.
pub(super) async fn mariadb_snapshot(wire: &mut Wire) -> Result<LogPoint, WireError> {
    wire.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
    let rows = wire.query("SHOW STATUS LIKE 'binlog_snapshot_%'").await?;
    let get = |name: &str| {
        let found = rows.rows.iter().find(|r| r[0].as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name)));
        found.and_then(|r| r[1].clone()).unwrap_or_default()
    };
    let offset = get("binlog_snapshot_position").parse();
    let file = get("binlog_snapshot_file");
    match offset {
        Ok(offset) if !file.is_empty() => Ok(LogPoint::new(file, offset)),
        _ => Err(WireError::Protocol("the server does not tell the place of its snapshot".to_owned())),
    }
}

/// How many rows a table has, as the server estimates them, and how they are kept; or why it cannot be followed.
async fn size(wire: &mut Wire, table: &CaptureTable) -> Result<Result<(u64, Kept), String>, WireError> {
    let rows = wire
        .query(&format!(
            "SELECT TABLE_ROWS, ENGINE, TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(&table.database),
            literal(&table.name)
        ))
        .await?;
    let count = rows.single().and_then(|n| n.parse().ok()).unwrap_or(0);
    Ok(describe::engine(wire, &table.database, &table.name, &rows).await?.map(|kept| (count, kept)))
}

/// Rows of the next chunk, from how the last one went.
fn next_rows(rows: usize, bytes: usize, took: Duration) -> usize {
    let rows = rows.max(1);
    let by_time = (rows as u128 * CHUNK_TIME.as_micros() / took.as_micros().max(1)).max(256);
    let by_bytes = (rows as u128 * CHUNK_BYTES as u128 / bytes.max(1) as u128).max(1);
    let next = by_time.min(by_bytes).min((rows as u128 * 4).max(256)).min(CHUNK_ROWS_MAX as u128);
    usize::try_from(next).unwrap_or(CHUNK_ROWS_MAX)
}

/// A chunk being read.
struct Read<'a> {
    plan: &'a SnapshotPlan,
    keys: usize,
    rows: Rows,
    count: usize,
    /// The cursor columns of the last row.
    last: Vec<Vec<u8>>,
    rejected: Vec<Unread>,
}

impl<'a> Read<'a> {
    fn new(plan: &'a SnapshotPlan, keys: usize) -> Self {
        Self { plan, keys, rows: Rows::new(), count: 0, last: vec![Vec::new(); keys], rejected: Vec::new() }
    }

    fn row(&mut self, values: &[Option<&[u8]>]) -> Result<(), WireError> {
        let (cells, keys) = values.split_at(values.len() - self.keys);
        self.count += 1;
        for (last, key) in self.last.iter_mut().zip(keys) {
            last.clear();
            last.extend_from_slice(key.unwrap_or_default());
        }
        let written = self.plan.write_row(cells.iter().copied(), &mut self.rows.start_row(self.plan.layout()));
        match written {
            Ok(()) => self.rows.finish_row(),
            Err(error) => {
                self.rows.abandon_row();
                let key: Vec<String> = self.last.iter().map(|k| String::from_utf8_lossy(k).into_owned()).collect();
                let shown = if key.is_empty() {
                    shown(cells.first().copied().flatten().unwrap_or_default())
                } else {
                    key.join(", ")
                };
                let key = self.plan.key_of(cells.iter().copied()).unwrap_or_default();
                // What the log calls its image is not seen here: equal cells are equal rows all the same.
                let cells = || cells.iter().flat_map(|cell| [&[0xff][..], cell.unwrap_or(&[0xfe])].concat());
                let image = if error.image == [0; 16] { hash128(&cells().collect::<Vec<u8>>()) } else { error.image };
                self.rejected.push(Unread { key, image, row: shown, reason: error.to_string(), ..Unread::default() });
            }
        }
        // Without a key nothing is to be gone on from, so a portion is as large as is good.
        let bytes_max = if self.keys == 0 { CHUNK_BYTES } else { CHUNK_BYTES_MAX };
        let has_enough = self.rows.byte_len() >= bytes_max || self.rejected.len() >= CHUNK_REJECTED_MAX;
        if has_enough { Err(WireError::Enough) } else { Ok(()) }
    }
}

/// How a key column's value travels in a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CursorKind {
    /// Digits, as SQL writes numbers.
    Number,
    /// A double, which a float is compared as, with all its digits.
    Double,
    /// Bytes in the column's own charset.
    Text {
        charset: String,
    },
    Bytes,
    /// Quoted: dates, times, UUIDs, addresses.
    Quoted,
}

#[derive(Debug, Clone)]
pub(super) struct KeyColumn {
    /// What is compared and ordered by.
    expression: String,
    /// What is selected to become the cursor.
    select: String,
    kind: CursorKind,
}

/// The key's columns in key order, or why they cannot be walked.
pub(super) fn key_columns(table: &CaptureTable) -> Result<Vec<KeyColumn>, String> {
    let mut key: Vec<_> = table.columns.iter().filter(|column| column.is_stored()).collect();
    key.retain(|column| column.key_position.is_some());
    key.sort_unstable_by_key(|column| column.key_position);
    key.into_iter().map(key_column).collect()
}

fn key_column(column: &SourceColumn) -> Result<KeyColumn, String> {
    let name = quoted(&column.name);
    let plain = |kind| KeyColumn { expression: name.clone(), select: name.clone(), kind };
    Ok(match column.data_type.to_ascii_lowercase().as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" => plain(CursorKind::Number),
        "float" | "double" => {
            KeyColumn { expression: name.clone(), select: format!("{name} * 1e0"), kind: CursorKind::Double }
        }
        // By number, or 'b' after 'a' would be compared as text.
        "bit" | "enum" | "set" => {
            let number = format!("({name} + 0)");
            KeyColumn { expression: number.clone(), select: number, kind: CursorKind::Number }
        }
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => KeyColumn {
            expression: name.clone(),
            select: format!("CAST({name} AS BINARY)"),
            kind: CursorKind::Text { charset: column.charset.clone().unwrap_or_else(|| "utf8mb4".to_owned()) },
        },
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => plain(CursorKind::Bytes),
        "date" | "datetime" | "timestamp" | "time" | "uuid" | "inet4" | "inet6" => plain(CursorKind::Quoted),
        other => {
            return Err(format!("Its key has a column of type \"{other}\", along which it cannot be read."));
        }
    })
}

/// A cursor is a JSON array of the last row's key values, bytes as hexadecimal digits.
pub(super) fn encode_cursor(last: &[Vec<u8>]) -> Vec<u8> {
    let values: Vec<String> = last.iter().map(|value| hex(value)).collect();
    serde_json::to_vec(&values).unwrap_or_default()
}

/// The cursor's values as SQL literals. A cursor comes from disk: what is no value of its kind is refused.
fn literals(cursor: &[u8], keys: &[KeyColumn]) -> Option<Vec<String>> {
    let values: Vec<String> = serde_json::from_slice(cursor).ok()?;
    if values.len() != keys.len() {
        return None;
    }
    values.iter().zip(keys).map(|(value, key)| key.kind.literal(value)).collect()
}

impl CursorKind {
    fn literal(&self, digits: &str) -> Option<String> {
        let bytes = unhex(digits)?;
        let plain = |allowed: fn(u8) -> bool| {
            let fits = !bytes.is_empty() && bytes.iter().all(|&b| allowed(b));
            fits.then(|| String::from_utf8_lossy(&bytes).into_owned())
        };
        match self {
            Self::Number => plain(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.')),
            Self::Double => {
                let number = plain(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'))?;
                // Without an exponent it would be a decimal.
                let is_double = number.contains(['e', 'E']);
                number.parse::<f64>().ok()?;
                Some(if is_double { number } else { format!("{number}e0") })
            }
            Self::Text { charset } if charset.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                Some(format!("_{charset} x'{digits}'"))
            }
            Self::Text { .. } => None,
            Self::Bytes => Some(format!("x'{digits}'")),
            Self::Quoted => {
                plain(|b| b.is_ascii_hexdigit() || matches!(b, b'-' | b':' | b' ' | b'.')).map(|v| format!("'{v}'"))
            }
        }
    }
}

pub(super) fn full_name(table: &CaptureTable) -> String {
    format!("{}.{}", quoted(&table.database), quoted(&table.name))
}

/// The query of one chunk: `rows` rows behind the cursor, in key order.
pub(super) fn chunk_query(
    table: &CaptureTable,
    plan: &SnapshotPlan,
    keys: &[KeyColumn],
    cursor: Option<&[u8]>,
    rows: usize,
) -> Result<String, String> {
    let behind = match cursor.filter(|c| !c.is_empty()) {
        None => String::new(),
        Some(cursor) => {
            let values = literals(cursor, keys).ok_or("The cursor of its load does not fit its key any more.")?;
            format!(" WHERE {}", behind(keys, &values))
        }
    };
    let cursor_columns: String = keys.iter().map(|k| format!(", {}", k.select)).collect();
    let order: Vec<&str> = keys.iter().map(|k| k.expression.as_str()).collect();
    Ok(format!(
        "SELECT {}{cursor_columns} FROM {} FORCE INDEX (PRIMARY){behind} ORDER BY {} LIMIT {rows}",
        plan.select_list().join(", "),
        full_name(table),
        order.join(", ")
    ))
}

/// `(a, b) > (x, y)`, written out: the server finds no range of the index in a comparison of rows.
fn behind(keys: &[KeyColumn], values: &[String]) -> String {
    let (Some(key), Some(value)) = (keys.first(), values.first()) else { return "TRUE".to_owned() };
    let name = &key.expression;
    if keys.len() == 1 {
        return format!("{name} > {value}");
    }
    let rest = behind(&keys[1..], &values[1..]);
    format!("{name} >= {value} AND ({name} > {value} OR ({name} = {value} AND {rest}))")
}

#[cfg(test)]
mod tests {
    use relation::{Schema, TableId};

    use super::super::ColumnRule;
    use super::*;

    /// A table that leaves, or whose load begins anew, holds up no other one by its reader.
    #[tokio::test]
    async fn readers_end_with_their_loads() {
        let table = |id| CaptureTable {
            id: TableId(id),
            database: "shop".to_owned(),
            name: format!("t{id}"),
            columns: Vec::new(),
            is_placed: false,
            rule: ColumnRule::default(),
            schema: Schema::default(),
            load: Load::Pending { cursor: None },
        };
        let met = Met { server: "one".to_owned(), address: None };
        let mut loaders = Loaders::new(&Arc::new(MysqlConfig::default()), met);
        let high = LogPoint::new("binlog.000001", 4);
        loaders.start(0, table(0), 1, high.clone());
        loaders.start(1, table(1), 2, high);
        loaders.keep(|index| index == 1);
        assert!(loaders.tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
        assert_eq!(loaders.readers.keys().collect::<Vec<_>>(), [&1]);
    }
}
