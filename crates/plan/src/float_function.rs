//! Functions of one float by which plans say what SQL means by it: [`crate::zero`], [`crate::total_order`], [`crate::rounding`].

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion_functions::utils::make_scalar_function;

/// Makes a function of a `real` or a `double precision`, each by an array of its values; without a type of its own its result has
/// that of the float.
pub(crate) fn float_function(
    name: &'static str,
    result: Option<DataType>,
    of_reals: fn(&Float32Array) -> ArrayRef,
    of_doubles: fn(&Float64Array) -> ArrayRef,
) -> Arc<ScalarUDF> {
    let signature = Signature::uniform(1, vec![DataType::Float64, DataType::Float32], Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(FloatFunction { name, result, of_reals, of_doubles, signature }))
}

#[derive(Debug)]
struct FloatFunction {
    name: &'static str,
    result: Option<DataType>,
    of_reals: fn(&Float32Array) -> ArrayRef,
    of_doubles: fn(&Float64Array) -> ArrayRef,
    signature: Signature,
}

/// By their names, which are different.
impl PartialEq for FloatFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for FloatFunction {}

impl Hash for FloatFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for FloatFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [float @ (DataType::Float32 | DataType::Float64)] => {
                Ok(self.result.clone().unwrap_or_else(|| float.clone()))
            }
            _ => exec_err!("{} takes one float", self.name),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (name, of_reals, of_doubles) = (self.name, self.of_reals, self.of_doubles);
        let made = move |arrays: &[ArrayRef]| match arrays {
            [array] => match array.data_type() {
                DataType::Float32 => Ok(of_reals(array.as_primitive())),
                DataType::Float64 => Ok(of_doubles(array.as_primitive())),
                other => exec_err!("{name} takes a float, not {}", crate::sql_type(other)),
            },
            _ => exec_err!("{name} takes one float"),
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}
