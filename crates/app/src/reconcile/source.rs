//! `reconcile source`: every table against its source, both as they were at one place of the source's log.
//!
//! The source is read whole in one transaction whose place X in the log is known ([`connect::WholeReader`]). What we have is
//! of another place, later where the instance runs on, earlier where it is stopped: the log between the two is read once
//! more, beside the one that is followed, and its changes are taken from our checksums or added to them. So no lag can look
//! like a difference, nothing is locked, and nothing waits.
//!
//! Checksums ([`super::sums`]) find the buckets in which the sides differ; only of these are rows held and compared. A
//! difference counts when two comparisons, each at a place of its own, have found it under the same key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connect::{
    Absence, Failure, FollowedTable, Limits, Load, Source, SourceEvent, SourceState, TableFacts, TablePlace,
    WholeReader,
};
use engine::stored::Stored;
use plan::TableName;
use relation::{Layout, Position, Schema, SourceBatch, TableId};
use store::Snapshot;
use tokio::sync::mpsc;

use super::sums::{Dealer, LISTED_BYTES_MAX, Listing, Sides, Sums};
use crate::setup::Setup;
use crate::sources::said;

/// Rows of each side that are shown where they differ.
const SHOWN_MAX: usize = 5;
/// How often the instance is looked at until it has seen what the source was read at.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of a transaction in parts that are held until its end is known.
const HELD_BYTES_MAX: usize = 256 << 20;
/// Looks without any progress after which nobody waits any longer: a minute.
const LOOKS_MAX: u32 = 3_000;

/// A table of ours that is to be compared.
#[derive(Debug, Clone)]
pub struct OurTable {
    pub name: TableName,
    pub place: TablePlace,
    /// How it is stored, or why it cannot be compared now.
    pub stored: Result<Stored, String>,
}

/// What we have of a source, and how it is read.
pub struct Ours {
    /// The source's name and number.
    pub source: String,
    pub number: u32,
    pub tables: Vec<OurTable>,
    pub positions: engine::Positions,
    /// The newest step.
    pub view: Box<dyn Fn() -> Snapshot + Send + Sync>,
    /// Whether steps go on.
    pub is_running: bool,
}

impl Ours {
    /// The tables of a source in an engine, by where they are in it.
    pub fn tables(engine: &engine::Engine, source: &str, places: &[(TableName, TablePlace)]) -> Vec<OurTable> {
        let number = engine.source(source);
        let stored = |name: &TableName| {
            let of_name = engine.tables().find(|table| table.name == *name && Some(table.source) == number);
            let table = of_name.ok_or("it is not followed here: see `tidemill status`")?;
            match &table.load {
                engine::Load::Complete => {}
                engine::Load::Loading { .. } | engine::Load::Reloading { .. } | engine::Load::Sweeping { .. } => {
                    return Err("it is being loaded".to_owned());
                }
                engine::Load::Altered { reason, .. } => {
                    return Err(format!("it is loaded anew with other columns: {reason}"));
                }
                engine::Load::Partial => {
                    return Err("it holds what the log says from some place on, and no more".to_owned());
                }
                engine::Load::Parked { reason } => return Err(format!("it is parked: {reason}")),
            }
            Ok(engine.relation(table.id).ok_or("it is not stored")?.clone())
        };
        let table = |(name, place): &(TableName, TablePlace)| OurTable {
            name: name.clone(),
            place: place.clone(),
            stored: stored(name),
        };
        places.iter().map(table).collect()
    }
}

/// How a table compares.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Compared {
    pub source: String,
    pub schema: String,
    pub table: String,
    /// None where it could not be compared.
    pub equal: Option<bool>,
    /// Rows that we have, and that the source has, at the same place of its log.
    pub rows: i64,
    pub rows_expected: i64,
    /// Some of the rows that only we have, and that only the source has: JSON objects.
    pub only_kept: Vec<String>,
    pub only_expected: Vec<String>,
    pub message: String,
}

impl Compared {
    fn new(ours: &Ours, table: &OurTable, message: String) -> Self {
        Self {
            source: ours.source.clone(),
            schema: table.name.schema.clone(),
            table: table.name.name.clone(),
            equal: None,
            rows: 0,
            rows_expected: 0,
            only_kept: Vec::new(),
            only_expected: Vec::new(),
            message,
        }
    }
}

/// A source of a project, and the names and places of its tables.
pub type Feed = (String, Arc<dyn Source>, Vec<(TableName, TablePlace)>);

/// The sources of a project, or the one of a name. Errors: there is none of that name.
pub async fn feeds(setup: &Setup, wanted: Option<&str>) -> anyhow::Result<Vec<Feed>> {
    let mut found = Vec::new();
    let mut known = Vec::new();
    for feed in setup.feeds()? {
        known.push(feed.connection.name.clone());
        if wanted.is_some_and(|wanted| wanted != feed.connection.name) {
            continue;
        }
        let names = feed.tables.iter().map(|table| TableName::new(&table.source, &table.name));
        let places = names.zip(feed.wanted()).collect();
        found.push((feed.connection.name.clone(), feed.source().await?, places));
    }
    if known.is_empty() {
        anyhow::bail!(
            "the project has no source to compare with\nHint: Name tables under `sources:`, and where they are in connections.yml."
        );
    }
    if let (Some(wanted), true) = (wanted, found.is_empty()) {
        anyhow::bail!("there is no source \"{wanted}\"\nHint: One of: {}.", known.join(", "));
    }
    Ok(found)
}

/// How fast a source is read, and who is told how far it is.
pub struct Pace<'a> {
    pub rows_per_second: Option<u64>,
    pub progress: &'a (dyn Fn(String) + Send + Sync),
}

/// Compares the tables of a source. What cannot be compared is in the answer as well, with the reason.
pub async fn compare(source: &Arc<dyn Source>, ours: &Ours, pace: &Pace<'_>) -> Vec<Compared> {
    let tables: Vec<&OurTable> = ours.tables.iter().collect();
    let mut found = round(source, ours, &tables, pace).await;
    let again: Vec<usize> = (0..found.len()).filter(|&at| found[at].wants_another()).collect();
    if !again.is_empty() {
        (pace.progress)(format!("{} tables differ: comparing them once more", again.len()));
        let differing: Vec<&OurTable> = again.iter().map(|&at| tables[at]).collect();
        for (at, second) in again.into_iter().zip(round(source, ours, &differing, pace).await) {
            found[at] = second.after(&found[at], tables[at]);
        }
    }
    tables.into_iter().zip(found).map(|(table, found)| found.told(ours, table)).collect()
}

/// How a table is stored and what it is in its source, or why it cannot be compared.
fn comparable(table: &OurTable, facts: Result<TableFacts, Absence>) -> Result<(&Stored, TableFacts), String> {
    let stored = table.stored.as_ref().map_err(Clone::clone)?;
    let facts = facts.map_err(|Absence(reason)| format!("table {} cannot be read: {reason}", table.place))?;
    let facts = match table.place.columns.keeps(&stored.schema, &facts.schema) {
        true => TableFacts { schema: stored.schema.clone(), ..facts },
        false => facts,
    };
    match facts.schema == stored.schema {
        true => Ok((stored, facts)),
        false => Err("its columns are others in the source now".to_owned()),
    }
}

fn failed(failure: Failure) -> anyhow::Error {
    anyhow::anyhow!(said(&failure))
}

/// What one comparison of a table found.
#[derive(Debug, Clone)]
struct Found {
    rows: i64,
    rows_expected: i64,
    unreadable: u64,
    verdict: Verdict,
}

#[derive(Debug, Clone)]
enum Verdict {
    Equal,
    /// By these rows; none where they are too many to be listed.
    Differs(Option<Sides>),
    /// Why there is no answer.
    Unknown(String),
}

impl Found {
    fn unknown(reason: String) -> Self {
        Self { rows: 0, rows_expected: 0, unreadable: 0, verdict: Verdict::Unknown(reason) }
    }

    /// Whether another comparison may tell more.
    fn wants_another(&self) -> bool {
        !matches!(self.verdict, Verdict::Equal)
    }

    /// What counts of a second comparison, after the first one.
    fn after(mut self, first: &Self, table: &OurTable) -> Self {
        let (Verdict::Differs(sides), Ok(stored)) = (&mut self.verdict, &table.stored) else { return self };
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

    fn told(self, ours: &Ours, table: &OurTable) -> Compared {
        let mut compared = Compared::new(ours, table, String::new());
        (compared.rows, compared.rows_expected) = (self.rows, self.rows_expected);
        match self.verdict {
            Verdict::Unknown(reason) => {
                compared.message = reason;
                return compared;
            }
            Verdict::Equal => compared.equal = Some(true),
            Verdict::Differs(sides) => {
                compared.equal = Some(false);
                compared.message = "they differ by more rows than can be listed".to_owned();
                if let (Some(sides), Ok(stored)) = (sides, &table.stored) {
                    let (here, there) = (sides.ours.len(), sides.theirs.len());
                    compared.message = format!("{here} rows are only here, {there} only in the source");
                    compared.only_kept = shown(&stored.schema, &sides.ours);
                    compared.only_expected = shown(&stored.schema, &sides.theirs);
                }
            }
        }
        if self.unreadable > 0 {
            compared.message.push_str(&format!(" ({} rows that cannot be read are left out)", self.unreadable));
        }
        compared
    }
}

fn shown(schema: &Schema, rows: &[Vec<u8>]) -> Vec<String> {
    let layout = Layout::new(schema.types());
    let object = |row: &Vec<u8>| {
        let values = layout.values(row);
        crate::output::json_row(schema.columns.iter().map(|column| &column.name).zip(&values))
    };
    rows.iter().take(SHOWN_MAX).map(object).collect()
}

/// Compares tables once.
async fn round(source: &Arc<dyn Source>, ours: &Ours, tables: &[&OurTable], pace: &Pace<'_>) -> Vec<Found> {
    match try_round(source, ours, tables, pace).await {
        Ok(found) => found,
        Err(error) => tables.iter().map(|_| Found::unknown(format!("{error:#}"))).collect(),
    }
}

async fn try_round(
    source: &Arc<dyn Source>,
    ours: &Ours,
    tables: &[&OurTable],
    pace: &Pace<'_>,
) -> anyhow::Result<Vec<Found>> {
    let places: Vec<TablePlace> = tables.iter().map(|table| table.place.clone()).collect();
    let facts = source.describe(&places).await.map_err(|unanswered| failed(unanswered.failure))?;
    // None where both sides are read.
    let mut found: Vec<Option<Found>> = Vec::with_capacity(tables.len());
    let mut pairs = Vec::new();
    for (table, facts) in tables.iter().zip(facts) {
        match comparable(table, facts) {
            Ok((stored, facts)) => {
                pairs.push(Pair::new(table, stored, facts));
                found.push(None);
            }
            Err(reason) => found.push(Some(Found::unknown(reason))),
        }
    }
    if !pairs.is_empty() {
        let mut whole = source.open_whole().await.map_err(failed)?;
        let read = read_pairs(&**source, ours, &mut pairs, pace, whole.as_mut()).await;
        whole.close().await;
        read?;
    }
    let mut pairs = pairs.into_iter();
    Ok(found.into_iter().filter_map(|found| found.or_else(|| pairs.next().map(Pair::found))).collect())
}

/// A table's two sides while they are read.
struct Pair<'a> {
    table: &'a OurTable,
    stored: &'a Stored,
    followed: FollowedTable,
    ours: Sums,
    theirs: Sums,
    unreadable: u64,
    listing: Option<Listing>,
    /// Why there will be no answer.
    trouble: Option<String>,
}

impl<'a> Pair<'a> {
    fn new(table: &'a OurTable, stored: &'a Stored, facts: TableFacts) -> Self {
        let dealer = Dealer::new(&stored.schema);
        let followed = FollowedTable { id: stored.id, place: table.place.clone(), facts, load: Load::Complete };
        let (ours, theirs) = (Sums::new(dealer.clone()), Sums::new(dealer));
        Self { table, stored, followed, ours, theirs, unreadable: 0, listing: None, trouble: None }
    }

    fn found(self) -> Found {
        let verdict = match (self.trouble, self.listing) {
            (Some(reason), _) => Verdict::Unknown(reason),
            (None, None) => Verdict::Equal,
            (None, Some(listing)) => Verdict::Differs(listing.sides()),
        };
        let (rows, rows_expected) = (self.ours.rows(), self.theirs.rows());
        Found { rows, rows_expected, unreadable: self.unreadable, verdict }
    }
}

/// Reads both sides of all pairs, and once more those that differ. Errors: nothing can be said of any.
async fn read_pairs(
    source: &dyn Source,
    ours: &Ours,
    pairs: &mut [Pair<'_>],
    pace: &Pace<'_>,
    whole: &mut dyn WholeReader,
) -> anyhow::Result<()> {
    let (snapshot, gap) = ours_near(source, ours, &whole.position().clone()).await?;
    let followed: Vec<FollowedTable> = pairs.iter().map(|pair| pair.followed.clone()).collect();
    let at: BTreeMap<TableId, usize> = followed.iter().enumerate().map(|(i, table)| (table.id, i)).collect();
    for pair in pairs.iter_mut() {
        (pace.progress)(format!("reading {}", pair.table.name));
        let theirs = &mut pair.theirs;
        match whole.read(&pair.followed, pace.rows_per_second, &mut |row| theirs.add(row, 1)).await {
            Ok(read) => pair.unreadable = read.unreadable,
            Err(failure) => pair.trouble = Some(said(&failure)),
        }
        let ours = &mut pair.ours;
        scan(&snapshot, pair.stored, |row, weight| ours.add(row, weight))?;
    }
    between(source, &followed, &gap, &mut |change| match change {
        Between::Row(id, row, weight) => {
            if let Some(&i) = at.get(&id) {
                pairs[i].ours.add(row, weight * gap.sign);
            }
        }
        Between::Trouble(id, reason) => {
            if let Some(&i) = at.get(&id) {
                pairs[i].trouble = Some(reason);
            }
        }
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
        return Ok(());
    }
    for (i, buckets) in &differing {
        let pair = &mut pairs[*i];
        let mut listing = Listing::new(Dealer::new(&pair.stored.schema), buckets, LISTED_BYTES_MAX / differing.len());
        scan(&snapshot, pair.stored, |row, weight| listing.add(row, weight))?;
        match whole.read(&pair.followed, pace.rows_per_second, &mut |row| listing.add(row, -1)).await {
            Ok(_) => pair.listing = Some(listing),
            Err(failure) => pair.trouble = Some(said(&failure)),
        }
    }
    between(source, &followed, &gap, &mut |change| {
        if let Between::Row(id, row, weight) = change
            && let Some(&i) = at.get(&id)
            && let Some(listing) = &mut pairs[i].listing
        {
            listing.add(row, weight * gap.sign);
        }
    })
    .await
}

/// Two places of a log, and how our rows come from the one to the other.
struct Gap {
    from: Position,
    to: Position,
    /// 1: changes in between are added to ours; −1: they are taken from them.
    sign: i64,
}

/// A step of ours whose place in the log is known, and the way from it to the place at which the source is read.
async fn ours_near(source: &dyn Source, ours: &Ours, place: &Position) -> anyhow::Result<(Snapshot, Gap)> {
    let mut seen = None;
    let mut looks = 0;
    loop {
        let snapshot = (ours.view)();
        let at = ours.positions.at(&snapshot, ours.number)?;
        let Some(at) = at else { anyhow::bail!("source \"{}\" has brought nothing yet", ours.source) };
        if source.reached(&at, place).map_err(failed)? {
            return Ok((snapshot, Gap { from: place.clone(), to: at, sign: -1 }));
        }
        if !ours.is_running {
            return Ok((snapshot, Gap { from: at, to: place.clone(), sign: 1 }));
        }
        looks = if seen.as_ref() == Some(&at) { looks + 1 } else { 0 };
        if looks > LOOKS_MAX {
            anyhow::bail!(
                "source \"{}\" does not get on: it stands at {at}\nHint: See its state with `tidemill status`.",
                ours.source
            );
        }
        seen = Some(at);
        tokio::time::sleep(LOOK).await;
    }
}

fn scan(snapshot: &Snapshot, stored: &Stored, mut each: impl FnMut(&[u8], i64)) -> anyhow::Result<()> {
    // Millions of rows: other tasks go on elsewhere meanwhile.
    tokio::task::block_in_place(|| {
        for entry in snapshot.scan(stored.id, &[]) {
            let (_, value) = entry?;
            let (row, weight) = stored.row_of(&value)?;
            each(row, weight);
        }
        Ok(())
    })
}

enum Between<'a> {
    Row(TableId, &'a [u8], i64),
    /// Something else than rows has happened to a table.
    Trouble(TableId, String),
}

/// The changes of a log between two places.
async fn between(
    source: &dyn Source,
    tables: &[FollowedTable],
    gap: &Gap,
    each: &mut (dyn FnMut(Between<'_>) + Send),
) -> anyhow::Result<()> {
    if source.reached(&gap.from, &gap.to).map_err(failed)? {
        return Ok(());
    }
    // Batches of one transaction, so that one of them ends where the gap ends.
    let limits = Limits { transactions_max: 1, ..Limits::default() };
    let (mut events, control) = source.start(tables.to_vec(), Some(gap.from.clone()), limits);
    let reached = |current: &Position, target: &Position| source.reached(current, target).map_err(failed);
    let told = tell_until(&mut events, &gap.to, reached, each).await;
    control.stop().await;
    told
}

/// Tells what a log's events bring up to a place, which is the end of a transaction.
async fn tell_until(
    events: &mut mpsc::Receiver<SourceEvent>,
    place: &Position,
    reached: impl Fn(&Position, &Position) -> anyhow::Result<bool>,
    each: &mut (dyn FnMut(Between<'_>) + Send),
) -> anyhow::Result<()> {
    let mut parts: Vec<SourceBatch> = Vec::new();
    let mut bytes = 0;
    loop {
        let Some(event) = events.recv().await else { anyhow::bail!("the log could not be read again") };
        match event {
            SourceEvent::Batch(batch) => {
                if batch.part.is_none_or(|part| part.is_first()) {
                    parts.clear();
                    bytes = 0;
                }
                bytes += batch.bytes();
                let is_whole = batch.part.is_none_or(|part| part.is_last);
                let end = batch.position.clone();
                parts.push(batch);
                if bytes > HELD_BYTES_MAX {
                    for (table, _) in parts.drain(..).flat_map(|part| part.tables) {
                        let reason = "a transaction too large to be held came meanwhile: compare it once more";
                        each(Between::Trouble(table, reason.to_owned()));
                    }
                }
                // Where a transaction ends is known with its last part, and one behind the place is none of ours.
                if is_whole && !reached(place, &end)? {
                    return Ok(());
                }
                if is_whole {
                    parts.drain(..).for_each(|part| tell(&part, each));
                    if reached(&end, place)? {
                        return Ok(());
                    }
                }
            }
            SourceEvent::Parked { table, reason }
            | SourceEvent::Reload { table, reason }
            | SourceEvent::Altered { table, statement: reason } => each(Between::Trouble(table, reason)),
            SourceEvent::State(SourceState::Stalled, message) => {
                anyhow::bail!("the source's log cannot be read: {message}\nHint: Compare once more when it can.")
            }
            SourceEvent::Failed(failure) => return Err(failed(failure)),
            SourceEvent::State(..) | SourceEvent::Rejected(_) => {}
        }
    }
}

fn tell(batch: &SourceBatch, each: &mut (dyn FnMut(Between<'_>) + Send)) {
    for (id, changes) in &batch.tables {
        if changes.truncated {
            each(Between::Trouble(*id, "it was emptied meanwhile: compare it once more".to_owned()));
        }
        for (row, &weight) in changes.rows.iter().zip(&changes.weights) {
            each(Between::Row(*id, row, i64::from(weight)));
        }
    }
}

#[cfg(test)]
mod tests {
    use relation::{Rows, TableChanges, TransactionPart};

    use super::*;

    fn row(byte: u8, position: &str, part: Option<(u32, bool)>) -> SourceEvent {
        let mut rows = Rows::new();
        rows.push(&[byte]);
        let changes = TableChanges { rows, weights: vec![1], truncated: false };
        SourceEvent::Batch(SourceBatch {
            tables: vec![(TableId(1), changes)],
            position: Position(position.to_owned()),
            part: part.map(|(number, is_last)| TransactionPart { number, is_last }),
            ..SourceBatch::default()
        })
    }

    /// What is told of these events up to the place 5, and how that ended. Positions are digits.
    async fn told(said: Vec<SourceEvent>) -> (Vec<u8>, Result<(), String>) {
        let (sender, mut events) = mpsc::channel(said.len().max(1));
        for event in said {
            sender.send(event).await.unwrap();
        }
        drop(sender);
        let mut bytes = Vec::new();
        let mut each = |change: Between<'_>| match change {
            Between::Row(_, row, _) => bytes.extend_from_slice(row),
            Between::Trouble(_, reason) => bytes.extend_from_slice(reason.as_bytes()),
        };
        let place = Position("5".to_owned());
        let ended = tell_until(&mut events, &place, |current, target| Ok(current >= target), &mut each).await;
        let ended = ended.map_err(|error| error.to_string());
        (bytes, ended)
    }

    #[tokio::test]
    async fn a_transaction_counts_if_it_ends_up_to_the_place() {
        let up_to = vec![row(1, "3", None), row(2, "5", None), row(3, "6", None)];
        assert_eq!(told(up_to).await, (vec![1, 2], Ok(())));
        let past = vec![row(1, "3", None), row(3, "6", None)];
        assert_eq!(told(past).await, (vec![1], Ok(())));
    }

    #[tokio::test]
    async fn parts_count_with_their_last_one_and_void_ones_do_not() {
        let (first, second) = (Some((1, false)), Some((2, true)));
        let whole = vec![row(1, "", first), row(2, "", first), row(3, "5", second)];
        assert_eq!(told(whole).await, (vec![2, 3], Ok(())));
        let rolled_back = vec![row(1, "", first), row(2, "5", None)];
        assert_eq!(told(rolled_back).await, (vec![2], Ok(())));
        let past = vec![row(1, "", first), row(2, "6", second)];
        assert_eq!(told(past).await, (vec![], Ok(())));
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_read_is_not_waited_for() {
        let stalled = SourceEvent::State(SourceState::Stalled, "it was purged".to_owned());
        let (bytes, ended) = told(vec![row(1, "3", None), stalled]).await;
        assert_eq!(bytes, [1]);
        assert!(ended.unwrap_err().contains("it was purged"));
        let (_, ended) = told(vec![row(1, "3", None)]).await;
        assert_eq!(ended.unwrap_err(), "the log could not be read again");
    }
}
