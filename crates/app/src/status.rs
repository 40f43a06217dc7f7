//! What the instance knows about itself: written by the pump, read by system tables, metrics and health.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use connect::LeftOut;
use plan::TableName;

use crate::audit::{self, Audit};
use crate::backlog::Bounds;
use crate::counted::counted;
use crate::data_tests::Results;
use crate::definition::PlannedModel;
use crate::delivery::{DeliveryStatus, Moments, is_delivering_state};
use crate::documentation::Documented;
use crate::history::{History, Reading};
use crate::latency::Histogram;
use crate::reason::Reason;
use crate::recent::Recent;
use crate::reconcile::ago;
use crate::reconcile::book::Book;
use crate::reconcile::source::Compared;
pub use crate::source_status::SourceStatus;
use crate::source_status::flowing;
use crate::stale::since;
pub use crate::stale::{Doubt, Stale};

/// A source table and how it is.
#[derive(Debug, Clone, Default)]
pub struct TableStatus {
    /// Whether the engine knows it; otherwise it is only said why it is not there.
    pub is_stored: bool,
    pub source: String,
    pub state: String,
    pub rows: i64,
    pub snapshot_rows: u64,
    pub snapshot_rows_total: u64,
    pub changes_total: u64,
    pub last_commit_us: Option<i64>,
    /// How far behind its commit its last transaction was when it became visible.
    pub lag_us: i64,
    /// When that was.
    pub visible_us: Option<i64>,
    /// Bytes of its changes that were read and are not visible yet.
    pub untaken_bytes: u64,
    /// Bytes of its changes since its source was last known to be caught up.
    pub backlog_bytes: u64,
    /// Since when its content is known to be in doubt; it is loaded again then, and is as old as that.
    pub doubted_since_us: Option<i64>,
    pub message: Reason,
    /// Its load does not get on, as its message says.
    pub is_delayed: bool,
    /// Its source could not be asked for it yet, and it was never known: that is the source's trouble.
    pub is_unasked: bool,
    /// When its last load came to its end.
    pub loaded_us: Option<i64>,
    /// Columns that it has at its source and that are not read.
    pub left_out: Vec<LeftOut>,
    /// Rows that its source could not decode.
    pub rejects: u64,
    /// Whether it was loaded whole once: what is there of it is what it was at some time.
    pub was_whole: bool,
    /// What is said of a backlog beyond its bound that is mostly of this table.
    pub backlog: Option<String>,
}

impl TableStatus {
    /// Whether rows of it are still to come, or to be put in place.
    pub fn is_loading(&self) -> bool {
        matches!(self.state.as_str(), "snapshot" | "resnapshot" | "altered")
    }

    /// How far behind its source it is by what is known of it alone.
    fn lag_at(&self, now_us: i64) -> i64 {
        let delay = flowing(self.lag_us, self.visible_us, now_us);
        self.doubted_since_us.map_or(delay, |since| delay.max(now_us - since))
    }
}

/// A model and how it is.
#[derive(Debug, Clone, Default)]
pub struct ModelStatus {
    pub materialized: String,
    /// Whether it is kept: `building`, `live`, `parked` or `failed`. How what is kept is, [`ModelStatus::word`] says.
    pub state: String,
    pub rows: i64,
    pub changes_total: u64,
    /// Commit time of the newest transaction that it shows.
    pub last_commit_us: Option<i64>,
    /// How far behind its commit the last transaction was when the model showed it.
    pub lag_us: i64,
    /// When that was.
    pub visible_us: Option<i64>,
    /// Rows that it lacks, in it or below it, because an expression failed on them; counted up to [`REJECTS_MAX`] at each place.
    pub rejects: u64,
    /// Bytes of its states; none where they were not measured.
    pub state_bytes: Option<i64>,
    /// Why it is not live; empty where it is ([`ModelStatus::told`]).
    pub message: Reason,
    /// Why it may not be what its sources say; it serves all the same.
    pub doubt: Option<Doubt>,
    /// What is said where it serves in an older text than the project has.
    pub held: Option<Reason>,
    /// What is said where something below it does.
    pub over_held: Option<Reason>,
    /// Its text, rendered; where it comes from and what the YAML says about it.
    pub sql: String,
    pub path: String,
    pub written: String,
    pub description: String,
}

/// Whether what is in this state, a table, model or view, is not kept up to date.
pub fn is_stopped_state(state: &str) -> bool {
    matches!(state, "parked" | "failed")
}

/// A number of rejected rows, as people read it.
pub fn rows_of(rejects: u64) -> String {
    match rejects {
        REJECTS_MAX.. => format!("{REJECTS_MAX} rows or more"),
        rejects => counted(rejects, "row"),
    }
}

/// A row that a model or a table could not take.
#[derive(Debug, Clone, Default)]
pub struct RejectStatus {
    pub id: String,
    pub node: String,
    pub reason: String,
    pub code: String,
    pub key: String,
    pub row: String,
    pub position: String,
    pub first_at_us: i64,
    /// Of its first failure.
    pub step: u64,
    /// The model or table whose row it is, where its node is a sync.
    pub of: Option<TableName>,
}

/// By what rows are read that could not be taken, and what is known beside them. The rows themselves stay in the store: there may be any
/// number of them.
#[derive(Debug, Default)]
pub struct Rejected {
    pub reader: Option<engine::RejectReader>,
    pub outboxes: Option<engine::outbox::Outboxes>,
    /// Rows on which models failed, counted up to [`REJECTS_MAX`] at each place.
    pub of_models: u64,
    /// When it was that rows failed in a model first in a step, and where its sources were then.
    pub failed_in: BTreeMap<(String, u64), Noticed>,
}

/// Where sources are when something is noticed, and when that is; nothing and 0 where it was there before the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noticed {
    pub position: String,
    pub at_us: i64,
}

/// Stages of a change's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    CommitRead,
    ReadDurable,
    DurableVisible,
    CommitVisible,
    /// From there to where a sync delivers it.
    VisibleDelivered,
}

impl Stage {
    /// The word of `tidemill.latency`.
    pub fn word(self) -> &'static str {
        match self {
            Self::CommitRead => "commit_read",
            Self::ReadDurable => "read_durable",
            Self::DurableVisible => "durable_visible",
            Self::CommitVisible => "commit_visible",
            Self::VisibleDelivered => "visible_delivered",
        }
    }
}

/// Everything that is shown.
#[derive(Debug, Default)]
pub struct Facts {
    pub sources: BTreeMap<String, SourceStatus>,
    pub tables: BTreeMap<TableName, TableStatus>,
    pub models: BTreeMap<TableName, ModelStatus>,
    /// Views: asked anew each time, so they have no rows of their own.
    pub views: BTreeMap<TableName, ModelStatus>,
    pub latency: BTreeMap<(TableName, Stage), Histogram>,
    /// By what rows are read that could not be taken, and what is known beside them.
    pub rejected: Rejected,
    /// Syncs, by their names.
    pub deliveries: BTreeMap<String, DeliveryStatus>,
    pub recent: Recent,
    pub history: History,
    /// How tables compared with their sources.
    pub reconciled: Book,
    /// Tables that contradict themselves and are to be loaded again, with their sources.
    pub contradicted: BTreeMap<TableName, String>,
    /// What came of data tests.
    pub tested: Results,
    /// What the project says of tables, models and views.
    pub documented: BTreeMap<TableName, Documented>,
    /// Who reads whom: what is read, and the model that reads it.
    pub lineage: Vec<(TableName, TableName)>,
    /// The source tables that each table, model or view stands on, however far below.
    pub tables_of: BTreeMap<TableName, BTreeSet<TableName>>,
    pub settings: Vec<(String, String, String)>,
    /// Where the project declares its connections.
    pub declared_at: BTreeMap<String, String>,
    /// Where they lead, in words.
    pub addresses: BTreeMap<String, String>,
    /// Columns that the project calls personal, in lower case.
    pub personal: BTreeMap<TableName, BTreeSet<String>>,
    /// Whether the project's models are still to be put in the places of those that serve.
    pub pending: bool,
    /// Why they are not; empty where they are in place, or under way.
    pub not_applied: Reason,
    /// Models and views that serve in older texts than the project has, and why the new ones are not in place; all else of it is, or
    /// is under way.
    pub held: Vec<(TableName, Reason)>,
    /// Since when nothing is taken, for want of room on the disk, and what the system said.
    pub waits_since_us: Option<i64>,
    pub waits: String,
    /// How far a source may be behind before it is said.
    pub backlog_max: Bounds,
    /// The model that is being built; empty where none is.
    pub building: String,
    pub started: bool,
    /// Nothing runs: a command reads what an instance has left.
    pub is_stopped: bool,
    /// Whether something had been loaded when the folder was opened.
    pub was_loaded: bool,
    pub ready: bool,
}

/// Tables or models that a line for people names.
const NAMED_MAX: usize = 3;

/// Rejected rows that are counted where they failed.
pub const REJECTS_MAX: u64 = 10_000;

impl Facts {
    /// Whether something is still to be loaded or built, as far as it can be.
    pub fn is_starting(&self) -> bool {
        let is_loading = self.tables.values().any(|table| table.is_loading() && !table.is_delayed);
        let waits = |name: &TableName| {
            let tables = self.tables_of.get(name).into_iter().flatten();
            tables.filter_map(|table| self.tables.get(table)).any(|table| table.is_delayed)
        };
        let is_built = |(name, model): (&TableName, &ModelStatus)| model.state != "building" || waits(name);
        !self.started || is_loading || !self.models.iter().all(is_built)
    }

    /// What is loaded and built now, in one line; empty where nothing is.
    pub fn under_way(&self) -> String {
        let loading = self.tables.iter().filter(|(_, table)| table.is_loading());
        let mut parts: Vec<String> = loading
            .map(|(name, table)| match table.is_delayed {
                true => format!("loading {name}: {}", table.message.line()),
                false => format!("loading {name}: {} of about {} rows", table.snapshot_rows, table.snapshot_rows_total),
            })
            .collect();
        if !self.building.is_empty() {
            parts.push(format!("building {}", self.building));
        }
        parts.join("; ")
    }

    /// One line for people: what is waited for, what is not up to date, and why what the project says is not in place.
    pub fn message(&self, now_us: i64) -> Reason {
        let parts = self.troubles(now_us).into_iter().chain(self.building().map(Reason::from));
        let parts = parts.chain(self.filling().into_iter().map(Reason::from));
        match (self.started, Reason::joined(parts)) {
            (false, told) if self.is_stopped => told,
            (false, _) => Reason::of("starting"),
            (true, told) if told.is_empty() => Reason::of("running"),
            (true, told) => told,
        }
    }

    /// What is not as it should be, what is at the root of it first; empty where all is well.
    pub fn troubles(&self, now_us: i64) -> Vec<Reason> {
        let mut parts = Vec::new();
        if let Some(since_us) = self.waits_since_us {
            let waiting = format!("waiting for room on the disk {}: {}", since(since_us, now_us), self.waits);
            parts.push(Reason::from(waiting));
        }
        parts.extend(self.sources.keys().filter_map(|name| self.behind(name, now_us)));
        parts.extend(self.differing(now_us).map(Reason::from));
        parts.extend(self.loaded_again());
        parts.extend(self.stopped());
        for (name, source) in &self.sources {
            parts.extend(source.fading(now_us).map(|fading| Reason::from(format!("source {name}: {fading}"))));
        }
        if !self.not_applied.is_empty() {
            parts.push(self.not_applied.clone().behind("not applied: "));
        }
        let held = self.held.iter();
        parts.extend(held.map(|(name, why)| why.clone().behind(&format!("{name} serves in its older text: "))));
        parts.extend(self.stale_above().map(Reason::from));
        parts.extend(self.undelivered().iter().map(|told| Reason::of(told)));
        parts
    }

    fn building(&self) -> Option<String> {
        (!self.building.is_empty()).then(|| format!("building {}", self.building))
    }

    /// Syncs that go through all rows, with how far they are.
    fn filling(&self) -> Vec<String> {
        let filling = self.deliveries.iter().filter(|(_, delivery)| delivery.told().0 == "filling");
        let line = |(name, delivery): (&String, &DeliveryStatus)| {
            let filling = delivery.outbox.as_ref().and_then(|outbox| outbox.filling)?;
            Some(format!("filling sync {name}: {} of about {} rows", filling.walked, filling.rows))
        };
        filling.filter_map(line).collect()
    }

    /// The last moment up to which all that a source has committed is known to be visible. What was there before the start is of no
    /// known age where none was noted; what was loaded since then is of now at least.
    pub fn complete_us(&self, source: &SourceStatus) -> Option<i64> {
        source.known_us().or(source.followed_us.filter(|_| !self.was_loaded))
    }

    /// A source that is not read, or far behind, and since when what is served of it may be other than what it has: it was as it is
    /// then, and may be still. That the disk is full is said of all at once.
    fn behind(&self, name: &str, now_us: i64) -> Option<Reason> {
        let source = self.sources.get(name)?;
        if source.is_read() && !source.is_behind(now_us) {
            return None;
        }
        let (state, message) = self.source_state(source, now_us);
        let age = source.lag_us(self.waits_since_us, now_us) / 1_000_000;
        let serves = self.tables.values().any(|table| table.source == name && table.was_whole);
        let served = match (serves, self.complete_us(source)) {
            (false, _) => String::new(),
            (true, Some(_)) => format!(", and what is served of it was true {age} s ago"),
            (true, None) => ", and how old what is served of it is nobody has noted".to_owned(),
        };
        let colon = if message.message.is_empty() { "" } else { ": " };
        Some(message.behind(&format!("source {name} is {state}{served}{colon}")))
    }

    /// Tables of which what there was serves while they are loaded once more.
    fn loaded_again(&self) -> Option<Reason> {
        let loaded: Vec<_> =
            self.tables.iter().filter(|(_, table)| matches!(table.state.as_str(), "resnapshot" | "altered")).collect();
        match loaded[..] {
            [] => None,
            [(name, table)] => Some(table.message.clone().behind(&format!("table {name} is as it was: "))),
            [(first, _), ..] => Some(Reason::from(format!(
                "table {first} and {} more are as they were while they are loaded again; tidemill.tables says why",
                loaded.len() - 1
            ))),
        }
    }

    /// How many models and views are stale by what is below them.
    fn stale_above(&self) -> Option<String> {
        let is_stale = |status: &&ModelStatus| matches!(status.word(), "stale" | "mixed");
        let stale = self.models.values().chain(self.views.values()).filter(is_stale).count();
        match stale {
            0 => None,
            1 => Some("1 model above is stale; tidemill.models says why".to_owned()),
            stale => Some(format!("{stale} models above are stale; tidemill.models says why")),
        }
    }

    /// Syncs that do not deliver all that they should, or not what their sources have: the reason of one, of more where the reasons are.
    /// One that goes through all rows is no trouble.
    fn undelivered(&self) -> Vec<String> {
        let told: Vec<_> = self.deliveries.iter().map(|(name, delivery)| (name, delivery, delivery.told())).collect();
        let stopped: Vec<_> = told.iter().filter(|(.., (state, _))| !is_delivering_state(state)).collect();
        let mut found = match &stopped[..] {
            [] => Vec::new(),
            [(name, _, (state, message))] => vec![format!("sync {name} is {state}: {message}")],
            many => {
                let named: Vec<&str> = many.iter().take(NAMED_MAX).map(|(name, ..)| name.as_str()).collect();
                let more = many.len().checked_sub(NAMED_MAX).filter(|more| *more > 0);
                let more = more.map(|more| format!(" and {more} more")).unwrap_or_default();
                vec![format!("syncs {}{more} do not deliver; tidemill.deliveries says why", named.join(", "))]
            }
        };
        let going = told.iter().filter(|(.., (state, _))| is_delivering_state(state));
        found.extend(going.filter_map(|(name, delivery, _)| Some(format!("sync {name}: {}", delivery.short()?))));
        match told.iter().filter(|(.., (state, _))| *state == "stale").count() {
            0 => {}
            1 => found.push("1 sync delivers what is stale; tidemill.deliveries says why".to_owned()),
            stale => found.push(format!("{stale} syncs deliver what is stale; tidemill.deliveries says why")),
        }
        found
    }

    /// The tables that were found to differ from their sources; none where none was.
    fn differing(&self, now_us: i64) -> Option<String> {
        let compared = self.reconciled.sources.values().flat_map(|of| of.tables.values());
        let is_differing =
            |compared: &&Compared| compared.equal == Some(false) && self.tables.contains_key(&compared.name());
        let differing: Vec<&Compared> = compared.filter(is_differing).collect();
        let (first, more) = (differing.first()?, differing.len() - 1);
        let since = ago(now_us - differing.iter().filter_map(|compared| compared.compared_us).min().unwrap_or(now_us));
        let tables = match more {
            0 => format!("table {} differs from its source: {}", first.name(), first.message),
            more => format!("table {} and {more} more differ from their sources", first.name()),
        };
        Some(format!("{tables} (compared {since} ago; `tidemill reconcile source --repair` loads it again)"))
    }

    /// Tables, models and views that are not kept up to date: the reason of one, of more where the reasons are.
    fn stopped(&self) -> Vec<Reason> {
        fn told<'a>(
            what: &str,
            table: &str,
            stopped: impl Iterator<Item = (&'a TableName, &'a str, &'a Reason)>,
        ) -> Option<Reason> {
            let stopped: Vec<_> = stopped.collect();
            if let [(name, state, message)] = stopped[..] {
                return Some(message.clone().behind(&format!("{what} {name} is {state}: ")));
            }
            let named: Vec<String> = stopped.iter().take(NAMED_MAX).map(|(name, ..)| name.to_string()).collect();
            let more = stopped.len().checked_sub(NAMED_MAX).filter(|more| *more > 0);
            let more = more.map(|more| format!(" and {more} more")).unwrap_or_default();
            (!named.is_empty())
                .then(|| format!("{what}s {}{more} are stopped; tidemill.{table} says why", named.join(", ")))
                .map(Reason::from)
        }
        let tables = self.tables.iter().map(|(name, table)| (name, table.state.as_str(), &table.message));
        let models = self.models.iter().chain(&self.views);
        let models = models.map(|(name, model)| (name, model.state.as_str(), &model.message));
        let tables = told("table", "tables", tables.filter(|(_, state, _)| is_stopped_state(state)));
        let models = told("model", "models", models.filter(|(_, state, _)| is_stopped_state(state)));
        tables.into_iter().chain(models).chain(self.rejected().map(Reason::from)).collect()
    }

    /// Rows that tables and models lack because they could not be taken; none where there are none.
    fn rejected(&self) -> Option<String> {
        let tables = self.tables.iter().map(|(name, table)| (name, table.rejects));
        let all: Vec<_> = tables.chain(self.models.iter().map(|(name, model)| (name, model.rejects))).collect();
        let lacking: Vec<_> = all.into_iter().filter(|(_, rejects)| *rejects > 0).collect();
        let named: Vec<String> = lacking
            .iter()
            .take(NAMED_MAX)
            .map(|(name, rejects)| format!("{name} lacks {}", rows_of(*rejects)))
            .collect();
        let more = lacking.len().checked_sub(NAMED_MAX).filter(|more| *more > 0);
        let more = more.map(|more| format!(" and {more} more lack some")).unwrap_or_default();
        (!named.is_empty())
            .then(|| format!("{}{more} that could not be taken; tidemill.rejects says why", named.join(", ")))
    }

    /// How far a source is behind now; while it is not known to be caught up, that grows with the clock.
    pub fn source_lag_us(&self, source: &SourceStatus, now_us: i64) -> i64 {
        source.lag_us(self.waits_since_us, now_us)
    }

    /// The same of a table: it is behind with its source.
    pub fn table_lag_us(&self, table: &TableStatus, now_us: i64) -> i64 {
        table.lag_at(now_us).max(self.waited_us(&table.source, now_us))
    }

    /// The same of a model: it is behind with the tables that it stands on.
    pub fn model_lag_us(&self, name: &TableName, model: &ModelStatus, now_us: i64) -> i64 {
        let tables = self.tables_of.get(name).into_iter().flatten().filter_map(|table| self.tables.get(table));
        let sources: BTreeSet<&str> = tables.map(|table| table.source.as_str()).collect();
        let waited = sources.into_iter().map(|source| self.waited_us(source, now_us)).max();
        let doubted = model.doubt.as_ref().and_then(|doubt| doubt.age_us(now_us));
        flowing(model.lag_us, model.visible_us, now_us).max(waited.unwrap_or(0)).max(doubted.unwrap_or(0))
    }

    fn waited_us(&self, source: &str, now_us: i64) -> i64 {
        self.sources.get(source).map_or(0, |source| source.waited_us(self.waits_since_us, now_us))
    }

    /// Takes a sample of every table and model, when one is due.
    pub fn sample(&mut self, now_us: i64) {
        if !self.history.is_due(now_us) {
            return;
        }
        let lags: Vec<i64> = self.tables.values().map(|table| self.table_lag_us(table, now_us)).collect();
        let tables = self.tables.iter().zip(lags).map(|((name, table), lag_us)| {
            let lag_seconds = table.last_commit_us.map(|_| lag_us as f64 / 1e6);
            (name.clone(), Reading { rows: table.rows, changes_total: table.changes_total, lag_seconds })
        });
        let lags: Vec<i64> = self.models.iter().map(|(name, model)| self.model_lag_us(name, model, now_us)).collect();
        let models = self.models.iter().zip(lags).map(|((name, model), lag_us)| {
            let lag_seconds = model.last_commit_us.map(|_| lag_us as f64 / 1e6);
            (name.clone(), Reading { rows: model.rows, changes_total: model.changes_total, lag_seconds })
        });
        self.history.take(now_us, tables.chain(models));
    }
}

/// What may be read, the models that serve in it, and the step it is read at.
#[derive(Clone)]
pub struct View {
    pub catalog: Arc<query::Catalog>,
    pub models: Arc<Vec<PlannedModel>>,
    pub snapshot: store::Snapshot,
}

/// What readers read by.
struct Published {
    catalog: Arc<query::Catalog>,
    models: Arc<Vec<PlannedModel>>,
}

/// The facts, and what queries may read, shared between the pump and the readers.
pub struct Status {
    facts: Mutex<Facts>,
    published: RwLock<Published>,
    stale: RwLock<Arc<Stale>>,
    store: store::Store,
    /// Who logged in; none where nobody can.
    audit: OnceLock<Arc<Audit>>,
    moments: Mutex<Moments>,
}

impl Status {
    /// Nothing known yet.
    pub fn new(store: store::Store) -> Arc<Self> {
        let published =
            RwLock::new(Published { catalog: Arc::new(query::Catalog::new(Vec::new())), models: Arc::new(Vec::new()) });
        let (facts, moments) = (Mutex::default(), Mutex::default());
        Arc::new(Self { facts, published, stale: RwLock::default(), store, audit: OnceLock::new(), moments })
    }

    /// The audit; an instance has one, made at the first call.
    pub fn audit(&self, open: impl FnOnce() -> Audit) -> Arc<Audit> {
        Arc::clone(self.audit.get_or_init(|| Arc::new(open())))
    }

    /// Notes what somebody did, where there is an audit.
    pub fn note_audit(&self, what: &str, by: &str) {
        if let Some(audit) = self.audit.get() {
            audit.note(what, "", "", by);
        }
    }

    /// What the audit shows.
    pub fn audited(&self) -> Vec<audit::Entry> {
        self.audit.get().map(|audit| audit.entries()).unwrap_or_default()
    }

    /// The facts, to read or to change: briefly.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When steps became visible. Who takes the facts as well takes these first.
    pub fn moments(&self) -> MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works out what is out of date, for everybody who reads.
    pub fn spread(&self, now_us: i64) {
        let stale = Arc::new(self.facts().spread(now_us));
        *self.stale.write().unwrap_or_else(PoisonError::into_inner) = stale;
    }

    /// What was out of date when that was last worked out.
    pub fn stale(&self) -> Arc<Stale> {
        Arc::clone(&self.stale.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What queries may read from now on, and the models that serve. Publish it after the step that it speaks of.
    pub fn publish(&self, catalog: query::Catalog, models: Arc<Vec<PlannedModel>>) {
        let catalog = Arc::new(catalog);
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Published { catalog, models };
    }

    /// What queries may read, and the newest step. The catalogue is taken first: a snapshot newer than it is right.
    pub fn view(&self) -> View {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let (catalog, models) = (Arc::clone(&published.catalog), Arc::clone(&published.models));
        drop(published);
        View { catalog, models, snapshot: self.store.snapshot() }
    }

    /// The models that serve, with their plans.
    pub fn models(&self) -> Arc<Vec<PlannedModel>> {
        Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner).models)
    }

    /// The store, for figures about it.
    pub fn store(&self) -> &store::Store {
        &self.store
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Facts, Reason, TableName};

    /// Lag is not only what the last transaction had: it grows while nothing is taken, and is over when all is visible.
    #[test]
    fn a_source_falls_behind_while_nothing_is_taken() {
        let mut facts = Facts::default();
        for name in ["shop", "site"] {
            let source = facts.sources.entry(name.to_owned()).or_default();
            (source.state, source.lag_us) = ("streaming".to_owned(), 20_000);
        }
        facts.tables.entry(TableName::new("shop", "orders")).or_default().source = "shop".to_owned();
        let lags = |facts: &Facts, now| {
            let source = |name: &str| facts.source_lag_us(&facts.sources[name], now);
            (source("shop"), source("site"), facts.table_lag_us(&facts.tables[&TableName::new("shop", "orders")], now))
        };
        assert_eq!(lags(&facts, 10_000_000), (20_000, 20_000, 0));
        // A transaction of second 9 is being taken.
        facts.sources.get_mut("shop").unwrap().untaken_us = Some(9_000_000);
        assert_eq!(lags(&facts, 10_000_000), (1_000_000, 20_000, 1_000_000));
        // The disk is full from second 10 on: of the other source nothing is read either.
        facts.waits_since_us = Some(10_000_000);
        assert_eq!(lags(&facts, 70_000_000), (61_000_000, 60_000_000, 61_000_000));
        facts.waits_since_us = None;
        facts.sources.get_mut("shop").unwrap().untaken_us = None;
        assert_eq!(lags(&facts, 80_000_000), (20_000, 20_000, 0));
    }

    /// A source that is cut off in second 12, having been caught up in second 10; a table of it, and a model and a view on that.
    fn cut_off() -> Facts {
        let (orders, trade) = (TableName::new("shop", "orders"), TableName::new("public", "dws_trade_day"));
        let mut facts = Facts { started: true, ..Facts::default() };
        let source = facts.sources.entry("shop".to_owned()).or_default();
        source.go_to("streaming", String::new(), 0);
        source.note_end(10_000_000, "end".to_owned());
        source.note_reached();
        source.go_to("stalled", "cut".to_owned(), 12_000_000);
        let table = facts.tables.entry(orders.clone()).or_default();
        (table.source, table.state, table.was_whole) = ("shop".to_owned(), "streaming".to_owned(), true);
        facts.models.entry(trade.clone()).or_default().state = "live".to_owned();
        for name in [trade, orders.clone()] {
            facts.tables_of.insert(name, BTreeSet::from([orders.clone()]));
        }
        facts
    }

    #[test]
    fn what_stands_on_a_source_that_is_cut_off_grows_old_with_it() {
        let facts = cut_off();
        let (orders, trade) = (TableName::new("shop", "orders"), TableName::new("public", "dws_trade_day"));
        assert_eq!(facts.source_lag_us(&facts.sources["shop"], 70_000_000), 60_000_000);
        assert_eq!(facts.table_lag_us(&facts.tables[&orders], 70_000_000), 60_000_000);
        assert_eq!(facts.model_lag_us(&trade, &facts.models[&trade], 70_000_000), 60_000_000);
        let reason = "source shop is stalled: cut (since 00:00:12 UTC)";
        assert_eq!(facts.table_state(&facts.tables[&orders], 70_000_000), ("stalled", Reason::of(reason)));
        let mut facts = facts;
        let stale = facts.spread(70_000_000);
        assert_eq!(stale.old[&orders].age_us(70_000_000), Some(60_000_000), "as of when all was visible");
        assert_eq!((facts.models[&trade].word(), facts.models[&trade].told()), ("stale", Reason::of(reason)));
        let message = "source shop is stalled, and what is served of it was true 60 s ago: cut (since 00:00:12 UTC); \
                       1 model above is stale; tidemill.models says why";
        assert_eq!(facts.message(70_000_000).line(), message);
    }

    /// What was there before the start is of no known age where none was noted, and a start is no age of it.
    #[test]
    fn what_nobody_has_noted_is_not_said_to_be_young() {
        let (mut facts, orders) = (cut_off(), TableName::new("shop", "orders"));
        let source = facts.sources.get_mut("shop").unwrap();
        (source.reached_us, source.last_commit_us) = (None, None);
        let since = |facts: &Facts| facts.unread("shop", 70_000_000).unwrap().since_us;
        assert_eq!(since(&facts), Some(0), "it was loaded since it is followed");
        facts.was_loaded = true;
        assert_eq!(since(&facts), None);
        let told =
            "source shop is stalled, and how old what is served of it is nobody has noted: cut (since 00:00:12 UTC)";
        assert!(facts.message(70_000_000).line().starts_with(told), "{}", facts.message(70_000_000).line());
        facts.spread(70_000_000);
        assert_eq!(facts.stale_tables(70_000_000)[&orders].age_us(70_000_000), None);
    }

    /// Rows that are left out are told wherever health is.
    #[test]
    fn what_is_lacking_is_said() {
        let mut facts = Facts { started: true, ..Facts::default() };
        facts.models.entry(TableName::new("public", "a")).or_default().rejects = 1;
        let told = "public.a lacks 1 row that could not be taken; tidemill.rejects says why";
        assert_eq!(facts.message(0).line(), told);
        facts.tables.entry(TableName::new("shop", "t")).or_default().rejects = 20_000;
        let told =
            "shop.t lacks 10000 rows or more, public.a lacks 1 row that could not be taken; tidemill.rejects says why";
        assert_eq!(facts.message(0).line(), told);
    }

    /// Health says what is stopped: one thing with its reason, more by name.
    #[test]
    fn what_is_stopped_is_said() {
        let mut facts = Facts { started: true, ..Facts::default() };
        let banned = facts.tables.entry(TableName::new("shop", "banned")).or_default();
        (banned.state, banned.message) = ("parked".to_owned(), Reason::of("never loaded: no key"));
        assert_eq!(facts.message(0).line(), "table shop.banned is parked: never loaded: no key");
        for name in ["a", "b", "c", "d", "e"] {
            facts.models.entry(TableName::new("public", name)).or_default().state = "parked".to_owned();
        }
        let models = "models public.a, public.b, public.c and 2 more are stopped; tidemill.models says why";
        assert_eq!(facts.message(0).line(), format!("table shop.banned is parked: never loaded: no key; {models}"));
    }

    #[test]
    fn a_full_disk_is_said_of_every_source() {
        let mut facts = cut_off();
        facts.sources.get_mut("shop").unwrap().go_to("streaming", String::new(), 15_000_000);
        assert_eq!(facts.source_state(&facts.sources["shop"], 16_000_000), ("streaming", Reason::default()));
        facts.waits_since_us = Some(20_000_000);
        facts.waits = "No space left on device".to_owned();
        let message = "waiting for room on the disk: No space left on device".to_owned();
        assert_eq!(facts.source_state(&facts.sources["shop"], 21_000_000), ("stalled", Reason::of(&message)));
        let table = &facts.tables[&TableName::new("shop", "orders")];
        assert_eq!(
            facts.table_state(table, 21_000_000),
            ("stalled", Reason::from(format!("source shop is stalled: {message}")))
        );
    }

    #[test]
    fn the_start_is_over_when_all_is_loaded_and_built() {
        let mut facts = Facts::default();
        assert!(facts.is_starting());
        facts.started = true;
        let (orders, trade) = (TableName::new("shop", "orders"), TableName::new("public", "dws_trade_day"));
        facts.tables.entry(orders.clone()).or_default().state = "snapshot".to_owned();
        facts.models.entry(trade.clone()).or_default().state = "building".to_owned();
        assert!(facts.is_starting());
        facts.tables.entry(orders).or_default().state = "streaming".to_owned();
        assert!(facts.is_starting());
        facts.models.entry(trade).or_default().state = "parked".to_owned();
        assert!(!facts.is_starting());
    }
}
