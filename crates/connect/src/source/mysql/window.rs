//! The windows of a first load: chunks wait here until the log has caught up with them.
//!
//! The law: a chunk row that is sent was not changed by any transaction between the begin of its load and the moment of
//! sending, so it is right at every position in between, and right after the transactions it is sent with.
//!
//! Why this is enough. A load begins where the log ends at that moment, before any chunk is read; what the log has up to there
//! is passed over, for the chunks show it: a commit is in the log before a query shows it by less than `snapshot_delay`, for
//! which the readers wait. The log's reader never pauses. A chunk read at some moment shows no transaction that is behind
//! `high`, the log's end asked for after the read. Once the log was read up to `high`, every change that the chunk may show
//! has come by, and its keys are in `touched`: such rows are left out, since the log carried their whole content. Rows of keys
//! that were not touched have not changed.
//!
//! Keys are forgotten when they become too many ([`Window::forget`]); every chunk whose read had begun is void then, and
//! the readers begin again where the last chunk sent has ended, as after a lost connection. A chunk read from then on shows
//! all that the log had told by then, and what the log tells later is in the new `touched`. A row that it repeats is the row
//! that the log has brought: whoever stores it replaces it by itself.

use hashbrown::HashSet;
use relation::key::{hash128, push_row};
use relation::{Entry, Layout, Rows, TableChanges, Unread};
use tokio::sync::OwnedSemaphorePermit;

use super::position::LogPoint;

/// A piece of a table as a reader delivers it.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Index of the table in the capture.
    pub(crate) table: usize,
    /// Which run of the readers it belongs to: chunks of an earlier connection are void.
    pub(crate) run: u64,
    pub(crate) rows: Rows,
    /// Those that could not be read, as [`relation::ChunkDone::unread`].
    pub(crate) unread: Rows,
    /// Where the next chunk begins.
    pub(crate) cursor: Vec<u8>,
    /// Nothing follows.
    pub(crate) complete: bool,
    /// The log's end after the read.
    pub(crate) high: LogPoint,
    pub(crate) rows_estimate: u64,
    /// It is the first one of a reading that has nothing to go on from.
    pub(crate) begins: bool,
    /// The turn of a table without a key: the next one is read when its last chunk was sent.
    pub(crate) _turn: Option<OwnedSemaphorePermit>,
}

/// Hashes the keys of rows.
#[derive(Debug, Clone)]
pub(crate) struct KeyHasher {
    layout: Layout,
    key: Vec<usize>,
    buffer: Vec<u8>,
}

impl KeyHasher {
    pub(crate) fn new(layout: Layout, key: Vec<usize>) -> Self {
        Self { layout, key, buffer: Vec::new() }
    }

    fn hash(&mut self, row: &[u8]) -> u128 {
        self.buffer.clear();
        push_row(&mut self.buffer, &self.layout, row, &self.key);
        u128::from_be_bytes(hash128(&self.buffer))
    }
}

/// The window of one table that is being loaded.
#[derive(Debug)]
pub(crate) struct Window {
    hasher: KeyHasher,
    /// Keys that the log has changed since the reader started. Both images of an update are in.
    touched: HashSet<u128>,
}

impl Window {
    pub(crate) fn new(hasher: KeyHasher) -> Self {
        Self { hasher, touched: HashSet::new() }
    }

    /// Notes the changes from row `from` on.
    pub(crate) fn touch(&mut self, changes: &TableChanges, from: usize) {
        for entry in changes.entries_from(from) {
            match entry {
                Entry::Row(row, _) => drop(self.touched.insert(self.hasher.hash(row))),
                Entry::Unread(bytes, _) => drop(self.touched.insert(identity(bytes))),
            }
        }
    }

    /// Keys that are remembered.
    pub(crate) fn touched(&self) -> usize {
        self.touched.len()
    }

    /// Remembers no key any more, and gives their memory back.
    pub(crate) fn forget(&mut self) {
        self.touched = HashSet::new();
    }

    /// The chunk's rows that could not be read, and that the log has not changed.
    pub(crate) fn unread_survivors(&self, unread: Rows) -> Rows {
        let mut out = Rows::new();
        unread.iter().filter(|bytes| !self.touched.contains(&identity(bytes))).for_each(|bytes| out.push(bytes));
        out
    }

    /// The chunk's rows that the log has not changed.
    pub(crate) fn survivors(&mut self, rows: Rows) -> Rows {
        if self.touched.is_empty() {
            return rows;
        }
        let mut out = Rows::with_capacity(rows.len(), rows.byte_len());
        for row in rows.iter() {
            if !self.touched.contains(&self.hasher.hash(row)) {
                out.push(row);
            }
        }
        out
    }
}

/// What a row is known by that could not be read: as the rows of its key, where that is known.
fn identity(unread: &[u8]) -> u128 {
    let unread = Unread::read(unread).unwrap_or_default();
    let is_keyed = !unread.key.is_empty();
    u128::from_be_bytes(if is_keyed { hash128(&unread.key) } else { unread.image })
}

/// The load of a table without a key, at one exact place of the log.
///
/// Equal rows cannot be told apart, so no window can repair a rough placement. The table is read under one snapshot
/// whose place in the log is known. Its rows are handed over as they are read, and nobody takes them for the table before
/// the last chunk has come; changes of the table are kept back meanwhile, those up to that place are dropped, and the later
/// ones are handed over behind the rows, before the chunk that says that the load is over. A reading that is broken off
/// begins anew, and with it the load ([`Chunk::begins`]).
#[derive(Debug, Default)]
pub(crate) struct BagLoad {
    changes: TableChanges,
    /// Ends of the transactions kept back, with the number of rows up to there.
    ends: Vec<(LogPoint, usize)>,
    /// All rows were handed over, of so many as the source has estimated: up to where the changes were.
    closing: Option<Closing>,
}

#[derive(Debug, Clone, Copy)]
struct Closing {
    rows_estimate: u64,
    handed_over: usize,
}

impl BagLoad {
    /// Keeps the table's changes of a transaction that ended at `end`.
    pub(crate) fn keep(&mut self, changes: &TableChanges, from: usize, end: &LogPoint) {
        changes.entries_from(from).for_each(|entry| self.changes.push_entry(entry));
        self.ends.push((end.clone(), self.changes.rows.len()));
    }

    /// Bytes kept back.
    pub(crate) fn bytes(&self) -> usize {
        self.changes.rows.byte_len()
    }

    /// The rows are those of this place, up to which the log has come by: they show the changes before it.
    pub(crate) fn drop_through(&mut self, point: &LogPoint) {
        let shown = self.ends.iter().rev().find(|(end, _)| end <= point).map_or(0, |&(_, count)| count);
        if shown == 0 {
            return;
        }
        let mut later = TableChanges::default();
        self.changes.entries_from(shown).for_each(|entry| later.push_entry(entry));
        self.changes = later;
        self.ends.retain(|(end, _)| end > point);
        self.ends.iter_mut().for_each(|(_, count)| *count -= shown);
    }

    /// All rows were handed over; false where no changes are to follow.
    pub(crate) fn close(&mut self, rows_estimate: u64) -> bool {
        let has_changes = !self.changes.rows.is_empty();
        self.closing = has_changes.then_some(Closing { rows_estimate, handed_over: 0 });
        has_changes
    }

    /// Whether changes are to be handed over.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Adds the next of them to a batch, about so many bytes. Answers with the estimate of rows when that was the last.
    pub(crate) fn hand_over(&mut self, to: &mut TableChanges, bytes_max: usize) -> Option<u64> {
        let closing = self.closing.as_mut()?;
        for entry in self.changes.entries_from(closing.handed_over) {
            if to.rows.byte_len() >= bytes_max {
                return None;
            }
            to.push_entry(entry);
            closing.handed_over += 1;
        }
        Some(closing.rows_estimate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(changes: &TableChanges) -> Vec<(&[u8], i8)> {
        changes.readable().collect()
    }

    /// Changes that the rows show are dropped; those behind them follow in portions, and then it is over.
    #[test]
    fn a_bag_hands_over_what_is_behind_its_rows() {
        let change = |row: &[u8]| {
            let mut changes = TableChanges::default();
            changes.push(row, 1);
            changes
        };
        let at = |offset| LogPoint::new("binlog.000001", offset);
        let mut bag = BagLoad::default();
        bag.keep(&change(b"shown"), 0, &at(100));
        bag.keep(&change(b"first"), 0, &at(200));
        bag.drop_through(&at(150));
        bag.keep(&change(b"second"), 0, &at(300));
        assert!(!bag.is_closing());
        assert!(bag.close(7));
        let mut portion = TableChanges::default();
        assert_eq!(bag.hand_over(&mut portion, 1), None);
        assert_eq!(rows(&portion), [(&b"first"[..], 1)]);
        let mut portion = TableChanges::default();
        assert_eq!(bag.hand_over(&mut portion, 1), Some(7));
        assert_eq!(rows(&portion), [(&b"second"[..], 1)]);
        let mut bag = BagLoad::default();
        bag.keep(&change(b"shown"), 0, &at(100));
        bag.drop_through(&at(100));
        assert!(!bag.close(7), "nothing is to follow");
    }
}
