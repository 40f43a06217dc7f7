//! Operators by the types of their operands, as SQL is planned.
//!
//! `1 + 1` of two integers fails where it overflows, dates and intervals make dates and timestamps, decimals are divided to
//! PostgreSQL's digits, documents are looked into. A text literal beside a value is one of that value's type.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion_common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, GetFieldAccess, Operator, cast, lit, when};
use datafusion_sql::sqlparser::ast::BinaryOperator as Op;

use super::arithmetic::{self, Operation, QUOTIENT_SCALE, computed, constant, quotient_scale};
use super::blanks::{is_char, trimmed};
use super::forms::{digits, is_read_as, is_text};
use super::types;
use crate::functions::functions;

/// The planner of operators.
#[derive(Debug)]
pub(crate) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let raw = doubled(met(unblanked(split(raw), schema), schema)?, schema);
        let (Ok(left), Ok(right)) = (raw.left.get_type(schema), raw.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(raw));
        };
        // Nothing put before or behind an array; a NULL of a type is an element.
        match (&left, &right) {
            (DataType::List(_), DataType::Null) if raw.op == Op::StringConcat && is_null(&raw.right) => {
                return Ok(PlannerResult::Planned(raw.left));
            }
            (DataType::Null, DataType::List(_)) if raw.op == Op::StringConcat && is_null(&raw.left) => {
                return Ok(PlannerResult::Planned(raw.right));
            }
            _ => {}
        }
        // PostgreSQL has a rest of whole numbers and numerics alone.
        if raw.op == Op::Modulo && left.is_numeric() && right.is_numeric() && (is_float(&left) || is_float(&right)) {
            return plan_err!("operator does not exist: {} % {}", types::name(&left), types::name(&right));
        }
        let documents = is_document(&raw.left, schema) || is_document(&raw.right, schema);
        let planned = if is_time(&left) || is_time(&right) {
            of_times(&raw, &left, &right)
        } else if documents || matches!(raw.op, Op::Arrow | Op::LongArrow | Op::HashArrow | Op::HashLongArrow) {
            of_documents(&raw, schema)
        } else {
            of_numbers(&raw, &left, &right)
        };
        Ok(planned.map_or_else(|| PlannerResult::Original(raw), PlannerResult::Planned))
    }

    /// Before the first element of an array there is nothing: the planner would count from the end.
    fn plan_field_access(
        &self,
        raw: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { expr, field_access } = raw;
        let is_list = matches!(expr.get_type(schema), Ok(DataType::List(_)));
        let at_least = |place: Box<Expr>, least| Box::new(at_least(*place, least));
        let field_access = match field_access {
            GetFieldAccess::ListIndex { key } if is_list => GetFieldAccess::ListIndex { key: at_least(key, 0) },
            GetFieldAccess::ListRange { start, stop, stride } if is_list => {
                GetFieldAccess::ListRange { start: at_least(start, 1), stop: at_least(stop, 0), stride }
            }
            other => other,
        };
        Ok(PlannerResult::Original(RawFieldAccessExpr { expr, field_access }))
    }
}

/// A place in an array, or the least one if it is before that.
fn at_least(place: Expr, least: i64) -> Expr {
    let number = match &place {
        Expr::Literal(value, _) => value.cast_to(&DataType::Int64).ok(),
        _ => None,
    };
    match number {
        Some(ScalarValue::Int64(Some(number))) if number >= least => place,
        Some(ScalarValue::Int64(Some(_))) => lit(least),
        Some(_) => place,
        // A place that is NULL stays so.
        None => {
            let number = cast(place.clone(), DataType::Int64);
            when(number.clone().lt(lit(least)), lit(least)).otherwise(number).unwrap_or(place)
        }
    }
}

/// Whether these are arrays of one dimension.
fn are_flat(left: &DataType, right: &DataType) -> bool {
    let is_flat = |of: &DataType| matches!(of, DataType::List(item) if !matches!(item.data_type(), DataType::List(_)));
    is_flat(left) && is_flat(right)
}

/// `->>-1`, which is read as one operator.
fn split(raw: RawBinaryExpr) -> RawBinaryExpr {
    let op = match &raw.op {
        Op::Custom(sign) if sign == "->-" => Op::Arrow,
        Op::Custom(sign) if sign == "->>-" => Op::LongArrow,
        _ => return raw,
    };
    RawBinaryExpr { op, left: raw.left, right: Expr::Negative(Box::new(raw.right)) }
}

/// Blanks at the end of a char do not count where it is compared, or put before another text.
fn unblanked(raw: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    let is_char = |expr: &Expr| is_char(expr, schema);
    let keeps = comparison(&raw.op).is_none() && raw.op != Op::StringConcat;
    if keeps || !(is_char(&raw.left) || is_char(&raw.right)) {
        return raw;
    }
    let RawBinaryExpr { op, left, right } = raw;
    let (left, right) = match (is_char(&left), is_char(&right), &op) {
        // Another text keeps the blanks that it has.
        (false, true, Op::StringConcat) => (left, trimmed(right)),
        (true, false, Op::StringConcat) => (trimmed(left), right),
        _ => (trimmed(left), trimmed(right)),
    };
    RawBinaryExpr { op, left, right }
}

/// A real meets whole numbers and numerics as a double: there are no operators of both.
fn doubled(raw: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    let is_arithmetic = matches!(raw.op, Op::Plus | Op::Minus | Op::Multiply | Op::Divide);
    if !is_arithmetic && comparison(&raw.op).is_none() {
        return raw;
    }
    let (Ok(left), Ok(right)) = (raw.left.get_type(schema), raw.right.get_type(schema)) else { return raw };
    let is_exact = |own: &DataType| own.is_integer() || own.is_decimal();
    let meets = |real: &DataType, other: &DataType| *real == DataType::Float32 && is_exact(other);
    if !meets(&left, &right) && !meets(&right, &left) {
        return raw;
    }
    let RawBinaryExpr { op, left, right } = raw;
    RawBinaryExpr { op, left: cast(left, DataType::Float64), right: cast(right, DataType::Float64) }
}

/// The operands with a text literal as a value of the other one's type.
/// Errors: a text that is no value of that.
fn met(raw: RawBinaryExpr, schema: &DFSchema) -> Result<RawBinaryExpr> {
    let RawBinaryExpr { op, left, right } = raw;
    let of = |expr: &Expr| expr.get_type(schema).ok();
    let (left, right) = match (is_text_literal(&left), is_text_literal(&right)) {
        (true, false) => (meant(left, &op, of(&right), true)?, right),
        (false, true) => {
            let right = meant(right, &op, of(&left), false)?;
            (left, right)
        }
        _ => (left, right),
    };
    Ok(RawBinaryExpr { op, left, right })
}

fn is_text_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

/// What a text literal stands for beside a value of a type.
fn meant(literal: Expr, op: &Op, beside: Option<DataType>, first: bool) -> Result<Expr> {
    let Some(beside) = beside else { return Ok(literal) };
    let arithmetic = matches!(op, Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo);
    let compares = comparison(op).is_some();
    let wanted = match &beside {
        // Beside decimals it has its own digits: they are not rounded to those of a column.
        number if number.is_decimal() && (arithmetic || compares) => {
            of_its_digits(&literal).unwrap_or_else(|| number.clone())
        }
        number if number.is_numeric() && (arithmetic || compares) => number.clone(),
        DataType::Boolean if compares || matches!(op, Op::And | Op::Or) => DataType::Boolean,
        // `date + '1 day'` takes an interval, `date - '2024-01-01'` a date.
        DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_) if compares => beside.clone(),
        DataType::Date32 | DataType::Timestamp(..) if *op == Op::Minus && !first => return Ok(literal),
        DataType::Date32 | DataType::Timestamp(..) if arithmetic => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Interval(_) if arithmetic || compares => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::List(_) if compares || matches!(op, Op::AtArrow | Op::ArrowAt | Op::PGOverlap | Op::StringConcat) => {
            beside.clone()
        }
        _ => return Ok(literal),
    };
    if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &literal {
        is_read_as(text, &wanted)?;
    }
    Ok(cast(literal, wanted))
}

/// The decimal that has room for what a text literal says; none where that is no number, or has too many digits.
pub(crate) fn of_its_digits(literal: &Expr) -> Option<DataType> {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = literal else { return None };
    let (_, digits, scale) = digits(text)?;
    // Digits that an exponent moves before the point.
    let zeros = usize::try_from((-scale).max(0)).ok()?;
    let scale = u8::try_from(scale.max(0)).ok()?;
    let precision = u8::try_from(digits.len().checked_add(zeros)?).ok()?.max(scale).max(1);
    (precision <= arithmetic::DIGITS_MAX).then(|| DataType::Decimal128(precision, scale.cast_signed()))
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

fn is_time(data_type: &DataType) -> bool {
    let point = matches!(data_type, DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_));
    point || is_interval(data_type)
}

/// The comparison that an operator is.
fn comparison(op: &Op) -> Option<Operator> {
    Some(match op {
        Op::Eq => Operator::Eq,
        Op::NotEq => Operator::NotEq,
        Op::Lt => Operator::Lt,
        Op::LtEq => Operator::LtEq,
        Op::Gt => Operator::Gt,
        Op::GtEq => Operator::GtEq,
        _ => return None,
    })
}

fn of_times(raw: &RawBinaryExpr, left: &DataType, right: &DataType) -> Option<Expr> {
    let name = match raw.op {
        Op::Plus => "time_plus",
        Op::Minus => "time_minus",
        Op::Multiply => "time_times",
        Op::Divide => "time_over",
        _ => {
            // Intervals are equal that are equally long, with thirty days a month.
            let operator = comparison(&raw.op).filter(|_| is_interval(left) && is_interval(right))?;
            let left = call("interval_length", [raw.left.clone()])?;
            let right = call("interval_length", [raw.right.clone()])?;
            return Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right))));
        }
    };
    call(name, [raw.left.clone(), raw.right.clone()])
}

fn of_numbers(raw: &RawBinaryExpr, left: &DataType, right: &DataType) -> Option<Expr> {
    let operands = || (raw.left.clone(), raw.right.clone());
    let checked = |operation| {
        let (left, right) = operands();
        computed(operation, left, right)
    };
    match raw.op {
        Op::Plus if arithmetic::are_integers(left, right) => Some(checked(Operation::Plus)),
        Op::Minus if arithmetic::are_integers(left, right) => Some(checked(Operation::Minus)),
        Op::Multiply if arithmetic::are_integers(left, right) => Some(checked(Operation::Times)),
        Op::Multiply if left.is_decimal() || right.is_decimal() => {
            let (left, right) = (arithmetic::as_decimal(left)?, arithmetic::as_decimal(right)?);
            Some(checked(Operation::DecimalTimes(arithmetic::product_scale(&left, &right)?)))
        }
        Op::PGRegexMatch | Op::PGRegexIMatch | Op::PGRegexNotMatch | Op::PGRegexNotIMatch
            if is_text(left) && is_text(right) =>
        {
            let (text, pattern) = operands();
            let matches = match raw.op {
                Op::PGRegexMatch | Op::PGRegexNotMatch => call("regexp_like", [text, pattern])?,
                _ => call("regexp_like", [text, pattern, lit("i")])?,
            };
            Some(match raw.op {
                Op::PGRegexMatch | Op::PGRegexIMatch => matches,
                _ => Expr::Not(Box::new(matches)),
            })
        }
        Op::PGStartsWith if is_text(left) && is_text(right) => {
            call("starts_with", [raw.left.clone(), raw.right.clone()])
        }
        Op::AtArrow if are_flat(left, right) => call("array_contains", [raw.left.clone(), raw.right.clone()]),
        Op::ArrowAt if are_flat(left, right) => call("array_contains", [raw.right.clone(), raw.left.clone()]),
        Op::PGOverlap if are_flat(left, right) => call("array_overlaps", [raw.left.clone(), raw.right.clone()]),
        Op::PGOverlap => call("array_has_any", [raw.left.clone(), raw.right.clone()]),
        Op::Divide if is_float(left) || is_float(right) => {
            (left.is_numeric() && right.is_numeric()).then(|| checked(Operation::FloatOver))
        }
        Op::Divide if left.is_decimal() || right.is_decimal() => {
            let scales = [left, right].map(|t| match arithmetic::as_decimal(t) {
                Some(DataType::Decimal128(_, scale)) => Some(scale),
                _ => None,
            });
            let [Some(above), Some(below)] = scales else { return None };
            let scale = match (constant(&raw.left), constant(&raw.right)) {
                (Some(above), Some(below)) => quotient_scale(above, below),
                _ => QUOTIENT_SCALE.max(above).max(below),
            };
            Some(checked(Operation::DecimalOver(scale)))
        }
        _ => None,
    }
}

fn is_document(expr: &Expr, schema: &DFSchema) -> bool {
    // A cast to text keeps the name of the type that it was.
    if let Expr::Cast(cast) = expr
        && is_text(cast.field.data_type())
        && types::own_name(&cast.field).is_none()
    {
        return false;
    }
    let field = expr.to_field(schema);
    field.is_ok_and(|(_, field)| matches!(types::own_name(&field), Some(types::JSON | types::JSONB)))
}

fn of_documents(raw: &RawBinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let both = is_document(&raw.left, schema) && is_document(&raw.right, schema);
    let literal = is_text_literal(&raw.left) || is_text_literal(&raw.right);
    let (left, right) = (raw.left.clone(), raw.right.clone());
    match raw.op {
        Op::Arrow => call("json_get", [left, right]),
        Op::LongArrow => call("json_get_text", [left, right]),
        Op::HashArrow => call("json_path", [left, right]),
        Op::HashLongArrow => call("json_path_text", [left, right]),
        Op::Question => call("jsonb_exists", [left, right]),
        Op::QuestionPipe => call("jsonb_exists_any", [left, right]),
        Op::QuestionAnd => call("jsonb_exists_all", [left, right]),
        Op::AtArrow => call("jsonb_contains", [left, right]),
        Op::ArrowAt => call("jsonb_contains", [right, left]),
        Op::AtQuestion => call("jsonb_path_exists", [left, right]),
        Op::AtAt => call("jsonb_path_match_opr", [left, right]),
        Op::Minus => call("jsonb_delete", [left, right]),
        Op::HashMinus => call("jsonb_delete_path", [left, right]),
        Op::StringConcat if both || literal => call("jsonb_concat", [left, right]),
        // Documents are kept in one form, so that equal ones are equal texts.
        _ if literal => {
            let operator = comparison(&raw.op)?;
            let left = if is_text_literal(&left) { call("jsonb", [left])? } else { left };
            let right = if is_text_literal(&right) { call("jsonb", [right])? } else { right };
            Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right))))
        }
        _ => None,
    }
}

/// A call of one of our functions.
pub(crate) fn call<const N: usize>(name: &str, arguments: [Expr; N]) -> Option<Expr> {
    let function = functions().scalar.get(name)?;
    Some(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), arguments.to_vec())))
}
