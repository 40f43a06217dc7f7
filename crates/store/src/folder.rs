//! The data folder: who holds it, and which format it has.
//!
//! ```text
//! format    "tidemill store 1"        an older Tidemill refuses a newer folder in words
//! folded    empty: the tables have been written to, and tables that are new are not ours
//! lock      the holder's process id   locked as long as a store, or a snapshot of it, lives
//! log/      the change log, one file per segment
//! staged/   transactions larger than memory, until they are folded
//! tables/   the fold of the log (fjall); after a fold that failed its successor is tables.1/, tables.2/ …
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::is_full;
use crate::room::PROBES;
use crate::{Error, Result};

/// Version of everything below the folder, fjall's own files excepted.
const FORMAT: u32 = 1;

/// Says that the tables have been written to.
const FOLDED: &str = "folded";

/// A data folder that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    /// Whether [`FOLDED`] is there.
    is_folded: AtomicBool,
    _lock: File,
}

impl Folder {
    /// Takes the folder, creating it if need be.
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let lock = take_lock(dir)?;
        check_format(dir)?;
        for probe in PROBES {
            // Usually there is none; one that cannot be removed is written over.
            drop(std::fs::remove_file(dir.join(probe)));
        }
        Ok(Self { dir: dir.to_owned(), is_folded: AtomicBool::new(false), _lock: lock })
    }

    /// Refuses tables that are new where there were others: the log alone has not all of what is lost with them.
    pub(crate) fn check_tables(&self, is_new: bool) -> Result<()> {
        let is_noted = self.dir.join(FOLDED).exists();
        self.is_folded.store(is_noted, Ordering::Release);
        match (is_new, is_noted) {
            (true, true) => {
                Err(Error::Missing { path: self.dir.clone(), what: "its tables are missing, in part or as a whole" })
            }
            (false, _) => self.note_folded(),
            (true, false) => Ok(()),
        }
    }

    /// Notes once that the tables have been written to.
    pub(crate) fn note_folded(&self) -> Result<()> {
        if self.is_folded.load(Ordering::Acquire) {
            return Ok(());
        }
        let path = self.dir.join(FOLDED);
        let noted =
            File::create(&path).and_then(|file| file.sync_all()).and_then(|()| File::open(&self.dir)?.sync_all());
        match noted {
            Ok(()) => self.is_folded.store(true, Ordering::Release),
            // The next fold notes it.
            Err(e) if is_full(&e) => {}
            Err(e) => return Err(Error::io("write", &path)(e)),
        }
        Ok(())
    }

    /// Where the log's segments are.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Where the stages are.
    pub(crate) fn staged(&self) -> PathBuf {
        self.dir.join("staged")
    }
}

/// A store that was just closed may seem to hold its folder still: a child process that its process starts at that moment
/// has a copy of every open file until its own program begins. That is over soon.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

#[expect(clippy::disallowed_methods, reason = "there is no event for the end of another process's copy of a lock")]
fn pause() {
    std::thread::sleep(LOCK_PAUSE);
}

/// The process that has a data folder; none where nobody has, or it is not known.
pub fn holder(dir: &Path) -> Option<u32> {
    let mut file = File::open(dir.join("lock")).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => holder_of(&mut file).parse().ok(),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

fn holder_of(file: &mut File) -> String {
    let mut holder = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut holder));
    let holder = holder.trim();
    if read.is_err() || holder.is_empty() { "(unknown)".to_owned() } else { holder.to_owned() }
}

fn take_lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(Error::io("open", &path))?;
    let mut tries = 0;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                let holder = holder_of(&mut file);
                if tries == LOCK_TRIES {
                    return Err(Error::InUse { dir: dir.to_owned(), holder });
                }
                tries += 1;
                pause();
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
        }
    }
    match write_holder(&mut file) {
        Ok(()) => Ok(file),
        // The number is for a message only: on a full disk the folder is taken all the same.
        Err(e) if is_full(&e) => Ok(file),
        Err(e) => Err(Error::io("write", &path)(e)),
    }
}

/// Writes over what is there before the rest is cut off: no new block is needed then.
fn write_holder(file: &mut File) -> std::io::Result<()> {
    let holder = format!("{}\n", std::process::id());
    file.rewind()?;
    file.write_all(holder.as_bytes())?;
    file.set_len(holder.len() as u64)
}

fn check_format(dir: &Path) -> Result<()> {
    let path = dir.join("format");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !is_begun(dir) => {
            return write_format(dir, &path);
        }
        // Which version what is there was written by, nobody knows.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::Missing { path, what: "it is missing, though there are data" });
        }
        Err(e) => return Err(Error::io("read", &path)(e)),
    };
    let found = text.trim().strip_prefix("tidemill store ").and_then(|v| v.parse::<u32>().ok());
    match found {
        Some(found) if found > FORMAT => Err(Error::NewerFormat { dir: dir.to_owned(), found, known: FORMAT }),
        Some(_) => Ok(()),
        // A crash between creating and writing it leaves an empty file: nothing else was written by then.
        None if text.is_empty() && !is_begun(dir) => write_format(dir, &path),
        None => Err(Error::Damaged { path, offset: 0, what: "not the format of a Tidemill store".to_owned() }),
    }
}

/// Whether anything was written behind the format.
fn is_begun(dir: &Path) -> bool {
    ["tables", "log"].iter().any(|part| dir.join(part).exists())
}

fn write_format(dir: &Path, path: &Path) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        writeln!(file, "tidemill store {FORMAT}")?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    write().map_err(Error::io("write", path))
}
