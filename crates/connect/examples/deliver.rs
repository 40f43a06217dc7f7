//! Delivers rows to a destination as fast as it goes, and prints the rates: of rows that are new there, of rows that change, and of
//! deletes. For measuring and for a first look.
//!
//! ```text
//! cargo run --release -p connect --example deliver -- postgres|mysql|mariadb|redis PORT DATABASE USER ROWS
//! ```
//!
//! The table, or the keys in Redis, are called `deliver_example`; they are gone when it ends, but for the table itself.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a tool for the terminal")]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use connect::destination::{Down, Mapping, Outcome, Portion, Target, kind_of};
use connect::{Destination, Failure, Settings};
use relation::{Column, DataType, Rows, Schema, Value};
use serde_json::{Value as Json, json};

const PORTION_ROWS: i64 = 5_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if let Err(failure) = run().await {
        eprintln!("{}\nDetail: {}\nHint: {}", failure.message, failure.detail, failure.hint);
        std::process::exit(1);
    }
}

fn usage() -> Failure {
    let hint = "deliver postgres|mysql|mariadb|redis PORT DATABASE USER ROWS".to_owned();
    Failure { message: "usage".to_owned(), detail: String::new(), hint }
}

async fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, port, database, user, rows] = &arguments[..] else { return Err(usage()) };
    let kind = kind_of(name).ok_or_else(usage)?;
    let (port, rows): (u16, i64) = (port.parse().map_err(|_| usage())?, rows.parse().map_err(|_| usage())?);
    let (values, to) = match name.as_str() {
        "redis" => (json!({"host": "127.0.0.1", "port": port}), json!({"key": "deliver_example:{id}"})),
        _ => (
            json!({"host": "127.0.0.1", "port": port, "user": user, "database": database}),
            json!({"table": "deliver_example", "create": true}),
        ),
    };
    let settings = Settings { connection: "there".to_owned(), kind: name.clone(), values: map(values) };
    let mapping = Mapping::of(&schema(), &[], None).map_err(|_| usage())?;
    let target = Target { sync: "deliver_example".to_owned(), to: map(to), mapping: mapping.clone(), deletes: true };
    let mut destination = kind.open(&settings, target).await?;
    let failed = |down: Down| down.failure;
    destination.begin(0).await.map_err(failed)?;
    for (word, version) in [("new", 0), ("changed", 1), ("deleted", 2)] {
        let begun = Instant::now();
        for first in (0..rows).step_by(usize::try_from(PORTION_ROWS).unwrap_or(1)) {
            let mut portion = Portion::new(1);
            for id in first..(first + PORTION_ROWS).min(rows) {
                match version {
                    2 => portion.delete_values(&mapping, &[Value::Int(id)]).map_err(|_| usage())?,
                    version => push(&mut portion, &mapping, id, version),
                }
            }
            deliver(&mut *destination, &Arc::new(portion)).await.map_err(failed)?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = rows as f64 / seconds;
        println!("{name}: {rows} rows {word} in {seconds:.2} s, {rate:.0} rows/s");
    }
    destination.close().await;
    Ok(())
}

async fn deliver(destination: &mut dyn Destination, portion: &Arc<Portion>) -> Result<(), Down> {
    let outcomes = destination.deliver(portion, &|_| b"marker".to_vec()).await?;
    let refused = outcomes.iter().find(|outcome| matches!(outcome, Outcome::Refused(_)));
    assert!(refused.is_none(), "{refused:?}");
    Ok(())
}

fn map(values: Json) -> BTreeMap<String, Json> {
    match values {
        Json::Object(values) => values.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

/// A user's portrait: a key and seven more columns.
fn schema() -> Schema {
    let money = DataType::Decimal { precision: 18, scale: 2 };
    let columns = vec![
        Column::new("id", DataType::Int64),
        Column::new("name", DataType::Text),
        Column::new("tag", DataType::Text),
        Column::new("orders", DataType::Int64),
        Column::new("total", money),
        Column::new("first_at", DataType::Timestamp),
        Column::new("last_at", DataType::Timestamp),
        Column::new("is_new", DataType::Bool),
    ];
    Schema::new(columns, vec![0])
}

fn push(portion: &mut Portion, mapping: &Mapping, id: i64, version: i64) {
    let row = [
        Value::Int(id),
        Value::Text(format!("user number {id}")),
        Value::Text(["gold", "silver", "none"][usize::try_from(id % 3).unwrap_or(0)].to_owned()),
        Value::Int(id % 97 + version),
        Value::Decimal(i128::from(id * 31 + version), 2),
        Value::Timestamp(1_700_000_000_000_000 + id),
        Value::Timestamp(1_750_000_000_000_000 + id * 1_000 + version),
        Value::Bool(id % 5 == 0),
    ];
    let mut rows = Rows::new();
    if rows.push_values(mapping.layout(), &row).is_ok() {
        portion.upsert(rows.get(0));
    }
}
