//! IN and EXISTS in the forms that DataFusion joins rightly.
//!
//! - `x NOT IN (SELECT c …)` becomes a join that minds NULLs by one key, `x = c`. Of a constant `x` DataFusion makes a
//!   condition on `c` alone, which goes below the join and takes the NULLs away; of a correlated subquery a join with
//!   more keys, whose NULLs it does not mind. Both say: there is no row for which `c = x` is true or unknown, and are
//!   written so, by NOT EXISTS. In the positive both become EXISTS.
//! - A correlated total has a row for every outer row: EXISTS of it is true, IN is a comparison. DataFusion would group
//!   it by the correlation, and find no row where there is nothing to group.
//! - Inside of other conditions IN becomes a mark of true or false. Where NULL and false differ it is written as a CASE.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::expr::{Exists, InSubquery};
use datafusion_expr::logical_plan::{Filter, Projection, Subquery};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

use crate::check::only_truth_counts;

/// The rule; it stands before all others.
#[derive(Debug)]
pub(crate) struct Membership;

impl OptimizerRule for Membership {
    fn name(&self) -> &str {
        "membership"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let plan = plan.map_expressions(|expr| expr.transform_up(of_total))?;
        let changed = plan.transformed;
        match plan.data {
            LogicalPlan::Filter(filter) => {
                let filter = of_filter(filter)?;
                Ok(Transformed::new_transformed(LogicalPlan::Filter(filter.data), changed || filter.transformed))
            }
            other => Ok(Transformed::new_transformed(other, changed)),
        }
    }
}

fn of_filter(filter: Filter) -> Result<Transformed<Filter>> {
    let conditions = split_conjunction_owned(filter.predicate.clone());
    let made = conditions.iter().map(|condition| of_condition(condition.clone(), &filter.input));
    let made = made.collect::<Result<Vec<_>>>()?;
    match conjunction(made.clone()) {
        Some(predicate) if made != conditions => Ok(Transformed::yes(Filter::try_new(predicate, filter.input)?)),
        _ => Ok(Transformed::no(filter)),
    }
}

fn of_condition(condition: Expr, outer: &LogicalPlan) -> Result<Expr> {
    if let Some((test, negated)) = whole(&condition) {
        return if by_one_key(test) { Ok(condition) } else { exists(test, negated, outer) };
    }
    let two_valued = only_truth_counts(&condition, true, outer.schema())?;
    let made = condition.transform_up(|part| match &part {
        Expr::InSubquery(test) if two_valued && !test.negated && !by_one_key(test) => {
            Ok(Transformed::yes(exists(test, false, outer)?))
        }
        Expr::InSubquery(test) if !two_valued => Ok(Transformed::yes(three_valued(test, outer)?)),
        _ => Ok(Transformed::no(part)),
    })?;
    Ok(made.data)
}

/// The test that a condition is, and whether it is negated.
fn whole(condition: &Expr) -> Option<(&InSubquery, bool)> {
    match condition {
        Expr::InSubquery(test) => Some((test, test.negated)),
        Expr::Not(inner) => whole(inner).map(|(test, negated)| (test, !negated)),
        _ => None,
    }
}

fn by_one_key(test: &InSubquery) -> bool {
    test.subquery.outer_ref_columns.is_empty() && !test.expr.column_refs().is_empty()
}

/// `EXISTS (SELECT … WHERE c = x)`, or `NOT EXISTS (SELECT … WHERE (c = x) IS NOT FALSE)`.
fn exists(test: &InSubquery, negated: bool, outer: &LogicalPlan) -> Result<Expr> {
    let listed_null = test.subquery.subquery.schema().field(0).is_nullable();
    let unknown = listed_null || test.expr.nullable(outer.schema())?;
    // Where nothing is NULL, the equality remains one, by which rows are looked up.
    let matches = |equal: Expr| if negated && unknown { equal.is_not_false() } else { equal };
    any(test, outer, negated, matches)
}

/// True, NULL or false.
fn three_valued(test: &InSubquery, outer: &LogicalPlan) -> Result<Expr> {
    let equal = any(test, outer, false, |equal| equal)?;
    let unknown = any(test, outer, false, Expr::is_null)?;
    when(equal, lit(!test.negated)).when(unknown, lit(ScalarValue::Boolean(None))).otherwise(lit(test.negated))
}

/// IN as a value, by rows that are looked up by equality alone: true, NULL or false.
pub(crate) fn value(test: &InSubquery, outer: &LogicalPlan) -> Result<Expr> {
    let list = &test.subquery;
    let exists = |plan: LogicalPlan| {
        let subquery = Subquery { subquery: Arc::new(plan), ..list.clone() };
        Expr::Exists(Exists { subquery, negated: false })
    };
    let null = || lit(ScalarValue::Boolean(None));
    let mut cases = when(any(test, outer, false, |equal| equal)?, lit(!test.negated));
    if test.expr.nullable(outer.schema())? {
        let some = exists(list.subquery.as_ref().clone());
        cases = cases.when(test.expr.as_ref().clone().is_null().and(some), null());
    }
    let (qualifier, field) = list.subquery.schema().qualified_field(0);
    if field.is_nullable() {
        let listed = Expr::Column((qualifier, field).into());
        let nulls = LogicalPlanBuilder::from(list.subquery.as_ref().clone()).filter(listed.is_null())?.build()?;
        cases = cases.when(exists(nulls), null());
    }
    cases.otherwise(lit(test.negated))
}

/// Whether there is a row for which this holds of `c = x`.
fn any(test: &InSubquery, outer: &LogicalPlan, negated: bool, holds: impl FnOnce(Expr) -> Expr) -> Result<Expr> {
    let Subquery { subquery, mut outer_ref_columns, spans } = test.subquery.clone();
    let subquery = renamed(subquery, outer)?;
    let (qualifier, field) = subquery.schema().qualified_field(0);
    let listed = Expr::Column((qualifier, field).into());
    let value = test.expr.as_ref().clone().transform_up(|part| match part {
        Expr::Column(column) => {
            let (_, field) = Expr::Column(column.clone()).to_field(outer.schema())?;
            let reference = Expr::OuterReferenceColumn(field, column);
            outer_ref_columns.push(reference.clone());
            Ok(Transformed::yes(reference))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let plan =
        LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery)).filter(holds(listed.eq(value.data)))?.build()?;
    let subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns, spans };
    Ok(Expr::Exists(Exists { subquery, negated }))
}

/// The column that `x IN` compares with, in a list that computes it.
const LISTED: &str = "__listed";

/// The list under a name of its own: DataFusion adds the columns of the correlation to it, one of which a cast in the
/// list may be called after. So may a column of the list, where a table is asked about itself: `i in (select i from t)` over `t`.
fn renamed(list: Arc<LogicalPlan>, outer: &LogicalPlan) -> Result<Arc<LogicalPlan>> {
    let listed = list.schema().columns();
    match list.as_ref() {
        _ if listed.iter().any(|column| outer.schema().has_column(column)) => {
            let exprs = listed.into_iter().map(|column| Expr::Column(column).alias(LISTED)).collect();
            Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, list)?)))
        }
        LogicalPlan::Projection(projection) => {
            let exprs = projection.expr.iter().map(|expr| match expr {
                Expr::Column(_) => expr.clone(),
                computed => computed.clone().unalias().alias(LISTED),
            });
            let exprs = exprs.collect();
            let projection = Projection::try_new(exprs, Arc::clone(&projection.input))?;
            Ok(Arc::new(LogicalPlan::Projection(projection)))
        }
        _ => Ok(list),
    }
}

/// A subquery that is an aggregate without groups.
enum Total<'p> {
    /// It has its row.
    Always,
    /// It has it where HAVING holds of what is below.
    If(&'p Expr, &'p Arc<LogicalPlan>),
}

fn total(plan: &LogicalPlan) -> Option<Total<'_>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => Some(Total::Always),
        LogicalPlan::Projection(projection) => total(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => total(&alias.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => total(&sort.input),
        LogicalPlan::Filter(filter) => match total(&filter.input)? {
            Total::Always => Some(Total::If(&filter.predicate, &filter.input)),
            Total::If(..) => None,
        },
        _ => None,
    }
}

/// EXISTS and IN of a correlated total by its one row.
pub(crate) fn of_total(expr: Expr) -> Result<Transformed<Expr>> {
    let made = match &expr {
        Expr::Exists(test) if !test.subquery.outer_ref_columns.is_empty() => match total(&test.subquery.subquery) {
            Some(Total::Always) => Some(lit(!test.negated)),
            Some(Total::If(condition, input)) => {
                let plan = LogicalPlanBuilder::from(input.as_ref().clone());
                let plan = plan.project([condition.clone().alias("holds")])?.build()?;
                let subquery = Subquery { subquery: Arc::new(plan), ..test.subquery.clone() };
                let holds = Expr::ScalarSubquery(subquery);
                Some(if test.negated { holds.is_not_true() } else { holds.is_true() })
            }
            None => None,
        },
        Expr::InSubquery(test) if !test.subquery.outer_ref_columns.is_empty() => match total(&test.subquery.subquery) {
            Some(Total::Always) => {
                let row = Expr::ScalarSubquery(test.subquery.clone());
                let value = test.expr.as_ref().clone();
                Some(if test.negated { value.not_eq(row) } else { value.eq(row) })
            }
            _ => None,
        },
        _ => None,
    };
    Ok(made.map_or_else(|| Transformed::no(expr), Transformed::yes))
}
