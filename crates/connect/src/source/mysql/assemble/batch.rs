//! Handing batches over: whole transactions, and the chunks whose time has come.

use std::mem;

use relation::{ChunkDone, SourceBatch};

use super::super::window::Chunk;
use super::{Assembler, Loading, Table};

impl Assembler {
    /// Whether [`Assembler::take`] would return something worth sending at once.
    pub(crate) fn is_ready(&self) -> bool {
        !self.batch.transactions.is_empty() || !self.batch.chunks.is_empty()
    }

    /// Whether the position has moved since the last batch, though nothing of ours was in it.
    pub(crate) fn has_moved(&self) -> bool {
        self.sent.as_ref().is_none_or(|sent| sent.0 != self.position.to_string())
    }

    /// Whether the batch is as large as it may become. Ask after [`Step::Committed`].
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.batch.transactions.len() >= self.limits.rows_max
            || self.batch.rows() >= self.limits.rows_max
            || self.batch.bytes() >= self.limits.bytes_max
    }

    /// The whole transactions so far, with their position. An open transaction begins the next batch.
    pub(crate) fn take(&mut self) -> SourceBatch {
        let mut batch = mem::take(&mut self.batch);
        for (index, from) in &mut self.open.marks {
            let table = &self.tables[*index];
            if matches!(table.loading, Loading::Bag(_)) || table.parked {
                continue;
            }
            let whole = batch.table(table.capture.id);
            let next = self.batch.table(table.capture.id);
            for i in *from..whole.rows.len() {
                next.push(whole.rows.get(i), whole.weights[i]);
            }
            whole.rows.truncate(*from);
            whole.weights.truncate(*from);
            *from = 0;
        }
        batch.tables.retain(|(_, changes)| !changes.rows.is_empty() || changes.truncated);
        batch.position = self.position.to_position();
        self.sent = Some(batch.position.clone());
        batch
    }

    /// Adds a chunk to the batch, which must be taken before the next event is given. `applied` must have passed the
    /// chunk's `high`. Returns whether the table is loaded whole now.
    pub(crate) fn add_chunk(&mut self, chunk: Chunk) -> bool {
        let table = &mut self.tables[chunk.table];
        let rows = match &mut table.loading {
            // Emptied or parked meanwhile.
            Loading::Complete => return false,
            Loading::Keyed(window) => window.survivors(chunk.rows),
            Loading::Bag(bag) => bag.fold(&chunk.rows, &chunk.high),
        };
        if chunk.complete {
            table.loading = Loading::Complete;
        }
        self.batch.chunks.push(ChunkDone {
            table: table.capture.id,
            cursor: chunk.cursor,
            complete: chunk.complete,
            rows,
            rows_estimate: chunk.rows_estimate,
        });
        chunk.complete
    }

    /// Whether a chunk's time has come: the log has passed its `high`, and no open transaction has changed a bag, whose
    /// rows would be torn apart.
    pub(crate) fn may_close(&self, chunk: &Chunk) -> bool {
        let whole = |table: &Table| !matches!(table.loading, Loading::Bag(_)) || self.open.marks.is_empty();
        self.applied >= chunk.high && whole(&self.tables[chunk.table])
    }
}
