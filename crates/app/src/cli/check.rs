//! `check`: the project's files, offline.

use plan::TableName;
use relation::Schema;

use super::{Context, Outcome, print};
use crate::definition::Definition;
use crate::setup::Setup;
use crate::sources::{self, said};
use crate::warehouse::{findings, keepable};

pub(super) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let mut setup = Setup::load(&context.global)?;
    let mut unplanned = String::new();
    if !setup.has_errors() {
        match known_tables(&setup).await? {
            Some(tables) => {
                setup.findings.extend(findings(&setup, &keepable(&Definition::of(&setup), &tables, &[]).refused))
            }
            None => " (models are planned when the sources are asked: `tidemill up`)".clone_into(&mut unplanned),
        }
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

/// Columns of all source tables; none if a source would have to be asked for them.
async fn known_tables(setup: &Setup) -> anyhow::Result<Option<Vec<(TableName, Schema)>>> {
    let mut tables = Vec::new();
    for feed in setup.feeds()? {
        if !sources::kinds().any(|kind| kind.is_described_offline() && kind.is_of(sources::type_of(feed.connection))) {
            return Ok(None);
        }
        let answers = feed.source().await?.describe(&feed.wanted()).await;
        let answers = answers.map_err(|unanswered| anyhow::anyhow!(said(&unanswered.failure)))?;
        for (table, answer) in feed.tables.iter().zip(answers) {
            let name = TableName::new(&table.source, &table.name);
            let facts = answer.map_err(|absence| anyhow::anyhow!("table {name}: {}", absence.0))?;
            tables.push((name, facts.schema));
        }
    }
    Ok(Some(tables))
}
