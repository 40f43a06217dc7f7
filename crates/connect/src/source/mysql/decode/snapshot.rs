//! Rows of a snapshot: what to select, and how to write what comes back so that it equals the log's rows byte for byte.
//!
//! Text of charsets other than UTF-8 is read as bytes and decoded here, by the tables that decode the log; enums and
//! sets are read as numbers; floats as doubles, since a query shows a float rounded. Geometries and vectors come as
//! stored. The session must be set up by [`SnapshotPlan::SESSION`]; rows are taken as the text protocol brings them.

use relation::row::RowWriter;
use relation::{DataType, Layout, Schema};

use super::Unsupported;
use super::charset::{UNCLEAR, Unclear};
use super::column::{Kind, SourceColumn, relation_schema};
use super::mapping::Mapping;
use super::number::write_decimal_text;
use super::plan::Content;
use super::rows::BadValue;
use super::temporal::{self, Parts};
use super::value::{Fault, write_enum, write_set, write_utf8};

/// How to read a table by SQL.
#[derive(Debug, Clone)]
pub struct SnapshotPlan {
    kinds: Vec<Kind>,
    select: Vec<String>,
    names: Vec<String>,
    layout: Layout,
    schema: Schema,
    /// Of a table that keeps other columns than it has.
    mapping: Option<Mapping>,
}

impl SnapshotPlan {
    /// What a session must run before it reads: timestamps in UTC, text as UTF-8, CHAR without its padding; dates that no
    /// calendar has may be compared with, since a cursor may be one.
    pub const SESSION: [&'static str; 3] =
        ["SET SESSION time_zone = '+00:00'", "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'", "SET NAMES utf8mb4"];

    /// The plan for a table with these columns.
    pub fn new(columns: &[SourceColumn]) -> Result<Self, Unsupported> {
        let schema = relation_schema(columns)?;
        let columns: Vec<&SourceColumn> = columns.iter().filter(|column| column.is_stored()).collect();
        let kinds = columns.iter().map(|column| Kind::of(column)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            select: columns.iter().zip(&kinds).map(|(column, kind)| expression(&column.name, kind)).collect(),
            names: columns.iter().map(|column| column.name.clone()).collect(),
            layout: Layout::new(schema.types()),
            kinds,
            schema,
            mapping: None,
        })
    }

    /// The SQL expression of each column, in table order.
    pub fn select_list(&self) -> &[String] {
        &self.select
    }

    /// The plan whose rows have these columns, as their table keeps them. Errors: its key is another one, as a sentence.
    pub fn mapped(mut self, declared: &Schema) -> Result<Self, String> {
        self.mapping = Mapping::new(&self.schema, declared)?;
        Ok(self)
    }

    /// The columns of the rows it writes.
    pub fn schema(&self) -> &Schema {
        self.mapping.as_ref().map_or(&self.schema, Mapping::schema)
    }

    /// The layout of the rows it writes.
    pub fn layout(&self) -> &Layout {
        self.mapping.as_ref().map_or(&self.layout, Mapping::layout)
    }

    /// Writes a row, given the text of its cells (none: NULL) in the order of the select list.
    ///
    /// After an error, which is a cell that is no value of its column, the row must be abandoned.
    pub fn write_row<'a>(
        &self,
        cells: impl IntoIterator<Item = Option<&'a [u8]>>,
        row: &mut RowWriter<'_>,
    ) -> Result<(), BadValue> {
        let Some(mapping) = &self.mapping else { return self.write_own(cells, row) };
        let mut own = Vec::new();
        self.write_own(cells, &mut RowWriter::new(&self.layout, &mut own))?;
        mapping.write(&own, row)
    }

    /// As [`Self::write_row`], with the columns that the table has.
    fn write_own<'a>(
        &self,
        cells: impl IntoIterator<Item = Option<&'a [u8]>>,
        row: &mut RowWriter<'_>,
    ) -> Result<(), BadValue> {
        let mut cells = cells.into_iter();
        for (i, kind) in self.kinds.iter().enumerate() {
            let bad = |text: &[u8], reason| BadValue {
                column: self.names[i].clone(),
                data_type: self.layout.types()[i],
                value: std::str::from_utf8(text).map_or_else(|_| BadValue::shown_bytes(text), BadValue::shown_text),
                reason,
                image: [0; 16],
            };
            match cells.next().ok_or_else(|| bad(&[], "The row has too few cells."))? {
                Some(text) => write(kind, i, text, row).map_err(|reason| bad(text, reason))?,
                None => row.null(i),
            }
        }
        Ok(())
    }
}

impl SnapshotPlan {
    /// The key of a row, as [`relation::key`] encodes it; none where it cannot be read.
    pub fn key_of<'a>(&self, cells: impl IntoIterator<Item = Option<&'a [u8]>>) -> Option<Vec<u8>> {
        let key = &self.schema.key;
        if key.is_empty() {
            return None;
        }
        let mut row = Vec::new();
        let mut writer = RowWriter::new(&self.layout, &mut row);
        let mut cells = cells.into_iter();
        for (i, kind) in self.kinds.iter().enumerate() {
            let cell = cells.next()?;
            match key.contains(&i) {
                true => match write(kind, i, cell?, &mut writer) {
                    // What was written in its place is of no other row.
                    Ok(()) | Err(UNCLEAR) => {}
                    Err(_) => return None,
                },
                false => writer.null(i),
            }
        }
        let mut out = Vec::new();
        relation::key::push_row(&mut out, &self.layout, &row, key);
        Some(out)
    }
}

/// A name in backticks.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// What to select of a column.
pub(crate) fn expression(name: &str, kind: &Kind) -> String {
    let name = quoted(name);
    match kind {
        Kind::Text(charset, _) | Kind::JsonText(charset) if !charset.is_utf8() => {
            format!("CAST({name} AS BINARY)")
        }
        // A product is a double with all its digits; so is a double column that was declared to show only a few.
        Kind::Float | Kind::Double => format!("{name} * 1e0"),
        Kind::Enum(_) | Kind::Set(_) => format!("CAST({name} AS UNSIGNED)"),
        _ => name,
    }
}

/// Writes a cell that is not NULL into column `i`.
#[inline]
fn write(kind: &Kind, i: usize, text: &[u8], row: &mut RowWriter<'_>) -> Result<(), &'static str> {
    match kind {
        Kind::Int { bits: 64, unsigned: true } => row.fixed(i, &unsigned(text)?.to_le_bytes()),
        Kind::Int { .. } | Kind::Year => write_int(kind.data_type(), i, signed(text)?, row)?,
        Kind::Float => row.fixed(i, &narrowed(double(text)?).to_le_bytes()),
        Kind::Double => row.fixed(i, &double(text)?.to_le_bytes()),
        Kind::Decimal { precision, scale } => {
            write_decimal_text(i, text, *precision, *scale, row).ok_or("It is no decimal of its type.")?;
        }
        Kind::Bit => row.fixed(i, &bits(text)?.to_le_bytes()),
        Kind::Date { unreal } => match unreal.days(&parts(text)?)? {
            Some(days) => row.fixed(i, &days.to_le_bytes()),
            None => row.null(i),
        },
        Kind::DateTime { unreal, .. } | Kind::Timestamp { unreal, .. } => match unreal.micros(&parts(text)?)? {
            Some(micros) => row.fixed(i, &micros.to_le_bytes()),
            None => row.null(i),
        },
        Kind::Time { digits } => {
            let micros = temporal::parse_time(text).ok_or("It is no time.")?;
            row.variable_with(i, |out| temporal::write_time(micros, *digits, out));
        }
        Kind::Text(charset, Unclear::Shown) | Kind::JsonText(charset) if charset.is_utf8() => write_utf8(i, text, row),
        Kind::Text(charset, unclear) => Content::Text(*charset, *unclear).write(i, text, row)?,
        Kind::JsonText(charset) => Content::Text(*charset, Unclear::Shown).write(i, text, row)?,
        Kind::Json | Kind::Uuid | Kind::Inet4 | Kind::Inet6 => write_utf8(i, text, row),
        Kind::Binary(length) => Content::Padded(*length).write(i, text, row)?,
        Kind::Blob => row.variable(i, text),
        Kind::Enum(labels) => write_enum(i, unsigned(text)?, labels, row).map_err(Fault::reason)?,
        Kind::Set(labels) => write_set(i, unsigned(text)?, labels, row).map_err(Fault::reason)?,
        Kind::Geometry => Content::Geometry.write(i, text, row)?,
        Kind::Vector => Content::Vector.write(i, text, row)?,
    }
    Ok(())
}

#[inline]
fn write_int(to: DataType, i: usize, number: i64, row: &mut RowWriter<'_>) -> Result<(), &'static str> {
    const RANGE: &str = "It is out of the range of its type.";
    match to {
        DataType::Int16 => row.fixed(i, &i16::try_from(number).map_err(|_| RANGE)?.to_le_bytes()),
        DataType::Int32 => row.fixed(i, &i32::try_from(number).map_err(|_| RANGE)?.to_le_bytes()),
        _ => row.fixed(i, &number.to_le_bytes()),
    }
    Ok(())
}

#[inline]
fn signed(text: &[u8]) -> Result<i64, &'static str> {
    const BAD: &str = "It is no integer.";
    let Some(digits) = text.strip_prefix(b"-") else {
        return i64::try_from(unsigned(text)?).map_err(|_| BAD);
    };
    0_i64.checked_sub_unsigned(unsigned(digits)?).ok_or(BAD)
}

#[inline]
fn unsigned(text: &[u8]) -> Result<u64, &'static str> {
    const BAD: &str = "It is no integer.";
    if text.is_empty() {
        return Err(BAD);
    }
    let number = text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(u64::from(digit)) }
    });
    number.ok_or(BAD)
}

fn double(text: &[u8]) -> Result<f64, &'static str> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    // Words such as `inf` are read as numbers too, and no server has them.
    number.filter(|number| number.is_finite()).ok_or("It is no floating point number.")
}

#[expect(clippy::cast_possible_truncation, reason = "the double was made from a float: nothing is lost")]
fn narrowed(number: f64) -> f32 {
    number as f32
}

/// A bit field, which comes as its bytes, highest first.
fn bits(bytes: &[u8]) -> Result<u64, &'static str> {
    match bytes.len() {
        0 => return Err("It has no bits."),
        1..=8 => {}
        _ => return Err("It is longer than 64 bits."),
    }
    Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[inline]
fn parts(text: &[u8]) -> Result<Parts, &'static str> {
    temporal::parse(text).ok_or("It is no date.")
}
