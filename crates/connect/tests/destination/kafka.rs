//! A Kafka broker, and a client of it that is none of ours.
//!
//! ```text
//! create TOPIC PARTITIONS [KEY=VALUE …]   grow TOPIC PARTITIONS   delete TOPIC   config TOPIC KEY
//! read TOPIC      its committed messages by partition, a line each: KEY = VALUE; `all` has those that are not committed too
//! headers TOPIC   the headers of committed messages
//! fold TOPIC      what stands under each key
//! write TOPIC KEY VALUE
//! hang            leaves a marker in a transaction that is not ended; the broker ends it
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication, TopicResult,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::there::{PATIENCE, free_port};

/// Where deliveries leave their marks.
const MARKERS: &str = "_tidemill_deliveries";

/// A broker that is shared, or a case's own.
pub(crate) struct Broker {
    pub(crate) port: u16,
    /// Where it asks for a login, and where it speaks TLS.
    pub(crate) login_port: u16,
    pub(crate) tls_port: u16,
    /// What the names of the case's topics and syncs begin with.
    pub(crate) place: String,
    /// The data of one of the case's own.
    folder: Option<PathBuf>,
    process: Option<Child>,
    hanging: Option<BaseProducer>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill().ok();
        if let Some(folder) = &self.folder {
            std::fs::remove_dir_all(folder).ok();
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn variable(what: &str) -> Result<String, String> {
    std::env::var(format!("TIDEMILL_TEST_KAFKA_{what}")).map_err(|_| format!("TIDEMILL_TEST_KAFKA_{what} is not set"))
}

impl Broker {
    /// A name that no run before has used: a broker remembers.
    pub(crate) async fn prepare(place: &str, is_own: bool) -> Result<Self, String> {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_err(text)?.as_micros();
        let port = |what: &str| variable(what)?.parse::<u16>().map_err(text);
        let mut broker = Self {
            port: port("PORT")?,
            login_port: port("LOGIN_PORT")?,
            tls_port: port("TLS_PORT")?,
            place: format!("{place}_{now}"),
            folder: None,
            process: None,
            hanging: None,
        };
        if is_own {
            let folder = std::env::temp_dir().join(&broker.place);
            std::fs::create_dir_all(&folder).map_err(text)?;
            (broker.port, broker.folder) = (free_port()?, Some(folder));
            broker.format()?;
            broker.start().await?;
        }
        Ok(broker)
    }

    fn java(&self) -> Result<(Command, PathBuf), String> {
        let folder = self.folder.clone().ok_or("others need it")?;
        let mut java = Command::new("java");
        java.args(["-Xmx256m", "-cp", &format!("{}/*", variable("LIB")?)]).stdin(Stdio::null());
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).map_err(text)?;
        java.stdout(log.try_clone().map_err(text)?).stderr(log);
        Ok((java, folder))
    }

    fn format(&self) -> Result<(), String> {
        let (mut java, folder) = self.java()?;
        let (port, controller, data) = (self.port, free_port()?, folder.join("data"));
        let settings = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\noffsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\noffsets.topic.num.partitions=1\ntransaction.state.log.num.partitions=1\n",
            data.display()
        );
        let file = folder.join("server.properties");
        std::fs::write(&file, settings).map_err(text)?;
        java.args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]).arg(file);
        let status = java.status().map_err(|e| format!("java: {e}"))?;
        status.success().then_some(()).ok_or_else(|| "its data folder cannot be made".to_owned())
    }

    pub(crate) fn kill(&mut self) -> Result<(), String> {
        match (&self.folder, self.process.take()) {
            (None, _) => Err("others need it".to_owned()),
            (_, Some(mut child)) => child.kill().and_then(|()| child.wait()).map(drop).map_err(text),
            (_, None) => Ok(()),
        }
    }

    /// Starts one of the case's own with what it has kept, and waits until it answers.
    pub(crate) async fn start(&mut self) -> Result<(), String> {
        let (mut java, folder) = self.java()?;
        let log = folder.join("log");
        std::fs::write(&log, "").map_err(text)?;
        java.arg("kafka.Kafka").arg(folder.join("server.properties"));
        self.process = Some(java.spawn().map_err(|e| format!("java: {e}"))?);
        let answers = async {
            while !std::fs::read_to_string(&log).is_ok_and(|log| log.contains("Kafka Server started")) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.map_err(|_| "the broker does not start".to_owned())
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", format!("127.0.0.1:{}", self.port)).set("allow.auto.create.topics", "false");
        client
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, String> {
        self.client().create().map_err(text)
    }

    pub(crate) async fn ask(&mut self, line: &str) -> Result<Vec<String>, String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["create", topic, partitions, ref settings @ ..] => {
                let partitions = partitions.parse().map_err(text)?;
                let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
                for pair in settings {
                    let (key, value) = pair.split_once('=').ok_or("KEY=VALUE")?;
                    new = new.set(key, value);
                }
                self.done(self.admin()?.create_topics([&new], &options()).await)?;
                self.until(topic, true).await
            }
            ["grow", topic, partitions] => {
                let new = NewPartitions::new(topic, partitions.parse().map_err(text)?);
                self.done(self.admin()?.create_partitions([&new], &options()).await)
            }
            ["delete", topic] => {
                self.done(self.admin()?.delete_topics(&[topic], &options()).await)?;
                self.until(topic, false).await
            }
            ["config", topic, key] => {
                let asked = self.admin()?.describe_configs([&ResourceSpecifier::Topic(topic)], &options()).await;
                let found = asked.map_err(text)?.pop().ok_or("no answer")?.map_err(text)?;
                let value = found.get(key).and_then(|entry| entry.value.clone());
                Ok(vec![value.unwrap_or_else(|| "no such key".to_owned())])
            }
            ["partitions", topic] => Ok(vec![self.partitions(&self.reader("read_committed")?, topic)?.to_string()]),
            ["read", topic] => Ok(shown(self.messages(topic, "read_committed")?)),
            ["all", topic] => Ok(shown(self.messages(topic, "read_uncommitted")?)),
            ["fold", topic] => {
                let mut kept = BTreeMap::new();
                for Said { key, value, .. } in self.messages(topic, "read_committed")? {
                    match value {
                        Some(value) => _ = kept.insert(key, value),
                        None => _ = kept.remove(&key),
                    }
                }
                Ok(kept.into_iter().map(|(key, value)| format!("{key} = {value}")).collect())
            }
            ["headers", topic] => {
                let said = self.messages(topic, "read_committed")?;
                Ok(said.into_iter().map(|said| format!("{}: {}", said.key, said.headers)).collect())
            }
            ["write", topic, key, value] => {
                let producer: BaseProducer = self.client().create().map_err(text)?;
                producer.send(BaseRecord::to(topic).key(key).payload(value)).map_err(|(error, _)| text(error))?;
                producer.flush(PATIENCE).map(|()| Vec::new()).map_err(text)
            }
            ["hang"] => {
                let mut client = self.client();
                // The least that a broker takes; it looks every ten seconds.
                client.set("transactional.id", format!("{}.hanging", self.place)).set("transaction.timeout.ms", "1000");
                client.set("message.timeout.ms", "1000");
                let producer: BaseProducer = client.create().map_err(text)?;
                producer.init_transactions(PATIENCE).map_err(text)?;
                producer.begin_transaction().map_err(text)?;
                let record = BaseRecord::to(MARKERS).partition(0).key("somebody").payload("else");
                producer.send(record).map_err(|(error, _)| text(error))?;
                producer.flush(PATIENCE).map_err(text)?;
                self.hanging = Some(producer);
                Ok(Vec::new())
            }
            _ => Err(format!("what is `{line}`?")),
        }
    }

    fn done(&self, answers: Result<Vec<TopicResult>, KafkaError>) -> Result<Vec<String>, String> {
        for answer in answers.map_err(text)? {
            answer.map_err(|(topic, code)| format!("{topic}: {code}"))?;
        }
        Ok(Vec::new())
    }

    /// Waits until a topic is there with a leader, or is not.
    async fn until(&self, topic: &str, is_there: bool) -> Result<Vec<String>, String> {
        let reader = self.reader("read_committed")?;
        let is_so = || {
            let metadata = reader.fetch_metadata(Some(topic), PATIENCE).ok()?;
            let found = metadata.topics().first()?;
            let is_led = found.error().is_none() && found.partitions().iter().all(|p| p.leader() >= 0);
            (is_there == (is_led && !found.partitions().is_empty())).then_some(())
        };
        let waited = async {
            while is_so().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waited).await;
        waited.map(|()| Vec::new()).map_err(|_| format!("{topic}: it does not become so"))
    }

    fn reader(&self, isolation: &str) -> Result<BaseConsumer, String> {
        let mut client = self.client();
        client.set("group.id", "somebody").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        client.set("isolation.level", isolation).set("receive.message.max.bytes", "200000000");
        client.create().map_err(text)
    }

    fn partitions(&self, reader: &BaseConsumer, topic: &str) -> Result<usize, String> {
        let metadata = reader.fetch_metadata(Some(topic), PATIENCE).map_err(text)?;
        Ok(metadata.topics().first().map_or(0, |found| found.partitions().len()))
    }

    fn messages(&self, topic: &str, isolation: &str) -> Result<Vec<Said>, String> {
        let reader = self.reader(isolation)?;
        let partitions = self.partitions(&reader, topic)?;
        let mut said = Vec::new();
        for partition in 0..i32::try_from(partitions).map_err(text)? {
            let mut place = TopicPartitionList::new();
            place.add_partition_offset(topic, partition, Offset::Beginning).map_err(text)?;
            reader.assign(&place).map_err(text)?;
            loop {
                match reader.poll(PATIENCE) {
                    None => return Err(format!("{topic}: no answer")),
                    Some(Err(KafkaError::PartitionEOF(_))) => break,
                    Some(Err(_)) => {}
                    Some(Ok(message)) => said.push(Said::of(&message)),
                }
            }
        }
        Ok(said)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

/// A message as it is shown.
struct Said {
    key: String,
    value: Option<String>,
    headers: String,
}

impl Said {
    fn of(message: &impl Message) -> Self {
        let text = |bytes: &[u8]| match bytes.first() {
            // Of a schema registry: each byte that is no letter by its number.
            Some(0) => bytes.iter().flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect(),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        };
        let value = message.payload().map(|value| match value.len() {
            long @ 1_000.. => format!("{long} bytes"),
            _ => text(value),
        });
        let headers = message.headers().map(|headers| {
            let one = |header: rdkafka::message::Header<'_, &[u8]>| {
                format!("{}={}", header.key, text(header.value.unwrap_or_default()))
            };
            headers.iter().map(one).collect::<Vec<_>>().join(" ")
        });
        Self { key: message.key().map(text).unwrap_or_default(), value, headers: headers.unwrap_or_default() }
    }
}

fn shown(said: Vec<Said>) -> Vec<String> {
    let line = |Said { key, value, .. }: Said| format!("{key} = {}", value.unwrap_or_else(|| "nothing".to_owned()));
    said.into_iter().map(line).collect()
}
