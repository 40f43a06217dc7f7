//! What goes wrong in the store, as a message for people; [`Error::hint`] has the next move.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use relation::TableId;

use crate::stage::StageId;

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What goes wrong in the store. Cheap to clone: one cause may be told to several waiters.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process (or another handle of this one) has the data folder.
    #[error("the data folder {} is in use by process {holder}", dir.display())]
    InUse { dir: PathBuf, holder: String },
    /// The folder was written by a newer Tidemill.
    #[error("the data folder {} has format {found}, this Tidemill knows formats up to {known}", dir.display())]
    NewerFormat { dir: PathBuf, found: u32, known: u32 },
    /// A file of ours that does not read as it was written.
    #[error("{}: damaged at byte {offset}: {what}", path.display())]
    Damaged { path: PathBuf, offset: u64, what: String },
    /// Records that somebody asks for were dropped, or their segment is missing.
    #[error("the log has no record after step {after} before step {next}")]
    LogGone { after: u64, next: u64 },
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: Arc<std::io::Error> },
    /// The tables (fjall) refused an operation.
    #[error("cannot {action} the tables: {}", describe(source))]
    Tables { action: &'static str, source: Arc<fjall::Error> },
    /// The tables are closed after a failed fold and could not be opened again yet.
    #[error("the tables are closed after a failed fold")]
    TablesClosed,
    /// A snapshot that could not be carried over when the tables were reopened.
    #[error("the snapshot at step {step} has ended: the tables were reopened after a failed fold")]
    SnapshotEnded { step: u64 },
    /// Readers hold as many older copies of the tables as there may be.
    #[error("queries that began long ago hold {copies} older copies of the tables")]
    TablesHeld { copies: usize },
    /// Steps must rise.
    #[error("step {step} cannot follow step {last}")]
    Order { step: u64, last: u64 },
    /// Records that were not yet synced are gone after a failed sync; append them again.
    #[error("the log lost its records from step {step} on: a sync failed")]
    Lost { step: u64 },
    /// A write to a table that was dropped: a bug of the caller.
    #[error("table {0} was dropped, its number is never used again")]
    Dropped(TableId),
    /// A write to a table that belongs to the store: a bug of the caller.
    #[error("table {0} belongs to the store")]
    Reserved(TableId),
    /// A key longer than [`crate::KEY_BYTES_MAX`].
    #[error("a key of table {table} has {bytes} bytes, {} are the limit", crate::KEY_BYTES_MAX)]
    KeyTooLong { table: TableId, bytes: usize },
    /// A value longer than [`crate::VALUE_BYTES_MAX`].
    #[error("a value of table {table} has {bytes} bytes, {} are the limit", crate::VALUE_BYTES_MAX)]
    ValueTooLong { table: TableId, bytes: usize },
    /// More than one step can write to one table.
    #[error("one step writes more than 16 GiB or 4 billion entries to table {table}")]
    WritesTooLarge { table: TableId },
    /// A step's record that the log's format cannot hold. Nothing of it was written.
    #[error("a log record of {bytes} bytes is too large, {max} are the limit")]
    RecordTooLarge { bytes: u64, max: u64 },
    /// A stage that is not there: never sealed, or dropped.
    #[error("there is no stage {id}")]
    NoStage { id: StageId },
    /// A stage that takes no more pieces: it was sealed, or a sync of it failed.
    #[error("stage {id} takes no more pieces")]
    StageEnded { id: StageId },
    /// Bytes of a record or of the catalog that do not decode.
    #[error("cannot read {what}: {reason}")]
    Decode { what: &'static str, reason: &'static str },
    /// The store is being closed.
    #[error("the store is closing")]
    Closed,
}

impl Error {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::InUse { holder, .. } => {
                format!("Stop process {holder}, or choose another folder with --data.")
            }
            Self::NewerFormat { .. } => "Use the newer Tidemill, or choose an empty folder with --data.".to_owned(),
            Self::Damaged { .. } => "Put the data folder of a backup in its place, or move the data folder \
                                     away: `tidemill up` loads all tables from the sources."
                .to_owned(),
            Self::LogGone { .. } => "After a restart: put the data folder of a backup in its place, or move the \
                                     data folder away: `tidemill up` loads all tables from the sources. For a \
                                     reader of the log: start it anew from a snapshot."
                .to_owned(),
            error if error.is_disk_full() => "Free disk space; nothing is lost, writing goes on by itself.".to_owned(),
            Self::RecordTooLarge { .. } | Self::WritesTooLarge { .. } => {
                "Take fewer transactions at once; split a single one that is this large at the source.".to_owned()
            }
            Self::TablesClosed => "Free disk space; the tables are opened again by themselves.".to_owned(),
            Self::TablesHeld { .. } => "End the oldest queries; folding goes on by itself then.".to_owned(),
            Self::SnapshotEnded { .. } => "Run the query again.".to_owned(),
            Self::NoStage { .. } => "Put the data folder of a backup in its place, or move the data folder \
                                     away: `tidemill up` loads all tables from the sources."
                .to_owned(),
            Self::StageEnded { .. } => "Begin a new stage.".to_owned(),
            Self::Lost { step } => format!("Append again from step {step}."),
            _ => return None,
        })
    }

    /// Whether a file system had no room (or a limit on file size) for it.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_full(source),
            Self::Tables { source, .. } => match &**source {
                fjall::Error::Io(e) => is_full(e),
                fjall::Error::Storage(fjall::LsmError::Io(e)) => is_full(e),
                _ => false,
            },
            _ => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn tables(action: &'static str) -> impl Fn(fjall::Error) -> Self {
        move |source| Self::Tables { action, source: Arc::new(source) }
    }
}

pub(crate) fn is_full(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// fjall's errors print as Rust values; the ones a person meets get words.
fn describe(e: &fjall::Error) -> String {
    match e {
        fjall::Error::Io(e) => e.to_string(),
        fjall::Error::Storage(fjall::LsmError::Io(e)) => e.to_string(),
        fjall::Error::Poisoned => "a write failed before, they must be reopened".to_owned(),
        fjall::Error::Locked => "another process has them open".to_owned(),
        other => other.to_string(),
    }
}
