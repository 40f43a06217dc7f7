//! Rows events: images of rows, decoded column by column into encoded rows.
//!
//! An event is a header (table, which columns each image has) and images one after another: a bitmap of NULLs, then the
//! bytes of the columns that are not. An insert has an image after, a delete one before, an update both. A value that
//! cannot be read spoils its own row alone, since its length is known; an image that ends too early spoils the event.
//!
//! An image that cannot be read stands among the others as what it is ([`relation::Unread`]), known by its key or its bytes:
//! the other image of an update is brought as the row that it is.

use std::fmt;

use relation::key::hash128;
use relation::row::RowWriter;
use relation::{DataType, Entry, TableChanges, Unread};

use super::super::assemble::shown;
use super::DecodeError;
use super::charset::UNCLEAR;
use super::json::Spelling;
use super::json_diff;
use super::plan::{Content, Plan, Read};
use super::table_map::lenenc;
use super::value::{Fault, bytes, variable};

/// What an event does with its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKind {
    Insert,
    Update,
    Delete,
}

impl RowsKind {
    /// By event type: versions 1 and 2, and updates with partial JSON. None for anything else.
    pub fn of_event(event_type: u8) -> Option<Self> {
        match event_type {
            23 | 30 => Some(Self::Insert),
            24 | 31 | PARTIAL_UPDATE => Some(Self::Update),
            25 | 32 => Some(Self::Delete),
            _ => None,
        }
    }
}

/// An update whose JSON columns may hold differences.
pub(crate) const PARTIAL_UPDATE: u8 = 39;

/// What became of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Rows inserted, updated or deleted; an update counts once.
    pub changes: u32,
}

/// A value that is none of its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    pub column: String,
    /// The column's type, as the warehouse has it.
    pub data_type: DataType,
    /// The first of its bytes or characters.
    pub value: String,
    /// Why, as a sentence.
    pub reason: &'static str,
    /// What its row is known by in the log too, as [`Unread::image`]; zeros where a query does not show that.
    pub image: [u8; 16],
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, data_type, value, reason, .. } = self;
        write!(f, "Column \"{column}\" ({data_type}): {}", reason.trim_end_matches('.'))?;
        if value.is_empty() { f.write_str(".") } else { write!(f, ": {value}.") }
    }
}

impl BadValue {
    /// Characters, or bytes, of a value that are shown.
    const SHOWN_MAX: usize = 64;

    /// Bytes that are no text, as people see them.
    pub(super) fn shown_bytes(bytes: &[u8]) -> String {
        let first = bytes.get(..Self::SHOWN_MAX).unwrap_or(bytes);
        let digits: String = first.iter().map(|byte| format!("{byte:02x}")).collect();
        let more = if first.len() < bytes.len() { "…" } else { "" };
        format!("\\x{digits}{more}")
    }

    /// A text as people see it.
    pub(super) fn shown_text(text: &str) -> String {
        match text.char_indices().nth(Self::SHOWN_MAX) {
            None => format!("'{text}'"),
            Some((end, _)) => format!("'{}…'", text.get(..end).unwrap_or_default()),
        }
    }
}

/// The table that a rows event belongs to: the number of its table map.
pub fn table_id(payload: &[u8]) -> Option<u64> {
    let bytes = payload.first_chunk::<6>()?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Whether the rows were changed by a session with `foreign_key_checks` off, for which no foreign key does anything.
pub(crate) fn has_no_foreign_key_checks(payload: &[u8]) -> bool {
    const NO_FOREIGN_KEY_CHECKS: u8 = 2;
    payload.get(6).is_some_and(|flags| flags & NO_FOREIGN_KEY_CHECKS != 0)
}

/// The part of an event in front of its rows.
pub(crate) struct Header<'a> {
    pub(crate) kind: RowsKind,
    pub(crate) columns: usize,
    /// Bitmaps of the columns that an image has; an update has two.
    pub(crate) present: [&'a [u8]; 2],
    pub(crate) rows: &'a [u8],
}

impl<'a> Header<'a> {
    pub(crate) fn read(event_type: u8, payload: &'a [u8]) -> Result<Self, DecodeError> {
        let kind = RowsKind::of_event(event_type).ok_or(DecodeError::UnknownEvent(event_type))?;
        Self::parts(kind, event_type >= 30, payload).ok_or(DecodeError::Damaged("header of a rows event"))
    }

    fn parts(kind: RowsKind, extra: bool, payload: &'a [u8]) -> Option<Self> {
        // Table number in six bytes and flags in two, then, from version 2 on, a field whose length counts itself.
        let mut rest = payload.get(8..)?;
        if extra {
            let length = u16::from_le_bytes(*rest.first_chunk()?);
            rest = rest.get(usize::from(length)..)?;
        }
        let (columns, rest) = lenenc(rest)?;
        let columns = usize::try_from(columns).ok()?;
        let (first, mut rest) = rest.split_at_checked(columns.div_ceil(8))?;
        let mut second = first;
        if kind == RowsKind::Update {
            (second, rest) = rest.split_at_checked(columns.div_ceil(8))?;
        }
        Some(Self { kind, columns, present: [first, second], rows: rest })
    }
}

/// Length of everything in front of the rows.
pub(super) fn header_length(event_type: u8, payload: &[u8]) -> Result<usize, DecodeError> {
    Ok(payload.len() - Header::read(event_type, payload)?.rows.len())
}

impl Plan {
    /// Decodes a rows event and appends its rows: −1 the image before, +1 the image after.
    ///
    /// `payload` is the event without the common header and without the checksum. After an error `out` is as before.
    pub fn decode_rows(&self, event_type: u8, payload: &[u8], out: &mut TableChanges) -> Result<Decoded, DecodeError> {
        let Some(mapping) = &self.mapping else { return self.decode_own(event_type, payload, out) };
        let mut own = TableChanges::default();
        let decoded = self.decode_own(event_type, payload, &mut own)?;
        mapping.changes(&own, out);
        Ok(decoded)
    }

    /// As [`Self::decode_rows`], with the columns that the log has.
    fn decode_own(&self, event_type: u8, payload: &[u8], out: &mut TableChanges) -> Result<Decoded, DecodeError> {
        let header = Header::read(event_type, payload)?;
        self.check_present(&header)?;
        let start = out.rows.len();
        let decoded = match event_type {
            PARTIAL_UPDATE => self.decode_partial(&header, out),
            _ => match &self.slots {
                None => self.decode_whole(&header, out),
                Some(slots) => self.decode_sparse(slots, &header, out),
            },
        };
        if decoded.is_none() {
            out.rows.truncate(start);
            out.weights.truncate(start);
        }
        decoded.ok_or(DecodeError::Damaged("a row ends too early"))
    }

    fn check_present(&self, header: &Header<'_>) -> Result<(), DecodeError> {
        if header.columns != self.reads.len() {
            return Err(DecodeError::ColumnCount { event: header.columns, table: self.reads.len() });
        }
        let missing = |i: &usize| header.present.iter().any(|bits| !bit(bits, *i));
        let columns: Vec<_> = (0..header.columns).filter(missing).map(|i| self.names[i].clone()).collect();
        if columns.is_empty() { Ok(()) } else { Err(DecodeError::MissingColumns { columns }) }
    }

    fn decode_whole(&self, header: &Header<'_>, out: &mut TableChanges) -> Option<Decoded> {
        let mut decoded = Decoded::default();
        let mut rest = header.rows;
        while !rest.is_empty() {
            let (begin, start) = (rest, out.rows.len());
            let mut bad = Bad::default();
            if header.kind != RowsKind::Insert {
                self.image(&mut rest, -1, out, &mut bad.before)?;
            }
            let after = rest;
            if header.kind != RowsKind::Delete {
                self.image(&mut rest, 1, out, &mut bad.after)?;
            }
            decoded.changes += 1;
            if bad.is_some() {
                let images = Images::new(begin, after, rest, header.kind);
                self.reject(&images, bad, start, out);
            }
        }
        Some(decoded)
    }

    /// Has the images that cannot be read stand as such where their rows were written, from `start` on.
    #[cold]
    pub(super) fn reject(&self, images: &Images<'_>, bad: Bad, start: usize, out: &mut TableChanges) {
        let mut written = TableChanges::default();
        out.entries_from(start).for_each(|entry| written.push_entry(entry));
        out.truncate(start);
        for entry in written.entries() {
            match (entry, bad.before, bad.after) {
                (Entry::Row(_, -1), Some(_), _) => out.push_unread(&self.gone(images), -1),
                (Entry::Row(_, 1), _, Some(fault)) => out.push_unread(&self.came(images, fault), 1),
                (entry, ..) => out.push_entry(entry),
            }
        }
    }

    /// An image that cannot be read and goes: nobody is shown it.
    fn gone(&self, images: &Images<'_>) -> Unread {
        let key = self.key_of(images.before).unwrap_or_default();
        Unread { key, image: hash128(images.before), ..Unread::default() }
    }

    fn came(&self, images: &Images<'_>, (column, reason): (usize, &'static str)) -> Unread {
        // Of differences to a document nothing can be shown, and they make no key: the image before has it.
        let (of_key, bytes) = match images.has_differences {
            true => (images.before, None),
            false => (images.after, self.bytes_of(images.after, column)),
        };
        let fault = BadValue {
            column: self.names[column].clone(),
            data_type: self.slot(column).map_or(DataType::Bytes, |slot| self.layout.types()[slot]),
            value: bytes.map(BadValue::shown_bytes).unwrap_or_default(),
            reason,
            image: [0; 16],
        };
        Unread {
            key: self.key_of(of_key).unwrap_or_default(),
            image: hash128(images.after),
            row: shown(&self.shown_images(images)),
            reason: fault.to_string(),
            ..Unread::default()
        }
    }

    /// The bytes of a column in an image; none where it cannot be told which they are.
    fn bytes_of<'a>(&self, image: &'a [u8], wanted: usize) -> Option<&'a [u8]> {
        let (nulls, mut rest) = image.split_at_checked(self.reads.len().div_ceil(8))?;
        let mut row = Vec::new();
        let mut writer = RowWriter::new(&self.layout, &mut row);
        for (i, read) in self.reads.iter().enumerate().filter(|(i, _)| !bit(nulls, *i)) {
            let begin = rest;
            let passed = match (self.slot(i), read) {
                (Some(slot), _) => read.value(slot, &mut rest, &mut writer),
                (None, Read::Bound { width }) => bytes(&mut rest, *width).map(drop),
                (None, Read::Passed { span, .. }) => span.pass(&mut rest),
                (None, _) => return None,
            };
            if matches!(passed, Err(Fault::Short)) {
                return None;
            }
            if i == wanted {
                return begin.get(..begin.len() - rest.len());
            }
        }
        None
    }

    /// The key of the row of an image; none where it cannot be read.
    fn key_of(&self, image: &[u8]) -> Option<Vec<u8>> {
        let key = &self.own_schema().key;
        if key.is_empty() {
            return None;
        }
        let (nulls, mut rest) = image.split_at_checked(self.reads.len().div_ceil(8))?;
        let mut row = Vec::new();
        let mut writer = RowWriter::new(&self.layout, &mut row);
        for (i, read) in self.reads.iter().enumerate() {
            let Some(slot) = self.slot(i) else {
                match read {
                    _ if bit(nulls, i) => {}
                    Read::Bound { width } => drop(bytes(&mut rest, *width).ok()?),
                    Read::Passed { span, .. } => span.pass(&mut rest).ok()?,
                    _ => return None,
                }
                continue;
            };
            let is_read = !bit(nulls, i)
                && match read.value(slot, &mut rest, &mut writer) {
                    // What was written in its place is of no other row.
                    Ok(()) | Err(Fault::Value(UNCLEAR)) => true,
                    Err(Fault::Value(_)) => false,
                    // Where what is behind it begins is not known.
                    Err(Fault::Short) => return None,
                };
            if !is_read {
                if key.contains(&slot) {
                    return None;
                }
                writer.null(slot);
            }
        }
        let mut out = Vec::new();
        relation::key::push_row(&mut out, &self.layout, &row, key);
        Some(out)
    }

    /// Decodes one image. None if it ends too early; a column that cannot be read is told in `bad`.
    #[inline]
    fn image(
        &self,
        rest: &mut &[u8],
        weight: i8,
        out: &mut TableChanges,
        bad: &mut Option<(usize, &'static str)>,
    ) -> Option<()> {
        let (nulls, behind) = rest.split_at_checked(self.reads.len().div_ceil(8))?;
        *rest = behind;
        let mut row = out.rows.start_row(&self.layout);
        for (i, read) in self.reads.iter().enumerate() {
            if bit(nulls, i) {
                row.null(i);
                continue;
            }
            match read.value(i, rest, &mut row) {
                Ok(()) => {}
                Err(Fault::Value(reason)) => *bad = bad.or(Some((i, reason))),
                Err(Fault::Short) => {
                    out.rows.abandon_row();
                    return None;
                }
            }
        }
        out.rows.finish_row();
        out.weights.push(weight);
        Some(())
    }

    /// As [`Self::decode_whole`], for updates whose JSON columns hold differences to the image before.
    fn decode_partial(&self, header: &Header<'_>, out: &mut TableChanges) -> Option<Decoded> {
        let mut decoded = Decoded::default();
        let mut rest = header.rows;
        let mut documents: Vec<Option<&[u8]>> = Vec::new();
        while !rest.is_empty() {
            let (begin, start) = (rest, out.rows.len());
            let mut bad = Bad::default();
            self.documents(rest, &mut documents)?;
            self.image_before(&mut rest, out, &mut bad.before)?;
            let after = rest;
            self.partial_image(&mut rest, &documents, out, &mut bad.after)?;
            decoded.changes += 1;
            if bad.is_some() {
                let images = Images { has_differences: true, ..Images::new(begin, after, rest, header.kind) };
                self.reject(&images, bad, start, out);
            }
        }
        Some(decoded)
    }

    /// The image before of an update with partial JSON.
    fn image_before(
        &self,
        rest: &mut &[u8],
        out: &mut TableChanges,
        bad: &mut Option<(usize, &'static str)>,
    ) -> Option<()> {
        match &self.slots {
            None => self.image(rest, -1, out, bad),
            Some(slots) => self.sparse_image(slots, rest, -1, out, bad).map(drop),
        }
    }

    /// The bytes of each JSON document in an image, by their order; none where NULL.
    fn documents<'a>(&self, mut rest: &'a [u8], out: &mut Vec<Option<&'a [u8]>>) -> Option<()> {
        out.clear();
        let (nulls, behind) = rest.split_at_checked(self.reads.len().div_ceil(8))?;
        rest = behind;
        // The other columns are decoded for their length alone, into a row that nobody keeps.
        let mut scratch = TableChanges::default();
        let mut row = scratch.rows.start_row(&self.layout);
        for (i, read) in self.reads.iter().enumerate() {
            let null = bit(nulls, i);
            match read {
                Read::Variable { content: Content::Json, .. } if null => out.push(None),
                Read::Variable { prefix, content: Content::Json } => out.push(Some(variable(&mut rest, *prefix).ok()?)),
                Read::Passed { span, is_json } => {
                    if !null {
                        span.pass(&mut rest).ok()?;
                    }
                    if *is_json {
                        out.push(None);
                    }
                }
                _ if null => {}
                _ => match read.value(self.slot(i)?, &mut rest, &mut row) {
                    Ok(()) | Err(Fault::Value(_)) => {}
                    Err(Fault::Short) => return None,
                },
            }
        }
        Some(())
    }

    fn partial_image(
        &self,
        rest: &mut &[u8],
        documents: &[Option<&[u8]>],
        out: &mut TableChanges,
        bad: &mut Option<(usize, &'static str)>,
    ) -> Option<()> {
        let (options, behind) = lenenc(rest)?;
        // The only option there is, and the only one that could be read: some JSON columns hold differences.
        if options > 1 {
            return None;
        }
        let width = if options == 1 { self.json_columns.div_ceil(8) } else { 0 };
        let (partial, behind) = behind.split_at_checked(width)?;
        let (nulls, behind) = behind.split_at_checked(self.reads.len().div_ceil(8))?;
        *rest = behind;
        let mut row = out.rows.start_row(&self.layout);
        let mut document = 0;
        for (i, read) in self.reads.iter().enumerate() {
            let json =
                matches!(read, Read::Variable { content: Content::Json, .. } | Read::Passed { is_json: true, .. });
            let differs = json && options == 1 && bit(partial, document);
            let before = documents.get(document).copied().flatten();
            document += usize::from(json);
            let result = match (self.slot(i), bit(nulls, i)) {
                (None, true) => Ok(()),
                // Differences have a length in front as a document has.
                (None, false) => read.value(i, rest, &mut row),
                (Some(slot), true) => {
                    row.null(slot);
                    Ok(())
                }
                (Some(slot), false) if differs => changed_document(slot, before, rest, &mut row),
                (Some(slot), false) => read.value(slot, rest, &mut row),
            };
            match result {
                Ok(()) => {}
                Err(Fault::Value(reason)) => *bad = bad.or(Some((i, reason))),
                Err(Fault::Short) => {
                    out.rows.abandon_row();
                    return None;
                }
            }
        }
        out.rows.finish_row();
        out.weights.push(1);
        Some(())
    }
}

/// The first column of each image that cannot be read, and why.
#[derive(Default)]
pub(super) struct Bad {
    pub(super) before: Option<(usize, &'static str)>,
    pub(super) after: Option<(usize, &'static str)>,
}

impl Bad {
    #[inline]
    pub(super) fn is_some(&self) -> bool {
        self.before.is_some() || self.after.is_some()
    }
}

/// The bytes of a row's images; empty where there is none.
pub(super) struct Images<'a> {
    pub(super) before: &'a [u8],
    pub(super) after: &'a [u8],
    /// The last one is told by its differences to the one before.
    pub(super) has_differences: bool,
}

impl<'a> Images<'a> {
    /// Of what is left of an event at a row's begin, between its images, and behind it.
    pub(super) fn new(begin: &'a [u8], between: &'a [u8], behind: &'a [u8], kind: RowsKind) -> Self {
        let until = |from: &'a [u8], to: &[u8]| from.get(..from.len() - to.len()).unwrap_or_default();
        let between = if kind == RowsKind::Delete { behind } else { between };
        Self { before: until(begin, between), after: until(between, behind), has_differences: false }
    }
}

/// Writes a document that the log describes by its differences to `before`.
fn changed_document(i: usize, before: Option<&[u8]>, rest: &mut &[u8], row: &mut RowWriter<'_>) -> Result<(), Fault> {
    let diffs = variable(rest, 4)?;
    let before = before.ok_or(Fault::Value("There is no document before to apply the differences to."))?;
    let mut result = Ok(());
    row.variable_with(i, |out| result = json_diff::apply(before, diffs, Spelling::SERVER, out));
    result.map_err(|_| Fault::Value("The differences do not fit the document before."))
}

#[inline]
pub(crate) fn bit(bits: &[u8], i: usize) -> bool {
    bits[i / 8] >> (i % 8) & 1 == 1
}
