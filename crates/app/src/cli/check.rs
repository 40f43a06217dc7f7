//! `check`: the project's files, offline.

use plan::TableName;
use relation::Schema;

use super::{Context, Outcome, print};
use crate::demo::Simulator;
use crate::instance::plan_simulator;
use crate::setup::Setup;
use crate::warehouse::plan_models;

pub(super) fn run(context: &Context) -> anyhow::Result<Outcome> {
    let mut setup = Setup::load(&context.global)?;
    let mut unplanned = String::new();
    if !setup.has_errors() {
        match known_tables(&setup)? {
            Some(tables) => setup.findings.extend(plan_models(&setup, &tables).1),
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
fn known_tables(setup: &Setup) -> anyhow::Result<Option<Vec<(TableName, Schema)>>> {
    let mut tables = Vec::new();
    for feed in setup.feeds()? {
        let project::ConnectionKind::Simulator { shop, .. } = &feed.connection.kind else { return Ok(None) };
        let (_, described) = plan_simulator(&feed, Simulator::new(shop))?;
        tables.extend(described.into_iter().map(|table| (table.name, table.schema)));
    }
    Ok(Some(tables))
}
