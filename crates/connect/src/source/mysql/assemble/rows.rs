//! Table maps and rows: what a table id means, and its rows straight into the batch. A table in doubt is parked here.

use std::mem;

use relation::{Position, TableChanges};

use crate::source::RejectedRow;

use super::super::decode::{self, Plan, SourceColumn, TableMap};
use super::super::error::WireError;
use super::super::event::{self, damaged};
use super::{Assembler, BAG_BYTES_MAX, Loading, MAPS_MAX, Mapped, Notice, Step, shown, unknown_event};

impl Assembler {
    #[inline]
    pub(super) fn table_map(&mut self, body: &[u8]) -> Result<Step, WireError> {
        let id = decode::table_id(body).ok_or_else(|| damaged("a table map"))?;
        if let Some(known) = self.maps.get(&id)
            && known.bytes == body
            && known.target.as_ref().is_none_or(|&(table, _)| !self.tables[table].doubted)
        {
            return Ok(Step::Next);
        }
        self.new_table_map(id, body)
    }

    pub(super) fn new_table_map(&mut self, id: u64, body: &[u8]) -> Result<Step, WireError> {
        let name = event::mapped_name(body).ok_or_else(|| damaged("a table map"))?;
        let captured = self.by_name.get(&name).copied().filter(|&i| !self.tables[i].parked);
        let mut target = None;
        if let Some(index) = captured {
            if self.tables[index].doubted {
                return Ok(Step::Describe(index));
            }
            let plan = TableMap::parse(body).map_err(|e| e.to_string()).and_then(|map| {
                Plan::new(&map, &self.tables[index].capture.columns).map_err(|e| format!("{e}. {}", e.reason))
            });
            match plan {
                Ok(plan) => target = Some((index, plan)),
                Err(_) if !self.tables[index].confirmed => return Ok(Step::Describe(index)),
                Err(reason) => self.park(index, reason),
            }
        }
        if self.maps.len() >= MAPS_MAX {
            self.maps.clear();
        }
        self.maps.insert(id, Mapped { bytes: body.to_vec(), target });
        Ok(Step::Next)
    }

    /// The answer to [`Step::Describe`]: the table's columns now, or none if it does not exist (any more).
    pub(crate) fn described(&mut self, index: usize, columns: Option<&[SourceColumn]>) {
        let table = &mut self.tables[index];
        table.doubted = false;
        table.confirmed = true;
        let differs = columns.is_some_and(|columns| columns != table.capture.columns);
        if differs {
            self.park(index, "its columns were altered".to_owned());
        }
    }

    #[inline]
    pub(super) fn rows(&mut self, kind: u8, body: &[u8]) -> Result<Step, WireError> {
        let id = decode::table_id(body).ok_or_else(|| damaged("a rows event"))?;
        let Some(mapped) = self.maps.get(&id) else {
            return Err(damaged("rows of a table that no table map has introduced"));
        };
        let Some((index, plan)) = &mapped.target else { return Ok(Step::Next) };
        let index = *index;
        let table = &mut self.tables[index];
        if table.parked {
            return Ok(Step::Next);
        }
        let changes = match table.loading {
            Loading::Bag(_) => &mut table.kept,
            _ => self.batch.table(table.capture.id),
        };
        let (from, bytes) = (changes.rows.len(), changes.rows.byte_len());
        if table.marked_in != self.open.number {
            table.marked_in = self.open.number;
            self.open.active = true;
            self.open.marks.push((index, from));
        }
        let decoded = plan.decode_rows(kind, body, changes);
        match decoded {
            Ok(decoded) => {
                // A count to be shown: of more than 4 billion it says as much as it can.
                self.open.changes = self.open.changes.saturating_add(decoded.changes);
                let (rows, bytes) = (changes.rows.len() - from, changes.rows.byte_len() - bytes);
                let is_kept = match &mut table.loading {
                    Loading::Complete => false,
                    Loading::Keyed(window) => {
                        window.touch(changes, from);
                        false
                    }
                    Loading::Bag(_) => true,
                };
                if !decoded.rejected.is_empty() {
                    self.reject(index, decoded.rejected);
                }
                if is_kept {
                    self.bound_bags(index);
                } else {
                    self.open.rows += rows;
                    self.open.bytes += bytes;
                }
            }
            Err(error) => {
                let reason = format!("{error}. {}", error.hint());
                self.park(index, reason);
            }
        }
        Ok(if self.must_pause() { Step::Outgrown } else { Step::Next })
    }

    /// Parks a table without a key that is being loaded when more is kept back than may be.
    fn bound_bags(&mut self, index: usize) {
        let kept = self.tables.iter().map(|table| match &table.loading {
            Loading::Bag(bag) => bag.bytes() + table.kept.rows.byte_len(),
            Loading::Complete | Loading::Keyed(_) => 0,
        });
        if kept.sum::<usize>() > BAG_BYTES_MAX {
            let reason = "it has no primary key and changed too much while it was being loaded";
            self.park(index, reason.to_owned());
        }
    }

    pub(super) fn compressed_rows(&mut self, kind: u8, body: &[u8]) -> Result<Step, WireError> {
        match decode::inflate_mariadb(kind, body).map_err(|e| damaged(&e.to_string()))? {
            Some((kind, body)) => self.rows(kind, &body),
            None => Err(unknown_event(kind, &self.here())),
        }
    }

    pub(super) fn reject(&mut self, index: usize, rejected: Vec<decode::Rejected>) {
        let table = self.tables[index].capture.id;
        let position = Position(self.here());
        self.notices.extend(rejected.into_iter().map(|r| {
            let reason = format!("Column \"{}\": {}", r.column, r.reason);
            Notice::Rejected(RejectedRow { table, row: shown(&r.raw), reason, position: position.clone() })
        }));
    }

    /// Sends no more of a table, beginning with the open transaction.
    pub(super) fn park(&mut self, index: usize, reason: String) {
        self.truncate_open(index);
        let table = &mut self.tables[index];
        if mem::replace(&mut table.parked, true) {
            return;
        }
        table.loading = Loading::Complete;
        table.kept = TableChanges::default();
        for mapped in self.maps.values_mut() {
            if mapped.target.as_ref().is_some_and(|&(table, _)| table == index) {
                mapped.target = None;
            }
        }
        self.notices.push(Notice::Parked { table: table.capture.id, reason });
    }

    /// A load that cannot go on parks its table.
    pub(crate) fn park_load(&mut self, index: usize, reason: String) {
        self.park(index, reason);
    }

    /// Takes back the open transaction's rows of a table.
    pub(super) fn truncate_open(&mut self, index: usize) {
        let Some(&(_, from)) = self.open.marks.iter().find(|(table, _)| *table == index) else {
            return;
        };
        let table = &mut self.tables[index];
        if matches!(table.loading, Loading::Bag(_)) {
            table.kept.rows.truncate(from);
            table.kept.weights.truncate(from);
            return;
        }
        let changes = self.batch.table(table.capture.id);
        let (rows, bytes) = (changes.rows.len(), changes.rows.byte_len());
        changes.rows.truncate(from);
        changes.weights.truncate(from);
        self.open.rows -= rows - changes.rows.len();
        self.open.bytes -= bytes - changes.rows.byte_len();
    }
}
