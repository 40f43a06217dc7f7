//! A run: what one step, or several neighbouring ones, wrote. The overlay is a list of runs, newest last.

use std::sync::Arc;

use relation::TableId;

use crate::cursor::{Cursor, Merge};
use crate::options::Options;
use crate::part::Part;

/// Entries up to which parts are merged without putting them in order.
const UNORDERED_MAX: usize = 64;
/// Bytes beyond which neighbouring runs are not merged, however few their entries are: merging copies them.
const MERGE_BYTES_MAX: usize = 64 << 20;

/// Parts of the steps `first..=last`, by table. Immutable.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Sorted; `parts` beside it. A table with prepared parts stands here several times, its oldest part first.
    ids: Vec<TableId>,
    parts: Vec<Arc<Part>>,
    /// Some table does.
    repeats: bool,
    pub(crate) entries: usize,
    /// Memory it takes.
    pub(crate) bytes: usize,
    /// It came beside the steps, after `last` and before the next: a fold of that step may be without it.
    pub(crate) beside: bool,
    /// Entries and bytes that merging may copy: those of parts that were not prepared.
    loose: usize,
    loose_bytes: usize,
}

impl Run {
    /// A run of parts, older ones of a table first.
    pub(crate) fn new(first: u64, last: u64, mut parts: Vec<(TableId, Arc<Part>)>) -> Self {
        // Stable, and linear where they are sorted already, as they mostly are.
        parts.sort_by_key(|(table, _)| *table);
        let (mut entries, mut bytes, mut loose, mut loose_bytes) = (0, 0, 0, 0);
        for (_, part) in &parts {
            let memory = part.memory();
            entries += part.len();
            bytes += memory;
            if !part.is_prepared() {
                loose += part.len();
                loose_bytes += memory;
            }
        }
        let repeats = parts.windows(2).any(|pair| pair[0].0 == pair[1].0);
        let (ids, parts) = parts.into_iter().unzip();
        Self { first, last, ids, parts, repeats, entries, bytes, beside: false, loose, loose_bytes }
    }

    /// A run that came beside the steps, after one.
    pub(crate) fn beside(after: u64, parts: Vec<(TableId, Arc<Part>)>) -> Self {
        Self { beside: true, ..Self::new(after, after, parts) }
    }

    /// What the run has of a table: the newest part, and where there are others those before it, oldest first.
    #[inline]
    pub(crate) fn part(&self, table: TableId) -> Option<(&Arc<Part>, &[Arc<Part>])> {
        let at = self.ids.binary_search(&table).ok()?;
        if self.repeats { self.parts_of(table).split_last() } else { Some((&self.parts[at], &[])) }
    }

    /// What the run has of a table, oldest first.
    pub(crate) fn parts_of(&self, table: TableId) -> &[Arc<Part>] {
        let from = self.ids.partition_point(|id| *id < table);
        let to = self.ids.partition_point(|id| *id <= table);
        &self.parts[from..to]
    }

    /// All parts with their tables, in table order, older ones of a table first.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (TableId, &Arc<Part>)> {
        self.ids.iter().copied().zip(&self.parts)
    }

    /// What merging it costs: entries to copy, prepared parts to list.
    fn weight(&self) -> usize {
        self.loose + self.parts.iter().filter(|part| part.is_prepared()).count()
    }
}

/// Where enough runs grow like this they are merged: each at most twice as large as all that came after it.
///
/// Returns how many of the newest runs belong into one. Runs up to step `frozen` are being folded and stay as they are;
/// large results are not worth the copy, the fold takes them soon.
pub(crate) fn mergeable(runs: &[Arc<Run>], frozen: u64, options: &Options) -> usize {
    let Some(newest) = runs.last() else { return 0 };
    let (mut loose, mut bytes, mut weight) = (newest.loose, newest.loose_bytes, newest.weight());
    let mut count = 1;
    for run in runs.iter().rev().skip(1) {
        loose += run.loose;
        bytes += run.loose_bytes;
        let fits = run.first > frozen && loose <= options.merge_entries_max && bytes <= MERGE_BYTES_MAX;
        if !fits || run.weight() > 2 * weight.max(1) {
            break;
        }
        weight += run.weight();
        count += 1;
    }
    if count < options.merge_runs_min { 1 } else { count }
}

/// One run of several neighbouring ones, oldest first. A part that is alone in its table, or was prepared, is shared, not
/// copied. None where the result would be too large.
pub(crate) fn merge(runs: &[Arc<Run>]) -> Option<Run> {
    let first = runs.first().map_or(0, |run| run.first);
    let last = runs.last().map_or(0, |run| run.last);
    let mut all = Vec::new();
    for (table, parts) in tables(runs) {
        for group in parts.chunk_by(|a, b| !a.is_prepared() && !b.is_prepared()) {
            all.push((table, merge_parts(group)?));
        }
    }
    Some(Run::new(first, last, all))
}

/// The parts of several runs by table: per table oldest first, beginning with the newest part that hides what is older.
pub(crate) fn tables(runs: &[Arc<Run>]) -> Vec<(TableId, Vec<Arc<Part>>)> {
    let all = runs.iter().flat_map(|run| run.parts()).enumerate();
    let mut all: Vec<_> = all.map(|(age, (table, part))| (table, age, part)).collect();
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

fn merge_parts(parts: &[Arc<Part>]) -> Option<Arc<Part>> {
    // A dropped table is never written again, so its part stands alone.
    if let [only] = parts {
        return Some(Arc::clone(only));
    }
    let entries = parts.iter().map(|p| p.len()).sum();
    let mut out = Part::with_capacity(entries);
    if entries <= UNORDERED_MAX {
        // Not worth the order of each part: a key's newest entry is the first that comes.
        for part in parts.iter().rev() {
            for i in 0..u32::try_from(part.len()).unwrap_or(u32::MAX) {
                out.set_once(part.hash_of(i), part.key(i), part.value(i)).ok()?;
            }
        }
        return Some(Arc::new(out));
    }
    let cursors = parts.iter().enumerate().filter_map(|(age, part)| Cursor::whole(part, age));
    let mut merge = Merge::forward(cursors.collect());
    while let Some((part, i)) = merge.next() {
        out.push(part.hash_of(i), part.key(i), part.value(i)).ok()?;
    }
    Some(Arc::new(out))
}
