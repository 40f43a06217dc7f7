//! The columns of USING and NATURAL joins.
//!
//! A column of USING is one column of the join, and the first of those that `*` lists: that of the left side, of a RIGHT JOIN that of
//! the right one, and of a FULL JOIN whichever is there. DataFusion leaves it at its place, takes the one of the relation whose name
//! comes first in the alphabet, which may be NULL in rows without a match, and knows it in some clauses alone. So a FROM with such
//! joins is written with ON, and the columns are written out where they are named alone, and all where there is a `*`:
//!
//! ```text
//! select x, y from a full join b using (x)
//! select coalesce(a.x, b.x) as x, y from a full join b on a.x = b.x
//! ```

use std::ops::ControlFlow;

use datafusion_expr::planner::ContextProvider;
use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, GroupByExpr, Ident, JoinConstraint, JoinOperator, OrderByKind, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableWithJoins, Value, VisitMut,
    VisitorMut, With,
};

use super::orders::result_name;
use super::queries::query_of;
use super::relations::{Level, Relation, Relations, is_plain, named as relation_named};
use super::syntax::call;
use super::whole_rows::normalised;
use crate::naming::MARK;

/// Writes all such joins of a statement out.
pub(super) fn merged(statement: &mut Statement, tables: &dyn ContextProvider) {
    if statement.visit(&mut Merging).is_continue() {
        return;
    }
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
        statement.visit(&mut Merged { tables, around: Around::default() });
}

/// Finds the first of such joins.
struct Merging;

impl VisitorMut for Merging {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if select.from.iter().any(merges) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The WITH clauses around the query that a visitor is in, outermost first, as they were written.
#[derive(Default)]
pub(super) struct Around {
    queries: Vec<Entered>,
}

struct Entered {
    with: Option<With>,
    /// How many of its own queries have been entered; those are visited first.
    entered: usize,
}

impl Around {
    pub(super) fn enter(&mut self, query: &Query) {
        if let Some(Entered { with: Some(with), entered }) = self.queries.last_mut()
            && *entered <= with.cte_tables.len()
        {
            *entered += 1;
        }
        self.queries.push(Entered { with: query.with.clone(), entered: 0 });
    }

    pub(super) fn leave(&mut self) {
        self.queries.pop();
    }

    /// What can be named here.
    pub(super) fn levels(&self) -> Vec<Level<'_>> {
        let last = self.queries.len().saturating_sub(1);
        let levels = self.queries.iter().enumerate().filter_map(|(at, of)| {
            let with = of.with.as_ref()?;
            let all = with.cte_tables.len();
            let is_within = at != last && of.entered <= all && !with.recursive;
            let before = if is_within { of.entered.saturating_sub(1) } else { all };
            Some(Level { with, before })
        });
        levels.collect()
    }
}

/// Goes over the queries of a statement.
struct Merged<'a> {
    tables: &'a dyn ContextProvider,
    around: Around,
}

impl VisitorMut for Merged<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.around.enter(query);
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        let Some(columns) = self.rewritten(select) else { return ControlFlow::Continue(()) };
        let Some(OrderByKind::Expressions(exprs)) = query.order_by.as_mut().map(|order| &mut order.kind) else {
            return ControlFlow::Continue(());
        };
        for order in exprs {
            // A name alone is that of a result, if there is one.
            let is_result = |name: &Ident| {
                select.projection.iter().any(|item| result_name(item).is_some_and(|known| known == normalised(name)))
            };
            if !matches!(&order.expr, Expr::Identifier(name) if is_result(name)) {
                self.written(&mut order.expr, &columns)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.around.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        // That of a query has been written already, with what orders it: this is one of a set operation.
        drop(self.rewritten(select));
        ControlFlow::Continue(())
    }
}

impl Merged<'_> {
    /// Writes the joins of a query with ON. Returns the columns that are merged; none where there is nothing to write, or not all of it
    /// is known.
    fn rewritten(&self, select: &mut Select) -> Option<Vec<(String, Expr)>> {
        if !select.from.iter().any(merges) {
            return None;
        }
        let levels = self.around.levels();
        let relations = Relations::of(self.tables);
        let mut from = select.from.clone();
        let mut sides: Vec<Sides> = Vec::new();
        for table in &mut from {
            let before = unambiguous(&sides);
            sides.push(relations.joined(table, &before, &levels, 0)?);
        }
        let mut projection = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::Wildcard(options) if is_plain(options) => {
                    for side in &sides {
                        projection.extend(side.listed()?.iter().map(|(name, expr)| as_item(expr.clone(), name)));
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
                    if is_plain(options) =>
                {
                    match relation_named(&sides, name).map(|relation| (relation, &relation.columns)) {
                        Some((relation, Some(columns))) => {
                            projection.extend(columns.iter().map(|of| as_item(relation.column(of), of)));
                        }
                        _ => projection.push(item.clone()),
                    }
                }
                SelectItem::Wildcard(_) => return None,
                other => projection.push(other.clone()),
            }
        }
        let columns = unambiguous(&sides);
        for item in &mut projection {
            let SelectItem::UnnamedExpr(Expr::Identifier(name)) = item else { continue };
            let Some((known, expr)) = columns.iter().find(|(known, _)| *known == normalised(name)) else { continue };
            *item = as_item(placed(expr, name), known);
        }
        if select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_))) {
            told_apart(&mut projection);
        }
        (select.from, select.projection) = (from, projection);
        self.write_out(select, &columns).is_continue().then_some(columns)
    }

    /// Writes merged columns out in all that a query computes.
    fn write_out(&self, select: &mut Select, columns: &[(String, Expr)]) -> ControlFlow<()> {
        self.written(&mut select.projection, columns)?;
        self.written(&mut select.selection, columns)?;
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            self.written(exprs, columns)?;
        }
        if let Some(Distinct::On(exprs)) = &mut select.distinct {
            self.written(exprs, columns)?;
        }
        self.written(&mut select.named_window, columns)?;
        self.written(&mut select.having, columns)
    }

    fn written(&self, part: &mut impl VisitMut, columns: &[(String, Expr)]) -> ControlFlow<()> {
        let levels = self.around.levels();
        part.visit(&mut Written {
            relations: &Relations::of(self.tables),
            levels: &levels,
            columns,
            within: Vec::new(),
        })
    }
}

/// Writes columns out that are named alone, also in subqueries whose own relations have none of these names.
struct Written<'a> {
    relations: &'a Relations<'a>,
    levels: &'a [Level<'a>],
    columns: &'a [(String, Expr)],
    /// Of each subquery that the visitor is in, the names that are its own; none where that is not known.
    within: Vec<Option<Vec<String>>>,
}

impl VisitorMut for Written<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_ref() else {
            self.within.push(None);
            return ControlFlow::Continue(());
        };
        let mut levels = self.levels.to_vec();
        levels.extend(query.with.as_ref().map(|with| Level { with, before: with.cte_tables.len() }));
        let own = |from: &TableWithJoins| {
            let sides = self.relations.joined(&mut from.clone(), &[], &levels, 0)?;
            sides.relations.into_iter().map(|relation| relation.columns).collect::<Option<Vec<_>>>()
        };
        let own = select.from.iter().map(own).collect::<Option<Vec<_>>>();
        self.within.push(own.map(|own| own.into_iter().flatten().flatten().collect()));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.within.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr {
            let own = normalised(name);
            let is_outer = |names: &Option<Vec<String>>| names.as_ref().is_some_and(|names| !names.contains(&own));
            if self.within.iter().all(is_outer)
                && let Some((_, column)) = self.columns.iter().find(|(known, _)| *known == own)
            {
                *expr = placed(column, name);
            }
        }
        ControlFlow::Continue(())
    }
}

/// What joins of one another come to.
#[derive(Default)]
pub(super) struct Sides {
    /// Columns of several sides that are one.
    merged: Vec<(String, Expr)>,
    /// All columns that are known, in the order in which `*` lists them.
    all: Vec<(String, Expr)>,
    pub(super) relations: Vec<Relation>,
}

impl Sides {
    /// What `*` lists; none where some of it is not known.
    pub(super) fn listed(&self) -> Option<&[(String, Expr)]> {
        self.relations.iter().all(|relation| relation.columns.is_some()).then_some(&self.all)
    }

    /// The only column of a name.
    fn only(&self, name: &str) -> Option<Expr> {
        let mut found = self.all.iter().filter(|(known, _)| known == name).map(|(_, expr)| expr);
        let mut unknown = self.relations.iter().filter(|relation| relation.columns.is_none());
        match (found.next(), found.next()) {
            (Some(one), None) => Some(one.clone()),
            (Some(_), Some(_)) => None,
            (None, _) => {
                let one = unknown.next()?.column(name);
                unknown.next().is_none().then_some(one)
            }
        }
    }
}

impl Relations<'_> {
    /// What a FROM has, which is written with ON. `before` are merged columns that a LATERAL query in it may name.
    pub(super) fn joined(
        &self,
        from: &mut TableWithJoins,
        before: &[(String, Expr)],
        levels: &[Level<'_>],
        depth: usize,
    ) -> Option<Sides> {
        let mut left = self.side(&mut from.relation, before, levels, depth)?;
        for join in &mut from.joins {
            let named: Vec<(String, Expr)> = before.iter().cloned().chain(left.merged.iter().cloned()).collect();
            let right = self.side(&mut join.relation, &named, levels, depth)?;
            let keeps = keeps(&join.join_operator);
            let Some(constraint) = constraint_of(&mut join.join_operator) else {
                left = beside(left, right, Vec::new());
                continue;
            };
            let names: Vec<String> = match constraint {
                JoinConstraint::Using(names) => {
                    names.iter().map(|name| Some(normalised(name.0.last()?.as_ident()?))).collect::<Option<_>>()?
                }
                JoinConstraint::Natural => {
                    let (own, other) = (left.listed()?, right.listed()?);
                    let is_common = |name: &String| other.iter().any(|(known, _)| known == name);
                    own.iter().map(|(name, _)| name.clone()).filter(is_common).collect()
                }
                JoinConstraint::On(condition) => {
                    let both = unambiguous_of(&left, &right);
                    let written =
                        condition.visit(&mut Written { relations: self, levels, columns: &both, within: Vec::new() });
                    left = written.is_continue().then(|| beside(left, right, Vec::new()))?;
                    continue;
                }
                JoinConstraint::None => Vec::new(),
            };
            let mut columns = Vec::new();
            let mut condition: Option<Expr> = None;
            for name in names {
                let (own, other) = (left.only(&name)?, right.only(&name)?);
                let equal = binary(own.clone(), BinaryOperator::Eq, other.clone());
                condition = Some(match condition {
                    Some(before) => binary(before, BinaryOperator::And, equal),
                    None => equal,
                });
                let column = match keeps {
                    Keeps::Left => own,
                    Keeps::Right => other,
                    Keeps::Both => call("coalesce", vec![own, other]),
                };
                columns.push((name, column));
            }
            match (&*constraint, condition) {
                (_, Some(condition)) => *constraint = JoinConstraint::On(condition),
                // Nothing in common: each row with each, and what is kept without a match where there is nothing to match.
                (JoinConstraint::Natural, None) => {
                    *constraint = JoinConstraint::On(Expr::Value(Value::Boolean(true).with_empty_span()));
                }
                _ => {}
            }
            left = beside(left, right, columns);
        }
        Some(left)
    }

    fn side(
        &self,
        factor: &mut TableFactor,
        before: &[(String, Expr)],
        levels: &[Level<'_>],
        depth: usize,
    ) -> Option<Sides> {
        if let TableFactor::NestedJoin { table_with_joins, alias } = factor {
            let Some(alias) = alias else { return self.joined(table_with_joins, before, levels, depth) };
            if merges(table_with_joins) {
                let subquery = query_of(&format!("select * from {table_with_joins}"))?;
                let alias = Some(alias.clone());
                *factor = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
            }
        }
        let reads_row = match factor {
            TableFactor::Derived { lateral, .. } => *lateral,
            TableFactor::Table { args, .. } => args.is_some(),
            _ => true,
        };
        if reads_row && !before.is_empty() {
            let columns = before;
            let written = factor.visit(&mut Written { relations: self, levels, columns, within: Vec::new() });
            written.is_continue().then_some(())?;
        }
        let relation = self.relation(factor, levels, depth)?;
        let columns = relation.columns.iter().flatten();
        let all = columns.map(|name| (name.clone(), relation.column(name))).collect();
        Some(Sides { merged: Vec::new(), all, relations: vec![relation] })
    }
}

/// Two sides of a join of which these columns are one.
fn beside(left: Sides, right: Sides, columns: Vec<(String, Expr)>) -> Sides {
    let is_other = |(name, _): &(String, Expr)| !columns.iter().any(|(known, _)| known == name);
    let merged = left.merged.into_iter().chain(right.merged).filter(is_other);
    let merged = merged.chain(columns.iter().cloned()).collect();
    let others = left.all.into_iter().chain(right.all).filter(is_other);
    let all = columns.iter().cloned().chain(others).collect();
    Sides { merged, all, relations: left.relations.into_iter().chain(right.relations).collect() }
}

/// The merged columns whose names no other column has.
fn unambiguous(sides: &[Sides]) -> Vec<(String, Expr)> {
    let holders = |name: &String| sides.iter().flat_map(|side| &side.all).filter(|(known, _)| known == name).count();
    sides.iter().flat_map(|side| &side.merged).filter(|(name, _)| holders(name) < 2).cloned().collect()
}

fn unambiguous_of(left: &Sides, right: &Sides) -> Vec<(String, Expr)> {
    let holders = |name: &String| left.all.iter().chain(&right.all).filter(|(known, _)| known == name).count();
    left.merged.iter().chain(&right.merged).filter(|(name, _)| holders(name) < 2).cloned().collect()
}

/// A result of a query: a column goes by its own name.
fn as_item(expr: Expr, name: &str) -> SelectItem {
    match expr {
        Expr::CompoundIdentifier(_) => SelectItem::UnnamedExpr(expr),
        other => SelectItem::ExprWithAlias { expr: other, alias: Ident::with_quote('"', name) },
    }
}

/// Gives results that are the same column another name the second time.
fn told_apart(projection: &mut [SelectItem]) {
    let mut known: Vec<Expr> = Vec::new();
    for (at, item) in projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(_)) = item else { continue };
        if known.contains(expr)
            && let Some(name) = result_name(&SelectItem::UnnamedExpr(expr.clone()))
        {
            let alias = Ident::with_quote('"', format!("{name}{MARK}{}", at + 1));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            continue;
        }
        known.push(expr.clone());
    }
}

/// The column where a name stands.
fn placed(column: &Expr, name: &Ident) -> Expr {
    let mut column = column.clone();
    if let Expr::CompoundIdentifier(path) = &mut column {
        path.iter_mut().for_each(|part| part.span = name.span);
    }
    column
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// The side of whose rows all are kept, as far as it tells which column is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Left,
    Right,
    Both,
}

fn keeps(operator: &JoinOperator) -> Keeps {
    match operator {
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Keeps::Right,
        JoinOperator::FullOuter(_) => Keeps::Both,
        _ => Keeps::Left,
    }
}

/// Whether joins merge columns.
fn merges(from: &TableWithJoins) -> bool {
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => merges(table_with_joins),
        _ => false,
    };
    let merges_here = |operator: &JoinOperator| {
        matches!(constraint(operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
    };
    nested(&from.relation) || from.joins.iter().any(|join| merges_here(&join.join_operator) || nested(&join.relation))
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint) => Some(constraint),
        _ => None,
    }
}

pub(super) fn constraint_of(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint) => Some(constraint),
        _ => None,
    }
}
