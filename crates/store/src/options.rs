//! Settings of a store: values, with a default each.

use std::time::Duration;

/// How much memory a store may use, and when it folds.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of the tables' block cache. Default 256 MiB.
    pub cache_bytes: u64,
    /// Bytes that changes not yet folded may take in memory; a commit waits for the fold beyond them. Default 256 MiB.
    pub overlay_bytes: u64,
    /// Bytes of the engine's cache of newest values ([`crate::Hot`]). Default 128 MiB.
    pub hot_bytes: u64,
    /// Bytes of the filter over the keys of all tables, by which a look for a key that is not there costs no read; beyond
    /// them it is given up. A key takes one and a half. Default 64 MiB.
    pub filter_bytes: u64,
    /// Entries waiting to be folded that make a fold start at once: some seconds' worth of replay, so that a restart
    /// stays short; the larger a fold, the fewer bytes compaction writes per change. Default 600,000.
    pub fold_entries_min: usize,
    /// In quiet times a fold starts when the oldest waiting step is this old, if [`Options::fold_entries_quiet`] entries
    /// wait. Default 30 s: 200 transactions a second are replayed in a tenth of a second then.
    pub fold_interval: Duration,
    /// Fewest entries worth a fold in quiet times: small ones are more files than data. After 20 intervals anything is
    /// folded. Default 5,000.
    pub fold_entries_quiet: usize,
    /// A fold waits for compaction while level 0 has more tables than this. Default 12.
    pub level0_tables_max: usize,
    /// Bytes after which a log segment is closed and the next begun; the log is dropped by whole segments.
    /// Default 64 MiB.
    pub segment_bytes: u64,
    /// Bytes of a stage after which it is synced, and which stay in memory until then: one sync of all at its end would hold up
    /// those of the log. Default 16 MiB.
    pub stage_bytes: usize,
    /// Steps of up to this many entries are merged with their neighbours at commit, so that a reader meets few runs.
    /// Default 32,768.
    pub merge_entries_max: usize,
    /// That many of them are merged at once, at least: each merge copies their entries, and a run more costs a read that
    /// goes past the cache and the filter of keys one look more. Default 4.
    pub merge_runs_min: usize,
    /// How long to wait before a failed fold is tried again. Default 5 s.
    pub fold_retry: Duration,
    /// What each thread does first whose work nobody waits for (most folds, merges, listing keys): it may give itself a lower
    /// priority. Default nothing.
    pub behind: fn(),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            overlay_bytes: 256 << 20,
            hot_bytes: 128 << 20,
            filter_bytes: 64 << 20,
            fold_entries_min: 600_000,
            fold_interval: Duration::from_secs(30),
            fold_entries_quiet: 5_000,
            level0_tables_max: 12,
            segment_bytes: 64 << 20,
            stage_bytes: 16 << 20,
            merge_entries_max: 32_768,
            merge_runs_min: 4,
            fold_retry: Duration::from_secs(5),
            behind: || {},
        }
    }
}
