//! The frame of log events: header, checksum, and the events that mark transactions. Rows are [`super::decode`]'s.

use super::error::WireError;
use super::position::Origin;
use super::statement::Xid;
use super::wire::Reader;

/// Bytes of an event's header.
pub(crate) const HEADER_BYTES: usize = 19;
const CHECKSUM_BYTES: usize = 4;

/// Event types, by the numbers of the log format.
pub(crate) mod kind {
    pub(crate) const QUERY: u8 = 2;
    pub(crate) const STOP: u8 = 3;
    pub(crate) const ROTATE: u8 = 4;
    pub(crate) const INTVAR: u8 = 5;
    pub(crate) const RAND: u8 = 13;
    pub(crate) const USER_VAR: u8 = 14;
    pub(crate) const FORMAT_DESCRIPTION: u8 = 15;
    pub(crate) const XID: u8 = 16;
    pub(crate) const BEGIN_LOAD_QUERY: u8 = 17;
    pub(crate) const EXECUTE_LOAD_QUERY: u8 = 18;
    pub(crate) const TABLE_MAP: u8 = 19;
    pub(crate) const INCIDENT: u8 = 26;
    pub(crate) const HEARTBEAT: u8 = 27;
    pub(crate) const IGNORABLE: u8 = 28;
    pub(crate) const ROWS_QUERY: u8 = 29;
    pub(crate) const GTID: u8 = 33;
    pub(crate) const ANONYMOUS_GTID: u8 = 34;
    pub(crate) const PREVIOUS_GTIDS: u8 = 35;
    pub(crate) const TRANSACTION_CONTEXT: u8 = 36;
    pub(crate) const VIEW_CHANGE: u8 = 37;
    pub(crate) const XA_PREPARE: u8 = 38;
    pub(crate) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(crate) const HEARTBEAT_V2: u8 = 41;
    pub(crate) const GTID_TAGGED: u8 = 42;
    pub(crate) const MARIADB_ANNOTATE_ROWS: u8 = 160;
    pub(crate) const MARIADB_BINLOG_CHECKPOINT: u8 = 161;
    pub(crate) const MARIADB_GTID: u8 = 162;
    pub(crate) const MARIADB_GTID_LIST: u8 = 163;
    pub(crate) const MARIADB_START_ENCRYPTION: u8 = 164;
    pub(crate) const MARIADB_QUERY_COMPRESSED: u8 = 165;
    pub(crate) const MARIADB_ROWS_COMPRESSED: std::ops::RangeInclusive<u8> = 166..=171;

    /// What a server sends before it searches the file for what was asked for.
    pub(crate) fn is_of_head(kind: u8) -> bool {
        matches!(
            kind,
            ROTATE | PREVIOUS_GTIDS | MARIADB_GTID_LIST | MARIADB_BINLOG_CHECKPOINT | MARIADB_START_ENCRYPTION
        )
    }

    /// Rows in any form, and the maps before them.
    pub(crate) fn is_of_rows(kind: u8) -> bool {
        kind == TABLE_MAP || is_rows(kind) || MARIADB_ROWS_COMPRESSED.contains(&kind)
    }

    /// Rows of version 1 and 2, and updates with partial JSON.
    pub(crate) fn is_rows(kind: u8) -> bool {
        matches!(kind, 23..=25 | 30..=32 | 39)
    }
}

/// An event header. All numbers are little endian on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Seconds since 1970; moved by `SET TIMESTAMP`.
    pub(crate) timestamp: u32,
    pub(crate) kind: u8,
    /// Low 32 bits of the offset behind the event; 0 in events that are in no file.
    pub(crate) log_pos: u32,
    flags: u16,
}

impl Header {
    const ARTIFICIAL: u16 = 0x20;
    const CAN_BE_IGNORED: u16 = 0x80;

    /// Reads the header of an event.
    #[inline]
    pub(crate) fn parse(event: &[u8]) -> Result<Self, WireError> {
        let Some(h) = event.first_chunk::<HEADER_BYTES>() else {
            return Err(damaged("an event without a header"));
        };
        Ok(Self {
            timestamp: u32::from_le_bytes([h[0], h[1], h[2], h[3]]),
            kind: h[4],
            log_pos: u32::from_le_bytes([h[13], h[14], h[15], h[16]]),
            flags: u16::from_le_bytes([h[17], h[18]]),
        })
    }

    /// Made up by the server for this connection, not read from a file.
    pub(crate) fn is_artificial(&self) -> bool {
        self.flags & Self::ARTIFICIAL != 0
    }

    /// Who does not know it may pass over it.
    pub(crate) fn is_ignorable(&self) -> bool {
        self.flags & Self::CAN_BE_IGNORED != 0
    }
}

pub(crate) fn damaged(what: &str) -> WireError {
    WireError::Damaged(what.to_owned())
}

/// Whether events end in a checksum. Told by the format description at the head of each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Checksum {
    /// No format description yet.
    #[default]
    Unknown,
    None,
    Crc32,
}

impl Checksum {
    /// The body of an event: without header, its checksum verified and removed.
    #[inline]
    pub(crate) fn body(self, event: &[u8]) -> Result<&[u8], WireError> {
        let body = event.get(HEADER_BYTES..).ok_or_else(|| damaged("an event without a header"))?;
        match self {
            Self::None => Ok(body),
            Self::Crc32 if has_valid_checksum(event) => Ok(without_checksum(body)),
            Self::Crc32 => Err(damaged("an event's checksum is wrong")),
            // The rotation that opens a stream comes before anything tells; a checksum that fits is one.
            Self::Unknown if has_valid_checksum(event) => Ok(without_checksum(body)),
            Self::Unknown => Ok(body),
        }
    }

    /// As [`Checksum::body`], of an event whose checksum was found right before.
    pub(crate) fn known_body(self, event: &[u8]) -> &[u8] {
        let body = event.get(HEADER_BYTES..).unwrap_or_default();
        if self == Self::Crc32 { without_checksum(body) } else { body }
    }

    /// Reads a format description: its algorithm byte stands before the event's own checksum.
    pub(crate) fn of_format_description(event: &[u8]) -> Self {
        let algorithm = event.len().checked_sub(CHECKSUM_BYTES + 1).and_then(|at| event.get(at));
        match algorithm {
            Some(1) if has_valid_checksum(event) => Self::Crc32,
            _ => Self::None,
        }
    }
}

#[inline]
fn without_checksum(body: &[u8]) -> &[u8] {
    &body[..body.len().saturating_sub(CHECKSUM_BYTES)]
}

#[inline]
fn has_valid_checksum(event: &[u8]) -> bool {
    event
        .split_last_chunk::<CHECKSUM_BYTES>()
        .is_some_and(|(data, sum)| data.len() >= HEADER_BYTES && crc32fast::hash(data) == u32::from_le_bytes(*sum))
}

/// A rotation: the next event is at this offset of this file.
pub(crate) fn rotate(body: &[u8]) -> Result<(u64, String), WireError> {
    let Some((offset, file)) = body.split_first_chunk::<8>() else {
        return Err(damaged("a rotation"));
    };
    Ok((u64::from_le_bytes(*offset), String::from_utf8_lossy(file).into_owned()))
}

/// The head of a MySQL transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GtidHead {
    /// None where the server does not number transactions.
    pub(crate) number: Option<u64>,
    /// Microseconds since 1970; 0 where the server (before 8.0.1) does not say.
    pub(crate) commit_time_us: i64,
}

/// Reads a GTID or anonymous GTID event. The origin goes into `origin`, whose UUID rarely changes.
pub(crate) fn gtid(body: &[u8], anonymous: bool, origin: &mut Origin) -> Result<GtidHead, WireError> {
    const COMMIT_TIME: usize = 42; // flags, UUID, number, type code, two logical clocks
    let Some(head) = body.first_chunk::<25>() else { return Err(damaged("a GTID event")) };
    origin.uuid.copy_from_slice(&head[1..17]);
    origin.tag.clear();
    let mut number = [0; 8];
    number.copy_from_slice(&head[17..25]);
    let mut time = [0; 8];
    if let Some(bytes) = body.get(COMMIT_TIME..COMMIT_TIME + 7).filter(|_| body[25] == 2) {
        time[..7].copy_from_slice(bytes);
        time[6] &= 0x7f; // the highest bit says that the original commit's time follows
    }
    Ok(GtidHead { number: (!anonymous).then(|| u64::from_le_bytes(number)), commit_time_us: i64::from_le_bytes(time) })
}

/// Reads a tagged GTID event (MySQL 8.4): a message of the server's serialisation library.
pub(crate) fn gtid_tagged(body: &[u8], origin: &mut Origin) -> Result<GtidHead, WireError> {
    const VERSION: u64 = 2; // "1" in the library's own variable length
    let mut reader = Varint(Reader(body));
    if u64::from(reader.0.take(1)?[0]) != VERSION {
        return Err(damaged("a tagged GTID event of an unknown version"));
    }
    reader.unsigned()?; // size
    reader.unsigned()?; // last field that may not be ignored
    let mut head = GtidHead::default();
    while !reader.0.0.is_empty() {
        match reader.unsigned()? {
            1 => {
                for byte in &mut origin.uuid {
                    *byte = u8::try_from(reader.unsigned()?).map_err(|_| damaged("a UUID"))?;
                }
            }
            2 => head.number = Some(reader.unsigned()? >> 1),
            3 => {
                let length = usize::try_from(reader.unsigned()?).map_err(|_| damaged("a tag"))?;
                origin.tag = String::from_utf8_lossy(reader.0.take(length)?).into_owned();
            }
            6 => head.commit_time_us = i64::try_from(reader.unsigned()?).map_err(|_| damaged("a commit time"))?,
            // Flags, logical clocks, original commit time, length, versions, ticket: one number each.
            0 | 4 | 5 | 7..=11 => drop(reader.unsigned()?),
            // Fields are added at the end, after all that we need.
            _ => break,
        }
    }
    Ok(head)
}

/// Numbers of the serialisation library: the trailing ones of the first byte count the bytes that follow.
struct Varint<'a>(Reader<'a>);

impl Varint<'_> {
    fn unsigned(&mut self) -> Result<u64, WireError> {
        let first = *self.0.0.first().ok_or_else(|| damaged("a number"))?;
        let more = first.trailing_ones() as usize;
        let mut bytes = [0; 8];
        if more == 8 {
            self.0.take(1)?;
            bytes.copy_from_slice(self.0.take(8)?);
            return Ok(u64::from_le_bytes(bytes));
        }
        bytes[..=more].copy_from_slice(self.0.take(more + 1)?);
        Ok(u64::from_le_bytes(bytes) >> (more + 1))
    }
}

/// A MariaDB GTID event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MariaGtid {
    pub(crate) sequence: u64,
    pub(crate) domain: u32,
    /// One statement without BEGIN and COMMIT: DDL.
    pub(crate) standalone: bool,
    pub(crate) prepared_xa: bool,
    pub(crate) completed_xa: bool,
}

pub(crate) fn mariadb_gtid(body: &[u8]) -> Result<MariaGtid, WireError> {
    let Some(b) = body.first_chunk::<13>() else { return Err(damaged("a GTID event")) };
    Ok(MariaGtid {
        sequence: u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        domain: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
        standalone: b[12] & 1 != 0,
        prepared_xa: b[12] & 64 != 0,
        completed_xa: b[12] & 128 != 0,
    })
}

/// The server id in an event's header: part of a MariaDB GTID.
pub(crate) fn server_id(event: &[u8]) -> u32 {
    event.get(5..9).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// A statement in the log: its default database and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    pub(crate) database: &'a [u8],
    pub(crate) text: &'a [u8],
    /// The connection that ran it, on the server that did so first.
    pub(crate) connection: u32,
    /// What the session was like, by numbered variables.
    variables: &'a [u8],
}

/// What is known of the session that ran a statement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Session {
    pub(crate) sql_mode: u64,
    /// The number of a collation of the charset in which the client speaks.
    pub(crate) client_collation: Option<u64>,
    /// The number of the collation of databases that say none.
    pub(crate) server_collation: Option<u64>,
    /// Databases that the statement has changed something in; MySQL alone tells.
    pub(crate) databases: Touched,
}

/// Databases that a statement has touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Touched {
    /// At least these.
    Some(Vec<String>),
    /// Too many to be listed.
    Any,
}

impl Default for Touched {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl<'a> Query<'a> {
    /// The same with another text.
    pub(crate) fn with_text(self, text: &'a [u8]) -> Self {
        Self { text, ..self }
    }

    /// The session, as far as its variables can be read: those behind an unknown one cannot.
    pub(crate) fn status(&self) -> Session {
        let mut session = Session::default();
        let mut reader = Reader(self.variables);
        while !reader.0.is_empty() && variable(&mut reader, &mut session).is_ok() {}
        session
    }
}

/// Reads one variable; an error ends the reading.
fn variable(reader: &mut Reader<'_>, session: &mut Session) -> Result<(), WireError> {
    const TOO_MANY: u8 = 254;
    let sized = |reader: &mut Reader<'_>, more: usize| {
        let length = usize::from(reader.take(1)?[0]);
        reader.take(length + more).map(drop)
    };
    match reader.take(1)?[0] {
        // Flags; numbers of the last insert; master data; locale; database charset; time parts; and so on.
        0 | 10 => drop(reader.take(4)?),
        1 => {
            let mut mode = [0; 8];
            mode.copy_from_slice(reader.take(8)?);
            session.sql_mode = u64::from_le_bytes(mode);
        }
        2 => sized(reader, 1)?,
        3 => drop(reader.take(4)?),
        4 => {
            let numbers = reader.take(6)?;
            session.client_collation = Some(u64::from(u16::from_le_bytes([numbers[0], numbers[1]])));
            session.server_collation = Some(u64::from(u16::from_le_bytes([numbers[4], numbers[5]])));
        }
        5 | 6 => sized(reader, 0)?,
        7 | 8 | 18 => drop(reader.take(2)?),
        9 | 17 | 129 => drop(reader.take(8)?),
        11 => {
            sized(reader, 0)?;
            sized(reader, 0)?;
        }
        12 => match reader.take(1)?[0] {
            TOO_MANY => session.databases = Touched::Any,
            count => {
                let names = (0..count).map(|_| String::from_utf8_lossy(reader.until_zero()).into_owned());
                session.databases = Touched::Some(names.collect());
            }
        },
        13 | 128 => drop(reader.take(3)?),
        16 | 19 | 20 => drop(reader.take(1)?),
        _ => return Err(damaged("a statement's variables")),
    }
    Ok(())
}

pub(crate) fn query(body: &[u8]) -> Result<Query<'_>, WireError> {
    query_behind(body, 0)
}

/// A LOAD DATA statement: a statement with the numbers of its file behind the fixed part.
pub(crate) fn load_query(body: &[u8]) -> Result<Query<'_>, WireError> {
    query_behind(body, 13)
}

fn query_behind(body: &[u8], extra: usize) -> Result<Query<'_>, WireError> {
    let Some((head, rest)) = body.split_first_chunk::<13>() else {
        return Err(damaged("a statement"));
    };
    let database_length = usize::from(head[8]);
    let status_length = usize::from(u16::from_le_bytes([head[11], head[12]]));
    let variables = rest.get(extra..extra + status_length).ok_or_else(|| damaged("a statement"))?;
    let rest = rest.get(extra + status_length..).ok_or_else(|| damaged("a statement"))?;
    let database = rest.get(..database_length).ok_or_else(|| damaged("a statement"))?;
    let text = rest.get(database_length + 1..).ok_or_else(|| damaged("a statement"))?;
    let connection = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    Ok(Query { database, text, connection, variables })
}

/// The end of the first phase of a transaction across servers: whether it was the only phase, and the transaction's name.
pub(crate) fn xa_prepare(body: &[u8]) -> Result<(bool, Xid), WireError> {
    let mut reader = Reader(body);
    let one_phase = reader.take(1)?[0] != 0;
    let mut number = || {
        let bytes = reader.take(4)?;
        Ok::<_, WireError>(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let (format, transaction, branch) = (number()?, number()?, number()?);
    let mut bytes = |length: u32| Ok::<_, WireError>(reader.take(length as usize)?.to_vec());
    Ok((one_phase, Xid { format, transaction: bytes(transaction)?, branch: bytes(branch)? }))
}

/// A compressed transaction.
pub(crate) struct Payload<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) compressed: bool,
    pub(crate) uncompressed_bytes: usize,
}

pub(crate) fn payload(body: &[u8]) -> Result<Payload<'_>, WireError> {
    const END: usize = 0;
    const SIZE: usize = 1;
    const COMPRESSION: usize = 2;
    const UNCOMPRESSED: usize = 3;
    let mut reader = Reader(body);
    let (mut size, mut compression, mut uncompressed) = (None, 0, None);
    loop {
        let field = reader.length()?;
        if field == END {
            break;
        }
        let length = reader.length()?;
        let mut value = Reader(reader.take(length)?);
        match field {
            SIZE => size = Some(value.length()?),
            COMPRESSION => compression = value.length()?,
            UNCOMPRESSED => uncompressed = Some(value.length()?),
            _ => {}
        }
    }
    let data = reader.0;
    if size.is_some_and(|size| size != data.len()) {
        return Err(damaged("a compressed transaction has another size than it says"));
    }
    let compressed = match compression {
        0 => true,
        255 => false,
        other => return Err(damaged(&format!("transaction compression {other} is unknown"))),
    };
    let uncompressed_bytes = uncompressed.unwrap_or(data.len());
    Ok(Payload { data, compressed, uncompressed_bytes })
}

/// Database and table of a table map, without looking at the rest.
pub(crate) fn mapped_name(body: &[u8]) -> Option<(String, String)> {
    let mut reader = Reader(body.get(8..)?);
    let mut name = || {
        let length = reader.length().ok()?;
        let name = reader.take(length + 1).ok()?;
        Some(String::from_utf8_lossy(&name[..length]).into_owned())
    };
    Some((name()?, name()?))
}
