//! `plan`, `apply`, `rollback`: what a changed project would do to what serves; doing it; going back.

use anyhow::bail;

use super::{Context, Outcome, print};
use crate::change::{Changes, ModelChange, What};
use crate::control::{self, Order, Reply, Serving};
use crate::definition::Definition;
use crate::setup::Setup;
use crate::warehouse::{Described, Warehouse, findings, keepable, schemas};

/// What to do where nothing runs.
const NOTHING_RUNS: &str =
    "nothing runs here\nHint: `tidemill up` starts it, and applies the project on disk at its start.";

/// Shows what would change; [`Outcome::Pending`] where something would.
pub(super) async fn plan(context: &Context) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    let serving = serving(&setup).await?;
    let tables = serving.tables()?;
    let found = findings(&setup, &tables, &[]);
    if !found.is_empty() {
        found.iter().for_each(|finding| context.say(&setup.shown(finding)));
        return Ok(Outcome::Failed);
    }
    let old = serving.definition.plan(&tables).models;
    let wanted = keepable(&Definition::of(&setup), &tables, &[]).contents;
    let changes =
        Changes::between((&serving.definition, &old), (&wanted.definition, &wanted.models), &serving.row_counts());
    if context.json {
        print(&serde_json::to_string(&changes)?);
    } else {
        print(&text(&changes));
    }
    Ok(if changes.is_empty() { Outcome::Ok } else { Outcome::Pending })
}

/// What serves in the running instance, or served in the stopped one.
async fn serving(setup: &Setup) -> anyhow::Result<Serving> {
    match control::order(&setup.data, Order::Describe).await? {
        Some(Reply::Serving(serving)) => return Ok(serving),
        Some(Reply::Refused(reason)) => bail!(reason),
        Some(_) | None => {}
    }
    if !setup.data.join("store").is_dir() {
        bail!(
            "nothing was kept here yet, in {}\nHint: `tidemill up` keeps all models of the project.",
            setup.data.display()
        );
    }
    let (opening, runtime) = (setup.clone(), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        let warehouse = Warehouse::open(&opening, &Described::default(), runtime)?;
        let engine = &warehouse.engine;
        let tables = engine.tables().map(|table| (table.name.clone(), engine.row_count(table.id)));
        let models = engine.models().into_iter().map(|model| (model.name.clone(), engine.row_count(model.relation)));
        Ok(Serving::from(crate::pump::Described {
            definition: warehouse.serving.definition.clone(),
            rows: tables.chain(models).collect(),
            tables: schemas(engine),
        }))
    })
    .await?
}

/// Has the running instance take the project on disk.
pub(super) async fn apply(context: &Context) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    context.progress("building beside what serves");
    let begun = crate::clock::stopwatch();
    let applied = match control::order(&setup.data, Order::Apply).await? {
        None => bail!(NOTHING_RUNS),
        Some(Reply::Applied(applied)) => applied,
        Some(Reply::Refused(reason)) => bail!("not applied; what served before serves on\n{reason}"),
        Some(other) => bail!("an answer to another order: {other:?}"),
    };
    if context.json {
        print(&serde_json::to_string(&applied)?);
    } else {
        for (mark, names) in [("+", &applied.added), ("~", &applied.changed), ("-", &applied.removed)] {
            names.iter().for_each(|name| print(&format!("{mark} {name}")));
        }
    }
    if !applied.failed.is_empty() {
        for reason in &applied.failed {
            context.say(&format!("error: {reason}"));
        }
        context.say("not applied; what served before serves on");
        return Ok(Outcome::Failed);
    }
    let kept = applied.kept.len();
    context.progress(&format!("applied after {:.1} s, {kept} models as they were", begun.elapsed().as_secs_f64()));
    Ok(Outcome::Ok)
}

/// Has the running instance go back to what served before.
pub(super) async fn rollback(context: &Context) -> anyhow::Result<Outcome> {
    let setup = Setup::load(&context.global)?;
    match control::order(&setup.data, Order::Rollback).await? {
        None => bail!(NOTHING_RUNS),
        Some(Reply::RolledBack) => {
            context.progress("what served before serves again; `tidemill rollback` once more takes it back");
            Ok(Outcome::Ok)
        }
        Some(Reply::Refused(reason)) => bail!(reason),
        Some(other) => bail!("an answer to another order: {other:?}"),
    }
}

fn text(changes: &Changes) -> String {
    if changes.is_empty() {
        return format!("nothing would change, {} models stay as they are", changes.unchanged);
    }
    let mut lines: Vec<String> = changes.models.iter().map(line).collect();
    lines.extend(changes.views.iter().map(|view| format!("~ {view} (view)")));
    let rebuilt = changes.models.iter().filter(|change| change.what != What::Removed).count();
    lines.push(format!(
        "{rebuilt} models would be built beside what serves, in about {} s; {} stay as they are",
        changes.seconds, changes.unchanged
    ));
    lines.join("\n")
}

fn line(change: &ModelChange) -> String {
    let mark = match change.what {
        What::Added => '+',
        What::Changed => '~',
        What::Removed => '-',
    };
    let mut line = format!("{mark} {}", change.model);
    if let Some(rows) = change.rows {
        line.push_str(&format!(" ({rows} rows)"));
    }
    if change.what != What::Removed {
        line.push_str(&format!(", built of {} rows", change.reads_rows));
    }
    if !change.because_of.is_empty() {
        line.push_str(&format!(", with {}", change.because_of.join(", ")));
    }
    change.columns.iter().for_each(|column| line.push_str(&format!("\n    {column}")));
    line
}
