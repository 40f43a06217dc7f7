//! LATERAL subqueries that read nothing but the row that they stand beside: DataFusion's rule takes inner joins of tables
//! alone.
//!
//! One that has one row, `left join lateral (select t.a * 10 as b) as y on true`, is so many columns more. One that has the rows
//! of a value, `from orders, json_array_elements(orders.doc) as e`, is what unnests this value beside the row's own columns.
//!
//! Of one that reads tables and is tied to the row by equalities, the first rows are those of each group, and an outer join keeps
//! the rows that have none:
//!
//! ```text
//! from orders o left join lateral (select i.sku from items i where i.order_id = o.id order by i.price limit 1) as t on true
//! from orders o left join (select i.sku, i.order_id as k, row_number() over (partition by i.order_id order by i.price) as n
//!                          from items i) as t on o.id = t.k and t.n <= 1
//! ```

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, NullHandling, Result, ScalarValue, UnnestOptions, internal_err};
use datafusion_expr::expr::{Sort as SortExpr, WindowFunction};
use datafusion_expr::logical_plan::{FetchType, Filter, Join, Projection, SkipType, Unnest};
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{
    BinaryExpr, Expr, ExprFunctionExt as _, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, lit,
};

use crate::functions::functions;

/// The plan without such subqueries. Before the agreement on types: what is outside of a subquery has the type there that it was
/// written with.
pub(crate) fn inlined(plan: LogicalPlan) -> Result<LogicalPlan> {
    let inlined = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match columns(&join)? {
            Some(columns) => Ok(Transformed::yes(columns)),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(inlined.data)
}

fn columns(join: &Join) -> Result<Option<LogicalPlan>> {
    let keys = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let is_true = |condition: &Expr| matches!(condition, Expr::Literal(ScalarValue::Boolean(Some(true)), _));
    let condition = conjunction(keys.chain(join.filter.clone())).filter(|condition| !is_true(condition));
    // An outer join keeps the rows of which its condition does not hold, without the columns.
    let is_possible = match join.join_type {
        JoinType::Inner => true,
        JoinType::Left => condition.is_none(),
        _ => false,
    };
    if is_possible {
        let beside = match one_row(&join.right) {
            Some(computed) => Some(of_one_row(join, computed, condition.clone())?),
            None => unnested(join, condition.clone())?,
        };
        if beside.is_some() {
            return Ok(beside);
        }
    }
    match join.join_type {
        JoinType::Left if condition.is_none() && is_total(&join.right) => {
            Ok(Some(LogicalPlan::Join(Join { join_type: JoinType::Inner, ..join.clone() }).recompute_schema()?))
        }
        JoinType::Inner | JoinType::Left => first_rows(join, condition),
        _ => Ok(None),
    }
}

fn of_one_row(join: &Join, computed: &[Expr], condition: Option<Expr>) -> Result<LogicalPlan> {
    let left = join.left.schema();
    let mut exprs: Vec<Expr> = left.columns().into_iter().map(Expr::Column).collect();
    for ((qualifier, field), expr) in join.right.schema().iter().zip(computed) {
        let expr = expr.clone().unalias().transform_up(|part| Ok(of_the_row(part, left)))?.data;
        exprs.push(expr.alias_qualified(qualifier.cloned(), field.name()));
    }
    let all = LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&join.left))?);
    Ok(match condition {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(all))?),
        None => all,
    })
}

/// Whether a subquery has one row for each row that it stands beside, whatever it reads.
fn is_total(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => is_total(&alias.input),
        LogicalPlan::Subquery(subquery) => !subquery.outer_ref_columns.is_empty() && has_one_row(&subquery.subquery),
        _ => false,
    }
}

fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => has_one_row(&alias.input),
        LogicalPlan::Projection(projection) => has_one_row(&projection.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}

/// A subquery that is tied to the row beside it by equalities.
struct Tied<'p> {
    limit: Option<i64>,
    results: Option<&'p Projection>,
    order: &'p [SortExpr],
    computed: Option<&'p Projection>,
    conditions: Vec<Expr>,
    input: &'p LogicalPlan,
}

impl<'p> Tied<'p> {
    fn of(plan: &'p LogicalPlan) -> Result<Option<Self>> {
        let mut plan = plan;
        let mut is_beside_row = false;
        loop {
            plan = match plan {
                LogicalPlan::SubqueryAlias(alias) => &alias.input,
                LogicalPlan::Subquery(subquery) => {
                    is_beside_row = true;
                    &subquery.subquery
                }
                _ => break,
            };
        }
        if !is_beside_row {
            return Ok(None);
        }
        let mut limit = None;
        if let LogicalPlan::Limit(first) = plan {
            let FetchType::Literal(Some(fetch)) = first.get_fetch_type()? else { return Ok(None) };
            if !matches!(first.get_skip_type()?, SkipType::Literal(0)) {
                return Ok(None);
            }
            limit = i64::try_from(fetch).ok();
            plan = &first.input;
        }
        let mut results = None;
        if let LogicalPlan::Projection(projection) = plan
            && matches!(projection.input.as_ref(), LogicalPlan::Sort(_))
        {
            results = Some(projection);
            plan = &projection.input;
        }
        let mut order: &[SortExpr] = &[];
        if let LogicalPlan::Sort(sort) = plan {
            (order, plan) = (&sort.expr, &sort.input);
        }
        let mut computed = None;
        if let LogicalPlan::Projection(projection) = plan {
            (computed, plan) = (Some(projection), &projection.input);
        }
        let mut conditions = Vec::new();
        if let LogicalPlan::Filter(filter) = plan {
            conditions = split_conjunction(&filter.predicate).into_iter().cloned().collect();
            plan = &filter.input;
        }
        let computes = results.into_iter().chain(computed).flat_map(|projection| &projection.expr);
        let is_of_row = computes.chain(order.iter().map(|by| &by.expr)).any(Expr::contains_outer);
        let is_tied = conditions.iter().any(Expr::contains_outer);
        let is_plain = is_tied && !is_of_row && plan.all_out_ref_exprs().is_empty();
        Ok(is_plain.then_some(Self { limit, results, order, computed, conditions, input: plan }))
    }
}

/// The two sides of an equality between a subquery and the row beside it.
fn tie(condition: &Expr, row: &DFSchema) -> Result<Option<(Expr, Expr)>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return Ok(None) };
    let (own, outer) = match (left.contains_outer(), right.contains_outer()) {
        (false, true) => (left, right),
        (true, false) => (right, left),
        _ => return Ok(None),
    };
    if outer.any_column_refs() {
        return Ok(None);
    }
    let outer = outer.as_ref().clone().transform_up(|part| Ok(of_the_row(part, row)))?.data;
    Ok((!outer.contains_outer()).then(|| (own.as_ref().clone(), outer)))
}

/// A join with the first rows of a subquery, or all of them.
fn first_rows(join: &Join, condition: Option<Expr>) -> Result<Option<LogicalPlan>> {
    let Some(tied) = Tied::of(&join.right)? else { return Ok(None) };
    // All rows of an inner join are the planner's own affair.
    if tied.limit.is_none() && join.join_type == JoinType::Inner {
        return Ok(None);
    }
    let (ties, others): (Vec<Expr>, Vec<Expr>) = tied.conditions.into_iter().partition(Expr::contains_outer);
    let Some(ties) = ties.iter().map(|of| tie(of, join.left.schema())).collect::<Result<Option<Vec<_>>>>()? else {
        return Ok(None);
    };
    let mut below = LogicalPlanBuilder::from(tied.input.clone());
    if let Some(others) = conjunction(others) {
        below = below.filter(others)?;
    }
    let named = |name: &str| Expr::Column(Column::new_unqualified(name));
    let names: Vec<String> = (0..ties.len()).map(|at| format!("\u{1}tie {at}")).collect();
    let columns = |plan: &LogicalPlan| plan.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
    let computed = tied.computed.map_or_else(|| columns(tied.input), |computed| computed.expr.clone());
    let keys = ties.iter().zip(&names).map(|((own, _), name)| own.clone().alias(name.as_str()));
    below = below.project(computed.into_iter().chain(keys).collect::<Vec<_>>())?;
    if let Some(limit) = tied.limit {
        let Some(row_number) = functions().window.get("row_number") else {
            return internal_err!("row_number is not registered");
        };
        const NUMBER: &str = "\u{1}number";
        let number = Expr::from(WindowFunction::new(Arc::clone(row_number), vec![]));
        let number = number.partition_by(names.iter().map(|name| named(name)).collect());
        let number = if tied.order.is_empty() { number } else { number.order_by(tied.order.to_vec()) };
        below = below.window([number.build()?.alias(NUMBER)])?.filter(named(NUMBER).lt_eq(lit(limit)))?;
    }
    let results = match (tied.results, tied.computed) {
        (Some(results), _) => results.expr.clone(),
        (None, Some(computed)) => computed.schema.columns().into_iter().map(Expr::Column).collect(),
        (None, None) => columns(tied.input),
    };
    let schema = join.right.schema();
    let results = results
        .into_iter()
        .zip(schema.iter())
        .map(|(expr, (qualifier, field))| expr.unalias().alias_qualified(qualifier.cloned(), field.name()));
    let right = below.project(results.chain(names.iter().map(|name| named(name))).collect::<Vec<_>>())?.build()?;
    let on = ties.into_iter().zip(&names).map(|((_, outer), name)| outer.eq(named(name)));
    let on: Vec<Expr> = on.chain(condition).collect();
    let joined = LogicalPlanBuilder::from(join.left.as_ref().clone()).join_on(right, join.join_type, on)?;
    let all = columns(&join.left).into_iter().chain(columns(&join.right));
    Ok(Some(joined.project(all.collect::<Vec<_>>())?.build()?))
}

/// What a subquery computes that reads nothing.
fn one_row(plan: &LogicalPlan) -> Option<&[Expr]> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => one_row(&alias.input),
        LogicalPlan::Subquery(subquery) => one_row(&subquery.subquery),
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => Some(&projection.expr),
            _ => None,
        },
        _ => None,
    }
}

/// A column of the other side is no longer one of an outer query.
fn of_the_row(part: Expr, left: &DFSchema) -> Transformed<Expr> {
    match part {
        Expr::OuterReferenceColumn(_, column) if left.has_column(&column) => Transformed::yes(Expr::Column(column)),
        other => Transformed::no(other),
    }
}

/// A join with the rows of a value; none where the other side is anything else.
fn unnested(join: &Join, condition: Option<Expr>) -> Result<Option<LogicalPlan>> {
    let mut beside = Beside { row: &join.left, outer: join.join_type == JoinType::Left, levels: 0, unnests: false };
    let Some((plan, rows)) = beside.rows(&join.right)? else { return Ok(None) };
    let mut exprs: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    for ((qualifier, field), column) in join.right.schema().iter().zip(rows) {
        exprs.push(Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
    }
    let all = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
    Ok(Some(match condition {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(all))?),
        None => all,
    }))
}

/// A subquery that reads nothing, planned anew beside the columns of a row.
struct Beside<'j> {
    row: &'j Arc<LogicalPlan>,
    /// Whether a row comes for which the subquery has none.
    outer: bool,
    /// Names made so far.
    levels: usize,
    unnests: bool,
}

/// A plan, and where the columns of the subquery are in it.
type Planned = Option<(LogicalPlan, Vec<Column>)>;

impl Beside<'_> {
    fn rows(&mut self, plan: &LogicalPlan) -> Result<Planned> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => self.rows(&alias.input),
            LogicalPlan::Subquery(subquery) => self.rows(&subquery.subquery),
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row && empty.schema.fields().is_empty() => {
                Ok(Some((self.row.as_ref().clone(), Vec::new())))
            }
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            // What is left out of an outer join's rows would have to come back where it was all there was.
            LogicalPlan::Filter(filter) if !self.outer => {
                let Some((below, columns)) = self.rows(&filter.input)? else { return Ok(None) };
                let predicate = self.beside(filter.predicate.clone(), filter.input.schema(), &columns)?;
                Ok(Some((LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(below))?), columns)))
            }
            _ => Ok(None),
        }
    }

    fn projection(&mut self, projection: &Projection) -> Result<Planned> {
        let Some((below, columns)) = self.rows(&projection.input)? else { return Ok(None) };
        // Above what an outer join adds, everything is NULL.
        if self.outer && self.unnests && !projection.expr.iter().all(passes_null) {
            return Ok(None);
        }
        let mut exprs: Vec<Expr> = self.row.schema().columns().into_iter().map(Expr::Column).collect();
        let mut made = Vec::new();
        for expr in &projection.expr {
            let name = self.name();
            let expr = self.beside(expr.clone().unalias(), projection.input.schema(), &columns)?;
            exprs.push(expr.alias(name.as_str()));
            made.push(Column::new_unqualified(name));
        }
        Ok(Some((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(below))?), made)))
    }

    fn unnest(&mut self, unnest: &Unnest) -> Result<Planned> {
        let is_plain = unnest.list_type_columns.iter().all(|(_, list)| list.depth == 1)
            && unnest.struct_type_columns.is_empty()
            && unnest.options.null_handling == NullHandling::Drop;
        // Of two steps the second would have to tell what the first has added.
        if !is_plain || (self.outer && self.unnests) {
            return Ok(None);
        }
        let Some((below, columns)) = self.rows(&unnest.input)? else { return Ok(None) };
        self.unnests = true;
        let lists = unnest.list_type_columns.iter().filter_map(|(at, _)| columns.get(*at).cloned()).collect();
        let handling = if self.outer { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
        let options = UnnestOptions::new().with_null_handling(handling);
        let plan = Unnest::try_new(Arc::new(below), lists, options)?;
        let made = unnest.dependency_indices.iter().filter_map(|at| columns.get(*at).cloned()).collect();
        Ok(Some((LogicalPlan::Unnest(plan), made)))
    }

    /// A name that no column of the row has.
    fn name(&mut self) -> String {
        self.levels += 1;
        format!("\u{1}beside {}", self.levels)
    }

    /// An expression of the subquery over the columns beside the row.
    fn beside(&self, expr: Expr, schema: &DFSchema, columns: &[Column]) -> Result<Expr> {
        let row = self.row.schema();
        let made = expr.transform_up(|part| match part {
            Expr::Column(column) => {
                let found = schema.maybe_index_of_column(&column).and_then(|at| columns.get(at));
                Ok(Transformed::yes(Expr::Column(found.cloned().unwrap_or(column))))
            }
            other => Ok(of_the_row(other, row)),
        })?;
        Ok(made.data)
    }
}

/// Whether an expression is NULL where its column is.
fn passes_null(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => passes_null(&alias.expr),
        Expr::Cast(cast) => passes_null(&cast.expr),
        Expr::ScalarFunction(call) if matches!(call.name(), "json" | "jsonb") => call.args.iter().all(passes_null),
        Expr::Column(_) => true,
        _ => false,
    }
}
