//! By what the place is known again at which a log is read: who wrote it, when its file was begun, which event was last.
//!
//! Law: events up to the position are never taken twice. A log that is read again from before the position is passed over
//! up to it ([`Assembler::resume_from`]), and must hold there what was read the first time: the same file, an event that
//! ends at the same offset, with the same checksum. Otherwise it is another history under the same names.

use std::mem;

use super::super::error::{WireError, another_history};
use super::super::event::{self, Checksum, Header, kind};
use super::super::position::{GtidSet, Gtids, LastEvent, LogPoint, is_same_server};
use super::{Assembler, Passing, Step};

/// What a server can be asked for in 32 bits.
const REACH: u64 = u32::MAX as u64;

impl Assembler {
    /// The log comes from this offset of the position's file on, which is at or before the position.
    pub(crate) fn resume_from(&mut self, offset: u64) {
        self.is_passing = offset < self.position.point.offset;
        self.offset = offset;
    }

    /// The position belongs to this server from now on, and its place among the files with it.
    pub(crate) fn belongs_to(&mut self, server: &str) {
        server.clone_into(&mut self.position.mark.server);
    }

    /// The log comes by the numbers of transactions from where nobody knows yet: the position's place is another server's, or
    /// in a file that is gone. It is known again when the log has told it; until then nothing is behind it.
    pub(crate) fn moves_to(&mut self, server: &str) {
        let mark = mem::take(&mut self.position.mark);
        let has_stayed = !mark.server.is_empty() && is_same_server(&mark.server, server);
        self.counted = None;
        self.position.point = LogPoint::new("", 4);
        self.applied = LogPoint::default();
        self.file.clear();
        self.offset = 0;
        self.settle_nothing();
        // Places of the other server's log mean nothing here. Loads that are not behind theirs have been lost.
        for table in self.tables.iter_mut().filter(|_| !has_stayed) {
            if matches!(table.passing, Passing::Until(_)) {
                table.passing = Passing::Nothing;
            }
        }
        self.belongs_to(server);
    }

    /// The server numbers all transactions now: the position counts them from now on, if the log has told those before. What
    /// the server says of itself would not do: what it has executed and where its log ends are not of one moment.
    pub(crate) fn adopt(&mut self) {
        if self.position.gtids == Gtids::Off
            && let Some(set) = self.counted.take()
        {
            self.position.gtids = Gtids::MySql(set);
        }
    }

    /// Whether the numbers of what was read are not known: they are, when the position's file is read from its head on.
    pub(crate) fn lacks_numbers(&self) -> bool {
        self.position.gtids == Gtids::Off && self.counted.is_none()
    }

    /// The head of a file tells all numbered transactions of the files before it.
    pub(super) fn count_previous(&mut self, body: &[u8]) -> Result<Step, WireError> {
        if self.position.gtids == Gtids::Off {
            let set = GtidSet::decode(body).ok_or_else(|| event::damaged("the numbers of the files before"))?;
            self.counted = Some(set);
        }
        Ok(Step::Next)
    }

    /// A transaction's head before the position.
    fn count_passed(&mut self, header: Header, body: &[u8]) -> Result<(), WireError> {
        if self.position.gtids != Gtids::Off {
            return Ok(());
        }
        let head = match header.kind {
            kind::PREVIOUS_GTIDS => return self.count_previous(body).map(drop),
            kind::GTID => event::gtid(body, false, &mut self.origin)?,
            kind::GTID_TAGGED => event::gtid_tagged(body, &mut self.origin)?,
            _ => return Ok(()),
        };
        if let (Some(counted), Some(number)) = (&mut self.counted, head.number) {
            counted.add(&self.origin, number);
        }
        Ok(())
    }

    /// Whether the position counts a transaction of the origin last read.
    #[inline]
    pub(super) fn has_counted(&self, number: u64) -> bool {
        matches!(&self.position.gtids, Gtids::MySql(set) if set.contains(&self.origin, number))
    }

    /// A transaction without a number: the numbers alone do not tell any more what was read.
    pub(super) fn count_anonymous(&mut self) {
        if let Gtids::MySql(set) = &mut self.position.gtids {
            self.counted = Some(mem::take(set));
            self.position.gtids = Gtids::Off;
        }
    }

    /// A file's head: it tells when the file was begun.
    pub(super) fn file_begun(&mut self, header: Header) -> Result<Step, WireError> {
        self.begun = header.timestamp;
        if self.position.point.file == self.file && self.begun != 0 {
            let known = mem::replace(&mut self.position.mark.begun, self.begun);
            if known != 0 && known != self.begun {
                self.position.mark.begun = known;
                return Err(another_history(&format!(
                    "The file of {} was begun at another time than the one that was read.",
                    self.position.point
                )));
            }
        }
        Ok(Step::Next)
    }

    /// An event that was read before, or one that tells of none.
    pub(super) fn pass(&mut self, header: Header, event: &[u8], body: &[u8]) -> Result<Step, WireError> {
        let at = &self.position.point;
        match header.kind {
            kind::ROTATE => {
                let (offset, file) = event::rotate(body)?;
                if file == at.file && offset <= at.offset {
                    (self.file, self.offset) = (file, offset);
                    return Ok(Step::Next);
                }
            }
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => return Ok(Step::Next),
            _ if header.log_pos == 0 || header.is_artificial() => return Ok(Step::Next),
            _ if self.offset < at.offset => {
                self.count_passed(header, body)?;
                return Ok(Step::Next);
            }
            _ if self.offset == at.offset => {
                let last = self.last_event(event);
                if self.position.mark.last.is_none_or(|known| Some(known) == last) {
                    self.is_passing = false;
                    // The head of a file may be all that was read of it.
                    self.count_passed(header, body)?;
                    return Ok(Step::Next);
                }
            }
            _ => {}
        }
        Err(another_history(&format!("The event that ends at {at} is not the one that was read.")))
    }

    /// Whether the place where the log was left has not been found again yet.
    pub(crate) fn is_passing(&self) -> bool {
        self.is_passing
    }

    /// Whether the log that comes is known to lead on from the position: the head of its file has come, and fits, and so
    /// does all up to the place where it was left.
    pub(crate) fn is_proven(&self) -> bool {
        self.checksum != Checksum::Unknown && !self.is_passing
    }

    /// Whether the log that was asked for has begun to come. Before, the server may search for it, in silence.
    pub(crate) fn has_come(&self) -> bool {
        self.has_come
    }

    /// An event has ended a transaction.
    pub(super) fn note_last(&mut self, event: &[u8]) {
        self.position.mark.last = self.last_event(event);
        self.position.mark.begun = self.begun;
    }

    fn last_event(&self, event: &[u8]) -> Option<LastEvent> {
        let start = self.offset.checked_sub(event.len() as u64)?;
        let checksum = match (self.checksum, event.last_chunk::<4>()) {
            (Checksum::Crc32, Some(sum)) => u32::from_le_bytes(*sum),
            _ => crc32fast::hash(event),
        };
        Some(LastEvent { start, checksum })
    }

    /// There is nothing of ours up to where the log was read.
    pub(super) fn move_to_applied(&mut self) {
        if self.position.point != self.applied {
            self.note_below();
            let mark = &mut self.position.mark;
            (mark.last, mark.begun) = (None, self.begun);
            self.position.point.clone_from(&self.applied);
        }
    }

    /// Before the position moves to where the log was read: beyond what can be asked for, the last place within is kept.
    #[inline]
    pub(super) fn note_below(&mut self) {
        let mark = &mut self.position.mark;
        if self.offset <= REACH {
            mark.below = None;
        } else if mark.below.is_none() {
            let at = &self.position.point;
            let is_within = at.file == self.file && at.offset <= REACH;
            mark.below = Some(if is_within { at.offset } else { 4 });
        }
    }
}
