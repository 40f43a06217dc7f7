//! A flood on one table beside the ordinary work on another: what the others feel, and how long it takes to absorb.
//!
//! All rows of `orders` are updated, first in small transactions by several writers, then in one transaction, while
//! another writer inserts payments at a steady rate. A client asks over the Postgres wire, again and again, which payment
//! is the newest: every payment's time from its COMMIT until it is seen is taken, so that a stop is counted for each
//! payment that fell into it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mysql_async::prelude::Queryable as _;
use project::Start;
use tokio::sync::mpsc;

use super::capture::project_of;
use super::running::{Running, client, number};
use super::server::{OwnDatabase, ServerArgs};
use super::{line, memory_mib, quantile};
use crate::clock::stopwatch;

/// Settings of the bench.
#[derive(Debug, clap::Args)]
pub struct FloodArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The database to make, and to drop at the end
    #[arg(long, default_value = "bench_flood")]
    database: String,
    /// Orders that the flood updates
    #[arg(long, default_value_t = 3_000_000)]
    orders: u64,
    /// Orders of one small transaction
    #[arg(long, default_value_t = 100)]
    portion: u64,
    /// Connections that write small transactions side by side
    #[arg(long, default_value_t = 2)]
    writers: u64,
    /// Payments per second beside it, each a transaction
    #[arg(long, default_value_t = 50)]
    rate: u64,
    /// Memory of the instance, in MiB
    #[arg(long, default_value_t = 1_024)]
    memory: u64,
}

const MODELS: [(&str, &str); 3] = [
    (
        "status_days",
        "select status, placed_on, count(*) as orders, sum(total) as revenue from {{ source('shop', 'orders') }} \
         group by status, placed_on",
    ),
    ("statuses", "select status, sum(orders) as orders from {{ ref('status_days') }} group by status"),
    ("newest_payment", "select count(*) as payments, max(id) as id from {{ source('shop', 'payments') }}"),
];

/// How often the client asks.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// The number of the newest payment.
const NEWEST: &str = "select id from newest_payment";

/// How long a flood may take to be absorbed before the bench gives up.
const ABSORBED_MAX: Duration = Duration::from_secs(600);

/// Runs the bench.
pub(super) async fn run(args: &FloodArgs) -> anyhow::Result<()> {
    let mut own = OwnDatabase::create(&args.server, &args.database).await?;
    let outcome = match fill(&mut own, args.orders).await {
        Ok(()) => measure(args).await,
        Err(error) => Err(error),
    };
    own.drop_it().await?;
    outcome
}

async fn fill(own: &mut OwnDatabase, orders: u64) -> anyhow::Result<()> {
    let server = &mut own.server;
    server
        .query_drop(
            "create table orders (id bigint primary key, customer_id bigint not null, status varchar(20) not null, \
             placed_on date not null, total decimal(10,2) not null)",
        )
        .await?;
    server.query_drop("create table payments (id bigint primary key, amount decimal(10,2) not null)").await?;
    server.query_drop("create table digits (d int primary key)").await?;
    server.query_drop("insert into digits values (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)").await?;
    for from in (0..orders).step_by(100_000) {
        let until = orders.min(from + 100_000);
        let sql = format!(
            "insert into orders select n, n * 7 % 100000, 'created', '2026-01-01' + interval n % 365 day, 10 + n % 90
             from (select {from} + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d as n
                   from digits a, digits b, digits c, digits e, digits f) numbers where n < {until}"
        );
        server.query_drop(sql).await?;
    }
    Ok(())
}

async fn measure(args: &FloodArgs) -> anyhow::Result<()> {
    let connection = args.server.connection(&args.database, Start::Snapshot);
    let running =
        Running::start_within(&project_of(&["orders", "payments"], &MODELS), &connection, Some(args.memory << 20))
            .await?;
    running.until_live().await?;
    let (written, to_see) = mpsc::unbounded_channel();
    let over = Arc::new(AtomicBool::new(false));
    let payments = tokio::spawn(pay(args.server.clone(), args.database.clone(), args.rate, written, Arc::clone(&over)));
    let watcher = tokio::spawn(until_seen(running.instance.addresses.pg.clone(), NEWEST, ASK_EVERY, to_see));

    let quiet = stopwatch();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut phases = vec![("before the flood", quiet..stopwatch())];
    phases.push(("small transactions", flood(args, &running, "small transactions", "paid", Some(args.portion)).await?));
    phases.push(("one transaction", flood(args, &running, "one transaction", "sent", None).await?));

    over.store(true, Ordering::Relaxed);
    let count = payments.await??;
    let seen = watcher.await?.context("the client cannot ask the instance")?;
    for (name, during) in phases {
        tell(name, &during, &seen);
    }
    anyhow::ensure!(seen.len() as u64 == count, "{} payments were seen, not {count}", seen.len());
    let (now, peak) = memory_mib();
    line(&format!(
        "resident memory      {now:>10} MiB now, {peak} MiB at most, the bench's own included; `memory` is {} MiB",
        args.memory
    ));
    running.instance.stop().await
}

/// Gives every order a status, and waits until the model says so; answers from when to when that was.
async fn flood(
    args: &FloodArgs,
    running: &Running,
    name: &str,
    status: &str,
    portion: Option<u64>,
) -> anyhow::Result<Range<Instant>> {
    let begun = stopwatch();
    let share = args.orders.div_ceil(if portion.is_some() { args.writers.max(1) } else { 1 });
    let mut writers = tokio::task::JoinSet::new();
    for from in (0..args.orders).step_by(usize::try_from(share.max(1))?) {
        let until = args.orders.min(from + share);
        let portion = portion.unwrap_or(share);
        let (server, database, status) = (args.server.clone(), args.database.clone(), status.to_owned());
        writers.spawn(async move {
            let mut connection = server.connect().await?;
            connection.query_drop(format!("use `{database}`")).await?;
            for from in (from..until).step_by(usize::try_from(portion.max(1))?) {
                let until = until.min(from + portion);
                let sql = format!(
                    "update orders set status = '{status}', total = total + 1 where id >= {from} and id < {until}"
                );
                connection.query_drop(sql).await?;
            }
            connection.disconnect().await?;
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    let committed = stopwatch();
    let client = client(&running.instance.addresses.pg).await?;
    let sql = format!("select orders from statuses where status = '{status}'");
    let wanted = args.orders.to_string();
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    while number(&client, &sql).await?.as_deref() != Some(&wanted) {
        poll.tick().await;
        anyhow::ensure!(!running.instance.has_failed(), "the engine has stopped; the log above says why");
        anyhow::ensure!(committed.elapsed() < ABSORBED_MAX, "the flood is not absorbed after {ABSORBED_MAX:?}");
    }
    let (write, absorb) = (committed - begun, committed.elapsed());
    line(&format!(
        "{name:<20} {:>10.1} s to write {} orders, all visible {:.1} s after their last commit",
        write.as_secs_f64(),
        args.orders,
        absorb.as_secs_f64()
    ));
    Ok(begun..stopwatch())
}

/// Inserts payments at the wanted rate until it is over, and tells of each when its COMMIT returned; answers how many.
async fn pay(
    server: ServerArgs,
    database: String,
    rate: u64,
    written: mpsc::UnboundedSender<(u64, Instant)>,
    over: Arc<AtomicBool>,
) -> anyhow::Result<u64> {
    let mut connection = server.connect().await?;
    connection.query_drop(format!("use `{database}`")).await?;
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate.max(1) as f64));
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        tick.tick().await;
        count += 1;
        connection.query_drop(format!("insert into payments values ({count}, {}.50)", count % 90)).await?;
        if written.send((count, stopwatch())).is_err() {
            break;
        }
    }
    connection.disconnect().await?;
    Ok(count)
}

/// A payment's COMMIT, and how long after it a client saw the payment.
pub(super) struct Seen {
    committed: Instant,
    after: Duration,
}

/// Asks for the number of the newest payment until all that were written are seen, at most once in `ask_every`.
pub(super) async fn until_seen(
    address: String,
    newest_sql: &str,
    ask_every: Duration,
    mut written: mpsc::UnboundedReceiver<(u64, Instant)>,
) -> anyhow::Result<Vec<Seen>> {
    let client = client(&address).await?;
    let mut poll = tokio::time::interval(ask_every);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut waiting, mut seen, mut newest) = (VecDeque::new(), Vec::new(), 0);
    loop {
        if waiting.is_empty() {
            let Some(payment) = written.recv().await else { return Ok(seen) };
            waiting.push_back(payment);
        }
        while let Ok(payment) = written.try_recv() {
            waiting.push_back(payment);
        }
        while let Some((_, committed)) = waiting.pop_front_if(|(id, _)| *id <= newest) {
            seen.push(Seen { committed, after: committed.elapsed() });
        }
        if let Some((id, committed)) = waiting.front() {
            anyhow::ensure!(committed.elapsed() < ABSORBED_MAX, "payment {id} is not visible after {ABSORBED_MAX:?}");
            poll.tick().await;
            newest = number(&client, newest_sql).await?.map_or(Ok(0), |id| id.parse())?;
        }
    }
}

/// Says what was felt by those that were committed meanwhile.
pub(super) fn tell(name: &str, during: &Range<Instant>, seen: &[Seen]) {
    let of_it = || seen.iter().filter(|s| during.contains(&s.committed));
    let longest = of_it().max_by_key(|s| s.after).map_or(Duration::ZERO, |s| s.committed - during.start);
    let mut after: Vec<_> = of_it().map(|s| s.after.as_secs_f64() * 1e3).collect();
    after.sort_by(f64::total_cmp);
    let at = |share| quantile(&after, share);
    line(&format!(
        "others: {name:<20} {:.1} ms p50, {:.1} ms p99, {:.1} ms at most, {:.1} s in  (COMMIT to seen by a client, {} payments)",
        at(0.5),
        at(0.99),
        at(1.0),
        longest.as_secs_f64(),
        after.len()
    ));
}
