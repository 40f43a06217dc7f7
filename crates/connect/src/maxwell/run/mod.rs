//! The capture at work: connect, follow the log, hand messages on, and begin again when cut off.
//!
//! One task reads and renders, a thread brings messages to their place ([`Pump`]); between them is a queue of a few batches, behind
//! which reading waits. Memory is bounded: the batches of that queue and two more ([`BATCH_BYTES`] each, or one event's messages), the
//! open transaction in memory, and twice the log's largest event.

mod bootstraps;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::source::mysql::log::{
    Assembler, CHECK_TICKS, Dialect, Facts, Ground, HEAD, LOAD_ALL_AGAIN, LOOK_AGAIN, LogEnd, LogPoint, LogPosition,
    LogRefusal, Met, Pauses, START, Sentry, ServerError, ServerInfo, Silence, Step, Verdict, Way, Wire, WireError,
    another_history, connect, connect_again, end_position, ends, failure, in_time, is_same_server, log_end, open_log,
    start_position, ticks, told, understood,
};
use crate::source::mysql::{MysqlConfig, Start};
use crate::source::{Failure, Limits};

use super::bootstrap::{Bootstrap, Request, Requests};
use super::follow::{Follower, Settings};
use super::kafka::Kafka;
use super::sink::{Batch, Lines, Nowhere, Pump, Pumped, Sink, Stdout};
use super::state::State;
use super::{Job, StopAt, Teller, To, changed};

/// Messages are handed on when there are so many of them, or nothing more has arrived.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that may wait.
const QUEUE: usize = 4;
/// How long a server may take over a question.
const ANSWER: Duration = Duration::from_secs(60);
/// A position behind which nothing of ours was logged is kept whenever so many ticks have passed.
const IDLE_TICKS: u32 = 5;
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
        To::Stdout => Box::new(Stdout::open(stop.clone())?),
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
        found: None,
        assembler: None,
        follower: Follower::new(settings, schemas.unwrap_or_default()),
        is_known: false,
        is_by_file: false,
        server_id: 0,
        server: ServerInfo::default(),
        stalled_by: None,
        was_good: false,
        was_in: false,
        said_taken: None,
        sent: String::new(),
        sees_bootstraps: job.bootstraps,
        requests: Requests::default(),
        active: None,
    };
    if job.bootstraps {
        Request::kept(&job.state)?.into_iter().for_each(|request| runner.requests.add(request));
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
    /// Where it begins then, until that is told.
    found: Option<LogPoint>,
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
    /// The server has let us in.
    was_in: bool,
    /// What was said last of another reader under our server id: two that take turns are told of once.
    said_taken: Option<String>,
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
        let mut pauses = Pauses::default();
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
                Halt::Wire(error) => error,
            };
            let refusal = LogRefusal::of(&error);
            self.is_by_file = refusal == Some(LogRefusal::Anonymous);
            let error = understood(error, was_passing, &self.config, &self.server, self.server_id);
            if let Some(failure) = failure(&error, &self.config).filter(|_| is_over(&error, self.was_in)) {
                return Err(ours(failure));
            }
            if std::mem::take(&mut self.was_good) {
                pauses = Pauses::default();
            }
            let pause = pauses.take(attempt);
            let (message, pause) = match failure(&error, &self.config) {
                Some(failure) => (ours(failure).text(), LOOK_AGAIN),
                None => (told(&error, &self.config.address()), pause),
            };
            let said = match refusal {
                Some(LogRefusal::Duplicate) => &mut self.said_taken,
                _ => &mut self.stalled_by,
            };
            if said.as_ref() != Some(&message) {
                self.teller.warn(&format!("{message}; it is tried again"));
                *said = Some(message);
            }
            tokio::select! {
                biased;
                () = changed(&mut self.stopped) => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
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
        self.was_in = true;
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
        if let Some(place) = self.found.clone() {
            self.keep_first(&place).await?;
            self.found = None;
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
                self.found = Some(found.0.point.clone());
                found
            }
        };
        self.assembler = Some(Assembler::new(Vec::new(), position, Limits::default(), since_us));
        Ok(sql)
    }

    /// Tells where it begins, which is kept by then if it is nowhere in the settings: another start would begin elsewhere.
    async fn keep_first(&mut self, place: &LogPoint) -> Result<(), Halt> {
        if matches!(self.config.start, Start::Snapshot | Start::Now) {
            let (kept, is_kept) = oneshot::channel();
            self.hand_on_and(Some(kept)).await?;
            tokio::select! {
                biased;
                // Whoever keeps it may have ended: then nothing is told.
                kept = is_kept => kept.map_err(|_| Halt::Done)?,
                () = changed(&mut self.stopped) => return Err(Halt::Done),
            }
        }
        self.teller.tell(&format!("beginning at {place}, since no position is kept"));
        Ok(())
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

    /// Hands on what has come out, and how far that reaches. Waits for room.
    async fn hand_on(&mut self) -> Result<(), Halt> {
        self.hand_on_and(None).await
    }

    /// The same, telling whoever waits for that when the position is kept.
    async fn hand_on_and(&mut self, kept: Option<oneshot::Sender<()>>) -> Result<(), Halt> {
        self.note_requests()?;
        let Some(assembler) = &self.assembler else { return Ok(()) };
        let position = (!self.follower.is_ending()).then(|| assembler.position().to_string());
        let schemas = if position.is_some() { self.follower.new_schemas() } else { None };
        let output = self.follower.take_output();
        let is_news = position.as_ref().is_some_and(|position| *position != self.sent);
        if output.bytes.is_empty() && schemas.is_none() && !is_news && kept.is_none() {
            return Ok(());
        }
        let done = if position.is_some() { self.follower.settled() } else { Vec::new() };
        if let Some(position) = &position {
            self.sent.clone_from(position);
        }
        let batch = Batch { output, position, schemas, done, kept };
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
}

/// Whether only a person can mend what has ended a session. A server that has let us in may refuse us for a while, as while its users are
/// changed: then it is tried again.
fn is_over(error: &WireError, was_in: bool) -> bool {
    ends(error) && !(was_in && matches!(error, WireError::Server(_)))
}

/// How far the events that have arrived were walked.
enum Walked {
    All,
    /// Messages are to be handed on first.
    Full,
    /// Something must be known first.
    Asks,
}

/// A failure of the source in the words of a capture, which has no tables to load again.
fn ours(mut failure: Failure) -> Failure {
    const BEGIN_AGAIN: &str = "to go on from where the log is now, remove position.json in the state folder; what was missed is to be \
                               bootstrapped";
    failure.hint = failure.hint.replace(LOAD_ALL_AGAIN, BEGIN_AGAIN);
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_let_in_once_is_refused_for_a_while() {
        let refused = |code| WireError::Server(ServerError { code, message: String::new() });
        for code in [1044, 1045, 1698, 1129, 1130, 1049] {
            assert!(is_over(&refused(code), false) && !is_over(&refused(code), true), "{code}");
        }
        assert!(is_over(&WireError::Tls("no".to_owned()), true));
        assert!(!is_over(&WireError::Closed, false));
    }
}
