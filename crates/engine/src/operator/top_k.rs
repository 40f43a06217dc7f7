//! The first rows of each partition in an order: `row_number() … <= k`, `order by … limit`.
//!
//! State: an index by partition whose entries are the order's key → weight and row; the order is total. A small partition
//! is one value, found by one read; a large one is scanned in order. A step walks each touched partition once from its
//! beginning, the old rows merged with the delta, until both the old and the new window are full, and emits their
//! difference. Cost: the window plus the changes before its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::SchemaRef;
use relation::columns::{RowEncoder, decode};
use relation::key::{KeyEncoder, Order};
use relation::{DataType, Delta, Layout, TableId};
use store::Writes;

use super::rule::{Around, Inputs, Rule, Ruled};
use super::{States, in_shards, shard_range};
use crate::buckets::{Buckets, Change, KeyChange, weight_of};
use crate::build::Builder;
use crate::error::Result;
use crate::expr::arrow_schema;
use crate::graph::{Compiling, Node, NodeIndex};
use crate::pour::Portion;

/// The rule of one top-k node.
pub struct TopKOp {
    partition: Vec<usize>,
    order: Vec<(usize, Order)>,
    first: u64,
    last: u64,
    numbered: bool,
    types: Vec<DataType>,
    state: Buckets,
    schema: SchemaRef,
}

/// Net changes of one partition's rows, by key: weight and the row.
type Changes = BTreeMap<Vec<u8>, (i64, Vec<u8>)>;

/// Net changes by partition.
type Net = BTreeMap<Vec<u8>, Changes>;

/// A row that came into a window or left it: key and row, its number, by how much.
type Moved = (Arc<(Vec<u8>, Vec<u8>)>, u64, i64);

/// A row of a window: its number and its key.
type Window = Vec<(u64, Arc<(Vec<u8>, Vec<u8>)>)>;

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
            types,
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
            let numbered = window.into_iter().map(|(number, row)| (row, if self.numbered { number } else { 0 }, 1));
            rows.extend(numbered);
        }
        self.emit(&rows)
    }

    fn apply_to(&self, touched: &[(Vec<u8>, Changes)], states: States<'_>, writes: &mut Writes) -> Result<Vec<Moved>> {
        let mut out = Vec::new();
        let mut written: Vec<KeyChange> = Vec::new();
        for (partition, changes) in touched {
            let (before, after) = self.windows(partition, changes, states)?;
            self.difference(before, after, &mut out);
            written.extend(state_changes(partition, changes));
        }
        self.state.apply(Some(states), written, writes)?;
        Ok(out)
    }

    fn net(&self, delta: &Delta) -> Result<Net> {
        let column = |c: usize| (Arc::clone(delta.batch.column(c)), self.types[c]);
        let partitions = KeyEncoder::new(self.partition.iter().map(|&c| column(c)).collect());
        let orders = self.order.iter().map(|&(c, order)| {
            let (array, data_type) = column(c);
            (array, data_type, order)
        });
        let orders = KeyEncoder::ordered(orders.collect());
        let encoder = RowEncoder::new(Layout::new(self.types.clone()), delta.batch.columns().to_vec());
        let mut net = Net::new();
        for (i, &weight) in delta.weights.iter().enumerate() {
            let mut partition = Vec::new();
            partitions.push(i, &mut partition);
            let mut key = Vec::new();
            orders.push(i, &mut key);
            let mut row = Vec::new();
            encoder.push(i, &mut row)?;
            let rows = net.entry(partition).or_default();
            // An update that keeps the order key but not the row: the later row is the one that stays.
            let entry = rows.entry(key).or_insert_with(|| (0, Vec::new()));
            entry.0 = entry.0.checked_add(weight).ok_or(relation::Error::Overflow("weight"))?;
            if weight > 0 || entry.1.is_empty() {
                entry.1 = row;
            }
        }
        Ok(net)
    }

    /// The windows before and after.
    fn windows(&self, partition: &[u8], changes: &Changes, states: States<'_>) -> Result<(Window, Window)> {
        let mut before = Walk::new(self.first, self.last);
        let mut after = Walk::new(self.first, self.last);
        let mut stored = self.state.ordered(states, partition)?;
        let mut changed = changes.iter().peekable();
        let mut next_stored = stored.next().transpose()?;
        while !(before.is_full() && after.is_full()) {
            let take_change = match (&next_stored, changed.peek()) {
                (None, None) => break,
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (Some((stored_key, _)), Some((key, _))) => *key <= stored_key,
            };
            if !take_change {
                let Some((key, value)) = next_stored.take() else { break };
                let weight = weight_of(&value)?;
                let row = Arc::new((key, row_of(value)));
                before.push(weight, &row);
                after.push(weight, &row);
                next_stored = stored.next().transpose()?;
                continue;
            }
            let Some((key, (weight, row))) = changed.next() else { break };
            let mut old = 0;
            if let Some((_, value)) = next_stored.take_if(|(stored_key, _)| stored_key == key) {
                old = weight_of(&value)?;
                before.push(old, &Arc::new((key.clone(), row_of(value))));
                next_stored = stored.next().transpose()?;
            }
            after.push(old + weight, &Arc::new((key.clone(), row.clone())));
        }
        Ok((before.window, after.window))
    }

    fn difference(&self, before: Window, after: Window, out: &mut Vec<Moved>) {
        // Unnumbered rows differ by what they are, numbered ones also by where they stand.
        let mut net: BTreeMap<(u64, Arc<(Vec<u8>, Vec<u8>)>), i64> = BTreeMap::new();
        let place = |number: u64| if self.numbered { number } else { 0 };
        for (number, row) in before {
            *net.entry((place(number), row)).or_insert(0) -= 1;
        }
        for (number, row) in after {
            *net.entry((place(number), row)).or_insert(0) += 1;
        }
        out.extend(net.into_iter().filter(|(_, w)| *w != 0).map(|((number, row), w)| (row, number, w)));
    }

    fn emit(&self, rows: &[Moved]) -> Result<Delta> {
        let columns: Vec<usize> = (0..self.types.len()).collect();
        let schema = Arc::new(self.schema.project(&columns)?);
        let encoded = rows.iter().map(|(row, ..)| row.1.as_slice());
        let batch = decode(encoded, &Layout::new(self.types.clone()), &columns, &schema)?;
        let mut arrays: Vec<ArrayRef> = batch.columns().to_vec();
        if self.numbered {
            arrays.push(Arc::new(UInt64Array::from_iter_values(rows.iter().map(|&(_, number, _)| number))));
        }
        let weights = rows.iter().map(|&(.., weight)| weight).collect();
        Ok(Delta::new(relation::columns::batch(&self.schema, arrays, rows.len())?, weights))
    }
}

/// What changes in the state of one partition.
fn state_changes(partition: &[u8], changes: &Changes) -> impl Iterator<Item = KeyChange> {
    let changed = changes.iter().filter(|(_, (weight, _))| *weight != 0);
    changed.map(|(key, (weight, row))| (partition.to_vec(), key.clone(), Change::Add(*weight, row.clone())))
}

/// The row in a value that has its weight before it.
fn row_of(mut value: Vec<u8>) -> Vec<u8> {
    value.drain(..value.len().min(8));
    value
}

/// Fills a window while rows pass in order.
struct Walk {
    first: u64,
    last: u64,
    passed: u64,
    window: Window,
}

impl Walk {
    fn new(first: u64, last: u64) -> Self {
        Self { first, last, passed: 0, window: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.passed >= self.last
    }

    fn push(&mut self, weight: i64, row: &Arc<(Vec<u8>, Vec<u8>)>) {
        for _ in 0..weight.max(0) {
            if self.is_full() {
                return;
            }
            self.passed += 1;
            if self.passed >= self.first {
                self.window.push((self.passed, Arc::clone(row)));
            }
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

    fn build(&self, node: &Node, builder: &mut Builder) -> Result<()> {
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
