//! Distinct keys of some rows, numbered in the order in which they are first met.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::error::Result;

/// Up to so many keys are found by looking at all of them: most steps touch few.
const LINEAR_MAX: usize = 4;

/// Byte strings in one buffer, each once, found by what they are and by their number.
#[derive(Default)]
pub(super) struct Interner {
    /// Empty up to [`LINEAR_MAX`] keys.
    index: HashTable<u32>,
    hasher: FixedState,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Interner {
    /// The number of a key, and whether it is new.
    pub(super) fn intern(&mut self, key: &[u8]) -> Result<(u32, bool)> {
        if self.index.is_empty() {
            if let Some(known) = self.find_linear(key) {
                return Ok((known, false));
            }
            let number = self.push(key)?;
            if self.ends.len() > LINEAR_MAX {
                (0..=number).for_each(|number| self.enter(self.hash_of(number), number));
            }
            return Ok((number, true));
        }
        let hash = self.hasher.hash_one(key);
        let (bytes, ends) = (&self.bytes, &self.ends);
        if let Some(&known) = self.index.find(hash, |&k| slice_of(bytes, ends, k) == key) {
            return Ok((known, false));
        }
        let number = self.push(key)?;
        self.enter(hash, number);
        Ok((number, true))
    }

    /// Appends a key that is new.
    fn push(&mut self, key: &[u8]) -> Result<u32> {
        let number = u32::try_from(self.ends.len()).map_err(|_| relation::Error::Overflow("keys of a delta"))?;
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        Ok(number)
    }

    fn enter(&mut self, hash: u64, number: u32) {
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        self.index.insert_unique(hash, number, |&k| hasher.hash_one(slice_of(bytes, ends, k)));
    }

    fn hash_of(&self, number: u32) -> u64 {
        self.hasher.hash_one(slice_of(&self.bytes, &self.ends, number))
    }

    fn find_linear(&self, key: &[u8]) -> Option<u32> {
        let known = (0..self.ends.len()).find(|&number| self.get(number) == key)?;
        u32::try_from(known).ok()
    }

    /// The number of a key that was met.
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        if self.index.is_empty() {
            return self.find_linear(key);
        }
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&k| slice_of(&self.bytes, &self.ends, k) == key).copied()
    }

    /// The key of a number.
    pub(super) fn get(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all keys together.
    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

fn slice_of<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let number = number as usize;
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &bytes[start..ends[number]]
}
