//! The servers that cases deliver to, and a way to ask them that is none of ours.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use connect::Settings;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::kafka::Broker;

pub(crate) const SERVERS: [&str; 5] = ["postgres", "mysql", "mariadb", "redis", "kafka"];
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

fn port_of(server: &str) -> Option<u16> {
    std::env::var(format!("TIDEMILL_TEST_{}_PORT", server.to_uppercase())).ok()?.parse().ok()
}

/// The certificate of the authority that vouches for the servers', beside theirs.
pub(crate) fn authority() -> Option<PathBuf> {
    std::env::var_os("TIDEMILL_TEST_CA").map(PathBuf::from)
}

/// A port that is free, and stays so while its server is down: the system gives none of these to who connects.
pub(crate) fn free_port() -> Result<u16, String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    (0..1_000)
        .map(|_| std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed))
        .map(|number| 20_000 + u16::try_from(number % 9_000).unwrap_or_default())
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| "no port is free".to_owned())
}

/// Whether cases of a server can run.
pub(crate) fn is_there(server: &str) -> bool {
    port_of(server).is_some()
}

/// A server, and a place in it that is a case's own.
pub(crate) enum There {
    Postgres { port: u16, schema: String, client: Client },
    Mysql { kind: &'static str, port: u16, database: String, conn: Box<Conn> },
    Redis { port: u16, tls_port: u16, folder: PathBuf, process: Option<Child> },
    Kafka(Box<Broker>),
}

impl Drop for There {
    fn drop(&mut self) {
        self.kill().ok();
    }
}

impl There {
    /// Makes the place anew.
    pub(crate) async fn prepare(server: &'static str, name: &str) -> Result<Self, String> {
        let place = format!("dest_{}", name.replace(['/', '-', '.'], "_"));
        let port = port_of(server).ok_or("there is no such server")?;
        let text = |e: &dyn std::fmt::Display| e.to_string();
        match server {
            "postgres" => {
                let client = postgres(port).await?;
                let anew =
                    format!("DROP SCHEMA IF EXISTS {place} CASCADE; CREATE SCHEMA {place}; SET search_path = {place}");
                client.batch_execute(&anew).await.map_err(|e| text(&e))?;
                Ok(Self::Postgres { port, schema: place, client })
            }
            "redis" => {
                let folder = std::env::temp_dir().join(format!("{place}_{}", std::process::id()));
                std::fs::create_dir_all(&folder).map_err(|e| text(&e))?;
                let mut there = Self::Redis { port: free_port()?, tls_port: free_port()?, folder, process: None };
                there.start().await?;
                Ok(there)
            }
            // Those of a case's own are killed and started.
            "kafka" => Ok(Self::Kafka(Box::new(Broker::prepare(&place, name.contains("/own-")).await?))),
            kind => {
                let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).user(Some("root"));
                let mut conn = Conn::new(options.prefer_socket(false)).await.map_err(|e| text(&e))?;
                for sql in [
                    format!("DROP DATABASE IF EXISTS {place}"),
                    format!("CREATE DATABASE {place} CHARACTER SET utf8mb4"),
                    format!("USE {place}"),
                    "SET SESSION time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES'".to_owned(),
                ] {
                    conn.query_drop(sql).await.map_err(|e| text(&e))?;
                }
                Ok(Self::Mysql { kind, port, database: place, conn: Box::new(conn) })
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Postgres { port, .. } | Self::Mysql { port, .. } | Self::Redis { port, .. } => *port,
            Self::Kafka(broker) => broker.port,
        }
    }

    /// The name of the schema or database.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Postgres { schema, .. } => schema.clone(),
            Self::Mysql { database, .. } => database.clone(),
            Self::Redis { .. } => "redis-has-no-schemas".to_owned(),
            Self::Kafka(broker) => broker.place.clone(),
        }
    }

    /// Settings of a connection through a port.
    pub(crate) fn settings(&self, port: u16) -> Settings {
        let values = match self {
            Self::Postgres { .. } => {
                json!({"host": "127.0.0.1", "port": port, "user": "postgres", "password": "", "database": "postgres", "tls": "disabled"})
            }
            Self::Mysql { database, .. } => {
                json!({"host": "127.0.0.1", "port": port, "user": "root", "database": database, "tls": "disabled"})
            }
            Self::Redis { .. } => json!({"host": "127.0.0.1", "port": port}),
            // It says itself where it is: no way through another port is taken.
            Self::Kafka(broker) => json!({"brokers": format!("127.0.0.1:{}", broker.port)}),
        };
        let kind = match self {
            Self::Postgres { .. } => "postgres",
            Self::Mysql { kind, .. } => kind,
            Self::Redis { .. } => "redis",
            Self::Kafka(_) => "kafka",
        };
        let values = match values {
            Json::Object(values) => values.into_iter().collect(),
            _ => Default::default(),
        };
        Settings { connection: "there".to_owned(), kind: kind.to_owned(), values }
    }

    /// Statements or commands, one a line; answers their rows, values between ` | `.
    pub(crate) async fn ask(&mut self, body: &str) -> Result<String, String> {
        let mut out = Vec::new();
        for line in body.lines() {
            let rows = match self {
                Self::Postgres { client, .. } => postgres_rows(client, line).await,
                Self::Mysql { conn, .. } => mysql_rows(conn, line).await,
                Self::Redis { port, .. } => redis_rows(*port, line).await.map(|line| vec![line]),
                Self::Kafka(broker) => broker.ask(line).await,
            };
            match rows {
                Ok(rows) => out.extend(rows),
                Err(error) => out.push(error),
            }
        }
        Ok(out.join("\n"))
    }

    pub(crate) fn kill(&mut self) -> Result<(), String> {
        match self {
            Self::Redis { process, .. } => {
                if let Some(mut child) = process.take() {
                    child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string())?;
                }
                Ok(())
            }
            Self::Kafka(broker) => broker.kill(),
            _ => Err("others need it".to_owned()),
        }
    }

    /// Starts a Redis or Kafka with what it has kept, and waits until it answers.
    pub(crate) async fn start(&mut self) -> Result<(), String> {
        if let Self::Kafka(broker) = self {
            return broker.start().await;
        }
        let Self::Redis { port, tls_port, folder, process } = self else { return Err("it runs".to_owned()) };
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(&*folder);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--enable-debug-command", "yes"]);
        if let Some(folder) = authority().as_deref().and_then(Path::parent) {
            let of = |name: &str| folder.join(name);
            command.args(["--tls-auth-clients", "no", "--tls-port", &tls_port.to_string()]);
            command.arg("--tls-cert-file").arg(of("server.pem")).arg("--tls-key-file").arg(of("server.key"));
            command.arg("--tls-ca-cert-file").arg(of("ca.pem"));
        }
        let log = folder.join("redis.log");
        command.arg("--logfile").arg(&log);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *process = Some(command.spawn().map_err(|e| format!("redis-server: {e}"))?);
        let answers = async {
            // A connection that came before it listens may be one on which nobody ever answers.
            let asked = || tokio::time::timeout(Duration::from_secs(2), redis_rows(*port, "PING"));
            while !matches!(asked().await, Ok(Ok(answer)) if answer == "PONG") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let is_up = tokio::time::timeout(PATIENCE, answers).await;
        is_up.map_err(|_| {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            format!("redis-server does not answer: {:?}\n{said}", process.as_mut().map(Child::try_wait))
        })
    }
}

async fn postgres(port: u16) -> Result<Client, String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres").dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.map_err(|e| e.to_string())?;
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

async fn postgres_rows(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    let messages = client.simple_query(sql).await.map_err(|error| match error.as_db_error() {
        Some(said) => format!("error: {}", said.message()),
        None => error.to_string(),
    })?;
    let row = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let values: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect();
            Some(values.join(" | "))
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

async fn mysql_rows(conn: &mut Conn, sql: &str) -> Result<Vec<String>, String> {
    let rows: Vec<Row> = conn.query(sql).await.map_err(|error| match error {
        mysql_async::Error::Server(said) => format!("error: {}", said.message),
        other => other.to_string(),
    })?;
    let value = |value: mysql_async::Value| match value {
        mysql_async::Value::NULL => "NULL".to_owned(),
        mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => format!("{other:?}"),
    };
    Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(value).collect::<Vec<_>>().join(" | ")).collect())
}

/// One command in one line, and its answer as `redis-cli` has it, in one line. Hashes and sets come sorted.
async fn redis_rows(port: u16, line: &str) -> Result<String, String> {
    let text = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(text)?;
    stream.write_all(format!("{line}\r\n").as_bytes()).await.map_err(text)?;
    stream.write_all(b"PING the-end\r\n").await.map_err(text)?;
    let (mut read, mut part) = (Vec::new(), vec![0; 64 << 10]);
    let end = b"$7\r\nthe-end\r\n";
    while !read.ends_with(end) {
        match stream.read(&mut part).await.map_err(text)? {
            0 => return Err("it has closed the connection".to_owned()),
            count => read.extend_from_slice(&part[..count]),
        }
    }
    read.truncate(read.len() - end.len());
    let is_list = read.starts_with(b"*");
    let mut values: Vec<String> = texts_of(&read);
    let command = line.split(' ').next().unwrap_or_default();
    if is_list && command == "HGETALL" {
        let mut pairs: Vec<String> = values.chunks(2).map(|pair| pair.join("=")).collect();
        pairs.sort();
        return Ok(pairs.join(" "));
    }
    if is_list && command != "ZRANGE" {
        values.sort();
    }
    Ok(values.join(" "))
}

/// The texts of replies, lists in lists flattened.
fn texts_of(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 2..];
        match line.split_at_checked(1) {
            Some(("$", "-1") | ("*", "-1")) => texts.push("NULL".to_owned()),
            Some(("$", length)) => {
                let length: usize = length.parse().unwrap();
                texts.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
                bytes = &bytes[length + 2..];
            }
            Some(("*", _)) => {}
            Some((_, text)) => texts.push(text.to_owned()),
            None => {}
        }
    }
    texts
}

/// A hash, as it is.
pub(crate) async fn redis_hash(port: u16, key: &str) -> Result<std::collections::BTreeMap<String, Vec<u8>>, String> {
    let text = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(text)?;
    stream.write_all(format!("HGETALL {key}\r\nQUIT\r\n").as_bytes()).await.map_err(text)?;
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.map_err(text)?;
    let (mut rest, mut parts) = (&read[..], Vec::new());
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 2..];
        if let Some(length) = line.strip_prefix('$') {
            let length: usize = length.parse().map_err(|_| line.clone())?;
            parts.push(rest[..length].to_vec());
            rest = &rest[length + 2..];
        }
    }
    Ok(parts.chunks(2).map(|pair| (String::from_utf8_lossy(&pair[0]).into_owned(), pair[1].clone())).collect())
}

impl There {
    /// The first row of an answer, as the server shows it.
    pub(crate) async fn first(&mut self, sql: &str) -> Result<Vec<Option<Vec<u8>>>, String> {
        match self {
            Self::Postgres { client, .. } => {
                client
                    .batch_execute("SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres'")
                    .await
                    .map_err(|e| e.to_string())?;
                let messages = client.simple_query(sql).await.map_err(|e| format!("{e:?}"))?;
                let row = messages.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                });
                let row = row.ok_or("there is no such row")?;
                Ok((0..row.len()).map(|i| row.get(i).map(|text| text.as_bytes().to_vec())).collect())
            }
            Self::Mysql { conn, .. } => {
                let row: Option<Row> = conn.query_first(sql).await.map_err(|e| e.to_string())?;
                let value = |value: mysql_async::Value| match value {
                    mysql_async::Value::Bytes(bytes) => Some(bytes),
                    _ => None,
                };
                Ok(row.ok_or("there is no such row")?.unwrap().into_iter().map(value).collect())
            }
            Self::Redis { .. } | Self::Kafka(_) => Err("it has no rows".to_owned()),
        }
    }
}
