//! The audit: who logged in, who tried to, and what became of users, in `tidemill.audit`.
//!
//! It is a file of the data folder, a line of JSON an entry, which its owner alone reads; of two files of [`FILE_BYTES_MAX`]
//! each the older one goes. A start reads what was last written, so the table goes on where it was. It has names, addresses and
//! times, and nothing that was said as a password. An entry that cannot be written is told in the log and kept in the table:
//! a full disk must not keep people out who could make room.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::clock::Clock;

/// Entries that the table shows.
const SHOWN_MAX: usize = 1_000;
/// Bytes of a file before a new one is begun.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a name that are noted: a stranger can send long ones.
const NAME_BYTES_MAX: usize = 64;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since 1970 UTC.
    pub at: i64,
    pub what: String,
    pub user: String,
    /// The address it came from; nothing for what was done on this machine.
    pub address: String,
    /// `pg`, `http` or `command`.
    pub by: String,
}

/// What happened, the newest last.
pub struct Audit {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
}

struct Kept {
    entries: VecDeque<Entry>,
    file: Option<File>,
    bytes: u64,
    /// Lines that could not be written yet, most often as the disk was full.
    unwritten: String,
    /// A part of a line may stand at the file's end.
    is_torn: bool,
}

/// Bytes of lines that wait to be written; beyond them the oldest are given up.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;

impl Audit {
    /// The audit of a data folder, which is there. What of its file cannot be read is told in the log.
    pub fn open(data: &Path, clock: Arc<dyn Clock>) -> Self {
        let path = data.join("audit.log");
        let mut entries = VecDeque::new();
        for path in [earlier(&path), path.clone()] {
            match std::fs::read_to_string(&path) {
                Ok(text) => entries.extend(text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok())),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => warn!(%error, path = %path.display(), "cannot read the audit"),
            }
        }
        entries.drain(..entries.len().saturating_sub(SHOWN_MAX));
        let bytes = std::fs::metadata(&path).map_or(0, |about| about.len());
        let kept = Kept { entries, file: None, bytes, unwritten: String::new(), is_torn: false };
        Self { path, clock, kept: Mutex::new(kept) }
    }

    /// Notes what happened at the door.
    pub fn login(&self, event: &serve::Event<'_>) {
        self.note(event.what.word(), event.user, event.from, event.by);
    }

    /// Notes what somebody did.
    pub fn note(&self, what: &str, user: &str, address: &str, by: &str) {
        let user = user.get(..user.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default();
        let entry = Entry {
            at: self.clock.now_us(),
            what: what.to_owned(),
            user: user.to_owned(),
            address: address.to_owned(),
            by: by.to_owned(),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = kept.append(&self.path, &entry) {
            kept.file = None;
            warn!(%error, path = %self.path.display(), "cannot write the audit");
        }
        if kept.entries.len() >= SHOWN_MAX {
            kept.entries.pop_front();
        }
        kept.entries.push_back(entry);
    }

    /// The last entries, the oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).entries.iter().cloned().collect()
    }
}

impl Kept {
    fn append(&mut self, path: &Path, entry: &Entry) -> std::io::Result<()> {
        while self.unwritten.len() > UNWRITTEN_BYTES_MAX {
            let end = self.unwritten.find('\n').map_or(self.unwritten.len(), |at| at + 1);
            self.unwritten.drain(..end);
        }
        self.unwritten.push_str(&serde_json::to_string(entry)?);
        self.unwritten.push('\n');
        if self.bytes >= FILE_BYTES_MAX {
            self.file = None;
            std::fs::rename(path, earlier(path))?;
            self.bytes = 0;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?),
        };
        if std::mem::replace(&mut self.is_torn, true) {
            file.write_all(b"\n")?;
        }
        file.write_all(self.unwritten.as_bytes())?;
        self.is_torn = false;
        self.bytes = self.bytes.saturating_add(self.unwritten.len().try_into().unwrap_or(u64::MAX));
        self.unwritten.clear();
        Ok(())
    }
}

fn earlier(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}
