//! A sort's limit outlives the sort.
//!
//! A sort that yields the first rows only is two things in one node. Where its input turns out to be in order already,
//! DataFusion takes the node away and hands the limit down to nobody: `ORDER BY id LIMIT 3` over a join that keeps the order of
//! `id` through two projections yielded all of its rows. The rule stands before the one that places sorts and puts a limit
//! of its own above each such sort; one that turns out to be needless is merged into what is below by the rule that moves
//! limits.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;

/// The rule.
#[derive(Debug)]
pub(crate) struct KeptLimits;

impl PhysicalOptimizerRule for KeptLimits {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let limit = node.downcast_ref::<SortExec>().and_then(SortExec::fetch);
            Ok(match limit {
                Some(limit) => Transformed::yes(Arc::new(GlobalLimitExec::new(node, 0, Some(limit))) as _),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "kept_limits"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
