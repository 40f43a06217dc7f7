//! Tables that contradict themselves are loaded again, by itself and with growing waits.
//!
//! What their source sends of them does not fit what is there of them: something is wrong that nobody has told, and a load
//! shows what is true. Until it begins they are parked. After a start, parked tables are loaded again anyhow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plan::TableName;
use tokio::sync::watch;
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
    last: Instant,
}

impl Turn {
    /// It contradicts itself, now for the first time or once more.
    fn next(before: Option<Self>, now: Instant) -> Self {
        let is_calm = |turn: &Self| now.duration_since(turn.last) > turn.wait * FORGOTTEN;
        let wait = before.filter(|turn| !is_calm(turn)).map_or(WAIT_FIRST, |turn| (turn.wait * 2).min(WAIT_MAX));
        Self { at: Some(now + wait), wait, last: now }
    }
}

/// Has sources load tables again that contradict themselves, until stopped.
pub async fn load_again(sources: Arc<Roster>, status: Arc<Status>, mut stopped: watch::Receiver<bool>) {
    let mut turns: BTreeMap<TableName, (String, Turn)> = BTreeMap::new();
    while tokio::time::timeout(LOOK, stopped.wait_for(|stop| *stop)).await.is_err() {
        let now = Instant::now();
        for (name, source) in std::mem::take(&mut status.facts().contradicted) {
            let turn = Turn::next(turns.get(&name).map(|(_, turn)| *turn), now);
            turns.insert(name, (source, turn));
        }
        let is_due = |turn: &Turn| turn.at.is_some_and(|at| at <= now);
        let due: Vec<TableName> =
            turns.iter().filter(|(_, (_, turn))| is_due(turn)).map(|(name, _)| name.clone()).collect();
        for name in due {
            let Some((source, turn)) = turns.get_mut(&name) else { continue };
            turn.at = None;
            let asked = sources.command(source, Commanded::Reload(vec![name.clone()]));
            let answered = tokio::select! {
                answered = asked => answered,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
            // A source that is away or paused now may be there later; a table that is gone is asked for in vain, and seldom.
            if let Err(error) = answered {
                tracing::warn!(table = %name, error = %format!("{error:#}"), "a table that contradicts itself cannot be loaded again yet");
                *turn = Turn::next(Some(*turn), Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
