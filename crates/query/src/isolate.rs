//! A map that survives the rows on which it fails: each is left out and reported, the others go on.
//!
//! A batch is computed whole. Only when that fails is it computed row by row, to find which rows are to blame; the rest
//! of the plan sees a map like any other. Conditions are not pushed through it, so that which rows fail is a matter of
//! the flow and not of the optimiser.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use futures::StreamExt as _;
use plan::{NodeId, column_name};
use relation::columns::RowEncoder;
use relation::{Layout, Schema, Value};

/// A row that a map could not compute.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// The map.
    pub node: NodeId,
    /// The input row.
    pub row: Vec<Value>,
    /// What failed.
    pub error: crate::Error,
}

type Report = Arc<dyn Fn(Reject) + Send + Sync>;

/// The map in a logical plan.
#[derive(Clone)]
pub(crate) struct IsolatedMap {
    node: NodeId,
    input: LogicalPlan,
    filter: Option<Expr>,
    outputs: Vec<Expr>,
    schema: DFSchemaRef,
    report: Report,
}

impl IsolatedMap {
    /// A map whose output columns are `c0`, … in the types of `schema`.
    pub(crate) fn new(
        node: NodeId,
        input: LogicalPlan,
        filter: Option<Expr>,
        outputs: Vec<Expr>,
        schema: &Schema,
        report: Report,
    ) -> Result<Self> {
        let fields = schema.columns.iter().enumerate();
        let fields = fields.map(|(i, column)| Field::new(column_name(i), column.data_type.to_arrow(), true));
        let arrow = ArrowSchema::new(fields.collect::<Vec<_>>());
        let schema = Arc::new(DFSchema::try_from(arrow)?);
        let outputs = outputs.into_iter().zip(schema.fields());
        let outputs = outputs.map(|(output, field)| cast_to(output, input.schema(), field)).collect::<Result<_>>()?;
        Ok(Self { node, input, filter, outputs, schema, report })
    }
}

fn cast_to(output: Expr, schema: &DFSchema, field: &Field) -> Result<Expr> {
    use datafusion::logical_expr::{ExprSchemable as _, cast};
    let same = output.get_type(schema)? == *field.data_type();
    Ok(if same { output } else { cast(output, field.data_type().clone()) })
}

impl fmt::Debug for IsolatedMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        UserDefinedLogicalNodeCore::fmt_for_explain(self, f)
    }
}

/// Two maps are one when they compute the same of the same: the report goes to the same place within one plan.
impl PartialEq for IsolatedMap {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
            && self.input == other.input
            && self.filter == other.filter
            && self.outputs == other.outputs
    }
}

impl Eq for IsolatedMap {}

impl PartialOrd for IsolatedMap {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.node.cmp(&other.node) {
            Ordering::Equal => self.input.partial_cmp(&other.input),
            decided => Some(decided),
        }
    }
}

impl Hash for IsolatedMap {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.node.hash(state);
        self.input.hash(state);
        self.filter.hash(state);
        self.outputs.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for IsolatedMap {
    fn name(&self) -> &'static str {
        "IsolatedMap"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// The outputs, then the filter.
    fn expressions(&self) -> Vec<Expr> {
        self.outputs.iter().chain(&self.filter).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outputs: Vec<_> = self.outputs.iter().map(ToString::to_string).collect();
        write!(f, "IsolatedMap: [{}]", outputs.join(", "))?;
        self.filter.as_ref().map_or(Ok(()), |filter| write!(f, " where {filter}"))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else { return internal_err!("a map has an input") };
        let filter = if self.filter.is_some() { exprs.pop() } else { None };
        let (schema, report) = (Arc::clone(&self.schema), Arc::clone(&self.report));
        Ok(Self { node: self.node, input, filter, outputs: exprs, schema, report })
    }
}

/// DataFusion's planner, and our map.
#[derive(Debug)]
pub(crate) struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Maps)]);
        planner.create_physical_plan(logical_plan, session).await
    }
}

struct Maps;

#[async_trait]
impl ExtensionPlanner for Maps {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(map) = node.as_any().downcast_ref::<IsolatedMap>() else { return Ok(None) };
        let (Some(logical), Some(physical)) = (logical_inputs.first(), physical_inputs.first()) else {
            return internal_err!("a map has an input");
        };
        let compile = |expr: &Expr| planner.create_physical_expr(expr, logical.schema(), session, context);
        let evaluator = Evaluator {
            node: map.node,
            filter: map.filter.as_ref().map(compile).transpose()?,
            outputs: map.outputs.iter().map(compile).collect::<Result<_>>()?,
            schema: Arc::clone(map.schema.inner()),
            report: Arc::clone(&map.report),
        };
        Ok(Some(Arc::new(IsolatedMapExec::new(Arc::clone(physical), Arc::new(evaluator)))))
    }
}

/// The map in a physical plan.
struct IsolatedMapExec {
    input: Arc<dyn ExecutionPlan>,
    evaluator: Arc<Evaluator>,
    properties: Arc<PlanProperties>,
}

impl IsolatedMapExec {
    fn new(input: Arc<dyn ExecutionPlan>, evaluator: Arc<Evaluator>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&evaluator.schema)),
            datafusion::physical_expr::Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, evaluator, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for IsolatedMapExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IsolatedMapExec")
    }
}

impl DisplayAs for IsolatedMapExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IsolatedMapExec: node={}", self.evaluator.node.0)
    }
}

impl ExecutionPlan for IsolatedMapExec {
    fn name(&self) -> &'static str {
        "IsolatedMapExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in self.evaluator.outputs.iter().chain(&self.evaluator.filter) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return internal_err!("a map has an input") };
        Ok(Arc::new(Self::new(input, Arc::clone(&self.evaluator))))
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return internal_err!("a map has an input") };
        Ok(Arc::new(Self::new(input, Arc::clone(&self.evaluator))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let evaluator = Arc::clone(&self.evaluator);
        let batches = self.input.execute(partition, context)?.map(move |batch| evaluator.batch(&batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.evaluator.schema), batches)))
    }
}

/// The compiled expressions of a map.
struct Evaluator {
    node: NodeId,
    filter: Option<Arc<dyn PhysicalExpr>>,
    outputs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    report: Report,
}

impl Evaluator {
    fn batch(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        match self.compute(batch) {
            // Out of memory is no row's fault.
            Err(error) if !matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) => self.by_row(batch),
            computed => computed,
        }
    }

    fn compute(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let kept;
        let batch = match &self.filter {
            Some(filter) => {
                kept = self.filtered(filter, batch)?;
                &kept
            }
            None => batch,
        };
        let rows = batch.num_rows();
        // An expression may fail without any row: then it fails for none.
        if rows == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let arrays = self.outputs.iter().map(|output| output.evaluate(batch)?.into_array(rows));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        relation::columns::batch(&self.schema, arrays, rows)
            .map_err(|error| DataFusionError::Internal(error.to_string()))
    }

    fn filtered(&self, filter: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<RecordBatch> {
        let mask = filter.evaluate(batch)?.into_array(batch.num_rows())?;
        let Some(mask) = mask.as_boolean_opt() else {
            return internal_err!("the filter of node {} is no condition", self.node.0);
        };
        Ok(filter_record_batch(batch, mask)?)
    }

    fn by_row(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut computed = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let one = batch.slice(row, 1);
            match self.compute(&one) {
                Ok(out) => computed.push(out),
                Err(error) => (self.report)(Reject { node: self.node, row: values(&one)?, error: error.into() }),
            }
        }
        Ok(concat_batches(&self.schema, &computed)?)
    }
}

/// The values of a batch of one row.
fn values(one: &RecordBatch) -> Result<Vec<Value>> {
    let damaged = |error: relation::Error| DataFusionError::Internal(error.to_string());
    let schema = one.schema();
    let types = schema.fields().iter().map(|field| relation::DataType::from_arrow(field.data_type()));
    let layout = Layout::new(types.collect::<relation::Result<_>>().map_err(damaged)?);
    let mut row = Vec::new();
    RowEncoder::new(layout.clone(), one.columns().to_vec()).push(0, &mut row).map_err(damaged)?;
    Ok(layout.values(&row))
}
