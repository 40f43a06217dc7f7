//! What is written, in words that the planner takes as PostgreSQL means them.
//!
//! An integer that stands in the text is an integer of 32 bits if it fits, else of 64, else a numeric. Lengths of types
//! (`varchar(3)`, `timestamp(0)`) are calls that cut, pad and round. `extract`, `substring`, `at time zone`, `similar to`
//! and intervals are calls of our functions. Names of columns are given before.

use std::ops::ControlFlow;

use super::casts_apart;
use super::forms::{digits, dimensions_of, list_of};
use super::own::own_expressions;
use super::quantified::{Quantifier, name_of};
use super::queries;
use super::refused::{Why, refused};
use super::windows;
use crate::to_char;
use datafusion_sql::sqlparser::ast::{
    AccessExpr, ArrayElemTypeDef, BinaryOperator, CastKind, CharacterLength, DataType, DuplicateTreatment,
    ExactNumberInfo, Expr, Fetch, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, GroupByExpr, Ident, LimitClause, ObjectName, OrderByKind, OrderByOptions, Parens, Query, Select,
    SelectItem, SetExpr, Statement, Subscript, TableAlias, TableFactor, TableWithJoins, TimezoneInfo, TypedString,
    UnaryOperator, Value, ValueWithSpan, Visit, VisitMut, VisitorMut, WindowFrameBound, WindowSpec, WindowType,
    visit_expressions, visit_expressions_mut,
};

/// The statement with its literals and its casts as they are meant.
pub fn meant(statement: &mut Statement) {
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(&mut Meaning { room: COPIES_MAX });
}

/// The statement with arrays that stand in it as texts (`id = any('{1,2}')`) taken apart.
pub fn literal_arrays(statement: &mut Statement) {
    struct Arrays;
    impl VisitorMut for Arrays {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Some(made) = with_each(expr) {
                *expr = made;
            }
            ControlFlow::Continue(())
        }
    }
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(&mut Arrays);
}

/// Elements of an array that are compared one by one.
const ELEMENTS_MAX: usize = 4_096;

/// `x = any('{1,2}')` as a comparison with each of the values, which are of the type of `x`.
fn with_each(expr: &Expr) -> Option<Expr> {
    let (left, op, right, all) = match expr {
        Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right.as_ref(), false),
        Expr::AllOp { left, compare_op, right } => (left, compare_op, right.as_ref(), true),
        _ => return None,
    };
    let mut right = right;
    while let Expr::Nested(inner) = right {
        right = inner;
    }
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(written), .. }) = right else { return None };
    let elements = list_of(written).ok().filter(|elements| elements.len() <= ELEMENTS_MAX)?;
    let compared = |element: &Option<String>| {
        let element = element.as_deref().map_or_else(|| Expr::Value(Value::Null.with_empty_span()), text);
        Expr::Nested(Box::new(binary(left.clone(), op.clone(), element)))
    };
    let mut parts: Vec<Expr> = elements.iter().map(compared).collect();
    in_pairs(&mut parts, if all { &BinaryOperator::And } else { &BinaryOperator::Or });
    Some(parts.pop().unwrap_or_else(|| Expr::Value(Value::Boolean(all).with_empty_span())))
}

/// `x = any(tags)` as a call; of a subquery it stays what it is.
fn quantified(expr: &Expr) -> Option<Expr> {
    let (left, op, right, of) = match expr {
        Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, Quantifier::Any),
        Expr::AllOp { left, compare_op, right } => (left, compare_op, right, Quantifier::All),
        _ => return None,
    };
    let mut array = right.as_ref();
    while let Expr::Nested(inner) = array {
        array = inner;
    }
    match array {
        Expr::Subquery(_) => None,
        array => Some(call(name_of(op, of)?, vec![left.as_ref().clone(), array.clone()])),
    }
}

/// `x > any (select …)` as a value is one of the array of the rows; the planner knows it as a condition alone.
fn over_rows(expr: &mut Expr) {
    let mut own = own_expressions(|part: &mut Expr| {
        let (left, op, right, of) = match &*part {
            Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, Quantifier::Any),
            Expr::AllOp { left, compare_op, right } => (left, compare_op, right, Quantifier::All),
            _ => return,
        };
        let mut rows = right.as_ref();
        while let Expr::Nested(inner) = rows {
            rows = inner;
        }
        let (Expr::Subquery(query), Some(name)) = (rows, name_of(op, of)) else { return };
        let mut function = function_call("array", Vec::new());
        function.args = FunctionArguments::Subquery(query.clone());
        if let Some(array) = queries::array_of_rows(&function) {
            *part = call(name, vec![left.as_ref().clone(), array]);
        }
    });
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = expr.visit(&mut own);
}

/// `x = any (select …)` is IN, `x <> all (select …)` NOT IN.
fn as_membership(expr: &Expr) -> Option<Expr> {
    let (left, right, negated) = match expr {
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => (left, right, false),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
        _ => return None,
    };
    let mut rows = right.as_ref();
    while let Expr::Nested(inner) = rows {
        rows = inner;
    }
    let Expr::Subquery(subquery) = rows else { return None };
    Some(Expr::InSubquery { expr: left.clone(), subquery: subquery.clone(), negated })
}

/// Parts of expressions that a statement's rewriting may write more than once.
const COPIES_MAX: usize = 500_000;

struct Meaning {
    /// Parts that may still be copied. What has no room stays as it was written, which the planner refuses.
    room: usize,
}

/// How many parts the rewriting of an expression copies, as far as it copies any: what is compared with each of a list, for each.
fn copied(expr: &Expr) -> usize {
    let size = |part: &Expr| {
        let mut parts = 0_usize;
        let counted: ControlFlow<()> = visit_expressions(part, |_| {
            parts += 1;
            if parts > COPIES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if counted.is_break() { COPIES_MAX } else { parts }
    };
    let sizes = |parts: &[Expr]| parts.iter().map(size).fold(0, usize::saturating_add);
    match expr {
        Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => match right.as_ref() {
            Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(listed), .. }) => {
                size(left).saturating_mul(listed.matches(',').count().min(ELEMENTS_MAX) + 1)
            }
            Expr::Nested(_) => size(left).saturating_mul(ELEMENTS_MAX),
            _ => 0,
        },
        Expr::Like { expr, pattern, any, .. } | Expr::ILike { expr, pattern, any, .. } => {
            let listed = match (any, all_patterns(pattern)) {
                (true, _) => patterns(pattern).len(),
                (false, all) => all.map_or(0, |all| all.len()),
            };
            size(expr).saturating_mul(listed)
        }
        Expr::BinaryOp { left, op, right } if compares_rows(left, op, right) || *op == BinaryOperator::Overlaps => {
            match (values_of_row(left), values_of_row(right)) {
                (Some(left), Some(right)) => sizes(&left).saturating_add(sizes(&right)).saturating_mul(4),
                _ => 0,
            }
        }
        Expr::InList { expr, list, .. } if is_list_of_rows(expr, list) => size(expr).saturating_mul(list.len()),
        Expr::Function(function) if is_call(function, "trim_array") => size(expr),
        _ => 0,
    }
}

impl VisitorMut for Meaning {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        windows::written_out(query);
        casts_apart::in_query(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        // That of a query has been written with what orders it: this is one of a set operation.
        drop(casts_apart::in_select(select));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match self.room.checked_sub(copied(expr)) {
            Some(room) => self.room = room,
            None => return ControlFlow::Continue(()),
        }
        let taken = std::mem::replace(expr, Expr::Value(Value::Null.with_empty_span()));
        *expr = rewritten(taken);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                all_series(expr);
                record(expr);
                over_rows(expr);
            }
        }
        told_apart(select);
        queries::conditions(select);
        // There is nothing beside the first relation that it could read.
        if let Some(TableWithJoins { relation: TableFactor::Derived { lateral, .. }, .. }) = select.from.first_mut() {
            *lateral = false;
        }
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            exprs.iter_mut().for_each(unmarked);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let made = series_table(factor).or_else(|| rows_table(factor)).or_else(|| unnest_table(factor));
        if let Some(made) = made.or_else(|| queries::records(factor)) {
            *factor = made;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(order) = &mut query.order_by
            && let OrderByKind::Expressions(exprs) = &mut order.kind
        {
            exprs.iter_mut().for_each(|order| unmarked(&mut order.expr));
        }
        match &mut query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                limit.iter_mut().for_each(unmarked);
                offset.iter_mut().for_each(|offset| unmarked(&mut offset.value));
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                unmarked(offset);
                unmarked(limit);
            }
            None => {}
        }
        if let Some(Fetch { quantity: Some(quantity), .. }) = &mut query.fetch {
            unmarked(quantity);
        }
        fetched(query);
        queries::with_ties(query);
        if let SetExpr::Values(values) = query.body.as_mut() {
            alike(&mut values.rows);
        }
        ControlFlow::Continue(())
    }
}

/// `fetch first 2 rows only` is a limit.
fn fetched(query: &mut Query) {
    let Some(Fetch { with_ties: false, percent: false, quantity }) = &query.fetch else { return };
    let count = quantity.clone().unwrap_or_else(|| plain_number("1"));
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(count),
        None => {
            query.limit_clause =
                Some(LimitClause::LimitOffset { limit: Some(count), offset: None, limit_by: Vec::new() });
        }
        Some(_) => return,
    }
    query.fetch = None;
}

/// Literals of a column of VALUES that elsewhere has values of a type.
fn alike(rows: &mut [Parens<Vec<Expr>>]) {
    let columns = rows.first().map_or(0, |row| row.content.len());
    for column in 0..columns {
        as_floats(rows, column);
        let mut known = rows.iter().filter_map(|row| match row.content.get(column) {
            Some(Expr::Cast { data_type, .. }) => Some(data_type.clone()),
            Some(Expr::Function(function)) if is_call(function, "uuid") => Some(DataType::Uuid),
            _ => None,
        });
        let Some(data_type) = known.next() else { continue };
        for row in rows.iter_mut() {
            let Some(expr) = row.content.get_mut(column) else { continue };
            // A NULL takes the name of a type that Arrow does not have along.
            let takes = |value: &Value| match value {
                Value::SingleQuotedString(_) => true,
                Value::Null => matches!(data_type, DataType::JSON | DataType::JSONB | DataType::Uuid),
                _ => false,
            };
            if matches!(expr, Expr::Value(value) if takes(&value.value)) {
                let taken = std::mem::replace(expr, Expr::Value(Value::Null.with_empty_span()));
                *expr = match data_type {
                    DataType::Uuid => cast(taken, DataType::Uuid),
                    ref other => plain_cast(taken, other.clone()),
                };
            }
        }
    }
}

/// Numbers of a column of VALUES that elsewhere has floats, which they become: the planner would make all of them decimals.
fn as_floats(rows: &mut [Parens<Vec<Expr>>], column: usize) {
    let cells = || rows.iter().filter_map(|row| row.content.get(column));
    let floats = cells().filter_map(|cell| match cell {
        Expr::Cast { data_type, .. } => float_of(data_type),
        _ => None,
    });
    let Some(float) = floats.max_by_key(|float| *float == DataType::DoublePrecision) else { return };
    for row in rows.iter_mut() {
        if let Some(cell) = row.content.get_mut(column)
            && is_number(cell)
        {
            let taken = std::mem::replace(cell, Expr::Value(Value::Null.with_empty_span()));
            *cell = cast(taken, float.clone());
        }
    }
}

/// The type of floats that a name of one stands for.
fn float_of(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Real | DataType::Float4 => Some(DataType::Real),
        DataType::DoublePrecision | DataType::Double(_) | DataType::Float8 => Some(DataType::DoublePrecision),
        _ => None,
    }
}

/// Whether a number stands in the text.
fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Number(..)),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => is_number(expr),
        Expr::Cast { expr, data_type: DataType::Int(None) | DataType::BigInt(None), .. } => is_number(expr),
        _ => false,
    }
}

fn is_integer(argument: &FunctionArg) -> bool {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::UnaryOp { op: UnaryOperator::Minus, expr })) => {
            matches!(expr.as_ref(), Expr::Cast { data_type: DataType::Int(None), .. })
        }
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
            matches!(expr, Expr::Cast { data_type: DataType::Int(None), .. })
        }
        _ => false,
    }
}

/// A function in FROM.
struct Called<'f> {
    name: String,
    arguments: &'f mut Vec<FunctionArg>,
    alias: &'f mut Option<TableAlias>,
    /// Whether its rows are numbered: WITH ORDINALITY.
    numbered: bool,
}

impl<'f> Called<'f> {
    fn of(factor: &'f mut TableFactor) -> Option<Self> {
        let (name, arguments, alias, numbered) = match factor {
            TableFactor::Table { name, alias, args: Some(arguments), with_ordinality, .. } => {
                (name, &mut arguments.args, alias, *with_ordinality)
            }
            TableFactor::Function { name, args, alias, with_ordinality, .. } => (name, args, alias, *with_ordinality),
            _ => return None,
        };
        let [part] = &name.0[..] else { return None };
        Some(Self { name: part.as_ident()?.value.to_lowercase(), arguments, alias, numbered })
    }

    /// The query in its place, by the alias that it has or its name. What names columns reads those of tables before it.
    fn instead(self, sql: &str) -> Option<TableFactor> {
        let lateral = self.arguments.iter().any(mentions_columns);
        derived(sql, self.alias, &self.name, lateral)
    }

    /// The name of a column that has none of its own.
    fn whole(&self) -> Ident {
        let name = self.alias.as_ref().map_or(self.name.as_str(), |alias| alias.name.value.as_str());
        Ident::with_quote('"', name)
    }
}

fn derived(sql: &str, alias: &mut Option<TableAlias>, name: &str, lateral: bool) -> Option<TableFactor> {
    let subquery = queries::query_of(sql)?;
    let own = || TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: vec![], at: None };
    let alias = Some(alias.take().unwrap_or_else(own));
    Some(TableFactor::Derived { lateral, subquery, alias, sample: None })
}

/// Whether there is a name of a column in an expression.
pub(super) fn mentions_columns(part: &impl Visit) -> bool {
    let is_column = |expr: &Expr| match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    visit_expressions(part, is_column).is_break()
}

/// The numbers of rows that stand for the elements of lists.
fn ordinality(lists: &[String]) -> String {
    format!(", unnest(array_places({})) as ordinality", lists.join(", "))
}

/// `generate_series` in FROM: its column goes by the table's alias, and is an integer of integers.
fn series_table(factor: &mut TableFactor) -> Option<TableFactor> {
    let called = Called::of(factor).filter(|called| called.name == SERIES)?;
    let cast = if called.arguments.iter().all(is_integer) { "::int" } else { "" };
    let column = called.whole();
    let of_columns = called.arguments.iter().any(mentions_columns);
    for argument in called.arguments.iter_mut().filter(|_| !of_columns) {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
            unmarked(expr);
        }
    }
    let texts: Vec<String> = called.arguments.iter().map(ToString::to_string).collect();
    let series = format!("{SERIES}({})", texts.join(", "));
    let sql = match (called.numbered, of_columns) {
        (false, false) => format!("select value{cast} as {column} from {series}"),
        (false, true) => format!("select unnest({series}){cast} as {column}"),
        (true, _) => format!("select unnest({series}){cast} as {column}{}", ordinality(std::slice::from_ref(&series))),
    };
    called.instead(&sql)
}

/// `unnest` in FROM: the elements of its arrays side by side. The column of one array goes by the table's alias.
fn unnest_table(factor: &mut TableFactor) -> Option<TableFactor> {
    let (arrays, alias, numbered, lateral) = match factor {
        TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality, .. } => {
            let arrays: Vec<String> = array_exprs.iter().map(ToString::to_string).collect();
            (arrays, alias, *with_ordinality, array_exprs.iter().any(mentions_columns))
        }
        other => {
            let called = Called::of(other).filter(|called| called.name == "unnest")?;
            let arrays: Vec<String> = called.arguments.iter().map(ToString::to_string).collect();
            (arrays, called.alias, called.numbered, called.arguments.iter().any(mentions_columns))
        }
    };
    let named = alias.as_ref().map_or(0, |alias| alias.columns.len());
    let whole = alias.as_ref().map_or("unnest", |alias| alias.name.value.as_str());
    // Several without a name are called alike by PostgreSQL, and refused as they are here.
    let name = |at: usize| match (&arrays[..], named) {
        ([_], _) => Some(whole.to_owned()),
        (_, named) if at < named => Some(format!("\u{1}unnest {at}")),
        _ => None,
    };
    let column =
        |(at, array): (usize, &String)| Some(format!("unnest({array}) as {}", Ident::with_quote('"', name(at)?)));
    let columns = arrays.iter().enumerate().map(column).collect::<Option<Vec<_>>>()?;
    let numbers = if numbered { ordinality(&arrays) } else { String::new() };
    let sql = format!("select {}{numbers}", columns.join(", "));
    derived(&sql, alias, "unnest", lateral)
}

/// Functions that make rows of what they are given: the lists by whose elements they stand, under which names, and the type
/// of an element where it is no text. Where it has no name, it goes by the table's alias.
const ROWS: [(&str, &[RowsOf]); 14] = [
    ("json_array_elements", &[RowsOf { list: "json_elements", name: Some("value"), data_type: Some("json") }]),
    ("jsonb_array_elements", &[RowsOf { list: "json_elements", name: Some("value"), data_type: Some("jsonb") }]),
    ("json_array_elements_text", &[RowsOf { list: "json_elements_text", name: Some("value"), data_type: None }]),
    ("jsonb_array_elements_text", &[RowsOf { list: "json_elements_text", name: Some("value"), data_type: None }]),
    ("json_object_keys", &[RowsOf { list: "json_keys", name: None, data_type: None }]),
    ("jsonb_object_keys", &[RowsOf { list: "json_keys", name: None, data_type: None }]),
    ("json_each", &[KEYS, RowsOf { list: "json_values", name: Some("value"), data_type: Some("json") }]),
    ("jsonb_each", &[KEYS, RowsOf { list: "json_values", name: Some("value"), data_type: Some("jsonb") }]),
    ("json_each_text", &[KEYS, RowsOf { list: "json_values_text", name: Some("value"), data_type: None }]),
    ("jsonb_each_text", &[KEYS, RowsOf { list: "json_values_text", name: Some("value"), data_type: None }]),
    ("jsonb_path_query", &[RowsOf { list: "json_path_values", name: None, data_type: Some("jsonb") }]),
    ("regexp_matches", &[RowsOf { list: "regexp_all_matches", name: None, data_type: None }]),
    ("regexp_split_to_table", &[RowsOf { list: "regexp_split_to_array", name: None, data_type: None }]),
    ("string_to_table", &[RowsOf { list: "string_to_array", name: None, data_type: None }]),
];

const KEYS: RowsOf = RowsOf { list: "json_keys", name: Some("key"), data_type: None };

struct RowsOf {
    list: &'static str,
    name: Option<&'static str>,
    data_type: Option<&'static str>,
}

/// The alias of such a function in FROM that makes single values, and the column that it stands for as a value.
pub(super) fn value_of_rows(factor: &TableFactor) -> Option<(&Ident, String)> {
    let (name, alias) = match factor {
        TableFactor::Table { name, alias: Some(alias), args: Some(_), .. } => (name, alias),
        TableFactor::Function { name, alias: Some(alias), .. } => (name, alias),
        _ => return None,
    };
    let [part] = &name.0[..] else { return None };
    let called = part.as_ident()?.value.to_lowercase();
    let (_, [only]) = ROWS.iter().find(|(known, _)| *known == called)? else { return None };
    let own = only.name?.to_owned();
    let column = alias.columns.first().map_or(own, |column| match column.name.quote_style {
        Some(_) => column.name.value.clone(),
        None => column.name.value.to_lowercase(),
    });
    Some((&alias.name, column))
}

/// Such a function in FROM.
fn rows_table(factor: &mut TableFactor) -> Option<TableFactor> {
    let called = Called::of(factor)?;
    let (_, columns) = ROWS.iter().find(|(known, _)| *known == called.name)?;
    let mut arguments: Vec<String> = called.arguments.iter().map(ToString::to_string).collect();
    // What is read as a jsonb has each key once.
    if let Some(document) = arguments.first_mut().filter(|_| called.name.starts_with("jsonb_")) {
        *document = format!("({document})::jsonb");
    }
    let arguments = arguments.join(", ");
    let list = |of: &RowsOf| format!("{}({arguments})", of.list);
    let column = |of: &RowsOf| {
        let cast = of.data_type.map_or_else(String::new, |data_type| format!("::{data_type}"));
        let name = of.name.map_or_else(|| called.whole(), |name| Ident::with_quote('"', name));
        format!("unnest({}){cast} as {name}", list(of))
    };
    let lists: Vec<String> = columns.iter().map(list).collect();
    let numbers = if called.numbered { ordinality(&lists) } else { String::new() };
    let sql = format!("select {}{numbers}", columns.iter().map(column).collect::<Vec<_>>().join(", "));
    called.instead(&sql)
}

/// The function that makes rows of its own.
const SERIES: &str = "generate_series";

/// The same wherever in a result it stands.
fn all_series(expr: &mut Expr) {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } | Expr::UnaryOp { expr: inner, .. } => all_series(inner),
        Expr::CompoundFieldAccess { root, .. } => all_series(root),
        Expr::BinaryOp { left, right, .. } => {
            all_series(left);
            all_series(right);
        }
        _ => series(expr),
    }
}

/// `generate_series` in a list of results stands for rows.
fn series(expr: &mut Expr) {
    let Expr::Function(function) = expr else { return };
    // So does what makes rows of one list.
    if let Some((_, [only])) = ROWS.iter().find(|(name, _)| is_call(function, name)) {
        let mut list = renamed(function.clone(), only.list);
        // What is read as a jsonb has each key once, in its order.
        if is_of_jsonb(function)
            && let Expr::Function(list) = &mut list
            && let FunctionArguments::List(list) = &mut list.args
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(document))) = list.args.first_mut()
        {
            let read = std::mem::replace(document, Expr::Value(Value::Null.with_empty_span()));
            *document = plain_cast(Expr::Nested(Box::new(read)), DataType::JSONB);
        }
        let rows = call("unnest", vec![list]);
        *expr = match only.data_type {
            Some("jsonb") => plain_cast(rows, DataType::JSONB),
            Some(_) => plain_cast(rows, DataType::JSON),
            None => rows,
        };
        return;
    }
    if is_call(function, "generate_subscripts") {
        let lists = match &function.args {
            FunctionArguments::List(list) => list.args.clone(),
            _ => return,
        };
        if let [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(list)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(dimension)),
        ] = &lists[..]
        {
            let mut dimension = dimension.clone();
            unmarked(&mut dimension);
            let length = call("array_length", vec![list.clone(), dimension]);
            let places = call(SERIES, vec![plain_number("1"), length]);
            *expr = plain_cast(call("unnest", vec![places]), DataType::Int(None));
        }
        return;
    }
    if !is_call(function, SERIES) {
        return;
    }
    let integers = matches!(&function.args, FunctionArguments::List(list) if list.args.iter().all(is_integer));
    let rows = call("unnest", vec![Expr::Function(function.clone())]);
    *expr = if integers { plain_cast(rows, DataType::Int(None)) } else { rows };
}

/// Functions whose further arguments must stand in the text, or are counts of 64 bits.
const TAKE_LITERALS: [&str; 10] =
    ["round", "lag", "lead", "nth_value", "left", "right", "lpad", "rpad", "repeat", "split_part"];

/// The number that a literal was before it got a type: where a number is a position or a count.
fn unmarked(expr: &mut Expr) {
    if let Expr::UnaryOp { op: UnaryOperator::Minus, expr } = expr {
        return unmarked(expr);
    }
    if let Expr::Cast { expr: inner, data_type: DataType::Int(None) | DataType::BigInt(None), .. } = expr
        && matches!(inner.as_ref(), Expr::Value(value) if matches!(value.value, Value::Number(..)))
    {
        let number = std::mem::replace(inner.as_mut(), Expr::Value(Value::Null.with_empty_span()));
        *expr = number;
    }
}

fn rewritten(expr: Expr) -> Expr {
    match expr {
        Expr::Value(value) => match value.value {
            Value::Number(ref text, _) => match number(text) {
                Some(made) => made,
                None => Expr::Value(value),
            },
            Value::UnicodeStringLiteral(decoded) => text(&decoded),
            _ => Expr::Value(value),
        },
        // A row is NULL where all of it is, and is not where nothing of it is.
        Expr::IsNull(inner) => match values_of_row(&inner) {
            Some(values) => all_of(values, Expr::IsNull),
            None => Expr::IsNull(inner),
        },
        Expr::IsNotNull(inner) => match values_of_row(&inner) {
            Some(values) => all_of(values, Expr::IsNotNull),
            None => Expr::IsNotNull(inner),
        },
        Expr::IsDistinctFrom(left, right) => match rows_distinct(&left, &right) {
            Some(distinct) => distinct,
            None => Expr::IsDistinctFrom(left, right),
        },
        Expr::IsNotDistinctFrom(left, right) => match rows_distinct(&left, &right) {
            Some(distinct) => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(distinct) },
            None => Expr::IsNotDistinctFrom(left, right),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => negative(*expr),
        // The operator is one of floats alone.
        Expr::UnaryOp { op: UnaryOperator::PGSquareRoot, expr } => {
            call("sqrt", vec![plain_cast(*expr, DataType::DoublePrecision)])
        }
        Expr::UnaryOp { op: UnaryOperator::PGCubeRoot, expr } => call("cbrt", vec![*expr]),
        Expr::UnaryOp { op: UnaryOperator::PGAbs, expr } => call("abs", vec![*expr]),
        // The planner looks for columns in the literal of an array among its own query's alone.
        Expr::Array(array) if array.elem.iter().any(mentions_columns) => call("make_array", array.elem),
        Expr::Like { negated, any: true, expr, pattern, escape_char } => any_pattern(*pattern, |pattern, any| {
            let (expr, escape_char) = (expr.clone(), escape_char.clone());
            Expr::Like { negated, any, expr, pattern, escape_char }
        }),
        Expr::ILike { negated, any: true, expr, pattern, escape_char } => any_pattern(*pattern, |pattern, any| {
            let (expr, escape_char) = (expr.clone(), escape_char.clone());
            Expr::ILike { negated, any, expr, pattern, escape_char }
        }),
        Expr::Like { negated, any: false, expr, pattern, escape_char } if all_patterns(&pattern).is_some() => {
            each_pattern(all_patterns(&pattern), |pattern| {
                let (expr, escape_char) = (expr.clone(), escape_char.clone());
                Expr::Like { negated, any: false, expr, pattern, escape_char }
            })
        }
        Expr::ILike { negated, any: false, expr, pattern, escape_char } if all_patterns(&pattern).is_some() => {
            each_pattern(all_patterns(&pattern), |pattern| {
                let (expr, escape_char) = (expr.clone(), escape_char.clone());
                Expr::ILike { negated, any: false, expr, pattern, escape_char }
            })
        }
        Expr::Like { any: false, ref pattern, escape_char: None, .. }
        | Expr::ILike { any: false, ref pattern, escape_char: None, .. }
            if ends_with_escape(pattern) =>
        {
            refused(Why::Escape, "LIKE pattern must not end with escape character", "A backslash is written twice.")
        }
        Expr::Like { negated, any: false, expr, pattern, escape_char: Some(escape) } => {
            let (pattern, escape_char) = escaped(*pattern, escape);
            Expr::Like { negated, any: false, expr, pattern: Box::new(pattern), escape_char }
        }
        Expr::ILike { negated, any: false, expr, pattern, escape_char: Some(escape) } => {
            let (pattern, escape_char) = escaped(*pattern, escape);
            Expr::ILike { negated, any: false, expr, pattern: Box::new(pattern), escape_char }
        }
        Expr::TypedString(TypedString { data_type, value, .. }) => cast(Expr::Value(value), data_type),
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, array: false, format: None } => {
            cast(*expr, data_type)
        }
        Expr::AnyOp { .. } | Expr::AllOp { .. } => {
            with_each(&expr).or_else(|| quantified(&expr)).or_else(|| as_membership(&expr)).unwrap_or(expr)
        }
        Expr::CompoundFieldAccess { root, access_chain } => subscripted(*root, access_chain),
        // Words that are values, and no columns.
        Expr::Identifier(Ident { ref value, quote_style: None, .. })
            if value.eq_ignore_ascii_case("localtimestamp") =>
        {
            plain_cast(call("now", Vec::new()), DataType::Timestamp(None, TimezoneInfo::None))
        }
        Expr::AtTimeZone { timestamp, time_zone } => call("timezone", vec![*time_zone, *timestamp]),
        Expr::Extract { expr, .. } if is_open_text(&expr) => ambiguous_function("extract"),
        Expr::Extract { field, expr, .. } => {
            call("extract", vec![text(&field.to_string().to_lowercase().replace('\'', "")), *expr])
        }
        Expr::Substring { expr, substring_from, substring_for, .. } => {
            let from = substring_from.map_or_else(|| plain_number("1"), |from| *from);
            let arguments = [Some(*expr), Some(from), substring_for.map(|length| *length)];
            call("substring", arguments.into_iter().flatten().collect())
        }
        Expr::SimilarTo { negated, expr, pattern, escape_char } => {
            let escape = escape_char.map(Expr::Value);
            let arguments = [Some(*expr), Some(*pattern), escape].into_iter().flatten();
            let made = call("similar_to", arguments.collect());
            if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(made) } } else { made }
        }
        Expr::Interval(mut interval) => {
            unmarked(&mut interval.value);
            let unit = interval.leading_field.as_ref().map(|field| field.to_string().to_lowercase());
            match (interval.value.as_ref(), interval.last_field.is_some()) {
                (Expr::Value(value), false) => match value.clone().into_string().or_else(|| value_number(&value.value))
                {
                    Some(figure) => {
                        let unit = unit
                            .filter(|_| figure.trim().bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-'));
                        let whole = unit.map_or_else(|| figure.clone(), |unit| format!("{figure} {unit}"));
                        cast(text(&whole), plain_interval())
                    }
                    None => Expr::Interval(interval),
                },
                _ => Expr::Interval(interval),
            }
        }
        Expr::InList { expr, list, negated } if is_list_of_rows(&expr, &list) => one_of_rows(*expr, list, negated),
        Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => match (*left, *right) {
            (Expr::Tuple(left), Expr::Tuple(right)) if left.len() == 2 && right.len() == 2 => overlap(&left, &right),
            (left, right) => binary(left, BinaryOperator::Overlaps, right),
        },
        Expr::BinaryOp { left, op, right } if compares_rows(&left, &op, &right) => {
            match (values_of_row(&left), values_of_row(&right)) {
                (Some(left), Some(right)) if left.len() == right.len() => {
                    Expr::Nested(Box::new(rows_compared(&left, &op, &right)))
                }
                _ => refused(Why::Syntax, "unequal number of entries in row expressions", ""),
            }
        }
        Expr::Function(function) if is_of_any_type(&function) => ambiguous_function(&function.name.to_string()),
        Expr::Function(function) if is_call(&function, "encode") => encoded(function),
        Expr::Function(function) if NAMED.iter().any(|(name, ..)| is_call(&function, name)) => by_names(function),
        Expr::Function(function) if NULL_COUNTS.iter().any(|(name, _)| is_call(&function, name)) => nulls(function),
        Expr::Function(function) if SYNONYMS.iter().any(|(name, _)| is_call(&function, name)) => {
            let known = SYNONYMS.iter().find(|(name, _)| is_call(&function, name));
            let mut function = function;
            windowed(&mut function);
            renamed(function, known.map_or("", |(_, name)| *name))
        }
        Expr::Function(function) if MOMENTS.iter().any(|name| is_call(&function, name)) => moment(function),
        Expr::Function(function) if is_call(&function, "mod") => match two_arguments(function) {
            Ok((left, right)) => Expr::Nested(Box::new(binary(nested(left), BinaryOperator::Modulo, nested(right)))),
            Err(function) => Expr::Function(*function),
        },
        // The whole part of a quotient.
        Expr::Function(function) if is_call(&function, "div") => match two_arguments(function) {
            Ok((left, right)) => {
                let quotient =
                    binary(call("numeric", vec![left]), BinaryOperator::Divide, call("numeric", vec![right]));
                plain_cast(call("trunc", vec![quotient]), DataType::Numeric(ExactNumberInfo::PrecisionAndScale(38, 0)))
            }
            Err(function) => Expr::Function(*function),
        },
        // An age of one moment is up to today.
        Expr::Function(function) if is_call(&function, "age") => match two_arguments(function) {
            Ok((left, right)) => call("age", vec![left, right]),
            Err(function) => one_age(*function),
        },
        Expr::Function(function) if is_call(&function, "regr_count") => {
            plain_cast(Expr::Function(function), DataType::BigInt(None))
        }
        Expr::Function(function) if is_call(&function, "factorial") => {
            plain_cast(Expr::Function(function), DataType::Numeric(ExactNumberInfo::PrecisionAndScale(38, 0)))
        }
        // An empty array has no dimensions.
        Expr::Function(function) if is_call(&function, "array_length") => {
            let length = plain_cast(Expr::Function(function), DataType::Int(None));
            call("nullif", vec![length, integer("0")])
        }
        // Counts of elements are integers.
        Expr::Function(function) if COUNTS.iter().any(|name| is_call(&function, name)) => {
            plain_cast(Expr::Function(function), DataType::Int(None))
        }
        Expr::Function(function) if is_call(&function, "array_positions") => {
            let integers = ArrayElemTypeDef::SquareBracket(Box::new(DataType::Int(None)), None);
            plain_cast(Expr::Function(function), DataType::Array(integers))
        }
        Expr::Function(function) if is_call(&function, "ntile") => {
            plain_cast(with_literals(function, 0), DataType::Int(None))
        }
        // Every element that is equal goes, not the first alone.
        Expr::Function(function) if is_call(&function, "array_remove") => renamed(function, "array_remove_all"),
        Expr::Function(function) if is_call(&function, "array_replace") => renamed(function, "array_replace_all"),
        Expr::Function(function) if is_call(&function, "make_interval") => {
            let parts = match &function.args {
                FunctionArguments::List(list) => placed(&list.args, &INTERVAL_PARTS),
                _ => None,
            };
            parts.map_or_else(|| Expr::Function(function), |parts| call("make_interval", parts))
        }
        Expr::Function(function) if is_call(&function, "array_fill") => match two_arguments(function) {
            // Of more dimensions than one it is refused.
            Ok((value, Expr::Array(lengths))) if lengths.elem.len() == 1 => {
                call("array_repeat", vec![value, lengths.elem[0].clone()])
            }
            Ok((value, lengths)) => call("array_fill", vec![value, lengths]),
            Err(function) => Expr::Function(*function),
        },
        Expr::Function(function) if is_call(&function, "trim_array") => match two_arguments(function) {
            Ok((array, count)) => {
                let length = call("cardinality", vec![array.clone()]);
                let end = plain_cast(
                    Expr::Nested(Box::new(binary(length, BinaryOperator::Minus, nested(count)))),
                    DataType::BigInt(None),
                );
                call("array_slice", vec![array, plain_number("1"), end])
            }
            Err(function) => Expr::Function(*function),
        },
        // The digits that are left are those that were asked for.
        Expr::Function(function) if is_call(&function, "trunc") => {
            let places = match &function.args {
                FunctionArguments::List(list) => match &list.args[..] {
                    [
                        _,
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Cast {
                            expr,
                            data_type: DataType::Int(None),
                            ..
                        })),
                    ] => expr.to_string().parse::<u8>().ok().filter(|places| *places <= 38),
                    // Digits before the point leave none behind it.
                    [
                        _,
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::UnaryOp { op: UnaryOperator::Minus, expr })),
                    ] if is_number(expr) => Some(0),
                    _ => None,
                },
                _ => None,
            };
            let truncated = with_literals(function, 1);
            match places {
                None => truncated,
                Some(places) => {
                    let exact = ExactNumberInfo::PrecisionAndScale(38, i64::from(places));
                    plain_cast(truncated, DataType::Numeric(exact))
                }
            }
        }
        Expr::Function(function) if TAKE_LITERALS.iter().any(|name| is_call(&function, name)) => {
            with_literals(function, 1)
        }
        // All bits of a number turned over.
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => {
            let minus_one = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(integer("1")) };
            Expr::Nested(Box::new(binary(minus_one, BinaryOperator::Minus, nested(*expr))))
        }
        Expr::Function(function) if is_call(&function, "array") => {
            queries::array_of_rows(&function).unwrap_or(Expr::Function(function))
        }
        Expr::Function(function) if !function.within_group.is_empty() => {
            queries::place_in_order(&function).unwrap_or(Expr::Function(function))
        }
        Expr::Function(function) if is_call(&function, "to_number") => to_number(function),
        // A document of rows is one of the array of them.
        Expr::Function(function) if DOCUMENTS.iter().any(|(name, _, _)| is_call(&function, name)) => of_rows(function),
        Expr::Function(mut function) => {
            if is_call(&function, "format")
                && let FunctionArguments::List(list) = &mut function.args
            {
                list.args.iter_mut().skip(1).for_each(as_text);
            }
            if let Some(made) = distinct_in_order(&function) {
                return made;
            }
            // Rows are counted by what they are written as.
            if is_call(&function, "count")
                && let FunctionArguments::List(list) = &mut function.args
                && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(row))] = &mut list.args[..]
            {
                record(row);
            }
            windowed(&mut function);
            Expr::Function(function)
        }
        other => other,
    }
}

/// Whether an expression is a text that stands there without a type.
fn is_open_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. }))
}

fn ambiguous_function(name: &str) -> Expr {
    let hint = "A text may be a value of several types: cast it, '2024-03-05'::date.";
    refused(Why::AmbiguousFunction, &format!("function {name}(unknown, unknown) is not unique"), hint)
}

/// Whether a function of times of many types is called with a text that says nothing of which one it is.
fn is_of_any_type(function: &Function) -> bool {
    let at = match () {
        () if is_call(function, "date_trunc") || is_call(function, "date_part") => 1,
        () if is_call(function, "to_char") => 0,
        () => return false,
    };
    let FunctionArguments::List(list) = &function.args else { return false };
    matches!(list.args.get(at), Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(value))) if is_open_text(value))
}

/// Functions whose arguments may be named, which names these have, and how many of them must be there.
const NAMED: [(&str, &[&str], usize); 12] = [
    ("make_date", &["year", "month", "day"], 3),
    ("make_time", &["hour", "min", "sec"], 3),
    ("make_timestamp", &["year", "month", "mday", "hour", "min", "sec"], 6),
    ("make_timestamptz", &["year", "month", "mday", "hour", "min", "sec", "timezone"], 6),
    ("jsonb_set", &["jsonb_in", "path", "replacement", "create_if_missing"], 3),
    ("jsonb_insert", &["jsonb_in", "path", "replacement", "insert_after"], 3),
    ("jsonb_path_exists", JSON_PATH, 2),
    ("jsonb_path_match", JSON_PATH, 2),
    ("jsonb_path_query", JSON_PATH, 2),
    ("jsonb_path_query_array", JSON_PATH, 2),
    ("jsonb_path_query_first", JSON_PATH, 2),
    ("json_strip_nulls", &["from_json"], 1),
];

const JSON_PATH: &[&str] = &["target", "path", "vars", "silent"];

/// A call with arguments by their names as one with these in their places; as it is where the names are none of the function's.
fn by_names(mut function: Function) -> Expr {
    let known = NAMED.iter().find(|(name, ..)| is_call(&function, name));
    if let (Some((_, names, least)), FunctionArguments::List(list)) = (known, &mut function.args)
        && list.args.iter().any(|argument| !matches!(argument, FunctionArg::Unnamed(_)))
        && let Some(placed) = in_places(&list.args, names)
    {
        let given = placed.iter().take_while(|argument| argument.is_some()).count();
        // What is left out stands at the end.
        if given >= *least && placed[given..].iter().all(Option::is_none) {
            let arguments = placed.into_iter().flatten();
            list.args = arguments.map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
        }
    }
    Expr::Function(function)
}

/// Bytes as a text: in lines where they are many, and by ASCII, as PostgreSQL writes them.
fn encoded(function: Function) -> Expr {
    let way = match &function.args {
        FunctionArguments::List(list) => match &list.args[..] {
            [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(way)))] => way.clone().into_string(),
            _ => None,
        },
        _ => None,
    };
    match way.map(|way| way.to_lowercase()).as_deref() {
        Some("base64") => match two_arguments(function) {
            // With the signs at the end that fill it up.
            Ok((bytes, _)) => call("in_lines", vec![call("encode", vec![bytes, text("base64pad")])]),
            Err(function) => Expr::Function(*function),
        },
        Some("escape") => match two_arguments(function) {
            Ok((bytes, _)) => call("escaped_bytes", vec![bytes]),
            Err(function) => Expr::Function(*function),
        },
        _ => Expr::Function(function),
    }
}

fn one_age(function: Function) -> Expr {
    let FunctionArguments::List(list) = &function.args else { return Expr::Function(function) };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))] = &list.args[..] else { return Expr::Function(function) };
    let today = plain_cast(call("current_date", Vec::new()), DataType::Timestamp(None, TimezoneInfo::None));
    call("age", vec![today, of.clone()])
}

/// The values of a row that is written out.
fn values_of_row(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(values) if values.len() > 1 => Some(values.clone()),
        Expr::Function(function) if is_call(function, "row") => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let value = |argument: &FunctionArg| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
                _ => None,
            };
            list.args.iter().map(value).collect::<Option<Vec<_>>>().filter(|values| !values.is_empty())
        }
        _ => None,
    }
}

fn all_of(values: Vec<Expr>, test: fn(Box<Expr>) -> Expr) -> Expr {
    let tests = values.into_iter().map(|value| Expr::Nested(Box::new(test(nested(value)))));
    let all = tests.reduce(|all, one| binary(all, BinaryOperator::And, one));
    Expr::Nested(Box::new(all.unwrap_or_else(|| Expr::Value(Value::Boolean(true).with_empty_span()))))
}

/// What stands at places of an array, or a column of what is read: `(o).total`.
fn subscripted(root: Expr, access_chain: Vec<AccessExpr>) -> Expr {
    if let (Expr::Nested(row), [AccessExpr::Dot(Expr::Identifier(column))]) = (&root, &access_chain[..])
        && let Expr::Identifier(name) = row.as_ref()
    {
        return Expr::CompoundIdentifier(vec![name.clone(), column.clone()]);
    }
    let mut inner = &root;
    while let Expr::Nested(nested) = inner {
        inner = nested;
    }
    // The planner takes one element of an aggregate for another aggregate, which has no first one.
    let root = match inner {
        Expr::Function(function) if is_call(function, "array_agg") => call("array_or_empty", vec![root]),
        _ => root,
    };
    let access_chain = access_chain.into_iter().map(|access| match access {
        AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride }) => {
            let lower_bound = Some(lower_bound.unwrap_or_else(|| integer("1")));
            let upper_bound = Some(upper_bound.unwrap_or_else(|| integer("2147483647")));
            AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride })
        }
        other => other,
    });
    Expr::CompoundFieldAccess { root: Box::new(root), access_chain: access_chain.collect() }
}

/// Distinct values are listed in their order, or turned round; by nothing else may they be ordered.
///
/// They are put in order when all are there: the planner orders the rows that come in, for one of several such lists alone.
fn distinct_in_order(function: &Function) -> Option<Expr> {
    let is_text = is_call(function, "string_agg");
    let FunctionArguments::List(list) = &function.args else { return None };
    let is_distinct = matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct));
    if !is_distinct || function.over.is_some() || !(is_text || is_call(function, "array_agg")) {
        return None;
    }
    let argument = |at: usize| match list.args.get(at) {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))) => Some(argument),
        _ => None,
    };
    let value = argument(0)?;
    let order = match &list.clauses[..] {
        [] => OrderByOptions { asc: None, nulls_first: None },
        [FunctionArgumentClause::OrderBy(by)] => match &by[..] {
            [by] if by.expr == *value => by.options,
            _ => return None,
        },
        _ => return None,
    };
    let is_down = order.asc == Some(false);
    let nulls = if order.nulls_first.unwrap_or(is_down) { "NULLS FIRST" } else { "NULLS LAST" };
    let sorted = |function: Function| {
        let way = text(if is_down { "DESC" } else { "ASC" });
        call("array_sort", vec![Expr::Function(function), way, text(nulls)])
    };
    let alone = FunctionArgumentList { args: vec![list.args[0].clone()], clauses: Vec::new(), ..list.clone() };
    let name = ObjectName::from(vec![Ident::new("array_agg")]);
    let made = Function { name, args: FunctionArguments::List(alone), ..function.clone() };
    if !is_text {
        return Some(sorted(made));
    }
    let between = argument(1).filter(|between| matches!(between, Expr::Value(_)))?;
    // Of NULLs alone nothing is put together.
    let is_there = Expr::IsNotNull(nested(value.clone()));
    let filter = match &function.filter {
        Some(filter) => binary(nested(filter.as_ref().clone()), BinaryOperator::And, nested(is_there)),
        None => is_there,
    };
    let texts = sorted(Function { filter: Some(Box::new(filter)), ..made });
    Some(call("array_to_string", vec![texts, between.clone()]))
}

/// The time of the statement, as it is called with the digits that its seconds have.
const MOMENTS: [&str; 3] = ["current_timestamp", "localtimestamp", "localtime"];

fn moment(function: Function) -> Expr {
    let digits = match &function.args {
        FunctionArguments::List(list) => match &list.args[..] {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(digits))] => Some(digits.clone()),
            _ => None,
        },
        _ => None,
    };
    let now = call("now", Vec::new());
    let time = match local(&function) {
        Some(data_type) => plain_cast(now, data_type),
        None if digits.is_none() => return Expr::Function(function),
        None => now,
    };
    match digits {
        Some(digits) => call("to_precision", vec![time, digits]),
        None => time,
    }
}

/// The type of a moment without a zone.
fn local(function: &Function) -> Option<DataType> {
    match () {
        () if is_call(function, "localtimestamp") => Some(DataType::Timestamp(None, TimezoneInfo::None)),
        () if is_call(function, "localtime") => Some(DataType::Time(None, TimezoneInfo::None)),
        () => None,
    }
}

/// Functions that have another name below.
const SYNONYMS: [(&str, &str); 7] = [
    ("array_to_json", "to_json"),
    ("every", "bool_and"),
    ("ceiling", "ceil"),
    ("log10", "log"),
    ("clock_timestamp", "now"),
    ("statement_timestamp", "now"),
    ("transaction_timestamp", "now"),
];

/// Functions that count how many of their arguments are NULL, or are not.
const NULL_COUNTS: [(&str, bool); 2] = [("num_nulls", true), ("num_nonnulls", false)];

fn nulls(function: Function) -> Expr {
    let arguments = match &function.args {
        FunctionArguments::List(list) => list.args.as_slice(),
        _ => &[],
    };
    let is_null = NULL_COUNTS.iter().any(|(name, is_null)| *is_null && is_call(&function, name));
    let counted = |argument: &FunctionArg| {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = argument else { return None };
        let value = nested(value.clone());
        let test = if is_null { Expr::IsNull(value) } else { Expr::IsNotNull(value) };
        Some(plain_cast(Expr::Nested(Box::new(test)), DataType::Int(None)))
    };
    let counts: Option<Vec<Expr>> = arguments.iter().map(counted).collect();
    let sum = counts.and_then(|counts| counts.into_iter().reduce(|sum, one| binary(sum, BinaryOperator::Plus, one)));
    sum.map_or(Expr::Function(function), |sum| Expr::Nested(Box::new(sum)))
}

/// Whether any value of a row is distinct from that of the other.
fn rows_distinct(left: &Expr, right: &Expr) -> Option<Expr> {
    let (left, right) = (values_of_row(left)?, values_of_row(right)?);
    if left.len() != right.len() {
        return None;
    }
    let pairs = left.into_iter().zip(right);
    let mut parts: Vec<Expr> =
        pairs.map(|(left, right)| Expr::Nested(Box::new(Expr::IsDistinctFrom(nested(left), nested(right))))).collect();
    in_pairs(&mut parts, &BinaryOperator::Or);
    parts.pop().map(|any| Expr::Nested(Box::new(any)))
}

/// Whether two rows of values are compared: `(a, b) > (1, 2)`.
fn compares_rows(left: &Expr, op: &BinaryOperator, right: &Expr) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let is_comparison = matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq);
    is_comparison && values_of_row(left).is_some() && values_of_row(right).is_some()
}

/// Whether a row of values is looked for in a list of such: `(a, b) in ((1, 2), (3, 4))`.
fn is_list_of_rows(expr: &Expr, list: &[Expr]) -> bool {
    let is_as_long = |item: &Expr| match (values_of_row(expr), values_of_row(item)) {
        (Some(own), Some(other)) => own.len() == other.len(),
        _ => false,
    };
    !list.is_empty() && list.iter().all(is_as_long)
}

fn one_of_rows(expr: Expr, list: Vec<Expr>, negated: bool) -> Expr {
    let equal = |item: Expr| match (values_of_row(&expr), values_of_row(&item)) {
        (Some(left), Some(right)) => rows_compared(&left, &BinaryOperator::Eq, &right),
        _ => binary(expr.clone(), BinaryOperator::Eq, item),
    };
    let mut parts: Vec<Expr> = list.into_iter().map(|item| Expr::Nested(Box::new(equal(item)))).collect();
    in_pairs(&mut parts, &BinaryOperator::Or);
    let found = parts.pop().unwrap_or_else(|| Expr::Value(Value::Boolean(false).with_empty_span()));
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: nested(found) } } else { found }
}

/// Conditions joined to one, in pairs, so that it is not deep.
fn in_pairs(parts: &mut Vec<Expr>, by: &BinaryOperator) {
    while parts.len() > 1 {
        let pairs = parts.chunks(2).map(|pair| match pair {
            [left, right] => Expr::Nested(Box::new(binary(left.clone(), by.clone(), right.clone()))),
            rest => rest.first().cloned().unwrap_or_else(|| Expr::Value(Value::Null.with_empty_span())),
        });
        *parts = pairs.collect();
    }
}

/// Rows are compared value by value, the first that differ decide.
fn rows_compared(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Expr {
    let strict = match op {
        BinaryOperator::LtEq => BinaryOperator::Lt,
        BinaryOperator::GtEq => BinaryOperator::Gt,
        other => other.clone(),
    };
    let compared = |at: usize, op: &BinaryOperator| {
        Expr::Nested(Box::new(binary(nested(left[at].clone()), op.clone(), nested(right[at].clone()))))
    };
    let last = left.len() - 1;
    (0..last).rev().fold(compared(last, op), |rest, at| {
        let made = match op {
            BinaryOperator::Eq => binary(compared(at, op), BinaryOperator::And, rest),
            BinaryOperator::NotEq => binary(compared(at, op), BinaryOperator::Or, rest),
            _ => {
                let tied = binary(compared(at, &BinaryOperator::Eq), BinaryOperator::And, rest);
                binary(compared(at, &strict), BinaryOperator::Or, nested(tied))
            }
        };
        Expr::Nested(Box::new(made))
    })
}

/// `(a, b) overlaps (c, d)`: periods with their ends, whichever stands first, or with their lengths. A period holds its start,
/// and not its end.
fn overlap(left: &[Expr], right: &[Expr]) -> Expr {
    let of = |period: &[Expr]| {
        let (from, to) = (&period[0], &period[1]);
        let is_length = matches!(to, Expr::Cast { data_type: DataType::Interval { .. }, .. } | Expr::Interval(_));
        let to = match is_length {
            true => Expr::Nested(Box::new(binary(from.clone(), BinaryOperator::Plus, to.clone()))),
            false => to.clone(),
        };
        (call("least", vec![from.clone(), to.clone()]), call("greatest", vec![from.clone(), to]))
    };
    let ((first, first_end), (second, second_end)) = (of(left), of(right));
    let compared = |left: &Expr, op, right: &Expr| Expr::Nested(Box::new(binary(left.clone(), op, right.clone())));
    let begin = compared(&first, BinaryOperator::Eq, &second);
    let one = compared(&first, BinaryOperator::Lt, &second_end);
    let other = compared(&second, BinaryOperator::Lt, &first_end);
    let cross = Expr::Nested(Box::new(binary(one, BinaryOperator::And, other)));
    Expr::Nested(Box::new(binary(begin, BinaryOperator::Or, cross)))
}

/// A number has the digits behind the point that its template has.
fn to_number(function: Function) -> Expr {
    let template = match &function.args {
        FunctionArguments::List(list) => match &list.args[..] {
            [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] => value.clone().into_string(),
            _ => None,
        },
        _ => None,
    };
    let scale = template.and_then(|template| to_char::number::scale_of(&template));
    let digits = renamed(function, "digits_of");
    match scale {
        Some(scale) => plain_cast(digits, DataType::Numeric(ExactNumberInfo::PrecisionAndScale(38, scale))),
        None => call("numeric", vec![digits]),
    }
}

/// A row as a result is a value of its own.
fn record(expr: &mut Expr) {
    match expr {
        Expr::Function(function) if is_call(function, "row") => *expr = renamed(function.clone(), "record_of"),
        Expr::Tuple(values) if values.len() > 1 => *expr = call("record_of", std::mem::take(values)),
        _ => {}
    }
}

/// Aggregates that differ by the casts of what they aggregate alone: the planner, which leaves casts out of names, would call
/// them alike. A function that changes nothing tells them apart.
fn told_apart(select: &mut Select) {
    let mut known: Vec<(String, String)> = Vec::new();
    let mut is_alike = false;
    let one = |expr: &Expr| -> ControlFlow<()> {
        if let Some((plain, whole)) = without_casts(expr)
            && !known.iter().any(|(_, other)| *other == whole)
        {
            is_alike |= known.iter().any(|(other, _)| *other == plain);
            known.push((plain, whole));
        }
        ControlFlow::Continue(())
    };
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = visit_expressions(&select.projection, one);
    if !is_alike {
        return;
    }
    let apart = |expr: &mut Expr| -> ControlFlow<()> {
        let Some((plain, whole)) = without_casts(expr) else { return ControlFlow::Continue(()) };
        let is_first = known.iter().find(|(other, _)| *other == plain).is_some_and(|(_, first)| *first == whole);
        if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = expr
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(value @ Expr::Cast { .. }))) = list.args.first_mut()
            && !is_first
        {
            let null = Expr::Value(Value::Null.with_empty_span());
            *value = call("coalesce", vec![value.clone(), null]);
        }
        ControlFlow::Continue(())
    };
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = visit_expressions_mut(&mut select.projection, apart);
}

/// A call of one value or two, written without the cast of the first and with it.
fn without_casts(expr: &Expr) -> Option<(String, String)> {
    let Expr::Function(function) = expr else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) = list.args.first() else { return None };
    let is_aggregate =
        function.name.0.len() == 1 && function.over.is_none() && AGGREGATES.iter().any(|name| is_call(function, name));
    if !is_aggregate {
        return None;
    }
    let mut plain = function.clone();
    let mut value = first;
    while let Expr::Cast { expr, .. } | Expr::Nested(expr) = value {
        value = expr;
    }
    if let FunctionArguments::List(list) = &mut plain.args {
        list.args[0] = FunctionArg::Unnamed(FunctionArgExpr::Expr(value.clone()));
    }
    Some((plain.to_string(), function.to_string()))
}

/// Aggregates of one value.
const AGGREGATES: [&str; 9] = ["sum", "avg", "min", "max", "count", "stddev", "variance", "array_agg", "string_agg"];

fn windowed(function: &mut Function) {
    if let Some(WindowType::WindowSpec(window)) = &mut function.over {
        of_window(window);
    }
}

/// A call whose arguments from one on are literals as they are written.
fn with_literals(mut function: Function, from: usize) -> Expr {
    if let FunctionArguments::List(list) = &mut function.args {
        for argument in list.args.iter_mut().skip(from) {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
                unmarked(expr);
            }
        }
    }
    windowed(&mut function);
    Expr::Function(function)
}

fn renamed(function: Function, name: &str) -> Expr {
    Expr::Function(Function { name: ObjectName::from(vec![Ident::new(name)]), ..function })
}

/// The least integers, whose digits alone are a number of the next type.
fn negative(expr: Expr) -> Expr {
    let digits = match &expr {
        Expr::Cast { expr: inner, data_type: DataType::BigInt(None) | DataType::Numeric(_), .. } => {
            match inner.as_ref() {
                Expr::Value(value) => match &value.value {
                    Value::Number(digits, _) | Value::SingleQuotedString(digits) => digits.as_str(),
                    _ => "",
                },
                _ => "",
            }
        }
        _ => "",
    };
    let data_type = match digits {
        "2147483648" => DataType::Int(None),
        "9223372036854775808" => DataType::BigInt(None),
        _ => return Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(expr) },
    };
    plain_cast(text(&format!("-{digits}")), data_type)
}

/// Patterns of a list that are tried one by one.
const PATTERNS_MAX: usize = 256;

/// The patterns that a list has in the text: `array['a%', 'b%']`, `'{a%,b%}'`.
fn patterns(listed: &Expr) -> Vec<Expr> {
    let patterns = match listed {
        Expr::Nested(inner) => patterns(inner),
        Expr::Array(array) => array.elem.clone(),
        Expr::Tuple(patterns) => patterns.clone(),
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(written), .. }) => {
            let written = list_of(written).unwrap_or_default();
            written.iter().flatten().map(|pattern| text(pattern)).collect()
        }
        _ => Vec::new(),
    };
    if patterns.len() > PATTERNS_MAX { Vec::new() } else { patterns }
}

/// `like any (array['a%', 'b%'])`: one pattern after another.
fn any_pattern(pattern: Expr, like: impl Fn(Box<Expr>, bool) -> Expr) -> Expr {
    let each = patterns(&pattern).into_iter().map(|pattern| like(Box::new(pattern), false));
    match each.reduce(|all, one| binary(all, BinaryOperator::Or, one)) {
        Some(any) => Expr::Nested(Box::new(any)),
        None => like(Box::new(pattern), true),
    }
}

/// The patterns of `like all (…)`, which is read as a call.
fn all_patterns(pattern: &Expr) -> Option<Vec<Expr>> {
    let Expr::Function(function) = pattern else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(listed))] = &list.args[..] else { return None };
    Some(patterns(listed)).filter(|patterns| is_call(function, "all") && !patterns.is_empty())
}

fn each_pattern(patterns: Option<Vec<Expr>>, like: impl Fn(Box<Expr>) -> Expr) -> Expr {
    let each = patterns.into_iter().flatten().map(|pattern| like(Box::new(pattern)));
    let all = each.reduce(|all, one| binary(all, BinaryOperator::And, one));
    Expr::Nested(Box::new(all.unwrap_or_else(|| Expr::Value(Value::Boolean(true).with_empty_span()))))
}

/// Whether a pattern that stands in the text ends in a backslash that stands for nothing.
fn ends_with_escape(pattern: &Expr) -> bool {
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(written), .. }) = pattern else { return false };
    (written.len() - written.trim_end_matches('\\').len()) % 2 == 1
}

/// A pattern of LIKE with another escape as one with the backslash; as it is where the pattern is no literal.
fn escaped(pattern: Expr, escape: ValueWithSpan) -> (Expr, Option<ValueWithSpan>) {
    let mark = match &escape.value {
        Value::SingleQuotedString(mark) => mark.clone(),
        _ => return (pattern, Some(escape)),
    };
    let written = match &pattern {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(written) if mark != "\\" => written.clone(),
            _ => return (pattern, Some(escape)),
        },
        _ => return (pattern, Some(escape)),
    };
    let mark = mark.chars().next();
    let mut out = String::with_capacity(written.len());
    let mut chars = written.chars();
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == mark => {
                out.push('\\');
                out.extend(chars.next());
            }
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    (text(&out), None)
}

/// Arguments by name in the places that they have; none where a name is unknown.
fn placed(arguments: &[FunctionArg], names: &[&str]) -> Option<Vec<Expr>> {
    let placed = in_places(arguments, names)?;
    Some(placed.into_iter().map(|argument| argument.unwrap_or_else(|| integer("0"))).collect())
}

/// The same, with those that are not given told apart.
fn in_places(arguments: &[FunctionArg], names: &[&str]) -> Option<Vec<Option<Expr>>> {
    let mut out = vec![None; names.len()];
    for (at, argument) in arguments.iter().enumerate() {
        let (at, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (at, value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                (names.iter().position(|known| name.value.eq_ignore_ascii_case(known))?, value)
            }
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), .. } => {
                (names.iter().position(|known| name.value.eq_ignore_ascii_case(known))?, value)
            }
            _ => return None,
        };
        *out.get_mut(at)? = Some(value.clone());
    }
    Some(out)
}

/// The parts of an interval by the names that they are made of.
const INTERVAL_PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

fn of_window(window: &mut WindowSpec) {
    window.order_by.iter_mut().for_each(|order| unmarked(&mut order.expr));
    if let Some(frame) = &mut window.window_frame {
        let bounds = [Some(&mut frame.start_bound), frame.end_bound.as_mut()];
        bounds.into_iter().flatten().for_each(of_frame);
    }
}

/// Bounds of a window's frame are counts or intervals as they are written.
fn of_frame(bound: &mut WindowFrameBound) {
    if let WindowFrameBound::Preceding(Some(expr)) | WindowFrameBound::Following(Some(expr)) = bound {
        unmarked(expr);
        if let Expr::Cast { expr: inner, data_type: DataType::Interval { .. }, .. } = expr.as_ref() {
            let value = inner.clone();
            **expr = Expr::Interval(datafusion_sql::sqlparser::ast::Interval {
                value,
                leading_field: None,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            });
        }
    }
}

fn value_number(value: &Value) -> Option<String> {
    match value {
        Value::Number(text, _) => Some(text.clone()),
        _ => None,
    }
}

/// A number by the type that PostgreSQL gives it; none where the planner's own is right.
fn number(written: &str) -> Option<Expr> {
    let plain = written.replace('_', "");
    if plain.contains(['e', 'E']) {
        let (_, digits, scale) = digits(&plain)?;
        let text = expanded(&digits, scale)?;
        return Some(Expr::Value(Value::Number(text, false).with_empty_span()));
    }
    if plain.contains('.') || !plain.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let data_type = match plain.parse::<i64>() {
        Ok(value) if i32::try_from(value).is_ok() => DataType::Int(None),
        Ok(_) => DataType::BigInt(None),
        Err(_) => {
            let digits = u64::try_from(plain.trim_start_matches('0').len()).ok().filter(|digits| *digits <= 76)?;
            return Some(plain_cast(text(&plain), DataType::Numeric(ExactNumberInfo::PrecisionAndScale(digits, 0))));
        }
    };
    Some(plain_cast(plain_number(&plain), data_type))
}

/// Digits with a scale, without an exponent; none beyond what a numeric may have.
fn expanded(digits: &str, scale: i64) -> Option<String> {
    let digits = if digits.is_empty() { "0" } else { digits };
    match usize::try_from(scale) {
        Ok(scale) if scale <= 38 => {
            let padded = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = padded.split_at_checked(padded.len() - scale)?;
            // A point keeps it a numeric.
            Some(format!("{whole}.{fraction}"))
        }
        Ok(_) => None,
        Err(_) => {
            let zeros = usize::try_from(scale.unsigned_abs()).ok().filter(|zeros| zeros + digits.len() <= 38)?;
            Some(format!("{digits}{}.", "0".repeat(zeros)))
        }
    }
}

fn integer(text: &str) -> Expr {
    plain_cast(plain_number(text), DataType::Int(None))
}

fn plain_number(text: &str) -> Expr {
    Expr::Value(Value::Number(text.to_owned(), false).with_empty_span())
}

pub(super) fn text(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).with_empty_span())
}

fn plain_interval() -> DataType {
    DataType::Interval { fields: None, precision: None }
}

fn plain_cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::DoubleColon, expr: Box::new(expr), data_type, array: false, format: None }
}

/// A day or a moment that a text names by when it is read.
fn named_time(expr: &Expr, data_type: &DataType) -> Option<Expr> {
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(word), .. }) = expr else { return None };
    let days = match word.trim().to_ascii_lowercase().as_str() {
        "now" => None,
        "today" => Some("0"),
        "tomorrow" => Some("1"),
        "yesterday" => Some("-1"),
        _ => return None,
    };
    if !matches!(data_type, DataType::Date | DataType::Timestamp(None, _)) {
        return None;
    }
    let time = match days {
        None => call("now", Vec::new()),
        Some(days) => Expr::Nested(Box::new(binary(
            call("current_date", Vec::new()),
            BinaryOperator::Plus,
            plain_cast(text(days), DataType::Int(None)),
        ))),
    };
    Some(plain_cast(time, data_type.clone()))
}

/// A cast to a type, of the length that is written with it.
fn cast(expr: Expr, data_type: DataType) -> Expr {
    if let Some(made) = named_time(&expr, &data_type) {
        return made;
    }
    let length = |length: &CharacterLength| match length {
        CharacterLength::IntegerLength { length, .. } => Some(*length),
        CharacterLength::Max => None,
    };
    let number = |number: u64| plain_cast(plain_number(&number.to_string()), DataType::Int(None));
    match &data_type {
        DataType::Varchar(size) | DataType::CharacterVarying(size) | DataType::CharVarying(size) => {
            let size = size.as_ref().and_then(length);
            let value = plain_cast(expr, DataType::Text);
            call("varchar", [Some(value), size.map(number)].into_iter().flatten().collect())
        }
        DataType::Char(size) | DataType::Character(size) => {
            let size = size.as_ref().and_then(length).unwrap_or(1);
            call("bpchar", vec![plain_cast(expr, DataType::Text), number(size)])
        }
        DataType::Custom(name, _) if matches!(&name.0[..], [part] if part.as_ident().is_some_and(is_one_char)) => {
            call("one_char", vec![plain_cast(expr, DataType::Text)])
        }
        DataType::Uuid => call("uuid", vec![expr]),
        DataType::Timestamp(Some(digits), zone) => {
            call("to_precision", vec![plain_cast(expr, DataType::Timestamp(None, *zone)), number(*digits)])
        }
        DataType::Time(Some(digits), zone @ (TimezoneInfo::None | TimezoneInfo::WithoutTimeZone)) => {
            call("to_precision", vec![plain_cast(expr, DataType::Time(None, *zone)), number(*digits)])
        }
        DataType::Numeric(ExactNumberInfo::None)
        | DataType::Decimal(ExactNumberInfo::None)
        | DataType::Dec(ExactNumberInfo::None) => unconstrained(expr),
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) if deep_array(&expr, element).is_some() => {
            let deep = deep_array(&expr, element).unwrap_or_else(|| data_type.clone());
            plain_cast(expr, deep)
        }
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) if is_unconstrained(element) => numerics(expr),
        // What was a document, or a uuid, is a text, also by the name of its type.
        DataType::Text if makes_document(&expr) => call("text", vec![plain_cast(expr, data_type)]),
        // A literal is read to the nearest float, not by way of a decimal.
        DataType::Float(_)
        | DataType::Float4
        | DataType::Float8
        | DataType::Real
        | DataType::Double(_)
        | DataType::DoublePrecision => match &expr {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) => plain_cast(text(digits), data_type),
                _ => plain_cast(expr, data_type),
            },
            _ => plain_cast(expr, data_type),
        },
        _ => plain_cast(expr, data_type),
    }
}

/// The type of an array of more dimensions than one that stands in the text.
fn deep_array(expr: &Expr, element: &DataType) -> Option<DataType> {
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(written), .. }) = expr else { return None };
    let dimensions = dimensions_of(written);
    let mut innermost = element;
    while let DataType::Array(ArrayElemTypeDef::SquareBracket(inner, _)) = innermost {
        innermost = inner;
    }
    if !(2..=DIMENSIONS_MAX).contains(&dimensions) || is_unconstrained(innermost) {
        return None;
    }
    let of = |inner: DataType| DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(inner), None));
    Some((0..dimensions).fold(innermost.clone(), |inner, _| of(inner)))
}

/// Dimensions that PostgreSQL's arrays may have.
const DIMENSIONS_MAX: usize = 6;

/// Whether an expression is a document, or a uuid, as it is written.
fn makes_document(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => makes_document(inner),
        Expr::BinaryOp { op, .. } => matches!(op, BinaryOperator::Arrow | BinaryOperator::HashArrow),
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::JSON | DataType::JSONB),
        Expr::Function(function) => match &function.name.0[..] {
            [part] => part.as_ident().is_some_and(|name| {
                let name = name.value.to_lowercase();
                name.starts_with("json")
                    || matches!(name.as_str(), "to_json" | "to_jsonb" | "row_to_json" | "uuid" | "gen_random_uuid")
            }),
            _ => false,
        },
        _ => false,
    }
}

/// `"char"`, which is another type than `char`.
fn is_one_char(name: &Ident) -> bool {
    name.quote_style.is_some() && name.value == "char"
}

/// `numeric` without a scale: that of the number that stands in the text, else that of the value's type.
fn unconstrained(expr: Expr) -> Expr {
    let of = |written: &str| -> Option<DataType> {
        let (_, digits, scale) = digits(written)?;
        let scale = scale.max(0);
        let whole = i64::try_from(digits.len()).ok()? - scale;
        let precision = if whole + scale > 38 { 76 } else { 38 };
        Some(DataType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, scale)))
    };
    let known = match &expr {
        // A whole number has its type already, and the digits of that.
        Expr::Cast { expr: inner, data_type: own @ (DataType::Int(None) | DataType::BigInt(None)), .. } if matches!(inner.as_ref(), Expr::Value(value) if matches!(value.value, Value::Number(..))) =>
        {
            let digits = if matches!(own, DataType::Int(_)) { 10 } else { 19 };
            Some(DataType::Numeric(ExactNumberInfo::PrecisionAndScale(digits, 0)))
        }
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) | Value::SingleQuotedString(text) => of(text),
            _ => None,
        },
        _ => None,
    };
    match known {
        Some(data_type) => plain_cast(expr, data_type),
        None => call("numeric", vec![expr]),
    }
}

/// The same of arrays.
fn numerics(expr: Expr) -> Expr {
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(written), .. }) = &expr else {
        return call("numeric", vec![expr]);
    };
    let elements = list_of(written).unwrap_or_default();
    let scales = elements.iter().flatten().filter_map(|element| digits(element)).map(|(_, _, scale)| scale);
    let exact = ExactNumberInfo::PrecisionAndScale(38, scales.max().unwrap_or(0).clamp(0, 38));
    plain_cast(expr, DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(DataType::Numeric(exact)), None)))
}

fn is_unconstrained(data_type: &DataType) -> bool {
    use DataType::{Dec, Decimal, Numeric};
    matches!(data_type, Numeric(ExactNumberInfo::None) | Decimal(ExactNumberInfo::None) | Dec(ExactNumberInfo::None))
}

/// Functions whose result is an integer.
const COUNTS: [&str; 4] = ["cardinality", "array_ndims", "array_position", "regexp_instr"];

/// Aggregates that make documents, what makes one of an array, and how many arrays that takes.
const DOCUMENTS: [(&str, &str, usize); 6] = [
    ("json_agg", "json_of_elements", 1),
    ("jsonb_agg", "jsonb_of_elements", 1),
    ("json_agg_of_rows", "json_of_row_elements", 1),
    ("jsonb_agg_of_rows", "jsonb_of_row_elements", 1),
    ("json_object_agg", "json_of_pairs", 2),
    ("jsonb_object_agg", "jsonb_of_pairs", 2),
];

fn of_rows(function: Function) -> Expr {
    let known = DOCUMENTS.iter().find(|(name, _, _)| is_call(&function, name));
    let (Some((_, made_by, arrays)), FunctionArguments::List(list)) = (known, &function.args) else {
        return Expr::Function(function);
    };
    if list.args.len() != *arrays {
        return Expr::Function(function);
    }
    // A document stands in the array as one; the array would not say that its texts are documents.
    let to_document = if made_by.starts_with("jsonb") { "to_jsonb" } else { "to_json" };
    let array_of = |(at, argument): (usize, &FunctionArg)| {
        let argument = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) if at + 1 == *arrays => {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(call(to_document, vec![value.clone()])))
            }
            other => other.clone(),
        };
        let list = FunctionArgumentList { args: vec![argument], ..list.clone() };
        let name = ObjectName::from(vec![Ident::new("array_agg")]);
        Expr::Function(Function { name, args: FunctionArguments::List(list), ..function.clone() })
    };
    call(made_by, list.args.iter().enumerate().map(array_of).collect())
}

fn is_of_jsonb(function: &Function) -> bool {
    matches!(&function.name.0[..], [part] if part.as_ident().is_some_and(|name| name.value.to_lowercase().starts_with("jsonb_")))
}

fn is_call(function: &Function, name: &str) -> bool {
    matches!(&function.name.0[..], [part] if part.as_ident().is_some_and(|part| part.value.eq_ignore_ascii_case(name)))
}

fn two_arguments(function: Function) -> Result<(Expr, Expr), Box<Function>> {
    if let FunctionArguments::List(list) = &function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(left)), FunctionArg::Unnamed(FunctionArgExpr::Expr(right))] =
            &list.args[..]
    {
        return Ok((left.clone(), right.clone()));
    }
    Err(Box::new(function))
}

fn nested(expr: Expr) -> Box<Expr> {
    Box::new(Expr::Nested(Box::new(expr)))
}

fn binary(left: impl Into<Box<Expr>>, op: BinaryOperator, right: impl Into<Box<Expr>>) -> Expr {
    Expr::BinaryOp { left: left.into(), op, right: right.into() }
}

fn as_text(argument: &mut FunctionArg) {
    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
        let taken = std::mem::replace(expr, Expr::Value(Value::Null.with_empty_span()));
        *expr = plain_cast(taken, DataType::Text);
    }
}

/// A call of a function.
pub fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(function_call(name, arguments))
}

/// The same as a part of the tree.
pub fn function_call(name: &str, arguments: Vec<Expr>) -> Function {
    let arguments = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)));
    let list = FunctionArgumentList { duplicate_treatment: None, args: arguments.collect(), clauses: vec![] };
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    }
}
