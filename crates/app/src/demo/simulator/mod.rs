//! The built-in shop as a source like any other, without a database behind it.
//!
//! What happens in the shop is `simulate`'s; here it is loaded and followed at a pace: the shop's time is life's, some
//! times faster. A warehouse that does not keep up makes the shop's clock wait, so that nothing piles up and nothing
//! comes in bursts; [`Lag`] says how long it has waited.

mod kind;
mod pace;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use connect::{Failure, Load, SourceEvent, SourceState};
use project::{ShopProfile, SimulatedShop};
use relation::{ChunkDone, Position, SourceBatch, TableId, TransactionMark};
use simulate::{Settings, Simulation, Table, Told};
use tokio::sync::{mpsc, watch};

pub use self::kind::SimulatorKind;
pub use self::pace::Lag;

pub(crate) use self::pace::Pace;
use crate::clock::{Clock, Uptime, WallClock};

/// Rows after which a batch takes no further transaction.
const BATCH_ROWS_MAX: usize = 10_000;
/// A shop that is further behind than this no longer tries to catch up: its clock waits.
const BEHIND_US_MAX: i64 = 500_000;
/// The longest wait between two looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

/// A simulated shop, at its beginning.
#[derive(Debug, Clone)]
pub struct Simulator {
    settings: Settings,
    lag: Arc<Lag>,
}

impl Simulator {
    /// The shop of a connection's settings.
    pub fn new(shop: &SimulatedShop) -> Self {
        let profile = match shop.profile {
            ShopProfile::Standard => Settings::default(),
            ShopProfile::Large => Settings::large(),
        };
        let settings = Settings {
            seed: shop.seed,
            users: shop.users.unwrap_or(profile.users),
            orders_per_day: shop.orders_per_day.unwrap_or(profile.orders_per_day),
            events_per_user: shop.events_per_user.unwrap_or(profile.events_per_user),
            new_user_share: shop.new_user_share.unwrap_or(profile.new_user_share),
            speed: shop.speed.unwrap_or(profile.speed),
            history_orders: shop.history_orders.unwrap_or(profile.history_orders),
        };
        Self { settings, lag: Arc::default() }
    }

    /// Columns and key of one of its tables.
    pub fn schema(&self, table: &str) -> Option<relation::Schema> {
        Table::named(table).map(Table::schema)
    }

    /// How far the shop's clock is behind.
    pub fn lag(&self) -> Arc<Lag> {
        Arc::clone(&self.lag)
    }

    /// Runs the shop until stopped: first what is missing of the tables, then its transactions at their times.
    ///
    /// `tables` has the shop's name, the number and the state of each table that is wanted; `resume` is the position of
    /// the last batch that was taken.
    pub async fn run(
        self,
        tables: Vec<(String, TableId, Load)>,
        resume: Option<Position>,
        events: mpsc::Sender<SourceEvent>,
        stopped: watch::Receiver<bool>,
    ) {
        let mut feed = Feed { events, stopped };
        if let Err(Ended::Failed(failure)) = self.follow(&Uptime::new(), &WallClock, &tables, resume, &mut feed).await {
            feed.send(SourceEvent::Failed(failure)).await.ok();
        }
    }

    /// `clock` paces the shop, `wall` dates what happened: a wall clock that is set moves dates and stops nothing.
    async fn follow(
        &self,
        clock: &dyn Clock,
        wall: &dyn Clock,
        tables: &[(String, TableId, Load)],
        resume: Option<Position>,
        feed: &mut Feed,
    ) -> Result<(), Ended> {
        let mut simulation = self.simulation(resume.as_ref())?;
        if tables.iter().any(|(_, _, load)| matches!(load, Load::Pending { .. })) {
            feed.send(SourceEvent::State(SourceState::Snapshot, String::new())).await?;
            load_tables(&simulation, tables, feed).await?;
        }
        feed.send(SourceEvent::State(SourceState::Streaming, String::new())).await?;
        let targets = targets(tables);
        let pace = Pace::new(self.settings.speed, clock.now_us(), simulation.now_us());
        let Some(mut pace) = pace else { return feed.wait_for_stop().await };
        loop {
            let now_us = clock.now_us();
            self.keep_pace(&mut pace, now_us, simulation.due_us(), feed).await?;
            let mut told = Told::default();
            simulation.advance(pace.shop_us(now_us), BATCH_ROWS_MAX, &mut told);
            let times = Times { now_us, wall_us: wall.now_us() };
            let batch = batch(told, &targets, &pace, times, simulation.position());
            if batch.transactions.is_empty() {
                let wait_us = pace.life_us(simulation.due_us()) - clock.now_us();
                feed.wait(wait_us).await?;
            } else {
                // Waits while the pump has enough to do: then what is due is late at the next look.
                feed.send(SourceEvent::Batch(batch)).await?;
            }
        }
    }

    /// Looks how late is what is due next. Too late, and the shop's clock goes on from there.
    async fn keep_pace(&self, pace: &mut Pace, now_us: i64, due_us: i64, feed: &mut Feed) -> Result<(), Ended> {
        let behind_us = (now_us - pace.life_us(due_us)).max(0);
        if behind_us <= BEHIND_US_MAX {
            self.lag.note(behind_us);
            return Ok(());
        }
        pace.restart(now_us, due_us);
        let seconds = self.lag.waited_us() / 1_000_000;
        let now_seconds = self.lag.give_up(behind_us) / 1_000_000;
        if now_seconds == seconds {
            return Ok(());
        }
        let message = format!("the shop's clock has waited {now_seconds} s for the warehouse");
        feed.send(SourceEvent::State(SourceState::Streaming, message)).await
    }

    fn simulation(&self, resume: Option<&Position>) -> Result<Simulation, Ended> {
        let Some(position) = resume else { return Ok(Simulation::new(self.settings.clone())) };
        Simulation::resume(self.settings.clone(), position).map_err(|error| {
            Ended::Failed(Failure {
                message: "the simulated shop cannot go on where it was".to_owned(),
                detail: error.to_string(),
                hint: "Give it the settings that it had, or delete the data folder to begin anew.".to_owned(),
            })
        })
    }
}

/// Why the shop stopped before its time.
#[derive(Debug)]
enum Ended {
    /// It was told to, or nobody listens any more.
    Stopped,
    Failed(Failure),
}

/// The way to whoever follows the shop.
struct Feed {
    events: mpsc::Sender<SourceEvent>,
    stopped: watch::Receiver<bool>,
}

impl Feed {
    async fn send(&mut self, event: SourceEvent) -> Result<(), Ended> {
        tokio::select! {
            sent = self.events.send(event) => sent.map_err(|_| Ended::Stopped),
            _ = self.stopped.wait_for(|stop| *stop) => Err(Ended::Stopped),
        }
    }

    async fn wait(&mut self, us: i64) -> Result<(), Ended> {
        let wait = Duration::from_micros(u64::try_from(us).unwrap_or(0)).min(LOOK);
        match tokio::time::timeout(wait, self.stopped.wait_for(|stop| *stop)).await {
            Err(_) => Ok(()),
            Ok(_) => Err(Ended::Stopped),
        }
    }

    async fn wait_for_stop(&mut self) -> Result<(), Ended> {
        self.stopped.wait_for(|stop| *stop).await.map(|_| ()).ok();
        Err(Ended::Stopped)
    }
}

/// The tables that changes go to.
fn targets(tables: &[(String, TableId, Load)]) -> Vec<(Table, TableId)> {
    tables.iter().filter_map(|(name, id, _)| Some((Table::named(name)?, *id))).collect()
}

/// The same moment by two clocks.
#[derive(Clone, Copy)]
struct Times {
    /// By the one that paces the shop.
    now_us: i64,
    /// By the one that people read.
    wall_us: i64,
}

fn batch(told: Told, targets: &[(Table, TableId)], pace: &Pace, times: Times, position: Position) -> SourceBatch {
    let age_us = |at_us: i64| (times.now_us - pace.life_us(at_us)).max(0);
    let mark = |transaction: &simulate::Transaction| TransactionMark {
        commit_time_us: times.wall_us - age_us(transaction.at_us),
        read_time_us: times.wall_us,
        changes: transaction.changes,
    };
    let transactions = told.transactions.iter().map(mark).collect();
    let mut tables = Vec::new();
    for (table, changes) in told.into_tables() {
        for (_, id) in targets.iter().filter(|(target, _)| *target == table) {
            tables.push((*id, changes.clone()));
        }
    }
    SourceBatch { tables, transactions, position, ..SourceBatch::default() }
}

async fn load_tables(
    simulation: &Simulation,
    tables: &[(String, TableId, Load)],
    feed: &mut Feed,
) -> Result<(), Ended> {
    let position = simulation.position();
    for (name, id, load) in tables {
        let (Some(table), Load::Pending { cursor }) = (Table::named(name), load) else { continue };
        let mut cursor = cursor.clone();
        loop {
            let chunk = simulation.chunk(table, cursor.as_deref());
            let complete = chunk.complete;
            cursor = Some(chunk.cursor.clone());
            let chunk = ChunkDone {
                table: *id,
                cursor: chunk.cursor,
                complete,
                rows: chunk.rows,
                unread: relation::Rows::new(),
                rows_estimate: chunk.rows_estimate,
            };
            let batch = SourceBatch { chunks: vec![chunk], position: position.clone(), ..SourceBatch::default() };
            feed.send(SourceEvent::Batch(batch)).await?;
            if complete {
                break;
            }
        }
    }
    Ok(())
}
