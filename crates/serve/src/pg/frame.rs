//! Messages of a client: cut from the stream, checked, decoded.
//!
//! A length that cannot be, or a kind that does not exist, ends the connection: nothing behind it can be trusted. A
//! message whose inside is wrong is an error like any other, since the next one can still be found.

use bytes::{Buf, Bytes, BytesMut};

use crate::reader::SqlError;

/// A message of a client that has logged in.
#[derive(Debug)]
pub(super) enum Request {
    Query(String),
    Parse {
        name: String,
        query: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: String,
        rows_max: usize,
    },
    Close(Target),
    Sync,
    Flush,
    Terminate,
    /// What a client sends of a COPY that we did not ask for.
    Stray,
}

/// Values for a prepared statement.
#[derive(Debug)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) formats: Vec<i16>,
    pub(super) values: Vec<Option<Bytes>>,
    pub(super) result_formats: Vec<i16>,
}

/// What Describe and Close are about.
#[derive(Debug)]
pub(super) enum Target {
    Statement(String),
    Portal(String),
}

/// A message whose frame was right.
pub(super) struct Framed {
    /// Whether an error skips to the next Sync.
    pub(super) extended: bool,
    pub(super) request: Result<Request, SqlError>,
}

/// The next whole message in `input`, if there is one. Errors end the connection.
pub(super) fn next(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Framed>, SqlError> {
    let Some(kind) = input.first().copied() else { return Ok(None) };
    if !b"QPBDECSHXdcfF".contains(&kind) {
        return Err(violation(format!("invalid frontend message type {kind}")));
    }
    let Some(length) = input.get(1..5) else { return Ok(None) };
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if length < 4 {
        return Err(violation("invalid message length"));
    }
    if length > bytes_max {
        return Err(violation(format!("a message of {length} bytes is too large"))
            .detail(format!("Messages have up to {bytes_max} bytes.")));
    }
    if input.len() < 1 + length {
        return Ok(None);
    }
    let mut body = input.split_to(1 + length).freeze();
    body.advance(5);
    Ok(Some(Framed { extended: b"PBDECSH".contains(&kind), request: request(kind, body) }))
}

/// Bytes of the message that `input` begins with, as far as it says.
pub(super) fn announced(input: &BytesMut) -> Option<usize> {
    let length = input.get(1..5)?;
    Some(1 + u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize)
}

fn request(kind: u8, body: Bytes) -> Result<Request, SqlError> {
    let mut body = Body(body);
    let request = match kind {
        b'Q' => Request::Query(body.text()?),
        b'P' => Request::Parse { name: body.text()?, query: body.text()?, types: body.list(Body::word)? },
        b'B' => Request::Bind(Bind {
            portal: body.text()?,
            statement: body.text()?,
            formats: body.list(Body::short)?,
            values: body.list(Body::value)?,
            result_formats: body.list(Body::short)?,
        }),
        b'D' => Request::Describe(body.target()?),
        b'E' => Request::Execute { portal: body.text()?, rows_max: body.word()? as usize },
        b'C' => Request::Close(body.target()?),
        b'S' => Request::Sync,
        b'H' => Request::Flush,
        b'X' => return Ok(Request::Terminate),
        b'F' => {
            return Err(SqlError::new("0A000", "function calls of the protocol are not supported"));
        }
        _ => return Ok(Request::Stray),
    };
    if body.0.is_empty() { Ok(request) } else { Err(malformed()) }
}

fn violation(message: impl Into<String>) -> SqlError {
    SqlError::new("08P01", message)
}

fn malformed() -> SqlError {
    violation("invalid message format")
}

/// What is left of a message.
struct Body(Bytes);

impl Body {
    fn bytes(&mut self, len: usize) -> Result<Bytes, SqlError> {
        if len > self.0.len() { Err(malformed()) } else { Ok(self.0.split_to(len)) }
    }

    fn short(&mut self) -> Result<i16, SqlError> {
        self.0.try_get_i16().map_err(|_| malformed())
    }

    fn word(&mut self) -> Result<u32, SqlError> {
        self.0.try_get_u32().map_err(|_| malformed())
    }

    /// A value behind its length; the length -1 is NULL.
    fn value(&mut self) -> Result<Option<Bytes>, SqlError> {
        match self.0.try_get_i32().map_err(|_| malformed())? {
            -1 => Ok(None),
            len => Ok(Some(self.bytes(usize::try_from(len).map_err(|_| malformed())?)?)),
        }
    }

    /// Items behind their count; each takes at least a byte, so a false count fails before it costs memory.
    fn list<T>(&mut self, item: fn(&mut Self) -> Result<T, SqlError>) -> Result<Vec<T>, SqlError> {
        let count = self.0.try_get_u16().map_err(|_| malformed())?;
        (0..count).map(|_| item(self)).collect()
    }

    /// Text up to its zero byte.
    fn text(&mut self) -> Result<String, SqlError> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(malformed)?;
        let bytes = self.bytes(end)?;
        self.0.advance(1);
        utf8(&bytes)
    }

    fn target(&mut self) -> Result<Target, SqlError> {
        let kind = self.0.try_get_u8().map_err(|_| malformed())?;
        let name = self.text()?;
        match kind {
            b'S' => Ok(Target::Statement(name)),
            b'P' => Ok(Target::Portal(name)),
            _ => Err(malformed()),
        }
    }
}

/// Text of these bytes. Errors: 22021 with the first byte that is none.
pub(super) fn utf8(bytes: &[u8]) -> Result<String, SqlError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|e| {
        let byte = bytes.get(e.valid_up_to()).copied().unwrap_or_default();
        SqlError::new("22021", format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"))
    })
}
