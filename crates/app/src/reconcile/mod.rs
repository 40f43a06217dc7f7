//! What is kept against what it should be: models against the batch engine ([`models`]), tables against their source
//! ([`source`]), by hand or by the instance itself ([`keeper`]); and some rows of a table put right ([`amend`]).

pub mod amend;
pub mod book;
mod condition;
mod gap;
pub mod keeper;
pub mod models;
mod pair;
pub mod source;
mod sums;

/// A time that has passed, for people: in the largest unit of which it has one or more.
pub fn ago(us: i64) -> String {
    let seconds = (us / 1_000_000).max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
