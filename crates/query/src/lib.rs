//! SQL, plans and flows answered over one step of the store, with DataFusion's executor.
//!
//! ```text
//! SQL ── parse ── names of a Catalog ── plan ─┐
//! plan::Planned.logical ── its scans' tables ─┼─ optimise ── execute ──► record batches
//! Flow node ── flow_to_logical ───────────────┘       │
//!                                     StoredScan: the keys that conditions name, the columns that are read
//! ```
//!
//! A [`Session`] sees one step: every table it reads is of the same [`Storage`] snapshot, however long the answer
//! takes, and no read waits for a writer. It is made per query and costs nothing; what queries share (functions,
//! planner rules, the memory budget) is a [`Runtime`], what names mean is a [`Catalog`].
//!
//! Used three ways: by people and tools through `serve` ([`Session::execute`]), to build states ([`Session::flow`]),
//! and as the oracle that upkeep is checked against ([`Session::logical`] and [`compare`]). Errors come as Postgres
//! words and codes ([`Error`]). Nothing here writes.

mod asked;
mod barrier;
mod bounded;
mod catalog;
mod compare;
mod conditions;
mod constants;
pub mod error;
mod executor;
pub mod expression;
mod flow;
mod foreign;
mod form;
mod isolate;
mod known;
mod known_counts;
mod limits;
mod many_rows;
mod memory;
mod names;
mod ordered;
mod origins;
mod output;
mod pg_catalog;
mod planning;
mod point;
mod runtime;
mod scan;
mod session;
mod snapshot;
mod statement;
mod storage;
mod template;
mod virtual_table;
mod watch;
mod watched;

pub use asked::{Asked, Asking, Lesson};
pub use catalog::{Access, Batches, Catalog, Documentation, Form, Reference, StoredTable, VirtualRows, VirtualTable};
pub use compare::{Difference, compare};
pub use error::{Error, Result};
pub use executor::{Answered, Executor};
pub use flow::{Isolation, Tables, flow_to_logical};
pub use isolate::Reject;
pub use origins::{Origin, Origins, origins};
pub use runtime::{Runtime, Settings};
pub use session::{Answer, Description, Identity, Reads, Session, parameter};
pub use statement::{Kind, Statement, parse};
pub use storage::{Storage, Visitor};
pub use watch::Watch;
