//! Somebody who takes the events of the log beside the assembler, which keeps the place: see [`Listener`].

use super::super::error::WireError;
use super::super::event::Header;

/// An event of the log, before the assembler takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard<'a> {
    pub(crate) header: Header,
    /// With its header, and its checksum where it stands in the file itself.
    pub(crate) event: &'a [u8],
    /// Without both.
    pub(crate) body: &'a [u8],
    pub(crate) file: &'a str,
    /// Where it begins in the file; of one inside a compressed transaction, where that begins.
    pub(crate) start: u64,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hearing {
    Taken,
    /// Something is to be asked first: it, or the whole compressed transaction that it is in, comes once more.
    Asks,
}

/// Hears every event of the log once and in order, those inside of compressed transactions among them, but for transactions that
/// are passed over because they were read before.
pub(crate) trait Listener {
    /// An error ends the connection, as one of the assembler does.
    fn hear(&mut self, heard: &Heard<'_>) -> Result<Hearing, WireError>;
}

/// Nobody.
pub(super) struct Deaf;

impl Listener for Deaf {
    #[inline]
    fn hear(&mut self, _: &Heard<'_>) -> Result<Hearing, WireError> {
        Ok(Hearing::Taken)
    }
}
