//! The source at work: connect, follow the log, place chunks, hand batches over, and begin again when cut off.
//!
//! One task does it all, so that nothing needs a lock. It reads a block from the socket, walks the events in it without
//! waiting for anything, and then waits for whatever comes first: room in the channel (a batch goes out as soon as there
//! is room, so it is small when things are quiet and grows while the receiver is busy), a chunk, or the next block.
//!
//! It never waits for the receiver alone unless there is something for it to receive: reading stops only where
//! [`Runner::is_full`], and then [`Runner::has_output`]. Memory is bounded: batches in the channel ([`Limits::queue`] of
//! [`Limits::bytes_max`] each), two more under construction, [`WAITING_BYTES_MAX`] and up to seven chunks of 32 MiB under
//! way, twice the log's largest event, keys in windows (about 70 MiB), and 512 MiB of changes of tables without a key
//! while they are loaded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use relation::{Position, TableId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::source::{Absence, Control, Failure, Limits, OwnFacts, Requests, SourceEvent, SourceState, now_us};

use super::again::{CHECK_TICKS, HEAD, LOOK_AGAIN, Pauses, START, understood};
use super::assemble::{Assembler, NOTICES_MAX, Notice, Step};
use super::cascade::Cascades;
use super::commits::{Since, WAITS, are_shown};
use super::continuity::{Ground, Verdict, Way};
use super::decode::SourceColumn;
use super::error::{LogRefusal, ServerError, WireError, another_history, ends, failure, is_away, told};
use super::kind::Known;
use super::login::Met;
use super::position::{Gtids, LogPoint, LogPosition, is_same_server};
use super::reach::Reach;
use super::sentry::{LogEnd, Sentry};
use super::server::{Facts, REACH, announce_checksum, end_position, log_end, start_position};
use super::snapshot::{Loaded, Loaders, may_lock};
use super::statement::Dialect;
use super::window::Chunk;
use super::wire::{ServerInfo, Transport, Wire};
use super::{ANSWER, CaptureTable, ColumnRule, Load, MysqlConfig, describe, login};

/// The server says where its log ends this often when it is idle: chunks wait for that.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// Silence for this long, heartbeats included, is a dead connection.
const SILENCE_TICKS_MAX: u32 = 40;
/// Before the first event a server may have to search its log for a transaction, up to a whole file of it, and sends no
/// heartbeats meanwhile: three minutes.
const SEARCH_TICKS_MAX: u32 = 900;
/// A connection that nothing was asked of for so long may be dead, and has this long to say that it is not.
const IDLE: Duration = Duration::from_secs(30);
const ALIVE: Duration = Duration::from_secs(5);
/// How long it may take over all its views, triggers and routines, which some servers have thousands of.
const OBJECTS: Duration = Duration::from_secs(30);
/// So is whether tables may be locked by now whose load needs that.
const LOCK_TICKS: u32 = 25;
/// Tables that are looked at in a tick because of their numbers.
const LOOKS_MAX: usize = 10;
/// Chunks that may wait for the log to catch up, beside those in the readers' queue.
const WAITING_CHUNKS_MAX: usize = 6;
/// Bytes of them from which no further one is taken.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Between two loads of a table that comes into doubt again and again.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// It need not be longer than this, or than the last load took.
const PAUSE_ENOUGH: Duration = Duration::from_secs(10);
/// After this long without a doubt the next load begins at once.
const PAUSE_FORGOTTEN: Duration = Duration::from_secs(30);

/// The MySQL source; see the module's story.
#[derive(Debug, Clone, Copy)]
pub struct MysqlSource;

impl MysqlSource {
    /// Starts on the current tokio runtime. With `resume` reading goes on behind that position, otherwise where
    /// `config.start` says. The receiver gets events until [`SourceEvent::Failed`] or [`Control::stop`].
    pub fn start(
        config: MysqlConfig,
        tables: Vec<CaptureTable>,
        resume: Option<Position>,
        limits: Limits,
    ) -> (mpsc::Receiver<SourceEvent>, Control) {
        // Less than one is none, and nothing would ever go out.
        let limits = Limits {
            transactions_max: limits.transactions_max.max(1),
            rows_max: limits.rows_max.max(1),
            bytes_max: limits.bytes_max.max(1),
            queue: limits.queue.max(1),
        };
        let (sender, receiver) = mpsc::channel(limits.queue);
        let (stop, stopped) = watch::channel(false);
        let requests = Requests::default();
        let reloads = requests.clone();
        let pauses = vec![Pause::default(); tables.len()];
        let (restart, restarted) = watch::channel(());
        let cursors = tables
            .iter()
            .map(|t| match &t.load {
                Load::Pending { cursor } => cursor.clone(),
                Load::Complete => None,
            })
            .collect();
        let runner = Runner {
            config: Arc::new(config),
            limits,
            sender,
            stopped,
            requests,
            asked: VecDeque::new(),
            locked_out: BTreeSet::new(),
            unseen: BTreeSet::new(),
            waited_at: None,
            known_end: None,
            pauses,
            restarted,
            is_restarting: false,
            cursors,
            tables,
            resume,
            assembler: None,
            said: VecDeque::new(),
            state: None,
            waits_for_commits: false,
            stalled_by: String::new(),
            remark: String::new(),
            untold: String::new(),
            is_by_file: false,
            server_id: 0,
            server: ServerInfo::default(),
            facts: Facts::default(),
            waiting: Vec::new(),
            run: 0,
            flush: false,
        };
        let control = Control::new(stop, tokio::spawn(runner.run())).with_reloads(reloads).with_restart(restart);
        (receiver, control)
    }
}

/// Why the source does not go on.
enum Halt {
    /// Asked to, or nobody listens.
    Stopped,
    /// A transaction must be read again from its head.
    Void,
    /// Asked to load all tables again from now.
    Restarted,
    Wire(WireError),
}

impl From<WireError> for Halt {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

struct Runner {
    config: Arc<MysqlConfig>,
    limits: Limits,
    sender: mpsc::Sender<SourceEvent>,
    stopped: watch::Receiver<bool>,
    requests: Requests,
    /// Requests that were taken and wait for a moment that suits them.
    asked: VecDeque<(usize, String)>,
    /// Tables that are parked until they may be locked for a moment.
    locked_out: BTreeSet<usize>,
    /// Tables that the user may not see any more, which are looked for.
    unseen: BTreeSet<usize>,
    /// The statement that was waited for last.
    waited_at: Option<LogPoint>,
    /// Where the log ended some time ago, and when that was.
    known_end: Option<(LogPoint, Since)>,
    /// Per table: when its next load may begin.
    pauses: Vec<Pause>,
    /// Changes when all tables are to be loaded again from now.
    restarted: watch::Receiver<()>,
    /// It has, and the place from which on is not known yet.
    is_restarting: bool,
    /// Per table: where its load goes on, as of the last chunk handed over.
    cursors: Vec<Option<Vec<u8>>>,
    /// Until the assembler has them.
    tables: Vec<CaptureTable>,
    resume: Option<Position>,
    assembler: Option<Assembler>,
    /// Events that go out before the next batch.
    said: VecDeque<SourceEvent>,
    state: Option<SourceState>,
    /// That commits are waited for was said last.
    waits_for_commits: bool,
    /// What was last said of a stall.
    stalled_by: String,
    /// What is to be said with the next good state.
    remark: String,
    /// What is said while nothing else is: changes that nobody tells of.
    untold: String,
    /// The log is to be asked for by file and offset next time, though it could be by numbers.
    is_by_file: bool,
    /// Under which we read the log.
    server_id: u32,
    /// What it is that we read.
    server: ServerInfo,
    /// How it is set.
    facts: Facts,
    /// Chunks that the log has not yet caught up with, in order.
    waiting: Vec<Chunk>,
    /// Counts readers, so that chunks of one that was given up are known.
    run: u64,
    /// A newer position may be handed over though no change of ours came with it.
    flush: bool,
}

impl Runner {
    async fn run(mut self) {
        let mut pauses = Pauses::default();
        loop {
            let begun = self.run;
            self.run += 1;
            let halt = match self.session().await {
                Ok(never) => match never {},
                Err(halt) => halt,
            };
            let was_passing = self.assembler.as_ref().is_some_and(Assembler::is_passing);
            if let Some(assembler) = &mut self.assembler {
                assembler.abandon();
            }
            self.waiting.clear();
            let error = match halt {
                Halt::Stopped => return,
                Halt::Void => continue,
                Halt::Restarted => match self.restart().await {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                Halt::Wire(error) => error,
            };
            self.is_by_file = LogRefusal::of(&error) == Some(LogRefusal::Anonymous);
            let error = understood(error, was_passing, &self.config, &self.server, self.server_id);
            if ends(&error)
                && let Some(failure) = failure(&error, &self.config)
            {
                self.fail(failure).await;
                return;
            }
            // A connection that worked for a while starts the patience anew.
            if self.state != Some(SourceState::Stalled) && self.state != Some(SourceState::Connecting) {
                pauses = Pauses::default();
            }
            let pause = pauses.take(begun);
            let (message, pause) = match failure(&error, &self.config) {
                Some(failure) => {
                    let again = format!("It is tried again in {} s.", seconds(LOOK_AGAIN));
                    (failure.and(&again).text(), LOOK_AGAIN)
                }
                None => {
                    let address = self.config.address();
                    let message = format!("{}, trying again in {} s", told(&error, &address), seconds(pause));
                    let hint = if is_away(&error) { format!("\nHint: {REACH}") } else { String::new() };
                    (format!("{message}{hint}"), pause)
                }
            };
            tracing::warn!(server = %self.config.address(), %error, wait_ms = pause.as_millis(), "connecting again");
            self.say(SourceState::Stalled, message);
            let mut restarted = self.restarted.clone();
            let pause = async move {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = changed(&mut restarted) => {}
                }
            };
            if self.while_delivering(pause).await.is_err() {
                return;
            }
            if self.restarted.has_changed().unwrap_or(false) && self.restart().await.is_err() {
                return;
            }
        }
    }

    /// All tables are to be loaded again from now: what is whole goes out before.
    async fn restart(&mut self) -> Result<(), Halt> {
        self.restarted.borrow_and_update();
        while self.has_output() {
            let permit = self.permit().await?;
            self.hand_over(permit);
        }
        self.flush = false;
        self.is_restarting = true;
        Ok(())
    }

    /// Hands over what is whole, then the failure.
    async fn fail(&mut self, failure: Failure) {
        tracing::error!(server = %self.config.address(), %failure, detail = %failure.detail, "the source has stopped");
        while self.has_output() {
            let Ok(permit) = self.permit().await else { return };
            self.hand_over(permit);
        }
        if let Ok(permit) = self.permit().await {
            permit.send(SourceEvent::Failed(failure));
        }
    }

    /// Room for an event, or the end.
    async fn permit(&mut self) -> Result<mpsc::OwnedPermit<SourceEvent>, Halt> {
        tokio::select! {
            biased;
            _ = self.stopped.changed() => Err(Halt::Stopped),
            permit = self.sender.clone().reserve_owned() => permit.map_err(|_| Halt::Stopped),
        }
    }

    fn say(&mut self, state: SourceState, message: String) {
        let message = match state {
            SourceState::Streaming if message.is_empty() => self.untold.clone(),
            _ => message,
        };
        // The state is the same, and it no longer is for want of commits.
        let has_waited = mem::take(&mut self.waits_for_commits);
        if self.state != Some(state) || has_waited || state == SourceState::Stalled && self.stalled_by != message {
            self.state = Some(state);
            self.stalled_by.clone_from(&message);
            self.said.push_back(SourceEvent::State(state, message));
        }
    }

    /// One connection's life. Ends only by an error.
    async fn session(&mut self) -> Result<std::convert::Infallible, Halt> {
        if self.state != Some(SourceState::Stalled) {
            self.say(SourceState::Connecting, self.config.address());
        }
        let config = Arc::clone(&self.config);
        let (sql, met, facts) = self
            .answered(async move {
                let mut sql = login::connect(&config).await?;
                let met = Met::ask(&mut sql).await?;
                let facts = Facts::read(&mut sql).await?;
                match facts.refuse(&config) {
                    Some(failure) => Err(WireError::Stalled(Box::new(failure))),
                    None => Ok((sql, met, facts)),
                }
            })
            .await?;
        let sql = match self.assembler.is_none() || self.is_restarting {
            true => self.begin(sql, &facts).await?,
            false => sql,
        };
        self.server.clone_from(&sql.server);
        self.facts.clone_from(&facts);
        // Of a log that may be another one.
        self.known_end = None;
        let (major, minor, patch) = sql.server.numbers();
        let version = (major * 100 + minor) * 100 + patch;
        let server = Dialect { mariadb: sql.server.mariadb, version, ..Dialect::default() };
        let (mut sql, way) = self.go_on(sql, &facts, &met).await?;
        let Some(assembler) = &mut self.assembler else { return Err(Halt::Stopped) };
        assembler.set_server(server, facts.has_exact_names);
        if !facts.logs_cascades() {
            let (known, tables) = (facts.clone(), assembler.captures());
            let (same, (cascades, end)) = self
                .answered(async move {
                    let keys = keys_now(&mut sql, &known, &tables).await?;
                    Ok((sql, keys))
                })
                .await?;
            sql = same;
            let Some(assembler) = &mut self.assembler else { return Err(Halt::Stopped) };
            let untold = cascades.untold(&assembler.captures(), &self.config.user);
            assembler.set_cascades(cascades, end);
            self.note_untold(untold);
        }
        let Some(assembler) = &self.assembler else { return Err(Halt::Stopped) };
        let position = assembler.position().clone();
        let (config, same) = (Arc::clone(&self.config), met.clone());
        let (mut log, server_id) = self
            .answered(async move {
                let mut wire = login::connect_again(&config, &same).await?;
                let server_id = open_log(&mut wire, &config, &position, way).await?;
                Ok((wire, server_id))
            })
            .await?;
        self.server_id = server_id;
        if let (Way::File(offset), Some(assembler)) = (way, &mut self.assembler) {
            assembler.resume_from(offset);
        }
        let sentry = Sentry::start(Arc::clone(&self.config), met.clone(), sql);
        let result = self.follow(&mut log, &met, sentry).await;
        // The server notices a closed socket by itself; a log connection takes no more commands.
        drop(log);
        result
    }

    /// Judges whether the server's log leads on from where we stand, and how it is asked for.
    async fn go_on(&mut self, mut sql: Wire, facts: &Facts, met: &Met) -> Result<(Wire, Way), Halt> {
        let (known, met) = (facts.clone(), met.clone());
        let (sql, mut ground) = self
            .answered(async move {
                let ground = Ground::read(&mut sql, &known, &met).await?;
                Ok((sql, ground))
            })
            .await?;
        let Some(assembler) = &mut self.assembler else { return Err(Halt::Stopped) };
        let position = assembler.position();
        let is_held = ground.holds(position);
        let must_count = is_held && facts.gtid_mode && assembler.lacks_numbers();
        ground.is_numbered &= !self.is_by_file || !is_same_server(&position.mark.server, &ground.server);
        let way = match ground.judge(position, &self.config) {
            // All is numbered, and the position counts nothing yet, as after it was switched: a failover needs the numbers.
            Verdict::GoOn(Way::File(_)) if must_count => Way::File(HEAD),
            Verdict::GoOn(way) => way,
            Verdict::Stalled(failure) => return Err(WireError::Stalled(Box::new(failure)).into()),
        };
        let before = position.mark.server.clone();
        if !before.is_empty() && !is_same_server(&before, &ground.server) {
            let (address, now) = (self.config.address(), &ground.server);
            tracing::info!(server = %address, %before, %now, "another server of the same history is read");
            self.remark =
                format!("{address} is server {now} now, before it was {before}: it has all that we have read");
        }
        match way {
            // The file is seen to be the one that was left when its event comes.
            Way::File(_) => assembler.belongs_to(&ground.server),
            Way::Numbers if is_held => assembler.belongs_to(&ground.server),
            Way::Numbers => assembler.moves_to(&ground.server),
        }
        Ok((sql, way))
    }

    /// Finds the first position, or the one from which all is loaded again, and makes the assembler.
    async fn begin(&mut self, mut sql: Wire, facts: &Facts) -> Result<Wire, Halt> {
        let resume = self.resume.clone().filter(|_| !self.is_restarting);
        let (sql, (position, since_us)) = match resume {
            None => {
                let (config, facts, is_restarting) = (Arc::clone(&self.config), facts.clone(), self.is_restarting);
                let found = async move {
                    let found = match is_restarting {
                        true => (end_position(&mut sql, &facts).await?, 0),
                        false => start_position(&mut sql, &facts, &config).await?,
                    };
                    Ok((sql, found))
                };
                self.while_delivering(login::in_time(START, found)).await??
            }
            Some(position) => {
                let parsed = position.0.parse::<LogPosition>().map_err(|e| {
                    WireError::Stalled(Box::new(Failure {
                        message: "the stored position cannot be read".to_owned(),
                        detail: e.to_string(),
                        hint: super::error::LOAD_ALL_AGAIN.to_owned(),
                    }))
                })?;
                (sql, (parsed, 0))
            }
        };
        let assembler = match self.assembler.take() {
            Some(before) => before.restarted(position),
            None => {
                let tables = mem::take(&mut self.tables);
                let fresh = Assembler::new(tables, position.clone(), self.limits, since_us);
                if self.is_restarting { fresh.restarted(position) } else { fresh }
            }
        };
        self.assembler = Some(assembler);
        if mem::take(&mut self.is_restarting) {
            self.pauses.fill(Pause::default());
            self.flush = true;
        }
        Ok(sql)
    }

    /// Follows the log of one connection.
    async fn follow(
        &mut self,
        log: &mut Wire,
        met: &Met,
        mut sentry: Sentry,
    ) -> Result<std::convert::Infallible, Halt> {
        let mut loaders = Loaders::new(&self.config, met.clone());
        let mut is_good = false;
        let mut sql = Asked { met: met.clone(), wire: None, used: Instant::now() };
        let mut tick = ticks();
        let mut silence = Silence::default();
        let mut unchecked_ticks = 0;
        let mut locks_ticks = 0;
        let mut may_look = false;
        loop {
            if is_good {
                if mem::take(&mut may_look) {
                    self.look_at_unlooked(&mut sql).await?;
                }
                if locks_ticks >= LOCK_TICKS {
                    locks_ticks = 0;
                    self.try_locks(&mut sql).await?;
                    self.look_for_unseen(&mut sql).await?;
                }
                self.see_to_requests(&mut sql).await?;
            }
            match self.walk(log)? {
                None => {}
                Some(Look::Table(index)) => {
                    // A table that leaves is left as the log has made it up to here.
                    self.flush().await?;
                    if self.assembler.as_ref().is_some_and(Assembler::is_doubted_by_statement) {
                        self.wait_until_shown(&mut sql).await?;
                    }
                    let columns = self.describe(&mut sql, index).await?;
                    self.resolve(index, columns)?;
                    continue;
                }
                Some(Look::Keys) => {
                    self.wait_until_shown(&mut sql).await?;
                    self.read_keys(&mut sql).await?;
                    continue;
                }
                Some(Look::Reach) => {
                    let answer = self.ask(&mut sql, Question::Reach).await?;
                    if let (Answer::Reach(reach), Some(assembler)) = (answer, &mut self.assembler) {
                        assembler.set_reach(reach);
                    }
                    continue;
                }
            }
            self.settle(&mut sql).await?;
            // Nothing is loaded beside a log that may turn out to be another one, nor is that log called good.
            if !is_good && self.assembler.as_ref().is_some_and(Assembler::is_proven) {
                is_good = true;
                loaders = self.resume_loads(met, &mut sql).await?;
            }
            if is_good {
                self.begin_loads(&mut sql, &mut loaders).await?;
            }
            if let Some(assembler) = &self.assembler {
                loaders.keep(|index| assembler.is_begun(index));
                assembler.applied().into_iter().for_each(|applied| loaders.is_read(applied, assembler.position()));
            }
            if is_good && self.assembler.as_ref().is_some_and(Assembler::has_touched_much) {
                self.load_anew(&mut sql, &mut loaders).await?;
            }
            let output = self.has_output();
            let full = self.is_full();
            debug_assert!(!full || output, "who stops reading has something to hand over");
            let may_load = self.may_load();
            tokio::select! {
                biased;
                _ = self.stopped.changed() => return Err(Halt::Stopped),
                () = changed(&mut self.restarted) => return Err(Halt::Restarted),
                permit = self.sender.clone().reserve_owned(), if output => {
                    self.hand_over(permit.map_err(|_| Halt::Stopped)?);
                }
                Some(end) = sentry.answers.recv() => self.check(&end?)?,
                Some(loaded) = loaders.loaded.recv(), if may_load => self.take(loaded)?,
                read = log.fill(), if !full => {
                    read?;
                    silence.ends();
                }
                tables = self.requests.taken() => self.note_requests(tables),
                _ = tick.tick() => {
                    self.flush = true;
                    unchecked_ticks += 1;
                    locks_ticks += 1;
                    may_look = true;
                    if unchecked_ticks >= CHECK_TICKS && let Some(assembler) = &self.assembler {
                        unchecked_ticks = 0;
                        sentry.ask(&assembler.position().point);
                    }
                    if !full {
                        silence.lasts(self.assembler.as_ref().is_some_and(Assembler::has_come))?;
                    }
                }
            }
        }
    }

    /// Compares what was read with where the log ends.
    fn check(&mut self, end: &LogEnd) -> Result<(), Halt> {
        if end.has_gone_back() {
            return Err(
                another_history(&format!("It ends at {}, and we have read up to {}.", end.point, end.read)).into()
            );
        }
        // Not before the place where the log was left is found: what was counted is counted up to there.
        if let Some(assembler) = self.assembler.as_mut().filter(|assembler| end.is_numbered && assembler.is_proven()) {
            assembler.adopt();
        }
        Ok(())
    }

    /// Whether reading waits until something was handed over.
    fn is_full(&self) -> bool {
        self.said.len() >= NOTICES_MAX || self.assembler.as_ref().is_some_and(Assembler::is_full)
    }

    fn may_load(&self) -> bool {
        let bytes: usize = self.waiting.iter().map(|chunk| chunk.rows.byte_len()).sum();
        self.waiting.len() < WAITING_CHUNKS_MAX && bytes < WAITING_BYTES_MAX && self.said.len() < NOTICES_MAX
    }

    /// The windows remember no more keys: readers begin again behind the chunks that were sent. Tables without a key have none, and
    /// what was read of one is worth something only with the rest of the same reading.
    async fn load_anew(&mut self, sql: &mut Asked, loaders: &mut Loaders) -> Result<(), Halt> {
        tracing::info!(server = %self.config.address(), "much has changed while tables are loaded: their readers begin anew");
        let Some(assembler) = &mut self.assembler else { return Ok(()) };
        assembler.open_windows_anew();
        let begun: Vec<usize> = assembler.begun().filter(|index| assembler.has_window(*index)).collect();
        self.waiting.retain(|chunk| !begun.contains(&chunk.table));
        self.go_on_loading(begun, sql, loaders).await
    }

    /// Readers for the loads that have begun.
    async fn resume_loads(&mut self, met: &Met, sql: &mut Asked) -> Result<Loaders, Halt> {
        let mut loaders = Loaders::new(&self.config, met.clone());
        let begun = self.assembler.iter().flat_map(|assembler| assembler.begun()).collect();
        self.go_on_loading(begun, sql, &mut loaders).await?;
        self.say_loading(self.assembler.as_ref().map_or(0, |assembler| assembler.loading().len()));
        Ok(loaders)
    }

    /// New readers for these loads, each behind the last chunk of it that was sent.
    async fn go_on_loading(&mut self, begun: Vec<usize>, sql: &mut Asked, loaders: &mut Loaders) -> Result<(), Halt> {
        if begun.is_empty() {
            return Ok(());
        }
        let high = self.log_end(sql).await?;
        let Some(assembler) = &mut self.assembler else { return Ok(()) };
        for index in begun {
            self.run += 1;
            assembler.resume_load(index, self.run);
            let mut table = assembler.table(index).clone();
            table.load = Load::Pending { cursor: self.cursors[index].clone() };
            loaders.start(index, table, self.run, high.clone());
        }
        Ok(())
    }

    fn say_loading(&mut self, count: usize) {
        let remark = mem::take(&mut self.remark);
        let (state, message) = match count {
            0 => (SourceState::Streaming, remark),
            count if remark.is_empty() => (SourceState::Snapshot, format!("loading {count} tables")),
            count => (SourceState::Snapshot, format!("loading {count} tables; {remark}")),
        };
        self.say(state, message);
    }

    /// Begins the loads that wait and whose time has come, where the log ends now.
    async fn begin_loads(&mut self, sql: &mut Asked, loaders: &mut Loaders) -> Result<(), Halt> {
        let Some(assembler) = &self.assembler else { return Ok(()) };
        let now = Instant::now();
        let due: Vec<usize> = assembler.waiting().filter(|&index| self.pauses[index].is_over(now)).collect();
        if due.is_empty() {
            return Ok(());
        }
        let high = self.log_end(sql).await?;
        let Some(assembler) = &mut self.assembler else { return Ok(()) };
        for index in due {
            self.run += 1;
            assembler.begin_load(index, high.clone(), self.run);
            self.pauses[index].load_begins(now);
            self.cursors[index] = None;
            let mut table = assembler.table(index).clone();
            table.load = Load::Pending { cursor: None };
            loaders.start(index, table, self.run, high.clone());
        }
        let loading = self.assembler.as_ref().map_or(0, |assembler| assembler.loading().len());
        self.say_loading(loading);
        Ok(())
    }

    /// Requests wait for a moment that suits them, one of each table.
    fn note_requests(&mut self, tables: BTreeMap<TableId, String>) {
        let Some(assembler) = &self.assembler else { return };
        for (table, reason) in tables {
            let Some(index) = assembler.index_of(table) else { continue };
            if self.asked.iter().all(|(asked, _)| *asked != index) {
                self.asked.push_back((index, reason));
            }
        }
    }

    /// Tables that a person wants loaded again, unless a transaction goes out in parts just now.
    async fn see_to_requests(&mut self, sql: &mut Asked) -> Result<(), Halt> {
        while let (Some((index, reason)), Some(assembler)) = (self.asked.front().cloned(), &mut self.assembler) {
            if assembler.may_be_asked(index) && !assembler.may_ask() {
                return Ok(());
            }
            self.flush().await?;
            let columns = self.describe(sql, index).await?;
            // Not before the server has answered: where it does not, the table is asked for again on the next connection.
            self.asked.pop_front();
            if self.assembler.as_mut().is_some_and(|assembler| assembler.ask(index, reason)) {
                self.pauses[index] = Pause::default();
                self.resolve(index, columns)?;
            }
        }
        Ok(())
    }

    /// Looks at some tables that were read under numbers that nobody knows the reason of, unless a transaction goes out in parts just
    /// now.
    async fn look_at_unlooked(&mut self, sql: &mut Asked) -> Result<(), Halt> {
        for _ in 0..LOOKS_MAX {
            let due = self.assembler.as_ref().filter(|assembler| assembler.may_ask()).and_then(Assembler::unlooked);
            let Some(index) = due else { return Ok(()) };
            self.flush().await?;
            let columns = self.describe(sql, index).await?;
            if let Some(assembler) = &mut self.assembler {
                assembler.look(index);
            }
            self.resolve(index, columns)?;
        }
        Ok(())
    }

    /// Tables that were parked for want of a lock are loaded when it may be had.
    async fn try_locks(&mut self, sql: &mut Asked) -> Result<(), Halt> {
        for index in self.locked_out.clone() {
            let Some(assembler) = &self.assembler else { return Ok(()) };
            // Somebody had it loaded meanwhile.
            if !assembler.is_parked(index) {
                self.locked_out.remove(&index);
                continue;
            }
            let database = assembler.table(index).database.clone();
            if let Answer::MayLock(true) = self.ask(sql, Question::MayLock(database)).await? {
                self.locked_out.remove(&index);
                self.asked.push_back((index, "it may be locked now, which its load needs".to_owned()));
            }
        }
        Ok(())
    }

    /// Tables that could not be seen are loaded when the user may see them again.
    async fn look_for_unseen(&mut self, sql: &mut Asked) -> Result<(), Halt> {
        for index in self.unseen.clone() {
            if !self.assembler.as_ref().is_some_and(|assembler| assembler.is_gone(index)) {
                self.unseen.remove(&index);
                continue;
            }
            if self.describe(sql, index).await?.is_ok() {
                self.unseen.remove(&index);
                self.asked.push_back((index, "the user may SELECT from it again".to_owned()));
            }
        }
        Ok(())
    }

    /// A statement is in the log before a query shows what it has done: one wait for all that is asked because of it. Who numbers
    /// transactions knows when that one is done, and MariaDB logs a statement on tables once it is; otherwise a while must do.
    async fn wait_until_shown(&mut self, sql: &mut Asked) -> Result<(), Halt> {
        let Some(assembler) = &self.assembler else { return Err(Halt::Stopped) };
        let being_read = assembler.being_read();
        if self.waited_at.as_ref() == Some(&being_read.point) {
            return Ok(());
        }
        let mut since = Since::now();
        if !self.server.mariadb && being_read.gtids == Gtids::Off {
            since = self.in_log_since(sql, &being_read.point).await?;
            self.while_delivering(tokio::time::sleep_until(since.at + self.config.snapshot_delay)).await?;
        }
        self.wait_for_commits(sql, &since).await?;
        self.waited_at = Some(being_read.point);
        Ok(())
    }

    /// Since when it is known that the log has a place: of many statements one after the other each need not be waited for anew.
    async fn in_log_since(&mut self, sql: &mut Asked, place: &LogPoint) -> Result<Since, Halt> {
        if let Some((_, since)) = self.known_end.as_ref().filter(|(end, _)| place <= end) {
            return Ok(since.clone());
        }
        let end = self.log_end(sql).await?;
        let since = Since::now();
        self.known_end = Some((end, since.clone()));
        Ok(since)
    }

    /// Waits until queries show what the transaction being read has done.
    async fn wait_for_commits(&mut self, sql: &mut Asked, since: &Since) -> Result<(), Halt> {
        loop {
            // What they are waited for is not read then.
            if self.restarted.has_changed().unwrap_or(false) {
                return Err(Halt::Restarted);
            }
            let Some(assembler) = &self.assembler else { return Err(Halt::Stopped) };
            let question = Question::AreShown(assembler.being_read(), since.clone());
            let Answer::AreShown(are_shown) = self.ask(sql, question).await? else { return Err(Halt::Stopped) };
            if are_shown {
                self.say_waited();
                return Ok(());
            }
            tracing::warn!(server = %self.config.address(), "{WAITS}");
            self.say_waiting();
        }
    }

    /// A table's columns are known, or that there are none: whatever was in doubt about it is resolved.
    fn resolve(&mut self, index: usize, columns: Result<Vec<SourceColumn>, Lost>) -> Result<(), Halt> {
        let Some(assembler) = &mut self.assembler else { return Err(Halt::Stopped) };
        if matches!(columns, Err(Lost::Unseen(_))) {
            self.unseen.insert(index);
        }
        assembler.described(index, columns.as_deref().map_err(Lost::reason));
        if assembler.is_void() { Err(Halt::Void) } else { Ok(()) }
    }

    /// Hands over what is whole.
    async fn flush(&mut self) -> Result<(), Halt> {
        while self.has_output() {
            let permit = self.permit().await?;
            self.hand_over(permit);
        }
        Ok(())
    }

    /// Walks the events that have arrived, until there are no more or the batch is full. Returns what is to be looked up.
    fn walk(&mut self, log: &mut Wire) -> Result<Option<Look>, Halt> {
        if self.is_full() {
            return Ok(None);
        }
        let Some(assembler) = &mut self.assembler else { return Ok(None) };
        assembler.set_read_time(now_us());
        while let Some(packet) = log.next_packet().map_err(|error| assembler.unread(error))? {
            let event = match packet.split_first() {
                Some((0, event)) => event,
                Some((0xff, _)) => return Err(WireError::Server(ServerError::parse(packet)).into()),
                Some((0xfe, _)) => return Err(WireError::Closed.into()),
                _ => {
                    return Err(WireError::Protocol("no event where one should be".to_owned()).into());
                }
            };
            match assembler.event(event)? {
                // Nobody listens who would ask.
                Step::Next | Step::Asked => {}
                Step::Committed if assembler.is_full() => break,
                Step::Committed => {}
                Step::Outgrown => break,
                Step::Paused => {
                    log.unread();
                    break;
                }
                Step::Describe(index) => {
                    log.unread();
                    return Ok(Some(Look::Table(index)));
                }
                Step::Keys => {
                    log.unread();
                    return Ok(Some(Look::Keys));
                }
                Step::Reach => {
                    log.unread();
                    return Ok(Some(Look::Reach));
                }
            }
        }
        Ok(None)
    }

    /// Reads a table's columns again, or why there are none.
    async fn describe(&mut self, sql: &mut Asked, index: usize) -> Result<Result<Vec<SourceColumn>, Lost>, Halt> {
        let Some(assembler) = &self.assembler else { return Err(Halt::Stopped) };
        let CaptureTable { database, name, rule, .. } = assembler.table(index).clone();
        match self.ask(sql, Question::Columns(database.clone(), name.clone(), rule)).await? {
            Answer::Columns(Some(columns)) => return Ok(Ok(columns)),
            Answer::Columns(None) => {}
            _ => return Err(Halt::Stopped),
        }
        match self.ask(sql, Question::Lost(self.config.user.clone(), database, name)).await? {
            Answer::Lost(reason) => Ok(Err(reason.map_or(Lost::Dropped, Lost::Unseen))),
            _ => Err(Halt::Stopped),
        }
    }

    /// Reads again which foreign keys change rows without a trace in the log.
    async fn read_keys(&mut self, sql: &mut Asked) -> Result<(), Halt> {
        let Some(assembler) = &self.assembler else { return Err(Halt::Stopped) };
        let question = Question::Keys(self.facts.clone(), assembler.captures());
        let Answer::Keys(keys, end) = self.ask(sql, question).await? else { return Err(Halt::Stopped) };
        let Some(assembler) = &mut self.assembler else { return Err(Halt::Stopped) };
        let untold = keys.untold(&assembler.captures(), &self.config.user);
        assembler.set_cascades(keys, end);
        self.note_untold(untold);
        Ok(())
    }

    /// Changes that nobody tells of are said once in the log, and with the state as long as nothing else is.
    fn note_untold(&mut self, untold: Option<String>) {
        let untold = untold.unwrap_or_default();
        if untold == self.untold {
            return;
        }
        if !untold.is_empty() {
            tracing::warn!(server = %self.config.address(), "{untold}");
        }
        self.untold.clone_from(&untold);
        if self.state == Some(SourceState::Streaming) {
            self.said.push_back(SourceEvent::State(SourceState::Streaming, untold));
        }
    }

    /// Asks where the log ends, where it is not known from where on columns are what the server says.
    async fn settle(&mut self, sql: &mut Asked) -> Result<(), Halt> {
        if !self.assembler.as_ref().is_some_and(Assembler::is_unsettled) {
            return Ok(());
        }
        let end = self.log_end(sql).await?;
        if let Some(assembler) = &mut self.assembler {
            assembler.settle(&end);
        }
        Ok(())
    }

    /// Where the log ends now.
    async fn log_end(&mut self, sql: &mut Asked) -> Result<LogPoint, Halt> {
        match self.ask(sql, Question::LogEnd).await? {
            Answer::LogEnd(end) => Ok(end),
            _ => Err(Halt::Stopped),
        }
    }

    /// Asks the server; on a connection that has died meanwhile, on a new one.
    async fn ask(&mut self, sql: &mut Asked, question: Question) -> Result<Answer, Halt> {
        let (config, met) = (Arc::clone(&self.config), sql.met.clone());
        let (kept, is_idle) = (sql.wire.take(), sql.used.elapsed() > IDLE);
        let (wire, answer) = self
            .answered(async move {
                if let Some(mut wire) = kept
                    && (!is_idle || is_alive(&mut wire).await)
                    && let Ok(answer) = question.ask(&mut wire).await
                {
                    return Ok((wire, answer));
                }
                let mut wire = login::connect_again(&config, &met).await?;
                let answer = question.ask(&mut wire).await?;
                Ok((wire, answer))
            })
            .await?;
        (sql.wire, sql.used) = (Some(wire), Instant::now());
        Ok(answer)
    }

    fn take(&mut self, loaded: Loaded) -> Result<(), Halt> {
        match loaded {
            Loaded::Elsewhere(error) => return Err(error.into()),
            Loaded::Chunk(chunk) => self.waiting.push(chunk),
            Loaded::Waits => self.say_waiting(),
            Loaded::Delayed { table, run, reason } => {
                let id = self.assembler.as_ref().filter(|assembler| assembler.is_load(table, run));
                if let Some(table) = id.map(|assembler| assembler.table(table).id) {
                    self.said.push_back(SourceEvent::Delayed { table, reason });
                }
            }
            Loaded::Described { table, run, columns } => {
                if let Some(assembler) = &mut self.assembler {
                    match columns {
                        Some(columns) => _ = assembler.load_described(table, run, Ok(&columns)),
                        None if assembler.is_load(table, run) => {
                            self.asked.push_back((table, "it was not there when its load began".to_owned()));
                        }
                        None => {}
                    }
                    self.say_waited();
                    self.note_end_of_loads();
                }
            }
            Loaded::Parked { table, run, reason, is_locked_out } => {
                if is_locked_out {
                    self.locked_out.insert(table);
                }
                if let Some(assembler) = &mut self.assembler {
                    assembler.park_load(table, run, reason);
                    self.note_end_of_loads();
                }
            }
        }
        Ok(())
    }

    /// Commits are waited for: people are told once, until something else is to be told.
    fn say_waiting(&mut self) {
        if self.waits_for_commits {
            return;
        }
        self.waits_for_commits = true;
        self.state = Some(SourceState::Snapshot);
        self.said.push_back(SourceEvent::State(SourceState::Snapshot, WAITS.to_owned()));
    }

    /// They are no longer.
    fn say_waited(&mut self) {
        if self.waits_for_commits {
            self.say_loading(self.assembler.as_ref().map_or(0, |assembler| assembler.loading().len()));
        }
    }

    fn note_end_of_loads(&mut self) {
        let is_loading = self.assembler.as_ref().is_some_and(|assembler| !assembler.loading().is_empty());
        if self.state == Some(SourceState::Snapshot) && !is_loading {
            self.say(SourceState::Streaming, String::new());
        }
    }

    /// News of the assembler, to go out before the batch that they belong to: whoever has stored its position knows what it
    /// lacks.
    fn take_notices(&mut self) {
        let Some(assembler) = &mut self.assembler else { return };
        let now = Instant::now();
        for notice in assembler.notices() {
            let event = match notice {
                Notice::Parked { table, reason } => SourceEvent::Parked { table, reason },
                Notice::Learned { index } => {
                    let CaptureTable { id, columns, .. } = assembler.table(index).clone();
                    let known = Known { columns, is_placed: assembler.is_placed(index) };
                    SourceEvent::Learned { table: id, facts: OwnFacts::new(known) }
                }
                Notice::Altered { table, statement } => SourceEvent::Altered { table, statement },
                Notice::Reload { index, table, reason } => {
                    self.pauses[index].lengthen(now);
                    tracing::warn!(table = %assembler.table(index).name, %reason, "loading a table again");
                    SourceEvent::Reload { table, reason }
                }
            };
            self.said.push_back(event);
        }
        self.waiting.retain(|chunk| assembler.wants(chunk));
    }

    /// Whether something should go out now. Always where [`Runner::is_full`].
    fn has_output(&mut self) -> bool {
        self.take_notices();
        let Some(assembler) = &mut self.assembler else { return !self.said.is_empty() };
        if !self.said.is_empty() || assembler.is_ready() || self.waiting.iter().any(|chunk| assembler.may_close(chunk))
        {
            return true;
        }
        self.flush = self.flush && assembler.has_moved();
        self.flush
    }

    /// Sends one event: what was said, or the batch with all chunks whose time has come.
    fn hand_over(&mut self, permit: mpsc::OwnedPermit<SourceEvent>) {
        if let Some(said) = self.said.pop_front() {
            permit.send(said);
            return;
        }
        let Some(assembler) = &mut self.assembler else { return };
        for chunk in mem::take(&mut self.waiting) {
            // Those of a table go out in their order: behind one that has no room there is none for another.
            if !assembler.has_room() || !assembler.may_close(&chunk) {
                self.waiting.push(chunk);
                continue;
            }
            let index = chunk.table;
            self.cursors[index] = Some(chunk.cursor.clone());
            assembler.add_chunk(chunk);
        }
        self.flush = false;
        permit.send(SourceEvent::Batch(assembler.take()));
        let ended = assembler.ended_loads();
        let loaded = !ended.is_empty();
        ended.into_iter().for_each(|index| self.pauses[index].load_ends(Instant::now()));
        if loaded && assembler.loading().is_empty() {
            self.say(SourceState::Streaming, String::new());
        }
    }

    /// Waits for a server's answer while what is ready goes out.
    async fn answered<T>(&mut self, work: impl Future<Output = Result<T, WireError>>) -> Result<T, Halt> {
        Ok(self.while_delivering(login::in_time(ANSWER, work)).await??)
    }

    /// Waits for something while what is ready goes out.
    async fn while_delivering<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Halt> {
        let mut work = std::pin::pin!(work);
        loop {
            let output = self.has_output();
            tokio::select! {
                biased;
                _ = self.stopped.changed() => return Err(Halt::Stopped),
                permit = self.sender.clone().reserve_owned(), if output => {
                    self.hand_over(permit.map_err(|_| Halt::Stopped)?);
                }
                done = &mut work => return Ok(done),
            }
        }
    }
}

/// The connection for questions between two events: to the server whose log is read, opened when it is needed.
struct Asked {
    met: Met,
    wire: Option<Wire>,
    /// When it was last.
    used: Instant,
}

/// Whether a connection answers. Who stands between forgets those that say nothing for minutes, and tells nobody.
async fn is_alive(wire: &mut Wire) -> bool {
    let answer = login::in_time(ALIVE, wire.query("SELECT 1")).await;
    answer.map_or_else(|error| error.code().is_some(), |_| true)
}

/// Why a table has no columns any more.
enum Lost {
    Dropped,
    /// The user may not see it, as its reason says.
    Unseen(String),
}

impl Lost {
    fn reason(&self) -> &str {
        match self {
            Self::Dropped => Absence::DROPPED,
            Self::Unseen(reason) => reason,
        }
    }
}

/// What the server is asked between two events.
enum Question {
    LogEnd,
    /// Of a table: database, name, and the rule for its columns.
    Columns(String, String, ColumnRule),
    /// Why nothing is seen of a table: the user, database and name.
    Lost(String, String, String),
    /// Which foreign keys change rows of these tables without a trace in the log.
    Keys(Facts, Vec<CaptureTable>),
    /// What is behind the objects of databases.
    Reach,
    /// Whether tables of this database may be locked.
    MayLock(String),
    /// Whether queries show what the log has up to a place, where it was seen at that time.
    AreShown(LogPosition, Since),
}

enum Answer {
    LogEnd(LogPoint),
    Columns(Option<Vec<SourceColumn>>),
    /// None: it was dropped.
    Lost(Option<String>),
    /// With where the log ended then.
    Keys(Cascades, LogPoint),
    Reach(Reach),
    MayLock(bool),
    AreShown(bool),
}

/// Keys that change rows of these tables without a trace in the log, and where it ends once they are read.
async fn keys_now(wire: &mut Wire, facts: &Facts, tables: &[CaptureTable]) -> Result<(Cascades, LogPoint), WireError> {
    let keys = Cascades::read(wire, facts, tables).await?;
    Ok((keys, log_end(wire).await?.0))
}

/// What is to be asked before the next event is taken.
enum Look {
    /// The columns of this table.
    Table(usize),
    /// Foreign keys.
    Keys,
    /// What is behind the objects of databases.
    Reach,
}

impl Question {
    async fn ask(&self, wire: &mut Wire) -> Result<Answer, WireError> {
        Ok(match self {
            Self::LogEnd => Answer::LogEnd(log_end(wire).await?.0),
            Self::Columns(database, name, rule) => {
                Answer::Columns(describe::columns(wire, database, name, rule).await?)
            }
            Self::Lost(user, database, name) => Answer::Lost(describe::lost(wire, user, database, name).await?),
            Self::Keys(facts, tables) => {
                let (keys, end) = keys_now(wire, facts, tables).await?;
                Answer::Keys(keys, end)
            }
            Self::Reach => match login::in_time(OBJECTS, Reach::read(wire)).await {
                Err(WireError::Silent(seconds)) => {
                    tracing::warn!(
                        seconds,
                        "what is behind views, triggers and routines the server does not tell in time: it may be anything"
                    );
                    // The rest of the answer is on its way.
                    wire.transport = Transport::Gone;
                    Answer::Reach(Reach::unknown())
                }
                told => Answer::Reach(told?),
            },
            Self::MayLock(database) => Answer::MayLock(may_lock(wire, database).await?),
            Self::AreShown(until, since) => Answer::AreShown(are_shown(wire, until, since).await?),
        })
    }
}

/// How long a table that is loaded again and again waits between two loads.
#[derive(Debug, Clone, Copy, Default)]
struct Pause {
    length: Duration,
    since: Option<Instant>,
    /// When its load began that is under way.
    begun: Option<Instant>,
    /// How long the last one took that was complete.
    took: Option<Duration>,
}

impl Pause {
    /// The table is to be loaded again: at once, if that has not happened for a while.
    fn lengthen(&mut self, now: Instant) {
        let calm = PAUSE_FORGOTTEN + self.length * 4 + self.took.unwrap_or_default() * 2;
        let is_old = self.since.is_none_or(|since| now.duration_since(since) > calm);
        // Where loads come to their end, half of the time is theirs at most: what is in doubt all the time is as fresh as it
        // can be.
        let max = self.took.map_or(PAUSE_MAX, |took| took.clamp(PAUSE_ENOUGH, PAUSE_MAX));
        self.length = if is_old { Duration::ZERO } else { (self.length * 2).clamp(PAUSE_FIRST, max) };
        (self.since, self.begun) = (Some(now), None);
    }

    fn load_begins(&mut self, now: Instant) {
        self.begun = Some(now);
    }

    fn load_ends(&mut self, now: Instant) {
        self.took = self.begun.take().map(|begun| now.duration_since(begun)).or(self.took);
    }

    fn is_over(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.duration_since(since) >= self.length)
    }
}

/// How many ticks a server has said nothing for.
#[derive(Debug, Default)]
pub(crate) struct Silence(u32);

impl Silence {
    pub(crate) fn ends(&mut self) {
        self.0 = 0;
    }

    /// One tick more. Who has begun to send the log sends heartbeats, too; before, it may have to search.
    pub(crate) fn lasts(&mut self, has_begun: bool) -> Result<(), WireError> {
        let limit = if has_begun { SILENCE_TICKS_MAX } else { SEARCH_TICKS_MAX };
        self.0 += 1;
        match self.0 > limit {
            true => Err(WireError::Silent((HEARTBEAT * self.0).as_secs())),
            false => Ok(()),
        }
    }
}

pub(crate) fn ticks() -> Interval {
    let mut tick = tokio::time::interval(HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tick
}

/// Asks for the log behind a position; answers the server id under which it is read.
pub(crate) async fn open_log(
    wire: &mut Wire,
    config: &MysqlConfig,
    position: &LogPosition,
    way: Way,
) -> Result<u32, WireError> {
    announce_checksum(wire).await?;
    let period_ns = HEARTBEAT.as_nanos();
    wire.execute(&format!("SET @master_heartbeat_period = {period_ns}, @source_heartbeat_period = {period_ns}"))
        .await?;
    // While nobody takes our batches we do not read, and the server must not mind.
    wire.execute("SET SESSION net_write_timeout = 3600, net_read_timeout = 3600").await?;
    let server_id = config.server_id.unwrap_or_else(|| own_server_id(config, wire.server.connection_id));
    if wire.server.mariadb {
        // 4: we understand GTIDs, and events that a statement was split into.
        wire.execute(
            "SET @mariadb_slave_capability = 4, @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0",
        )
        .await?;
    }
    match (way, &position.gtids) {
        (Way::Numbers, Gtids::MySql(set)) => {
            wire.register(server_id).await?;
            wire.dump_from_gtids(server_id, set).await?;
        }
        (Way::Numbers, Gtids::MariaDb(set)) => {
            wire.execute(&format!("SET @slave_connect_state = '{set}'")).await?;
            wire.register(server_id).await?;
            wire.dump_from_file(server_id, "", 4).await?;
        }
        (Way::File(offset), _) => {
            let offset =
                u32::try_from(offset).map_err(|_| WireError::Protocol(format!("offset {offset} of a log file")))?;
            wire.register(server_id).await?;
            wire.dump_from_file(server_id, &position.point.file, offset).await?;
        }
        (Way::Numbers, Gtids::Off) => return Err(WireError::Protocol("a position without numbers".to_owned())),
    }
    Ok(server_id)
}

/// A number no other replica should have: from who we are and the connection, anew for each connection.
fn own_server_id(config: &MysqlConfig, connection_id: u32) -> u32 {
    const FIRST: u32 = 1_000; // people number their servers from 1
    let name = format!("{} {} {} {}", config.address(), config.database, connection_id, now_us());
    let hash = relation::key::hash128(name.as_bytes());
    FIRST + u32::from_le_bytes([hash[12], hash[13], hash[14], hash[15]]) % (u32::MAX - FIRST)
}

/// Waits for a word that may never come: whoever could say it may have gone.
async fn changed(word: &mut watch::Receiver<()>) {
    if word.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// For how long nothing is tried, as people read it.
fn seconds(pause: Duration) -> f64 {
    pause.as_secs_f64().ceil()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{PAUSE_MAX, Pause, SEARCH_TICKS_MAX, SILENCE_TICKS_MAX, Silence};

    #[test]
    fn a_table_that_is_always_in_doubt_is_loaded_half_of_the_time_at_most() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        let mut lengths = Vec::new();
        for took in [40, 40, 40, 40, 40, 40, 40, 40] {
            pause.lengthen(now);
            lengths.push(pause.length.as_secs());
            now += pause.length;
            assert!(pause.is_over(now));
            pause.load_begins(now);
            now += Duration::from_secs(took);
            pause.load_ends(now);
        }
        assert_eq!(lengths[0], 0, "the first time at once");
        assert_eq!(lengths.iter().max(), Some(&40), "and never longer than a load takes: {lengths:?}");
    }

    #[test]
    fn a_table_whose_load_never_ends_waits_for_minutes() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        for _ in 0..20 {
            pause.lengthen(now);
            now += pause.length;
            pause.load_begins(now);
            now += Duration::from_secs(1);
        }
        assert_eq!(pause.length, PAUSE_MAX);
    }

    #[test]
    fn who_searches_its_log_may_be_silent_for_longer_than_who_sends_it() {
        let until_refused = |has_begun| {
            let mut silence = Silence::default();
            (1..).find(|_| silence.lasts(has_begun).is_err())
        };
        assert_eq!(until_refused(true), Some(SILENCE_TICKS_MAX + 1));
        assert_eq!(until_refused(false), Some(SEARCH_TICKS_MAX + 1));
        let mut silence = Silence::default();
        for _ in 0..SEARCH_TICKS_MAX {
            silence.ends();
            assert!(silence.lasts(true).is_ok(), "a word now and then is enough");
        }
    }
}
