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
//! may be there.
//!
//! A courier ends when nobody can be told anything any more, and else not by itself: a panic, be it of a destination, ends a session
//! with a trouble that is told, and the next one begins after the long wait.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use connect::destination::{Destination, DestinationKind, Down, Outcome as There, Portion as Parcel, Target};
use connect::{Backoff, Failure, Settings, jitter};
use engine::Input;
use engine::outbox::{Leaving, Limits, Outboxes, Outcome, Portion, Read, Reader, Resumed, Told};
use futures::FutureExt as _;
use plan::TableName;
use project::Removals;
use store::Snapshot;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::guard;
use super::wanted::in_one_line;
use super::{Tried, Trouble, WantedSync, log};
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
        Self { of, reader: Some(reader), outboxes, line, post }
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
            Err(failure) => Ended::Down(Down { failure, is_ours: true }),
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
        let has_rows = self.outboxes.has_rows(&self.snapshot(), &self.of.sync)?;
        // Whether there is any is what tells an emptied table from one that was never filled.
        let begun = destination.begin(u64::from(has_rows)).await.map_err(Ended::Down)?;
        let marker = begun.marker;
        let resumed = self.with_reader(move |reader, snapshot| reader.resume(snapshot, marker.as_deref())).await?;
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
                let reason =
                    begun.lost.unwrap_or_else(|| "what was noted there of the last delivery is gone".to_owned());
                tracing::warn!(sync = %self.of.sync, %reason, "its destination has not what it had: all rows are sent again");
                self.say(Told::Refill { lost: true }).await?;
            }
        }
        self.note_trouble(None);
        let (mut idle, mut looked) = (stopwatch(), stopwatch());
        loop {
            let guard = self.of.target.deletes.then_some(self.of.removals);
            let (read, held) = self.with_reader(move |reader, snapshot| next(reader, snapshot, guard)).await?;
            match read {
                Read::Portion(portion) => {
                    self.portion(destination, portion, held).await?;
                    backoff.reset();
                    (idle, looked) = (stopwatch(), stopwatch());
                }
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
                Read::Paused(_) => self.wait(IDLE_WAIT).await,
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

    /// Delivers a portion, and has it settled; or asks a person for what its guard has held.
    async fn portion(
        &mut self,
        destination: &mut dyn Destination,
        portion: Portion,
        held: Option<Leaving>,
    ) -> Result<(), Ended> {
        let of = Arc::clone(&self.of);
        if !of.target.mapping.is_of(&portion.schema) {
            // The relation is another one by now: whoever delivers it comes in a moment.
            self.wait(IDLE_WAIT).await;
            return Ok(());
        }
        if let Some(leaving) = held {
            let reason = guard::told(&of.sync, of.removals, leaving.leaves, leaving.there);
            tracing::warn!(sync = %of.sync, "{reason}");
            return self.say(leaving.pause(reason)).await;
        }
        let (parcel, packed) = packed(&portion, &of.target)?;
        let seal = |said: &[There]| portion.marker(&outcomes(portion.items.len(), &packed, said));
        let begun = stopwatch();
        let said = destination.deliver(&parcel, &seal).await.map_err(Ended::Down)?;
        let (took, now) = (begun.elapsed(), self.post.clock.now_us());
        let tried = tried(&portion, &packed, &said, took, now);
        let outcomes = outcomes(portion.items.len(), &packed, &said);
        self.note_delivered(&portion, tried);
        let Some(reader) = &mut self.reader else { return Err(Ended::Over) };
        let input = reader.settle(portion, outcomes, now);
        self.tell(input).await
    }

    /// Runs something of the reader that takes a while, with a snapshot of now.
    async fn with_reader<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reader, &Snapshot) -> engine::Result<T> + Send + 'static,
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
        Ok(done.map_err(|_: Box<dyn Any + Send>| Ended::Panicked)??)
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
            failure.hint = "It is tried again by itself.".to_owned();
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

/// What is to be delivered next; and what of the other side is to go with it, where that is more than a guard lets go.
fn next(reader: &mut Reader, snapshot: &Snapshot, guard: Option<Removals>) -> engine::Result<(Read, Option<Leaving>)> {
    let read = reader.read(snapshot, Limits::default())?;
    let held = match (&read, guard) {
        (Read::Portion(portion), Some(removals)) => {
            reader.too_many(snapshot, portion, &|there| guard::allowed(removals, there))?
        }
        _ => None,
    };
    Ok((read, held))
}

/// A portion as its destination takes it, with the items that are in it: deletes are left out where the sync has none.
fn packed(portion: &Portion, target: &Target) -> Result<(Parcel, Vec<usize>), Ended> {
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
    Ok((parcel, packed))
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

        async fn deliver(&mut self, portion: &Parcel, _: &Seal<'_>) -> Result<Vec<There>, Down> {
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
