//! `NOT IN (SELECT …)` whose two sides do not meet in one key: as NOT EXISTS.
//!
//! DataFusion makes a join of `x NOT IN (SELECT c …)` that minds NULLs by one key, `x = c`. Of a constant it makes a
//! condition on `c` alone, which goes below the join and takes the NULLs away; of a correlated subquery a join with more
//! keys, whose NULLs it does not mind. Both say the same as: there is no row for which `c = x` is true or unknown.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::expr::{Exists, InSubquery};
use datafusion_expr::logical_plan::{Filter, Subquery};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

/// The rule.
#[derive(Debug)]
pub(crate) struct NotIn;

impl OptimizerRule for NotIn {
    fn name(&self) -> &str {
        "not_in_by_not_exists"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
        let mut changed = false;
        let mut conditions = Vec::new();
        for condition in split_conjunction_owned(filter.predicate.clone()) {
            conditions.push(match negated_test(&condition).filter(|test| !by_one_key(test)) {
                Some(test) => {
                    changed = true;
                    none_equal(test, &filter.input)?
                }
                None => condition,
            });
        }
        if !changed {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        let Some(predicate) = conjunction(conditions) else {
            return datafusion_common::internal_err!("a filter has a condition");
        };
        Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
    }
}

/// The test of `x NOT IN (…)` and `NOT x IN (…)`.
fn negated_test(condition: &Expr) -> Option<&InSubquery> {
    match condition {
        Expr::InSubquery(test) if test.negated => Some(test),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InSubquery(test) if !test.negated => Some(test),
            _ => None,
        },
        _ => None,
    }
}

fn by_one_key(test: &InSubquery) -> bool {
    test.subquery.outer_ref_columns.is_empty() && !test.expr.column_refs().is_empty()
}

/// `NOT EXISTS (SELECT … WHERE (c = x) IS NOT FALSE)`.
fn none_equal(test: &InSubquery, outer: &LogicalPlan) -> Result<Expr> {
    let Subquery { subquery, outer_ref_columns, spans } = test.subquery.clone();
    let (qualifier, field) = subquery.schema().qualified_field(0);
    let listed = Expr::Column((qualifier, field).into());
    let mut outer_ref_columns = outer_ref_columns;
    let value = test.expr.as_ref().clone().transform_up(|part| match part {
        Expr::Column(column) => {
            let (_, field) = Expr::Column(column.clone()).to_field(outer.schema())?;
            let reference = Expr::OuterReferenceColumn(field, column);
            outer_ref_columns.push(reference.clone());
            Ok(Transformed::yes(reference))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let unknown = test.expr.nullable(outer.schema())? || field.is_nullable();
    let equal = listed.eq(value.data);
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(Arc::clone(&subquery)));
    // Where nothing is NULL, the equality remains one, by which rows are looked up.
    let plan = plan.filter(if unknown { equal.is_not_false() } else { equal })?.build()?;
    let subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns, spans };
    Ok(Expr::Exists(Exists { subquery, negated: true }))
}
