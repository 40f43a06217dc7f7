//! The store: the change log is the truth, tables, indexes and operator states are its fold.
//!
//! ```text
//! append(step, record) ─► log segments (crc32, fdatasync)                durable when it returns
//! commit(step, writes) ─► overlay: immutable runs, newest last ─► View   visible at once, to every reader
//!                              │ background fold: net effect per key, one sorted ingestion with folded_step inside
//!                              ▼
//!                         tables (one fjall keyspace): TableId, big endian ++ key -> value
//! ```
//!
//! The laws. *Durable before visible*: a step is committed after its record was synced. *A fold is all or nothing*:
//! every entry up to step F and `folded_step = F` travel in one ingestion into one keyspace, so that replay starts at
//! F + 1 and nothing is applied twice. *The overlay holds absolute values*, never increments. *A reader* takes tables,
//! runs and step as one published value (a [`Snapshot`]) and never blocks the writer. *A [`TableId`] is an
//! incarnation*: once dropped it is never written again.
//!
//! *A transaction larger than memory* is staged in a file ([`Store::begin_stage`]) and run as a chain of steps that
//! become visible together: all but the last are committed by [`Store::commit_hidden`]. The engine reads them
//! ([`Store::working`]), readers do not ([`Store::snapshot`]) until the next ordinary commit. The fold goes on meanwhile,
//! so a store that was killed in the middle of a chain opens at a hidden step: *the engine finishes a chain that it finds
//! begun before anybody reads*.
//!
//! The store knows bytes only. What the bytes mean is written down in its [`catalog`]; what a step's log record holds
//! is the concern of [`record`]. It knows no SQL, no DataFusion and no network.

mod arena;
mod base;
mod cached;
pub mod catalog;
mod cursor;
mod disk;
mod error;
pub mod files;
mod filter;
mod fold;
mod folder;
mod hot;
mod log;
mod merges;
mod options;
mod part;
pub mod record;
mod room;
mod run;
mod scan;
mod slice;
mod snapshot;
mod stage;
mod stats;
mod store;
mod writes;

pub use catalog::{Catalog, Kind};
pub use error::{Error, Result};
pub use folder::{FORMAT, holder};
pub use hot::Hot;
pub use log::{Place, Replay, Syncing};
pub use options::Options;
pub use record::Record;
pub use relation::TableId;
pub use scan::Scan;
pub use slice::Slice;
pub use snapshot::Snapshot;
pub use stage::{StageId, StageReader, StageWriter};
pub use stats::Stats;
pub use store::Store;
pub use writes::{Once, Prepared, Writes};

/// The store's own entries: `folded_step` and the tables that were dropped. Nobody else writes here.
pub const META: TableId = TableId(0);

/// Longest key of an entry, in bytes: what fjall takes, less the table's prefix.
pub const KEY_BYTES_MAX: usize = 65_535 - 4;

/// Longest value of an entry, in bytes. A block of the tables holds a value whole, and its length is a number of 32 bits.
pub const VALUE_BYTES_MAX: usize = 1 << 30;

/// Locks a mutex whose holder cannot leave the value half-changed by a panic.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
