//! Between encoded rows and Arrow columns: the engine computes on columns, the store keeps rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Decimal128Builder, Decimal256Builder,
    IntervalMonthDayNanoBuilder, ListArray, PrimitiveBuilder, RecordBatch, RecordBatchOptions, StringBuilder,
    UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take_arrays;
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, SchemaRef, Time64MicrosecondType, TimestampMicrosecondType, UInt64Type, i256,
};

use crate::interval::Interval;
use crate::row::{Layout, RowWriter, Rows, array};
use crate::schema::DataType;
use crate::{Error, Result};

/// Decodes some columns of encoded rows; `rows` may be walked several times.
///
/// The schema names the decoded columns, in the order of `columns`. Rows must be valid for the layout
/// ([`Layout::check`] for bytes from outside).
pub fn decode<'a, I>(rows: I, layout: &Layout, columns: &[usize], schema: &SchemaRef) -> Result<RecordBatch>
where
    I: Iterator<Item = &'a [u8]> + Clone,
{
    let count = rows.clone().count();
    let arrays = columns.iter().map(|&i| column(rows.clone(), count, layout, i)).collect::<Result<Vec<_>>>()?;
    batch(schema, arrays, count)
}

/// A batch of arrays, also where there is no column at all.
pub fn batch(schema: &SchemaRef, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map_err(|_| Error::Damaged("columns do not fit their schema"))
}

/// The rows of a batch at these positions, in that order, also where there is no column at all.
pub fn taken(from: &RecordBatch, rows: &[u32]) -> Result<RecordBatch> {
    let indices = UInt32Array::from(rows.to_vec());
    let arrays = take_arrays(from.columns(), &indices, None).map_err(|_| Error::Damaged("row position"))?;
    batch(&from.schema(), arrays, rows.len())
}

fn column<'a, I>(rows: I, count: usize, layout: &Layout, i: usize) -> Result<ArrayRef>
where
    I: Iterator<Item = &'a [u8]>,
{
    Ok(match layout.types()[i] {
        DataType::Bool => {
            let mut out = BooleanBuilder::with_capacity(count);
            for row in rows {
                out.append_option((!layout.is_null(row, i)).then(|| layout.bytes(row, i)[0] != 0));
            }
            Arc::new(out.finish())
        }
        DataType::Int16 => fixed::<Int16Type, 2>(rows, count, layout, i, i16::from_le_bytes),
        DataType::Int32 => fixed::<Int32Type, 4>(rows, count, layout, i, i32::from_le_bytes),
        DataType::Int64 => fixed::<Int64Type, 8>(rows, count, layout, i, i64::from_le_bytes),
        DataType::UInt64 => fixed::<UInt64Type, 8>(rows, count, layout, i, u64::from_le_bytes),
        DataType::Float32 => fixed::<Float32Type, 4>(rows, count, layout, i, f32::from_le_bytes),
        DataType::Float64 => fixed::<Float64Type, 8>(rows, count, layout, i, f64::from_le_bytes),
        DataType::Date => fixed::<Date32Type, 4>(rows, count, layout, i, i32::from_le_bytes),
        DataType::Time => fixed::<Time64MicrosecondType, 8>(rows, count, layout, i, i64::from_le_bytes),
        DataType::Timestamp | DataType::TimestampTz => {
            let mut out = PrimitiveBuilder::<TimestampMicrosecondType>::with_capacity(count)
                .with_data_type(layout.types()[i].to_arrow());
            for row in rows {
                out.append_option((!layout.is_null(row, i)).then(|| i64::from_le_bytes(array(layout.bytes(row, i)))));
            }
            Arc::new(out.finish())
        }
        DataType::Decimal { precision, scale } => decimal(rows, count, layout, i, precision, scale)?,
        DataType::Text | DataType::Json => {
            let mut out = StringBuilder::with_capacity(count, count * 16);
            for row in rows {
                if layout.is_null(row, i) {
                    out.append_null();
                } else {
                    let text = std::str::from_utf8(layout.bytes(row, i));
                    out.append_value(text.map_err(|_| Error::Damaged("text is not UTF-8"))?);
                }
            }
            Arc::new(out.finish())
        }
        DataType::Bytes => {
            let mut out = BinaryBuilder::with_capacity(count, count * 16);
            for row in rows {
                out.append_option((!layout.is_null(row, i)).then(|| layout.bytes(row, i)));
            }
            Arc::new(out.finish())
        }
        DataType::Interval => {
            let mut out = IntervalMonthDayNanoBuilder::with_capacity(count);
            for row in rows {
                let value = || Interval::from_bytes(layout.bytes(row, i)).to_arrow();
                out.append_option((!layout.is_null(row, i)).then(value));
            }
            Arc::new(out.finish())
        }
        DataType::Array(element) => lists(rows, layout, i, *element)?,
    })
}

/// Arrays: the elements of all rows are one column.
fn lists<'a>(rows: impl Iterator<Item = &'a [u8]>, layout: &Layout, i: usize, element: DataType) -> Result<ArrayRef> {
    let items = layout.items(i).ok_or(Error::Damaged("an array without elements"))?;
    let (mut elements, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let before = elements.len();
        if !layout.is_null(row, i) {
            elements.extend(items.rows_of(layout.bytes(row, i)));
        }
        lengths.push(elements.len() - before);
        valid.push(!layout.is_null(row, i));
    }
    let values = erased(&elements, items)?;
    if i32::try_from(values.len()).is_err() {
        return Err(Error::Overflow("elements of a batch of arrays"));
    }
    let nulls = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
    let made = ListArray::try_new(element.item(), OffsetBuffer::from_lengths(lengths), values, nulls);
    Ok(Arc::new(made.map_err(|_| Error::Damaged("elements do not fit their array"))?))
}

/// The one column of rows that were gathered: arrays within arrays come here again, by one kind of iterator.
fn erased(rows: &[&[u8]], layout: &Layout) -> Result<ArrayRef> {
    column(rows.iter().copied(), rows.len(), layout, 0)
}

fn fixed<'a, T: ArrowPrimitiveType, const N: usize>(
    rows: impl Iterator<Item = &'a [u8]>,
    count: usize,
    layout: &Layout,
    i: usize,
    read: fn([u8; N]) -> T::Native,
) -> ArrayRef {
    let mut out = PrimitiveBuilder::<T>::with_capacity(count);
    for row in rows {
        out.append_option((!layout.is_null(row, i)).then(|| read(array(layout.bytes(row, i)))));
    }
    Arc::new(out.finish())
}

fn decimal<'a>(
    rows: impl Iterator<Item = &'a [u8]>,
    count: usize,
    layout: &Layout,
    i: usize,
    precision: u8,
    scale: i8,
) -> Result<ArrayRef> {
    let bad = |_| Error::Damaged("decimal type");
    if precision > 38 {
        let mut out =
            Decimal256Builder::with_capacity(count).with_precision_and_scale(precision, scale).map_err(bad)?;
        for row in rows {
            out.append_option((!layout.is_null(row, i)).then(|| i256::from_le_bytes(array(layout.bytes(row, i)))));
        }
        return Ok(Arc::new(out.finish()));
    }
    let narrow = precision <= 18;
    let mut out = Decimal128Builder::with_capacity(count).with_precision_and_scale(precision, scale).map_err(bad)?;
    for row in rows {
        out.append_option((!layout.is_null(row, i)).then(|| {
            let bytes = layout.bytes(row, i);
            if narrow { i128::from(i64::from_le_bytes(array(bytes))) } else { i128::from_le_bytes(array(bytes)) }
        }));
    }
    Ok(Arc::new(out.finish()))
}

/// Encodes columns as rows, one at a time. The arrays have the Arrow types of the layout's types.
pub struct RowEncoder {
    layout: Layout,
    arrays: Vec<ArrayRef>,
}

impl RowEncoder {
    /// Rows of these arrays.
    pub fn new(layout: Layout, arrays: Vec<ArrayRef>) -> Self {
        debug_assert_eq!(layout.types().len(), arrays.len());
        Self { layout, arrays }
    }

    /// Appends row `row` to `out`. Errors: a decimal beyond its type.
    pub fn push(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut writer = RowWriter::new(&self.layout, out);
        for (i, a) in self.arrays.iter().enumerate() {
            write_value(&mut writer, i, self.layout.types()[i], a, row)?;
        }
        Ok(())
    }
}

/// Encodes a whole batch.
pub fn encode(layout: &Layout, batch: &RecordBatch) -> Result<Rows> {
    debug_assert_eq!(layout.types().len(), batch.num_columns());
    let mut rows = Rows::with_capacity(batch.num_rows(), batch.num_rows() * 32);
    for row in 0..batch.num_rows() {
        let mut writer = rows.start_row(layout);
        for (i, a) in batch.columns().iter().enumerate() {
            write_value(&mut writer, i, layout.types()[i], a, row)?;
        }
        rows.finish_row();
    }
    Ok(rows)
}

fn write_value(out: &mut RowWriter<'_>, i: usize, data_type: DataType, a: &ArrayRef, row: usize) -> Result<()> {
    if a.is_null(row) {
        out.null(i);
        return Ok(());
    }
    match data_type {
        DataType::Bool => out.fixed(i, &[u8::from(a.as_boolean().value(row))]),
        DataType::Int16 => out.fixed(i, &a.as_primitive::<Int16Type>().value(row).to_le_bytes()),
        DataType::Int32 => out.fixed(i, &a.as_primitive::<Int32Type>().value(row).to_le_bytes()),
        DataType::Int64 => out.fixed(i, &a.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        DataType::UInt64 => out.fixed(i, &a.as_primitive::<UInt64Type>().value(row).to_le_bytes()),
        DataType::Float32 => out.fixed(i, &a.as_primitive::<Float32Type>().value(row).to_le_bytes()),
        DataType::Float64 => out.fixed(i, &a.as_primitive::<Float64Type>().value(row).to_le_bytes()),
        DataType::Date => out.fixed(i, &a.as_primitive::<Date32Type>().value(row).to_le_bytes()),
        DataType::Time => out.fixed(i, &a.as_primitive::<Time64MicrosecondType>().value(row).to_le_bytes()),
        DataType::Timestamp | DataType::TimestampTz => {
            out.fixed(i, &a.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes());
        }
        DataType::Decimal { precision: 0..=38, .. } => out.decimal(i, a.as_primitive::<Decimal128Type>().value(row))?,
        DataType::Decimal { .. } => out.fixed(i, &a.as_primitive::<Decimal256Type>().value(row).to_le_bytes()),
        DataType::Text | DataType::Json => out.variable(i, a.as_string::<i32>().value(row).as_bytes()),
        DataType::Bytes => out.variable(i, a.as_binary::<i32>().value(row)),
        DataType::Interval => {
            let value = a.as_primitive::<IntervalMonthDayNanoType>().value(row);
            out.fixed(i, &Interval::from_arrow(value).to_bytes());
        }
        DataType::Array(element) => {
            let list = a.as_list::<i32>();
            let [from, to] = [row, row + 1].map(|at| usize::try_from(list.value_offsets()[at]).unwrap_or(0));
            let values = list.values();
            out.elements(i, to.saturating_sub(from), |writer, at| write_value(writer, 0, *element, values, from + at))?;
        }
    }
    Ok(())
}
