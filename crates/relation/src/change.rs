//! What a source yields: whole transactions of changes, with the position after them.

use std::fmt;

use crate::row::Rows;
use crate::schema::TableId;

/// Where a source stands: opaque to everybody but the source, which wrote it and can resume from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub String);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The changes of one table, in source order: rows with weight −1 (before) and +1 (after), an update as such a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableChanges {
    pub rows: Rows,
    /// −1 or +1 per row.
    pub weights: Vec<i8>,
    /// The table was emptied before these rows (TRUNCATE).
    pub truncated: bool,
}

impl TableChanges {
    /// Appends one row.
    pub fn push(&mut self, row: &[u8], weight: i8) {
        self.rows.push(row);
        self.weights.push(weight);
    }
}

/// One source transaction within a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionMark {
    /// The commit, in microseconds since 1970 by the source's clock.
    pub commit_time_us: i64,
    /// When it was read, in microseconds since 1970 by our clock.
    pub read_time_us: i64,
    /// Changed rows (an update counts once).
    pub changes: u32,
}

/// A piece of a table's first load: rows read by primary key, none of which the log has touched meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkDone {
    pub table: TableId,
    /// Where the next chunk begins: opaque to everybody but the source.
    pub cursor: Vec<u8>,
    /// The table is loaded whole.
    pub complete: bool,
    pub rows: Rows,
    /// Rows of the table when the load began, as the source estimates it.
    pub rows_estimate: u64,
}

/// Whole transactions of one source, in source order, and the snapshot chunks that belong right after them.
///
/// A step takes one or more batches; nothing smaller is ever made visible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceBatch {
    /// Changes by table, each in source order.
    pub tables: Vec<(TableId, TableChanges)>,
    pub transactions: Vec<TransactionMark>,
    pub chunks: Vec<ChunkDone>,
    /// Resume here after this batch.
    pub position: Position,
}

impl SourceBatch {
    /// Whether it carries nothing but a position.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|(_, t)| t.rows.is_empty() && !t.truncated) && self.chunks.is_empty()
    }

    /// The changes of a table, to append to. Few tables per batch: a linear search.
    pub fn table(&mut self, id: TableId) -> &mut TableChanges {
        let at = match self.tables.iter().position(|(t, _)| *t == id) {
            Some(at) => at,
            None => {
                self.tables.push((id, TableChanges::default()));
                self.tables.len() - 1
            }
        };
        &mut self.tables[at].1
    }

    /// Rows of all tables and chunks.
    pub fn rows(&self) -> usize {
        let changes: usize = self.tables.iter().map(|(_, t)| t.rows.len()).sum();
        changes + self.chunks.iter().map(|c| c.rows.len()).sum::<usize>()
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> usize {
        let changes: usize = self.tables.iter().map(|(_, t)| t.rows.byte_len()).sum();
        changes + self.chunks.iter().map(|c| c.rows.byte_len()).sum::<usize>()
    }
}
