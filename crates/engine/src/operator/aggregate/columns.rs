//! Accumulators, one column of them per aggregate and one of them per group.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{
    Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, UInt64Type, i256,
};
use plan::float_sum::FloatSum;
use relation::columns::decode;
use relation::{DataType, Layout, Rows};

use super::result::{exact_result, wide_result};
use super::{Compiled, Kind, Reader, add_to, filter_of};
use crate::error::Result;
use crate::expr::arrow_schema;

/// Accumulators of one aggregate, one per group slot.
#[derive(Debug, Clone)]
pub(super) enum Column {
    Count(Vec<i64>),
    Exact {
        count: Vec<i64>,
        sum: Vec<i128>,
    },
    Wide {
        count: Vec<i64>,
        sum: Vec<i256>,
    },
    Float {
        count: Vec<i64>,
        sum: Vec<FloatSum>,
    },
    Bool {
        yes: Vec<i64>,
        no: Vec<i64>,
    },
    /// The encoded one-column row of the extreme and its key.
    Extreme(Vec<Option<Vec<u8>>>),
}

impl Column {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Count | Kind::DistinctCount { .. } => Self::Count(Vec::new()),
            Kind::Exact { .. } => Self::Exact { count: Vec::new(), sum: Vec::new() },
            Kind::Wide { .. } => Self::Wide { count: Vec::new(), sum: Vec::new() },
            Kind::Float { .. } => Self::Float { count: Vec::new(), sum: Vec::new() },
            Kind::Bool { .. } => Self::Bool { yes: Vec::new(), no: Vec::new() },
            Kind::Extreme { .. } => Self::Extreme(Vec::new()),
        }
    }

    pub(super) fn grow(&mut self) {
        match self {
            Self::Count(counts) => counts.push(0),
            Self::Exact { count, sum } => {
                count.push(0);
                sum.push(0);
            }
            Self::Wide { count, sum } => {
                count.push(0);
                sum.push(i256::ZERO);
            }
            Self::Float { count, sum } => {
                count.push(0);
                sum.push(FloatSum::new());
            }
            Self::Bool { yes, no } => {
                yes.push(0);
                no.push(0);
            }
            Self::Extreme(extremes) => extremes.push(None),
        }
    }

    /// Adds the rows of a delta to their slots.
    pub(super) fn add(
        &mut self,
        aggregate: &Compiled,
        batch: &RecordBatch,
        weights: &[i64],
        positions: &[u32],
        slots: &[u32],
    ) -> Result<()> {
        if aggregate.once.is_some() || matches!(aggregate.kind, Kind::DistinctCount { .. } | Kind::Extreme { .. }) {
            return Ok(());
        }
        let argument = aggregate.argument.map(|c| batch.column(c));
        let passes = filter_of(aggregate.filter, batch);
        let rows = positions.iter().zip(slots).map(|(&row, &slot)| (row as usize, slot as usize));
        let rows = rows.filter(|&(row, _)| passes(row) && argument.is_none_or(|a| a.is_valid(row)));
        match (self, argument) {
            (Self::Count(counts), _) => {
                for (row, slot) in rows {
                    add_to(&mut counts[slot], weights[row])?;
                }
            }
            (Self::Exact { count, sum }, Some(argument)) => {
                let value = exact_values(argument)?;
                for (row, slot) in rows {
                    add_to(&mut count[slot], weights[row])?;
                    let added = value(row).checked_mul(i128::from(weights[row]));
                    let total = added.and_then(|v| sum[slot].checked_add(v));
                    sum[slot] = total.ok_or(relation::Error::Overflow("sum"))?;
                }
            }
            (Self::Wide { count, sum }, Some(argument)) => {
                let values = argument.as_primitive::<Decimal256Type>();
                for (row, slot) in rows {
                    add_to(&mut count[slot], weights[row])?;
                    let added = values.value(row).checked_mul(i256::from_i128(i128::from(weights[row])));
                    let total = added.and_then(|v| sum[slot].checked_add(v));
                    sum[slot] = total.ok_or(relation::Error::Overflow("sum"))?;
                }
            }
            (Self::Float { count, sum }, Some(argument)) => {
                let value = float_values(argument);
                for (row, slot) in rows {
                    add_to(&mut count[slot], weights[row])?;
                    for _ in 0..weights[row].unsigned_abs() {
                        if weights[row] > 0 { sum[slot].add(value(row)) } else { sum[slot].subtract(value(row)) }
                    }
                }
            }
            (Self::Bool { yes, no }, Some(argument)) => {
                let values = argument.as_boolean();
                for (row, slot) in rows {
                    add_to(if values.value(row) { &mut yes[slot] } else { &mut no[slot] }, weights[row])?;
                }
            }
            (Self::Extreme(_) | Self::Exact { .. } | Self::Wide { .. } | Self::Float { .. } | Self::Bool { .. }, _) => {
            }
        }
        Ok(())
    }

    /// Adds (`sign` 1) or takes back (−1) one value of a distinct sum.
    pub(super) fn take_once(&mut self, slot: usize, value: &relation::Value, sign: i64) -> Result<()> {
        use relation::Value;
        let overflow = relation::Error::Overflow("sum");
        match (self, value) {
            (Self::Exact { count, sum }, value) => {
                let number = match value {
                    Value::Int(v) => i128::from(*v),
                    Value::UInt(v) => i128::from(*v),
                    Value::Decimal(v, _) => *v,
                    _ => return Ok(()),
                };
                add_to(&mut count[slot], sign)?;
                sum[slot] = sum[slot].checked_add(number * i128::from(sign)).ok_or(overflow)?;
            }
            (Self::Wide { count, sum }, Value::BigDecimal(v, _)) => {
                add_to(&mut count[slot], sign)?;
                let number = v.to_arrow();
                let total = if sign > 0 { sum[slot].checked_add(number) } else { sum[slot].checked_sub(number) };
                sum[slot] = total.ok_or(overflow)?;
            }
            (Self::Float { count, sum }, Value::Float(v)) => {
                add_to(&mut count[slot], sign)?;
                if sign > 0 { sum[slot].add(*v) } else { sum[slot].subtract(*v) }
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds what a delta gathered to what was there, slot by slot.
    pub(super) fn merge(&mut self, added: &Self) -> Result<()> {
        let overflow = relation::Error::Overflow("sum");
        match (self, added) {
            (Self::Count(total), Self::Count(added)) => add_all(total, added)?,
            (Self::Exact { count, sum }, Self::Exact { count: more, sum: by }) => {
                add_all(count, more)?;
                for (total, by) in sum.iter_mut().zip(by) {
                    *total = total.checked_add(*by).ok_or_else(|| overflow.clone())?;
                }
            }
            (Self::Wide { count, sum }, Self::Wide { count: more, sum: by }) => {
                add_all(count, more)?;
                for (total, by) in sum.iter_mut().zip(by) {
                    *total = total.checked_add(*by).ok_or_else(|| overflow.clone())?;
                }
            }
            (Self::Float { count, sum }, Self::Float { count: more, sum: by }) => {
                add_all(count, more)?;
                sum.iter_mut().zip(by).for_each(|(total, by)| total.merge(by));
            }
            (Self::Bool { yes, no }, Self::Bool { yes: more_yes, no: more_no }) => {
                add_all(yes, more_yes)?;
                add_all(no, more_no)?;
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn write(&self, slot: usize, out: &mut Vec<u8>) {
        match self {
            Self::Count(counts) => out.extend_from_slice(&counts[slot].to_le_bytes()),
            Self::Exact { count, sum } => {
                out.extend_from_slice(&count[slot].to_le_bytes());
                out.extend_from_slice(&sum[slot].to_le_bytes());
            }
            Self::Wide { count, sum } => {
                out.extend_from_slice(&count[slot].to_le_bytes());
                out.extend_from_slice(&sum[slot].to_le_bytes());
            }
            Self::Float { count, sum } => {
                out.extend_from_slice(&count[slot].to_le_bytes());
                write_sized(out, &sum[slot].to_bytes());
            }
            Self::Bool { yes, no } => {
                out.extend_from_slice(&yes[slot].to_le_bytes());
                out.extend_from_slice(&no[slot].to_le_bytes());
            }
            Self::Extreme(extremes) => match &extremes[slot] {
                None => out.push(0),
                Some(value) => {
                    out.push(1);
                    write_sized(out, value);
                }
            },
        }
    }

    pub(super) fn read(&mut self, slot: usize, from: &mut Reader<'_>) -> Option<()> {
        match self {
            Self::Count(counts) => counts[slot] = from.i64()?,
            Self::Exact { count, sum } => {
                count[slot] = from.i64()?;
                sum[slot] = i128::from_le_bytes(from.take(16)?.try_into().ok()?);
            }
            Self::Wide { count, sum } => {
                count[slot] = from.i64()?;
                sum[slot] = i256::from_le_bytes(from.take(32)?.try_into().ok()?);
            }
            Self::Float { count, sum } => {
                count[slot] = from.i64()?;
                sum[slot] = FloatSum::from_bytes(from.sized()?)?;
            }
            Self::Bool { yes, no } => {
                yes[slot] = from.i64()?;
                no[slot] = from.i64()?;
            }
            Self::Extreme(extremes) => {
                extremes[slot] = if from.take(1)? == [0] { None } else { Some(from.sized()?.to_vec()) };
            }
        }
        Some(())
    }

    /// The results of some slots as an array of the aggregate's output type.
    pub(super) fn finish(&self, aggregate: &Compiled, types: &[DataType], slots: &[usize]) -> Result<ArrayRef> {
        let output = aggregate.output;
        let result: ArrayRef = match self {
            Self::Count(counts) => Arc::new(Int64Array::from_iter_values(slots.iter().map(|&s| counts[s]))),
            Self::Exact { count, sum } => exact_result(aggregate, types, slots, count, sum)?,
            Self::Wide { count, sum } => wide_result(aggregate, types, slots, count, sum)?,
            Self::Float { count, sum } => {
                let average = aggregate.kind == Kind::Float { average: true };
                Arc::new(Float64Array::from_iter(slots.iter().map(|&s| match count[s] {
                    0 => None,
                    #[expect(clippy::cast_precision_loss, reason = "as DataFusion divides")]
                    n if average => Some(sum[s].value() / n as f64),
                    _ => Some(sum[s].value()),
                })))
            }
            Self::Bool { yes, no } => {
                let and = aggregate.kind == Kind::Bool { and: true };
                Arc::new(BooleanArray::from_iter(
                    slots.iter().map(|&s| (yes[s] + no[s] > 0).then_some(if and { no[s] == 0 } else { yes[s] > 0 })),
                ))
            }
            Self::Extreme(extremes) => {
                let layout = Layout::new(vec![output]);
                let mut null = Rows::new();
                null.push_values(&layout, &[relation::Value::Null])?;
                let rows = slots.iter().map(|&s| extremes[s].as_deref().unwrap_or(null.get(0)));
                let schema = arrow_schema(&relation::Schema::new(vec![relation::Column::new("value", output)], vec![]));
                Arc::clone(decode(rows, &layout, &[0], &schema)?.column(0))
            }
        };
        let wanted = output.to_arrow();
        if *result.data_type() == wanted { Ok(result) } else { Ok(arrow::compute::cast(&result, &wanted)?) }
    }
}

fn write_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn add_all(totals: &mut [i64], added: &[i64]) -> Result<()> {
    totals.iter_mut().zip(added).try_for_each(|(total, by)| add_to(total, *by))
}

/// Integers and unscaled decimals of an array as 128-bit numbers.
fn exact_values(array: &ArrayRef) -> Result<Box<dyn Fn(usize) -> i128 + '_>> {
    use arrow::datatypes::DataType as Arrow;
    Ok(match array.data_type() {
        Arrow::Int16 => {
            let values = array.as_primitive::<Int16Type>();
            Box::new(|row| i128::from(values.value(row)))
        }
        Arrow::Int32 => {
            let values = array.as_primitive::<Int32Type>();
            Box::new(|row| i128::from(values.value(row)))
        }
        Arrow::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            Box::new(|row| i128::from(values.value(row)))
        }
        Arrow::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            Box::new(|row| i128::from(values.value(row)))
        }
        Arrow::Decimal128(..) => {
            let values = array.as_primitive::<Decimal128Type>();
            Box::new(|row| values.value(row))
        }
        other => return Err(relation::Error::UnsupportedType(other.to_string()).into()),
    })
}

fn float_values(array: &ArrayRef) -> Box<dyn Fn(usize) -> f64 + '_> {
    if *array.data_type() == arrow::datatypes::DataType::Float32 {
        let values = array.as_primitive::<Float32Type>();
        return Box::new(|row| f64::from(values.value(row)));
    }
    let values = array.as_primitive::<Float64Type>();
    Box::new(|row| values.value(row))
}
