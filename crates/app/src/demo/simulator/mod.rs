//! The built-in shop: a source like any other, without a database behind it.
//!
//! It has customers, about a thousand products, orders with items, and payments. The shop has a past of thirty days when
//! it is first started; from then on orders are placed at a pace, and walk on from created to paid, shipped and
//! delivered, some to cancelled or refunded, while prices change and customers move.
//!
//! Everything is a function of the seed and of numbers ([`shop`]), told in ticks ([`story`]) at times that a
//! [`calendar`] gives. A [`position`] says all that it takes to go on, so that a restart repeats nothing and skips
//! nothing.

mod calendar;
mod dice;
mod load;
mod position;
mod shop;
mod story;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use connect::{Failure, SourceEvent, SourceState};
use engine::Load;
use relation::{Layout, Position, SourceBatch, TableId, TransactionMark};
use tokio::sync::{mpsc, watch};

use self::calendar::{Calendar, HISTORY};
use self::position::Place;
use self::story::{Story, Transaction};
use self::tables::Table;
use crate::clock::{Clock, WallClock};
use crate::pump::Message;

/// Orders placed per second unless the connection says otherwise.
const ORDERS_PER_SECOND: f64 = 20.0;
/// Rows after which a batch takes no further transaction.
const BATCH_ROWS_MAX: usize = 10_000;
/// The story that is further away from the present than this (the process slept, or the warehouse did not keep up) goes
/// on from the present instead of catching up.
const DRIFT_US_MAX: i64 = 5_000_000;
/// The longest wait between two looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

/// A simulated shop, at its beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulator {
    seed: u64,
    /// Nanoseconds per tick, which is one order; none: no orders are placed.
    tick_ns: Option<u64>,
}

impl Simulator {
    /// The shop of a seed, with a pace in orders per second: none for its own pace, 0 for a shop that is closed.
    pub fn new(seed: u64, orders_per_second: Option<f64>) -> Self {
        Self { seed, tick_ns: tick_ns(orders_per_second.unwrap_or(ORDERS_PER_SECOND)) }
    }

    /// Columns and key of one of its tables.
    pub fn schema(&self, table: &str) -> Option<relation::Schema> {
        Table::named(table).map(Table::schema)
    }

    /// Runs the shop until stopped: first what is missing of the tables, then its transactions at their times.
    ///
    /// `tables` has the shop's name, the number and the state of each table that is wanted; `resume` is the position of
    /// the last batch that was taken.
    pub async fn run(
        self,
        number: u32,
        tables: Vec<(String, TableId, Load)>,
        resume: Option<Position>,
        inbox: mpsc::Sender<Message>,
        stopped: watch::Receiver<bool>,
    ) {
        let mut feed = Feed { number, inbox, stopped };
        if let Err(Ended::Failed(failure)) = self.follow(&WallClock, &tables, resume, &mut feed).await {
            feed.send(SourceEvent::Failed(failure)).await.ok();
        }
    }

    async fn follow(
        &self,
        clock: &dyn Clock,
        tables: &[(String, TableId, Load)],
        resume: Option<Position>,
        feed: &mut Feed,
    ) -> Result<(), Ended> {
        let mut story = self.story(resume, clock.now_us())?;
        let targets = Target::all(tables);
        finish_tick(&mut story, &targets, clock, feed).await?;
        if tables.iter().any(|(_, _, load)| matches!(load, Load::Loading { .. })) {
            feed.send(SourceEvent::State(SourceState::Snapshot, String::new())).await?;
            load_tables(&story, tables, feed).await?;
        }
        feed.send(SourceEvent::State(SourceState::Streaming, String::new())).await?;
        let Some(tick_ns) = self.tick_ns else { return feed.wait_for_stop().await };
        // The restart itself is a pause: orders go on from now.
        story.continue_at(clock.now_us(), tick_ns);
        loop {
            let now_us = clock.now_us();
            let ahead_us = story.due_us() - now_us;
            let tick_us = i64::try_from(tick_ns / 1_000).unwrap_or(i64::MAX);
            if ahead_us < -DRIFT_US_MAX || ahead_us > DRIFT_US_MAX.saturating_add(tick_us) {
                finish_tick(&mut story, &targets, clock, feed).await?;
                story.continue_at(clock.now_us(), tick_ns);
            }
            let mut batch = SourceBatch::default();
            while story.due_us() <= now_us && batch.rows() < BATCH_ROWS_MAX {
                add(&mut batch, &targets, &story.tell(), now_us)?;
            }
            if batch.transactions.is_empty() {
                feed.wait(story.due_us() - now_us).await?;
            } else {
                batch.position = Position(story.place().to_string());
                feed.send(SourceEvent::Batch(batch)).await?;
            }
        }
    }

    fn story(&self, resume: Option<Position>, now_us: i64) -> Result<Story, Ended> {
        let Some(position) = resume else {
            let calendar = Calendar::starting(now_us, self.tick_ns.unwrap_or(1_000_000_000));
            return Ok(Story::at(Place { seed: self.seed, tick: HISTORY, done: 0, calendar }));
        };
        let detail = match position.0.parse::<Place>() {
            Ok(place) if place.seed == self.seed => return Ok(Story::at(place)),
            Ok(place) => {
                format!("It was started with the seed {}, and is to go on with the seed {}.", place.seed, self.seed)
            }
            Err(()) => format!("Its position is not understood: {position}."),
        };
        Err(Ended::Failed(Failure {
            message: "the simulated shop cannot go on where it was".to_owned(),
            detail,
            hint: "Give it the seed that it had, or delete the data folder to begin anew.".to_owned(),
        }))
    }
}

fn tick_ns(orders_per_second: f64) -> Option<u64> {
    // From a million a second to one in eleven days, whatever is asked for.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to whole numbers that fit")]
    (orders_per_second > 0.0).then(|| (1e9 / orders_per_second).clamp(1e3, 1e15) as u64)
}

/// Why the shop stopped before its time.
#[derive(Debug)]
enum Ended {
    /// It was told to, or nobody listens any more.
    Stopped,
    Failed(Failure),
}

impl From<relation::Error> for Ended {
    fn from(error: relation::Error) -> Self {
        let message = "internal error: a row of the simulated shop does not fit its table".to_owned();
        Self::Failed(Failure { message, detail: error.to_string(), hint: String::new() })
    }
}

/// The way to the pump.
struct Feed {
    number: u32,
    inbox: mpsc::Sender<Message>,
    stopped: watch::Receiver<bool>,
}

impl Feed {
    async fn send(&mut self, event: SourceEvent) -> Result<(), Ended> {
        tokio::select! {
            sent = self.inbox.send(Message::Event(self.number, event)) => sent.map_err(|_| Ended::Stopped),
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

/// A table that changes go to.
struct Target {
    table: Table,
    id: TableId,
    layout: Layout,
}

impl Target {
    fn all(tables: &[(String, TableId, Load)]) -> Vec<Self> {
        let target = |(name, id, load): &(String, TableId, Load)| {
            let table = Table::named(name).filter(|_| !matches!(load, Load::Parked { .. }))?;
            Some(Self { table, id: *id, layout: Layout::new(table.schema().types()) })
        };
        tables.iter().filter_map(target).collect()
    }
}

fn add(batch: &mut SourceBatch, targets: &[Target], transaction: &Transaction, now_us: i64) -> relation::Result<()> {
    for change in transaction {
        for target in targets.iter().filter(|target| target.table == change.table) {
            let changes = batch.table(target.id);
            for (row, weight) in change.before.iter().map(|row| (row, -1)).chain([(&change.after, 1)]) {
                changes.rows.push_values(&target.layout, row)?;
                changes.weights.push(weight);
            }
        }
    }
    let changes = u32::try_from(transaction.len()).unwrap_or(u32::MAX);
    batch.transactions.push(TransactionMark { commit_time_us: now_us, read_time_us: now_us, changes });
    Ok(())
}

/// Tells the rest of a tick that was begun: tables are loaded, and time goes on, between two ticks.
async fn finish_tick(story: &mut Story, targets: &[Target], clock: &dyn Clock, feed: &mut Feed) -> Result<(), Ended> {
    let mut batch = SourceBatch::default();
    while story.is_within_tick() {
        add(&mut batch, targets, &story.tell(), clock.now_us())?;
    }
    if batch.transactions.is_empty() {
        return Ok(());
    }
    batch.position = Position(story.place().to_string());
    feed.send(SourceEvent::Batch(batch)).await
}

async fn load_tables(story: &Story, tables: &[(String, TableId, Load)], feed: &mut Feed) -> Result<(), Ended> {
    let position = Position(story.place().to_string());
    for (name, id, load) in tables {
        let (Some(table), Load::Loading { cursor }) = (Table::named(name), load) else { continue };
        let mut cursor = cursor.clone();
        loop {
            let chunk = load::chunk(story, table, *id, cursor.as_deref())?;
            let complete = chunk.complete;
            cursor = Some(chunk.cursor.clone());
            let batch = SourceBatch { chunks: vec![chunk], position: position.clone(), ..SourceBatch::default() };
            feed.send(SourceEvent::Batch(batch)).await?;
            if complete {
                break;
            }
        }
    }
    Ok(())
}
