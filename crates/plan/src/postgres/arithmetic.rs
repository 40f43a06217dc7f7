//! Arithmetic that says when it cannot: integers that overflow, divisions by zero, and the digits of a quotient.
//!
//! A quotient of decimals has as many digits behind the point as PostgreSQL gives it where both numbers stand in the text;
//! that depends on their values. Where they are columns, a column of quotients needs one number of digits: 16, or as many
//! as the wider operand has. A product has all digits of its factors, unless that would leave it no room before the point:
//! then it is rounded to 16 or more.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type, i256};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_functions::utils::make_scalar_function;

/// Digits of the widest decimals.
pub(crate) const DIGITS_MAX: u8 = 38;
/// Digits behind the point of a quotient of columns.
pub(crate) const QUOTIENT_SCALE: i8 = 16;

/// What is computed of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Plus,
    Minus,
    Times,
    /// Floats; zero below is an error.
    FloatOver,
    /// Decimals, to a scale.
    DecimalOver(i8),
    /// Decimals, rounded to a scale.
    DecimalTimes(i8),
}

/// `left operation right`.
pub(crate) fn computed(operation: Operation, left: Expr, right: Expr) -> Expr {
    let signature = Signature::user_defined(Volatility::Immutable);
    let name = match operation {
        Operation::Plus => "checked_plus".to_owned(),
        Operation::Minus => "checked_minus".to_owned(),
        Operation::Times => "checked_times".to_owned(),
        Operation::FloatOver => "float_quotient".to_owned(),
        // Part of the name, since a name must say all that a function does.
        Operation::DecimalOver(scale) => format!("quotient_{scale}"),
        Operation::DecimalTimes(scale) => format!("product_{scale}"),
    };
    let function = Arc::new(ScalarUDF::new_from_impl(Arithmetic { name, operation, signature }));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![left, right]))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    name: String,
    operation: Operation,
    signature: Signature,
}

/// The integer type that holds both.
fn wider(left: &DataType, right: &DataType) -> Option<DataType> {
    let rank = |t: &DataType| match t {
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => Some(0),
        DataType::UInt16 | DataType::Int32 => Some(1),
        DataType::UInt32 | DataType::Int64 => Some(2),
        _ => None,
    };
    Some(match rank(left)?.max(rank(right)?) {
        0 => DataType::Int16,
        1 => DataType::Int32,
        _ => DataType::Int64,
    })
}

/// Whether [`Operation::Plus`] and its like are for these types.
pub(crate) fn are_integers(left: &DataType, right: &DataType) -> bool {
    wider(left, right).is_some()
}

/// The decimal type that holds a number without fraction.
pub(crate) fn as_decimal(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
            DataType::Decimal128(*p, *s)
        }
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => DataType::Decimal128(5, 0),
        DataType::UInt16 | DataType::Int32 => DataType::Decimal128(10, 0),
        DataType::UInt32 | DataType::Int64 => DataType::Decimal128(19, 0),
        DataType::UInt64 => DataType::Decimal128(20, 0),
        _ => return None,
    })
}

impl Arithmetic {
    fn result(&self, arguments: &[DataType]) -> Result<DataType> {
        let [left, right] = arguments else { return plan_err!("arithmetic takes two numbers") };
        match self.operation {
            Operation::Plus | Operation::Minus | Operation::Times => match wider(left, right) {
                Some(wider) => Ok(wider),
                None => plan_err!("{} takes integers", self.name()),
            },
            Operation::FloatOver => Ok(DataType::Float64),
            Operation::DecimalOver(scale) | Operation::DecimalTimes(scale) => {
                Ok(DataType::Decimal128(DIGITS_MAX, scale))
            }
        }
    }
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = arguments else { return plan_err!("arithmetic takes two numbers") };
        let both = match self.operation {
            Operation::Plus | Operation::Minus | Operation::Times => self.result(arguments)?,
            Operation::FloatOver => DataType::Float64,
            Operation::DecimalOver(_) | Operation::DecimalTimes(_) => {
                return match (as_decimal(left), as_decimal(right)) {
                    (Some(left), Some(right)) => Ok(vec![left, right]),
                    _ => plan_err!("{} and {} are no decimals", super::types::name(left), super::types::name(right)),
                };
            }
        };
        Ok(vec![both.clone(), both])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.result(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(&self.name, self.result(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let made = |arrays: &[ArrayRef]| {
            let [left, right] = arrays else { return exec_err!("arithmetic takes two numbers") };
            match self.operation {
                Operation::Plus | Operation::Minus | Operation::Times => self.integers(left, right),
                Operation::FloatOver => float_quotients(left, right),
                Operation::DecimalOver(scale) => {
                    decimals(left, right, scale, |a, b| i32::from(scale) - a + b, quotient)
                }
                Operation::DecimalTimes(scale) => {
                    decimals(left, right, scale, |a, b| a + b - i32::from(scale), product)
                }
            }
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

impl Arithmetic {
    fn integers(&self, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
        let made = match self.operation {
            Operation::Plus => numeric::add(left, right),
            Operation::Minus => numeric::sub(left, right),
            _ => numeric::mul(left, right),
        };
        made.or_else(|_| exec_err!("{} out of range", super::types::name(left.data_type())))
    }
}

fn float_quotients(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let (left, right) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
    let quotients = left.iter().zip(right).map(|pair| match pair {
        (Some(_), Some(0.0)) => exec_err!("division by zero"),
        (Some(left), Some(right)) => Ok(Some(left / right)),
        _ => Ok(None),
    });
    Ok(Arc::new(quotients.collect::<Result<Float64Array>>()?))
}

/// The decimals that an operation makes of two at a scale; `shift` tells its power of ten of theirs.
fn decimals(
    left: &ArrayRef,
    right: &ArrayRef,
    scale: i8,
    shift: impl Fn(i32, i32) -> i32,
    operation: fn(i128, i128, i32) -> Result<i128>,
) -> Result<ArrayRef> {
    let (DataType::Decimal128(_, of_left), DataType::Decimal128(_, of_right)) = (left.data_type(), right.data_type())
    else {
        return exec_err!(
            "{} and {} are no decimals",
            super::types::name(left.data_type()),
            super::types::name(right.data_type())
        );
    };
    let shift = shift(i32::from(*of_left), i32::from(*of_right));
    let (left, right) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
    let made = left.iter().zip(right).map(|pair| match pair {
        (Some(left), Some(right)) => operation(left, right, shift).map(Some),
        _ => Ok(None),
    });
    let made = made.collect::<Result<Decimal128Array>>()?;
    Ok(Arc::new(made.with_precision_and_scale(DIGITS_MAX, scale)?))
}

/// The scale of a product that has no room for all digits behind the point; none if it has.
pub(crate) fn product_scale(left: &DataType, right: &DataType) -> Option<i8> {
    let (DataType::Decimal128(of_left, left), DataType::Decimal128(of_right, right)) = (left, right) else {
        return None;
    };
    let (all, digits) = (left.checked_add(*right)?, u32::from(*of_left) + u32::from(*of_right) + 1);
    if all <= QUOTIENT_SCALE || digits <= u32::from(DIGITS_MAX) {
        return None;
    }
    let before = i32::try_from(digits).ok()? - i32::from(all);
    let room = i8::try_from(i32::from(DIGITS_MAX) - before).unwrap_or(0);
    Some(all.min(QUOTIENT_SCALE.max(room)))
}

/// `left · right / 10^shift`, a half away from zero.
fn product(left: i128, right: i128, shift: i32) -> Result<i128> {
    let power = u32::try_from(shift).ok().and_then(|shift| i256::from_i128(10).checked_pow(shift));
    let whole = i256::from_i128(left).checked_mul(i256::from_i128(right));
    let made = whole.zip(power).and_then(|(whole, power)| rounded_quotient(whole, power));
    within_digits(made, "a product")
}

/// `left · 10^shift / right`, a half away from zero.
fn quotient(left: i128, right: i128, shift: i32) -> Result<i128> {
    if right == 0 {
        return exec_err!("division by zero");
    }
    let power = |exponent: u32| i256::from_i128(10).checked_pow(exponent);
    let (above, below) = (i256::from_i128(left), i256::from_i128(right));
    let scaled = match u32::try_from(shift) {
        Ok(shift) => power(shift).and_then(|power| Some((above.checked_mul(power)?, below))),
        Err(_) => power(shift.unsigned_abs()).and_then(|power| Some((above, below.checked_mul(power)?))),
    };
    within_digits(scaled.and_then(|(above, below)| rounded_quotient(above, below)), "a quotient")
}

/// `above / below`, a half away from zero.
fn rounded_quotient(above: i256, below: i256) -> Option<i256> {
    let whole = above.checked_div(below)?;
    let rest = above.checked_rem(below)?;
    let is_half = rest.wrapping_abs().checked_mul(i256::from_i128(2))? >= below.wrapping_abs();
    let away = if above.is_negative() == below.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    if is_half { whole.checked_add(away) } else { Some(whole) }
}

/// What the widest decimals have room for.
fn within_digits(made: Option<i256>, what: &str) -> Result<i128> {
    match made.and_then(i256::to_i128).filter(|made| made.unsigned_abs() < 10_u128.pow(38)) {
        Some(made) => Ok(made),
        None => exec_err!("numeric field overflow: {what} has more digits than there is room for: out of range"),
    }
}

/// A number that stands in the text: its digits and how many of them are behind the point.
pub(crate) fn constant(expr: &Expr) -> Option<(i128, i8)> {
    match expr {
        Expr::Alias(alias) => constant(&alias.expr),
        Expr::Negative(inner) => constant(inner).map(|(value, scale)| (-value, scale)),
        Expr::Literal(value, _) => match value {
            ScalarValue::Decimal128(Some(value), _, scale) if *scale >= 0 => Some((*value, *scale)),
            ScalarValue::Int16(Some(value)) => Some((i128::from(*value), 0)),
            ScalarValue::Int32(Some(value)) => Some((i128::from(*value), 0)),
            ScalarValue::Int64(Some(value)) => Some((i128::from(*value), 0)),
            _ => None,
        },
        Expr::Cast(cast) => {
            let (value, scale) = constant(&cast.expr)?;
            match cast.field.data_type() {
                DataType::Int16 | DataType::Int32 | DataType::Int64 if scale == 0 => Some((value, 0)),
                DataType::Decimal128(_, wanted) if *wanted >= 0 => Some((rescaled(value, scale, *wanted)?, *wanted)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The digits of a number at another scale, a half away from zero.
pub(crate) fn rescaled(value: i128, from: i8, to: i8) -> Option<i128> {
    let steps = u32::from(from.abs_diff(to));
    let power = 10_i128.checked_pow(steps)?;
    match from.cmp(&to) {
        Ordering::Less | Ordering::Equal => value.checked_mul(power),
        Ordering::Greater => {
            let (whole, rest) = (value / power, value % power);
            let away = if rest.unsigned_abs() * 2 >= power.unsigned_abs() { value.signum() } else { 0 };
            Some(whole + away)
        }
    }
}

/// Digits behind the point that PostgreSQL gives the quotient of two numbers: 16 significant ones at least, by groups of
/// four digits, and no fewer than either number has.
pub(crate) fn quotient_scale(above: (i128, i8), below: (i128, i8)) -> i8 {
    let ((weight_above, first_above), (weight_below, first_below)) = (leading(above), leading(below));
    let mut weight = weight_above - weight_below;
    if first_above <= first_below {
        weight -= 1;
    }
    let scale = (16 - weight * 4).max(i32::from(above.1)).max(i32::from(below.1)).max(0);
    // What is left of 38 digits is for the whole part.
    let whole = u32::try_from((weight + 1).max(0) * 4).unwrap_or(0);
    let room = i32::from(DIGITS_MAX) - i32::try_from(whole).unwrap_or(0);
    i8::try_from(scale.min(room).max(0)).unwrap_or(QUOTIENT_SCALE)
}

/// The weight of the first group of four digits that is not zero, and the group.
fn leading((value, scale): (i128, i8)) -> (i32, i32) {
    if value == 0 {
        return (0, 0);
    }
    let digits = value.unsigned_abs().to_string();
    let digits_before = i32::try_from(digits.len()).unwrap_or(0) - i32::from(scale);
    // The group that the first digit falls into, counted from the point.
    let weight = (digits_before - 1).div_euclid(4);
    let of_group = digits_before - weight * 4;
    let first: String =
        digits.chars().chain(std::iter::repeat('0')).take(usize::try_from(of_group).unwrap_or(0)).collect();
    (weight, first.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::{product, product_scale, quotient, quotient_scale};

    #[test]
    fn a_quotient_of_constants_has_postgresql_s_digits() {
        assert_eq!(quotient_scale((10, 0), (30, 1)), 16);
        assert_eq!(quotient_scale((1, 0), (20, 1)), 20);
        assert_eq!(quotient_scale((100, 2), (100_000, 0)), 24);
        assert_eq!(quotient_scale((100_000, 0), (1, 0)), 12);
    }

    #[test]
    fn a_product_keeps_room_before_its_point() {
        let decimal = |digits, scale| DataType::Decimal128(digits, scale);
        let scale = |left, right| product_scale(&left, &right);
        assert_eq!(scale(decimal(12, 2), decimal(12, 2)), None);
        assert_eq!(scale(decimal(38, 2), decimal(38, 4)), None);
        assert_eq!(scale(decimal(24, 16), decimal(24, 16)), Some(21));
        assert_eq!(scale(decimal(38, 16), decimal(38, 16)), Some(16));
        assert_eq!(product(15, 10, 2).ok(), Some(2));
        assert_eq!(product(-15, 10, 2).ok(), Some(-2));
        assert_eq!(product(14, 10, 2).ok(), Some(1));
        assert!(product(i128::MAX, i128::MAX, 0).is_err());
        assert!(product(i128::MIN, i128::MIN, 76).is_ok());
    }

    #[test]
    fn a_quotient_rounds_its_half_away_from_zero_and_never_panics() {
        assert_eq!(quotient(1, 2, 0).ok(), Some(1));
        assert_eq!(quotient(-1, 2, 0).ok(), Some(-1));
        assert_eq!(quotient(1, 3, 4).ok(), Some(3333));
        assert!(quotient(1, 0, 0).is_err());
        for left in [i128::MIN, -1, 0, 1, i128::MAX] {
            for right in [i128::MIN, -1, 1, i128::MAX] {
                for shift in [-120, -1, 0, 1, 60, 120] {
                    quotient(left, right, shift).ok();
                }
            }
        }
    }
}
