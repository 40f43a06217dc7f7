//! What of a project's tables is there, as their sources say at the start.

use std::sync::Arc;

use connect::source::LOOK_AGAIN;
use connect::{Absence, Source, TableFacts, TablePlace};
use plan::TableName;

use crate::setup::Setup;
use crate::sources::said;
use crate::warehouse::{AbsentTable, Described, SourceTable};

/// A source that is to be followed, and its tables.
pub struct PlannedFeed {
    pub name: String,
    pub source: Arc<dyn Source>,
    pub tables: Vec<PlannedTable>,
}

/// A table of a feed.
#[derive(Debug, Clone)]
pub struct PlannedTable {
    pub place: TablePlace,
    pub name: TableName,
    pub found: Found,
    /// Whether it is parked where its columns become others, until a person has it loaded again.
    pub parks_on_change: bool,
}

/// What a source said of a table at the start.
#[derive(Debug, Clone)]
pub enum Found {
    There(TableFacts),
    /// It is not there or cannot be captured, for this reason.
    Absent(String),
    /// The source could not be asked.
    Unasked,
}

/// Asks every source for its tables. Errors: a source of which nothing is known yet cannot be asked.
pub async fn plan_feeds(setup: &Setup) -> anyhow::Result<(Vec<PlannedFeed>, Described)> {
    let mut feeds = Vec::new();
    let mut described = Described::default();
    // What a data folder that was used before has is served on, whoever cannot be asked.
    let known = setup.data.join("store").is_dir();
    for feed in setup.feeds()? {
        let source = crate::sources::open(feed.connection).await?;
        let wanted = feed.wanted();
        let answers = match source.describe(&wanted).await {
            Ok(answers) => answers.into_iter().map(Found::of).collect::<Vec<_>>(),
            Err(failure) if known => {
                tracing::warn!(source = %feed.connection.name, "{}", said(&failure));
                wanted.iter().map(|_| Found::Unasked).collect()
            }
            Err(failure) => return Err(anyhow::anyhow!(said(&failure))),
        };
        let mut tables = Vec::new();
        for ((table, place), found) in feed.tables.iter().zip(wanted).zip(answers) {
            let (source, name) = (feed.connection.name.clone(), TableName::new(&table.source, &table.name));
            match &found {
                Found::There(facts) => {
                    let schema = facts.schema.clone();
                    described.tables.push(SourceTable { source, name: name.clone(), schema });
                }
                Found::Absent(reason) => {
                    let reason = not_there(&place, reason);
                    tracing::warn!(source = %source, table = %name, reason = %reason, "table parked");
                    described.absent.push(AbsentTable { source, name: name.clone(), reason });
                }
                Found::Unasked => {}
            }
            let parks_on_change = table.meta.get("on_change").is_some_and(|policy| policy == "park");
            tables.push(PlannedTable { place, name, found, parks_on_change });
        }
        feeds.push(PlannedFeed { name: feed.connection.name.clone(), source, tables });
    }
    Ok((feeds, described))
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
