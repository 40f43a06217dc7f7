//! `check`: the project's files, offline.

use super::{Context, Outcome, print};
use crate::setup::Setup;

pub(super) fn run(context: &Context) -> anyhow::Result<Outcome> {
    let setup = Setup::load(&context.global)?;
    if context.json {
        let findings: Vec<_> =
            setup.findings.iter().map(|f| serde_json::json!({"error": f.is_error(), "text": f.to_string()})).collect();
        print(&serde_json::json!({"findings": findings, "models": setup.project.models.len()}).to_string());
    } else {
        setup.findings.iter().for_each(|finding| context.say(&finding.to_string()));
    }
    if setup.has_errors() {
        return Ok(Outcome::Failed);
    }
    let (models, sources) = (setup.project.models.len(), setup.project.sources.len());
    context.progress(&format!("{models} models over {sources} source tables"));
    Ok(Outcome::Ok)
}
