//! The drivers behind the store's tests.

pub(crate) mod child;
pub(crate) mod damage;
pub(crate) mod driver;
pub(crate) mod faults;
pub(crate) mod kill;
pub(crate) mod model;
pub(crate) mod property;
pub(crate) mod records;
pub(crate) mod stages;

/// A small generator of numbers: the same seed gives the same test.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Below `n`, to count or index with.
    pub(crate) fn index(&mut self, n: u64) -> usize {
        usize::try_from(self.below(n)).unwrap_or(0)
    }
}
