//! What goes wrong with a server, and whose move is next: ours (try again) or a person's (a [`Failure`] with a hint).

use std::io;

use crate::source::Failure;

use super::MysqlConfig;

/// An error packet of the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (error {code})")]
pub(crate) struct ServerError {
    pub(crate) code: u16,
    pub(crate) message: String,
}

impl ServerError {
    /// Reads an error packet (0xff, code, `#state`, message).
    pub(crate) fn parse(packet: &[u8]) -> Self {
        let code = packet.get(1..3).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        let rest = packet.get(3..).unwrap_or_default();
        let text = if rest.first() == Some(&b'#') { rest.get(6..).unwrap_or_default() } else { rest };
        Self { code, message: String::from_utf8_lossy(text).into_owned() }
    }
}

/// What can end a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("no sign of life for {0} s")]
    Silent(u64),
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The peer does not speak as we understand it.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// Who reads a result has enough of it.
    #[error("enough was read")]
    Enough,
    #[error("TLS: {0}")]
    Tls(String),
    /// Only a person can mend it.
    #[error("{0}")]
    Fatal(Box<Failure>),
}

impl WireError {
    pub(crate) fn truncated() -> Self {
        Self::Protocol("a packet ends too early".to_owned())
    }

    /// The code of a server's error.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Server(error) => Some(error.code),
            _ => None,
        }
    }
}

impl From<Failure> for WireError {
    fn from(failure: Failure) -> Self {
        Self::Fatal(Box::new(failure))
    }
}

const BAD_DATABASE: u16 = 1049;
const ACCESS_DENIED: [u16; 3] = [1044, 1045, 1698];
const MISSING_PRIVILEGE: [u16; 4] = [1142, 1143, 1227, 1370];
const HOST_BLOCKED: [u16; 2] = [1129, 1130];
const LOG_READ: u16 = 1236;
pub(crate) const NO_SUCH_TABLE: u16 = 1146;
const BINLOG_OFF: u16 = 1381;

/// What a person must mend, or none if trying again may help.
pub(crate) fn failure(error: &WireError, config: &MysqlConfig) -> Option<Failure> {
    match error {
        WireError::Fatal(failure) => Some((**failure).clone()),
        WireError::Server(server) => server_failure(server, config),
        WireError::Tls(reason) => Some(Failure {
            message: format!("cannot open an encrypted connection to {}", config.address()),
            detail: reason.clone(),
            hint:
                "Check `tls` of the connection: `preferred` takes what the server offers, `verify` needs a certificate \
                   signed by a known authority (or `tls_ca`) for this host name."
                    .to_owned(),
        }),
        WireError::Io(_) | WireError::Closed | WireError::Silent(_) | WireError::Protocol(_) | WireError::Enough => {
            None
        }
    }
}

fn server_failure(error: &ServerError, config: &MysqlConfig) -> Option<Failure> {
    let user = &config.user;
    let detail = error.to_string();
    let of = |message: String, hint: String| Some(Failure { message, detail: detail.clone(), hint });
    match error.code {
        code if ACCESS_DENIED.contains(&code) => of(
            format!("{} refuses user \"{user}\"", config.address()),
            "Check user and password of the connection, and that the user may log in from this host.".to_owned(),
        ),
        code if HOST_BLOCKED.contains(&code) => of(
            format!("{} refuses connections from this host", config.address()),
            format!("Let the user log in from here: CREATE USER '{user}'@'%' …, or FLUSH HOSTS after too many errors."),
        ),
        BAD_DATABASE => of(
            format!("database \"{}\" does not exist", config.database),
            "Correct `database` of the connection.".to_owned(),
        ),
        code if MISSING_PRIVILEGE.contains(&code) => of(
            format!("user \"{user}\" lacks a privilege"),
            format!("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{user}'@'%'"),
        ),
        LOG_READ => log_failure(error, config),
        NO_SUCH_TABLE => of("a table does not exist".to_owned(), "Check the sources of the project.".to_owned()),
        BINLOG_OFF => of(
            format!("{} writes no binary log", config.address()),
            "Start the server with log_bin (and binlog_format = ROW).".to_owned(),
        ),
        _ => None,
    }
}

/// Error 1236 is said for many things; those that time heals are not failures.
fn log_failure(error: &ServerError, config: &MysqlConfig) -> Option<Failure> {
    let text = error.message.to_ascii_lowercase();
    // Another replica has our server id: the next attempt takes another one.
    if text.contains("same server_uuid/server_id") || text.contains("same server_id") {
        return None;
    }
    let purged = text.contains("purged")
        || text.contains("could not find first log file")
        || text.contains("could not find gtid")
        || text.contains("not in the master's binlog")
        || text.contains("impossible position");
    Some(Failure {
        message: if purged {
            format!("{} no longer has the log from where we stopped", config.address())
        } else {
            format!("{} cannot send its log", config.address())
        },
        detail: error.to_string(),
        hint: if purged {
            "Load the tables again: tidemill resnapshot. Keep logs longer: SET PERSIST binlog_expire_logs_seconds = 604800"
                .to_owned()
        } else {
            "See the server's error log.".to_owned()
        },
    })
}
