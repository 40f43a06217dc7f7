//! Engine cases: tables, models and steps as text; every case runs in several executions that must agree.
//!
//! ```text
//! table                 a table definition                     model NAME            its SQL
//! rows                  rows loaded before the models          show NAME             the model's rows
//! step                  `+ table values` / `- table values`; the answer is what changed in each model
//! rejects               what the models could not take
//! ```
//!
//! Executions: as written (each step's answer is compared with the file), then without answers: all in one step, change
//! by change, shuffled within what order allows, with two workers, with a restart after every step, and with the models
//! built after all steps, in large portions and row by row. After each, every model equals the batch engine's answer over
//! the tables, and all executions end with the same rows.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use engine::{Engine, ModelDefinition, ModelState, Settings};
use futures::StreamExt;
use plan::{Planned, TableInfo, TableName};
use relation::{ChunkDone, Layout, Position, Schema, SourceBatch, TableId, Value};
use testkit::{Block, Driver};

fn main() {
    testkit::run(env!("CARGO_MANIFEST_DIR"), "tests/cases", |_: &Path| Case::default())
}

/// A change as written: table, values, weight.
type Change = (String, Vec<String>, i8);

#[derive(Default)]
struct Case {
    tables: Vec<(String, Schema)>,
    models: Vec<(String, String)>,
    loaded: Vec<Change>,
    steps: Vec<Vec<Change>>,
    live: Option<House>,
}

impl Driver for Case {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        match block.directive.as_str() {
            "table" => {
                let (name, schema) = plan::parse_table_definition(&block.body)?;
                self.tables.push((name.name, schema));
                Ok(String::new())
            }
            "model" => {
                self.models.push((block.arguments[0].clone(), block.body.clone()));
                Ok(String::new())
            }
            "rows" => {
                self.loaded.extend(changes(&block.body)?);
                Ok(String::new())
            }
            "step" => {
                let step = changes(&block.body)?;
                self.steps.push(step.clone());
                let house = self.house()?;
                let before = house.contents()?;
                house.step(&step)?;
                house.check()?;
                Ok(difference(&before, &house.contents()?))
            }
            "show" => {
                let name = block.arguments[0].clone();
                Ok(rows_text(&self.house()?.model_rows(&name)?))
            }
            "state" => {
                let house = self.house()?;
                let models = house.engine().models();
                Ok(models.iter().map(|m| format!("{} {:?}", m.name.name, m.state)).collect::<Vec<_>>().join("\n"))
            }
            "rejects" => {
                let rejects = self.house()?.engine().rejects(100).map_err(|e| e.to_string())?;
                let lines = rejects.iter().map(|reject| {
                    let row = match &reject.row {
                        engine::RejectedRow::Columns(columns) => {
                            let columns = columns.iter().map(|(name, value)| format!("{name}={value}"));
                            columns.collect::<Vec<_>>().join(" ")
                        }
                        engine::RejectedRow::Text(text) => text.clone(),
                    };
                    format!("{} {} [{row}]", reject.node, reject.reason)
                });
                Ok(lines.collect::<Vec<_>>().join("\n"))
            }
            other => Err(format!("unknown directive {other}")),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        let wanted = self.house()?.contents()?;
        self.live = None;
        let all: Vec<Change> = self.steps.concat();
        let single: Vec<Vec<Change>> = all.iter().map(|change| vec![change.clone()]).collect();
        let executions: [(&str, Vec<Vec<Change>>, Mode); 8] = [
            ("in one step", vec![all], Mode::default()),
            ("change by change", single.clone(), Mode::default()),
            ("built beside the steps", single, Mode { beside: true, ..Mode::default() }),
            ("shuffled", self.steps.iter().map(|step| shuffled(step)).collect(), Mode::default()),
            ("with two workers", self.steps.clone(), Mode { workers: 2, ..Mode::default() }),
            ("with a restart after every step", self.steps.clone(), Mode { restart: true, ..Mode::default() }),
            ("built after all steps", self.steps.clone(), Mode { build_last: true, ..Mode::default() }),
            ("built row by row", self.steps.clone(), Mode { build_last: true, in_rows: true, ..Mode::default() }),
        ];
        for (name, steps, mode) in executions {
            self.execute(&steps, mode, &wanted).map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Mode {
    workers: usize,
    restart: bool,
    build_last: bool,
    /// Portions of a build are one row.
    in_rows: bool,
    /// Steps go on between a build's beginning, its run and its end.
    beside: bool,
}

impl Default for Mode {
    fn default() -> Self {
        Self { workers: 1, restart: false, build_last: false, in_rows: false, beside: false }
    }
}

impl Case {
    fn house(&mut self) -> Result<&mut House, String> {
        if self.live.is_none() {
            let mut house = House::new(&self.tables, &self.models, Mode::default())?;
            house.load(&self.loaded)?;
            house.build()?;
            self.live = Some(house);
        }
        self.live.as_mut().ok_or_else(|| "no house".to_owned())
    }

    fn execute(&self, steps: &[Vec<Change>], mode: Mode, wanted: &Contents) -> Result<(), String> {
        let mut house = House::new(&self.tables, &self.models, mode)?;
        house.load(&self.loaded)?;
        if !mode.build_last && !mode.beside {
            house.build()?;
        }
        let mut build = None;
        for (i, step) in steps.iter().enumerate() {
            if mode.beside {
                house.build_on(&mut build)?;
            }
            house.step(step)?;
            if mode.restart {
                // Every second restart comes after a fold, so that both ways of coming back are walked.
                house = house.restarted(i % 2 == 1)?;
                house.check()?;
            }
        }
        while mode.beside && house.build_on(&mut build)? {}
        house.build()?;
        house.check()?;
        let got = house.contents()?;
        if got == *wanted { Ok(()) } else { Err(format!("another answer:\n{}", difference(wanted, &got))) }
    }
}

/// A store, an engine over it, and the plans of its models.
struct House {
    dir: Arc<tempfile::TempDir>,
    runtime: Arc<tokio::runtime::Runtime>,
    queries: Arc<query::Runtime>,
    engine: Option<Engine>,
    tables: Vec<(String, Schema)>,
    plans: Vec<(TableName, Planned)>,
    mode: Mode,
    offset: u64,
}

/// Rows of every model, as text, sorted.
type Contents = BTreeMap<String, Vec<String>>;

const SCHEMA: &str = "public";

impl House {
    fn new(tables: &[(String, Schema)], models: &[(String, String)], mode: Mode) -> Result<Self, String> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().map_err(|e| e.to_string())?;
        let queries = query::Runtime::new(&query::Settings::default()).map_err(|e| e.to_string())?;
        let plans = plan_all(tables, models)?;
        let dir = Arc::new(tempfile::tempdir().map_err(|e| e.to_string())?);
        let runtime = Arc::new(runtime);
        let tables = tables.to_vec();
        let mut house = Self { dir, runtime, queries, engine: None, tables, plans, mode, offset: 0 };
        house.open()?;
        Ok(house)
    }

    fn open(&mut self) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let store = store::Store::open(self.dir.path(), store::Options::default()).map_err(|e| text(&e))?;
        let mut settings = Settings::new(self.mode.workers, self.runtime.handle().clone());
        if self.mode.in_rows {
            (settings.build_rows_max, settings.build_bytes_max) = (1, 1);
        }
        let mut engine = Engine::open(store, Arc::clone(&self.queries), settings).map_err(|e| text(&e))?;
        let source = engine.register_source("test").map_err(|e| text(&e))?;
        for (name, schema) in &self.tables {
            engine.register_table(source, &TableName::new(SCHEMA, name), schema).map_err(|e| text(&e))?;
        }
        let definitions = self.plans.iter().map(|(name, planned)| ModelDefinition {
            name: name.clone(),
            flow: planned.flow.clone(),
            schema: planned.schema.clone(),
        });
        let refused = engine.set_models(definitions.collect()).map_err(|e| text(&e))?;
        if let Some((name, error)) = refused.first() {
            return Err(format!("{name}: {error}"));
        }
        engine.recover().map_err(|e| text(&e))?;
        self.engine = Some(engine);
        Ok(())
    }

    fn restarted(mut self, folded: bool) -> Result<Self, String> {
        if folded {
            self.engine().store().fold_now().map_err(|e| e.to_string())?;
        }
        self.engine = None;
        self.open()?;
        self.build()?;
        Ok(self)
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    fn table(&mut self, name: &str) -> Result<(TableId, Schema), String> {
        let wanted = TableName::new(SCHEMA, name);
        let engine = self.engine();
        let table = engine.tables().find(|t| t.name == wanted).ok_or_else(|| format!("no table {name}"))?;
        let id = table.id;
        Ok((id, engine.relation(id).unwrap().schema.clone()))
    }

    /// Loads rows as snapshots, and completes every table.
    /// Table by table, a step each, as a source loads them.
    fn load(&mut self, rows: &[Change]) -> Result<(), String> {
        for (name, _) in self.tables.clone() {
            let (id, schema) = self.table(&name)?;
            let layout = Layout::new(schema.types());
            let mut chunk =
                ChunkDone { table: id, cursor: vec![], complete: true, rows: relation::Rows::new(), rows_estimate: 0 };
            for (_, values, _) in rows.iter().filter(|(table, ..)| *table == name) {
                chunk.rows.push_values(&layout, &parse(&schema, values)?).map_err(|e| e.to_string())?;
            }
            self.run(SourceBatch { chunks: vec![chunk], ..SourceBatch::default() })?;
        }
        Ok(())
    }

    fn step(&mut self, changes: &[Change]) -> Result<(), String> {
        let mut batch = SourceBatch::default();
        for (name, values, weight) in changes {
            let (id, schema) = self.table(name)?;
            let layout = Layout::new(schema.types());
            let table = batch.table(id);
            table.rows.push_values(&layout, &parse(&schema, values)?).map_err(|e| e.to_string())?;
            table.weights.push(*weight);
        }
        self.run(batch)
    }

    fn run(&mut self, mut batch: SourceBatch) -> Result<(), String> {
        self.offset += 1;
        batch.position = Position(format!("{}", self.offset));
        let engine = self.engine();
        let source = engine.register_source("test").map_err(|e| e.to_string())?;
        engine.step(vec![(source, batch)]).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn build(&mut self) -> Result<(), String> {
        self.engine().build_ready(&mut |_| {}).map_err(|e| e.to_string())?;
        let failed = self.engine().models().iter().find_map(|m| match &m.state {
            ModelState::Failed { reason } => Some(format!("{} failed: {reason}", m.name)),
            _ => None,
        });
        failed.map_or(Ok(()), Err)
    }

    /// The next third of a build: its beginning, its run, its end. False when there is nothing to build.
    fn build_on(&mut self, build: &mut Option<(engine::Build, Option<engine::Result<()>>)>) -> Result<bool, String> {
        *build = match build.take() {
            None => self.engine().next_build().map_err(|e| e.to_string())?.map(|build| (build, None)),
            Some((mut build, None)) => {
                let outcome = build.run();
                Some((build, Some(outcome)))
            }
            Some((build, Some(outcome))) => {
                match self.engine().finish_build(build, outcome).map_err(|e| e.to_string())? {
                    engine::Finished::Failed(name, reason) => return Err(format!("{name} failed: {reason}")),
                    engine::Finished::Again(build) => Some((build, None)),
                    engine::Finished::Live(_) | engine::Finished::Dropped => None,
                }
            }
        };
        Ok(build.is_some() || self.engine().models().iter().any(|model| model.state == ModelState::Building))
    }

    fn session(&mut self) -> query::Session {
        let engine = self.engine.as_ref().unwrap();
        let catalog = engine.readable(vec![SCHEMA.to_owned()]);
        query::Session::new(engine.store().snapshot(), Arc::new(catalog), Arc::clone(&self.queries))
    }

    fn model_rows(&mut self, name: &str) -> Result<Vec<String>, String> {
        let session = self.session();
        let sql = format!("select * from \"{SCHEMA}\".\"{name}\"");
        self.runtime.block_on(async {
            let answer = session.sql(&sql).await.map_err(|e| e.to_string())?;
            collect(answer.stream).await
        })
    }

    fn contents(&mut self) -> Result<Contents, String> {
        let names: Vec<String> = self.plans.iter().map(|(name, _)| name.name.clone()).collect();
        names.into_iter().map(|name| Ok((name.clone(), self.model_rows(&name)?))).collect()
    }

    /// Every model equals the batch engine's answer. A batch query ends at a failing row, so models with rejected rows
    /// are compared with their flow, answered with such rows left out.
    fn check(&mut self) -> Result<(), String> {
        let plans: Vec<(TableName, Planned)> = self.plans.clone();
        for (name, planned) in plans {
            let kept = self.model_rows(&name.name)?;
            let session = self.session();
            let batch = self.runtime.block_on(async {
                let stream = session.logical(planned.logical.clone()).await.map_err(|e| e.to_string())?;
                collect(stream).await
            });
            let batch = match batch {
                Ok(rows) => rows,
                Err(_) => self.runtime.block_on(async {
                    let isolation = query::Isolation::Rows(Arc::new(|_| {}));
                    let flow = session.flow(&planned.flow, planned.flow.output, &isolation).await;
                    collect(flow.map_err(|e| e.to_string())?).await
                })?,
            };
            if kept != batch {
                let (kept, batch) = (Contents::from([(name.name.clone(), kept)]), Contents::from([(name.name, batch)]));
                return Err(format!("kept (+) against batch (-):\n{}", difference(&batch, &kept)));
            }
        }
        Ok(())
    }
}

async fn collect<S, E>(mut stream: S) -> Result<Vec<String>, String>
where
    S: futures::Stream<Item = Result<arrow::array::RecordBatch, E>> + Unpin,
    E: std::fmt::Display,
{
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|e| e.to_string())?;
        let columns: Vec<_> = batch
            .schema()
            .fields()
            .iter()
            .map(|f| relation::DataType::from_arrow(f.data_type()).map(|t| relation::Column::new(f.name(), t)))
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())?;
        let types: Vec<_> = columns.iter().map(|c| c.data_type).collect();
        let arrays: Vec<_> = batch
            .columns()
            .iter()
            .zip(&types)
            .map(|(a, t)| arrow::compute::cast(a, &t.to_arrow()))
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())?;
        let schema = Schema::new(columns, vec![]);
        let cast = relation::columns::batch(&engine::expr::arrow_schema(&schema), arrays, batch.num_rows());
        let layout = Layout::new(types);
        let encoded =
            relation::columns::encode(&layout, &cast.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        rows.extend(encoded.iter().map(|row| text(&layout.values(row))));
    }
    rows.sort();
    Ok(rows)
}

fn plan_all(tables: &[(String, Schema)], models: &[(String, String)]) -> Result<Vec<(TableName, Planned)>, String> {
    let mut catalog = Names(
        tables
            .iter()
            .map(|(n, s)| (n.clone(), TableInfo { name: TableName::new(SCHEMA, n), schema: s.clone() }))
            .collect(),
    );
    let mut plans = Vec::new();
    for (name, sql) in models {
        let planned = plan::plan_model(sql, &catalog).map_err(|e| format!("{name}: {e}"))?;
        let full = TableName::new(SCHEMA, name);
        catalog.0.insert(name.clone(), TableInfo { name: full.clone(), schema: planned.schema.clone() });
        plans.push((full, planned));
    }
    Ok(plans)
}

struct Names(BTreeMap<String, TableInfo>);

impl plan::Catalog for Names {
    fn table(&self, _schema: Option<&str>, name: &str) -> Option<TableInfo> {
        self.0.get(name).cloned()
    }

    fn view(&self, _schema: Option<&str>, _name: &str) -> Option<String> {
        None
    }
}

/// `+ table v v v` and `- table v v v`; a value with spaces stands in single quotes.
fn changes(body: &str) -> Result<Vec<Change>, String> {
    body.lines()
        .map(|line| {
            let mut words = words(line).into_iter();
            let weight = match words.next().as_deref() {
                Some("+") => 1,
                Some("-") => -1,
                other => return Err(format!("a change begins with + or -, not {other:?}")),
            };
            let table = words.next().ok_or("a change names its table")?;
            Ok((table, words.collect(), weight))
        })
        .collect()
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, tail) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = tail.trim_start();
    }
    words
}

fn parse(schema: &Schema, values: &[String]) -> Result<Vec<Value>, String> {
    if values.len() != schema.columns.len() {
        return Err(format!("{} values for {} columns", values.len(), schema.columns.len()));
    }
    let parsed = schema.columns.iter().zip(values).map(|(c, v)| Value::parse(c.data_type, v));
    parsed.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

fn text(values: &[Value]) -> String {
    let quoted = values.iter().map(|value| match value.to_string() {
        empty if empty.is_empty() || empty.contains(' ') => format!("'{empty}'"),
        plain => plain,
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn rows_text(rows: &[String]) -> String {
    rows.join("\n")
}

/// Rows that left and came, by model.
fn difference(before: &Contents, after: &Contents) -> String {
    let mut lines = Vec::new();
    for (model, rows) in after {
        let mut net: BTreeMap<&str, i64> = BTreeMap::new();
        before.get(model).into_iter().flatten().for_each(|row| *net.entry(row).or_insert(0) -= 1);
        rows.iter().for_each(|row| *net.entry(row).or_insert(0) += 1);
        for (sign, mark) in [(-1, '-'), (1, '+')] {
            for (row, count) in net.iter().filter(|(_, count)| count.signum() == sign) {
                (0..count.abs()).for_each(|_| lines.push(format!("{mark} {model} {row}")));
            }
        }
    }
    lines.join("\n")
}

/// Another order of a step's changes: tables in reverse, and the changes of different keys by a fixed shuffle; changes of
/// one row keep their order.
fn shuffled(step: &[Change]) -> Vec<Change> {
    let mut groups: BTreeMap<(std::cmp::Reverse<String>, u64), Vec<Change>> = BTreeMap::new();
    for change in step {
        let key = change.1.first().cloned().unwrap_or_default();
        let hash = key.bytes().fold(17_u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        let place = (std::cmp::Reverse(change.0.clone()), hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        groups.entry(place).or_default().push(change.clone());
    }
    groups.into_values().flatten().collect()
}
