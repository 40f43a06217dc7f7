//! The store, the engine over it, and the project's models planned and set up in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use engine::{Engine, ModelDefinition, Settings};
use plan::{Planned, TableInfo, TableName};
use project::Diagnostic;
use relation::{Schema, TableId};

use crate::setup::Setup;

/// A table as the source describes it, under the name that the project gives it.
#[derive(Debug, Clone)]
pub struct SourceTable {
    pub source: String,
    pub name: TableName,
    pub schema: Schema,
}

/// A model with its plan.
#[derive(Debug, Clone)]
pub struct PlannedModel {
    pub name: TableName,
    pub materialized: &'static str,
    pub planned: Planned,
}

/// Changed rows of a table or model that are remembered of a step, for who wants to follow one order.
const REPORT_ROWS_MAX: usize = 50;

/// Everything that is kept.
pub struct Warehouse {
    pub engine: Engine,
    pub queries: Arc<query::Runtime>,
    pub models: Vec<PlannedModel>,
    /// Views by name: their SQL.
    pub views: Vec<(TableName, String)>,
    pub search_path: Vec<String>,
}

impl Warehouse {
    /// Opens the store of a project and sets up its tables and models; the log's tail is replayed.
    ///
    /// `described` are the tables as their sources have them now; of a source that cannot be asked, none, and the tables
    /// are as they were. Models that cannot be planned are answered as findings, and nothing is opened.
    pub fn open(
        setup: &Setup,
        described: &[SourceTable],
        runtime: tokio::runtime::Handle,
    ) -> anyhow::Result<Result<Self, Vec<Diagnostic>>> {
        let memory = setup.project.profile.memory.unwrap_or_else(default_memory);
        std::fs::create_dir_all(&setup.data)
            .with_context(|| format!("cannot make the data folder {}", setup.data.display()))?;
        let store = store::Store::open(&setup.data.join("store"), store_options(memory))?;
        let query_settings = query::Settings {
            memory_bytes: usize::try_from(memory / 4).unwrap_or(usize::MAX),
            ..query::Settings::default()
        };
        let queries = query::Runtime::new(&query_settings)?;
        let workers = setup.project.profile.workers.unwrap_or_else(default_workers);
        let settings = Settings { report_rows_max: REPORT_ROWS_MAX, ..Settings::new(workers, runtime) };
        let mut engine = Engine::open(store, Arc::clone(&queries), settings)?;
        for table in described {
            let source = engine.register_source(&table.source)?;
            engine.register_table(source, &table.name, &table.schema)?;
        }
        let known: Vec<(TableName, Schema)> =
            engine.tables().filter_map(|t| Some((t.name.clone(), engine.relation(t.id)?.schema.clone()))).collect();
        let (models, findings) = plan_models(setup, &known);
        if !findings.is_empty() {
            return Ok(Err(findings));
        }
        let definitions = models.iter().map(|model| ModelDefinition {
            name: model.name.clone(),
            flow: model.planned.flow.clone(),
            schema: model.planned.schema.clone(),
        });
        let refused = engine.set_models(definitions.collect())?;
        if !refused.is_empty() {
            let finding = |(name, error): (TableName, engine::Error)| {
                Diagnostic::error(project::Place::file(&name.to_string()), error.to_string())
            };
            return Ok(Err(refused.into_iter().map(finding).collect()));
        }
        let replayed = engine.recover()?;
        tracing::info!(steps = replayed, "log replayed");
        let views = setup.views().map(|m| (TableName::new(&m.schema, &m.alias), m.sql.clone())).collect();
        Ok(Ok(Self { engine, queries, models, views, search_path: setup.search_path() }))
    }

    /// What queries may read now, without the system tables.
    pub fn readable(&self) -> query::Catalog {
        let mut catalog = self.engine.readable(self.search_path.clone());
        for (name, sql) in &self.views {
            catalog.add_view(name.clone(), sql.clone());
        }
        catalog
    }

    /// The tables that a source feeds, with the names they have in the project.
    pub fn tables_of(&self, source: &str) -> BTreeMap<TableName, TableId> {
        let id = self.engine.source(source);
        let tables = self.engine.tables().filter(|t| Some(t.source) == id);
        tables.map(|t| (t.name.clone(), t.id)).collect()
    }
}

/// Plans all models of a project over tables of these schemas; what cannot be planned is a finding at its place.
pub fn plan_models(setup: &Setup, tables: &[(TableName, Schema)]) -> (Vec<PlannedModel>, Vec<Diagnostic>) {
    let mut names = Names { path: setup.search_path(), ..Names::default() };
    for (name, schema) in tables {
        names.tables.insert(name.clone(), TableInfo { name: name.clone(), schema: schema.clone() });
    }
    let mut planned = Vec::new();
    let mut findings = Vec::new();
    for model in &setup.project.models {
        let name = TableName::new(&model.schema, &model.alias);
        if model.materialized == project::Materialized::View {
            names.views.insert(name, model.sql.clone());
            continue;
        }
        if !model.materialized.is_kept() {
            continue;
        }
        match plan::plan_model(&model.sql, &names) {
            Ok(plan) => {
                let info = TableInfo { name: name.clone(), schema: plan.schema.clone() };
                names.tables.insert(name.clone(), info);
                planned.push(PlannedModel { name, materialized: model.materialized.word(), planned: plan });
            }
            // A model over one that failed would only say so again.
            Err(_) if reads_failed(setup, model, &names) => {}
            Err(refusal) => findings.push(finding(model, &refusal)),
        }
    }
    (planned, findings)
}

fn reads_failed(setup: &Setup, model: &project::Model, names: &Names) -> bool {
    model.reads.iter().any(|dependency| match dependency {
        project::Dependency::Model(name) => setup.project.model(name).is_some_and(|m| {
            let full = TableName::new(&m.schema, &m.alias);
            !names.tables.contains_key(&full) && !names.views.contains_key(&full)
        }),
        project::Dependency::Source { .. } => false,
    })
}

fn finding(model: &project::Model, refusal: &plan::Refusal) -> Diagnostic {
    let place = refusal.line.and_then(|(line, column)| model.spans.locate_line(&model.sql, line, column));
    let place = place.unwrap_or_else(|| project::Place::file(&model.file));
    let mut finding = Diagnostic::error(place, format!("model \"{}\": {}", model.name, refusal.message));
    if !refusal.detail.is_empty() {
        finding = finding.detail(refusal.detail.clone());
    }
    if refusal.hint.is_empty() { finding } else { finding.hint(refusal.hint.clone()) }
}

/// Names for the planner.
#[derive(Default)]
struct Names {
    path: Vec<String>,
    tables: BTreeMap<TableName, TableInfo>,
    views: BTreeMap<TableName, String>,
}

impl Names {
    fn find<'a, T>(&'a self, of: &'a BTreeMap<TableName, T>, schema: Option<&str>, name: &str) -> Option<&'a T> {
        match schema {
            Some(schema) => of.get(&TableName::new(schema, name)),
            None => self.path.iter().find_map(|schema| of.get(&TableName::new(schema, name))),
        }
    }
}

impl plan::Catalog for Names {
    fn table(&self, schema: Option<&str>, name: &str) -> Option<TableInfo> {
        self.find(&self.tables, schema, name).cloned()
    }

    fn view(&self, schema: Option<&str>, name: &str) -> Option<String> {
        self.find(&self.views, schema, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.tables.keys().chain(self.views.keys()).map(ToString::to_string).collect()
    }
}

/// How the store shares a memory budget: overlay, hot rows and block cache; the rest is for queries and the system.
pub fn store_options(memory: u64) -> store::Options {
    store::Options {
        overlay_bytes: (memory / 8).clamp(64 << 20, 256 << 20),
        hot_bytes: (memory / 16).clamp(32 << 20, 512 << 20),
        cache_bytes: (memory / 8).clamp(32 << 20, 512 << 20),
        ..store::Options::default()
    }
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Half of the machine's memory, and 2 GiB where the system does not say.
pub fn default_memory() -> u64 {
    let total = read_meminfo(Path::new("/proc/meminfo"));
    total.map_or(2 << 30, |bytes| bytes / 2)
}

fn read_meminfo(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
