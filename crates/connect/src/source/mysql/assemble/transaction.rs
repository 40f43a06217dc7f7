//! Where transactions begin and end, and what statements between them do to tables.

use std::mem;

use relation::{ChunkDone, TableChanges, TransactionMark};

use super::super::error::WireError;
use super::super::event::{self, Header};
use super::super::position::{Gtids, LogPoint};
use super::super::statement::{Statement, Xa, statement};
use super::{Assembler, Loading, OpenGtid, Passing, Standing, Step};

impl Assembler {
    pub(super) fn begin_mysql(&mut self, header: Header, head: event::GtidHead) {
        self.begin(header, false, head.commit_time_us);
        self.open.gtid = Some(head.number.map_or(OpenGtid::Anonymous, OpenGtid::MySql));
        // Where a log is read by file and offset, behind a place that was found by numbers: it may hold what was read.
        self.open.skipped |= head.number.is_some_and(|number| self.has_counted(number));
    }

    pub(super) fn begin_mariadb(&mut self, header: Header, event: &[u8], body: &[u8]) -> Result<Step, WireError> {
        let gtid = event::mariadb_gtid(body)?;
        self.begin(header, !gtid.standalone && !gtid.completed_xa, 0);
        self.open.is_xa = gtid.prepared_xa;
        self.open.gtid = Some(OpenGtid::MariaDb {
            domain: gtid.domain,
            server_id: event::server_id(event),
            sequence: gtid.sequence,
        });
        Ok(Step::Next)
    }

    /// `commit_time_us` is 0 where only the header tells a time.
    pub(super) fn begin(&mut self, header: Header, begun: bool, commit_time_us: i64) {
        // A transaction that never ended was cut off on the server.
        if self.open.active {
            self.rollback();
            self.end_transaction();
        }
        self.open.active = true;
        self.open.begun = begun;
        self.open.commit_time_us = commit_time_us;
        self.open.skipped = commit_time(header, commit_time_us) < self.since_us;
    }

    pub(super) fn query(&mut self, header: Header, query: event::Query<'_>) -> Result<Step, WireError> {
        match statement(&query, self.server) {
            Statement::Begin => {
                if self.open.active {
                    self.open.begun = true;
                } else {
                    self.begin(header, true, 0);
                }
                self.open.connection = query.connection;
                return Ok(Step::Next);
            }
            Statement::Commit => return Ok(self.commit(header)),
            Statement::Rollback => {
                self.rollback();
                return Ok(self.commit(header));
            }
            Statement::Xa(Xa::Start) => {
                self.open.begun = true;
                self.open.is_xa = true;
                return Ok(Step::Next);
            }
            Statement::Xa(Xa::End) => return Ok(Step::Next),
            Statement::Xa(Xa::Commit(xid)) => return Ok(self.xa_commit(header, &xid)),
            Statement::Xa(Xa::Rollback(xid)) => {
                self.rollback();
                return Ok(self.xa_rollback(header, &xid));
            }
            Statement::RollbackTo | Statement::Effects(_) if self.open.skipped => {}
            Statement::RollbackTo => {
                if let Some(step) = self.doubt_open("a transaction rolled back to a savepoint after it was logged") {
                    return Ok(step);
                }
            }
            Statement::Effects(effects) => {
                if self.asks_for_keys(&effects, query) {
                    return Ok(Step::Keys);
                }
                if self.asks_for_reach(&effects, query) {
                    return Ok(Step::Reach);
                }
                if let Some(step) = self.doubt_keys_before(&effects, query) {
                    return Ok(step);
                }
                if let Some(step) = self.apply(&effects, query) {
                    return Ok(step);
                }
            }
        }
        if self.open.begun { Ok(Step::Next) } else { Ok(self.commit(header)) }
    }

    /// The table is empty now; all that will ever be in it comes by the log, so a load that is under way is over.
    pub(super) fn truncate(&mut self, index: usize) {
        if self.tables[index].standing != Standing::Followed || self.is_passed(index) {
            return;
        }
        let table = &mut self.tables[index];
        let was_loading = !matches!(table.loading, Loading::Complete);
        table.passing = Passing::Nothing;
        table.loading = Loading::Complete;
        table.outdated = None;
        table.kept = TableChanges::default();
        let id = table.capture.id;
        *self.batch.table(id) = TableChanges { truncated: true, ..TableChanges::default() };
        if was_loading {
            self.batch.chunks.retain(|chunk| chunk.table != id);
            self.batch.chunks.push(ChunkDone {
                table: id,
                cursor: Vec::new(),
                complete: true,
                rows: relation::Rows::new(),
                unread: relation::Rows::new(),
                rows_estimate: 0,
            });
        }
        // It counts as a change, so that the batch is sent.
        self.open.changes += 1;
    }

    /// The open transaction is whole.
    pub(super) fn commit(&mut self, header: Header) -> Step {
        self.keep_bags();
        if self.open.changes > 0 {
            self.last_part = (self.open.parts > 0).then(|| self.open.parts.saturating_add(1));
            self.batch.transactions.push(TransactionMark {
                commit_time_us: commit_time(header, self.open.commit_time_us),
                read_time_us: self.read_time_us,
                changes: self.open.changes,
            });
        }
        self.count_gtid();
        self.note_below();
        if self.position.point.file != self.file {
            self.position.point.file.clone_from(&self.file);
        }
        if self.applied.file != self.file {
            self.applied.file.clone_from(&self.file);
        }
        self.position.point.offset = self.offset;
        self.applied.offset = self.offset;
        self.end_transaction();
        self.forget_keys();
        Step::Committed
    }

    pub(super) fn keep_bags(&mut self) {
        let marks = mem::take(&mut self.open.marks);
        for &(index, _) in &marks {
            let end = LogPoint::new(self.file.clone(), self.offset);
            let table = &mut self.tables[index];
            let Loading::Bag(bag) = &mut table.loading else { continue };
            bag.keep(&table.kept, 0, &end);
            table.kept = TableChanges::default();
        }
        self.open.marks = marks;
    }

    pub(super) fn count_gtid(&mut self) {
        match self.open.gtid {
            None => {}
            Some(OpenGtid::MySql(number)) => match &mut self.position.gtids {
                Gtids::MySql(set) => set.add(&self.origin, number),
                // Numbering was switched on while we read: file and offset lead on until the set is known.
                _ => {
                    if let Some(counted) = &mut self.counted {
                        counted.add(&self.origin, number);
                    }
                }
            },
            Some(OpenGtid::Anonymous) => self.count_anonymous(),
            Some(OpenGtid::MariaDb { domain, server_id, sequence }) => {
                if let Gtids::MariaDb(set) = &mut self.position.gtids {
                    set.set(domain, server_id, sequence);
                }
            }
        }
    }

    pub(super) fn end_transaction(&mut self) {
        self.open.number += 1;
        self.open.active = false;
        self.open.begun = false;
        self.open.skipped = false;
        self.open.commit_time_us = 0;
        self.open.changes = 0;
        self.open.rows = 0;
        self.open.bytes = 0;
        self.open.parts = 0;
        self.open.marks.clear();
        self.open.gtid = None;
        self.open.is_xa = false;
        self.open.connection = 0;
        self.open.passed.clear();
        self.open.changed.clear();
        self.open.is_void = false;
    }

    /// Takes back the rows of the open transaction; it stays open.
    pub(super) fn rollback(&mut self) {
        let marks = mem::take(&mut self.open.marks);
        for &(index, from) in &marks {
            let table = &mut self.tables[index];
            table.marked_in = u64::MAX;
            let changes = match table.loading {
                Loading::Bag(_) => &mut table.kept,
                _ => self.batch.table(table.capture.id),
            };
            changes.truncate(from);
        }
        self.open.changes = 0;
        self.open.rows = 0;
        self.open.bytes = 0;
        // Those that were taken are void: they are replaced by a first one or by whatever comes.
        self.open.parts = 0;
    }
}

/// A commit's time: the server's own in microseconds, else the header's seconds.
fn commit_time(header: Header, commit_time_us: i64) -> i64 {
    if commit_time_us == 0 { i64::from(header.timestamp) * 1_000_000 } else { commit_time_us }
}
