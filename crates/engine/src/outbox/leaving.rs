//! What is to leave the other side, counted ahead of a delivery: for who asks a person before much of it goes.
//!
//! The law: no row of the other side goes but as one of so many as may go unasked, or because a person has let it go. Both are told by
//! what stands in the outbox, and not by when something is read:
//!
//! - *There* are the keys that are accepted, *leaving* those of them whose row is gone, as of the snapshot that a portion is of. So what was
//!   delivered before is counted as what it has become, however soon the next portion comes. Keys of portions whose answers were lost may
//!   be there as well ([`Unheard`]): those that are marked and gone are counted with them, but for no more than portions are large.
//! - *A person* is asked by a pause that says how many are to go, and as of which step ([`Leaving::pause`]). To resume lets these go,
//!   durably: as many deletes, of keys that were not marked later, of the walk that found them. Each that is done uses up one; what is
//!   left of it ends when all is delivered, and when another walk begins, which is over other rows.
//!   Where less of what was asked for is to go by then, as rows have come back, that less is what a person is asked for, and as of the
//!   step of before: what was marked behind it was never asked for. Where nothing of it is left, what is to go by now is another question,
//!   which says so, unless it may go unasked ([`Reader::recount`]).
//! - *Counted once.* All that is marked is looked at, or all that is accepted where all rows are walked through. So what was counted for
//!   one portion holds for those behind it: their deletes of no later step are among it. Later ones are added, as if none had gone, and
//!   only where that is too much it is counted anew.

use std::ops::Bound;

use relation::TableId;
use store::{Slice, Snapshot};

use super::facts::{Consent, Filled, Outbox, UNKNOWN, is_accepted, mark_of};
use super::read::{Item, LOOKED_AT_MAX, Portion, Reader};
use super::status::Outboxes;
use super::told::{Asked, Told};
use super::unheard::Unheard;
use crate::error::Result;

/// Keys that may be there without an answer, as many as are counted: of a portion there are no more, whichever they are.
const UNHEARD_MAX: u64 = LOOKED_AT_MAX as u64;

/// Rows of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// Those that are there, or may be.
    pub there: u64,
    /// Those of them that are to go.
    pub leaves: u64,
    /// Those of these that nobody has let go.
    pub unasked: u64,
    /// Those that are to go of which the other side has answered that they are there.
    known: u64,
    pending: TableId,
    walk: u64,
    step: u64,
    /// What a person is asked for.
    asked: Consent,
    /// What of it is to go still: those of which the other side has answered, and all that may be there.
    left: u64,
    left_in_all: u64,
}

impl Leaving {
    /// Pauses their outbox until a person lets them go, for a reason.
    pub fn pause(&self, reason: String) -> Told {
        Told::Pause { reason, asked: Some(self.all()) }
    }

    /// Whether nothing is left of what a person is asked for: they are others, which are another question.
    pub fn is_another(&self) -> bool {
        self.asked == Consent::default() || self.left_in_all == 0
    }

    /// Whether they are other rows than those that a person is asked for, or fewer.
    pub fn is_less(&self) -> bool {
        self.is_another() || self.left < self.asked.rows
    }

    /// How many rows a person is to be asked for by now: never those that are to go since, as long as any is left of those before.
    pub fn to_ask(&self) -> u64 {
        if self.is_another() { self.leaves } else { self.left_in_all }
    }

    /// As of which step these were counted.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Pauses their outbox for another reason than it was paused for.
    pub fn pause_anew(&self, was: String, reason: String) -> Told {
        let asked = match self.is_another() {
            true => self.all(),
            false => Asked { step: self.asked.step, rows: self.left.min(self.asked.rows), ..self.all() },
        };
        Told::Recount { was, now: Some((reason, asked)) }
    }

    /// Nobody has to let them go: their outbox goes on, if it is paused for this reason still.
    pub fn go_on(&self, was: String) -> Told {
        Told::Recount { was, now: None }
    }

    fn all(&self) -> Asked {
        let Self { known, pending, walk, step, .. } = *self;
        Asked { pending, walk, step, rows: known }
    }

    /// Whether an item of a portion of the same outbox and walk was counted, if it leaves.
    fn has(&self, item: &Item) -> bool {
        item.step.is_none_or(|step| step <= self.step)
    }
}

/// What was counted for a portion, and holds for those behind it.
#[derive(Debug)]
pub(super) struct Counted {
    leaving: Leaving,
    /// Deletes that were marked since, each time that they were handed out.
    later: u64,
}

impl Counted {
    /// Whether a portion may go by it. False: it is to be counted anew.
    fn lets_go(&mut self, portion: &Portion, allowed: &dyn Fn(u64) -> u64) -> bool {
        let Leaving { there, leaves, unasked, pending, walk, .. } = self.leaving;
        if (pending, walk) != portion.ground() {
            return false;
        }
        let later = portion.items.iter().filter(|item| item.leaves() && !self.leaving.has(item)).count() as u64;
        if later == 0 {
            return true;
        }
        self.later += later;
        // As if all others had gone.
        let there = there.saturating_sub(leaves).saturating_sub(self.later);
        unasked.saturating_add(self.later) <= allowed(there)
    }
}

impl Reader {
    /// Whether more is to go than may go at once without a person being asked: `allowed` of so many that are there. None: deliver the
    /// portion. Else it is not handed out; the engine is to take [`Leaving::pause`]. The snapshot is the one that it was read from.
    pub fn too_many(
        &mut self,
        snapshot: &Snapshot,
        portion: &Portion,
        allowed: &dyn Fn(u64) -> u64,
    ) -> Result<Option<Leaving>> {
        debug_assert_eq!(snapshot.step(), portion.step);
        if !portion.items.iter().any(Item::leaves) {
            return Ok(None);
        }
        if self.counted.as_mut().is_some_and(|counted| counted.lets_go(portion, allowed)) {
            return Ok(None);
        }
        self.counted = None;
        let Some(leaving) = self.outboxes().leaving_beside(snapshot, self.name(), &self.unheard)? else {
            return Ok(None);
        };
        if leaving.unasked <= allowed(leaving.there) {
            self.counted = Some(Counted { leaving, later: 0 });
            return Ok(None);
        }
        self.take_back();
        Ok(Some(leaving))
    }

    /// Whether a portion that was read ahead may go by what was counted before ([`Reader::hand_out`]). False: it is to be read anew.
    pub fn lets_go(&mut self, portion: &Portion, allowed: &dyn Fn(u64) -> u64) -> bool {
        let leaves = portion.items.iter().any(Item::leaves);
        !leaves || self.counted.as_mut().is_some_and(|counted| counted.lets_go(portion, allowed))
    }

    /// What is to go by now, of an outbox that waits for a person to let it go. None: as it was counted here last, or it follows nothing.
    pub fn recount(&mut self, snapshot: &Snapshot) -> Result<Option<Leaving>> {
        let Some(outbox) = Outbox::load(snapshot, self.facts, self.name())? else { return Ok(None) };
        // Every mark of it is a change of it.
        let ground = (outbox.pending, outbox.relation, outbox.at.last);
        if self.recounted == Some(ground) {
            return Ok(None);
        }
        let leaving = self.outboxes().leaving_beside(snapshot, self.name(), &self.unheard)?;
        self.recounted = Some(ground);
        Ok(leaving)
    }
}

impl Outboxes {
    /// Whether the other side has any row of an outbox, as far as it has answered.
    pub fn has_rows(self, snapshot: &Snapshot, name: &str) -> Result<bool> {
        Ok(Outbox::load(snapshot, self.facts, name)?.is_some_and(|outbox| outbox.at.there > 0))
    }

    /// What is there, and what of it is to go, as of a snapshot. Where all rows are walked through, all that is accepted is looked
    /// at: that takes as long as the walk does. None of an outbox that follows nothing, from which nothing leaves.
    pub fn leaving(self, snapshot: &Snapshot, name: &str) -> Result<Option<Leaving>> {
        self.leaving_beside(snapshot, name, &Unheard::Nothing)
    }

    /// The same where keys may be there of which no answer tells.
    fn leaving_beside(self, snapshot: &Snapshot, name: &str, unheard: &Unheard) -> Result<Option<Leaving>> {
        let Some(outbox) = Outbox::load(snapshot, self.facts, name)? else { return Ok(None) };
        let Some(relation) = outbox.relation else { return Ok(None) };
        let Marked { known, doubtful } = marked(&outbox, relation, snapshot, unheard)?;
        let Leaves { all, let_go, asked } = match outbox.at.filled {
            Filled::Whole => known,
            Filled::Through(_) => walked_through(&outbox, relation, snapshot)?,
        };
        let may_be_there = doubtful.all.min(UNHEARD_MAX);
        // Which of them are there nobody knows: who lets them go lets all of them go.
        let unasked = (doubtful.all - doubtful.let_go).min(UNHEARD_MAX);
        Ok(Some(Leaving {
            there: outbox.at.there.saturating_sub(unanswered(&outbox, relation, snapshot)?) + may_be_there,
            leaves: all + may_be_there,
            unasked: all - let_go.min(outbox.at.agreed.rows) + unasked,
            known: all,
            pending: outbox.pending,
            walk: outbox.at.walk,
            step: snapshot.step(),
            asked: outbox.at.asked,
            left: asked,
            left_in_all: asked + doubtful.asked.min(UNHEARD_MAX),
        }))
    }
}

/// Keys that leave.
#[derive(Debug, Default)]
struct Leaves {
    all: u64,
    /// Those that were to go when a person let go what was.
    let_go: u64,
    /// Those that were when a person was asked last.
    asked: u64,
}

impl Leaves {
    fn add(&mut self, outbox: &Outbox, step: Option<u64>) {
        let was_to_go = |of: &Consent| u64::from(step.is_none_or(|step| step <= of.step));
        self.all += 1;
        self.let_go += was_to_go(&outbox.at.agreed);
        self.asked += was_to_go(&outbox.at.asked);
    }
}

/// Marked keys that leave.
#[derive(Debug, Default)]
struct Marked {
    /// They are there.
    known: Leaves,
    /// They may be.
    doubtful: Leaves,
}

/// Of an outbox that is filled all that leave, by its marks; of one that is being filled those that may be there without an answer.
fn marked(outbox: &Outbox, relation: TableId, snapshot: &Snapshot, unheard: &Unheard) -> Result<Marked> {
    let mut found = Marked::default();
    if outbox.at.filled != Filled::Whole && *unheard == Unheard::Nothing {
        return Ok(found);
    }
    for entry in snapshot.scan(outbox.pending, &[]) {
        let (key, mark) = entry?;
        if snapshot.get(relation, &key)?.is_some() {
            continue;
        }
        let of = match snapshot.get(outbox.accepted, &key)?.is_some() {
            true => &mut found.known,
            false if unheard.has(&key) => &mut found.doubtful,
            false => continue,
        };
        of.add(outbox, Some(mark_of(&mark)?));
    }
    Ok(found)
}

/// Of one that is being filled, by all that is accepted.
fn walked_through(outbox: &Outbox, relation: TableId, snapshot: &Snapshot) -> Result<Leaves> {
    let mut found = Leaves::default();
    let mut rows = snapshot.range(relation, Bound::Unbounded, Bound::Unbounded);
    let mut row: Option<Slice> = rows.next().transpose()?.map(|(key, _)| key);
    for entry in snapshot.scan(outbox.accepted, &[]) {
        let (key, _) = entry?;
        while row.as_ref().is_some_and(|row| **row < *key) {
            row = rows.next().transpose()?.map(|(key, _)| key);
        }
        if row.as_ref().is_none_or(|row| **row != *key) {
            let mark = snapshot.get(outbox.pending, &key)?;
            found.add(outbox, mark.as_deref().map(mark_of).transpose()?);
        }
    }
    Ok(found)
}

/// Of a refused row that stays, another one may be there: nobody has said so.
fn unanswered(outbox: &Outbox, relation: TableId, snapshot: &Snapshot) -> Result<u64> {
    let mut found = 0;
    for entry in snapshot.scan(outbox.refused, &[]) {
        let (key, _) = entry?;
        let is_unheard = snapshot.get(outbox.accepted, &key)?.is_some_and(|accepted| is_accepted(&accepted, &UNKNOWN));
        found += u64::from(is_unheard && snapshot.get(relation, &key)?.is_some());
    }
    Ok(found)
}
