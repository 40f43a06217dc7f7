//! Looks at the web page without a warehouse: a made-up shop answers its questions.
//!
//! `cargo run -p serve --example page -- 127.0.0.1:8099 [models]` serves until it is stopped. Each question moves the
//! shop on, so that figures change; `select pg_sleep(60)` never ends, to try cancelling.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example may panic and speak")]
#![allow(clippy::let_underscore_must_use, dead_code, reason = "shared with the tests")]

#[path = "../tests/driver/table.rs"]
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt;
use serve::{
    Answer, Dashboard, Description, Filter, Format, Good, Health, Limits, Param, Pin, QueryContext, Reader, Service,
    Site, SqlError, Tile, TileKind,
};

const TABLES: [&str; 5] = ["customers", "order_items", "orders", "payments", "products"];

/// Name, what it reads, state.
const MODELS: [(&str, &str, &str); 12] = [
    ("ods_customers", "shop.customers", "live"),
    ("ods_order_items", "shop.order_items", "live"),
    ("ods_orders", "shop.orders", "live"),
    ("ods_payments", "shop.payments", "live"),
    ("ods_products", "shop.products", "live"),
    ("dwd_order_items", "public.ods_orders public.ods_order_items public.ods_products public.ods_customers", "live"),
    ("dws_revenue_per_day", "public.ods_orders public.ods_payments", "live"),
    ("dws_revenue_per_minute", "public.ods_orders", "live"),
    ("ads_customer_value", "public.dwd_order_items", "live"),
    ("dws_category_per_day_and_customer_group_and_channel", "public.dwd_order_items", "building"),
    ("ads_top_products_per_day", "public.dwd_order_items", "live"),
    ("ads_unsold_products", "public.ods_products public.ods_order_items", "failed"),
];

const WRITTEN: &str = "-- What the shop asks every day.\nselect\n    day,\n    count(*) as orders,\n    sum(total) as revenue\nfrom {{ ref('ods_orders') }}\ngroup by day";
const COMPILED: &str = "-- What the shop asks every day.\nselect\n    day,\n    count(*) as orders,\n    sum(total) as revenue\nfrom \"public\".\"ods_orders\"\ngroup by day";

struct Shop {
    moved: AtomicU64,
    models: usize,
}

impl Shop {
    /// Columns and rows of a question.
    fn rows(&self, sql: &str, params: &[String]) -> Result<(&'static str, Vec<String>), SqlError> {
        let n = self.moved.fetch_add(1, Ordering::Relaxed);
        let has = |part: &str| sql.contains(part);
        if has("tidemill.sources") {
            let columns =
                "source text, type text, state text, position text, lag_seconds double, lag_bytes bigint, message text";
            return Ok((columns, vec![format!("shop|simulator|streaming|step {n}|0.{}|{}|", n % 9 + 1, n % 4000)]));
        }
        if has("tidemill.tables") {
            let row = |(at, name): (usize, &&str)| {
                let state = if at == 3 { "snapshot" } else { "streaming" };
                format!(
                    "shop|shop|{name}|{state}|{}|{}|{}|{}|0.{}|",
                    1_000 * (at as u64 + 1) + n,
                    if at == 3 { n % 900 } else { 1000 },
                    1000,
                    n * 3,
                    at + 2
                )
            };
            let columns = "source text, schema text, table text, state text, rows bigint, snapshot_rows bigint, snapshot_rows_total bigint, changes_total bigint, lag_seconds double, message text";
            let rows = TABLES
                .iter()
                .enumerate()
                .map(row)
                .filter(|row| params.is_empty() || row.contains(&format!("|{}|", params[1])));
            return Ok((columns, rows.collect()));
        }
        if has("sum(state_bytes)") {
            return Ok(("bytes bigint, models bigint", vec![format!("{}|{}", 734_003_200 + n * 4096, self.models)]));
        }
        if has("tidemill.models") {
            let columns = "schema text, model text, materialized text, state text, rows bigint, changes_total bigint, freshness_seconds double, state_bytes bigint, message text, sql text, description text, path text, tags text, owner text, written text";
            let rows = self.all_models().into_iter().enumerate().map(|(at, (name, _, state))| {
                let message = if state == "failed" { "division by zero in model ads_unsold_products: a rule is broken" } else { "" };
                let layer = name.split('_').next().unwrap_or_default();
                let kept = if layer == "ods" { "view" } else { "table" };
                let tags = if layer == "ads" { "daily, board" } else { "daily" };
                format!("public|{name}|{kept}|{state}|{}|{}|0.00{}|1234567|{message}|{COMPILED}|What the shop asks every day.|models/{layer}/{name}.sql|{tags}|Analytics|{WRITTEN}", 500 * (at as u64 + 1) + n, n * 7, at % 9 + 1)
            });
            let rows = rows.filter(|row| params.is_empty() || row.contains(&format!("|{}|", params[1])));
            return Ok((columns, rows.collect()));
        }
        if has("tidemill.lineage") {
            let rows = self.all_models().into_iter().flat_map(|(name, reads, _)| {
                reads.split(' ').map(|up| format!("{up}|public.{name}")).collect::<Vec<_>>()
            });
            return Ok(("upstream text, downstream text", rows.collect()));
        }
        if has("count(*) as rejects") {
            return Ok(("node text, rejects bigint", vec!["shop.order_items|3".to_owned()]));
        }
        if has("count(*) as \"rows\" from tidemill.rejects") {
            return Ok((
                "node text, reason text, rows bigint",
                vec!["shop.order_items|value out of range|3".to_owned()],
            ));
        }
        if has("tidemill.rejects") {
            let columns =
                "id text, node text, reason text, code text, key text, row text, position text, first_at timestamp";
            let row = |at: u64| {
                format!(
                    "r{at}|shop.order_items|value 99999999999 is out of range for column \"quantity\"|22003|{at}|{{\"id\": {at}}}|binlog.000003:1547{at}|2026-03-01T10:00:0{at}"
                )
            };
            return Ok((columns, (1..4).map(row).collect()));
        }
        if has("last_value(changes_per_second") {
            let ids = TABLES
                .iter()
                .map(|name| format!("shop.{name}"))
                .chain(self.all_models().into_iter().map(|m| format!("public.{}", m.0)));
            return Ok((
                "node text, rate double, lag double",
                ids.enumerate()
                    .map(|(at, id)| format!("{id}|{}|0.{}", (n + at as u64 * 13) % 60, (n + at as u64) % 9 + 1))
                    .collect(),
            ));
        }
        if has("tidemill.history") {
            let row = |at: u64| {
                format!("2026-03-01T10:{:02}:{:02}|0.{}", (n / 12 + at) / 12 % 60, at % 12 * 5, (at * 7 + n) % 9 + 1)
            };
            return Ok(("at timestamp, lag_seconds double", (0..90).map(row).collect()));
        }
        if has("tidemill.latency") {
            let row = |stage| {
                format!("{}|{stage}|0.42|3.1|{}|{}", params.first().cloned().unwrap_or_default(), 20 + n, n * 100)
            };
            return Ok((
                "node text, stage text, p50_ms double, p99_ms double, max_ms double, count bigint",
                ["commit_read", "read_durable", "durable_visible", "commit_visible"].map(row).to_vec(),
            ));
        }
        if has("tidemill.step_changes") {
            let columns = "step bigint, at timestamp, node text, weight bigint, row text";
            let row = |step, node, weight, row| format!("{step}|2026-03-01T10:00:00|{node}|{weight}|{row}");
            return Ok((
                columns,
                vec![
                    row(812, "shop.orders", -1, "{\"order_id\": 4711, \"status\": \"placed\", \"total\": \"59.90\"}"),
                    row(812, "shop.orders", 1, "{\"order_id\": 4711, \"status\": \"paid\", \"total\": \"59.90\"}"),
                    row(812, "public.stg_orders", 1, "{\"order_id\": 4711, \"is_void\": false, \"total\": \"59.90\"}"),
                    row(790, "shop.orders", 1, "{\"order_id\": 4711, \"status\": \"placed\", \"total\": \"59.90\"}"),
                ],
            ));
        }
        if has("tidemill.steps") {
            return Ok((
                "step bigint, at timestamp, rows bigint, took_ms double, transactions bigint",
                (0..20).map(|at| format!("{}|2026-03-01T10:00:00|{}|1.{at}|{at}", 900 + n - at, at * 3)).collect(),
            ));
        }
        if has("tidemill.settings") {
            return Ok((
                "name text, value text, source text",
                vec!["memory|4GiB|profiles.yml".to_owned(), "workers|2|default".to_owned()],
            ));
        }
        if has("pg_catalog.pg_attribute") {
            return Ok((
                "name text, kind text, is_filled boolean, description text",
                vec![
                    "day|date|true|The day of the order.".to_owned(),
                    "orders|bigint|true|".to_owned(),
                    "revenue|numeric(12,2)|false|What the day's orders come to, cancelled ones included.".to_owned(),
                ],
            ));
        }
        if has("key_column_usage") {
            return Ok(("column_name text", vec!["day".to_owned()]));
        }
        if has("tidemill.column_lineage") {
            return Ok((
                "column text, upstream text, upstream_column text",
                vec!["day|shop.orders|placed_at".to_owned(), "revenue|shop.orders|total".to_owned()],
            ));
        }
        if has("tidemill.tests") {
            return Ok((
                "test text, column text, severity text, sql text, state text, failures bigint, since text",
                vec![
                    "unique|day|error|select day from public.days where false|pass|0|".to_owned(),
                    "not_null|revenue|warn|select * from public.days where revenue is null||0|".to_owned(),
                    "dbt_utils.equality|||||0|".to_owned(),
                ],
            ));
        }
        if has("as failing") {
            return Ok(("n bigint", vec![if has("where false") { "0" } else { "3" }.to_owned()]));
        }
        if has("information_schema.columns") {
            let columns = "table_schema text, table_name text, column_name text, data_type text, numeric_precision int, numeric_scale int";
            let rows = |name: &&str| {
                [
                    format!("shop|{name}|id|bigint|64|0"),
                    format!("shop|{name}|placed_at|timestamp without time zone|0|0"),
                    format!("shop|{name}|total|numeric|12|2"),
                ]
            };
            return Ok((columns, TABLES.iter().flat_map(rows).collect()));
        }
        if has("distinct city") {
            return Ok(("city text", ["Bern", "Shanghai", "Wuhan"].map(str::to_owned).to_vec()));
        }
        if has("by hour") {
            let row = |at: u64| {
                let now = 900 + (at * 131 + n) % 700;
                format!("2026-03-{:02}T{:02}:00:00|{now}.50|{}|{}.00", 1 + at / 24, at % 24, 3 + at % 7, now * 9 / 10)
            };
            return Ok((
                "hour timestamp, gmv decimal(12,2), orders bigint, gmv_before decimal(12,2)",
                (0..30).map(row).collect(),
            ));
        }
        if has("gmv") {
            return Ok((
                "gmv decimal(12,2), yesterday decimal(12,2)",
                vec![format!("{}.50|98000.00", 123_456 + n * 17)],
            ));
        }
        if has("minute") {
            let row =
                |at: u64| format!("2026-03-01T10:{:02}:00|{}|{}", at % 60, 40 + (at * 31 + n) % 25, 30 + (at * 17) % 9);
            return Ok(("minute timestamp, orders bigint, paid bigint", (0..60).map(row).collect()));
        }
        if has("step, n") {
            return Ok((
                "step text, n bigint",
                vec![
                    format!("Seen|{}", 9_000 + n),
                    "Cart|2400".to_owned(),
                    "Paid|1210".to_owned(),
                    "Delivered|1104".to_owned(),
                ],
            ));
        }
        if has("city, n") {
            return Ok((
                "city text, n bigint",
                vec![format!("Shanghai|{}", 400 + n % 100), "Wuhan|230".to_owned(), "Bern|18".to_owned()],
            ));
        }
        if has("from \"") || has("from shop.") || has("from public.") {
            let row =
                |at: u64| format!("{}|2026-03-{:02}|{}|{}.90", 100_000 + at, at % 28 + 1, at * 37 + n, at * 1_234);
            let from = sql.rsplit_once("offset ").and_then(|(_, from)| from.parse::<u64>().ok()).unwrap_or(0);
            let rows: u64 = if has("limit") { 51 } else { 1_200 };
            let found = (0..rows.max(130).saturating_sub(from)).rev().take(usize::try_from(rows).unwrap_or(usize::MAX));
            let found =
                if params.iter().any(|word| word.contains("no such")) { Vec::new() } else { found.map(row).collect() };
            return Ok(("order_id bigint, day date, orders bigint, revenue decimal(12,2)", found));
        }
        if has("generate_series(1, 2500)") {
            return Ok(("n bigint", (1..=2_500).map(|n| n.to_string()).collect()));
        }
        if has("from nothing") {
            return Ok(("day date", Vec::new()));
        }
        if sql.trim() == "select 1" {
            return Ok(("one bigint", vec!["1".to_owned()]));
        }
        Err(SqlError::new("42P01", "relation \"nowhere\" does not exist").hint("Ask information_schema.tables.").at(15))
    }

    fn all_models(&self) -> Vec<(String, String, &'static str)> {
        let mut all: Vec<(String, String, &str)> =
            MODELS.iter().map(|(name, reads, state)| ((*name).to_owned(), (*reads).to_owned(), *state)).collect();
        for at in all.len()..self.models {
            // A share of each layer, over models of the one below or two of its own.
            let (layer, below) = match at * 10 / self.models {
                0..=2 => ("ods", "shop"),
                3..=4 => ("dwd", "ods"),
                5..=7 => ("dws", "dwd"),
                _ => ("ads", "dws"),
            };
            let beneath: Vec<String> =
                all.iter().filter(|(name, ..)| name.starts_with(below)).map(|m| m.0.clone()).collect();
            let reads = match beneath.as_slice() {
                [] => format!("shop.{}", TABLES[at % TABLES.len()]),
                some => format!("public.{} public.{}", some[at * 7 % some.len()], some[at * 13 % some.len()]),
            };
            all.push((format!("{layer}_model_{at}"), reads, "live"));
        }
        all
    }
}

fn schema(columns: &str) -> SchemaRef {
    Arc::new(Schema::new(table::fields(columns).unwrap()))
}

#[async_trait]
impl Reader for Shop {
    fn pin(&self) -> Pin {
        Pin::new(self.moved.load(Ordering::Relaxed), ())
    }

    async fn query(&self, sql: &str, params: &[Param], _: &QueryContext) -> Result<Answer, SqlError> {
        if sql.contains("pg_sleep") {
            return futures::future::pending().await;
        }
        let texts: Vec<String> =
            params.iter().map(|param| arrow::util::display::array_value_to_string(&param.0, 0).unwrap()).collect();
        let (columns, rows) = self.rows(sql, &texts)?;
        let cells: Vec<Vec<String>> = rows.iter().map(|row| row.split('|').map(str::to_owned).collect()).collect();
        let schema = schema(columns);
        let batch = table::batch(&schema, &cells).map_err(|message| SqlError::new("XX000", message))?;
        Ok(Answer {
            schema,
            stream: futures::stream::iter([Ok(batch)]).boxed(),
            step: self.moved.load(Ordering::Relaxed),
            warning: None,
        })
    }

    async fn describe(&self, sql: &str, _: &[Option<DataType>], _: &QueryContext) -> Result<Description, SqlError> {
        let text = Arc::new(Field::new("", DataType::Utf8, true));
        let parameters = vec![text; sql.matches('$').count()];
        Ok(Description { parameters, columns: schema("n bigint") })
    }

    fn health(&self) -> Health {
        Health { started: true, ready: true, is_well: true, message: "data are 0.2 s old".to_owned() }
    }

    fn metrics(&self) -> String {
        format!(
            "tidemill_step {}\ntidemill_log_bytes 73400320\ntidemill_memory_bytes 412316860\n",
            self.moved.load(Ordering::Relaxed)
        )
    }
}

fn dashboards() -> Vec<Dashboard> {
    let tile =
        |title: &str, kind, sql: &str| Tile { title: title.to_owned(), kind, sql: sql.to_owned(), ..Tile::default() };
    let tiles = vec![
        Tile {
            compare: Some("yesterday".to_owned()),
            currency: "CNY".to_owned(),
            compare_title: "yesterday at this hour".to_owned(),
            description: "What the orders of the day come to, cancelled ones included.".to_owned(),
            ..tile("GMV today", TileKind::Number, "select gmv, yesterday from dws_revenue_per_day where gmv > 0")
        },
        Tile { format: Format::Integer, ..tile("GMV rounded", TileKind::Number, "select gmv from ads_today") },
        tile("Not there", TileKind::Number, "select nothing"),
        Tile {
            compare: Some("select gmv from before".to_owned()),
            good: Good::Down,
            unit: "orders".to_owned(),
            ..tile("Against a statement", TileKind::Number, "select gmv from ads_today")
        },
        tile("Orders a minute", TileKind::Line, "select minute, orders, paid from ads_minutes"),
        Tile {
            x: Some("hour".to_owned()),
            y: vec!["gmv".to_owned()],
            y2: vec!["orders".to_owned()],
            compare: Some("gmv_before".to_owned()),
            compare_title: "a day before".to_owned(),
            currency: "CNY".to_owned(),
            unfinished: true,
            ..tile(
                "GMV an hour",
                TileKind::Line,
                "select hour, gmv, orders, gmv_before from dws_revenue_per_minute group by hour",
            )
        },
        tile("Orders by city", TileKind::Bar, "select city, n from ads_cities where :city is null or city = :city"),
        tile("From seen to delivered", TileKind::Funnel, "select step, n from ads_funnel"),
        tile("Days", TileKind::Table, "select * from public.dws_revenue_per_day"),
        tile("Nothing yet", TileKind::Table, "select * from nothing"),
    ];
    let filter = Filter {
        name: "city".to_owned(),
        title: "City".to_owned(),
        sql: Some("select distinct city from users".to_owned()),
    };
    let (name, title) = ("today".to_owned(), "The shop today".to_owned());
    vec![Dashboard {
        name,
        title,
        description: "Everything the morning meeting looks at.".to_owned(),
        filters: vec![filter],
        tiles,
    }]
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8099".to_owned());
    let models = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(MODELS.len());
    let site = Site {
        version: "0.0.0".to_owned(),
        project: "demo".to_owned(),
        schema: "public".to_owned(),
        pg: "127.0.0.1:5433".to_owned(),
    };
    let shop = Arc::new(Shop { moved: AtomicU64::new(0), models });
    let service = Service::with_dashboards(shop, Limits::default(), site, dashboards());
    let listener = serve::bind(&address, true).await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    let stopped = async { tokio::signal::ctrl_c().await.unwrap() };
    serve::serve_http(listener, service, stopped).await;
}
