//! Tables that keep their history: MariaDB's system versioning, where the log has old versions of rows beside the current ones.
//!
//! The law: a row of the table is a version without an end, as a query shows it. Two more columns tell when a version began and
//! ended, the last moment there is standing for no end; they are no columns of the warehouse. An update is logged as one of
//! the current version and an insert of the old one, a delete as an update that gives the version its end, so that the image
//! before is a row and the one after is none. Tables whose versions are counted by transactions, not by time, never have
//! rows in the log: the server logs their changes as statements.

use relation::TableChanges;

use super::column::SourceColumn;
use super::plan::{Plan, Read};
use super::rows::{Bad, Decoded, Header, Images, RowsKind, bit};
use super::table_map::code;
use super::value::{Fault, bytes};

/// `data_type` of the columns that tell when a version began and ended.
pub(crate) const ROW_START: &str = "row start";
pub(crate) const ROW_END: &str = "row end";

/// The last moments that a timestamp may be: before MariaDB 11.5, and since.
const NO_END: [&[u8]; 2] = [&[0x7f, 0xff, 0xff, 0xff, 0x0f, 0x42, 0x3f], &[0xff, 0xff, 0xff, 0xff, 0x0f, 0x42, 0x3f]];

impl SourceColumn {
    /// Whether it tells when a version of the row began or ended.
    pub fn is_of_period(&self) -> bool {
        matches!(self.data_type.as_str(), ROW_START | ROW_END)
    }
}

/// Where a versioned table's columns of the log go.
#[derive(Debug, Clone)]
pub(super) struct Period {
    /// Each one's place in the row; none for those of the period.
    slots: Vec<Option<usize>>,
    /// The column that tells the end.
    end: usize,
}

impl Period {
    /// None for tables that keep no history.
    pub(super) fn of(columns: &[SourceColumn]) -> Option<Self> {
        let end = columns.iter().position(|column| column.data_type == ROW_END)?;
        let mut next = 0..;
        let slots = columns.iter().map(|column| if column.is_of_period() { None } else { next.next() }).collect();
        Some(Self { slots, end })
    }

    /// The place in the row of a column of the log.
    pub(super) fn slot(&self, column: usize) -> Option<usize> {
        self.slots.get(column).copied().flatten()
    }
}

/// The reader of a column of the period: its bytes are looked at, and are no value.
pub(super) fn bound(kind: u8, meta: [u8; 2]) -> Option<Read> {
    match (kind, meta[0]) {
        (code::TIMESTAMP2, 6) => Some(Read::Bound { width: 7 }),
        _ => None,
    }
}

impl Plan {
    /// As [`Plan::decode_whole`], of the versions without an end alone.
    pub(super) fn decode_versions(
        &self,
        period: &Period,
        header: &Header<'_>,
        out: &mut TableChanges,
    ) -> Option<Decoded> {
        let mut decoded = Decoded::default();
        let mut rest = header.rows;
        while !rest.is_empty() {
            let (begin, start) = (rest, out.rows.len());
            let (mut bad, mut was_current, mut is_current) = (Bad::default(), false, false);
            if header.kind != RowsKind::Insert {
                was_current = self.version(period, &mut rest, -1, out, &mut bad.before)?;
            }
            let after = rest;
            if header.kind != RowsKind::Delete {
                is_current = self.version(period, &mut rest, 1, out, &mut bad.after)?;
            }
            decoded.changes += u32::from(was_current || is_current);
            if bad.is_some() {
                let images = Images { raw: &begin[..begin.len() - rest.len()], after };
                // What becomes of the table's row, whatever the log calls it.
                let kind = match (was_current, is_current) {
                    (true, true) => RowsKind::Update,
                    (true, false) => RowsKind::Delete,
                    (false, _) => RowsKind::Insert,
                };
                self.reject(&mut decoded, kind, &images, bad, start, out);
            }
        }
        Some(decoded)
    }

    /// Decodes one image. Returns whether it is current, and is kept; none if it ends too early.
    fn version(
        &self,
        period: &Period,
        rest: &mut &[u8],
        weight: i8,
        out: &mut TableChanges,
        bad: &mut Option<(usize, &'static str)>,
    ) -> Option<bool> {
        let (nulls, behind) = rest.split_at_checked(self.reads.len().div_ceil(8))?;
        *rest = behind;
        let (mut is_current, mut unread) = (false, None);
        let mut row = out.rows.start_row(&self.layout);
        for (i, read) in self.reads.iter().enumerate() {
            let is_null = bit(nulls, i);
            let result = match (period.slot(i), read) {
                (Some(slot), _) if is_null => {
                    row.null(slot);
                    Ok(())
                }
                (Some(slot), read) => read.value(slot, rest, &mut row),
                (None, _) if is_null => Ok(()),
                (None, Read::Bound { width }) => bytes(rest, *width).map(|bound| {
                    is_current |= i == period.end && NO_END.contains(&bound);
                }),
                (None, _) => Err(Fault::Short),
            };
            match result {
                Ok(()) => {}
                Err(Fault::Value(reason)) => unread = unread.or(Some((i, reason))),
                Err(Fault::Short) => {
                    out.rows.abandon_row();
                    return None;
                }
            }
        }
        if is_current {
            out.rows.finish_row();
            out.weights.push(weight);
            *bad = bad.or(unread);
        } else {
            out.rows.abandon_row();
        }
        Some(is_current)
    }
}
