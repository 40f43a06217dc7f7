//! The shop's life is the same whoever asks for it, and it adds up.

use std::collections::BTreeMap;

use proptest::prelude::*;
use relation::{Position, TableChanges, Value};

use crate::{DAY, HOUR, ResumeError, SECOND, Settings, Simulation, Table, Told};

fn small(seed: u64) -> Settings {
    let history_orders = 700;
    Settings { seed, users: 800, orders_per_day: 100, new_user_share: 0.02, history_orders, ..Settings::default() }
}

/// Rows by table and key; a row before that is not there is a mistake.
#[derive(Default, PartialEq, Debug)]
struct Tables(BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>);

fn key(table: Table, row: &[u8]) -> Vec<u8> {
    table.schema().key.iter().flat_map(|&i| table.layout().bytes(row, i).iter().copied()).collect()
}

impl Tables {
    fn of(simulation: &Simulation) -> Self {
        let mut tables = Self::default();
        for table in Table::ALL {
            let mut cursor = None;
            loop {
                let chunk = simulation.chunk(table, cursor.as_deref());
                for row in chunk.rows.iter() {
                    table.layout().check(row).unwrap();
                    let before = tables.0.entry(table).or_default().insert(key(table, row), row.to_vec());
                    assert_eq!(before, None, "{table:?} has each key once");
                }
                cursor = Some(chunk.cursor);
                if chunk.complete {
                    break;
                }
            }
        }
        tables
    }

    fn apply(&mut self, table: Table, changes: &TableChanges) {
        let rows = self.0.entry(table).or_default();
        for (row, weight) in changes.rows.iter().zip(&changes.weights) {
            let key = key(table, row);
            if *weight < 0 {
                assert_eq!(rows.remove(&key).as_deref(), Some(row), "{table:?}: the row before is the row there was");
            } else {
                table.layout().check(row).unwrap();
                assert_eq!(rows.insert(key, row.to_vec()), None, "{table:?}: the row was not there");
            }
        }
    }

    fn take(&mut self, told: &Told) {
        Table::ALL.into_iter().for_each(|table| self.apply(table, told.table(table)));
    }

    fn rows(&self, table: Table) -> impl Iterator<Item = Vec<Value>> + '_ {
        self.0.get(&table).into_iter().flat_map(BTreeMap::values).map(move |row| table.layout().values(row))
    }

    fn len(&self, table: Table) -> usize {
        self.0.get(&table).map_or(0, BTreeMap::len)
    }

    /// Sums of a money column by an id column.
    fn sums(&self, table: Table, by: &str, what: &str) -> BTreeMap<i64, i128> {
        let mut sums = BTreeMap::new();
        for row in self.rows(table) {
            *sums.entry(number(&row[at(table, by)])).or_default() += cents(&row[at(table, what)]);
        }
        sums.retain(|_, sum| *sum != 0);
        sums
    }
}

fn at(table: Table, column: &str) -> usize {
    table.schema().position(column).unwrap()
}

fn number(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        other => panic!("{other} is no number"),
    }
}

fn cents(value: &Value) -> i128 {
    match value {
        Value::Decimal(cents, 2) => *cents,
        other => panic!("{other} is no amount of money"),
    }
}

fn until(simulation: &mut Simulation, at_us: i64) -> Told {
    let mut told = Told::default();
    simulation.advance(at_us, usize::MAX, &mut told);
    assert_eq!(simulation.now_us(), at_us);
    told
}

fn check(tables: &Tables) {
    for (from, column, to) in [
        (Table::Products, "brand_id", Table::Brands),
        (Table::Products, "category_id", Table::Categories),
        (Table::Products, "merchant_id", Table::Merchants),
        (Table::Categories, "parent_id", Table::Categories),
        (Table::Orders, "user_id", Table::Users),
        (Table::OrderItems, "order_id", Table::Orders),
        (Table::OrderItems, "product_id", Table::Products),
        (Table::Payments, "order_id", Table::Orders),
        (Table::Refunds, "order_id", Table::Orders),
        (Table::RedPackets, "user_id", Table::Users),
        (Table::RedPackets, "order_id", Table::Orders),
        (Table::Shipments, "order_id", Table::Orders),
        (Table::Reviews, "order_id", Table::Orders),
        (Table::Reviews, "product_id", Table::Products),
        (Table::SupportTickets, "order_id", Table::Orders),
        (Table::PageEvents, "user_id", Table::Users),
    ] {
        for row in tables.rows(from) {
            match &row[at(from, column)] {
                Value::Null => {}
                key => {
                    let there = tables.0[&to].contains_key(number(key).to_le_bytes().as_slice());
                    assert!(there, "{from:?}.{column} {key} is not in {to:?}");
                }
            }
        }
    }
    assert!(tables.rows(Table::Products).all(|row| number(&row[at(Table::Products, "stock")]) >= 0));
    let orders = |what| tables.sums(Table::Orders, "order_id", what);
    assert_eq!(tables.sums(Table::OrderItems, "order_id", "amount"), orders("goods"));
    assert_eq!(tables.sums(Table::Payments, "order_id", "amount"), orders("paid"));
    assert_eq!(tables.sums(Table::Refunds, "order_id", "amount"), orders("refunded"));
    for row in tables.rows(Table::Orders) {
        let money = |what| cents(&row[at(Table::Orders, what)]);
        assert_eq!(money("total"), money("goods") + money("freight") - money("discount"));
        assert!(money("total") > 0 && money("refunded") <= money("paid"));
    }
}

#[test]
fn the_shop_opens_with_its_history() {
    for history_orders in [0, 1, 699, 700, 5_000] {
        let tables = Tables::of(&Simulation::new(Settings { history_orders, ..small(1) }));
        assert_eq!(tables.len(Table::Orders), history_orders as usize);
        assert_eq!(tables.len(Table::Products), 10_000);
        assert!(tables.len(Table::PageEvents) > 1_000);
        check(&tables);
    }
}

#[test]
fn settings_beyond_measure_make_a_shop_too() {
    let none = Settings { users: 0, orders_per_day: 0, new_user_share: 0.0, ..small(1) };
    let mut simulation = Simulation::new(none.clone());
    assert!(simulation.chunk(Table::Orders, None).complete);
    let end = simulation.now_us() + DAY;
    let told = until(&mut simulation, end);
    assert!(told.table(Table::Orders).rows.is_empty() && !told.table(Table::PageEvents).rows.is_empty());
    let few = Settings { orders_per_day: 1, history_orders: u32::MAX, ..small(1) };
    let all_new = Settings { new_user_share: 1.0, ..small(1) };
    for settings in [few, all_new] {
        let mut simulation = Simulation::new(settings);
        let mut told = Told::default();
        simulation.advance(i64::MAX, 1_000, &mut told);
        assert!(told.rows() >= 1_000);
    }
    let many = Settings { users: u32::MAX, new_user_share: 0.001, ..none };
    assert_eq!(Simulation::new(many).chunk(Table::Users, None).rows.len(), 5_000);
}

#[test]
fn changes_lead_from_one_load_to_the_next() {
    let mut simulation = Simulation::new(small(5));
    let mut tables = Tables::of(&simulation);
    for pause in [SECOND, 7 * HOUR + 1, 20 * HOUR, 8 * DAY + 12_345] {
        let at = simulation.now_us() + pause;
        tables.take(&until(&mut simulation, at));
        assert!(tables == Tables::of(&simulation), "after {pause}");
        check(&tables);
    }
    for table in Table::ALL {
        assert!(tables.len(table) > 0, "{table:?} is empty");
    }
}

#[test]
fn much_is_sold_and_the_stock_lasts() {
    let settings = Settings { users: 60_000, orders_per_day: 60_000, history_orders: 0, ..small(2) };
    let mut simulation = Simulation::new(settings);
    let mut tables = Tables::default();
    tables.0.insert(Table::Products, Tables::of(&simulation).0.remove(&Table::Products).unwrap());
    let stock = |row: &[u8]| number(&Table::Products.layout().value(row, at(Table::Products, "stock")));
    let midnight = simulation.now_us() + 16 * HOUR;
    let mut filled_up = 0;
    while simulation.now_us() < midnight - 2 {
        let mut told = Told::default();
        simulation.advance(midnight - 2, 10_000, &mut told);
        let products = told.table(Table::Products);
        tables.apply(Table::Products, products);
        assert!(products.rows.iter().all(|row| stock(row) >= 0));
        let rows: Vec<&[u8]> = products.rows.iter().collect();
        // What comes back from a cancelled order is less.
        filled_up += rows.chunks(2).filter(|pair| stock(pair[1]) - stock(pair[0]) >= 30).count();
    }
    assert!(filled_up > 0, "a product that was sold out before midnight was filled up");
    let counted = until(&mut simulation, midnight - 1);
    assert!(counted.transactions.iter().any(|transaction| transaction.changes > 5_000), "the count at midnight");
    tables.apply(Table::Products, counted.table(Table::Products));
    assert!(Tables::of(&simulation).0[&Table::Products] == tables.0[&Table::Products]);
}

#[test]
fn few_rows_at_a_time_are_the_same_rows() {
    let start = Simulation::new(small(4));
    let end = start.now_us() + 30 * HOUR;
    let whole = until(&mut start.clone(), end);
    let mut parts = start;
    let mut transactions = Vec::new();
    let mut rows = 0;
    while parts.now_us() < end {
        let mut told = Told::default();
        parts.advance(end, 1, &mut told);
        assert!(told.transactions.windows(2).all(|pair| pair[0].at_us == pair[1].at_us), "one time at a time");
        assert!(told.transactions.iter().all(|transaction| transaction.at_us == parts.now_us()));
        rows += told.rows();
        transactions.extend(told.transactions);
    }
    assert_eq!(transactions, whole.transactions);
    assert_eq!(rows, whole.rows());
    assert!(transactions.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
}

#[test]
fn a_day_has_its_people_and_its_orders() {
    let settings = Settings { users: 4_000, orders_per_day: 120, new_user_share: 0.005, ..small(3) };
    let mut simulation = Simulation::new(settings);
    let midnight = simulation.now_us() + 16 * HOUR;
    until(&mut simulation, midnight);
    let told = until(&mut simulation, midnight + 7 * DAY);
    let events = told.table(Table::PageEvents);
    let mut people: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for row in events.rows.iter().map(|row| Table::PageEvents.layout().values(row)) {
        let Value::Timestamp(time) = row[at(Table::PageEvents, "occurred_at")] else { panic!("a time") };
        people.entry(time.div_euclid(DAY)).or_default().push(number(&row[at(Table::PageEvents, "user_id")]));
    }
    for people in people.values_mut() {
        people.sort_unstable();
        people.dedup();
    }
    let middle: Vec<usize> = people.values().map(Vec::len).skip(1).take(6).collect();
    assert!(middle.iter().all(|people| (3_990..4_020).contains(people)), "{middle:?}");
    let table = told.table(Table::Orders);
    let placed = table.rows.iter().filter(|row| {
        let status = Table::Orders.layout().value(row, at(Table::Orders, "status"));
        status == Value::Text("created".to_owned())
    });
    // Each is told when it is placed, and taken back when it is paid or cancelled.
    assert!((1_640..1_720).contains(&placed.count()), "seven days of 120 orders, twice");
    assert_eq!(told.table(Table::Users).weights.iter().map(|weight| i64::from(*weight)).sum::<i64>(), 7 * 20);
}

#[test]
fn an_order_comes_to_150_on_average() {
    let tables = Tables::of(&Simulation::new(Settings { history_orders: 5_000, ..small(8) }));
    let totals = tables.sums(Table::Orders, "order_id", "total");
    let average = totals.values().sum::<i128>() / 5_000;
    assert!((13_500..16_500).contains(&average), "{average}");
}

#[test]
fn a_position_of_another_shop_is_refused() {
    let position = Simulation::new(small(1)).position();
    let resume = |settings, position: &str| Simulation::resume(settings, &Position(position.to_owned())).err();
    assert_eq!(resume(small(1), &position.0), None);
    assert_eq!(resume(Settings { speed: 1.0, ..small(1) }, &position.0), None);
    let Some(ResumeError::OtherSettings { was, now }) = resume(small(2), &position.0) else { panic!("refused") };
    assert!(was.starts_with("seed=1 ") && now.starts_with("seed=2 "));
    for broken in ["", "v2 seed=1 at=2", "v3 seed=1 at=x", "v3 seed=1"] {
        assert_eq!(resume(small(1), broken), Some(ResumeError::Unknown(broken.to_owned())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn a_shop_taken_up_anywhere_goes_on_exactly(seed in 0..1_000_u64, first in 0..9 * DAY, then in 0..2 * DAY) {
        let mut whole = Simulation::new(small(seed));
        let middle = whole.now_us() + first;
        until(&mut whole, middle);
        let mut again = Simulation::resume(small(seed), &whole.position()).unwrap();
        prop_assert!(Tables::of(&whole) == Tables::of(&again));
        prop_assert!(until(&mut whole, middle + then) == until(&mut again, middle + then));
        prop_assert_eq!(whole.position(), again.position());
    }

    #[test]
    fn the_same_seed_is_the_same_shop(seed in 0..1_000_u64) {
        let tell = |seed| {
            let mut simulation = Simulation::new(small(seed));
            let end = simulation.now_us() + DAY;
            until(&mut simulation, end)
        };
        let told = tell(seed);
        prop_assert!(told == tell(seed));
        prop_assert!(told != tell(seed + 1));
    }
}
