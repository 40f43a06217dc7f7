//! When steps became visible: what the age of a row that is to be delivered is told by.

use std::collections::VecDeque;

/// Steps that are remembered: some minutes of a busy instance, in a megabyte.
const STEPS_MAX: usize = 65_536;

/// Moments of the last steps, oldest first, in microseconds since 1970.
#[derive(Debug, Default)]
pub struct Moments(VecDeque<(u64, i64)>);

impl Moments {
    /// A step became visible.
    pub fn note(&mut self, step: u64, at_us: i64) {
        if self.0.len() == STEPS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((step, at_us));
    }

    /// When it did; none of one from before the start, or that is forgotten.
    pub fn of(&self, step: u64) -> Option<i64> {
        let at = self.0.partition_point(|(known, _)| *known < step);
        self.0.get(at).filter(|(known, _)| *known == step || at > 0).map(|(_, us)| *us)
    }

    /// Since when a step is visible at least: of a forgotten one since the oldest that is remembered.
    pub fn since(&self, step: u64) -> Option<i64> {
        self.of(step).or_else(|| self.0.front().filter(|(oldest, _)| step < *oldest).map(|(_, us)| *us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_their_moments() {
        let mut moments = Moments::default();
        assert_eq!((moments.of(1), moments.since(1)), (None, None));
        // Number 5 became visible with 7.
        [(4, 40), (7, 70)].into_iter().for_each(|(step, us)| moments.note(step, us));
        assert_eq!([3, 4, 5, 7, 8].map(|step| moments.of(step)), [None, Some(40), Some(70), Some(70), None]);
        assert_eq!([3, 8].map(|step| moments.since(step)), [Some(40), None]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut moments = Moments::default();
        for step in 0..STEPS_MAX as u64 + 10 {
            moments.note(step, 1);
        }
        assert_eq!((moments.0.len(), moments.of(9), moments.of(10)), (STEPS_MAX, None, Some(1)));
    }
}
