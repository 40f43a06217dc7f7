//! The first messages of a client: TLS or not, a cancel request, or the login.
//!
//! Any database is the same warehouse. Who is let in, and whether a password is asked, is the door's to say
//! ([`crate::Door`]); until then nothing is done for a client but this.

use std::net::IpAddr;
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
use super::login::{self, Turned};
use super::session::Session;
use crate::door::{Admission, Sealed, Wire, is_loopback};
use crate::reader::{QueryContext, SqlError};
use crate::service::Service;
use crate::sql::command::Scope;

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

impl Login {
    /// Who wants to log in. The last one counts, as for the session.
    fn user(&self) -> Result<&str, SqlError> {
        let named = self.parameters.iter().rev().find(|(name, _)| name == "user").map(|(_, user)| user.as_str());
        named
            .filter(|user| !user.is_empty())
            .ok_or_else(|| SqlError::new("28000", "no PostgreSQL user name specified in startup packet"))
    }
}

/// Where a client comes from.
pub(super) struct Peer {
    /// Its own address.
    pub(super) address: IpAddr,
    /// The address that it has reached.
    here: Option<IpAddr>,
    /// The address that is listened on.
    pub(super) listener: Option<IpAddr>,
    /// What it is sealed by, where it asked for TLS.
    pub(super) sealed: Option<Arc<Sealed>>,
}

impl Peer {
    pub(super) fn new(socket: &TcpStream, listener: Option<IpAddr>) -> std::io::Result<Self> {
        let here = socket.local_addr().ok().map(|address| address.ip());
        Ok(Self { address: socket.peer_addr()?.ip(), here, listener, sealed: None })
    }

    /// Whether it is on this machine: nothing that it sends goes over a network.
    pub(super) fn is_here(&self) -> bool {
        is_loopback(self.address) || self.here == Some(self.address)
    }
}

/// What a client wants, and who it is.
enum Came {
    Cancel { pid: i32, secret: i32 },
    In(Login, Admission),
}

/// Serves a client. Its leaving, at whatever point, is no trouble of ours.
pub(super) async fn greet(socket: TcpStream, peer: Peer, service: Arc<Service>, stop: watch::Receiver<bool>) {
    let (mut socket, mut input) = (Wire::Plain(socket), BytesMut::new());
    let came = {
        let Some(_arrival) = service.door.throttle.arrive(peer.address) else {
            return debug!("too many logins are under way, one closed");
        };
        let coming = come(&mut socket, &mut input, peer, &service);
        let Ok(came) = tokio::time::timeout(service.limits.startup_timeout, coming).await else {
            return debug!("a client did not log in in time");
        };
        came
    };
    let (login, admission) = match came {
        Ok(Came::In(login, admission)) => (login, admission),
        Ok(Came::Cancel { pid, secret }) => return service.cancels.cancel(pid, secret),
        Err(Turned::Gone) => return,
        Err(Turned::Away(error)) => return refuse(&mut socket, error).await,
    };
    let Ok(_permit) = Arc::clone(&service.connections).try_acquire_owned() else {
        let error = SqlError::new("53300", "sorry, too many clients already")
            .detail(format!("{} are connected.", service.limits.connections))
            .hint("Close connections that idle, or use a pool.");
        return refuse(&mut socket, error).await;
    };
    let (pid, secret, cancel) = service.cancels.enter();
    let _entry = Entry { service: &service, pid };
    match session(&login, &admission, &service, pid) {
        Ok((session, unknown)) => {
            let (end, ended) = watch::channel(false);
            let mut connection = Connection::new(socket, input, Arc::clone(&service), session, cancel, ended);
            welcome(&mut connection, &login, &unknown, secret);
            let usher = usher(&service, &admission, stop, end);
            tokio::select! {
                () = connection.run() => {}
                () = usher => {}
            }
        }
        Err(error) => refuse(&mut socket, error).await,
    }
}

/// Ends a client's connection when we stop, or when it is no longer who it was let in as.
async fn usher(service: &Service, admission: &Admission, mut stop: watch::Receiver<bool>, end: watch::Sender<bool>) {
    tokio::select! {
        // An error would mean that the sender is gone, and with it the server.
        _ = stop.wait_for(|stop| *stop) => {}
        () = service.door.outstay(admission) => debug!("a client's user has changed"),
    }
    end.send_replace(true);
    // The connection ends by itself, when it has said why.
    std::future::pending().await
}

/// From the first byte to the right password.
async fn come(socket: &mut Wire, input: &mut BytesMut, mut peer: Peer, service: &Service) -> Result<Came, Turned> {
    match first(socket, input, &mut peer, service).await? {
        First::Cancel { pid, secret } => Ok(Came::Cancel { pid, secret }),
        First::Login(login) => {
            let name = login.user()?;
            let admission = login::admit(socket, input, &peer, &service.door, name).await?;
            Ok(Came::In(login, admission))
        }
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

/// Reads until the client says what it wants.
async fn first(socket: &mut Wire, input: &mut BytesMut, peer: &mut Peer, service: &Service) -> Result<First, Turned> {
    loop {
        let Some(mut body) = packet(socket, input).await? else { return Err(Turned::Gone) };
        let answer = match body.try_get_u32().unwrap_or_default() {
            TLS => match &service.door.tls {
                Some(tls) if matches!(socket, Wire::Plain(_)) => {
                    if !input.is_empty() {
                        // Somebody on the way has put it before what will be sealed.
                        return Err(SqlError::new("08P01", "received unencrypted data after a request for TLS").into());
                    }
                    let sealed = tls.now();
                    seal(socket, &sealed).await?;
                    peer.sealed = Some(sealed);
                    continue;
                }
                _ => Reply::SslResponse(SslResponse::Refuse),
            },
            GSS => Reply::GssEncResponse(GssEncResponse::Refuse),
            CANCEL => {
                let pid = body.try_get_i32().unwrap_or_default();
                return Ok(First::Cancel { pid, secret: body.try_get_i32().unwrap_or_default() });
            }
            version if version >> 16 == 3 => return Ok(First::Login(login(version & 0xffff, &body)?)),
            version => {
                let (major, minor) = (version >> 16, version & 0xffff);
                return Err(SqlError::new("0A000", format!("unsupported frontend protocol {major}.{minor}"))
                    .detail("The server speaks 3.0.")
                    .into());
            }
        };
        let mut out = BytesMut::new();
        if answer.encode(&mut out).is_err() || socket.write_all(&out).await.is_err() || socket.flush().await.is_err() {
            return Err(Turned::Gone);
        }
    }
}

/// Says yes to TLS; the handshake is made by the next read.
async fn seal(socket: &mut Wire, sealed: &Sealed) -> Result<(), Turned> {
    let mut out = BytesMut::new();
    let accepted = Reply::SslResponse(SslResponse::Accept).encode(&mut out);
    if accepted.is_err() || socket.write_all(&out).await.is_err() {
        return Err(Turned::Gone);
    }
    match std::mem::replace(socket, Wire::Gone) {
        Wire::Plain(plain) => *socket = Wire::sealed(plain, &sealed.acceptor),
        sealed => *socket = sealed,
    }
    Ok(())
}

/// A message without kind: its body, once it is there.
async fn packet(socket: &mut Wire, input: &mut BytesMut) -> Result<Option<BytesMut>, SqlError> {
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
fn session(
    login: &Login,
    admission: &Admission,
    service: &Service,
    pid: i32,
) -> Result<(Session, Vec<String>), SqlError> {
    let mut context = QueryContext { pid, role: admission.role(), ..QueryContext::default() };
    let mut unknown = Vec::new();
    let mut settings = Vec::new();
    for (name, value) in &login.parameters {
        match name.as_str() {
            "user" => {}
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
    login.user()?.clone_into(&mut context.user);
    if context.database.is_empty() {
        context.database.clone_from(&context.user);
    }
    let mut session = Session::new(context, &service.site, &service.limits);
    for (name, value) in settings {
        session.set(&name, Some(value), Scope::Session)?;
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
async fn refuse(socket: &mut Wire, error: SqlError) {
    let mut out = BytesMut::new();
    let reply = Reply::ErrorResponse(ErrorResponse::new(error_fields("FATAL", &error, 0)));
    if reply.encode(&mut out).is_ok() && (socket.write_all(&out).await.is_err() || socket.shutdown().await.is_err()) {
        debug!("a client left before it was refused");
    }
}
