//! One shard of the hot cache: a table of slots, open addressing, with a clock hand going round it.
//!
//! The hand does not go from slot to slot in their order: it would leave a sparse stretch behind it and a dense one ahead,
//! and since entries come back evenly the dense one would be twice as full as the table, which is more than full; each
//! look-up there searched thousands of slots. It goes through small groups of neighbours in a scattered order instead, so
//! that every stretch is as full as every other.
//!
//! An entry is one allocation, `table (4 bytes) | key | value`; its slot has the hash and the length of the key.

use std::collections::BTreeSet;
use std::sync::Arc;

use relation::TableId;

use crate::slice::Slice;

/// An entry without value: the key is known to be absent.
const ABSENT: u8 = 1;
/// Hits that a slot remembers: it survives that many passes of the hand.
const HITS_MAX: u8 = 3;
const SLOTS_MIN: usize = 64;
/// Slots that the hand takes at once: some cache lines.
const HAND_GROUP_BITS: u32 = 3;
/// Odd, so that the hand meets every group once in a round.
const HAND_STRIDE: usize = 0x9e37_79b1;
/// What an entry costs beside its own bytes: slots at 5/8 load, counts and rounding of the allocation.
const ENTRY_BYTES: usize = size_of::<Slot>() * 8 / 5 + 24;

/// Entries within a byte budget.
pub(crate) struct Entries {
    /// A power of two, at most 5/8 full.
    slots: Vec<Slot>,
    used: usize,
    bytes: usize,
    bytes_max: usize,
    hand: usize,
    /// Tables that entries were remembered of since they were removed last; the newest beside.
    tables: BTreeSet<TableId>,
    newest: Option<TableId>,
}

#[derive(Clone, Default)]
struct Slot {
    /// None: free.
    entry: Option<Arc<[u8]>>,
    hash: u32,
    key_len: u16,
    hits: u8,
    flags: u8,
}

/// What the cache knows of a key.
pub(crate) enum Found {
    Value(Slice),
    Absent,
    Unknown,
}

impl Entries {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let slots = vec![Slot::default(); SLOTS_MIN];
        Self { slots, used: 0, bytes: 0, bytes_max, hand: 0, tables: BTreeSet::new(), newest: None }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is known of a key.
    #[inline]
    pub(crate) fn get(&mut self, hash: u32, table: TableId, key: &[u8]) -> Found {
        let Some(at) = self.find(hash, table, key) else { return Found::Unknown };
        let slot = &mut self.slots[at];
        if slot.hits < HITS_MAX {
            slot.hits += 1;
        }
        match &slot.entry {
            Some(entry) if slot.flags & ABSENT == 0 => {
                Found::Value(Slice::shared(Arc::clone(entry), 4 + u32::from(slot.key_len)))
            }
            _ => Found::Absent,
        }
    }

    /// Remembers a key's value, or that it has none.
    pub(crate) fn insert(&mut self, hash: u32, table: TableId, key: &[u8], value: Option<&[u8]>) {
        if self.find(hash, table, key).is_some() {
            self.update(hash, table, key, value);
            return;
        }
        let entry = entry(table, key, value);
        let cost = ENTRY_BYTES + entry.len();
        if cost > self.bytes_max / 8 {
            return;
        }
        self.make_room(cost);
        if self.newest != Some(table) {
            self.newest = Some(table);
            self.tables.insert(table);
        }
        if (self.used + 1) * 8 > self.slots.len() * 5 {
            self.grow();
        }
        let key_len = u16::try_from(key.len()).unwrap_or(u16::MAX);
        let slot = Slot { entry: Some(entry), hash, key_len, hits: 0, flags: flags(value) };
        self.place(slot);
        self.used += 1;
        self.bytes += cost;
    }

    /// Changes the value of a key that is known; others stay unknown.
    #[inline]
    pub(crate) fn update(&mut self, hash: u32, table: TableId, key: &[u8], value: Option<&[u8]>) {
        let Some(at) = self.find(hash, table, key) else { return };
        let slot = &mut self.slots[at];
        slot.flags = flags(value);
        let Some(old) = &mut slot.entry else { return };
        let head = 4 + key.len();
        let before = old.len();
        let len = head + value.map_or(0, <[u8]>::len);
        match Arc::get_mut(old) {
            // Nobody reads it just now, and it fits.
            Some(bytes) if len == before => bytes[head..].copy_from_slice(value.unwrap_or_default()),
            _ => *old = entry(table, key, value),
        }
        self.bytes = self.bytes + len - before;
        if self.bytes > self.bytes_max {
            self.make_room(0);
        }
    }

    /// Forgets everything about a table; one that nothing was remembered of costs a look.
    pub(crate) fn remove_table(&mut self, table: TableId) {
        if !self.tables.remove(&table) {
            return;
        }
        self.newest = None;
        let slots = std::mem::replace(&mut self.slots, vec![Slot::default(); SLOTS_MIN]);
        (self.used, self.bytes, self.hand) = (0, 0, 0);
        for slot in slots {
            let Some(entry) = &slot.entry else { continue };
            if entry[..4] != table.0.to_be_bytes() {
                if (self.used + 1) * 8 > self.slots.len() * 5 {
                    self.grow();
                }
                self.bytes += ENTRY_BYTES + entry.len();
                self.used += 1;
                self.place(slot);
            }
        }
    }

    #[inline]
    fn find(&self, hash: u32, table: TableId, key: &[u8]) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            let entry = slot.entry.as_ref()?;
            if slot.hash == hash
                && usize::from(slot.key_len) == key.len()
                && entry[4..4 + key.len()] == *key
                && entry[..4] == table.0.to_be_bytes()
            {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = slot.hash as usize & mask;
        while self.slots[at].entry.is_some() {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let doubled = vec![Slot::default(); self.slots.len() * 2];
        let slots = std::mem::replace(&mut self.slots, doubled);
        slots.into_iter().filter(|slot| slot.entry.is_some()).for_each(|slot| self.place(slot));
    }

    /// Turns the hand until there is room: a slot that was hit loses a hit, another one goes.
    fn make_room(&mut self, bytes: usize) {
        while self.used > 0 && self.bytes + bytes > self.bytes_max {
            let at = self.under_hand();
            let slot = &mut self.slots[at];
            match &slot.entry {
                Some(entry) if slot.hits == 0 => {
                    self.bytes -= ENTRY_BYTES + entry.len();
                    self.used -= 1;
                    // What follows moves up, so the hand stays.
                    self.remove(at);
                }
                Some(_) => {
                    slot.hits -= 1;
                    self.hand = self.hand.wrapping_add(1);
                }
                None => self.hand = self.hand.wrapping_add(1),
            }
        }
    }

    /// The slot that the hand points at.
    #[inline]
    fn under_hand(&self) -> usize {
        let within = self.hand & ((1 << HAND_GROUP_BITS) - 1);
        let group = (self.hand >> HAND_GROUP_BITS).wrapping_mul(HAND_STRIDE);
        (group << HAND_GROUP_BITS | within) & (self.slots.len() - 1)
    }

    /// Frees a slot, and moves up those behind it that would not be found across the gap.
    fn remove(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            if self.slots[at].entry.is_none() {
                break;
            }
            let home = self.slots[at].hash as usize & mask;
            // It may move if its home is not between the gap and it.
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.slots[gap] = std::mem::take(&mut self.slots[at]);
                gap = at;
            }
        }
        self.slots[gap] = Slot::default();
    }
}

fn flags(value: Option<&[u8]>) -> u8 {
    if value.is_none() { ABSENT } else { 0 }
}

fn entry(table: TableId, key: &[u8], value: Option<&[u8]>) -> Arc<[u8]> {
    let (prefix, value) = (table.0.to_be_bytes(), value.unwrap_or_default());
    let mut bytes = Arc::<[u8]>::from(vec![0; 4 + key.len() + value.len()]);
    if let Some(out) = Arc::get_mut(&mut bytes) {
        out[..4].copy_from_slice(&prefix);
        out[4..4 + key.len()].copy_from_slice(key);
        out[4 + key.len()..].copy_from_slice(value);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// However long entries come and go: the table stays evenly filled, so a look-up passes few slots.
    #[test]
    fn stays_even_while_evicting() {
        let mut entries = Entries::new(1 << 20);
        for n in 0..200_000_u64 {
            let hash = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
            entries.insert(hash, TableId(1), &n.to_be_bytes(), Some(b"value"));
        }
        let mut run = 0;
        let longest = entries.slots.iter().fold(0, |longest, slot| {
            run = if slot.entry.is_some() { run + 1 } else { 0 };
            run.max(longest)
        });
        assert!(entries.used * 4 > entries.slots.len(), "the table is well filled");
        assert!(longest < 200, "a look-up passes up to {longest} slots");
    }

    /// Whatever is inserted, updated, evicted and removed: what the cache says is what was last written.
    #[test]
    fn agrees_with_a_map() {
        let mut entries = Entries::new(20_000);
        let mut map: BTreeMap<(u32, u64), Option<Vec<u8>>> = BTreeMap::new();
        let (mut seed, mut known) = (1_u64, 0);
        for round in 0..200_000_u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (table, n) = (((seed >> 60) & 1) as u32, (seed >> 40) % 500);
            let key = n.to_be_bytes();
            // Few different hashes: long runs of neighbours, many moves.
            let hash = (n % 97) as u32 * 3;
            let value = (!seed.is_multiple_of(5)).then(|| vec![round.to_le_bytes()[0]; (seed >> 33) as usize % 40]);
            match (seed >> 20) % 4 {
                0 => {
                    entries.insert(hash, TableId(table), &key, value.as_deref());
                    map.insert((table, n), value);
                }
                1 => {
                    entries.update(hash, TableId(table), &key, value.as_deref());
                    map.insert((table, n), value);
                }
                _ => match (entries.get(hash, TableId(table), &key), map.get(&(table, n))) {
                    (Found::Unknown, _) => {}
                    (Found::Absent, Some(None)) => known += 1,
                    (Found::Value(got), Some(Some(want))) if *got == **want => known += 1,
                    _ => panic!("round {round}: wrong about {table} {n}"),
                },
            }
            if round % 50_000 == 49_999 {
                entries.remove_table(TableId(1));
                map.retain(|(table, _), _| *table != 1);
            }
            assert!(entries.bytes() <= 20_000 + 64);
        }
        assert!(known > 20_000, "the cache knew {known}");
    }
}
