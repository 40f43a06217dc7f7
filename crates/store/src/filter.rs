//! Which keys may be there: a filter in memory over the entries of all tables, so that looking for a key that is new costs
//! no read.
//!
//! Law: a view's filter knows every key that has a value in the view; of others it may be wrong. It only grows: a key that
//! was deleted stays, and a newer view has the same filter with more in it. So a commit adds its keys before its view is
//! published ([`Told`]). Where there is no filter, every key may be there: after a store was opened until its tables were walked
//! once ([`run`]), and when the filter has outgrown its budget. A walk that cannot come to its end is not begun, as far as
//! that is known before; one that failed is begun again.
//!
//! Keys are known by their 32-bit hash, which they have in the overlay too. A layer is a Bloom filter of blocks of 256 bits,
//! one of them per key (Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom Filters", WEA 2007); when one is
//! full, one eight times as large comes after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

use relation::TableId;

use crate::Result;
use crate::part::{Part, hash};
use crate::snapshot::View;
use crate::store::Shared;

/// Bits of a filter per key: one new key in about a hundred is looked for in vain.
const KEY_BITS: u64 = 12;
/// Keys of the first layer: 96 KiB.
const FIRST_KEYS: u64 = 1 << 16;
/// How many times as large as the layer before it a layer is.
const GROWTH: u64 = 8;
/// The last one is of more keys than there are hashes.
const LAYERS_MAX: usize = 7;
/// Words of a block, of each of which a key takes two bits.
const WORDS: usize = 4;
const BLOCK_BYTES: u64 = size_of::<Block>() as u64;

/// The keys of a store; see the module.
pub(crate) struct Filter {
    layers: [OnceLock<Layer>; LAYERS_MAX],
    /// Bytes that all layers together may take.
    bytes_max: u64,
}

/// The filter has no room for more keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

struct Layer {
    blocks: Box<[Block]>,
    keys_max: u64,
    keys: AtomicU64,
}

#[derive(Default)]
#[repr(align(32))]
struct Block([AtomicU64; WORDS]);

/// The bits of a key in any layer: which block, as a fraction of all, and which bits of its words.
struct Bits {
    block: u64,
    words: [u64; WORDS],
}

impl Bits {
    #[inline]
    fn of(hash: u32) -> Self {
        let mut mixed = u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let block = mixed >> 32;
        mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mut words = [0; WORDS];
        for word in &mut words {
            *word = (1 << (mixed >> 58)) | (1 << ((mixed >> 52) & 63));
            mixed <<= 12;
        }
        Self { block, words }
    }
}

impl Layer {
    fn new(keys_max: u64) -> Self {
        let blocks = (keys_max * KEY_BITS).div_ceil(8 * BLOCK_BYTES).max(1);
        let blocks = (0..blocks).map(|_| Block::default()).collect();
        Self { blocks, keys_max, keys: AtomicU64::new(0) }
    }

    fn bytes(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.keys.load(Ordering::Relaxed) < self.keys_max
    }

    #[inline]
    fn block(&self, bits: &Bits) -> &Block {
        let at = ((bits.block * self.blocks.len() as u64) >> 32) as usize;
        &self.blocks[at]
    }

    #[inline]
    fn has(&self, bits: &Bits) -> bool {
        let block = self.block(bits);
        block.0.iter().zip(bits.words).all(|(word, bits)| word.load(Ordering::Relaxed) & bits == bits)
    }

    #[inline]
    fn add(&self, bits: &Bits) {
        let block = self.block(bits);
        block.0.iter().zip(bits.words).for_each(|(word, bits)| {
            word.fetch_or(bits, Ordering::Relaxed);
        });
        self.keys.fetch_add(1, Ordering::Relaxed);
    }
}

impl Filter {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { layers: Default::default(), bytes_max }
    }

    /// Whether a key of this hash may be there.
    #[inline]
    pub(crate) fn may_have(&self, hash: u32) -> bool {
        let bits = Bits::of(hash);
        self.layers().any(|layer| layer.has(&bits))
    }

    /// Adds a key. Readers who shall know of it get the view that is published afterwards.
    pub(crate) fn add(&self, hash: u32) -> std::result::Result<(), Full> {
        let bits = Bits::of(hash);
        let mut newest = None;
        for layer in self.layers() {
            if layer.has(&bits) {
                return Ok(());
            }
            newest = Some(layer);
        }
        match newest.filter(|layer| layer.has_room()) {
            Some(layer) => layer.add(&bits),
            None => self.grow()?.add(&bits),
        }
        Ok(())
    }

    /// How many keys it can take at most, about.
    fn capacity(&self) -> u64 {
        self.bytes_max.saturating_mul(8) / KEY_BITS
    }

    /// Adds all keys of a part, those that it deletes excluded.
    pub(crate) fn add_part(&self, part: &Part) -> std::result::Result<(), Full> {
        let entries = 0..u32::try_from(part.len()).unwrap_or(u32::MAX);
        entries.filter(|&i| !part.is_deleted(i)).try_for_each(|i| self.add(part.hash_of(i)))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.layers().map(Layer::bytes).sum()
    }

    #[inline]
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().map_while(OnceLock::get)
    }

    /// One more layer, as large as the budget allows; the one that another thread was quicker with.
    fn grow(&self) -> std::result::Result<&Layer, Full> {
        let last = self.layers().last();
        if let Some(last) = last.filter(|last| last.has_room()) {
            return Ok(last);
        }
        let keys = last.map_or(FIRST_KEYS, |layer| layer.keys_max.saturating_mul(GROWTH));
        let left = self.bytes_max.saturating_sub(self.bytes()).saturating_mul(8) / KEY_BITS;
        if left < FIRST_KEYS {
            return Err(Full);
        }
        let free = self.layers.iter().find(|layer| layer.get().is_none()).ok_or(Full)?;
        Ok(free.get_or_init(|| Layer::new(keys.min(left))))
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} of {} bytes)", self.bytes(), self.bytes_max)
    }
}

/// Filters that know the keys of a commit on its way, or have no room for them.
///
/// The keys of a commit are told to the filters before the store is locked for it, so that nothing is done per key under its
/// lock. Which filters there are may change in between, seldom: one that is new then is told under the lock.
pub(crate) struct Told([Option<(Arc<Filter>, std::result::Result<(), Full>)>; 2]);

impl Told {
    /// Tells these filters, as far as they are there, the keys of parts.
    pub(crate) fn of<'a>(
        filters: [Option<Arc<Filter>>; 2],
        parts: impl Iterator<Item = &'a (TableId, Arc<Part>)> + Clone,
    ) -> Self {
        Self(filters.map(|filter| {
            let filter = filter?;
            let fits = parts.clone().try_for_each(|(_, part)| filter.add_part(part));
            Some((filter, fits))
        }))
    }

    /// Whether a filter has room for the keys; it knows them afterwards.
    pub(crate) fn fits<'a>(
        &self,
        filter: &Arc<Filter>,
        mut parts: impl Iterator<Item = &'a (TableId, Arc<Part>)>,
    ) -> bool {
        let told = self.0.iter().flatten().find(|(told, _)| Arc::ptr_eq(told, filter));
        let fits = match told {
            Some((_, fits)) => *fits,
            None => parts.try_for_each(|(_, part)| filter.add_part(part)),
        };
        fits.is_ok()
    }
}

/// What a walk through the keys of a view came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walked {
    /// The filter knows them all.
    Whole,
    /// There are more of them than it may take.
    TooMany,
    /// It could not go on.
    Failed,
}

/// The life of the thread that makes a filter of what is stored, where there is none.
pub(crate) fn run(shared: &Shared) {
    while let Some((view, filter)) = begin(shared) {
        let walked = fill(shared, &view, &filter).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the keys that there are, and tries again; looking for new ones takes reads until then");
            Walked::Failed
        });
        shared.end_filter(&view, filter, walked);
        if walked == Walked::Failed && !pause(shared) {
            return;
        }
    }
}

/// Waits until a walk that failed is worth another try; false when the store closes.
fn pause(shared: &Shared) -> bool {
    let until = crate::store::now() + shared.options.fold_retry;
    let mut state = shared.state();
    loop {
        if shared.stopping.load(Ordering::Acquire) {
            return false;
        }
        let left = until.saturating_duration_since(crate::store::now());
        if left.is_zero() {
            return true;
        }
        state = shared.filter_lost.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Waits until a filter is missing, and begins one: from here on it gets what is committed. None when the store closes.
fn begin(shared: &Shared) -> Option<(Arc<View>, Arc<Filter>)> {
    let mut state = shared.state();
    loop {
        if shared.stopping.load(Ordering::Acquire) {
            return None;
        }
        let view = shared.working();
        if view.filter.is_none() && !state.filter_given_up {
            let filter = Arc::new(Filter::new(shared.options.filter_bytes));
            state.filter_coming = Some(Arc::clone(&filter));
            return Some((view, filter));
        }
        state = shared.filter_lost.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// How many entries of the tables there may be for each key that a filter can take: what was written over or deleted is among
/// them until it is compacted away.
const ENTRIES_PER_KEY_MAX: u64 = 2;

/// Adds all keys of a view.
fn fill(shared: &Shared, view: &View, filter: &Filter) -> Result<Walked> {
    // All tables would be read only to find that out.
    if view.base.entries()? / ENTRIES_PER_KEY_MAX > filter.capacity() {
        return Ok(Walked::TooMany);
    }
    for run in &view.runs {
        if run.parts().try_for_each(|(_, part)| filter.add_part(part)).is_err() {
            return Ok(Walked::TooMany);
        }
    }
    let mut seen = 0_u64;
    for key in view.base.keys()? {
        let (table, key) = key?;
        seen += 1;
        if seen.is_multiple_of(4096) && shared.stopping.load(Ordering::Relaxed) {
            return Ok(Walked::Failed);
        }
        if filter.add(hash(table, &key)).is_err() {
            return Ok(Walked::TooMany);
        }
    }
    Ok(Walked::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(n: u64) -> u32 {
        hash(TableId(7), &n.to_be_bytes())
    }

    /// Every key that was added may be there, over several layers, and few others.
    #[test]
    fn knows_what_was_added() {
        let filter = Filter::new(64 << 20);
        let keys = FIRST_KEYS * 6;
        (0..keys).for_each(|n| filter.add(hash_of(n)).unwrap());
        assert!(filter.layers().count() > 1);
        assert!((0..keys).all(|n| filter.may_have(hash_of(n))));
        let wrong = (keys..2 * keys).filter(|&n| filter.may_have(hash_of(n))).count();
        assert!((wrong as u64) < keys / 40, "{wrong} of {keys} new keys look as if they were there");
        // What is there is not added again.
        let before = filter.bytes();
        (0..keys).for_each(|n| filter.add(hash_of(n)).unwrap());
        assert_eq!(filter.bytes(), before);
    }

    /// A store that is opened anew lists its keys beside what is written; then it knows what is new without a read.
    #[test]
    fn comes_back_after_opening() {
        let dir = tempfile::tempdir().unwrap();
        let table = TableId(20);
        let key = |n: u64| n.to_be_bytes();
        let put = |store: &crate::Store, step: u64, n: u64| {
            let mut writes = crate::Writes::new();
            writes.put(table, &key(n), b"value");
            writes.delete(table, &key(n + 1000));
            store.commit(step, writes).unwrap();
        };
        let open = || crate::Store::open(dir.path(), crate::Options::default()).unwrap();
        {
            let store = open();
            (1..=50).for_each(|step| put(&store, step, step));
            store.fold_now().unwrap();
        }
        let store = open();
        // Until the keys are listed every one may be there.
        let mut step = 50;
        while store.snapshot().step() < 60 || store.stats().filter_bytes == 0 {
            step += 1;
            assert!(step < 1_000_000, "the keys are never listed");
            put(&store, step, step);
            let read = store.snapshot().get(table, &key(step)).unwrap();
            assert!(read.is_some());
        }
        let snapshot = store.snapshot();
        let lacks = |n: u64| snapshot.lacks(hash(table, &key(n)), table);
        assert!((1..=step).all(|n| !lacks(n) && snapshot.get(table, &key(n)).unwrap().is_some()));
        assert!((step + 1..step + 1000).filter(|&n| lacks(n)).count() > 900);
        assert!((step + 1..step + 1000).all(|n| snapshot.get(table, &key(n)).unwrap().is_none()));
    }

    /// A filter is told the keys of a commit once: before the store is locked, or under its lock where there was none before.
    #[test]
    fn is_told_before_the_lock() {
        let mut part = Part::with_capacity(0);
        (0..10_u64).for_each(|n| part.set(hash_of(n), &n.to_be_bytes(), Some(b"value")).unwrap());
        let parts = [(TableId(7), Arc::new(part))];
        let knows = |filter: &Filter| (0..10).all(|n| filter.may_have(hash_of(n)));
        let filter = || Arc::new(Filter::new(1 << 20));
        let (known, new, full) = (filter(), filter(), Arc::new(Filter::new(0)));
        let told = Told::of([Some(Arc::clone(&known)), Some(Arc::clone(&full))], parts.iter());
        assert!(knows(&known));
        // Parts that nobody has named are not looked at again.
        let unread = std::iter::once_with(|| -> &(TableId, Arc<Part>) { panic!("read under the lock") });
        assert!(told.fits(&known, unread.clone()));
        assert!(!told.fits(&full, unread));
        assert!(told.fits(&new, parts.iter()) && knows(&new));
    }

    /// Tables with more keys than a filter may take are not read through to find that out.
    #[test]
    fn too_many_keys_are_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let options = crate::Options { filter_bytes: 100 << 10, ..crate::Options::default() };
        let capacity = Filter::new(options.filter_bytes).capacity();
        let store = crate::Store::open(dir.path(), options).unwrap();
        let mut writes = crate::Writes::new();
        (0..capacity * 3).for_each(|n| writes.put(TableId(20), &n.to_be_bytes(), b"value"));
        store.commit(1, writes).unwrap();
        store.fold_now().unwrap();
        let filter = Filter::new(store.shared().options.filter_bytes);
        let walked = fill(store.shared(), &store.shared().working(), &filter).unwrap();
        assert_eq!((walked, filter.bytes()), (Walked::TooMany, 0));
    }

    /// It stays within its budget, and says when that is used up.
    #[test]
    fn ends_at_its_budget() {
        let bytes_max = 1 << 20;
        let filter = Filter::new(bytes_max);
        let full = (0..u64::MAX).find(|&n| filter.add(hash_of(n)).is_err()).unwrap();
        assert!(filter.bytes() <= bytes_max);
        assert!(full > bytes_max * 8 / KEY_BITS * 9 / 10, "full after {full} keys");
        assert!((0..full).all(|n| filter.may_have(hash_of(n))));
    }
}
