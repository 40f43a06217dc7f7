//! SQL text to an analysed [`LogicalPlan`]: parsed, names looked up, views inlined, types agreed on.
//!
//! Every stored table is read by one kind of scan, named `schema.table` whatever name the text used; a name that is
//! short of a schema becomes an alias above it. Columns without an alias get the name that PostgreSQL gives them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, SchemaRef, TimeUnit};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{
    Constraint, Constraints, DFSchema, DataFusionError, NullHandling, Result, TableReference, UnnestOptions,
    internal_err, plan_err,
};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion_expr::{
    AggregateUDF, Expr, ExprSchemable, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource,
    WindowUDF, cast,
};
use datafusion_optimizer::Analyzer;
use datafusion_sql::parser::Statement as DFStatement;
use datafusion_sql::planner::SqlToRel;
use datafusion_sql::resolve::resolve_table_references;
use datafusion_sql::sqlparser::ast::Statement;

use crate::accepted::{accepted_names, refused_function};
use crate::agreement::agreed;
use crate::analysis::rules_of_meaning;
use crate::catalog::{Catalog, TableInfo};
use crate::dependencies::relations;
use crate::flow::TableName;
use crate::functions::functions;
use crate::lateral::inlined;
use crate::mistakes::{Mask, mask};
use crate::outer_rows::partitioned;
use crate::postgres::syntax::meant;
use crate::postgres::whole_rows::whole_rows;
use crate::refusal::{Refusal, is_alike, locate, place_told, suggestion};
use crate::rewrites::rewrites;
use crate::shape::Unparsed;
use crate::unplanned::refused_clause;
use crate::{naming, place, settings, shape};

/// A stored table as the planner sees it. Whoever runs the plan puts the rows in its place, by the scan's name.
#[derive(Debug)]
pub struct StoredTable {
    pub name: TableName,
    /// Columns, with the key if rows have one.
    pub schema: relation::Schema,
    arrow: SchemaRef,
    constraints: Constraints,
}

impl StoredTable {
    /// The table of a catalog entry.
    pub fn new(info: TableInfo) -> Self {
        let key = info.schema.key.clone();
        let keys = if key.is_empty() { vec![] } else { vec![Constraint::PrimaryKey(key)] };
        let arrow = info.schema.to_arrow();
        Self { name: info.name, schema: info.schema, arrow, constraints: Constraints::new_unverified(keys) }
    }
}

impl TableSource for StoredTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.arrow)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }
}

/// A plan under a name: a view, or a table whose name was not written in full.
#[derive(Debug)]
struct Named {
    plan: LogicalPlan,
}

impl TableSource for Named {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.schema().inner())
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

/// The analysed plan of one SELECT.
pub(crate) fn analysed(sql: &str, catalog: &dyn Catalog) -> Result<LogicalPlan, Refusal> {
    analysed_but_for(sql, catalog, &[])
}

/// The same with NULL in the place of some names.
pub(crate) fn analysed_but_for(sql: &str, catalog: &dyn Catalog, masks: &[Mask]) -> Result<LogicalPlan, Refusal> {
    let mut statement = select(sql)?;
    mask(&mut statement, masks);
    analysed_statement(statement.clone(), sql, catalog).map_err(|mut refusal| {
        let is_of_text = !refusal.message.starts_with("view ") && !refusal.message.starts_with("relation ");
        if refusal.line.is_none() && is_of_text {
            let found = place::found(&statement, &refusal, &|other| analysed_statement(other, sql, catalog).map(drop));
            // A name of USING is no expression.
            let name =
                refusal.message.strip_prefix("column \"").and_then(|rest| rest.strip_suffix("\" does not exist"));
            let found = found.or_else(|| locate(sql, &name?.replace('.', " . ")));
            refusal.line = found.or_else(|| place_told(sql, &refusal.message));
        }
        refusal
    })
}

fn analysed_statement(statement: Statement, sql: &str, catalog: &dyn Catalog) -> Result<LogicalPlan, Refusal> {
    let names = Names::new(catalog);
    let plan = partitioned(planned_statement(statement, sql, &names)?).and_then(inlined).and_then(agreed);
    let plan = plan.map_err(|error| Refusal::from(error).over(sql))?;
    let mut analyzer = Analyzer::new();
    rewrites().into_iter().for_each(|rewrite| analyzer.add_function_rewrite(rewrite));
    analyzer.rules.extend(rules_of_meaning());
    analyzer.execute_and_check(plan, &names.config, |_, _| {}).map_err(|error| Refusal::from(error).over(sql))
}

fn planned(sql: &str, names: &Names<'_>) -> Result<LogicalPlan, Refusal> {
    planned_statement(select(sql)?, sql, names)
}

fn planned_statement(statement: Statement, sql: &str, names: &Names<'_>) -> Result<LogicalPlan, Refusal> {
    if let Some(refusal) = refused_function(&statement).or_else(|| refused_clause(&statement)) {
        return Err(refusal.of_kept());
    }
    if let Some(name) = naming::twice_in_union(&statement) {
        return Err(Refusal::twice(&name, sql));
    }
    let mut statement = naming::name_columns(statement);
    whole_rows(&mut statement, names);
    meant(&mut statement);
    let planner = SqlToRel::new_with_options(names, settings::parser_options());
    planner.sql_statement_to_plan(statement).map_err(|error| Refusal::from(error).over(sql))
}

/// Whether a text is one query that a model could be, whatever its tables are: its form, and no function that nobody has but MySQL or the planner.
pub fn one_select(sql: &str) -> Result<(), Refusal> {
    let statement = select(sql)?;
    match refused_function(&statement).or_else(|| refused_clause(&statement)) {
        Some(refusal) => Err(refusal.of_kept()),
        None => Ok(()),
    }
}

/// The one query in a text.
fn select(sql: &str) -> Result<Statement, Refusal> {
    let mut statements =
        shape::parsed(sql, settings::NESTING_MAX, settings::DEPTH_MAX).map_err(|unparsed| match unparsed {
            Unparsed::Syntax(error) => Refusal::from(DataFusionError::SQL(Box::new(error), None)).over(sql).of_kept(),
            Unparsed::TooComplex(what) => {
                Refusal::new("the model's SQL is too complex").with_detail(what).with_hint("Make several models of it.")
            }
        })?;
    let refusal = Refusal::new("a model is one SELECT");
    match (statements.pop(), statements.len()) {
        (None, _) => Err(refusal.with_detail("The text holds no statement.")),
        (Some(_), more @ 1..) => {
            Err(refusal.with_detail(format!("The text holds {} statements.", more + 1)).at(sql, ";"))
        }
        (Some(Statement::Query(query)), 0) => match &query.with {
            Some(with) if with.recursive => Err(Refusal::cannot_keep("Recursive queries are not supported yet.")
                .with_hint("If the query is not recursive, leave the word RECURSIVE out.")
                .at(sql, "recursive")),
            _ => Ok(Statement::Query(query)),
        },
        (Some(other), 0) => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or_default().to_owned();
            Err(refusal.with_detail(format!("The text is a statement that begins with {verb}.")).at(sql, &verb))
        }
    }
}

/// Looks names up for DataFusion's planner.
struct Names<'a> {
    catalog: &'a dyn Catalog,
    config: ConfigOptions,
    /// Views that are being inlined, outermost first.
    inside: RefCell<Vec<String>>,
    /// What names led to: a view that is used twice is planned once.
    known: RefCell<BTreeMap<String, Arc<dyn TableSource>>>,
    relations: Vec<Arc<dyn RelationPlanner>>,
}

impl<'a> Names<'a> {
    fn new(catalog: &'a dyn Catalog) -> Self {
        Self {
            catalog,
            config: settings::config(),
            inside: RefCell::default(),
            known: RefCell::default(),
            relations: relations(),
        }
    }

    fn look_up(&self, reference: &TableReference) -> Result<Arc<dyn TableSource>, Refusal> {
        if let Some(sql) = self.catalog.view(reference.schema(), reference.table()) {
            return self.view(reference, &sql);
        }
        let Some(info) = self.catalog.table(reference.schema(), reference.table()) else {
            return Err(nowhere(reference, self.catalog));
        };
        let full = TableReference::partial(info.name.schema.as_str(), info.name.name.as_str());
        let table: Arc<dyn TableSource> = Arc::new(StoredTable::new(info));
        if *reference == full {
            return Ok(table);
        }
        Ok(Arc::new(Named { plan: LogicalPlanBuilder::scan(full, table, None)?.build()? }))
    }

    fn view(&self, reference: &TableReference, sql: &str) -> Result<Arc<dyn TableSource>, Refusal> {
        let name = shown(reference);
        if self.inside.borrow().contains(&name) {
            let path = self.inside.borrow().join(", ");
            return Err(Refusal::new(format!("view \"{name}\" reads itself")).with_detail(format!("By way of {path}.")));
        }
        self.inside.borrow_mut().push(name.clone());
        let planned = planned(sql, self);
        self.inside.borrow_mut().pop();
        let plan = planned.map_err(|mut refusal| {
            // The position is one in the view's text, not in the text that uses it.
            refusal.line = None;
            if !refusal.message.starts_with("view ") {
                refusal.message = format!("view \"{name}\": {}", refusal.message);
            }
            refusal
        })?;
        Ok(Arc::new(Named { plan }))
    }
}

/// What is said of a relation that is not there.
fn nowhere(reference: &TableReference, catalog: &dyn Catalog) -> Refusal {
    let names = catalog.names();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let refusal = Refusal::new(format!("relation \"{}\" does not exist", shown(reference)));
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    // What is written without a schema is like a name without one.
    let alike = names.iter().find(|name| is_alike(reference.table(), &last(name)));
    let hint = alike.map(|name| format!("Did you mean \"{name}\"?"));
    refusal.with_hint(hint.unwrap_or_else(|| suggestion(reference.table(), &names)))
}

/// Relations that a text reads and that a catalog does not have, whatever the columns of the others are. None of a text that cannot be
/// read.
pub fn unknown_relations(sql: &str, catalog: &dyn Catalog) -> Vec<Refusal> {
    let Ok(statement) = select(sql) else { return Vec::new() };
    let statement = DFStatement::Statement(Box::new(statement));
    let Ok((relations, _)) = resolve_table_references(&statement, true) else { return Vec::new() };
    let functions = functions();
    // A function in FROM is read as a relation there.
    let is_function = |name: &str| functions.scalar.contains_key(name) || functions.higher_order.contains_key(name);
    let is_known = |of: &TableReference| {
        (of.schema().is_none() && is_function(of.table()))
            || catalog.view(of.schema(), of.table()).is_some()
            || catalog.table(of.schema(), of.table()).is_some()
    };
    let unknown = relations.iter().filter(|of| !is_known(of));
    unknown.map(|of| nowhere(of, catalog).at(sql, &shown(of).replace('.', " . "))).collect()
}

/// A series in FROM: the rows of one value, in a column `value`. Dates are instants in it, as in PostgreSQL.
fn series(mut args: Vec<Expr>) -> Result<LogicalPlan> {
    let schema = DFSchema::empty();
    let is_date = args.first().is_some_and(|first| first.get_type(&schema).is_ok_and(|t| t == DataType::Date32));
    let is_text = |arg: &Expr| arg.get_type(&schema).is_ok_and(|own| own == DataType::Utf8);
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    let ends = match args.first().and_then(|first| first.get_type(&schema).ok()) {
        Some(DataType::Date32) => Some(instant),
        Some(DataType::Timestamp(_, zone)) => Some(DataType::Timestamp(TimeUnit::Microsecond, zone)),
        _ => None,
    };
    for (at, arg) in args.iter_mut().enumerate() {
        let wanted = match (&ends, at) {
            (Some(ends), 0 | 1) if is_date || is_text(arg) => ends.clone(),
            (Some(_), 2) if is_text(arg) => DataType::Interval(IntervalUnit::MonthDayNano),
            _ => continue,
        };
        *arg = cast(std::mem::take(arg), wanted);
    }
    let Some(function) = functions().scalar.get("generate_series") else {
        return internal_err!("generate_series is not registered");
    };
    let list = function.call(args).alias("value");
    let options = UnnestOptions::new().with_null_handling(NullHandling::Drop);
    let rows = LogicalPlanBuilder::empty(true).project([list])?;
    rows.unnest_column_with_options("value", options)?.build()
}

/// `schema.name` as a user writes it.
fn shown(reference: &TableReference) -> String {
    match reference.schema() {
        Some(schema) => format!("{schema}.{}", reference.table()),
        None => reference.table().to_owned(),
    }
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if let Some(known) = self.known.borrow().get(&name.to_string()) {
            return Ok(Arc::clone(known));
        }
        let source = self.look_up(&name).map_err(|refusal| DataFusionError::External(Box::new(refusal)))?;
        self.known.borrow_mut().insert(name.to_string(), Arc::clone(&source));
        Ok(source)
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        match name {
            "generate_series" => Ok(Arc::new(Named { plan: series(args)? })),
            _ => plan_err!("Invalid function '{name}'."),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &functions().planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(settings::Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        functions().scalar.get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        functions().higher_order.get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        functions().aggregate.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        functions().window.get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.config
    }

    fn udf_names(&self) -> Vec<String> {
        accepted_names().into_iter().map(str::to_owned).collect()
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
