//! Chance that is the same in every run: a number is a function of the seed, a topic and a number.

/// What is drawn for: each topic has numbers of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Topic {
    User = 1,
    Move,
    Merchant,
    Brand,
    Product,
    Price,
    Sale,
    Visit,
    Visitors,
    Order,
    Course,
    Shipment,
    Review,
    Ticket,
    Packet,
}

/// A short stream of numbers (Steele, Lea, Flood: SplitMix64, OOPSLA 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The stream of one thing, for instance of order 17.
    #[inline]
    pub(crate) fn new(seed: u64, topic: Topic, number: i64) -> Self {
        let topic = (topic as u64) << 56;
        Self(mixed(mixed(seed ^ topic) ^ number.cast_unsigned()))
    }

    #[inline]
    fn next(&mut self) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mixed(self.0) >> 1).cast_signed()
    }

    /// A number below a bound, all alike.
    #[inline]
    pub(crate) fn below(&mut self, bound: i64) -> i64 {
        self.next() % bound.max(1)
    }

    /// A number from `low` to `high`, both included, all alike.
    #[inline]
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below(high - low + 1)
    }

    /// A number below a bound, small ones more often: half of all lie in the first fifth.
    pub(crate) fn low(&mut self, bound: i64) -> i64 {
        self.below(bound).min(self.below(bound)).min(self.below(bound))
    }

    /// Whether something of so many percent happens.
    pub(crate) fn chance(&mut self, percent: i64) -> bool {
        self.below(100) < percent
    }

    /// One of several; none of an empty list is an empty text.
    pub(crate) fn pick(&mut self, from: &[&'static str]) -> &'static str {
        let at = self.below(crate::length(from.len()));
        from.get(crate::index(at)).copied().unwrap_or_default()
    }
}

#[inline]
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
