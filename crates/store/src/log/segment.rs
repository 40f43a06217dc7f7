//! One file of the log: `<first step, 20 digits>.log`.
//!
//! ```text
//! magic "TMlog1\0\0" | first step, 8 bytes | previous step, 8 bytes | crc32 of these, 4 bytes | records …
//! ```

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header::{self, Header, number};
use crate::files::Files;
use crate::{Error, Result};

pub(super) const HEADER_BYTES: u64 = 28;
const MAGIC: [u8; 8] = *b"TMlog1\0\0";
/// Records up to this size are written with their header in one call.
const ONE_WRITE_MAX: usize = 64 << 10;

/// A segment that is written no more.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
}

/// The segment being written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) first: u64,
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    /// End of the last whole record.
    pub(super) length: u64,
    /// End of the last synced record.
    pub(super) synced: u64,
    /// Bytes beyond `length` could not be cut off yet.
    dirty: bool,
}

/// Where the segment that begins with a step is.
pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

impl Active {
    /// Begins a segment; its name is durable when this returns.
    pub(super) fn create(dir: &Path, first: u64, previous: u64, files: &Arc<dyn Files>) -> Result<Self> {
        let path = path(dir, first);
        // A segment of this name can only be the remains of a failed attempt to create it.
        let file = files.create(&path).map_err(Error::io("create", &path))?;
        let written = files.write_at(&file, &path, &segment_header(first, previous), 0);
        if let Err(e) = written.and_then(|()| files.sync_folder(dir)) {
            // The error that is told is the first one.
            drop(files.remove(&path));
            return Err(Error::io("write", &path)(e));
        }
        Ok(Self { first, file: Arc::new(file), path, length: HEADER_BYTES, synced: HEADER_BYTES, dirty: false })
    }

    /// Whether it has no record.
    pub(super) fn is_empty(&self) -> bool {
        self.length == HEADER_BYTES
    }

    /// Cuts off what a failed write left.
    pub(super) fn clean(&mut self, files: &dyn Files) -> Result<()> {
        if self.dirty {
            files.set_len(&self.file, &self.path, self.length).map_err(Error::io("truncate", &self.path))?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Writes a record behind the last; what a failed write left is cut off.
    pub(super) fn append(&mut self, files: &dyn Files, header: &Header, record: &[u8]) -> Result<()> {
        self.clean(files)?;
        if let Err(e) = self.write(files, header, record) {
            self.dirty = true;
            // Where that fails the next append tries again.
            drop(self.clean(files));
            return Err(Error::io("append to", &self.path)(e));
        }
        self.length += header.total();
        Ok(())
    }

    fn write(&self, files: &dyn Files, header: &Header, record: &[u8]) -> std::io::Result<()> {
        let head = header.to_bytes();
        let (file, path, at) = (&self.file, &self.path, self.length);
        if record.len() <= ONE_WRITE_MAX {
            return files.write_at(file, path, &[&head[..], record].concat(), at);
        }
        files.write_at(file, path, &head, at)?;
        files.write_at(file, path, record, at + head.len() as u64)
    }

    /// Forgets what was not synced.
    pub(super) fn cut(&mut self, files: &dyn Files) -> Result<()> {
        self.dirty |= self.length > self.synced;
        self.length = self.synced;
        self.clean(files)
    }

    /// The records that were not synced, read back and checked, and the step of the first; none where all were.
    pub(super) fn unsynced(&self) -> Result<Option<(u64, Vec<u8>)>> {
        let Some(bytes) = self.length.checked_sub(self.synced).filter(|bytes| *bytes > 0) else { return Ok(None) };
        let damaged =
            |what: &str| Error::Damaged { path: self.path.clone(), offset: self.synced, what: what.to_owned() };
        let bytes = usize::try_from(bytes).map_err(|_| damaged("more than fits in memory was not synced"))?;
        let mut tail = vec![0; bytes];
        self.file.read_exact_at(&mut tail, self.synced).map_err(Error::io("read", &self.path))?;
        let (mut at, mut first) = (0, None);
        while at < tail.len() {
            let Some((header, end)) = record_at(&tail, at) else {
                return Err(damaged("what was not synced does not match its checksum"));
            };
            first.get_or_insert(header.step);
            at = end;
        }
        Ok(first.map(|step| (step, tail)))
    }

    /// Takes records from a segment whose sync failed: durable when this returns, and read back.
    pub(super) fn restore(&mut self, files: &dyn Files, records: &[u8]) -> Result<()> {
        files.write_at(&self.file, &self.path, records, self.length).map_err(Error::io("append to", &self.path))?;
        files.sync(&self.file, &self.path).map_err(Error::io("sync", &self.path))?;
        let mut back = vec![0; records.len()];
        self.file.read_exact_at(&mut back, self.length).map_err(Error::io("read", &self.path))?;
        if back != records {
            let what = "it does not read as it was written".to_owned();
            return Err(Error::Damaged { path: self.path.clone(), offset: self.length, what });
        }
        self.length += records.len() as u64;
        self.synced = self.length;
        Ok(())
    }
}

fn segment_header(first: u64, previous: u64) -> [u8; 28] {
    let mut out = [0; 28];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&first.to_le_bytes());
    out[16..24].copy_from_slice(&previous.to_le_bytes());
    let crc = crc32fast::hash(&out[..24]);
    out[24..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Checks a segment's header.
pub(super) fn check_header(bytes: &[u8], first: u64) -> bool {
    bytes.len() >= 28
        && bytes[..8] == MAGIC
        && number(&bytes[8..16]) == first
        && number(&bytes[24..28]) == u64::from(crc32fast::hash(&bytes[..24]))
}

/// Whether these bytes are a segment's header in a later form than ours.
pub(super) fn is_newer_header(bytes: &[u8]) -> bool {
    bytes.len() >= 28
        && header::is_later(&bytes[..8], &MAGIC)
        && number(&bytes[24..28]) == u64::from(crc32fast::hash(&bytes[..24]))
}

/// A file of the log is of a newer Tidemill, from a byte on.
pub(super) fn newer(path: &Path, offset: u64) -> Error {
    Error::Newer { what: format!("{}, from byte {offset} on,", path.display()) }
}

/// What a log folder holds.
pub(super) struct Found {
    pub(super) closed: Vec<Closed>,
    pub(super) active: Option<Active>,
    pub(super) last: Option<u64>,
}

/// Reads the folder, and the last segment whole.
pub(super) fn recover(dir: &Path, files: &Arc<dyn Files>) -> Result<Found> {
    let mut firsts = firsts(dir)?;
    let mut active = None;
    let mut last = None;
    while let Some(first) = firsts.pop() {
        // A segment that was being created has no record yet: the one before is the last.
        if let Some((segment, newest)) = recover_last(dir, first, &**files)? {
            (active, last) = (Some(segment), Some(newest));
            break;
        }
    }
    let mut lengths = Vec::new();
    for first in std::mem::take(&mut firsts) {
        let path = path(dir, first);
        let bytes = path.metadata().map_err(Error::io("read", &path))?.len();
        if bytes <= HEADER_BYTES {
            // Begun and never used: its removal failed. That no record is missing shows by the chain of steps.
            files.remove(&path).map_err(Error::io("remove", &path))?;
            continue;
        }
        firsts.push(first);
        lengths.push(bytes);
    }
    let ends = firsts.iter().skip(1).copied().chain(active.as_ref().map(|a| a.first));
    let mut closed = Vec::new();
    for ((first, next), bytes) in firsts.iter().zip(ends).zip(lengths) {
        // Steps may have gaps; that its last step is below the next segment's first is all one needs to know.
        closed.push(Closed { first: *first, last: next - 1, bytes });
    }
    Ok(Found { closed, active, last })
}

fn firsts(dir: &Path) -> Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        let first = name.to_str().and_then(|n| n.strip_suffix(".log")).and_then(|n| n.parse::<u64>().ok());
        firsts.extend(first);
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Opens the last segment for writing, without its torn end; none where not even its header was finished.
fn recover_last(dir: &Path, first: u64, files: &dyn Files) -> Result<Option<(Active, u64)>> {
    let path = path(dir, first);
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    if is_newer_header(&bytes) {
        return Err(newer(&path, 0));
    }
    if bytes.len() as u64 <= HEADER_BYTES && !check_header(&bytes, first) {
        files.remove(&path).map_err(Error::io("remove", &path))?;
        return Ok(None);
    }
    if !check_header(&bytes, first) {
        return Err(Error::Damaged { path, offset: 0, what: "the head of a log segment".to_owned() });
    }
    let (end, last) = scan(&path, &bytes)?;
    // Without a record it still says which step came before it.
    let last = last.unwrap_or_else(|| number(&bytes[16..24]));
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io("open", &path))?;
    if end < bytes.len() {
        tracing::warn!(file = %path.display(), cut_bytes = bytes.len() - end, "cutting a torn record off the log");
        files.set_len(&file, &path, end as u64).map_err(Error::io("truncate", &path))?;
    }
    // What a killed process appended may still be in the kernel's memory alone; it is replayed, so it must stay.
    files.sync(&file, &path).map_err(Error::io("sync", &path))?;
    let length = end as u64;
    Ok(Some((Active { first, file: Arc::new(file), path, length, synced: length, dirty: false }, last)))
}

/// Walks the records: end of the last whole one, and its step.
fn scan(path: &Path, bytes: &[u8]) -> Result<(usize, Option<u64>)> {
    let mut at = 28;
    let mut last = None;
    while at < bytes.len() {
        match record_at(bytes, at) {
            Some((header, end)) => {
                last = Some(header.step);
                at = end;
            }
            // Cut off as a torn end it would be lost.
            None if Header::is_newer(&bytes[at..]) => return Err(newer(path, at as u64)),
            None => {
                torn_or_damaged(path, bytes, at, last.unwrap_or_else(|| number(&bytes[16..24])))?;
                break;
            }
        }
    }
    Ok((at, last))
}

fn record_at(bytes: &[u8], at: usize) -> Option<(Header, usize)> {
    let header = Header::read(&bytes[at..])?;
    let end = at + header::BYTES + header.length as usize;
    let record = bytes.get(at + header::BYTES..end)?;
    header.fits(record).then_some((header, end))
}

/// A bad record is a torn end, unless a later whole record says that steps after `last` had been synced before it was
/// written: then the bad one was acknowledged, and cutting it would lose it in silence.
fn torn_or_damaged(path: &Path, bytes: &[u8], at: usize, last: u64) -> Result<()> {
    let mut from = at + 1;
    while let Some(found) = find_magic(&bytes[from..]) {
        let here = from + found;
        if let Some((header, _)) = record_at(bytes, here)
            && header.synced > last
        {
            let what = format!(
                "the record after step {last} does not match its checksum, though whole records follow it at byte {here}"
            );
            return Err(Error::Damaged { path: path.to_owned(), offset: at as u64, what });
        }
        from = here + 1;
    }
    Ok(())
}

fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == header::MAGIC)
}
