//! Users: who they are, when they registered, and who visits.
//!
//! Half of a day's number of people are regulars, who come on two days of three; the others are drawn from everybody
//! else. Nobody is drawn twice for a day, so that a day has as many people as the settings say.

use crate::calendar::Calendar;
use crate::cells::{Cells, Digits};
use crate::dice::{Dice, Topic};
use crate::words;
use crate::{DAY, HOUR};

/// Larger than any pool and prime: its multiples meet every place of a pool once.
const STRIDE: i64 = 2_147_483_647;
/// Of twenty visitors so many are regulars.
const REGULARS: i64 = 7;
/// How long after registering a user may move to another city.
pub(crate) const MOVE_DAYS_MAX: i64 = 30;

impl Calendar {
    /// Users who registered before the shop's first day.
    pub(crate) fn first_users(&self) -> i64 {
        self.users * 2
    }

    /// Users there are when a day begins.
    pub(crate) fn users_before(&self, day: i64) -> i64 {
        self.first_users() + self.new_users * day.max(0)
    }

    /// Users there are at a time.
    pub(crate) fn users_at(&self, at_us: i64) -> i64 {
        let day = self.day(at_us);
        let known = self.users_before(day);
        known + crate::calendar::first_from(self.new_users, |new| self.registered_us(known + new + 1) > at_us)
    }

    /// When a user registered.
    pub(crate) fn registered_us(&self, user: i64) -> i64 {
        let newcomer = user - self.first_users() - 1;
        if newcomer < 0 {
            return self.day_us(0) - Dice::new(self.seed, Topic::User, user).between(HOUR, 700 * DAY);
        }
        self.visit_us(self.first_visit(newcomer / self.new_users, newcomer % self.new_users))
    }

    /// The visit of a day on which its so-manieth new user registers.
    pub(crate) fn first_visit(&self, day: i64, new: i64) -> i64 {
        let person = ((new + 1) * self.users + self.new_users - 1) / self.new_users - 1;
        day * self.visits + person / 4 * 5 + person % 4
    }

    /// Who visits.
    pub(crate) fn visitor(&self, visit: i64) -> i64 {
        let (day, i) = (visit.div_euclid(self.visits), visit.rem_euclid(self.visits));
        // Every fifth visit is somebody who was here earlier in the day.
        let i = match i % 5 {
            4 if (i / 2) % 5 == 4 => i / 2 - 1,
            4 => i / 2,
            _ => i,
        };
        self.person(day, i / 5 * 4 + i % 5)
    }

    fn person(&self, day: i64, person: i64) -> i64 {
        let new_before = person * self.new_users / self.users;
        if (person + 1) * self.new_users / self.users > new_before {
            return self.users_before(day) + new_before + 1;
        }
        let person = person - new_before;
        let mut dice = Dice::new(self.seed, Topic::Visitors, day);
        let (turn, place) = (person / 20, person % 20);
        let regulars = self.users / 2;
        if place < REGULARS {
            return 1 + ((turn * REGULARS + place) * STRIDE + dice.below(STRIDE)) % regulars;
        }
        let others = self.users_before(day) - regulars;
        let place = place - REGULARS;
        dice.below(1);
        1 + regulars + ((turn * (20 - REGULARS) + place) * STRIDE + dice.below(STRIDE)) % others
    }

    /// When a user moves to another city, if they do: one in five of those who registered in the shop's time.
    pub(crate) fn moves_us(&self, user: i64) -> Option<i64> {
        let mut dice = Dice::new(self.seed, Topic::Move, user);
        let moves = user > self.first_users() && dice.chance(20);
        moves.then(|| self.registered_us(user) + dice.between(DAY, MOVE_DAYS_MAX * DAY))
    }

    /// A user's row at a time.
    pub(crate) fn user_cells(&self, user: i64, now_us: i64, cells: &mut Cells<'_>) {
        let mut dice = Dice::new(self.seed, Topic::User, user);
        // The first number is the time of registration.
        dice.below(1);
        let (first, last) = (dice.pick(words::FIRST_NAMES), dice.pick(words::LAST_NAMES));
        let (city, next_city) = (dice.pick(words::CITIES), dice.pick(words::CITIES));
        let moved = self.moves_us(user).is_some_and(|at| at <= now_us);
        let origin = match dice.below(100) {
            0..45 => "wechat_gift",
            45..65 => "invited",
            65..90 => "organic",
            _ => "unknown",
        };
        cells.number(user).texts(&[first, " ", last]).texts(&["u", Digits::of(user).as_str(), "@example.com"]);
        cells.text(if moved { next_city } else { city }).text(origin).time(self.registered_us(user));
    }
}
