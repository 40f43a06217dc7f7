//! The engine: a database that keeps its queries answered.
//!
//! Everything is a table with indexes, folded from the log: source tables, kept models, and the state of every operator.
//! A state is a relation: *building* it is a query over one snapshot ([`build`]), *keeping* it is a delta rule
//! ([`operator`]). A step takes whole source transactions and visits only the nodes whose inputs changed ([`step`]); all it
//! writes becomes visible at once. A join over stored relations needs no copy of them ([`arrange`]).
//!
//! The way of a change: [`Engine::step`] → normalised against what is stored while its table is loading ([`ingest`]) →
//! appended to the log → deltas along the [`graph`] → one commit.
//!
//! Whoever is to be given the rows of a table or model by their keys, row by row, has an [`outbox`].
//!
//! The engine never sees SQL text, MySQL, HTTP or the project folder.

pub mod arrange;
pub mod buckets;
pub mod build;
mod chain;
mod engine;
mod error;
pub mod expr;
#[cfg(test)]
mod forms;
pub mod graph;
mod incarnations;
mod ingest;
mod input;
mod load;
mod network;
pub mod operator;
pub mod outbox;
mod parts;
mod pour;
mod rejects;
mod reload;
mod states;
pub mod step;
pub mod stored;
mod unique;
mod versions;

pub use build::{Build, Finished};
pub use engine::{Engine, Model, ModelDefinition, ModelState, Positions, Settings, SourceTable};
pub use error::{Error, Result};
pub use input::{Input, Note};
pub use load::{Again, Load};
pub use rejects::{Reject, RejectCounts, RejectReader, RejectedRow};
pub use states::{KeptState, StateForm};
pub use step::{RelationReport, StepReport};
pub use unique::is_unique_by;
pub use versions::{Coming, Difference, Refused};
