//! Equality and order of intervals and of arrays, as PostgreSQL has them.
//!
//! Arrow compares intervals part by part and cannot order arrays; PostgreSQL takes a month for 30 days and a day for 24
//! hours, so that `1 mon` and `30 days` are equal, and are two intervals all the same. So wherever equality or order of
//! such a value decides, in GROUP BY, DISTINCT, `min` and `max`, PARTITION BY, ORDER BY, comparisons and joins, its *sort
//! key* stands in its place, bytes that compare as the values do ([`relation::key::sort_keys`]), in the one plan that build,
//! upkeep and recomputation share.
//!
//! Who groups wants a value to be shown. Of equal values of several forms a group shows the least one, by a *whole key*,
//! from which the value is read again: that is a function of the values that the group has now, whatever their order.
//!
//! ```text
//! select x, min(y) from t group by x
//! select of_whole_key(form) as x, of_whole_key(low) as "min(y)"
//! from (select min(whole_key(x)) as form, min(whole_key(y)) as low from t group by sort_key(x))
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::metadata::FieldMetadata;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{
    Column, DFSchema, DataFusionError, Result, ScalarValue, TableReference, exec_err, internal_err,
};
use datafusion_expr::expr::{AggregateFunction, InSubquery, ScalarFunction, Sort as SortExpr, WindowFunction};
use datafusion_expr::expr_rewriter::{FunctionRewrite, NamePreserver};
use datafusion_expr::logical_plan::{Aggregate, Distinct, DistinctOn, Join, Projection, Sort, Subquery, Window};
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, lit, when,
};
use datafusion_functions::utils::make_scalar_function;
use relation::key;

use crate::functions::functions;
use crate::postgres::choices::are_small;

/// The analyser's rule; it stands after the agreement on types.
pub(crate) fn analysed(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(node)?.data)
}

/// The order of windows, before types are agreed on: that agreement knows no frame over intervals, arrays or bytes.
#[derive(Debug)]
pub(crate) struct WindowOrder;

impl FunctionRewrite for WindowOrder {
    fn name(&self) -> &str {
        "window_order"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::WindowFunction(function) = &mut expr else { return Ok(Transformed::no(expr)) };
        if is_by_distance(function) {
            return Ok(Transformed::no(expr));
        }
        let params = &mut function.params;
        let order = ordered(&params.order_by, schema);
        let mut changed = order != params.order_by;
        params.order_by = order;
        let has_keys = params.order_by.iter().any(|by| by.expr.get_type(schema).is_ok_and(|t| t == DataType::Binary));
        if has_keys && params.window_frame.units == WindowFrameUnits::Range {
            // Without a distance, a range ends with the rows that are equal to its own: with a group of these.
            let WindowFrame { start_bound, end_bound, .. } = params.window_frame.clone();
            params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Groups, start_bound, end_bound);
            changed = true;
        }
        Ok(Transformed::new_transformed(expr, changed))
    }
}

/// Our type of what is compared by its sort key; none of what Arrow compares as SQL does.
fn keyed(data_type: &DataType) -> Option<relation::DataType> {
    let nested = matches!(data_type, DataType::Interval(_) | DataType::Duration(_) | DataType::List(_));
    nested.then(|| relation::DataType::from_arrow(data_type).ok()).flatten()
}

fn keyed_expr(expr: &Expr, schema: &DFSchema) -> Option<relation::DataType> {
    keyed(&expr.get_type(schema).ok()?)
}

/// The sort key of a value that needs one; any other as it is.
pub(crate) fn sort_key(expr: Expr, schema: &DFSchema) -> Expr {
    match keyed_expr(&expr, schema) {
        Some(_) => Work::Sorted.of(expr),
        None => expr,
    }
}

/// Bytes that order all forms of a value of a type that Arrow cannot order; none of one that it can.
pub(crate) fn whole_key(expr: Expr, data_type: &DataType) -> Option<Expr> {
    keyed(data_type).map(|_| Work::Whole.of(expr))
}

/// Bytes that hold a value of any type that a column can have, and order its forms.
pub(crate) fn form_key(expr: Expr) -> Expr {
    Work::Whole.of(expr)
}

/// Bytes that order values of any type that a column can have.
pub(crate) fn key_of_order(expr: Expr) -> Expr {
    Work::Sorted.of(expr)
}

/// Whether an expression is a call that fails for no value.
pub(crate) fn never_fails(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.inner().downcast_ref::<OfKeys>().is_some())
}

fn node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let compared = comparisons(plan)?;
    let changed = match &compared.data {
        LogicalPlan::Aggregate(aggregate) => of_groups(aggregate)?,
        LogicalPlan::Distinct(Distinct::All(input)) => of_distinct(input)?,
        LogicalPlan::Distinct(Distinct::On(distinct)) => of_first(distinct)?,
        LogicalPlan::Window(window) => of_windows(window)?,
        LogicalPlan::Sort(sort) => of_order(sort),
        LogicalPlan::Join(join) => of_join(join),
        _ => None,
    };
    Ok(changed.map_or(compared, Transformed::yes))
}

/// Comparisons among the expressions of a node.
fn comparisons(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if matches!(plan, LogicalPlan::TableScan(_)) {
        return Ok(Transformed::no(plan));
    }
    let schema = merge_schema(&plan.inputs());
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(compares(part, &schema)))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !found {
        return Ok(Transformed::no(plan));
    }
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let made = expr.transform_up(|part| compared(part, &schema))?;
        Ok(made.update_data(|expr| name.restore(expr)))
    })
}

/// The first of what an expression compares, if it compares.
fn subject(expr: &Expr) -> Option<&Expr> {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    let of_two = [Eq, NotEq, Lt, LtEq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom];
    match expr {
        Expr::BinaryExpr(binary) => of_two.contains(&binary.op).then_some(binary.left.as_ref()),
        Expr::Case(case) => case.expr.as_deref(),
        Expr::Between(between) => Some(between.expr.as_ref()),
        Expr::InList(list) => Some(list.expr.as_ref()),
        Expr::InSubquery(test) => Some(test.expr.as_ref()),
        Expr::ScalarFunction(call) if matches!(call.name(), "nullif" | "greatest" | "least") => call.args.first(),
        _ => None,
    }
}

fn compares(expr: &Expr, schema: &DFSchema) -> bool {
    subject(expr).is_some_and(|subject| keyed_expr(subject, schema).is_some())
}

/// A comparison by sort keys.
fn compared(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if !compares(&expr, schema) {
        return Ok(Transformed::no(expr));
    }
    let changed = match &mut expr {
        Expr::BinaryExpr(binary) => all_keys(vec![&mut *binary.left, &mut *binary.right], schema),
        Expr::Between(between) => all_keys(vec![&mut *between.expr, &mut *between.low, &mut *between.high], schema),
        Expr::InList(list) => all_keys(std::iter::once(&mut *list.expr).chain(&mut list.list).collect(), schema),
        Expr::Case(case) => {
            let whens = case.when_then_expr.iter_mut().map(|(when, _)| &mut **when);
            all_keys(case.expr.iter_mut().map(|expr| &mut **expr).chain(whens).collect(), schema)
        }
        Expr::InSubquery(test) => of_membership(test, schema)?,
        Expr::ScalarFunction(call) => {
            return Ok(of_call(call, schema).map_or_else(|| Transformed::no(expr), Transformed::yes));
        }
        _ => false,
    };
    Ok(Transformed::new_transformed(expr, changed))
}

/// Functions that compare what they are given: `nullif`, `greatest` and `least`.
fn of_call(call: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
    let types: Vec<_> = call.args.iter().map(|arg| keyed_expr(arg, schema)).collect::<Option<_>>()?;
    let own = *types.first().filter(|own| types.iter().all(|other| other == *own))?;
    if call.name() == "nullif" {
        let [value, other] = &call.args[..] else { return None };
        // What is larger is compared part by part: written twice, it would grow with each level that it is nested in.
        if !are_small(&call.args) {
            return None;
        }
        let mut keys = [value.clone(), other.clone()];
        keys.iter_mut().for_each(|key| *key = Work::Sorted.of(std::mem::take(key)));
        let [key, of_other] = keys;
        let null = ScalarValue::try_from(own.to_arrow()).ok()?;
        return when(key.eq(of_other), lit(null)).otherwise(value.clone()).ok();
    }
    let keys = call.args.iter().map(|arg| Work::Whole.of(arg.clone())).collect();
    Some(Work::Value(own).of(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&call.func), keys))))
}

/// The sort keys of parts that are compared with each other, if they are of one type that needs them.
fn all_keys(parts: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let types: Option<Vec<_>> = parts.iter().map(|part| keyed_expr(part, schema)).collect();
    if !types.is_some_and(|types| types.windows(2).all(|pair| pair[0] == pair[1])) {
        return false;
    }
    for part in parts {
        *part = Work::Sorted.of(std::mem::take(part));
    }
    true
}

/// `x IN (SELECT …)`: a join by equality.
fn of_membership(test: &mut InSubquery, schema: &DFSchema) -> Result<bool> {
    let listed = &test.subquery.subquery;
    let [column] = &listed.schema().columns()[..] else { return Ok(false) };
    let column = Expr::Column(column.clone());
    let (Some(own), Some(other)) = (keyed_expr(&test.expr, schema), keyed_expr(&column, listed.schema())) else {
        return Ok(false);
    };
    if own != other {
        return Ok(false);
    }
    *test.expr = Work::Sorted.of(std::mem::take(test.expr.as_mut()));
    let keys = LogicalPlanBuilder::from(listed.as_ref().clone()).project([Work::Sorted.of(column)])?.build()?;
    test.subquery = Subquery { subquery: Arc::new(keys), ..test.subquery.clone() };
    Ok(true)
}

/// What stands in the place of an expression below a projection, and what gives it back there.
struct Replaced {
    below: Expr,
    above: Expr,
}

/// A column of a node, as the projection above knows it by the name that others know it by.
fn passed(qualifier: Option<&TableReference>, name: &str) -> Expr {
    Expr::Column(Column::new(qualifier.cloned(), name))
}

/// An expression in the place of a column: of its name, and of its type's where it has one of its own.
fn called(expr: Expr, qualifier: Option<&TableReference>, field: &Field) -> Expr {
    let metadata = Some(FieldMetadata::new_from_field(field)).filter(|metadata| !metadata.is_empty());
    expr.alias_qualified_with_metadata(qualifier.cloned(), field.name(), metadata)
}

/// The least value by its whole key, under a name of its own.
fn least(
    function: &str,
    call: Option<&AggregateFunction>,
    value: Expr,
    own: relation::DataType,
    name: String,
) -> Result<Replaced> {
    let Some(extreme) = functions().aggregate.get(function) else {
        return internal_err!("{function} is not registered");
    };
    let filter = call.and_then(|call| call.params.filter.clone());
    let below =
        AggregateFunction::new_udf(Arc::clone(extreme), vec![Work::Whole.of(value)], false, filter, vec![], None);
    let above = Work::Value(own).of(passed(None, &name));
    Ok(Replaced { below: Expr::AggregateFunction(below).alias(name), above })
}

fn of_groups(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let schema = aggregate.input.schema();
    let is_set = aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)));
    let mut groups = Vec::new();
    let mut results = Vec::new();
    let mut shown = Vec::new();
    let mut changed = false;
    let mut fields = aggregate.schema.iter();
    if is_set {
        // Their columns are passed on as they are, with the number of the set behind them.
        groups.clone_from(&aggregate.group_expr);
        let of_sets = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
        shown.extend(fields.by_ref().take(of_sets).map(|(qualifier, field)| passed(qualifier, field.name())));
    } else {
        for (i, (expr, (qualifier, field))) in aggregate.group_expr.iter().zip(fields.by_ref()).enumerate() {
            let Some(own) = keyed_expr(expr, schema) else {
                groups.push(expr.clone());
                shown.push(passed(qualifier, field.name()));
                continue;
            };
            changed = true;
            let (value, key) = (expr.clone().unalias(), format!("__key_{i}"));
            let above = if own.has_equal_forms() {
                groups.push(Work::Sorted.of(value.clone()).alias(key));
                let form = least("min", None, value, own, format!("__form_{i}"))?;
                results.push(form.below);
                form.above
            } else {
                groups.push(Work::Whole.of(value).alias(key.clone()));
                Work::Value(own).of(passed(None, &key))
            };
            shown.push(called(above, qualifier, field));
        }
    }
    for (i, (expr, (qualifier, field))) in aggregate.aggr_expr.iter().zip(fields).enumerate() {
        let Some(made) = of_aggregate(expr, schema, i)? else {
            results.push(expr.clone());
            shown.push(passed(qualifier, field.name()));
            continue;
        };
        changed = true;
        results.push(made.below);
        shown.push(called(made.above, qualifier, field));
    }
    if !changed {
        return Ok(None);
    }
    let grouped = Aggregate::try_new(Arc::clone(&aggregate.input), groups, results)?;
    let grouped = Arc::new(LogicalPlan::Aggregate(grouped));
    Ok(Some(LogicalPlan::Projection(Projection::try_new(shown, grouped)?)))
}

/// An aggregate over values that are compared with each other.
fn of_aggregate(expr: &Expr, schema: &DFSchema, number: usize) -> Result<Option<Replaced>> {
    let call = match expr {
        Expr::Alias(alias) => return of_aggregate(&alias.expr, schema, number),
        Expr::AggregateFunction(call) => call,
        _ => return Ok(None),
    };
    let (name, function) = (format!("__result_{number}"), call.func.name());
    if let ("min" | "max", [value]) = (function, &call.params.args[..]) {
        let Some(own) = keyed_expr(value, schema) else { return Ok(None) };
        return least(function, Some(call), value.clone(), own, name).map(Some);
    }
    let mut made = call.clone();
    if function == "count" && call.params.distinct {
        made.params.args = call.params.args.iter().map(|arg| sort_key(arg.clone(), schema)).collect();
    }
    // What is distinct is ordered by what it is.
    if !call.params.distinct {
        made.params.order_by = ordered(&call.params.order_by, schema);
    }
    if made == *call {
        return Ok(None);
    }
    Ok(Some(Replaced { below: Expr::AggregateFunction(made).alias(name.clone()), above: passed(None, &name) }))
}

/// DISTINCT: groups of all columns.
fn of_distinct(input: &Arc<LogicalPlan>) -> Result<Option<LogicalPlan>> {
    if !input.schema().fields().iter().any(|field| keyed(field.data_type()).is_some()) {
        return Ok(None);
    }
    let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
    of_groups(&Aggregate::try_new(Arc::clone(input), columns, vec![])?)
}

fn of_first(distinct: &DistinctOn) -> Result<Option<LogicalPlan>> {
    let schema = distinct.input.schema();
    let on: Vec<_> = distinct.on_expr.iter().map(|expr| sort_key(expr.clone(), schema)).collect();
    let order = distinct.sort_expr.as_ref().map(|order| ordered(order, schema));
    if on == distinct.on_expr && order == distinct.sort_expr {
        return Ok(None);
    }
    let first = DistinctOn { on_expr: on, sort_expr: order, ..distinct.clone() };
    Ok(Some(LogicalPlan::Distinct(Distinct::On(first))))
}

fn of_windows(window: &Window) -> Result<Option<LogicalPlan>> {
    let input = window.input.schema();
    let mut exprs = Vec::new();
    let mut shown: Vec<_> = input.iter().map(|(qualifier, field)| passed(qualifier, field.name())).collect();
    let mut changed = false;
    let fields = window.schema.iter().skip(input.fields().len());
    for (i, (expr, (qualifier, field))) in window.window_expr.iter().zip(fields).enumerate() {
        match of_window(expr, input, i) {
            Some(made) => {
                changed = true;
                exprs.push(made.below);
                shown.push(called(made.above, qualifier, field));
            }
            None => {
                exprs.push(expr.clone());
                shown.push(passed(qualifier, field.name()));
            }
        }
    }
    if !changed {
        return Ok(None);
    }
    let made = Arc::new(LogicalPlan::Window(Window::try_new(exprs, Arc::clone(&window.input))?));
    // A filter above a number is looked for right above its window.
    let is_renamed =
        made.schema().fields().iter().zip(window.schema.fields()).any(|(made, old)| made.name() != old.name());
    if !is_renamed {
        return Ok(Some(Arc::unwrap_or_clone(made)));
    }
    Ok(Some(LogicalPlan::Projection(Projection::try_new(shown, made)?)))
}

fn of_window(expr: &Expr, schema: &DFSchema, number: usize) -> Option<Replaced> {
    let function = match expr {
        Expr::Alias(alias) => return of_window(&alias.expr, schema, number),
        Expr::WindowFunction(function) => function,
        _ => return None,
    };
    let mut made: WindowFunction = function.as_ref().clone();
    let params = &mut made.params;
    params.partition_by = params.partition_by.iter().map(|e| sort_key(e.clone(), schema)).collect();
    if !is_by_distance(function) {
        params.order_by = ordered(&params.order_by, schema);
    }
    let extreme =
        matches!(&function.fun, WindowFunctionDefinition::AggregateUDF(f) if matches!(f.name(), "min" | "max"));
    if let (true, [value]) = (extreme, &mut params.args[..])
        && let Some(own) = keyed_expr(value, schema)
    {
        *value = Work::Whole.of(std::mem::take(value));
        let name = format!("__result_{number}");
        let above = Work::Value(own).of(passed(None, &name));
        return Some(Replaced { below: Expr::from(made).alias(name), above });
    }
    if made == **function {
        return None;
    }
    let name = expr.schema_name().to_string();
    Some(Replaced { below: Expr::from(made).alias(&name), above: passed(None, &name) })
}

/// Whether a frame reaches so far from the value of its row: there the value itself is reckoned with.
fn is_by_distance(function: &WindowFunction) -> bool {
    let frame = &function.params.window_frame;
    let is_distance = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(distance) | WindowFrameBound::Following(distance) => !distance.is_null(),
        WindowFrameBound::CurrentRow => false,
    };
    frame.units == WindowFrameUnits::Range && (is_distance(&frame.start_bound) || is_distance(&frame.end_bound))
}

fn ordered(order: &[SortExpr], schema: &DFSchema) -> Vec<SortExpr> {
    order.iter().map(|sort| SortExpr { expr: sort_key(sort.expr.clone(), schema), ..sort.clone() }).collect()
}

fn of_order(sort: &Sort) -> Option<LogicalPlan> {
    let expr = ordered(&sort.expr, sort.input.schema());
    (expr != sort.expr).then(|| LogicalPlan::Sort(Sort { expr, ..sort.clone() }))
}

/// Keys of a join by USING, of INTERSECT and EXCEPT; those of ON are comparisons.
fn of_join(join: &Join) -> Option<LogicalPlan> {
    let key = |(left, right): &(Expr, Expr)| {
        let types = (keyed_expr(left, join.left.schema()), keyed_expr(right, join.right.schema()));
        match types {
            (Some(l), Some(r)) if l == r => (Work::Sorted.of(left.clone()), Work::Sorted.of(right.clone())),
            _ => (left.clone(), right.clone()),
        }
    };
    let on: Vec<_> = join.on.iter().map(key).collect();
    (on != join.on).then(|| LogicalPlan::Join(Join { on, ..join.clone() }))
}

/// What is made of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    /// Its sort key.
    Sorted,
    /// Its whole key.
    Whole,
    /// The value of this type that a whole key holds.
    Value(relation::DataType),
}

impl Work {
    fn of(self, expr: Expr) -> Expr {
        let name = match self {
            Self::Sorted => "sort_key".to_owned(),
            Self::Whole => "whole_key".to_owned(),
            // A name must say all that a function does.
            Self::Value(own) => format!("of_whole_key as {own}"),
        };
        let signature = Signature::any(1, Volatility::Immutable);
        let function = ScalarUDF::new_from_impl(OfKeys { name, work: self, signature });
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![expr]))
    }
}

/// A value's key, or a key's value.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfKeys {
    name: String,
    work: Work,
    signature: Signature,
}

impl ScalarUDFImpl for OfKeys {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.work {
            Work::Sorted | Work::Whole => DataType::Binary,
            Work::Value(own) => own.to_arrow(),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        let data_type = self.return_type(&[])?;
        Ok(Arc::new(Field::new(&self.name, data_type, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let work = self.work;
        let made = move |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            let [array] = arrays else { return exec_err!("a key is of one value") };
            made_of(work, array)
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

fn made_of(work: Work, array: &ArrayRef) -> Result<ArrayRef> {
    let outside = |error: relation::Error| DataFusionError::Execution(error.to_string());
    if let Work::Value(own) = work {
        let Some(keys) = array.as_binary_opt::<i32>() else { return internal_err!("{} is no key", array.data_type()) };
        return key::of_whole_keys(keys, own).map_err(outside);
    }
    let own = relation::DataType::from_arrow(array.data_type()).map_err(outside)?;
    let values = match own.to_arrow() {
        wanted if wanted == *array.data_type() => ArrayRef::clone(array),
        wanted => arrow::compute::cast(array, &wanted)?,
    };
    let keys = if work == Work::Sorted { key::sort_keys(&values, own) } else { key::whole_keys(&values, own) };
    Ok(Arc::new(keys.map_err(outside)?))
}
