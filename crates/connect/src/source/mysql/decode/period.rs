//! Tables that keep their history: MariaDB's system versioning, where the log has old versions of rows beside the current ones.
//!
//! The law: a row of the table is a version without an end, as a query shows it. Two more columns tell when a version began and
//! ended, the last moment there is standing for no end; they are no columns of the warehouse. An update is logged as one of
//! the current version and an insert of the old one, a delete as an update that gives the version its end, so that the image
//! before is a row and the one after is none. Tables whose versions are counted by transactions, not by time, never have
//! rows in the log: the server logs their changes as statements.

use super::column::SourceColumn;
use super::plan::Read;
use super::table_map::code;

/// `data_type` of the columns that tell when a version began and ended.
pub(crate) const ROW_START: &str = "row start";
pub(crate) const ROW_END: &str = "row end";

/// The last moments that a timestamp may be: before MariaDB 11.5, and since.
pub(super) const NO_END: [&[u8]; 2] =
    [&[0x7f, 0xff, 0xff, 0xff, 0x0f, 0x42, 0x3f], &[0xff, 0xff, 0xff, 0xff, 0x0f, 0x42, 0x3f]];

impl SourceColumn {
    /// Whether it tells when a version of the row began or ended.
    pub fn is_of_period(&self) -> bool {
        matches!(self.data_type.as_str(), ROW_START | ROW_END)
    }
}

/// The reader of a column of the period: its bytes are looked at, and are no value.
pub(super) fn bound(kind: u8, meta: [u8; 2]) -> Option<Read> {
    match (kind, meta[0]) {
        (code::TIMESTAMP2, 6) => Some(Read::Bound { width: 7 }),
        _ => None,
    }
}
