//! Commit to visible at a steady rate of transactions, as the instance's histograms and as a client sees it.
//!
//! A writer of its own inserts an order and moves an older one on in each transaction. For a sample of them a client asks
//! the model, over the Postgres wire and again and again, until the order is there.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use mysql_async::prelude::Queryable as _;
use project::Start;
use tokio::sync::mpsc;
use tokio_postgres::SimpleQueryMessage;

use super::capture::project_of;
use super::running::{Running, client};
use super::server::{OwnDatabase, ServerArgs};
use super::{line, quantile};
use crate::clock::stopwatch;
use crate::status::Stage;

/// Settings of the bench.
#[derive(Debug, clap::Args)]
pub struct LatencyArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The database to make, and to drop at the end
    #[arg(long, default_value = "bench_latency")]
    database: String,
    /// Transactions per second
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// How long to write
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Orders that are there before
    #[arg(long, default_value_t = 10_000)]
    orders: u64,
    /// One of so many transactions is watched by the client
    #[arg(long, default_value_t = 20)]
    sample: u64,
}

const CUSTOMERS: u64 = 1_000;

const MODELS: [(&str, &str); 3] = [
    (
        "wide_orders",
        "select o.id, o.status, o.total, c.city from {{ source('shop', 'orders') }} o \
         join {{ source('shop', 'customers') }} c on c.id = o.customer_id",
    ),
    (
        "city_sales",
        "select city, count(*) as orders, sum(total) as revenue from {{ ref('wide_orders') }} group by city",
    ),
    (
        "status_days",
        "select status, placed_on, count(*) as orders, count(distinct customer_id) as customers \
         from {{ source('shop', 'orders') }} group by status, placed_on",
    ),
];

/// Runs the bench.
pub(super) async fn run(args: &LatencyArgs) -> anyhow::Result<()> {
    let mut own = OwnDatabase::create(&args.server, &args.database).await?;
    let outcome = match fill(&mut own, args.orders).await {
        Ok(()) => measure(args, &mut own).await,
        Err(error) => Err(error),
    };
    own.drop_it().await?;
    outcome
}

async fn fill(own: &mut OwnDatabase, orders: u64) -> anyhow::Result<()> {
    let server = &mut own.server;
    server.query_drop("create table customers (id bigint primary key, city varchar(40) not null)").await?;
    server
        .query_drop(
            "create table orders (id bigint primary key, customer_id bigint not null, status varchar(20) not null, \
             placed_on date not null, total decimal(10,2) not null)",
        )
        .await?;
    let customers: Vec<_> = (0..CUSTOMERS).map(|id| format!("({id},'city {}')", id % 50)).collect();
    server.query_drop(format!("insert into customers values {}", customers.join(","))).await?;
    for from in (0..orders).step_by(1_000) {
        let rows: Vec<_> = (from..orders.min(from + 1_000)).map(row).collect();
        server.query_drop(format!("insert into orders values {}", rows.join(","))).await?;
    }
    Ok(())
}

fn row(id: u64) -> String {
    format!("({id},{},'created','2026-01-{:02}',{}.50)", id * 7 % CUSTOMERS, 1 + id % 28, 10 + id % 90)
}

async fn measure(args: &LatencyArgs, own: &mut OwnDatabase) -> anyhow::Result<()> {
    let connection = args.server.connection(&args.database, Start::Snapshot);
    let running = Running::start(&project_of(&["orders", "customers"], &MODELS), &connection).await?;
    running.until_live().await?;
    let (sample, watched) = mpsc::channel(64);
    let watcher = tokio::spawn(watch(running.instance.addresses.pg.clone(), watched));
    let written = write(args, own, &sample).await;
    drop(sample);
    let mut seen = watcher.await?.context("the client cannot ask the instance")?;
    let (count, seconds) = written?;
    tell(args, &running, &mut seen, count, seconds).await?;
    running.instance.stop().await
}

/// Writes at the wanted rate; answers the number of transactions and how long that took.
async fn write(
    args: &LatencyArgs,
    own: &mut OwnDatabase,
    sample: &mpsc::Sender<(u64, Instant)>,
) -> anyhow::Result<(u64, f64)> {
    let count = args.rate * args.seconds;
    // A tick that comes late is made up for: the rate holds on average.
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rate.max(1) as f64));
    let begun = stopwatch();
    for n in 0..count {
        tick.tick().await;
        let id = args.orders + n;
        let (fresh, older) = (row(id), id.saturating_sub(100));
        let sql = format!(
            "begin; insert into orders values {fresh}; update orders set status = 'paid' where id = {older}; commit"
        );
        own.server.query_drop(sql).await?;
        if n % args.sample.max(1) == 0 {
            // One that the client has no time for is not watched.
            sample.try_send((id, stopwatch())).ok();
        }
    }
    Ok((count, begun.elapsed().as_secs_f64()))
}

/// Asks for one order after the other until it is there; answers the times since their commits, in milliseconds.
async fn watch(address: String, mut watched: mpsc::Receiver<(u64, Instant)>) -> anyhow::Result<Vec<f64>> {
    let client = client(&address).await?;
    let mut seen = Vec::new();
    while let Some((id, committed)) = watched.recv().await {
        let sql = format!("select id from wide_orders where id = {id}");
        let deadline = Duration::from_secs(30);
        loop {
            let answer = client.simple_query(&sql).await?;
            if answer.iter().any(|m| matches!(m, SimpleQueryMessage::Row(_))) {
                break;
            }
            anyhow::ensure!(committed.elapsed() < deadline, "order {id} is not visible after {deadline:?}");
        }
        seen.push(committed.elapsed().as_secs_f64() * 1e3);
    }
    Ok(seen)
}

async fn tell(args: &LatencyArgs, running: &Running, seen: &mut [f64], count: u64, seconds: f64) -> anyhow::Result<()> {
    running.instance.settle().await;
    let orders = i64::try_from(args.orders + count).unwrap_or(i64::MAX);
    let mut poll = tokio::time::interval(Duration::from_millis(10));
    let waiting = stopwatch();
    let wide = plan::TableName::new("public", "wide_orders");
    let kept = loop {
        poll.tick().await;
        let kept = running.instance.status.facts().models.get(&wide).map_or(0, |m| m.rows);
        if kept >= orders || waiting.elapsed() > Duration::from_secs(10) {
            break kept;
        }
    };
    line(&format!("written              {:>10.1} transactions/s  ({count} in {seconds:.1} s)", count as f64 / seconds));
    line(&format!("exactly once         {kept:>10} orders in the model, {orders} in the database"));
    anyhow::ensure!(kept == orders, "the model does not have every order once");
    let facts = running.instance.status.facts();
    for (word, stage) in [
        ("commit to visible", Stage::CommitVisible),
        ("  commit to read", Stage::CommitRead),
        ("  read to step", Stage::ReadDurable),
        ("  step", Stage::DurableVisible),
    ] {
        // One step brings all models: their histograms are the same.
        let Some(histogram) = facts.latency.get(&(wide.clone(), stage)) else { continue };
        line(&format!(
            "{word:<20} {:>10.1} ms p50, {:.1} ms p99, {:.1} ms at most  (by the commit's own time, {} transactions)",
            histogram.quantile_ms(0.5),
            histogram.quantile_ms(0.99),
            histogram.max_ms(),
            histogram.count()
        ));
    }
    seen.sort_by(f64::total_cmp);
    let at = |share| quantile(seen, share);
    line(&format!(
        "seen by a client     {:>10.1} ms p50, {:.1} ms p99, {:.1} ms at most  (after COMMIT returned, {} transactions)",
        at(0.5),
        at(0.99),
        at(1.0),
        seen.len()
    ));
    Ok(())
}
