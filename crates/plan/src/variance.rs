//! Variances and standard deviations of integers and numerics, which are numerics, as in PostgreSQL; those of floats are
//! DataFusion's.
//!
//! The count, the sum and the sum of squares are kept exactly, and divided once: `(N Σx² − (Σx)²) / (N (N − 1))`. The
//! result has sixteen digits behind the point, as an average has.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, FieldRef, UInt64Type, i256};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, internal_datafusion_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::format_state_name;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};

use crate::postgres::arithmetic::as_decimal;
use crate::postgres::types;

/// Digits of a result, and those of them that are behind the point.
const DIGITS: u8 = 76;
const SCALE: i8 = 16;

/// Ours in place of DataFusion's; any other function as it is.
pub(crate) fn replace(function: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    let (sample, root) = match function.name() {
        "var" => (true, false),
        "var_pop" => (false, false),
        "stddev" => (true, true),
        "stddev_pop" => (false, true),
        _ => return function,
    };
    let mut aliases = function.aliases().to_vec();
    aliases.extend((sample && !root).then(|| "variance".to_owned()));
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(Spread { inner: function, aliases, sample, root, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Spread {
    inner: Arc<AggregateUDF>,
    aliases: Vec<String>,
    /// Of a sample, else of all there is.
    sample: bool,
    /// The standard deviation, else the variance.
    root: bool,
    signature: Signature,
}

impl Spread {
    fn is_exact(fields: &[FieldRef]) -> bool {
        fields.first().is_some_and(|field| field.data_type().is_decimal())
    }
}

impl AggregateUDFImpl for Spread {
    crate::as_inner!(name);

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [own] if own.is_floating() || own.is_null() => Ok(vec![DataType::Float64]),
            [own] if own.is_integer() || own.is_decimal() => Ok(vec![as_decimal(own).unwrap_or_else(|| own.clone())]),
            _ => {
                let names: Vec<String> = arguments.iter().map(types::name).collect();
                plan_err!("function {}({}) does not exist", self.name(), names.join(", "))
            }
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match arguments {
            [own] if own.is_decimal() => DataType::Decimal256(DIGITS, SCALE),
            _ => DataType::Float64,
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let scale = match args.expr_fields.first().map(|field| field.data_type()) {
            Some(DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale)) => i32::from(*scale),
            _ => return self.inner.accumulator(args),
        };
        if args.is_distinct {
            return plan_err!("{}(DISTINCT …) is not supported", self.name());
        }
        Ok(Box::new(Squares { scale, sample: self.sample, root: self.root, ..Squares::default() }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !Self::is_exact(args.input_fields) {
            return self.inner.state_fields(args);
        }
        let field = |name: &str, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
        Ok(vec![
            field("count", DataType::UInt64),
            field("sum", DataType::Binary),
            field("sum of squares", DataType::Binary),
        ])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !Self::is_exact(args.expr_fields) && self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }
}

/// One group.
#[derive(Debug, Default)]
struct Squares {
    scale: i32,
    sample: bool,
    root: bool,
    count: u64,
    sum: i256,
    squares: i256,
}

impl Squares {
    fn each(array: &ArrayRef, mut take: impl FnMut(i256) -> Option<()>) -> Result<()> {
        let taken = match array.as_primitive_opt::<Decimal128Type>() {
            Some(values) => values.iter().flatten().try_for_each(|value| take(i256::from_i128(value))),
            None => array.as_primitive::<Decimal256Type>().iter().flatten().try_for_each(&mut take),
        };
        taken.ok_or_else(too_large)
    }

    /// None where there are too few values; an error where the result has no room.
    fn answer(&self) -> Result<Option<i256>> {
        let Some(less) = self.count.checked_sub(u64::from(self.sample)).filter(|less| *less > 0) else {
            return Ok(None);
        };
        let of = |count: u64| i256::from_i128(count.into());
        let answer = || {
            let numerator = of(self.count).checked_mul(self.squares)?.checked_sub(self.sum.checked_mul(self.sum)?)?;
            let denominator = of(self.count).checked_mul(of(less))?;
            let wanted = i32::from(SCALE) * if self.root { 2 } else { 1 };
            let variance = quotient(numerator, denominator, wanted - 2 * self.scale)?;
            if self.root { root(variance) } else { Some(variance) }
        };
        answer().map(Some).ok_or_else(too_large)
    }
}

impl Accumulator for Squares {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Self::each(&values[0], |value| {
            self.count += 1;
            self.sum = self.sum.checked_add(value)?;
            self.squares = self.squares.checked_add(value.checked_mul(value)?)?;
            Some(())
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Self::each(&values[0], |value| {
            self.count -= 1;
            self.sum = self.sum.checked_sub(value)?;
            self.squares = self.squares.checked_sub(value.checked_mul(value)?)?;
            Some(())
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Decimal256(self.answer()?, DIGITS, SCALE))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let bytes = |value: i256| ScalarValue::Binary(Some(value.to_le_bytes().to_vec()));
        Ok(vec![ScalarValue::UInt64(Some(self.count)), bytes(self.sum), bytes(self.squares)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let damaged = || internal_datafusion_err!("damaged state of a variance");
        let [counts, sums, squares] = states else { return Err(damaged()) };
        let read = |array: &ArrayRef, row| array.as_binary::<i32>().value(row).try_into().ok().map(i256::from_le_bytes);
        for row in (0..counts.len()).filter(|row| counts.is_valid(*row) && sums.is_valid(*row)) {
            self.count += counts.as_primitive::<UInt64Type>().value(row);
            let (sum, square) = read(sums, row).zip(read(squares, row)).ok_or_else(damaged)?;
            self.sum = self.sum.checked_add(sum).ok_or_else(too_large)?;
            self.squares = self.squares.checked_add(square).ok_or_else(too_large)?;
        }
        Ok(())
    }
}

fn too_large() -> DataFusionError {
    exec_datafusion_err!("numeric field overflow: a variance has more digits than its type has room for")
}

/// `numerator / denominator` with so many digits more, halves up; none where there is no room. Neither is negative.
fn quotient(numerator: i256, denominator: i256, digits: i32) -> Option<i256> {
    let ten = |digits: i32| i256::from_i128(10).checked_pow(digits.unsigned_abs());
    if digits < 0 {
        return quotient(numerator, denominator.checked_mul(ten(digits)?)?, 0);
    }
    let power = ten(digits)?;
    // The rest is smaller than the denominator, and has room for the digits where the whole has none.
    let whole = numerator.checked_div(denominator)?.checked_mul(power)?;
    let rest = numerator.checked_rem(denominator)?.checked_mul(power)?;
    let (more, left) = (rest.checked_div(denominator)?, rest.checked_rem(denominator)?);
    let up = i256::from_i128(i128::from(left.checked_add(left)? >= denominator));
    whole.checked_add(more)?.checked_add(up)
}

/// The square root, rounded, by Newton's method from above.
fn root(square: i256) -> Option<i256> {
    let (zero, one, two) = (i256::ZERO, i256::ONE, i256::from_i128(2));
    if square <= zero {
        return Some(zero);
    }
    let bits = 256 - square.leading_zeros();
    let mut guess = two.checked_pow(bits.div_ceil(2))?;
    loop {
        let next = guess.checked_add(square.checked_div(guess)?)?.checked_div(two)?;
        if next >= guess {
            break;
        }
        guess = next;
    }
    // (g + ½)² = g² + g + ¼
    let above = square.checked_sub(guess.checked_mul(guess)?)? > guess;
    guess.checked_add(if above { one } else { zero })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_rounded() {
        let of = |value: i128| root(i256::from_i128(value)).and_then(i256::to_i128).unwrap();
        assert_eq!([0, 1, 2, 3, 4, 6, 7, 12, 13].map(of), [0, 1, 1, 2, 2, 2, 3, 3, 4]);
        assert_eq!(of(10_i128.pow(38)), 10_i128.pow(19));
    }
}
