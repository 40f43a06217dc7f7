//! Pairs of rows under one key, and the condition that chooses among them.
//!
//! Pairs are made and judged in portions: under a key with many rows on both sides there are far more of them than of
//! rows. A portion holds the columns that the condition reads, and nothing else.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType as Arrow, SchemaRef};
use relation::Delta;

use crate::error::{Error, Result};
use crate::expr::{Condition, Failure};
use crate::operator::Bounds;

/// Pairs that are judged at once, and bytes of their texts.
const PAIRS_MAX: usize = 16_384;
const PAIR_BYTES_MAX: usize = 16 << 20;

/// A left row and a right row, by position.
pub(super) type Pair = (u32, u32);

/// Pairs on which a condition failed, with their weights, and what it said of them.
#[derive(Default)]
pub struct FailedPairs {
    /// Columns left then right; the failures count from the beginning of their part.
    pub parts: Vec<(Delta, Vec<Failure>)>,
}

impl FailedPairs {
    /// Takes over those of another.
    pub fn append(&mut self, mut other: Self) {
        self.parts.append(&mut other.parts);
    }
}

/// Which side the rows stand on that found rows are paired with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Near {
    Left,
    Right,
}

/// All pairs of a row and a found row under one key, in the order of the rows.
pub(super) struct Pairs<'a> {
    near: Near,
    /// The key of each row.
    of_row: &'a [Option<u32>],
    /// Where a key's rows begin in `sorted`.
    starts: Vec<u32>,
    /// Found rows by key.
    sorted: Vec<u32>,
    row: usize,
    at: usize,
}

impl<'a> Pairs<'a> {
    /// `found` gives the key of each found row, as a number below `keys`.
    pub(super) fn new(near: Near, of_row: &'a [Option<u32>], keys: usize, found: &[u32]) -> Self {
        let known: Vec<Pair> = found.iter().enumerate().map(|(row, &key)| (row as u32, key)).collect();
        Self::of_known(near, of_row, keys, &known)
    }

    /// The same where not every row on the other side has a key.
    pub(super) fn of_optional(near: Near, of_row: &'a [Option<u32>], keys: usize, found: &[Option<u32>]) -> Self {
        let known = found.iter().enumerate().filter_map(|(row, key)| Some((row as u32, (*key)?)));
        Self::of_known(near, of_row, keys, &known.collect::<Vec<_>>())
    }

    /// Counting sort of rows and their keys.
    fn of_known(near: Near, of_row: &'a [Option<u32>], keys: usize, known: &[Pair]) -> Self {
        let mut starts = vec![0_u32; keys + 1];
        known.iter().for_each(|&(_, key)| starts[key as usize + 1] += 1);
        for key in 0..keys {
            starts[key + 1] += starts[key];
        }
        let mut next = starts.clone();
        let mut sorted = vec![0_u32; known.len()];
        for &(row, key) in known {
            sorted[next[key as usize] as usize] = row;
            next[key as usize] += 1;
        }
        Self { near, of_row, starts, sorted, row: 0, at: 0 }
    }

    /// Errors: they are more than one step may look at.
    pub(super) fn within(self, bounds: Bounds) -> Result<Self> {
        let of_key = |key: u32| u64::from(self.starts[key as usize + 1] - self.starts[key as usize]);
        let total: u64 = self.of_row.iter().flatten().map(|&key| of_key(key)).sum();
        if total <= bounds.pairs {
            return Ok(self);
        }
        let mut rows = vec![0_u64; self.starts.len() - 1];
        self.of_row.iter().flatten().for_each(|&key| rows[key as usize] += 1);
        let largest = (0..rows.len()).max_by_key(|&key| rows[key] * of_key(key as u32)).unwrap_or(0);
        Err(Error::TooMuch(format!(
            "a join pairs {total} rows in one step, of which {} meet {} under one value of its key: more than the {} pairs that a step \
             may look at",
            rows[largest],
            of_key(largest as u32),
            bounds.pairs
        )))
    }
}

impl Iterator for Pairs<'_> {
    type Item = Pair;

    #[inline]
    fn next(&mut self) -> Option<Pair> {
        loop {
            let key = self.of_row.get(self.row)?;
            let range =
                key.map_or(0..0, |key| self.starts[key as usize] as usize..self.starts[key as usize + 1] as usize);
            if let Some(&found) = self.sorted[range].get(self.at) {
                self.at += 1;
                let row = self.row as u32;
                return Some(if self.near == Near::Left { (row, found) } else { (found, row) });
            }
            self.row += 1;
            self.at = 0;
        }
    }
}

/// Columns left then right of some pairs.
pub(super) fn batch_of(schema: &SchemaRef, left: &Delta, right: &Delta, pairs: &[Pair]) -> Result<RecordBatch> {
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    columns_of(schema, &all, left, right, pairs)
}

/// The same with only some of the columns; the others are NULL.
fn columns_of(
    schema: &SchemaRef,
    wanted: &[usize],
    left: &Delta,
    right: &Delta,
    pairs: &[Pair],
) -> Result<RecordBatch> {
    let lefts = Positions::of(left, pairs.iter().map(|&(l, _)| l));
    let rights = Positions::of(right, pairs.iter().map(|&(_, r)| r));
    let width = left.batch.num_columns();
    let array = |(i, field): (usize, &Arc<arrow::datatypes::Field>)| -> Result<ArrayRef> {
        Ok(match i.checked_sub(width) {
            _ if !wanted.contains(&i) => new_null_array(field.data_type(), pairs.len()),
            None => lefts.take(left.batch.column(i))?,
            Some(i) => rights.take(right.batch.column(i))?,
        })
    };
    let arrays = schema.fields().iter().enumerate().map(array).collect::<Result<_>>()?;
    Ok(relation::columns::batch(schema, arrays, pairs.len())?)
}

/// Rows of one side in the order of pairs.
enum Positions {
    /// Each row once, in order: where every row has one match, as most joins to a key have.
    All,
    Some(UInt32Array),
}

impl Positions {
    fn of(side: &Delta, rows: impl ExactSizeIterator<Item = u32> + Clone) -> Self {
        if rows.len() == side.len() && rows.clone().enumerate().all(|(i, row)| i == row as usize) {
            return Self::All;
        }
        Self::Some(UInt32Array::from_iter_values(rows))
    }

    fn take(&self, column: &ArrayRef) -> Result<ArrayRef> {
        match self {
            Self::All => Ok(Arc::clone(column)),
            Self::Some(rows) => Ok(take(column, rows, None)?),
        }
    }
}

/// What one pair weighs.
pub(super) fn weights_of(left: &Delta, right: &Delta, pairs: &[Pair]) -> Result<Vec<i64>> {
    let product = |&(l, r): &Pair| left.weights[l as usize].checked_mul(right.weights[r as usize]);
    let weights = pairs.iter().map(product).collect::<Option<_>>();
    Ok(weights.ok_or(relation::Error::Overflow("weight"))?)
}

/// A condition over pairs, with their columns.
pub(super) struct Residual {
    condition: Condition,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Residual {
    /// `schema` are the columns left then right.
    pub(super) fn new(condition: Condition, schema: SchemaRef) -> Self {
        Self { columns: condition.columns(), condition, schema }
    }

    /// Calls `each` with every pair for which the condition is true, and notes those on which it fails.
    pub(super) fn each_match(
        &self,
        left: &Delta,
        right: &Delta,
        mut pairs: impl Iterator<Item = Pair>,
        failed: &mut FailedPairs,
        each: &mut dyn FnMut(Pair) -> Result<()>,
    ) -> Result<()> {
        let width = left.batch.num_columns();
        let (of_left, of_right): (Vec<usize>, Vec<usize>) = self.columns.iter().partition(|&&c| c < width);
        let of_right: Vec<usize> = of_right.into_iter().map(|c| c - width).collect();
        let bytes = |&(l, r): &Pair| text_bytes(&left.batch, &of_left, l) + text_bytes(&right.batch, &of_right, r);
        loop {
            let mut portion: Vec<Pair> = Vec::new();
            let mut size = 0;
            while portion.len() < PAIRS_MAX && size < PAIR_BYTES_MAX {
                let Some(pair) = pairs.next() else { break };
                size += bytes(&pair);
                portion.push(pair);
            }
            if portion.is_empty() {
                return Ok(());
            }
            let batch = columns_of(&self.schema, &self.columns, left, right, &portion)?;
            let (holds, failures) = self.condition.select(&batch);
            holds.into_iter().try_for_each(|i| each(portion[i as usize]))?;
            if !failures.is_empty() {
                failed.parts.push(self.failed(left, right, &portion, failures)?);
            }
        }
    }

    fn failed(
        &self,
        left: &Delta,
        right: &Delta,
        portion: &[Pair],
        failures: Vec<Failure>,
    ) -> Result<(Delta, Vec<Failure>)> {
        let pairs: Vec<Pair> = failures.iter().map(|failure| portion[failure.row as usize]).collect();
        let weights = weights_of(left, right, &pairs)?;
        let pairs = Delta::new(batch_of(&self.schema, left, right, &pairs)?, weights);
        let numbered = failures.into_iter().enumerate();
        Ok((pairs, numbered.map(|(row, failure)| Failure { row: row as u32, ..failure }).collect()))
    }
}

/// Bytes of the values of a variable column at some positions.
fn bytes_of(array: &ArrayRef, rows: std::ops::Range<usize>) -> usize {
    /// The width of most elements.
    const ELEMENT_BYTES: usize = 8;
    fn ends(offsets: &[i32], rows: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        let at = |row: usize| offsets.get(row).and_then(|at| usize::try_from(*at).ok()).unwrap_or(0);
        at(rows.start)..at(rows.end)
    }
    match array.data_type() {
        Arrow::Utf8 => ends(array.as_string::<i32>().value_offsets(), &rows).len(),
        Arrow::Binary => ends(array.as_binary::<i32>().value_offsets(), &rows).len(),
        Arrow::List(_) => {
            let lists = array.as_list::<i32>();
            let elements = ends(lists.value_offsets(), &rows);
            ELEMENT_BYTES * elements.len() + bytes_of(lists.values(), elements)
        }
        _ => 0,
    }
}

/// Bytes of the variable columns among some, in one row.
fn text_bytes(batch: &RecordBatch, columns: &[usize], row: u32) -> usize {
    let row = row as usize;
    columns.iter().map(|&c| bytes_of(batch.column(c), row..row + 1)).sum()
}
