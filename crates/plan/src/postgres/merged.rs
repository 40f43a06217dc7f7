//! The columns of USING and NATURAL joins that keep rows of their right side.
//!
//! A column of USING is one column of the join: that of the left side, of a RIGHT JOIN that of the right one, and of a FULL JOIN
//! whichever is there. DataFusion takes the left one always, which is NULL in rows of the right side alone. So a FROM with such joins is
//! written with ON, and the columns are written out where they are named alone:
//!
//! ```text
//! select x, y from a full join b using (x)
//! select coalesce(a.x, b.x) as x, y from a full join b on a.x = b.x
//! ```

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, GroupByExpr, Ident, JoinConstraint, JoinOperator, OrderByKind, Query, Select,
    SelectItem, SetExpr, TableWithJoins, VisitMut, VisitorMut,
};

use super::orders::result_name;
use super::own::own_columns;
use super::syntax::call;
use super::whole_rows::{Scope, column, normalised};

/// Goes over the queries of a statement.
pub(super) struct Merged<'a>(pub(super) &'a Scope<'a>);

impl VisitorMut for Merged<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        let Some(columns) = self.rewritten(select) else { return ControlFlow::Continue(()) };
        let Some(OrderByKind::Expressions(exprs)) = query.order_by.as_mut().map(|order| &mut order.kind) else {
            return ControlFlow::Continue(());
        };
        for order in exprs {
            // A name alone is that of a result, if there is one.
            let is_result = |name: &Ident| {
                select.projection.iter().any(|item| result_name(item).is_some_and(|known| known == normalised(name)))
            };
            if !matches!(&order.expr, Expr::Identifier(name) if is_result(name)) {
                order.expr.visit(&mut own_columns(&columns))?;
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        // That of a query has been written already, with what orders it: this is one of a set operation.
        drop(self.rewritten(select));
        ControlFlow::Continue(())
    }
}

impl Merged<'_> {
    /// Writes the joins of a query with ON. Returns the columns that are merged; none where there is nothing to write, or not all of it
    /// is known.
    fn rewritten(&self, select: &mut Select) -> Option<Vec<(String, Expr)>> {
        if !select.from.iter().any(keeps_right_rows) {
            return None;
        }
        let froms = select.from.iter().map(|from| self.of(from)).collect::<Option<Vec<From>>>()?;
        let mut columns = Vec::new();
        let mut results = Vec::new();
        for (from, made) in select.from.iter_mut().zip(froms) {
            for (join, condition) in from.joins.iter_mut().zip(made.conditions) {
                if let (Some(constraint), Some(condition)) = (constraint_of(&mut join.join_operator), condition) {
                    *constraint = JoinConstraint::On(condition);
                }
            }
            columns.extend(made.merged);
            results.extend(made.results);
        }
        let items = std::mem::take(&mut select.projection);
        for item in items {
            match item {
                SelectItem::Wildcard(_) => select.projection.extend(results.iter().map(|(name, expr)| match expr {
                    Expr::CompoundIdentifier(_) => SelectItem::UnnamedExpr(expr.clone()),
                    _ => named(expr.clone(), name),
                })),
                SelectItem::UnnamedExpr(Expr::Identifier(name)) => {
                    let found = columns.iter().find(|(known, _)| *known == normalised(&name));
                    select.projection.push(match found {
                        Some((known, expr)) => named(expr.clone(), known),
                        None => SelectItem::UnnamedExpr(Expr::Identifier(name)),
                    });
                }
                other => select.projection.push(other),
            }
        }
        let visited = write_out(select, &mut own_columns(&columns));
        visited.is_continue().then_some(columns)
    }

    fn of(&self, from: &TableWithJoins) -> Option<From> {
        let relation = |factor| {
            let (name, columns) = self.0.relation(factor, 0)?;
            let columns = columns.filter(|columns| !columns.is_empty())?;
            Some(columns.into_iter().map(|of| (of.clone(), column(&name, &of))).collect::<Vec<_>>())
        };
        let mut made = From { merged: Vec::new(), results: relation(&from.relation)?, conditions: Vec::new() };
        for join in &from.joins {
            let right = relation(&join.relation)?;
            let mut operator = join.join_operator.clone();
            let keeps = keeps(&operator);
            let names: Vec<String> = match constraint_of(&mut operator)? {
                JoinConstraint::Using(names) => {
                    names.iter().map(|name| Some(normalised(name.0.last()?.as_ident()?))).collect::<Option<_>>()?
                }
                JoinConstraint::Natural => {
                    let is_common = |name: &String| right.iter().any(|(other, _)| other == name);
                    made.results.iter().map(|(name, _)| name.clone()).filter(is_common).collect()
                }
                JoinConstraint::On(_) | JoinConstraint::None => Vec::new(),
            };
            let mut merged = Vec::new();
            let mut condition: Option<Expr> = None;
            for name in &names {
                let (left, right) = (only(&made.results, name)?, only(&right, name)?);
                let equal = Expr::BinaryOp {
                    left: Box::new(left.clone()),
                    op: BinaryOperator::Eq,
                    right: Box::new(right.clone()),
                };
                condition = Some(match condition {
                    Some(before) => {
                        Expr::BinaryOp { left: Box::new(before), op: BinaryOperator::And, right: Box::new(equal) }
                    }
                    None => equal,
                });
                merged.push((
                    name.clone(),
                    match keeps {
                        Keeps::Left => left.clone(),
                        Keeps::Right => right.clone(),
                        Keeps::Both => call("coalesce", vec![left.clone(), right.clone()]),
                    },
                ));
            }
            made.conditions.push(condition);
            let is_other = |(name, _): &(String, Expr)| !names.contains(name);
            made.merged.retain(is_other);
            made.merged.extend(merged.iter().cloned());
            let others = made.results.into_iter().filter(is_other).chain(right.into_iter().filter(is_other));
            made.results = merged.into_iter().chain(others).collect();
        }
        Some(made)
    }
}

/// Writes merged columns out in all that a query computes.
fn write_out(select: &mut Select, written: &mut impl VisitorMut<Break = ()>) -> ControlFlow<()> {
    select.projection.visit(written)?;
    select.from.visit(written)?;
    select.selection.visit(written)?;
    if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
        exprs.visit(written)?;
    }
    if let Some(Distinct::On(exprs)) = &mut select.distinct {
        exprs.visit(written)?;
    }
    select.having.visit(written)
}

/// What joins of one another come to.
struct From {
    /// Columns of several sides that are one.
    merged: Vec<(String, Expr)>,
    /// All columns, in the order in which `*` lists them.
    results: Vec<(String, Expr)>,
    /// Of each join; none where it stays as it is.
    conditions: Vec<Option<Expr>>,
}

/// The only column of a name.
fn only<'c>(columns: &'c [(String, Expr)], name: &str) -> Option<&'c Expr> {
    let mut found = columns.iter().filter(|(known, _)| known == name).map(|(_, expr)| expr);
    found.next().filter(|_| found.next().is_none())
}

fn named(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) }
}

/// The side of whose rows all are kept, as far as it tells which column is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Left,
    Right,
    Both,
}

fn keeps(operator: &JoinOperator) -> Keeps {
    match operator {
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Keeps::Right,
        JoinOperator::FullOuter(_) => Keeps::Both,
        _ => Keeps::Left,
    }
}

/// Whether joins merge columns of which DataFusion would show the wrong one.
fn keeps_right_rows(from: &TableWithJoins) -> bool {
    from.joins.iter().any(|join| match &join.join_operator {
        JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => {
            matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural)
        }
        _ => false,
    })
}

pub(super) fn constraint_of(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint) => Some(constraint),
        _ => None,
    }
}
