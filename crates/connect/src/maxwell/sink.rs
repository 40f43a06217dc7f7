//! Where messages go, and the thread that brings them there: what is written, acknowledged and kept, in this order.
//!
//! The law: a position is kept when everything before it is safe where it goes ([`Sink::settle`]). What cannot be written is written
//! again, with growing pauses, and nothing is read meanwhile but what the queue has room for.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::source::Failure;

use super::Teller;
use super::message::Output;
use super::state::State;

/// Messages that are written may wait so long to be made safe together.
const SETTLE: Duration = Duration::from_millis(500);
/// What was written to a file and is not safe is held besides, up to so much and one batch more.
const UNSAFE_BYTES_MAX: usize = 8 << 20;
/// How soon stdout is tried again that takes nothing and does not tell when it does.
const SOON: Duration = Duration::from_millis(20);
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Messages on their way, and what holds when they are safe.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) output: Output,
    /// How far they reach; none in the midst of a transaction.
    pub(crate) position: Option<String>,
    /// The definitions that hold behind the last position.
    pub(crate) schemas: Option<String>,
    /// Files that may go then.
    pub(crate) done: Vec<PathBuf>,
    /// Somebody waits until its position is kept: that is not put off.
    pub(crate) kept: Option<oneshot::Sender<()>>,
}

/// Why messages cannot be written.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It may be over at the next try.
    Again(String),
    /// Only a person can mend it.
    Over(Failure),
}

/// A place for messages. Calls may block.
pub(crate) trait Sink: Send {
    /// Takes messages, in order. After an error they come again, all of them, and it goes on where it was.
    fn write(&mut self, output: &Output) -> Result<(), Trouble>;

    /// Returns when all that was taken is safe.
    fn settle(&mut self) -> Result<(), Trouble>;

    /// As people call it.
    fn name(&self) -> String;
}

/// Nothing is written.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: &Output) -> Result<(), Trouble> {
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn name(&self) -> String {
        "nowhere".to_owned()
    }
}

/// Lines on stdout, which may be anything: a pipe that nobody reads just now, in whatever mode, or a file on a full disk.
#[derive(Debug)]
pub(crate) struct Stdout {
    out: File,
    /// Bytes of the output being written that were taken.
    taken: usize,
    /// Somebody waits for the end.
    stopped: watch::Receiver<bool>,
}

impl Stdout {
    /// Errors: there is none.
    pub(crate) fn open(stopped: watch::Receiver<bool>) -> Result<Self, Failure> {
        let out = io::stdout().as_fd().try_clone_to_owned().map_err(|error| Failure {
            message: "stdout cannot be written".to_owned(),
            detail: error.to_string(),
            hint: "Name a file, with --to.".to_owned(),
        })?;
        Ok(Self { out: File::from(out), taken: 0, stopped })
    }

    /// Waits until it may take something again, or somebody waits for the end.
    fn wait(&mut self) -> io::Result<()> {
        let Self { out, stopped, .. } = self;
        let ready = async {
            match pipe::Sender::from_owned_fd(out.try_clone()?.into()) {
                Ok(pipe) => pipe.writable().await,
                // A terminal, or a socket.
                Err(_) => {
                    tokio::time::sleep(SOON).await;
                    Ok(())
                }
            }
        };
        Handle::current().block_on(async {
            tokio::select! {
                biased;
                () = super::changed(stopped) => Ok(()),
                ready = ready => ready,
            }
        })
    }
}

impl Sink for Stdout {
    fn write(&mut self, output: &Output) -> Result<(), Trouble> {
        let again = |error: &dyn fmt::Display| Trouble::Again(format!("stdout cannot be written: {error}"));
        while let Some(rest) = output.bytes.get(self.taken..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest) {
                Ok(0) => return Err(again(&"it takes nothing")),
                Ok(taken) => self.taken += taken,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock if *self.stopped.borrow() => return Err(again(&"nobody reads it")),
                    ErrorKind::WouldBlock => self.wait().map_err(|error| again(&error))?,
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected => {
                        return Err(Trouble::Over(Failure {
                            message: "stdout cannot be written".to_owned(),
                            detail: error.to_string(),
                            hint: "Whoever reads it has gone: what it has not taken comes again after the next start."
                                .to_owned(),
                        }));
                    }
                    _ => return Err(again(&error)),
                },
            }
        }
        self.taken = 0;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Trouble> {
        match self.out.sync_data() {
            // Of a pipe and the like, what is taken is taken.
            Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                Err(Trouble::Again(format!("stdout cannot be made safe: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn name(&self) -> String {
        "stdout".to_owned()
    }
}

/// A file, as far as lines go into it.
trait Disk: Send {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Everything behind goes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Lines at the end of a file.
///
/// The law: whatever fails, what is in the file are whole lines, or is cut off before anything else is written; and what a sync that
/// failed has left behind is not known, so it is written again before another one counts.
pub(crate) struct Lines {
    path: PathBuf,
    file: Box<dyn Disk>,
    /// What is whole of it.
    length: u64,
    /// What may be behind that, of a write that has failed.
    is_torn: bool,
    /// What was written since it was made safe last.
    unsafe_bytes: Vec<u8>,
    /// It could not be made safe.
    is_doubtful: bool,
}

impl Lines {
    /// Opens a file, made if it is not there. A line that a killed process has left half-written is taken away: it comes again.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure {
            message: format!("the file {} cannot be written", path.display()),
            detail: error.to_string(),
            hint: "See that its folder is there and may be written, or name another file.".to_owned(),
        };
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
        let length = whole_lines(&mut file).map_err(failed)?;
        file.set_len(length).map_err(failed)?;
        // A file that was made just now is there for good with its folder alone.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).ok();
        Ok(Self::of(path, Box::new(file), length))
    }

    fn of(path: &Path, file: Box<dyn Disk>, length: u64) -> Self {
        Self { path: path.to_owned(), file, length, is_torn: false, unsafe_bytes: Vec::new(), is_doubtful: false }
    }

    /// Half a line is none.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.file.cut(self.length)?;
            self.is_torn = false;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.mend()?;
        self.is_torn = true;
        if let Err(error) = self.file.write_at(bytes, self.length) {
            // Where it cannot be mended now, it is before anything is written again.
            self.mend().ok();
            return Err(error);
        }
        self.is_torn = false;
        self.length += bytes.len() as u64;
        self.unsafe_bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.mend()?;
        if self.is_doubtful {
            self.file.write_at(&self.unsafe_bytes, self.length - self.unsafe_bytes.len() as u64)?;
        }
        self.is_doubtful = true;
        self.file.sync()?;
        self.is_doubtful = false;
        self.unsafe_bytes.clear();
        Ok(())
    }
}

/// Bytes up to the end of the last whole line. What follows is ours to take away only if it begins as our lines do.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    const BEGIN: &[u8] = b"{\"";
    const BLOCK_BYTES: u64 = 64 << 10;
    let length = file.metadata()?.len();
    let mut end = length;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        let mut block = vec![0; usize::try_from(end - begin).map_err(io::Error::other)?];
        file.read_exact(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            end = begin + at as u64 + 1;
            break;
        }
        end = begin;
    }
    if end == length {
        return Ok(length);
    }
    let mut head = vec![0; BEGIN.len().min(usize::try_from(length - end).unwrap_or(0))];
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut head)?;
    if BEGIN.starts_with(&head) {
        return Ok(end);
    }
    file.seek(SeekFrom::Start(length))?;
    file.write_all(b"\n")?;
    Ok(length + 1)
}

impl Sink for Lines {
    fn write(&mut self, output: &Output) -> Result<(), Trouble> {
        if self.unsafe_bytes.len() >= UNSAFE_BYTES_MAX {
            self.settle()?;
        }
        let written = self.append(&output.bytes);
        written.map_err(|error| Trouble::Again(format!("the file {} cannot be written: {error}", self.path.display())))
    }

    fn settle(&mut self) -> Result<(), Trouble> {
        let synced = self.sync();
        synced.map_err(|error| Trouble::Again(format!("the file {} cannot be made safe: {error}", self.path.display())))
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Brings messages to their place, until no more come.
pub(crate) struct Pump {
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) state: State,
    pub(crate) teller: Teller,
    /// Somebody waits for the end: nothing is tried again.
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) runtime: Handle,
}

/// How a pump has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pumped {
    /// The position that was kept last.
    pub(crate) position: Option<String>,
    /// What was given up because somebody waited for the end.
    pub(crate) given_up: Option<String>,
}

impl Pump {
    /// Runs on a thread of its own.
    pub(crate) fn run(mut self, mut batches: mpsc::Receiver<Batch>) -> Result<Pumped, Failure> {
        let mut out = Pumped::default();
        let mut waiting = Waiting::default();
        let mut due: Option<Instant> = None;
        loop {
            let next = match due {
                None => Some(batches.blocking_recv()),
                Some(due) => self.runtime.block_on(async { tokio::time::timeout_at(due, batches.recv()).await.ok() }),
            };
            let is_over = matches!(next, Some(None));
            if let Some(Some(batch)) = next {
                if batch.schemas.is_some() && !self.settle(&mut waiting, &mut out)? {
                    return Ok(out);
                }
                if !batch.output.bytes.is_empty() && !self.again(&mut out, |sink| sink.write(&batch.output))? {
                    return Ok(out);
                }
                waiting.add(batch);
                let soon = Instant::now() + if waiting.kept.is_some() { Duration::ZERO } else { SETTLE };
                due = Some(due.map_or(soon, |due| due.min(soon)));
            }
            let is_due = due.is_some_and(|due| Instant::now() >= due);
            if is_due || is_over {
                if !self.settle(&mut waiting, &mut out)? {
                    return Ok(out);
                }
                due = None;
            }
            if is_over {
                return Ok(out);
            }
        }
    }

    /// Makes safe what was written, and keeps how far that is. False: it was given up.
    fn settle(&mut self, waiting: &mut Waiting, out: &mut Pumped) -> Result<bool, Failure> {
        if !self.again(out, |sink| sink.settle())? {
            return Ok(false);
        }
        let kept = std::mem::take(waiting);
        let folder = self.state.folder().to_owned();
        let again = |error: io::Error| {
            Trouble::Again(format!("the state folder {} cannot be written: {error}", folder.display()))
        };
        if let Some(schemas) = &kept.schemas
            && !self.again_state(out, |state| state.keep_schemas(schemas).map_err(again))?
        {
            return Ok(false);
        }
        if let Some(position) = kept.position {
            if !self.again_state(out, |state| state.keep_position(&position).map_err(again))? {
                return Ok(false);
            }
            out.position = Some(position);
        }
        if let Some(waits) = kept.kept {
            waits.send(()).ok();
        }
        for path in kept.done {
            // One that stays would be seen to once more after the next start, and would keep others of its name waiting.
            let gone = |_: &State| match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(again(error)),
                _ => Ok(()),
            };
            if !self.again_state(out, gone)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn again(
        &mut self,
        out: &mut Pumped,
        mut work: impl FnMut(&mut dyn Sink) -> Result<(), Trouble>,
    ) -> Result<bool, Failure> {
        let Self { sink, teller, stopped, runtime, .. } = self;
        persist(teller, stopped, runtime, out, || work(sink.as_mut()))
    }

    fn again_state(
        &mut self,
        out: &mut Pumped,
        mut work: impl FnMut(&State) -> Result<(), Trouble>,
    ) -> Result<bool, Failure> {
        let Self { state, teller, stopped, runtime, .. } = self;
        persist(teller, stopped, runtime, out, || work(state))
    }
}

/// Tries until it is done; false: somebody waits for the end.
fn persist(
    teller: &Teller,
    stopped: &mut watch::Receiver<bool>,
    runtime: &Handle,
    out: &mut Pumped,
    mut work: impl FnMut() -> Result<(), Trouble>,
) -> Result<bool, Failure> {
    let mut pause = PAUSE_FIRST;
    let mut told: Option<String> = None;
    loop {
        let reason = match work() {
            Ok(()) => {
                if told.is_some() {
                    teller.tell("messages are taken again");
                }
                return Ok(true);
            }
            Err(Trouble::Over(failure)) => return Err(failure),
            Err(Trouble::Again(reason)) => reason,
        };
        if *stopped.borrow() {
            out.given_up = Some(reason);
            return Ok(false);
        }
        if told.as_ref() != Some(&reason) {
            teller.warn(&format!("{reason}; it is tried again, and nothing is lost"));
            told = Some(reason);
        }
        runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = super::changed(stopped) => {}
            }
        });
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What holds when all that was written is safe.
#[derive(Debug, Default)]
struct Waiting {
    position: Option<String>,
    schemas: Option<String>,
    done: Vec<PathBuf>,
    kept: Option<oneshot::Sender<()>>,
}

impl Waiting {
    fn add(&mut self, batch: Batch) {
        self.position = batch.position.or(self.position.take());
        self.schemas = batch.schemas.or(self.schemas.take());
        self.done.extend(batch.done);
        self.kept = batch.kept.or(self.kept.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn at(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tidemill-lines-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A disk that fails as it is told, and what is on it: as it is seen, and as it is safe.
    #[derive(Clone, Default)]
    struct Faulty(Arc<Mutex<Inside>>);

    #[derive(Default)]
    struct Inside {
        seen: Vec<u8>,
        safe: Vec<u8>,
        /// What fails next, the last first.
        fails: Vec<&'static str>,
    }

    impl Faulty {
        fn fails(&self, what: &'static str) -> io::Result<()> {
            let mut inside = self.0.lock().unwrap();
            match inside.fails.last() == Some(&what) {
                true => {
                    inside.fails.pop();
                    Err(io::Error::other(what))
                }
                false => Ok(()),
            }
        }
    }

    impl Disk for Faulty {
        fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            let fails = self.fails("write");
            let written = if fails.is_err() { &bytes[..bytes.len() / 2] } else { bytes };
            let seen = &mut self.0.lock().unwrap().seen;
            seen.resize(seen.len().max(at + written.len()), 0);
            seen[at..at + written.len()].copy_from_slice(written);
            fails
        }

        fn cut(&mut self, length: u64) -> io::Result<()> {
            self.fails("cut")?;
            self.0.lock().unwrap().seen.truncate(usize::try_from(length).unwrap());
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            let fails = self.fails("sync");
            let mut inside = self.0.lock().unwrap();
            match fails {
                Ok(()) => inside.safe = inside.seen.clone(),
                // As systems do: what could not be written is forgotten, and the next sync says nothing of it.
                Err(_) => inside.seen = inside.safe.clone(),
            }
            fails
        }
    }

    #[test]
    fn whatever_fails_lines_are_whole_and_each_is_there_once() {
        for fails in [
            &["write"][..],
            &["write", "cut"],
            &["write", "cut", "cut", "write", "cut"],
            &["sync"],
            &["sync", "sync", "write", "sync"],
            &["write", "cut", "sync", "write"],
        ] {
            let disk = Faulty::default();
            let mut lines = Lines::of(Path::new("x"), Box::new(disk.clone()), 0);
            lines.write(&output("{\"a\"}\n")).unwrap();
            disk.0.lock().unwrap().fails = fails.iter().rev().copied().collect();
            for text in ["{\"bcd\"}\n", "{\"efghi\"}\n"] {
                while lines.write(&output(text)).is_err() {}
                while lines.settle().is_err() {}
            }
            let inside = disk.0.lock().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(text(&inside.safe), "{\"a\"}\n{\"bcd\"}\n{\"efghi\"}\n", "{fails:?}");
            assert_eq!((text(&inside.seen), inside.fails.len()), (text(&inside.safe), 0), "{fails:?}");
        }
    }

    #[tokio::test]
    async fn a_pipe_that_is_read_late_gets_each_line_once() {
        let (mut reader, writer) = io::pipe().unwrap();
        // Whoever shares a pipe may have set it so.
        drop(pipe::Sender::from_owned_fd(writer.try_clone().unwrap().into()).unwrap());
        let (_stop, stopped) = watch::channel(false);
        let wanted: String = (0..40_000).map(|number| format!("{{\"{number}\"}}\n")).collect();
        let mut out = Stdout { out: File::from(std::os::fd::OwnedFd::from(writer)), taken: 0, stopped };
        let text = wanted.clone();
        let written = tokio::task::spawn_blocking(move || out.write(&output(&text)).is_ok());
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!((written.await.unwrap(), read.await.unwrap()), (true, wanted));
    }

    fn output(text: &str) -> Output {
        Output { bytes: text.as_bytes().to_vec(), ..Output::default() }
    }

    #[test]
    fn half_a_line_of_ours_goes_and_anybody_elses_stays() {
        for (name, before, after) in [
            ("empty", "", "{\"b\"}\n"),
            ("whole", "{\"a\"}\n", "{\"a\"}\n{\"b\"}\n"),
            ("half", "{\"a\"}\n{\"datab", "{\"a\"}\n{\"b\"}\n"),
            ("only", "{", "{\"b\"}\n"),
            ("foreign", "some text", "some text\n{\"b\"}\n"),
        ] {
            let path = at(name, before);
            let mut lines = Lines::open(&path).unwrap();
            lines.write(&output("{\"b\"}\n")).unwrap();
            lines.settle().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after, "{name}");
            std::fs::remove_file(path).unwrap();
        }
    }
}
