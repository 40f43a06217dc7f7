//! One client: messages in, replies out, and what can end a statement before its time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pgwire::messages::PgWireBackendMessage as Reply;
use pgwire::messages::response::{ErrorResponse, NoticeResponse, ReadyForQuery};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::frame::{self, Framed, Request};
use super::session::Session;
use crate::door::Wire;
use crate::reader::SqlError;
use crate::service::{Protocol, Service, guarded};

/// Replies collected before they are sent.
const OUT_BYTES: usize = 64 << 10;
/// Requests read ahead while a statement runs; reading notices a client that left.
const AHEAD_BYTES: usize = 64 << 10;
/// Room for a read.
const READ_BYTES: usize = 8 << 10;
/// Longest that a client gets to take its last words.
const FAREWELL: Duration = Duration::from_secs(1);

/// What stops a statement or a connection.
pub(super) enum Failure {
    /// The statement failed; the client goes on.
    Statement(SqlError),
    /// The connection ends, and hears why.
    Fatal(SqlError),
    /// The client is gone.
    Gone,
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Statement(error)
    }
}

impl Failure {
    /// The same, with the error's place counted from the start of the text in which `offset` characters precede what
    /// the reader was given; without an offset the place is unknown.
    pub(super) fn within(self, offset: Option<usize>) -> Self {
        match self {
            Self::Statement(mut error) => {
                error.position = error.position.and_then(|position| offset.map(|offset| position + offset));
                Self::Statement(error)
            }
            other => other,
        }
    }
}

/// A client that has logged in.
pub(super) struct Connection {
    socket: Wire,
    input: BytesMut,
    pub(super) out: BytesMut,
    pub(super) service: Arc<Service>,
    pub(super) session: Session,
    cancel: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    /// The statement that runs, if one does.
    run: Option<Run>,
    /// After an error of the extended protocol: everything up to the next Sync is left out.
    skipping: bool,
    /// Since when the client keeps a step readable.
    held_since: Option<Instant>,
    /// What the client sends before it hears that it must go is read, or it would not hear it.
    unread: bool,
}

/// A running statement.
struct Run {
    started: Instant,
    deadline: Option<Instant>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    pub(super) fn new(
        socket: Wire,
        input: BytesMut,
        service: Arc<Service>,
        session: Session,
        cancel: watch::Receiver<u64>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            socket,
            input,
            out: BytesMut::new(),
            service,
            session,
            cancel,
            stop,
            run: None,
            skipping: false,
            held_since: None,
            unread: false,
        }
    }

    /// Answers until the client leaves, breaks the protocol, or we stop.
    pub(super) async fn run(mut self) {
        let failure = loop {
            let framed = match self.receive().await {
                Ok(framed) => framed,
                Err(failure) => break failure,
            };
            if let Err(failure) = self.handle(framed).await {
                break failure;
            }
        };
        let Failure::Fatal(error) = failure else { return };
        debug!(code = error.code, "ended a client's connection");
        self.send(&Reply::ErrorResponse(ErrorResponse::new(error_fields("FATAL", &error, 0))));
        let farewell = async {
            self.socket.write_all(&self.out).await?;
            self.socket.flush().await?;
            self.socket.shutdown().await
        };
        if !matches!(tokio::time::timeout(FAREWELL, farewell).await, Ok(Ok(()))) {
            debug!("a client left before it heard why");
        }
        if self.unread {
            let rest = async {
                let mut rest = vec![0; READ_BYTES];
                while matches!(self.socket.read(&mut rest).await, Ok(read) if read > 0) {}
            };
            if tokio::time::timeout(self.service.limits.message_timeout, rest).await.is_err() {
                debug!("a client sent on after it was told to go");
            }
        }
    }

    /// The next message. What was not sent yet goes out before we wait.
    async fn receive(&mut self) -> Result<Framed, Failure> {
        let (mut begun, mut room) = (None, None);
        loop {
            let framed = frame::next(&mut self.input, self.service.limits.message_bytes);
            self.unread = framed.is_err();
            if let Some(framed) = framed.map_err(Failure::Fatal)? {
                return Ok(framed);
            }
            self.flush().await?;
            if let Some(bytes) = frame::announced(&self.input).filter(|bytes| *bytes > AHEAD_BYTES)
                && room.is_none()
            {
                let taken = self.service.incoming.take(bytes);
                self.unread = taken.is_none();
                room = Some(taken.ok_or_else(|| Failure::Fatal(crowded()))?);
                self.input.reserve(bytes);
            }
            self.input.reserve(READ_BYTES);
            let limits = &self.service.limits;
            let now = Instant::now();
            if begun.is_none() && !self.input.is_empty() {
                begun = now.checked_add(limits.message_timeout);
            }
            self.held_since = self.session.keeps_step().then(|| self.held_since.unwrap_or(now));
            let alone = self.held_since.and_then(|_| now.checked_add(limits.pin_timeout));
            let held = self.held_since.and_then(|since| since.checked_add(limits.hold_timeout));
            tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => return Err(stopping()),
                () = until(alone) => return Err(Failure::Fatal(left_alone())),
                () = until(held) => return Err(Failure::Fatal(held_too_long())),
                () = until(begun) => return Err(Failure::Fatal(half_sent())),
                read = self.socket.read_buf(&mut self.input) => if !matches!(read, Ok(read) if read > 0) {
                    return Err(Failure::Gone);
                },
            }
        }
    }

    async fn handle(&mut self, framed: Framed) -> Result<(), Failure> {
        let request = match framed.request {
            Ok(Request::Terminate) => return Err(Failure::Gone),
            Ok(Request::Sync) => {
                self.skipping = false;
                return self.sync().await;
            }
            _ if self.skipping => return Ok(()),
            request => request,
        };
        let result = match request {
            Ok(Request::Query(query)) => self.simple(&query).await,
            Ok(request) => self.extended(request).await,
            Err(error) => Err(Failure::Statement(error)),
        };
        match result {
            Err(Failure::Statement(error)) => {
                self.fail(&error, 0);
                self.skipping = framed.extended;
                if framed.extended {
                    return Ok(());
                }
                self.ready();
                self.flush().await
            }
            other => other,
        }
    }

    /// Puts a reply behind those that wait.
    pub(super) fn send(&mut self, reply: &Reply) {
        let before = self.out.len();
        if let Err(error) = reply.encode(&mut self.out) {
            // Only a reply past the protocol's own bounds cannot be written; half of it must not stay.
            self.out.truncate(before);
            warn!(%error, "a reply was left out");
        }
    }

    /// Says that the next query may come.
    pub(super) fn ready(&mut self) {
        self.send(&Reply::ReadyForQuery(ReadyForQuery::new(self.session.transaction.status())));
    }

    /// Reports an error, and spoils the transaction around it. `offset` characters of the query precede the statement.
    pub(super) fn fail(&mut self, error: &SqlError, offset: usize) {
        self.session.fail();
        self.send(&Reply::ErrorResponse(ErrorResponse::new(error_fields("ERROR", error, offset))));
    }

    pub(super) fn warn(&mut self, warning: &SqlError) {
        self.send(&Reply::NoticeResponse(NoticeResponse::new(error_fields("WARNING", warning, 0))));
    }

    /// A statement starts: from here a cancel reaches it, and its time counts.
    pub(super) fn begin(&mut self) {
        self.cancel.mark_unchanged();
        let started = Instant::now();
        let own = self.session.settings.statement_timeout();
        let timeout = [own, self.service.limits.statement_timeout].into_iter().flatten().min();
        self.run =
            Some(Run { started, deadline: timeout.and_then(|timeout| started.checked_add(timeout)), permit: None });
    }

    /// A statement ended.
    pub(super) fn finish(&mut self, failed: bool) {
        if let Some(run) = self.run.take() {
            self.service.traffic.note(Protocol::Pg, run.started.elapsed(), failed);
        }
    }

    /// A statement was parsed; only its run counts, unless it never comes to that.
    pub(super) fn finish_parse(&mut self, failed: bool) {
        if failed {
            self.finish(true);
        }
        self.run = None;
    }

    /// Waits for a turn among the running statements.
    pub(super) async fn admit(&mut self) -> Result<(), Failure> {
        if self.run.as_ref().is_some_and(|run| run.permit.is_some()) {
            return Ok(());
        }
        let service = Arc::clone(&self.service);
        let permit = self.attend(service.turn()).await?;
        if let Some(run) = &mut self.run {
            run.permit = Some(permit);
        }
        Ok(())
    }

    /// Runs a piece of work until it is done, its client cancels or leaves, its time is up, or we stop. Its panic is
    /// its own error.
    pub(super) async fn attend<T>(&mut self, work: impl Future<Output = Result<T, SqlError>>) -> Result<T, Failure> {
        let deadline = self.run.as_ref().and_then(|run| run.deadline);
        let work = guarded(work);
        tokio::pin!(work);
        loop {
            let room = self.input.len() < AHEAD_BYTES;
            tokio::select! {
                biased;
                Ok(()) = self.cancel.changed() => return Err(cancelled()),
                () = until(deadline) => return Err(timed_out()),
                _ = self.stop.wait_for(|stop| *stop) => return Err(stopping()),
                read = self.socket.read_buf(&mut self.input), if room => if !matches!(read, Ok(read) if read > 0) {
                    return Err(Failure::Gone);
                },
                done = &mut work => return done.map_err(Failure::Statement),
            }
        }
    }

    /// Sends what waits if it is much.
    pub(super) async fn flush_much(&mut self) -> Result<(), Failure> {
        if self.out.len() < OUT_BYTES { Ok(()) } else { self.flush().await }
    }

    /// Sends what waits. A running statement can be cancelled here too, with part of its replies sent.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() {
            return Ok(());
        }
        let deadline = self.run.as_ref().and_then(|run| run.deadline);
        let running = self.run.is_some();
        tokio::select! {
            biased;
            Ok(()) = self.cancel.changed(), if running => Err(cancelled()),
            () = until(deadline) => Err(timed_out()),
            _ = self.stop.wait_for(|stop| *stop) => Err(stopping()),
            sent = send_out(&mut self.socket, &mut self.out) => sent.map_err(|_| Failure::Gone),
        }
    }
}

/// Sends all of `out`; what was sent is gone from it also when this is given up. TLS holds back what it was given until it is
/// flushed.
async fn send_out(socket: &mut Wire, out: &mut BytesMut) -> std::io::Result<()> {
    while !out.is_empty() {
        if socket.write_buf(out).await? == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
    }
    socket.flush().await
}

/// Ready at the deadline; never, if there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn cancelled() -> Failure {
    Failure::Statement(SqlError::new("57014", "canceling statement due to user request"))
}

fn timed_out() -> Failure {
    Failure::Statement(SqlError::new("57014", "canceling statement due to statement timeout"))
}

/// A pinned step is not kept for a client that has forgotten it.
fn left_alone() -> SqlError {
    SqlError::new("25P03", "terminating connection due to idle-in-transaction timeout")
        .detail("The transaction was answered at one step, which had to be kept for it.")
        .hint("Ask without long pauses inside of it, or without repeatable read.")
}

/// Nor for one that keeps asking.
fn held_too_long() -> SqlError {
    SqlError::new("25P03", "terminating connection because it keeps one step for too long")
        .detail("Its transaction is answered at one step, or it has a cursor that was read in part; the step had to be kept for it.")
        .hint("Commit, or close the cursor, and begin anew.")
}

fn half_sent() -> SqlError {
    SqlError::new("08P01", "terminating connection because a message was not sent to its end in time")
}

fn crowded() -> SqlError {
    SqlError::new("53200", "too many large messages arrive at once")
        .hint("Connect again in a moment, or send less at once.")
}

fn stopping() -> Failure {
    Failure::Fatal(SqlError::new("57P01", "terminating connection due to administrator command"))
}

/// The fields of an error or notice.
pub(super) fn error_fields(severity: &str, error: &SqlError, offset: usize) -> Vec<(u8, String)> {
    let position = error.position.map(|position| (position + offset).to_string());
    let fields = [
        (b'S', Some(severity.to_owned())),
        (b'V', Some(severity.to_owned())),
        (b'C', Some(error.code.to_owned())),
        (b'M', Some(error.message.clone())),
        (b'D', error.detail.clone()),
        (b'H', error.hint.clone()),
        (b'P', position),
    ];
    // A zero byte would end the field, and what follows would be taken for the next one.
    fields.into_iter().filter_map(|(key, value)| Some((key, value?.replace('\0', "")))).collect()
}
