//! Functions of arrays that DataFusion has not, types otherwise, or lets grow without a bound.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Builder, Int64Array, ListArray, ListBuilder,
    StringArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion_common::{DataFusionError, Result, exec_err, plan_err};
use datafusion_expr::type_coercion::binary::comparison_coercion;
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_functions::utils::make_scalar_function;
use relation::key::sort_keys;

use super::types;

/// The array itself, and an empty one in place of NULL: what the rows of a query are as an array.
pub(super) fn array_or_empty() -> Arc<ScalarUDF> {
    of(Work::OrEmpty)
}

/// `[1:3][1:2]`: the bounds of an array's dimensions.
pub(super) fn array_dims() -> Arc<ScalarUDF> {
    of(Work::Dimensions)
}

/// The numbers from 1 to how many elements the longest of some arrays has: what WITH ORDINALITY counts.
pub(super) fn array_places() -> Arc<ScalarUDF> {
    of(Work::Places)
}

fn of(work: Work) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(OfList { work, signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    OrEmpty,
    Dimensions,
    Places,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfList {
    work: Work,
    signature: Signature,
}

impl ScalarUDFImpl for OfList {
    fn name(&self) -> &str {
        match self.work {
            Work::OrEmpty => "array_or_empty",
            Work::Dimensions => "array_dims",
            Work::Places => "array_places",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [list @ DataType::List(_)] => Ok(vec![list.clone()]),
            [_, ..] if self.work == Work::Places && arguments.iter().all(|t| matches!(t, DataType::List(_))) => {
                Ok(arguments.to_vec())
            }
            _ => {
                let names: Vec<String> = arguments.iter().map(types::name).collect();
                plan_err!("function {}({}) does not exist", self.name(), names.join(", "))
            }
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match (self.work, arguments) {
            (Work::OrEmpty, [list]) => list.clone(),
            (Work::Places, _) => DataType::new_list(DataType::Int64, true),
            _ => DataType::Utf8,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let data_types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = self.work == Work::Dimensions;
        Ok(Arc::new(Field::new(self.name(), self.return_type(&data_types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let made = |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            if self.work == Work::Places {
                return Ok(Arc::new(places(&arrays.iter().map(|array| array.as_list::<i32>()).collect::<Vec<_>>())?));
            }
            let [array] = arrays else { return exec_err!("{} takes one array", self.name()) };
            let lists = array.as_list::<i32>();
            match self.work {
                Work::OrEmpty => or_empty(lists),
                Work::Dimensions | Work::Places => {
                    Ok(Arc::new((0..lists.len()).map(|row| dimensions(lists, row)).collect::<StringArray>()))
                }
            }
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

fn places(lists: &[&ListArray]) -> Result<ListArray> {
    let rows = lists.first().map_or(0, |list| list.len());
    let length = |list: &&ListArray, row: usize| if list.is_null(row) { 0 } else { list.value_length(row) };
    let mut numbers = Vec::new();
    let mut lengths = Vec::with_capacity(rows);
    for row in 0..rows {
        let longest = lists.iter().map(|list| length(list, row)).max().unwrap_or(0);
        numbers.extend(1..=i64::from(longest));
        lengths.push(usize::try_from(longest).unwrap_or(0));
    }
    let item = Arc::new(Field::new_list_field(DataType::Int64, true));
    Ok(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(Int64Array::from(numbers)), None)?)
}

/// Elements of one series, and of all series of a batch: 80 and 320 MB.
const SERIES_MAX: u64 = 10_000_000;
const ALL_SERIES_MAX: u64 = 40_000_000;

/// DataFusion's function of ranges, which makes none that has more than [`SERIES_MAX`] elements.
pub(super) fn ranges() -> Arc<ScalarUDF> {
    let inner = datafusion_functions_nested::range::range_udf();
    let signature = inner.signature().clone();
    Arc::new(ScalarUDF::new_from_impl(Series { inner, signature }))
}

/// The same of series, which are of the types that PostgreSQL has: integers stay integers, dates are instants, numerics have digits.
pub(super) fn series() -> Arc<ScalarUDF> {
    let inner = datafusion_functions_nested::range::gen_series_udf();
    Arc::new(ScalarUDF::new_from_impl(Series { inner, signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Series {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

/// The type of the ends of a series, if there is one of such values.
fn ends_of(arguments: &[DataType]) -> Option<DataType> {
    let (ends, by) = arguments.split_at(arguments.len().min(2));
    let known: Vec<&DataType> = ends.iter().filter(|own| !own.is_null()).collect();
    let is_number = |own: &&DataType| own.is_integer() || matches!(own, DataType::Decimal128(..));
    let all: Vec<&DataType> = known.iter().copied().chain(by.iter().filter(|own| !own.is_null())).collect();
    if all.iter().all(is_number) {
        let scale = all.iter().filter_map(|own| match own {
            DataType::Decimal128(_, scale) => Some((*scale).max(0)),
            _ => None,
        });
        let is_short = |own: &&DataType| matches!(own, DataType::Int8 | DataType::Int16 | DataType::Int32);
        return Some(match scale.max() {
            Some(scale) => DataType::Decimal128(38, scale),
            None if all.iter().all(is_short) => DataType::Int32,
            None => DataType::Int64,
        });
    }
    let is_moment =
        |own: &&DataType| matches!(own, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Utf8);
    let has_length = matches!(by, [DataType::Interval(_) | DataType::Utf8 | DataType::Null]);
    if !known.iter().all(is_moment) || !has_length {
        return None;
    }
    let plain = |own: &&DataType| matches!(own, DataType::Timestamp(_, None));
    let zone = (!known.iter().any(plain)).then(|| Arc::from("UTC"));
    Some(DataType::Timestamp(TimeUnit::Microsecond, zone))
}

impl ScalarUDFImpl for Series {
    crate::as_inner!(name, aliases);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let ends = ends_of(arguments).filter(|_| (2..=3).contains(&arguments.len()));
        let Some(ends) = ends else {
            let names: Vec<String> = arguments.iter().map(types::name).collect();
            return plan_err!("function {}({}) does not exist", self.name(), names.join(", "));
        };
        let by = match ends {
            DataType::Timestamp(..) => DataType::Interval(IntervalUnit::MonthDayNano),
            ref number => number.clone(),
        };
        Ok(arguments.iter().enumerate().map(|(at, _)| if at < 2 { ends.clone() } else { by.clone() }).collect())
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments.first() {
            Some(number @ (DataType::Decimal128(..) | DataType::Int32)) => Ok(DataType::new_list(number.clone(), true)),
            _ => self.inner.inner().return_type(arguments),
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let own = args.args.first().map_or(DataType::Null, ColumnarValue::data_type);
        if let DataType::Decimal128(_, scale) = own {
            let of = |arrays: &[ArrayRef]| numerics(arrays, scale);
            return make_scalar_function(of, vec![])(&args.args);
        }
        if own == DataType::Int32 {
            let wanted = args.return_field.data_type().clone();
            let longs = args.args.iter().map(|value| value.cast_to(&DataType::Int64, None));
            args.args = longs.collect::<Result<Vec<_>>>()?;
            let long = Field::new(self.name(), DataType::new_list(DataType::Int64, true), true);
            args.return_field = Arc::new(long);
            return self.invoke_with_args(args)?.cast_to(&wanted, None);
        }
        let mut all = 0_u64;
        for count in counts(&args.args, args.number_rows)? {
            all = all.saturating_add(count);
            if count > SERIES_MAX || all > ALL_SERIES_MAX {
                return exec_err!("out of range: {} would make more than {SERIES_MAX} values", self.name());
            }
        }
        self.inner.inner().invoke_with_args(args)
    }
}

/// How many elements each series has, at most.
fn counts(args: &[ColumnarValue], rows: usize) -> Result<Vec<u64>> {
    let array = |value: &ColumnarValue| value.to_array(rows);
    let (from, to, by) = match args {
        [to] => (None, array(to)?, None),
        [from, to] => (Some(array(from)?), array(to)?, None),
        [from, to, by, ..] => (Some(array(from)?), array(to)?, Some(array(by)?)),
        [] => return Ok(Vec::new()),
    };
    // Of NULL there is no series.
    if to.data_type().is_null() || from.iter().chain(&by).any(|array| array.data_type().is_null()) {
        return Ok(Vec::new());
    }
    let numbers = |array: &ArrayRef| -> Result<Int64Array> {
        Ok(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    };
    let unit = match to.data_type() {
        DataType::Date32 => DAY_NS,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    };
    let to: Int64Array = numbers(&to)?;
    let from: Option<Int64Array> = from.as_ref().map(numbers).transpose()?;
    let step = |row: usize| -> Result<i128> {
        let Some(by) = &by else { return Ok(1) };
        let Some(intervals) = by.as_primitive_opt::<IntervalMonthDayNanoType>() else {
            return Ok(i128::from(numbers(by)?.value(row)));
        };
        let by = intervals.value(row);
        let days = i128::from(by.months) * 28 + i128::from(by.days);
        Ok((days * DAY_NS + i128::from(by.nanoseconds)) / unit)
    };
    let is_null = |row: usize| to.is_null(row) || from.iter().any(|from| from.is_null(row));
    let mut out = Vec::with_capacity(rows);
    for row in 0..rows {
        if is_null(row) || by.iter().any(|by| by.is_null(row)) {
            out.push(0);
            continue;
        }
        let distance = i128::from(to.value(row)) - from.as_ref().map_or(0, |from| i128::from(from.value(row)));
        let step = step(row)?;
        let steps = if distance.signum() * step.signum() < 0 { 0 } else { distance.abs() / step.abs().max(1) + 1 };
        out.push(u64::try_from(steps).unwrap_or(u64::MAX));
    }
    Ok(out)
}

/// Series of numbers with as many digits behind the point.
fn numerics(arrays: &[ArrayRef], scale: i8) -> Result<ArrayRef> {
    let (from, to, by) = match arrays {
        [from, to] => (from, to, None),
        [from, to, by] => (from, to, Some(by.as_primitive::<Decimal128Type>())),
        _ => return exec_err!("generate_series takes two values or three"),
    };
    let (from, to) = (from.as_primitive::<Decimal128Type>(), to.as_primitive::<Decimal128Type>());
    let one = 10_i128.pow(u32::try_from(scale).unwrap_or(0));
    let mut made = ListBuilder::new(Decimal128Builder::new().with_precision_and_scale(38, scale)?);
    let mut all = 0_u64;
    for row in 0..from.len() {
        if from.is_null(row) || to.is_null(row) || by.is_some_and(|by| by.is_null(row)) {
            made.append_null();
            continue;
        }
        let (mut at, end, step) = (from.value(row), to.value(row), by.map_or(one, |by| by.value(row)));
        if step == 0 {
            return exec_err!("step size cannot equal zero");
        }
        let mut count = 0_u64;
        while if step > 0 { at <= end } else { at >= end } {
            (count, all) = (count + 1, all + 1);
            if count > SERIES_MAX || all > ALL_SERIES_MAX {
                return exec_err!("out of range: generate_series would make more than {SERIES_MAX} values");
            }
            made.values().append_value(at);
            at = at.saturating_add(step);
        }
        made.append(true);
    }
    Ok(Arc::new(made.finish()))
}

const DAY_NS: i128 = 86_400_000_000_000;

fn or_empty(lists: &ListArray) -> Result<ArrayRef> {
    if lists.null_count() == 0 {
        return Ok(Arc::new(lists.clone()));
    }
    let DataType::List(item) = lists.data_type() else { return exec_err!("{} is no array", lists.data_type()) };
    let rows: Vec<ArrayRef> = lists.iter().flatten().collect();
    let lengths = lists.iter().map(|list| list.map_or(0, |list| list.len()));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let parts: Vec<&dyn Array> = rows.iter().map(AsRef::as_ref).collect();
    let values = match &parts[..] {
        [] => arrow::array::new_empty_array(item.data_type()),
        parts => arrow::compute::concat(parts)?,
    };
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, None)?))
}

/// None of an array that is NULL or empty.
fn dimensions(lists: &ListArray, row: usize) -> Option<String> {
    if lists.is_null(row) || lists.value(row).is_empty() {
        return None;
    }
    let mut text = String::new();
    let mut list = lists.value(row);
    loop {
        text += &format!("[1:{}]", list.len());
        list = match list.as_list_opt::<i32>() {
            Some(inner) if !inner.is_empty() => inner.value(0),
            _ => return Some(text),
        };
    }
}

/// `a @> b`: every element of `b` is one of `a`. `a && b`: some is. NULL is equal to no element.
pub(super) fn array_contains() -> Arc<ScalarUDF> {
    sets("array_contains", false)
}

pub(super) fn array_overlaps() -> Arc<ScalarUDF> {
    sets("array_overlaps", true)
}

fn sets(name: &'static str, any: bool) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Sets { name, any, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sets {
    name: &'static str,
    any: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Sets {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let common = match arguments {
            [DataType::List(left), DataType::List(right)] => comparison_coercion(left.data_type(), right.data_type()),
            _ => None,
        };
        match common {
            Some(common) => Ok(vec![DataType::new_list(common, true); 2]),
            None => {
                let operator = if self.any { "&&" } else { "@>" };
                let names: Vec<String> = arguments.iter().map(types::name).collect();
                plan_err!("operator does not exist: {}", names.join(&format!(" {operator} ")))
            }
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let any = self.any;
        make_scalar_function(move |arrays: &[ArrayRef]| compared(arrays, any), vec![])(&args.args)
    }
}

fn compared(arrays: &[ArrayRef], any: bool) -> Result<ArrayRef> {
    let [left, right] = arrays else { return exec_err!("two arrays are compared") };
    let (Some(left), Some(right)) = (left.as_list_opt::<i32>(), right.as_list_opt::<i32>()) else {
        return exec_err!("two arrays are compared");
    };
    let outside = |error: relation::Error| DataFusionError::Execution(error.to_string());
    let keys = |list: &ListArray| -> Result<BinaryArray> {
        if list.values().data_type().is_null() {
            return Ok(BinaryArray::new_null(list.values().len()));
        }
        let own = relation::DataType::from_arrow(list.values().data_type()).map_err(outside)?;
        sort_keys(&cast(list.values(), &own.to_arrow())?, own).map_err(outside)
    };
    let (of_left, of_right) = (keys(left)?, keys(right)?);
    let within = |list: &ListArray, row: usize| {
        let offsets = list.value_offsets();
        usize::try_from(offsets[row]).unwrap_or(0)..usize::try_from(offsets[row + 1]).unwrap_or(0)
    };
    let holds = |row: usize| {
        if left.is_null(row) || right.is_null(row) {
            return None;
        }
        let known: BTreeSet<&[u8]> =
            within(left, row).filter(|at| of_left.is_valid(*at)).map(|at| of_left.value(at)).collect();
        let is_there = |at: usize| of_right.is_valid(at) && known.contains(of_right.value(at));
        let mut places = within(right, row);
        Some(if any { places.any(is_there) } else { places.all(is_there) })
    };
    Ok(Arc::new((0..left.len()).map(holds).collect::<BooleanArray>()))
}
