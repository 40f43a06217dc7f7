//! The first messages of a client: TLS or not, a cancel request, or the login.
//!
//! TLS is answered with "no". Any user and any database get in without a password: whoever listens on more than
//! loopback must not use this login, see `app`'s settings.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use pgwire::messages::PgWireBackendMessage as Reply;
use pgwire::messages::response::{ErrorResponse, GssEncResponse, SslResponse};
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::debug;

use super::connection::{Connection, error_fields};
use super::frame::utf8;
use super::session::Session;
use crate::reader::{QueryContext, SqlError};
use crate::service::Service;

/// Longest first message, as in PostgreSQL.
const STARTUP_BYTES_MAX: usize = 10_000;
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
/// Version 3.0, the one we speak.
const VERSION: i32 = 196_608;

/// What a client wants first.
enum First {
    Cancel { pid: i32, secret: i32 },
    Login(Login),
}

struct Login {
    /// Minor version of the protocol.
    minor: u32,
    parameters: Vec<(String, String)>,
}

/// Serves a client. Its leaving, at whatever point, is no trouble of ours.
pub(super) async fn greet(mut socket: TcpStream, service: Arc<Service>, stop: watch::Receiver<bool>) {
    let mut input = BytesMut::new();
    let first = tokio::time::timeout(service.limits.startup_timeout, first(&mut socket, &mut input)).await;
    let login = match first {
        Ok(Ok(Some(First::Login(login)))) => login,
        Ok(Ok(Some(First::Cancel { pid, secret }))) => return service.cancels.cancel(pid, secret),
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return refuse(&mut socket, error).await,
        Err(_) => return debug!("a client did not log in in time"),
    };
    let Ok(_permit) = Arc::clone(&service.connections).try_acquire_owned() else {
        let error = SqlError::new("53300", "sorry, too many clients already")
            .detail(format!("{} are connected.", service.limits.connections))
            .hint("Close connections that idle, or use a pool.");
        return refuse(&mut socket, error).await;
    };
    let (pid, secret, cancel) = service.cancels.enter();
    let _entry = Entry { service: &service, pid };
    match session(&login, &service, pid) {
        Ok((session, unknown)) => {
            let mut connection = Connection::new(socket, input, Arc::clone(&service), session, cancel, stop);
            welcome(&mut connection, &login, &unknown, secret);
            connection.run().await;
        }
        Err(error) => refuse(&mut socket, error).await,
    }
}

/// Takes the client out of the list of whom a cancel reaches, however its task ends.
struct Entry<'a> {
    service: &'a Service,
    pid: i32,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.service.cancels.leave(self.pid);
    }
}

/// Reads until the client says what it wants; none if it left.
async fn first(socket: &mut TcpStream, input: &mut BytesMut) -> Result<Option<First>, SqlError> {
    loop {
        let Some(mut body) = packet(socket, input).await? else { return Ok(None) };
        let answer = match body.try_get_u32().unwrap_or_default() {
            TLS => Reply::SslResponse(SslResponse::Refuse),
            GSS => Reply::GssEncResponse(GssEncResponse::Refuse),
            CANCEL => {
                let pid = body.try_get_i32().unwrap_or_default();
                return Ok(Some(First::Cancel { pid, secret: body.try_get_i32().unwrap_or_default() }));
            }
            version if version >> 16 == 3 => {
                return login(version & 0xffff, &body).map(First::Login).map(Some);
            }
            version => {
                let (major, minor) = (version >> 16, version & 0xffff);
                return Err(SqlError::new("0A000", format!("unsupported frontend protocol {major}.{minor}"))
                    .detail("The server speaks 3.0."));
            }
        };
        let mut out = BytesMut::new();
        if answer.encode(&mut out).is_err() || socket.write_all(&out).await.is_err() {
            return Ok(None);
        }
    }
}

/// A message without kind: its body, once it is there.
async fn packet(socket: &mut TcpStream, input: &mut BytesMut) -> Result<Option<BytesMut>, SqlError> {
    loop {
        if let Some(length) = input.get(..4) {
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if !(8..=STARTUP_BYTES_MAX).contains(&length) {
                return Err(SqlError::new("08P01", "invalid length of startup packet"));
            }
            if input.len() >= length {
                let mut packet = input.split_to(length);
                packet.advance(4);
                return Ok(Some(packet));
            }
        }
        if !matches!(socket.read_buf(input).await, Ok(read) if read > 0) {
            return Ok(None);
        }
    }
}

fn login(minor: u32, body: &[u8]) -> Result<Login, SqlError> {
    let mut words = body.split(|b| *b == 0).map(utf8);
    let mut parameters = Vec::new();
    while let Some(name) = words.next().transpose()?.filter(|name| !name.is_empty()) {
        let value = words.next().ok_or_else(|| SqlError::new("08P01", "invalid startup packet layout"))??;
        parameters.push((name, value));
    }
    Ok(Login { minor, parameters })
}

/// The session that a login asks for, and those of its options that we do not know.
fn session(login: &Login, service: &Service, pid: i32) -> Result<(Session, Vec<String>), SqlError> {
    let mut context = QueryContext { pid, ..QueryContext::default() };
    let mut unknown = Vec::new();
    let mut settings = Vec::new();
    for (name, value) in &login.parameters {
        match name.as_str() {
            "user" => context.user.clone_from(value),
            "database" => context.database.clone_from(value),
            "replication" if !["", "false", "off", "no", "0"].contains(&value.as_str()) => {
                return Err(SqlError::new("0A000", "replication connections are not supported"));
            }
            "replication" => {}
            "options" => settings.extend(options(value)),
            protocol if protocol.starts_with("_pq_.") => unknown.push(name.clone()),
            _ => settings.push((name.clone(), value.clone())),
        }
    }
    if context.user.is_empty() {
        return Err(SqlError::new("28000", "no PostgreSQL user name specified in startup packet"));
    }
    if context.database.is_empty() {
        context.database.clone_from(&context.user);
    }
    let mut session = Session::new(context, &service.site, &service.limits);
    for (name, value) in settings {
        session.set(&name, Some(value))?;
    }
    session.settings.settle();
    Ok((session, unknown))
}

/// `-c name=value --other=value`, as the environment variable PGOPTIONS has them.
fn options(text: &str) -> Vec<(String, String)> {
    let words = text.split_whitespace().filter(|word| *word != "-c");
    let pairs = words.filter_map(|word| {
        let word = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).unwrap_or(word);
        word.split_once('=').map(|(name, value)| (name.replace('-', "_"), value.to_owned()))
    });
    pairs.collect()
}

fn welcome(connection: &mut Connection, login: &Login, unknown: &[String], secret: i32) {
    if login.minor > 0 || !unknown.is_empty() {
        connection.send(&Reply::NegotiateProtocolVersion(NegotiateProtocolVersion::new(VERSION, unknown.to_vec())));
    }
    connection.send(&Reply::Authentication(Authentication::Ok));
    for status in connection.session.settings.reported() {
        connection.send(&status);
    }
    let pid = connection.session.context.pid;
    connection.send(&Reply::BackendKeyData(BackendKeyData::new(pid, SecretKey::I32(secret))));
    connection.ready();
}

/// Tells a client why it cannot come in.
async fn refuse(socket: &mut TcpStream, error: SqlError) {
    let mut out = BytesMut::new();
    let reply = Reply::ErrorResponse(ErrorResponse::new(error_fields("FATAL", &error, 0)));
    if reply.encode(&mut out).is_ok() && socket.write_all(&out).await.is_err() {
        debug!("a client left before it was refused");
    }
}
