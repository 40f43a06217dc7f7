//! The columns that are left out, as they come, go and move: nothing of the table's rows changes by that.
//!
//! The law: a row is read by the columns that the log had when it was written. Where the log tells names it says so itself.
//! Otherwise the order is what is known of the table, brought along by each ALTER that the log brings. What a server says of
//! a table may be of later than the place that is read: it is the order here only when the log has been read up to where it
//! ended after the question ([`Assembler::settle`]). Where neither helps, the next rows put the table in doubt.
//!
//! A table under a number that no ALTER explains is looked at ([`Assembler::look_at_number`]). Where the server then has another
//! order than is known, either the log will tell why, or nobody ever does. Rows that fit what is known are read by that; until the log
//! has been read up to where it ended after the question, its ALTERs must have led to the order that the server had
//! ([`Suspect`]). Otherwise there was one that it does not tell, and the table is loaded again.

use super::super::CaptureTable;
use super::super::decode::{Plan, SourceColumn, TableMap, aligned, keep_only};
use super::super::position::LogPoint;
use super::super::statement::{At, ColumnChange};
use super::{Asked, Assembler, Doubt, Notice, Standing, Step};
use crate::source::is_same_column;

/// What the order of a table's columns is worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Of whenever the server was asked.
    #[default]
    Asked,
    /// That of the log behind this place.
    Behind(LogPoint),
    /// That of the place up to which the log was read.
    Settled,
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

/// Another order of a table's columns than is known, which the server has told of some time to come.
#[derive(Debug)]
pub(super) struct Suspect {
    columns: Vec<SourceColumn>,
    /// No rows were read since: whether these fit what is known decides.
    is_fresh: bool,
    /// The log ended here after the question, once that was asked for.
    until: Option<LogPoint>,
}

/// Between two looks at the columns of a table whose number changes again and again.
const LOOK_US: i64 = 1_000_000;
/// Between two looks at any tables: a server that opens few at a time gives many of them new numbers all the time.
const LOOKS_US: i64 = 20_000;
/// No table has it.
const NO_NUMBER: u64 = u64::MAX;
const UNTOLD: &str = "a change of its columns of which the log has not told (one with sql_log_bin = 0 is not in it)";

impl Assembler {
    /// Whether there is a table of whose columns it is not known from which place of the log on they are these. Only where some
    /// are left out does it matter.
    pub(crate) fn is_unsettled(&self) -> bool {
        let is_open = |table: &super::Table| table.suspect.as_ref().is_some_and(|suspect| suspect.until.is_none());
        self.tables.iter().any(|table| is_open(table) || table.order == Order::Asked && table.has_left_out())
    }

    /// The log ends here now: what the server has said of columns before is so from here on at the latest.
    pub(crate) fn settle(&mut self, end: &LogPoint) {
        for table in self.tables.iter_mut().filter(|table| table.order == Order::Asked) {
            table.order = Order::Behind(end.clone());
        }
        for suspect in self.tables.iter_mut().filter_map(|table| table.suspect.as_mut()) {
            suspect.until.get_or_insert_with(|| end.clone());
        }
    }

    /// What was read has passed the place behind which the order of some tables is known: whoever has stored that may go on from there
    /// by the columns that are known.
    pub(super) fn note_settled(&mut self) {
        if self.is_passing {
            return;
        }
        for index in 0..self.tables.len() {
            let table = &self.tables[index];
            let is_over = matches!(&table.order, Order::Behind(end) if self.position.point >= *end);
            if is_over && table.has_left_out() && !self.is_passed(index) {
                self.tables[index].order = Order::Settled;
                self.notices.push(Notice::Learned { index });
            }
        }
    }

    /// Places that were told of mean nothing any more.
    pub(super) fn settle_nothing(&mut self) {
        for table in self.tables.iter_mut().filter(|table| matches!(table.order, Order::Behind(_))) {
            table.order = Order::Asked;
        }
    }

    /// Whether a table's columns are known to be those of the place up to which the log was read.
    pub(crate) fn is_placed(&self, index: usize) -> bool {
        self.tables[index].order == Order::Settled
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
        let table = &mut self.tables[index];
        table.order = Order::Asked;
        table.is_read_by_order = false;
        table.map_id = None;
        table.suspect = None;
        table.is_unlooked = false;
    }

    /// A map of a table under another number than before: the server has opened it anew. Where the log does not name columns, that is
    /// all that it tells of an ALTER by a session with `sql_log_bin = 0`. Answers the step to take first; or that the map may not be
    /// kept, since it was looked a moment ago.
    pub(super) fn look_at_number(&mut self, index: usize, id: u64) -> Look {
        let now_us = self.read_time_us;
        let table = &mut self.tables[index];
        let is_lost = table.order == Order::Lost;
        if table.map_id.is_none_or(|known| known == id) && !is_lost {
            table.map_id = Some(id);
            return Look::Needless;
        }
        let is_recent = |looked_us: i64, pause_us: i64| (0..pause_us).contains(&(now_us - looked_us));
        if !is_lost && (is_recent(table.looked_us, LOOK_US) || is_recent(self.looked_us, LOOKS_US)) {
            table.is_unlooked = true;
            return Look::Later;
        }
        (table.map_id, table.looked_us) = (Some(id), now_us);
        self.looked_us = now_us;
        match self.doubt(index, Doubt::Number, UNTOLD.to_owned()) {
            Some(step) => Look::Now(step),
            None => Look::Needless,
        }
    }

    /// The columns of a table that was looked at because of its number, all that are stored being what they were.
    pub(super) fn looked(&mut self, index: usize, columns: &[SourceColumn]) {
        let columns = self.kept(index, columns);
        let table = &mut self.tables[index];
        if table.order == Order::Lost {
            return self.learn(index, &columns);
        }
        table.suspect = None;
        match has_order(&table.capture.columns, &columns) {
            true => table.is_unlooked = false,
            false => table.suspect = Some(Suspect { columns, is_fresh: true, until: None }),
        }
    }

    /// A table that was read without a look under another number, for a while by now: no further rows of it may ever come.
    pub(crate) fn unlooked(&self) -> Option<usize> {
        let is_due = |table: &super::Table| {
            let waited_us = self.read_time_us - table.looked_us;
            table.is_unlooked && table.standing == Standing::Followed && !(0..LOOK_US).contains(&waited_us)
        };
        (0..self.tables.len()).find(|&index| is_due(&self.tables[index]) && !self.is_passed(index))
    }

    /// Its columns are asked for between two events: [`Assembler::described`] is to be called.
    pub(crate) fn look(&mut self, index: usize) {
        self.tables[index].looked_us = self.read_time_us;
        let (doubt, reason) = (Doubt::Number, UNTOLD.to_owned());
        self.asked = Some(Asked { index, doubt, reason, is_of_event: false, is_of_statement: false });
    }

    /// It was looked at between two events: its rows so far were read by what is known.
    pub(super) fn looked_late(&mut self, index: usize) {
        let table = &mut self.tables[index];
        table.is_unlooked = false;
        table.suspect.iter_mut().for_each(|suspect| suspect.is_fresh = false);
    }

    /// The first rows come behind a look that has found another order than is known. Where they fit that one alone, the log did
    /// not tell of it: they are read by it. Rows that were read without a look before may have been written in it as well.
    pub(super) fn judge_suspect(&mut self, index: usize, map: &TableMap) {
        let table = &mut self.tables[index];
        let Some(suspect) = table.suspect.as_mut().filter(|suspect| suspect.is_fresh) else { return };
        suspect.is_fresh = false;
        let was_unlooked = std::mem::take(&mut table.is_unlooked);
        let CaptureTable { columns, rule, schema, .. } = &table.capture;
        let fits = |columns: &[SourceColumn]| Plan::new(map, &aligned(map, columns, rule, schema)).is_ok();
        if !fits(columns) && fits(&suspect.columns) && !was_unlooked {
            let columns = suspect.columns.clone();
            self.learn(index, &columns);
        }
    }

    /// Tables whose columns have not become what the server had told, though the log was read up to where it ended then: their
    /// rows may have been read by another order than they were written in.
    pub(super) fn reload_suspects(&mut self) {
        for index in 0..self.tables.len() {
            let table = &self.tables[index];
            let is_over = |until: &LogPoint| !self.is_passing && self.applied >= *until;
            let suspect = table.suspect.as_ref().filter(|suspect| suspect.until.as_ref().is_some_and(is_over));
            if let Some(columns) = suspect.map(|suspect| suspect.columns.clone()) {
                self.learn(index, &columns);
                self.reload(index, UNTOLD.to_owned());
            }
        }
    }

    /// Another log may be read from here on: what was to be seen in this one is looked at again.
    pub(super) fn forget_suspects(&mut self) {
        for table in self.tables.iter_mut().filter(|table| table.suspect.is_some()) {
            (table.suspect, table.map_id) = (None, Some(NO_NUMBER));
            table.is_unlooked = true;
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
            let stored = |column: &SourceColumn| column.left_out.is_none() && is_same_column(&column.name, name);
            table.capture.rule.leaves_out(name, Some(&table.capture.schema)).is_some() && !known.iter().any(stored)
                || known.iter().any(|column| column.left_out.is_some() && is_same_column(&column.name, name))
        };
        let is_versioned = known.iter().any(SourceColumn::is_of_period);
        if is_versioned || !changes.iter().flat_map(ColumnChange::names).all(is_left_out) {
            return false;
        }
        let is_settled = match &table.order {
            Order::Asked | Order::Lost => false,
            Order::Settled => true,
            Order::Behind(end) => LogPoint::new(self.file.clone(), self.offset) > *end,
        };
        if !is_settled && table.is_read_by_order {
            return false;
        }
        let columns = changes.iter().try_fold(known.clone(), changed);
        // The same table has other rows until its next map comes.
        match columns.filter(|_| is_settled) {
            Some(columns) => {
                let table = &mut self.tables[index];
                // The server has what it had told.
                table.suspect.take_if(|suspect| has_order(&columns, &suspect.columns));
                // It opens the table anew, as is known.
                table.map_id = None;
                table.order = Order::Settled;
                table.capture.columns = columns;
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

/// Whether columns stand in the same order.
fn has_order(some: &[SourceColumn], others: &[SourceColumn]) -> bool {
    let names =
        |columns: &[SourceColumn]| -> Vec<String> { columns.iter().map(|column| column.name.to_lowercase()).collect() };
    names(some) == names(others)
}

/// The columns after a change; none where it does not fit them.
fn changed(mut columns: Vec<SourceColumn>, change: &ColumnChange) -> Option<Vec<SourceColumn>> {
    let place =
        |columns: &[SourceColumn], name: &str| columns.iter().position(|column| is_same_column(&column.name, name));
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
        ColumnChange::Changed { name, to, .. } if !is_same_column(name, to) && place(&columns, to).is_some() => {
            return None;
        }
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
