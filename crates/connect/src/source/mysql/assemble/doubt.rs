//! Tables in doubt: what puts them there, and what becomes of them.
//!
//! A doubt is resolved before the event that raised it is taken. The columns are read again; where they are others, the table
//! leaves in this shape; where there are none, it was dropped; otherwise it is loaded again, from where the log ends then. A
//! table whose load has not begun, or was begun behind the event, cannot come into doubt by it: the load shows its effect.

use std::mem;

use relation::TableChanges;

use super::super::CaptureTable;
use super::super::decode::{SnapshotPlan, SourceColumn, keep_only};
use super::super::event::{self, Header};
use super::super::position::{LogPoint, LogPosition};
use super::super::reach::Reach;
use super::super::statement::{Effect, TableName};
use super::cascade::has_any;
use super::outdated::READING_BROKEN_OFF;
use super::{Asked, Assembler, Doubt, Notice, Passing, Standing, Step};

/// Characters of a statement that are shown.
const SHOWN_CHARS_MAX: usize = 400;
const LOST: &str = "the connection was lost before the first rows of its load had come";
/// For how long it is known what is behind the objects of databases, unless the log tells of one that comes, goes or changes.
const REACH_US: i64 = 10_000_000;
/// Words of statements that make others of them.
const OBJECT_WORDS: [&[u8]; 3] = [b"create", b"alter", b"drop"];
const ANEW: &str = "all tables are loaded again from now, as was asked for";

impl Assembler {
    /// What a statement does, one effect after the other; the step to take before it is given again, if there is one.
    pub(super) fn apply(&mut self, effects: &[Effect], query: event::Query<'_>) -> Option<Step> {
        let changes_tables = |effect: &Effect| !matches!(effect, Effect::Written(_));
        let (effect, step) = effects.iter().find_map(|effect| Some((effect, self.apply_one(effect, query)?)))?;
        if let Some(asked) = &mut self.asked {
            asked.is_of_statement = changes_tables(effect);
        }
        Some(step)
    }

    fn apply_one(&mut self, effect: &Effect, query: event::Query<'_>) -> Option<Step> {
        let statement = || shown(query.text);
        match effect {
            Effect::Emptied(name) => {
                self.captured(query, name).into_iter().for_each(|index| self.truncate(index));
                None
            }
            Effect::Dropped(name) => {
                let index = self.captured(query, name)?;
                self.doubt(index, Doubt::Identity, statement())
            }
            Effect::DroppedDatabase(name) => {
                let of = |table: &super::Table| self.is_same_name(&table.capture.database, name);
                let indexes: Vec<usize> = (0..self.tables.len()).filter(|&i| of(&self.tables[i])).collect();
                indexes.into_iter().find_map(|index| self.doubt(index, Doubt::Identity, statement()))
            }
            Effect::Renamed { from, to } => [from, to].into_iter().find_map(|name| {
                let index = self.captured(query, name)?;
                self.doubt(index, Doubt::Identity, statement())
            }),
            Effect::Created { table, if_absent } => {
                let index = self.captured(query, table)?;
                // That it was there, nothing has happened to it.
                let is_untouched = *if_absent && self.tables[index].standing != Standing::Gone;
                if is_untouched { None } else { self.doubt(index, Doubt::Identity, statement()) }
            }
            Effect::Keys(_) => None,
            Effect::Columns(name) => {
                let index = self.captured(query, name)?;
                self.doubt(index, Doubt::Columns, statement())
            }
            Effect::Altered(name) => {
                let index = self.captured(query, name)?;
                self.doubt(index, Doubt::Content, statement())
            }
            Effect::Reshaped(name, changes) => {
                let index = self.captured(query, name)?;
                if self.reshape(index, changes) { None } else { self.doubt(index, Doubt::Content, statement()) }
            }
            Effect::Written(databases) => {
                let reason = "its rows, or those of tables beside it, were changed by a statement that is logged as text \
                              (binlog_format is not ROW for that session)";
                self.doubt_databases(query, databases, reason)
            }
            Effect::Unread => {
                let text = without_values(&statement());
                let step = self.doubt_databases(query, &[], &format!("a statement cannot be understood: {text}"));
                if step.is_none() {
                    tracing::warn!(statement = %text, "a statement of the log cannot be understood");
                }
                step
            }
        }
    }

    fn is_same_name(&self, one: &str, other: &str) -> bool {
        if self.has_exact_names { one == other } else { one.to_lowercase() == other.to_lowercase() }
    }

    /// The captured table of a name in a statement.
    fn captured(&self, query: event::Query<'_>, name: &TableName) -> Option<usize> {
        let default = || String::from_utf8_lossy(query.database).into_owned();
        self.named(name.database.clone().unwrap_or_else(default), name.name.clone())
    }

    /// Whether a statement may reach tables beyond the databases that its event names, so that what is behind their objects is to be
    /// asked for: not again for each of many statements, nor where no table can come into doubt. MySQL says all of them.
    pub(super) fn asks_for_reach(&mut self, effects: &[Effect], query: event::Query<'_>) -> bool {
        let is_text = effects.iter().any(|effect| matches!(effect, Effect::Written(_) | Effect::Unread));
        if effects.is_empty() && has_any(query.text, &OBJECT_WORDS) {
            self.reach_asked_us = None;
        }
        // Without a server nobody can be asked.
        if !is_text || !self.server.mariadb || self.cascades.is_none() {
            return false;
        }
        let is_concerned = |index: usize| self.tables[index].standing == Standing::Followed && !self.is_passed(index);
        if !(0..self.tables.len()).any(is_concerned) {
            return false;
        }
        let here = LogPoint::new(self.file.clone(), self.offset);
        let is_known =
            self.reach_asked_us.is_some_and(|asked_us| (0..REACH_US).contains(&(self.read_time_us - asked_us)));
        let is_new = self.reach_asked_at.as_ref() != Some(&here) && !is_known;
        if is_new {
            (self.reach_asked_at, self.reach_asked_us) = (Some(here), Some(self.read_time_us));
        }
        is_new
    }

    /// What is behind the objects of databases, as the server tells it now.
    pub(crate) fn set_reach(&mut self, reach: Reach) {
        self.reach = reach;
    }

    /// Every table is in doubt that is in the databases of a statement, or in these; all are where none is known.
    fn doubt_databases(&mut self, query: event::Query<'_>, databases: &[String], reason: &str) -> Option<Step> {
        let default = String::from_utf8_lossy(query.database).into_owned();
        let is_known = !default.is_empty();
        let mut wanted = databases.to_vec();
        wanted.push(default);
        let mut any = false;
        match query.status().databases {
            event::Touched::Some(more) => wanted.extend(more),
            event::Touched::Any => any = true,
        }
        any |= !is_known;
        match self.reach.of(wanted.iter().map(String::as_str), |one, other| self.is_same_name(one, other)) {
            Some(reached) => wanted = reached,
            None => any = true,
        }
        let of = |table: &super::Table| any || wanted.iter().any(|d| self.is_same_name(&table.capture.database, d));
        let indexes: Vec<usize> = (0..self.tables.len()).filter(|&i| of(&self.tables[i])).collect();
        indexes.into_iter().find_map(|index| self.doubt(index, Doubt::Content, reason.to_owned()))
    }

    /// Part of what was logged did not happen: which part, nobody says.
    pub(super) fn doubt_open(&mut self, reason: &str) -> Option<Step> {
        let indexes: Vec<usize> = self.open.marks.iter().map(|&(index, _)| index).collect();
        indexes.into_iter().find_map(|index| self.doubt(index, Doubt::Content, reason.to_owned()))
    }

    /// The server has lost part of its log: everything is in doubt.
    pub(super) fn incident(&mut self, header: Header) -> Step {
        let reason = format!("the server has lost part of its log at {}", self.here());
        let step = (0..self.tables.len()).find_map(|index| self.doubt(index, Doubt::Content, reason.clone()));
        step.unwrap_or_else(|| if self.open.begun { Step::Next } else { self.commit(header) })
    }

    /// A table is in doubt: its columns are to be read again, unless the doubt is void or was resolved.
    pub(super) fn doubt(&mut self, index: usize, doubt: Doubt, reason: String) -> Option<Step> {
        let table = &self.tables[index];
        let is_concerned = match table.standing {
            Standing::Followed => !self.is_passed(index),
            // Another table may be there by now.
            Standing::Gone => doubt == Doubt::Identity,
            Standing::Parked | Standing::Altered => false,
        };
        if !is_concerned || table.answered_in == self.open.number {
            return None;
        }
        self.asked = Some(Asked { index, doubt, reason, is_of_event: true, is_of_statement: false });
        Some(Step::Describe(index))
    }

    /// Whether the table's load shows the effect of the event being read.
    pub(super) fn is_passed(&self, index: usize) -> bool {
        match &self.tables[index].passing {
            Passing::Nothing => false,
            Passing::Everything => true,
            Passing::Until(high) if self.file == high.file => self.offset <= high.offset,
            Passing::Until(high) => LogPoint::new(self.file.clone(), self.offset) <= *high,
        }
    }

    /// Whether a statement has raised the doubt, which may have changed what the server says of the table.
    pub(crate) fn is_doubted_by_statement(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.is_of_statement)
    }

    /// A person wants the table loaded again: [`Assembler::described`] is to be called. Returns false while parts of a
    /// transaction go out, and where the table is another one by now.
    pub(crate) fn ask(&mut self, index: usize, reason: String) -> bool {
        if !self.may_ask() || !self.may_be_asked(index) {
            return false;
        }
        let (is_of_event, is_of_statement) = (false, false);
        self.asked = Some(Asked { index, doubt: Doubt::Content, reason, is_of_event, is_of_statement });
        true
    }

    /// Whether [`Assembler::ask`] may be called now: not while parts of a transaction go out.
    pub(crate) fn may_ask(&self) -> bool {
        !self.is_among_parts()
    }

    /// Whether the table may be asked for by [`Assembler::ask`] later, if not now.
    pub(crate) fn may_be_asked(&self, index: usize) -> bool {
        self.tables[index].standing != Standing::Altered
    }

    /// The answer to [`Step::Describe`]: the table's columns now, or why there are none.
    pub(crate) fn described(&mut self, index: usize, columns: Result<&[SourceColumn], &str>) {
        let Some(asked) = self.asked.take().filter(|asked| asked.index == index) else { return };
        // What a person asks for is of no transaction: the next one may raise a doubt of its own.
        if asked.is_of_event {
            self.tables[index].answered_in = self.open.number;
        }
        // A table that keeps its columns has other values in them then.
        let is_other = columns.is_ok_and(|now| !is_same(&self.kept(index, now), &self.tables[index].capture.columns));
        if let (Doubt::Number, false, Ok(now)) = (asked.doubt, is_other, columns) {
            self.looked(index, now);
            if !asked.is_of_event {
                self.looked_late(index);
            }
            return;
        }
        let is_of_columns = matches!(asked.doubt, Doubt::Columns | Doubt::Number);
        if self.agrees(index, columns, &asked.reason) && (is_other || !is_of_columns) {
            self.reload(index, asked.reason);
        }
    }

    /// The load of a waiting table begins: the log ended at `high`. Chunks of `run` count from now on.
    pub(crate) fn begin_load(&mut self, index: usize, high: LogPoint, run: u64) {
        let table = &mut self.tables[index];
        table.passing = Passing::Until(high);
        table.run = run;
    }

    /// The columns as a reader finds them that is about to read. Returns whether it may.
    pub(crate) fn load_described(&mut self, index: usize, run: u64, columns: Result<&[SourceColumn], &str>) -> bool {
        if !self.is_load(index, run) {
            return false;
        }
        let table = &self.tables[index];
        let (known, is_read) = (table.capture.columns.clone(), table.is_read_by_order);
        if !self.agrees(index, columns, "ALTER TABLE, before it was loaded") {
            return false;
        }
        // What the log has brought since the load began was read by columns of before, and no chunk takes its place.
        if is_read && known != self.tables[index].capture.columns {
            self.reload(index, "its columns were others than was known when its load began".to_owned());
            return false;
        }
        true
    }

    /// Chunks of `run` count from now on, of a load that goes on where it was.
    pub(crate) fn resume_load(&mut self, index: usize, run: u64) {
        self.tables[index].run = run;
    }

    /// Whether the table is there with the columns that it was captured with; if not, it leaves.
    fn agrees(&mut self, index: usize, columns: Result<&[SourceColumn], &str>, reason: &str) -> bool {
        match columns {
            Err(_) if self.tables[index].standing == Standing::Gone => false,
            Err(lost) => {
                self.leave(index, Standing::Gone);
                let table = self.tables[index].capture.id;
                self.notices.push(Notice::Parked { table, reason: lost.to_owned() });
                false
            }
            Ok(columns) if !fits(columns, &self.tables[index].capture) => {
                self.leave(index, Standing::Altered);
                let table = self.tables[index].capture.id;
                self.notices.push(Notice::Altered { table, statement: reason.to_owned() });
                false
            }
            Ok(columns) => {
                self.learn(index, columns);
                true
            }
        }
    }

    /// The same tables from another place of the log on, or of another log: each is loaded again, as if nothing were known
    /// of it. Only those that have left in this shape stay away.
    pub(crate) fn restarted(mut self, position: LogPosition) -> Self {
        let has_left: Vec<bool> = self.tables.iter().map(|table| table.standing == Standing::Altered).collect();
        let tables = mem::take(&mut self.tables).into_iter().map(|table| table.capture).collect();
        let mut anew = Self::new(tables, position, self.limits, 0);
        anew.notices = self.notices;
        anew.cascades = self.cascades;
        anew.keys_left = self.keys_left;
        anew.keys_as_of = self.keys_as_of;
        for (index, has_left) in has_left.into_iter().enumerate() {
            match has_left {
                true => anew.leave(index, Standing::Altered),
                false => anew.reload(index, ANEW.to_owned()),
            }
        }
        anew
    }

    /// A connection was lost. A load of which no chunk was handed over begins anew: what was passed over for its sake may be
    /// behind the position, and keys that it remembers may be passed over next time. So does that of a table without a key. So may the end of rows that the log has
    /// brought meanwhile: where there are some, the table is loaded again.
    pub(super) fn lose_load(&mut self, index: usize) {
        let table = &mut self.tables[index];
        let is_bag = matches!(table.loading, super::Loading::Bag(_));
        if !table.is_loading() || table.has_chunks && !is_bag {
            return;
        }
        let id = table.capture.id;
        let is_unsent = self.batch.tables.iter().any(|(of, changes)| *of == id && !changes.rows.is_empty());
        match table.has_rows || is_unsent || table.has_chunks {
            true => self.reload(index, if is_bag { READING_BROKEN_OFF } else { LOST }.to_owned()),
            false => table.load_anew(),
        }
    }

    /// The table is loaded again. What was not sent of it is void.
    pub(super) fn reload(&mut self, index: usize, reason: String) {
        self.leave(index, Standing::Followed);
        let table = &mut self.tables[index];
        table.load_anew();
        self.notices.push(Notice::Reload { index, table: table.capture.id, reason });
    }

    /// Rows of the table that could not be read: the doubt that follows, or the end of it where it does not help.
    pub(super) fn misfit(&mut self, index: usize, reason: String) -> Option<Step> {
        const MISFITS_MAX: u32 = 3;
        let table = &mut self.tables[index];
        if table.misfits >= MISFITS_MAX {
            self.park(index, reason);
            return None;
        }
        // They were asked for a moment ago, and these do not fit either. Of a table that waits for its load nothing is read.
        table.answered_in = u64::MAX;
        let step = self.doubt(index, Doubt::Content, reason);
        if step.is_some() {
            self.tables[index].misfits += 1;
        }
        step
    }

    /// Sends no more of a table, beginning with the open transaction.
    pub(super) fn park(&mut self, index: usize, reason: String) {
        if mem::replace(&mut self.tables[index].standing, Standing::Parked) == Standing::Parked {
            return;
        }
        self.leave(index, Standing::Parked);
        self.notices.push(Notice::Parked { table: self.tables[index].capture.id, reason });
    }

    /// Whether nothing is sent of a table until somebody asks for it.
    pub(crate) fn is_parked(&self, index: usize) -> bool {
        self.tables[index].standing == Standing::Parked
    }

    /// Whether nothing of a table is seen: it was dropped, or the user may not read it.
    pub(crate) fn is_gone(&self, index: usize) -> bool {
        self.tables[index].standing == Standing::Gone
    }

    /// Whether a reader is of the load that is under way.
    pub(crate) fn is_load(&self, index: usize, run: u64) -> bool {
        self.tables[index].is_loading() && self.tables[index].run == run
    }

    /// A load that cannot go on parks its table.
    pub(crate) fn park_load(&mut self, index: usize, run: u64, reason: String) {
        if self.is_load(index, run) {
            self.park(index, reason);
        }
    }

    /// Nothing more comes of the table as it was: rows that wait are dropped, and the log's are passed over.
    fn leave(&mut self, index: usize, standing: Standing) {
        self.drop_unsent(index);
        let table = &mut self.tables[index];
        if self.open.active && table.parted_in == self.open.number {
            // Who receives the parts would take them for changes that came after.
            self.open.is_void |= standing != Standing::Parked;
        }
        table.standing = standing;
        table.loading = super::Loading::Complete;
        table.passing = Passing::Everything;
        table.run = 0;
        (table.suspect, table.is_unlooked) = (None, false);
        if self.open.is_xa {
            self.note_passed(index);
        }
        self.forget_maps(index);
    }

    /// Drops what waits to be sent of a table.
    fn drop_unsent(&mut self, index: usize) {
        let table = &mut self.tables[index];
        table.marked_in = u64::MAX;
        table.kept = TableChanges::default();
        let (id, is_bag) = (table.capture.id, matches!(table.loading, super::Loading::Bag(_)));
        self.batch.chunks.retain(|chunk| chunk.table != id);
        let mark = self.open.marks.iter().position(|&(table, _)| table == index);
        let mark = mark.map(|at| self.open.marks.swap_remove(at));
        let Some(at) = self.batch.tables.iter().position(|&(table, _)| table == id) else { return };
        let (_, changes) = self.batch.tables.swap_remove(at);
        if let Some((_, from)) = mark.filter(|_| !is_bag) {
            let open = changes.rows.len().saturating_sub(from);
            let bytes: usize = (from..changes.rows.len()).map(|i| changes.rows.get(i).len()).sum();
            self.open.rows = self.open.rows.saturating_sub(open);
            self.open.bytes = self.open.bytes.saturating_sub(bytes);
        }
    }

    /// Whether the open transaction must be read again from its head.
    pub(crate) fn is_void(&self) -> bool {
        self.open.is_void
    }
}

/// Whether a table's rows can still be taken, with these columns.
pub(crate) fn fits(columns: &[SourceColumn], table: &CaptureTable) -> bool {
    if table.rule.declared().is_none() {
        return is_same(columns, &table.columns);
    }
    let mut kept = columns.to_vec();
    keep_only(&mut kept, &table.schema);
    SnapshotPlan::new(&kept).is_ok_and(|plan| plan.mapped(&table.schema).is_ok())
}

/// Whether columns mean the same rows. `EXTRA` tells how values come about, which does not matter here, nor do columns that are
/// left out.
pub(crate) fn is_same(some: &[SourceColumn], others: &[SourceColumn]) -> bool {
    let kept = |columns: &[SourceColumn]| -> Vec<SourceColumn> {
        let kept = columns.iter().filter(|column| column.is_stored() || column.is_of_period());
        kept.map(|column| SourceColumn { extra: String::new(), left_out: None, ..column.clone() }).collect()
    };
    kept(some) == kept(others)
}

/// A statement without the texts and numbers in it, which may be anybody's: it ends in logs.
fn without_values(statement: &str) -> String {
    let mut out = String::with_capacity(statement.len());
    let mut chars = statement.chars().peekable();
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    while let Some(c) = chars.next() {
        if c == '\'' || c == '"' {
            while let Some(inside) = chars.next() {
                match inside {
                    '\\' => _ = chars.next(),
                    end if end == c && chars.peek() == Some(&c) => _ = chars.next(),
                    end if end == c => break,
                    _ => {}
                }
            }
            out.push('…');
        } else if c.is_ascii_digit() && !out.ends_with(is_name) {
            while chars.next_if(|next| is_name(*next) || *next == '.').is_some() {}
            out.push('…');
        } else {
            out.push(c);
        }
    }
    out
}

/// What messages show of a statement.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => text.into_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
