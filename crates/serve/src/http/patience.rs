//! Connections of HTTP that must not be hoarded: one is closed that sends half a request, asks nothing, or does not take
//! what it is sent.
//!
//! hyper reads a head for as long as somebody drips bytes. So each connection knows what it is waited for ([`Phase`]), and its
//! socket fails when that takes too long. A request's body is read here too, before anything is done with it, within the same
//! time; what is too large is read on for a moment, or its sender would not hear the refusal.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use bytes::BytesMut;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tracing::debug;

use super::{Site, failure};
use crate::door::Wire;
use crate::reader::SqlError;
use crate::service::{Limits, Service};

/// Bytes of a body past its limit that are read and dropped.
const REST_BYTES_MAX: usize = 256 << 20;

/// Accepts connections that are waited for so long and no longer.
pub(super) struct Patient {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    service: Arc<Service>,
}

impl Patient {
    pub(super) fn new(listener: TcpListener, service: &Arc<Service>) -> Self {
        let permits = service.limits.http_connections.min(Semaphore::MAX_PERMITS);
        Self { listener, permits: Arc::new(Semaphore::new(permits)), service: Arc::clone(service) }
    }
}

impl Listener for Patient {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (socket, address) = Listener::accept(&mut self.listener).await;
            match Arc::clone(&self.permits).try_acquire_owned() {
                Ok(permit) => {
                    let socket = match &self.service.door.tls {
                        Some(tls) => Wire::sealed(socket, &tls.now().acceptor),
                        None => Wire::Plain(socket),
                    };
                    return (Connection::new(socket, address, permit, &self.service.limits), address);
                }
                Err(_) => debug!("too many connections, one closed"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Listener::local_addr(&self.listener)
    }
}

/// What is known of a connection's client.
#[derive(Clone)]
pub(super) struct Phase {
    /// It has been heard out: set while its request is answered.
    is_answering: Arc<AtomicBool>,
    /// Where it is.
    pub(super) peer: Option<IpAddr>,
}

impl Connected<IncomingStream<'_, Patient>> for Phase {
    fn connect_info(stream: IncomingStream<'_, Patient>) -> Self {
        stream.io().phase.clone()
    }
}

/// A socket that fails when what it waits for takes too long.
pub(super) struct Connection {
    socket: Wire,
    phase: Phase,
    /// When it fails; none while nothing is waited for.
    due: Option<Pin<Box<Sleep>>>,
    /// The first byte of a request is there.
    has_begun: bool,
    request: Duration,
    idle: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(socket: Wire, address: SocketAddr, permit: OwnedSemaphorePermit, limits: &Limits) -> Self {
        let (request, idle) = (limits.message_timeout, limits.idle_timeout);
        let due = Some(Box::pin(tokio::time::sleep(request)));
        let phase = Phase { is_answering: Arc::default(), peer: Some(address.ip()) };
        Self { socket, phase, due, has_begun: true, request, idle, _permit: permit }
    }

    /// Waits for something from now on, unless it does already.
    fn wait(&mut self, patience: Duration) {
        if self.due.is_none() {
            self.due = Some(Box::pin(tokio::time::sleep(patience)));
        }
    }

    /// Ready when what is waited for took too long.
    fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(due) = &mut self.due else { return Poll::Pending };
        ready!(due.as_mut().poll(context));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// What was sent was taken, or the answer was.
    fn moved(&mut self, written: &Poll<io::Result<usize>>) {
        if written.is_ready() {
            (self.due, self.has_begun) = (None, false);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = into.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(context, into);
        if this.phase.is_answering.load(Ordering::Relaxed) {
            // A client that waits for its answer may wait.
            (this.due, this.has_begun) = (None, false);
            return read;
        }
        if read.is_ready() {
            if into.filled().len() > before && !this.has_begun {
                (this.due, this.has_begun) = (None, true);
                this.wait(this.request);
            }
            return read;
        }
        this.wait(if this.has_begun { this.request } else { this.idle });
        this.poll_due(context).map(Err)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.socket).poll_write(context, bytes);
        this.moved(&written);
        if written.is_pending() {
            this.wait(this.idle);
            return this.poll_due(context).map(Err);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.socket).poll_write_vectored(context, pieces);
        this.moved(&written);
        if written.is_pending() {
            this.wait(this.idle);
            return this.poll_due(context).map(Err);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Reads a request to its end before it is answered.
pub(super) async fn heard_out(
    State(site): State<Site>,
    ConnectInfo(phase): ConnectInfo<Phase>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    // From here on the body's own time counts.
    phase.is_answering.store(true, Ordering::Relaxed);
    let announced = match head.headers.get(header::CONTENT_LENGTH) {
        Some(length) => length.to_str().ok().and_then(|length| length.parse().ok()).unwrap_or(usize::MAX),
        None if head.headers.contains_key(header::TRANSFER_ENCODING) => usize::MAX,
        None => 0,
    };
    let body = read(body, announced, &site.service).await;
    let response = match body {
        Ok(body) => next.run(Request::from_parts(head, Body::from(body))).await,
        Err((status, error)) => failure(status, &error),
    };
    phase.is_answering.store(false, Ordering::Relaxed);
    response
}

async fn read(body: Body, announced: usize, service: &Arc<Service>) -> Result<Bytes, (StatusCode, SqlError)> {
    let limit = service.limits.message_bytes;
    let Some(due) = Instant::now().checked_add(service.limits.message_timeout) else { return Ok(Bytes::new()) };
    let mut chunks = body.into_data_stream();
    let (mut whole, mut bytes) = (BytesMut::new(), 0_usize);
    let Some(_room) = service.incoming.take(announced.min(limit)) else {
        return Err((StatusCode::SERVICE_UNAVAILABLE, crowded()));
    };
    loop {
        let Ok(chunk) = tokio::time::timeout_at(due, chunks.next()).await else {
            let late = SqlError::new("08P01", "the request was not sent to its end in time");
            return Err((StatusCode::REQUEST_TIMEOUT, late));
        };
        let chunk = match chunk {
            None if bytes > limit => return Err((StatusCode::PAYLOAD_TOO_LARGE, too_large(limit))),
            None => return Ok(whole.freeze()),
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Err((StatusCode::BAD_REQUEST, SqlError::new("08P01", error.to_string()))),
        };
        bytes = bytes.saturating_add(chunk.len());
        if bytes <= limit {
            whole.extend_from_slice(&chunk);
        } else if bytes <= REST_BYTES_MAX {
            whole = BytesMut::new();
        } else {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, too_large(limit)));
        }
    }
}

fn too_large(limit: usize) -> SqlError {
    SqlError::new("54000", "the request is too large").detail(format!("A request has up to {limit} bytes."))
}

fn crowded() -> SqlError {
    SqlError::new("53200", "too many large requests arrive at once").hint("Try again in a moment.")
}
