//! Whether a statement may answer many rows, as far as its own text says so.
//!
//! Of a plain read of a table nobody knows without the table: nothing is said of it. What is grouped, put together of several selects, or
//! ordered without a limit is meant to have many rows, unless each group is one by the conditions.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, LimitClause, Query, Select, SelectItem, SetExpr, Statement as Tree,
};

use crate::Statement;
use crate::pg_catalog::dialect;

impl Statement {
    /// Why the statement may answer many rows; none where it has one, or its text does not tell.
    pub fn many_rows(&self) -> Option<&'static str> {
        match self.tree() {
            Tree::Query(query) => many(query),
            _ => None,
        }
    }
}

fn many(query: &Query) -> Option<&'static str> {
    if is_limited_to_one(query) {
        return None;
    }
    match query.body.as_ref() {
        SetExpr::Query(inner) => many(inner),
        SetExpr::SetOperation { .. } => Some("puts several selects together"),
        SetExpr::Values(values) => (values.rows.len() > 1).then_some("is a list of rows"),
        SetExpr::Select(select) => {
            if select.having.is_none() && is_grouped(select) {
                return Some("is grouped: it may have a row a group");
            }
            let is_ordered = query.order_by.is_some() && !select.from.is_empty();
            (is_ordered && !is_total(select)).then_some("is ordered and has no `limit 1`")
        }
        _ => None,
    }
}

fn is_limited_to_one(query: &Query) -> bool {
    let limit = match &query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => limit.as_ref(),
        Some(LimitClause::OffsetCommaLimit { limit, .. }) => Some(limit),
        None => None,
    };
    let quantity = query.fetch.as_ref().filter(|fetch| !fetch.with_ties && !fetch.percent);
    // `fetch first row only` names no number.
    let one = |expr: &Expr| expr.to_string() == "1" || !matches!(expr, Expr::Value(_));
    limit.is_some_and(one) || quantity.is_some_and(|fetch| fetch.quantity.as_ref().is_none_or(one))
}

/// Whether there may be more than one group: an expression that it groups by is no single value by the conditions.
fn is_grouped(select: &Select) -> bool {
    let mut single = Vec::new();
    if let Some(conditions) = &select.selection {
        single_values(conditions, &mut single);
    }
    match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(exprs, more) => {
            !more.is_empty() || exprs.iter().any(|expr| !single.contains(&name_of(over_inputs(expr, select))))
        }
    }
}

/// Whether it has one row: an aggregate without groups.
fn is_total(select: &Select) -> bool {
    matches!(&select.group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty())
        && select.projection.iter().any(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => dialect::has_aggregate(expr),
            _ => false,
        })
}

/// What is held to one value: the sides of each `=` that all rows fulfil.
fn single_values(conditions: &Expr, found: &mut Vec<String>) {
    match conditions {
        Expr::Nested(inner) => single_values(inner, found),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            single_values(left, found);
            single_values(right, found);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            found.extend([name_of(left), name_of(right)]);
        }
        _ => {}
    }
}

/// What `group by 1`, or the name of a result, stands for.
fn over_inputs<'a>(expr: &'a Expr, select: &'a Select) -> &'a Expr {
    let text = expr.to_string();
    let by_number = text.parse::<usize>().ok().and_then(|number| select.projection.get(number.checked_sub(1)?));
    let by_name = || {
        select.projection.iter().find(
            |item| matches!(item, SelectItem::ExprWithAlias { alias, .. } if alias.value.eq_ignore_ascii_case(&text)),
        )
    };
    match by_number.or_else(by_name) {
        Some(SelectItem::UnnamedExpr(made) | SelectItem::ExprWithAlias { expr: made, .. }) => made,
        _ => expr,
    }
}

/// An expression's text; of a column the name alone, whatever its table is called.
fn name_of(expr: &Expr) -> String {
    match expr {
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.to_lowercase()).unwrap_or_default(),
        Expr::Identifier(name) => name.value.to_lowercase(),
        Expr::Nested(inner) => name_of(inner),
        expr => expr.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    fn why(sql: &str) -> Option<&'static str> {
        crate::parse(sql).unwrap()[0].many_rows()
    }

    #[test]
    fn what_is_grouped_put_together_or_ordered_has_many_rows() {
        for sql in [
            "select k, sum(n) from t group by k",
            "select day, sum(n) from t group by 1",
            "select k, sum(n) from t where k = 1 or day = 2 group by k",
            "select k, sum(n) from t where k = 1 group by k, day limit 10",
            "select 1 union all select 2",
            "(select k, count(*) from t group by k)",
            "select n from t order by day desc",
            "values (1), (2)",
        ] {
            assert!(why(sql).is_some(), "{sql}");
        }
    }

    #[test]
    fn nothing_is_said_of_what_has_one_row_or_may_have() {
        for sql in [
            "select sum(n) from t",
            "select sum(n) as n from t order by n",
            "select n from today",
            "select 1",
            "select k, sum(n) from t group by k order by 2 desc limit 1",
            "select k, sum(n) from t group by k fetch first row only",
            "select t.k as key, sum(n) from t where (day = $1 and t.k = 'x') group by 1",
            "select sum(n) from t where date(at) = (select max(day) from d) group by date(at)",
            "select count(*) from t group by k having k = 1",
            "with a as (select k from t group by k) select count(*) from a",
        ] {
            assert_eq!(why(sql), None, "{sql}");
        }
    }
}
