//! Where a Redis is and who we are to it: the settings of a connection.

use std::fmt;
use std::path::PathBuf;

use crate::source::{Failure, Settings};
use crate::tls::Tls;

const KEYS: [&str; 8] = ["url", "host", "port", "user", "password", "database", "tls", "tls_ca"];

/// A server, a number of a database in it, and a user.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
    pub(super) tls: Tls,
    pub(super) tls_ca: Option<PathBuf>,
}

impl Config {
    /// The settings without the password.
    pub(super) fn read(settings: &Settings) -> Result<Self, Failure> {
        settings.refuse_others(&KEYS)?;
        settings.secret("password")?;
        let mut config = match settings.text("url")? {
            Some(url) => {
                if let Some(key) = ["host", "port", "user", "database"].iter().find(|key| settings.get(key).is_some()) {
                    return Err(settings.bad(key, "in `url`, or `url` left out"));
                }
                of_url(url).ok_or_else(|| bad_url(settings, url))?
            }
            None => Self {
                host: settings.required("host")?.to_owned(),
                port: settings.number("port")?.unwrap_or(6379),
                user: settings.text("user")?.map(str::to_owned),
                password: None,
                database: settings.number("database")?.unwrap_or(0),
                tls: Tls::Disabled,
                tls_ca: None,
            },
        };
        config.tls_ca = settings.text("tls_ca")?.map(PathBuf::from);
        match (settings.get("tls").is_some(), Tls::of(settings)?) {
            // Its protocol has no word for it.
            (true, Tls::Preferred) => return Err(settings.bad("tls", "disabled, required or verify")),
            (true, tls) => config.tls = tls,
            (false, _) => {}
        }
        Ok(config)
    }

    /// All of them.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let mut config = Self::read(settings)?;
        if let Some(secret) = settings.secret("password")? {
            config.password = Some(secret.resolve().await?).filter(|password| !password.is_empty());
        }
        Ok(config)
    }

    /// Host and port, as messages name the server.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// `redis://user@host:6379/0`, or `rediss://` with TLS.
fn of_url(url: &str) -> Option<Config> {
    let (tls, rest) = match (url.strip_prefix("redis://"), url.strip_prefix("rediss://")) {
        (Some(rest), _) => (Tls::Disabled, rest),
        (_, Some(rest)) => (Tls::Verify, rest),
        (None, None) => return None,
    };
    let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = place.rsplit_once('@').map_or((None, place), |(user, place)| (Some(user), place));
    if user.is_some_and(|user| user.contains(':')) {
        return None;
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let database = if database.is_empty() { 0 } else { database.parse().ok()? };
    (!host.is_empty()).then_some(())?;
    Some(Config {
        host: host.to_owned(),
        port: port.map_or(Some(6379), |port| port.parse().ok())?,
        user: user.filter(|user| !user.is_empty()).map(str::to_owned),
        password: None,
        database,
        tls,
        tls_ca: None,
    })
}

fn bad_url(settings: &Settings, url: &str) -> Failure {
    let has_secret = url.rsplit_once('@').is_some_and(|(user, _)| user.trim_start_matches("rediss://").contains(':'));
    let failure = settings.bad("url", "redis://host:6379/0, or rediss:// with TLS");
    match has_secret {
        true => Failure { hint: "A password is none of it: `password: {env: VARIABLE}`.".to_owned(), ..failure },
        false => failure,
    }
}

/// Without the password: settings end up in logs.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("address", &self.address()).field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_defaults_and_no_password() {
        let of = |url: &str| of_url(url).map(|c| format!("{:?}@{} {} {:?}", c.user, c.address(), c.database, c.tls));
        assert_eq!(of("redis://127.0.0.1").as_deref(), Some("None@127.0.0.1:6379 0 Disabled"));
        assert_eq!(of("rediss://me@cache:7000/3").as_deref(), Some("Some(\"me\")@cache:7000 3 Verify"));
        assert_eq!(of("redis://[::1]:7000").as_deref(), Some("None@::1:7000 0 Disabled"));
        for bad in ["cache:6379", "redis://", "redis://a:b@cache", "redis://cache:x", "redis://cache/x"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
