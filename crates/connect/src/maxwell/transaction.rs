//! The rows of the transaction that is open, rendered but for what only its end tells: its number, and which row was the last.
//!
//! The law: a row waits here until its transaction is committed, in memory up to [`HELD_BYTES`] and beyond that compressed in a file,
//! so that a transaction of any size takes no more memory than a small one. What was rolled back was never handed on. Rows come back
//! all or not at all: how many there are is known beside the file, and a block that cannot be read is tried again from its beginning.
//!
//! A row is its lengths (head, tail, key, topic) and its partition's hash, in 20 bytes, and behind them these four. A block is how long
//! it is packed and unpacked, how many rows it has, and a sum over these and the packed bytes ([`BLOCK_BYTES`] of head), and behind them
//! the packed bytes. A file that outlives the process begins with [`MAGIC`], the number of its rows, and a sum over these.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Rendered rows that are held in memory.
pub(crate) const HELD_BYTES: usize = 8 << 20;
const HEADER_BYTES: usize = 20;
/// What is before the packed rows of a block.
const BLOCK_BYTES: usize = 32;
/// What a file of rows begins with, and the length of that with the number of rows and a sum over both.
const MAGIC: [u8; 8] = *b"tm-rows1";
const HEAD_BYTES: usize = 24;
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
    /// How many are held.
    held_count: u64,
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
        Self { held: Vec::new(), held_count: 0, open: 0, spill: None, count: 0, folder: folder.to_owned(), held_max }
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
        self.held_count += 1;
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
        write_block(file, &self.held, self.held_count)?;
        self.held.clear();
        self.held_count = 0;
        Ok(())
    }

    /// All rows go.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        self.held_count = 0;
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
        let (count, last_count) = (self.count, self.held_count);
        let (last, spill) = (std::mem::take(&mut self.held), self.spill.take());
        self.clear();
        let file: Option<Box<dyn Source>> = match &spill {
            Some(spill) => Some(Box::new(BufReader::new(spill.file.try_clone()?))),
            None => None,
        };
        Ok(Blocks { file, _spill: spill, last, last_count, at: 0, left: count, count })
    }

    /// Keeps all rows in a file that outlives this process, durably; there are none left here.
    pub(crate) fn keep(&mut self, path: &Path) -> io::Result<()> {
        let half = path.with_added_extension("new");
        let mut file = File::create(&half)?;
        let head = [MAGIC, self.count.to_le_bytes()].concat();
        file.write_all(&head)?;
        file.write_all(&u64::from(crc32fast::hash(&head)).to_le_bytes())?;
        if let Some(spill) = &mut self.spill {
            spill.file.seek(SeekFrom::Start(0))?;
            io::copy(&mut spill.file, &mut file)?;
        }
        if !self.held.is_empty() {
            write_block(&mut file, &self.held, self.held_count)?;
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
        Blocks::of(Box::new(BufReader::new(File::open(path)?)))
    }
}

fn write_block(file: &mut File, rows: &[u8], count: u64) -> io::Result<()> {
    let packed = zstd::bulk::compress(rows, ZSTD_LEVEL)?;
    let head = [packed.len() as u64, rows.len() as u64, count].map(u64::to_le_bytes).concat();
    file.write_all(&head)?;
    file.write_all(&sum_of(&head, &packed).to_le_bytes())?;
    file.write_all(&packed)
}

fn sum_of(head: &[u8], packed: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(packed);
    u64::from(hasher.finalize())
}

/// Where blocks are read from.
trait Source: Read + Seek + Send {}

impl<T: Read + Seek + Send> Source for T {}

/// Rows one block after the other.
pub(crate) struct Blocks {
    file: Option<Box<dyn Source>>,
    /// Goes when they have been read.
    _spill: Option<Spill>,
    /// What is in no file.
    last: Vec<u8>,
    last_count: u64,
    /// Where the next block begins in the file.
    at: u64,
    /// Rows that have not come back yet.
    left: u64,
    count: u64,
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, left, count, .. } = self;
        f.debug_struct("Blocks").field("at", at).field("left", left).field("count", count).finish_non_exhaustive()
    }
}

impl Blocks {
    /// Those of a file that was kept.
    fn of(mut file: Box<dyn Source>) -> io::Result<Self> {
        let mut head = [0; HEAD_BYTES];
        file.read_exact(&mut head).map_err(cut_short)?;
        if !head.starts_with(&MAGIC) || u64::from(crc32fast::hash(&head[..16])) != number(&head, 2) {
            return Err(damaged());
        }
        let (at, count) = (HEAD_BYTES as u64, number(&head, 1));
        Ok(Self { file: Some(file), _spill: None, last: Vec::new(), last_count: 0, at, left: count, count })
    }

    /// How many rows there are, with those that have come back.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The next rows; none at the end. Errors: not all of them can be read; called again it tries the same ones.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.left == 0 {
            self.file = None;
            return Ok(None);
        }
        let (rows, count, behind) = match &mut self.file {
            Some(file) if self.left > self.last_count => read_block(file.as_mut(), self.at)?,
            _ => (std::mem::take(&mut self.last), self.last_count, self.at),
        };
        self.left = self.left.checked_sub(count).filter(|_| count > 0).ok_or_else(damaged)?;
        self.at = behind;
        Ok(Some(rows))
    }
}

/// The rows of a block, how many there are, and where the next one begins.
fn read_block(file: &mut dyn Source, at: u64) -> io::Result<(Vec<u8>, u64, u64)> {
    // It may stand anywhere behind a read that has failed.
    file.seek(SeekFrom::Start(at))?;
    let mut head = [0; BLOCK_BYTES];
    file.read_exact(&mut head).map_err(cut_short)?;
    let mut packed = Vec::new();
    // Not made room for before it is there: a head that is damaged may say anything.
    let length = number(&head, 0);
    file.take(length).read_to_end(&mut packed)?;
    if packed.len() as u64 != length {
        return Err(cut_short(io::ErrorKind::UnexpectedEof.into()));
    }
    if sum_of(&head[..24], &packed) != number(&head, 3) {
        return Err(damaged());
    }
    let rows = zstd::bulk::decompress(&packed, usize::try_from(number(&head, 1)).map_err(io::Error::other)?)?;
    let count = number(&head, 2);
    match (RowsOf { rest: &rows }).count() as u64 == count {
        true => Ok((rows, count, at + BLOCK_BYTES as u64 + length)),
        false => Err(damaged()),
    }
}

/// One of the numbers at the head of a file or block.
fn number(head: &[u8], at: usize) -> u64 {
    head.get(8 * at..).and_then(<[u8]>::first_chunk::<8>).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn cut_short(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "a file of rows is cut short"),
        _ => error,
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a file of rows is damaged")
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

    /// A file of which a read fails.
    struct Faulty {
        file: File,
        reads: u32,
        fails_at: u32,
    }

    impl Read for Faulty {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.reads += 1;
            if self.reads == self.fails_at {
                // As far as it has come, it has read.
                let half = buf.len() / 2;
                self.file.read_exact(&mut buf[..half]).ok();
                return Err(io::Error::other("the disk does not answer"));
            }
            self.file.read(buf)
        }
    }

    impl Seek for Faulty {
        fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
            self.file.seek(place)
        }
    }

    #[test]
    fn what_could_not_be_read_is_read_again_and_none_is_passed_over() {
        let folder = folder("faulty");
        let path = folder.join("kept");
        let mut rows = Rows::bounded(&folder, 200);
        (0..50).for_each(|number| push(&mut rows, number));
        rows.keep(&path).unwrap();
        let wanted = read(Rows::kept(&path).unwrap());
        assert_eq!(wanted.len(), 50);
        for fails_at in 2..25 {
            let file = Faulty { file: File::open(&path).unwrap(), reads: 0, fails_at };
            let mut blocks = Blocks::of(Box::new(file)).unwrap();
            let (mut out, mut faults) = (Vec::new(), 0);
            loop {
                match blocks.next() {
                    Ok(None) => break,
                    Ok(Some(block)) => out.extend(RowsOf { rest: &block }.map(|row| {
                        format!("{} {}", String::from_utf8_lossy(row.head), String::from_utf8_lossy(row.tail))
                    })),
                    Err(_) => faults += 1,
                }
            }
            assert_eq!((out, faults), (wanted.clone(), 1), "the read {fails_at}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_lacks_rows_never_ends_well() {
        let folder = folder("short");
        let path = folder.join("kept");
        let mut rows = Rows::bounded(&folder, 200);
        (0..50).for_each(|number| push(&mut rows, number));
        rows.keep(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let ends_badly = |bytes: &[u8], what: &str| {
            std::fs::write(&path, bytes).unwrap();
            let Ok(mut blocks) = Rows::kept(&path) else { return };
            for _ in 0..100 {
                match blocks.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{what}: it ends as if all had come"),
                    Err(_) => {
                        assert!(blocks.next().is_err(), "{what}: it is the same the next time");
                        return;
                    }
                }
            }
            panic!("{what}: it does not end");
        };
        for length in 0..whole.len() {
            ends_badly(&whole[..length], &format!("{length} bytes"));
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            ends_badly(&flipped, &format!("byte {at}"));
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
