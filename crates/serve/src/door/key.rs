//! Keys: what a program says instead of a user's password, over HTTP (`Authorization: Bearer tm_…`).
//!
//! A key is random, so that a single keyed hash of it is enough to know it again by; it is shown when it is made and kept
//! nowhere. Its last letters are a checksum: one that was cut while it was copied is told from one that is not known.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::gen_salted_password;

use super::user::{generated_password, is_same};

/// What all keys begin with: whoever finds one knows what it is of.
pub const KEY_PREFIX: &str = "tm_";
/// Letters of the checksum.
const CHECK_LETTERS: usize = 6;
/// What the hash is made under: it must be the same in each process.
const SALT: &[u8] = b"key of a program";

/// What is kept of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its hash, in Base64.
    pub hash: String,
    /// Name of the role by which it reads.
    pub role: String,
    /// When it was made, in microseconds since 1970.
    pub made_us: i64,
    /// From when on it is not known any more; none for a key that stays.
    pub expires_us: Option<i64>,
}

impl Key {
    /// A new key, and what is said to be let in by it.
    pub fn generated(role: &str, made_us: i64, expires_us: Option<i64>) -> (Self, String) {
        let secret = generated_password();
        let word = format!("{KEY_PREFIX}{secret}{}", check_of(&secret));
        (Self { hash: STANDARD.encode(hash_of(&word)), role: role.to_owned(), made_us, expires_us }, word)
    }

    /// Whether these words are the key.
    pub(super) fn is_of(&self, hash: &[u8]) -> bool {
        STANDARD.decode(&self.hash).is_ok_and(|known| is_same(&known, hash))
    }

    /// Whether it is still known at some time. Without a time, one that ends is not.
    pub(super) fn lasts(&self, now_us: Option<i64>) -> bool {
        self.expires_us.is_none_or(|end| now_us.is_some_and(|now| now < end))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is printed ends in logs.
        f.debug_struct("Key").field("role", &self.role).finish_non_exhaustive()
    }
}

/// The hash of what was said.
pub(super) fn hash_of(word: &str) -> Vec<u8> {
    gen_salted_password(word, SALT, 1)
}

/// Whether what was said can be a key at all.
pub(super) fn is_whole(word: &str) -> bool {
    let secret =
        word.strip_prefix(KEY_PREFIX).and_then(|rest| rest.split_at_checked(rest.len().checked_sub(CHECK_LETTERS)?));
    secret.is_some_and(|(secret, check)| !secret.is_empty() && check == check_of(secret))
}

fn check_of(secret: &str) -> String {
    let sum = gen_salted_password(secret, b"checksum of a key", 1);
    sum.iter().take(CHECK_LETTERS / 2).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_cut_is_none() {
        let (key, word) = Key::generated("analyst", 0, None);
        assert!(is_whole(&word) && key.is_of(&hash_of(&word)));
        let cut = word.get(..word.len() - 1).unwrap();
        for other in [cut, "", "tm_", "tm_abcdef", "Tm_", &word.to_uppercase()] {
            assert!(!is_whole(other) && !key.is_of(&hash_of(other)), "{other}");
        }
    }

    #[test]
    fn a_key_ends_at_its_time() {
        let (key, _) = Key::generated("analyst", 0, Some(10));
        assert_eq!([Some(9), Some(10), None].map(|now| key.lasts(now)), [true, false, false]);
        assert!(Key::generated("analyst", 0, None).0.lasts(None));
    }
}
