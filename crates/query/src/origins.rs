//! Of which stored columns the columns of a plan are made.
//!
//! The law: where the answer's column could tell a value of a stored one, that one is among its origins. It may name one too
//! many, and none too few: of a node that is not known here, every column is made of everything below it. What is compared to
//! choose rows, in a filter or a join, is no origin, and neither is what is counted: a number of rows is no value of theirs.

use std::collections::BTreeSet;

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, JoinType, LogicalPlan, TableScan, WindowFunctionDefinition,
};
use plan::TableName;

use crate::scan::StoredProvider;

/// A column of a stored table.
pub type Origin = (TableName, String);

/// What one column is made of.
pub type Origins = BTreeSet<Origin>;

/// What each column of a plan is made of, in their order. Scans are those of a session, or name `schema.table`.
///
/// Errors: the plan has a name that nothing has.
pub fn origins(plan: &LogicalPlan) -> crate::Result<Vec<Origins>> {
    Ok(of_plan(plan)?)
}

fn of_plan(plan: &LogicalPlan) -> Result<Vec<Origins>> {
    match plan {
        LogicalPlan::TableScan(scan) => Ok(of_scan(scan)),
        LogicalPlan::Projection(projection) => of_list(&projection.expr, &projection.input),
        LogicalPlan::Filter(filter) => of_plan(&filter.input),
        LogicalPlan::Sort(sort) => of_plan(&sort.input),
        LogicalPlan::Limit(limit) => of_plan(&limit.input),
        LogicalPlan::Repartition(repartition) => of_plan(&repartition.input),
        LogicalPlan::Subquery(subquery) => of_plan(&subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) => of_plan(&alias.input),
        LogicalPlan::Distinct(Distinct::All(input)) => of_plan(input),
        LogicalPlan::Distinct(Distinct::On(on)) => of_list(&on.select_expr, &on.input),
        LogicalPlan::Window(window) => {
            let mut columns = of_plan(&window.input)?;
            let made = of_exprs(&window.window_expr, window.input.schema(), &columns)?;
            columns.extend(made);
            Ok(columns)
        }
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
        LogicalPlan::Join(join) => of_join(join),
        LogicalPlan::Union(union) => {
            let mut columns = vec![Origins::new(); union.schema.fields().len()];
            for input in &union.inputs {
                for (column, more) in columns.iter_mut().zip(of_plan(input)?) {
                    column.extend(more);
                }
            }
            Ok(columns)
        }
        LogicalPlan::EmptyRelation(empty) => Ok(vec![Origins::new(); empty.schema.fields().len()]),
        other => {
            let all = everything(other)?;
            Ok(vec![all; other.schema().fields().len()])
        }
    }
}

/// All that could be in any column of a node.
fn everything(node: &LogicalPlan) -> Result<Origins> {
    let mut all = Origins::new();
    for input in node.inputs() {
        of_plan(input)?.into_iter().for_each(|column| all.extend(column));
    }
    node.apply_expressions(|expr| {
        all.extend(of_subqueries(expr)?);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(all)
}

fn of_scan(scan: &TableScan) -> Vec<Origins> {
    let stored = source_as_provider(&scan.source).ok();
    let stored =
        stored.as_ref().and_then(|provider| provider.downcast_ref::<StoredProvider>()).map(StoredProvider::name);
    let named = || Some(TableName::new(scan.table_name.schema()?, scan.table_name.table()));
    let name = stored.cloned().or_else(named);
    let of_field = |field: &arrow::datatypes::FieldRef| -> Origins {
        name.iter().map(|name| (name.clone(), field.name().clone())).collect()
    };
    scan.projected_schema.fields().iter().map(of_field).collect()
}

fn of_list(exprs: &[Expr], input: &LogicalPlan) -> Result<Vec<Origins>> {
    of_exprs(exprs, input.schema(), &of_plan(input)?)
}

fn of_exprs(exprs: &[Expr], schema: &DFSchema, below: &[Origins]) -> Result<Vec<Origins>> {
    exprs.iter().map(|expr| of_expr(expr, schema, below)).collect()
}

/// Groups, the number of their set where there are several, and what is aggregated.
fn of_aggregate(aggregate: &Aggregate) -> Result<Vec<Origins>> {
    let (schema, below) = (aggregate.input.schema(), of_plan(&aggregate.input)?);
    let aggregated = of_exprs(&aggregate.aggr_expr, schema, &below)?;
    let groups = aggregate.schema.fields().len().saturating_sub(aggregated.len());
    let mut columns = match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(sets)] => {
            let each = sets.distinct_expr().into_iter().map(|expr| of_expr(expr, schema, &below));
            let mut grouped = each.collect::<Result<Vec<_>>>()?;
            grouped.resize(groups, Origins::new());
            grouped
        }
        exprs => of_exprs(exprs, schema, &below)?,
    };
    columns.extend(aggregated);
    Ok(columns)
}

fn of_join(join: &Join) -> Result<Vec<Origins>> {
    let (mut left, right) = (of_plan(&join.left)?, of_plan(&join.right)?);
    Ok(match join.join_type {
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
            left.extend(right);
            left
        }
        JoinType::LeftSemi | JoinType::LeftAnti => left,
        JoinType::RightSemi | JoinType::RightAnti => right,
        JoinType::LeftMark => with_mark(left, &right),
        JoinType::RightMark => with_mark(right, &left),
    })
}

/// Whether there is a match tells what the other side has: `IN` as a value becomes such a mark.
fn with_mark(mut columns: Vec<Origins>, other: &[Origins]) -> Vec<Origins> {
    columns.push(other.iter().flatten().cloned().collect());
    columns
}

fn of_expr(expr: &Expr, schema: &DFSchema, below: &[Origins]) -> Result<Origins> {
    let mut found = Origins::new();
    expr.apply(|expr| {
        match expr {
            expr if is_count(expr) => return Ok(TreeNodeRecursion::Jump),
            Expr::Column(column) => match schema.index_of_column(column).ok().and_then(|at| below.get(at)) {
                Some(origins) => found.extend(origins.iter().cloned()),
                // Whatever it is, it is one of these.
                None => below.iter().for_each(|origins| found.extend(origins.iter().cloned())),
            },
            Expr::OuterReferenceColumn(_, column) => {
                return plan_err!("what {column} is made of is not known here");
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    found.extend(of_subqueries(expr)?);
    Ok(found)
}

/// What the subqueries in an expression yield.
fn of_subqueries(expr: &Expr) -> Result<Origins> {
    let mut found = Origins::new();
    expr.apply(|expr| {
        let subquery = match expr {
            expr if is_count(expr) => return Ok(TreeNodeRecursion::Jump),
            Expr::ScalarSubquery(subquery) => subquery,
            Expr::InSubquery(of) => &of.subquery,
            Expr::SetComparison(of) => &of.subquery,
            // Whether there is a row.
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        of_plan(&subquery.subquery)?.into_iter().for_each(|column| found.extend(column));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn is_count(expr: &Expr) -> bool {
    match expr {
        Expr::AggregateFunction(call) => call.func.name() == "count",
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => function.name() == "count",
            WindowFunctionDefinition::WindowUDF(_) => false,
        },
        _ => false,
    }
}
