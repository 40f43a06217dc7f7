//! The rules of the analyser that are ours, in their order: one list for models and for readers, so that both mean the same.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_common::config::ConfigOptions;
use datafusion_expr::LogicalPlan;
use datafusion_optimizer::AnalyzerRule;

use crate::postgres::forms;
use crate::{alike, copies, decided, existence, filtered, lateral, outer_rows, subquery_values, unreal, zero};

/// A rule of the analyser that is one function of a plan.
#[derive(Debug)]
struct Rewrite {
    name: &'static str,
    rewrite: fn(LogicalPlan) -> Result<LogicalPlan>,
}

impl AnalyzerRule for Rewrite {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        (self.rewrite)(plan)
    }

    fn name(&self) -> &str {
        self.name
    }
}

fn rule(name: &'static str, rewrite: fn(LogicalPlan) -> Result<LogicalPlan>) -> Arc<dyn AnalyzerRule + Send + Sync> {
    Arc::new(Rewrite { name, rewrite })
}

/// What a plan means here and not in DataFusion; these stand behind its agreement on types.
pub fn rules_of_meaning() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        rule("unreal", unreal::analysed),
        rule("forms", forms::analysed),
        rule("literals", forms::literals_read),
        rule("subquery_values", subquery_values::analysed),
        rule("one_zero", zero::analysed),
        rule("alike", alike::analysed),
        rule("only_filtered", filtered::analysed),
        rule("decided", decided::analysed),
    ]
}

/// What stands before the agreement on types: subqueries beside what they are of, which of a model its planning puts there, and copies
/// of rows, which no model counts.
pub fn rules_before_types() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        rule("outer_rows", outer_rows::partitioned),
        rule("lateral_one_row", lateral::inlined),
        rule("copies", copies::counted),
    ]
}

/// Forms of subqueries that DataFusion does not execute, written by those that it does; before [`rules_of_meaning`]. Of a model
/// its lowering does so.
pub fn rules_of_subqueries() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![rule("existence", existence::counted)]
}
