//! The capture at work: connect, follow the log, hand messages on, and begin again when cut off.
//!
//! One task reads and renders, a thread brings messages to their place ([`Pump`]); between them is a queue of a few batches, behind
//! which reading waits. Memory is bounded: the batches of that queue and two more ([`BATCH_BYTES`] each, or one event's messages), the
//! open transaction in memory, and twice the log's largest event.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::source::mysql::log::{
    Assembler, Dialect, Facts, Ground, LOAD_ALL_AGAIN, LogEnd, LogPoint, LogPosition, LogRefusal, Met, Sentry,
    ServerError, ServerInfo, Silence, Step, Verdict, Way, Wire, WireError, another_history, columns, connect,
    connect_again, end_position, ends, failure, in_time, is_same_server, jitter, literal, log_end, open_log, purged,
    start_position, ticks, told,
};
use crate::source::mysql::{MysqlConfig, Start};
use crate::source::{ColumnRule, Failure, Limits};

use super::bootstrap::{Bootstrap, Portion, Request, Requests, Writing};
use super::ddl::Unknown;
use super::follow::{Follower, Settings};
use super::kafka::Kafka;
use super::schema::{Schemas, Table, charset_of};
use super::sink::{Batch, Lines, Nowhere, Pump, Pumped, Sink, Stdout};
use super::state::State;
use super::{Job, StopAt, Teller, To, changed};

/// Messages are handed on when there are so many of them, or nothing more has arrived.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that may wait.
const QUEUE: usize = 4;
/// How long a server may take over a question.
const ANSWER: Duration = Duration::from_secs(60);
/// How long the place to start may be looked for.
const START: Duration = Duration::from_secs(600);
/// Where the first event of a log file is.
const HEAD: u64 = 4;
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// What only a person or time can mend is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A position behind which nothing of ours was logged is kept whenever so many ticks have passed.
const IDLE_TICKS: u32 = 5;
/// The end of the log is asked for whenever so many have.
const CHECK_TICKS: u32 = 10;
/// Tables whose columns are asked for before anything is read; those of larger servers are when their first rows come.
const PRELOADED_MAX: usize = 2_000;
/// Messages that were handed on have so long to become safe when somebody waits for the end.
const STOP_PATIENCE: Duration = Duration::from_secs(4);

/// How soon it is looked again whether what has come out is safe.
const SAFE_SOON: Duration = Duration::from_millis(20);

/// How a capture has gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages that were handed on.
    pub messages: u64,
    /// Rows that could not be output.
    pub unread: u64,
    /// The position that was kept last.
    pub position: Option<String>,
    /// Why not all of it was taken, where somebody waited for the end.
    pub given_up: Option<String>,
}

/// Captures until `stop` is true, or the job's end is reached.
///
/// Errors: what a person must mend. Whatever may pass is tried again, and told.
pub async fn run(job: Job, stop: watch::Receiver<bool>, teller: Teller) -> Result<Summary, Failure> {
    let state = State::open(&job.state)?;
    let position = state.position()?;
    let schemas = if position.is_some() { state.schemas()? } else { None };
    let is_first = position.is_none();
    if !is_first && job.server.start != Start::Now && job.server.start != Start::Snapshot {
        teller.warn(&format!(
            "init_position is not used: a position is kept in {}; remove it to begin elsewhere",
            job.state.display()
        ));
    }
    let position = position.map(|text| text.parse::<LogPosition>()).transpose().map_err(|error| Failure {
        message: "the kept position cannot be read".to_owned(),
        detail: error.to_string(),
        hint: format!("Remove position.json in {}, and the capture begins at the end of the log.", job.state.display()),
    })?;
    let sink: Box<dyn Sink> = match &job.to {
        To::Stdout => Box::new(Stdout),
        To::File(path) => Box::new(Lines::open(path)?),
        To::Kafka { settings, dead_letter_topic } => {
            Box::new(Kafka::open(settings, dead_letter_topic.clone(), |note| teller.tell(note))?)
        }
        To::Nowhere => Box::new(Nowhere),
    };
    teller.tell(&format!("capturing from {} to {}", job.server.address(), sink.name()));
    let settings = Settings {
        options: job.options.clone(),
        filter: job.filter.clone(),
        routing: matches!(job.to, To::Kafka { .. }).then(|| job.routing.clone()),
        own_database: job.own_database.clone(),
        client_id: job.client_id.clone(),
        folder: job.state.clone(),
    };
    let (sender, receiver) = mpsc::channel(QUEUE);
    let pump = Pump { sink, state, teller: teller.clone(), stopped: stop.clone(), runtime: Handle::current() };
    let mut pumped = tokio::task::spawn_blocking(move || pump.run(receiver));
    let mut runner = Runner {
        config: Arc::new(job.server),
        stop_at: job.stop_at,
        target: None,
        sender,
        stopped: stop.clone(),
        teller,
        position,
        is_first,
        assembler: None,
        follower: Follower::new(settings, schemas.unwrap_or_default()),
        is_known: false,
        is_by_file: false,
        server_id: 0,
        server: ServerInfo::default(),
        stalled_by: None,
        was_good: false,
        sent: String::new(),
        sees_bootstraps: job.bootstraps,
        requests: Requests::default(),
        active: None,
    };
    if job.bootstraps {
        Request::kept(&job.state).into_iter().for_each(|request| runner.requests.add(request));
    }
    runner.is_known = runner.follower.schemas.version > 0;
    // The pump may end first: what it writes to is gone.
    let ended = tokio::select! {
        ended = Box::pin(runner.run()) => ended,
        result = &mut pumped => return joined(result).map(|pumped| runner.summary(pumped)),
    };
    let (messages, unread) = (runner.follower.messages, runner.follower.unread);
    drop(runner);
    let is_stopped = *stop.borrow();
    let pumped = match is_stopped {
        false => joined(pumped.await)?,
        true => match tokio::time::timeout(STOP_PATIENCE, pumped).await {
            Ok(result) => joined(result)?,
            Err(_) => Pumped { position: None, given_up: Some("they are not taken".to_owned()) },
        },
    };
    ended?;
    Ok(Summary { messages, unread, position: pumped.position, given_up: pumped.given_up })
}

fn joined(result: Result<Result<Pumped, Failure>, tokio::task::JoinError>) -> Result<Pumped, Failure> {
    result.unwrap_or_else(|error| {
        Err(Failure { message: "the capture broke off".to_owned(), detail: error.to_string(), hint: String::new() })
    })
}

/// Why a session ends.
enum Halt {
    /// Asked to, or all was read that was to be.
    Done,
    Wire(WireError),
}

impl From<WireError> for Halt {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

struct Runner {
    config: Arc<MysqlConfig>,
    stop_at: Option<StopAt>,
    /// Where to end.
    target: Option<LogPoint>,
    sender: mpsc::Sender<Batch>,
    stopped: watch::Receiver<bool>,
    teller: Teller,
    /// That was kept.
    position: Option<LogPosition>,
    /// None was.
    is_first: bool,
    /// Keeps the place.
    assembler: Option<Assembler>,
    follower: Follower,
    /// What tables there are was asked for, or kept.
    is_known: bool,
    /// The log is to be asked for by file and offset next time, though it could be by numbers.
    is_by_file: bool,
    server_id: u32,
    /// What it is that we read.
    server: ServerInfo,
    /// What was last said of a stall.
    stalled_by: Option<String>,
    was_good: bool,
    /// The position that was handed on last.
    sent: String,
    /// Requests for bootstraps are seen to.
    sees_bootstraps: bool,
    requests: Requests,
    /// The bootstrap under way.
    active: Option<Bootstrap>,
}

impl Runner {
    fn summary(&self, pumped: Pumped) -> Summary {
        Summary {
            messages: self.follower.messages,
            unread: self.follower.unread,
            position: pumped.position,
            given_up: pumped.given_up,
        }
    }

    async fn run(&mut self) -> Result<(), Failure> {
        let mut backoff = BACKOFF_FIRST;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let halt = match self.session().await {
                Ok(never) => match never {},
                Err(halt) => halt,
            };
            let was_passing = self.assembler.as_ref().is_some_and(Assembler::is_passing);
            if let Some(assembler) = &mut self.assembler {
                assembler.abandon();
            }
            self.follower.abandon();
            // Whoever is read next may be another server.
            self.active.iter_mut().for_each(Bootstrap::begin_anew);
            let error = match halt {
                Halt::Done => return Ok(()),
                Halt::Wire(error) => self.understood(error, was_passing),
            };
            if let Some(failure) = failure(&error, &self.config).filter(|_| ends(&error)) {
                return Err(ours(failure));
            }
            if std::mem::take(&mut self.was_good) {
                backoff = BACKOFF_FIRST;
            }
            let (message, pause) = match failure(&error, &self.config) {
                Some(failure) => (ours(failure).text(), LOOK_AGAIN),
                None => (told(&error, &self.config.address()), backoff + jitter(backoff, attempt)),
            };
            if self.stalled_by.as_ref() != Some(&message) {
                self.teller.warn(&format!("{message}; it is tried again"));
                self.stalled_by = Some(message);
            }
            tokio::select! {
                biased;
                () = changed(&mut self.stopped) => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// What an error means here: before the place where we stopped was found again, one about it is about the log's history.
    fn understood(&mut self, error: WireError, was_passing: bool) -> WireError {
        let refusal = LogRefusal::of(&error);
        self.is_by_file = refusal == Some(LogRefusal::Anonymous);
        match refusal {
            Some(LogRefusal::NoSuchPlace | LogRefusal::NoSuchEvent) if was_passing => {
                another_history(&error.to_string())
            }
            _ if was_passing && matches!(error, WireError::Damaged(_)) => another_history(&error.to_string()),
            Some(LogRefusal::Purged | LogRefusal::NoSuchPlace) => {
                WireError::Stalled(Box::new(purged(&self.config, error.to_string(), &self.server)))
            }
            Some(LogRefusal::Duplicate) => WireError::Protocol(format!(
                "another one reads the log under server_id {}, which was ours ({error})",
                self.server_id
            )),
            _ => error,
        }
    }

    /// Waits for a server's answer, or for the end.
    async fn answered<T>(
        &mut self,
        limit: Duration,
        work: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, Halt> {
        tokio::select! {
            biased;
            () = changed(&mut self.stopped) => Err(Halt::Done),
            result = in_time(limit, work) => Ok(result?),
        }
    }

    /// One connection's life.
    async fn session(&mut self) -> Result<std::convert::Infallible, Halt> {
        if *self.stopped.borrow() {
            return Err(Halt::Done);
        }
        let config = Arc::clone(&self.config);
        let (mut sql, met, facts) = self
            .answered(ANSWER, async move {
                let mut sql = connect(&config).await?;
                let met = Met::ask(&mut sql).await?;
                let facts = Facts::read(&mut sql).await?;
                match facts.refuse(&config) {
                    Some(failure) => Err(WireError::Stalled(Box::new(failure))),
                    None => Ok((sql, met, facts)),
                }
            })
            .await?;
        let (major, minor, patch) = sql.server.numbers();
        let version = (major * 100 + minor) * 100 + patch;
        let dialect = Dialect { mariadb: sql.server.mariadb, version, ..Dialect::default() };
        self.server.clone_from(&sql.server);
        self.follower.set_server(dialect);
        if self.assembler.is_none() {
            sql = self.begin(sql, &facts).await?;
        }
        if !self.is_known {
            sql = self.learn(sql, &facts).await?;
        }
        if self.target.is_none() {
            self.target = match &self.stop_at {
                None => None,
                Some(StopAt::Place { file, offset }) => Some(LogPoint::new(file.clone(), *offset)),
                Some(StopAt::End) => Some(self.answered(ANSWER, log_end(&mut sql)).await?.0),
            };
        }
        let known = facts.clone();
        let same = met.clone();
        let (sql, mut ground) = self
            .answered(ANSWER, async move {
                let ground = Ground::read(&mut sql, &known, &same).await?;
                Ok((sql, ground))
            })
            .await?;
        let is_by_file = self.is_by_file;
        let config = Arc::clone(&self.config);
        let Some(assembler) = &mut self.assembler else { return Err(Halt::Done) };
        let position = assembler.position();
        let is_held = ground.holds(position);
        let must_count = is_held && facts.gtid_mode && assembler.lacks_numbers();
        ground.is_numbered &= !is_by_file || !is_same_server(&position.mark.server, &ground.server);
        let way = match ground.judge(position, &config) {
            Verdict::GoOn(Way::File(_)) if must_count => Way::File(HEAD),
            Verdict::GoOn(way) => way,
            Verdict::Stalled(failure) => return Err(WireError::Stalled(Box::new(failure)).into()),
        };
        match way {
            Way::File(_) => assembler.belongs_to(&ground.server),
            Way::Numbers if is_held => assembler.belongs_to(&ground.server),
            Way::Numbers => assembler.moves_to(&ground.server),
        }
        assembler.set_server(dialect, facts.has_exact_names);
        let (position, same) = (assembler.position().clone(), met.clone());
        let wants_statements = self.follower.settings().options.row_query;
        let (mut log, server_id) = self
            .answered(ANSWER, async move {
                let mut wire = connect_again(&config, &same).await?;
                wire.wants_statements = wants_statements;
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
        drop(log);
        result
    }

    /// Finds the first position, and makes what keeps the place.
    async fn begin(&mut self, mut sql: Wire, facts: &Facts) -> Result<Wire, Halt> {
        let (position, since_us) = match self.position.take() {
            Some(position) => (position, 0),
            None => {
                let (config, facts) = (Arc::clone(&self.config), facts.clone());
                let found = async move {
                    let found = match &config.start {
                        Start::Snapshot | Start::Now => (end_position(&mut sql, &facts).await?, 0),
                        _ => start_position(&mut sql, &facts, &config).await?,
                    };
                    Ok((sql, found))
                };
                let (same, found) = self.answered(START, found).await?;
                sql = same;
                self.teller.tell(&format!("beginning at {}, since no position is kept", found.0.point));
                found
            }
        };
        self.assembler = Some(Assembler::new(Vec::new(), position, Limits::default(), since_us));
        Ok(sql)
    }

    /// Asks what tables there are, where nothing is known of them yet.
    async fn learn(&mut self, mut sql: Wire, facts: &Facts) -> Result<Wire, Halt> {
        let from_now = self.is_first && matches!(self.config.start, Start::Now | Start::Snapshot);
        let mut schemas = Schemas { has_exact_names: facts.has_exact_names, version: 1, ..Schemas::default() };
        let (sql, schemas) = self
            .answered(START, async move {
                let rows = sql.query("SELECT @@GLOBAL.character_set_server").await?;
                rows.single().unwrap_or("utf8mb4").clone_into(&mut schemas.charset);
                if !from_now {
                    // What the log says from there on is older than what the server would say.
                    return Ok((sql, schemas));
                }
                let rows = sql
                    .query("SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA")
                    .await?;
                for row in &rows.rows {
                    if let [Some(name), Some(charset)] = &row[..] {
                        schemas.insert_database(name, charset);
                    }
                }
                let rows = sql
                    .query(
                        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN \
                         ('mysql', 'sys', 'information_schema', 'performance_schema') AND TABLE_TYPE <> 'VIEW'",
                    )
                    .await?;
                let wanted: Vec<(String, String)> = rows
                    .rows
                    .into_iter()
                    .filter_map(|row| {
                        let mut values = row.into_iter();
                        Some((values.next()??, values.next()??))
                    })
                    .collect();
                if wanted.len() > PRELOADED_MAX {
                    return Ok((sql, schemas));
                }
                schemas.is_whole = true;
                for (database, name) in &wanted {
                    if let Some(table) = described(&mut sql, database, name).await? {
                        schemas.insert(table);
                    }
                }
                Ok((sql, schemas))
            })
            .await?;
        self.follower.begin_with(schemas);
        self.is_known = true;
        Ok(sql)
    }

    async fn follow(
        &mut self,
        log: &mut Wire,
        met: &Met,
        mut sentry: Sentry,
    ) -> Result<std::convert::Infallible, Halt> {
        let mut asking: Option<Wire> = None;
        let mut tick = ticks();
        let mut silence = Silence::default();
        let (mut idle_ticks, mut unchecked_ticks) = (0, 0);
        loop {
            match self.walk(log)? {
                Walked::All => {}
                Walked::Full => {
                    self.hand_on().await?;
                    continue;
                }
                Walked::Asks if self.follower.asked.is_empty() => {
                    // What has come out is to be safe first.
                    self.hand_on().await?;
                    tokio::select! {
                        biased;
                        () = changed(&mut self.stopped) => return Err(Halt::Done),
                        () = tokio::time::sleep(SAFE_SOON) => {}
                    }
                    continue;
                }
                Walked::Asks => {
                    self.answer(met, &mut asking).await?;
                    continue;
                }
            }
            if self.follower.waiting() > 0 {
                self.hand_on().await?;
            }
            self.tell_news();
            let is_busy = self.bootstrap(met).await?;
            // Then nothing more is read, and bootstraps alone are seen to their end.
            let is_read = self.is_at_end();
            if is_read && !is_busy && self.active.is_none() && self.requests.waiting.is_empty() {
                self.hand_on().await?;
                return Err(Halt::Done);
            }
            if !self.was_good && self.assembler.as_ref().is_some_and(Assembler::is_proven) {
                self.was_good = true;
                if self.stalled_by.take().is_some() {
                    self.teller.tell("the log is read again");
                }
            }
            tokio::select! {
                biased;
                () = changed(&mut self.stopped) => {
                    self.hand_on().await?;
                    return Err(Halt::Done);
                }
                Some(end) = sentry.answers.recv() => self.check(&end?)?,
                read = log.fill(), if !is_read => {
                    read?;
                    silence.ends();
                }
                _ = tick.tick() => {
                    idle_ticks += 1;
                    unchecked_ticks += 1;
                    if idle_ticks >= IDLE_TICKS {
                        idle_ticks = 0;
                        self.hand_on().await?;
                    }
                    if unchecked_ticks >= CHECK_TICKS && let Some(assembler) = &self.assembler {
                        unchecked_ticks = 0;
                        sentry.ask(&assembler.position().point);
                    }
                    if !is_read {
                        silence.lasts(self.assembler.as_ref().is_some_and(Assembler::has_come))?;
                    }
                }
                () = std::future::ready(()), if is_busy => {}
            }
        }
    }

    /// Compares what was read with where the log ends.
    fn check(&mut self, end: &LogEnd) -> Result<(), Halt> {
        if end.has_gone_back() {
            let detail = format!("It ends at {}, and we have read up to {}.", end.point, end.read);
            return Err(another_history(&detail).into());
        }
        if let Some(assembler) = self.assembler.as_mut().filter(|assembler| end.is_numbered && assembler.is_proven()) {
            assembler.adopt();
        }
        Ok(())
    }

    /// Whether all was read that was to be.
    fn is_at_end(&self) -> bool {
        let (Some(target), Some(assembler)) = (&self.target, &self.assembler) else { return false };
        assembler.position().point >= *target || assembler.applied().is_some_and(|applied| applied >= target)
    }

    /// Walks the events that have arrived.
    fn walk(&mut self, log: &mut Wire) -> Result<Walked, Halt> {
        let Some(assembler) = &mut self.assembler else { return Ok(Walked::All) };
        let follower = &mut self.follower;
        loop {
            while follower.is_ending() {
                if follower.waiting() >= BATCH_BYTES {
                    return Ok(Walked::Full);
                }
                follower.go_on()?;
            }
            let is_past = || self.target.as_ref().is_some_and(|target| assembler.position().point >= *target);
            if follower.waiting() >= BATCH_BYTES {
                return Ok(Walked::Full);
            }
            if is_past() {
                return Ok(Walked::All);
            }
            let Some(packet) = log.next_packet().map_err(|error| assembler.unread(error))? else {
                return Ok(Walked::All);
            };
            let event = match packet.split_first() {
                Some((0, event)) => event,
                Some((0xff, _)) => return Err(WireError::Server(ServerError::parse(packet)).into()),
                Some((0xfe, _)) => return Err(WireError::Closed.into()),
                _ => return Err(WireError::Protocol("no event where one should be".to_owned()).into()),
            };
            // The assembler follows no tables: it asks nothing, and is never full.
            if assembler.event_heard(event, follower)? == Step::Asked {
                log.unread();
                return Ok(Walked::Asks);
            }
        }
    }

    /// Has some rows of a bootstrap come out, if one was asked for. Answers whether there are more at once.
    async fn bootstrap(&mut self, met: &Met) -> Result<bool, Halt> {
        self.note_requests()?;
        let is_proven = self.assembler.as_ref().is_some_and(Assembler::is_proven);
        // Where there is an end to read up to, what was asked for on the way comes behind it.
        let is_time = self.target.is_none() || self.is_at_end();
        if self.active.is_none() && is_time && (is_proven || self.target.is_some()) {
            let Some(request) = self.requests.waiting.pop_front() else { return Ok(false) };
            self.begin_bootstrap(met, request).await?;
        }
        let config = Arc::clone(&self.config);
        let wants_connection = |active: &Bootstrap| active.is_of_table() && active.wants_connection();
        let wire = match self.active.as_ref().is_some_and(wants_connection) {
            false => None,
            true => Some(self.answered(ANSWER, connect_again(&config, met)).await?),
        };
        let (Some(mut active), Some(touched)) = (self.active.take(), self.follower.touched.take()) else {
            return Ok(false);
        };
        let is_full = touched.is_full();
        let (settings, output, number) = self.follower.output();
        let writer = Writing { options: &settings.options, routing: settings.routing.as_ref(), number };
        let portion = match active.is_of_table() {
            false => Ok(Portion::Done),
            true => {
                let portion = active.portion(wire, &touched, &writer, output);
                tokio::select! {
                    biased;
                    portion = portion => portion,
                    () = changed(&mut self.stopped) => return Err(Halt::Done),
                }
            }
        };
        let table = format!("{}.{}", active.request.database, active.request.table);
        let given_up = match &portion {
            _ if is_full => {
                Some("too many of its rows change meanwhile; ask for parts of it, by where_clause".to_owned())
            }
            Err(error @ (WireError::Server(_) | WireError::Protocol(_))) => Some(error.to_string()),
            _ => None,
        };
        match portion {
            Ok(Portion::More | Portion::Wait) if given_up.is_none() => {
                let is_more = matches!(portion, Ok(Portion::More));
                self.follower.touched = Some(touched);
                self.active = Some(active);
                if self.follower.waiting() >= BATCH_BYTES {
                    self.hand_on().await?;
                }
                return Ok(is_more);
            }
            Err(error) if given_up.is_none() => {
                self.teller.warn(&format!("the bootstrap of {table} was cut off, and begins anew: {error}"));
                active.begin_anew();
                self.follower.touched = Some(touched);
                self.active = Some(active);
                return Ok(false);
            }
            _ => {}
        }
        match given_up {
            Some(reason) => self.teller.warn(&format!("the bootstrap of {table} was given up: {reason}")),
            None => {
                active.mark("bootstrap-complete", &writer, output);
                self.teller.tell(&format!("{table} was bootstrapped: {} rows", active.rows));
            }
        }
        let folder = settings.folder.clone();
        let sql = active.done_sql(&settings.own_database);
        self.follower.count(active.rows + 2);
        self.follower.settle(active.request.path(&folder));
        self.hand_on().await?;
        // Who waits for it there may be told; whether we may write there is another question.
        let told = async {
            let mut wire = connect_again(&config, met).await?;
            wire.execute(&sql).await?;
            wire.close().await;
            Ok(())
        };
        if let Err(Halt::Wire(error)) = self.answered(ANSWER, told).await {
            tracing::debug!(%error, "the request is not marked as done");
        }
        Ok(true)
    }

    async fn begin_bootstrap(&mut self, met: &Met, request: Request) -> Result<(), Halt> {
        let (config, same) = (Arc::clone(&self.config), met.clone());
        let (database, name) = (request.database.clone(), request.table.clone());
        let table = self
            .answered(ANSWER, async move {
                let mut wire = connect_again(&config, &same).await?;
                let table = described(&mut wire, &database, &name).await?;
                wire.close().await;
                Ok(table)
            })
            .await?;
        let place = format!("{}.{}", request.database, request.table);
        if table.is_none() {
            self.teller
                .warn(&format!("{place} is to be bootstrapped, and there is no such table, or it may not be read"));
        }
        let (settings, output, number) = self.follower.output();
        let path = request.path(&settings.folder);
        match Bootstrap::new(request, table, &settings.options) {
            Ok(active) => {
                let writer = Writing { options: &settings.options, routing: settings.routing.as_ref(), number };
                active.mark("bootstrap-start", &writer, output);
                self.follower.touched = Some(active.touched());
                self.active = Some(active);
            }
            Err(reason) => {
                self.teller.warn(&format!("{place} cannot be bootstrapped: {reason}"));
                self.follower.settle(path);
            }
        }
        Ok(())
    }

    /// Requests are kept before the position passes them.
    fn note_requests(&mut self) -> Result<(), Halt> {
        for request in self.follower.requests() {
            if self.sees_bootstraps {
                let folder = &self.follower.settings().folder;
                request.keep(folder).map_err(|error| super::follow::disk(&error, folder))?;
                self.requests.add(request);
            }
        }
        Ok(())
    }

    /// Hands on what has come out, and how far that reaches. Waits for room.
    async fn hand_on(&mut self) -> Result<(), Halt> {
        self.note_requests()?;
        let Some(assembler) = &self.assembler else { return Ok(()) };
        let position = (!self.follower.is_ending()).then(|| assembler.position().to_string());
        let schemas = if position.is_some() { self.follower.new_schemas() } else { None };
        let output = self.follower.take_output();
        let is_news = position.as_ref().is_some_and(|position| *position != self.sent);
        if output.bytes.is_empty() && schemas.is_none() && !is_news {
            return Ok(());
        }
        let done = if position.is_some() { self.follower.settled() } else { Vec::new() };
        if let Some(position) = &position {
            self.sent.clone_from(position);
        }
        let batch = Batch { output, position, schemas, done };
        let stopped = &mut self.stopped;
        if *stopped.borrow() {
            // The queue may be full of what nobody takes any more; what is left comes again.
            self.sender.try_send(batch).ok();
            return Err(Halt::Done);
        }
        tokio::select! {
            biased;
            sent = self.sender.send(batch) => sent.map_err(|_| Halt::Done),
            () = changed(stopped) => Err(Halt::Done),
        }
    }

    fn tell_news(&mut self) {
        for line in self.follower.news() {
            self.teller.warn(&line);
        }
    }

    /// Asks the server what the follower must know.
    async fn answer(&mut self, met: &Met, asking: &mut Option<Wire>) -> Result<(), Halt> {
        for unknown in std::mem::take(&mut self.follower.asked) {
            let (config, met, kept, question) = (Arc::clone(&self.config), met.clone(), asking.take(), unknown.clone());
            let (wire, answer) = self
                .answered(ANSWER, async move {
                    if let Some(mut wire) = kept
                        && let Ok(answer) = ask(&mut wire, &question).await
                    {
                        return Ok((wire, answer));
                    }
                    let mut wire = connect_again(&config, &met).await?;
                    let answer = ask(&mut wire, &question).await?;
                    Ok((wire, answer))
                })
                .await?;
            *asking = Some(wire);
            match answer {
                Answer::Table(table) => self.follower.answer_table(unknown, table),
                Answer::Database(charset) => self.follower.answer_database(unknown, charset.as_deref()),
            }
        }
        Ok(())
    }
}

/// How far the events that have arrived were walked.
enum Walked {
    All,
    /// Messages are to be handed on first.
    Full,
    /// Something must be known first.
    Asks,
}

enum Answer {
    Table(Option<Table>),
    Database(Option<String>),
}

async fn ask(wire: &mut Wire, unknown: &Unknown) -> Result<Answer, WireError> {
    Ok(match unknown {
        Unknown::Table(database, name) => Answer::Table(described(wire, database, name).await?),
        Unknown::Database(name) => {
            let sql = format!(
                "SELECT DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
                literal(name)
            );
            Answer::Database(wire.query(&sql).await?.single().map(str::to_owned))
        }
    })
}

/// A table as the server describes it now; none where it is not there, or may not be seen.
async fn described(wire: &mut Wire, database: &str, name: &str) -> Result<Option<Table>, WireError> {
    let Some(columns) = columns(wire, database, name, &ColumnRule::default()).await? else { return Ok(None) };
    let sql = format!(
        "SELECT TABLE_COLLATION FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        literal(database),
        literal(name)
    );
    let collation = wire.query(&sql).await?.single().map(str::to_owned);
    let charset = collation.and_then(|collation| charset_of(&collation)).unwrap_or_else(|| "utf8mb4".to_owned());
    let (as_of, _) = log_end(wire).await?;
    Ok(Some(Table { database: database.to_owned(), name: name.to_owned(), charset, columns, as_of }))
}

/// A failure of the source in the words of a capture, which has no tables to load again.
fn ours(mut failure: Failure) -> Failure {
    const BEGIN_AGAIN: &str = "to go on from where the log is now, remove position.json in the state folder; what was missed is to be \
                               bootstrapped";
    failure.hint = failure.hint.replace(LOAD_ALL_AGAIN, BEGIN_AGAIN);
    failure
}
