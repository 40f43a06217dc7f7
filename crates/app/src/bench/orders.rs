//! The order-join question through SQL and dynamic rows: how many changes per second the engine takes.

use relation::{Layout, Schema, SourceBatch, Value};

use super::{House, Random, line, memory_mib};
use crate::clock::stopwatch;

/// Settings of the bench.
#[derive(Debug, clap::Args)]
pub struct OrdersArgs {
    /// Orders to insert
    #[arg(long, default_value_t = 1_000_000)]
    orders: u64,
    /// Orders to update afterwards
    #[arg(long, default_value_t = 500_000)]
    updates: u64,
    /// Changes per step
    #[arg(long, default_value_t = 20_000)]
    step: u64,
    /// How often the whole story is told, with other keys
    #[arg(long, default_value_t = 4)]
    rounds: u64,
    /// Models with this question
    #[arg(long, default_value_t = 1)]
    models: u64,
    /// Threads for a large step
    #[arg(long, default_value_t = 2)]
    workers: usize,
}

const PRODUCTS: u64 = 20_000;
const DAYS: u64 = 90;

const QUESTION: &str = "select o.day, p.brand, count(*) as orders, sum(o.total) as revenue, \
     count(distinct o.customer_id) as customers \
     from orders o join products p on o.product_id = p.id group by o.day, p.brand";

/// Runs the bench.
pub(super) fn run(args: &OrdersArgs) -> anyhow::Result<()> {
    let tables = [
        (
            "orders",
            "id bigint primary key, customer_id bigint, product_id bigint, day date, status text, total decimal(10,2)",
        ),
        ("products", "id bigint primary key, brand text, name text"),
    ];
    let models: Vec<_> = (0..args.models).map(|i| (format!("revenue_{i}"), distinct_text(i))).collect();
    let mut house = House::new(&tables, &models, args.workers, 2 << 30)?;
    let mut random = Random(42);
    load_products(&mut house)?;
    let (mut inserting, mut updating) = (0.0, 0.0);
    let whole = stopwatch();
    for round in 0..args.rounds {
        let begun = stopwatch();
        let mut orders = Vec::with_capacity(args.orders as usize);
        each_step(args.orders, args.step, |from, to| {
            let fresh: Vec<Vec<Value>> = (from..to).map(|i| order(round * args.orders + i, &mut random)).collect();
            let mut batch = SourceBatch::default();
            push(&mut house, &mut batch, fresh.iter().map(|row| (row, 1)))?;
            orders.extend(fresh);
            house.step(batch).map(|_| ())
        })?;
        inserting += begun.elapsed().as_secs_f64();
        let begun = stopwatch();
        each_step(args.updates, args.step, |from, to| {
            let mut batch = SourceBatch::default();
            let mut changes = Vec::with_capacity(2 * (to - from) as usize);
            for _ in from..to {
                let i = random.below(args.orders) as usize;
                let mut after = orders[i].clone();
                change(&mut after, &mut random);
                changes.push((std::mem::replace(&mut orders[i], after.clone()), -1));
                changes.push((after, 1));
            }
            push(&mut house, &mut batch, changes.iter().map(|(row, weight)| (row, *weight)))?;
            house.step(batch).map(|_| ())
        })?;
        updating += begun.elapsed().as_secs_f64();
    }
    let folding = stopwatch();
    house.engine.store().wait_idle()?;
    let folded = folding.elapsed().as_secs_f64();
    let total = whole.elapsed().as_secs_f64();
    let (inserts, updates) = ((args.orders * args.rounds) as f64, (args.updates * args.rounds) as f64);
    let (now, peak) = memory_mib();
    line(&format!("inserts              {:>10.0} changes/s", inserts / inserting));
    line(&format!("updates              {:>10.0} changes/s", updates / updating));
    line(&format!(
        "all, folds included  {:>10.0} changes/s  ({:.1} s, of them {folded:.1} s folding at the end)",
        (inserts + updates) / total,
        total
    ));
    line(&format!("resident memory      {now:>10} MiB now, {peak} MiB at most (the generator's orders included)"));
    Ok(())
}

/// The same question in another text, so that models do not share their nodes.
fn distinct_text(i: u64) -> String {
    if i == 0 { QUESTION.to_owned() } else { format!("{QUESTION} having count(*) > -{i}") }
}

fn load_products(house: &mut House) -> anyhow::Result<()> {
    let table = house.table("products");
    let schema = schema_of(house, table);
    let layout = Layout::new(schema.types());
    let mut batch = SourceBatch::default();
    for id in 0..PRODUCTS {
        let changes = batch.table(table);
        let row =
            [Value::Int(id as i64), Value::Text(format!("brand {}", id % 200)), Value::Text(format!("product {id}"))];
        changes.rows.push_values(&layout, &row)?;
        changes.weights.push(1);
    }
    house.step(batch).map(|_| ())
}

fn schema_of(house: &House, table: relation::TableId) -> Schema {
    house.engine.relation(table).map(|r| r.schema.clone()).unwrap_or_default()
}

fn order(id: u64, random: &mut Random) -> Vec<Value> {
    vec![
        Value::Int(id as i64),
        Value::Int(random.below(200_000) as i64),
        Value::Int(random.below(PRODUCTS) as i64),
        Value::Date(20_000 + random.below(DAYS) as i32),
        Value::Text("created".to_owned()),
        Value::Decimal(i128::from(random.below(100_000)), 2),
    ]
}

/// What an update does: another status, and half of the time another total.
fn change(order: &mut [Value], random: &mut Random) {
    order[4] = Value::Text(["paid", "shipped", "delivered"][random.below(3) as usize].to_owned());
    if random.below(2) == 0 {
        order[5] = Value::Decimal(i128::from(random.below(100_000)), 2);
    }
}

fn push<'a>(
    house: &mut House,
    batch: &mut SourceBatch,
    rows: impl Iterator<Item = (&'a Vec<Value>, i8)>,
) -> anyhow::Result<()> {
    let table = house.table("orders");
    let layout = Layout::new(schema_of(house, table).types());
    let changes = batch.table(table);
    for (row, weight) in rows {
        changes.rows.push_values(&layout, row)?;
        changes.weights.push(weight);
    }
    Ok(())
}

fn each_step(total: u64, step: u64, mut run: impl FnMut(u64, u64) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut from = 0;
    while from < total {
        let to = (from + step).min(total);
        run(from, to)?;
        from = to;
    }
    Ok(())
}
