//! The source as a whole, against a server that plays a script: with data waiting it never idles, beyond whatever limit.
//!
//! A source that idles never ends a trial, so every trial has a deadline; one that is reached is a failure.

use std::time::Duration;

use connect::source::mysql::{Load, MysqlSource};
use connect::{Limits, SourceEvent};
use libtest_mimic::{Failed, Trial};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use relation::Position;

use super::fake::{FILE, FakeServer, HEAD, Log, Script};
use super::splits::{Changes, Receiver, Transaction, scripted, transaction};
use super::table;

const PATIENCE: Duration = Duration::from_secs(60);
const TINY: Limits = Limits { transactions_max: 3, rows_max: 3, bytes_max: 100, queue: 1 };

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = super::splits::trials();
    trials.extend(super::texts::trials());
    trials.push(trial("a_transaction_beyond_the_rows_of_a_batch", || {
        let large = Transaction { events: vec![(false, 0, 1_000); 150], zipped: false, rolled_back: false };
        play(vec![large], Limits::default(), 4_096, Vec::new(), 0)
    }));
    trials.push(trial("a_transaction_beyond_every_limit", || {
        let large = Transaction { events: vec![(false, 2, 20); 400], zipped: false, rolled_back: false };
        let small = Transaction { events: vec![(true, 0, 1)], zipped: false, rolled_back: false };
        play(vec![small.clone(), large, small], TINY, 1_000, Vec::new(), 1)
    }));
    trials.push(trial("a_compressed_transaction_beyond_every_limit", || {
        let large = Transaction { events: vec![(false, 2, 20); 400], zipped: true, rolled_back: false };
        let small = Transaction { events: vec![(true, 0, 1)], zipped: true, rolled_back: false };
        play(vec![small.clone(), large, small], TINY, 1_000, Vec::new(), 1)
    }));
    trials.push(trial("a_large_transaction_is_read_again_after_a_lost_connection", || {
        let large = Transaction { events: vec![(false, 0, 20); 400], zipped: false, rolled_back: false };
        play(vec![large], TINY, 500, vec![30_000, 60_000, 9_000], 1)
    }));
    trials.push(trial("random_logs_with_tiny_limits", random_logs));
    trials.push(trial("rows_that_cannot_be_read", || broken_rows(false)));
    trials.push(trial("rows_that_cannot_be_read_in_one_event_of_the_log", || broken_rows(true)));
    trials.push(trial("keys_of_windows_are_forgotten_and_tables_read_again", forgotten_keys));
    trials.push(trial("a_table_in_doubt_is_loaded_again", loaded_again));
    trials.push(trial("a_load_waits_for_commits_that_are_in_the_log", || unacknowledged(5, false)));
    trials.push(trial("where_somebody_waits_all_the_time_those_of_before_are_waited_for", || unacknowledged(4, true)));
    trials
}

/// A commit is in the log, and no query shows it before so many looks: a load that begins behind it shows it all the same.
async fn unacknowledged(looks: usize, is_busy: bool) -> Result<(), String> {
    let lines = ["anonymous 1", "begin", "map 70 shop.orders", "update 70 2,b=>2,c", "xid"];
    let log = Log::of(&lines.map(str::to_owned))?;
    let orders = vec![(1, "a".to_owned()), (2, "b".to_owned())];
    let committed = vec![(1, "a".to_owned()), (2, "c".to_owned())];
    let unacknowledged = Some((looks, committed.clone()));
    let script = Script { log, piece_bytes: 1_000, orders, unacknowledged, is_busy, ..Script::default() };
    let server = FakeServer::start(script).await?;
    let tables = vec![table(0, "orders", true, Load::Pending { cursor: None })];
    let layout = relation::Layout::new(tables[0].schema.types());
    let (mut events, control) = MysqlSource::start(server.config(), tables, None, TINY);
    let chunk = loop {
        if let SourceEvent::Batch(batch) = events.recv().await.ok_or("the source has ended")?
            && let Some(chunk) = batch.chunks.into_iter().next()
        {
            break chunk;
        }
    };
    drop(events);
    control.stop().await;
    let name = |row: &[u8]| layout.values(row)[1].to_string();
    let names: Vec<String> = chunk.rows.iter().map(name).collect();
    match names == ["a", "c"] {
        true => Ok(()),
        false => Err(format!("loaded: {names:?}")),
    }
}

/// A table that comes into doubt twice, and once by hand: whoever receives the events by their rules has the server's rows,
/// and nothing of the table comes between a doubt and its load.
async fn loaded_again() -> Result<(), String> {
    let lines = [
        "anonymous 1",
        "begin",
        "map 70 shop.orders",
        "insert 70 1,a 2,b 3,c",
        "xid",
        "anonymous 2",
        "query ALTER TABLE orders DROP PARTITION p0",
        "anonymous 3",
        "begin",
        "map 70 shop.orders",
        "delete 70 3,c",
        "xid",
        "anonymous 4",
        "query RENAME TABLE orders TO x, y TO orders",
        "anonymous 5",
        "begin",
        "map 70 shop.orders",
        "insert 70 9,z",
        "map 71 shop.bag",
        "insert 71 1,bag",
        "xid",
    ];
    let log = Log::of(&lines.map(str::to_owned))?;
    let orders = vec![(2, "b".to_owned()), (9, "z".to_owned())];
    let server = FakeServer::start(Script { log, piece_bytes: 100, orders, ..Script::default() }).await?;
    let tables = vec![table(0, "orders", true, Load::Complete), table(1, "bag", false, Load::Complete)];
    let resume = Some(Position(format!("{FILE}:{HEAD}")));
    let (mut events, control) = MysqlSource::start(server.config(), tables, resume, TINY);
    let mut rows: std::collections::BTreeMap<Vec<u8>, bool> = std::collections::BTreeMap::new();
    let (mut reloads, mut completed, mut is_loading, mut bag) = (0, 0, false, 0);
    while completed < 2 {
        match events.recv().await.ok_or("the source has ended")? {
            SourceEvent::Reload { .. } => {
                reloads += 1;
                is_loading = true;
                rows.values_mut().for_each(|is_new| *is_new = false);
            }
            SourceEvent::Batch(batch) => {
                for (id, changes) in &batch.tables {
                    if id.0 == 1 {
                        bag += changes.rows.len();
                        continue;
                    }
                    if is_loading {
                        return Err("rows that the load shows".to_owned());
                    }
                    for (row, weight) in changes.rows.iter().zip(&changes.weights) {
                        if *weight > 0 {
                            rows.insert(row.to_vec(), true)
                        } else {
                            rows.remove(row)
                        };
                    }
                }
                for chunk in &batch.chunks {
                    rows.extend(chunk.rows.iter().map(|row| (row.to_vec(), true)));
                    if chunk.complete {
                        rows.retain(|_, is_new| *is_new);
                        completed += 1;
                        is_loading = false;
                        if completed == 1 && !control.reload([relation::TableId(0)], "by hand") {
                            return Err("it takes no requests".to_owned());
                        }
                    }
                }
            }
            SourceEvent::State(..) => {}
            other => return Err(format!("{other:?}")),
        }
    }
    drop(events);
    control.stop().await;
    // Both statements stand before the place where the first load begins: the second one is no doubt any more.
    match (reloads, rows.len(), bag) {
        (2, 2, 1) => Ok(()),
        other => Err(format!("reloads, rows, rows of the bag: {other:?}")),
    }
}

fn trial<F: Future<Output = Result<(), String>>>(name: &str, run: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(format!("runner/{name}"), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let result = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, run()).await.unwrap_or_else(|_| Err("the source idles".to_owned()))
        });
        result.map_err(Failed::from)
    })
}

/// Plays transactions and compares what comes; so many of them must come in parts.
async fn play(
    transactions: Vec<Transaction>,
    limits: Limits,
    piece_bytes: usize,
    cuts: Vec<usize>,
    parted: usize,
) -> Result<(), String> {
    let (lines, expected) = scripted(&transactions);
    let log = Log::of(&lines)?;
    let server = FakeServer::start(Script { log, piece_bytes, cuts, ..Script::default() }).await?;
    let received = follow(&server, limits, &expected).await?;
    if received == parted { Ok(()) } else { Err(format!("{received} transactions came in parts, not {parted}")) }
}

/// Receives until all transactions have come; answers how many came in parts.
async fn follow(server: &FakeServer, limits: Limits, expected: &[Changes]) -> Result<usize, String> {
    let tables = vec![table(0, "orders", true, Load::Complete), table(1, "bag", false, Load::Complete)];
    let resume = Some(Position(format!("{FILE}:{HEAD}")));
    let (mut events, control) = MysqlSource::start(server.config(), tables, resume, limits);
    let mut receiver = Receiver::new(expected);
    while !receiver.is_done() {
        match events.recv().await.ok_or("the source has ended")? {
            SourceEvent::Batch(batch) => receiver.take(&batch)?,
            SourceEvent::State(..) => {}
            other => return Err(format!("{other:?}")),
        }
    }
    drop(events);
    control.stop().await;
    Ok(receiver.parted)
}

async fn random_logs() -> Result<(), String> {
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = (
        prop::collection::vec(transaction(), 1..12),
        (1_usize..5, 1_usize..200, 1_usize..3),
        1_usize..300,
        prop::option::of(1_usize..3_000),
    );
    for case in 0..40 {
        let tree = strategy.new_tree(&mut runner).map_err(|e| e.to_string())?;
        let (transactions, (rows_max, bytes_max, queue), piece_bytes, cut) = tree.current();
        let (lines, expected) = scripted(&transactions);
        let log = Log::of(&lines)?;
        let script = Script { log, piece_bytes, cuts: cut.into_iter().collect(), ..Script::default() };
        let server = FakeServer::start(script).await?;
        let limits = Limits { transactions_max: rows_max, rows_max, bytes_max, queue };
        follow(&server, limits, &expected).await.map_err(|e| format!("case {case}: {e}\n{lines:#?}"))?;
    }
    Ok(())
}

/// Rows that are left out fill no batch, but they wait too: reading stops while they do, and goes on.
async fn broken_rows(in_one_event: bool) -> Result<(), String> {
    const EVENTS: usize = 500;
    const ROWS: usize = 20;
    let broken: Vec<String> = (0..ROWS).map(|id| format!("{id},#9")).collect();
    let mut inside = vec!["begin".to_owned()];
    for _ in 0..EVENTS {
        inside.push("map 72 shop.labels".to_owned());
        inside.push(format!("insert 72 {}", broken.join(" ")));
    }
    inside.push("insert 72 77,#1".to_owned());
    inside.push("xid".to_owned());
    let mut lines = vec!["anonymous 1".to_owned()];
    match in_one_event {
        true => lines.push(format!("zipped {}", inside.join("; "))),
        false => lines.extend(inside),
    }
    let script = Script { log: Log::of(&lines)?, piece_bytes: 100_000, ..Script::default() };
    let server = FakeServer::start(script).await?;
    let mut labels = table(0, "labels", true, Load::Complete);
    labels.columns[1].data_type = "enum".to_owned();
    labels.columns[1].column_type = "enum('good')".to_owned();
    let resume = Some(Position(format!("{FILE}:{HEAD}")));
    let (mut events, control) = MysqlSource::start(server.config(), vec![labels], resume, TINY);
    let (mut rejected, mut rows) = (0, 0);
    while rows == 0 {
        let SourceEvent::Batch(batch) = events.recv().await.ok_or("the source has ended")? else { continue };
        for (_, changes) in &batch.tables {
            let readable = changes.readable().count();
            rows += readable;
            rejected += changes.rows.len() - readable;
        }
    }
    drop(events);
    control.stop().await;
    match rejected == EVENTS * ROWS && rows == 1 {
        true => Ok(()),
        false => Err(format!("{rejected} rows rejected, {rows} rows came")),
    }
}

/// While a table is loaded, more keys change than a window may remember: its readers begin anew, and all of it comes.
async fn forgotten_keys() -> Result<(), String> {
    const TOUCHED: i64 = 1_000;
    let inserted: Vec<String> = (1..=TOUCHED).map(|id| format!("{id},new")).collect();
    let mut lines = vec!["anonymous 1".to_owned(), "begin".to_owned(), "map 70 shop.orders".to_owned()];
    lines.extend(inserted.chunks(50).map(|rows| format!("insert 70 {}", rows.join(" "))));
    lines.push("xid".to_owned());
    let log = Log::of(&lines)?;
    // The server shows what the log says, and rows that the log does not know.
    let orders = (1..=TOUCHED + 50).map(|id| (id, if id > TOUCHED { "old" } else { "new" }.to_owned())).collect();
    let server = FakeServer::start(Script { log, piece_bytes: 1_000, orders, ..Script::default() }).await?;
    // The load has begun before the position, at the row 0: what the log brings from there on is not passed over.
    let cursor = Some(br#"["30"]"#.to_vec());
    let tables = vec![table(0, "orders", true, Load::Pending { cursor })];
    let resume = Some(Position(format!("{FILE}:{HEAD}")));
    let (mut events, control) = MysqlSource::start(server.config(), tables, resume, TINY);
    let mut keys = std::collections::BTreeSet::new();
    let mut complete = false;
    while !complete || keys.len() < usize::try_from(TOUCHED + 50).unwrap_or(0) {
        let SourceEvent::Batch(batch) = events.recv().await.ok_or("the source has ended")? else { continue };
        let changed = batch.tables.iter().flat_map(|(_, changes)| changes.rows.iter());
        keys.extend(changed.chain(batch.chunks.iter().flat_map(|c| c.rows.iter())).map(<[u8]>::to_vec));
        complete |= batch.chunks.iter().any(|chunk| chunk.complete);
    }
    drop(events);
    control.stop().await;
    if keys.len() == 1_050 { Ok(()) } else { Err(format!("{} rows", keys.len())) }
}
