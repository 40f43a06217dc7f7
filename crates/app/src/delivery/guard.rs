//! The guard of removals: how many rows of the other side may go at once before a person is asked.
//!
//! *At once* is a burst: from when there was nothing to deliver, or another round over what has changed began, until that is so
//! again. Before the first delete of a burst all that is to go is counted ([`engine::outbox::Leaving`]), so that nothing of too much is
//! deleted; what is added while it lasts counts too.

use engine::outbox::Leaving;
use project::Removals;

/// What the reason of a pause begins with where the guard has asked for it.
const GUARD: &str = "guard: ";

/// Rows that a share lets go in any case: of a few rows a share says little.
pub(super) const ROWS_MIN: u64 = 100;

/// Whether a sync was paused by its guard: resuming it lets go what it held.
pub(crate) fn is_of_guard(reason: &str) -> bool {
    reason.starts_with(GUARD)
}

/// How many rows a guard lets go, of so many.
fn allowed(removals: Removals, there: u64) -> u64 {
    match removals {
        Removals::Rows(rows) => rows,
        Removals::Percent(0) => 0,
        Removals::Percent(percent) => {
            let share = u128::from(there) * u128::from(percent) / 100;
            u64::try_from(share).unwrap_or(u64::MAX).max(ROWS_MIN)
        }
    }
}

/// A burst of deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Burst {
    removals: Removals,
    there: u64,
    spent: u64,
}

impl Burst {
    /// One that begins, with what there was to go then. Errors: it is too much, as the reason of a pause.
    pub(super) fn begin(sync: &str, removals: Removals, leaving: Leaving) -> Result<Self, String> {
        let burst = Self { removals, there: leaving.there, spent: 0 };
        burst.take(sync, leaving.leaves).map(|_| burst)
    }

    /// With so many more. Errors: that is too much.
    pub(super) fn take(self, sync: &str, leaves: u64) -> Result<Self, String> {
        let spent = self.spent.saturating_add(leaves);
        let allowed = allowed(self.removals, self.there);
        if spent <= allowed {
            return Ok(Self { spent, ..self });
        }
        Err(format!(
            "{GUARD}{spent} of {there} rows over there are to be deleted, and {allowed} may go at once (`guards`): \
             `tidemill resume {sync}` deletes them; where they should stay, mend the model first",
            there = self.there
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(removals: Removals, there: u64, leaves: u64) -> Result<Burst, String> {
        Burst::begin("s", removals, Leaving { there, leaves })
    }

    #[test]
    fn a_share_is_of_what_is_there_and_never_of_a_few() {
        assert!(begin(Removals::Percent(20), 1_000, 200).is_ok());
        assert!(begin(Removals::Percent(20), 1_000, 201).is_err());
        assert!(begin(Removals::Percent(20), 100, 100).is_ok());
        assert!(begin(Removals::Percent(0), 100, 1).is_err());
        assert!(begin(Removals::Percent(100), u64::MAX, u64::MAX).is_ok());
        assert!(begin(Removals::Rows(5), 1_000, 5).is_ok());
        let told = begin(Removals::Rows(5), 1_000, 6).unwrap_err();
        assert_eq!(
            told,
            "guard: 6 of 1000 rows over there are to be deleted, and 5 may go at once (`guards`): `tidemill resume s` deletes \
             them; where they should stay, mend the model first"
        );
        assert!(is_of_guard(&told) && !is_of_guard(crate::delivery::BY_HAND));
    }

    #[test]
    fn what_comes_while_it_lasts_counts() {
        let burst = begin(Removals::Rows(5), 1_000, 5).unwrap();
        let burst = burst.take("s", 3).unwrap().take("s", 2).unwrap();
        assert!(burst.take("s", 1).is_err());
    }
}
