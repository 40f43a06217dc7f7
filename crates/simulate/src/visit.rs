//! A visit: what somebody looks at, from the home page on, some to the end.

use crate::calendar::{CHECKOUT, Calendar};
use crate::cells::Cells;
use crate::dice::{Dice, Topic};
use crate::words;
use crate::{MINUTE, SECOND};

/// Events of a visit at most; numbers of events leave room for so many.
pub(crate) const EVENTS_MAX: i64 = 128;
/// No event of a visit is later after its beginning.
pub(crate) const VISIT_MAX: i64 = 16 * MINUTE;
/// From one look at something to the next, where there is time for it.
const LOOK: i64 = 30 * SECOND;
/// Looks on the way to a purchase, of which there may be one fewer or more.
const LOOKS_OF_BUYERS: i64 = 2;

/// What somebody sees or touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Home,
    Detail,
    Confirm,
    Pay,
    /// A navigation icon on the home page.
    Icon(&'static str),
}

/// A page event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageEvent {
    pub(crate) number: i64,
    pub(crate) visit: i64,
    pub(crate) user: i64,
    pub(crate) channel: &'static str,
    pub(crate) page: Page,
    pub(crate) at_us: i64,
}

impl PageEvent {
    pub(crate) fn cells(&self, cells: &mut Cells<'_>) {
        let (event, page, icon) = match self.page {
            Page::Home => ("view", "home", None),
            Page::Detail => ("view", "detail", None),
            Page::Confirm => ("view", "confirm", None),
            Page::Pay => ("view", "pay", None),
            Page::Icon(icon) => ("click", "home", Some(icon)),
        };
        cells.number(self.number).number(self.user).number(self.visit + 1).text(self.channel).text(event).text(page);
        match icon {
            Some(icon) => cells.text(icon),
            None => cells.null(),
        };
        cells.time(self.at_us);
    }
}

impl Calendar {
    /// The dice of a visit, after the number that its beginning took.
    fn visit_dice(&self, visit: i64) -> Dice {
        let mut dice = Dice::new(self.seed, Topic::Visit, visit);
        dice.below(1);
        dice
    }

    /// By what a visit comes.
    pub(crate) fn channel(&self, visit: i64) -> &'static str {
        channel(&mut self.visit_dice(visit))
    }

    /// Its page events, in the order of their times.
    pub(crate) fn page_events(&self, visit: i64, mut each: impl FnMut(PageEvent)) {
        let mut dice = self.visit_dice(visit);
        let (begun, user) = (self.visit_us(visit), self.visitor(visit));
        let channel = channel(&mut dice);
        let mut number = visit * EVENTS_MAX;
        let mut event = |page, after: i64| {
            number += 1;
            each(PageEvent { number, visit, user, channel, page, at_us: begun + after });
        };
        let buys = self.order_of_visit(visit).is_some();
        event(Page::Home, 0);
        if dice.chance(35) {
            let icon = words::ICONS[crate::index(dice.low(crate::length(words::ICONS.len())))];
            event(Page::Icon(icon), dice.between(2 * SECOND, 12 * SECOND));
        }
        // Half of the visits end on the home page.
        let depth = dice.below(100);
        if !buys && depth < 50 {
            return;
        }
        let goes_on = buys || depth >= 94;
        let looks = if goes_on { LOOKS_OF_BUYERS } else { self.looks };
        let looks = 1 + dice.below(2 * looks - 1);
        let pause = LOOK.min((VISIT_MAX - MINUTE) / looks);
        for look in 0..looks {
            event(Page::Detail, 15 * SECOND + pause * look + dice.below(pause * 2 / 3));
        }
        if !goes_on {
            return;
        }
        event(Page::Confirm, CHECKOUT - dice.between(5 * SECOND, 50 * SECOND));
        if buys {
            event(Page::Pay, CHECKOUT);
        }
    }
}

/// Things looked at on average by those who look around, so that a visitor comes to so many events on a day.
///
/// Four people make five visits. In a hundred of these there are 135 events on the home page, 6 go on to the checkout with
/// some 4 events each, and 44 look around.
pub(crate) fn looks(events_per_user: u32) -> i64 {
    let of_hundred_visits = i64::from(events_per_user.clamp(3, 30)) * 80;
    (of_hundred_visits - 159 + 22) / 44
}

fn channel(dice: &mut Dice) -> &'static str {
    match dice.below(100) {
        0..55 => "app",
        55..85 => "mini_program",
        _ => "web",
    }
}
