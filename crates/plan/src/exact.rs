//! `sum` and `avg` whose float results do not depend on the order of the rows: DataFusion's functions, with a
//! [`FloatSum`] in place of its float accumulators.
//!
//! Types, coercion and all arguments that are no floats are DataFusion's own. The state of a partial aggregate is the
//! number of values and the bytes of the sum; of a DISTINCT one the list of values.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, ListArray, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, UInt64Type};
use datafusion_common::{Result, ScalarValue, internal_datafusion_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::format_state_name;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature};

use crate::float_sum::FloatSum;

/// Ours in place of DataFusion's `sum` and `avg`; any other function as it is.
pub(crate) fn replace(function: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    let result = match function.name() {
        "sum" => FloatResult::Sum,
        "avg" => FloatResult::Average,
        _ => return function,
    };
    Arc::new(AggregateUDF::new_from_impl(Exact { inner: function, result }))
}

/// What is made of a sum of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum FloatResult {
    Sum,
    Average,
}

impl FloatResult {
    fn of(self, sum: &FloatSum, count: u64) -> Option<f64> {
        match (self, count) {
            (_, 0) => None,
            (Self::Sum, _) => Some(sum.value()),
            (Self::Average, _) => Some(sum.average(count)),
        }
    }
}

/// DataFusion's function, except over floats.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact {
    inner: Arc<AggregateUDF>,
    result: FloatResult,
}

fn over_floats(fields: &[FieldRef]) -> bool {
    fields.first().is_some_and(|field| *field.data_type() == DataType::Float64)
}

impl AggregateUDFImpl for Exact {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match (over_floats(args.expr_fields), args.is_distinct) {
            (false, _) => self.inner.accumulator(args),
            (true, false) => Ok(Box::new(Sum { result: self.result, sum: FloatSum::new(), count: 0 })),
            (true, true) => Ok(Box::new(DistinctSum { result: self.result, values: BTreeSet::new() })),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        match (over_floats(args.input_fields), args.is_distinct) {
            (false, _) => self.inner.state_fields(args),
            (true, false) => Ok(vec![
                Arc::new(Field::new(format_state_name(args.name, "count"), DataType::UInt64, true)),
                Arc::new(Field::new(format_state_name(args.name, "exact sum"), DataType::Binary, true)),
            ]),
            (true, true) => {
                let item = Field::new_list_field(DataType::Float64, true);
                Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "distinct"), item, true))])
            }
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        match (over_floats(args.expr_fields), args.is_distinct) {
            (false, _) => self.inner.groups_accumulator_supported(args),
            (true, distinct) => !distinct,
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if over_floats(args.expr_fields) {
            return Ok(Box::new(GroupSums { result: self.result, sums: Vec::new(), counts: Vec::new() }));
        }
        self.inner.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if over_floats(args.expr_fields) { self.accumulator(args) } else { self.inner.create_sliding_accumulator(args) }
    }
}

/// One group.
#[derive(Debug)]
struct Sum {
    result: FloatResult,
    sum: FloatSum,
    count: u64,
}

impl Accumulator for Sum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            self.sum.add(value);
            self.count += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            self.sum.subtract(value);
            self.count -= 1;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.result.of(&self.sum, self.count)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.heap_size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::UInt64(Some(self.count)), ScalarValue::Binary(Some(self.sum.to_bytes()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for row in 0..states[0].len() {
            let (count, sum) = read_state(states, row)?;
            self.count += count;
            self.sum.merge(&sum);
        }
        Ok(())
    }
}

fn read_state(states: &[ArrayRef], row: usize) -> Result<(u64, FloatSum)> {
    if states[0].is_null(row) || states[1].is_null(row) {
        return Ok((0, FloatSum::new()));
    }
    let count = states[0].as_primitive::<UInt64Type>().value(row);
    let sum = FloatSum::from_bytes(states[1].as_binary::<i32>().value(row));
    Ok((count, sum.ok_or_else(|| internal_datafusion_err!("damaged state of a float sum"))?))
}

/// One group, each value once. Values are kept by their ordered bits, −0.0 as 0.0 and one NaN, as keys have them.
#[derive(Debug)]
struct DistinctSum {
    result: FloatResult,
    values: BTreeSet<u64>,
}

impl DistinctSum {
    fn insert(&mut self, values: &ArrayRef) {
        for value in values.as_primitive::<Float64Type>().iter().flatten() {
            let value = if value == 0.0 {
                0.0
            } else if value.is_nan() {
                f64::NAN
            } else {
                value
            };
            self.values.insert(value.to_bits());
        }
    }
}

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.insert(&values[0]);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum = FloatSum::new();
        self.values.iter().for_each(|&bits| sum.add(f64::from_bits(bits)));
        Ok(ScalarValue::Float64(self.result.of(&sum, self.values.len() as u64)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.len() * size_of::<u64>() * 2
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Float64Array = self.values.iter().map(|&bits| Some(f64::from_bits(bits))).collect();
        let item = Arc::new(Field::new_list_field(DataType::Float64, true));
        let list = ListArray::try_new(item, OffsetBuffer::from_lengths([values.len()]), Arc::new(values), None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_list::<i32>().iter().flatten().for_each(|values| self.insert(&values));
        Ok(())
    }
}

/// Many groups.
struct GroupSums {
    result: FloatResult,
    sums: Vec<FloatSum>,
    counts: Vec<u64>,
}

impl GroupSums {
    fn grow(&mut self, groups: usize) {
        self.sums.resize_with(groups, FloatSum::new);
        self.counts.resize(groups, 0);
    }

    fn take(&mut self, emit: EmitTo) -> (Vec<FloatSum>, Vec<u64>) {
        (emit.take_needed(&mut self.sums), emit.take_needed(&mut self.counts))
    }
}

fn state_arrays<'a>(states: impl Iterator<Item = (u64, &'a FloatSum)>) -> Vec<ArrayRef> {
    let (counts, sums): (Vec<u64>, Vec<Vec<u8>>) = states.map(|(count, sum)| (count, sum.to_bytes())).unzip();
    vec![Arc::new(UInt64Array::from(counts)), Arc::new(BinaryArray::from_iter_values(sums))]
}

/// The rows that count: not NULL, and true in the filter.
fn counted<'a>(values: &'a Float64Array, filter: Option<&'a BooleanArray>) -> impl Iterator<Item = (usize, f64)> + 'a {
    let passes = move |row| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
    values.iter().enumerate().filter(move |&(row, _)| passes(row)).filter_map(|(row, value)| Some((row, value?)))
}

impl GroupsAccumulator for GroupSums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        for (row, value) in counted(values[0].as_primitive::<Float64Type>(), filter) {
            self.sums[groups[row]].add(value);
            self.counts[groups[row]] += 1;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, counts) = self.take(emit);
        let results = sums.iter().zip(counts).map(|(sum, count)| self.result.of(sum, count));
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, counts) = self.take(emit);
        Ok(state_arrays(counts.into_iter().zip(&sums)))
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        for (row, &group) in groups.iter().enumerate() {
            let (count, sum) = read_state(states, row)?;
            self.counts[group] += count;
            self.sums[group].merge(&sum);
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut states = vec![(0, FloatSum::new()); values[0].len()];
        for (row, value) in counted(values[0].as_primitive::<Float64Type>(), filter) {
            states[row].0 = 1;
            states[row].1.add(value);
        }
        Ok(state_arrays(states.iter().map(|(count, sum)| (*count, sum))))
    }

    fn size(&self) -> usize {
        let heaps: usize = self.sums.iter().map(FloatSum::heap_size).sum();
        heaps + self.sums.capacity() * size_of::<FloatSum>() + self.counts.capacity() * size_of::<u64>()
    }
}
