//! A small table written down row by row: system tables are lists, not data.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float32Builder, Int16Builder, Int32Builder, Int64Builder, ListBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder, new_null_array,
};
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit};
use datafusion::error::Result;
use relation::schema::TYPE_NAME;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Short,
    Long,
    Real,
    Double,
    Bool,
    Text,
    /// A text of the type `name`.
    Name,
    Varchar,
    /// An integer of the type `oid`.
    Oid,
    /// A text of the type `"char"`: one letter.
    Char,
    Instant,
    Interval,
    Shorts,
    /// Short integers of the type `int2vector`.
    ShortVector,
    /// Oids of the type `oidvector`.
    OidVector,
    /// Oids of the type `oid[]`.
    Oids,
    Reals,
    Texts,
    /// Texts of the type `name[]`.
    Names,
    /// Texts of the type `aclitem[]`.
    Acls,
    /// An integer of the type `xid`.
    Xid,
    /// A text of the type `pg_node_tree`.
    Tree,
}

/// One value.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Null,
    Int(i32),
    Bool(bool),
    Text(String),
    Shorts(Vec<i16>),
    Ints(Vec<i32>),
}

impl From<i32> for Cell {
    fn from(value: i32) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<i16>> for Cell {
    fn from(value: Vec<i16>) -> Self {
        Self::Shorts(value)
    }
}

impl From<Vec<i32>> for Cell {
    fn from(value: Vec<i32>) -> Self {
        Self::Ints(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row of cells.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($crate::pg_catalog::sheet::Cell::from($cell)),*] };
}
pub(crate) use row;

/// Rows of cells under columns, as a batch. A cell that does not fit its column becomes NULL.
pub(crate) fn sheet(columns: &[(&str, Kind)], rows: &[Vec<Cell>]) -> Result<RecordBatch> {
    let fields = columns.iter().map(|(name, kind)| named(*kind, Field::new(*name, arrow_type(*kind), true)));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays =
        columns.iter().enumerate().map(|(i, (_, kind))| array(*kind, rows.iter().map(|row| &row[i]))).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
}

/// The field under the name of its type, where Arrow has none of its own for it.
fn named(kind: Kind, field: Field) -> Field {
    let name = match kind {
        Kind::Name => "name",
        Kind::Varchar => "varchar",
        Kind::Oid => "oid",
        Kind::Char => "char",
        Kind::ShortVector => "int2vector",
        Kind::OidVector => "oidvector",
        Kind::Oids => "_oid",
        Kind::Names => "_name",
        Kind::Acls => "_aclitem",
        Kind::Xid => "xid",
        Kind::Tree => "pg_node_tree",
        _ => return field,
    };
    field.with_metadata([(TYPE_NAME.to_owned(), name.to_owned())].into())
}

fn arrow_type(kind: Kind) -> DataType {
    match kind {
        Kind::Int | Kind::Oid | Kind::Xid => DataType::Int32,
        Kind::Double => DataType::Float64,
        Kind::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        Kind::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        Kind::Oids | Kind::OidVector => DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true))),
        Kind::Reals => DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))),
        Kind::Short => DataType::Int16,
        Kind::Long => DataType::Int64,
        Kind::Real => DataType::Float32,
        Kind::Bool => DataType::Boolean,
        Kind::Text | Kind::Name | Kind::Varchar | Kind::Char | Kind::Tree => DataType::Utf8,
        Kind::Shorts | Kind::ShortVector => DataType::List(Arc::new(Field::new_list_field(DataType::Int16, true))),
        Kind::Texts | Kind::Names | Kind::Acls => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
    }
}

fn int(cell: &Cell) -> Option<i32> {
    match cell {
        Cell::Int(value) => Some(*value),
        _ => None,
    }
}

fn array<'a>(kind: Kind, cells: impl Iterator<Item = &'a Cell>) -> ArrayRef {
    macro_rules! numbers {
        ($builder:ty, $convert:expr) => {{
            let mut out = <$builder>::new();
            cells.for_each(|cell| out.append_option(int(cell).and_then($convert)));
            Arc::new(out.finish())
        }};
    }
    match kind {
        Kind::Int | Kind::Oid | Kind::Xid => numbers!(Int32Builder, Some),
        Kind::Short => numbers!(Int16Builder, |value| i16::try_from(value).ok()),
        Kind::Long => numbers!(Int64Builder, |value| Some(i64::from(value))),
        #[expect(clippy::cast_precision_loss, reason = "an estimate of rows")]
        Kind::Real => numbers!(Float32Builder, |value| Some(value as f32)),
        Kind::Bool => {
            let mut out = BooleanBuilder::new();
            cells.for_each(|cell| out.append_option(if let Cell::Bool(value) = cell { Some(*value) } else { None }));
            Arc::new(out.finish())
        }
        Kind::Text | Kind::Name | Kind::Varchar | Kind::Char | Kind::Tree => {
            let mut out = StringBuilder::new();
            cells.for_each(|cell| out.append_option(if let Cell::Text(text) = cell { Some(text) } else { None }));
            Arc::new(out.finish())
        }
        Kind::Oids | Kind::OidVector => {
            let mut out = ListBuilder::new(Int32Builder::new());
            cells.for_each(|cell| match cell {
                Cell::Ints(values) => out.append_value(values.iter().map(|value| Some(*value))),
                _ => out.append_null(),
            });
            Arc::new(out.finish())
        }
        Kind::Shorts | Kind::ShortVector => {
            let mut out = ListBuilder::new(Int16Builder::new());
            cells.for_each(|cell| match cell {
                Cell::Shorts(values) => out.append_value(values.iter().map(|value| Some(*value))),
                _ => out.append_null(),
            });
            Arc::new(out.finish())
        }
        // Nobody says any of these.
        Kind::Double | Kind::Instant | Kind::Interval | Kind::Reals | Kind::Texts | Kind::Names | Kind::Acls => {
            new_null_array(&arrow_type(kind), cells.count())
        }
    }
}
