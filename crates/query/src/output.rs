//! Names of the columns of an answer: those that Postgres gives.
//!
//! DataFusion calls `count(*)` by its own text and wants every column of a list to have its own name; Postgres calls it
//! `count` and lets two columns be called alike. So unnamed expressions of the outermost list get Postgres' name, made
//! unique by a mark that no name has, and [`schema`] takes the mark off again.
//!
//! What is of the type regclass or its like is an oid in a plan, and in an answer an oid with the name by which it is shown.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::error::Result as PlannerResult;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{Expr, Function, Ident, OrderByKind, Query, SelectItem, SetExpr, Statement};
use plan::MARK;
use relation::schema::{TYPE_NAME, registered_name, registered_type};

use crate::pg_catalog::{Names, REGISTERED, shown};

/// Names the unnamed columns of a statement's outermost list.
pub(crate) fn name_columns(mut statement: Statement) -> Statement {
    if let Statement::Query(query) = &mut statement {
        name_in_query(query);
    }
    plan::name_further_parts(&mut statement);
    statement
}

/// The plan with its columns under the names that they end up with, which a reader of the plan can refer to.
pub(crate) fn named(plan: LogicalPlan) -> PlannerResult<LogicalPlan> {
    let schema = Arc::clone(plan.schema());
    if !schema.fields().iter().any(|field| field.name().contains(MARK)) {
        return Ok(plan);
    }
    let columns = schema.iter().map(|(qualifier, field)| {
        let column = Column::new(qualifier.cloned(), field.name());
        let name = field.name().split(MARK).next().unwrap_or_default();
        if name == field.name() { PlanExpr::Column(column) } else { PlanExpr::Column(column).alias(name) }
    });
    LogicalPlanBuilder::from(plan).project(columns.collect::<Vec<_>>())?.build()
}

/// The schema as the client sees it.
pub(crate) fn schema(planned: &SchemaRef) -> SchemaRef {
    let is_plain = |field: &FieldRef| !field.name().contains(MARK) && registered(field).is_none();
    if planned.fields().iter().all(is_plain) {
        return Arc::clone(planned);
    }
    let fields = planned.fields().iter().map(|field| {
        let name = field.name().split(MARK).next().unwrap_or_default();
        let seen = field.as_ref().clone().with_name(name);
        match registered(field) {
            Some(registered) => seen.with_data_type(registered_type(registered)),
            None => seen,
        }
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), planned.metadata().clone()))
}

/// The type of a column whose oids are shown as names.
pub(crate) fn registered(field: &Field) -> Option<&str> {
    let name = field.metadata().get(TYPE_NAME).filter(|_| *field.data_type() == DataType::Int32)?;
    REGISTERED.contains(&name.as_str()).then_some(name)
}

/// Whether an answer has such columns.
pub(crate) fn shows_names(schema: &Schema) -> bool {
    schema.fields().iter().any(|field| registered_name(field.data_type()).is_some())
}

/// The columns of a batch as the client sees them.
pub(crate) fn columns(batch: &RecordBatch, schema: &Schema, names: Option<&Names>) -> Vec<ArrayRef> {
    let seen = |(column, field): (&ArrayRef, &FieldRef)| -> ArrayRef {
        let (Some(names), Some(registered)) = (names, registered_name(field.data_type())) else {
            return Arc::clone(column);
        };
        let (Some(oids), DataType::Struct(parts)) = (column.as_primitive_opt::<Int32Type>(), field.data_type()) else {
            return Arc::clone(column);
        };
        let shown = oids.iter().map(|oid| oid.map(|oid| shown(names, registered, oid)));
        let shown: ArrayRef = Arc::new(shown.collect::<StringArray>());
        Arc::new(StructArray::new(parts.clone(), vec![Arc::clone(column), shown], oids.nulls().cloned()))
    };
    batch.columns().iter().zip(schema.fields()).map(seen).collect()
}

fn name_in_query(query: &mut Query) {
    name_in_body(&mut query.body, |expr| path(expr).unwrap_or_else(|| expr.to_string()));
    order_by_results(query);
}

/// ORDER BY a name alone is by the result that goes by it, also where nobody has given it the name: `order by count`.
fn order_by_results(query: &mut Query) {
    let Some(OrderByKind::Expressions(exprs)) = query.order_by.as_mut().map(|order| &mut order.kind) else { return };
    let items = first_items(&query.body);
    let is_called = |item: &SelectItem, name: &str| match item {
        SelectItem::ExprWithAlias { alias, .. } => normalised(alias) == name,
        SelectItem::UnnamedExpr(expr) => plain(expr).is_some_and(|own| own == name),
        _ => false,
    };
    for order in exprs {
        let Expr::Identifier(name) = &order.expr else { continue };
        let name = normalised(name);
        if items.iter().any(|item| is_called(item, &name)) {
            continue;
        }
        let given = items.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => {
                alias.value.split_once(MARK).is_some_and(|(given, _)| given == name).then_some(alias)
            }
            _ => None,
        });
        if let Some(alias) = given {
            order.expr = Expr::Identifier(alias.clone());
        }
    }
}

/// The list of results whose names are those of all parts.
fn first_items(mut body: &SetExpr) -> &[SelectItem] {
    loop {
        body = match body {
            SetExpr::SetOperation { left, .. } => left,
            SetExpr::Query(inner) => &inner.body,
            SetExpr::Select(select) => return &select.projection,
            _ => return &[],
        };
    }
}

/// A column's name with what it is of, whichever way it is quoted.
fn path(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(normalised(name)),
        Expr::CompoundIdentifier(path) => Some(path.iter().map(normalised).collect::<Vec<_>>().join(".")),
        _ => None,
    }
}

/// `same` says by what two columns are the same to DataFusion.
fn name_in_body(mut body: &mut SetExpr, mut same: fn(&Expr) -> String) {
    loop {
        match body {
            // The names of a set operation are those of its first part, without qualifiers.
            SetExpr::SetOperation { left, .. } => {
                same = |expr| plain(expr).unwrap_or_else(|| expr.to_string());
                body = left.as_mut();
            }
            SetExpr::Query(inner) => body = inner.body.as_mut(),
            SetExpr::Select(select) => return name_items(&mut select.projection, same),
            _ => return,
        }
    }
}

fn name_items(items: &mut [SelectItem], same: fn(&Expr) -> String) {
    let mut written: Vec<String> = Vec::new();
    // A wildcard may list any column a second time.
    let has_wildcard =
        items.iter().any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    for (position, item) in items.iter_mut().enumerate() {
        let (expr, name) = match item {
            SelectItem::UnnamedExpr(expr) => match plain(expr) {
                // A column keeps its own name, and DataFusion its qualifier, unless it is listed twice.
                Some(_) if !has_wildcard && !written.contains(&same(expr)) => {
                    written.push(same(expr));
                    continue;
                }
                Some(name) => (expr, name),
                None => {
                    let name = given(expr);
                    (expr, name)
                }
            },
            SelectItem::ExprWithAlias { expr, alias } if written.contains(&normalised(alias)) => {
                let name = normalised(alias);
                (expr, name)
            }
            SelectItem::ExprWithAlias { alias, .. } => {
                written.push(normalised(alias));
                continue;
            }
            _ => continue,
        };
        let alias = Ident::with_quote('"', format!("{name}{MARK}{position}"));
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
    }
}

fn plain(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(normalised(name)),
        Expr::CompoundIdentifier(path) => path.last().map(normalised),
        _ => None,
    }
}

pub(crate) fn normalised(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// Postgres' `FigureColname`.
pub(crate) fn given(expr: &Expr) -> String {
    figured(expr).map_or_else(|| UNKNOWN.to_owned(), |(name, _)| name)
}

/// What a name is taken from: one that is weak gives way to that of a cast around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strength {
    Weak,
    Strong,
}

fn figured(expr: &Expr) -> Option<(String, Strength)> {
    let strong = |name: &str| Some((name.to_owned(), Strength::Strong));
    let weak = |name: String| Some((name, Strength::Weak));
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => strong(&plain(expr)?),
        Expr::Function(Function { name, .. }) => strong(&normalised(name.0.last()?.as_ident()?)),
        Expr::Cast { expr, data_type, .. } => match figured(expr) {
            Some((name, Strength::Strong)) => strong(&name),
            _ => weak(type_name(&data_type.to_string())),
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => figured(inner),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(figured) {
            Some((name, Strength::Strong)) => strong(&name),
            _ => weak("case".to_owned()),
        },
        Expr::Subquery(query) => strong(&of_query(&query.body)?),
        Expr::Array(_) => strong("array"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Exists { .. } => strong("exists"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Position { .. } => strong("position"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Trim { .. } => strong("btrim"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::TypedString(typed) => weak(type_name(&typed.data_type.to_string())),
        Expr::Interval(_) => weak("interval".to_owned()),
        _ => None,
    }
}

/// The name of a query's one result.
fn of_query(body: &SetExpr) -> Option<String> {
    match body {
        SetExpr::SetOperation { left, .. } => of_query(left),
        SetExpr::Query(inner) => of_query(&inner.body),
        SetExpr::Select(select) => match select.projection.first()? {
            SelectItem::ExprWithAlias { alias, .. } => Some(normalised(alias)),
            SelectItem::UnnamedExpr(expr) => Some(given(expr)),
            _ => None,
        },
        _ => None,
    }
}

/// Postgres' own name of a type as it is written: `int4` of `integer[]`, `numeric` of `numeric(10,2)`, `oid` of
/// `pg_catalog.oid`.
fn type_name(written: &str) -> String {
    let written = written.to_lowercase();
    let mut name = written.trim_end_matches("[]").to_owned();
    // A length may stand within: `timestamp(0) with time zone`.
    if let (Some(from), Some(to)) = (name.find('('), name.rfind(')')) {
        name.replace_range(from..=to, "");
    }
    let last = name.rsplit('.').next().unwrap_or_default().trim();
    if let Some(quoted) = last.strip_prefix('"') {
        return quoted.trim_end_matches('"').to_owned();
    }
    match last {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "real" => "float4",
        "double precision" | "float" | "double" => "float8",
        "boolean" => "bool",
        "decimal" | "dec" => "numeric",
        "character varying" | "char varying" => "varchar",
        "character" | "char" => "bpchar",
        "time without time zone" => "time",
        "time with time zone" => "timetz",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        other => other,
    }
    .to_owned()
}

/// Postgres' name of what has none.
pub(crate) const UNKNOWN: &str = "?column?";
