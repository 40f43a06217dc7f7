//! Comparisons of a running instance with its sources: those that a person asks for, and those that it makes by itself.
//!
//! One at a time. A person goes first: what the instance compares by itself is left where it is, and the person's
//! comparison goes on from there at the person's pace.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use connect::{TablePlace, WholePace};
use plan::TableName;
use project::ReconcileSpec;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::amend::{Amendment, look};
use super::book::{Book, By};
use super::source::{Compared, Notes, Ours, PORTION_ROWS, Pace, compare, compare_again, feeds};
use crate::clock::Clock;
use crate::control::{STOPPED, STOPPING};
use crate::pump::{Message, Request, SourceTables};
use crate::setup::{Global, Setup};
use crate::status::Status;

/// How often it is looked whether a comparison is due.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait after a comparison that did not come to its end.
const AGAIN_US: i64 = 60_000_000;

/// Compares, in a running instance.
pub struct Keeper {
    inbox: mpsc::Sender<Message>,
    status: Arc<Status>,
    clock: Arc<dyn Clock>,
    /// The options by which the project is found.
    global: Arc<Global>,
    data: PathBuf,
    turn: Mutex<()>,
    /// How often a person has asked.
    asked: watch::Sender<u64>,
}

impl Keeper {
    /// Of an instance over this data folder.
    pub fn new(
        inbox: mpsc::Sender<Message>,
        status: Arc<Status>,
        clock: Arc<dyn Clock>,
        global: Arc<Global>,
        data: PathBuf,
    ) -> Self {
        Self { inbox, status, clock, global, data, turn: Mutex::default(), asked: watch::channel(0).0 }
    }

    /// Compares the tables of one source, or of all, for a person.
    pub async fn by_hand(&self, wanted: Option<&str>, pace: &Pace<'_>, restart: bool) -> anyhow::Result<Vec<Compared>> {
        self.asked.send_modify(|asked| *asked = asked.wrapping_add(1));
        let mine = self.turn.lock().await;
        let compared = self.compare(wanted, pace, By::Hand, restart).await;
        drop(mine);
        compared
    }

    /// Compares whenever it is due, until stopped.
    pub async fn by_itself(&self, spec: ReconcileSpec, mut stopped: watch::Receiver<bool>) {
        let Some(every_s) = spec.every_s else { return };
        let every_us = i64::from(every_s) * 1_000_000;
        let mut tries = BTreeMap::new();
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            for source in self.due(every_us, &tries) {
                let mut asked = self.asked.subscribe();
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => return,
                    _ = asked.changed() => break,
                    () = self.one(&source, spec.share) => {
                        // Counted from its end, so that what takes long is not begun again at once.
                        tries.insert(source, self.clock.now_us());
                    }
                }
            }
        }
    }

    /// Compares tables again once they were loaded since they were found to differ, until stopped: that they do is no longer said
    /// then, or said anew. Nobody waits for it: it takes no more of the source than other comparisons by itself, and a person's goes first.
    pub async fn look_at_repaired(&self, share: u8, mut stopped: watch::Receiver<bool>) {
        let mut tries: BTreeMap<TableName, i64> = BTreeMap::new();
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            for (source, tables) in self.repaired(&tries) {
                let now_us = self.clock.now_us();
                tries.extend(tables.iter().map(|table| (table.clone(), now_us)));
                let mut asked = self.asked.subscribe();
                let compared = tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => return,
                    _ = asked.changed() => break,
                    compared = self.again(&source, &tables, share) => compared,
                };
                if let Err(error) = compared {
                    tracing::warn!(%source, error = %format!("{error:#}"), "tables that were loaded again cannot be compared");
                }
            }
        }
    }

    /// Tables that differed when they were compared, and that have come to the end of a load since, by their sources.
    fn repaired(&self, tries: &BTreeMap<TableName, i64>) -> BTreeMap<String, Vec<TableName>> {
        let now_us = self.clock.now_us();
        let facts = self.status.facts();
        let is_read = |source: &str| facts.sources.get(source).is_some_and(crate::status::SourceStatus::is_read);
        let mut found: BTreeMap<String, Vec<TableName>> = BTreeMap::new();
        for (source, of) in facts.reconciled.sources.iter().filter(|(source, _)| is_read(source)) {
            for compared in of.tables.values().filter(|compared| compared.is_to_be_loaded()) {
                let name = compared.name();
                let Some(table) = facts.tables.get(&name).filter(|table| table.state == "streaming") else { continue };
                let loaded_us = table.loaded_us.filter(|loaded| compared.compared_us.is_none_or(|then| *loaded > then));
                let is_tried = |loaded: i64| {
                    tries.get(&name).is_some_and(|tried| *tried >= loaded && (0..AGAIN_US).contains(&(now_us - *tried)))
                };
                if loaded_us.is_some_and(|loaded| !is_tried(loaded)) {
                    found.entry(source.clone()).or_default().push(name);
                }
            }
        }
        found
    }

    /// Compares these tables of a source, and notes what came of it.
    async fn again(&self, source: &str, tables: &[TableName], share: u8) -> anyhow::Result<()> {
        let mine = self.turn.lock().await;
        let global = Arc::clone(&self.global);
        let setup = tokio::task::spawn_blocking(move || Setup::load(&global)).await??;
        let Some((name, of, mut places)) = feeds(&setup, Some(source)).await?.comparable.pop() else {
            return Ok(());
        };
        places.retain(|(name, _)| tables.contains(name));
        let ours = self.ours(name.clone(), places).await?;
        let pace = Pace {
            reading: WholePace { rows_per_second: None, share: Some(share) },
            portion_rows: PORTION_ROWS,
            progress: &|text| tracing::debug!("{text}"),
        };
        let compared = compare_again(&of, &ours, &pace, &*self.clock).await;
        let mut book = Book::read(&self.data)?;
        let known = &mut book.sources.entry(name).or_default().tables;
        known.extend(compared.into_iter().filter(|c| c.equal.is_some()).map(|c| (c.name().to_string(), c)));
        book.write(&self.data)?;
        self.status.facts().reconciled = book;
        drop(mine);
        Ok(())
    }

    /// The sources that are to be compared now: those that were left, never compared, or compared long enough ago.
    fn due(&self, every_us: i64, tries: &BTreeMap<String, i64>) -> Vec<String> {
        let now_us = self.clock.now_us();
        let facts = self.status.facts();
        if facts.is_starting() {
            return Vec::new();
        }
        // A clock that was set back must not put it off for ever.
        let is_over = |since_us: i64, time_us: i64| !(0..time_us).contains(&(now_us - since_us));
        let is_due = |name: &&String| {
            let of = facts.reconciled.sources.get(*name);
            let is_left = of.is_some_and(|of| of.unfinished.is_some());
            let is_time = of.and_then(super::book::OfSource::ended_us).is_none_or(|ended| is_over(ended, every_us));
            (is_left || is_time) && tries.get(*name).is_none_or(|tried| is_over(*tried, AGAIN_US.min(every_us)))
        };
        // Of one that is paused or away nothing is read, and with one of some kinds nothing can be compared.
        let is_comparable = |word: &str| {
            crate::sources::kinds().find(|kind| kind.is_of(word)).is_none_or(connect::SourceKind::is_comparable)
        };
        let read = facts.sources.iter().filter(|(_, source)| source.is_read() && is_comparable(&source.kind));
        let read = read.map(|(name, _)| name);
        read.filter(is_due).cloned().collect()
    }

    async fn one(&self, source: &str, share: u8) {
        let mine = self.turn.lock().await;
        let reading = WholePace { rows_per_second: None, share: Some(share) };
        let pace = Pace { reading, portion_rows: PORTION_ROWS, progress: &|text| tracing::debug!("{text}") };
        match self.compare(Some(source), &pace, By::Itself, false).await {
            Ok(compared) => {
                if let Some(table) = compared.iter().find(|compared| compared.equal.is_none()) {
                    tracing::warn!(table = %table.name(), reason = %table.message, "a table cannot be compared with its source");
                }
                for table in compared.iter().filter(|compared| compared.equal == Some(false)) {
                    tracing::warn!(table = %table.name(), found = %table.message, "a table differs from its source");
                }
            }
            Err(error) => tracing::warn!(source, error = %format!("{error:#}"), "cannot compare a source's tables"),
        }
        drop(mine);
    }

    /// Looks for what differs among the rows of a table for which a condition holds.
    pub async fn look(&self, source: &str, table: &TableName, condition: &str) -> anyhow::Result<Amendment> {
        let global = Arc::clone(&self.global);
        let setup = tokio::task::spawn_blocking(move || Setup::load(&global)).await??;
        let Some((name, of, mut places)) = feeds(&setup, Some(source)).await?.comparable.pop() else {
            bail!("there is no source \"{source}\"");
        };
        places.retain(|(name, _)| name == table);
        let ours = self.ours(name, places).await?;
        look(&of, &ours, condition).await
    }

    /// What there is of these tables of a source.
    async fn ours(&self, source: String, places: Vec<(TableName, TablePlace)>) -> anyhow::Result<Ours> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Tables { source: source.clone(), places, answer };
        self.inbox.send(Message::Ask(request)).await.map_err(|_| anyhow::anyhow!(STOPPING))?;
        let SourceTables { number, tables, positions } = answered.await.map_err(|_| anyhow::anyhow!(STOPPED))?;
        let status = Arc::clone(&self.status);
        let view = Box::new(move || status.view().snapshot);
        Ok(Ours { source, number, tables, positions, view, is_running: true })
    }

    async fn compare(
        &self,
        wanted: Option<&str>,
        pace: &Pace<'_>,
        by: By,
        restart: bool,
    ) -> anyhow::Result<Vec<Compared>> {
        let global = Arc::clone(&self.global);
        let setup = tokio::task::spawn_blocking(move || Setup::load(&global)).await??;
        let told = |book: &Book| self.status.facts().reconciled = book.clone();
        let notes = Notes { data: &self.data, clock: &*self.clock, by, restart, told: &told };
        let feeds = feeds(&setup, wanted).await?;
        let mut compared = feeds.passed_over;
        for (name, source, places) in feeds.comparable {
            let ours = self.ours(name, places).await?;
            compared.extend(compare(&source, &ours, pace, &notes).await?);
        }
        Ok(compared)
    }
}
