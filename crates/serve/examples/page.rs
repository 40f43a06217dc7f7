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
    Answer, Dashboard, Description, Filter, Format, Health, Limits, Param, Pin, QueryContext, Reader, Service, Site,
    SqlError, Tile, TileKind,
};

const TABLES: [&str; 5] = ["customers", "order_items", "orders", "payments", "products"];

/// Name, what it reads, state.
const MODELS: [(&str, &str, &str); 12] = [
    ("stg_customers", "shop.customers", "live"),
    ("stg_order_items", "shop.order_items", "live"),
    ("stg_orders", "shop.orders", "live"),
    ("stg_payments", "shop.payments", "live"),
    ("stg_products", "shop.products", "live"),
    ("order_items_wide", "public.stg_orders public.stg_order_items public.stg_products public.stg_customers", "live"),
    ("revenue_per_day", "public.stg_orders public.stg_payments", "live"),
    ("revenue_per_minute", "public.stg_orders", "live"),
    ("customer_value", "public.order_items_wide", "live"),
    ("category_per_day_and_customer_group", "public.order_items_wide", "building"),
    ("top_products_per_day", "public.order_items_wide", "live"),
    ("unsold_products", "public.stg_products public.stg_order_items", "failed"),
];

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
            let columns = "schema text, model text, materialized text, state text, rows bigint, changes_total bigint, freshness_seconds double, state_bytes bigint, message text, sql text, description text, path text";
            let rows = self.all_models().into_iter().enumerate().map(|(at, (name, _, state))| {
                let message = if state == "failed" { "division by zero in model unsold_products: a rule is broken" } else { "" };
                format!("public|{name}|table|{state}|{}|{}|0.{}|1234567|{message}|{}|What the shop asks every day.|models/marts/{name}.sql", 500 * (at as u64 + 1) + n, n * 7, at % 9, "select day, count(*) as orders from stg_orders group by day")
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
        if has("information_schema.columns") {
            return Ok((
                "column_name text, data_type text, is_nullable text",
                vec!["day|date|YES".to_owned(), "orders|bigint|NO".to_owned(), "revenue|numeric(12,2)|YES".to_owned()],
            ));
        }
        if has("information_schema.tables") {
            return Ok((
                "table_schema text, table_name text",
                TABLES.iter().map(|name| format!("shop|{name}")).collect(),
            ));
        }
        if has("distinct city") {
            return Ok(("city text", ["Bern", "Shanghai", "Wuhan"].map(str::to_owned).to_vec()));
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
            let row = |at: u64| format!("2026-03-{at:02}|{}|{}.90", at * 37 + n, at * 1_234);
            return Ok(("day date, orders bigint, revenue decimal(12,2)", (1..=20).map(row).collect()));
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
            let (a, b) = (at * 7 / 11, at / 2);
            all.push((format!("m{at}"), format!("public.{} public.{}", all[a].0, all[b].0), "live"));
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
            ..tile("GMV today", TileKind::Number, "select gmv, yesterday from ads_today")
        },
        Tile { format: Format::Integer, ..tile("GMV rounded", TileKind::Number, "select gmv from ads_today") },
        tile("Not there", TileKind::Number, "select nothing"),
        Tile {
            compare: Some("select gmv from before".to_owned()),
            ..tile("Against a statement", TileKind::Number, "select gmv from ads_today")
        },
        tile("Orders a minute", TileKind::Line, "select minute, orders, paid from ads_minutes"),
        tile("Orders by city", TileKind::Bar, "select city, n from ads_cities where :city is null or city = :city"),
        tile("From seen to delivered", TileKind::Funnel, "select step, n from ads_funnel"),
        tile("Days", TileKind::Table, "select * from public.revenue_per_day"),
    ];
    let filter = Filter {
        name: "city".to_owned(),
        title: "City".to_owned(),
        sql: Some("select distinct city from users".to_owned()),
    };
    vec![Dashboard { name: "today".to_owned(), title: "The shop today".to_owned(), filters: vec![filter], tiles }]
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
