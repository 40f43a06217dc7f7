//! How long a courier waits for a destination that is away: longer each time, and never all of them at once.

use std::time::Duration;

/// The first wait, and the longest.
const FIRST: Duration = Duration::from_millis(250);
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// The waits of one courier.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    tries: u32,
}

impl Pace {
    /// The next wait: twice the last one, with up to a quarter more by the seed, so that couriers of one server come one by one.
    pub(super) fn next(&mut self, seed: u64) -> Duration {
        let wait = FIRST.saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        wait + wait.mul_f64(0.25 * (seed % 1_000) as f64 / 1_000.0)
    }

    /// It went well.
    pub(super) fn went_well(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound() {
        let mut pace = Pace::default();
        let waits: Vec<u128> = (0..9).map(|_| pace.next(0).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        (0..100).for_each(|_| _ = pace.next(0));
        assert_eq!(pace.next(0), LONGEST);
        pace.went_well();
        assert_eq!(pace.next(0), FIRST);
    }

    #[test]
    fn two_of_them_do_not_come_at_once() {
        let (one, other) = (Pace::default().next(17), Pace::default().next(900));
        assert!(one != other && one >= FIRST && other <= FIRST.mul_f64(1.25), "{one:?} {other:?}");
    }
}
