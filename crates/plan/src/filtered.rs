//! What a FILTER leaves out is not computed.
//!
//! `sum(total / parts) FILTER (WHERE parts > 0)` divides by no zero: an aggregate's argument means something only of rows
//! that its filter lets through. DataFusion computes it of all rows, and our maps do so below a group. So an argument that
//! may fail is put under the filter's own condition, once the types are agreed on, in the one plan that build, upkeep and
//! recomputation share, and in queries.

use std::sync::Arc;

use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::Case;
use datafusion_expr::logical_plan::{Aggregate, Window};
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::AnalyzerRule;

use crate::fallible::may_fail_over;

/// The analyser's rule; it stands after the agreement on types.
#[derive(Debug)]
pub struct OnlyFiltered;

impl AnalyzerRule for OnlyFiltered {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(node)?.data)
    }

    fn name(&self) -> &str {
        "only_filtered"
    }
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
    let (filter, arguments) = match expr {
        Expr::Alias(alias) => {
            let inner = of_call(&alias.expr, schema).unalias();
            let mut alias = alias.clone();
            alias.expr = Box::new(inner);
            return Expr::Alias(alias);
        }
        Expr::AggregateFunction(call) => (&call.params.filter, &call.params.args),
        Expr::WindowFunction(call) => (&call.params.filter, &call.params.args),
        _ => return expr.clone(),
    };
    let Some(filter) = filter else { return expr.clone() };
    let args: Vec<_> = arguments.iter().map(|argument| of_argument(argument, filter, schema)).collect();
    if args == *arguments {
        return expr.clone();
    }
    let name = expr.schema_name().to_string();
    let mut made = expr.clone();
    match &mut made {
        Expr::AggregateFunction(call) => call.params.args = args,
        Expr::WindowFunction(call) => call.params.args = args,
        _ => {}
    }
    made.alias(name)
}

fn of_argument(argument: &Expr, filter: &Expr, schema: &DFSchema) -> Expr {
    let is_done =
        matches!(argument, Expr::Case(case) if case.when_then_expr.first().is_some_and(|(when, _)| **when == *filter));
    if is_done || !may_fail_over(argument, schema) {
        return argument.clone();
    }
    let when_then_expr = vec![(Box::new(filter.clone()), Box::new(argument.clone()))];
    Expr::Case(Case { expr: None, when_then_expr, else_expr: None })
}
