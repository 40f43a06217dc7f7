//! The first rows of each partition in an order: `row_number() … <= k`, `order by … limit`.
//!
//! State: (partition, order) → weight and row, in key order; the order is total. A step walks each touched partition once
//! from its beginning, the old rows merged with the delta, until both the old and the new window are full, and emits
//! their difference. Cost: the window plus the changes before its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::SchemaRef;
use relation::columns::{RowEncoder, decode};
use relation::key::{KeyEncoder, Order};
use relation::{DataType, Delta, Layout, TableId};
use store::Writes;

use super::{States, in_shards, shard_range};
use crate::buckets::{weight_of, weighted};
use crate::error::{Error, Result};
use crate::expr::arrow_schema;

/// The rule of one top-k node.
pub struct TopKOp {
    partition: Vec<usize>,
    order: Vec<(usize, Order)>,
    first: u64,
    last: u64,
    numbered: bool,
    types: Vec<DataType>,
    state: TableId,
    schema: SchemaRef,
    node: String,
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
        node: String,
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
            state,
            schema: arrow_schema(output),
            node,
        }
    }

    /// The delta rule; `states` none while the state is built and known to be empty.
    pub fn apply(&self, delta: &Delta, states: Option<States<'_>>, writes: &mut Writes) -> Result<Delta> {
        let net = self.net(delta)?;
        let touched: Vec<_> = net.iter().collect();
        let shards = states.map_or(1, |states| states.shards_for(touched.len()));
        if shards == 1 {
            let changed = self.apply_to(&touched, states, writes)?;
            return self.emit(&changed);
        }
        let parts = in_shards(shards, |i| {
            let mut writes = Writes::new();
            let touched = &touched[shard_range(touched.len(), shards, i)];
            let changed = self.apply_to(touched, states.map(States::within_shard), &mut writes)?;
            Ok((changed, writes))
        })?;
        let mut changed = Vec::new();
        for (part, written) in parts {
            changed.extend(part);
            writes.append(written);
        }
        self.emit(&changed)
    }

    fn apply_to(
        &self,
        touched: &[(&Vec<u8>, &Changes)],
        states: Option<States<'_>>,
        writes: &mut Writes,
    ) -> Result<Vec<Moved>> {
        let mut out = Vec::new();
        for (partition, changes) in touched {
            let mut seen: BTreeMap<&[u8], i64> = BTreeMap::new();
            let (before, after) = self.windows(partition, changes, states, &mut seen)?;
            self.difference(before, after, &mut out);
            for (key, (weight, row)) in *changes {
                let old = match (seen.get(key.as_slice()), states) {
                    (Some(&old), _) => old,
                    (None, Some(states)) => states.get(self.state, key)?.map_or(0, |v| weight_of(&v)),
                    (None, None) => 0,
                };
                match old.checked_add(*weight).ok_or(relation::Error::Overflow("weight"))? {
                    0 => writes.delete(self.state, key),
                    new @ 1.. => writes.put(self.state, key, &weighted(new, row)),
                    _ => {
                        return Err(Error::Broken {
                            node: self.node.clone(),
                            what: "a row counted fewer than no times",
                        });
                    }
                }
            }
        }
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
            let mut key = partition.clone();
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

    /// The windows before and after, and the old weights of the changed keys that were met.
    fn windows<'c>(
        &self,
        partition: &[u8],
        changes: &'c Changes,
        states: Option<States<'_>>,
        seen: &mut BTreeMap<&'c [u8], i64>,
    ) -> Result<(Window, Window)> {
        let mut before = Walk::new(self.first, self.last);
        let mut after = Walk::new(self.first, self.last);
        let mut stored = states.map(|states| states.snapshot.scan(self.state, partition));
        let mut changed = changes.iter().peekable();
        let mut next_stored = stored.as_mut().and_then(Iterator::next).transpose()?;
        while !(before.is_full() && after.is_full()) {
            let take_change = match (&next_stored, changed.peek()) {
                (None, None) => break,
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (Some((stored_key, _)), Some((key, _))) => key.as_slice() <= &**stored_key,
            };
            if !take_change {
                let Some((key, value)) = next_stored.take() else { break };
                let row = Arc::new((key.to_vec(), value.get(8..).unwrap_or_default().to_vec()));
                before.push(weight_of(&value), &row);
                after.push(weight_of(&value), &row);
                next_stored = stored.as_mut().and_then(Iterator::next).transpose()?;
                continue;
            }
            let Some((key, (weight, row))) = changed.next() else { break };
            let mut old = 0;
            let mut old_row = None;
            if let Some((stored_key, value)) = &next_stored
                && **stored_key == **key
            {
                old = weight_of(value);
                old_row = Some(Arc::new((key.clone(), value.get(8..).unwrap_or_default().to_vec())));
                next_stored = stored.as_mut().and_then(Iterator::next).transpose()?;
            }
            seen.insert(key, old);
            if let Some(old_row) = &old_row {
                before.push(old, old_row);
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
