//! A physical plan whose every node looks at the query's [`Watch`] before each batch, and gives way to others.
//!
//! Two things could keep a thread for minutes: an operator that finds input ready whenever it asks, and a join that compares
//! each row of one side with each of the other before it has a batch to hand on. For the first each node's stream takes part
//! in tokio's budget; for the second a join's condition looks at the watch, block by block. An aggregate of many grouping sets makes
//! groups of each of its rows for each of them before it looks at anything, its memory included: it is handed its rows in small pieces.
//! So is a projection that makes much out of little: what it makes waits whole for a reader who may be slow, for each statement.
//!
//! The nodes are wrapped after all rules have run, and stand for the wrapped ones where somebody asks for their kind.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::Stream;

use crate::bounded;
use crate::watch::{self, Watch};

/// The plan with all its nodes watched.
pub(crate) fn watched(plan: Arc<dyn ExecutionPlan>, watch: &Arc<Watch>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let input = with_condition(in_pieces(node, watch)?, watch)?;
        Ok(Transformed::yes(Arc::new(WatchedExec::new(input, watch)) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// Groups that an aggregate makes of a piece of its rows, at most.
const GROUPS_OF_A_PIECE: usize = 64 << 10;
/// Grouping sets with which a batch is no larger than that by much.
const SETS_AT_ONCE: usize = 16;

/// Rows of which a projection makes values that may be large.
const ROWS_MADE_LARGE: usize = 256;

/// A node that makes much of each of its rows with its input in pieces; any other as it is.
fn in_pieces(node: Arc<dyn ExecutionPlan>, watch: &Arc<Watch>) -> Result<Arc<dyn ExecutionPlan>> {
    let (input, rows) = if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let sets = aggregate.group_expr().groups().len();
        (aggregate.input(), (sets > SETS_AT_ONCE).then_some(GROUPS_OF_A_PIECE / sets.max(1)))
    } else if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let makes_much = projection.expr().iter().any(|made| makes_much(&made.expr));
        (projection.input(), makes_much.then_some(ROWS_MADE_LARGE))
    } else {
        return Ok(node);
    };
    let Some(rows) = rows else { return Ok(node) };
    let input = WatchedExec { rows_max: Some(rows.max(1)), ..WatchedExec::new(Arc::clone(input), watch) };
    node.replace_children(vec![Arc::new(input)], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

fn makes_much(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let is_one = |part: &Arc<dyn PhysicalExpr>| {
        part.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| bounded::makes_much(call.fun()))
    };
    expr.exists(|part| Ok(is_one(part))).unwrap_or(true)
}

/// A join with its condition watched; any other node as it is.
fn with_condition(node: Arc<dyn ExecutionPlan>, watch: &Arc<Watch>) -> Result<Arc<dyn ExecutionPlan>> {
    let condition = |filter: &JoinFilter| {
        let inner = Arc::clone(filter.expression());
        let watched = Condition { inner, watch: Arc::clone(watch) };
        JoinFilter::new(Arc::new(watched), filter.column_indices().to_vec(), Arc::clone(filter.schema()))
    };
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        return Ok(Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(Some(condition(filter))).build()?));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(Some(condition(filter))).build_exec();
    }
    if let Some(join) = node.downcast_ref::<SortMergeJoinExec>()
        && let Some(filter) = join.filter()
    {
        return Ok(Arc::new(SortMergeJoinExec::try_new(
            Arc::clone(join.left()),
            Arc::clone(join.right()),
            join.on().to_vec(),
            Some(condition(filter)),
            join.join_type(),
            join.sort_options().to_vec(),
            join.null_equality(),
        )?));
    }
    Ok(node)
}

/// A node and its watch.
#[derive(Debug)]
struct WatchedExec {
    input: Arc<dyn ExecutionPlan>,
    watch: Arc<Watch>,
    /// Rows of a batch that it hands on; none: as many as there are.
    rows_max: Option<usize>,
}

impl WatchedExec {
    fn new(input: Arc<dyn ExecutionPlan>, watch: &Arc<Watch>) -> Self {
        Self { input, watch: Arc::clone(watch), rows_max: None }
    }

    /// The same of another node.
    fn of(&self, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, watch: Arc::clone(&self.watch), rows_max: self.rows_max })
    }
}

impl DisplayAs for WatchedExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.input.fmt_as(format, f)
    }
}

impl ExecutionPlan for WatchedExec {
    fn name(&self) -> &str {
        self.input.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.input.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    /// Those of the node itself: whoever walks the plan sees each node once.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.input.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.input.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = Arc::clone(&self.input).replace_children(children, options)?;
        Ok(self.of(input))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (watch, rows_max) = (Arc::clone(&self.watch), self.rows_max.unwrap_or(usize::MAX));
        Ok(Box::pin(WatchedStream { input, watch, rows_max, rest: None }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.input.metrics()
    }

    /// How a recursive query hands its last rows to the next round.
    fn with_new_state(&self, state: Arc<dyn Any + Send + Sync>) -> Option<Arc<dyn ExecutionPlan>> {
        let input = self.input.with_new_state(state)?;
        Some(self.of(input))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = Arc::clone(&self.input).reset_state()?;
        Ok(self.of(input))
    }
}

/// A node's batches.
struct WatchedStream {
    input: SendableRecordBatchStream,
    watch: Arc<Watch>,
    rows_max: usize,
    /// What is left of a batch that has more rows.
    rest: Option<RecordBatch>,
}

impl WatchedStream {
    /// The first rows of a batch, as many as may be handed on.
    fn piece(&mut self, batch: RecordBatch) -> RecordBatch {
        let rows = batch.num_rows();
        if rows <= self.rows_max {
            return batch;
        }
        self.rest = Some(batch.slice(self.rows_max, rows - self.rows_max));
        batch.slice(0, self.rows_max)
    }
}

impl Stream for WatchedStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Err(ended) = self.watch.look() {
            return Poll::Ready(Some(Err(ended)));
        }
        let budget = ready!(tokio::task::coop::poll_proceed(context));
        if let Some(rest) = self.rest.take() {
            budget.made_progress();
            watch::next_batch();
            return Poll::Ready(Some(Ok(self.piece(rest))));
        }
        let watch = Arc::clone(&self.watch);
        let polled = watch.over(|| self.input.as_mut().poll_next(context));
        let polled = match polled {
            Poll::Ready(Some(Ok(batch))) => Poll::Ready(Some(Ok(self.piece(batch)))),
            polled => polled,
        };
        if polled.is_ready() {
            budget.made_progress();
            // Whoever asked goes on with these rows.
            watch::next_batch();
        }
        polled
    }
}

impl RecordBatchStream for WatchedStream {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

/// A join's condition, asked once per block of pairs.
#[derive(Debug)]
struct Condition {
    inner: Arc<dyn PhysicalExpr>,
    watch: Arc<Watch>,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Condition {}

impl Hash for Condition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for Condition {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.inner.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.inner.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.watch.look()?;
        watch::next_batch();
        self.inner.evaluate(batch)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(inner) = children.pop() else { return internal_err!("a condition has an inside") };
        Ok(Arc::new(Self { inner, watch: Arc::clone(&self.watch) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
