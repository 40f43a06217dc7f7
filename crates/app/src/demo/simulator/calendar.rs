//! When things happen: from the story's ticks to times.
//!
//! The story counts in ticks, one order each, and knows no clock. A calendar says when a tick is: at the first start it
//! spreads the shop's past over [`HISTORY_DAYS`] days and begins the live part at the present; after a pause it begins
//! a new part, so that orders are placed now and not in the past. Times of old ticks stay what they were: the row
//! before an update must be the row that was sent. The calendar is therefore part of the source's position.

use std::fmt;
use std::str::FromStr;

/// Ticks before the first start.
pub(super) const HISTORY: u64 = 10_000;
/// Days over which they are spread.
pub(super) const HISTORY_DAYS: u64 = 30;
/// No order or customer is touched again later than so many ticks after its first.
pub(super) const WINDOW: u64 = 6_000;
/// Parts beyond which those are forgotten that no row in the window needs.
const PARTS_MAX: usize = 16;
const DAY_NS: u64 = 86_400_000_000_000;

/// Ticks at one pace from one moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    from: u64,
    at_us: i64,
    tick_ns: u64,
}

impl Part {
    fn time_us(&self, tick: u64) -> i64 {
        let passed = u128::from(tick.saturating_sub(self.from)) * u128::from(self.tick_ns) / 1_000;
        self.at_us.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

/// Times of ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    /// By `from`, never empty; the first begins at 0.
    parts: Vec<Part>,
}

impl Calendar {
    /// The shop's past ends now, and the live part begins, `tick_ns` nanoseconds per tick.
    pub(super) fn starting(now_us: i64, tick_ns: u64) -> Self {
        let days_us = i64::try_from(HISTORY_DAYS * DAY_NS / 1_000).unwrap_or(0);
        let past = Part { from: 0, at_us: now_us - days_us, tick_ns: HISTORY_DAYS * DAY_NS / HISTORY };
        Self { parts: vec![past, Part { from: HISTORY + 1, at_us: now_us, tick_ns }] }
    }

    /// From tick `from` on, time goes on from `now_us` at this pace.
    pub(super) fn continue_from(&mut self, from: u64, now_us: i64, tick_ns: u64) {
        self.parts.retain(|part| part.from < from);
        self.parts.push(Part { from, at_us: now_us, tick_ns });
        // The first stays: the shop's oldest rows are told from it. Behind it, a part whose successor is out of the
        // window only matters to a table that is loaded anew, whose oldest times may then differ a little.
        while self.parts.len() > PARTS_MAX && self.parts[2].from + WINDOW < from {
            self.parts.remove(1);
        }
    }

    /// When a tick is, in microseconds since 1970.
    pub(super) fn time_us(&self, tick: u64) -> i64 {
        self.part(tick).time_us(tick)
    }

    /// When the part `done / of` of a tick is.
    pub(super) fn time_within_us(&self, tick: u64, done: usize, of: usize) -> i64 {
        let tick_us = i64::try_from(self.part(tick).tick_ns / 1_000).unwrap_or(i64::MAX);
        let (done, of) = (i64::try_from(done).unwrap_or(0), i64::try_from(of).unwrap_or(1).max(1));
        self.time_us(tick).saturating_add(tick_us.saturating_mul(done) / of)
    }

    fn part(&self, tick: u64) -> &Part {
        let after = self.parts.partition_point(|part| part.from <= tick);
        &self.parts[after.saturating_sub(1)]
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts.iter().enumerate() {
            let separator = if i == 0 { "" } else { "," };
            write!(f, "{separator}{}@{}/{}", part.from, part.at_us, part.tick_ns)?;
        }
        Ok(())
    }
}

impl FromStr for Calendar {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let part = |text: &str| {
            let (from, rest) = text.split_once('@')?;
            let (at_us, tick_ns) = rest.split_once('/')?;
            Some(Part { from: from.parse().ok()?, at_us: at_us.parse().ok()?, tick_ns: tick_ns.parse().ok()? })
        };
        let parts: Option<Vec<Part>> = text.split(',').map(part).collect();
        let parts = parts.ok_or(())?;
        let sorted = parts.windows(2).all(|pair| pair[0].from < pair[1].from);
        if parts.first().is_some_and(|first| first.from == 0) && sorted { Ok(Self { parts }) } else { Err(()) }
    }
}
