//! The multisets of an aggregate: (group key, value key) → count and value, for what is not linear.
//!
//! Law: what the aggregates hear of is a value's count leaving zero or reaching it, by what a whole delta adds to it; so
//! values that leave and come again within one delta are as if nothing had been. A group's key is a prefix of the keys of
//! its values, which lie in their order, but for long texts that agree where their keys are cut: those are compared.

use std::sync::Arc;

use arrow::array::Array;
use plan::{Aggregate, AggregateFunction};
use relation::columns::RowEncoder;
use relation::key::{KeyEncoder, Order, compare, ordered_bytes};
use relation::{Delta, Layout, Rows, TableId};
use store::Writes;

use super::columns::Column;
use super::groups::{Accumulation, Groups};
use super::{Kind, add_to, canonical, filter_of};
use crate::buckets::{read_weighted, weighted};
use crate::error::Result;
use crate::operator::States;
use crate::operator::interner::Interner;

/// The one column of a multiset's values.
const VALUE: [(usize, Order); 1] = [(0, Order::PLAIN)];

/// Values of one argument under one filter, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Multiset {
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

/// Net counts of the values of one multiset in a delta, by the keys under which the state holds them.
#[derive(Default)]
pub(super) struct Counted {
    keys: Interner,
    /// The group's slot and the net count, by value.
    entries: Vec<(u32, i64)>,
    values: Rows,
}

impl Counted {
    pub(super) fn bytes(&self) -> usize {
        self.keys.byte_len() + self.values.byte_len() + 40 * self.entries.len()
    }
}

impl Accumulation<'_> {
    pub(super) fn count_values(&mut self, i: usize, delta: &Delta, positions: &[u32], slots: &[u32]) -> Result<()> {
        let multiset = self.op.multisets[i];
        let argument = canonical(delta.batch.column(multiset.argument));
        let data_type = self.op.input_types[multiset.argument];
        let values = KeyEncoder::new(vec![(Arc::clone(&argument), data_type)]);
        let encoder = RowEncoder::new(Layout::new(vec![data_type]), vec![Arc::clone(&argument)]);
        let filter = filter_of(multiset.filter, &delta.batch);
        let passes = |row: usize| filter.as_ref().is_none_or(|mask| mask.is_valid(row) && mask.value(row));
        let mut key = Vec::new();
        let mut value_row = Vec::new();
        let counted = &mut self.counted[i];
        for (&row, &slot) in positions.iter().zip(slots) {
            if argument.is_null(row as usize) || !passes(row as usize) {
                continue;
            }
            key.clear();
            key.extend_from_slice(self.keys.get(slot as usize));
            values.push(row as usize, &mut key);
            let weight = delta.weights[row as usize];
            let (value, is_new) = counted.keys.intern(&key)?;
            if is_new {
                value_row.clear();
                encoder.push(row as usize, &mut value_row)?;
                counted.values.push(&value_row);
                counted.entries.push((slot, weight));
            } else {
                add_to(&mut counted.entries[value as usize].1, weight)?;
            }
        }
        Ok(())
    }

    /// Writes the counts that changed, tells the aggregates of values that came and left, and finds the extremes anew
    /// where they left.
    pub(super) fn settle_multiset(
        &self,
        i: usize,
        states: Option<States<'_>>,
        old: &Groups,
        new: &mut [Box<dyn Column>],
        writes: &mut Writes,
    ) -> Result<()> {
        let multiset = self.op.multisets[i];
        let counted = &self.counted[i];
        let users: Vec<usize> = (0..self.op.aggregates.len()).filter(|&a| self.op.aggregates[a].uses(i)).collect();
        for (e, &(slot, weight)) in counted.entries.iter().enumerate() {
            if weight == 0 {
                continue;
            }
            let (key, value, slot) = (counted.keys.get(e), counted.values.get(e), slot as usize);
            let before = match states {
                // A group that was not there had no values.
                Some(states) if old.rows[slot] > 0 => match states.get_seldom(multiset.table, key)?.as_deref() {
                    None => 0,
                    Some(stored) => {
                        let (count, there) = read_weighted(stored)?;
                        if there != value {
                            return Err(self.op.broken("two values under one key"));
                        }
                        count
                    }
                },
                _ => 0,
            };
            let after = before.checked_add(weight).ok_or(relation::Error::Overflow("weight"))?;
            match after {
                0 => writes.delete(multiset.table, key),
                1.. => writes.put(multiset.table, key, &weighted(after, value)),
                _ => return Err(self.op.broken("a value counted fewer than no times")),
            }
            let sign = after.signum() - before.signum();
            if sign != 0 {
                users.iter().try_for_each(|&a| new[a].cross(slot, value, sign))?;
            }
        }
        for a in users {
            let Kind::Extreme { max, .. } = self.op.aggregates[a].kind else { continue };
            for slot in new[a].searched() {
                let found = match states {
                    Some(states) => self.search_extreme(i, slot, states, max)?,
                    None => None,
                };
                new[a].found(slot, found);
            }
        }
        Ok(())
    }

    /// The first (or last) value that a group had and still has after this step.
    fn search_extreme(&self, i: usize, slot: usize, states: States<'_>, max: bool) -> Result<Option<Vec<u8>>> {
        let multiset = self.op.multisets[i];
        let layout = Layout::new(vec![self.op.input_types[multiset.argument]]);
        let prefix = self.keys.get(slot);
        let snapshot = states.snapshot;
        let scan = if max { snapshot.scan_rev(multiset.table, prefix) } else { snapshot.scan(multiset.table, prefix) };
        let mut best: Option<Vec<u8>> = None;
        // Values that agree so far are in order only by comparing them.
        let mut run: Option<Vec<u8>> = None;
        for entry in scan {
            let (key, value) = entry?;
            if run.as_ref().is_some_and(|run| !key.starts_with(run)) {
                break;
            }
            let (count, value) = read_weighted(&value)?;
            if !self.stays(i, &key, count)? {
                continue;
            }
            let is_better = best.as_deref().is_none_or(|best| {
                let ordering = compare(&layout, value, best, &VALUE);
                if max { ordering.is_gt() } else { ordering.is_lt() }
            });
            if is_better {
                best = Some(value.to_vec());
            }
            if run.is_none() {
                let Some(ordered) = ordered_bytes(&layout, value, &VALUE, key.len() - prefix.len()) else { break };
                run = Some(key[..prefix.len() + ordered].to_vec());
            }
        }
        Ok(best)
    }

    /// Whether a value that was counted so often is still there.
    fn stays(&self, i: usize, key: &[u8], count: i64) -> Result<bool> {
        let counted = &self.counted[i];
        let added = counted.keys.find(key).map_or(0, |value| counted.entries[value as usize].1);
        Ok(count.checked_add(added).ok_or(relation::Error::Overflow("weight"))? > 0)
    }
}
