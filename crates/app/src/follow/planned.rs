//! What of a project's tables is there, as their sources say.

use std::sync::Arc;

use anyhow::bail;
use connect::source::{Again, LOOK_AGAIN, without_effect};
use connect::{Absence, Source, TableFacts, TablePlace, Unanswered};
use plan::TableName;
use project::ConnectionKind;

use crate::reason::Reason;
use crate::setup::{Feed, Setup};
use crate::warehouse::{AbsentTable, Described, NOT_DECLARED, SourceTable};

/// A source that is to be followed, and its tables.
pub struct PlannedFeed {
    pub name: String,
    /// The settings of its connection.
    pub kind: ConnectionKind,
    pub source: Arc<dyn Source>,
    pub tables: Vec<PlannedTable>,
}

/// A table of a feed.
#[derive(Debug, Clone)]
pub struct PlannedTable {
    pub place: TablePlace,
    pub name: TableName,
    pub found: Found,
}

/// What a source said of a table.
#[derive(Debug, Clone)]
pub enum Found {
    There(TableFacts),
    /// It is not there or cannot be captured, for this reason.
    Absent(String),
    /// The source could not be asked.
    Unasked,
}

/// Asks every source for its tables. One that cannot be asked stops itself alone: models over its tables wait, and it is
/// asked again. Errors: no source can be asked, of none anything is known, and it is the settings that are to be mended.
pub async fn plan_feeds(setup: &Setup) -> anyhow::Result<(Vec<PlannedFeed>, Described)> {
    let mut feeds = Vec::new();
    let unfollowed = setup.half_read().unwrap_or_else(|| NOT_DECLARED.to_owned());
    let mut described = Described { unfollowed: Some(unfollowed), ..Described::default() };
    // What a data folder that was used before has is served on, whoever cannot be asked.
    let is_known = setup.data.join("store").is_dir();
    let mut refused = Vec::new();
    for feed in setup.feeds()? {
        let source = feed.source().await;
        let mut tables = planned(&feed);
        let (name, kind) = (feed.connection.name.clone(), feed.connection.kind.clone());
        if let Some(unanswered) = ask(&name, &*source, &mut tables, &mut described).await {
            let place = format!("source \"{name}\" ({})", feed.connection.place);
            refused.push((place, unanswered));
        }
        feeds.push(PlannedFeed { name, kind, source, tables });
    }
    let broken = &setup.project.broken_connections;
    if feeds.is_empty() && !broken.is_empty() && !is_known {
        let names: Vec<&str> = broken.keys().map(String::as_str).collect();
        bail!(
            "nothing can be read: there is a mistake in {} of connections.yml\nHint: `tidemill check` says which.",
            names.join(", ")
        );
    }
    let is_ours = refused.len() == feeds.len() && refused.iter().all(|(_, refused)| refused.again != Again::Soon);
    if let Some((source, first)) = refused.first().filter(|_| !is_known && is_ours) {
        return Err(anyhow::anyhow!("{source}: {}", first.failure.text()));
    }
    for (source, unanswered) in &refused {
        tracing::warn!(%source, "{}", Reason::from(&unanswered.failure).line());
    }
    for AbsentTable { source, name, reason, is_unasked } in &described.absent {
        // Of a source that cannot be asked all was said.
        if !is_unasked {
            tracing::warn!(%source, table = %name, reason = %Reason::of(reason).line(), "table parked");
        }
    }
    Ok((feeds, described))
}

/// The tables of a feed, of which nobody was asked yet.
pub(super) fn planned(feed: &Feed<'_>) -> Vec<PlannedTable> {
    let tables = feed.tables.iter().zip(feed.wanted()).map(|(table, place)| PlannedTable {
        place,
        name: TableName::new(&table.source, &table.name),
        found: Found::Unasked,
    });
    tables.collect()
}

/// Asks a source for tables, and notes what there is and what is not. Answers why it could not be asked.
pub(super) async fn ask(
    name: &str,
    source: &dyn Source,
    tables: &mut [PlannedTable],
    described: &mut Described,
) -> Option<Unanswered> {
    let wanted: Vec<TablePlace> = tables.iter().map(|table| table.place.clone()).collect();
    let unanswered = match source.describe(&wanted).await {
        Ok(answers) => {
            tables.iter_mut().zip(answers).for_each(|(table, answer)| table.found = Found::of(answer));
            None
        }
        Err(unanswered) => Some(unanswered),
    };
    for warning in idle_filters(tables) {
        tracing::warn!(source = %name, "{warning}");
    }
    for table in tables {
        let (source, name) = (name.to_owned(), table.name.clone());
        let reason = match (&table.found, &unanswered) {
            (Found::There(facts), _) => {
                described.rows.push((name.clone(), facts.rows_estimate));
                let (schema, rule) = (facts.schema.clone(), table.place.columns.clone());
                described.tables.push(SourceTable { source, name, schema, rule });
                continue;
            }
            (Found::Absent(reason), _) => not_there(&table.place, reason),
            (Found::Unasked, Some(unanswered)) => not_asked(&source, unanswered),
            (Found::Unasked, None) => not_there(&table.place, "The source does not say what it is."),
        };
        let is_unasked = unanswered.is_some();
        described.absent.push(AbsentTable { source, name, reason, is_unasked });
    }
    unanswered
}

/// Filters that leave nothing out of these tables: whoever misspells a column in a filter reads what should not be read.
pub(super) fn idle_filters(tables: &[PlannedTable]) -> Vec<String> {
    let told = tables.iter().map(|table| match &table.found {
        Found::There(facts) => (&table.place.columns, Some(facts.left_out.as_slice())),
        Found::Absent(_) | Found::Unasked => (&table.place.columns, None),
    });
    let idle = without_effect(told).into_iter();
    idle.map(|pattern| format!("{pattern} names no column: nothing is left out by it")).collect()
}

impl Found {
    pub(super) fn of(answer: Result<TableFacts, Absence>) -> Self {
        match answer {
            Ok(facts) => Self::There(facts),
            Err(Absence(reason)) => Self::Absent(reason),
        }
    }
}

/// Why a table is looked for.
pub(super) fn not_there(place: &TablePlace, reason: &str) -> String {
    format!("table {place} cannot be captured: {reason} It is looked for every {} s.", LOOK_AGAIN.as_secs())
}

/// Why nothing is known of a table.
fn not_asked(source: &str, unanswered: &Unanswered) -> String {
    let again = match unanswered.again {
        Again::Soon | Again::Seldom => "It is asked again by itself.",
        Again::AfterRestart => AFTER_RESTART,
    };
    let reason = Reason::from(&unanswered.failure);
    reason.behind(&format!("source \"{source}\" cannot be asked for it yet: ")).and(again).to_string()
}

/// What is said where nothing that a running instance could see will be otherwise.
pub(super) const AFTER_RESTART: &str = "Only a restart takes up what is otherwise then.";
