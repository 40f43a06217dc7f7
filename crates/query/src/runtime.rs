//! What all queries share: functions, planner rules, memory, the place to spill. Made once, so that a query costs no
//! more than its own planning.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::registry::FunctionRegistry as _;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{Analyzer, AnalyzerRule, ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use crate::barrier::Leakproof;
use crate::bounded::{Bounded, Constants};
use crate::conditions::InOrder;
use crate::constants::TrueConstants;
use crate::error::Result;
use crate::isolate::Planner;
use crate::known::Memory;
use crate::known_counts::KnownCounts;
use crate::limits::KeptLimits;
use crate::memory::Budget;
use crate::pg_catalog::TypeNames;
use crate::planning::{RULES_OF_MORE, WhereAsked};
use crate::watch::{self, Watch};

/// Bytes that all queries together may spill.
const SPILL_BYTES_MAX: u64 = 16 << 30;

/// How queries run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes that all queries together may hold; one query may hold three quarters of it. Beyond it they spill or fail.
    pub memory_bytes: usize,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Threads that one query uses at most.
    pub target_partitions: usize,
    /// Where queries spill; default: the system's folder for temporary files.
    pub spill_folder: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { memory_bytes: 1 << 30, batch_rows: 8192, target_partitions: 2, spill_folder: None }
    }
}

/// Which joins a plan uses: hash joins are faster, sort-merge joins spill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joins {
    Hash,
    SortMerge,
}

/// The common part of all sessions. Cheap to share behind an `Arc`.
pub struct Runtime {
    hash: SessionState,
    sort_merge: SessionState,
    /// The first for plans that read few rows: in one partition.
    small: SessionState,
    /// The optimiser's rules that plans of one SELECT need.
    plain: Optimizer,
    /// Its settings, with which it goes over a plan once.
    once: Arc<ConfigOptions>,
    environment: RuntimeEnv,
    budget: Arc<Budget>,
    /// What the optimiser does with values that are put into an optimised plan.
    finishing: Optimizer,
    /// The same of a plan of one SELECT.
    finishing_plain: Optimizer,
    /// What is known of statements that have been planned.
    pub(crate) memory: Memory,
}

impl Runtime {
    /// Sets up functions, rules and limits. Errors: the spill folder cannot be used.
    pub fn new(settings: &Settings) -> Result<Arc<Self>> {
        let mode = match &settings.spill_folder {
            Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let mut disk = DiskManagerBuilder::default().with_mode(mode);
        disk.set_max_temp_directory_size(SPILL_BYTES_MAX);
        let environment = RuntimeEnvBuilder::new().with_disk_manager_builder(disk).build()?;
        let shared = Arc::new(environment.clone());
        let hash = state(config(settings, Joins::Hash), Arc::clone(&shared))?;
        let sort_merge = state(config(settings, Joins::SortMerge), Arc::clone(&shared))?;
        let small = small(config(settings, Joins::Hash).with_target_partitions(1), shared)?;
        let mut once = hash.config_options().as_ref().clone();
        once.optimizer.max_passes = 1;
        Ok(Arc::new(Self {
            hash,
            sort_merge,
            small,
            plain: Optimizer::with_rules(plain_rules()),
            once: Arc::new(once),
            environment,
            budget: Budget::new(settings.memory_bytes),
            finishing: finishing(rules()),
            finishing_plain: finishing(plain_rules()),
            memory: Memory::default(),
        }))
    }

    /// Bytes that running queries have reserved.
    pub fn memory_used(&self) -> usize {
        self.budget.used()
    }

    pub(crate) fn state(&self, joins: Joins) -> &SessionState {
        match joins {
            Joins::Hash => &self.hash,
            Joins::SortMerge => &self.sort_merge,
        }
    }

    /// The state of plans that read few rows.
    pub(crate) fn small(&self) -> &SessionState {
        &self.small
    }

    pub(crate) fn finishing(&self) -> &Optimizer {
        &self.finishing
    }

    pub(crate) fn finishing_plain(&self) -> &Optimizer {
        &self.finishing_plain
    }

    /// The optimiser of plain plans ([`crate::planning::is_plain`]).
    pub(crate) fn plain(&self) -> &Optimizer {
        &self.plain
    }

    /// Settings with which an optimiser goes over a plan once.
    pub(crate) fn once(&self) -> &Arc<ConfigOptions> {
        &self.once
    }

    /// What one query executes with: its own part of the memory. Plans hold their functions, so it lists none.
    pub(crate) fn task(&self, state: &SessionState, watch: Option<&Arc<Watch>>) -> Arc<TaskContext> {
        let environment = RuntimeEnv { memory_pool: self.budget.query(watch), ..self.environment.clone() };
        let config = state.config().clone();
        let (scalars, higher_order) = (Default::default(), Default::default());
        let (aggregates, windows) = (Default::default(), Default::default());
        let id = String::new();
        Arc::new(TaskContext::new(None, id, config, scalars, higher_order, aggregates, windows, environment.into()))
    }
}

/// The settings of `plan`, and how one query runs.
fn config(settings: &Settings, joins: Joins) -> SessionConfig {
    let mut options = plan::settings::config();
    options.optimizer.prefer_hash_join = joins == Joins::Hash;
    // What a sort sets aside to merge its spilled runs must leave room for the sort itself.
    let set_aside = settings.memory_bytes / 32;
    options.execution.sort_spill_reservation_bytes = options.execution.sort_spill_reservation_bytes.min(set_aside);
    options.execution.sort_in_place_threshold_bytes = options.execution.sort_in_place_threshold_bytes.min(set_aside);
    // A read of a few keys is not worth a second thread; scans know how many rows they yield at most.
    options.execution.use_row_number_estimates_to_optimize_partitioning = true;
    // It fails queries over a difference in nullability alone, which `count(*) filter (…)` over a semi join has.
    options.execution.skip_physical_aggregate_schema_check = true;
    options.catalog.create_default_catalog_and_schema = false;
    SessionConfig::from(options)
        .with_batch_size(settings.batch_rows.max(1))
        .with_target_partitions(settings.target_partitions.max(1))
}

fn state(config: SessionConfig, environment: Arc<RuntimeEnv>) -> Result<SessionState> {
    state_with(physical_rules(), config, environment)
}

/// The state of plans of one partition that read few rows: nothing has to give way, and partitions are put right where one is asked for.
fn small(config: SessionConfig, environment: Arc<RuntimeEnv>) -> Result<SessionState> {
    let mut rules = physical_rules();
    rules.retain(|rule| rule.name() != GIVING_WAY);
    for rule in rules.iter_mut().filter(|rule| rule.name() == REQUIREMENTS) {
        *rule = Arc::new(WhereAsked(Arc::clone(rule)));
    }
    state_with(rules, config, environment)
}

fn state_with(
    physical_rules: Vec<PhysicalRule>,
    config: SessionConfig,
    environment: Arc<RuntimeEnv>,
) -> Result<SessionState> {
    let functions = plan::functions();
    let ours = plan::rules_of_subqueries().into_iter().chain(plan::rules_of_meaning());
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(environment)
        .with_expr_planners(functions.planners.clone())
        .with_scalar_functions(functions.scalar.values().cloned().collect())
        .with_higher_order_functions(functions.higher_order.values().cloned().collect())
        .with_aggregate_functions(functions.aggregate.values().cloned().collect())
        .with_window_functions(functions.window.values().cloned().collect())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .with_type_planner(Arc::new(TypeNames { of_catalog: false }))
        .with_analyzer_rules(analyzer_rules());
    let builder = ours.fold(builder, SessionStateBuilder::with_analyzer_rule);
    let mut state = builder
        .with_analyzer_rule(Arc::new(Bounded))
        .with_optimizer_rules(rules())
        .with_physical_optimizer_rules(physical_rules)
        .with_query_planner(Arc::new(Planner))
        .build();
    plan::rewrites().into_iter().try_for_each(|rewrite| state.register_function_rewrite(rewrite))?;
    Ok(state)
}

/// DataFusion's rules of types, and what stands before them.
fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    plan::rules_before_types().into_iter().chain(Analyzer::new().rules).collect()
}

/// DataFusion's rules without their mistakes, and the order of conditions last, which its own do not keep.
fn rules() -> Vec<Rule> {
    let mut rules = plan::mended(Optimizer::new().rules);
    let filters = rules.iter().position(|rule| rule.name() == "push_down_filter").map_or(0, |at| at + 1);
    rules.insert(filters, Arc::new(Leakproof));
    rules.push(Arc::new(InOrder));
    rules.push(Arc::new(Constants));
    rules.into_iter().map(|rule| Arc::new(Wanted(rule)) as Rule).collect()
}

/// Those of the rules that look at values, and what keeps their order: literals are simplified, and conditions and limits with them
/// reach the scans.
fn finishing(rules: Vec<Rule>) -> Optimizer {
    const NAMES: [&str; 6] = ["simplify_expressions", LIMITS, "push_down_filter", "leakproof", "in_order", "constants"];
    Optimizer::with_rules(rules.into_iter().filter(|rule| NAMES.contains(&rule.name())).collect())
}

/// Those that may change a plan of one SELECT. What moves limits takes two steps: it gives a limit to the sort below it, and takes it
/// away where the sort has it.
fn plain_rules() -> Vec<Rule> {
    let mut rules = rules();
    rules.retain(|rule| !RULES_OF_MORE.contains(&rule.name()));
    let limits = rules.iter().find(|rule| rule.name() == LIMITS).cloned();
    let last = rules.iter().position(|rule| rule.name() == "in_order").unwrap_or(rules.len());
    rules.splice(last..last, limits);
    rules
}

/// The rule that moves limits.
const LIMITS: &str = "push_down_limit";

type Rule = Arc<dyn OptimizerRule + Send + Sync>;
type PhysicalRule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// The rule that places sorts, and what brings rows of one key together.
const REQUIREMENTS: &str = "EnsureRequirements";
/// The rule that makes plans give way to others; plans that are watched do so by themselves ([`crate::watched`]).
const GIVING_WAY: &str = "EnsureCooperative";

/// A rule that fails where nobody waits for the plan any more. A rule of its own before each would cost as much as another look at
/// the whole plan.
#[derive(Debug)]
struct Wanted(Rule);

impl OptimizerRule for Wanted {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DataFusionResult<Transformed<LogicalPlan>> {
        watch::look()?;
        self.0.rewrite(plan, config)
    }
}

/// DataFusion's rules for physical plans, but those that move filters: they find a condition's column in what is below by
/// its name, and take the wrong one where two are called alike. Scans are told of conditions by the logical plan.
/// Before sorts are placed, what is taken for constant is put right, and limits get nodes of their own.
fn physical_rules() -> Vec<PhysicalRule> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.retain(|rule| !rule.name().starts_with("FilterPushdown"));
    for rule in rules.iter_mut().filter(|rule| rule.name() == "aggregate_statistics") {
        *rule = Arc::new(KnownCounts(Arc::clone(rule)));
    }
    let sorts = rules.iter().position(|rule| rule.name() == REQUIREMENTS).unwrap_or(0);
    rules.insert(sorts, Arc::new(TrueConstants));
    rules.insert(sorts, Arc::new(KeptLimits));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_are_told_by_name_are_there() {
        let (rules, physical) = (rules(), physical_rules());
        for name in RULES_OF_MORE {
            assert!(rules.iter().any(|rule| rule.name() == name), "{name}");
        }
        for name in [REQUIREMENTS, GIVING_WAY] {
            assert!(physical.iter().any(|rule| rule.name() == name), "{name}");
        }
        assert_eq!(finishing(rules).rules.len(), 6);
        assert_eq!(finishing(plain_rules()).rules.len(), 6, "limits twice, and no barrier");
    }
}
