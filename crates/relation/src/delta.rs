//! A delta: rows with signed weights, the currency between operators.

use std::hash::BuildHasher as _;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::columns::{batch, encode, taken};
use crate::row::{Layout, Rows};
use crate::schema::DataType;
use crate::{Error, Result};

/// A multiset of rows as columns, with one weight per row. Weights may be zero and rows may repeat until
/// [`Delta::consolidate`] has run.
#[derive(Debug, Clone)]
pub struct Delta {
    pub batch: RecordBatch,
    pub weights: Vec<i64>,
}

impl Delta {
    /// Rows with their weights; both of one length.
    pub fn new(batch: RecordBatch, weights: Vec<i64>) -> Self {
        assert_eq!(batch.num_rows(), weights.len(), "a weight per row");
        Self { batch, weights }
    }

    /// No rows.
    pub fn empty(schema: &SchemaRef) -> Self {
        Self { batch: RecordBatch::new_empty(std::sync::Arc::clone(schema)), weights: Vec::new() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The rows at these positions, in that order.
    pub fn take(&self, rows: &[u32]) -> Result<Self> {
        if rows.len() == self.len() && rows.iter().enumerate().all(|(i, &r)| i == r as usize) {
            return Ok(self.clone());
        }
        let taken = taken(&self.batch, rows)?;
        Ok(Self::new(taken, rows.iter().map(|&r| self.weights[r as usize]).collect()))
    }

    /// Some columns of it, in a given order, under a given schema.
    pub fn project(&self, columns: &[usize], schema: &SchemaRef) -> Result<Self> {
        let arrays = columns.iter().map(|&c| std::sync::Arc::clone(self.batch.column(c))).collect();
        Ok(Self::new(batch(schema, arrays, self.len())?, self.weights.clone()))
    }

    /// All rows of several deltas of one schema.
    pub fn concat(schema: &SchemaRef, parts: &[Self]) -> Result<Self> {
        if let [only] = parts {
            return Ok(only.clone());
        }
        let joined = concat_batches(schema, parts.iter().map(|p| &p.batch))
            .map_err(|_| Error::Damaged("columns do not fit their schema"))?;
        Ok(Self::new(joined, parts.iter().flat_map(|p| p.weights.iter().copied()).collect()))
    }

    /// Adds up the weights of equal rows and drops rows of weight zero; keeps the order of first occurrence.
    pub fn consolidate(&self, types: &[DataType]) -> Result<Self> {
        Ok(self.consolidate_encoded(&Layout::new(types.to_vec()))?.0)
    }

    /// As [`Delta::consolidate`], with the rows encoded, as it has to compare them anyway.
    pub fn consolidate_encoded(&self, layout: &Layout) -> Result<(Self, Rows)> {
        let encoded = encode(layout, &self.batch)?;
        if self.len() < 2 && self.weights != [0] {
            return Ok((self.clone(), encoded));
        }
        let hasher = DefaultHashBuilder::default();
        let mut seen: HashTable<u32> = HashTable::with_capacity(self.len());
        let mut weights = self.weights.clone();
        for (row, bytes) in encoded.iter().enumerate() {
            let hash = hasher.hash_one(bytes);
            let known = seen.find(hash, |&first| encoded.get(first as usize) == bytes);
            if let Some(&first) = known {
                let total = &mut weights[first as usize];
                *total = total.checked_add(self.weights[row]).ok_or(Error::Overflow("weight"))?;
                weights[row] = 0;
                continue;
            }
            let row = u32::try_from(row).map_err(|_| Error::Overflow("rows of a delta"))?;
            seen.insert_unique(hash, row, |&row| hasher.hash_one(encoded.get(row as usize)));
        }
        if !weights.contains(&0) {
            return Ok((self.clone(), encoded));
        }
        let mut rows = Rows::with_capacity(encoded.len(), encoded.byte_len());
        let mut kept = Vec::with_capacity(encoded.len());
        for (row, bytes) in encoded.iter().enumerate().filter(|&(row, _)| weights[row] != 0) {
            rows.push(bytes);
            kept.push(u32::try_from(row).map_err(|_| Error::Overflow("rows of a delta"))?);
        }
        let mut out = self.take(&kept)?;
        out.weights = kept.iter().map(|&row| weights[row as usize]).collect();
        Ok((out, rows))
    }
}
