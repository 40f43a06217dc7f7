//! Names of columns that have no alias: those that PostgreSQL gives.
//!
//! DataFusion calls `count(*)` by its own text; a model's column must have a name that can be written without quotes
//! and that dbt users expect: `count`. A name that another column of the list has already is not given.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{Expr, Function, Ident, Select, SelectItem, Statement, VisitMut, VisitorMut};

/// Gives every unnamed column of every SELECT list its PostgreSQL name.
pub(crate) fn name_columns(mut statement: Statement) -> Statement {
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(&mut Namer);
    statement
}

struct Namer;

impl VisitorMut for Namer {
    type Break = ();

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let mut taken: Vec<String> = select.projection.iter().filter_map(written_name).collect();
        for item in &mut select.projection {
            let SelectItem::UnnamedExpr(expr) = item else { continue };
            if plain_name(expr).is_some() {
                continue;
            }
            let name = given_name(expr).unwrap_or_else(|| "?column?".to_owned());
            if !taken.contains(&name) {
                taken.push(name.clone());
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
            }
        }
        ControlFlow::Continue(())
    }
}

fn written_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(normalised(alias)),
        SelectItem::UnnamedExpr(expr) => plain_name(expr),
        _ => None,
    }
}

fn plain_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(normalised(name)),
        Expr::CompoundIdentifier(path) => path.last().map(normalised),
        _ => None,
    }
}

fn normalised(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// PostgreSQL's `FigureColname`.
fn given_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Function(Function { name, .. }) => {
            let last = name.0.last().and_then(|part| part.as_ident())?;
            Some(normalised(last))
        }
        Expr::Cast { expr, data_type, .. } => {
            let of_type =
                || data_type.to_string().to_lowercase().split('(').next().unwrap_or_default().trim().to_owned();
            plain_name(expr).or_else(|| given_name(expr)).or_else(|| Some(of_type()))
        }
        Expr::Nested(inner) => plain_name(inner).or_else(|| given_name(inner)),
        Expr::Case { else_result, .. } => {
            let of_else = else_result.as_ref().and_then(|e| plain_name(e));
            of_else.or_else(|| Some("case".to_owned()))
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
    }
}
