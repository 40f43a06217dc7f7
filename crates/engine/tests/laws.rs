//! Laws of the operators, each over random changes: what a rule answers and keeps does not depend on how changes are cut
//! into steps, and a change and its reverse leave every byte as it was.
//!
//! The rows are few, so that they meet; some are long, so that buckets spill and keys are cut.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use datafusion_expr::{Expr, col, lit};
use engine::arrange::{Arrangement, Side};
use engine::buckets::Buckets;
use engine::expr::{Condition, arrow_schema};
use engine::operator::aggregate::{AggregateOp, multisets_of};
use engine::operator::join::{JoinOp, JoinSide};
use engine::operator::top_k::TopKOp;
use engine::operator::{Bounds, States};
use engine::stored::{Index, Keeping, Stored};
use plan::{Aggregate, AggregateFunction, JoinKind};
use proptest::prelude::*;
use relation::columns::{decode, encode};
use relation::key::Order;
use relation::{Column, DataType, Delta, Layout, Rows, Schema, TableId, Value};
use store::Writes;

/// key, number, float, text.
const TYPES: [DataType; 4] = [DataType::Int64, DataType::Int64, DataType::Float64, DataType::Text];

fn schema(types: &[DataType]) -> Schema {
    Schema::new(types.iter().enumerate().map(|(i, t)| Column::new(format!("c{i}"), *t)).collect(), vec![])
}

/// A store, shared by all cases; each case has tables of its own.
struct World {
    store: store::Store,
    _dir: tempfile::TempDir,
    step: u64,
    tables: u32,
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);

/// Rows by their bytes, with their weights.
type Net = BTreeMap<Vec<u8>, i64>;
type Dump = BTreeMap<(u32, Vec<u8>), Vec<u8>>;

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::open(dir.path(), store::Options::default()).unwrap();
        Self { store, _dir: dir, step: 0, tables: 100 }
    }

    fn table(&mut self) -> TableId {
        self.tables += 1;
        TableId(self.tables)
    }

    /// One step of a subject; answers with what it put out.
    fn step(&mut self, subject: &dyn Subject, deltas: &[Delta]) -> Result<Net, String> {
        let snapshot = self.store.snapshot();
        let states =
            States { snapshot: &snapshot, hot: self.store.hot(), shards: 1, shard_rows_min: 1, bounds: Bounds::NONE };
        let mut writes = Writes::new();
        let out = subject.step(deltas, states, &mut writes).map_err(|e| e.to_string())?;
        self.step += 1;
        self.store.commit(self.step, writes).map_err(|e| e.to_string())?;
        let types: Vec<DataType> =
            out.batch.schema().fields().iter().map(|f| DataType::from_arrow(f.data_type()).unwrap()).collect();
        let rows = encode(&Layout::new(types), &out.batch).unwrap();
        let mut net = Net::new();
        rows.iter().zip(&out.weights).for_each(|(row, weight)| *net.entry(row.to_vec()).or_insert(0) += weight);
        net.retain(|_, weight| *weight != 0);
        Ok(net)
    }

    fn dump(&self, tables: &[TableId]) -> Dump {
        let snapshot = self.store.snapshot();
        let entries = tables.iter().flat_map(|&table| snapshot.scan(table, &[]).map(move |e| (table, e.unwrap())));
        let first = tables[0].0;
        entries.map(|(table, (key, value))| ((table.0 - first, key.to_vec()), value.to_vec())).collect()
    }
}

/// An operator with its states, in tables of its own.
trait Subject {
    fn step(&self, deltas: &[Delta], states: States<'_>, writes: &mut Writes) -> engine::Result<Delta>;
    fn tables(&self) -> Vec<TableId>;
    fn inputs(&self) -> usize;
}

type Make = fn(&mut World) -> Box<dyn Subject>;

struct TopK(TopKOp, TableId);

impl Subject for TopK {
    fn step(&self, deltas: &[Delta], states: States<'_>, writes: &mut Writes) -> engine::Result<Delta> {
        self.0.apply(&deltas[0], states, writes)
    }

    fn tables(&self) -> Vec<TableId> {
        vec![self.1]
    }

    fn inputs(&self) -> usize {
        1
    }
}

fn top_k(world: &mut World, numbered: bool) -> Box<dyn Subject> {
    let table = world.table();
    let order = [(3, Order { descending: true, nulls_first: true }), (1, Order::PLAIN)];
    let types = if numbered { [&TYPES[..], &[DataType::Int64]].concat() } else { TYPES.to_vec() };
    Box::new(TopK(TopKOp::new(&[0], &order, (1, 3), numbered, TYPES.to_vec(), &schema(&types), table), table))
}

fn limit(world: &mut World) -> Box<dyn Subject> {
    top_k(world, false)
}

fn numbered(world: &mut World) -> Box<dyn Subject> {
    top_k(world, true)
}

struct Grouped(AggregateOp, Vec<TableId>);

impl Subject for Grouped {
    fn step(&self, deltas: &[Delta], states: States<'_>, writes: &mut Writes) -> engine::Result<Delta> {
        self.0.apply(&deltas[0], states, writes)
    }

    fn tables(&self) -> Vec<TableId> {
        self.1.clone()
    }

    fn inputs(&self) -> usize {
        1
    }
}

fn grouped(world: &mut World, group: &[usize]) -> Box<dyn Subject> {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    let one = |function, argument, distinct, output| Aggregate { function, argument, filter: None, distinct, output };
    let aggregates = [
        one(Count, None, false, DataType::Int64),
        one(Sum, Some(1), false, DataType::Int64),
        one(Sum, Some(2), false, DataType::Float64),
        one(Avg, Some(2), true, DataType::Float64),
        one(Count, Some(3), true, DataType::Int64),
        one(Min, Some(3), false, DataType::Text),
        one(Max, Some(3), false, DataType::Text),
        one(Min, Some(2), false, DataType::Float64),
        one(Max, Some(1), false, DataType::Int64),
    ];
    let tables: Vec<TableId> = (0..=multisets_of(&aggregates).len()).map(|_| world.table()).collect();
    let types: Vec<DataType> = group.iter().map(|&c| TYPES[c]).chain(aggregates.iter().map(|a| a.output)).collect();
    let op = AggregateOp::new("test".to_owned(), group, &aggregates, TYPES.to_vec(), &schema(&types), &tables);
    Box::new(Grouped(op, tables))
}

fn by_key(world: &mut World) -> Box<dyn Subject> {
    grouped(world, &[0])
}

fn by_all(world: &mut World) -> Box<dyn Subject> {
    grouped(world, &[3, 2, 0])
}

struct Join {
    op: JoinOp,
    sides: [Arrangement; 2],
    tables: Vec<TableId>,
    /// Pairs on which the condition failed, so far.
    failed: Mutex<Net>,
}

impl Subject for Join {
    fn step(&self, deltas: &[Delta], states: States<'_>, writes: &mut Writes) -> engine::Result<Delta> {
        for (side, delta) in self.sides.iter().zip(deltas) {
            side.apply(delta, Some(states), writes)?;
        }
        let joined = self.op.apply(Some(&deltas[0]), Some(&deltas[1]), states, writes)?;
        let mut failed = self.failed.lock().unwrap();
        for (pairs, failures) in &joined.failed.parts {
            let rows = encode(&Layout::new([TYPES, TYPES].concat()), &pairs.batch)?;
            for failure in failures {
                let row = failure.row as usize;
                *failed.entry(rows.get(row).to_vec()).or_insert(0) += pairs.weights[row];
            }
        }
        Ok(joined.delta)
    }

    fn tables(&self) -> Vec<TableId> {
        self.tables.clone()
    }

    fn inputs(&self) -> usize {
        2
    }
}

fn join(world: &mut World, kind: JoinKind, residual: bool) -> Box<dyn Subject> {
    Box::new(join_on(world, kind, residual.then(|| col("c1").lt(col("c5") + lit(1_i64)))))
}

fn join_on(world: &mut World, kind: JoinKind, residual: Option<Expr>) -> Join {
    let tables: Vec<TableId> = (0..3).map(|_| world.table()).collect();
    let side = |table| {
        let arrangement =
            Arrangement { buckets: Buckets { table }, keys: vec![0], types: TYPES.to_vec(), keeps_nulls: true };
        let schema = arrow_schema(&schema(&TYPES));
        let side = Side::own(table, TYPES.to_vec(), Arc::clone(&schema));
        (arrangement, JoinSide { side, keys: vec![0], types: TYPES.to_vec(), schema })
    };
    let ((left, left_side), (right, right_side)) = (side(tables[0]), side(tables[1]));
    let both = [TYPES, TYPES].concat();
    let condition = residual.map(|residual| Condition::new(&residual, &both).unwrap());
    let output = if matches!(kind, JoinKind::Inner | JoinKind::Left) { both } else { TYPES.to_vec() };
    let state = JoinOp::is_counted(kind, condition.is_some()).then_some(tables[2]);
    let op = JoinOp::new(kind, left_side, right_side, condition, &schema(&output), state);
    Join { op, sides: [left, right], tables, failed: Mutex::default() }
}

fn inner(world: &mut World) -> Box<dyn Subject> {
    join(world, JoinKind::Inner, true)
}

fn left(world: &mut World) -> Box<dyn Subject> {
    join(world, JoinKind::Left, false)
}

fn left_residual(world: &mut World) -> Box<dyn Subject> {
    join(world, JoinKind::Left, true)
}

fn semi_residual(world: &mut World) -> Box<dyn Subject> {
    join(world, JoinKind::Semi, true)
}

fn anti_residual(world: &mut World) -> Box<dyn Subject> {
    join(world, JoinKind::Anti, true)
}

fn not_in(world: &mut World) -> Box<dyn Subject> {
    join(world, JoinKind::NullAwareAnti, false)
}

/// A stored bag with an index.
struct Bag(Stored, Vec<TableId>);

impl Subject for Bag {
    fn step(&self, deltas: &[Delta], states: States<'_>, writes: &mut Writes) -> engine::Result<Delta> {
        let delta = deltas[0].consolidate(&TYPES)?;
        let rows = encode(&self.0.layout, &delta.batch)?;
        self.0.write_net(&rows, &delta.weights, &mut Keeping { states, keeps: &|index| index.built, writes })?;
        Ok(delta)
    }

    fn tables(&self) -> Vec<TableId> {
        self.1.clone()
    }

    fn inputs(&self) -> usize {
        1
    }
}

fn bag(world: &mut World) -> Box<dyn Subject> {
    let tables = vec![world.table(), world.table()];
    let mut stored = Stored::new(tables[0], schema(&TYPES));
    stored.indexes.push(Index { columns: vec![0], buckets: Buckets { table: tables[1] }, built: true });
    Box::new(Bag(stored, tables))
}

const SUBJECTS: [(&str, Make); 11] = [
    ("limit", limit),
    ("numbered", numbered),
    ("by key", by_key),
    ("by all", by_all),
    ("inner", inner),
    ("left", left),
    ("left residual", left_residual),
    ("semi residual", semi_residual),
    ("anti residual", anti_residual),
    ("not in", not_in),
    ("bag", bag),
];

/// One change: which input, which row of the universe, in or out.
type Change = (usize, Vec<Value>, i64);

fn text(n: u8) -> Value {
    let long = |tail: &str| Value::Text("x".repeat(1500) + tail);
    match n {
        0 => Value::Null,
        1 => Value::Text(String::new()),
        2 => Value::Text("b\0".to_owned()),
        3 => long("b"),
        4 => long("a"),
        5 => long("ab"),
        _ => Value::Text("a".repeat(120)),
    }
}

fn row() -> impl Strategy<Value = Vec<Value>> {
    let key = prop_oneof![3 => (0_i64..2).prop_map(Value::Int), 1 => Just(Value::Null)];
    let floats = vec![0.0, -0.0, 0.1, 1e16, -1e16, 1.0, f64::NAN, f64::INFINITY];
    let float = prop_oneof![4 => prop::sample::select(floats).prop_map(Value::Float), 1 => Just(Value::Null)];
    (key, 0_i64..3, float, (0_u8..7).prop_map(text)).prop_map(|(k, n, f, t)| vec![k, Value::Int(n), f, t])
}

/// Raw choices: an input, a row, and whether it goes if it is there.
fn choices(len: usize) -> impl Strategy<Value = Vec<(usize, Vec<Value>, bool)>> {
    prop::collection::vec((0_usize..2, row(), any::<bool>()), 0..len)
}

fn layout() -> Layout {
    Layout::new(TYPES.to_vec())
}

fn bytes_of(row: &[Value]) -> Vec<u8> {
    let mut rows = Rows::new();
    rows.push_values(&layout(), row).unwrap();
    rows.get(0).to_vec()
}

/// Makes changes of choices: a row goes only if it is there, else it comes.
fn changes(
    choices: &[(usize, Vec<Value>, bool)],
    inputs: usize,
    there: &mut BTreeMap<(usize, Vec<u8>), i64>,
) -> Vec<Change> {
    let mut out = Vec::new();
    for (input, row, goes) in choices {
        let input = input % inputs;
        let count = there.entry((input, bytes_of(row))).or_insert(0);
        let weight = if *goes && *count > 0 { -1 } else { 1 };
        *count += weight;
        out.push((input, row.clone(), weight));
    }
    out
}

fn deltas(changes: &[Change], inputs: usize) -> Vec<Delta> {
    let of_input = |input: usize| {
        let mut rows = Rows::new();
        let mut weights = Vec::new();
        for (_, row, weight) in changes.iter().filter(|change| change.0 == input) {
            rows.push_values(&layout(), row).unwrap();
            weights.push(*weight);
        }
        let columns: Vec<usize> = (0..TYPES.len()).collect();
        Delta::new(decode(rows.iter(), &layout(), &columns, &arrow_schema(&schema(&TYPES))).unwrap(), weights)
    };
    (0..inputs).map(of_input).collect()
}

fn reversed(changes: &[Change]) -> Vec<Change> {
    changes.iter().rev().map(|(input, row, weight)| (*input, row.clone(), -weight)).collect()
}

fn sum(a: &Net, b: &Net) -> Net {
    let mut net = a.clone();
    b.iter().for_each(|(row, weight)| *net.entry(row.clone()).or_insert(0) += weight);
    net.retain(|_, weight| *weight != 0);
    net
}

fn check(make: Make, first: &[(usize, Vec<Value>, bool)], second: &[(usize, Vec<Value>, bool)]) -> Result<(), String> {
    let mut world = WORLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let world = world.get_or_insert_with(World::new);
    let (apart, at_once, one_by_one) = (make(world), make(world), make(world));
    let inputs = apart.inputs();
    let mut there = BTreeMap::new();
    let first = changes(first, inputs, &mut there);
    let second = changes(second, inputs, &mut there);

    let of_first = world.step(&*apart, &deltas(&first, inputs))?;
    let between = world.dump(&apart.tables());
    let of_second = world.step(&*apart, &deltas(&second, inputs))?;
    let kept = world.dump(&apart.tables());

    let both = [first, second.clone()].concat();
    let of_both = world.step(&*at_once, &deltas(&both, inputs))?;
    if sum(&of_first, &of_second) != of_both {
        return Err("two steps answer otherwise than one".to_owned());
    }
    if world.dump(&at_once.tables()) != kept {
        return Err("two steps keep otherwise than one".to_owned());
    }
    let mut of_singles = Net::new();
    for change in &both {
        of_singles = sum(&of_singles, &world.step(&*one_by_one, &deltas(std::slice::from_ref(change), inputs))?);
    }
    if of_singles != of_both {
        return Err("single changes answer otherwise than one step".to_owned());
    }
    if world.dump(&one_by_one.tables()) != kept {
        return Err("single changes keep otherwise than one step".to_owned());
    }
    let back = world.step(&*apart, &deltas(&reversed(&second), inputs))?;
    if !sum(&of_second, &back).is_empty() {
        return Err("the reverse of a step does not take its answer back".to_owned());
    }
    if world.dump(&apart.tables()) != between {
        return Err("the reverse of a step leaves another state".to_owned());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn steps_may_be_cut_anywhere_and_taken_back(first in choices(24), second in choices(24)) {
        for (name, make) in SUBJECTS {
            if let Err(error) = check(make, &first, &second) {
                prop_assert!(false, "{name}: {error}");
            }
        }
    }
    #[test]
    fn failed_pairs_are_those_that_are_there(steps in prop::collection::vec(choices(8), 1..5)) {
        let mut world = WORLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let world = world.get_or_insert_with(World::new);
        for kind in [JoinKind::Inner, JoinKind::Left, JoinKind::Semi, JoinKind::Anti] {
            let join = join_on(world, kind, Some((lit(6_i64) / col("c1")).gt(col("c5"))));
            let mut there = BTreeMap::new();
            for step in &steps {
                let changes = changes(step, 2, &mut there);
                world.step(&join, &deltas(&changes, 2)).unwrap();
            }
            let values = |row: &Vec<u8>| layout().values(row);
            let mut wanted = Net::new();
            let of_side = |side: usize| there.iter().filter(move |((input, _), count)| *input == side && **count > 0);
            for ((_, left), lefts) in of_side(0) {
                for ((_, right), rights) in of_side(1) {
                    let (l, r) = (values(left), values(right));
                    if l[0] == r[0] && l[0] != Value::Null && l[1] == Value::Int(0) {
                        let mut rows = Rows::new();
                        rows.push_values(&Layout::new([TYPES, TYPES].concat()), &[l, r].concat()).unwrap();
                        *wanted.entry(rows.get(0).to_vec()).or_insert(0) += lefts * rights;
                    }
                }
            }
            let mut failed = join.failed.lock().unwrap();
            failed.retain(|_, weight| *weight != 0);
            prop_assert_eq!(&*failed, &wanted);
        }
    }
}
