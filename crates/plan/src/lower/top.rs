//! The first rows of groups: a filter that bounds `row_number()`, and ORDER BY with LIMIT.

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::{Sort as SortExpr, WindowFunction};
use datafusion_expr::logical_plan::{FetchType, Filter, Limit, Projection, SkipType, Sort, Window};
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use relation::key::Order;
use relation::{Column, DataType};

use super::expression::Scope;
use super::{Lowering, Result};
use crate::flow::{NodeId, Op};
use crate::refusal::Refusal;
use crate::unique::Facts;

/// Which numbers a filter lets through.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    first: i64,
    last: Option<i64>,
}

/// The same plan with a filter moved down to the window below it; none if there is no window.
pub(super) fn filter_above_window(predicate: &Expr, plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let (input, below): (&LogicalPlan, Vec<Expr>) = match plan {
        LogicalPlan::Window(_) => {
            let filter = Filter::try_new(predicate.clone(), std::sync::Arc::new(plan.clone()))?;
            return Ok(Some(LogicalPlan::Filter(filter)));
        }
        LogicalPlan::SubqueryAlias(alias) => {
            (&alias.input, alias.input.schema().columns().into_iter().map(Expr::Column).collect())
        }
        LogicalPlan::Projection(projection) => {
            (&projection.input, projection.expr.iter().map(|expr| expr.clone().unalias()).collect())
        }
        _ => return Ok(None),
    };
    let lowered = replaced(predicate, plan.schema(), &below)?;
    let Some(input) = filter_above_window(&lowered, input)? else { return Ok(None) };
    Ok(Some(plan.with_new_exprs(plan.expressions(), vec![input])?))
}

/// The expression with each column of a schema replaced.
fn replaced(expr: &Expr, schema: &DFSchema, by: &[Expr]) -> Result<Expr> {
    let replaced = expr.clone().transform_up(|part| match &part {
        Expr::Column(name) => Ok(match schema.maybe_index_of_column(name).and_then(|i| by.get(i)) {
            Some(expr) => Transformed::yes(expr.clone()),
            None => Transformed::no(part),
        }),
        _ => Ok(Transformed::no(part)),
    })?;
    Ok(replaced.data)
}

impl Lowering<'_> {
    /// A filter above `row_number()`.
    pub(super) fn top_of_groups(&mut self, predicate: &Expr, window: &Window) -> Result<NodeId> {
        let Some(function) = only_row_number(window) else { return Err(self.unbounded(window)) };
        let number = window.schema.fields().len() - 1;
        let mut bounds = Bounds { first: 1, last: None };
        let conjuncts = split_conjunction(predicate).into_iter();
        let rest: Vec<_> = conjuncts.filter(|c| !bounds.narrow(c, &window.schema, number)).cloned().collect();
        let Some(last) = bounds.last else { return Err(self.unbounded(window)) };
        let input = self.plan(&window.input)?;
        if last < bounds.first {
            let columns = self.numbered_columns(input, window);
            return Ok(self.constants(vec![], columns));
        }
        let params = &function.params;
        let limits = (bounds.first.unsigned_abs() - 1, (last - bounds.first + 1).unsigned_abs());
        let name = Some(window.schema.field(number).name().as_str());
        let node = self.top(input, window.input.schema(), &params.partition_by, &params.order_by, limits, name)?;
        let Some(condition) = conjunction(rest) else { return Ok(node) };
        let condition = self.expression(&condition, &Scope::of(&window.schema, node))?;
        let outputs = self.all_columns(node);
        Ok(self.map(node, Some(condition), outputs))
    }

    fn numbered_columns(&self, input: NodeId, window: &Window) -> Vec<Column> {
        let name = window.schema.fields().last().map(|f| f.name().clone()).unwrap_or_default();
        self.columns(input).iter().cloned().chain([number_column(&name)]).collect()
    }

    /// ORDER BY … LIMIT, also through projections between the two.
    pub(super) fn limit(&mut self, limit: &Limit) -> Result<NodeId> {
        let (skip, fetch) = match (limit.get_skip_type()?, limit.get_fetch_type()?) {
            (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) => (skip as u64, fetch as u64),
            (SkipType::Literal(_), FetchType::Literal(None)) => {
                let refusal = Refusal::cannot_keep("OFFSET without LIMIT keeps nearly every row in order.");
                return Err(refusal.with_hint("Add a LIMIT.").at(self.sql, "offset"));
            }
            _ => {
                return Err(Refusal::cannot_keep("LIMIT and OFFSET must be constants.").at(self.sql, "limit"));
            }
        };
        let (projections, sorted, order) = below_limit(&limit.input);
        let input = self.plan(sorted)?;
        let mut node = self.top(input, sorted.schema(), &[], order, (skip, fetch), None)?;
        for projection in projections.into_iter().rev() {
            node = self.projection(projection, node)?;
        }
        Ok(node)
    }

    /// An order by itself says nothing about which rows there are.
    pub(super) fn sort(&mut self, sort: &Sort) -> Result<NodeId> {
        let input = self.plan(&sort.input)?;
        match sort.fetch {
            None => Ok(input),
            Some(fetch) => self.top(input, sort.input.schema(), &[], &sort.expr, (0, fetch as u64), None),
        }
    }

    /// The top-k over an input; partition and order may be any expressions. `limits` are offset and limit.
    fn top(
        &mut self,
        input: NodeId,
        schema: &DFSchema,
        partition: &[Expr],
        order: &[SortExpr],
        (offset, limit): (u64, u64),
        number: Option<&str>,
    ) -> Result<NodeId> {
        let own = self.columns(input).len();
        let mut below = self.all_columns(input);
        let scope = Scope::of(schema, input);
        let mut position = |expr: &Expr| -> Result<usize> {
            let (_, field) = expr.to_field(schema)?;
            let (computed, mut column) = self.output(expr, &field, &scope, input)?;
            let known = below.iter().position(|(expr, _)| *expr == computed);
            if known.is_none() {
                column.name = expr.human_display().to_string();
                below.push((computed, column));
            }
            Ok(known.unwrap_or(below.len() - 1))
        };
        let constant = |expr: &Expr| matches!(expr, Expr::Literal(..));
        let partition = partition.iter().filter(|e| !constant(e)).map(&mut position).collect::<Result<Vec<_>>>()?;
        let order = order
            .iter()
            .filter(|sort| !constant(&sort.expr))
            .map(|sort| Ok((position(&sort.expr)?, Order { descending: !sort.asc, nulls_first: sort.nulls_first })));
        let order = order.collect::<Result<Vec<_>>>()?;
        let input = self.map(input, None, below);
        let order = self.deciding(input, &partition, order);
        let node = self.add_top(input, partition, order, (offset, limit), number);
        let all = self.columns(node).len();
        let extended = self.columns(input).len();
        let kept: Vec<usize> = (0..own).chain(extended..all).collect();
        Ok(self.choose(node, &kept))
    }

    /// Columns of an order that can still decide: none after a key, none twice.
    fn deciding(&self, input: NodeId, partition: &[usize], order: Vec<(usize, Order)>) -> Vec<(usize, Order)> {
        let facts = self.facts(input);
        let mut fixed = partition.to_vec();
        let mut out = Vec::new();
        for (column, direction) in order {
            if facts.determined_by(&fixed) {
                break;
            }
            if !fixed.iter().any(|&f| facts.same[f] == facts.same[column]) {
                out.push((column, direction));
                fixed.push(column);
            }
        }
        out
    }

    fn add_top(
        &mut self,
        input: NodeId,
        partition: Vec<usize>,
        order: Vec<(usize, Order)>,
        (offset, limit): (u64, u64),
        number: Option<&str>,
    ) -> NodeId {
        let mut columns = self.columns(input).to_vec();
        let facts = self.facts(input);
        let unique = match (limit, &facts.unique, number) {
            (0 | 1, _, _) => Some(partition.clone()),
            (_, Some(key), _) => Some(key.clone()),
            (_, None, Some(_)) => Some([partition.clone(), vec![columns.len()]].concat()),
            (_, None, None) => None,
        };
        let (mut same, mut constant) = (facts.same.clone(), facts.constant.clone());
        if let Some(name) = number {
            same.push(columns.len());
            constant.push(false);
            columns.push(number_column(name));
        }
        let op = Op::TopK { partition, order, offset, limit, numbered: number.is_some() };
        let follows = facts.dependencies().collect();
        self.add(op, vec![input], columns, Facts { unique, same, constant, follows })
    }

    /// A window that no filter makes small.
    pub(super) fn unbounded(&self, window: &Window) -> Refusal {
        let functions: Vec<_> = window.window_expr.iter().filter_map(window_function).collect();
        let other = functions.iter().find(|f| f.fun.name() != "row_number");
        let Some(function) = other.or(functions.first()) else {
            return Refusal::cannot_keep("This window is not supported yet.").or_in_a_view("").at(self.sql, "over");
        };
        let name = function.fun.name();
        let shown = shown(function);
        let refusal = if name != "row_number" {
            Refusal::cannot_keep(format!("{shown} is not supported yet."))
                .or_in_a_view("Kept is row_number() where a filter keeps the first rows: where rn <= 10.")
        } else if functions.len() > 1 || nested(&window.input) {
            Refusal::cannot_keep("Several row_number() over one input are not supported yet.")
                .with_hint("Filter the first one in a subquery of its own before numbering again.")
        } else if function.params.partition_by.is_empty() {
            Refusal::cannot_keep(format!("{shown} has no incremental form."))
                .or_in_a_view("Or keep the first rows only: where rn <= 10.")
        } else {
            Refusal::cannot_keep(format!("{shown} numbers whole partitions, which is not supported yet."))
                .or_in_a_view("Or keep the first rows only: where rn <= 10.")
        };
        // Rows with ties are ranked without a word of it.
        refusal.at(self.sql, name).at(self.sql, "with ties").at(self.sql, "over")
    }
}

fn number_column(name: &str) -> Column {
    Column { name: name.to_owned(), data_type: DataType::Int64, nullable: false }
}

fn window_function(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::Alias(alias) => window_function(&alias.expr),
        Expr::WindowFunction(function) => Some(function),
        _ => None,
    }
}

fn only_row_number(window: &Window) -> Option<&WindowFunction> {
    match &window.window_expr[..] {
        [only] => window_function(only).filter(|f| f.fun.name() == "row_number"),
        _ => None,
    }
}

/// Whether a window reads another one that nothing has bounded.
fn nested(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Window(_) => true,
        LogicalPlan::Projection(projection) => nested(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => nested(&alias.input),
        _ => false,
    }
}

/// `row_number() over (partition by … order by …)`.
fn shown(function: &WindowFunction) -> String {
    let params = &function.params;
    let arguments = if params.args.is_empty() { "" } else { "…" };
    let partition = (!params.partition_by.is_empty()).then_some("partition by …");
    let order = (!params.order_by.is_empty()).then_some("order by …");
    let over: Vec<_> = partition.into_iter().chain(order).collect();
    format!("{}({arguments}) over ({})", function.fun.name(), over.join(" "))
}

/// Projections between a limit and its order (outermost first), what is sorted, and how.
fn below_limit(plan: &LogicalPlan) -> (Vec<&Projection>, &LogicalPlan, &[SortExpr]) {
    let mut projections = Vec::new();
    let mut at = plan;
    loop {
        match at {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                return (projections, &sort.input, &sort.expr);
            }
            LogicalPlan::Projection(projection) => {
                projections.push(projection);
                at = &projection.input;
            }
            LogicalPlan::SubqueryAlias(alias) => at = &alias.input,
            // An input of at most one row was given no order.
            _ => return (vec![], plan, &[]),
        }
    }
}

impl Bounds {
    /// Takes a condition on the number into account; false if it says something else, and must stay.
    fn narrow(&mut self, condition: &Expr, schema: &DFSchema, number: usize) -> bool {
        let is_number = |expr: &Expr| is_column(expr, schema, number);
        match condition {
            Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
                if let Some(highest) = highest_of_either(condition, &is_number) {
                    self.compare(Operator::LtEq, highest);
                }
                false
            }
            Expr::BinaryExpr(binary) => {
                let (operator, value) = match (is_number(&binary.left), is_number(&binary.right)) {
                    (true, false) => (Some(binary.op), integer(&binary.right)),
                    (false, true) => (binary.op.swap(), integer(&binary.left)),
                    _ => return false,
                };
                let (Some(operator), Some(value)) = (operator, value) else { return false };
                self.compare(operator, value)
            }
            Expr::Between(between) if is_number(&between.expr) && !between.negated => {
                let (Some(low), Some(high)) = (integer(&between.low), integer(&between.high)) else {
                    return false;
                };
                self.compare(Operator::GtEq, low) && self.compare(Operator::LtEq, high)
            }
            Expr::InList(list) if is_number(&list.expr) && !list.negated => {
                let values = list.list.iter().map(integer).collect::<Option<Vec<_>>>();
                if let Some(highest) = values.and_then(|v| v.into_iter().max()) {
                    self.compare(Operator::LtEq, highest);
                }
                false
            }
            _ => false,
        }
    }

    fn compare(&mut self, operator: Operator, value: i64) -> bool {
        let (first, last) = match operator {
            Operator::Eq => (Some(value), Some(value)),
            Operator::LtEq => (None, Some(value)),
            Operator::Lt => (None, Some(value.saturating_sub(1))),
            Operator::GtEq => (Some(value), None),
            Operator::Gt => (Some(value.saturating_add(1)), None),
            _ => return false,
        };
        self.first = self.first.max(first.unwrap_or(1));
        self.last = last.map(|l| self.last.map_or(l, |have| have.min(l))).or(self.last);
        true
    }
}

/// The highest number that `n = 1 or n = 3` lets through.
fn highest_of_either(condition: &Expr, is_number: &impl Fn(&Expr) -> bool) -> Option<i64> {
    let Expr::BinaryExpr(binary) = condition else { return None };
    match binary.op {
        Operator::Or => {
            let either = highest_of_either(&binary.left, is_number)?;
            Some(either.max(highest_of_either(&binary.right, is_number)?))
        }
        Operator::Eq if is_number(&binary.left) => integer(&binary.right),
        _ => None,
    }
}

fn is_column(expr: &Expr, schema: &DFSchema, position: usize) -> bool {
    match expr {
        Expr::Column(name) => schema.maybe_index_of_column(name) == Some(position),
        Expr::Cast(cast) => is_column(&cast.expr, schema, position),
        Expr::Alias(alias) => is_column(&alias.expr, schema, position),
        _ => false,
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    if !value.data_type().is_integer() {
        return None;
    }
    match value.cast_to(&arrow::datatypes::DataType::Int64).ok()? {
        ScalarValue::Int64(value) => value,
        _ => None,
    }
}
