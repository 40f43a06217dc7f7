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
//! The sizes of the steps are part of the format: a chain that is run again takes the same numbers.

use relation::SourceBatch;
use store::{Record, StageId, Writes};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::ingest::{TRUNCATED_ROWS_MAX, changes_of};
use crate::input::{ChainNote, Input, Logged, Note, Noted, inputs_of, record_of_chain};
use crate::step::{Moves, StepReport, Visible, deletion_of};

/// A transaction whose parts are arriving.
pub(crate) struct Staging {
    source: u32,
    /// Number of the part that came last.
    part: u32,
    writer: store::StageWriter,
    /// Tables that were begun to be loaded again since the first part came.
    void: Vec<relation::TableId>,
}

/// A chain that is being run.
pub(crate) struct Chain {
    note: ChainNote,
    /// Pieces that are done.
    pieces: u64,
    /// What its steps did so far.
    report: StepReport,
}

/// The key of the fact how far a chain is.
const CHAIN: &[u8] = b"chain\0";

/// Bytes at the end of a chain's fact: the number of pieces done.
const PIECES_BYTES: usize = 8;

impl Engine {
    /// Whether an input is no part of a step of others.
    pub(crate) fn stands_alone(&self, input: &Input) -> bool {
        let Input::Rows(_, batch) = input else { return false };
        batch.part.is_some() || self.empties_much(batch)
    }

    fn empties_much(&self, batch: &SourceBatch) -> bool {
        let mut truncated = batch.tables.iter().filter(|(_, changes)| changes.truncated);
        truncated.any(|(id, _)| self.row_count(*id) > TRUNCATED_ROWS_MAX)
    }

    /// Puts a part into its stage, and answers with the chain where it was the last one.
    pub(crate) fn stage(&mut self, input: &Input) -> Result<Option<ChainNote>> {
        let Input::Rows(source, batch) = input else { return Ok(None) };
        let part = batch.part.unwrap_or(relation::TransactionPart { number: 1, is_last: true });
        let known = self.staging.as_ref().filter(|staging| staging.source == *source);
        if part.number == 1 || known.is_none_or(|staging| staging.part + 1 != part.number) {
            // A first part after an unfinished one: the transaction is read again.
            self.staging.take_if(|staging| staging.source == *source);
            if part.number != 1 {
                return Err(Error::Broken { node: "stage".to_owned(), what: "a part does not follow the one before" });
            }
            let writer = self.store.begin_stage()?;
            self.staging = Some(Staging { source: *source, part: 0, writer, void: Vec::new() });
        }
        let Some(staging) = &mut self.staging else { return Ok(None) };
        self.log_buffer.clear();
        let batches = [(*source, SourceBatch { part: None, ..batch.clone() })];
        store::record::encode_into(&batches, &[], &mut self.log_buffer);
        // A part that is given again, since its stage could not be sealed, is in it already.
        if staging.writer.pieces() < u64::from(part.number) {
            staging.writer.append(&self.log_buffer)?;
        }
        if !part.is_last {
            staging.part = part.number;
            return Ok(None);
        }
        let stage = staging.writer.seal()?;
        let void = std::mem::take(&mut staging.void);
        self.staging = None;
        Ok(Some(ChainNote { source: *source, stage: stage.0, void }))
    }

    /// These tables are loaded again from here on. What a transaction whose parts are still coming has of them came before
    /// that, though it is seen later: it is passed over, as the chunks show what has become of it.
    pub(crate) fn void_staged(&mut self, tables: &[relation::TableId]) {
        let Some(staging) = &mut self.staging else { return };
        let of_source =
            |id: &&relation::TableId| self.network.tables.get(id).is_some_and(|table| table.source == staging.source);
        staging.void.extend(tables.iter().filter(of_source));
    }

    /// Logs that a chain begins: from here on it will be run to its end.
    pub(crate) fn begin_chain(&mut self, note: ChainNote) -> Result<()> {
        let record = record_of_chain(&note).encode();
        self.store.append(self.step + 1, &record)?;
        self.chain = Some(Chain { note, pieces: 0, report: StepReport::default() });
        Ok(())
    }

    /// A chain of which a record in the log tells.
    pub(crate) fn replay_chain(&mut self, note: ChainNote) -> Result<()> {
        self.chain = Some(Chain { note, pieces: 0, report: StepReport::default() });
        self.run_chain().map(|_| ())
    }

    /// The chain that was under way when the last fold was made.
    pub(crate) fn load_chain(&self) -> Result<Option<Chain>> {
        let Some(fact) = self.store.working().get(self.facts, CHAIN)? else { return Ok(None) };
        let unreadable = || Error::Broken { node: "chain".to_owned(), what: "how far it is cannot be read" };
        let note_bytes = fact.len().checked_sub(PIECES_BYTES).ok_or_else(unreadable)?;
        let (note, pieces) = fact.split_at(note_bytes);
        let note = ChainNote::read(note).ok_or_else(unreadable)?;
        let pieces = u64::from_le_bytes(pieces.try_into().map_err(|_| unreadable())?);
        Ok(Some(Chain { note, pieces, report: StepReport::default() }))
    }

    /// Runs the chain to its end. Where the store fails it stays where it is, and is taken up by the next call.
    pub(crate) fn run_chain(&mut self) -> Result<StepReport> {
        let Some(chain) = &self.chain else { return Ok(StepReport::default()) };
        let (stage, done) = (StageId(chain.note.stage), chain.pieces);
        let mut pieces = self.store.read_stage_from(stage, done)?.peekable();
        while let Some(piece) = pieces.next() {
            let record = Record::decode(&piece?)?;
            let Logged::Inputs(inputs) = inputs_of(record)? else { continue };
            let is_last = pieces.peek().is_none();
            self.run_piece(inputs, is_last)?;
        }
        let Some(chain) = self.chain.take() else { return Ok(StepReport::default()) };
        self.finished_stages.push((stage, self.step));
        Ok(chain.report)
    }

    fn run_piece(&mut self, mut inputs: Vec<Input>, is_last: bool) -> Result<()> {
        let mut emptied = Vec::new();
        for input in &mut inputs {
            let Input::Rows(source, batch) = input else { continue };
            if let Some(chain) = &self.chain {
                batch.tables.retain(|(id, _)| !chain.note.void.contains(id));
            }
            for (id, changes) in &mut batch.tables {
                if changes.truncated && self.row_count(*id) > TRUNCATED_ROWS_MAX {
                    self.empty(*source, *id)?;
                    changes.truncated = false;
                    emptied.push(Input::Note(Note(Noted::Emptied { table: *id })));
                }
            }
        }
        inputs.splice(0..0, emptied);
        let snapshot = self.store.working();
        self.normalise(&mut inputs, self.states(&snapshot))?;
        let (effects, moves) = self.run(self.step + 1, inputs, &snapshot)?;
        self.commit_link(effects, moves, 1, is_last)
    }

    /// Deletes all rows of a table, portion by portion.
    fn empty(&mut self, source: u32, id: relation::TableId) -> Result<()> {
        loop {
            let snapshot = self.store.working();
            let Some(stored) = self.network.relations.get(&id) else { return Ok(()) };
            if !self.network.tables.get(&id).is_some_and(|table| table.load.is_followed()) {
                return Ok(());
            }
            let mut batch = SourceBatch::default();
            let changes = batch.table(id);
            let limit = usize::try_from(TRUNCATED_ROWS_MAX).unwrap_or(usize::MAX);
            for entry in snapshot.scan(id, &[]) {
                let (_, value) = entry?;
                let (row, weight) = stored.row_of(&value)?;
                (0..weight).for_each(|_| changes.push(row, -1));
                if changes.weights.len() >= limit || changes.rows.byte_len() >= EMPTIED_BYTES_MAX {
                    break;
                }
            }
            if changes.weights.is_empty() {
                return Ok(());
            }
            let (effects, moves) = self.run(self.step + 1, vec![Input::Rows(source, batch)], &snapshot)?;
            self.commit_link(effects, moves, 0, false)?;
        }
    }

    /// Commits one step of the chain, with how far it is then.
    fn commit_link(
        &mut self,
        mut effects: crate::network::Effects,
        moves: Moves,
        pieces: u64,
        is_last: bool,
    ) -> Result<()> {
        let Some(chain) = &self.chain else { return Ok(()) };
        let pieces = chain.pieces + pieces;
        let mut writes = Writes::new();
        if is_last {
            writes.delete(self.facts, CHAIN);
        } else {
            let fact = [&chain.note.to_bytes()[..], &pieces.to_le_bytes()].concat();
            writes.put(self.facts, CHAIN, &fact);
        }
        effects.writes.append(writes);
        let visible = if is_last { Visible::Now } else { Visible::Later };
        let report = self.commit(self.step + 1, effects, moves, visible)?;
        if let Some(chain) = &mut self.chain {
            chain.pieces = pieces;
            chain.report.follow(report);
        }
        Ok(())
    }

    /// Drops the stages of chains that no crash can bring back: their last step is folded.
    pub(crate) fn drop_stages(&mut self) -> Result<()> {
        if self.finished_stages.is_empty() {
            return Ok(());
        }
        let folded = self.store.stats().folded_step;
        let free: Vec<_> = self.finished_stages.extract_if(.., |(_, step)| *step <= folded).collect();
        free.into_iter().try_for_each(|(stage, _)| Ok(self.store.drop_stage(stage)?))
    }
}

/// Bytes of rows that one step of an emptying deletes, about.
const EMPTIED_BYTES_MAX: usize = 8 << 20;

/// The changes of pieces as a build must take them: it cannot, for they are in no record of the log.
pub(crate) fn is_of_chain(record: &Record) -> bool {
    record.notes.iter().any(|(name, _)| name == "chain")
}

/// As [`changes_of`], of the batches among inputs.
pub(crate) fn changes_of_inputs(inputs: Vec<Input>) -> Vec<crate::network::Change> {
    let batches = inputs.into_iter().filter_map(|input| match input {
        Input::Rows(_, batch) => Some(batch),
        Input::Note(Note(Noted::Swept { table, rows, .. })) => Some(deletion_of(table, rows)),
        _ => None,
    });
    changes_of(batches.collect())
}
