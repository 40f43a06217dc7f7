//! INTERSECT ALL and EXCEPT ALL count copies: of three equal rows less one two are left.
//!
//! DataFusion makes a join by all columns of them, which finds a row on the other side or does not, however often it is there. So
//! the copies of each row are numbered on both sides, and the number is one column more of the join.
//!
//! ```text
//! select x from a except all select y from b
//! select x from (select x, row_number() over (partition by x) as n from a
//!                except select y, row_number() over (partition by y) as n from b)
//! ```

use std::sync::Arc;

use datafusion_common::tree_node::Transformed;
use datafusion_common::{Column, JoinType, NullEquality, Result, internal_err};
use datafusion_expr::expr::WindowFunction;
use datafusion_expr::logical_plan::{Distinct, Join, Projection};
use datafusion_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder};

use crate::functions::functions;

/// The plan with copies counted; before the agreement on types.
pub(crate) fn counted(plan: LogicalPlan) -> Result<LogicalPlan> {
    let counted = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if has_copies(&join) => Ok(Transformed::yes(by_copies(join)?)),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(counted.data)
}

/// Whether a join is an INTERSECT or EXCEPT of which rows are not distinct.
fn has_copies(join: &Join) -> bool {
    join.null_equality == NullEquality::NullEqualsNull
        && matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
        && !join.on.iter().any(|(left, _)| matches!(left, Expr::Column(column) if column.name == COPY_LEFT))
}

/// The number of a copy, on either side.
const COPY_LEFT: &str = "__copy_left";
const COPY_RIGHT: &str = "__copy_right";

fn by_copies(join: Join) -> Result<LogicalPlan> {
    let columns = join.left.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
    let (left, right) = (numbered(&join.left, COPY_LEFT)?, numbered(&join.right, COPY_RIGHT)?);
    let of_copy = |name: &str| Expr::Column(Column::new_unqualified(name));
    let mut on = join.on;
    on.push((of_copy(COPY_LEFT), of_copy(COPY_RIGHT)));
    let made = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        join.filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(LogicalPlan::Join(made)))?))
}

/// The rows with a number of each among those that are equal.
fn numbered(plan: &LogicalPlan, name: &str) -> Result<LogicalPlan> {
    let Some(row_number) = functions().window.get("row_number") else {
        return internal_err!("row_number is not registered");
    };
    let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let number = Expr::from(WindowFunction::new(Arc::clone(row_number), vec![]));
    let number = number.partition_by(columns).build()?.alias(name);
    LogicalPlanBuilder::from(plan.clone()).window([number])?.build()
}
