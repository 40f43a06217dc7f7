//! The guard of removals: how many rows of the other side may go at once before a person is asked.
//!
//! What is to go is counted before the first of it goes, and what a person lets go is known durably, both by the outbox
//! ([`engine::outbox::Leaving`]). Here is how much that may be, and what is said of more.

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
pub(super) fn allowed(removals: Removals, there: u64) -> u64 {
    match removals {
        Removals::Rows(rows) => rows,
        Removals::Percent(0) => 0,
        Removals::Percent(percent) => {
            let share = u128::from(there) * u128::from(percent) / 100;
            u64::try_from(share).unwrap_or(u64::MAX).max(ROWS_MIN)
        }
    }
}

/// The reason of the pause of a sync: so many rows of those that are there are to go.
pub(super) fn told(sync: &str, removals: Removals, leaves: u64, there: u64) -> String {
    let allowed = allowed(removals, there);
    format!(
        "{GUARD}{leaves} of {there} rows over there are to be deleted, and {allowed} may go at once (`guards`): \
         `tidemill resume {sync}` deletes them; where they should stay, mend the model first"
    )
}

/// The same where they are others than those of which the sync was paused before: as of a step, so that no two are told in the same words.
pub(super) fn told_anew(sync: &str, removals: Removals, leaves: u64, there: u64, step: u64) -> String {
    let told = told(sync, removals, leaves, there);
    format!("{told} (counted anew as of step {step}: these are not the rows of before)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_what_is_there_and_never_of_a_few() {
        assert_eq!(allowed(Removals::Percent(20), 1_000), 200);
        assert_eq!(allowed(Removals::Percent(20), 850), 170);
        assert_eq!(allowed(Removals::Percent(20), 100), 100);
        assert_eq!(allowed(Removals::Percent(0), 100), 0);
        assert_eq!(allowed(Removals::Percent(100), u64::MAX), u64::MAX);
        assert_eq!(allowed(Removals::Rows(5), 1_000), 5);
    }

    #[test]
    fn a_pause_says_how_much_is_to_go_and_how_to_go_on() {
        let told = told("s", Removals::Rows(5), 6, 1_000);
        assert_eq!(
            told,
            "guard: 6 of 1000 rows over there are to be deleted, and 5 may go at once (`guards`): `tidemill resume s` deletes \
             them; where they should stay, mend the model first"
        );
        assert!(is_of_guard(&told) && !is_of_guard(crate::delivery::BY_HAND));
        let anew = |step| told_anew("s", Removals::Rows(5), 6, 1_000, step);
        assert!(is_of_guard(&anew(7)) && anew(7).starts_with(&told) && anew(7) != anew(8));
    }
}
