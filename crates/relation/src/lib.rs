//! Values, rows and their encodings, schemas, deltas and positions: the vocabulary that every other crate speaks.
//!
//! A *row* is a tuple of values of a [`Schema`]. It has two encodings, both ours, both on disk, both versioned by
//! [`ENCODING_VERSION`]: the [`row`] encoding (compact, a column is reached without decoding the others) and the
//! [`key`] encoding (memcomparable: bytes compare as SQL compares). Between operators rows travel as columns, an Arrow
//! batch with a signed weight per row: a [`Delta`]. A change of a row is a delta of two: −1 before, +1 after.
//!
//! Nothing here does I/O, reads a clock or knows SQL.

mod array_text;
pub mod change;
pub mod columns;
pub mod delta;
mod interval;
pub mod json;
pub mod key;
pub mod row;
pub mod schema;
mod unread;
pub mod unreal;
pub mod value;

pub use change::{ChunkDone, Entry, Position, SourceBatch, TableChanges, TransactionMark, TransactionPart};
pub use delta::Delta;
pub use row::{Layout, Rows};
pub use schema::{Column, DataType, Schema, TableId};
pub use unread::Unread;
pub use value::Value;

/// Version of the row and key encodings; part of every identity that is written to disk.
pub const ENCODING_VERSION: u32 = 1;

/// What goes wrong with values and their encodings.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Text that is no value of the type.
    #[error("invalid input for type {data_type}: \"{text}\"")]
    Parse { data_type: DataType, text: String },
    /// An Arrow type that no column of ours can hold.
    #[error("type {0} cannot be stored")]
    UnsupportedType(String),
    /// Bytes that are no row or key of the expected layout: a bug or a damaged file.
    #[error("damaged row: {0}")]
    Damaged(&'static str),
    /// A weight or a sum left the range of its type.
    #[error("{0} out of range")]
    Overflow(&'static str),
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;
