//! Joins: keys become columns, right joins are turned round, existence tests without a key become a count.

use datafusion_common::NullEquality;
use datafusion_expr::logical_plan::Join;
use datafusion_expr::utils::conjunction;
use datafusion_expr::{Expr, ExprSchemable, JoinType, LogicalPlan, lit};
use relation::{Column, DataType};

use super::expression::{Scope, tried_in_order};
use super::map::constants;
use super::{Lowering, Result, column};
use crate::flow::{Aggregate, AggregateFunction, JoinKind, NodeId, Op};
use crate::refusal::{Refusal, second_table};
use crate::unique::Facts;

/// One input of a join: its plan, its node (with key columns appended), and how many columns are the plan's own.
struct Side<'p> {
    plan: &'p LogicalPlan,
    node: NodeId,
    own: usize,
    keys: Vec<usize>,
}

/// What a plan's join asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Rows(JoinKind),
    /// As a left join turned round.
    Swapped(JoinKind),
    /// Every left row, with whether it has a match.
    Mark,
}

impl Lowering<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<NodeId> {
        let wanted = self.wanted(join)?;
        let (left_on, right_on): (Vec<_>, Vec<_>) = join.on.iter().map(|(l, r)| (l, r)).unzip();
        let left = self.side(&join.left, &left_on)?;
        let right = self.side(&join.right, &right_on)?;
        match wanted {
            Wanted::Rows(kind) => self.rows(kind, &left, &right, join, false),
            Wanted::Swapped(kind) => self.rows(kind, &right, &left, join, true),
            Wanted::Mark => self.marked(&left, &right, join),
        }
    }

    fn rows(
        &mut self,
        kind: JoinKind,
        left: &Side<'_>,
        right: &Side<'_>,
        join: &Join,
        swapped: bool,
    ) -> Result<NodeId> {
        let kind = self.without_nulls(kind, left, right, join)?;
        let offset = self.columns(left.node).len();
        let residual = self.residual(join, left, right, offset)?;
        if left.keys.is_empty() && residual.is_none() && matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            return Ok(self.by_count(kind, left, right));
        }
        self.bounded(kind, left, right, residual.is_some())?;
        self.comparable(left, right)?;
        let node = self.joined(kind, left, right, residual);
        let outputs = output_columns(kind, swapped, left, right, offset);
        Ok(self.choose(node, &outputs))
    }

    /// EXISTS below OR: the rows with a match, marked true, and those without, marked false.
    fn marked(&mut self, left: &Side<'_>, right: &Side<'_>, join: &Join) -> Result<NodeId> {
        let mut parts = Vec::new();
        for (kind, mark) in [(JoinKind::Semi, true), (JoinKind::Anti, false)] {
            let node = self.rows(kind, left, right, join, false)?;
            let mut outputs = self.all_columns(node);
            let name = join.schema.fields().last().map(|f| f.name().clone()).unwrap_or_default();
            outputs.push((lit(mark), Column { name, data_type: DataType::Bool, nullable: false }));
            parts.push(self.map(node, None, outputs));
        }
        // A left row is in one part only: its key remains one.
        let columns = self.columns(parts[0]).to_vec();
        let facts = self.facts(parts[0]).clone();
        Ok(self.add(Op::Union, parts, columns, facts))
    }

    fn wanted(&self, join: &Join) -> Result<Wanted> {
        if join.null_equality == NullEquality::NullEqualsNull && !join.on.is_empty() {
            let detail = "INTERSECT ALL, EXCEPT ALL, both of floats, intervals and arrays, and joins by IS NOT DISTINCT FROM \
                          are not supported yet.";
            let refusal = Refusal::cannot_keep(detail).with_hint("Use EXISTS or NOT EXISTS.");
            return Err(["intersect", "except", "distinct from"].iter().fold(refusal, |r, word| r.at(self.sql, word)));
        }
        Ok(match join.join_type {
            JoinType::Inner => Wanted::Rows(JoinKind::Inner),
            JoinType::Left => Wanted::Rows(JoinKind::Left),
            JoinType::Right => Wanted::Swapped(JoinKind::Left),
            JoinType::LeftSemi => Wanted::Rows(JoinKind::Semi),
            JoinType::RightSemi => Wanted::Swapped(JoinKind::Semi),
            JoinType::LeftAnti if join.null_aware => Wanted::Rows(JoinKind::NullAwareAnti),
            JoinType::LeftAnti => Wanted::Rows(JoinKind::Anti),
            JoinType::RightAnti => Wanted::Swapped(JoinKind::Anti),
            JoinType::LeftMark => Wanted::Mark,
            JoinType::RightMark => {
                return Err(Refusal::cannot_keep("This form of EXISTS is not supported yet.").at(self.sql, "exists"));
            }
            // It has become a union before.
            JoinType::Full => return Err(Refusal::cannot_keep("This form of FULL JOIN is not supported yet.")),
        })
    }

    /// Lowers an input and appends the keys that are no plain columns.
    fn side<'p>(&mut self, plan: &'p LogicalPlan, on: &[&Expr]) -> Result<Side<'p>> {
        let input = self.plan(plan)?;
        let own = self.columns(input).len();
        let scope = Scope::of(plan.schema(), input);
        let mut outputs = self.all_columns(input);
        let mut keys = Vec::new();
        for expr in on {
            let (_, field) = expr.to_field(plan.schema())?;
            let (computed, mut key) = self.output(expr, &field, &scope, input)?;
            let known = outputs.iter().position(|(expr, _)| *expr == computed);
            if known.is_none() {
                key.name = expr.human_display().to_string();
                outputs.push((computed, key));
            }
            keys.push(known.unwrap_or(outputs.len() - 1));
        }
        let node = if outputs.len() > own { self.map(input, None, outputs) } else { input };
        Ok(Side { plan, node, own, keys })
    }

    /// `NOT IN` over columns that are never NULL is a plain anti join; over others it has one key.
    fn without_nulls(&self, kind: JoinKind, left: &Side<'_>, right: &Side<'_>, join: &Join) -> Result<JoinKind> {
        if kind != JoinKind::NullAwareAnti {
            return Ok(kind);
        }
        let nullable = |side: &Side<'_>| side.keys.iter().any(|&k| self.columns(side.node)[k].nullable);
        if !nullable(left) && !nullable(right) {
            return Ok(JoinKind::Anti);
        }
        if left.keys.len() == 1 && join.filter.is_none() {
            return Ok(kind);
        }
        Err(Refusal::cannot_keep(
            "NOT IN with a correlated subquery over columns that may be NULL is not supported yet.",
        )
        .with_hint("Use NOT EXISTS.")
        .at(self.sql, "not in"))
    }

    /// Conditions beyond the keys, over left then right columns.
    fn residual(&self, join: &Join, left: &Side<'_>, right: &Side<'_>, offset: usize) -> Result<Option<Expr>> {
        let Some(filter) = conjunction(join.filter.iter().filter(|f| **f != lit(true)).cloned()) else {
            return Ok(None);
        };
        let scope = Scope::of_both((left.plan.schema(), left.node), (right.plan.schema(), right.node), offset);
        let residual = self.expression(&filter, &scope)?;
        let columns = self.columns(left.node).iter().chain(self.columns(right.node));
        Ok(Some(tried_in_order(residual, columns)))
    }

    /// Without keys every pair is compared: only where one side is a single row.
    fn bounded(&self, kind: JoinKind, left: &Side<'_>, right: &Side<'_>, conditional: bool) -> Result<()> {
        let single = self.facts(left.node).single_row() || self.facts(right.node).single_row();
        if !left.keys.is_empty() || single {
            return Ok(());
        }
        let refusal = match (kind, conditional) {
            (JoinKind::Semi | JoinKind::Anti | JoinKind::NullAwareAnti, _) => Refusal::cannot_keep(
                "This subquery has no equality with the outer query: every pair of rows would be compared.",
            )
            .with_hint("Correlate it by an equality: where inner.key = outer.key.")
            .at(self.sql, "exists"),
            (_, true) => Refusal::cannot_keep("A join without an equality compares every pair of rows.")
                .with_hint("Add an equality to ON; other conditions may stay beside it."),
            (_, false) => Refusal::cannot_keep("A cross join yields every pair of rows.")
                .with_hint("Join on an equality. A side of a single row, such as a total, may be cross joined."),
        };
        let refusal = refusal.at(self.sql, "cross join").at(self.sql, "join");
        // Tables that a comma joins.
        Err(Refusal { line: refusal.line.or_else(|| second_table(self.sql)), ..refusal })
    }

    /// Keys are compared as bytes, so both sides must have them in one type.
    fn comparable(&self, left: &Side<'_>, right: &Side<'_>) -> Result<()> {
        let data_type = |side: &Side<'_>, key: usize| self.columns(side.node)[key].data_type;
        for (&l, &r) in left.keys.iter().zip(&right.keys) {
            let (l, r) = (data_type(left, l), data_type(right, r));
            if l.to_arrow() != r.to_arrow() {
                let refusal = Refusal::cannot_keep(format!("A join compares {l} with {r}."));
                return Err(refusal.with_hint("Cast one side.").at(self.sql, "join").at(self.sql, "where"));
            }
        }
        Ok(())
    }

    fn joined(&mut self, kind: JoinKind, left: &Side<'_>, right: &Side<'_>, residual: Option<Expr>) -> NodeId {
        let on: Vec<_> = left.keys.iter().copied().zip(right.keys.iter().copied()).collect();
        let (left_facts, right_facts) = (self.facts(left.node), self.facts(right.node));
        let both = self.columns(left.node).iter().chain(self.columns(right.node));
        let matched = residual.as_ref().map_or_else(Vec::new, |residual| constants(residual, both));
        let facts = match kind {
            JoinKind::Inner | JoinKind::Left => {
                let nullable: Vec<bool> = self.columns(right.node).iter().map(|column| column.nullable).collect();
                left_facts.joined(right_facts, &on, &matched, (kind == JoinKind::Inner, &nullable))
            }
            JoinKind::Semi | JoinKind::Anti | JoinKind::NullAwareAnti => left_facts.clone(),
        };
        let mut columns = self.columns(left.node).to_vec();
        let padded = kind == JoinKind::Left;
        if matches!(kind, JoinKind::Inner | JoinKind::Left) {
            let right = self.columns(right.node).iter();
            columns.extend(right.map(|c| Column { nullable: c.nullable || padded, ..c.clone() }));
        }
        let op = Op::Join { kind, left_keys: left.keys.clone(), right_keys: right.keys.clone(), residual };
        self.add(op, vec![left.node, right.node], columns, facts)
    }

    /// `EXISTS` of a subquery that has nothing to do with the row: whether its number of rows is zero.
    fn by_count(&mut self, kind: JoinKind, left: &Side<'_>, right: &Side<'_>) -> NodeId {
        let rows = self.choose(right.node, &[]);
        let count = Aggregate {
            function: AggregateFunction::Count,
            argument: None,
            filter: None,
            distinct: false,
            output: DataType::Int64,
        };
        let columns = vec![Column { name: "count".to_owned(), data_type: DataType::Int64, nullable: false }];
        let facts = Facts::new(1, Some(vec![]));
        let count = self.add(Op::Aggregate { group: vec![], aggregates: vec![count] }, vec![rows], columns, facts);
        let zero = lit(0_i64);
        let condition = if kind == JoinKind::Semi { column(0).gt(zero) } else { column(0).eq(zero) };
        let outputs = self.all_columns(count);
        let found = self.map(count, Some(condition), outputs);
        let found = Side { plan: right.plan, node: found, own: 1, keys: vec![] };
        let node = self.joined(JoinKind::Inner, left, &found, None);
        self.choose(node, &(0..left.own).collect::<Vec<_>>())
    }
}

/// The plan's columns among those of the join: without appended keys, in the order before a swap.
fn output_columns(kind: JoinKind, swapped: bool, left: &Side<'_>, right: &Side<'_>, offset: usize) -> Vec<usize> {
    let of_left: Vec<usize> = (0..left.own).collect();
    if !matches!(kind, JoinKind::Inner | JoinKind::Left) {
        return of_left;
    }
    let of_right: Vec<usize> = (offset..offset + right.own).collect();
    if swapped { [of_right, of_left].concat() } else { [of_left, of_right].concat() }
}
