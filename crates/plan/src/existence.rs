//! `EXISTS` and `IN` as values: `select exists (select …) as has_orders, id in (select …) as is_new`.
//!
//! DataFusion turns both into joins only in a condition. In a SELECT list EXISTS becomes `(select count(*) …) > 0` here,
//! which has a form that everybody can run and keep, and IN a CASE of such tests, with its NULLs.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::expr::{AggregateFunction, Exists};
use datafusion_expr::logical_plan::{Projection, Subquery};
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use crate::functions::functions;
use crate::membership::{of_total, value};

/// The plan with EXISTS in SELECT lists counted.
pub(crate) fn counted(plan: LogicalPlan) -> Result<LogicalPlan> {
    let counted = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Projection(projection) if projection.expr.iter().any(has_exists) => {
            let input = &projection.input;
            let exprs =
                projection.expr.into_iter().map(|expr| count_matches(expr, input)).collect::<Result<Vec<_>>>()?;
            Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, projection.input)?)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(counted.data)
}

fn has_exists(expr: &Expr) -> bool {
    expr.exists(|part| Ok(matches!(part, Expr::Exists(_) | Expr::InSubquery(_)))).unwrap_or(false)
}

fn count_matches(expr: Expr, outer: &LogicalPlan) -> Result<Expr> {
    if !has_exists(&expr) {
        return Ok(expr);
    }
    let name = expr.schema_name().to_string();
    let listed = expr.transform_up(of_total)?.data.transform_up(|part| match part {
        Expr::InSubquery(test) => Ok(Transformed::yes(value(&test, outer)?)),
        other => Ok(Transformed::no(other)),
    })?;
    let counted = listed.data.transform_up(|part| match part {
        Expr::Exists(test) => Ok(Transformed::yes(any(test)?)),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(counted.data.unalias().alias(name))
}

fn any(test: Exists) -> Result<Expr> {
    let Some(count) = functions().aggregate.get("count") else {
        return datafusion_common::internal_err!("count is not registered");
    };
    let rows = Expr::AggregateFunction(AggregateFunction::new_udf(
        Arc::clone(count),
        vec![lit(1_i64)],
        false,
        None,
        vec![],
        None,
    ));
    let Exists { subquery: Subquery { subquery, outer_ref_columns, spans }, negated } = test;
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery));
    let plan = plan.aggregate(Vec::<Expr>::new(), vec![rows.alias("count")])?.build()?;
    let matches = Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans });
    Ok(if negated { matches.eq(lit(0_i64)) } else { matches.gt(lit(0_i64)) })
}
