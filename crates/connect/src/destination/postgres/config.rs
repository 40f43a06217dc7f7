//! Where a server is and who we are to it: the settings of a connection.

use std::fmt;
use std::path::PathBuf;

use crate::source::{Failure, Settings};
use crate::tls::Tls;

const KEYS: [&str; 7] = ["host", "port", "user", "password", "database", "tls", "tls_ca"];

/// A server, a database in it, and a user.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
    pub(super) tls: Tls,
    pub(super) tls_ca: Option<PathBuf>,
}

impl Config {
    /// The settings without the password.
    pub(super) fn read(settings: &Settings) -> Result<Self, Failure> {
        settings.refuse_others(&KEYS)?;
        settings.secret("password")?;
        Ok(Self {
            host: settings.required("host")?.to_owned(),
            port: settings.number("port")?.unwrap_or(5432),
            user: settings.required("user")?.to_owned(),
            password: None,
            database: settings.required("database")?.to_owned(),
            tls: Tls::of(settings)?,
            tls_ca: settings.text("tls_ca")?.map(PathBuf::from),
        })
    }

    /// All of them.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let mut config = Self::read(settings)?;
        if let Some(secret) = settings.secret("password")? {
            config.password = Some(secret.resolve().await?);
        }
        Ok(config)
    }

    /// Host and port, as messages name the server.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Without the password: settings end up in logs.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("address", &self.address()).field("user", &self.user).finish_non_exhaustive()
    }
}
