//! `reconcile source`: every table against its source, both as they were at one place of the source's log.
//!
//! The source is read whole in one transaction whose place X in the log is known ([`connect::WholeReader`]). What we have is
//! of another place, later where the instance runs on, earlier where it is stopped: the log between the two is read once
//! more, beside the one that is followed, and its changes are taken from our checksums or added to them. So no lag can look
//! like a difference, nothing is locked, and nothing waits.
//!
//! Checksums ([`super::sums`]) find the buckets in which the sides differ; only of these are rows held and compared. A
//! difference counts when two comparisons, each at a place of its own, have found it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connect::{Failure, FollowedTable, Limits, Load, Source, SourceEvent, TableFacts, TablePlace, WholeReader};
use engine::stored::Stored;
use plan::TableName;
use relation::{Layout, Position, Schema, SourceBatch, TableId};
use store::Snapshot;

use super::sums::{Dealer, Listing, Sides, Sums};
use crate::setup::Setup;
use crate::sources::said;

/// Rows of each side that are shown where they differ.
const SHOWN_MAX: usize = 5;
/// How often the instance is looked at until it has seen what the source was read at.
const LOOK: Duration = Duration::from_millis(20);
/// Looks without any progress after which nobody waits any longer: a minute.
const LOOKS_MAX: u32 = 3_000;

/// A table of ours that is to be compared.
#[derive(Debug, Clone)]
pub struct OurTable {
    pub name: TableName,
    pub place: TablePlace,
    pub stored: Stored,
    /// Why it cannot be compared now, or empty.
    pub unready: String,
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
    /// The tables of a source in an engine, with where they are in it.
    pub fn tables(engine: &engine::Engine, source: &str, places: &[(TableName, TablePlace)]) -> Vec<OurTable> {
        let number = engine.source(source);
        let table = |(name, place): &(TableName, TablePlace)| {
            let table = engine.tables().find(|table| table.name == *name && Some(table.source) == number)?;
            let unready = match &table.load {
                engine::Load::Complete => String::new(),
                engine::Load::Loading { .. } | engine::Load::Reloading { .. } | engine::Load::Sweeping { .. } => {
                    "it is being loaded".to_owned()
                }
                engine::Load::Altered { reason, .. } => format!("it is loaded anew with other columns: {reason}"),
                engine::Load::Partial => "it holds what the log says from some place on, and no more".to_owned(),
                engine::Load::Parked { reason } => format!("it is parked: {reason}"),
            };
            let stored = engine.relation(table.id)?.clone();
            Some(OurTable { name: name.clone(), place: place.clone(), stored, unready })
        };
        places.iter().filter_map(table).collect()
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

/// Compares the tables of a source. Errors: the source or the store cannot be read.
pub async fn compare(source: &Arc<dyn Source>, ours: &Ours, pace: &Pace<'_>) -> anyhow::Result<Vec<Compared>> {
    let mut compared = Vec::new();
    let mut ready = Vec::new();
    let places: Vec<TablePlace> = ours.tables.iter().map(|table| table.place.clone()).collect();
    let facts = source.describe(&places).await.map_err(failed)?;
    for (table, facts) in ours.tables.iter().zip(facts) {
        match comparable(table, facts.map_err(|absence| absence.0)) {
            Ok(facts) => ready.push((table, facts)),
            Err(reason) => compared.push(Compared::new(ours, table, reason)),
        }
    }
    if ready.is_empty() {
        return Ok(compared);
    }
    let first = round(source, ours, &ready, pace).await?;
    let again: Vec<_> =
        ready.iter().zip(&first).filter(|(_, found)| found.is_doubtful()).map(|(table, _)| table.clone()).collect();
    let mut second = BTreeMap::new();
    if !again.is_empty() {
        (pace.progress)(format!("{} tables differ: comparing them once more", again.len()));
        let found = round(source, ours, &again, pace).await?;
        second.extend(again.iter().zip(found).map(|((table, _), found)| (table.name.clone(), found)));
    }
    for ((table, _), found) in ready.iter().zip(first) {
        let found = match second.remove(&table.name) {
            Some(again) => found.confirmed_by(again),
            None => found,
        };
        compared.push(found.told(ours, table));
    }
    Ok(compared)
}

fn comparable(table: &OurTable, facts: Result<TableFacts, String>) -> Result<TableFacts, String> {
    if !table.unready.is_empty() {
        return Err(table.unready.clone());
    }
    let facts = facts.map_err(|reason| format!("table {} cannot be read: {reason}", table.place))?;
    if facts.schema != table.stored.schema {
        return Err("its columns are others in the source now".to_owned());
    }
    Ok(facts)
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
    /// Empty where the sides are equal; none where they differ by too many rows to be listed.
    sides: Option<Sides>,
    /// Why there is no answer, or empty.
    trouble: String,
}

impl Found {
    fn is_doubtful(&self) -> bool {
        !self.trouble.is_empty() || self.sides.as_ref().is_none_or(|sides| !sides.is_empty())
    }

    fn confirmed_by(self, again: Self) -> Self {
        if !again.trouble.is_empty() {
            return again;
        }
        let sides = match (&self.sides, &again.sides) {
            (Some(first), Some(second)) if self.trouble.is_empty() => Some(first.in_both(second)),
            // The later one is the better one where the first has told nothing.
            _ => again.sides.clone(),
        };
        Self { sides, ..again }
    }

    fn told(self, ours: &Ours, table: &OurTable) -> Compared {
        let mut compared = Compared::new(ours, table, String::new());
        (compared.rows, compared.rows_expected) = (self.rows, self.rows_expected);
        if !self.trouble.is_empty() {
            compared.message = self.trouble;
            return compared;
        }
        compared.equal = Some(self.sides.as_ref().is_some_and(Sides::is_empty));
        compared.message = match &self.sides {
            None => "they differ by more rows than can be listed".to_owned(),
            Some(sides) if sides.is_empty() => String::new(),
            Some(sides) => {
                format!("{} rows are only here, {} only in the source", sides.ours.len(), sides.theirs.len())
            }
        };
        if self.unreadable > 0 {
            compared.message.push_str(&format!(" ({} rows that cannot be read are left out)", self.unreadable));
        }
        let sides = self.sides.unwrap_or_default();
        compared.only_kept = shown(&table.stored.schema, &sides.ours);
        compared.only_expected = shown(&table.stored.schema, &sides.theirs);
        compared
    }
}

fn shown(schema: &Schema, rows: &[Vec<u8>]) -> Vec<String> {
    let layout = Layout::new(schema.types());
    let object = |row: &Vec<u8>| {
        let values = layout.values(row);
        let named = schema.columns.iter().zip(&values);
        let object: serde_json::Map<String, serde_json::Value> =
            named.map(|(column, value)| (column.name.clone(), crate::output::json_of(value))).collect();
        serde_json::Value::Object(object).to_string()
    };
    rows.iter().take(SHOWN_MAX).map(object).collect()
}

/// Two places of a log, and how our rows come from the one to the other.
struct Gap {
    from: Position,
    to: Position,
    /// 1: changes in between are added to ours; −1: they are taken from them.
    sign: i64,
}

async fn round(
    source: &Arc<dyn Source>,
    ours: &Ours,
    tables: &[(&OurTable, TableFacts)],
    pace: &Pace<'_>,
) -> anyhow::Result<Vec<Found>> {
    let mut whole = source.open_whole().await.map_err(failed)?;
    let found = round_at(source, ours, tables, pace, whole.as_mut()).await;
    whole.close().await;
    found
}

async fn round_at(
    source: &Arc<dyn Source>,
    ours: &Ours,
    tables: &[(&OurTable, TableFacts)],
    pace: &Pace<'_>,
    whole: &mut dyn WholeReader,
) -> anyhow::Result<Vec<Found>> {
    let place = whole.position().clone();
    let (snapshot, gap) = ours_near(&**source, ours, &place).await?;
    let followed: Vec<FollowedTable> = tables.iter().map(|(table, facts)| follow(table, facts)).collect();
    let mut pairs = Vec::with_capacity(tables.len());
    for ((table, _), follow) in tables.iter().zip(&followed) {
        (pace.progress)(format!("reading {}", table.name));
        let dealer = Dealer::new(&table.stored.schema);
        let mut theirs = Sums::new(dealer.clone());
        let read = whole.read(follow, pace.rows_per_second, &mut |row| theirs.add(row, 1)).await.map_err(failed)?;
        let mut kept = Sums::new(dealer);
        scan(&snapshot, &table.stored, |row, weight| kept.add(row, weight))?;
        pairs.push((kept, theirs, read.unreadable));
    }
    let mut troubles: BTreeMap<TableId, String> = BTreeMap::new();
    let at: BTreeMap<TableId, usize> = followed.iter().enumerate().map(|(i, table)| (table.id, i)).collect();
    between(&**source, &followed, &gap, &mut |change| match change {
        Between::Row(id, row, weight) => {
            if let Some(&i) = at.get(&id) {
                pairs[i].0.add(row, weight * gap.sign);
            }
        }
        Between::Trouble(id, reason) => drop(troubles.insert(id, reason)),
    })
    .await?;
    let differing: Vec<Vec<usize>> = pairs.iter().map(|(kept, theirs, _)| kept.differing(theirs)).collect();
    let mut listings: BTreeMap<TableId, Listing> = BTreeMap::new();
    for (((table, _), follow), buckets) in tables.iter().zip(&followed).zip(&differing) {
        if buckets.is_empty() || troubles.contains_key(&follow.id) {
            continue;
        }
        let mut listing = Listing::new(Dealer::new(&table.stored.schema), buckets);
        scan(&snapshot, &table.stored, |row, weight| listing.add(row, weight))?;
        whole.read(follow, pace.rows_per_second, &mut |row| listing.add(row, -1)).await.map_err(failed)?;
        listings.insert(follow.id, listing);
    }
    if !listings.is_empty() {
        between(&**source, &followed, &gap, &mut |change| {
            if let Between::Row(id, row, weight) = change
                && let Some(listing) = listings.get_mut(&id)
            {
                listing.add(row, weight * gap.sign);
            }
        })
        .await?;
    }
    let found = followed.iter().zip(pairs).map(|(follow, (kept, theirs, unreadable))| Found {
        rows: kept.rows(),
        rows_expected: theirs.rows(),
        unreadable,
        sides: listings.remove(&follow.id).map_or(Some(Sides::default()), Listing::sides),
        trouble: troubles.remove(&follow.id).unwrap_or_default(),
    });
    Ok(found.collect())
}

fn follow(table: &OurTable, facts: &TableFacts) -> FollowedTable {
    FollowedTable { id: table.stored.id, place: table.place.clone(), facts: facts.clone(), load: Load::Complete }
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
    let limits = Limits { rows_max: 1, ..Limits::default() };
    let (mut events, control) = source.start(tables.to_vec(), Some(gap.from.clone()), limits);
    let mut parts: Vec<SourceBatch> = Vec::new();
    let outcome = loop {
        let Some(event) = events.recv().await else { break Err(anyhow::anyhow!("the log could not be read again")) };
        match event {
            SourceEvent::Batch(batch) => {
                if batch.part.is_some_and(|part| part.is_first()) {
                    parts.clear();
                }
                if batch.part.is_some_and(|part| !part.is_last) {
                    parts.push(batch);
                    continue;
                }
                let end = batch.position.clone();
                parts.push(batch);
                // A transaction behind the gap's end is none of it.
                if !source.reached(&gap.to, &end).map_err(failed)? {
                    break Ok(());
                }
                parts.drain(..).for_each(|batch| tell(&batch, each));
                if source.reached(&end, &gap.to).map_err(failed)? {
                    break Ok(());
                }
            }
            SourceEvent::Parked { table, reason }
            | SourceEvent::Reload { table, reason }
            | SourceEvent::Altered { table, statement: reason } => each(Between::Trouble(table, reason)),
            SourceEvent::Failed(failure) => break Err(failed(failure)),
            SourceEvent::State(..) | SourceEvent::Rejected(_) => {}
        }
    };
    control.stop().await;
    outcome
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
