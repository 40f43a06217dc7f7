//! Browsers that are logged in: a random word in a cookie, and who it stands for.
//!
//! Words live in memory alone: a restart asks for the password again. So does a change of the user, and time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Admission;
use super::user::{User, generated_password};

/// Browsers at a time: of more, the one that was away longest is logged out. Each takes less than [`SESSION_BYTES`].
const SESSIONS_MAX: usize = 1_024;
/// What a session takes at most: its word, and a user with names as long as they may be.
#[allow(dead_code, reason = "it says what the bound above is in bytes: half a MiB")]
const SESSION_BYTES: usize = 512;
/// How long a browser may be away.
const IDLE: Duration = Duration::from_secs(12 * 3_600);
/// How long it may stay in all.
const STAY: Duration = Duration::from_secs(7 * 24 * 3_600);

/// All of them.
#[derive(Default)]
pub(crate) struct Sessions {
    by_word: Mutex<BTreeMap<String, Session>>,
}

struct Session {
    name: String,
    user: User,
    begun: Instant,
    seen: Instant,
}

impl Sessions {
    /// Begins one; returns its word.
    pub(crate) fn begin(&self, name: &str, user: &User) -> String {
        let (word, now) = (generated_password(), Instant::now());
        let mut sessions = self.by_word.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.lasts(now));
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.seen).map(|(word, _)| word.clone());
            oldest.map(|oldest| sessions.remove(&oldest));
        }
        let session = Session { name: name.to_owned(), user: user.clone(), begun: now, seen: now };
        sessions.insert(word.clone(), session);
        word
    }

    /// Whom a word stands for, if it does.
    pub(crate) fn of(&self, word: &str) -> Option<Admission> {
        let now = Instant::now();
        let mut sessions = self.by_word.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(word).filter(|session| session.lasts(now))?;
        session.seen = now;
        Some(Admission::Known(session.name.clone(), session.user.clone()))
    }

    /// Ends one.
    pub(crate) fn end(&self, word: &str) -> Option<String> {
        self.by_word.lock().unwrap_or_else(PoisonError::into_inner).remove(word).map(|session| session.name)
    }
}

impl Session {
    fn lasts(&self, now: Instant) -> bool {
        now.duration_since(self.seen) < IDLE && now.duration_since(self.begun) < STAY
    }
}
