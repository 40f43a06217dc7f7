//! A run: what one step, or several neighbouring ones, wrote. The overlay is a list of runs, newest last.

use std::sync::Arc;

use relation::TableId;

use crate::cursor::{Cursor, Merge};
use crate::part::Part;

/// Parts of the steps `first..=last`, by table. Immutable.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Sorted; `parts` beside it.
    ids: Vec<TableId>,
    parts: Vec<Arc<Part>>,
    pub(crate) entries: usize,
    /// Memory it takes.
    pub(crate) bytes: usize,
}

impl Run {
    /// A run of parts sorted by table.
    pub(crate) fn new(first: u64, last: u64, parts: Vec<(TableId, Arc<Part>)>) -> Self {
        debug_assert!(parts.is_sorted_by(|a, b| a.0 < b.0));
        let entries = parts.iter().map(|(_, p)| p.len()).sum();
        let bytes = parts.iter().map(|(_, p)| p.memory()).sum();
        let (ids, parts) = parts.into_iter().unzip();
        Self { first, last, ids, parts, entries, bytes }
    }

    /// What the run has of a table.
    #[inline]
    pub(crate) fn part(&self, table: TableId) -> Option<&Arc<Part>> {
        let at = self.ids.binary_search(&table).ok()?;
        Some(&self.parts[at])
    }

    /// All parts with their tables, in table order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (TableId, &Arc<Part>)> {
        self.ids.iter().copied().zip(&self.parts)
    }
}

/// Where runs grow like this they are merged: each at most twice as large as all that came after it.
///
/// Returns how many of the newest runs belong into one. Runs up to step `frozen` are being folded and stay as they are;
/// large results are not worth the copy, the fold takes them soon.
pub(crate) fn mergeable(runs: &[Arc<Run>], frozen: u64, entries_max: usize) -> usize {
    let mut entries = runs.last().map_or(0, |run| run.entries);
    let mut count = 1;
    for run in runs.iter().rev().skip(1) {
        let fits = run.first > frozen && entries + run.entries <= entries_max;
        if !fits || run.entries > 2 * entries.max(1) {
            break;
        }
        entries += run.entries;
        count += 1;
    }
    count
}

/// One run of several neighbouring ones, oldest first. A table that only one of them has is shared, not copied.
pub(crate) fn merge(runs: &[Arc<Run>]) -> Run {
    let first = runs.first().map_or(0, |run| run.first);
    let last = runs.last().map_or(0, |run| run.last);
    let parts = tables(runs).into_iter().map(|(table, parts)| (table, merge_parts(&parts))).collect();
    Run::new(first, last, parts)
}

/// The parts of several runs by table: per table oldest first, beginning with the newest part that hides what is older.
pub(crate) fn tables(runs: &[Arc<Run>]) -> Vec<(TableId, Vec<Arc<Part>>)> {
    let all = runs.iter().enumerate().flat_map(|(age, run)| run.parts().map(move |(table, part)| (table, age, part)));
    let mut all: Vec<_> = all.collect();
    all.sort_unstable_by_key(|(table, age, _)| (*table, *age));
    let mut out: Vec<(TableId, Vec<Arc<Part>>)> = Vec::new();
    for (table, _, part) in all {
        match out.last_mut() {
            Some((id, parts)) if *id == table => {
                if part.is_dropped() {
                    parts.clear();
                }
                parts.push(Arc::clone(part));
            }
            _ => out.push((table, vec![Arc::clone(part)])),
        }
    }
    out
}

fn merge_parts(parts: &[Arc<Part>]) -> Arc<Part> {
    // A dropped table is never written again, so its part stands alone.
    if let [only] = parts {
        return Arc::clone(only);
    }
    let entries = parts.iter().map(|p| p.len()).sum();
    let mut out = Part::with_capacity(entries);
    let cursors = parts.iter().enumerate().filter_map(|(age, part)| Cursor::whole(part, age));
    let mut merge = Merge::forward(cursors.collect());
    while let Some((part, i)) = merge.next() {
        out.push(part.hash_of(i), part.key(i), part.value(i));
    }
    Arc::new(out)
}
