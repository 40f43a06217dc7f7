//! A subquery as a value has one row at most.
//!
//! DataFusion joins a correlated subquery to the outer row, and in models every one: of a subquery with two rows the outer row came
//! twice, where PostgreSQL says that there is more than one (21000). Correlated ones it takes only where they are aggregates. So what
//! is not known to have one row is made an aggregate here, which tells one row from several, and the value is taken out of it above
//! the join. There it fails for the outer row: in a model this row stands among the rejects until the second row of the subquery goes.
//!
//! ```text
//! (select c.name from customers c where c.city = o.city)
//! the_row((select one_or_several(count(1), min(whole_key(c.name))) from customers c where c.city = o.city))
//!
//! (select i.price from items i where i.order_id = o.id order by i.line desc limit 1)
//! the_row((select min(in_order(i.line, i.price)) from items i where i.order_id = o.id))
//! ```
//!
//! One row is what a total has, what LIMIT 1 leaves, and what is found by a key of which every column is given by an equality.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion_common::tree_node::{Transformed, TreeNode as _};
use datafusion_common::{Column, DFSchema, DataFusionError, Dependency, Result, exec_err, internal_err};
use datafusion_expr::expr::{AggregateFunction, ScalarFunction, Sort as SortExpr};
use datafusion_expr::logical_plan::{Distinct, FetchType, Limit, SkipType, Subquery};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, JoinType, LogicalPlan, LogicalPlanBuilder, Operator,
    ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion_functions::utils::make_scalar_function;
use relation::key;

use crate::alike::form_key;
use crate::dependencies::corrected;
use crate::functions::functions;
use crate::outer_rows::{Total, holds_limit, holds_total, limited, over_total};
use crate::postgres::types::in_sql;

/// How PostgreSQL says it.
pub const SEVERAL_ROWS: &str = "more than one row returned by a subquery used as an expression";

/// What columns are called of which nobody else may have the name.
const ROWS: &str = "\u{1}rows";
const VALUE: &str = "\u{1}value";
const ROW: &str = "\u{1}row";

/// A subquery as a value, with one row.
pub(crate) fn value(of: Subquery) -> Result<Transformed<Expr>> {
    let plan = of.subquery.as_ref();
    let is_correlated = !of.outer_ref_columns.is_empty();
    let has_one_row = has_one_row_at_most(plan)?;
    if has_one_row && !is_correlated {
        return Ok(Transformed::no(Expr::ScalarSubquery(of)));
    }
    if is_correlated {
        if let Some(total) = Total::of(plan)? {
            if total.is_limited() {
                return limited();
            }
            return Ok(match total.value()? {
                Some(row) => Transformed::yes(Expr::ScalarSubquery(Subquery { subquery: Arc::new(row), ..of })),
                None => Transformed::no(Expr::ScalarSubquery(of)),
            });
        }
        if holds_total(plan) {
            return over_total();
        }
        if has_one_row && is_aggregate(plan) {
            return Ok(Transformed::no(Expr::ScalarSubquery(of)));
        }
    }
    let [field] = &plan.schema().fields()[..] else { return Ok(Transformed::no(Expr::ScalarSubquery(of))) };
    let Ok(own) = relation::DataType::from_arrow(field.data_type()) else {
        return Ok(Transformed::no(Expr::ScalarSubquery(of)));
    };
    let selected =
        plan.head_output_expr()?.map_or_else(|| field.name().clone(), |expr| expr.human_display().to_string());
    let first = first(plan)?;
    if is_correlated && holds_limit(first.as_ref().map_or(plan, |first| &first.input)) {
        return limited();
    }
    let (row, is_packed) = match first {
        Some(First { input, order, value }) if is_correlated => match order.is_empty() {
            true => (least(input, form_key(value), None)?, true),
            false => match in_order(&order, value, input.schema()) {
                Some(row) => (least(input, row, None)?, true),
                None => return Ok(Transformed::no(Expr::ScalarSubquery(of))),
            },
        },
        _ => {
            let column = Expr::Column(Column::from(plan.schema().qualified_field(0)));
            match (has_one_row, is_plain(field)) {
                (true, true) => (least(plan.clone(), column, None)?, false),
                (true, false) => (least(plan.clone(), form_key(column), None)?, true),
                (false, _) => (least(plan.clone(), form_key(column), Some(count()?))?, true),
            }
        }
    };
    let field = Arc::clone(field);
    let row = Expr::ScalarSubquery(Subquery { subquery: Arc::new(row), ..of });
    Ok(Transformed::yes(if is_packed { TheRow::of(row, own, &field, selected) } else { row }))
}

/// The least of what rows give, with a word of how many there are.
fn least(input: LogicalPlan, value: Expr, rows: Option<Expr>) -> Result<LogicalPlan> {
    let value = aggregate("min", value)?.alias(VALUE);
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let plan = LogicalPlanBuilder::from(input);
    match rows {
        Some(rows) => {
            let made = OneOrSeveral::of(column(ROWS), column(VALUE)).alias(ROW);
            plan.aggregate(Vec::<Expr>::new(), vec![rows.alias(ROWS), value])?.project([made])?.build()
        }
        None => plan.aggregate(Vec::<Expr>::new(), vec![value])?.project([column(VALUE).alias(ROW)])?.build(),
    }
}

fn count() -> Result<Expr> {
    aggregate("count", lit(1_i64))
}

fn aggregate(name: &str, argument: Expr) -> Result<Expr> {
    let Some(function) = functions().aggregate.get(name) else { return internal_err!("{name} is not registered") };
    let function = Arc::clone(function);
    Ok(Expr::AggregateFunction(AggregateFunction::new_udf(function, vec![argument], false, None, vec![], None)))
}

/// Whether the least of one value is this value, with its type.
fn is_plain(field: &Field) -> bool {
    let kind = field.data_type();
    let is_ordered = kind.is_integer() || kind.is_decimal() || matches!(kind, DataType::Utf8 | DataType::Date32);
    field.metadata().is_empty() && (is_ordered || matches!(kind, DataType::Timestamp(..)))
}

/// Whether DataFusion finds an aggregate in a subquery, as it wants of those that are correlated.
fn is_aggregate(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_aggregate(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_aggregate(&alias.input),
        LogicalPlan::Filter(filter) => {
            matches!(filter.input.as_ref(), LogicalPlan::Aggregate(_)) && is_aggregate(&filter.input)
        }
        LogicalPlan::Aggregate(aggregate) => !aggregate.aggr_expr.is_empty(),
        _ => false,
    }
}

/// The first row of a query in an order, or any.
struct First {
    input: LogicalPlan,
    order: Vec<SortExpr>,
    value: Expr,
}

/// The query that LIMIT 1 cuts.
fn first(plan: &LogicalPlan) -> Result<Option<First>> {
    let LogicalPlan::Limit(limit) = plan else { return Ok(None) };
    if !is_cut(limit, 1)? || !matches!(limit.get_skip_type()?, SkipType::Literal(0)) {
        return Ok(None);
    }
    let column = |plan: &LogicalPlan| Expr::Column(Column::from(plan.schema().qualified_field(0)));
    let sorted = |sort: &datafusion_expr::logical_plan::Sort, value: Expr| First {
        input: sort.input.as_ref().clone(),
        order: sort.expr.clone(),
        value,
    };
    Ok(Some(match limit.input.as_ref() {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => sorted(sort, column(&limit.input)),
        LogicalPlan::Projection(projection) => match (projection.input.as_ref(), &projection.expr[..]) {
            (LogicalPlan::Sort(sort), [value]) if sort.fetch.is_none() => sorted(sort, value.clone().unalias()),
            _ => First { input: limit.input.as_ref().clone(), order: Vec::new(), value: column(&limit.input) },
        },
        _ => First { input: limit.input.as_ref().clone(), order: Vec::new(), value: column(&limit.input) },
    }))
}

/// Whether a limit leaves so many rows.
fn is_cut(limit: &Limit, rows: usize) -> Result<bool> {
    Ok(matches!(limit.get_fetch_type()?, FetchType::Literal(Some(fetch)) if fetch == rows))
}

/// Whether a query has one row at most, whatever its tables hold and wherever it stands.
fn has_one_row_at_most(plan: &LogicalPlan) -> Result<bool> {
    let of_input = match plan {
        LogicalPlan::Projection(projection) => has_one_row_at_most(&projection.input)?,
        LogicalPlan::SubqueryAlias(alias) => has_one_row_at_most(&alias.input)?,
        LogicalPlan::Subquery(subquery) => has_one_row_at_most(&subquery.subquery)?,
        LogicalPlan::Filter(filter) => has_one_row_at_most(&filter.input)?,
        LogicalPlan::Sort(sort) => has_one_row_at_most(&sort.input)?,
        LogicalPlan::Window(window) => has_one_row_at_most(&window.input)?,
        LogicalPlan::Distinct(distinct) => has_one_row_at_most(distinct.input())?,
        LogicalPlan::Limit(limit) => is_cut(limit, 0)? || is_cut(limit, 1)? || has_one_row_at_most(&limit.input)?,
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.group_expr.is_empty()
                || has_one_row_at_most(&aggregate.input)?
                || given(plan).len() == aggregate.group_expr.len()
        }
        LogicalPlan::Join(join) if matches!(join.join_type, JoinType::Inner | JoinType::Left) => {
            has_one_row_at_most(&join.left)? && has_one_row_at_most(&join.right)?
        }
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Values(values) => values.values.len() <= 1,
        _ => false,
    };
    Ok(of_input || has_its_key_given(plan)?)
}

/// Whether every column of some key of a query's rows is given.
fn has_its_key_given(plan: &LogicalPlan) -> Result<bool> {
    let given = given(plan);
    if given.is_empty() {
        return Ok(false);
    }
    if matches!(plan, LogicalPlan::Distinct(Distinct::All(_))) && given.len() == plan.schema().fields().len() {
        return Ok(true);
    }
    let corrected = corrected(plan.clone())?;
    let mut known = corrected.schema().functional_dependencies().iter();
    Ok(known.any(|of| of.mode == Dependency::Single && of.source_indices.iter().all(|column| given.contains(column))))
}

/// Columns that hold one value in all rows of a query.
fn given(plan: &LogicalPlan) -> BTreeSet<usize> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let conditions = split_conjunction(&filter.predicate);
            let equal = conditions.into_iter().filter_map(|condition| equated(condition, plan.schema()));
            equal.chain(given(&filter.input)).collect()
        }
        LogicalPlan::SubqueryAlias(alias) => given(&alias.input),
        LogicalPlan::Subquery(subquery) => given(&subquery.subquery),
        LogicalPlan::Sort(sort) => given(&sort.input),
        LogicalPlan::Limit(limit) => given(&limit.input),
        LogicalPlan::Window(window) => given(&window.input),
        LogicalPlan::Distinct(Distinct::All(input)) => given(input),
        LogicalPlan::Projection(projection) => computed(&projection.expr, &projection.input),
        LogicalPlan::Aggregate(aggregate) => computed(&aggregate.group_expr, &aggregate.input),
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            let shift = join.left.schema().fields().len();
            given(&join.left).into_iter().chain(given(&join.right).into_iter().map(|column| column + shift)).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Which of some expressions have one value in all rows of what they are computed of.
fn computed(exprs: &[Expr], input: &LogicalPlan) -> BTreeSet<usize> {
    let below = given(input);
    let is_given = |expr: &Expr| is_given(expr, input.schema(), &below);
    exprs.iter().enumerate().filter(|(_, expr)| is_given(expr)).map(|(at, _)| at).collect()
}

fn is_given(expr: &Expr, schema: &DFSchema, given: &BTreeSet<usize>) -> bool {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column).is_some_and(|at| given.contains(&at)),
        Expr::Literal(..) | Expr::OuterReferenceColumn(..) => true,
        Expr::Alias(alias) => is_given(&alias.expr, schema, given),
        Expr::Cast(cast) => is_given(&cast.expr, schema, given),
        _ => false,
    }
}

/// The column that a condition makes equal to one value.
fn equated(condition: &Expr, schema: &DFSchema) -> Option<usize> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let nothing = BTreeSet::new();
    match (is_given(left, schema, &nothing), is_given(right, schema, &nothing)) {
        (false, true) => column_of(left, schema),
        (true, false) => column_of(right, schema),
        _ => None,
    }
}

/// The column that an expression is, or is another form of that tells all its values apart.
fn column_of(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Cast(cast) => {
            let (from, to) = (cast.expr.get_type(schema).ok()?, cast.field.data_type());
            let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
            let is_whole = from.is_integer() && (to.is_integer() || to.is_decimal());
            (is_whole || is_text(&from) && is_text(to)).then(|| column_of(&cast.expr, schema))?
        }
        _ => None,
    }
}

fn called(function: impl ScalarUDFImpl + 'static, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(function)), args))
}

/// The key of a single row's value as it is; no bytes at all if there are several rows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OneOrSeveral {
    signature: Signature,
}

impl OneOrSeveral {
    fn of(rows: Expr, value: Expr) -> Expr {
        called(Self { signature: Signature::any(2, Volatility::Immutable) }, vec![rows, value])
    }
}

impl ScalarUDFImpl for OneOrSeveral {
    fn name(&self) -> &str {
        "one_or_several"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        make_scalar_function(one_or_several, vec![])(&args.args)
    }
}

fn one_or_several(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let [rows, values] = arrays else { return exec_err!("rows are told by their number and a value") };
    let (Some(rows), Some(values)) = (rows.as_primitive_opt::<Int64Type>(), values.as_binary_opt::<i32>()) else {
        return internal_err!("{} and {} are no rows", rows.data_type(), values.data_type());
    };
    let told = rows
        .iter()
        .zip(values)
        .map(|(rows, value)| if rows.is_some_and(|rows| rows > 1) { Some(&[][..]) } else { value });
    Ok(Arc::new(told.collect::<BinaryArray>()))
}

/// What order rows have, and the value of each, in bytes that compare so.
///
/// ```text
/// per key of the order: 1 and its sort key, all inverted where it descends; or how NULL is told; then
/// the key of the value's form, its length (u32, big endian); or the length u32::MAX, of NULL
/// ```
#[derive(Debug, PartialEq, Eq, Hash)]
struct InOrder {
    name: String,
    order: Vec<Direction>,
    signature: Signature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Direction {
    descends: bool,
    nulls_first: bool,
}

/// A row in its order; none where the order is by what has none here.
fn in_order(order: &[SortExpr], value: Expr, schema: &DFSchema) -> Option<Expr> {
    let has_keys = |expr: &Expr| {
        let kind = expr.get_type(schema).ok();
        kind.is_some_and(|kind| relation::DataType::from_arrow(&kind).is_ok())
    };
    if !order.iter().all(|by| has_keys(&by.expr)) {
        return None;
    }
    let directions = order.iter().map(|by| Direction { descends: !by.asc, nulls_first: by.nulls_first });
    let directions: Vec<Direction> = directions.collect();
    let word = |by: &Direction| match (by.descends, by.nulls_first) {
        (false, false) => "asc",
        (false, true) => "asc nulls first",
        (true, true) => "desc",
        (true, false) => "desc nulls last",
    };
    // A name must say all that a function does.
    let name = format!("in_order {}", directions.iter().map(word).collect::<Vec<_>>().join(", "));
    let signature = Signature::any(directions.len() + 1, Volatility::Immutable);
    let keys = order.iter().map(|by| crate::alike::key_of_order(by.expr.clone()));
    let args = keys.chain([form_key(value)]).collect();
    Some(called(InOrder { name, order: directions, signature }, args))
}

impl ScalarUDFImpl for InOrder {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(&self.name, DataType::Binary, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let order = self.order.clone();
        make_scalar_function(move |arrays: &[ArrayRef]| in_bytes(&order, arrays), vec![])(&args.args)
    }
}

fn in_bytes(order: &[Direction], arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let Some(columns) = arrays.iter().map(|array| array.as_binary_opt::<i32>()).collect::<Option<Vec<_>>>() else {
        return internal_err!("rows are put in order by keys");
    };
    let Some((value, keys)) = columns.split_last() else { return internal_err!("a row has a value") };
    let mut out = BinaryBuilder::with_capacity(value.len(), value.len() * 32);
    let mut bytes = Vec::new();
    for row in 0..value.len() {
        bytes.clear();
        for (by, key) in order.iter().zip(keys) {
            match (key.is_null(row), by.nulls_first) {
                (true, true) => bytes.push(0),
                (true, false) => bytes.push(2),
                (false, _) => {
                    bytes.push(1);
                    let inverted = if by.descends { u8::MAX } else { 0 };
                    bytes.extend(key.value(row).iter().map(|byte| byte ^ inverted));
                }
            }
        }
        let length = match value.is_null(row) {
            true => u32::MAX,
            false => {
                bytes.extend_from_slice(value.value(row));
                u32::try_from(value.value(row).len()).map_err(|_| too_large())?
            }
        };
        bytes.extend_from_slice(&length.to_be_bytes());
        out.append_value(&bytes);
    }
    Ok(Arc::new(out.finish()))
}

fn too_large() -> DataFusionError {
    DataFusionError::Execution("out of memory: a value of a subquery has more than 4 GiB".to_owned())
}

/// The value of a subquery's row. Of several rows there is none.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TheRow {
    name: String,
    /// What the subquery selects.
    selected: String,
    own: relation::DataType,
    field: FieldRef,
    is_in_order: bool,
    signature: Signature,
}

impl TheRow {
    fn of(row: Expr, own: relation::DataType, field: &Field, selected: String) -> Expr {
        let is_in_order = is_in_order(&row);
        // A name must say all that a function does.
        let name = if is_in_order { format!("the_first as {own}") } else { format!("the_row as {own}") };
        let field = Arc::new(field.clone().with_nullable(true).with_name(&name));
        let signature = Signature::any(1, Volatility::Immutable);
        called(Self { name, selected, own, field, is_in_order, signature }, vec![row])
    }
}

/// Whether a subquery gives rows in their order.
fn is_in_order(row: &Expr) -> bool {
    let Expr::ScalarSubquery(of) = row else { return false };
    let LogicalPlan::Projection(projection) = of.subquery.as_ref() else { return false };
    let LogicalPlan::Aggregate(aggregate) = projection.input.as_ref() else { return false };
    let is_order = |part: &Expr| match part {
        Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<InOrder>().is_some(),
        _ => false,
    };
    aggregate.aggr_expr.iter().any(|expr| expr.exists(|part| Ok(is_order(part))).unwrap_or(false))
}

impl ScalarUDFImpl for TheRow {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (selected, own, in_order) = (self.selected.clone(), self.own, self.is_in_order);
        let wanted = self.field.data_type().clone();
        let made = move |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            let [rows] = arrays else { return exec_err!("a subquery as a value has one column") };
            let Some(rows) = rows.as_binary_opt::<i32>() else {
                return internal_err!("{} is no row", rows.data_type());
            };
            let keys: BinaryArray = match in_order {
                true => rows
                    .iter()
                    .map(|row| row.map(value_in_order).transpose().map(Option::flatten))
                    .collect::<Result<_>>()?,
                false if rows.iter().flatten().any(<[u8]>::is_empty) => {
                    return exec_err!("{SEVERAL_ROWS}: (select {} …)", in_sql(&selected));
                }
                false => rows.clone(),
            };
            let values =
                key::of_whole_keys(&keys, own).map_err(|error| DataFusionError::Execution(error.to_string()))?;
            if *values.data_type() == wanted { Ok(values) } else { Ok(arrow::compute::cast(&values, &wanted)?) }
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

/// The key of the value behind the order of a row.
fn value_in_order(row: &[u8]) -> Result<Option<&[u8]>> {
    let Some((rest, length)) = row.split_last_chunk::<4>() else { return internal_err!("a row has a length") };
    let length = u32::from_be_bytes(*length);
    if length == u32::MAX {
        return Ok(None);
    }
    match rest.len().checked_sub(length as usize).and_then(|at| rest.get(at..)) {
        Some(value) => Ok(Some(value)),
        None => internal_err!("a row holds its value"),
    }
}
