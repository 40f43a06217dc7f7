//! What a physical plan believes to be constant, put right.
//!
//! An order leaves out what is constant. DataFusion takes a column for constant above an outer join if it is so in the
//! input that the join pads, though some of its values are NULL then; above grouping sets, where it is NULL for the sets
//! without it; and above a UNION if it is so in each input, with whatever value. `ORDER BY total` over a padded total and
//! the first rows of a union came out of order.
//!
//! The rule stands before the one that places sorts. It puts a node above such operators that hands the batches on
//! and says nothing about them. Sorts stay above it: below, they would leave out what they should not.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{JoinType, Statistics, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::equivalence::AcrossPartitions;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, PlanProperties,
    ReplaceChildrenOptions, StatisticsArgs,
};

/// The rule.
#[derive(Debug)]
pub(crate) struct TrueConstants;

impl PhysicalOptimizerRule for TrueConstants {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let node = if believes_wrongly(&node) {
                Transformed::yes(Arc::new(NoConstants::new(node)) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(node)
            };
            Ok(node)
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "true_constants"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn believes_wrongly(node: &Arc<dyn ExecutionPlan>) -> bool {
    let constants = node.equivalence_properties().constants();
    if constants.is_empty() {
        return false;
    }
    if node.downcast_ref::<UnionExec>().is_some() {
        return constants.iter().any(|constant| constant.across_partitions == AcrossPartitions::Heterogeneous);
    }
    node.downcast_ref::<AggregateExec>().is_some_and(|groups| groups.group_expr().has_grouping_set()) || pads(node)
}

/// Whether a node is an outer join.
fn pads(node: &Arc<dyn ExecutionPlan>) -> bool {
    let join_type = if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        *join.join_type()
    } else if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
        join.join_type()
    } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        *join.join_type()
    } else {
        return false;
    };
    matches!(join_type, JoinType::Left | JoinType::Right | JoinType::Full)
}

/// Its input's batches, of which no column is said to be constant, and no order is known.
#[derive(Debug)]
struct NoConstants {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl NoConstants {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for NoConstants {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoConstants")
    }
}

impl ExecutionPlan for NoConstants {
    fn name(&self) -> &'static str {
        "NoConstants"
    }

    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return internal_err!("a plan without constants has an input") };
        Ok(Arc::new(Self::new(input)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        match inputs {
            [input] => Ok(Arc::clone(input)),
            _ => internal_err!("a plan without constants has an input"),
        }
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
