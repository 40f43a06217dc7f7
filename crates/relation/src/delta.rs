//! A delta: rows with signed weights, the currency between operators.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;

use crate::columns::{RowEncoder, batch, taken};
use crate::row::Layout;
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
    #[expect(clippy::cast_possible_truncation, reason = "positions of rows in a batch, which holds fewer than 4 Gi")]
    pub fn consolidate(&self, types: &[DataType]) -> Result<Self> {
        if self.len() < 2 {
            let rows: Vec<u32> = if self.weights == [0] { vec![] } else { (0..self.len() as u32).collect() };
            return self.take(&rows);
        }
        let encoder = RowEncoder::new(Layout::new(types.to_vec()), self.batch.columns().to_vec());
        let mut seen: HashMap<Vec<u8>, usize> = HashMap::with_capacity(self.len());
        let mut kept: Vec<(u32, i64)> = Vec::with_capacity(self.len());
        let mut buffer = Vec::new();
        for row in 0..self.len() {
            buffer.clear();
            encoder.push(row, &mut buffer)?;
            if let Some(&at) = seen.get(&buffer) {
                kept[at].1 = kept[at].1.checked_add(self.weights[row]).ok_or(Error::Overflow("weight"))?;
            } else {
                seen.insert(buffer.clone(), kept.len());
                kept.push((u32::try_from(row).map_err(|_| Error::Overflow("rows of a delta"))?, self.weights[row]));
            }
        }
        kept.retain(|&(_, weight)| weight != 0);
        let mut out = self.take(&kept.iter().map(|&(row, _)| row).collect::<Vec<_>>())?;
        out.weights = kept.into_iter().map(|(_, weight)| weight).collect();
        Ok(out)
    }
}
