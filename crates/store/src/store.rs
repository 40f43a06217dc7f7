//! The store's handle: appending, committing, publishing. The fold is next door.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relation::TableId;

use crate::base::Base;
use crate::disk::Disk;
use crate::folder::Folder;
use crate::hot::Hot;
use crate::log::{Log, Replay, Syncer, Syncing};
use crate::options::Options;
use crate::part::Part;
use crate::run::{self, Run};
use crate::snapshot::{Snapshot, View};
use crate::stats::Stats;
use crate::writes::Writes;
use crate::{Error, Result, fold, lock};

/// A data folder, open. Clones share it; the last one to go closes it (without a fold: the log has what is not folded).
///
/// One thread writes (append, commit), any number reads.
#[derive(Clone)]
pub struct Store(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    syncer: Syncer,
    fold: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle and the fold's thread share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) folder: Folder,
    pub(crate) log: Arc<Log>,
    pub(crate) disk: Disk,
    pub(crate) hot: Hot,
    /// The published value. Written under `state`'s lock, read without.
    view: RwLock<Arc<View>>,
    state: Mutex<State>,
    /// A commit waits for room in the overlay.
    room: Condvar,
    /// The fold's thread waits for work.
    pub(crate) work: Condvar,
    /// Somebody waits for a fold.
    done: Condvar,
    pub(crate) stopping: AtomicBool,
}

pub(crate) struct State {
    /// Steps up to this one are being folded: their runs stay as they are.
    pub(crate) frozen: u64,
    /// Fold up to this step without delay.
    pub(crate) wanted: u64,
    /// Fold up to this step is done, its log segments dropped.
    pub(crate) finished: u64,
    /// When the oldest step not yet folded came.
    pub(crate) waiting_since: Option<Instant>,
    /// Log records from this step on are still needed by somebody.
    retain_from: u64,
    /// Tables that were dropped.
    dropped: BTreeSet<TableId>,
    /// Dropped tables whose entries are still there for some reader, and the fold that dropped them.
    pub(crate) graves: Vec<(TableId, u64)>,
    /// All bases that a reader may hold.
    pub(crate) bases: Vec<Weak<Base>>,
    pub(crate) failure: Option<Error>,
    pub(crate) stats: Stats,
}

impl Store {
    /// Opens a data folder, or makes a new one. Call [`Store::replay`] next and commit its steps again.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        let folder = Folder::take(dir)?;
        let disk = Disk::open(&folder.tables(), options.cache_bytes)?;
        let base = Arc::new(disk.base()?);
        let log = Arc::new(Log::open(&folder.log(), options.segment_bytes, base.folded)?);
        disk.purge(&base.dead.iter().copied().collect::<Vec<_>>())?;
        let state = State {
            frozen: 0,
            wanted: 0,
            finished: base.folded,
            waiting_since: None,
            retain_from: u64::MAX,
            dropped: base.dead.clone(),
            graves: Vec::new(),
            bases: vec![Arc::downgrade(&base)],
            failure: None,
            stats: Stats::default(),
        };
        let shared = Arc::new(Shared {
            hot: Hot::new(options.hot_bytes, base.folded),
            view: RwLock::new(Arc::new(View::new(base.folded, Vec::new(), base))),
            state: Mutex::new(state),
            options,
            folder,
            log,
            disk,
            room: Condvar::new(),
            work: Condvar::new(),
            done: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let syncer = Syncer::start(&shared.log)?;
        let theirs = Arc::clone(&shared);
        let spawn = std::thread::Builder::new().name("store-fold".to_owned()).spawn(move || fold::run(&theirs));
        let thread = spawn.map_err(Error::io("start a thread for", dir))?;
        Ok(Self(Arc::new(Handle { shared, syncer, fold: Mutex::new(Some(thread)) })))
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// The log's records after the fold, oldest first, to be applied and committed again after opening.
    pub fn replay(&self) -> Result<Replay> {
        let folded = self.shared().view().base.folded;
        Ok(self.shared().log.replay(folded))
    }

    /// The log's records after a step, as far back as [`Store::retain_from`] kept them; an error of the first item says
    /// that they are gone.
    pub fn replay_from(&self, step: u64) -> Result<Replay> {
        Ok(self.shared().log.replay(step))
    }

    /// Appends a step's record to the log; durable when this returns.
    pub fn append(&self, step: u64, record: &[u8]) -> Result<()> {
        self.append_unsynced(step, record)?;
        self.sync()
    }

    /// Appends a step's record, not yet durable. Steps rise.
    pub fn append_unsynced(&self, step: u64, record: &[u8]) -> Result<()> {
        self.shared().log.append_unsynced(step, record)
    }

    /// Makes all appended records durable.
    pub fn sync(&self) -> Result<()> {
        self.shared().log.sync()
    }

    /// Starts making all appended records durable, on a thread of the store; the caller computes on.
    pub fn start_sync(&self) -> Syncing {
        self.0.syncer.ask()
    }

    /// Newest step of the log; of the fold where that is newer.
    pub fn last_logged(&self) -> u64 {
        self.shared().log.last()
    }

    /// Makes a step's writes visible, all at once. Its record is durable when this returns, if one was appended.
    ///
    /// Blocks while the overlay is over its budget, until the fold has made room.
    pub fn commit(&self, step: u64, writes: Writes) -> Result<()> {
        let shared = self.shared();
        let parts = writes.into_parts()?;
        if shared.log.synced() < step {
            shared.log.sync()?;
        }
        let parts: Vec<_> = parts.into_iter().map(|(table, part)| (table, Arc::new(part))).collect();
        let state = shared.wait_for_room()?;
        shared.publish(state, step, parts)
    }

    /// Where the data lie.
    pub fn folder(&self) -> &Path {
        &self.shared().folder.dir
    }

    /// The newest published step.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.shared().view())
    }

    /// The engine's cache of newest values.
    pub fn hot(&self) -> &Hot {
        &self.shared().hot
    }

    /// Keeps the log's records from `step` on, whatever is folded; `u64::MAX` keeps none.
    pub fn retain_from(&self, step: u64) {
        self.shared().state().retain_from = step;
    }

    /// Folds everything up to the newest step, and waits for it.
    pub fn fold_now(&self) -> Result<()> {
        let shared = self.shared();
        let wanted = shared.view().step;
        let mut state = shared.state();
        // An old failure is no answer to this request.
        state.failure = None;
        state.wanted = state.wanted.max(wanted);
        shared.work.notify_all();
        while state.finished < wanted {
            if let Some(error) = &state.failure {
                return Err(error.clone());
            }
            if shared.stopping.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            state = shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Folds everything and waits until compaction has nothing more to do.
    pub fn wait_idle(&self) -> Result<()> {
        self.fold_now()?;
        let shared = self.shared();
        loop {
            let changed = shared.disk.compact_once()?;
            if !changed && !shared.disk.is_compacting() {
                return Ok(());
            }
            if !changed {
                let state = shared.state();
                drop(shared.done.wait_timeout(state, Duration::from_millis(5)));
            }
        }
    }

    /// Ends the background work, and every commit that waits for room, with [`Error::Closed`]; reading goes on. For a
    /// shutdown while other threads still hold the store.
    pub fn close(&self) {
        self.shared().stop();
    }

    /// Folds everything and rewrites the tables without what is obsolete: for measuring disk space.
    pub fn compact(&self) -> Result<()> {
        self.wait_idle()?;
        self.shared().disk.compact_all()
    }

    /// How the store is doing.
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let view = shared.view();
        let (log_bytes, log_segments) = shared.log.size();
        let (hot_hits, hot_misses) = shared.hot.hits_and_misses();
        let state = shared.state();
        Stats {
            step: view.step,
            folded_step: view.base.folded,
            overlay_entries: view.entries,
            overlay_bytes: view.bytes,
            overlay_runs: view.runs.len(),
            hot_bytes: shared.hot.bytes(),
            hot_hits,
            hot_misses,
            log_bytes,
            log_segments,
            disk_bytes: shared.disk.bytes(),
            level0_tables: shared.disk.level0_tables(),
            last_error: state.failure.clone(),
            ..state.stats.clone()
        }
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The published value.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_view(&self, view: View) {
        let new = Arc::new(view);
        let old = std::mem::replace(&mut *self.view.write().unwrap_or_else(PoisonError::into_inner), new);
        // What only the old value held is freed after the lock is.
        drop(old);
    }

    fn wait_for_room(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let budget = usize::try_from(self.options.overlay_bytes).unwrap_or(usize::MAX);
        let mut since = None;
        while self.view().bytes >= budget {
            if self.stopping.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            since.get_or_insert_with(now);
            self.work.notify_all();
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(since) = since {
            state.stats.commit_wait += since.elapsed();
        }
        Ok(state)
    }

    fn publish(&self, mut state: MutexGuard<'_, State>, step: u64, parts: Vec<(TableId, Arc<Part>)>) -> Result<()> {
        let view = self.view();
        if step <= view.step {
            return Err(Error::Order { step, last: view.step });
        }
        if let Some((table, _)) = parts.iter().find(|(table, _)| state.dropped.contains(table)) {
            return Err(Error::Dropped(*table));
        }
        self.hot.begin(step);
        self.hot.apply(&parts);
        for (table, part) in &parts {
            if part.is_dropped() {
                state.dropped.insert(*table);
            }
        }
        let mut runs = view.runs.clone();
        if !parts.is_empty() {
            runs.push(Arc::new(Run::new(step, step, parts)));
            let count = run::mergeable(&runs, state.frozen, self.options.merge_entries_max);
            if count > 1 {
                let merged = run::merge(&runs[runs.len() - count..]);
                runs.truncate(runs.len() - count);
                runs.push(Arc::new(merged));
            }
        }
        let next = View::new(step, runs, Arc::clone(&view.base));
        let due = fold::is_large(&self.options, &next, state.frozen);
        let first = state.waiting_since.is_none();
        if first {
            state.waiting_since = Some(now());
        }
        self.set_view(next);
        if due || first {
            self.work.notify_all();
        }
        Ok(())
    }

    /// Publishes a new base: the runs that it covers go.
    pub(crate) fn publish_base(&self, base: Arc<Base>) {
        let mut state = self.state();
        let view = self.view();
        let runs = view.runs.iter().filter(|run| run.last > base.folded).cloned().collect();
        state.bases.retain(|base| base.strong_count() > 0);
        state.bases.push(Arc::downgrade(&base));
        state.frozen = 0;
        self.set_view(View::new(view.step, runs, base));
        self.room.notify_all();
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        // Under the lock: nobody may look before and wait after.
        let _state = self.state();
        self.notify();
    }

    /// Tells everybody who waits that something has changed.
    pub(crate) fn notify(&self) {
        self.room.notify_all();
        self.work.notify_all();
        self.done.notify_all();
    }

    /// Removes log segments that neither the fold nor anybody else needs.
    pub(crate) fn drop_log(&self, folded: u64) -> Result<()> {
        let retain = self.state().retain_from;
        self.log.drop_through(folded.min(retain.saturating_sub(1)))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = lock(&self.fold).take() {
            // A panic of that thread has been printed; there is nothing more to do about it here.
            drop(thread.join());
        }
    }
}

/// The clock, for deadlines of folds and figures about them; no stored value depends on it.
#[expect(clippy::disallowed_methods, reason = "measures durations at the rim; nothing replayed depends on it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.shared().folder.dir.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The store and what it hands out go from thread to thread.
    #[test]
    fn travels() {
        fn anywhere<T: Send + Sync>() {}
        fn between<T: Send>() {}
        anywhere::<Store>();
        anywhere::<Snapshot>();
        anywhere::<crate::Slice>();
        between::<crate::Scan>();
        between::<Writes>();
        between::<Replay>();
        between::<Syncing>();
    }

    /// A commit that waits for room ends when the store closes.
    #[test]
    fn close_ends_a_waiting_commit() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { overlay_bytes: 1, fold_retry: Duration::from_secs(3600), ..Options::default() };
        let store = Store::open(dir.path(), options).unwrap();
        let put = |step: u64| {
            let mut writes = Writes::new();
            writes.put(TableId(16), &step.to_be_bytes(), b"value");
            store.commit(step, writes)
        };
        put(1).unwrap();
        store.close();
        // Either the fold was quicker, or the commit is told.
        while store.snapshot().step() < 3 {
            let next = store.snapshot().step() + 1;
            match put(next) {
                Ok(()) => {}
                Err(Error::Closed) => return,
                Err(e) => panic!("{e}"),
            }
        }
        panic!("commits went on without a fold");
    }
}
