//! What AND and OR have decided is not computed.
//!
//! `parts = 0 or total / parts > 4` divides by no zero in PostgreSQL, which stops at the first operand that decides.
//! DataFusion computes both of all rows of a batch. So where an operand may fail, the others come first, as the condition of
//! a CASE: `case when parts = 0 is not true then parts = 0 or total / parts > 4 else true end`. Which of several operands
//! that may fail comes first is as they were written. The conditions of a filter and of a join, of which all must hold,
//! stay conditions of their own: they are put in order where they are tried ([`crate::filtered`]).

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::Case;
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::{conjunction, disjunction, merge_schema, split_conjunction_owned};
use datafusion_expr::{BinaryExpr, Expr, LogicalPlan, Operator, lit};

use crate::fallible::may_fail_over;

/// Parts of an expression that is written twice; a larger one would grow with each level that it is nested in.
const PARTS_MAX: usize = 64;

/// The analyser's rule; it stands after the agreement on types.
pub(crate) fn analysed(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(node)?.data)
}

fn node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(operator(part).is_some()))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !found {
        return Ok(Transformed::no(plan));
    }
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let chooses = matches!(plan, LogicalPlan::Filter(_) | LogicalPlan::Join(_));
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let decided = if chooses { each(expr, &schema)? } else { decided(expr, &schema)? };
        Ok(decided.update_data(|expr| name.restore(expr)))
    })
}

/// The conditions of a filter, one by one.
fn each(filter: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut changed = false;
    let mut made = Vec::new();
    for condition in split_conjunction_owned(filter.clone()) {
        let condition = decided(condition, schema)?;
        changed |= condition.transformed;
        made.push(condition.data);
    }
    Ok(match conjunction(made) {
        Some(made) if changed => Transformed::yes(made),
        _ => Transformed::no(filter),
    })
}

fn decided(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_down(|part| {
        if is_made(&part) {
            return Ok(Transformed::new(part, false, TreeNodeRecursion::Jump));
        }
        let Some(operator) = operator(&part) else { return Ok(Transformed::no(part)) };
        let mut operands = Vec::new();
        collect(part.clone(), operator, &mut operands);
        let fails = |operand: &Expr| !operand.column_refs().is_empty() && may_fail_over(operand, schema);
        if operands.iter().any(has_subquery) || !operands.iter().any(fails) {
            return Ok(Transformed::no(part));
        }
        let operands = operands.into_iter().map(|operand| Ok(decided(operand, schema)?.data));
        let operands = operands.collect::<Result<Vec<_>>>()?;
        let (fallible, safe): (Vec<_>, Vec<_>) = operands.into_iter().partition(fails);
        let safe = if operator == Operator::And { conjunction(safe) } else { disjunction(safe) };
        let ordered = safe.into_iter().chain(fallible).rev();
        let made = ordered.reduce(|then, first| under(operator, first, then)).unwrap_or(part);
        Ok(Transformed::new(made, true, TreeNodeRecursion::Jump))
    })
}

/// AND or OR, if an expression is that.
fn operator(expr: &Expr) -> Option<Operator> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => Some(*op),
        _ => None,
    }
}

/// The operands of a chain of one operator.
fn collect(expr: Expr, operator: Operator, operands: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op == operator => {
            collect(*left, operator, operands);
            collect(*right, operator, operands);
        }
        other => operands.push(other),
    }
}

/// Both operands, where the first does not decide.
fn under(operator: Operator, first: Expr, then: Expr) -> Expr {
    let mut parts = 0;
    let counted = first.apply(|_| {
        parts += 1;
        Ok(if parts > PARTS_MAX { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    debug_assert!(counted.is_ok(), "counting cannot fail");
    let both = |first: Expr| match operator {
        Operator::And => first.and(then),
        _ => first.or(then),
    };
    if parts > PARTS_MAX {
        return both(first);
    }
    let (open, otherwise) = match operator {
        Operator::And => (Expr::IsNotFalse(Box::new(first.clone())), lit(false)),
        _ => (Expr::IsNotTrue(Box::new(first.clone())), lit(true)),
    };
    Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(open), Box::new(both(first)))],
        else_expr: Some(Box::new(otherwise)),
    })
}

/// Whether an expression is one of [`under`].
fn is_made(expr: &Expr) -> bool {
    let Expr::Case(Case { expr: None, when_then_expr, else_expr: Some(otherwise) }) = expr else { return false };
    let [(when, then)] = &when_then_expr[..] else { return false };
    let Expr::BinaryExpr(BinaryExpr { left, op, .. }) = then.as_ref() else { return false };
    match (when.as_ref(), op) {
        (Expr::IsNotFalse(first), Operator::And) => first == left && **otherwise == lit(false),
        (Expr::IsNotTrue(first), Operator::Or) => first == left && **otherwise == lit(true),
        _ => false,
    }
}

/// Subqueries become joins where they stand as conditions; below a CASE they could not.
fn has_subquery(expr: &Expr) -> bool {
    let is_subquery = |part: &Expr| {
        matches!(part, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_))
    };
    expr.exists(|part| Ok(is_subquery(part))).unwrap_or(true)
}
