//! The header of a log record.
//!
//! ```text
//! magic     4 bytes  "TMr1"; the digit is the format's version
//! length    4        bytes of the record behind the header
//! step      8
//! previous  8        step of the record before: a missing segment shows
//! synced    8        newest step known to be durable when this was written: tells a torn end from later damage
//! crc       4        crc32 of the record
//! check     4        crc32 of the header's other bytes
//! ```
//! Numbers are little endian.

use crate::{Error, Result};

pub(super) const MAGIC: [u8; 4] = *b"TMr1";
pub(super) const BYTES: usize = 40;

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: u32,
    pub(super) step: u64,
    pub(super) previous: u64,
    pub(super) synced: u64,
    pub(super) crc: u32,
}

impl Header {
    /// The header of a record. Errors: a record of 4 GiB or more, of which nothing is read then.
    pub(super) fn of(step: u64, previous: u64, synced: u64, record: &[u8]) -> Result<Self> {
        let Ok(length) = u32::try_from(record.len()) else {
            return Err(Error::RecordTooLarge { bytes: record.len() as u64, max: u64::from(u32::MAX) });
        };
        Ok(Self { length, step, previous, synced, crc: crc32fast::hash(record) })
    }

    pub(super) fn to_bytes(self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&self.length.to_le_bytes());
        out[8..16].copy_from_slice(&self.step.to_le_bytes());
        out[16..24].copy_from_slice(&self.previous.to_le_bytes());
        out[24..32].copy_from_slice(&self.synced.to_le_bytes());
        out[32..36].copy_from_slice(&self.crc.to_le_bytes());
        let check = crc32fast::hash(&out[..36]);
        out[36..].copy_from_slice(&check.to_le_bytes());
        out
    }

    /// Reads a header; none where these bytes are not one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.get(..BYTES)?.try_into().ok()?;
        let intact = bytes[..4] == MAGIC && number(&bytes[36..]) == u64::from(crc32fast::hash(&bytes[..36]));
        intact.then(|| Self {
            length: half(&bytes[4..8]),
            step: number(&bytes[8..16]),
            previous: number(&bytes[16..24]),
            synced: number(&bytes[24..32]),
            crc: half(&bytes[32..36]),
        })
    }

    /// Whether these bytes are the header of a record in a later form than ours.
    pub(super) fn is_newer(bytes: &[u8]) -> bool {
        let Some(bytes) = bytes.get(..BYTES) else { return false };
        is_later(&bytes[..4], &MAGIC) && number(&bytes[36..]) == u64::from(crc32fast::hash(&bytes[..36]))
    }

    /// Bytes of header and record together.
    pub(super) fn total(&self) -> u64 {
        BYTES as u64 + u64::from(self.length)
    }

    /// Whether these are the bytes that the header was written for.
    pub(super) fn fits(&self, record: &[u8]) -> bool {
        record.len() == self.length as usize && crc32fast::hash(record) == self.crc
    }
}

/// Whether magic bytes are ours but for their digit, which is a higher one.
pub(crate) fn is_later(found: &[u8], ours: &[u8]) -> bool {
    let mut differ = found.iter().zip(ours).filter(|(found, ours)| found != ours);
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let is_higher = differ.next().is_some_and(|(found, ours)| is_digit(found) && is_digit(ours) && found > ours);
    found.len() == ours.len() && is_higher && differ.next().is_none()
}

/// A little-endian number of up to eight bytes.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn half(bytes: &[u8]) -> u32 {
    u32::try_from(number(bytes)).unwrap_or(u32::MAX)
}
