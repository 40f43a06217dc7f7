//! The log of a shop at rest, from its beginning: to durable tables, or to all models of a project.
//!
//! Before it, load the story into a server whose log is then read from its beginning, or from where `--from` says:
//!
//! ```text
//! examples/olist/load FOLDER --copies 26 --jobs 2 --fast --database bench_olist
//! ```

use std::path::PathBuf;

use anyhow::Context as _;
use project::Files;

use super::line;
use super::running::Running;
use super::server::LogArgs;

/// Settings of the bench that ends at durable tables.
#[derive(Debug, clap::Args)]
pub struct CaptureArgs {
    #[command(flatten)]
    log: ChangesArgs,
}

/// Settings of the bench that ends at models.
#[derive(Debug, clap::Args)]
pub struct WholeArgs {
    #[command(flatten)]
    log: ChangesArgs,
    /// The project folder with the models
    #[arg(long, value_name = "DIR", default_value = "examples/olist")]
    project: PathBuf,
}

/// How much of a log.
#[derive(Debug, clap::Args)]
struct ChangesArgs {
    #[command(flatten)]
    of: LogArgs,
    /// End after about so many changes [default: where the log ended at the start]
    #[arg(long, value_name = "N")]
    changes: Option<u64>,
}

const TABLES: [&str; 7] =
    ["customers", "sellers", "products", "orders", "order_items", "order_payments", "order_reviews"];

/// Log to durable tables.
pub(super) async fn capture(args: &CaptureArgs) -> anyhow::Result<()> {
    args.log.run(&project_of(&TABLES, &[])).await
}

/// Log to models.
pub(super) async fn whole(args: &WholeArgs) -> anyhow::Result<()> {
    let files = Files::read(&args.project).with_context(|| {
        format!("cannot read the project folder {}; name it with --project", args.project.display())
    })?;
    args.log.run(&files).await
}

impl ChangesArgs {
    async fn run(&self, files: &Files) -> anyhow::Result<()> {
        let LogArgs { server, database, .. } = &self.of;
        server.expect_tables(database, &TABLES).await?;
        let running = Running::start(files, &server.connection(database, self.of.begin().await?)).await?;
        line(&format!("to                   {}", running.target.0));
        running.until_caught_up(self.changes.unwrap_or(u64::MAX)).await?;
        let visible = running.begun.elapsed().as_secs_f64();
        let idle = running.until_idle().await?;
        running.tell(visible, idle);
        running.instance.stop().await
    }
}

/// A project of one source, named `shop`, and these models.
pub(super) fn project_of(tables: &[&str], models: &[(&str, &str)]) -> Files {
    let mut sources = String::from("version: 2\nsources:\n  - name: shop\n    tables:\n");
    tables.iter().for_each(|table| sources.push_str(&format!("      - name: {table}\n")));
    let mut files = Files::from_pairs([
        ("dbt_project.yml", "name: bench\nversion: '1'\nprofile: bench\nmodels:\n  bench:\n    +materialized: table\n"),
        ("profiles.yml", "bench:\n  target: dev\n  outputs:\n    dev:\n      type: tidemill\n      schema: public\n"),
        // The settings follow from the command line.
        ("connections.yml", "shop:\n  type: mysql\n  host: 127.0.0.1\n  user: root\n  database: shop\n"),
    ]);
    files.insert("models/sources.yml", sources);
    for (name, sql) in models {
        files.insert(format!("models/{name}.sql"), *sql);
    }
    files
}
