//! Functions of numbers that PostgreSQL refuses an argument of, or types otherwise.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use datafusion_functions::utils::make_scalar_function;

use super::calls::Kind::{Float, Int4};
use super::calls::{Overload, Row, over};

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
