//! The command line.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 changes pending, 130
//! interrupted.

mod apply;
mod ask;
mod build;
mod capture;
mod check;
mod demo;
mod doctor;
mod failure;
mod init;
mod keys;
mod reconcile;
mod repair;
mod simulate;
mod sync;
mod terminal;
mod test;
mod up;
mod users;
mod words;

pub(crate) use self::apply::serving;
pub(crate) use self::terminal::{Start, Terminal};

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

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
    #[arg(long, global = true, value_name = "LEVEL", env = "TIDEMILL_LOG", value_parser = log_level)]
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
    /// A new project: over the simulated shop, or over the tables of a database
    Init(init::InitArgs),
    /// Check the project's files: models, views and dashboards over the tables that are known, without asking a source
    Check {
        /// Ask the sources for the columns of their tables
        #[arg(long)]
        online: bool,
    },
    /// Load, stream, maintain and serve, until stopped; Ctrl-C is safe, so is kill -9
    Up {
        /// Apply the project again at each change of its files
        #[arg(long, short)]
        watch: bool,
    },
    /// Run until the sources are caught up with where they stood at the start, run the data tests, then say how it went
    Build,
    /// What would change if the project on disk were applied: models, columns, what is built anew; exit 3 if anything, 1 if something would not be in place then
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
        /// One SELECT; what is piped in where there is none, or `-`
        sql: Option<String>,
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
    /// Run the project's data tests over what is kept, all at one step; exit 1 if one fails
    Test(test::TestArgs),
    /// Load tables again while what there is of them serves; rows that are no longer in the source go
    Resnapshot(repair::ResnapshotArgs),
    /// Read nothing more of a source until `resume` or the next start, or deliver nothing more of a sync until `resume`
    Pause {
        /// The connection's name, or the sync's
        source: String,
    },
    /// Go on where `pause` has stopped, and where a sync was paused by its guard
    Resume {
        /// The connection's name, or the sync's
        source: String,
    },
    /// Syncs, and what is delivered of them; with a name and an option, what becomes of one
    Sync(sync::SyncArgs),
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
    /// Maxwell's role alone: the tables of a server as Maxwell's JSON to stdout, a file or Kafka; needs no project
    Capture(capture::CaptureArgs),
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
    /// What was asked for makes no sense.
    Usage,
    /// Something would change.
    Pending,
    Interrupted,
}

/// Everything that commands share.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    /// What is told to a program if nothing else is.
    noted: Mutex<Option<serde_json::Value>>,
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
        if setup.is_stopped() {
            self.note(failed(setup.findings.iter()));
        }
        Ok((!setup.is_stopped()).then_some(setup))
    }

    /// The same for another project.
    pub(crate) fn with(&self, global: Global) -> Self {
        Self { global, json: self.json, quiet: self.quiet, noted: Mutex::default() }
    }

    /// What a program is told if nothing else is.
    pub(crate) fn note(&self, answer: serde_json::Value) {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// Says that what was asked for makes no sense, and what does.
    pub(crate) fn misused(&self, message: &str, hint: &str) -> Outcome {
        self.say(&format!("error: {message}\nHint: {hint}"));
        self.note(serde_json::json!({"error": {"message": message, "detail": null, "hint": hint}}));
        Outcome::Usage
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

/// Findings for programs, the first error apart.
pub(crate) fn failed<'a>(findings: impl Iterator<Item = &'a project::Diagnostic> + Clone) -> serde_json::Value {
    let error = findings.clone().find(|finding| finding.is_error()).map(failure::finding);
    serde_json::json!({"error": error, "findings": findings.map(failure::finding).collect::<Vec<_>>()})
}

/// A line of results, on stdout. One that cannot be written fails the command, which goes on: see [`unwritten`].
pub(crate) fn print(line: &str) {
    HAS_PRINTED.store(true, Ordering::Relaxed);
    if let Err(error) = written(line) {
        UNWRITTEN.get_or_init(|| error);
    }
}

/// A line of results that is nowhere else, such as a generated password. Errors: nobody has got it.
pub(crate) fn print_once(line: &str) -> anyhow::Result<()> {
    HAS_PRINTED.store(true, Ordering::Relaxed);
    written(line).map_err(|error| anyhow::anyhow!("nothing was changed: {NOT_WRITTEN}\nDetail: {error}"))
}

fn written(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

const NOT_WRITTEN: &str = "the output cannot be written";

/// Whether something was printed: a program that asks for JSON gets one document, a result or an error.
static HAS_PRINTED: AtomicBool = AtomicBool::new(false);

/// Why results could not be written, where they could not.
static UNWRITTEN: OnceLock<std::io::Error> = OnceLock::new();

/// Whether nobody gets what is printed any more.
pub(crate) fn is_unheard() -> bool {
    UNWRITTEN.get().is_some()
}

/// What is said where results could not be written. Whoever read them may have stopped reading: that is their wish, and nothing is said
/// of it.
fn unwritten() -> Option<String> {
    let error = UNWRITTEN.get().filter(|error| error.kind() != std::io::ErrorKind::BrokenPipe)?;
    Some(format!("error: {NOT_WRITTEN}\nDetail: {error}"))
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let error = words::meant(error);
        let asks_for_json = std::env::args_os().any(|argument| argument == "--json");
        if asks_for_json && error.use_stderr() {
            print(&serde_json::json!({"error": usage(&error)}).to_string());
        }
        // Help that somebody asks for is a result.
        if let Err(failed) = error.print()
            && !error.use_stderr()
        {
            UNWRITTEN.get_or_init(|| failed);
        }
        exit(u8::try_from(error.exit_code()).unwrap_or(2))
    });
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
    let (command, context) = cli.parted();
    let outcome = runtime.block_on(run(command, &context));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    if let Err(error) = &outcome {
        context.say(&format!("error: {}", failure::text(error)));
    }
    let noted = context.noted.lock().unwrap_or_else(PoisonError::into_inner).take();
    let error = || outcome.as_ref().err().map(|error| serde_json::json!({"error": failure::object(error)}));
    let failed = noted.or_else(error);
    // What has nothing to tell has done what it should.
    let told = failed.or_else(|| matches!(outcome, Ok(Outcome::Ok)).then(|| serde_json::json!({"ok": true})));
    if let (true, Some(told), false) = (context.json, told, HAS_PRINTED.load(Ordering::Relaxed)) {
        print(&told.to_string());
    }
    let code = match outcome {
        Ok(Outcome::Ok) => 0,
        Ok(Outcome::Failed) | Err(_) => 1,
        Ok(Outcome::Usage) => 2,
        Ok(Outcome::Pending) => 3,
        Ok(Outcome::Interrupted) => 130,
    };
    ExitCode::from(ended(code))
}

/// How the process ends: as its command did, unless nobody has got the results.
fn ended(code: u8) -> u8 {
    match unwritten() {
        None => code,
        Some(said) => {
            writeln!(std::io::stderr(), "{said}").ok();
            if matches!(code, 0 | 3) { 1 } else { code }
        }
    }
}

/// Ends the process before there is anything to be ended.
fn exit(code: u8) -> ! {
    std::process::exit(i32::from(ended(code)))
}

/// What is wrong with a command line, for programs.
fn usage(error: &clap::Error) -> serde_json::Value {
    let text = error.to_string();
    let mut parts = text.split("\n\n");
    let message = parts.next().unwrap_or_default().trim_start_matches("error: ").trim();
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    serde_json::json!({"message": message, "detail": null, "hint": tip})
}

impl Cli {
    /// The command, and what all of them share.
    fn parted(self) -> (Command, Context) {
        let GlobalArgs { project, target, vars, data, json, quiet, .. } = self.global;
        let global = Global { project, target, vars: vars.unwrap_or_default(), data };
        (self.command, Context { global, json, quiet, noted: Mutex::default() })
    }
}

async fn run(command: Command, context: &Context) -> anyhow::Result<Outcome> {
    match command {
        Command::Demo(args) => demo::run(context, args).await,
        Command::Doctor => doctor::run(context).await,
        Command::Init(args) => init::run(context, args).await,
        Command::Check { online } => check::run(context, online).await,
        Command::Up { watch } => Box::pin(up::run(context, watch)).await,
        Command::Plan { rows } => apply::plan(context, rows).await,
        Command::Apply => apply::apply(context).await,
        Command::Rollback => apply::rollback(context).await,
        Command::Build => Box::pin(build::run(context)).await,
        Command::Status { watch: false } => ask::status(context).await,
        Command::Status { watch: true } => ask::watch(context).await,
        Command::Query { sql } => ask::query(context, sql).await,
        Command::Explain { model } => ask::explain(context, &model).await,
        Command::Reconcile { what: Reconcile::Models } => ask::reconcile_models(context).await,
        Command::Reconcile { what: Reconcile::Source(args) } => reconcile::source(context, args).await,
        Command::Reconcile { what: Reconcile::History } => reconcile::history(context),
        Command::Test(args) => test::run(context, args).await,
        Command::Resnapshot(args) => repair::resnapshot(context, args).await,
        Command::Pause { source } => repair::order(context, Order::Pause(source)).await,
        Command::Resume { source } => repair::order(context, Order::Resume(source)).await,
        Command::Sync(args) => sync::run(context, args).await,
        Command::Users { command } => users::run(context, command).await,
        Command::Keys { command } => keys::run(context, command).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidemill", &mut script);
            print(String::from_utf8_lossy(&script).trim_end());
            Ok(Outcome::Ok)
        }
        Command::Simulate(args) => simulate::run(context, args).await,
        Command::Capture(args) => Box::pin(capture::run(context, args)).await,
        Command::Bench(_) if context.json => {
            Ok(context.misused("`bench` prints figures for people: there is no JSON of them", "Leave --json out."))
        }
        Command::Bench(args) => {
            let failed = tokio::task::spawn_blocking(move || crate::bench::run(&args)).await?;
            failed.map(|()| Outcome::Ok)
        }
    }
}

/// What `--log` may be. Errors: a part of it is no level.
fn log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            return Err(format!("`{level}` is no level: one of {}", LEVELS.join(", ")));
        }
    }
    tracing_subscriber::EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
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

    /// Endings of files that people read, or that what they read is made of.
    const TEXTS: [&str; 6] = ["rs", "md", "html", "js", "yml", "sql"];

    fn texts(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for path in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            let is_text = path.extension().is_some_and(|ending| TEXTS.iter().any(|known| ending == *known));
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("tests") {
                texts(&path, found);
            } else if is_text {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }

    /// What stands behind `tidemill` where a text names a command, as words.
    fn named(text: &str) -> Vec<Vec<String>> {
        // A text that goes on in the next line of the source is one text.
        let mut joined = String::new();
        for (at, part) in text.split("\\\n").enumerate() {
            joined.push_str(if at == 0 { part } else { part.trim_start() });
        }
        let within =
            joined.split(concat!("`", "tidemill ")).skip(1).map(|rest| rest.split('`').next().unwrap_or_default());
        // Of a line, what stands before what explains it.
        let lines = joined.split("\ntidemill ").skip(1).map(|rest| rest.lines().next().unwrap_or_default());
        let lines = lines.map(|line| line.split("  ").next().unwrap_or_default());
        let words = |text: &str| -> Vec<String> {
            let end = text.split([';', '…', '#']).next().unwrap_or_default();
            // What is put into a text is no part of a word.
            let word =
                |word: &str| word.trim_matches(['\'', ',', '.']).split('{').next().unwrap_or_default().to_owned();
            end.split_whitespace().map(word).filter(|word| !word.is_empty()).collect()
        };
        within.chain(lines).map(words).filter(|words| !words.is_empty()).collect()
    }

    /// What of a command that is named is not there; none where all of it is.
    fn unknown(root: &clap::Command, words: &[String]) -> Option<String> {
        let option = |of: &clap::Command, word: &str| -> Option<bool> {
            let name = word.trim_start_matches("--");
            let mut known = of.get_arguments().chain(root.get_arguments());
            let found = known.find(|argument| argument.get_long() == Some(name));
            let takes_value = found.map(|argument| argument.get_action().takes_values());
            takes_value.or_else(|| ["help", "version"].contains(&name).then_some(false))
        };
        let mut at = root;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word.starts_with("--") {
                match option(at, word) {
                    None => return Some(word.clone()),
                    Some(true) => _ = words.next(),
                    Some(false) => {}
                }
            } else if at.has_subcommands() && word.starts_with(|c: char| c.is_ascii_lowercase()) {
                // `users add|list` names both.
                let mut found = None;
                for name in word.split('|') {
                    let Some(command) = at.find_subcommand(name) else { return Some(name.to_owned()) };
                    found.get_or_insert(command);
                }
                at = found?;
            }
        }
        None
    }

    /// A hint that names a command or an option which is not there leads nowhere, and a command that nobody is told of helps nobody.
    #[test]
    fn commands_that_are_named_exist_and_the_readme_names_all() {
        let command = Cli::command();
        let known: BTreeSet<String> = command.get_subcommands().map(|of| of.get_name().to_owned()).collect();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found = Vec::new();
        for folder in ["crates", "docs", "examples"] {
            texts(&root.join(folder), &mut found);
        }
        for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
            found.push((root.join(name), std::fs::read_to_string(root.join(name)).unwrap()));
        }
        let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
        let told: BTreeSet<String> = named(&readme).into_iter().map(|words| words[0].clone()).collect();
        let missing: Vec<&String> = known.iter().filter(|word| !told.contains(*word)).collect();
        assert_eq!(missing, Vec::<&String>::new(), "commands that the README does not name");
        let mut wrong = Vec::new();
        let mut checked = 0;
        for (path, text) in found {
            for words in named(&text) {
                checked += 1;
                wrong.extend(unknown(&command, &words).map(|word| format!("{}: {word} of {words:?}", path.display())));
            }
        }
        assert_eq!(wrong, Vec::<String>::new(), "what is named and is not there");
        assert!(checked > 100, "only {checked} commands are named");
    }

    #[test]
    fn what_is_not_there_is_found() {
        let command = Cli::command();
        let of = |text: &str| named(text).iter().filter_map(|words| unknown(&command, words)).collect::<Vec<_>>();
        let tick = "`";
        let missing = "restore";
        assert_eq!(of(&format!("{tick}tidemill {missing}{tick}")), [missing]);
        assert_eq!(of(&format!("{tick}tidemill check --offline{tick}")), ["--offline"]);
        assert_eq!(of(&format!("{tick}tidemill users add|drop NAME{tick}")), ["drop"]);
        assert_eq!(of(&format!("{tick}tidemill resnapshot \\\n   --al{tick}")), ["--al"]);
        assert_eq!(of(&format!("{tick}tidemill --project DIR users add NAME --role R{tick}")), Vec::<String>::new());
    }
}
