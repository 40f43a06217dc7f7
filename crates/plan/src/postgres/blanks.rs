//! Blanks at the end of a `char(n)` are no part of it but where it is shown, or taken as it is.
//!
//! They do not count in comparisons (those by operators are planned so, [`super::operators`]), and a function of a text is called with the
//! text, to which the cast leaves them off. `octet_length`, `concat`, `format`, patterns (`~`, LIKE), documents and arrays take the value
//! with them.

use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::{Expr, ExprSchemable, Operator};

use super::forms::is_text;
use super::operators::call;
use super::types;

/// Functions that PostgreSQL has of texts alone, so that a char becomes one.
const OF_TEXTS: [&str; 40] = [
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "digest",
    "digits_of",
    "initcap",
    "left",
    "length",
    "levenshtein",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "overlay",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "regexp_all_matches",
    "regexp_count",
    "regexp_instr",
    "regexp_match",
    "regexp_replace",
    "regexp_split_to_array",
    "regexp_substr",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "split_part",
    "starts_with",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "to_date",
    "to_timestamp",
    "translate",
    "upper",
];

/// Before types are agreed on.
#[derive(Debug)]
pub(crate) struct Blanks;

impl FunctionRewrite for Blanks {
    fn name(&self) -> &str {
        "blanks"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let changed = match &mut expr {
            Expr::ScalarFunction(function) if function.name() == "format" => {
                let mut changed = false;
                for argument in &mut function.args {
                    changed |= untrimmed(argument, schema);
                }
                changed
            }
            Expr::ScalarFunction(function) if OF_TEXTS.contains(&function.name()) => {
                all_trimmed(function.args.iter_mut(), schema)
            }
            Expr::AggregateFunction(function) if function.func.name() == "string_agg" => {
                all_trimmed(function.params.args.iter_mut(), schema)
            }
            Expr::Cast(cast) if is_text(cast.field.data_type()) && types::own_name(&cast.field).is_none() => {
                if !is_char(&cast.expr, schema) {
                    return Ok(Transformed::no(expr));
                }
                // A cast would keep the name of the type that it was.
                let trimmed = trimmed(std::mem::take(cast.expr.as_mut()));
                match call("text", [trimmed.clone()]) {
                    Some(made) => expr = made,
                    None => expr = trimmed,
                }
                true
            }
            Expr::BinaryExpr(binary) if matches!(binary.op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom) => {
                all_trimmed([&mut *binary.left, &mut *binary.right].into_iter(), schema)
            }
            Expr::InList(list) => all_trimmed(std::iter::once(&mut *list.expr).chain(&mut list.list), schema),
            Expr::Between(between) => {
                all_trimmed([&mut *between.expr, &mut *between.low, &mut *between.high].into_iter(), schema)
            }
            Expr::Case(case) => match &mut case.expr {
                Some(subject) => {
                    let values = case.when_then_expr.iter_mut().map(|(when, _)| &mut **when);
                    all_trimmed(std::iter::once(&mut **subject).chain(values), schema)
                }
                None => false,
            },
            Expr::InSubquery(test) => all_trimmed(std::iter::once(&mut *test.expr), schema),
            _ => false,
        };
        Ok(Transformed::new_transformed(expr, changed))
    }
}

pub(super) fn is_char(expr: &Expr, schema: &DFSchema) -> bool {
    expr.to_field(schema).is_ok_and(|(_, field)| types::own_name(&field) == Some(types::CHAR))
}

pub(super) fn trimmed(expr: Expr) -> Expr {
    call("rtrim", [expr.clone()]).unwrap_or(expr)
}

/// A char that was made a text to be called with, as it is: one that the statement itself casts is within a cast of its own.
fn untrimmed(argument: &mut Expr, schema: &DFSchema) -> bool {
    let Expr::ScalarFunction(text) = argument else { return false };
    let [Expr::ScalarFunction(rtrim)] = &mut text.args[..] else { return false };
    if text.func.name() != "text" || rtrim.name() != "rtrim" {
        return false;
    }
    match &mut rtrim.args[..] {
        [own] if is_char(own, schema) => {
            *argument = std::mem::take(own);
            true
        }
        _ => false,
    }
}

fn all_trimmed<'e>(parts: impl Iterator<Item = &'e mut Expr>, schema: &DFSchema) -> bool {
    let mut changed = false;
    for part in parts {
        if is_char(part, schema) {
            *part = trimmed(std::mem::take(part));
            changed = true;
        }
    }
    changed
}
