//! Groups: a map computes keys, arguments and filters as columns, the aggregate reads them by position.

use datafusion_expr::expr::AggregateFunction as Call;
use datafusion_expr::logical_plan::Aggregate as Plan;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan};
use relation::{Column, DataType};

use super::expression::{Scope, plain};
use super::map::Output;
use super::{Lowering, Result};
use crate::flow::{Aggregate, AggregateFunction, NodeId, Op};
use crate::refusal::{Refusal, locate};
use crate::unique::Facts;

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, plan: &Plan) -> Result<NodeId> {
        let input = self.plan(&plan.input)?;
        let scope = Scope::of(plan.input.schema(), input);
        let mut below: Vec<Output> = Vec::new();
        for (expr, field) in plan.group_expr.iter().zip(plan.schema.fields()) {
            below.push(self.output(expr, field, &scope, input)?);
        }
        let groups = below.len();
        let mut aggregates = Vec::new();
        let mut columns: Vec<Column> = below.iter().map(|(_, column)| column.clone()).collect();
        for (expr, field) in plan.aggr_expr.iter().zip(plan.schema.fields().iter().skip(groups)) {
            let call = self.call(expr)?;
            let function = self.function(call)?;
            let output = self.canonical(field)?;
            let aggregate = self.one((call, function), output, &plan.input, &scope, input, &mut below)?;
            columns.push(Column {
                name: field.name().clone(),
                data_type: aggregate.output,
                nullable: field.is_nullable(),
            });
            aggregates.push(aggregate);
        }
        let (input, group) = self.grouped(input, below, groups);
        if let Some(rows) = self.rows_of_groups(input, &group, &aggregates, &columns) {
            return Ok(rows);
        }
        let facts = self.of_groups(input, &group, columns.len());
        Ok(self.add(Op::Aggregate { group, aggregates }, vec![input], columns, facts))
    }

    /// Groups of one row each, of which the least and the greatest values are asked for: the rows themselves.
    fn rows_of_groups(
        &mut self,
        input: NodeId,
        group: &[usize],
        aggregates: &[Aggregate],
        columns: &[Column],
    ) -> Option<NodeId> {
        if group.is_empty() || aggregates.is_empty() || !self.facts(input).determined_by(group) {
            return None;
        }
        let is_value = |of: &Aggregate| matches!(of.function, AggregateFunction::Min | AggregateFunction::Max);
        let value = |of: &Aggregate| of.argument.filter(|_| is_value(of) && of.filter.is_none());
        let values = aggregates.iter().map(value).collect::<Option<Vec<_>>>()?;
        let kept = group.iter().copied().chain(values).zip(columns);
        let outputs = kept.map(|(at, column)| (super::column(at), column.clone())).collect();
        Some(self.map(input, None, outputs))
    }

    /// DISTINCT: groups of all columns.
    pub(super) fn distinct(&mut self, plan: &LogicalPlan) -> Result<NodeId> {
        let input = self.plan(plan)?;
        let columns = self.columns(input).to_vec();
        let group: Vec<usize> = (0..columns.len()).collect();
        let facts = self.of_groups(input, &group, columns.len());
        Ok(self.add(Op::Aggregate { group, aggregates: vec![] }, vec![input], columns, facts))
    }

    fn grouped(&mut self, input: NodeId, below: Vec<Output>, groups: usize) -> (NodeId, Vec<usize>) {
        (self.map(input, None, below), (0..groups).collect())
    }

    /// Groups are identified by their columns, or fewer where a key of the input is among them.
    fn group_key(&self, input: NodeId, group: &[usize]) -> Vec<usize> {
        let facts = self.facts(input);
        let key = facts.key_within(group).unwrap_or_else(|| facts.identifying(group));
        key.iter()
            .map(|k| group.iter().position(|g| g == k))
            .collect::<Option<_>>()
            .unwrap_or_else(|| (0..group.len()).collect())
    }

    /// What is known of groups: their key, and what follows from what among their columns.
    fn of_groups(&self, input: NodeId, group: &[usize], columns: usize) -> Facts {
        let sources: Vec<_> = (0..columns).map(|at| group.get(at).copied()).collect();
        let follows = self.facts(input).projected(&sources).follows;
        Facts { follows, ..Facts::new(columns, Some(self.group_key(input, group))) }
    }

    fn call<'e>(&self, expr: &'e Expr) -> Result<&'e Call> {
        match expr {
            Expr::Alias(alias) => self.call(&alias.expr),
            Expr::AggregateFunction(call) => Ok(call),
            other => Err(Refusal::cannot_keep(format!("{other} is no aggregate that can be kept."))),
        }
    }

    fn one(
        &self,
        (call, function): (&Call, AggregateFunction),
        output: DataType,
        plan: &LogicalPlan,
        scope: &Scope<'_>,
        input: NodeId,
        below: &mut Vec<Output>,
    ) -> Result<Aggregate> {
        let arguments = &call.params.args;
        let argument = match (function, &arguments[..]) {
            (AggregateFunction::Count, [Expr::Literal(value, _)]) if !value.is_null() && !call.params.distinct => None,
            (_, [argument]) => Some(self.position(argument, plan, scope, input, below)?),
            (_, several) => {
                let detail = format!("{}() of {} arguments is not supported.", call.func.name(), several.len());
                let hint = "Count the rows of a subquery: select count(*) from (select distinct a, b from …).";
                return Err(Refusal::cannot_keep(detail).with_hint(hint).at(self.sql, call.func.name()));
            }
        };
        let filter = call.params.filter.as_ref();
        let filter = filter.map(|f| self.position(f, plan, scope, input, below)).transpose()?;
        let extremum = matches!(function, AggregateFunction::Min | AggregateFunction::Max);
        let idempotent = extremum || matches!(function, AggregateFunction::BoolAnd | AggregateFunction::BoolOr);
        let sums = matches!(function, AggregateFunction::Sum | AggregateFunction::Avg);
        if sums && call.params.distinct && argument.is_some_and(|at| below[at].1.data_type == DataType::Interval) {
            let detail = format!("{}(distinct …) of intervals is not supported yet.", call.func.name());
            let hint = "Of equal intervals of other parts, 1 mon and 30 days, it would take one: convert them with extract(epoch from …).";
            return Err(Refusal::cannot_keep(detail).with_hint(hint).at(self.sql, call.func.name()));
        }
        let output = match argument {
            Some(argument) if extremum => below[argument].1.data_type,
            _ => output,
        };
        Ok(Aggregate { function, argument, filter, distinct: call.params.distinct && !idempotent, output })
    }

    /// The column of the map below that holds an argument, added if there is none yet.
    fn position(
        &self,
        expr: &Expr,
        plan: &LogicalPlan,
        scope: &Scope<'_>,
        input: NodeId,
        below: &mut Vec<Output>,
    ) -> Result<usize> {
        let (_, field) = expr.to_field(plan.schema())?;
        let (computed, mut column) = self.output(expr, &field, scope, input)?;
        if let Some(known) = below.iter().position(|(expr, _)| *expr == computed) {
            return Ok(known);
        }
        if plain(&computed).is_none() {
            column.name = expr.human_display().to_string();
        }
        below.push((computed, column));
        Ok(below.len() - 1)
    }

    fn function(&self, call: &Call) -> Result<AggregateFunction> {
        let name = call.func.name();
        Ok(match name {
            "count" => AggregateFunction::Count,
            "sum" => AggregateFunction::Sum,
            "avg" => AggregateFunction::Avg,
            "min" => AggregateFunction::Min,
            "max" => AggregateFunction::Max,
            "bool_and" => AggregateFunction::BoolAnd,
            "bool_or" => AggregateFunction::BoolOr,
            _ => return Err(self.other_aggregate(name)),
        })
    }

    fn other_aggregate(&self, name: &str) -> Refusal {
        // Distinct texts are put together from an array of them.
        let written = |name: &str| locate(self.sql, name).is_some();
        let name = if name == "array_agg" && !written(name) && written("string_agg") { "string_agg" } else { name };
        let refusal = match name {
            "first_value" | "last_value" | "any_value" | "nth_value" => {
                let detail = format!("{name}() depends on the order in which rows arrive.");
                let hint = "Take min() or max(), or the first row of a group: row_number() over (partition by … order by …) = 1.";
                Refusal::cannot_keep(detail).with_hint(hint)
            }
            _ if name.starts_with("approx_") => {
                let detail = format!("{name}() is an estimate that no row can be taken out of.");
                Refusal::cannot_keep(detail).with_hint("Use the exact function.")
            }
            _ => Refusal::cannot_keep(format!("{name}() is not supported yet."))
                .or_in_a_view("Kept are count, sum, avg, min, max, bool_and and bool_or, with DISTINCT and FILTER."),
        };
        refusal.at(self.sql, name)
    }
}
