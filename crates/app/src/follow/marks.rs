//! By what columns a source reads the rows of its log, across restarts.
//!
//! A source is asked for a table's columns when it starts, and reads on from a place of its log that is older: an ALTER between the two
//! makes others of them. Where the columns that are stored become others the table is loaded anew anyhow. Where they do not, as
//! when labels change places or columns move that are left out, rows of before would be read by the columns of now, if the log does not
//! name them. So what the columns were, in a word of the source's own ([`connect::Source::reads_by`]), is kept beside what is stored,
//! in `columns.json` of the data folder, with the place from which on it is true.
//!
//! The law: a table is read on from a place only by the columns of that place. Where that is in doubt it is loaded again from
//! where the log ends now. A note that is older than the truth costs a load, and none is newer: one that is true from a place on
//! says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use plan::TableName;
use serde::{Deserialize, Serialize};

/// The columns of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// In the source's own word.
    pub(super) word: String,
    /// The place behind which they are these; empty: wherever the source goes on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) since: String,
}

type Noted = BTreeMap<String, BTreeMap<String, Mark>>;

/// What is noted, by sources and tables.
#[derive(Debug, Default)]
pub struct Marks {
    /// None: nothing is kept.
    path: Option<PathBuf>,
    noted: Mutex<Noted>,
    /// What was noted before cannot be read: it may have been anything.
    is_damaged: bool,
}

impl Marks {
    /// Of a data folder.
    pub fn of(data: &Path) -> Self {
        let path = data.join("columns.json");
        let read = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Noted::new()),
            Err(_) => None,
        };
        let is_damaged = read.is_none();
        if is_damaged {
            tracing::warn!(path = %path.display(), "by what columns tables were read cannot be read: they are loaded again");
        }
        Self { path: Some(path), noted: Mutex::new(read.unwrap_or_default()), is_damaged }
    }

    /// What is noted of a table; none where nobody ever noted anything.
    pub(super) fn get(&self, source: &str, table: &TableName) -> Option<Mark> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = noted.get(source).and_then(|of| of.get(&table.to_string())).cloned();
        known.or_else(|| self.is_damaged.then(Mark::default))
    }

    /// Notes what is true of a table by now.
    pub(super) fn set(&self, source: &str, table: &TableName, mark: Mark) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let of = noted.entry(source.to_owned()).or_default();
        if of.get(&table.to_string()) == Some(&mark) {
            return;
        }
        of.insert(table.to_string(), mark);
        let Some(path) = &self.path else { return };
        let written = serde_json::to_vec(&*noted).map_err(std::io::Error::from);
        // On a full disk, for one: what was noted before is older, and costs a load.
        if let Err(error) = written.and_then(|bytes| crate::atomic::replace(path, &bytes)) {
            tracing::debug!(%error, "columns are not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (name, mark) = (TableName::new("shop", "t"), Mark { word: "one".to_owned(), since: "five".to_owned() });
        let marks = Marks::of(folder.path());
        assert_eq!(marks.get("shop", &name), None);
        marks.set("shop", &name, mark.clone());
        assert_eq!(Marks::of(folder.path()).get("shop", &name), Some(mark.clone()));
        std::fs::write(folder.path().join("columns.json"), "{").unwrap();
        let word = Marks::of(folder.path()).get("shop", &name).map(|mark| mark.word);
        assert_eq!(word.as_deref(), Some(""), "it may have been any");
        Marks::default().set("shop", &name, mark);
    }
}
