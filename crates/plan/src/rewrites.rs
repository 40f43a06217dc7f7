//! What is put right before types are agreed on: dates and times meet in microseconds, floats have one zero, rounding has
//! one type.
//!
//! Where a date meets a timestamp, DataFusion casts both to nanoseconds, which end in 2262; shops write 9999-12-31 for
//! "for ever", and such a row would fail. Before types are agreed on, the date is cast to microseconds here.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::{Expr, ExprSchemable, Operator, case, cast, lit};

use crate::alike::WindowOrder;
use crate::named_documents::Documents;
use crate::postgres::blanks::Blanks;
use crate::rounding::Rounding;
use crate::zero::{of_membership, one_zero};

/// What the analyser must be given (`Analyzer::add_function_rewrite`) wherever SQL is planned.
pub fn rewrites() -> Vec<Arc<dyn FunctionRewrite + Send + Sync>> {
    vec![
        Arc::new(Blanks),
        Arc::new(Microseconds),
        Arc::new(Zeros),
        Arc::new(DecimalPlaces),
        Arc::new(Rounding),
        Arc::new(Flags),
        Arc::new(WindowOrder),
        Arc::new(Documents),
    ]
}

#[derive(Debug)]
struct Microseconds;

impl FunctionRewrite for Microseconds {
    fn name(&self) -> &str {
        "microseconds"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let changed = match &mut expr {
            Expr::BinaryExpr(binary) if compares(binary.op) => {
                meet(&mut [&mut *binary.left, &mut *binary.right], schema)
            }
            Expr::Between(between) => meet(&mut [&mut *between.expr, &mut *between.low, &mut *between.high], schema),
            Expr::InList(list) => {
                let mut parts: Vec<_> = std::iter::once(&mut *list.expr).chain(&mut list.list).collect();
                meet(&mut parts, schema)
            }
            _ => false,
        };
        Ok(Transformed::new_transformed(expr, changed))
    }
}

/// `concat` writes a boolean by its letter, where a cast writes the word.
#[derive(Debug)]
struct Flags;

impl FunctionRewrite for Flags {
    fn name(&self) -> &str {
        "flags"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(call) = &mut expr else { return Ok(Transformed::no(expr)) };
        if !matches!(call.func.name(), "concat" | "concat_ws") {
            return Ok(Transformed::no(expr));
        }
        let mut changed = false;
        for argument in &mut call.args {
            if argument.get_type(schema).is_ok_and(|own| own == DataType::Boolean) {
                // Once: of calls inside one another there would be twice as many with each level.
                let flag = std::mem::take(argument);
                *argument = case(flag).when(lit(true), lit("t")).when(lit(false), lit("f")).end()?;
                changed = true;
            }
        }
        Ok(Transformed::new_transformed(expr, changed))
    }
}

/// Floats are compared by [`one_zero`].
#[derive(Debug)]
struct Zeros;

impl FunctionRewrite for Zeros {
    fn name(&self) -> &str {
        "zeros"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let changed = match &mut expr {
            Expr::BinaryExpr(binary) if compares(binary.op) && binary.op != Operator::Minus => {
                all_zeros(&mut [&mut *binary.left, &mut *binary.right], schema)
            }
            Expr::Between(between) => {
                all_zeros(&mut [&mut *between.expr, &mut *between.low, &mut *between.high], schema)
            }
            Expr::InList(list) => {
                let mut parts: Vec<_> = std::iter::once(&mut *list.expr).chain(&mut list.list).collect();
                all_zeros(&mut parts, schema)
            }
            Expr::InSubquery(test) => of_membership(test, schema)?,
            _ => false,
        };
        Ok(Transformed::new_transformed(expr, changed))
    }
}

fn all_zeros(parts: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let mut changed = false;
    for part in parts {
        let before = part.clone();
        **part = one_zero(std::mem::take(*part), schema);
        changed |= **part != before;
    }
    changed
}

/// `round(decimal, n)` has the type that it was planned with.
///
/// Its scale is `n` where that is a literal. The agreement on types puts a cast around the literal, which makes the type
/// another one until the cast is computed; so `n` is made the literal that nothing is cast in. An `n` that is computed
/// may become a literal or not: then the result is cast.
#[derive(Debug)]
struct DecimalPlaces;

impl FunctionRewrite for DecimalPlaces {
    fn name(&self) -> &str {
        "decimal_places"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let planned = expr.get_type(schema).ok();
        let Expr::ScalarFunction(call) = &mut expr else { return Ok(Transformed::no(expr)) };
        let [value, places] = &mut call.args[..] else { return Ok(Transformed::no(expr)) };
        let decimal = matches!(value.get_type(schema), Ok(t) if t.is_decimal() || t.is_integer());
        if call.func.name() != "round" || !decimal || matches!(places, Expr::Literal(ScalarValue::Int32(_), _)) {
            return Ok(Transformed::no(expr));
        }
        match literal_places(places) {
            Some(known) => {
                *places = lit(known);
                Ok(Transformed::yes(expr))
            }
            None => Ok(match planned {
                Some(planned) => Transformed::yes(cast(expr, planned)),
                None => Transformed::no(expr),
            }),
        }
    }
}

fn literal_places(expr: &Expr) -> Option<i32> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_integer() => match value.cast_to(&DataType::Int32).ok()? {
            ScalarValue::Int32(places) => places,
            _ => None,
        },
        Expr::Negative(inner) => literal_places(inner)?.checked_neg(),
        Expr::Cast(inner) if inner.field.data_type().is_integer() => literal_places(&inner.expr),
        _ => None,
    }
}

/// Comparisons, and the difference of two times.
fn compares(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, Minus, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom | Minus)
}

/// Where one part is a timestamp, dates and finer timestamps among the others become such ones too.
fn meet(parts: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let types: Vec<_> = parts.iter().map(|part| part.get_type(schema).ok()).collect();
    let zones = types.iter().filter_map(|t| match t {
        Some(DataType::Timestamp(_, zone)) => Some(zone.clone()),
        _ => None,
    });
    let Some(zone) = zones.into_iter().next() else { return false };
    let mut changed = false;
    for (part, data_type) in parts.iter_mut().zip(&types) {
        let strays = match data_type {
            Some(DataType::Date32) => true,
            Some(DataType::Timestamp(unit, own)) => *unit == TimeUnit::Nanosecond && *own == zone,
            _ => false,
        };
        if strays {
            to_microseconds(part, zone.clone());
            changed = true;
        }
    }
    changed
}

fn to_microseconds(expr: &mut Expr, zone: Option<Arc<str>>) {
    *expr = cast(std::mem::take(expr), DataType::Timestamp(TimeUnit::Microsecond, zone));
}
