//! Sums and averages: exact in 128 or 256 bits for integers and decimals, and exact for floats too.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Decimal256Array, Float64Array, Int64Array, IntervalMonthDayNanoArray,
    UInt64Array,
};
use arrow::datatypes::{
    DataType as Arrow, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, UInt64Type, i256,
};
use plan::IntervalSum;
use plan::float_sum::FloatSum;
use relation::{DataType, Layout, Value};

use super::columns::{Column, Rated, add_all, broken, same, write_sized};
use super::{Compiled, Reader, add_to};
use crate::error::Result;

/// Values of an array by position.
type Values<'a, N> = Box<dyn Fn(usize) -> N + 'a>;

/// An integer of many bits: what exact sums are made of.
pub(super) trait Number: Copy + Send + Sync + 'static {
    const ZERO: Self;

    fn plus(self, other: Self) -> Option<Self>;
    fn times(self, by: i64) -> Option<Self>;
    /// The average of so many values, with more digits than they have.
    fn average(self, count: i64, digits: u32, precision: u8) -> Option<Self>;

    fn write(self, out: &mut Vec<u8>);
    fn read(from: &mut Reader<'_>) -> Option<Self>;

    /// Integers and unscaled decimals of an array.
    fn values(array: &ArrayRef) -> Result<Values<'_, Self>>;
    fn of(value: &Value) -> Option<Self>;
    /// Results as DataFusion types them.
    fn array(values: Vec<Option<Self>>, output: DataType) -> Result<ArrayRef>;
}

impl Number for i128 {
    const ZERO: Self = 0;

    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }

    fn times(self, by: i64) -> Option<Self> {
        self.checked_mul(Self::from(by))
    }

    fn average(self, count: i64, digits: u32, precision: u8) -> Option<Self> {
        plan::average(self, Self::from(count), digits, precision)
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self::from_le_bytes(from.take(16)?.try_into().ok()?))
    }

    fn values(array: &ArrayRef) -> Result<Values<'_, Self>> {
        Ok(match array.data_type() {
            Arrow::Int16 => {
                let values = array.as_primitive::<Int16Type>();
                Box::new(|row| Self::from(values.value(row)))
            }
            Arrow::Int32 => {
                let values = array.as_primitive::<Int32Type>();
                Box::new(|row| Self::from(values.value(row)))
            }
            Arrow::Int64 => {
                let values = array.as_primitive::<Int64Type>();
                Box::new(|row| Self::from(values.value(row)))
            }
            Arrow::UInt64 => {
                let values = array.as_primitive::<UInt64Type>();
                Box::new(|row| Self::from(values.value(row)))
            }
            Arrow::Decimal128(..) => {
                let values = array.as_primitive::<Decimal128Type>();
                Box::new(|row| values.value(row))
            }
            other => return Err(relation::Error::UnsupportedType(other.to_string()).into()),
        })
    }

    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Int(v) => Some(Self::from(*v)),
            Value::UInt(v) => Some(Self::from(*v)),
            Value::Decimal(v, _) => Some(*v),
            _ => None,
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "DataFusion's integer sums wrap")]
    fn array(values: Vec<Option<Self>>, output: DataType) -> Result<ArrayRef> {
        Ok(match output {
            DataType::UInt64 => Arc::new(UInt64Array::from_iter(values.iter().map(|v| v.map(|v| v as u64)))),
            DataType::Decimal { precision, scale } if precision <= 38 => {
                Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale)?)
            }
            _ => Arc::new(Int64Array::from_iter(values.iter().map(|v| v.map(|v| v as i64)))),
        })
    }
}

impl Number for i256 {
    const ZERO: Self = Self::ZERO;

    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }

    fn times(self, by: i64) -> Option<Self> {
        self.checked_mul(Self::from_i128(i128::from(by)))
    }

    fn average(self, count: i64, digits: u32, precision: u8) -> Option<Self> {
        plan::average(self, Self::from_i128(i128::from(count)), digits, precision)
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self::from_le_bytes(from.take(32)?.try_into().ok()?))
    }

    fn values(array: &ArrayRef) -> Result<Values<'_, Self>> {
        let values = array.as_primitive_opt::<Decimal256Type>();
        let values = values.ok_or_else(|| relation::Error::UnsupportedType(array.data_type().to_string()))?;
        Ok(Box::new(|row| values.value(row)))
    }

    fn of(value: &Value) -> Option<Self> {
        if let Value::BigDecimal(v, _) = value { Some(v.to_arrow()) } else { None }
    }

    fn array(values: Vec<Option<Self>>, output: DataType) -> Result<ArrayRef> {
        let DataType::Decimal { precision, scale } = output else {
            return Err(relation::Error::UnsupportedType(output.to_string()).into());
        };
        Ok(Arc::new(Decimal256Array::from(values).with_precision_and_scale(precision, scale)?))
    }
}

/// `sum` and `avg` of integers and decimals; a distinct one takes each value once.
#[derive(Clone)]
pub(super) struct Sums<N> {
    /// The distinct values come one by one, as rows of this layout.
    once: Option<Layout>,
    output: DataType,
    /// An average, and the digits by which its scale exceeds its argument's.
    average: Option<u32>,
    count: Vec<i64>,
    sum: Vec<N>,
}

impl<N: Number> Sums<N> {
    pub(super) fn new(aggregate: &Compiled, average: bool, types: &[DataType]) -> Self {
        Self {
            once: aggregate.once_layout(types),
            output: aggregate.output,
            average: average.then(|| scale_up(aggregate, types)),
            count: Vec::new(),
            sum: Vec::new(),
        }
    }

    fn take(&mut self, slot: usize, value: N, weight: i64) -> Result<()> {
        add_to(&mut self.count[slot], weight)?;
        let total = value.times(weight).and_then(|added| self.sum[slot].plus(added));
        self.sum[slot] = total.ok_or(relation::Error::Overflow("sum"))?;
        Ok(())
    }

    /// Averages of decimals are rounded as in queries.
    fn result(&self, slot: usize) -> Result<Option<N>> {
        if self.count[slot] == 0 {
            return Ok(None);
        }
        let Some(digits) = self.average else { return Ok(Some(self.sum[slot])) };
        let DataType::Decimal { precision, .. } = self.output else { return Err(broken("an average is no decimal")) };
        let result = self.sum[slot].average(self.count[slot], digits, precision);
        Ok(Some(result.ok_or(relation::Error::Overflow("average"))?))
    }
}

impl<N: Number> Column for Sums<N> {
    fn grow(&mut self) {
        self.count.push(0);
        self.sum.push(N::ZERO);
    }

    fn add(&mut self, rows: &Rated<'_>) -> Result<()> {
        if self.once.is_some() {
            return Ok(());
        }
        let value = N::values(rows.argument()?)?;
        rows.rows().try_for_each(|(row, slot, weight)| self.take(slot, value(row), weight))
    }

    fn cross(&mut self, slot: usize, value: &[u8], sign: i64) -> Result<()> {
        let value = self.once.as_ref().and_then(|layout| N::of(&layout.value(value, 0)));
        self.take(slot, value.ok_or_else(|| broken("a distinct value is no number"))?, sign)
    }

    fn merge(&mut self, added: &dyn Column) -> Result<()> {
        let added = same::<Self>(added)?;
        add_all(&mut self.count, &added.count)?;
        for (total, by) in self.sum.iter_mut().zip(&added.sum) {
            *total = total.plus(*by).ok_or(relation::Error::Overflow("sum"))?;
        }
        Ok(())
    }

    fn write(&self, slot: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count[slot].to_le_bytes());
        self.sum[slot].write(out);
    }

    fn read(&mut self, slot: usize, from: &mut Reader<'_>) -> Option<()> {
        self.count[slot] = from.i64()?;
        self.sum[slot] = N::read(from)?;
        Some(())
    }

    fn finish(&self, slots: &[usize]) -> Result<ArrayRef> {
        N::array(slots.iter().map(|&slot| self.result(slot)).collect::<Result<_>>()?, self.output)
    }

    fn copy(&self) -> Box<dyn Column> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `sum` and `avg` of floats.
#[derive(Clone)]
pub(super) struct FloatSums {
    once: Option<Layout>,
    average: bool,
    count: Vec<i64>,
    sum: Vec<FloatSum>,
}

impl FloatSums {
    pub(super) fn new(aggregate: &Compiled, average: bool, types: &[DataType]) -> Self {
        Self { once: aggregate.once_layout(types), average, count: Vec::new(), sum: Vec::new() }
    }

    fn take(&mut self, slot: usize, value: f64, weight: i64) -> Result<()> {
        add_to(&mut self.count[slot], weight)?;
        self.sum[slot].add_weighted(value, weight);
        Ok(())
    }
}

impl Column for FloatSums {
    fn grow(&mut self) {
        self.count.push(0);
        self.sum.push(FloatSum::new());
    }

    fn add(&mut self, rows: &Rated<'_>) -> Result<()> {
        if self.once.is_some() {
            return Ok(());
        }
        let value = float_values(rows.argument()?);
        rows.rows().try_for_each(|(row, slot, weight)| self.take(slot, value(row), weight))
    }

    fn cross(&mut self, slot: usize, value: &[u8], sign: i64) -> Result<()> {
        match self.once.as_ref().map(|layout| layout.value(value, 0)) {
            Some(Value::Float(value)) => self.take(slot, value, sign),
            _ => Err(broken("a distinct value is no float")),
        }
    }

    fn merge(&mut self, added: &dyn Column) -> Result<()> {
        let added = same::<Self>(added)?;
        add_all(&mut self.count, &added.count)?;
        self.sum.iter_mut().zip(&added.sum).for_each(|(total, by)| total.merge(by));
        Ok(())
    }

    fn write(&self, slot: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count[slot].to_le_bytes());
        write_sized(out, &self.sum[slot].to_bytes());
    }

    fn read(&mut self, slot: usize, from: &mut Reader<'_>) -> Option<()> {
        self.count[slot] = from.i64()?;
        self.sum[slot] = FloatSum::from_bytes(from.sized()?)?;
        Some(())
    }

    fn finish(&self, slots: &[usize]) -> Result<ArrayRef> {
        #[expect(clippy::cast_precision_loss, reason = "as DataFusion divides")]
        let of_slot = |&slot: &usize| match self.count[slot] {
            0 => None,
            count if self.average => Some(self.sum[slot].value() / count as f64),
            _ => Some(self.sum[slot].value()),
        };
        Ok(Arc::new(Float64Array::from_iter(slots.iter().map(of_slot))))
    }

    fn copy(&self) -> Box<dyn Column> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `sum` and `avg` of intervals. There is no distinct one: the planner refuses it, as equal intervals may be several.
#[derive(Clone)]
pub(super) struct IntervalSums {
    average: bool,
    count: Vec<i64>,
    sum: Vec<IntervalSum>,
}

impl IntervalSums {
    pub(super) fn new(average: bool) -> Self {
        Self { average, count: Vec::new(), sum: Vec::new() }
    }
}

impl Column for IntervalSums {
    fn grow(&mut self) {
        self.count.push(0);
        self.sum.push(IntervalSum::default());
    }

    fn add(&mut self, rows: &Rated<'_>) -> Result<()> {
        let values = rows.argument()?.as_primitive::<IntervalMonthDayNanoType>();
        rows.rows().try_for_each(|(row, slot, weight)| {
            self.sum[slot].add(values.value(row), weight);
            add_to(&mut self.count[slot], weight)
        })
    }

    fn merge(&mut self, added: &dyn Column) -> Result<()> {
        let added = same::<Self>(added)?;
        add_all(&mut self.count, &added.count)?;
        self.sum.iter_mut().zip(&added.sum).for_each(|(total, by)| total.merge(by));
        Ok(())
    }

    fn write(&self, slot: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count[slot].to_le_bytes());
        out.extend_from_slice(&self.sum[slot].to_bytes());
    }

    fn read(&mut self, slot: usize, from: &mut Reader<'_>) -> Option<()> {
        self.count[slot] = from.i64()?;
        self.sum[slot] = IntervalSum::from_bytes(from.take(IntervalSum::BYTES)?)?;
        Some(())
    }

    fn finish(&self, slots: &[usize]) -> Result<ArrayRef> {
        let of_slot = |&slot: &usize| {
            let result = match u64::try_from(self.count[slot]) {
                Ok(0) | Err(_) => return Ok(None),
                Ok(count) if self.average => self.sum[slot].average(count),
                Ok(_) => self.sum[slot].total(),
            };
            result.map(Some).map_err(|_| relation::Error::Overflow("interval"))
        };
        let results = slots.iter().map(of_slot).collect::<relation::Result<Vec<_>>>()?;
        Ok(Arc::new(IntervalMonthDayNanoArray::from(results)))
    }

    fn copy(&self) -> Box<dyn Column> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn float_values(array: &ArrayRef) -> Values<'_, f64> {
    if *array.data_type() == Arrow::Float32 {
        let values = array.as_primitive::<Float32Type>();
        return Box::new(|row| f64::from(values.value(row)));
    }
    let values = array.as_primitive::<Float64Type>();
    Box::new(|row| values.value(row))
}

/// Digits by which an average's scale exceeds its argument's.
fn scale_up(aggregate: &Compiled, types: &[DataType]) -> u32 {
    let scale = |t: DataType| if let DataType::Decimal { scale, .. } = t { i32::from(scale) } else { 0 };
    let argument = aggregate.argument.map_or(0, |c| scale(types[c]));
    u32::try_from(scale(aggregate.output) - argument).unwrap_or(0)
}
