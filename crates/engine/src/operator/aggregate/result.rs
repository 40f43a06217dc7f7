//! What groups answer: their rows as columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Decimal256Array, Int64Array, UInt64Array};
use arrow::datatypes::i256;
use relation::{DataType, Delta, Rows};

use super::columns::Column;
use super::{AggregateOp, Compiled, Kind, Reader};
use crate::error::Result;

/// Output rows made of stored groups.
pub(super) struct GroupRows<'a> {
    op: &'a AggregateOp,
    columns: Vec<Column>,
    rows: Rows,
}

impl<'a> GroupRows<'a> {
    pub(super) fn new(op: &'a AggregateOp) -> Self {
        let columns = op.aggregates.iter().map(|a| Column::new(a.kind)).collect();
        Self { op, columns, rows: Rows::new() }
    }

    pub(super) fn push(&mut self, key: &[u8], group: &[u8]) -> Result<()> {
        let damaged = || self.op.broken("accumulators cannot be read");
        let mut reader = Reader { bytes: group, at: 0 };
        reader.i64().ok_or_else(damaged)?;
        for column in &mut self.columns {
            column.grow();
            column.read(self.rows.len(), &mut reader).ok_or_else(damaged)?;
        }
        match &group[reader.at..] {
            [] => relation::key::read_row(key, &self.op.group_layout, &mut self.rows)?,
            row => self.rows.push(row),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Delta> {
        let slots: Vec<usize> = (0..self.rows.len()).collect();
        let mut arrays = self.op.group_arrays(self.rows.iter())?;
        for (column, aggregate) in self.columns.iter().zip(&self.op.aggregates) {
            arrays.push(column.finish(aggregate, &self.op.input_types, &slots)?);
        }
        let batch = relation::columns::batch(&self.op.schema, arrays, slots.len())?;
        Ok(Delta::new(batch, vec![1; slots.len()]))
    }
}

/// Sums as DataFusion types them; averages of decimals as its `DecimalAverager` scales and cuts them.
pub(super) fn exact_result(
    aggregate: &Compiled,
    types: &[DataType],
    slots: &[usize],
    count: &[i64],
    sum: &[i128],
) -> Result<ArrayRef> {
    let average = aggregate.kind == Kind::Exact { average: true };
    let raise = average.then(|| scale_up(aggregate, types));
    let value = |slot: usize| -> Result<Option<i128>> {
        if count[slot] == 0 {
            return Ok(None);
        }
        let Some(raise) = raise else { return Ok(Some(sum[slot])) };
        let raised = 10_i128.checked_pow(raise).and_then(|factor| sum[slot].checked_mul(factor));
        Ok(Some(raised.ok_or(relation::Error::Overflow("average"))? / i128::from(count[slot])))
    };
    let values = slots.iter().map(|&slot| value(slot)).collect::<Result<Vec<_>>>()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "DataFusion's integer sums wrap")]
    Ok(match aggregate.output {
        DataType::UInt64 => Arc::new(UInt64Array::from_iter(values.iter().map(|v| v.map(|v| v as u64)))),
        DataType::Decimal { precision, scale } if precision <= 38 => {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale)?)
        }
        _ => Arc::new(Int64Array::from_iter(values.iter().map(|v| v.map(|v| v as i64)))),
    })
}

pub(super) fn wide_result(
    aggregate: &Compiled,
    types: &[DataType],
    slots: &[usize],
    count: &[i64],
    sum: &[i256],
) -> Result<ArrayRef> {
    let DataType::Decimal { precision, scale } = aggregate.output else {
        return Err(relation::Error::UnsupportedType(aggregate.output.to_string()).into());
    };
    let average = aggregate.kind == Kind::Wide { average: true };
    let raise = average.then(|| scale_up(aggregate, types));
    let value = |slot: usize| -> Result<Option<i256>> {
        if count[slot] == 0 {
            return Ok(None);
        }
        let Some(raise) = raise else { return Ok(Some(sum[slot])) };
        let factor = i256::from_i128(10).checked_pow(raise);
        let raised = factor.and_then(|factor| sum[slot].checked_mul(factor));
        let divided = raised.and_then(|v| v.checked_div(i256::from_i128(i128::from(count[slot]))));
        Ok(Some(divided.ok_or(relation::Error::Overflow("average"))?))
    };
    let values = slots.iter().map(|&slot| value(slot)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Decimal256Array::from(values).with_precision_and_scale(precision, scale)?))
}

/// Digits by which an average's scale exceeds its argument's.
fn scale_up(aggregate: &Compiled, types: &[DataType]) -> u32 {
    let scale = |t: DataType| if let DataType::Decimal { scale, .. } = t { i32::from(scale) } else { 0 };
    let argument = aggregate.argument.map_or(0, |c| scale(types[c]));
    u32::try_from(scale(aggregate.output) - argument).unwrap_or(0)
}
