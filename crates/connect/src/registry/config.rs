//! Where a registry is and who we are to it: `schema_registry` of a connection.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value as Json;

use crate::secret::Secret;
use crate::source::{Failure, Settings};

const KEYS: [&str; 4] = ["url", "user", "password", "tls_ca"];
const URL: &str = "an address such as http://127.0.0.1:8081, or {url: …, user: …, password: {env: VARIABLE}}";

/// A registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(super) place: Place,
    pub(super) user: Option<String>,
    secret: Option<Secret>,
    /// Empty until it is resolved.
    pub(super) password: String,
    pub(super) tls_ca: Option<PathBuf>,
}

/// The parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) is_encrypted: bool,
    /// Without the brackets of an address of version 6.
    pub(super) host: String,
    pub(super) port: u16,
    /// Without a slash at its end; may be empty.
    pub(super) path: String,
    /// As it is written.
    pub(super) url: String,
}

impl Config {
    /// What a connection's settings say, without the secret; none: it has no registry.
    pub(crate) fn read(settings: &Settings) -> Result<Option<Self>, Failure> {
        let bad = |key: &str, wanted: &str| settings.bad(&format!("schema_registry.{key}"), wanted);
        let of_url = |url: &str| place(url).ok_or_else(|| settings.bad("schema_registry", URL));
        let (found, url) = match settings.get("schema_registry") {
            None => return Ok(None),
            Some(Json::String(url)) => {
                let place = of_url(url)?;
                return Ok(Some(Self { place, user: None, secret: None, password: String::new(), tls_ca: None }));
            }
            Some(Json::Object(found)) => (found, found.get("url").and_then(Json::as_str)),
            Some(_) => return Err(settings.bad("schema_registry", URL)),
        };
        if let Some(key) = found.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(Failure {
                message: format!("connection \"{}\": unknown setting `schema_registry.{key}`", settings.connection),
                detail: String::new(),
                hint: format!("Known are: {}.", KEYS.join(", ")),
            });
        }
        let of = Settings { values: found.clone().into_iter().collect(), ..settings.clone() };
        let text = |key: &str, wanted: &str| match of.get(key) {
            None => Ok(None),
            Some(Json::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(bad(key, wanted)),
        };
        let user = text("user", "a text")?;
        if user.as_ref().is_some_and(|user| user.contains(':')) {
            return Err(bad("user", "without a colon, which ends it"));
        }
        let reference = "{env: VARIABLE}, {file: PATH} or {command: 'COMMAND'}";
        let secret = of.secret("password").map_err(|_| bad("password", reference))?;
        if user.is_some() != secret.is_some() {
            return Err(bad("user", "given together with `password`"));
        }
        let tls_ca = text("tls_ca", "a file with certificates")?.map(PathBuf::from);
        Ok(Some(Self { place: of_url(url.unwrap_or_default())?, user, secret, password: String::new(), tls_ca }))
    }

    /// Resolves its secret.
    pub(crate) async fn resolve(&mut self) -> Result<(), Failure> {
        if let Some(secret) = &self.secret {
            self.password = secret.resolve().await?;
        }
        Ok(())
    }
}

/// The parts of a URL; none where it is none, or has a login or a question in it.
fn place(url: &str) -> Option<Place> {
    let (scheme, rest) = url.split_once("://")?;
    let is_encrypted = match scheme {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    if rest.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii() || matches!(c, '@' | '?' | '#')) {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (authority, if is_encrypted { 443 } else { 80 }),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let path = path.trim_end_matches('/').to_owned();
    (!host.is_empty()).then(|| Place { is_encrypted, host: host.to_owned(), port, path, url: url.to_owned() })
}

/// Without the password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("url", &self.place.url).field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_no_login() {
        let of = |url: &str| place(url).map(|place| (place.is_encrypted, place.host, place.port, place.path));
        let parts = |tls, host: &str, port, path: &str| Some((tls, host.to_owned(), port, path.to_owned()));
        assert_eq!(of("http://127.0.0.1:8081"), parts(false, "127.0.0.1", 8081, ""));
        assert_eq!(of("https://registry/apis/ccompat/v7/"), parts(true, "registry", 443, "/apis/ccompat/v7"));
        assert_eq!(of("http://[::1]:8081/"), parts(false, "::1", 8081, ""));
        assert_eq!(of("http://[::1]"), parts(false, "::1", 80, ""));
        for bad in
            ["registry:8081", "ftp://a", "http://", "http://me:geheim@a", "http://a?x", "http://a:0", "http://a b"]
        {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
