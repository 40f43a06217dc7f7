//! Where the story stands, as text.

use std::fmt;
use std::str::FromStr;

use super::calendar::Calendar;

/// All that it takes to tell the rest of the story: nothing of it is kept anywhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seed: u64,
    /// All transactions of this tick and of those before it have been told.
    pub(super) tick: u64,
    /// And so many of the tick after it.
    pub(super) done: usize,
    pub(super) calendar: Calendar,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1 seed={} tick={} done={} calendar={}", self.seed, self.tick, self.done, self.calendar)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        if words.next() != Some("v1") {
            return Err(());
        }
        let mut word = |name: &str| words.next().and_then(|w| w.strip_prefix(name)?.strip_prefix('=')).ok_or(());
        let place = Self {
            seed: word("seed")?.parse().map_err(|_| ())?,
            tick: word("tick")?.parse().map_err(|_| ())?,
            done: word("done")?.parse().map_err(|_| ())?,
            calendar: word("calendar")?.parse()?,
        };
        if words.next().is_none() { Ok(place) } else { Err(()) }
    }
}
