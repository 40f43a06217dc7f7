//! What a step's log record holds: every input that changes state, as compact bytes.
//!
//! ```text
//! version 1, batches, notes                       counts and lengths are LEB128 numbers ("var")
//! batch   source var, position text, tables, transactions, chunks
//! table   id var, flags (1 = truncated, 2 = by key), rows, one weight per row (±2: unread)
//! rows    count var, the end of each row (u32, little endian), the rows' bytes as they are
//! mark    commit and read time as the difference to the mark before (zigzag var), changes var
//! chunk   id var, flags (1 = complete, 2 = some were unread), cursor, rows estimate var, rows, the unread ones if there are
//! note    name text, bytes
//! ```
//!
//! The log's checksum guards these bytes, yet decoding trusts no length: damage is an error, never a panic.

use std::borrow::Borrow;

use relation::{ChunkDone, Position, Rows, SourceBatch, TableChanges, TableId, TransactionMark};

use crate::{Error, Result};

const VERSION: u8 = 1;
/// The flag of changes that tell what becomes of a key, and not what was there.
const BY_KEY: u8 = 2;
/// The flag of a chunk of which some rows could not be read.
const SOME_UNREAD: u8 = 2;

/// The inputs of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Whole transactions and snapshot chunks, by source, in the order in which the step takes them.
    pub batches: Vec<(u32, SourceBatch)>,
    /// Other inputs by name: schema versions, clock ticks, plan swaps.
    pub notes: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The record as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends the record's bytes to a buffer.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        encode_into(&self.batches, &self.notes, out);
    }

    /// The reverse of [`Record::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut input = Input::new("a log record", bytes);
        input.version(VERSION)?;
        let mut record = Self::default();
        for _ in 0..input.count()? {
            record.batches.push((input.id()?, input.batch()?));
        }
        for _ in 0..input.count()? {
            record.notes.push((input.text()?, input.bytes()?.to_vec()));
        }
        input.end()?;
        Ok(record)
    }
}

/// As [`Record::encode_into`], of parts that need not be moved into a [`Record`].
pub fn encode_into<B: Borrow<SourceBatch>>(batches: &[(u32, B)], notes: &[(String, Vec<u8>)], out: &mut Vec<u8>) {
    let size = |batch: &SourceBatch| batch.bytes() + batch.rows() * 5 + 64;
    out.reserve(batches.iter().map(|(_, batch)| size(batch.borrow())).sum());
    out.push(VERSION);
    put_len(out, batches.len());
    for (source, batch) in batches {
        put_var(out, u64::from(*source));
        put_batch(out, batch.borrow());
    }
    put_len(out, notes.len());
    for (name, bytes) in notes {
        put_bytes(out, name.as_bytes());
        put_bytes(out, bytes);
    }
}

fn put_batch(out: &mut Vec<u8>, batch: &SourceBatch) {
    put_bytes(out, batch.position.0.as_bytes());
    put_len(out, batch.tables.len());
    for (table, changes) in &batch.tables {
        put_var(out, u64::from(table.0));
        out.push(u8::from(changes.truncated) | if changes.by_key { BY_KEY } else { 0 });
        put_rows(out, &changes.rows);
        out.extend(changes.weights.iter().map(|weight| weight.cast_unsigned()));
    }
    put_len(out, batch.transactions.len());
    let (mut commit, mut read) = (0, 0);
    for mark in &batch.transactions {
        put_var(out, zigzag(mark.commit_time_us.wrapping_sub(commit)));
        put_var(out, zigzag(mark.read_time_us.wrapping_sub(read)));
        put_var(out, u64::from(mark.changes));
        (commit, read) = (mark.commit_time_us, mark.read_time_us);
    }
    put_len(out, batch.chunks.len());
    for chunk in &batch.chunks {
        put_var(out, u64::from(chunk.table.0));
        out.push(u8::from(chunk.complete) | if chunk.unread.is_empty() { 0 } else { SOME_UNREAD });
        put_bytes(out, &chunk.cursor);
        put_var(out, chunk.rows_estimate);
        put_rows(out, &chunk.rows);
        if !chunk.unread.is_empty() {
            put_rows(out, &chunk.unread);
        }
    }
}

fn put_rows(out: &mut Vec<u8>, rows: &Rows) {
    let (bytes, ends) = rows.parts();
    put_len(out, ends.len());
    for end in ends {
        out.extend_from_slice(&end.to_le_bytes());
    }
    out.extend_from_slice(bytes);
}

/// Appends a number, seven bits to a byte.
pub(crate) fn put_var(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    put_var(out, len as u64);
}

/// Appends bytes behind their length.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63).cast_unsigned()
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
}

/// Bytes being decoded. Every read is checked against what is left.
pub(crate) struct Input<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Bytes of something that errors will name.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn bad(&self, reason: &'static str) -> Error {
        Error::Decode { what: self.what, reason }
    }

    /// It has something that this Tidemill does not know. The checksum of what holds these bytes is looked at before they are read.
    pub(crate) fn newer(&self, has: &str) -> Error {
        Error::Newer { what: format!("{}, which has {has} that is not known here,", self.what) }
    }

    /// The version that comes next, which is to be ours.
    pub(crate) fn version(&mut self, ours: u8) -> Result<()> {
        match self.byte()? {
            found if found == ours => Ok(()),
            found if found > ours => Err(self.newer("a version")),
            _ => Err(self.bad("unknown version")),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.bad("it ends too early"));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad("unknown flag")),
        }
    }

    pub(crate) fn var(&mut self) -> Result<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(self.bad("number out of range"));
            }
            n |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(self.bad("number out of range"))
    }

    /// A number of things that take a byte each at least.
    pub(crate) fn count(&mut self) -> Result<usize> {
        let n = self.var()?;
        match usize::try_from(n) {
            Ok(n) if n <= self.rest.len() => Ok(n),
            _ => Err(self.bad("more announced than there is")),
        }
    }

    pub(crate) fn id(&mut self) -> Result<u32> {
        u32::try_from(self.var()?).map_err(|_| self.bad("number out of range"))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.count()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| self.bad("text is not UTF-8"))
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.bad("bytes left over")) }
    }

    fn batch(&mut self) -> Result<SourceBatch> {
        let mut batch = SourceBatch { position: Position(self.text()?), ..SourceBatch::default() };
        for _ in 0..self.count()? {
            let table = TableId(self.id()?);
            let flags = self.byte()?;
            if flags > 1 | BY_KEY {
                return Err(self.newer("changes of a kind"));
            }
            let (truncated, by_key) = (flags & 1 != 0, flags & BY_KEY != 0);
            let rows = self.rows()?;
            let weights = self.take(rows.len())?.iter().map(|byte| byte.cast_signed()).collect();
            batch.tables.push((table, TableChanges { rows, weights, truncated, by_key }));
        }
        let (mut commit_time_us, mut read_time_us) = (0_i64, 0_i64);
        for _ in 0..self.count()? {
            commit_time_us = commit_time_us.wrapping_add(unzigzag(self.var()?));
            read_time_us = read_time_us.wrapping_add(unzigzag(self.var()?));
            batch.transactions.push(TransactionMark { commit_time_us, read_time_us, changes: self.id()? });
        }
        for _ in 0..self.count()? {
            let table = TableId(self.id()?);
            let flags = self.byte()?;
            if flags > 1 | SOME_UNREAD {
                return Err(self.newer("a portion of a kind"));
            }
            let (complete, is_unread) = (flags & 1 != 0, flags & SOME_UNREAD != 0);
            let cursor = self.bytes()?.to_vec();
            let rows_estimate = self.var()?;
            let rows = self.rows()?;
            let unread = if is_unread { self.rows()? } else { Rows::new() };
            batch.chunks.push(ChunkDone { table, cursor, complete, rows, unread, rows_estimate });
        }
        Ok(batch)
    }

    fn rows(&mut self) -> Result<Rows> {
        let count = self.count()?;
        let ends = self.take(count * 4)?;
        let (ends, _) = ends.as_chunks::<4>();
        let ends: Vec<u32> = ends.iter().map(|end| u32::from_le_bytes(*end)).collect();
        let len = ends.last().copied().unwrap_or(0);
        let bytes = self.take(len as usize)?.to_vec();
        Rows::from_parts(bytes, ends).map_err(|_| self.bad("row ends do not match their bytes"))
    }
}
