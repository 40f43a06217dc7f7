//! From bytes of the log to rows: what MySQL and MariaDB write into their binlog, decoded without a detour.
//!
//! The way of a change, and the file that knows each part:
//!
//! 1. `information_schema` tells the columns of a table: [`SourceColumn`] (`column`), and with them the type that each
//!    has in the warehouse: [`relation_schema`].
//! 2. A TABLE_MAP event precedes the rows of each table: [`TableMap`] (`table_map`). Its types and, where the server
//!    was told to write them (`binlog_row_metadata`), its names, signs, charsets and labels are the truth about the
//!    bytes that follow. Nothing of this is required: the servers' defaults write next to none of it.
//! 3. Both together give a [`Plan`] (`plan`): one small reader per column, made once per version of a table. Where they
//!    contradict each other the table is in doubt, and [`Mismatch`] says how.
//! 4. [`Plan::decode_rows`] (`rows`) walks a rows event and writes each image, value by value (`value`), straight into a
//!    row of `relation`: nothing in between, no allocation per row.
//!    Columns that are left out are passed over by their length (`slots`).
//!    Of tables that keep their history (`period`) only the versions that are current become rows.
//!    Of tables that keep their declared columns they are turned into rows of these (`mapping`).
//! 5. A snapshot reads the same table by SQL; [`SnapshotPlan`] (`snapshot`) chooses the expressions and writes the same
//!    bytes, so that a row looks alike whichever way it came.
//!
//! What a value becomes where the two worlds differ: a zero or impossible date, the timestamp 0 and the enum index 0 are
//! NULL, but that such dates stay apart in a key, each shown as `-infinity` ([`relation::unreal`]); `time` is text (it
//! reaches from -838:59:59 to 838:59:59); a `binary(n)` has all its n bytes; text that is not valid in its charset keeps the
//! readable part and shows a question mark for the rest, as the server does, but that it is refused in a key; JSON is spelled as the server spells it; geometries are WKT without their
//! SRID.

mod charset;
mod charset_table;
mod column;
mod compressed;
#[cfg(test)]
mod documented;
pub(crate) mod geometry;
mod json;
pub(crate) mod json_diff;
mod mapping;
mod number;
mod period;
mod plan;
mod rows;
mod slots;
mod snapshot;
mod table_map;
pub(crate) mod temporal;
mod value;
pub(crate) mod word;

use std::fmt;

pub(crate) use charset::text_of_collation;
pub use column::{SourceColumn, relation_schema};
pub(crate) use column::{labels, unsupported};
pub use compressed::{inflate_mariadb, inflate_mariadb_block};
pub(crate) use period::{ROW_END, ROW_START};
pub use plan::Plan;
pub(crate) use rows::has_no_foreign_key_checks;
pub use rows::{BadValue, Decoded, RowsKind, table_id};
pub(crate) use slots::{HASH, HIDDEN, aligned, keep_only};
pub use snapshot::SnapshotPlan;
pub use table_map::TableMap;

/// By what values are read, for who makes something else of them than rows.
pub(crate) mod parts {
    pub(crate) use super::charset::{BINARY_COLLATION, Charset, of_collation};
    pub(crate) use super::column::Kind;
    pub(crate) use super::compressed::inflate_column;
    pub(crate) use super::json::{Raw, Spelling, write_quoted};
    pub(crate) use super::plan::{Content, Read};
    pub(crate) use super::rows::{Header, PARTIAL_UPDATE, bit};
    pub(crate) use super::slots::Span;
    pub(crate) use super::snapshot::expression;
    pub(crate) use super::table_map::{code, lenenc};
    pub(crate) use super::temporal::{self, Parts};
    pub(crate) use super::word;
    pub(crate) use super::{geometry, json_diff};
}

/// A column that the warehouse cannot hold: its table is parked, the others flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot capture column \"{column}\"")]
pub struct Unsupported {
    pub column: String,
    /// Why, as a sentence.
    pub reason: String,
}

impl Unsupported {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        "Leave the column out, with `on_unsupported: leave_out` in the `meta` of its table; or change its type or charset."
    }
}

/// The log and the registry contradict each other about a table: its schema is in doubt until it was read again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log disagrees with information_schema about table \"{table}\"")]
pub struct Mismatch {
    pub table: String,
    /// The difference, as a sentence.
    pub reason: String,
}

impl Mismatch {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        "The table was altered: a restart of Tidemill loads it with the columns that it has now. \
         With `SET GLOBAL binlog_row_metadata = FULL` the log itself says what changed."
    }
}

/// Why rows of an event could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The event does not carry whole rows.
    #[error("the log carries incomplete rows: {} missing", Names(.columns))]
    MissingColumns { columns: Vec<String> },
    /// The event has another number of columns than its table map: the plan belongs to another version of the table.
    #[error("the rows event has {event} columns, its table {table}")]
    ColumnCount { event: usize, table: usize },
    /// Bytes that are no event of this kind, or end too early; nothing of the event was written.
    #[error("damaged event: {0}")]
    Damaged(&'static str),
    /// An event type that this version cannot read.
    #[error("event type {0} cannot be read")]
    UnknownEvent(u8),
}

impl DecodeError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::MissingColumns { .. } => {
                "The table is loaded again whenever it is written so. Run `SET GLOBAL binlog_row_image = FULL` and reconnect the \
                 writers, some of which may set it for their session."
            }
            Self::ColumnCount { .. } => "The table was altered: read its columns again.",
            Self::Damaged(_) => "The event is not as the server's documentation says. Please report it with its bytes.",
            Self::UnknownEvent(_) => "The server writes a newer log format than this version reads.",
        }
    }
}

/// Column names as a message lists them.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            write!(f, "{}\"{name}\"", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
