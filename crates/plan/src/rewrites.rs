//! Dates and times meet in microseconds.
//!
//! Where a date meets a timestamp, DataFusion casts both to nanoseconds, which end in 2262; shops write 9999-12-31 for
//! "for ever", and such a row would fail. Before types are agreed on, the date is cast to microseconds here.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::{Expr, ExprSchemable, Operator, cast};

/// What the analyser must be given (`Analyzer::add_function_rewrite`) wherever SQL is planned.
pub fn rewrites() -> Vec<Arc<dyn FunctionRewrite + Send + Sync>> {
    vec![Arc::new(Microseconds)]
}

#[derive(Debug)]
struct Microseconds;

impl FunctionRewrite for Microseconds {
    fn name(&self) -> &str {
        "microseconds"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let changed = match &mut expr {
            Expr::ScalarFunction(call) if matches!(call.name(), "date_trunc" | "date_bin") => {
                let dates = call.args.iter_mut().filter(|arg| matches!(arg.get_type(schema), Ok(DataType::Date32)));
                dates.map(|arg| to_microseconds(arg, None)).count() > 0
            }
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
