//! The log of a shop at rest as Maxwell's JSON into a file, or into a topic of Kafka.
//!
//! Before it, load the story into a server whose log is then read from its beginning, or from where `--from` says:
//!
//! ```text
//! examples/olist/load FOLDER --copies 26 --jobs 2 --fast --database bench_olist
//! ```

use std::path::PathBuf;

use connect::maxwell::{Filter, Job, Options, Routing, StopAt, Teller, To};
use connect::source::mysql::{MysqlConfig, Tls};
use project::Start;
use tokio::sync::watch;
use tokio::time::Instant;

use super::server::{LogArgs, PASSWORD};
use super::{line, memory_mib};

/// Settings of the bench.
#[derive(Debug, clap::Args)]
pub struct MaxwellArgs {
    #[command(flatten)]
    log: LogArgs,
    /// The file, removed when it is over [default: one in the system's folder for such]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The brokers of Kafka, host:port, instead of a file; the topic stays, for `bench consume`
    #[arg(long, value_name = "BROKERS", conflicts_with = "file")]
    kafka: Option<String>,
    /// The topic there
    #[arg(long, default_value = super::consume::TOPIC)]
    topic: String,
    /// Print values as Maxwell does, also where it is wrong
    #[arg(long)]
    compat: bool,
}

/// Log to messages.
pub(super) async fn run(args: &MaxwellArgs) -> anyhow::Result<()> {
    let LogArgs { server, database, .. } = &args.log;
    let Start::Binlog { file, position } = args.log.begin().await? else {
        anyhow::bail!("the server does not tell where its log begins");
    };
    let folder = tempfile::tempdir()?;
    let file_to = args.file.clone().unwrap_or_else(|| folder.path().join("messages.json"));
    let to = match &args.kafka {
        Some(brokers) => {
            let settings = [("bootstrap.servers", brokers.as_str()), ("compression.type", "lz4"), ("acks", "all")];
            let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
            To::Kafka { settings, dead_letter_topic: None }
        }
        None => To::File(file_to.clone()),
    };
    let filter = format!("exclude: *.*, include: `{database}`.*");
    let job = Job {
        server: MysqlConfig {
            host: server.host.clone(),
            port: server.port,
            user: server.user.clone(),
            password: std::env::var(PASSWORD).ok(),
            tls: Tls::Disabled,
            start: connect::source::mysql::Start::Binlog { file, offset: position },
            ..MysqlConfig::default()
        },
        options: Options { compat: args.compat, ..Options::default() },
        filter: Filter::parse(&filter)?,
        routing: Routing { topic: args.topic.clone(), ..Routing::default() },
        to,
        state: folder.path().join("state"),
        stop_at: Some(StopAt::End),
        own_database: "maxwell".to_owned(),
        client_id: "maxwell".to_owned(),
        bootstraps: false,
    };
    let (_stop, stopped) = watch::channel(false);
    let begun = Instant::now();
    let teller = Teller::new(|_, said| line(&format!("told                 {said}")));
    let done = Box::pin(connect::maxwell::run(job, stopped, teller))
        .await
        .map_err(|failure| anyhow::anyhow!("{}", failure.text()))?;
    let seconds = begun.elapsed().as_secs_f64();
    let (_, peak) = memory_mib();
    line(&format!("messages             {}", done.messages));
    if args.kafka.is_none() {
        let bytes = std::fs::metadata(&file_to)?.len();
        std::fs::remove_file(&file_to)?;
        line(&format!("bytes                {:.1} MiB", bytes as f64 / f64::from(1 << 20)));
    }
    line(&format!("time                 {seconds:.1} s"));
    line(&format!("messages/s           {:.0}", done.messages as f64 / seconds));
    line(&format!("memory, at most      {peak} MiB"));
    match done.unread {
        0 => Ok(()),
        unread => anyhow::bail!("{unread} rows could not be output"),
    }
}
