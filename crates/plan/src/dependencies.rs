//! What DataFusion believes to be unique or determined, put right.
//!
//! A plan's schema carries functional dependencies: which columns are a key, and which follow from others. They decide
//! whether DISTINCT may be left out, a join dropped, a column taken from GROUP BY or ORDER BY, or added to it without
//! being asked for. DataFusion gets those of an aggregate wrong: grouping a join of orders and items by `(order.id,
//! item.sku)` makes it believe that `order.id` is a key of the groups. The law here: groups are identified by all their
//! columns, or by those of a dependency that determines all of them; what else is determined is what was so below.
//!
//! [`corrected`] brings a plan's dependencies to this law. It stands wherever they are asked: in SQL planning for each
//! relation of a FROM list ([`relations`]), and before each rule of the optimiser that reads them ([`crate::mended`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Dependency, FunctionalDependence, FunctionalDependencies, Result};
use datafusion_expr::logical_plan::{Aggregate, Unnest};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_sql::sqlparser::ast::TableFactor;

/// The plan with true dependencies in the schemas of all its nodes.
pub fn corrected(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(correct(plan)?.data)
}

fn correct(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let plan = plan.map_subqueries(correct)?.data.map_children(correct)?;
    let (plan, below) = (plan.data, plan.transformed);
    let plan = if below { plan.recompute_schema()? } else { plan };
    match plan {
        LogicalPlan::Aggregate(mut aggregate) => {
            let truth = of_groups(&aggregate);
            let wrong = *aggregate.schema.functional_dependencies() != truth;
            if wrong {
                aggregate.schema = with_dependencies(&aggregate.schema, truth)?;
            }
            Ok(Transformed::new_transformed(LogicalPlan::Aggregate(aggregate), below || wrong))
        }
        // Rows are multiplied, and columns change places.
        LogicalPlan::Unnest(unnest) if !unnest.schema.functional_dependencies().is_empty() => {
            let schema = with_dependencies(&unnest.schema, FunctionalDependencies::empty())?;
            Ok(Transformed::yes(LogicalPlan::Unnest(Unnest { schema, ..unnest })))
        }
        other => Ok(Transformed::new_transformed(other, below)),
    }
}

fn with_dependencies(schema: &DFSchema, dependencies: FunctionalDependencies) -> Result<Arc<DFSchema>> {
    Ok(Arc::new(schema.clone().with_functional_dependencies(dependencies)?))
}

/// What is determined among groups and their aggregates.
fn of_groups(aggregate: &Aggregate) -> FunctionalDependencies {
    let groups = aggregate.group_expr.len();
    if groups == 0 || aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return FunctionalDependencies::empty();
    }
    let input = aggregate.input.schema();
    let sources: Vec<Option<usize>> = aggregate.group_expr.iter().map(|expr| input_column(expr, input)).collect();
    let position = |column: &usize| sources.iter().position(|source| *source == Some(*column));
    let everything: Vec<usize> = (0..aggregate.schema.fields().len()).collect();
    let mut out = Vec::new();
    for dependence in input.functional_dependencies().iter() {
        let Some(key) = dependence.source_indices.iter().map(position).collect::<Option<Vec<_>>>() else { continue };
        let follows = |source: &Option<usize>| source.is_some_and(|column| dependence.target_indices.contains(&column));
        let determined: Vec<usize> = (0..groups).filter(|i| key.contains(i) || follows(&sources[*i])).collect();
        let whole = determined.len() == groups;
        let targets = if whole { everything.clone() } else { determined };
        let mode = if whole { Dependency::Single } else { Dependency::Multi };
        out.push(FunctionalDependence::new(key, targets, dependence.nullable).with_mode(mode));
    }
    if !out.iter().any(|dependence| dependence.mode == Dependency::Single) {
        let nullable = (0..groups).any(|i| aggregate.schema.field(i).is_nullable());
        let all = FunctionalDependence::new((0..groups).collect(), everything, nullable);
        out.push(all.with_mode(Dependency::Single));
    }
    FunctionalDependencies::new(out)
}

fn input_column(expr: &Expr, input: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => input_column(&alias.expr, input),
        Expr::Column(column) => input.maybe_index_of_column(column),
        _ => None,
    }
}

/// What SQL planning must be given (`ContextProvider::get_relation_planners`): every relation of a FROM list comes with
/// true dependencies. One for each text that is planned.
pub fn relations() -> Vec<Arc<dyn RelationPlanner>> {
    vec![Arc::new(Relations::default())]
}

#[derive(Debug, Default)]
struct Relations {
    /// Planning a relation by DataFusion's own means asks here again, first of all, for the same relation.
    asked: AtomicBool,
}

impl RelationPlanner for Relations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        if self.asked.swap(false, Ordering::Relaxed) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        self.asked.store(true, Ordering::Relaxed);
        let planned = context.plan(relation)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(corrected(planned)?, None))))
    }
}
