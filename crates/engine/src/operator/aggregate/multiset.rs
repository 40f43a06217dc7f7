//! The multisets of an aggregate: (group key, value key) → count, for what is not linear.

use std::sync::Arc;

use hashbrown::HashTable;
use plan::{Aggregate, AggregateFunction};
use relation::columns::RowEncoder;
use relation::key::KeyEncoder;
use relation::{Delta, Layout, Rows, TableId};
use std::hash::BuildHasher;
use store::Writes;

use super::columns::Column;
use super::groups::Accumulation;
use super::{Kind, add_to, filter_of};
use crate::error::Result;
use crate::operator::States;

/// Values of one argument under one filter, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiset {
    pub(super) argument: usize,
    pub(super) filter: Option<usize>,
    pub(super) table: TableId,
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

/// Net counts of the values of one multiset in this delta: state key → (slot, weight, value row).
pub(super) struct Counted {
    pub(super) index: HashTable<u32>,
    pub(super) key_bytes: Vec<u8>,
    pub(super) entries: Vec<CountedEntry>,
    pub(super) values: Rows,
}

pub(super) struct CountedEntry {
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

impl Accumulation<'_> {
    pub(super) fn count_values(&mut self, i: usize, delta: &Delta, positions: &[u32], slots: &[u32]) -> Result<()> {
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

    /// Writes the counts that changed, moves distinct counters, and finds the extremes anew where they left.
    pub(super) fn settle_multiset(
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
}

fn count_of(value: Option<&[u8]>) -> i64 {
    value.and_then(|v| v.get(..8)).and_then(|v| v.try_into().ok()).map_or(0, i64::from_le_bytes)
}
