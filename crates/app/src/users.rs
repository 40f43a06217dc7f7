//! Users and keys: a file of the data folder that says who may log in, and the door that is made of it.
//!
//! `users.json` has verifiers, hashes of keys and no password, is read by its owner alone, and is replaced as a whole. Whoever changes it
//! holds `users.lock` meanwhile; a running instance is told and reads it anew. What cannot be read is an error and never
//! nobody: without users a listener on loopback would let everybody in.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use project::{ListenSpec, Profile, TlsSpec};
use serde::{Deserialize, Serialize};
use serve::{Door, Key, OPERATOR, Tls, User, Users, Verifier};

use crate::atomic;
use crate::audit::Audit;
use crate::clock::{Clock as _, WallClock};
use crate::setup::Setup;

/// Role of those who read all there is.
pub const OWNER: &str = "owner";
/// Users at most: all of them are in memory, and at hand for each login.
const USERS_MAX: usize = 1_000;
/// Bytes of a name, as in PostgreSQL.
const NAME_BYTES_MAX: usize = 63;
/// Version of the file's form.
const VERSION: u32 = 1;

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    /// What salts are made of for names that nobody has.
    secret: String,
    users: BTreeMap<String, Entry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    keys: BTreeMap<String, KeyEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    verifier: String,
    role: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    hash: String,
    role: String,
    made_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_us: Option<i64>,
}

fn path(data: &Path) -> PathBuf {
    data.join("users.json")
}

/// The users of a data folder; none where it has no file of them.
///
/// Errors: the file is there and cannot be read.
pub fn read(data: &Path) -> anyhow::Result<Users> {
    let path = path(data);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Users::new(serve::random_secret())),
        Err(error) => return Err(error).with_context(|| format!("cannot read the users in {}", path.display())),
    };
    users_of(&bytes).with_context(|| {
        format!(
            "cannot read the users in {}\nHint: Put the file back as it was; without it (moved away) there are no users, and \
             `tidemill users add NAME` begins anew.",
            path.display()
        )
    })
}

fn users_of(bytes: &[u8]) -> anyhow::Result<Users> {
    let document: Document = serde_json::from_slice(bytes)?;
    if document.version != VERSION {
        bail!("its form has the version {}, and this Tidemill reads {VERSION}", document.version);
    }
    let mut users = Users::new(document.secret);
    for (name, Entry { verifier, role }) in document.users {
        let verifier = verifier.parse().with_context(|| format!("user \"{name}\""))?;
        users.insert(name, User { verifier, role });
    }
    for (name, KeyEntry { hash, role, made_us, expires_us }) in document.keys {
        users.insert_key(name, Key { hash, role, made_us, expires_us });
    }
    Ok(users)
}

/// Changes the users of a data folder; what `change` returns is returned.
pub fn change<T>(data: &Path, change: impl FnOnce(&mut Users) -> anyhow::Result<T>) -> anyhow::Result<T> {
    std::fs::create_dir_all(data).with_context(|| format!("cannot make the data folder {}", data.display()))?;
    let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(data.join("users.lock"))?;
    // Free again when the file is closed, however that comes.
    lock.lock().context("cannot lock the users")?;
    let mut users = read(data)?;
    let changed = change(&mut users)?;
    write(data, &users).with_context(|| format!("cannot write the users in {}", path(data).display()))?;
    Ok(changed)
}

fn write(data: &Path, users: &Users) -> anyhow::Result<()> {
    let entry = |(name, user): (&String, &User)| {
        (name.clone(), Entry { verifier: user.verifier.to_string(), role: user.role.clone() })
    };
    let key = |(name, key): (&String, &Key)| {
        let Key { hash, role, made_us, expires_us } = key.clone();
        (name.clone(), KeyEntry { hash, role, made_us, expires_us })
    };
    let document = Document {
        version: VERSION,
        secret: users.secret().to_owned(),
        users: users.iter().map(entry).collect(),
        keys: users.keys().map(key).collect(),
    };
    Ok(atomic::replace(&path(data), &serde_json::to_vec_pretty(&document)?)?)
}

/// Adds a user. Errors: the name cannot be one, or somebody has it.
pub fn add(users: &mut Users, name: &str, password: &str, role: &str) -> anyhow::Result<()> {
    fit(name, "a user's")?;
    if name == OPERATOR {
        bail!("{OPERATOR:?} is what the command line of this machine logs in as\nHint: Choose another name.");
    }
    if users.get(name).is_some() {
        bail!("there is a user {name:?} already\nHint: `tidemill users passwd {name}` gives another password.");
    }
    if users.iter().count() >= USERS_MAX {
        bail!("there are {USERS_MAX} users already\nHint: `tidemill users remove NAME` makes room.");
    }
    users.insert(name.to_owned(), User { verifier: Verifier::of(password), role: role.to_owned() });
    Ok(())
}

/// Errors: this can be nobody's name.
fn fit(name: &str, whose: &str) -> anyhow::Result<()> {
    let is_fit =
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(|c: char| c == ':' || c.is_control());
    if !is_fit || name.trim() != name {
        bail!(
            "{name:?} cannot be {whose} name\nHint: A name has 1 to {NAME_BYTES_MAX} bytes, without colons, control \
             characters, and blanks at its ends."
        );
    }
    Ok(())
}

/// Adds a key; returns what is said to be let in by it. Errors: the name cannot be one, or another key has it.
pub fn add_key(
    users: &mut Users,
    name: &str,
    role: &str,
    made_us: i64,
    expires_us: Option<i64>,
) -> anyhow::Result<String> {
    fit(name, "a key's")?;
    if users.key(name).is_some() {
        bail!(
            "there is a key {name:?} already\nHint: Make another by its own name, and remove this one when it is in use."
        );
    }
    if users.keys().count() >= USERS_MAX {
        bail!("there are {USERS_MAX} keys already\nHint: `tidemill keys remove NAME` makes room.");
    }
    let (key, word) = Key::generated(role, made_us, expires_us);
    users.insert_key(name.to_owned(), key);
    Ok(word)
}

/// Takes a key out.
pub fn remove_key(users: &mut Users, name: &str) -> anyhow::Result<()> {
    if users.remove_key(name).is_some() {
        return Ok(());
    }
    let names: Vec<&str> = users.keys().map(|(name, _)| name.as_str()).collect();
    let hint = if names.is_empty() { "There are none.".to_owned() } else { format!("One of: {}.", names.join(", ")) };
    bail!("there is no key {name:?}\nHint: {hint}")
}

/// Gives a user another password.
pub fn change_password(users: &mut Users, name: &str, password: &str) -> anyhow::Result<()> {
    let Some(role) = users.get(name).map(|user| user.role.clone()) else { bail!(nobody(users, name)) };
    users.insert(name.to_owned(), User { verifier: Verifier::of(password), role });
    Ok(())
}

/// Takes a user out.
pub fn remove(users: &mut Users, name: &str) -> anyhow::Result<()> {
    match users.remove(name) {
        Some(_) => Ok(()),
        None => bail!(nobody(users, name)),
    }
}

fn nobody(users: &Users, name: &str) -> String {
    let names: Vec<&str> = users.iter().map(|(name, _)| name.as_str()).collect();
    let hint = if names.is_empty() { "There are none.".to_owned() } else { format!("One of: {}.", names.join(", ")) };
    format!("there is no user {name:?}\nHint: {hint}")
}

/// The door of an instance; `word` is what the command line of this machine says. Its logins are noted in the audit.
///
/// Errors: an address that others reach, and nobody to ask for a password; TLS by files that cannot be read.
pub fn door(setup: &Setup, word: Option<&str>, audit: &Arc<Audit>) -> anyhow::Result<Arc<Door>> {
    let (profile, users) = (&setup.project.profile, read(&setup.data)?);
    exposed(profile, &users)?;
    let tls = match &profile.tls {
        TlsSpec::Unsaid | TlsSpec::Off => None,
        TlsSpec::Files { cert, key } => {
            let tls = Tls::by_files(setup.folder.join(cert), setup.folder.join(key));
            Some(tls.context("TLS cannot be served\nHint: `tls:` of the profile names two files in PEM.")?)
        }
    };
    let audit = Arc::clone(audit);
    let door = Door::new(users, tls)
        .with_clock(Arc::new(|| WallClock.now_us()))
        .with_witness(Arc::new(move |event| audit.login(event)));
    Ok(Arc::new(match word {
        Some(word) => door.with_operator(User { verifier: Verifier::of_random(word), role: OWNER.to_owned() }),
        None => door,
    }))
}

/// Errors: a listener that is not on loopback, where nobody would be asked or TLS is not spoken of.
fn exposed(profile: &Profile, users: &Users) -> anyhow::Result<()> {
    let is_open = |spec: &ListenSpec| !spec.addr.ip().is_loopback();
    let Some((key, spec)) = [("pg", profile.pg), ("http", profile.http)].into_iter().find(|(_, spec)| is_open(spec))
    else {
        return Ok(());
    };
    if users.is_empty() {
        bail!(
            "`{key}` listens beyond this machine ({}), and there are no users\n\
             Hint: `tidemill users add NAME` makes one; or listen on 127.0.0.1.",
            spec.addr
        );
    }
    if profile.tls == TlsSpec::Unsaid {
        bail!(
            "`{key}` listens beyond this machine ({}), and nothing is said of TLS\n\
             Hint: Add `tls: {{cert: FILE, key: FILE}}` or `tls: off` to the profile.",
            spec.addr
        );
    }
    Ok(())
}
