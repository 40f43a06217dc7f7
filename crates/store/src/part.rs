//! What one run holds of one table: entries in an arena, found by a hash index, sorted when somebody asks for order.
//!
//! Point reads and writes are the engine's hot path, and most tables are never scanned before they are folded: so a
//! part is a hash table first, and its order is computed once, on the first scan or by the fold's thread. The same
//! structure is built by [`crate::Writes`], where the index makes the last write per key win.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::OnceLock;

use foldhash::quality::FixedState;
use relation::TableId;

use crate::arena::{Arena, Place};

/// `value_len` of a deleted key.
const TOMBSTONE: u32 = u32::MAX;
/// Entries of one part: their positions, plus one, are numbers of 32 bits.
const ENTRIES_MAX: usize = u32::MAX as usize - 1;
/// Up to this many entries a part is searched from end to end, without an index.
const LINEAR_MAX: usize = 8;

/// Where an entry lies in the arena (key, then value), and its key's hash.
#[derive(Debug, Clone, Copy)]
struct Entry {
    place: Place,
    value_len: u32,
    hash: u32,
    key_len: u16,
}

/// One table's entries of a run, one per key. Immutable once it is part of a run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Part {
    /// Everything older of this table is gone; a part that says so has no entries.
    dropped: bool,
    /// It was made beside the steps, and no merge copies it.
    prepared: bool,
    arena: Arena,
    entries: Vec<Entry>,
    /// Open addressing: hash in the upper half, position + 1 in the lower, 0 is free. Empty up to [`LINEAR_MAX`].
    index: Vec<u64>,
    /// Entries were pushed in key order.
    ascending: bool,
    sorted: OnceLock<Sorted>,
}

/// The entries in key order, made for searching: most comparisons are of two numbers that lie side by side.
#[derive(Debug, Clone)]
struct Sorted {
    /// Bytes that all keys begin with.
    shared: usize,
    /// The eight bytes after them, as a number.
    heads: Box<[u64]>,
    /// Positions in key order; empty where entries were pushed in that order.
    order: Box<[u32]>,
}

/// A part has no room for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// The hash under which a key is found in the overlay and the hot cache.
#[inline]
pub(crate) fn hash(table: TableId, key: &[u8]) -> u32 {
    let mut hasher = FixedState::with_seed(u64::from(table.0)).build_hasher();
    hasher.write(key);
    #[expect(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
    let half = hasher.finish() as u32;
    half
}

impl Part {
    /// Room for some entries.
    pub(crate) fn with_capacity(entries: usize) -> Self {
        let mut part = Self { ascending: true, ..Self::default() };
        part.entries.reserve(entries);
        part
    }

    /// Room for some entries more.
    pub(crate) fn reserve(&mut self, entries: usize) {
        self.entries.reserve(entries);
    }

    /// A part that hides everything older.
    pub(crate) fn set_dropped(&mut self) {
        *self = Self { dropped: true, ascending: true, ..Self::default() };
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Puts the entries in order and marks the part as one that is never copied.
    pub(crate) fn prepare(&mut self) {
        self.prepared = true;
        if self.len() > 0 {
            self.sorted();
        }
    }

    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared
    }

    /// Whether the entries of another surely fit into this one.
    pub(crate) fn has_room_for(&self, other: &Self) -> bool {
        self.len() + other.len() <= ENTRIES_MAX && self.arena.has_room_for(&other.arena)
    }

    /// Number of keys.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Memory it takes, the order included, whether it is there yet or not.
    pub(crate) fn memory(&self) -> usize {
        self.arena.bytes() + self.entries.len() * (size_of::<Entry>() + 12) + self.index.len() * 8 + size_of::<Self>()
    }

    #[inline]
    pub(crate) fn key(&self, i: u32) -> &[u8] {
        self.key_of(self.entries[i as usize])
    }

    /// The value of an entry; none where the key was deleted.
    #[inline]
    pub(crate) fn value(&self, i: u32) -> Option<&[u8]> {
        let entry = self.entries[i as usize];
        (entry.value_len != TOMBSTONE).then(|| self.arena.get(entry.place, u32::from(entry.key_len), entry.value_len))
    }

    /// Whether an entry says that its key was deleted.
    #[inline]
    pub(crate) fn is_deleted(&self, i: u32) -> bool {
        self.entries[i as usize].value_len == TOMBSTONE
    }

    /// Where a value lies behind its entry's begin, for [`Part::bytes`]; none where the key was deleted.
    #[inline]
    pub(crate) fn value_range(&self, i: u32) -> Option<(Place, u32, u32)> {
        let entry = self.entries[i as usize];
        (entry.value_len != TOMBSTONE).then_some((entry.place, u32::from(entry.key_len), entry.value_len))
    }

    /// Where a key lies, for [`Part::bytes`].
    #[inline]
    pub(crate) fn key_range(&self, i: u32) -> (Place, u32, u32) {
        let entry = self.entries[i as usize];
        (entry.place, 0, u32::from(entry.key_len))
    }

    /// Bytes at a distance behind an entry's begin.
    #[inline]
    pub(crate) fn bytes(&self, (place, skip, len): (Place, u32, u32)) -> &[u8] {
        self.arena.get(place, skip, len)
    }

    /// The hash of an entry's key.
    #[inline]
    pub(crate) fn hash_of(&self, i: u32) -> u32 {
        self.entries[i as usize].hash
    }

    /// Position of a key's entry.
    #[inline]
    pub(crate) fn find(&self, hash: u32, key: &[u8]) -> Option<u32> {
        if self.index.is_empty() {
            let found = self.entries.iter().rposition(|e| e.hash == hash && self.key_of(*e) == key);
            return found.map(position);
        }
        let mask = self.index.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.index[at];
            if slot == 0 {
                return None;
            }
            if slot >> 32 == u64::from(hash) {
                let i = slot_position(slot);
                if self.key(i) == key {
                    return Some(i);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Sets the value of a key; none deletes it.
    pub(crate) fn set(&mut self, hash: u32, key: &[u8], value: Option<&[u8]>) -> Result<(), Full> {
        match self.find(hash, key) {
            Some(i) => self.replace(i, value),
            None => self.push(hash, key, value),
        }
    }

    /// Sets the value of a key that is not there yet; where it is, it stays as it is. The position of its entry, and whether
    /// that is new.
    pub(crate) fn set_once(&mut self, hash: u32, key: &[u8], value: Option<&[u8]>) -> Result<(u32, bool), Full> {
        if let Some(i) = self.find(hash, key) {
            return Ok((i, false));
        }
        self.push(hash, key, value)?;
        Ok((position(self.entries.len() - 1), true))
    }

    fn replace(&mut self, i: u32, value: Option<&[u8]>) -> Result<(), Full> {
        let entry = self.entries[i as usize];
        let Some(value) = value else {
            self.entries[i as usize].value_len = TOMBSTONE;
            return Ok(());
        };
        let value_len = value_len(value)?;
        if entry.value_len != TOMBSTONE && value_len <= entry.value_len {
            self.arena.overwrite(entry.place, u32::from(entry.key_len), value);
            self.entries[i as usize].value_len = value_len;
            return Ok(());
        }
        let place = self.arena.push_moved(entry.place, u32::from(entry.key_len), value).ok_or(Full)?;
        self.entries[i as usize] = Entry { place, value_len, ..entry };
        Ok(())
    }

    /// Appends an entry whose key is not there yet.
    pub(crate) fn push(&mut self, hash: u32, key: &[u8], value: Option<&[u8]>) -> Result<(), Full> {
        let key_len = u16::try_from(key.len()).map_err(|_| Full)?;
        let value_len = value.map_or(Ok(TOMBSTONE), value_len)?;
        if self.entries.len() == ENTRIES_MAX {
            return Err(Full);
        }
        let place = self.arena.push(key, value.unwrap_or_default()).ok_or(Full)?;
        if self.ascending && self.entries.last().is_some_and(|last| self.key_of(*last) > key) {
            self.ascending = false;
        }
        self.entries.push(Entry { place, value_len, hash, key_len });
        self.enter(position(self.entries.len() - 1));
        Ok(())
    }

    #[inline]
    fn key_of(&self, entry: Entry) -> &[u8] {
        self.arena.get(entry.place, 0, u32::from(entry.key_len))
    }

    /// Puts an entry into the index, which is kept at most half full.
    #[inline]
    fn enter(&mut self, i: u32) {
        if self.entries.len() * 2 > self.index.len() {
            if self.entries.len() > LINEAR_MAX {
                self.grow_index();
            }
            return;
        }
        enter(&mut self.index, self.entries[i as usize].hash, i);
    }

    fn grow_index(&mut self) {
        let slots = (self.entries.capacity().max(self.entries.len()) * 2).next_power_of_two();
        let mut index = vec![0; slots];
        for (i, entry) in self.entries.iter().enumerate() {
            enter(&mut index, entry.hash, position(i));
        }
        self.index = index;
    }

    /// The position of the `n`th entry in key order.
    #[inline]
    pub(crate) fn nth(&self, n: usize) -> u32 {
        if self.ascending { position(n) } else { self.sorted().order[n] }
    }

    /// How many keys come before this one; with `through`, it is counted itself where it is there.
    pub(crate) fn rank(&self, key: &[u8], through: bool) -> usize {
        if self.len() == 0 {
            return 0;
        }
        let sorted = self.sorted();
        let shared = &self.key(0)[..sorted.shared];
        let Some(rest) = key.strip_prefix(shared) else {
            return if key < shared { 0 } else { self.len() };
        };
        let head = head(rest);
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let order = sorted.heads[middle].cmp(&head).then_with(|| self.key(self.nth(middle)).cmp(key));
            let before = if through { order.is_le() } else { order.is_lt() };
            if before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn sorted(&self) -> &Sorted {
        self.sorted.get_or_init(|| self.sort())
    }

    fn sort(&self) -> Sorted {
        let shared = self.shared_prefix();
        let keyed = (0..position(self.len())).map(|i| (head(&self.key(i)[shared..]), i));
        if self.ascending {
            return Sorted { shared, heads: keyed.map(|(head, _)| head).collect(), order: Box::default() };
        }
        let mut keyed: Vec<(u64, u32)> = keyed.collect();
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.key(a.1).cmp(self.key(b.1))));
        let heads = keyed.iter().map(|(head, _)| *head).collect();
        Sorted { shared, heads, order: keyed.into_iter().map(|(_, i)| i).collect() }
    }

    /// Bytes that all keys begin with.
    fn shared_prefix(&self) -> usize {
        let first = self.key(0);
        let mut shared = first.len();
        for i in 1..position(self.len()) {
            let key = self.key(i);
            let same = first[..shared].iter().zip(key).take_while(|(a, b)| a == b).count();
            shared = shared.min(same);
            if shared == 0 {
                break;
            }
        }
        shared
    }
}

#[inline]
fn enter(index: &mut [u64], hash: u32, i: u32) {
    let mask = index.len() - 1;
    let mut at = hash as usize & mask;
    while index[at] != 0 {
        at = (at + 1) & mask;
    }
    index[at] = u64::from(hash) << 32 | u64::from(i + 1);
}

#[inline]
fn slot_position(slot: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    let low = slot as u32;
    low - 1
}

/// The first eight bytes, so that they compare as the bytes do as far as they go.
#[inline]
pub(crate) fn head(rest: &[u8]) -> u64 {
    let mut head = [0; 8];
    let n = rest.len().min(8);
    head[..n].copy_from_slice(&rest[..n]);
    u64::from_be_bytes(head)
}

/// A position within a part, of which there are [`ENTRIES_MAX`].
#[inline]
fn position(i: usize) -> u32 {
    u32::try_from(i).unwrap_or(u32::MAX)
}

#[inline]
fn value_len(value: &[u8]) -> Result<u32, Full> {
    u32::try_from(value.len()).ok().filter(|len| *len != TOMBSTONE).ok_or(Full)
}
