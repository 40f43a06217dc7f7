//! What somebody may read of a relation is computed before anything that they write.
//!
//! A view over rows that its reader may not see is safe only while the view's own conditions come first: `1 / (total - 10)`,
//! computed of a row before it is left out, tells by its error that the row is there. DataFusion moves conditions, projections
//! and limits wherever the answer stays the same, and an error is no answer to it. So a view that is read by grant stands behind a
//! node that nothing moves across.
//!
//! Two things pass. Columns that nobody asks for are not read. And comparisons go below ([`Leakproof`]) that can neither fail nor
//! tell of what they compare, which PostgreSQL calls leakproof: without them each look at a key would read the whole table. They
//! compare what is stored: a column that the view computes would be computed for them, of rows that are not their reader's.
//!
//! What fails below is told without its values: they are of rows and columns that whoever asks may not read.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Distinct, Expr, Extension, Filter, LogicalPlan, Operator, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::TryStreamExt as _;
use plan::TableName;

use crate::error::{Error, code};

/// A view behind a barrier.
pub(crate) fn around(name: &TableName, view: LogicalPlan) -> LogicalPlan {
    let barrier = Barrier { name: name.to_string(), input: view };
    LogicalPlan::Extension(Extension { node: Arc::new(barrier) })
}

/// The same error without what it says of values and of names below: for whoever may not read them.
pub(crate) fn redacted(error: &Error, name: &str) -> Error {
    let what = match error.code {
        code::NOT_READY => "cannot be read now",
        code::DIVISION_BY_ZERO => "cannot be computed: division by zero",
        code::OUT_OF_RANGE | code::DATETIME_OVERFLOW => "cannot be computed: a value is out of range",
        code::INVALID_TEXT | code::INVALID_DATETIME => {
            "cannot be computed: a value is not of the type that it should be"
        }
        code::CARDINALITY => "cannot be computed: more than one row where there should be one",
        _ => "cannot be computed",
    };
    Error::new(error.code, format!("{name} {what}")).detail("More is told to those who read all that it is made of.")
}

/// The barrier in a logical plan.
#[derive(Debug, PartialEq, Eq, PartialOrd, Hash)]
struct Barrier {
    /// What it is read as.
    name: String,
    input: LogicalPlan,
}

impl UserDefinedLogicalNodeCore for Barrier {
    fn name(&self) -> &'static str {
        "Barrier"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Barrier: {}", self.name)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else { return internal_err!("a barrier has an input") };
        Ok(Self { name: self.name.clone(), input })
    }

    /// What is not asked for is not read.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// Puts conditions that can tell nothing below barriers; it stands behind the rule that brings them there.
#[derive(Debug)]
pub(crate) struct Leakproof;

impl OptimizerRule for Leakproof {
    fn name(&self) -> &'static str {
        "leakproof"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::Extension(extension) = filter.input.as_ref() else { return Ok(Transformed::no(plan)) };
        let Some(barrier) = extension.node.as_any().downcast_ref::<Barrier>() else { return Ok(Transformed::no(plan)) };
        let (below, above): (Vec<_>, Vec<_>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(|condition| {
                is_leakproof(condition)
                    && condition.column_refs().into_iter().all(|column| is_stored(&barrier.input, column))
            });
        let Some(below) = conjunction(below) else { return Ok(Transformed::no(plan)) };
        let input = LogicalPlan::Filter(Filter::try_new(below, Arc::new(barrier.input.clone()))?);
        let barrier = Barrier { name: barrier.name.clone(), input };
        let behind = LogicalPlan::Extension(Extension { node: Arc::new(barrier) });
        Ok(Transformed::yes(match conjunction(above) {
            Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(behind))?),
            None => behind,
        }))
    }
}

/// Whether a condition fails on no value. Types are agreed on by now: what is left of casts may fail.
fn is_leakproof(condition: &Expr) -> bool {
    match condition {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::BinaryExpr(binary) => {
            let compares = matches!(
                binary.op,
                Operator::Eq
                    | Operator::NotEq
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom
                    | Operator::And
                    | Operator::Or
            );
            compares && is_leakproof(&binary.left) && is_leakproof(&binary.right)
        }
        Expr::Not(inner) | Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_leakproof(inner),
        Expr::InList(list) => is_leakproof(&list.expr) && list.list.iter().all(is_leakproof),
        Expr::Between(between) => [&between.expr, &between.low, &between.high].into_iter().all(|of| is_leakproof(of)),
        _ => false,
    }
}

/// Whether a column of a plan is one of a table, so that nothing is computed where it is asked for.
fn is_stored(plan: &LogicalPlan, column: &Column) -> bool {
    let at = |of: &LogicalPlan| of.schema().maybe_index_of_column(column);
    let of_expr = |expr: &Expr, input: &LogicalPlan| match expr.clone().unalias() {
        Expr::Column(below) => is_stored(input, &below),
        Expr::Literal(..) => true,
        _ => false,
    };
    let below = |input: &LogicalPlan| {
        at(plan).is_some_and(|at| is_stored(input, &Column::from(input.schema().qualified_field(at))))
    };
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::SubqueryAlias(alias) => below(&alias.input),
        LogicalPlan::Filter(filter) => below(&filter.input),
        LogicalPlan::Sort(sort) => below(&sort.input),
        LogicalPlan::Distinct(Distinct::All(input)) => below(input),
        LogicalPlan::Union(union) => union.inputs.iter().all(|input| below(input)),
        LogicalPlan::Projection(projection) => {
            at(plan).and_then(|at| projection.expr.get(at)).is_some_and(|expr| of_expr(expr, &projection.input))
        }
        LogicalPlan::Aggregate(aggregate) => {
            at(plan).and_then(|at| aggregate.group_expr.get(at)).is_some_and(|expr| of_expr(expr, &aggregate.input))
        }
        LogicalPlan::Join(join) => {
            [&join.left, &join.right].into_iter().any(|side| at(side).is_some() && is_stored(side, column))
        }
        _ => false,
    }
}

/// Plans barriers.
pub(crate) struct Barriers;

#[async_trait]
impl ExtensionPlanner for Barriers {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(barrier) = node.as_any().downcast_ref::<Barrier>() else { return Ok(None) };
        let Some(input) = physical_inputs.first() else { return internal_err!("a barrier has an input") };
        Ok(Some(Arc::new(BarrierExec { name: barrier.name.as_str().into(), input: Arc::clone(input) })))
    }
}

/// The barrier in a physical plan. It offers none of the ways by which rules move things across a node.
#[derive(Debug)]
struct BarrierExec {
    name: Arc<str>,
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for BarrierExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BarrierExec: {}", self.name)
    }
}

impl ExecutionPlan for BarrierExec {
    fn name(&self) -> &'static str {
        "BarrierExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
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
        let Some(input) = children.pop() else { return internal_err!("a barrier has an input") };
        Ok(Arc::new(Self { name: Arc::clone(&self.name), input }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (name, again) = (Arc::clone(&self.name), Arc::clone(&self.name));
        let input = self.input.execute(partition, context).map_err(|error| without_values(error, &name))?;
        let schema = input.schema();
        let batches = input.map_err(move |error| without_values(error, &again));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// An error of what is below, as whoever may not read that is told. What the query itself ran out of stays as it is.
fn without_values(error: DataFusionError, name: &str) -> DataFusionError {
    if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
        return error;
    }
    let told = Error::from(error);
    // Classes 53, 54 and 57 are of the query and of who runs it.
    let is_of_the_query = ["53", "54", "57"].contains(&told.code.get(..2).unwrap_or_default());
    if is_of_the_query { told.into_datafusion() } else { redacted(&told, name).into_datafusion() }
}
