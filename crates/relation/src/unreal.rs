//! Dates that no calendar has, where they must stay apart: MySQL keeps `0000-00-00`, `2020-00-00` and 30 February, also as
//! keys.
//!
//! Each has a day of its own, [`day`]; its timestamps are the microseconds of that day, as those of a real one are. These
//! days lie
//!
//! - below every day that functions of dates can reckon with (they begin with the year -262143), so that none takes such
//!   a date for a real one: where the planner has no answer for it, the row fails;
//! - above the first day whose microseconds fit into 64 bits, so that the cast of such a date is the timestamp of the same
//!   date.
//!
//! So they sort before all real dates. People and clients see each as `-infinity`, [`SHOWN`].

use std::ops::RangeInclusive;

/// How such a date or timestamp is written: as PostgreSQL writes what is before all others.
pub const SHOWN: &str = "-infinity";

/// The days that stand for such dates, counted from 1970-01-01. The first is also what computations answer with: it is
/// the `-infinity` of literals, of clients and of functions.
pub const DAYS: RangeInclusive<i32> = FIRST..=LAST;

/// The microseconds of these days.
pub const INSTANTS: RangeInclusive<i64> = FIRST as i64 * DAY_US..=(LAST as i64 + 1) * DAY_US - 1;

/// The day of `0000-00-00`.
const FIRST: i32 = -106_000_000;
const LAST: i32 = FIRST + (YEARS * MONTHS * MONTH_DAYS).cast_signed() - 1;

/// What MySQL's three bytes of a date have room for.
const YEARS: u32 = 1 << 14;
const MONTHS: u32 = 1 << 4;
const MONTH_DAYS: u32 = 1 << 5;

const DAY_US: i64 = 86_400_000_000;

/// The day that stands for a date; none where its parts are beyond what MySQL has room for.
pub fn day(year: u32, month: u32, day: u32) -> Option<i32> {
    if year >= YEARS || month >= MONTHS || day >= MONTH_DAYS {
        return None;
    }
    FIRST.checked_add_unsigned((year * MONTHS + month) * MONTH_DAYS + day)
}

/// Whether a day counted from 1970-01-01 stands for such a date.
#[inline]
pub fn is_day(day: i64) -> bool {
    (i64::from(FIRST)..=i64::from(LAST)).contains(&day)
}

/// Whether microseconds since 1970-01-01 are on such a day.
#[inline]
pub fn is_instant(us: i64) -> bool {
    INSTANTS.contains(&us)
}
