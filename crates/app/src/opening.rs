//! Opening a data folder: how far it is, and who has it where somebody does.
//!
//! One process has a folder at a time. An instance has it for as long as it runs; a command that reads a stopped folder has it for a
//! moment, so whoever comes meanwhile waits, says for whom, and gives up after a while.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::clock::stopwatch;
use crate::instance::Addresses;
use crate::setup::Setup;
use crate::warehouse::{Described, Warehouse};

/// How long a start waits for a command that has the folder, and a command for another one.
pub const START_PATIENCE: Duration = Duration::from_secs(15);
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(5);

/// Letters of a command line that are shown.
const COMMAND_LETTERS: usize = 100;

/// How far an opening is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the log that were replayed, and of how many; of none before that has begun.
    replayed: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// So many bytes of the log are replayed.
    pub fn replayed(&self, bytes: u64, of: u64) {
        self.replayed.store(bytes, Ordering::Relaxed);
        self.bytes.store(of, Ordering::Relaxed);
    }

    /// In one line.
    pub fn said(&self) -> String {
        let (replayed, bytes) = (self.replayed.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        match replayed.saturating_mul(100).checked_div(bytes) {
            None => "opening the data folder".to_owned(),
            Some(percent) => format!("replaying the log, {} %", percent.min(100)),
        }
    }
}

/// What an instance that starts notes of itself, as long as it cannot be asked.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    pid: u32,
    /// Where it says how far it is.
    http: String,
}

/// The note of an instance that starts, which goes with this.
pub struct Noted(PathBuf);

impl Noted {
    fn path(data: &Path) -> PathBuf {
        data.join("starting.json")
    }

    /// Notes that an instance starts, and where it says how far it is. Where there is no room, nobody finds it.
    pub fn new(data: &Path, http: String) -> Self {
        let note = Note { pid: std::process::id(), http };
        if let Ok(bytes) = serde_json::to_vec(&note) {
            std::fs::create_dir_all(data).and_then(|()| atomic::replace(&Self::path(data), &bytes)).ok();
        }
        Self(Self::path(data))
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// The process that has the folder of a failed opening; none where it has failed otherwise.
fn holder_of(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| match cause.downcast_ref::<store::Error>()? {
        store::Error::InUse { holder, .. } => Some(holder.as_str()),
        _ => None,
    })
}

/// A process as people know it: its number, and what it was started as.
fn process(pid: &str) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|w| !w.is_empty())
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect();
    let program =
        words.first().and_then(|path| Path::new(path).file_name()).map(|name| name.to_string_lossy().into_owned());
    let words: Vec<String> = program.into_iter().chain(words.into_iter().skip(1)).collect();
    let shown: String = words.join(" ").chars().take(COMMAND_LETTERS).collect();
    if shown.is_empty() { format!("process {pid}") } else { format!("process {pid} ({shown})") }
}

/// An instance that runs over a folder; none where none does.
fn running(data: &Path) -> Option<Addresses> {
    let holder = store::holder(&data.join("store"))?;
    // One that was killed has the folder until the system has cleared it away: who waits for the folder waits for that.
    Addresses::read(data).filter(|addresses| addresses.pid == holder && !crate::process::is_ending(holder))
}

/// Whether an instance runs over a folder.
pub fn is_running(data: &Path) -> bool {
    running(data).is_some()
}

/// An instance that starts over a folder.
struct Starting {
    pid: u32,
    /// How far it is, for people.
    said: String,
}

impl Starting {
    /// None where none does: a note that nobody stands by is of one that was killed.
    fn over(data: &Path) -> Option<Self> {
        let note: Note = serde_json::from_slice(&std::fs::read(Noted::path(data)).ok()?).ok()?;
        let answer = crate::process::asked(&note.http, "/health/readyz");
        if answer.is_none() && store::holder(&data.join("store")) != Some(note.pid) {
            return None;
        }
        let far = answer.unwrap_or_else(|| "starting".to_owned());
        let said = format!("an instance is starting here, in process {}: {far}", note.pid);
        Some(Self { pid: note.pid, said })
    }

    /// What is said to whom it takes too long.
    fn refusal(&self) -> String {
        format!("{}\nHint: It answers when that is done; `kill {}` stops it.", self.said, self.pid)
    }
}

/// How long who waits for an instance looks away.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Waits for an instance that is starting over a folder, if there is one; `say` is told how far it is, once. Answers whether one runs
/// there then. Errors: it has not started after that time.
pub async fn until_started(data: &Path, patience: Duration, say: impl Fn(&str)) -> anyhow::Result<bool> {
    let begun = stopwatch();
    let mut is_said = false;
    while !is_running(data) {
        let starting = Starting::over(data);
        // It has the folder before it can be asked.
        if starting.is_none() && store::holder(&data.join("store")).is_none() {
            return Ok(false);
        }
        if begun.elapsed() >= patience {
            return starting.map_or(Ok(false), |starting| Err(anyhow::anyhow!(starting.refusal())));
        }
        if let (Some(starting), false) = (&starting, is_said) {
            is_said = true;
            say(&starting.said);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(true)
}

fn second(Addresses { pid, pg, http, .. }: &Addresses) -> String {
    format!(
        "an instance runs here already: process {pid}, which serves PostgreSQL's wire at {pg} and the page at {http}\n\
         Hint: `tidemill status` shows how it is, `tidemill apply` has it take the project on disk, and `kill {pid}` stops it."
    )
}

/// Errors: an instance runs over the folder, and a second one cannot.
pub fn refuse_second(data: &Path) -> anyhow::Result<()> {
    running(data).map_or(Ok(()), |addresses| Err(anyhow::anyhow!(second(&addresses))))
}

/// Who answers for a folder.
pub enum Found {
    /// The folder itself, which nobody else has.
    Folder(Box<Warehouse>),
    /// An instance, which has started meanwhile.
    Instance(Addresses),
}

/// Opens the folder of a project for who wants the folder itself. Errors: those of [`found`], and an instance that runs.
pub async fn opened(
    setup: &Setup,
    described: Described,
    progress: Arc<Progress>,
    patience: Duration,
    say: impl Fn(&str),
) -> anyhow::Result<Warehouse> {
    match found(setup, described, progress, patience, say).await? {
        Found::Folder(warehouse) => Ok(*warehouse),
        Found::Instance(addresses) => bail!(second(&addresses)),
    }
}

/// Opens the folder of a project, waiting for whoever has it; `say` is told for whom, once. Errors: it cannot be opened, or somebody
/// has it for longer than that.
pub async fn found(
    setup: &Setup,
    described: Described,
    progress: Arc<Progress>,
    patience: Duration,
    say: impl Fn(&str),
) -> anyhow::Result<Found> {
    let begun = stopwatch();
    let (setup, described) = (Arc::new(setup.clone()), Arc::new(described));
    let mut is_said = false;
    loop {
        let (opening, of, progress) = (Arc::clone(&setup), Arc::clone(&described), Arc::clone(&progress));
        let open = move || Warehouse::open_telling(&opening, &of, &progress);
        let error = match tokio::task::spawn_blocking(open).await? {
            Ok(warehouse) => return Ok(Found::Folder(Box::new(warehouse))),
            Err(error) => error,
        };
        let Some(holder) = holder_of(&error).map(str::to_owned) else { return Err(error) };
        if let Some(addresses) = running(&setup.data) {
            return Ok(Found::Instance(addresses));
        }
        let starting = Starting::over(&setup.data).filter(|starting| starting.pid.to_string() == holder);
        let (data, who) = (setup.data.display(), process(&holder));
        if begun.elapsed() >= patience {
            if let Some(starting) = starting {
                bail!(starting.refusal());
            }
            bail!(
                "the data folder {data} is in use by {who}, for more than {} s\n\
                 Hint: Let it end, or stop it with `kill {holder}`; another folder is chosen with --data.",
                patience.as_secs()
            );
        }
        if !is_said {
            is_said = true;
            match starting {
                Some(starting) => say(&starting.said),
                None => say(&format!("waiting for {who}, which has the data folder {data}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_hundredths() {
        let progress = Progress::default();
        assert_eq!(progress.said(), "opening the data folder");
        progress.replayed(2_000, 5_000);
        assert_eq!(progress.said(), "replaying the log, 40 %");
    }

    /// Who has the folder of an instance that starts; until it is dropped.
    fn holding(data: &Path) -> std::fs::File {
        std::fs::create_dir_all(data.join("store")).unwrap();
        let mut lock = std::fs::File::create(data.join("store/lock")).unwrap();
        std::io::Write::write_all(&mut lock, std::process::id().to_string().as_bytes()).unwrap();
        lock.try_lock().unwrap();
        lock
    }

    fn note_running(data: &Path) {
        let (pid, nowhere) = (std::process::id(), String::new());
        let addresses = Addresses { pid, pg: nowhere.clone(), http: nowhere, control: None, word: None };
        std::fs::write(data.join("instance.json"), serde_json::to_vec(&addresses).unwrap()).unwrap();
    }

    /// What is ordered while an instance starts is ordered when it has started, and who waits is told why.
    #[tokio::test]
    async fn an_instance_that_starts_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert!(!until_started(data, Duration::MAX, |_| panic!("nobody starts")).await.unwrap());
        let noted = Noted::new(data, "127.0.0.1:1".to_owned());
        assert!(!until_started(data, Duration::MAX, |_| panic!("it was killed")).await.unwrap());
        let lock = holding(data);
        let told = std::sync::Mutex::new(Vec::new());
        let tell = |text: &str| {
            told.lock().unwrap().push(text.to_owned());
            note_running(data);
        };
        assert!(until_started(data, Duration::MAX, tell).await.unwrap());
        let pid = std::process::id();
        assert_eq!(*told.lock().unwrap(), [format!("an instance is starting here, in process {pid}: starting")]);
        std::fs::remove_file(data.join("instance.json")).unwrap();
        let late = until_started(data, Duration::ZERO, |_| panic!("there is no time for it")).await.unwrap_err();
        assert!(late.to_string().contains("It answers when that is done"), "{late}");
        drop(noted);
        assert!(!until_started(data, Duration::ZERO, |_| panic!("who has it is no instance")).await.unwrap());
        drop(lock);
    }

    /// Who finds the folder in the hands of an instance that has started meanwhile asks that one.
    #[tokio::test]
    async fn a_folder_that_an_instance_has_by_now_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let project = "name: shop\nprofile: shop\n";
        std::fs::write(folder.path().join("dbt_project.yml"), project).unwrap();
        let global = crate::setup::Global { project: Some(folder.path().to_owned()), ..Default::default() };
        let setup = Setup::load(&global).unwrap();
        let _lock = holding(&setup.data);
        let tell = |_: &str| note_running(&setup.data);
        let found = found(&setup, Described::default(), Arc::default(), Duration::MAX, tell).await.unwrap();
        let Found::Instance(addresses) = found else { panic!("it was opened") };
        assert_eq!(addresses.pid, std::process::id());
    }

    #[test]
    fn a_process_is_known_by_what_it_was_started_as() {
        let pid = std::process::id().to_string();
        let told = process(&pid);
        assert!(told.starts_with(&format!("process {pid} (")) && !told.contains('/'), "{told}");
        assert_eq!(process("(unknown)"), "process (unknown)");
    }
}
