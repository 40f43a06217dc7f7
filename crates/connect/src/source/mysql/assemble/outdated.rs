//! Tables that come into doubt while they are being loaded, again and again.
//!
//! To begin such a load anew each time would mean that it never gets far. It goes on to its end, so that what is there is as new
//! as its last reading, but it is not called complete: then the table is loaded once more. What was noted survives a restart by the load's cursor: an empty one
//! says that there is nothing to go on from. It goes out with the position that is behind the doubt.

use relation::{ChunkDone, Rows};

use super::super::Load;
use super::{Assembler, Doubt, Loading, Passing, Standing, Step};

/// Of a table without a key.
pub(super) const READING_BROKEN_OFF: &str = "it has no primary key, and its reading was broken off";
const BROKEN_OFF: &str = "it has come into doubt while it was being loaded, and its load was broken off";

impl Assembler {
    /// A table is in doubt, for a reason that may come again with the next change.
    pub(super) fn outdate(&mut self, index: usize, reason: &str) -> Option<Step> {
        let table = &self.tables[index];
        let is_under_way = table.is_loading() && table.passing != Passing::Everything && !self.is_passed(index);
        // A load without a key is exact or nothing, and no chunk goes out among the parts of a transaction.
        if !is_under_way || !matches!(table.loading, Loading::Keyed(_)) || self.is_among_parts() {
            return self.doubt(index, Doubt::Content, reason.to_owned());
        }
        let table = &mut self.tables[index];
        if table.outdated.is_none() {
            table.outdated = Some(reason.to_owned());
            self.batch.chunks.push(ChunkDone {
                table: table.capture.id,
                cursor: Vec::new(),
                complete: false,
                rows: Rows::new(),
                unread: Rows::new(),
                rows_estimate: 0,
            });
        }
        None
    }

    /// Tables that were read to their end, but were in doubt meanwhile, are loaded once more.
    pub(super) fn reload_outdated(&mut self) {
        for index in 0..self.tables.len() {
            let table = &mut self.tables[index];
            if !matches!(table.loading, Loading::Complete) || table.standing != Standing::Followed {
                continue;
            }
            if let Some(reason) = table.outdated.take() {
                self.reload(index, reason);
            }
        }
    }

    /// Loads that were under way and have nothing to go on from begin anew.
    pub(super) fn reload_broken_off(&mut self) {
        for index in 0..self.tables.len() {
            let load = &self.tables[index].capture.load;
            if matches!(load, Load::Pending { cursor: Some(cursor) } if cursor.is_empty()) {
                let is_bag = self.tables[index].capture.schema.key.is_empty();
                self.reload(index, if is_bag { READING_BROKEN_OFF } else { BROKEN_OFF }.to_owned());
            }
        }
    }
}
