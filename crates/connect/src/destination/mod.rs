//! Destinations: where a relation's rows go, by key. Whoever runs them matches on no kind: it asks the list ([`KINDS`]).
//!
//! ```text
//!   Settings (connections.yml) ─┐
//!   Target (a sync, its columns) ─┴─► DestinationKind::open ─► Destination ── begin ──► Begun: what it has, or that it lost it
//!                                                                   └─ deliver(Portion, Seal) ─► an Outcome for each row
//! ```
//!
//! The laws:
//!
//! - **A portion that was taken is known.** Its marker ([`Seal`]) is written beside its rows, by databases in the same transaction,
//!   and [`Destination::begin`] reads it back: a portion whose acknowledgement was lost is not sent again.
//! - **Nothing goes back.** Each session leaves a token beside the marker, and rows are taken only while it is there. Portions of a
//!   session come in their order, and what a connection of before still has on its way finds another token. So no row needs a
//!   version, and tables that others have made can be delivered to.
//! - **One row's trouble is its own.** What the other side refuses of a portion is looked for by halves ([`bisect`]), and the others
//!   go on. A refusal that every row gets is none of rows: it stops the sync.
//! - **What is refused is refused before the first row** where it can be told: a column that lacks, a type that would round.
//!
//! `kind` has the traits, `session` what is the same of all that deliver over connections, `tables` and `columns` of all databases, `mapping` which column goes where, `portion` what is sent, `text` and `cells` how values are written.

pub(crate) mod bisect;
mod cells;
mod columns;
pub mod kafka;
mod kind;
mod link;
mod mapping;
pub mod mysql;
mod portion;
pub mod postgres;
pub mod redis;
mod session;
mod tables;
pub(crate) mod text;

pub use kind::{At, Begun, Destination, DestinationKind, Down, Place, Problem, Target};
pub use mapping::{Field, Mapping};
pub use portion::{Item, Outcome, Portion, Refusal, Seal};

/// The kinds of destinations.
pub static KINDS: &[&dyn DestinationKind] = &[&postgres::Kind, &mysql::Kind, &redis::Kind, &kafka::Kind];

/// The kind of connections of a type, if they can be delivered to.
pub fn kind_of(wanted: &str) -> Option<&'static dyn DestinationKind> {
    KINDS.iter().copied().find(|kind| kind.is_of(wanted))
}

/// The table, the key in Redis, or the topic of Kafka in which sessions leave their marks.
pub const MARKERS: &str = "_tidemill_deliveries";
