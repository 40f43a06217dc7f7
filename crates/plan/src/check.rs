//! What can be refused by looking at the plan alone.

use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result as PlanResult};
use datafusion_expr::expr::{InSubquery, ScalarFunction};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, Volatility};

use crate::refusal::Refusal;

/// Refuses calls that can give another answer for the same row.
pub(crate) fn deterministic(plan: &LogicalPlan, sql: &str) -> Result<(), Refusal> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found.get_or_insert_with(|| changing(call, sql));
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    found.map_or(Ok(()), Err)
}

fn changing(call: &ScalarFunction, sql: &str) -> Refusal {
    let name = call.name();
    let refusal = match name {
        "now" | "current_date" | "current_time" | "today" | "current_timestamp" => Refusal::cannot_keep(format!(
            "{name}() changes without any row changing; models that follow the clock are not supported yet."
        ))
        .or_in_a_view("Or leave the time condition to the query that reads the model."),
        _ => Refusal::cannot_keep(format!("{name}() gives another value each time, so no row could be taken back."))
            .with_hint("Derive the value from columns, for example md5(id::text)."),
    };
    let written = [name, "current_timestamp", "localtimestamp", "today"];
    written.iter().fold(refusal, |refusal, word| refusal.at(sql, word))
}

/// Refuses `IN (SELECT …)` where NULL and false differ and the planner would take one for the other.
///
/// Below OR and inside other expressions a subquery becomes a mark of true or false. That is right where only true
/// counts: in a condition, not negated. Elsewhere columns that may be NULL would give false for NULL.
pub(crate) fn two_valued(plan: &LogicalPlan, sql: &str) -> Result<(), Refusal> {
    let mut trouble = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Filter(filter) = node {
            for condition in split_conjunction(&filter.predicate) {
                trouble |= !is_whole(condition) && !only_truth_counts(condition, true, filter.input.schema())?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !trouble {
        return Ok(());
    }
    Err(Refusal::cannot_keep(
        "IN (SELECT …) inside another condition, over columns that may be NULL, is not supported yet.",
    )
    .with_hint("Use EXISTS or NOT EXISTS.")
    .at(sql, "not in")
    .at(sql, "in ( select"))
}

/// Whether a condition is a subquery test by itself, which becomes a join with its NULLs minded.
fn is_whole(condition: &Expr) -> bool {
    match condition {
        Expr::Not(inner) => is_whole(inner),
        other => matches!(other, Expr::InSubquery(_)),
    }
}

/// Whether false in place of NULL does no harm; `positive` is false below an odd number of NOTs.
pub(crate) fn only_truth_counts(expr: &Expr, positive: bool, schema: &DFSchema) -> PlanResult<bool> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            Ok(only_truth_counts(left, positive, schema)? && only_truth_counts(right, positive, schema)?)
        }
        Expr::Not(inner) => only_truth_counts(inner, !positive, schema),
        Expr::InSubquery(test) if test.negated != positive => Ok(true),
        other => Ok(!other.exists(|part| match part {
            Expr::InSubquery(test) => may_be_null(test, schema),
            _ => Ok(false),
        })?),
    }
}

fn may_be_null(test: &InSubquery, schema: &DFSchema) -> PlanResult<bool> {
    let listed = test.subquery.subquery.schema();
    Ok(test.expr.nullable(schema)? || listed.fields().first().is_none_or(|field| field.is_nullable()))
}
