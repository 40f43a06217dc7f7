//! The story: the shop's transactions, one after the other.
//!
//! A tick is one order placed and all that falls due at the same time: a price that changes, a customer who registers or
//! moves, orders that are paid, shipped, delivered, cancelled or refunded; each a transaction of its own. Since every
//! order knows its whole course from its number alone, the story can be taken up at any tick by looking at the
//! [`WINDOW`] orders before it, however long it has been told.

use std::collections::{BTreeMap, VecDeque};

use relation::Value;

use super::calendar::{Calendar, WINDOW};
use super::position::Place;
use super::shop::Shop;
use super::tables::Table;

/// A changed row: none before is an insert.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) table: Table,
    pub(super) before: Option<Vec<Value>>,
    pub(super) after: Vec<Value>,
}

/// What commits together.
pub(super) type Transaction = Vec<Change>;

/// Something that falls due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// An order comes to entry `step` of its course.
    Order {
        order: u64,
        step: usize,
    },
    Move {
        customer: u64,
    },
}

/// The teller: where the story is, and what is to come of what was told.
#[derive(Debug, Clone)]
pub(super) struct Story {
    shop: Shop,
    calendar: Calendar,
    /// Told up to here, but for [`Story::done`] of the next.
    tick: u64,
    done: usize,
    /// Transactions of the tick after `tick` that are not told yet.
    ready: VecDeque<Transaction>,
    /// By tick; bounded since every order ends within the window.
    agenda: BTreeMap<u64, Vec<Event>>,
}

impl Story {
    /// Takes the story up where it stands.
    pub(super) fn at(place: Place) -> Self {
        let shop = Shop { seed: place.seed };
        let Place { tick, calendar, .. } = place;
        let mut story = Self { shop, calendar, tick, done: 0, ready: VecDeque::new(), agenda: BTreeMap::new() };
        (tick.saturating_sub(WINDOW).max(1)..=tick).for_each(|before| story.foresee(before));
        for _ in 0..place.done {
            story.tell();
        }
        story
    }

    /// Where it stands: [`Story::at`] goes on from there.
    pub(super) fn place(&self) -> Place {
        Place { seed: self.shop.seed, tick: self.tick, done: self.done, calendar: self.calendar.clone() }
    }

    /// The tick that has been told whole.
    pub(super) fn tick(&self) -> u64 {
        self.tick
    }

    /// Whether a tick has been told in part.
    pub(super) fn is_within_tick(&self) -> bool {
        self.done > 0
    }

    /// The shop, and when its ticks are.
    pub(super) fn shop(&self) -> (Shop, &Calendar) {
        (self.shop, &self.calendar)
    }

    /// When the next transaction is due, in microseconds since 1970.
    pub(super) fn due_us(&mut self) -> i64 {
        self.prepare();
        self.calendar.time_within_us(self.tick + 1, self.done, self.done + self.ready.len())
    }

    /// Time goes on from now at this pace. Only between two ticks.
    pub(super) fn continue_at(&mut self, now_us: i64, tick_ns: u64) {
        debug_assert!(!self.is_within_tick(), "a tick has one time");
        self.calendar.continue_from(self.tick + 1, now_us, tick_ns);
        // The next tick may have been prepared with the times of before.
        *self = Self::at(self.place());
    }

    /// The next transaction.
    pub(super) fn tell(&mut self) -> Transaction {
        self.prepare();
        let told = self.ready.pop_front().unwrap_or_default();
        self.done += 1;
        if self.ready.is_empty() {
            self.tick += 1;
            self.done = 0;
        }
        told
    }

    fn prepare(&mut self) {
        if !self.ready.is_empty() {
            return;
        }
        let tick = self.tick + 1;
        self.ready.extend(self.repricing(tick));
        self.ready.extend(self.registration(tick));
        self.ready.push_back(self.placing(tick));
        for event in self.agenda.remove(&tick).unwrap_or_default() {
            let transaction = match event {
                Event::Order { order, step } => self.progress(order, step),
                Event::Move { customer } => self.moving(customer, tick),
            };
            self.ready.push_back(transaction);
        }
        self.foresee(tick);
    }

    /// Enters what follows from a tick into the agenda, as far as it is not told yet.
    fn foresee(&mut self, tick: u64) {
        if let Some(customer) = self.shop.new_customer(tick)
            && let Some(at) = self.shop.move_tick(customer)
        {
            self.enter(at, Event::Move { customer });
        }
        let order = self.shop.order(tick);
        for (step, (at, _)) in order.course.iter().enumerate().skip(1) {
            self.enter(*at, Event::Order { order: tick, step });
        }
    }

    fn enter(&mut self, at: u64, event: Event) {
        if at > self.tick {
            self.agenda.entry(at).or_default().push(event);
        }
    }

    fn repricing(&self, tick: u64) -> Option<Transaction> {
        let product = self.shop.repriced(tick)?;
        let (before, after) = (self.shop.product_row(product, tick - 1), self.shop.product_row(product, tick));
        (before != after).then(|| vec![Change { table: Table::Products, before: Some(before), after }])
    }

    fn registration(&self, tick: u64) -> Option<Transaction> {
        let customer = self.shop.new_customer(tick)?;
        let after = self.shop.customer_row(customer, tick, &self.calendar);
        Some(vec![Change { table: Table::Customers, before: None, after }])
    }

    fn placing(&self, tick: u64) -> Transaction {
        let order = self.shop.order(tick);
        let insert = |table, after| Change { table, before: None, after };
        let mut transaction = vec![insert(Table::Orders, order.row(1, &self.calendar))];
        transaction.extend(order.item_rows().map(|row| insert(Table::OrderItems, row)));
        transaction.push(insert(Table::Payments, order.payment_row(1)));
        transaction
    }

    fn progress(&self, number: u64, step: usize) -> Transaction {
        let order = self.shop.order(number);
        let (before, after) = (order.row(step, &self.calendar), order.row(step + 1, &self.calendar));
        let mut transaction = vec![Change { table: Table::Orders, before: Some(before), after }];
        let (before, after) = (order.payment_row(step), order.payment_row(step + 1));
        if before != after {
            transaction.push(Change { table: Table::Payments, before: Some(before), after });
        }
        transaction
    }

    fn moving(&self, customer: u64, tick: u64) -> Transaction {
        let before = self.shop.customer_row(customer, tick - 1, &self.calendar);
        let after = self.shop.customer_row(customer, tick, &self.calendar);
        vec![Change { table: Table::Customers, before: Some(before), after }]
    }
}
