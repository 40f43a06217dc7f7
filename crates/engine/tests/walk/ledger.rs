//! What the tables of a story hold, kept as plainly as can be: rows by key in a map.
//!
//! It also mends stories that were cut: a change that no source would send, as it takes back a row that is not there or
//! brings one whose key is taken, is left out.
//!
//! Of a table that is loaded again it keeps which rows nothing has brought since. While such a table is swept portion by
//! portion these may be there or not: what is stored is asked for them, and for nothing else. Of one without a key it keeps how
//! often each row was there and was brought: until it is swept it may be there as often as anything in between. Any portion
//! may have been the last one, with which rows go that could not be read and nothing has told of since: of these, too, what is
//! kept is asked. Where the table says that it is complete, none of all this is left ([`Ledger::swept`]).

use std::collections::{BTreeMap, BTreeSet};

use relation::Schema;

use crate::house::Contents;
use crate::house::story::{Act, Batch, Change, Piece, words_text};

/// Values of a row, as a case writes them.
pub(crate) type Row = Vec<String>;

#[derive(Default, Clone)]
pub(crate) struct Ledger {
    tables: BTreeMap<String, Kept>,
    /// Told of, but not there before the next restart.
    told: BTreeMap<String, Kept>,
    begun: bool,
}

/// How far a table is loaded again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    /// By chunks.
    Loading,
    /// The chunks are through.
    Sweeping,
}

#[derive(Clone)]
struct Kept {
    key: Vec<usize>,
    loading: bool,
    /// Its first load is over.
    complete: bool,
    again: Again,
    /// Keys of rows that nothing has brought since it is loaded again.
    unbrought: BTreeSet<Row>,
    /// Those of them that may have been swept, this time or when it was loaded again before.
    uncertain: BTreeSet<Row>,
    /// What it held when its columns changed, for as long as that serves.
    frozen: Option<Box<Kept>>,
    /// By key; a bag's rows are their own keys.
    rows: BTreeMap<Row, (Row, usize)>,
    /// Of a bag that is loaded again: how often its rows were brought, and how often they may be there.
    brought: BTreeMap<Row, usize>,
    range: BTreeMap<Row, (usize, usize)>,
    /// Of a bag that is loaded, or loaded again: rows of it have come.
    has_begun: bool,
    /// Rows that could not be read, by what is known of them, and how often they are there.
    unread: BTreeMap<Row, usize>,
    /// Those of them that nothing has told of since the table is loaded again.
    stale: BTreeSet<Row>,
    /// Those of these that may have gone, as portions of the table were swept.
    uncertain_unread: BTreeSet<Row>,
    /// It is not followed until it is loaded again.
    parked: bool,
}

impl Kept {
    fn new(schema: &Schema, loading: bool) -> Self {
        Self {
            key: schema.key.clone(),
            loading,
            complete: false,
            again: Again::No,
            unbrought: BTreeSet::new(),
            uncertain: BTreeSet::new(),
            frozen: None,
            rows: BTreeMap::new(),
            brought: BTreeMap::new(),
            range: BTreeMap::new(),
            has_begun: false,
            unread: BTreeMap::new(),
            stale: BTreeSet::new(),
            uncertain_unread: BTreeSet::new(),
            parked: false,
        }
    }

    fn is_bag(&self) -> bool {
        self.key.is_empty()
    }

    fn key_of(&self, row: &Row) -> Row {
        if self.is_bag() { row.clone() } else { self.key.iter().map(|&k| row[k].clone()).collect() }
    }

    /// Whether a source could send this change now; then it is applied.
    fn change(&mut self, row: &Row, weight: i8) -> bool {
        let key = self.key_of(row);
        if self.is_bag() {
            if !self.is_whole() && !self.has_begun {
                return false;
            }
            if self.again != Again::No {
                return self.change_brought(row, weight);
            }
            let entry = self.rows.entry(key.clone()).or_insert_with(|| (row.clone(), 0));
            if weight > 0 {
                entry.1 += 1;
                return true;
            }
            let known = entry.1 > 0;
            entry.1 = entry.1.saturating_sub(1);
            if entry.1 == 0 {
                self.rows.remove(&key);
            }
            return known;
        }
        let fits = match self.rows.get(&key) {
            // What the log says of a row that is not loaded yet is taken as it comes.
            _ if !self.is_whole() => true,
            Some(_) if self.unbrought.contains(&key) => weight > 0,
            None => weight > 0,
            Some((stored, _)) => weight < 0 && stored == row,
        };
        if fits {
            self.brought(&key);
            if weight > 0 {
                self.rows.insert(key, (row.clone(), 1));
            } else {
                self.rows.remove(&key);
            }
        }
        fits
    }

    /// The same of one that cannot be read: under its key nothing else is there.
    fn change_unread(&mut self, known_by: &Row, weight: i8) -> bool {
        if !self.is_bag() {
            self.brought(known_by);
            self.rows.remove(known_by);
            if weight > 0 {
                self.unread.insert(known_by.clone(), 1);
            }
            return true;
        }
        if !self.is_whole() && !self.has_begun {
            return false;
        }
        let count = self.unread.get(known_by).copied().unwrap_or(0);
        match count.checked_add_signed(isize::from(weight)) {
            None => return false,
            Some(0) => drop(self.unread.remove(known_by)),
            Some(count) => drop(self.unread.insert(known_by.clone(), count)),
        }
        true
    }

    /// Whether all chunks have come that it waits for.
    fn is_whole(&self) -> bool {
        match self.again {
            Again::No => self.complete,
            Again::Loading => false,
            Again::Sweeping => true,
        }
    }

    /// A change of a bag that is loaded again.
    fn change_brought(&mut self, row: &Row, weight: i8) -> bool {
        let count = self.brought.get(row).copied().unwrap_or(0);
        let Some(count) = count.checked_add_signed(isize::from(weight)) else { return false };
        self.brought.insert(row.clone(), count);
        if self.again == Again::Sweeping {
            self.widen(row);
        }
        true
    }

    /// A row may be there as often as it was brought.
    fn widen(&mut self, row: &Row) {
        let count = self.brought.get(row).copied().unwrap_or(0);
        let (least, most) = self.range.entry(row.clone()).or_insert((0, 0));
        (*least, *most) = ((*least).min(count), (*most).max(count));
    }

    fn reload(&mut self) {
        if self.is_bag() && self.again == Again::No {
            self.range = self.rows.iter().map(|(row, (_, n))| (row.clone(), (*n, *n))).collect();
        }
        (self.again, self.parked) = (Again::Loading, false);
        self.has_begun = false;
        self.unbrought = self.rows.keys().cloned().collect();
        self.stale = self.unread.keys().cloned().collect();
    }

    fn chunk(&mut self, rows: &[Row], unread: &[Row], complete: bool) {
        self.chunk_rows(rows, complete);
        for known_by in unread {
            self.change_unread(known_by, 1);
        }
    }

    fn chunk_rows(&mut self, rows: &[Row], complete: bool) {
        if self.is_bag() && self.again == Again::Loading {
            if !self.has_begun {
                self.brought.clear();
                self.unread.clear();
            }
            self.has_begun = true;
            rows.iter().for_each(|row| *self.brought.entry(row.clone()).or_insert(0) += 1);
            if complete {
                self.again = Again::Sweeping;
                let touched: Vec<Row> = self.range.keys().chain(self.brought.keys()).cloned().collect();
                touched.iter().for_each(|row| self.widen(row));
            }
            return;
        }
        rows.iter().for_each(|row| self.load(row));
        self.has_begun = true;
        match self.again {
            Again::Loading if complete => self.again = Again::Sweeping,
            Again::Loading => {}
            Again::No | Again::Sweeping => self.complete = complete,
        }
    }

    fn sweep(&mut self, whole: bool) {
        if self.again != Again::Sweeping {
            return;
        }
        if !whole {
            self.uncertain.extend(self.unbrought.iter().cloned());
            if !self.is_bag() {
                self.uncertain_unread.extend(self.stale.iter().cloned());
            }
            return;
        }
        (self.again, self.complete) = (Again::No, true);
        let stale = std::mem::take(&mut self.stale);
        if self.is_bag() {
            self.range.clear();
            let brought = std::mem::take(&mut self.brought).into_iter().filter(|(_, n)| *n > 0);
            self.rows = brought.map(|(row, n)| (row.clone(), (row, n))).collect();
            return;
        }
        self.unread.retain(|key, _| !stale.contains(key));
        let unbrought = std::mem::take(&mut self.unbrought);
        self.rows.retain(|key, _| !unbrought.contains(key));
        self.uncertain.clear();
        self.uncertain_unread.clear();
    }

    fn brought(&mut self, key: &Row) {
        self.unbrought.remove(key);
        self.uncertain.remove(key);
        if !self.is_bag() {
            self.unread.remove(key);
            self.stale.remove(key);
            self.uncertain_unread.remove(key);
        }
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.has_begun = true;
        self.brought.clear();
        self.range.clear();
        self.unbrought.clear();
        self.uncertain.clear();
        self.unread.clear();
        self.stale.clear();
        self.uncertain_unread.clear();
    }

    fn load(&mut self, row: &Row) {
        let key = self.key_of(row);
        self.brought(&key);
        let is_bag = self.is_bag();
        let entry = self.rows.entry(key).or_insert_with(|| (row.clone(), 0));
        if is_bag {
            entry.1 += 1;
        } else {
            *entry = (row.clone(), 1);
        }
    }
}

impl Ledger {
    /// Plays an act and answers with what of it can be.
    pub(crate) fn play(&mut self, act: &Act) -> Act {
        match act {
            Act::Table { name, schema, loading } => {
                self.told.insert(name.clone(), Kept::new(schema, *loading));
                act.clone()
            }
            Act::Model { .. } | Act::Fold | Act::Propose | Act::Rollback => act.clone(),
            Act::Outbox { .. } | Act::Deliver { .. } | Act::Portion { .. } | Act::Tell { .. } => act.clone(),
            Act::Altered { name, schema } => {
                if !self.begun {
                    self.begin(&[]);
                }
                if let Some(table) = self.tables.get_mut(name) {
                    let before = std::mem::replace(table, Kept::new(schema, true));
                    table.frozen = Some(Box::new(before));
                }
                act.clone()
            }
            Act::Load(rows) => Act::Load(self.begin(rows)),
            Act::Restart { .. } => {
                self.open();
                act.clone()
            }
            Act::Step(batches) => {
                if !self.begun {
                    self.begin(&[]);
                }
                Act::Step(batches.iter().map(|batch| self.batch(batch)).filter(|b| !b.is_empty()).collect())
            }
            Act::Chain(parts) => {
                if !self.begun {
                    self.begin(&[]);
                }
                Act::Chain(parts.iter().map(|part| self.batch(part)).filter(|part| !part.is_empty()).collect())
            }
        }
    }

    fn open(&mut self) {
        self.tables.append(&mut self.told);
        self.tables.values_mut().filter(|table| !table.loading).for_each(|table| table.complete = true);
        self.begun = true;
    }

    fn begin(&mut self, rows: &[Change]) -> Vec<Change> {
        self.open();
        let mut taken = Vec::new();
        for change in rows {
            let Some(table) = self.tables.get_mut(&change.table).filter(|table| !table.loading) else { continue };
            if table.change(&change.values, 1) {
                taken.push(change.clone());
            }
        }
        taken
    }

    fn batch(&mut self, batch: &Batch) -> Batch {
        let mut out = Batch::new();
        for piece in batch {
            let Some(table) = piece.table().and_then(|name| self.tables.get_mut(name)) else { continue };
            match piece {
                Piece::Park(_) => {
                    table.parked = true;
                    out.push(piece.clone());
                }
                _ if table.parked && !matches!(piece, Piece::Reload(_)) => {}
                Piece::Row(change) => {
                    if table.change(&change.values, change.weight) {
                        out.push(piece.clone());
                    }
                }
                Piece::Truncate(_) => {
                    table.clear();
                    out.push(piece.clone());
                }
                Piece::Unread { key, weight, .. } => {
                    if table.change_unread(key, *weight) {
                        out.push(piece.clone());
                    }
                }
                Piece::Chunk { rows, unread, complete, .. } => {
                    if !table.is_whole() {
                        table.chunk(rows, unread, *complete);
                        out.push(piece.clone());
                    }
                }
                Piece::Reload(_) => {
                    table.reload();
                    out.push(piece.clone());
                }
                Piece::Sweep { whole, .. } => {
                    table.sweep(*whole);
                    out.push(piece.clone());
                }
                Piece::Part { .. } => {}
            }
        }
        out
    }

    /// The rows of all tables that are there, sorted, as they ought to be: `stored` is asked for those that may be there or not,
    /// and of tables that are `altered` what they held before serves.
    pub(crate) fn contents(&self, stored: &Contents, altered: &BTreeSet<String>) -> Contents {
        let rows = |(name, table): (&String, &Kept)| {
            let serving = table.frozen.as_ref().filter(|_| altered.contains(name));
            (name.clone(), serving.map_or(table, |frozen| frozen).texts(&counted(stored, name)))
        };
        self.tables.iter().map(rows).collect()
    }

    /// Tables that are `complete` have been swept to their end, whichever portion that was.
    pub(crate) fn swept(&mut self, complete: &BTreeSet<String>) {
        let swept = self.tables.iter_mut().filter(|(name, _)| complete.contains(*name));
        swept.for_each(|(_, table)| table.sweep(true));
    }

    /// What is known of the rows that could not be read, and how many they are, of tables that are not `altered`: `kept` is
    /// asked for those that may be there or not.
    pub(crate) fn unread(&self, kept: &Contents, altered: &BTreeSet<String>) -> Contents {
        let rows = |(name, table): (&String, &Kept)| {
            let kept = counted(kept, name);
            let is_there = |known_by: &Row| !table.uncertain_unread.contains(known_by) || kept(&known_by.join(" ")) > 0;
            let there: Vec<(&Row, &usize)> = table.unread.iter().filter(|(known_by, _)| is_there(known_by)).collect();
            // Equal ones are as many as they are.
            let each = there.iter().flat_map(|(known_by, count)| std::iter::repeat_n(known_by.join(" "), **count));
            let mut known: Vec<String> = each.collect();
            known.sort();
            known.push(format!("{} in all", there.iter().map(|(_, count)| **count).sum::<usize>()));
            (name.clone(), known)
        };
        self.tables.iter().filter(|(name, _)| !altered.contains(*name)).map(rows).collect()
    }

    /// Whether a table is loaded again.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.tables.values().any(|table| table.again != Again::No || table.parked)
    }

    /// The rows of the tables that have been `whole`.
    pub(crate) fn rows(&self, stored: &Contents, whole: &BTreeSet<String>) -> Vec<Change> {
        let mut rows = Vec::new();
        for (name, table) in self.tables.iter().filter(|(name, _)| whole.contains(*name)) {
            for (row, n) in table.there(&counted(stored, name)) {
                let change = Change { table: name.clone(), values: row.clone(), weight: 1 };
                rows.extend(std::iter::repeat_n(change, n));
            }
        }
        rows
    }
}

impl Kept {
    /// The rows that are there, and how often.
    fn there<'a>(&'a self, stored: &'a dyn Fn(&String) -> usize) -> impl Iterator<Item = (&'a Row, usize)> {
        let in_doubt = self.range.iter().map(move |(row, &(least, most))| {
            let n = stored(&words_text(row.iter().cloned()));
            (row, n.clamp(least, most))
        });
        let is_there =
            |key: &Row, row: &Row| !self.uncertain.contains(key) || stored(&words_text(row.iter().cloned())) > 0;
        let is_counted = self.is_bag() && self.again != Again::No;
        let there = self.rows.iter().filter(move |(key, (row, _))| !is_counted && is_there(key, row));
        there.map(|(_, (row, n))| (row, *n)).chain(in_doubt)
    }

    fn texts(&self, stored: &dyn Fn(&String) -> usize) -> Vec<String> {
        let each = self.there(stored);
        let mut texts: Vec<String> =
            each.flat_map(|(row, n)| std::iter::repeat_n(words_text(row.iter().cloned()), n)).collect();
        texts.sort();
        texts
    }
}

/// How often rows of a table are stored.
fn counted<'a>(stored: &'a Contents, table: &'a str) -> impl Fn(&String) -> usize + 'a {
    move |row| stored.get(table).map_or(0, |rows| rows.iter().filter(|stored| *stored == row).count())
}

/// A story without what cannot be.
pub(crate) fn mended(acts: &[Act]) -> Vec<Act> {
    let mut ledger = Ledger::default();
    let played = acts.iter().map(|act| ledger.play(act));
    played.filter(|act| !matches!(act, Act::Step(batches) | Act::Chain(batches) if batches.is_empty())).collect()
}
