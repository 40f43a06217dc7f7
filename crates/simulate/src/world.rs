//! All that is fixed of a shop: its calendar and its catalogue.

use crate::calendar::Calendar;
use crate::catalogue::Catalogue;
use crate::settings::Settings;

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) calendar: Calendar,
    pub(crate) catalogue: Catalogue,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        let (calendar, catalogue) = (Calendar::new(&settings), Catalogue::new(settings.seed));
        Self { settings, calendar, catalogue }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.settings.seed
    }

    /// The first visit whose page events the shop still has: of the day before it was opened to the world.
    pub(crate) fn first_visit_kept(&self) -> i64 {
        (self.calendar.day(self.calendar.start_us) - 1) * self.calendar.visits
    }
}
