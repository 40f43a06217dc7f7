//! Rows per second that one thread decodes, of an event as the Olist orders give it: `cargo bench -p connect --bench decode`.
//!
//! The event has the shape that a bulk insert or a busy shop's table has: two keys of 32 characters, an enum, five
//! datetimes of which some are NULL. A narrow one beside it: two integers, a decimal, a datetime.

use std::time::{Duration, Instant};

use connect::source::mysql::decode::{Plan, SourceColumn, TableMap};
use relation::TableChanges;

const WRITE_ROWS: u8 = 30;
const UPDATE_ROWS: u8 = 31;
/// Rows of one event: about 64 KiB, as `binlog_row_event_max_size` is advised.
const ROWS_PER_EVENT: usize = 500;
/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(3);

fn main() {
    let orders = Table {
        types: vec![254, 254, 254, 18, 18, 18, 18, 18],
        meta: vec![0xfe, 0x80, 0xfe, 0x80, 0xf7, 1, 0, 0, 0, 0, 0],
        columns: vec![
            column("order_id", "char", "char(32)"),
            column("customer_id", "char", "char(32)"),
            column("order_status", "enum", "enum('created','approved','invoiced','processing','shipped','delivered')"),
            column("order_purchase_timestamp", "datetime", "datetime"),
            column("order_approved_at", "datetime", "datetime"),
            column("order_delivered_carrier_date", "datetime", "datetime"),
            column("order_delivered_customer_date", "datetime", "datetime"),
            column("order_estimated_delivery_date", "datetime", "datetime"),
        ],
        image: order_image,
    };
    let payments = Table {
        types: vec![8, 3, 246, 18],
        meta: vec![10, 2, 0],
        columns: vec![
            column("order_id", "bigint", "bigint"),
            column("payment_sequential", "int", "int"),
            column("payment_value", "decimal", "decimal(10,2)"),
            column("paid_at", "datetime", "datetime"),
        ],
        image: payment_image,
    };
    measure("orders, inserts", &orders, WRITE_ROWS);
    measure("orders, updates", &orders, UPDATE_ROWS);
    measure("narrow, inserts", &payments, WRITE_ROWS);
}

struct Table {
    types: Vec<u8>,
    meta: Vec<u8>,
    columns: Vec<SourceColumn>,
    /// Appends the image of a row, bitmap of NULLs included.
    image: fn(u64, &mut Vec<u8>),
}

#[expect(clippy::print_stdout, reason = "the figures are the result")]
fn measure(name: &str, table: &Table, kind: u8) {
    let map = TableMap::parse(&table.map()).expect("a table map");
    let plan = Plan::new(&map, &table.columns).expect("a plan");
    let event = table.event(kind);
    let mut out = TableChanges::default();
    let (mut rows, mut images) = (0_u64, 0);
    let start = now();
    while start.elapsed() < SPAN {
        for _ in 0..100 {
            out.rows.truncate(0);
            out.weights.clear();
            rows += u64::from(plan.decode_rows(kind, &event, &mut out).expect("rows").changes);
            images += out.rows.len();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (rows_per_s, images_per_s) = (rows as f64 / seconds, images as f64 / seconds);
    let mb_per_s = rows_per_s / ROWS_PER_EVENT as f64 * event.len() as f64 / 1e6;
    println!("{name}: {rows_per_s:.0} rows/s, {images_per_s:.0} images/s, {mb_per_s:.0} MB/s of log, one thread");
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

fn column(name: &str, data_type: &str, column_type: &str) -> SourceColumn {
    SourceColumn {
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        column_type: column_type.to_owned(),
        charset: Some("utf8mb4".to_owned()),
        nullable: true,
        ..SourceColumn::default()
    }
}

impl Table {
    fn map(&self) -> Vec<u8> {
        let mut out = vec![7, 0, 0, 0, 0, 0, 1, 0, 4];
        out.extend_from_slice(b"shop\0\x06orders\0");
        out.push(u8::try_from(self.types.len()).expect("few columns"));
        out.extend_from_slice(&self.types);
        out.push(u8::try_from(self.meta.len()).expect("few columns"));
        out.extend_from_slice(&self.meta);
        out.push(0xff);
        out
    }

    fn event(&self, kind: u8) -> Vec<u8> {
        let mut out = vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0];
        out.push(u8::try_from(self.types.len()).expect("few columns"));
        let bitmaps = if kind == UPDATE_ROWS { 2 } else { 1 };
        out.resize(out.len() + bitmaps, 0xff);
        for row in 0..ROWS_PER_EVENT as u64 {
            (0..bitmaps as u64).for_each(|image| (self.image)(row * 2 + image, &mut out));
        }
        out
    }
}

/// Numbers that look like those of a shop, the same in every run.
fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

fn order_image(row: u64, out: &mut Vec<u8>) {
    // Half of the orders are not delivered yet.
    let delivered = row.is_multiple_of(2);
    out.push(if delivered { 0 } else { 0b0110_0000 });
    for id in [row, row + 1_000_000] {
        out.push(32);
        out.extend_from_slice(format!("{:016x}{:016x}", scattered(id), scattered(id + 7)).as_bytes());
    }
    out.push(1 + u8::try_from(row % 6).expect("six states"));
    for _ in 0..if delivered { 5 } else { 3 } {
        out.extend_from_slice(&datetime(row));
    }
}

fn payment_image(row: u64, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&scattered(row).to_le_bytes());
    out.extend_from_slice(&1_u32.to_le_bytes());
    out.extend_from_slice(&[0x80, 0, 0, 99, 50]);
    out.extend_from_slice(&datetime(row));
}

/// 2017 and 2018, as the log packs a datetime.
fn datetime(row: u64) -> [u8; 5] {
    let n = scattered(row);
    let months = (2017 + n % 2) * 13 + 1 + n / 2 % 12;
    let packed =
        months << 22 | (1 + n / 24 % 28) << 17 | (n / 700 % 24) << 12 | (n / 17_000 % 60) << 6 | (n / 1_000_000 % 60);
    let [_, _, _, bytes @ ..] = (0x80_0000_0000 | packed).to_be_bytes();
    bytes
}
