//! One connection to a MySQL or MariaDB server: handshake, commands, text results, and the stream of log events.
//!
//! We speak the protocol ourselves for one reason: a log at rest arrives as a million packets of a hundred bytes a second.
//! A packet is therefore a range of one large read buffer ([`Wire::next_packet`]), never a buffer or a future of its own;
//! the socket is read in blocks ([`Wire::fill`]), and between two blocks nothing is asynchronous. The buffer grows for a
//! larger packet (up to 1 GiB, in parts of 16 MiB) to a quarter more than its size, and shrinks again. Logging in is in
//! [`super::login`].

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::error::{ServerError, WireError};
use super::position::GtidSet;

/// Bytes read from the socket at once; the buffer grows beyond it only for a larger packet.
const BLOCK_BYTES: usize = 256 << 10;
/// Packets of this length are continued by the next one.
const PACKET_BYTES_MAX: usize = 0xff_ff_ff;
/// A packet larger than this is refused: the server's own limit of `max_allowed_packet` and of a log event is 1 GiB.
const EVENT_BYTES_MAX: usize = 1 << 30;

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_REPLICA: u8 = 0x15;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;

/// What the server says of itself when a connection opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerInfo {
    /// As sent, for instance `9.7.4` or `10.11.19-MariaDB-log`.
    pub(crate) version: String,
    pub(crate) mariadb: bool,
    pub(crate) connection_id: u32,
}

impl ServerInfo {
    /// The version without the "5.5.5-" that MariaDB before 11 puts before it for the sake of old replicas.
    pub(crate) fn plain_version(&self) -> &str {
        self.version.strip_prefix("5.5.5-").filter(|_| self.mariadb).unwrap_or(&self.version)
    }

    /// Major, minor and patch number.
    pub(crate) fn numbers(&self) -> (u32, u32, u32) {
        let mut parts = self.plain_version().split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

impl ServerInfo {
    /// Whether it knows statements by the words source and replica.
    pub(crate) fn speaks_of_replicas(&self) -> bool {
        !self.mariadb && self.numbers() >= (8, 0, 22)
    }

    /// The statement that has log files kept for a week.
    pub(crate) fn keep_for_a_week(&self) -> &'static str {
        match (self.mariadb, self.numbers()) {
            (true, numbers) if numbers >= (10, 6, 1) => "SET GLOBAL binlog_expire_logs_seconds = 604800",
            (false, numbers) if numbers >= (8, 0, 1) => "SET GLOBAL binlog_expire_logs_seconds = 604800",
            _ => "SET GLOBAL expire_logs_days = 7",
        }
    }

    /// The statement that has log files kept for four times as long as they are now, and for a week at least.
    pub(crate) fn keep_for_longer(&self, kept_s: u64) -> String {
        let week = self.keep_for_a_week();
        let wanted_s = kept_s.saturating_mul(4);
        match week.strip_suffix("604800") {
            _ if wanted_s <= 604_800 => week.to_owned(),
            Some(name) => format!("{name}{wanted_s}"),
            None => format!("SET GLOBAL expire_logs_days = {}", (wanted_s / 86_400).min(99)),
        }
    }

    /// The rights to read the log and to ask for its place.
    pub(crate) fn rights_to_follow(&self) -> &'static str {
        match (self.mariadb, self.numbers()) {
            (true, numbers) if numbers >= (10, 5, 9) => "REPLICATION SLAVE, REPLICATION CLIENT, REPLICA MONITOR",
            _ => "REPLICATION SLAVE, REPLICATION CLIENT",
        }
    }

    /// The right to ask whom the server follows.
    pub(crate) fn right_to_ask_for_source(&self) -> &'static str {
        match (self.mariadb, self.numbers()) {
            (true, numbers) if numbers >= (10, 5, 9) => "REPLICA MONITOR",
            (true, numbers) if numbers >= (10, 5, 2) => "REPLICATION SLAVE ADMIN",
            _ => "REPLICATION CLIENT",
        }
    }

    /// The setting that ends long queries, where there is one.
    pub(crate) fn limit_of_time(&self) -> Option<&'static str> {
        match (self.mariadb, self.numbers()) {
            (true, numbers) if numbers >= (10, 1, 1) => Some("max_statement_time"),
            (false, numbers) if numbers >= (5, 7, 8) => Some("max_execution_time"),
            _ => None,
        }
    }
}

/// The socket, with or without TLS.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Without a server: what a test says.
    Memory(DuplexStream),
    /// Between the two, while TLS is negotiated.
    Gone,
}

/// A connection; see the module's story.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) transport: Transport,
    pub(crate) server: ServerInfo,
    /// The address that has answered, of those that the host's name has.
    pub(crate) peer: Option<SocketAddr>,
    buffer: Vec<u8>,
    /// What is read but not consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The packet last returned, within `buffer`.
    last: Range<usize>,
    /// It is to be returned once more.
    again: bool,
    sequence: u8,
    /// MariaDB is asked for the statements that rows were changed by.
    pub(crate) wants_statements: bool,
}

impl Wire {
    /// A connection that has not yet said anything.
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            server: ServerInfo::default(),
            peer: None,
            buffer: vec![0; BLOCK_BYTES],
            start: 0,
            end: 0,
            last: 0..0,
            again: false,
            sequence: 0,
            wants_statements: false,
        }
    }

    /// Whether what goes over it is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Whether what goes over it leaves this machine not.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        self.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// Sends one packet; the sequence goes on from the last packet of either side.
    pub(crate) async fn send(&mut self, payload: &[u8]) -> Result<(), WireError> {
        let mut out = Vec::with_capacity(payload.len() + 4);
        let mut rest = payload;
        loop {
            let part = &rest[..rest.len().min(PACKET_BYTES_MAX)];
            let length = u32::try_from(part.len()).unwrap_or(0).to_le_bytes();
            out.extend_from_slice(&[length[0], length[1], length[2], self.sequence]);
            out.extend_from_slice(part);
            self.sequence = self.sequence.wrapping_add(1);
            rest = &rest[part.len()..];
            if part.len() < PACKET_BYTES_MAX {
                break;
            }
        }
        self.transport.write_all(&out).await?;
        self.transport.flush().await?;
        Ok(())
    }

    /// Begins a new command: the sequence starts at 0.
    async fn command(&mut self, code: u8, body: &[u8]) -> Result<(), WireError> {
        self.sequence = 0;
        let mut payload = Vec::with_capacity(body.len() + 1);
        payload.push(code);
        payload.extend_from_slice(body);
        self.send(&payload).await
    }

    /// Reads the next block from the socket into the buffer. Safe to cancel. Returns the number of new bytes.
    pub(crate) async fn fill(&mut self) -> Result<usize, WireError> {
        self.make_room();
        let count = self.transport.read(&mut self.buffer[self.end..]).await?;
        if count == 0 {
            return Err(WireError::Closed);
        }
        self.end += count;
        Ok(count)
    }

    /// Makes room for a block, or for the packet that has begun if it is larger.
    fn make_room(&mut self) {
        let from = if self.again { self.last.start } else { self.start };
        let held = self.end - from;
        if self.buffer.len() > 64 * BLOCK_BYTES && held < BLOCK_BYTES {
            // A large packet has come and gone.
            let mut buffer = vec![0; BLOCK_BYTES * 2];
            buffer[..held].copy_from_slice(&self.buffer[from..self.end]);
            self.buffer = buffer;
            self.moved(from);
        } else if held == 0 {
            self.moved(from);
        } else if from > 0 && (self.buffer.len() - self.end < BLOCK_BYTES / 4 || from > BLOCK_BYTES) {
            self.buffer.copy_within(from..self.end, 0);
            self.moved(from);
        }
        if self.end == self.buffer.len() {
            // As much as is known to come of the packet that has begun: of a large one its next 16 MiB, or a quarter of what
            // has come, that it is not copied too often.
            let more = self.known_end().saturating_sub(self.end).max(self.end / 4).max(BLOCK_BYTES);
            self.buffer.reserve_exact(more);
            self.buffer.resize(self.end + more, 0);
        }
    }

    /// Where the last part of the packet that has begun ends of which the header has arrived.
    fn known_end(&self) -> usize {
        let mut at = self.start;
        while let Some((length, _)) = self.header(at) {
            at += 4 + length;
            if length < PACKET_BYTES_MAX {
                break;
            }
        }
        at
    }

    /// What stood at `from` stands at the buffer's head now. The last packet counts only if it is asked for again.
    fn moved(&mut self, from: usize) {
        (self.start, self.end) = (self.start - from, self.end - from);
        self.last = if self.again { self.last.start - from..self.last.end - from } else { 0..0 };
    }

    /// The next whole packet in the buffer, or none until [`Wire::fill`] has read more.
    pub(crate) fn next_packet(&mut self) -> Result<Option<&[u8]>, WireError> {
        if !self.again {
            match self.locate()? {
                None => return Ok(None),
                Some(range) => self.last = range,
            }
        }
        self.again = false;
        Ok(Some(&self.buffer[self.last.clone()]))
    }

    fn locate(&mut self) -> Result<Option<Range<usize>>, WireError> {
        let Some((length, sequence)) = self.header(self.start) else { return Ok(None) };
        if length == PACKET_BYTES_MAX {
            return self.join();
        }
        let body = self.start + 4;
        if self.end < body + length {
            return Ok(None);
        }
        self.sequence = sequence.wrapping_add(1);
        self.start = body + length;
        Ok(Some(body..body + length))
    }

    /// Length and sequence number of the packet at `at`, if its header has arrived.
    #[inline]
    fn header(&self, at: usize) -> Option<(usize, u8)> {
        let h = self.buffer.get(at..at + 4).filter(|_| self.end >= at + 4)?;
        Some((usize::from(h[0]) | usize::from(h[1]) << 8 | usize::from(h[2]) << 16, h[3]))
    }

    /// A packet of 16 MiB and more: once all its parts have arrived, they are moved together where they stand.
    fn join(&mut self) -> Result<Option<Range<usize>>, WireError> {
        let mut at = self.start;
        let mut total = 0;
        loop {
            let Some((length, sequence)) = self.header(at) else { return Ok(None) };
            total += length;
            if total > EVENT_BYTES_MAX {
                return Err(WireError::Protocol("a packet of more than 1 GiB".to_owned()));
            }
            if self.end < at + 4 + length {
                return Ok(None);
            }
            at += 4 + length;
            if length < PACKET_BYTES_MAX {
                self.sequence = sequence.wrapping_add(1);
                break;
            }
        }
        let begin = self.start + 4;
        let (mut from, mut joined) = (begin + PACKET_BYTES_MAX + 4, begin + PACKET_BYTES_MAX);
        while from < at {
            let length = PACKET_BYTES_MAX.min(at - from);
            self.buffer.copy_within(from..from + length, joined);
            joined += length;
            from += length + 4;
        }
        self.start = at;
        Ok(Some(begin..begin + total))
    }

    /// Gives the packet last returned once more. Nothing may have been read since it was returned.
    pub(crate) fn unread(&mut self) {
        self.again = true;
    }

    /// Waits for the next packet and copies it: for handshakes and results of commands.
    pub(crate) async fn read_packet(&mut self) -> Result<Vec<u8>, WireError> {
        loop {
            if let Some(packet) = self.next_packet()? {
                return Ok(packet.to_vec());
            }
            self.fill().await?;
        }
    }

    /// Runs a statement that returns no rows.
    pub(crate) async fn execute(&mut self, sql: &str) -> Result<(), WireError> {
        self.query(sql).await.map(|_| ())
    }

    /// Runs a statement and returns all its rows as text; NULL is `None`. For small results.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<TextRows, WireError> {
        let mut out = TextRows::default();
        out.names = self
            .query_with(sql, |values| {
                out.rows.push(values.iter().map(|v| v.map(|b| String::from_utf8_lossy(b).into_owned())).collect());
                Ok(())
            })
            .await?;
        Ok(out)
    }

    /// Runs a statement and hands each row to `row`, borrowed from the read buffer. Returns the columns' names.
    ///
    /// A row that `row` refuses ends the query with that error; the connection cannot be used any further then.
    pub(crate) async fn query_with(
        &mut self,
        sql: &str,
        mut row: impl FnMut(&[Option<&[u8]>]) -> Result<(), WireError>,
    ) -> Result<Vec<String>, WireError> {
        let mut answer = self.ask(sql).await?;
        self.rows(&mut answer, &mut row).await?;
        Ok(answer.names)
    }

    /// Runs a statement whose rows are fetched by [`Wire::rows`], to the last one, before the connection is used for anything
    /// else.
    pub(crate) async fn ask(&mut self, sql: &str) -> Result<Asked, WireError> {
        self.command(COM_QUERY, sql.as_bytes()).await?;
        let first = self.read_packet().await?;
        let columns = match first.first() {
            Some(0) => return Ok(Asked { names: Vec::new(), spans: Vec::new(), is_over: true }),
            Some(0xff) => return Err(WireError::Server(ServerError::parse(&first))),
            Some(0xfb) | None => {
                return Err(WireError::Protocol("unexpected answer to a query".to_owned()));
            }
            Some(_) => Reader(&first).length()?,
        };
        let mut names = Vec::new();
        for _ in 0..columns {
            names.push(column_name(&self.read_packet().await?)?);
        }
        self.read_packet().await?; // the end of the columns
        let spans = Vec::with_capacity(names.len());
        Ok(Asked { names, spans, is_over: false })
    }

    /// Hands the rows of an answer to `row`, borrowed from the read buffer, until it refuses to take more behind one that it
    /// has taken, or until they have ended.
    pub(crate) async fn rows(
        &mut self,
        answer: &mut Asked,
        row: &mut impl FnMut(&[Option<&[u8]>]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        while !answer.is_over {
            while let Some(packet) = self.next_packet()? {
                match packet.first() {
                    Some(0xfe) if packet.len() < 9 => {
                        answer.is_over = true;
                        return Ok(());
                    }
                    Some(0xff) => return Err(WireError::Server(ServerError::parse(packet))),
                    _ => {}
                }
                text_row(packet, answer.names.len(), &mut answer.spans)?;
                row_values(packet, &answer.spans, row)?;
            }
            self.fill().await?;
        }
        Ok(())
    }

    /// Registers as a replica, so that the server lists us.
    pub(crate) async fn register(&mut self, server_id: u32) -> Result<(), WireError> {
        let mut body = server_id.to_le_bytes().to_vec();
        body.extend_from_slice(&[0; 3]); // no host name, user, password
        body.extend_from_slice(&[0; 10]); // port, rank, source id
        self.command(COM_REGISTER_REPLICA, &body).await?;
        self.expect_ok().await
    }

    /// Asks for the log from a file and offset on; events follow as packets.
    pub(crate) async fn dump_from_file(&mut self, server_id: u32, file: &str, offset: u32) -> Result<(), WireError> {
        const SEND_ANNOTATIONS: u16 = 2;
        let flags = if self.wants_statements { SEND_ANNOTATIONS } else { 0 };
        let mut body = offset.to_le_bytes().to_vec();
        body.extend_from_slice(&flags.to_le_bytes());
        body.extend_from_slice(&server_id.to_le_bytes());
        body.extend_from_slice(file.as_bytes());
        self.command(COM_BINLOG_DUMP, &body).await
    }

    /// Asks a MySQL server for all transactions that are not in `executed`.
    pub(crate) async fn dump_from_gtids(&mut self, server_id: u32, executed: &GtidSet) -> Result<(), WireError> {
        const THROUGH_GTID: u16 = 4;
        let mut body = THROUGH_GTID.to_le_bytes().to_vec();
        body.extend_from_slice(&server_id.to_le_bytes());
        body.extend_from_slice(&0_u32.to_le_bytes());
        body.extend_from_slice(&4_u64.to_le_bytes());
        let set = executed.encode();
        body.extend_from_slice(&u32::try_from(set.len()).unwrap_or(0).to_le_bytes());
        body.extend_from_slice(&set);
        self.command(COM_BINLOG_DUMP_GTID, &body).await
    }

    async fn expect_ok(&mut self) -> Result<(), WireError> {
        let packet = self.read_packet().await?;
        match packet.first() {
            Some(0) => Ok(()),
            Some(0xff) => Err(WireError::Server(ServerError::parse(&packet))),
            _ => Err(WireError::Protocol("unexpected answer to a command".to_owned())),
        }
    }

    /// Says goodbye, without waiting for long.
    pub(crate) async fn close(mut self) {
        const PATIENCE: Duration = Duration::from_millis(200);
        // The connection goes either way; an error here changes nothing.
        drop(tokio::time::timeout(PATIENCE, self.command(COM_QUIT, &[])).await);
    }
}

/// Rows of a small result.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct TextRows {
    pub(crate) names: Vec<String>,
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

impl TextRows {
    /// A value of the first row by column name, ignoring case.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        let column = self.names.iter().position(|n| n.eq_ignore_ascii_case(name))?;
        self.rows.first()?.get(column)?.as_deref()
    }

    /// The only value, or the first one.
    pub(crate) fn single(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }
}

/// Reads the pieces of a packet.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let Some((head, tail)) = self.0.split_at_checked(count) else {
            return Err(WireError::truncated());
        };
        self.0 = tail;
        Ok(head)
    }

    /// A length-encoded integer.
    pub(crate) fn length(&mut self) -> Result<usize, WireError> {
        let first = self.take(1)?[0];
        let width = match first {
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            small => return Ok(usize::from(small)),
        };
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| WireError::truncated())
    }

    /// Bytes with their length before them.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.length()?;
        self.take(length)
    }

    /// Bytes up to a zero byte, or to the end.
    pub(crate) fn until_zero(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        let (head, tail) = self.0.split_at(end);
        self.0 = tail.get(1..).unwrap_or_default();
        head
    }
}

/// The name in a column definition: its fifth string.
/// An answer whose rows are being fetched.
#[derive(Debug)]
pub(crate) struct Asked {
    names: Vec<String>,
    spans: Vec<Option<Range<usize>>>,
    is_over: bool,
}

impl Asked {
    /// Whether its last row was handed over.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }
}

fn column_name(packet: &[u8]) -> Result<String, WireError> {
    let mut reader = Reader(packet);
    for _ in 0..4 {
        reader.string()?;
    }
    Ok(String::from_utf8_lossy(reader.string()?).into_owned())
}

/// Finds the values of a text row.
fn text_row(packet: &[u8], columns: usize, spans: &mut Vec<Option<Range<usize>>>) -> Result<(), WireError> {
    spans.clear();
    let mut reader = Reader(packet);
    for _ in 0..columns {
        if reader.0.first() == Some(&0xfb) {
            reader.take(1)?;
            spans.push(None);
            continue;
        }
        let length = reader.length()?;
        let start = packet.len() - reader.0.len();
        reader.take(length)?;
        spans.push(Some(start..start + length));
    }
    Ok(())
}

/// Hands the values of a row on without an allocation for rows of up to 64 columns.
fn row_values(
    packet: &[u8],
    spans: &[Option<Range<usize>>],
    row: &mut impl FnMut(&[Option<&[u8]>]) -> Result<(), WireError>,
) -> Result<(), WireError> {
    const INLINE: usize = 64;
    let value = |span: &Option<Range<usize>>| span.clone().map(|s| &packet[s]);
    if spans.len() <= INLINE {
        let mut values = [None; INLINE];
        for (slot, span) in values.iter_mut().zip(spans) {
            *slot = value(span);
        }
        row(&values[..spans.len()])
    } else {
        row(&spans.iter().map(value).collect::<Vec<_>>())
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}
