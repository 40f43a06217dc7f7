//! Reads a server's log, or loads tables, as fast as it goes, and prints the rate. For measuring and for a first look.
//!
//! ```text
//! cargo run --release -p connect --example drain -- PORT DATABASE START [table …]
//! ```
//!
//! START is `snapshot`, or a position of the log such as `binlog.000001:4`. It ends where the log ended at its start,
//! or when all tables are loaded. Rates count changed rows, an update once, and rows of chunks.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a tool for the terminal")]

use std::collections::BTreeMap;

use connect::source::mysql::{
    CaptureTable, Load, MysqlConfig, MysqlSource, Start, Tls, current_position, describe, reached,
};
use connect::{ColumnRule, Failure, Limits, SourceEvent};
use relation::{Position, TableId};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if let Err(failure) = run().await {
        eprintln!("{}\nDetail: {}\nHint: {}", failure.message, failure.detail, failure.hint);
        std::process::exit(1);
    }
}

fn usage() -> Failure {
    let hint = "drain PORT DATABASE snapshot|FILE:OFFSET [table …]".to_owned();
    Failure { message: "usage".to_owned(), detail: String::new(), hint }
}

async fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, database, start, tables @ ..] = &arguments[..] else { return Err(usage()) };
    let port = port.parse().map_err(|_| usage())?;
    let snapshot = start == "snapshot";
    let tls = if std::env::var_os("DRAIN_TLS").is_some() { Tls::Required } else { Tls::Disabled };
    let mut config = MysqlConfig { port, database: database.clone(), tls, ..MysqlConfig::default() };
    if let (false, Some((file, offset))) = (snapshot, start.rsplit_once(':')) {
        config.start = Start::Binlog { file: file.to_owned(), offset: offset.parse().map_err(|_| usage())? };
    }
    let wanted: Vec<_> = tables.iter().map(|t| (database.clone(), t.clone())).collect();
    let mut capture = Vec::new();
    for (id, table) in describe(&config, &wanted).await?.into_iter().enumerate() {
        match table.facts {
            Err(reason) => eprintln!("{}: {reason}", table.name),
            Ok(facts) => capture.push(CaptureTable {
                id: TableId(u32::try_from(id).unwrap_or(0)),
                database: table.database,
                name: table.name,
                columns: facts.columns,
                is_placed: false,
                rule: ColumnRule::default(),
                schema: facts.schema,
                load: if snapshot { Load::Pending { cursor: None } } else { Load::Complete },
            }),
        }
    }
    let mut end = current_position(&config).await?;
    if let (false, Some((point, _))) = (snapshot, end.0.split_once(" gtid=")) {
        end = Position(point.to_owned());
    }
    drain(config, capture, snapshot, &end).await;
    Ok(())
}

#[derive(Default)]
struct Totals {
    changes: u64,
    transactions: u64,
    rows: u64,
    bytes: u64,
    batches: u64,
    complete: usize,
    per_table: BTreeMap<u32, u64>,
}

async fn drain(config: MysqlConfig, tables: Vec<CaptureTable>, snapshot: bool, end: &Position) {
    let count = tables.len();
    let names: Vec<String> = tables.iter().map(|t| t.name.clone()).collect();
    let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
    let begun = tokio::time::Instant::now();
    let mut totals = Totals::default();
    while let Some(event) = events.recv().await {
        match event {
            SourceEvent::Batch(batch) => {
                totals.batches += 1;
                totals.transactions += batch.transactions.len() as u64;
                totals.changes += batch.transactions.iter().map(|t| u64::from(t.changes)).sum::<u64>();
                totals.rows += batch.rows() as u64;
                totals.bytes += batch.bytes() as u64;
                totals.complete += batch.chunks.iter().filter(|c| c.complete).count();
                for chunk in &batch.chunks {
                    *totals.per_table.entry(chunk.table.0).or_default() += chunk.rows.len() as u64;
                }
                for (table, changes) in &batch.tables {
                    *totals.per_table.entry(table.0).or_default() += changes.rows.len() as u64;
                }
                let done =
                    if snapshot { totals.complete == count } else { reached(&batch.position, end).unwrap_or(true) };
                if done {
                    break;
                }
            }
            other => eprintln!("{other:?}"),
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    control.stop().await;
    #[expect(clippy::cast_precision_loss, reason = "rates are shown rounded")]
    let rate = |n: u64| n as f64 / seconds;
    println!(
        "{seconds:.2} s: {} transactions, {} changes ({:.0}/s), {} rows ({:.0}/s), {} MiB, {} batches",
        totals.transactions,
        totals.changes,
        rate(totals.changes),
        totals.rows,
        rate(totals.rows),
        totals.bytes >> 20,
        totals.batches
    );
    for (table, rows) in totals.per_table {
        println!("  {:<20} {rows} rows", names[table as usize]);
    }
}
