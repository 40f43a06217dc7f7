//! What a subquery says as an order, or beside DISTINCT ON, which neither computes: the projection beneath them does.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Distinct, DistinctOn, Expr, LogicalPlan, LogicalPlanBuilder, Sort};

/// Stands before the number of such an order; no column is called so.
const MARK: char = '\u{2}';

/// The plan with the subqueries of its sorts and of its DISTINCT ON computed beneath them.
pub(crate) fn by_subqueries(plan: LogicalPlan) -> Result<LogicalPlan> {
    let made = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Sort(sort) if sort.expr.iter().any(|by| asks(&by.expr)) => beneath(sort).map(Transformed::yes),
        LogicalPlan::Distinct(Distinct::On(on)) if on.select_expr.iter().any(asks) => under(on).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(made.data)
}

/// Whether a subquery stands in an expression.
fn asks(expr: &Expr) -> bool {
    let is_one = |expr: &Expr| {
        matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) | Expr::ScalarSubquery(_))
    };
    expr.exists(|expr| Ok(is_one(expr))).unwrap_or(false)
}

fn beneath(sort: Sort) -> Result<LogicalPlan> {
    let input = sort.input.as_ref().clone();
    let own: Vec<Expr> = input.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
    let (mut all, mut order) = (own.clone(), Vec::with_capacity(sort.expr.len()));
    for (at, mut by) in sort.expr.into_iter().enumerate() {
        if asks(&by.expr) {
            let name = format!("{MARK}{at}");
            let value = std::mem::replace(&mut by.expr, Expr::Column(Column::new_unqualified(name.as_str())));
            all.push(value.alias(name));
        }
        order.push(by);
    }
    LogicalPlanBuilder::from(input).project(all)?.sort_with_limit(order, sort.fetch)?.project(own)?.build()
}

/// The first rows by some columns, of results that are there already.
fn under(on: DistinctOn) -> Result<LogicalPlan> {
    let input = on.input.as_ref().clone();
    let mut all: Vec<Expr> = input.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
    let mut results = Vec::with_capacity(on.select_expr.len());
    for (at, result) in on.select_expr.into_iter().enumerate() {
        if !asks(&result) {
            results.push(result);
            continue;
        }
        let (table, name) = result.qualified_name();
        let hidden = format!("{MARK}{at}");
        all.push(result.unalias().alias(hidden.as_str()));
        results.push(Expr::Column(Column::new_unqualified(hidden)).alias_qualified(table, name));
    }
    let beneath = LogicalPlanBuilder::from(input).project(all)?.build()?;
    let made = DistinctOn::try_new(on.on_expr, results, on.sort_expr, Arc::new(beneath))?;
    Ok(LogicalPlan::Distinct(Distinct::On(made)))
}
