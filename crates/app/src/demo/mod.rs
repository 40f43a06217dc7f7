//! `tidemill demo`: a simulated shop with the whole warehouse over it, in a folder that is gone afterwards.
//!
//! It is an instance like any other: a project ([`files()`]), a source ([`Simulator`]), the pump, the servers. Only the
//! project comes out of the binary and the shop out of itself.

mod files;
mod folder;
mod screen;
pub mod settings;
mod simulator;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use anyhow::bail;
use project::ListenSpec;

pub use self::files::files;
use self::folder::Folder;
pub use self::folder::running;
pub use self::simulator::{Lag, Simulator, SimulatorKind};

pub(crate) use self::simulator::Pace;

use crate::cli::{Start, Terminal, interrupted};
use crate::clock::{Clock as _, WallClock, stopwatch};
use crate::follow::plan_feeds;
use crate::instance::Instance;
use crate::setup::Setup;
use crate::warehouse::Warehouse;

/// How the demo runs.
#[derive(Debug, Clone, Default)]
pub struct DemoOptions {
    /// Variables of its project, such as `users`: how large the shop is.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Where it keeps its data, and leaves it; none for a temporary folder.
    pub data: Option<PathBuf>,
    /// Where it listens; none for the usual ports, or the next free ones.
    pub pg: Option<ListenSpec>,
    /// See `pg`.
    pub http: Option<ListenSpec>,
    /// Ends by itself after so many seconds of being up.
    pub seconds: Option<u64>,
    /// Prints the addresses and errors only.
    pub quiet: bool,
    /// Prints where it is reached as JSON, and nothing else on stdout.
    pub json: bool,
}

/// How often the start and the end are looked for. The figures are shown every second.
const POLL: Duration = Duration::from_millis(100);
const POLLS_PER_SECOND: u64 = 10;

/// Runs the demo until Ctrl-C or SIGTERM.
///
/// Errors: a setting is wrong, no folder can be written, no port is free, or the warehouse stopped by itself.
pub async fn run(options: DemoOptions) -> anyhow::Result<()> {
    settings::check(&options.vars)?;
    let mut terminal = Terminal::new(options.quiet);
    let (folder, swept) = Folder::new(options.data)?;
    if swept > 0 {
        terminal.line(&format!("the folders of {swept} demos that were killed are taken away"));
    }
    terminal.line(&format!("a simulated shop, kept in {}", folder.path().display()));
    let mut heart = Heart::new().await;
    let instance = start(&folder, options.vars, (options.pg, options.http)).await?;
    let ended = up(&instance, &mut terminal, (options.seconds, options.json), &mut heart).await;
    terminal.line("stopping");
    let stopped = instance.stop().await;
    let removed = folder.close();
    ended.and(stopped)?;
    terminal.line(&removed?);
    Ok(())
}

async fn start(
    folder: &Folder,
    vars: BTreeMap<String, serde_json::Value>,
    (pg, http): (Option<ListenSpec>, Option<ListenSpec>),
) -> anyhow::Result<Instance> {
    let options = project::Options { vars, ..project::Options::default() };
    let mut setup = Setup::from_files(folder.path(), &files(), &options, Some(folder.path()));
    let profile = &mut setup.project.profile;
    (profile.pg, profile.http) = (pg.unwrap_or(profile.pg), http.unwrap_or(profile.http));
    if setup.has_errors() {
        bail!("the demo's project cannot be loaded: {}", said(&setup.findings));
    }
    let (feeds, described) = plan_feeds(&setup).await?;
    let opening = setup.clone();
    let warehouse = tokio::task::spawn_blocking(move || Warehouse::open(&opening, &described)).await??;
    if let Some((model, reason)) = warehouse.serving.waiting.first() {
        bail!("the demo's model {model} cannot be kept: {reason}");
    }
    Instance::start(&setup, warehouse, feeds, None, None).await
}

fn said(findings: &[project::Diagnostic]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Beats while the demo is to go on.
struct Heart {
    polls: tokio::time::Interval,
    interrupt: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_interrupted: bool,
}

impl Heart {
    /// From here on Ctrl-C and SIGTERM are noticed, and no longer end the process by themselves.
    async fn new() -> Self {
        let mut interrupt = Box::pin(interrupted());
        // Asked once, they are listened to.
        let is_interrupted = tokio::select! {
            biased;
            () = &mut interrupt => true,
            () = std::future::ready(()) => false,
        };
        Self { polls: tokio::time::interval(POLL), interrupt, is_interrupted }
    }

    /// Waits for the next beat; answers whether there is one. Errors: the warehouse stopped by itself.
    async fn beats(&mut self, instance: &Instance) -> anyhow::Result<bool> {
        if !self.is_interrupted {
            tokio::select! {
                () = &mut self.interrupt => self.is_interrupted = true,
                _ = self.polls.tick() => {}
            }
        }
        if self.is_interrupted {
            return Ok(false);
        }
        if instance.has_failed() {
            bail!("the warehouse stopped by itself");
        }
        Ok(true)
    }
}

/// Watches a running instance until it is told to stop. Errors: it stopped by itself, or cannot get there.
async fn up(
    instance: &Instance,
    terminal: &mut Terminal,
    (seconds, json): (Option<u64>, bool),
    heart: &mut Heart,
) -> anyhow::Result<()> {
    terminal.line(&format!("http://{} shows it from now on", instance.addresses.http));
    if !starts(instance, terminal, heart).await? {
        return Ok(());
    }
    match json {
        true => screen::addresses(instance),
        false => screen::announce(instance),
    }
    let mut beats: u64 = 0;
    while seconds.is_none_or(|seconds| beats < seconds * POLLS_PER_SECOND) && heart.beats(instance).await? {
        beats += 1;
        if beats.is_multiple_of(POLLS_PER_SECOND) {
            terminal.live(screen::figures(instance).await);
        }
    }
    terminal.line(&screen::figures(instance).await);
    Ok(())
}

/// Waits until everything is loaded and kept; answers whether it came to that before it was told to stop.
async fn starts(instance: &Instance, terminal: &mut Terminal, heart: &mut Heart) -> anyhow::Result<bool> {
    let watch = stopwatch();
    while heart.beats(instance).await? {
        let (start, is_over) = {
            let facts = instance.status.facts();
            if let Some(reason) = screen::broken(&facts) {
                bail!("the demo cannot start: {reason}");
            }
            let is_over = !facts.is_starting();
            (Start::of(&facts, WallClock.now_us()), is_over.then(|| screen::started(&facts, watch.elapsed())))
        };
        if let Some(line) = is_over {
            terminal.line(&line);
            return Ok(true);
        }
        terminal.starting(start);
    }
    Ok(false)
}
