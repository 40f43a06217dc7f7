//! One model of a project gets another text while the shop goes on: how long `apply` and `rollback` take, what the others
//! feel of it, and whether a reader of what is replaced ever fails.
//!
//! A writer updates payments at a steady rate, and writes a number that rises into one of its own. A client asks for it every
//! few milliseconds: each number's time from its COMMIT until it is seen is taken. Another one reads a model that is built
//! anew. The database is that of `capture` and `whole`, to whose payments one is added.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use mysql_async::prelude::Queryable as _;
use project::{Files, Start};
use tokio::sync::{mpsc, oneshot};

use super::flood::{tell, until_seen};
use super::line;
use super::running::{Begin, Running, client, setup};
use super::server::ServerArgs;
use crate::clock::stopwatch;
use crate::pump::{Message, Request};
use crate::setup::Global;

/// Settings of the bench.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The database with the story
    #[arg(long, default_value = "bench_olist")]
    database: String,
    /// The project folder with the models; it is copied
    #[arg(long, value_name = "DIR", default_value = "examples/olist")]
    project: PathBuf,
    /// The file of the model that gets another text
    #[arg(long, value_name = "FILE", default_value = "models/dwd/dwd_orders.sql")]
    file: PathBuf,
    /// What of its text is replaced
    #[arg(long, default_value = "count(*) as items,")]
    old: String,
    /// What stands there from then on
    #[arg(long, default_value = "count(price) as items,")]
    new: String,
    /// What the reader asks meanwhile
    #[arg(long, default_value = "select count(*) from dws_trade_day where orders > 0")]
    read: String,
    /// Changes per second meanwhile, in transactions of ten
    #[arg(long, default_value_t = 2_000)]
    rate: u64,
    /// How often it is applied and taken back
    #[arg(long, default_value_t = 3)]
    times: u32,
}

/// Rows of one transaction.
const PORTION: u64 = 10;
/// Payments that are updated again and again.
const PAYMENTS: u64 = 20_000;
/// The order whose payment has the number.
const PROBE: &str = "bench";
const NEWEST: &str = "select installments from ods_order_payments where order_id = 'bench' and payment_no = 1";
/// How often the clients ask: what they take of the two cores is not there for what is measured.
const ASK_EVERY: Duration = Duration::from_millis(10);
const READ_EVERY: Duration = Duration::from_millis(20);

/// Runs the bench.
pub(super) async fn run(args: &ApplyArgs) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    copy(&args.project, folder.path()).with_context(|| {
        format!("cannot copy the project folder {}; name it with --project", args.project.display())
    })?;
    let connection = args.server.connection(&args.database, Start::Snapshot);
    let data = tempfile::tempdir()?;
    let mut setup = setup(&Files::read(folder.path())?, Some(&connection), &data)?;
    setup.folder = folder.path().to_path_buf();
    let [known] = &setup.project.connections[..] else { bail!("the project has not one connection") };
    std::fs::write(folder.path().join("connections.yml"), args.server.connection_text(&known.name, &args.database))?;
    let global = Global {
        project: Some(folder.path().to_path_buf()),
        target: None,
        vars: std::collections::BTreeMap::new(),
        data: Some(data.path().to_path_buf()),
    };
    let running = Running::start_project(&setup, Begin::Loading, data, Some(Arc::new(global))).await?;
    running.until_live().await?;
    line(&format!("all models live      {:>10.1} s", running.begun.elapsed().as_secs_f64()));
    let outcome = measure(args, &running, &folder.path().join(&args.file)).await;
    running.instance.stop().await?;
    let mut server = args.server.connect().await?;
    server.query_drop(format!("delete from `{}`.order_payments where order_id = '{PROBE}'", args.database)).await?;
    server.disconnect().await?;
    outcome
}

async fn measure(args: &ApplyArgs, running: &Running, file: &Path) -> anyhow::Result<()> {
    let before = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let after = before.replacen(&args.old, &args.new, 1);
    anyhow::ensure!(before != after, "{} has no {:?}", file.display(), args.old);
    let applier = running.instance.applier.clone().context("the instance takes no orders")?;

    let over = Arc::new(AtomicBool::new(false));
    let (written, to_see) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write(args.server.clone(), args.database.clone(), args.rate, written, Arc::clone(&over)));
    let address = running.instance.addresses.pg.clone();
    let watcher = tokio::spawn(until_seen(address.clone(), NEWEST, ASK_EVERY, to_see));
    let reader = tokio::spawn(read(address, args.read.clone(), Arc::clone(&over)));

    let quiet = stopwatch();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut phases = vec![("before".to_owned(), quiet..stopwatch())];
    for turn in 1..=args.times {
        std::fs::write(file, &after)?;
        let begun = stopwatch();
        let applied = applier.apply().await?;
        anyhow::ensure!(applied.is_whole(), "not applied: {applied:?}");
        line(&format!(
            "apply                {:>10.1} s  ({} models built anew, {} stayed)",
            begun.elapsed().as_secs_f64(),
            applied.changed.len() + applied.added.len(),
            applied.kept.len()
        ));
        phases.push((format!("apply {turn}"), begun..stopwatch()));
        tokio::time::sleep(Duration::from_secs(3)).await;
        std::fs::write(file, &before)?;
        let begun = stopwatch();
        let (answer, answered) = oneshot::channel();
        let asked = running.instance.inbox.send(Message::Ask(Request::Rollback(answer))).await;
        asked.ok().context("the engine has stopped")?;
        answered.await?.map_err(|reason| anyhow::anyhow!(reason))?;
        line(&format!("rollback             {:>10.3} s", begun.elapsed().as_secs_f64()));
        // It is over within a moment: what is felt of it is felt by those behind it.
        tokio::time::sleep(Duration::from_secs(3)).await;
        phases.push((format!("rollback {turn}"), begun..stopwatch()));
    }
    over.store(true, Ordering::Relaxed);
    let (changes, seconds) = writer.await??;
    let seen = watcher.await?.context("the client cannot ask the instance")?;
    let (reads, failed) = reader.await??;
    line(&format!("written              {:>10.0} changes/s  ({changes} in {seconds:.1} s)", changes as f64 / seconds));
    for (name, during) in &phases {
        tell(name, during, &seen);
    }
    line(&format!("reads of a model     {reads:>10}, {} failed", failed.len()));
    failed.iter().take(3).for_each(|error| line(&format!("  {error}")));
    anyhow::ensure!(failed.is_empty(), "reads failed while models were replaced");
    Ok(())
}

/// Updates payments at the wanted rate until it is over, a number in each tenth transaction; answers how many, in how many
/// seconds.
async fn write(
    server: ServerArgs,
    database: String,
    rate: u64,
    written: mpsc::UnboundedSender<(u64, std::time::Instant)>,
    over: Arc<AtomicBool>,
) -> anyhow::Result<(u64, f64)> {
    const NUMBERED: u64 = 5;
    let mut connection = server.connect().await?;
    connection.query_drop(format!("use `{database}`")).await?;
    let orders: Vec<String> = connection
        .query(format!("select order_id from order_payments where payment_sequential = 1 limit {PAYMENTS}"))
        .await?;
    anyhow::ensure!(!orders.is_empty(), "the database has no payments");
    connection.query_drop(format!("replace into order_payments values ('{PROBE}', 1, 'voucher', 0, 1.00)")).await?;
    let portions: Vec<&[String]> = orders.chunks(usize::try_from(PORTION)?).collect();
    let mut tick = tokio::time::interval(Duration::from_secs_f64(PORTION as f64 / rate.max(1) as f64));
    let begun = stopwatch();
    let mut count = 0;
    for (n, portion) in (1..).zip(portions.iter().cycle()) {
        if over.load(Ordering::Relaxed) {
            break;
        }
        tick.tick().await;
        let update = format!(
            "update order_payments set payment_value = payment_value + 1 where payment_sequential = 1 and order_id in ('{}')",
            portion.join("','")
        );
        let numbered = n / NUMBERED;
        if n % NUMBERED == 0 {
            let number =
                format!("update order_payments set payment_installments = {numbered} where order_id = '{PROBE}'");
            connection.query_drop(format!("begin; {update}; {number}; commit")).await?;
            if written.send((numbered, stopwatch())).is_err() {
                break;
            }
        } else {
            connection.query_drop(update).await?;
        }
        count += portion.len() as u64;
    }
    connection.disconnect().await?;
    Ok((count, begun.elapsed().as_secs_f64()))
}

/// Reads until it is over; answers how often, and what failed.
async fn read(address: String, sql: String, over: Arc<AtomicBool>) -> anyhow::Result<(u64, Vec<String>)> {
    let client = client(&address).await?;
    let (mut count, mut failed) = (0, Vec::new());
    let mut tick = tokio::time::interval(READ_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !over.load(Ordering::Relaxed) {
        tick.tick().await;
        count += 1;
        if let Err(error) = client.simple_query(&sql).await {
            failed.push(error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string));
        }
    }
    Ok((count, failed))
}

/// Copies a folder's files, but for what begins with a dot.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => std::fs::copy(entry.path(), target).map(drop)?,
        }
    }
    Ok(())
}
