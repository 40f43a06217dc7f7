//! Subqueries as values, where DataFusion takes them for something else.
//!
//! One that has no row is NULL, whatever its column is: `coalesce((select id from t where false), 0)` was NULL, since `id` never is.
//! And what `total >= all (select total from orders)` compares are columns of two queries: where the outer one reads `orders` too, it
//! was the inner column on both sides. That there is one row at most is seen to in [`crate::one_row`].

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, Result, exec_err, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::logical_plan::Union;
use datafusion_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use crate::one_row;

/// What a column is called that is compared with a value outside of its query.
const COMPARED: &str = "\u{1}compared";

/// The plan with what its subqueries are told.
pub(crate) fn analysed(plan: LogicalPlan) -> Result<LogicalPlan> {
    let made = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let made = expr.transform_up(value)?;
            Ok(if made.transformed { made.update_data(|expr| name.restore(expr)) } else { made })
        })
    })?;
    Ok(match made.transformed {
        // What is above has been planned over columns that are never NULL.
        true => made.data.transform_up_with_subqueries(|node| recomputed(node).map(Transformed::yes))?.data,
        false => made.data,
    })
}

/// The node over what its inputs are now. The planner keeps what it knows of a union.
fn recomputed(node: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Union(union) = node else { return node.recompute_schema() };
    let made = Union::try_new(union.inputs.clone())?;
    let is_same = |(old, new): (&FieldRef, &FieldRef)| old.name() == new.name() && old.data_type() == new.data_type();
    let (before, after) = (union.schema.fields(), made.schema.fields());
    let fits = before.len() == after.len() && before.iter().zip(after.iter()).all(is_same);
    Ok(LogicalPlan::Union(if fits { made } else { union }))
}

fn value(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::ScalarSubquery(of) = expr else { return told(expr) };
    let of_one_row = one_row::value(of)?;
    match of_one_row.transformed {
        true => Ok(of_one_row),
        false => told(of_one_row.data),
    }
}

fn told(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::ScalarSubquery(of) if !has_one_row(&of.subquery) => {
            Ok(Transformed::yes(or_null(Expr::ScalarSubquery(of))))
        }
        // What was analysed before is not told twice.
        Expr::ScalarFunction(mut call) if is_or_null(&call) => match &call.args[..] {
            [Expr::ScalarFunction(inner)] if is_or_null(inner) => Ok(Transformed::yes(call.args.remove(0))),
            _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
        },
        Expr::SetComparison(mut of) => {
            let inner = of.subquery.subquery.schema();
            if inner.fields().first().is_none_or(|field| field.name() == COMPARED) {
                return Ok(Transformed::no(Expr::SetComparison(of)));
            }
            let column = Expr::Column(Column::from(inner.qualified_field(0))).alias(COMPARED);
            let plan = LogicalPlanBuilder::from(of.subquery.subquery.as_ref().clone()).project([column])?.build()?;
            of.subquery.subquery = Arc::new(plan);
            Ok(Transformed::yes(Expr::SetComparison(of)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether a query has a row whatever it reads.
fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => has_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_one_row(&alias.input),
        LogicalPlan::Sort(sort) => sort.fetch.is_none() && has_one_row(&sort.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

fn is_or_null(call: &ScalarFunction) -> bool {
    call.func.inner().downcast_ref::<OrNull>().is_some()
}

fn or_null(expr: Expr) -> Expr {
    let function = Arc::new(ScalarUDF::new_from_impl(OrNull { signature: Signature::any(1, Volatility::Immutable) }));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![expr]))
}

/// A value as it is, of which its type does not say that it may be NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OrNull {
    signature: Signature,
}

impl ScalarUDFImpl for OrNull {
    fn name(&self) -> &str {
        "or_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [own] => Ok(own.clone()),
            _ => plan_err!("or_null takes one value"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match args.arg_fields {
            [own] => Ok(Arc::new(own.as_ref().clone().with_name(self.name()).with_nullable(true))),
            _ => plan_err!("or_null takes one value"),
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.pop() {
            Some(value) => Ok(value),
            None => exec_err!("or_null takes one value"),
        }
    }
}
