//! `up`: run until stopped; with `--watch` the project is applied again at each change of its files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use project::{Files, TlsSpec};
use tokio::task::JoinHandle;

use super::terminal::{Pulse, Start};
use super::{Context, Outcome, interrupted, print};
use crate::clock::{Clock as _, WallClock};
use crate::follow::{PlannedFeed, plan_feeds};
use crate::instance::Instance;
use crate::pump::{Applied, HELD_BACK, SUPERSEDED};
use crate::setup::Setup;
use crate::warehouse::{Warehouse, findings, told};

/// How often the instance is looked at. Its line is shown every second.
const POLL: Duration = Duration::from_millis(200);
const POLLS_PER_SECOND: u32 = 5;

pub(super) async fn run(context: &Context, watch: bool) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    let mut watcher = if watch { Some(Watcher::new(&setup)?) } else { None };
    let opened = Opened::of(context, &setup).await?;
    opened.held().for_each(|model| context.say(&format!("error: not applied, and serves as before: {model}")));
    let instance = opened.start(context, &setup).await?;
    announce(context, &setup, &instance);
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
        if let Some(watcher) = &mut watcher
            && polls.is_multiple_of(POLLS_PER_SECOND)
        {
            watcher.look(context, &instance).await;
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
        return Look::Starting(Start::of(&facts, WallClock.now_us()));
    }
    Look::Running(is_due.then(|| pulse.line(&facts, POLL * POLLS_PER_SECOND, WallClock.now_us())))
}

/// A warehouse that is open, with the sources that it is fed from, before anything runs.
pub(super) struct Opened {
    warehouse: Warehouse,
    feeds: Vec<PlannedFeed>,
}

impl Opened {
    /// Opens the warehouse. What of the project cannot be planned is said: it stops itself and what reads it, and everything
    /// else runs.
    pub(super) async fn of(context: &Context, setup: &Setup) -> anyhow::Result<Self> {
        let (feeds, described) = plan_feeds(setup).await?;
        let opening = setup.clone();
        let warehouse = tokio::task::spawn_blocking(move || Warehouse::open(&opening, &described)).await??;
        let found = findings(setup, &warehouse.refused);
        found.iter().for_each(|finding| context.say(&setup.shown(finding)));
        Ok(Self { warehouse, feeds })
    }

    /// Models that serve in their older texts, with the reasons.
    fn held(&self) -> impl Iterator<Item = String> {
        told(&self.warehouse.next().unwrap_or(&self.warehouse.serving).held).into_iter()
    }

    /// Starts everything.
    pub(super) async fn start(self, context: &Context, setup: &Setup) -> anyhow::Result<Instance> {
        if self.warehouse.is_held_back {
            context.say(&format!("warning: not applied: {HELD_BACK}"));
        }
        Instance::start(setup, self.warehouse, self.feeds, Some(Arc::new(context.global.clone()))).await
    }
}

fn announce(context: &Context, setup: &Setup, instance: &Instance) {
    let addresses = &instance.addresses;
    if context.json {
        print(&serde_json::json!({"pid": addresses.pid, "pg": addresses.pg, "http": addresses.http}).to_string());
        return;
    }
    let (host, port) = addresses.pg.rsplit_once(':').unwrap_or((&addresses.pg, "5433"));
    context.progress(&format!("psql -h {host} -p {port}"));
    let scheme = if matches!(setup.project.profile.tls, TlsSpec::Files { .. }) { "https" } else { "http" };
    context.progress(&format!("{scheme}://{}", addresses.http));
}

/// Applies the project when its files have changed and then stayed as they are for a second.
struct Watcher {
    folder: PathBuf,
    applied: Files,
    seen: Files,
    /// What is under way, the newest last: an older one is given up for a newer one that can be built, not for one that cannot.
    applying: Vec<JoinHandle<anyhow::Result<Applied>>>,
}

impl Watcher {
    fn new(setup: &Setup) -> anyhow::Result<Self> {
        let files = Files::read(&setup.folder)?;
        Ok(Self { folder: setup.folder.clone(), applied: files.clone(), seen: files, applying: Vec::new() })
    }

    async fn look(&mut self, context: &Context, instance: &Instance) {
        let (ended, going): (Vec<_>, Vec<_>) = self.applying.drain(..).partition(JoinHandle::is_finished);
        self.applying = going;
        for applied in ended {
            match applied.await {
                Ok(Ok(applied)) => tell(context, &applied),
                Ok(Err(error)) => context.say(&format!("error: not applied; what served before serves on\n{error:#}")),
                Err(error) => context.say(&format!("error: not applied: {error}")),
            }
        }
        let folder = self.folder.clone();
        // What cannot be read now is looked at again in a second.
        let Ok(Ok(now)) = tokio::task::spawn_blocking(move || Files::read(&folder)).await else { return };
        let is_settled = is_same(&now, &self.seen);
        self.seen = now;
        if !is_settled || is_same(&self.seen, &self.applied) {
            return;
        }
        self.applied = self.seen.clone();
        let Some(applier) = instance.applier.clone() else { return };
        context.progress("the project has changed: building beside what serves");
        self.applying.push(tokio::spawn(async move { applier.apply().await }));
    }
}

/// Whether two readings of a project's files are of the same texts. Files without a text, such as logs, change nothing.
fn is_same(one: &Files, other: &Files) -> bool {
    one.iter().eq(other.iter())
}

fn tell(context: &Context, applied: &Applied) {
    if applied.failed == [SUPERSEDED] {
        // The newer one is told about.
        return;
    }
    if !applied.failed.is_empty() {
        context.say(&format!("error: not applied; what served before serves on\n{}", applied.failed.join("\n")));
        return;
    }
    applied.new_tables.iter().for_each(|table| context.say(&format!("+ source table {table}")));
    applied.changed_tables.iter().for_each(|table| context.say(&format!("~ source table {table}")));
    applied.gone_tables.iter().for_each(|table| context.say(&format!("- source table {table}")));
    applied.roles.iter().chain(&applied.dashboards).for_each(|line| context.say(line));
    applied.warnings.iter().for_each(|warning| context.say(&format!("warning: {warning}")));
    applied.errors.iter().for_each(|error| context.say(error));
    super::apply::shortfall(applied).for_each(|line| context.say(&line));
    applied.restart.iter().for_each(|what| context.say(&format!("restart to take it up: {what}")));
    let changed = applied.added.len() + applied.changed.len() + applied.removed.len();
    context.progress(&format!("applied: {changed} models changed, {} as they were", applied.kept.len()));
}
