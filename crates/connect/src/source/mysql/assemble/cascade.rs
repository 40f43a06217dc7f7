//! Changes whose effects on other tables the log does not have: those tables are in doubt.

use std::collections::BTreeSet;

use relation::{Layout, TableChanges};

use super::super::CaptureTable;
use super::super::cascade::{Cascades, Parent, Tables};
use super::super::decode::{Plan, RowsKind, SourceColumn, TableMap, has_no_foreign_key_checks};
use super::super::event;
use super::super::position::LogPoint;
use super::super::statement::{Effect, TableName};
use super::{Assembler, Doubt, Standing, Step, folded};

const REASON: &str = "rows that its rows refer to were deleted or changed, and what a foreign key does then is not in the \
                      server's log";

/// Words of statements that make or drop foreign keys.
const KEY_WORDS: [&[u8]; 3] = [b"foreign", b"references", b"constraint"];
/// Words of those that give tables or columns other names.
const NAMING_WORDS: [&[u8]; 2] = [b"rename", b"change"];

pub(super) fn has_any(text: &[u8], words: &[&[u8]]) -> bool {
    let has = |word: &&[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    words.iter().any(has)
}

/// A table of the log whose changes reach captured ones.
#[derive(Debug)]
pub(super) struct Watched {
    /// What a deleted row reaches.
    deleted: Vec<usize>,
    /// What a change of one of these columns reaches. No columns: any change may.
    updated: Vec<(Vec<usize>, Vec<usize>)>,
    /// It keeps its history: a delete is logged as an update.
    is_versioned: bool,
    reader: Reader,
}

/// Who reads its updates, to tell which columns they change.
#[derive(Debug)]
enum Reader {
    /// Whoever captures it.
    Capture,
    /// Only this.
    Here(Box<Plan>),
    /// They cannot be read.
    Nobody,
}

impl Watched {
    /// `read`: the captured table as which its rows are decoded.
    pub(super) fn new(parent: &Parent, body: &[u8], read: Option<&CaptureTable>) -> Self {
        let plan = TableMap::parse(body).ok().and_then(|map| Plan::new(&map, &parent.columns).ok());
        let is_known = read.is_some() || plan.is_some();
        // One that is left out is not seen to change: any update may have changed it.
        let own = parent.columns.iter().filter(|column| column.is_stored()).map(|column| column.name.as_str());
        let names: Vec<&str> = match read {
            Some(table) => table.schema.columns.iter().map(|column| column.name.as_str()).collect(),
            None => own.collect(),
        };
        let place = |name: &String| names.iter().position(|column| column == name);
        let places = |names: &[String]| names.iter().map(place).collect::<Option<Vec<_>>>().filter(|_| is_known);
        let updated = |(names, tables): &(Vec<String>, Tables)| {
            (places(names).unwrap_or_default(), tables.iter().copied().collect())
        };
        Self {
            deleted: parent.deleted.iter().copied().collect(),
            is_versioned: parent.columns.iter().any(SourceColumn::is_of_period),
            updated: parent.updated.iter().map(updated).collect(),
            reader: match plan {
                _ if read.is_some() => Reader::Capture,
                Some(plan) => Reader::Here(Box::new(plan)),
                None => Reader::Nobody,
            },
        }
    }

    /// What the rows of an event reach, as far as it is told without reading them, or by reading them here.
    pub(super) fn reached(&self, kind: u8, body: &[u8]) -> Vec<usize> {
        match RowsKind::of_event(kind) {
            _ if has_no_foreign_key_checks(body) => Vec::new(),
            Some(RowsKind::Delete) => self.deleted.clone(),
            Some(RowsKind::Update) if self.watches_updates() => match &self.reader {
                Reader::Capture => Vec::new(),
                Reader::Nobody => self.any_update(),
                Reader::Here(plan) => {
                    let mut changes = TableChanges::default();
                    match plan.decode_rows(kind, body, &mut changes) {
                        Ok(_) if !changes.has_unread(0) => self.changed(plan.layout(), &changes, 0),
                        _ => self.any_update(),
                    }
                }
            },
            Some(RowsKind::Insert | RowsKind::Update) | None => Vec::new(),
        }
    }

    /// What the rows of an update event reach, which are these from `from` on.
    fn changed(&self, layout: &Layout, changes: &TableChanges, from: usize) -> Vec<usize> {
        let mut out = BTreeSet::new();
        let weights = changes.weights.get(from..).unwrap_or_default();
        if !weights.chunks(2).all(|pair| pair == [-1, 1]) {
            // A version of a row has ended: a row was deleted.
            out.extend(self.deleted.iter().copied());
            out.extend(self.any_update());
            return out.into_iter().collect();
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (columns, tables) in &self.updated {
            let mut differs = |i: usize| {
                before.clear();
                after.clear();
                relation::key::push_row(&mut before, layout, changes.rows.get(i), columns);
                relation::key::push_row(&mut after, layout, changes.rows.get(i + 1), columns);
                before != after
            };
            let mut pairs = (from..changes.rows.len().saturating_sub(1)).step_by(2);
            if columns.is_empty() || pairs.any(&mut differs) {
                out.extend(tables.iter().copied());
            }
        }
        out.into_iter().collect()
    }

    /// What the rows of an event reach that whoever captures the table has read: these from `from` on; none if some of them
    /// cannot be read.
    #[inline]
    pub(super) fn reached_by_read(
        &self,
        kind: u8,
        body: &[u8],
        plan: &Plan,
        read: Option<&TableChanges>,
        from: usize,
    ) -> Vec<usize> {
        let is_of_it = self.watches_updates()
            && RowsKind::of_event(kind) == Some(RowsKind::Update)
            && !has_no_foreign_key_checks(body);
        match read {
            _ if !is_of_it => Vec::new(),
            Some(changes) => self.changed(plan.layout(), changes, from),
            None => self.any_update(),
        }
    }

    /// What the rows of an event may reach that whoever captures the table passes over.
    pub(super) fn reached_unread(&self, kind: u8, body: &[u8]) -> Vec<usize> {
        match RowsKind::of_event(kind) {
            Some(RowsKind::Update) if !has_no_foreign_key_checks(body) => self.any_update(),
            _ => Vec::new(),
        }
    }

    /// What updates whose rows cannot be read may reach.
    fn any_update(&self) -> Vec<usize> {
        let mut all: BTreeSet<usize> = self.updated.iter().flat_map(|(_, tables)| tables.iter().copied()).collect();
        if self.is_versioned {
            all.extend(self.deleted.iter().copied());
        }
        all.into_iter().collect()
    }

    fn watches_updates(&self) -> bool {
        !self.updated.is_empty() || self.is_versioned
    }
}

impl Assembler {
    /// The keys whose actions the log does not have, as they are now; the log ended here, or before, when they were read. Those that
    /// were known before are told of by the log up to there.
    pub(crate) fn set_cascades(&mut self, now: Cascades, end: LogPoint) {
        self.keys_as_of = end;
        let before = std::mem::take(&mut self.cascades);
        let has_exact_names = self.has_exact_names;
        let cascades = now.with_places(|(database, name)| folded(database, name, has_exact_names));
        let all = cascades.clone().and_before(before.unwrap_or_default());
        self.keys_left = (all != cascades).then_some(cascades);
        self.cascades = Some(all);
        // What a table id means is looked at anew; between two transactions nothing refers to what was.
        self.maps.clear();
    }

    /// A transaction has ended: keys that are no more reach nothing behind the place where they were not found any more.
    #[inline]
    pub(super) fn forget_keys(&mut self) {
        if self.keys_left.is_some() && self.applied > self.keys_as_of {
            self.cascades = self.keys_left.take();
            self.maps.clear();
        }
    }

    /// Whether a statement may make, drop or rename foreign keys, or what they are of, or have other columns in a table whose
    /// changes reach further: they are to be read again before it. Keys between tables of databases in which none reaches a
    /// captured table are nobody's business.
    pub(super) fn asks_for_keys(&mut self, effects: &[Effect], query: event::Query<'_>) -> bool {
        let Some(cascades) = &self.cascades else { return false };
        let is_unnamed = |effect: &Effect| matches!(effect, Effect::DroppedDatabase(_) | Effect::Unread);
        let is_near = |name: &TableName| cascades.databases.contains(&self.place_of(query, name).0);
        let may_reach = effects.iter().any(is_unnamed) || effects.iter().flat_map(Effect::tables).any(is_near);
        let has_words = || has_any(query.text, &KEY_WORDS) || has_any(query.text, &NAMING_WORDS);
        if !(may_reach && has_words()) && self.reached_from_altered(effects, query).is_empty() {
            return false;
        }
        let here = Some((self.file.clone(), self.offset));
        let is_new = self.keys_asked_at != here;
        self.keys_asked_at = here;
        if is_new {
            self.has_old_keys = LogPoint::new(self.file.clone(), self.offset) > self.keys_as_of;
        }
        is_new
    }

    /// What is reached from tables that may have other columns by a statement.
    fn reached_from_altered(&self, effects: &[Effect], query: event::Query<'_>) -> Tables {
        let mut reached = Tables::new();
        let Some(cascades) = &self.cascades else { return reached };
        let altered = effects.iter().filter(|effect| effect.changes_columns());
        for place in altered.flat_map(Effect::tables).map(|name| self.place_of(query, name)) {
            reached.extend(cascades.parents.get(&place).into_iter().flat_map(|parent| parent.reached()));
        }
        reached
    }

    /// A statement that changes keys, or names of tables, was executed before the keys were read that are known: what was a key
    /// before it nobody can say, so what earlier changes may have reached by it is in doubt. So it is where the columns are
    /// others of a table whose changes reach further: those before were read by the columns behind it.
    pub(super) fn doubt_keys_before(&mut self, effects: &[Effect], query: event::Query<'_>) -> Option<Step> {
        let is_of_here = self.keys_asked_at.as_ref() == Some(&(self.file.clone(), self.offset));
        // A key stays what it is when its columns get other names.
        let is_of_keys =
            has_any(query.text, &KEY_WORDS) || effects.iter().any(|effect| matches!(effect, Effect::Renamed { .. }));
        if !is_of_here || self.has_old_keys {
            return None;
        }
        let mut reached = self.reached_from_altered(effects, query);
        for name in effects.iter().flat_map(Effect::tables).filter(|_| is_of_keys) {
            let place = self.place_of(query, name);
            if let Some(parent) = self.cascades.as_ref().and_then(|cascades| cascades.parents.get(&place)) {
                reached.extend(parent.reached());
            }
            reached.extend(self.by_name.get(&place));
        }
        let reason = "a foreign key may have changed its rows, which is not in the server's log, before it was altered";
        reached.into_iter().find_map(|index| self.doubt(index, Doubt::Content, reason.to_owned()))
    }

    /// A table of a statement, as places are compared.
    fn place_of(&self, query: event::Query<'_>, name: &TableName) -> (String, String) {
        let default = || String::from_utf8_lossy(query.database).into_owned();
        folded(name.database.clone().unwrap_or_else(default), name.name.clone(), self.has_exact_names)
    }

    /// Tables that were reached without a trace are in doubt.
    pub(super) fn doubt_reached(&mut self, reached: &[usize]) -> Option<Step> {
        for &index in reached {
            if self.open.is_xa && self.tables[index].standing == Standing::Followed {
                // Its commit, which may come later, does it.
                self.note_passed(index);
                continue;
            }
            if let Some(step) = self.outdate(index, REASON) {
                return Some(step);
            }
        }
        None
    }
}
