//! What the rows of one table look like: how each column is read and printed, and the values of an image.

use crate::source::mysql::SourceColumn;
use crate::source::mysql::decode::{Plan, TableMap};
use crate::source::mysql::log::parts::{Content, Read, bit};

use super::filter::Passage;
use super::options::Options;
use super::value::{self, Fault, Style, Width, write_text};

/// The columns of a table's rows in the log.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) database: String,
    pub(crate) table: String,
    pub(crate) columns: Vec<Column>,
    /// The primary key's columns, in its order.
    pub(crate) key: Vec<usize>,
    /// What each message begins with: `{"database":"d","table":"t"`.
    pub(crate) head: Vec<u8>,
    /// `,"primary_key_columns":[…]`, if it is to be printed.
    pub(crate) key_columns: Vec<u8>,
    pub(crate) passage: Passage,
    /// Columns of MySQL's JSON type, which partial updates count.
    pub(crate) json_columns: usize,
}

/// A column.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// `"name":`.
    label: Vec<u8>,
    read: Read,
    width: Width,
    /// Text that is JSON itself.
    is_json: bool,
    /// It is in messages.
    pub(crate) is_shown: bool,
}

impl Column {
    /// Whether partial updates may tell its documents by what has changed in them.
    fn has_documents(&self) -> bool {
        matches!(self.read, Read::Variable { content: Content::Json, .. } | Read::Passed { is_json: true, .. })
    }
}

impl Shape {
    pub(crate) fn new(
        map: &TableMap,
        columns: &[SourceColumn],
        plan: Plan,
        passage: Passage,
        options: &Options,
    ) -> Self {
        let key_of = |column: &SourceColumn| column.key_position;
        let mut key: Vec<(usize, usize)> =
            columns.iter().enumerate().filter_map(|(i, column)| Some((key_of(column)?, i))).collect();
        key.sort_unstable();
        let key: Vec<usize> = key.into_iter().map(|(_, i)| i).collect();
        let shown = |(column, read): (&SourceColumn, Read)| {
            let mut label = Vec::new();
            write_text(&options.named(&column.name), &mut label);
            label.push(b':');
            Column {
                name: column.name.clone(),
                label,
                width: Width::of(&read),
                is_json: column.is_mariadb_json,
                is_shown: column.left_out.is_none() && !options.excludes(&column.name),
                read,
            }
        };
        let columns: Vec<Column> = columns.iter().zip(plan.reads).map(shown).collect();
        let mut head = b"{\"database\":".to_vec();
        write_text(&map.database, &mut head);
        head.extend_from_slice(b",\"table\":");
        write_text(&map.table, &mut head);
        let mut key_columns = Vec::new();
        if options.primary_key_columns {
            field("primary_key_columns", options, &mut key_columns);
            write_names(key.iter().map(|&at| columns[at].name.as_str()), &mut key_columns);
        }
        let json_columns = map.column_types.iter().filter(|kind| **kind == super::schema::JSON_CODE).count();
        Self {
            database: map.database.clone(),
            table: map.table.clone(),
            columns,
            key,
            head,
            key_columns,
            passage,
            json_columns,
        }
    }

    /// Takes an image off the front of an event's rows, by the columns that are in it. None if it ends too early.
    pub(crate) fn take<'a>(&self, present: &[u8], rest: &mut &'a [u8], image: &mut Image<'a>) -> Option<()> {
        image.cells.clear();
        let nulls = take_nulls(self.columns.len(), present, rest)?;
        let mut at = 0;
        for (i, column) in self.columns.iter().enumerate() {
            if !bit(present, i) {
                image.cells.push(Cell::Absent);
                continue;
            }
            let is_null = bit(nulls, at);
            at += 1;
            image.cells.push(if is_null { Cell::Null } else { Cell::Bytes(column.width.take(rest)?) });
        }
        Some(())
    }

    /// The same of an image that may tell documents by their differences to the one before.
    pub(crate) fn take_partial<'a>(
        &self,
        present: &[u8],
        before: &Image<'a>,
        rest: &mut &'a [u8],
        image: &mut Image<'a>,
    ) -> Option<()> {
        let (options, behind) = crate::source::mysql::log::parts::lenenc(rest)?;
        if options > 1 {
            return None;
        }
        let width = if options == 1 { self.json_columns.div_ceil(8) } else { 0 };
        let (partial, behind) = behind.split_at_checked(width)?;
        *rest = behind;
        image.cells.clear();
        let nulls = take_nulls(self.columns.len(), present, rest)?;
        let (mut at, mut document) = (0, 0);
        for (i, column) in self.columns.iter().enumerate() {
            let differs = column.has_documents() && options == 1 && bit(partial, document);
            document += usize::from(column.has_documents());
            if !bit(present, i) {
                image.cells.push(Cell::Absent);
                continue;
            }
            let is_null = bit(nulls, at);
            at += 1;
            if is_null {
                image.cells.push(Cell::Null);
                continue;
            }
            let bytes = column.width.take(rest)?;
            image.cells.push(match (differs, before.cells.get(i)) {
                (false, _) => Cell::Bytes(bytes),
                (true, Some(Cell::Bytes(before))) => Cell::Changed(before, bytes),
                (true, _) => Cell::Unknown,
            });
        }
        Some(())
    }
}

fn take_nulls<'a>(columns: usize, present: &[u8], rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = (0..columns).filter(|&i| bit(present, i)).count();
    let (nulls, behind) = rest.split_at_checked(count.div_ceil(8))?;
    *rest = behind;
    Some(nulls)
}

/// Appends a field's name, with the comma before it.
pub(crate) fn field(name: &str, options: &Options, out: &mut Vec<u8>) {
    out.push(b',');
    write_text(&options.named(name), out);
    out.push(b':');
}

pub(crate) fn write_names<'a>(names: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, name) in names.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_text(name, out);
    }
    out.push(b']');
}

/// A value in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    /// The image does not have it.
    Absent,
    Null,
    Bytes(&'a [u8]),
    /// A document by what has changed in the one before.
    Changed(&'a [u8], &'a [u8]),
    /// The same, of a document that the image before does not have.
    Unknown,
}

/// The values of a row before or after a change, by the table's columns.
#[derive(Debug, Default)]
pub(crate) struct Image<'a> {
    pub(crate) cells: Vec<Cell<'a>>,
}

impl<'a> Image<'a> {
    pub(crate) fn cell(&self, at: usize) -> Cell<'a> {
        self.cells.get(at).copied().unwrap_or(Cell::Absent)
    }

    /// Whether it lacks nothing.
    pub(crate) fn is_whole(&self) -> bool {
        !self.cells.iter().any(|cell| matches!(cell, Cell::Absent))
    }

    /// What it lacks is taken from another one.
    pub(crate) fn completed(&self, other: &Self) -> Self {
        if other.cells.is_empty() {
            return Self { cells: self.cells.clone() };
        }
        let one = |(mine, theirs): (&Cell<'a>, &Cell<'a>)| if *mine == Cell::Absent { *theirs } else { *mine };
        Self { cells: self.cells.iter().zip(&other.cells).map(one).collect() }
    }

    /// Appends a column's value; null where there is none.
    pub(crate) fn write(&self, shape: &Shape, at: usize, style: Style, out: &mut Vec<u8>) {
        let before = out.len();
        if self.try_write(shape, at, style, out).is_err() {
            out.truncate(before);
            out.extend_from_slice(b"null");
        }
    }

    /// The same, or why it cannot be read.
    pub(crate) fn try_write(&self, shape: &Shape, at: usize, style: Style, out: &mut Vec<u8>) -> Result<(), Fault> {
        let column = &shape.columns[at];
        match self.cell(at) {
            Cell::Absent | Cell::Null => {
                out.extend_from_slice(b"null");
                Ok(())
            }
            Cell::Bytes(bytes) => value::write(&column.read, column.is_json, bytes, style, out),
            Cell::Changed(before, diffs) => value::write_changed(before, diffs, style, out),
            Cell::Unknown => Err("It tells what has changed in a document that the row before does not have."),
        }
    }

    /// A column's value as Java shows it: `Some(None)` is NULL, none that there is no such value.
    pub(crate) fn java_text(&self, shape: &Shape, at: usize) -> Option<Option<String>> {
        let column = &shape.columns[at];
        match self.cell(at) {
            Cell::Absent | Cell::Unknown => None,
            Cell::Null => Some(None),
            Cell::Bytes(bytes) => value::java_text(&column.read, column.is_json, bytes).ok().map(Some),
            Cell::Changed(..) => {
                let mut json = Vec::new();
                self.try_write(shape, at, Style::HASHED, &mut json).ok()?;
                Some(Some(value::unquoted(&json, false)))
            }
        }
    }

    /// Appends `{…}` of all that it has; `more` has what it lacks, and comes behind.
    pub(crate) fn write_data(
        &self,
        shape: &Shape,
        more: Option<&Self>,
        options: &Options,
        out: &mut Vec<u8>,
    ) -> Result<(), (usize, Fault)> {
        out.push(b'{');
        let begin = out.len();
        let member = |image: &Self, at: usize, out: &mut Vec<u8>| {
            let column = &shape.columns[at];
            if !column.is_shown || image.cell(at) == Cell::Null && !options.nulls {
                return Ok(());
            }
            let before = out.len();
            if before > begin {
                out.push(b',');
            }
            out.extend_from_slice(&column.label);
            let value = out.len();
            image.try_write(shape, at, options.style(), out).map_err(|fault| (at, fault))?;
            if !options.nulls && out[value..] == *b"null" {
                out.truncate(before);
            }
            Ok(())
        };
        for at in 0..shape.columns.len() {
            if self.cell(at) != Cell::Absent {
                member(self, at, out)?;
            }
        }
        if let Some(more) = more {
            for at in (0..shape.columns.len()).filter(|&at| self.cell(at) == Cell::Absent) {
                if more.cell(at) != Cell::Absent {
                    member(more, at, out)?;
                }
            }
        }
        out.push(b'}');
        Ok(())
    }

    /// Appends `,"old":{…}` of what was otherwise before, if anything was; `self` is the image after.
    pub(crate) fn write_old(
        &self,
        shape: &Shape,
        before: &Self,
        options: &Options,
        out: &mut Vec<u8>,
    ) -> Result<(), (usize, Fault)> {
        let (mut has_changed, mut is_first) = (false, true);
        let (mut was, mut is) = (Vec::new(), Vec::new());
        for (at, column) in shape.columns.iter().enumerate().filter(|(_, column)| column.is_shown) {
            let (old, new) = (before.cell(at), self.cell(at));
            if old == new || old == Cell::Absent || new == Cell::Absent {
                continue;
            }
            was.clear();
            is.clear();
            before.try_write(shape, at, options.style(), &mut was).map_err(|fault| (at, fault))?;
            self.try_write(shape, at, options.style(), &mut is).map_err(|fault| (at, fault))?;
            if was == is {
                continue;
            }
            if !has_changed {
                out.extend_from_slice(b",\"old\":{");
                has_changed = true;
            }
            if !options.nulls && was == b"null" {
                continue;
            }
            if !is_first {
                out.push(b',');
            }
            is_first = false;
            out.extend_from_slice(&column.label);
            out.extend_from_slice(&was);
        }
        if has_changed {
            out.push(b'}');
        }
        Ok(())
    }
}
