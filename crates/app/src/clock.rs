//! Time, as an argument: the only place where the wall clock is read.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970-01-01 UTC, or since some moment of this process ([`Uptime`]).
    fn now_us(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock;

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "the rim: this is the clock that is passed in")]
    fn now_us(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }
}

/// The machine's uptime: for intervals and paces, which must not stand still when somebody sets the clock back. Its zero is
/// when it was made, so it says nothing about the time of day.
#[derive(Debug, Clone, Copy)]
pub struct Uptime(Instant);

impl Uptime {
    /// Begins at 0.
    pub fn new() -> Self {
        Self(stopwatch())
    }
}

impl Default for Uptime {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for Uptime {
    fn now_us(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

/// Starts a stopwatch.
#[expect(clippy::disallowed_methods, reason = "the rim: durations shown to people and measured by benches")]
pub fn stopwatch() -> Instant {
    Instant::now()
}
