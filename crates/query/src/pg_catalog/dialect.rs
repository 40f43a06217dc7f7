//! What client programs ask the catalogue, brought into a form that DataFusion plans and that means the same.
//!
//! Names of objects (`'orders'::regclass`) become functions of the session's names in any statement ([`registered`]); the
//! rest is for statements that read the catalogue ([`catalogue`]): vectors that count from 0, sets in the list of a SELECT,
//! subqueries that are correlated.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Select,
    SelectItem, SetExpr, Statement, Subscript, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut,
    visit_expressions,
};
use datafusion_pg_catalog::sql::rules::{FixArrayLiteral, RewritePgCatalogOperator, SqlStatementRewriteRule as _};

use plan::{call, function_call};

use crate::output;
use crate::pg_catalog::shipped::REGPROCS;
use crate::pg_catalog::{REGISTERED, SYSTEM_SCHEMAS};

/// Columns whose numbers are counted from 0.
const VECTORS: [&str; 5] = ["indkey", "indclass", "indcollation", "indoption", "proargtypes"];

/// Columns that every table has and no list shows.
const SYSTEM_COLUMNS: [&str; 5] = ["xmin", "xmax", "cmin", "cmax", "tableoid"];

/// Functions that make one value of many.
const AGGREGATES: [&str; 16] = [
    "array_agg",
    "avg",
    "bool_and",
    "bool_or",
    "count",
    "every",
    "json_agg",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_object_agg",
    "max",
    "min",
    "string_agg",
    "stddev",
    "sum",
    "first_value",
];

/// Puts functions in the place of casts to the types of [`REGISTERED`]: they yield oids, which an answer shows as names
/// ([`crate::output`]); where one becomes a text within the statement, that is the name too.
pub(crate) fn registered(tree: &mut Statement, reads_catalog: bool) {
    if let Statement::Query(query) = tree
        && reads_catalog
    {
        head(&mut query.body);
    }
    let ControlFlow::Continue(()) = VisitMut::visit(tree, &mut Registered { reads_catalog });
}

/// Rewrites a statement that reads the catalogue.
pub(crate) fn catalogue(mut tree: Statement) -> Statement {
    plan::literal_arrays(&mut tree);
    let tree = RewritePgCatalogOperator.rewrite(tree);
    let mut tree = FixArrayLiteral.rewrite(tree);
    let ControlFlow::Continue(()) = VisitMut::visit(&mut tree, &mut Catalogue);
    tree
}

/// The statement with NULL for what DataFusion cannot join: subqueries that depend on the row they stand in by more than
/// equality. They list what there is never any of: options, policies, publications, triggers.
pub(crate) fn without_subqueries(tree: &Statement) -> Statement {
    let mut tree = tree.clone();
    let ControlFlow::Continue(()) = VisitMut::visit(&mut tree, &mut Nothing);
    tree
}

/// Puts NULL in the place of subqueries.
struct Nothing;

impl VisitorMut for Nothing {
    type Break = Infallible;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        let Expr::Subquery(query) = expr else { return ControlFlow::Continue(()) };
        if !is_correlated(query) {
            return ControlFlow::Continue(());
        }
        let null = Expr::Value(Value::Null.with_empty_span());
        *expr = match result(query).as_str() {
            // What lists is a list still, and what counts a number.
            "array" | "array_agg" => cast(
                null,
                ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(Box::new(ast::DataType::Text), None)),
            ),
            "count" if lists_nothing(query) => cast(number(0), ast::DataType::BigInt(None)),
            _ => null,
        };
        ControlFlow::Continue(())
    }
}

/// The function that makes the result of a query, also of one in its place.
fn result(query: &Query) -> String {
    let SetExpr::Select(select) = query.body.as_ref() else { return String::new() };
    match select.projection.first() {
        Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => match expr {
            Expr::Function(function) => match argument(function) {
                // One of one row.
                Some(Expr::Subquery(inner)) => result(inner),
                _ => bare(&function.name.to_string()),
            },
            Expr::Subquery(inner) => result(inner),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

/// Tables of the catalogue that have no rows.
const EMPTY: [&str; 7] =
    ["pg_depend", "pg_inherits", "pg_policy", "pg_publication", "pg_rewrite", "pg_seclabels", "pg_trigger"];

/// Whether a query is over a table without rows alone, or joined with one.
fn lists_nothing(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let first = select.from.first().map(|from| &from.relation);
    matches!(first, Some(TableFactor::Table { name, .. }) if EMPTY.contains(&bare(&name.to_string()).as_str()))
}

/// The part of a name that says which, without the schema and quotes: `regclass` of `pg_catalog."regclass"`. `"char"` is
/// another type than `char`, and keeps its quotes.
pub(crate) fn bare(name: &str) -> String {
    let name = name.to_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    match name.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(inner) if inner != "char" && !inner.contains('"') => inner.to_owned(),
        _ => name.to_owned(),
    }
}

/// The last part of a column's name.
fn column(expr: &Expr) -> Option<String> {
    let ident = match expr {
        Expr::Identifier(ident) => ident,
        Expr::CompoundIdentifier(idents) => idents.last()?,
        _ => return None,
    };
    Some(if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() })
}

struct Registered {
    /// Only then are columns of some names functions.
    reads_catalog: bool,
}

impl VisitorMut for Registered {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        headed(select, of_name);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } = expr
            && let Some(escape) = escape_char.take_if(|escape| escape.to_string() != "'\\'")
        {
            **pattern = escaped(pattern, Expr::Value(escape));
        }
        if let Expr::Function(function) = expr
            && bare(&function.name.to_string()) == "date"
            && let [value] = arguments(function).as_slice()
        {
            *expr = cast(value.clone(), ast::DataType::Date);
            return ControlFlow::Continue(());
        }
        if let Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } = expr {
            for side in [left, right] {
                if let Some(made) = shown(side, self.reads_catalog) {
                    **side = made;
                }
            }
            return ControlFlow::Continue(());
        }
        let Expr::Cast { expr: inner, data_type, .. } = expr else { return ControlFlow::Continue(()) };
        let name = bare(&data_type.to_string());
        let made = match name.as_str() {
            name if REGISTERED.contains(&name) => call(&format!("{name}in"), vec![inner.as_ref().clone()]),
            "text" | "varchar" | "character varying" | "name" => match shown(inner, self.reads_catalog) {
                Some(made) => made,
                None => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        *expr = made;
        ControlFlow::Continue(())
    }
}

/// A pattern with another escape than the backslash, which DataFusion does not have, as one with it.
fn escaped(pattern: &Expr, escape: Expr) -> Expr {
    let text = |text: &str| Expr::Value(Value::SingleQuotedString(text.to_owned()).with_empty_span());
    let plain = call("replace", vec![pattern.clone(), text("\\"), text("\\\\")]);
    call("replace", vec![plain, escape, text("\\")])
}

/// Gives what gets another form here the headings that it has as it is written: in the statement's own lists.
fn head(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            head(left);
            head(right);
        }
        SetExpr::Query(inner) => head(&mut inner.body),
        SetExpr::Select(select) => headed(select, rewritten),
        _ => {}
    }
}

/// Gives unnamed results the headings that `heading` finds for them.
fn headed(select: &mut Select, heading: fn(&Expr) -> Option<String>) {
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if let Some(heading) = heading(expr) {
            let alias = Ident::with_quote('"', heading);
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

/// The heading of what has a cast to a type of [`REGISTERED`] in it, where it has one.
fn of_name(expr: &Expr) -> Option<String> {
    let casts = visit_expressions(expr, |expr| match expr {
        Expr::Cast { data_type, .. } if REGISTERED.contains(&bare(&data_type.to_string()).as_str()) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    Some(output::given(expr)).filter(|heading| casts.is_break() && heading != output::UNKNOWN)
}

/// The name of what is of such a type.
fn shown(expr: &Expr, reads_catalog: bool) -> Option<Expr> {
    if reads_catalog && column(expr).is_some_and(|name| REGPROCS.contains(&name.as_str())) {
        return Some(call("regprocout", vec![expr.clone()]));
    }
    match expr {
        Expr::Nested(inner) => shown(inner, reads_catalog),
        Expr::Function(function) => {
            let name = function.name.to_string();
            let name = name.strip_suffix("in").or_else(|| name.strip_prefix("to_"));
            let name = name.filter(|name| REGISTERED.contains(name))?;
            Some(call(&format!("{name}out"), vec![expr.clone()]))
        }
        _ => None,
    }
}

/// The heading of what gets another form here.
fn rewritten(expr: &Expr) -> Option<String> {
    match expr {
        Expr::AnyOp { .. } | Expr::AllOp { .. } => Some("?column?".to_owned()),
        Expr::Function(function) => {
            const SETS: [&str; 6] = [
                "array",
                "generate_series",
                "generate_subscripts",
                "row_to_json",
                "_pg_expandarray",
                "pg_partition_ancestors",
            ];
            let name = bare(&function.name.to_string());
            let name = name.rsplit('.').next().unwrap_or_default();
            SETS.contains(&name).then(|| name.to_owned())
        }
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last()? {
            AccessExpr::Dot(Expr::Identifier(name)) => Some(name.value.clone()),
            _ => None,
        },
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
                SelectItem::UnnamedExpr(Expr::Function(function)) => {
                    let name = bare(&function.name.to_string());
                    Some(name.rsplit('.').next().unwrap_or_default().to_owned())
                }
                SelectItem::UnnamedExpr(expr) => column(expr),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// The first argument of a call.
fn argument(function: &ast::Function) -> Option<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.first()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn arguments(function: &ast::Function) -> Vec<Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let plain = list.args.iter().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    plain.collect()
}

struct Catalogue;

impl VisitorMut for Catalogue {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        while let Some(unnested) = Unnested::take(select) {
            unnested.put(select);
        }
        if names_twice(select) {
            wrap(select);
        }
        for (name, columns) in listed(select) {
            let ControlFlow::Continue(()) = VisitMut::visit(select, &mut WholeRow { name, columns });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Infallible> {
        // A table is called by its own name, also where its schema is written.
        if let TableFactor::Table { name, alias: alias @ None, args: None, .. } = factor
            && let [schema, table] = name.0.as_slice()
            && let (Some(schema), Some(table)) = (schema.as_ident(), table.as_ident())
            && is_system(schema)
        {
            *alias = Some(ast::TableAlias { explicit: true, name: table.clone(), columns: Vec::new(), at: None });
        }
        if let TableFactor::Table { name, alias, args: Some(_), .. } = factor
            && let Some(made) = without_rows(&bare(&name.to_string()))
        {
            let called = Ident::new(bare(&name.to_string()));
            let own = ast::TableAlias { explicit: true, name: called, columns: Vec::new(), at: None };
            let alias = Some(alias.clone().unwrap_or(own));
            *factor = TableFactor::Derived { lateral: false, subquery: Box::new(made), alias, sample: None };
        }
        if let TableFactor::Table { name, args: Some(_), alias: Some(alias), .. } = factor
            && alias.columns.is_empty()
        {
            // The one column of a function is called as it is.
            if bare(&name.to_string()) == "generate_series" {
                let called = alias.name.clone();
                alias.columns.push(ast::TableAliasColumnDef { name: called, data_type: None });
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        match expr {
            Expr::Function(function) => {
                if let FunctionArguments::Subquery(query) = &function.args
                    && bare(&function.name.to_string()) == "array"
                {
                    *expr = array_of(query);
                }
            }
            Expr::Subquery(query) => one_row(query),
            Expr::Exists { subquery, .. } => any_element(subquery),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        let made = match expr {
            Expr::CompoundIdentifier(_) if column(expr).is_some_and(|name| SYSTEM_COLUMNS.contains(&name.as_str())) => {
                Some(call("xid", Vec::new()))
            }
            Expr::CompoundFieldAccess { root, access_chain } => field(root, access_chain),
            Expr::Function(function) => set(function),
            // Out of a text by a pattern.
            Expr::Substring { expr, substring_from: Some(from), substring_for: None, .. } if is_text(from) => {
                Some(call("substring", vec![expr.as_ref().clone(), from.as_ref().clone()]))
            }
            Expr::CompoundIdentifier(path) => without_schema(path),
            Expr::Case { operand: Some(operand), conditions, .. } if is_flag(operand) => {
                conditions.iter_mut().for_each(|when| flag(&mut when.condition));
                None
            }
            Expr::BinaryOp { left, op: op @ (BinaryOperator::Eq | BinaryOperator::NotEq), right } => {
                match (left.as_ref(), right.as_ref()) {
                    (Expr::Tuple(left), Expr::Tuple(right))
                        if left.len() == right.len() && *op == BinaryOperator::Eq =>
                    {
                        pairs(left, right)
                    }
                    (_, Expr::Value(value)) => {
                        if let Some(list) = numbers(&value.value) {
                            **right = list;
                        }
                        None
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        if let Some(made) = made {
            *expr = made;
        }
        ControlFlow::Continue(())
    }
}

/// Whether a list with a set has a column's own name for something else that is made of it (`CASE WHEN a … END AS a`), which
/// DataFusion finds ambiguous.
fn names_twice(select: &Select) -> bool {
    let has_set = select.projection.iter().any(|item| item.to_string().to_lowercase().contains("unnest"));
    let is_twice = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { expr, alias } => {
            column(expr).is_none() && !matches!(expr, Expr::Function(_)) && expr.to_string().contains(&alias.value)
        }
        _ => false,
    };
    has_set && select.projection.iter().any(is_twice)
}

/// Puts a select into one around it that gives its columns their names.
fn wrap(select: &mut Select) {
    let mut outer = Vec::new();
    let mut inner = Vec::new();
    for (position, item) in select.projection.iter().enumerate() {
        let (expr, name) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias.clone()),
            SelectItem::UnnamedExpr(expr) => match column(expr) {
                Some(name) => (expr, Ident::with_quote('"', name)),
                None => return,
            },
            _ => return,
        };
        let alias = Ident::new(format!("column_{position}"));
        inner.push(SelectItem::ExprWithAlias { expr: expr.clone(), alias: alias.clone() });
        outer.push(format!("{alias} AS {name}"));
    }
    let mut wrapped = select.clone();
    wrapped.projection = inner;
    if let Some(Query { body, .. }) = query(&format!("SELECT {} FROM ({wrapped}) AS wrapped", outer.join(", ")))
        && let SetExpr::Select(made) = *body
    {
        *select = *made;
    }
}

/// Functions that list what there is nothing of: partitions.
fn without_rows(function: &str) -> Option<Query> {
    let columns = match function {
        "pg_partition_ancestors" => "CAST(NULL AS int) AS relid, CAST(NULL AS bigint) AS ordinality",
        "pg_partition_tree" => {
            "CAST(NULL AS int) AS relid, CAST(NULL AS int) AS parentrelid, CAST(NULL AS boolean) AS isleaf, CAST(NULL AS int) AS level"
        }
        _ => return None,
    };
    query(&format!("SELECT {columns} WHERE false"))
}

/// Subqueries of a select's FROM by name, with the names of their columns where all have one.
fn listed(select: &Select) -> Vec<(Ident, Vec<Ident>)> {
    let of = |from: &ast::TableWithJoins| -> Option<(Ident, Vec<Ident>)> {
        let TableFactor::Derived { subquery, alias: Some(alias), .. } = &from.relation else { return None };
        let SetExpr::Select(inner) = subquery.body.as_ref() else { return None };
        let columns = inner.projection.iter().map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
            _ => None,
        });
        Some((alias.name.clone(), columns.collect::<Option<_>>()?))
    };
    select.from.iter().filter_map(of).collect()
}

/// `row_to_json(t)` of a subquery `t`, by its columns.
struct WholeRow {
    name: Ident,
    columns: Vec<Ident>,
}

impl VisitorMut for WholeRow {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Expr::Function(function) = expr
            && bare(&function.name.to_string()) == "row_to_json"
            && let Some(Expr::Identifier(row)) = argument(function)
            && row.value == self.name.value
        {
            let pairs = self.columns.iter().flat_map(|column| {
                let key = Value::SingleQuotedString(column.value.clone()).with_empty_span();
                [Expr::Value(key), Expr::CompoundIdentifier(vec![self.name.clone(), column.clone()])]
            });
            *expr = call("json_build_object", pairs.collect());
        }
        ControlFlow::Continue(())
    }
}

/// `(k.keys).n`, a field of a pair, as a function; a place in a vector is counted from 1.
fn field(root: &Expr, access_chain: &mut [AccessExpr]) -> Option<Expr> {
    match access_chain {
        [AccessExpr::Dot(Expr::Identifier(name))] if matches!(root, Expr::Nested(_)) => {
            let name = Value::SingleQuotedString(name.value.clone()).with_empty_span();
            return Some(call("get_field", vec![root.clone(), Expr::Value(name)]));
        }
        [AccessExpr::Subscript(Subscript::Index { index })] if is_vector(root) => *index = plus_one(index.clone()),
        [AccessExpr::Dot(column), AccessExpr::Subscript(Subscript::Index { index })] if is_vector(column) => {
            *index = plus_one(index.clone());
        }
        _ => {}
    }
    None
}

/// Whether a column counts from 0, also where a program has put something before its name (`i_indoption`).
fn is_vector(expr: &Expr) -> bool {
    column(expr).is_some_and(|name| VECTORS.iter().any(|vector| name.ends_with(vector)))
}

/// `pg_catalog.pg_class.oid` by the table's name alone, which is how the table is called ([`Catalogue`]).
fn without_schema(path: &[Ident]) -> Option<Expr> {
    match path {
        [schema, table, name] if is_system(schema) => Some(Expr::CompoundIdentifier(vec![table.clone(), name.clone()])),
        _ => None,
    }
}

fn is_system(schema: &Ident) -> bool {
    SYSTEM_SCHEMAS.contains(&schema.value.to_lowercase().as_str())
}

/// Whether a column is a boolean, by the names that those of the catalogue have.
fn is_flag(expr: &Expr) -> bool {
    column(expr)
        .is_some_and(|name| ["indis", "relis", "relhas", "rolcan", "condefer"].iter().any(|of| name.starts_with(of)))
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
}

/// A boolean by its letter.
fn flag(expr: &mut Expr) {
    let letter = match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) if text == "t" => true,
            Value::SingleQuotedString(text) if text == "f" => false,
            _ => return,
        },
        _ => return,
    };
    *expr = Expr::Value(Value::Boolean(letter).with_empty_span());
}

/// `'{0}'`, a list of oids where it is compared.
fn numbers(value: &Value) -> Option<Expr> {
    let Value::SingleQuotedString(text) = value else { return None };
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let elem = inner.split(',').map(|part| part.trim().parse::<i32>().ok().map(number)).collect::<Option<Vec<_>>>()?;
    Some(Expr::Array(ast::Array { elem, named: true }))
}

/// `(a, b) = (c, d)` part by part.
fn pairs(left: &[Expr], right: &[Expr]) -> Option<Expr> {
    let equal = left.iter().zip(right).map(|(left, right)| binary(left.clone(), BinaryOperator::Eq, right.clone()));
    equal.reduce(|all, next| binary(all, BinaryOperator::And, next))
}

/// `unnest(c.conkey) WITH ORDINALITY AS k(attnum, ord)` beside the table `c`: the sets become columns of that table.
struct Unnested {
    array: Expr,
    /// `k`, `attnum` and `ord`.
    alias: Ident,
    columns: Vec<Ident>,
    has_ordinality: bool,
}

impl Unnested {
    /// The first of a select's FROM that unnests a column of a table there, taken out of it.
    fn take(select: &mut Select) -> Option<Self> {
        for at in 0..select.from.len() {
            if let Some(before) = at.checked_sub(1)
                && let Some(found) = Self::of(&select.from[at].relation)
            {
                let joins = select.from.remove(at).joins;
                // What was joined to it is joined to what stands before.
                select.from[before].joins.extend(joins);
                return Some(found);
            }
            let is_one = |join: &ast::Join| Self::of(&join.relation).is_some();
            if let Some(join) = select.from[at].joins.iter().position(is_one) {
                return Self::of(&select.from[at].joins.remove(join).relation);
            }
        }
        None
    }

    fn of(factor: &TableFactor) -> Option<Self> {
        let (array, alias, has_ordinality) = match factor {
            TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => match array_exprs.as_slice() {
                [array] => (array.clone(), alias.as_ref()?, *with_ordinality),
                _ => return None,
            },
            TableFactor::Function { name, args, with_ordinality, alias, .. } if bare(&name.to_string()) == "unnest" => {
                match args.as_slice() {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))] => {
                        (array.clone(), alias.as_ref()?, *with_ordinality)
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        column(&array)?;
        let columns = alias.columns.iter().map(|column| column.name.clone()).collect();
        Some(Self { array, alias: alias.name.clone(), columns, has_ordinality })
    }

    /// Puts it into the table that has the array.
    fn put(self, select: &mut Select) {
        let owner = match &self.array {
            Expr::CompoundIdentifier(path) => match path.as_slice() {
                [.., owner, _] => Some(owner.value.to_lowercase()),
                _ => None,
            },
            _ => None,
        };
        let factors = select.from.iter_mut().flat_map(|from| {
            std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation))
        });
        let mut table = factors.filter_map(|factor| match factor {
            TableFactor::Table { name, alias, .. } => {
                let last = name.0.last().and_then(|part| part.as_ident())?;
                let called = alias.as_ref().map_or(last, |alias| &alias.name).clone();
                let is_it = owner.as_ref().is_none_or(|owner| called.value.to_lowercase() == *owner);
                is_it.then_some((factor, called))
            }
            _ => None,
        });
        let Some((factor, called)) = table.next() else { return };
        let value = self.columns.first().unwrap_or(&self.alias);
        let mut text = format!("SELECT {called}.*, unnest({}) AS {}", self.array, self.column(value));
        if let Some(ordinal) = self.columns.get(1).filter(|_| self.has_ordinality) {
            let length = format!("CAST(array_length({}) AS bigint)", self.array);
            text += &format!(", unnest(range(CAST(1 AS bigint), {length} + 1)) AS {}", self.column(ordinal));
        }
        let Some(subquery) = query(&format!("{text} FROM {factor}")) else { return };
        let alias = ast::TableAlias { explicit: true, name: called.clone(), columns: Vec::new(), at: None };
        *factor =
            TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias: Some(alias), sample: None };
        drop(table);
        let ControlFlow::Continue(()) = VisitMut::visit(select, &mut Renamed { of: &self, table: called });
    }

    /// The name of one of its columns in the table.
    fn column(&self, name: &Ident) -> Ident {
        Ident::with_quote('"', format!("{}.{}", self.alias.value.to_lowercase(), name.value.to_lowercase()))
    }
}

/// Calls the columns of what was unnested by their names in the table.
struct Renamed<'a> {
    of: &'a Unnested,
    table: Ident,
}

impl VisitorMut for Renamed<'_> {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        let same = |one: &Ident, other: &Ident| one.value.eq_ignore_ascii_case(&other.value);
        let names = if self.of.columns.is_empty() { std::slice::from_ref(&self.of.alias) } else { &self.of.columns };
        let found = match expr {
            Expr::Identifier(name) => names.iter().find(|known| same(known, name)),
            Expr::CompoundIdentifier(path) => match path.as_slice() {
                [owner, name] if same(owner, &self.of.alias) => names.iter().find(|known| same(known, name)),
                _ => None,
            },
            _ => None,
        };
        if let Some(name) = found {
            *expr = Expr::CompoundIdentifier(vec![self.table.clone(), self.of.column(name)]);
        }
        ControlFlow::Continue(())
    }
}

/// Functions that make a set of rows, in the words of those that DataFusion has.
fn set(function: &ast::Function) -> Option<Expr> {
    let name = bare(&function.name.to_string());
    let given = arguments(function);
    match (name.rsplit('.').next().unwrap_or_default(), given.as_slice()) {
        ("generate_subscripts", [array, _]) => {
            let length = cast(call("array_length", vec![array.clone()]), ast::DataType::BigInt(None));
            let (from, to) = if is_vector(array) { (0, length) } else { (1, plus_one(length)) };
            let from = cast(number(from), ast::DataType::BigInt(None));
            Some(call("unnest", vec![call("range", vec![from, to])]))
        }
        ("age", [xid])
            if column(xid)
                .is_some_and(|name| name.ends_with("xid") || name.ends_with("xmin") || name == "transactionid") =>
        {
            Some(call("xid_age", given.clone()))
        }
        ("generate_series", [from, to]) => {
            let ends = [from, to].map(|end| cast(end.clone(), ast::DataType::BigInt(None)));
            Some(call("unnest", vec![call("generate_series", ends.to_vec())]))
        }
        // There are no partitions.
        ("pg_partition_ancestors", [_]) => {
            let none = Expr::Array(ast::Array { elem: Vec::new(), named: true });
            let numbers = ast::ArrayElemTypeDef::SquareBracket(Box::new(ast::DataType::Int(None)), None);
            Some(call("unnest", vec![cast(none, ast::DataType::Array(numbers))]))
        }
        ("_pg_expandarray", [array]) => Some(call("unnest", vec![call("pg_expanded_array", vec![array.clone()])])),
        _ => None,
    }
}

/// `ARRAY(SELECT …)`: an aggregate of what is selected.
fn array_of(query: &Query) -> Expr {
    let mut query = query.clone();
    let order = match query.order_by.take() {
        Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(order), .. }) => order,
        _ => Vec::new(),
    };
    if let SetExpr::Select(select) = query.body.as_mut()
        && query.with.is_none()
        && query.limit_clause.is_none()
        && let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] =
            select.projection.as_mut_slice()
    {
        // `ORDER BY 1` is by the value itself.
        let order = order.into_iter().map(|mut by| {
            if matches!(&by.expr, Expr::Value(value) if matches!(value.value, Value::Number(..))) {
                by.expr = value.clone();
            }
            by
        });
        let order: Vec<_> = order.collect();
        *value = aggregate("array_agg", value.clone(), order);
        return Expr::Subquery(Box::new(query));
    }
    query.order_by =
        (!order.is_empty()).then_some(ast::OrderBy { kind: ast::OrderByKind::Expressions(order), interpolate: None });
    Expr::Subquery(Box::new(aggregated(query)))
}

/// `SELECT array_agg(value) FROM (query) listed(value)`.
fn aggregated(listed: Query) -> Query {
    query(&format!("SELECT array_agg(value) FROM ({listed}) AS listed(value)")).unwrap_or(listed)
}

/// A query of this text.
pub(crate) fn query(text: &str) -> Option<Query> {
    const NESTING_MAX: usize = 250;
    const DEPTH_MAX: usize = 1_000;
    match plan::shape::parsed(text, NESTING_MAX, DEPTH_MAX).ok()?.pop() {
        Some(Statement::Query(query)) => Some(*query),
        _ => None,
    }
}

/// The one row that a correlated subquery has, if any, as an aggregate: only those are joined.
fn one_row(query: &mut Query) {
    if query.with.is_some() || !is_correlated(query) {
        return;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let is_grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(by, _) if by.is_empty());
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] =
        select.projection.as_mut_slice()
    else {
        return;
    };
    if is_grouped || select.distinct.is_some() {
        return;
    }
    if has_aggregate(value) {
        // It is one row without a limit.
        query.limit_clause = None;
        return;
    }
    let order = match query.order_by.take() {
        Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(order), .. }) => order,
        _ => Vec::new(),
    };
    query.limit_clause = None;
    *value = match order.is_empty() {
        true => call("max", vec![value.clone()]),
        false => aggregate("first_value", value.clone(), order),
    };
}

/// `EXISTS (SELECT … FROM t WHERE o.x = ANY(t.list))` by the elements of the list, of which one is equal: only equality with
/// the row outside is joined.
fn any_element(query: &mut Query) {
    if !is_correlated(query) {
        return;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let [ast::TableWithJoins { relation: TableFactor::Table { name, alias, args: None, .. }, joins }] =
        select.from.as_slice()
    else {
        return;
    };
    let Some(called) = name.0.last().and_then(|part| part.as_ident()).filter(|_| joins.is_empty()) else { return };
    let called = alias.as_ref().map_or(called, |alias| &alias.name).clone();
    let element = Ident::with_quote('"', "an element");
    let mut lists = Vec::new();
    if let Some(selection) = &mut select.selection {
        by_elements(selection, &called, &element, &mut lists);
    }
    let [list] = lists.as_slice() else { return };
    let text = format!("SELECT {called}.*, unnest({list}) AS {element} FROM {}", select.from[0].relation);
    let Some(listed) = self::query(&text) else { return };
    let alias = ast::TableAlias { explicit: true, name: called, columns: Vec::new(), at: None };
    select.from[0].relation =
        TableFactor::Derived { lateral: false, subquery: Box::new(listed), alias: Some(alias), sample: None };
}

/// Puts the element in the place of ANY of a list, among conditions that all hold; notes the lists, of which one is enough.
fn by_elements(condition: &mut Expr, table: &Ident, element: &Ident, lists: &mut Vec<Expr>) {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            by_elements(left, table, element, lists);
            by_elements(right, table, element, lists);
        }
        Expr::Nested(inner) => by_elements(inner, table, element, lists),
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. }
            if lists.is_empty() && column(right).is_some() && matches!(left.as_ref(), Expr::CompoundIdentifier(_)) =>
        {
            lists.push(right.as_ref().clone());
            let of = Expr::CompoundIdentifier(vec![table.clone(), element.clone()]);
            *condition = binary(left.as_ref().clone(), BinaryOperator::Eq, of);
        }
        _ => {}
    }
}

/// Whether a subquery names a table that is not its own.
fn is_correlated(query: &Query) -> bool {
    #[derive(Default)]
    struct Owners {
        tables: BTreeSet<String>,
        named: BTreeSet<String>,
    }
    impl Visitor for Owners {
        type Break = Infallible;

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Infallible> {
            let called = match factor {
                TableFactor::Table { name, alias: None, .. } => name.0.last().and_then(|part| part.as_ident()),
                TableFactor::Table { alias, .. }
                | TableFactor::Derived { alias, .. }
                | TableFactor::UNNEST { alias, .. }
                | TableFactor::Function { alias, .. } => alias.as_ref().map(|alias| &alias.name),
                _ => None,
            };
            self.tables.extend(called.map(|name| name.value.to_lowercase()));
            let arguments = match factor {
                TableFactor::UNNEST { array_exprs, .. } => array_exprs.iter().any(|expr| column(expr).is_some()),
                TableFactor::Function { args, .. } => args.iter().any(is_column),
                TableFactor::Table { args: Some(args), .. } => args.args.iter().any(is_column),
                _ => false,
            };
            // It is of another table.
            if arguments {
                self.named.insert(String::new());
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
            if let Expr::CompoundIdentifier(path) = expr
                && let [.., owner, _] = path.as_slice()
            {
                self.named.insert(owner.value.to_lowercase());
            }
            ControlFlow::Continue(())
        }
    }
    let mut owners = Owners::default();
    let ControlFlow::Continue(()) = Visit::visit(query, &mut owners);
    !owners.named.is_subset(&owners.tables)
}

fn is_column(argument: &FunctionArg) -> bool {
    matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if column(expr).is_some())
}

/// Whether an aggregate of PostgreSQL is computed in an expression.
pub(crate) fn has_aggregate(expr: &Expr) -> bool {
    struct Aggregates;
    impl Visitor for Aggregates {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function) if AGGREGATES.contains(&bare(&function.name.to_string()).as_str()) => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Aggregates).is_break()
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn cast(expr: Expr, data_type: ast::DataType) -> Expr {
    Expr::Cast { kind: ast::CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn number(value: i32) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).with_empty_span())
}

fn plus_one(expr: Expr) -> Expr {
    Expr::Nested(Box::new(binary(expr, BinaryOperator::Plus, number(1))))
}

fn aggregate(name: &str, value: Expr, order: Vec<ast::OrderByExpr>) -> Expr {
    let mut function = function_call(name, vec![value]);
    if let FunctionArguments::List(list) = &mut function.args
        && !order.is_empty()
    {
        list.clauses.push(ast::FunctionArgumentClause::OrderBy(order));
    }
    Expr::Function(function)
}
