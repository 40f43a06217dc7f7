//! A connection to the server, and whose move is next when it says no.

use std::error::Error as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::DbError;
use tokio_postgres::{Client, Error, NoTls};

use crate::destination::Down;
use crate::destination::kind::SOME_TABLE;
use crate::destination::link::{self, Link, PATIENCE};
use crate::destination::portion::Refusal;
use crate::tls::Tls;

use super::config::Config;

/// What our sessions are like, whatever the server's defaults. A lock that another session holds is waited for, and not without
/// end; a transaction in which we have fallen silent is rolled back, so that its locks do not stay.
const SESSION: &str = "SET client_min_messages = 'error'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
                       SET TimeZone = 'UTC'; SET standard_conforming_strings = on; SET statement_timeout = 0; \
                       SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'; \
                       SET default_transaction_isolation = 'read committed'";

/// Asks for TLS: eight bytes of length and code.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A connection and the task that moves its bytes, which ends with it.
pub(super) struct Connected {
    pub(super) client: Client,
    driver: Driver,
}

/// The task that moves a connection's bytes. One that is dropped is cut off; the server takes back what was not committed.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connected {
    /// Says goodbye, without waiting for long.
    pub(super) async fn close(mut self) {
        const PATIENCE: Duration = Duration::from_millis(200);
        drop(self.client);
        // The connection goes either way.
        tokio::time::timeout(PATIENCE, &mut self.driver.0).await.ok();
    }
}

/// Connects and logs in.
pub(super) async fn connect(config: &Config) -> Result<Connected, Down> {
    match tokio::time::timeout(PATIENCE, Box::pin(open(config))).await {
        Ok(connected) => connected,
        Err(_) => Err(unreachable(config, &format!("no sign of life for {} s", PATIENCE.as_secs()))),
    }
}

async fn open(config: &Config) -> Result<Connected, Down> {
    let link: Link = match secured(config).await? {
        Ok(link) => link,
        // "Preferred" is a wish: a server whose TLS we cannot speak is asked again without.
        Err(reason) if config.tls == Tls::Preferred => {
            tracing::warn!(server = %config.address(), %reason, "not encrypted: rows go over the network as they are");
            Box::new(dial(config).await?)
        }
        Err(reason) => return Err(no_tls(config, &reason)),
    };
    let mut settings = tokio_postgres::Config::new();
    settings.user(&config.user).dbname(&config.database).application_name("tidemill").ssl_mode(SslMode::Disable);
    if let Some(password) = &config.password {
        settings.password(password);
    }
    let (client, connection) = settings.connect_raw(link, NoTls).await.map_err(|error| down(&error, config))?;
    // What ends it is told to whoever asks for something next.
    let driver = tokio::spawn(async move { drop(connection.await) });
    let connected = Connected { client, driver: Driver(driver) };
    connected.client.batch_execute(SESSION).await.map_err(|error| down(&error, config))?;
    Ok(connected)
}

async fn dial(config: &Config) -> Result<TcpStream, Down> {
    let stream = link::dial(&config.host, config.port).await;
    stream.map_err(|error| unreachable(config, &link::told(&error, &config.address())))
}

/// A connection as encrypted as the settings want it; or why it cannot be.
async fn secured(config: &Config) -> Result<Result<Link, String>, Down> {
    let mut stream = dial(config).await?;
    if config.tls == Tls::Disabled {
        return Ok(Ok(Box::new(stream)));
    }
    let answer = async {
        stream.write_all(&TLS_REQUEST).await?;
        stream.read_u8().await
    };
    match answer.await {
        Ok(b'S') => Ok(link::encrypt(stream, &config.host, config.tls, config.tls_ca.as_deref()).await),
        Ok(b'N') if config.tls == Tls::Preferred => Ok(Ok(Box::new(stream))),
        Ok(b'N') => Err(no_tls(config, "the server does not offer TLS")),
        Ok(_) => Err(unreachable(config, "what answers there is no PostgreSQL")),
        Err(error) => Err(unreachable(config, &link::told(&error, &config.address()))),
    }
}

fn no_tls(config: &Config, reason: &str) -> Down {
    Down::ours(
        format!("cannot open an encrypted connection to {}", config.address()),
        reason,
        "Check `tls` of the connection: `preferred` takes what the server offers, `verify` needs a certificate signed by a known \
         authority (or `tls_ca`) for this host name.",
    )
}

fn unreachable(config: &Config, detail: &str) -> Down {
    let mut down = Down::passing(format!("cannot reach {}", config.address()), detail);
    down.failure.hint = "Check host and port of the connection, and that the server runs.".to_owned();
    down
}

/// What a statement with rows in it came to.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is of one of the rows.
    Row(Refusal),
    Down(Down),
}

/// By the class of the server's code: what is wrong with values, constraints, what triggers raise, limits of single rows.
fn is_of_rows(code: &str) -> bool {
    const CLASSES: [&str; 8] = ["21", "22", "23", "2F", "38", "39", "44", "54"];
    code == "P0001" || CLASSES.iter().any(|class| code.starts_with(class))
}

/// What becomes of rows whose statement has failed so.
pub(super) fn fault(error: &Error, config: &Config) -> Fault {
    match error.as_db_error() {
        Some(said) if is_of_rows(said.code().code()) => Fault::Row(Refusal::new(said.code().code(), sentence(said))),
        _ => Fault::Down(down(error, config)),
    }
}

/// Whether what was to be made is there by now: another session has made it at the same time.
pub(super) fn is_made_meanwhile(error: &Error) -> bool {
    const CODES: [&str; 3] = ["42P07", "42710", "23505"];
    error.as_db_error().is_some_and(|said| CODES.contains(&said.code().code()))
}

/// Whether a transaction failed at its end for rows in it: constraints that are checked then.
pub(super) fn is_deferred(error: &Error) -> bool {
    error.as_db_error().is_some_and(|said| is_of_rows(said.code().code()))
}

fn sentence(said: &DbError) -> String {
    match said.detail() {
        Some(detail) => format!("{}: {detail}", said.message()),
        None => said.message().to_owned(),
    }
}

/// Why nothing goes on.
pub(super) fn down(error: &Error, config: &Config) -> Down {
    let address = config.address();
    let Some(said) = error.as_db_error() else {
        let told = match error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) {
            Some(error) => link::told(error, &address),
            None if error.is_closed() => format!("{address} closed the connection"),
            None => format!("{address}: {error}"),
        };
        return Down::passing(format!("lost the connection to {address}"), told);
    };
    let (code, detail) = (said.code().code(), format!("{} ({})", sentence(said), said.code().code()));
    let user = &config.user;
    match (code, code.get(..2).unwrap_or_default()) {
        (_, "28") => Down::ours(
            format!("{address} refuses user \"{user}\""),
            detail,
            "Check user and password of the connection, and that pg_hba.conf of the server lets the user in from here.",
        ),
        ("3D000", _) => Down::ours(
            format!("database \"{}\" does not exist", config.database),
            detail,
            "Correct `database` of the connection.",
        ),
        ("42501", _) => Down::ours(
            format!("user \"{user}\" lacks a privilege"),
            detail,
            format!(
                "On the table: GRANT SELECT, INSERT, UPDATE, DELETE{SOME_TABLE}\"{user}\"; on its schema: GRANT USAGE, CREATE."
            ),
        ),
        ("25006", _) => Down::passing(format!("{address} takes no writes: it is read-only"), detail),
        ("55P03", _) => Down::passing("another session holds what is to be written", detail),
        ("42P01" | "42703" | "42P10" | "42804" | "0A000", _) => Down::passing("the table is not as it was", detail),
        _ => Down::passing(format!("{address} takes no writes for now"), detail),
    }
}
