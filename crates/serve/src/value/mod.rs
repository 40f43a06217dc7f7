//! A column of an answer, made ready to be written cell by cell.
//!
//! Arrow has more types than a client: [`Column::new`] brings a batch's column to the few that differ on the wire
//! (all widths of time become microseconds, dictionaries their values), whole columns at a time. Then `text`,
//! `binary` and `json` each write one cell; what they write is exact, and decimals never become floats.

pub(crate) mod array;
pub(crate) mod binary;
pub(crate) mod calendar;
pub(crate) mod csv;
pub(crate) mod json;
pub(crate) mod numeric;
pub(crate) mod shown;
pub(crate) mod text;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, LargeStringArray, StringArray,
    StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType};
use relation::schema::registered_name;

use crate::reader::SqlError;

/// A column of a batch.
pub(crate) struct Column {
    nulls: Option<NullBuffer>,
    pub(crate) form: Form,
    pub(crate) cells: Cells,
}

/// What the type of a column changes in how its cells are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing.
    Plain,
    /// The binary form begins with the number of a version.
    Jsonb,
    /// The binary form is the number that the digits are.
    Uuid,
    /// Lists are `int2vector` or `oidvector`: their text is `1 2`, and their numbers count from 0.
    Vector,
    /// Lists are arrays of the type that has this oid.
    Array(u32),
}

/// Cells by how they are written.
pub(crate) enum Cells {
    Null,
    Bool(BooleanArray),
    Int2(Int16Array),
    Int4(Int32Array),
    Int8(Int64Array),
    /// Unsigned 64 bits, a numeric on the wire.
    UInt8(UInt64Array),
    Float4(Float32Array),
    Float8(Float64Array),
    Decimal128(Decimal128Array, i8),
    Decimal256(Decimal256Array, i8),
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    Bytes(BinaryArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    TimestampTz(TimestampMicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    /// Oids and the names by which they are shown.
    Registered(Int32Array, StringArray),
    List(OffsetBuffer<i32>, Box<Column>),
    Struct(Vec<(String, Column)>),
    Map(OffsetBuffer<i32>, Box<Column>, Box<Column>),
}

impl Column {
    /// A column of this array. Errors: a type that has no form on the wire, a value outside microseconds' range.
    pub(crate) fn new(array: &ArrayRef) -> Result<Self, SqlError> {
        Ok(Self { nulls: array.logical_nulls(), form: Form::Plain, cells: cells(array)? })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Whether a list of these is a Postgres array of one dimension.
    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self.cells, Cells::List(..) | Cells::Struct(_) | Cells::Map(..))
    }

    /// Whether it is a Postgres array; lists of rows and of maps are written as JSON.
    pub(crate) fn is_array(&self) -> bool {
        matches!(&self.cells, Cells::List(_, values) if values.is_scalar() || values.is_array())
    }
}

/// Whether this is the type of an array, see [`Column::is_array`].
pub(crate) fn is_array(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(item) if is_scalar(item.data_type()) || is_array(item.data_type()))
}

/// Whether values of this type are a single value, see [`Column::is_scalar`].
pub(crate) fn is_scalar(data_type: &DataType) -> bool {
    let has_parts = !matches!(data_type, DataType::Dictionary(..) | DataType::RunEndEncoded(..));
    !(data_type.is_nested() && has_parts) || registered_name(data_type).is_some()
}

fn cells(array: &ArrayRef) -> Result<Cells, SqlError> {
    Ok(match array.data_type() {
        DataType::Null => Cells::Null,
        DataType::Boolean => Cells::Bool(array.as_boolean().clone()),
        DataType::Int16 => Cells::Int2(array.as_primitive().clone()),
        DataType::Int32 => Cells::Int4(array.as_primitive().clone()),
        DataType::Int64 => Cells::Int8(array.as_primitive().clone()),
        DataType::UInt64 => Cells::UInt8(array.as_primitive().clone()),
        DataType::Float32 => Cells::Float4(array.as_primitive().clone()),
        DataType::Float64 => Cells::Float8(array.as_primitive().clone()),
        DataType::Decimal128(_, scale) => Cells::Decimal128(array.as_primitive().clone(), *scale),
        DataType::Decimal256(_, scale) => Cells::Decimal256(array.as_primitive().clone(), *scale),
        DataType::Utf8 => Cells::Text(array.as_string().clone()),
        DataType::LargeUtf8 => Cells::LargeText(array.as_string().clone()),
        DataType::Utf8View => Cells::TextView(array.as_string_view().clone()),
        DataType::Binary => Cells::Bytes(array.as_binary().clone()),
        DataType::Date32 => Cells::Date(array.as_primitive().clone()),
        DataType::Time64(TimeUnit::Microsecond) => Cells::Time(array.as_primitive().clone()),
        DataType::Timestamp(TimeUnit::Microsecond, None) => Cells::Timestamp(array.as_primitive().clone()),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Cells::TimestampTz(array.as_primitive().clone()),
        DataType::Interval(IntervalUnit::MonthDayNano) => Cells::Interval(array.as_primitive().clone()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let values = Column::new(list.values())?;
            array::has_even_parts(list.offsets(), &values)?;
            Cells::List(list.offsets().clone(), Box::new(values))
        }
        registered if registered_name(registered).is_some() => {
            let row = array.as_struct();
            Cells::Registered(row.column(0).as_primitive().clone(), row.column(1).as_string().clone())
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().zip(fields);
            let columns = columns.map(|(column, field)| Ok((field.name().clone(), Column::new(column)?)));
            Cells::Struct(columns.collect::<Result<_, SqlError>>()?)
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (keys, values) = (Column::new(map.keys())?, Column::new(map.values())?);
            Cells::Map(map.offsets().clone(), Box::new(keys), Box::new(values))
        }
        other => return cells(&convert(array, &nearest(other)?)?),
    })
}

/// The type among those of [`Cells`] that holds all values of another one.
fn nearest(data_type: &DataType) -> Result<DataType, SqlError> {
    Ok(match data_type {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::RunEndEncoded(_, values) => values.data_type().clone(),
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Interval(_) | DataType::Duration(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::ListView(item) => {
            DataType::List(Arc::clone(item))
        }
        other => {
            return Err(
                SqlError::new("0A000", format!("cannot send values of type {other}")).hint("Cast the column to text.")
            );
        }
    })
}

fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, SqlError> {
    if let (DataType::Timestamp(TimeUnit::Nanosecond, zone), DataType::Timestamp(TimeUnit::Microsecond, _)) =
        (array.data_type(), to)
    {
        // Arrow's cast cuts towards zero, which would move instants before 1970 forward.
        let cut = array.as_primitive::<TimestampNanosecondType>().unary(|ns: i64| ns.div_euclid(1_000));
        let cut: TimestampMicrosecondArray = arrow::array::PrimitiveArray::<TimestampMicrosecondType>::clone(&cut);
        return Ok(Arc::new(cut.with_timezone_opt(zone.clone())));
    }
    cast(array, to)
}

/// Arrow's cast, which here fails rather than make a NULL of what does not fit.
pub(crate) fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, SqlError> {
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
        .map_err(|e| SqlError::new("22003", format!("a value does not fit type {to}")).detail(format!("{e}.")))
}
