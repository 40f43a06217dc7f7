//! Topics: what there is, how they are made, and what they take.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::runtime::Handle;

use crate::destination::MARKERS;
use crate::kafka::{Config, Context, PATIENCE, SLICE, Trouble, heard, metadata, partitions, said_of, trouble};

use super::form::Made;

/// The largest batch that a topic takes where it does not tell: Kafka's own default.
const BATCH_BYTES: usize = 1_048_588;
/// A message with more bytes is sent to no topic.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What a topic is set to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Facts {
    /// `cleanup.policy`, where we may know it.
    pub(super) policy: Option<String>,
    /// The largest batch that it takes, in bytes, where we may know it.
    pub(super) batch_bytes: Option<usize>,
}

impl Facts {
    /// The largest message that is sent to it, with all that it is wrapped in.
    pub(super) fn room(&self) -> usize {
        self.batch_bytes.unwrap_or(BATCH_BYTES).min(MESSAGE_BYTES_MAX)
    }
}

/// Who asks about topics and makes them. Its calls block, on a thread of the runtime that is for such.
pub(super) struct Topics<'a> {
    config: &'a Config,
    client: AdminClient<Context>,
}

impl<'a> Topics<'a> {
    /// Reaches for a broker. Errors: none answers, or not to us.
    pub(super) fn open(config: &'a Config) -> Result<Self, Trouble> {
        let mut settings = config.client();
        // So that the end of a partition is told, and not where the first open transaction begins.
        settings.set("isolation.level", "read_uncommitted");
        let client = settings.create_with_context(Context::default());
        let client = client.map_err(|error| trouble(config, &Context::default(), &error))?;
        Ok(Self { config, client })
    }

    fn trouble(&self, error: &KafkaError) -> Trouble {
        trouble(self.config, heard(self.client.inner()), error)
    }

    /// How many partitions a topic has; none: there is no such topic.
    pub(super) fn partitions(&self, topic: &str) -> Result<Option<usize>, Trouble> {
        partitions(self.client.inner(), self.config, topic, |_| {})
    }

    /// Where the partitions of a topic end: the offsets of what is written next.
    pub(super) fn ends(&self, topic: &str, partitions: usize) -> Result<Vec<i64>, Trouble> {
        let numbers = 0..i32::try_from(partitions).unwrap_or(i32::MAX);
        numbers.map(|number| self.end(topic, number)).collect()
    }

    /// Where a partition ends, transactions that are not over included.
    pub(super) fn end(&self, topic: &str, partition: i32) -> Result<i64, Trouble> {
        let ends = self.client.inner().fetch_watermarks(topic, partition, PATIENCE);
        ends.map(|(_, end)| end).map_err(|error| self.trouble(&error))
    }

    /// Makes a topic, and waits until its partitions have leaders. One that has come meanwhile is as good. Errors: it may not be.
    pub(super) fn make(&self, topic: &str, made: Made, settings: &[(&str, &str)]) -> Result<usize, Trouble> {
        let mut new = NewTopic::new(topic, made.partitions, TopicReplication::Fixed(made.replication));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let options = AdminOptions::new().request_timeout(Some(PATIENCE + PATIENCE)).operation_timeout(Some(PATIENCE));
        let answers = Handle::current().block_on(self.client.create_topics([&new], &options));
        match answers.map_err(|error| self.trouble(&error))?.pop() {
            None | Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => self.until_led(topic),
            Some(Err((_, code))) => Err(self.not_made(topic, code)),
        }
    }

    fn not_made(&self, topic: &str, code: Code) -> Trouble {
        let message = format!("the topic \"{topic}\" cannot be made");
        let detail = format!("{} ({code:?})", said_of(code));
        let hint = match code {
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                "Have somebody make it, or have the cluster's access rules (ACLs) allow CREATE."
            }
            Code::InvalidReplicationFactor => "There are fewer brokers: correct `replication` in `to`.",
            _ => "Have somebody make it as the cluster wants it.",
        };
        Trouble { code: Some(code), ..Trouble::ours(message, detail, hint) }
    }

    /// Waits until all partitions of a topic have leaders; answers how many there are.
    fn until_led(&self, topic: &str) -> Result<usize, Trouble> {
        let mut waits = PATIENCE.as_millis() / SLICE.as_millis();
        loop {
            let found = metadata(self.client.inner(), self.config, Some(topic), |_| {})?;
            let partitions = found.topics().iter().find(|found| found.name() == topic).map(|found| found.partitions());
            match partitions {
                Some(led) if !led.is_empty() && led.iter().all(|partition| partition.leader() >= 0) => {
                    return Ok(led.len());
                }
                _ if waits == 0 => {
                    return Err(Trouble::passing(
                        format!("the topic \"{topic}\" has no leader yet"),
                        "It was made just now.",
                    ));
                }
                _ => {
                    waits -= 1;
                    wait(SLICE);
                }
            }
        }
    }

    /// What a topic is set to, as far as we may know.
    pub(super) fn facts(&self, topic: &str) -> Facts {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let topic = ResourceSpecifier::Topic(topic);
        let asked = self.client.describe_configs([&topic], &options);
        let answers = Handle::current().block_on(asked).unwrap_or_default();
        let Some(Ok(found)) = answers.into_iter().next() else { return Facts::default() };
        let value = |key: &str| found.get(key).and_then(|entry| entry.value.clone());
        Facts { policy: value("cleanup.policy"), batch_bytes: value("max.message.bytes").and_then(|n| n.parse().ok()) }
    }

    /// The topic of markers: made where there is none.
    pub(super) fn make_markers(&self, made: Option<Made>) -> Result<(), Trouble> {
        if self.partitions(MARKERS)?.is_some() {
            return Ok(());
        }
        let made = Made { partitions: 1, ..made.unwrap_or(Made::SINGLE) };
        let compact = ("cleanup.policy", "compact");
        // What is read at each beginning is to be small: segments are what is not cleaned up yet.
        let small = [
            compact,
            ("segment.bytes", "8388608"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("delete.retention.ms", "600000"),
            ("max.message.bytes", "2097152"),
        ];
        match self.make(MARKERS, made, &small) {
            // Some clusters let nobody choose these.
            Err(Trouble { code: Some(Code::InvalidConfig | Code::PolicyViolation), .. }) => {
                self.make(MARKERS, made, &[compact]).map(|_| ())
            }
            made => made.map(|_| ()),
        }
    }
}

/// Waits, on a thread that is for such: brokers tell nobody when a topic is ready.
pub(super) fn wait(time: Duration) {
    Handle::current().block_on(tokio::time::sleep(time));
}
