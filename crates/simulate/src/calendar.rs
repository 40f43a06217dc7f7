//! When things happen, and which number they have: days, visits and orders.
//!
//! Days are counted from the shop's first, a Monday. A day has a fixed number of visits, whose beginnings follow the
//! hours of a day; every so many visits one ends in an order. So a number says the time, and a time the number, without
//! anything being remembered.

use crate::dice::{Dice, Topic};
use crate::settings::Settings;
use crate::{DAY, HOUR, MINUTE};

/// From the beginning of a visit to its order.
pub(crate) const CHECKOUT: i64 = 3 * MINUTE;
/// The shop is opened to the world on Monday, 2026-06-01, at 8 o'clock.
const START_DAY: i64 = 20_605;
const START_HOUR: i64 = 8;
/// Visits per hour of the day, of a thousand.
const HOURS: [i64; 24] = [18, 11, 7, 5, 5, 8, 16, 28, 38, 46, 52, 56, 60, 54, 49, 48, 49, 52, 60, 74, 88, 80, 60, 36];
/// Orders from Monday to Sunday, in percent of an average day.
const WEEK: [i64; 7] = [95, 92, 93, 97, 108, 112, 103];
/// More than this the shop never has: numbers of people are multiplied.
const USERS_MAX: i64 = 100_000_000;
/// The history is no longer than this; a shop with few orders has fewer than were asked for.
const WEEKS_MAX: i64 = 50 * 52;
/// Steps within the time of one visit among those of a day.
const FINE: i64 = 1 << 20;

/// Numbers and times of a shop.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    pub(crate) seed: u64,
    /// Different people on a day, without those who come back on it.
    pub(crate) users: i64,
    pub(crate) new_users: i64,
    pub(crate) visits: i64,
    /// Things looked at on average in a visit of somebody who looks around and does not buy.
    pub(crate) looks: i64,
    /// When day 0 began.
    first_us: i64,
    /// When the shop is opened to the world.
    pub(crate) start_us: i64,
    /// Orders before each day of a week, and those of a whole week.
    before: [i64; 8],
    /// Orders that are left out so that the history has as many as wanted.
    skip: i64,
}

impl Calendar {
    pub(crate) fn new(settings: &Settings) -> Self {
        let per_day = i64::from(settings.orders_per_day).min(USERS_MAX);
        // In fours, since each four people make five visits.
        let users = (i64::from(settings.users).min(USERS_MAX).max(per_day).max(8) + 3) / 4 * 4;
        let mut before = [0; 8];
        for (day, percent) in WEEK.iter().enumerate() {
            before[day + 1] = before[day] + per_day * percent / 100;
        }
        let weeks = (i64::from(settings.history_orders) / before[7].max(1) + 1).min(WEEKS_MAX);
        let days = if per_day == 0 { 7 } else { weeks * 7 };
        let first_us = (START_DAY - days) * DAY;
        let start_us = START_DAY * DAY + START_HOUR * HOUR;
        let new_users = share(users, settings.new_user_share);
        let visits = users / 4 * 5;
        let looks = crate::visit::looks(settings.events_per_user);
        let seed = settings.seed;
        let mut calendar = Self { seed, users, new_users, visits, looks, first_us, start_us, before, skip: 0 };
        calendar.skip = (calendar.orders_at(start_us) - i64::from(settings.history_orders)).max(0);
        calendar
    }

    /// Page events of a visit on average, about.
    pub(crate) fn events_per_visit(&self) -> u64 {
        (160 + 44 * self.looks.unsigned_abs()) / 100
    }

    /// The day that a time is in.
    pub(crate) fn day(&self, at_us: i64) -> i64 {
        (at_us - self.first_us).div_euclid(DAY)
    }

    /// When a day begins.
    pub(crate) fn day_us(&self, day: i64) -> i64 {
        self.first_us + day * DAY
    }

    /// When a visit begins.
    pub(crate) fn visit_us(&self, visit: i64) -> i64 {
        let (day, i) = (visit.div_euclid(self.visits), visit.rem_euclid(self.visits));
        let fine = i * FINE + Dice::new(self.seed, Topic::Visit, visit).below(FINE);
        // Of the thousand parts of a day.
        let mut part = fine * 1_000 / self.visits;
        for (hour, weight) in (0..).zip(HOURS) {
            if part < weight * FINE || hour == 23 {
                return self.day_us(day) + hour * HOUR + part * HOUR / (weight * FINE);
            }
            part -= weight * FINE;
        }
        self.day_us(day)
    }

    /// The first visit that does not begin before a time.
    pub(crate) fn visit_from(&self, at_us: i64) -> i64 {
        let day = self.day(at_us);
        let first = day * self.visits;
        first + first_from(self.visits, |i| self.visit_us(first + i) >= at_us)
    }

    /// The order that a visit leads to.
    pub(crate) fn order_of_visit(&self, visit: i64) -> Option<i64> {
        let (day, i) = (visit.div_euclid(self.visits), visit.rem_euclid(self.visits));
        let orders = self.orders_of(day);
        let before = i * orders / self.visits;
        let buys = (i + 1) * orders / self.visits > before;
        Some(self.orders_before(day) + before + 1 - self.skip).filter(|number| buys && *number > 0)
    }

    /// The visit that led to an order.
    pub(crate) fn visit_of_order(&self, order: i64) -> i64 {
        let number = order - 1 + self.skip;
        let week = number.div_euclid(self.before[7]);
        let rest = number.rem_euclid(self.before[7]);
        let day = crate::length(self.before[1..7].partition_point(|before| *before <= rest));
        let of_day = rest - self.before[crate::index(day)];
        self.visit_of(week * 7 + day, of_day)
    }

    fn visit_of(&self, day: i64, of_day: i64) -> i64 {
        let orders = self.orders_of(day).max(1);
        day * self.visits + ((of_day + 1) * self.visits + orders - 1) / orders - 1
    }

    /// Orders placed up to a time, and at it.
    pub(crate) fn orders_at(&self, at_us: i64) -> i64 {
        let day = self.day(at_us - CHECKOUT);
        let placed = |order: i64| self.visit_us(self.visit_of(day, order)) + CHECKOUT;
        let of_day = first_from(self.orders_of(day), |order| placed(order) > at_us);
        (self.orders_before(day) + of_day - self.skip).max(0)
    }

    fn orders_of(&self, day: i64) -> i64 {
        let at = crate::index(day.rem_euclid(7));
        self.before[at + 1] - self.before[at]
    }

    fn orders_before(&self, day: i64) -> i64 {
        day.div_euclid(7) * self.before[7] + self.before[crate::index(day.rem_euclid(7))]
    }
}

fn share(of: i64, share: f64) -> i64 {
    // In millionths, so that nothing depends on how a machine rounds.
    #[expect(clippy::cast_possible_truncation, reason = "clamped to whole numbers that fit")]
    let millionths = (share * 1e6).round().clamp(0.0, 1e6) as i64;
    of * millionths / 1_000_000
}

/// The first number below `count` from which on something holds; `count` if it never does.
pub(crate) fn first_from(count: i64, holds: impl Fn(i64) -> bool) -> i64 {
    let (mut low, mut high) = (0, count.max(0));
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}
