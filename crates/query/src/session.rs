//! A session: SQL, plans and flows answered over one step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue, not_impl_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as PlannerResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::registry::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::optimizer::OptimizerConfig;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SQLOptions;
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use futures::{StreamExt as _, TryStreamExt as _};
use plan::{Flow, NodeId, TableName};
use relation::schema::TYPE_NAME;

use crate::asked::Lesson;
use crate::catalog::Catalog;
use crate::error::{Error, Result, code};
use crate::flow::{Isolation, flow_to_logical};
use crate::names::Names;
use crate::planning::{is_plain, is_small};
use crate::runtime::{Joins, Runtime};
use crate::statement::{self, Kind, Statement};
use crate::storage::Storage;
use crate::watch::Watch;
use crate::watched::watched;
use crate::{foreign, ordered, output, pg_catalog, template};

/// Rows of a query: their columns, and the batches as they come.
pub struct Answer {
    pub schema: SchemaRef,
    pub stream: SendableRecordBatchStream,
    /// What the statement names.
    pub reads: Reads,
}

/// Names of tables, models and views; not of what views stand on, nor of system tables.
pub type Reads = Arc<BTreeSet<TableName>>;

/// What a statement takes and yields, for a client that prepares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Types of `$1`, `$2`, …; a field says by which name its type goes. That of a numeric without a scale is `numeric`: a
    /// value keeps the digits that it has.
    pub parameters: Vec<FieldRef>,
    pub schema: SchemaRef,
}

/// Whom a session answers, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What `current_user` says.
    pub user: String,
    /// What `current_database()` says, and the one row of `pg_database`.
    pub database: String,
    /// What `pg_backend_pid()` says.
    pub pid: i32,
}

impl Default for Identity {
    fn default() -> Self {
        Self { user: pg_catalog::OWNER.to_owned(), database: pg_catalog::DATABASE.to_owned(), pid: 1 }
    }
}

/// A parameter's value from an array of one element.
pub fn parameter(array: &dyn arrow::array::Array) -> Result<ScalarValue> {
    Ok(ScalarValue::try_from_array(array, 0)?)
}

/// Reads at one step. Cheap to make: one per query.
pub struct Session {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) runtime: Arc<Runtime>,
    identity: Identity,
    /// None: as the catalogue says.
    pub(crate) search_path: Option<Vec<String>>,
    /// What its statements must not read, and why.
    pub(crate) refused: BTreeMap<TableName, Error>,
    /// What ends its statements; none where they run to their end.
    watch: Option<Arc<Watch>>,
}

impl Session {
    /// A session that sees `snapshot` under the names of `catalog`.
    pub fn new(snapshot: impl Storage, catalog: Arc<Catalog>, runtime: Arc<Runtime>) -> Self {
        let identity = Identity::default();
        let (search_path, refused, watch) = (None, BTreeMap::new(), None);
        Self { storage: Arc::new(snapshot), catalog, runtime, identity, search_path, refused, watch }
    }

    /// The same for whom this is.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// The same with another search path for its own statements; views are read as the catalogue's says.
    #[must_use]
    pub fn with_search_path(mut self, path: Vec<String>) -> Self {
        self.search_path = Some(path);
        self
    }

    /// The same, but a statement that reads one of these fails with its error.
    #[must_use]
    pub fn without(mut self, refused: BTreeMap<TableName, Error>) -> Self {
        self.refused = refused;
        self
    }

    /// The same, whose statements stop when the watch says so.
    #[must_use]
    pub fn with_watch(mut self, watch: Arc<Watch>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// The step that is seen.
    pub fn step(&self) -> u64 {
        self.storage.step()
    }

    /// Answers the only statement of a text.
    pub async fn sql(&self, sql: &str) -> Result<Answer> {
        self.execute(&statement::parse_one(sql)?, &[]).await
    }

    /// Answers a statement with values for its parameters, and keeps in mind what was found out of it.
    pub async fn execute(&self, statement: &Statement, parameters: &[ScalarValue]) -> Result<Answer> {
        let (answer, lesson) = self.executed(statement, parameters).await?;
        if let Some(lesson) = lesson {
            self.learn(&lesson);
        }
        Ok(answer)
    }

    /// The same with what there is to learn of the statement, which takes as long again as planning it.
    pub(crate) async fn executed(
        &self,
        statement: &Statement,
        parameters: &[ScalarValue],
    ) -> Result<(Answer, Option<Lesson>)> {
        let types: Vec<_> = parameters.iter().map(|value| Some(value.data_type())).collect();
        let Written { mut plan, is_lasting, reads } = self.written(statement, &types)?;
        if !parameters.is_empty() {
            plan = plan.with_param_values(ParamValues::from(parameters.to_vec()))?;
        }
        let own_words = |error: DataFusionError| foreign::in_own_words(error.into(), statement.tree());
        let plan = self.analysed(plan).map_err(own_words)?;
        let schema = output::schema(plan.schema().inner());
        let names = match output::shows_names(&schema) {
            true => Some(Arc::clone(&self.names().system()?.names)),
            false => None,
        };
        let plan = self.to_run(plan)?;
        let stream = renamed(self.run(&plan).await?, &schema, names);
        let lesson = is_lasting.then(|| Lesson {
            statement: statement.clone(),
            parameters: parameters.to_vec(),
            planned: plan,
            schema: Arc::clone(&schema),
            reads: Arc::clone(&reads),
        });
        Ok((Answer { schema, stream, reads }, lesson))
    }

    /// What a statement takes and yields. `hints` are types that the client named, by position.
    pub fn describe(&self, statement: &Statement, hints: &[Option<DataType>]) -> Result<Description> {
        let hints = self.with_arrays(statement, hints)?;
        let types: Vec<_> = hints.iter().map(|hint| hint.as_ref().map(|hint| hint.data_type().clone())).collect();
        let plan = self.plan(statement, &types)?;
        let found = parameter_types(&plan)?;
        let named = found.keys().filter_map(|name| name.strip_prefix('$')?.parse::<usize>().ok()).max();
        let parameters = (1..=named.unwrap_or(0).max(hints.len())).map(|i| {
            let hint = hints.get(i - 1).cloned().flatten();
            let inferred = found.get(&format!("${i}")).cloned().flatten();
            // Text is what Postgres, too, takes a parameter for that nothing says more about.
            hint.or(inferred).unwrap_or_else(|| nameless(DataType::Utf8))
        });
        let parameters = parameters.collect();
        let typed = match self.analysed(plan.clone()) {
            // What a parameter stands for may be needed to agree on types: then they are as written.
            Err(_) if named.is_some() => plan,
            analysed => analysed.map_err(|error| foreign::in_own_words(error.into(), statement.tree()))?,
        };
        Ok(Description { parameters, schema: output::schema(typed.schema().inner()) })
    }

    /// Where in the text of a statement that cannot be planned the mistake stands, if its error does not say and it can be found.
    pub fn place(&self, statement: &Statement, error: &Error) -> Option<(usize, usize)> {
        let refusal = |error: Error| plan::Refusal { message: error.message, ..plan::Refusal::default() };
        plan::place_of(statement.tree(), &refusal(error.clone()), &|tree| {
            self.describe(&statement.with_tree(tree), &[]).map(drop).map_err(refusal)
        })
    }

    /// Plans a statement as far as a read does that never runs.
    pub fn check(&self, statement: &Statement) -> Result<()> {
        let plan = self.plan(statement, &[])?;
        let planned = self.analysed(plan).and_then(|plan| self.optimised_analysed(plan));
        planned.map(drop).map_err(|error| foreign::in_own_words(error.into(), statement.tree()))
    }

    /// The columns of a statement's answer, and of which stored columns each is made ([`crate::origins()`]).
    pub fn origins(&self, sql: &str) -> Result<Vec<(String, crate::Origins)>> {
        let plan = self.plan(&statement::parse_one(sql)?, &[])?;
        let schema = output::schema(plan.schema().inner());
        let names = schema.fields().iter().map(|field| field.name().clone());
        Ok(names.zip(crate::origins(&plan)?).collect())
    }

    /// The hints with the types of arrays that the client did not name: `$1` of `id = ANY($1)` is a list of what it would be
    /// in `id = $1`.
    fn with_arrays(&self, statement: &Statement, hints: &[Option<DataType>]) -> Result<Vec<Option<FieldRef>>> {
        let mut fields: Vec<_> = hints.iter().map(|hint| hint.clone().map(nameless)).collect();
        let Some((as_elements, arrays)) = statement.arrays_as_elements() else { return Ok(fields) };
        let unnamed = arrays.into_iter().filter(|i| !matches!(hints.get(*i), Some(Some(_)))).collect::<Vec<_>>();
        if unnamed.is_empty() {
            return Ok(fields);
        }
        let found = parameter_types(&self.plan(&as_elements, hints)?)?;
        for i in unnamed {
            let element = found.get(&format!("${}", i + 1)).cloned().flatten();
            let element = element.filter(|element| *element.data_type() != DataType::Null);
            fields.resize(fields.len().max(i + 1), None);
            fields[i] = Some(array_of(&element.unwrap_or_else(|| nameless(DataType::Utf8))));
        }
        Ok(fields)
    }

    /// Runs a plan whose scans name stored tables as `schema.table`: a model's own plan, the oracle of its upkeep.
    pub async fn logical(&self, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
        let plan = self.to_run(self.analysed(self.with_tables(plan)?)?)?;
        self.run(&plan).await
    }

    /// The rows of one node of a flow: what its state is built of. Columns are `c0`, `c1`, … of the node's own types.
    ///
    /// With [`Isolation::Rows`] a row on which an expression fails is reported and left out; without, it fails the build.
    pub async fn flow(&self, flow: &Flow, node: NodeId, isolation: &Isolation) -> Result<SendableRecordBatchStream> {
        let names = self.names();
        let plan =
            flow_to_logical(flow, node, isolation, &|table: &TableName| names.stored(table).map(provider_as_source))?;
        let plan = self.to_run(self.analysed(plan)?)?;
        match isolation {
            // Not begun again by itself: rows would be reported twice.
            Isolation::Rows(_) => Ok(self.start(&plan, Joins::Hash).await?),
            Isolation::Query => self.run(&plan).await,
        }
    }

    fn names(&self) -> Names<'_> {
        let path = self.search_path.as_deref().unwrap_or_else(|| self.catalog.search_path());
        Names::new(&self.catalog, &self.storage, self.state(), &self.identity, path).without(&self.refused)
    }

    fn state(&self) -> &SessionState {
        self.runtime.state(Joins::Hash)
    }

    /// SQL to a plan, not optimised yet.
    fn plan(&self, statement: &Statement, types: &[Option<DataType>]) -> Result<LogicalPlan> {
        self.written(statement, types).map(|written| written.plan)
    }

    /// The same, and whether it lasts.
    pub(crate) fn written(&self, statement: &Statement, types: &[Option<DataType>]) -> Result<Written> {
        let written = self.plan_as_written(statement, types);
        if !statement.reads_catalog() {
            return written;
        }
        let refused = match written {
            Ok(written) => match self.optimised(written.plan.clone()) {
                Ok(_) => return Ok(written),
                Err(error) => error.into(),
            },
            Err(error) => error,
        };
        let lesser = self.plan_as_written(&statement.without_subqueries(), types);
        let can_run = |written: Written| self.optimised(written.plan.clone()).map(|_| written).map_err(Error::from);
        lesser.and_then(can_run).map_err(|_| refused)
    }

    fn plan_as_written(&self, statement: &Statement, types: &[Option<DataType>]) -> Result<Written> {
        if statement.kind != Kind::Query {
            return Err(statement.refusal());
        }
        let fields = types.iter().enumerate().map(|(i, data_type)| {
            let data_type = data_type.as_ref()?;
            Some(Arc::new(Field::new(format!("${}", i + 1), data_type.clone(), true)))
        });
        let mut context = PlannerContext::new().with_prepare_param_data_types(fields.collect());
        let names = self.names().of_catalog(statement.reads_catalog());
        let planner = SqlToRel::new_with_options(&names, plan::settings::parser_options());
        let tree = statement.named(&names);
        let plan = planner.sql_statement_to_plan_with_context(tree, &mut context);
        let plan = plan.map_err(|error| foreign::in_own_words(error.into(), statement.tree()))?;
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only.verify_plan(&plan).map_err(|_| statement::read_only(&statement.verb()))?;
        if self.catalog.is_partial() && matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) {
            // A plan names what is beneath: columns, conditions and tables that are not granted.
            return Err(Error::new(code::NOT_GRANTED, "permission denied for EXPLAIN")
                .hint("A user of the role owner can explain the statement."));
        }
        not_too_large(&plan)?;
        // Columns of the catalogue are not of all the types that PostgreSQL's are.
        let plan = if statement.reads_catalog() { plan } else { plan::agreed(plan)? };
        let plan = ordered::by_subqueries(names.as_texts(plan)?)?;
        let is_lasting = !statement.reads_catalog() && !names.is_of_session() && template::is_lasting(&plan)?;
        Ok(Written { plan, is_lasting, reads: names.reads() })
    }

    /// The plan with its types agreed on: only then are those of a UNION known.
    pub(crate) fn analysed(&self, plan: LogicalPlan) -> PlannerResult<LogicalPlan> {
        match plan {
            // EXPLAIN shows what each rule made of the plan, and is analysed by the state that keeps that.
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => Ok(plan),
            _ => self.state().analyzer().execute_and_check(plan, self.state().config_options(), |_, _| {}),
        }
    }

    /// The plan as it would be run.
    pub(crate) fn optimised(&self, plan: LogicalPlan) -> PlannerResult<LogicalPlan> {
        self.optimised_analysed(self.analysed(plan)?)
    }

    /// The same of one that has been analysed.
    pub(crate) fn optimised_analysed(&self, plan: LogicalPlan) -> PlannerResult<LogicalPlan> {
        match plan {
            plan @ (LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) => Ok(plan),
            plan => {
                let plan = self.by_rules(plan)?;
                match has_correlated(&plan)? {
                    true => not_impl_err!("a subquery that depends on its row by more than equality"),
                    false => Ok(plan),
                }
            }
        }
    }

    /// Puts the tables of this step in the place of a plan's scans.
    fn with_tables(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let names = self.names();
        let replaced = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::TableScan(scan) = node else { return Ok(Transformed::no(node)) };
            let schema = scan.table_name.schema().unwrap_or_default();
            let name = TableName::new(schema, scan.table_name.table());
            let provider = names.stored(&name).map_err(Error::into_datafusion)?;
            Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source: provider_as_source(provider), ..scan })))
        })?;
        Ok(replaced.data)
    }

    /// An analysed plan as it is run.
    fn to_run(&self, plan: LogicalPlan) -> PlannerResult<LogicalPlan> {
        match plan {
            // EXPLAIN keeps what each rule made of the plan, which only a state of its own does.
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => {
                let mut own = self.state().clone();
                own.mark_start_execution();
                own.optimize(&plan)
            }
            _ => self.by_rules(plan),
        }
    }

    /// An analysed plan after the optimiser's rules, as many of them and as often as it needs.
    fn by_rules(&self, plan: LogicalPlan) -> PlannerResult<LogicalPlan> {
        match is_plain(&plan) {
            true => self.runtime.plain().optimize(plan, &self.rules_once(), |_, _| {}),
            false => self.state().optimizer().optimize(plan, &self.rules(), |_, _| {}),
        }
    }

    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules::new(self.state(), self.state().config_options())
    }

    /// The same for going over a plan once.
    pub(crate) fn rules_once(&self) -> Rules<'_> {
        Rules::new(self.state(), self.runtime.once())
    }

    /// Starts an optimised plan; with sort-merge joins if its first batch does not fit the memory.
    pub(crate) async fn run(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        match self.start(plan, Joins::Hash).await {
            Err(error) if is_exhausted(&error) && has_join(plan) => {
                tracing::debug!("a query runs again with joins that spill");
                Ok(self.start(plan, Joins::SortMerge).await?)
            }
            started => Ok(started?),
        }
    }

    /// Starts a plan and waits for its first batch, which ends the part that fails most: building joins and groups.
    async fn start(&self, plan: &LogicalPlan, joins: Joins) -> PlannerResult<SendableRecordBatchStream> {
        let state = match joins {
            Joins::Hash if is_small(plan) => self.runtime.small(),
            _ => self.runtime.state(joins),
        };
        let physical = state.query_planner().create_physical_plan(plan, state).await?;
        let physical = match &self.watch {
            Some(watch) => watched(physical, watch)?,
            None => physical,
        };
        let mut stream = execute_stream(physical, self.runtime.task(state, self.watch.as_ref()))?;
        let schema = stream.schema();
        let first = stream.next().await.transpose()?;
        let first = futures::stream::iter(first.map(Ok));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, first.chain(stream))))
    }
}

/// A statement as a plan.
pub(crate) struct Written {
    pub(crate) plan: LogicalPlan,
    /// Whether it is the same plan whoever asks and whenever.
    pub(crate) is_lasting: bool,
    /// What it names.
    pub(crate) reads: Reads,
}

/// A query's own part of the optimiser's surroundings: when it began, and fresh aliases.
pub(crate) struct Rules<'a> {
    state: &'a SessionState,
    options: &'a Arc<ConfigOptions>,
    aliases: Arc<AliasGenerator>,
    started: chrono::DateTime<chrono::Utc>,
}

impl<'a> Rules<'a> {
    fn new(state: &'a SessionState, options: &'a Arc<ConfigOptions>) -> Self {
        Self { state, options, aliases: Arc::new(AliasGenerator::new()), started: chrono::Utc::now() }
    }
}

impl OptimizerConfig for Rules<'_> {
    fn query_execution_start_time(&self) -> Option<chrono::DateTime<chrono::Utc>> {
        Some(self.started)
    }

    fn alias_generator(&self) -> &Arc<AliasGenerator> {
        &self.aliases
    }

    fn options(&self) -> Arc<ConfigOptions> {
        Arc::clone(self.options)
    }

    fn function_registry(&self) -> Option<&dyn FunctionRegistry> {
        Some(self.state)
    }
}

/// Nodes that a plan may have. What a name stands for is planned once each time it is used, so few words may come to many.
const NODES_MAX: usize = 20_000;

fn not_too_large(plan: &LogicalPlan) -> Result<()> {
    let mut nodes = 0_usize;
    plan.apply_with_subqueries(|_| {
        nodes += 1;
        Ok(if nodes > NODES_MAX { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if nodes <= NODES_MAX {
        return Ok(());
    }
    Err(Error::new(code::TOO_COMPLEX, "the statement is too complex")
        .detail(format!("With all that it names written out it reads and computes more than {NODES_MAX} things."))
        .hint("Name fewer views and WITH queries that are made of one another, or make a model of one."))
}

/// Types of parameters by name, where the plan says: those that the planner finds, those that a parameter is cast to, and
/// numbers for LIMIT and OFFSET. Of several the first one holds.
fn parameter_types(plan: &LogicalPlan) -> Result<BTreeMap<String, Option<FieldRef>>> {
    let mut found: BTreeMap<String, Option<FieldRef>> = BTreeMap::new();
    let mut note = |placeholder: &Expr, field: Option<FieldRef>| {
        let Expr::Placeholder(placeholder) = placeholder else { return };
        let known = found.entry(placeholder.id.clone()).or_insert(None);
        *known = known.take().or_else(|| placeholder.field.clone()).or(field);
    };
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Cast(cast) => note(cast.expr.as_ref(), Some(Arc::clone(&cast.field))),
                    // A cast to a numeric of any scale.
                    Expr::ScalarFunction(function) if function.name() == NUMERIC => {
                        function.args.iter().for_each(|value| note(value, Some(numeric())));
                    }
                    other => note(other, None),
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    for name in limits(plan)? {
        found.insert(name, Some(nameless(DataType::Int64)));
    }
    Ok(found)
}

/// The function, and the type, that is a numeric without a scale.
const NUMERIC: &str = "numeric";

fn numeric() -> FieldRef {
    let named = [(TYPE_NAME.to_owned(), NUMERIC.to_owned())];
    Arc::new(Field::new("", DataType::Decimal128(38, 10), true).with_metadata(named.into()))
}

fn nameless(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("", data_type, true))
}

/// An array of values of a type, which goes by its name as `pg_type` has it.
fn array_of(element: &Field) -> FieldRef {
    let array = Field::new("", DataType::new_list(element.data_type().clone(), true), true);
    Arc::new(match element.metadata().get(TYPE_NAME) {
        Some(name) => array.with_metadata([(TYPE_NAME.to_owned(), format!("_{name}"))].into()),
        None => array,
    })
}

/// Whether a subquery is left that could not be joined.
fn has_correlated(plan: &LogicalPlan) -> PlannerResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            let is_one = |expr: &Expr| match expr {
                Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
                Expr::OuterReferenceColumn(..) => true,
                _ => false,
            };
            found |= expr.exists(|expr| Ok(is_one(expr)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// Parameters that stand for LIMIT and OFFSET: numbers, which the planner does not say.
fn limits(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut names = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for expr in limit.skip.iter().chain(&limit.fetch) {
                if let Expr::Placeholder(placeholder) = expr.as_ref() {
                    names.push(placeholder.id.clone());
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

fn is_exhausted(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

fn has_join(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Join(_)))).unwrap_or(false)
}

/// The batches under the answer's own names, and with the names of what has some in this catalogue.
pub(crate) fn renamed(
    stream: SendableRecordBatchStream,
    schema: &SchemaRef,
    names: Option<Arc<pg_catalog::Names>>,
) -> SendableRecordBatchStream {
    if stream.schema() == *schema {
        return stream;
    }
    let named = Arc::clone(schema);
    let batches = stream.and_then(move |batch| {
        let named = Arc::clone(&named);
        let rows = batch.num_rows();
        let columns = output::columns(&batch, &named, names.as_deref());
        let renamed = relation::columns::batch(&named, columns, rows);
        futures::future::ready(renamed.map_err(|error| Error::new(code::INTERNAL, error.to_string()).into_datafusion()))
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}
