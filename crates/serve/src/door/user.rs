//! Users and their verifiers: what is kept of a password tells whether one is right, and not which one is.
//!
//! A verifier is PostgreSQL's own, `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`: who has it can check a
//! password and cannot log in with it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::Key;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pgwire::api::auth::sasl::scram::{ScramSecret, gen_salted_password, random_nonce};

/// Name of whoever runs the instance; no user of people has it.
pub const OPERATOR: &str = "tidemill";

/// How often a password is hashed on the way to its verifier: some ten milliseconds for a client, each login.
const ITERATIONS: u32 = 32_768;
/// Most iterations of a verifier that somebody else made: a client spends them at each login, and we over HTTP.
const ITERATIONS_MAX: u32 = 1_000_000;
/// Fewest of them, as the standard has it.
const ITERATIONS_MIN: u32 = 4_096;
/// Bytes of a salt that we make.
const SALT_BYTES: usize = 18;
/// Bytes of SHA-256.
const KEY_BYTES: usize = 32;

/// Someone who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What their password is checked against.
    pub verifier: Verifier,
    /// Name of the role by which they read.
    pub role: String,
}

/// All users and keys at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    by_name: BTreeMap<String, User>,
    keys: BTreeMap<String, Key>,
    /// What salts are made of for names that nobody has. It is kept with the users: those salts must not change when the
    /// process does, or they would tell who is none.
    secret: String,
}

impl Users {
    /// Nobody. The secret is [`random_secret`]'s, kept with the users.
    pub fn new(secret: String) -> Self {
        Self { secret, ..Self::default() }
    }

    /// The secret, to be kept.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Whether there is nobody, and no key either.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.keys.is_empty()
    }

    /// A user by name.
    pub fn get(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &User)> {
        self.by_name.iter()
    }

    /// A key by name.
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys.get(name)
    }

    /// All keys, by name.
    pub fn keys(&self) -> impl Iterator<Item = (&String, &Key)> {
        self.keys.iter()
    }

    /// Puts a key in; returns which had the name.
    pub fn insert_key(&mut self, name: String, key: Key) -> Option<Key> {
        self.keys.insert(name, key)
    }

    /// Takes a key out.
    pub fn remove_key(&mut self, name: &str) -> Option<Key> {
        self.keys.remove(name)
    }

    /// Puts a user in; returns who had the name.
    pub fn insert(&mut self, name: String, user: User) -> Option<User> {
        self.by_name.insert(name, user)
    }

    /// Takes a user out.
    pub fn remove(&mut self, name: &str) -> Option<User> {
        self.by_name.remove(name)
    }

    /// What the password of a name that nobody has is checked against: always the same for a name, and passed by none.
    pub(super) fn stand_in(&self, name: &str) -> Verifier {
        let derived = |what: &str| gen_salted_password(name, format!("{what} {}", self.secret).as_bytes(), 1);
        let mut salt = derived("salt");
        salt.truncate(SALT_BYTES);
        // Keys that are no hash of anything known.
        Verifier { iterations: ITERATIONS, salt, stored_key: derived("stored key"), server_key: derived("server key") }
    }
}

/// What a password is checked against.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

/// A text that is no verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no verifier: it is SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>")]
pub struct VerifierError;

impl Verifier {
    /// The verifier of a password, with a salt of its own.
    pub fn of(password: &str) -> Self {
        Self::derived(password, random_secret().into_bytes(), ITERATIONS)
    }

    /// The verifier of a word that nobody can guess: few rounds are enough for it.
    pub fn of_random(word: &str) -> Self {
        Self::derived(word, random_secret().into_bytes(), ITERATIONS_MIN)
    }

    fn derived(password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = gen_salted_password(password, &salt, iterations as usize);
        match ScramSecret::verifier_from_salted_password(salt, salted, iterations as usize) {
            ScramSecret::Verifier { salt, stored_key, server_key, .. } => {
                Self { iterations, salt, stored_key, server_key }
            }
            // The function above gives the other kind; this keeps what would be no verifier from passing.
            ScramSecret::SaltedPassword { salt, salted_password } => {
                Self { iterations, salt, stored_key: Vec::new(), server_key: salted_password }
            }
        }
    }

    /// Whether this is the password. It takes as long as the iterations do.
    pub fn admits(&self, password: &str) -> bool {
        let derived = Self::derived(password, self.salt.clone(), self.iterations);
        self.stored_key.len() == KEY_BYTES && is_same(&derived.stored_key, &self.stored_key)
    }

    /// The same for the library that speaks SCRAM.
    pub(crate) fn secret(&self) -> ScramSecret {
        ScramSecret::Verifier {
            salt: self.salt.clone(),
            iterations: self.iterations as usize,
            stored_key: self.stored_key.clone(),
            server_key: self.server_key.clone(),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is printed ends in logs.
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, stored) = (STANDARD.encode(&self.salt), STANDARD.encode(&self.stored_key));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{}", self.iterations, STANDARD.encode(&self.server_key))
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let rest = text.strip_prefix("SCRAM-SHA-256$").ok_or(VerifierError)?;
        let (how, keys) = rest.split_once('$').ok_or(VerifierError)?;
        let (iterations, salt) = how.split_once(':').ok_or(VerifierError)?;
        let (stored, server) = keys.split_once(':').ok_or(VerifierError)?;
        let iterations: u32 = iterations.parse().map_err(|_| VerifierError)?;
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_| VerifierError);
        let verifier = Self { iterations, salt: bytes(salt)?, stored_key: bytes(stored)?, server_key: bytes(server)? };
        let keys = [&verifier.stored_key, &verifier.server_key];
        let is_whole = keys.iter().all(|key| key.len() == KEY_BYTES) && !verifier.salt.is_empty();
        if !is_whole || !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(VerifierError);
        }
        Ok(verifier)
    }
}

/// A password that nobody can guess: 144 random bits, in characters that no shell and no URL minds.
pub fn generated_password() -> String {
    STANDARD.decode(random_nonce()).map_or_else(|_| random_nonce(), |bits| URL_SAFE_NO_PAD.encode(bits))
}

/// A word of 144 random bits.
pub fn random_secret() -> String {
    random_nonce()
}

/// Whether two keys are the same, in a time that does not tell where they differ.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}
