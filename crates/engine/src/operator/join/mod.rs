//! Joins.
//!
//! Law, for the inner join: Δ(A ⋈ B) = ΔA ⋈ B + A ⋈ ΔB + ΔA ⋈ ΔB, with A and B as they were before the step. It is an
//! identity over multisets, so self-joins and diamonds, where one change arrives on both sides, need no care.
//!
//! A left join adds the padded rows: left rows whose key has no match. They change for ΔA rows whose key has no match
//! after the step, and for the rows of A under a key whose number of matches left or reached zero. Semi and anti joins
//! are these two cases alone, without padding. Where only the number of matches matters it is counted no further than
//! needed: a key with a million rows on the other side costs what one with two costs. NULL keys match nothing.
//!
//! Where a condition beyond the keys decides about a match (left, semi, anti), and for `NOT IN`, the touched keys are
//! joined twice, before and after, and the answers subtracted.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use plan::JoinKind;
use relation::key::KeyEncoder;
use relation::{DataType, Delta};

use super::{States, in_shards, shard_range};
use crate::arrange::Side;
use crate::error::Result;
use crate::expr::{Condition, Failure, arrow_schema};

/// The rule of one join node.
pub struct JoinOp {
    kind: JoinKind,
    left: JoinSide,
    right: JoinSide,
    residual: Option<Condition>,
    schema: SchemaRef,
    types: Vec<DataType>,
}

/// One side: how its old rows are found by key.
pub struct JoinSide {
    pub side: Side,
    pub keys: Vec<usize>,
    pub types: Vec<DataType>,
    pub schema: SchemaRef,
}

/// Distinct join keys of some rows, and the rows of each.
struct Keys {
    index: HashTable<u32>,
    hasher: FixedState,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Per row its key; none where the key holds a NULL.
    of_row: Vec<Option<u32>>,
}

impl Keys {
    fn new() -> Self {
        Self {
            index: HashTable::new(),
            hasher: FixedState::default(),
            bytes: Vec::new(),
            ends: Vec::new(),
            of_row: Vec::new(),
        }
    }

    fn of(side: &JoinSide, batch: &RecordBatch) -> Self {
        let mut keys = Self::new();
        keys.of_row = keys.add(side, batch);
        keys
    }

    /// Interns the keys of a batch.
    fn add(&mut self, side: &JoinSide, batch: &RecordBatch) -> Vec<Option<u32>> {
        let columns = side.keys.iter().map(|&c| (Arc::clone(batch.column(c)), side.types[c])).collect();
        let encoder = KeyEncoder::new(columns);
        let mut key = Vec::new();
        (0..batch.num_rows())
            .map(|row| {
                if encoder.has_null(row) {
                    return None;
                }
                key.clear();
                encoder.push(row, &mut key);
                Some(self.intern(&key))
            })
            .collect()
    }

    fn intern(&mut self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        if let Some(found) = self.find(key) {
            return found;
        }
        let id = self.ends.len() as u32;
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len() as u32);
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        self.index.insert_unique(hash, id, |&k| hasher.hash_one(slice_of(bytes, ends, k)));
        id
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&k| slice_of(&self.bytes, &self.ends, k) == key).copied()
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, i: usize) -> &[u8] {
        slice_of(&self.bytes, &self.ends, i as u32)
    }
}

fn slice_of<'a>(bytes: &'a [u8], ends: &[u32], i: u32) -> &'a [u8] {
    let start = if i == 0 { 0 } else { ends[i as usize - 1] as usize };
    &bytes[start..ends[i as usize] as usize]
}

/// The keys asked for, by position.
pub type KeyOf<'a, 'k> = &'a (dyn Fn(usize) -> &'k [u8] + Sync);

/// Old rows of one side under some keys.
pub struct Found {
    pub delta: Delta,
    /// Per row the position of its key in the list of keys that was asked.
    pub key: Vec<u32>,
}

impl Found {
    /// Rows each found by a key of its own.
    pub fn all(delta: Delta) -> Self {
        Self { key: (0..delta.len() as u32).collect(), delta }
    }
}

/// The side of a join whose rows are looked up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driving {
    Left,
    Right,
}

/// What a join answers: its delta, and rows for which the residual condition failed.
pub type Joined = (Delta, Vec<Failure>);

impl JoinOp {
    /// A join with its sides; `output` are the columns left then right (left alone for semi and anti joins).
    pub fn new(
        kind: JoinKind,
        left: JoinSide,
        right: JoinSide,
        residual: Option<Condition>,
        output: &relation::Schema,
    ) -> Self {
        Self { kind, left, right, residual, schema: arrow_schema(output), types: output.types() }
    }

    /// What is joined, and how.
    pub fn kind(&self) -> JoinKind {
        self.kind
    }

    /// The side whose rows, each met with the other side, are the whole join: the left one, unless only the left one finds
    /// a row of a key by one read.
    pub fn pouring(&self) -> Driving {
        let right = self.kind == JoinKind::Inner && self.left.side.is_unique() && !self.right.side.is_unique();
        if right { Driving::Right } else { Driving::Left }
    }

    /// The delta rule.
    pub fn apply(&self, left: Option<&Delta>, right: Option<&Delta>, states: States<'_>) -> Result<Joined> {
        let empty_left = Delta::empty(&self.left.schema);
        let empty_right = Delta::empty(&self.right.schema);
        let (left, right) = (left.unwrap_or(&empty_left), right.unwrap_or(&empty_right));
        let shards = states.shards_for(left.len());
        // Rows of a delta on one side alone do not meet each other: any split of them gives the same answer.
        if shards == 1 || !right.is_empty() || !self.is_splittable() {
            return self.apply_whole(left, right, states);
        }
        let parts = in_shards(shards, |i| {
            let rows = shard_range(left.len(), shards, i);
            let part = Delta::new(left.batch.slice(rows.start, rows.len()), left.weights[rows].to_vec());
            self.apply_whole(&part, right, states.within_shard())
        })?;
        let (deltas, failures): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        Ok((Delta::concat(&self.schema, &deltas)?, failures.concat()))
    }

    /// Whether rows of the left delta are answered one by one: not where touched keys are joined as a whole.
    fn is_splittable(&self) -> bool {
        match self.kind {
            JoinKind::Inner => true,
            JoinKind::NullAwareAnti => false,
            _ => self.residual.is_none(),
        }
    }

    fn apply_whole(&self, left: &Delta, right: &Delta, states: States<'_>) -> Result<Joined> {
        match self.kind {
            JoinKind::Inner => self.inner(left, right, states),
            JoinKind::NullAwareAnti => self.by_recomputation(left, right, states),
            _ if self.residual.is_some() => self.by_recomputation(left, right, states),
            _ => self.by_counts(left, right, states),
        }
    }

    /// Through which side rows of the output are found by these columns of it, and by which columns of that side.
    ///
    /// An inner join's key is in both its sides, so that a column of one may stand for that of the other.
    pub fn driving(&self, columns: &[usize]) -> Option<(Driving, Vec<usize>)> {
        let inner = self.kind == JoinKind::Inner;
        if self.kind == JoinKind::NullAwareAnti || (!inner && self.residual.is_some()) {
            return None;
        }
        let width = self.left.types.len();
        let same = |column: usize, from: &JoinSide, to: &JoinSide| {
            let at = from.keys.iter().position(|&key| key == column)?;
            inner.then(|| to.keys[at])
        };
        let of_left = |&c: &usize| if c < width { Some(c) } else { same(c - width, &self.right, &self.left) };
        let of_right = |&c: &usize| if c < width { same(c, &self.left, &self.right) } else { Some(c - width) };
        if let Some(columns) = columns.iter().map(of_left).collect() {
            return Some((Driving::Left, columns));
        }
        let columns = inner.then(|| columns.iter().map(of_right).collect::<Option<_>>())??;
        Some((Driving::Right, columns))
    }

    /// The output rows that come of old rows of one side; each keeps the key under which its row was found.
    pub fn expand(&self, from: Driving, found: &Found, states: States<'_>) -> Result<Found> {
        Ok(self.expand_counted(from, found, states)?.0)
    }

    /// The same, with how many rows and pairs were looked at for it: more than came of it, where a condition chose.
    pub fn expand_counted(&self, from: Driving, found: &Found, states: States<'_>) -> Result<(Found, usize)> {
        let (near, far) = match from {
            Driving::Left => (&self.left, &self.right),
            Driving::Right => (&self.right, &self.left),
        };
        let keys = Keys::of(near, &found.delta.batch);
        if matches!(self.kind, JoinKind::Semi | JoinKind::Anti) && self.residual.is_none() {
            // Whether there is a match is enough, and one is seen at once under a key with a million.
            let counts = far.side.count_up_to(states, &|i| keys.get(i), &vec![1; keys.len()])?;
            let wanted = self.kind == JoinKind::Semi;
            let is_matched = |row: u32| keys.of_row[row as usize].is_some_and(|key| counts[key as usize] > 0);
            let rows: Vec<u32> = (0..found.delta.len() as u32).filter(|&row| is_matched(row) == wanted).collect();
            let key = rows.iter().map(|&row| found.key[row as usize]).collect();
            return Ok((Found { delta: self.emit_left(&found.delta, &rows, None)?, key }, found.delta.len()));
        }
        let met = far.side.find(states, keys.len(), &|i| keys.get(i))?;
        let mut pairs = pair(&keys.of_row, keys.len(), &met.key);
        let looked_at = pairs.len().max(met.key.len());
        if let Some(residual) = &self.residual {
            let batch = match from {
                Driving::Left => self.pair_batch(&found.delta, &met.delta, &pairs)?,
                Driving::Right => self.pair_batch(&met.delta, &found.delta, &swapped(&pairs))?,
            };
            pairs = residual.select(&batch).0.into_iter().map(|i| pairs[i as usize]).collect();
        }
        let mut parts = Vec::new();
        let mut rows: Vec<u32> = Vec::new();
        if matches!(self.kind, JoinKind::Inner | JoinKind::Left) {
            parts.push(match from {
                Driving::Left => self.emit_pairs(&found.delta, &met.delta, &pairs)?,
                Driving::Right => self.emit_pairs(&met.delta, &found.delta, &swapped(&pairs))?,
            });
            rows.extend(pairs.iter().map(|&(row, _)| row));
        }
        if self.kind != JoinKind::Inner {
            let mut matched = vec![false; found.delta.len()];
            pairs.iter().for_each(|&(row, _)| matched[row as usize] = true);
            let wanted = self.kind == JoinKind::Semi;
            let alone: Vec<u32> = (0..found.delta.len() as u32).filter(|&r| matched[r as usize] == wanted).collect();
            parts.push(self.emit_left(&found.delta, &alone, None)?);
            rows.extend(alone);
        }
        let key = rows.into_iter().map(|row| found.key[row as usize]).collect();
        Ok((Found { delta: Delta::concat(&self.schema, &parts)?, key }, looked_at))
    }

    fn inner(&self, left: &Delta, right: &Delta, states: States<'_>) -> Result<Joined> {
        let mut parts = Vec::new();
        let mut failures = Vec::new();
        let left_keys = Keys::of(&self.left, &left.batch);
        let right_keys = Keys::of(&self.right, &right.batch);
        if left_keys.len() > 0 {
            let found = self.right.side.find(states, left_keys.len(), &|i| left_keys.get(i))?;
            let pairs = pair(&left_keys.of_row, left_keys.len(), &found.key);
            parts.push(self.emit(left, &found.delta, &pairs, &mut failures)?);
        }
        if right_keys.len() > 0 {
            let found = self.left.side.find(states, right_keys.len(), &|i| right_keys.get(i))?;
            let pairs: Vec<_> =
                pair(&right_keys.of_row, right_keys.len(), &found.key).into_iter().map(|(r, l)| (l, r)).collect();
            parts.push(self.emit(&found.delta, right, &pairs, &mut failures)?);
        }
        if left_keys.len() > 0 && right_keys.len() > 0 {
            let (rows, keys) = rows_with_known_keys(&right_keys, &left_keys);
            let pairs: Vec<_> = pair(&left_keys.of_row, left_keys.len(), &keys)
                .into_iter()
                .map(|(l, r)| (l, rows[r as usize]))
                .collect();
            parts.push(self.emit(left, right, &pairs, &mut failures)?);
        }
        Ok((Delta::concat(&self.schema, &parts)?, failures))
    }

    /// Left, semi and anti joins on keys alone.
    fn by_counts(&self, left: &Delta, right: &Delta, states: States<'_>) -> Result<Joined> {
        let mut keys = Keys::new();
        let left_of_row = keys.add(&self.left, &left.batch);
        let of_left = keys.len();
        let right_of_row = keys.add(&self.right, &right.batch);
        let mut by = vec![0_i64; keys.len()];
        // Whether a match stays is known once there are more rows than go.
        let mut limits = vec![1_i64; keys.len()];
        let mut touched = vec![false; keys.len()];
        for (row, key) in right_of_row.iter().enumerate() {
            if let Some(key) = key {
                by[*key as usize] += right.weights[row];
                limits[*key as usize] -= right.weights[row].min(0);
                touched[*key as usize] = true;
            }
        }
        // A left join pairs the left rows that came with the right rows there are; else their number is enough.
        let whole = if self.kind == JoinKind::Left { of_left } else { 0 };
        let old_right = self.right.side.find(states, whole, &|i| keys.get(i))?;
        let mut before = vec![0_i64; whole];
        for (row, &key) in old_right.key.iter().enumerate() {
            before[key as usize] += old_right.delta.weights[row];
        }
        before.extend(self.right.side.count_up_to(states, &|i| keys.get(whole + i), &limits[whole..])?);
        let after: Vec<i64> = before.iter().zip(&by).map(|(before, by)| before + by).collect();
        // Old rows of the left matter where the right side brought pairs, or where a first match came or the last one went.
        let crosses = |k: usize| (before[k] > 0) != (after[k] > 0);
        let matters = |k: usize| touched[k] && (self.kind == JoinKind::Left || crosses(k));
        let touched: Vec<u32> = (0..keys.len() as u32).filter(|&k| matters(k as usize)).collect();
        let mut old_left = self.left.side.find(states, touched.len(), &|i| keys.get(touched[i] as usize))?;
        old_left.key.iter_mut().for_each(|k| *k = touched[*k as usize]);

        let mut parts = Vec::new();
        let mut failures = Vec::new();
        if self.kind == JoinKind::Left {
            let pairs = pair(&left_of_row, keys.len(), &old_right.key);
            parts.push(self.emit(left, &old_right.delta, &pairs, &mut failures)?);
            let old_left_keys: Vec<_> = old_left.key.iter().map(|&k| Some(k)).collect();
            let (rows, known) = known_rows(&right_of_row);
            for of_row in [(&old_left.delta, &old_left_keys), (left, &left_of_row)] {
                let pairs: Vec<_> =
                    pair(of_row.1, keys.len(), &known).into_iter().map(|(l, r)| (l, rows[r as usize])).collect();
                parts.push(self.emit(of_row.0, right, &pairs, &mut failures)?);
            }
        }
        let matched = self.kind == JoinKind::Semi;
        let alone = |count: i64| (count > 0) == matched;
        let fresh: Vec<u32> = (0..left.len() as u32)
            .filter(|&row| left_of_row[row as usize].map_or(!matched, |k| alone(after[k as usize])))
            .collect();
        parts.push(self.emit_left(left, &fresh, None)?);
        let mut crossed = Vec::new();
        let mut signs = Vec::new();
        for (row, &key) in old_left.key.iter().enumerate() {
            let sign = i64::from(alone(after[key as usize])) - i64::from(alone(before[key as usize]));
            if sign != 0 {
                crossed.push(row as u32);
                signs.push(sign);
            }
        }
        parts.push(self.emit_left(&old_left.delta, &crossed, Some(&signs))?);
        Ok((Delta::concat(&self.schema, &parts)?, failures))
    }

    /// Joins the touched keys as they were and as they are, and subtracts.
    fn by_recomputation(&self, left: &Delta, right: &Delta, states: States<'_>) -> Result<Joined> {
        let mut keys = Keys::new();
        let everything = self.kind == JoinKind::NullAwareAnti;
        let (old_left, old_right) = if everything {
            (self.left.side.all(states)?, self.right.side.all(states)?)
        } else {
            keys.add(&self.left, &left.batch);
            keys.add(&self.right, &right.batch);
            let find = |side: &Side| side.find(states, keys.len(), &|i| keys.get(i)).map(|found| found.delta);
            (find(&self.left.side)?, find(&self.right.side)?)
        };
        let new_left = Delta::concat(&self.left.schema, &[old_left.clone(), left.clone()])?;
        let new_right = Delta::concat(&self.right.schema, &[old_right.clone(), right.clone()])?;
        let new_left = new_left.consolidate(&self.left.types)?;
        let new_right = new_right.consolidate(&self.right.types)?;
        let mut failures = Vec::new();
        let mut before = self.whole(&old_left, &old_right, &mut Vec::new())?;
        let after = self.whole(&new_left, &new_right, &mut failures)?;
        before.weights.iter_mut().for_each(|w| *w = -*w);
        let both = Delta::concat(&self.schema, &[before, after])?;
        Ok((both.consolidate(&self.types)?, failures))
    }

    /// The join of two whole relations, by hash.
    fn whole(&self, left: &Delta, right: &Delta, failures: &mut Vec<Failure>) -> Result<Delta> {
        let mut keys = Keys::new();
        let left_of_row = keys.add(&self.left, &left.batch);
        let right_of_row = keys.add(&self.right, &right.batch);
        let (rows, known) = known_rows(&right_of_row);
        let pairs: Vec<(u32, u32)> =
            pair(&left_of_row, keys.len(), &known).into_iter().map(|(l, r)| (l, rows[r as usize])).collect();
        let pairs = match &self.residual {
            None => pairs,
            Some(residual) => {
                let (holds, failed) = residual.select(&self.pair_batch(left, right, &pairs)?);
                failures.extend(failed);
                holds.into_iter().map(|i| pairs[i as usize]).collect()
            }
        };
        let mut matches = vec![0_i64; left.len()];
        for &(l, r) in &pairs {
            matches[l as usize] += right.weights[r as usize];
        }
        let nulls_right = right_of_row.iter().zip(&right.weights).any(|(key, &w)| key.is_none() && w > 0);
        let any_right = right.weights.iter().any(|&w| w > 0);
        let stays = |row: usize| match self.kind {
            JoinKind::Semi => matches[row] > 0,
            JoinKind::NullAwareAnti => !any_right || (left_of_row[row].is_some() && !nulls_right && matches[row] == 0),
            _ => matches[row] == 0,
        };
        let alone: Vec<u32> = (0..left.len() as u32).filter(|&row| stays(row as usize)).collect();
        let mut parts = vec![self.emit_left(left, &alone, None)?];
        if self.kind == JoinKind::Left {
            parts.push(self.emit_pairs(left, right, &pairs)?);
        }
        Delta::concat(&self.schema, &parts).map_err(Into::into)
    }

    /// Pairs that satisfy the residual condition.
    fn emit(&self, left: &Delta, right: &Delta, pairs: &[(u32, u32)], failures: &mut Vec<Failure>) -> Result<Delta> {
        let out = self.emit_pairs(left, right, pairs)?;
        let Some(residual) = &self.residual else { return Ok(out) };
        let (holds, failed) = residual.select(&out.batch);
        failures.extend(failed);
        Ok(out.take(&holds)?)
    }

    fn emit_pairs(&self, left: &Delta, right: &Delta, pairs: &[(u32, u32)]) -> Result<Delta> {
        let batch = self.pair_batch(left, right, pairs)?;
        let weights = pairs
            .iter()
            .map(|&(l, r)| left.weights[l as usize].checked_mul(right.weights[r as usize]))
            .collect::<Option<Vec<_>>>()
            .ok_or(relation::Error::Overflow("weight"))?;
        Ok(Delta::new(relation::columns::batch(&self.schema, batch.columns().to_vec(), pairs.len())?, weights))
    }

    /// Columns left then right of some pairs.
    fn pair_batch(&self, left: &Delta, right: &Delta, pairs: &[(u32, u32)]) -> Result<RecordBatch> {
        let lefts = UInt32Array::from_iter_values(pairs.iter().map(|&(l, _)| l));
        let rights = UInt32Array::from_iter_values(pairs.iter().map(|&(_, r)| r));
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for (batch, rows) in [(&left.batch, &lefts), (&right.batch, &rights)] {
            for array in batch.columns() {
                arrays.push(take(array, rows, None)?);
            }
        }
        let fields: Vec<_> = self.left.schema.fields().iter().chain(self.right.schema.fields()).cloned().collect();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        Ok(relation::columns::batch(&schema, arrays, pairs.len())?)
    }

    /// Left rows that come out alone: padded with NULLs in a left join. `signs` multiply the weights.
    fn emit_left(&self, left: &Delta, rows: &[u32], signs: Option<&[i64]>) -> Result<Delta> {
        let taken = left.take(rows)?;
        let mut arrays = taken.batch.columns().to_vec();
        if self.kind == JoinKind::Left {
            arrays.extend(self.right.types.iter().map(|t| new_null_array(&t.to_arrow(), rows.len())));
        }
        let weights = match signs {
            None => taken.weights,
            Some(signs) => taken.weights.iter().zip(signs).map(|(w, s)| w * s).collect(),
        };
        Ok(Delta::new(relation::columns::batch(&self.schema, arrays, rows.len())?, weights))
    }
}

/// All pairs of a row and a found row under one key: `of_row` gives a row's key, `found` a found row's.
fn pair(of_row: &[Option<u32>], keys: usize, found: &[u32]) -> Vec<(u32, u32)> {
    if found.is_empty() || of_row.is_empty() {
        return Vec::new();
    }
    // Found rows by key: counting sort.
    let mut starts = vec![0_u32; keys + 1];
    found.iter().for_each(|&k| starts[k as usize + 1] += 1);
    for k in 0..keys {
        starts[k + 1] += starts[k];
    }
    let mut next = starts.clone();
    let mut sorted = vec![0_u32; found.len()];
    for (row, &k) in found.iter().enumerate() {
        sorted[next[k as usize] as usize] = row as u32;
        next[k as usize] += 1;
    }
    let mut pairs = Vec::with_capacity(of_row.len());
    for (row, key) in of_row.iter().enumerate() {
        let Some(key) = key else { continue };
        let range = starts[*key as usize] as usize..starts[*key as usize + 1] as usize;
        pairs.extend(sorted[range].iter().map(|&found| (row as u32, found)));
    }
    pairs
}

fn swapped(pairs: &[(u32, u32)]) -> Vec<(u32, u32)> {
    pairs.iter().map(|&(a, b)| (b, a)).collect()
}

/// Rows that have a key, and that key.
fn known_rows(of_row: &[Option<u32>]) -> (Vec<u32>, Vec<u32>) {
    of_row.iter().enumerate().filter_map(|(row, key)| Some((row as u32, (*key)?))).unzip()
}

/// Rows of `keys` whose key occurs in `others` too, and its number there.
fn rows_with_known_keys(keys: &Keys, others: &Keys) -> (Vec<u32>, Vec<u32>) {
    let translated: Vec<Option<u32>> = (0..keys.len()).map(|i| others.find(keys.get(i))).collect();
    let rows = keys.of_row.iter().enumerate();
    rows.filter_map(|(row, key)| Some((row as u32, translated[(*key)? as usize]?))).unzip()
}
