//! Documents, and uuids, stay what they are where a plan has texts alone.
//!
//! That a text is a json is said by its column. CASE, `coalesce` and their like make a column that says nothing, so that
//! `jsonb_build_object('a', coalesce(doc, '{}'))` took the document for a text and quoted it; so do scalar subqueries, and the
//! columns between the nodes of a flow. A function stands around these that changes nothing but says so.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::{Expr, ExprSchemable};

use crate::functions::functions;
use crate::postgres::{builds_documents, types};

/// The functions that say that a text is a document, or a uuid, by the type that they say.
const MARKS: [(&str, &str); 3] =
    [("json_as_it_is", types::JSON), ("jsonb_as_it_is", types::JSONB), ("uuid_as_it_is", types::UUID)];

/// Says of documents that they are some.
#[derive(Debug)]
pub(crate) struct Documents;

impl FunctionRewrite for Documents {
    fn name(&self) -> &str {
        "documents"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        if let Expr::ScalarFunction(call) = &mut expr {
            // What was analysed before is not said twice.
            if is_mark(call)
                && let [Expr::ScalarFunction(inner)] = &call.args[..]
                && is_mark(inner)
            {
                return Ok(Transformed::yes(call.args.remove(0)));
            }
            if builds_documents(call.name()) {
                let mut changed = false;
                for arg in &mut call.args {
                    // A function says itself what it gives.
                    if matches!(arg, Expr::ScalarFunction(_) | Expr::Literal(..)) {
                        continue;
                    }
                    if let Some(name) = named(arg, schema) {
                        *arg = said(std::mem::take(arg), name);
                        changed = true;
                    }
                }
                return Ok(Transformed::new_transformed(expr, changed));
            }
        }
        match choices(&expr).and_then(|choices| of_choices(&choices, schema)) {
            Some(name) => Ok(Transformed::yes(said(expr, name))),
            None => Ok(Transformed::no(expr)),
        }
    }
}

fn is_mark(call: &ScalarFunction) -> bool {
    MARKS.iter().any(|(mark, _)| call.name() == *mark)
}

fn said(expr: Expr, name: &str) -> Expr {
    // A literal beside documents is read as one.
    let has_text = choices(&expr).is_some_and(|choices| choices.into_iter().any(is_text_literal));
    let by = match MARKS.iter().find(|(_, says)| *says == name) {
        Some((_, says)) if has_text => *says,
        Some((mark, _)) => *mark,
        None => return expr,
    };
    match functions().scalar.get(by) {
        Some(function) => Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), vec![expr])),
        None => expr,
    }
}

/// The values of which an expression gives one.
fn choices(expr: &Expr) -> Option<Vec<&Expr>> {
    match expr {
        Expr::Case(case) => {
            let branches = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            Some(branches.chain(case.else_expr.as_deref()).collect())
        }
        Expr::ScalarFunction(call) => match call.name() {
            "coalesce" | "greatest" | "least" => Some(call.args.iter().collect()),
            "nullif" => Some(call.args.iter().take(1).collect()),
            _ => None,
        },
        _ => None,
    }
}

/// The type of a document or a uuid; none of what is another text.
pub(crate) fn named(expr: &Expr, schema: &DFSchema) -> Option<&'static str> {
    if let Expr::Alias(alias) = expr {
        return named(&alias.expr, schema);
    }
    if let Some(choices) = choices(expr) {
        return of_choices(&choices, schema);
    }
    let (_, field) = expr.to_field(schema).ok()?;
    let own = types::own_name(&field).filter(|_| *field.data_type() == DataType::Utf8)?;
    MARKS.iter().find(|(_, name)| *name == own).map(|(_, name)| *name)
}

/// Documents, and beside them what becomes one: NULL, and texts that are written there.
fn of_choices(choices: &[&Expr], schema: &DFSchema) -> Option<&'static str> {
    let mut found = None;
    for choice in choices {
        match named(choice, schema) {
            Some(name) => found = found.or(Some(name)),
            None if is_null(choice) || is_text_literal(choice) => {}
            None => return None,
        }
    }
    found
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => is_null(&cast.expr),
        Expr::Alias(alias) => is_null(&alias.expr),
        _ => false,
    }
}

fn is_text_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _))
}
