//! Stored relations: source tables and kept models, with their indexes.

use relation::row::Layout;
use relation::{Rows, Schema, TableId};
use store::Writes;

use crate::buckets::{Buckets, Change, KeyChange, read_weighted, weighted};
use crate::error::{Error, Result};
use crate::operator::States;

/// A relation kept in the store.
///
/// With a key: key encoding of the key columns → row. Without (a bag): [`bag_key`] → weight and row.
#[derive(Debug, Clone)]
pub struct Stored {
    pub id: TableId,
    pub schema: Schema,
    pub layout: Layout,
    pub indexes: Vec<Index>,
}

/// Key columns → keys of the rows, for look-ups by other than the primary key.
#[derive(Debug, Clone)]
pub struct Index {
    pub columns: Vec<usize>,
    pub buckets: Buckets,
    /// Whether it holds all rows; until then it is not maintained.
    pub built: bool,
}

/// Which indexes are kept now.
pub type Keeps<'a> = dyn Fn(&Index) -> bool + 'a;

impl Stored {
    /// A relation without indexes yet.
    pub fn new(id: TableId, schema: Schema) -> Self {
        let layout = Layout::new(schema.types());
        Self { id, schema, layout, indexes: Vec::new() }
    }

    /// Whether rows are identified by key columns.
    pub fn is_keyed(&self) -> bool {
        !self.schema.key.is_empty()
    }

    /// The key under which a row is stored.
    pub fn push_key(&self, row: &[u8], out: &mut Vec<u8>) {
        if self.is_keyed() {
            relation::key::push_row(out, &self.layout, row, &self.schema.key);
        } else {
            bag_key(&self.layout, row, out);
        }
    }

    /// Row and weight in a stored value.
    pub fn row_of<'a>(&self, value: &'a [u8]) -> Result<(&'a [u8], i64)> {
        if self.is_keyed() {
            return Ok((value, 1));
        }
        read_weighted(value).map(|(weight, row)| (row, weight))
    }

    /// Writes a source's changes in their order, with the indexes.
    ///
    /// The order matters: of two changes to one key the later one stays.
    pub fn write_ordered(
        &self,
        rows: &Rows,
        weights: &[i8],
        states: States<'_>,
        keeps: &Keeps<'_>,
        writes: &mut Writes,
    ) -> Result<()> {
        if !self.is_keyed() {
            let weights: Vec<i64> = weights.iter().map(|&w| i64::from(w)).collect();
            return self.write_bag(rows, &weights, states, keeps, writes);
        }
        let mut key = Vec::with_capacity(64);
        let mut next_key = Vec::with_capacity(64);
        let mut i = 0;
        while i < rows.len() {
            key.clear();
            self.push_key(rows.get(i), &mut key);
            // An update is a pair under one key: the deletion would be overwritten at once.
            let pair = weights[i] < 0 && i + 1 < rows.len() && weights[i + 1] > 0 && {
                next_key.clear();
                self.push_key(rows.get(i + 1), &mut next_key);
                next_key == key
            };
            if pair {
                writes.put(self.id, &key, rows.get(i + 1));
                i += 2;
                continue;
            }
            if weights[i] > 0 {
                writes.put(self.id, &key, rows.get(i));
            } else {
                writes.delete(self.id, &key);
            }
            i += 1;
        }
        let weights = weights.iter().map(|&w| i64::from(w));
        self.write_indexes(rows, weights, states, keeps, writes)
    }

    /// The indexes alone of what [`Stored::write_ordered`] writes.
    pub(crate) fn index_ordered(
        &self,
        rows: &Rows,
        weights: &[i8],
        states: States<'_>,
        keeps: &Keeps<'_>,
        writes: &mut Writes,
    ) -> Result<()> {
        if !self.indexes.iter().any(keeps) {
            return Ok(());
        }
        if !self.is_keyed() {
            let weights: Vec<i64> = weights.iter().map(|&w| i64::from(w)).collect();
            let mut all = Writes::new();
            self.write_bag(rows, &weights, states, keeps, &mut all)?;
            all.retain(|table| table != self.id);
            writes.append(all);
            return Ok(());
        }
        let weights = weights.iter().map(|&w| i64::from(w));
        self.write_indexes(rows, weights, states, keeps, writes)
    }

    /// Writes a consolidated delta, with the indexes.
    ///
    /// Errors: a key that would hold two rows, of this delta or one that was there and does not go. An update, whose old
    /// row goes under the same key, costs no read for that.
    pub fn write_net(
        &self,
        rows: &Rows,
        weights: &[i64],
        states: States<'_>,
        keeps: &Keeps<'_>,
        writes: &mut Writes,
    ) -> Result<()> {
        if !self.is_keyed() {
            return self.write_bag(rows, weights, states, keeps, writes);
        }
        let mut key = Vec::with_capacity(64);
        for sign in [-1, 1] {
            for (row, &weight) in rows.iter().zip(weights) {
                if weight.signum() != sign {
                    continue;
                }
                if weight != sign {
                    return Err(self.broken(TWO_ROWS));
                }
                key.clear();
                self.push_key(row, &mut key);
                if sign < 0 {
                    writes.delete(self.id, &key);
                    continue;
                }
                let is_taken = match writes.get(self.id, &key) {
                    Some(of_delta) => of_delta.is_some(),
                    None => states.get_seldom(self.id, &key)?.is_some(),
                };
                if is_taken {
                    return Err(self.broken(TWO_ROWS));
                }
                writes.put(self.id, &key, row);
            }
        }
        self.write_indexes(rows, weights.iter().copied(), states, keeps, writes)
    }

    fn write_bag(
        &self,
        rows: &Rows,
        weights: &[i64],
        states: States<'_>,
        keeps: &Keeps<'_>,
        writes: &mut Writes,
    ) -> Result<()> {
        let mut net: std::collections::BTreeMap<Vec<u8>, (usize, i64)> = std::collections::BTreeMap::new();
        for (i, row) in rows.iter().enumerate() {
            let mut key = Vec::new();
            self.push_key(row, &mut key);
            let entry = net.entry(key).or_insert((i, 0));
            entry.1 = entry.1.checked_add(weights[i]).ok_or(relation::Error::Overflow("weight"))?;
        }
        let is_indexed = self.indexes.iter().any(keeps);
        // The index of a bag holds a row's key as long as the row has any weight.
        let mut changed = Rows::new();
        let mut signs = Vec::new();
        for (key, (i, weight)) in &net {
            if *weight == 0 {
                continue;
            }
            let row = rows.get(*i);
            let stored = states.get_seldom(self.id, key)?;
            let before = match stored.as_deref().map(read_weighted).transpose()? {
                None => 0,
                Some((before, there)) if there == row => before,
                Some(_) => return Err(self.broken(TWO_ROWS)),
            };
            let after = before.checked_add(*weight).ok_or(relation::Error::Overflow("weight"))?;
            match after {
                0 => writes.delete(self.id, key),
                1.. => writes.put(self.id, key, &weighted(after, row)),
                _ => return Err(self.broken("a row counted fewer than no times")),
            }
            if is_indexed && (before > 0) != (after > 0) {
                changed.push(row);
                signs.push(after.signum() - before.signum());
            }
        }
        self.write_indexes(&changed, signs.into_iter(), states, keeps, writes)
    }

    fn broken(&self, what: &'static str) -> Error {
        Error::Broken { node: self.id.to_string(), what }
    }

    fn write_indexes(
        &self,
        rows: &Rows,
        weights: impl Iterator<Item = i64> + Clone,
        states: States<'_>,
        keeps: &Keeps<'_>,
        writes: &mut Writes,
    ) -> Result<()> {
        for index in self.indexes.iter().filter(|index| keeps(index)) {
            let changes = self.index_changes(index, rows, weights.clone());
            index.buckets.apply(Some(states), changes, writes)?;
        }
        Ok(())
    }

    /// What rows with signs change in an index. NULL keys are not indexed: nothing joins them.
    pub fn index_changes(&self, index: &Index, rows: &Rows, weights: impl Iterator<Item = i64>) -> Vec<KeyChange> {
        let weights: Vec<i64> = weights.collect();
        let mut changes: Vec<(Vec<u8>, Vec<u8>, i64)> = Vec::new();
        let mut i = 0;
        while i < rows.len() {
            let pair = weights[i] < 0 && i + 1 < rows.len() && weights[i + 1] > 0;
            if pair && self.is_same_entry(index, rows.get(i), rows.get(i + 1)) {
                i += 2;
                continue;
            }
            let row = rows.get(i);
            if index.columns.iter().all(|&c| !self.layout.is_null(row, c)) {
                let mut key = Vec::with_capacity(48);
                relation::key::push_row(&mut key, &self.layout, row, &index.columns);
                let mut entry = Vec::with_capacity(48);
                self.push_key(row, &mut entry);
                changes.push((key, entry, weights[i]));
            }
            i += 1;
        }
        changes.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut net: Vec<KeyChange> = Vec::with_capacity(changes.len());
        let mut changes = changes.into_iter().peekable();
        while let Some((key, entry, mut weight)) = changes.next() {
            while let Some((.., more)) = changes.next_if(|next| next.0 == key && next.1 == entry) {
                weight += more;
            }
            match weight.signum() {
                1 => net.push((key, entry, Change::Put(Vec::new()))),
                -1 => net.push((key, entry, Change::Delete)),
                _ => {}
            }
        }
        net
    }

    /// Whether an update leaves a row's place in an index as it was.
    fn is_same_entry(&self, index: &Index, before: &[u8], after: &[u8]) -> bool {
        let layout = &self.layout;
        let same = |&c: &usize| {
            layout.is_null(before, c) == layout.is_null(after, c) && layout.bytes(before, c) == layout.bytes(after, c)
        };
        self.is_keyed() && index.columns.iter().all(same) && self.schema.key.iter().all(same)
    }
}

const TWO_ROWS: &str = "two rows under one key";

/// The key of a row of a bag: all its columns. Rows are one only if their bytes are: where the columns' key does not tell
/// everything (a cut text, a float's −0.0 or NaN), a hash of the row stands behind it.
pub fn bag_key(layout: &Layout, row: &[u8], out: &mut Vec<u8>) {
    let columns: Vec<usize> = (0..layout.types().len()).collect();
    let start = out.len();
    relation::key::push_row(out, layout, row, &columns);
    if !relation::key::holds_row(layout, row, out.len() - start) {
        out.extend_from_slice(&relation::key::hash128(row));
    }
}
