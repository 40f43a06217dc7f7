//! DataFusion's optimiser, without the rules' mistakes.
//!
//! A model is built, kept and recomputed by plans that went through the same rules, so that a wrong rule makes all three
//! agree on a wrong answer. [`mended`] takes a list of rules and puts ours in the place of those known to be wrong; models
//! ([`crate::optimise`]) and queries use it alike. Each mend has its case in `engine/tests/cases/planner`.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

use crate::dependencies::corrected;
use crate::membership::Membership;

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The rules, with ours in the place of wrong ones.
pub fn mended(rules: Vec<Rule>) -> Vec<Rule> {
    let ours: Rule = Arc::new(Membership);
    std::iter::once(ours).chain(rules.into_iter().map(replaced)).collect()
}

fn replaced(rule: Rule) -> Rule {
    match rule.name() {
        "push_down_filter" => Arc::new(AboveTotals(rule)),
        "eliminate_join" | "replace_distinct_aggregate" | "eliminate_duplicated_expr" | "optimize_projections" => {
            Arc::new(TrueDependencies(rule))
        }
        "single_distinct_aggregation_to_group_by" => Arc::new(SameTypes(rule)),
        "simplify_expressions" => Arc::new(PlannedTypes(rule)),
        _ => rule,
    }
}

/// A rule that makes a sum of sums, whose decimals are wider than those that were planned: kept only where types stay.
#[derive(Debug)]
struct SameTypes(Rule);

impl OptimizerRule for SameTypes {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Aggregate(_)) {
            return self.0.rewrite(plan, config);
        }
        let made = self.0.rewrite(plan.clone(), config)?;
        let types = |plan: &LogicalPlan| -> Vec<_> {
            plan.schema().fields().iter().map(|field| field.data_type().clone()).collect()
        };
        Ok(if types(&made.data) == types(&plan) { made } else { Transformed::no(plan) })
    }
}

/// Filters do not go below an aggregate that has a row for no input: one without groups, or with a grouping set.
///
/// `push_down_filter` moves a condition down when all its columns are group columns, which is so of a constant: above a
/// total, `where 'b' = 'a'` drops the row, below it the row shows a total of nothing.
#[derive(Debug)]
struct AboveTotals(Rule);

impl OptimizerRule for AboveTotals {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Filter(filter) if has_total(&filter.input) => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

fn has_total(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.group_expr.is_empty() || aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)))
        }
        _ => false,
    }
}

/// A rule that reads functional dependencies, with true ones put under it ([`crate::dependencies`]).
#[derive(Debug)]
struct TrueDependencies(Rule);

impl OptimizerRule for TrueDependencies {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        // A rule that is led node by node asks at these alone; one that walks by itself gets the whole plan.
        let asks = matches!(plan, LogicalPlan::Distinct(_) | LogicalPlan::Sort(_));
        let plan = if asks || self.apply_order().is_none() { corrected(plan)? } else { plan };
        self.0.rewrite(plan, config)
    }
}

/// A rule that simplifies expressions, kept from changing the types of decimals.
///
/// It takes `a * 0` for the zero as it is written, and `a % 1` for a zero like `a`: numbers of another scale than the
/// product was planned with, so that a column would change its type and its digits with a constant. Each such product goes through the rule in a cast to its own type, and where the rule leaves it a product the cast goes.
#[derive(Debug)]
struct PlannedTypes(Rule);

impl OptimizerRule for PlannedTypes {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let inputs = merge_schema(&plan.inputs());
        let held = plan.map_expressions(|expr| expr.transform_up(|part| Ok(held(part, &inputs))))?;
        if !held.transformed {
            return self.0.rewrite(held.data, config);
        }
        let made = self.0.rewrite(held.data, config)?;
        let freed = made.data.map_expressions(|expr| expr.transform_up(|part| Ok(freed(part, &inputs))))?;
        Ok(Transformed::new_transformed(freed.data, made.transformed))
    }
}

fn held(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let product = matches!(&expr, Expr::BinaryExpr(b) if matches!(b.op, Operator::Multiply | Operator::Modulo));
    match expr.get_type(schema) {
        Ok(planned) if product && planned.is_decimal() => Transformed::yes(cast(expr, planned)),
        _ => Transformed::no(expr),
    }
}

fn freed(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::Cast(cast)
            if cast.expr.get_type(schema).is_ok_and(|own| own.is_decimal() && own == *cast.field.data_type()) =>
        {
            Transformed::yes(*cast.expr)
        }
        other => Transformed::no(other),
    }
}
