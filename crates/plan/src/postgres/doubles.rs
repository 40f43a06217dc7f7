//! Results of one name, and names that HAVING must not know.
//!
//! A query may give two results one name, and whoever reads that query may not say it: which one is meant? The planner knows no
//! such query. So the second one is told apart by a mark that no answer shows, and a name that is one of several is refused.
//!
//! ```text
//! select * from (select a as x, b as x from t) q     two columns
//! select x from (select a as x, b as x from t) q     column reference "x" is ambiguous
//! ```
//!
//! HAVING knows the columns of what is read, and no results, which the planner would take before them.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, TableFactor, VisitMut as _, VisitorMut,
};

use super::merged::constraint_of;
use super::orders::{given_name, result_name, value_of};
use super::own::own_expressions;
use super::refused::{Why, refused};
use super::whole_rows::{Scope, column, factors, normalised};
use crate::naming::MARK;

/// Tells results of one name apart, and refuses their names and those of results in HAVING.
pub(super) struct Doubles<'a> {
    scope: &'a Scope<'a>,
    /// How many expressions the query stands in.
    within: usize,
    /// How many queries deep the visit is.
    queries: usize,
}

impl<'a> Doubles<'a> {
    pub(super) fn of(scope: &'a Scope<'a>) -> Self {
        Self { scope, within: 0, queries: 0 }
    }
}

impl VisitorMut for Doubles<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<()> {
        self.within += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<()> {
        self.within -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.queries -= 1;
        let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        let Some(OrderByKind::Expressions(exprs)) = query.order_by.as_mut().map(|order| &mut order.kind) else {
            return ControlFlow::Continue(());
        };
        let doubles = self.doubles(select);
        for order in exprs {
            match &order.expr {
                Expr::Identifier(name) if is_of_several(&normalised(name), &select.projection) => {
                    let message = format!("ORDER BY \"{}\" is ambiguous", normalised(name));
                    order.expr = refused(Why::AmbiguousColumn, &message, RENAME);
                }
                // A result is meant before a column.
                Expr::Identifier(name) if select.projection.iter().any(|item| is_called(item, &normalised(name))) => {}
                _ => order.expr.visit(&mut own_expressions(|expr| refuse(expr, &doubles)))?,
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.having(select)?;
        let doubles = self.doubles(select);
        if !doubles.is_empty() {
            let mut refusing = own_expressions(|expr| refuse(expr, &doubles));
            select.projection.visit(&mut refusing)?;
            select.selection.visit(&mut refusing)?;
            select.group_by.visit(&mut refusing)?;
            select.having.visit(&mut refusing)?;
            for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
                if let Some(condition) = condition_of(join) {
                    condition.visit(&mut refusing)?;
                }
            }
        }
        // Those of an answer its reader tells apart, and a model or view must not have them.
        if self.queries > 1 {
            told_apart(&mut select.projection);
        }
        ControlFlow::Continue(())
    }
}

impl Doubles<'_> {
    /// What is read by a query of the statement and has several columns of one name.
    fn doubles(&self, select: &Select) -> Vec<(String, String)> {
        let mut doubles = Vec::new();
        for factor in factors(&select.from) {
            let Some((table, columns)) = self.written(factor, 0) else { continue };
            for (at, name) in columns.iter().enumerate() {
                if columns[..at].contains(name) {
                    doubles.push((table.clone(), name.clone()));
                }
            }
        }
        doubles
    }

    /// A query that is read, with the names of those columns that are written in the statement.
    fn written(&self, factor: &TableFactor, depth: usize) -> Option<(String, Vec<String>)> {
        let (name, alias, columns) = match factor {
            TableFactor::Derived { subquery, alias: Some(alias), .. } => {
                (&alias.name, Some(alias), self.results(&subquery.body, depth)?)
            }
            TableFactor::Table { name, alias, args: None, .. } => {
                let [part] = &name.0[..] else { return None };
                let own = part.as_ident()?;
                let (query, columns) = self.scope.with_query(&normalised(own))?;
                let mut all = self.results(&query.body, depth)?;
                rename(&mut all, columns.iter().cloned());
                (alias.as_ref().map_or(own, |alias| &alias.name), alias.as_ref(), all)
            }
            _ => return None,
        };
        let mut columns = columns;
        rename(&mut columns, alias.iter().flat_map(|alias| &alias.columns).map(|column| normalised(&column.name)));
        Some((normalised(name), columns))
    }

    /// The names of results; of tables none, which have each once.
    fn results(&self, body: &SetExpr, depth: usize) -> Option<Vec<String>> {
        let select = match body {
            _ if depth > DEPTH_MAX => return None,
            SetExpr::Select(select) => select,
            SetExpr::Query(query) => return self.results(&query.body, depth + 1),
            SetExpr::SetOperation { left, .. } => return self.results(left, depth + 1),
            _ => return None,
        };
        let mut names = Vec::new();
        for item in &select.projection {
            match item {
                // Columns of USING stand once, which the names alone do not say.
                SelectItem::Wildcard(_) if select.from.iter().flat_map(|from| &from.joins).any(merges) => return None,
                SelectItem::Wildcard(_) => {
                    names
                        .extend(factors(&select.from).filter_map(|of| self.written(of, depth + 1)).flat_map(|of| of.1));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let name = normalised(name.0.last()?.as_ident()?);
                    let mut read = factors(&select.from).filter_map(|of| self.written(of, depth + 1));
                    names.extend(read.find(|(table, _)| *table == name).into_iter().flat_map(|of| of.1));
                }
                // What has no name is told apart by its place.
                other => names.push(match result_name(other) {
                    Some(name) => shown(&name).to_owned(),
                    None => format!("{MARK}{}", names.len()),
                }),
            }
        }
        Some(names)
    }

    /// Names of results in HAVING: a column that is called so is meant, or nothing.
    fn having(&self, select: &mut Select) -> ControlFlow<()> {
        let mut results: Vec<String> = select.projection.iter().filter_map(given_name).collect();
        let Some(having) = &mut select.having else { return ControlFlow::Continue(()) };
        let mut named: Vec<String> = Vec::new();
        having.visit(&mut own_expressions(|expr| {
            if let Expr::Identifier(name) = expr {
                named.push(normalised(name));
            }
        }))?;
        results.retain(|name| named.contains(name));
        if results.is_empty() {
            return ControlFlow::Continue(());
        }
        let relations = self.scope.relations(&select.from, 0);
        let are_known =
            relations.len() == factors(&select.from).count() && relations.iter().all(|(_, columns)| columns.is_some());
        let meant = |name: &str| {
            let is_of = |columns: &Option<Vec<String>>| columns.iter().flatten().any(|own| own == name);
            let mut holders = relations.iter().filter(|(_, columns)| is_of(columns));
            match (holders.next(), holders.next()) {
                (Some((table, _)), None) => Some(column(table, name)),
                // A query within an expression may name a column of the one around it.
                (None, _) if are_known && self.within == 0 => {
                    let message = format!("column \"{name}\" does not exist");
                    Some(refused(Why::UnknownColumn, &message, "HAVING knows no results: write what it is there."))
                }
                _ => None,
            }
        };
        let meant: Vec<(String, Expr)> = results.iter().filter_map(|name| Some((name.clone(), meant(name)?))).collect();
        having.visit(&mut own_expressions(|expr| {
            if let Expr::Identifier(name) = expr
                && let Some((_, made)) = meant.iter().find(|(known, _)| *known == normalised(name))
            {
                *expr = made.clone();
            }
        }))
    }
}

/// Whether a join has columns of both sides as one.
fn merges(join: &Join) -> bool {
    let mut operator = join.join_operator.clone();
    matches!(constraint_of(&mut operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
}

/// How deep names are followed through queries.
const DEPTH_MAX: usize = 16;

const RENAME: &str = "Give one of them another name: AS.";

/// A name without its mark.
fn shown(name: &str) -> &str {
    name.split(MARK).next().unwrap_or_default()
}

fn rename(columns: &mut [String], names: impl Iterator<Item = String>) {
    columns.iter_mut().zip(names).for_each(|(column, name)| *column = name);
}

fn is_called(item: &SelectItem, name: &str) -> bool {
    result_name(item).is_some_and(|own| shown(&own) == name)
}

/// Whether several results that are not one value go by a name.
fn is_of_several(name: &str, items: &[SelectItem]) -> bool {
    let mut called = items.iter().filter(|item| is_called(item, name)).filter_map(value_of);
    called.next().is_some_and(|first| called.any(|other| other != first))
}

/// Refuses a name that several columns of one table have.
fn refuse(expr: &mut Expr, doubles: &[(String, String)]) {
    let name = match expr {
        Expr::Identifier(name) => Some(normalised(name)).filter(|name| doubles.iter().any(|(_, of)| of == name)),
        Expr::CompoundIdentifier(path) => match &path[..] {
            [.., table, name] => Some(normalised(name))
                .filter(|name| doubles.iter().any(|(known, of)| *known == normalised(table) && of == name)),
            _ => None,
        },
        _ => None,
    };
    if let Some(name) = name {
        *expr = refused(Why::AmbiguousColumn, &format!("column reference \"{name}\" is ambiguous"), RENAME);
    }
}

/// The condition of a join, if it has one.
fn condition_of(join: &mut Join) -> Option<&mut Expr> {
    let operator: &mut JoinOperator = &mut join.join_operator;
    match constraint_of(operator) {
        Some(JoinConstraint::On(condition)) => Some(condition),
        _ => None,
    }
}

/// Marks the second and further results of a name.
fn told_apart(items: &mut [SelectItem]) {
    let mut known: Vec<String> = Vec::new();
    for (at, item) in items.iter_mut().enumerate() {
        let Some(name) = result_name(item) else { continue };
        // Columns of several tables the planner tells apart by these.
        if let SelectItem::ExprWithAlias { alias, expr } = item
            && !matches!(expr, Expr::CompoundIdentifier(_))
            && known.contains(&name)
        {
            *alias = Ident::with_quote('"', format!("{name}{MARK}{at}"));
            continue;
        }
        known.push(name);
    }
}
