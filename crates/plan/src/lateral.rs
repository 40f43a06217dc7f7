//! LATERAL subqueries that read nothing but the row that they stand beside: DataFusion's rule takes inner joins of tables
//! alone.
//!
//! One that has one row, `left join lateral (select t.a * 10 as b) as y on true`, is so many columns more. One that has the rows
//! of a value, `from orders, json_array_elements(orders.doc) as e`, is what unnests this value beside the row's own columns.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, NullHandling, Result, ScalarValue, UnnestOptions};
use datafusion_expr::logical_plan::{Filter, Join, Projection, Unnest};
use datafusion_expr::utils::conjunction;
use datafusion_expr::{Expr, JoinType, LogicalPlan};

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
    if !is_possible {
        return Ok(None);
    }
    let Some(computed) = one_row(&join.right) else { return unnested(join, condition) };
    let left = join.left.schema();
    let mut exprs: Vec<Expr> = left.columns().into_iter().map(Expr::Column).collect();
    for ((qualifier, field), expr) in join.right.schema().iter().zip(computed) {
        let expr = expr.clone().unalias().transform_up(|part| Ok(of_the_row(part, left)))?.data;
        exprs.push(expr.alias_qualified(qualifier.cloned(), field.name()));
    }
    let all = LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&join.left))?);
    Ok(Some(match condition {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(all))?),
        None => all,
    }))
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
