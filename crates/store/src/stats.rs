//! How a store is doing: figures for the page, `/metrics` and `tidemill status`.

use std::time::Duration;

use crate::Error;

/// Figures of a store at one moment.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Newest step that readers see.
    pub step: u64,
    /// Newest committed step: larger during a chain of hidden steps.
    pub working_step: u64,
    /// Memory that is kept for readers alone until such a chain ends; [`Stats::overlay_bytes`] does not count it.
    pub pinned_bytes: usize,
    /// Step that the tables stand at; later ones are replayed after a restart.
    pub folded_step: u64,
    /// Changes not yet folded.
    pub overlay_entries: usize,
    /// Memory that they take.
    pub overlay_bytes: usize,
    /// Runs that a point read meets at worst.
    pub overlay_runs: usize,
    /// Memory of the cache of newest values.
    pub hot_bytes: u64,
    /// Memory of the filter over the keys that there are; 0 while there is none, and looking for new keys takes reads.
    pub filter_bytes: u64,
    /// How often the keys for it could not be listed; it is tried again.
    pub filter_failures: u64,
    /// Reads that the cache of newest values answered.
    pub hot_hits: u64,
    /// Reads that neither it nor the filter answered.
    pub hot_misses: u64,
    /// The log's segments on disk.
    pub log_bytes: u64,
    /// Their number.
    pub log_segments: usize,
    /// Sealed stages on disk.
    pub staged_bytes: u64,
    /// Bytes of the tables on disk.
    pub disk_bytes: u64,
    /// Tables in level 0: a fold waits above [`crate::Options::level0_tables_max`].
    pub level0_tables: usize,
    /// Folds since the store was opened.
    pub folds: u64,
    /// Entries that they wrote.
    pub folded_entries: u64,
    /// Time spent in them, waiting for compaction excluded.
    pub fold_time: Duration,
    /// The newest fold's time.
    pub last_fold_time: Duration,
    /// Time that commits waited for room in the overlay.
    pub commit_wait: Duration,
    /// Why folding stands still; none while it works. Nothing is lost meanwhile, the log has it.
    pub last_error: Option<Error>,
}
