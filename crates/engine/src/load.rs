//! How far a table's content is known: its load, a fact of the store.
//!
//! ```text
//! Loading ──────────────► Complete ◄─────── Sweeping ◄─── Reloading
//!    chunks                 │ ▲  rows that nothing brought go    ▲ chunks
//!                           │ └── (first load)                   │
//!                           └─ Parked, Altered, Partial, … ── Input::Reload
//! ```

use crate::error::{Error, Result};
use crate::parts;

/// How far a table is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// The first load: changes are normalised against what is stored; the source goes on from the cursor.
    Loading {
        cursor: Option<Vec<u8>>,
    },
    /// Loaded again from the start, since its content is in doubt: the old rows serve until the new ones are there. The
    /// source goes on from the cursor.
    Reloading {
        cursor: Option<Vec<u8>>,
        again: Again,
    },
    /// All of it was loaded again, and rows that neither a chunk nor the log has brought are being deleted; of a table without
    /// a key, rows come and go as they were counted. For the source the table is complete; up to the key `after` it is here.
    Sweeping {
        after: Option<Vec<u8>>,
        again: Again,
    },
    Complete,
    /// Followed from a position of the log, without a load: rows from before are not there, so changes are normalised
    /// for ever. Models may be built over it.
    Partial,
    /// Not followed any more, and why.
    Parked {
        reason: String,
        /// Whether it was loaded whole by then: then what there is of it serves on, and grows old.
        whole: bool,
    },
    /// Its columns are others now: it serves on as it was, until the incarnation with the new columns takes its place.
    Altered {
        reason: String,
        /// When the source said so, in microseconds since 1970; 0 where the columns had changed by a start.
        since_us: i64,
        /// Whether it was loaded whole by then.
        whole: bool,
    },
}

/// Why and since when a table is loaded again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    pub reason: String,
    /// In microseconds since 1970, by whoever gave the input.
    pub since_us: i64,
    /// The step with which it began.
    pub since_step: u64,
    /// Whether it was loaded whole before: then what reads it serves on.
    pub whole: bool,
}

const COMPLETE: u8 = 1;
const PARKED: u8 = 2;
const PARTIAL: u8 = 3;
const RELOADING: u8 = 4;
const SWEEPING: u8 = 5;
const ALTERED: u8 = 6;
/// Parked before it was loaded whole.
const UNLOADED: u8 = 7;
/// The last of these.
pub(crate) const LAST: u8 = UNLOADED;

impl Load {
    /// Whether changes and chunks are taken.
    pub fn is_followed(&self) -> bool {
        !matches!(self, Self::Parked { .. } | Self::Altered { .. })
    }

    /// Why and since when it is loaded again, if it is.
    pub fn again(&self) -> Option<&Again> {
        match self {
            Self::Reloading { again, .. } | Self::Sweeping { again, .. } => Some(again),
            _ => None,
        }
    }

    /// Up to which key it is swept.
    pub(crate) fn swept_through(&self) -> Option<&[u8]> {
        match self {
            Self::Sweeping { after, .. } => after.as_deref(),
            _ => None,
        }
    }

    /// Whether everything is there that will ever be without its changes: what may take another incarnation's place.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Complete | Self::Partial)
    }

    /// Whether all of it has been there once. Until then it is not read, nor is what stands on it: what is there of it is no prefix
    /// of its source. Loaded again it has true differences alone, with which a build catches up as with any others.
    pub fn was_whole(&self) -> bool {
        match self {
            Self::Loading { .. } => false,
            Self::Reloading { again, .. } | Self::Sweeping { again, .. } => again.whole,
            Self::Altered { whole, .. } | Self::Parked { whole, .. } => *whole,
            Self::Complete | Self::Partial => true,
        }
    }

    /// Why it is not loaded any further, where it has never been whole.
    pub(crate) fn unloaded(&self) -> Option<&str> {
        match self {
            Self::Parked { reason, whole: false } => Some(reason),
            _ => None,
        }
    }

    /// As a fact of the store.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Loading { cursor: None } => Vec::new(),
            Self::Loading { cursor: Some(cursor) } => [&[0], cursor.as_slice()].concat(),
            Self::Complete => vec![COMPLETE],
            Self::Parked { reason, whole } => [&[if *whole { PARKED } else { UNLOADED }], reason.as_bytes()].concat(),
            Self::Partial => vec![PARTIAL],
            Self::Reloading { cursor, again } => again.to_bytes(RELOADING, cursor.as_deref()),
            Self::Sweeping { after, again } => again.to_bytes(SWEEPING, after.as_deref()),
            Self::Altered { reason, since_us, whole } => {
                let mut out = vec![ALTERED];
                parts::join(&mut out, &[reason.as_bytes(), &since_us.to_le_bytes(), &[u8::from(*whole)]]);
                out
            }
        }
    }

    /// The reverse of [`Load::to_bytes`]. Errors: bytes that say nothing.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let read = match bytes {
            [] => Some(Self::Loading { cursor: None }),
            [0, cursor @ ..] => Some(Self::Loading { cursor: Some(cursor.to_vec()) }),
            [COMPLETE] => Some(Self::Complete),
            [tag @ (PARKED | UNLOADED), reason @ ..] => {
                Some(Self::Parked { reason: String::from_utf8_lossy(reason).into_owned(), whole: *tag == PARKED })
            }
            [PARTIAL] => Some(Self::Partial),
            [RELOADING, rest @ ..] => Again::read(rest).map(|(again, cursor)| Self::Reloading { cursor, again }),
            [SWEEPING, rest @ ..] => Again::read(rest).map(|(again, after)| Self::Sweeping { after, again }),
            [ALTERED, rest @ ..] => Self::altered(rest),
            [tag, ..] if *tag > LAST => {
                let what = "how far a table is loaded".to_owned();
                return Err(Error::Store(store::Error::Newer { what }));
            }
            _ => None,
        };
        let reason = "the fact is not as it was written";
        read.ok_or(Error::Store(store::Error::Decode { what: "how far a table is loaded", reason }))
    }

    fn altered(bytes: &[u8]) -> Option<Self> {
        let parts = parts::split(bytes)?;
        let [reason, since, [whole]] = parts[..] else { return None };
        let reason = std::str::from_utf8(reason).ok()?.to_owned();
        Some(Self::Altered { reason, since_us: i64::from_le_bytes(since.try_into().ok()?), whole: *whole == 1 })
    }
}

impl Again {
    fn to_bytes(&self, tag: u8, place: Option<&[u8]>) -> Vec<u8> {
        let (since, step, whole) = (self.since_us.to_le_bytes(), self.since_step.to_le_bytes(), [u8::from(self.whole)]);
        let mut all: Vec<&[u8]> = vec![self.reason.as_bytes(), &since, &step, &whole];
        all.extend(place);
        let mut out = vec![tag];
        parts::join(&mut out, &all);
        out
    }

    /// With the cursor or key behind it, if there is one.
    fn read(bytes: &[u8]) -> Option<(Self, Option<Vec<u8>>)> {
        let parts = parts::split(bytes)?;
        let ([reason, since, step, [whole]], place) = parts.split_first_chunk::<4>()? else { return None };
        let again = Self {
            reason: std::str::from_utf8(reason).ok()?.to_owned(),
            since_us: i64::from_le_bytes((*since).try_into().ok()?),
            since_step: u64::from_le_bytes((*step).try_into().ok()?),
            whole: *whole == 1,
        };
        match place {
            [] => Some((again, None)),
            [place] => Some((again, Some(place.to_vec()))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_comes_back_out_of_its_bytes() {
        let again = |whole| Again { reason: "why".to_owned(), since_us: -7, since_step: 3, whole };
        let loads = [
            Load::Loading { cursor: None },
            Load::Loading { cursor: Some(vec![]) },
            Load::Loading { cursor: Some(vec![4, 1]) },
            Load::Reloading { cursor: None, again: again(true) },
            Load::Reloading { cursor: Some(vec![]), again: again(false) },
            Load::Sweeping { after: None, again: again(false) },
            Load::Sweeping { after: Some(vec![0, 9]), again: again(true) },
            Load::Complete,
            Load::Partial,
            Load::Parked { reason: "gone".to_owned(), whole: true },
            Load::Parked { reason: String::new(), whole: false },
            Load::Altered { reason: "alter table".to_owned(), since_us: 9, whole: true },
        ];
        for load in loads {
            assert_eq!(Load::from_bytes(&load.to_bytes()).unwrap(), load);
        }
        for damaged in [&[1, 1][..], &[4, 0], &[6], &[9], &[8]] {
            Load::from_bytes(damaged).unwrap_err();
        }
    }
}
