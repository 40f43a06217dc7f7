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

/// How long a source may be stalled until a build is given up: some tries of its own.
const STALLED_US_MAX: i64 = 15_000_000;

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
            let now = WallClock.now_us();
            (Start::of(&facts, now), verdict(&facts, &targets, now))
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
fn verdict(facts: &Facts, targets: &[Target], now_us: i64) -> Option<Outcome> {
    let broken = facts.models.values().any(|m| m.state == "parked" || m.state == "failed");
    let parked = facts.tables.values().any(|t| t.state == "parked");
    let loading = facts.tables.values().any(TableStatus::is_loading);
    let building = facts.models.values().any(|m| m.state == "building");
    let stalled = facts.sources.values().any(|s| s.stalled_since_us.is_some_and(|at| now_us - at >= STALLED_US_MAX));
    if broken || parked || stalled || !facts.not_applied.is_empty() {
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
    troubles(&facts).iter().for_each(|trouble| context.say(&format!("error: {trouble}")));
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

/// What a build cannot go on for, and the next move where it is not said there.
fn troubles(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    if !facts.not_applied.is_empty() {
        found.push(format!("not applied: {}", facts.not_applied));
    }
    for (name, source) in facts.sources.iter().filter(|(_, source)| source.stalled_since_us.is_some()) {
        found.push(format!("source \"{name}\" is stalled: {}", source.message));
    }
    for (name, table) in facts.tables.iter().filter(|(_, table)| table.state == "parked") {
        found.push(format!("table {name} is parked: {}", table.message));
    }
    found
}

#[cfg(test)]
mod tests {
    use plan::TableName;

    use super::*;
    use crate::status::SourceStatus;

    fn building() -> Facts {
        let mut facts = Facts { started: true, ..Facts::default() };
        let shop = SourceStatus { state: "streaming".to_owned(), ..SourceStatus::default() };
        facts.sources.insert("shop".to_owned(), shop);
        facts.models.entry(TableName::new("public", "trade")).or_default().state = "building".to_owned();
        facts
    }

    /// A stall that is over is none; one that lasts ends the build, and says why.
    #[test]
    fn a_source_that_stays_stalled_ends_the_build() {
        let mut facts = building();
        let second = 1_000_000;
        assert_eq!(verdict(&facts, &[], 100 * second), None);
        let stall = |facts: &mut Facts, state: &str, at: i64| {
            facts.sources.get_mut("shop").unwrap().go_to(state, "the server is away".to_owned(), at);
        };
        stall(&mut facts, "stalled", 100 * second);
        assert_eq!(verdict(&facts, &[], 114 * second), None);
        stall(&mut facts, "streaming", 114 * second);
        assert_eq!(verdict(&facts, &[], 116 * second), None);
        assert_eq!(troubles(&facts), Vec::<String>::new());
        // It is told again at every try: the first is what counts.
        stall(&mut facts, "stalled", 200 * second);
        stall(&mut facts, "connecting", 205 * second);
        stall(&mut facts, "stalled", 206 * second);
        assert_eq!(verdict(&facts, &[], 216 * second), Some(Outcome::Failed));
        assert_eq!(troubles(&facts), ["source \"shop\" is stalled: the server is away"]);
    }

    #[test]
    fn a_parked_table_ends_the_build_and_says_why() {
        let mut facts = building();
        let table = facts.tables.entry(TableName::new("shop", "orders")).or_default();
        (table.state, table.message) = ("parked".to_owned(), "no primary key".to_owned());
        assert_eq!(verdict(&facts, &[], 0), Some(Outcome::Failed));
        assert_eq!(troubles(&facts), ["table shop.orders is parked: no primary key"]);
    }
}
