//! Maps: filter and compute. Neighbours are fused where nothing is computed twice, and maps that only choose columns
//! disappear into what is below them.

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::expr::Cast;
use datafusion_expr::logical_plan::{Filter, Projection};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use relation::{Column, DataType};

use super::expression::{Scope, as_canonical, plain, tried_in_order};
use super::{Lowering, Result, column};
use crate::flow::{NodeId, Op};

/// A column of a map: how it is computed, and what it is called.
pub(super) type Output = (Expr, Column);

impl Lowering<'_> {
    /// A projection over a node that its input was lowered to.
    pub(super) fn projection(&mut self, projection: &Projection, input: NodeId) -> Result<NodeId> {
        let scope = Scope::of(projection.input.schema(), input);
        let fields = projection.schema.fields();
        let outputs = projection.expr.iter().zip(fields).map(|(expr, field)| {
            let mut output = self.output(expr, field, &scope, input)?;
            output.1.name.clone_from(field.name());
            Ok(output)
        });
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        Ok(self.map(input, None, outputs))
    }

    /// One computed column of a plan. A column passed on keeps its type (JSON stays JSON).
    pub(super) fn output(
        &self,
        expr: &Expr,
        field: &arrow::datatypes::Field,
        scope: &Scope<'_>,
        input: NodeId,
    ) -> Result<Output> {
        if let Some(i) = scope.position(expr) {
            let column_of_input = Column { name: field.name().clone(), ..self.columns(input)[i].clone() };
            return Ok((column(i), column_of_input));
        }
        let computed = self.expression(expr, scope)?;
        let data_type = self.canonical(field)?;
        let column = Column { name: field.name().clone(), data_type, nullable: field.is_nullable() };
        Ok((as_canonical(computed, field, data_type), column))
    }

    /// A filter: the first rows of groups if it bounds a row number, else a map.
    pub(super) fn filter(&mut self, filter: &Filter) -> Result<NodeId> {
        if let LogicalPlan::Window(window) = filter.input.as_ref() {
            return self.top_of_groups(&filter.predicate, window);
        }
        if let Some(lowered) = super::top::filter_above_window(&filter.predicate, &filter.input)? {
            return self.plan(&lowered);
        }
        let input = self.plan(&filter.input)?;
        let condition = self.expression(&filter.predicate, &Scope::of(filter.input.schema(), input))?;
        let outputs = self.all_columns(input);
        Ok(self.map(input, Some(condition), outputs))
    }

    /// Every column of a node, passed on.
    pub(super) fn all_columns(&self, input: NodeId) -> Vec<Output> {
        self.columns(input).iter().enumerate().map(|(i, c)| (column(i), c.clone())).collect()
    }

    /// Some columns of a node, by position.
    pub(super) fn choose(&mut self, input: NodeId, columns: &[usize]) -> NodeId {
        let outputs = columns.iter().map(|&i| (column(i), self.columns(input)[i].clone())).collect();
        self.map(input, None, outputs)
    }

    /// The node with its columns in the given types, by casts where they differ.
    pub(super) fn in_types(&mut self, input: NodeId, wanted: &[Column]) -> NodeId {
        let cast = |i: usize, have: &Column| {
            let want = &wanted[i];
            let expr = if have.data_type == want.data_type {
                column(i)
            } else {
                Expr::Cast(Cast::new(Box::new(column(i)), want.data_type.to_arrow()))
            };
            (expr, Column { data_type: want.data_type, ..have.clone() })
        };
        let outputs = self.columns(input).iter().enumerate().map(|(i, have)| cast(i, have)).collect();
        self.map(input, None, outputs)
    }

    /// A map above a node, in its simplest form.
    pub(super) fn map(&mut self, input: NodeId, filter: Option<Expr>, outputs: Vec<Output>) -> NodeId {
        if let Op::Map { filter: below, outputs: inner } = &self.node(input).op
            && may_fuse(inner, filter.as_ref(), &outputs)
        {
            let (below, inner, input) = (below.clone(), inner.clone(), self.node(input).inputs[0]);
            let filter = filter.map(|f| substituted(f, &inner));
            let filter = match (below, filter) {
                (Some(first), Some(then)) => Some(first.and(then)),
                (first, then) => first.or(then),
            };
            let outputs = outputs.into_iter().map(|(expr, column)| (substituted(expr, &inner), column)).collect();
            return self.map(input, filter, outputs);
        }
        let input = self.without_number(input, filter.as_ref(), &outputs);
        let filter = filter.map(|filter| tried_in_order(filter, self.columns(input).iter()));
        let (exprs, columns): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
        let sources: Vec<_> = exprs.iter().map(plain).collect();
        if filter.is_none()
            && let Some(chosen) = self.chosen(input, &sources, &columns)
        {
            return chosen;
        }
        let constants = filter.as_ref().map_or_else(Vec::new, |filter| constants(filter, self.columns(input).iter()));
        let facts = self.facts(input).clone().with_constants(&constants);
        let facts = facts.computed(&sources, &exprs.iter().map(reads).collect::<Vec<_>>());
        self.add(Op::Map { filter, outputs: exprs }, vec![input], columns, facts)
    }

    /// Choosing columns needs no node of its own where all are chosen in order, or below is a table.
    fn chosen(&mut self, input: NodeId, sources: &[Option<usize>], columns: &[Column]) -> Option<NodeId> {
        let sources: Vec<usize> = sources.iter().copied().collect::<Option<_>>()?;
        if sources.len() == self.columns(input).len() && sources.iter().enumerate().all(|(i, &s)| i == s) {
            return Some(input);
        }
        let Op::Table { table, columns: stored } = &self.node(input).op else { return None };
        let repeats = sources.iter().enumerate().any(|(i, s)| sources[..i].contains(s));
        if repeats {
            return None;
        }
        let op = Op::Table { table: table.clone(), columns: sources.iter().map(|&s| stored[s]).collect() };
        let facts = self.facts(input).projected(&sources.iter().map(|&s| Some(s)).collect::<Vec<_>>());
        // A table's columns keep the table's names: they are part of its identity.
        let of_table = |(&s, c): (&usize, &Column)| Column { name: self.columns(input)[s].name.clone(), ..c.clone() };
        let columns = sources.iter().zip(columns).map(of_table).collect();
        Some(self.add(op, vec![], columns, facts))
    }

    /// A top-k whose number nobody reads does not yield it.
    fn without_number(&mut self, input: NodeId, filter: Option<&Expr>, outputs: &[Output]) -> NodeId {
        let node = self.node(input);
        let Op::TopK { numbered: true, .. } = &node.op else { return input };
        let number = node.schema.columns.len() - 1;
        let exprs = filter.into_iter().chain(outputs.iter().map(|(expr, _)| expr));
        if references(exprs, number + 1)[number] > 0
            || self.facts(input).unique.as_ref().is_some_and(|k| k.contains(&number))
        {
            return input;
        }
        let mut op = node.op.clone();
        if let Op::TopK { numbered, .. } = &mut op {
            *numbered = false;
        }
        let inputs = node.inputs.clone();
        let columns = node.schema.columns[..number].to_vec();
        let kept: Vec<_> = (0..number).map(Some).collect();
        let facts = self.facts(input).projected(&kept);
        self.add(op, inputs, columns, facts)
    }
}

/// The columns that hold one value in all rows for which a condition holds: those that it compares with a constant.
pub(super) fn constants<'c>(condition: &Expr, columns: impl Iterator<Item = &'c Column>) -> Vec<usize> {
    let columns: Vec<&Column> = columns.collect();
    let pinned = |part: &Expr| {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part else { return None };
        let column = match (left.as_ref(), right.as_ref()) {
            (column, Expr::Literal(value, _)) | (Expr::Literal(value, _), column) if !value.is_null() => plain(column)?,
            _ => return None,
        };
        // Floats and intervals that are equal may be told apart: 0 and -0, 1 mon and 30 days.
        let of_many_forms = [DataType::Float32, DataType::Float64, DataType::Interval, DataType::Json]
            .contains(&columns.get(column)?.data_type);
        let is_array = matches!(columns.get(column)?.data_type, DataType::Array(_));
        (!of_many_forms && !is_array).then_some(column)
    };
    split_conjunction(condition).into_iter().filter_map(pinned).collect()
}

/// Whether fusing computes nothing twice: what is more than a column or a constant is used once at most.
fn may_fuse(inner: &[Expr], filter: Option<&Expr>, outputs: &[Output]) -> bool {
    let uses = references(filter.into_iter().chain(outputs.iter().map(|(expr, _)| expr)), inner.len());
    let cheap = |expr: &Expr| matches!(expr, Expr::Column(_) | Expr::Literal(..));
    inner.iter().zip(uses).all(|(expr, uses)| uses <= 1 || cheap(expr))
}

/// The columns that an expression is computed of; none where it is computed of more than them, or of none: what is the same in all rows
/// of a map need not be so in a union of two.
fn reads(expr: &Expr) -> Option<Vec<usize>> {
    if expr.is_volatile() {
        return None;
    }
    let mut columns = Vec::new();
    let read = expr.apply(|part| {
        if matches!(part, Expr::Column(_)) {
            columns.push(plain(part));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    read.ok()?;
    columns.into_iter().collect::<Option<Vec<_>>>().filter(|columns| !columns.is_empty())
}

/// How often expressions refer to each of `columns` input columns.
fn references<'e>(exprs: impl Iterator<Item = &'e Expr>, columns: usize) -> Vec<usize> {
    let mut uses = vec![0; columns];
    for expr in exprs {
        let counted = expr.apply(|part| {
            if let Some(count) = plain(part).and_then(|i| uses.get_mut(i)) {
                *count += 1;
            }
            Ok(TreeNodeRecursion::Continue)
        });
        debug_assert!(counted.is_ok(), "counting cannot fail");
    }
    uses
}

/// The expression with its columns replaced by what computes them.
fn substituted(expr: Expr, inner: &[Expr]) -> Expr {
    let replaced = expr.clone().transform_up(|part| match plain(&part).and_then(|i| inner.get(i)) {
        // Not to be descended into again: its columns are those of the lower input.
        Some(computed) => Ok(Transformed::yes(computed.clone())),
        None => Ok(Transformed::no(part)),
    });
    replaced.map_or(expr, |transformed| transformed.data)
}
