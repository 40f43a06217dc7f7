//! Cases of destinations. Those in `tests/cases/destination` reach for nobody; those in `tests/servers` run against real servers, with
//! `SLOW=1`: PostgreSQL, MySQL, MariaDB and Kafka by the addresses of `scripts/services`, and a Redis of each case's own.
//!
//! ```text
//! relation                      its columns, a line each: NAME TYPE [key]
//! sync NAME                     what is delivered where, a line each:
//!     to {JSON}                 the keys of `to`; $S is the case's own schema or database
//!     match TARGET=COLUMN …  fields TARGET=COLUMN …
//! connection KIND [KEY=VALUE …] who is reached for; values are JSON or texts. Cases of servers have it, and change what is given
//!                               with $S, $CA (a certificate), $TLS (the port for TLS of Redis and Kafka), $LOGIN (of Kafka)
//! check                         what can be told without reaching for anybody
//! doctor                        what is told by reaching
//! begin [ROWS]                  takes over, as who believes that so many rows are there; prints the marker, or what was lost
//! deliver MARKER [STEP]         a line each: `+ VALUE | VALUE …`, `- KEYVALUE | …`; prints what became of each
//!     many N                    so many rows at once: `+` and `-` lines with $N in them
//! look                          whether all is there as it was left
//! look until found              the same until it is not, for half a minute at most: what is not committed yet holds back what is
//! server                        statements, or commands of Redis or of `kafka`, a line each, by somebody else; prints their answers
//! cut before|after              the connection is lost at the next COMMIT: before it reaches the server, or its answer us
//! cut answers                   … and all answers of scripts from now on are lost (Redis)
//! stand-in TOPIC …              the C client's own stand-in for two brokers of Kafka takes the place of the server, with these topics
//! refuses / takes               … they take no message, as if too few of them were there; or take them again
//! kill, start                   Redis, or a Kafka of the case's own (`own-*.case`), is killed, and started with what it has kept
//! registry start                a schema registry of the case's own, and what it is told ([`crate::registry`]); its connection knows it
//! second                        from here on another session, with the same sync
//! first                         … and the first one again
//! ```

#![allow(clippy::unwrap_used, reason = "test code: a panic fails the case")]

mod kafka;
mod property;
mod proxy;
pub(crate) mod there;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use connect::destination::{Down, Item, Mapping, Outcome, Portion, Target, kind_of};
use connect::{Check, CheckOutcome, Destination, Failure, Settings};
use libtest_mimic::{Failed, Trial};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use relation::{Column, DataType, Rows, Schema, Value};
use serde_json::Value as Json;
use testkit::{Block, Driver};
use tokio::runtime::Runtime;

use crate::registry::Registry;
use proxy::{Cut, Proxy};
use there::There;

/// Trials against real servers, for those that there are; none without `SLOW=1`.
pub(crate) fn trials() -> Vec<Trial> {
    if std::env::var_os("SLOW").is_none_or(|v| v != "1") {
        return Vec::new();
    }
    let mut trials = property::trials();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers");
    for path in testkit::case_files(&root) {
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let case = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for server in there::SERVERS.into_iter().filter(|server| there::is_there(server)) {
            // A case of MySQL is one of MariaDB too, unless its name says otherwise.
            let is_of = match server {
                "mysql" => folder == "mysql" && !case.ends_with("-mariadb"),
                "mariadb" => folder == "mysql" && !case.ends_with("-mysql"),
                other => folder == other,
            };
            let lacks_registry = case.starts_with("registry") && !crate::registry::is_there();
            if is_of && !lacks_registry {
                let (path, name) = (path.clone(), format!("{server}/{case}"));
                trials.push(Trial::test(format!("server/{name}"), move || {
                    let mut driver = DestinationDriver::on(server, &name).map_err(Failed::from)?;
                    testkit::check(&path, &mut driver).map_err(Failed::from)
                }));
            }
        }
    }
    trials
}

/// A case.
pub(crate) struct DestinationDriver {
    runtime: Runtime,
    there: Option<There>,
    proxy: Option<Proxy>,
    registry: Option<Registry>,
    stand_in: Option<MockCluster<'static, DefaultProducerContext>>,
    settings: Settings,
    schema: Schema,
    target: Option<Target>,
    /// The sessions, and which of them is meant.
    sessions: [Option<Box<dyn Destination>>; 2],
    session: usize,
}

impl Default for DestinationDriver {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self {
            runtime,
            there: None,
            proxy: None,
            registry: None,
            stand_in: None,
            settings: Settings::default(),
            schema: Schema::default(),
            target: None,
            sessions: [None, None],
            session: 0,
        }
    }
}

impl DestinationDriver {
    /// A case on a real server, with a place of its own there.
    fn on(server: &'static str, name: &str) -> Result<Self, String> {
        let mut driver = Self::default();
        let there = driver.runtime.block_on(There::prepare(server, name))?;
        let proxy = driver.runtime.block_on(Proxy::start(there.port(), server == "postgres"))?;
        driver.settings = there.settings(proxy.port);
        driver.there = Some(there);
        driver.proxy = Some(proxy);
        Ok(driver)
    }

    fn there(&mut self) -> Result<&mut There, String> {
        self.there.as_mut().ok_or_else(|| "this case has no server".to_owned())
    }

    fn target(&self) -> Result<&Target, String> {
        self.target.as_ref().ok_or_else(|| "there is no sync yet".to_owned())
    }

    /// What is the same in every run.
    fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(there) = &self.there {
            text = text.replace(&there.place(), "$S").replace(&there.port().to_string(), "$PORT");
        }
        if let Some(There::Redis { tls_port, .. }) = &self.there {
            text = text.replace(&tls_port.to_string(), "$PORT");
        }
        if let Some(There::Kafka(broker)) = &self.there {
            text = text.replace(&broker.login_port.to_string(), "$PORT").replace(&broker.tls_port.to_string(), "$PORT");
            text = untimed(&text);
        }
        if let Some(proxy) = &self.proxy {
            text = text.replace(&proxy.port.to_string(), "$PORT");
        }
        if let Some(registry) = &self.registry {
            text = registry.masked(&text);
        }
        let brokers = self.stand_in.as_ref().map(MockCluster::bootstrap_servers).unwrap_or_default();
        for (_, port) in brokers.split(',').filter_map(|broker| broker.rsplit_once(':')) {
            text = text.replace(port, "$PORT");
        }
        text
    }

    fn relation(&mut self, body: &str) -> Result<(), String> {
        self.schema = Schema::default();
        for line in body.lines() {
            let (name, rest) = line.split_once(' ').ok_or("NAME TYPE")?;
            let (data_type, is_key) = match rest.strip_suffix(" key") {
                Some(data_type) => (data_type, true),
                None => (rest, false),
            };
            if is_key {
                self.schema.key.push(self.schema.columns.len());
            }
            let data_type = data_type.parse::<DataType>().map_err(|e| e.to_string())?;
            self.schema.columns.push(Column::new(name, data_type));
        }
        Ok(())
    }

    fn stand_in(&mut self, topics: &[String]) -> Result<(), String> {
        let text = |error: rdkafka::error::KafkaError| error.to_string();
        let cluster = MockCluster::new(2).map_err(text)?;
        topics.iter().try_for_each(|topic| cluster.create_topic(topic, 1, 2)).map_err(text)?;
        topics.iter().try_for_each(|topic| cluster.partition_leader(topic, 0, Some(1))).map_err(text)?;
        // Who asks as somebody else asks there too.
        let port = cluster.bootstrap_servers().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        if let (Some(There::Kafka(broker)), Some(port)) = (&mut self.there, port) {
            broker.port = port;
        }
        let brokers = Json::from(cluster.bootstrap_servers().split(',').collect::<Vec<_>>());
        let values = [("brokers".to_owned(), brokers)].into();
        self.settings = Settings { connection: "there".to_owned(), kind: "kafka".to_owned(), values };
        self.stand_in = Some(cluster);
        self.sessions = [None, None];
        Ok(())
    }

    fn refuses(&self, is_so: bool) -> Result<(), String> {
        let cluster = self.stand_in.as_ref().ok_or("there is no stand-in")?;
        cluster.clear_request_errors(RDKafkaApiKey::Produce);
        if is_so {
            let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
            cluster.request_errors(RDKafkaApiKey::Produce, &[error; 10_000]);
        }
        Ok(())
    }

    fn sync(&mut self, name: &str, body: &str) -> Result<String, String> {
        let place = self.there.as_ref().map(There::place).unwrap_or_default();
        let (mut to, mut matched, mut fields) = (BTreeMap::new(), Vec::new(), None);
        let pairs = |words: &str| -> Vec<(String, String)> {
            let pair = |word: &str| word.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
            words.split_whitespace().filter_map(pair).collect()
        };
        for line in body.lines() {
            match line.split_once(' ') {
                Some(("to", json)) => {
                    to = serde_json::from_str(&json.replace("$S", &place)).map_err(|e| e.to_string())?;
                }
                Some(("match", words)) => matched = pairs(words),
                Some(("fields", words)) => fields = Some(pairs(words)),
                _ => return Err(format!("what is `{line}`?")),
            }
        }
        self.sessions = [None, None];
        match Mapping::of(&self.schema, &matched, fields.as_deref()) {
            Ok(mapping) => {
                // All cases of one Kafka leave their marks in one place.
                let sync = match &self.there {
                    Some(There::Kafka(_)) => format!("{place}.{name}"),
                    _ => name.to_owned(),
                };
                self.target = Some(Target { sync, to, mapping, deletes: true });
                Ok(String::new())
            }
            Err(problems) => {
                let told: Vec<String> = problems.iter().map(|problem| format!("{:?}: {problem}", problem.at)).collect();
                Ok(told.join("\n"))
            }
        }
    }

    fn connection(&mut self, words: &[String]) -> Result<(), String> {
        let (kind, words) = words.split_first().ok_or("a kind")?;
        if self.there.is_none() {
            self.settings = Settings { connection: "there".to_owned(), kind: kind.clone(), ..Settings::default() };
        }
        for word in words {
            let mut word = word.replace("$S", &self.there.as_ref().map(There::place).unwrap_or_default());
            if let Some(ca) = there::authority() {
                word = word.replace("$CA", &ca.display().to_string());
            }
            if let Some(There::Kafka(broker)) = &self.there {
                word = word.replace("$TLS", &broker.tls_port.to_string());
                word = word.replace("$LOGIN", &broker.login_port.to_string());
            }
            if let Some(There::Redis { tls_port, .. }) = &self.there {
                word = word.replace("$TLS", &tls_port.to_string());
            }
            let (key, value) = word.split_once('=').ok_or("KEY=VALUE")?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Json::from(value));
            self.settings.values.insert(key.to_owned(), value);
        }
        self.sessions = [None, None];
        Ok(())
    }

    fn check(&self) -> Result<String, String> {
        let kind = kind_of(&self.settings.kind).ok_or("no such kind")?;
        let mut told: Vec<String> = kind.check_settings(&self.settings).err().iter().map(failure).collect();
        if let Some(target) = &self.target {
            let problems = kind.check(target).into_iter().chain(kind.lacks(&self.settings, target));
            told.extend(problems.map(|problem| format!("{:?}: {problem}", problem.at)));
        }
        Ok(told.join("\n"))
    }

    fn doctor(&self) -> Result<String, String> {
        let kind = kind_of(&self.settings.kind).ok_or("no such kind")?;
        let targets = self.target.iter().cloned().collect();
        let checks = self.runtime.block_on(kind.doctor(&self.settings, targets));
        Ok(checks.iter().map(check).collect::<Vec<_>>().join("\n"))
    }

    fn begin(&mut self, rows: u64) -> Result<String, String> {
        let kind = kind_of(&self.settings.kind).ok_or("no such kind")?;
        let target = self.target()?.clone();
        let mut session = match self.sessions[self.session].take() {
            Some(session) => session,
            None => match self.runtime.block_on(kind.open(&self.settings, target)) {
                Ok(session) => session,
                Err(error) => return Ok(failure(&error)),
            },
        };
        let begun = self.runtime.block_on(session.begin(rows));
        self.sessions[self.session] = Some(session);
        Ok(match begun {
            Err(error) => down(&error),
            Ok(begun) => match (begun.marker, begun.lost) {
                (_, Some(reason)) => format!("lost: {reason}"),
                (Some(marker), None) => format!("marker {}", String::from_utf8_lossy(&marker)),
                (None, None) => "no marker".to_owned(),
            },
        })
    }

    fn deliver(&mut self, marker: &str, step: u64, body: &str) -> Result<String, String> {
        let mapping = self.target()?.mapping.clone();
        let (mut lines, mut many) = (body.lines().peekable(), None);
        if let Some(count) = lines.peek().and_then(|line| line.strip_prefix("many ")) {
            many = Some(count.parse::<usize>().map_err(|e| e.to_string())?);
            lines.next();
        }
        let mut portion = Portion::new(step);
        for line in lines {
            for n in 1..=many.unwrap_or(1) {
                self.push(&mut portion, &mapping, &line.replace("$N", &n.to_string()))?;
            }
        }
        let session = self.sessions[self.session].as_mut().ok_or("begin first")?;
        // The marker that is written tells what has become of the items.
        let seal = |outcomes: &[Outcome]| {
            let refused = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Refused(_))).count();
            format!("{marker}:{}/{refused}", outcomes.len()).into_bytes()
        };
        let portion = Arc::new(portion);
        let outcomes = match self.runtime.block_on(session.deliver(&portion, &seal)) {
            Ok(outcomes) => outcomes,
            Err(error) => return Ok(down(&error)),
        };
        if outcomes.len() != portion.len() {
            return Err(format!("{} outcomes of {} items", outcomes.len(), portion.len()));
        }
        let told = |(at, outcome): (usize, &Outcome)| {
            let key: Vec<String> = mapping.key_values(portion.get(at)).iter().map(ToString::to_string).collect();
            let is_right = matches!(
                (outcome, portion.get(at)),
                (Outcome::Accepted, Item::Upsert(_)) | (Outcome::Removed, Item::Delete(_)) | (Outcome::Refused(_), _)
            );
            match outcome {
                _ if !is_right => format!("{}: {outcome:?}, which it cannot be", key.join(" ")),
                Outcome::Refused(of) => format!("{}: refused {}: {}", key.join(" "), of.code, of.reason),
                taken => format!("{}: {}", key.join(" "), format!("{taken:?}").to_lowercase()),
            }
        };
        let told: Vec<String> = outcomes.iter().enumerate().map(told).collect();
        if many.is_none() {
            return Ok(told.join("\n"));
        }
        // Of many those alone that are refused.
        let refused: Vec<&str> = told.iter().map(String::as_str).filter(|line| line.contains(": refused ")).collect();
        let taken = told.len() - refused.len();
        Ok(std::iter::once(format!("{taken} taken").as_str()).chain(refused).collect::<Vec<_>>().join("\n"))
    }

    fn push(&self, portion: &mut Portion, mapping: &Mapping, line: &str) -> Result<(), String> {
        let (sign, rest) = line.split_at_checked(2).ok_or("+ or -")?;
        let texts: Vec<&str> = rest.split(" | ").collect();
        let types: Vec<DataType> = match sign {
            "+ " => self.schema.types(),
            "- " => self.schema.key.iter().map(|&at| self.schema.columns[at].data_type).collect(),
            _ => return Err(format!("what is `{line}`?")),
        };
        if types.len() != texts.len() {
            return Err(format!("{} values are wanted in `{line}`", types.len()));
        }
        let value = |(data_type, text): (&DataType, &&str)| match text.strip_prefix("REPEAT ") {
            // A text that is too long for a line.
            Some(count) => count.parse().map(|count| Value::Text("x".repeat(count))).map_err(|e| e.to_string()),
            None => Value::parse(*data_type, &text.replace("\\0", "\0")).map_err(|e| e.to_string()),
        };
        let values: Vec<Value> = types.iter().zip(&texts).map(value).collect::<Result<_, _>>()?;
        if sign == "- " {
            return portion.delete_values(mapping, &values).map_err(|e| e.to_string());
        }
        let mut rows = Rows::new();
        rows.push_values(mapping.layout(), &values).map_err(|e| e.to_string())?;
        portion.upsert(rows.get(0));
        Ok(())
    }
}

/// A text without the times at which messages were written.
fn untimed(text: &str) -> String {
    let mut text = text.to_owned();
    for key in ["\"ts\":", "\"ts_ms\":"] {
        let mut parts = text.split(key);
        let first = parts.next().unwrap_or_default().to_owned();
        let rest: String =
            parts.map(|part| format!("{key}$T{}", part.trim_start_matches(|c: char| c.is_ascii_digit()))).collect();
        text = first + &rest;
    }
    text
}

fn failure(of: &Failure) -> String {
    let mut text = of.message.clone();
    for (label, part) in [("Detail", &of.detail), ("Hint", &of.hint)] {
        if !part.is_empty() {
            text.push_str(&format!("\n{label}: {part}"));
        }
    }
    text
}

fn down(of: &Down) -> String {
    let whose = if of.is_ours { "ours" } else { "for now" };
    format!("down ({whose}): {}", failure(&of.failure))
}

fn check(of: &Check) -> String {
    let outcome = match of.outcome {
        CheckOutcome::Ok => "ok",
        CheckOutcome::Warning => "warning",
        CheckOutcome::Failed => "failed",
    };
    let of_check = Failure { message: of.message.clone(), detail: of.detail.clone(), hint: of.hint.clone() };
    format!("{outcome} {}: {}", of.name, failure(&of_check))
}

impl Driver for DestinationDriver {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        let argument = block.arguments.first().map(String::as_str);
        let said = match (block.directive.as_str(), argument) {
            ("relation", None) => self.relation(&block.body).map(|()| String::new()),
            ("sync", Some(name)) => self.sync(name, &block.body),
            ("connection", Some(_)) => self.connection(&block.arguments).map(|()| String::new()),
            ("check", None) => self.check(),
            ("doctor", None) => self.doctor(),
            ("begin", rows) => self.begin(rows.and_then(|rows| rows.parse().ok()).unwrap_or(0)),
            ("deliver", Some(marker)) => {
                let step = block.arguments.get(1).and_then(|step| step.parse().ok()).unwrap_or(1);
                self.deliver(marker, step, &block.body)
            }
            ("look", until) => {
                let Self { runtime, sessions, session, .. } = self;
                let session = sessions[*session].as_mut().ok_or("nothing has begun")?;
                let again = std::time::Duration::from_millis(100);
                let mut tries = if until == Some("until") { 300 } else { 1 };
                loop {
                    tries -= 1;
                    match runtime.block_on(session.look()) {
                        Err(of) => break Ok(down(&of)),
                        Ok(()) if tries == 0 => break Ok("as it was left".to_owned()),
                        Ok(()) => runtime.block_on(tokio::time::sleep(again)),
                    }
                }
            }
            ("server", None) => {
                let Self { runtime, there, .. } = self;
                let there = there.as_mut().ok_or("this case has no server")?;
                let body = block.body.replace("$S", &there.place());
                runtime.block_on(there.ask(&body))
            }
            ("cut", Some(when)) => {
                let cut = match when {
                    "before" => Cut::Before,
                    "after" => Cut::After,
                    "answers" => Cut::Answers,
                    other => return Err(format!("cut {other}?")),
                };
                self.proxy.as_ref().ok_or("this case has no server")?.arm(cut);
                Ok(String::new())
            }
            ("stand-in", Some(_)) => self.stand_in(&block.arguments).map(|()| String::new()),
            ("refuses" | "takes", None) => self.refuses(block.directive == "refuses").map(|()| String::new()),
            ("kill", None) => self.there()?.kill().map(|()| String::new()),
            ("start", None) => {
                let Self { runtime, there, .. } = self;
                let there = there.as_mut().ok_or("this case has no server")?;
                runtime.block_on(there.start()).map(|()| String::new())
            }
            ("registry", Some(_)) => {
                let place = self.there.as_ref().map(There::place).unwrap_or_default();
                let words: Vec<String> = block.arguments.iter().map(|word| word.replace("$S", &place)).collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                match (&words[..], &mut self.registry) {
                    (["start" | "real"], _) => {
                        let runtime = self.runtime.handle();
                        let started =
                            if words == ["real"] { Registry::real(runtime) } else { Registry::start(runtime) };
                        let registry = started?;
                        self.settings.values.insert("schema_registry".to_owned(), registry.url().into());
                        self.registry = Some(registry);
                        Ok(String::new())
                    }
                    (_, Some(registry)) => registry.act(&words),
                    (_, None) => Err("there is no registry".to_owned()),
                }
            }
            ("first" | "second", None) => {
                self.session = usize::from(block.directive == "second");
                Ok(String::new())
            }
            (other, _) => return Err(format!("unknown directive `{other}`")),
        };
        said.map(|said| self.masked(&said))
    }

    fn finish(&mut self) -> Result<(), String> {
        for session in self.sessions.iter_mut().filter_map(Option::take) {
            self.runtime.block_on(session.close());
        }
        Ok(())
    }
}
