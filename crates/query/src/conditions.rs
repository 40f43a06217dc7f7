//! Conditions that may fail are tried on the rows that the others let through.
//!
//! `WHERE parts <> 0 AND total / parts > 5` is one condition to DataFusion, which computes both parts of all rows of a
//! batch: the query ends with a division by zero of a row that it would not have shown. So a filter of several conditions
//! of which one may fail becomes a filter above another: first what cannot fail, then the others in the order in which they
//! were written.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Filter, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

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
        let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
        let conditions = split_conjunction_owned(filter.predicate.clone());
        let (fallible, safe): (Vec<_>, Vec<_>) =
            conditions.into_iter().partition(|condition| plan::may_fail_over(condition, filter.input.schema()));
        if fallible.is_empty() || fallible.len() + safe.len() == 1 {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        let mut input = filter.input;
        for predicate in conjunction(safe).into_iter().chain(fallible) {
            input = Arc::new(LogicalPlan::Filter(Filter::try_new(predicate, input)?));
        }
        Ok(Transformed::yes(Arc::unwrap_or_clone(input)))
    }
}
