//! Finds the rows that the other side refuses, when all that it says is that one of many is bad.
//!
//! Positions are tried in ranges, halves of what was refused before; a single row that is refused is tried once more behind all
//! others, since what it stood in the way of may have moved (two rows that swap a unique value, a child before its parent).
//! About two tries for each halving: ten for a bad row of a thousand.
//!
//! Nothing here asks anybody: who owns a connection takes [`Bisect::next`] and tells the answer.

use std::collections::BTreeMap;
use std::ops::Range;

use super::portion::Refusal;

/// So many rows refused alike, with none accepted, are a mistake of the settings and none of rows.
const ALIKE_MAX: usize = 100;

/// Every row is refused, each for the same reason: this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllRefused(pub(crate) Refusal);

/// A search under way.
#[derive(Debug)]
pub(crate) struct Bisect {
    /// What is to be tried, the next at the end.
    ranges: Vec<Range<usize>>,
    refused: BTreeMap<usize, Refusal>,
    accepted: usize,
    is_second: bool,
}

impl Bisect {
    /// Over so many positions.
    pub(crate) fn new(count: usize) -> Self {
        let whole = 0..count;
        let ranges = if whole.is_empty() { Vec::new() } else { vec![whole] };
        Self { ranges, refused: BTreeMap::new(), accepted: 0, is_second: false }
    }

    /// The next positions to try, as long as there are some.
    pub(crate) fn next(&mut self) -> Option<Range<usize>> {
        if self.ranges.is_empty() && !self.is_second && self.accepted > 0 {
            self.is_second = true;
            self.ranges = self.refused.keys().rev().map(|&at| at..at + 1).collect();
        }
        self.ranges.last().cloned()
    }

    /// What [`Bisect::next`] gave was taken.
    pub(crate) fn took(&mut self) {
        let Some(range) = self.ranges.pop() else { return };
        self.accepted += range.len();
        for at in range {
            self.refused.remove(&at);
        }
    }

    /// What [`Bisect::next`] gave was refused, as a whole. Errors: so is everything.
    pub(crate) fn refused(&mut self, refusal: Refusal) -> Result<(), AllRefused> {
        let Some(range) = self.ranges.pop() else { return Ok(()) };
        if range.len() > 1 {
            let middle = range.start + range.len() / 2;
            self.ranges.extend([middle..range.end, range.start..middle]);
            return Ok(());
        }
        self.refused.insert(range.start, refusal);
        let mut codes = self.refused.values();
        let first = codes.next();
        let is_all = self.accepted == 0 && self.refused.len() >= ALIKE_MAX;
        match first {
            Some(first) if is_all && codes.all(|other| other.code == first.code) => Err(AllRefused(first.clone())),
            _ => Ok(()),
        }
    }

    /// The positions that are refused, when nothing is left to try.
    pub(crate) fn end(self) -> BTreeMap<usize, Refusal> {
        debug_assert!(self.ranges.is_empty(), "all was tried");
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn refusal(code: &str) -> Refusal {
        Refusal::new(code, "no")
    }

    /// Tries ranges against a set of bad positions; answers what is refused and how often was tried.
    fn search(count: usize, bad: &BTreeSet<usize>) -> (Vec<usize>, usize) {
        let (mut search, mut tries) = (Bisect::new(count), 0);
        while let Some(range) = search.next() {
            tries += 1;
            match range.clone().any(|at| bad.contains(&at)) {
                false => search.took(),
                // Codes of all kinds: it is of the rows.
                true => search.refused(refusal(&range.start.to_string())).expect("not all alike"),
            }
        }
        (search.end().into_keys().collect(), tries)
    }

    proptest! {
        #[test]
        fn those_alone_are_refused_that_are_bad(count in 0_usize..600, bad in prop::collection::btree_set(0_usize..600, 0..40)) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|at| *at < count).collect();
            let (found, tries) = search(count, &bad);
            prop_assert_eq!(found, bad.iter().copied().collect::<Vec<_>>());
            prop_assert!(tries <= 1 + bad.len() * 22);
        }
    }

    #[test]
    fn a_bad_row_in_a_hundred_costs_fourteen_tries_more() {
        for bad in 0..100 {
            let (_, tries) = search(100, &BTreeSet::from([bad]));
            assert!(tries <= 1 + 14 + 1, "{bad}: {tries}");
        }
    }

    #[test]
    fn what_moves_out_of_the_way_lets_others_in() {
        // Position 0 is refused until 1 is taken.
        let (mut search, mut is_free) = (Bisect::new(2), false);
        while let Some(range) = search.next() {
            match range.contains(&0) && !is_free {
                true => search.refused(refusal("23505")).expect("not all"),
                false => {
                    is_free = true;
                    search.took();
                }
            }
        }
        assert_eq!(search.end(), BTreeMap::new());
    }

    #[test]
    fn what_every_row_gets_is_none_of_rows() {
        let mut search = Bisect::new(5_000);
        let mut tries = 0;
        let all = loop {
            search.next().expect("more to try");
            tries += 1;
            if let Err(all) = search.refused(refusal("42501")) {
                break all;
            }
        };
        assert_eq!(all, AllRefused(refusal("42501")));
        assert!(tries < 250, "{tries}");
    }
}
