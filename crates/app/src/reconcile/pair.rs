//! A part of a table on both sides: read at one place of the source's log, summed up, and listed where the sums differ.
//!
//! A table whose key has the same order here and in its source is compared in portions, each by a range of keys; any other one
//! as a whole. A range is told by the key of its last row, which both sides know: the source by its cursor, we by the key's
//! bytes.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::time::Duration;

use connect::{FollowedTable, Load, ReadWhole, Source, TableFacts, WholePace, WholePart, WholeReader};
use engine::stored::Stored;
use relation::{DataType, Position, TableId};
use serde::{Deserialize, Serialize};
use store::Snapshot;

use super::gap::{Between, between, ours_near};
use super::source::{OurTable, Ours, Pace, failed};
use super::sums::{Dealer, LISTED_BYTES_MAX, Listing, Sides, Sums};
use crate::reason::Reason;

/// Tables of a round at most: their checksums are held at once.
const TABLES_MAX: usize = 64;

/// The last row of what was compared, as the source's cursor and as the key's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Edge {
    pub(super) cursor: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// Keys behind one row and up to another; without them from the first and to the last.
#[derive(Debug, Clone, Default)]
pub(super) struct Range {
    pub(super) after: Option<Edge>,
    pub(super) upto: Option<Vec<u8>>,
}

impl Range {
    fn is_all(&self) -> bool {
        self.after.is_none() && self.upto.is_none()
    }

    fn holds(&self, key: &[u8]) -> bool {
        self.after.as_ref().is_none_or(|edge| key > edge.key.as_slice())
            && self.upto.as_ref().is_none_or(|upto| key <= upto.as_slice())
    }
}

/// What of a table is to be compared.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    pub(super) table: &'a OurTable,
    pub(super) stored: &'a Stored,
    pub(super) facts: TableFacts,
    pub(super) range: Range,
}

impl Wanted<'_> {
    /// Whether the key's bytes here are in the order that the source has for it: numbers are. Text is in a collation's order
    /// there, and dates that no calendar has are shown as others here.
    fn is_ordered(&self) -> bool {
        let is_number = |&column: &usize| {
            let data_type = self.stored.schema.columns[column].data_type;
            matches!(
                data_type,
                DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt64 | DataType::Decimal { .. }
            )
        };
        !self.stored.schema.key.is_empty() && self.stored.schema.key.iter().all(is_number)
    }
}

/// What one comparison of a part found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) rows: i64,
    pub(super) rows_expected: i64,
    pub(super) unreadable: u64,
    pub(super) verdict: Verdict,
    /// What was compared, and where the next part begins; none: this was the last one.
    pub(super) range: Range,
    pub(super) next: Option<Edge>,
    pub(super) position: Position,
    pub(super) step: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Verdict {
    Equal,
    /// By these rows; none where they are too many to be listed.
    Differs(Option<Sides>),
    /// Why there is no answer.
    Unknown(String),
}

impl Found {
    /// Whether another comparison may tell more.
    pub(super) fn wants_another(&self) -> bool {
        !matches!(self.verdict, Verdict::Equal)
    }

    /// What counts of a second comparison, after the first one.
    pub(super) fn after(mut self, first: &Self, stored: &Stored) -> Self {
        let Verdict::Differs(sides) = &mut self.verdict else { return self };
        match (&first.verdict, sides.take()) {
            (Verdict::Differs(Some(earlier)), Some(later)) => {
                let both = later.also_in(earlier, &mut Dealer::new(&stored.schema));
                self.verdict = match both.is_empty() {
                    true => Verdict::Unknown("other rows differ each time that it is compared".to_owned()),
                    false => Verdict::Differs(Some(both)),
                };
            }
            (Verdict::Differs(_), later) => *sides = later,
            (Verdict::Equal | Verdict::Unknown(_), _) => {
                self.verdict =
                    Verdict::Unknown("it differs, which has been found only once: compare it once more".to_owned());
            }
        }
        self
    }
}

/// Compares parts of tables at one place of the log. With `rows_max` the tables are taken in their order until that many rows
/// were read, and only those are answered for; without it every one is. Answers also after what time a difference counts that is
/// found once more.
pub(super) async fn round(
    source: &Arc<dyn Source>,
    ours: &Ours,
    wanted: &[Wanted<'_>],
    rows_max: Option<u64>,
    pace: &Pace<'_>,
) -> anyhow::Result<(Vec<Found>, Option<Duration>)> {
    let mut whole = source.open_whole().await.map_err(failed)?;
    let mut pairs = Vec::new();
    let read = read_pairs(&**source, ours, wanted, rows_max, pace, whole.as_mut(), &mut pairs).await;
    let (position, counts_after) = (whole.position().clone(), whole.counts_after());
    whole.close().await;
    let step = read?;
    Ok((pairs.into_iter().map(|pair| pair.found(&position, step)).collect(), counts_after))
}

/// A part's two sides while they are read.
struct Pair<'a> {
    wanted: Wanted<'a>,
    followed: FollowedTable,
    ours: Sums,
    theirs: Sums,
    read: ReadWhole,
    next: Option<Edge>,
    listing: Option<Listing>,
    /// Why there will be no answer.
    trouble: Option<String>,
}

impl<'a> Pair<'a> {
    fn new(wanted: &Wanted<'a>) -> Self {
        let dealer = Dealer::new(&wanted.stored.schema);
        let followed = FollowedTable {
            id: wanted.stored.id,
            place: wanted.table.place.clone(),
            facts: wanted.facts.clone(),
            load: Load::Complete,
        };
        let (ours, theirs) = (Sums::new(dealer.clone()), Sums::new(dealer));
        let wanted = wanted.clone();
        Self { wanted, followed, ours, theirs, read: ReadWhole::default(), next: None, listing: None, trouble: None }
    }

    fn found(self, position: &Position, step: u64) -> Found {
        let verdict = match (self.trouble, self.listing) {
            (Some(reason), _) => Verdict::Unknown(reason),
            (None, None) => Verdict::Equal,
            (None, Some(listing)) => Verdict::Differs(listing.sides()),
        };
        Found {
            rows: self.ours.rows(),
            rows_expected: self.theirs.rows(),
            unreadable: self.read.unreadable,
            verdict,
            range: self.wanted.range,
            next: self.next,
            position: position.clone(),
            step,
        }
    }

    /// Sums up the source's side, and ends the range where the reading ends.
    async fn read_theirs(&mut self, whole: &mut dyn WholeReader, rows_max: u64, pace: WholePace) {
        let (stored, range) = (self.wanted.stored, &self.wanted.range);
        let is_ordered = self.wanted.is_ordered();
        // Where the end is known, the rows that are read may be others than last time.
        let rows_max = (is_ordered && range.upto.is_none()).then_some(rows_max);
        let part = WholePart { after: range.after.as_ref().map(|edge| edge.cursor.clone()), rows_max, condition: None };
        let mut last = range.after.as_ref().map(|edge| edge.key.clone()).unwrap_or_default();
        let mut is_strange = false;
        let theirs = &mut self.theirs;
        let mut key = Vec::new();
        let read = whole
            .read(&self.followed, &part, pace, &mut |row| {
                if is_ordered {
                    key.clear();
                    stored.push_key(row, &mut key);
                    is_strange |= key <= last;
                    if range.upto.as_ref().is_some_and(|upto| key > *upto) {
                        return ControlFlow::Break(());
                    }
                    last.clone_from(&key);
                }
                theirs.add(row, 1);
                ControlFlow::Continue(())
            })
            .await;
        match read {
            Ok(_) if is_strange => {
                self.trouble = Some("its keys come in another order than they have here".to_owned());
            }
            Ok(read) => {
                if let Some(cursor) = read.next.clone() {
                    self.wanted.range.upto = Some(last.clone());
                    self.next = Some(Edge { cursor, key: last });
                }
                self.read = read;
            }
            Err(failure) => self.trouble = Some(Reason::from(&failure).line()),
        }
    }

    fn scan_ours(&self, snapshot: &Snapshot, mut each: impl FnMut(&[u8], i64)) -> anyhow::Result<()> {
        let (stored, range) = (self.wanted.stored, &self.wanted.range);
        let from = range.after.as_ref().map_or(Bound::Unbounded, |edge| Bound::Excluded(edge.key.as_slice()));
        let upto = range.upto.as_ref().map_or(Bound::Unbounded, |upto| Bound::Included(upto.as_slice()));
        // A million rows: other tasks go on elsewhere meanwhile.
        tokio::task::block_in_place(|| {
            for entry in snapshot.range(stored.id, from, upto) {
                let (_, value) = entry?;
                let (row, weight) = stored.row_of(&value)?;
                each(row, weight);
            }
            Ok(())
        })
    }

    /// Whether a row is one of those that are compared.
    fn holds(&self, row: &[u8], key: &mut Vec<u8>) -> bool {
        if self.wanted.range.is_all() {
            return true;
        }
        key.clear();
        self.wanted.stored.push_key(row, key);
        self.wanted.range.holds(key)
    }
}

/// Reads both sides of the parts, and once more those that differ; answers the step of ours. Errors: nothing can be said of any.
async fn read_pairs<'a>(
    source: &dyn Source,
    ours: &Ours,
    wanted: &[Wanted<'a>],
    rows_max: Option<u64>,
    pace: &Pace<'_>,
    whole: &mut dyn WholeReader,
    pairs: &mut Vec<Pair<'a>>,
) -> anyhow::Result<u64> {
    let (snapshot, gap) = ours_near(source, ours, &whole.position().clone()).await?;
    let mut left = rows_max;
    for wanted in wanted.iter().take(TABLES_MAX) {
        if left == Some(0) {
            break;
        }
        let mut pair = Pair::new(wanted);
        pair.read_theirs(whole, left.unwrap_or(pace.portion_rows), pace.reading).await;
        left = left.map(|left| left.saturating_sub(pair.read.rows + pair.read.unreadable));
        let (mut sums, begun) = (pair.ours.clone(), tokio::time::Instant::now());
        pair.scan_ours(&snapshot, |row, weight| sums.add(row, weight))?;
        pair.ours = sums;
        let took = begun.elapsed();
        pairs.push(pair);
        // Our processor is somebody's too.
        tokio::time::sleep(pace.reading.pause_after(took)).await;
    }
    let followed: Vec<FollowedTable> = pairs.iter().map(|pair| pair.followed.clone()).collect();
    let at: BTreeMap<TableId, usize> = followed.iter().enumerate().map(|(i, table)| (table.id, i)).collect();
    let mut key = Vec::new();
    between(source, &followed, &gap, &mut |change| match change {
        Between::Row(id, row, weight) => {
            if let Some(&i) = at.get(&id)
                && pairs[i].holds(row, &mut key)
            {
                pairs[i].ours.add(row, weight * gap.sign);
            }
        }
        Between::Trouble(id, reason) => {
            if let Some(&i) = at.get(&id) {
                pairs[i].trouble = Some(reason);
            }
        }
        // Such a row is none here, and none of those that are read there.
        Between::Unreadable => {}
    })
    .await?;
    let differing: Vec<(usize, Vec<usize>)> = pairs
        .iter()
        .enumerate()
        .filter(|(_, pair)| pair.trouble.is_none())
        .map(|(i, pair)| (i, pair.ours.differing(&pair.theirs)))
        .filter(|(_, buckets)| !buckets.is_empty())
        .collect();
    if differing.is_empty() {
        return Ok(snapshot.step());
    }
    for (i, buckets) in &differing {
        let pair = &mut pairs[*i];
        let dealer = Dealer::new(&pair.wanted.stored.schema);
        let mut listing = Listing::new(dealer, buckets, LISTED_BYTES_MAX / differing.len());
        pair.scan_ours(&snapshot, |row, weight| listing.add(row, weight))?;
        let range = &pair.wanted.range;
        let part = WholePart {
            after: range.after.as_ref().map(|edge| edge.cursor.clone()),
            rows_max: pair.next.is_some().then_some(pair.read.rows + pair.read.unreadable),
            condition: None,
        };
        let read = whole
            .read(&pair.followed, &part, pace.reading, &mut |row| {
                if !pair.holds(row, &mut key) {
                    return ControlFlow::Break(());
                }
                listing.add(row, -1);
                ControlFlow::Continue(())
            })
            .await;
        match read {
            Ok(_) => pair.listing = Some(listing),
            Err(failure) => pair.trouble = Some(Reason::from(&failure).line()),
        }
    }
    between(source, &followed, &gap, &mut |change| {
        if let Between::Row(id, row, weight) = change
            && let Some(&i) = at.get(&id)
            && pairs[i].holds(row, &mut key)
            && let Some(listing) = &mut pairs[i].listing
        {
            listing.add(row, weight * gap.sign);
        }
    })
    .await?;
    Ok(snapshot.step())
}
