//! Forms of queries that the planner does not know, written by those that it knows: ties of FETCH FIRST, arrays of a
//! query's rows, rows that are compared with those of a subquery, records of a document, places in an order.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Fetch, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    Ident, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, TableAlias, TableFactor, Value,
    Visit, visit_expressions,
};
use datafusion_sql::sqlparser::parser::Parser;

use super::syntax::mentions_columns;
use super::texts::{delimited, quoted_literal};
use crate::functions::functions;
use crate::settings;

/// A name that no statement has by itself.
fn hidden(name: &str) -> String {
    delimited(&format!("\u{1}{name}"))
}

pub(super) fn query_of(sql: &str) -> Option<Box<Query>> {
    match Parser::parse_sql(&settings::dialect(), sql).ok()?.pop()? {
        Statement::Query(query) => Some(query),
        _ => None,
    }
}

fn expression_of(sql: &str) -> Option<Expr> {
    Parser::new(&settings::dialect()).try_with_sql(sql).ok()?.parse_expr().ok()
}

/// `fetch first 3 rows with ties`: rows whose rank in the order is among the first three.
pub(super) fn with_ties(query: &mut Query) {
    if let Some(made) = ranked(query) {
        (query.body, query.order_by, query.fetch) = (made.body, made.order_by, None);
    }
}

fn ranked(query: &Query) -> Option<Query> {
    let Some(Fetch { with_ties: true, percent: false, quantity }) = &query.fetch else { return None };
    let OrderByKind::Expressions(order) = &query.order_by.as_ref()?.kind else { return None };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    if select.distinct.is_some() || query.limit_clause.is_some() {
        return None;
    }
    let names = output_names(&select.projection)?;
    let order: Vec<OrderByExpr> = order.iter().map(|by| over_inputs(by, &select.projection)).collect();
    let list = |make: &dyn Fn(usize) -> String| (0..order.len()).map(make).collect::<Vec<_>>().join(", ");
    let key = |at: usize| hidden(&format!("order {at}"));
    let mut inner = select.as_ref().clone();
    let more = format!(
        "select {}, rank() over (order by {}) as {}",
        list(&|at| format!("{} as {}", order[at].expr, key(at))),
        list(&|at| order[at].to_string()),
        hidden("rank")
    );
    let SetExpr::Select(more) = *query_of(&more)?.body else { return None };
    inner.projection.extend(more.projection);
    let again = list(&|at| OrderByExpr { expr: Expr::Identifier(named(&key(at))), ..order[at].clone() }.to_string());
    let names = names.iter().map(Ident::to_string).collect::<Vec<_>>().join(", ");
    let count = quantity.as_ref().map_or_else(|| "1".to_owned(), ToString::to_string);
    let sql = format!(
        "select {names} from ({inner}) as {} where {} <= {count} order by {again}",
        hidden("ranked"),
        hidden("rank")
    );
    query_of(&sql).map(|query| *query)
}

fn named(delimited: &str) -> Ident {
    Ident::with_quote('"', delimited.trim_matches('"'))
}

/// The names of a list of results; none where it has a `*`.
fn output_names(items: &[SelectItem]) -> Option<Vec<Ident>> {
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => path.last().cloned(),
        _ => None,
    };
    items.iter().map(name).collect()
}

/// An order by a result's name or place is one by what the result is made of.
fn over_inputs(by: &OrderByExpr, items: &[SelectItem]) -> OrderByExpr {
    let made_of = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr.clone()),
        _ => None,
    };
    let found = match &by.expr {
        Expr::Identifier(name) => items.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias.value == name.value => Some(expr.clone()),
            _ => None,
        }),
        Expr::Value(value) => match &value.value {
            Value::Number(place, _) => {
                let place = place.parse::<usize>().ok().and_then(|place| place.checked_sub(1));
                place.and_then(|place| items.get(place)).and_then(made_of)
            }
            _ => None,
        },
        _ => None,
    };
    OrderByExpr { expr: found.unwrap_or_else(|| by.expr.clone()), ..by.clone() }
}

/// `array(select …)`: the rows of a query in its order, in that of the values where it has none, so that there is one
/// answer; no rows are an empty array.
pub(super) fn array_of_rows(function: &Function) -> Option<Expr> {
    let FunctionArguments::Subquery(query) = &function.args else { return None };
    let rows = collected(query).or_else(|| collected_beneath(query))?;
    expression_of(&format!("array_or_empty(({rows}))"))
}

/// The aggregate in the place of the one result, beside the conditions of the query, which may be on rows outside.
fn collected(query: &Query) -> Option<Query> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let plain = query.limit_clause.is_none() && query.fetch.is_none() && query.with.is_none();
    let is_one = select.distinct.is_none() && select.having.is_none() && is_empty(&select.group_by);
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] = &select.projection[..]
    else {
        return None;
    };
    let order = ordered_by(query, select).unwrap_or_else(|| value.to_string());
    let sql = format!("select array_agg({value} order by {order})");
    let SetExpr::Select(made) = *query_of(&sql)?.body else { return None };
    if !plain || !is_one || of_many_rows(value) {
        return None;
    }
    let mut query = query.clone();
    query.order_by = None;
    query.body = Box::new(SetExpr::Select(Box::new(Select { projection: made.projection, ..select.as_ref().clone() })));
    Some(query)
}

/// The aggregate over all rows of the query, which are numbered in its order.
fn collected_beneath(query: &Query) -> Option<Query> {
    let (value, number, rows) = (hidden("value"), hidden("number"), hidden("rows"));
    let mut beneath = query.clone();
    let order = match beneath.body.as_mut() {
        SetExpr::Select(select) if select.distinct.is_none() && select.projection.len() == 1 => {
            ordered_by(query, select).map(|order| (select, order))
        }
        _ if query.order_by.is_some() => return None,
        _ => None,
    };
    let Some((select, order)) = order else {
        return query_of(&format!("select array_agg({value} order by {value}) from ({query}) as {rows}({value})"))
            .map(|query| *query);
    };
    let SetExpr::Select(more) = *query_of(&format!("select row_number() over (order by {order})"))?.body else {
        return None;
    };
    select.projection.extend(more.projection);
    let sql = format!("select array_agg({value} order by {number}) from ({beneath}) as {rows}({value}, {number})");
    query_of(&sql).map(|query| *query)
}

/// The order of a query, of what its results are made of.
fn ordered_by(query: &Query, select: &Select) -> Option<String> {
    let OrderByKind::Expressions(order) = &query.order_by.as_ref()?.kind else { return None };
    let order = order.iter().map(|by| over_inputs(by, &select.projection).to_string());
    Some(order.collect::<Vec<_>>().join(", "))
}

fn is_empty(group_by: &GroupByExpr) -> bool {
    matches!(group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty())
}

/// Whether an aggregate or a window is computed in it.
fn of_many_rows(part: &impl Visit) -> bool {
    let is_of_many = |function: &Function| {
        let name = function.name.0.last().and_then(|part| part.as_ident()).map(|name| name.value.to_lowercase());
        function.over.is_some() || name.is_some_and(|name| functions().aggregate.contains_key(&name))
    };
    let found = visit_expressions(part, |expr| match expr {
        Expr::Function(function) if is_of_many(function) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// `(a, b) in (select …)` among the conditions of a query: that there is such a row.
pub(super) fn rows_among(condition: &mut Expr) {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            rows_among(left);
            rows_among(right);
        }
        Expr::Nested(inner) => rows_among(inner),
        Expr::InSubquery { expr, subquery, negated: false } => {
            let Expr::Tuple(values) = expr.as_ref() else { return };
            let name = |at: usize| hidden(&format!("in {at}"));
            let names = (0..values.len()).map(name).collect::<Vec<_>>().join(", ");
            let pairs = values.iter().enumerate().map(|(at, value)| format!("({value}) = {}", name(at)));
            let pairs = pairs.collect::<Vec<_>>().join(" and ");
            let rows = hidden("rows");
            let subquery = with_names(subquery);
            let made = expression_of(&format!("exists (select 1 from ({subquery}) as {rows}({names}) where {pairs})"));
            if let Some(made) = made {
                *condition = made;
            }
        }
        _ => {}
    }
}

/// The query with names of their own for results that have none: two that are written alike are two.
fn with_names(query: &Query) -> Query {
    let mut query = query.clone();
    if let SetExpr::Select(select) = query.body.as_mut() {
        for (at, item) in select.projection.iter_mut().enumerate() {
            if let SelectItem::UnnamedExpr(expr) = item {
                *item =
                    SelectItem::ExprWithAlias { expr: expr.clone(), alias: named(&hidden(&format!("result {at}"))) };
            }
        }
    }
    query
}

/// `json_to_recordset(…) as t(a int, b text)` in FROM: a column for each member that is named.
pub(super) fn records(factor: &TableFactor) -> Option<TableFactor> {
    let (called, arguments, alias) = match factor {
        TableFactor::Table { name, alias, args: Some(arguments), .. } => {
            let [part] = &name.0[..] else { return None };
            (part.as_ident()?.value.to_lowercase(), &arguments.args, alias.as_ref()?)
        }
        TableFactor::Function { name, alias, args, .. } => {
            let [part] = &name.0[..] else { return None };
            (part.as_ident()?.value.to_lowercase(), args, alias.as_ref()?)
        }
        _ => return None,
    };
    let (document, is_set) = match called.as_str() {
        "json_to_recordset" => ("json", true),
        "jsonb_to_recordset" => ("jsonb", true),
        "json_to_record" => ("json", false),
        "jsonb_to_record" => ("jsonb", false),
        _ => return None,
    };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = &arguments[..] else { return None };
    let row = hidden("row");
    let mut columns = String::new();
    for (at, column) in alias.columns.iter().enumerate() {
        let data_type = column.data_type.as_ref()?;
        // What is a document stays one, a text is not quoted.
        let arrow = if matches!(data_type, DataType::JSON | DataType::JSONB) { "->" } else { "->>" };
        let member = quoted_literal(&member_of(&column.name));
        let comma = if at == 0 { "" } else { ", " };
        write!(columns, "{comma}({row} {arrow} {member})::{data_type} as {}", column.name).ok()?;
    }
    let rows = match is_set {
        true => format!("select unnest(json_elements(({argument})::{document}))::{document} as {row}"),
        false => format!("select ({argument})::{document} as {row}"),
    };
    let subquery = query_of(&format!("select {columns} from ({rows}) as {}", hidden("rows")))?;
    let alias = TableAlias { columns: Vec::new(), ..alias.clone() };
    let lateral = mentions_columns(argument);
    Some(TableFactor::Derived { lateral, subquery, alias: Some(alias), sample: None })
}

fn member_of(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// The place that a value would have in an order: `rank(5) within group (order by x)`.
pub(super) fn place_in_order(function: &Function) -> Option<Expr> {
    let [part] = &function.name.0[..] else { return None };
    let called = part.as_ident()?.value.to_lowercase();
    let [by] = &function.within_group[..] else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = &list.args[..] else { return None };
    let (key, descending) = (&by.expr, by.options.asc == Some(false));
    let nulls_first = by.options.nulls_first.unwrap_or(descending);
    let sign = if descending { ">" } else { "<" };
    let nulls = if nulls_first { format!(" or ({key}) is null") } else { String::new() };
    let filter = |condition: String| match &function.filter {
        Some(filter) => format!("filter (where ({filter}) and ({condition}))"),
        None => format!("filter (where {condition})"),
    };
    let before = filter(format!("({key}) {sign} ({value}){nulls}"));
    let all = function.filter.as_ref().map_or_else(String::new, |filter| format!("filter (where {filter})"));
    expression_of(&match called.as_str() {
        "rank" => format!("(count(*) {before} + 1)"),
        "dense_rank" => {
            let null = if nulls_first {
                format!(" + coalesce(max(case when ({key}) is null then 1 else 0 end) {all}, 0)")
            } else {
                String::new()
            };
            format!("(count(distinct {key}) {before}{null} + 1)")
        }
        "percent_rank" => {
            format!("(case when count(*) {all} = 0 then 0 else (count(*) {before})::float8 / count(*) {all} end)")
        }
        "cume_dist" => {
            let up_to = filter(format!("({key}) {sign}= ({value}){nulls}"));
            format!("((count(*) {up_to} + 1)::float8 / (count(*) {all} + 1))")
        }
        _ => return None,
    })
}

/// Conditions of a query that compare rows.
pub(super) fn conditions(select: &mut Select) {
    select.selection.iter_mut().for_each(rows_among);
}
