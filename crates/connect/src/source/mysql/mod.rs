//! MySQL and MariaDB: tables are loaded by primary-key chunks while the binlog is followed, with no gap and no double.
//!
//! ```text
//!            describe, doctor ──► information_schema, variables, grants
//!  MysqlSource::start ─► run ─┬─► wire (one connection: the log) ─► assemble ─► decode ─┐
//!                             │                                       window            ├─► SourceEvent
//!                             └─► snapshot (up to four connections: chunks) ────────────┘
//! ```
//!
//! - `login`, `wire`: connections, TLS, commands, the log's packets; `error` says whose move is next.
//! - `server`: what the server is and where its log ends.
//! - `position`: where we stand, as text that can be resumed from. `continuity`: whether a server's log leads on from there;
//!   `sentry`: whether it still does.
//! - `event`, `statement`: the frame of log events. `assemble`: whole transactions from them. [`decode`]: rows from bytes.
//! - `snapshot`, `window`: the first load, and why a chunk may be sent. `commits`: what the log has before queries show it. `cascade`: changes that the log does not have; `reach`: tables that a statement reaches and does not name.
//! - `whole`: tables as they were at one place of the log, for who compares them. `run`: the loop over all of it, and reconnecting. `kind`: all of it behind [`super::Source`].
//!
//! A position is taken only at the end of a transaction. A lost connection takes back the half transaction, and reading
//! goes on behind the last whole one: nothing is lost and nothing doubled. A load begins where the log ends then; keys that
//! the log has changed since are never taken from a chunk, so a chunk can only add rows that the log does not know.
//!
//! `client`: the protocol alone, for who writes to such a server.
//!
//! All connections of a session lead to one server (`login::Met`): what one of several behind an address says is not true of
//! the others. Nothing is loaded, and nothing called good, before the log has shown that it leads on from the position.
//!
//! What the log cannot tell (a partition dropped, another table under the name, rows changed by a statement logged as text
//! or by a foreign key) puts a table in doubt, and it is loaded again while the others flow.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use relation::{Schema, TableId};

mod again;
mod assemble;
mod cascade;
mod commits;
mod continuity;
pub mod decode;
mod describe;
mod doctor;
mod error;
pub(crate) mod event;
mod kind;
mod login;
mod position;
mod reach;
mod run;
mod sentry;
mod server;
mod snapshot;
mod statement;
#[doc(hidden)]
pub mod testing;
mod whole;
mod window;
mod wire;

/// What speaks to a server, whoever it is for: the protocol is one.
pub(crate) mod client {
    pub(crate) use super::error::{NO_DATABASE, ServerError, WireError, failure, told};
    pub(crate) use super::kind::config;
    pub(crate) use super::login::connect;
    pub(crate) use super::wire::Wire;
}

/// The log alone, for who follows all of it and no tables of a warehouse.
pub(crate) mod log {
    pub(crate) use super::again::{CHECK_TICKS, HEAD, LOOK_AGAIN, Pauses, START, understood};
    pub(crate) use super::assemble::{Assembler, Heard, Hearing, Listener, Step};
    pub(crate) use super::continuity::{Ground, Verdict, Way};
    pub(crate) use super::decode::parts;
    pub(crate) use super::describe::{columns, literal, quoted};
    pub(crate) use super::error::{
        LOAD_ALL_AGAIN, LogRefusal, Refused, ServerError, WireError, another_history, ends, failure, told,
    };
    pub(crate) use super::event::{self, kind};
    pub(crate) use super::login::{Met, connect, connect_again, in_time};
    pub(crate) use super::position::{LogPoint, LogPosition, Origin, is_same_server};
    pub(crate) use super::run::{Silence, open_log, ticks};
    pub(crate) use super::sentry::{LogEnd, Sentry};
    pub(crate) use super::server::{Facts, end_position, log_end, start_position};
    pub(crate) use super::statement::{
        Dialect, Effect, Lexer, Statement, Token, Xa, Xid, is_word, statement, text_and_dialect,
    };
    pub(crate) use super::wire::{Asked, ServerInfo, Wire};
}

pub use decode::SourceColumn;
pub use describe::{Described, TableFacts, describe};
pub use doctor::doctor;
pub use kind::Kind;
pub use position::{BadPosition, reached};
pub use run::MysqlSource;
pub use server::{bytes_behind, current_position, retention};

pub use super::{ColumnRule, Control, Load, TablePlace};
pub use crate::tls::Tls;

/// How long a server may take over a question. It lists thousands of log files, or searches one, for some of them.
const ANSWER: Duration = Duration::from_secs(60);

/// Where a source begins that has no position yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// Load the tables, and follow the log from before the load.
    #[default]
    Snapshot,
    /// Follow the log from its current end.
    Now,
    /// Follow the log from the first transaction committed at or after this time, in microseconds since 1970.
    Since(i64),
    /// Follow the log from this file and offset.
    Binlog { file: String, offset: u64 },
    /// Follow the log behind these transactions.
    Gtid(String),
}

/// A server and how to reach it. Secrets are resolved by now.
#[derive(Clone, PartialEq, Eq)]
pub struct MysqlConfig {
    /// Name or address.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<String>,
    /// The database of tables that name none.
    pub database: String,
    pub tls: Tls,
    /// Certificates (PEM) of the authorities to trust with [`Tls::Verify`]; default: the web's.
    pub tls_ca: Option<PathBuf>,
    /// The server's public key (PEM, RSA), by which it is given the password where the connection is not encrypted.
    pub server_key: Option<PathBuf>,
    pub start: Start,
    /// How we present ourselves as a replica; default: a number that no other replica has.
    pub server_id: Option<u32>,
    /// How long after the reader's start the first chunk is read. A commit is in the log before a query shows it, by
    /// the duration of a slow disk sync at most.
    pub snapshot_delay: Duration,
    /// Tables loaded at the same time.
    pub snapshot_tables: usize,
}

impl Default for MysqlConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 3306,
            user: "root".to_owned(),
            password: None,
            database: String::new(),
            tls: Tls::default(),
            tls_ca: None,
            server_key: None,
            start: Start::default(),
            server_id: None,
            snapshot_delay: Duration::from_secs(1),
            snapshot_tables: 4,
        }
    }
}

impl MysqlConfig {
    /// Host and port, as messages name the server.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Without the password: settings end up in logs.
impl fmt::Debug for MysqlConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("tls", &self.tls)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

/// A table to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureTable {
    pub id: TableId,
    pub database: String,
    pub name: String,
    /// As [`describe`] gave them.
    pub columns: Vec<SourceColumn>,
    /// They are those of the place from which the log is followed; otherwise of when the server was asked.
    pub is_placed: bool,
    /// By which columns are left out, also those that come.
    pub rule: ColumnRule,
    pub schema: Schema,
    pub load: Load,
}
