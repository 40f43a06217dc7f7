//! `sign`: of a numeric a numeric, of any other number a float.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::compute::kernels::arity::unary;
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Float64Type, i256};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion_functions::utils::make_scalar_function;

use super::types;

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Sign { signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sign {
    signature: Signature,
}

impl ScalarUDFImpl for Sign {
    fn name(&self) -> &str {
        "sign"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [decimal @ (DataType::Decimal128(..) | DataType::Decimal256(..))] => Ok(vec![decimal.clone()]),
            [DataType::UInt64] => Ok(vec![DataType::Decimal128(20, 0)]),
            [number] if number.is_numeric() || number.is_null() => Ok(vec![DataType::Float64]),
            _ => {
                let names: Vec<String> = arguments.iter().map(types::name).collect();
                plan_err!("function sign({}) does not exist", names.join(", "))
            }
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match arguments {
            [decimal] if decimal.is_decimal() => DataType::Decimal128(1, 0),
            _ => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        make_scalar_function(signs, vec![])(&args.args)
    }
}

fn signs(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let [array] = arrays else { return exec_err!("sign takes one number") };
    let decimals = |made: Decimal128Array| -> Result<ArrayRef> { Ok(Arc::new(made.with_precision_and_scale(1, 0)?)) };
    match array.data_type() {
        DataType::Decimal128(..) => {
            decimals(unary::<_, _, Decimal128Type>(array.as_primitive::<Decimal128Type>(), i128::signum))
        }
        DataType::Decimal256(..) => {
            let sign = |value: i256| i128::from(value > i256::ZERO) - i128::from(value < i256::ZERO);
            decimals(unary::<_, _, Decimal128Type>(array.as_primitive::<Decimal256Type>(), sign))
        }
        DataType::Float64 => {
            let sign = |value: f64| if value == 0.0 || value.is_nan() { value } else { value.signum() };
            Ok(Arc::new(unary::<_, _, Float64Type>(array.as_primitive::<Float64Type>(), sign)))
        }
        other => exec_err!("function sign({}) does not exist", types::name(other)),
    }
}
