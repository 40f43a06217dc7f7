//! Looks names up for DataFusion's planner: tables at the session's step, views as their SQL, functions.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, SchemaRef, TimeUnit};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::catalog::view::ViewTable;
use datafusion::catalog::{TableFunctionArgs, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{DFSchema, ScalarValue, TableReference, plan_datafusion_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable as _, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::planner::SqlToRel;
use plan::TableName;

use crate::barrier;
use crate::catalog::{Catalog, Relation};
use crate::error::{Error, code};
use crate::pg_catalog::{self, SystemTables};
use crate::scan::StoredProvider;
use crate::session::{Identity, Reads};
use crate::storage::Storage;
use crate::virtual_table;
use crate::{output, statement};

/// Views may be made of views this deep.
const VIEWS_DEEP_MAX: usize = 64;
/// Planning a view takes about this much stack; a segment of the other size is added where less is left.
const VIEW_STACK_BYTES: usize = 1 << 20;
const STACK_SEGMENT_BYTES: usize = 8 << 20;

/// The names of one session.
pub(crate) struct Names<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) storage: &'a Arc<dyn Storage>,
    pub(crate) state: &'a SessionState,
    identity: &'a Identity,
    /// Where the session looks for unqualified names; those in a view are looked for as the catalogue says.
    path: &'a [String],
    /// What must not be read, and why.
    refused: &'a BTreeMap<TableName, Error>,
    depth: Cell<usize>,
    /// Whether the catalogue is being listed, for which all views are planned.
    is_listing: Cell<bool>,
    /// Whether the statement reads the catalogue.
    of_catalog: bool,
    /// Whether a function was looked up that answers of the session, or of the catalogue.
    is_of_session: Cell<bool>,
    /// The tables and views that were looked up for the statement itself.
    read: RefCell<BTreeSet<TableName>>,
    relations: Vec<Arc<dyn RelationPlanner>>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(
        catalog: &'a Catalog,
        storage: &'a Arc<dyn Storage>,
        state: &'a SessionState,
        identity: &'a Identity,
        path: &'a [String],
    ) -> Self {
        static NONE: BTreeMap<TableName, Error> = BTreeMap::new();
        let (refused, relations) = (&NONE, plan::dependencies::relations());
        let (depth, of_catalog, read) = (Cell::new(0), false, RefCell::default());
        let (is_listing, is_of_session) = (Cell::new(false), Cell::new(false));
        Self {
            catalog,
            storage,
            state,
            identity,
            path,
            refused,
            depth,
            is_listing,
            of_catalog,
            is_of_session,
            read,
            relations,
        }
    }

    /// The same for a statement that reads the catalogue, or not.
    pub(crate) fn of_catalog(mut self, of_catalog: bool) -> Self {
        self.of_catalog = of_catalog;
        self
    }

    /// The same, but who reads one of these gets its error.
    pub(crate) fn without(mut self, refused: &'a BTreeMap<TableName, Error>) -> Self {
        self.refused = refused;
        self
    }

    /// Whether a function was looked up that answers of the session, or of the catalogue.
    pub(crate) fn is_of_session(&self) -> bool {
        self.is_of_session.get()
    }

    /// The tables, models and views that were looked up; not what views stand on, nor system tables.
    pub(crate) fn reads(&self) -> Reads {
        Arc::new(self.read.take())
    }

    /// The provider of a stored table by its qualified name.
    pub(crate) fn stored(&self, name: &TableName) -> Result<Arc<dyn TableProvider>, Error> {
        match self.catalog.resolve(&[], Some(&name.schema), &name.name)? {
            Relation::Stored(table) => {
                let rows = self.catalog.rows(table.id);
                Ok(Arc::new(StoredProvider::new(Arc::clone(table), Arc::clone(self.storage), rows)))
            }
            _ => Err(Error::new(code::UNKNOWN_TABLE, format!("{name} is not a stored table"))),
        }
    }

    fn provider(&self, reference: &TableReference) -> Result<Arc<dyn TableProvider>> {
        let (schema, name) = (reference.schema(), reference.table());
        if let Some(system) = self.system_table(schema, name)? {
            return Ok(system);
        }
        let (catalog, path) = match self.depth.get() {
            0 => (self.catalog, self.path),
            _ => (self.catalog.beneath(), self.catalog.search_path()),
        };
        let found = catalog.resolve(path, schema, name).map_err(Error::into_datafusion)?;
        let full_name = match &found {
            Relation::Stored(table) => &table.name,
            Relation::Virtual(table) => &table.name,
            Relation::View(name, _) => name,
        };
        if let Some(error) = self.refused.get(full_name) {
            return Err(error.clone().into_datafusion());
        }
        if self.depth.get() == 0 && !matches!(found, Relation::Virtual(_)) {
            self.read.borrow_mut().insert(full_name.clone());
        }
        match found {
            Relation::Stored(table) => {
                let rows = catalog.rows(table.id);
                Ok(Arc::new(StoredProvider::new(Arc::clone(table), Arc::clone(self.storage), rows)))
            }
            Relation::Virtual(table) => virtual_table::provider(table),
            Relation::View(name, sql) => {
                let view = self.view(name, sql)?;
                let is_granted = self.catalog.is_partial() && self.depth.get() == 0;
                let view = if is_granted { barrier::around(name, view) } else { view };
                Ok(Arc::new(ViewTable::new(view, Some(sql.to_owned()))))
            }
        }
    }

    fn system_table(&self, schema: Option<&str>, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let schema = match schema {
            Some(schema) if pg_catalog::SYSTEM_SCHEMAS.contains(&schema) => schema,
            None if pg_catalog::is_system_table(name) => "pg_catalog",
            _ => return Ok(None),
        };
        self.system()?.table(schema, name, self.identity)
    }

    fn view(&self, name: &TableName, sql: &str) -> Result<LogicalPlan> {
        if self.depth.get() >= VIEWS_DEEP_MAX {
            let deep = Error::new(code::NOT_SUPPORTED, format!("view {name} is made of too many views, or of itself"));
            return Err(deep.into_datafusion());
        }
        self.depth.set(self.depth.get() + 1);
        let planned = stacker::maybe_grow(VIEW_STACK_BYTES, STACK_SEGMENT_BYTES, || self.view_plan(sql));
        self.depth.set(self.depth.get() - 1);
        planned.map_err(|error| {
            let mut error = Error::from(error);
            if self.catalog.is_partial() {
                // It names columns, tables and constants beneath.
                return barrier::redacted(&error, &name.to_string()).into_datafusion();
            }
            if !error.message.starts_with("view ") {
                error.message = format!("view {name}: {}", error.message);
            }
            error.position = None;
            error.into_datafusion()
        })
    }

    fn view_plan(&self, sql: &str) -> Result<LogicalPlan> {
        let statement = statement::parse_one(sql).map_err(Error::into_datafusion)?;
        let planner = SqlToRel::new_with_options(self, plan::settings::parser_options());
        let view = output::named(planner.sql_statement_to_plan(statement.named(self))?)?;
        if self.catalog.is_partial() && self.depth.get() == 1 {
            // What is wrong with its types would be told with the statement's own.
            self.state.analyzer().execute_and_check(
                plan::agreed(view.clone())?,
                self.state.config_options(),
                |_, _| {},
            )?;
        }
        Ok(view)
    }

    /// Whether a function makes one value of its arguments, and no table.
    pub(crate) fn is_of_one_value(&self, function: &str) -> bool {
        let makes_table =
            pg_catalog::table_of_function(function).is_some() || self.state.table_functions().contains_key(function);
        !makes_table && self.get_function_meta(function).is_some()
    }

    /// The plan with the name of what is shown as one (a regclass and its like) wherever it becomes a text.
    pub(crate) fn as_texts(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if !self.of_catalog {
            return Ok(plan);
        }
        let named = plan.transform_up_with_subqueries(|node| {
            let mut schema = merge_schema(&node.inputs());
            if let LogicalPlan::TableScan(scan) = &node {
                schema = scan.projected_schema.as_ref().clone();
            }
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let made = expr.transform_up(|expr| Ok(self.as_text(expr, &schema)))?;
                Ok(if made.transformed { Transformed::yes(name.restore(made.data)) } else { made })
            })
        })?;
        Ok(named.data)
    }

    fn as_text(&self, expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
        let Expr::Cast(cast) = &expr else { return Transformed::no(expr) };
        let name = match cast.expr.to_field(schema) {
            Ok((_, field)) if *cast.field.data_type() == DataType::Utf8 => {
                output::registered(&field).map(str::to_owned)
            }
            _ => None,
        };
        match name.and_then(|name| self.get_function_meta(&format!("{name}out"))) {
            Some(function) => Transformed::yes(function.call(vec![cast.expr.as_ref().clone()])),
            None => Transformed::no(expr),
        }
    }

    /// The catalogue tables, made on first use.
    pub(crate) fn system(&self) -> Result<Arc<SystemTables>> {
        if let Some(system) = self.catalog.system().get() {
            return Ok(Arc::clone(system));
        }
        // A view that asks for the catalogue is planned to list its columns: over the names, whose views have no columns yet.
        if self.is_listing.replace(true) {
            return Ok(Arc::new(SystemTables::new(self.catalog, &|_| None)?));
        }
        let view_schema = |name: &TableName| -> Option<SchemaRef> {
            let sql = self.catalog.views().get(name)?;
            let plan = self.view(name, sql).ok()?;
            // As a statement is answered that reads it: only then are the types of all columns known.
            let analysed = plan::agreed(plan.clone()).and_then(|agreed| {
                self.state.analyzer().execute_and_check(agreed, self.state.config_options(), |_, _| {})
            });
            Some(output::schema(analysed.unwrap_or(plan).schema().inner()))
        };
        let made = SystemTables::new(self.catalog, &view_schema);
        self.is_listing.set(false);
        let system = Arc::new(made?);
        Ok(Arc::clone(self.catalog.system().get_or_init(|| system)))
    }
}

/// The arguments of `generate_series` in the types that it takes: numbers of 64 bits; dates are instants, and times are
/// counted in nanoseconds.
fn of_series(mut args: Vec<Expr>) -> Result<Vec<Expr>> {
    let first = match args.first() {
        Some(Expr::Literal(value, _)) => value.data_type(),
        _ => return Ok(args),
    };
    let ends = match &first {
        number if number.is_integer() => DataType::Int64,
        DataType::Date32 => {
            let is_plain = |arg: &Expr| matches!(arg, Expr::Literal(value, _) if matches!(value.data_type(), DataType::Timestamp(_, None)));
            let zone = (!args.get(1).is_some_and(is_plain)).then(|| Arc::from("UTC"));
            DataType::Timestamp(TimeUnit::Nanosecond, zone)
        }
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()),
        _ => return Ok(args),
    };
    let by = if ends == DataType::Int64 { DataType::Int64 } else { DataType::Interval(IntervalUnit::MonthDayNano) };
    for (at, arg) in args.iter_mut().enumerate() {
        let Expr::Literal(value, _) = arg else { continue };
        let wanted = if at < 2 { &ends } else { &by };
        *value = match (value.try_as_str().flatten(), wanted) {
            // A text is read as PostgreSQL reads it.
            (Some(text), DataType::Timestamp(_, zone)) => {
                ScalarValue::TimestampMicrosecond(Some(plan::timestamp_of(text, zone.is_some())?), zone.clone())
                    .cast_to(wanted)?
            }
            _ => value.cast_to(wanted)?,
        };
    }
    Ok(args)
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        self.provider(&name).map(provider_as_source)
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        if let Some(table) = pg_catalog::table_of_function(name)
            && let Some(provider) = self.system_table(Some("pg_catalog"), table)?
        {
            return Ok(provider_as_source(provider));
        }
        let function = self.state.table_functions().get(name);
        let function = function.ok_or_else(|| plan_datafusion_err!("Invalid function '{name}'."))?;
        let context = SimplifyContext::builder().with_config_options(Arc::clone(self.state.config_options())).build();
        let simplifier = ExprSimplifier::new(context);
        let schema = DFSchema::empty();
        let simplified = |arg| {
            let arg = plan::formed_alone(simplifier.coerce(arg, &schema)?, &schema)?;
            simplifier.simplify(arg)
        };
        let args = args.into_iter().map(simplified).collect::<Result<Vec<_>>>()?;
        let args = if name == "generate_series" { of_series(args)? } else { args };
        let provider = function.create_table_provider_with_args(TableFunctionArgs::new(&args, self.state))?;
        Ok(provider_as_source(provider))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &plan::functions().planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(pg_catalog::TypeNames { of_catalog: self.of_catalog }))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let names = || self.system().ok().map(|system| Arc::clone(&system.names));
        let of_session = pg_catalog::function(name, self.identity, self.path, &names);
        self.is_of_session.set(self.is_of_session.get() || of_session.is_some());
        of_session.or_else(|| plan::functions().scalar.get(name).cloned())
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        plan::functions().higher_order.get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        plan::functions().aggregate.get(name).map(pg_catalog::of_named_types)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        plan::functions().window.get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        plan::accepted_names().into_iter().map(str::to_owned).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
