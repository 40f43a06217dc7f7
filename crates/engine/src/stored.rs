//! Stored relations: source tables and kept models, with their indexes.

use std::collections::BTreeMap;

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

/// What a relation is kept with: the states as they were, which indexes are kept, and where it is written.
pub struct Keeping<'a> {
    pub states: States<'a>,
    pub keeps: &'a Keeps<'a>,
    pub writes: &'a mut Writes,
}

/// A row that came, by its position and its place among the writes.
struct Came {
    row: usize,
    place: u32,
    /// Another row of its key goes.
    replaces: bool,
}

/// A row of a bag, by its key and its first position among the changes, and how often it was there and is.
struct Counted {
    key: Vec<u8>,
    row: usize,
    before: i64,
    after: i64,
}

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
    pub fn write_ordered(&self, rows: &Rows, weights: &[i8], into: &mut Keeping<'_>) -> Result<()> {
        if !self.is_keyed() {
            return self.write_bag(rows, weights.iter().map(|&w| i64::from(w)), into);
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
                into.writes.put(self.id, &key, rows.get(i + 1));
                i += 2;
                continue;
            }
            if weights[i] > 0 {
                into.writes.put(self.id, &key, rows.get(i));
            } else {
                into.writes.delete(self.id, &key);
            }
            i += 1;
        }
        self.write_indexes(rows, weights.iter().map(|&w| i64::from(w)), into)
    }

    /// The indexes alone of what [`Stored::write_ordered`] writes.
    pub(crate) fn index_ordered(&self, rows: &Rows, weights: &[i8], into: &mut Keeping<'_>) -> Result<()> {
        if !self.indexes.iter().any(into.keeps) {
            return Ok(());
        }
        let weights = weights.iter().map(|&w| i64::from(w));
        if self.is_keyed() {
            return self.write_indexes(rows, weights, into);
        }
        let counted = self.count_bag(rows, weights, into.states)?;
        self.index_bag(rows, &counted, into)
    }

    /// Writes a consolidated delta, with the indexes.
    ///
    /// Errors: a key that would hold two rows, of this delta or one that was there and does not go. An update, whose old
    /// row goes under the same key, costs no read for that, and one look-up among the writes.
    pub fn write_net(&self, rows: &Rows, weights: &[i64], into: &mut Keeping<'_>) -> Result<()> {
        if !self.is_keyed() {
            return self.write_bag(rows, weights.iter().copied(), into);
        }
        let mut key = Vec::with_capacity(64);
        // What comes first: what goes then finds it, and an update is written once.
        let mut came: Vec<Came> = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate().filter(|&(i, _)| weights[i] > 0) {
            key.clear();
            self.push_key(row, &mut key);
            let once = into.writes.set_once(self.id, &key, Some(row));
            if weights[i] != 1 || !once.is_new {
                return Err(self.broken(TWO_ROWS));
            }
            came.push(Came { row: i, place: once.place, replaces: false });
        }
        for (i, row) in rows.iter().enumerate().filter(|&(i, _)| weights[i] < 0) {
            key.clear();
            self.push_key(row, &mut key);
            let once = into.writes.set_once(self.id, &key, None);
            let is_plain = weights[i] == -1;
            if is_plain && once.is_new {
                continue;
            }
            // Places rise with the rows that came.
            let of_place = came.binary_search_by_key(&once.place, |came| came.place).ok();
            match of_place.map(|at| &mut came[at]) {
                Some(came) if is_plain && !came.replaces => came.replaces = true,
                _ => return Err(self.broken(TWO_ROWS)),
            }
        }
        for came in came.iter().filter(|came| !came.replaces) {
            key.clear();
            self.push_key(rows.get(came.row), &mut key);
            if into.states.get_seldom(self.id, &key)?.is_some() {
                return Err(self.broken(TWO_ROWS));
            }
        }
        self.write_indexes(rows, weights.iter().copied(), into)
    }

    fn write_bag(&self, rows: &Rows, weights: impl Iterator<Item = i64>, into: &mut Keeping<'_>) -> Result<()> {
        let counted = self.count_bag(rows, weights, into.states)?;
        for Counted { key, row, after, .. } in &counted {
            match after {
                0 => into.writes.delete(self.id, key),
                after => into.writes.put(self.id, key, &weighted(*after, rows.get(*row))),
            }
        }
        self.index_bag(rows, &counted, into)
    }

    /// How often each row of a bag is there, before and after changes, by its key. Rows that stay as they are, are left out.
    fn count_bag(&self, rows: &Rows, weights: impl Iterator<Item = i64>, states: States<'_>) -> Result<Vec<Counted>> {
        let mut net: BTreeMap<Vec<u8>, (usize, i64)> = BTreeMap::new();
        for (i, (row, weight)) in rows.iter().zip(weights).enumerate() {
            let mut key = Vec::new();
            self.push_key(row, &mut key);
            let entry = net.entry(key).or_insert((i, 0));
            entry.1 = entry.1.checked_add(weight).ok_or(relation::Error::Overflow("weight"))?;
        }
        let mut counted = Vec::with_capacity(net.len());
        for (key, (i, weight)) in net {
            if weight == 0 {
                continue;
            }
            let stored = states.get_seldom(self.id, &key)?;
            let before = match stored.as_deref().map(read_weighted).transpose()? {
                None => 0,
                Some((before, there)) if there == rows.get(i) => before,
                Some(_) => return Err(self.broken(TWO_ROWS)),
            };
            let after = before.checked_add(weight).ok_or(relation::Error::Overflow("weight"))?;
            if after < 0 {
                return Err(self.broken("a row counted fewer than no times"));
            }
            counted.push(Counted { key, row: i, before, after });
        }
        Ok(counted)
    }

    /// The index of a bag holds a row's key as long as the row has any weight.
    fn index_bag(&self, rows: &Rows, counted: &[Counted], into: &mut Keeping<'_>) -> Result<()> {
        if !self.indexes.iter().any(into.keeps) {
            return Ok(());
        }
        let mut changed = Rows::new();
        let mut signs = Vec::new();
        for Counted { row, before, after, .. } in counted {
            if (*before > 0) != (*after > 0) {
                changed.push(rows.get(*row));
                signs.push(after.signum() - before.signum());
            }
        }
        self.write_indexes(&changed, signs.into_iter(), into)
    }

    fn broken(&self, what: &'static str) -> Error {
        Error::Broken { node: self.id.to_string(), what }
    }

    fn write_indexes(
        &self,
        rows: &Rows,
        weights: impl Iterator<Item = i64> + Clone,
        into: &mut Keeping<'_>,
    ) -> Result<()> {
        let keeps = into.keeps;
        for index in self.indexes.iter().filter(|index| keeps(index)) {
            let changes = self.index_changes(index, rows, weights.clone());
            index.buckets.apply(Some(into.states), changes, into.writes)?;
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

#[cfg(test)]
mod tests {
    use relation::{Column, DataType, Value};

    use super::*;
    use crate::operator::Bounds;

    /// Rows (key, value) with weights, written over a key 1 that holds the row (1, 10).
    fn write(changes: &[(i64, i64, i64)]) -> Result<Vec<(i64, i64)>> {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::open(dir.path(), store::Options::default())?;
        let column = |name: &str| Column::new(name, DataType::Int64);
        let stored = Stored::new(TableId(20), Schema::new(vec![column("k"), column("v")], vec![0]));
        let step = |changes: &[(i64, i64, i64)]| -> Result<()> {
            let mut rows = Rows::new();
            for &(k, v, _) in changes {
                rows.push_values(&stored.layout, &[Value::Int(k), Value::Int(v)])?;
            }
            let weights: Vec<i64> = changes.iter().map(|&(.., weight)| weight).collect();
            let snapshot = store.working();
            let states =
                States { snapshot: &snapshot, hot: store.hot(), shards: 1, shard_rows_min: 1, bounds: Bounds::NONE };
            let mut writes = Writes::new();
            stored.write_net(&rows, &weights, &mut Keeping { states, keeps: &|_| false, writes: &mut writes })?;
            Ok(store.commit(snapshot.step() + 1, writes)?)
        };
        step(&[(1, 10, 1)])?;
        step(changes)?;
        let row = |entry: store::Result<(store::Slice, store::Slice)>| -> Result<(i64, i64)> {
            let (_, row) = entry?;
            match [0, 1].map(|c| stored.layout.value(&row, c)) {
                [Value::Int(k), Value::Int(v)] => Ok((k, v)),
                _ => Err(stored.broken("no integers")),
            }
        };
        store.snapshot().scan(stored.id, &[]).map(row).collect()
    }

    #[test]
    fn writes_what_came_and_deletes_what_went() {
        let after = |changes: &[(i64, i64, i64)]| write(changes).unwrap();
        assert_eq!(after(&[(1, 10, -1), (1, 11, 1), (2, 20, 1)]), [(1, 11), (2, 20)]);
        assert_eq!(after(&[(1, 11, 1), (1, 10, -1)]), [(1, 11)]);
        assert_eq!(after(&[(3, 30, 1), (1, 10, -1), (2, 20, 1)]), [(2, 20), (3, 30)]);
    }

    /// Two rows would stand under one key, or two went from under it: whatever their order, and wherever the other one is.
    #[test]
    fn refuses_two_rows_of_a_key() {
        let refused = |changes: &[(i64, i64, i64)]| match write(changes) {
            Err(Error::Broken { what, .. }) => assert_eq!(what, TWO_ROWS),
            other => panic!("{changes:?}: {other:?}"),
        };
        refused(&[(1, 11, 1)]);
        refused(&[(2, 20, 1), (2, 21, 1)]);
        refused(&[(2, 20, 2)]);
        refused(&[(1, 10, -1), (1, 11, 1), (1, 12, 1)]);
        refused(&[(1, 10, -1), (1, 11, -1)]);
        refused(&[(1, 12, 1), (1, 10, -1), (1, 11, -1)]);
        refused(&[(1, 10, -2)]);
    }
}
