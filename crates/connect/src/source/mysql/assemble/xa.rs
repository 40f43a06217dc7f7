//! Transactions across servers: prepared first, with their rows, and committed or rolled back later, by name.
//!
//! The law: what was prepared is sent when its commit comes, and until then the rows are held here, up to a bound. Where they
//! are not held (too many, or prepared before we were started), or a table of them is being loaded, the commit puts the tables
//! in doubt, and they are loaded again; of a transaction that nobody here knows, all tables.
//!
//! The position moves past a prepared transaction: to keep it behind would bring every later transaction twice after a restart.
//! It names what is prepared instead, with the tables that were changed ([`PreparedNote`]), whether or not anybody follows them
//! then: after a restart the commit puts those in doubt that are followed by then, and no others.

use relation::TableChanges;

use super::super::error::WireError;
use super::super::event::{self, Header, damaged};
use super::super::position::PreparedNote;
use super::super::statement::Xid;
use super::{Assembler, Doubt, Loading, Standing, Step};

/// Rows held of prepared transactions, all together.
const PREPARED_BYTES_MAX: usize = 64 << 20;
/// What a position says of prepared transactions, about; of what has no room there all tables are in doubt after a restart.
const NOTED_BYTES_MAX: usize = 16 << 10;
/// Prepared transactions that are remembered. A server that has more of them has forgotten to end them.
const PREPARED_MAX: usize = 10_000;

const REASON: &str = "a prepared XA transaction was committed whose rows are not at hand";

/// A transaction that was prepared.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Per table.
    held: Vec<(usize, TableChanges)>,
    bytes: usize,
    changes: u32,
    /// Tables that it has changed and whose rows are not held.
    lost: Vec<usize>,
    /// All tables that it has changed, by database and name.
    tables: Vec<(String, String)>,
    /// Of before a restart: no rows of it are held.
    is_recalled: bool,
}

impl Assembler {
    /// The rows of a table in the open transaction are passed over: its commit, which may come later, puts the table in doubt.
    pub(super) fn note_passed(&mut self, index: usize) {
        if !self.open.passed.contains(&index) {
            self.open.passed.push(index);
        }
    }

    /// The open transaction changes a table, which a table map names.
    pub(super) fn note_changed(&mut self, map: &[u8]) -> Result<(), WireError> {
        let table = event::mapped_name(map).ok_or_else(|| damaged("a table map"))?;
        if !self.open.changed.contains(&table) {
            self.open.changed.push(table);
        }
        Ok(())
    }

    /// What the position says was prepared before.
    pub(super) fn recall_prepared(&mut self) {
        for PreparedNote { xid, tables } in self.position.prepared.clone() {
            self.prepared.insert(xid, Prepared { tables, is_recalled: true, ..Prepared::default() });
        }
    }

    /// The position says what is prepared now.
    fn note_prepared(&mut self) {
        let mut room = NOTED_BYTES_MAX;
        self.position.prepared.clear();
        for (xid, prepared) in &self.prepared {
            let names: usize = prepared.tables.iter().map(|(database, name)| database.len() + name.len()).sum();
            let Some(rest) = room.checked_sub(2 * (names + xid.transaction.len() + xid.branch.len()) + 16) else {
                break;
            };
            room = rest;
            self.position.prepared.push(PreparedNote { xid: xid.clone(), tables: prepared.tables.clone() });
        }
    }

    pub(super) fn xa_prepare(&mut self, header: Header, body: &[u8]) -> Result<Step, WireError> {
        let (one_phase, xid) = event::xa_prepare(body)?;
        if self.open.skipped {
            return Ok(self.commit(header));
        }
        if one_phase {
            let lost = self.open.passed.clone();
            return Ok(self.doubt_lost(&lost).unwrap_or_else(|| self.commit(header)));
        }
        let prepared = self.prepare();
        if self.prepared.len() >= PREPARED_MAX {
            self.prepared.pop_first();
        }
        self.prepared.insert(xid, prepared);
        self.note_prepared();
        Ok(self.commit(header))
    }

    /// Takes the open transaction's rows out of the batch.
    fn prepare(&mut self) -> Prepared {
        let mut out = Prepared {
            changes: self.open.changes,
            lost: std::mem::take(&mut self.open.passed),
            tables: std::mem::take(&mut self.open.changed),
            ..Prepared::default()
        };
        let marks = std::mem::take(&mut self.open.marks);
        let others: usize = self.prepared.values().map(|prepared| prepared.bytes).sum();
        let fits = self.open.parts == 0 && others.saturating_add(self.open.bytes) <= PREPARED_BYTES_MAX;
        for &(index, from) in &marks {
            let table = &mut self.tables[index];
            table.marked_in = u64::MAX;
            if table.standing != Standing::Followed {
                continue;
            }
            let changes = self.batch.table(table.capture.id);
            if fits {
                let mut held = TableChanges::default();
                changes.entries_from(from).for_each(|entry| held.push_entry(entry));
                out.bytes += held.rows.byte_len();
                out.held.push((index, held));
            } else {
                out.lost.push(index);
            }
            changes.truncate(from);
        }
        self.open.changes = 0;
        self.open.rows = 0;
        self.open.bytes = 0;
        self.open.parts = 0;
        out
    }

    /// A prepared transaction is committed: its rows are sent now.
    pub(super) fn xa_commit(&mut self, header: Header, xid: &Xid) -> Step {
        if self.open.skipped {
            self.prepared.remove(xid);
            self.note_prepared();
            return self.commit(header);
        }
        let lost = match self.prepared.get(xid) {
            None => (0..self.tables.len()).collect(),
            Some(prepared) if prepared.is_recalled => prepared
                .tables
                .iter()
                .filter_map(|(database, name)| self.named(database.clone(), name.clone()))
                .collect(),
            Some(prepared) => {
                let is_loading = |index: usize| !matches!(self.tables[index].loading, Loading::Complete);
                let loading = prepared.held.iter().map(|&(index, _)| index).filter(|&index| is_loading(index));
                prepared.lost.iter().copied().chain(loading).collect::<Vec<_>>()
            }
        };
        if let Some(step) = self.doubt_lost(&lost) {
            return step;
        }
        if let Some(prepared) = self.prepared.remove(xid) {
            self.note_prepared();
            for (index, held) in prepared.held {
                if self.tables[index].standing != Standing::Followed || self.is_passed(index) {
                    continue;
                }
                let changes = self.batch.table(self.tables[index].capture.id);
                held.entries().for_each(|entry| changes.push_entry(entry));
                self.open.changes = prepared.changes;
            }
        }
        self.commit(header)
    }

    /// What was prepared did not happen.
    pub(super) fn xa_rollback(&mut self, header: Header, xid: &Xid) -> Step {
        self.prepared.remove(xid);
        self.note_prepared();
        self.commit(header)
    }

    fn doubt_lost(&mut self, lost: &[usize]) -> Option<Step> {
        lost.iter().find_map(|&index| self.doubt(index, Doubt::Content, REASON.to_owned()))
    }
}
