//! Functions of numbers that PostgreSQL refuses an argument of, or types otherwise.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BinaryArray, Int32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::type_coercion::binary::comparison_coercion;
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_functions::utils::make_scalar_function;
use relation::key::sort_keys;

use super::arithmetic::{self, DIGITS_MAX};
use super::calls::Kind::{Float, Int4, Int8};
use super::calls::{Overload, Row, over};
use super::types;

/// DataFusion's `ceil`, `floor` or `trunc`, whose whole decimals have no digits behind the point.
pub(super) fn whole(inner: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Whole { inner }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Whole {
    inner: Arc<ScalarUDF>,
}

/// The type of a decimal without its digits behind the point, of which the next whole number may have one digit more.
fn whole_decimal(arguments: &[DataType]) -> Option<DataType> {
    let digits = |precision: u8, scale: i8| precision.saturating_sub(scale.cast_unsigned()).saturating_add(1);
    match arguments {
        [DataType::Decimal128(precision, scale)] if *scale > 0 => {
            Some(DataType::Decimal128(digits(*precision, *scale), 0))
        }
        [DataType::Decimal256(precision, scale)] if *scale > 0 => {
            Some(DataType::Decimal256(digits(*precision, *scale), 0))
        }
        _ => None,
    }
}

impl ScalarUDFImpl for Whole {
    crate::as_inner!(name, aliases, signature);

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match whole_decimal(arguments) {
            Some(whole) => Ok(whole),
            None => self.inner.inner().return_type(arguments),
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arguments: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let Some(whole) = whole_decimal(&arguments) else { return self.inner.inner().invoke_with_args(args) };
        // The next whole number may have a digit more than the value: 9.9 has two, 10.0 three.
        let arguments: Vec<DataType> = arguments.iter().map(with_room).collect();
        for ((value, field), wanted) in args.args.iter_mut().zip(&mut args.arg_fields).zip(&arguments) {
            *value = value.cast_to(wanted, None)?;
            *field = Arc::new(field.as_ref().clone().with_data_type(wanted.clone()));
        }
        let made = self.inner.inner().return_type(&arguments)?;
        args.return_field = Arc::new(args.return_field.as_ref().clone().with_data_type(made));
        let made = self.inner.inner().invoke_with_args(args)?;
        let cut = |arrays: &[ArrayRef]| match arrays {
            [array] => Ok(cast(array, &whole)?),
            _ => exec_err!("{} takes one number", self.name()),
        };
        make_scalar_function(cut, vec![])(&[made])
    }
}

/// The decimal with a digit more, if there is one.
fn with_room(decimal: &DataType) -> DataType {
    match decimal {
        DataType::Decimal128(digits, scale) => DataType::Decimal128((digits + 1).min(DIGITS_MAX), *scale),
        other => other.clone(),
    }
}

/// `round`: of whole numbers and floats a double, to so many digits a numeric that has them.
pub(super) fn rounded(inner: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Rounded { inner, signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounded {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

/// The scale of a decimal to which more digits are asked for than it has, and so many.
fn lengthened(args: &ReturnFieldArgs<'_>) -> Option<DataType> {
    let [value, _] = args.arg_fields else { return None };
    let DataType::Decimal128(digits, scale) = value.data_type() else { return None };
    let places = args.scalar_arguments.get(1)?.as_ref()?.cast_to(&DataType::Int64).ok()?;
    let ScalarValue::Int64(Some(places)) = places else { return None };
    let more = u8::try_from(places.checked_sub(i64::from(*scale))?).ok().filter(|more| *more > 0)?;
    let digits = digits.checked_add(more).filter(|digits| *digits <= DIGITS_MAX)?;
    Some(DataType::Decimal128(digits, i8::try_from(places).ok()?))
}

impl ScalarUDFImpl for Rounded {
    crate::as_inner!(name, aliases);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let float = |own: &DataType| own.is_floating() || own.is_null();
        let exact = |own: &DataType| match own {
            DataType::Decimal128(..) | DataType::Decimal256(..) => Some(own.clone()),
            _ => arithmetic::as_decimal(own),
        };
        match arguments {
            [own] if float(own) || own.is_integer() => Ok(vec![DataType::Float64]),
            [own] if own.is_decimal() => Ok(vec![own.clone()]),
            [DataType::Null, _] => Ok(vec![DataType::Decimal128(DIGITS_MAX, 0), DataType::Int32]),
            // PostgreSQL rounds a float to a whole number alone.
            [own, _] if own.is_floating() => none_such("round", arguments),
            [own, places] if places.is_integer() || places.is_null() => match exact(own) {
                Some(exact) => Ok(vec![exact, DataType::Int32]),
                None => none_such("round", arguments),
            },
            _ => none_such("round", arguments),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match lengthened(&args) {
            Some(longer) => {
                let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
                Ok(Arc::new(Field::new(self.name(), longer, nullable)))
            }
            None => self.inner.inner().return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scale = |own: &DataType| match own {
            DataType::Decimal128(_, scale) => Some(*scale),
            _ => None,
        };
        let own = args.arg_fields.first().and_then(|field| scale(field.data_type()));
        let wanted = args.return_field.data_type();
        // It has all of its digits still.
        if own.zip(scale(wanted)).is_some_and(|(own, wanted)| wanted > own)
            && let [value, ..] = &args.args[..]
        {
            return value.cast_to(wanted, None);
        }
        self.inner.inner().invoke_with_args(args)
    }
}

fn none_such(function: &str, arguments: &[DataType]) -> Result<Vec<DataType>> {
    let names: Vec<String> = arguments.iter().map(types::name).collect();
    plan_err!("function {function}({}) does not exist", names.join(", "))
}

/// The greatest common divisor, and the least common multiple.
pub(crate) const GCD: &[Overload] = &[
    over(&[Int4, Int4], Int4, |row, out| out.int(divisor(row.int(0), row.int(1))?)),
    over(&[Int8, Int8], Int8, |row, out| out.int(divisor(row.int(0), row.int(1))?)),
];

pub(crate) const LCM: &[Overload] = &[
    over(&[Int4, Int4], Int4, |row, out| out.int(multiple(row.int(0), row.int(1))?)),
    over(&[Int8, Int8], Int8, |row, out| out.int(multiple(row.int(0), row.int(1))?)),
];

fn divisor(left: i64, right: i64) -> Result<i64> {
    let (mut left, mut right) = (left.unsigned_abs(), right.unsigned_abs());
    while right != 0 {
        (left, right) = (right, left % right);
    }
    i64::try_from(left).or_else(|_| exec_err!("bigint out of range"))
}

fn multiple(left: i64, right: i64) -> Result<i64> {
    if left == 0 || right == 0 {
        return Ok(0);
    }
    match (left / divisor(left, right)?).checked_mul(right).and_then(i64::checked_abs) {
        Some(multiple) => Ok(multiple),
        None => exec_err!("bigint out of range"),
    }
}

pub(crate) const SQRT: &[Overload] = &[over(&[Float], Float, |row, out| match row.float(0) {
    negative if negative < 0.0 => exec_err!("cannot take square root of a negative number"),
    value => out.float(value.sqrt()),
})];

pub(crate) const POWER: &[Overload] = &[over(&[Float, Float], Float, |row, out| {
    let (base, exponent) = (row.float(0), row.float(1));
    if base == 0.0 && exponent < 0.0 {
        return exec_err!("zero raised to a negative power is undefined");
    }
    if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
        return exec_err!("a negative number raised to a non-integer power yields a complex result");
    }
    out.float(finite(row, base.powf(exponent))?)
})];

pub(crate) const EXP: &[Overload] = &[over(&[Float], Float, |row, out| out.float(finite(row, row.float(0).exp())?))];

pub(crate) const LN: &[Overload] = &[over(&[Float], Float, |row, out| out.float(above_zero(row.float(0))?.ln()))];

pub(crate) const LOG: &[Overload] = &[
    over(&[Float], Float, |row, out| out.float(above_zero(row.float(0))?.log10())),
    over(&[Float, Float], Float, |row, out| {
        let (base, value) = (above_zero(row.float(0))?, above_zero(row.float(1))?);
        if base == 1.0 {
            return exec_err!("division by zero");
        }
        out.float(value.ln() / base.ln())
    }),
];

pub(crate) const ASIN: &[Overload] =
    &[over(&[Float], Float, |row, out| out.float(within(row.float(0), |value| (-1.0..=1.0).contains(&value))?.asin()))];

pub(crate) const ACOS: &[Overload] =
    &[over(&[Float], Float, |row, out| out.float(within(row.float(0), |value| (-1.0..=1.0).contains(&value))?.acos()))];

pub(crate) const ACOSH: &[Overload] =
    &[over(&[Float], Float, |row, out| out.float(within(row.float(0), |value| value >= 1.0)?.acosh()))];

pub(crate) const ATANH: &[Overload] = &[over(&[Float], Float, |row, out| {
    out.float(within(row.float(0), |value| (-1.0..=1.0).contains(&value))?.atanh())
})];

/// A number that a function is defined of, or none.
fn within(value: f64, is_there: impl Fn(f64) -> bool) -> Result<f64> {
    match value.is_nan() || is_there(value) {
        true => Ok(value),
        false => exec_err!("input is out of range"),
    }
}

/// A result that is infinite though no argument is: it was too large.
fn finite(row: &Row<'_>, made: f64) -> Result<f64> {
    let of_infinite = (0..row.len()).any(|at| row.float(at).is_infinite());
    if made.is_infinite() && !of_infinite {
        return exec_err!("value out of range: overflow");
    }
    Ok(made)
}

fn above_zero(value: f64) -> Result<f64> {
    if value == 0.0 {
        return exec_err!("cannot take logarithm of zero");
    }
    if value < 0.0 {
        return exec_err!("cannot take logarithm of a negative number");
    }
    Ok(value)
}

pub(crate) const WIDTH_BUCKET: &[Overload] = &[over(&[Float, Float, Float, Int4], Int4, |row, out| {
    let (value, low, high, count) = (row.float(0), row.float(1), row.float(2), row.int(3));
    if count <= 0 {
        return exec_err!("count must be greater than zero");
    }
    if !low.is_finite() || !high.is_finite() || low == high || value.is_nan() {
        return exec_err!("lower bound cannot equal upper bound, and none of them may be infinite");
    }
    let (from, span) = if low < high { (value - low, high - low) } else { (low - value, low - high) };
    if from < 0.0 {
        return out.int(0);
    }
    if from >= span {
        return out.int(count + 1);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of buckets has 32 bits")]
    let buckets = count as f64;
    #[expect(clippy::cast_possible_truncation, reason = "the value lies between zero and the count of buckets")]
    let at = (from / span * buckets).floor() as i64;
    out.int(at.min(count - 1) + 1)
})];

/// `scale`: the digits behind the point that a numeric is written with. `min_scale`: those that it needs.
pub(super) fn digits(name: &'static str, needed: bool) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Digits { name, needed, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Digits {
    name: &'static str,
    needed: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Digits {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [own] if own.is_decimal() => Ok(vec![own.clone()]),
            [own] if own.is_integer() => Ok(vec![DataType::Int64]),
            [DataType::Null] => Ok(vec![DataType::Int64]),
            _ => none_such(self.name, arguments),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let needed = self.needed;
        let made = move |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            let [array] = arrays else { return exec_err!("digits are those of one number") };
            let written = cast(array, &DataType::Utf8)?;
            let digits = written.as_string::<i32>().iter().map(|text| text.map(|text| digits_of(text, needed)));
            Ok(Arc::new(digits.collect::<Int32Array>()))
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

fn digits_of(written: &str, needed: bool) -> i32 {
    let behind = written.split_once('.').map_or("", |(_, behind)| behind);
    let counted = if needed { behind.trim_end_matches('0') } else { behind };
    i32::try_from(counted.len()).unwrap_or(i32::MAX)
}

/// `width_bucket` over bounds of any type that has an order, beside that over buckets of one width.
pub(super) fn buckets(inner: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Buckets { inner }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Buckets {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Buckets {
    crate::as_inner!(name, aliases, signature);

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [value, DataType::List(bounds)] = arguments else { return self.inner.inner().coerce_types(arguments) };
        match comparison_coercion(value, bounds.data_type()) {
            Some(common) => Ok(vec![common.clone(), DataType::new_list(common, true)]),
            None => none_such(self.name(), arguments),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [_, DataType::List(_)] => Ok(DataType::Int32),
            _ => self.inner.inner().return_type(arguments),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match args.arg_fields {
            [_, bounds] if matches!(bounds.data_type(), DataType::List(_)) => {
                let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
                Ok(Arc::new(Field::new(self.name(), DataType::Int32, nullable)))
            }
            _ => self.inner.inner().return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[..] {
            [_, _] => make_scalar_function(between_bounds, vec![])(&args.args),
            _ => self.inner.inner().invoke_with_args(args),
        }
    }
}

/// How many of the bounds, which are in their order, a value is not below.
fn between_bounds(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let [values, bounds] = arrays else { return exec_err!("a value is looked for between bounds") };
    let Some(bounds) = bounds.as_list_opt::<i32>() else { return exec_err!("bounds are an array") };
    let keys = |array: &ArrayRef| -> Result<BinaryArray> {
        let outside = |error: relation::Error| DataFusionError::Execution(error.to_string());
        let own = relation::DataType::from_arrow(array.data_type()).map_err(outside)?;
        sort_keys(&cast(array, &own.to_arrow())?, own).map_err(outside)
    };
    let (values, all) = (keys(values)?, keys(bounds.values())?);
    let place = |row: usize| -> Result<Option<i32>> {
        if values.is_null(row) || bounds.is_null(row) {
            return Ok(None);
        }
        let offsets = bounds.value_offsets();
        let within = usize::try_from(offsets[row]).unwrap_or(0)..usize::try_from(offsets[row + 1]).unwrap_or(0);
        if within.clone().any(|at| all.is_null(at)) {
            return exec_err!("thresholds array must not contain NULLs");
        }
        let own: Vec<&[u8]> = within.map(|at| all.value(at)).collect();
        Ok(i32::try_from(own.partition_point(|bound| *bound <= values.value(row))).ok())
    };
    Ok(Arc::new((0..values.len()).map(place).collect::<Result<Int32Array>>()?))
}
