//! `coalesce`, and `nvl`, which is the same of two.
//!
//! DataFusion writes them as CASE, in which each argument stands twice: of calls inside one another there were twice as many with each
//! level, and twenty levels took two gigabytes. So only small arguments are written twice; what is larger is computed, all of
//! it. And a text that stands beside values of another kind is a value of theirs once types have agreed ([`crate::agreement`]).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::{is_not_null, kernels::zip::zip};
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::Result;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use datafusion_functions::utils::make_scalar_function;

/// Parts of arguments that are written twice.
const PARTS_MAX: usize = 64;

/// DataFusion's function of a choice.
pub(super) fn choice(inner: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Choice { inner }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Choice {
    inner: Arc<ScalarUDF>,
}

/// Whether expressions have so few parts that they may be written twice.
pub(crate) fn are_small(exprs: &[Expr]) -> bool {
    let mut parts = 0;
    exprs.iter().all(|expr| {
        let walked = expr.apply(|_| {
            parts += 1;
            Ok(if parts > PARTS_MAX { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        walked.is_ok() && parts <= PARTS_MAX
    })
}

impl ScalarUDFImpl for Choice {
    crate::as_inner!(name, aliases, signature);

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arguments).or_else(|refused| {
            let others: Vec<DataType> = arguments.iter().filter(|own| **own != DataType::Utf8).cloned().collect();
            match self.inner.inner().coerce_types(&others) {
                Ok(agreed) if others.len() < arguments.len() => Ok(vec![agreed[0].clone(); arguments.len()]),
                _ => Err(refused),
            }
        })
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match are_small(&args[..args.len().saturating_sub(1)]) {
            true => self.inner.inner().simplify(args, info),
            false => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.inner().conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner.inner().short_circuits()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_field.data_type().clone();
        let first = move |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            let rows = arrays.first().map_or(0, |array| array.len());
            let mut found = new_null_array(&data_type, rows);
            for array in arrays.iter().rev() {
                found = zip(&is_not_null(array)?, array, &found)?;
            }
            Ok(found)
        };
        make_scalar_function(first, vec![])(&args.args)
    }
}
