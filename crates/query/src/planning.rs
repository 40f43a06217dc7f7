//! How much planning a plan needs: most statements that people and pages send are one SELECT of a table, and few of the planner's
//! rules have anything to do with those.
//!
//! - A *plain* plan reads one relation by one SELECT ([`is_plain`]). The optimiser's rules of joins, subqueries and set operations leave
//!   it as it is, so they are left out ([`RULES_OF_MORE`]). The others need to go over it only once: they are in an order in which each
//!   finds what those before it have made, and what could go on from there is in plans that put one SELECT into another.
//! - A *small* plan reads so few rows that threads beside the statement's own take longer to wake than all of them ([`is_small`]). It is
//!   run in one partition, so nothing is repartitioned, merged or made to give way.
//!
//! Law: neither changes an answer. A rule that is left out would have returned the plan as it is; one that is not asked a second time
//! can only have made it faster.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::physical_expr::Distribution;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::scan::StoredProvider;

/// Rules that change nothing in a plain plan, by their names.
pub(crate) const RULES_OF_MORE: [&str; 14] = [
    "membership",
    "rewrite_set_comparison",
    "optimize_unions",
    "unions_to_filter",
    "replace_distinct_aggregate",
    "eliminate_join",
    "decorrelate_predicate_subquery",
    "scalar_subquery_to_join",
    "decorrelate_lateral_join",
    "extract_equijoin_predicate",
    "eliminate_cross_join",
    "filter_null_join_keys",
    "eliminate_outer_join",
    "leakproof",
];

/// Rows that the tables of a small plan have together.
const SMALL_ROWS_MAX: u64 = 4_096;

/// Whether a plan is one SELECT of one relation: no join, no subquery, no set operation, and no condition on what another SELECT has
/// computed, which would have to be moved into it and simplified there.
pub(crate) fn is_plain(plan: &LogicalPlan) -> bool {
    let (mut node, mut is_filtered, mut is_grouped) = (plan, false, false);
    loop {
        if has_subquery(node) {
            return false;
        }
        node = match node {
            LogicalPlan::Projection(projection) if !is_filtered => &projection.input,
            LogicalPlan::Sort(sort) if !is_filtered => &sort.input,
            LogicalPlan::Limit(limit) if !is_filtered => &limit.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Filter(filter) => {
                is_filtered = true;
                &filter.input
            }
            LogicalPlan::Aggregate(aggregate) if !is_grouped => {
                is_grouped = true;
                &aggregate.input
            }
            LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_) => return true,
            _ => return false,
        };
    }
}

fn has_subquery(node: &LogicalPlan) -> bool {
    let is_one = |expr: &Expr| {
        matches!(
            expr,
            Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::ScalarSubquery(_)
                | Expr::OuterReferenceColumn(..)
        )
    };
    let mut found = false;
    let looked = node.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(is_one(part)))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || looked.is_err()
}

/// Whether an optimised plan reads few rows, and joins them by equality alone: a product of few rows may be many.
pub(crate) fn is_small(plan: &LogicalPlan) -> bool {
    let plan = match plan {
        LogicalPlan::Explain(explain) => &explain.plan,
        LogicalPlan::Analyze(analyze) => &analyze.input,
        plan => plan,
    };
    let (mut rows, mut is_small) = (0_u64, true);
    let walked = plan.apply_with_subqueries(|node| {
        is_small &= match node {
            LogicalPlan::TableScan(scan) => match rows_of(scan) {
                Some(read) => {
                    rows = rows.saturating_add(read);
                    rows <= SMALL_ROWS_MAX
                }
                None => false,
            },
            LogicalPlan::Join(join) => !join.on.is_empty(),
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::EmptyRelation(_) => true,
            _ => false,
        };
        Ok(if is_small { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    is_small && walked.is_ok()
}

/// About how many rows a scan reads; none where that is not known.
fn rows_of(scan: &TableScan) -> Option<u64> {
    let provider = source_as_provider(&scan.source).ok()?;
    let provider: &dyn std::any::Any = provider.as_ref();
    provider.downcast_ref::<StoredProvider>()?.rows_of(&scan.filters)
}

/// The rule that puts partitions and orders right, for plans of one partition: where no node asks for either, all is right.
#[derive(Debug)]
pub(crate) struct WhereAsked(pub(crate) Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for WhereAsked {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let mut is_asked = config.execution.target_partitions > 1;
        plan.apply(|node| {
            let wants_place = |wanted: &Distribution| !matches!(wanted, Distribution::UnspecifiedDistribution);
            is_asked |= node.input_distribution_requirements().per_child_distributions().any(wants_place)
                || node.required_input_ordering().iter().any(Option::is_some);
            Ok(if is_asked { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if is_asked { self.0.optimize(plan, config) } else { Ok(plan) }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
