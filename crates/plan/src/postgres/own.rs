//! A query's own expressions: what a name in them means its FROM says, and what one in a subquery means another FROM does.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{Expr, Query, VisitorMut};

use super::whole_rows::normalised;

/// Changes expressions, from the innermost outward, but for those of subqueries.
pub(super) struct OwnExpressions<F> {
    change: F,
    /// How many subqueries the visitor is in.
    beneath: usize,
}

/// Visits what is a query's own with this change.
pub(super) fn own_expressions<F: FnMut(&mut Expr)>(change: F) -> OwnExpressions<F> {
    OwnExpressions { change, beneath: 0 }
}

/// Has columns that are named alone replaced by what each is.
pub(super) fn own_columns(columns: &[(String, Expr)]) -> OwnExpressions<impl FnMut(&mut Expr)> {
    own_expressions(|expr| {
        if let Expr::Identifier(name) = expr
            && let Some((_, column)) = columns.iter().find(|(known, _)| *known == normalised(name))
        {
            *expr = column.clone();
        }
    })
}

impl<F: FnMut(&mut Expr)> VisitorMut for OwnExpressions<F> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.beneath += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.beneath -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.beneath == 0 {
            (self.change)(expr);
        }
        ControlFlow::Continue(())
    }
}
