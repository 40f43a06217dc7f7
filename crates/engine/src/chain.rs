//! What is too large for one step: a transaction in parts, and the emptying of a large table.
//!
//! It is staged in a file of its own first, piece by piece. When all of it is there and synced, one record in the log says
//! that its chain begins. Then it is run, piece by piece, each a step that only the engine sees; the last one makes all of
//! them visible. How far the chain is stands among the facts of each such step, so that after a crash it goes on from what
//! was folded, or begins again from the log's record, and ends before anybody reads.
//!
//! ```text
//! part, part, … part   ─► stage ─► seal ─► log: the chain begins ─► hidden steps … ─► last step: visible at once
//! ```
//!
//! A call of [`Engine::take`] runs one step of a chain. Who takes until nothing is left, as the warehouse does, never meets one
//! elsewhere; whoever else asks for what stands between two steps, a build or another version, has it run to its end first
//! ([`Engine::settle`]), before anything of that is moved.
//!
//! A chain that is run again takes the same steps with the same numbers: into how many rows the emptying of a large table is cut
//! was written down when it began.

use std::ops::Bound;

use relation::{SourceBatch, TableId};
use store::{Record, StageId, StageReader, Writes};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::ingest::changes_of;
use crate::input::{ChainNote, Input, Logged, Note, Noted, inputs_of, record_of_chain};
use crate::network::Effects;
use crate::step::{LOG_BUFFER_KEPT_MAX, Moves, StepReport, Visible, batch_of, deletion_of};

/// A transaction of a source whose parts are arriving.
pub(crate) struct Staging {
    /// Number of the part that came last.
    part: u32,
    writer: store::StageWriter,
    /// Tables that were begun to be loaded again since the first part came.
    void: Vec<TableId>,
}

/// A chain that is being run.
pub(crate) struct Chain {
    note: ChainNote,
    /// Pieces that are done.
    pieces: u64,
    /// The pieces to come; opened at the first of them where it is not open.
    reader: Option<StageReader>,
    /// The next piece, where it was read already: large tables that it empties are emptied before it is run.
    piece: Option<Vec<Input>>,
    /// The table that is being emptied for it, and up to which key nothing is left of that: else every portion would look
    /// through what those before it have deleted.
    emptied: Option<(TableId, Vec<u8>)>,
    /// Outboxes that its steps have marked keys of: readers see these with the last step.
    marked: Vec<String>,
}

/// The key of the fact how far a chain is.
const CHAIN: &[u8] = b"chain\0";

/// Bytes at the end of a chain's fact: the number of pieces done.
const PIECES_BYTES: usize = 8;

impl Chain {
    fn new(note: ChainNote, pieces: u64) -> Self {
        Self { note, pieces, reader: None, piece: None, emptied: None, marked: Vec::new() }
    }

    fn mark(&mut self, outboxes: &[String]) {
        let new: Vec<String> = outboxes.iter().filter(|name| !self.marked.contains(name)).cloned().collect();
        self.marked.extend(new);
    }

    fn stage(&self) -> StageId {
        StageId(self.note.stage)
    }

    /// The next piece, and whether it is the last one.
    fn next(&mut self, store: &store::Store) -> Result<(Vec<Input>, bool)> {
        let stage = self.stage();
        let reader = match &mut self.reader {
            Some(reader) => reader,
            closed => closed.insert(store.read_stage_from(stage, self.pieces)?),
        };
        let piece = match self.piece.take() {
            Some(piece) => piece,
            None => inputs_of_piece(&reader.next().ok_or_else(too_short)??)?,
        };
        Ok((piece, !reader.has_next()?))
    }
}

/// The inputs of a piece of a stage.
pub(crate) fn inputs_of_piece(piece: &[u8]) -> Result<Vec<Input>> {
    match inputs_of(Record::decode(piece)?)? {
        Logged::Inputs(inputs) => Ok(inputs),
        Logged::Chain(_) => Err(Error::Broken { node: "chain".to_owned(), what: "a piece of a chain begins another" }),
    }
}

fn too_short() -> Error {
    Error::Broken { node: "chain".to_owned(), what: "its stage has fewer pieces than it ran" }
}

impl Engine {
    /// Whether an input is no part of a step of others.
    pub(crate) fn stands_alone(&self, input: &Input) -> bool {
        let Input::Rows(_, batch) = input else { return false };
        let rows_max = self.settings.emptied_rows_max;
        batch.part.is_some()
            || batch.tables.iter().any(|(id, changes)| changes.truncated && self.is_large(*id, rows_max))
    }

    /// Whether a table is not emptied in one step.
    fn is_large(&self, id: TableId, emptied_rows_max: usize) -> bool {
        usize::try_from(self.rows_now(id)).is_ok_and(|rows| rows > emptied_rows_max)
    }

    /// Puts a part into its stage; with the last one it is sealed, and its chain is next.
    pub(crate) fn stage(&mut self, input: &Input) -> Result<()> {
        let Input::Rows(source, batch) = input else { return Ok(()) };
        let part = batch.part.unwrap_or(relation::TransactionPart { number: 1, is_last: true });
        let follows = self.staging.get(source).is_some_and(|staging| staging.part + 1 == part.number);
        if !follows {
            // A first part after an unfinished one: the transaction is read again.
            self.staging.remove(source);
            if !part.is_first() {
                return Err(Error::Broken { node: "stage".to_owned(), what: "a part does not follow the one before" });
            }
            self.staging.insert(*source, Staging { part: 0, writer: self.store.begin_stage()?, void: Vec::new() });
        }
        let Some(staging) = self.staging.get_mut(source) else { return Ok(()) };
        self.log_buffer.clear();
        store::record::encode_into(&[(*source, batch)], &[], &mut self.log_buffer);
        // A part that is given again, since its stage could not be sealed, is in it already.
        if staging.writer.pieces() < u64::from(part.number) {
            staging.writer.append(&self.log_buffer)?;
        }
        self.log_buffer.clear();
        self.log_buffer.shrink_to(LOG_BUFFER_KEPT_MAX);
        if !part.is_last {
            staging.part = part.number;
            return Ok(());
        }
        let stage = staging.writer.seal()?;
        let void = std::mem::take(&mut staging.void);
        self.staging.remove(source);
        let emptied_rows_max = self.settings.emptied_rows_max;
        self.sealed = Some(ChainNote { source: *source, stage: stage.0, emptied_rows_max, void });
        Ok(())
    }

    /// These tables are loaded again from here on. What a transaction whose parts are still coming has of them came before
    /// that, though it is seen later: it is passed over, as the chunks show what has become of it.
    pub(crate) fn void_staged(&mut self, tables: &[TableId]) {
        for (source, staging) in &mut self.staging {
            let of_source = |id: &&TableId| self.network.tables.get(id).is_some_and(|table| table.source == *source);
            staging.void.extend(tables.iter().filter(of_source));
        }
    }

    /// Parts that lack a last one are void once something else of their source comes.
    pub(crate) fn drop_void_parts(&mut self, inputs: &[Input]) {
        if self.staging.is_empty() {
            return;
        }
        for input in inputs {
            if let Input::Rows(source, batch) = input
                && batch.part.is_none()
            {
                self.staging.remove(source);
            }
        }
    }

    /// Logs that a sealed chain begins: from here on it will be run to its end. It is not forgotten before.
    pub(crate) fn begin_chain(&mut self, note: ChainNote) -> Result<()> {
        let record = record_of_chain(&note).encode();
        self.store.append(self.step + 1, &record)?;
        self.sealed = None;
        self.chain = Some(Chain::new(note, 0));
        Ok(())
    }

    /// A chain of which the record of a step in the log tells. It takes the numbers that it had: the steps before it may have
    /// had no record, and one of a smaller number would be folded without the record that it came of.
    pub(crate) fn replay_chain(&mut self, step: u64, note: ChainNote) -> Result<()> {
        self.step = self.step.max(step.saturating_sub(1));
        self.chain = Some(Chain::new(note, 0));
        self.finish_chain()
    }

    /// The chain that was under way when the last fold was made.
    pub(crate) fn load_chain(&self) -> Result<Option<Chain>> {
        let Some(fact) = self.store.working().get(self.facts, CHAIN)? else { return Ok(None) };
        let unreadable = || Error::Broken { node: "chain".to_owned(), what: "how far it is cannot be read" };
        let note_bytes = fact.len().checked_sub(PIECES_BYTES).ok_or_else(unreadable)?;
        let (note, pieces) = fact.split_at(note_bytes);
        let note = ChainNote::read(note).ok_or_else(unreadable)?;
        let pieces = u64::from_le_bytes(pieces.try_into().map_err(|_| unreadable())?);
        Ok(Some(Chain::new(note, pieces)))
    }

    /// Runs a chain that is under way to its end: nothing that is done between two steps is done between two of its own.
    /// What its steps did is answered by the next [`Engine::take`].
    pub(crate) fn settle(&mut self) -> Result<()> {
        while self.chain.is_some() {
            let report = self.run_link()?;
            match &mut self.settled {
                Some(settled) => settled.follow(report),
                None => self.settled = Some(report),
            }
        }
        Ok(())
    }

    /// The same at the start, when nobody asks what it did.
    pub(crate) fn finish_chain(&mut self) -> Result<()> {
        while self.chain.is_some() {
            self.run_link()?;
        }
        Ok(())
    }

    /// Runs the next step of the chain. Where the store fails it stays where it is, and is taken up by the next call.
    pub(crate) fn run_link(&mut self) -> Result<StepReport> {
        let Some(mut chain) = self.chain.take() else { return Ok(StepReport::default()) };
        let done = chain.pieces;
        match self.link(&mut chain) {
            Ok((mut report, true)) => {
                report.add_outboxes(chain.marked.clone());
                self.finished_stages.push((chain.stage(), self.step));
                Ok(report)
            }
            Ok((report, false)) => {
                chain.mark(&report.outboxes);
                self.chain = Some(chain);
                Ok(report)
            }
            Err(error) => {
                self.chain = Some(Chain { marked: chain.marked, ..Chain::new(chain.note, done) });
                Err(error)
            }
        }
    }

    /// One step: a portion of a table that is emptied, or a piece. Answers with what it did, and whether it was the last.
    fn link(&mut self, chain: &mut Chain) -> Result<(StepReport, bool)> {
        let (mut inputs, is_last) = chain.next(&self.store)?;
        for input in &mut inputs {
            if let Input::Rows(_, batch) = input {
                batch.tables.retain(|(id, _)| !chain.note.void.contains(id));
            }
        }
        let snapshot = self.store.working();
        if let Some(rows) = self.rows_to_empty(chain, &inputs, &snapshot)? {
            let (effects, moves) = self.run(self.step + 1, vec![rows], &snapshot)?;
            chain.piece = Some(inputs);
            return Ok((self.commit_link(chain, effects, moves, false)?, false));
        }
        let contradicted = self.normalise(&mut inputs, self.states(&snapshot))?;
        self.prepare_marks(&inputs);
        let (effects, moves) = self.run(self.step + 1, inputs, &snapshot)?;
        chain.pieces += 1;
        chain.emptied = None;
        let mut report = self.commit_link(chain, effects, moves, is_last)?;
        report.parked_tables.extend(contradicted);
        Ok((report, is_last))
    }

    /// The next rows to be deleted of a large table that a piece empties; none where the piece can be run as it is.
    fn rows_to_empty(&self, chain: &mut Chain, inputs: &[Input], snapshot: &store::Snapshot) -> Result<Option<Input>> {
        let rows_max = chain.note.emptied_rows_max;
        for input in inputs {
            let Input::Rows(source, batch) = input else { continue };
            let truncated = batch.tables.iter().filter(|(_, changes)| changes.truncated);
            for (id, _) in truncated.filter(|(id, _)| self.is_large(*id, rows_max) && self.network.follows(*id)) {
                let rows = self.first_rows(*id, chain, snapshot)?;
                // What is counted and not there is not deleted.
                if !rows.tables.is_empty() {
                    return Ok(Some(Input::Rows(*source, rows)));
                }
            }
        }
        Ok(None)
    }

    /// As many rows of a table as one step deletes, behind what the steps before have deleted.
    fn first_rows(&self, id: TableId, chain: &mut Chain, snapshot: &store::Snapshot) -> Result<SourceBatch> {
        let mut batch = SourceBatch::default();
        let Some(stored) = self.network.relations.get(&id) else { return Ok(batch) };
        let emptied = chain.emptied.take().filter(|(table, _)| *table == id).map(|(_, key)| key);
        // Of a row that is there more than once some may be left.
        let from = emptied.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let rows_max = chain.note.emptied_rows_max.max(1);
        for entry in snapshot.range(id, from, Bound::Unbounded) {
            let (key, value) = entry?;
            let (row, weight) = stored.row_of(&value)?;
            let changes = batch.table(id);
            for _ in 0..weight {
                changes.push(row, -1);
                if changes.weights.len() >= rows_max || changes.rows.byte_len() >= EMPTIED_BYTES_MAX {
                    chain.emptied = Some((id, key.to_vec()));
                    return Ok(batch);
                }
            }
        }
        Ok(batch)
    }

    /// Commits one step of the chain, with how far it is then.
    fn commit_link(&mut self, chain: &Chain, mut effects: Effects, moves: Moves, is_last: bool) -> Result<StepReport> {
        let mut writes = Writes::new();
        if is_last {
            writes.delete(self.facts, CHAIN);
        } else {
            let fact = [&chain.note.to_bytes()[..], &chain.pieces.to_le_bytes()].concat();
            writes.put(self.facts, CHAIN, &fact);
        }
        effects.writes.append(writes);
        let visible = if is_last { Visible::Now } else { Visible::Later };
        self.commit(self.step + 1, effects, moves, visible)
    }

    /// Drops the stages of chains that no crash can bring back, as their last step is folded, and that no build has to catch
    /// up with.
    pub(crate) fn drop_stages(&mut self) -> Result<()> {
        if self.finished_stages.is_empty() {
            return Ok(());
        }
        let unneeded = self.store.unneeded_through();
        // One that cannot be removed now is, the next time.
        while let Some(at) = self.finished_stages.iter().position(|(_, step)| *step <= unneeded) {
            self.store.drop_stage(self.finished_stages[at].0)?;
            self.finished_stages.swap_remove(at);
        }
        Ok(())
    }
}

/// Bytes of rows that one step of an emptying deletes, about.
const EMPTIED_BYTES_MAX: usize = 8 << 20;

/// As [`changes_of`], of the batches among inputs.
pub(crate) fn changes_of_inputs(inputs: Vec<Input>) -> Vec<crate::network::Change> {
    let batches = inputs.into_iter().filter_map(|input| match input {
        Input::Rows(_, batch) => Some(batch),
        Input::Note(Note(Noted::Swept { table, changes, .. })) => Some(batch_of(table, changes)),
        Input::Note(Note(Noted::Begun { table, gone })) => Some(deletion_of(table, gone)),
        _ => None,
    });
    changes_of(batches.collect())
}
