//! The shop's clock: it runs some times faster than life, and waits when the warehouse does not keep up.

use std::sync::atomic::{AtomicI64, Ordering};

/// From life's time to the shop's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Microseconds of the shop in a second of life.
    rate: i128,
    life_us: i64,
    shop_us: i64,
}

const SECOND: i128 = 1_000_000;

impl Pace {
    /// A clock of a speed; none that stands still.
    pub(crate) fn new(speed: f64, life_us: i64, shop_us: i64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "clamped to whole numbers that fit")]
        let rate = (speed * 1e6).clamp(0.0, 1e15) as i128;
        (rate > 0).then_some(Self { rate, life_us, shop_us })
    }

    /// The shop's time at a time of life.
    pub(crate) fn shop_us(&self, life_us: i64) -> i64 {
        narrow(i128::from(self.shop_us) + i128::from(life_us - self.life_us) * self.rate / SECOND)
    }

    /// The time of life at which the shop's time is reached.
    pub(crate) fn life_us(&self, shop_us: i64) -> i64 {
        let passed = i128::from(shop_us) - i128::from(self.shop_us);
        narrow(i128::from(self.life_us) + (passed * SECOND).div_euclid(self.rate) + i128::from(passed % self.rate != 0))
    }

    /// From now on the shop's time goes on from where it is.
    pub(crate) fn restart(&mut self, life_us: i64, shop_us: i64) {
        (self.life_us, self.shop_us) = (life_us, shop_us);
    }
}

fn narrow(us: i128) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

/// How far the shop's clock is behind what its speed asks for, in microseconds of life.
#[derive(Debug, Default)]
pub struct Lag {
    behind_us: AtomicI64,
    waited_us: AtomicI64,
}

impl Lag {
    /// Behind at the last look; it is made up for, or becomes part of [`Lag::waited_us`].
    pub fn behind_us(&self) -> i64 {
        self.behind_us.load(Ordering::Relaxed)
    }

    /// How long the clock has stood still, all in all, since the warehouse did not keep up.
    pub fn waited_us(&self) -> i64 {
        self.waited_us.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, behind_us: i64) {
        self.behind_us.store(behind_us, Ordering::Relaxed);
    }

    /// Gives up on catching up. Answers how long the clock has stood still by now.
    pub(super) fn give_up(&self, behind_us: i64) -> i64 {
        self.behind_us.store(0, Ordering::Relaxed);
        self.waited_us.fetch_add(behind_us, Ordering::Relaxed) + behind_us
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn there_and_back() {
        for speed in [0.001, 1.0, 3.7, 1_000.0, 1e6] {
            let pace = Pace::new(speed, 1_700_000_000_000_000, 1_780_000_000_000_000).unwrap();
            for after in [0, 1, 999, 1_000_000, 86_400_000_000_i64] {
                let shop = 1_780_000_000_000_000 + after;
                let life = pace.life_us(shop);
                assert!(pace.shop_us(life) >= shop, "{speed} {after}: it is reached");
                assert!(after == 0 || pace.shop_us(life - 2) < shop, "{speed} {after}: and not before");
            }
        }
        assert_eq!(Pace::new(0.0, 0, 0), None);
    }

    #[test]
    fn a_clock_that_waited_goes_on_from_where_it_is() {
        let mut pace = Pace::new(1_000.0, 0, 0).unwrap();
        assert_eq!(pace.shop_us(5), 5_000);
        pace.restart(100, 5_000);
        assert_eq!(pace.shop_us(100), 5_000);
        assert_eq!(pace.shop_us(101), 6_000);
    }
}
