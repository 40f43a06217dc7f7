//! `reconcile source`: every table against its source, both as they were at one place of the source's log.
//!
//! The source is read in transactions whose place X in the log is known ([`connect::WholeReader`]). What we have is
//! of another place, later where the instance runs on, earlier where it is stopped: the log between the two is read once
//! more, beside the one that is followed ([`super::gap`]), and its changes are taken from our checksums or added to them. So no lag can look
//! like a difference, nothing is locked, and nothing waits.
//!
//! Checksums ([`super::sums`]) find the buckets in which the sides differ; only of these are rows held and compared. A
//! difference counts when two comparisons, each at a place of its own, have found it under the same key.
//!
//! A large table is compared in portions ([`super::pair`]), each at a place of its own: no transaction of the source lives for
//! longer than a portion, and after each what was found so far is noted ([`super::book`]), so that a comparison that ends
//! before its time goes on from there. What it answers then is as old as its oldest portion, which it says.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use connect::{Absence, Failure, Source, TableFacts, TablePlace, WholePace};
use engine::stored::Stored;
use plan::TableName;
use relation::{Layout, Schema};
use serde::{Deserialize, Serialize};
use store::Snapshot;

use super::ago;
use super::book::{Book, By, Partial, Run, Unfinished};
use super::pair::{Found, Range, Verdict, Wanted, round};
use crate::clock::Clock;
use crate::counted::{counted, of_number};
use crate::reason::Reason;
use crate::setup::Setup;

/// Rows of each side that are shown where they differ, and bytes of each.
const SHOWN_MAX: usize = 5;
const SHOWN_BYTES_MAX: usize = 4_096;
/// Rows of a portion, unless somebody says otherwise.
pub const PORTION_ROWS: u64 = 1_000_000;

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
                engine::Load::Parked { reason, .. } => return Err(format!("it is parked: {reason}")),
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    pub source: String,
    pub schema: String,
    pub table: String,
    /// None where it could not be compared.
    pub equal: Option<bool>,
    /// Rows that we have, and that the source has, at the same place of its log.
    pub rows: i64,
    pub rows_expected: i64,
    /// Rows that only we have, and that only the source has; none where they are too many to be told apart.
    pub rows_only_kept: Option<u64>,
    pub rows_only_expected: Option<u64>,
    /// Some of these: JSON objects.
    pub only_kept: Vec<String>,
    pub only_expected: Vec<String>,
    /// When its first and its last portion were compared, microseconds since 1970; none where none was.
    pub compared_from_us: Option<i64>,
    pub compared_us: Option<i64>,
    /// The place of the source's log and the step of ours that the last one belongs to.
    pub position: String,
    pub step: u64,
    pub message: String,
    /// Its source is of a kind with which nothing can be compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_incomparable: bool,
    /// It was not compared, since its columns are others in the source: nothing of it is right before it is loaded anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_other_columns: bool,
}

impl Compared {
    fn new(ours: &Ours, table: &OurTable, message: String) -> Self {
        Self {
            source: ours.source.clone(),
            schema: table.name.schema.clone(),
            table: table.name.name.clone(),
            message,
            ..Self::default()
        }
    }

    /// The table's name.
    pub fn name(&self) -> TableName {
        TableName::new(&self.schema, &self.table)
    }

    /// Whether a load mends what was found.
    pub fn is_to_be_loaded(&self) -> bool {
        self.equal == Some(false) || self.has_other_columns
    }

    /// The word for how it compares.
    pub fn word(&self) -> &'static str {
        match self.equal {
            Some(true) => "equal",
            Some(false) => "differs",
            None => "unknown",
        }
    }
}

/// A source of a project, and the names and places of its tables.
pub type Feed = (String, Arc<dyn Source>, Vec<(TableName, TablePlace)>);

/// What is to be compared.
pub struct Feeds {
    pub comparable: Vec<Feed>,
    /// Tables of sources of a kind with which nothing can be compared, where nobody has named one.
    pub passed_over: Vec<Compared>,
}

/// The sources of a project, or the one of a name. Errors: there is none of that name, or nothing can be compared with it.
pub async fn feeds(setup: &Setup, wanted: Option<&str>) -> anyhow::Result<Feeds> {
    let mut found = Vec::new();
    let mut passed_over = Vec::new();
    let mut known = Vec::new();
    for feed in setup.feeds()? {
        known.push(feed.connection.name.clone());
        if wanted.is_some_and(|wanted| wanted != feed.connection.name) {
            continue;
        }
        let kind = crate::sources::kind(feed.connection).ok();
        if let Some(kind) = kind.filter(|kind| !kind.is_comparable()) {
            let word = kind.types().first().copied().unwrap_or_default();
            let why = format!("a source of the type `{word}` cannot be compared: it does not keep what it has sent");
            if wanted.is_some() {
                anyhow::bail!("{}: {why}", feed.connection.name);
            }
            passed_over.extend(feed.tables.iter().map(|table| Compared {
                source: feed.connection.name.clone(),
                schema: table.source.clone(),
                table: table.name.clone(),
                message: why.clone(),
                is_incomparable: true,
                ..Compared::default()
            }));
            continue;
        }
        let names = feed.tables.iter().map(|table| TableName::new(&table.source, &table.name));
        let places = names.zip(feed.wanted()).collect();
        found.push((feed.connection.name.clone(), feed.source().await, places));
    }
    if known.is_empty() {
        anyhow::bail!(
            "the project has no source to compare with\nHint: Name tables under `sources:`, and where they are in connections.yml."
        );
    }
    if let (Some(wanted), true) = (wanted, found.is_empty()) {
        anyhow::bail!("there is no source \"{wanted}\"\nHint: One of: {}.", known.join(", "));
    }
    Ok(Feeds { comparable: found, passed_over })
}

/// How fast a source is read, and who is told how far it is.
pub struct Pace<'a> {
    pub reading: WholePace,
    /// Rows after which what was found is noted, and the next ones are compared at another place of the log.
    pub portion_rows: u64,
    pub progress: &'a (dyn Fn(String) + Send + Sync),
}

/// Where a comparison is noted, and as whose.
pub struct Notes<'a> {
    pub data: &'a Path,
    pub clock: &'a dyn Clock,
    pub by: By,
    /// Whether what was compared before an interruption is compared again.
    pub restart: bool,
    /// Is told whatever is noted.
    pub told: &'a (dyn Fn(&Book) + Send + Sync),
}

/// What the portions of a table have told so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    so_far: Compared,
    unreadable: u64,
    /// They differ, and by how many rows was too much to be listed.
    differs_by_more: bool,
    /// Why one of them has no answer.
    unknown: Option<String>,
}

impl Tally {
    /// Rows of the source that were compared.
    pub(super) fn rows_expected(&self) -> i64 {
        self.so_far.rows_expected
    }

    fn add(&mut self, found: Found, schema: &Schema, now_us: i64) {
        let so_far = &mut self.so_far;
        so_far.rows += found.rows;
        so_far.rows_expected += found.rows_expected;
        so_far.compared_from_us = so_far.compared_from_us.or(Some(now_us));
        so_far.compared_us = Some(now_us);
        (so_far.position, so_far.step) = (found.position.0, found.step);
        self.unreadable += found.unreadable;
        match found.verdict {
            Verdict::Equal => {}
            Verdict::Unknown(reason) => self.unknown = self.unknown.take().or(Some(reason)),
            Verdict::Differs(None) => self.differs_by_more = true,
            Verdict::Differs(Some(sides)) => {
                let of_side = |count: &mut Option<u64>, shown: &mut Vec<String>, rows: &[Vec<u8>]| {
                    *count = Some(count.unwrap_or(0) + rows.len() as u64);
                    let more = SHOWN_MAX.saturating_sub(shown.len()).min(rows.len());
                    shown.extend(self::shown(schema, &rows[..more]));
                };
                of_side(&mut so_far.rows_only_kept, &mut so_far.only_kept, &sides.ours);
                of_side(&mut so_far.rows_only_expected, &mut so_far.only_expected, &sides.theirs);
            }
        }
    }

    fn told(self, ours: &Ours, table: &OurTable) -> Compared {
        let mut compared = Compared {
            source: ours.source.clone(),
            schema: table.name.schema.clone(),
            table: table.name.name.clone(),
            ..self.so_far
        };
        let differs = self.differs_by_more || compared.rows_only_kept.is_some();
        (compared.equal, compared.message) = match (differs, self.unknown) {
            (false, Some(reason)) => (None, reason),
            (false, None) => (Some(true), String::new()),
            (true, _) if self.differs_by_more => {
                (compared.rows_only_kept, compared.rows_only_expected) = (None, None);
                (Some(false), "they differ by more rows than can be listed".to_owned())
            }
            (true, _) => {
                let count = |rows: Option<u64>| rows.unwrap_or(0);
                let (here, there) = (count(compared.rows_only_kept), count(compared.rows_only_expected));
                (
                    Some(false),
                    format!(
                        "{} {} only here, {there} only in the source",
                        counted(here, "row"),
                        of_number(here, "is", "are")
                    ),
                )
            }
        };
        if compared.equal == Some(true) {
            (compared.rows_only_kept, compared.rows_only_expected) = (Some(0), Some(0));
        }
        if compared.equal.is_some() && self.unreadable > 0 {
            let (rows, are) = (counted(self.unreadable, "row"), of_number(self.unreadable, "is", "are"));
            compared.message.push_str(&format!(" ({rows} that cannot be read {are} left out)"));
        }
        compared
    }
}

fn columns(schema: &Schema) -> String {
    let column = |column: &relation::Column| format!("{} {}", column.name, column.data_type);
    let columns: Vec<String> = schema.columns.iter().map(column).collect();
    format!("{} by {:?}", columns.join(", "), schema.key)
}

/// A comparison under way, and where it is noted.
struct Comparison<'a> {
    ours: &'a Ours,
    notes: &'a Notes<'a>,
    book: Book,
    run: Unfinished,
}

impl<'a> Comparison<'a> {
    /// One that begins, or goes on.
    fn begin(ours: &'a Ours, notes: &'a Notes<'a>, pace: &Pace<'_>) -> anyhow::Result<Self> {
        let mut book = Book::read(notes.data)?;
        let now_us = notes.clock.now_us();
        let earlier = book.sources.entry(ours.source.clone()).or_default().goes_on(now_us);
        let mut run = match earlier.filter(|earlier| !notes.restart && earlier.has_found()) {
            None => Unfinished::new(notes.by, now_us),
            Some(earlier) => {
                (pace.progress)(format!(
                    "going on with the comparison of source {} that began {} ago: --restart begins anew",
                    ours.source,
                    ago(now_us - earlier.begun_us)
                ));
                Unfinished { by: notes.by, ..earlier }
            }
        };
        let is_ours = |compared: &Compared| ours.tables.iter().any(|table| table.name == compared.name());
        run.done.retain(|compared| compared.equal.is_some() && is_ours(compared));
        Ok(Self { ours, notes, book, run })
    }

    fn answer(&mut self, compared: Compared) {
        self.run.done.push(compared);
    }

    /// Notes how far it is.
    fn note(&mut self) -> anyhow::Result<()> {
        let of = self.book.sources.entry(self.ours.source.clone()).or_default();
        of.unfinished = Some(self.run.clone()).filter(Unfinished::has_found);
        for compared in &self.run.done {
            of.tables.insert(compared.name().to_string(), compared.clone());
        }
        self.write()
    }

    fn note_end(&mut self) -> anyhow::Result<()> {
        let done = &self.run.done;
        let count = |equal| done.iter().filter(|compared| compared.equal == equal).count() as u64;
        let differing = done.iter().filter(|compared| compared.equal == Some(false));
        let run = Run {
            by: self.run.by,
            begun_us: self.run.begun_us,
            ended_us: self.notes.clock.now_us(),
            equal: count(Some(true)),
            differing: differing.map(|compared| compared.name().to_string()).collect(),
            unknown: count(None),
            rows: done.iter().map(|compared| compared.rows_expected).sum(),
        };
        let tables = done.iter().map(|compared| (compared.name().to_string(), compared.clone())).collect();
        let of = self.book.sources.entry(self.ours.source.clone()).or_default();
        // Of tables that are compared no more nothing is remembered.
        of.tables = tables;
        of.note_end(run);
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        self.book.write(self.notes.data)?;
        (self.notes.told)(&self.book);
        Ok(())
    }

    /// The answers in the order of the tables; those without one are unknown, for this reason.
    fn answers(self, reason: &str) -> Vec<Compared> {
        let mut done: BTreeMap<TableName, Compared> = self.run.done.into_iter().map(|c| (c.name(), c)).collect();
        let tables = self.ours.tables.iter();
        tables
            .map(|table| done.remove(&table.name).unwrap_or_else(|| Compared::new(self.ours, table, reason.to_owned())))
            .collect()
    }

    /// The tables that have no answer yet; those that cannot be compared have one now. The one that was left in its middle is
    /// the first, with what was found in it.
    fn open<'t>(
        &mut self,
        facts: Vec<Result<TableFacts, Absence>>,
        tables: &'t [OurTable],
    ) -> (VecDeque<Wanted<'t>>, Tally) {
        let partial = self.run.partial.take();
        let (mut open, mut tally) = (VecDeque::new(), Tally::default());
        for (table, facts) in tables.iter().zip(facts) {
            if self.run.done.iter().any(|compared| compared.name() == table.name) {
                continue;
            }
            let (stored, facts) = match comparable(table, facts) {
                Ok(comparable) => comparable,
                Err(why) => {
                    self.answer(why.told(self.ours, table));
                    continue;
                }
            };
            let is_partial = |partial: &&Partial| {
                partial.name == table.name.to_string() && partial.columns == columns(&stored.schema)
            };
            match partial.as_ref().filter(is_partial) {
                Some(partial) => {
                    let range = Range { after: Some(partial.edge.clone()), upto: None };
                    open.push_front(Wanted { table, stored, facts, range });
                    tally = partial.tally.clone();
                    self.run.partial = Some(partial.clone());
                }
                None => open.push_back(Wanted { table, stored, facts, range: Range::default() }),
            }
        }
        (open, tally)
    }
}

/// Compares the tables of a source. What cannot be compared is in the answer as well, with the reason. Errors: what is noted
/// cannot be read or written.
pub async fn compare(
    source: &Arc<dyn Source>,
    ours: &Ours,
    pace: &Pace<'_>,
    notes: &Notes<'_>,
) -> anyhow::Result<Vec<Compared>> {
    let mut comparison = Comparison::begin(ours, notes, pace)?;
    let places: Vec<TablePlace> = ours.tables.iter().map(|table| table.place.clone()).collect();
    let facts = match source.describe(&places).await {
        Ok(facts) => facts,
        Err(unanswered) => return Ok(comparison.answers(&Reason::from(&unanswered.failure).line())),
    };
    let (mut open, mut tally) = comparison.open(facts, &ours.tables);
    comparison.note()?;
    while let Some(first) = open.front() {
        (pace.progress)(match tally.rows_expected() {
            0 => format!("comparing {}", first.table.name),
            // An estimate, which may be of yesterday.
            rows => {
                let all = first.facts.rows_estimate.max(u64::try_from(rows).unwrap_or(0));
                format!("comparing {}: {rows} of about {all} rows", first.table.name)
            }
        });
        let found = match portion(source, ours, open.make_contiguous(), pace).await {
            Ok(found) => found,
            Err(error) => {
                let goes_on = if comparison.run.partial.is_some() || !comparison.run.done.is_empty() {
                    "; what was compared is kept, and the next `tidemill reconcile source` goes on from there"
                } else {
                    ""
                };
                return Ok(comparison.answers(&format!("{error:#}{goes_on}")));
            }
        };
        let now_us = notes.clock.now_us();
        for mut found in found {
            let Some(wanted) = open.front_mut() else { break };
            let next = found.next.take();
            tally.add(found, &wanted.stored.schema, now_us);
            let Some(edge) = next else {
                comparison.answer(std::mem::take(&mut tally).told(ours, wanted.table));
                comparison.run.partial = None;
                open.pop_front();
                continue;
            };
            comparison.run.partial = Some(Partial {
                name: wanted.table.name.to_string(),
                columns: columns(&wanted.stored.schema),
                edge: edge.clone(),
                tally: tally.clone(),
            });
            wanted.range = Range { after: Some(edge), upto: None };
            break;
        }
        comparison.note()?;
    }
    comparison.note_end()?;
    Ok(comparison.answers("it was not compared"))
}

/// Compares the first rows of these tables, twice where they differ.
async fn portion(
    source: &Arc<dyn Source>,
    ours: &Ours,
    wanted: &[Wanted<'_>],
    pace: &Pace<'_>,
) -> anyhow::Result<Vec<Found>> {
    let (mut found, counts_after) = round(source, ours, wanted, Some(pace.portion_rows), pace).await?;
    let again: Vec<usize> = (0..found.len()).filter(|&at| found[at].wants_another()).collect();
    if again.is_empty() {
        return Ok(found);
    }
    let differ = of_number(again.len(), "differs: comparing it", "differ: comparing them");
    (pace.progress)(format!("{} {differ} once more", counted(again.len(), "table")));
    let differing: Vec<Wanted<'_>> =
        again.iter().map(|&at| Wanted { range: found[at].range.clone(), ..wanted[at].clone() }).collect();
    // Counted by the machine's uptime: a clock that is set does not matter.
    tokio::time::sleep(counts_after.unwrap_or_default()).await;
    let (seconds, _) = round(source, ours, &differing, None, pace).await?;
    for (at, mut second) in again.into_iter().zip(seconds) {
        // Where the range has an end, the first one found it.
        second.next = second.next.or_else(|| found[at].next.take());
        found[at] = second.after(&found[at], wanted[at].stored);
    }
    Ok(found)
}

/// Compares tables that were loaded since they were found to differ, beside all that is noted of other comparisons.
pub async fn compare_again(source: &Arc<dyn Source>, ours: &Ours, pace: &Pace<'_>, clock: &dyn Clock) -> Vec<Compared> {
    let unknown = |table: &OurTable, reason: String| Compared::new(ours, table, reason);
    let places: Vec<TablePlace> = ours.tables.iter().map(|table| table.place.clone()).collect();
    let facts = match source.describe(&places).await {
        Ok(facts) => facts,
        Err(unanswered) => {
            let reason = Reason::from(&unanswered.failure).line();
            return ours.tables.iter().map(|table| unknown(table, reason.clone())).collect();
        }
    };
    let mut answers = Vec::new();
    for (table, facts) in ours.tables.iter().zip(facts) {
        let (stored, facts) = match comparable(table, facts) {
            Ok(comparable) => comparable,
            Err(why) => {
                answers.push(why.told(ours, table));
                continue;
            }
        };
        let mut wanted = [Wanted { table, stored, facts, range: Range::default() }];
        let mut tally = Tally::default();
        let compared = loop {
            let found = match portion(source, ours, &wanted, pace).await {
                Ok(mut found) => found.pop(),
                Err(error) => break unknown(table, format!("{error:#}")),
            };
            let Some(mut found) = found else { break unknown(table, "it was not compared".to_owned()) };
            let next = found.next.take();
            tally.add(found, &stored.schema, clock.now_us());
            match next {
                None => break tally.told(ours, table),
                Some(edge) => wanted[0].range = Range { after: Some(edge), upto: None },
            }
        };
        answers.push(compared);
    }
    answers
}

/// Why a table cannot be compared.
enum Incomparable {
    For(String),
    OtherColumns,
}

impl Incomparable {
    fn told(self, ours: &Ours, table: &OurTable) -> Compared {
        match self {
            Self::For(reason) => Compared::new(ours, table, reason),
            Self::OtherColumns => {
                let message = "its columns are others in the source now".to_owned();
                Compared { has_other_columns: true, ..Compared::new(ours, table, message) }
            }
        }
    }
}

/// How a table is stored and what it is in its source, or why it cannot be compared.
fn comparable(table: &OurTable, facts: Result<TableFacts, Absence>) -> Result<(&Stored, TableFacts), Incomparable> {
    let stored = table.stored.as_ref().map_err(|reason| Incomparable::For(reason.clone()))?;
    let facts = facts
        .map_err(|Absence(reason)| Incomparable::For(format!("table {} cannot be read: {reason}", table.place)))?;
    let facts = as_kept(table, stored, facts);
    match facts.schema == stored.schema {
        true => Ok((stored, facts)),
        false => Err(Incomparable::OtherColumns),
    }
}

/// What a table is in its source, in the columns that are kept of it.
pub(super) fn as_kept(table: &OurTable, stored: &Stored, facts: TableFacts) -> TableFacts {
    match table.place.columns.keeps(&stored.schema, &facts.schema) {
        true => TableFacts { schema: stored.schema.clone(), ..facts },
        false => facts,
    }
}

pub(super) fn failed(failure: Failure) -> anyhow::Error {
    anyhow::anyhow!(failure.text())
}

fn shown(schema: &Schema, rows: &[Vec<u8>]) -> Vec<String> {
    let layout = Layout::new(schema.types());
    let object = |row: &Vec<u8>| {
        let values = layout.values(row);
        let mut text = crate::output::json_row(schema.columns.iter().map(|column| &column.name).zip(&values));
        if text.len() > SHOWN_BYTES_MAX {
            text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
            text.push('…');
        }
        text
    };
    rows.iter().map(object).collect()
}
