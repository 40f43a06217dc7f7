//! Clauses that the parser takes and the planner passes over, as if they were not there: each is refused.
//!
//! The parser reads more than PostgreSQL's SQL, and the planner asks of a part of the tree only what it knows: a TABLESAMPLE would read
//! the whole table, and `abs(distinct x)` would be `abs(x)`.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArgumentClause, FunctionArguments, GroupByExpr, Ident, LimitClause,
    ObjectName, OrderByKind, Query, Select, SelectItem, Spanned as _, Statement, TableAlias, TableFactor,
    TableFunctionArgs, Visit as _, Visitor, WildcardAdditionalOptions,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use crate::functions::functions;
use crate::refusal::Refusal;

/// The first clause of a statement that would be passed over.
pub fn refused_clause(statement: &Statement) -> Option<Refusal> {
    match statement.visit(&mut Clauses) {
        ControlFlow::Break(refusal) => Some(refusal),
        ControlFlow::Continue(()) => None,
    }
}

struct Clauses;

impl Visitor for Clauses {
    type Break = Refusal;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refusal> {
        let place = || query.span();
        given(query.for_clause.is_some(), "FOR XML and FOR JSON", place)?;
        given(query.settings.is_some(), "SETTINGS", place)?;
        given(query.format_clause.is_some(), "FORMAT", place)?;
        if let Some(LimitClause::LimitOffset { limit_by, .. }) = &query.limit_clause {
            given(!limit_by.is_empty(), "LIMIT … BY", place)?;
        }
        let Some(order_by) = &query.order_by else { return ControlFlow::Continue(()) };
        given(order_by.interpolate.is_some(), "INTERPOLATE", place)?;
        let OrderByKind::Expressions(exprs) = &order_by.kind else { return ControlFlow::Continue(()) };
        exprs.iter().try_for_each(|by| given(by.with_fill.is_some(), "WITH FILL", || by.expr.span()))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refusal> {
        let place = || select.select_token.0.span;
        given(select.top.is_some(), "TOP", place)?;
        given(select.exclude.is_some(), "EXCLUDE", place)?;
        given(select.select_modifiers.is_some(), "A modifier of SELECT", place)?;
        given(select.value_table_mode.is_some(), "SELECT AS VALUE and AS STRUCT", place)?;
        given(!select.lateral_views.is_empty(), "LATERAL VIEW", place)?;
        given(select.prewhere.is_some(), "PREWHERE", place)?;
        given(!select.connect_by.is_empty(), "CONNECT BY", place)?;
        given(!select.cluster_by.is_empty(), "CLUSTER BY", place)?;
        given(!select.distribute_by.is_empty(), "DISTRIBUTE BY", place)?;
        given(!select.sort_by.is_empty(), "SORT BY", place)?;
        let (GroupByExpr::Expressions(_, modifiers) | GroupByExpr::All(modifiers)) = &select.group_by;
        given(!modifiers.is_empty(), "GROUP BY … WITH", place)?;
        for join in select.from.iter().flat_map(|from| &from.joins) {
            given(join.global, "GLOBAL JOIN", || join.relation.span())?;
        }
        select.projection.iter().try_for_each(|item| match item {
            SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => wildcard(options),
            _ => ControlFlow::Continue(()),
        })
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refusal> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints: _,
            } => {
                let place = || name.span();
                given(sample.is_some(), "TABLESAMPLE", place)?;
                given(version.is_some(), "A version of a table", place)?;
                given(!partitions.is_empty(), "PARTITION of a table", place)?;
                given(json_path.is_some(), "A path in a table", place)?;
                given(!with_hints.is_empty(), "WITH of a table", place)?;
                given(*with_ordinality && args.is_none(), "WITH ORDINALITY of a table", place)?;
                if let Some(TableFunctionArgs { settings, .. }) = args {
                    given(settings.is_some(), "SETTINGS", place)?;
                }
                aliased(alias.as_ref())
            }
            TableFactor::Derived { subquery, alias, sample, .. } => {
                let place = || alias.as_ref().map_or_else(|| subquery.span(), |alias| alias.name.span);
                given(sample.is_some(), "TABLESAMPLE of a subquery", place)?;
                aliased(alias.as_ref())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refusal> {
        match expr {
            Expr::Function(function) => called(function),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn given(is_given: bool, what: &str, place: impl FnOnce() -> Span) -> ControlFlow<Refusal> {
    match is_given {
        true => ControlFlow::Break(at(Refusal::new(format!("{what} is not supported")), place())),
        false => ControlFlow::Continue(()),
    }
}

fn at(mut refusal: Refusal, span: Span) -> Refusal {
    let place = usize::try_from(span.start.line).ok().zip(usize::try_from(span.start.column).ok());
    refusal.line = place.filter(|(line, _)| *line > 0);
    refusal
}

fn aliased(alias: Option<&TableAlias>) -> ControlFlow<Refusal> {
    match alias {
        Some(TableAlias { at: Some(at), .. }) => given(true, "AT of a table", || at.span),
        _ => ControlFlow::Continue(()),
    }
}

fn wildcard(options: &WildcardAdditionalOptions) -> ControlFlow<Refusal> {
    let place = || options.wildcard_token.0.span;
    given(options.opt_ilike.is_some(), "* ILIKE", place)?;
    given(options.opt_exclude.is_some(), "* EXCLUDE", place)?;
    given(options.opt_except.is_some(), "* EXCEPT", place)?;
    given(options.opt_replace.is_some(), "* REPLACE", place)?;
    given(options.opt_rename.is_some(), "* RENAME", place)?;
    given(options.opt_alias.is_some(), "* AS", place)
}

/// What is written of a function beside its arguments.
fn called(function: &Function) -> ControlFlow<Refusal> {
    let Some(name) = last(&function.name) else { return ControlFlow::Continue(()) };
    let place = || name.span;
    given(!matches!(function.parameters, FunctionArguments::None), "A function with parameters", place)?;
    let (distinct, ordered) = match &function.args {
        FunctionArguments::List(list) => (
            list.duplicate_treatment == Some(DuplicateTreatment::Distinct),
            list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_))),
        ),
        _ => (false, false),
    };
    if ordered && function.over.is_some() {
        let refusal = Refusal::new("aggregate ORDER BY is not implemented for window functions");
        return ControlFlow::Break(at(refusal.with_hint("Order the window: OVER (… ORDER BY …)."), name.span));
    }
    let own = name.value.to_lowercase();
    let known = functions();
    let is_scalar = known.scalar.contains_key(&own) || known.higher_order.contains_key(&own);
    if !is_scalar || known.aggregate.contains_key(&own) || known.window.contains_key(&own) {
        return ControlFlow::Continue(());
    }
    let written = [
        (distinct, "DISTINCT"),
        (ordered, "ORDER BY"),
        (!function.within_group.is_empty(), "WITHIN GROUP"),
        (function.filter.is_some(), "FILTER"),
        (function.over.is_some(), "OVER"),
    ];
    let Some((_, what)) = written.into_iter().find(|(is_written, _)| *is_written) else {
        return given(function.null_treatment.is_some(), "IGNORE NULLS of a function of one row", place);
    };
    let which = if what == "OVER" { "a window function nor an aggregate function" } else { "an aggregate function" };
    let message = format!("{what} specified, but {own} is not {which}");
    ControlFlow::Break(at(Refusal::new(message), name.span))
}

fn last(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(|part| part.as_ident())
}
