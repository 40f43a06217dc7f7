//! What a connection remembers between messages: who it is, its settings, its transaction, statements and portals.
//!
//! Nothing is written here, so a transaction has no effect but its state: drivers and pools look at it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use futures::StreamExt;
use futures::stream::BoxStream;
use pgwire::api::Type;
use pgwire::messages::PgWireBackendMessage as Reply;
use pgwire::messages::response::TransactionStatus;

use super::settings::{Change, Settings};
use crate::reader::{Answer, OnStale, Param, QueryContext, SqlError};
use crate::service::{Limits, Room, Site, Taken};
use crate::sql::Command;
use crate::sql::command::Scope;

/// The memory of a connection.
pub(super) struct Session {
    pub(super) context: QueryContext,
    pub(super) settings: Settings,
    /// The server's own search path.
    schema: String,
    pub(super) transaction: Transaction,
    pub(super) statements: BTreeMap<String, Arc<Prepared>>,
    pub(super) portals: BTreeMap<String, Portal>,
    /// What statements and portals may keep.
    room: Arc<Room>,
}

/// Room that a statement or portal takes, of its session and of all.
pub(super) struct Kept {
    _own: Taken,
    _all: Taken,
}

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transaction {
    None,
    Open,
    Failed,
}

impl Transaction {
    pub(super) fn status(self) -> TransactionStatus {
        match self {
            Self::None => TransactionStatus::Idle,
            Self::Open => TransactionStatus::Transaction,
            Self::Failed => TransactionStatus::Error,
        }
    }
}

/// A statement that was parsed.
pub(super) struct Prepared {
    pub(super) sql: String,
    /// Characters of the client's text before it.
    pub(super) offset: usize,
    /// None for an empty statement.
    pub(super) command: Option<Command>,
    /// Types that a client must send.
    pub(super) parameters: Vec<Parameter>,
    /// Columns of its answer, where it has one.
    pub(super) columns: Option<SchemaRef>,
    /// The room it takes; none of what is only looked at.
    pub(super) kept: Option<Kept>,
}

impl Prepared {
    /// About what it takes: its text, once more as what it was recognised as, and an entry per parameter and column.
    pub(super) fn bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 128;
        let columns = self.columns.as_ref().map_or(0, |columns| columns.fields().len());
        let entries = self.parameters.len().saturating_add(columns).saturating_add(2);
        self.sql.len().saturating_mul(2).saturating_add(entries.saturating_mul(ENTRY_BYTES))
    }
}

/// Type of a parameter.
pub(super) struct Parameter {
    pub(super) wire: Type,
    /// Whether the client said so itself.
    pub(super) declared: bool,
    /// What the reader expects, where the statement tells.
    pub(super) expected: Option<FieldRef>,
}

/// A statement with its values, perhaps half read.
pub(super) struct Portal {
    pub(super) prepared: Arc<Prepared>,
    pub(super) params: Vec<Param>,
    /// Per column whether it goes out in binary.
    pub(super) binary: Vec<bool>,
    pub(super) state: PortalState,
    /// Outlives its transaction (a cursor WITH HOLD).
    pub(super) hold: bool,
    /// By which grants it was opened ([`crate::Reader::grants`]).
    pub(super) grants: u64,
    /// The room its values take.
    pub(super) _kept: Kept,
}

impl Portal {
    /// Errors: what is still to come of it was begun by other grants than those of now.
    pub(super) fn holds(&mut self, name: &str, grants: u64) -> Result<(), SqlError> {
        if self.grants == grants || !matches!(self.state, PortalState::Running(_)) {
            return Ok(());
        }
        self.state = PortalState::Finished;
        Err(SqlError::new("42501", format!("what may be read has changed since cursor \"{name}\" was opened"))
            .hint("Open it again."))
    }

    /// About what values take.
    pub(super) fn bytes(params: &[Param], binary: &[bool]) -> usize {
        params.iter().map(|param| param.0.get_array_memory_size()).fold(binary.len(), usize::saturating_add)
    }
}

/// How far a portal is.
pub(super) enum PortalState {
    New,
    Running(Running),
    Finished,
}

/// Rows on their way.
pub(super) struct Running {
    pub(super) schema: SchemaRef,
    pub(super) stream: BoxStream<'static, Result<RecordBatch, SqlError>>,
    pending: Option<RecordBatch>,
    /// Whether the reader works for them, and so counts as a running statement.
    pub(super) asked: bool,
}

impl Running {
    /// Rows of one batch that is already there.
    pub(super) fn of(batch: RecordBatch) -> Self {
        let stream = futures::stream::empty().boxed();
        Self { schema: batch.schema(), stream, pending: Some(batch), asked: false }
    }

    /// The next rows, at most `rows_max` of them; none at the end.
    pub(super) async fn next(&mut self, rows_max: usize) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            let batch = match self.pending.take() {
                Some(batch) => batch,
                None => match self.stream.next().await {
                    Some(batch) => batch?,
                    None => return Ok(None),
                },
            };
            if batch.num_rows() == 0 {
                continue;
            }
            if batch.num_columns() != self.schema.fields().len() {
                return Err(SqlError::internal("an answer's batch has other columns than the answer"));
            }
            let taken = rows_max.min(batch.num_rows());
            if taken < batch.num_rows() {
                self.pending = Some(batch.slice(taken, batch.num_rows() - taken));
            }
            return Ok(Some(batch.slice(0, taken)));
        }
    }
}

impl From<Answer> for Running {
    fn from(answer: Answer) -> Self {
        // A cursor is asked for rows again after its last one.
        Self { schema: answer.schema, stream: answer.stream.fuse().boxed(), pending: None, asked: true }
    }
}

impl Session {
    pub(super) fn new(context: QueryContext, site: &Site, limits: &Limits) -> Self {
        Self {
            settings: Settings::new(site, &context.user, limits.statement_timeout_usual),
            room: Room::new(limits.session_bytes),
            schema: site.schema.clone(),
            context,
            transaction: Transaction::None,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
        }
    }

    /// Changes a setting, and what the reader knows of it.
    pub(super) fn set(&mut self, name: &str, value: Option<String>, scope: Scope) -> Result<Change, SqlError> {
        let change = match (self.transaction, scope) {
            (Transaction::None, Scope::Session) => self.settings.set(name, value)?,
            (Transaction::None, Scope::Transaction) => {
                let warning = SqlError::new("25P01", "SET LOCAL can only be used in transaction blocks");
                return Ok(Change { status: None, warning: Some(warning) });
            }
            _ => self.settings.set_within(name, value, scope)?,
        };
        self.follow_path();
        Ok(change)
    }

    /// All settings as after the login. Returns what the client is told.
    pub(super) fn reset(&mut self) -> Vec<Reply> {
        let changed = self.settings.reset();
        self.follow_path();
        changed
    }

    /// Where the path is the server's own, the reader uses the whole of it: sources come behind the models.
    fn follow_path(&mut self) {
        let path = self.settings.get("search_path").unwrap_or_default();
        let schemas = path.split(',').map(|schema| schema.trim().trim_matches('"').to_owned());
        let schemas = schemas.filter(|schema| !schema.is_empty() && schema != "$user");
        self.context.search_path = if path == self.schema { Vec::new() } else { schemas.collect() };
        let on_stale = self.settings.get("tidemill.on_stale").unwrap_or_default().to_ascii_lowercase();
        self.context.on_stale = match on_stale.as_str() {
            "error" => OnStale::Error,
            "serve" => OnStale::Serve,
            _ => OnStale::Warn,
        };
    }

    /// Whether a step must stay readable for this client while it does nothing.
    pub(super) fn keeps_step(&self) -> bool {
        let is_read_in_part = |portal: &Portal| matches!(portal.state, PortalState::Running(_));
        self.context.at.is_some() || self.portals.values().any(is_read_in_part)
    }

    /// Room for what a prepared statement or a portal keeps.
    pub(super) fn keep(&self, bytes: usize, all: &Arc<Room>) -> Result<Kept, SqlError> {
        let full = |whose: &str| {
            SqlError::new("53400", format!("the prepared statements and cursors {whose} take too much memory"))
                .hint("Close those that are no longer used (DEALLOCATE ALL, CLOSE ALL).")
        };
        let own = self.room.take(bytes).ok_or_else(|| full("of this session"))?;
        let all = all.take(bytes).ok_or_else(|| full("of all sessions"))?;
        Ok(Kept { _own: own, _all: all })
    }

    /// Ends a transaction well. Returns what the client is told of settings.
    pub(super) fn commit(&mut self) -> Vec<Reply> {
        let changed = self.settings.commit();
        self.follow_path();
        self.end();
        changed
    }

    /// Undoes a transaction. Returns what the client is told of settings.
    pub(super) fn roll_back(&mut self) -> Vec<Reply> {
        let changed = self.settings.roll_back();
        self.follow_path();
        self.end();
        changed
    }

    /// Ends a transaction: its portals go, cursors WITH HOLD stay unless it failed.
    pub(super) fn end(&mut self) {
        self.transaction = Transaction::None;
        self.context.at = None;
        self.portals.retain(|_, portal| portal.hold);
    }

    /// An error inside a transaction spoils it.
    pub(super) fn fail(&mut self) {
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
    }

    /// Forgets statements and portals.
    pub(super) fn discard(&mut self) {
        self.statements.clear();
        self.portals.clear();
    }

    /// The cursor or portal of this name.
    pub(super) fn portal(&mut self, name: &str) -> Result<&mut Portal, SqlError> {
        self.portals.get_mut(name).ok_or_else(|| SqlError::new("34000", format!("cursor \"{name}\" does not exist")))
    }
}
