//! What a source yields: whole transactions of changes, with the position after them.

use std::fmt;

use crate::row::Rows;
use crate::schema::TableId;
use crate::unread::Unread;

/// Where a source stands: opaque to everybody but the source, which wrote it and can resume from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub String);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The changes of one table, in source order: rows with weight −1 (before) and +1 (after), an update as such a pair.
///
/// A row that could not be read stands at its place among them, as an [`Unread`] instead of a row: with weight −2 where it
/// goes and +2 where it comes. So an update of which one image cannot be read is a row and one of these. Whoever stores the
/// table has no row for one that came, and none any more for one that went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableChanges {
    /// Rows, and where the weight says so [`Unread`]s. See [`TableChanges::entries`].
    pub rows: Rows,
    /// −1 or +1 per row, −2 or +2 per row that could not be read.
    pub weights: Vec<i8>,
    /// The table was emptied before these rows (TRUNCATE).
    pub truncated: bool,
    /// The source tells what becomes of a key and not what was there: a row that comes takes the place of whatever row its key has,
    /// and of one that goes nothing but the key is told. Of tables with a key alone.
    pub by_key: bool,
}

/// One of the changes of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A row, by the table's layout, and its weight: −1 or +1; 0 where it was brought as it is stored.
    Row(&'a [u8], i8),
    /// An [`Unread`] as bytes, and whether it comes (+1) or goes (−1).
    Unread(&'a [u8], i8),
}

impl TableChanges {
    /// Appends one row.
    pub fn push(&mut self, row: &[u8], weight: i8) {
        self.rows.push(row);
        self.weights.push(weight);
    }

    /// Appends a row that could not be read, which comes (+1) or goes (−1).
    pub fn push_unread(&mut self, unread: &Unread, weight: i8) {
        let mut bytes = Vec::new();
        unread.write(&mut bytes);
        self.push(&bytes, weight * UNREAD);
    }

    /// Appends one of the changes of another.
    pub fn push_entry(&mut self, entry: Entry<'_>) {
        match entry {
            Entry::Row(row, weight) => self.push(row, weight),
            Entry::Unread(bytes, weight) => self.push(bytes, weight * UNREAD),
        }
    }

    /// All changes in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> + Clone {
        self.entries_from(0)
    }

    /// The changes from a position on.
    pub fn entries_from(&self, from: usize) -> impl Iterator<Item = Entry<'_>> + Clone {
        (from..self.rows.len()).map(|i| match self.weights[i] {
            weight @ (UNREAD | GONE_UNREAD) => Entry::Unread(self.rows.get(i), weight.signum()),
            weight => Entry::Row(self.rows.get(i), weight),
        })
    }

    /// The rows that could be read, with their weights.
    pub fn readable(&self) -> impl Iterator<Item = (&[u8], i8)> + Clone {
        self.entries().filter_map(|entry| match entry {
            Entry::Row(row, weight) => Some((row, weight)),
            Entry::Unread(..) => None,
        })
    }

    /// Whether a row among the changes from a position on could not be read.
    pub fn has_unread(&self, from: usize) -> bool {
        self.weights.get(from..).unwrap_or_default().iter().any(|weight| matches!(*weight, UNREAD | GONE_UNREAD))
    }

    /// Takes back what comes from a position on.
    pub fn truncate(&mut self, len: usize) {
        self.rows.truncate(len);
        self.weights.truncate(len);
    }
}

/// The weights of rows that could not be read.
const UNREAD: i8 = 2;
const GONE_UNREAD: i8 = -UNREAD;

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
///
/// Of a table without a key it is a portion of all its rows as of one place of the log. They are the table with the last of
/// them; what the log tells of the table behind that place comes behind the rows, and before the piece that is complete. Where
/// such a load is broken off the table is loaded again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkDone {
    pub table: TableId,
    /// Where the next chunk begins: opaque to everybody but the source.
    pub cursor: Vec<u8>,
    /// The table is loaded whole.
    pub complete: bool,
    pub rows: Rows,
    /// Rows of it that could not be read: [`Unread`]s as bytes.
    pub unread: Rows,
    /// Rows of the table when the load began, as the source estimates it.
    pub rows_estimate: u64,
}

/// A piece of a transaction that is too large for one batch.
///
/// The pieces of a transaction come in order, number 1 first, with no other batch of their source between them, and
/// nothing of it may be seen before the last one has come: that one alone carries the position and the transaction's
/// mark. Pieces without a last one are void as soon as a first piece or an ordinary batch of their source comes: the
/// connection was lost and the transaction is read again, or it was rolled back.
///
/// A piece never cuts an update in two. It may hold rows of a table that is parked before the last one comes; these are
/// to be passed over, like all rows of a parked table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionPart {
    /// Counts from 1.
    pub number: u32,
    pub is_last: bool,
}

impl TransactionPart {
    /// Whether a transaction begins here, whatever came of an earlier one.
    pub fn is_first(self) -> bool {
        self.number == 1
    }
}

/// Whole transactions of one source, in source order, and the snapshot chunks that belong right after them; or a piece of
/// one large transaction.
///
/// A step takes one or more batches; nothing smaller than a transaction is ever made visible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceBatch {
    /// Changes by table, each in source order.
    pub tables: Vec<(TableId, TableChanges)>,
    pub transactions: Vec<TransactionMark>,
    pub chunks: Vec<ChunkDone>,
    /// Resume here after this batch. Empty in a piece of a transaction that is not its last.
    pub position: Position,
    /// The batch holds rows of one transaction only, and is this piece of it.
    pub part: Option<TransactionPart>,
}

impl SourceBatch {
    /// Whether it carries nothing but a position.
    pub fn is_empty(&self) -> bool {
        let is_unchanged = |t: &TableChanges| t.rows.is_empty() && !t.truncated;
        self.part.is_none() && self.tables.iter().all(|(_, t)| is_unchanged(t)) && self.chunks.is_empty()
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
        changes + self.chunks.iter().map(|c| c.rows.len() + c.unread.len()).sum::<usize>()
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> usize {
        let changes: usize = self.tables.iter().map(|(_, t)| t.rows.byte_len()).sum();
        changes + self.chunks.iter().map(|c| c.rows.byte_len() + c.unread.byte_len()).sum::<usize>()
    }
}
