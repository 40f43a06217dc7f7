//! The database that a bench reads: where it is, and what a bench asks of it or writes into it.

use anyhow::Context as _;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use project::{ConnectionKind, Secret, Start, Tls};

use super::line;

/// Holds the password; a user without one needs none.
pub(super) const PASSWORD: &str = "TIDEMILL_BENCH_PASSWORD";

/// A MySQL or MariaDB; the password is read from TIDEMILL_BENCH_PASSWORD.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServerArgs {
    /// Host name or address of the server
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Its port
    #[arg(long, default_value_t = 3306)]
    pub port: u16,
    /// Who logs in
    #[arg(long, default_value = "root")]
    pub user: String,
}

impl ServerArgs {
    /// A connection of the bench's own. Errors: nobody answers there, or not to this user.
    pub(super) async fn connect(&self) -> anyhow::Result<Conn> {
        let options = OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .pass(std::env::var(PASSWORD).ok())
            .prefer_socket(false);
        Conn::new(options).await.with_context(|| {
            format!(
                "cannot log in to {}:{} as {}; name the server with --host, --port and --user, its password with {PASSWORD}",
                self.host, self.port, self.user
            )
        })
    }

    /// A project's connection to it.
    pub(super) fn connection(&self, database: &str, start: Start) -> ConnectionKind {
        ConnectionKind::Mysql {
            host: self.host.clone(),
            port: self.port,
            user: self.user.clone(),
            password: std::env::var_os(PASSWORD).map(|_| Secret::Env(PASSWORD.to_owned())),
            database: Some(database.to_owned()),
            tls: Tls::Disabled,
            tls_ca: None,
            server_public_key: None,
            start,
        }
    }

    /// The same as the text of a project's `connections.yml`.
    pub(super) fn connection_text(&self, name: &str, database: &str) -> String {
        let password = match std::env::var_os(PASSWORD) {
            Some(_) => format!("  password: {{env: {PASSWORD}}}\n"),
            None => String::new(),
        };
        let Self { host, port, user } = self;
        format!(
            "{name}:\n  type: mysql\n  host: {host}\n  port: {port}\n  user: {user}\n{password}  database: {database}\n  \
             tls: disabled\n  start: snapshot\n"
        )
    }

    /// Where the server's oldest log begins.
    pub(super) async fn oldest_log(&self) -> anyhow::Result<Start> {
        let mut server = self.connect().await?;
        let first: Option<mysql_async::Row> = server
            .query_first("show binary logs")
            .await
            .context("cannot list the server's logs; it needs log_bin and the user REPLICATION CLIENT")?;
        let file = first.and_then(|row| row.get::<String, _>(0)).context("the server has no binary log")?;
        server.disconnect().await.ok();
        Ok(Start::Binlog { file, position: 4 })
    }

    /// Rows of a database's tables. Errors: it has none.
    pub(super) async fn expect_tables(&self, database: &str, tables: &[&str]) -> anyhow::Result<()> {
        let mut server = self.connect().await?;
        for table in tables {
            let sql = format!("select 1 from `{database}`.`{table}` limit 1");
            let found = server.query_first::<u8, _>(sql).await;
            let hint = || {
                format!(
                    "table \"{table}\" of database \"{database}\" cannot be read; load it with \
                     examples/olist/load FOLDER --copies 26 --jobs 2 --fast --database {database}"
                )
            };
            found.with_context(hint)?.with_context(hint)?;
        }
        server.disconnect().await.ok();
        Ok(())
    }
}

/// A log, and a database in it.
#[derive(Debug, clap::Args)]
pub(super) struct LogArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// The database with the story
    #[arg(long, default_value = "bench_olist")]
    pub database: String,
    /// Where in the log to begin, as file:offset [default: the beginning of the oldest]
    #[arg(long, value_parser = parse_from)]
    from: Option<(String, u64)>,
}

impl LogArgs {
    /// The place where to begin, which is printed.
    pub(super) async fn begin(&self) -> anyhow::Result<Start> {
        let start = match self.from.clone() {
            Some((file, position)) => Start::Binlog { file, position },
            None => self.server.oldest_log().await?,
        };
        if let Start::Binlog { file, position } = &start {
            line(&format!("from                 {file}:{position}"));
        }
        Ok(start)
    }
}

/// A database that a bench makes, and drops when it is done.
pub(super) struct OwnDatabase {
    pub server: Conn,
    name: String,
}

impl OwnDatabase {
    /// Makes it. Errors: it is there already, maybe left by a bench that was interrupted.
    pub(super) async fn create(args: &ServerArgs, name: &str) -> anyhow::Result<Self> {
        let mut server = args.connect().await?;
        let made = server.query_drop(format!("create database `{name}` character set utf8mb4")).await;
        made.with_context(|| {
            format!("database \"{name}\" cannot be made; if an interrupted bench left it: drop database `{name}`")
        })?;
        server.query_drop(format!("use `{name}`")).await?;
        Ok(Self { server, name: name.to_owned() })
    }

    /// Drops it.
    pub(super) async fn drop_it(mut self) -> anyhow::Result<()> {
        self.server.query_drop(format!("drop database `{}`", self.name)).await?;
        Ok(self.server.disconnect().await?)
    }
}

/// `file:offset`, as `--from` takes it.
fn parse_from(text: &str) -> Result<(String, u64), String> {
    let parts = text.rsplit_once(':').and_then(|(file, offset)| Some((file.to_owned(), offset.parse().ok()?)));
    parts.ok_or_else(|| "not a position such as binlog.000001:4".to_owned())
}
