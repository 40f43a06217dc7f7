//! What serving needs of the one who answers: a statement at one step, its description, health and metrics.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;

/// Answers SQL over a consistent step; the application implements it.
///
/// Dropping the future of a call or the stream of an answer cancels the work behind it.
#[async_trait]
pub trait Reader: Send + Sync + 'static {
    /// The newest step, to be given to several statements in [`QueryContext::at`].
    fn pin(&self) -> Pin;

    /// Answers one statement, all of it at one step. `$1` in the text is `params[0]`.
    async fn query(&self, sql: &str, params: &[Param], context: &QueryContext) -> Result<Answer, SqlError>;

    /// Types of a statement's parameters and columns, without running it. `declared` has the types that the client
    /// named itself, by position; it may be shorter than the parameters are.
    async fn describe(
        &self,
        sql: &str,
        declared: &[Option<DataType>],
        context: &QueryContext,
    ) -> Result<Description, SqlError>;

    /// A number that is another one when what a role may read has become another: what was answered before is not gone on with.
    fn grants(&self, _role: &Role) -> u64 {
        0
    }

    /// Whether the process has started and can answer.
    fn health(&self) -> Health;

    /// Prometheus text of everything but the serving itself, as [`crate::metrics::render`] writes it.
    fn metrics(&self) -> String;
}

/// Who asks, and with which settings that change an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryContext {
    /// Name the client gave; over HTTP empty.
    pub user: String,
    /// What it may read.
    pub role: Role,
    /// Database the client named; any name is the same warehouse.
    pub database: String,
    /// Number of the connection, what `pg_backend_pid()` says; 0 over HTTP.
    pub pid: i32,
    /// Schemas from the client's own `SET search_path`; empty where it set none.
    pub search_path: Vec<String>,
    /// The step to be asked at; none for the newest.
    pub at: Option<Pin>,
    /// What becomes of a statement that reads what is out of date.
    pub on_stale: OnStale,
    /// Whom it must not wait for.
    pub lane: Lane,
}

/// By which grants a statement is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Role {
    /// All there is: whoever runs the instance, and whoever is trusted because there are no users.
    #[default]
    Owner,
    /// What the role of this name is granted.
    Named(String),
}

/// Name of the role that reads all there is.
const OWNER: &str = "owner";

impl Role {
    /// The role of this name.
    pub fn named(name: &str) -> Self {
        if name == OWNER { Self::Owner } else { Self::Named(name.to_owned()) }
    }
}

/// Who asks: what one lane runs holds up no other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lane {
    /// A client, with a statement of its own.
    #[default]
    Statements,
    /// The page, with what it shows.
    Page,
}

/// What becomes of a statement over a table that its source is known to be ahead of, or over a model of such a table:
/// `SET tidemill.on_stale`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnStale {
    /// It is answered by what there is, with a warning that says why and how old that is.
    #[default]
    Warn,
    /// It is answered by what there is; states and ages are in the system tables.
    Serve,
    /// It fails, and says why and how old what there is is.
    Error,
}

/// A step that can be asked again while others become visible. It keeps what it shows from being cleaned away.
#[derive(Clone)]
pub struct Pin {
    /// Its number.
    pub step: u64,
    held: Arc<dyn Any + Send + Sync>,
}

impl Pin {
    /// A step, and what the reader needs to answer at it.
    pub fn new<T: Any + Send + Sync>(step: u64, held: T) -> Self {
        Self { step, held: Arc::new(held) }
    }

    /// What the reader gave; none if it is another one's.
    pub fn held<T: Any>(&self) -> Option<&T> {
        self.held.downcast_ref()
    }
}

impl PartialEq for Pin {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.held, &other.held)
    }
}

impl Eq for Pin {}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("step", &self.step).finish_non_exhaustive()
    }
}

/// The value of one parameter: an Arrow array of exactly one element.
///
/// It has the type that the client declared, else the one that [`Reader::describe`] said. The reader puts it in before
/// it unifies types, so that `id < $1` with a float stays a comparison of floats.
#[derive(Debug, Clone)]
pub struct Param(
    /// One element, or one NULL.
    pub ArrayRef,
);

/// Rows of a statement, as they come.
pub struct Answer {
    /// Columns of every batch.
    pub schema: SchemaRef,
    /// The rows; the first error ends it.
    pub stream: BoxStream<'static, Result<RecordBatch, SqlError>>,
    /// Step that the answer shows.
    pub step: u64,
    /// What it was read from that is out of date, why, and how old that is; none where nothing is, or nobody wants to know.
    pub warning: Option<Warning>,
}

/// What is said beside an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// As a client of the wire is told: of what, why, how old it is, and the next move.
    pub error: SqlError,
    /// Which of the message is the reason, as it is of everything that has the same one; empty where it is none of these.
    pub why: String,
    /// What it is about.
    pub about: About,
}

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// What was read is out of date: how old it is at least, in microseconds, where that is known.
    Age(Option<i64>),
    /// What was read serves in an older text than the project has.
    Held,
    /// The statement's own text.
    Statement,
}

impl Warning {
    /// One of a statement's own text.
    pub fn of_statement(error: SqlError) -> Self {
        Self { error, why: String::new(), about: About::Statement }
    }
}

/// Types of a statement.
#[derive(Debug, Clone)]
pub struct Description {
    /// Type of `$1`, `$2`, …; [`DataType::Null`] where the statement does not say. A field says by which name its type goes,
    /// as those of [`Self::columns`] do; a `numeric` is one without a scale, whose values keep their digits.
    pub parameters: Vec<FieldRef>,
    /// Columns of the answer.
    pub columns: SchemaRef,
}

/// How the process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Start and recovery are done.
    pub started: bool,
    /// Queries are answered; old data, with its age, counts as ready.
    pub ready: bool,
    /// All is as it should be; the message says what is not.
    pub is_well: bool,
    /// One line for people: what is waited for, or how old the data are.
    pub message: String,
}

/// Why a statement failed, in PostgreSQL's terms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// SQLSTATE, five characters.
    pub code: &'static str,
    /// What went wrong, one sentence without a full stop.
    pub message: String,
    /// More of the circumstances, as full sentences.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the statement, in characters from 1.
    pub position: Option<usize>,
}

impl SqlError {
    /// An error of this SQLSTATE and message alone.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None, position: None }
    }

    /// Adds the detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the place: characters from 1 in the statement.
    #[must_use]
    pub fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    /// Adds the place where it is known as line and column, both from 1, of this statement.
    #[must_use]
    pub fn at_line(self, sql: &str, line: usize, column: usize) -> Self {
        let before = sql.split_inclusive('\n').take(line.saturating_sub(1)).map(|line| line.chars().count());
        let position = before.sum::<usize>() + column;
        self.at(position)
    }

    /// A fault of ours, not of the statement.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new("XX000", message)
    }
}
