//! What an outbox is told: what became of a portion, or what a person wants. Inputs of steps, so they stand in the log.
//!
//! ```text
//! parts   what it is, then of each kind its own
//! asked       reason | state of marks 4, walk 8, step 8, rows 8
//! recounted   reason of before | reason | as above; or the reason of before alone
//! delivered   state of marks 4 | generation 8, sequence 8, time 8, flags 1 (1 = something was changed there, 2 = all was heard of) | walk | settled …
//! walk        nothing, or: number 8, keys 8, whether it is done 1, up to which key
//! settled     step of the mark 8 (2^64 - 1: none), verdict 1, length of the key 4, key, the verdict's own bytes
//! ```
//! Numbers are little endian.

use relation::TableId;

use super::facts::{id, number, text};

/// What an outbox is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// What became of a portion: made by [`super::Reader::settle`] alone.
    Delivered(Delivered),
    /// Hand out nothing more; it goes on marking. `asked`: until a person lets these deletes go; where they are not what is to go
    /// by then, or it is paused already, it is not taken.
    Pause { reason: String, asked: Option<Asked> },
    /// What a person is asked for has become less, or no person has to be asked any more: then it goes on. It is taken where it is paused
    /// for the reason that it was. Made by [`super::Leaving`] alone.
    Recount { was: String, now: Option<(String, Asked)> },
    /// Go on; what was asked for goes. Where marks were left out, a walk goes through all rows.
    Resume,
    /// Go through all rows. `lost`: the other side does not have any more what it had, so all of them are sent.
    Refill { lost: bool },
    /// Send refused rows again.
    Retry,
}

/// Deletes that a person is asked for: made by [`super::Leaving`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// By these it is told of what they were counted.
    pub(crate) pending: TableId,
    pub(crate) walk: u64,
    /// As of which step, and how many.
    pub(crate) step: u64,
    pub(crate) rows: u64,
}

/// What became of a portion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// By this state it is told to which incarnation of the outbox it belongs.
    pub(crate) pending: TableId,
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    /// Whether the other side was changed.
    pub(crate) has_sent: bool,
    /// Whether nothing is out by then that nobody has heard of.
    pub(crate) is_heard: bool,
    pub(crate) walked: Option<Walked>,
    pub(crate) at_us: i64,
    pub(crate) settled: Vec<Settled>,
}

/// How far a portion of a walk went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walked {
    pub(crate) number: u64,
    pub(crate) through: Vec<u8>,
    pub(crate) is_done: bool,
    /// Keys that it has looked at.
    pub(crate) keys: u64,
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) key: Vec<u8>,
    /// The step of the mark with which it was sent.
    pub(crate) step: Option<u64>,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted {
        fingerprint: [u8; 16],
        /// The row of the key's columns, where the key does not hold it.
        key_row: Option<Vec<u8>>,
    },
    Removed,
    /// It was not sent: the other side has it so.
    Same,
    Refused {
        is_delete: bool,
        reason: String,
        /// Another row of the key may be there, of which nobody has heard: the row of the key's columns, as above, or nothing.
        doubt: Option<Vec<u8>>,
    },
    /// It may be there or not.
    Unknown {
        key_row: Option<Vec<u8>>,
    },
    Later,
}

const DELIVERED: u8 = 1;
const PAUSE: u8 = 2;
const RESUME: u8 = 3;
const REFILL: u8 = 4;
const LOST: u8 = 5;
const RETRY: u8 = 6;
const ASK: u8 = 7;
const RECOUNT: u8 = 8;
/// The last of these.
const KINDS: u8 = RECOUNT;
/// The last verdict.
const VERDICTS: u8 = 6;
/// Flags of what was delivered.
const HAS_SENT: u8 = 1;
const IS_HEARD: u8 = 2;

const NO_MARK: u64 = u64::MAX;

impl Told {
    /// As parts of a log's note.
    pub(crate) fn to_parts(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Delivered(delivered) => delivered.to_parts(),
            Self::Pause { reason, asked: None } => vec![vec![PAUSE], reason.clone().into_bytes()],
            Self::Pause { reason, asked: Some(asked) } => {
                vec![vec![ASK], reason.clone().into_bytes(), asked.to_bytes()]
            }
            Self::Recount { was, now } => {
                let mut parts = vec![vec![RECOUNT], was.clone().into_bytes()];
                if let Some((reason, asked)) = now {
                    parts.extend([reason.clone().into_bytes(), asked.to_bytes()]);
                }
                parts
            }
            Self::Resume => vec![vec![RESUME]],
            Self::Refill { lost: false } => vec![vec![REFILL]],
            Self::Refill { lost: true } => vec![vec![LOST]],
            Self::Retry => vec![vec![RETRY]],
        }
    }

    /// The reverse.
    pub(crate) fn of_parts(parts: &[&[u8]]) -> Option<Self> {
        let ([kind], rest) = parts.split_first()? else { return None };
        Some(match (*kind, rest) {
            (DELIVERED, parts) => Self::Delivered(Delivered::of_parts(parts)?),
            (PAUSE, [reason]) => Self::Pause { reason: text(reason)?, asked: None },
            (ASK, [reason, asked]) => Self::Pause { reason: text(reason)?, asked: Some(Asked::of_bytes(asked)?) },
            (RECOUNT, [was]) => Self::Recount { was: text(was)?, now: None },
            (RECOUNT, [was, reason, asked]) => {
                Self::Recount { was: text(was)?, now: Some((text(reason)?, Asked::of_bytes(asked)?)) }
            }
            (RESUME, []) => Self::Resume,
            (REFILL, []) => Self::Refill { lost: false },
            (LOST, []) => Self::Refill { lost: true },
            (RETRY, []) => Self::Retry,
            _ => return None,
        })
    }
}

impl Told {
    /// Whether parts say something that this Tidemill does not know.
    pub(crate) fn is_newer(parts: &[&[u8]]) -> bool {
        match parts {
            [[DELIVERED], _, head, _, settled @ ..] => {
                let is_flag_newer = head.get(24).is_some_and(|flags| *flags > (HAS_SENT | IS_HEARD));
                is_flag_newer || settled.iter().any(|of| of.get(8).is_some_and(|verdict| *verdict > VERDICTS))
            }
            [[kind], ..] => *kind > KINDS,
            _ => false,
        }
    }
}

impl Asked {
    fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.walk, self.step, self.rows].map(u64::to_le_bytes).concat();
        [&self.pending.0.to_le_bytes()[..], &numbers].concat()
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (pending, numbers) = bytes.split_at_checked(4)?;
        let numbers: Vec<u64> = numbers.chunks(8).map(number).collect::<Option<_>>()?;
        let &[walk, step, rows] = numbers.as_slice() else { return None };
        Some(Self { pending: id(pending)?, walk, step, rows })
    }
}

impl Delivered {
    fn to_parts(&self) -> Vec<Vec<u8>> {
        let numbers = [self.generation.to_le_bytes(), self.sequence.to_le_bytes(), self.at_us.to_le_bytes()].concat();
        let flags = (u8::from(self.has_sent) * HAS_SENT) | (u8::from(self.is_heard) * IS_HEARD);
        let head = [&numbers[..], &[flags]].concat();
        let walked = self.walked.as_ref().map(|walked| {
            let numbers = [walked.number.to_le_bytes(), walked.keys.to_le_bytes()].concat();
            [&numbers[..], &[u8::from(walked.is_done)], &walked.through].concat()
        });
        let mut parts = vec![vec![DELIVERED], self.pending.0.to_le_bytes().to_vec(), head, walked.unwrap_or_default()];
        parts.extend(self.settled.iter().map(Settled::to_bytes));
        parts
    }

    fn of_parts(parts: &[&[u8]]) -> Option<Self> {
        let ([pending, head, walked], settled) = parts.split_first_chunk::<3>()?;
        let (generation, rest) = head.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (at, flags) = rest.split_first_chunk::<8>()?;
        let &[flags] = flags else { return None };
        let walked = match *walked {
            [] => None,
            bytes => {
                let (walk, rest) = bytes.split_first_chunk::<8>()?;
                let (keys, rest) = rest.split_first_chunk::<8>()?;
                let (is_done, through) = rest.split_first()?;
                Some(Walked {
                    number: u64::from_le_bytes(*walk),
                    through: through.to_vec(),
                    is_done: *is_done == 1,
                    keys: u64::from_le_bytes(*keys),
                })
            }
        };
        Some(Self {
            pending: id(pending)?,
            generation: u64::from_le_bytes(*generation),
            sequence: u64::from_le_bytes(*sequence),
            has_sent: flags & HAS_SENT != 0,
            is_heard: flags & IS_HEARD != 0,
            walked,
            at_us: i64::from_le_bytes(*at),
            settled: settled.iter().map(|bytes| Settled::of_bytes(bytes)).collect::<Option<_>>()?,
        })
    }
}

impl Settled {
    fn to_bytes(&self) -> Vec<u8> {
        let step = self.step.unwrap_or(NO_MARK).to_le_bytes();
        let (verdict, own): (u8, Vec<u8>) = match &self.verdict {
            Verdict::Accepted { fingerprint, key_row } => {
                (1, [&fingerprint[..], key_row.as_deref().unwrap_or_default()].concat())
            }
            Verdict::Removed => (2, Vec::new()),
            Verdict::Same => (3, Vec::new()),
            Verdict::Refused { is_delete, reason, doubt } => {
                let flags = [u8::from(*is_delete), u8::from(doubt.is_some())];
                let mut own = Vec::new();
                let key_row = doubt.as_deref().unwrap_or_default();
                crate::parts::join(&mut own, &[&flags, key_row, reason.as_bytes()]);
                (4, own)
            }
            Verdict::Unknown { key_row } => (5, key_row.clone().unwrap_or_default()),
            Verdict::Later => (6, Vec::new()),
        };
        // Keys are at most 16 KiB and a hash.
        let length = u32::try_from(self.key.len()).unwrap_or(u32::MAX).to_le_bytes();
        [&step[..], &[verdict], &length, &self.key, &own].concat()
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (step, rest) = bytes.split_at_checked(8)?;
        let step = Some(number(step)?).filter(|step| *step != NO_MARK);
        let (verdict, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (key, own) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let row = |row: &[u8]| (!row.is_empty()).then(|| row.to_vec());
        let verdict = match (*verdict, own) {
            (1, own) => {
                let (fingerprint, key_row) = own.split_first_chunk::<16>()?;
                Verdict::Accepted { fingerprint: *fingerprint, key_row: row(key_row) }
            }
            (2, []) => Verdict::Removed,
            (3, []) => Verdict::Same,
            (4, own) => {
                let [[is_delete, has_doubt], key_row, reason] = crate::parts::split(own)?[..] else { return None };
                let doubt = (*has_doubt == 1).then(|| key_row.to_vec());
                Verdict::Refused { is_delete: *is_delete == 1, reason: text(reason)?, doubt }
            }
            (5, own) => Verdict::Unknown { key_row: row(own) },
            (6, []) => Verdict::Later,
            _ => return None,
        };
        Some(Self { key: key.to_vec(), step, verdict })
    }
}

#[cfg(test)]
pub(super) fn forms() -> String {
    format!("told up to {KINDS}, verdicts up to {VERDICTS}, flags up to {}", HAS_SENT | IS_HEARD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_written() {
        let settled = |step, verdict| Settled { key: vec![1, 2, 3], step, verdict };
        let settled = vec![
            settled(Some(7), Verdict::Accepted { fingerprint: [9; 16], key_row: None }),
            settled(None, Verdict::Accepted { fingerprint: [0; 16], key_row: Some(vec![4]) }),
            settled(Some(0), Verdict::Removed),
            settled(Some(1), Verdict::Same),
            settled(Some(2), Verdict::Refused { is_delete: false, reason: String::new(), doubt: None }),
            settled(None, Verdict::Refused { is_delete: true, reason: "too long".to_owned(), doubt: Some(Vec::new()) }),
            settled(None, Verdict::Unknown { key_row: None }),
            settled(Some(3), Verdict::Unknown { key_row: Some(vec![5, 6]) }),
            settled(None, Verdict::Later),
        ];
        let walked = [
            None,
            Some(Walked { number: 3, through: Vec::new(), is_done: true, keys: 0 }),
            Some(Walked { number: 4, through: vec![1], is_done: false, keys: 12 }),
        ];
        let delivered = walked.map(|walked| {
            let (pending, settled) = (TableId(17), settled.clone());
            Told::Delivered(Delivered {
                pending,
                generation: 2,
                sequence: 8,
                has_sent: true,
                is_heard: walked.is_none(),
                walked,
                at_us: -1,
                settled,
            })
        });
        let others = [
            Told::Pause { reason: "by hand".to_owned(), asked: None },
            Told::Pause {
                reason: "guard: 6 of 7".to_owned(),
                asked: Some(Asked { pending: TableId(17), walk: 3, step: 4, rows: 6 }),
            },
            Told::Recount { was: "guard: 6 of 7".to_owned(), now: None },
            Told::Recount {
                was: "guard: 6 of 7".to_owned(),
                now: Some(("guard: 5 of 7".to_owned(), Asked { pending: TableId(17), walk: 3, step: 5, rows: 5 })),
            },
            Told::Resume,
            Told::Refill { lost: false },
            Told::Refill { lost: true },
            Told::Retry,
        ];
        for told in delivered.into_iter().chain(others) {
            let parts = told.to_parts();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            assert_eq!(Told::of_parts(&parts), Some(told));
        }
        assert_eq!(Told::of_parts(&[&[99]]), None);
        assert!(Told::is_newer(&[&[99]]) && !Told::is_newer(&[&[RETRY]]) && !Told::is_newer(&[]));
        let unknown = [&[0; 8][..], &[VERDICTS + 1]].concat();
        assert!(Told::is_newer(&[&[DELIVERED], &[0; 4], &[0; 25], &[], &unknown]));
        assert_eq!(Told::of_parts(&[]), None);
    }
}
