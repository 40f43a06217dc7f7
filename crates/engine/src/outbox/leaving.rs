//! What is to leave the other side, counted ahead of a delivery: for who asks a person before much of it goes.

use std::ops::Bound;

use store::{Slice, Snapshot};

use super::facts::{Filled, Outbox, Outboxes, UNKNOWN, is_accepted};
use crate::error::Result;

/// Rows of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leaving {
    /// Those that are there, as far as it has answered.
    pub there: u64,
    /// Those of them that are to go.
    pub leaves: u64,
}

impl Outboxes {
    /// Whether the other side has any row of an outbox, as far as it has answered.
    pub fn has_rows(self, snapshot: &Snapshot, name: &str) -> Result<bool> {
        let Some(outbox) = Outbox::load(snapshot, self.facts, name)? else { return Ok(false) };
        Ok(snapshot.scan(outbox.accepted, &[]).next().transpose()?.is_some())
    }

    /// What is there, and what of it is to go by the marks of now. Where all rows are walked through, all that is accepted is looked
    /// at: that takes as long as the walk does. Of an outbox that follows nothing, nothing leaves.
    pub fn leaving(self, snapshot: &Snapshot, name: &str) -> Result<Leaving> {
        let Some(outbox) = Outbox::load(snapshot, self.facts, name)? else { return Ok(Leaving::default()) };
        let Some(relation) = outbox.relation else { return Ok(Leaving::default()) };
        let mut found = Leaving::default();
        if outbox.at.filled != Filled::Whole {
            let mut rows = snapshot.range(relation, Bound::Unbounded, Bound::Unbounded);
            let mut row: Option<Slice> = rows.next().transpose()?.map(|(key, _)| key);
            for entry in snapshot.scan(outbox.accepted, &[]) {
                let (key, accepted) = entry?;
                while row.as_ref().is_some_and(|row| **row < *key) {
                    row = rows.next().transpose()?.map(|(key, _)| key);
                }
                let leaves = row.as_ref().is_none_or(|row| **row != *key);
                // Of a refused row that stays, another one may be there: nobody has said so.
                let is_unheard = !leaves && is_accepted(&accepted, &UNKNOWN);
                if is_unheard && snapshot.get(outbox.refused, &key)?.is_some() {
                    continue;
                }
                found.there += 1;
                found.leaves += u64::from(leaves);
            }
            return Ok(found);
        }
        // Every row is there but those that are to come, and those that were refused.
        let mut coming = outbox.at.refused_rows;
        for entry in snapshot.scan(outbox.pending, &[]) {
            let (key, _) = entry?;
            let is_row = snapshot.get(relation, &key)?.is_some();
            match (is_row, snapshot.get(outbox.accepted, &key)?.is_some()) {
                (true, false) => coming += 1,
                (false, true) => found.leaves += 1,
                (true, true) | (false, false) => {}
            }
        }
        found.there = self.rows(snapshot, Some(relation))?.saturating_sub(coming) + found.leaves;
        Ok(found)
    }
}
