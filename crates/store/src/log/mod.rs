//! The change log: one checksummed record per step, in plain segment files.
//!
//! Why plain files and not a keyspace of fjall: finishing an ingestion holds fjall's journal lock over its syncs, up to
//! tens of milliseconds, and the commit path would wait for the fold. A few hundred lines of file handling do not.
//!
//! The rules: a record is durable when [`Log::sync`] has returned; a failed write is truncated away, so that a later one
//! can succeed; after a failed sync everything not yet synced is cut, since nobody knows what the disk has of it, and its
//! steps must be appended again; a segment is synced before the next one begins, so only the last can have a torn end.

mod header;
mod replay;
mod segment;
mod syncer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub use replay::Replay;
pub use syncer::Syncing;

use crate::folder::sync_dir;
use crate::{Error, Result, lock};
use header::Header;
use segment::{Active, Closed};
pub(crate) use syncer::Syncer;

/// The log of a store. Shared by the writer, the thread that syncs, and the fold.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    closed: Vec<Closed>,
    active: Option<Active>,
    /// Step of the newest record.
    last: u64,
    /// Newest step known to be on disk.
    synced: u64,
    /// First step that a failed sync took away, until it is appended again.
    lost: Option<u64>,
    /// Appended bytes since the log was opened.
    written: u64,
}

impl Log {
    /// Opens the log: reads its last segment, and cuts a torn record off its end.
    ///
    /// `folded` is the step that the tables stand at; without segments the log continues after it.
    pub(crate) fn open(dir: &Path, segment_bytes: u64, folded: u64) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let found = segment::recover(dir)?;
        let last = found.last.unwrap_or(0).max(folded);
        let state = State { closed: found.closed, active: found.active, last, synced: last, lost: None, written: 0 };
        Ok(Self { dir: dir.to_owned(), segment_bytes, state: Mutex::new(state) })
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

    /// Appends a record without making it durable.
    pub(crate) fn append_unsynced(&self, step: u64, record: &[u8]) -> Result<()> {
        let mut state = lock(&self.state);
        let expected = state.lost.unwrap_or(u64::MAX);
        if step <= state.last || step > expected {
            return Err(Error::Order { step, last: state.last });
        }
        self.roll(&mut state, step, record.len())?;
        let header = Header::of(step, state.last, state.synced, record)?;
        let Some(active) = &mut state.active else { return Err(Error::Closed) };
        active.append(&header, record)?;
        state.last = step;
        state.lost = None;
        state.written += record.len() as u64;
        Ok(())
    }

    /// Makes everything appended so far durable. Several threads may wait here; appending goes on meanwhile.
    pub(crate) fn sync(&self) -> Result<()> {
        let (file, first, step, length) = {
            let state = lock(&self.state);
            if let Some(step) = state.lost {
                return Err(Error::Lost { step });
            }
            let Some(active) = state.active.as_ref().filter(|_| state.synced < state.last) else {
                return Ok(());
            };
            (Arc::clone(&active.file), active.first, state.last, active.length)
        };
        let outcome = file.sync_data();
        let mut state = lock(&self.state);
        let path = segment::path(&self.dir, first);
        if let Err(e) = outcome {
            state.cut_unsynced();
            return Err(Error::io("sync", &path)(e));
        }
        state.synced = state.synced.max(step.min(state.last));
        if let Some(active) = state.active.as_mut().filter(|a| a.first == first) {
            active.synced = active.synced.max(length.min(active.length));
        }
        Ok(())
    }

    /// The records of steps after `folded`, up to the newest one now.
    pub(crate) fn replay(&self, folded: u64) -> Replay {
        let state = lock(&self.state);
        let closed = state.closed.iter().filter(|s| s.last > folded).map(|s| (s.first, s.bytes));
        let active = state.active.as_ref().filter(|_| state.last > folded).map(|a| (a.first, a.length));
        Replay::new(&self.dir, closed.chain(active).collect(), folded)
    }

    /// Removes the segments that hold nothing after `step`.
    pub(crate) fn drop_through(&self, step: u64) -> Result<()> {
        let dropped = {
            let mut state = lock(&self.state);
            let keep = state.closed.partition_point(|s| s.last <= step);
            state.closed.drain(..keep).collect::<Vec<_>>()
        };
        for segment in &dropped {
            let path = segment::path(&self.dir, segment.first);
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        if dropped.is_empty() { Ok(()) } else { sync_dir(&self.dir).map_err(Error::io("sync", &self.dir)) }
    }

    /// Makes sure there is an active segment with room for the record.
    fn roll(&self, state: &mut State, step: u64, bytes: usize) -> Result<()> {
        let full = |a: &Active| a.length > segment::HEADER_BYTES && a.length + bytes as u64 > self.segment_bytes;
        match &state.active {
            Some(active) if !full(active) => return Ok(()),
            Some(active) => {
                if let Err(e) = active.file.sync_data() {
                    let path = segment::path(&self.dir, active.first);
                    state.cut_unsynced();
                    return Err(Error::io("sync", &path)(e));
                }
                state.synced = state.last;
            }
            None => {}
        }
        let next = Active::create(&self.dir, step, state.last)?;
        if let Some(full) = state.active.replace(next) {
            state.closed.push(Closed { first: full.first, last: state.last, bytes: full.length });
        }
        Ok(())
    }
}

impl State {
    /// After a failed sync: what the disk has of the unsynced records is anybody's guess, so they go.
    fn cut_unsynced(&mut self) {
        if self.synced < self.last {
            self.lost = Some(self.synced + 1);
        }
        self.last = self.synced;
        if let Some(active) = &mut self.active {
            active.cut();
        }
    }
}
