//! Names of the columns of an answer: those that Postgres gives.
//!
//! DataFusion calls `count(*)` by its own text and wants every column of a list to have its own name; Postgres calls it
//! `count` and lets two columns be called alike. So unnamed expressions of the outermost list get Postgres' name, made
//! unique by a mark that no name has, and [`schema`] takes the mark off again.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::error::Result as PlannerResult;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{Expr, Function, Ident, Query, SelectItem, SetExpr, Statement};

/// Stands between a name and the number that makes it unique.
const MARK: char = '\u{1}';

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
    if !planned.fields().iter().any(|field| field.name().contains(MARK)) {
        return Arc::clone(planned);
    }
    let fields = planned.fields().iter().map(|field| {
        let name = field.name().split(MARK).next().unwrap_or_default();
        field.as_ref().clone().with_name(name)
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), planned.metadata().clone()))
}

fn name_in_query(query: &mut Query) {
    name_in_body(&mut query.body, |expr| expr.to_string());
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

fn normalised(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// Postgres' `FigureColname`.
fn given(expr: &Expr) -> String {
    let name = match expr {
        Expr::Function(Function { name, .. }) => name.0.last().and_then(|part| part.as_ident()).map(normalised),
        Expr::Cast { expr, data_type, .. } => {
            let inner = plain(expr).unwrap_or_else(|| given(expr));
            Some(if inner == UNKNOWN { type_name(&data_type.to_string()) } else { inner })
        }
        Expr::Nested(inner) => Some(plain(inner).unwrap_or_else(|| given(inner))),
        Expr::Case { else_result, .. } => {
            Some(else_result.as_ref().and_then(|e| plain(e)).unwrap_or_else(|| "case".to_owned()))
        }
        Expr::Extract { .. } => Some("extract".to_owned()),
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Substring { .. } => Some("substring".to_owned()),
        Expr::Position { .. } => Some("position".to_owned()),
        Expr::Trim { .. } => Some("btrim".to_owned()),
        Expr::Ceil { .. } => Some("ceil".to_owned()),
        Expr::Floor { .. } => Some("floor".to_owned()),
        Expr::TypedString(typed) => Some(typed.data_type.to_string().to_lowercase()),
        Expr::Interval(_) => Some("interval".to_owned()),
        _ => None,
    };
    name.unwrap_or_else(|| UNKNOWN.to_owned())
}

/// `numeric` of `numeric(10,2)`, `oid` of `pg_catalog.oid`.
fn type_name(written: &str) -> String {
    let name = written.split('(').next().unwrap_or_default();
    name.rsplit('.').next().unwrap_or_default().trim().to_lowercase()
}

/// Postgres' name of what has none.
const UNKNOWN: &str = "?column?";
