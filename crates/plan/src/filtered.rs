//! What a FILTER leaves out is not computed.
//!
//! `sum(total / parts) FILTER (WHERE parts > 0)` divides by no zero: an aggregate's argument, and what its rows are ordered by,
//! mean something only of rows that its filter lets through. DataFusion computes them of all rows, and our maps do so below a
//! group. So what may fail is put under the filter's own condition, once the types are agreed on, in the one plan that build,
//! upkeep and recomputation share, and in queries.
//!
//! In a filter of several conditions those that may fail are tried where the others hold ([`in_order`]): first what cannot
//! fail, then the others in the order in which they were written. So it is for every condition that chooses rows: of an
//! aggregate, of a map, of a join, and in queries.

use std::sync::Arc;

use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::Case;
use datafusion_expr::logical_plan::{Aggregate, Window};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, LogicalPlan};

use crate::fallible::may_fail_over;

/// The analyser's rule; it stands after the agreement on types.
pub(crate) fn analysed(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(node)?.data)
}

fn node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let changed = match &plan {
        LogicalPlan::Aggregate(aggregate) => {
            let results = changed(&aggregate.aggr_expr, aggregate.input.schema());
            let made = |results| {
                let group = aggregate.group_expr.clone();
                Aggregate::try_new(Arc::clone(&aggregate.input), group, results).map(LogicalPlan::Aggregate)
            };
            results.map(made).transpose()?
        }
        LogicalPlan::Window(window) => {
            let exprs = changed(&window.window_expr, window.input.schema());
            let made = |exprs| Window::try_new(exprs, Arc::clone(&window.input)).map(LogicalPlan::Window);
            exprs.map(made).transpose()?
        }
        _ => None,
    };
    Ok(changed.map_or_else(|| Transformed::no(plan), Transformed::yes))
}

/// The expressions with such arguments under their filters; none if there are none.
fn changed(exprs: &[Expr], schema: &DFSchema) -> Option<Vec<Expr>> {
    let made: Vec<_> = exprs.iter().map(|expr| of_call(expr, schema)).collect();
    (made != exprs).then_some(made)
}

fn of_call(expr: &Expr, schema: &DFSchema) -> Expr {
    if let Expr::Alias(alias) = expr {
        let inner = of_call(&alias.expr, schema).unalias();
        let mut alias = alias.clone();
        alias.expr = Box::new(inner);
        return Expr::Alias(alias);
    }
    let mut made = expr.clone();
    let (filter, parts) = match &mut made {
        Expr::AggregateFunction(call) => {
            let order = call.params.order_by.iter_mut().map(|sort| &mut sort.expr);
            (&mut call.params.filter, call.params.args.iter_mut().chain(order).collect::<Vec<_>>())
        }
        // A window's order is one of all its rows.
        Expr::WindowFunction(call) => (&mut call.params.filter, call.params.args.iter_mut().collect()),
        _ => return expr.clone(),
    };
    let Some(filter) = filter else { return expr.clone() };
    **filter = in_order(std::mem::take(filter.as_mut()), schema);
    for part in parts {
        *part = of_part(part, filter, schema);
    }
    // Its name is what it was.
    if made == *expr { made } else { made.alias(expr.schema_name().to_string()) }
}

/// The conditions that may fail, one below the other, under those that cannot. It is true of the same rows.
pub fn in_order(filter: Expr, schema: &DFSchema) -> Expr {
    let Some(ordered) = tried(&filter, schema) else { return filter };
    ordered.into_iter().rev().reduce(|inner, outer| under(outer, inner)).unwrap_or(filter)
}

/// The conditions of a filter in the order in which they are tried, each on the rows that those before it let through;
/// none if that is no matter.
pub fn tried(filter: &Expr, schema: &DFSchema) -> Option<Vec<Expr>> {
    let mut conditions = Vec::new();
    collect(filter.clone(), &mut conditions);
    let (fallible, safe): (Vec<_>, Vec<_>) =
        conditions.into_iter().partition(|condition| may_fail_over(condition, schema));
    if fallible.is_empty() || fallible.len() + safe.len() == 1 {
        return None;
    }
    Some(conjunction(safe).into_iter().chain(fallible).collect())
}

/// The conditions of which all must be true; those that were put in order count one by one.
fn collect(filter: Expr, conditions: &mut Vec<Expr>) {
    for condition in split_conjunction_owned(filter) {
        match condition {
            Expr::Case(Case { expr: None, mut when_then_expr, else_expr: None }) if when_then_expr.len() == 1 => {
                for (outer, inner) in when_then_expr.drain(..) {
                    collect(*outer, conditions);
                    collect(*inner, conditions);
                }
            }
            other => conditions.push(other),
        }
    }
}

/// What is computed only where a condition holds; NULL elsewhere.
fn under(condition: Expr, inner: Expr) -> Expr {
    Expr::Case(Case { expr: None, when_then_expr: vec![(Box::new(condition), Box::new(inner))], else_expr: None })
}

fn of_part(argument: &Expr, filter: &Expr, schema: &DFSchema) -> Expr {
    let is_done =
        matches!(argument, Expr::Case(case) if case.when_then_expr.first().is_some_and(|(when, _)| **when == *filter));
    if is_done || !may_fail_over(argument, schema) {
        return argument.clone();
    }
    under(filter.clone(), argument.clone())
}
