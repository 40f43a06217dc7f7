//! A table's name in the place of a value is its whole row: `select o from orders o`, `row_to_json(o)`, `json_agg(o)`.
//!
//! It is written out by its columns, before the statement is planned: as a record in a list of results, as a document
//! where a function makes documents of it. Elsewhere it stays an unknown column. The name of a function whose rows are
//! single values is this value: `select e -> 'sku' from json_array_elements(…) e`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion_common::TableReference;
use datafusion_expr::planner::ContextProvider;
use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, OrderByKind, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableWithJoins, VisitMut, VisitorMut,
    visit_expressions,
};

use super::doubles::Doubles;
use super::merged::merged;
use super::orders::{Orders, result_name};
use super::outer_names::outer_names;
use super::own::{own_columns, own_expressions};
use super::syntax::{call, text, value_of_rows};

/// Writes whole rows out, the columns that joins merge, and those that ORDER BY computes with; `tables` knows the columns of tables
/// and views.
pub fn whole_rows(statement: &mut Statement, tables: &dyn ContextProvider) {
    merged(statement, tables);
    outer_names(statement, tables);
    let mut named = WithQueries::default();
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(&mut named);
    let scope = Scope { tables, named: named.0, known: RefCell::default() };
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(&mut Doubles::of(&scope));
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(&mut Orders::of(&scope));
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(&mut Selects(&scope));
}

/// The queries of WITH by their names; none where two are called alike.
#[derive(Default)]
struct WithQueries(BTreeMap<String, Option<WithQuery>>);

struct WithQuery {
    query: Query,
    /// The names that its first columns are given: `with t(a, b) as (…)`.
    columns: Vec<String>,
}

impl VisitorMut for WithQueries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for part in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = normalised(&part.alias.name);
            let columns = part.alias.columns.iter().map(|column| normalised(&column.name)).collect();
            let one = (!self.0.contains_key(&name)).then(|| WithQuery { query: part.query.as_ref().clone(), columns });
            self.0.insert(name, one);
        }
        ControlFlow::Continue(())
    }
}

pub(super) fn normalised(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// How deep names are followed through queries, and how many columns a row may have.
const DEPTH_MAX: usize = 16;
const COLUMNS_MAX: usize = 1_600;

pub(super) struct Scope<'a> {
    tables: &'a dyn ContextProvider,
    named: BTreeMap<String, Option<WithQuery>>,
    /// Columns of the queries of WITH, so that each of many that read one another is followed once.
    known: RefCell<BTreeMap<String, Option<Vec<String>>>>,
}

impl Scope<'_> {
    /// The query of WITH that a name stands for, and the names that its first columns are given.
    pub(super) fn with_query(&self, name: &str) -> Option<(&Query, &[String])> {
        let WithQuery { query, columns } = self.named.get(name)?.as_ref()?;
        Some((query, columns))
    }

    /// What is read, with its columns; none of what is not known.
    pub(super) fn relations(&self, from: &[TableWithJoins], depth: usize) -> Vec<(String, Option<Vec<String>>)> {
        factors(from).filter_map(|factor| self.relation(factor, depth)).collect()
    }

    pub(super) fn relation(&self, factor: &TableFactor, depth: usize) -> Option<(String, Option<Vec<String>>)> {
        let (name, alias, columns) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let own = name.0.last()?.as_ident()?.clone();
                (own, alias, self.columns_of(name, depth))
            }
            TableFactor::Derived { subquery, alias: alias @ Some(named), .. } => {
                (named.name.clone(), alias, self.results(&subquery.body, depth))
            }
            _ => return None,
        };
        let (name, renamed) = match alias {
            Some(alias) => (&alias.name, alias.columns.iter().map(|column| normalised(&column.name)).collect()),
            None => (&name, Vec::new()),
        };
        let columns = match (columns, renamed.len()) {
            (Some(columns), given) if given <= columns.len() => {
                Some(renamed.into_iter().chain(columns.into_iter().skip(given)).collect())
            }
            (None, 0) => None,
            // Of what is listed by VALUES or a function all columns are named.
            _ => Some(renamed),
        };
        Some((normalised(name), columns))
    }

    fn columns_of(&self, name: &ObjectName, depth: usize) -> Option<Vec<String>> {
        let parts: Option<Vec<String>> = name.0.iter().map(|part| part.as_ident().map(normalised)).collect();
        let reference = match &parts?[..] {
            [table] => match self.named.get(table) {
                Some(query) => {
                    if let Some(known) = self.known.borrow().get(table) {
                        return known.clone();
                    }
                    let WithQuery { query, columns } = query.as_ref()?;
                    let columns = self.given(&query.body, columns, depth + 1);
                    self.known.borrow_mut().insert(table.clone(), columns.clone());
                    return columns;
                }
                None => TableReference::bare(table.clone()),
            },
            [schema, table] => TableReference::partial(schema.clone(), table.clone()),
            _ => return None,
        };
        let source = self.tables.get_table_source(reference).ok()?;
        Some(source.schema().fields().iter().map(|field| field.name().clone()).collect())
    }

    /// The same where the first ones are given others.
    fn given(&self, body: &SetExpr, names: &[String], depth: usize) -> Option<Vec<String>> {
        match (self.results(body, depth), body) {
            (Some(own), _) if names.len() <= own.len() => {
                Some(names.iter().cloned().chain(own.into_iter().skip(names.len())).collect())
            }
            (None, SetExpr::Values(values)) if values.rows.first()?.content.len() == names.len() => {
                Some(names.to_vec())
            }
            _ => None,
        }
    }

    /// The names of a query's results.
    fn results(&self, body: &SetExpr, depth: usize) -> Option<Vec<String>> {
        if depth > DEPTH_MAX {
            return None;
        }
        let select = match body {
            SetExpr::Select(select) => select,
            SetExpr::Query(query) => return self.results(&query.body, depth + 1),
            SetExpr::SetOperation { left, .. } => return self.results(left, depth + 1),
            _ => return None,
        };
        let mut names = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => names.push(normalised(alias)),
                SelectItem::UnnamedExpr(Expr::Identifier(name)) => names.push(normalised(name)),
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => names.push(normalised(path.last()?)),
                SelectItem::Wildcard(_) => {
                    for (_, columns) in self.relations(&select.from, depth + 1) {
                        names.extend(columns?);
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let name = normalised(name.0.last()?.as_ident()?);
                    let found = self.relations(&select.from, depth + 1).into_iter().find(|(known, _)| *known == name);
                    names.extend(found?.1?);
                }
                _ => return None,
            }
            if names.len() > COLUMNS_MAX {
                return None;
            }
        }
        Some(names)
    }
}

struct Selects<'a>(&'a Scope<'a>);

impl VisitorMut for Selects<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        let Some(OrderByKind::Expressions(exprs)) = query.order_by.as_mut().map(|order| &mut order.kind) else {
            return ControlFlow::Continue(());
        };
        let values = self.values_of(select);
        // A name alone is that of a result, as these are called, too.
        let is_result = |expr: &Expr| match expr {
            Expr::Identifier(name) => {
                let name = normalised(name);
                select.projection.iter().any(|item| result_name(item).is_some_and(|own| own == name))
            }
            _ => false,
        };
        for order in exprs.iter_mut().filter(|order| !values.is_empty() && !is_result(&order.expr)) {
            order.expr.visit(&mut own_columns(&values))?;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.values(select)?;
        // Columns are asked for only where a row is meant: a view is planned for them.
        let relations = if names_a_relation(select) { self.0.relations(&select.from, 0) } else { Vec::new() };
        let is_column = |name: &String| relations.iter().flat_map(|(_, columns)| columns).any(|all| all.contains(name));
        let rows: BTreeMap<String, Vec<String>> = relations
            .iter()
            .filter(|(name, _)| !is_column(name))
            .filter_map(|(name, columns)| Some((name.clone(), columns.clone()?)))
            .collect();
        for item in &mut select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    if let Some((name, columns)) = whole(expr, &rows) {
                        let alias = Ident::with_quote('"', name);
                        *item = SelectItem::ExprWithAlias { expr: record(name, columns), alias };
                    }
                }
                SelectItem::ExprWithAlias { expr, .. } => {
                    if let Some((name, columns)) = whole(expr, &rows) {
                        *expr = record(name, columns);
                    }
                }
                _ => {}
            }
        }
        let mut documents = own_expressions(|expr| {
            if let Expr::Function(function) = expr
                && let Some(made) = document(function, &rows)
            {
                *expr = made;
            }
        });
        select.projection.visit(&mut documents)?;
        select.selection.visit(&mut documents)?;
        select.having.visit(&mut documents)
    }
}

impl Selects<'_> {
    /// The values of functions by their names, with the columns that they are.
    fn values_of(&self, select: &Select) -> Vec<(String, Expr)> {
        let values = factors(&select.from).filter_map(value_of_rows);
        let mut values: BTreeMap<String, String> = values.map(|(name, column)| (normalised(name), column)).collect();
        if values.is_empty() {
            return Vec::new();
        }
        let relations = self.0.relations(&select.from, 0);
        values.retain(|name, _| !relations.iter().flat_map(|(_, columns)| columns).any(|all| all.contains(name)));
        values.into_iter().map(|(name, of)| (name.clone(), column(&name, &of))).collect()
    }

    /// Writes them out.
    fn values(&self, select: &mut Select) -> ControlFlow<()> {
        let values = self.values_of(select);
        if values.is_empty() {
            return ControlFlow::Continue(());
        }
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(Expr::Identifier(name)) = item
                && let Some((_, of)) = values.iter().find(|(known, _)| *known == normalised(name))
            {
                *item = SelectItem::ExprWithAlias { expr: of.clone(), alias: name.clone() };
            }
        }
        let mut named = own_columns(&values);
        select.projection.visit(&mut named)?;
        select.from.visit(&mut named)?;
        select.selection.visit(&mut named)?;
        select.group_by.visit(&mut named)?;
        select.having.visit(&mut named)
    }
}

/// All that a query reads.
pub(super) fn factors(from: &[TableWithJoins]) -> impl Iterator<Item = &TableFactor> {
    from.iter().flat_map(|table| std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)))
}

/// Whether the name of what is read stands alone as a value.
fn names_a_relation(select: &Select) -> bool {
    let name = |factor: &TableFactor| match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(normalised(&alias.name))
        }
        TableFactor::Table { name, alias: None, .. } => name.0.last().and_then(|part| part.as_ident()).map(normalised),
        _ => None,
    };
    let names: BTreeSet<String> = factors(&select.from).filter_map(name).collect();
    let look = |expr: &Expr| match expr {
        Expr::Identifier(name) if names.contains(&normalised(name)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    visit_expressions(&select.projection, look).is_break()
        || visit_expressions(&select.selection, look).is_break()
        || visit_expressions(&select.having, look).is_break()
}

fn whole<'r>(expr: &Expr, rows: &'r BTreeMap<String, Vec<String>>) -> Option<(&'r str, &'r [String])> {
    let Expr::Identifier(name) = expr else { return None };
    rows.get_key_value(&normalised(name)).map(|(name, columns)| (name.as_str(), columns.as_slice()))
}

pub(super) fn column(table: &str, column: &str) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::with_quote('"', table), Ident::with_quote('"', column)])
}

fn record(table: &str, columns: &[String]) -> Expr {
    call("record_of", columns.iter().map(|name| column(table, name)).collect())
}

/// Functions that make documents of rows, and what each is of a row's document.
const DOCUMENTS: [(&str, &str, Option<&str>); 5] = [
    ("row_to_json", "json_of_row", None),
    ("to_json", "json_of_row", None),
    ("to_jsonb", "jsonb_of_row", None),
    ("json_agg", "json_of_row", Some("json_agg_of_rows")),
    ("jsonb_agg", "jsonb_of_row", Some("jsonb_agg_of_rows")),
];

fn document(function: &mut Function, rows: &BTreeMap<String, Vec<String>>) -> Option<Expr> {
    let [part] = &function.name.0[..] else { return None };
    let called = normalised(part.as_ident()?);
    let (_, of_row, of_rows) = DOCUMENTS.iter().find(|(name, ..)| *name == called)?;
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = &mut list.args[..] else { return None };
    let pairs: Vec<Expr> = match whole(argument, rows) {
        Some((table, columns)) => columns.iter().flat_map(|name| [text(name), column(table, name)]).collect(),
        None => of_written(argument)?,
    };
    let made = call(of_row, pairs);
    let Some(of_rows) = of_rows else { return Some(made) };
    *argument = made;
    Some(Expr::Function(Function { name: ObjectName::from(vec![Ident::new(*of_rows)]), ..function.clone() }))
}

/// The fields of `row(…)`: `f1`, `f2`, …
fn of_written(expr: &Expr) -> Option<Vec<Expr>> {
    let values: Vec<Expr> = match expr {
        Expr::Tuple(values) => values.clone(),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("row") => match &function.args {
            FunctionArguments::List(list) => list
                .args
                .iter()
                .map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
                    _ => None,
                })
                .collect::<Option<_>>()?,
            _ => return None,
        },
        _ => return None,
    };
    Some(values.into_iter().enumerate().flat_map(|(at, value)| [text(&format!("f{}", at + 1)), value]).collect())
}
