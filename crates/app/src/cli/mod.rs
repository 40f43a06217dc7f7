//! The command line.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 changes pending, 130
//! interrupted.

mod apply;
mod ask;
mod build;
mod check;
mod demo;
mod doctor;
mod keys;
mod reconcile;
mod repair;
mod simulate;
mod terminal;
mod up;
mod users;

pub(crate) use self::terminal::{Start, Terminal};

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::control::Order;
use crate::deep::STACK_BYTES;
use crate::setup::{Global, Setup};

/// A real-time warehouse for online shops: MySQL in, SQL models kept true, Postgres wire out.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct GlobalArgs {
    /// The project folder [default: here, or the nearest parent with dbt_project.yml]
    #[arg(long, global = true, value_name = "DIR")]
    project: Option<PathBuf>,
    /// The output of profiles.yml to use
    #[arg(long, global = true)]
    target: Option<String>,
    /// Variables, as a JSON object: '{"name": "value"}'
    #[arg(long, global = true, value_name = "JSON", value_parser = parse_vars)]
    vars: Option<Vars>,
    /// The data folder [default: what the profile says]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    quiet: bool,
    /// error, warn, info, debug or trace; also per module, as in `warn,engine=debug` [default: info for `up`, else warn]
    #[arg(long, global = true, value_name = "LEVEL", env = "TIDEMILL_LOG")]
    log: Option<String>,
}

type Vars = BTreeMap<String, serde_json::Value>;

fn parse_vars(text: &str) -> Result<Vars, String> {
    serde_json::from_str(text).map_err(|e| format!("not a JSON object: {e}"))
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A simulated shop with the whole warehouse over it: nothing to install
    Demo(demo::DemoArgs),
    /// Can the sources be read? Each failing check names the SQL that mends it
    Doctor,
    /// Check the project's files, offline
    Check,
    /// Load, stream, maintain and serve, until stopped; Ctrl-C is safe, so is kill -9
    Up {
        /// Apply the project again at each change of its files
        #[arg(long, short)]
        watch: bool,
    },
    /// Run until the sources are caught up with where they stood at the start, then say how it went
    Build,
    /// What would change if the project on disk were applied: models, columns, what is built anew; exit 3 if anything
    Plan {
        /// Have the running instance count the rows that would come and go, by a query for each model that changes: it takes as
        /// long as that does, and counts rows that the model will not be able to take
        #[arg(long)]
        rows: bool,
    },
    /// Have the running instance take the project on disk: built beside what serves, then put in place at once
    Apply,
    /// Have the running instance go back to what served before the last `apply`
    Rollback,
    /// Sources, tables and models of the running instance
    Status {
        /// Show them anew every second, until stopped
        #[arg(long, short)]
        watch: bool,
    },
    /// Answer SQL from the running instance, or from the data folder of a stopped one
    Query {
        /// One SELECT
        sql: String,
    },
    /// Show how a model is kept up to date
    Explain {
        /// Its name, with or without schema
        model: String,
    },
    /// Compare what is kept with what it should be
    Reconcile {
        #[command(subcommand)]
        what: Reconcile,
    },
    /// Load tables again while what there is of them serves; rows that are no longer in the source go
    Resnapshot(repair::ResnapshotArgs),
    /// Read nothing more of a source until `resume` or the next start; what there is serves, and grows old
    Pause {
        /// The connection's name
        source: String,
    },
    /// Read on where `pause` has stopped
    Resume {
        /// The connection's name
        source: String,
    },
    /// Who may log in: as soon as there is a user, everybody says a password, on this machine too
    Users {
        #[command(subcommand)]
        command: users::UsersCommand,
    },
    /// What programs say over HTTP instead of a password
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// Print completions for a shell: `source <(tidemill completions bash)`
    Completions { shell: clap_complete::Shell },
    /// The simulated shop into a MySQL database: its history, then its transactions at their times
    Simulate(simulate::SimulateArgs),
    /// Measure: the figures of the README, repeatable
    Bench(crate::bench::BenchArgs),
}

#[derive(Debug, Subcommand)]
enum Reconcile {
    /// Every kept model against the batch answer over the stored tables at one step; exit 1 if not equal
    Models,
    /// Every table against its source, both at one place of the source's log; exit 1 if not equal
    Source(reconcile::SourceArgs),
    /// Comparisons with sources that have ended, by hand and by the instance itself, and one that can be gone on with
    History,
}

/// How a command went, beside errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    Failed,
    /// Something would change.
    Pending,
    Interrupted,
}

/// Everything that commands share.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Context {
    /// Loads the project and prints its findings; none if nothing of it can run.
    pub(crate) fn setup(&self) -> anyhow::Result<Option<Setup>> {
        let setup = Setup::load(&self.global)?;
        for finding in &setup.findings {
            match finding.is_error() {
                true => self.say(&setup.shown(finding)),
                false => self.progress(&setup.shown(finding)),
            }
        }
        Ok((!setup.is_stopped()).then_some(setup))
    }

    /// What lives on the terminal.
    pub(crate) fn terminal(&self) -> Terminal {
        Terminal::new(self.quiet)
    }

    /// A line for people, on stderr.
    pub(crate) fn say(&self, line: &str) {
        // A closed stderr is no reason to stop.
        writeln!(std::io::stderr(), "{line}").ok();
    }

    /// What may be a mistake, unless `--quiet`.
    pub(crate) fn warn(&self, warning: &str) {
        self.progress(&format!("warning: {warning}"));
    }

    /// A line of progress, unless `--quiet`.
    pub(crate) fn progress(&self, line: &str) {
        if !self.quiet {
            self.say(line);
        }
    }
}

/// A line of results, on stdout.
pub(crate) fn print(line: &str) {
    // Whoever read our output may have stopped reading: that is their wish.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    crate::process::keep_to_owner();
    start_logging(&cli);
    crate::process::allow_many_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            writeln!(std::io::stderr(), "error: cannot start: {error}").ok();
            return ExitCode::from(1);
        }
    };
    let outcome = runtime.block_on(run(cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(Outcome::Ok) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Ok(Outcome::Pending) => ExitCode::from(3),
        Ok(Outcome::Interrupted) => ExitCode::from(130),
        Err(error) => {
            let mut text = format!("error: {error}");
            error.chain().skip(1).for_each(|cause| text.push_str(&format!("\nDetail: {cause}")));
            store_hint(&error).into_iter().for_each(|hint| text.push_str(&format!("\nHint: {hint}")));
            writeln!(std::io::stderr(), "{text}").ok();
            ExitCode::from(1)
        }
    }
}

/// What to do about a store that cannot be read or written.
fn store_hint(error: &anyhow::Error) -> Option<String> {
    let of_store = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<store::Error>().and_then(store::Error::hint).or_else(|| {
            match cause.downcast_ref::<engine::Error>()? {
                engine::Error::Store(error) => error.hint(),
                _ => None,
            }
        })
    };
    error.chain().find_map(of_store)
}

async fn run(cli: Cli) -> anyhow::Result<Outcome> {
    let global = cli.global;
    let context = Context {
        json: global.json,
        quiet: global.quiet,
        global: Global {
            project: global.project,
            target: global.target,
            vars: global.vars.unwrap_or_default(),
            data: global.data,
        },
    };
    match cli.command {
        Command::Demo(args) => demo::run(&context, args).await,
        Command::Doctor => doctor::run(&context).await,
        Command::Check => check::run(&context).await,
        Command::Up { watch } => Box::pin(up::run(&context, watch)).await,
        Command::Plan { rows } => apply::plan(&context, rows).await,
        Command::Apply => apply::apply(&context).await,
        Command::Rollback => apply::rollback(&context).await,
        Command::Build => Box::pin(build::run(&context)).await,
        Command::Status { watch: false } => ask::status(&context).await,
        Command::Status { watch: true } => ask::watch(&context).await,
        Command::Query { sql } => ask::query(&context, &sql).await,
        Command::Explain { model } => ask::explain(&context, &model).await,
        Command::Reconcile { what: Reconcile::Models } => ask::reconcile_models(&context).await,
        Command::Reconcile { what: Reconcile::Source(args) } => reconcile::source(&context, args).await,
        Command::Reconcile { what: Reconcile::History } => reconcile::history(&context),
        Command::Resnapshot(args) => repair::resnapshot(&context, args).await,
        Command::Pause { source } => repair::order(&context, Order::Pause(source)).await,
        Command::Resume { source } => repair::order(&context, Order::Resume(source)).await,
        Command::Users { command } => users::run(&context, command).await,
        Command::Keys { command } => keys::run(&context, command).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "tidemill", &mut std::io::stdout());
            Ok(Outcome::Ok)
        }
        Command::Simulate(args) => simulate::run(&context, args).await,
        Command::Bench(args) => {
            let failed = tokio::task::spawn_blocking(move || crate::bench::run(&args)).await?;
            failed.map(|()| Outcome::Ok)
        }
    }
}

fn start_logging(cli: &Cli) {
    let usual = if matches!(cli.command, Command::Up { .. }) { "info" } else { "warn" };
    let level = if cli.global.quiet { "error" } else { cli.global.log.as_deref().unwrap_or(usual) };
    let filter = tracing_subscriber::EnvFilter::try_new(level).unwrap_or_else(|_| usual.into());
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(terminal::LogLines)
        .with_ansi(color)
        .log_internal_errors(false)
        .init();
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        tokio::signal::ctrl_c().await.ok();
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn texts(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for path in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            let is_text = path.extension().is_some_and(|ending| ending == "rs" || ending == "md");
            if path.is_dir() && !path.ends_with("target") {
                texts(&path, found);
            } else if is_text {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }

    /// The words that stand behind `tidemill` where a text names a command.
    fn named(text: &str) -> BTreeSet<String> {
        let commands = text.split(concat!("`", "tidemill ")).skip(1).chain(text.split("\ntidemill ").skip(1));
        let words = commands.map(|rest| rest.chars().take_while(|c| c.is_ascii_lowercase()).collect::<String>());
        words.filter(|word| !word.is_empty()).collect()
    }

    /// A hint that names a command which is not there leads nowhere, and a command that nobody is told of helps nobody.
    #[test]
    fn commands_that_are_named_exist_and_the_readme_names_all() {
        let command = Cli::command();
        let known: BTreeSet<String> = command.get_subcommands().map(|of| of.get_name().to_owned()).collect();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found = Vec::new();
        for folder in ["crates", "docs", "examples"] {
            texts(&root.join(folder), &mut found);
        }
        let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
        let missing: Vec<&String> = known.iter().filter(|word| !named(&readme).contains(*word)).collect();
        assert_eq!(missing, Vec::<&String>::new(), "commands that the README does not name");
        found.push((root.join("README.md"), readme));
        for (path, text) in found {
            let unknown: Vec<String> = named(&text).into_iter().filter(|word| !known.contains(word)).collect();
            assert_eq!(unknown, Vec::<String>::new(), "{} names commands that are not there", path.display());
        }
    }
}
