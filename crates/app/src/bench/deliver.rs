//! Rows of a model to the destinations of a folder's syncs: the first fill, single changes at a steady rate, and all rows changed at
//! once.
//!
//! ```text
//! tidemill bench deliver --with examples/deliver
//! tidemill bench deliver --with examples/deliver --sync portraits_to_kafka --rows 2000000
//! ```
//!
//! The folder's `connections.yml` says where, and its `syncs/` what of the model `portraits`: the rest of the project is made here. What is made over
//! there stays.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mysql_async::prelude::Queryable as _;
use plan::TableName;
use project::{Files, Start};

use super::capture::project_of;
use super::running::Running;
use super::server::{OwnDatabase, ServerArgs};
use super::{line, memory_mib};
use crate::clock::stopwatch;
use crate::status::Stage;

/// Settings of the bench.
#[derive(Debug, clap::Args)]
pub struct DeliverArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// A project folder with the connections.yml and the syncs/ of the destinations; its syncs follow the model portraits
    #[arg(long, value_name = "DIR", default_value = "examples/deliver")]
    with: PathBuf,
    /// Only the sync in syncs/NAME.yml, so that one destination is measured alone; may be given several times
    #[arg(long, value_name = "NAME")]
    sync: Vec<String>,
    /// The database to make, and to drop at the end
    #[arg(long, default_value = "bench_deliver")]
    database: String,
    /// Rows of the model
    #[arg(long, default_value_t = 500_000)]
    rows: u64,
    /// Transactions per second of the middle part, one row each
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// How long that part is
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

const MODEL: (&str, &str) = (
    "portraits",
    "select id, name, tag, orders, total, first_at, last_at, is_new from {{ source('shop', 'users') }} where id >= 0",
);

/// How long a part may take before the bench gives up.
const PART_MAX: Duration = Duration::from_secs(900);

/// Runs the bench.
pub(super) async fn run(args: &DeliverArgs) -> anyhow::Result<()> {
    let with = Files::read(&args.with)
        .with_context(|| format!("cannot read the folder {}; name it with --with", args.with.display()))?;
    let destinations = with.get("connections.yml").context("the folder is no project with a connections.yml")?;
    let mut files = project_of(&["users"], &[MODEL]);
    let source = files.get("connections.yml").unwrap_or_default().to_owned();
    files.insert("connections.yml", format!("{source}{destinations}"));
    let is_wanted = |path: &str| {
        let name = path.strip_prefix("syncs/").and_then(|file| file.rsplit_once('.')).map(|(name, _)| name);
        name.is_some_and(|name| args.sync.is_empty() || args.sync.iter().any(|sync| sync == name))
    };
    for (path, text) in with.iter().filter(|(path, _)| is_wanted(path)) {
        files.insert(path, text);
    }
    let mut own = OwnDatabase::create(&args.server, &args.database).await?;
    let outcome = match fill(&mut own, args.rows).await {
        Ok(()) => measure(args, &files, &mut own).await,
        Err(error) => Err(error),
    };
    own.drop_it().await?;
    outcome
}

async fn fill(own: &mut OwnDatabase, rows: u64) -> anyhow::Result<()> {
    let server = &mut own.server;
    for sql in [
        "create table users (id bigint primary key, name varchar(60) not null, tag varchar(20) not null, orders bigint not null, \
         total decimal(18,2) not null, first_at datetime(6) not null, last_at datetime(6) not null, is_new tinyint(1) not null)",
        "create table digits (d int primary key)",
        "insert into digits values (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
    ] {
        server.query_drop(sql).await?;
    }
    for from in (0..rows).step_by(100_000) {
        let until = rows.min(from + 100_000);
        let sql = format!(
            "insert into users select n, concat('user number ', n), elt(1 + n % 3, 'gold', 'silver', 'none'), n % 97, n * 0.31, \
             '2026-01-01' + interval n second, '2026-02-01' + interval n second, n % 5 = 0
             from (select {from} + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d as n
                   from digits a, digits b, digits c, digits e, digits f) numbers where n < {until}"
        );
        server.query_drop(sql).await?;
    }
    Ok(())
}

async fn measure(args: &DeliverArgs, files: &Files, own: &mut OwnDatabase) -> anyhow::Result<()> {
    let connection = args.server.connection(&args.database, Start::Snapshot);
    let running = Running::start(files, &connection).await?;
    anyhow::ensure!(!running.instance.status.facts().deliveries.is_empty(), "the folder has no syncs");
    running.until_live().await?;
    let before = BTreeMap::new();
    tell("first fill", args.rows, &until_sent(&running, &before, args.rows, stopwatch()).await?);

    let before = sent(&running);
    let count = steady(args, own).await?;
    until_sent(&running, &before, count, stopwatch()).await?;
    tell_latency(&running, count);

    let before = sent(&running);
    own.server.query_drop("update users set orders = orders + 1, total = total + 1").await?;
    tell("all rows changed", args.rows, &until_sent(&running, &before, args.rows, stopwatch()).await?);
    let (now, peak) = memory_mib();
    line(&format!("resident memory      {now:>10} MiB now, {peak} MiB at most"));
    running.instance.stop().await
}

/// Rows and deletes that each sync has delivered so far.
fn sent(running: &Running) -> BTreeMap<String, u64> {
    let facts = running.instance.status.facts();
    facts.deliveries.iter().map(|(name, of)| (name.clone(), of.sent_total())).collect()
}

/// Waits until every sync has delivered so many rows more, and nothing waits; answers when each had. What was delivered is counted
/// twice a second.
async fn until_sent(
    running: &Running,
    before: &BTreeMap<String, u64>,
    rows: u64,
    begun: Instant,
) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    let mut done = BTreeMap::new();
    loop {
        poll.tick().await;
        let facts = running.instance.status.facts();
        for (name, of) in &facts.deliveries {
            let (state, message) = of.told();
            if matches!(state, "failed" | "paused") || of.rejected_total() > 0 {
                bail!("sync {name} is {state}: {message}");
            }
            let sent = of.sent_total() - before.get(name).copied().unwrap_or(0);
            if sent >= rows && of.backlog_rows() == 0 && state == "live" {
                done.entry(name.clone()).or_insert_with(|| begun.elapsed().as_secs_f64());
            }
        }
        if done.len() == facts.deliveries.len() {
            return Ok(done);
        }
        if begun.elapsed() > PART_MAX {
            bail!("not all was delivered after {PART_MAX:?}");
        }
    }
}

fn tell(part: &str, rows: u64, done: &BTreeMap<String, f64>) {
    for (sync, seconds) in done {
        line(&format!("{part:<20} {:>10.0} rows/s to {sync}  ({rows} in {seconds:.1} s)", rows as f64 / seconds));
    }
}

/// Changes one row in each transaction, no row twice in a round.
async fn steady(args: &DeliverArgs, own: &mut OwnDatabase) -> anyhow::Result<u64> {
    let count = (args.rate * args.seconds).min(args.rows);
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rate.max(1) as f64));
    for id in 0..count {
        tick.tick().await;
        own.server.query_drop(format!("update users set orders = orders + 1 where id = {id}")).await?;
    }
    Ok(count)
}

fn tell_latency(running: &Running, count: u64) {
    let facts = running.instance.status.facts();
    let model = TableName::new("public", MODEL.0);
    for (word, stage) in
        [("commit to visible", Stage::CommitVisible), ("visible to delivered", Stage::VisibleDelivered)]
    {
        let Some(histogram) = facts.latency.get(&(model.clone(), stage)) else { continue };
        line(&format!(
            "{word:<20} {:>10.1} ms p50, {:.1} ms p99, {:.1} ms at most  ({count} transactions of one row)",
            histogram.quantile_ms(0.5),
            histogram.quantile_ms(0.99),
            histogram.max_ms()
        ));
    }
}
