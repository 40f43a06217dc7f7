//! Where messages go, and the thread that brings them there: what is written, acknowledged and kept, in this order.
//!
//! The law: a position is kept when everything before it is safe where it goes ([`Sink::settle`]). What cannot be written is written
//! again, with growing pauses, and nothing is read meanwhile but what the queue has room for.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::source::Failure;

use super::Teller;
use super::message::Output;
use super::state::State;

/// Messages that are written may wait so long to be made safe together.
const SETTLE: Duration = Duration::from_millis(500);
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
    /// Takes messages, in order. After an error none of them is taken, and they come again; some may be there twice then.
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

/// Lines on stdout.
#[derive(Debug)]
pub(crate) struct Stdout;

impl Sink for Stdout {
    fn write(&mut self, output: &Output) -> Result<(), Trouble> {
        let mut out = io::stdout().lock();
        out.write_all(&output.bytes).and_then(|()| out.flush()).map_err(|error| {
            Trouble::Over(Failure {
                message: "stdout cannot be written".to_owned(),
                detail: error.to_string(),
                hint: "Whoever reads it has gone: what it has not taken comes again after the next start.".to_owned(),
            })
        })
    }

    fn settle(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn name(&self) -> String {
        "stdout".to_owned()
    }
}

/// Lines at the end of a file.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
    /// What is whole of it.
    length: u64,
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
        file.seek(SeekFrom::Start(length)).map_err(failed)?;
        // A file that was made just now is there for good with its folder alone.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).ok();
        Ok(Self { path: path.to_owned(), file, length })
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
        match self.file.write_all(&output.bytes) {
            Ok(()) => {
                self.length += output.bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a line is none.
                let mended = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
                let also = mended.err().map(|error| format!("; {error}")).unwrap_or_default();
                Err(Trouble::Again(format!("the file {} cannot be written: {error}{also}", self.path.display())))
            }
        }
    }

    fn settle(&mut self) -> Result<(), Trouble> {
        let synced = self.file.sync_data();
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
                due.get_or_insert_with(|| Instant::now() + SETTLE);
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
        for path in kept.done {
            // Where it cannot go it is written over by the next of its name.
            std::fs::remove_file(path).ok();
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
}

impl Waiting {
    fn add(&mut self, batch: Batch) {
        self.position = batch.position.or(self.position.take());
        self.schemas = batch.schemas.or(self.schemas.take());
        self.done.extend(batch.done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tidemill-lines-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
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
