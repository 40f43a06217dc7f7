//! What the instance knows about itself: written by the pump, read by system tables, metrics and health.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use plan::TableName;

use crate::definition::PlannedModel;
use crate::history::{History, Reading};
use crate::latency::Histogram;
use crate::recent::Recent;

/// A source and how it is.
#[derive(Debug, Clone, Default)]
pub struct SourceStatus {
    pub kind: String,
    pub state: String,
    pub position: String,
    pub message: String,
    /// Commit time of the last transaction seen, microseconds since 1970.
    pub last_commit_us: Option<i64>,
    /// How far behind its commit the last transaction was when it became visible.
    pub lag_us: i64,
    pub lag_bytes: Option<i64>,
    /// Commit time of the oldest transaction that was read and is not visible yet.
    pub untaken_us: Option<i64>,
    /// Since when it is stalled; tries to connect again end no stall.
    pub stalled_since_us: Option<i64>,
}

impl SourceStatus {
    /// What a source says of itself.
    pub fn go_to(&mut self, state: &str, message: String, now_us: i64) {
        self.stalled_since_us = match state {
            "stalled" => self.stalled_since_us.or(Some(now_us)),
            "connecting" => self.stalled_since_us,
            _ => None,
        };
        state.clone_into(&mut self.state);
        // While it is tried again, the reason is what it was.
        if self.stalled_since_us.is_none() || !message.is_empty() {
            self.message = message;
        }
    }

    /// How old what was read and is not visible is. Of what is not even read for want of room nobody knows more than since
    /// when that is so.
    fn waited_us(&self, waits_since_us: Option<i64>, now_us: i64) -> i64 {
        let unread = waits_since_us.filter(|_| self.state == "streaming");
        self.untaken_us.or(unread).map_or(0, |since| now_us.saturating_sub(since).max(0))
    }
}

/// A source table and how it is.
#[derive(Debug, Clone, Default)]
pub struct TableStatus {
    pub source: String,
    pub state: String,
    pub rows: i64,
    pub snapshot_rows: u64,
    pub snapshot_rows_total: u64,
    pub changes_total: u64,
    pub last_commit_us: Option<i64>,
    pub lag_us: i64,
    /// Since when its content is known to be in doubt; it is loaded again then, and is as old as that.
    pub doubted_since_us: Option<i64>,
    pub message: String,
}

impl TableStatus {
    /// Whether rows of it are still to come, or to be put in place.
    pub fn is_loading(&self) -> bool {
        matches!(self.state.as_str(), "snapshot" | "resnapshot" | "altered")
    }

    /// How far behind its source it is, at some time.
    pub fn lag_at(&self, now_us: i64) -> i64 {
        self.doubted_since_us.map_or(self.lag_us, |since| self.lag_us.max(now_us - since))
    }
}

/// A model and how it is.
#[derive(Debug, Clone, Default)]
pub struct ModelStatus {
    pub materialized: String,
    pub state: String,
    pub rows: i64,
    pub changes_total: u64,
    /// Commit time of the newest transaction that it shows.
    pub last_commit_us: Option<i64>,
    /// How far behind its commit the last transaction was when the model showed it.
    pub lag_us: i64,
    /// Bytes of its states; none where they were not measured.
    pub state_bytes: Option<i64>,
    pub message: String,
    /// Why it may not be what its sources say; it serves all the same.
    pub doubt: Option<Doubt>,
    /// Its text, rendered; where it comes from and what the YAML says about it.
    pub sql: String,
    pub path: String,
    pub description: String,
}

/// Why what is shown of a table, or of a model over it, may not be what the source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubt {
    /// With the table's name.
    pub reason: String,
    /// Since when that is known; none where it is not.
    pub since_us: Option<i64>,
}

impl Doubt {
    /// The doubt about a table.
    pub fn of(name: &TableName, table: &TableStatus) -> Self {
        let state = match table.state.as_str() {
            "resnapshot" => "loaded again",
            "altered" => "loaded anew",
            state => state,
        };
        let reason = match table.message.strip_prefix("loaded again: ") {
            Some(reason) => format!("table {name} is {state}: {reason}"),
            None => format!("table {name} is {state}: {}", table.message),
        };
        Self { reason, since_us: table.doubted_since_us }
    }

    /// How old what is shown is at least; none where that is not known.
    pub fn age_us(&self, now_us: i64) -> Option<i64> {
        self.since_us.map(|since| (now_us - since).max(0))
    }
}

impl ModelStatus {
    /// How old what it shows is: since the newest transaction in it, or since the doubt about a table below it. None where that
    /// is not known.
    pub fn age_us(&self, now_us: i64) -> Option<i64> {
        let of_commit = self.last_commit_us.map(|commit| (now_us - commit).max(0));
        match &self.doubt {
            None => of_commit,
            Some(doubt) => Some(doubt.age_us(now_us)?.max(of_commit.unwrap_or(0))),
        }
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
}

/// Stages of a change's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    CommitRead,
    ReadDurable,
    DurableVisible,
    CommitVisible,
}

impl Stage {
    /// The word of `tidemill.latency`.
    pub fn word(self) -> &'static str {
        match self {
            Self::CommitRead => "commit_read",
            Self::ReadDurable => "read_durable",
            Self::DurableVisible => "durable_visible",
            Self::CommitVisible => "commit_visible",
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
    /// Rows that sources could not decode; those of models come from the engine.
    pub rejects: VecDeque<RejectStatus>,
    pub recent: Recent,
    pub history: History,
    /// Who reads whom: what is read, and the model that reads it.
    pub lineage: Vec<(TableName, TableName)>,
    /// The source tables that each table, model or view stands on, however far below.
    pub tables_of: BTreeMap<TableName, BTreeSet<TableName>>,
    pub settings: Vec<(String, String, String)>,
    /// Whether the project's models are still to be put in the places of those that serve.
    pub pending: bool,
    /// Why they are not; empty where they are in place, or under way.
    pub not_applied: String,
    /// Since when nothing is taken, for want of room on the disk, and what the system said.
    pub waits_since_us: Option<i64>,
    pub waits: String,
    /// The model that is being built; empty where none is.
    pub building: String,
    pub started: bool,
    pub ready: bool,
}

/// Rejected rows that are remembered.
pub const REMEMBERED_MAX: usize = 1_000;

impl Facts {
    /// Whether something is still to be loaded or built, as far as it can be.
    pub fn is_starting(&self) -> bool {
        let is_loading = self.tables.values().any(TableStatus::is_loading);
        !self.started || is_loading || self.models.values().any(|model| model.state == "building")
    }

    /// What is loaded and built now, in one line; empty where nothing is.
    pub fn under_way(&self) -> String {
        let loading = self.tables.iter().filter(|(_, table)| table.is_loading());
        let mut parts: Vec<String> = loading
            .map(|(name, table)| {
                format!("loading {name}: {} of about {} rows", table.snapshot_rows, table.snapshot_rows_total)
            })
            .collect();
        if !self.building.is_empty() {
            parts.push(format!("building {}", self.building));
        }
        parts.join("; ")
    }

    /// One line for people: what is waited for, and why what the project says is not in place.
    pub fn message(&self) -> String {
        let mut parts = Vec::new();
        if self.waits_since_us.is_some() {
            parts.push(format!("waiting for room on the disk: {}", self.waits));
        }
        if !self.building.is_empty() {
            parts.push(format!("building {}", self.building));
        }
        if !self.not_applied.is_empty() {
            parts.push(format!("not applied: {}", self.not_applied));
        }
        match (self.started, parts.is_empty()) {
            (false, _) => "starting".to_owned(),
            (true, true) => "running".to_owned(),
            (true, false) => parts.join("; "),
        }
    }

    /// What is known to be out of date, with the reason and its age: tables that are not followed, or are loaded again, or whose
    /// source is not read, and all models and views over them.
    pub fn stale(&self) -> BTreeMap<TableName, Doubt> {
        let of_table = |(name, table): (&TableName, &TableStatus)| {
            if matches!(table.state.as_str(), "parked" | "resnapshot" | "altered") {
                return Some((name.clone(), Doubt::of(name, table)));
            }
            let source = self.sources.get(&table.source)?;
            let is_read = source.stalled_since_us.is_none() && source.state != "paused";
            let reason = || format!("source {} is {}: {}", table.source, source.state, source.message);
            (!is_read).then(|| (name.clone(), Doubt { reason: reason(), since_us: source.stalled_since_us }))
        };
        let tables: BTreeMap<TableName, Doubt> = self.tables.iter().filter_map(of_table).collect();
        let nodes = self.tables_of.iter().filter_map(|(name, below)| {
            Some((name.clone(), below.iter().find_map(|table| tables.get(table))?.clone()))
        });
        nodes.collect()
    }

    /// How far a source is behind now. While a step is under way or waits, that grows with the clock.
    pub fn source_lag_us(&self, source: &SourceStatus, now_us: i64) -> i64 {
        source.lag_us.max(source.waited_us(self.waits_since_us, now_us))
    }

    /// The same of a table.
    pub fn table_lag_us(&self, table: &TableStatus, now_us: i64) -> i64 {
        let source = self.sources.get(&table.source);
        table.lag_at(now_us).max(source.map_or(0, |source| source.waited_us(self.waits_since_us, now_us)))
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
        let models = self.models.iter().map(|(name, model)| {
            let lag_seconds = model.last_commit_us.map(|_| model.lag_us as f64 / 1e6);
            (name.clone(), Reading { rows: model.rows, changes_total: model.changes_total, lag_seconds })
        });
        self.history.take(now_us, tables.chain(models));
    }
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
    store: store::Store,
}

impl Status {
    /// Nothing known yet.
    pub fn new(store: store::Store) -> Arc<Self> {
        let published =
            RwLock::new(Published { catalog: Arc::new(query::Catalog::new(Vec::new())), models: Arc::new(Vec::new()) });
        Arc::new(Self { facts: Mutex::default(), published, store })
    }

    /// The facts, to read or to change: briefly.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What queries may read from now on, and the models that serve. Publish it after the step that it speaks of.
    pub fn publish(&self, catalog: query::Catalog, models: Arc<Vec<PlannedModel>>) {
        let catalog = Arc::new(catalog);
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Published { catalog, models };
    }

    /// What queries may read, and the newest step. The catalogue is taken first: a snapshot newer than it is right.
    pub fn view(&self) -> (Arc<query::Catalog>, store::Snapshot) {
        let catalog = Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner).catalog);
        (catalog, self.store.snapshot())
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
    use super::{Facts, TableName};

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
