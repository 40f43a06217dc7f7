//! Questions to the brokers: what topics there are, and where they begin and end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::ear::{Ear, REPORT_MS};
use super::lanes::{Ends, Survey, Topic};
use crate::kafka::{Config, Context, PATIENCE, Trouble, blocking, code_of, heard, led, trouble};
use crate::registry::Registry;
use crate::source::Failure;

/// Bytes of messages that wait to be taken, of one reader.
const WAITING_KIB_MAX: &str = "16384";
/// Bytes of one answer, which are more only where one message alone is larger.
const FETCH_BYTES_MAX: &str = "8388608";
/// Events of the client that are served before a question: it says something of each connection that it loses.
const EVENTS_MAX: usize = 1000;

/// Asks brokers, over connections that are kept.
pub(super) struct Asker {
    pub(super) config: Config,
    /// Who has the schemas of Avro, if the connection says it.
    pub(super) registry: Option<Arc<Registry>>,
    client: Mutex<Option<Arc<BaseConsumer<Context>>>>,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Asker {
    /// Errors: settings that cannot be used.
    pub(super) fn new(config: Config) -> Result<Self, Failure> {
        let registry = config.registry().map(Registry::new).transpose()?.map(Arc::new);
        Ok(Self { config, registry, client: Mutex::new(None) })
    }

    /// What there is of topics. Errors: nobody answers, or not to us.
    pub(super) async fn survey(self: &Arc<Self>, topics: Vec<String>) -> Result<Survey, Trouble> {
        let asker = Arc::clone(self);
        blocking(move || asker.ask(&topics)).await
    }

    /// The client that is asked, with its events served.
    pub(super) fn client(&self) -> Result<Arc<BaseConsumer<Context>>, Trouble> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &*kept {
            Some(client) => Arc::clone(client),
            None => {
                let mut settings = self.config.client();
                settings.set("isolation.level", "read_committed");
                let made = settings.create_with_context::<_, BaseConsumer<Context>>(Context::default());
                let made = Arc::new(made.map_err(|error| trouble(&self.config, &Context::default(), &error))?);
                *kept = Some(Arc::clone(&made));
                made
            }
        };
        (0..EVENTS_MAX).take_while(|_| client.poll(Duration::ZERO).is_some()).for_each(drop);
        Ok(client)
    }

    fn ask(&self, topics: &[String]) -> Result<Survey, Trouble> {
        let client = self.client()?;
        let serve = |patience: Duration| drop(client.poll(patience));
        let mut survey = Survey::new();
        for topic in topics {
            let found = match led(client.client(), &self.config, topic, serve) {
                Ok(None) => Topic::Missing,
                Ok(Some(led)) => self.ends(&client, topic, &led)?,
                Err(trouble) if trouble.code == Some(Code::TopicAuthorizationFailed) => Topic::Denied(trouble.failure),
                Err(trouble) => return Err(trouble),
            };
            survey.insert(topic.clone(), found);
        }
        Ok(survey)
    }

    fn ends(&self, client: &BaseConsumer<Context>, topic: &str, led: &[bool]) -> Result<Topic, Trouble> {
        let mut ends = BTreeMap::new();
        for (partition, is_led) in (0..).zip(led) {
            // Without a leader the question would be held until its time is over.
            if !is_led {
                ends.insert(partition, None);
                continue;
            }
            let answer = match client.fetch_watermarks(topic, partition, PATIENCE) {
                Ok((low, high)) => Some(Ends { low, high }),
                Err(error) => match code_of(&error) {
                    Some(Code::TopicAuthorizationFailed) => {
                        let denied = trouble(&self.config, heard(client.client()), &error).about(topic);
                        return Ok(Topic::Denied(denied.failure));
                    }
                    Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                        return Ok(Topic::Missing);
                    }
                    // Its leader is being chosen, or it alone is away.
                    Some(
                        Code::LeaderNotAvailable
                        | Code::NotLeaderForPartition
                        | Code::ReplicaNotAvailable
                        | Code::OffsetNotAvailable,
                    ) => None,
                    _ => return Err(trouble(&self.config, heard(client.client()), &error)),
                },
            };
            ends.insert(partition, answer);
        }
        Ok(Topic::There(ends))
    }
}

/// A client that reads messages of what it is assigned. It is in no group: the name of one is what the client asks for.
pub(super) fn reader(config: &Config) -> Result<StreamConsumer<Ear>, Trouble> {
    let mut settings = config.client();
    settings
        .set("group.id", "tidemill")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What is not there any more is said.
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .set("queued.max.messages.kbytes", WAITING_KIB_MAX)
        .set("fetch.max.bytes", FETCH_BYTES_MAX)
        .set("fetch.queue.backoff.ms", "10")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("statistics.interval.ms", REPORT_MS)
        // A receiver that takes nothing for an hour is no reason to be thrown out.
        .set("max.poll.interval.ms", "86400000");
    let made = settings.create_with_context::<_, StreamConsumer<Ear>>(Ear::default());
    made.map_err(|error| trouble(config, &Context::default(), &error))
}
