//! Which keys a portion had rows of, as far as a marker can hold that: for who asks whether a row of a key may be there.
//!
//! A Bloom filter of some ten bits a key: what was sent is always told, and of a hundred keys that were not one is taken for one that was.

use relation::key::hash128;

use super::facts::number;

/// Bits of a key, and how many of all it sets.
const BITS: usize = 10;
const SET: u64 = 7;

/// Keys of a portion's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent(Vec<u8>);

impl Sent {
    pub(super) fn of<'a>(count: usize, keys: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut bytes = vec![0; (count * BITS).div_ceil(8)];
        for key in keys {
            for bit in bits(key, bytes.len()) {
                bytes[bit / 8] |= 1 << (bit % 8);
            }
        }
        Self(bytes)
    }

    /// Whether a row of a key may have been sent.
    pub(super) fn may_have(&self, key: &[u8]) -> bool {
        !self.0.is_empty() && bits(key, self.0.len()).all(|bit| self.0[bit / 8] & 1 << (bit % 8) != 0)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// The bits of a key among those of so many bytes.
fn bits(key: &[u8], bytes: usize) -> impl Iterator<Item = usize> {
    let hash = hash128(key);
    let half = |from: usize| number(&hash[from..from + 8]).unwrap_or_default();
    let first = mixed(half(0) ^ mixed(half(8)));
    let (step, all) = (mixed(first) | 1, bytes as u64 * 8);
    (0..SET).map(move |i| usize::try_from(first.wrapping_add(i.wrapping_mul(step)) % all).unwrap_or_default())
}

/// Keys that are alike have hashes that are alike in some of their bits (the end of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_told_and_little_else() {
        let keys: Vec<[u8; 8]> = (0..1_000_u64).map(u64::to_be_bytes).collect();
        let sent = Sent::of(keys.len(), keys.iter().map(|key| &key[..]));
        let sent = Sent::of_bytes(sent.bytes());
        assert_eq!(sent.bytes().len(), 1_250);
        assert!(keys.iter().all(|key| sent.may_have(key)));
        let others = (1_000..11_000_u64).filter(|key| sent.may_have(&key.to_be_bytes())).count();
        assert!(others < 300, "{others}");
        assert!(!Sent::of(0, std::iter::empty()).may_have(b"k"));
    }
}
