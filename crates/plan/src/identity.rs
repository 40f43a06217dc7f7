//! Identity of a node: a hash of what it computes, equal for equal sub-plans of any model, the name of its state.
//!
//! It covers the operator with every literal in full, the columns' types, the key, the identities of the inputs and the
//! versions of encodings and of this lowering. Names of columns are left out, except those of stored tables: a rename
//! in a model keeps its state.

use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::Expr;
use relation::Schema;
use relation::key::hash128;

use crate::flow::Op;

/// Version of what operators mean; raised when a rule or a function changes its answers.
pub const FLOW_VERSION: u32 = 5;

/// The identity of an operator that yields `schema` from inputs of these identities, in hex.
pub(crate) fn identity(op: &Op, schema: &Schema, inputs: &[&str]) -> String {
    let mut text = format!("{FLOW_VERSION}/{}\n", relation::ENCODING_VERSION);
    describe(&mut text, op, schema);
    for column in &schema.columns {
        text.push_str(&format!("\n{} {}", column.data_type, column.nullable));
    }
    text.push_str(&format!("\n{:?}\n{}", schema.key, inputs.join(" ")));
    hash128(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn describe(out: &mut String, op: &Op, schema: &Schema) {
    let text = match op {
        Op::Table { table, columns } => {
            let names: Vec<_> = schema.columns.iter().map(|c| c.name.as_str()).collect();
            format!("table {:?} {:?} {columns:?} {names:?}", table.schema, table.name)
        }
        Op::Values { rows } => format!("values {rows:?}"),
        Op::Aggregate { group, aggregates } => format!("aggregate {group:?} {aggregates:?}"),
        other => other.to_string(),
    };
    out.push_str(&text);
    expressions(op).for_each(|expr| structure(out, expr));
}

fn expressions(op: &Op) -> Box<dyn Iterator<Item = &Expr> + '_> {
    match op {
        Op::Map { filter, outputs } => Box::new(filter.iter().chain(outputs)),
        Op::Join { residual, .. } => Box::new(residual.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

/// The text of an expression does not tell `a / (b * c)` from `a / b * c`, nor quotes inside a literal from those
/// around it: so every part is written, in brackets, and literals in their debug form.
fn structure(out: &mut String, expr: &Expr) {
    let text = match expr {
        Expr::Literal(value, _) => format!("\n({value:?} {}", value.data_type()),
        other => format!("\n({other}"),
    };
    out.push_str(&text);
    let parts = expr.apply_children(|part| {
        structure(out, part);
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(parts.is_ok(), "describing cannot fail");
    out.push(')');
}
