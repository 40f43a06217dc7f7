//! A one-row step through many models of a join and an aggregate: all touched, and one touched.

use relation::{Layout, SourceBatch, Value};

use super::{House, Random, line};
use crate::clock::stopwatch;

/// Settings of the bench.
#[derive(Debug, clap::Args)]
pub struct StepsArgs {
    /// Models, each a join and an aggregate of its own
    #[arg(long, default_value_t = 200)]
    models: u64,
    /// Steps to measure
    #[arg(long, default_value_t = 2_000)]
    steps: u64,
}

/// Runs the bench.
pub(super) fn run(args: &StepsArgs) -> anyhow::Result<()> {
    let shared: Vec<_> = (0..args.models).map(|i| (format!("m{i}"), question("orders", i))).collect();
    let tables = ["id bigint primary key, product_id bigint, day date, total decimal(10,2)"; 2];
    let products = "id bigint primary key, brand text";
    let all = measure(&[("orders", tables[0]), ("products", products)], &shared, "orders", args)?;
    line(&format!("one row, {} models touched   {}", args.models, all));
    // The same models over another table, and one over the table that changes.
    let mut apart: Vec<_> = (1..args.models).map(|i| (format!("m{i}"), question("others", i))).collect();
    apart.push(("touched".to_owned(), question("orders", 0)));
    let tables = [("orders", tables[0]), ("others", tables[1]), ("products", products)];
    let one = measure(&tables, &apart, "orders", args)?;
    line(&format!("one row, 1 of {} models touched {}", args.models, one));
    Ok(())
}

fn question(table: &str, i: u64) -> String {
    format!(
        "select o.day, p.brand, count(*) as orders, sum(o.total) as revenue \
         from {table} o join products p on o.product_id = p.id where o.total > -{i} group by o.day, p.brand"
    )
}

/// Median and spread of the steps, without and with the log's sync.
fn measure(
    tables: &[(&str, &str)],
    models: &[(String, String)],
    table: &str,
    args: &StepsArgs,
) -> anyhow::Result<String> {
    let mut house = House::new(tables, models, 2, 1 << 30)?;
    let mut random = Random(7);
    let products = house.table("products");
    let mut batch = SourceBatch::default();
    let layout = Layout::new(house.engine.relation(products).map(|r| r.schema.types()).unwrap_or_default());
    for id in 0..1_000 {
        let changes = batch.table(products);
        changes.rows.push_values(&layout, &[Value::Int(id), Value::Text(format!("brand {}", id % 50))])?;
        changes.weights.push(1);
    }
    house.step(batch)?;
    let orders = house.table(table);
    let layout = Layout::new(house.engine.relation(orders).map(|r| r.schema.types()).unwrap_or_default());
    let mut whole = Vec::new();
    let mut rules = Vec::new();
    for id in 0..args.steps {
        let mut batch = SourceBatch::default();
        let row = [
            Value::Int(id as i64),
            Value::Int(random.below(1_000) as i64),
            Value::Date(20_000 + random.below(30) as i32),
            Value::Decimal(i128::from(random.below(10_000)), 2),
        ];
        let changes = batch.table(orders);
        changes.rows.push_values(&layout, &row)?;
        changes.weights.push(1);
        let begun = stopwatch();
        let report = house.step(batch)?;
        whole.push(begun.elapsed().as_secs_f64() * 1e3);
        rules.push(report.rules_us as f64 / 1e3);
    }
    let tell = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
        format!("median {:.3} ms, p99 {:.3} ms", at(0.5), at(0.99))
    };
    Ok(format!("rules and commit: {}; with log and sync: {}", tell(&mut rules), tell(&mut whole)))
}
