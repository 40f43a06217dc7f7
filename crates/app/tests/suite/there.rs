//! Where syncs deliver to: a place of the case's own in a real server, behind a way that can be cut.
//!
//! ```text
//! there NAME KIND           postgres, mysql, mariadb: a database that is made anew; redis: a server of its own; kafka: a name that no topic
//!                           has; debezium: connectors of Kafka Connect. In bodies `$NAME_PORT`, `$NAME_DATABASE` and `$NAME_USER` stand for its own,
//!                           with the name in capitals
//! at NAME                   asks it, by its own client: rows, their values parted by ` | `; of redis a reply for each line; of kafka
//!                           `read TOPIC`, its committed messages, `fold TOPIC`, what stands under each key, `has TOPIC N`, whether it has so
//!                           many messages, `doubles TOPIC`, how many say what the one before of their key has said, `keys TOPIC`, how
//!                           many keys there are, and how many have each `word` in what stands there, `write TOPIC PARTITION KEY => VALUE`,
//!                           a message more, and `many TOPIC FROM TO KEY => VALUE`, one for each number, which `%` stands for; of debezium
//!                           the settings of a connector, which begins, or `state` of those of the case
//! delivered NAME            the same until the answer is the expected one
//! way NAME up / down / silent   opens or cuts the way there, as `proxy` does; there is none to kafka, which says itself where it is
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::proxy::Proxy;
use crate::text_of;

/// How long a server of a case's own may take to start.
const START_WAIT: Duration = Duration::from_secs(20);

/// A server, and the place in it that is the case's.
pub(crate) struct There {
    kind: String,
    host: String,
    port: u16,
    user: String,
    database: String,
    way: Proxy,
    /// Where it is the case's own.
    process: Option<Child>,
}

impl Drop for There {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

impl There {
    /// Makes the place anew.
    pub(crate) fn new(kind: &str, case: &str, name: &str, folder: &Path) -> Result<Self, String> {
        let variable = |what: &str| std::env::var(format!("TIDEMILL_TEST_{}_{what}", kind.to_uppercase()));
        let (process, host, port) = match kind {
            "redis" => {
                let (process, port) = redis(folder)?;
                (Some(process), "127.0.0.1".to_owned(), port)
            }
            _ => {
                let port = variable("PORT").map_err(|_| format!("no server {kind}: start it with scripts/services"))?;
                let host = variable("HOST").unwrap_or_else(|_| "127.0.0.1".to_owned());
                (None, host, port.parse().map_err(|_| format!("no port: {port}"))?)
            }
        };
        let way = Proxy::start((host.clone(), port)).map_err(text_of)?;
        way.set("up");
        let user = variable("USER").unwrap_or_else(|_| "root".to_owned());
        let database = match kind {
            "redis" => "0".to_owned(),
            "kafka" | "debezium" => {
                let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_err(text_of)?;
                format!("tidemill_there_{case}_{name}_{}", now.as_micros())
            }
            _ => format!("tidemill_there_{case}_{name}"),
        };
        let there = Self { kind: kind.to_owned(), host, port, user, database, way, process };
        there.forget()?;
        match kind {
            "redis" | "kafka" | "debezium" => {}
            "postgres" => drop(there.told("postgres", &format!("create database {}", there.database))?),
            _ => drop(there.told("", &format!("create database `{}`", there.database))?),
        }
        Ok(there)
    }

    /// Takes the place away.
    pub(crate) fn forget(&self) -> Result<(), String> {
        match self.kind.as_str() {
            "redis" | "kafka" => Ok(()),
            "debezium" => self.connectors()?.iter().try_for_each(|name| self.rest("DELETE", name, "").map(drop)),
            "postgres" => {
                self.told("postgres", &format!("drop database if exists {} with (force)", self.database)).map(drop)
            }
            _ => self.told("", &format!("drop database if exists `{}`", self.database)).map(drop),
        }
    }

    /// The words that stand for it in bodies, and what for.
    pub(crate) fn words(&self, name: &str) -> [(String, String); 3] {
        let name = name.to_uppercase();
        let port = if matches!(self.kind.as_str(), "kafka" | "debezium") { self.port } else { self.way.port };
        [
            (format!("${name}_PORT"), port.to_string()),
            (format!("${name}_DATABASE"), self.database.clone()),
            (format!("${name}_USER"), self.user.clone()),
        ]
    }

    /// Ports that differ from run to run.
    pub(crate) fn ports(&self) -> [u16; 2] {
        [self.way.port, self.port]
    }

    pub(crate) fn way(&self, state: &str) {
        self.way.set(state);
    }

    /// Asks it past the way.
    pub(crate) fn ask(&self, body: &str) -> Result<String, String> {
        match self.kind.as_str() {
            "redis" => {
                let replies = body.lines().map(|line| {
                    let words = line.split_whitespace();
                    output(Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words), "")
                });
                Ok(replies.collect::<Result<Vec<_>, _>>()?.join("\n"))
            }
            "kafka" => {
                let replies = body.lines().map(|line| match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
                    ["write", topic, partition, message] => self.write(topic, partition, message),
                    ["many", topic, from, rest] => self.many(topic, from, rest),
                    ["keys", topic] => self.messages(topic).map(|said| keys(&said)),
                    ["read", topic] => self.messages(topic),
                    ["fold", topic] => self.messages(topic).map(|said| folded(&said)),
                    ["has", topic, many] => {
                        let many: usize = many.parse().map_err(text_of)?;
                        Ok((self.messages(topic)?.lines().count() >= many).to_string())
                    }
                    ["doubles", topic] => self.messages(topic).map(|said| doubles(&said).to_string()),
                    _ => Err(format!("what is `{line}`?")),
                });
                Ok(replies.collect::<Result<Vec<_>, _>>()?.join("\n"))
            }
            "debezium" if body == "state" => {
                let state = |name: &String| self.rest("GET", &format!("{name}/status"), "");
                Ok(self.connectors()?.iter().map(state).collect::<Result<Vec<_>, _>>()?.join("\n"))
            }
            "debezium" => {
                let name = format!("{}-{}", self.database, self.connectors()?.len());
                self.rest("PUT", &format!("{name}/config"), body).map(|_| String::new())
            }
            _ => self.told(&self.database, body),
        }
    }

    /// Connectors of the case.
    fn connectors(&self) -> Result<Vec<String>, String> {
        let names: Vec<String> = serde_json::from_str(&self.rest("GET", "", "")?).map_err(text_of)?;
        Ok(names.into_iter().filter(|name| name.starts_with(&self.database)).collect())
    }

    /// Asks a worker of Kafka Connect about connectors.
    fn rest(&self, method: &str, path: &str, body: &str) -> Result<String, String> {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--noproxy",
            "*",
            "-X",
            method,
            "-H",
            "Content-Type: application/json",
            "-w",
            "\n%{http_code}",
        ]);
        if !body.is_empty() {
            curl.args(["--data-binary", "@-"]);
        }
        let slash = if path.is_empty() { "" } else { "/" };
        let said = output(curl.arg(format!("http://{}:{}/connectors{slash}{path}", self.host, self.port)), body)?;
        let (answer, code) = said.rsplit_once('\n').ok_or("no answer")?;
        if code.starts_with('2') { Ok(answer.to_owned()) } else { Err(format!("{method} {path}: {code} {answer}")) }
    }

    /// The committed messages of a topic, a line each: `KEY = VALUE`, or `KEY = NULL`.
    fn messages(&self, topic: &str) -> Result<String, String> {
        let mut kcat = Command::new("kcat");
        kcat.args(["-C", "-e", "-q", "-Z", "-f", "%k = %s\\n", "-X", "isolation.level=read_committed", "-t", topic]);
        output(kcat.args(["-b", &format!("{}:{}", self.host, self.port)]), "")
    }

    /// Writes a message, `KEY => VALUE`, of which a key that is `-` is none, and `\xHH` in a value is the character of that number.
    fn write(&self, topic: &str, partition: &str, message: &str) -> Result<String, String> {
        let (key, value) = message.split_once(" => ").ok_or("KEY => VALUE")?;
        let mut kcat = Command::new("kcat");
        kcat.args(["-P", "-b", &format!("{}:{}", self.host, self.port), "-t", topic, "-p", partition]);
        if key != "-" {
            kcat.args(["-k", key]);
        }
        let mut parts = value.split("\\x");
        let mut written = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (number, behind) = part.split_at_checked(2).ok_or("\\xHH")?;
            written.push(char::from(u8::from_str_radix(number, 16).map_err(text_of)?));
            written.push_str(behind);
        }
        output(&mut kcat, &written)
    }

    /// Writes messages, `TO KEY => VALUE`, by their keys' partitions.
    fn many(&self, topic: &str, from: &str, rest: &str) -> Result<String, String> {
        let (to, message) = rest.split_once(' ').ok_or("FROM TO KEY => VALUE")?;
        let (key, value) = message.split_once(" => ").ok_or("KEY => VALUE")?;
        let number = |text: &str| text.parse::<u32>().map_err(text_of);
        let mut kcat = Command::new("kcat");
        kcat.args(["-P", "-b", &format!("{}:{}", self.host, self.port), "-t", topic, "-K", "\t"]);
        let line = |number: u32| format!("{key}\t{value}\n").replace('%', &number.to_string());
        output(&mut kcat, &(number(from)?..number(to)?).map(line).collect::<String>())
    }

    fn told(&self, database: &str, sql: &str) -> Result<String, String> {
        let port = self.port.to_string();
        if self.kind == "postgres" {
            let mut psql = Command::new("psql");
            psql.args([
                "-X",
                "-A",
                "-t",
                "-q",
                "-w",
                "-F",
                " | ",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                &self.host,
                "-p",
                &port,
            ]);
            psql.args(["-U", &self.user, "-d", database, "-f", "-"]).env("PGOPTIONS", "-c client_min_messages=warning");
            return output(&mut psql, sql);
        }
        let mut client = Command::new("mariadb");
        client.args([
            "--skip-ssl",
            "--default-character-set=utf8mb4",
            "--batch",
            "--skip-column-names",
            "-h",
            &self.host,
        ]);
        client.args(["-P", &port, "-u", &self.user]).args((!database.is_empty()).then_some(database));
        Ok(output(&mut client, sql)?.replace('\t', " | "))
    }
}

/// The last message of each key that has a value, in the order of the keys.
fn folded(messages: &str) -> String {
    let last: BTreeMap<&str, &str> = messages.lines().filter_map(|line| line.split_once(" = ")).collect();
    let there = last.into_iter().filter(|(_, value)| *value != "NULL");
    there.map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join("\n")
}

/// How many keys have a value, and how many of each `word` in it.
fn keys(messages: &str) -> String {
    let folded = folded(messages);
    let mut words: BTreeMap<String, usize> = BTreeMap::new();
    for (_, value) in folded.lines().filter_map(|line| line.split_once(" = ")) {
        let json: serde_json::Value = serde_json::from_str(value).unwrap_or_default();
        *words.entry(json["data"]["word"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
    }
    let words: Vec<String> = words.into_iter().map(|(word, count)| format!("{word} {count}")).collect();
    format!("keys {}\n{}", folded.lines().count(), words.join("\n"))
}

/// How many messages say what the one before of their key has said.
fn doubles(messages: &str) -> usize {
    let mut last = BTreeMap::new();
    let said = messages.lines().filter_map(|line| line.split_once(" = "));
    said.filter(|(key, value)| last.insert(*key, *value) == Some(*value)).count()
}

/// What a client answers to this on its stdin.
fn output(client: &mut Command, input: &str) -> Result<String, String> {
    use std::io::Write as _;
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = client.spawn().map_err(|e| format!("{}: {e}", client.get_program().to_string_lossy()))?;
    // A client that takes nothing says why.
    child.stdin.take().ok_or("no stdin")?.write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().map_err(text_of)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A server that keeps nothing on disk.
fn redis(folder: &Path) -> Result<(Child, u16), String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(text_of)?;
    let port = listener.local_addr().map_err(text_of)?.port();
    drop(listener);
    let mut server = Command::new("redis-server");
    server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
    let mut process =
        server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|e| format!("redis-server: {e}"))?;
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > START_WAIT {
            process.kill().ok();
            return Err("redis-server does not start".to_owned());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok((process, port))
}
