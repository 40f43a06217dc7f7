//! What the tables of a story hold, kept as plainly as can be: rows by key in a map.
//!
//! It also mends stories that were cut: a change that no source would send, as it takes back a row that is not there or
//! brings one whose key is taken, is left out.

use std::collections::BTreeMap;

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

#[derive(Clone)]
struct Kept {
    key: Vec<usize>,
    loading: bool,
    complete: bool,
    /// By key; a bag's rows are their own keys.
    rows: BTreeMap<Row, (Row, usize)>,
}

impl Kept {
    fn new(schema: &Schema, loading: bool) -> Self {
        Self { key: schema.key.clone(), loading, complete: false, rows: BTreeMap::new() }
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
            if !self.complete {
                return false;
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
            _ if !self.complete => true,
            None => weight > 0,
            Some((stored, _)) => weight < 0 && stored == row,
        };
        if fits {
            if weight > 0 {
                self.rows.insert(key, (row.clone(), 1));
            } else {
                self.rows.remove(&key);
            }
        }
        fits
    }

    fn load(&mut self, row: &Row) {
        let key = self.key_of(row);
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
            Act::Model { .. } | Act::Fold => act.clone(),
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
            let name = match piece {
                Piece::Row(change) => &change.table,
                Piece::Truncate(table) | Piece::Chunk { table, .. } => table,
            };
            let Some(table) = self.tables.get_mut(name) else { continue };
            match piece {
                Piece::Row(change) => {
                    if table.change(&change.values, change.weight) {
                        out.push(piece.clone());
                    }
                }
                Piece::Truncate(_) => {
                    table.rows.clear();
                    out.push(piece.clone());
                }
                Piece::Chunk { rows, complete, .. } => {
                    if !table.complete {
                        rows.iter().for_each(|row| table.load(row));
                        table.complete = *complete;
                        out.push(piece.clone());
                    }
                }
            }
        }
        out
    }

    /// The rows of all tables that are there, sorted.
    pub(crate) fn contents(&self) -> Contents {
        let rows = |table: &Kept| {
            let each = table.rows.values();
            let mut rows: Vec<String> =
                each.flat_map(|(row, n)| std::iter::repeat_n(words_text(row.iter().cloned()), *n)).collect();
            rows.sort();
            rows
        };
        self.tables.iter().map(|(name, table)| (name.clone(), rows(table))).collect()
    }

    /// The rows of all whole tables.
    pub(crate) fn rows(&self) -> Vec<Change> {
        let whole = self.tables.iter().filter(|(_, table)| table.complete);
        let rows = whole.flat_map(|(name, table)| {
            let each = table.rows.values();
            each.flat_map(move |(row, n)| {
                std::iter::repeat_n(Change { table: name.clone(), values: row.clone(), weight: 1 }, *n)
            })
        });
        rows.collect()
    }
}

/// A story without what cannot be.
pub(crate) fn mended(acts: &[Act]) -> Vec<Act> {
    let mut ledger = Ledger::default();
    let played = acts.iter().map(|act| ledger.play(act));
    played.filter(|act| !matches!(act, Act::Step(batches) | Act::Chain(batches) if batches.is_empty())).collect()
}
