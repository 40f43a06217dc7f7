//! The rows of the transaction that is open, rendered but for what only its end tells: its number, and which row was the last.
//!
//! The law: a row waits here until its transaction is committed, in memory up to [`HELD_BYTES`] and beyond that compressed in a file,
//! so that a transaction of any size takes no more memory than a small one. What was rolled back was never handed on.
//!
//! A row is its lengths (head, tail, key, topic) and its partition's hash, in 20 bytes, and behind them these four.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Rendered rows that are held in memory.
pub(crate) const HELD_BYTES: usize = 8 << 20;
const HEADER_BYTES: usize = 20;
/// Fast, and a fifth of the size.
const ZSTD_LEVEL: i32 = 1;

/// A row's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// Up to its time.
    pub(crate) head: &'a [u8],
    /// Behind what its transaction tells.
    pub(crate) tail: &'a [u8],
    /// Those of Kafka; empty for other places.
    pub(crate) key: &'a [u8],
    pub(crate) topic: &'a [u8],
    pub(crate) hash: i32,
}

/// Rows in their order.
#[derive(Debug)]
pub(crate) struct Rows {
    held: Vec<u8>,
    /// Where the row begins that is being written.
    open: usize,
    spill: Option<Spill>,
    pub(crate) count: u64,
    folder: PathBuf,
    held_max: usize,
}

#[derive(Debug)]
struct Spill {
    file: File,
    path: PathBuf,
}

impl Drop for Spill {
    fn drop(&mut self) {
        // It is of a transaction that is done with, or read again after a restart.
        std::fs::remove_file(&self.path).ok();
    }
}

impl Rows {
    /// None yet; what does not fit in memory goes into a file of this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self::bounded(folder, HELD_BYTES)
    }

    pub(crate) fn bounded(folder: &Path, held_max: usize) -> Self {
        Self { held: Vec::new(), open: 0, spill: None, count: 0, folder: folder.to_owned(), held_max }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether some are in a file.
    pub(crate) fn is_large(&self) -> bool {
        self.spill.is_some()
    }

    /// Begins a row: its head is to be appended to what this answers.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.open = self.held.len();
        self.held.extend_from_slice(&[0; HEADER_BYTES]);
        &mut self.held
    }

    /// The row that is being written.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.held
    }

    /// Bytes of the row that is being written.
    pub(crate) fn length(&self) -> usize {
        self.held.len() - self.open - HEADER_BYTES
    }

    /// The row that is being written is none.
    pub(crate) fn forget(&mut self) {
        self.held.truncate(self.open);
    }

    /// Ends a row whose head has so many bytes, its tail so many and its key so many; the rest is its topic.
    pub(crate) fn end(&mut self, head: usize, tail: usize, key: usize, hash: i32) -> io::Result<()> {
        let topic = self.length() - head - tail - key;
        let lengths = [head, tail, key, topic];
        let place = &mut self.held[self.open..self.open + HEADER_BYTES];
        for (slot, length) in place.chunks_exact_mut(4).zip(lengths) {
            let length = u32::try_from(length).map_err(|_| io::Error::other("a row of more than 4 GiB"))?;
            slot.copy_from_slice(&length.to_le_bytes());
        }
        place[16..].copy_from_slice(&hash.to_le_bytes());
        self.count += 1;
        if self.held.len() >= self.held_max { self.spill() } else { Ok(()) }
    }

    /// What is held goes into the file.
    fn spill(&mut self) -> io::Result<()> {
        if self.spill.is_none() {
            let path = self.folder.join("transaction.rows");
            let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
            self.spill = Some(Spill { file, path });
        }
        let Some(Spill { file, .. }) = &mut self.spill else { return Ok(()) };
        write_block(file, &self.held)?;
        self.held.clear();
        Ok(())
    }

    /// All rows go.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        if self.held.capacity() > 2 * self.held_max {
            self.held = Vec::new();
        }
        self.spill = None;
        self.count = 0;
        self.open = 0;
    }

    /// The rows that are held in memory.
    pub(crate) fn held(&self) -> RowsOf<'_> {
        RowsOf { rest: &self.held }
    }

    /// Takes all rows, to be read block by block; there are none left here.
    pub(crate) fn take(&mut self) -> io::Result<Blocks> {
        let held = std::mem::take(&mut self.held);
        let spill = self.spill.take();
        self.clear();
        Blocks::new(spill, held)
    }

    /// Keeps all rows in a file that outlives this process, durably; there are none left here.
    pub(crate) fn keep(&mut self, path: &Path) -> io::Result<()> {
        let half = path.with_added_extension("new");
        let mut file = File::create(&half)?;
        if let Some(spill) = &mut self.spill {
            spill.file.seek(SeekFrom::Start(0))?;
            io::copy(&mut spill.file, &mut file)?;
        }
        if !self.held.is_empty() {
            write_block(&mut file, &self.held)?;
        }
        file.sync_all()?;
        std::fs::rename(&half, path)?;
        self.clear();
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Rows that [`Rows::keep`] has kept.
    pub(crate) fn kept(path: &Path) -> io::Result<Blocks> {
        Ok(Blocks { file: Some(BufReader::new(File::open(path)?)), _spill: None, last: Vec::new() })
    }
}

fn write_block(file: &mut File, rows: &[u8]) -> io::Result<()> {
    let packed = zstd::bulk::compress(rows, ZSTD_LEVEL)?;
    let lengths = [packed.len(), rows.len()].map(|length| (length as u64).to_le_bytes());
    file.write_all(&lengths.concat())?;
    file.write_all(&packed)
}

/// Rows one block after the other.
#[derive(Debug)]
pub(crate) struct Blocks {
    file: Option<BufReader<File>>,
    /// Goes when they have been read.
    _spill: Option<Spill>,
    /// What is in no file.
    last: Vec<u8>,
}

impl Blocks {
    fn new(spill: Option<Spill>, last: Vec<u8>) -> io::Result<Self> {
        let Some(mut spill) = spill else { return Ok(Self { file: None, _spill: None, last }) };
        spill.file.seek(SeekFrom::Start(0))?;
        let file = Some(BufReader::new(spill.file.try_clone()?));
        Ok(Self { file, _spill: Some(spill), last })
    }

    /// The next rows; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(file) = &mut self.file {
            let mut lengths = [0; 16];
            match file.read_exact(&mut lengths) {
                Ok(()) => {
                    let number =
                        |bytes: &[u8]| bytes.iter().rev().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
                    let size = |bytes: &[u8]| usize::try_from(number(bytes)).map_err(io::Error::other);
                    let mut packed = vec![0; size(&lengths[..8])?];
                    file.read_exact(&mut packed)?;
                    return zstd::bulk::decompress(&packed, size(&lengths[8..])?).map(Some);
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.file = None,
                Err(error) => return Err(error),
            }
        }
        let last = std::mem::take(&mut self.last);
        Ok(Some(last).filter(|last| !last.is_empty()))
    }
}

/// Rows of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowsOf<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Iterator for RowsOf<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let (header, behind) = self.rest.split_first_chunk::<HEADER_BYTES>()?;
        self.rest = behind;
        let mut part = |at: usize| {
            let length = u32::from_le_bytes(*header[at..].first_chunk::<4>()?);
            let (part, behind) = self.rest.split_at_checked(length as usize)?;
            self.rest = behind;
            Some(part)
        };
        let (head, tail, key, topic) = (part(0)?, part(4)?, part(8)?, part(12)?);
        Some(Row { head, tail, key, topic, hash: i32::from_le_bytes(*header[16..].first_chunk::<4>()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tidemill-rows-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn push(rows: &mut Rows, number: usize) {
        let out = rows.begin();
        out.extend_from_slice(format!("head{number}").as_bytes());
        let head = rows.length();
        rows.out().extend_from_slice(format!("tail {number}").as_bytes());
        let tail = rows.length() - head;
        rows.out().extend_from_slice(b"key");
        rows.out().extend_from_slice(b"topic");
        rows.end(head, tail, 3, -5).unwrap();
    }

    fn read(mut blocks: Blocks) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(block) = blocks.next().unwrap() {
            for row in (RowsOf { rest: &block }) {
                assert_eq!((row.key, row.topic, row.hash), (&b"key"[..], &b"topic"[..], -5));
                out.push(format!("{} {}", String::from_utf8_lossy(row.head), String::from_utf8_lossy(row.tail)));
            }
        }
        out
    }

    #[test]
    fn rows_come_back_in_their_order_wherever_they_were() {
        let folder = folder("order");
        let wanted: Vec<String> = (0..50).map(|number| format!("head{number} tail {number}")).collect();
        for held_max in [64, 500, 1 << 20] {
            let mut rows = Rows::bounded(&folder, held_max);
            (0..50).for_each(|number| push(&mut rows, number));
            assert_eq!((rows.count, rows.is_large()), (50, held_max < 1 << 20));
            assert_eq!(read(rows.take().unwrap()), wanted);
            assert!(rows.is_empty());
            (0..50).for_each(|number| push(&mut rows, number));
            let path = folder.join("kept");
            rows.keep(&path).unwrap();
            assert_eq!(read(Rows::kept(&path).unwrap()), wanted);
            assert!(!folder.join("transaction.rows").exists(), "nothing is left behind");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_row_that_is_none_leaves_nothing() {
        let folder = folder("none");
        let mut rows = Rows::new(&folder);
        push(&mut rows, 1);
        rows.begin().extend_from_slice(b"half a row");
        rows.forget();
        push(&mut rows, 2);
        let heads: Vec<&[u8]> = rows.held().map(|row| row.head).collect();
        assert_eq!(heads, [b"head1", b"head2"]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
