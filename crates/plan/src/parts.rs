//! Operators that are unions of others which are kept: FULL JOIN, groupings by several sets, INTERSECT and EXCEPT.
//!
//! ```text
//! a full join b                      a left join b, and the rows of b without a match
//! group by rollup (x)                group by x, and one total
//! select … intersect select …        rows of both, grouped: those that are among the first, and among the second
//! select … except select …           … among the first, and not among the second
//! ```
//!
//! Rows in which floats, intervals or arrays decide stay as they are: their equality is that of keys ([`crate::alike`]).

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, JoinType, NullEquality, Result, ScalarValue, internal_err};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::logical_plan::{Aggregate, Distinct, Join, Projection, Union};
use datafusion_expr::utils::{grouping_set_to_exprlist, powerset};
use datafusion_expr::{Expr, ExprSchemable as _, GroupingSet, LogicalPlan, LogicalPlanBuilder, lit};

use crate::functions::functions;

/// The plan with these written as unions.
pub(crate) fn united(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut is_any = false;
    plan.apply_with_subqueries(|node| {
        is_any |= matches!(node, LogicalPlan::Join(join) if join.join_type == JoinType::Full || is_set_operation(join));
        is_any |= matches!(node, LogicalPlan::Aggregate(of) if matches!(of.group_expr[..], [Expr::GroupingSet(_)]));
        Ok(if is_any { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !is_any {
        return Ok(plan);
    }
    let made = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if join.join_type == JoinType::Full => Ok(Transformed::yes(of_full_join(join)?)),
        LogicalPlan::Join(join) if is_set_operation(&join) => Ok(Transformed::yes(of_both(join)?)),
        LogicalPlan::Aggregate(aggregate) => match sets_of(&aggregate)? {
            Some(sets) => Ok(Transformed::yes(of_sets(aggregate, sets)?)),
            None => Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    // What a union has in a column may be NULL.
    Ok(made.data.transform_up_with_subqueries(|node| node.recompute_schema().map(Transformed::yes))?.data)
}

/// Parts one after another, under the names that a schema has.
fn union(parts: Vec<LogicalPlan>, schema: &DFSchema) -> Result<LogicalPlan> {
    let union = LogicalPlan::Union(Union::try_new(parts.into_iter().map(Arc::new).collect())?);
    let columns = schema.iter().enumerate().map(|(at, (qualifier, field))| {
        Expr::Column(Column::new_unqualified(place(at))).alias_qualified(qualifier.cloned(), field.name())
    });
    Ok(LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::new(union))?))
}

/// The name of a part's column.
fn place(at: usize) -> String {
    format!("\u{1}part {at}")
}

/// A part of these values.
fn part(values: impl Iterator<Item = Expr>, input: LogicalPlan) -> Result<LogicalPlan> {
    let values = values.enumerate().map(|(at, value)| value.unalias().alias(place(at)));
    Ok(LogicalPlan::Projection(Projection::try_new(values.collect(), Arc::new(input))?))
}

fn columns(schema: &DFSchema) -> impl Iterator<Item = Expr> + '_ {
    schema.columns().into_iter().map(Expr::Column)
}

fn nulls(schema: &DFSchema) -> Result<Vec<Expr>> {
    schema.fields().iter().map(|field| Ok(lit(ScalarValue::try_from(field.data_type())?))).collect()
}

fn of_full_join(join: Join) -> Result<LogicalPlan> {
    let schema = Arc::clone(&join.schema);
    let missing = nulls(join.left.schema())?;
    let other = Arc::clone(join.right.schema());
    let swapped = join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect();
    let alone = Join::try_new(
        Arc::clone(&join.right),
        Arc::clone(&join.left),
        swapped,
        join.filter.clone(),
        JoinType::LeftAnti,
        join.join_constraint,
        join.null_equality,
        false,
    )?;
    let matched = Join::try_new(
        join.left,
        join.right,
        join.on,
        join.filter,
        JoinType::Left,
        join.join_constraint,
        join.null_equality,
        false,
    )?;
    let matched = part(columns(&schema), LogicalPlan::Join(matched))?;
    let alone = part(missing.into_iter().chain(columns(&other)), LogicalPlan::Join(alone))?;
    union(vec![matched, alone], &schema)
}

/// The sets of a grouping by several.
fn sets_of(aggregate: &Aggregate) -> Result<Option<Vec<Vec<Expr>>>> {
    let [Expr::GroupingSet(sets)] = &aggregate.group_expr[..] else { return Ok(None) };
    Ok(Some(match sets {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(exprs) => (0..=exprs.len()).rev().map(|count| exprs[..count].to_vec()).collect(),
        GroupingSet::Cube(exprs) => {
            powerset(exprs)?.into_iter().map(|set| set.into_iter().cloned().collect()).collect()
        }
    }))
}

/// A total for each of the sets; what is not in one is NULL, and said in the number of the grouping.
fn of_sets(aggregate: Aggregate, sets: Vec<Vec<Expr>>) -> Result<LogicalPlan> {
    let all: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
    let schema = Arc::clone(&aggregate.schema);
    let missing = nulls(&schema)?;
    let number_type = schema.field(all.len()).data_type().clone();
    let parts = sets.into_iter().map(|set| {
        let total = Aggregate::try_new(Arc::clone(&aggregate.input), set.clone(), aggregate.aggr_expr.clone())?;
        let own: Vec<Expr> = columns(&total.schema).collect();
        let group = all.iter().zip(&missing).map(|(expr, null)| {
            let at = set.iter().position(|grouped| grouped == expr);
            at.map_or_else(|| null.clone(), |at| own[at].clone())
        });
        let group: Vec<Expr> = group.collect();
        let number = all.iter().fold(0_u64, |number, expr| (number << 1) | u64::from(!set.contains(expr)));
        let number = lit(ScalarValue::from(number).cast_to(&number_type)?);
        let totals = own[set.len()..].to_vec();
        part(group.into_iter().chain([number]).chain(totals), LogicalPlan::Aggregate(total))
    });
    union(parts.collect::<Result<Vec<_>>>()?, &schema)
}

/// Whether a join is an INTERSECT or EXCEPT of distinct rows whose values are equal where they are the same.
fn is_set_operation(join: &Join) -> bool {
    let is_plain = |data_type: &DataType| !data_type.is_floating() && !data_type.is_nested() && !is_interval(data_type);
    let left = join.left.schema();
    let mut pairs = left.fields().iter().zip(columns(left)).zip(&join.on);
    // What is compared of the right side has been made of the types of the left one.
    let are_alike = pairs.all(|((field, column), (own, other))| {
        column == *own
            && is_plain(field.data_type())
            && other.get_type(join.right.schema()).is_ok_and(|of| of == *field.data_type())
    });
    join.null_equality == NullEquality::NullEqualsNull
        && matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
        && join.filter.is_none()
        && join.on.len() == left.fields().len()
        && are_alike
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

fn of_both(join: Join) -> Result<LogicalPlan> {
    let Some(count) = functions().aggregate.get("count") else { return internal_err!("count is not registered") };
    let schema = Arc::clone(join.left.schema());
    let width = schema.fields().len();
    // Which of the two a row is of.
    let (there, missing) = (lit(1_i64), lit(ScalarValue::Int64(None)));
    let (left, right): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
    let parts = vec![
        part(left.into_iter().chain([there.clone(), missing.clone()]), join.left.as_ref().clone())?,
        part(right.into_iter().chain([missing, there]), join.right.as_ref().clone())?,
    ];
    let both = LogicalPlan::Union(Union::try_new(parts.into_iter().map(Arc::new).collect())?);
    let column = |at: usize| Expr::Column(Column::new_unqualified(place(at)));
    let counted = |at: usize| {
        let call = AggregateFunction::new_udf(Arc::clone(count), vec![column(at)], false, None, vec![], None);
        Expr::AggregateFunction(call).alias(format!("\u{1}rows {at}"))
    };
    let rows = |at: usize| Expr::Column(Column::new_unqualified(format!("\u{1}rows {at}")));
    let among = match join.join_type {
        JoinType::LeftSemi => rows(width + 1).gt(lit(0_i64)),
        _ => rows(width + 1).eq(lit(0_i64)),
    };
    let plan = LogicalPlanBuilder::from(both)
        .aggregate((0..width).map(column), [counted(width), counted(width + 1)])?
        .filter(rows(width).gt(lit(0_i64)).and(among))?
        .build()?;
    let named = schema
        .iter()
        .enumerate()
        .map(|(at, (qualifier, field))| column(at).alias_qualified(qualifier.cloned(), field.name()));
    Ok(LogicalPlan::Projection(Projection::try_new(named.collect(), Arc::new(plan))?))
}
