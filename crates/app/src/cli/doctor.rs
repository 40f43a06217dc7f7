//! `doctor`: can the sources be read, and the destinations be delivered to?

use std::collections::{BTreeMap, BTreeSet};

use connect::destination::Target;
use connect::{Check, CheckOutcome, Failure, Source};
use relation::Position;

use super::{Context, Outcome, print};
use crate::clock::{Clock as _, WallClock};
use crate::definition::Definition;
use crate::delivery::Wanted;
use crate::delivery::check::{self, Followed};
use crate::instance::Addresses;
use crate::known::Known;
use crate::reason::Reason;
use crate::reconcile::ago;
use crate::setup::Setup;
use crate::source_status::FADING_PERCENT;
use crate::warehouse::{Described, Warehouse, keepable};

/// Up to where a source was read; none where nothing was, or nobody can tell just now.
async fn position(setup: &Setup, source: &str) -> Option<Position> {
    let sql = format!("select position from tidemill.sources where source = '{}'", source.replace('\'', "''"));
    if let Some(addresses) = Addresses::read(&setup.data)
        && let Ok(Ok(answer)) = super::ask::ask_running(&addresses, &sql).await
    {
        let position = answer.rows.into_iter().next()?.into_iter().next()??;
        return Some(Position(position)).filter(|position| !position.0.is_empty());
    }
    if !setup.data.join("store").is_dir() {
        return None;
    }
    let (opening, name) = (setup.clone(), source.to_owned());
    let read = move || {
        let warehouse = Warehouse::open(&opening, &Described::default()).ok()?;
        let number = warehouse.engine.source(&name)?;
        warehouse.engine.position(number).cloned()
    };
    tokio::task::spawn_blocking(read).await.ok()?
}

/// Whether what is not read yet is there, and kept for long enough.
async fn of_retention(source: &dyn Source, position: &Position) -> Option<Check> {
    if let Err(failure) = source.leads_on(position).await {
        return Some(Check::failed("unread_log", failure.message, failure.detail, failure.hint));
    }
    let retention = source.retention(position).await.ok()??;
    let now_us = WallClock.now_us();
    let Some(closed_us) = retention.closed_us else {
        return Some(Check::ok("unread_log", "what is not read yet is in the newest file of the log"));
    };
    let percent = retention.used_percent(now_us);
    let message = format!(
        "the log behind what is read was closed {} ago, {percent} % of the time for which it is kept",
        ago(now_us - closed_us)
    );
    Some(match percent >= FADING_PERCENT {
        false => Check::ok("unread_log", message),
        true => Check::warning(
            "unread_log",
            message,
            "When it is dropped, the tables must be loaded again.",
            format!("{}; then have it read: `tidemill status` says what is in the way.", retention.mend),
        ),
    })
}

/// What the destinations say of the syncs that deliver to them, as far as it is known what these deliver.
async fn destinations(setup: &Setup) -> anyhow::Result<Vec<(String, Vec<Check>)>> {
    let wanted = Wanted::of(setup);
    if wanted.syncs.is_empty() {
        return Ok(Vec::new());
    }
    let known = Known::offline(setup).await?;
    let absent = setup.not_followed(&known.tables, known.absent.clone());
    let contents = keepable(&Definition::of(setup), &known.tables, &absent).contents;
    let mut of: BTreeMap<&str, (Vec<Target>, Vec<Check>)> = BTreeMap::new();
    let mut taken = wanted.taken(&BTreeMap::new(), &BTreeSet::new());
    for sync in &wanted.syncs {
        let (targets, checks) = of.entry(&sync.sync.destination).or_default();
        let name = sync.name();
        if let Some(Failure { message, detail, hint }) = taken.remove(name) {
            checks.push(Check::failed("sync", format!("sync \"{name}\": {message}"), detail, hint));
            continue;
        }
        match (check::followed(sync, &known, &contents), &sync.settings) {
            (_, Err(reason)) => checks.push(Check::failed("settings", reason.clone(), "", "")),
            (Followed::Unknown(reason) | Followed::Keyless { reason, .. }, Ok(_)) => checks.push(Check::warning(
                "sync",
                format!("sync \"{name}\" is not asked for: it is not known what it delivers"),
                reason,
                "`tidemill up` loads what it follows.",
            )),
            (Followed::Columns(schema), Ok(_)) => match sync.target(&schema) {
                Ok(target) => targets.push(target),
                Err(problems) => checks.extend(problems.into_iter().map(|problem| {
                    let message = format!("sync \"{name}\": {}", problem.message);
                    Check::failed("sync", message, problem.detail, problem.hint)
                })),
            },
        }
    }
    let mut asked = Vec::new();
    for (connection, (targets, told)) in of {
        let settings = wanted.syncs.iter().filter(|sync| sync.sync.destination == connection);
        let settings = settings.filter_map(|sync| Some((sync.kind()?, sync.settings.as_ref().ok()?))).next();
        let mut checks = match settings {
            Some((kind, settings)) => kind.doctor(settings, targets).await,
            None => Vec::new(),
        };
        checks.extend(told);
        // Two syncs may have one and the same to say.
        checks.dedup();
        asked.push((connection.to_owned(), checks));
    }
    Ok(asked)
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    let mut told = Told { context, failed: false, answers: Vec::new() };
    for (name, place) in &setup.project.broken_connections {
        let message = format!("it is declared with a mistake ({place})");
        told.tell(name, vec![Check::failed("settings", message, "", "`tidemill check` says which.")]);
    }
    for feed in setup.feeds()? {
        let source = feed.source().await;
        let mut checks = source.doctor(&feed.wanted()).await;
        // What cannot be asked because of an earlier answer is left out.
        let is_open = |check: &Check| {
            check.outcome != CheckOutcome::Failed
                || !["connection", "settings", "log_bin", "grants"].contains(&check.name)
        };
        if checks.iter().all(is_open)
            && let Some(position) = position(&setup, &feed.connection.name).await
        {
            checks.extend(of_retention(&*source, &position).await);
        }
        told.tell(&feed.connection.name, checks);
    }
    for (connection, checks) in destinations(&setup).await? {
        told.tell(&connection, checks);
    }
    if context.json {
        print(&serde_json::Value::Array(told.answers).to_string());
    }
    Ok(if told.failed { Outcome::Failed } else { Outcome::Ok })
}

/// What is told of all connections.
struct Told<'a> {
    context: &'a Context,
    failed: bool,
    /// For programs.
    answers: Vec<serde_json::Value>,
}

impl Told<'_> {
    fn tell(&mut self, connection: &str, checks: Vec<Check>) {
        for check in checks {
            let check = apart(check);
            self.failed |= check.outcome == CheckOutcome::Failed;
            let word = match check.outcome {
                CheckOutcome::Ok => "ok",
                CheckOutcome::Warning => "warning",
                CheckOutcome::Failed => "failed",
            };
            if self.context.json {
                self.answers.push(serde_json::json!({
                    "connection": connection, "check": check.name, "outcome": word,
                    "message": check.message, "detail": check.detail, "hint": check.hint,
                }));
                continue;
            }
            print(&format!("{word:<8} {connection}: {} — {}", check.name, check.message));
            for (label, text) in [("Detail", &check.detail), ("Hint", &check.hint)] {
                if !text.is_empty() {
                    print(&format!("         {label}: {}", text.replace('\n', "\n         ")));
                }
            }
        }
    }
}

/// A check whose parts are what they say they are: why something failed may come with a detail and a hint of its own.
fn apart(check: Check) -> Check {
    if ![&check.message, &check.detail, &check.hint]
        .iter()
        .any(|text| text.contains("\nDetail: ") || text.contains("\nHint: "))
    {
        return check;
    }
    let Check { name, outcome, message, detail, hint } = check;
    let Reason { message, detail, hint } = Reason::of(&Failure { message, detail, hint }.text());
    Check { name, outcome, message, detail, hint }
}
