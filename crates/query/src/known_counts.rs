//! Counts that are known before anything is read, without those that are wrong.
//!
//! DataFusion answers an aggregate by what statistics say, where they say it exactly. Of a column that is a constant they say that it
//! has one distinct value: also where the constant is NULL, and where there is no row. `count(distinct x)` was 1 there. So distinct
//! values are counted.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;

/// DataFusion's rule, for plans that count no distinct values.
#[derive(Debug)]
pub(crate) struct KnownCounts(pub(crate) Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for KnownCounts {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let mut counts_distinct = false;
        plan.apply(|node| {
            let aggregate = node.downcast_ref::<AggregateExec>();
            counts_distinct |= aggregate.is_some_and(|of| of.aggr_expr().iter().any(|call| call.is_distinct()));
            Ok(if counts_distinct { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if counts_distinct { Ok(plan) } else { self.0.optimize(plan, config) }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
