//! Red packets: one for who hesitates at the checkout, used there; and a campaign each Monday, whose packets expire.

use crate::cells::Cells;
use crate::dice::{Dice, Topic};
use crate::order::Order;
use crate::world::World;
use crate::{DAY, HOUR};

/// When on Monday a campaign gives out its packets.
pub(crate) const CAMPAIGN_US: i64 = 9 * HOUR;
/// How long they are good.
pub(crate) const CAMPAIGN_GOOD: i64 = 6 * DAY;

impl World {
    /// Packets of a campaign: for one user in fifty of a day's.
    pub(crate) fn campaign_packets(&self) -> i64 {
        self.calendar.users / 50
    }

    /// When the campaign of a week gives out its packets.
    pub(crate) fn campaign_us(&self, week: i64) -> i64 {
        self.calendar.day_us(week * 7) + CAMPAIGN_US
    }

    /// Campaigns that have given out their packets at a time.
    pub(crate) fn campaigns_at(&self, at_us: i64) -> i64 {
        (at_us - self.campaign_us(0)).div_euclid(7 * DAY) + 1
    }

    /// A campaign's packet at a time; campaigns have the even numbers, orders the odd ones.
    pub(crate) fn campaign_cells(&self, packet: i64, now_us: i64, cells: &mut Cells<'_>) {
        let week = packet / self.campaign_packets();
        let issued = self.campaign_us(week);
        let mut dice = Dice::new(self.seed(), Topic::Packet, packet);
        let user = 1 + dice.below(self.calendar.users_before(week * 7));
        let expires = issued + CAMPAIGN_GOOD;
        cells.number(packet * 2 + 2).number(user).text("campaign").number(dice.between(1, 8) * 250);
        cells.text(if expires <= now_us { "expired" } else { "issued" }).null();
        cells.time(issued).null().time(expires);
    }
}

impl Order {
    /// The packet that was used for it, at a time.
    pub(crate) fn packet_cells(&self, now_us: i64, cells: &mut Cells<'_>) {
        let issued = self.course.packet_issued;
        let is_used = self.course.placed <= now_us;
        cells.number(self.number * 2 + 1).number(self.user).text("checkout").number(self.packet);
        cells.text(if is_used { "used" } else { "issued" });
        if is_used {
            cells.number(self.number)
        } else {
            cells.null()
        };
        cells.time(issued).time_if_come(self.course.placed, now_us).time(issued + DAY);
    }
}
