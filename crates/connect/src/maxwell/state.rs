//! What a capture keeps of itself: a folder with its position, the definitions that hold there, and what is prepared.
//!
//! ```text
//! lock            held by the process that captures
//! position.json   the position up to which everything was acknowledged
//! schemas.json    tables as they are at the position or behind it
//! ```
//!
//! The law: the position never moves past what is not safe. Definitions are written before a position behind them, and each file is
//! there as a whole or not at all.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::source::Failure;

use super::schema::Schemas;

const POSITION: &str = "position.json";
const SCHEMAS: &str = "schemas.json";
/// More than this is no position.
const POSITION_BYTES_MAX: u64 = 64 << 20;

/// The folder of one capture.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// Opens the folder, made if it is not there, for this process alone.
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| unusable(folder, &error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join("lock"));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure {
                message: format!("another process captures into the state folder {}", folder.display()),
                detail: "Two of them would write one position.".to_owned(),
                hint: "End it, or give each a folder of its own with --state.".to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The position that was kept, if any.
    pub(crate) fn position(&self) -> Result<Option<String>, Failure> {
        let Some(text) = self.read(POSITION)? else { return Ok(None) };
        let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let position = json.as_ref().filter(|json| json["format"] == 1).and_then(|json| json["position"].as_str());
        position.map(|position| Some(position.to_owned())).ok_or_else(|| self.spoilt(POSITION))
    }

    /// The definitions that were kept, if any.
    pub(crate) fn schemas(&self) -> Result<Option<Schemas>, Failure> {
        let Some(text) = self.read(SCHEMAS)? else { return Ok(None) };
        Schemas::read(&text).map(Some).ok_or_else(|| self.spoilt(SCHEMAS))
    }

    fn read(&self, name: &str) -> Result<Option<String>, Failure> {
        let path = self.folder.join(name);
        if std::fs::metadata(&path).is_ok_and(|about| name == POSITION && about.len() > POSITION_BYTES_MAX) {
            return Err(self.spoilt(name));
        }
        match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(&self.folder, &error)),
            Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| self.spoilt(name)),
        }
    }

    fn spoilt(&self, name: &str) -> Failure {
        let path = self.folder.join(name);
        Failure {
            message: format!("{} cannot be read", path.display()),
            detail: "It is not what a capture writes, or of a newer version.".to_owned(),
            hint: match name {
                SCHEMAS => "Remove it: definitions are asked for anew.".to_owned(),
                _ => "Restore it; or remove it, and the capture begins at the end of the log, or at init_position."
                    .to_owned(),
            },
        }
    }

    /// Keeps a position, durably.
    pub(crate) fn keep_position(&self, position: &str) -> io::Result<()> {
        self.replace(POSITION, &json!({"format": 1, "position": position}).to_string())
    }

    /// Keeps definitions, durably.
    pub(crate) fn keep_schemas(&self, schemas: &str) -> io::Result<()> {
        self.replace(SCHEMAS, schemas)
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.folder.join(name);
        let half = path.with_added_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&half)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&half, &path)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn unusable(folder: &Path, error: &io::Error) -> Failure {
    Failure {
        message: format!("the state folder {} cannot be used", folder.display()),
        detail: error.to_string(),
        hint: "See that it may be written; or name another one with --state.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_kept_for_one_process_at_a_time() {
        let folder = std::env::temp_dir().join(format!("tidemill-state-{}", std::process::id()));
        let state = State::open(&folder).unwrap();
        assert_eq!(state.position().unwrap(), None);
        assert!(State::open(&folder).unwrap_err().message.contains("another process"));
        state.keep_position("binlog.000001:4").unwrap();
        state.keep_position("binlog.000002:9 gtid=").unwrap();
        drop(state);
        let state = State::open(&folder).unwrap();
        assert_eq!(state.position().unwrap().as_deref(), Some("binlog.000002:9 gtid="));
        std::fs::write(folder.join(POSITION), "{\"format\":1,").unwrap();
        assert!(state.position().unwrap_err().hint.starts_with("Restore it"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
