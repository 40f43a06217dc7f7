//! What MariaDB compresses: whole events (`log_bin_compress`) and single columns (`COMPRESSED`).

use std::io::Read;

use flate2::read::{DeflateDecoder, ZlibDecoder};

use super::DecodeError;
use super::rows::header_length;

/// Uncompressed bytes of one event or column: the server's own limit of a packet.
const INFLATED_BYTES_MAX: usize = 1 << 30;

/// MariaDB's compressed rows events, and the plain events that they become.
const COMPRESSED_ROWS: [(u8, u8); 6] = [(166, 23), (167, 24), (168, 25), (169, 30), (170, 31), (171, 32)];

/// Unpacks a compressed rows event of MariaDB: returns the type of the plain event and its payload.
///
/// None for an event type that is not compressed. `payload` is the event without its header and checksum.
pub fn inflate_mariadb(event_type: u8, payload: &[u8]) -> Result<Option<(u8, Vec<u8>)>, DecodeError> {
    let Some((_, plain)) = COMPRESSED_ROWS.iter().find(|(compressed, _)| *compressed == event_type) else {
        return Ok(None);
    };
    let header = header_length(*plain, payload)?;
    let (head, block) = payload.split_at_checked(header).ok_or(DecodeError::Damaged("header of a compressed event"))?;
    let mut out = head.to_vec();
    out.append(&mut inflate_mariadb_block(block)?);
    Ok(Some((*plain, out)))
}

/// Unpacks a compressed block of MariaDB's log: the rows of an event, or the text of a compressed query event (165).
pub fn inflate_mariadb_block(block: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let damaged = DecodeError::Damaged("compressed block");
    let (&first, rest) = block.split_first().ok_or(damaged.clone())?;
    // The highest bit marks a compressed block, the next three its algorithm, the lowest three the width of its length.
    if first & 0xf0 != 0x80 {
        return Err(damaged);
    }
    inflate(first, rest, |data| Box::new(ZlibDecoder::new(data))).ok_or(damaged)
}

/// Unpacks the value of a compressed column: a first byte 0 means that the value stands there as it is.
pub(crate) fn inflate_column(value: &[u8]) -> Option<Vec<u8>> {
    match value.split_first() {
        None => Some(Vec::new()),
        Some((0, plain)) => Some(plain.to_vec()),
        Some((first @ 0x80..=0x87, rest)) => inflate(*first, rest, |data| Box::new(ZlibDecoder::new(data))),
        Some((first @ 0x88..=0x8f, rest)) => inflate(*first, rest, |data| Box::new(DeflateDecoder::new(data))),
        Some(_) => None,
    }
}

/// Reads the length, of `first`'s lowest three bits in bytes, and inflates exactly so much.
fn inflate<'a>(first: u8, rest: &'a [u8], decoder: impl Fn(&'a [u8]) -> Box<dyn Read + 'a>) -> Option<Vec<u8>> {
    let (length, data) = rest.split_at_checked(usize::from(first & 7))?;
    let length = length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    if length > INFLATED_BYTES_MAX {
        return None;
    }
    let mut out = Vec::with_capacity(length);
    decoder(data).take(length as u64 + 1).read_to_end(&mut out).ok()?;
    (out.len() == length).then_some(out)
}
