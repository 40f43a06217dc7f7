//! Floats in an order that tells all of them apart.
//!
//! To SQL, −0.0 and 0.0 are equal, and so they are in the keys of our states; to Arrow's sort they are not. Where they are
//! the last difference between two rows, as among the ties of a LIMIT, both must still choose the same row. So a float that
//! breaks ties is ordered by a whole number made of its bits, in which −0.0 comes before 0.0.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::unary;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion_functions::utils::make_scalar_function;

/// The name under which plans show the function.
const NAME: &str = "total_order";

/// The place of a float in the total order of IEEE 754.
pub(crate) fn total_order(float: Expr) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(Function::new())));
    FUNCTION.call(vec![float])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    signature: Signature,
}

impl Function {
    fn new() -> Self {
        Self { signature: Signature::uniform(1, vec![DataType::Float32, DataType::Float64], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        make_scalar_function(places, vec![])(&args.args)
    }
}

fn places(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let [array] = arrays else { return exec_err!("{NAME} takes one argument") };
    Ok(match array.data_type() {
        DataType::Float32 => {
            Arc::new(unary::<_, _, Int64Type>(array.as_primitive::<Float32Type>(), |x| place(f64::from(x))))
        }
        DataType::Float64 => Arc::new(unary::<_, _, Int64Type>(array.as_primitive::<Float64Type>(), place)),
        other => return exec_err!("{NAME} of {}", crate::sql_type(other)),
    })
}

/// The bits as a number; those of a negative float are turned, so that greater ones come first.
fn place(float: f64) -> i64 {
    let bits = float.to_bits().cast_signed();
    bits ^ (((bits >> 63).cast_unsigned() >> 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn places_are_in_order() {
        let floats = [f64::NEG_INFINITY, -2.5, -1e-310, -0.0, 0.0, 1e-310, 1.0, f64::INFINITY, f64::NAN];
        assert!(floats.windows(2).all(|pair| place(pair[0]) < place(pair[1])));
    }
}
