//! `test`: the project's data tests over what is kept, as dbt's word has it.

use std::collections::BTreeSet;

use anyhow::bail;
use serde_json::{Value as Json, json};

use super::ask::{self, Asked};
use super::{Context, Outcome, print};
use crate::counted::counted;
use crate::data_tests::{STATEMENT, Test};
use crate::documentation;
use crate::output::Table;
use crate::reason::Reason;
use crate::select::{Candidate, Graph, Node, select};
use crate::setup::Setup;

#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// Tests of these tables and models alone, by dbt's selectors: orders, +orders, tag:nightly, source:shop, test_name:unique
    #[arg(long, short, num_args = 1.., value_name = "SELECTOR")]
    select: Vec<String>,
    /// But not of these
    #[arg(long, num_args = 1.., value_name = "SELECTOR")]
    exclude: Vec<String>,
}

/// What is asked to know what is selected.
const KNOWN: [&str; 4] = [
    "select node, test, \"column\", path from tidemill.tests",
    "select schema || '.' || model, path, tags from tidemill.models",
    "select schema || '.' || \"table\", tags from tidemill.tables",
    "select upstream, downstream from tidemill.lineage",
];

pub(super) async fn run(context: &Context, args: TestArgs) -> anyhow::Result<Outcome> {
    let setup = ask::found(context)?;
    // One folder, opened once: for what there is to select from, and for the tests.
    let mut asked = Asked::of(context, &setup);
    let answer = answered(context, &mut asked, &args).await;
    asked.close().await?;
    let Some(answer) = answer? else { return Ok(Outcome::Usage) };
    if let Some(others) = others(context, &setup, &answer, args.select.is_empty() && args.exclude.is_empty()) {
        context.warn(&others);
    }
    let outcome = report(context, &answer);
    if context.json {
        print(&json_of(&answer).to_string());
    }
    Ok(outcome)
}

/// What comes of the tests that are wanted; none where the selection is not understood, which is said.
async fn answered(context: &Context, asked: &mut Asked<'_>, args: &TestArgs) -> anyhow::Result<Option<Table>> {
    if args.select.is_empty() && args.exclude.is_empty() {
        return asked.ask(STATEMENT).await.map(Some);
    }
    match selected(context, asked, args).await? {
        Some(statement) => asked.ask(&statement).await.map(Some),
        None => Ok(None),
    }
}

/// The statement that runs the tests that are selected; none where the selection is not understood, which is said. Errors: no test is.
async fn selected(context: &Context, asked: &mut Asked<'_>, args: &TestArgs) -> anyhow::Result<Option<String>> {
    let known = asked.all(&KNOWN).await?;
    let [tests, models, tables, edges] = &known[..] else { bail!("there is no answer") };
    let cell = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    let tags = |text: String| text.split(", ").filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
    let models = models.rows.iter().map(|row| Node {
        name: cell(row, 0),
        path: cell(row, 1),
        tags: tags(cell(row, 2)),
        is_source: false,
    });
    let tables = tables.rows.iter().map(|row| Node {
        name: cell(row, 0),
        path: String::new(),
        tags: tags(cell(row, 1)),
        is_source: true,
    });
    let graph = Graph {
        nodes: models.chain(tables).collect(),
        edges: edges.rows.iter().map(|row| (cell(row, 0), cell(row, 1))).collect(),
    };
    let candidates: Vec<Candidate> =
        tests.rows.iter().map(|row| Candidate { node: cell(row, 0), test: cell(row, 1), path: cell(row, 3) }).collect();
    let chosen = match select(&graph, &candidates, &args.select, &args.exclude) {
        Ok(chosen) => chosen,
        Err(error) => {
            let reason = Reason::of(&error);
            context.misused(&reason.message, &reason.hint);
            return Ok(None);
        }
    };
    for (criterion, meant) in &chosen.unfit {
        let hint = meant.as_ref().map(|meant| format!("\nHint: Did you mean `{meant}`?")).unwrap_or_default();
        context.warn(&format!("`{criterion}` fits no table, model or test{hint}"));
    }
    let ids = tests.rows.iter().zip(chosen.tests).filter(|(_, is_chosen)| *is_chosen);
    let ids: BTreeSet<String> =
        ids.map(|(row, _)| format!("{}|{}|{}", cell(row, 0), cell(row, 1), cell(row, 2))).collect();
    if ids.is_empty() {
        let declared = candidates.len();
        bail!(
            "no test is selected, of the {declared} that are in place\nHint: `tidemill query 'select * from tidemill.tests'` lists them."
        );
    }
    Ok(Some(format!("{STATEMENT} {}", json!(ids))))
}

/// What is said where the project on disk declares other tests than those that were run.
fn others(context: &Context, setup: &Setup, answer: &Table, is_all: bool) -> Option<String> {
    if !setup.is_project() || !is_all {
        return None;
    }
    let on_disk = Setup::load(&context.global).ok()?;
    if on_disk.has_errors() {
        return Some(
            "there is a mistake in the project on disk: what was run is in place, `tidemill check` says what is wrong"
                .to_owned(),
        );
    }
    let declared = Test::all(documentation::of(&on_disk).iter());
    let wanted: BTreeSet<(String, String)> =
        declared.iter().map(|test| (test.id(), test.declared.sql.clone())).collect();
    let ran: BTreeSet<(String, String)> = (0..answer.rows.len())
        .map(|at| {
            (
                format!("{}|{}|{}", node(answer, at), cell(answer, at, "test"), cell(answer, at, "column")),
                cell(answer, at, "sql").to_owned(),
            )
        })
        .collect();
    let differing = wanted.symmetric_difference(&ran).count();
    (differing > 0).then(|| {
        "the project on disk declares other tests than those that are in place and were run: `tidemill apply` takes them"
            .to_owned()
    })
}

fn cell<'a>(answer: &'a Table, row: usize, column: &str) -> &'a str {
    let at = answer.columns.iter().position(|name| name == column);
    at.and_then(|at| answer.rows.get(row)?.get(at)?.as_deref()).unwrap_or_default()
}

/// The full name of what a test is declared on.
fn node(answer: &Table, row: usize) -> String {
    format!("{}.{}", cell(answer, row, "schema"), cell(answer, row, "model"))
}

fn reason(answer: &Table, row: usize) -> Reason {
    let part = |name: &str| cell(answer, row, name).to_owned();
    Reason { message: part("message"), detail: part("detail"), hint: part("hint") }
}

/// Says what came of the tests that an answer tells of, a line each, and how many that are.
pub(super) fn report(context: &Context, answer: &Table) -> Outcome {
    let mut counts = [
        ("pass", "passed", 0),
        ("warn", "warned", 0),
        ("fail", "failed", 0),
        ("error", "not answered", 0),
        ("not run", "not run", 0),
    ];
    for row in 0..answer.rows.len() {
        let state = cell(answer, row, "state");
        counts.iter_mut().filter(|(word, ..)| *word == state).for_each(|(_, _, count)| *count += 1);
        if !context.json {
            line(answer, row, state);
        }
    }
    // That what was tested is old is said once.
    let old = (0..answer.rows.len()).filter(|row| matches!(cell(answer, *row, "state"), "pass" | "warn" | "fail"));
    if let Some(old) = old.map(|row| reason(answer, row)).find(|reason| !reason.is_empty()) {
        context.warn(&old.to_string());
    }
    let told = counts.iter().filter(|(_, _, count)| *count > 0).map(|(_, word, count)| format!("{count} {word}"));
    let told: Vec<String> = told.collect();
    context.progress(&match told.is_empty() {
        true => "no test is declared".to_owned(),
        false => {
            format!("{}: {}", counted(answer.rows.len(), "test"), told.join(", "))
        }
    });
    match has_failed(answer) {
        true => Outcome::Failed,
        false => Outcome::Ok,
    }
}

fn has_failed(answer: &Table) -> bool {
    (0..answer.rows.len()).any(|row| matches!(cell(answer, row, "state"), "fail" | "error"))
}

/// A test in a line, and what there is to look at where it did not pass.
fn line(answer: &Table, row: usize, state: &str) {
    let column = cell(answer, row, "column");
    let of = if column.is_empty() { node(answer, row) } else { format!("{}.{column}", node(answer, row)) };
    let failures = match cell(answer, row, "failures") {
        "" | "0" => String::new(),
        _ => failures(answer, row),
    };
    print(format!("{state:<7} {of} {} {failures}", cell(answer, row, "test")).trim_end());
    match state {
        "error" | "not run" => {
            reason(answer, row).to_string().lines().for_each(|line| print(&format!("        {line}")))
        }
        "warn" | "fail" => print(&format!("        {}", cell(answer, row, "sql"))),
        _ => {}
    }
}

/// How many rows a test has found.
fn failures(answer: &Table, row: usize) -> String {
    match cell(answer, row, "failures") {
        "1" => "1 failure".to_owned(),
        failures => format!("{failures} failures"),
    }
}

/// The same for programs, with the first that failed as the error.
pub(super) fn json_of(answer: &Table) -> Json {
    let tests: Json = serde_json::from_str(&answer.json()).unwrap_or_default();
    let mut object = json!({ "tests": tests });
    let failed = (0..answer.rows.len()).find(|row| matches!(cell(answer, *row, "state"), "fail" | "error"));
    if let Some(row) = failed {
        object["error"] = error(answer, row).json();
    }
    object
}

/// What a test that failed says as an error.
fn error(answer: &Table, row: usize) -> Reason {
    let what = format!("test {} of {}", cell(answer, row, "test"), node(answer, row));
    match cell(answer, row, "state") {
        "error" => reason(answer, row).behind(&format!("{what} has no answer: ")),
        _ => Reason::of(&format!("{what} fails: {}", failures(answer, row)))
            .hinting(&format!("{} shows them.", cell(answer, row, "sql"))),
    }
}
