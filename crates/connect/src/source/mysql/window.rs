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
    /// The turn of a table that is read whole: the next one is read when this chunk was sent.
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

/// The load of a table without a key: all of it or nothing, at one exact place of the log.
///
/// Equal rows cannot be told apart, so no window can repair a rough placement. The table is read under one snapshot
/// whose place in the log is known; changes of the table are kept back meanwhile, those up to that place are dropped,
/// and the later ones are folded into the rows when they are sent.
#[derive(Debug, Default)]
pub(crate) struct BagLoad {
    changes: TableChanges,
    /// Ends of the transactions kept back, with the number of rows up to there.
    ends: Vec<(LogPoint, usize)>,
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

    /// The table's content now: rows read at `point`, those that could not be read, and the changes since. It says
    /// whether the changes agree with what was read.
    pub(crate) fn fold(&mut self, rows: Rows, unread: Rows, point: &LogPoint) -> Folded {
        let skip = self.ends.iter().rev().find(|(end, _)| end <= point).map_or(0, |&(_, count)| count);
        if skip == self.changes.rows.len() {
            return Folded { rows, unread, is_exact: true };
        }
        let mut counts: indexed::Counts<'_> = indexed::Counts::default();
        for row in rows.iter() {
            counts.add(row, 1);
        }
        let mut of_unread: Vec<&[u8]> = unread.iter().collect();
        let mut is_exact = true;
        for entry in self.changes.entries_from(skip) {
            match entry {
                Entry::Row(row, weight) => counts.add(row, i64::from(weight)),
                Entry::Unread(bytes, 1) => of_unread.push(bytes),
                Entry::Unread(bytes, _) => {
                    let same = of_unread.iter().position(|known| identity(known) == identity(bytes));
                    match same {
                        Some(at) => drop(of_unread.swap_remove(at)),
                        None => is_exact = false,
                    }
                }
            }
        }
        let mut left = Rows::new();
        of_unread.into_iter().for_each(|bytes| left.push(bytes));
        Folded { rows: counts.rows(), unread: left, is_exact }
    }
}

/// What a table without a key comes to.
pub(crate) struct Folded {
    pub(crate) rows: Rows,
    pub(crate) unread: Rows,
    /// Not so where a row has gone that could not be read, and none such was there.
    pub(crate) is_exact: bool,
}

/// Counted rows in order of first occurrence.
mod indexed {
    use hashbrown::HashMap;
    use relation::Rows;

    #[derive(Default)]
    pub(super) struct Counts<'a> {
        at: HashMap<&'a [u8], usize>,
        rows: Vec<(&'a [u8], i64)>,
    }

    impl<'a> Counts<'a> {
        pub(super) fn add(&mut self, row: &'a [u8], weight: i64) {
            let next = self.rows.len();
            let at = *self.at.entry(row).or_insert(next);
            if at == next {
                self.rows.push((row, weight));
            } else {
                self.rows[at].1 += weight;
            }
        }

        pub(super) fn rows(&self) -> Rows {
            let mut out = Rows::new();
            for &(row, count) in &self.rows {
                for _ in 0..count.max(0) {
                    out.push(row);
                }
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(image: u8) -> Unread {
        Unread { image: [image; 16], ..Unread::default() }
    }

    /// Rows that could not be read come and go in a table without a key as the others do, while it is loaded.
    #[test]
    fn a_bag_counts_what_could_not_be_read() {
        let mut read = Rows::new();
        for image in [1, 1, 2] {
            let mut bytes = Vec::new();
            unread(image).write(&mut bytes);
            read.push(&bytes);
        }
        let mut changes = TableChanges::default();
        changes.push_unread(&unread(1), -1);
        changes.push(b"row", 1);
        changes.push_unread(&unread(3), 1);
        let mut bag = BagLoad::default();
        bag.keep(&changes, 0, &LogPoint::new("binlog.000001", 100));
        let folded = bag.fold(Rows::new(), read.clone(), &LogPoint::new("binlog.000001", 50));
        let mut left: Vec<u8> = folded.unread.iter().map(|bytes| Unread::read(bytes).unwrap().image[0]).collect();
        left.sort_unstable();
        assert_eq!((left, folded.rows.len(), folded.is_exact), (vec![1, 2, 3], 1, true));
        // What is shown already is not counted twice.
        let folded = bag.fold(Rows::new(), read, &LogPoint::new("binlog.000001", 100));
        assert_eq!((folded.unread.len(), folded.rows.len()), (3, 0));
        let folded = bag.fold(Rows::new(), Rows::new(), &LogPoint::new("binlog.000001", 50));
        assert!(!folded.is_exact, "none such was there");
    }
}
