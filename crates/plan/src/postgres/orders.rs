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
    Distinct, Expr, GroupByExpr, Ident, Join, JoinConstraint, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut,
    visit_expressions,
};

use super::merged::constraint_of;
use super::own::own_columns;
use super::whole_rows::{Scope, column, factors, normalised};
use crate::naming::MARK;

/// Goes over the queries of a statement.
pub(super) struct Orders<'a> {
    scope: &'a Scope<'a>,
    /// How many expressions the query stands in.
    within: usize,
}

impl<'a> Orders<'a> {
    pub(super) fn of(scope: &'a Scope<'a>) -> Self {
        Self { scope, within: 0 }
    }
}

impl VisitorMut for Orders<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<()> {
        self.within += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<()> {
        self.within -= 1;
        ControlFlow::Continue(())
    }

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
        if matches!(select.distinct, Some(Distinct::Distinct)) {
            exprs.iter_mut().for_each(|order| as_result(&mut order.expr, &select.projection));
        }
        results.retain(|name| exprs.iter().any(|order| named(&order.expr, name)));
        let meets = exprs.iter().any(|order| meets_result(&order.expr, &select.projection));
        if results.is_empty() && !meets {
            return ControlFlow::Continue(());
        }
        let relations = self.scope.relations(&select.from, 0);
        let column_of = |name: String| {
            let mut holders = relations.iter().filter(|(_, columns)| columns.iter().flatten().any(|own| *own == name));
            let (table, _) = holders.next()?;
            // Of a name that several have the planner says so.
            holders.next().is_none().then(|| (name.clone(), column(table, &name)))
        };
        let columns: Vec<(String, Expr)> = results.into_iter().filter_map(column_of).collect();
        // What is a result already is found as that.
        let is_result = |expr: &Expr| select.projection.iter().any(|item| value_of(item) == Some(expr));
        let is_new = |expr: &Expr| {
            (meets_result(expr, &select.projection) || columns.iter().any(|(name, _)| named(expr, name)))
                && !is_result(expr)
        };
        // A query within an expression may name columns of the one around it, which one beneath it could not.
        let computes = self.within == 0 && select.distinct.is_none() && exprs.iter().any(|order| is_new(&order.expr));
        for order in exprs.iter_mut().filter(|order| !is_name(&order.expr)) {
            order.expr.visit(&mut own_columns(&columns))?;
        }
        if computes && let Some(beneath) = self.beneath(select, exprs) {
            *query.body = beneath;
        }
        ControlFlow::Continue(())
    }
}

impl Orders<'_> {
    /// A query over the select, which computes what is ordered by: beside the results it could not have a column called as one of them.
    ///
    /// ```text
    /// select -x as x from t order by abs(t.x)
    /// select ordered."result 1" as x from (select -x as "result 1", abs(t.x) as "order 1" from t) ordered order by ordered."order 1"
    /// ```
    ///
    /// None: not all results have names.
    fn beneath(&self, select: &Select, orders: &mut [OrderByExpr]) -> Option<SetExpr> {
        let items = self.results(select)?;
        let names: Vec<String> = items.iter().map(result_name).collect::<Option<_>>()?;
        if select.into.is_some() {
            return None;
        }
        let mut within = select.clone();
        within.projection = Vec::new();
        let mut results = Vec::new();
        for (at, (item, name)) in items.iter().zip(&names).enumerate() {
            let own = format!("result {}", at + 1);
            let alias = Ident::with_quote('"', own.as_str());
            within.projection.push(SelectItem::ExprWithAlias { expr: value_of(item)?.clone(), alias });
            // Of two that are called alike the planner would not know which is meant.
            let is_second = names[..at].contains(name);
            let name = if is_second { format!("{name}{MARK}{}", at + 1) } else { name.clone() };
            let alias = Ident::with_quote('"', name);
            results.push(SelectItem::ExprWithAlias { expr: column(ORDERED, &own), alias });
        }
        let is_kept = |expr: &Expr| match expr {
            Expr::Value(_) => true,
            Expr::Identifier(name) => names.contains(&normalised(name)),
            _ => false,
        };
        for (at, order) in orders.iter_mut().enumerate().filter(|(_, order)| !is_kept(&order.expr)) {
            let name = format!("order {}", at + 1);
            let expr = std::mem::replace(&mut order.expr, column(ORDERED, &name));
            within.projection.push(SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) });
        }
        let within = Query {
            with: None,
            body: Box::new(SetExpr::Select(Box::new(within))),
            order_by: None,
            limit_clause: None,
            fetch: None,
            locks: Vec::new(),
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators: Vec::new(),
        };
        let alias = TableAlias { explicit: true, name: Ident::with_quote('"', ORDERED), columns: Vec::new(), at: None };
        let relation =
            TableFactor::Derived { lateral: false, subquery: Box::new(within), alias: Some(alias), sample: None };
        let mut over = select.clone();
        over.projection = results;
        over.from = vec![TableWithJoins { relation, joins: Vec::new() }];
        over.selection = None;
        over.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
        over.having = None;
        over.named_window = Vec::new();
        over.qualify = None;
        Some(SetExpr::Select(Box::new(over)))
    }

    /// The results with `*` written out; none where it is not known what that is.
    fn results(&self, select: &Select) -> Option<Vec<SelectItem>> {
        let is_wildcard =
            |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        if !select.projection.iter().any(is_wildcard) {
            return Some(select.projection.clone());
        }
        // Columns of USING stand once.
        let merges = |join: &Join| {
            let mut operator = join.join_operator.clone();
            let constraint = constraint_of(&mut operator);
            matches!(constraint, Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
        };
        if select.from.iter().any(|from| from.joins.iter().any(merges)) {
            return None;
        }
        let relations = self.scope.relations(&select.from, 0);
        let all = |(name, columns): &(String, Option<Vec<String>>)| -> Option<Vec<SelectItem>> {
            let columns = columns.as_ref()?;
            Some(columns.iter().map(|of| SelectItem::UnnamedExpr(column(name, of))).collect())
        };
        let mut items = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::Wildcard(_) if relations.len() != factors(&select.from).count() => {
                    return None;
                }
                SelectItem::Wildcard(_) => {
                    for relation in &relations {
                        items.extend(all(relation)?);
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let name = normalised(name.0.last()?.as_ident()?);
                    items.extend(all(relations.iter().find(|(known, _)| *known == name)?)?);
                }
                SelectItem::QualifiedWildcard(..) => return None,
                other => items.push(other.clone()),
            }
        }
        Some(items)
    }
}

/// What the select within is called.
const ORDERED: &str = "ordered";

/// Whether a column is named with what it is of, and a result that is another value is called as it is.
fn meets_result(order: &Expr, projection: &[SelectItem]) -> bool {
    let is_other = |part: &Expr, name: &String| {
        projection.iter().any(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } => normalised(alias) == *name && expr != part,
            _ => false,
        })
    };
    let look = |part: &Expr| match part {
        Expr::CompoundIdentifier(path) if path.last().is_some_and(|last| is_other(part, &normalised(last))) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    };
    visit_expressions(order, look).is_break()
}

pub(super) fn value_of(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr) => Some(expr),
        _ => None,
    }
}

/// The name by which a result goes.
pub(super) fn result_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(normalised(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(normalised(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => path.last().map(normalised),
        _ => None,
    }
}

/// An expression that is a result's, as the name of that: where results are distinct, it is all that may be ordered by.
fn as_result(order: &mut Expr, projection: &[SelectItem]) {
    let alias_of = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { expr, alias } if expr == order => Some(alias.clone()),
        _ => None,
    };
    if is_name(order) {
        return;
    }
    if let Some(alias) = projection.iter().find_map(alias_of) {
        let called_so = |item: &&SelectItem| result_name(item).is_none_or(|name| name == normalised(&alias));
        if projection.iter().filter(called_so).count() == 1 {
            *order = Expr::Identifier(alias);
        }
    }
}

/// The name that a result is given, unless it is that of the column that it is.
pub(super) fn given_name(item: &SelectItem) -> Option<String> {
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
