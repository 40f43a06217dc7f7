//! Several parts of one table walked in key order, the newest entry of each key alone.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use crate::part::{self, Part};

/// A range of one part, walked from its beginning or its end.
pub(crate) struct Cursor {
    part: Arc<Part>,
    /// Larger is newer.
    age: usize,
    /// Ranks in key order not yet walked.
    from: usize,
    to: usize,
    /// Entry under the cursor, and how its key goes on behind what all keys of the merge begin with.
    at: u32,
    head: u64,
}

impl Cursor {
    /// All of a part; none if that is nothing.
    pub(crate) fn whole(part: &Arc<Part>, age: usize) -> Option<Self> {
        Self::of(part, age, 0, part.len())
    }

    /// What a part has between two bounds; none if that is nothing.
    pub(crate) fn range(part: &Arc<Part>, age: usize, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Option<Self> {
        let start = match from {
            Bound::Included(key) => part.rank(key, false),
            Bound::Excluded(key) => part.rank(key, true),
            Bound::Unbounded => 0,
        };
        let end = match to {
            Bound::Included(key) => part.rank(key, true),
            Bound::Excluded(key) => part.rank(key, false),
            Bound::Unbounded => part.len(),
        };
        Self::of(part, age, start, end)
    }

    fn of(part: &Arc<Part>, age: usize, from: usize, to: usize) -> Option<Self> {
        (from < to).then(|| Self { part: Arc::clone(part), age, from, to, at: 0, head: 0 })
    }

    fn key(&self) -> &[u8] {
        self.part.key(self.at)
    }

    /// The first and the last key of its range.
    fn ends(&self) -> [&[u8]; 2] {
        [self.from, self.to - 1].map(|rank| self.part.key(self.part.nth(rank)))
    }

    /// Puts the cursor on the next entry of its range; false at the end. All keys agree in `shared` bytes.
    fn step(&mut self, reverse: bool, shared: usize) -> bool {
        if self.from >= self.to {
            return false;
        }
        if reverse {
            self.to -= 1;
            self.at = self.part.nth(self.to);
        } else {
            self.at = self.part.nth(self.from);
            self.from += 1;
        }
        self.head = part::head(&self.key()[shared..]);
        true
    }
}

/// A heap of cursors: the next key first, of equal keys the newest.
pub(crate) struct Merge {
    heap: Vec<Cursor>,
    reverse: bool,
    /// Bytes that all keys begin with: the eight after them tell most keys apart, without a look at either.
    shared: usize,
}

impl Merge {
    /// In rising key order.
    pub(crate) fn forward(cursors: Vec<Cursor>) -> Self {
        Self::new(cursors, false)
    }

    /// In rising or falling key order.
    pub(crate) fn new(mut cursors: Vec<Cursor>, reverse: bool) -> Self {
        let shared = shared_prefix(&cursors);
        cursors.retain_mut(|cursor| cursor.step(reverse, shared));
        let mut merge = Self { heap: cursors, reverse, shared };
        for i in (0..merge.heap.len() / 2).rev() {
            merge.sift(i);
        }
        merge
    }

    /// The newest entry of the next key, tombstones included.
    pub(crate) fn next(&mut self) -> Option<(Arc<Part>, u32)> {
        let (part, at, head) = {
            let top = self.heap.first()?;
            (Arc::clone(&top.part), top.at, top.head)
        };
        self.advance();
        // Older entries of the same key come right behind.
        while self.heap.first().is_some_and(|top| top.head == head && top.key() == part.key(at)) {
            self.advance();
        }
        Some((part, at))
    }

    fn advance(&mut self) {
        if !self.heap[0].step(self.reverse, self.shared) {
            self.heap.swap_remove(0);
        }
        if !self.heap.is_empty() {
            self.sift(0);
        }
    }

    fn sift(&mut self, mut i: usize) {
        loop {
            let left = 2 * i + 1;
            let mut first = i;
            for child in [left, left + 1] {
                if child < self.heap.len() && self.before(child, first) {
                    first = child;
                }
            }
            if first == i {
                return;
            }
            self.heap.swap(i, first);
            i = first;
        }
    }

    fn before(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.heap[a], &self.heap[b]);
        let by_key = a.head.cmp(&b.head).then_with(|| a.key().cmp(b.key()));
        let by_key = if self.reverse { by_key.reverse() } else { by_key };
        by_key.then_with(|| b.age.cmp(&a.age)) == Ordering::Less
    }
}

/// Bytes that all keys of some ranges begin with: those in which their first and last keys agree.
fn shared_prefix(cursors: &[Cursor]) -> usize {
    let mut ends = cursors.iter().flat_map(Cursor::ends);
    let first = ends.next().unwrap_or_default();
    let same = |key: &[u8]| first.iter().zip(key).take_while(|(a, b)| a == b).count();
    ends.map(same).min().unwrap_or(0)
}
