//! Cases of a real broker, with `SLOW=1`: its port is `TIDEMILL_TEST_KAFKA_PORT`. `$T` in a case is a word that no other topic has.
//! Those called `fault-…` have the C client's own stand-in for a broker, which fails as it is told.
//!
//! ```text
//! topic NAME N                  makes a topic of so many partitions;  drop NAME;  partitions NAME N: it has so many from here on
//! forget NAME P OFFSET          its messages before this offset go
//! write NAME                    lines of the body are messages: `P KEY => VALUE`
//! transaction NAME commit|abort likewise, as one transaction of Kafka
//! table ID IDENTIFIER           a table of a topic, as it is declared (`meta KEY JSON`, `column NAME TYPE`)
//! columns ID                    what a table's columns are
//! start                         the source with all tables, from where it was left
//! stop                          ends it
//! back                          ends it, and everything is as it was after the first batch since it was started: as after a kill
//! caught up                     waits until all loads are done and all messages that there are have come; prints all tables
//! until TEXT                    waits until the source says that it is stalled, with this text, and prints it
//! goes on                       waits until it says that it streams
//! reload ID                     a person wants the table loaded again
//! doctor                        what is told by asking
//! fails denied|damaged          from here on every answer to who wants messages is this error;  mend: none is any more
//! leaderless NAME P / led NAME P   a partition has no leader, or has one
//! registry …, schema …          a schema registry: [`crate::registry`]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use connect::source::{KINDS, until_there};
use connect::{
    CheckOutcome, Control, Declared, DeclaredColumn, FollowedTable, Limits, Load, Settings, Source, SourceEvent,
    SourceState, TablePlace,
};
use libtest_mimic::{Failed, Trial};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use relation::{Entry, Layout, Position, SourceBatch, TableId, Unread};
use serde_json::json;
use testkit::{Block, Driver};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;

use super::part;
use crate::registry::Registry;

const PATIENCE: Duration = Duration::from_secs(60);

/// Trials against a broker; none without `SLOW=1`, or where there is none.
pub(crate) fn trials() -> Vec<Trial> {
    let port = std::env::var("TIDEMILL_TEST_KAFKA_PORT").ok().and_then(|port| port.parse::<u16>().ok());
    let port = port.filter(|_| std::env::var_os("SLOW").is_some_and(|v| v == "1"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sources");
    let trial = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let port = if name.starts_with("fault-") { None } else { Some(port?) };
        // Those of the real registry, where it is.
        if name.starts_with("registry") && !crate::registry::is_there() {
            return None;
        }
        let called = if port.is_some() { format!("server/kafka_in/{name}") } else { format!("kafka_in/{name}") };
        Some(Trial::test(called, move || {
            let mut driver = BrokerDriver::new(port, &name).map_err(Failed::from)?;
            testkit::check(&path, &mut driver).map_err(Failed::from)
        }))
    };
    testkit::case_files(&root).into_iter().filter_map(trial).collect()
}

/// A table as whoever follows a source keeps it.
#[derive(Debug, Clone)]
struct Kept {
    name: String,
    place: TablePlace,
    facts: connect::TableFacts,
    load: Load,
    /// Rows by their keys; of a table without one how often each is there.
    rows: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    /// Keys that were brought since the load began again.
    marks: Option<BTreeSet<Vec<u8>>>,
    rejects: BTreeMap<Vec<u8>, String>,
}

#[derive(Debug, Clone, Default)]
struct House {
    tables: BTreeMap<TableId, Kept>,
    position: Option<Position>,
}

struct BrokerDriver {
    runtime: Runtime,
    port: u16,
    /// The stand-in, where it is no real broker.
    stand_in: Option<MockCluster<'static, DefaultProducerContext>>,
    word: String,
    source: Arc<dyn Source>,
    house: House,
    /// As it was after the first batch since the start.
    early: Option<House>,
    running: Option<(Receiver<SourceEvent>, Control)>,
    state: (SourceState, String),
    registry: Registry,
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

impl BrokerDriver {
    /// By the port of a broker; none: of a stand-in.
    fn new(port: Option<u16>, name: &str) -> Result<Self, String> {
        let (port, stand_in) = match port {
            Some(port) => (port, None),
            None => {
                let stand_in = MockCluster::new(1).map_err(text)?;
                let port = stand_in.bootstrap_servers().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                (port.ok_or("no port")?, Some(stand_in))
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(text)?;
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_err(text)?;
        let kind = KINDS.iter().find(|kind| kind.is_of("kafka")).ok_or("no kind")?;
        let registry = match name.starts_with("registry") {
            true => Registry::real(runtime.handle()),
            false => Registry::start(runtime.handle()),
        }?;
        let brokers = json!(format!("127.0.0.1:{port}"));
        let values = [("brokers".to_owned(), brokers), ("schema_registry".to_owned(), json!(registry.url()))].into();
        let settings = Settings { connection: "bus".to_owned(), kind: "kafka".to_owned(), values };
        let source = runtime.block_on(kind.open(&settings)).map_err(|failure| failure.text())?;
        Ok(Self {
            runtime,
            port,
            stand_in,
            word: format!("in_{name}_{}", now.as_micros()),
            source,
            house: House::default(),
            early: None,
            running: None,
            state: (SourceState::Connecting, String::new()),
            registry,
        })
    }

    fn stand_in(&self) -> Result<&MockCluster<'static, DefaultProducerContext>, String> {
        self.stand_in.as_ref().ok_or_else(|| "this case has a real broker".to_owned())
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", format!("127.0.0.1:{}", self.port));
        client
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, String> {
        self.client().create().map_err(text)
    }

    fn answer(&mut self, block: &Block) -> Result<String, String> {
        let told = |text: &String| self.registry.told(&text.replace("$T", &self.word));
        let arguments: Vec<String> = block.arguments.iter().map(told).collect();
        let body = told(&block.body);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let options = AdminOptions::new();
        match (block.directive.as_str(), &words[..]) {
            ("topic", [name, partitions]) if self.stand_in.is_some() => {
                let made = self.stand_in()?.create_topic(name, partitions.parse().map_err(text)?, 1);
                made.map(|()| String::new()).map_err(text)
            }
            ("fails", [how]) => {
                let error = match *how {
                    "denied" => RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
                    "damaged" => RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_MSG,
                    other => return Err(format!("what is `{other}`?")),
                };
                self.stand_in()?.request_errors(RDKafkaApiKey::Fetch, &[error; 10_000]);
                Ok(String::new())
            }
            ("mend", []) => {
                self.stand_in()?.clear_request_errors(RDKafkaApiKey::Fetch);
                Ok(String::new())
            }
            (leads @ ("leaderless" | "led"), [name, partition]) => {
                let leader = (leads == "led").then_some(1);
                let set = self.stand_in()?.partition_leader(name, partition.parse().map_err(text)?, leader);
                set.map(|()| String::new()).map_err(text)
            }
            ("topic", [name, partitions]) => {
                let count = partitions.parse().map_err(text)?;
                let admin = self.admin()?;
                // One of the name that was dropped goes by and by.
                self.until_done(async || {
                    let topic = NewTopic::new(name, count, TopicReplication::Fixed(1));
                    let made = admin.create_topics(&[topic], &AdminOptions::new()).await.map_err(text)?;
                    made.into_iter().try_for_each(|made| made.map(drop).map_err(|(_, code)| text(code)))
                })
            }
            ("drop", [name]) => {
                let admin = self.admin()?;
                let gone = self.runtime.block_on(admin.delete_topics(&[name], &options)).map_err(text)?;
                gone.into_iter().try_for_each(|gone| gone.map(drop).map_err(|(_, code)| text(code)))?;
                Ok(String::new())
            }
            ("partitions", [name, count]) => {
                let more = NewPartitions::new(name, count.parse().map_err(text)?);
                let admin = self.admin()?;
                let made = self.runtime.block_on(admin.create_partitions(&[more], &options)).map_err(text)?;
                made.into_iter().try_for_each(|made| made.map(drop).map_err(|(_, code)| text(code)))?;
                Ok(String::new())
            }
            ("forget", [name, partition, offset]) => {
                let mut list = TopicPartitionList::new();
                let offset = Offset::Offset(offset.parse().map_err(text)?);
                list.add_partition_offset(name, partition.parse().map_err(text)?, offset).map_err(text)?;
                let admin = self.admin()?;
                self.runtime.block_on(admin.delete_records(&list, &options)).map_err(text)?;
                Ok(String::new())
            }
            ("write", [name]) => self.write(name, &body, None),
            ("transaction", [name, "commit"]) => self.write(name, &body, Some(true)),
            ("transaction", [name, "abort"]) => self.write(name, &body, Some(false)),
            ("table", [id, name]) => self.table(id.parse().map_err(text)?, name, &body),
            ("columns", [id]) => {
                let id = TableId(id.parse().map_err(text)?);
                Ok(self.house.tables.get(&id).map(|table| table.facts.schema.to_string()).unwrap_or_default())
            }
            ("start", []) => self.start(),
            ("stop", []) => self.stop(),
            ("back", []) => {
                self.stop()?;
                if let Some(early) = self.early.take() {
                    self.house = early;
                }
                Ok(String::new())
            }
            ("caught", ["up"]) => self.caught_up(),
            ("until", [..]) => {
                let wanted = words.join(" ");
                let is_it = |driver: &Self| driver.state.0 == SourceState::Stalled && driver.state.1.contains(&wanted);
                self.wait_for(is_it)?;
                Ok(self.masked(&self.state.1))
            }
            ("goes", ["on"]) => {
                self.wait_for(|driver| driver.state.0 == SourceState::Streaming)?;
                Ok(String::new())
            }
            ("reload", [id]) => {
                let id = TableId(id.parse().map_err(text)?);
                match &self.running {
                    Some((_, control)) if self.state.0 != SourceState::Stalled => {
                        control.reload([id], "asked for by hand");
                        let is_begun =
                            |driver: &Self| driver.house.tables.get(&id).is_some_and(|t| t.load != Load::Complete);
                        self.wait_for(is_begun)?;
                    }
                    // As whoever follows the source does where it does not go on.
                    _ => {
                        self.stop()?;
                        self.house.reload(id);
                        self.start()?;
                    }
                }
                Ok(String::new())
            }
            ("registry", words) => self.registry.act(words),
            ("schema", [name, subject]) => self.registry.schema(name, subject, &body),
            ("doctor", []) => {
                let places: Vec<TablePlace> = self.house.tables.values().map(|table| table.place.clone()).collect();
                let checks = self.runtime.block_on(self.source.doctor(&places));
                let line = |check: connect::Check| {
                    let outcome = match check.outcome {
                        CheckOutcome::Ok => "ok",
                        CheckOutcome::Warning => "warning",
                        CheckOutcome::Failed => "failed",
                    };
                    self.masked(&format!("{outcome} {}: {} {}", check.name, check.message, check.detail))
                };
                Ok(checks.into_iter().map(line).map(|line| format!("{}\n", line.trim_end())).collect())
            }
            (other, words) => Err(format!("unknown directive {other} {words:?}")),
        }
    }

    fn masked(&self, text: &str) -> String {
        self.registry.masked(text).replace(&self.word, "$T").replace(&self.port.to_string(), "$PORT")
    }

    /// Tries something until it is done.
    fn until_done(&self, mut act: impl AsyncFnMut() -> Result<(), String>) -> Result<String, String> {
        let tries = async {
            loop {
                match act().await {
                    Ok(()) => return,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let done = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, tries).await });
        done.map(|()| String::new()).map_err(|_| "it cannot be done".to_owned())
    }

    fn write(&self, topic: &str, body: &str, transaction: Option<bool>) -> Result<String, String> {
        let mut settings = self.client();
        settings.set("linger.ms", "0");
        if transaction.is_some() {
            settings.set("transactional.id", format!("{topic}_writer"));
        }
        let producer: FutureProducer = settings.create().map_err(text)?;
        if transaction.is_some() {
            producer.init_transactions(PATIENCE).map_err(text)?;
            producer.begin_transaction().map_err(text)?;
        }
        for line in body.lines() {
            let (partition, rest) = line.split_once(' ').ok_or("P KEY => VALUE")?;
            let (key, value) = rest.split_once(" => ").ok_or("P KEY => VALUE")?;
            let (partition, key, value) = (partition.parse::<i32>().map_err(text)?, part(key), part(value));
            // A partition that was made a moment ago comes to be known by and by.
            self.until_done(async || {
                let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).partition(partition);
                (record.key, record.payload) = (key.as_deref(), value.as_deref());
                producer.send(record, PATIENCE).await.map(drop).map_err(|(error, _)| text(error))
            })?;
        }
        match transaction {
            Some(true) => producer.commit_transaction(PATIENCE).map_err(text)?,
            Some(false) => producer.abort_transaction(PATIENCE).map_err(text)?,
            None => {}
        }
        Ok(String::new())
    }

    fn table(&mut self, id: u32, name: &str, body: &str) -> Result<String, String> {
        let mut declared = Declared::default();
        for line in body.lines() {
            match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
                ["meta", key, value] => drop(declared.meta.insert(key.to_owned(), value.to_owned())),
                ["column", name, written] => declared.columns.push(DeclaredColumn {
                    name: name.to_owned(),
                    data_type: written.parse().ok(),
                    written: written.to_owned(),
                }),
                _ => return Err(format!("`{line}` is neither `meta KEY JSON` nor `column NAME TYPE`")),
            }
        }
        let place = TablePlace { name: name.to_owned(), declared, ..TablePlace::default() };
        let there = self.runtime.block_on(until_there(&*self.source, std::slice::from_ref(&place), Duration::ZERO));
        let (_, facts) = there.into_iter().next().ok_or("it is not there")?;
        let kept = Kept {
            name: name.to_owned(),
            place,
            facts,
            load: Load::Pending { cursor: None },
            rows: BTreeMap::new(),
            marks: None,
            rejects: BTreeMap::new(),
        };
        self.house.tables.insert(TableId(id), kept);
        Ok(String::new())
    }

    fn start(&mut self) -> Result<String, String> {
        let followed = |(id, kept): (&TableId, &Kept)| FollowedTable {
            id: *id,
            place: kept.place.clone(),
            facts: kept.facts.clone(),
            load: kept.load.clone(),
        };
        let tables: Vec<FollowedTable> = self.house.tables.iter().map(followed).collect();
        let _entered = self.runtime.enter();
        self.running = Some(self.source.start(tables, self.house.position.clone(), Limits::default()));
        (self.state, self.early) = ((SourceState::Connecting, String::new()), None);
        Ok(String::new())
    }

    fn stop(&mut self) -> Result<String, String> {
        if let Some((events, control)) = self.running.take() {
            drop(events);
            self.runtime.block_on(control.stop());
        }
        Ok(String::new())
    }

    /// Takes what the source says until something is so.
    fn wait_for(&mut self, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        while !is_so(self) {
            let Some((events, _)) = &mut self.running else { return Err("it does not run".to_owned()) };
            let next = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, events.recv()).await });
            match next {
                Ok(Some(SourceEvent::Batch(batch))) => {
                    self.house.take(&batch)?;
                    self.early.get_or_insert_with(|| self.house.clone());
                }
                Ok(Some(SourceEvent::State(state, reason))) => self.state = (state, reason),
                Ok(Some(SourceEvent::Reload { table, .. })) => self.house.reload(table),
                Ok(Some(SourceEvent::Failed(failure))) => return Err(failure.text()),
                Ok(Some(_)) => {}
                Ok(None) => return Err("the source has ended".to_owned()),
                Err(_) => return Err(format!("it takes too long: {:?}, {}", self.state, self.house.shown())),
            }
        }
        Ok(())
    }

    fn caught_up(&mut self) -> Result<String, String> {
        let end = self.runtime.block_on(self.source.current_position()).map_err(|failure| failure.text())?;
        let end = end.ok_or("there is no end")?;
        let source = Arc::clone(&self.source);
        self.wait_for(|driver| {
            let is_loaded = driver.house.tables.values().all(|table| table.load == Load::Complete);
            let here = driver.house.position.as_ref();
            is_loaded && here.is_some_and(|here| source.reached(here, &end).unwrap_or(false))
        })?;
        Ok(self.masked(&self.house.shown()))
    }
}

impl Driver for BrokerDriver {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        self.answer(block)
    }

    fn finish(&mut self) -> Result<(), String> {
        self.stop().map(drop)
    }
}

impl House {
    fn reload(&mut self, table: TableId) {
        if let Some(kept) = self.tables.get_mut(&table) {
            kept.load = Load::Pending { cursor: None };
            kept.marks = Some(BTreeSet::new());
            kept.rejects.clear();
        }
    }

    fn take(&mut self, batch: &SourceBatch) -> Result<(), String> {
        for (id, changes) in &batch.tables {
            let kept = self.tables.get_mut(id).ok_or("rows of no table")?;
            let (layout, key) = (Layout::new(kept.facts.schema.types()), kept.facts.schema.key.clone());
            if changes.truncated {
                kept.rows.clear();
            }
            for entry in changes.entries() {
                match entry {
                    Entry::Unread(bytes, _) => {
                        let unread = Unread::read(bytes).map_err(text)?;
                        kept.rows.remove(&unread.key);
                        let known = if unread.key.is_empty() { unread.image.to_vec() } else { unread.key };
                        kept.rejects.insert(known, format!("{} {}", unread.position, unread.reason));
                    }
                    Entry::Row(row, weight) if key.is_empty() => {
                        let count = &mut kept.rows.entry(row.to_vec()).or_insert((row.to_vec(), 0)).1;
                        *count = count.checked_add_signed(i32::from(weight)).ok_or("fewer rows than none")?;
                    }
                    Entry::Row(row, weight) => {
                        if !changes.by_key {
                            return Err("a keyed table is told by key".to_owned());
                        }
                        let mut known = Vec::new();
                        relation::key::push_row(&mut known, &layout, row, &key);
                        kept.rejects.remove(&known);
                        kept.marks.iter_mut().for_each(|marks| marks.extend([known.clone()]));
                        match weight {
                            1 => drop(kept.rows.insert(known, (row.to_vec(), 1))),
                            _ => drop(kept.rows.remove(&known)),
                        }
                    }
                }
            }
        }
        for chunk in &batch.chunks {
            let kept = self.tables.get_mut(&chunk.table).ok_or("a chunk of no table")?;
            let is_bag = kept.facts.schema.key.is_empty();
            if is_bag && kept.load == (Load::Pending { cursor: None }) && kept.marks.is_some() {
                kept.rows.clear();
            }
            kept.load = match chunk.complete {
                false => Load::Pending { cursor: Some(chunk.cursor.clone()) },
                true => Load::Complete,
            };
            if let Some(marks) = kept.marks.take_if(|_| chunk.complete) {
                kept.rows.retain(|key, _| is_bag || marks.contains(key));
            }
        }
        self.position = Some(batch.position.clone());
        Ok(())
    }

    fn shown(&self) -> String {
        let mut out = String::new();
        for kept in self.tables.values() {
            let layout = Layout::new(kept.facts.schema.types());
            for (row, count) in kept.rows.values() {
                let values: Vec<String> = layout.values(row).iter().map(ToString::to_string).collect();
                let times = if *count == 1 { String::new() } else { format!(" ×{count}") };
                out.push_str(&format!("{} {}{times}\n", kept.name, values.join(" ")));
            }
            let rejects: BTreeSet<&String> = kept.rejects.values().collect();
            rejects.into_iter().for_each(|reject| out.push_str(&format!("{} ! {reject}\n", kept.name)));
        }
        out
    }
}
