//! Maps and conditions of joins that survive the rows on which they fail: each is left out and reported, the others go on.
//!
//! A batch is computed whole. Only when that fails is it computed row by row, to find which rows are to blame. The
//! expressions are the flow's own, compiled as the engine compiles them ([`crate::expression`]): the optimiser does not see
//! them, and conditions are not pushed through a map. So which rows fail, and what comes of the others to the last byte, is
//! a matter of the flow and not of the optimiser.
//!
//! A pair of rows on which the condition of a join fails is no match of that join, of whatever kind.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType as Arrow, Field, Schema as ArrowSchema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, UserDefinedLogicalNode,
    UserDefinedLogicalNodeCore, Volatility,
};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, PlanProperties,
    ReplaceChildrenOptions,
};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use futures::StreamExt as _;
use plan::{NodeId, column_name};
use relation::columns::RowEncoder;
use relation::{DataType, Layout, Schema, Value};

use crate::barrier::Barriers;
use crate::expression::{compiled, mask, value};

/// A row that a map could not compute, or a pair of rows that a join could not compare.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// The map or join.
    pub node: NodeId,
    /// The input row; of a join, the left row and then the right one.
    pub row: Vec<Value>,
    /// What failed.
    pub error: crate::Error,
}

type Report = Arc<dyn Fn(Reject) + Send + Sync>;

/// The map in a logical plan.
#[derive(Clone)]
pub(crate) struct IsolatedMap {
    input: LogicalPlan,
    schema: DFSchemaRef,
    map: Arc<Map>,
}

/// The expressions of a map.
struct Map {
    node: NodeId,
    filter: Option<Expr>,
    outputs: Vec<Expr>,
    evaluator: Arc<Evaluator>,
}

impl IsolatedMap {
    /// A map over columns `c0`, … of the types `input_types` whose output columns are `c0`, … in the types of `schema`.
    pub(crate) fn new(
        node: NodeId,
        input: LogicalPlan,
        input_types: &[DataType],
        (filter, outputs): (Option<&Expr>, &[Expr]),
        schema: &Schema,
        report: Report,
    ) -> Result<Self> {
        let fields = schema.columns.iter().enumerate();
        let fields = fields.map(|(i, column)| Field::new(column_name(i), column.data_type.to_arrow(), true));
        let arrow = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        let compile = |expression: &Expr| compiled(expression, input_types);
        let evaluator = Evaluator {
            node,
            filter: filter.map(compile).transpose()?,
            outputs: outputs.iter().map(compile).collect::<Result<_>>()?,
            schema: Arc::clone(&arrow),
            report,
        };
        let map = Map { node, filter: filter.cloned(), outputs: outputs.to_vec(), evaluator: Arc::new(evaluator) };
        Ok(Self { input, schema: Arc::new(DFSchema::try_from(arrow)?), map: Arc::new(map) })
    }
}

impl fmt::Debug for IsolatedMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        UserDefinedLogicalNodeCore::fmt_for_explain(self, f)
    }
}

/// Two maps are one when they compute the same of the same: the report goes to the same place within one plan.
impl PartialEq for IsolatedMap {
    fn eq(&self, other: &Self) -> bool {
        self.map.node == other.map.node
            && self.input == other.input
            && self.map.filter == other.map.filter
            && self.map.outputs == other.map.outputs
    }
}

impl Eq for IsolatedMap {}

impl PartialOrd for IsolatedMap {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.map.node.cmp(&other.map.node) {
            Ordering::Equal => self.input.partial_cmp(&other.input),
            decided => Some(decided),
        }
    }
}

impl Hash for IsolatedMap {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.map.node.hash(state);
        self.input.hash(state);
        self.map.filter.hash(state);
        self.map.outputs.hash(state);
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

    /// None that the optimiser may change.
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outputs: Vec<_> = self.map.outputs.iter().map(ToString::to_string).collect();
        write!(f, "IsolatedMap: [{}]", outputs.join(", "))?;
        self.map.filter.as_ref().map_or(Ok(()), |filter| write!(f, " where {filter}"))
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else { return internal_err!("a map has an input") };
        Ok(Self { input, schema: Arc::clone(&self.schema), map: Arc::clone(&self.map) })
    }
}

/// DataFusion's planner, our map and our barrier.
#[derive(Debug)]
pub(crate) struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Maps), Arc::new(Barriers)]);
        planner.create_physical_plan(logical_plan, session).await
    }
}

struct Maps;

#[async_trait]
impl ExtensionPlanner for Maps {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(isolated) = node.as_any().downcast_ref::<IsolatedMap>() else { return Ok(None) };
        let Some(physical) = physical_inputs.first() else { return internal_err!("a map has an input") };
        Ok(Some(Arc::new(IsolatedMapExec::new(Arc::clone(physical), Arc::clone(&isolated.map.evaluator)))))
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

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
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
            Err(error) if is_of_a_row(&error) => self.by_row(batch),
            computed => computed,
        }
    }

    fn compute(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let kept;
        let batch = match &self.filter {
            Some(filter) if batch.num_rows() > 0 => {
                kept = filter_record_batch(batch, &mask(filter, batch)?)?;
                &kept
            }
            _ => batch,
        };
        let rows = batch.num_rows();
        // An expression may fail without any row: then it fails for none.
        if rows == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let outputs = self.outputs.iter().zip(self.schema.fields());
        let arrays = outputs.map(|(output, field)| value(output, batch, field.data_type()));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        relation::columns::batch(&self.schema, arrays, rows)
            .map_err(|error| DataFusionError::Internal(error.to_string()))
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

/// Out of memory is no row's fault.
fn is_of_a_row(error: &DataFusionError) -> bool {
    !matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// The condition of a join as a function of all columns of both sides.
///
/// It says false of pairs on which the condition fails, and reports them. Since it reads columns of both sides, it stays
/// with the join, and is asked once about each pair under a key.
struct IsolatedCondition {
    node: NodeId,
    written: Expr,
    condition: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    signature: Signature,
    report: Report,
}

/// The call of a function that stands for a condition over columns `c0`, … of the types `types`; `columns` are what it is
/// called with.
pub(crate) fn isolated_condition(
    node: NodeId,
    condition: &Expr,
    types: &[DataType],
    columns: Vec<Expr>,
    report: Report,
) -> Result<Expr> {
    let fields = types.iter().enumerate().map(|(i, t)| Field::new(column_name(i), t.to_arrow(), true));
    let function = IsolatedCondition {
        node,
        written: condition.clone(),
        condition: compiled(condition, types)?,
        schema: Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>())),
        // What is reported must be neither asked twice nor left out.
        signature: Signature::any(types.len(), Volatility::Volatile),
        report,
    };
    Ok(ScalarUDF::new_from_impl(function).call(columns))
}

impl fmt::Debug for IsolatedCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IsolatedCondition({}, {})", self.node.0, self.written)
    }
}

impl PartialEq for IsolatedCondition {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node && self.written == other.written
    }
}

impl Eq for IsolatedCondition {}

impl Hash for IsolatedCondition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.node.hash(state);
        self.written.hash(state);
    }
}

impl ScalarUDFImpl for IsolatedCondition {
    fn name(&self) -> &'static str {
        "isolated_condition"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[Arrow]) -> Result<Arrow> {
        Ok(Arrow::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let batch = relation::columns::batch(&self.schema, arrays, rows);
        let batch = batch.map_err(|error| DataFusionError::Internal(error.to_string()))?;
        let holds = match self.holds(&batch) {
            Err(error) if is_of_a_row(&error) => self.by_row(&batch)?,
            holds => holds?,
        };
        Ok(ColumnarValue::Array(Arc::new(holds)))
    }
}

impl IsolatedCondition {
    fn holds(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        if batch.num_rows() == 0 { Ok(BooleanArray::new_null(0)) } else { mask(&self.condition, batch) }
    }

    fn by_row(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let mut holds = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let one = batch.slice(row, 1);
            match self.holds(&one) {
                Ok(mask) => holds.push(mask.iter().next().flatten()),
                Err(error) => {
                    (self.report)(Reject { node: self.node, row: values(&one)?, error: error.into() });
                    holds.push(Some(false));
                }
            }
        }
        Ok(holds.into_iter().collect())
    }
}

/// The values of a batch of one row.
fn values(one: &RecordBatch) -> Result<Vec<Value>> {
    let damaged = |error: relation::Error| DataFusionError::Internal(error.to_string());
    let schema = one.schema();
    let types = schema.fields().iter().map(|field| DataType::from_arrow(field.data_type()));
    let layout = Layout::new(types.collect::<relation::Result<_>>().map_err(damaged)?);
    let mut row = Vec::new();
    RowEncoder::new(layout.clone(), one.columns().to_vec()).push(0, &mut row).map_err(damaged)?;
    Ok(layout.values(&row))
}
