//! `sum` and `avg` with PostgreSQL's types, whose float results do not depend on the order of the rows, and averages of
//! decimals that are rounded: DataFusion's functions, with a [`FloatSum`] in place of its float accumulators, and a wide
//! integer in place of those that cut an average's digits off.
//!
//! A sum of bigint is numeric, so that it cannot overflow, and so is an average of integers. An average has sixteen digits
//! behind the point, as a quotient of columns has, where its numbers leave room for them. The state of a partial aggregate is the number of values
//! and the bytes of the sum; of a DISTINCT one the list of values.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, Float64Array, Int32Array,
    Int64Array, IntervalMonthDayNanoArray, ListArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    ArrowNativeTypeOp, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal128Type, Decimal256Type,
    Field, FieldRef, Float64Type, Int32Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, UInt64Type,
    i256,
};
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, internal_datafusion_err, internal_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::format_state_name;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};

use crate::float_sum::FloatSum;
use crate::postgres::arithmetic::{QUOTIENT_SCALE, as_decimal};
use crate::postgres::{times, types};

/// Ours in place of DataFusion's `sum` and `avg`; any other function as it is.
pub(crate) fn replace(function: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    let answer = match function.name() {
        "sum" => Answer::Sum,
        "avg" => Answer::Average,
        _ => return function,
    };
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(Exact { inner: function, answer, signature }))
}

/// The average of decimals, with so many digits more than they have: a half goes away from zero, as in PostgreSQL.
/// None if it has more digits than `precision`.
pub fn average<N: ArrowNativeTypeOp>(sum: N, count: N, digits: u32, precision: u8) -> Option<N> {
    let ten = N::from_usize(10)?;
    let power = ten.pow_checked(digits).ok()?;
    // The rest is smaller than the count, so that it has room for the digits where the sum had none.
    let whole = sum.div_checked(count).ok()?.mul_checked(power).ok()?;
    let rest = sum.mod_checked(count).ok()?.mul_checked(power).ok()?;
    let left = rest.mod_checked(count).ok()?;
    let twice = left.add_checked(left).ok()?;
    let cut = whole.add_checked(rest.div_checked(count).ok()?).ok()?;
    let rounded = if twice.is_ge(count) {
        cut.add_checked(N::ONE).ok()?
    } else if twice.is_le(count.neg_checked().ok()?) {
        cut.sub_checked(N::ONE).ok()?
    } else {
        cut
    };
    let limit = ten.pow_checked(u32::from(precision)).ok()?;
    (rounded.is_lt(limit) && rounded.is_gt(limit.neg_checked().ok()?)).then_some(rounded)
}

/// Digits and scale of the average of decimals: four digits more at least, and as many as a quotient has where there is
/// room for them.
fn averaged(digits: u8, scale: i8, digits_max: u8) -> (u8, i8) {
    const MORE: i8 = 4;
    let room = i8::try_from(digits_max.saturating_sub(digits)).unwrap_or(i8::MAX);
    let more = QUOTIENT_SCALE.saturating_sub(scale).min(room).max(MORE);
    let digits = digits.saturating_add(more.unsigned_abs()).min(digits_max);
    (digits, scale.saturating_add(more).min(digits.cast_signed()))
}

/// What is made of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Sum,
    Average,
}

/// DataFusion's function, except over floats, and for averages of decimals.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact {
    inner: Arc<AggregateUDF>,
    answer: Answer,
    signature: Signature,
}

/// What is added up here.
enum Kind {
    Floats(Floats),
    Integers(Integers),
    Decimals(Decimals),
    Intervals(Intervals),
}

impl Exact {
    /// How the values are added up; none if DataFusion does it.
    fn kind(&self, fields: &[FieldRef]) -> Result<Option<Kind>> {
        let Some(argument) = fields.first().map(|field| field.data_type()) else { return Ok(None) };
        let scale = |t: &DataType| match t {
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(i32::from(*scale)),
            _ => None,
        };
        Ok(match (argument, self.answer) {
            (DataType::Float64, answer) => Some(Kind::Floats(Floats(answer))),
            (DataType::Int32, Answer::Sum) => Some(Kind::Integers(Integers)),
            (DataType::Interval(IntervalUnit::MonthDayNano), answer) => Some(Kind::Intervals(Intervals(answer))),
            // DataFusion's wraps around where the sum has no room.
            (DataType::Decimal128(..) | DataType::Decimal256(..), Answer::Sum) => {
                let output = self.return_type(std::slice::from_ref(argument))?;
                Some(Kind::Decimals(Decimals { argument: argument.clone(), output, answer: Answer::Sum, digits: 0 }))
            }
            (DataType::Decimal128(..) | DataType::Decimal256(..), Answer::Average) => {
                let output = self.return_type(std::slice::from_ref(argument))?;
                let digits = scale(&output).zip(scale(argument)).and_then(|(of, from)| u32::try_from(of - from).ok());
                let digits = digits.ok_or_else(|| internal_datafusion_err!("{output} has no room for the average"))?;
                Some(Kind::Decimals(Decimals { argument: argument.clone(), output, answer: Answer::Average, digits }))
            }
            _ => None,
        })
    }
}

impl AggregateUDFImpl for Exact {
    crate::as_inner!(name, aliases);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match (self.answer, arguments) {
            (Answer::Sum, [DataType::Int32]) => DataType::Int64,
            (_, [interval @ DataType::Interval(_)]) => interval.clone(),
            (Answer::Average, [DataType::Decimal128(digits, scale)]) => {
                let (digits, scale) = averaged(*digits, *scale, DECIMAL128_MAX_PRECISION);
                DataType::Decimal128(digits, scale)
            }
            (Answer::Average, [DataType::Decimal256(digits, scale)]) => {
                let (digits, scale) = averaged(*digits, *scale, DECIMAL256_MAX_PRECISION);
                DataType::Decimal256(digits, scale)
            }
            _ => self.inner.return_type(arguments)?,
        })
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [own] = arguments else { return plan_err!("{} takes one value", self.name()) };
        let whole_as_decimal = |own: &DataType| as_decimal(own).unwrap_or_else(|| own.clone());
        Ok(vec![match (self.answer, own) {
            (_, own) if own.is_floating() => DataType::Float64,
            (Answer::Sum, DataType::Null) => DataType::Int32,
            (Answer::Average, DataType::Null) => DataType::Float64,
            (Answer::Sum, DataType::Int64 | DataType::UInt32 | DataType::UInt64) => whole_as_decimal(own),
            // What was agreed on must be agreed on again: a cast to bigint here would be a sum of bigint the next time.
            (Answer::Sum, own) if own.is_integer() => DataType::Int32,
            (_, own) if own.is_integer() || own.is_decimal() => whole_as_decimal(own),
            (_, DataType::Interval(_) | DataType::Duration(_)) => DataType::Interval(IntervalUnit::MonthDayNano),
            (_, own) => return plan_err!("function {}({}) does not exist", self.name(), types::name(own)),
        }])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(match (self.kind(args.expr_fields)?, args.is_distinct) {
            (None, _) => return self.inner.accumulator(args),
            (Some(Kind::Floats(floats)), false) => Box::new(Sum::new(floats)),
            (Some(Kind::Floats(floats)), true) => Box::new(DistinctSum::new(floats)),
            (Some(Kind::Integers(integers)), false) => Box::new(Sum::new(integers)),
            (Some(Kind::Integers(integers)), true) => Box::new(DistinctSum::new(integers)),
            (Some(Kind::Decimals(decimals)), false) => Box::new(Sum::new(decimals)),
            (Some(Kind::Decimals(decimals)), true) => Box::new(DistinctSum::new(decimals)),
            (Some(Kind::Intervals(intervals)), false) => Box::new(Sum::new(intervals)),
            (Some(Kind::Intervals(intervals)), true) => Box::new(DistinctSum::new(intervals)),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let item = match self.kind(args.input_fields)? {
            None => return self.inner.state_fields(args),
            Some(Kind::Floats(_)) => DataType::Float64,
            Some(Kind::Integers(_)) => DataType::Int32,
            Some(Kind::Decimals(decimals)) => decimals.argument,
            Some(Kind::Intervals(_)) => DataType::Interval(IntervalUnit::MonthDayNano),
        };
        if args.is_distinct {
            let item = Field::new_list_field(item, true);
            return Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "distinct"), item, true))]);
        }
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "count"), DataType::UInt64, true)),
            Arc::new(Field::new(format_state_name(args.name, "exact sum"), DataType::Binary, true)),
        ])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        match self.kind(args.expr_fields) {
            Ok(Some(_)) => !args.is_distinct,
            _ => self.inner.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(match self.kind(args.expr_fields)? {
            None => return self.inner.create_groups_accumulator(args),
            Some(Kind::Floats(floats)) => Box::new(GroupSums::new(floats)),
            Some(Kind::Integers(integers)) => Box::new(GroupSums::new(integers)),
            Some(Kind::Decimals(decimals)) => Box::new(GroupSums::new(decimals)),
            Some(Kind::Intervals(intervals)) => Box::new(GroupSums::new(intervals)),
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match self.kind(args.expr_fields)? {
            Some(_) => self.accumulator(args),
            None => self.inner.create_sliding_accumulator(args),
        }
    }
}

/// How values of one kind are added up exactly, and what is answered.
trait Exactly: Debug + Clone + Send + Sync + 'static {
    type Value: Copy;
    type Total: Debug + Clone + Default + Send + Sync;
    /// What tells values apart.
    type Key: Debug + Copy + Ord + Send + Sync;

    /// The values of an array that are not NULL, with their rows.
    fn each(array: &ArrayRef, take: impl FnMut(usize, Self::Value) -> Result<()>) -> Result<()>;
    fn add(total: &mut Self::Total, value: Self::Value) -> Result<()>;
    fn subtract(total: &mut Self::Total, value: Self::Value) -> Result<()>;
    fn merge(total: &mut Self::Total, other: &Self::Total) -> Result<()>;
    fn write(total: &Self::Total) -> Vec<u8>;
    fn read(bytes: &[u8]) -> Option<Self::Total>;
    fn heap_size(total: &Self::Total) -> usize;
    /// The answers of sums over so many values.
    fn answers<'t>(&self, totals: impl Iterator<Item = (&'t Self::Total, u64)>) -> Result<ArrayRef>;

    fn key(value: Self::Value) -> Self::Key;
    fn value(key: Self::Key) -> Self::Value;
    /// Values as an array of the argument's type.
    fn array(&self, values: impl Iterator<Item = Self::Value>) -> Result<ArrayRef>;
}

/// Floats, as [`FloatSum`].
#[derive(Debug, Clone)]
struct Floats(Answer);

impl Exactly for Floats {
    type Value = f64;
    type Total = FloatSum;
    /// Ordered bits, −0.0 as 0.0 and one NaN, as keys have them.
    type Key = u64;

    fn each(array: &ArrayRef, mut take: impl FnMut(usize, f64) -> Result<()>) -> Result<()> {
        let mut values = array.as_primitive::<Float64Type>().iter().enumerate();
        values.try_for_each(|(row, value)| value.map_or(Ok(()), |value| take(row, value)))
    }

    fn add(total: &mut FloatSum, value: f64) -> Result<()> {
        total.add(value);
        Ok(())
    }

    fn subtract(total: &mut FloatSum, value: f64) -> Result<()> {
        total.subtract(value);
        Ok(())
    }

    fn merge(total: &mut FloatSum, other: &FloatSum) -> Result<()> {
        total.merge(other);
        Ok(())
    }

    fn write(total: &FloatSum) -> Vec<u8> {
        total.to_bytes()
    }

    fn read(bytes: &[u8]) -> Option<FloatSum> {
        FloatSum::from_bytes(bytes)
    }

    fn heap_size(total: &FloatSum) -> usize {
        total.heap_size()
    }

    fn answers<'t>(&self, totals: impl Iterator<Item = (&'t FloatSum, u64)>) -> Result<ArrayRef> {
        let answer = |(sum, count): (&FloatSum, u64)| match (self.0, count) {
            (_, 0) => None,
            (Answer::Sum, _) => Some(sum.value()),
            (Answer::Average, _) => Some(sum.average(count)),
        };
        Ok(Arc::new(totals.map(answer).collect::<Float64Array>()))
    }

    fn key(value: f64) -> u64 {
        let value = if value == 0.0 {
            0.0
        } else if value.is_nan() {
            f64::NAN
        } else {
            value
        };
        value.to_bits()
    }

    fn value(key: u64) -> f64 {
        f64::from_bits(key)
    }

    fn array(&self, values: impl Iterator<Item = f64>) -> Result<ArrayRef> {
        Ok(Arc::new(Float64Array::from_iter_values(values)))
    }
}

/// Sums of integers, which are bigint.
#[derive(Debug, Clone)]
struct Integers;

impl Exactly for Integers {
    type Value = i32;
    type Total = i128;
    type Key = i32;

    fn each(array: &ArrayRef, mut take: impl FnMut(usize, i32) -> Result<()>) -> Result<()> {
        let Some(values) = array.as_primitive_opt::<Int32Type>() else {
            return internal_err!("{} is no integer", array.data_type());
        };
        values.iter().enumerate().try_for_each(|(row, value)| value.map_or(Ok(()), |value| take(row, value)))
    }

    fn add(total: &mut i128, value: i32) -> Result<()> {
        *total = total.checked_add(value.into()).ok_or_else(no_bigint)?;
        Ok(())
    }

    fn subtract(total: &mut i128, value: i32) -> Result<()> {
        *total = total.checked_sub(value.into()).ok_or_else(no_bigint)?;
        Ok(())
    }

    fn merge(total: &mut i128, other: &i128) -> Result<()> {
        *total = total.checked_add(*other).ok_or_else(no_bigint)?;
        Ok(())
    }

    fn write(total: &i128) -> Vec<u8> {
        total.to_le_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<i128> {
        bytes.try_into().ok().map(i128::from_le_bytes)
    }

    fn heap_size(_: &i128) -> usize {
        0
    }

    fn answers<'t>(&self, totals: impl Iterator<Item = (&'t i128, u64)>) -> Result<ArrayRef> {
        let answers = totals.map(|(sum, count)| match count {
            0 => Ok(None),
            _ => i64::try_from(*sum).map(Some).map_err(|_| no_bigint()),
        });
        Ok(Arc::new(answers.collect::<Result<Int64Array>>()?))
    }

    fn key(value: i32) -> i32 {
        value
    }

    fn value(key: i32) -> i32 {
        key
    }

    fn array(&self, values: impl Iterator<Item = i32>) -> Result<ArrayRef> {
        Ok(Arc::new(Int32Array::from_iter_values(values)))
    }
}

fn no_bigint() -> datafusion_common::DataFusionError {
    exec_datafusion_err!("bigint out of range: a sum of integers")
}

/// Sums and averages of decimals: the sum has room for every number of rows, and is divided once.
#[derive(Debug, Clone)]
struct Decimals {
    argument: DataType,
    output: DataType,
    answer: Answer,
    /// Digits by which an average's scale exceeds its argument's.
    digits: u32,
}

impl Exactly for Decimals {
    type Value = i256;
    type Total = i256;
    type Key = i256;

    fn each(array: &ArrayRef, mut take: impl FnMut(usize, i256) -> Result<()>) -> Result<()> {
        match array.data_type() {
            DataType::Decimal128(..) => {
                let mut values = array.as_primitive::<Decimal128Type>().iter().enumerate();
                values.try_for_each(|(row, value)| value.map_or(Ok(()), |value| take(row, i256::from_i128(value))))
            }
            DataType::Decimal256(..) => {
                let mut values = array.as_primitive::<Decimal256Type>().iter().enumerate();
                values.try_for_each(|(row, value)| value.map_or(Ok(()), |value| take(row, value)))
            }
            other => internal_err!("{other} is no decimal"),
        }
    }

    fn add(total: &mut i256, value: i256) -> Result<()> {
        *total = total.checked_add(value).ok_or_else(too_large)?;
        Ok(())
    }

    fn subtract(total: &mut i256, value: i256) -> Result<()> {
        *total = total.checked_sub(value).ok_or_else(too_large)?;
        Ok(())
    }

    fn merge(total: &mut i256, other: &i256) -> Result<()> {
        Self::add(total, *other)
    }

    fn write(total: &i256) -> Vec<u8> {
        total.to_le_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<i256> {
        bytes.try_into().ok().map(i256::from_le_bytes)
    }

    fn heap_size(_: &i256) -> usize {
        0
    }

    fn answers<'t>(&self, totals: impl Iterator<Item = (&'t i256, u64)>) -> Result<ArrayRef> {
        let (DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale)) = self.output else {
            return internal_err!("{} is no decimal", self.output);
        };
        let answers = totals.map(|(sum, count)| {
            // A sum is the average of one.
            let parts = if self.answer == Answer::Sum { 1 } else { count };
            let known = (count > 0).then(|| average(*sum, i256::from_i128(parts.into()), self.digits, precision));
            known.map(|answer| answer.ok_or_else(too_large)).transpose()
        });
        if let DataType::Decimal256(..) = self.output {
            let answers = answers.collect::<Result<Decimal256Array>>()?;
            return Ok(Arc::new(answers.with_precision_and_scale(precision, scale)?));
        }
        let narrow = |answer: i256| answer.to_i128().ok_or_else(too_large);
        let answers = answers.map(|answer| answer?.map(narrow).transpose());
        Ok(Arc::new(answers.collect::<Result<Decimal128Array>>()?.with_precision_and_scale(precision, scale)?))
    }

    fn key(value: i256) -> i256 {
        value
    }

    fn value(key: i256) -> i256 {
        key
    }

    fn array(&self, values: impl Iterator<Item = i256>) -> Result<ArrayRef> {
        match self.argument {
            DataType::Decimal128(precision, scale) => {
                let values = values.map(|value| value.to_i128().map(Some).ok_or_else(too_large));
                Ok(Arc::new(values.collect::<Result<Decimal128Array>>()?.with_precision_and_scale(precision, scale)?))
            }
            DataType::Decimal256(precision, scale) => {
                Ok(Arc::new(Decimal256Array::from_iter_values(values).with_precision_and_scale(precision, scale)?))
            }
            ref other => internal_err!("{other} is no decimal"),
        }
    }
}

/// Sums and averages of intervals: each part is added up for itself, and the sum divided as PostgreSQL divides.
#[derive(Debug, Clone)]
struct Intervals(Answer);

/// What intervals have been added up to: months, days and nanoseconds, each for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IntervalSum([i128; 3]);

impl IntervalSum {
    /// Adds an interval so many times, which may be fewer than none.
    pub fn add(&mut self, value: IntervalMonthDayNano, times: i64) {
        let parts = [value.months.into(), value.days.into(), i128::from(value.nanoseconds)];
        let times = i128::from(times);
        self.0.iter_mut().zip(parts).for_each(|(part, more)| *part = part.saturating_add(more.saturating_mul(times)));
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(part, more)| *part = part.saturating_add(more));
    }

    /// The sum itself. Time beyond Arrow's nanoseconds, 292 years, is told in days, so that a sum has room for as many rows as
    /// there are. Errors: months or days are beyond their range.
    pub fn total(&self) -> Result<IntervalMonthDayNano> {
        const DAY_NS: i128 = 86_400_000_000_000;
        let out_of_range = || exec_datafusion_err!("interval out of range: a sum of intervals");
        let [months, days, nanos] = self.0;
        let (days, nanos) = match i64::try_from(nanos) {
            Ok(_) => (days, nanos),
            Err(_) => (days.saturating_add(nanos / DAY_NS), nanos % DAY_NS),
        };
        Ok(IntervalMonthDayNano::new(
            i32::try_from(months).map_err(|_| out_of_range())?,
            i32::try_from(days).map_err(|_| out_of_range())?,
            i64::try_from(nanos).map_err(|_| out_of_range())?,
        ))
    }

    /// The average of so many. Errors: a part of the sum is beyond its range.
    pub fn average(&self, count: u64) -> Result<IntervalMonthDayNano> {
        #[expect(clippy::cast_precision_loss, reason = "an interval is divided by a float")]
        let by = 1.0 / count as f64;
        times::scaled(self.total()?, by)
    }

    /// The bytes of a state.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out.chunks_exact_mut(16).zip(self.0).for_each(|(bytes, part)| bytes.copy_from_slice(&part.to_le_bytes()));
        out
    }

    /// The reverse of [`IntervalSum::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (parts, []) = bytes.as_chunks::<16>() else { return None };
        Some(Self(<[[u8; 16]; 3]>::try_from(parts).ok()?.map(i128::from_le_bytes)))
    }

    /// How many [`IntervalSum::to_bytes`] are.
    pub const BYTES: usize = 48;
}

/// An interval of one length: of equal ones of other parts the first that came stands for all.
#[derive(Debug, Clone, Copy)]
struct ByLength(IntervalMonthDayNano);

impl ByLength {
    fn length(self) -> i128 {
        relation::value::Interval::from_arrow(self.0).span()
    }
}

impl PartialEq for ByLength {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByLength {}

impl PartialOrd for ByLength {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByLength {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.length().cmp(&other.length())
    }
}

impl Exactly for Intervals {
    type Value = IntervalMonthDayNano;
    type Total = IntervalSum;
    type Key = ByLength;

    fn each(array: &ArrayRef, mut take: impl FnMut(usize, IntervalMonthDayNano) -> Result<()>) -> Result<()> {
        let Some(values) = array.as_primitive_opt::<IntervalMonthDayNanoType>() else {
            return internal_err!("{} is no interval", array.data_type());
        };
        values.iter().enumerate().try_for_each(|(row, value)| value.map_or(Ok(()), |value| take(row, value)))
    }

    fn add(total: &mut IntervalSum, value: IntervalMonthDayNano) -> Result<()> {
        total.add(value, 1);
        Ok(())
    }

    fn subtract(total: &mut IntervalSum, value: IntervalMonthDayNano) -> Result<()> {
        total.add(value, -1);
        Ok(())
    }

    fn merge(total: &mut IntervalSum, other: &IntervalSum) -> Result<()> {
        total.merge(other);
        Ok(())
    }

    fn write(total: &IntervalSum) -> Vec<u8> {
        total.to_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<IntervalSum> {
        IntervalSum::from_bytes(bytes)
    }

    fn heap_size(_: &IntervalSum) -> usize {
        0
    }

    fn answers<'t>(&self, totals: impl Iterator<Item = (&'t IntervalSum, u64)>) -> Result<ArrayRef> {
        let answer = |(sum, count): (&IntervalSum, u64)| match (self.0, count) {
            (_, 0) => Ok(None),
            (Answer::Sum, _) => sum.total().map(Some),
            (Answer::Average, _) => sum.average(count).map(Some),
        };
        Ok(Arc::new(totals.map(answer).collect::<Result<IntervalMonthDayNanoArray>>()?))
    }

    fn key(value: IntervalMonthDayNano) -> ByLength {
        ByLength(value)
    }

    fn value(key: ByLength) -> IntervalMonthDayNano {
        key.0
    }

    fn array(&self, values: impl Iterator<Item = IntervalMonthDayNano>) -> Result<ArrayRef> {
        Ok(Arc::new(IntervalMonthDayNanoArray::from_iter_values(values)))
    }
}

fn too_large() -> datafusion_common::DataFusionError {
    exec_datafusion_err!("numeric field overflow: a sum or an average has more digits than its type has room for")
}

/// One group.
#[derive(Debug)]
struct Sum<E: Exactly> {
    how: E,
    total: E::Total,
    count: u64,
}

impl<E: Exactly> Sum<E> {
    fn new(how: E) -> Self {
        Self { how, total: E::Total::default(), count: 0 }
    }
}

impl<E: Exactly> Accumulator for Sum<E> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        E::each(&values[0], |_, value| {
            self.count += 1;
            E::add(&mut self.total, value)
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        E::each(&values[0], |_, value| {
            self.count -= 1;
            E::subtract(&mut self.total, value)
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.how.answers([(&self.total, self.count)].into_iter())?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + E::heap_size(&self.total)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::UInt64(Some(self.count)), ScalarValue::Binary(Some(E::write(&self.total)))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for row in 0..states[0].len() {
            let (count, total) = read_state::<E>(states, row)?;
            self.count += count;
            E::merge(&mut self.total, &total)?;
        }
        Ok(())
    }
}

fn read_state<E: Exactly>(states: &[ArrayRef], row: usize) -> Result<(u64, E::Total)> {
    if states[0].is_null(row) || states[1].is_null(row) {
        return Ok((0, E::Total::default()));
    }
    let count = states[0].as_primitive::<UInt64Type>().value(row);
    let total = E::read(states[1].as_binary::<i32>().value(row));
    Ok((count, total.ok_or_else(|| internal_datafusion_err!("damaged state of an exact sum"))?))
}

/// One group, each value once.
#[derive(Debug)]
struct DistinctSum<E: Exactly> {
    how: E,
    values: BTreeSet<E::Key>,
}

impl<E: Exactly> DistinctSum<E> {
    fn new(how: E) -> Self {
        Self { how, values: BTreeSet::new() }
    }

    fn insert(&mut self, values: &ArrayRef) -> Result<()> {
        E::each(values, |_, value| {
            self.values.insert(E::key(value));
            Ok(())
        })
    }
}

impl<E: Exactly> Accumulator for DistinctSum<E> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.insert(&values[0])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut total = E::Total::default();
        self.values.iter().try_for_each(|&key| E::add(&mut total, E::value(key)))?;
        ScalarValue::try_from_array(&self.how.answers([(&total, self.values.len() as u64)].into_iter())?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.len() * size_of::<E::Key>() * 2
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = self.how.array(self.values.iter().map(|&key| E::value(key)))?;
        let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        let list = ListArray::try_new(item, OffsetBuffer::from_lengths([values.len()]), values, None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.insert(&values))
    }
}

/// Many groups.
struct GroupSums<E: Exactly> {
    how: E,
    totals: Vec<E::Total>,
    counts: Vec<u64>,
}

impl<E: Exactly> GroupSums<E> {
    fn new(how: E) -> Self {
        Self { how, totals: Vec::new(), counts: Vec::new() }
    }

    fn grow(&mut self, groups: usize) {
        self.totals.resize_with(groups, E::Total::default);
        self.counts.resize(groups, 0);
    }

    fn take(&mut self, emit: EmitTo) -> (Vec<E::Total>, Vec<u64>) {
        (emit.take_needed(&mut self.totals), emit.take_needed(&mut self.counts))
    }
}

fn state_arrays<'t, E: Exactly>(states: impl Iterator<Item = (u64, &'t E::Total)>) -> Vec<ArrayRef> {
    let (counts, totals): (Vec<u64>, Vec<Vec<u8>>) = states.map(|(count, total)| (count, E::write(total))).unzip();
    vec![Arc::new(UInt64Array::from(counts)), Arc::new(BinaryArray::from_iter_values(totals))]
}

/// The values that count: not NULL, and of rows for which the filter is true.
fn each_counted<E: Exactly>(
    values: &ArrayRef,
    filter: Option<&BooleanArray>,
    mut take: impl FnMut(usize, E::Value) -> Result<()>,
) -> Result<()> {
    let passes = |row| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
    E::each(values, |row, value| if passes(row) { take(row, value) } else { Ok(()) })
}

impl<E: Exactly> GroupsAccumulator for GroupSums<E> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        each_counted::<E>(&values[0], filter, |row, value| {
            self.counts[groups[row]] += 1;
            E::add(&mut self.totals[groups[row]], value)
        })
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (totals, counts) = self.take(emit);
        self.how.answers(totals.iter().zip(counts))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (totals, counts) = self.take(emit);
        Ok(state_arrays::<E>(counts.into_iter().zip(&totals)))
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        for (row, &group) in groups.iter().enumerate() {
            let (count, total) = read_state::<E>(states, row)?;
            self.counts[group] += count;
            E::merge(&mut self.totals[group], &total)?;
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut states = vec![(0, E::Total::default()); values[0].len()];
        each_counted::<E>(&values[0], filter, |row, value| {
            states[row].0 = 1;
            E::add(&mut states[row].1, value)
        })?;
        Ok(state_arrays::<E>(states.iter().map(|(count, total)| (*count, total))))
    }

    fn size(&self) -> usize {
        let heaps: usize = self.totals.iter().map(E::heap_size).sum();
        heaps + self.totals.capacity() * size_of::<E::Total>() + self.counts.capacity() * size_of::<u64>()
    }
}
