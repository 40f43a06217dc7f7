//! `plan`, `apply`, `rollback`: what a changed project would do to what serves; doing it; going back.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use plan::TableName;
use relation::Schema;

use super::{Context, Outcome, interrupted, print};
use crate::change::{Changes, ModelChange, RowsChanged, What};
use crate::control::{self, Order, Ordered, Reply, Serving};
use crate::counted::{counted, of_number};
use crate::dashboards;
use crate::definition::Definition;
use crate::delivery;
use crate::grants;
use crate::hold::Standing;
use crate::opening::{self, COMMAND_PATIENCE, Found};
use crate::output::Table;
use crate::pump::{self, Applied, SOURCE_TABLE};
use crate::reason::Reason;
use crate::setup::Setup;
use crate::unique_key;
use crate::warehouse::{Described, Keepable, Proposal, findings, newly_refused, told};

/// What to do where nothing runs.
const UP: &str = "Hint: `tidemill up` starts it, and applies the project on disk at its start.";

fn nobody(left_by: Option<u32>) -> anyhow::Error {
    match left_by {
        None => anyhow::anyhow!("nothing runs here\n{UP}"),
        Some(pid) => anyhow::anyhow!(
            "nothing runs here any more: the instance of process {pid} ended without a word, as one that is killed does\n{UP}"
        ),
    }
}

/// Shows what would change; [`Outcome::Pending`] where something would.
pub(super) async fn plan(context: &Context, counts: bool) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else {
        if context.json {
            print(&json_of(&Changes { errors: errors(context)?, ..Changes::default() }, &errors(context)?)?);
        }
        return Ok(Outcome::Failed);
    };
    let serving = serving(&setup).await?;
    for warning in &serving.warnings {
        context.warn(warning);
    }
    if !serving.unreadable.is_empty() {
        serving.unreadable.iter().for_each(|reason| context.say(&format!("error: {reason}")));
        if context.json {
            let changes = Changes { errors: serving.unreadable.clone(), ..Changes::default() };
            print(&json_of(&changes, &serving.unreadable)?);
        }
        return Ok(Outcome::Failed);
    }
    let tables = serving.tables()?;
    let old = serving.definition.plan(&tables).models;
    let mut absent = serving.absent();
    absent.retain(|table| setup.has_table(&table.name));
    let absent = setup.not_followed(&tables, absent);
    let unwanted = tables.iter().map(|(name, _)| name).filter(|name| !setup.has_table(name)).cloned().collect();
    let definition = Definition::of(&setup);
    let to_come = serving.tables_to_come()?;
    let beside = Standing { serving: serving.definition.clone(), failing: Vec::new() };
    let proposal = Proposal::of(&definition, beside, to_come.clone(), absent.clone(), unwanted);
    let Keepable { contents: wanted, refused } = proposal.keepable;
    let mut found = findings(&setup, &newly_refused(refused, &definition, &serving.waiting));
    found.extend(grants::faults::findings(&setup, &definition, &to_come, &wanted.models));
    found.extend(delivery::check::findings_over(&setup, &to_come, &wanted, &serving.places()));
    found.extend(dashboards::check::findings(&setup, &to_come, &wanted, &absent, |_, _| ()));
    found.extend(unique_key::findings(&setup, &wanted.models));
    found.iter().for_each(|finding| context.say(&setup.shown(finding)));
    let reloaded: BTreeSet<TableName> =
        serving.changed_tables.iter().map(|(schema, name, _)| TableName::new(schema, name)).collect();
    let of = (&wanted.definition, wanted.models.as_slice());
    let mut changes = Changes::between((&serving.definition, &old), of, &serving.row_counts(), &reloaded);
    let schema_of =
        |of: &[(TableName, Schema)], name| of.iter().find(|(known, _)| known == name).map(|(_, s)| s.clone());
    for name in &reloaded {
        if let (Some(old), Some(new)) = (schema_of(&tables, name), schema_of(&to_come, name)) {
            changes.changed_tables.push(control::shown_change(name, &old, &new));
        }
    }
    changes.changed_tables.extend(serving.changed_rules.iter().cloned());
    changes.waiting = told(&wanted.waiting);
    changes.held = told(&wanted.held);
    let errors = setup.errors().chain(found.iter().filter(|finding| finding.is_error()));
    changes.errors = errors.map(|finding| setup.shown(finding)).collect();
    changes.restart.clone_from(&serving.restart);
    changes.roles.clone_from(&serving.roles);
    changes.dashboards.clone_from(&serving.dashboards);
    changes.syncs.clone_from(&serving.syncs);
    changes.new_tables.clone_from(&serving.new_tables);
    changes.gone_tables.clone_from(&serving.gone_tables);
    if counts {
        for at in 0..changes.models.len() {
            match count(&setup, &changes, at, &wanted.definition).await {
                Ok(counted) => changes.models[at].counted = Some(counted),
                Err(error) => changes.models[at].not_counted = Some(format!("{error:#}").replace('\n', " ")),
            }
        }
    }
    if context.json {
        let first = [&changes.errors, &changes.held, &changes.waiting].into_iter().flatten();
        print(&json_of(&changes, &first.cloned().collect::<Vec<_>>())?);
    } else {
        print(&text(&changes));
    }
    Ok(match (changes.is_whole(), changes.is_empty()) {
        (false, _) => Outcome::Failed,
        (true, true) => Outcome::Ok,
        (true, false) => Outcome::Pending,
    })
}

/// Counts the rows of a model that would come and go: the answer of its new text over what is stored now, against what is
/// kept. Errors: why that is not known before it is built.
async fn count(setup: &Setup, changes: &Changes, at: usize, wanted: &Definition) -> anyhow::Result<RowsChanged> {
    let change = &changes.models[at];
    let before = change.rows.unwrap_or(0);
    if change.what == What::Removed {
        return Ok(RowsChanged { come: 0, go: before });
    }
    let Some(text) = wanted.models.iter().find(|text| text.table_name().to_string() == change.model) else {
        bail!("it is not in the project");
    };
    let changing =
        |name: &String| changes.models.iter().any(|other| other.model == *name) || changes.views.contains(name);
    let upstream: Vec<String> = text.upstream().map(|name| name.to_string()).filter(changing).collect();
    if !upstream.is_empty() {
        bail!("it reads {}, and that changes too", upstream.join(", "));
    }
    // What ends in a comment must not swallow the bracket.
    let new = format!("({}\n)", text.sql.trim().trim_end_matches(';'));
    let old = format!("{}.{}", plan::delimited(&text.schema), plan::delimited(&text.name));
    let numbers = |table: &Table| -> anyhow::Result<Vec<i64>> {
        let cells = table.rows.first().map(Vec::as_slice).unwrap_or_default();
        cells.iter().map(|cell| Ok(cell.as_deref().unwrap_or("0").parse()?)).collect()
    };
    if change.what == What::Added || !change.columns.is_empty() {
        let answer = super::ask::ask_instance(setup, &format!("select count(*) from {new} as n")).await?;
        let [come] = numbers(&answer)?[..] else { bail!("no number came back") };
        return Ok(RowsChanged { come, go: before });
    }
    let shape = super::ask::ask_instance(setup, &format!("select * from {old} limit 0")).await?;
    let columns: Vec<String> = shape.columns.iter().map(|name| plan::delimited(name)).collect();
    let columns = columns.join(", ");
    // As bags: a row that is there twice and then once has gone once.
    let sql = format!(
        "select sum(case when n > 0 then n else 0 end), sum(case when n < 0 then -n else 0 end) from (select sum(w) as n from \
         (select {columns}, 1 as w from {new} as new_rows union all select {columns}, -1 as w from {old}) as both_sides \
         group by {columns}) as nets"
    );
    let answer = super::ask::ask_instance(setup, &sql).await?;
    let [come, go] = numbers(&answer)?[..] else { bail!("no numbers came back") };
    Ok(RowsChanged { come, go })
}

/// An answer for programs, the first of what is wrong apart.
fn json_of(answer: &impl serde::Serialize, errors: &[String]) -> anyhow::Result<String> {
    let Some(first) = errors.first() else { return Ok(serde_json::to_string(answer)?) };
    let mut answer = serde_json::to_value(answer)?;
    answer["error"] = super::failure::parted(first);
    Ok(answer.to_string())
}

/// What keeps the project on disk from being loaded.
fn errors(context: &Context) -> anyhow::Result<Vec<String>> {
    let setup = Setup::load(&context.global)?;
    Ok(setup.errors().map(|finding| setup.shown(finding)).collect())
}

/// What serves in the running instance, or served in the stopped one.
pub(crate) async fn serving(setup: &Setup) -> anyhow::Result<Serving> {
    match control::order(&setup.data, Order::Describe).await? {
        Ordered::Answered(Reply::Serving(serving)) => return Ok(serving),
        Ordered::Answered(other) => return Err(other.into_error()),
        Ordered::Nobody { .. } => {}
    }
    if !setup.data.join("store").is_dir() {
        bail!(
            "nothing was kept here yet, in {}\nHint: `tidemill up` keeps all models of the project.",
            setup.data.display()
        );
    }
    let found = opening::found(setup, Described::default(), Arc::default(), COMMAND_PATIENCE, |_| ());
    let Found::Folder(warehouse) = found.await? else {
        // It was starting.
        return match control::order(&setup.data, Order::Describe).await? {
            Ordered::Answered(Reply::Serving(serving)) => Ok(serving),
            Ordered::Answered(other) => Err(other.into_error()),
            Ordered::Nobody { left_by } => Err(nobody(left_by)),
        };
    };
    tokio::task::spawn_blocking(move || Ok(Serving::from(pump::Described::of(&warehouse)))).await?
}

/// Has the running instance take the project on disk.
pub(super) async fn apply(context: &Context) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else {
        if context.json {
            print(&json_of(&Applied { failed: errors(context)?, ..Applied::default() }, &errors(context)?)?);
        }
        return Ok(Outcome::Failed);
    };
    let begun = crate::clock::stopwatch();
    let mut told = Told::new(context);
    let Some(ordered) = given(context, &setup.data, Order::Apply, |text| told.tell(text)).await? else {
        return Ok(Outcome::Interrupted);
    };
    let applied = match ordered {
        Ordered::Nobody { left_by } => return Err(nobody(left_by)),
        Ordered::Answered(Reply::Applied(applied)) => applied,
        Ordered::Answered(Reply::Refused(reason)) => {
            if context.json {
                let failed = vec![reason.clone()];
                print(&json_of(&Applied { failed: failed.clone(), ..Applied::default() }, &failed)?);
            }
            bail!("not applied; what served before serves on\n{reason}")
        }
        Ordered::Answered(other) => return Err(other.into_error()),
    };
    if context.json {
        let first = [&applied.failed, &applied.errors, &applied.held, &applied.stopped, &applied.waiting];
        let first = first.into_iter().flatten();
        print(&json_of(&applied, &first.cloned().collect::<Vec<_>>())?);
    } else {
        for (mark, names) in [("+", &applied.added), ("~", &applied.changed), ("-", &applied.removed)] {
            names.iter().for_each(|name| print(&format!("{mark} {name}")));
        }
        for (mark, names) in [("+", &applied.new_tables), ("~", &applied.changed_tables), ("-", &applied.gone_tables)] {
            names.iter().for_each(|name| print(&format!("{mark} source table {name}")));
        }
        applied.roles.iter().chain(&applied.dashboards).chain(&applied.syncs).for_each(|line| print(line));
    }
    if !applied.failed.is_empty() {
        for reason in &applied.failed {
            context.say(&format!("error: {reason}"));
        }
        context.say("not applied; what served before serves on");
        return Ok(Outcome::Failed);
    }
    applied.warnings.iter().for_each(|warning| context.warn(warning));
    let is_said = |finding: &&String| setup.findings.iter().any(|said| setup.shown(said) == **finding);
    applied
        .notices
        .iter()
        .chain(&applied.errors)
        .filter(|finding| !is_said(finding))
        .for_each(|finding| context.say(finding));
    shortfall(&applied).for_each(|line| context.say(&line));
    applied.restart.iter().for_each(|what| context.say(&format!("restart to take it up: {what}")));
    let (seconds, kept) = (begun.elapsed().as_secs_f64(), as_before(applied.kept.len()));
    context.progress(&match lacking(&applied).as_str() {
        "" => format!("applied after {seconds:.1} s, {kept}"),
        lacking => format!("applied after {seconds:.1} s, in part: {lacking}; {kept}"),
    });
    Ok(if applied.is_whole() { Outcome::Ok } else { Outcome::Failed })
}

/// What of a project is not in place, as people are told: models that serve as before, that failed, and that wait.
pub(super) fn shortfall(applied: &Applied) -> impl Iterator<Item = String> {
    let held =
        once(&applied.held, &applied.errors).map(|model| format!("error: not applied, and serves as before: {model}"));
    let stopped = applied.stopped.iter().map(|model| format!("error: {model}"));
    held.chain(stopped).chain(once(&applied.waiting, &applied.errors).map(|model| format!("waits: {model}")))
}

/// How many models and tables are not in place as the project says; empty where all are.
pub(super) fn lacking(applied: &Applied) -> String {
    let parts = [
        waiting(&applied.waiting),
        held(&applied.held),
        (!applied.stopped.is_empty())
            .then(|| format!("{} could not be built", counted(applied.stopped.len(), "model"))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn lacking_of(changes: &Changes) -> String {
    [waiting(&changes.waiting), held(&changes.held)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `2 models and 1 source table wait`
fn waiting(told: &[String]) -> Option<String> {
    let tables = told.iter().filter(|told| told.starts_with(SOURCE_TABLE)).count();
    let counts = [(told.len() - tables, "model"), (tables, "source table")];
    let counts: Vec<String> =
        counts.into_iter().filter(|(number, _)| *number > 0).map(|(number, noun)| counted(number, noun)).collect();
    (!counts.is_empty()).then(|| format!("{} {}", counts.join(" and "), of_number(told.len(), "waits", "wait")))
}

/// `1 model serves as before`
fn held(told: &[String]) -> Option<String> {
    let models = counted(told.len(), "model");
    (!told.is_empty()).then(|| format!("{models} {} as before", of_number(told.len(), "serves", "serve")))
}

/// `3 models as they were`
pub(super) fn as_before(models: usize) -> String {
    format!("{} {}", counted(models, "model"), of_number(models, "as it was", "as they were"))
}

/// Why something is so of models, a text each, without the detail and the hint where an error at the same place has told them, or what
/// is said of another model does: of what is at fault, or of one before it that waits for the same.
fn once(models: &[String], errors: &[String]) -> impl Iterator<Item = String> {
    let why = |model: &String| Reason::of(model).message.split_once(": ").map(|(_, why)| why.to_owned());
    let reasons: Vec<Option<String>> = models.iter().map(why).collect();
    let is_told = |at: usize| {
        let (model, own) = (&models[at], &reasons[at]);
        let of_error = |error: &String| error.split_once(": error: ").is_some_and(|(place, _)| model.contains(place));
        let of_other = |(other, why): (usize, &Option<String>)| {
            let is_its = why.as_ref().is_some_and(|why| !why.is_empty() && model.contains(why.as_str()));
            is_its && (other < at || why != own) && other != at
        };
        errors.iter().any(of_error) || reasons.iter().enumerate().any(of_other)
    };
    let told: Vec<String> = (0..models.len())
        .map(|at| if is_told(at) { Reason::of(&models[at]).message } else { models[at].clone() })
        .collect();
    told.into_iter()
}

/// Gives an order, and tells how far it is; none where whoever gave it waits no longer.
pub(super) async fn given(
    context: &Context,
    data: &Path,
    order: Order,
    progress: impl FnMut(&str),
) -> anyhow::Result<Option<Ordered>> {
    tokio::select! {
        ordered = ordered(context, data, order, progress) => ordered.map(Some),
        () = interrupted() => {
            context.say(
                "interrupted: nobody waits for it any more, and what was ordered is carried out all the same\n\
                 Hint: `tidemill status` shows how the instance is.",
            );
            Ok(None)
        }
    }
}

/// Gives an order to the instance; to one that is starting, when it has started.
async fn ordered(
    context: &Context,
    data: &Path,
    order: Order,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Ordered> {
    let ordered = control::order_with(data, order.clone(), &mut progress).await?;
    let say = |text: &str| context.progress(text);
    if matches!(ordered, Ordered::Nobody { .. }) && opening::until_started(data, COMMAND_PATIENCE, say).await? {
        return control::order_with(data, order, progress).await;
    }
    Ok(ordered)
}

/// How far an apply is, for whoever waits: often where a person looks on, seldom where it goes to a log.
struct Told<'a> {
    context: &'a Context,
    since: std::time::Instant,
    every: Duration,
}

impl<'a> Told<'a> {
    fn new(context: &'a Context) -> Self {
        let every = if std::io::stderr().is_terminal() { Duration::from_secs(1) } else { Duration::from_secs(15) };
        Self { context, since: crate::clock::stopwatch(), every }
    }

    fn tell(&mut self, text: &str) {
        if self.since.elapsed() >= self.every {
            self.context.progress(text);
            self.since = crate::clock::stopwatch();
        }
    }
}

/// Has the running instance go back to what served before.
pub(super) async fn rollback(context: &Context) -> anyhow::Result<Outcome> {
    let setup = Setup::load(&context.global)?;
    let say = |text: &str| context.progress(text);
    let Some(ordered) = given(context, &setup.data, Order::Rollback, say).await? else {
        return Ok(Outcome::Interrupted);
    };
    match ordered {
        Ordered::Nobody { left_by } => Err(nobody(left_by)),
        Ordered::Answered(Reply::RolledBack) => {
            context.progress("what served before serves again; `tidemill rollback` once more takes it back");
            context.progress(
                "the project on disk is as it was: `tidemill apply` takes it, and so does a start once it has changed",
            );
            Ok(Outcome::Ok)
        }
        Ordered::Answered(Reply::RolledForward) => {
            context.progress(
                "what the last rollback gave up serves again: only one version is kept to go back to; `tidemill rollback` once \
                 more goes back to it",
            );
            Ok(Outcome::Ok)
        }
        Ordered::Answered(Reply::GivenUp) => {
            context.progress("what was being applied is given up; what served before serves on");
            Ok(Outcome::Ok)
        }
        Ordered::Answered(other) => Err(other.into_error()),
    }
}

fn text(changes: &Changes) -> String {
    let stay = |what: String| format!("{what} {}", of_number(changes.unchanged, "stays as it is", "stay as they are"));
    if changes.is_empty() {
        let mut lines: Vec<String> = shortfall_of(changes).collect();
        let stay = stay(counted(changes.unchanged, "model"));
        lines.push(match lacking_of(changes).as_str() {
            "" => format!("nothing would change, {stay}"),
            lacking => format!("nothing would change: {lacking}; {stay}"),
        });
        return lines.join("\n");
    }
    let mut lines: Vec<String> = changes.new_tables.iter().map(|table| format!("+ source table {table}")).collect();
    lines.extend(changes.changed_tables.iter().map(|table| format!("~ source table {table}")));
    lines.extend(changes.gone_tables.iter().map(|table| format!("- source table {table}")));
    lines.extend(changes.roles.iter().chain(&changes.dashboards).chain(&changes.syncs).cloned());
    lines.extend(changes.models.iter().map(line));
    lines.extend(changes.views.iter().map(|view| {
        let mark = match () {
            () if changes.new_views.contains(view) => '+',
            () if changes.gone_views.contains(view) => '-',
            () => '~',
        };
        format!("{mark} {view} (view)")
    }));
    lines.extend(shortfall_of(changes));
    lines.extend(changes.restart.iter().map(|what| format!("restart to take it up: {what}")));
    let rebuilt = changes.models.iter().filter(|change| change.what != What::Removed).count();
    let lacking = lacking_of(changes);
    lines.push(format!(
        "{} would be built beside what serves, in about {} s; {}{}{lacking}",
        counted(rebuilt, "model"),
        changes.seconds,
        stay(changes.unchanged.to_string()),
        if lacking.is_empty() { "" } else { "; " },
    ));
    lines.join("\n")
}

fn shortfall_of(changes: &Changes) -> impl Iterator<Item = String> {
    let held = once(&changes.held, &changes.errors).map(|model| format!("as before: {model}"));
    held.chain(once(&changes.waiting, &changes.errors).map(|model| format!("waits: {model}")))
}

fn line(change: &ModelChange) -> String {
    let mark = match change.what {
        What::Added => '+',
        What::Changed => '~',
        What::Removed => '-',
    };
    let mut line = format!("{mark} {}", change.model);
    if let Some(rows) = change.rows {
        line.push_str(&format!(" ({})", counted(rows, "row")));
    }
    if change.what != What::Removed {
        line.push_str(&format!(", built of {}", counted(change.reads_rows, "row")));
    }
    if let Some(RowsChanged { come, go }) = change.counted {
        let (comes, goes) = (of_number(come, "comes", "come"), of_number(go, "goes", "go"));
        line.push_str(&format!(", {} {comes} and {go} {goes}", counted(come, "row")));
    }
    if let Some(reason) = &change.not_counted {
        line.push_str(&format!(", rows not counted: {reason}"));
    }
    if !change.because_of.is_empty() {
        line.push_str(&format!(", with {}", change.because_of.join(", ")));
    }
    change.columns.iter().for_each(|column| line.push_str(&format!("\n    {column}")));
    line
}
