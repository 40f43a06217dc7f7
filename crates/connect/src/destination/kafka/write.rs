//! A session: it takes a sync over, and sends portions and their marks.

use std::collections::BTreeMap;

use rdkafka::message::{Header, OwnedHeaders};
use tokio::runtime::Handle;

use crate::destination::kind::token;
use crate::destination::{Begun, Down, MARKERS, Outcome, Portion, Refusal, Target};
use crate::kafka::{Config, Trouble};
use crate::registry::{self, Registry};
use crate::source::now_us;

use super::Wanted;
use super::avro::{Ids, Schemas};
use super::form::{Form, Messages};
use super::markers::{Marker, Markers};
use super::producer::{Producer, Reports, Sent, is_too_large, taken_over, wrapped};
use super::topics::{Facts, Topics};

/// So many rows refused alike, and none taken, are a mistake of the settings and none of rows.
const ALIKE_MAX: usize = 100;
/// How often a portion is sent anew without rows that the broker has refused.
const ROUNDS_MAX: u32 = 20;

/// A producer that has taken a sync over.
pub(super) struct Session {
    producer: Producer,
    /// Reads who else delivers.
    markers: Markers,
    /// The rows of a portion and its mark are one transaction, by which the broker tells who delivers.
    is_exact: bool,
    /// The last mark that was left.
    marker: Marker,
    /// The offset of that mark.
    at: Option<i64>,
    facts: Facts,
    /// Of the schemas of its messages, where they have some.
    ids: Ids,
    sync: String,
}

/// Connects, sees to the topic, and takes the sync over. It blocks. The session is left in its place as soon as it may have sent
/// something, also where it does not come further.
pub(super) fn begin(
    config: &Config,
    target: &Target,
    (form, registry): (&Form, Option<&Registry>),
    rows: u64,
    place: &mut Option<Session>,
    wanted: &Wanted,
) -> Result<Begun, Trouble> {
    let sync = target.sync.as_str();
    let mut markers = Markers::open(config, sync)?;
    let found = markers.reach(config, &form.topic)?;
    let topics = Topics::open(config)?;
    let is_new = found.is_none();
    let partitions = match (found, form.made) {
        (Some(partitions), _) => partitions,
        // What is told by keys is kept by keys.
        (None, Some(made)) => topics.make(&form.topic, made, &[("cleanup.policy", "compact")])?,
        (None, None) => return Err(no_topic(&form.topic)),
    };
    topics.make_markers(form.made)?;
    wanted.or_ended()?;
    let ids = match (&form.avro, registry) {
        (Some(schemas), Some(registry)) => registered(registry, &form.topic, schemas)?,
        (Some(_), None) => return Err(no_registry()),
        (None, _) => Ids::default(),
    };
    wanted.or_ended()?;
    let facts = topics.facts(&form.topic);
    let producer = Producer::open(config, sync, form.is_exact, &facts)?;
    producer.fence(config, sync, wanted)?;
    markers.read_to(config, topics.end(MARKERS, super::markers::PARTITION)?, wanted)?;
    let before = markers.last.clone().unwrap_or_default();
    let ends = topics.ends(&form.topic, partitions)?;
    // With another topic it is another target, which who has sent the portion finds in the seal.
    let is_known = before.seal.is_some() && before.topic == form.topic;
    let lost = if is_known { lost(&before, &ends, is_new, rows) } else { None };
    let begun = Begun { marker: if lost.is_some() { None } else { before.seal.clone() }, lost };
    let ends = if is_known && begun.lost.is_none() { before.ends } else { BTreeMap::new() };
    let (session, topic) = (token(), form.topic.clone());
    let marker = Marker { seal: begun.marker.clone(), session, topic, partitions, ends };
    let (is_exact, sync_name) = (form.is_exact, sync.to_owned());
    let session = place.insert(Session { producer, markers, is_exact, marker, at: None, facts, ids, sync: sync_name });
    // Whoever delivered before finds it in front of its next portion; and what has gone is not known any more.
    if !form.is_exact || begun.lost.is_some() {
        session.producer.begin(config, sync)?;
        session.leave_mark(config, wanted)?;
    }
    Ok(begun)
}

/// Why the topic has not what it had: its offsets never go back, whatever it lets go of.
fn lost(before: &Marker, ends: &[i64], is_new: bool, rows: u64) -> Option<String> {
    let end_of = |partition: &i32| usize::try_from(*partition).ok().and_then(|at| ends.get(at)).copied();
    let is_behind = |(partition, end): (&i32, &i64)| end_of(partition).is_none_or(|now| now < *end);
    if (is_new && rows > 0) || before.ends.iter().any(is_behind) {
        return Some("its topic was made anew, or has lost messages".to_owned());
    }
    // Each key has another partition then.
    (before.partitions != ends.len() && before.partitions > 0)
        .then(|| format!("its topic has {} partitions, and had {}", ends.len(), before.partitions))
}

/// The numbers of a topic's schemas, which are registered where they are not known.
fn registered(registry: &Registry, topic: &str, schemas: &Schemas) -> Result<Ids, Trouble> {
    let id_of = |what: &str, schema: &str| {
        let subject = format!("{topic}-{what}");
        Handle::current()
            .block_on(registry.id_of(&subject, schema))
            .map_err(|registry::Trouble { failure, is_ours }| Trouble { failure, is_ours, code: None })
    };
    Ok(Ids { key: id_of("key", &schemas.key)?, value: id_of("value", &schemas.value)? })
}

pub(super) fn no_registry() -> Trouble {
    let hint = "Write `schema_registry: 'http://…'` at the destination's connection in connections.yml.";
    Trouble::ours("`format: avro` needs a schema registry", "Messages of Avro name their schemas by numbers.", hint)
}

pub(super) fn no_topic(topic: &str) -> Trouble {
    Trouble::ours(
        format!("there is no topic \"{topic}\""),
        "",
        "Make it, or have it made: `create: true` in `to`, with `partitions` and `replication`.",
    )
}

/// What a portion is sent by.
pub(super) struct Sending<'a> {
    pub(super) config: &'a Config,
    pub(super) target: &'a Target,
    pub(super) form: &'a Form,
    pub(super) portion: &'a Portion,
    pub(super) wanted: &'a Wanted,
}

/// What has become of a portion's rows so far.
struct Fates {
    /// What is known of a row that is not sent: it has no message, or never was there.
    known: BTreeMap<usize, Outcome>,
    /// Rows whose messages are too large.
    refused: BTreeMap<usize, Refusal>,
}

impl Fates {
    fn is_sent(&self, item: usize) -> bool {
        !self.known.contains_key(&item) && !self.refused.contains_key(&item)
    }

    /// Errors: none of many rows is taken, for one reason.
    fn refuse_alike(&self, portion: &Portion) -> Result<(), Trouble> {
        let Some(first) = self.refused.values().next() else { return Ok(()) };
        let items = portion.len() - self.known.len();
        match self.refused.len() == items && items >= ALIKE_MAX {
            true => {
                let Down { failure, is_ours, .. } = Down::all_refused(&first.code, &first.reason);
                Err(Trouble { failure, is_ours, code: None })
            }
            false => Ok(()),
        }
    }

    fn outcomes(mut self, portion: &Portion) -> Vec<Outcome> {
        let outcome = |at: usize| match (self.refused.remove(&at), self.known.remove(&at)) {
            (Some(refusal), _) => Outcome::Refused(refusal),
            (None, Some(known)) => known,
            (None, None) => portion.taken(at),
        };
        (0..portion.len()).map(outcome).collect()
    }
}

impl Session {
    /// Sends the messages of a portion, and answers what becomes of each row: what is not refused is there, or will be with the mark. It
    /// blocks. Errors: nothing of it counts.
    pub(super) fn send(&mut self, of: &Sending<'_>) -> Result<Vec<Outcome>, Trouble> {
        let Sending { config, form, portion, wanted, .. } = *of;
        if !self.is_exact {
            self.look_for_others(config, wanted)?;
        }
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: "tidemill.sync", value: Some(&self.sync) })
            .insert(Header { key: "tidemill.step", value: Some(&portion.step().to_string()) });
        self.producer.set_headers(headers);
        let now_ms = now_us() / 1_000;
        let mut fates = Fates { known: BTreeMap::new(), refused: BTreeMap::new() };
        for _ in 0..ROUNDS_MAX {
            self.producer.begin(config, &self.sync)?;
            let sent = self.send_all(of, now_ms, &mut fates).and_then(|reports| {
                fates.refuse_alike(portion)?;
                Ok(reports)
            });
            let Reports { failed, ends, .. } = self.or_abort(sent, wanted)?;
            let (large, other): (Vec<_>, Vec<_>) = failed.into_iter().partition(|(_, code)| is_too_large(*code));
            // In a transaction, what is said of others may follow from one that is too large.
            if let Some((_, code)) = other.first()
                && (large.is_empty() || !self.is_exact)
            {
                let trouble = self.producer.trouble_of(config, &self.sync, &form.topic, *code);
                self.producer.abort(wanted);
                return Err(trouble);
            }
            for (item, _) in &large {
                fates.refused.insert(*item, too_large("the topic takes no message of its size"));
            }
            self.or_abort(fates.refuse_alike(portion), wanted)?;
            if large.is_empty() || !self.is_exact {
                for (partition, end) in ends {
                    let known = self.marker.ends.entry(partition).or_default();
                    *known = end.max(*known);
                }
                return Ok(fates.outcomes(portion));
            }
            if !self.producer.abort(wanted) {
                return Err(Trouble::passing("a transaction could not be taken back", "It is sent anew."));
            }
        }
        Err(Trouble::ours(
            format!("the topic \"{}\" refuses message after message for their size", form.topic),
            "",
            "Have it take larger ones (`max.message.bytes`), and let us know how large: DESCRIBE_CONFIGS on the topic.",
        ))
    }

    /// Takes back what was sent of a portion where that has failed.
    fn or_abort<T>(&self, done: Result<T, Trouble>, wanted: &Wanted) -> Result<T, Trouble> {
        if done.is_err() {
            self.producer.abort(wanted);
        }
        done
    }

    /// Waits until it is known what has become of all that it has sent. Errors: it is not.
    pub(super) fn settle(&self, config: &Config, wanted: &Wanted) -> Result<(), Trouble> {
        let settled = self.producer.settle(config, wanted);
        settled.map_err(|trouble| Trouble { failure: trouble.failure.and(UNSETTLED), ..trouble })
    }

    /// Writes and sends the messages of all rows of which nothing is known yet, one row after the other, and waits until it is known what
    /// has become of each. While the client packs and sends what it has, the next ones are written.
    fn send_all(&self, of: &Sending<'_>, now_ms: i64, fates: &mut Fates) -> Result<Reports, Trouble> {
        let Sending { config, form, portion, wanted, .. } = *of;
        let (mut messages, mut last) = (Messages::default(), None);
        'all: for item in 0..portion.len() {
            if !fates.is_sent(item) || !self.write(of, item, now_ms, fates, &mut messages) {
                continue;
            }
            for (key, value) in messages.iter() {
                match self.producer.send(config, &form.topic, item, key, value, wanted) {
                    Ok(()) => {}
                    Err(Sent::Unwanted(trouble)) => return Err(trouble),
                    // What went before may say more.
                    Err(Sent::Refused(code)) => {
                        last = Some((item, code));
                        break 'all;
                    }
                }
            }
        }
        let mut reports = self.producer.reports(config, wanted)?;
        reports.failed.extend(last);
        Ok(reports)
    }

    /// Writes the messages of a row. False: it is not to be sent, and its fate says why.
    fn write(&self, of: &Sending<'_>, item: usize, now_ms: i64, fates: &mut Fates, messages: &mut Messages) -> bool {
        let (mapping, portion) = (&of.target.mapping, of.portion);
        let row = portion.get(item);
        let known = match (mapping.null_key(row), portion.taken(item)) {
            // It was never taken, so nothing is there.
            (Some(_), Outcome::Removed) => Some(Outcome::Removed),
            (Some(column), _) => {
                let reason = format!("`{column}`, by which it would be found, is NULL");
                Some(Outcome::Refused(Refusal::new("null_key", reason)))
            }
            (None, _) => of.form.write(mapping, row, now_ms, self.ids, messages).err().map(Outcome::Refused),
        };
        if let Some(known) = known {
            fates.known.insert(item, known);
            return false;
        }
        let room = self.facts.room();
        let largest = messages.iter().map(|(key, value)| wrapped(key, value, &self.sync)).max().unwrap_or_default();
        if largest > room {
            let reason = format!("a message of {largest} bytes is larger than what its topic takes ({room} bytes)");
            fates.refused.insert(item, too_large(reason));
        }
        largest <= room
    }

    /// Writes a portion's mark, and ends its transaction. It blocks. Errors: what of it is there is read by the next session.
    pub(super) fn seal(&mut self, config: &Config, seal: Vec<u8>, wanted: &Wanted) -> Result<(), Trouble> {
        self.marker.seal = Some(seal);
        self.leave_mark(config, wanted)
    }

    fn leave_mark(&mut self, config: &Config, wanted: &Wanted) -> Result<(), Trouble> {
        let sync = self.sync.as_str();
        let reports = match self.producer.send_marker(sync, &self.marker) {
            Ok(()) => self.producer.reports(config, wanted)?,
            Err(error) => {
                Reports { failed: vec![(0, crate::kafka::code_of(&error).unwrap_or(FAILED))], ..Reports::default() }
            }
        };
        if let Some((_, code)) = reports.failed.first() {
            let trouble = self.producer.trouble_of(config, sync, MARKERS, *code);
            self.producer.abort(wanted);
            return Err(trouble);
        }
        self.producer.commit(config, sync, wanted)?;
        self.at = reports.marker;
        Ok(())
    }

    /// Another session may have left its token. Between this look and what is written behind it, one still may.
    pub(super) fn look_for_others(&mut self, config: &Config, wanted: &Wanted) -> Result<(), Trouble> {
        self.markers.last = None;
        self.markers.read_on(config, self.at, wanted)?;
        match &self.markers.last {
            Some(last) if last.session != self.marker.session => Err(taken_over(&self.sync)),
            _ => Ok(()),
        }
    }
}

const UNSETTLED: &str = "What was sent last is waited for: it must not come behind what is sent next.";

const FAILED: rdkafka::error::RDKafkaErrorCode = rdkafka::error::RDKafkaErrorCode::Fail;

fn too_large(reason: impl Into<String>) -> Refusal {
    Refusal::new("too_large", reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(partitions: usize, ends: &[(i32, i64)]) -> Marker {
        Marker { partitions, ends: ends.iter().copied().collect(), ..Marker::default() }
    }

    #[test]
    fn a_topic_whose_offsets_went_back_has_lost_what_it_had() {
        let before = marker(2, &[(1, 10)]);
        assert_eq!(lost(&before, &[0, 10], false, 5), None);
        assert_eq!(lost(&before, &[7, 99], false, 5), None);
        let anew = Some("its topic was made anew, or has lost messages".to_owned());
        assert_eq!(lost(&before, &[0, 9], false, 5), anew);
        assert_eq!(lost(&before, &[10], false, 5), anew);
        assert_eq!(lost(&marker(2, &[]), &[0, 0], true, 1), anew);
        assert_eq!(lost(&marker(2, &[]), &[0, 0], true, 0), None);
    }

    #[test]
    fn with_other_partitions_keys_are_elsewhere() {
        let before = marker(2, &[(1, 10)]);
        assert_eq!(lost(&before, &[0, 10, 0], false, 5).as_deref(), Some("its topic has 3 partitions, and had 2"));
        assert_eq!(lost(&marker(0, &[]), &[0], false, 5), None);
    }
}
