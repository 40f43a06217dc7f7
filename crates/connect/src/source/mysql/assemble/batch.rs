//! Handing batches over: whole transactions, and the chunks whose time has come.

use std::mem;

use relation::{ChunkDone, Rows, SourceBatch, TransactionPart};

use super::super::window::Chunk;
use super::outdated::READING_BROKEN_OFF;
use super::{Assembler, Loading, NOTICES_MAX, Passing, Standing, TOUCHED_ROWS, TRANSACTION_ROWS, Table};

impl Assembler {
    /// Whether [`Assembler::take`] would return something worth sending at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.has_whole() || self.has_outgrown() || self.is_closing()
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
        self.last_part.is_some() || is_large && self.has_whole() || self.has_outgrown() || self.is_closing()
    }

    /// Whether changes of a table without a key are to be handed over behind its rows.
    #[inline]
    fn is_closing(&self) -> bool {
        self.closing > 0
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
        self.go_on_closing();
        let mut batch = self.take_whole();
        batch.position = self.position.to_position();
        self.sent = Some(batch.position.clone());
        self.reload_outdated();
        self.reload_suspects();
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

    /// Adds to the batch what follows behind the rows of a table without a key; when that is all, its load is over.
    fn go_on_closing(&mut self) {
        let is_closing = |table: &Table| matches!(&table.loading, Loading::Bag(bag) if bag.is_closing());
        self.closing = self.tables.iter().filter(|table| is_closing(table)).count();
        let Some(index) = self.tables.iter().position(is_closing) else { return };
        let table = &mut self.tables[index];
        let id = table.capture.id;
        // Its rows go out first.
        if self.batch.chunks.iter().any(|chunk| chunk.table == id) {
            return;
        }
        let Loading::Bag(bag) = &mut table.loading else { return };
        if let Some(rows_estimate) = bag.hand_over(self.batch.table(id), self.limits.bytes_max) {
            self.batch.chunks.push(ChunkDone {
                table: id,
                cursor: Vec::new(),
                complete: true,
                rows: Rows::new(),
                unread: Rows::new(),
                rows_estimate,
            });
            self.end_load(index);
            self.closing -= 1;
        }
    }

    fn end_load(&mut self, index: usize) {
        self.tables[index].loading = Loading::Complete;
        self.ended.push(index);
    }

    /// Tables whose loads have ended since the last call.
    pub(crate) fn ended_loads(&mut self) -> Vec<usize> {
        mem::take(&mut self.ended)
    }

    /// Tables of which nothing has come are left out; of those that are loaded it is noted that something has.
    fn hand_over(&mut self, batch: &mut SourceBatch) {
        batch.tables.retain(|(_, changes)| !changes.rows.is_empty() || changes.truncated);
        for table in self.tables.iter_mut().filter(|table| table.is_loading() && !table.has_rows) {
            table.has_rows = batch.tables.iter().any(|(id, _)| *id == table.capture.id);
        }
    }

    /// Adds a chunk to the batch, which must be taken before the next event is given. `applied` must have passed the
    /// chunk's `high`. Of a table without a key changes may follow ([`Assembler::is_closing`]).
    pub(crate) fn add_chunk(&mut self, chunk: Chunk) {
        if !self.wants(&chunk) {
            return;
        }
        let Chunk { table: index, rows, unread, .. } = chunk;
        let table = &mut self.tables[index];
        if chunk.begins && table.has_chunks {
            return self.reload(index, READING_BROKEN_OFF.to_owned());
        }
        table.has_chunks = true;
        let mut is_over = chunk.complete;
        let (rows, unread) = match &mut table.loading {
            // Emptied or parked meanwhile.
            Loading::Complete => return,
            Loading::Keyed(window) => (window.survivors(rows), window.unread_survivors(unread)),
            Loading::Bag(bag) => {
                bag.drop_through(&chunk.high);
                if is_over && bag.close(chunk.rows_estimate) {
                    is_over = false;
                    self.closing += 1;
                }
                (rows, unread)
            }
        };
        let is_outdated = table.outdated.is_some();
        self.batch.chunks.push(ChunkDone {
            table: table.capture.id,
            cursor: if is_outdated { Vec::new() } else { chunk.cursor },
            complete: is_over && !is_outdated,
            rows,
            unread,
            rows_estimate: chunk.rows_estimate,
        });
        if is_over {
            self.end_load(index);
        }
    }

    /// Whether a chunk is of the load that is under way.
    pub(crate) fn wants(&self, chunk: &Chunk) -> bool {
        let table = &self.tables[chunk.table];
        table.is_loading() && table.run == chunk.run && table.passing != Passing::Everything
    }

    /// Whether one chunk more may go with the batch: each takes one at least, that those who load get on.
    pub(crate) fn has_room(&self) -> bool {
        self.batch.chunks.is_empty() || self.batch.bytes() < self.limits.bytes_max
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
