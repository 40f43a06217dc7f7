//! The first rows of each partition in an order: `row_number() … <= k`, `order by … limit`.
//!
//! State: an index by partition whose entries are order key and a hash of the row → weight and row. Law: the entries are
//! the rows of the partition, whole and with their weights; two rows are one only if all their bytes are the same. An
//! update that leaves a row's place in the order is therefore a row that goes and another that comes.
//!
//! A small partition is one value, found by one read; a large one is scanned in order. A step walks each touched partition
//! once from its beginning, the old rows merged with the delta, until both the old and the new window are full, and emits
//! their difference. Cost: the window plus the changes before its end. Where long texts are cut in the order key, the rows
//! that agree up to the cut are read together and put in order by their values.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::SchemaRef;
use relation::columns::{RowEncoder, decode};
use relation::key::{KeyEncoder, Order, hash128};
use relation::{DataType, Delta, Layout, TableId};
use store::Writes;

use super::rule::{Around, Inputs, Rule, Ruled};
use super::{States, in_shards, shard_range};
use crate::buckets::{Buckets, Change, KeyChange, Ordered, read_weighted};
use crate::build::Builder;
use crate::error::{Error, Result};
use crate::expr::arrow_schema;
use crate::graph::{Compiling, Node, NodeIndex};
use crate::pour::Portion;

/// Bytes of the row's hash at the end of an entry's key.
const HASH_BYTES: usize = 16;

/// The rule of one top-k node.
pub struct TopKOp {
    partition: Vec<usize>,
    order: Vec<(usize, Order)>,
    first: u64,
    last: u64,
    numbered: bool,
    layout: Layout,
    state: Buckets,
    schema: SchemaRef,
}

/// A row of a partition: the key of its entry, and the row.
type Placed = Arc<(Vec<u8>, Vec<u8>)>;

/// Net changes of one partition's rows, by the keys of their entries.
type Changes = BTreeMap<Vec<u8>, RowChange>;

/// How often a row comes (or goes, below zero), and the row.
struct RowChange {
    weight: i64,
    row: Vec<u8>,
}

/// Net changes by partition.
type Net = BTreeMap<Vec<u8>, Changes>;

/// A row that came into a window or left it: its number, by how much.
struct Moved {
    row: Placed,
    number: u64,
    weight: i64,
}

/// A row of a partition, and how often it was and is there.
struct Met {
    row: Placed,
    before: i64,
    after: i64,
}

/// What a window shows of a row: so many copies, numbered from the first one's number.
struct Shown {
    row: Placed,
    number: u64,
    copies: u64,
}

impl TopKOp {
    /// Rows numbered `offset + 1` to `offset + limit` of each partition.
    pub fn new(
        partition: &[usize],
        order: &[(usize, Order)],
        (offset, limit): (u64, u64),
        numbered: bool,
        types: Vec<DataType>,
        output: &relation::Schema,
        state: TableId,
    ) -> Self {
        Self {
            partition: partition.to_vec(),
            order: order.to_vec(),
            first: offset + 1,
            last: offset.saturating_add(limit),
            numbered,
            layout: Layout::new(types),
            state: Buckets { table: state },
            schema: arrow_schema(output),
        }
    }

    /// The delta rule.
    pub fn apply(&self, delta: &Delta, states: States<'_>, writes: &mut Writes) -> Result<Delta> {
        let net = self.net(delta)?;
        let touched: Vec<_> = net.into_iter().collect();
        let shards = states.shards_for(touched.len());
        if shards == 1 {
            let moved = self.apply_to(&touched, states, writes)?;
            return self.emit(&moved);
        }
        let parts = in_shards(shards, |i| {
            let mut writes = Writes::new();
            let touched = &touched[shard_range(touched.len(), shards, i)];
            Ok((self.apply_to(touched, states.within_shard(), &mut writes)?, writes))
        })?;
        let mut moved = Vec::new();
        for (part, written) in parts {
            moved.extend(part);
            writes.append(written);
        }
        self.emit(&moved)
    }

    /// The state alone, for a build: nobody asks for the windows before all rows are there.
    pub fn keep(&self, delta: &Delta, states: States<'_>, writes: &mut Writes) -> Result<()> {
        let net = self.net(delta)?;
        let changes = net.iter().flat_map(|(partition, changes)| state_changes(partition, changes)).collect();
        self.state.apply(Some(states), changes, writes)
    }

    /// The rows of a window at most.
    pub fn rows_max(&self) -> u64 {
        (self.last + 1 - self.first).max(1)
    }

    /// Where the partitions are: a table, and with what its keys that name one begin.
    pub fn partitions(&self) -> (TableId, &'static [u8]) {
        (self.state.table, Buckets::KEYS)
    }

    /// The windows of partitions, as before the step.
    pub fn find<'k>(&self, states: States<'_>, partitions: impl Iterator<Item = &'k [u8]>) -> Result<Delta> {
        let mut rows = Vec::new();
        for partition in partitions {
            let (window, _) = self.windows(partition, &Changes::new(), states)?;
            self.difference(Vec::new(), window, &mut rows)?;
        }
        self.emit(&rows)
    }

    fn apply_to(&self, touched: &[(Vec<u8>, Changes)], states: States<'_>, writes: &mut Writes) -> Result<Vec<Moved>> {
        let mut out = Vec::new();
        let mut written: Vec<KeyChange> = Vec::new();
        for (partition, changes) in touched {
            let (before, after) = self.windows(partition, changes, states)?;
            self.difference(before, after, &mut out)?;
            written.extend(state_changes(partition, changes));
        }
        self.state.apply(Some(states), written, writes)?;
        Ok(out)
    }

    fn net(&self, delta: &Delta) -> Result<Net> {
        let column = |c: usize| (Arc::clone(delta.batch.column(c)), self.layout.types()[c]);
        let partitions = KeyEncoder::new(self.partition.iter().map(|&c| column(c)).collect());
        let orders = self.order.iter().map(|&(c, order)| {
            let (array, data_type) = column(c);
            (array, data_type, order)
        });
        let orders = KeyEncoder::ordered(orders.collect());
        let encoder = RowEncoder::new(self.layout.clone(), delta.batch.columns().to_vec());
        let mut net = Net::new();
        for (i, &weight) in delta.weights.iter().enumerate() {
            let mut partition = Vec::new();
            partitions.push(i, &mut partition);
            let mut key = Vec::new();
            orders.push(i, &mut key);
            let mut row = Vec::new();
            encoder.push(i, &mut row)?;
            key.extend_from_slice(&hash128(&row));
            let change = net.entry(partition).or_default().entry(key);
            let change = change.or_insert_with(|| RowChange { weight: 0, row: Vec::new() });
            change.weight = change.weight.checked_add(weight).ok_or(relation::Error::Overflow("weight"))?;
            change.row = row;
        }
        net.values_mut().for_each(|changes| changes.retain(|_, change| change.weight != 0));
        Ok(net)
    }

    /// The windows before and after.
    fn windows(&self, partition: &[u8], changes: &Changes, states: States<'_>) -> Result<(Vec<Shown>, Vec<Shown>)> {
        let mut before = Walk::new(self.first, self.last);
        let mut after = Walk::new(self.first, self.last);
        let mut rows =
            Merged { stored: self.state.ordered(states, partition)?.peekable(), changed: changes.iter().peekable() };
        while !(before.is_full() && after.is_full()) {
            let Some(met) = rows.next().transpose()? else { break };
            let Some(ordered) = self.ordered_bytes(&met.row) else {
                before.push(met.before, &met.row);
                after.push(met.after, &met.row);
                continue;
            };
            let prefix = met.row.0[..ordered].to_vec();
            let mut run = vec![met];
            while let Some(next) = rows.next_if_begins(&prefix).transpose()? {
                run.push(next);
            }
            run.sort_by(|a, b| self.compare(&a.row, &b.row));
            for met in run {
                before.push(met.before, &met.row);
                after.push(met.after, &met.row);
            }
        }
        Ok((before.window, after.window))
    }

    /// How many bytes of a row's entry key are in order; none where all are, up to the row's hash.
    fn ordered_bytes(&self, row: &Placed) -> Option<usize> {
        let (key, row) = &**row;
        relation::key::ordered_bytes(&self.layout, row, &self.order, key.len().saturating_sub(HASH_BYTES))
    }

    fn compare(&self, a: &Placed, b: &Placed) -> Ordering {
        relation::key::compare(&self.layout, &a.1, &b.1, &self.order).then_with(|| a.0.cmp(&b.0))
    }

    fn difference(&self, before: Vec<Shown>, after: Vec<Shown>, out: &mut Vec<Moved>) -> Result<()> {
        // Unnumbered rows differ by what they are, numbered ones also by where they stand.
        let mut net: BTreeMap<(u64, Placed), i64> = BTreeMap::new();
        for (sign, window) in [(-1, before), (1, after)] {
            for Shown { row, number, copies } in window {
                if self.numbered {
                    let numbers = number..number + copies;
                    numbers.for_each(|number| *net.entry((number, Arc::clone(&row))).or_insert(0) += sign);
                } else {
                    let copies = i64::try_from(copies).map_err(|_| relation::Error::Overflow("weight"))?;
                    *net.entry((0, row)).or_insert(0) += sign * copies;
                }
            }
        }
        let moved = net.into_iter().filter(|(_, weight)| *weight != 0);
        out.extend(moved.map(|((number, row), weight)| Moved { row, number, weight }));
        Ok(())
    }

    fn emit(&self, rows: &[Moved]) -> Result<Delta> {
        let columns: Vec<usize> = (0..self.layout.types().len()).collect();
        let schema = Arc::new(self.schema.project(&columns)?);
        let encoded = rows.iter().map(|moved| moved.row.1.as_slice());
        let batch = decode(encoded, &self.layout, &columns, &schema)?;
        let mut arrays: Vec<ArrayRef> = batch.columns().to_vec();
        if self.numbered {
            let number =
                |moved: &Moved| i64::try_from(moved.number).map_err(|_| relation::Error::Overflow("row_number"));
            arrays
                .push(Arc::new(rows.iter().map(number).collect::<std::result::Result<Int64Array, relation::Error>>()?));
        }
        let weights = rows.iter().map(|moved| moved.weight).collect();
        Ok(Delta::new(relation::columns::batch(&self.schema, arrays, rows.len())?, weights))
    }
}

/// What changes in the state of one partition.
fn state_changes(partition: &[u8], changes: &Changes) -> impl Iterator<Item = KeyChange> {
    let change = |change: &RowChange| Change::Add(change.weight, change.row.clone());
    changes.iter().map(move |(key, row)| (partition.to_vec(), key.clone(), change(row)))
}

/// The old rows of a partition merged with its changes, by the keys of their entries.
struct Merged<'a> {
    stored: Peekable<Ordered>,
    changed: Peekable<btree_map::Iter<'a, Vec<u8>, RowChange>>,
}

impl Merged<'_> {
    /// The next row, if its key begins so.
    fn next_if_begins(&mut self, prefix: &[u8]) -> Option<Result<Met>> {
        let stored = matches!(self.stored.peek(), Some(Ok((key, _))) if key.starts_with(prefix));
        let failed = matches!(self.stored.peek(), Some(Err(_)));
        let changed = self.changed.peek().is_some_and(|(key, _)| key.starts_with(prefix));
        // What begins so lies before everything that does not, on both sides.
        if stored || failed || changed { self.next() } else { None }
    }

    fn change(&mut self) -> Option<Result<Met>> {
        let (key, change) = self.changed.next()?;
        if change.weight < 0 {
            return Some(Err(broken("a row goes that is not there")));
        }
        let row = Arc::new((key.clone(), change.row.clone()));
        Some(Ok(Met { row, before: 0, after: change.weight }))
    }

    fn old(&mut self) -> Option<Result<Met>> {
        let (key, value) = match self.stored.next()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let added = self.changed.next_if(|(changed, _)| **changed == key).map_or(0, |(_, change)| change.weight);
        Some(placed(key, value, added))
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<Met>;

    fn next(&mut self) -> Option<Result<Met>> {
        match (self.stored.peek(), self.changed.peek()) {
            (None | Some(Ok(_)), None) | (Some(Err(_)), _) => self.old(),
            (None, Some(_)) => self.change(),
            (Some(Ok((stored, _))), Some((changed, _))) => {
                if *changed < stored {
                    self.change()
                } else {
                    self.old()
                }
            }
        }
    }
}

/// A stored row with what a delta adds to its weight.
fn placed(key: Vec<u8>, mut value: Vec<u8>, added: i64) -> Result<Met> {
    let (before, _) = read_weighted(&value)?;
    value.drain(..size_of::<i64>());
    let after = before.checked_add(added).ok_or(relation::Error::Overflow("weight"))?;
    if after < 0 {
        return Err(broken("a row counted fewer than no times"));
    }
    Ok(Met { row: Arc::new((key, value)), before, after })
}

fn broken(what: &'static str) -> Error {
    Error::Broken { node: "top-k".to_owned(), what }
}

/// Fills a window while rows pass in order.
struct Walk {
    first: u64,
    last: u64,
    passed: u64,
    window: Vec<Shown>,
}

impl Walk {
    fn new(first: u64, last: u64) -> Self {
        Self { first, last, passed: 0, window: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.passed >= self.last
    }

    /// A row passes `weight` times.
    fn push(&mut self, weight: i64, row: &Placed) {
        let copies = weight.unsigned_abs().min(self.last - self.passed.min(self.last));
        let from = self.passed + 1;
        self.passed += copies;
        let number = from.max(self.first);
        if copies > 0 && self.passed >= number {
            self.window.push(Shown { row: Arc::clone(row), number, copies: self.passed + 1 - number });
        }
    }
}

/// The rule of a top-k, with its state.
pub(super) fn compile(
    partition: &[usize],
    order: &[(usize, Order)],
    window: (u64, u64),
    numbered: bool,
    from: &mut Compiling<'_, '_>,
) -> Result<Arc<dyn Rule>> {
    let state = from.state("");
    Ok(Arc::new(TopKOp::new(partition, order, window, numbered, from.types(0), &from.node.schema, state)))
}

impl Rule for TopKOp {
    fn word(&self) -> &'static str {
        "top-k"
    }

    fn is_in_buckets(&self) -> bool {
        true
    }

    fn apply(&self, node: &Node, inputs: &Inputs<'_>, around: Around<'_>, writes: &mut Writes) -> Result<Ruled> {
        let [Some(delta)] = inputs else { return Ok(Delta::empty(&node.arrow).into()) };
        Ok(Self::apply(self, delta, around.states, writes)?.into())
    }

    fn states(&self) -> Vec<TableId> {
        vec![self.state.table]
    }

    fn build(&self, _: NodeIndex, node: &Node, builder: &mut Builder) -> Result<()> {
        builder.pour(node.inputs[0], &mut |builder, delta| {
            builder.portion(|_, states, writes| self.keep(&delta, states, writes))
        })
    }

    fn pour(&self, _: NodeIndex, _: &Node, builder: &mut Builder, each: &mut Portion<'_>) -> Result<()> {
        builder.pour_windows(self, each)
    }

    fn keeps(&self) -> bool {
        true
    }
}
