//! The groups that a delta touches (or a build meets), what is added to each, and how their rows change.

use arrow::array::RecordBatch;
use arrow::compute::concat;
use relation::columns::RowEncoder;
use relation::{Delta, Rows};
use store::Writes;

use super::columns::{Column, Rated, column_of, finish};
use super::multiset::Counted;
use super::result::{read_group, write_group};
use super::{AggregateOp, Reader, add_to, canonical};
use crate::error::Result;
use crate::operator::States;
use crate::operator::interner::Interner;

/// Groups touched by a delta (or met in a build), and what is added to each.
pub struct Accumulation<'a> {
    pub(super) op: &'a AggregateOp,
    /// The groups' keys; a group's number is its slot.
    pub(super) keys: Interner,
    group_rows: Rows,
    rows: Vec<i64>,
    columns: Vec<Box<dyn Column>>,
    pub(super) counted: Vec<Counted>,
}

/// Groups as they are at one time, by slot.
pub(super) struct Groups {
    pub(super) rows: Vec<i64>,
    pub(super) columns: Vec<Box<dyn Column>>,
}

impl<'a> Accumulation<'a> {
    pub(super) fn new(op: &'a AggregateOp) -> Self {
        Self {
            op,
            keys: Interner::default(),
            group_rows: Rows::new(),
            rows: Vec::new(),
            columns: columns_of(op),
            counted: op.multisets.iter().map(|_| Counted::default()).collect(),
        }
    }

    /// Memory of the groups and values so far, about.
    pub fn bytes(&self) -> usize {
        let per_group = 64 + 32 * self.columns.len();
        let counted = self.counted.iter().map(Counted::bytes).sum::<usize>();
        self.keys.byte_len() + self.group_rows.byte_len() + per_group * self.rows.len() + counted
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
            column.add(&Rated::new(aggregate, &delta.batch, &delta.weights, &positions, &slots))?;
        }
        for i in 0..self.counted.len() {
            self.count_values(i, delta, &positions, &slots)?;
        }
        Ok(())
    }

    fn slots(&mut self, delta: &Delta, positions: &[u32]) -> Result<Vec<u32>> {
        let keys = self.op.group_keys(delta);
        let arrays = self.op.group.iter().map(|&c| canonical(delta.batch.column(c))).collect();
        let encoder = RowEncoder::new(self.op.group_layout.clone(), arrays);
        let mut slots = Vec::with_capacity(positions.len());
        let mut key = Vec::new();
        let mut row_bytes = Vec::new();
        for &row in positions {
            key.clear();
            keys.push(row as usize, &mut key);
            let (slot, is_new) = self.keys.intern(&key)?;
            if is_new {
                row_bytes.clear();
                encoder.push(row as usize, &mut row_bytes)?;
                self.grow(&row_bytes);
            }
            slots.push(slot);
        }
        Ok(slots)
    }

    fn grow(&mut self, group_row: &[u8]) {
        self.group_rows.push(group_row);
        self.rows.push(0);
        self.columns.iter_mut().for_each(|column| column.grow());
    }

    /// Reads the touched groups, and answers with the change of their rows and of the states.
    ///
    /// Without states (a build) every group is new.
    pub fn finish(mut self, states: Option<States<'_>>, writes: &mut Writes) -> Result<Delta> {
        if self.op.group.is_empty() && self.rows.is_empty() {
            self.keys.intern(&[])?;
            self.grow(&[]);
        }
        let old = self.load_old(states)?;
        let mut new = Groups { rows: old.rows.clone(), columns: old.columns.iter().map(|c| c.copy()).collect() };
        for (column, added) in new.columns.iter_mut().zip(&self.columns) {
            column.merge(&**added)?;
        }
        for i in 0..self.op.multisets.len() {
            self.settle_multiset(i, states, &old, &mut new.columns, writes)?;
        }
        for (total, added) in new.rows.iter_mut().zip(&self.rows) {
            add_to(total, *added)?;
            if *total < 0 {
                return Err(self.op.broken("a group with fewer than no rows"));
            }
        }
        self.emit(states.is_none(), &old, &new, writes)
    }

    fn load_old(&self, states: Option<States<'_>>) -> Result<Groups> {
        let slots = self.rows.len();
        let mut old = Groups { rows: vec![0; slots], columns: columns_of(self.op) };
        for column in &mut old.columns {
            (0..slots).for_each(|_| column.grow());
        }
        let Some(states) = states else { return Ok(old) };
        for slot in 0..slots {
            let Some(bytes) = states.get(self.op.groups, self.keys.get(slot))? else { continue };
            let mut reader = Reader { bytes: &bytes, at: 0 };
            old.rows[slot] = read_group(self.op, &mut reader, &mut old.columns, slot)?;
            let row = reader.rest();
            if !row.is_empty() && row != self.group_rows.get(slot) {
                return Err(self.op.broken("two groups under one key"));
            }
        }
        Ok(old)
    }

    fn emit(&self, fresh: bool, old: &Groups, new: &Groups, writes: &mut Writes) -> Result<Delta> {
        let global = self.op.group.is_empty();
        let mut retracted = Vec::new();
        let mut inserted = Vec::new();
        let mut before = Vec::new();
        let mut after = Vec::new();
        for slot in 0..new.rows.len() {
            before.clear();
            after.clear();
            write_group(&mut before, old.rows[slot], &old.columns, slot);
            write_group(&mut after, new.rows[slot], &new.columns, slot);
            if before == after && !(fresh && global) {
                continue;
            }
            let key = self.keys.get(slot);
            if new.rows[slot] == 0 && !global {
                writes.delete(self.op.groups, key);
            } else {
                let row = self.group_rows.get(slot);
                if !relation::key::holds_row(&self.op.group_layout, row, key.len()) {
                    after.extend_from_slice(row);
                }
                writes.put(self.op.groups, key, &after);
            }
            if old.rows[slot] > 0 || (global && !fresh) {
                retracted.push(slot);
            }
            if new.rows[slot] > 0 || global {
                inserted.push(slot);
            }
        }
        let slots: Vec<usize> = retracted.iter().chain(&inserted).copied().collect();
        let mut arrays = self.op.group_arrays(slots.iter().map(|&slot| self.group_rows.get(slot)))?;
        for (a, aggregate) in self.op.aggregates.iter().enumerate() {
            let gone = finish(&*old.columns[a], aggregate.output, &retracted)?;
            let come = finish(&*new.columns[a], aggregate.output, &inserted)?;
            arrays.push(match (retracted.is_empty(), inserted.is_empty()) {
                (true, _) => come,
                (_, true) => gone,
                _ => concat(&[&*gone, &*come])?,
            });
        }
        let count = retracted.len() + inserted.len();
        let weights = std::iter::repeat_n(-1, retracted.len()).chain(std::iter::repeat_n(1, inserted.len())).collect();
        let batch: RecordBatch = relation::columns::batch(&self.op.schema, arrays, count)?;
        Ok(Delta::new(batch, weights))
    }
}

fn columns_of(op: &AggregateOp) -> Vec<Box<dyn Column>> {
    op.aggregates.iter().map(|a| column_of(a, &op.input_types)).collect()
}
