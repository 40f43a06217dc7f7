//! What a reader sees: tables, overlay and step, published as one value.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use relation::TableId;

use crate::base::Base;
use crate::cursor::Cursor;
use crate::filter::Filter;
use crate::part::hash;
use crate::run::Run;
use crate::scan::Scan;
use crate::slice::Slice;
use crate::{META, Result};

/// The published value: table ⊕ overlay at one step.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) step: u64,
    /// Runs of the steps after the base's fold (older ones may be among them while a fold is published), newest last.
    pub(crate) runs: Vec<Arc<Run>>,
    pub(crate) base: Arc<Base>,
    /// The keys that may be there; none where that is not known.
    pub(crate) filter: Option<Arc<Filter>>,
    /// Entries and bytes of the runs.
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

impl View {
    pub(crate) fn new(step: u64, runs: Vec<Arc<Run>>, base: Arc<Base>, filter: Option<Arc<Filter>>) -> Self {
        let entries = runs.iter().map(|run| run.entries).sum();
        let bytes = runs.iter().map(|run| run.bytes).sum();
        Self { step, runs, base, filter, entries, bytes }
    }

    /// The same with another filter.
    pub(crate) fn with_filter(&self, filter: &Arc<Filter>) -> Self {
        Self::new(self.step, self.runs.clone(), Arc::clone(&self.base), Some(Arc::clone(filter)))
    }

    /// The same step on a newer base, without the runs that the base covers. What came beside the steps while the fold was
    /// under way is not among those that were `folded`; where they are not known, it stays.
    pub(crate) fn on(&self, base: &Arc<Base>, folded: &[Arc<Run>]) -> Self {
        let is_left = |run: &&Arc<Run>| {
            let is_late =
                run.beside && run.last == base.folded && !folded.iter().any(|theirs| Arc::ptr_eq(run, theirs));
            run.last > base.folded || is_late
        };
        let runs = self.runs.iter().filter(is_left).cloned().collect();
        Self::new(self.step, runs, Arc::clone(base), self.filter.clone())
    }

    /// Bytes of runs that another view does not have.
    pub(crate) fn bytes_beside(&self, other: &Self) -> usize {
        let only = self.runs.iter().filter(|run| !other.runs.iter().any(|theirs| Arc::ptr_eq(run, theirs)));
        only.map(|run| run.bytes).sum()
    }
}

/// All entries as they were after one step. Cheap to clone; it holds memory and files, so it should not be kept longer
/// than a query runs.
#[derive(Debug, Clone)]
pub struct Snapshot {
    view: Arc<View>,
    /// Tables that are seen as they were at another moment.
    beside: Option<Arc<Beside>>,
}

#[derive(Debug)]
struct Beside {
    view: Arc<View>,
    tables: Arc<BTreeSet<TableId>>,
}

impl Snapshot {
    pub(crate) fn new(view: Arc<View>) -> Self {
        Self { view, beside: None }
    }

    /// This snapshot, but some tables as another one has them: for a build, which sees its own tables as it has filled them
    /// so far, and everything else as it was when it began.
    pub fn beside(&self, other: &Self, tables: &Arc<BTreeSet<TableId>>) -> Self {
        let beside = Beside { view: Arc::clone(&other.view), tables: Arc::clone(tables) };
        Self { view: Arc::clone(&self.view), beside: Some(Arc::new(beside)) }
    }

    /// Whether all tables are seen as they were at one moment.
    pub(crate) fn is_plain(&self) -> bool {
        self.beside.is_none()
    }

    #[inline]
    fn view_of(&self, table: TableId) -> &View {
        match &self.beside {
            Some(beside) if beside.tables.contains(&table) => &beside.view,
            _ => &self.view,
        }
    }

    /// The step after which this is how things were.
    pub fn step(&self) -> u64 {
        self.view.step
    }

    /// The value of a key.
    pub fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Slice>> {
        let hash = hash(table, key);
        if self.lacks(hash, table) { Ok(None) } else { self.get_hashed(hash, table, key) }
    }

    /// Whether it is known, without a read, that no key of this hash is there.
    #[inline]
    pub(crate) fn lacks(&self, hash: u32, table: TableId) -> bool {
        self.view_of(table).filter.as_ref().is_some_and(|filter| !filter.may_have(hash))
    }

    #[inline]
    pub(crate) fn get_hashed(&self, hash: u32, table: TableId, key: &[u8]) -> Result<Option<Slice>> {
        let view = self.view_of(table);
        for run in view.runs.iter().rev() {
            let Some((part, older)) = run.part(table) else { continue };
            if part.is_dropped() {
                return Ok(None);
            }
            if let Some(i) = part.find(hash, key) {
                return Ok(part.value_range(i).map(|range| Slice::part(Arc::clone(part), range)));
            }
            // Prepared parts: of few tables, for a short time.
            for part in older.iter().rev() {
                if part.is_dropped() {
                    return Ok(None);
                }
                if let Some(i) = part.find(hash, key) {
                    return Ok(part.value_range(i).map(|range| Slice::part(Arc::clone(part), range)));
                }
            }
        }
        view.base.get(table, key)
    }

    /// The entries whose keys begin with `prefix`, in rising key order, keys without the table's own prefix.
    pub fn scan(&self, table: TableId, prefix: &[u8]) -> Scan {
        let end = prefix_end(prefix);
        self.range(table, Bound::Included(prefix), end.as_deref())
    }

    /// As [`Snapshot::scan`], in falling key order.
    pub fn scan_rev(&self, table: TableId, prefix: &[u8]) -> Scan {
        let end = prefix_end(prefix);
        self.range_rev(table, Bound::Included(prefix), end.as_deref())
    }

    /// The entries between two keys, in rising key order.
    pub fn range(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Scan {
        self.directed(table, from, to, false)
    }

    /// The entries between two keys, in falling key order.
    pub fn range_rev(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Scan {
        self.directed(table, from, to, true)
    }

    fn directed(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>, reverse: bool) -> Scan {
        if table == META || is_empty(from, to) {
            return Scan::new(Vec::new(), Ok(None), reverse);
        }
        let view = self.view_of(table);
        let mut cursors = Vec::new();
        let newest_first = view.runs.iter().rev().flat_map(|run| run.parts_of(table).iter().rev());
        for (older, part) in newest_first.enumerate() {
            if part.is_dropped() {
                return Scan::new(cursors, Ok(None), reverse);
            }
            cursors.extend(Cursor::range(part, usize::MAX - older, from, to));
        }
        Scan::new(cursors, view.base.range(table, from, to), reverse)
    }
}

/// Bounds that cross: fjall and a slice would panic on them.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
    }
}

/// The first key after all that begin with a prefix.
fn prefix_end(prefix: &[u8]) -> Bound<Vec<u8>> {
    let Some(last) = prefix.iter().rposition(|b| *b != 0xff) else { return Bound::Unbounded };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Bound::Excluded(end)
}

/// `Bound<Vec<u8>>` as the bound of a slice.
trait AsSlice {
    fn as_deref(&self) -> Bound<&[u8]>;
}

impl AsSlice for Bound<Vec<u8>> {
    fn as_deref(&self) -> Bound<&[u8]> {
        self.as_ref().map(Vec::as_slice)
    }
}
