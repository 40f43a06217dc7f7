//! Which expressions may fail on a row: a division by zero, a cast of a text, a number out of range.

use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::Expr;

/// Whether an expression may fail on some row: all but those that are known not to.
pub fn may_fail(expression: &Expr) -> bool {
    let own = match expression {
        Expr::BinaryExpr(binary) => {
            use datafusion_expr::Operator::{
                And, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq, Or,
            };
            let fine = [And, Or, Eq, NotEq, Lt, LtEq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom].contains(&binary.op);
            !fine
        }
        Expr::Column(_)
        | Expr::Literal(..)
        | Expr::Alias(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::InList(_) => false,
        _ => true,
    };
    if own {
        return true;
    }
    let mut found = false;
    expression
        .apply_children(|child| {
            found |= may_fail(child);
            Ok(TreeNodeRecursion::Continue)
        })
        .map_or(true, |_| found)
}
