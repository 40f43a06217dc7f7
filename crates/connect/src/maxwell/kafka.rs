//! Messages into Kafka: by the settings that Maxwell passes to its producer, in the words of the C client.
//!
//! The law: a message is sent until it is acknowledged. One that Kafka does not take comes back ([`Heard`]) and is sent again; only what is
//! too large for it goes another way, as its key alone, to the topic of dead letters. Order within a partition is kept as long as nothing
//! comes back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::source::Failure;

use super::java;
use super::message::Output;
use super::sink::{Sink, Trouble};

/// Whether all has come to its end is looked at so often, and whenever something has.
const SLICE: Duration = Duration::from_millis(5);
/// How long a broker may take over a question.
const ANSWER: Duration = Duration::from_secs(5);
/// The number of a topic's partitions is asked for again after this.
const PARTITIONS: Duration = Duration::from_secs(60);
/// Messages that wait in the client.
const WAITING_KIB: &str = "32768";
/// A message waits so long at most for others that go with it: what was sent is waited for ([`ANSWER`]), and it is on its way by then.
const LINGER_MS_MAX: f64 = 1_000.0;

/// Names of the same in Java's client and in the C client, or of two in the C client.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("queue.buffering.max.ms", "linger.ms"),
    ("max.request.size", "message.max.bytes"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("ssl.endpoint.identification.algorithm", "ssl.endpoint.identification.algorithm"),
];
/// What only Java's client has, or what is always so here.
const NEEDLESS: [&str; 16] = [
    "key.serializer",
    "value.serializer",
    "partitioner.class",
    "interceptor.classes",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "max.block.ms",
    "buffer.memory",
    "delivery.timeout.ms",
    "message.timeout.ms",
    "retries",
    "message.send.max.retries",
    "auto.include.jmx.reporter",
    "client.dns.lookup",
];

/// What the client says beside its answers.
#[derive(Debug, Default)]
struct Heard {
    /// Why there is no connection.
    reason: Option<String>,
    /// Messages that were not taken, with what is said of them.
    returned: Vec<(Code, OwnedMessage)>,
}

#[derive(Debug, Clone, Default)]
struct Ear(Arc<(Mutex<Heard>, Condvar)>);

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has come to its end, and not for long. The client's own `flush` lets a tenth of a second pass each time,
    /// whatever happens meanwhile.
    fn wait(&self) {
        drop(self.0.1.wait_timeout(self.heard(), SLICE));
    }
}

impl ClientContext for Ear {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        self.heard().reason = Some(reason.to_owned());
    }
}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut heard = self.heard();
        match result {
            Ok(_) => heard.reason = None,
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                heard.returned.push((code, message.detach()));
            }
        }
        drop(heard);
        self.0.1.notify_all();
    }
}

/// A cluster.
pub(crate) struct Kafka {
    producer: ThreadedProducer<Ear>,
    ear: Ear,
    brokers: String,
    dead_letter_topic: Option<String>,
    /// How many partitions topics have, and when that was asked for.
    partitions: BTreeMap<String, (i32, Instant)>,
    /// Records of the output being written that were taken.
    taken: usize,
    /// What came back and was not taken again yet: topic, partition, key, message.
    again: VecDeque<(String, i32, Vec<u8>, Vec<u8>)>,
    dead_letters: u64,
}

impl Kafka {
    /// Makes a client; nobody is asked yet. `note` is told what settings are of no use.
    pub(crate) fn open(
        settings: &[(String, String)],
        dead_letter_topic: Option<String>,
        note: impl FnOnce(&str),
    ) -> Result<Self, Failure> {
        let (client, needless) = client(settings)?;
        if !needless.is_empty() {
            note(&format!(
                "kafka.{}: not needed here; messages are sent until they are acknowledged",
                needless.join(", kafka.")
            ));
        }
        let ear = Ear::default();
        let producer = client.create_with_context(ear.clone()).map_err(|error| refused(&error))?;
        let brokers = client.get("bootstrap.servers").unwrap_or_default().to_owned();
        Ok(Self {
            producer,
            ear,
            brokers,
            dead_letter_topic,
            partitions: BTreeMap::new(),
            taken: 0,
            again: VecDeque::new(),
            dead_letters: 0,
        })
    }

    /// Why nothing goes on.
    fn away(&self) -> Trouble {
        let reason = self.ear.heard().reason.clone();
        // What differs from try to try is none of it.
        let reason = reason.map(|reason| reason.split(" (after ").next().unwrap_or_default().to_owned());
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        Trouble::Again(format!("no broker of {} takes messages{reason}", self.brokers))
    }

    fn partitions(&mut self, topic: &str) -> Result<i32, Trouble> {
        if let Some((count, asked)) = self.partitions.get(topic)
            && asked.elapsed() < PARTITIONS
        {
            return Ok(*count);
        }
        let Ok(metadata) = self.producer.client().fetch_metadata(Some(topic), ANSWER) else { return Err(self.away()) };
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let count = found.map_or(0, |found| i32::try_from(found.partitions().len()).unwrap_or(i32::MAX));
        if count == 0 {
            let said = found.and_then(|found| found.error()).map(Code::from);
            let said = said.map(|code| format!(": {code}")).unwrap_or_default();
            return Err(Trouble::Again(format!("topic \"{topic}\" of {} has no partitions{said}", self.brokers)));
        }
        self.partitions.insert(topic.to_owned(), (count, Instant::now()));
        Ok(count)
    }

    /// Sends a message; waits for room in the client's queue.
    fn send(&mut self, topic: &str, partition: i32, key: &[u8], message: &[u8]) -> Result<(), Trouble> {
        let begun = Instant::now();
        loop {
            let record = BaseRecord::to(topic).partition(partition).key(key).payload(message);
            let error = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, _)) => error,
            };
            match error.rdkafka_error_code() {
                Some(Code::QueueFull) if begun.elapsed() < ANSWER => {
                    // Its thread takes what was acknowledged out of it.
                    self.ear.wait();
                }
                Some(Code::QueueFull) => return Err(self.away()),
                Some(Code::MessageSizeTooLarge) => return self.bury(topic, key, message),
                _ => {
                    return Err(Trouble::Again(format!(
                        "topic \"{topic}\" of {} does not take a message: {error}",
                        self.brokers
                    )));
                }
            }
        }
    }

    /// A message that is too large is told by its key.
    fn bury(&mut self, topic: &str, key: &[u8], message: &[u8]) -> Result<(), Trouble> {
        let Some(graves) = self.dead_letter_topic.clone().filter(|graves| graves != topic) else {
            return Err(Trouble::Over(Failure {
                message: format!("a message of {} bytes is larger than Kafka takes (topic \"{topic}\")", message.len()),
                detail: format!("Its key is {}.", String::from_utf8_lossy(key)),
                hint: "Raise kafka.max.request.size, and max.message.bytes of the topic; or set dead_letter_topic, which is told the \
                       key of such a message."
                    .to_owned(),
            }));
        };
        let letter = dead_letter(key, message);
        let partition = java::partition(java::hash_code(&String::from_utf8_lossy(key)), self.partitions(&graves)?);
        let record = BaseRecord::to(&graves).partition(partition).key(key).payload(letter.as_bytes());
        match self.producer.send(record) {
            Ok(()) => {
                self.dead_letters += 1;
                tracing::warn!(
                    topic,
                    count = self.dead_letters,
                    "a message is too large: its key goes to the topic of dead letters"
                );
                Ok(())
            }
            Err(_) => Err(self.away()),
        }
    }

    /// Sends again what came back.
    fn send_again(&mut self) -> Result<(), Trouble> {
        if let Some((code, said)) = self.producer.client().fatal_error() {
            // This client takes nothing any more, however often it is tried.
            return Err(Trouble::Over(Failure {
                message: format!("Kafka at {} has broken off with this producer: {code}", self.brokers),
                detail: said,
                hint: "Start it again: what was not acknowledged comes again then.".to_owned(),
            }));
        }
        let returned = std::mem::take(&mut self.ear.heard().returned);
        let mut last = None;
        let mut returned = returned.into_iter();
        while let Some((code, message)) = returned.next() {
            let (topic, partition) = (message.topic().to_owned(), message.partition());
            let key = message.key().unwrap_or_default().to_vec();
            let payload = message.payload().unwrap_or_default().to_vec();
            if code == Code::MessageSizeTooLarge {
                if let Err(trouble) = self.bury(&topic, &key, &payload) {
                    // It and those behind it are seen to the next time.
                    let left = std::iter::once((code, message)).chain(returned);
                    self.ear.heard().returned.splice(0..0, left);
                    return Err(trouble);
                }
                continue;
            }
            last = Some(format!("topic \"{topic}\" of {} does not take a message: {code}", self.brokers));
            self.again.push_back((topic, partition, key, payload));
        }
        if let Some(reason) = last {
            // Not before the pause that follows an error.
            return Err(Trouble::Again(reason));
        }
        while let Some((topic, partition, key, payload)) = self.again.front().cloned() {
            self.send(&topic, partition, &key, &payload)?;
            self.again.pop_front();
        }
        Ok(())
    }
}

impl Sink for Kafka {
    fn write(&mut self, output: &Output) -> Result<(), Trouble> {
        self.send_again()?;
        while let Some(record) = output.records.get(self.taken).copied() {
            let (from, names) = match self.taken.checked_sub(1).and_then(|before| output.records.get(before)) {
                None => (0, 0),
                Some(before) => (before.message, before.topic),
            };
            let message = output.bytes.get(from..record.message.saturating_sub(1)).unwrap_or_default();
            let key = output.names.get(names..record.key).unwrap_or_default();
            let topic = String::from_utf8_lossy(output.names.get(record.key..record.topic).unwrap_or_default());
            let partition = java::partition(record.hash, self.partitions(&topic)?);
            self.send(&topic, partition, key, message)?;
            self.taken += 1;
        }
        self.taken = 0;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Trouble> {
        self.send_again()?;
        let begun = Instant::now();
        while self.producer.in_flight_count() > 0 {
            if begun.elapsed() >= ANSWER {
                return Err(self.away());
            }
            // How it went is told to the ear.
            self.ear.wait();
        }
        self.send_again()?;
        // What was sent again just now is waited for the next time.
        match self.producer.in_flight_count() {
            0 => Ok(()),
            _ => self.settle(),
        }
    }

    fn name(&self) -> String {
        format!("Kafka at {}", self.brokers)
    }
}

/// What is told of a message that is too large: its place and its key.
fn dead_letter(key: &[u8], message: &[u8]) -> String {
    let message: Json = serde_json::from_slice(message).unwrap_or_default();
    let key: Json = serde_json::from_slice(key).unwrap_or_default();
    let columns: serde_json::Map<String, Json> = match &key {
        Json::Object(members) => {
            let column = |(name, value): (&String, &Json)| Some((name.strip_prefix("pk.")?.to_owned(), value.clone()));
            members.iter().filter_map(column).collect()
        }
        Json::Array(parts) => {
            let items = parts.get(2).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_object);
            items.flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
        }
        _ => serde_json::Map::new(),
    };
    let reason = "RecordTooLargeException";
    json!({
        "database": message["database"], "table": message["table"], "type": message["type"], "reason": reason, "data": columns,
    })
    .to_string()
}

/// The C client's settings, and those that are of no use to it.
fn client(settings: &[(String, String)]) -> Result<(ClientConfig, Vec<String>), Failure> {
    let mut client = ClientConfig::new();
    client
        .set("client.id", "tidemill")
        .set("linger.ms", "5")
        .set("queue.buffering.max.kbytes", WAITING_KIB)
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.max.ms", "5000");
    let mut needless = Vec::new();
    for (key, value) in settings {
        if NEEDLESS.contains(&key.as_str()) {
            needless.push(key.clone());
            continue;
        }
        if key == "sasl.jaas.config" {
            for (word, setting) in [("username", "sasl.username"), ("password", "sasl.password")] {
                let value = of_jaas(value, word).ok_or_else(|| untold(key, "it names no user and password"))?;
                client.set(setting, value);
            }
            continue;
        }
        if key.starts_with("ssl.truststore") || key.starts_with("ssl.keystore") || key == "ssl.key.password" {
            return Err(untold(key, "a store of Java's is not read"));
        }
        let name = OTHER_NAMES.iter().find(|(java, _)| java == key).map_or(key.as_str(), |(_, name)| name);
        client.set(name, value);
    }
    if client.get("linger.ms").and_then(|ms| ms.parse().ok()).is_some_and(|ms: f64| ms > LINGER_MS_MAX) {
        client.set("linger.ms", LINGER_MS_MAX.to_string());
    }
    if client.get("bootstrap.servers").is_none_or(str::is_empty) {
        return Err(Failure {
            message: "it is not said where Kafka is".to_owned(),
            detail: String::new(),
            hint: "Set kafka.bootstrap.servers, as in --set kafka.bootstrap.servers=127.0.0.1:9092.".to_owned(),
        });
    }
    // For ever: nothing is passed over.
    client.set("message.timeout.ms", "0");
    let is_whole = client.get("acks").is_none_or(|acks| matches!(acks, "all" | "-1"));
    if is_whole && client.get("enable.idempotence").is_none() {
        // Otherwise order breaks where a batch is sent again.
        client.set("enable.idempotence", "true");
    }
    Ok((client, needless))
}

/// A word's value in `… required username="a" password="b";`.
fn of_jaas(text: &str, word: &str) -> Option<String> {
    let (_, behind) = text.split_once(&format!("{word}="))?;
    let quote = behind.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    behind.get(1..)?.split_once(quote).map(|(value, _)| value.to_owned())
}

fn untold(key: &str, why: &str) -> Failure {
    Failure {
        message: format!("kafka.{key}: {why}"),
        detail: String::new(),
        hint: "Certificates are given in PEM: kafka.ssl.ca.location, kafka.ssl.certificate.location, kafka.ssl.key.location. A user is \
               given by kafka.sasl.username and kafka.sasl.password."
            .to_owned(),
    }
}

fn refused(error: &KafkaError) -> Failure {
    let (message, detail) = match error {
        KafkaError::ClientConfig(_, said, key, _) => {
            (format!("the Kafka client does not take kafka.{key}"), said.clone())
        }
        other => ("the Kafka client cannot be made".to_owned(), other.to_string()),
    };
    Failure { message, detail, hint: "Its settings are those of librdkafka: correct it, or take it out.".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_of_javas_client_are_those_of_ours() {
        let jaas =
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"me\" password=\"geheim\";";
        let given = settings(&[
            ("bootstrap.servers", "a:9092"),
            ("max.request.size", "2000000"),
            ("key.serializer", "x"),
            ("retries", "0"),
            ("compression.type", "snappy"),
            ("sasl.jaas.config", jaas),
        ]);
        let (client, needless) = client(&given).unwrap();
        assert_eq!(client.get("message.max.bytes"), Some("2000000"));
        assert_eq!(client.get("compression.type"), Some("snappy"));
        assert_eq!((client.get("sasl.username"), client.get("sasl.password")), (Some("me"), Some("geheim")));
        assert_eq!(client.get("message.timeout.ms"), Some("0"));
        assert_eq!(client.get("enable.idempotence"), Some("true"));
        assert_eq!(needless, ["key.serializer", "retries"]);
    }

    #[test]
    fn no_message_waits_for_others_longer_than_it_is_waited_for() {
        let linger = |key, ms| {
            let given = settings(&[("bootstrap.servers", "a"), (key, ms)]);
            client(&given).unwrap().0.get("linger.ms").map(str::to_owned)
        };
        let lingers = ["0", "1000", "5000", "900000"].map(|ms| linger("linger.ms", ms).unwrap_or_default());
        assert_eq!(lingers, ["0", "1000", "1000", "1000"]);
        assert_eq!(linger("queue.buffering.max.ms", "60000").as_deref(), Some("1000"));
        assert_eq!(linger("acks", "all").as_deref(), Some("5"));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        assert_eq!(client(&[]).unwrap_err().message, "it is not said where Kafka is");
        let store = settings(&[("bootstrap.servers", "a"), ("ssl.truststore.location", "/x.jks")]);
        assert_eq!(client(&store).unwrap_err().message, "kafka.ssl.truststore.location: a store of Java's is not read");
        let weak = settings(&[("bootstrap.servers", "a"), ("acks", "1")]);
        assert_eq!(client(&weak).unwrap().0.get("enable.idempotence"), None, "it needs all acknowledgements");
        let unknown = settings(&[("bootstrap.servers", "127.0.0.1:1"), ("no.such.key", "1")]);
        let error = Kafka::open(&unknown, None, |_| {}).err().unwrap();
        assert_eq!(error.message, "the Kafka client does not take kafka.no.such.key");
    }

    #[test]
    fn a_dead_letter_has_the_key_alone() {
        let message = br#"{"database":"d","table":"t","type":"insert","ts":1,"data":{"id":1,"x":"large"}}"#;
        let wanted =
            r#"{"database":"d","table":"t","type":"insert","reason":"RecordTooLargeException","data":{"id":1}}"#;
        assert_eq!(dead_letter(br#"{"database":"d","table":"t","pk.id":1}"#, message), wanted);
        assert_eq!(dead_letter(br#"["d","t",[{"id":1}]]"#, message), wanted);
    }
}
