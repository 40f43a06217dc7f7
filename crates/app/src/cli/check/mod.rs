//! `check`: the project's files, without running anything. Models, views and the statements of dashboards are planned over the
//! tables that are known ([`crate::known`]), and syncs are held to them; of what cannot be planned for want of a table it is said so, and why.

mod columns;
mod syncs;

use std::collections::BTreeSet;

use plan::{Refusal, TableName};
use project::{Diagnostic, Place, Severity, SourceTable};
use serde_json::json;

use super::{Context, Outcome, print};
use crate::counted::counted;
use crate::dashboards;
use crate::definition::Definition;
use crate::grants;
use crate::known::{self, Known};
use crate::setup::Setup;
use crate::unique_key;
use crate::warehouse::{AbsentTable, Keepable, findings, keepable};

/// What is left unchecked, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unchecked {
    /// `model public.revenue`, `dashboard today, tile "GMV"`
    what: String,
    reason: String,
}

/// How the columns of source tables come to be known.
const KNOWN_BY: &str = "Hint: `tidemill check --online` asks the sources, and so does `tidemill up`; or say the `data_type` of each column in `sources:`.";

pub(super) async fn run(context: &Context, online: bool) -> anyhow::Result<Outcome> {
    let mut setup = Setup::load(&context.global)?;
    let mut unchecked = Vec::new();
    let mut is_to_be_asked = false;
    if !setup.is_stopped() {
        let mut known = if online { Known::online(&setup).await? } else { Known::offline(&setup).await? };
        let found = std::mem::take(&mut known.findings);
        setup.findings.extend(found);
        is_to_be_asked = !online && known.absent.iter().any(known::is_unasked);
        let checked = planned(&setup, &known, &mut unchecked);
        setup.findings.extend(checked);
        setup.findings.sort_by(|a, b| a.place.cmp(&b.place));
    }
    if context.json {
        let mut answer = super::failed(setup.findings.iter());
        let unchecked: Vec<_> = unchecked.iter().map(|of| json!({"what": of.what, "reason": of.reason})).collect();
        let project = &setup.project;
        answer["models"] = json!(project.models.len());
        answer["sources"] = json!(project.sources.len());
        answer["dashboards"] = json!(project.dashboards.len());
        answer["syncs"] = json!(project.syncs.len());
        answer["unchecked"] = json!(unchecked);
        print(&answer.to_string());
    } else {
        setup.findings.iter().for_each(|finding| context.say(&setup.shown(finding)));
        told(&unchecked, is_to_be_asked).iter().for_each(|line| context.progress(line));
    }
    if setup.has_errors() {
        return Ok(Outcome::Failed);
    }
    let project = &setup.project;
    let dashboards = match project.dashboards.len() {
        0 => String::new(),
        some => format!(", {}", counted(some, "dashboard")),
    };
    let syncs = match project.syncs.len() {
        0 => String::new(),
        some => format!(", {}", counted(some, "sync")),
    };
    let (models, sources) = (counted(project.models.len(), "model"), counted(project.sources.len(), "source table"));
    let found = match unchecked.len() {
        0 => "no mistake found".to_owned(),
        some => format!("{some} not checked, no mistake found in the rest"),
    };
    context.progress(&format!("{models} over {sources}{dashboards}{syncs}: {found}"));
    Ok(Outcome::Ok)
}

/// What is left unchecked as people read it: what waits for one and the same thing is told together.
fn told(unchecked: &[Unchecked], is_to_be_asked: bool) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let reasons: Vec<&str> = unchecked.iter().map(|of| of.reason.as_str()).collect();
    for (at, of) in unchecked.iter().enumerate() {
        if reasons[..at].contains(&of.reason.as_str()) {
            continue;
        }
        let alike = unchecked.iter().filter(|other| other.reason == of.reason).map(|other| other.what.as_str());
        lines.push(format!("not checked: {}: {}", alike.collect::<Vec<_>>().join(", "), of.reason));
    }
    if !lines.is_empty() && is_to_be_asked {
        lines.push(KNOWN_BY.to_owned());
    }
    lines
}

/// What is wrong with models, views and dashboards.
fn planned(setup: &Setup, known: &Known, unchecked: &mut Vec<Unchecked>) -> Vec<Diagnostic> {
    let definition = Definition::of(setup);
    let absent = setup.not_followed(&known.tables, known.absent.clone());
    let Keepable { contents, mut refused } = keepable(&definition, &known.tables, &absent);
    // What cannot be planned is read at least.
    let names: BTreeSet<TableName> = absent.iter().map(|table| table.name.clone()).collect();
    let over_absent = definition.readers_of(names.iter().cloned());
    let all: Vec<&TableName> = known.tables.iter().map(|(name, _)| name).chain(&names).collect();
    for (name, refusal) in refused.iter_mut().filter(|(_, refusal)| refusal.message.starts_with("relation \"")) {
        // What is meant may be one of those of which no more is known than the name.
        let Some(text) = definition.text(name).filter(|text| !text.is_view) else { continue };
        let unknown = definition.unknown_relations(&text.sql, all.iter().copied());
        let better = unknown.into_iter().find(|unknown| unknown.message == refusal.message);
        better.into_iter().for_each(|better| refusal.hint = better.hint);
    }
    for text in definition.models.iter().filter(|text| text.broken.is_none()) {
        if !over_absent.contains(&text.table_name()) {
            continue;
        }
        let unknown = match text.is_view {
            false => definition.unknown_relations(&text.sql, all.iter().copied()),
            // It may read what is the system's, too.
            true => Vec::new(),
        };
        if !unknown.is_empty() && misread(text).is_none() {
            refused.extend(unknown.into_iter().map(|refusal| (text.table_name(), refusal)));
            continue;
        }
        let mut unread = setup.project.unread.iter().map(|table| TableName::new(&table.source, &table.name));
        match misread(text) {
            Some(refusal) => refused.push((text.table_name(), refusal)),
            // Why it is not known is told as an error.
            None if unread.any(|table| definition.readers_of([table].into_iter()).contains(&text.table_name())) => {}
            None => unchecked.push(Unchecked {
                what: format!("{} {}", if text.is_view { "view" } else { "model" }, text.table_name()),
                reason: reason(&definition, &text.table_name(), &absent),
            }),
        }
    }
    let mut found = findings(setup, &refused);
    found.extend(setup.project.sources.iter().flat_map(|table| known::mistaken_types(table, known)));
    downgrade(&mut found, setup, &definition, known);
    found.extend(suspicious(setup, &definition));
    found.extend(grants::faults::findings(setup, &definition, &known.tables, &contents.models));
    found.extend(columns::findings(setup, known, &contents));
    found.extend(unique_key::findings(setup, &contents.models));
    found.extend(dashboards::check::findings(setup, &known.tables, &contents, &absent, |what, reason| {
        unchecked.push(Unchecked { what, reason });
    }));
    found.extend(syncs::findings(setup, known, &contents, unchecked));
    found
}

/// What models and views say that can be meant, and hardly is.
fn suspicious(setup: &Setup, definition: &Definition) -> impl Iterator<Item = Diagnostic> {
    let told = definition.models.iter().flat_map(|text| {
        let told = plan::suspicions(&text.sql).into_iter();
        told.map(|told| (text.table_name(), told))
    });
    let told: Vec<(TableName, Refusal)> = told.collect();
    let found = findings(setup, &told).into_iter();
    found.map(|finding| Diagnostic { severity: Severity::Warning, ..finding })
}

/// A text that is none of a model, whatever its tables are.
fn misread(text: &crate::definition::ModelText) -> Option<Refusal> {
    if !text.is_view {
        return plan::one_select(&text.sql).err();
    }
    match query::parse(&text.sql) {
        Ok(statements) if statements.len() == 1 => None,
        Ok(statements) => Some(Refusal {
            message: "a view is one SELECT".to_owned(),
            detail: format!("The text holds {} statements.", statements.len()),
            ..Refusal::default()
        }),
        Err(error) => Some(crate::views::refusal(error, &text.sql)),
    }
}

/// Why a model is not planned: the tables below it that are not known.
fn reason(definition: &Definition, name: &TableName, absent: &[AbsentTable]) -> String {
    let below = absent.iter().filter(|table| definition.readers_of(std::iter::once(table.name.clone())).contains(name));
    let reasons: Vec<String> = below.map(|table| format!("{}: {}", table.name, table.reason)).collect();
    reasons.join("; ")
}

/// A column that is not among those that a project declares of a table: where that may have more, it may be there all the same. Of which of
/// several tables it would be is not known.
fn downgrade(found: &mut [Diagnostic], setup: &Setup, definition: &Definition, known: &Known) {
    let declared: Vec<(&TableName, &Place, BTreeSet<&str>)> = known
        .declared
        .iter()
        .filter_map(|table| {
            let is_it = |of: &&SourceTable| (&of.source, &of.name) == (&table.schema, &table.name);
            let place = &setup.project.sources.iter().find(is_it)?.place;
            let readers = definition.readers_of(std::iter::once(table.clone()));
            let files = definition.models.iter().filter(|text| readers.contains(&text.table_name()));
            Some((table, place, files.map(|text| text.file.as_str()).collect()))
        })
        .collect();
    for finding in found.iter_mut().filter(|finding| finding.is_error() && is_of_column(&finding.message)) {
        let below = declared.iter().filter(|(.., files)| files.contains(finding.place.file.as_str()));
        let below: Vec<_> = below.map(|(table, place, _)| (*table, *place)).collect();
        if below.is_empty() {
            continue;
        }
        let tables: Vec<String> = below.iter().map(|(table, place)| format!("{table} ({place})")).collect();
        let tables = tables.join(" and ");
        finding.detail = Some(format!(
            "The columns of {tables} are known as they are declared: `tidemill check --online` asks the source."
        ));
        if below.iter().any(|(table, _)| known.may_have_more(table)) {
            finding.severity = Severity::Warning;
        }
    }
}

fn is_of_column(message: &str) -> bool {
    message.contains("column \"") && message.ends_with("\" does not exist")
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::demo::Simulator;

    /// The demo's own dashboards, and the example of docs/dashboards.md over its models.
    #[test]
    fn the_documented_dashboard_and_those_of_the_shop_are_right() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/dashboards.md");
        let text = std::fs::read_to_string(path).unwrap();
        let example = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let mut files = crate::demo::files();
        files.insert("dashboards/today.yml", example);
        let setup = Setup::from_files(PathBuf::from("demo"), &files, &project::Options::default(), None);
        let simulator = Simulator::new(&project::SimulatedShop::default());
        let table =
            |of: &SourceTable| (TableName::new(&of.source, &of.name), simulator.schema(&of.identifier).unwrap());
        let known = Known { tables: setup.project.sources.iter().map(table).collect(), ..Known::default() };
        let mut unchecked = Vec::new();
        let found = planned(&setup, &known, &mut unchecked);
        let found: Vec<String> = setup.findings.iter().chain(&found).map(ToString::to_string).collect();
        assert_eq!(found, Vec::<String>::new());
        assert_eq!(unchecked, []);
        assert_eq!(setup.project.dashboards.len(), 3);
    }

    #[test]
    fn what_waits_for_one_thing_is_told_together() {
        let of = |what: &str, reason: &str| Unchecked { what: what.to_owned(), reason: reason.to_owned() };
        let lines = told(&[of("model a", "x"), of("model b", "y"), of("model c", "x")], true);
        assert_eq!(lines, ["not checked: model a, model c: x", "not checked: model b: y", KNOWN_BY]);
        assert_eq!(told(&[], true), Vec::<String>::new());
        assert_eq!(told(&[of("model a", "x")], false), ["not checked: model a: x"]);
    }
}
