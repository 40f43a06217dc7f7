//! The rows that belong to an order, at a time.

use crate::NEVER;
use crate::cells::Cells;
use crate::dice::{Dice, Topic};
use crate::order::{Line, Order};
use crate::words;

impl Order {
    pub(crate) fn cells(&self, now_us: i64, cells: &mut Cells<'_>) {
        let (course, sums) = (&self.course, self.sums(now_us));
        cells.number(self.number).number(self.user).text(self.channel).text(self.status(now_us)).time(course.placed);
        for at in [course.paid, course.shipped, course.delivered, course.cancelled.min(course.refunded)] {
            cells.time_if_come(at, now_us);
        }
        cells.number(sums.goods).number(sums.freight).number(sums.discount).number(sums.total);
        cells.number(sums.paid).number(sums.refunded);
    }

    pub(crate) fn item_cells(&self, number: i64, line: &Line, cells: &mut Cells<'_>) {
        cells.number(self.number).integer(number).number(line.product).integer(line.quantity);
        cells.number(line.cents).number(line.quantity * line.cents);
    }

    pub(crate) fn payment_cells(&self, cells: &mut Cells<'_>) {
        cells.number(self.number).number(self.number).text(self.method).number(self.due()).time(self.course.paid);
    }

    /// The refund of all that was paid; refunds of corrections have the odd numbers.
    pub(crate) fn refund_cells(&self, cells: &mut Cells<'_>) {
        let reason = if self.course.cancelled == NEVER { "returned" } else { "cancelled" };
        cells.number(self.number * 2).number(self.number).text(reason).number(self.due()).time(self.paid_back_us());
    }

    pub(crate) fn correction_cells(&self, cells: &mut Cells<'_>) {
        cells.number(self.number * 2 + 1).number(self.number).text("correction").number(self.correction());
        cells.time(self.course.corrected);
    }

    pub(crate) fn shipment_cells(&self, seed: u64, now_us: i64, cells: &mut Cells<'_>) {
        let course = &self.course;
        let carrier = Dice::new(seed, Topic::Shipment, self.number).pick(words::CARRIERS);
        cells.number(self.number).number(self.number).text(carrier);
        cells.text(if course.delivered <= now_us { "delivered" } else { "on its way" });
        cells.time(course.shipped).time(course.promised).time_if_come(course.delivered, now_us);
    }

    pub(crate) fn review_cells(&self, seed: u64, cells: &mut Cells<'_>) {
        let mut dice = Dice::new(seed, Topic::Review, self.number);
        let is_late = self.course.delivered > self.course.promised;
        // Half have nothing to complain about; who had to wait has.
        let stars = (5 - dice.low(5) - i64::from(is_late)).max(1);
        let text = dice.pick(words::REVIEWS[crate::index(stars - 1)]);
        let line = dice.below(crate::length(self.lines().len()));
        let product = self.lines()[crate::index(line)].product;
        cells.number(self.number).number(self.number).number(self.user).number(product).small(stars).text(text);
        cells.time(self.course.reviewed);
    }

    pub(crate) fn ticket_cells(&self, seed: u64, now_us: i64, cells: &mut Cells<'_>) {
        let closed = self.course.ticket_closed;
        let topic = Dice::new(seed, Topic::Ticket, self.number).pick(words::TOPICS);
        cells.number(self.number).number(self.user).number(self.number).text(topic);
        cells.text(if closed <= now_us { "closed" } else { "open" });
        cells.time(self.course.ticket_opened).time_if_come(closed, now_us);
    }
}
