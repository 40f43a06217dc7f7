//! `resnapshot TABLE --where`: the rows of a source for which a condition holds take the place of ours.
//!
//! They are read at a place X of the source's log, and each is looked for in a step of ours at X or behind it: what is
//! different here, and what only we have, is a *difference*. Then the source stands still for a moment at a place P, and the
//! log from X to P says of which keys it has told since: those are as the log says. All others are put right at P by an
//! ordinary batch of changes, so that models follow, and the source goes on from P. Law: a key that the log has not touched
//! between X and P is in the source at P what it was at X.
//!
//! Until that batch is there nothing is changed, so whatever ends this before has done nothing; a large one comes in several
//! steps, each of which puts whole rows right.
//!
//! A source may have a commit in its log that is not yet among its rows ([`connect::WholeReader::counts_after`]): the log has told us
//! of it, and what is read there is older. A difference counts there if it is found again after such a time.
//!
//! Rows that only we have can be told where the condition can be evaluated here ([`super::condition`]). Otherwise they are
//! not looked for, which the answer says.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use connect::{FollowedTable, Load, Source, WholePace, WholePart};
use engine::stored::Stored;
use plan::TableName;
use relation::{Position, SourceBatch, TableId};
use store::Snapshot;

use crate::counted::counted;

use super::condition::Condition;
use super::gap::{Between, Gap, between, ours_near};
use super::source::{Ours, as_kept, failed};

/// Bytes of rows that differ which are held.
const DIFFERING_BYTES_MAX: usize = 64 << 20;
/// Rows of the source whose keys are remembered to find those that only we have: 16 bytes each, and as much again.
const REMEMBERED_ROWS_MAX: usize = 4_000_000;
/// Bytes of a batch.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// What is to be put right.
#[derive(Debug, Clone)]
pub struct Amendment {
    pub name: TableName,
    /// The table as it is in its source, and its number.
    pub followed: FollowedTable,
    stored: Stored,
    /// Where the source was read.
    at: Position,
    /// Rows of the source for which the condition holds.
    rows: u64,
    unreadable: u64,
    /// Whether rows that only we have were looked for.
    sweeps: bool,
    differing: Vec<Differing>,
}

/// A key of which we have something else than the source.
#[derive(Debug, Clone)]
struct Differing {
    key: Vec<u8>,
    ours: Option<Vec<u8>>,
    theirs: Option<Vec<u8>>,
}

/// What has become of an amendment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amended {
    came: u64,
    changed: u64,
    went: u64,
    /// Keys of which the log has told meanwhile.
    by_log: u64,
}

/// Looks for what differs among the rows for which a condition holds. `ours` has that table alone. Where a commit may be in the
/// source's log and not yet among its rows, what differs counts if it is found twice, at two places. Errors: the source's word
/// about the condition among them; nothing is changed by any.
pub async fn look(source: &Arc<dyn Source>, ours: &Ours, condition: &str) -> anyhow::Result<Amendment> {
    let (found, counts_after) = look_once(source, ours, condition).await?;
    let Some(pause) = counts_after.filter(|_| !found.is_empty()) else { return Ok(found) };
    // Counted by the machine's uptime: a clock that is set does not matter.
    tokio::time::sleep(pause).await;
    let (mut again, _) = look_once(source, ours, condition).await?;
    again.differing = found_twice(again.differing, &found.differing);
    Ok(again)
}

/// What the first look has found, too: the same row of the source, or none. A key of which that is another one is as the log says.
fn found_twice(mut again: Vec<Differing>, first: &[Differing]) -> Vec<Differing> {
    let theirs: BTreeMap<&[u8], &Option<Vec<u8>>> =
        first.iter().map(|differing| (differing.key.as_slice(), &differing.theirs)).collect();
    again.retain(|differing| theirs.get(differing.key.as_slice()) == Some(&&differing.theirs));
    again
}

async fn look_once(
    source: &Arc<dyn Source>,
    ours: &Ours,
    condition: &str,
) -> anyhow::Result<(Amendment, Option<Duration>)> {
    let [table] = &ours.tables[..] else { bail!("one table at a time") };
    let stored = table.stored.as_ref().map_err(|reason| anyhow::anyhow!("table {}: {reason}", table.name))?.clone();
    if !stored.is_keyed() {
        bail!(
            "table {0} has no key: which of its rows is which cannot be told\nHint: `tidemill resnapshot {0}` loads all of it \
             again.",
            table.name
        );
    }
    let facts = source.describe(std::slice::from_ref(&table.place)).await.map_err(|u| failed(u.failure))?;
    let Some(Ok(facts)) = facts.into_iter().next() else { bail!("table {} is not there in its source", table.name) };
    let facts = as_kept(table, &stored, facts);
    if facts.schema != stored.schema {
        bail!("table {}: its columns are others in the source now", table.name);
    }
    let followed = FollowedTable { id: stored.id, place: table.place.clone(), facts, load: Load::Complete };
    let mut whole = source.open_whole().await.map_err(failed)?;
    let (at, counts_after) = (whole.position().clone(), whole.counts_after());
    let snapshot = match ours_near(&**source, ours, &at).await {
        Ok((snapshot, _)) => snapshot,
        Err(error) => {
            whole.close().await;
            return Err(error);
        }
    };
    let here = Condition::parse(condition, &stored.schema);
    let mut found = Finding::new(&stored, &snapshot, here.is_some());
    let part = WholePart { condition: Some(condition.to_owned()), ..WholePart::default() };
    let read = whole.read(&followed, &part, WholePace::default(), &mut |row| found.theirs(row)).await;
    whole.close().await;
    let read = read.map_err(failed)?;
    // A row that cannot be read is there all the same, and which one it is is not known here.
    let here = here.filter(|_| read.unreadable == 0);
    if let Some(here) = &here {
        found.ours(here)?;
    }
    let sweeps = here.is_some();
    let differing = found.ended(&table.name)?;
    let (rows, unreadable, name) = (read.rows, read.unreadable, table.name.clone());
    Ok((Amendment { name, followed, stored, at, rows, unreadable, sweeps, differing }, counts_after))
}

/// What is found while a source is read.
struct Finding<'a> {
    stored: &'a Stored,
    snapshot: &'a Snapshot,
    remembers: bool,
    /// Hashes of the keys that the source has.
    seen: HashSet<u128>,
    differing: Vec<Differing>,
    bytes: usize,
    key: Vec<u8>,
    failed: Option<anyhow::Error>,
    is_too_much: bool,
}

impl<'a> Finding<'a> {
    fn new(stored: &'a Stored, snapshot: &'a Snapshot, remembers: bool) -> Self {
        Self {
            stored,
            snapshot,
            remembers,
            seen: HashSet::new(),
            differing: Vec::new(),
            bytes: 0,
            key: Vec::new(),
            failed: None,
            is_too_much: false,
        }
    }

    fn add(&mut self, ours: Option<Vec<u8>>, theirs: Option<Vec<u8>>) {
        let row = |row: &Option<Vec<u8>>| row.as_ref().map_or(0, Vec::len);
        self.bytes += self.key.len() + row(&ours) + row(&theirs);
        self.is_too_much |= self.bytes > DIFFERING_BYTES_MAX;
        self.differing.push(Differing { key: self.key.clone(), ours, theirs });
    }

    /// A row of the source.
    fn theirs(&mut self, row: &[u8]) -> ControlFlow<()> {
        self.key.clear();
        self.stored.push_key(row, &mut self.key);
        if self.remembers {
            self.seen.insert(u128::from_le_bytes(relation::key::hash128(&self.key)));
            self.is_too_much |= self.seen.len() > REMEMBERED_ROWS_MAX;
        }
        match self.snapshot.get(self.stored.id, &self.key) {
            Ok(Some(ours)) if *ours == *row => {}
            Ok(ours) => self.add(ours.map(|ours| ours.to_vec()), Some(row.to_vec())),
            Err(error) => self.failed = Some(error.into()),
        }
        match self.failed.is_some() || self.is_too_much {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Rows of ours that the source does not have.
    fn ours(&mut self, condition: &Condition) -> anyhow::Result<()> {
        let (stored, snapshot) = (self.stored, self.snapshot);
        tokio::task::block_in_place(|| {
            for entry in snapshot.scan(stored.id, &[]) {
                if self.is_too_much {
                    break;
                }
                let (key, row) = entry?;
                if !condition.holds(&stored.layout, &row)
                    || self.seen.contains(&u128::from_le_bytes(relation::key::hash128(&key)))
                {
                    continue;
                }
                self.key = key.to_vec();
                self.add(Some(row.to_vec()), None);
            }
            Ok(())
        })
    }

    fn ended(self, name: &TableName) -> anyhow::Result<Vec<Differing>> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.is_too_much {
            bail!(
                "the condition is about more than can be put right at once\nDetail: {} MiB of rows that differ are held, and the \
                 keys of {REMEMBERED_ROWS_MAX} rows. Nothing was changed.\nHint: Narrow it, or load all of the table again: \
                 `tidemill resnapshot {name}`.",
                DIFFERING_BYTES_MAX >> 20
            );
        }
        Ok(self.differing)
    }
}

impl Amendment {
    /// Whether there is nothing to put right.
    pub fn is_empty(&self) -> bool {
        self.differing.is_empty()
    }

    /// The keys of which the log tells between the place where the source was read and another one.
    pub async fn touched(&self, source: &dyn Source, place: &Position) -> anyhow::Result<BTreeSet<Vec<u8>>> {
        let differing: BTreeSet<&[u8]> = self.differing.iter().map(|differing| differing.key.as_slice()).collect();
        let gap = Gap { from: self.at.clone(), to: place.clone(), sign: 1 };
        let (mut touched, mut trouble, mut key) = (BTreeSet::new(), None, Vec::new());
        between(source, std::slice::from_ref(&self.followed), &gap, &mut |change| match change {
            Between::Row(_, row, _) => {
                key.clear();
                self.stored.push_key(row, &mut key);
                // No more than differ are held.
                if differing.contains(key.as_slice()) {
                    touched.insert(key.clone());
                }
            }
            Between::Trouble(_, reason) => trouble = Some(reason),
            Between::Unreadable => {
                trouble = Some("a row that cannot be read came meanwhile: ask for it once more".to_owned());
            }
        })
        .await?;
        match trouble {
            Some(reason) => {
                bail!("table {}: {reason}\nHint: Nothing was changed. Give the order once more.", self.name)
            }
            None => Ok(touched),
        }
    }

    /// The changes that put right at a place what the log has not told of since, and what they are. A key that is not as it
    /// was when it was looked at is somebody else's by now.
    pub fn batches(
        &self,
        view: &Snapshot,
        touched: &BTreeSet<Vec<u8>>,
        place: &Position,
    ) -> anyhow::Result<(Vec<SourceBatch>, Amended)> {
        let mut batches: Vec<SourceBatch> = Vec::new();
        let mut amended = Amended::default();
        for Differing { key, ours, theirs } in &self.differing {
            let now = view.get(self.stored.id, key)?;
            if touched.contains(key) || now.as_deref() != ours.as_deref() {
                amended.by_log += 1;
                continue;
            }
            let count = match (ours, theirs) {
                (None, _) => &mut amended.came,
                (Some(_), Some(_)) => &mut amended.changed,
                (Some(_), None) => &mut amended.went,
            };
            *count += 1;
            if batches.last().is_none_or(|batch| batch.bytes() > BATCH_BYTES_MAX) {
                batches.push(SourceBatch { position: place.clone(), ..SourceBatch::default() });
            }
            let Some(batch) = batches.last_mut() else { continue };
            let changes = batch.table(self.stored.id);
            for (row, weight) in [(ours, -1), (theirs, 1)] {
                if let Some(row) = row {
                    changes.rows.push(row);
                    changes.weights.push(weight);
                }
            }
        }
        Ok((batches, amended))
    }

    /// The table's number.
    pub fn table(&self) -> TableId {
        self.stored.id
    }

    /// What was done, in lines for people.
    pub fn told(&self, amended: Amended) -> Vec<String> {
        let Amended { came, changed, went, by_log } = amended;
        let name = &self.name;
        let differed = came + changed + went;
        let mut lines = vec![format!(
            "{name}: the source has {} such rows; {differed} differed here: {came} came, {changed} changed, {went} went",
            self.rows
        )];
        if by_log > 0 {
            lines.push(format!("{name}: {by_log} more are as the log has told meanwhile"));
        }
        if self.unreadable > 0 {
            let are = if self.unreadable == 1 { "is left as it is" } else { "are left as they are" };
            lines.push(format!("{name}: {} that cannot be read {are}", counted(self.unreadable, "row")));
        }
        if !self.sweeps {
            lines.push(format!(
                "{name}: rows that only are here were not looked for, since only the source can tell which rows the condition \
                 means\nHint: `tidemill reconcile source` finds them; a condition over whole numbers of the key takes them along."
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::{Differing, found_twice};

    fn differing(key: u8, ours: Option<u8>, theirs: Option<u8>) -> Differing {
        let row = |row: Option<u8>| row.map(|byte| vec![byte]);
        Differing { key: vec![key], ours: row(ours), theirs: row(theirs) }
    }

    /// A commit that was in the log and not among the source's rows differs once, and so does one that comes meanwhile.
    #[test]
    fn a_difference_counts_that_is_found_twice() {
        let first = [
            differing(1, Some(2), Some(1)),
            differing(2, Some(2), Some(1)),
            differing(3, Some(2), Some(1)),
            differing(4, Some(2), None),
        ];
        let again = vec![
            differing(2, Some(3), Some(2)),
            differing(3, Some(2), Some(1)),
            differing(4, Some(2), None),
            differing(5, None, Some(1)),
        ];
        let keys: Vec<u8> = found_twice(again, &first).iter().map(|differing| differing.key[0]).collect();
        assert_eq!(keys, [3, 4]);
    }
}
