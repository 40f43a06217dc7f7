//! One transaction of very many rows, and one of very large rows: how long after its COMMIT it is visible, that it is visible at
//! once, and what memory it takes.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use project::Start;

use super::capture::project_of;
use super::running::{Running, client, number};
use super::server::{OwnDatabase, ServerArgs};
use super::{line, memory_mib};
use crate::clock::stopwatch;

/// Settings of the bench.
#[derive(Debug, clap::Args)]
pub struct LargeArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The database to make, and to drop at the end
    #[arg(long, default_value = "bench_large")]
    database: String,
    /// Rows of the first transaction
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Rows of the second one
    #[arg(long, default_value_t = 16)]
    documents: u64,
    /// Size of each of those, in MiB; the server's max_allowed_packet is raised to that meanwhile (needs SUPER)
    #[arg(long, default_value_t = 64)]
    document: u64,
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
    ("counted", "select sum(orders) as orders from {{ ref('status_days') }}"),
    ("sizes", "select count(*) as documents, sum(octet_length(body)) as bytes from {{ source('shop', 'documents') }}"),
];

/// Rows that one statement of the first transaction writes.
const PORTION: u64 = 100_000;
/// How long a transaction may take to become visible before the bench gives up.
const VISIBLE_MAX: Duration = Duration::from_secs(900);

/// Runs the bench.
pub(super) async fn run(args: &LargeArgs) -> anyhow::Result<()> {
    let mut own = OwnDatabase::create(&args.server, &args.database).await?;
    let outcome = match tables(&mut own).await {
        Ok(()) => measure(args, &mut own).await,
        Err(error) => Err(error),
    };
    own.drop_it().await?;
    outcome
}

async fn tables(own: &mut OwnDatabase) -> anyhow::Result<()> {
    for sql in [
        "create table orders (id bigint primary key, customer_id bigint not null, status varchar(20) not null, \
         placed_on date not null, total decimal(10,2) not null)",
        "create table documents (id bigint primary key, body longtext character set latin1 not null)",
        "create table digits (d int primary key)",
        "insert into digits values (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
    ] {
        own.server.query_drop(sql).await?;
    }
    Ok(())
}

async fn measure(args: &LargeArgs, own: &mut OwnDatabase) -> anyhow::Result<()> {
    let connection = args.server.connection(&args.database, Start::Snapshot);
    let project = project_of(&["orders", "documents"], &MODELS);
    let running = Running::start_within(&project, &connection, Some(args.memory << 20)).await?;
    running.until_live().await?;

    own.server.query_drop("begin").await?;
    for from in (0..args.rows).step_by(usize::try_from(PORTION)?) {
        let until = args.rows.min(from + PORTION);
        let sql = format!(
            "insert into orders select n, n * 7 % 100000, 'created', '2026-01-01' + interval n % 365 day, 10 + n % 90
             from (select {from} + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d as n
                   from digits a, digits b, digits c, digits e, digits f) numbers where n < {until}"
        );
        own.server.query_drop(sql).await?;
    }
    own.server.query_drop("commit").await?;
    visible(&running, &format!("{} rows", args.rows), "select orders from counted", args.rows).await?;

    let packet: Option<u64> = own.server.query_first("select @@global.max_allowed_packet").await?;
    let wanted = ((args.document + 16) << 20).max(packet.unwrap_or_default());
    own.server.query_drop(format!("set global max_allowed_packet = {wanted}")).await?;
    let written = documents(args).await;
    if let Some(packet) = packet {
        own.server.query_drop(format!("set global max_allowed_packet = {packet}")).await?;
    }
    written?;
    let what = format!("{} rows of {} MiB", args.documents, args.document);
    visible(&running, &what, "select documents from sizes", args.documents).await?;
    let client = client(&running.instance.addresses.pg).await?;
    let bytes = number(&client, "select bytes from sizes").await?;
    let expected = (args.documents * (args.document << 20)).to_string();
    anyhow::ensure!(bytes.as_deref() == Some(&expected), "the rows have {bytes:?} bytes, not {expected}");
    running.instance.stop().await
}

/// Writes the large rows in one transaction, over a connection that knows of the larger packets.
async fn documents(args: &LargeArgs) -> anyhow::Result<()> {
    let mut server = args.server.connect().await?;
    server.query_drop(format!("use `{}`", args.database)).await?;
    server.query_drop("begin").await?;
    for id in 0..args.documents {
        let sql = format!("insert into documents values ({id}, repeat(char(65 + {id} % 26), {}))", args.document << 20);
        server.query_drop(sql).await?;
    }
    server.query_drop("commit").await?;
    Ok(server.disconnect().await?)
}

/// Waits until a count is the wanted one. Errors: another one was seen meanwhile, a part of the transaction.
async fn visible(running: &Running, what: &str, sql: &str, wanted: u64) -> anyhow::Result<()> {
    let committed = stopwatch();
    let client = client(&running.instance.addresses.pg).await?;
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    loop {
        poll.tick().await;
        let seen = number(&client, sql).await?.map_or(Ok(0), |seen| seen.parse::<u64>())?;
        if seen == wanted {
            break;
        }
        anyhow::ensure!(seen == 0, "{seen} of {what} are visible: a part of a transaction");
        anyhow::ensure!(!running.instance.has_failed(), "the engine has stopped; the log above says why");
        anyhow::ensure!(committed.elapsed() < VISIBLE_MAX, "{what} are not visible after {VISIBLE_MAX:?}");
    }
    let (now, peak) = memory_mib();
    line(&format!(
        "{what:<22} visible at once {:.1} s after COMMIT; resident memory {now} MiB now, {peak} MiB at most",
        committed.elapsed().as_secs_f64()
    ));
    Ok(())
}
