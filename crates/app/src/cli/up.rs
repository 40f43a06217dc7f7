//! `up`: run until stopped; with `--watch` the project is applied again at each change of its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;

use super::terminal::{Pulse, Start};
use super::{Context, Outcome, interrupted, print};
use crate::follow::plan_feeds;
use crate::instance::Instance;
use crate::pump::Applied;
use crate::setup::Setup;
use crate::warehouse::{Warehouse, findings, schemas};

/// How often the instance is looked at. Its line is shown every second.
const POLL: Duration = Duration::from_millis(200);
const POLLS_PER_SECOND: u32 = 5;

pub(super) async fn run(context: &Context, watch: bool) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    let mut watcher = watch.then(|| Watcher::new(&setup.folder, &setup.data));
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
        return Look::Starting(Start::of(&facts));
    }
    Look::Running(is_due.then(|| pulse.line(&facts, POLL * POLLS_PER_SECOND)))
}

/// Opens the warehouse and starts everything; none if no model can be planned, which was said.
pub(super) async fn start(context: &Context, setup: &Setup) -> anyhow::Result<Option<Instance>> {
    let (feeds, described) = plan_feeds(setup).await?;
    let runtime = tokio::runtime::Handle::current();
    let opening = setup.clone();
    let warehouse = tokio::task::spawn_blocking(move || Warehouse::open(&opening, &described, runtime)).await??;
    // One bad model stops itself and what reads it; everything else runs.
    let found = findings(setup, &schemas(&warehouse.engine), &warehouse.absent);
    found.iter().for_each(|finding| context.say(&setup.shown(finding)));
    if !found.is_empty() && warehouse.serving.models.is_empty() {
        return Ok(None);
    }
    Ok(Some(Instance::start(setup, warehouse, feeds, Some(Arc::new(context.global.clone()))).await?))
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

/// Applies the project when its files have changed and then stayed as they are for a second.
struct Watcher {
    folder: PathBuf,
    data: PathBuf,
    applied: Files,
    seen: Files,
    applying: Option<JoinHandle<anyhow::Result<Applied>>>,
}

/// When each file was written, and its length.
type Files = BTreeMap<PathBuf, (SystemTime, u64)>;

impl Watcher {
    fn new(folder: &Path, data: &Path) -> Self {
        let files = files(folder, data);
        let (folder, data) = (folder.to_path_buf(), data.to_path_buf());
        Self { folder, data, applied: files.clone(), seen: files, applying: None }
    }

    async fn look(&mut self, context: &Context, instance: &Instance) {
        if let Some(applying) = self.applying.take_if(|applying| applying.is_finished()) {
            match applying.await {
                Ok(Ok(applied)) if applied.failed.is_empty() => {
                    let changed = applied.added.len() + applied.changed.len() + applied.removed.len();
                    context
                        .progress(&format!("applied: {changed} models changed, {} as they were", applied.kept.len()));
                }
                Ok(Ok(applied)) => context.say(&format!("error: not applied: {}", applied.failed.join("\n"))),
                Ok(Err(error)) => context.say(&format!("error: not applied: {error:#}")),
                Err(error) => context.say(&format!("error: not applied: {error}")),
            }
        }
        let now = files(&self.folder, &self.data);
        let is_settled = now == self.seen;
        self.seen = now;
        if is_settled && self.seen != self.applied && self.applying.is_none() {
            self.applied = self.seen.clone();
            let (inbox, global) = (instance.inbox.clone(), context.global.clone());
            context.progress("the project has changed: building beside what serves");
            self.applying = Some(tokio::spawn(async move { crate::control::apply(&inbox, &global).await }));
        }
    }
}

/// The files of a project folder, without its data and what begins with a dot.
fn files(folder: &Path, data: &Path) -> Files {
    let mut files = Files::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        // What cannot be read now is looked at again in a second.
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let (path, hidden) = (entry.path(), entry.file_name().to_string_lossy().starts_with('.'));
            let Ok(about) = entry.metadata() else { continue };
            if hidden || path == *data || entry.file_name() == "target" {
                continue;
            }
            if about.is_dir() {
                open.push(path);
            } else if let Ok(written) = about.modified() {
                files.insert(path, (written, about.len()));
            }
        }
    }
    files
}
