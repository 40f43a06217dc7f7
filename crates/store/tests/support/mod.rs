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

/// Chance that a seed decides, in the sizes that a store counts in.
pub(crate) struct Random(testkit::Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(testkit::Rng::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.bits()
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
