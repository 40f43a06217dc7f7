//! The last deliveries of a sync: what `tidemill.delivery_log` shows, and what rates and times are told by.

use std::collections::VecDeque;

use crate::latency::{Histogram, Tally};

/// Deliveries that are remembered of a sync, which are some 30 kB at most.
pub const DELIVERIES_MAX: usize = 50;
/// Letters of a message that are remembered.
const MESSAGE_MAX: usize = 300;
/// The time over which a rate is taken.
const RATE_US: i64 = 10_000_000;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of its rows are there.
    Delivered,
    /// The destination has refused some of them; the others are there.
    Refused,
    /// The destination took nothing, and is tried again by itself.
    Away,
    /// Nothing was delivered, and a person has to do something.
    Failed,
}

impl Ended {
    /// Its word in `tidemill.delivery_log`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Away => "away",
            Self::Failed => "failed",
        }
    }
}

/// A portion that was delivered, or tries that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// When it ended; of several tries the last one.
    pub at_us: i64,
    /// The step at which the rows are; none where nothing was delivered.
    pub step: Option<u64>,
    /// Rows that were written.
    pub rows: u64,
    /// Rows that were deleted.
    pub deletes: u64,
    /// Rows that were refused.
    pub refused: u64,
    /// How long the destination took for it.
    pub took_us: Option<i64>,
    /// What came of it.
    pub ended: Ended,
    /// How often the same was tried.
    pub tries: u64,
    /// Why nothing was delivered; else empty.
    pub message: String,
}

/// What was delivered last, oldest first, and how long it took.
#[derive(Debug, Clone, Default)]
pub struct Log {
    tried: VecDeque<Tried>,
    last_error: Option<(i64, String)>,
    commit_delivered: Histogram,
}

impl Log {
    /// A portion is there.
    pub(crate) fn note_delivered(&mut self, tried: Tried, commit_delivered: &Tally) {
        self.commit_delivered.merge(commit_delivered);
        self.push(tried);
    }

    /// Nothing was delivered. The same again is counted.
    pub(crate) fn note_failed(&mut self, at_us: i64, ended: Ended, message: &str) {
        let message: String = message.chars().take(MESSAGE_MAX).collect();
        self.last_error = Some((at_us, message.clone()));
        match self.tried.back_mut().filter(|last| last.ended == ended && last.message == message) {
            Some(last) => (last.at_us, last.tries) = (at_us, last.tries.saturating_add(1)),
            None => {
                let (rows, deletes, refused) = (0, 0, 0);
                self.push(Tried { at_us, step: None, rows, deletes, refused, took_us: None, ended, tries: 1, message });
            }
        }
    }

    fn push(&mut self, tried: Tried) {
        if self.tried.len() == DELIVERIES_MAX {
            self.tried.pop_front();
        }
        self.tried.push_back(tried);
    }

    /// Oldest first.
    pub fn tried(&self) -> impl Iterator<Item = &Tried> {
        self.tried.iter()
    }

    /// Why nothing was delivered when that was so last, and when; it may be over.
    pub fn last_error(&self) -> Option<(i64, &str)> {
        self.last_error.as_ref().map(|(at_us, message)| (*at_us, message.as_str()))
    }

    /// Rows and deletes a second over the last ten seconds; where less is remembered, over that.
    pub fn per_second(&self, now_us: i64) -> f64 {
        let since_us = now_us - RATE_US;
        let full = self.tried.front().filter(|first| self.tried.len() == DELIVERIES_MAX && first.at_us > since_us);
        // The oldest one was delivered before the time that is known.
        let from_us = full.map_or(since_us, |first| first.at_us);
        let within = self.tried.iter().skip(usize::from(full.is_some())).filter(|tried| tried.at_us > since_us);
        let rows: u64 = within.map(|tried| tried.rows + tried.deletes).sum();
        rows as f64 / ((now_us - from_us).max(1) as f64 / 1e6)
    }

    /// How long changes took from their commit at the source until they were there: half and 99 of a hundred took no longer, in
    /// milliseconds; none where none was measured.
    pub fn commit_delivered_ms(&self) -> Option<(f64, f64)> {
        let of = &self.commit_delivered;
        (of.count() > 0).then(|| (of.quantile_ms(0.5), of.quantile_ms(0.99)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(at_us: i64, rows: u64, deletes: u64) -> Tried {
        let (step, took_us, message) = (Some(7), Some(1_000), String::new());
        Tried { at_us, step, rows, deletes, refused: 0, took_us, ended: Ended::Delivered, tries: 1, message }
    }

    #[test]
    fn the_same_failure_again_is_counted_and_none_pushes_deliveries_out() {
        let mut log = Log::default();
        log.note_delivered(delivered(1, 5, 0), &Tally::default());
        (2..500).for_each(|at_us| log.note_failed(at_us, Ended::Away, "closed"));
        log.note_failed(500, Ended::Failed, "no table");
        let shown: Vec<(&str, u64, i64)> = log.tried().map(|of| (of.ended.word(), of.tries, of.at_us)).collect();
        assert_eq!(shown, [("delivered", 1, 1), ("away", 498, 499), ("failed", 1, 500)]);
        log.note_delivered(delivered(600, 1, 0), &Tally::default());
        assert_eq!(log.last_error(), Some((500, "no table")), "what is over is known still");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut log = Log::default();
        (0..1_000).for_each(|at_us| log.note_failed(at_us, Ended::Away, &format!("{at_us} {}", "x".repeat(10_000))));
        assert_eq!(log.tried().count(), DELIVERIES_MAX);
        assert!(log.tried().all(|tried| tried.message.len() == MESSAGE_MAX));
        assert_eq!(log.tried().next().map(|first| first.at_us), Some(950));
    }

    #[test]
    fn a_rate_is_of_the_time_that_is_known() {
        let mut log = Log::default();
        assert_eq!(log.per_second(RATE_US), 0.0);
        log.note_delivered(delivered(1_000_000, 1_000, 0), &Tally::default());
        log.note_delivered(delivered(9_000_000, 20, 10), &Tally::default());
        assert_eq!(log.per_second(10_000_000), 103.0);
        assert_eq!(log.per_second(12_000_000), 3.0, "the first one is older than ten seconds");
        // A hundred a second: half a second is remembered, of which the first one tells the beginning.
        let mut log = Log::default();
        (0..200).for_each(|n| log.note_delivered(delivered(n * 10_000, 4, 0), &Tally::default()));
        assert!((log.per_second(199 * 10_000) - 400.0).abs() < 0.001);
    }

    #[test]
    fn times_are_those_from_the_commit() {
        let mut log = Log::default();
        assert_eq!(log.commit_delivered_ms(), None);
        log.note_delivered(delivered(1, 2, 0), &[4_000, 4_000].into_iter().collect());
        assert_eq!(log.commit_delivered_ms(), Some((4.0, 4.0)));
    }
}
