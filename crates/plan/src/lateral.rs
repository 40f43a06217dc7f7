//! A LATERAL subquery that has one row of its own, `left join lateral (select t.a * 10 as b) as y on true`, is so many
//! columns more: DataFusion's rule takes inner joins of tables alone.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::logical_plan::{Filter, Join, Projection};
use datafusion_expr::utils::conjunction;
use datafusion_expr::{Expr, JoinType, LogicalPlan};

/// The plan without such subqueries.
pub(crate) fn inlined(plan: LogicalPlan) -> Result<LogicalPlan> {
    let inlined = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match columns(&join)? {
            Some(columns) => Ok(Transformed::yes(columns)),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(inlined.data)
}

fn columns(join: &Join) -> Result<Option<LogicalPlan>> {
    let keys = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let is_true = |condition: &Expr| matches!(condition, Expr::Literal(ScalarValue::Boolean(Some(true)), _));
    let condition = conjunction(keys.chain(join.filter.clone())).filter(|condition| !is_true(condition));
    // An outer join keeps the rows of which its condition does not hold, without the columns.
    let is_possible = match join.join_type {
        JoinType::Inner => true,
        JoinType::Left => condition.is_none(),
        _ => false,
    };
    let Some(computed) = is_possible.then(|| one_row(&join.right)).flatten() else { return Ok(None) };
    let left = join.left.schema();
    let mut exprs: Vec<Expr> = left.columns().into_iter().map(Expr::Column).collect();
    for ((qualifier, field), expr) in join.right.schema().iter().zip(computed) {
        let expr = expr.clone().unalias().transform_up(|part| Ok(of_the_row(part, left)))?.data;
        exprs.push(expr.alias_qualified(qualifier.cloned(), field.name()));
    }
    let all = LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&join.left))?);
    Ok(Some(match condition {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(all))?),
        None => all,
    }))
}

/// What a subquery computes that reads nothing.
fn one_row(plan: &LogicalPlan) -> Option<&[Expr]> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => one_row(&alias.input),
        LogicalPlan::Subquery(subquery) => one_row(&subquery.subquery),
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => Some(&projection.expr),
            _ => None,
        },
        _ => None,
    }
}

/// A column of the other side is no longer one of an outer query.
fn of_the_row(part: Expr, left: &DFSchema) -> Transformed<Expr> {
    match part {
        Expr::OuterReferenceColumn(_, column) if left.has_column(&column) => Transformed::yes(Expr::Column(column)),
        other => Transformed::no(other),
    }
}
