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
//! Where a condition beyond the keys decides about a match (left, semi, anti), each left row has a number of matches of
//! its own, which is kept ([`matches`]). `NOT IN` keeps how many rows and NULLs its right side has ([`not_in`]).
//!
//! A pair on which the condition fails is no match, and is reported with its weight ([`FailedPairs`]).

mod matches;
mod not_in;
mod pairs;
mod rule;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use plan::JoinKind;
use relation::key::KeyEncoder;
use relation::{DataType, Delta, TableId};
use store::Writes;

pub use self::pairs::FailedPairs;
use self::pairs::{Near, Pair, Pairs, Residual, batch_of, weights_of};
pub(super) use self::rule::compile;
use super::interner::Interner;
use super::{Bounds, States, in_shards, shard_range};
use crate::arrange::Side;
use crate::error::{Error, Result};
use crate::expr::{Condition, arrow_schema};

/// The rule of one join node.
pub struct JoinOp {
    kind: JoinKind,
    left: JoinSide,
    right: JoinSide,
    residual: Option<Residual>,
    /// Where [`JoinOp::is_counted`]: the counts.
    state: Option<TableId>,
    schema: SchemaRef,
    /// What a side that did not change brings.
    nothing: [Delta; 2],
}

/// One side: how its old rows are found by key.
pub struct JoinSide {
    pub side: Side,
    pub keys: Vec<usize>,
    pub types: Vec<DataType>,
    pub schema: SchemaRef,
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

/// What a join answers: its delta, and the pairs on which the condition failed.
pub struct Joined {
    pub delta: Delta,
    pub failed: FailedPairs,
}

/// What comes of old rows of one side.
pub struct Expanded {
    /// The output rows; each keeps the key under which its row was found.
    pub found: Found,
    pub failed: FailedPairs,
    /// How many rows and pairs were looked at for it: more than came of it, where a condition chose.
    pub looked_at: usize,
    /// Rows of the input that may have more output than was asked for.
    cut: Vec<u32>,
}

impl JoinOp {
    /// A join with its sides; `output` are the columns left then right (left alone for semi and anti joins). `state` holds
    /// the counts of one that [`JoinOp::is_counted`].
    pub fn new(
        kind: JoinKind,
        left: JoinSide,
        right: JoinSide,
        residual: Option<Condition>,
        output: &relation::Schema,
        state: Option<TableId>,
    ) -> Self {
        let fields: Vec<_> = left.schema.fields().iter().chain(right.schema.fields()).cloned().collect();
        let pairs = Arc::new(ArrowSchema::new(fields));
        let residual = residual.map(|condition| Residual::new(condition, pairs));
        let nothing = [Delta::empty(&left.schema), Delta::empty(&right.schema)];
        Self { kind, left, right, residual, state, schema: arrow_schema(output), nothing }
    }

    /// Whether a join keeps counts: of each left row's matches, or of the right side of a `NOT IN`.
    pub fn is_counted(kind: JoinKind, has_residual: bool) -> bool {
        match kind {
            JoinKind::Inner => false,
            JoinKind::NullAwareAnti => true,
            JoinKind::Left | JoinKind::Semi | JoinKind::Anti => has_residual,
        }
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

    /// The side of whose rows the counts are made.
    pub fn counting(&self) -> Driving {
        if self.kind == JoinKind::NullAwareAnti { Driving::Right } else { Driving::Left }
    }

    /// The counts alone, for a build, from a portion of the rows of the side that [`JoinOp::counting`] names. Answers with
    /// the pairs that failed, and how many rows were looked at.
    pub fn keep(&self, delta: &Delta, states: States<'_>, writes: &mut Writes) -> Result<(FailedPairs, usize)> {
        match (self.state, &self.residual) {
            (Some(table), Some(residual)) => self.keep_matches((table, residual), delta, states, writes),
            (Some(table), None) => {
                self.keep_totals(table, delta, states, writes)?;
                Ok((FailedPairs::default(), delta.len()))
            }
            (None, _) => Ok((FailedPairs::default(), 0)),
        }
    }

    /// The delta rule.
    pub fn apply(
        &self,
        left: Option<&Delta>,
        right: Option<&Delta>,
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<Joined> {
        let [no_left, no_right] = &self.nothing;
        let (left, right) = (left.unwrap_or(no_left), right.unwrap_or(no_right));
        match (self.state, &self.residual) {
            (Some(table), Some(residual)) => self.by_matches((table, residual), left, right, states, writes),
            (Some(table), None) => self.not_in(table, left, right, states, writes),
            (None, _) => self.in_parts(left, right, states),
        }
    }

    /// A large delta on one side alone is split: its rows do not meet each other, so any split gives the same answer.
    fn in_parts(&self, left: &Delta, right: &Delta, states: States<'_>) -> Result<Joined> {
        let shards = states.shards_for(left.len());
        if shards == 1 || !right.is_empty() {
            return self.in_one(left, right, states);
        }
        let parts = in_shards(shards, |i| {
            let rows = shard_range(left.len(), shards, i);
            let part = Delta::new(left.batch.slice(rows.start, rows.len()), left.weights[rows].to_vec());
            self.in_one(&part, right, states.within_shard())
        })?;
        let mut deltas = Vec::with_capacity(shards);
        let mut failed = FailedPairs::default();
        for part in parts {
            deltas.push(part.delta);
            failed.append(part.failed);
        }
        Ok(Joined { delta: Delta::concat(&self.schema, &deltas)?, failed })
    }

    fn in_one(&self, left: &Delta, right: &Delta, states: States<'_>) -> Result<Joined> {
        match self.kind {
            JoinKind::Inner => self.inner(left, right, states),
            _ => Ok(Joined { delta: self.by_counts(left, right, states)?, failed: FailedPairs::default() }),
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

    /// The output rows that come of old rows of one side, and which of those rows may have more: where each is met with
    /// `rows_max` rows of the other side at most. Each output row keeps the key under which its row was found.
    pub fn expand_some(
        &self,
        from: Driving,
        found: &Found,
        states: States<'_>,
        rows_max: usize,
    ) -> Result<(Found, Vec<u32>)> {
        let expanded = self.expand_up_to(from, found, states, rows_max)?;
        Ok((expanded.found, expanded.cut))
    }

    /// All that comes of old rows of one side.
    pub fn expand(&self, from: Driving, found: &Found, states: States<'_>) -> Result<Expanded> {
        self.expand_up_to(from, found, states, usize::MAX)
    }

    fn expand_up_to(&self, from: Driving, found: &Found, states: States<'_>, rows_max: usize) -> Result<Expanded> {
        let is_filter = matches!(self.kind, JoinKind::Semi | JoinKind::Anti);
        if is_filter && let Some(table) = self.state {
            let counts = self.matches_of(table, &found.delta, states)?;
            return self.filtered(found, states.bounds, |row| counts[row as usize] > 0);
        }
        let (near, far) = match from {
            Driving::Left => (&self.left, &self.right),
            Driving::Right => (&self.right, &self.left),
        };
        let mut keys = Interner::default();
        let of_row = keys_of(near, &found.delta.batch, &mut keys)?;
        if is_filter {
            // Whether there is a match is enough, and one is seen at once under a key with a million.
            let counts = far.side.count_up_to(states, &|i| keys.get(i), &vec![1; keys.len()])?;
            return self.filtered(found, states.bounds, |row| {
                of_row[row as usize].is_some_and(|key| counts[key as usize] > 0)
            });
        }
        // Whether a left row is padded is known of all its matches.
        let rows_max = if self.kind == JoinKind::Inner { rows_max } else { usize::MAX };
        let (met, is_cut) = far.side.find_some(states, keys.len(), &|i| keys.get(i), rows_max)?;
        let near = if from == Driving::Left { Near::Left } else { Near::Right };
        let mut failed = FailedPairs::default();
        let all = Pairs::new(near, &of_row, keys.len(), &met.key).within(states.bounds)?;
        let (left, right) = match from {
            Driving::Left => (&found.delta, &met.delta),
            Driving::Right => (&met.delta, &found.delta),
        };
        let mut looked_at = met.key.len();
        let pairs = match &self.residual {
            None => all.collect(),
            Some(residual) => {
                let mut pairs = Vec::new();
                residual.each_match(left, right, all.inspect(|_| looked_at += 1), &mut failed, &mut |pair| {
                    pairs.push(pair);
                    Ok(())
                })?;
                pairs
            }
        };
        looked_at = looked_at.max(pairs.len());
        let mut out = Output::new(self, states.bounds);
        out.pairs(left, right, &pairs)?;
        let mut rows: Vec<u32> = pairs.iter().map(|&(l, r)| if near == Near::Left { l } else { r }).collect();
        if self.pads() {
            let mut is_matched = vec![false; found.delta.len()];
            rows.iter().for_each(|&row| is_matched[row as usize] = true);
            let alone: Vec<u32> = (0..found.delta.len() as u32).filter(|&row| !is_matched[row as usize]).collect();
            out.alone(&found.delta, &alone, None)?;
            rows.extend(alone);
        }
        let key = rows.into_iter().map(|row| found.key[row as usize]).collect();
        let cut = (0..found.delta.len() as u32).filter(|&row| of_row[row as usize].is_some_and(|k| is_cut[k as usize]));
        Ok(Expanded { found: Found { delta: out.finish()?, key }, failed, looked_at, cut: cut.collect() })
    }

    /// The rows of a semi or anti join among rows of its left side.
    fn filtered(&self, found: &Found, bounds: Bounds, is_matched: impl Fn(u32) -> bool) -> Result<Expanded> {
        let wanted = self.kind == JoinKind::Semi;
        let rows: Vec<u32> = (0..found.delta.len() as u32).filter(|&row| is_matched(row) == wanted).collect();
        let key = rows.iter().map(|&row| found.key[row as usize]).collect();
        let mut out = Output::new(self, bounds);
        out.alone(&found.delta, &rows, None)?;
        let found_rows = Found { delta: out.finish()?, key };
        Ok(Expanded {
            found: found_rows,
            failed: FailedPairs::default(),
            looked_at: found.delta.len(),
            cut: Vec::new(),
        })
    }

    fn inner(&self, left: &Delta, right: &Delta, states: States<'_>) -> Result<Joined> {
        let mut keys = Interner::default();
        let left_of_row = keys_of(&self.left, &left.batch, &mut keys)?;
        let of_left = keys.len();
        let right_of_row = keys_of(&self.right, &right.batch, &mut keys)?;
        let mut of_right: Vec<u32> = right_of_row.iter().flatten().copied().collect();
        of_right.sort_unstable();
        of_right.dedup();
        let mut out = Output::new(self, states.bounds);
        let mut failed = FailedPairs::default();
        if of_left > 0 {
            let found = self.right.side.find(states, of_left, &|k| keys.get(k))?;
            let pairs = Pairs::new(Near::Left, &left_of_row, keys.len(), &found.key);
            out.matching(left, &found.delta, pairs, &mut failed)?;
        }
        if !of_right.is_empty() {
            let mut found = self.left.side.find(states, of_right.len(), &|k| keys.get(of_right[k] as usize))?;
            found.key.iter_mut().for_each(|k| *k = of_right[*k as usize]);
            let pairs = Pairs::new(Near::Right, &right_of_row, keys.len(), &found.key);
            out.matching(&found.delta, right, pairs, &mut failed)?;
            let pairs = Pairs::of_optional(Near::Left, &left_of_row, keys.len(), &right_of_row);
            out.matching(left, right, pairs, &mut failed)?;
        }
        Ok(Joined { delta: out.finish()?, failed })
    }

    /// Left, semi and anti joins on keys alone.
    fn by_counts(&self, left: &Delta, right: &Delta, states: States<'_>) -> Result<Delta> {
        let mut keys = Interner::default();
        let left_of_row = keys_of(&self.left, &left.batch, &mut keys)?;
        let of_left = keys.len();
        let right_of_row = keys_of(&self.right, &right.batch, &mut keys)?;
        // A left join pairs the left rows that came with the right rows there are; else their number is enough.
        let whole = if self.pads() { of_left } else { 0 };
        let old_right = self.right.side.find(states, whole, &|i| keys.get(i))?;
        let mut known = vec![0_i64; whole];
        for (row, &key) in old_right.key.iter().enumerate() {
            add(&mut known[key as usize], old_right.delta.weights[row])?;
        }
        let counts = self.counts(&keys, known, &right_of_row, &right.weights, states)?;
        // Old rows of the left matter where the right side brought pairs, or where a first match came or the last one went.
        let matters = |k: usize| counts.is_touched[k] && (self.pads() || counts.crosses(k));
        let touched: Vec<u32> = (0..keys.len() as u32).filter(|&k| matters(k as usize)).collect();
        let mut old_left = self.left.side.find(states, touched.len(), &|i| keys.get(touched[i] as usize))?;
        old_left.key.iter_mut().for_each(|k| *k = touched[*k as usize]);

        let mut out = Output::new(self, states.bounds);
        if self.pads() {
            let pairs = Pairs::new(Near::Left, &left_of_row, keys.len(), &old_right.key);
            let pairs: Vec<Pair> = pairs.within(states.bounds)?.collect();
            out.pairs(left, &old_right.delta, &pairs)?;
            let old_left_keys: Vec<_> = old_left.key.iter().map(|&k| Some(k)).collect();
            for (rows, of_row) in [(&old_left.delta, &old_left_keys), (left, &left_of_row)] {
                let pairs = Pairs::of_optional(Near::Left, of_row, keys.len(), &right_of_row);
                let pairs: Vec<Pair> = pairs.within(states.bounds)?.collect();
                out.pairs(rows, right, &pairs)?;
            }
        }
        let stands = |key: Option<u32>| match key {
            Some(key) => self.is_alone(counts.after[key as usize]),
            None => self.null_stands(),
        };
        let fresh: Vec<u32> = (0..left.len() as u32).filter(|&row| stands(left_of_row[row as usize])).collect();
        out.alone(left, &fresh, None)?;
        let mut crossed = Vec::new();
        let mut signs = Vec::new();
        for (row, &key) in old_left.key.iter().enumerate() {
            let (before, after) = (counts.before[key as usize], counts.after[key as usize]);
            let sign = i64::from(self.is_alone(after)) - i64::from(self.is_alone(before));
            if sign != 0 {
                crossed.push(row as u32);
                signs.push(sign);
            }
        }
        out.alone(&old_left.delta, &crossed, Some(&signs))?;
        out.finish()
    }

    /// How many right rows there are under each key, before and after; `known` of the first ones.
    fn counts(
        &self,
        keys: &Interner,
        known: Vec<i64>,
        right_of_row: &[Option<u32>],
        weights: &[i64],
        states: States<'_>,
    ) -> Result<Counts> {
        let mut by = vec![0_i64; keys.len()];
        // Whether a match stays is known once there are more rows than go.
        let mut limits = vec![1_i64; keys.len()];
        let mut is_touched = vec![false; keys.len()];
        for (key, &weight) in right_of_row.iter().zip(weights) {
            let Some(key) = *key else { continue };
            add(&mut by[key as usize], weight)?;
            add(&mut limits[key as usize], weight.min(0).checked_neg().unwrap_or(i64::MAX))?;
            is_touched[key as usize] = true;
        }
        let mut before = known;
        let whole = before.len();
        before.extend(self.right.side.count_up_to(states, &|i| keys.get(whole + i), &limits[whole..])?);
        let mut after = before.clone();
        for (after, by) in after.iter_mut().zip(&by) {
            add(after, *by)?;
            if *after < 0 {
                let what = "a side has fewer than no rows under a key";
                return Err(Error::Broken { node: "join".to_owned(), what });
            }
        }
        Ok(Counts { before, after, is_touched })
    }

    /// Whether unmatched left rows come out, padded with NULLs.
    fn pads(&self) -> bool {
        self.kind == JoinKind::Left
    }

    /// Whether a left row with so many matches comes out alone.
    fn is_alone(&self, count: i64) -> bool {
        (count > 0) == (self.kind == JoinKind::Semi)
    }

    /// Whether a left row whose key is NULL comes out alone.
    fn null_stands(&self) -> bool {
        matches!(self.kind, JoinKind::Left | JoinKind::Anti)
    }
}

/// Right rows under the keys of a step.
struct Counts {
    before: Vec<i64>,
    after: Vec<i64>,
    /// Whether the right side changed under the key.
    is_touched: Vec<bool>,
}

impl Counts {
    /// Whether a first match came or the last one went.
    fn crosses(&self, key: usize) -> bool {
        (self.before[key] > 0) != (self.after[key] > 0)
    }
}

/// The output of a rule, part by part.
struct Output<'a> {
    join: &'a JoinOp,
    bounds: Bounds,
    /// Bytes of the pairs so far, about.
    bytes: usize,
    parts: Vec<Delta>,
}

impl<'a> Output<'a> {
    fn new(join: &'a JoinOp, bounds: Bounds) -> Self {
        Self { join, bounds, bytes: 0, parts: Vec::new() }
    }

    /// The pairs that satisfy the residual condition.
    fn matching(&mut self, left: &Delta, right: &Delta, pairs: Pairs<'_>, failed: &mut FailedPairs) -> Result<()> {
        let pairs = pairs.within(self.bounds)?;
        let pairs: Vec<Pair> = match &self.join.residual {
            None => pairs.collect(),
            Some(residual) => {
                let mut matching = Vec::new();
                residual.each_match(left, right, pairs, failed, &mut |pair| {
                    matching.push(pair);
                    Ok(())
                })?;
                matching
            }
        };
        self.pairs(left, right, &pairs)
    }

    fn pairs(&mut self, left: &Delta, right: &Delta, pairs: &[Pair]) -> Result<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        let of_pair = bytes_per_row(left) + bytes_per_row(right);
        self.bytes = self.bytes.saturating_add(of_pair.saturating_mul(pairs.len()));
        self.bounds.check_bytes(self.bytes)?;
        let batch = batch_of(&self.join.schema, left, right, pairs)?;
        self.parts.push(Delta::new(batch, weights_of(left, right, pairs)?));
        Ok(())
    }

    /// Left rows that come out alone: padded with NULLs in a left join. `signs` multiply the weights.
    fn alone(&mut self, left: &Delta, rows: &[u32], signs: Option<&[i64]>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let taken = left.take(rows)?;
        let mut arrays: Vec<ArrayRef> = taken.batch.columns().to_vec();
        if self.join.pads() {
            arrays.extend(self.join.right.types.iter().map(|t| new_null_array(&t.to_arrow(), rows.len())));
        }
        let weights = match signs {
            None => taken.weights,
            Some(signs) => taken.weights.iter().zip(signs).map(|(w, s)| w * s).collect(),
        };
        self.parts.push(Delta::new(relation::columns::batch(&self.join.schema, arrays, rows.len())?, weights));
        Ok(())
    }

    fn finish(mut self) -> Result<Delta> {
        if self.parts.len() == 1
            && let Some(only) = self.parts.pop()
        {
            return Ok(only);
        }
        Ok(Delta::concat(&self.join.schema, &self.parts)?)
    }
}

/// What a row of a delta takes, about.
fn bytes_per_row(delta: &Delta) -> usize {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
    delta.batch.columns().iter().map(bytes).sum::<usize>().checked_div(delta.len()).unwrap_or(0)
}

/// The key of each row, interned; none where the key holds a NULL.
fn keys_of(side: &JoinSide, batch: &RecordBatch, keys: &mut Interner) -> Result<Vec<Option<u32>>> {
    if batch.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let columns = side.keys.iter().map(|&c| (Arc::clone(batch.column(c)), side.types[c])).collect();
    let encoder = KeyEncoder::new(columns);
    let mut key = Vec::new();
    let mut of_row = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        if encoder.has_null(row) {
            of_row.push(None);
            continue;
        }
        key.clear();
        encoder.push(row, &mut key);
        of_row.push(Some(keys.intern(&key)?.0));
    }
    Ok(of_row)
}

fn add(total: &mut i64, by: i64) -> Result<()> {
    *total = total.checked_add(by).ok_or(relation::Error::Overflow("weight"))?;
    Ok(())
}
