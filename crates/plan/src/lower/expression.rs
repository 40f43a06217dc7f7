//! Expressions over plan columns become expressions over `c{i}`.

use arrow::datatypes::{Field, Schema};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, DataFusionError};
use datafusion_expr::Expr;
use datafusion_expr::expr::Cast;
use relation::DataType;

use super::{Lowering, Result, column};
use crate::filtered::in_order;
use crate::flow::{NodeId, column_name};
use crate::postgres::types;
use crate::refusal::Refusal;

/// Where the columns of an expression come from: plans with the nodes that they were lowered to, one after the other.
pub(super) struct Scope<'s> {
    /// Schema of a plan, its node, and the position of the node's first column.
    parts: Vec<(&'s DFSchema, NodeId, usize)>,
}

impl<'s> Scope<'s> {
    pub(super) fn of(schema: &'s DFSchema, node: NodeId) -> Self {
        Self { parts: vec![(schema, node, 0)] }
    }

    /// Both sides of a join; columns of the right one start at `offset`.
    pub(super) fn of_both(left: (&'s DFSchema, NodeId), right: (&'s DFSchema, NodeId), offset: usize) -> Self {
        Self { parts: vec![(left.0, left.1, 0), (right.0, right.1, offset)] }
    }

    /// The position of a column, if an expression is no more than that.
    pub(super) fn position(&self, expr: &Expr) -> Option<usize> {
        match expr {
            Expr::Alias(alias) => self.position(&alias.expr),
            Expr::Column(column) => self.find(column).map(|(position, ..)| position),
            _ => None,
        }
    }

    /// The position of a column, its field in the plan, and its node and place there.
    fn find(&self, column: &Column) -> Option<(usize, &'s Field, NodeId, usize)> {
        self.parts.iter().find_map(|(schema, node, offset)| {
            let at = schema.maybe_index_of_column(column)?;
            Some((at + offset, schema.field(at).as_ref(), *node, at))
        })
    }
}

impl Lowering<'_> {
    /// The expression over `c{i}`, without aliases.
    pub(super) fn expression(&self, expr: &Expr, scope: &Scope<'_>) -> Result<Expr> {
        let rewritten = expr.clone().transform_up(|part| match part {
            Expr::Alias(alias) => Ok(Transformed::yes(*alias.expr)),
            Expr::Column(name) => self.resolved(&name, scope).map(Transformed::yes).map_err(carry),
            other => match self.refused(&other) {
                Some(refusal) => Err(carry(refusal)),
                None => Ok(Transformed::no(other)),
            },
        });
        Ok(rewritten?.data)
    }

    /// A column, cast to the type that the plan has for it where the node keeps another.
    fn resolved(&self, name: &Column, scope: &Scope<'_>) -> Result<Expr> {
        let Some((position, field, node, at)) = scope.find(name) else {
            return Err(Refusal::new(format!("column \"{name}\" does not exist")).at(self.sql, &name.name));
        };
        let kept = self.columns(node)[at].data_type.to_arrow();
        let planned = field.data_type();
        let plain = column(position);
        if kept == *planned { Ok(plain) } else { Ok(Expr::Cast(Cast::new(Box::new(plain), planned.clone()))) }
    }

    fn refused(&self, expr: &Expr) -> Option<Refusal> {
        let subquery = |what: &str, word: &str| {
            let detail = format!("This {what} cannot be turned into a join.");
            Refusal::cannot_keep(detail).with_hint("Write it as a join.").at(self.sql, word)
        };
        Some(match expr {
            Expr::ScalarSubquery(_) => subquery("scalar subquery", "( select"),
            Expr::InSubquery(_) => subquery("IN (SELECT …)", "in ( select"),
            Expr::Exists(_) => subquery("EXISTS (SELECT …)", "exists"),
            Expr::SetComparison(_) => subquery("comparison with a subquery", "( select"),
            Expr::OuterReferenceColumn(_, column) => {
                let detail = format!(
                    "The subquery that uses \"{}\" of the outer query cannot be turned into a join.",
                    column.name
                );
                Refusal::cannot_keep(detail).with_hint("Write it as a join.").at(self.sql, &column.name)
            }
            Expr::Unnest(_) => Refusal::cannot_keep("UNNEST is not supported yet.").at(self.sql, "unnest"),
            Expr::Placeholder(placeholder) => {
                Refusal::new(format!("a model has no parameters: {}", placeholder.id)).at(self.sql, &placeholder.id)
            }
            _ => return None,
        })
    }

    /// Our type for a field of a plan.
    pub(super) fn canonical(&self, field: &Field) -> Result<DataType> {
        if matches!(types::own_name(field), Some(types::JSON | types::JSONB)) {
            return Ok(DataType::Json);
        }
        DataType::from_arrow(field.data_type()).map_err(|_| {
            Refusal::cannot_keep(format!(
                "Column \"{}\" would be of type {}, which no column can hold.",
                field.name(),
                types::name(field.data_type())
            ))
            .with_hint("Take a number, a text or a time out of it: extract(epoch from …), array_to_string(…), a cast.")
            .at(self.sql, field.name())
        })
    }
}

/// An expression of a type, cast to ours where that is another.
pub(super) fn as_canonical(expr: Expr, planned: &Field, ours: DataType) -> Expr {
    if *planned.data_type() == ours.to_arrow() { expr } else { Expr::Cast(Cast::new(Box::new(expr), ours.to_arrow())) }
}

/// A condition over columns `c{i}`, of whose parts those that may fail are tried where the others hold.
pub(super) fn tried_in_order<'c>(condition: Expr, columns: impl Iterator<Item = &'c relation::Column>) -> Expr {
    let field = |(i, c): (usize, &relation::Column)| Field::new(column_name(i), c.data_type.to_arrow(), c.nullable);
    let schema = DFSchema::try_from(Schema::new(columns.enumerate().map(field).collect::<Vec<_>>()));
    debug_assert!(schema.is_ok(), "columns called by their positions are of different names");
    match schema {
        Ok(schema) => in_order(condition, &schema),
        Err(_) => condition,
    }
}

/// The input column that an expression is, if it is no more than that.
pub(super) fn plain(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) => column.name.strip_prefix('c')?.parse().ok(),
        _ => None,
    }
}

fn carry(refusal: Refusal) -> DataFusionError {
    DataFusionError::External(Box::new(refusal))
}
