//! Left, semi and anti joins with a condition beyond the key: which left rows match is counted and kept.
//!
//! State: join key and a hash of the left row → the row's weight and how many right rows it matches; of rows that match
//! none there is no entry. Law, for a left row `l` with its old weight `w` and number of matches `c`:
//!
//! ```text
//! matches   Δc(l) = |{r ∈ ΔR : l matches r}|
//! alone     Δ     = Δw(l)·alone(c + Δc) + w(l)·(alone(c + Δc) − alone(c))
//! ```
//!
//! So a change on the right costs the left rows under its key, one on the left the right rows under its key, and no key
//! is joined as a whole. Semi and anti joins are the second line alone; a left join adds the pairs.

use hashbrown::HashMap;
use relation::key::hash128;
use relation::{Delta, Layout, Rows, TableId};
use store::Writes;

use super::pairs::{FailedPairs, Near, Pair, Pairs, Residual};
use super::{JoinOp, Joined, Output, add, keys_of};
use crate::error::{Error, Result};
use crate::operator::States;
use crate::operator::interner::Interner;

/// A left row's weight and its number of matches, both above zero.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Matched {
    weight: i64,
    count: i64,
}

/// Distinct left rows, with what the state knows of them and what changes.
struct LeftRows {
    delta: Delta,
    of_row: Vec<Option<u32>>,
    /// Under which key the state holds each; empty where the join key is NULL, which matches nothing.
    state_keys: Vec<Vec<u8>>,
    /// Matches among the old right rows, where they were counted.
    old: Vec<i64>,
    /// Matches among the changes on the right.
    added: Vec<i64>,
}

impl JoinOp {
    /// The rule, with the writes to the counts.
    pub(super) fn by_matches(
        &self,
        (table, residual): (TableId, &Residual),
        left: &Delta,
        right: &Delta,
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<Joined> {
        let mut failed = FailedPairs::default();
        let mut keys = Interner::default();
        let mut come = self.left_rows(left, &mut keys)?;
        let of_left = keys.len();
        let right_of_row = keys_of(&self.right, &right.batch, &mut keys)?;
        let old_right = self.right.side.find(states, of_left, &|k| keys.get(k))?;
        let mut touched: Vec<u32> = right_of_row.iter().flatten().copied().collect();
        touched.sort_unstable();
        touched.dedup();
        let there = self.left.side.find(states, touched.len(), &|k| keys.get(touched[k] as usize))?;
        let mut there = self.left_rows(&there.delta, &mut keys)?;

        let mut out = Output::new(self, states.bounds);
        let is_left = self.pads();
        let mut met: Vec<Pair> = Vec::new();
        let pairs = Pairs::new(Near::Left, &come.of_row, keys.len(), &old_right.key).within(states.bounds)?;
        residual.each_match(&come.delta, &old_right.delta, pairs, &mut failed, &mut |(l, r)| {
            add(&mut come.old[l as usize], old_right.delta.weights[r as usize])?;
            if is_left {
                met.push((l, r));
            }
            Ok(())
        })?;
        out.pairs(&come.delta, &old_right.delta, &met)?;
        for rows in [&mut there, &mut come] {
            met.clear();
            let LeftRows { delta, of_row, added, .. } = rows;
            let pairs = Pairs::of_optional(Near::Left, of_row, keys.len(), &right_of_row).within(states.bounds)?;
            residual.each_match(delta, right, pairs, &mut failed, &mut |(l, r)| {
                add(&mut added[l as usize], right.weights[r as usize])?;
                if is_left {
                    met.push((l, r));
                }
                Ok(())
            })?;
            out.pairs(delta, right, &met)?;
        }

        let stored = self.settle(table, &there, &come, states, writes)?;
        let mut crossed = Vec::new();
        let mut signs = Vec::new();
        for (row, stored) in stored.iter().enumerate() {
            let before = stored.map_or(0, |matched| matched.count);
            let sign = i64::from(self.is_alone(before + there.added[row])) - i64::from(self.is_alone(before));
            if sign != 0 {
                crossed.push(row as u32);
                signs.push(sign);
            }
        }
        out.alone(&there.delta, &crossed, Some(&signs))?;
        let is_fresh = |&row: &u32| self.is_alone(come.old[row as usize] + come.added[row as usize]);
        let fresh: Vec<u32> = (0..come.delta.len() as u32).filter(is_fresh).collect();
        out.alone(&come.delta, &fresh, None)?;
        Ok(Joined { delta: out.finish()?, failed })
    }

    /// The counts alone, for a build, of left rows that are all new; answers with how many rows were looked at.
    pub(super) fn keep_matches(
        &self,
        (table, residual): (TableId, &Residual),
        left: &Delta,
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<(FailedPairs, usize)> {
        let mut failed = FailedPairs::default();
        let mut keys = Interner::default();
        let mut come = self.left_rows(left, &mut keys)?;
        let old_right = self.right.side.find(states, keys.len(), &|k| keys.get(k))?;
        let pairs = Pairs::new(Near::Left, &come.of_row, keys.len(), &old_right.key).within(states.bounds)?;
        residual.each_match(&come.delta, &old_right.delta, pairs, &mut failed, &mut |(l, r)| {
            add(&mut come.old[l as usize], old_right.delta.weights[r as usize])
        })?;
        let there = self.left_rows(&Delta::empty(&self.left.schema), &mut keys)?;
        self.settle(table, &there, &come, states, writes)?;
        Ok((failed, old_right.delta.len()))
    }

    /// How many right rows each of some left rows matches, by the counts, as before the step.
    pub(super) fn matches_of(&self, table: TableId, left: &Delta, states: States<'_>) -> Result<Vec<i64>> {
        let mut keys = Interner::default();
        let of_row = keys_of(&self.left, &left.batch, &mut keys)?;
        let rows = relation::columns::encode(&Layout::new(self.left.types.clone()), &left.batch)?;
        let state_keys = state_keys(&rows, &of_row, &keys);
        let count = |key: &Vec<u8>| Ok(self.matched(table, key, states)?.map_or(0, |matched| matched.count));
        state_keys.iter().map(count).collect()
    }

    fn left_rows(&self, rows: &Delta, keys: &mut Interner) -> Result<LeftRows> {
        let (delta, rows) = rows.consolidate_encoded(&Layout::new(self.left.types.clone()))?;
        let of_row = keys_of(&self.left, &delta.batch, keys)?;
        let state_keys = state_keys(&rows, &of_row, keys);
        let zeros = vec![0; delta.len()];
        Ok(LeftRows { delta, of_row, state_keys, old: zeros.clone(), added: zeros })
    }

    /// Writes the counts that change, and answers with those that were kept of the old rows.
    fn settle(
        &self,
        table: TableId,
        there: &LeftRows,
        come: &LeftRows,
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<Vec<Option<Matched>>> {
        let keys = come.state_keys.iter().enumerate().filter(|(_, key)| !key.is_empty());
        let of_come: HashMap<&[u8], usize> = keys.map(|(row, key)| (key.as_slice(), row)).collect();
        let mut is_settled = vec![false; come.delta.len()];
        let mut stored = Vec::with_capacity(there.delta.len());
        for (row, key) in there.state_keys.iter().enumerate() {
            let before = self.matched(table, key, states)?;
            let mut weight = there.delta.weights[row];
            if before.is_some_and(|matched| matched.weight != weight) {
                return Err(broken("a left row is counted with another weight"));
            }
            if let Some(&found) = of_come.get(key.as_slice()) {
                is_settled[found] = true;
                add(&mut weight, come.delta.weights[found])?;
            }
            let mut count = before.map_or(0, |matched| matched.count);
            add(&mut count, there.added[row])?;
            write(table, key, before, Matched { weight, count }, writes)?;
            stored.push(before);
        }
        for (row, key) in come.state_keys.iter().enumerate().filter(|&(row, _)| !is_settled[row]) {
            if key.is_empty() {
                continue;
            }
            let before = self.matched(table, key, states)?;
            if before.is_some_and(|matched| matched.count != come.old[row]) {
                return Err(broken("a left row is counted with other matches than it has"));
            }
            let mut weight = before.map_or(0, |matched| matched.weight);
            let mut count = come.old[row];
            add(&mut count, come.added[row])?;
            // Of a row without matches the weight is not known, nor needed: no entry is kept of it.
            if before.is_none() && count == 0 {
                continue;
            }
            add(&mut weight, come.delta.weights[row])?;
            write(table, key, before, Matched { weight, count }, writes)?;
        }
        Ok(stored)
    }

    fn matched(&self, table: TableId, key: &[u8], states: States<'_>) -> Result<Option<Matched>> {
        if key.is_empty() {
            return Ok(None);
        }
        let Some(value) = states.get_seldom(table, key)? else { return Ok(None) };
        let numbers = value.split_first_chunk::<8>().and_then(|(weight, count)| {
            let count = <[u8; 8]>::try_from(count).ok()?;
            Some(Matched { weight: i64::from_le_bytes(*weight), count: i64::from_le_bytes(count) })
        });
        match numbers {
            Some(matched) if matched.weight > 0 && matched.count > 0 => Ok(Some(matched)),
            _ => Err(broken("a count of matches cannot be read")),
        }
    }
}

fn write(table: TableId, key: &[u8], before: Option<Matched>, after: Matched, writes: &mut Writes) -> Result<()> {
    if after.weight < 0 || after.count < 0 {
        return Err(broken("a left row counted fewer than no times"));
    }
    if after.weight == 0 || after.count == 0 {
        if before.is_some() {
            writes.delete(table, key);
        }
    } else if before != Some(after) {
        let mut value = after.weight.to_le_bytes().to_vec();
        value.extend_from_slice(&after.count.to_le_bytes());
        writes.put(table, key, &value);
    }
    Ok(())
}

fn broken(what: &'static str) -> Error {
    Error::Broken { node: "join".to_owned(), what }
}

/// Where the counts of left rows are kept: under their key in the join, and a hash of all of them. Empty where that key is
/// NULL.
fn state_keys(rows: &Rows, of_row: &[Option<u32>], keys: &Interner) -> Vec<Vec<u8>> {
    let state_key = |(row, key): (&[u8], &Option<u32>)| match key {
        Some(key) => [keys.get(*key as usize), &hash128(row)].concat(),
        None => Vec::new(),
    };
    rows.iter().zip(of_row).map(state_key).collect()
}
