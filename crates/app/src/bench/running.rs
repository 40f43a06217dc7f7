//! A whole instance under measurement, and what it uses of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use connect::source::mysql;
use project::{ConnectionKind, Files, ListenSpec, Options, Start};
use relation::{ChunkDone, Position, Rows, SourceBatch};
use tokio_postgres::SimpleQueryMessage;

use super::{line, memory_mib};
use crate::clock::stopwatch;
use crate::follow::plan_feeds;
use crate::instance::Instance;
use crate::setup::{Global, Setup};
use crate::warehouse::Warehouse;

/// How the tables of an instance come to their first rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// By a load.
    Loading,
    /// By a log that has made them.
    InLog,
}

/// An instance with its data in a folder that goes with it.
pub(super) struct Running {
    pub instance: Instance,
    /// Where the source's log ended when the instance was about to start.
    pub target: Position,
    pub begun: Instant,
    cpu_before: f64,
    _data: tempfile::TempDir,
}

/// A project whose files are at hand. Where a database is given, its tables are read from there instead of from where the files say.
pub(super) fn setup(
    files: &Files,
    connection: Option<&ConnectionKind>,
    data: &tempfile::TempDir,
) -> anyhow::Result<Setup> {
    let options = Options { target: None, vars: BTreeMap::new(), env: std::env::vars().collect() };
    let folder = data.path().to_path_buf();
    let mut setup = Setup::from_files(folder.clone(), files, &options, Some(folder));
    let errors: Vec<_> = setup.findings.iter().filter(|f| f.is_error()).map(ToString::to_string).collect();
    if !errors.is_empty() {
        bail!("the project cannot run\n{}", errors.join("\n"));
    }
    if let Some(connection) = connection {
        let read_from: BTreeSet<String> = setup.project.sources.iter().map(|table| table.connection.clone()).collect();
        for known in setup.project.connections.iter_mut().filter(|known| read_from.contains(&known.name)) {
            known.kind = connection.clone();
        }
        // Its tables are looked for in the connection's database, wherever the project has them.
        setup.project.sources.iter_mut().for_each(|table| table.schema = None);
    }
    let anywhere = ListenSpec { addr: ([127, 0, 0, 1], 0).into(), explicit: true };
    setup.project.profile.pg = anywhere;
    setup.project.profile.http = anywhere;
    Ok(setup)
}

impl Running {
    /// Starts a project over a connection, with an empty data folder in the system's folder for temporary files.
    pub(super) async fn start(files: &Files, connection: &ConnectionKind) -> anyhow::Result<Self> {
        Self::start_within(files, connection, None).await
    }

    /// The same with so many bytes as its `memory`.
    pub(super) async fn start_within(
        files: &Files,
        connection: &ConnectionKind,
        memory: Option<u64>,
    ) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let mut setup = setup(files, Some(connection), &data)?;
        setup.project.profile.memory = memory;
        let begin = match connection {
            ConnectionKind::Mysql { start: Start::Binlog { .. }, .. } => Begin::InLog,
            _ => Begin::Loading,
        };
        Self::start_project(&setup, begin, data, None).await
    }

    /// Starts this project; with the options by which it is found on disk it can be applied again.
    pub(super) async fn start_project(
        setup: &Setup,
        begin: Begin,
        data: tempfile::TempDir,
        global: Option<Arc<Global>>,
    ) -> anyhow::Result<Self> {
        let Some(feed) = setup.feeds()?.into_iter().next() else { bail!("the project has no source") };
        let target = feed.source().await.current_position().await.map_err(|e| anyhow::anyhow!(e.text()))?;
        let Some(target) = target else { bail!("the project's source has no end") };
        let cpu_before = cpu_seconds();
        let begun = stopwatch();
        let (feeds, described) = plan_feeds(setup).await?;
        let opening = setup.clone();
        let opening = move || Warehouse::open(&opening, &described);
        let mut warehouse = tokio::task::spawn_blocking(opening).await??;
        if let Some((model, reason)) = warehouse.serving.waiting.first() {
            bail!("model {model} cannot be kept: {reason}");
        }
        if begin == Begin::InLog {
            let nothing = nothing_to_load(&warehouse);
            tokio::task::block_in_place(|| warehouse.engine.step(nothing))?;
        }
        let instance = Instance::start(setup, warehouse, feeds, global, None).await?;
        Ok(Self { instance, target: without_gtids(target), begun, cpu_before, _data: data })
    }

    /// Waits until every table is loaded and every model live. Errors: a table or model cannot be kept.
    pub(super) async fn until_live(&self) -> anyhow::Result<()> {
        let mut poll = tokio::time::interval(Duration::from_millis(2));
        loop {
            poll.tick().await;
            if self.instance.has_failed() {
                bail!("the engine has stopped; the log above says why");
            }
            let facts = self.instance.status.facts();
            let tables = facts.tables.iter().map(|(name, t)| (name, &t.state, &t.message));
            let models = facts.models.iter().map(|(name, m)| (name, &m.state, &m.message));
            let mut waiting = !facts.started;
            for (name, state, message) in tables.chain(models) {
                match state.as_str() {
                    "parked" | "failed" => bail!("{name}: {message}"),
                    "snapshot" | "resnapshot" | "altered" | "building" => waiting = true,
                    _ => {}
                }
            }
            if let Some((name, source)) = facts.sources.iter().find(|(_, s)| s.state == "stalled") {
                bail!("source {name}: {}", source.message);
            }
            if !waiting {
                return Ok(());
            }
        }
    }

    /// Waits until what the log held at the start is visible, or so many changes of it.
    pub(super) async fn until_caught_up(&self, changes_max: u64) -> anyhow::Result<()> {
        let mut poll = tokio::time::interval(Duration::from_millis(5));
        loop {
            poll.tick().await;
            self.until_live().await?;
            let facts = self.instance.status.facts();
            let reached = |s: &crate::status::SourceStatus| {
                let current = without_gtids(Position(s.position.clone()));
                mysql::reached(&current, &self.target).unwrap_or(false)
            };
            let changes: u64 = facts.tables.values().map(|t| t.changes_total).sum();
            if changes >= changes_max || facts.sources.values().all(reached) {
                return Ok(());
            }
        }
    }

    /// Waits for folds and compaction, and answers how long that took.
    pub(super) async fn until_idle(&self) -> anyhow::Result<f64> {
        let store = self.instance.status.store().clone();
        let begun = stopwatch();
        tokio::task::spawn_blocking(move || store.wait_idle()).await??;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Changed rows of source tables since the start, an update once.
    pub(super) fn changes(&self) -> u64 {
        self.instance.status.facts().tables.values().map(|t| t.changes_total).sum()
    }

    /// Prints the rate of changes until now, what it took of the machine, and who took it.
    pub(super) fn tell(&self, visible: f64, idle: f64) {
        self.tell_of(self.changes(), "change", visible, idle);
    }

    /// The same of so many of what is counted by its name.
    pub(super) fn tell_of(&self, count: u64, name: &str, visible: f64, idle: f64) {
        let changes = count as f64;
        let total = visible + idle;
        let cpu = cpu_seconds() - self.cpu_before;
        let (now, peak) = memory_mib();
        line(&format!(
            "until visible        {:>10.0} {name}s/s  ({changes:.0} {name}s in {visible:.1} s)",
            changes / visible
        ));
        line(&format!(
            "all, folds included  {:>10.0} {name}s/s  ({total:.1} s, of them {idle:.1} s folding at the end)",
            changes / total
        ));
        line(&format!(
            "processor            {:>10.2} µs per {name}  ({cpu:.1} s in {total:.1} s: {})",
            cpu * 1e6 / changes,
            shares(cpu)
        ));
        line(&format!("resident memory      {now:>10} MiB now, {peak} MiB at most"));
        let stats = self.instance.status.store().stats();
        line(&format!(
            "store                {:>10} MiB of tables, {} MiB of log, {} entries folded, commits waited {:.1} s for folds",
            stats.disk_bytes >> 20,
            stats.log_bytes >> 20,
            stats.folded_entries,
            stats.commit_wait.as_secs_f64()
        ));
        let reads = (stats.hot_hits + stats.hot_misses) as f64;
        line(&format!(
            "point reads          {:>10.2} per {name}, {:.1} % past the hot cache of {} MiB",
            reads / changes,
            100.0 * stats.hot_misses as f64 / reads.max(1.0),
            stats.hot_bytes >> 20
        ));
    }
}

/// A client of an instance, as one that asks over the Postgres wire; its connection ends with it.
pub(super) async fn client(address: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (host, port) = address.rsplit_once(':').context("no address")?;
    let mut config = tokio_postgres::Config::new();
    config.host(host).port(port.parse()?).user("tidemill").dbname("tidemill");
    let (client, driver) = config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(driver);
    Ok(client)
}

/// The first value of the first row; none where there is no row or it is NULL.
pub(super) async fn number(client: &tokio_postgres::Client, sql: &str) -> anyhow::Result<Option<String>> {
    let answer = client.simple_query(sql).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Says of every table that it is complete as it is, empty: its log is read from where it was made.
fn nothing_to_load(warehouse: &Warehouse) -> Vec<(u32, SourceBatch)> {
    let mut batches: BTreeMap<u32, SourceBatch> = BTreeMap::new();
    for table in warehouse.engine.tables() {
        let (id, cursor, rows) = (table.id, Vec::new(), Rows::new());
        let done = ChunkDone { table: id, cursor, complete: true, rows, unread: Rows::new(), rows_estimate: 0 };
        batches.entry(table.source).or_default().chunks.push(done);
    }
    batches.into_iter().collect()
}

/// A position by file and offset alone: a start in the middle of the log does not know what was executed before.
fn without_gtids(position: Position) -> Position {
    match position.0.split_once(" gtid=") {
        Some((point, _)) => Position(point.to_owned()),
        None => position,
    }
}

/// Processor time of this process so far, of all threads, in seconds.
fn cpu_seconds() -> f64 {
    cpu_of("/proc/self/stat").map_or(0.0, |(_, seconds)| seconds)
}

/// Name and processor time of a process or thread. Linux counts in hundredths of a second for every reader.
fn cpu_of(path: &str) -> Option<(String, f64)> {
    let text = std::fs::read_to_string(path).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let ticks: u64 = tail.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Some((name, ticks as f64 / 100.0))
}

/// Which threads took how much of the processor time; what ended meanwhile, such as a step's helpers, is the rest.
fn shares(total: f64) -> String {
    let mut by_name: BTreeMap<String, f64> = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        if let Some((name, seconds)) = cpu_of(&task.path().join("stat").to_string_lossy()) {
            *by_name.entry(name).or_default() += seconds;
        }
    }
    let rest = total - by_name.values().sum::<f64>();
    by_name.insert("a step's helpers".to_owned(), rest.max(0.0));
    let mut sorted: Vec<_> = by_name.into_iter().filter(|(_, seconds)| seconds / total >= 0.005).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    let shown = sorted.iter().map(|(name, seconds)| format!("{name} {:.0} %", seconds / total * 100.0));
    shown.collect::<Vec<_>>().join(", ")
}
