//! Rows by their keys over the Postgres wire at a steady rate, from an instance that runs already: the demo, say.
//!
//! Each connection asks at its own times, however long its last answer took, with a statement that it has prepared and then
//! with the key written in the text. At last one connection asks other queries: of a form that is known, of a text that is, and such that
//! are planned each time.
//!
//! The bench runs on the machine of the instance, and a busy machine keeps it waiting as well. So beside each figure stands that of a server
//! that does nothing: a thread that sends back the byte it gets, asked meanwhile over loopback by a client like the others.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::running::{client, number};
use super::{Random, line, quantile};
use crate::clock::stopwatch;

/// Settings of the bench.
#[derive(Debug, Clone, clap::Args)]
pub struct PointsArgs {
    /// Where the instance answers
    #[arg(long, default_value = "127.0.0.1:5433")]
    address: String,
    /// What is read: a table or model with one column as its key, a bigint
    #[arg(long, default_value = "shop.orders")]
    relation: String,
    /// That column
    #[arg(long, default_value = "order_id")]
    key: String,
    /// Reads per second
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Connections that they come from
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// How long to read, in each way
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Queries per second that are planned each: the bench asks how long one takes, not how many there may be.
const PLANNED_RATE_MAX: u64 = 100;
/// How often the server that does nothing is asked.
const ECHO_PERIOD: Duration = Duration::from_millis(5);
/// Keys that are asked for.
const KEYS_MAX: u64 = 100_000;

/// How a row is asked for.
#[derive(Debug, Clone, Copy)]
enum Way {
    Prepared,
    Text,
    /// As text, with a condition more, so that it is no read of a key alone.
    Form,
    /// The same text again and again.
    SameText,
    /// As the second, of a form that no other has.
    Planned,
}

/// Runs the bench.
pub(super) async fn run(args: &PointsArgs) -> anyhow::Result<()> {
    let first = client(&args.address).await.with_context(|| format!("nobody answers at {}", args.address))?;
    let keys = keys(&first, args).await?;
    ensure!(!keys.is_empty(), "{} has no rows", args.relation);
    let one_by_one = PointsArgs { rate: args.rate.min(PLANNED_RATE_MAX), connections: 1, ..args.clone() };
    let ways = [
        ("prepared", Way::Prepared, args),
        ("key in the text", Way::Text, args),
        ("a query of a known form", Way::Form, &one_by_one),
        ("the same query again", Way::SameText, &one_by_one),
        ("a query that is planned", Way::Planned, &one_by_one),
    ];
    let echo = Echo::start()?;
    for (word, way, args) in ways {
        let meanwhile = tokio::spawn(echoed(echo.address, Duration::from_secs(args.seconds)));
        let before = changes(&first).await?;
        let begun = stopwatch();
        let mut connections = JoinSet::new();
        for number in 0..args.connections.max(1) {
            let client = client(&args.address).await?;
            connections.spawn(ask(client, way, Plan::of(args, number), keys.clone()));
        }
        let mut times = Vec::new();
        while let Some(done) = connections.join_next().await {
            times.append(&mut done??);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let changed = changes(&first).await?.saturating_sub(before) as f64 / seconds;
        times.sort_by(f64::total_cmp);
        let mut nothing = meanwhile.await??;
        nothing.sort_by(f64::total_cmp);
        let at = |share| quantile(&times, share);
        line(&format!(
            "{word:<24} {:>6.0} reads/s, {changed:.0} changes/s beside: {:.2} ms p50, {:.2} ms p99, {:.2} ms p99.9, {:.1} ms at most (doing nothing {:.2} ms p50, {:.2} ms p99)",
            times.len() as f64 / seconds,
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            quantile(&nothing, 0.5),
            quantile(&nothing, 0.99),
        ));
    }
    Ok(())
}

/// A connection's part.
#[derive(Debug, Clone)]
struct Plan {
    select: String,
    key: String,
    period: Duration,
    /// Before its first question, so that not all ask at once.
    wait: Duration,
    reads: u64,
    seed: u64,
}

impl Plan {
    fn of(args: &PointsArgs, number: u32) -> Self {
        let connections = args.connections.max(1);
        let period = Duration::from_secs_f64(f64::from(connections) / args.rate.max(1) as f64);
        Self {
            select: format!("select * from {} where {}", args.relation, args.key),
            key: args.key.clone(),
            period,
            wait: period * number / connections,
            reads: args.rate * args.seconds / u64::from(connections),
            seed: u64::from(number),
        }
    }
}

async fn keys(client: &Client, args: &PointsArgs) -> anyhow::Result<Vec<i64>> {
    let sql = format!("select {} from {} limit {KEYS_MAX}", args.key, args.relation);
    let rows = client.query(&sql, &[]).await?;
    rows.iter().map(|row| Ok(row.try_get::<_, i64>(0)?)).collect()
}

/// Changes of source tables so far.
async fn changes(client: &Client) -> anyhow::Result<u64> {
    let changes = number(client, "select sum(changes_total) from tidemill.tables").await?;
    Ok(changes.map_or(Ok(0), |changes| changes.parse())?)
}

/// Answers how long each read took, in milliseconds.
async fn ask(client: Client, way: Way, plan: Plan, keys: Vec<i64>) -> anyhow::Result<Vec<f64>> {
    let prepared = client.prepare(&format!("{} = $1", plan.select)).await?;
    let mut random = Random(plan.seed);
    let mut times = Vec::new();
    tokio::time::sleep(plan.wait).await;
    let mut tick = tokio::time::interval(plan.period);
    for _ in 0..plan.reads {
        tick.tick().await;
        let key = keys[random.below(keys.len() as u64) as usize];
        let asked: Instant = stopwatch();
        let found = match way {
            Way::Prepared => client.query(&prepared, &[&key]).await?.len(),
            Way::Text => rows(&client, &format!("{} = {key}", plan.select)).await?,
            Way::Form => rows(&client, &format!("{} = {key} and 1 < 2 + random()", plan.select)).await?,
            Way::SameText => rows(&client, &format!("{} in ({}, {})", plan.select, keys[0], keys[0])).await?,
            Way::Planned => rows(&client, &format!("{} = {key} and {key} < {key} + 1 + random()", plan.select)).await?,
        };
        times.push(asked.elapsed().as_secs_f64() * 1e3);
        ensure!(found <= 1, "{found} rows of {} {key}", plan.key);
    }
    Ok(times)
}

async fn rows(client: &Client, sql: &str) -> anyhow::Result<usize> {
    let answer = client.simple_query(sql).await?;
    Ok(answer.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count())
}

/// A server that does nothing: it sends back each byte. It ends with the process.
struct Echo {
    address: SocketAddr,
}

impl Echo {
    fn start() -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        std::thread::Builder::new().name("echo".to_owned()).spawn(move || {
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { return };
                let mut byte = [0];
                while socket.read_exact(&mut byte).and_then(|()| socket.write_all(&byte)).is_ok() {}
            }
        })?;
        Ok(Self { address })
    }
}

/// How long each byte takes to the server that does nothing and back, in milliseconds.
async fn echoed(address: SocketAddr, duration: Duration) -> anyhow::Result<Vec<f64>> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (mut times, mut tick) = (Vec::new(), tokio::time::interval(ECHO_PERIOD));
    let begun = stopwatch();
    while begun.elapsed() < duration {
        tick.tick().await;
        let asked = stopwatch();
        socket.write_all(&[1]).await?;
        socket.read_exact(&mut [0]).await?;
        times.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}
