//! `up`: run until stopped.

use std::time::Duration;

use super::terminal::{Pulse, Start};
use super::{Context, Outcome, interrupted, print};
use crate::follow::plan_feeds;
use crate::instance::Instance;
use crate::setup::Setup;
use crate::warehouse::Warehouse;

/// How often the instance is looked at. Its line is shown every second.
const POLL: Duration = Duration::from_millis(200);
const POLLS_PER_SECOND: u32 = 5;

pub(super) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    let Some(instance) = start(context, &setup).await? else { return Ok(Outcome::Failed) };
    announce(context, &instance);
    let mut terminal = context.terminal();
    let mut pulse = Pulse::default();
    let mut ended = tokio::time::interval(POLL);
    let mut polls: u32 = 0;
    let interrupt = interrupted();
    tokio::pin!(interrupt);
    loop {
        tokio::select! {
            () = &mut interrupt => break,
            _ = ended.tick() => if instance.has_failed() { break },
        }
        match look(&instance, &mut pulse, polls.is_multiple_of(POLLS_PER_SECOND)) {
            Look::Starting(start) => terminal.starting(start),
            Look::Running(line) => {
                terminal.started();
                line.into_iter().for_each(|line| terminal.live(line));
            }
        }
        polls = polls.wrapping_add(1);
    }
    drop(terminal);
    instance.stop().await?;
    context.progress("stopped; everything is in the data folder");
    Ok(Outcome::Ok)
}

/// How an instance is.
enum Look {
    Starting(Start),
    /// With its line, when one is due.
    Running(Option<String>),
}

fn look(instance: &Instance, pulse: &mut Pulse, is_due: bool) -> Look {
    let facts = instance.status.facts();
    if facts.is_starting() {
        return Look::Starting(Start::of(&facts));
    }
    Look::Running(is_due.then(|| pulse.line(&facts, POLL * POLLS_PER_SECOND)))
}

/// Opens the warehouse and starts everything; none if models cannot be planned, which was said.
pub(super) async fn start(context: &Context, setup: &Setup) -> anyhow::Result<Option<Instance>> {
    let (feeds, described) = plan_feeds(setup).await?;
    let runtime = tokio::runtime::Handle::current();
    let opening = setup.clone();
    let opened = tokio::task::spawn_blocking(move || Warehouse::open(&opening, &described, runtime)).await??;
    match opened {
        Ok(warehouse) => Ok(Some(Instance::start(setup, warehouse, feeds).await?)),
        Err(findings) => {
            findings.iter().for_each(|finding| context.say(&setup.shown(finding)));
            Ok(None)
        }
    }
}

fn announce(context: &Context, instance: &Instance) {
    let addresses = &instance.addresses;
    if context.json {
        print(&serde_json::json!({"pid": addresses.pid, "pg": addresses.pg, "http": addresses.http}).to_string());
        return;
    }
    let (host, port) = addresses.pg.rsplit_once(':').unwrap_or((&addresses.pg, "5433"));
    context.progress(&format!("psql -h {host} -p {port}"));
    context.progress(&format!("http://{}", addresses.http));
}
