//! `up`: run until stopped; with `--watch` the project is applied again at each change of its files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use project::{Files, TlsSpec};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::terminal::{Pulse, Start};
use super::{Context, Outcome, interrupted, print};
use crate::clock::{Clock as _, WallClock};
use crate::counted::{counted, of_number};
use crate::dashboards;
use crate::delivery;
use crate::follow::{PlannedFeed, plan_feeds};
use crate::grants;
use crate::instance::Instance;
use crate::opening::{self, Noted, Progress, START_PATIENCE};
use crate::pump::{Applied, HELD_BACK, SUPERSEDED};
use crate::setup::Setup;
use crate::status::{Facts, ModelStatus, SourceStatus, TableStatus, is_stopped_state};
use crate::unique_key;
use crate::warehouse::{Warehouse, findings, schemas, told};

/// How often the instance is looked at. Its line is shown every second.
const POLL: Duration = Duration::from_millis(200);
const POLLS_PER_SECOND: u32 = 5;

pub(super) async fn run(context: &Context, watch: bool) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    opening::refuse_second(&setup.data)?;
    let mut watcher = if watch { Some(Watcher::new(&setup)?) } else { None };
    let (opened, http) = opened(context, &setup).await?;
    opened.held().for_each(|model| context.say(&format!("error: not applied, and serves as before: {model}")));
    let instance = opened.start(context, &setup, Some(http)).await?;
    announce(context, &setup, &instance);
    let mut catching_up = CatchingUp::new(WallClock.now_us());
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
                let caught_up = catching_up.told(&instance.status.facts());
                caught_up.into_iter().for_each(|line| terminal.line(&line));
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

/// Opens the warehouse, and says meanwhile how far that is: on the terminal, and over HTTP to whoever probes.
async fn opened(context: &Context, setup: &Setup) -> anyhow::Result<(Opened, TcpListener)> {
    let profile = &setup.project.profile;
    let http = serve::bind(&profile.http.addr.to_string(), profile.http.explicit).await?;
    let progress = Arc::new(Progress::default());
    let noted = Noted::new(&setup.data, http.local_addr()?.to_string());
    let theirs = Arc::clone(&progress);
    // Whoever speaks TLS waits for the server.
    let (http, antechamber) = match profile.tls {
        TlsSpec::Files { .. } => (http, None),
        TlsSpec::Unsaid | TlsSpec::Off => {
            let (http, antechamber) = serve::Antechamber::open(http, Arc::new(move || theirs.said()))?;
            (http, Some(antechamber))
        }
    };
    let opening = Opened::of(context, setup, Arc::clone(&progress));
    tokio::pin!(opening);
    let mut terminal = context.terminal();
    let is_seen = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let mut tick = tokio::time::interval(if is_seen { POLL } else { PROGRESS });
    tick.reset();
    let opened = loop {
        tokio::select! {
            opened = &mut opening => break opened?,
            _ = tick.tick() => if is_seen { terminal.live(progress.said()) } else { terminal.line(&progress.said()) },
        }
    };
    drop((antechamber, noted));
    Ok((opened, http))
}

/// How often it is said how far a start is, where nobody looks on.
const PROGRESS: Duration = Duration::from_secs(5);

/// What is said once, when all that was committed before the start is visible.
struct CatchingUp {
    begun_us: i64,
    is_over: bool,
}

impl CatchingUp {
    fn new(begun_us: i64) -> Self {
        Self { begun_us, is_over: false }
    }

    /// What came until then; none before it, and after it was said.
    fn told(&mut self, facts: &Facts) -> Option<String> {
        let is_there = |source: &SourceStatus| {
            let is_reached = source.is_endless || source.reached_us.is_some_and(|reached| reached >= self.begun_us);
            source.is_read() && source.state == "streaming" && is_reached
        };
        if self.is_over || !facts.sources.values().all(is_there) {
            return None;
        }
        self.is_over = true;
        if !facts.was_loaded {
            return Some(Self::loaded(facts));
        }
        let mut changed: Vec<(u64, String)> =
            facts.tables.iter().map(|(name, table)| (table.changes_total, name.to_string())).collect();
        changed.retain(|(changes, _)| *changes > 0);
        changed.sort_by_key(|(changes, _)| std::cmp::Reverse(*changes));
        let rows: u64 = changed.iter().map(|(changes, _)| changes).sum();
        let of: Vec<String> =
            changed.iter().take(CHANGED_SHOWN_MAX).map(|(changes, name)| format!("{name} ({changes})")).collect();
        let more = changed.len().checked_sub(CHANGED_SHOWN_MAX).filter(|more| *more > 0);
        let more = more.map(|more| format!(" and {}", counted(more, "more table"))).unwrap_or_default();
        Some(match rows {
            0 => "caught up: no row has changed since it was stopped".to_owned(),
            rows => format!(
                "caught up: {} {} changed since it was stopped, of {}{more}",
                counted(rows, "row"),
                of_number(rows, "has", "have"),
                of.join(", ")
            ),
        })
    }
}

impl CatchingUp {
    /// What was loaded; and what was not, which nobody is to take for empty.
    fn loaded(facts: &Facts) -> String {
        let is_loaded = |table: &&TableStatus| !is_stopped_state(&table.state) && !table.is_loading();
        let loaded: Vec<&TableStatus> = facts.tables.values().filter(is_loaded).collect();
        let is_kept = |model: &&ModelStatus| !is_stopped_state(&model.state);
        let kept = facts.models.values().filter(is_kept).count();
        let rows: i64 = loaded.iter().map(|table| table.rows).sum();
        let (tables, rows, models) = (counted(loaded.len(), "table"), counted(rows, "row"), counted(kept, "model"));
        let lacking = [(facts.tables.len() - loaded.len(), "table"), (facts.models.len() - kept, "model")];
        let lacking: Vec<String> =
            lacking.into_iter().filter(|(number, _)| *number > 0).map(|(number, of)| counted(number, of)).collect();
        let lacking = match lacking.is_empty() {
            true => String::new(),
            false => format!("; {} not there: `tidemill status` says why", lacking.join(" and ")),
        };
        format!("caught up: {tables} with {rows}, {models}{lacking}")
    }
}

/// Tables that are named with what has changed in them.
const CHANGED_SHOWN_MAX: usize = 5;

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
    pub(super) async fn of(context: &Context, setup: &Setup, progress: Arc<Progress>) -> anyhow::Result<Self> {
        let (feeds, described) = plan_feeds(setup).await?;
        let say = |text: &str| context.progress(text);
        let warehouse = opening::opened(setup, described, progress, START_PATIENCE, say).await?;
        let mut found = findings(setup, &warehouse.refused);
        let tables = schemas(&warehouse.engine);
        let contents = warehouse.next().unwrap_or(&warehouse.serving);
        found.extend(grants::faults::findings(setup, &contents.definition, &tables, &contents.models));
        let held = warehouse.engine.outbox_places();
        found.extend(delivery::check::findings_over(setup, &tables, contents, &held));
        found.extend(dashboards::check::findings(setup, &tables, contents, &warehouse.absent, |_, _| ()));
        found.extend(unique_key::findings(setup, &contents.models));
        found.iter().for_each(|finding| context.say(&setup.shown(finding)));
        Ok(Self { warehouse, feeds })
    }

    /// Models that serve in their older texts, with the reasons.
    fn held(&self) -> impl Iterator<Item = String> {
        told(&self.warehouse.next().unwrap_or(&self.warehouse.serving).held).into_iter()
    }

    /// Starts everything.
    pub(super) async fn start(
        self,
        context: &Context,
        setup: &Setup,
        http: Option<TcpListener>,
    ) -> anyhow::Result<Instance> {
        if self.warehouse.is_held_back {
            context.warn(&format!("not applied: {HELD_BACK}"));
        }
        Instance::start(setup, self.warehouse, self.feeds, Some(Arc::new(context.global.clone())), http).await
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
    applied.notices.iter().for_each(|notice| context.say(notice));
    if !applied.failed.is_empty() {
        context.say(&format!("error: not applied; what served before serves on\n{}", applied.failed.join("\n")));
        return;
    }
    applied.new_tables.iter().for_each(|table| context.say(&format!("+ source table {table}")));
    applied.changed_tables.iter().for_each(|table| context.say(&format!("~ source table {table}")));
    applied.gone_tables.iter().for_each(|table| context.say(&format!("- source table {table}")));
    applied.roles.iter().chain(&applied.dashboards).chain(&applied.syncs).for_each(|line| context.say(line));
    applied.warnings.iter().for_each(|warning| context.warn(warning));
    applied.errors.iter().for_each(|error| context.say(error));
    super::apply::shortfall(applied).for_each(|line| context.say(&line));
    applied.restart.iter().for_each(|what| context.say(&format!("restart to take it up: {what}")));
    let changed = applied.added.len() + applied.changed.len() + applied.removed.len();
    let kept = of_number(applied.kept.len(), "as it was", "as they were");
    let told = format!("{} changed, {} {kept}", counted(changed, "model"), applied.kept.len());
    context.progress(&match super::apply::lacking(applied).as_str() {
        "" => format!("applied: {told}"),
        lacking => format!("applied in part: {told}; {lacking}"),
    });
}

#[cfg(test)]
mod tests {
    use plan::TableName;

    use super::*;

    /// It is said once, when the end of the log at the start is reached; what came is named, most first.
    #[test]
    fn caught_up_is_said_when_all_that_was_there_at_the_start_is_visible() {
        let mut facts = Facts { started: true, was_loaded: true, ..Facts::default() };
        let mut catching_up = CatchingUp::new(100);
        let shop = facts.sources.entry("shop".to_owned()).or_default();
        shop.go_to("streaming", String::new(), 100);
        shop.note_end(90, "end".to_owned());
        shop.note_reached();
        assert_eq!(catching_up.told(&facts), None, "that end was before the start");
        let shop = facts.sources.get_mut("shop").unwrap();
        shop.note_end(110, "end".to_owned());
        shop.note_reached();
        shop.go_to("stalled", "cut".to_owned(), 111);
        assert_eq!(catching_up.told(&facts), None, "it is away");
        facts.sources.get_mut("shop").unwrap().go_to("streaming", String::new(), 112);
        for (name, changes) in [("a", 1), ("b", 0), ("c", 7)] {
            facts.tables.entry(TableName::new("shop", name)).or_default().changes_total = changes;
        }
        let told = "caught up: 8 rows have changed since it was stopped, of shop.c (7), shop.a (1)";
        assert_eq!(catching_up.told(&facts).as_deref(), Some(told));
        assert_eq!(catching_up.told(&facts), None);
        let mut first = CatchingUp::new(100);
        facts.was_loaded = false;
        assert_eq!(first.told(&facts).as_deref(), Some("caught up: 3 tables with 0 rows, 0 models"));
        // What could not be loaded is none of them.
        let mut first = CatchingUp::new(100);
        facts.tables.get_mut(&TableName::new("shop", "a")).unwrap().state = "parked".to_owned();
        facts.tables.get_mut(&TableName::new("shop", "c")).unwrap().rows = 1;
        facts.tables.remove(&TableName::new("shop", "b"));
        facts.models.entry(TableName::new("public", "m")).or_default().state = "parked".to_owned();
        let told = "caught up: 1 table with 1 row, 0 models; 1 table and 1 model not there: `tidemill status` says why";
        assert_eq!(first.told(&facts).as_deref(), Some(told));
    }
}
