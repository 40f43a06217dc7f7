//! What reads cost: `cargo bench -p query --bench reads [-- ROWS]`. One table in a real store, half of it folded.
//!
//! Prints a line per question: time of a point query from text to rows, rows per second of scans and joins.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use plan::TableName;
use query::{Catalog, Form, Runtime, Session, Settings, StoredTable};
use relation::{Column, DataType, Layout, Rows, Schema, TableId, Value};
use store::{Options, Store, Writes};

const TABLE: TableId = TableId(10);

fn main() {
    let rows = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().expect("a folder for the store");
    let store = Store::open(folder.path(), Options::default()).expect("a new store");
    let schema = schema();
    let began = now();
    fill(&store, &schema, rows);
    println!("filled {rows} rows in {:?}", began.elapsed());
    let name = TableName::new("public", "orders");
    let mut catalog = Catalog::new(vec!["public".to_owned()]);
    catalog.add_table(StoredTable { name, id: TABLE, schema, form: Form::Keyed });
    catalog.set_rows(TABLE, rows.unsigned_abs());
    let catalog = Arc::new(catalog);
    let runtime = Runtime::new(&Settings::default()).expect("default settings");
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    threads.block_on(measure(&store, &catalog, &runtime, rows));
}

async fn measure(store: &Store, catalog: &Arc<Catalog>, runtime: &Arc<Runtime>, rows: i64) {
    let session = || Session::new(store.snapshot(), Arc::clone(catalog), Arc::clone(runtime));
    let mut times: Vec<Duration> = Vec::new();
    for i in 0..1000 {
        let sql = format!("select * from orders where id = {}", i * 7919 % rows);
        let began = now();
        assert_eq!(run(&session(), &sql).await, 1);
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!("point query: median {:?}, p99 {:?}", times[500], times[990]);
    let began = now();
    for _ in 0..1000 {
        let statement = &query::parse("select * from orders where id = 7").expect("a right query")[0];
        session().describe(statement, &[]).expect("a right query");
    }
    println!("of which parsed and named: {:?}", began.elapsed() / 1000);
    planned(&session).await;
    for sql in [
        "select count(*) from orders",
        "select sum(total) from orders",
        "select * from orders",
        "select status, count(*), sum(total) from orders group by status",
        "select count(*) from orders a join orders b on a.id = b.customer",
        "select count(distinct customer) from orders",
    ] {
        let began = now();
        let answered = run(&session(), sql).await;
        let seconds = began.elapsed().as_secs_f64();
        println!("{:.2} M rows/s, {seconds:.3} s, {answered} rows: {sql}", rows as f64 / seconds / 1e6);
    }
    let began = now();
    let answered = run(
        &session(),
        "select n.nspname, c.relname from pg_catalog.pg_class c join pg_namespace n on n.oid = c.relnamespace",
    )
    .await;
    println!("{:?}, {answered} rows: the list of tables", began.elapsed());
}

/// Statements of which no two have one form, each planned: from text to rows, without what is learned of them afterwards.
async fn planned(session: &impl Fn() -> Session) {
    type Written = fn(usize) -> String;
    let kinds: [(&str, Written); 4] = [
        ("no table", |n| format!("select {n} as c{n}")),
        ("a row", |n| format!("select * from orders where id = {n} and {n} < {n} + 1 + random()")),
        ("groups", |n| {
            format!(
                "select status as s{n}, count(*) as n, sum(total) as t from orders where id < 20 group by status order by 2 desc limit 5"
            )
        }),
        ("a join", |n| {
            format!(
                "select a.id as a{n}, b.total from orders a join orders b on b.id = a.customer left join orders c on c.id = b.customer where a.id = {n}"
            )
        }),
    ];
    for (kind, written) in kinds {
        let mut times: Vec<Duration> = Vec::new();
        for n in 0..500 {
            let (sql, session) = (written(n), session());
            let began = now();
            let query::Asked::Statement(asking) = session.asked(&sql, &[]).expect("a right query") else {
                panic!("{kind} is not planned");
            };
            let (answer, _) = session.answer_first(&sql, asking, &[]).await.expect("a right query");
            let rows = answer.stream.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) });
            assert!(rows.await.expect("rows") > 0, "{kind}");
            times.push(began.elapsed());
        }
        times.sort_unstable();
        println!("planned, {kind}: median {:?}, least {:?}", times[250], times[0]);
    }
}

async fn run(session: &Session, sql: &str) -> usize {
    let answer = session.sql(sql).await.expect("a right query");
    answer.stream.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await.expect("rows")
}

fn schema() -> Schema {
    let column = |name: &str, data_type| Column { nullable: name != "id", ..Column::new(name, data_type) };
    let total = DataType::Decimal { precision: 10, scale: 2 };
    let columns = vec![
        column("id", DataType::Int64),
        column("customer", DataType::Int64),
        column("day", DataType::Date),
        column("status", DataType::Text),
        column("total", total),
    ];
    Schema::new(columns, vec![0])
}

fn fill(store: &Store, schema: &Schema, rows: i64) {
    let layout = Layout::new(schema.types());
    let (mut encoded, mut key) = (Rows::new(), Vec::new());
    let mut writes = Writes::new();
    let (mut step, mut folded) = (0, false);
    for id in 0..rows {
        let status = match id % 3 {
            0 => "paid",
            1 => "open",
            _ => "refunded",
        };
        let day = i32::try_from(20_000 + id % 365).unwrap_or_default();
        let values = [
            Value::Int(id),
            Value::Int(id * 31 % rows),
            Value::Date(day),
            Value::Text(status.to_owned()),
            Value::Decimal(i128::from(id % 100_000), 2),
        ];
        encoded.truncate(0);
        encoded.push_values(&layout, &values).expect("values of the columns' types");
        key.clear();
        relation::key::push_row(&mut key, &layout, encoded.get(0), &schema.key);
        writes.put(TABLE, &key, encoded.get(0));
        if writes.len() >= 50_000 || id == rows - 1 {
            step += 1;
            store.append(step, b"rows of a bench").expect("an append");
            store.commit(step, std::mem::take(&mut writes)).expect("a commit");
            if id >= rows / 2 && !folded {
                folded = true;
                store.fold_now().expect("a fold");
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}
