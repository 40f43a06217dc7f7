//! A compressed transaction (MySQL's TRANSACTION_PAYLOAD): one event of the log with a whole transaction's events inside.
//!
//! It is inflated as far as the next event inside needs, so a transaction of any size takes memory for its largest event
//! and not for itself. When the batch has to be taken in the midst of it, how far it was read is kept here, and the same
//! event given once more goes on from there.

use std::fmt;

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::super::error::WireError;
use super::super::event::{self, Header, damaged};
use super::{Assembler, Listener, Step};

/// Bytes inflated at once: what a block of zstd holds.
const BLOCK_BYTES: usize = 128 << 10;
/// A buffer that a large event has made larger than this is not kept.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Where an event's header has the event's size.
const SIZE: std::ops::Range<usize> = 9..13;

/// How far a payload was read.
pub(super) struct Inflating {
    /// None where the payload is stored as it is.
    decoder: Option<Decoder<'static>>,
    /// Bytes of the payload consumed.
    read: usize,
    /// Inflated bytes; those before `begin` are done with.
    out: Vec<u8>,
    begin: usize,
    /// Bytes handed out as events.
    given: usize,
    /// All that the payload says it holds.
    total: usize,
    /// The decoder has nothing more to give.
    is_dry: bool,
}

impl fmt::Debug for Inflating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflating").field("given", &self.given).field("total", &self.total).finish_non_exhaustive()
    }
}

impl Inflating {
    fn new(payload: &event::Payload<'_>) -> Result<Self, WireError> {
        let decoder = match payload.compressed {
            true => Some(Decoder::new().map_err(|e| bad(&e.to_string()))?),
            false => None,
        };
        let total = payload.uncompressed_bytes;
        Ok(Self { decoder, read: 0, out: Vec::new(), begin: 0, given: 0, total, is_dry: false })
    }

    /// Begins another payload with the same buffers.
    fn restart(mut self, payload: &event::Payload<'_>) -> Result<Self, WireError> {
        let Some(decoder) = &mut self.decoder else { return Self::new(payload) };
        if !payload.compressed {
            return Self::new(payload);
        }
        decoder.reinit().map_err(|e| bad(&e.to_string()))?;
        let out = if self.out.capacity() > KEPT_BYTES_MAX { Vec::new() } else { self.out };
        let mut fresh =
            Self { read: 0, out, begin: 0, given: 0, total: payload.uncompressed_bytes, is_dry: false, ..self };
        fresh.out.clear();
        Ok(fresh)
    }

    /// The next event inside, or none at the end.
    fn next<'a>(&'a mut self, data: &'a [u8]) -> Result<Option<&'a [u8]>, WireError> {
        let head = self.ahead(data, event::HEADER_BYTES)?;
        if head.is_empty() {
            return match self.given == self.total {
                true => Ok(None),
                false => Err(damaged("a compressed transaction inflates to another size than it says")),
            };
        }
        let size = head.get(SIZE).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
        if size < event::HEADER_BYTES || size > self.total - self.given.min(self.total) {
            return Err(damaged("an event inside a compressed transaction"));
        }
        if self.ahead(data, size)?.len() < size {
            return Err(damaged("an event inside a compressed transaction"));
        }
        self.given += size;
        if self.decoder.is_none() {
            self.read += size;
            return Ok(Some(&data[self.read - size..self.read]));
        }
        self.begin += size;
        Ok(Some(&self.out[self.begin - size..self.begin]))
    }

    /// The bytes not handed out yet: at least `wanted`, or all there are.
    fn ahead<'a>(&'a mut self, data: &'a [u8], wanted: usize) -> Result<&'a [u8], WireError> {
        if self.decoder.is_none() {
            return Ok(&data[self.read..]);
        }
        if self.out.len() - self.begin < wanted {
            self.out.drain(..self.begin);
            self.begin = 0;
            while self.out.len() < wanted && !self.is_dry {
                self.inflate(data)?;
            }
        }
        Ok(&self.out[self.begin..])
    }

    fn inflate(&mut self, data: &[u8]) -> Result<(), WireError> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let before = self.out.len();
        // Most transactions are small, and a block would have to be zeroed for each.
        let missing = self.total.saturating_sub(self.given + before - self.begin);
        self.out.resize(before + missing.clamp(1, BLOCK_BYTES), 0);
        let mut input = InBuffer::around(&data[self.read..]);
        let mut output = OutBuffer::around_pos(&mut self.out[..], before);
        let hint = decoder.run(&mut input, &mut output);
        let (consumed, filled) = (input.pos(), output.pos());
        self.out.truncate(filled);
        let hint = hint.map_err(|e| bad(&e.to_string()))?;
        self.read += consumed;
        if consumed == 0 && filled == before {
            // 0 says that a frame has ended; otherwise it wants bytes that are not there.
            if hint != 0 || self.read < data.len() {
                return Err(bad("it ends too early"));
            }
            self.is_dry = true;
        }
        self.is_dry |= hint == 0 && self.read == data.len();
        Ok(())
    }
}

fn bad(reason: &str) -> WireError {
    damaged(&format!("a compressed transaction cannot be inflated: {reason}"))
}

impl Assembler {
    /// `length` is that of the whole event.
    pub(super) fn payload(
        &mut self,
        body: &[u8],
        length: usize,
        listener: &mut impl Listener,
    ) -> Result<Step, WireError> {
        let payload = event::payload(body)?;
        let mut inflating = match (self.inflating.take(), self.is_inside_event) {
            (Some(begun), true) => begun,
            (Some(done), false) => done.restart(&payload)?,
            (None, _) => Inflating::new(&payload)?,
        };
        self.is_inside_event = false;
        let mut step = Step::Next;
        while let Some(event) = inflating.next(payload.data)? {
            let inside = &event[event::HEADER_BYTES..];
            match self.in_order(Header::parse(event)?, event, inside, length, listener)? {
                Step::Next => {}
                Step::Committed => step = Step::Committed,
                Step::Outgrown | Step::Paused => {
                    self.is_inside_event = true;
                    step = Step::Paused;
                    break;
                }
                // The whole payload will be given again.
                asks @ (Step::Describe(_) | Step::Keys | Step::Reach | Step::Asked) => {
                    self.rollback();
                    step = asks;
                    break;
                }
            }
        }
        self.inflating = Some(inflating);
        Ok(step)
    }
}
