//! The shop as a source: it can be stopped anywhere, and does not run away from a slow warehouse.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use connect::{Load, SourceEvent};
use project::SimulatedShop;
use relation::{Position, SourceBatch, TableId};
use simulate::{Simulation, Table};
use tokio::sync::{mpsc, watch};

use super::{Feed, Simulator};
use crate::clock::Clock;

fn shop(seed: u64, speed: f64) -> SimulatedShop {
    SimulatedShop {
        seed,
        users: Some(400),
        orders_per_day: Some(60),
        history_orders: Some(500),
        speed: Some(speed),
        ..SimulatedShop::default()
    }
}

fn all(load: &Load) -> Vec<(String, TableId, Load)> {
    (1..).zip(Table::ALL).map(|(id, table)| (table.name().to_owned(), TableId(id), load.clone())).collect()
}

/// A clock that is a millisecond further at each look.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_us(&self) -> i64 {
        self.0.fetch_add(1_000, Ordering::Relaxed)
    }
}

/// A wall clock that somebody sets back at each look.
struct Backwards(AtomicI64);

impl Clock for Backwards {
    fn now_us(&self) -> i64 {
        self.0.fetch_sub(3_600_000_000, Ordering::Relaxed)
    }
}

static BACKWARDS: Backwards = Backwards(AtomicI64::new(1_800_000_000_000_000));

/// Runs the source until it has sent so many batches with transactions; answers all events and the last position.
async fn run(seed: u64, loads: Load, resume: Option<Position>, wanted: usize) -> (Vec<SourceEvent>, Option<Position>) {
    let (inbox, mut outbox) = mpsc::channel(2);
    let (stop, stopped) = watch::channel(false);
    let running = async move {
        let mut feed = Feed { events: inbox, stopped };
        let simulator = Simulator::new(&shop(seed, 100_000.0));
        let ended = simulator.follow(&Ticking(AtomicI64::new(0)), &BACKWARDS, &all(&loads), resume, &mut feed).await;
        if let Err(super::Ended::Failed(failure)) = ended {
            feed.send(SourceEvent::Failed(failure)).await.ok();
        }
    };
    let running = tokio::spawn(running);
    let mut events = Vec::new();
    let mut position = None;
    let mut live = 0;
    while live < wanted {
        let Some(event) = outbox.recv().await else { break };
        if let SourceEvent::Batch(batch) = &event {
            position = Some(batch.position.clone());
            live += usize::from(!batch.transactions.is_empty());
        }
        events.push(event);
    }
    stop.send_replace(true);
    drop(outbox);
    running.await.unwrap();
    (events, position)
}

fn batches(events: &[SourceEvent]) -> impl Iterator<Item = &SourceBatch> {
    events.iter().filter_map(|event| match event {
        SourceEvent::Batch(batch) => Some(batch),
        _ => None,
    })
}

/// Applies batches: chunks insert, −1 takes away what is there, +1 adds what is not.
fn gather(tables: &mut BTreeMap<(u32, Vec<u8>), i32>, events: &[SourceEvent]) {
    for batch in batches(events) {
        for chunk in &batch.chunks {
            for row in chunk.rows.iter() {
                *tables.entry((chunk.table.0, row.to_vec())).or_default() += 1;
            }
        }
        for (table, changes) in &batch.tables {
            for (row, weight) in changes.rows.iter().zip(&changes.weights) {
                *tables.entry((table.0, row.to_vec())).or_default() += i32::from(*weight);
            }
        }
    }
    tables.retain(|_, weight| *weight != 0);
}

#[tokio::test]
async fn a_source_that_is_resumed_repeats_nothing_and_skips_nothing() {
    let mut tables = BTreeMap::new();
    let (events, mut position) = run(6, Load::Pending { cursor: None }, None, 40).await;
    assert_eq!(batches(&events).flat_map(|b| &b.chunks).filter(|chunk| chunk.complete).count(), Table::ALL.len());
    gather(&mut tables, &events);
    for _ in 0..5 {
        let (events, next) = run(6, Load::Complete, position, 17).await;
        assert!(batches(&events).all(|batch| batch.chunks.is_empty()));
        gather(&mut tables, &events);
        position = next;
    }
    assert!(tables.values().all(|weight| *weight == 1));
    let settings = Simulator::new(&shop(6, 1.0)).settings;
    let simulation = Simulation::resume(settings, &position.unwrap()).unwrap();
    let mut whole = BTreeMap::new();
    for (id, table) in (1..).zip(Table::ALL) {
        let mut cursor = None;
        loop {
            let chunk = simulation.chunk(table, cursor.as_deref());
            chunk.rows.iter().for_each(|row| _ = whole.insert((id, row.to_vec()), 1));
            cursor = Some(chunk.cursor);
            if chunk.complete {
                break;
            }
        }
    }
    assert!(tables == whole, "{} rows gathered, {} rows expected", tables.len(), whole.len());
}

#[tokio::test]
async fn another_seed_is_refused_with_the_next_move() {
    let place = Simulation::new(Simulator::new(&shop(1, 1.0)).settings).position();
    let (events, _) = run(2, Load::Complete, Some(place), 1).await;
    let [SourceEvent::Failed(failure)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(failure.message, "the simulated shop cannot go on where it was");
    assert!(failure.detail.starts_with("it was started with seed=1 users=400 "), "{}", failure.detail);
}

#[tokio::test]
async fn a_warehouse_that_does_not_keep_up_makes_the_clock_wait() {
    let simulator = Simulator::new(&shop(1, 1_000.0));
    let (inbox, mut outbox) = mpsc::channel(2);
    let (_stop, stopped) = watch::channel(false);
    let mut feed = Feed { events: inbox, stopped };
    let mut pace = super::Pace::new(1_000.0, 0, 0).unwrap();
    // On time, then a little late.
    simulator.keep_pace(&mut pace, 1_000_000, 1_000_000_000, &mut feed).await.unwrap();
    assert_eq!((simulator.lag().behind_us(), simulator.lag().waited_us()), (0, 0));
    simulator.keep_pace(&mut pace, 1_400_000, 1_000_000_000, &mut feed).await.unwrap();
    assert_eq!((simulator.lag().behind_us(), simulator.lag().waited_us()), (400_000, 0));
    assert!(outbox.try_recv().is_err());
    // Three seconds late: what is due by then is due three seconds later.
    simulator.keep_pace(&mut pace, 4_000_000, 1_000_000_000, &mut feed).await.unwrap();
    assert_eq!((simulator.lag().behind_us(), simulator.lag().waited_us()), (0, 3_000_000));
    assert_eq!(pace.shop_us(4_000_000), 1_000_000_000);
    let Ok(SourceEvent::State(_, message)) = outbox.try_recv() else { panic!("it says so") };
    assert_eq!(message, "the shop's clock has waited 3 s for the warehouse");
}

#[tokio::test]
async fn a_closed_shop_loads_and_waits() {
    let (inbox, mut outbox) = mpsc::channel(100);
    let (stop, stopped) = watch::channel(false);
    let tables = vec![("products".to_owned(), TableId(1), Load::Pending { cursor: None })];
    let running = tokio::spawn(Simulator::new(&shop(1, 0.0)).run(tables, None, inbox, stopped));
    let mut states = Vec::new();
    while states.last().is_none_or(|state: &String| state != "streaming") {
        match outbox.recv().await.unwrap() {
            SourceEvent::State(state, _) => states.push(state.to_string()),
            SourceEvent::Batch(batch) => assert!(batch.transactions.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    stop.send_replace(true);
    running.await.unwrap();
    assert!(outbox.recv().await.is_none());
}
