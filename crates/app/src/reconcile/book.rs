//! What is remembered of comparisons with sources: `reconcile.json` of the data folder.
//!
//! A comparison that was interrupted goes on from there, whatever ended it: after each portion what was found so far is
//! written, with the place of the source's log and our step that it belongs to. What ended is kept as history. The file is
//! there as a whole or not at all.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::pair::Edge;
use super::source::{Compared, Tally};

/// Of the file's form. Another one is refused.
const VERSION: u32 = 1;
/// Comparisons of a source that are remembered.
const RUNS_MAX: usize = 100;
/// What was compared longer ago is compared anew rather than gone on with.
const GOES_ON_US_MAX: i64 = 24 * 3_600 * 1_000_000;

/// Who asked for a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A person.
    Hand,
    /// The instance, as its profile says.
    Itself,
}

impl By {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hand => "hand",
            Self::Itself => "itself",
        }
    }
}

/// A comparison that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub by: By,
    pub begun_us: i64,
    pub ended_us: i64,
    /// Tables by how they compared.
    pub equal: u64,
    pub differing: Vec<String>,
    pub unknown: u64,
    /// Rows of the source that were compared.
    pub rows: i64,
}

/// One that has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    pub by: By,
    pub begun_us: i64,
    /// Tables that have an answer.
    pub(super) done: Vec<Compared>,
    pub(super) partial: Option<Partial>,
}

impl Unfinished {
    /// One that begins.
    pub fn new(by: By, now_us: i64) -> Self {
        Self { by, begun_us: now_us, done: Vec::new(), partial: None }
    }

    /// Whether there is anything to go on with.
    pub fn has_found(&self) -> bool {
        self.partial.is_some() || self.done.iter().any(|compared| compared.equal.is_some())
    }

    /// The table that is being compared, with the rows that are behind it.
    pub fn progress(&self) -> Option<(String, i64)> {
        let partial = self.partial.as_ref()?;
        Some((partial.name.clone(), partial.tally.rows_expected()))
    }
}

/// A table of which the first rows were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Partial {
    pub(super) name: String,
    /// Its columns, as they were.
    pub(super) columns: String,
    pub(super) edge: Edge,
    pub(super) tally: Tally,
}

/// What is remembered of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfSource {
    pub unfinished: Option<Unfinished>,
    /// The last answer of each table.
    pub tables: BTreeMap<String, Compared>,
    /// The newest last.
    pub runs: VecDeque<Run>,
}

impl OfSource {
    /// What a comparison goes on with; none where it begins.
    pub(super) fn goes_on(&mut self, now_us: i64) -> Option<Unfinished> {
        self.unfinished.take().filter(|unfinished| now_us.saturating_sub(unfinished.begun_us) <= GOES_ON_US_MAX)
    }

    pub(super) fn note_end(&mut self, run: Run) {
        self.unfinished = None;
        self.runs.push_back(run);
        while self.runs.len() > RUNS_MAX {
            self.runs.pop_front();
        }
    }

    /// When the last comparison ended.
    pub fn ended_us(&self) -> Option<i64> {
        self.runs.back().map(|run| run.ended_us)
    }
}

/// What is remembered of all sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    version: u32,
    pub sources: BTreeMap<String, OfSource>,
}

impl Default for Book {
    fn default() -> Self {
        Self { version: VERSION, sources: BTreeMap::new() }
    }
}

impl Book {
    fn path(data: &Path) -> PathBuf {
        data.join("reconcile.json")
    }

    /// What the data folder has. Errors: it is damaged, or of another version.
    pub fn read(data: &Path) -> anyhow::Result<Self> {
        let path = Self::path(data);
        let hint = || {
            format!(
                "cannot read what is remembered of comparisons, {}\nHint: Nothing else depends on it. Remove the file: \
                 comparisons begin anew, and their history with them.",
                path.display()
            )
        };
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(hint),
        };
        let book: Self = serde_json::from_slice(&text).with_context(hint)?;
        if book.version != VERSION {
            return Err(anyhow::anyhow!("it is of version {}, and this is {VERSION}", book.version)).with_context(hint);
        }
        Ok(book)
    }

    /// Writes it. Where the disk has no room for it, that is said: a comparison goes on, and the next note has all of it.
    pub fn write(&self, data: &Path) -> anyhow::Result<()> {
        let path = Self::path(data);
        match crate::atomic::replace(&path, &serde_json::to_vec(self)?) {
            Err(error) if crate::atomic::is_full(&error) => {
                tracing::warn!(%error, path = %path.display(), "a comparison is not noted until there is room");
                Ok(())
            }
            written => written.with_context(|| format!("cannot write {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Book::read(folder.path()).unwrap(), Book::default());
        let mut book = Book::default();
        let shop = book.sources.entry("shop".to_owned()).or_default();
        shop.unfinished = Some(Unfinished::new(By::Hand, 5));
        assert!(!shop.unfinished.as_ref().unwrap().has_found());
        book.write(folder.path()).unwrap();
        assert_eq!(Book::read(folder.path()).unwrap(), book);
        let path = folder.path().join("reconcile.json");
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 3]).unwrap();
        assert!(Book::read(folder.path()).unwrap_err().to_string().contains("Remove the file"));
        std::fs::write(&path, "{\"version\": 2, \"sources\": {}}").unwrap();
        assert!(format!("{:#}", Book::read(folder.path()).unwrap_err()).ends_with("of version 2, and this is 1"));
    }

    #[test]
    fn what_is_a_day_old_is_not_gone_on_with() {
        let mut of = OfSource { unfinished: Some(Unfinished::new(By::Hand, 0)), ..OfSource::default() };
        assert!(of.clone().goes_on(GOES_ON_US_MAX).is_some());
        assert!(of.goes_on(GOES_ON_US_MAX + 1).is_none());
    }

    #[test]
    fn so_many_runs_are_remembered() {
        let mut of = OfSource::default();
        for at in 0..=i64::try_from(RUNS_MAX).unwrap() {
            let run = Run {
                by: By::Itself,
                begun_us: at,
                ended_us: at,
                equal: 1,
                differing: Vec::new(),
                unknown: 0,
                rows: 1,
            };
            of.note_end(run);
        }
        assert_eq!((of.runs.len(), of.runs[0].begun_us), (RUNS_MAX, 1));
    }
}
