//! Columns of the log that are no columns of a row: those that are left out, and those of a versioned table's period.
//!
//! The law: the bytes of a column that is left out are passed over by their length, which the table map alone tells, so that
//! a column of any type can be left out. They are in no row, and in no reject. Where the log tells names, these alone say
//! which column is which; otherwise the order that is known of the table does.
//!
//! Of tables that keep their history only the versions without an end are rows (`period`).

use std::borrow::Cow;

use relation::{Schema, TableChanges};

use super::column::SourceColumn;
use super::number::DecimalForm;
use super::period::{NO_END, ROW_END};
use super::plan::{Plan, Read};
use super::rows::{Bad, Decoded, Header, Images, RowsKind, bit};
use super::table_map::{TableMap, code};
use super::value::{Fault, bytes, variable};
use crate::source::{ColumnRule, NOT_DECLARED, is_same_column};

/// How MariaDB calls the hidden columns in which it keeps hashes of unique values; a number follows.
pub(crate) const HASH: &str = "DB_ROW_HASH_";
/// Why those are left out.
pub(crate) const HIDDEN: &str = "hidden by the server";

/// Where a table's columns of the log go, where not each has its own place in the row.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    /// Each one's place in the row; none for those that are passed over.
    slots: Vec<Option<usize>>,
    /// The column that tells the end of a version, of a table that keeps its history.
    end: Option<usize>,
}

impl Slots {
    /// None where all columns are stored.
    pub(super) fn of(columns: &[SourceColumn]) -> Option<Self> {
        if columns.iter().all(SourceColumn::is_stored) {
            return None;
        }
        let mut next = 0..;
        let slots = columns.iter().map(|column| if column.is_stored() { next.next() } else { None }).collect();
        Some(Self { slots, end: columns.iter().position(|column| column.data_type == ROW_END) })
    }

    /// The place in the row of a column of the log.
    #[inline]
    pub(super) fn slot(&self, column: usize) -> Option<usize> {
        self.slots.get(column).copied().flatten()
    }
}

/// How far the bytes of a column reach that nobody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Bytes(usize),
    /// Behind a length of so many bytes.
    Prefixed(usize),
}

impl Span {
    #[inline]
    pub(super) fn pass(self, rest: &mut &[u8]) -> Result<(), Fault> {
        match self {
            Self::Bytes(width) => bytes(rest, width).map(drop),
            Self::Prefixed(prefix) => variable(rest, prefix).map(drop),
        }
    }
}

/// The reader of a column that is left out; none where the log does not tell how long its values are.
pub(super) fn passed(kind: u8, meta: [u8; 2], column: &SourceColumn) -> Option<Read> {
    let length = usize::from(u16::from_le_bytes(meta));
    let fraction = usize::from(meta[0].min(6).div_ceil(2));
    // With digits the old codes are MariaDB's own format of 5.3.
    let has_digits = || column.column_type.contains('(') || column.column_type.is_empty();
    let span = match kind {
        code::TINY | code::YEAR => Span::Bytes(1),
        code::SHORT => Span::Bytes(2),
        code::INT24 | code::DATE | code::NEWDATE => Span::Bytes(3),
        code::LONG | code::FLOAT => Span::Bytes(4),
        code::LONGLONG | code::DOUBLE => Span::Bytes(8),
        code::TIMESTAMP | code::DATETIME | code::TIME if has_digits() => return None,
        code::TIMESTAMP => Span::Bytes(4),
        code::DATETIME => Span::Bytes(8),
        code::TIME => Span::Bytes(3),
        code::TIMESTAMP2 => Span::Bytes(4 + fraction),
        code::DATETIME2 => Span::Bytes(5 + fraction),
        code::TIME2 => Span::Bytes(3 + fraction),
        code::NEWDECIMAL => Span::Bytes(DecimalForm::new(meta[0], meta[1]).bytes),
        code::BIT => Span::Bytes(usize::from(meta[1]) + usize::from(meta[0] > 0)),
        code::ENUM => Span::Bytes(length.clamp(1, 2)),
        code::SET => Span::Bytes(length.clamp(1, 8)),
        code::STRING | code::VARCHAR | code::VAR_STRING | code::VARCHAR_COMPRESSED => {
            Span::Prefixed(1 + usize::from(length > 255))
        }
        code::TINY_BLOB..=code::BLOB | code::BLOB_COMPRESSED | code::JSON | code::GEOMETRY | code::VECTOR => {
            let prefix = length & 0xff;
            if !(1..=4).contains(&prefix) {
                return None;
            }
            Span::Prefixed(prefix)
        }
        _ => return None,
    };
    Some(Read::Passed { span, is_json: kind == code::JSON })
}

/// The columns as the log has them, where it tells their names and those differ from what is known only in columns that are
/// left out: these may have come, gone and moved. Otherwise what is known.
pub(crate) fn aligned<'a>(
    map: &TableMap,
    known: &'a [SourceColumn],
    rule: &ColumnRule,
    kept: &Schema,
) -> Cow<'a, [SourceColumn]> {
    let Some(names) = &map.names else { return Cow::Borrowed(known) };
    if names.iter().eq(known.iter().map(|column| &column.name)) {
        return Cow::Borrowed(known);
    }
    let as_known = |name: &String| known.iter().find(|column| column.name == *name);
    let as_left_out = |name: &String| {
        let hidden = || name.starts_with(HASH).then(|| HIDDEN.to_owned());
        let left_out = Some(rule.leaves_out(name, Some(kept)).or_else(hidden)?);
        Some(SourceColumn { name: name.clone(), left_out, ..SourceColumn::default() })
    };
    let logged: Option<Vec<SourceColumn>> =
        names.iter().map(|name| as_known(name).cloned().or_else(|| as_left_out(name))).collect();
    let needed = |columns: &[SourceColumn]| -> Vec<String> {
        let needed = columns.iter().filter(|column| column.is_stored() || column.is_of_period());
        needed.map(|column| column.name.clone()).collect()
    };
    match logged {
        Some(logged) if needed(&logged) == needed(known) => Cow::Owned(logged),
        _ => Cow::Borrowed(known),
    }
}

/// Leaves out what a table that keeps its columns does not have, but for the key.
pub(crate) fn keep_only(columns: &mut [SourceColumn], kept: &Schema) {
    for column in columns.iter_mut().filter(|column| column.is_stored() && column.key_position.is_none()) {
        if !kept.columns.iter().any(|known| is_same_column(&known.name, &column.name)) {
            column.left_out = Some(NOT_DECLARED.to_owned());
        }
    }
}

impl Plan {
    /// As [`Plan::decode_whole`], of the columns that have a place in the row, and of the versions without an end alone.
    pub(super) fn decode_sparse(&self, slots: &Slots, header: &Header<'_>, out: &mut TableChanges) -> Option<Decoded> {
        let mut decoded = Decoded::default();
        let mut rest = header.rows;
        while !rest.is_empty() {
            let (begin, start) = (rest, out.rows.len());
            let (mut bad, mut was_current, mut is_current) = (Bad::default(), false, false);
            if header.kind != RowsKind::Insert {
                was_current = self.sparse_image(slots, &mut rest, -1, out, &mut bad.before)?;
            }
            let after = rest;
            if header.kind != RowsKind::Delete {
                is_current = self.sparse_image(slots, &mut rest, 1, out, &mut bad.after)?;
            }
            decoded.changes += u32::from(was_current || is_current);
            if bad.is_some() {
                // What becomes of the table's row, whatever the log calls it, is what was written.
                let images = Images::new(begin, after, rest, header.kind);
                self.reject(&images, bad, start, out);
            }
        }
        Some(decoded)
    }

    /// Decodes one image. Returns whether it is current, and is kept; none if it ends too early.
    pub(super) fn sparse_image(
        &self,
        slots: &Slots,
        rest: &mut &[u8],
        weight: i8,
        out: &mut TableChanges,
        bad: &mut Option<(usize, &'static str)>,
    ) -> Option<bool> {
        let (nulls, behind) = rest.split_at_checked(self.reads.len().div_ceil(8))?;
        *rest = behind;
        let (mut is_current, mut unread) = (slots.end.is_none(), None);
        let mut row = out.rows.start_row(&self.layout);
        for (i, read) in self.reads.iter().enumerate() {
            let is_null = bit(nulls, i);
            let result = match (slots.slot(i), read) {
                (Some(slot), _) if is_null => {
                    row.null(slot);
                    Ok(())
                }
                (Some(slot), read) => read.value(slot, rest, &mut row),
                (None, _) if is_null => Ok(()),
                (None, Read::Bound { width }) => bytes(rest, *width).map(|bound| {
                    is_current |= slots.end == Some(i) && NO_END.contains(&bound);
                }),
                (None, Read::Passed { span, .. }) => span.pass(rest),
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

    /// The image after of a row without the bytes of columns that are left out: what is shown of one that cannot be read.
    pub(super) fn shown_images(&self, images: &Images<'_>) -> Vec<u8> {
        if !self.reads.iter().any(|read| matches!(read, Read::Passed { .. })) {
            return images.after.to_vec();
        }
        // Of differences it cannot be told which are of what.
        let mut rest = if images.has_differences { images.before } else { images.after };
        let mut out = Vec::with_capacity(rest.len());
        // What cannot be told apart is not shown at all.
        let _: Option<()> = self.show_image(&mut rest, &mut out);
        out
    }

    fn show_image(&self, rest: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (nulls, behind) = rest.split_at_checked(self.reads.len().div_ceil(8))?;
        *rest = behind;
        out.extend_from_slice(nulls);
        let mut scratch = TableChanges::default();
        let mut row = scratch.rows.start_row(&self.layout);
        for (i, read) in self.reads.iter().enumerate().filter(|(i, _)| !bit(nulls, *i)) {
            let before = *rest;
            let result = match (self.slot(i), read) {
                (_, Read::Passed { span, .. }) => {
                    span.pass(rest).ok()?;
                    continue;
                }
                (Some(slot), read) => read.value(slot, rest, &mut row),
                (None, Read::Bound { width }) => bytes(rest, *width).map(drop),
                (None, _) => return None,
            };
            if matches!(result, Err(Fault::Short)) {
                return None;
            }
            out.extend_from_slice(&before[..before.len() - rest.len()]);
        }
        Some(())
    }
}
