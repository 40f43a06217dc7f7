//! What the other side keeps of the last portion, and what it tells of a portion whose answer was lost.
//!
//! The other side writes a marker in the same transaction as a portion's rows. Of the last portion that was settled it says nothing new; one
//! that is a portion ahead says that this portion is there. Its keys are then those of its scope that were not changed since: what was
//! changed is marked anew. A key that bears a mark of since may be there only if the portion had a row of it ([`Sent`]), and is
//! noted then; no other key is there, so that nothing is deleted that never came.

use store::Snapshot;

use super::facts::{Followed, Outbox, id, is_accepted, mark_of, number};
use super::read::{Ahead, Found, Outcome, Portion, Reader, Scope, Sides};
use super::sent::Sent;
use super::told::{Delivered, Settled, Verdict};
use super::unheard::Unheard;
use crate::error::Result;
use crate::input::Input;
use crate::parts;

/// What the other side has, compared with what is known of it.
#[derive(Debug)]
pub enum Resumed {
    /// What is known: go on.
    Clean,
    /// What holds it has another name than before, and it is the one that it was: give [`crate::Engine::outbox_is_there`], and begin anew.
    Moved,
    /// What holds it has another name than before, and it is another one: give [`crate::Engine::outbox_is_elsewhere`], and begin anew.
    Elsewhere,
    /// It was filled by another folder, or from another life of this one. The walk sends all rows; what it has beside them is not known.
    Foreign,
    /// It has the last portion, whose answer was lost: the engine is to take this, and nothing is sent again.
    Applied(Input),
    /// It has not what it had: give [`Told::Refill`] with `lost`.
    Lost,
}

impl Reader {
    /// Compares what the other side says it was given last ([`Portion::marker`]) with what is known here. Call it before anything is
    /// sent over a new connection, with a snapshot of now.
    pub fn resume(&mut self, snapshot: &Snapshot, marker: Option<&[u8]>) -> Result<Resumed> {
        self.doubt();
        let out = std::mem::replace(&mut self.out, Unheard::Nothing);
        let Some(outbox) = Outbox::load(snapshot, self.facts, &self.name)? else { return Ok(Resumed::Clean) };
        if outbox.is_moved {
            self.unheard.add(out);
            let is_ours = marker.and_then(Marker::read).is_some_and(|marker| marker.life == outbox.life);
            return Ok(if is_ours { Resumed::Moved } else { Resumed::Elsewhere });
        }
        self.hear(&outbox, marker, out);
        let at = &outbox.at;
        // Nothing of this generation was given to it, so nothing can be lacking.
        let is_new = at.sent == 0;
        let marker = match marker.map(Marker::read) {
            None if is_new => return Ok(Resumed::Clean),
            None => return Ok(Resumed::Lost),
            Some(Some(marker)) if marker.life == outbox.life => marker,
            Some(_) if is_new => return Ok(Resumed::Foreign),
            Some(_) => return Ok(Resumed::Lost),
        };
        if marker.generation != at.generation {
            return Ok(if is_new { Resumed::Clean } else { Resumed::Lost });
        }
        if marker.sequence < at.sent || marker.sequence > at.sequence + 1 {
            return Ok(Resumed::Lost);
        }
        if marker.sequence <= at.sequence {
            return Ok(Resumed::Clean);
        }
        // What has changed since must be marked, or it would be taken for what was sent.
        let is_comparable =
            marker.scope.pending == outbox.pending && marker.scope.since == outbox.since && marker.is_whole;
        if !is_comparable || at.is_full || marker.scope.last < at.gap {
            return Ok(Resumed::Clean);
        }
        let Some(followed) = Followed::load(snapshot, &outbox)? else { return Ok(Resumed::Clean) };
        let settled = applied(&outbox, &followed, snapshot, &marker)?;
        if self.is_sealed && at.heard == at.sequence {
            // All that was out is told of.
            self.unheard = Unheard::Nothing;
        }
        self.awaited = Some(marker.sequence);
        let delivered = Delivered {
            pending: outbox.pending,
            generation: marker.generation,
            sequence: marker.sequence,
            has_sent: true,
            is_heard: self.unheard == Unheard::Nothing,
            walked: marker.scope.walked(),
            at_us: 0,
            settled,
        };
        Ok(Resumed::Applied(self.told(delivered)))
    }

    /// What the marker tells of the portion that was out, of which nobody has heard; `out`: its keys, if they are known.
    fn hear(&mut self, outbox: &Outbox, marker: Option<&[u8]>, out: Unheard) {
        let at = &outbox.at;
        if !self.is_sealed {
            self.unheard.add(out);
            return;
        }
        if at.heard == at.sequence {
            self.unheard = Unheard::Nothing;
        }
        let marker = marker.and_then(Marker::read);
        let ours = marker.filter(|marker| (marker.life, marker.generation) == (outbox.life, at.generation));
        match ours {
            // It is not there.
            Some(marker) if marker.sequence <= at.sequence => {}
            Some(marker) if marker.scope.pending == outbox.pending => self.unheard.add(marker.scope.keys()),
            None if at.sequence == 0 => {}
            _ => self.unheard.add(out),
        }
    }
}

/// What became of the keys of a portion that the other side has, though it was never answered: all that were not changed since.
fn applied(outbox: &Outbox, followed: &Followed, snapshot: &Snapshot, marker: &Marker) -> Result<Vec<Settled>> {
    let Marker { scope, sent, .. } = marker;
    let mut settled = Vec::new();
    let mut add = |found: &Found<'_>| -> Result<()> {
        match found.step.is_none_or(|step| step <= scope.last) {
            true => settled.extend(found.applied(outbox, followed)?),
            // What was changed since is marked anew, and handed out as it is now.
            false if found.accepted.is_some() || sent.as_ref().is_some_and(|sent| !sent.may_have(found.key)) => {}
            false => {
                let key_row = found.row.map(|row| followed.key_row(found.key, row)).transpose()?.flatten();
                let verdict = Verdict::Unknown { key_row };
                settled.push(Settled { key: found.key.to_vec(), step: None, verdict });
            }
        }
        Ok(())
    };
    if scope.walk.is_none() {
        let mut marks = Ahead::new(snapshot, outbox.pending, &scope.after)?;
        while let Some((key, mark)) = marks.next.as_ref().filter(|(key, _)| **key <= *scope.through) {
            let (row, accepted) = (snapshot.get(followed.id, key)?, snapshot.get(outbox.accepted, key)?);
            let (row, accepted) = (row.as_deref(), accepted.as_deref());
            add(&Found { key, step: Some(mark_of(mark)?), row, accepted })?;
            marks.advance()?;
        }
        return Ok(settled);
    }
    let mut sides = Sides::new(outbox, followed.id, snapshot, &scope.after)?;
    while let Some(key) = sides.key().filter(|key| **key <= *scope.through) {
        let step = sides.marks.of(&key).map(mark_of).transpose()?;
        add(&Found { key: &key, step, row: sides.rows.of(&key), accepted: sides.accepted.of(&key) })?;
        sides.pass(&key)?;
    }
    Ok(settled)
}

impl Found<'_> {
    /// What became of it where the other side has it as it is now; none where nothing is to be noted.
    fn applied(&self, outbox: &Outbox, followed: &Followed) -> Result<Option<Settled>> {
        let verdict = match self.row {
            Some(row) => {
                let fingerprint = followed.fingerprint(outbox, row);
                match self.accepted.is_some_and(|accepted| is_accepted(accepted, &fingerprint)) {
                    true => Verdict::Same,
                    false => Verdict::Accepted { fingerprint, key_row: followed.key_row(self.key, row)? },
                }
            }
            None => Verdict::Removed,
        };
        let is_news = self.step.is_some() || verdict != Verdict::Same;
        Ok(is_news.then(|| Settled { key: self.key.to_vec(), step: self.step, verdict }))
    }
}

impl Portion {
    /// What the other side keeps of this portion, in the same transaction as its rows, instead of what it kept of the one before:
    /// [`Reader::resume`] tells by it whether the portion is there. It takes the outcomes with which the transaction is committed.
    pub fn marker(&self, outcomes: &[Outcome]) -> Vec<u8> {
        let is_whole = outcomes.len() == self.items.len() && outcomes.iter().all(|outcome| *outcome == Outcome::Done);
        let (life, generation, sequence) = (self.life, self.generation, self.sequence);
        let rows = self.items.iter().filter(|item| item.row.is_some()).map(|item| &item.key[..]);
        let sent = Some(Sent::of(rows.clone().count(), rows));
        Marker { life, generation, sequence, is_whole, scope: self.scope.clone(), sent }.to_bytes()
    }
}

/// What the other side keeps of the last portion.
struct Marker {
    life: i64,
    generation: u64,
    sequence: u64,
    /// Whether all of it was done.
    is_whole: bool,
    scope: Scope,
    /// Keys of its rows; none in markers of before.
    sent: Option<Sent>,
}

const MARKER: u8 = 1;

impl Marker {
    fn to_bytes(&self) -> Vec<u8> {
        let Scope { pending, since, last, after, through, is_end, walk } = &self.scope;
        let flags = [MARKER, u8::from(self.is_whole), u8::from(*is_end), u8::from(walk.is_some())];
        let (number, keys) = walk.unwrap_or_default();
        let numbers = [self.life.cast_unsigned(), self.generation, self.sequence, *since, *last, number, keys]
            .map(u64::to_le_bytes);
        let mut bytes = Vec::new();
        let (pending, numbers) = (pending.0.to_le_bytes(), numbers.concat());
        let mut all: Vec<&[u8]> = vec![&flags, &pending, &numbers, after, through];
        all.extend(self.sent.as_ref().map(Sent::bytes));
        parts::join(&mut bytes, &all);
        bytes
    }

    /// None where it is none of ours.
    fn read(bytes: &[u8]) -> Option<Self> {
        let all = parts::split(bytes)?;
        let (&[flags, pending, numbers, after, through], sent) = all.split_first_chunk::<5>()?;
        let sent = match sent {
            [] => None,
            [sent] => Some(Sent::of_bytes(sent)),
            _ => return None,
        };
        let [MARKER, is_whole, is_end, walks] = *flags else { return None };
        let numbers: Vec<u64> = numbers.chunks(8).map(number).collect::<Option<_>>()?;
        let &[life, generation, sequence, since, last, walk, keys] = numbers.as_slice() else { return None };
        let scope = Scope {
            pending: id(pending)?,
            since,
            last,
            after: after.to_vec(),
            through: through.to_vec(),
            is_end: is_end == 1,
            walk: (walks == 1).then_some((walk, keys)),
        };
        Some(Self { life: life.cast_signed(), generation, sequence, is_whole: is_whole == 1, scope, sent })
    }
}
