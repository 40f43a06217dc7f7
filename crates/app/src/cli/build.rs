//! `build`: run until caught up, say how it went, exit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use connect::Source;
use plan::TableName;
use relation::Position;

use super::terminal::Start;
use super::{Context, Outcome, interrupted, print, up};
use crate::clock::{Clock as _, WallClock};
use crate::instance::Instance;
use crate::opening;
use crate::setup::Setup;
use crate::status::{Facts, SourceStatus, TableStatus, is_stopped_state};

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
    opening::refuse_second(&setup.data)?;
    let targets = targets(&setup).await?;
    let opened = up::Opened::of(context, &setup, Arc::default()).await?;
    let instance = opened.start(context, &setup, None).await?;
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
    // What is wrong with the project was said before all else.
    Ok(if outcome == Outcome::Ok && setup.has_errors() { Outcome::Failed } else { outcome })
}

async fn targets(setup: &Setup) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for feed in setup.feeds()? {
        let name = feed.connection.name.clone();
        let source = feed.source().await;
        // One that cannot be asked stalls, which fails the build; the others are built.
        if let Ok(Some(position)) = source.current_position().await {
            targets.push(Target { name, source, position });
        }
    }
    Ok(targets)
}

/// None while there is something to wait for: what has failed fails the build, and all else of it is built.
fn verdict(facts: &Facts, targets: &[Target], now_us: i64) -> Option<Outcome> {
    let is_given_up = |source: &SourceStatus| source.stalled_since_us.is_some_and(|at| now_us - at >= STALLED_US_MAX);
    let given_up: BTreeSet<&str> =
        facts.sources.iter().filter(|(_, source)| is_given_up(source)).map(|(name, _)| name.as_str()).collect();
    let waits_for_source = |table: &TableStatus| table.is_loading() && given_up.contains(table.source.as_str());
    let loading = facts.tables.values().any(|table| table.is_loading() && !waits_for_source(table));
    // Nothing comes of a table of such a source: what reads it waits with it.
    let waits = |model: &TableName| {
        let tables = facts.tables_of.get(model).into_iter().flatten();
        tables.filter_map(|table| facts.tables.get(table)).any(waits_for_source)
    };
    let building = facts.models.iter().any(|(name, model)| model.state == "building" && !waits(name));
    // Until a source is reached for nobody knows how old what there is of it is.
    let is_followed =
        |name: &str| facts.tables.values().any(|table| table.source == name && !is_stopped_state(&table.state));
    let is_reached_for = |(name, source): (&String, &SourceStatus)| {
        source.state == "connecting" && source.stalled_since_us.is_none() && is_followed(name)
    };
    let connecting = facts.sources.iter().any(is_reached_for);
    // What served when the folder was left is not what is to be built.
    if !facts.started || loading || building || connecting || (facts.pending && given_up.is_empty()) {
        return None;
    }
    let caught_up = targets.iter().filter(|target| !given_up.contains(target.name.as_str())).all(|target| {
        let status = facts.sources.get(&target.name);
        let reached = |current: &str| target.source.reached(&Position(current.to_owned()), &target.position);
        status.is_some_and(|status| reached(&status.position).unwrap_or(false))
    });
    let is_whole = given_up.is_empty()
        && facts.not_applied.is_empty()
        && facts.held.is_empty()
        && !facts.tables.values().any(|table| is_stopped_state(&table.state))
        && !facts.models.values().chain(facts.views.values()).any(|model| is_stopped_state(&model.state));
    caught_up.then_some(if is_whole { Outcome::Ok } else { Outcome::Failed })
}

fn summary(context: &Context, instance: &Instance) {
    instance.status.spread(WallClock.now_us());
    let facts = instance.status.facts();
    troubles(&facts).iter().for_each(|trouble| context.say(&format!("error: {trouble}")));
    if context.json {
        let models: Vec<_> = facts
            .models
            .iter()
            .map(|(name, m)| serde_json::json!({"model": name.to_string(), "state": m.word(), "rows": m.rows, "message": m.told()}))
            .collect();
        print(&serde_json::json!({ "models": models }).to_string());
        return;
    }
    for (name, model) in &facts.models {
        print(format!("{:<10} {:>12} rows  {name} {}", model.word(), model.rows, model.told()).trim_end());
    }
}

/// What a build cannot go on for, and the next move where it is not said there.
fn troubles(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    if !facts.not_applied.is_empty() {
        found.push(format!("not applied: {}", facts.not_applied));
    }
    for (name, source) in facts.sources.iter().filter(|(_, source)| source.stalled_since_us.is_some()) {
        // Of one that was never asked its tables say so.
        let told = format!("source \"{name}\" cannot be asked");
        if !facts.tables.values().any(|table| table.state == "parked" && table.message.starts_with(&told)) {
            found.push(format!("source \"{name}\" is stalled: {}", source.message));
        }
    }
    for (name, table) in facts.tables.iter().filter(|(_, table)| table.state == "parked") {
        found.push(format!("table {name} is parked: {}", table.message));
    }
    found.extend(facts.held.iter().map(|model| format!("not applied, and serves as before: {model}")));
    let models = facts.models.iter().chain(&facts.views);
    let mut stopped: Vec<_> = models.filter(|(_, model)| matches!(model.state.as_str(), "parked" | "failed")).collect();
    // What waits for another one comes behind what is at fault.
    let reads_stopped =
        |name: &TableName| facts.lineage.iter().any(|(below, reader)| reader == name && is_stopped(facts, below));
    stopped.sort_by_key(|(name, _)| reads_stopped(name));
    found
        .extend(stopped.into_iter().map(|(name, model)| format!("model {name} is {}: {}", model.state, model.message)));
    found
}

/// Whether a table, model or view is not kept up to date.
fn is_stopped(facts: &Facts, name: &TableName) -> bool {
    let table = facts.tables.get(name).map(|table| table.state.as_str());
    let model = facts.models.get(name).or_else(|| facts.views.get(name)).map(|model| model.state.as_str());
    [table, model].into_iter().flatten().any(is_stopped_state)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let orders = TableName::new("shop", "orders");
        let loading = TableStatus { source: "shop".to_owned(), state: "snapshot".to_owned(), ..TableStatus::default() };
        facts.tables.insert(orders.clone(), loading);
        facts.tables_of.insert(TableName::new("public", "trade"), [orders].into());
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

    /// What is parked fails the build when all else of it is there, and not before.
    #[test]
    fn a_parked_table_fails_the_build_and_all_else_is_built() {
        let mut facts = building();
        let (orders, read) = (TableName::new("shop", "orders"), TableName::new("public", "orders"));
        let table = facts.tables.entry(orders.clone()).or_default();
        (table.state, table.message) = ("parked".to_owned(), "no primary key".to_owned());
        let model = facts.models.entry(read.clone()).or_default();
        (model.state, model.message) = ("parked".to_owned(), "table shop.orders was never loaded".to_owned());
        facts.lineage.push((orders, read));
        let refused = facts.models.entry(TableName::new("public", "ranks")).or_default();
        (refused.state, refused.message) = ("parked".to_owned(), "models/ranks.sql:1:8: cannot be kept".to_owned());
        assert_eq!(verdict(&facts, &[], 0), None);
        facts.models.get_mut(&TableName::new("public", "trade")).unwrap().state = "live".to_owned();
        assert_eq!(verdict(&facts, &[], 0), Some(Outcome::Failed));
        let told = [
            "table shop.orders is parked: no primary key",
            "model public.ranks is parked: models/ranks.sql:1:8: cannot be kept",
            "model public.orders is parked: table shop.orders was never loaded",
        ];
        assert_eq!(troubles(&facts), told);
    }

    /// Of two sources one is away: what the other one feeds is built.
    #[test]
    fn a_source_that_is_away_stops_its_own_alone() {
        let mut facts = building();
        facts.sources.get_mut("shop").unwrap().go_to("stalled", "away".to_owned(), 0);
        let site = SourceStatus { state: "streaming".to_owned(), ..SourceStatus::default() };
        facts.sources.insert("site".to_owned(), site);
        let orders = TableName::new("shop", "orders");
        let table = facts.tables.entry(orders.clone()).or_default();
        (table.source, table.state) = ("shop".to_owned(), "snapshot".to_owned());
        facts.tables_of.insert(TableName::new("public", "trade"), BTreeSet::from([orders]));
        facts.models.entry(TableName::new("public", "visits")).or_default().state = "building".to_owned();
        assert_eq!(verdict(&facts, &[], 100 * STALLED_US_MAX), None);
        facts.models.get_mut(&TableName::new("public", "visits")).unwrap().state = "live".to_owned();
        assert_eq!(verdict(&facts, &[], 0), None, "it may come back");
        assert_eq!(verdict(&facts, &[], 100 * STALLED_US_MAX), Some(Outcome::Failed));
    }
}
