//! Table maps and rows: what a table id means, and its rows straight into the batch.

use relation::{Entry, TableChanges, Unread};

use super::super::CaptureTable;
use super::super::decode::{self, DecodeError, Plan, TableMap};
use super::super::error::WireError;
use super::super::event::{self, damaged};
use super::cascade::Watched;
use super::shape::Look;
use super::{
    Assembler, BAG_BYTES_MAX, Doubt, Loading, MAPS_MAX, Mapped, Passing, Standing, Step, folded, unknown_event,
};

/// What foreign keys do that the log does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    Follow,
    /// The tables that they reach are in doubt already.
    Followed,
}

impl Assembler {
    #[inline]
    pub(super) fn table_map(&mut self, body: &[u8]) -> Result<Step, WireError> {
        let id = decode::table_id(body).ok_or_else(|| damaged("a table map"))?;
        if self.open.is_xa {
            self.note_changed(body)?;
        }
        match self.maps.get(&id) {
            Some(known) if known.bytes == body => Ok(Step::Next),
            _ => self.new_table_map(id, body),
        }
    }

    pub(super) fn new_table_map(&mut self, id: u64, body: &[u8]) -> Result<Step, WireError> {
        let (database, name) = event::mapped_name(body).ok_or_else(|| damaged("a table map"))?;
        let place = folded(database, name, self.has_exact_names);
        let captured = self.by_name.get(&place).copied();
        let mut mapped = Mapped { bytes: body.to_vec(), target: None, watched: None };
        if let Some(index) = captured {
            if self.tables[index].standing != Standing::Followed || self.is_passed(index) {
                // Looked at again each time, for it will be followed some day. Its columns may be those of before.
                mapped.bytes.clear();
                if self.open.is_xa {
                    self.note_passed(index);
                }
            } else {
                self.tables[index].passing = Passing::Nothing;
                let map = TableMap::parse(body).map_err(|e| e.to_string());
                let mut may_keep = true;
                if map.as_ref().is_ok_and(|map| map.names.is_none()) {
                    match self.look_at_number(index, id) {
                        Look::Needless => {}
                        Look::Now(step) => return Ok(step),
                        Look::Later => may_keep = false,
                    }
                }
                if let Ok(map) = &map {
                    self.judge_suspect(index, map);
                }
                let plan = map.and_then(|map| {
                    if let Some(reason) = self.lacks_order(index, &map) {
                        return Err(reason);
                    }
                    let CaptureTable { columns, rule, schema, .. } = &self.tables[index].capture;
                    let plan = Plan::new(&map, &decode::aligned(&map, columns, rule, schema));
                    let mapped = match rule.declared() {
                        None => plan,
                        Some(_) => plan.and_then(|plan| plan.mapped(schema)),
                    };
                    mapped.map_err(|e| format!("{e}. {}", e.reason))
                });
                if !may_keep {
                    mapped.bytes.clear();
                }
                match plan {
                    Ok(plan) => mapped.target = Some((index, plan)),
                    Err(reason) => {
                        if let Some(step) = self.misfit(index, reason) {
                            return Ok(step);
                        }
                        mapped.bytes.clear();
                    }
                }
            }
        }
        let parent = self.cascades.as_ref().and_then(|cascades| cascades.parents.get(&place));
        let read = mapped.target.as_ref().map(|&(index, _)| &self.tables[index].capture);
        mapped.watched = parent.map(|parent| Box::new(Watched::new(parent, body, read)));
        if self.maps.len() >= MAPS_MAX {
            self.maps.clear();
        }
        self.maps.insert(id, mapped);
        Ok(Step::Next)
    }

    #[inline]
    pub(super) fn rows(&mut self, kind: u8, body: &[u8]) -> Result<Step, WireError> {
        self.rows_of(kind, body, Keys::Follow)
    }

    #[inline]
    fn rows_of(&mut self, kind: u8, body: &[u8], keys: Keys) -> Result<Step, WireError> {
        let id = decode::table_id(body).ok_or_else(|| damaged("a rows event"))?;
        let Some(mapped) = self.maps.get(&id) else {
            return Err(damaged("rows of a table that no table map has introduced"));
        };
        if keys == Keys::Follow
            && let Some(watched) = &mapped.watched
        {
            let reached = watched.reached(kind, body);
            if !reached.is_empty() {
                let step = self.doubt_reached(&reached);
                return step.map_or_else(|| self.rows_of(kind, body, Keys::Followed), Ok);
            }
        }
        let Some((index, plan)) = &mapped.target else { return Ok(Step::Next) };
        let index = *index;
        let table = &mut self.tables[index];
        if self.open.is_xa && !matches!(table.loading, Loading::Complete) {
            // Its window would take these keys for what the log has brought.
            let reached = mapped.watched.as_ref().map_or_else(Vec::new, |watched| watched.reached_unread(kind, body));
            self.note_passed(index);
            return Ok(self.doubt_reached(&reached).unwrap_or(Step::Next));
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
        if decoded.is_ok() && changes.has_unread(from) {
            let here = format!("{}:{}", self.file, self.offset);
            place_unread(changes, from, &here, self.read_time_us);
        }
        if keys == Keys::Follow
            && let Some(watched) = &mapped.watched
        {
            let is_read = decoded.is_ok() && !changes.has_unread(from);
            let reached = watched.reached_by_read(kind, body, plan, is_read.then_some(&*changes), from);
            if !reached.is_empty() {
                changes.truncate(from);
                let step = self.doubt_reached(&reached);
                return step.map_or_else(|| self.rows_of(kind, body, Keys::Followed), Ok);
            }
        }
        match decoded {
            Ok(decoded) => {
                table.misfits = 0;
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
                if is_kept {
                    if let Some(step) = self.bound_bags(index) {
                        return Ok(step);
                    }
                } else {
                    self.open.rows += rows;
                    self.open.bytes += bytes;
                }
            }
            Err(error) => {
                let reason = format!("{error}. {}", error.hint());
                let step = match error {
                    // Others go on to write whole rows, and whoever does not may do so for long.
                    DecodeError::MissingColumns { .. } => self.outdate(index, &self.named_writer(&reason)),
                    _ => self.misfit(index, reason),
                };
                if let Some(step) = step {
                    return Ok(step);
                }
            }
        }
        Ok(if self.must_pause() { Step::Outgrown } else { Step::Next })
    }

    /// A reason with the connection that has written the open transaction, where the log tells.
    fn named_writer(&self, reason: &str) -> String {
        match self.open.connection {
            0 => reason.to_owned(),
            connection => format!("{reason} Connection {connection} of the server has written it."),
        }
    }

    /// A table without a key that is being loaded is loaded again when more is kept back than may be.
    fn bound_bags(&mut self, index: usize) -> Option<Step> {
        let kept = self.tables.iter().map(|table| match &table.loading {
            Loading::Bag(bag) => bag.bytes() + table.kept.rows.byte_len(),
            Loading::Complete | Loading::Keyed(_) => 0,
        });
        if kept.sum::<usize>() <= BAG_BYTES_MAX {
            return None;
        }
        let reason = "it has no primary key and changed too much while it was being loaded";
        self.doubt(index, Doubt::Content, reason.to_owned())
    }

    pub(super) fn compressed_rows(&mut self, kind: u8, body: &[u8]) -> Result<Step, WireError> {
        match decode::inflate_mariadb(kind, body).map_err(|e| damaged(&e.to_string()))? {
            Some((kind, body)) => self.rows(kind, &body),
            None => Err(unknown_event(kind, &self.here())),
        }
    }
}

/// Says where rows stand in the log that could not be read, and when they were read.
#[cold]
fn place_unread(changes: &mut TableChanges, from: usize, here: &str, at_us: i64) {
    let mut placed = TableChanges::default();
    for entry in changes.entries_from(from) {
        match entry {
            Entry::Unread(bytes, weight) if weight > 0 => {
                let unread = Unread::read(bytes).unwrap_or_default();
                placed.push_unread(&Unread { position: here.to_owned(), at_us, ..unread }, weight);
            }
            entry => placed.push_entry(entry),
        }
    }
    changes.truncate(from);
    placed.entries().for_each(|entry| changes.push_entry(entry));
}
