//! `tidemill bench`: the figures of the README, repeatable on any machine.
//!
//! Each bench prints one line per figure with its unit, and the median and spread where it measures often. Times are wall
//! time; folds and compaction are waited for and included.

#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "generated keys and counts are small")]

mod apply;
mod capture;
mod consume;
mod deliver;
mod flood;
mod large;
mod latency;
mod maxwell;
mod orders;
mod points;
mod running;
mod server;
mod snapshot;
mod steps;

use crate::cli::print;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub what: Bench,
}

/// The benches.
#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    /// The engine alone: orders ⋈ products by day and brand (count, sum, count distinct), inserts then updates
    Orders(orders::OrdersArgs),
    /// A one-row step through many models, all touched and one touched
    Steps(steps::StepsArgs),
    /// A server's log at rest, from its beginning to durable tables
    Capture(capture::CaptureArgs),
    /// The same log to all models of a project
    Whole(capture::WholeArgs),
    /// The same log as Maxwell's JSON, into a file or a topic of Kafka
    Maxwell(maxwell::MaxwellArgs),
    /// Such a topic at rest, from its earliest message to durable tables
    Consume(consume::ConsumeArgs),
    /// Commit to visible at a steady rate of transactions
    Latency(latency::LatencyArgs),
    /// Millions of orders updated, in small transactions and in one, beside the work on another table
    Flood(flood::FloodArgs),
    /// One transaction of ten million rows, and one of rows of 64 MiB
    Large(large::LargeArgs),
    /// Rows by their keys over the wire at a steady rate, from an instance that runs
    Points(points::PointsArgs),
    /// Rows of a model to the destinations of a folder's syncs: all of them, changed ones, and at a steady rate
    Deliver(deliver::DeliverArgs),
    /// A model that gets another text while the shop goes on, and goes back to its old one
    Apply(apply::ApplyArgs),
    /// The first load of a large table
    Snapshot(snapshot::SnapshotArgs),
}

/// Runs a bench.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    match &args.what {
        Bench::Orders(args) => orders::run(args),
        Bench::Steps(args) => steps::run(args),
        Bench::Capture(args) => whole_way(capture::capture(args)),
        Bench::Whole(args) => whole_way(capture::whole(args)),
        Bench::Maxwell(args) => whole_way(maxwell::run(args)),
        Bench::Consume(args) => whole_way(consume::run(args)),
        Bench::Latency(args) => whole_way(latency::run(args)),
        Bench::Flood(args) => whole_way(flood::run(args)),
        Bench::Large(args) => whole_way(large::run(args)),
        Bench::Points(args) => whole_way(points::run(args)),
        Bench::Deliver(args) => whole_way(deliver::run(args)),
        Bench::Apply(args) => whole_way(apply::run(args)),
        Bench::Snapshot(args) => whole_way(snapshot::run(args)),
    }
}

/// Waits for a bench with servers and sources, from the thread that benches have to themselves.
fn whole_way(bench: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Handle::current().block_on(bench)
}

/// A store, an engine over it, and a runtime for its builds, in a temporary folder.
pub(crate) struct House {
    pub(crate) engine: engine::Engine,
    source: u32,
    _dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl House {
    /// Sets up tables and models; every table is empty and complete, every model live.
    pub(crate) fn new(
        tables: &[(&str, &str)],
        models: &[(String, String)],
        workers: usize,
        memory: u64,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let store = store::Store::open(dir.path(), crate::warehouse::store_options(memory))?;
        let queries = query::Runtime::new(&query::Settings::default())?;
        let settings = engine::Settings::new(workers, runtime.handle().clone());
        let mut engine = engine::Engine::open(store, queries, settings)?;
        let source = engine.register_source("bench")?;
        let mut known = Vec::new();
        let mut complete = relation::SourceBatch::default();
        for (name, columns) in tables {
            let (_, schema) =
                plan::parse_table_definition(&format!("{name}({columns})")).map_err(|e| anyhow::anyhow!("{e}"))?;
            let full = plan::TableName::new("public", *name);
            let id = engine.register_table(source, &full, &schema)?;
            known.push((full, schema));
            complete.chunks.push(relation::ChunkDone {
                table: id,
                cursor: Vec::new(),
                complete: true,
                rows: relation::Rows::new(),
                unread: relation::Rows::new(),
                rows_estimate: 0,
            });
        }
        let mut definitions = Vec::new();
        for (name, sql) in models {
            let planned = plan::plan_model(sql, &Tables(&known)).map_err(|e| anyhow::anyhow!("{e}"))?;
            let name = plan::TableName::new("public", name);
            definitions.push(engine::ModelDefinition { name, flow: planned.flow, schema: planned.schema });
        }
        if let Some((name, error)) = engine.set_models(definitions)?.into_iter().next() {
            anyhow::bail!("{name}: {error}");
        }
        engine.recover()?;
        engine.step(vec![(source, complete)])?;
        engine.build_ready(&mut |_| {})?;
        Ok(Self { engine, source, _dir: dir, _runtime: runtime })
    }

    /// The number of a table.
    pub(crate) fn table(&self, name: &str) -> relation::TableId {
        let found = self.engine.tables().find(|t| t.name.name == name);
        found.map_or(relation::TableId(0), |t| t.id)
    }

    /// One step.
    pub(crate) fn step(&mut self, batch: relation::SourceBatch) -> anyhow::Result<engine::StepReport> {
        Ok(self.engine.step(vec![(self.source, batch)])?)
    }
}

struct Tables<'a>(&'a [(plan::TableName, relation::Schema)]);

impl plan::Catalog for Tables<'_> {
    fn table(&self, _schema: Option<&str>, name: &str) -> Option<plan::TableInfo> {
        let found = self.0.iter().find(|(known, _)| known.name == name);
        found.map(|(name, schema)| plan::TableInfo { name: name.clone(), schema: schema.clone() })
    }

    fn view(&self, _schema: Option<&str>, _name: &str) -> Option<String> {
        None
    }
}

/// A deterministic stream of numbers (Steele, Lea, Flood: SplitMix64, OOPSLA 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A line of results.
pub(crate) fn line(text: &str) {
    print(text);
}

/// The value below which a share of them is; they are sorted, and 0 stands for none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted.get((sorted.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or(0.0)
}

/// Resident memory of this process now, and its highest so far, in MiB.
pub(crate) fn memory_mib() -> (u64, u64) {
    let memory = crate::process::memory();
    (memory.resident >> 20, memory.peak >> 20)
}
