//! One zero and one NaN among floats.
//!
//! IEEE 754 has two zeros that are equal, and SQL groups, compares and joins by equality. Arrow tells them apart, keys of
//! our states do not: a group of both would be two in a build and one in upkeep. So wherever equality or order of a float
//! decides, in GROUP BY, DISTINCT, `min` and `max`, PARTITION BY, ORDER BY, comparisons and joins, the float goes through
//! [`one_zero`] first, in the one plan that build, upkeep and recomputation share. Columns that are only passed on keep
//! their bytes.

use std::sync::{Arc, LazyLock};

use arrow::compute::unary;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::{AggregateFunction, InSubquery, ScalarFunction, Sort as SortExpr, WindowFunction};
use datafusion_expr::logical_plan::{Aggregate, Distinct, Join, Sort, Subquery, Window};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarUDF};

use crate::float_function::float_function;

/// The name under which plans show the function.
pub(crate) const NAME: &str = "one_zero";

/// The analyser's rule; it stands after the agreement on types.
pub(crate) fn analysed(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(node)?.data)
}

/// The float with 0.0 for −0.0 and one NaN for all; anything else, and what is so already, as it is.
pub(crate) fn one_zero(expr: Expr, schema: &DFSchema) -> Expr {
    let float = matches!(expr.get_type(schema), Ok(DataType::Float32 | DataType::Float64));
    if !float || is_called(&expr) {
        return expr;
    }
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(function);
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&FUNCTION), vec![expr]))
}

fn is_called(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_called(&alias.expr),
        Expr::ScalarFunction(call) => call.name() == NAME,
        _ => false,
    }
}

/// The same under the name that others know the expression by.
fn named(expr: Expr, schema: &DFSchema) -> Expr {
    match expr {
        Expr::Alias(mut alias) => {
            alias.expr = Box::new(one_zero(*alias.expr, schema));
            Expr::Alias(alias)
        }
        Expr::Column(column) => {
            let (relation, name) = (column.relation.clone(), column.name.clone());
            let made = one_zero(Expr::Column(column), schema);
            if is_called(&made) { made.alias_qualified(relation, name) } else { made }
        }
        other => {
            let name = other.schema_name().to_string();
            let before = is_called(&other);
            let made = one_zero(other, schema);
            if is_called(&made) && !before { made.alias(name) } else { made }
        }
    }
}

fn node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let changed = match &plan {
        LogicalPlan::Aggregate(aggregate) => of_groups(aggregate)?,
        LogicalPlan::Distinct(Distinct::All(input)) => {
            chosen(input)?.map(|input| LogicalPlan::Distinct(Distinct::All(Arc::new(input))))
        }
        LogicalPlan::Window(window) => of_windows(window)?,
        LogicalPlan::Sort(sort) => of_order(sort),
        LogicalPlan::Join(join) => of_join(join)?,
        _ => None,
    };
    Ok(changed.map_or_else(|| Transformed::no(plan), Transformed::yes))
}

fn of_groups(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let schema = aggregate.input.schema();
    let group: Vec<_> = aggregate.group_expr.iter().map(|expr| named(expr.clone(), schema)).collect();
    let results: Vec<_> = aggregate.aggr_expr.iter().map(|expr| of_aggregate(expr, schema)).collect();
    if group == aggregate.group_expr && results == aggregate.aggr_expr {
        return Ok(None);
    }
    Ok(Some(LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(&aggregate.input), group, results)?)))
}

/// An aggregate over values that are compared with each other.
fn of_aggregate(expr: &Expr, schema: &DFSchema) -> Expr {
    match expr {
        Expr::Alias(alias) => {
            let inner = of_aggregate(&alias.expr, schema).unalias();
            let mut alias = alias.clone();
            alias.expr = Box::new(inner);
            Expr::Alias(alias)
        }
        Expr::AggregateFunction(call) if call.params.distinct || matches!(call.func.name(), "min" | "max") => {
            let args: Vec<_> = call.params.args.iter().map(|arg| one_zero(arg.clone(), schema)).collect();
            if args == call.params.args {
                return expr.clone();
            }
            let mut changed: AggregateFunction = call.clone();
            changed.params.args = args;
            Expr::AggregateFunction(changed).alias(expr.schema_name().to_string())
        }
        other => other.clone(),
    }
}

/// A plan with its columns under the same names; none if none is a float.
fn chosen(input: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let schema = input.schema();
    if let LogicalPlan::Projection(projection) = input
        && projection
            .expr
            .iter()
            .zip(schema.fields())
            .all(|(expr, field)| is_called(expr) || !is_float(field.data_type()))
    {
        return Ok(None);
    }
    let columns: Vec<_> = schema.columns().into_iter().map(Expr::Column).collect();
    let made: Vec<_> = columns.iter().map(|column| named(column.clone(), schema)).collect();
    if made == columns {
        return Ok(None);
    }
    LogicalPlanBuilder::from(input.clone()).project(made)?.build().map(Some)
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

fn of_windows(window: &Window) -> Result<Option<LogicalPlan>> {
    let schema = window.input.schema();
    let exprs: Vec<_> = window.window_expr.iter().map(|expr| of_window(expr, schema)).collect();
    if exprs == window.window_expr {
        return Ok(None);
    }
    Ok(Some(LogicalPlan::Window(Window::try_new(exprs, Arc::clone(&window.input))?)))
}

fn of_window(expr: &Expr, schema: &DFSchema) -> Expr {
    match expr {
        Expr::Alias(alias) => {
            let inner = of_window(&alias.expr, schema).unalias();
            let mut alias = alias.clone();
            alias.expr = Box::new(inner);
            Expr::Alias(alias)
        }
        Expr::WindowFunction(function) => {
            let mut changed: WindowFunction = function.as_ref().clone();
            let params = &mut changed.params;
            params.partition_by = params.partition_by.iter().map(|e| one_zero(e.clone(), schema)).collect();
            params.order_by = ordered(&params.order_by, schema);
            if changed == **function {
                return expr.clone();
            }
            Expr::from(changed).alias(expr.schema_name().to_string())
        }
        other => other.clone(),
    }
}

fn ordered(order: &[SortExpr], schema: &DFSchema) -> Vec<SortExpr> {
    order.iter().map(|sort| SortExpr { expr: one_zero(sort.expr.clone(), schema), ..sort.clone() }).collect()
}

fn of_order(sort: &Sort) -> Option<LogicalPlan> {
    let expr = ordered(&sort.expr, sort.input.schema());
    (expr != sort.expr).then(|| LogicalPlan::Sort(Sort { expr, ..sort.clone() }))
}

/// Keys of a join by USING; those of ON are comparisons.
fn of_join(join: &Join) -> Result<Option<LogicalPlan>> {
    let on: Vec<_> = join
        .on
        .iter()
        .map(|(l, r)| (one_zero(l.clone(), join.left.schema()), one_zero(r.clone(), join.right.schema())))
        .collect();
    Ok((on != join.on).then(|| LogicalPlan::Join(Join { on, ..join.clone() })))
}

/// `x IN (SELECT …)`: a join by equality. Says whether anything was changed.
pub(crate) fn of_membership(test: &mut InSubquery, schema: &DFSchema) -> Result<bool> {
    let expr = one_zero(test.expr.as_ref().clone(), schema);
    let listed = chosen(&test.subquery.subquery)?;
    let changed = expr != *test.expr || listed.is_some();
    *test.expr = expr;
    if let Some(listed) = listed {
        test.subquery = Subquery { subquery: Arc::new(listed), ..test.subquery.clone() };
    }
    Ok(changed)
}

/// The function.
fn function() -> Arc<ScalarUDF> {
    float_function(
        NAME,
        None,
        |reals| {
            Arc::new(unary::<_, _, Float32Type>(reals, |real| match real {
                0.0 => 0.0,
                real if real.is_nan() => f32::NAN,
                real => real,
            }))
        },
        |doubles| {
            Arc::new(unary::<_, _, Float64Type>(doubles, |double| match double {
                0.0 => 0.0,
                double if double.is_nan() => f64::NAN,
                double => double,
            }))
        },
    )
}
