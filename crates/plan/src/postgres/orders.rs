//! Names in ORDER BY: one alone is that of a result, one within an expression is that of a column.
//!
//! The planner takes either for a result's: `select -x as x from t order by -x` came out by `x`. So where an expression names what
//! is both, the column is written with what it is of:
//!
//! ```text
//! select -x as x from t order by -x
//! select -x as x from t order by -t.x
//! ```

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, OrderByKind, Query, SelectItem, SetExpr, VisitMut, VisitorMut, visit_expressions,
};

use super::whole_rows::{Scope, column, normalised};

/// Goes over the queries of a statement.
pub(super) struct Orders<'a>(pub(super) &'a Scope<'a>);

impl VisitorMut for Orders<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        let Some(OrderByKind::Expressions(exprs)) = query.order_by.as_mut().map(|order| &mut order.kind) else {
            return ControlFlow::Continue(());
        };
        let mut results: Vec<String> = select.projection.iter().filter_map(given_name).collect();
        let named = |expr: &Expr, name: &String| {
            let look = |part: &Expr| match part {
                Expr::Identifier(found) if normalised(found) == *name => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
            !is_name(expr) && visit_expressions(expr, look).is_break()
        };
        results.retain(|name| exprs.iter().any(|order| named(&order.expr, name)));
        if results.is_empty() {
            return ControlFlow::Continue(());
        }
        let relations = self.0.relations(&select.from, 0);
        let column_of = |name: String| {
            let mut holders = relations.iter().filter(|(_, columns)| columns.iter().flatten().any(|own| *own == name));
            let (table, _) = holders.next()?;
            // Of a name that several have the planner says so.
            holders.next().is_none().then(|| (name.clone(), column(table, &name)))
        };
        let columns: Vec<(String, Expr)> = results.into_iter().filter_map(column_of).collect();
        for order in exprs.iter_mut().filter(|order| !is_name(&order.expr)) {
            order.expr.visit(&mut Columns { columns: &columns, beneath: 0 })?;
        }
        ControlFlow::Continue(())
    }
}

/// The name that a result is given, unless it is that of the column that it is.
fn given_name(item: &SelectItem) -> Option<String> {
    let SelectItem::ExprWithAlias { expr, alias } = item else { return None };
    let name = normalised(alias);
    let is_own = match expr {
        Expr::Identifier(own) => normalised(own) == name,
        Expr::CompoundIdentifier(path) => path.last().is_some_and(|last| normalised(last) == name),
        _ => false,
    };
    (!is_own).then_some(name)
}

/// Whether an expression is a name alone, in whatever brackets.
fn is_name(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_name(inner),
        Expr::Identifier(_) => true,
        _ => false,
    }
}

/// Names in an expression itself, not in its subqueries, whose names are others.
struct Columns<'c> {
    columns: &'c [(String, Expr)],
    beneath: usize,
}

impl VisitorMut for Columns<'_> {
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
        if self.beneath == 0
            && let Expr::Identifier(name) = expr
            && let Some((_, column)) = self.columns.iter().find(|(known, _)| *known == normalised(name))
        {
            *expr = column.clone();
        }
        ControlFlow::Continue(())
    }
}
