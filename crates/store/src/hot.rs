//! The engine's cache of newest values, present and absent: what is touched stays hot, within a byte budget.
//!
//! It holds values of the newest step only. A commit announces its step before it changes the cached values and
//! publishes its view afterwards; a reader whose snapshot is not of the announced step goes past the cache. So a hit is
//! never newer or older than the snapshot it is asked for.
//!
//! A hit costs two cache misses of the processor, one in the table of slots and one at the entry (key and value lie
//! together); a commit writes over a value of the same length without allocating. Eviction is a clock over the slots,
//! with a small count of hits per slot. What is not in the cache is looked for in the view's filter of keys
//! ([`crate::filter`]) before anything is read: most keys that the engine looks for in vain end there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use relation::TableId;

use crate::cached::{Entries, Found};
use crate::part::{Part, hash};
use crate::slice::Slice;
use crate::snapshot::Snapshot;
use crate::{Result, lock};

/// The cache is split so that shards of a large step do not wait for one another.
const SHARDS: usize = 16;
/// Entries of a step from which two threads bring the cache up to date.
const SPLIT_MIN: usize = 4096;

/// Newest values of what was read lately; absence too. For the engine, whose snapshot is always the newest.
pub struct Hot {
    /// The step whose values are cached.
    step: AtomicU64,
    shards: Vec<Mutex<Shard>>,
    capacity: u64,
}

struct Shard {
    entries: Entries,
    hits: u64,
    misses: u64,
}

impl Hot {
    pub(crate) fn new(capacity: u64, step: u64) -> Self {
        let bytes = usize::try_from(capacity).unwrap_or(usize::MAX) / SHARDS;
        let shard = || Mutex::new(Shard { entries: Entries::new(bytes), hits: 0, misses: 0 });
        Self { step: AtomicU64::new(step), shards: (0..SHARDS).map(|_| shard()).collect(), capacity }
    }

    /// The value of a key, from the cache where it is known; a miss is read from the snapshot and remembered.
    pub fn get(&self, snapshot: &Snapshot, table: TableId, key: &[u8]) -> Result<Option<Slice>> {
        self.get_if(snapshot, table, key, true)
    }

    /// As [`Hot::get`], but absence is not remembered: for keys that are mostly new and seldom asked for again, which
    /// would only drive others out.
    pub fn get_seldom(&self, snapshot: &Snapshot, table: TableId, key: &[u8]) -> Result<Option<Slice>> {
        self.get_if(snapshot, table, key, false)
    }

    fn get_if(&self, snapshot: &Snapshot, table: TableId, key: &[u8], absence: bool) -> Result<Option<Slice>> {
        let hash = hash(table, key);
        {
            let mut shard = lock(self.shard(hash));
            if snapshot.step() != self.step.load(Ordering::Acquire) || !snapshot.is_plain() {
                drop(shard);
                return if snapshot.lacks(hash, table) { Ok(None) } else { snapshot.get_hashed(hash, table, key) };
            }
            match shard.entries.get(hash, table, key) {
                Found::Value(value) => {
                    shard.hits += 1;
                    return Ok(Some(value));
                }
                Found::Absent => {
                    shard.hits += 1;
                    return Ok(None);
                }
                Found::Unknown => {}
            }
        }
        // Nothing to remember: the filter knows it.
        if snapshot.lacks(hash, table) {
            return Ok(None);
        }
        let value = snapshot.get_hashed(hash, table, key)?;
        let mut shard = lock(self.shard(hash));
        shard.misses += 1;
        // A commit in between has announced its step: what was read may be old by now.
        if (absence || value.is_some()) && snapshot.step() == self.step.load(Ordering::Acquire) {
            shard.entries.insert(hash, table, key, value.as_deref());
        }
        Ok(value)
    }

    /// Announces a step. From here until its view is published every reader goes past the cache.
    pub(crate) fn begin(&self, step: u64) {
        self.step.store(step, Ordering::Release);
    }

    /// Brings cached values up to date with what a step wrote.
    pub(crate) fn apply(&self, parts: &[(TableId, Arc<Part>)]) {
        let entries: usize = parts.iter().map(|(_, part)| part.len()).sum();
        if entries < SPLIT_MIN {
            self.apply_to(parts, &|_| true);
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| self.apply_to(parts, &|shard| shard % 2 == 1));
            self.apply_to(parts, &|shard| shard % 2 == 0);
        });
    }

    /// The same for some of the shards.
    fn apply_to(&self, parts: &[(TableId, Arc<Part>)], mine: &dyn Fn(usize) -> bool) {
        for (table, part) in parts {
            if part.is_dropped() {
                let shards = self.shards.iter().enumerate().filter(|(i, _)| mine(*i));
                shards.for_each(|(_, shard)| lock(shard).entries.remove_table(*table));
                continue;
            }
            for i in 0..u32::try_from(part.len()).unwrap_or(u32::MAX) {
                let hash = part.hash_of(i);
                if mine(shard_of(hash)) {
                    lock(&self.shards[shard_of(hash)]).entries.update(hash, *table, part.key(i), part.value(i));
                }
            }
        }
    }

    /// Forgets what it knows of tables. Where it knows nothing, as is usual, that is a look per shard.
    pub(crate) fn forget(&self, tables: &BTreeSet<TableId>) {
        for shard in &self.shards {
            let entries = &mut lock(shard).entries;
            for table in tables {
                entries.remove_table(*table);
            }
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).entries.bytes() as u64).sum()
    }

    /// Bytes it may hold.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Reads answered from the cache, and reads that were not, since the store was opened.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.shards.iter().map(lock).fold((0, 0), |(hits, misses), s| (hits + s.hits, misses + s.misses))
    }

    #[inline]
    fn shard(&self, hash: u32) -> &Mutex<Shard> {
        &self.shards[shard_of(hash)]
    }
}

#[inline]
fn shard_of(hash: u32) -> usize {
    (hash >> 28) as usize % SHARDS
}

impl std::fmt::Debug for Hot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hot({} of {} bytes)", self.bytes(), self.capacity)
    }
}
