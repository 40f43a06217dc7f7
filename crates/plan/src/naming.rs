//! Names of columns that have no alias: those that PostgreSQL gives.
//!
//! DataFusion calls `count(*)` by its own text; a model's column must have a name that can be written without quotes
//! and that dbt users expect: `count`. A name that another column of the list has already is not given.
//!
//! The columns of a set operation are called as in its first part. In the others the same column may be listed twice, which
//! DataFusion refuses, so there the second is called by its place.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, Function, Ident, Query, Select, SelectItem, SetExpr, Statement, VisitMut, VisitorMut,
};

/// What a column is called that has no name.
pub(crate) const NAMELESS: &str = "?column?";

/// Stands between a name and the number that tells a result from another one of this name.
pub const MARK: char = '\u{1}';

/// Gives every unnamed column of every SELECT list its PostgreSQL name.
pub(crate) fn name_columns(mut statement: Statement) -> Statement {
    name_further_parts(&mut statement);
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(&mut Namer);
    statement
}

/// Gives the columns of the further parts of set operations different names, which nobody can see.
pub fn name_further_parts(statement: &mut Statement) {
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(&mut Parts);
}

/// A name that two columns of a query have, if it is a set operation: one of plain queries says so itself.
pub(crate) fn twice_in_union(statement: &Statement) -> Option<String> {
    let Statement::Query(query) = statement else { return None };
    let mut body = query.body.as_ref();
    let mut is_union = false;
    loop {
        match body {
            SetExpr::SetOperation { left, .. } => (body, is_union) = (left.as_ref(), true),
            SetExpr::Query(inner) => body = inner.body.as_ref(),
            SetExpr::Select(select) if is_union => {
                let names: Vec<String> = select.projection.iter().filter_map(written_name).collect();
                return names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)).map(|(_, n)| n.clone());
            }
            _ => return None,
        }
    }
}

struct Parts;

impl VisitorMut for Parts {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        further_parts(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn further_parts(body: &mut SetExpr) {
    if let SetExpr::SetOperation { left, right, .. } = body {
        further_parts(left);
        by_places(right);
    }
}

fn by_places(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            by_places(left);
            by_places(right);
        }
        SetExpr::Query(query) => by_places(&mut query.body),
        SetExpr::Select(select) => {
            let mut taken: Vec<String> = Vec::new();
            for (position, item) in select.projection.iter_mut().enumerate() {
                let (expr, name) = match item {
                    SelectItem::UnnamedExpr(expr) => {
                        let name = plain_name(expr).unwrap_or_else(|| expr.to_string());
                        (expr, name)
                    }
                    SelectItem::ExprWithAlias { expr, alias } => {
                        let name = normalised(alias);
                        (expr, name)
                    }
                    _ => continue,
                };
                if !taken.contains(&name) {
                    taken.push(name);
                    continue;
                }
                let alias = Ident::with_quote('"', format!("{name}:{}", position + 1));
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        _ => {}
    }
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
            let name = given_name(expr).unwrap_or_else(|| NAMELESS.to_owned());
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
