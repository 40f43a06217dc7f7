//! The types of sums and averages: a sum of bigint is numeric, so that it cannot overflow, and so is an average of integers.

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::WindowFunctionDefinition;
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::{Expr, ExprSchemable, cast};

use super::arithmetic::as_decimal;

/// The rewrite; it stands before the agreement on types.
#[derive(Debug)]
pub(crate) struct Totals;

impl FunctionRewrite for Totals {
    fn name(&self) -> &str {
        "totals"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let changed = match &mut expr {
            Expr::AggregateFunction(call) => {
                let name = call.func.name().to_owned();
                widened(&name, &mut call.params.args, schema)
            }
            Expr::WindowFunction(call) => match &call.fun {
                WindowFunctionDefinition::AggregateUDF(function) => {
                    let name = function.name().to_owned();
                    widened(&name, &mut call.params.args, schema)
                }
                WindowFunctionDefinition::WindowUDF(_) => false,
            },
            _ => false,
        };
        Ok(Transformed::new_transformed(expr, changed))
    }
}

/// Makes a decimal of an argument that is a whole number.
fn widened(name: &str, arguments: &mut [Expr], schema: &DFSchema) -> bool {
    let [argument] = arguments else { return false };
    let Ok(own) = argument.get_type(schema) else { return false };
    let wants = match name {
        "sum" => matches!(own, DataType::Int64 | DataType::UInt32),
        "avg" => own.is_integer(),
        _ => false,
    };
    let Some(decimal) = as_decimal(&own).filter(|_| wants) else { return false };
    *argument = cast(std::mem::take(argument), decimal);
    true
}
