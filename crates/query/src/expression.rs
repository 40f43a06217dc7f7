//! Expressions of a flow, compiled: one way for the queries that build states and for the rules that keep them.
//!
//! A flow's expressions went through the planner's rules once. They are compiled as they stand, since a second round of
//! rules may give another type, another scale or another choice of what is evaluated, and then a build and its upkeep
//! would differ in the bytes of a value or in which rows fail.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType as Arrow, Field, Schema as ArrowSchema};
use datafusion::common::{DFSchema, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use plan::column_name;
use relation::DataType;

/// An expression over columns `c0`, `c1`, … of these types.
pub fn compiled(expression: &Expr, input: &[DataType]) -> Result<Arc<dyn PhysicalExpr>> {
    let fields = input.iter().enumerate().map(|(i, t)| Field::new(column_name(i), t.to_arrow(), true));
    let schema = DFSchema::try_from(ArrowSchema::new(fields.collect::<Vec<_>>()))?;
    create_physical_expr(expression, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
}

/// What an expression makes of a batch, in the type of its column.
pub fn value(expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch, wanted: &Arrow) -> Result<ArrayRef> {
    typed(expression.evaluate(batch)?.into_array(batch.num_rows())?, wanted)
}

/// An array in the type of its column.
pub fn typed(array: ArrayRef, wanted: &Arrow) -> Result<ArrayRef> {
    if array.data_type() == wanted { Ok(array) } else { Ok(arrow::compute::cast(&array, wanted)?) }
}

/// Whether a condition holds, row by row.
pub fn mask(condition: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanArray> {
    let array = condition.evaluate(batch)?.into_array(batch.num_rows())?;
    match array.as_boolean_opt() {
        Some(mask) => Ok(mask.clone()),
        None if array.data_type() == &Arrow::Null => Ok(BooleanArray::new_null(batch.num_rows())),
        None => internal_err!("{condition} is no condition"),
    }
}
