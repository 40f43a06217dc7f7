//! Numbers become integers as PostgreSQL makes them: a decimal's half goes away from zero, a float's half to the even side.
//!
//! DataFusion cuts the digits off in a cast, and rounds a float's half away from zero. So a cast to an integer is one of the
//! rounded value, and `round(float)` is ours, in the one plan that build, upkeep and recomputation share, and in queries.

use std::sync::{Arc, LazyLock};

use arrow::compute::unary;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::{Expr, ExprSchemable, ScalarUDF, cast, lit};

use crate::float_function::float_function;
use crate::functions::functions;

/// The name under which plans show the function.
const NAME: &str = "round_even";

/// Casts to integers, and `round` of a float.
#[derive(Debug)]
pub(crate) struct Rounding;

impl FunctionRewrite for Rounding {
    fn name(&self) -> &str {
        "rounding"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let changed = match &mut expr {
            Expr::Cast(cast) if cast.field.data_type().is_integer() => whole(&mut cast.expr, schema),
            Expr::TryCast(cast) if cast.field.data_type().is_integer() => whole(&mut cast.expr, schema),
            Expr::ScalarFunction(call) if call.name() == "round" => match &mut call.args[..] {
                [value] if is_float(value, schema) => {
                    let is_real = value.get_type(schema).is_ok_and(|own| own == DataType::Float32);
                    let value = std::mem::take(value);
                    // A real is rounded as a double, and stays one.
                    expr = even(if is_real { cast(value, DataType::Float64) } else { value });
                    true
                }
                _ => false,
            },
            _ => false,
        };
        Ok(Transformed::new_transformed(expr, changed))
    }
}

/// Rounds what is no integer yet.
fn whole(expr: &mut Expr, schema: &DFSchema) -> bool {
    if is_even(expr) {
        return false;
    }
    match expr.get_type(schema) {
        Ok(DataType::Float32 | DataType::Float64) => *expr = even(std::mem::take(expr)),
        Ok(DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale)) if scale > 0 => {
            let Some(round) = functions().scalar.get("round") else { return false };
            let args = vec![std::mem::take(expr), lit(0_i32)];
            *expr = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(round), args));
        }
        _ => return false,
    }
    true
}

fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Float32 | DataType::Float64))
}

fn is_even(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.name() == NAME)
}

/// The nearest whole float; of two, the even one.
fn even(expr: Expr) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        float_function(
            NAME,
            None,
            |reals| Arc::new(unary::<_, _, Float32Type>(reals, f32::round_ties_even)),
            |doubles| Arc::new(unary::<_, _, Float64Type>(doubles, f64::round_ties_even)),
        )
    });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&FUNCTION), vec![expr]))
}
