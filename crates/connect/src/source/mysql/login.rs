//! Opening a connection: TCP, TLS as configured, and logging in by `caching_sha2_password`, `sha256_password` or
//! `mysql_native_password`.
//!
//! A server asks a user that it does not know for any of these, so that nobody learns who exists: to say "access denied"
//! in every case, all have to be spoken.
//!
//! The law of the password: it goes to nobody but the server. A proof that is made of it and of the server's nonce may be read
//! on the way. The password itself, which `sha256_password` wants always and `caching_sha2_password` at times, goes through TLS,
//! or over a connection that does not leave this machine, or encrypted by a key that the settings name: whoever stands between
//! can offer a key of their own, so one that only comes over the connection is none.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mysql_common::scramble::{scramble_native, scramble_sha256};
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::source::Failure;
use crate::tls::client_config;

use super::error::{ServerError, WireError};
use super::server::identity;
use super::wire::{Reader, ServerInfo, Transport, Wire};
use super::{MysqlConfig, Tls};

const SHA256: &str = "sha256_password";

/// How long a server may take until it has let us in.
const PATIENCE: Duration = Duration::from_secs(10);
/// Asked of the kernel: a log at rest comes faster than a small window lets it.
const RECEIVE_BUFFER_BYTES: u32 = 2 << 20;

const LONG_PASSWORD: u32 = 1;
const LONG_FLAG: u32 = 1 << 2;
const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const MULTI_RESULTS: u32 = 1 << 17;
const PLUGIN_AUTH: u32 = 1 << 19;
const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
const UTF8MB4_GENERAL_CI: u8 = 45;

/// The server that was met: what is known of one server means nothing on another that answers at the same address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Met {
    /// As [`identity`] tells it.
    pub(crate) server: String,
    /// Where it has answered.
    pub(crate) address: Option<SocketAddr>,
}

impl Met {
    /// Asks who is at the other end.
    pub(crate) async fn ask(wire: &mut Wire) -> Result<Self, WireError> {
        Ok(Self { server: identity(wire).await?, address: wire.peer })
    }
}

/// Connects and logs in. The session speaks utf8mb4 and UTC.
pub(crate) async fn connect(config: &MysqlConfig) -> Result<Wire, WireError> {
    // The handshake's state is large, and gone when it is over.
    in_time(PATIENCE, Box::pin(open(config, None))).await
}

/// The same to a server that was met before, and to no other.
pub(crate) async fn connect_again(config: &MysqlConfig, met: &Met) -> Result<Wire, WireError> {
    let again = async {
        let mut wire = Box::pin(open(config, met.address)).await?;
        let found = identity(&mut wire).await?;
        match found == met.server {
            true => Ok(wire),
            false => Err(WireError::Elsewhere { read: met.server.clone(), found }),
        }
    };
    in_time(PATIENCE, again).await
}

/// An answer within a time, or none.
pub(crate) async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(WireError::Silent(limit.as_secs())),
    }
}

async fn open(config: &MysqlConfig, first: Option<SocketAddr>) -> Result<Wire, WireError> {
    let wire = match attempt(config, first, config.tls != Tls::Disabled).await {
        // "Preferred" is a wish: a server whose TLS we cannot speak is asked again without.
        Err(WireError::Tls(reason)) if config.tls == Tls::Preferred => {
            tracing::warn!(server = %config.address(), %reason, "not encrypted: rows go over the network as they are");
            attempt(config, first, false).await
        }
        other => other,
    };
    let mut wire = wire?;
    wire.execute("SET NAMES utf8mb4").await?;
    wire.execute(SESSION).await?;
    if wire.server.mariadb && wire.server.numbers() >= (10, 3, 4) {
        // What somebody has set for all shows versioned tables as of a day long ago; here the word is of the session.
        wire.execute("SET SESSION system_versioning_asof = DEFAULT").await?;
    }
    if let Some(limit) = wire.server.limit_of_time() {
        wire.execute(&format!("SET SESSION {limit} = 0")).await?;
    }
    Ok(wire)
}

/// What our sessions are like, whatever the server's defaults: these may cut off results, hold an old view of the data, or
/// change what values look like. `DEFAULT` would be what somebody has set for all. Setting `max_join_size` switches
/// `sql_big_selects` off, which therefore comes last.
const SESSION: &str = "SET SESSION time_zone = '+00:00', sql_mode = '', sql_quote_show_create = 1, autocommit = 1, \
                       completion_type = 0, sql_select_limit = 18446744073709551615, \
                       max_join_size = 18446744073709551615, sql_big_selects = 1, sql_safe_updates = 0, \
                       sql_auto_is_null = 0, net_read_timeout = 3600, net_write_timeout = 3600, wait_timeout = 28800, \
                       group_concat_max_len = 4294967295";

async fn attempt(config: &MysqlConfig, first: Option<SocketAddr>, with_tls: bool) -> Result<Wire, WireError> {
    let stream = dial(config, first).await?;
    let peer = stream.peer_addr().ok();
    let mut wire = Wire::new(Transport::Plain(stream));
    wire.peer = peer;
    enter(&mut wire, config, with_tls).await?;
    Ok(wire)
}

/// Hears the server's greeting and logs in.
pub(super) async fn enter(wire: &mut Wire, config: &MysqlConfig, with_tls: bool) -> Result<(), WireError> {
    let greeting = wire.read_packet().await?;
    if greeting.first() == Some(&0xff) {
        return Err(WireError::Server(ServerError::parse(&greeting)));
    }
    let greeting = Greeting::parse(&greeting)?;
    wire.server = greeting.server.clone();
    let encrypted = with_tls && negotiate_tls(wire, config, &greeting).await?;
    log_in(wire, config, &greeting, encrypted).await
}

/// Opens the socket: every address of the host is tried, the one that is known before the others.
async fn dial(config: &MysqlConfig, first: Option<SocketAddr>) -> Result<TcpStream, WireError> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the host name has no address");
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host((config.host.as_str(), config.port)).await?.collect();
    // Where a name has several addresses, they come in another order each time.
    addresses.sort_by_key(|address| Some(*address) != first);
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_keepalive(true)?;
        // A wish as well: the kernel caps it.
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        match socket.connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

/// What the server sends first.
struct Greeting {
    server: ServerInfo,
    capabilities: u32,
    nonce: Vec<u8>,
    plugin: String,
}

impl Greeting {
    fn parse(packet: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader(packet);
        if reader.take(1)? != [10] {
            return Err(WireError::Protocol("this is no MySQL server, or one older than 4.1".to_owned()));
        }
        let version = String::from_utf8_lossy(reader.until_zero()).into_owned();
        let id = reader.take(4)?;
        let connection_id = u32::from_le_bytes([id[0], id[1], id[2], id[3]]);
        let mut nonce = reader.take(8)?.to_vec();
        let rest = reader.take(19)?; // filler, capabilities, collation, status, capabilities, length, reserved …
        let low = u32::from(rest[1]) | u32::from(rest[2]) << 8;
        let high = u32::from(rest[6]) | u32::from(rest[7]) << 8;
        let nonce_length = usize::from(rest[8]);
        nonce.extend_from_slice(reader.take(nonce_length.saturating_sub(8).max(13))?);
        nonce.truncate(20); // its last byte is a terminating zero
        let plugin = String::from_utf8_lossy(reader.until_zero()).into_owned();
        let mariadb = version.contains("MariaDB");
        let server = ServerInfo { version, mariadb, connection_id };
        Ok(Self { server, capabilities: low | high << 16, nonce, plugin })
    }

    /// The capabilities we use.
    fn ours(&self, encrypted: bool) -> u32 {
        let wanted = LONG_PASSWORD
            | LONG_FLAG
            | PROTOCOL_41
            | TRANSACTIONS
            | SECURE_CONNECTION
            | MULTI_RESULTS
            | PLUGIN_AUTH
            | PLUGIN_AUTH_LENENC;
        // MariaDB uses the lowest bit to say that it has capabilities of its own; setting it is always right.
        (wanted & (self.capabilities | LONG_PASSWORD)) | if encrypted { SSL } else { 0 }
    }
}

/// Capabilities, packet size and collation: the head of our answer, and all of a request for TLS.
fn answer_head(capabilities: u32) -> Vec<u8> {
    const PACKET_BYTES_MAX: u32 = 1 << 30;
    let mut out = capabilities.to_le_bytes().to_vec();
    out.extend_from_slice(&PACKET_BYTES_MAX.to_le_bytes());
    out.push(UTF8MB4_GENERAL_CI);
    out.extend_from_slice(&[0; 23]);
    out
}

/// Upgrades the connection if the server can. Returns whether it is encrypted now.
async fn negotiate_tls(wire: &mut Wire, config: &MysqlConfig, greeting: &Greeting) -> Result<bool, WireError> {
    if greeting.capabilities & SSL == 0 {
        return match config.tls {
            Tls::Required | Tls::Verify => Err(WireError::Tls("the server does not offer TLS".to_owned())),
            Tls::Preferred | Tls::Disabled => Ok(false),
        };
    }
    wire.send(&answer_head(greeting.ours(true))).await?;
    let Transport::Plain(stream) = std::mem::replace(&mut wire.transport, Transport::Gone) else {
        return Err(WireError::Protocol("TLS within TLS".to_owned()));
    };
    let name = ServerName::try_from(config.host.clone()).map_err(|e| WireError::Tls(e.to_string()))?;
    let connector =
        TlsConnector::from(Arc::new(client_config(config.tls, config.tls_ca.as_deref()).map_err(WireError::Tls)?));
    let stream = connector.connect(name, stream).await.map_err(|error| match error.kind() {
        // A connection that was lost meanwhile says nothing about TLS, except to who would do without.
        kind if kind != ErrorKind::InvalidData && config.tls != Tls::Preferred => WireError::Io(error),
        _ => WireError::Tls(error.to_string()),
    })?;
    wire.transport = Transport::Tls(Box::new(stream));
    Ok(true)
}

async fn log_in(wire: &mut Wire, config: &MysqlConfig, greeting: &Greeting, encrypted: bool) -> Result<(), WireError> {
    let password = config.password.as_deref().unwrap_or("");
    let mut plugin = greeting.plugin.clone();
    let mut nonce = greeting.nonce.clone();
    // A plugin that we do not know is not answered; the server then names the one that the user has.
    let first = proof(&plugin, password, &nonce).unwrap_or_default();
    let capabilities = greeting.ours(encrypted);
    let mut out = answer_head(capabilities);
    out.extend_from_slice(config.user.as_bytes());
    out.push(0);
    out.push(u8::try_from(first.len()).unwrap_or(0)); // proofs have 0, 20 or 32 bytes
    out.extend_from_slice(&first);
    out.extend_from_slice(plugin.as_bytes());
    out.push(0);
    wire.send(&out).await?;
    loop {
        let packet = wire.read_packet().await?;
        match packet.first() {
            Some(0) => return Ok(()),
            Some(0xff) => return Err(WireError::Server(ServerError::parse(&packet))),
            Some(0xfe) => {
                let mut reader = Reader(packet.get(1..).unwrap_or_default());
                plugin = String::from_utf8_lossy(reader.until_zero()).into_owned();
                nonce = reader.0.strip_suffix(&[0]).unwrap_or(reader.0).to_vec();
                if plugin == SHA256 {
                    hand_over(wire, config, &nonce, encrypted, KeyRequest::Sha256).await?;
                    continue;
                }
                let answer = proof(&plugin, password, &nonce)
                    .ok_or_else(|| unknown_plugin(&plugin, config, &greeting.server))?;
                wire.send(&answer).await?;
            }
            Some(1) if plugin == "caching_sha2_password" => {
                if packet.get(1) == Some(&4) {
                    hand_over(wire, config, &nonce, encrypted, KeyRequest::CachingSha2).await?;
                }
            }
            _ => return Err(WireError::Protocol("while logging in".to_owned())),
        }
    }
}

/// What proves the password without showing it, or none for a plugin that we do not know.
fn proof(plugin: &str, password: &str, nonce: &[u8]) -> Option<Vec<u8>> {
    match plugin {
        "mysql_native_password" => {
            Some(scramble_native(nonce, password.as_bytes()).map(|s| s.to_vec()).unwrap_or_default())
        }
        "caching_sha2_password" => {
            Some(scramble_sha256(nonce, password.as_bytes()).map(|s| s.to_vec()).unwrap_or_default())
        }
        _ => None,
    }
}

fn unknown_plugin(plugin: &str, config: &MysqlConfig, server: &ServerInfo) -> WireError {
    Failure {
        message: format!("user \"{}\" logs in by \"{plugin}\", which is not supported", config.user),
        detail: "Known are caching_sha2_password, sha256_password and mysql_native_password.".to_owned(),
        hint: match server.mariadb {
            true => {
                format!("ALTER USER '{}'@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('…')", config.user)
            }
            false => format!("ALTER USER '{}'@'%' IDENTIFIED WITH caching_sha2_password BY '…'", config.user),
        },
    }
    .into()
}

/// The byte that asks for the server's public key: each plugin has its own.
#[derive(Debug, Clone, Copy)]
enum KeyRequest {
    Sha256 = 1,
    CachingSha2 = 2,
}

/// The server gets the password itself, through TLS or by its public key: `sha256_password` always, `caching_sha2_password`
/// where the server does not have it cached. Errors: over this connection others might read it.
async fn hand_over(
    wire: &mut Wire,
    config: &MysqlConfig,
    nonce: &[u8],
    encrypted: bool,
    request: KeyRequest,
) -> Result<(), WireError> {
    let mut secret = config.password.clone().unwrap_or_default().into_bytes();
    let is_empty = secret.is_empty();
    secret.push(0);
    if encrypted || is_empty {
        return wire.send(&secret).await;
    }
    let key = match &config.server_key {
        Some(path) => tokio::fs::read(path).await.map_err(|error| bad_key(path, &error.to_string()))?,
        None if wire.is_of_this_machine() => asked_for_key(wire, request).await?,
        None => return Err(exposed(config, request)),
    };
    if nonce.is_empty() {
        return Err(WireError::Protocol("a nonce without a byte".to_owned()));
    }
    for (byte, mask) in secret.iter_mut().zip(nonce.iter().cycle()) {
        *byte ^= mask;
    }
    // It panics on a key that it cannot read, which a stranger may have sent.
    let sealed = std::panic::catch_unwind(|| mysql_common::crypto::encrypt(&secret, &key));
    match (sealed, &config.server_key) {
        (Ok(sealed), _) => wire.send(&sealed).await,
        (Err(_), Some(path)) => Err(bad_key(path, "It is no RSA key in PEM, or too small for the password.")),
        (Err(_), None) => Err(WireError::Protocol("the server's public key is in no known form".to_owned())),
    }
}

/// The public key that the server at the other end says is its own.
async fn asked_for_key(wire: &mut Wire, request: KeyRequest) -> Result<Vec<u8>, WireError> {
    wire.send(&[request as u8]).await?;
    let answer = wire.read_packet().await?;
    let Some((1, key)) = answer.split_first().map(|(first, key)| (*first, key)) else {
        return Err(WireError::Protocol("the server sent no public key".to_owned()));
    };
    if !key.starts_with(b"-----BEGIN PUBLIC KEY-----") {
        return Err(WireError::Protocol("the server's public key is in no known form".to_owned()));
    }
    Ok(key.to_vec())
}

fn exposed(config: &MysqlConfig, request: KeyRequest) -> WireError {
    let (plugin, status) = match request {
        KeyRequest::Sha256 => (SHA256, "Rsa_public_key"),
        KeyRequest::CachingSha2 => ("caching_sha2_password", "Caching_sha2_password_rsa_public_key"),
    };
    Failure {
        message: format!("the password of user \"{}\" is not sent to {}", config.user, config.address()),
        detail: format!(
            "The connection is not encrypted, and the server wants the password itself ({plugin}): whoever stands between could \
             read it, or offer a key of their own."
        ),
        hint: format!(
            "Have the server offer TLS, and set `tls: required`; or name its public key by `server_public_key: FILE`, as `SHOW \
             STATUS LIKE '{status}'` shows it on the server itself."
        ),
    }
    .into()
}

fn bad_key(path: &std::path::Path, detail: &str) -> WireError {
    Failure {
        message: format!("server_public_key {} cannot be used", path.display()),
        detail: detail.to_owned(),
        hint: "Write into it what `SHOW STATUS LIKE '%rsa_public_key'` shows on the server.".to_owned(),
    }
    .into()
}
