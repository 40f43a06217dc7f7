//! The story is the same whoever tells it, and it adds up.

use std::collections::BTreeMap;

use connect::SourceEvent;
use engine::Load;
use relation::{Layout, Position, Rows, SourceBatch, TableId, Value};
use tokio::sync::{mpsc, watch};

use super::calendar::{Calendar, HISTORY, WINDOW};
use super::position::Place;
use super::shop::{Shop, Status};
use super::story::{Story, Transaction};
use super::tables::Table;
use super::{Simulator, load};
use crate::pump::Message;

const START_US: i64 = 1_780_000_000_000_000;
const TICK_NS: u64 = 50_000_000;

fn beginning(seed: u64) -> Place {
    Place { seed, tick: HISTORY, done: 0, calendar: Calendar::starting(START_US, TICK_NS) }
}

fn told(story: &mut Story, transactions: usize) -> Vec<Transaction> {
    (0..transactions).map(|_| story.tell()).collect()
}

/// Rows by table and key, as the sum of changes; a row before that is not there is a mistake.
#[derive(Default, PartialEq, Debug)]
struct Tables(BTreeMap<Table, BTreeMap<Vec<i64>, Vec<Value>>>);

impl Tables {
    fn at(story: &Story) -> Self {
        let mut tables = Self::default();
        for table in Table::ALL {
            let mut cursor = None;
            loop {
                let chunk = load::chunk(story, table, TableId(1), cursor.as_deref()).unwrap();
                for row in values(table, &chunk.rows) {
                    assert_eq!(tables.put(table, row), None);
                }
                cursor = Some(chunk.cursor);
                if chunk.complete {
                    break;
                }
            }
        }
        tables
    }

    fn put(&mut self, table: Table, row: Vec<Value>) -> Option<Vec<Value>> {
        self.0.entry(table).or_default().insert(key(table, &row), row)
    }

    fn apply(&mut self, transaction: &Transaction) {
        for change in transaction {
            let before = self.put(change.table, change.after.clone());
            assert_eq!(before, change.before, "the row before is the row there was");
        }
    }
}

fn values(table: Table, rows: &Rows) -> Vec<Vec<Value>> {
    let layout = Layout::new(table.schema().types());
    rows.iter().map(|row| layout.values(row)).collect()
}

fn key(table: Table, row: &[Value]) -> Vec<i64> {
    let number = |value: &Value| match value {
        Value::Int(number) => *number,
        other => panic!("{other} is no key"),
    };
    table.schema().key.iter().map(|&i| number(&row[i])).collect()
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let tell = |seed| told(&mut Story::at(beginning(seed)), 5_000);
    assert_eq!(tell(7), tell(7));
    assert_ne!(tell(7), tell(8));
}

#[test]
fn a_story_taken_up_anywhere_goes_on_exactly() {
    let mut whole = Story::at(beginning(3));
    let mut distance = 0;
    for step in [0, 1, 2, 3, 61, 1_000, 7_001, 20_000] {
        distance += told(&mut whole, step).len();
        let position = whole.place().to_string();
        let mut again = Story::at(position.parse().unwrap());
        let mut ahead = whole.clone();
        assert_eq!(told(&mut again, 3_000), told(&mut ahead, 3_000), "after {distance} transactions");
        assert_eq!(again.place(), ahead.place());
    }
    assert!(whole.tick() > HISTORY + WINDOW / 2, "the story went on far enough to leave its beginning behind");
}

#[test]
fn changes_lead_from_one_load_to_the_next() {
    let mut story = Story::at(beginning(5));
    let mut tables = Tables::at(&story);
    for pause in 0..3 {
        for transaction in told(&mut story, 12_000) {
            tables.apply(&transaction);
        }
        while story.is_within_tick() {
            tables.apply(&story.tell());
        }
        assert_eq!(tables, Tables::at(&story));
        // As after a restart an hour later, at another pace.
        story.continue_at(START_US + (pause + 1) * 3_600_000_000, TICK_NS / 7);
    }
}

#[test]
fn a_total_is_the_sum_of_its_items_and_is_what_is_paid() {
    let tables = Tables::at(&Story::at(beginning(1)));
    let number = |value: &Value| match value {
        Value::Int(number) => i128::from(*number),
        Value::Decimal(cents, 2) => *cents,
        other => panic!("{other} is no number"),
    };
    let mut sums: BTreeMap<i128, i128> = BTreeMap::new();
    for item in tables.0[&Table::OrderItems].values() {
        *sums.entry(number(&item[0])).or_default() += number(&item[3]) * number(&item[4]);
    }
    let totals = |table: Table, order: usize, amount: usize| -> BTreeMap<i128, i128> {
        tables.0[&table].values().map(|row| (number(&row[order]), number(&row[amount]))).collect()
    };
    assert_eq!(totals(Table::Orders, 0, 8), sums);
    assert_eq!(totals(Table::Payments, 0, 3), sums);
    assert_eq!(sums.len() as u64, HISTORY);
    assert!(sums.values().all(|total| *total > 0));
}

#[test]
fn rows_refer_to_rows_that_are_there() {
    let mut story = Story::at(beginning(2));
    let mut tables = Tables::at(&story);
    told(&mut story, 5_000).iter().for_each(|transaction| tables.apply(transaction));
    let refers = |from: Table, column: usize, to: Table| {
        let there = &tables.0[&to];
        tables.0[&from].values().all(|row| matches!(&row[column], Value::Int(key) if there.contains_key(&vec![*key])))
    };
    assert!(refers(Table::Orders, 1, Table::Customers));
    assert!(refers(Table::OrderItems, 0, Table::Orders));
    assert!(refers(Table::OrderItems, 2, Table::Products));
    assert!(refers(Table::Payments, 0, Table::Orders));
}

#[test]
fn every_course_occurs_and_ends_within_the_window() {
    let shop = Shop { seed: 11 };
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for number in 1..=5_000 {
        let order = shop.order(number);
        let last = order.course.last().unwrap();
        assert!(order.course.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(last.0 - number < WINDOW);
        *ends.entry(format!("{:?}", last.1)).or_default() += 1;
    }
    let names: Vec<&str> = ends.keys().map(String::as_str).collect();
    assert_eq!(names, ["Cancelled", "Delivered", "Refunded"]);
    assert!(ends["Delivered"] > 4_000);
    assert!(shop.order(1).course.contains(&(1, Status::Created)));
}

#[test]
fn prices_change_and_old_orders_keep_theirs() {
    let shop = Shop { seed: 1 };
    let product = shop.repriced(40).unwrap();
    assert_eq!(product, 1);
    assert_eq!(shop.repriced(41), None);
    let prices: Vec<u64> = [0, 39, 40, 40_039, 40_040].iter().map(|tick| shop.cents(product, *tick)).collect();
    assert_eq!(prices[0], prices[1]);
    assert_eq!(prices[2], prices[3]);
    assert!(prices[1] != prices[2] || prices[3] != prices[4]);
}

#[test]
fn a_position_is_read_as_it_is_written() {
    let mut story = Story::at(beginning(9));
    told(&mut story, 4_321);
    let text = story.place().to_string();
    assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
    for broken in ["", "v2 seed=1", "v1 seed=1 tick=2 done=0 calendar=5@1/1", "v1 seed=x tick=2 done=0 calendar=0@1/1"]
    {
        assert_eq!(broken.parse::<Place>(), Err(()), "{broken}");
    }
}

#[test]
fn a_calendar_forgets_only_what_no_change_needs() {
    let mut calendar = Calendar::starting(START_US, TICK_NS);
    let mut from = HISTORY + 1;
    for pause in 1..200_i64 {
        from += 500;
        let oldest = from - WINDOW;
        let before: Vec<i64> = (oldest..from).map(|tick| calendar.time_us(tick)).collect();
        calendar.continue_from(from, START_US + pause * 3_600_000_000, TICK_NS);
        let after: Vec<i64> = (oldest..from).map(|tick| calendar.time_us(tick)).collect();
        assert_eq!(before, after);
    }
    assert!(calendar.to_string().split(',').count() <= 20);
    assert_eq!(calendar.time_us(0), Calendar::starting(START_US, TICK_NS).time_us(0));
}

/// Runs the source until it has sent so many batches with transactions; answers all events and the last position.
async fn run(seed: u64, loads: Load, resume: Option<Position>, batches: usize) -> (Vec<SourceEvent>, Option<Position>) {
    let (inbox, mut outbox) = mpsc::channel(2);
    let (stop, stopped) = watch::channel(false);
    let tables = Table::ALL.iter().zip(1..).map(|(table, id)| (table.name().to_owned(), TableId(id), loads.clone()));
    let running = Simulator::new(seed, Some(2_000.0)).run(4, tables.collect(), resume, inbox, stopped);
    let running = tokio::spawn(running);
    let mut events = Vec::new();
    let mut position = None;
    let mut live = 0;
    while live < batches {
        let Some(Message::Event(4, event)) = outbox.recv().await else { break };
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
    let (events, mut position) = run(6, Load::Loading { cursor: None }, None, 40).await;
    assert_eq!(batches(&events).flat_map(|b| &b.chunks).filter(|chunk| chunk.complete).count(), 5);
    gather(&mut tables, &events);
    for _ in 0..5 {
        let (events, next) = run(6, Load::Complete, position, 17).await;
        assert!(batches(&events).all(|batch| batch.chunks.is_empty()));
        gather(&mut tables, &events);
        position = next;
    }
    assert!(tables.values().all(|weight| *weight == 1));
    let mut story = Story::at(position.unwrap().0.parse().unwrap());
    while story.is_within_tick() {
        let mut batch = SourceBatch::default();
        let targets: Vec<_> =
            Table::ALL.iter().zip(1..).map(|(t, id)| (t.name().to_owned(), TableId(id), Load::Complete)).collect();
        super::add(&mut batch, &super::Target::all(&targets), &story.tell(), 0).unwrap();
        gather(&mut tables, &[SourceEvent::Batch(batch)]);
    }
    let mut whole = BTreeMap::new();
    for (table, id) in Table::ALL.iter().zip(1..) {
        let mut cursor = None;
        loop {
            let chunk = load::chunk(&story, *table, TableId(id), cursor.as_deref()).unwrap();
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
    let place = Some(Position(beginning(1).to_string()));
    let (events, _) = run(2, Load::Complete, place, 1).await;
    let [SourceEvent::Failed(failure)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(failure.message, "the simulated shop cannot go on where it was");
    assert_eq!(failure.detail, "It was started with the seed 1, and is to go on with the seed 2.");
}

#[tokio::test]
async fn a_closed_shop_loads_and_waits() {
    let (inbox, mut outbox) = mpsc::channel(100);
    let (stop, stopped) = watch::channel(false);
    let tables = vec![("products".to_owned(), TableId(1), Load::Loading { cursor: None })];
    let running = tokio::spawn(Simulator::new(1, Some(0.0)).run(1, tables, None, inbox, stopped));
    let mut states = Vec::new();
    while states.last().is_none_or(|state: &String| state != "streaming") {
        match outbox.recv().await.unwrap() {
            Message::Event(_, SourceEvent::State(state, _)) => states.push(state.to_string()),
            Message::Event(_, SourceEvent::Batch(batch)) => assert!(batch.transactions.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    stop.send_replace(true);
    running.await.unwrap();
    assert!(outbox.recv().await.is_none());
}
