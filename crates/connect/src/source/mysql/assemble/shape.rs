//! The columns that are left out, as they come, go and move: nothing of the table's rows changes by that.
//!
//! The law: a row is read by the columns that the log had when it was written. Where the log tells names it says so itself.
//! Otherwise the order is what is known of the table, brought along by each ALTER that the log brings. What a server says of
//! a table may be of later than the place that is read: it is the order here only when the log has been read up to where it
//! ended after the question ([`Assembler::settle`]). Where neither helps, the next rows put the table in doubt.

use super::super::decode::{SourceColumn, TableMap, keep_only};
use super::super::position::LogPoint;
use super::super::statement::{At, ColumnChange};
use super::{Assembler, Doubt, Notice, Standing, Step};

/// What the order of a table's columns is worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Of whenever the server was asked.
    #[default]
    Asked,
    /// That of the log behind this place.
    Behind(LogPoint),
    /// An ALTER has made something else of it, and nobody knows what.
    Lost,
}

/// What a new number of a table asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Needless,
    Now(Step),
    Later,
}

/// Between two looks at the columns of a table whose number changes again and again.
const LOOK_US: i64 = 1_000_000;
const UNTOLD: &str = "a change of its columns that the log does not tell (sql_log_bin = 0)";

impl Assembler {
    /// Whether there is a table of whose columns it is not known from which place of the log on they are these. Only where some
    /// are left out does it matter.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.tables.iter().any(|table| table.order == Order::Asked && table.has_left_out())
    }

    /// The log ends here now: what the server has said of columns before is so from here on at the latest.
    pub(crate) fn settle(&mut self, end: &LogPoint) {
        for table in self.tables.iter_mut().filter(|table| table.order == Order::Asked) {
            table.order = Order::Behind(end.clone());
        }
    }

    /// Takes over what the server says of columns that are left out; the others are as they are known.
    pub(super) fn learn(&mut self, index: usize, columns: &[SourceColumn]) {
        let columns = self.kept(index, columns);
        let table = &mut self.tables[index];
        if table.capture.columns != columns {
            table.capture.columns = columns;
            self.notices.push(Notice::Learned { index });
            self.forget_maps(index);
        }
        self.tables[index].order = Order::Asked;
        self.tables[index].is_read_by_order = false;
        self.tables[index].map_id = None;
    }

    /// A map of a table under another number than before: the server has opened it anew. Where the log does not name columns, that is
    /// all that it tells of an ALTER by a session with `sql_log_bin = 0`. Answers the step to take first; or that the map may not be
    /// kept, since it was looked a moment ago.
    pub(super) fn look_at_number(&mut self, index: usize, id: u64) -> Look {
        let now_us = self.read_time_us;
        let table = &mut self.tables[index];
        if table.map_id.is_none_or(|known| known == id) {
            table.map_id = Some(id);
            return Look::Needless;
        }
        if (0..LOOK_US).contains(&(now_us - table.looked_us)) {
            return Look::Later;
        }
        (table.map_id, table.looked_us) = (Some(id), now_us);
        match self.doubt(index, Doubt::Columns, UNTOLD.to_owned()) {
            Some(step) => Look::Now(step),
            None => Look::Needless,
        }
    }

    /// The server's columns, those left out that a table does not have which keeps its columns.
    pub(super) fn kept(&self, index: usize, columns: &[SourceColumn]) -> Vec<SourceColumn> {
        let (mut columns, capture) = (columns.to_vec(), &self.tables[index].capture);
        if capture.rule.declared().is_some() {
            keep_only(&mut columns, &capture.schema);
        }
        columns
    }

    /// Single columns of a table became others. Returns whether all of them are left out, so that nothing is to be done.
    pub(super) fn reshape(&mut self, index: usize, changes: &[ColumnChange]) -> bool {
        let table = &self.tables[index];
        if table.standing != Standing::Followed {
            return true;
        }
        if self.is_passed(index) {
            // What is known may be of before, and it is the load's reader that will tell what they are: see
            // [`Assembler::load_described`].
            if table.has_left_out() {
                self.tables[index].order = Order::Lost;
            }
            return true;
        }
        let known = &table.capture.columns;
        let is_left_out = |name: &String| {
            let stored = |column: &SourceColumn| column.left_out.is_none() && same(&column.name, name);
            table.capture.rule.leaves_out(name, Some(&table.capture.schema)).is_some() && !known.iter().any(stored)
                || known.iter().any(|column| column.left_out.is_some() && same(&column.name, name))
        };
        let is_versioned = known.iter().any(SourceColumn::is_of_period);
        if is_versioned || !changes.iter().flat_map(ColumnChange::names).all(is_left_out) {
            return false;
        }
        let is_settled = match &table.order {
            Order::Asked | Order::Lost => false,
            Order::Behind(end) => LogPoint::new(self.file.clone(), self.offset) > *end,
        };
        if !is_settled && table.is_read_by_order {
            return false;
        }
        let columns = changes.iter().try_fold(known.clone(), changed);
        // The same table has other rows until its next map comes.
        match columns.filter(|_| is_settled) {
            Some(columns) => {
                self.tables[index].capture.columns = columns;
                self.notices.push(Notice::Learned { index });
            }
            None => self.tables[index].order = Order::Lost,
        }
        self.forget_maps(index);
        true
    }

    /// Why rows behind a map cannot be read by what is known of the table's order, if so.
    pub(super) fn lacks_order(&mut self, index: usize, map: &TableMap) -> Option<String> {
        let table = &mut self.tables[index];
        table.is_read_by_order |= map.names.is_none();
        let is_lost = table.order == Order::Lost && map.names.is_none();
        is_lost.then(|| {
            "columns that are left out have changed, and without names in the log nobody knows where the others are. \
             `SET GLOBAL binlog_row_metadata = FULL` has it tell them"
                .to_owned()
        })
    }

    pub(super) fn forget_maps(&mut self, index: usize) {
        for mapped in self.maps.values_mut() {
            if mapped.target.as_ref().is_some_and(|&(table, _)| table == index) {
                mapped.target = None;
                mapped.bytes.clear();
            }
        }
    }
}

/// Names of columns are the same whatever the case of their letters.
fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// The columns after a change; none where it does not fit them.
fn changed(mut columns: Vec<SourceColumn>, change: &ColumnChange) -> Option<Vec<SourceColumn>> {
    let place = |columns: &[SourceColumn], name: &str| columns.iter().position(|column| same(&column.name, name));
    let (column, from, at) = match change {
        ColumnChange::Dropped(name) => {
            columns.remove(place(&columns, name)?);
            return Some(columns);
        }
        ColumnChange::Added { name, .. } if place(&columns, name).is_some() => return None,
        ColumnChange::Added { name, at } => {
            let left_out = Some("left out".to_owned());
            (SourceColumn { name: name.clone(), left_out, ..SourceColumn::default() }, columns.len(), at)
        }
        ColumnChange::Changed { name, to, .. } if !same(name, to) && place(&columns, to).is_some() => return None,
        ColumnChange::Changed { name, to, at } => {
            let from = place(&columns, name)?;
            let left_out = columns.remove(from).left_out;
            (SourceColumn { name: to.clone(), left_out, ..SourceColumn::default() }, from, at)
        }
    };
    let to = match at {
        At::Unsaid => from,
        At::First => 0,
        At::After(name) => place(&columns, name)? + 1,
    };
    columns.insert(to, column);
    Some(columns)
}
