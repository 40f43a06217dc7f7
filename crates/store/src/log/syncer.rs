//! Syncing in the background: the engine computes a step while its record becomes durable.

use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Log;
use crate::{Error, Result, lock};

/// A thread that syncs the log when asked.
#[derive(Debug)]
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Condvar,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the newest request, and of the newest one that a finished sync covers.
    asked: u64,
    done: u64,
    /// The requests that failed last, and why.
    failed: Option<(RangeInclusive<u64>, Error)>,
    stopping: bool,
}

/// A sync under way. Dropping it waits for nothing.
#[derive(Debug)]
#[must_use = "nothing is durable before `wait` has returned"]
pub struct Syncing {
    shared: Arc<Shared>,
    request: u64,
}

impl Syncer {
    pub(crate) fn start(log: &Arc<Log>) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (log, theirs) = (Arc::clone(log), Arc::clone(&shared));
        let spawn = std::thread::Builder::new().name("store-sync".to_owned()).spawn(move || theirs.run(&log));
        let thread = spawn.map_err(Error::io("start a thread for", std::path::Path::new("the log")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Asks for a sync of everything appended so far.
    pub(crate) fn ask(&self) -> Syncing {
        let mut state = lock(&self.shared.state);
        state.asked += 1;
        self.shared.asked.notify_one();
        Syncing { shared: Arc::clone(&self.shared), request: state.asked }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        lock(&self.shared.state).stopping = true;
        self.shared.asked.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed; there is nothing more to do about it here.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn run(&self, log: &Log) {
        let mut state = lock(&self.state);
        loop {
            if state.asked > state.done {
                let covered = state.done + 1..=state.asked;
                drop(state);
                let outcome = log.sync();
                state = lock(&self.state);
                state.done = *covered.end();
                if let Err(e) = outcome {
                    state.failed = Some((covered, e));
                }
                self.done.notify_all();
            } else if state.stopping {
                return;
            } else {
                state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Syncing {
    /// Waits until the records are durable.
    pub fn wait(self) -> Result<()> {
        let mut state = lock(&self.shared.state);
        while state.done < self.request && !state.stopping {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match &state.failed {
            Some((requests, error)) if requests.contains(&self.request) => Err(error.clone()),
            _ if state.done < self.request => Err(Error::Closed),
            _ => Ok(()),
        }
    }
}
