//! The data folder: who holds it, and which format it has.
//!
//! ```text
//! format    "tidemill store 3"        an older Tidemill refuses a newer folder in words
//! version   "0.0.0"                   the Tidemill that wrote into it last, for these words
//! folded    empty: the tables have been written to, and tables that are new are not ours
//! lock      the holder's process id   locked as long as a store, or a snapshot of it, lives
//! log/      the change log, one file per segment
//! staged/   transactions larger than memory, until they are folded
//! tables/   the fold of the log (fjall); after a fold that failed its successor is tables.1/, tables.2/ …
//! ```
//!
//! *What the format is of*: everything below the folder, but for fjall's own files: the forms of log, stages and catalog, and
//! what the engine writes into records and facts. It is one number, [`FORMAT`], and the rule is: *whoever writes what a Tidemill of
//! before would not read, or would read as something else, raises it*. A newer Tidemill reads all formats of before. It writes its own
//! number before it appends, stages or folds anything ([`Folder::take_over`]); from then on an older one refuses the folder before it has
//! touched anything of it. Who only reads leaves the format as it is. So no Tidemill meets what it does not know but in a folder that says so; what it meets in spite of that, behind a
//! checksum that holds, is of a newer one as well ([`Error::Newer`]), and no damage.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::is_full;
use crate::room::PROBES;
use crate::{Error, Result};

/// Version of everything below the folder, fjall's own files excepted. The rule is in the module above.
///
/// | format | what it has that the one before does not read |
/// | --- | --- |
/// | 1 | |
/// | 2 | changes by key, rows counted beside their table, outboxes with what a person is asked and what nobody has heard of |
/// | 3 | outboxes of which a person is asked for less than before, or is not asked any more |
pub const FORMAT: u32 = 3;

/// What a format's line begins with.
const FORMAT_WORDS: &str = "tidemill store ";

/// Says which Tidemill has written into the folder last.
const VERSION: &str = "version";

/// Says that the tables have been written to.
const FOLDED: &str = "folded";

/// A data folder that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    /// Whether [`FOLDED`] is there.
    is_folded: AtomicBool,
    /// The format that it was found in, and whether it is ours by now.
    found: u32,
    is_ours: AtomicBool,
    _lock: File,
}

impl Folder {
    /// Takes the folder, creating it if need be. One of a newer Tidemill is left as it is, its lock too.
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        refuse_newer(dir)?;
        let lock = take_lock(dir)?;
        let found = check_format(dir)?;
        for probe in PROBES {
            // Usually there is none; one that cannot be removed is written over.
            drop(std::fs::remove_file(dir.join(probe)));
        }
        let (is_folded, is_ours) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { dir: dir.to_owned(), is_folded, found, is_ours, _lock: lock })
    }

    /// The folder is of our format from here on: to be called before anything is written into it that is.
    pub(crate) fn take_over(&self) -> Result<()> {
        if self.is_ours.load(Ordering::Acquire) {
            return Ok(());
        }
        note_version(&self.dir)?;
        if self.found != FORMAT {
            self.upgrade()?;
        }
        self.is_ours.store(true, Ordering::Release);
        Ok(())
    }

    fn upgrade(&self) -> Result<()> {
        tracing::info!(
            folder = %self.dir.display(), from = self.found, to = FORMAT,
            "the data folder is taken over from an older Tidemill, which does not open it any more"
        );
        write_format(&self.dir)
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

    /// Notes once that the tables are written to.
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

fn write_holder(file: &mut File) -> std::io::Result<()> {
    write_over(file, &format!("{}\n", std::process::id()))
}

/// Writes over what is there before the rest is cut off: no new block is needed then, so that it goes on a full disk too.
fn write_over(file: &mut File, text: &str) -> std::io::Result<()> {
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// What a folder's format is, as it is written there.
enum Written {
    /// There is none yet, nor anything else.
    Nothing,
    Format(u32),
}

/// The format of a folder. Errors: it cannot be read, or says none.
fn format_of(dir: &Path) -> Result<Written> {
    let path = dir.join("format");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound && !is_begun(dir) => return Ok(Written::Nothing),
        // Which version what is there was written by, nobody knows.
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::Missing { path, what: "it is missing, though there are data" });
        }
        Err(e) => return Err(Error::io("read", &path)(e)),
    };
    // What a newer one may have to say behind its first line is not for us.
    let line = text.lines().next().unwrap_or_default();
    match line.trim().strip_prefix(FORMAT_WORDS).and_then(|number| number.parse().ok()) {
        Some(found) => Ok(Written::Format(found)),
        // A crash between creating and writing it leaves an empty file: nothing else was written by then.
        None if text.is_empty() && !is_begun(dir) => Ok(Written::Nothing),
        None => Err(Error::Damaged { path, offset: 0, what: "not the format of a Tidemill store".to_owned() }),
    }
}

/// Refuses a folder of a newer Tidemill, and writes nothing.
fn refuse_newer(dir: &Path) -> Result<()> {
    match format_of(dir)? {
        Written::Format(found) if found > FORMAT => {
            let writer = std::fs::read_to_string(dir.join(VERSION)).unwrap_or_default();
            let writer = writer.lines().next().unwrap_or_default().trim().to_owned();
            Err(Error::NewerFormat { dir: dir.to_owned(), found, known: FORMAT, writer })
        }
        Written::Format(_) | Written::Nothing => Ok(()),
    }
}

/// The format that is found, once more with the lock: who had it before may have been a newer Tidemill.
fn check_format(dir: &Path) -> Result<u32> {
    refuse_newer(dir)?;
    match format_of(dir)? {
        Written::Format(found) => Ok(found),
        Written::Nothing => write_format(dir).map(|()| FORMAT),
    }
}

/// Whether anything was written behind the format.
fn is_begun(dir: &Path) -> bool {
    ["tables", "log"].iter().any(|part| dir.join(part).exists())
}

fn write_format(dir: &Path) -> Result<()> {
    write_line(dir, "format", &format!("{FORMAT_WORDS}{FORMAT}\n"))
}

/// Notes which Tidemill writes into the folder.
fn note_version(dir: &Path) -> Result<()> {
    let version = format!("{}\n", env!("CARGO_PKG_VERSION"));
    if std::fs::read_to_string(dir.join(VERSION)).is_ok_and(|noted| noted == version) {
        return Ok(());
    }
    match write_line(dir, VERSION, &version) {
        // It is for a message only: on a full disk the folder is ours all the same.
        Err(e) if e.is_disk_full() => Ok(()),
        done => done,
    }
}

/// A file of one line, durable when this returns.
fn write_line(dir: &Path, name: &str, line: &str) -> Result<()> {
    let path = dir.join(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        write_over(&mut file, line)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    write().map_err(Error::io("write", &path))
}
