//! A simulated shop: its life as rows and transactions.
//!
//! People visit, look, buy, pay, wait for the parcel, review, complain and get refunds; prices change, stock is counted,
//! red packets are given out. All of it is a function of the [`Settings`] and of numbers: visit 17 has always the same
//! visitor at the same time, order 17 the same items and the same fate, and every row is a function of its key and of
//! the shop's time. A change at a time is therefore the row just before it and the row at it, a first load is all rows at
//! a time, and a [`Simulation`] can be taken up wherever it stood by that time alone. Stock is the one thing that has to
//! be summed up; it is counted every midnight, so that no more than a day has to be summed.
//!
//! Time here is the shop's own. Who runs the shop says up to which time, at a pace of their liking.

mod calendar;
mod catalogue;
mod cells;
mod collector;
mod day_plan;
mod dice;
mod load;
mod order;
mod packets;
mod people;
mod rows;
mod settings;
mod simulation;
mod stock;
mod tables;
mod tell;
#[cfg(test)]
mod tests;
mod told;
mod visit;
mod words;
mod world;

pub use load::Chunk;
pub use settings::{ResumeError, Settings};
pub use simulation::Simulation;
pub use tables::Table;
pub use told::{Told, Transaction};

/// Microseconds.
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;
/// The time of what never happens.
pub(crate) const NEVER: i64 = i64::MAX;

/// A position in a list; numbers of this crate are small and not negative.
pub(crate) fn index(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// A length as a number of this crate.
pub(crate) fn length(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
