//! Sources: where changes come from. Each yields whole transactions in its own order, with positions it can resume from.
//!
//! A source runs as tasks of its own and speaks through one bounded channel of [`SourceEvent`]s: when the receiver does
//! not take, the source stops reading. Nothing is dropped on either side of that channel: a batch is either received or
//! read again after the position of the batch before it.

use std::fmt;

use relation::{SourceBatch, TableId};

mod columns;
mod declared;
pub mod kafka;
mod kind;
pub mod mysql;
mod settings;

pub use columns::{ColumnRule, LeftOut, OnChange, OnUnsupported, Pattern, is_match, without_effect};
pub(crate) use columns::{NOT_DECLARED, is_same_column};
pub use declared::{Declared, DeclaredColumn};
pub use kind::{
    Absence, Control, FollowedTable, LOOK_AGAIN, OwnFacts, REFUSED_AGAIN, ReadWhole, Requests, Retention, RowSink,
    Source, SourceKind, TableFacts, TablePlace, WholePace, WholePart, WholeReader, until_there,
};
pub use settings::Settings;

/// The kinds of sources that live in this crate.
pub static KINDS: &[&dyn SourceKind] = &[&mysql::Kind, &kafka::Kind];

/// Something that a person must mend, in PostgreSQL's three parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub message: String,
    /// A sentence, or empty.
    pub detail: String,
    /// The next move, as a sentence or as the SQL to run; or empty.
    pub hint: String,
}

impl Failure {
    /// All of it as text: each part on lines of its own, behind `Detail: ` and `Hint: `. Where a text says why something is so, as
    /// in [`SourceEvent::State`], it may be such a one.
    pub fn text(&self) -> String {
        let mut text = self.message.clone();
        for (label, part) in [("Detail", &self.detail), ("Hint", &self.hint)] {
            if !part.is_empty() {
                text.push_str(&format!("\n{label}: {part}"));
            }
        }
        text
    }

    /// With one more sentence on it.
    pub fn and(mut self, more: &str) -> Self {
        let end = match self.detail.chars().last() {
            None => "",
            Some('.' | '?' | '!' | ':' | ';') => " ",
            Some(_) => ". ",
        };
        self.detail.push_str(&format!("{end}{more}"));
        self
    }
}

/// Why a source that was asked gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
pub struct Unanswered {
    pub failure: Failure,
    pub again: Again,
}

/// When it helps to ask a source again that gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It may be over at the next try.
    Soon,
    /// It is of our own settings: asking again soon mends nothing, and may lock an account.
    Seldom,
    /// It is of what a process knows from its start on: its environment, and settings as they were then.
    AfterRestart,
}

impl From<Failure> for Unanswered {
    /// One that may be over at the next try.
    fn from(failure: Failure) -> Self {
        Self { failure, again: Again::Soon }
    }
}

/// What a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    Connecting,
    /// Tables are being loaded, while changes flow.
    Snapshot,
    Streaming,
    /// Cut off; it tries again by itself.
    Stalled,
    /// A person has stopped it, until a person has it go on.
    Paused,
}

impl fmt::Display for SourceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Snapshot => "snapshot",
            Self::Streaming => "streaming",
            Self::Stalled => "stalled",
            Self::Paused => "paused",
        })
    }
}

/// What a source says, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// Whole transactions and the snapshot chunks right after them. May carry nothing but a newer position.
    Batch(SourceBatch),
    /// A new state, with what a person may want to know about it (or nothing): see [`Failure::text`].
    State(SourceState, String),
    /// The content of this table is in doubt from here on, and it is loaded again from the start. Comes behind the batches
    /// with all changes before, and before any batch with changes or chunks after. What follows of the table are changes
    /// from where the load begins, and its chunks from the first one on; rows that neither has brought by the time it is
    /// complete are no longer there.
    Reload { table: TableId, reason: String },
    /// The table has other columns now: nothing more of it follows under this number, neither changes nor chunks. Ordered
    /// as [`SourceEvent::Reload`] is.
    Altered {
        table: TableId,
        /// The statement, as far as it is to be shown, or what else has told.
        statement: String,
    },
    /// From the position of the next batch on, these facts of this table are true: whoever starts the source again behind it
    /// hands them back instead of those from before. Nothing has changed for who receives the table's rows.
    Learned { table: TableId, facts: OwnFacts },
    /// The source will send no more changes of this table: its content is in doubt from here on. Where it was dropped and
    /// comes back, [`SourceEvent::Reload`] or [`SourceEvent::Altered`] says so.
    Parked { table: TableId, reason: String },
    /// The load of this table does not get on, for this reason, and is tried again by itself: until a chunk of it comes, or
    /// something else is said of it. Changes flow as they do beside any load.
    Delayed { table: TableId, reason: String },
    /// The source has ended and waits for a person.
    Failed(Failure),
}

/// How much a source may gather, and how much may wait in its channel.
///
/// A batch has more than this only by its last transaction or event. A transaction comes whole as long as it has less than
/// `bytes_max` bytes and ten times `rows_max` rows; a larger one comes in parts ([`relation::TransactionPart`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Transactions after which a batch takes no further one.
    pub transactions_max: usize,
    /// Rows after which a batch takes no further transaction.
    pub rows_max: usize,
    /// Bytes after which a batch takes no further transaction.
    pub bytes_max: usize,
    /// Events that may wait for the receiver.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { transactions_max: 20_000, rows_max: 20_000, bytes_max: 16 << 20, queue: 2 }
    }
}

/// How far a table has been loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// From the cursor of the last [`relation::ChunkDone`], or from the start: then the log up to where the load begins is passed
    /// over, and whoever has rows of the table must hold all of them in doubt.
    Pending {
        cursor: Option<Vec<u8>>,
    },
    Complete,
}

/// How a check of a source came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckOutcome {
    Ok,
    /// It works, but not as well or not for ever.
    Warning,
    /// It cannot work so.
    Failed,
}

/// One question asked of a source before it is used, with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// A short name, for instance `binlog_format`.
    pub name: &'static str,
    pub outcome: CheckOutcome,
    /// One line.
    pub message: String,
    /// A sentence more, or empty.
    pub detail: String,
    /// The SQL or the setting that mends it, or empty.
    pub hint: String,
}

impl Check {
    /// It is as it should be.
    pub fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, outcome: CheckOutcome::Ok, message: message.into(), detail: String::new(), hint: String::new() }
    }

    /// It works, but not as well or not for ever.
    pub fn warning(
        name: &'static str,
        message: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let (message, detail, hint) = (message.into(), detail.into(), hint.into());
        Self { name, outcome: CheckOutcome::Warning, message, detail, hint }
    }

    /// It cannot work so.
    pub fn failed(
        name: &'static str,
        message: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let (message, detail, hint) = (message.into(), detail.into(), hint.into());
        Self { name, outcome: CheckOutcome::Failed, message, detail, hint }
    }
}

/// Microseconds since 1970 by this machine's clock.
pub(crate) fn now_us() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the rim: when a change was read is a fact about this machine")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}
