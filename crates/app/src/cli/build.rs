//! `build`: run until caught up, say how it went, exit.

use std::sync::Arc;
use std::time::Duration;

use connect::Source;
use relation::Position;

use super::terminal::Start;
use super::{Context, Outcome, interrupted, print, up};
use crate::clock::{Clock as _, WallClock};
use crate::instance::Instance;
use crate::setup::Setup;
use crate::sources::said;
use crate::status::{Facts, TableStatus};

/// Where a source stood when the build began.
struct Target {
    name: String,
    source: Arc<dyn Source>,
    position: Position,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    let targets = targets(&setup).await?;
    let Some(instance) = up::start(context, &setup).await? else { return Ok(Outcome::Failed) };
    let mut poll = tokio::time::interval(Duration::from_millis(50));
    let interrupt = interrupted();
    tokio::pin!(interrupt);
    let mut terminal = context.terminal();
    let outcome = loop {
        tokio::select! {
            () = &mut interrupt => break Outcome::Interrupted,
            _ = poll.tick() => {}
        }
        if instance.has_failed() {
            break Outcome::Failed;
        }
        let (start, verdict) = {
            let facts = instance.status.facts();
            (Start::of(&facts, WallClock.now_us()), verdict(&facts, &targets))
        };
        terminal.starting(start);
        if let Some(outcome) = verdict {
            break outcome;
        }
    };
    drop(terminal);
    summary(context, &instance);
    instance.stop().await?;
    Ok(outcome)
}

async fn targets(setup: &Setup) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for feed in setup.feeds()? {
        let (name, source) = (feed.connection.name.clone(), feed.source().await?);
        let position = source.current_position().await.map_err(|failure| anyhow::anyhow!(said(&failure)))?;
        // What has no end is never caught up with.
        targets.extend(position.map(|position| Target { name, source, position }));
    }
    Ok(targets)
}

/// None while there is something to wait for.
fn verdict(facts: &Facts, targets: &[Target]) -> Option<Outcome> {
    let broken = facts.models.values().any(|m| m.state == "parked" || m.state == "failed");
    let parked = facts.tables.values().any(|t| t.state == "parked");
    let loading = facts.tables.values().any(TableStatus::is_loading);
    let building = facts.models.values().any(|m| m.state == "building");
    if broken || parked || !facts.not_applied.is_empty() {
        return Some(Outcome::Failed);
    }
    // What served when the folder was left is not what is to be built.
    if !facts.started || loading || building || facts.pending {
        return None;
    }
    let caught_up = targets.iter().all(|target| {
        let status = facts.sources.get(&target.name);
        let reached = |current: &str| target.source.reached(&Position(current.to_owned()), &target.position);
        status.is_some_and(|status| reached(&status.position).unwrap_or(false))
    });
    caught_up.then_some(Outcome::Ok)
}

fn summary(context: &Context, instance: &Instance) {
    let facts = instance.status.facts();
    if !facts.not_applied.is_empty() {
        context.say(&format!("error: not applied: {}", facts.not_applied));
    }
    if context.json {
        let models: Vec<_> = facts
            .models
            .iter()
            .map(|(name, m)| serde_json::json!({"model": name.to_string(), "state": m.state, "rows": m.rows, "message": m.message}))
            .collect();
        print(&serde_json::json!({ "models": models }).to_string());
        return;
    }
    for (name, model) in &facts.models {
        print(format!("{:<10} {:>12} rows  {name} {}", model.state, model.rows, model.message).trim_end());
    }
}
