//! What the demo says: where to connect, what to ask, and the shop's own figures.

use std::time::Duration;

use futures::TryStreamExt as _;
use plan::TableName;
use serve::{QueryContext, Reader as _};

use crate::cli::print;
use crate::counted::counted;
use crate::instance::Instance;
use crate::output::Table;
use crate::status::{Facts, Stage};

/// The day's line, by the shop's own time.
const TODAY: &str = "select gmv from ads_today";

/// What there is after the start.
pub(super) fn started(facts: &Facts, took: Duration) -> String {
    let rows: i64 = facts.tables.values().map(|table| table.rows).sum();
    let rows = grouped(u64::try_from(rows).unwrap_or(0));
    format!("{rows} rows loaded, {} built in {:.1} s", counted(facts.models.len(), "model"), took.as_secs_f64())
}

/// Models that cannot be kept, with their reasons: waiting for them would have no end.
pub(super) fn broken(facts: &Facts) -> Option<String> {
    let model = facts.models.iter().find(|(_, model)| model.state == "parked" || model.state == "failed");
    if let Some((name, model)) = model {
        return Some(format!("model {name} is {}: {}", model.state, model.message));
    }
    let source = facts.sources.values().find(|source| source.state == "stalled")?;
    Some(source.message.to_string())
}

/// Where to connect, for programs.
pub(super) fn addresses(instance: &Instance) {
    let addresses = &instance.addresses;
    print(&serde_json::json!({"pid": addresses.pid, "pg": addresses.pg, "http": addresses.http}).to_string());
}

/// Where to connect, and what to ask.
pub(super) fn announce(instance: &Instance) {
    let addresses = &instance.addresses;
    let (host, port) = addresses.pg.rsplit_once(':').unwrap_or((&addresses.pg, "5433"));
    print("The shop is open, and its warehouse is up to date.\n");
    print(&format!("  psql -h {host} -p {port}"));
    print(&format!("  http://{}\n", addresses.http));
    print("Worth trying:\n");
    for (what, sql) in QUESTIONS {
        print(&format!("  {sql}    -- {what}"));
    }
    print("\nIn psql, \\watch 1 after a query shows it live. Ctrl-C ends the demo.");
}

const QUESTIONS: [(&str, &str); 4] = [
    ("today and the day before", "select * from ads_today;"),
    ("the newest minutes", "select * from ads_minutes order by minute desc limit 5;"),
    ("today's best", "select * from ads_top_products_day order by day desc, place limit 10;"),
    ("how far people come", "select * from dws_funnel_day order by day desc, step limit 4;"),
];

/// Orders, GMV and latency now.
pub(super) async fn figures(instance: &Instance) -> String {
    let gmv = today(instance).await.unwrap_or_else(|| "–".to_owned());
    let facts = instance.status.facts();
    let orders = facts.tables.get(&TableName::new("shop", "orders")).map_or(0, |table| table.rows);
    let orders = grouped(u64::try_from(orders).unwrap_or(0));
    let trade_model = (TableName::new("public", "dws_trade_day"), Stage::CommitVisible);
    let latency = facts.latency.get(&trade_model).filter(|latency| latency.count() > 0).map(|latency| {
        let (p50, p99) = (latency.quantile_ms(0.5), latency.quantile_ms(0.99));
        format!(" · commit to visible: p50 {p50:.1} ms, p99 {p99:.1} ms")
    });
    // A shop whose clock had to wait says so.
    let message = facts.sources.get("shop").map(|source| source.message.line()).filter(|text| !text.is_empty());
    let message = message.map(|text| format!(" · {text}")).unwrap_or_default();
    format!("{orders} orders · GMV today {gmv}{}{message}", latency.unwrap_or_default())
}

async fn today(instance: &Instance) -> Option<String> {
    let answer = instance.reader.query(TODAY, &[], &QueryContext::default()).await.ok()?;
    let batches: Vec<_> = answer.stream.try_collect().await.ok()?;
    let table = Table::from_batches(&answer.schema, &batches).ok()?;
    table.rows.first()?.first()?.clone()
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_come_in_threes() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
