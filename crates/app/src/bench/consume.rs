//! A topic of a shop's changes as Maxwell's JSON, at rest, from its earliest message to durable tables.
//!
//! Before it, fill the topic out of a server's log:
//!
//! ```text
//! tidemill bench maxwell --kafka 127.0.0.1:9092
//! ```

use std::collections::BTreeMap;

use anyhow::ensure;
use project::Files;

use super::running::{Begin, Running, setup};

/// The topic that one bench fills and the other reads.
pub(super) const TOPIC: &str = "bench_olist";

/// Settings of the bench.
#[derive(Debug, clap::Args)]
pub struct ConsumeArgs {
    /// The brokers of Kafka, host:port
    #[arg(long, default_value = "127.0.0.1:9092")]
    brokers: String,
    /// The topic, as `bench maxwell --kafka` fills it
    #[arg(long, default_value = TOPIC)]
    topic: String,
}

/// A table of the shop.
struct Table {
    name: &'static str,
    key: &'static str,
    /// Names and types.
    columns: &'static [(&'static str, &'static str)],
}

const TABLES: [Table; 4] = [
    Table {
        name: "orders",
        key: "order_id",
        columns: &[
            ("order_id", "text"),
            ("customer_id", "text"),
            ("order_status", "text"),
            ("order_purchase_timestamp", "timestamp"),
            ("order_approved_at", "timestamp"),
            ("order_delivered_carrier_date", "timestamp"),
            ("order_delivered_customer_date", "timestamp"),
            ("order_estimated_delivery_date", "timestamp"),
        ],
    },
    Table {
        name: "order_items",
        key: "order_id, order_item_id",
        columns: &[
            ("order_id", "text"),
            ("order_item_id", "int"),
            ("product_id", "text"),
            ("seller_id", "text"),
            ("shipping_limit_date", "timestamp"),
            ("price", "numeric(10,2)"),
            ("freight_value", "numeric(10,2)"),
        ],
    },
    Table {
        name: "order_payments",
        key: "order_id, payment_sequential",
        columns: &[
            ("order_id", "text"),
            ("payment_sequential", "int"),
            ("payment_type", "text"),
            ("payment_installments", "int"),
            ("payment_value", "numeric(10,2)"),
        ],
    },
    Table {
        name: "customers",
        key: "customer_id",
        columns: &[
            ("customer_id", "text"),
            ("customer_unique_id", "text"),
            ("customer_zip_code_prefix", "text"),
            ("customer_city", "text"),
            ("customer_state", "text"),
        ],
    },
];

/// Topic to durable tables. Every message is read once for all tables, and those of other tables are passed over.
pub(super) async fn run(args: &ConsumeArgs) -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let setup = setup(&project_of(args), None, &data)?;
    let running = Running::start_project(&setup, Begin::Loading, data, None).await?;
    running.until_live().await?;
    let visible = running.begun.elapsed().as_secs_f64();
    let messages = messages(running.instance.status.facts().sources.values().map(|source| source.position.as_str()));
    ensure!(
        messages > 0,
        "topic {} has no messages; fill it with tidemill bench maxwell --kafka {}",
        args.topic,
        args.brokers
    );
    let idle = running.until_idle().await?;
    running.tell_of(messages, "message", visible, idle);
    running.instance.stop().await
}

/// How many messages were read of topics from which none was deleted, by where their tables stand.
fn messages<'a>(positions: impl Iterator<Item = &'a str>) -> u64 {
    let mut read: BTreeMap<String, u64> = BTreeMap::new();
    for position in positions {
        let position: serde_json::Value = serde_json::from_str(position).unwrap_or_default();
        for lane in position["lanes"].as_array().into_iter().flatten() {
            for (partition, at) in lane["at"].as_object().into_iter().flatten() {
                let of = read.entry(format!("{}-{partition}", lane["topic"])).or_default();
                *of = at[0].as_u64().unwrap_or(0).max(*of);
            }
        }
    }
    read.values().sum()
}

fn project_of(args: &ConsumeArgs) -> Files {
    let ConsumeArgs { brokers, topic } = args;
    let mut sources = format!(
        "version: 2\nsources:\n  - name: shop\n    schema: bench_olist\n    config: {{meta: {{connection: bus, topic: {topic}, \
         format: maxwell}}}}\n    tables:\n"
    );
    for Table { name, key, columns } in &TABLES {
        sources
            .push_str(&format!("      - name: {name}\n        config: {{meta: {{key: [{key}]}}}}\n        columns:\n"));
        for (column, data_type) in *columns {
            sources.push_str(&format!("          - {{name: {column}, data_type: '{data_type}'}}\n"));
        }
    }
    let mut files = Files::from_pairs([
        ("dbt_project.yml", "name: bench\nversion: '1'\nprofile: bench\n"),
        ("profiles.yml", "bench:\n  target: dev\n  outputs:\n    dev:\n      type: tidemill\n      schema: public\n"),
    ]);
    files.insert("connections.yml", format!("bus: {{type: kafka, brokers: '{brokers}'}}\n"));
    files.insert("models/sources.yml", sources);
    files
}
