//! The change log: one checksummed record per step, in plain segment files.
//!
//! Why plain files and not a keyspace of fjall: finishing an ingestion holds fjall's journal lock over its syncs, up to
//! tens of milliseconds, and the commit path would wait for the fold. A few hundred lines of file handling do not.
//!
//! The rules: a record is durable when [`Log::sync`] has returned; a failed write is truncated away, so that the same
//! append can be tried again, and the truncation waits with it where it fails as well; a segment is synced before the next
//! one begins, so only the last can have a torn end.
//!
//! A failed sync is never taken for one that may be repeated: the kernel forgets what it could not write, and says so once.
//! What was not synced is read back, checked, written into a segment of its own and synced there; where that fails too it
//! is cut off, and its steps must be appended again. So no two syncs of one file run at the same time: the other one would
//! be told of success.

mod header;
mod replay;
mod segment;
mod syncer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub(crate) use header::is_later;
pub use replay::{Place, Replay};
pub use syncer::Syncing;

use crate::files::Files;
use crate::{Error, Result, lock};
use header::Header;
use segment::{Active, Closed};
pub(crate) use syncer::Syncer;

/// The log of a store. Shared by the writer, the thread that syncs, and the fold.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    segment_bytes: u64,
    files: Arc<dyn Files>,
    state: Mutex<State>,
    /// A sync outside of the lock has ended.
    synced: Condvar,
}

#[derive(Debug)]
struct State {
    closed: Vec<Closed>,
    active: Option<Active>,
    /// Step of the newest record.
    last: u64,
    /// Newest step known to be on disk.
    synced: u64,
    /// Steps of the records behind it: steps may have gaps.
    unsynced: Vec<u64>,
    /// First step that a failed sync took away, until it is appended again.
    lost: Option<u64>,
    /// How often that happened, and where it did last.
    losses: u64,
    lost_last: u64,
    /// A sync of the active segment is under way, outside of the lock.
    syncing: bool,
}

impl Log {
    /// Opens the log: reads its last segment, and cuts a torn record off its end.
    ///
    /// `folded` is the step that the tables stand at; without segments the log continues after it.
    pub(crate) fn open(dir: &Path, segment_bytes: u64, folded: u64, files: &Arc<dyn Files>) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let found = segment::recover(dir, files)?;
        let last = found.last.unwrap_or(0).max(folded);
        let state = State {
            closed: found.closed,
            active: found.active,
            last,
            synced: last,
            unsynced: Vec::new(),
            lost: None,
            losses: 0,
            lost_last: 0,
            syncing: false,
        };
        Ok(Self {
            dir: dir.to_owned(),
            segment_bytes,
            files: Arc::clone(files),
            state: Mutex::new(state),
            synced: Condvar::new(),
        })
    }

    /// Step of the newest record, or of the fold where that is newer.
    pub(crate) fn last(&self) -> u64 {
        lock(&self.state).last
    }

    /// Newest step on disk.
    pub(crate) fn synced(&self) -> u64 {
        lock(&self.state).synced
    }

    /// Bytes of all segments, and how many there are.
    pub(crate) fn size(&self) -> (u64, usize) {
        let state = lock(&self.state);
        let closed: u64 = state.closed.iter().map(|s| s.bytes).sum();
        let active = state.active.as_ref();
        (closed + active.map_or(0, |a| a.length), state.closed.len() + usize::from(active.is_some()))
    }

    /// Appends a record without making it durable. After an error nothing was appended.
    pub(crate) fn append_unsynced(&self, step: u64, record: &[u8]) -> Result<()> {
        let mut state = lock(&self.state);
        let mut header = Header::of(step, 0, 0, record)?;
        if self.is_full(&state, record.len()) {
            // The segment is synced under the lock then, and by nobody else.
            state = self.wait_for_sync(state);
        }
        if step <= state.last {
            return Err(Error::Order { step, last: state.last });
        }
        if let Some(lost) = state.lost.filter(|lost| step > *lost) {
            return Err(Error::Lost { step: lost });
        }
        self.roll(&mut state, step, record.len())?;
        (header.previous, header.synced) = (state.last, state.synced);
        let Some(active) = &mut state.active else { return Err(Error::Closed) };
        active.append(&*self.files, &header, record)?;
        state.last = step;
        state.unsynced.push(step);
        state.lost = None;
        Ok(())
    }

    /// Makes everything appended so far durable. Several threads may wait here; appending goes on meanwhile.
    pub(crate) fn sync(&self) -> Result<()> {
        let mut state = lock(&self.state);
        let (wanted, losses) = (state.last, state.losses);
        loop {
            if let Some(step) = state.lost {
                return Err(Error::Lost { step });
            }
            if state.losses != losses {
                return Err(Error::Lost { step: state.lost_last });
            }
            if state.synced >= wanted {
                return Ok(());
            }
            if !state.syncing {
                break;
            }
            state = self.wait(state);
        }
        let Some(active) = &state.active else { return Ok(()) };
        let (file, first, step, length) = (Arc::clone(&active.file), active.first, state.last, active.length);
        let path = active.path.clone();
        state.syncing = true;
        drop(state);
        let outcome = self.files.sync(&file, &path);
        let mut state = lock(&self.state);
        state.syncing = false;
        self.synced.notify_all();
        if let Err(e) = outcome {
            return self.after_failed_sync(&mut state, Error::io("sync", &path)(e));
        }
        let synced = state.synced.max(step.min(state.last));
        state.synced_through(synced);
        if let Some(active) = state.active.as_mut().filter(|a| a.first == first) {
            active.synced = active.synced.max(length.min(active.length));
        }
        Ok(())
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.synced.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_sync<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.syncing {
            state = self.wait(state);
        }
        state
    }

    /// Saves what was not synced into a segment of its own; where that fails too, cuts it off, and answers with why the
    /// sync had failed.
    fn after_failed_sync(&self, state: &mut State, error: Error) -> Result<()> {
        match self.rewrite_unsynced(state) {
            Ok(()) => {
                tracing::warn!(%error, "the end of the log was written again into a new segment");
                Ok(())
            }
            Err(second) => {
                tracing::warn!(%error, %second, "the end of the log is cut off and must be appended again");
                state.cut_unsynced(&*self.files);
                Err(error)
            }
        }
    }

    fn rewrite_unsynced(&self, state: &mut State) -> Result<()> {
        let Some(active) = &mut state.active else { return Ok(()) };
        let Some((step, tail)) = active.unsynced()? else { return Ok(()) };
        // First out of the old segment, for good: a step must not be there twice.
        active.cut(&*self.files)?;
        self.files.sync(&active.file, &active.path).map_err(Error::io("sync", &active.path))?;
        if active.is_empty() {
            // The new one takes its name.
            self.files.remove(&active.path).map_err(Error::io("remove", &active.path))?;
            state.active = None;
        }
        let mut next = Active::create(&self.dir, step, state.synced, &self.files)?;
        if let Err(e) = next.restore(&*self.files, &tail) {
            // The error that is told is the first one.
            drop(self.files.remove(&next.path));
            return Err(e);
        }
        if let Some(old) = state.active.replace(next) {
            state.closed.push(Closed { first: old.first, last: state.synced, bytes: old.length });
        }
        state.synced_through(state.last);
        Ok(())
    }

    /// The records of steps after `folded`, up to the newest one now; those before a place are known to be older.
    pub(crate) fn replay(&self, folded: u64, place: Option<Place>) -> Replay {
        let state = lock(&self.state);
        let closed = state.closed.iter().filter(|s| s.last > folded).map(|s| (s.first, s.bytes));
        let active = state.active.as_ref().filter(|_| state.last > folded).map(|a| (a.first, a.length));
        Replay::new(&self.dir, closed.chain(active).collect(), folded, place)
    }

    /// Removes the segments that hold nothing after `step`.
    pub(crate) fn drop_through(&self, step: u64) -> Result<()> {
        let mut dropped: Vec<Closed> = {
            let mut state = lock(&self.state);
            let keep = state.closed.partition_point(|s| s.last <= step);
            state.closed.drain(..keep).collect()
        };
        for at in 0..dropped.len() {
            let path = segment::path(&self.dir, dropped[at].first);
            if let Err(e) = self.files.remove(&path) {
                // These are still to be removed.
                lock(&self.state).closed.splice(..0, dropped.drain(at..));
                return Err(Error::io("remove", &path)(e));
            }
        }
        if dropped.is_empty() {
            return Ok(());
        }
        self.files.sync_folder(&self.dir).map_err(Error::io("sync", &self.dir))
    }

    /// Whether a record of this length begins a new segment.
    fn is_full(&self, state: &State, bytes: usize) -> bool {
        state.active.as_ref().is_some_and(|a| !a.is_empty() && a.length + bytes as u64 > self.segment_bytes)
    }

    /// Makes sure there is an active segment with room for the record.
    fn roll(&self, state: &mut State, step: u64, bytes: usize) -> Result<()> {
        if state.active.is_some() && !self.is_full(state, bytes) {
            return Ok(());
        }
        if let Some(active) = &mut state.active {
            active.clean(&*self.files)?;
            if let Err(e) = self.files.sync(&active.file, &active.path) {
                let error = Error::io("sync", &active.path)(e);
                // On success the rest is in a segment of its own, which takes the record.
                return self.after_failed_sync(state, error);
            }
            active.synced = active.length;
            state.synced_through(state.last);
        }
        let next = Active::create(&self.dir, step, state.last, &self.files)?;
        if let Some(full) = state.active.replace(next) {
            state.closed.push(Closed { first: full.first, last: state.last, bytes: full.length });
        }
        Ok(())
    }
}

impl State {
    /// The disk has the records up to a step.
    fn synced_through(&mut self, step: u64) {
        self.synced = step;
        self.unsynced.retain(|unsynced| *unsynced > step);
    }

    /// After a failed sync: what the disk has of the unsynced records is anybody's guess, so they go.
    fn cut_unsynced(&mut self, files: &dyn Files) {
        if let Some(first) = std::mem::take(&mut self.unsynced).first() {
            self.lost = Some(*first);
            self.losses += 1;
            self.lost_last = *first;
        }
        self.last = self.synced;
        if let Some(active) = &mut self.active {
            // Where that fails the next append tries again.
            drop(active.cut(files));
            if active.is_empty() {
                // Its own head may be among what was lost: the next append makes it anew.
                drop(files.remove(&active.path));
                self.active = None;
            }
        }
    }
}
