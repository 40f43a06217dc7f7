//! Customers, products and orders: each a function of the seed and its number, so that nothing need be remembered.

use relation::Value;

use super::calendar::Calendar;
use super::dice::{Dice, Topic};
use super::words;

/// Products of the shop.
pub(super) const PRODUCTS: u64 = 1_000;
/// Customers before the first order.
pub(super) const FIRST_CUSTOMERS: u64 = 1_500;
/// Every so many orders one comes from a new customer.
const ORDERS_PER_NEW_CUSTOMER: u64 = 3;
/// Every so many orders the price of one product changes.
const ORDERS_PER_PRICE: u64 = 40;
const DAY_US: i64 = 86_400_000_000;

/// What has become of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Paid,
    Shipped,
    Delivered,
    Cancelled,
    Refunded,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }
}

/// One line of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) product: u64,
    pub(super) quantity: u64,
    pub(super) cents: u64,
}

/// An order: what was bought, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) number: u64,
    pub(super) customer: u64,
    pub(super) items: Vec<Item>,
    method: &'static str,
    /// Ticks and the status from then on; the first is the order's own tick.
    pub(super) course: Vec<(u64, Status)>,
}

/// The shop of a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shop {
    pub(super) seed: u64,
}

impl Shop {
    /// Customers there are once a tick is told.
    pub(super) fn customers(self, tick: u64) -> u64 {
        FIRST_CUSTOMERS + tick / ORDERS_PER_NEW_CUSTOMER
    }

    /// The customer who registers in a tick, if one does.
    pub(super) fn new_customer(self, tick: u64) -> Option<u64> {
        tick.is_multiple_of(ORDERS_PER_NEW_CUSTOMER).then(|| self.customers(tick))
    }

    /// The tick in which a customer moves to another city, if they do: one in five of the new ones.
    pub(super) fn move_tick(self, customer: u64) -> Option<u64> {
        let registered = self.registered(customer)?;
        let mut dice = Dice::new(self.seed, Topic::Move, customer);
        dice.chance(20).then(|| registered + dice.between(50, 4_000))
    }

    fn registered(self, customer: u64) -> Option<u64> {
        customer.checked_sub(FIRST_CUSTOMERS).filter(|n| *n > 0).map(|n| n * ORDERS_PER_NEW_CUSTOMER)
    }

    /// A customer's row once a tick is told.
    pub(super) fn customer_row(self, customer: u64, tick: u64, calendar: &Calendar) -> Vec<Value> {
        let mut dice = Dice::new(self.seed, Topic::Customer, customer);
        let (first, last) = (dice.pick(words::FIRST_NAMES), dice.pick(words::LAST_NAMES));
        let age = i64::try_from(dice.between(1, 700)).unwrap_or(1) * DAY_US;
        let (city, next_city) = (dice.pick(words::CITIES), dice.pick(words::CITIES));
        let moved = self.move_tick(customer).is_some_and(|at| at <= tick);
        let created_at = match self.registered(customer) {
            Some(registered) => calendar.time_us(registered),
            None => calendar.time_us(0) - age,
        };
        let email = format!("{}.{}{customer}@example.com", first.to_lowercase(), last.to_lowercase());
        vec![
            number(customer),
            Value::Text(format!("{first} {last}")),
            Value::Text(email),
            text(if moved { next_city } else { city }),
            Value::Timestamp(created_at),
        ]
    }

    /// The product whose price changes in a tick, if one does: each in its turn.
    pub(super) fn repriced(self, tick: u64) -> Option<u64> {
        let turn = tick / ORDERS_PER_PRICE;
        (tick.is_multiple_of(ORDERS_PER_PRICE) && turn > 0).then(|| (turn - 1) % PRODUCTS + 1)
    }

    /// A product's price once a tick is told.
    pub(super) fn cents(self, product: u64, tick: u64) -> u64 {
        let turns = tick / ORDERS_PER_PRICE;
        let changes = if turns >= product { (turns - product) / PRODUCTS + 1 } else { 0 };
        let list = Dice::new(self.seed, Topic::Product, product).between(300, 20_000);
        let percent = match changes {
            0 => 100,
            n => Dice::new(self.seed, Topic::Price, product.wrapping_mul(0x1_0000_0001) ^ n).between(85, 120),
        };
        // Prices end in 9, as they do.
        list * percent / 1_000 * 10 + 9
    }

    /// A product's row once a tick is told.
    pub(super) fn product_row(self, product: u64, tick: u64) -> Vec<Value> {
        let mut dice = Dice::new(self.seed, Topic::Product, product);
        // The first number is the price.
        dice.below(1);
        let at = usize::try_from(dice.below(words::CATEGORIES.len() as u64)).unwrap_or(0);
        let (category, things) = words::CATEGORIES[at];
        let (brand, kind) = (dice.pick(words::BRANDS), dice.pick(words::KINDS));
        let name = format!("{kind} {} {product}", dice.pick(things));
        vec![number(product), Value::Text(name), text(category), text(brand), money(self.cents(product, tick))]
    }

    /// An order; it is placed in the tick of its number.
    pub(super) fn order(self, order: u64) -> Order {
        let mut dice = Dice::new(self.seed, Topic::Order, order);
        let known = self.customers(order);
        let customer = match self.new_customer(order) {
            Some(new) => new,
            // Half of the others are regulars.
            None if dice.chance(50) => 1 + dice.low(known),
            None => 1 + dice.below(known),
        };
        let mut items: Vec<Item> = Vec::new();
        for _ in 0..=dice.low(6) {
            let product = 1 + dice.low(PRODUCTS);
            let quantity = 1 + dice.low(4);
            if items.iter().all(|item| item.product != product) {
                items.push(Item { product, quantity, cents: self.cents(product, order) });
            }
        }
        let method = dice.pick(words::METHODS);
        Order { number: order, customer, items, method, course: self.course(order) }
    }

    /// What becomes of an order. All of it happens within [`super::calendar::WINDOW`] ticks.
    fn course(self, order: u64) -> Vec<(u64, Status)> {
        let mut dice = Dice::new(self.seed, Topic::Course, order);
        let mut course = vec![(order, Status::Created)];
        let mut tick = order;
        let mut then = |ticks: u64, status| {
            tick += ticks;
            course.push((tick, status));
        };
        let fate = dice.below(100);
        if fate < 5 {
            then(dice.between(20, 400), Status::Cancelled);
            return course;
        }
        then(dice.between(1, 20), Status::Paid);
        if fate < 7 {
            then(dice.between(10, 80), Status::Cancelled);
            return course;
        }
        then(dice.between(100, 600), Status::Shipped);
        then(dice.between(200, 1_500), Status::Delivered);
        if fate < 11 {
            then(dice.between(100, 3_000), Status::Refunded);
        }
        course
    }
}

impl Order {
    /// What it comes to.
    pub(super) fn cents(&self) -> u64 {
        self.items.iter().map(|item| item.quantity * item.cents).sum()
    }

    /// How far it has come once a tick is told: entries of its course.
    pub(super) fn steps(&self, tick: u64) -> usize {
        self.course.iter().take_while(|(at, _)| *at <= tick).count()
    }

    /// Its row after so many entries of its course.
    pub(super) fn row(&self, steps: usize, calendar: &Calendar) -> Vec<Value> {
        let gone = &self.course[..steps];
        let when = |wanted: &[Status]| {
            let entry = gone.iter().find(|(_, status)| wanted.contains(status));
            entry.map_or(Value::Null, |(tick, _)| Value::Timestamp(calendar.time_us(*tick)))
        };
        vec![
            number(self.number),
            number(self.customer),
            text(self.status(steps).word()),
            Value::Timestamp(calendar.time_us(self.number)),
            when(&[Status::Paid]),
            when(&[Status::Shipped]),
            when(&[Status::Delivered]),
            when(&[Status::Cancelled, Status::Refunded]),
            money(self.cents()),
        ]
    }

    /// The rows of its items.
    pub(super) fn item_rows(&self) -> impl Iterator<Item = Vec<Value>> + '_ {
        self.items.iter().zip(1..).map(|(item, line)| {
            let (product, quantity) = (number(item.product), number(item.quantity));
            vec![number(self.number), Value::Int(line), product, quantity, money(item.cents)]
        })
    }

    /// Its payment's row after so many entries of its course.
    pub(super) fn payment_row(&self, steps: usize) -> Vec<Value> {
        let was_paid = self.course[..steps].iter().any(|(_, status)| *status == Status::Paid);
        let status = match self.status(steps) {
            Status::Created => "pending",
            Status::Paid | Status::Shipped | Status::Delivered => "paid",
            Status::Cancelled if !was_paid => "cancelled",
            Status::Cancelled | Status::Refunded => "refunded",
        };
        vec![number(self.number), text(self.method), text(status), money(self.cents())]
    }

    fn status(&self, steps: usize) -> Status {
        self.course[..steps].last().map_or(Status::Created, |(_, status)| *status)
    }
}

fn number(value: u64) -> Value {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn money(cents: u64) -> Value {
    Value::Decimal(i128::from(cents), 2)
}
