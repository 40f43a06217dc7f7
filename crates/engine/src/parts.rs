//! Several byte strings as one: each behind its length.

/// The parts, one after the other.
#[expect(clippy::cast_possible_truncation, reason = "texts are a few KiB, and a row of MySQL is at most 1 GiB")]
pub(crate) fn join(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
}

/// The reverse of [`join`]; none where the bytes are cut off.
pub(crate) fn split(mut rest: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (part, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        parts.push(part);
        rest = tail;
    }
    Some(parts)
}
