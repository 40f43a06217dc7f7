//! Several parts of one table walked in key order, the newest entry of each key alone.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use crate::part::Part;

/// A range of one part, walked from its beginning or its end.
pub(crate) struct Cursor {
    part: Arc<Part>,
    /// Larger is newer.
    age: usize,
    /// Ranks in key order not yet walked.
    from: usize,
    to: usize,
    /// Entry under the cursor.
    at: u32,
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
        (from < to).then(|| Self { part: Arc::clone(part), age, from, to, at: 0 })
    }

    fn key(&self) -> &[u8] {
        self.part.key(self.at)
    }

    /// Puts the cursor on the next entry of its range; false at the end.
    fn step(&mut self, reverse: bool) -> bool {
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
        true
    }
}

/// A heap of cursors: the next key first, of equal keys the newest.
pub(crate) struct Merge {
    heap: Vec<Cursor>,
    reverse: bool,
}

impl Merge {
    /// In rising key order.
    pub(crate) fn forward(cursors: Vec<Cursor>) -> Self {
        Self::new(cursors, false)
    }

    /// In rising or falling key order.
    pub(crate) fn new(mut cursors: Vec<Cursor>, reverse: bool) -> Self {
        cursors.retain_mut(|cursor| cursor.step(reverse));
        let mut merge = Self { heap: cursors, reverse };
        for i in (0..merge.heap.len() / 2).rev() {
            merge.sift(i);
        }
        merge
    }

    /// The newest entry of the next key, tombstones included.
    pub(crate) fn next(&mut self) -> Option<(Arc<Part>, u32)> {
        let (part, at) = {
            let top = self.heap.first()?;
            (Arc::clone(&top.part), top.at)
        };
        self.advance();
        // Older entries of the same key come right behind.
        while self.heap.first().is_some_and(|top| top.key() == part.key(at)) {
            self.advance();
        }
        Some((part, at))
    }

    fn advance(&mut self) {
        if !self.heap[0].step(self.reverse) {
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
        let by_key = if self.reverse { b.key().cmp(a.key()) } else { a.key().cmp(b.key()) };
        by_key.then_with(|| b.age.cmp(&a.age)) == Ordering::Less
    }
}
