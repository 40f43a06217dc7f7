//! What both protocols share: the reader, the limits, what the site is called, and counts of its traffic.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use page::Dashboard;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::door::Door;
use crate::http::page::live::Hub;
use crate::metrics::{Kind, Metric, Recorder, Value};
use crate::reader::{Reader, SqlError};

/// How much clients may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Clients of the Postgres wire at a time; one more is told `53300`.
    pub connections: usize,
    /// Statements that run at a time, both protocols together; one more waits its turn.
    pub running: usize,
    /// Statements that wait their turn at a time; one more is told `53300`.
    pub waiting: usize,
    /// Longest that a statement waits its turn; then it is told `53300`.
    pub turn_timeout: Duration,
    /// Longest a statement may run, its sending included; none for no limit. A client can only shorten it.
    pub statement_timeout: Option<Duration>,
    /// Longest a statement runs whose client has not said otherwise.
    pub statement_timeout_usual: Duration,
    /// Longest from accepting a client to the end of its login.
    pub startup_timeout: Duration,
    /// How long a transaction that is answered at one step may be left alone: it keeps what it shows from being cleaned
    /// away. So does a cursor that was read in part.
    pub pin_timeout: Duration,
    /// Longest that a client may keep one step, however busy it is.
    pub hold_timeout: Duration,
    /// Longest from the first byte of a message or an HTTP request to its last.
    pub message_timeout: Duration,
    /// Longest that an HTTP connection is kept without a request, or without its client taking what is sent.
    pub idle_timeout: Duration,
    /// Connections of HTTP at a time; one more is closed.
    pub http_connections: usize,
    /// Largest message of a client and largest body of `POST /sql`, in bytes.
    pub message_bytes: usize,
    /// Prepared statements of one client.
    pub statements: usize,
    /// Open portals and cursors of one client; each keeps its step readable.
    pub portals: usize,
    /// Bytes of the texts and values that the prepared statements and portals of one client keep.
    pub session_bytes: usize,
    /// The same of all clients together, and as much again for large messages on their way in.
    pub sessions_bytes: usize,
    /// Longest that clients get to finish after the shutdown began.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2_560,
            running: 16,
            waiting: 256,
            turn_timeout: Duration::from_secs(10),
            statement_timeout: Some(Duration::from_secs(3_600)),
            statement_timeout_usual: Duration::from_secs(30),
            startup_timeout: Duration::from_secs(10),
            pin_timeout: Duration::from_secs(600),
            hold_timeout: Duration::from_secs(3_600),
            message_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            http_connections: 1_024,
            message_bytes: 16 << 20,
            statements: 10_000,
            portals: 256,
            session_bytes: 32 << 20,
            sessions_bytes: 128 << 20,
            shutdown_grace: Duration::from_secs(3),
        }
    }
}

/// What runs here, for people and for clients that ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Version of Tidemill.
    pub version: String,
    /// Name of the project.
    pub project: String,
    /// First schema of the search path, what `current_schema()` says.
    pub schema: String,
    /// Address of the Postgres wire as a client would write it, `127.0.0.1:5433`.
    pub pg: String,
}

/// Shared by [`crate::serve_pg`] and [`crate::serve_http`]: make one, give it to both.
pub struct Service {
    pub(crate) door: Arc<Door>,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) limits: Limits,
    pub(crate) site: Site,
    /// A permit per running statement.
    running: Arc<Semaphore>,
    /// A permit per statement that waits its turn.
    waiting: Arc<Semaphore>,
    /// A permit per panel of the page that is computed: clients' statements do not keep it waiting.
    pub(crate) panels: Arc<Semaphore>,
    /// What prepared statements and portals of all clients keep.
    pub(crate) kept: Arc<Room>,
    /// Large messages on their way in.
    pub(crate) incoming: Arc<Room>,
    /// A permit per client of the Postgres wire.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) cancels: Arc<Cancels>,
    dashboards: Arc<RwLock<Arc<[Dashboard]>>>,
    /// Viewers of the page.
    pub(crate) hub: Hub,
}

impl Service {
    /// A service over a reader, without dashboards.
    pub fn new(reader: Arc<dyn Reader>, limits: Limits, site: Site) -> Arc<Self> {
        Self::with_dashboards(reader, limits, site, Vec::new())
    }

    /// A service over a reader, whose page has these dashboards; on loopback whoever comes is let in.
    pub fn with_dashboards(
        reader: Arc<dyn Reader>,
        limits: Limits,
        site: Site,
        dashboards: Vec<Dashboard>,
    ) -> Arc<Self> {
        Self::behind(Arc::default(), reader, limits, site, dashboards)
    }

    /// The same behind a door.
    pub fn behind(
        door: Arc<Door>,
        reader: Arc<dyn Reader>,
        limits: Limits,
        site: Site,
        dashboards: Vec<Dashboard>,
    ) -> Arc<Self> {
        Arc::new(Self {
            door,
            reader,
            running: Arc::new(Semaphore::new(limits.running.min(Semaphore::MAX_PERMITS))),
            waiting: Arc::new(Semaphore::new(limits.waiting.min(Semaphore::MAX_PERMITS))),
            panels: Arc::new(Semaphore::new(PANELS)),
            kept: Room::new(limits.sessions_bytes),
            incoming: Room::new(limits.sessions_bytes),
            connections: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            limits,
            site,
            traffic: Arc::default(),
            cancels: Arc::default(),
            dashboards: Arc::new(RwLock::new(dashboards.into())),
            hub: Hub::default(),
        })
    }

    /// The same service for those who read by another reader, with a page of their own: what it shows is not shared.
    pub(crate) fn reading(self: &Arc<Self>, reader: Arc<dyn Reader>) -> Arc<Self> {
        Arc::new(Self {
            door: Arc::clone(&self.door),
            reader,
            limits: self.limits.clone(),
            site: self.site.clone(),
            running: Arc::clone(&self.running),
            waiting: Arc::clone(&self.waiting),
            panels: Arc::clone(&self.panels),
            kept: Arc::clone(&self.kept),
            incoming: Arc::clone(&self.incoming),
            connections: Arc::clone(&self.connections),
            traffic: Arc::clone(&self.traffic),
            cancels: Arc::clone(&self.cancels),
            dashboards: Arc::clone(&self.dashboards),
            hub: self.hub.beside(),
        })
    }

    /// The dashboards there are now.
    pub fn dashboards(&self) -> Arc<[Dashboard]> {
        Arc::clone(&self.dashboards.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows these dashboards from now on, to all readers.
    pub fn set_dashboards(&self, dashboards: Vec<Dashboard>) {
        *self.dashboards.write().unwrap_or_else(PoisonError::into_inner) = dashboards.into();
    }

    /// A turn among the running statements. Errors: too many wait for theirs, or it did not come in time.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, SqlError> {
        let running = Arc::clone(&self.running);
        if let Ok(permit) = Arc::clone(&running).try_acquire_owned() {
            return Ok(permit);
        }
        let busy = |detail: String| {
            SqlError::new("53300", "too many statements run at once").detail(detail).hint("Try again in a moment.")
        };
        let Ok(_waits) = self.waiting.try_acquire() else {
            return Err(busy(format!("{} wait their turn already.", self.limits.waiting)));
        };
        let turn = tokio::time::timeout(self.limits.turn_timeout, running.acquire_owned());
        match turn.await {
            Ok(permit) => permit.map_err(|_| SqlError::internal("no statement may run")),
            Err(_) => Err(busy(format!("None of {} ended in time.", self.limits.running))),
        }
    }

    /// Prometheus text: the reader's own metrics, then those of serving.
    pub fn metrics(&self) -> String {
        let open = self.limits.connections.saturating_sub(self.connections.available_permits());
        let mut text = self.reader.metrics();
        text.push_str(&crate::metrics::render(&self.traffic.metrics(open)));
        text
    }
}

/// Panels of the page that are computed at a time.
const PANELS: usize = 4;

/// Bytes that something may keep in all.
pub(crate) struct Room {
    limit: usize,
    used: AtomicUsize,
}

impl Room {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Room for so many bytes, until it is dropped; none if they do not fit.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Taken> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Taken { room: Arc::clone(self), bytes })
    }
}

/// Room that is taken.
pub(crate) struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Runs work of the reader; a panic in it is the statement's error and harms nobody else.
pub(crate) async fn guarded<T>(work: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        Err(SqlError::internal("the statement failed inside Tidemill")
            .detail("Other statements and the upkeep of the models go on.")
            .hint("This is a bug: please report the statement."))
    })
}

/// Which protocol a statement came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Pg,
    Http,
}

impl Protocol {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pg => "pg",
            Self::Http => "http",
        }
    }
}

/// Counts of what was served.
#[derive(Default)]
pub(crate) struct Traffic {
    pg: Recorder,
    http: Recorder,
    pg_errors: AtomicU64,
    http_errors: AtomicU64,
}

impl Traffic {
    /// Notes a statement that ended, well or not.
    pub(crate) fn note(&self, protocol: Protocol, took: Duration, failed: bool) {
        let (recorder, errors) = match protocol {
            Protocol::Pg => (&self.pg, &self.pg_errors),
            Protocol::Http => (&self.http, &self.http_errors),
        };
        recorder.record(took.as_secs_f64());
        if failed {
            errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn metrics(&self, open: usize) -> Vec<Metric> {
        let by = |protocol: Protocol| vec![("protocol".to_owned(), protocol.word().to_owned())];
        let duration = |protocol, recorder: &Recorder| Metric {
            name: "tidemill_query_duration_seconds".to_owned(),
            help: "Time from a statement's arrival to its last row sent.".to_owned(),
            kind: Kind::Histogram,
            labels: by(protocol),
            value: Value::Histogram(recorder.read()),
        };
        let errors = |protocol, count: &AtomicU64| Metric {
            name: "tidemill_query_errors_total".to_owned(),
            help: "Statements that ended in an error.".to_owned(),
            kind: Kind::Counter,
            labels: by(protocol),
            value: Value::Integer(count.load(Ordering::Relaxed)),
        };
        vec![
            Metric {
                name: "tidemill_connections".to_owned(),
                help: "Clients of the Postgres wire.".to_owned(),
                kind: Kind::Gauge,
                labels: Vec::new(),
                value: Value::Integer(open as u64),
            },
            duration(Protocol::Pg, &self.pg),
            duration(Protocol::Http, &self.http),
            errors(Protocol::Pg, &self.pg_errors),
            errors(Protocol::Http, &self.http_errors),
        ]
    }
}

/// Whom a cancel request reaches: by number and secret of the connection.
#[derive(Default)]
pub(crate) struct Cancels {
    next: AtomicI32,
    clients: Mutex<BTreeMap<i32, (i32, watch::Sender<u64>)>>,
}

impl Cancels {
    /// Enters a client: its number, its secret, and where it hears of a cancel.
    pub(crate) fn enter(&self) -> (i32, i32, watch::Receiver<u64>) {
        let (sender, receiver) = watch::channel(0);
        let secret = secret();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pid = self.number();
        while clients.contains_key(&pid) {
            pid = self.number();
        }
        clients.insert(pid, (secret, sender));
        (pid, secret, receiver)
    }

    /// Numbers count from 1 and start again after the largest.
    fn number(&self) -> i32 {
        (self.next.fetch_add(1, Ordering::Relaxed) & i32::MAX).saturating_add(1)
    }

    /// Forgets a client.
    pub(crate) fn leave(&self, pid: i32) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }

    /// Cancels what the client runs at the moment, if number and secret belong together.
    pub(crate) fn cancel(&self, pid: i32, secret: i32) {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, sender)) = clients.get(&pid)
            && *known == secret
        {
            sender.send_modify(|count| *count += 1);
        }
    }
}

/// Thirty-two bits that a stranger cannot guess: the keys of the standard library's hasher come from the system's
/// random source, and its hash does not give them away.
#[allow(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
fn secret() -> i32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() as i32
}
