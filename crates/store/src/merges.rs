//! Merges of the tables: two threads that run a round of compaction for each fold, and what they keep for that.
//!
//! A round has the priority of the fold that asked for it ([`Pace`]): folds wait where rounds do not keep up with them.
//!
//! The library removes the files of a merge where its list of versions loses the last that has them: under the lock that
//! every read takes, and closing and unlinking half a gigabyte of files takes half a second, during which nobody reads
//! anything. So each version is held here as well until the library has let go of it: its files go when the hold does, on
//! the thread that merged and under no lock. For that all merges are made by Tidemill's own threads, and the library has none.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use fjall::{AbstractTree as _, Keyspace};

use crate::fold::Pace;
use crate::lock;
use crate::store::Shared;

/// Versions of a keyspace's tables, oldest first: each that the library may still know.
#[derive(Default)]
pub(crate) struct Versions(Mutex<VecDeque<Held>>);

/// A version's number, and what keeps its files: of a type for which the library has no name.
struct Held {
    id: u64,
    _version: Box<dyn Send>,
}

impl Versions {
    /// Holds the newest version. To be called before and after whatever makes one.
    pub(crate) fn hold(&self, keyspace: &Keyspace) {
        let version = keyspace.tree.current_version();
        let id = version.id();
        let mut held = lock(&self.0);
        // Two threads may come with what they saw in either order; which is the older is told by the number.
        let place = held.partition_point(|held| held.id < id);
        if held.get(place).is_none_or(|held| held.id != id) {
            held.insert(place, Held { id, _version: Box::new(version) });
        }
    }

    /// Lets go of those that the library has let go of; their files are removed here and now.
    pub(crate) fn release(&self, keyspace: &Keyspace) {
        let known = keyspace.tree.version_free_list_len() + 1;
        let gone: Vec<_> = {
            let mut held = lock(&self.0);
            let count = held.len().saturating_sub(known);
            held.drain(..count).collect()
        };
        drop(gone);
    }

    /// Lets go of all, before the tables are opened again in place: a file that was removed later might be a new one.
    pub(crate) fn release_all(&self) {
        let gone = std::mem::take(&mut *lock(&self.0));
        drop(gone);
    }
}

impl std::fmt::Debug for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(lock(&self.0).iter().map(|held| held.id)).finish()
    }
}

/// Rounds of compaction.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// Behind the steps.
    behind: u32,
    /// Beside them.
    with_steps: u32,
    under_way: u32,
}

impl Rounds {
    /// What is wanted when the tables are opened: the end may have come in the middle of one.
    pub(crate) fn one() -> Self {
        Self { behind: 1, with_steps: 0, under_way: 0 }
    }

    pub(crate) fn ask(&mut self, pace: Pace) {
        *self.of(pace) += 1;
    }

    fn of(&mut self, pace: Pace) -> &mut u32 {
        match pace {
            Pace::Behind => &mut self.behind,
            Pace::WithSteps => &mut self.with_steps,
        }
    }

    /// Whether one is to come, or under way.
    pub(crate) fn are_wanted(&self) -> bool {
        self.behind + self.with_steps + self.under_way > 0
    }
}

/// A thread's life: the rounds of its pace. A failure is the next fold's, which opens the tables again.
pub(crate) fn run(shared: &Shared, pace: Pace) {
    let _guard = shared.stop_on_panic();
    while next(shared, pace) {
        let outcome = shared.disk.compact_once();
        let mut state = shared.state();
        state.rounds.under_way -= 1;
        if let Err(error) = outcome {
            state.merge_failure = Some(error);
        }
        drop(state);
        shared.notify();
    }
}

/// Waits until a round is wanted; false when the store closes.
fn next(shared: &Shared, pace: Pace) -> bool {
    let mut state = shared.state();
    loop {
        if shared.stopping.load(Ordering::Acquire) {
            return false;
        }
        if *state.rounds.of(pace) > 0 {
            *state.rounds.of(pace) -= 1;
            state.rounds.under_way += 1;
            return true;
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use relation::TableId;

    use crate::{Options, Store, Writes};

    fn table_files(dir: &Path) -> usize {
        let keyspaces = std::fs::read_dir(dir.join("tables/keyspaces")).unwrap();
        let folders = keyspaces.map(|folder| folder.unwrap().path().join("tables")).filter(|folder| folder.is_dir());
        folders.map(|folder| std::fs::read_dir(folder).unwrap().count()).max().unwrap()
    }

    /// What a merge has replaced stays while somebody reads it, and is gone from the disk afterwards.
    #[test]
    fn files_of_a_merge_go_with_their_readers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let put = |step: u64| {
            let mut writes = Writes::new();
            writes.put(TableId(16), b"key", &step.to_be_bytes());
            store.commit(step, writes).unwrap();
            store.fold_now().unwrap();
        };
        (1..=10).for_each(put);
        let reader = store.snapshot();
        (11..=20).for_each(put);
        store.compact().unwrap();
        assert_eq!(reader.get(TableId(16), b"key").unwrap().as_deref(), Some(&10_u64.to_be_bytes()[..]));
        drop(reader);
        // A merge lets go of what nobody reads: of what was merged a few folds before it.
        for step in 21..=50 {
            put(step);
            store.compact().unwrap();
        }
        let files = table_files(dir.path());
        assert!(files <= 6, "{files} files for one key");
        assert_eq!(store.snapshot().get(TableId(16), b"key").unwrap().as_deref(), Some(&50_u64.to_be_bytes()[..]));
    }
}
