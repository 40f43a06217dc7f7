//! Outboxes: which rows of a relation somebody else has to be given, kept true by the steps themselves.
//!
//! An outbox follows one relation with a unique key, a model's rows or a source's table. In the very commit with which a step
//! changes the relation it marks the keys that changed, so that nothing is missed and replay makes the same marks. What is to be
//! sent is not kept: the row of a marked key is looked up when it is read ([`Reader::read`]), so a key that changed five times is
//! sent once, and one that came and went is not sent. What became of it comes back as an input of a step ([`Reader::settle`]).
//!
//! ```text
//! step ─► pending: key -> step         Reader::read ─► Portion ─► the other side
//!            ▲                                                        │ Outcome of each item
//! relation ──┘      accepted: key -> fingerprint ◄─ Input::Outbox ◄───┘
//!                   refused:  key -> when, why
//! ```
//!
//! *pending* key → the step that changed it last. An outcome takes the mark away only if it is still of the step that was sent.
//! *accepted* key → fingerprint of the mapped columns as the other side has them; empty where it may have any row, or none. Laws: a key
//! that the other side may have is in here or is pending; outside of doubt (below) it has exactly what stands here.
//! *refused* key → the row that it did not take, until another row of that key is settled.
//!
//! *The walk.* An outbox that begins, and one whose relation is another one under its name (put in place, rolled back, healed), or
//! whose other side has lost what it had, or whose mapping has changed, is filled: one walk in key order over relation, accepted
//! and pending together, from a cursor that is stored with the outcomes. Rows whose fingerprint is accepted are passed over, so a
//! walk over what is there already sends nothing; what is accepted and not in the relation is deleted. Where the other side has
//! lost what it had, another *generation* begins: it is part of the fingerprint, so nothing compares equal any more.
//!
//! *Doubt.* What was sent and never answered may be there or not: after a crash, after a lost connection. Those keys are all
//! pending still, or among the next behind the walk's cursor, where the walk comes to them again; they are marked when it would not
//! know them again, since it begins over another relation or marks are left out. So a [`Reader`] begins in doubt, and sends what is pending without comparing it
//! until it has been through all of it once.
//!
//! *Unheard of.* Until it has been through all of them, a key that is to be deleted may have a row there of which no answer tells: one of
//! a portion whose answer was lost. The reader knows between which keys that may be, so that these deletes are counted as others
//! are.
//!
//! *Moved.* Where what holds the place has another name than before, what was noted there tells whether it is the same one. It is: all that
//! is known holds. It is not: nothing is there of what was delivered, so nothing is deleted there for it.
//!
//! *Retired.* An outbox that is wanted no more follows nothing, and knows what it has delivered. When it is wanted again, a walk finds
//! what has changed meanwhile, and what is to be deleted.
//!
//! *Durable ground.* What is set up between two steps (an outbox, another relation under it) is in no record of the log until it is
//! folded; nothing is handed out before that, so that no crash can take back what a delivery stood on.
//!
//! *Consent.* How much of the other side is to go is told before the first of it goes, and a person can be asked: [`Leaving`] counts it.
//!
//! *Ahead.* While a portion is on its way the next one may be read ([`Lookahead`]); it is handed out when the one before it is settled.
//!
//! *Bounds.* Marks are bounded in bytes ([`Definition::pending_bytes_max`]): beyond them the outbox stops marking and is paused; what
//! it knows stays, and [`Told::Resume`] begins a walk, which finds whatever has changed meanwhile.

mod facts;
mod keep;
mod leaving;
mod lookahead;
mod marker;
mod read;
mod sent;
mod status;
mod told;
mod unheard;

pub use leaving::Leaving;
pub use lookahead::Lookahead;
pub use marker::Resumed;
pub use read::{Item, LOOKED_AT_MAX, Limits, Outcome, Portion, Read, Reader};
pub use status::{Filling, Outboxes, RefusedRow, Status};
pub use told::{Asked, Delivered, Told};

pub(crate) use facts::{At, Outbox};

use plan::TableName;

/// A place that an outbox delivers to: see [`Definition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub within: u64,
    pub place: u64,
}

/// What an outbox is to follow, as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// By this it is found again: the sync's name.
    pub name: String,
    /// The model, or the source's table, by the name under which it serves. It needs a unique key.
    pub relation: TableName,
    /// The columns that are delivered: a change of others sends nothing.
    pub columns: Vec<String>,
    /// Whatever else makes a delivered row what it is (names at the other side, formats), as a number: with another one every row is
    /// sent again.
    pub mapping: u64,
    /// Where the rows go within the other side, as a number: at another place nothing is there of what was delivered. 0: unknown.
    pub place: u64,
    /// What holds the place, as a number: a server, by its name. One of another name may be another server, or the same one with another
    /// name: what was noted there tells. 0: unknown.
    pub within: u64,
    /// Bytes of marked keys beyond which it stops marking and is paused.
    pub pending_bytes_max: u64,
}

impl Definition {
    /// Whether another one is of the same place within something of another name.
    pub(crate) fn is_elsewhere_within(&self, other: &Self) -> bool {
        self.place != 0 && self.place == other.place && !self.is_at(other)
    }

    /// Whether another one delivers to the same place, as far as that is known.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        let is_within = self.within == 0 || other.within == 0 || self.within == other.within;
        self.place != 0 && self.place == other.place && is_within
    }

    /// The bound of marked keys that is enough for some ten million of them.
    pub const PENDING_BYTES_MAX: u64 = 1 << 30;
}

/// What of outboxes stands in records and facts.
#[cfg(test)]
pub(crate) fn forms() -> [String; 2] {
    [told::forms(), facts::forms()]
}
