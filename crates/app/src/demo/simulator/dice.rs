//! Chance that is the same in every run: a number is a function of the seed, a topic and a number.

/// What is drawn for: each topic has numbers of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Topic {
    Customer = 1,
    Product = 2,
    Price = 3,
    Order = 4,
    Course = 5,
    Move = 6,
}

/// A short stream of numbers (Steele, Lea, Flood: SplitMix64, OOPSLA 2014).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    /// The stream of one thing, for instance of order 17.
    pub(super) fn new(seed: u64, topic: Topic, number: u64) -> Self {
        Self(mixed(mixed(mixed(seed) ^ topic as u64) ^ number))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// A number below a bound, all alike.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A number from `low` to `high`, both included, all alike.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A number below a bound, small ones more often: half of all lie in the first sixth or so.
    pub(super) fn low(&mut self, bound: u64) -> u64 {
        self.below(bound).min(self.below(bound)).min(self.below(bound)).min(self.below(bound))
    }

    /// Whether something of so many percent happens.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several; none of an empty list is an empty text.
    pub(super) fn pick(&mut self, from: &[&'static str]) -> &'static str {
        let at = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from.get(at).copied().unwrap_or_default()
    }
}

fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
