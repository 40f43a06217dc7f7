//! Since when what is served is known to be old, across restarts.
//!
//! The lag of a source is counted from the last moment up to which all that was committed is visible. That moment is a fact of
//! what is stored, so it is kept beside it, in `ages.json` of the data folder: a source that cannot be reached after a restart
//! is as far behind as it was before, and goes on falling behind with the clock. The same holds for a table that is parked.
//! The newest transaction that tables and models show is noted too: until something newer comes, they are as old as that.
//!
//! The law: what is told after a restart is never younger than what was told before. A note may be older than the truth, by
//! [`NOTED_EVERY_US`] at most, since it is not written at each change; it is never newer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plan::TableName;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::status::{Facts, Status};

/// How often it is looked whether there is something to note.
const LOOK: Duration = Duration::from_secs(1);
/// A source that is caught up moves on all the time: that is noted so often.
const NOTED_EVERY_US: i64 = 5_000_000;

/// What is noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ages {
    sources: BTreeMap<String, OfSource>,
    /// Since when tables are parked, in microseconds since 1970, by schema and name.
    parked: BTreeMap<String, BTreeMap<String, i64>>,
    /// Commit times of the newest transactions in tables and models, likewise.
    #[serde(default)]
    commits: BTreeMap<String, BTreeMap<String, i64>>,
}

/// How far a source has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct OfSource {
    /// All that was committed up to here is visible, in microseconds since 1970.
    complete_us: i64,
    /// Whether its log has an end that can be asked for.
    has_end: bool,
}

impl Ages {
    fn path(data: &Path) -> PathBuf {
        data.join("ages.json")
    }

    /// What was noted in a data folder. Nothing is known where that cannot be read: ages are counted from now then.
    pub fn read(data: &Path) -> Self {
        let read = std::fs::read(Self::path(data)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        read.unwrap_or_default()
    }

    fn of(facts: &Facts) -> Self {
        let source = |(name, source): (&String, &crate::source_status::SourceStatus)| {
            Some((name.clone(), OfSource { complete_us: facts.complete_us(source)?, has_end: source.has_end }))
        };
        let mut parked: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        for (name, table) in facts.tables.iter().filter(|(_, table)| table.state == "parked") {
            if let Some(since) = table.doubted_since_us {
                parked.entry(name.schema.clone()).or_default().insert(name.name.clone(), since);
            }
        }
        let mut commits: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        let tables = facts.tables.iter().map(|(name, table)| (name, table.last_commit_us));
        for (name, commit) in tables.chain(facts.models.iter().map(|(name, model)| (name, model.last_commit_us))) {
            if let Some(commit) = commit {
                commits.entry(name.schema.clone()).or_default().insert(name.name.clone(), commit);
            }
        }
        Self { sources: facts.sources.iter().filter_map(source).collect(), parked, commits }
    }

    fn commit(&self, name: &TableName) -> Option<i64> {
        self.commits.get(&name.schema)?.get(&name.name).copied()
    }

    /// The sources that something is noted of.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// Tells the facts of an instance that starts, of its sources, tables and models alone.
    pub fn recall<'a>(
        &self,
        facts: &mut Facts,
        sources: impl Iterator<Item = &'a str>,
        tables: impl Iterator<Item = &'a TableName>,
        models: impl Iterator<Item = &'a TableName>,
    ) {
        for name in models {
            if let Some(commit) = self.commit(name) {
                facts.models.entry(name.clone()).or_default().last_commit_us = Some(commit);
            }
        }
        for (name, of) in sources.filter_map(|name| Some((name, self.sources.get(name)?))) {
            let source = facts.sources.entry(name.to_owned()).or_default();
            (source.reached_us, source.has_end) = (Some(of.complete_us), of.has_end);
        }
        for name in tables {
            if let Some(since) = self.parked.get(&name.schema).and_then(|of| of.get(&name.name)) {
                facts.tables.entry(name.clone()).or_default().doubted_since_us = Some(*since);
            }
            if let Some(commit) = self.commit(name) {
                facts.tables.entry(name.clone()).or_default().last_commit_us = Some(commit);
            }
        }
    }

    /// Whether this says so little more than what was noted that it can wait.
    fn can_wait(&self, noted: &Self) -> bool {
        let is_near = |(name, of): (&String, &OfSource)| {
            let before = noted.sources.get(name);
            before.is_some_and(|before| {
                of.has_end == before.has_end && (0..NOTED_EVERY_US).contains(&(of.complete_us - before.complete_us))
            })
        };
        // Commits move on with their sources: they need no time of their own.
        self.parked == noted.parked && self.sources.len() == noted.sources.len() && self.sources.iter().all(is_near)
    }

    /// As a whole or not at all.
    fn write(&self, data: &Path) -> std::io::Result<()> {
        crate::atomic::replace(&Self::path(data), &serde_json::to_vec_pretty(self)?)
    }
}

/// Notes the ages of an instance until it is stopped.
pub async fn keep(data: PathBuf, status: Arc<Status>, mut stopped: watch::Receiver<bool>) {
    let mut noted = Ages::read(&data);
    loop {
        let is_last = tokio::time::timeout(LOOK, stopped.wait_for(|stop| *stop)).await.is_ok();
        let now = Ages::of(&status.facts());
        if now != noted && (is_last || !now.can_wait(&noted)) {
            match now.write(&data) {
                Ok(()) => noted = now,
                // On a full disk, for one: what was noted is older, and true.
                Err(error) => tracing::debug!(%error, "ages are not noted"),
            }
        }
        if is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Stalled for a minute, left, and begun again: it is as far behind as if nothing had happened, and goes on.
    #[test]
    fn a_source_that_was_stalled_when_it_was_left_is_as_old_when_it_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut facts = Facts::default();
        let shop = facts.sources.entry("shop".to_owned()).or_default();
        shop.go_to("streaming", String::new(), 90 * SECOND);
        shop.note_end(100 * SECOND, "end".to_owned());
        shop.note_reached();
        shop.go_to("stalled", "cut".to_owned(), 104 * SECOND);
        let orders = facts.tables.entry(TableName::new("shop", "orders")).or_default();
        (orders.state, orders.doubted_since_us) = ("parked".to_owned(), Some(70 * SECOND));
        let trade = TableName::new("public", "trade");
        facts.models.entry(trade.clone()).or_default().last_commit_us = Some(99 * SECOND);
        assert_eq!(facts.source_lag_us(&facts.sources["shop"], 160 * SECOND), 60 * SECOND);
        Ages::of(&facts).write(folder.path()).unwrap();
        let mut again = Facts::default();
        let tables = [TableName::new("shop", "orders"), TableName::new("shop", "items")];
        Ages::read(folder.path()).recall(
            &mut again,
            ["shop", "site"].into_iter(),
            tables.iter(),
            [trade.clone()].iter(),
        );
        assert_eq!((again.sources.len(), again.tables.len()), (1, 1));
        assert_eq!(again.models[&trade].last_commit_us, Some(99 * SECOND), "what it shows is as old as before");
        let shop = again.sources.get_mut("shop").unwrap();
        "connecting".clone_into(&mut shop.state);
        assert_eq!(again.source_lag_us(&again.sources["shop"], 165 * SECOND), 65 * SECOND);
        let shop = again.sources.get_mut("shop").unwrap();
        shop.go_to("stalled", "refused".to_owned(), 166 * SECOND);
        assert_eq!(again.source_lag_us(&again.sources["shop"], 200 * SECOND), 100 * SECOND);
        assert_eq!(again.tables[&TableName::new("shop", "orders")].doubted_since_us, Some(70 * SECOND));
        // It is reached, and was caught up just now: nothing of before counts.
        let shop = again.sources.get_mut("shop").unwrap();
        shop.go_to("streaming", String::new(), 210 * SECOND);
        shop.note_end(211 * SECOND, "end".to_owned());
        shop.note_reached();
        assert_eq!(again.source_lag_us(&again.sources["shop"], 212 * SECOND), 0);
    }

    #[test]
    fn what_moves_on_is_noted_now_and_then_and_what_stands_still_at_once() {
        let mut facts = Facts::default();
        facts.sources.entry("shop".to_owned()).or_default().reached_us = Some(100 * SECOND);
        let noted = Ages::of(&facts);
        facts.sources.entry("shop".to_owned()).or_default().reached_us = Some(104 * SECOND);
        assert!(Ages::of(&facts).can_wait(&noted));
        facts.sources.entry("shop".to_owned()).or_default().reached_us = Some(105 * SECOND);
        assert!(!Ages::of(&facts).can_wait(&noted));
        let noted = Ages::of(&facts);
        let orders = facts.tables.entry(TableName::new("shop", "orders")).or_default();
        (orders.state, orders.doubted_since_us) = ("parked".to_owned(), Some(70 * SECOND));
        assert!(!Ages::of(&facts).can_wait(&noted));
    }
}
