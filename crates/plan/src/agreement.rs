//! Values that must be of one type, as PostgreSQL makes them agree.
//!
//! What CASE, `coalesce`, `greatest`, an array, a UNION give, and what is compared, is of types of one family: numbers with numbers,
//! dates with timestamps. A text that stands in the statement, and NULL, take the type of the others. DataFusion makes a text of
//! whatever does not agree: `select 1 union select date '2020-01-01'` had an answer, and `id = name` compared digits.
//! So before types are agreed on, literals are cast to what they stand beside, and families that do not meet are refused, in
//! PostgreSQL's words.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, JoinConstraint, JoinType, NullEquality, Result, ScalarValue, plan_err};
use datafusion_expr::expr::Cast;
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::logical_plan::{Distinct, Join, Projection, Union};
use datafusion_expr::type_coercion::binary::type_union_resolution;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, Operator, cast, lit};

use crate::named_documents::named;
use crate::postgres::castable::{castable, is_plain_text};
use crate::postgres::forms::is_read_as;
use crate::postgres::operators::{call, of_its_digits};
use crate::postgres::quantified::{NO_ARRAY, element_of, sign_of};
use crate::postgres::types;

/// The plan with its literals as what they are beside, before types are agreed on. Errors: values that do not agree.
pub fn agreed(plan: LogicalPlan) -> Result<LogicalPlan> {
    let parts = plan.transform_up_with_subqueries(set_operation)?;
    let plan = match parts.transformed {
        // What is above has been planned over the texts that were there.
        true => parts.data.transform_up_with_subqueries(|node| node.recompute_schema().map(Transformed::yes))?.data,
        false => parts.data,
    };
    Ok(plan.transform_up_with_subqueries(node)?.data)
}

fn set_operation(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Union(union) => of_union(union),
        LogicalPlan::Join(join) if is_set_operation(&join) => of_parts_of_join(join),
        other => Ok(Transformed::no(other)),
    }
}

fn node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if matches!(plan, LogicalPlan::TableScan(_)) {
        return Ok(Transformed::no(plan));
    }
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let made = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let made = expr.transform_up(|part| of_expression(part, &schema))?;
        Ok(if made.transformed { made.update_data(|expr| name.restore(expr)) } else { made })
    })?;
    made.transform_data(|plan| match plan {
        LogicalPlan::Join(join) if !is_set_operation(&join) => of_join(join, &schema),
        LogicalPlan::Filter(mut filter) => {
            let condition = condition(std::mem::take(&mut filter.predicate), "WHERE", &schema)?;
            filter.predicate = condition.data;
            Ok(Transformed::new_transformed(LogicalPlan::Filter(filter), condition.transformed))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// Types that are cast into one another without being told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Flag,
    Number,
    /// Documents too: what is one and what is a text is told by columns alone.
    Text,
    /// Dates and timestamps.
    Moment,
    /// Times of a day, and lengths of time.
    Span,
    Bytes,
    Array,
}

impl Family {
    /// None: a type that agrees with nothing, or with anything.
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Flag,
            number if number.is_numeric() => Self::Number,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Self::Moment,
            DataType::Time32(_) | DataType::Time64(_) | DataType::Interval(_) | DataType::Duration(_) => Self::Span,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytes
            }
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Self::Array,
            _ => return None,
        })
    }
}

/// A literal whose type is that of what it stands beside.
fn is_open(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Utf8(_), _) => true,
        Expr::Literal(value, _) => value.is_null(),
        Expr::Alias(alias) => is_open(&alias.expr),
        Expr::Placeholder(_) => true,
        _ => false,
    }
}

/// A text that stands in the statement.
fn is_text_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(_)), _) => true,
        Expr::Alias(alias) => is_text_literal(&alias.expr),
        _ => false,
    }
}

/// The type of a value that has one of its own.
fn own_type(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    if is_open(expr) {
        return None;
    }
    expr.get_type(schema).ok().filter(|own| !own.is_null())
}

/// A literal as a value of a type. Errors: it is none of that, whether its row is ever asked for or not.
fn as_type(literal: &mut Expr, wanted: &DataType) -> Result<bool> {
    if !is_text_literal(literal) || Family::of(wanted) == Some(Family::Text) {
        return Ok(false);
    }
    if let Some(moment) = named_moment(literal, wanted) {
        *literal = moment;
        return Ok(true);
    }
    if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = literal {
        is_read_as(text, wanted)?;
    }
    let wanted = match wanted {
        // It has its own digits.
        decimal if decimal.is_decimal() => of_its_digits(literal).unwrap_or_else(|| decimal.clone()),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        other => other.clone(),
    };
    *literal = cast(std::mem::take(literal), wanted);
    Ok(true)
}

/// A day or a moment that a text names by when it is read.
fn named_moment(literal: &Expr, wanted: &DataType) -> Option<Expr> {
    let Expr::Literal(ScalarValue::Utf8(Some(word)), _) = literal else { return None };
    if Family::of(wanted) != Some(Family::Moment) {
        return None;
    }
    let days = match word.trim().to_ascii_lowercase().as_str() {
        "now" => None,
        "yesterday" => Some(-1),
        "today" => Some(0),
        "tomorrow" => Some(1),
        _ => return None,
    };
    let time = match days {
        None => call("now", [])?,
        Some(days) => call("time_plus", [call("current_date", [])?, lit(days)])?,
    };
    Some(cast(time, wanted.clone()))
}

/// The type that values of a family become, as far as a literal among them is concerned.
fn common(types: &[DataType]) -> Option<&DataType> {
    let rank = |own: &&DataType| match own {
        DataType::Float64 => 9,
        DataType::Float16 | DataType::Float32 => 8,
        decimal if decimal.is_decimal() => 7,
        DataType::UInt64 => 6,
        DataType::Int64 | DataType::UInt32 => 5,
        DataType::Timestamp(_, Some(_)) => 4,
        DataType::Timestamp(_, None) | DataType::Int32 => 3,
        DataType::Interval(_) => 2,
        _ => 1,
    };
    // Of equal ones the first.
    types.iter().rev().max_by_key(rank)
}

/// Makes the values that one is chosen of agree. Errors: they are of two families.
fn of_choices(what: &str, values: Vec<&mut Expr>, schema: &DFSchema) -> Result<bool> {
    let types: Vec<DataType> = values.iter().filter_map(|value| own_type(value, schema)).collect();
    same_family(what, types.iter())?;
    let mut texts = values.iter().filter(|value| own_type(value, schema).is_some()).map(|value| is_uuid(value, schema));
    if let Some(first) = texts.next()
        && texts.any(|other| other != first)
    {
        let (first, other) = if first { (types::UUID, "text") } else { ("text", types::UUID) };
        return plan_err!("{what} types {first} and {other} cannot be matched");
    }
    let Some(wanted) = common(&types) else { return Ok(false) };
    let float = float_of(&types);
    let instant = instant_of(&types);
    let mut changed = false;
    for value in values {
        changed |= as_type(value, wanted)?;
        if let Some(instant) = &instant
            && own_type(value, schema).is_some_and(|own| is_local(&own))
        {
            *value = cast(std::mem::take(value), instant.clone());
            changed = true;
        }
        if let Some(float) = &float
            && own_type(value, schema).is_some_and(|own| own != *float)
        {
            *value = cast(std::mem::take(value), float.clone());
            changed = true;
        }
    }
    Ok(changed)
}

/// The type of floats, where numbers of other types meet some: DataFusion makes decimals of them, which have less room, or floats
/// that have more.
fn float_of(types: &[DataType]) -> Option<DataType> {
    let float = types.iter().filter(|own| own.is_floating()).max_by_key(|own| **own == DataType::Float64)?;
    types.iter().any(|own| own != float).then(|| float.clone())
}

/// The type of instants, where dates and timestamps without a zone meet some: the planner takes the zone away from these.
fn instant_of(types: &[DataType]) -> Option<DataType> {
    let zone = types.iter().find_map(|own| match own {
        DataType::Timestamp(_, Some(zone)) => Some(Arc::clone(zone)),
        _ => None,
    })?;
    types.iter().any(is_local).then_some(DataType::Timestamp(TimeUnit::Microsecond, Some(zone)))
}

/// Whether a type is of days and times without a zone.
fn is_local(own: &DataType) -> bool {
    matches!(own, DataType::Date32 | DataType::Timestamp(_, None))
}

fn same_family<'t>(what: &str, types: impl Iterator<Item = &'t DataType>) -> Result<()> {
    let mut first: Option<(&DataType, Family)> = None;
    for own in types {
        let Some(family) = Family::of(own) else { continue };
        match first {
            Some((before, known)) if known != family => {
                return plan_err!("{what} types {} and {} cannot be matched", types::name(before), types::name(own));
            }
            Some(_) => {}
            None => first = Some((own, family)),
        }
    }
    Ok(())
}

/// Makes two values that are compared agree. Errors: there is no such operator.
fn of_compared(operator: &str, left: &mut Expr, right: &mut Expr, schema: &DFSchema) -> Result<bool> {
    let (of_left, of_right) = (own_type(left, schema), own_type(right, schema));
    match (is_uuid(left, schema), is_uuid(right, schema)) {
        (true, false) if as_uuid(right) => return Ok(true),
        (false, true) if as_uuid(left) => return Ok(true),
        (true, false) => one_uuid(operator, true, of_right.as_ref())?,
        (false, true) => one_uuid(operator, false, of_left.as_ref())?,
        _ => {}
    }
    match (of_left, of_right) {
        (Some(own), None) => as_type(right, &own),
        (None, Some(own)) => as_type(left, &own),
        (Some(of_left), Some(of_right)) => {
            comparable(operator, &of_left, &of_right)?;
            Ok(without_zone(left, &of_left, &of_right) || without_zone(right, &of_right, &of_left))
        }
        (None, None) => Ok(false),
    }
}

/// An instant of the statement as a timestamp without a zone, where it is compared with such: cast to an instant these would have no
/// infinity, and could not be looked for in a table.
fn without_zone(value: &mut Expr, own: &DataType, other: &DataType) -> bool {
    let meets = matches!((own, other), (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None)));
    if !meets || value.any_column_refs() || value.contains_outer() {
        return false;
    }
    *value = cast(std::mem::take(value), DataType::Timestamp(TimeUnit::Microsecond, None));
    true
}

fn is_uuid(expr: &Expr, schema: &DFSchema) -> bool {
    !is_plain_text(expr) && named(expr, schema) == Some(types::UUID)
}

/// Errors: a uuid stands beside a text, whose form need not be that of one.
fn one_uuid(operator: &str, is_left: bool, other: Option<&DataType>) -> Result<()> {
    match other {
        Some(other) if Family::of(other) == Some(Family::Text) => match is_left {
            true => plan_err!("operator does not exist: uuid {operator} text"),
            false => plan_err!("operator does not exist: text {operator} uuid"),
        },
        _ => Ok(()),
    }
}

/// The same of columns.
fn of_columns(operator: &str, left: &Field, right: &Field) -> Result<()> {
    let is_uuid = |field: &Field| types::own_name(field) == Some(types::UUID);
    match (is_uuid(left), is_uuid(right)) {
        (true, false) => one_uuid(operator, true, Some(right.data_type()))?,
        (false, true) => one_uuid(operator, false, Some(left.data_type()))?,
        _ => {}
    }
    comparable(operator, left.data_type(), right.data_type())
}

/// A text literal as a uuid, of which there is one form.
fn as_uuid(literal: &mut Expr) -> bool {
    let Some(uuid) = is_text_literal(literal).then(|| call("uuid", [literal.clone()])).flatten() else { return false };
    *literal = uuid;
    true
}

/// Makes a value agree with the elements that it is compared with. Errors: there is no such operator, or no array.
fn of_elements(operator: &str, value: &mut Expr, list: &mut Expr, schema: &DFSchema) -> Result<bool> {
    let own = own_type(value, schema);
    if is_text_literal(list) {
        *list = cast(std::mem::take(list), DataType::new_list(own.unwrap_or(DataType::Utf8), true));
        return Ok(true);
    }
    let Some(listed) = own_type(list, schema) else { return Ok(false) };
    let Some(element) = element_of(&listed) else { return plan_err!("{NO_ARRAY}") };
    match own {
        _ if element.is_null() => Ok(false),
        Some(own) => comparable(operator, &own, element).map(|()| false),
        None => as_type(value, element),
    }
}

fn comparable(operator: &str, left: &DataType, right: &DataType) -> Result<()> {
    match (Family::of(left), Family::of(right)) {
        (Some(of_left), Some(of_right)) if of_left != of_right => none_such(operator, left, right),
        _ => Ok(()),
    }
}

fn none_such(operator: &str, left: &DataType, right: &DataType) -> Result<()> {
    plan_err!("operator does not exist: {} {operator} {}", types::name(left), types::name(right))
}

/// A condition, which is true or not. Errors: it is of another type.
fn condition(mut expr: Expr, of: &str, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if is_condition(&expr) {
        return Ok(Transformed::no(expr));
    }
    match own_type(&expr, schema) {
        Some(DataType::Boolean) => Ok(Transformed::no(expr)),
        Some(other) if Family::of(&other).is_some() => {
            plan_err!("argument of {of} must be type boolean, not type {}", types::name(&other))
        }
        Some(_) => Ok(Transformed::no(expr)),
        None => {
            let changed = as_type(&mut expr, &DataType::Boolean)?;
            Ok(Transformed::new_transformed(expr, changed))
        }
    }
}

/// Whether an expression is a condition by its form: its parts need not be looked at.
fn is_condition(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => compares(binary.op) || matches!(binary.op, Operator::And | Operator::Or),
        Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Between(_)
        | Expr::InList(_)
        | Expr::InSubquery(_)
        | Expr::Exists(_)
        | Expr::SetComparison(_) => true,
        _ => false,
    }
}

fn compares(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// A time of day that is cast to an interval, which is how long it is after midnight.
fn length_of_time(cast: &Cast, schema: &DFSchema) -> Option<Expr> {
    if matches!(cast.field.data_type(), DataType::Time64(_)) {
        let is_length = matches!(own_type(&cast.expr, schema)?, DataType::Interval(_));
        // The reverse: the time after midnight, of whatever day.
        let midnight = lit(ScalarValue::Time64Microsecond(Some(0)));
        return is_length.then(|| call("time_plus", [midnight, cast.expr.as_ref().clone()])).flatten();
    }
    if !matches!(cast.field.data_type(), DataType::Interval(_)) {
        return None;
    }
    match own_type(&cast.expr, schema)? {
        DataType::Time64(TimeUnit::Microsecond) => {
            let midnight = lit(ScalarValue::Time64Microsecond(Some(0)));
            call("time_minus", [cast.expr.as_ref().clone(), midnight])
        }
        _ => None,
    }
}

fn of_expression(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let changed = match &mut expr {
        Expr::Cast(inner) => match named_moment(&inner.expr, inner.field.data_type()) {
            Some(moment) => return Ok(Transformed::yes(moment)),
            None => {
                castable(inner, schema)?;
                match length_of_time(inner, schema) {
                    Some(length) => return Ok(Transformed::yes(length)),
                    None => false,
                }
            }
        },
        Expr::BinaryExpr(binary) if compares(binary.op) => {
            // A comparison that tells NULL apart is one of equality.
            let operator = match binary.op {
                Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => "=".to_owned(),
                Operator::NotEq => "<>".to_owned(),
                other => other.to_string(),
            };
            of_compared(&operator, &mut binary.left, &mut binary.right, schema)?
        }
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::And | Operator::Or) => {
            let of = binary.op.to_string();
            let mut changed = false;
            for side in [&mut binary.left, &mut binary.right] {
                let made = condition(std::mem::take(side.as_mut()), &of, schema)?;
                changed |= made.transformed;
                **side = made.data;
            }
            changed
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => {
            let types = [&binary.left, &binary.right].map(|side| own_type(side, schema));
            let is_joined =
                |own: &DataType| matches!(Family::of(own), Some(Family::Text | Family::Array | Family::Bytes));
            if let [Some(left), Some(right)] = &types
                && !is_joined(left)
                && !is_joined(right)
                && Family::of(left).is_some()
            {
                none_such("||", left, right)?;
            }
            false
        }
        Expr::Like(like) => {
            let operator = if like.case_insensitive { "~~*" } else { "~~" };
            let types = [&like.expr, &like.pattern].map(|side| own_type(side, schema));
            let is_other = |own: &DataType| !matches!(Family::of(own), Some(Family::Text | Family::Bytes) | None);
            if types.iter().flatten().any(is_other) {
                let [text, pattern] = types.map(|own| own.unwrap_or(DataType::Null));
                none_such(operator, &text, &pattern)?;
            }
            false
        }
        Expr::Not(inner) => {
            let made = condition(std::mem::take(inner.as_mut()), "NOT", schema)?;
            **inner = made.data;
            made.transformed
        }
        Expr::Between(between) => {
            let low = of_compared(">=", &mut between.expr, &mut between.low, schema)?;
            of_compared("<=", &mut between.expr, &mut between.high, schema)? | low
        }
        Expr::InList(list) => {
            let mut changed = false;
            for item in &mut list.list {
                changed |= of_compared("=", &mut list.expr, item, schema)?;
            }
            changed
        }
        Expr::InSubquery(test) => {
            let listed = test.subquery.subquery.schema();
            if let (Some(own), Some(field)) = (own_type(&test.expr, schema), listed.fields().first()) {
                match is_uuid(&test.expr, schema) {
                    true => of_columns("=", &types::named(Field::new("", own, true), types::UUID), field)?,
                    false => of_columns("=", &Field::new("", own, true), field)?,
                }
            }
            false
        }
        Expr::Case(case) => {
            let mut changed = false;
            match &mut case.expr {
                Some(subject) => {
                    for (when, _) in &mut case.when_then_expr {
                        changed |= of_compared("=", subject, when, schema)?;
                    }
                }
                None => {
                    for (when, _) in &mut case.when_then_expr {
                        let made = condition(std::mem::take(when.as_mut()), "CASE/WHEN", schema)?;
                        changed |= made.transformed;
                        **when = made.data;
                    }
                }
            }
            let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            let results = results.chain(case.else_expr.as_deref_mut()).collect();
            of_choices("CASE", results, schema)? | changed
        }
        Expr::ScalarFunction(call) => match call.name() {
            "coalesce" => of_choices("COALESCE", call.args.iter_mut().collect(), schema)?,
            "greatest" => of_choices("GREATEST", call.args.iter_mut().collect(), schema)?,
            "least" => of_choices("LEAST", call.args.iter_mut().collect(), schema)?,
            "make_array" => of_choices("ARRAY", call.args.iter_mut().collect(), schema)?,
            "nullif" => match &mut call.args[..] {
                [value, other] => of_compared("=", value, other, schema)?,
                _ => false,
            },
            name => match (sign_of(name), &mut call.args[..]) {
                (Some(sign), [value, list]) => of_elements(sign, value, list, schema)?,
                _ => false,
            },
        },
        Expr::AggregateFunction(function) if function.func.name() == "string_agg" => {
            if let [value, between] = &function.params.args[..] {
                are_texts(value, between, schema)?;
            }
            false
        }
        Expr::WindowFunction(function) if matches!(function.fun.name(), "lag" | "lead") => {
            match &mut function.params.args[..] {
                [value, _, otherwise] => of_default(value, otherwise, schema)?,
                _ => false,
            }
        }
        _ => false,
    };
    Ok(Transformed::new_transformed(expr, changed))
}

/// Errors: what is put together is neither texts nor bytes.
fn are_texts(value: &Expr, between: &Expr, schema: &DFSchema) -> Result<()> {
    let owned = [own_type(value, schema), own_type(between, schema)];
    let is_other = |own: &DataType| !matches!(Family::of(own), None | Some(Family::Text | Family::Bytes));
    if !owned.iter().flatten().any(is_other) {
        return Ok(());
    }
    let names = owned.map(|own| own.map_or_else(|| "unknown".to_owned(), |own| types::name(&own)));
    plan_err!("function string_agg({}) does not exist", names.join(", "))
}

/// A value and what stands in its place where there is none: DataFusion makes the latter what the former is, and cuts it.
fn of_default(value: &mut Expr, otherwise: &mut Expr, schema: &DFSchema) -> Result<bool> {
    let changed = of_choices("lag", vec![&mut *value, &mut *otherwise], schema)?;
    let (Some(own), Some(other)) = (own_type(value, schema), own_type(otherwise, schema)) else { return Ok(changed) };
    if own.is_integer() && other.is_integer() {
        // A literal there has 64 bits, whatever it says.
        return Ok(changed);
    }
    let common =
        type_union_resolution(&[own.clone(), other.clone()]).filter(|common| *common != own || *common != other);
    let Some(common) = common else { return Ok(changed) };
    *value = cast(std::mem::take(value), common.clone());
    *otherwise = cast(std::mem::take(otherwise), common);
    Ok(true)
}

/// The columns of a UNION's parts.
fn of_union(union: Union) -> Result<Transformed<LogicalPlan>> {
    let mut inputs: Vec<LogicalPlan> = union.inputs.iter().map(|input| input.as_ref().clone()).collect();
    let changed = of_parts("UNION", &mut inputs)?;
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    let inputs = inputs.into_iter().map(Arc::new).collect();
    Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
}

/// Makes the columns of the parts of a set operation agree.
fn of_parts(what: &str, parts: &mut [LogicalPlan]) -> Result<bool> {
    let columns = parts.first().map_or(0, |first| first.schema().fields().len());
    let mut changed = false;
    for at in 0..columns {
        let mut types = Vec::new();
        parts.iter().for_each(|part| types_of_column(part, at, &mut types));
        same_family(what, types.iter())?;
        if let Some(float) = float_of(&types) {
            for part in parts.iter_mut().filter(|part| !is_open_column(part, at)) {
                let own = part.schema().field(at).data_type();
                if !own.is_null() && *own != float {
                    *part = with_cast(part, at, &float)?;
                    changed = true;
                }
            }
        }
        if let Some(instant) = instant_of(&types) {
            for part in parts.iter_mut().filter(|part| is_local(part.schema().field(at).data_type())) {
                *part = with_cast(part, at, &instant)?;
                changed = true;
            }
        }
        let Some(wanted) = common(&types).filter(|wanted| Family::of(wanted) != Some(Family::Text)) else { continue };
        for part in parts.iter_mut().filter(|part| is_open_column(part, at)) {
            *part = with_column(std::mem::take(part), at, wanted)?;
            changed = true;
        }
    }
    Ok(changed)
}

/// The query with a result as one of another type.
fn with_cast(plan: &LogicalPlan, at: usize, wanted: &DataType) -> Result<LogicalPlan> {
    let columns = plan.schema().iter().enumerate().map(|(place, (qualifier, field))| {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        match place == at {
            true => cast(column, wanted.clone()).alias_qualified(qualifier.cloned(), field.name()),
            false => column,
        }
    });
    Ok(LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::new(plan.clone()))?))
}

/// The types of a query's result, of which a UNION may have several until they are agreed on.
fn types_of_column(plan: &LogicalPlan, at: usize, types: &mut Vec<DataType>) {
    match plan {
        LogicalPlan::Union(union) => {
            let before = types.len();
            union.inputs.iter().for_each(|input| types_of_column(input, at, types));
            // Texts that have nothing beside them are texts from there on.
            let is_text = types.len() == before && union.inputs.iter().any(|input| is_open_column(input, at));
            types.extend(is_text.then_some(DataType::Utf8));
        }
        LogicalPlan::Distinct(Distinct::All(input)) => types_of_column(input, at, types),
        LogicalPlan::Sort(sort) => types_of_column(&sort.input, at, types),
        LogicalPlan::Limit(limit) => types_of_column(&limit.input, at, types),
        _ if is_open_column(plan, at) => {}
        _ => {
            let own = plan.schema().fields().get(at).map(|field| field.data_type().clone());
            types.extend(own.filter(|own| !own.is_null()));
        }
    }
}

/// Whether a query's result is a text that stands in its list.
fn is_open_column(plan: &LogicalPlan, at: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.get(at).is_some_and(is_text_literal),
        LogicalPlan::Distinct(Distinct::All(input)) => is_open_column(input, at),
        LogicalPlan::Sort(sort) => is_open_column(&sort.input, at),
        LogicalPlan::Limit(limit) => is_open_column(&limit.input, at),
        _ => false,
    }
}

/// The query with this text as a value of a type.
fn with_column(plan: LogicalPlan, at: usize, wanted: &DataType) -> Result<LogicalPlan> {
    let inner = |input: &Arc<LogicalPlan>| {
        Ok::<_, datafusion_common::DataFusionError>(Arc::new(with_column(input.as_ref().clone(), at, wanted)?))
    };
    let made = match plan {
        LogicalPlan::Projection(mut projection) => {
            if let Some(expr) = projection.expr.get_mut(at) {
                let name = expr.schema_name().to_string();
                let qualified = expr.qualified_name().0;
                let mut value = std::mem::take(expr).unalias();
                as_type(&mut value, wanted)?;
                *expr = value.alias_qualified(qualified, name);
            }
            LogicalPlan::Projection(Projection::try_new(projection.expr, projection.input)?)
        }
        LogicalPlan::Distinct(Distinct::All(input)) => LogicalPlan::Distinct(Distinct::All(inner(&input)?)),
        LogicalPlan::Sort(mut sort) => {
            sort.input = inner(&sort.input)?;
            LogicalPlan::Sort(sort)
        }
        LogicalPlan::Limit(mut limit) => {
            limit.input = inner(&limit.input)?;
            LogicalPlan::Limit(limit)
        }
        other => other,
    };
    Ok(made)
}

/// Whether a join is an INTERSECT or EXCEPT, which are joins by all columns.
fn is_set_operation(join: &Join) -> bool {
    join.null_equality == NullEquality::NullEqualsNull
        && matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
}

fn of_parts_of_join(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let what = if join.join_type == JoinType::LeftSemi { "INTERSECT" } else { "EXCEPT" };
    let mut parts = [join.left.as_ref().clone(), join.right.as_ref().clone()];
    let changed = of_parts(what, &mut parts)?;
    if changed {
        let [left, right] = parts;
        (join.left, join.right) = (Arc::new(left), Arc::new(right));
    }
    Ok(Transformed::new_transformed(LogicalPlan::Join(join), changed))
}

/// The condition of a join, and the columns of USING.
fn of_join(mut join: Join, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    for (left, right) in &join.on {
        let types = (own_type(left, join.left.schema()), own_type(right, join.right.schema()));
        match types {
            (Some(left), Some(right)) if join.join_constraint == JoinConstraint::Using => {
                same_family("JOIN/USING", [&left, &right].into_iter())?;
            }
            (Some(of_left), Some(of_right)) => {
                comparable("=", &of_left, &of_right)?;
                match (is_uuid(left, join.left.schema()), is_uuid(right, join.right.schema())) {
                    (true, false) => one_uuid("=", true, Some(&of_right))?,
                    (false, true) => one_uuid("=", false, Some(&of_left))?,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let Some(filter) = join.filter.take() else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
    let made = condition(filter, "JOIN/ON", schema)?;
    join.filter = Some(made.data);
    Ok(Transformed::new_transformed(LogicalPlan::Join(join), made.transformed))
}
