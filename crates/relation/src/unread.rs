//! Rows that a source could not read, among the changes of their table.
//!
//! Such a row stands at its place among the rows ([`crate::TableChanges`]), so that whatever is done with these (they are
//! cut into parts, taken back, passed over, put off) is done with it. What it is known by: its key where that can be read,
//! else the bytes of its image, of which a hash is kept.

use crate::{Error, Result};

/// A row that could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unread {
    /// Its key as [`crate::key`] encodes it; empty where it cannot be read, or the table has none.
    pub key: Vec<u8>,
    /// A hash of its image: what the same row is known by where there is no key.
    pub image: [u8; 16],
    /// What could be read of the row; empty of one that goes.
    pub row: String,
    /// Why it could not be read, as a sentence.
    pub reason: String,
    /// Where in the source's log it stands.
    pub position: String,
    /// When it was read, in microseconds since 1970 by our clock.
    pub at_us: i64,
}

impl Unread {
    /// Appends it as bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.image);
        out.extend_from_slice(&self.at_us.to_le_bytes());
        for part in [&self.key[..], self.row.as_bytes(), self.reason.as_bytes(), self.position.as_bytes()] {
            // A key has a few KiB at most, and what is shown of a row is cut.
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(part);
        }
    }

    /// The reverse of [`Unread::write`]. Errors: bytes that are not as they were written.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).ok_or(Error::Damaged("a row that could not be read"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (image, rest) = bytes.split_first_chunk::<16>()?;
        let (at, mut rest) = rest.split_first_chunk::<8>()?;
        let mut part = || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let (part, behind) = behind.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            rest = behind;
            Some(part.to_vec())
        };
        let key = part()?;
        let mut text = || String::from_utf8(part()?).ok();
        let (row, reason, position) = (text()?, text()?, text()?);
        let read = Self { key, image: *image, row, reason, position, at_us: i64::from_le_bytes(*at) };
        rest.is_empty().then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_out_of_its_bytes_and_damage_is_an_error() {
        let unread = Unread {
            key: vec![1, 0, 255],
            image: [7; 16],
            row: "{\"id\":1}".to_owned(),
            reason: "ä".to_owned(),
            position: "binlog.1:4".to_owned(),
            at_us: -3,
        };
        let mut bytes = Vec::new();
        unread.write(&mut bytes);
        assert_eq!(Unread::read(&bytes).unwrap(), unread);
        for cut in 0..bytes.len() {
            Unread::read(&bytes[..cut]).unwrap_err();
        }
        bytes.push(0);
        Unread::read(&bytes).unwrap_err();
    }
}
