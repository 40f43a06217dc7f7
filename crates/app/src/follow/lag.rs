//! How far a source is behind its server: whether the ends of its log are reached, and how many bytes are not read yet.
//!
//! An end is asked for every [`ASK_EVERY`], and waited for until what is visible has reached it: then all that was committed
//! before the question is visible. For how long the server keeps what is not read is asked less often. A source that cannot be asked keeps what was known last: its lag grows with the clock.

use std::sync::Arc;
use std::time::Duration;

use connect::Source;
use relation::Position;

use super::Outlet;

/// How often it is looked whether the end that was asked for is reached.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks between two questions to the source.
const ASK_EVERY: u32 = 5;
/// The same to the question for how long it keeps what is not read: a multiple of the others.
const ASK_RETENTION_EVERY: u32 = 30;

/// Notes how far a source is behind, until stopped.
pub(super) async fn watch_lag(name: String, source: Arc<dyn Source>, outlet: Outlet) {
    let mut stopped = outlet.stopped.clone();
    let mut looks = 0;
    while tokio::time::timeout(LOOK_INTERVAL, stopped.wait_for(|stop| *stop)).await.is_err() {
        look(&name, &*source, &outlet);
        looks += 1;
        if looks % ASK_EVERY != 1 {
            continue;
        }
        tokio::select! {
            () = async {
                ask(&name, &*source, &outlet).await;
                if looks % ASK_RETENTION_EVERY == 1 {
                    ask_retention(&name, &*source, &outlet).await;
                }
            } => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// Looks whether the end that was asked for is reached. One of another server says nothing.
fn look(name: &str, source: &dyn Source, outlet: &Outlet) {
    let mut facts = outlet.status.facts();
    let Some(status) = facts.sources.get_mut(name) else { return };
    let Some((_, end)) = &status.end else { return };
    match source.reached(&Position(status.position.clone()), &Position(end.clone())) {
        Ok(true) => status.note_reached(),
        Ok(false) => status.note_missed(),
        Err(_) => status.end = None,
    }
}

/// Asks for the end of the log, and how far what is visible is from there.
async fn ask(name: &str, source: &dyn Source, outlet: &Outlet) {
    let asked_us = outlet.clock.now_us();
    if let Ok(end) = source.current_position().await
        && let Some(status) = outlet.status.facts().sources.get_mut(name)
    {
        match end {
            Some(end) => status.note_end(asked_us, end.0),
            None => status.is_endless = true,
        }
    }
    let position = outlet.status.facts().sources.get(name).map(|source| source.position.clone()).unwrap_or_default();
    if let Ok(behind) = source.bytes_behind(&Position(position)).await
        && let Some(status) = outlet.status.facts().sources.get_mut(name)
    {
        status.lag_bytes = behind.and_then(|bytes| i64::try_from(bytes).ok());
    }
}

/// Asks for how long what is not read yet is kept.
async fn ask_retention(name: &str, source: &dyn Source, outlet: &Outlet) {
    let position = outlet.status.facts().sources.get(name).map(|source| source.position.clone()).unwrap_or_default();
    if let Ok(retention) = source.retention(&Position(position)).await
        && let Some(status) = outlet.status.facts().sources.get_mut(name)
    {
        status.retention = retention;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicI64, Ordering};

    use async_trait::async_trait;
    use connect::{
        Absence, Check, Control, Failure, FollowedTable, Limits, SourceEvent, TableFacts, TablePlace, Unanswered,
    };
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::clock::Clock;
    use crate::status::Status;

    /// A source whose log ends somewhere, as far as it can be asked.
    #[derive(Debug)]
    struct Ending(Mutex<Option<u64>>);

    impl Ending {
        fn end(&self) -> Result<u64, Failure> {
            let gone = Failure { message: "gone".to_owned(), detail: String::new(), hint: String::new() };
            self.0.lock().unwrap().ok_or(gone)
        }
    }

    #[async_trait]
    impl Source for Ending {
        fn word(&self) -> &'static str {
            "ending"
        }

        async fn describe(&self, _wanted: &[TablePlace]) -> Result<Vec<Result<TableFacts, Absence>>, Unanswered> {
            Ok(Vec::new())
        }

        fn start(
            &self,
            _tables: Vec<FollowedTable>,
            _resume: Option<Position>,
            _limits: Limits,
        ) -> (mpsc::Receiver<SourceEvent>, Control) {
            unreachable!("nobody starts it")
        }

        async fn current_position(&self) -> Result<Option<Position>, Failure> {
            self.end().map(|end| Some(Position(end.to_string())))
        }

        fn reached(&self, current: &Position, target: &Position) -> Result<bool, Failure> {
            Ok(current.0.parse::<u64>().unwrap() >= target.0.parse::<u64>().unwrap())
        }

        async fn bytes_behind(&self, position: &Position) -> Result<Option<u64>, Failure> {
            self.end().map(|end| Some(end - position.0.parse::<u64>().unwrap()))
        }

        async fn doctor(&self, _wanted: &[TablePlace]) -> Vec<Check> {
            Vec::new()
        }
    }

    #[derive(Debug, Default)]
    struct Set(AtomicI64);

    impl Clock for Set {
        fn now_us(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// The clock goes on, and the source says where it ends where it can; answers lag in seconds, and bytes.
    #[tokio::test]
    async fn a_source_that_cannot_be_asked_keeps_its_end_and_falls_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = store::Store::open(&folder.path().join("store"), store::Options::default()).unwrap();
        let clock = Arc::new(Set::default());
        let (inbox, _outbox) = mpsc::channel(1);
        let (_stop, stopped) = watch::channel(false);
        let outlet = Outlet {
            inbox,
            status: Status::new(store),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            stopped,
            marks: Arc::default(),
        };
        let source = Ending(Mutex::new(Some(500)));
        {
            let mut facts = outlet.status.facts();
            let shop = facts.sources.entry("shop".to_owned()).or_default();
            shop.go_to("streaming", String::new(), 0);
            shop.position = "500".to_owned();
        }
        let lag = |at: i64| {
            let facts = outlet.status.facts();
            (facts.source_lag_us(&facts.sources["shop"], at * 1_000_000) / 1_000_000, facts.sources["shop"].lag_bytes)
        };
        let at = |second: i64| clock.0.store(second * 1_000_000, Ordering::Relaxed);
        at(100);
        ask("shop", &source, &outlet).await;
        look("shop", &source, &outlet);
        assert_eq!(lag(110), (0, Some(0)));
        // More is written, and nothing of it comes.
        *source.0.lock().unwrap() = Some(800);
        at(110);
        ask("shop", &source, &outlet).await;
        look("shop", &source, &outlet);
        assert_eq!(lag(115), (15, Some(300)), "all was visible in second 100");
        // The server is gone, and the source says so.
        *source.0.lock().unwrap() = None;
        at(120);
        ask("shop", &source, &outlet).await;
        outlet.status.facts().sources.get_mut("shop").unwrap().go_to("stalled", "gone".to_owned(), 120_000_000);
        assert_eq!(lag(160), (60, Some(300)), "the end that was known last");
        // It is back, and all has come.
        *source.0.lock().unwrap() = Some(800);
        {
            let mut facts = outlet.status.facts();
            let shop = facts.sources.get_mut("shop").unwrap();
            shop.go_to("streaming", String::new(), 170_000_000);
            shop.position = "800".to_owned();
        }
        look("shop", &source, &outlet);
        at(171);
        ask("shop", &source, &outlet).await;
        look("shop", &source, &outlet);
        assert_eq!(lag(172), (0, Some(0)));
    }
}
