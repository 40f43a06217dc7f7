//! The password: SCRAM-SHA-256, bound to the certificate (`-PLUS`) where there is one.
//!
//! pgwire computes the messages of SCRAM; which may come when, and what is said to whom, is decided here. A name that nobody
//! has goes the same way as a wrong password, against a verifier that nothing passes.

use bytes::{Buf, Bytes, BytesMut};
use pgwire::api::auth::sasl::scram::ScramServerAuth;
use pgwire::messages::PgWireBackendMessage as Reply;
use pgwire::messages::startup::Authentication;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::startup::Peer;
use crate::door::{Admission, Door, Happened, OPERATOR, Wire};
use crate::reader::SqlError;
use crate::service::Protocol;

/// Longest message of a login.
const LOGIN_BYTES_MAX: usize = 10_000;
const PLAIN: &str = "SCRAM-SHA-256";
const BOUND: &str = "SCRAM-SHA-256-PLUS";

/// Why a client does not come in.
pub(super) enum Turned {
    /// It hears why.
    Away(SqlError),
    /// It has left.
    Gone,
}

impl From<SqlError> for Turned {
    fn from(error: SqlError) -> Self {
        Self::Away(error)
    }
}

/// Lets a client in who needs no password, or has the right one.
pub(super) async fn admit(
    socket: &mut Wire,
    input: &mut BytesMut,
    peer: &Peer,
    door: &Door,
    name: &str,
) -> Result<Admission, Turned> {
    if door.trusts(peer.listener) {
        return Ok(Admission::Trusted);
    }
    let is_plain = !matches!(socket, Wire::Tls(_));
    if is_plain && door.tls.is_some() && !peer.is_here() {
        return Err(SqlError::new("28000", "this server lets nobody in without TLS")
            .hint("Connect with sslmode=require, or better sslmode=verify-full.")
            .into());
    }
    if door.users().is_empty() && name != OPERATOR {
        return Err(SqlError::new("28000", "nobody may log in: there are no users")
            .hint("`tidemill users add NAME` makes one.")
            .into());
    }
    let from = Some(peer.address);
    door.throttle.check(from, name, Instant::now())?;
    // Before the conversation, so that the password is not checked against one user and another comes in.
    let user = door.user(name).filter(|_| name != OPERATOR || peer.is_here());
    let verifier = door.verifier(name);
    match converse(socket, input, peer, &verifier).await {
        Ok(last) => match user {
            Some(user) => {
                door.throttle.succeeded(from, name);
                door.tell(Happened::LoggedIn, name, from, Protocol::Pg);
                say(socket, Reply::Authentication(Authentication::SASLFinal(last))).await?;
                Ok(Admission::Known(name.to_owned(), user))
            }
            None => Err(refused(door, peer, name)),
        },
        Err(Failed::Password) => Err(refused(door, peer, name)),
        Err(Failed::Protocol(error)) => Err(error.into()),
        Err(Failed::Gone) => Err(Turned::Gone),
    }
}

/// Nobody, or not by this password: which of both is not said.
fn refused(door: &Door, peer: &Peer, name: &str) -> Turned {
    door.throttle.failed(Some(peer.address), name, Instant::now());
    door.tell(Happened::Failed, name, Some(peer.address), Protocol::Pg);
    SqlError::new("28P01", format!("password authentication failed for user \"{name}\"")).into()
}

enum Failed {
    Password,
    Protocol(SqlError),
    Gone,
}

impl From<Turned> for Failed {
    fn from(turned: Turned) -> Self {
        match turned {
            Turned::Away(error) => Self::Protocol(error),
            Turned::Gone => Self::Gone,
        }
    }
}

/// The four messages. Returns the last one, which proves that we know the user too.
async fn converse(
    socket: &mut Wire,
    input: &mut BytesMut,
    peer: &Peer,
    verifier: &crate::door::Verifier,
) -> Result<Bytes, Failed> {
    let unbound = ScramServerAuth::new();
    let sealed = peer.sealed.as_ref().filter(|_| matches!(socket, Wire::Tls(_)));
    let scram = sealed.map_or(&unbound, |sealed| &sealed.scram);
    let binds = scram.supports_channel_binding();
    let mechanisms = if binds { vec![BOUND.to_owned(), PLAIN.to_owned()] } else { vec![PLAIN.to_owned()] };
    say(socket, Reply::Authentication(Authentication::SASL(mechanisms))).await?;
    let mut first = answer(socket, input).await?;
    let end = first.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
    let mechanism = first.split_to(end);
    first.advance(1);
    let length = first.try_get_i32().map_err(|_| malformed())?;
    if usize::try_from(length) != Ok(first.len()) {
        return Err(malformed());
    }
    let says_bound = first.starts_with(b"p=");
    match &mechanism[..] {
        // Who asked for the one and speaks the other was told something else on the way.
        name if name == PLAIN.as_bytes() && !says_bound => {}
        name if name == BOUND.as_bytes() && says_bound && binds => {}
        name if name == PLAIN.as_bytes() || name == BOUND.as_bytes() => return Err(malformed()),
        _ => {
            let error = SqlError::new("28000", "this way of logging in is not known")
                .hint("The server asks for SCRAM-SHA-256: a client from PostgreSQL 10 on speaks it.");
            return Err(Failed::Protocol(error));
        }
    }
    let begun = scram.on_client_first_message_with_secret(&first, verifier.secret());
    let (reply, waiting) = begun.map_err(|_| malformed())?;
    say(socket, Reply::Authentication(Authentication::SASLContinue(reply.into()))).await?;
    let last = answer(socket, input).await?;
    // What is no proof at all is a wrong one.
    waiting.on_client_final_message(&last).map(Bytes::from).map_err(|_| Failed::Password)
}

fn malformed() -> Failed {
    Failed::Protocol(SqlError::new("08P01", "malformed SCRAM message"))
}

async fn say(socket: &mut Wire, reply: Reply) -> Result<(), Turned> {
    let mut out = BytesMut::new();
    if reply.encode(&mut out).is_err() || socket.write_all(&out).await.is_err() || socket.flush().await.is_err() {
        return Err(Turned::Gone);
    }
    Ok(())
}

/// A message with a password, or a part of one.
async fn answer(socket: &mut Wire, input: &mut BytesMut) -> Result<Bytes, Failed> {
    loop {
        if input.first().is_some_and(|kind| *kind != b'p') {
            let error = SqlError::new("08P01", "expected password response");
            return Err(Failed::Protocol(error));
        }
        if let Some(length) = input.get(1..5) {
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if !(4..=LOGIN_BYTES_MAX).contains(&length) {
                return Err(Failed::Protocol(SqlError::new("08P01", "invalid message length")));
            }
            if input.len() > length {
                let mut message = input.split_to(1 + length).freeze();
                message.advance(5);
                return Ok(message);
            }
        }
        if !matches!(socket.read_buf(input).await, Ok(read) if read > 0) {
            return Err(Failed::Gone);
        }
    }
}
