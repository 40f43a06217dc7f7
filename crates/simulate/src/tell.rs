//! Each event as the rows it changes: as they are just before its time, and at it.

use crate::NEVER;
use crate::catalogue::PRODUCTS;
use crate::day_plan::{Event, What};
use crate::order::Order;
use crate::simulation::Simulation;
use crate::stock::Moved;
use crate::tables::Table;
use crate::told::Told;
use crate::world::World;

impl Simulation {
    pub(crate) fn tell(&mut self, event: Event, told: &mut Told) {
        let Self { world, stock, .. } = self;
        let Event { at_us, what, number } = event;
        match what {
            What::Sale => {
                for product in (1..=PRODUCTS).filter(|product| world.catalogue.product(*product).brand == number) {
                    world.tell_price(product, stock.of(product), at_us, told);
                }
            }
            What::Reprice => world.tell_price(number, stock.of(number), at_us, told),
            What::Register => told.insert(Table::Users, |cells| world.calendar.user_cells(number, at_us, cells)),
            What::Move => told.update(
                Table::Users,
                |cells| world.calendar.user_cells(number, at_us - 1, cells),
                |cells| world.calendar.user_cells(number, at_us, cells),
            ),
            What::Campaign => {
                for packet in world.packets_of(number) {
                    told.insert(Table::RedPackets, |cells| world.campaign_cells(packet, at_us, cells));
                }
            }
            What::CampaignExpires => {
                for packet in world.packets_of(number) {
                    told.update(
                        Table::RedPackets,
                        |cells| world.campaign_cells(packet, at_us - 1, cells),
                        |cells| world.campaign_cells(packet, at_us, cells),
                    );
                }
            }
            What::Stocktake => stock.count(&world.catalogue, |moved| world.tell_stock(moved, at_us, told)),
            _ => {
                let order = world.order(number);
                match what {
                    What::Placed => {
                        stock.take(&world.catalogue, &order, |moved| world.tell_stock(moved, at_us, told));
                    }
                    What::Cancelled => stock.give_back(&order, |moved| world.tell_stock(moved, at_us, told)),
                    _ => {}
                }
                world.tell_order(what, &order, at_us, told);
            }
        }
    }
}

impl World {
    /// A product's price becomes what it is from a time on.
    fn tell_price(&self, product: i64, stock: i64, at_us: i64, told: &mut Told) {
        let catalogue = &self.catalogue;
        if catalogue.cents(product, at_us - 1) != catalogue.cents(product, at_us) {
            told.update(
                Table::Products,
                |cells| catalogue.product_cells(product, stock, at_us - 1, cells),
                |cells| catalogue.product_cells(product, stock, at_us, cells),
            );
        }
    }

    fn packets_of(&self, week: i64) -> std::ops::Range<i64> {
        week * self.campaign_packets()..(week + 1) * self.campaign_packets()
    }

    fn tell_stock(&self, moved: Moved, at_us: i64, told: &mut Told) {
        let Moved { product, before, after } = moved;
        told.update(
            Table::Products,
            |cells| self.catalogue.product_cells(product, before, at_us, cells),
            |cells| self.catalogue.product_cells(product, after, at_us, cells),
        );
    }

    fn tell_order(&self, what: What, order: &Order, at_us: i64, told: &mut Told) {
        let seed = self.seed();
        match what {
            What::Placed => told.insert(Table::Orders, |cells| order.cells(at_us, cells)),
            What::Paid | What::Cancelled | What::Shipped | What::Delivered | What::Refunded | What::Corrected => {
                told.update(Table::Orders, |cells| order.cells(at_us - 1, cells), |cells| order.cells(at_us, cells));
            }
            _ => {}
        }
        match what {
            What::PacketIssued => told.insert(Table::RedPackets, |cells| order.packet_cells(at_us, cells)),
            What::Placed => {
                for (line, number) in order.lines().iter().zip(1..) {
                    told.insert(Table::OrderItems, |cells| order.item_cells(number, line, cells));
                }
                if order.course.packet_issued != NEVER {
                    told.update(
                        Table::RedPackets,
                        |cells| order.packet_cells(at_us - 1, cells),
                        |cells| order.packet_cells(at_us, cells),
                    );
                }
            }
            What::Paid => told.insert(Table::Payments, |cells| order.payment_cells(cells)),
            What::Cancelled if order.course.paid == NEVER => {}
            What::Cancelled | What::Refunded => told.insert(Table::Refunds, |cells| order.refund_cells(cells)),
            What::Corrected => told.insert(Table::Refunds, |cells| order.correction_cells(cells)),
            What::Shipped => told.insert(Table::Shipments, |cells| order.shipment_cells(seed, at_us, cells)),
            What::Delivered => told.update(
                Table::Shipments,
                |cells| order.shipment_cells(seed, at_us - 1, cells),
                |cells| order.shipment_cells(seed, at_us, cells),
            ),
            What::Reviewed => told.insert(Table::Reviews, |cells| order.review_cells(seed, cells)),
            What::TicketOpened => {
                told.insert(Table::SupportTickets, |cells| order.ticket_cells(seed, at_us, cells));
            }
            What::TicketClosed => told.update(
                Table::SupportTickets,
                |cells| order.ticket_cells(seed, at_us - 1, cells),
                |cells| order.ticket_cells(seed, at_us, cells),
            ),
            _ => {}
        }
    }
}
