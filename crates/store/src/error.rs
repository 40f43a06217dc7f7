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
    /// The folder was written by a newer Tidemill, whose version is `writer`, if that is known.
    #[error(
        "the data folder {} has format {found}{}, and this Tidemill ({}) knows formats up to {known}",
        dir.display(), written_by(writer), env!("CARGO_PKG_VERSION")
    )]
    NewerFormat { dir: PathBuf, found: u32, known: u32, writer: String },
    /// Something of a kind that this Tidemill does not know, and no damage: its checksum holds.
    #[error("{what} is of a newer Tidemill than this one ({})", env!("CARGO_PKG_VERSION"))]
    Newer { what: String },
    /// A file of ours that does not read as it was written.
    #[error("{}: damaged at byte {offset}: {what}", path.display())]
    Damaged { path: PathBuf, offset: u64, what: String },
    /// Something of ours that was there and is not.
    #[error("{}: {what}", path.display())]
    Missing { path: PathBuf, what: &'static str },
    /// Records that somebody asks for were dropped, or their segment is missing.
    #[error("the log has no record after step {after} before step {next}")]
    LogGone { after: u64, next: u64 },
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: Arc<std::io::Error> },
    /// The tables (fjall) refused an operation. What the library says of it is for its own people.
    #[error("cannot {action} the tables{}: {}", in_folder(dir.as_deref()), describe(cause))]
    Tables { action: &'static str, dir: Option<PathBuf>, cause: Arc<fjall::Error> },
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
    /// A stage that takes no more pieces, as it was sealed: a bug of the caller.
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
            Self::NewerFormat { .. } => format!("Nothing of it was touched. {GO_BACK}"),
            Self::Newer { .. } => format!("Nothing is damaged. {GO_BACK}"),
            error if error.is_disk_full() => "Free disk space; nothing is lost, writing goes on by itself.".to_owned(),
            error if error.is_forbidden() => {
                "Give the user that runs Tidemill the right to read and write the data folder and all below it; nothing \
                 is damaged."
                    .to_owned()
            }
            error if error.is_read_only() => {
                "Have its file system mounted for writing, or choose another folder with --data; nothing is damaged."
                    .to_owned()
            }
            Self::Damaged { .. } | Self::Missing { .. } | Self::Decode { .. } => LOAD_AGAIN.to_owned(),
            Self::Tables { cause, .. } if !matches!(**cause, fjall::Error::Locked | fjall::Error::Poisoned) => {
                LOAD_AGAIN.to_owned()
            }
            Self::LogGone { .. } => format!("{LOAD_AGAIN} A reader of the log begins anew from a snapshot."),
            Self::RecordTooLarge { .. } | Self::WritesTooLarge { .. } => {
                "Take fewer transactions at once; split a single one that is this large at the source.".to_owned()
            }
            Self::TablesClosed => "Free disk space; the tables are opened again by themselves.".to_owned(),
            Self::TablesHeld { .. } => "End the oldest queries; folding goes on by itself then.".to_owned(),
            Self::SnapshotEnded { .. } => "Run the query again.".to_owned(),
            Self::NoStage { .. } => LOAD_AGAIN.to_owned(),
            Self::Lost { step } => format!("Append again from step {step}."),
            _ => return None,
        })
    }

    /// What the operating system said, where it was asked.
    fn of_system(&self) -> Option<&std::io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Tables { cause, .. } => match &**cause {
                fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) => Some(e),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a file system had no room (or a limit on file size) for it.
    pub fn is_disk_full(&self) -> bool {
        self.of_system().is_some_and(is_full)
    }

    /// Whether we lack the right to do it.
    fn is_forbidden(&self) -> bool {
        self.of_system().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
    }

    /// Whether it is a file system to which nobody writes.
    fn is_read_only(&self) -> bool {
        self.of_system().is_some_and(|e| e.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn tables(action: &'static str) -> impl Fn(fjall::Error) -> Self {
        move |cause| Self::of_tables(action, None, cause)
    }

    pub(crate) fn tables_in(action: &'static str, dir: &Path) -> impl Fn(fjall::Error) -> Self {
        move |cause| Self::of_tables(action, Some(dir.to_owned()), cause)
    }

    fn of_tables(action: &'static str, dir: Option<PathBuf>, cause: fjall::Error) -> Self {
        tracing::debug!(action, ?dir, %cause, "the tables refuse");
        Self::Tables { action, dir, cause: Arc::new(cause) }
    }
}

pub(crate) fn is_full(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// What to do with a folder of a newer version.
const GO_BACK: &str = "Start the Tidemill that wrote it, or a newer one. To go back to this one, put the copy of the data folder from \
                       before the upgrade in its place, or choose an empty one with --data, which is loaded from the sources again.";

fn written_by(version: &str) -> String {
    if version.is_empty() { String::new() } else { format!(" (Tidemill {version})") }
}

/// What to do with a folder whose content cannot be had back out of itself.
const LOAD_AGAIN: &str = "Nothing of the sources or the project is touched. Put the data folder of a backup in its place, or move \
                          the data folder away: `tidemill up` loads all tables from the sources and builds the models.";

fn in_folder(dir: Option<&Path>) -> String {
    dir.map_or_else(String::new, |dir| format!(" in {}", dir.display()))
}

/// fjall's errors print as Rust values; people get words.
fn describe(e: &fjall::Error) -> String {
    use fjall::{Error, LsmError};
    match e {
        Error::Io(e) | Error::Storage(LsmError::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => {
            "a file of theirs is missing".to_owned()
        }
        Error::Io(e) | Error::Storage(LsmError::Io(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "a file of theirs is cut short".to_owned()
        }
        Error::Io(e) | Error::Storage(LsmError::Io(e)) => e.to_string(),
        Error::Storage(LsmError::ChecksumMismatch { .. }) => {
            "a part of a file of theirs is not as it was written: its checksum differs".to_owned()
        }
        Error::Storage(LsmError::Unrecoverable) | Error::Unrecoverable => {
            "a file of theirs is missing, cut short, or not as it was written".to_owned()
        }
        Error::InvalidVersion(Some(_)) => "they are of another version than this Tidemill writes".to_owned(),
        Error::InvalidVersion(None) | Error::Storage(LsmError::InvalidVersion(_)) => {
            "the version that they name is none, or a later one".to_owned()
        }
        Error::Poisoned => "a write failed before, they must be reopened".to_owned(),
        Error::Locked => "another process has them open".to_owned(),
        Error::KeyspaceDeleted => "they were deleted".to_owned(),
        Error::Storage(_)
        | Error::JournalRecovery(_)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_) => "a file of theirs is not as it was written".to_owned(),
        // The library may name more one day.
        other => format!("they are not as they were written ({other})"),
    }
}

#[cfg(test)]
mod tests {
    use fjall::LsmError;

    use super::*;

    fn io(kind: std::io::ErrorKind) -> std::io::Error {
        std::io::Error::from(kind)
    }

    #[test]
    fn damage_is_told_in_our_words_with_the_next_move() {
        let dir = Path::new("/data/tables");
        let errors = [
            fjall::Error::Storage(LsmError::Unrecoverable),
            fjall::Error::Storage(LsmError::InvalidHeader("x")),
            fjall::Error::InvalidVersion(None),
            fjall::Error::InvalidTrailer,
            fjall::Error::Io(io(std::io::ErrorKind::NotFound)),
            fjall::Error::Storage(LsmError::Io(io(std::io::ErrorKind::UnexpectedEof))),
        ];
        for error in errors {
            let error = Error::tables_in("open", dir)(error);
            let text = error.to_string();
            assert!(text.starts_with("cannot open the tables in /data/tables: "), "{text}");
            assert!(!text.to_lowercase().contains("fjall") && !text.contains("Lsm"), "{text}");
            assert_eq!(error.hint().as_deref(), Some(LOAD_AGAIN), "{text}");
            assert!(std::error::Error::source(&error).is_none(), "the library's words are no detail");
        }
    }

    #[test]
    fn what_is_no_damage_does_not_ask_for_a_new_load() {
        let hint = |error: Error| error.hint().unwrap_or_default();
        let denied = || io(std::io::ErrorKind::PermissionDenied);
        let read_only = || io(std::io::ErrorKind::ReadOnlyFilesystem);
        let path = Path::new("/data/log");
        assert!(hint(Error::io("open", path)(denied())).contains("the right to read and write"));
        assert!(hint(Error::tables("open")(fjall::Error::Io(denied()))).contains("the right to read and write"));
        assert!(hint(Error::io("create", path)(read_only())).contains("mounted for writing"));
        assert!(hint(Error::tables("sync")(fjall::Error::Io(read_only()))).contains("mounted for writing"));
        assert_eq!(Error::tables("open")(fjall::Error::Locked).hint(), None);
    }
}
