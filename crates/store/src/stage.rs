//! Staging files: what of one transaction does not fit in memory waits here, piece by piece, until a record of the log
//! names it.
//!
//! ```text
//! staged/<id, 20 digits>.open     being written; removed when the store opens
//! staged/<id, 20 digits>.stage    sealed: whole, and durable
//!
//! magic "TMstg1\0\0" | id, 8 bytes | crc32 of these, 4 bytes | pieces … | end
//! piece: length 8 | number 8 | crc32 of the bytes 4 | crc32 of these three 4 | bytes
//! end:   as a piece of length 2^64 - 1 without bytes, its number is that of all pieces
//! ```
//! Numbers are little endian.
//!
//! The laws. *An id is never given out twice*, as long as the log has a record that names it: ids grow with the steps of
//! the log. *Sealing is all or nothing*: the name changes after the bytes are durable. *What fails has done nothing*, and may
//! be tried again: bytes stay in memory until they are synced, since after a failed sync nobody knows what the disk has of
//! them, and all of them are written once more. A piece that is larger than that is synced by itself.
//! *A stage is dropped by who made it*, not before a fold has passed the step that needed it last
//! ([`crate::Store::unneeded_through`]): replay would ask for it again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::files::Files;
use crate::log::is_later;
use crate::{Error, Result, lock};

const MAGIC: [u8; 8] = *b"TMstg1\0\0";
const HEAD_BYTES: usize = 20;
const PIECE_HEAD_BYTES: usize = 24;
/// The length that the end mark has.
const END: u64 = u64::MAX;
/// Pieces are gathered up to this many bytes before they are written, and read so many at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// Ids per step of the log.
const IDS_PER_STEP: u64 = 1 << 20;

/// Names a sealed stage, in records of the log too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub u64);

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The stages of a store.
#[derive(Debug)]
pub(crate) struct Stages {
    dir: PathBuf,
    files: Arc<dyn Files>,
    /// [`crate::Options::stage_bytes`].
    sync_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest id given out.
    newest: u64,
    /// Sealed stages and their bytes.
    sealed: BTreeMap<StageId, u64>,
}

impl Stages {
    /// Finds the sealed stages, and removes those that were being written.
    pub(crate) fn open(dir: &Path, sync_bytes: usize, files: &Arc<dyn Files>) -> Result<Self> {
        let mut state = State::default();
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => Some(entries),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io("list", dir)(e)),
        };
        for entry in entries.into_iter().flatten() {
            let path = entry.map_err(Error::io("list", dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let id = |end| name.strip_suffix(end).and_then(|n: &str| n.parse::<u64>().ok());
            if id(".open").is_some() {
                files.remove(&path).map_err(Error::io("remove", &path))?;
            } else if let Some(id) = id(".stage") {
                let bytes = path.metadata().map_err(Error::io("read", &path))?.len();
                state.newest = state.newest.max(id);
                state.sealed.insert(StageId(id), bytes);
            }
        }
        Ok(Self { dir: dir.to_owned(), files: Arc::clone(files), sync_bytes, state: Mutex::new(state) })
    }

    /// Begins a stage. `last` is the log's newest step: records up to it may name the ids given out before.
    pub(crate) fn begin(self: &Arc<Self>, last: u64) -> Result<StageWriter> {
        std::fs::create_dir_all(&self.dir).map_err(Error::io("create", &self.dir))?;
        let id = {
            let mut state = lock(&self.state);
            let id = last.checked_mul(IDS_PER_STEP).map(|first| first.max(state.newest)).and_then(|n| n.checked_add(1));
            state.newest = id.ok_or(Error::Decode { what: "the ids of stages", reason: "they are used up" })?;
            StageId(state.newest)
        };
        let path = self.dir.join(format!("{:020}.open", id.0));
        let file = self.files.create(&path).map_err(Error::io("create", &path))?;
        Ok(StageWriter {
            stages: Arc::clone(self),
            id,
            path,
            file,
            buffer: head(id).to_vec(),
            written: 0,
            synced: 0,
            pieces: 0,
            is_torn: false,
            end: Ending::Open,
        })
    }

    /// The pieces of a sealed stage, from one on.
    pub(crate) fn read(&self, id: StageId, from: u64) -> Result<StageReader> {
        if !lock(&self.state).sealed.contains_key(&id) {
            return Err(Error::NoStage { id });
        }
        let mut reader = StageReader::open(self.sealed_path(id), id)?;
        while reader.next < from {
            let Some(head) = reader.piece_head()? else {
                return Err(Error::Decode { what: "a stage", reason: "it has fewer pieces than were asked for" });
            };
            reader.pass_over(head.length)?;
        }
        Ok(reader)
    }

    /// Removes a sealed stage; one that is gone already is no error.
    pub(crate) fn drop_stage(&self, id: StageId) -> Result<()> {
        if !lock(&self.state).sealed.contains_key(&id) {
            return Ok(());
        }
        let path = self.sealed_path(id);
        match self.files.remove(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("remove", &path)(e)),
        }
        lock(&self.state).sealed.remove(&id);
        Ok(())
    }

    /// The sealed stages.
    pub(crate) fn sealed(&self) -> Vec<StageId> {
        lock(&self.state).sealed.keys().copied().collect()
    }

    /// Bytes of the sealed stages.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.state).sealed.values().sum()
    }

    fn sealed_path(&self, id: StageId) -> PathBuf {
        self.dir.join(format!("{:020}.stage", id.0))
    }
}

/// Writes one stage. Dropped without [`StageWriter::seal`], its file goes.
#[derive(Debug)]
pub struct StageWriter {
    stages: Arc<Stages>,
    id: StageId,
    path: PathBuf,
    file: File,
    /// Bytes that belong behind those that were synced.
    buffer: Vec<u8>,
    /// How many of them are in the file.
    written: usize,
    /// Bytes in the file that were synced.
    synced: u64,
    pieces: u64,
    /// The file may have bytes behind these that do not belong there.
    is_torn: bool,
    end: Ending,
}

/// How far a stage has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    /// The end mark is in the buffer or written.
    Ended,
    /// It is whole and has its name, which may not be durable yet.
    Named,
    Sealed,
}

impl StageWriter {
    /// The id that the stage will have.
    pub fn id(&self) -> StageId {
        self.id
    }

    /// Pieces appended.
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// Bytes appended, with their headers.
    pub fn bytes(&self) -> u64 {
        self.synced + self.buffer.len() as u64
    }

    /// Appends a piece; it is durable once the stage is sealed.
    ///
    /// What fails has done nothing: append the same piece again, where the disk was full when there is room
    /// ([`crate::Store::wait_for_space`]), or drop the writer.
    pub fn append(&mut self, piece: &[u8]) -> Result<()> {
        if self.end != Ending::Open {
            return Err(Error::StageEnded { id: self.id });
        }
        let head = PieceHead { length: piece.len() as u64, number: self.pieces, crc: crc32fast::hash(piece) };
        let bytes = PIECE_HEAD_BYTES + piece.len();
        if self.buffer.len() + bytes > self.stages.sync_bytes {
            self.sync()?;
        } else if self.buffer.len() - self.written + bytes > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes > self.stages.sync_bytes {
            self.write_synced(&head, piece)?;
        } else {
            self.buffer.extend_from_slice(&head.to_bytes());
            self.buffer.extend_from_slice(piece);
        }
        self.pieces += 1;
        Ok(())
    }

    /// Makes the stage whole and durable. After an error it may be called again.
    pub fn seal(&mut self) -> Result<StageId> {
        match self.end {
            Ending::Sealed => return Ok(self.id),
            Ending::Named | Ending::Ended => {}
            Ending::Open => {
                self.buffer.extend_from_slice(&PieceHead { length: END, number: self.pieces, crc: 0 }.to_bytes());
                self.end = Ending::Ended;
            }
        }
        if self.end == Ending::Ended {
            self.sync()?;
            let to = self.stages.sealed_path(self.id);
            self.stages.files.rename(&self.path, &to).map_err(Error::io("rename", &self.path))?;
            self.path = to;
            self.end = Ending::Named;
        }
        self.stages.files.sync_folder(&self.stages.dir).map_err(Error::io("sync", &self.stages.dir))?;
        self.end = Ending::Sealed;
        lock(&self.stages.state).sealed.insert(self.id, self.synced);
        Ok(self.id)
    }

    /// Writes what of the buffer is not in the file.
    fn flush(&mut self) -> Result<()> {
        let files = &self.stages.files;
        let end = self.synced + self.written as u64;
        if self.is_torn {
            files.set_len(&self.file, &self.path, end).map_err(Error::io("truncate", &self.path))?;
            self.is_torn = false;
        }
        let bytes = &self.buffer[self.written..];
        if !bytes.is_empty() {
            self.is_torn = true;
            files.write_at(&self.file, &self.path, bytes, end).map_err(Error::io("append to", &self.path))?;
            self.is_torn = false;
            self.written = self.buffer.len();
        }
        Ok(())
    }

    /// Makes the buffer durable. Where that fails all of it is written anew.
    fn sync(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.flush()?;
        if let Err(e) = self.stages.files.sync(&self.file, &self.path) {
            (self.written, self.is_torn) = (0, true);
            return Err(Error::io("sync", &self.path)(e));
        }
        self.synced += self.buffer.len() as u64;
        self.written = 0;
        self.buffer.clear();
        Ok(())
    }

    /// Writes a piece that is larger than the buffer may be, behind one that is empty, and makes it durable.
    fn write_synced(&mut self, head: &PieceHead, piece: &[u8]) -> Result<()> {
        let files = &self.stages.files;
        // Whatever of it is there goes when the next bytes are written.
        let was_torn = std::mem::replace(&mut self.is_torn, true);
        if was_torn {
            files.set_len(&self.file, &self.path, self.synced).map_err(Error::io("truncate", &self.path))?;
        }
        let write = |bytes: &[u8], at: u64| {
            files.write_at(&self.file, &self.path, bytes, at).map_err(Error::io("append to", &self.path))
        };
        write(&head.to_bytes(), self.synced)?;
        write(piece, self.synced + PIECE_HEAD_BYTES as u64)?;
        files.sync(&self.file, &self.path).map_err(Error::io("sync", &self.path))?;
        self.synced += (PIECE_HEAD_BYTES + piece.len()) as u64;
        self.is_torn = false;
        Ok(())
    }
}

impl Drop for StageWriter {
    fn drop(&mut self) {
        if self.end != Ending::Sealed {
            // What cannot be removed now is removed when the store opens.
            drop(self.stages.files.remove(&self.path));
        }
    }
}

/// The pieces of a sealed stage, in order, each checked. An error ends it.
#[derive(Debug)]
pub struct StageReader {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    bytes: u64,
    /// Number of the next piece.
    next: u64,
    /// Its head, where that was read already; none in it: there is no next piece.
    ahead: Option<Option<PieceHead>>,
    is_done: bool,
}

impl StageReader {
    fn open(path: PathBuf, id: StageId) -> Result<Self> {
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let bytes = file.metadata().map_err(Error::io("read", &path))?.len();
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut reader = Self { path, file, at: 0, bytes, next: 0, ahead: None, is_done: false };
        let mut found = [0; HEAD_BYTES];
        reader.fill(&mut found)?;
        let is_whole = crc32fast::hash(&found[..16]).to_le_bytes() == found[16..];
        match found == head(id) {
            true => Ok(reader),
            false if is_whole && is_later(&found[..8], &MAGIC) => {
                Err(Error::Newer { what: reader.path.display().to_string() })
            }
            false => Err(reader.damaged(0, "the head of a stage does not match its checksum")),
        }
    }

    /// Number of the piece that comes next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether there is another piece, of which no more is read than that.
    pub fn has_next(&mut self) -> Result<bool> {
        if self.is_done {
            return Ok(false);
        }
        if self.ahead.is_none() {
            self.ahead = Some(self.piece_head()?);
        }
        Ok(matches!(self.ahead, Some(Some(_))))
    }

    /// Reads the next piece into a buffer, in place of what it holds; false at the end.
    pub fn read(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        if self.is_done {
            return Ok(false);
        }
        let read = self.read_piece(out);
        self.is_done = !matches!(read, Ok(true));
        read
    }

    fn read_piece(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let at = self.at;
        let head = match self.ahead.take() {
            Some(head) => head,
            None => self.piece_head()?,
        };
        let Some(head) = head else { return Ok(false) };
        out.clear();
        out.resize(usize::try_from(head.length).map_err(|_| self.damaged(at, "a piece is longer than memory"))?, 0);
        self.fill(out)?;
        self.next += 1;
        if crc32fast::hash(out) == head.crc {
            Ok(true)
        } else {
            Err(self.damaged(at, "a piece does not match its checksum"))
        }
    }

    /// The head of the next piece; none at the end.
    fn piece_head(&mut self) -> Result<Option<PieceHead>> {
        let at = self.at;
        let mut bytes = [0; PIECE_HEAD_BYTES];
        self.fill(&mut bytes)?;
        let head = PieceHead::read(&bytes).filter(|head| head.number == self.next);
        let left = self.bytes - self.at;
        match head {
            Some(head) if head.length == END && left == 0 => Ok(None),
            Some(head) if head.length <= left => Ok(Some(head)),
            _ => Err(self.damaged(at, "the head of a piece does not match its checksum")),
        }
    }

    fn pass_over(&mut self, bytes: u64) -> Result<()> {
        let by = i64::try_from(bytes).map_err(|_| self.damaged(self.at, "a piece is longer than memory"))?;
        self.file.seek_relative(by).map_err(Error::io("read", &self.path))?;
        self.at += bytes;
        self.next += 1;
        Ok(())
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        match self.file.read_exact(out) {
            Ok(()) => {
                self.at += out.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(self.damaged(self.at, "the stage ends too early")),
            Err(e) => Err(Error::io("read", &self.path)(e)),
        }
    }

    fn damaged(&self, offset: u64, what: &str) -> Error {
        Error::Damaged { path: self.path.clone(), offset, what: what.to_owned() }
    }
}

impl Iterator for StageReader {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut piece = Vec::new();
        self.read(&mut piece).map(|is_piece| is_piece.then_some(piece)).transpose()
    }
}

/// What stands before a piece.
#[derive(Debug)]
struct PieceHead {
    length: u64,
    number: u64,
    crc: u32,
}

impl PieceHead {
    fn to_bytes(&self) -> [u8; PIECE_HEAD_BYTES] {
        let mut out = [0; PIECE_HEAD_BYTES];
        out[..8].copy_from_slice(&self.length.to_le_bytes());
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..20].copy_from_slice(&self.crc.to_le_bytes());
        let check = crc32fast::hash(&out[..20]);
        out[20..].copy_from_slice(&check.to_le_bytes());
        out
    }

    /// Reads a head; none where these bytes are not one.
    fn read(bytes: &[u8; PIECE_HEAD_BYTES]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let head = Self {
            length: u64::from_le_bytes(*length),
            number: u64::from_le_bytes(*number),
            crc: u32::from_le_bytes(*crc),
        };
        (*rest == crc32fast::hash(&bytes[..20]).to_le_bytes()).then_some(head)
    }
}

fn head(id: StageId) -> [u8; HEAD_BYTES] {
    let mut out = [0; HEAD_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&id.0.to_le_bytes());
    let crc = crc32fast::hash(&out[..16]);
    out[16..].copy_from_slice(&crc.to_le_bytes());
    out
}
