//! The fold: brings the tables up to the newest step, by size when behind, by time when quiet.
//!
//! Two threads fold, one at a time. Nobody waits for most folds, and one of them has the priority of what nobody waits for.
//! On a machine whose cores the steps keep busy it takes that one so long that the overlay may be full before it is done, and
//! then a commit waits for the slowest of all threads. Which one a fold takes is decided when it begins ([`is_urgent`]): a
//! fold cannot change threads, and a thread cannot raise its priority.
//!
//! One fold takes all runs up to the newest step F, writes the net effect of each key in one ingestion together with
//! `folded_step = F`, publishes the new base, and drops the log segments that nobody needs any more. When it fails, a
//! full disk most often, commits go on within the overlay's budget, the log has everything, and it is tried again, once
//! there is room. fjall takes no more writes after a failure: the tables get a successor first ([`crate::disk`]), which
//! readers do not notice. A disk that is full already is asked before anything is written, and needs none.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use relation::TableId;

use crate::base::{Access, Base};
use crate::disk::Fold;
use crate::options::Options;
use crate::room::{self, PROBES};
use crate::run;
use crate::snapshot::View;
use crate::store::{Shared, State, now};
use crate::{Error, Result};

/// After this many intervals a fold of any size is made: the log's segments should not wait for ever.
const INTERVALS_MAX: u32 = 20;
/// While level 0 is full and its compaction under way elsewhere.
const LEVEL0_WAIT: Duration = Duration::from_millis(20);

/// Which folds a thread takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Those that nobody waits for.
    Behind,
    /// Those for which commits would wait otherwise.
    WithSteps,
}

/// A thread's life.
pub(crate) fn run(shared: &Shared, pace: Pace) {
    let _guard = shared.stop_on_panic();
    while let Some(view) = next(shared, pace) {
        let (error, tables) = match room::ask(&shared.folder.dir, view.bytes as u64) {
            Ok(()) => match fold(shared, &view, pace) {
                Ok(()) => continue,
                Err(error) => (error, Tables::Failed),
            },
            Err(error) => (error, Tables::Untouched),
        };
        fail(shared, error);
        if !recover(shared, tables) {
            return;
        }
    }
}

/// What a failure leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tables {
    /// Nothing was written.
    Untouched,
    /// They take no more writes.
    Failed,
}

/// Whether so much waits that a fold should start at once. Steps up to `frozen` are being folded already.
pub(crate) fn is_large(options: &Options, view: &View, frozen: u64) -> bool {
    let waiting = view.runs.iter().filter(|run| run.first > frozen);
    let (entries, bytes) = waiting.fold((0, 0), |(entries, bytes), run| (entries + run.entries, bytes + run.bytes));
    entries >= options.fold_entries_min || bytes as u64 >= options.overlay_bytes / 3
}

/// Waits until a fold of this pace is due; none when the store closes.
fn next(shared: &Shared, pace: Pace) -> Option<Arc<View>> {
    let options = &shared.options;
    let mut state = shared.state();
    loop {
        if shared.stopping.load(Ordering::Acquire) {
            return None;
        }
        let view = shared.working();
        if !state.is_folding && is_due(options, &state, &view) {
            // Decided once: at another moment the other thread might leave it to this one.
            let due = state.due.unwrap_or_else(|| pace_of(options, &state, &view));
            if due == pace {
                state.due = None;
                state.is_folding = true;
                state.frozen = view.step;
                state.waiting_since = None;
                return Some(view);
            }
            state.due = Some(due);
            shared.work.notify_all();
        }
        let pause = (options.fold_interval / 8).max(Duration::from_millis(1));
        let waited = match state.waiting_since {
            // Nothing waits: the next commit wakes us.
            None => shared.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(_) => shared.work.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
        };
        state = waited;
    }
}

fn is_due(options: &Options, state: &State, view: &View) -> bool {
    if view.step == view.base.folded && view.runs.is_empty() {
        return false;
    }
    let age = state.waiting_since.map_or(Duration::ZERO, |since| since.elapsed());
    state.wanted > view.base.folded
        || is_large(options, view, 0)
        || (age >= options.fold_interval && view.entries >= options.fold_entries_quiet)
        || age >= options.fold_interval * INTERVALS_MAX
}

fn pace_of(options: &Options, state: &State, view: &View) -> Pace {
    let age = state.waiting_since.map_or(Duration::ZERO, |since| since.elapsed());
    match is_urgent(view.bytes as u64, age, state.behind_rate, options.overlay_bytes) {
        true => Pace::WithSteps,
        false => Pace::Behind,
    }
}

/// Whether the overlay would be full before a fold of `waiting` bytes that is made behind the steps were over: at `rate`, the
/// bytes per second of the last such fold, while as much comes as came during `age`.
fn is_urgent(waiting: u64, age: Duration, rate: f64, overlay_bytes: u64) -> bool {
    // The measured rate is that of a machine that may have been less busy.
    const MARGIN: f64 = 2.0;
    let room = overlay_bytes.saturating_sub(waiting) as f64;
    let inflow = waiting as f64 / age.as_secs_f64().max(1e-3);
    inflow * (waiting as f64 / rate) * MARGIN >= room
}

fn fold(shared: &Shared, view: &View, pace: Pace) -> Result<()> {
    // A merge that failed leaves files behind, as an ingestion does: the tables are opened again.
    if let Some(error) = shared.state().merge_failure.take() {
        return Err(error);
    }
    wait_for_level0(shared)?;
    let started = now();
    let tables = run::tables(&view.runs);
    let forget = forgettable(shared, &view.base)?;
    let fold = Fold { step: view.step, tables: &tables, forget: &forget };
    shared.folder.take_over()?;
    let entries = shared.disk.ingest(&fold, &shared.stopping)?;
    shared.folder.note_folded()?;
    let base = Arc::new(shared.disk.base()?);
    if base.folded != view.step {
        return Err(Error::Decode {
            what: "the folded step",
            reason: "the tables do not stand where they were folded to",
        });
    }
    let new_graves: Vec<_> = base.dead.difference(&view.base.dead).map(|table| (*table, base.folded)).collect();
    shared.publish_base(base, &view.runs);
    shared.disk.forget(&forget);
    {
        let mut state = shared.state();
        state.graves.extend(new_graves);
        state.rounds.ask(pace);
        // What is small says how long a sync takes.
        if pace == Pace::Behind && view.bytes as u64 >= shared.options.overlay_bytes / 16 {
            state.behind_rate = view.bytes as f64 / started.elapsed().as_secs_f64().max(1e-3);
        }
        let stats = &mut state.stats;
        stats.folds += 1;
        stats.folded_entries += entries;
        stats.last_fold_time = started.elapsed();
        stats.fold_time += stats.last_fold_time;
    }
    purge(shared)?;
    shared.disk.sweep();
    shared.drop_log(view.step)?;
    finish(shared, view.step);
    Ok(())
}

/// Tells those who wait for the fold.
fn finish(shared: &Shared, step: u64) {
    let mut state = shared.state();
    state.failure = None;
    state.finished = step;
    // Before they are told: who waits for the next fold looks at once.
    state.is_folding = false;
    shared.notify();
}

/// Ingestion is throttled by nobody: while level 0 is full, this thread helps to empty it.
fn wait_for_level0(shared: &Shared) -> Result<()> {
    while shared.disk.level0_tables() > shared.options.level0_tables_max {
        if shared.stopping.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if !shared.disk.compact_once()? {
            let state = shared.state();
            drop(shared.work.wait_timeout(state, LEVEL0_WAIT));
        }
    }
    Ok(())
}

/// A purged table of which nothing is left: the first that is found, one look per fold.
fn forgettable(shared: &Shared, base: &Base) -> Result<BTreeSet<TableId>> {
    let purged = shared.disk.purged();
    // Another one each time: a table that takes long must not hide the others.
    let turn = usize::try_from(base.folded).unwrap_or(0) % purged.len().max(1);
    let candidate = purged.into_iter().nth(turn).filter(|table| base.dead.contains(table));
    let Some(table) = candidate else { return Ok(BTreeSet::new()) };
    Ok(if base.is_empty(table)? { BTreeSet::from([table]) } else { BTreeSet::new() })
}

/// Lets the entries of dropped tables go that no reader sees any more.
fn purge(shared: &Shared) -> Result<()> {
    let free = {
        let mut state = shared.state();
        let oldest = state.bases.iter().filter_map(std::sync::Weak::upgrade).map(|base| base.folded).min();
        let oldest = oldest.unwrap_or(u64::MAX);
        state.graves.extract_if(.., |(_, folded)| *folded <= oldest).map(|(table, _)| table).collect::<Vec<_>>()
    };
    if free.is_empty() { Ok(()) } else { shared.disk.purge(&free) }
}

fn fail(shared: &Shared, error: Error) {
    if shared.stopping.load(Ordering::Acquire) {
        return;
    }
    tracing::error!(%error, hint = error.hint(), "folding stands still, the log keeps what is not folded");
    let mut state = shared.state();
    state.failure = Some(error);
    state.frozen = 0;
    state.wanted = 0;
    state.waiting_since.get_or_insert_with(now);
    shared.notify();
}

/// Waits until there is room on the disk, then opens the tables again if they failed; false when the store closes
/// meanwhile.
fn recover(shared: &Shared, tables: Tables) -> bool {
    let mut state = shared.state();
    loop {
        if shared.stopping.load(Ordering::Acquire) {
            return false;
        }
        state = wait_to_retry(shared, state);
        if shared.stopping.load(Ordering::Acquire) {
            return false;
        }
        drop(state);
        let attempt = probe(shared).and_then(|()| match tables {
            Tables::Untouched => Ok(()),
            Tables::Failed => reopen(shared),
        });
        state = shared.state();
        match attempt {
            Ok(()) => {
                state.wanted = shared.working().step;
                state.is_folding = false;
                shared.notify();
                return true;
            }
            Err(error) => {
                state.failure = Some(error);
                state.wanted = 0;
                shared.notify();
            }
        }
    }
}

/// Until the retry is due, or somebody asks for a fold.
fn wait_to_retry<'a>(shared: &'a Shared, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    let since = now();
    while state.wanted == 0 && !shared.stopping.load(Ordering::Acquire) {
        let left = shared.options.fold_retry.saturating_sub(since.elapsed());
        if left.is_zero() {
            break;
        }
        state = shared.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    state
}

/// Whether about as much as a fold needs can be written.
fn probe(shared: &Shared) -> Result<()> {
    let (dir, bytes) = (&shared.folder.dir, shared.working().bytes as u64);
    room::ask(dir, bytes)?;
    room::probe(dir, PROBES[0], bytes)
}

/// Opens the tables again: beside the old ones, whose readers go on.
fn reopen(shared: &Shared) -> Result<()> {
    match shared.disk.succeed() {
        Ok(()) => publish_reopened(shared, shared.disk.base()?),
        // Not every file system has links.
        Err(Error::Io { source, .. }) if is_without_links(&source) => reopen_in_place(shared),
        // That was tried, and they could not be opened.
        Err(Error::TablesClosed) => reopen_in_place(shared),
        Err(error) => Err(error),
    }
}

fn is_without_links(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), PermissionDenied | TooManyLinks | Unsupported)
}

/// An ingestion that reported an error may have been finished all the same: then this base is a newer one.
fn publish_reopened(shared: &Shared, base: Base) -> Result<()> {
    let folded = base.folded;
    let newer = folded > shared.working().base.folded;
    shared.publish_base(Arc::new(base), &[]);
    if newer {
        shared.drop_log(folded)?;
    }
    // Where only the work after the ingestion failed, nothing is left to fold for those who wait.
    let mut state = shared.state();
    state.finished = folded;
    state.rounds.ask(Pace::Behind);
    shared.notify();
    Ok(())
}

/// Closes the tables and opens them again. Readers of the newest base wait for it; older bases end.
fn reopen_in_place(shared: &Shared) -> Result<()> {
    // A merge holds them open, and would go on in the folder of the new ones.
    let _no_merges = shared.disk.hold_merges();
    let newest = Arc::clone(&shared.working().base);
    let bases: Vec<_> = shared.state().bases.iter().filter_map(std::sync::Weak::upgrade).collect();
    let mut guard = newest.write();
    *guard = Access::Closed;
    for base in bases.iter().filter(|base| !Arc::ptr_eq(base, &newest)) {
        *base.write() = Access::Ended;
    }
    shared.disk.close();
    shared.disk.reopen()?;
    let tables = shared.disk.tables()?;
    if tables.folded()? == newest.folded {
        *guard = Access::Open(tables);
        shared.state().finished = newest.folded;
        shared.notify();
        return Ok(());
    }
    *guard = Access::Ended;
    drop(guard);
    publish_reopened(shared, Base::new(tables)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which fold is urgent, by what waits, since when, how quick folds behind the steps are, and what the overlay may take.
    #[test]
    fn urgent_where_the_overlay_would_be_full_before_the_fold_is_over() {
        let urgent = |mib: u64, seconds: u64, rate_mib: u64| {
            is_urgent(mib << 20, Duration::from_secs(seconds), (rate_mib << 20) as f64, 256 << 20)
        };
        // 80 MiB in 40 s, folded in 4 s: 8 MiB come meanwhile.
        assert!(!urgent(80, 40, 20));
        // In 2 s: 160 MiB would come, and there is room for 176.
        assert!(urgent(80, 2, 20));
        assert!(!urgent(80, 2, 200));
        // A full overlay has somebody waiting.
        assert!(urgent(256, 1000, 1000));
        assert!(!urgent(0, 0, 20));
    }
}
