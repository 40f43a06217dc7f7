//! What falls due on a day: all but the page events, in the order of their times.

use crate::catalogue::{PRODUCTS, REPRICING, brands, sale_us};
use crate::order::{FATE_MAX, PACKET_BEFORE_MAX};
use crate::packets::{CAMPAIGN_GOOD, CAMPAIGN_US};
use crate::people::MOVE_DAYS_MAX;
use crate::world::World;
use crate::{DAY, NEVER};

/// What may fall due. The order breaks ties: what others need comes first, the count of the stock last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A sale of a brand begins or ends.
    Sale,
    /// A product's price is looked over.
    Reprice,
    Register,
    Move,
    /// A campaign gives out its red packets, or they expire.
    Campaign,
    CampaignExpires,
    /// Of an order:
    PacketIssued,
    Placed,
    Paid,
    Cancelled,
    Shipped,
    Delivered,
    Refunded,
    Corrected,
    Reviewed,
    TicketOpened,
    TicketClosed,
    /// The stock is counted and filled up.
    Stocktake,
}

/// Something that falls due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    pub(crate) at_us: i64,
    pub(crate) what: What,
    /// Of the brand, product, user, week or order.
    pub(crate) number: i64,
}

impl World {
    /// All events of a day; the stocktake of its last microsecond is the last.
    pub(crate) fn day_plan(&self, day: i64) -> Vec<Event> {
        let from = self.calendar.day_us(day);
        let mut plan = Plan { from, to: from + DAY, events: Vec::new() };
        self.plan_prices(&mut plan);
        self.plan_people(day, &mut plan);
        if day.rem_euclid(7) == 0 {
            plan.add(from + CAMPAIGN_US, What::Campaign, day / 7);
        }
        let given_out = day - CAMPAIGN_GOOD / DAY;
        if given_out >= 0 && given_out % 7 == 0 {
            plan.add(from + CAMPAIGN_US, What::CampaignExpires, given_out / 7);
        }
        let (oldest, newest) = (from - FATE_MAX, plan.to + PACKET_BEFORE_MAX);
        for order in self.calendar.orders_at(oldest) + 1..=self.calendar.orders_at(newest) {
            self.plan_order(order, &mut plan);
        }
        plan.add(plan.to - 1, What::Stocktake, 0);
        plan.events.sort_unstable();
        plan.events
    }

    fn plan_prices(&self, plan: &mut Plan) {
        for brand in 1..=brands() {
            let at = plan.from + sale_us(brand);
            if self.catalogue.sale_turns(brand, at) {
                plan.add(at, What::Sale, brand);
            }
        }
        for product in 1..=PRODUCTS {
            let since = (plan.from - self.catalogue.product(product).repriced_us).rem_euclid(REPRICING);
            let until = if since == 0 { 0 } else { REPRICING - since };
            plan.add(plan.from + until, What::Reprice, product);
        }
    }

    fn plan_people(&self, day: i64, plan: &mut Plan) {
        let calendar = &self.calendar;
        for user in calendar.users_before(day) + 1..=calendar.users_before(day + 1) {
            plan.add(calendar.registered_us(user), What::Register, user);
        }
        for user in calendar.users_before(day - MOVE_DAYS_MAX - 1) + 1..=calendar.users_before(day + 1) {
            if let Some(at) = calendar.moves_us(user) {
                plan.add(at, What::Move, user);
            }
        }
    }

    fn plan_order(&self, order: i64, plan: &mut Plan) {
        let course = self.course(order);
        for (at, what) in [
            (course.packet_issued, What::PacketIssued),
            (course.placed, What::Placed),
            (course.paid, What::Paid),
            (course.cancelled, What::Cancelled),
            (course.shipped, What::Shipped),
            (course.delivered, What::Delivered),
            (course.refunded, What::Refunded),
            (course.corrected, What::Corrected),
            (course.reviewed, What::Reviewed),
            (course.ticket_opened, What::TicketOpened),
            (course.ticket_closed, What::TicketClosed),
        ] {
            if at != NEVER {
                plan.add(at, what, order);
            }
        }
    }
}

struct Plan {
    from: i64,
    to: i64,
    events: Vec<Event>,
}

impl Plan {
    /// Takes what is within the day.
    fn add(&mut self, at_us: i64, what: What, number: i64) {
        if (self.from..self.to).contains(&at_us) {
            self.events.push(Event { at_us, what, number });
        }
    }
}
