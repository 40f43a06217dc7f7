//! Conditions that may fail are tried on the rows that the others let through.
//!
//! `WHERE parts <> 0 AND total / parts > 5` is one condition to DataFusion, which computes both parts of all rows of a
//! batch: the query ends with a division by zero of a row that it would not have shown. So a filter of several conditions
//! of which one may fail becomes a filter above another: first what cannot fail, then the others in the order in which they
//! were written. In the condition of a join they stand under each other.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::{Filter, Join, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use plan::filtered::{in_order, tried};

/// The rule; it stands behind all others, which put filters together.
#[derive(Debug)]
pub(crate) struct InOrder;

impl OptimizerRule for InOrder {
    fn name(&self) -> &'static str {
        "in_order"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(filter) => of_filter(filter),
            LogicalPlan::Join(join) => of_join(join),
            other => Ok(Transformed::no(other)),
        }
    }
}

fn of_filter(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let Some(conditions) = tried(&filter.predicate, filter.input.schema()) else {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    };
    let mut input = filter.input;
    for predicate in conditions {
        input = Arc::new(LogicalPlan::Filter(Filter::try_new(predicate, input)?));
    }
    Ok(Transformed::yes(Arc::unwrap_or_clone(input)))
}

/// What a join asks of its pairs beyond the keys is one condition.
fn of_join(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let Some(filter) = join.filter.take() else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
    let schema = join.left.schema().join(join.right.schema())?;
    let ordered = in_order(filter.clone(), &schema);
    let changed = ordered != filter;
    join.filter = Some(ordered);
    Ok(Transformed::new_transformed(LogicalPlan::Join(join), changed))
}
