//! Tables that contradict themselves are loaded again, by itself and with growing waits.
//!
//! What their source sends of them does not fit what is there of them: something is wrong that nobody has told, and a load
//! shows what is true. Until it begins they are parked. After a start, parked tables are loaded again anyhow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use connect::Backoff;
use plan::TableName;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Commanded, Roster};
use crate::status::Status;

/// How often it is looked for them.
const LOOK: Duration = Duration::from_millis(500);
/// Between two loads of a table that contradicts itself again and again.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(600);
/// After this long, as a multiple of the last wait, the next one is short again.
const FORGOTTEN: u32 = 10;

/// When a table is loaded again.
#[derive(Debug, Clone, Copy)]
struct Turn {
    at: Option<Instant>,
    wait: Duration,
    backoff: Backoff,
    last: Instant,
}

impl Turn {
    /// It contradicts itself, now for the first time or once more.
    fn next(before: Option<Self>, now: Instant) -> Self {
        let is_calm = |turn: &Self| now.duration_since(turn.last) > turn.wait * FORGOTTEN;
        let before = before.filter(|turn| !is_calm(turn)).map(|turn| turn.backoff);
        let mut backoff = before.unwrap_or(Backoff::new(WAIT_FIRST, WAIT_MAX));
        let wait = backoff.next();
        Self { at: Some(now + wait), wait, backoff, last: now }
    }
}

/// Tables that contradict themselves.
#[derive(Default)]
struct Turns {
    /// With their sources.
    of: BTreeMap<TableName, (String, Turn)>,
    /// Sources that were asked and have not answered: one that hangs keeps no other from its loads.
    asked: BTreeSet<String>,
}

impl Turns {
    fn contradicts(&mut self, source: String, table: TableName, now: Instant) {
        let turn = Turn::next(self.of.get(&table).map(|(_, turn)| *turn), now);
        self.of.insert(table, (source, turn));
    }

    /// What sources are to be asked for now.
    fn due(&mut self, now: Instant) -> BTreeMap<String, Vec<TableName>> {
        let mut due: BTreeMap<String, Vec<TableName>> = BTreeMap::new();
        for (name, (source, turn)) in &mut self.of {
            if !self.asked.contains(source) && turn.at.take_if(|at| *at <= now).is_some() {
                due.entry(source.clone()).or_default().push(name.clone());
            }
        }
        self.asked.extend(due.keys().cloned());
        due
    }

    /// A source has answered, and these tables it cannot load yet.
    fn answered(&mut self, source: &str, failed: &[TableName], now: Instant) {
        self.asked.remove(source);
        for name in failed {
            if let Some((_, turn)) = self.of.get_mut(name) {
                *turn = Turn::next(Some(*turn), now);
            }
        }
    }
}

/// Has sources load tables again that contradict themselves, until stopped.
pub async fn load_again(sources: Arc<Roster>, status: Arc<Status>, mut stopped: watch::Receiver<bool>) {
    let mut turns = Turns::default();
    let mut asked: JoinSet<(String, Vec<TableName>)> = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return,
            Some(answered) = asked.join_next(), if !asked.is_empty() => {
                if let Ok((source, failed)) = answered {
                    turns.answered(&source, &failed, Instant::now());
                }
                continue;
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = Instant::now();
        for (name, source) in std::mem::take(&mut status.facts().contradicted) {
            turns.contradicts(source, name, now);
        }
        for (source, names) in turns.due(now) {
            asked.spawn(ask(Arc::clone(&sources), source, names));
        }
    }
}

/// Asks a source for loads of tables, one after the other; answers those that it cannot load yet.
async fn ask(sources: Arc<Roster>, source: String, names: Vec<TableName>) -> (String, Vec<TableName>) {
    let mut failed = Vec::new();
    for name in names {
        // A source that is away or paused now may be there later; a table that is gone is asked for in vain, and seldom.
        if let Err(error) = sources.command(&source, Commanded::Reload(vec![name.clone()])).await {
            tracing::warn!(table = %name, error = %format!("{error:#}"), "a table that contradicts itself cannot be loaded again yet");
            failed.push(name);
        }
    }
    (source, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_does_not_answer_keeps_no_other_from_its_loads() {
        let now = Instant::now();
        let name = |table: &str| TableName::new("shop", table);
        let mut turns = Turns::default();
        turns.contradicts("hangs".to_owned(), name("a"), now);
        assert!(turns.due(now).is_empty(), "not at once");
        let now = now + WAIT_FIRST;
        assert_eq!(turns.due(now), BTreeMap::from([("hangs".to_owned(), vec![name("a")])]));
        turns.contradicts("hangs".to_owned(), name("b"), now);
        turns.contradicts("answers".to_owned(), name("c"), now);
        let now = now + WAIT_FIRST;
        assert_eq!(turns.due(now), BTreeMap::from([("answers".to_owned(), vec![name("c")])]));
        turns.answered("answers", &[name("c")], now);
        turns.answered("hangs", &[], now);
        assert_eq!(turns.due(now), BTreeMap::from([("hangs".to_owned(), vec![name("b")])]), "c is asked for later");
        let now = now + WAIT_FIRST * 2;
        assert_eq!(turns.due(now), BTreeMap::from([("answers".to_owned(), vec![name("c")])]));
    }

    #[test]
    fn waits_grow_and_are_forgotten() {
        let mut now = Instant::now();
        let mut turn = Turn::next(None, now);
        let mut waits = vec![turn.wait.as_secs()];
        for _ in 0..12 {
            now += turn.wait * 2;
            turn = Turn::next(Some(turn), now);
            waits.push(turn.wait.as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
        now += WAIT_MAX * (FORGOTTEN + 1);
        assert_eq!(Turn::next(Some(turn), now).wait, WAIT_FIRST);
    }
}
