//! What goes wrong with a server, and whose move is next: ours (try again) or a person's (a [`Failure`] with a hint).

use std::io;

use crate::source::Failure;

use super::MysqlConfig;
use super::wire::ServerInfo;

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
    /// What the log holds is no event, or none that holds together.
    #[error("damaged log: {0}")]
    Damaged(String),
    /// The peer does not speak as we understand it.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// A later connection leads to another server than the one whose log is read.
    #[error(
        "a connection leads to server {found}, and the log is read of server {read}: the address leads to several servers, \
         or another one has taken it over. If this does not end by itself, name one server as the connection's `host`"
    )]
    Elsewhere { read: String, found: String },
    /// Who reads a result has enough of it.
    #[error("enough was read")]
    Enough,
    #[error("TLS: {0}")]
    Tls(String),
    /// Only a person can mend it, and beginning anew would not: the source ends.
    #[error("{0}")]
    Fatal(Box<Failure>),
    /// Nothing comes as things are; what is to be done is said. The server may change: it is looked at again.
    #[error("{0}")]
    Stalled(Box<Failure>),
}

impl WireError {
    pub(crate) fn truncated() -> Self {
        Self::Protocol("a packet ends too early".to_owned())
    }

    /// Whether the server refuses for want of a right.
    pub(crate) fn is_denied(&self) -> bool {
        self.code().is_some_and(|code| NO_RIGHT.contains(&code))
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

/// The remedy for a log that does not lead on from where we are.
pub(crate) const LOAD_ALL_AGAIN: &str = "`tidemill resnapshot --all` loads all tables again from where the log is now";

/// The log that is there is not the one that was read.
pub(crate) fn another_history(detail: &str) -> WireError {
    WireError::Stalled(Box::new(Failure {
        message: "the server's log has another history than the one we have read".to_owned(),
        detail: format!("{detail} It was reset, or the server was restored from a backup or is another one."),
        hint: LOAD_ALL_AGAIN.to_owned(),
    }))
}

const BAD_DATABASE: u16 = 1049;
const ACCESS_DENIED: [u16; 3] = [1044, 1045, 1698];
const MISSING_PRIVILEGE: [u16; 4] = [1142, 1143, 1227, 1370];
/// The user has no right on the database.
pub(crate) const NO_DATABASE: u16 = 1044;
const HOST_BLOCKED: [u16; 2] = [1129, 1130];
const LOG_READ: u16 = 1236;
/// MariaDB's own for [`DUPLICATE_ID`].
const SAME_ID: u16 = 4052;
pub(crate) const NO_SUCH_TABLE: u16 = 1146;
/// Another connection reads the log under our server id.
pub(crate) const DUPLICATE_ID: [&str; 3] = ["same server_uuid/server_id", "same server_id", "slave with the same"];
const BINLOG_OFF: u16 = 1381;

/// What a person must mend, or none if trying again may help.
pub(crate) fn failure(error: &WireError, config: &MysqlConfig) -> Option<Failure> {
    match error {
        WireError::Fatal(failure) | WireError::Stalled(failure) => Some((**failure).clone()),
        WireError::Server(server) => server_failure(server, config),
        WireError::Damaged(what) => Some(Failure {
            message: format!("the log that {} sends cannot be read on", config.address()),
            detail: format!("It is damaged: {what}."),
            hint: format!("It is asked for again, in case it was damaged on its way. If it stays so: {LOAD_ALL_AGAIN}"),
        }),
        WireError::Tls(reason) => Some(Failure {
            message: format!("cannot open an encrypted connection to {}", config.address()),
            detail: reason.clone(),
            hint:
                "Check `tls` of the connection: `preferred` takes what the server offers, `verify` needs a certificate \
                   signed by a known authority (or `tls_ca`) for this host name."
                    .to_owned(),
        }),
        WireError::Io(_)
        | WireError::Closed
        | WireError::Silent(_)
        | WireError::Protocol(_)
        | WireError::Elsewhere { .. }
        | WireError::Enough => None,
    }
}

fn server_failure(error: &ServerError, config: &MysqlConfig) -> Option<Failure> {
    let user = &config.user;
    let detail = error.to_string();
    let of = |message: String, hint: String| Some(Failure { message, detail: detail.clone(), hint });
    match error.code {
        NO_DATABASE => of(
            format!("user \"{user}\" may not enter database \"{}\"", config.database),
            format!(
                "GRANT SELECT ON `{}`.* TO '{user}'@'%'; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{user}'@'%'",
                config.database.replace('`', "``")
            ),
        ),
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

/// What becomes of a load that a server refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It may be over at the next try.
    ForNow,
    /// Nobody knows: it is tried some times.
    Unclear,
    /// It is not before somebody has done this.
    Until(String),
}

/// Locks, limits, shortages: others go on, and then it can be had.
const PASSING: [u16; 24] = [
    1021, 1037, 1038, 1040, 1041, 1053, 1135, 1159, 1160, 1161, 1180, 1203, 1205, 1206, 1213, 1226, 1317, 1412, 1615,
    1927, 1969, 3024, 3032, 4031,
];
/// Files of the table are damaged.
const CRASHED: [u16; 8] = [126, 127, 144, 145, 1034, 1035, 1194, 1195];
/// Its files are not there, or not those that belong to it.
const NO_FILES: [u16; 6] = [1016, 1017, 1033, 1812, 1813, 1932];
const NO_TABLESPACE: u16 = 1814;
const NO_ENGINE: [u16; 2] = [1286, 1178];
/// The table's rights, and its database's.
const NO_RIGHT: [u16; 4] = [1044, 1142, 1143, 1370];
/// A lock was waited for in vain.
pub(crate) const LOCKED: u16 = 1205;

impl Refused {
    /// By what a server says of a table, whose quoted name this is.
    pub(crate) fn of(error: &ServerError, table: &str, user: &str) -> Self {
        let until = |what: String| Self::Until(what);
        match error.code {
            code if PASSING.contains(&code) || error.lacks_handles() => Self::ForNow,
            code if NO_RIGHT.contains(&code) => until(format!("GRANT SELECT ON {table} TO '{user}'@'%'")),
            code if CRASHED.contains(&code) || error.is_crash() => {
                until(format!("REPAIR TABLE {table}, or restore it from a backup"))
            }
            NO_TABLESPACE => {
                until(format!("ALTER TABLE {table} IMPORT TABLESPACE, with the files of its rows in place"))
            }
            code if NO_FILES.contains(&code) => {
                until(format!("CHECK TABLE {table} says more; restore it from a backup"))
            }
            code if NO_ENGINE.contains(&code) => until("Have the server load the table's engine".to_owned()),
            _ => Self::Unclear,
        }
    }
}

impl ServerError {
    /// An engine's own number, in a message of another kind.
    fn has_number(&self, numbers: &[&str]) -> bool {
        let text = self.message.to_lowercase();
        let number = |of: &str| {
            let behind = text.split_once(of).map_or("", |(_, behind)| behind).trim_start_matches([' ', ':']);
            behind.split(|c: char| !c.is_ascii_digit()).next().is_some_and(|number| numbers.contains(&number))
        };
        number("errno") || number("got error") || number("err_code")
    }

    fn is_crash(&self) -> bool {
        self.has_number(&["126", "127", "144", "145"]) || self.message.contains("marked as crashed")
    }

    /// The server has as many files open as it may.
    fn lacks_handles(&self) -> bool {
        self.has_number(&["23", "24"])
    }
}

/// What has ended a connection, in words of people.
pub(crate) fn told(error: &WireError, address: &str) -> String {
    match error {
        WireError::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("connection to {address} refused"),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => format!("{address} closed the connection"),
            io::ErrorKind::TimedOut => format!("{address} does not answer"),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
                format!("there is no way to {address} from this machine")
            }
            // The system's resolver has no kind of its own.
            _ if error.to_string().contains("lookup address") => format!("the host of {address} is not known by name"),
            _ => format!("the connection to {address} failed: {error}"),
        },
        WireError::Closed => format!("{address} closed the connection"),
        WireError::Silent(seconds) => format!("no sign of life of {address} for {seconds} s"),
        WireError::Server(error) => format!("{address} says: {error}"),
        error => format!("{address}: {error}"),
    }
}

/// Whether nobody answers for a server, or not any more.
pub(crate) fn is_away(error: &WireError) -> bool {
    matches!(error, WireError::Io(_) | WireError::Closed | WireError::Silent(_))
}

/// Whether a failure is of our own settings, which are read once: trying again may lock an account, and mends nothing.
/// All others are the server's: it is looked at again.
pub(crate) fn ends(error: &WireError) -> bool {
    match error {
        WireError::Fatal(_) | WireError::Tls(_) => true,
        WireError::Server(server) => {
            server.code == BAD_DATABASE || ACCESS_DENIED.contains(&server.code) || HOST_BLOCKED.contains(&server.code)
        }
        _ => false,
    }
}

/// What the server says by error 1236, which is said for many things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogRefusal {
    /// The log from where we stopped is gone.
    Purged,
    /// Our server id is taken: the next attempt takes another one.
    Duplicate,
    /// Transactions without a number stand in the log, and it was asked for by numbers.
    Anonymous,
    /// Transactions with, or without, a number stand in the log, and its mode forbids to send them at all.
    Mode,
    /// There is no such place in that file.
    NoSuchPlace,
    /// What stands there is no event, or one beyond the server's limit.
    NoSuchEvent,
    /// It could not read on. A new connection may tell why.
    Broken,
}

impl LogRefusal {
    pub(crate) fn of(error: &WireError) -> Option<Self> {
        match error {
            WireError::Server(server) if server.code == SAME_ID => Some(Self::Duplicate),
            WireError::Server(server) if server.code == LOG_READ => Some(Self::said(&server.message)),
            _ => None,
        }
    }

    fn said(message: &str) -> Self {
        let text = message.to_ascii_lowercase();
        let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if any(&DUPLICATE_ID) {
            Self::Duplicate
        } else if any(&["auto_position"]) && any(&["anonymous"]) {
            Self::Anonymous
        } else if any(&["cannot replicate anonymous transaction", "cannot replicate gtid-transaction"]) {
            Self::Mode
        } else if any(&["purged", "could not find first log file", "could not find gtid", "not in the master's binlog"])
        {
            Self::Purged
        } else if any(&["impossible position"]) {
            Self::NoSuchPlace
        } else if any(&["bogus data", "max_allowed_packet", "truncated in the middle"]) {
            Self::NoSuchEvent
        } else {
            Self::Broken
        }
    }
}

fn log_failure(error: &ServerError, config: &MysqlConfig) -> Option<Failure> {
    match LogRefusal::said(&error.message) {
        LogRefusal::Duplicate | LogRefusal::Anonymous | LogRefusal::Broken => None,
        LogRefusal::Mode => {
            let (kind, mode) = match error.message.to_ascii_lowercase().contains("anonymous") {
                true => ("without", "ON_PERMISSIVE"),
                false => ("with", "OFF_PERMISSIVE"),
            };
            Some(Failure {
                message: format!("{} does not send transactions {kind} numbers, as its gtid_mode is", config.address()),
                detail: format!("{error}. They were committed before it was switched, and we have not read them yet."),
                hint: format!("SET GLOBAL gtid_mode = {mode}; and the last step again when we have caught up."),
            })
        }
        // Whoever knows the server says more.
        LogRefusal::Purged | LogRefusal::NoSuchPlace => Some(Failure {
            message: format!("{} does not have the log from where it is asked for", config.address()),
            detail: error.to_string(),
            hint: LOAD_ALL_AGAIN.to_owned(),
        }),
        LogRefusal::NoSuchEvent => Some(Failure {
            message: format!("{} cannot send an event of its log", config.address()),
            detail: error.to_string(),
            hint: format!("SET GLOBAL max_allowed_packet = 1073741824; or, if the file is damaged: {LOAD_ALL_AGAIN}"),
        }),
    }
}

/// The log does not go back to where we stopped.
pub(crate) fn purged(config: &MysqlConfig, detail: String, server: &ServerInfo) -> Failure {
    Failure {
        message: format!("{} no longer has the log from where we stopped", config.address()),
        detail,
        hint: format!("{LOAD_ALL_AGAIN}; where logs are kept for less than a week: {}", server.keep_for_a_week()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_load_is_refused_for_tells_whether_to_wait() {
        let of = |code, message: &str| {
            let error = ServerError { code, message: message.to_owned() };
            match Refused::of(&error, "`d`.`t`", "u") {
                Refused::ForNow => "wait".to_owned(),
                Refused::Unclear => "unclear".to_owned(),
                Refused::Until(what) => what,
            }
        };
        assert_eq!(of(1205, "Lock wait timeout exceeded; try restarting transaction"), "wait");
        assert_eq!(of(1016, "Can't open file: './d/t.ibd' (errno: 24 - Too many open files)"), "wait");
        assert_eq!(of(1143, "SELECT command denied"), "GRANT SELECT ON `d`.`t` TO 'u'@'%'");
        let repair = "REPAIR TABLE `d`.`t`, or restore it from a backup";
        assert_eq!(of(145, "Table './d/t' is marked as crashed and should be repaired"), repair);
        assert_eq!(of(1194, "Table 't' is marked as crashed and should be repaired"), repair);
        assert_eq!(of(1030, "Got error 127 - 'Record file is crashed' from storage engine MyISAM"), repair);
        assert!(of(1814, "Tablespace has been discarded for table 't'").contains("IMPORT TABLESPACE"));
        assert_eq!(of(1030, "Got error 168 from storage engine"), "unclear");
        assert_eq!(of(1690, "BIGINT value is out of range"), "unclear");
    }
}
