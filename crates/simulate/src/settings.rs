//! How large the shop is, and how its position is written.

use relation::Position;

/// The shop's settings. All but the speed decide what happens; the speed only when it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Of all chance.
    pub seed: u64,
    /// People who visit the shop on a day. No fewer than there are orders, and no more than a hundred million.
    pub users: u32,
    /// On an average day; a Saturday has more, a Tuesday fewer.
    pub orders_per_day: u32,
    /// Page events of a visitor on an average day, about; from 3 to 30, and as if the nearest of them otherwise.
    pub events_per_user: u32,
    /// Of a day's visitors, those who come for the first time and register: from 0 to 1.
    pub new_user_share: f64,
    /// Seconds of the shop's time in a second of life.
    pub speed: f64,
    /// Orders there are at the beginning, of at most fifty years.
    pub history_orders: u32,
}

impl Default for Settings {
    /// A shop of a hundred thousand daily users.
    fn default() -> Self {
        Self {
            seed: 0,
            users: 100_000,
            orders_per_day: 3_000,
            events_per_user: 3,
            new_user_share: 0.005,
            speed: 1_000.0,
            history_orders: 100_000,
        }
    }
}

/// Why a shop cannot go on from a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// Not written by this shop.
    #[error("the position is not understood: {0}")]
    Unknown(String),
    /// Written by a shop of other settings.
    #[error("it was started with {was}, and is to go on with {now}")]
    OtherSettings { was: String, now: String },
}

const VERSION: &str = "v3 ";

impl Settings {
    /// A shop of a million daily users, and twenty million page events.
    pub fn large() -> Self {
        Self { users: 1_000_000, orders_per_day: 50_000, events_per_user: 20, ..Self::default() }
    }

    /// What of the settings decides what happens, as text.
    fn decisive(&self) -> String {
        let Self { seed, users, orders_per_day, events_per_user, new_user_share, speed: _, history_orders } = self;
        format!(
            "seed={seed} users={users} orders_per_day={orders_per_day} events_per_user={events_per_user} \
             new_user_share={new_user_share} history_orders={history_orders}"
        )
    }

    /// The position of this shop at a time of its own.
    pub(crate) fn position(&self, at_us: i64) -> Position {
        Position(format!("{VERSION}{} at={at_us}", self.decisive()))
    }

    /// The time of a position of this shop.
    pub(crate) fn time_of(&self, position: &Position) -> Result<i64, ResumeError> {
        let unknown = || ResumeError::Unknown(position.0.clone());
        let rest = position.0.strip_prefix(VERSION).ok_or_else(unknown)?;
        let (was, at) = rest.split_once(" at=").ok_or_else(unknown)?;
        let at = at.parse().map_err(|_| unknown())?;
        let now = self.decisive();
        if was == now { Ok(at) } else { Err(ResumeError::OtherSettings { was: was.to_owned(), now }) }
    }
}
