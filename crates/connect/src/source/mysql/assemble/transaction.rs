//! Where transactions begin and end, and what statements between them do to tables.

use std::mem;

use relation::{ChunkDone, TableChanges, TransactionMark};

use super::super::error::WireError;
use super::super::event::{self, Header};
use super::super::position::{Gtids, LogPoint};
use super::super::statement::{Statement, TableName, Xa, statement};
use super::{Assembler, Loading, OpenGtid, Step, Table};

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
        match statement(query.text) {
            Statement::Begin => {
                if self.open.active {
                    self.open.begun = true;
                } else {
                    self.begin(header, true, 0);
                }
                return Ok(Step::Next);
            }
            Statement::Commit => return Ok(self.commit(header)),
            Statement::Rollback | Statement::Xa(Xa::Rollback) => {
                self.rollback();
                return Ok(self.commit(header));
            }
            Statement::Xa(Xa::Commit) => return Ok(self.commit(header)),
            Statement::Xa(Xa::Start) => {
                self.open.begun = true;
                return Ok(Step::Next);
            }
            Statement::Xa(Xa::End) => return Ok(Step::Next),
            _ if self.open.skipped => {}
            Statement::RollbackTo => self.park_open("a transaction rolled back to a savepoint after it was logged"),
            Statement::Truncate(names) => self.truncate(&self.captured(query, &names)),
            Statement::Drop(names) => {
                for index in self.captured(query, &names) {
                    self.park(index, "the table was dropped".to_owned());
                }
            }
            Statement::DropDatabase(name) => {
                let gone = |t: &Table| t.capture.database == name;
                let indexes: Vec<usize> = (0..self.tables.len()).filter(|&i| gone(&self.tables[i])).collect();
                for index in indexes {
                    self.park(index, "its database was dropped".to_owned());
                }
            }
            Statement::Alter(names) => {
                for index in self.captured(query, &names) {
                    self.tables[index].doubted = true;
                    self.tables[index].confirmed = false;
                }
            }
            Statement::Rows(names) => {
                for index in self.captured(query, &names) {
                    let reason = "its rows were changed by a statement that is logged as text \
                                  (binlog_format is not ROW for that session)";
                    self.park(index, reason.to_owned());
                }
            }
            Statement::Other => {}
        }
        if self.open.begun { Ok(Step::Next) } else { Ok(self.commit(header)) }
    }

    /// The captured tables among the names of a statement.
    pub(super) fn captured(&self, query: event::Query<'_>, names: &[TableName]) -> Vec<usize> {
        let default = String::from_utf8_lossy(query.database);
        let find = |(database, name): &TableName| {
            let database = database.clone().unwrap_or_else(|| default.clone().into_owned());
            self.by_name.get(&(database, name.clone())).copied()
        };
        names.iter().filter_map(find).collect()
    }

    /// The tables are empty now; all that will ever be in them comes by the log, so a load that is under way is over.
    pub(super) fn truncate(&mut self, indexes: &[usize]) {
        for &index in indexes {
            let table = &mut self.tables[index];
            if table.parked {
                continue;
            }
            let was_loading = !matches!(table.loading, Loading::Complete);
            table.loading = Loading::Complete;
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
                    rows_estimate: 0,
                });
            }
            // It counts as a change, so that the batch is sent.
            self.open.changes += 1;
        }
    }

    /// Prepared is not committed: rows of it cannot be sent, and whether they ever will we would have to remember.
    pub(super) fn xa_prepare(&mut self, header: Header, body: &[u8]) -> Step {
        let one_phase = body.first().is_some_and(|&b| b != 0);
        if !one_phase {
            self.park_open("an XA transaction has changed it, which is not followed yet");
        }
        self.commit(header)
    }

    /// Parks every table that the open transaction has changed.
    pub(super) fn park_open(&mut self, reason: &str) {
        let indexes: Vec<usize> = self.open.marks.iter().map(|&(index, _)| index).collect();
        for index in indexes {
            self.park(index, reason.to_owned());
        }
        self.open.marks.clear();
        self.open.changes = 0;
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
                _ => self.numbered.add(&self.origin, number),
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
            changes.rows.truncate(from);
            changes.weights.truncate(from);
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
