//! `NOT IN`, where either side may hold NULLs.
//!
//! State: how many rows the right side has, and how many of them are NULL. They say how a left row is judged:
//!
//! ```text
//! no rows        every left row comes out, NULL as well
//! a NULL         none does: whether it is among them is not known
//! else           those whose key is not NULL and not there
//! ```
//!
//! While the judgement stays, a change costs what it costs in an anti join. Only where it changes is the whole left side
//! read, since all of it may come or go.

use relation::{Delta, TableId};
use store::Writes;

use super::{FailedPairs, JoinOp, Joined, Output, add, keys_of};
use crate::error::{Error, Result};
use crate::operator::States;
use crate::operator::interner::Interner;

/// The right side in sum.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    rows: i64,
    nulls: i64,
}

/// How left rows are judged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judged {
    AllStand,
    NoneStands,
    ByKey,
}

/// The one key of the state.
const TOTALS: &[u8] = &[];

impl JoinOp {
    pub(super) fn not_in(
        &self,
        table: TableId,
        left: &Delta,
        right: &Delta,
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<Joined> {
        let (before, after) = self.change_totals(table, right, states, writes)?;
        let (was, is) = (before.judged(), after.judged());
        let delta = match (was, is) {
            (Judged::ByKey, Judged::ByKey) => self.by_counts(left, right, states)?,
            (Judged::AllStand, Judged::AllStand) => {
                let mut out = Output::new(self, states.bounds);
                out.alone(left, &(0..left.len() as u32).collect::<Vec<_>>(), None)?;
                out.finish()?
            }
            (Judged::NoneStands, Judged::NoneStands) => Delta::empty(&self.schema),
            _ => self.judge_anew((was, is), left, right, states)?,
        };
        Ok(Joined { delta, failed: FailedPairs::default() })
    }

    /// The totals alone, for a build.
    pub(super) fn keep_totals(
        &self,
        table: TableId,
        right: &Delta,
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<()> {
        self.change_totals(table, right, states, writes).map(|_| ())
    }

    fn change_totals(
        &self,
        table: TableId,
        right: &Delta,
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<(Totals, Totals)> {
        let before = match states.get(table, TOTALS)? {
            None => Totals::default(),
            Some(value) => Totals::read(&value)?,
        };
        let mut after = before;
        let of_row = keys_of(&self.right, &right.batch, &mut Interner::default())?;
        for (key, &weight) in of_row.iter().zip(&right.weights) {
            add(&mut after.rows, weight)?;
            if key.is_none() {
                add(&mut after.nulls, weight)?;
            }
        }
        if after.nulls < 0 || after.nulls > after.rows {
            return Err(broken("a right side with fewer than no rows"));
        }
        if after == Totals::default() {
            writes.delete(table, TOTALS);
        } else if after != before {
            writes.put(table, TOTALS, &after.bytes());
        }
        Ok((before, after))
    }

    /// All left rows, as they are judged now, less as they were judged.
    fn judge_anew(
        &self,
        (was, is): (Judged, Judged),
        left: &Delta,
        right: &Delta,
        states: States<'_>,
    ) -> Result<Delta> {
        let old = self.left.side.all(states)?;
        let mut keys = Interner::default();
        let old_of_row = keys_of(&self.left, &old.batch, &mut keys)?;
        let left_of_row = keys_of(&self.left, &left.batch, &mut keys)?;
        let right_of_row = keys_of(&self.right, &right.batch, &mut keys)?;
        let counts = self.counts(&keys, Vec::new(), &right_of_row, &right.weights, states)?;
        let (mut moved, mut signs) = (Vec::new(), Vec::new());
        for (row, &key) in old_of_row.iter().enumerate() {
            let stood = was.stands(key, &counts.before);
            let stands = is.stands(key, &counts.after);
            if stood != stands {
                moved.push(row as u32);
                signs.push(i64::from(stands) - i64::from(stood));
            }
        }
        let is_fresh = |&row: &u32| is.stands(left_of_row[row as usize], &counts.after);
        let fresh: Vec<u32> = (0..left.len() as u32).filter(is_fresh).collect();
        let mut out = Output::new(self, states.bounds);
        out.alone(&old, &moved, Some(&signs))?;
        out.alone(left, &fresh, None)?;
        out.finish()
    }
}

impl Judged {
    fn stands(self, key: Option<u32>, counts: &[i64]) -> bool {
        match self {
            Self::AllStand => true,
            Self::NoneStands => false,
            Self::ByKey => key.is_some_and(|key| counts[key as usize] <= 0),
        }
    }
}

impl Totals {
    fn judged(self) -> Judged {
        match self {
            Self { rows: 0, .. } => Judged::AllStand,
            Self { nulls: 1.., .. } => Judged::NoneStands,
            _ => Judged::ByKey,
        }
    }

    fn bytes(self) -> Vec<u8> {
        [self.rows.to_le_bytes(), self.nulls.to_le_bytes()].concat()
    }

    fn read(value: &[u8]) -> Result<Self> {
        let totals = value.split_first_chunk::<8>().and_then(|(rows, nulls)| {
            let nulls = <[u8; 8]>::try_from(nulls).ok()?;
            Some(Self { rows: i64::from_le_bytes(*rows), nulls: i64::from_le_bytes(nulls) })
        });
        match totals {
            Some(totals) if totals.rows > 0 && (0..=totals.rows).contains(&totals.nulls) => Ok(totals),
            _ => Err(broken("the totals of a side cannot be read")),
        }
    }
}

fn broken(what: &'static str) -> Error {
    Error::Broken { node: "not in".to_owned(), what }
}
