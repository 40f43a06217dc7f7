//! Markers: the last message under the sync's name in the topic `_tidemill_deliveries`.
//!
//! Its value is one byte that says whether a portion was delivered, and what the sender made of that portion; its headers are the session's
//! token, the sync's topic, and where the partitions of that ended behind the portion.
//!
//! Other syncs' markers are in the same partition. One that died within a transaction keeps the broker from telling what was
//! committed behind it, also ours: so before markers are read, transactions that began before are waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message as _, OwnedHeaders};
use rdkafka::{Offset, TopicPartitionList};

use crate::destination::MARKERS;
use crate::kafka::{Aside, Config, Context, PATIENCE, SLICE, Trouble, heard, trouble};

use super::Wanted;
use super::topics::wait;

/// The partition that has them, also where somebody has made more.
pub(super) const PARTITION: i32 = 0;
/// Transactions of others are waited for as long as a broker lets them be open, and a while.
const OTHERS_SLICES: u32 = 180;
/// So many events of a client are heard at once.
const EVENTS_MAX: u32 = 20;
const SESSION: &str = "tidemill.session";
const TOPIC: &str = "tidemill.topic";
const ENDS: &str = "tidemill.ends";

/// What stands under a sync's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Marker {
    /// What was made of the last portion; none: there was none.
    pub(super) seal: Option<Vec<u8>>,
    /// The token of the session that has written it.
    pub(super) session: String,
    /// The sync's topic.
    pub(super) topic: String,
    /// How many partitions it had; 0 where nobody knows.
    pub(super) partitions: usize,
    /// Where they ended, as far as something was written to them.
    pub(super) ends: BTreeMap<i32, i64>,
}

impl Marker {
    pub(super) fn value(&self) -> Vec<u8> {
        match &self.seal {
            None => vec![0],
            Some(seal) => [&[1][..], &seal[..]].concat(),
        }
    }

    pub(super) fn headers(&self, headers: OwnedHeaders) -> OwnedHeaders {
        let ends: Vec<String> = self.ends.iter().map(|(partition, end)| format!("{partition}:{end}")).collect();
        let ends = format!("{} {}", self.partitions, ends.join(","));
        let headers = headers.insert(Header { key: SESSION, value: Some(&self.session) });
        let headers = headers.insert(Header { key: TOPIC, value: Some(&self.topic) });
        headers.insert(Header { key: ENDS, value: Some(&ends) })
    }

    fn of(message: &BorrowedMessage<'_>) -> Self {
        let header = |key: &str| {
            let headers = message.headers()?;
            let found = headers.iter().find(|header| header.key == key)?;
            String::from_utf8(found.value?.to_vec()).ok()
        };
        let ends = header(ENDS).unwrap_or_default();
        let (partitions, ends) = ends.split_once(' ').unwrap_or_default();
        let end = |text: &str| text.split_once(':').and_then(|(p, end)| Some((p.parse().ok()?, end.parse().ok()?)));
        Self {
            seal: message.payload().and_then(|value| value.strip_prefix(&[1])).map(<[u8]>::to_vec),
            session: header(SESSION).unwrap_or_default(),
            topic: header(TOPIC).unwrap_or_default(),
            partitions: partitions.parse().unwrap_or_default(),
            ends: ends.split(',').filter_map(end).collect(),
        }
    }
}

/// Reads markers of one sync: committed ones, in their order.
pub(super) struct Markers {
    consumer: Aside<BaseConsumer<Context>>,
    sync: String,
    /// The offset behind what was read.
    next: Option<i64>,
    /// The last one that was read.
    pub(super) last: Option<Marker>,
}

impl Markers {
    pub(super) fn open(config: &Config, sync: &str) -> Result<Self, Trouble> {
        let mut settings = config.client();
        settings
            // Partitions are assigned, and nobody joins the group: the client wants a name.
            .set("group.id", "tidemill")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "16384")
            .set("check.crcs", "true");
        let consumer = settings.create_with_context(Context::default());
        let consumer: BaseConsumer<Context> = consumer.map_err(|error| trouble(config, &Context::default(), &error))?;
        Ok(Self { consumer: Aside::new(consumer), sync: sync.to_owned(), next: None, last: None })
    }

    /// Has the client say why nobody answers.
    pub(super) fn reach(&self, config: &Config, topic: &str) -> Result<Option<usize>, Trouble> {
        let serve = |time: Duration| {
            // Each event comes alone.
            for _ in 0..EVENTS_MAX {
                if self.consumer.poll(time).is_none() {
                    break;
                }
            }
        };
        crate::kafka::partitions(self.consumer.client(), config, topic, serve)
    }

    fn trouble(&self, config: &Config, error: &KafkaError) -> Trouble {
        trouble(config, heard(self.consumer.client()), error).about(MARKERS)
    }

    /// Reads what was committed up to an offset, transactions included that are not over yet. Errors: one of them does not end.
    pub(super) fn read_to(&mut self, config: &Config, end: i64, wanted: &Wanted) -> Result<(), Trouble> {
        let mut waits = OTHERS_SLICES;
        let (low, known) = loop {
            let (low, known) = self.watermarks(config)?;
            if known >= end {
                break (low, known);
            }
            if waits == 0 {
                return Err(Trouble::passing(
                    format!("a transaction on the topic \"{MARKERS}\" is not ended"),
                    "What was delivered before can be told when it is. Its producer may have died; then the broker ends it.",
                ));
            }
            waits -= 1;
            wanted.or_ended()?;
            wait(SLICE);
        };
        self.read(config, low, known, wanted)
    }

    /// Reads what was committed since the last time, where something was; `ours` is the offset of what we have written ourselves.
    pub(super) fn read_on(&mut self, config: &Config, ours: Option<i64>, wanted: &Wanted) -> Result<(), Trouble> {
        let (low, known) = self.watermarks(config)?;
        // Nobody else has written, or there is nothing behind ours.
        if self.next == Some(known) || (ours == self.next && ours.map(|ours| ours + 1) == Some(known)) {
            self.next = Some(known);
            return Ok(());
        }
        self.read(config, low, known, wanted)
    }

    /// Where the partition begins, and where what is certain ends.
    fn watermarks(&self, config: &Config) -> Result<(i64, i64), Trouble> {
        let found = self.consumer.fetch_watermarks(MARKERS, PARTITION, PATIENCE);
        found.map_err(|error| self.trouble(config, &error))
    }

    fn read(&mut self, config: &Config, low: i64, end: i64, wanted: &Wanted) -> Result<(), Trouble> {
        let from = self.next.unwrap_or(low).max(low);
        if from < end {
            let mut place = TopicPartitionList::with_capacity(1);
            let assigned = place
                .add_partition_offset(MARKERS, PARTITION, Offset::Offset(from))
                .and_then(|()| self.consumer.assign(&place));
            assigned.map_err(|error| self.trouble(config, &error))?;
            let read = self.until(config, end, wanted);
            let left = self.consumer.unassign().map_err(|error| self.trouble(config, &error));
            read.and(left)?;
        }
        self.next = Some(end);
        Ok(())
    }

    /// The offset behind what was taken, marks of transactions included.
    fn position(&self) -> Option<i64> {
        let positions = self.consumer.position().ok()?;
        match positions.find_partition(MARKERS, PARTITION)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// Reads up to an offset. That a broker says that its partition ends is no sign that it is there: one that has fallen behind, or leads
    /// since a moment ago, knows of an end before it.
    fn until(&mut self, config: &Config, end: i64, wanted: &Wanted) -> Result<(), Trouble> {
        let slices = PATIENCE.as_millis() / SLICE.as_millis();
        let mut silent = 0;
        loop {
            if self.position().is_some_and(|position| position >= end) {
                return Ok(());
            }
            match self.consumer.poll(SLICE) {
                Some(Ok(message)) => {
                    silent = 0;
                    if message.key() == Some(self.sync.as_bytes()) {
                        self.last = Some(Marker::of(&message));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(self.trouble(config, &error)),
                // The client goes on by itself: what it says is told when it does not get there.
                Some(Err(error)) => {
                    silent += 1;
                    if silent >= slices {
                        return Err(self.trouble(config, &error));
                    }
                }
                None => {
                    wanted.or_ended()?;
                    silent += 1;
                    if silent >= slices {
                        let detail =
                            format!("The topic \"{MARKERS}\" cannot be read to its end, which is offset {end}.");
                        return Err(Trouble::passing(format!("{} does not answer", config.address()), detail));
                    }
                }
            }
        }
    }
}
