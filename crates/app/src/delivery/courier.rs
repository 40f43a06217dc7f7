//! A courier: the task that takes the rows of one sync to its destination.
//!
//! ```text
//! open ─► begin: what the other side has ─► resume ─► read ─► guard ─► deliver ─► settle ─┐
//!   ▲                                                  ▲                                  │ the step is on disk
//!   └── away: a growing wait; ours to mend: a minute   └──────────────────────────────────┘
//! ```
//!
//! Whatever it tells the engine it waits for until that is taken: then what it reads next has it, and the marker over there is never
//! more than one portion ahead of what is known here. A portion that was cut off is not settled; the reader knows then that its rows
//! may be there. While a portion is on its way the next one is read and packed ([`engine::outbox::Lookahead`]); it goes when the one
//! before it is settled, and is read anew where something has come in between.
//!
//! A courier ends when nobody can be told anything any more, and else not by itself: a panic, be it of a destination, ends a session
//! with a trouble that is told, and the next one begins after the long wait.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use connect::destination::{Destination, DestinationKind, Down, Outcome as There, Portion as Parcel, Target};
use connect::{Backoff, Failure, Settings, jitter};
use engine::Input;
use engine::outbox::{Leaving, Limits, Lookahead, Outboxes, Outcome, Portion, Read, Reader, Resumed, Told};
use futures::FutureExt as _;
use plan::TableName;
use project::Removals;
use store::Snapshot;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::guard;
use super::wanted::in_one_line;
use super::{BY_HAND, Tried, Trouble, WantedSync, log};
use crate::clock::{Clock, stopwatch};
use crate::latency::Tally;
use crate::pump::{Message, Request};
use crate::status::{Stage, Status};

/// Between two tries of a destination that is away, at first and at most.
pub(super) const AWAY_FIRST: Duration = Duration::from_millis(250);
pub(super) const AWAY_LONGEST: Duration = Duration::from_secs(30);
/// How long a destination is left alone that a person has to mend, or the sync for it.
pub(super) const OURS_WAIT: Duration = Duration::from_secs(60);
/// How often is looked whether there is something to deliver where nobody says so.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// The same while something is being set up.
const SETUP_WAIT: Duration = Duration::from_millis(100);
/// While there is nothing to deliver, the other side is asked so often whether it still has what it had.
pub(super) const LOOK: Duration = Duration::from_secs(15);
/// After so long without anything to deliver a session begins anew: it holds columns, types and keys over there to the sync.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// How long a sync is left to another instance that has taken it over, at first and at most: whoever takes it back sends all rows.
pub(super) const TAKEN_FIRST: Duration = Duration::from_secs(5);
pub(super) const TAKEN_LONGEST: Duration = Duration::from_secs(3_600);

/// A portion that takes longer, or does not come through, is followed by half as large ones, down to these rows; one that takes
/// a quarter of that by twice as large ones, as long as there is room.
pub(super) const SLOW: Duration = Duration::from_secs(20);
const ROWS_MIN: usize = 500;

/// What a guard has held is counted anew for one of so many parts of the time at most.
const RECOUNT_PART: u32 = 20;
/// Rows that have begun to come back are waited for until none has for so long.
const CALM: Duration = Duration::from_secs(4 * LOOK.as_secs());

/// What a courier delivers, and where to.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) sync: String,
    /// The model or table that it follows.
    pub(crate) relation: TableName,
    pub(crate) settings: Settings,
    pub(crate) target: Target,
    pub(crate) removals: Removals,
}

impl Assignment {
    /// What a sync comes to over the relation that its target was made for. None: there is no destination.
    pub(crate) fn of(sync: &WantedSync, target: Target) -> Option<Self> {
        let (sync_name, removals) = (sync.name().to_owned(), sync.sync.removals);
        let settings = sync.settings.clone().ok()?;
        Some(Self { sync: sync_name, relation: sync.relation.clone(), settings, target, removals })
    }

    /// Whether whoever carries out the one carries out the other.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let place = |of: &Self| (of.relation.clone(), of.settings.clone(), of.target.to.clone(), of.target.deletes);
        place(self) == place(other) && self.target.mapping == other.target.mapping && self.removals == other.removals
    }
}

/// The way to a courier.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// There may be something to deliver.
    pub(crate) wake: Notify,
    /// It is to be tried at once, however long it should have waited.
    pub(crate) again: Notify,
}

/// What couriers have in common.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) inbox: mpsc::Sender<Message>,
    pub(crate) status: Arc<Status>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stopped: watch::Receiver<bool>,
    /// Which kind of destination a type means.
    pub(crate) kind_of: fn(&str) -> Option<&'static dyn DestinationKind>,
}

/// See the module.
pub(crate) struct Courier {
    pub(crate) of: Arc<Assignment>,
    /// Away while it reads.
    pub(crate) reader: Option<Reader>,
    pub(crate) outboxes: Outboxes,
    pub(crate) line: Arc<Line>,
    pub(crate) post: Post,
    /// Of its portions, as they are now.
    limits: Limits,
    /// Rows that they may have at most.
    rows_max: usize,
    rivalry: Rivalry,
}

/// Two instances with one sync, each of which takes it from the other one.
#[derive(Debug)]
struct Rivalry {
    waits: Backoff,
    /// The last wait.
    waited: Duration,
    /// Since when it is ours.
    since: Option<Instant>,
}

impl Rivalry {
    fn new() -> Self {
        Self { waits: Backoff::new(TAKEN_FIRST, TAKEN_LONGEST), waited: Duration::ZERO, since: None }
    }

    fn note_ours(&mut self) {
        // A session that begins anew has not taken it from anybody.
        self.since.get_or_insert_with(stopwatch);
    }

    /// How long it is left to whoever has taken it over.
    fn wait(&mut self) -> Duration {
        let held = self.since.take().map(|since| since.elapsed());
        self.wait_after(held.unwrap_or_default())
    }

    /// The same where it was ours for so long. Both wait about as long as each other, and find out within [`LOOK`]: one that has not taken
    /// it back in several times that time was not there any more, and this is another story.
    fn wait_after(&mut self, held: Duration) -> Duration {
        if held > self.waited * 4 + LOOK * 4 {
            self.waits.reset();
        }
        self.waited = self.waits.next();
        self.waited
    }
}

/// A portion as its destination takes it.
struct Ready {
    portion: Portion,
    parcel: Arc<Parcel>,
    /// The items that are in the parcel: deletes are left out where the sync has none.
    packed: Vec<usize>,
}

/// What comes next.
enum Next {
    Deliver(Ready),
    /// A person is asked for what the guard has held.
    Ask(Leaving),
    /// The relation is another one by now: whoever delivers it comes in a moment.
    Another,
    /// Anything but a portion.
    Other(Read),
}

/// When what a guard has held is counted anew: to count takes its time, and that is to be a small part of all.
#[derive(Debug, Default)]
struct Recount {
    /// Since when it is counted, and how long that took.
    counted: Option<(Instant, Duration)>,
    /// What it was last, and since when no less of it is to go.
    found: Option<(Leaving, Instant)>,
}

impl Recount {
    fn is_due(&self) -> bool {
        self.counted.as_ref().is_none_or(|(since, took)| since.elapsed() >= *took * RECOUNT_PART)
    }

    /// What was counted last, where nothing has changed since, and how long no row has come back.
    fn note(&mut self, counted: Option<Leaving>, now: Instant) -> Option<(Leaving, Duration)> {
        if let Some(leaving) = counted {
            let since =
                self.found.filter(|(before, _)| before.leaves <= leaving.leaves).map_or(now, |(_, since)| since);
            self.found = Some((leaving, since));
        }
        self.found.map(|(leaving, since)| (leaving, now.saturating_duration_since(since)))
    }
}

/// Why a session with a destination is over.
enum Ended {
    Down(Down),
    /// The other side is asked again what it has.
    LookAgain,
    /// Nobody wants anything of it any more.
    Over,
    /// Something of our own cannot be read.
    Failed(String),
    /// A bug: something has panicked, and said so in the log.
    Panicked,
}

impl From<engine::Error> for Ended {
    fn from(error: engine::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Courier {
    pub(crate) fn new(of: Arc<Assignment>, reader: Reader, outboxes: Outboxes, line: Arc<Line>, post: Post) -> Self {
        let is_sealed = (post.kind_of)(&of.settings.kind).is_some_and(|kind| kind.seals(&of.target.to));
        let reader = if is_sealed { reader.sealed() } else { reader };
        let limits = limits((post.kind_of)(&of.settings.kind));
        Self { of, reader: Some(reader), outboxes, line, post, limits, rows_max: limits.rows, rivalry: Rivalry::new() }
    }

    /// Delivers until stopped, behind whoever did before.
    pub(crate) async fn run(mut self, before: Option<JoinHandle<()>>) {
        if let Some(before) = before {
            before.abort();
            before.await.ok();
        }
        let mut stopped = self.post.stopped.clone();
        tokio::select! {
            () = self.deliver() => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }

    async fn deliver(&mut self) {
        let mut backoff = Backoff::new(AWAY_FIRST, AWAY_LONGEST);
        loop {
            let ended = AssertUnwindSafe(self.attempt(&mut backoff)).catch_unwind().await;
            match ended.unwrap_or(Ended::Panicked) {
                Ended::Down(down) => self.note_down(&down),
                Ended::Failed(reason) => {
                    tracing::error!(sync = %self.of.sync, %reason, "what is to be delivered cannot be read");
                    self.note_trouble(Some(Trouble { message: reason, is_ours: true }));
                }
                // Whoever would be told may be ending just now, and this task with them.
                Ended::Over if timeout(IDLE_WAIT, self.post.inbox.closed()).await.is_ok() => return,
                Ended::Over | Ended::LookAgain => self.note_bug("its delivery has ended without a reason"),
                Ended::Panicked => self.note_bug("its delivery has failed inside Tidemill"),
            }
            self.rest(OURS_WAIT).await;
        }
    }

    /// A destination is opened, and delivered to as long as that goes.
    async fn attempt(&mut self, backoff: &mut Backoff) -> Ended {
        match self.open().await {
            Ok(mut destination) => {
                let ended = self.sessions(&mut *destination, backoff).await;
                destination.close().await;
                ended
            }
            Err(failure) => Ended::Down(Down::lasting(failure)),
        }
    }

    /// The destination, with its secrets as they are now.
    async fn open(&self) -> Result<Box<dyn Destination>, Failure> {
        let Assignment { settings, target, .. } = &*self.of;
        let Some(kind) = (self.post.kind_of)(&settings.kind) else {
            let message = format!("nothing can be delivered to a connection of the type `{}`", settings.kind);
            return Err(Failure { message, detail: String::new(), hint: String::new() });
        };
        kind.open(settings, target.clone()).await
    }

    /// Sessions with a destination, until a person has to do something.
    async fn sessions(&mut self, destination: &mut dyn Destination, backoff: &mut Backoff) -> Ended {
        loop {
            let ended = match self.session(destination, backoff).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            match ended {
                Ended::LookAgain => {}
                Ended::Down(mut down) if down.is_taken => {
                    let wait = self.rivalry.wait();
                    down.failure.hint = left_for(&self.of.sync, wait);
                    self.note_down(&down);
                    self.rest(wait + jitter(wait, seed_of(&self.of.sync))).await;
                }
                Ended::Down(down) if !down.is_ours => {
                    self.note_down(&down);
                    let wait = backoff.next();
                    // Couriers of one server come one by one.
                    self.rest(wait + jitter(wait, seed_of(&self.of.sync))).await;
                }
                ended => return ended,
            }
        }
    }

    /// One session.
    async fn session(
        &mut self,
        destination: &mut dyn Destination,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Ended> {
        // Where a person has paused it, nothing is taken from whoever else delivers.
        while self.outboxes.paused(&self.snapshot(), &self.of.sync)?.as_deref() == Some(BY_HAND) {
            self.wait(IDLE_WAIT).await;
        }
        let has_rows = self.outboxes.has_rows(&self.snapshot(), &self.of.sync)?;
        // Whether there is any is what tells an emptied table from one that was never filled.
        let begun = destination.begin(u64::from(has_rows)).await.map_err(Ended::Down)?;
        let is_noted = begun.marker.is_some();
        let marker = begun.marker;
        let resume = move |reader: &mut Reader, snapshot: &Snapshot| Ok(reader.resume(snapshot, marker.as_deref())?);
        let resumed = self.with_reader(resume).await?;
        match resumed {
            Resumed::Clean => {}
            Resumed::Foreign => {
                tracing::info!(sync = %self.of.sync, "its destination was delivered to before, from elsewhere: all rows are sent");
            }
            Resumed::Applied(input) => self.tell(input).await?,
            Resumed::Moved => return self.note_moved(true).await,
            Resumed::Elsewhere => {
                tracing::warn!(
                    sync = %self.of.sync,
                    "its destination has another host than before, and nothing is noted there of what was delivered: it is taken \
                     for another one, where all rows are sent and none is deleted that was delivered before"
                );
                return self.note_moved(false).await;
            }
            Resumed::Lost => {
                let noted = match is_noted {
                    true => "another instance has delivered there since",
                    false => "what was noted there of the last delivery is gone",
                };
                let reason = begun.lost.unwrap_or_else(|| noted.to_owned());
                tracing::warn!(sync = %self.of.sync, %reason, "its destination has not what it had: all rows are sent again");
                self.say(Told::Refill { lost: true }).await?;
            }
        }
        self.note_trouble(None);
        self.rivalry.note_ours();
        let (mut idle, mut looked) = (stopwatch(), stopwatch());
        let mut recount = Recount::default();
        let mut ahead = None;
        loop {
            let (of, limits, before) = (Arc::clone(&self.of), self.limits, ahead.take());
            let begun = stopwatch();
            let next = self.with_reader(move |reader, snapshot| next(reader, snapshot, &of, limits, before)).await?;
            let read = match next {
                Next::Deliver(ready) => {
                    ahead = self.portion(destination, ready).await?;
                    backoff.reset();
                    (idle, looked) = (stopwatch(), stopwatch());
                    continue;
                }
                Next::Ask(leaving) => {
                    let counted = Some((stopwatch(), begun.elapsed()));
                    recount = Recount { counted, found: None };
                    self.ask(&leaving).await?;
                    continue;
                }
                Next::Another => {
                    self.wait(IDLE_WAIT).await;
                    continue;
                }
                Next::Other(read) => read,
            };
            match read {
                // It comes as one that is to be delivered.
                Read::Portion(_) => {}
                Read::Settle(input) => self.tell(input).await?,
                Read::Nothing => {
                    backoff.reset();
                    if idle.elapsed() >= LOOK_AGAIN {
                        return Err(Ended::LookAgain);
                    }
                    if looked.elapsed() >= LOOK {
                        destination.look().await.map_err(Ended::Down)?;
                        looked = stopwatch();
                    }
                    self.wait(IDLE_WAIT).await;
                }
                Read::Behind | Read::Unaimed | Read::Unstored => self.wait(SETUP_WAIT).await,
                Read::Paused(reason) => {
                    if guard::is_of_guard(&reason) && recount.is_due() {
                        self.recount(&mut recount, reason).await?;
                    }
                    self.wait(IDLE_WAIT).await;
                    if self.outboxes.paused(&self.snapshot(), &self.of.sync)?.is_none() {
                        // Whoever has had it go on may have seen to the other side.
                        return Err(Ended::LookAgain);
                    }
                }
                Read::Gone => return Err(Ended::Over),
            }
        }
    }

    /// The destination has another host than before: it is known which one it is from here on, and the session begins anew with that.
    async fn note_moved<T>(&self, is_there: bool) -> Result<T, Ended> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Moved { sync: self.of.sync.clone(), is_there, answer };
        self.post.inbox.send(Message::Ask(request)).await.map_err(|_| Ended::Over)?;
        answered.await.map_err(|_| Ended::Over)?;
        Err(Ended::LookAgain)
    }

    /// Asks a person for what the guard has held.
    async fn ask(&self, leaving: &Leaving) -> Result<(), Ended> {
        let Assignment { sync, removals, .. } = &*self.of;
        let reason = guard::told(sync, *removals, leaving.leaves, leaving.there);
        tracing::warn!(%sync, "{reason}");
        self.say(leaving.pause(reason)).await
    }

    /// Delivers a portion, and has it settled. What comes behind it is read meanwhile, as far as that can be told.
    async fn portion(&mut self, destination: &mut dyn Destination, ready: Ready) -> Result<Option<Ready>, Ended> {
        let Ready { portion, parcel, packed } = ready;
        let lookahead = self.reader.as_ref().and_then(|reader| reader.lookahead(&portion));
        let ahead = lookahead.map(|lookahead| self.read_ahead(lookahead));
        let seal = |said: &[There]| portion.marker(&outcomes(portion.items.len(), &packed, said));
        let begun = stopwatch();
        let said = destination.deliver(&parcel, &seal).await;
        let took = begun.elapsed();
        self.limits.rows = rows_after(self.limits.rows, self.rows_max, said.is_ok().then_some(took));
        let said = said.map_err(Ended::Down)?;
        let now = self.post.clock.now_us();
        let tried = tried(&portion, &packed, &said, took, now);
        let outcomes = outcomes(portion.items.len(), &packed, &said);
        self.note_delivered(&portion, tried);
        let Some(reader) = &mut self.reader else { return Err(Ended::Over) };
        let input = reader.settle(portion, outcomes, now);
        self.tell(input).await?;
        // Not before: what was delivered is settled whatever becomes of what comes behind it, and however long that takes.
        match ahead {
            Some(ahead) => Ok(read_ahead(&self.of.sync, ahead).await),
            None => Ok(None),
        }
    }

    /// Begins to read the portion behind the one that is on its way, and packs it; none where that cannot be told.
    fn read_ahead(&self, lookahead: Lookahead) -> JoinHandle<Result<Option<Ready>, Ended>> {
        let (of, limits, snapshot) = (Arc::clone(&self.of), self.limits, self.snapshot());
        spawn_blocking(move || match lookahead.read(&snapshot, limits)? {
            Some(portion) if of.target.mapping.is_of(&portion.schema) => Ready::of(portion, &of.target).map(Some),
            _ => Ok(None),
        })
    }

    /// Counts anew what the guard has held, and asks for what is less by now; or goes on, where it may go unasked.
    async fn recount(&mut self, due: &mut Recount, was: String) -> Result<(), Ended> {
        let begun = stopwatch();
        let leaving = self.with_reader(|reader, snapshot| Ok(reader.recount(snapshot)?)).await?;
        due.counted = Some((stopwatch(), begun.elapsed()));
        let Some((leaving, calm)) = due.note(leaving, stopwatch()) else { return Ok(()) };
        let sync = &self.of.sync;
        let guard = guard_of(&self.of);
        let may_go = guard.is_none_or(|guard| leaving.unasked <= guard::allowed(guard, leaving.there));
        if guard.is_none() || goes_on(leaving.leaves, may_go, calm) {
            tracing::info!(%sync, "no more is to be deleted over there than may go unasked: it goes on");
            due.found = None;
            return self.say(leaving.go_on(was)).await;
        }
        let Some(guard) = guard.filter(|_| leaving.is_less()) else { return Ok(()) };
        let reason = match (leaving.is_another(), may_go) {
            (false, _) => guard::told(sync, guard, leaving.to_ask(), leaving.there),
            (true, false) => guard::told_anew(sync, guard, leaving.to_ask(), leaving.there, leaving.step()),
            // Nothing is left of what was asked for, and what is to go since may go: that is waited for.
            (true, true) => return Ok(()),
        };
        // It was told already, as far as this count goes.
        if reason == was && !leaving.is_another() {
            return Ok(());
        }
        tracing::warn!(%sync, "{reason}");
        self.say(leaving.pause_anew(was, reason)).await
    }

    /// Runs something of the reader that takes a while, with a snapshot of now.
    async fn with_reader<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reader, &Snapshot) -> Result<T, Ended> + Send + 'static,
    ) -> Result<T, Ended> {
        let mut reader = self.reader.take().ok_or(Ended::Over)?;
        let snapshot = self.snapshot();
        let worked = spawn_blocking(move || {
            // The reader comes back whatever happens: the next session begins with doubting what it has.
            let done = catch_unwind(AssertUnwindSafe(|| work(&mut reader, &snapshot)));
            (reader, done)
        });
        let (reader, done) = worked.await.map_err(of_task)?;
        self.reader = Some(reader);
        done.map_err(|_: Box<dyn Any + Send>| Ended::Panicked)?
    }

    fn snapshot(&self) -> Snapshot {
        self.post.status.store().snapshot()
    }

    async fn say(&self, told: Told) -> Result<(), Ended> {
        self.tell(Input::Outbox { name: self.of.sync.clone(), told }).await
    }

    /// Gives the engine an input, and waits until it is taken.
    async fn tell(&self, input: Input) -> Result<(), Ended> {
        let (taken, is_taken) = oneshot::channel();
        self.post.inbox.send(Message::Told { input, taken }).await.map_err(|_| Ended::Over)?;
        is_taken.await.map_err(|_| Ended::Over)
    }

    /// Waits for something to deliver, and not for ever.
    async fn wait(&self, at_most: Duration) {
        timeout(at_most, self.line.wake.notified()).await.ok();
    }

    /// Waits until it is tried again.
    async fn rest(&self, wait: Duration) {
        timeout(wait, self.line.again.notified()).await.ok();
    }

    fn note_down(&self, down: &Down) {
        let mut failure = down.failure.clone();
        if failure.hint.is_empty() && !down.is_ours {
            failure.hint = format!("It is tried again by itself, every {} s at last.", AWAY_LONGEST.as_secs());
        }
        let message = in_one_line(&failure);
        tracing::warn!(sync = %self.of.sync, destination = %self.of.settings.connection, "{message}");
        self.note_trouble(Some(Trouble { message, is_ours: down.is_ours }));
    }

    /// Something of ours is wrong that nobody expected.
    fn note_bug(&self, message: &str) {
        let message = format!(
            "{message}. Models and other syncs go on. The log, which is the standard error of Tidemill, says where: \
             please report it. It is tried again every {} s, and at once by `tidemill resume {}`.",
            OURS_WAIT.as_secs(),
            self.of.sync
        );
        tracing::error!(sync = %self.of.sync, destination = %self.of.settings.connection, "{message}");
        self.note_trouble(Some(Trouble { message, is_ours: true }));
    }

    fn note_trouble(&self, trouble: Option<Trouble>) {
        let now_us = self.post.clock.now_us();
        let mut facts = self.post.status.facts();
        if let Some(delivery) = facts.deliveries.get_mut(&self.of.sync) {
            if let Some(Trouble { message, is_ours }) = &trouble {
                let ended = if *is_ours { log::Ended::Failed } else { log::Ended::Away };
                delivery.log.note_failed(now_us, ended, message);
            }
            delivery.is_connected = trouble.is_none();
            delivery.trouble = trouble;
        }
    }

    /// What was delivered, and how long what has changed took from its commit, and from when it could be read here, until it was there.
    fn note_delivered(&self, portion: &Portion, tried: Tried) {
        let (status, now_us) = (&self.post.status, tried.at_us);
        let since = |of: &dyn Fn(u64) -> Option<i64>| -> Tally {
            let steps = portion.items.iter().filter_map(|item| item.step);
            steps.filter_map(|step| Some(now_us - of(step)?)).collect()
        };
        let moments = status.moments();
        let (visible, committed) = (since(&|step| moments.of(step)), since(&|step| moments.committed(step)));
        drop(moments);
        let node = (self.of.relation.clone(), Stage::VisibleDelivered);
        let mut facts = status.facts();
        facts.latency.entry(node).or_default().merge(&visible);
        if let Some(delivery) = facts.deliveries.get_mut(&self.of.sync) {
            delivery.log.note_delivered(tried, &committed);
        }
    }
}

/// What was delivered of a portion, for people.
fn tried(portion: &Portion, packed: &[usize], said: &[There], took: Duration, at_us: i64) -> Tried {
    let count = |is_it: &dyn Fn(&There, bool) -> bool| {
        let said = packed.iter().zip(said);
        said.filter(|(at, there)| is_it(there, portion.items[**at].row.is_some())).count() as u64
    };
    let is_refused = |there: &There| matches!(there, There::Refused(_));
    let refused = count(&|there, _| is_refused(there));
    Tried {
        at_us,
        step: Some(portion.step),
        rows: count(&|there, has_row| has_row && !is_refused(there)),
        deletes: count(&|there, has_row| !has_row && !is_refused(there)),
        refused,
        took_us: i64::try_from(took.as_micros()).ok(),
        ended: if refused == 0 { log::Ended::Delivered } else { log::Ended::Refused },
        tries: 1,
        message: String::new(),
    }
}

/// What is to be done where another instance has taken a sync over.
fn left_for(sync: &str, wait: Duration) -> String {
    format!(
        "It is left to the other one for {} s, longer each time, and taken back then, with all rows: end one of the two, or \
         `tidemill pause {sync}` in one of them. `tidemill resume {sync}` takes it back at once.",
        wait.as_secs()
    )
}

/// How many rows portions have after one that took so long, or did not come through.
fn rows_after(rows: usize, rows_max: usize, took: Option<Duration>) -> usize {
    match took {
        Some(took) if took <= SLOW / 4 => rows.saturating_mul(2).min(rows_max),
        Some(took) if took <= SLOW => rows,
        _ => (rows / 2).max(ROWS_MIN).min(rows),
    }
}

/// How large the portions of a kind of destination may be.
pub(super) fn limits(kind: Option<&'static dyn DestinationKind>) -> Limits {
    let default = Limits::default();
    Limits { rows: kind.map_or(default.rows, DestinationKind::rows_max), ..default }
}

/// The guard of what is deleted; none where nothing is.
fn guard_of(of: &Assignment) -> Option<Removals> {
    of.target.deletes.then_some(of.removals)
}

/// What is to be delivered next, which may have been read ahead; or what of the other side is to go with it, where that is more than a
/// guard lets go.
fn next(
    reader: &mut Reader,
    snapshot: &Snapshot,
    of: &Assignment,
    limits: Limits,
    ahead: Option<Ready>,
) -> Result<Next, Ended> {
    let guard = guard_of(of);
    if let Some(Ready { portion, parcel, packed }) = ahead
        && guard.is_none_or(|removals| reader.lets_go(&portion, &|there| guard::allowed(removals, there)))
        && let Some(portion) = reader.hand_out(snapshot, portion)?
    {
        return Ok(Next::Deliver(Ready { portion, parcel, packed }));
    }
    let portion = match reader.read(snapshot, limits)? {
        Read::Portion(portion) => portion,
        other => return Ok(Next::Other(other)),
    };
    if !of.target.mapping.is_of(&portion.schema) {
        return Ok(Next::Another);
    }
    if let Some(removals) = guard
        && let Some(leaving) = reader.too_many(snapshot, &portion, &|there| guard::allowed(removals, there))?
    {
        return Ok(Next::Ask(leaving));
    }
    Ok(Next::Deliver(Ready::of(portion, &of.target)?))
}

impl Ready {
    fn of(portion: Portion, target: &Target) -> Result<Self, Ended> {
        let (mut parcel, mut packed) = (Parcel::new(portion.step), Vec::with_capacity(portion.items.len()));
        for (at, item) in portion.items.iter().enumerate() {
            match &item.row {
                Some(row) => parcel.upsert(row),
                None if target.deletes => parcel
                    .delete_values(&target.mapping, &portion.key_values(item))
                    .map_err(|error| Ended::Failed(error.to_string()))?,
                None => continue,
            }
            packed.push(at);
        }
        Ok(Self { portion, parcel: Arc::new(parcel), packed })
    }
}

/// What became of so many items: of those that were packed what was said, and the others are as they should be.
fn outcomes(items: usize, packed: &[usize], said: &[There]) -> Vec<Outcome> {
    let mut all = vec![Outcome::Done; items];
    for (at, there) in packed.iter().zip(said) {
        if let There::Refused(refusal) = there {
            all[*at] = Outcome::Refused { reason: format!("{} ({})", refusal.reason, refusal.code) };
        }
    }
    all
}

/// What was read ahead; none where that has failed: the next read says why, if it does so again.
async fn read_ahead(sync: &str, ahead: JoinHandle<Result<Option<Ready>, Ended>>) -> Option<Ready> {
    let reason = match ahead.await {
        Ok(Ok(ahead)) => return ahead,
        Ok(Err(Ended::Failed(reason))) => reason,
        Ok(Err(_)) => "it has ended".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::debug!(%sync, %reason, "the next portion could not be read ahead");
    None
}

/// Whether nobody has to be asked any more for what a guard has held: nothing of it is to go, or few rows that have not come back for long.
/// In the middle of a table that is emptied and filled again few are to go as well, and come in a moment.
fn goes_on(leaves: u64, may_go: bool, calm: Duration) -> bool {
    leaves == 0 || (may_go && calm >= CALM)
}

/// Why a task beside this one came to nothing.
fn of_task(error: JoinError) -> Ended {
    if error.is_panic() { Ended::Panicked } else { Ended::Over }
}

fn seed_of(sync: &str) -> u64 {
    relation::key::hash128(sync.as_bytes())[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use connect::Check;
    use connect::destination::{Begun, Mapping, Problem, Seal};
    use engine::outbox::Definition;

    use super::*;
    use crate::clock::WallClock;
    use crate::delivery::DeliveryStatus;

    #[test]
    fn portions_are_as_large_as_goes_through_in_time() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let after = |rows, took| rows_after(rows, 10_000, took);
        assert_eq!(
            (after(10_000, seconds(1)), after(10_000, seconds(19)), after(10_000, seconds(21))),
            (10_000, 10_000, 5_000)
        );
        assert_eq!(
            (after(1_250, seconds(6)), after(1_250, seconds(5)), after(9_000, seconds(0))),
            (1_250, 2_500, 10_000)
        );
        let mut rows = 10_000;
        (0..10).for_each(|_| rows = after(rows, None));
        assert_eq!(rows, ROWS_MIN);
        assert_eq!(rows_after(100, 100, None), 100);
    }

    #[test]
    fn a_sync_that_is_taken_back_and_forth_is_left_longer_and_longer() {
        let mut rivalry = Rivalry::new();
        let seconds = Duration::from_secs;
        let mut left = |held| rivalry.wait_after(held).as_secs();
        let waits: Vec<u64> = [0, 20, 30, 50, 90, 170].map(|held| left(seconds(held))).to_vec();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160]);
        (0..10).for_each(|_| _ = left(seconds(100)));
        assert_eq!(left(seconds(4 * 3_600)), TAKEN_LONGEST.as_secs());
        // Nobody has taken it back for long: the other one was ended, and this is a new one.
        assert_eq!(left(seconds(4 * 3_600 + 61)), 5);
    }

    #[test]
    fn a_sync_is_ours_since_it_was_taken_and_not_since_its_last_session() {
        let mut rivalry = Rivalry::new();
        rivalry.note_ours();
        let since = rivalry.since;
        rivalry.note_ours();
        assert_eq!(rivalry.since, since);
        rivalry.wait();
        assert_eq!(rivalry.since, None);
    }

    #[test]
    fn what_was_held_goes_on_when_nothing_of_it_is_to_go_or_nothing_has_come_back_for_long() {
        let on = |leaves, may_go, seconds| goes_on(leaves, may_go, Duration::from_secs(seconds));
        assert_eq!([on(0, true, 0), on(1, true, 0), on(1, true, 59), on(1, true, 60)], [true, false, false, true]);
        assert!(!on(1, false, 3_600));
    }

    #[tokio::test]
    async fn what_cannot_be_read_ahead_takes_nothing_along() {
        let failed = spawn_blocking(|| Err(Ended::Failed("damaged".to_owned())));
        assert!(read_ahead("s", failed).await.is_none());
        let panicked = spawn_blocking(|| panic!("a bug that a test means"));
        assert!(read_ahead("s", panicked).await.is_none());
    }

    /// Sessions that were begun.
    static BEGUN: AtomicUsize = AtomicUsize::new(0);

    /// A destination with a bug: its first session panics, and the second one does not.
    struct Buggy;

    #[async_trait]
    impl DestinationKind for Buggy {
        fn types(&self) -> &'static [&'static str] {
            &["buggy"]
        }

        fn keys(&self) -> &'static [&'static str] {
            &[]
        }

        fn check_settings(&self, _: &Settings) -> Result<(), Failure> {
            Ok(())
        }

        fn check(&self, _: &Target) -> Vec<Problem> {
            Vec::new()
        }

        async fn open(&self, _: &Settings, _: Target) -> Result<Box<dyn Destination>, Failure> {
            Ok(Box::new(Self))
        }

        async fn doctor(&self, _: &Settings, _: Vec<Target>) -> Vec<Check> {
            Vec::new()
        }
    }

    #[async_trait]
    impl Destination for Buggy {
        async fn begin(&mut self, _: u64) -> Result<Begun, Down> {
            assert!(BEGUN.fetch_add(1, Ordering::SeqCst) > 0, "a bug that a test means");
            Ok(Begun::default())
        }

        async fn deliver(&mut self, portion: &Arc<Parcel>, _: &Seal<'_>) -> Result<Vec<There>, Down> {
            panic!("nothing is to be delivered: {portion:?}")
        }

        async fn close(self: Box<Self>) {}
    }

    /// Waits until a sync is in a state, and says what is told of it.
    async fn told(status: &Status, state: &str) -> String {
        let told = async {
            loop {
                let told = status.facts().deliveries["s"].told();
                if told.0 == state {
                    return told.1;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), told).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_panic_is_told_and_the_next_session_begins() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::open(dir.path(), store::Options::default()).unwrap();
        let status = Arc::new(Status::new(store.clone()));
        let delivery = DeliveryStatus { destination: "site".to_owned(), ..DeliveryStatus::default() };
        status.facts().deliveries.insert("s".to_owned(), delivery);
        let queries = query::Runtime::new(&query::Settings::default()).unwrap();
        let settings = engine::Settings::new(1, tokio::runtime::Handle::current());
        let mut engine = engine::Engine::open(store, queries, settings).unwrap();
        let relation = TableName::new("public", "m");
        let pending_bytes_max = Definition::PENDING_BYTES_MAX;
        let (name, columns) = ("s".to_owned(), Vec::new());
        let outbox = Definition {
            name,
            relation: relation.clone(),
            columns,
            mapping: 0,
            place: 0,
            within: 0,
            pending_bytes_max,
        };
        engine.attach_outboxes(vec![outbox], 0).unwrap();
        let reader = engine.outbox_reader("s").unwrap();
        let schema = relation::Schema::new(vec![relation::Column::new("id", relation::DataType::Int64)], vec![0]);
        let mapping = Mapping::of(&schema, &[], None).unwrap();
        let target = Target { sync: "s".to_owned(), to: std::collections::BTreeMap::new(), mapping, deletes: true };
        let settings = Settings { connection: "site".to_owned(), kind: "buggy".to_owned(), ..Settings::default() };
        let (sync, removals) = ("s".to_owned(), Removals::default());
        let of = Arc::new(Assignment { sync, relation, settings, target, removals });
        let (inbox, _taken) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let (line, clock) = (Arc::new(Line::default()), Arc::new(WallClock));
        let post = Post { inbox, status: Arc::clone(&status), clock, stopped, kind_of: |_| Some(&Buggy) };
        let courier = Courier::new(of, reader, engine.outboxes(), Arc::clone(&line), post);
        let task = tokio::spawn(courier.run(None));
        let message = told(&status, "failed").await;
        assert!(message.starts_with("its delivery has failed inside Tidemill. "), "{message}");
        assert!(message.contains("The log") && message.contains("`tidemill resume s`"), "{message}");
        line.again.notify_one();
        assert_eq!(told(&status, "filling").await, "");
        assert_eq!(BEGUN.load(Ordering::SeqCst), 2);
        stop.send(true).unwrap();
        task.await.unwrap();
    }
}
