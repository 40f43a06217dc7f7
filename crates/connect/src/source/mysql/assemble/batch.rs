//! Handing batches over: whole transactions, and the chunks whose time has come.

use std::mem;

use relation::{ChunkDone, SourceBatch, TransactionPart};

use super::super::window::{Chunk, Folded};
use super::{Assembler, Loading, NOTICES_MAX, Passing, Standing, TOUCHED_ROWS, TRANSACTION_ROWS, Table};

const CONTRADICTED: &str = "a row went while it was being loaded that could not be read, and was not there";

impl Assembler {
    /// Whether [`Assembler::take`] would return something worth sending at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.has_whole() || self.has_outgrown()
    }

    /// Whether the position has moved since the last batch, though nothing of ours was in it. Not among the parts of a
    /// transaction: no other batch comes between them.
    pub(crate) fn has_moved(&self) -> bool {
        !self.is_among_parts() && self.sent.as_ref().is_none_or(|sent| sent.0 != self.position.to_string())
    }

    /// Whether no further event may be given before [`Assembler::take`]; there is always something to take then.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        let is_large = self.batch.transactions.len() >= self.limits.transactions_max
            || self.batch.rows() >= self.limits.rows_max
            || self.batch.bytes() >= self.limits.bytes_max;
        self.last_part.is_some() || is_large && self.has_whole() || self.has_outgrown()
    }

    /// Whether events should wait until what has gathered was looked after.
    pub(super) fn must_pause(&self) -> bool {
        self.has_outgrown() || self.notices.len() >= NOTICES_MAX
    }

    fn has_whole(&self) -> bool {
        !self.batch.transactions.is_empty() || !self.batch.chunks.is_empty()
    }

    /// Whether the batch holds as much of the open transaction as a part may have.
    #[inline]
    fn has_outgrown(&self) -> bool {
        self.open.bytes >= self.limits.bytes_max
            || self.open.rows >= self.limits.rows_max.saturating_mul(TRANSACTION_ROWS)
    }

    /// Whether a transaction's first part was taken and its last one was not.
    pub(super) fn is_among_parts(&self) -> bool {
        self.open.parts > 0 || self.last_part.is_some()
    }

    /// The whole transactions so far, with their position; where there are none, a part of the open one if it has outgrown
    /// the batch. What is not taken begins the next batch.
    pub(crate) fn take(&mut self) -> SourceBatch {
        if let Some(number) = self.last_part.take() {
            debug_assert!(self.batch.transactions.len() == 1 && self.batch.chunks.is_empty(), "one transaction alone");
            self.batch.part = Some(TransactionPart { number, is_last: true });
        } else if !self.has_whole() && self.has_outgrown() {
            return self.take_part();
        }
        let mut batch = self.take_whole();
        batch.position = self.position.to_position();
        self.sent = Some(batch.position.clone());
        self.reload_outdated();
        batch
    }

    /// All that the batch holds, which is of the open transaction.
    fn take_part(&mut self) -> SourceBatch {
        let mut batch = mem::take(&mut self.batch);
        self.hand_over(&mut batch);
        self.open.parts = self.open.parts.saturating_add(1);
        batch.part = Some(TransactionPart { number: self.open.parts, is_last: false });
        self.open.rows = 0;
        self.open.bytes = 0;
        for (index, from) in &mut self.open.marks {
            let table = &mut self.tables[*index];
            if !matches!(table.loading, Loading::Bag(_)) {
                *from = 0;
                table.parted_in = self.open.number;
            }
        }
        batch
    }

    fn take_whole(&mut self) -> SourceBatch {
        let mut batch = mem::take(&mut self.batch);
        for (index, from) in &mut self.open.marks {
            let table = &self.tables[*index];
            if matches!(table.loading, Loading::Bag(_)) || table.standing != Standing::Followed {
                continue;
            }
            let whole = batch.table(table.capture.id);
            let next = self.batch.table(table.capture.id);
            whole.entries_from(*from).for_each(|entry| next.push_entry(entry));
            whole.truncate(*from);
            *from = 0;
        }
        self.hand_over(&mut batch);
        batch
    }

    /// Tables of which nothing has come are left out; of those that are loaded it is noted that something has.
    fn hand_over(&mut self, batch: &mut SourceBatch) {
        batch.tables.retain(|(_, changes)| !changes.rows.is_empty() || changes.truncated);
        for table in self.tables.iter_mut().filter(|table| table.is_loading() && !table.has_rows) {
            table.has_rows = batch.tables.iter().any(|(id, _)| *id == table.capture.id);
        }
    }

    /// Adds a chunk to the batch, which must be taken before the next event is given. `applied` must have passed the
    /// chunk's `high`. Returns whether the table is loaded whole now.
    pub(crate) fn add_chunk(&mut self, chunk: Chunk) -> bool {
        if !self.wants(&chunk) {
            return false;
        }
        let table = &mut self.tables[chunk.table];
        table.has_chunks = true;
        let folded = match &mut table.loading {
            // Emptied or parked meanwhile.
            Loading::Complete => return false,
            Loading::Keyed(window) => {
                let unread = window.unread_survivors(chunk.unread);
                Folded { rows: window.survivors(chunk.rows), unread, is_exact: true }
            }
            Loading::Bag(bag) => bag.fold(chunk.rows, chunk.unread, &chunk.high),
        };
        if !folded.is_exact {
            table.outdated.get_or_insert_with(|| CONTRADICTED.to_owned());
        }
        if chunk.complete {
            table.loading = Loading::Complete;
        }
        let is_outdated = table.outdated.is_some();
        self.batch.chunks.push(ChunkDone {
            table: table.capture.id,
            cursor: if is_outdated { Vec::new() } else { chunk.cursor },
            complete: chunk.complete && !is_outdated,
            rows: folded.rows,
            unread: folded.unread,
            rows_estimate: chunk.rows_estimate,
        });
        chunk.complete
    }

    /// Whether a chunk is of the load that is under way.
    pub(crate) fn wants(&self, chunk: &Chunk) -> bool {
        let table = &self.tables[chunk.table];
        table.is_loading() && table.run == chunk.run && table.passing != Passing::Everything
    }

    /// Whether a chunk's time has come: the log, which is known to be the one that was left, has passed its `high`; no open
    /// transaction has changed a bag, whose rows would be torn apart; and the batch is no part of a transaction.
    pub(crate) fn may_close(&self, chunk: &Chunk) -> bool {
        let whole = |table: &Table| !matches!(table.loading, Loading::Bag(_)) || self.open.marks.is_empty();
        !self.is_among_parts() && !self.is_passing && self.applied >= chunk.high && whole(&self.tables[chunk.table])
    }

    /// Whether the windows remember as many keys as they may.
    pub(crate) fn has_touched_much(&self) -> bool {
        let touched = |table: &Table| match &table.loading {
            Loading::Keyed(window) => window.touched(),
            Loading::Complete | Loading::Bag(_) => 0,
        };
        self.tables.iter().map(touched).sum::<usize>() > self.limits.rows_max.saturating_mul(TOUCHED_ROWS)
    }

    /// All windows begin anew: chunks that were begun before are void. See [`super::super::window`] for why it is right.
    pub(crate) fn open_windows_anew(&mut self) {
        for table in &mut self.tables {
            if let Loading::Keyed(window) = &mut table.loading {
                window.forget();
            }
        }
    }
}
