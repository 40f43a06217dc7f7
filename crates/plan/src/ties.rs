//! Ties: every order that decides which rows are kept is made total, once, in the plan that all share.
//!
//! `row_number() over (order by total)` over two orders of one total may number them either way, so a build, a delta
//! rule and a recomputation could disagree. Before anything else is done with a plan, a unique key of the input, or
//! else all its columns, is appended to the ORDER BY of `row_number`, `ntile`, `lag`, `lead` and of LIMIT; a LIMIT
//! without order gets one. `rank` and running aggregates are left alone: to them equal rows are equal on purpose.
//!
//! `DISTINCT ON` becomes `row_number() = 1` here, so that there is one way to keep the first row of a group.

use std::sync::Arc;

use arrow::datatypes::DataType as Arrow;
use datafusion_common::tree_node::{Transformed, TreeNode as _};
use datafusion_common::{Column, Result};
use datafusion_expr::expr::{Sort as SortExpr, WindowFunction};
use datafusion_expr::logical_plan::{Distinct, DistinctOn, Limit, Projection, Sort, SubqueryAlias, Window};
use datafusion_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, col, lit};

use crate::alike::whole_key;
use crate::functions::functions;
use crate::lower::unique_columns;
use crate::total_order::total_order;

/// The number of a row in its DISTINCT ON group; no column of a user's.
const DISTINCT_ON_NUMBER: &str = "__distinct_on_number";

/// The plan with every such order made total.
pub(crate) fn broken(plan: LogicalPlan) -> Result<LogicalPlan> {
    let broken = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(window) => window_with_ties(window),
        LogicalPlan::Limit(limit) => limit_with_ties(limit),
        LogicalPlan::Distinct(Distinct::On(distinct)) => first_of_each(distinct),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(broken.data)
}

fn window_with_ties(window: Window) -> Result<Transformed<LogicalPlan>> {
    if !window.window_expr.iter().any(needs_total_order) {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let ties = ties(&window.input);
    let exprs = window.window_expr.iter().map(|expr| with_ties(expr, &ties)).collect::<Result<Vec<_>>>()?;
    Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(exprs, window.input)?)))
}

fn window_function(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::Alias(alias) => window_function(&alias.expr),
        Expr::WindowFunction(function) => Some(function),
        _ => None,
    }
}

fn needs_total_order(expr: &Expr) -> bool {
    window_function(expr).is_some_and(|f| matches!(f.fun.name(), "row_number" | "ntile" | "lag" | "lead"))
}

/// The same window function, under the same name, in a total order.
fn with_ties(expr: &Expr, ties: &[SortExpr]) -> Result<Expr> {
    let Some(function) = window_function(expr).filter(|_| needs_total_order(expr)) else {
        return Ok(expr.clone());
    };
    let mut function = function.clone();
    let params = &mut function.params;
    let (partition, order) = (&params.partition_by, &params.order_by);
    let missing = ties.iter().filter(|tie| !partition.contains(&tie.expr) && !order.iter().any(|o| o.expr == tie.expr));
    params.order_by = order.iter().chain(missing).cloned().collect();
    Ok(Expr::from(function).alias(expr.schema_name().to_string()))
}

/// A unique key of a plan's rows, else all columns that have an order and tell rows apart; floats in one that knows two zeros
/// ([`crate::total_order`]), intervals and arrays in one that knows their forms ([`crate::alike`]), as rows that differ by
/// them are two.
fn ties(input: &LogicalPlan) -> Vec<SortExpr> {
    let schema = input.schema();
    let column = |i| Expr::Column(Column::from(schema.qualified_field(i)));
    let whole = |i: usize| match schema.field(i).data_type() {
        Arrow::Float32 | Arrow::Float64 => Some(total_order(column(i))),
        nested @ (Arrow::Interval(_) | Arrow::Duration(_) | Arrow::List(_)) => whole_key(column(i), nested),
        Arrow::Struct(_) | Arrow::Map(..) => None,
        _ => Some(column(i)),
    };
    let exprs: Vec<Expr> = match unique_columns(input) {
        Some(key) => key.into_iter().map(column).collect(),
        None => {
            let telling: Vec<Expr> =
                (0..schema.fields().len()).filter(|i| !is_constant(input, *i)).filter_map(whole).collect();
            if telling.is_empty() { (0..schema.fields().len()).filter_map(whole).collect() } else { telling }
        }
    };
    exprs.into_iter().map(|expr| SortExpr::new(expr, true, false)).collect()
}

/// Whether a column has the same value in all rows. In an order it would only be computed, and fail, for nothing.
fn is_constant(plan: &LogicalPlan, column: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => match projection.expr[column].clone().unalias() {
            Expr::Column(below) => {
                projection.input.schema().index_of_column(&below).is_ok_and(|i| is_constant(&projection.input, i))
            }
            expr => !expr.any_column_refs() && !expr.is_volatile() && !has_subquery(&expr),
        },
        LogicalPlan::SubqueryAlias(alias) => is_constant(&alias.input, column),
        LogicalPlan::Filter(filter) => is_constant(&filter.input, column),
        LogicalPlan::Sort(sort) => is_constant(&sort.input, column),
        LogicalPlan::Limit(limit) => is_constant(&limit.input, column),
        _ => false,
    }
}

fn has_subquery(expr: &Expr) -> bool {
    let is_one = |part: &Expr| matches!(part, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_));
    expr.exists(|part| Ok(is_one(part))).unwrap_or(true)
}

fn limit_with_ties(limit: Limit) -> Result<Transformed<LogicalPlan>> {
    let input = match sorted_totally(&limit.input) {
        Some(input) => input,
        None => {
            let order = ties(&limit.input);
            if order.is_empty() {
                return Ok(Transformed::no(LogicalPlan::Limit(limit)));
            }
            LogicalPlan::Sort(Sort { expr: order, input: limit.input, fetch: None })
        }
    };
    Ok(Transformed::yes(LogicalPlan::Limit(Limit { input: Arc::new(input), ..limit })))
}

/// The plan with the order below its projections made total; none if there is no order.
fn sorted_totally(plan: &LogicalPlan) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(sort) => {
            let ties = ties(&sort.input);
            let missing = ties.into_iter().filter(|tie| !sort.expr.iter().any(|o| o.expr == tie.expr));
            let expr = sort.expr.iter().cloned().chain(missing).collect();
            Some(LogicalPlan::Sort(Sort { expr, ..sort.clone() }))
        }
        LogicalPlan::Projection(projection) => {
            let input = Arc::new(sorted_totally(&projection.input)?);
            let exprs = projection.expr.clone();
            Projection::try_new_with_schema(exprs, input, Arc::clone(&projection.schema))
                .ok()
                .map(LogicalPlan::Projection)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = Arc::new(sorted_totally(&alias.input)?);
            SubqueryAlias::try_new(input, alias.alias.clone()).ok().map(LogicalPlan::SubqueryAlias)
        }
        _ => None,
    }
}

fn first_of_each(distinct: DistinctOn) -> Result<Transformed<LogicalPlan>> {
    let ties = ties(&distinct.input);
    let mut order = distinct.sort_expr.unwrap_or_default();
    order.retain(|sort| !distinct.on_expr.contains(&sort.expr));
    let missing: Vec<_> = ties.into_iter().filter(|tie| !order.iter().any(|o| o.expr == tie.expr)).collect();
    order.extend(missing);
    let Some(row_number) = functions().window.get("row_number") else {
        return datafusion_common::internal_err!("row_number is not registered");
    };
    let number = Expr::from(WindowFunction::new(Arc::clone(row_number), vec![]));
    let number = number.partition_by(distinct.on_expr).order_by(order).build()?.alias(DISTINCT_ON_NUMBER);
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(distinct.input))
        .window([number])?
        .filter(col(DISTINCT_ON_NUMBER).eq(lit(1_u64)))?
        .project(distinct.select_expr)?
        .build()?;
    Ok(Transformed::yes(plan))
}
