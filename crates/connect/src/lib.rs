//! Sources and destinations: where changes come from and where they go, each in a folder of its own.
//!
//! A source ([`source`]) yields whole transactions of changes with a position; resuming from a position repeats nothing
//! and skips nothing. A destination ([`destination`]) takes portions of rows by key and says what became of each; a portion that it
//! has is not taken twice. [`maxwell`] is Maxwell's role alone: the log of a server as messages. Everything foreign is translated here, at the edge: behind this crate there are only rows of
//! `relation`. Secrets ([`secret`]) are references that are resolved only here.
//!
//! This crate never knows models, flows or stored tables, and connectors do not know one another.

mod avro;
mod backoff;
mod base64;
pub mod destination;
mod kafka;
pub mod maxwell;
mod registry;
pub mod secret;
pub mod source;
mod tls;

pub use backoff::{Backoff, jitter};
pub use destination::{Destination, DestinationKind};
pub use secret::Secret;
pub use source::{
    Absence, Check, CheckOutcome, ColumnRule, Control, Declared, DeclaredColumn, Failure, FollowedTable, LeftOut,
    Limits, Load, OnChange, OnUnsupported, OwnFacts, Pattern, ReadWhole, Requests, Retention, RowSink, Settings,
    Source, SourceEvent, SourceKind, SourceState, TableFacts, TablePlace, Unanswered, WholePace, WholePart,
    WholeReader,
};
