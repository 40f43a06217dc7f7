//! The protocol of Redis, version 2: commands out, replies in, many in flight.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::destination::link::{self, Link};

/// A reply with more bytes is none of ours.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Bytes that are read at once, at least.
const READ_BYTES: usize = 16 << 10;
/// Replies within replies.
const DEPTH_MAX: usize = 8;

/// What a command is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// A word, a number or a text.
    Text(Vec<u8>),
    Nothing,
    Many(Vec<Reply>),
    /// A code, and what else is said.
    Error(String),
}

impl Reply {
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("what answers there is no Redis")]
    Protocol,
}

impl WireError {
    /// In words of people.
    pub(super) fn told(&self, address: &str) -> String {
        match self {
            Self::Io(error) => link::told(error, address),
            Self::Protocol => format!("what answers at {address} is no Redis"),
        }
    }
}

/// A connection.
pub(super) struct Wire {
    link: Link,
    /// What was read and not taken: from `start` on.
    read: Vec<u8>,
    start: usize,
    /// Commands that are not sent yet.
    written: Vec<u8>,
}

impl Wire {
    pub(super) fn new(link: Link) -> Self {
        Self { link, read: Vec::new(), start: 0, written: Vec::new() }
    }

    /// Begins a command of so many words; each follows by [`Wire::word`].
    pub(super) fn command(&mut self, words: usize) {
        self.written.extend_from_slice(format!("*{words}\r\n").as_bytes());
    }

    pub(super) fn word(&mut self, word: &[u8]) {
        Self::push_word(&mut self.written, word);
    }

    /// Words that were written by [`Wire::push_word`].
    pub(super) fn raw(&mut self, words: &[u8]) {
        self.written.extend_from_slice(words);
    }

    /// Writes a word of a command that is sent later.
    pub(super) fn push_word(out: &mut Vec<u8>, word: &[u8]) {
        out.push(b'$');
        out.extend_from_slice(word.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }

    /// Sends what was written. Replies are few and short beside it: they wait in the socket meanwhile.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        self.link.write_all(&self.written).await?;
        self.link.flush().await?;
        self.written.clear();
        Ok(())
    }

    /// The reply to the oldest command without one.
    pub(super) async fn reply(&mut self) -> Result<Reply, WireError> {
        loop {
            let mut at = self.start;
            if let Some(reply) = parse(&self.read, &mut at, 0)? {
                self.start = at;
                if self.start == self.read.len() {
                    self.read.clear();
                    self.start = 0;
                }
                return Ok(reply);
            }
            if self.read.len() - self.start > REPLY_BYTES_MAX {
                return Err(WireError::Protocol);
            }
            self.read.drain(..self.start);
            self.start = 0;
            self.read.reserve(READ_BYTES);
            if self.link.read_buf(&mut self.read).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// One command and its reply.
    pub(super) async fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, WireError> {
        self.command(words.len());
        words.iter().for_each(|word| self.word(word));
        self.flush().await?;
        self.reply().await
    }
}

/// A whole reply from `at` on, which moves behind it; none where its end has not come yet.
fn parse(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Option<Reply>, WireError> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let Some((kind, line)) = rest[..end].split_first() else { return Err(WireError::Protocol) };
    let number = || std::str::from_utf8(line).ok().and_then(|text| text.parse::<i64>().ok()).ok_or(WireError::Protocol);
    let mut next = *at + end + 2;
    let reply = match kind {
        b'+' | b':' => Reply::Text(line.to_vec()),
        b'-' => Reply::Error(String::from_utf8_lossy(line).into_owned()),
        b'$' | b'*' if number()? < 0 => Reply::Nothing,
        b'$' => {
            let length = usize::try_from(number()?).ok().filter(|length| *length <= REPLY_BYTES_MAX);
            let length = length.ok_or(WireError::Protocol)?;
            let Some(text) = bytes.get(next..next + length + 2) else { return Ok(None) };
            next += length + 2;
            Reply::Text(text[..length].to_vec())
        }
        b'*' if depth < DEPTH_MAX => {
            let mut many = Vec::new();
            for _ in 0..number()? {
                let Some(reply) = parse(bytes, &mut next, depth + 1)? else { return Ok(None) };
                many.push(reply);
            }
            Reply::Many(many)
        }
        _ => return Err(WireError::Protocol),
    };
    *at = next;
    Ok(Some(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_when_they_are_whole() {
        let all = b"+OK\r\n:-7\r\n$-1\r\n$5\r\na\r\nbc\r\n*2\r\n:1\r\n*1\r\n$0\r\n\r\n-ERR no\r\n";
        let read = |bytes: &[u8]| {
            let (mut at, mut replies) = (0, Vec::new());
            while let Some(reply) = parse(bytes, &mut at, 0).expect("replies") {
                replies.push(reply);
            }
            replies
        };
        let text = |text: &str| Reply::Text(text.as_bytes().to_vec());
        let wanted = vec![
            text("OK"),
            text("-7"),
            Reply::Nothing,
            text("a\r\nbc"),
            Reply::Many(vec![text("1"), Reply::Many(vec![text("")])]),
            Reply::Error("ERR no".to_owned()),
        ];
        assert_eq!(read(all), wanted);
        for end in 0..all.len() {
            let replies = read(&all[..end]);
            assert_eq!(replies[..], wanted[..replies.len()], "{end}");
        }
        for bad in [&b"HTTP/1.1 400\r\n"[..], b"\r\n", b"$x\r\n", b"$999999999999\r\n"] {
            assert!(parse(bad, &mut 0, 0).is_err(), "{bad:?}");
        }
        assert!(parse(&b"*1\r\n".repeat(20), &mut 0, 0).is_err());
    }
}
