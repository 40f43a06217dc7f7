//! Maxwell's role alone: the tables of a MySQL or MariaDB server as Maxwell's JSON, to stdout, a file or Kafka, without a project.
//!
//! ```text
//! source::mysql ── the log's events ──► follow ── whole transactions ──► run ── batches ──► sink ── position ──► state
//!                                        │ shape, value: a row's image as JSON      stdout, file, kafka
//!                                        │ schema, ddl: what columns it has
//!                                        └ message, routing: how it leaves, and where to
//! ```
//!
//! - [`Job`] says what is to be done and [`run`] does it; `properties` reads it from a `maxwell.properties`.
//! - `follow` listens to the log beside the source's own assembler, which keeps the place: login, continuity, checksums, compressed
//!   transactions, numbers of transactions are the source's.
//! - `transaction`: rows wait for the end of theirs. `bootstrap`: rows by a query.
//! - `filter`, `options`: what is output, and how. `java`: numbers and hashes as Java has them.
//!
//! A position is kept when everything before it is safe where it went. What is read again after a crash comes again: at least once.

mod bootstrap;
mod cell;
mod ddl;
mod filter;
mod follow;
mod java;
mod kafka;
mod message;
mod options;
pub mod properties;
mod routing;
mod run;
mod schema;
mod shape;
mod sink;
mod state;
#[doc(hidden)]
pub mod testing;
mod transaction;
mod value;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

pub use filter::{BadFilter, Filter};
pub use options::Options;
pub use routing::{KeyFormat, PartitionBy, PartitionHash, Routing};
pub use run::{Summary, run};

use crate::source::mysql::MysqlConfig;

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    Stdout,
    /// At the end of a file.
    File(PathBuf),
    /// To Kafka, by settings of its client.
    Kafka {
        settings: Vec<(String, String)>,
        /// Of records that are too large.
        dead_letter_topic: Option<String>,
    },
    /// They are made, and go nowhere.
    Nowhere,
}

/// Where a capture ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopAt {
    /// Where the log ended when it began.
    End,
    /// At a place of the log.
    Place { file: String, offset: u64 },
}

/// What is to be captured, and where to.
#[derive(Debug, Clone)]
pub struct Job {
    /// The server whose log is read. Its `start` holds where no position is kept.
    pub server: MysqlConfig,
    pub options: Options,
    pub filter: Filter,
    pub routing: Routing,
    pub to: To,
    /// The folder that the position is kept in.
    pub state: PathBuf,
    /// None: it goes on until it is stopped.
    pub stop_at: Option<StopAt>,
    /// The database of Maxwell's own tables.
    pub own_database: String,
    pub client_id: String,
    /// Requests for bootstraps are seen to.
    pub bootstraps: bool,
}

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Progress,
    Warning,
}

/// Tells people what happens, a line each.
#[derive(Clone)]
pub struct Teller(Arc<dyn Fn(Word, &str) + Send + Sync>);

impl Teller {
    /// Whatever is told goes to a function.
    pub fn new(tell: impl Fn(Word, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(crate) fn tell(&self, line: &str) {
        (self.0)(Word::Progress, line);
    }

    pub(crate) fn warn(&self, line: &str) {
        (self.0)(Word::Warning, line);
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

/// Waits for a word that may never come: whoever could say it may have gone.
async fn changed(word: &mut watch::Receiver<bool>) {
    if word.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
