//! The shop at a time of its own, and how it goes on from there.

use relation::Position;

use crate::collector::Collector;
use crate::day_plan::{Event, What};
use crate::settings::{ResumeError, Settings};
use crate::stock::Stock;
use crate::told::Told;
use crate::world::World;

/// A shop that has been told up to a time, and can be told further.
#[derive(Debug, Clone)]
pub struct Simulation {
    pub(crate) world: World,
    /// All that happened up to this time, and at it, has been told.
    pub(crate) at_us: i64,
    day: i64,
    plan: Vec<Event>,
    /// The first event of the plan that has not been told.
    next: usize,
    collector: Collector,
    pub(crate) stock: Stock,
}

impl Simulation {
    /// The shop at its beginning: with its history, about to be opened to the world.
    pub fn new(settings: Settings) -> Self {
        let world = World::new(settings);
        let at_us = world.calendar.start_us;
        Self::at(world, at_us)
    }

    /// The shop where it stood. Errors: the position is of another shop.
    pub fn resume(settings: Settings, position: &Position) -> Result<Self, ResumeError> {
        let at_us = settings.time_of(position)?;
        Ok(Self::at(World::new(settings), at_us))
    }

    fn at(world: World, at_us: i64) -> Self {
        let day = world.calendar.day(at_us);
        let plan = world.day_plan(day);
        let next = plan.partition_point(|event| event.at_us <= at_us);
        let collector = Collector::at(&world, at_us);
        let stock = Stock::counted(&world.catalogue);
        let mut simulation = Self { world, at_us, day, plan, next, collector, stock };
        simulation.sum_stock();
        simulation
    }

    /// Sums up what was taken from the stock since the day began, when it was as counted.
    fn sum_stock(&mut self) {
        let Self { world, stock, plan, next, .. } = self;
        for event in &plan[..*next] {
            match event.what {
                What::Placed => stock.take(&world.catalogue, &world.order(event.number), |_| {}),
                What::Cancelled => stock.give_back(&world.order(event.number), |_| {}),
                What::Stocktake => stock.count(&world.catalogue, |_| {}),
                _ => {}
            }
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.world.settings
    }

    /// The shop's time: what happened up to it has been told. Microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        self.at_us
    }

    /// Where it stands: [`Simulation::resume`] goes on from there.
    pub fn position(&self) -> Position {
        self.world.settings.position(self.at_us)
    }

    /// When the next transaction is due, by the shop's time; one that turns out to change nothing counts.
    pub fn due_us(&mut self) -> i64 {
        if self.next == self.plan.len() {
            self.day += 1;
            self.plan = self.world.day_plan(self.day);
            self.next = 0;
        }
        self.collector.due_us(&self.world, self.plan[self.next].at_us)
    }

    /// Tells what happens until a time of the shop, at it included, and stops earlier once `told` has `rows_max` rows.
    /// Whole transactions, and all of a time together.
    pub fn advance(&mut self, until_us: i64, rows_max: usize, told: &mut Told) {
        while told.rows() < rows_max {
            let due = self.due_us();
            if due > until_us {
                self.at_us = self.at_us.max(until_us);
                return;
            }
            while let Some(event) = self.plan.get(self.next).copied().filter(|event| event.at_us == due) {
                self.next += 1;
                self.tell(event, told);
                told.commit(due);
            }
            self.collector.tell(&self.world, due, told);
            self.at_us = due;
        }
    }
}
