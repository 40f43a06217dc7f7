//! When steps were committed at their sources and became visible: what the age of a row that is to be delivered is told by.

use std::collections::VecDeque;

/// Steps that are remembered: some minutes of a busy instance, in two megabytes.
const STEPS_MAX: usize = 65_536;

/// A step, in microseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Moment {
    step: u64,
    visible_us: i64,
    /// Of the oldest transaction in it; none where it has none.
    commit_us: Option<i64>,
}

/// Moments of the last steps, oldest first.
#[derive(Debug, Default)]
pub struct Moments(VecDeque<Moment>);

impl Moments {
    /// A step became visible, whose oldest transaction was committed then.
    pub fn note(&mut self, step: u64, visible_us: i64, commit_us: Option<i64>) {
        if self.0.len() == STEPS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Moment { step, visible_us, commit_us });
    }

    /// When it became visible; none of one from before the start, or that is forgotten.
    pub fn of(&self, step: u64) -> Option<i64> {
        self.moment(step).map(|moment| moment.visible_us)
    }

    /// When its oldest transaction was committed at its source; none likewise, and of a step without one.
    pub fn committed(&self, step: u64) -> Option<i64> {
        self.moment(step)?.commit_us
    }

    /// Since when a step is visible at least: of a forgotten one since the oldest that is remembered.
    pub fn since(&self, step: u64) -> Option<i64> {
        let front = || self.0.front().filter(|oldest| step < oldest.step).map(|oldest| oldest.visible_us);
        self.of(step).or_else(front)
    }

    /// The step that made a number visible.
    fn moment(&self, step: u64) -> Option<&Moment> {
        let at = self.0.partition_point(|known| known.step < step);
        self.0.get(at).filter(|known| known.step == step || at > 0)
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
        [(4, 40, None), (7, 70, Some(61))].into_iter().for_each(|(step, us, commit)| moments.note(step, us, commit));
        assert_eq!([3, 4, 5, 7, 8].map(|step| moments.of(step)), [None, Some(40), Some(70), Some(70), None]);
        assert_eq!([3, 4, 5, 7, 8].map(|step| moments.committed(step)), [None, None, Some(61), Some(61), None]);
        assert_eq!([3, 8].map(|step| moments.since(step)), [Some(40), None]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut moments = Moments::default();
        for step in 0..STEPS_MAX as u64 + 10 {
            moments.note(step, 1, None);
        }
        assert_eq!((moments.0.len(), moments.of(9), moments.of(10)), (STEPS_MAX, None, Some(1)));
    }
}
