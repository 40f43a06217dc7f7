//! Operators: each states its delta rule in its own file; what they have in common is [`rule`].

#![expect(clippy::cast_possible_truncation, reason = "positions of rows in a batch, which holds fewer than 4 Gi")]

pub mod aggregate;
mod interner;
pub mod join;
mod linear;
pub(crate) mod rule;
pub(crate) mod sink;
pub(crate) mod table;
pub mod top_k;
mod unnest;

use std::ops::Range;
use std::sync::Arc;

use plan::Op;
use relation::TableId;
use store::{Hot, Slice, Snapshot};

pub(crate) use self::rule::{Around, PointKey, Rule, Ruled};
use crate::error::{Error, Result};
use crate::graph::Compiling;

/// The rule of an operator of a flow, compiled: one line for each.
pub(crate) fn compile(from: &mut Compiling<'_, '_>) -> Result<Arc<dyn Rule>> {
    match &from.node.op {
        Op::Table { table, columns } => table::compile(table, columns, from),
        Op::Values { .. } => Ok(Arc::new(linear::Values)),
        Op::Map { filter, outputs } => linear::map(filter.as_ref(), outputs, from),
        Op::Unnest { lists, outer } => Ok(Arc::new(unnest::Unnest { lists: lists.clone(), outer: *outer })),
        Op::Union => Ok(Arc::new(linear::Union)),
        Op::Aggregate { group, aggregates } => aggregate::compile(group, aggregates, from),
        Op::TopK { partition, order, offset, limit, numbered } => {
            top_k::compile(partition, order, (*offset, *limit), *numbered, from)
        }
        Op::Join { kind, left_keys, right_keys, residual } => {
            join::compile(*kind, left_keys, right_keys, residual.as_ref(), from)
        }
    }
}

/// States as of before the step, and how many threads may work on them.
#[derive(Clone, Copy)]
pub struct States<'a> {
    pub snapshot: &'a Snapshot,
    pub hot: &'a Hot,
    /// Parts into which large work is split; 1 within such a part.
    pub shards: usize,
    /// Rows from which it is.
    pub shard_rows_min: usize,
    pub bounds: Bounds,
}

/// What one application of a rule may come to. Rows of a join multiply: a key with very many rows on both sides would keep the
/// steps of a source for hours, and take more memory than there is. Beyond it the rule fails ([`Error::TooMuch`]), so that its
/// model waits, is built in portions beside the steps, and nothing else stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Pairs of rows under one key that are looked at.
    pub pairs: u64,
    /// Bytes of the rows that are found, and of those that come of them.
    pub bytes: usize,
}

impl Bounds {
    /// For who cuts his work into portions himself.
    pub const NONE: Self = Self { pairs: u64::MAX, bytes: usize::MAX };

    /// Errors: so many bytes are beyond it.
    pub(crate) fn check_bytes(self, bytes: usize) -> Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        Err(Error::TooMuch(format!(
            "a join finds or makes more than {} MiB of rows in one step, which is as much as a step may hold",
            self.bytes >> 20
        )))
    }

    /// Its share of one of so many parts of split work.
    fn shared(self, shards: usize) -> Self {
        if self == Self::NONE {
            return self;
        }
        Self { pairs: (self.pairs / shards as u64).max(1), bytes: (self.bytes / shards).max(1) }
    }
}

impl States<'_> {
    /// Into how many parts to split the work on so many rows.
    pub fn shards_for(&self, rows: usize) -> usize {
        if rows < self.shard_rows_min { 1 } else { self.shards.max(1) }
    }

    /// The same states for one part of split work.
    pub fn within_shard(self) -> Self {
        Self { shards: 1, bounds: self.bounds.shared(self.shards.max(1)), ..self }
    }

    /// The value of a key.
    pub fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Slice>> {
        Ok(self.hot.get(self.snapshot, table, key)?)
    }

    /// The value of a key that is mostly new and seldom asked for again: its absence is not cached.
    pub fn get_seldom(&self, table: TableId, key: &[u8]) -> Result<Option<Slice>> {
        Ok(self.hot.get_seldom(self.snapshot, table, key)?)
    }
}

/// Splits `0..keys.len()` by a hash of each key into `shards` lists of row positions.
pub fn shard_rows(hashes: &[u64], shards: usize) -> Vec<Vec<u32>> {
    let mut out = vec![Vec::with_capacity(hashes.len() / shards + 1); shards];
    for (row, hash) in hashes.iter().enumerate() {
        // The low bits choose buckets inside a shard's tables; take others here.
        let shard = (hash >> 40) as usize % shards;
        out[shard].push(row as u32);
    }
    out
}

/// The `i`th of `shards` ranges of nearly equal length that make up `0..rows`.
pub fn shard_range(rows: usize, shards: usize, i: usize) -> Range<usize> {
    let each = rows.div_ceil(shards);
    (i * each).min(rows)..((i + 1) * each).min(rows)
}

/// Does the work of each shard, the first one's on this thread, and answers in their order.
pub fn in_shards<T: Send>(shards: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = (1..shards).map(|i| scope.spawn(move || work(i))).collect();
        let first = work(0);
        let panicked = |_| Err(Error::Query("internal error: a shard panicked".to_owned()));
        let others = others.into_iter().map(|thread| thread.join().unwrap_or_else(panicked));
        std::iter::once(first).chain(others).collect()
    })
}
