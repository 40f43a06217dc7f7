//! Roots, powers and logarithms of numerics, which are numerics.
//!
//! They are computed in whole numbers that count parts of 10^-30, which is more than the 16 digits behind the point that a result has (a
//! root has 15, as PostgreSQL's has of numbers below 10,000). Powers with whole exponents, and roots, are exact until they are rounded.
//! Of floats, and of whole numbers alone, the functions of [`super::numbers`] are meant.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, i256};
use datafusion_common::{Result, exec_err, internal_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_functions::utils::make_scalar_function;

use super::arithmetic::{DIGITS_MAX, as_decimal};

/// Digits behind the point of what is computed with.
const PARTS: u32 = 30;
/// Digits behind the point of results, and of roots.
const SCALE: i8 = 16;
const ROOT_SCALE: i8 = 15;
/// The natural logarithms of two and ten in parts.
const LN_2: i128 = 693_147_180_559_945_309_417_232_121_458;
const LN_10: i128 = 2_302_585_092_994_045_684_017_991_454_684;
/// Exponents up to which a power is multiplied out.
const EXPONENT_MAX: u128 = 10_000;

/// The function of floats, which is one of numerics too.
pub(super) fn of_numerics(inner: Arc<ScalarUDF>, work: Work) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Powers { inner, work, signature }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Work {
    Sqrt,
    Power,
    Exp,
    Ln,
    Log,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Powers {
    inner: Arc<ScalarUDF>,
    work: Work,
    signature: Signature,
}

impl ScalarUDFImpl for Powers {
    crate::as_inner!(name, aliases);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let exact = |own: &DataType| match own {
            DataType::Decimal128(..) => Some(own.clone()),
            _ => as_decimal(own),
        };
        // A logarithm to a base is one of numerics alone.
        let has_base = self.work == Work::Log && arguments.len() == 2;
        let is_numeric = arguments.iter().any(DataType::is_decimal)
            || has_base && arguments.iter().all(|own| own.is_integer() || own.is_null());
        match arguments.iter().map(exact).collect::<Option<Vec<_>>>() {
            Some(exact) if is_numeric && !exact.is_empty() => Ok(exact),
            _ => self.inner.inner().coerce_types(arguments),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments.first() {
            Some(DataType::Decimal128(..)) => Ok(self.decimal()),
            _ => self.inner.inner().return_type(arguments),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match args.arg_fields.first().map(|field| field.data_type()) {
            Some(DataType::Decimal128(..)) => {
                let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
                Ok(Arc::new(Field::new(self.name(), self.decimal(), nullable)))
            }
            _ => self.inner.inner().return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if !args.return_field.data_type().is_decimal() {
            return self.inner.inner().invoke_with_args(args);
        }
        let work = self.work;
        let made = move |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            let numbers: Option<Vec<(&Decimal128Array, i8)>> = arrays.iter().map(of_decimals).collect();
            let Some(numbers) = numbers else { return internal_err!("{work:?} of other numbers than decimals") };
            let rows = arrays.first().map_or(0, |array| array.len());
            let of_row = |row: usize| {
                if numbers.iter().any(|(array, _)| array.is_null(row)) {
                    return Ok(None);
                }
                let values: Vec<Number> =
                    numbers.iter().map(|(array, scale)| Number { digits: array.value(row), scale: *scale }).collect();
                work.of(&values).map(Some)
            };
            let made = (0..rows).map(of_row).collect::<Result<Decimal128Array>>()?;
            Ok(Arc::new(made.with_precision_and_scale(DIGITS_MAX, work.scale())?))
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

impl Powers {
    fn decimal(&self) -> DataType {
        DataType::Decimal128(DIGITS_MAX, self.work.scale())
    }
}

fn of_decimals(array: &ArrayRef) -> Option<(&Decimal128Array, i8)> {
    let DataType::Decimal128(_, scale) = array.data_type() else { return None };
    Some((array.as_primitive::<Decimal128Type>(), *scale))
}

/// A decimal.
#[derive(Debug, Clone, Copy)]
struct Number {
    digits: i128,
    scale: i8,
}

impl Number {
    fn parts(self) -> Option<i256> {
        rescaled(i256::from_i128(self.digits), i64::from(self.scale), i64::from(PARTS))
    }

    /// The whole number that it is.
    fn whole(self) -> Option<i128> {
        let power = u32::try_from(self.scale).ok().and_then(|scale| 10_i128.checked_pow(scale))?;
        (self.digits % power == 0).then_some(self.digits / power)
    }
}

impl Work {
    fn scale(self) -> i8 {
        match self {
            Self::Sqrt => ROOT_SCALE,
            Self::Power | Self::Exp | Self::Ln | Self::Log => SCALE,
        }
    }

    /// The digits of the result at its scale. Errors: there is none, or it has more digits than there is room for.
    fn of(self, values: &[Number]) -> Result<i128> {
        let made = match (self, values) {
            (Self::Sqrt, [value]) if value.digits < 0 => {
                return exec_err!("cannot take square root of a negative number");
            }
            (Self::Sqrt, [value]) => root(*value),
            (Self::Exp, [value]) => value.parts().and_then(exp).and_then(to_result),
            (Self::Ln, [value]) => ln(above_zero(*value)?).and_then(to_result),
            (Self::Log, [value]) => {
                ln(above_zero(*value)?).and_then(|ln| over(ln, i256::from_i128(LN_10))).and_then(to_result)
            }
            (Self::Log, [base, value]) => {
                let (base, value) = (ln(above_zero(*base)?), ln(above_zero(*value)?));
                if base == Some(i256::ZERO) {
                    return exec_err!("division by zero");
                }
                base.zip(value).and_then(|(base, value)| over(value, base)).and_then(to_result)
            }
            (Self::Power, [base, exponent]) => power(*base, *exponent)?,
            _ => return internal_err!("{self:?} of {} numbers", values.len()),
        };
        match made.and_then(i256::to_i128).filter(|made| made.unsigned_abs() < 10_u128.pow(38)) {
            Some(made) => Ok(made),
            None => exec_err!("value out of range: numeric field overflow"),
        }
    }
}

fn above_zero(value: Number) -> Result<Number> {
    match value.digits {
        0 => exec_err!("cannot take logarithm of zero"),
        negative if negative < 0 => exec_err!("cannot take logarithm of a negative number"),
        _ => Ok(value),
    }
}

fn ten(exponent: i64) -> Option<i256> {
    i256::from_i128(10).checked_pow(u32::try_from(exponent).ok()?)
}

/// Digits at another scale, a half away from zero.
fn rescaled(digits: i256, from: i64, to: i64) -> Option<i256> {
    if to >= from {
        return digits.checked_mul(ten(to - from)?);
    }
    let below = ten(from - to)?;
    let (whole, rest) = (digits.checked_div(below)?, digits.checked_rem(below)?);
    let is_half = rest.wrapping_abs().checked_mul(i256::from_i128(2))? >= below;
    let away = if digits.is_negative() { i256::MINUS_ONE } else { i256::ONE };
    if is_half { whole.checked_add(away) } else { Some(whole) }
}

fn to_result(parts: i256) -> Option<i256> {
    rescaled(parts, i64::from(PARTS), i64::from(SCALE))
}

fn one() -> Option<i256> {
    ten(i64::from(PARTS))
}

fn times(left: i256, right: i256) -> Option<i256> {
    left.checked_mul(right)?.checked_div(one()?)
}

fn over(above: i256, below: i256) -> Option<i256> {
    above.checked_mul(one()?)?.checked_div(below)
}

/// `e^x` of parts: by halvings of `x`, and the series of what is left.
fn exp(x: i256) -> Option<i256> {
    let ln_2 = i256::from_i128(LN_2);
    let doublings = x.checked_div(ln_2)?;
    let rest = x.checked_sub(doublings.checked_mul(ln_2)?)?;
    let (mut sum, mut term) = (one()?, one()?);
    for n in 1..60 {
        term = times(term, rest)?.checked_div(i256::from_i128(n))?;
        if term == i256::ZERO {
            break;
        }
        sum = sum.checked_add(term)?;
    }
    match doublings.to_i128()? {
        // Smaller than a part.
        few if few < -120 => Some(i256::ZERO),
        few if few < 0 => sum.checked_div(two(few.unsigned_abs())?),
        many => sum.checked_mul(two(many.unsigned_abs())?),
    }
}

fn two(exponent: u128) -> Option<i256> {
    i256::from_i128(2).checked_pow(u32::try_from(exponent).ok().filter(|exponent| *exponent < 250)?)
}

/// The natural logarithm in parts: of the number with one digit before its point, nearer by each step to the `y` of which `e^y` is that.
fn ln(value: Number) -> Option<i256> {
    let places = i32::try_from(value.digits.to_string().len()).ok()? - 1;
    let x = rescaled(i256::from_i128(value.digits), i64::from(places), i64::from(PARTS))?;
    #[expect(clippy::cast_precision_loss, reason = "a first guess")]
    let guess = (value.digits as f64 / 10_f64.powi(places)).ln();
    #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a number below ten")]
    let guess = (guess * 1e18) as i128;
    let mut y = rescaled(i256::from_i128(guess), 18, i64::from(PARTS))?;
    for _ in 0..3 {
        let made = exp(y)?;
        let step = over(x.checked_sub(made)?, x.checked_add(made)?)?.checked_mul(i256::from_i128(2))?;
        if step == i256::ZERO {
            break;
        }
        y = y.checked_add(step)?;
    }
    let tens = i256::from_i128(i128::from(places - i32::from(value.scale)));
    y.checked_add(tens.checked_mul(i256::from_i128(LN_10))?)
}

/// The square root at its scale.
fn root(value: Number) -> Option<i256> {
    let square = rescaled(i256::from_i128(value.digits), i64::from(value.scale), i64::from(ROOT_SCALE) * 2)?;
    if square == i256::ZERO {
        return Some(square);
    }
    // Above the root, and less than ten times as large.
    let mut root = ten(i64::try_from(square.to_string().len().div_ceil(2)).ok()?)?;
    loop {
        let next = root.checked_add(square.checked_div(root)?)?.checked_div(i256::from_i128(2))?;
        if next >= root {
            break;
        }
        root = next;
    }
    let rest = square.checked_sub(root.checked_mul(root)?)?;
    if rest > root { root.checked_add(i256::ONE) } else { Some(root) }
}

/// None: it has no room. Errors: there is no such power.
fn power(base: Number, exponent: Number) -> Result<Option<i256>> {
    if base.digits == 0 {
        return match exponent.digits {
            0 => Ok(ten(i64::from(SCALE))),
            below if below < 0 => exec_err!("zero raised to a negative power is undefined"),
            _ => Ok(Some(i256::ZERO)),
        };
    }
    let whole = exponent.whole();
    if base.digits < 0 && whole.is_none() {
        return exec_err!("a negative number raised to a non-integer power yields a complex result");
    }
    if let Some(whole) = whole
        && let Some(made) = multiplied_out(base, whole)
    {
        return Ok(Some(made));
    }
    let is_negative = base.digits < 0 && whole.is_some_and(|whole| whole % 2 != 0);
    let Some(digits) = base.digits.checked_abs() else { return Ok(None) };
    let made = ln(Number { digits, ..base })
        .zip(exponent.parts())
        .and_then(|(ln, exponent)| times(ln, exponent))
        .and_then(exp)
        .and_then(to_result);
    Ok(made.map(|made| if is_negative { made.wrapping_neg() } else { made }))
}

/// A power with a whole exponent, as long as all of its digits have room.
fn multiplied_out(base: Number, exponent: i128) -> Option<i256> {
    let count = exponent.unsigned_abs();
    if count > EXPONENT_MAX {
        return None;
    }
    let (mut made, digits) = (i256::ONE, i256::from_i128(base.digits));
    for _ in 0..count {
        made = made.checked_mul(digits)?;
    }
    let scale = i64::from(base.scale).checked_mul(i64::try_from(count).ok()?)?;
    if exponent >= 0 {
        return rescaled(made, scale, i64::from(SCALE));
    }
    // One over it, with a digit more to be rounded by.
    let above = ten(scale.checked_add(i64::from(SCALE))?.checked_add(1)?)?;
    rescaled(above.checked_div(made)?, i64::from(SCALE) + 1, i64::from(SCALE))
}

#[cfg(test)]
mod tests {
    use super::{Number, Work};

    fn number(text: &str) -> Number {
        let scale = text.split_once('.').map_or(0, |(_, behind)| behind.len());
        Number { digits: text.replace('.', "").parse().unwrap(), scale: i8::try_from(scale).unwrap() }
    }

    fn shown(work: Work, values: &[&str]) -> String {
        let numbers: Vec<Number> = values.iter().map(|text| number(text)).collect();
        match work.of(&numbers) {
            Ok(digits) => digits.to_string(),
            Err(error) => error.strip_backtrace(),
        }
    }

    #[test]
    fn results_have_postgresql_s_digits() {
        assert_eq!(shown(Work::Sqrt, &["2.0"]), "1414213562373095");
        assert_eq!(shown(Work::Sqrt, &["16.00"]), "4000000000000000");
        assert_eq!(shown(Work::Exp, &["1.0"]), "27182818284590452");
        assert_eq!(shown(Work::Exp, &["-1.0"]), "3678794411714423");
        assert_eq!(shown(Work::Exp, &["0.0"]), "10000000000000000");
        assert_eq!(shown(Work::Ln, &["10.0"]), "23025850929940457");
        assert_eq!(shown(Work::Ln, &["1.0"]), "0");
        assert_eq!(shown(Work::Ln, &["0.5"]), "-6931471805599453");
        assert_eq!(shown(Work::Ln, &["0.00000000000000000001"]), "-460517018598809137");
        assert_eq!(shown(Work::Log, &["1000.0"]), "30000000000000000");
        assert_eq!(shown(Work::Log, &["2.0", "64.0"]), "60000000000000000");
        assert_eq!(shown(Work::Power, &["2.0", "3"]), "80000000000000000");
        assert_eq!(shown(Work::Power, &["2", "0.5"]), "14142135623730950");
        assert_eq!(shown(Work::Power, &["1.05", "12"]), "17958563260221292");
        assert_eq!(shown(Work::Power, &["-2.0", "3"]), "-80000000000000000");
        assert_eq!(shown(Work::Power, &["2.0", "-2"]), "2500000000000000");
        assert_eq!(shown(Work::Power, &["10.0", "15"]), "10000000000000000000000000000000");
    }

    #[test]
    fn what_has_no_result_says_so_and_nothing_panics() {
        assert!(shown(Work::Sqrt, &["-1"]).contains("square root of a negative"));
        assert!(shown(Work::Ln, &["0.0"]).contains("logarithm of zero"));
        assert!(shown(Work::Log, &["1", "2"]).contains("division by zero"));
        assert!(shown(Work::Power, &["-2", "0.5"]).contains("complex"));
        assert!(shown(Work::Power, &["0", "-1"]).contains("undefined"));
        let extremes = [i128::MAX, i128::MIN, 1, -1, 0, 10_i128.pow(37)];
        for left in extremes {
            for right in extremes {
                for scale in [0, 1, 37] {
                    let values = [Number { digits: left, scale }, Number { digits: right, scale }];
                    for work in [Work::Sqrt, Work::Exp, Work::Ln, Work::Log] {
                        work.of(&values[..1]).ok();
                    }
                    for work in [Work::Power, Work::Log] {
                        work.of(&values).ok();
                    }
                }
            }
        }
    }
}
