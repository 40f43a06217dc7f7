//! What is read of topics: lanes of tables, how far each is, and whether its topic leads on from there.
//!
//! ```text
//!              begins at the topic's beginning (or end), to be loaded up to the end of then
//!   pending ──────────────► loading ──────► followed        lanes of one topic that have read the same messages are one
//!                              │                │
//!                              └──── broken ◄───┘           its topic is gone, was emptied or made anew, or has dropped what is next
//! ```
//!
//! A broken lane is not read, and says why. Nothing begins it anew but a person. One whose topic only was away goes on by itself.
//! All of this is a function of what is known of the topics ([`Survey`]) and of the messages that come.

use std::collections::{BTreeMap, BTreeSet};

use relation::TableId;
use serde_json::json;

use super::message::Message;
use super::position::{At, Kept};
use crate::source::Failure;

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// The offset of the first message that is kept.
    pub(super) low: i64,
    /// The offset behind the last one that may be read: no transaction that is open has begun before it.
    pub(super) high: i64,
}

/// What there is of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topic {
    Missing,
    /// We may not see it, for this reason.
    Denied(Failure),
    /// Its partitions; none of which nobody answers just now.
    There(BTreeMap<i32, Option<Ends>>),
}

/// What there is of topics.
pub(super) type Survey = BTreeMap<String, Topic>;

/// A lane at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) kept: Kept,
    /// Up to where it is loaded; none: it is followed.
    pub(super) to: Option<BTreeMap<i32, i64>>,
    /// Partitions whose last message has not been seen again.
    unproven: BTreeSet<i32>,
    /// Where partitions began and ended when it was looked last: neither goes back.
    seen: BTreeMap<i32, Ends>,
    /// Its reader could not read something, and does not say where: what it brings behind a gap may be behind that.
    is_torn: bool,
    pub(super) broken: Option<Broken>,
}

/// Why a lane does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// The topic was made anew: what it looks like later does not heal that.
    is_for_good: bool,
}

/// A table that is to be loaded from the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) table: TableId,
    pub(super) topic: String,
    /// From its topic's end on, where it is read for the first time and that is wanted.
    pub(super) from_end: bool,
}

/// What a lane wants of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    It,
    /// It has seen it, or is not to see it.
    Nothing,
}

impl Lane {
    /// One that goes on from where it was left.
    pub(super) fn resumed(kept: Kept, to: Option<BTreeMap<i32, i64>>) -> Self {
        let unproven = kept.at.iter().filter(|(_, at)| at.last.is_some()).map(|(partition, _)| *partition).collect();
        Self { kept, to, unproven, seen: BTreeMap::new(), is_torn: false, broken: None }
    }

    /// One that begins. None where not all of the topic's partitions answer.
    pub(super) fn begun(
        topic: &str,
        tables: Vec<TableId>,
        there: &BTreeMap<i32, Option<Ends>>,
        from_end: bool,
    ) -> Option<Self> {
        let ends: BTreeMap<i32, Ends> = there.iter().map(|(p, ends)| Some((*p, (*ends)?))).collect::<Option<_>>()?;
        let from = |ends: &Ends| At { next: if from_end { ends.high } else { ends.low }, last: None };
        let kept =
            Kept { topic: topic.to_owned(), tables, at: ends.iter().map(|(p, ends)| (*p, from(ends))).collect() };
        let to = ends.iter().map(|(p, ends)| (*p, ends.high)).collect();
        Some(Self { kept, to: Some(to), unproven: BTreeSet::new(), seen: ends, is_torn: false, broken: None })
    }

    /// One of which nobody knows how far it was read.
    pub(super) fn lost(topic: &str, table: TableId) -> Self {
        let kept = Kept { topic: topic.to_owned(), tables: vec![table], at: BTreeMap::new() };
        let failure = does_not_lead_on(topic, "It is not known up to where it was read.".to_owned());
        let broken = Some(Broken { failure, is_for_good: true });
        Self { kept, to: None, unproven: BTreeSet::new(), seen: BTreeMap::new(), is_torn: false, broken }
    }

    pub(super) fn is_loading(&self) -> bool {
        self.to.is_some()
    }

    /// Whether all is there up to where it is loaded.
    pub(super) fn is_loaded(&self) -> bool {
        let is_there = |(partition, to): (&i32, &i64)| self.kept.at.get(partition).is_some_and(|at| at.next >= *to);
        self.broken.is_none() && self.to.as_ref().is_some_and(|to| to.iter().all(is_there))
    }

    /// Messages up to where it is loaded, about.
    pub(super) fn messages_to_load(&self) -> u64 {
        let of = |(partition, to): (&i32, &i64)| to - self.kept.at.get(partition).map_or(0, |at| at.next);
        let sum: i64 = self.to.iter().flatten().map(of).sum();
        u64::try_from(sum).unwrap_or(0)
    }

    /// What the load is known by when it is gone on with.
    pub(super) fn cursor(&self) -> Vec<u8> {
        let to: serde_json::Map<String, serde_json::Value> =
            self.to.iter().flatten().map(|(partition, to)| (partition.to_string(), json!(to))).collect();
        serde_json::Value::Object(to).to_string().into_bytes()
    }

    /// The offset from which a partition is to be read: its last message is seen again, where it is kept.
    pub(super) fn from(&self, partition: i32) -> Option<i64> {
        let at = self.kept.at.get(&partition)?;
        match at.last.filter(|_| self.unproven.contains(&partition)) {
            Some((last, _)) => Some(last),
            None => Some(at.next),
        }
    }

    /// Compares it with what there is of its topic. Answers whether it is to be read otherwise from now on.
    pub(super) fn look(&mut self, topic: &Topic) -> bool {
        if self.broken.as_ref().is_some_and(|broken| broken.is_for_good) {
            return false;
        }
        let was_broken = self.broken.is_some();
        let partitions = self.kept.at.len();
        let proofs = self.unproven.len();
        self.broken = self.compared(topic).err();
        if matches!(topic, Topic::Missing | Topic::Denied(_)) {
            self.doubt();
        }
        was_broken != self.broken.is_some() || self.kept.at.len() != partitions || self.unproven.len() < proofs
    }

    fn compared(&mut self, topic: &Topic) -> Result<(), Broken> {
        let name = self.kept.topic.clone();
        let for_now = |failure: Failure| Broken { failure, is_for_good: false };
        let leads_nowhere = |detail: String| for_now(does_not_lead_on(&name, detail));
        let there = match topic {
            Topic::Missing => return Err(for_now(missing(&name))),
            Topic::Denied(failure) => return Err(for_now(failure.clone())),
            Topic::There(there) => there,
        };
        for (partition, at) in &self.kept.at {
            let Some(ends) = there.get(partition) else {
                let detail =
                    format!("It has {} partitions, and partition {partition} was read: it was made anew.", there.len());
                return Err(leads_nowhere(detail));
            };
            let Some(Ends { low, high }) = *ends else { continue };
            let before = self.seen.insert(*partition, Ends { low, high });
            if high < at.next {
                let detail = format!(
                    "Partition {partition} ends at offset {high}, and was read up to {}: it was emptied or made anew.",
                    at.next
                );
                return Err(leads_nowhere(detail));
            }
            if low > at.next {
                let detail = format!(
                    "Partition {partition} begins at offset {low}, and was read up to {}: {} messages were deleted before they were \
                     read.",
                    at.next,
                    low - at.next
                );
                return Err(leads_nowhere(detail));
            }
            if let Some(before) = before.filter(|before| low < before.low || high < before.high) {
                let detail = format!(
                    "Partition {partition} has offsets from {low} to {high}, and had those from {} to {}: it was made anew.",
                    before.low, before.high
                );
                return Err(Broken { failure: does_not_lead_on(&name, detail), is_for_good: true });
            }
            // What was read last is not kept any more: there is nothing to know it again by.
            if at.last.is_some_and(|(last, _)| last < low) {
                self.unproven.remove(partition);
            }
        }
        for (partition, ends) in there {
            if let Some(ends) = ends {
                // A new one is read from its beginning.
                self.kept.at.entry(*partition).or_insert(At { next: ends.low, last: None });
            }
        }
        Ok(())
    }

    /// What comes of its topic may be of another one by now: the last messages are seen again before anything else.
    pub(super) fn doubt(&mut self) {
        self.unproven =
            self.kept.at.iter().filter(|(_, at)| at.last.is_some()).map(|(partition, _)| *partition).collect();
    }

    /// Its reader could not read something. Until it is read anew, only what follows on without a gap is taken: a topic that keeps the
    /// newest message of a key alone has gaps, and they look the same.
    pub(super) fn tear(&mut self) {
        self.is_torn = true;
    }

    /// It is read anew.
    pub(super) fn mend(&mut self) {
        self.is_torn = false;
    }

    /// A message has come of its topic; `sum` is over it. Answers whether it is taken, and moves behind it.
    pub(super) fn take(&mut self, message: &Message<'_>, sum: u32) -> Wants {
        let Some(at) = self.kept.at.get_mut(&message.partition) else { return Wants::Nothing };
        if self.broken.is_some() || (self.is_torn && message.offset > at.next) {
            return Wants::Nothing;
        }
        let is_unproven = self.unproven.contains(&message.partition);
        if let (true, Some((last, known))) = (is_unproven, at.last)
            && message.offset >= last
        {
            self.unproven.remove(&message.partition);
            // Where it has gone, the topic keeps the newest message of a key alone, and a newer one has come.
            if message.offset == last && sum != known {
                let detail = format!("The message {message} is another one than was read there: it was made anew.");
                let failure = does_not_lead_on(message.topic, detail);
                self.broken = Some(Broken { failure, is_for_good: true });
                return Wants::Nothing;
            }
        }
        if message.offset < at.next {
            return Wants::Nothing;
        }
        *at = At { next: message.offset + 1, last: Some((message.offset, sum)) };
        Wants::It
    }

    /// The client stands here: what is between was no message of ours, but marks of transactions, what was aborted, and what is not kept
    /// any more.
    pub(super) fn pass(&mut self, partition: i32, offset: i64) -> bool {
        match self.kept.at.get_mut(&partition).filter(|at| at.next < offset) {
            Some(at) if self.broken.is_none() && !self.is_torn => {
                at.next = offset;
                true
            }
            _ => false,
        }
    }
}

fn missing(topic: &str) -> Failure {
    Failure {
        message: format!("there is no topic \"{topic}\""),
        detail: "It is looked for by itself.".to_owned(),
        hint: "Check `topic` in the table's `meta`, and that the topic was made.".to_owned(),
    }
}

fn does_not_lead_on(topic: &str, detail: String) -> Failure {
    Failure {
        message: format!("topic \"{topic}\" does not lead on from where it was read"),
        detail,
        hint: "`tidemill resnapshot TABLE` reads a table of it anew from the topic's earliest message; rows that it does not bring go."
            .to_owned(),
    }
}

/// Lanes that have read the same messages of a topic become one.
pub(super) fn merge(lanes: &mut Vec<Lane>) {
    let mut merged: Vec<Lane> = Vec::with_capacity(lanes.len());
    for lane in lanes.drain(..) {
        match merged.iter_mut().find(|known| known.is_beside(&lane)) {
            Some(known) => known.join(lane),
            None => merged.push(lane),
        }
    }
    *lanes = merged;
}

impl Lane {
    /// Whether another one is at the same messages. Which one of them was the last to be seen, those need not know that began there.
    fn is_beside(&self, other: &Self) -> bool {
        let next = |lane: &Self| lane.kept.at.iter().map(|(partition, at)| (*partition, at.next)).collect::<Vec<_>>();
        self.kept.topic == other.kept.topic
            && (&self.to, &self.broken) == (&other.to, &other.broken)
            && next(self) == next(other)
    }

    fn join(&mut self, other: Self) {
        self.kept.tables.extend(other.kept.tables);
        self.unproven.extend(other.unproven);
        for (partition, ends) in other.seen {
            let seen = self.seen.entry(partition).or_insert(ends);
            *seen = Ends { low: seen.low.max(ends.low), high: seen.high.max(ends.high) };
        }
        for (partition, at) in other.kept.at {
            if let Some(known) = self.kept.at.get_mut(&partition) {
                known.last = known.last.max(at.last);
            }
        }
    }
}

/// The sum by which a message is known again.
pub(super) fn sum_of(message: &Message<'_>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&message.at_us.unwrap_or(-1).to_le_bytes());
    for part in [message.key, message.value] {
        let length = part.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        hasher.update(&length.to_le_bytes());
        hasher.update(part.unwrap_or_default());
    }
    hasher.finalize()
}

/// Up to where a load goes, of its cursor.
pub(super) fn targets(cursor: &[u8]) -> Option<BTreeMap<i32, i64>> {
    let json: serde_json::Value = serde_json::from_slice(cursor).ok()?;
    json.as_object()?.iter().map(|(partition, to)| Some((partition.parse().ok()?, to.as_i64()?))).collect()
}

/// Why lanes do not go on, as one reason; none where all do.
pub(super) fn stall_of(lanes: &[Lane]) -> Option<Failure> {
    let mut broken: Vec<&Failure> = Vec::new();
    for failure in lanes.iter().filter_map(|lane| Some(&lane.broken.as_ref()?.failure)) {
        if !broken.contains(&failure) {
            broken.push(failure);
        }
    }
    let (first, others) = broken.split_first()?;
    let mut told = (*first).clone();
    for other in others {
        told = told.and(&format!("And {}: {}", other.message, other.detail));
    }
    Some(told.and("Other topics are read on."))
}
