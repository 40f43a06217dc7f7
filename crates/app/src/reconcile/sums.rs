//! Checksums of a table that do not depend on the order in which its rows come, and that a change can be added to or taken
//! from.
//!
//! Rows are dealt into [`BUCKETS`] by their key, and a bucket has the number of its rows and two sums of hashes over all
//! their bytes. Two tables are equal if all their buckets are, count and both sums: a single weak sum has let differences
//! through elsewhere (TiDB's comparer, #634 and #784). Sums form a group, so a change between two places of a log is a row
//! taken away and a row added. Nothing of it is kept on disk, so the hashes may differ from one version to the next.

use std::hash::BuildHasher as _;

use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashSet};
use relation::{Layout, Schema};

/// Buckets of a table: 96 KiB. One of them has five thousand rows of a table of twenty million.
const BUCKETS: usize = 4_096;
/// Bytes of rows that all tables of a comparison together may hold to tell how they differ.
pub(super) const LISTED_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bucket {
    rows: i64,
    first: u64,
    second: u64,
}

/// How rows of a table are dealt and hashed.
#[derive(Debug, Clone)]
pub(super) struct Dealer {
    layout: Layout,
    key: Vec<usize>,
    buffer: Vec<u8>,
    hashers: [FixedState; 2],
}

impl Dealer {
    /// Rows of a schema: with a key by its columns, else by the whole row.
    pub(super) fn new(schema: &Schema) -> Self {
        let hashers = [FixedState::with_seed(0x7469_6465), FixedState::with_seed(0x6d69_6c6c)];
        Self { layout: Layout::new(schema.types()), key: schema.key.clone(), buffer: Vec::new(), hashers }
    }

    /// What a row is told apart by.
    fn key<'a>(&'a mut self, row: &'a [u8]) -> &'a [u8] {
        if self.key.is_empty() {
            return row;
        }
        self.buffer.clear();
        relation::key::push_row(&mut self.buffer, &self.layout, row, &self.key);
        &self.buffer
    }

    fn bucket(&mut self, row: &[u8]) -> usize {
        let hasher = self.hashers[0].clone();
        // The remainder is less than the number of buckets.
        usize::try_from(hasher.hash_one(self.key(row)) % BUCKETS as u64).unwrap_or(0)
    }
}

/// The checksums of a table.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    dealer: Dealer,
    buckets: Vec<Bucket>,
}

impl Sums {
    /// Of an empty table.
    pub(super) fn new(dealer: Dealer) -> Self {
        Self { dealer, buckets: vec![Bucket::default(); BUCKETS] }
    }

    /// Adds a row so many times, or takes it away.
    pub(super) fn add(&mut self, row: &[u8], weight: i64) {
        let at = self.dealer.bucket(row);
        let bucket = &mut self.buckets[at];
        bucket.rows += weight;
        let times = u64::from_ne_bytes(weight.to_ne_bytes());
        bucket.first = bucket.first.wrapping_add(self.dealer.hashers[0].hash_one(row).wrapping_mul(times));
        bucket.second = bucket.second.wrapping_add(self.dealer.hashers[1].hash_one(row).wrapping_mul(times));
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> i64 {
        self.buckets.iter().map(|bucket| bucket.rows).sum()
    }

    /// The buckets in which two tables differ.
    pub(super) fn differing(&self, other: &Self) -> Vec<usize> {
        (0..BUCKETS).filter(|&at| self.buckets[at] != other.buckets[at]).collect()
    }
}

/// The rows of some buckets, those of one side against those of the other.
#[derive(Debug)]
pub(super) struct Listing {
    dealer: Dealer,
    wanted: Vec<bool>,
    /// How often more a row is on our side than on the other.
    rows: HashMap<Vec<u8>, i64, foldhash::fast::FixedState>,
    bytes: usize,
    bytes_max: usize,
    is_full: bool,
}

impl Listing {
    /// Of these buckets, up to so many bytes of rows.
    pub(super) fn new(dealer: Dealer, buckets: &[usize], bytes_max: usize) -> Self {
        let mut wanted = vec![false; BUCKETS];
        buckets.iter().for_each(|&at| wanted[at] = true);
        Self { dealer, wanted, rows: HashMap::default(), bytes: 0, bytes_max, is_full: false }
    }

    /// Adds a row so many times, or takes it away.
    pub(super) fn add(&mut self, row: &[u8], weight: i64) {
        if self.is_full || !self.wanted[self.dealer.bucket(row)] {
            return;
        }
        let entry = self.rows.entry_ref(row).or_insert_with(|| {
            self.bytes += row.len() + 64;
            0
        });
        *entry += weight;
        if *entry == 0 && self.rows.remove(row).is_some() {
            self.bytes -= row.len() + 64;
        }
        if self.bytes > self.bytes_max {
            self.is_full = true;
            self.rows = HashMap::default();
        }
    }

    /// Rows that are on our side only and on the other side only, each as often as it is; none if there were too many to be
    /// held. In the order of their keys.
    pub(super) fn sides(mut self) -> Option<Sides> {
        if self.is_full {
            return None;
        }
        let mut rows: Vec<(Vec<u8>, i64)> = self.rows.drain().collect();
        rows.sort_by_cached_key(|(row, _)| (self.dealer.key(row).to_vec(), row.clone()));
        let mut sides = Sides::default();
        for (row, weight) in rows {
            let side = if weight > 0 { &mut sides.ours } else { &mut sides.theirs };
            (0..weight.unsigned_abs()).for_each(|_| side.push(row.clone()));
        }
        Some(sides)
    }
}

/// How two tables differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sides {
    pub(super) ours: Vec<Vec<u8>>,
    pub(super) theirs: Vec<Vec<u8>>,
}

impl Sides {
    /// Whether there is no difference.
    pub(super) fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.theirs.is_empty()
    }

    /// Those rows whose keys are among the differences of an earlier comparison as well.
    pub(super) fn also_in(mut self, earlier: &Self, dealer: &mut Dealer) -> Self {
        let rows = earlier.ours.iter().chain(&earlier.theirs);
        let keys: HashSet<Vec<u8>> = rows.map(|row| dealer.key(row).to_vec()).collect();
        for side in [&mut self.ours, &mut self.theirs] {
            side.retain(|row| keys.contains(dealer.key(row)));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use relation::{Column, DataType, Rows, Value};

    use super::*;

    fn table(rows: &[(i64, &str)]) -> (Schema, Rows) {
        let schema =
            Schema::new(vec![Column::new("id", DataType::Int64), Column::new("name", DataType::Text)], vec![0]);
        let layout = Layout::new(schema.types());
        let mut out = Rows::new();
        for (id, name) in rows {
            out.push_values(&layout, &[Value::Int(*id), Value::Text((*name).to_owned())]).unwrap();
        }
        (schema, out)
    }

    fn sums(rows: &[(i64, &str)]) -> Sums {
        let (schema, rows) = table(rows);
        let mut sums = Sums::new(Dealer::new(&schema));
        rows.iter().for_each(|row| sums.add(row, 1));
        sums
    }

    #[test]
    fn order_does_not_matter_and_a_change_is_one_row_away_and_one_added() {
        let before = sums(&[(1, "a"), (2, "b"), (3, "c")]);
        let mut after = sums(&[(3, "c"), (1, "a"), (2, "x")]);
        assert_eq!(before.differing(&after).len(), 1, "both rows of a key are in one bucket");
        let (_, change) = table(&[(2, "x"), (2, "b")]);
        after.add(change.get(0), -1);
        after.add(change.get(1), 1);
        assert_eq!(before.differing(&after), Vec::<usize>::new());
        assert_eq!(after.rows(), 3);
    }

    #[test]
    fn the_same_number_of_other_rows_differs() {
        assert_ne!(sums(&[(1, "a"), (2, "b")]).differing(&sums(&[(1, "b"), (2, "a")])), Vec::<usize>::new());
    }

    #[test]
    fn what_differs_is_told_row_by_row() {
        let (ours, theirs) = (sums(&[(1, "a"), (2, "b")]), sums(&[(1, "a"), (2, "x"), (3, "c")]));
        let (schema, rows) = table(&[(1, "a"), (2, "b"), (2, "x"), (3, "c")]);
        let mut listing = Listing::new(Dealer::new(&schema), &ours.differing(&theirs), LISTED_BYTES_MAX);
        [0, 1].iter().for_each(|&i| listing.add(rows.get(i), 1));
        [0, 2, 3].iter().for_each(|&i| listing.add(rows.get(i), -1));
        let sides = listing.sides().unwrap();
        assert_eq!(sides.ours, [rows.get(1)]);
        assert_eq!(sides.theirs.len(), 2);
        // The next time one of them differs otherwise, and another one for the first time.
        let (_, again) = table(&[(2, "y"), (4, "d")]);
        let later = Sides { ours: vec![again.get(0).to_vec(), again.get(1).to_vec()], theirs: Vec::new() };
        let both = later.also_in(&sides, &mut Dealer::new(&schema));
        assert_eq!(both, Sides { ours: vec![again.get(0).to_vec()], theirs: Vec::new() });
    }

    #[test]
    fn more_than_may_be_held_is_not_listed() {
        let (ours, theirs) = (sums(&[(1, "a"), (2, "b")]), sums(&[]));
        let (schema, rows) = table(&[(1, "a"), (2, "b")]);
        let mut listing = Listing::new(Dealer::new(&schema), &ours.differing(&theirs), 100);
        rows.iter().for_each(|row| listing.add(row, 1));
        assert_eq!(listing.sides(), None);
    }
}
