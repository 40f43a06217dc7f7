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

/// A table that the project has and its source has not.
#[derive(Debug, Clone)]
pub struct AbsentTable {
    pub source: String,
    pub name: TableName,
    /// As people read it.
    pub reason: String,
}

/// The project's tables as their sources have them now.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// Of a source that cannot be asked, none.
    pub tables: Vec<SourceTable>,
    pub absent: Vec<AbsentTable>,
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
    /// Tables that were not there at the start and were never known.
    pub absent: Vec<AbsentTable>,
    /// Models and views that stand on one of them, however far below, and why they cannot be kept.
    pub waiting: Vec<(TableName, String)>,
    pub search_path: Vec<String>,
}

impl Warehouse {
    /// Opens the store of a project and sets up its tables and models; the log's tail is replayed.
    ///
    /// Tables of a source that cannot be asked are as they were. A table that is not there, and was never known, is left out
    /// with all models over it. Models that cannot be planned are answered as findings, and nothing is opened.
    pub fn open(
        setup: &Setup,
        described: &Described,
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
        for table in &described.absent {
            engine.register_source(&table.source)?;
        }
        for table in &described.tables {
            let source = engine.register_source(&table.source)?;
            engine.register_table(source, &table.name, &table.schema)?;
        }
        let known: Vec<(TableName, Schema)> =
            engine.tables().filter_map(|t| Some((t.name.clone(), engine.relation(t.id)?.schema.clone()))).collect();
        let is_known = |name: &TableName| known.iter().any(|(known, _)| known == name);
        let absent: Vec<AbsentTable> = described.absent.iter().filter(|t| !is_known(&t.name)).cloned().collect();
        let waiting = waiting(setup, &absent);
        let (models, findings) = plan_models_but(setup, &known, &waiting);
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
        let views = setup.views().map(|m| (TableName::new(&m.schema, &m.alias), m.sql.clone()));
        let views = views.filter(|(name, _)| !waiting.iter().any(|(waits, _)| waits == name)).collect();
        Ok(Ok(Self { engine, queries, models, views, absent, waiting, search_path: setup.search_path() }))
    }

    /// Takes up a table that has come while the warehouse runs. Errors: what has to be done for it, for people.
    ///
    /// The engine learns of tables before it recovers, and of none afterwards. Once it can, it is told here, and the
    /// models in [`Warehouse::waiting`] that have all their tables are planned and set; the source loads the table as soon
    /// as it has its number ([`crate::follow`]).
    pub fn take_up(&mut self, source: &str, name: &TableName, _schema: &Schema) -> anyhow::Result<TableId> {
        anyhow::bail!("table {name} of source \"{source}\" is there now; restart Tidemill to load it")
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
    plan_models_but(setup, tables, &[])
}

/// The same without models that cannot be kept anyhow.
fn plan_models_but(
    setup: &Setup,
    tables: &[(TableName, Schema)],
    left_out: &[(TableName, String)],
) -> (Vec<PlannedModel>, Vec<Diagnostic>) {
    let mut names = Names { path: setup.search_path(), ..Names::default() };
    for (name, schema) in tables {
        names.tables.insert(name.clone(), TableInfo { name: name.clone(), schema: schema.clone() });
    }
    let mut planned = Vec::new();
    let mut findings = Vec::new();
    for model in &setup.project.models {
        let name = TableName::new(&model.schema, &model.alias);
        if left_out.iter().any(|(left_out, _)| *left_out == name) {
            continue;
        }
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

/// Models and views that read a table that is absent, themselves or through others, with the reason of that table.
fn waiting(setup: &Setup, absent: &[AbsentTable]) -> Vec<(TableName, String)> {
    let mut found: Vec<(TableName, String)> = Vec::new();
    // Models stand behind those that they read; the others are looked at again until there is nothing new.
    loop {
        let before = found.len();
        for model in &setup.project.models {
            let name = TableName::new(&model.schema, &model.alias);
            if found.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let reason = model.reads.iter().find_map(|dependency| match dependency {
                project::Dependency::Source { source, table } => {
                    let of = TableName::new(source, table);
                    absent.iter().find(|t| t.name == of).map(|t| t.reason.clone())
                }
                project::Dependency::Model(of) => {
                    let of = setup.project.model(of).map(|m| TableName::new(&m.schema, &m.alias))?;
                    found.iter().find(|(known, _)| *known == of).map(|(_, reason)| reason.clone())
                }
            });
            found.extend(reason.map(|reason| (name, reason)));
        }
        if found.len() == before {
            return found;
        }
    }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A table that is not there takes the models over it along, and no others; those are planned.
    #[test]
    fn models_over_a_table_that_is_not_there_wait_and_all_others_are_planned() {
        let options = project::Options::default();
        let setup = Setup::from_files(PathBuf::from("demo"), &crate::demo::files(), &options, None);
        let simulator = crate::demo::Simulator::new(&project::SimulatedShop::default());
        let (mut tables, mut absent) = (Vec::new(), Vec::new());
        for table in &setup.project.sources {
            let name = TableName::new(&table.source, &table.name);
            if table.identifier == "refunds" {
                let reason = "it is not there".to_owned();
                absent.push(AbsentTable { source: table.connection.clone(), name, reason });
                continue;
            }
            tables.push((name, simulator.schema(&table.identifier).unwrap()));
        }
        assert_eq!(absent.len(), 1);
        let waiting = waiting(&setup, &absent);
        let (planned, findings) = plan_models_but(&setup, &tables, &waiting);
        assert_eq!(findings.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        assert!(waiting.iter().all(|(_, reason)| reason == "it is not there"));
        let kept: Vec<TableName> = setup.kept_models().map(|m| TableName::new(&m.schema, &m.alias)).collect();
        let missing = kept.iter().filter(|name| !planned.iter().any(|model| model.name == **name));
        let waits = kept.iter().filter(|name| waiting.iter().any(|(waiting, _)| waiting == *name));
        assert!(missing.eq(waits), "{waiting:?}");
        // The one that reads it, and one that reads that.
        assert!(waiting.len() > 1 && waiting.len() < kept.len(), "{waiting:?}");
    }
}
