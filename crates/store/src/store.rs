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
use crate::files::{Files, System};
use crate::filter::{Filter, Told, Walked};
use crate::fold::Pace;
use crate::folder::Folder;
use crate::hot::Hot;
use crate::log::{Log, Place, Replay, Syncer, Syncing};
use crate::merges::Rounds;
use crate::options::Options;
use crate::part::Part;
use crate::room;
use crate::run::{self, Run};
use crate::snapshot::{Snapshot, View};
use crate::stage::{StageId, StageReader, StageWriter, Stages};
use crate::stats::Stats;
use crate::writes::{Prepared, Writes};
use crate::{Error, Result, filter, fold, lock, merges};

/// What [`Store::wait_for_space`] tries to write, and how often.
const SPACE_BYTES: u64 = 1 << 20;
const SPACE_PAUSE: Duration = Duration::from_millis(200);
/// Bytes per second that a fold behind the steps is thought to take before one was seen: on two busy cores.
const BEHIND_RATE: f64 = 20e6;

/// A data folder, open. Clones share it; the last one to go closes it (without a fold: the log has what is not folded).
///
/// One thread writes (append, commit), any number reads.
#[derive(Clone)]
pub struct Store(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    syncer: Syncer,
    /// Those that fold, merge and list the keys for the filter.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the handle and the fold's thread share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) folder: Folder,
    pub(crate) log: Arc<Log>,
    stages: Arc<Stages>,
    pub(crate) disk: Disk,
    pub(crate) hot: Hot,
    /// The published values. Written under `state`'s lock, read without.
    views: RwLock<Views>,
    state: Mutex<State>,
    /// A commit waits for room in the overlay.
    room: Condvar,
    /// The fold's thread waits for work.
    pub(crate) work: Condvar,
    /// Somebody waits for a fold.
    done: Condvar,
    /// The filter's thread waits for the filter to be missing.
    pub(crate) filter_lost: Condvar,
    pub(crate) stopping: AtomicBool,
}

/// What was published: one value, except during a chain of hidden steps.
struct Views {
    /// What readers see: the newest step that was committed in the ordinary way.
    visible: Arc<View>,
    /// What the engine and the fold see: hidden steps included.
    working: Arc<View>,
}

/// Who sees a step once it is committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visibility {
    /// Everybody, and all hidden steps before it.
    Everybody,
    /// The engine alone.
    Hidden,
}

pub(crate) struct State {
    /// Steps up to this one are being folded: their runs stay as they are.
    pub(crate) frozen: u64,
    /// Fold up to this step without delay.
    pub(crate) wanted: u64,
    /// Fold up to this step is done, its log segments dropped.
    pub(crate) finished: u64,
    /// When the oldest of what is not yet folded came.
    pub(crate) waiting_since: Option<Instant>,
    /// Log records from this step on are still needed by somebody.
    retain_from: u64,
    /// Tables that were dropped.
    dropped: BTreeSet<TableId>,
    /// Dropped tables whose entries are still there for some reader, and the fold that dropped them.
    pub(crate) graves: Vec<(TableId, u64)>,
    /// All bases that a reader may hold.
    pub(crate) bases: Vec<Weak<Base>>,
    /// A fold is under way, or what a failed one left is being mended.
    pub(crate) is_folding: bool,
    /// Bytes per second of the last fold that was made behind the steps.
    pub(crate) behind_rate: f64,
    /// Who makes the fold that is due.
    pub(crate) due: Option<Pace>,
    /// Rounds of compaction that are wanted, and under way.
    pub(crate) rounds: Rounds,
    /// A round has failed, and no fold has heard of it.
    pub(crate) merge_failure: Option<Error>,
    pub(crate) failure: Option<Error>,
    /// A filter that is being made of what is stored; what is committed is added to it.
    pub(crate) filter_coming: Option<Arc<Filter>>,
    /// There are more keys than a filter may take.
    pub(crate) filter_given_up: bool,
    pub(crate) stats: Stats,
}

impl Store {
    /// Opens a data folder, or makes a new one. Call [`Store::replay`] next and commit its steps again.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        Self::open_with_files(dir, options, Arc::new(System))
    }

    /// As [`Store::open`], with another way to touch the files of the log and the stages: for tests that let it fail.
    pub fn open_with_files(dir: &Path, options: Options, files: Arc<dyn Files>) -> Result<Self> {
        let folder = Folder::take(dir)?;
        let disk = Disk::open(&folder.dir, options.cache_bytes)?;
        let base = Arc::new(disk.base()?);
        folder.check_tables(base.is_new)?;
        let log = Arc::new(Log::open(&folder.log(), options.segment_bytes, base.folded, &files)?);
        let stages = Arc::new(Stages::open(&folder.staged(), options.stage_bytes, &files)?);
        let dead: Vec<_> = base.dead.iter().copied().collect();
        let graves = match disk.purge(&dead) {
            Ok(()) => Vec::new(),
            // A full disk can be read from; the fold comes back to them.
            Err(error) if error.is_disk_full() => dead.into_iter().map(|table| (table, base.folded)).collect(),
            Err(error) => return Err(error),
        };
        let state = State {
            frozen: 0,
            wanted: 0,
            finished: base.folded,
            waiting_since: None,
            retain_from: u64::MAX,
            dropped: base.dead.clone(),
            graves,
            bases: vec![Arc::downgrade(&base)],
            is_folding: false,
            behind_rate: BEHIND_RATE,
            due: None,
            rounds: Rounds::one(),
            merge_failure: None,
            failure: None,
            filter_coming: None,
            filter_given_up: false,
            stats: Stats::default(),
        };
        let filter = base.is_new.then(|| Arc::new(Filter::new(options.filter_bytes)));
        let view = Arc::new(View::new(base.folded, Vec::new(), base, filter));
        let shared = Arc::new(Shared {
            hot: Hot::new(options.hot_bytes, view.step),
            views: RwLock::new(Views { visible: Arc::clone(&view), working: view }),
            state: Mutex::new(state),
            options,
            folder,
            log,
            stages,
            disk,
            room: Condvar::new(),
            work: Condvar::new(),
            done: Condvar::new(),
            filter_lost: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let syncer = Syncer::start(&shared.log)?;
        // From here on an error ends what was started.
        let handle = Handle { shared: Arc::clone(&shared), syncer, threads: Mutex::default() };
        let behind = shared.options.behind;
        let threads: [(&str, fn(), fn(&Shared)); 5] = [
            ("store-fold", behind, |shared| fold::run(shared, Pace::Behind)),
            ("store-fold-now", || {}, |shared| fold::run(shared, Pace::WithSteps)),
            ("store-merge", behind, |shared| merges::run(shared, Pace::Behind)),
            ("store-merge-now", || {}, |shared| merges::run(shared, Pace::WithSteps)),
            ("store-filter", behind, filter::run),
        ];
        for (name, first, run) in threads {
            let theirs = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                first();
                run(&theirs);
            });
            lock(&handle.threads).push(thread.map_err(Error::io("start a thread for", dir))?);
        }
        Ok(Self(Arc::new(handle)))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// The log's records after the fold, oldest first, to be applied and committed again after opening.
    pub fn replay(&self) -> Result<Replay> {
        Ok(self.shared().log.replay(self.folded_step(), None))
    }

    /// The log's records after a step, as far back as [`Store::retain_from`] kept them; an error of the first item says
    /// that they are gone. From a place where an earlier reader of records up to that step stood ([`Replay::place`]), so that
    /// what lies before it in its segment is not read again.
    pub fn replay_from(&self, step: u64, place: Option<Place>) -> Result<Replay> {
        Ok(self.shared().log.replay(step, place))
    }

    /// Appends a step's record to the log; durable when this returns.
    ///
    /// After an error nothing of it was appended. One that [`Error::is_disk_full`] may be tried again as it is, best after
    /// [`Store::wait_for_space`]; so may one of a sync ([`Store::sync`], [`Store::start_sync`]), whose records are gone from
    /// the log then: from [`Error::Lost`]'s step on where there were several.
    pub fn append(&self, step: u64, record: &[u8]) -> Result<()> {
        self.append_unsynced(step, record)?;
        self.sync()
    }

    /// Appends a step's record, not yet durable. Steps rise.
    pub fn append_unsynced(&self, step: u64, record: &[u8]) -> Result<()> {
        let shared = self.shared();
        shared.folder.take_over()?;
        shared.log.append_unsynced(step, record)
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

    /// Makes a step's writes visible, all at once, and with them those of hidden steps before it. Its record is durable
    /// when this returns, if one was appended.
    ///
    /// Blocks while the overlay is over its budget, until the fold has made room.
    pub fn commit(&self, step: u64, writes: Writes) -> Result<()> {
        self.commit_with(step, writes, Vec::new())
    }

    /// As [`Store::commit`], with writes that were made ready elsewhere; they count as earlier than the step's own, and
    /// each as earlier than the next. Takes as long as there are tables in them, however many their entries.
    pub fn commit_with(&self, step: u64, writes: Writes, prepared: Vec<Prepared>) -> Result<()> {
        self.commit_as(step, writes, prepared, Visibility::Everybody)
    }

    /// Commits a step of a chain: the engine sees it ([`Store::working`]), readers do not, until the next ordinary
    /// [`Store::commit`] makes the whole chain visible at once.
    ///
    /// The fold takes hidden steps as any others, so that a chain may be larger than memory; readers keep what they see
    /// until it ends, at most as much as the overlay may take. After a crash in mid-chain the store opens at the hidden
    /// step that was folded last: *the engine finishes the chain before anybody reads*.
    pub fn commit_hidden(&self, step: u64, writes: Writes) -> Result<()> {
        self.commit_as(step, writes, Vec::new(), Visibility::Hidden)
    }

    /// Commits writes beside the steps, from any thread: to tables that no step writes, and that nobody reads but through
    /// [`Snapshot::beside`]. They take no step's number, and are durable with the next fold.
    ///
    /// Blocks while the overlay is more than half full, so that steps find room.
    pub fn commit_beside(&self, writes: Writes) -> Result<()> {
        let shared = self.shared();
        let parts = Prepared::new(writes)?.into_parts();
        let told = shared.tell_filters(parts.iter());
        let mut state = shared.wait_for_room(2)?;
        shared.publish_beside(&mut state, parts, &told)
    }

    /// Asks for a fold of everything up to the newest step, and does not wait for it.
    pub fn fold_soon(&self) {
        let shared = self.shared();
        let wanted = shared.working().step;
        let mut state = shared.state();
        state.wanted = state.wanted.max(wanted);
        shared.work.notify_all();
    }

    /// Whether a commit can take these writes, as far as that can be known before; what it would answer otherwise.
    pub fn check(&self, writes: &Writes) -> Result<()> {
        writes.check()?;
        let state = self.shared().state();
        match writes.tables().find(|table| state.dropped.contains(table)) {
            Some(table) => Err(Error::Dropped(table)),
            None => Ok(()),
        }
    }

    fn commit_as(&self, step: u64, writes: Writes, prepared: Vec<Prepared>, visibility: Visibility) -> Result<()> {
        let shared = self.shared();
        let parts = writes.into_parts()?;
        if shared.log.synced() < step {
            shared.log.sync()?;
        }
        let parts: Vec<_> = parts.into_iter().map(|(table, part)| (table, Arc::new(part))).collect();
        let prepared: Vec<_> = prepared.into_iter().flat_map(Prepared::into_parts).collect();
        let told = shared.tell_filters(prepared.iter().chain(&parts));
        let state = shared.wait_for_room(1)?;
        shared.publish(state, step, prepared, parts, &told, visibility)
    }

    /// Begins a stage: a file for a transaction that is larger than memory.
    pub fn begin_stage(&self) -> Result<StageWriter> {
        let shared = self.shared();
        shared.folder.take_over()?;
        shared.stages.begin(shared.log.last())
    }

    /// The pieces of a sealed stage.
    pub fn read_stage(&self, id: StageId) -> Result<StageReader> {
        self.read_stage_from(id, 0)
    }

    /// The pieces of a sealed stage from one on; those before it are passed over unread.
    pub fn read_stage_from(&self, id: StageId, piece: u64) -> Result<StageReader> {
        self.shared().stages.read(id, piece)
    }

    /// Removes a sealed stage. Not before [`Store::unneeded_through`] has passed the step that needed it last; after a crash it
    /// may be there once more, and is dropped again.
    pub fn drop_stage(&self, id: StageId) -> Result<()> {
        self.shared().stages.drop_stage(id)
    }

    /// The sealed stages, oldest first.
    pub fn stages(&self) -> Vec<StageId> {
        self.shared().stages.sealed()
    }

    /// Waits until the disk has room again: true once something can be written, false when the time is over. Ends at once
    /// with [`Error::Closed`] when the store closes.
    ///
    /// For a writer whose append failed with [`Error::is_disk_full`]: nothing was appended, so the same append is tried
    /// again afterwards.
    pub fn wait_for_space(&self, timeout: Duration) -> Result<bool> {
        let shared = self.shared();
        let since = now();
        loop {
            if shared.stopping.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            match room::probe(&shared.folder.dir, room::PROBES[1], SPACE_BYTES) {
                Ok(()) => return Ok(true),
                Err(error) if error.is_disk_full() => {}
                Err(error) => return Err(error),
            }
            let left = timeout.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            let state = shared.state();
            if !shared.stopping.load(Ordering::Acquire) {
                drop(shared.room.wait_timeout(state, left.min(SPACE_PAUSE)));
            }
        }
    }

    /// Where the data lie.
    pub fn folder(&self) -> &Path {
        &self.shared().folder.dir
    }

    /// The newest step that readers may see: hidden ones are not in it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.shared().visible())
    }

    /// The newest committed step, hidden or not: for the engine, and for its [`Store::hot`].
    pub fn working(&self) -> Snapshot {
        Snapshot::new(self.shared().working())
    }

    /// The step that the tables on disk stand at: nothing up to it is replayed after a restart.
    pub fn folded_step(&self) -> u64 {
        self.shared().working().base.folded
    }

    /// The engine's cache of newest values.
    pub fn hot(&self) -> &Hot {
        &self.shared().hot
    }

    /// Keeps the log's records from `step` on, whatever is folded; `u64::MAX` keeps none.
    pub fn retain_from(&self, step: u64) {
        self.shared().state().retain_from = step;
    }

    /// Records, and stages, of steps up to this one are needed by nobody: neither for a restart nor by who asked for them
    /// ([`Store::retain_from`]).
    pub fn unneeded_through(&self) -> u64 {
        self.shared().unneeded_through(self.folded_step())
    }

    /// Folds everything up to the newest step, hidden or not, and waits for it.
    pub fn fold_now(&self) -> Result<()> {
        let shared = self.shared();
        let wanted = shared.working().step;
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

    /// As [`Store::fold_now`]; where the disk has no room, which the fold says itself, it waits until there is.
    pub fn fold_when_there_is_room(&self) -> Result<()> {
        loop {
            match self.fold_now() {
                Err(error) if error.is_disk_full() => {
                    let state = self.shared().state();
                    drop(self.shared().room.wait_timeout(state, SPACE_PAUSE));
                }
                ended => return ended,
            }
        }
    }

    /// Folds everything and waits until compaction has nothing more to do.
    pub fn wait_idle(&self) -> Result<()> {
        self.fold_now()?;
        let shared = self.shared();
        loop {
            let changed = shared.disk.compact_once()?;
            let state = shared.state();
            if shared.stopping.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            match (changed, state.rounds.are_wanted()) {
                (false, false) => return Ok(()),
                (false, true) => drop(shared.done.wait_timeout(state, Duration::from_millis(5))),
                (true, _) => {}
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
        let (visible, view) = shared.views();
        let (log_bytes, log_segments) = shared.log.size();
        let (hot_hits, hot_misses) = shared.hot.hits_and_misses();
        let state = shared.state();
        Stats {
            step: visible.step,
            working_step: view.step,
            pinned_bytes: visible.bytes_beside(&view),
            folded_step: view.base.folded,
            overlay_entries: view.entries,
            overlay_bytes: view.bytes,
            overlay_runs: view.runs.len(),
            hot_bytes: shared.hot.bytes(),
            hot_hits,
            hot_misses,
            filter_bytes: view.filter.as_ref().map_or(0, |filter| filter.bytes()),
            log_bytes,
            log_segments,
            staged_bytes: shared.stages.bytes(),
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

    /// What readers see.
    pub(crate) fn visible(&self) -> Arc<View> {
        Arc::clone(&self.views.read().unwrap_or_else(PoisonError::into_inner).visible)
    }

    /// What the engine sees, and what is folded.
    pub(crate) fn working(&self) -> Arc<View> {
        Arc::clone(&self.views.read().unwrap_or_else(PoisonError::into_inner).working)
    }

    /// Both, of one moment.
    fn views(&self) -> (Arc<View>, Arc<View>) {
        let views = self.views.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&views.visible), Arc::clone(&views.working))
    }

    fn set_views(&self, visible: Arc<View>, working: Arc<View>) {
        let new = Views { visible, working };
        let old = std::mem::replace(&mut *self.views.write().unwrap_or_else(PoisonError::into_inner), new);
        // What only the old values held is freed after the lock is.
        drop(old);
    }

    /// Waits until the overlay takes less than its budget, divided by `share`.
    fn wait_for_room(&self, share: u64) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let budget = usize::try_from(self.options.overlay_bytes / share).unwrap_or(usize::MAX).max(1);
        let mut since = None;
        while self.working().bytes >= budget {
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

    /// Publishes a step: what was prepared for it, then what it wrote itself.
    fn publish(
        &self,
        mut state: MutexGuard<'_, State>,
        step: u64,
        prepared: Vec<(TableId, Arc<Part>)>,
        parts: Vec<(TableId, Arc<Part>)>,
        told: &Told,
        visibility: Visibility,
    ) -> Result<()> {
        let (visible, view) = self.views();
        if step <= view.step {
            return Err(Error::Order { step, last: view.step });
        }
        let dropped = dropped_by(&state.dropped, prepared.iter().chain(&parts))?;
        self.hot.begin(step);
        self.hot.apply(&parts);
        if !prepared.is_empty() {
            self.hot.forget(&prepared.iter().map(|(table, _)| *table).collect());
        }
        state.dropped.extend(dropped);
        let filter = self.filter_after(&mut state, &view, told, prepared.iter().chain(&parts));
        let mut runs = view.runs.clone();
        let all: Vec<_> = if prepared.is_empty() { parts } else { prepared.into_iter().chain(parts).collect() };
        if !all.is_empty() {
            runs.push(Arc::new(Run::new(step, step, all)));
            let count = run::mergeable(&runs, state.frozen, &self.options);
            if count > 1
                && let Some(merged) = run::merge(&runs[runs.len() - count..])
            {
                runs.truncate(runs.len() - count);
                runs.push(Arc::new(merged));
            }
        }
        let next = Arc::new(View::new(step, runs, Arc::clone(&view.base), filter));
        let due = fold::is_large(&self.options, &next, state.frozen);
        let first = state.waiting_since.is_none();
        if first {
            state.waiting_since = Some(now());
        }
        match visibility {
            Visibility::Everybody => self.set_views(Arc::clone(&next), next),
            Visibility::Hidden => self.set_views(visible, next),
        }
        if due || first {
            self.work.notify_all();
        }
        Ok(())
    }

    /// Publishes what came beside the steps: the newest step is what it was.
    fn publish_beside(
        &self,
        state: &mut MutexGuard<'_, State>,
        parts: Vec<(TableId, Arc<Part>)>,
        told: &Told,
    ) -> Result<()> {
        let (visible, view) = self.views();
        dropped_by(&state.dropped, parts.iter())?;
        let filter = self.filter_after(state, &view, told, parts.iter());
        let mut runs = view.runs.clone();
        runs.push(Arc::new(Run::beside(view.step, parts)));
        let next = Arc::new(View::new(view.step, runs, Arc::clone(&view.base), filter));
        let due = fold::is_large(&self.options, &next, state.frozen);
        let first = state.waiting_since.is_none();
        if first {
            state.waiting_since = Some(now());
        }
        let visible = if visible.step == next.step { Arc::clone(&next) } else { visible };
        self.set_views(visible, next);
        if due || first {
            self.work.notify_all();
        }
        Ok(())
    }

    /// Tells the keys of parts that will be published to the filter of the newest view, and to one that is being made.
    fn tell_filters<'a>(&self, parts: impl Iterator<Item = &'a (TableId, Arc<Part>)> + Clone) -> Told {
        let coming = self.state().filter_coming.clone();
        Told::of([self.working().filter.clone(), coming], parts)
    }

    /// The filter of the view to come, which knows the keys of parts, as does one that is being made: none where there is no
    /// room in it.
    fn filter_after<'a>(
        &self,
        state: &mut State,
        view: &View,
        told: &Told,
        parts: impl Iterator<Item = &'a (TableId, Arc<Part>)> + Clone,
    ) -> Option<Arc<Filter>> {
        if state.filter_coming.as_ref().is_some_and(|coming| !told.fits(coming, parts.clone())) {
            state.filter_coming = None;
        }
        let filter = view.filter.clone().filter(|filter| told.fits(filter, parts));
        if filter.is_none() && view.filter.is_some() {
            self.filter_lost.notify_all();
        }
        filter
    }

    /// Publishes a filter that was made of a view and has what was committed since. One for which there are too many keys is
    /// given up.
    pub(crate) fn end_filter(&self, made_of: &View, filter: Arc<Filter>, walked: Walked) {
        let mut state = self.state();
        let has_all = state.filter_coming.take().is_some();
        match walked {
            Walked::Failed if has_all => {
                state.stats.filter_failures += 1;
                return;
            }
            Walked::Whole if has_all => {}
            Walked::Whole | Walked::TooMany | Walked::Failed => {
                state.filter_given_up = true;
                return;
            }
        }
        let (visible, working) = self.views();
        let next = Arc::new(working.with_filter(&filter));
        // A view before the one that it was made of may have keys that were deleted since.
        let visible = match visible.step {
            step if step == next.step => Arc::clone(&next),
            step if step >= made_of.step => Arc::new(visible.with_filter(&filter)),
            _ => visible,
        };
        self.set_views(visible, next);
    }

    /// Publishes a new base: the runs that it covers go. Readers of a step before it keep the old one.
    pub(crate) fn publish_base(&self, base: Arc<Base>, folded: &[Arc<Run>]) {
        let mut state = self.state();
        let (visible, working) = self.views();
        state.bases.retain(|base| base.strong_count() > 0);
        state.bases.push(Arc::downgrade(&base));
        state.frozen = 0;
        let next = Arc::new(working.on(&base, folded));
        let visible = match visible.step {
            step if step == next.step => Arc::clone(&next),
            step if step >= base.folded => Arc::new(visible.on(&base, folded)),
            _ => visible,
        };
        self.set_views(visible, next);
        self.room.notify_all();
    }

    /// Stops the store where the thread that holds this panics: a bug, and commits that wait for room must not wait for
    /// ever.
    pub(crate) fn stop_on_panic(&self) -> impl Drop {
        struct StopOnPanic<'a>(&'a Shared);

        impl Drop for StopOnPanic<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.stop();
                }
            }
        }

        StopOnPanic(self)
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
        self.filter_lost.notify_all();
    }

    /// Up to which step nobody needs the log any more, of what is folded.
    fn unneeded_through(&self, folded: u64) -> u64 {
        folded.min(self.state().retain_from.saturating_sub(1))
    }

    /// Removes log segments that neither the fold nor anybody else needs.
    pub(crate) fn drop_log(&self, folded: u64) -> Result<()> {
        self.log.drop_through(self.unneeded_through(folded))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in lock(&self.threads).drain(..) {
            // A panic of that thread has been printed; there is nothing more to do about it here.
            drop(thread.join());
        }
    }
}

/// The tables that these parts drop, or the first that was dropped before: those are never written again.
fn dropped_by<'a>(
    before: &BTreeSet<TableId>,
    parts: impl Iterator<Item = &'a (TableId, Arc<Part>)>,
) -> Result<Vec<TableId>> {
    let mut dropped = Vec::new();
    for (table, part) in parts {
        if before.contains(table) || dropped.contains(table) {
            return Err(Error::Dropped(*table));
        }
        if part.is_dropped() {
            dropped.push(*table);
        }
    }
    Ok(dropped)
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

    /// Keys that could not be listed are listed again.
    #[test]
    fn a_filter_is_made_again_after_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { fold_retry: Duration::from_millis(1), ..Options::default() };
        let store = Store::open(dir.path(), options).unwrap();
        let mut writes = Writes::new();
        writes.put(TableId(16), b"key", b"value");
        store.commit(1, writes).unwrap();
        store.fold_now().unwrap();
        let until = |what: &str, holds: &dyn Fn() -> bool| {
            let seen = (0..100_000_000_u64).any(|_| {
                std::thread::yield_now();
                holds()
            });
            assert!(seen, "never: {what}");
        };
        let shared = store.shared();
        let view = shared.working();
        let tables = std::mem::replace(&mut *view.base.write(), crate::base::Access::Closed);
        {
            let _state = shared.state();
            let without = Arc::new(View::new(view.step, view.runs.clone(), Arc::clone(&view.base), None));
            shared.set_views(Arc::clone(&without), without);
            shared.filter_lost.notify_all();
        }
        until("it fails", &|| store.stats().filter_failures > 0);
        assert_eq!(store.stats().filter_bytes, 0);
        *view.base.write() = tables;
        until("there is a filter", &|| store.stats().filter_bytes > 0);
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
