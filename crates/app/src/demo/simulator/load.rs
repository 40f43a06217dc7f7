//! The first load of a table: its rows as they are once a tick is told, in chunks.

use relation::{ChunkDone, Layout, Result, Rows, TableId, Value};

use super::shop::PRODUCTS;
use super::story::Story;
use super::tables::Table;

/// Customers, products or orders per chunk.
const CHUNK: u64 = 5_000;

/// The chunk that begins at a cursor; a table's first has none. The cursor is the number of the next customer, product
/// or order.
pub(super) fn chunk(story: &Story, table: Table, id: TableId, cursor: Option<&[u8]>) -> Result<ChunkDone> {
    let first = cursor.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?))).unwrap_or(1);
    let last = count(story, table);
    let end = last.min(first.saturating_add(CHUNK - 1));
    let layout = Layout::new(table.schema().types());
    let mut rows = Rows::new();
    for number in first..=end {
        for row in rows_of(story, table, number) {
            rows.push_values(&layout, &row)?;
        }
    }
    let cursor = (end + 1).to_be_bytes().to_vec();
    Ok(ChunkDone { table: id, cursor, complete: end == last, rows, rows_estimate: estimate(table, last) })
}

fn count(story: &Story, table: Table) -> u64 {
    match table {
        Table::Customers => story.shop().0.customers(story.tick()),
        Table::Products => PRODUCTS,
        Table::Orders | Table::OrderItems | Table::Payments => story.tick(),
    }
}

fn estimate(table: Table, count: u64) -> u64 {
    // About so many items has an order.
    if table == Table::OrderItems { count * 3 / 2 } else { count }
}

fn rows_of(story: &Story, table: Table, number: u64) -> Vec<Vec<Value>> {
    let tick = story.tick();
    let (shop, calendar) = story.shop();
    match table {
        Table::Customers => vec![shop.customer_row(number, tick, calendar)],
        Table::Products => vec![shop.product_row(number, tick)],
        Table::Orders => {
            let order = shop.order(number);
            vec![order.row(order.steps(tick), calendar)]
        }
        Table::OrderItems => shop.order(number).item_rows().collect(),
        Table::Payments => {
            let order = shop.order(number);
            vec![order.payment_row(order.steps(tick))]
        }
    }
}
