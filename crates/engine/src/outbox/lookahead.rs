//! Reading what comes behind a portion while that is on its way.
//!
//! ```text
//! Reader::read ─► portion n ─────────── delivered ─────────── settled, on disk ─► Reader::hand_out ─► portion n + 1
//!                    └─ Reader::lookahead ─► Lookahead::read ─► portion n + 1 ──────────┘
//! ```
//!
//! The law: what is handed out is what a read would have handed out when it was read ahead, with portion n settled. Portion n settles keys
//! up to its last one, and n + 1 begins behind it, so neither tells anything of the other's keys. What has changed in between bears a mark
//! that is newer than what n + 1 knows of, so that it comes again, and its row does not go back. Whatever else has become of the outbox (it is
//! paused, it follows another relation, another walk has begun, what was delivered was lost) makes what was read ahead worth nothing.
//!
//! One portion is out at a time all the same: what was read ahead is on its way nowhere before it is handed out.

use relation::TableId;
use store::Snapshot;

use super::facts::{Filled, Followed, Outbox};
use super::read::{Limits, Portion, Reader, Trust, marked, walk};
use super::unheard::Unheard;
use crate::error::Result;

/// What an outbox stands on: of another ground a portion tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ground {
    life: i64,
    pending: TableId,
    relation: TableId,
    /// The step of its set-up.
    since: u64,
    generation: u64,
    /// Number of the walk, and whether it is under way.
    walk: u64,
    is_filling: bool,
}

impl Ground {
    /// None: it follows nothing, or hands out nothing.
    fn of(outbox: &Outbox) -> Option<Self> {
        if outbox.paused().is_some() || outbox.is_moved {
            return None;
        }
        Some(Self {
            life: outbox.life,
            pending: outbox.pending,
            relation: outbox.relation?,
            since: outbox.since,
            generation: outbox.at.generation,
            walk: outbox.at.walk,
            is_filling: outbox.at.filled != Filled::Whole,
        })
    }

    fn of_portion(portion: &Portion) -> Self {
        Self {
            life: portion.life,
            pending: portion.scope.pending,
            relation: portion.followed.id,
            since: portion.scope.since,
            generation: portion.generation,
            walk: portion.walk,
            is_filling: portion.is_filling,
        }
    }
}

/// Reads what comes behind a portion that is out, beside the [`Reader`] that it is of.
#[derive(Debug)]
pub struct Lookahead {
    facts: TableId,
    name: String,
    ground: Ground,
    /// Number of the portion that is out, and its last key.
    sequence: u64,
    after: Vec<u8>,
    is_sure: bool,
    unheard: Unheard,
}

impl Lookahead {
    /// The portion behind the one that is out. None: there is nothing behind it that could be told now.
    pub fn read(&self, snapshot: &Snapshot, limits: Limits) -> Result<Option<Portion>> {
        let Some(outbox) = Outbox::load(snapshot, self.facts, &self.name)? else { return Ok(None) };
        // Before the portion is settled, or when it is.
        let is_next = outbox.at.sequence == self.sequence || outbox.at.sequence + 1 == self.sequence;
        if !is_next || Ground::of(&outbox) != Some(self.ground) {
            return Ok(None);
        }
        let Some(followed) = Followed::load(snapshot, &outbox)? else { return Ok(None) };
        let (after, trust) = (self.after.clone(), Trust { is_sure: self.is_sure, unheard: &self.unheard });
        let gather = if self.ground.is_filling { walk } else { marked };
        let gathered = gather(&outbox, &followed, snapshot, limits, after, trust)?;
        if gathered.items.is_empty() {
            return Ok(None);
        }
        Ok(Some(gathered.portion(&outbox, followed, snapshot, self.sequence + 1, trust)))
    }
}

impl Reader {
    /// What reads what comes behind a portion that was handed out. None: nothing does in this round or walk.
    pub fn lookahead(&self, portion: &Portion) -> Option<Lookahead> {
        (!portion.scope.is_end).then(|| Lookahead {
            facts: self.facts,
            name: self.name.clone(),
            ground: Ground::of_portion(portion),
            sequence: portion.sequence,
            after: portion.scope.through.clone(),
            is_sure: portion.is_sure,
            unheard: portion.unheard.clone(),
        })
    }

    /// Hands out a portion that was read ahead, when the one before it is settled. None: it is worth nothing by now, and
    /// [`Reader::read`] tells what comes next.
    pub fn hand_out(&mut self, snapshot: &Snapshot, portion: Portion) -> Result<Option<Portion>> {
        if snapshot.step() < self.seen || self.out != Unheard::Nothing {
            return Ok(None);
        }
        let Some(outbox) = Outbox::load(snapshot, self.facts, self.name())? else { return Ok(None) };
        let is_behind = match &outbox.at.filled {
            Filled::Through(after) => *after == portion.scope.after,
            Filled::Whole => self.after.as_ref() == Some(&portion.scope.after),
        };
        let is_settled = self.awaited.is_none_or(|sequence| outbox.at.sequence >= sequence);
        let is_next = is_behind && is_settled && outbox.at.sequence + 1 == portion.sequence;
        let is_known = self.known == Some((outbox.pending, outbox.at.generation));
        let is_trusted = (self.is_sure, &self.unheard) == (portion.is_sure, &portion.unheard);
        if !is_next || !is_known || !is_trusted || Ground::of(&outbox) != Some(Ground::of_portion(&portion)) {
            return Ok(None);
        }
        (self.seen, self.awaited) = (snapshot.step(), None);
        self.out = portion.scope.keys();
        Ok(Some(portion))
    }
}
