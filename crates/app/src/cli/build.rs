//! `build`: run until caught up, say how it went, exit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use connect::Source;
use plan::TableName;
use relation::Position;
use tokio::sync::oneshot;

use super::terminal::Start;
use super::{Context, Outcome, ask, interrupted, print, test, up};
use crate::clock::{Clock as _, WallClock};
use crate::control::SyncOrder;
use crate::counted::of_number;
use crate::data_tests::STATEMENT;
use crate::delivery::DeliveryStatus;
use crate::instance::Instance;
use crate::opening;
use crate::output::Table;
use crate::pump::{Message, Request};
use crate::reason::Reason;
use crate::setup::Setup;
use crate::status::{Facts, ModelStatus, SourceStatus, TableStatus, is_stopped_state};

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
    retry_refused(&instance).await;
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
    // Over what there is, also where not all of it is: what could not be built has no answer.
    let tested = match outcome {
        Outcome::Ok | Outcome::Failed if !instance.has_failed() => Some(ask::read(&instance.reader, STATEMENT).await),
        _ => None,
    };
    let (tested, error) = match tested.transpose() {
        Ok(tested) => (tested, None),
        Err(error) => (None, Some(error)),
    };
    let tests_failed = summary(context, &instance, tested.as_ref()) == Outcome::Failed;
    instance.stop().await?;
    if let Some(error) = error {
        return Err(error.context("the data tests could not be run"));
    }
    // What is wrong with the project was said before all else.
    Ok(if outcome == Outcome::Ok && (setup.has_errors() || tests_failed) { Outcome::Failed } else { outcome })
}

/// Rows that destinations have refused are tried again: between two builds nobody is there who could be told to.
async fn retry_refused(instance: &Instance) {
    let names: Vec<String> = instance.status.facts().deliveries.keys().cloned().collect();
    for name in names {
        let (answer, answered) = oneshot::channel();
        let asked = Request::Sync { name, order: SyncOrder::Retry, answer };
        // One that has delivered nothing yet has nothing to retry; an instance that has failed says so itself.
        if instance.inbox.send(Message::Ask(asked)).await.is_ok() {
            answered.await.ok();
        }
    }
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
    // What served when the folder was left is not what is to be built.
    if !facts.started || loading || building || (facts.pending && given_up.is_empty()) {
        return None;
    }
    // Until a source was reached nobody knows how old what there is of it is, wherever it stood before.
    let is_followed =
        |name: &str| facts.tables.values().any(|table| table.source == name && !is_stopped_state(&table.state));
    let is_there = |name: &str, source: &SourceStatus| {
        let at = Position(source.position.clone());
        let mut targets = targets.iter().filter(|target| target.name == name);
        (source.was_reached || !is_followed(name))
            && targets.all(|target| target.source.reached(&at, &target.position).unwrap_or(false))
    };
    let caught_up =
        facts.sources.iter().all(|(name, source)| given_up.contains(name.as_str()) || is_there(name, source));
    // One that could not be asked for tables is asked again, and says what comes of that.
    let has_said = |source: &SourceStatus| {
        source.stalled_since_us.is_some() || !matches!(source.state.as_str(), "" | "connecting")
    };
    let is_known = |table: &TableStatus| !table.is_unasked || facts.sources.get(&table.source).is_some_and(has_said);
    let caught_up = caught_up && facts.tables.values().all(is_known);
    let is_whole = given_up.is_empty()
        && facts.not_applied.is_empty()
        && facts.held.is_empty()
        && !facts.tables.values().any(|table| is_stopped_state(&table.state))
        && !facts.models.values().chain(facts.views.values()).any(|model| is_stopped_state(&model.state));
    let is_delivered = facts.deliveries.values().all(is_delivered);
    let step = facts.recent.steps().last().map_or(0, |step| step.step);
    let is_delivering = facts.deliveries.values().any(|delivery| is_delivering(delivery, step));
    (caught_up && !is_delivering).then_some(match is_whole && is_delivered {
        true => Outcome::Ok,
        false => Outcome::Failed,
    })
}

/// Whether a sync has something to deliver of what is visible at a step, and nothing keeps it from that.
fn is_delivering(delivery: &DeliveryStatus, step: u64) -> bool {
    let is_begun = delivery.outbox.is_some() && (delivery.is_connected || delivery.trouble.is_some());
    let is_held = delivery.mistake.is_some() || delivery.waits.is_some();
    match delivery.told().0 {
        "filling" => true,
        // It was looked at before, maybe.
        "live" | "stale" => delivery.backlog_rows() > 0 || delivery.step < step,
        _ => !is_held && !is_begun,
    }
}

/// Whether all of a sync is where it belongs.
fn is_delivered(delivery: &DeliveryStatus) -> bool {
    matches!(delivery.told().0, "live" | "stale") && delivery.backlog_rows() == 0 && delivery.lacking().is_none()
}

/// Says how it went; answers how the tests did.
fn summary(context: &Context, instance: &Instance, tested: Option<&Table>) -> Outcome {
    instance.status.spread(WallClock.now_us());
    let facts = instance.status.facts();
    let troubles = troubles(&facts);
    troubles.iter().for_each(|trouble| context.say(&format!("error: {trouble}")));
    if context.json {
        let model = |(name, model): (&TableName, &ModelStatus)| {
            let mut object = model.told().json();
            (object["model"], object["state"]) = (name.to_string().into(), model.word().into());
            object["rows"] = model.rows.into();
            object
        };
        let models: Vec<_> = facts.models.iter().map(model).collect();
        let errors: Vec<_> = troubles.iter().map(Reason::json).collect();
        let mut answer = tested.map_or_else(|| serde_json::json!({}), test::json_of);
        (answer["models"], answer["errors"]) = (models.into(), errors.clone().into());
        if let Some(first) = errors.first() {
            answer["error"] = first.clone();
        }
        print(&answer.to_string());
        return tested.map_or(Outcome::Ok, |tested| test::report(context, tested));
    }
    // What more there is to say of those that are not live is among the errors.
    for (name, model) in &facts.models {
        let told = model.told().message;
        let rows = of_number(model.rows, "row ", "rows");
        print(format!("{:<10} {:>12} {rows}  {name} {told}", model.word(), model.rows).trim_end());
    }
    // Of a project without tests nothing is said.
    tested.filter(|tested| !tested.rows.is_empty()).map_or(Outcome::Ok, |tested| test::report(context, tested))
}

/// What a build cannot go on for.
fn troubles(facts: &Facts) -> Vec<Reason> {
    let mut found = Vec::new();
    if !facts.not_applied.is_empty() {
        found.push(facts.not_applied.clone().behind("not applied: "));
    }
    let is_unasked = |name: &TableName| facts.tables.get(name).is_some_and(|table| table.is_unasked);
    for (name, source) in facts.sources.iter().filter(|(_, source)| source.stalled_since_us.is_some()) {
        let mut reason = source.message.clone().behind(&format!("source \"{name}\" is stalled: "));
        // Each of its tables, and each model over one, would only say the same once more.
        let tables = facts.tables.iter().filter(|(_, table)| table.is_unasked && table.source == *name);
        let tables: Vec<String> = tables.map(|(name, _)| name.to_string()).collect();
        if !tables.is_empty() {
            reason = reason.and(&format!("Nothing is known of {}.", tables.join(", ")));
        }
        found.push(reason);
    }
    for (name, table) in facts.tables.iter().filter(|(_, table)| table.state == "parked" && !table.is_unasked) {
        found.push(table.message.clone().behind(&format!("table {name} is parked: ")));
    }
    let held = facts.held.iter();
    found.extend(held.map(|(name, why)| why.clone().behind(&format!("not applied, and serves as before: {name}: "))));
    for (name, delivery) in facts.deliveries.iter().filter(|(_, delivery)| !is_delivered(delivery)) {
        let (state, message) = delivery.told();
        found.push(Reason::of(&message).behind(&format!("sync {name} is {state}: ")));
    }
    let models = facts.models.iter().chain(&facts.views);
    let mut stopped: Vec<_> = models.filter(|(_, model)| is_stopped_state(&model.state)).collect();
    // What waits for another one comes behind what is at fault.
    let reads = |name: &TableName, is_it: &dyn Fn(&TableName) -> bool| {
        facts.lineage.iter().any(|(below, reader)| reader == name && is_it(below))
    };
    let reads_stopped = |name: &TableName| reads(name, &|below| is_stopped(facts, below));
    stopped.sort_by_key(|(name, _)| reads_stopped(name));
    for (name, model) in stopped {
        let of = format!("model {name} is {}: ", model.state);
        let reason = match reads(name, &is_unasked) {
            true => Reason::of(&format!("{of}its source cannot be asked")),
            // More is said of what is at fault.
            false if reads_stopped(name) => Reason::of(&model.message.message).behind(&of),
            false => model.message.clone().behind(&of),
        };
        found.push(reason);
    }
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

    fn lines(facts: &Facts) -> Vec<String> {
        troubles(facts).iter().map(Reason::line).collect()
    }

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
            facts.sources.get_mut("shop").unwrap().go_to(state, "the server is away", at);
        };
        stall(&mut facts, "stalled", 100 * second);
        assert_eq!(verdict(&facts, &[], 114 * second), None);
        stall(&mut facts, "streaming", 114 * second);
        assert_eq!(verdict(&facts, &[], 116 * second), None);
        assert_eq!(lines(&facts), Vec::<String>::new());
        // It is told again at every try: the first is what counts.
        stall(&mut facts, "stalled", 200 * second);
        stall(&mut facts, "connecting", 205 * second);
        stall(&mut facts, "stalled", 206 * second);
        assert_eq!(verdict(&facts, &[], 216 * second), Some(Outcome::Failed));
        assert_eq!(lines(&facts), ["source \"shop\" is stalled: the server is away"]);
    }

    /// A source that was caught up yesterday, and is not reached yet, is not known to be caught up.
    #[test]
    fn a_source_is_waited_for_until_it_was_reached() {
        let mut facts = Facts { started: true, ..Facts::default() };
        let shop = facts.sources.entry("shop".to_owned()).or_default();
        shop.go_to("connecting", "", 0);
        let orders = facts.tables.entry(TableName::new("shop", "orders")).or_default();
        (orders.source, orders.state) = ("shop".to_owned(), "streaming".to_owned());
        assert_eq!(verdict(&facts, &[], 0), None);
        facts.sources.get_mut("shop").unwrap().go_to("streaming", "", 1);
        assert_eq!(verdict(&facts, &[], 1), Some(Outcome::Ok));
        // A break is no beginning.
        facts.sources.get_mut("shop").unwrap().go_to("connecting", "", 2);
        assert_eq!(verdict(&facts, &[], 2), Some(Outcome::Ok));
    }

    /// One that could not be asked says so once, for all that waits for it.
    #[test]
    fn what_a_source_has_not_told_is_said_once() {
        let mut facts = Facts { started: true, ..Facts::default() };
        facts.sources.entry("shop".to_owned()).or_default().go_to("stalled", "refused\nHint: Check the port.", 0);
        for name in ["items", "orders"] {
            let table = facts.tables.entry(TableName::new("shop", name)).or_default();
            (table.source, table.state, table.is_unasked) = ("shop".to_owned(), "parked".to_owned(), true);
            let model = facts.models.entry(TableName::new("public", name)).or_default();
            (model.state, model.message) = ("parked".to_owned(), "refused\nHint: Check the port.".into());
            facts.lineage.push((TableName::new("shop", name), TableName::new("public", name)));
        }
        let told = [
            "source \"shop\" is stalled: refused. Nothing is known of shop.items, shop.orders. Check the port.",
            "model public.items is parked: its source cannot be asked",
            "model public.orders is parked: its source cannot be asked",
        ];
        assert_eq!(lines(&facts), told);
    }

    /// What could not be asked for at the start ends the build when its source has said why, and not before.
    #[test]
    fn a_source_says_why_it_cannot_be_asked_before_the_build_ends() {
        let mut facts = Facts { started: true, ..Facts::default() };
        let table = facts.tables.entry(TableName::new("shop", "orders")).or_default();
        (table.source, table.state, table.is_unasked) = ("shop".to_owned(), "parked".to_owned(), true);
        assert_eq!(verdict(&facts, &[], 0), None);
        facts.sources.entry("shop".to_owned()).or_default().go_to("connecting", "", 0);
        assert_eq!(verdict(&facts, &[], 0), None);
        let mut refused = facts;
        refused.sources.get_mut("shop").unwrap().go_to("failed", "no such user", 0);
        assert_eq!(verdict(&refused, &[], 0), Some(Outcome::Failed));
        refused.sources.get_mut("shop").unwrap().go_to("stalled", "the server is away", 0);
        assert_eq!(verdict(&refused, &[], 0), Some(Outcome::Failed));
    }

    /// What is parked fails the build when all else of it is there, and not before.
    #[test]
    fn a_parked_table_fails_the_build_and_all_else_is_built() {
        let mut facts = building();
        let (orders, read) = (TableName::new("shop", "orders"), TableName::new("public", "orders"));
        let table = facts.tables.entry(orders.clone()).or_default();
        (table.state, table.message) = ("parked".to_owned(), "no primary key".into());
        let model = facts.models.entry(read.clone()).or_default();
        (model.state, model.message) = ("parked".to_owned(), "table shop.orders was never loaded".into());
        facts.lineage.push((orders, read));
        let refused = facts.models.entry(TableName::new("public", "ranks")).or_default();
        (refused.state, refused.message) = ("parked".to_owned(), "models/ranks.sql:1:8: cannot be kept".into());
        assert_eq!(verdict(&facts, &[], 0), None);
        facts.models.get_mut(&TableName::new("public", "trade")).unwrap().state = "live".to_owned();
        assert_eq!(verdict(&facts, &[], 0), Some(Outcome::Failed));
        let told = [
            "table shop.orders is parked: no primary key",
            "model public.ranks is parked: models/ranks.sql:1:8: cannot be kept",
            "model public.orders is parked: table shop.orders was never loaded",
        ];
        assert_eq!(lines(&facts), told);
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
