//! The first load of a table: its rows as they are at the shop's time, in chunks.

use relation::Rows;

use crate::NEVER;
use crate::SECOND;
use crate::calendar::Calendar;
use crate::catalogue::{Catalogue, MERCHANTS, PRODUCTS, brands, categories};
use crate::cells::Cells;
use crate::simulation::Simulation;
use crate::tables::Table;

/// Users, orders, visits and so on per chunk.
const CHUNK: i64 = 5_000;

/// A piece of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub rows: Rows,
    /// Where the next chunk begins.
    pub cursor: Vec<u8>,
    /// This was the last.
    pub complete: bool,
    /// Rows of the whole table, about.
    pub rows_estimate: u64,
}

impl Simulation {
    /// The chunk of a table that begins at a cursor; a table's first has none. Rows are in the order of their keys, but
    /// for red packets, where campaigns come before orders.
    pub fn chunk(&self, table: Table, cursor: Option<&[u8]>) -> Chunk {
        let bytes = cursor.and_then(|bytes| bytes.try_into().ok());
        let (first, last) = self.numbers(table);
        let from = bytes.map_or(first, i64::from_be_bytes);
        let to = last.min(from.saturating_add(CHUNK - 1));
        let mut out = Out { table, rows: Rows::new() };
        (from..=to).for_each(|number| self.load(number, &mut out));
        let rows_estimate = estimate(table, &self.world.calendar, (last - first + 1).max(0).unsigned_abs());
        let cursor = (to.max(from - 1) + 1).to_be_bytes().to_vec();
        Chunk { rows: out.rows, cursor, complete: to >= last, rows_estimate }
    }

    /// The first and the last number of what a table's rows come from.
    fn numbers(&self, table: Table) -> (i64, i64) {
        let calendar = &self.world.calendar;
        match table {
            Table::Users => (1, calendar.users_at(self.at_us)),
            Table::Merchants => (1, MERCHANTS),
            Table::Brands => (1, brands()),
            Table::Categories => (1, categories()),
            Table::Products => (1, PRODUCTS),
            Table::PageEvents => (self.world.first_visit_kept(), calendar.visit_from(self.at_us)),
            // A packet may be there a little before its order.
            Table::RedPackets => (1 - self.campaign_packets(), self.orders_soon()),
            _ => (1, calendar.orders_at(self.at_us)),
        }
    }

    fn campaign_packets(&self) -> i64 {
        self.world.campaigns_at(self.at_us) * self.world.campaign_packets()
    }

    fn orders_soon(&self) -> i64 {
        self.world.calendar.orders_at(self.at_us + crate::order::PACKET_BEFORE_MAX)
    }

    fn load(&self, number: i64, out: &mut Out) {
        let (now, world, seed) = (self.at_us, &self.world, self.world.seed());
        match out.table {
            Table::Users => out.row(|cells| world.calendar.user_cells(number, now, cells)),
            Table::Merchants => out.row(|cells| world.catalogue.merchant_cells(number, cells)),
            Table::Brands => out.row(|cells| world.catalogue.brand_cells(number, cells)),
            Table::Categories => out.row(|cells| Catalogue::category_cells(number, cells)),
            Table::Products => {
                out.row(|cells| world.catalogue.product_cells(number, self.stock.of(number), now, cells));
            }
            Table::PageEvents => world.calendar.page_events(number, |event| {
                // What the collector has not written yet is not there yet.
                if event.at_us < now.div_euclid(SECOND) * SECOND {
                    out.row(|cells| event.cells(cells));
                }
            }),
            Table::RedPackets if number < 1 => {
                let packet = number - 1 + self.campaign_packets();
                out.row(|cells| world.campaign_cells(packet, now, cells));
            }
            _ => self.load_order(&world.order(number), seed, out),
        }
    }

    fn load_order(&self, order: &crate::order::Order, seed: u64, out: &mut Out) {
        let (now, course) = (self.at_us, &order.course);
        let come = |at: i64| at <= now && at != NEVER;
        match out.table {
            Table::Orders => out.row(|cells| order.cells(now, cells)),
            Table::OrderItems => {
                for (line, number) in order.lines().iter().zip(1..) {
                    out.row(|cells| order.item_cells(number, line, cells));
                }
            }
            Table::Payments if come(course.paid) => out.row(|cells| order.payment_cells(cells)),
            Table::Refunds => {
                if come(order.paid_back_us()) {
                    out.row(|cells| order.refund_cells(cells));
                }
                if come(course.corrected) {
                    out.row(|cells| order.correction_cells(cells));
                }
            }
            Table::RedPackets if come(course.packet_issued) => out.row(|cells| order.packet_cells(now, cells)),
            Table::Shipments if come(course.shipped) => out.row(|cells| order.shipment_cells(seed, now, cells)),
            Table::Reviews if come(course.reviewed) => out.row(|cells| order.review_cells(seed, cells)),
            Table::SupportTickets if come(course.ticket_opened) => {
                out.row(|cells| order.ticket_cells(seed, now, cells));
            }
            _ => {}
        }
    }
}

fn estimate(table: Table, calendar: &Calendar, numbers: u64) -> u64 {
    match table {
        Table::OrderItems => numbers * 2,
        Table::PageEvents => numbers * calendar.events_per_visit(),
        Table::Refunds => numbers / 15,
        Table::Reviews => numbers / 4,
        Table::SupportTickets => numbers / 25,
        _ => numbers,
    }
}

/// Where rows of a table go.
struct Out {
    table: Table,
    rows: Rows,
}

impl Out {
    fn row(&mut self, write: impl FnOnce(&mut Cells<'_>)) {
        write(&mut Cells::new(self.rows.start_row(self.table.layout())));
        self.rows.finish_row();
    }
}
