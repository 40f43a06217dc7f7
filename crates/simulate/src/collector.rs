//! The page events on their way to the shop's database: the collector writes those of each second together.

use crate::SECOND;
use crate::tables::Table;
use crate::told::Told;
use crate::visit::{PageEvent, VISIT_MAX};
use crate::world::World;

/// Seconds of a visit and one more, as a power of two.
const SLOTS: i64 = 1024;
const _: () = assert!(SLOTS * SECOND > VISIT_MAX + SECOND);

/// Events by the second in which they occur.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    slots: Vec<Vec<PageEvent>>,
    /// The second that is written next.
    second: i64,
    /// All visits before it have been put into the slots.
    next_visit: i64,
}

impl Collector {
    /// As it stands at a time.
    pub(crate) fn at(world: &World, at_us: i64) -> Self {
        let second = at_us.div_euclid(SECOND);
        let next_visit = world.calendar.visit_from(second * SECOND - VISIT_MAX).max(world.first_visit_kept());
        Self { slots: vec![Vec::new(); crate::index(SLOTS)], second, next_visit }
    }

    /// When it writes next: the end of the second of the next event, no later than asked for.
    pub(crate) fn due_us(&mut self, world: &World, latest_us: i64) -> i64 {
        loop {
            let end = (self.second + 1) * SECOND;
            if end > latest_us {
                return latest_us;
            }
            self.fill(world, end);
            if !self.slot().is_empty() {
                return end;
            }
            self.second += 1;
        }
    }

    /// Writes the second that ends at a time, if there is anything to write.
    pub(crate) fn tell(&mut self, world: &World, at_us: i64, told: &mut Told) {
        if (self.second + 1) * SECOND != at_us {
            return;
        }
        self.fill(world, at_us);
        let events = std::mem::take(self.slot());
        for event in &events {
            told.insert(Table::PageEvents, |cells| event.cells(cells));
        }
        *self.slot() = events;
        self.slot().clear();
        told.commit(at_us);
        self.second += 1;
    }

    fn slot(&mut self) -> &mut Vec<PageEvent> {
        &mut self.slots[crate::index(self.second.rem_euclid(SLOTS))]
    }

    fn fill(&mut self, world: &World, end_us: i64) {
        while world.calendar.visit_us(self.next_visit) < end_us {
            let Self { slots, second, next_visit } = self;
            world.calendar.page_events(*next_visit, |event| {
                let at = event.at_us.div_euclid(SECOND);
                if at >= *second {
                    slots[crate::index(at.rem_euclid(SLOTS))].push(event);
                }
            });
            self.next_visit += 1;
        }
    }
}
