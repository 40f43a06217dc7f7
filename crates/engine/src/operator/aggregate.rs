//! Aggregates of groups.
//!
//! Law: linear in the group. State `groups`: group key → rows, accumulators, and the group's own columns where the key
//! has cut them. A step adds up its delta per group,
//! reads the group once, retracts the old row and emits the new one (nothing if they are equal): a group touched a
//! thousand times changes once.
//!
//! What is not linear (min, max, anything DISTINCT) stands on a multiset, state (group key, value key) → count, shared by
//! all aggregates over the same argument and filter. Its counts crossing zero drive the distinct aggregates; min and max
//! keep the present extreme in the group and look for the next one only when that one leaves.
//!
//! Sums of integers and decimals are exact in 128 or 256 bits; sums of floats are exact too ([`plan::float_sum`]), so that
//! a retraction gives back what was there.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal256Array, Float64Array, Int64Array, RecordBatch,
    UInt64Array,
};
use arrow::compute::concat;
use arrow::datatypes::{
    Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, SchemaRef, UInt64Type,
    i256,
};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use plan::float_sum::FloatSum;
use plan::{Aggregate, AggregateFunction};
use relation::columns::{RowEncoder, decode};
use relation::key::{KeyEncoder, LONG_PART};
use relation::{DataType, Delta, Layout, Rows, TableId};
use std::hash::BuildHasher;
use store::Writes;

use super::join::{Found, KeyOf};
use super::rule::{Around, Inputs, PointKey, Rule, Ruled};
use super::{States, in_shards, shard_rows};
use crate::arrange::Side;
use crate::build::Builder;
use crate::error::{Error, Result};
use crate::expr::{MapProgram, arrow_schema};
use crate::graph::{Compiling, Graph, Node, NodeIndex, Surroundings};
use crate::pour::Portion;

/// The rule of one aggregate node.
pub struct AggregateOp {
    group: Vec<usize>,
    group_layout: Layout,
    input_types: Vec<DataType>,
    aggregates: Vec<Compiled>,
    multisets: Vec<Multiset>,
    groups: TableId,
    schema: SchemaRef,
    node: String,
}

/// An aggregate and how it is accumulated.
struct Compiled {
    argument: Option<usize>,
    filter: Option<usize>,
    output: DataType,
    kind: Kind,
    /// A distinct sum: it takes each value of this multiset once, when its count leaves or reaches zero.
    once: Option<usize>,
}

impl Compiled {
    fn uses(&self, i: usize) -> bool {
        let of_kind = match self.kind {
            Kind::DistinctCount { multiset } | Kind::Extreme { multiset, .. } => Some(multiset),
            _ => self.once,
        };
        of_kind == Some(i)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Count,
    /// Integers and decimals up to 38 digits; `average` divides at the end.
    Exact {
        average: bool,
    },
    /// Decimals beyond 38 digits.
    Wide {
        average: bool,
    },
    Float {
        average: bool,
    },
    /// True if all (`and`) or any are.
    Bool {
        and: bool,
    },
    /// Number of values in the multiset.
    DistinctCount {
        multiset: usize,
    },
    Extreme {
        multiset: usize,
        max: bool,
    },
}

/// Values of one argument under one filter, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiset {
    argument: usize,
    filter: Option<usize>,
    table: TableId,
}

/// Which multisets the aggregates need, in order: the engine gives each a state of its own.
pub fn multisets_of(aggregates: &[Aggregate]) -> Vec<(usize, Option<usize>)> {
    let mut found = Vec::new();
    for aggregate in aggregates {
        let Some(argument) = aggregate.argument else { continue };
        if needs_multiset(aggregate) && !found.contains(&(argument, aggregate.filter)) {
            found.push((argument, aggregate.filter));
        }
    }
    found
}

fn needs_multiset(aggregate: &Aggregate) -> bool {
    match aggregate.function {
        AggregateFunction::Min | AggregateFunction::Max => true,
        AggregateFunction::BoolAnd | AggregateFunction::BoolOr => false,
        _ => aggregate.distinct,
    }
}

impl AggregateOp {
    /// An aggregate over columns of `input_types`; `tables` are the states: groups first, then the multisets.
    pub fn new(
        node: String,
        group: &[usize],
        aggregates: &[Aggregate],
        input_types: Vec<DataType>,
        output: &relation::Schema,
        tables: &[TableId],
    ) -> Self {
        let wanted = multisets_of(aggregates);
        let multisets: Vec<_> = wanted
            .iter()
            .zip(&tables[1..])
            .map(|(&(argument, filter), &table)| Multiset { argument, filter, table })
            .collect();
        let aggregates = aggregates.iter().map(|a| accumulated(a, &input_types, &wanted)).collect();
        let group_types = group.iter().map(|&c| input_types[c]).collect();
        Self {
            group: group.to_vec(),
            group_layout: Layout::new(group_types),
            input_types,
            aggregates,
            multisets,
            groups: tables[0],
            schema: arrow_schema(output),
            node,
        }
    }

    /// The delta rule.
    pub fn apply(&self, delta: &Delta, states: States<'_>, writes: &mut Writes) -> Result<Delta> {
        let shards = states.shards_for(delta.len());
        if shards == 1 || self.group.is_empty() {
            let mut accumulation = Accumulation::new(self);
            accumulation.add(delta, None)?;
            return accumulation.finish(Some(states), writes);
        }
        let keys = self.group_keys(delta);
        let mut buffer = Vec::new();
        let hasher = FixedState::default();
        let hashes: Vec<u64> = (0..delta.len())
            .map(|row| {
                buffer.clear();
                keys.push(row, &mut buffer);
                hasher.hash_one(buffer.as_slice())
            })
            .collect();
        let parts = shard_rows(&hashes, shards);
        let results = in_shards(shards, |i| {
            let mut accumulation = Accumulation::new(self);
            accumulation.add(delta, Some(&parts[i]))?;
            let mut writes = Writes::new();
            Ok((accumulation.finish(Some(states.within_shard()), &mut writes)?, writes))
        })?;
        let mut deltas = Vec::with_capacity(shards);
        for (delta, written) in results {
            deltas.push(delta);
            writes.append(written);
        }
        Ok(Delta::concat(&self.schema, &deltas)?)
    }

    /// Gathers a whole input, for a build: add its batches, then finish.
    pub fn accumulation(&self) -> Accumulation<'_> {
        Accumulation::new(self)
    }

    /// Number of columns of the group, the first ones of the output.
    pub fn group_columns(&self) -> usize {
        self.group.len()
    }

    /// Whether these columns of the output are the key of its groups, in its order.
    ///
    /// Not where a float is among them: its key does not tell -0.0 from 0.0, so the row cannot be made of it.
    pub fn is_found_by(&self, columns: &[usize]) -> bool {
        self.has_exact_keys() && columns.len() == self.group.len() && columns.iter().enumerate().all(|(i, &c)| i == c)
    }

    /// Whether the row of a group can be made of its key.
    pub fn has_exact_keys(&self) -> bool {
        !self.group_layout.types().iter().any(|t| matches!(t, DataType::Float32 | DataType::Float64))
    }

    /// The table of the groups: its keys are theirs.
    pub fn groups_table(&self) -> TableId {
        self.groups
    }

    /// The output rows of groups by their keys, as before the step.
    pub fn find<'k>(&self, states: States<'_>, keys: usize, key: KeyOf<'_, 'k>) -> Result<Found> {
        let mut found = GroupRows::new(self);
        let mut of_key = Vec::new();
        for i in 0..keys {
            if let Some(group) = states.get(self.groups, key(i))? {
                found.push(key(i), &group)?;
                of_key.push(i as u32);
            }
        }
        Ok(Found { delta: found.finish()?, key: of_key })
    }

    /// The output rows of groups as they stand in [`AggregateOp::groups_table`]: keys and values.
    pub fn rows<'g>(&self, groups: impl Iterator<Item = (&'g [u8], &'g [u8])>) -> Result<Delta> {
        let mut rows = GroupRows::new(self);
        for (key, group) in groups {
            rows.push(key, group)?;
        }
        rows.finish()
    }

    fn group_arrays<'r>(&self, rows: impl ExactSizeIterator<Item = &'r [u8]> + Clone) -> Result<Vec<ArrayRef>> {
        let columns: Vec<usize> = (0..self.group.len()).collect();
        let schema = Arc::new(self.schema.project(&columns)?);
        Ok(decode(rows, &self.group_layout, &columns, &schema)?.columns().to_vec())
    }

    /// Whether a group's row cannot be made of its key: a long text is cut there.
    fn is_cut(&self, row: &[u8]) -> bool {
        let types = self.group_layout.types().iter().enumerate();
        let mut variable = types.filter(|(_, t)| t.is_variable()).map(|(i, _)| i);
        variable.any(|i| !self.group_layout.is_null(row, i) && self.group_layout.bytes(row, i).len() > LONG_PART)
    }

    fn group_keys(&self, delta: &Delta) -> KeyEncoder {
        let columns = self.group.iter().map(|&c| (Arc::clone(delta.batch.column(c)), self.input_types[c]));
        KeyEncoder::new(columns.collect())
    }

    fn broken(&self, what: &'static str) -> Error {
        Error::Broken { node: self.node.clone(), what }
    }
}

fn accumulated(aggregate: &Aggregate, types: &[DataType], multisets: &[(usize, Option<usize>)]) -> Compiled {
    let average = aggregate.function == AggregateFunction::Avg;
    let multiset = || {
        let wanted = (aggregate.argument.unwrap_or(0), aggregate.filter);
        multisets.iter().position(|m| *m == wanted).unwrap_or(0)
    };
    let kind = match aggregate.function {
        AggregateFunction::Count if aggregate.distinct => Kind::DistinctCount { multiset: multiset() },
        AggregateFunction::Count => Kind::Count,
        AggregateFunction::Min => Kind::Extreme { multiset: multiset(), max: false },
        AggregateFunction::Max => Kind::Extreme { multiset: multiset(), max: true },
        AggregateFunction::BoolAnd => Kind::Bool { and: true },
        AggregateFunction::BoolOr => Kind::Bool { and: false },
        AggregateFunction::Sum | AggregateFunction::Avg => match types[aggregate.argument.unwrap_or(0)] {
            DataType::Float32 | DataType::Float64 => Kind::Float { average },
            DataType::Decimal { precision: 39.., .. } => Kind::Wide { average },
            _ => Kind::Exact { average },
        },
    };
    let sums = matches!(kind, Kind::Exact { .. } | Kind::Wide { .. } | Kind::Float { .. });
    Compiled {
        argument: aggregate.argument,
        filter: aggregate.filter,
        output: aggregate.output,
        kind,
        once: (sums && aggregate.distinct).then(multiset),
    }
}

/// Output rows made of stored groups.
struct GroupRows<'a> {
    op: &'a AggregateOp,
    columns: Vec<Column>,
    rows: Rows,
}

impl<'a> GroupRows<'a> {
    fn new(op: &'a AggregateOp) -> Self {
        let columns = op.aggregates.iter().map(|a| Column::new(a.kind)).collect();
        Self { op, columns, rows: Rows::new() }
    }

    fn push(&mut self, key: &[u8], group: &[u8]) -> Result<()> {
        let damaged = || self.op.broken("accumulators cannot be read");
        let mut reader = Reader { bytes: group, at: 0 };
        reader.i64().ok_or_else(damaged)?;
        for column in &mut self.columns {
            column.grow();
            column.read(self.rows.len(), &mut reader).ok_or_else(damaged)?;
        }
        match &group[reader.at..] {
            [] => relation::key::read_row(key, &self.op.group_layout, &mut self.rows)?,
            row => self.rows.push(row),
        }
        Ok(())
    }

    fn finish(self) -> Result<Delta> {
        let slots: Vec<usize> = (0..self.rows.len()).collect();
        let mut arrays = self.op.group_arrays(self.rows.iter())?;
        for (column, aggregate) in self.columns.iter().zip(&self.op.aggregates) {
            arrays.push(column.finish(aggregate, &self.op.input_types, &slots)?);
        }
        let batch = relation::columns::batch(&self.op.schema, arrays, slots.len())?;
        Ok(Delta::new(batch, vec![1; slots.len()]))
    }
}

/// Groups touched by a delta (or met in a build), and what is added to each.
pub struct Accumulation<'a> {
    op: &'a AggregateOp,
    index: HashTable<u32>,
    hasher: FixedState,
    key_bytes: Vec<u8>,
    key_ends: Vec<u32>,
    group_rows: Rows,
    rows: Vec<i64>,
    columns: Vec<Column>,
    counted: Vec<Counted>,
}

/// Accumulators of one aggregate, one per group slot.
#[derive(Debug, Clone)]
enum Column {
    Count(Vec<i64>),
    Exact {
        count: Vec<i64>,
        sum: Vec<i128>,
    },
    Wide {
        count: Vec<i64>,
        sum: Vec<i256>,
    },
    Float {
        count: Vec<i64>,
        sum: Vec<FloatSum>,
    },
    Bool {
        yes: Vec<i64>,
        no: Vec<i64>,
    },
    /// The encoded one-column row of the extreme and its key.
    Extreme(Vec<Option<Vec<u8>>>),
}

/// Net counts of the values of one multiset in this delta: state key → (slot, weight, value row).
struct Counted {
    index: HashTable<u32>,
    key_bytes: Vec<u8>,
    entries: Vec<CountedEntry>,
    values: Rows,
}

struct CountedEntry {
    key_end: u32,
    slot: u32,
    weight: i64,
}

impl Counted {
    fn key(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.entries[i - 1].key_end as usize };
        &self.key_bytes[start..self.entries[i].key_end as usize]
    }
}

impl<'a> Accumulation<'a> {
    fn new(op: &'a AggregateOp) -> Self {
        let columns = op.aggregates.iter().map(|a| Column::new(a.kind)).collect();
        let counted = op.multisets.iter().map(|_| Counted {
            index: HashTable::new(),
            key_bytes: Vec::new(),
            entries: Vec::new(),
            values: Rows::new(),
        });
        Self {
            op,
            index: HashTable::new(),
            hasher: FixedState::default(),
            key_bytes: Vec::new(),
            key_ends: Vec::new(),
            group_rows: Rows::new(),
            rows: Vec::new(),
            columns,
            counted: counted.collect(),
        }
    }

    fn key(&self, slot: usize) -> &[u8] {
        let start = if slot == 0 { 0 } else { self.key_ends[slot - 1] as usize };
        &self.key_bytes[start..self.key_ends[slot] as usize]
    }

    /// Memory of the groups and values so far, about.
    pub fn bytes(&self) -> usize {
        let per_group = 64 + 32 * self.columns.len();
        let counted = self.counted.iter().map(|c| c.key_bytes.len() + c.values.byte_len() + 40 * c.entries.len());
        self.key_bytes.len() + self.group_rows.byte_len() + per_group * self.rows.len() + counted.sum::<usize>()
    }

    /// Adds rows of a delta: all of them, or those at the given positions.
    pub fn add(&mut self, delta: &Delta, rows: Option<&[u32]>) -> Result<()> {
        let positions: Vec<u32> = match rows {
            Some(rows) => rows.to_vec(),
            None => (0..delta.len() as u32).collect(),
        };
        let slots = self.slots(delta, &positions)?;
        for (&row, &slot) in positions.iter().zip(&slots) {
            add_to(&mut self.rows[slot as usize], delta.weights[row as usize])?;
        }
        for (column, aggregate) in self.columns.iter_mut().zip(&self.op.aggregates) {
            column.add(aggregate, &delta.batch, &delta.weights, &positions, &slots)?;
        }
        for i in 0..self.counted.len() {
            self.count_values(i, delta, &positions, &slots)?;
        }
        Ok(())
    }

    fn slots(&mut self, delta: &Delta, positions: &[u32]) -> Result<Vec<u32>> {
        let keys = self.op.group_keys(delta);
        let arrays = self.op.group.iter().map(|&c| Arc::clone(delta.batch.column(c))).collect();
        let encoder = RowEncoder::new(self.op.group_layout.clone(), arrays);
        let mut slots = Vec::with_capacity(positions.len());
        let mut key = Vec::new();
        let mut row_bytes = Vec::new();
        for &row in positions {
            key.clear();
            keys.push(row as usize, &mut key);
            let hash = self.hasher.hash_one(key.as_slice());
            let (bytes, ends) = (&self.key_bytes, &self.key_ends);
            let known = self.index.find(hash, |&slot| {
                let start = if slot == 0 { 0 } else { ends[slot as usize - 1] as usize };
                bytes[start..ends[slot as usize] as usize] == key
            });
            if let Some(&slot) = known {
                slots.push(slot);
                continue;
            }
            row_bytes.clear();
            encoder.push(row as usize, &mut row_bytes)?;
            slots.push(self.new_slot(hash, &key, &row_bytes));
        }
        Ok(slots)
    }

    fn new_slot(&mut self, hash: u64, key: &[u8], group_row: &[u8]) -> u32 {
        let slot = self.rows.len() as u32;
        self.key_bytes.extend_from_slice(key);
        self.key_ends.push(self.key_bytes.len() as u32);
        self.group_rows.push(group_row);
        self.rows.push(0);
        self.columns.iter_mut().for_each(Column::grow);
        let (bytes, ends, hasher) = (&self.key_bytes, &self.key_ends, &self.hasher);
        self.index.insert_unique(hash, slot, |&s| {
            let start = if s == 0 { 0 } else { ends[s as usize - 1] as usize };
            hasher.hash_one(&bytes[start..ends[s as usize] as usize])
        });
        slot
    }

    fn count_values(&mut self, i: usize, delta: &Delta, positions: &[u32], slots: &[u32]) -> Result<()> {
        let multiset = self.op.multisets[i];
        let argument = delta.batch.column(multiset.argument);
        let data_type = self.op.input_types[multiset.argument];
        let values = KeyEncoder::new(vec![(Arc::clone(argument), data_type)]);
        let encoder = RowEncoder::new(Layout::new(vec![data_type]), vec![Arc::clone(argument)]);
        let passes = filter_of(multiset.filter, &delta.batch);
        let mut key = Vec::new();
        let mut value_row = Vec::new();
        for (&row, &slot) in positions.iter().zip(slots) {
            if argument.is_null(row as usize) || !passes(row as usize) {
                continue;
            }
            key.clear();
            key.extend_from_slice(self.key(slot as usize));
            values.push(row as usize, &mut key);
            let hash = self.hasher.hash_one(key.as_slice());
            let weight = delta.weights[row as usize];
            let counted = &mut self.counted[i];
            let found = counted.index.find(hash, |&e| counted.key(e as usize) == key).copied();
            if let Some(entry) = found {
                add_to(&mut counted.entries[entry as usize].weight, weight)?;
                continue;
            }
            value_row.clear();
            encoder.push(row as usize, &mut value_row)?;
            counted.values.push(&value_row);
            counted.key_bytes.extend_from_slice(&key);
            let entry = counted.entries.len() as u32;
            counted.entries.push(CountedEntry { key_end: counted.key_bytes.len() as u32, slot, weight });
            let (entries, bytes, hasher) = (&counted.entries, &counted.key_bytes, &self.hasher);
            counted.index.insert_unique(hash, entry, |&e| {
                let start = if e == 0 { 0 } else { entries[e as usize - 1].key_end as usize };
                hasher.hash_one(&bytes[start..entries[e as usize].key_end as usize])
            });
        }
        Ok(())
    }

    /// Reads the touched groups, and answers with the change of their rows and of the states.
    ///
    /// Without states (a build) every group is new.
    pub fn finish(mut self, states: Option<States<'_>>, writes: &mut Writes) -> Result<Delta> {
        if self.op.group.is_empty() && self.rows.is_empty() {
            let hash = self.hasher.hash_one([0_u8; 0].as_slice());
            self.new_slot(hash, &[], &[]);
        }
        let (old_rows, old) = self.load_old(states)?;
        let mut new = old.clone();
        for (column, added) in new.iter_mut().zip(&self.columns) {
            column.merge(added)?;
        }
        for i in 0..self.op.multisets.len() {
            self.settle_multiset(i, states, (&old_rows, &old), &mut new, writes)?;
        }
        let mut new_rows = old_rows.clone();
        for (total, added) in new_rows.iter_mut().zip(&self.rows) {
            add_to(total, *added)?;
            if *total < 0 {
                return Err(self.op.broken("a group with fewer than no rows"));
            }
        }
        self.emit(states.is_none(), &old_rows, &old, &new_rows, &new, writes)
    }

    fn load_old(&self, states: Option<States<'_>>) -> Result<(Vec<i64>, Vec<Column>)> {
        let slots = self.rows.len();
        let mut rows = vec![0; slots];
        let mut columns: Vec<Column> = self.op.aggregates.iter().map(|a| Column::new(a.kind)).collect();
        for column in &mut columns {
            (0..slots).for_each(|_| column.grow());
        }
        let Some(states) = states else { return Ok((rows, columns)) };
        for (slot, count) in rows.iter_mut().enumerate() {
            let Some(bytes) = states.get(self.op.groups, self.key(slot))? else { continue };
            let mut reader = Reader { bytes: &bytes, at: 0 };
            let damaged = || self.op.broken("accumulators cannot be read");
            *count = reader.i64().ok_or_else(damaged)?;
            for column in &mut columns {
                column.read(slot, &mut reader).ok_or_else(damaged)?;
            }
        }
        Ok((rows, columns))
    }

    /// Writes the counts that changed, moves distinct counters, and finds the extremes anew where they left.
    fn settle_multiset(
        &mut self,
        i: usize,
        states: Option<States<'_>>,
        (old_rows, old): (&[i64], &[Column]),
        new: &mut [Column],
        writes: &mut Writes,
    ) -> Result<()> {
        let multiset = self.op.multisets[i];
        let counted = &self.counted[i];
        let users: Vec<usize> = (0..self.op.aggregates.len()).filter(|&a| self.op.aggregates[a].uses(i)).collect();
        // Per slot: an extreme that left and must be searched for, by aggregate.
        let mut lost: Vec<(usize, usize)> = Vec::new();
        for e in 0..counted.entries.len() {
            let entry = &counted.entries[e];
            if entry.weight == 0 {
                continue;
            }
            let key = counted.key(e);
            let slot = entry.slot as usize;
            let before = match states {
                // A group that was not there had no values.
                Some(states) if old_rows[slot] > 0 => count_of(states.get_seldom(multiset.table, key)?.as_deref()),
                _ => 0,
            };
            let after = before.checked_add(entry.weight).ok_or(relation::Error::Overflow("weight"))?;
            if after < 0 {
                return Err(self.op.broken("a value counted fewer than no times"));
            }
            if after == 0 {
                writes.delete(multiset.table, key);
            } else {
                let mut value = after.to_le_bytes().to_vec();
                value.extend_from_slice(counted.values.get(e));
                writes.put(multiset.table, key, &value);
            }
            for &a in &users {
                match (self.op.aggregates[a].kind, &mut new[a]) {
                    (Kind::DistinctCount { .. }, Column::Count(counts)) => {
                        add_to(&mut counts[slot], i64::from(after > 0) - i64::from(before > 0))?;
                    }
                    (Kind::Extreme { max, .. }, Column::Extreme(extremes)) => {
                        let value = counted.values.get(e);
                        if before == 0 && after > 0 {
                            self.offer(multiset.argument, &mut extremes[slot], value, max);
                        }
                        let Column::Extreme(olds) = &old[a] else { continue };
                        if after == 0 && self.same_key(multiset.argument, olds[slot].as_deref(), value) {
                            lost.push((a, slot));
                        }
                    }
                    (_, column) if after.signum() != before.signum() => {
                        let layout = Layout::new(vec![self.op.input_types[multiset.argument]]);
                        column.take_once(
                            slot,
                            &layout.value(counted.values.get(e), 0),
                            after.signum() - before.signum(),
                        )?;
                    }
                    _ => {}
                }
            }
        }
        for (a, slot) in lost {
            let Kind::Extreme { max, .. } = self.op.aggregates[a].kind else { continue };
            let found = self.search_extreme(i, slot, states, max)?;
            if let Column::Extreme(extremes) = &mut new[a] {
                extremes[slot] = found;
            }
        }
        Ok(())
    }

    fn value_key(&self, argument: usize, value: &[u8]) -> Vec<u8> {
        let mut key = Vec::new();
        relation::key::push_column(&mut key, &Layout::new(vec![self.op.input_types[argument]]), value, 0);
        key
    }

    fn same_key(&self, argument: usize, a: Option<&[u8]>, b: &[u8]) -> bool {
        a.is_some_and(|a| self.value_key(argument, a) == self.value_key(argument, b))
    }

    fn offer(&self, argument: usize, extreme: &mut Option<Vec<u8>>, value: &[u8], max: bool) {
        let better = match extreme {
            None => true,
            Some(present) => {
                let (present, offered) = (self.value_key(argument, present), self.value_key(argument, value));
                if max { offered > present } else { offered < present }
            }
        };
        if better {
            *extreme = Some(value.to_vec());
        }
    }

    /// The first (or last) value of a group whose count is positive after this step.
    fn search_extreme(&self, i: usize, slot: usize, states: Option<States<'_>>, max: bool) -> Result<Option<Vec<u8>>> {
        let multiset = self.op.multisets[i];
        let counted = &self.counted[i];
        let mut best: Option<Vec<u8>> = None;
        for (e, entry) in counted.entries.iter().enumerate() {
            if entry.slot as usize != slot || entry.weight == 0 {
                continue;
            }
            let before = match states {
                Some(states) => count_of(states.get_seldom(multiset.table, counted.key(e))?.as_deref()),
                None => 0,
            };
            if before + entry.weight > 0 {
                self.offer(multiset.argument, &mut best, counted.values.get(e), max);
            }
        }
        let Some(states) = states else { return Ok(best) };
        let hash = |key: &[u8]| self.hasher.hash_one(key);
        let prefix = self.key(slot);
        let snapshot = states.snapshot;
        let scan = if max { snapshot.scan_rev(multiset.table, prefix) } else { snapshot.scan(multiset.table, prefix) };
        for entry in scan {
            let (key, value) = entry?;
            // Values that this step touched were offered above, with their new counts.
            if counted.index.find(hash(&key), |&e| counted.key(e as usize) == &*key).is_some() {
                continue;
            }
            let value = value.get(8..).ok_or_else(|| self.op.broken("a counted value cannot be read"))?;
            self.offer(multiset.argument, &mut best, value, max);
            break;
        }
        Ok(best)
    }

    fn emit(
        &self,
        fresh: bool,
        old_rows: &[i64],
        old: &[Column],
        new_rows: &[i64],
        new: &[Column],
        writes: &mut Writes,
    ) -> Result<Delta> {
        let global = self.op.group.is_empty();
        let mut retracted = Vec::new();
        let mut inserted = Vec::new();
        let mut before = Vec::new();
        let mut after = Vec::new();
        for slot in 0..new_rows.len() {
            before.clear();
            after.clear();
            encode_group(&mut before, old_rows[slot], old, slot);
            encode_group(&mut after, new_rows[slot], new, slot);
            if before == after && !(fresh && global) {
                continue;
            }
            let key = self.key(slot);
            if new_rows[slot] == 0 && !global {
                writes.delete(self.op.groups, key);
            } else {
                let row = self.group_rows.get(slot);
                if self.op.is_cut(row) {
                    after.extend_from_slice(row);
                }
                writes.put(self.op.groups, key, &after);
            }
            if old_rows[slot] > 0 || (global && !fresh) {
                retracted.push(slot);
            }
            if new_rows[slot] > 0 || global {
                inserted.push(slot);
            }
        }
        let slots: Vec<usize> = retracted.iter().chain(&inserted).copied().collect();
        let mut arrays = self.op.group_arrays(slots.iter().map(|&slot| self.group_rows.get(slot)))?;
        for (a, aggregate) in self.op.aggregates.iter().enumerate() {
            let gone = old[a].finish(aggregate, &self.op.input_types, &retracted)?;
            let come = new[a].finish(aggregate, &self.op.input_types, &inserted)?;
            arrays.push(concat(&[&*gone, &*come])?);
        }
        let count = retracted.len() + inserted.len();
        let weights = std::iter::repeat_n(-1, retracted.len()).chain(std::iter::repeat_n(1, inserted.len())).collect();
        let batch: RecordBatch = relation::columns::batch(&self.op.schema, arrays, count)?;
        Ok(Delta::new(batch, weights))
    }
}

fn encode_group(out: &mut Vec<u8>, rows: i64, columns: &[Column], slot: usize) {
    out.extend_from_slice(&rows.to_le_bytes());
    columns.iter().for_each(|column| column.write(slot, out));
}

fn count_of(value: Option<&[u8]>) -> i64 {
    value.and_then(|v| v.get(..8)).and_then(|v| v.try_into().ok()).map_or(0, i64::from_le_bytes)
}

fn add_to(total: &mut i64, weight: i64) -> Result<()> {
    *total = total.checked_add(weight).ok_or(relation::Error::Overflow("weight"))?;
    Ok(())
}

/// Whether a row passes an aggregate's filter.
fn filter_of(filter: Option<usize>, batch: &RecordBatch) -> impl Fn(usize) -> bool {
    let mask: Option<BooleanArray> = filter.map(|c| batch.column(c).as_boolean().clone());
    move |row| mask.as_ref().is_none_or(|m| m.is_valid(row) && m.value(row))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let out = self.bytes.get(self.at..self.at + n)?;
        self.at += n;
        Some(out)
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        self.take(len as usize)
    }
}

impl Column {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Count | Kind::DistinctCount { .. } => Self::Count(Vec::new()),
            Kind::Exact { .. } => Self::Exact { count: Vec::new(), sum: Vec::new() },
            Kind::Wide { .. } => Self::Wide { count: Vec::new(), sum: Vec::new() },
            Kind::Float { .. } => Self::Float { count: Vec::new(), sum: Vec::new() },
            Kind::Bool { .. } => Self::Bool { yes: Vec::new(), no: Vec::new() },
            Kind::Extreme { .. } => Self::Extreme(Vec::new()),
        }
    }

    fn grow(&mut self) {
        match self {
            Self::Count(counts) => counts.push(0),
            Self::Exact { count, sum } => {
                count.push(0);
                sum.push(0);
            }
            Self::Wide { count, sum } => {
                count.push(0);
                sum.push(i256::ZERO);
            }
            Self::Float { count, sum } => {
                count.push(0);
                sum.push(FloatSum::new());
            }
            Self::Bool { yes, no } => {
                yes.push(0);
                no.push(0);
            }
            Self::Extreme(extremes) => extremes.push(None),
        }
    }

    /// Adds the rows of a delta to their slots.
    fn add(
        &mut self,
        aggregate: &Compiled,
        batch: &RecordBatch,
        weights: &[i64],
        positions: &[u32],
        slots: &[u32],
    ) -> Result<()> {
        if aggregate.once.is_some() || matches!(aggregate.kind, Kind::DistinctCount { .. } | Kind::Extreme { .. }) {
            return Ok(());
        }
        let argument = aggregate.argument.map(|c| batch.column(c));
        let passes = filter_of(aggregate.filter, batch);
        let rows = positions.iter().zip(slots).map(|(&row, &slot)| (row as usize, slot as usize));
        let rows = rows.filter(|&(row, _)| passes(row) && argument.is_none_or(|a| a.is_valid(row)));
        match (self, argument) {
            (Self::Count(counts), _) => {
                for (row, slot) in rows {
                    add_to(&mut counts[slot], weights[row])?;
                }
            }
            (Self::Exact { count, sum }, Some(argument)) => {
                let value = exact_values(argument)?;
                for (row, slot) in rows {
                    add_to(&mut count[slot], weights[row])?;
                    let added = value(row).checked_mul(i128::from(weights[row]));
                    let total = added.and_then(|v| sum[slot].checked_add(v));
                    sum[slot] = total.ok_or(relation::Error::Overflow("sum"))?;
                }
            }
            (Self::Wide { count, sum }, Some(argument)) => {
                let values = argument.as_primitive::<Decimal256Type>();
                for (row, slot) in rows {
                    add_to(&mut count[slot], weights[row])?;
                    let added = values.value(row).checked_mul(i256::from_i128(i128::from(weights[row])));
                    let total = added.and_then(|v| sum[slot].checked_add(v));
                    sum[slot] = total.ok_or(relation::Error::Overflow("sum"))?;
                }
            }
            (Self::Float { count, sum }, Some(argument)) => {
                let value = float_values(argument);
                for (row, slot) in rows {
                    add_to(&mut count[slot], weights[row])?;
                    for _ in 0..weights[row].unsigned_abs() {
                        if weights[row] > 0 { sum[slot].add(value(row)) } else { sum[slot].subtract(value(row)) }
                    }
                }
            }
            (Self::Bool { yes, no }, Some(argument)) => {
                let values = argument.as_boolean();
                for (row, slot) in rows {
                    add_to(if values.value(row) { &mut yes[slot] } else { &mut no[slot] }, weights[row])?;
                }
            }
            (Self::Extreme(_) | Self::Exact { .. } | Self::Wide { .. } | Self::Float { .. } | Self::Bool { .. }, _) => {
            }
        }
        Ok(())
    }

    /// Adds (`sign` 1) or takes back (−1) one value of a distinct sum.
    fn take_once(&mut self, slot: usize, value: &relation::Value, sign: i64) -> Result<()> {
        use relation::Value;
        let overflow = relation::Error::Overflow("sum");
        match (self, value) {
            (Self::Exact { count, sum }, value) => {
                let number = match value {
                    Value::Int(v) => i128::from(*v),
                    Value::UInt(v) => i128::from(*v),
                    Value::Decimal(v, _) => *v,
                    _ => return Ok(()),
                };
                add_to(&mut count[slot], sign)?;
                sum[slot] = sum[slot].checked_add(number * i128::from(sign)).ok_or(overflow)?;
            }
            (Self::Wide { count, sum }, Value::BigDecimal(v, _)) => {
                add_to(&mut count[slot], sign)?;
                let number = v.to_arrow();
                let total = if sign > 0 { sum[slot].checked_add(number) } else { sum[slot].checked_sub(number) };
                sum[slot] = total.ok_or(overflow)?;
            }
            (Self::Float { count, sum }, Value::Float(v)) => {
                add_to(&mut count[slot], sign)?;
                if sign > 0 { sum[slot].add(*v) } else { sum[slot].subtract(*v) }
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds what a delta gathered to what was there, slot by slot.
    fn merge(&mut self, added: &Self) -> Result<()> {
        let overflow = relation::Error::Overflow("sum");
        match (self, added) {
            (Self::Count(total), Self::Count(added)) => add_all(total, added)?,
            (Self::Exact { count, sum }, Self::Exact { count: more, sum: by }) => {
                add_all(count, more)?;
                for (total, by) in sum.iter_mut().zip(by) {
                    *total = total.checked_add(*by).ok_or_else(|| overflow.clone())?;
                }
            }
            (Self::Wide { count, sum }, Self::Wide { count: more, sum: by }) => {
                add_all(count, more)?;
                for (total, by) in sum.iter_mut().zip(by) {
                    *total = total.checked_add(*by).ok_or_else(|| overflow.clone())?;
                }
            }
            (Self::Float { count, sum }, Self::Float { count: more, sum: by }) => {
                add_all(count, more)?;
                sum.iter_mut().zip(by).for_each(|(total, by)| total.merge(by));
            }
            (Self::Bool { yes, no }, Self::Bool { yes: more_yes, no: more_no }) => {
                add_all(yes, more_yes)?;
                add_all(no, more_no)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn write(&self, slot: usize, out: &mut Vec<u8>) {
        match self {
            Self::Count(counts) => out.extend_from_slice(&counts[slot].to_le_bytes()),
            Self::Exact { count, sum } => {
                out.extend_from_slice(&count[slot].to_le_bytes());
                out.extend_from_slice(&sum[slot].to_le_bytes());
            }
            Self::Wide { count, sum } => {
                out.extend_from_slice(&count[slot].to_le_bytes());
                out.extend_from_slice(&sum[slot].to_le_bytes());
            }
            Self::Float { count, sum } => {
                out.extend_from_slice(&count[slot].to_le_bytes());
                write_sized(out, &sum[slot].to_bytes());
            }
            Self::Bool { yes, no } => {
                out.extend_from_slice(&yes[slot].to_le_bytes());
                out.extend_from_slice(&no[slot].to_le_bytes());
            }
            Self::Extreme(extremes) => match &extremes[slot] {
                None => out.push(0),
                Some(value) => {
                    out.push(1);
                    write_sized(out, value);
                }
            },
        }
    }

    fn read(&mut self, slot: usize, from: &mut Reader<'_>) -> Option<()> {
        match self {
            Self::Count(counts) => counts[slot] = from.i64()?,
            Self::Exact { count, sum } => {
                count[slot] = from.i64()?;
                sum[slot] = i128::from_le_bytes(from.take(16)?.try_into().ok()?);
            }
            Self::Wide { count, sum } => {
                count[slot] = from.i64()?;
                sum[slot] = i256::from_le_bytes(from.take(32)?.try_into().ok()?);
            }
            Self::Float { count, sum } => {
                count[slot] = from.i64()?;
                sum[slot] = FloatSum::from_bytes(from.sized()?)?;
            }
            Self::Bool { yes, no } => {
                yes[slot] = from.i64()?;
                no[slot] = from.i64()?;
            }
            Self::Extreme(extremes) => {
                extremes[slot] = if from.take(1)? == [0] { None } else { Some(from.sized()?.to_vec()) };
            }
        }
        Some(())
    }

    /// The results of some slots as an array of the aggregate's output type.
    fn finish(&self, aggregate: &Compiled, types: &[DataType], slots: &[usize]) -> Result<ArrayRef> {
        let output = aggregate.output;
        let result: ArrayRef = match self {
            Self::Count(counts) => Arc::new(Int64Array::from_iter_values(slots.iter().map(|&s| counts[s]))),
            Self::Exact { count, sum } => exact_result(aggregate, types, slots, count, sum)?,
            Self::Wide { count, sum } => wide_result(aggregate, types, slots, count, sum)?,
            Self::Float { count, sum } => {
                let average = aggregate.kind == Kind::Float { average: true };
                Arc::new(Float64Array::from_iter(slots.iter().map(|&s| match count[s] {
                    0 => None,
                    #[expect(clippy::cast_precision_loss, reason = "as DataFusion divides")]
                    n if average => Some(sum[s].value() / n as f64),
                    _ => Some(sum[s].value()),
                })))
            }
            Self::Bool { yes, no } => {
                let and = aggregate.kind == Kind::Bool { and: true };
                Arc::new(BooleanArray::from_iter(
                    slots.iter().map(|&s| (yes[s] + no[s] > 0).then_some(if and { no[s] == 0 } else { yes[s] > 0 })),
                ))
            }
            Self::Extreme(extremes) => {
                let layout = Layout::new(vec![output]);
                let mut null = Rows::new();
                null.push_values(&layout, &[relation::Value::Null])?;
                let rows = slots.iter().map(|&s| extremes[s].as_deref().unwrap_or(null.get(0)));
                let schema = arrow_schema(&relation::Schema::new(vec![relation::Column::new("value", output)], vec![]));
                Arc::clone(decode(rows, &layout, &[0], &schema)?.column(0))
            }
        };
        let wanted = output.to_arrow();
        if *result.data_type() == wanted { Ok(result) } else { Ok(arrow::compute::cast(&result, &wanted)?) }
    }
}

fn write_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn add_all(totals: &mut [i64], added: &[i64]) -> Result<()> {
    totals.iter_mut().zip(added).try_for_each(|(total, by)| add_to(total, *by))
}

/// Integers and unscaled decimals of an array as 128-bit numbers.
fn exact_values(array: &ArrayRef) -> Result<Box<dyn Fn(usize) -> i128 + '_>> {
    use arrow::datatypes::DataType as Arrow;
    Ok(match array.data_type() {
        Arrow::Int16 => {
            let values = array.as_primitive::<Int16Type>();
            Box::new(|row| i128::from(values.value(row)))
        }
        Arrow::Int32 => {
            let values = array.as_primitive::<Int32Type>();
            Box::new(|row| i128::from(values.value(row)))
        }
        Arrow::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            Box::new(|row| i128::from(values.value(row)))
        }
        Arrow::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            Box::new(|row| i128::from(values.value(row)))
        }
        Arrow::Decimal128(..) => {
            let values = array.as_primitive::<Decimal128Type>();
            Box::new(|row| values.value(row))
        }
        other => return Err(relation::Error::UnsupportedType(other.to_string()).into()),
    })
}

fn float_values(array: &ArrayRef) -> Box<dyn Fn(usize) -> f64 + '_> {
    if *array.data_type() == arrow::datatypes::DataType::Float32 {
        let values = array.as_primitive::<Float32Type>();
        return Box::new(|row| f64::from(values.value(row)));
    }
    let values = array.as_primitive::<Float64Type>();
    Box::new(|row| values.value(row))
}

/// Sums as DataFusion types them; averages of decimals as its `DecimalAverager` scales and cuts them.
fn exact_result(
    aggregate: &Compiled,
    types: &[DataType],
    slots: &[usize],
    count: &[i64],
    sum: &[i128],
) -> Result<ArrayRef> {
    let average = aggregate.kind == Kind::Exact { average: true };
    let raise = average.then(|| scale_up(aggregate, types));
    let value = |slot: usize| -> Result<Option<i128>> {
        if count[slot] == 0 {
            return Ok(None);
        }
        let Some(raise) = raise else { return Ok(Some(sum[slot])) };
        let raised = 10_i128.checked_pow(raise).and_then(|factor| sum[slot].checked_mul(factor));
        Ok(Some(raised.ok_or(relation::Error::Overflow("average"))? / i128::from(count[slot])))
    };
    let values = slots.iter().map(|&slot| value(slot)).collect::<Result<Vec<_>>>()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "DataFusion's integer sums wrap")]
    Ok(match aggregate.output {
        DataType::UInt64 => Arc::new(UInt64Array::from_iter(values.iter().map(|v| v.map(|v| v as u64)))),
        DataType::Decimal { precision, scale } if precision <= 38 => {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale)?)
        }
        _ => Arc::new(Int64Array::from_iter(values.iter().map(|v| v.map(|v| v as i64)))),
    })
}

fn wide_result(
    aggregate: &Compiled,
    types: &[DataType],
    slots: &[usize],
    count: &[i64],
    sum: &[i256],
) -> Result<ArrayRef> {
    let DataType::Decimal { precision, scale } = aggregate.output else {
        return Err(relation::Error::UnsupportedType(aggregate.output.to_string()).into());
    };
    let average = aggregate.kind == Kind::Wide { average: true };
    let raise = average.then(|| scale_up(aggregate, types));
    let value = |slot: usize| -> Result<Option<i256>> {
        if count[slot] == 0 {
            return Ok(None);
        }
        let Some(raise) = raise else { return Ok(Some(sum[slot])) };
        let factor = i256::from_i128(10).checked_pow(raise);
        let raised = factor.and_then(|factor| sum[slot].checked_mul(factor));
        let divided = raised.and_then(|v| v.checked_div(i256::from_i128(i128::from(count[slot]))));
        Ok(Some(divided.ok_or(relation::Error::Overflow("average"))?))
    };
    let values = slots.iter().map(|&slot| value(slot)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Decimal256Array::from(values).with_precision_and_scale(precision, scale)?))
}

/// Digits by which an average's scale exceeds its argument's.
fn scale_up(aggregate: &Compiled, types: &[DataType]) -> u32 {
    let scale = |t: DataType| if let DataType::Decimal { scale, .. } = t { i32::from(scale) } else { 0 };
    let argument = aggregate.argument.map_or(0, |c| scale(types[c]));
    u32::try_from(scale(aggregate.output) - argument).unwrap_or(0)
}

/// The rule of an aggregate, with its states: the groups, then the multisets.
pub(super) fn compile(
    group: &[usize],
    aggregates: &[Aggregate],
    from: &mut Compiling<'_, '_>,
) -> Result<Arc<dyn Rule>> {
    let parts = 1 + multisets_of(aggregates).len();
    let states: Vec<TableId> = (0..parts).map(|part| from.state(&format!(" {part}"))).collect();
    let (node, types) = (from.identity.to_owned(), from.types(0));
    Ok(Arc::new(AggregateRule(Arc::new(AggregateOp::new(
        node,
        group,
        aggregates,
        types,
        &from.node.schema,
        &states,
    )))))
}

/// An aggregate in the graph: joins find its groups too.
struct AggregateRule(Arc<AggregateOp>);

impl Rule for AggregateRule {
    fn word(&self) -> &'static str {
        "aggregate"
    }

    fn apply(&self, node: &Node, inputs: &Inputs<'_>, around: Around<'_>, writes: &mut Writes) -> Result<Ruled> {
        let [Some(delta)] = inputs else { return Ok(Delta::empty(&node.arrow).into()) };
        Ok(self.0.apply(delta, around.states, writes)?.into())
    }

    fn states(&self) -> Vec<TableId> {
        let multisets = self.0.multisets.iter().map(|multiset| multiset.table);
        std::iter::once(self.0.groups).chain(multisets).collect()
    }

    fn build(&self, node: &Node, builder: &mut Builder) -> Result<()> {
        builder.build_aggregate(&self.0, node.inputs[0])
    }

    fn pour(&self, at: NodeIndex, _: &Node, builder: &mut Builder, each: &mut Portion<'_>) -> Result<()> {
        if self.0.has_exact_keys() { builder.pour_groups(&self.0, each) } else { builder.pour_query(at, each) }
    }

    fn keeps(&self) -> bool {
        true
    }

    fn point_key(&self, _: &Graph, _: &Node, _: &[usize], _: &Surroundings<'_>) -> PointKey {
        PointKey::Columns((0..self.0.group_columns()).collect())
    }

    fn lookup(
        &self,
        _: &mut Graph,
        _: NodeIndex,
        columns: &[usize],
        maps: Vec<Arc<MapProgram>>,
        _: &mut Surroundings<'_>,
    ) -> Option<Side> {
        self.0.is_found_by(columns).then(|| Side::groups(Arc::clone(&self.0), maps))
    }
}
