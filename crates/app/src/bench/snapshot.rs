//! The first load of a large table, while its log is followed: rows durable per second.
//!
//! The table is made for it, with orders as the Olist story has them, in a database of its own.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use project::Start;

use super::capture::project_of;
use super::line;
use super::running::Running;
use super::server::{OwnDatabase, ServerArgs};
use crate::clock::stopwatch;

/// Settings of the bench.
#[derive(Debug, clap::Args)]
pub struct SnapshotArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The database to make, and to drop at the end
    #[arg(long, default_value = "bench_snapshot")]
    database: String,
    /// Rows to load
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// How often they are loaded anew, each time into an empty warehouse
    #[arg(long, default_value_t = 5)]
    rounds: u64,
}

const ORDERS: &str = "create table orders (
  order_id char(32) primary key, customer_id char(32) not null,
  order_status enum('created','approved','invoiced','processing','shipped','delivered','canceled','unavailable') not null,
  order_purchase_timestamp datetime not null, order_approved_at datetime null,
  order_delivered_carrier_date datetime null, order_delivered_customer_date datetime null,
  order_estimated_delivery_date datetime null)";

/// Rows that one statement makes, from a table of digits.
const CHUNK: u64 = 100_000;

/// Runs the bench.
pub(super) async fn run(args: &SnapshotArgs) -> anyhow::Result<()> {
    let mut own = OwnDatabase::create(&args.server, &args.database).await?;
    let made = fill(&mut own, args.rows).await;
    let outcome = match made {
        Ok(()) => rounds(args).await,
        Err(error) => Err(error),
    };
    own.drop_it().await?;
    outcome
}

async fn fill(own: &mut OwnDatabase, rows: u64) -> anyhow::Result<()> {
    own.server.query_drop(ORDERS).await?;
    own.server.query_drop("create table digits (d int primary key)").await?;
    own.server.query_drop("insert into digits values (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)").await?;
    let mut from = 0;
    while from < rows {
        let count = CHUNK.min(rows - from);
        let sql = format!(
            "insert into orders select left(sha2(n, 256), 32), left(sha2(n + 1000000000, 256), 32), 1 + n % 8,
               '2017-01-01' + interval n second, '2017-01-02' + interval n second, '2017-01-04' + interval n second,
               if(n % 10 = 0, null, '2017-01-09' + interval n second), '2017-01-20' + interval n second
             from (select {from} + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d as n
                   from digits a, digits b, digits c, digits e, digits f) numbers where n < {from} + {count}"
        );
        own.server.query_drop(sql).await?;
        from += count;
    }
    Ok(())
}

async fn rounds(args: &SnapshotArgs) -> anyhow::Result<()> {
    let (mut from_start, mut from_chunk, mut folded) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let files = project_of(&["orders"], &[]);
        let running = Running::start(&files, &args.server.connection(&args.database, Start::Snapshot)).await?;
        first_chunk(&running).await;
        let chunk = running.begun.elapsed().as_secs_f64();
        running.until_live().await?;
        let durable = running.begun.elapsed().as_secs_f64();
        let loaded: u64 = running.instance.status.facts().tables.values().map(|t| t.snapshot_rows).sum();
        anyhow::ensure!(loaded == args.rows, "{loaded} rows were loaded, not {}", args.rows);
        running.until_idle().await?;
        let idle = running.begun.elapsed().as_secs_f64();
        let rows = args.rows as f64;
        from_start.push(rows / durable);
        from_chunk.push(rows / (durable - chunk).max(1e-3));
        folded.push(rows / idle);
        running.instance.stop().await?;
    }
    line(&format!("from the first chunk {}", spread(&mut from_chunk)));
    line(&format!(
        "from the start       {}  (connecting and watching the log for a second included)",
        spread(&mut from_start)
    ));
    line(&format!("all, folds included  {}", spread(&mut folded)));
    let (now, peak) = super::memory_mib();
    line(&format!("resident memory      {now:>10} MiB now, {peak} MiB at most"));
    Ok(())
}

/// Waits for the first rows, or for an end without any.
async fn first_chunk(running: &Running) {
    let mut poll = tokio::time::interval(Duration::from_millis(1));
    let waiting = stopwatch();
    while waiting.elapsed() < Duration::from_secs(60) {
        poll.tick().await;
        let facts = running.instance.status.facts();
        if facts.tables.values().any(|t| t.snapshot_rows > 0) || running.instance.has_failed() {
            return;
        }
    }
}

fn spread(rates: &mut [f64]) -> String {
    rates.sort_by(f64::total_cmp);
    let (low, high) = (rates.first().copied().unwrap_or(0.0), rates.last().copied().unwrap_or(0.0));
    let median = rates.get(rates.len() / 2).copied().unwrap_or(0.0);
    format!("{median:>10.0} rows/s  (median of {}; {low:.0} to {high:.0})", rates.len())
}
