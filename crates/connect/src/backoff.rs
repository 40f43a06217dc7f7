//! Waits between tries: twice as long each time, up to a bound.

use std::time::Duration;

use crate::source::now_us;

/// The waits of one who tries again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// The first wait, and the longest.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// How long to wait now.
    #[expect(clippy::should_implement_trait, reason = "the waits have no end")]
    pub fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.longest);
        wait
    }

    /// It went well: the next wait is the first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Up to a quarter of a wait, to be added to it, so that those who wait for one server come one by one.
pub fn jitter(wait: Duration, seed: u64) -> Duration {
    let hash = relation::key::hash128(&[now_us().to_le_bytes(), seed.to_le_bytes()].concat());
    wait * u32::from(hash[15]) / 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound() {
        let (first, longest) = (Duration::from_millis(250), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, longest);
        let waits: Vec<u128> = (0..9).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        (0..100).for_each(|_| _ = backoff.next());
        assert_eq!(backoff.next(), longest);
        backoff.reset();
        assert_eq!(backoff.next(), first);
    }

    #[test]
    fn jitter_is_at_most_a_quarter_of_a_wait() {
        let wait = Duration::from_secs(30);
        assert!((0..100).all(|seed| jitter(wait, seed) <= wait / 4));
    }
}
