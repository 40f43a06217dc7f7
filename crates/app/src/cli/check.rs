//! `check`: the project's files, without asking a source. Models are planned over the tables that are known: of a folder that
//! was used before, those that it has.

use plan::{Refusal, TableName};
use relation::Schema;

use super::{Context, Outcome, print};
use crate::definition::Definition;
use crate::grants;
use crate::setup::Setup;
use crate::sources::{self, said};
use crate::warehouse::{findings, keepable};

pub(super) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let mut setup = Setup::load(&context.global)?;
    let mut unplanned = String::new();
    if !setup.is_stopped() {
        let definition = Definition::of(&setup);
        let refused = match known_tables(&setup).await? {
            Some(tables) => {
                let absent = setup.not_followed(&tables, Vec::new());
                let found = keepable(&definition, &tables, &absent);
                let grants = grants::faults::findings(&setup, &definition, &tables, &found.contents.models);
                setup.findings.extend(grants);
                let names: Vec<TableName> = absent.into_iter().map(|table| table.name).collect();
                let left = definition.readers_of(names.iter().cloned()).len() - names.len();
                if left > 0 {
                    unplanned = format!(" ({left} of them are planned when their source tables are known: {KNOWN_BY})");
                }
                found.refused
            }
            None => {
                unplanned =
                    format!(" (no source table is known yet, so that models are read and not planned: {KNOWN_BY})");
                misread(&definition)
            }
        };
        let found = findings(&setup, &refused);
        setup.findings.extend(found);
    }
    if context.json {
        let findings: Vec<_> =
            setup.findings.iter().map(|f| serde_json::json!({"error": f.is_error(), "text": f.to_string()})).collect();
        print(&serde_json::json!({"findings": findings, "models": setup.project.models.len()}).to_string());
    } else {
        setup.findings.iter().for_each(|finding| context.say(&setup.shown(finding)));
    }
    if setup.has_errors() {
        return Ok(Outcome::Failed);
    }
    let (models, sources) = (setup.project.models.len(), setup.project.sources.len());
    context.progress(&format!("{models} models over {sources} source tables{unplanned}"));
    Ok(Outcome::Ok)
}

/// What makes source tables known.
const KNOWN_BY: &str = "`tidemill up` asks the sources";

/// Models that are no SQL, whatever their tables are.
fn misread(definition: &Definition) -> Vec<(TableName, Refusal)> {
    let texts = definition.models.iter().filter(|text| text.broken.is_none());
    let found = texts.filter_map(|text| {
        let error = query::parse(&text.sql).err()?;
        let line = error.position.and_then(|(line, column)| Some((line.try_into().ok()?, column.try_into().ok()?)));
        let (detail, hint) = (error.detail.unwrap_or_default(), error.hint.unwrap_or_default());
        Some((text.table_name(), Refusal { message: error.message, detail, hint, line }))
    });
    found.collect()
}

/// Columns of source tables, without asking a source: those that a running instance has, or a stopped one has kept, or that are
/// the same everywhere; none where nothing is known.
async fn known_tables(setup: &Setup) -> anyhow::Result<Option<Vec<(TableName, Schema)>>> {
    if setup.data.join("store").is_dir() {
        return Ok(Some(super::apply::serving(setup).await?.tables_to_come()?));
    }
    let mut tables = Vec::new();
    for feed in setup.feeds()? {
        if !sources::kinds().any(|kind| kind.is_described_offline() && kind.is_of(sources::type_of(feed.connection))) {
            return Ok(None);
        }
        let answers = feed.source().await.describe(&feed.wanted()).await;
        let answers = answers.map_err(|unanswered| anyhow::anyhow!(said(&unanswered.failure)))?;
        for (table, answer) in feed.tables.iter().zip(answers) {
            // One that is not there is not known.
            if let Ok(facts) = answer {
                tables.push((TableName::new(&table.source, &table.name), facts.schema));
            }
        }
    }
    Ok(Some(tables))
}
