//! The door: who may come in, by which protocol whatever.
//!
//! Without users a listener on loopback trusts whoever reaches it, and any other lets nobody in. As soon as there is a user,
//! everybody says a password, on loopback too. Users change while they are served ([`Door::set_users`]): who is no longer what
//! they were at their login is shown out ([`Door::outstay`]).
//!
//! A stranger learns nothing from a refusal: an unknown name is answered as a wrong password is, in the same steps
//! (`Users::stand_in`), and who fails often waits (`throttle`).

mod key;
mod session;
mod throttle;
mod tls;
mod user;
mod wire;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

pub use self::key::{KEY_PREFIX, Key};
pub(crate) use self::session::Sessions;
pub(crate) use self::throttle::Throttle;
pub(crate) use self::tls::Sealed;
pub use self::tls::{Tls, TlsError};
pub use self::user::{OPERATOR, User, Users, Verifier, VerifierError, generated_password, random_secret};
pub(crate) use self::wire::Wire;
use crate::reader::{Role, SqlError};
use crate::service::Protocol;

/// Who may come in, and under which seal.
pub struct Door {
    users: watch::Sender<Arc<Users>>,
    /// The certificate; none for a door without TLS.
    pub(crate) tls: Option<Tls>,
    /// The command line of this machine, by the word in the data folder.
    operator: Option<User>,
    pub(crate) throttle: Throttle,
    /// Browsers that are logged in.
    pub(crate) sessions: Sessions,
    /// Who is told of what happens at the door.
    witness: Option<Witness>,
    /// The time, by which keys end; without it those that do are not known.
    clock: Option<Clock>,
    /// Keys by which somebody has come in since the users changed: each is told of once.
    used: Mutex<BTreeSet<String>>,
    /// Passwords that were right a moment ago, so that a client of HTTP does not cost a derivation each request.
    proven: Mutex<Proven>,
}

/// Microseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Is told of what happens at the door.
pub type Witness = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// What happened at the door. It has nothing of what was said there but the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// What it was.
    pub what: Happened,
    /// The name that was given, whether somebody has it or not.
    pub user: &'a str,
    /// The address it was given from.
    pub from: &'a str,
    /// `pg` or `http`.
    pub by: &'static str,
}

/// What can happen at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The password was right.
    LoggedIn,
    /// It was not, or nobody has the name.
    Failed,
    /// A browser said that it leaves.
    LoggedOut,
}

impl Happened {
    /// As it is noted.
    pub fn word(self) -> &'static str {
        match self {
            Self::LoggedIn => "login",
            Self::Failed => "login failed",
            Self::LoggedOut => "logout",
        }
    }
}

/// How a client came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Nobody was asked.
    Trusted,
    /// By this name, as this user.
    Known(String, User),
    /// By the key of this name.
    Key(String, Key),
}

impl Admission {
    /// Whom they have logged in as; empty where nobody was asked.
    pub(crate) fn user(&self) -> &str {
        match self {
            Self::Trusted => "",
            Self::Known(name, _) | Self::Key(name, _) => name,
        }
    }

    /// What they may read.
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Trusted => Role::Owner,
            Self::Known(_, user) => Role::named(&user.role),
            Self::Key(_, key) => Role::named(&key.role),
        }
    }
}

impl Door {
    /// A door for these users.
    pub fn new(users: Users, tls: Option<Tls>) -> Self {
        Self {
            users: watch::Sender::new(Arc::new(users)),
            tls,
            operator: None,
            throttle: Throttle::default(),
            sessions: Sessions::default(),
            witness: None,
            clock: None,
            used: Mutex::default(),
            proven: Mutex::default(),
        }
    }

    /// The same with a user [`OPERATOR`], who is no user of people: whoever runs the instance.
    #[must_use]
    pub fn with_operator(mut self, operator: User) -> Self {
        self.operator = Some(operator);
        self
    }

    /// The same with somebody who is told of logins, those that failed among them.
    #[must_use]
    pub fn with_witness(mut self, witness: Witness) -> Self {
        self.witness = Some(witness);
        self
    }

    /// The same with a clock, by which keys end.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Tells of a login.
    pub(crate) fn tell(&self, what: Happened, user: &str, from: Option<IpAddr>, by: Protocol) {
        if user == OPERATOR && what == Happened::LoggedIn {
            // The command line asks every second, and would leave nothing else to be seen.
            return;
        }
        let from = from.map(|from| from.to_canonical().to_string()).unwrap_or_default();
        info!(user, from, by = by.word(), "{}", what.word());
        if let Some(witness) = &self.witness {
            witness(&Event { what, user, from: &from, by: by.word() });
        }
    }

    /// Puts other users in place. Sessions of those who are not among them as they were end.
    pub fn set_users(&self, users: Users) {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).entries.clear();
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.users.send_replace(Arc::new(users));
    }

    /// Whether whoever comes is let in without being asked.
    pub(crate) fn trusts(&self, listener: Option<IpAddr>) -> bool {
        listener.is_some_and(is_loopback) && self.users.borrow().is_empty()
    }

    /// The users of this moment.
    pub(crate) fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.borrow())
    }

    /// A user of this moment, the operator among them.
    pub(crate) fn user(&self, name: &str) -> Option<User> {
        if name == OPERATOR {
            return self.operator.clone();
        }
        self.users.borrow().get(name).cloned()
    }

    /// What a password of this name is checked against; for a name that is not there, something that none passes.
    pub(crate) fn verifier(&self, name: &str) -> Verifier {
        self.user(name).map_or_else(|| self.users.borrow().stand_in(name), |user| user.verifier)
    }

    /// Whether the admission still holds.
    pub(crate) fn admits(&self, admission: &Admission) -> bool {
        match admission {
            Admission::Trusted => self.users.borrow().is_empty(),
            Admission::Known(name, user) => self.user(name).as_ref() == Some(user),
            Admission::Key(name, key) => self.users.borrow().key(name) == Some(key) && key.lasts(self.now_us()),
        }
    }

    /// Waits until an admission does not hold any more.
    pub(crate) async fn outstay(&self, admission: &Admission) {
        let mut users = self.users.subscribe();
        while self.admits(admission) {
            // Where nothing changes, a key may have ended all the same.
            if let Ok(Err(_)) = tokio::time::timeout(LOOKED_AT_EVERY, users.changed()).await {
                return std::future::pending().await;
            }
        }
    }

    fn now_us(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock())
    }

    /// By which key a request comes in, if it is one. It is not slow to check, and cannot be guessed.
    ///
    /// Errors: who comes from there has failed too often.
    pub(crate) fn knows(&self, from: Option<IpAddr>, word: &str) -> Result<Option<Admission>, SqlError> {
        self.throttle.check(from, KEY_PREFIX, Instant::now())?;
        let users = self.users();
        let hash = key::hash_of(word);
        let found = users.keys().filter(|_| key::is_whole(word)).find(|(_, key)| key.is_of(&hash));
        let Some((name, key)) = found.filter(|(_, key)| key.lasts(self.now_us())) else {
            self.throttle.failed(from, KEY_PREFIX, Instant::now());
            self.tell(Happened::Failed, found.map_or(KEY_PREFIX, |(name, _)| name), from, Protocol::Http);
            return Ok(None);
        };
        if self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
            self.tell(Happened::LoggedIn, name, from, Protocol::Http);
        }
        Ok(Some(Admission::Key(name.clone(), key.clone())))
    }

    /// Whether a password is this user's, as HTTP sends it.
    ///
    /// It is checked against the verifier of the Postgres wire: a second one, of another kind, would only be a second thing to
    /// guess by, and the weaker of the two would count. The derivation takes a processor for some milliseconds, off the
    /// threads that serve; what was right is remembered for [`PROVEN_MAX`] users, as a hash under a secret of this process.
    ///
    /// Errors: who comes from there, or as this user, has failed too often.
    pub(crate) async fn proves(
        self: &Arc<Self>,
        from: Option<IpAddr>,
        name: &str,
        password: &str,
    ) -> Result<Option<Admission>, SqlError> {
        // The command line asks by the Postgres wire.
        let user = self.user(name).filter(|_| name != OPERATOR);
        let hash = self.proven.lock().unwrap_or_else(PoisonError::into_inner).hash(password);
        if let Some(user) = &user
            && self.proven.lock().unwrap_or_else(PoisonError::into_inner).has(name, user, &hash)
        {
            return Ok(Some(Admission::Known(name.to_owned(), user.clone())));
        }
        self.throttle.check(from, name, Instant::now())?;
        let _derives = self.throttle.derives().await;
        let (verifier, given) = (self.verifier(name), password.to_owned());
        let is_right = tokio::task::spawn_blocking(move || verifier.admits(&given)).await.unwrap_or(false);
        match user.filter(|_| is_right) {
            Some(user) => {
                self.throttle.succeeded(from, name);
                self.tell(Happened::LoggedIn, name, from, Protocol::Http);
                self.proven.lock().unwrap_or_else(PoisonError::into_inner).note(name, &user, hash);
                Ok(Some(Admission::Known(name.to_owned(), user)))
            }
            None => {
                self.throttle.failed(from, name, Instant::now());
                self.tell(Happened::Failed, name, from, Protocol::Http);
                Ok(None)
            }
        }
    }
}

impl Default for Door {
    fn default() -> Self {
        Self::new(Users::new(random_secret()), None)
    }
}

/// How often it is looked whether a client that stays is still let in, beside each change of users.
const LOOKED_AT_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// Users whose password is remembered to be right.
const PROVEN_MAX: usize = 256;

/// Passwords that were right: name, user, and a hash that only this process can make.
struct Proven {
    secret: String,
    entries: Vec<(String, User, Vec<u8>)>,
}

impl Default for Proven {
    fn default() -> Self {
        Self { secret: random_secret(), entries: Vec::new() }
    }
}

impl Proven {
    fn hash(&self, password: &str) -> Vec<u8> {
        pgwire::api::auth::sasl::scram::gen_salted_password(password, self.secret.as_bytes(), 1)
    }

    fn has(&self, name: &str, user: &User, hash: &[u8]) -> bool {
        self.entries
            .iter()
            .any(|(known, as_user, right)| known == name && as_user == user && user::is_same(right, hash))
    }

    fn note(&mut self, name: &str, user: &User, hash: Vec<u8>) {
        self.entries.retain(|(known, ..)| known != name);
        if self.entries.len() >= PROVEN_MAX {
            self.entries.remove(0);
        }
        self.entries.push((name.to_owned(), user.clone(), hash));
    }
}

/// Whether an address is this machine's own, also where it is written as one of IPv6.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
