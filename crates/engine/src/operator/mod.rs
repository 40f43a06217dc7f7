//! Operators: each states its delta rule in its own file.
//!
//! One law for all: a rule reads states as they were before the step and answers with its output delta and the absolute
//! values to write. Nothing reads what its own step writes, so the order of writes within a step does not matter, the
//! shards of a large delta are independent, and a step is repeated after a crash with the same result.

#![expect(clippy::cast_possible_truncation, reason = "positions of rows in a batch, which holds fewer than 4 Gi")]

pub mod aggregate;
pub mod join;
pub mod top_k;

use relation::TableId;
use store::{Hot, Slice, Snapshot};

use crate::error::Result;

/// States as of before the step.
#[derive(Clone, Copy)]
pub struct States<'a> {
    pub snapshot: &'a Snapshot,
    pub hot: &'a Hot,
}

impl States<'_> {
    /// The value of a key.
    pub fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Slice>> {
        Ok(self.hot.get(self.snapshot, table, key)?)
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

/// Rows from which a delta is worth splitting into shards.
pub const SHARD_ROWS_MIN: usize = 4096;
