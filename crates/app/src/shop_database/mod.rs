//! `tidemill simulate`: the simulated shop in a MySQL database, as if a shop's application wrote it.
//!
//! The tables are made and filled with the shop's history; then its transactions are committed at their times, each as a
//! transaction of the database. A database that does not keep up makes the shop's clock wait.

mod sql;

use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};
use simulate::{Settings, Simulation, Table, Told};

use crate::clock::Clock;
use crate::demo::Pace;

/// A shop that is further behind than this no longer tries to catch up: its clock waits.
const BEHIND_US_MAX: i64 = 500_000;
/// The longest wait between two looks at the clock.
const LOOK: Duration = Duration::from_millis(200);

/// What was written, and how it went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows of the history.
    pub history: usize,
    pub transactions: usize,
    pub changes: u64,
    /// How long the shop's clock stood still since the database did not keep up.
    pub waited_us: i64,
}

/// Why nobody lets us in there, and what to do.
fn not_let_in(address: &str, error: &mysql_async::Error) -> anyhow::Error {
    let (detail, hint) = match error {
        mysql_async::Error::Server(said) => (
            said.message.clone(),
            "The user and the password stand in the URL: mysql://user:password@host:port/database.",
        ),
        other => {
            let mut innermost: &dyn std::error::Error = other;
            while let Some(cause) = innermost.source() {
                innermost = cause;
            }
            (innermost.to_string(), "Check host and port in the URL, and that a MySQL or MariaDB server runs there.")
        }
    };
    anyhow::anyhow!("cannot log in to {address}\nDetail: {detail}\nHint: {hint}")
}

/// A database that is a shop's.
pub struct ShopDatabase {
    server: Conn,
    simulation: Simulation,
    written: Written,
}

impl ShopDatabase {
    /// Makes the database if there is none, and the shop's tables in it.
    ///
    /// Errors: the URL is none, nobody answers there, or a table is there already.
    pub async fn create(url: &str, settings: Settings) -> anyhow::Result<Self> {
        let form = "a database is named as mysql://user:password@host:port/database";
        let opts = Opts::from_url(url).context(form)?;
        let database = opts.db_name().context(form)?.replace('`', "``");
        let address = format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port());
        let builder = OptsBuilder::from_opts(opts).db_name(None::<String>).prefer_socket(false);
        let connected = Conn::new(builder).await;
        let mut server = connected.map_err(|error| not_let_in(&address, &error))?;
        server.query_drop(format!("create database if not exists `{database}` character set utf8mb4")).await?;
        server.query_drop(format!("use `{database}`")).await?;
        for table in Table::ALL {
            let made = server.query_drop(sql::create(table)).await;
            made.with_context(|| {
                format!(
                    "cannot make table \"{}\"; the shop needs a database of its own, without tables of these names",
                    table.name()
                )
            })?;
        }
        Ok(Self { server, simulation: Simulation::new(settings), written: Written::default() })
    }

    /// Writes the shop's history; tells of each table when it is full. Answers false if it was interrupted.
    pub async fn write_history(
        &mut self,
        interrupt: &mut Interrupt,
        mut each: impl FnMut(Table, usize),
    ) -> anyhow::Result<bool> {
        for table in Table::ALL {
            let mut cursor = None;
            let mut rows = 0;
            loop {
                let chunk = self.simulation.chunk(table, cursor.as_deref());
                self.commit(sql::inserts(table, &chunk.rows)).await?;
                rows += chunk.rows.len();
                if interrupt.wait(Duration::ZERO).await {
                    return Ok(false);
                }
                if chunk.complete {
                    break;
                }
                cursor = Some(chunk.cursor);
            }
            self.written.history += rows;
            each(table, rows);
        }
        Ok(true)
    }

    /// Commits the shop's transactions at their times, until interrupted or for so long.
    pub async fn write_on(
        &mut self,
        clock: &dyn Clock,
        seconds: Option<u64>,
        interrupt: &mut Interrupt,
    ) -> anyhow::Result<()> {
        let begun_us = clock.now_us();
        let seconds_us = seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000));
        let end_us = seconds_us.map_or(i64::MAX, |us| begun_us.saturating_add(us));
        let Some(mut pace) = Pace::new(self.simulation.settings().speed, begun_us, self.simulation.now_us()) else {
            return Ok(());
        };
        loop {
            let now_us = clock.now_us();
            if now_us >= end_us {
                return Ok(());
            }
            let behind_us = now_us - pace.life_us(self.simulation.due_us());
            if behind_us > BEHIND_US_MAX {
                pace.restart(now_us, self.simulation.due_us());
                self.written.waited_us += behind_us;
            }
            let mut told = Told::default();
            // One row, and with it all of its time.
            self.simulation.advance(pace.shop_us(now_us), 1, &mut told);
            let wait_us = match told.transactions.is_empty() {
                true => pace.life_us(self.simulation.due_us()).min(end_us) - clock.now_us(),
                false => {
                    self.commit(sql::changes(&told)).await?;
                    self.written.transactions += told.transactions.len();
                    self.written.changes += told.transactions.iter().map(|t| u64::from(t.changes)).sum::<u64>();
                    0
                }
            };
            if interrupt.wait(Duration::from_micros(u64::try_from(wait_us).unwrap_or(0)).min(LOOK)).await {
                return Ok(());
            }
        }
    }

    async fn commit(&mut self, statements: Vec<String>) -> anyhow::Result<()> {
        if statements.is_empty() {
            return Ok(());
        }
        self.server.query_drop("begin").await?;
        for statement in statements {
            self.server.query_drop(statement).await.context("the database refused the shop's rows")?;
        }
        Ok(self.server.query_drop("commit").await?)
    }

    /// Leaves the database as it is.
    pub async fn close(self) -> anyhow::Result<Written> {
        self.server.disconnect().await?;
        Ok(self.written)
    }
}

/// Notices that the work is to end.
pub struct Interrupt {
    asked: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_asked: bool,
}

impl Interrupt {
    /// Ends the work when this does.
    pub fn new(asked: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { asked: Box::pin(asked), is_asked: false }
    }

    /// Waits for so long, or until the work is to end; answers whether it is.
    async fn wait(&mut self, wait: Duration) -> bool {
        if !self.is_asked {
            self.is_asked = tokio::time::timeout(wait, &mut self.asked).await.is_ok();
        }
        self.is_asked
    }
}
