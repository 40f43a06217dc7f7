//! Groups by a value and by casts of it: `group by id, id::text`.
//!
//! The planner calls a cast as it calls what is cast, and of two groups that are called alike it cannot tell which a result is. So where
//! a query groups by both, its casts of that value are written as calls that give the same:
//!
//! ```text
//! select id, id::text from t group by id, id::text
//! select id, coalesce(id::text, null) from t group by id, coalesce(id::text, null)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, OrderByKind, Query,
    Select, SelectItem, SetExpr, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use super::syntax::call;
use super::whole_rows::normalised;

/// Writes the casts of a query so, with what orders it.
pub(super) fn in_query(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let Some(mut apart) = in_select(select) else { return };
    if let Some(OrderByKind::Expressions(exprs)) = query.order_by.as_mut().map(|order| &mut order.kind) {
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = exprs.visit(&mut apart);
    }
}

/// The same for a select alone; what is left to write by it, none where there is nothing to write.
pub(super) fn in_select(select: &mut Select) -> Option<Apart> {
    let GroupByExpr::Expressions(groups, _) = &select.group_by else { return None };
    let mut forms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for group in groups.iter().flat_map(parts) {
        let group = result(group, &select.projection).unwrap_or(group);
        let (value, types) = without_casts(group);
        forms.entry(value).or_default().insert(types);
    }
    let of_several = forms.into_iter().filter(|(_, forms)| forms.len() > 1);
    let values: BTreeMap<String, Vec<String>> =
        of_several.map(|(value, forms)| (value, forms.into_iter().collect())).collect();
    if values.is_empty() {
        return None;
    }
    let mut apart = Apart { values };
    let mut written = || -> ControlFlow<()> {
        select.projection.visit(&mut apart)?;
        select.group_by.visit(&mut apart)?;
        select.having.visit(&mut apart)?;
        match &mut select.distinct {
            Some(Distinct::On(exprs)) => exprs.visit(&mut apart),
            _ => ControlFlow::Continue(()),
        }
    };
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = written();
    Some(apart)
}

/// What one item of GROUP BY groups by.
fn parts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::GroupingSets(sets) | Expr::Rollup(sets) | Expr::Cube(sets) => sets.iter().flatten().collect(),
        one => vec![one],
    }
}

/// The result that an item of GROUP BY stands for, by its place or its name.
fn result<'s>(group: &Expr, projection: &'s [SelectItem]) -> Option<&'s Expr> {
    match group {
        Expr::Value(ValueWithSpan { value: Value::Number(place, _), .. }) => {
            match projection.get(place.parse::<usize>().ok()?.checked_sub(1)?)? {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
                _ => None,
            }
        }
        Expr::Identifier(name) => projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr: expr @ Expr::Cast { .. }, alias } if called(alias, name) => Some(expr),
            _ => None,
        }),
        _ => None,
    }
}

fn called(alias: &Ident, name: &Ident) -> bool {
    normalised(alias) == normalised(name)
}

/// What is cast, and the types that it is cast to.
fn without_casts(expr: &Expr) -> (String, String) {
    let (mut value, mut types) = (expr, String::new());
    loop {
        match value {
            Expr::Cast { expr, data_type, .. } => {
                types = format!("{types} {data_type}").to_lowercase();
                value = expr;
            }
            Expr::Nested(expr) => value = expr,
            Expr::Identifier(name) => return (normalised(name), types),
            Expr::CompoundIdentifier(path) => return (path.last().map(normalised).unwrap_or_default(), types),
            other => return (other.to_string().to_lowercase(), types),
        }
    }
}

/// Writes the casts of some values as calls, those to each type with another number of arguments.
pub(super) struct Apart {
    values: BTreeMap<String, Vec<String>>,
}

impl VisitorMut for Apart {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr: inner, .. } = expr {
            // Of casts of casts the outermost is written so.
            let inner_cast = cast_within(inner).cloned();
            if let Some(cast) = inner_cast {
                **inner = cast;
            }
            let (value, types) = without_casts(expr);
            if let Some(forms) = self.values.get(&value) {
                let nulls = forms.iter().position(|form| *form == types).unwrap_or(forms.len()) + 1;
                let nulls = (0..nulls).map(|_| Expr::Value(Value::Null.with_empty_span()));
                *expr = call("coalesce", std::iter::once(expr.clone()).chain(nulls).collect());
            }
        }
        ControlFlow::Continue(())
    }
}

/// The cast in a call that was written here.
fn cast_within(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Nested(inner) => cast_within(inner),
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. })
            if name.to_string() == "coalesce" =>
        {
            let is_null = |argument: &FunctionArg| {
                let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) = argument else { return false };
                value.value == Value::Null
            };
            let (first, rest) = list.args.split_first()?;
            match first {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(cast @ Expr::Cast { .. }))
                    if !rest.is_empty() && rest.iter().all(is_null) =>
                {
                    Some(cast)
                }
                _ => None,
            }
        }
        _ => None,
    }
}
