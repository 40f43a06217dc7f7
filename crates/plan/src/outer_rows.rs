//! What a subquery computes of the rows that are tied to an outer row.
//!
//! DataFusion takes the conditions that tie a subquery out of it and joins its rows by them. Whatever stands above such a condition then
//! sees the rows of all outer rows at once: totals it groups by the ties itself, but windows went over all of them. So windows are
//! partitioned by the ties here, and what cannot be is refused, as is a total whose row is cut or filtered where DataFusion would
//! leave out that of no rows at all.
//!
//! ```text
//! (select sum(i.qty) over (order by i.line) from items i where i.order_id = o.id limit 1)
//! (select sum(i.qty) over (partition by i.order_id order by i.line) from items i where i.order_id = o.id limit 1)
//! ```

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, Result, not_impl_err};
use datafusion_expr::expr::Exists;
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::logical_plan::{Distinct, FetchType, Limit, SkipType, Subquery, Window};
use datafusion_expr::utils::{find_out_reference_exprs, split_conjunction};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, lit, when};

/// The column that says whether the row of a total is there.
const THERE: &str = "\u{1}there";

/// The plan with windows that keep to the rows of their outer row. Before subqueries are written as joins.
pub(crate) fn partitioned(plan: LogicalPlan) -> Result<LogicalPlan> {
    let made = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(window) if !outer_references(&window.input).is_empty() => {
            Ok(Transformed::yes(within_ties(window)?))
        }
        // The columns that tie its rows would be those of the name in FROM, which has not got them.
        LogicalPlan::SubqueryAlias(alias) if is_tied_window(&alias.input)? => not_impl_err!(
            "a window function in a query in FROM that is tied to the outer query: write it without the query around it, or LATERAL"
        ),
        LogicalPlan::Join(join) => {
            let mut right = join.right.as_ref();
            while let LogicalPlan::SubqueryAlias(alias) = right {
                right = &alias.input;
            }
            match right {
                LogicalPlan::Subquery(subquery) if !is_joined_rightly(&subquery.subquery) => over_total(),
                _ => conditions(LogicalPlan::Join(join)),
            }
        }
        other => conditions(other),
    })?;
    Ok(made.data)
}

/// A node with what it asks of totals by EXISTS and IN.
fn conditions(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let made = expr.transform_up(|part| match part {
            Expr::Exists(Exists { subquery, negated }) if holds_total(&subquery.subquery) => {
                let Some(total) = Total::of(&subquery.subquery)? else { return over_total() };
                let Some(condition) = total.condition else { return Ok(Transformed::yes(lit(!negated))) };
                let plan = LogicalPlanBuilder::from(total.plan).project([condition.alias(THERE)])?.build()?;
                let there = Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), ..subquery });
                Ok(Transformed::yes(if negated { there.is_not_true() } else { there.is_true() }))
            }
            Expr::InSubquery(of) if !is_joined_rightly(&of.subquery.subquery) => over_total(),
            Expr::SetComparison(of) if !is_joined_rightly(&of.subquery.subquery) => over_total(),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(if made.transformed { made.update_data(|expr| name.restore(expr)) } else { made })
    })
}

/// The columns of outer queries that a plan reads, besides those of rows that it stands beside itself.
pub(crate) fn outer_references(plan: &LogicalPlan) -> Vec<Expr> {
    let mut found = Vec::new();
    // The closure never fails.
    drop(plan.apply_expressions(|expr| {
        found.extend(find_out_reference_exprs(expr));
        Ok(TreeNodeRecursion::Continue)
    }));
    match plan {
        LogicalPlan::Join(join) => {
            found.extend(outer_references(&join.left));
            let is_beside = |of: &Expr| match of {
                Expr::OuterReferenceColumn(_, column) => join.left.schema().has_column(column),
                _ => false,
            };
            found.extend(outer_references(&join.right).into_iter().filter(|of| !is_beside(of)));
        }
        _ => plan.inputs().into_iter().for_each(|input| found.extend(outer_references(input))),
    }
    found
}

/// Whether a query in FROM has windows over rows that are tied to an outer row; LATERAL is joined by these ties.
fn is_tied_window(plan: &LogicalPlan) -> Result<bool> {
    if matches!(plan, LogicalPlan::Subquery(_)) || outer_references(plan).is_empty() {
        return Ok(false);
    }
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Window(_))))
}

/// A window that is computed for each outer row.
fn within_ties(window: Window) -> Result<LogicalPlan> {
    let Some(ties) = ties(&window.input) else {
        return not_impl_err!(
            "a window function in a subquery that is tied to the outer query by more than equalities of its table"
        );
    };
    let mut exprs = Vec::new();
    for (expr, field) in
        window.window_expr.into_iter().zip(window.schema.fields().iter().skip(window.input.schema().fields().len()))
    {
        let name = field.name().clone();
        let partitioned = expr.transform_up(|part| match part {
            Expr::WindowFunction(mut call) => {
                let missing = ties.iter().filter(|own| !call.params.partition_by.contains(own)).cloned();
                let missing: Vec<Expr> = missing.collect();
                let is_new = !missing.is_empty();
                call.params.partition_by.extend(missing);
                let made = Expr::WindowFunction(call);
                Ok(if is_new { Transformed::yes(made) } else { Transformed::no(made) })
            }
            other => Ok(Transformed::no(other)),
        })?;
        exprs.push(if partitioned.transformed { partitioned.data.unalias().alias(name) } else { partitioned.data });
    }
    Ok(LogicalPlan::Window(Window::try_new(exprs, window.input)?))
}

/// What of the rows beneath a window is equal to something of the outer row; none where they are tied by anything else.
fn ties(plan: &LogicalPlan) -> Option<Vec<Expr>> {
    match plan {
        LogicalPlan::Window(window) => ties(&window.input),
        LogicalPlan::Filter(filter) => {
            let tied = split_conjunction(&filter.predicate).into_iter().filter(|of| of.contains_outer());
            let own = tied.map(|of| tie(of, filter.input.schema())).collect::<Option<Vec<_>>>()?;
            let below = if outer_references(&filter.input).is_empty() { Vec::new() } else { ties(&filter.input)? };
            Some(own.into_iter().chain(below).collect())
        }
        _ => None,
    }
}

/// The own side of an equality with an outer row, of which one row of this has one value.
fn tie(condition: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let (own, outer) = match (left.contains_outer(), right.contains_outer()) {
        (false, true) => (left, right),
        (true, false) => (right, left),
        _ => return None,
    };
    let (kind, other) = (own.get_type(schema).ok()?, outer.get_type(schema).ok()?);
    let is_exact = |of: &DataType| of.is_integer() || of.is_decimal();
    let is_one_value = kind == other || is_exact(&kind) && is_exact(&other);
    (is_one_value && !outer.any_column_refs()).then(|| own.as_ref().clone())
}

/// A total of the rows of an outer row, which has one row, or none where a condition on it does not hold.
pub(crate) struct Total {
    plan: LogicalPlan,
    /// When the row is there.
    condition: Option<Expr>,
    is_changed: bool,
}

impl Total {
    /// The total that a query of one row is; none where it is anything else.
    pub(crate) fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        let below = |input: &LogicalPlan| Ok(Self::of(input)?.map(|below| Self { is_changed: true, ..below }));
        match plan {
            LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() && !holds_total(&aggregate.input) => {
                Ok(Some(Self { plan: plan.clone(), condition: None, is_changed: false }))
            }
            LogicalPlan::Limit(limit) if keeps_one(limit)? => below(&limit.input),
            LogicalPlan::Sort(sort) if sort.fetch.is_none_or(|fetch| fetch > 0) => below(&sort.input),
            LogicalPlan::Distinct(Distinct::All(input)) => below(input),
            LogicalPlan::Filter(filter) if !filter.predicate.contains_outer() => {
                let Some(below) = below(&filter.input)? else { return Ok(None) };
                let condition = match below.condition {
                    Some(condition) => condition.and(filter.predicate.clone()),
                    None => filter.predicate.clone(),
                };
                Ok(Some(Self { condition: Some(condition), ..below }))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let Some(below) = Self::of(&alias.input)? else { return Ok(None) };
                let name = &alias.alias;
                let condition = below.condition.map(|condition| {
                    condition.transform_up(|part| match part {
                        Expr::Column(of) => {
                            Ok(Transformed::yes(Expr::Column(Column::new(Some(name.clone()), of.name))))
                        }
                        other => Ok(Transformed::no(other)),
                    })
                });
                let condition = condition.transpose()?.map(|made| made.data);
                // What DataFusion adds to a query it does not add to the columns of an alias.
                let columns = below.plan.schema().iter().map(|(qualifier, field)| {
                    let column = Expr::Column(Column::from((qualifier, field)));
                    column.alias_qualified(Some(name.clone()), field.name())
                });
                let columns: Vec<Expr> = columns.collect();
                let plan = LogicalPlanBuilder::from(below.plan).project(columns)?.build()?;
                Ok(Some(Self { plan, condition, is_changed: true }))
            }
            LogicalPlan::Projection(projection) => {
                let Some(below) = Self::of(&projection.input)? else { return Ok(None) };
                let there = below.condition.map(|condition| condition.alias(THERE));
                let condition = there.as_ref().map(|_| Expr::Column(Column::new_unqualified(THERE)));
                let exprs: Vec<Expr> = projection.expr.iter().cloned().chain(there).collect();
                let plan = LogicalPlanBuilder::from(below.plan).project(exprs)?.build()?;
                Ok(Some(Self { plan, condition, is_changed: below.is_changed }))
            }
            _ => Ok(None),
        }
    }

    /// Whether rows are cut off that it is of.
    pub(crate) fn is_limited(&self) -> bool {
        holds_limit(&self.plan)
    }

    /// The query that has one row, with the first column alone; none where it is that already.
    pub(crate) fn value(self) -> Result<Option<LogicalPlan>> {
        if !self.is_changed {
            return Ok(None);
        }
        let (qualifier, field) = self.plan.schema().qualified_field(0);
        let name = field.name().clone();
        let column = Expr::Column(Column::from((qualifier, field)));
        let Some(condition) = self.condition else { return Ok(Some(self.plan)) };
        let value = when(condition, column).end()?.alias(name);
        Ok(Some(LogicalPlanBuilder::from(self.plan).project([value])?.build()?))
    }
}

/// Whether a limit leaves a single row.
fn keeps_one(limit: &Limit) -> Result<bool> {
    let fetches = match limit.get_fetch_type()? {
        FetchType::Literal(fetch) => fetch.is_none_or(|fetch| fetch > 0),
        FetchType::UnsupportedExpr => false,
    };
    Ok(fetches && matches!(limit.get_skip_type()?, SkipType::Literal(0)))
}

/// Whether there is a total in a query of rows that are tied to an outer row.
pub(crate) fn holds_total(plan: &LogicalPlan) -> bool {
    let is_total = match plan {
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.group_expr.is_empty() && !outer_references(&aggregate.input).is_empty()
        }
        _ => false,
    };
    is_total || plan.inputs().into_iter().any(holds_total)
}

/// Whether there is a limit in a query of rows that are tied to an outer row.
pub(crate) fn holds_limit(plan: &LogicalPlan) -> bool {
    let is_limit = matches!(plan, LogicalPlan::Limit(limit) if !outer_references(&limit.input).is_empty());
    is_limit || plan.inputs().into_iter().any(holds_limit)
}

/// Whether DataFusion's join keeps the row that a total has of no rows.
fn is_joined_rightly(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => is_joined_rightly(&alias.input),
        LogicalPlan::Projection(projection) => is_joined_rightly(&projection.input),
        LogicalPlan::Sort(sort) => is_joined_rightly(&sort.input),
        LogicalPlan::Aggregate(aggregate) => !holds_total(&aggregate.input),
        other => !holds_total(other),
    }
}

/// Says that a total's row cannot be told from that of no rows.
pub(crate) fn over_total<T>() -> Result<T> {
    not_impl_err!("a query over an aggregate of rows that are tied to the outer query")
}

/// Says that the rows of an outer row are not cut off.
pub(crate) fn limited<T>() -> Result<T> {
    not_impl_err!("LIMIT and OFFSET in a subquery that is tied to the outer query, but for LIMIT 1 at its end")
}
