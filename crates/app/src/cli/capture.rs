//! `capture`: Maxwell's role alone. The tables of a server as Maxwell's JSON, by Maxwell's own settings.

use std::path::PathBuf;

use connect::maxwell::properties::{self, Config, Entry, Producer};
use connect::maxwell::{Job, StopAt, Teller, To, Word};
use connect::{Failure, Secret};
use mysql_async::Opts;
use tokio::sync::watch;

use super::{Context, Outcome, interrupted, print};

#[derive(Debug, clap::Args)]
pub(super) struct CaptureArgs {
    /// A maxwell.properties, as Maxwell reads it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server: mysql://user:password@host:port
    #[arg(long, value_name = "URL", env = "TIDEMILL_CAPTURE_SOURCE", hide_env_values = true)]
    source: Option<String>,
    /// Its name or address [default: 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// Its port [default: 3306]
    #[arg(long)]
    port: Option<u16>,
    /// Who logs in; needs REPLICATION SLAVE, REPLICATION CLIENT and SELECT [default: maxwell]
    #[arg(long)]
    user: Option<String>,
    /// A file with the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Where messages go: stdout (or -), kafka, none, or the path of a file [default: stdout]
    #[arg(long, value_name = "PLACE")]
    to: Option<String>,
    /// Which tables: 'exclude: *.*, include: shop.*'
    #[arg(long, value_name = "RULES")]
    filter: Option<String>,
    /// Any other setting of a maxwell.properties: output_ddl=true, kafka.bootstrap.servers=127.0.0.1:9092
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print values as Maxwell does, also where it is wrong
    #[arg(long)]
    compat: bool,
    /// The folder that keeps the position
    #[arg(long, value_name = "DIR", default_value = "capture")]
    state: PathBuf,
    /// End where the log ends at the start (`end`), or at a place such as binlog.000003:154 [default: at Ctrl-C]
    #[arg(long, value_name = "PLACE", value_parser = stop_at)]
    stop_at: Option<StopAt>,
}

fn stop_at(text: &str) -> Result<StopAt, String> {
    if text == "end" {
        return Ok(StopAt::End);
    }
    let place = text.rsplit_once(':').and_then(|(file, offset)| Some((file.to_owned(), offset.parse().ok()?)));
    let (file, offset) = place.ok_or_else(|| "neither `end` nor a place such as binlog.000003:154".to_owned())?;
    Ok(StopAt::Place { file, offset })
}

pub(super) async fn run(context: &Context, args: CaptureArgs) -> anyhow::Result<Outcome> {
    let entries = args.entries()?;
    let config = match properties::config(&entries) {
        Ok(config) => config,
        Err(failures) => {
            let parts: Vec<serde_json::Value> =
                failures.iter().map(|one| super::failure::parted(&one.text())).collect();
            failures.iter().for_each(|failure| context.say(&format!("error: {}", failure.text())));
            context.note(serde_json::json!({"error": parts.first(), "errors": parts}));
            return Ok(Outcome::Usage);
        }
    };
    config.notes.iter().for_each(|note| context.progress(note));
    let password = match &args.password_file {
        None => None,
        Some(path) => Some(Secret::File(path.clone()).resolve().await.map_err(said)?),
    };
    let is_on_stdout = config.producer == Producer::Stdout;
    let job = job(config, password, &args);
    let (stop, stopped) = watch::channel(false);
    let watcher = tokio::spawn(async move {
        interrupted().await;
        // Who captures has ended already, or hears it.
        stop.send(true).ok();
        // The word must stay until it is heard.
        std::future::pending::<()>().await;
        drop(stop);
    });
    let quiet = context.quiet;
    let teller = Teller::new(move |word, line| {
        use std::io::Write as _;
        let text = match word {
            Word::Progress if quiet => return,
            Word::Progress => line.to_owned(),
            Word::Warning => format!("warning: {line}"),
        };
        // A closed stderr is no reason to stop.
        writeln!(std::io::stderr(), "{text}").ok();
    });
    let done = Box::pin(connect::maxwell::run(job, stopped, teller)).await;
    watcher.abort();
    let done = done.map_err(said)?;
    if let Some(reason) = &done.given_up {
        context.say(&format!("warning: not all messages were taken: {reason}; they come again after the next start"));
    }
    if done.unread > 0 {
        context.say(&format!("error: {} rows could not be output, as was told above", done.unread));
    }
    let position = done.position.as_deref().and_then(|position| position.split(' ').next());
    if context.json && !is_on_stdout {
        let answer = serde_json::json!({"messages": done.messages, "unread": done.unread, "position": position});
        print(&answer.to_string());
    }
    // Of what was not taken there are messages behind the place that is kept.
    let what = if done.given_up.is_some() { "messages were read, and are safe" } else { "messages" };
    let reached = position.map(|position| format!(", up to {position}")).unwrap_or_default();
    match (done.given_up.is_some(), position) {
        (true, None) => {
            context.progress(&format!("{} messages were read, and no place was kept since the start", done.messages))
        }
        _ => context.progress(&format!("{} {what}{reached}", done.messages)),
    }
    Ok(if done.unread > 0 || done.given_up.is_some() { Outcome::Failed } else { Outcome::Ok })
}

fn said(failure: Failure) -> anyhow::Error {
    anyhow::anyhow!("{}", failure.text())
}

fn job(config: Config, password: Option<String>, args: &CaptureArgs) -> Job {
    let mut server = config.server;
    server.password = password.or(server.password);
    Job {
        server,
        options: config.options,
        filter: config.filter,
        routing: config.routing,
        to: match config.producer {
            Producer::Stdout => To::Stdout,
            Producer::File(path) => To::File(path),
            Producer::Kafka => To::Kafka { settings: config.kafka, dead_letter_topic: config.dead_letter_topic },
            Producer::Nowhere => To::Nowhere,
        },
        state: args.state.clone(),
        stop_at: args.stop_at.clone(),
        own_database: config.own_database,
        client_id: config.client_id,
        bootstraps: config.bootstraps,
    }
}

impl CaptureArgs {
    /// All settings: those of the file, and over them those of the command line.
    fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path).map_err(|error| {
                anyhow::anyhow!(
                    "{} cannot be read\nDetail: {error}\nHint: Name a maxwell.properties by --config.",
                    path.display()
                )
            })?;
            entries.extend(properties::entries(&text, &path.display().to_string()));
        }
        let mut say = |key: &str, value: String, option: &str| {
            let (key, place) = (key.to_owned(), option.to_owned());
            // What is said last holds; a server that is named on the command line is the one that is read.
            entries.retain(|entry| entry.key != format!("replication_{key}"));
            entries.push(Entry { key, value, place });
        };
        if let Some(url) = &self.source {
            let rest = url.strip_prefix("mysql://").or_else(|| url.strip_prefix("mariadb://"));
            let opts = rest.and_then(|rest| Opts::from_url(&format!("mysql://{rest}")).ok());
            let Some(opts) = opts else {
                anyhow::bail!("--source cannot be read\nHint: A server is named as mysql://user:password@host:port.");
            };
            say("host", opts.ip_or_hostname().to_owned(), "--source");
            say("port", opts.tcp_port().to_string(), "--source");
            opts.user().into_iter().for_each(|user| say("user", user.to_owned(), "--source"));
            opts.pass().into_iter().for_each(|password| say("password", password.to_owned(), "--source"));
        }
        self.host.iter().for_each(|host| say("host", host.clone(), "--host"));
        self.port.iter().for_each(|port| say("port", port.to_string(), "--port"));
        self.user.iter().for_each(|user| say("user", user.clone(), "--user"));
        self.filter.iter().for_each(|filter| say("filter", filter.clone(), "--filter"));
        for setting in &self.set {
            let Some((key, value)) = setting.split_once('=') else {
                anyhow::bail!(
                    "--set {setting} names no value\nHint: Write it as KEY=VALUE, as in --set output_ddl=true."
                );
            };
            say(key.trim(), value.trim().to_owned(), "--set");
        }
        if self.compat {
            say("maxwell_compat", "true".to_owned(), "--compat");
        }
        match self.to.as_deref() {
            None => {}
            // As it is everywhere else.
            Some("-") => say("producer", "stdout".to_owned(), "--to"),
            Some(word @ ("stdout" | "kafka" | "none")) => say("producer", word.to_owned(), "--to"),
            Some(path) => {
                say("producer", "file".to_owned(), "--to");
                say("output_file", path.to_owned(), "--to");
            }
        }
        Ok(entries)
    }
}
