//! An order: what was bought, what it comes to, and what becomes of it.

use crate::calendar::CHECKOUT;
use crate::dice::{Dice, Topic};
use crate::words;
use crate::world::World;
use crate::{DAY, HOUR, MINUTE, NEVER, SECOND};

/// Lines of an order at most.
const LINES_MAX: usize = 4;
/// Nothing happens to an order later after it was placed.
pub(crate) const FATE_MAX: i64 = 31 * DAY;
/// A red packet for the order is given out no earlier before it.
pub(crate) const PACKET_BEFORE_MAX: i64 = 2 * MINUTE;
/// What is given back for an old order that was too dear.
const CORRECTION_CENTS: i64 = 500;
/// From here on the parcel is free.
const FREE_FREIGHT_CENTS: i64 = 20_000;

/// When what happens to an order; [`NEVER`] what does not. No two of these that touch one row are at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Course {
    pub(crate) packet_issued: i64,
    pub(crate) placed: i64,
    pub(crate) paid: i64,
    pub(crate) cancelled: i64,
    pub(crate) shipped: i64,
    pub(crate) promised: i64,
    pub(crate) delivered: i64,
    pub(crate) refunded: i64,
    pub(crate) corrected: i64,
    pub(crate) reviewed: i64,
    pub(crate) ticket_opened: i64,
    pub(crate) ticket_closed: i64,
}

/// A line of an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) product: i64,
    pub(crate) quantity: i64,
    pub(crate) cents: i64,
}

/// What was ordered, by whom, and its course.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) number: i64,
    pub(crate) user: i64,
    pub(crate) channel: &'static str,
    pub(crate) method: &'static str,
    pub(crate) course: Course,
    lines: [Line; LINES_MAX],
    lines_len: usize,
    goods: i64,
    freight: i64,
    /// The amount of the red packet that was used.
    pub(crate) packet: i64,
}

impl World {
    /// What becomes of an order.
    pub(crate) fn course(&self, order: i64) -> Course {
        let mut dice = Dice::new(self.seed(), Topic::Course, order);
        let placed = self.calendar.visit_us(self.calendar.visit_of_order(order)) + CHECKOUT;
        let mut course = Course {
            packet_issued: NEVER,
            placed,
            paid: NEVER,
            cancelled: NEVER,
            shipped: NEVER,
            promised: NEVER,
            delivered: NEVER,
            refunded: NEVER,
            corrected: NEVER,
            reviewed: NEVER,
            ticket_opened: NEVER,
            ticket_closed: NEVER,
        };
        if dice.chance(15) {
            course.packet_issued = placed - dice.between(SECOND, PACKET_BEFORE_MAX);
        }
        if dice.chance(4) {
            course.ticket_opened = placed + dice.between(HOUR, 8 * DAY);
            course.ticket_closed = course.ticket_opened + dice.between(HOUR, 2 * DAY);
        }
        let fate = dice.below(1_000);
        if fate < 50 {
            course.cancelled = placed + dice.between(30 * MINUTE, 2 * HOUR);
            return course;
        }
        course.paid = placed + dice.between(10 * SECOND, 10 * MINUTE);
        if fate < 70 {
            course.cancelled = course.paid + dice.between(HOUR, 3 * HOUR);
            return course;
        }
        course.shipped = course.paid + dice.between(3 * HOUR, 36 * HOUR);
        course.promised = course.shipped + 4 * DAY;
        course.delivered = course.shipped + dice.between(12 * HOUR, 4 * DAY);
        if dice.chance(8) {
            course.delivered += dice.between(DAY, 4 * DAY);
        }
        match fate {
            70..110 => course.refunded = course.delivered + dice.between(DAY, 7 * DAY),
            110..120 => course.corrected = placed + dice.between(15 * DAY, 30 * DAY),
            _ => {}
        }
        if dice.chance(30) {
            course.reviewed = course.delivered + dice.between(2 * HOUR, 5 * DAY);
        }
        course
    }

    /// An order.
    pub(crate) fn order(&self, number: i64) -> Order {
        let visit = self.calendar.visit_of_order(number);
        let course = self.course(number);
        let mut dice = Dice::new(self.seed(), Topic::Order, number);
        let (mut lines, mut lines_len) = ([Line::default(); LINES_MAX], 0);
        let wanted = match dice.below(10) {
            0..4 => 1,
            4..7 => 2,
            7..9 => 3,
            _ => LINES_MAX,
        };
        for _ in 0..wanted {
            let product = 1 + dice.low(crate::catalogue::PRODUCTS);
            let quantity = [1, 1, 1, 2, 1, 1, 1, 2, 1, 3][crate::index(dice.below(10))];
            if lines[..lines_len].iter().all(|line| line.product != product) {
                lines[lines_len] = Line { product, quantity, cents: self.catalogue.cents(product, course.placed) };
                lines_len += 1;
            }
        }
        let goods = lines.iter().map(|line| line.quantity * line.cents).sum();
        let freight = if goods < FREE_FREIGHT_CENTS { 800 } else { 0 };
        let packet = if course.packet_issued == NEVER { 0 } else { goods * dice.between(5, 15) / 100 };
        Order {
            number,
            user: self.calendar.visitor(visit),
            channel: self.calendar.channel(visit),
            method: dice.pick(words::METHODS),
            course,
            lines,
            lines_len,
            goods,
            freight,
            packet,
        }
    }
}

/// What an order comes to at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) goods: i64,
    pub(crate) freight: i64,
    pub(crate) discount: i64,
    pub(crate) total: i64,
    pub(crate) paid: i64,
    pub(crate) refunded: i64,
}

impl Order {
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines[..self.lines_len]
    }

    /// What it came to when it was placed, which is what is paid.
    pub(crate) fn due(&self) -> i64 {
        self.goods + self.freight - self.packet
    }

    /// When all that was paid is given back.
    pub(crate) fn paid_back_us(&self) -> i64 {
        let course = &self.course;
        if course.paid == NEVER { NEVER } else { course.cancelled.min(course.refunded) }
    }

    /// What is given back for a correction.
    pub(crate) fn correction(&self) -> i64 {
        CORRECTION_CENTS.min(self.due())
    }

    /// What it comes to at a time.
    pub(crate) fn sums(&self, now_us: i64) -> Sums {
        let course = &self.course;
        let correction = if course.corrected <= now_us { self.correction() } else { 0 };
        let paid = if course.paid <= now_us { self.due() } else { 0 };
        let paid_back = if self.paid_back_us() <= now_us { paid } else { 0 };
        Sums {
            goods: self.goods,
            freight: self.freight,
            discount: self.packet + correction,
            total: self.due() - correction,
            paid,
            refunded: paid_back + correction,
        }
    }

    pub(crate) fn status(&self, now_us: i64) -> &'static str {
        let course = &self.course;
        let come = |at: i64| at <= now_us;
        match () {
            () if come(course.cancelled) => "cancelled",
            () if come(course.refunded) => "refunded",
            () if come(course.delivered) => "delivered",
            () if come(course.shipped) => "shipped",
            () if come(course.paid) => "paid",
            () => "created",
        }
    }
}
