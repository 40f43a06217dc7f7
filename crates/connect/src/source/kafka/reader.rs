//! Readers: a client, what it reads, and what it could not read.
//!
//! A client that cannot read something says so once, without the place, and goes on behind it. So it is taken for what it is: what
//! follows with a gap is not taken any more, and another client reads all of it anew. What that one cannot read either is said, until
//! the brokers have answered for everything without a complaint.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};
use relation::TableId;

use super::ask::{Asker, reader};
use super::ear::Ear;
use super::lanes::{Lane, Survey, Topic};
use crate::kafka::{Config, Trouble, trouble};
use crate::source::Failure;

/// Topics that are named where something is wrong with one of them.
const TOPICS_SHOWN_MAX: usize = 5;
const UNREAD_HINT: &str = "See what the log of the brokers says.";

/// Which tables a reader reads: those that are followed, or those that are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Followed,
    Loading,
}

/// Which reader reads for a lane.
pub(super) fn of_lane(lane: &Lane) -> Of {
    if lane.is_loading() { Of::Loading } else { Of::Followed }
}

/// For which tables something is read, and what of their topics.
pub(super) type Reads = (BTreeSet<TableId>, BTreeSet<(String, i32)>);

/// A client and what it reads. What is read otherwise is read by a new one, which knows nothing of where the other one stood.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) client: Option<Arc<StreamConsumer<Ear>>>,
    /// For which tables, and what of their topics.
    pub(super) reads: Reads,
    pub(super) complaint: Option<Complaint>,
}

/// What a reader could not read, until it is known that all is read.
pub(super) struct Complaint {
    pub(super) failure: Failure,
    /// It was said by a client before this one.
    pub(super) is_before: bool,
    /// One client after the other has said it.
    pub(super) is_lasting: bool,
}

impl Reader {
    /// Something could not be read; it is tried again so often.
    pub(super) fn complain(&mut self, config: &Config, again: Duration, error: &KafkaError) {
        let topics: BTreeSet<&str> = self.reads.1.iter().map(|(topic, _)| topic.as_str()).collect();
        let failure = unread(config, self.client.as_deref(), &topics, again, error);
        let is_lasting = self.complaint.as_ref().is_some_and(|known| known.is_before || known.is_lasting);
        self.complaint = Some(Complaint { failure, is_before: false, is_lasting });
    }

    /// Whether what could not be read is read by now: brokers have answered for all that is read, and there was no complaint.
    pub(super) fn is_heard(&self) -> bool {
        let Some(client) =
            self.client.as_ref().filter(|_| self.complaint.as_ref().is_some_and(|known| known.is_before))
        else {
            return false;
        };
        let fetched = client.context().fetched();
        // A report may be of the moment in which a complaint is on its way.
        fetched.quiet >= 2 && self.reads.1.iter().all(|place| fetched.next.contains_key(place))
    }

    /// Gives place to another client that reads otherwise, or anew.
    pub(super) fn renewed(&mut self, client: Option<Arc<StreamConsumer<Ear>>>, reads: Reads) -> Self {
        let complaint = self.complaint.take().filter(|_| client.is_some());
        let complaint = complaint.map(|known| Complaint { is_before: true, ..known });
        std::mem::replace(self, Self { client, reads, complaint })
    }
}

/// Partitions that are read, and for which nobody answers: others are read on, and their readers say nothing of it.
#[derive(Debug, Default)]
pub(super) struct Silent {
    /// Topics and partitions, in their order.
    places: BTreeSet<(String, i32)>,
    /// At so many looks in a row there were some.
    looks: u32,
}

impl Silent {
    /// Compares what is read with what there is.
    pub(super) fn note(&mut self, lanes: &[Lane], survey: &Survey) {
        let is_silent = |lane: &Lane, partition: &i32| match survey.get(&lane.kept.topic) {
            Some(Topic::There(there)) => matches!(there.get(partition), Some(None)),
            _ => false,
        };
        self.places.clear();
        for lane in lanes.iter().filter(|lane| lane.broken.is_none()) {
            let partitions = lane.kept.at.keys().filter(|partition| is_silent(lane, partition));
            self.places.extend(partitions.map(|partition| (lane.kept.topic.clone(), *partition)));
        }
        self.looks = if self.places.is_empty() { 0 } else { self.looks.saturating_add(1) };
    }

    /// Whether there are some since the last look: a leader that is chosen just now is there at the next one.
    pub(super) fn is_new(&self) -> bool {
        self.looks == 1
    }

    /// What is to be said of them, if anything.
    pub(super) fn failure(&self) -> Option<Failure> {
        let (topic, partition) = self.places.first().filter(|_| self.looks > 1)?;
        let others = match self.places.len() {
            1 => String::new(),
            many => format!(", and {} others", many - 1),
        };
        Some(Failure {
            message: format!("nobody answers for partition {partition} of topic \"{topic}\"{others}"),
            detail: "It has no leader, or its broker is away. Other partitions are read on.".to_owned(),
            hint: "See that all brokers of the cluster run.".to_owned(),
        })
    }
}

/// A client that reads partitions from these offsets on; none where there are none.
pub(super) fn begin_reading(
    asker: &Asker,
    wanted: &BTreeMap<(String, i32), i64>,
) -> Result<Option<Arc<StreamConsumer<Ear>>>, Trouble> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let client = reader(&asker.config)?;
    let in_words = |error: KafkaError| {
        let context: &Ear = client.context();
        trouble(&asker.config, context.as_ref(), &error)
    };
    let mut list = TopicPartitionList::new();
    for ((topic, partition), from) in wanted {
        list.add_partition_offset(topic, *partition, Offset::Offset(*from)).map_err(in_words)?;
    }
    client.assign(&list).map_err(in_words)?;
    Ok(Some(Arc::new(client)))
}

/// The next message of a client; never, where there is none.
pub(super) async fn received(client: Option<&StreamConsumer<Ear>>) -> Result<BorrowedMessage<'_>, KafkaError> {
    match client {
        Some(client) => client.recv().await,
        None => pending().await,
    }
}

/// An error of a reader of these topics, in words of people.
fn unread(
    config: &Config,
    client: Option<&StreamConsumer<Ear>>,
    topics: &BTreeSet<&str>,
    again: Duration,
    error: &KafkaError,
) -> Failure {
    let (topics, s) = match topics.len() {
        1..=TOPICS_SHOWN_MAX => {
            let names: Vec<String> = topics.iter().map(|topic| format!("\"{topic}\"")).collect();
            (names.join(", "), if names.len() == 1 { "" } else { "s" })
        }
        many => (many.to_string(), "s"),
    };
    let said = match client {
        Some(client) => {
            let context: &Ear = client.context();
            trouble(config, context.as_ref(), error).failure
        }
        None => Trouble::passing(error.to_string(), "").failure,
    };
    let why = if said.detail.is_empty() { String::new() } else { format!(": {}", said.detail.trim_end_matches('.')) };
    let detail = format!(
        "Of topic{s} {topics}: {}{why}. It is tried again every {} s; what comes of other partitions is taken.",
        said.message,
        again.as_secs()
    );
    let hint = if said.hint.is_empty() { UNREAD_HINT.to_owned() } else { said.hint };
    Failure { message: "messages cannot be read".to_owned(), detail, hint }
}
