//! The groups that a delta touches (or a build meets), what is added to each, and how their rows change.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use relation::columns::RowEncoder;
use relation::{Delta, Rows};
use std::hash::BuildHasher;
use store::Writes;

use super::columns::Column;
use super::multiset::Counted;
use super::{AggregateOp, Reader, add_to};
use crate::error::Result;
use crate::operator::States;

/// Groups touched by a delta (or met in a build), and what is added to each.
pub struct Accumulation<'a> {
    pub(super) op: &'a AggregateOp,
    index: HashTable<u32>,
    pub(super) hasher: FixedState,
    key_bytes: Vec<u8>,
    key_ends: Vec<u32>,
    group_rows: Rows,
    rows: Vec<i64>,
    columns: Vec<Column>,
    pub(super) counted: Vec<Counted>,
}

impl<'a> Accumulation<'a> {
    pub(super) fn new(op: &'a AggregateOp) -> Self {
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

    pub(super) fn key(&self, slot: usize) -> &[u8] {
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
