//! A server that plays a script: a log made of lines, and tables that never change. It lives in the test's own process.
//!
//! It knows what the source asks of a MySQL 8.4 server and nothing more: handshake without a password, settings, who it is,
//! its log files and their end, chunks of a table, and the log from an offset. What it has may change while it runs.

use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::Duration;

use connect::source::mysql::{MysqlConfig, SourceColumn, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::build::{EventBuilder, crc};

/// The file of every log.
pub(crate) const FILE: &str = "binlog.000001";
/// Where it begins.
pub(crate) const HEAD: u64 = 4;
const PACKET_BYTES_MAX: usize = 0xff_ff_ff;

/// A log and where its events end.
#[derive(Default)]
pub(crate) struct Log {
    format: Vec<u8>,
    events: Vec<(u64, Vec<u8>)>,
    heartbeat: Vec<u8>,
}

impl Log {
    /// The log of a script, a line an event.
    pub(crate) fn of(lines: &[String]) -> Result<Self, String> {
        let mut builder = EventBuilder::new(HEAD);
        builder.set_checksums(true);
        let format = builder.format_description();
        let mut events = Vec::with_capacity(lines.len());
        for line in lines {
            let event = builder.event(line)?;
            events.push((builder.offset(), event));
        }
        let heartbeat = builder.event(&format!("heartbeat {FILE}"))?;
        Ok(Self { format, events, heartbeat })
    }

    /// The same of a file that was begun at another time, in seconds since 1970.
    pub(crate) fn begun(mut self, seconds: u32) -> Self {
        self.format[..4].copy_from_slice(&seconds.to_le_bytes());
        let sum = self.format.len() - 4;
        let crc = crc(&self.format[..sum]);
        self.format[sum..].copy_from_slice(&crc);
        self
    }

    pub(crate) fn end(&self) -> u64 {
        self.events.last().map_or(HEAD, |(end, _)| *end)
    }

    /// What a server sends that is asked for the log from an offset.
    pub(crate) fn stream_from(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sequence = 1;
        let behind = self.events.iter().filter(|(end, _)| *end > offset).map(|(_, event)| event);
        for event in std::iter::once(&self.format).chain(behind) {
            packet(&mut out, &mut sequence, &[&[0], event.as_slice()].concat());
        }
        out
    }
}

/// Appends a packet, in parts where it is long.
pub(crate) fn packet(out: &mut Vec<u8>, sequence: &mut u8, payload: &[u8]) {
    let mut rest = payload;
    loop {
        let part = &rest[..rest.len().min(PACKET_BYTES_MAX)];
        let length = u32::try_from(part.len()).unwrap_or(0).to_le_bytes();
        out.extend_from_slice(&[length[0], length[1], length[2], *sequence]);
        out.extend_from_slice(part);
        *sequence = sequence.wrapping_add(1);
        rest = &rest[part.len()..];
        if part.len() < PACKET_BYTES_MAX {
            return;
        }
    }
}

/// What the server has and does.
#[derive(Default)]
pub(crate) struct Script {
    /// Its server_uuid; some number where it is empty.
    pub(crate) uuid: String,
    /// Its log files beside [`FILE`], newer or older; without [`FILE`] itself if `is_purged`.
    pub(crate) is_purged: bool,
    /// What the first requests for the log are refused with.
    pub(crate) refusals: Vec<(u16, String)>,
    /// Server ids under which the log was asked for.
    pub(crate) asked_as: Vec<u32>,
    pub(crate) log: Log,
    /// The log comes in pieces of so many bytes.
    pub(crate) piece_bytes: usize,
    /// The first connections to the log end after so many bytes each.
    pub(crate) cuts: Vec<usize>,
    /// Statements that begin so are never answered; it notes that they were asked.
    pub(crate) mute: Option<&'static str>,
    pub(crate) was_mute: bool,
    /// It offers TLS, and goes away when it is asked for.
    pub(crate) breaks_tls: bool,
    /// Connections so far.
    pub(crate) connections: usize,
    /// The connection of this number, counted from 0, leads to another server.
    pub(crate) stranger: Option<usize>,
    /// Rows of `shop.orders`, in key order.
    pub(crate) orders: Vec<(i64, String)>,
    /// A commit that is in the log waits for a replica to acknowledge it, for as long as somebody has asked so often whether one
    /// does; then the table is as it is here.
    pub(crate) unacknowledged: Option<(usize, Vec<(i64, String)>)>,
    /// Somebody waits for that all the time: one goes with each look, and another one comes.
    pub(crate) is_busy: bool,
    /// Looks so far.
    pub(crate) looks: usize,
}

impl Script {
    /// Somebody asks whether a commit waits.
    fn acknowledge(&mut self) -> bool {
        match &mut self.unacknowledged {
            None => false,
            Some((0, orders)) => {
                self.orders = std::mem::take(orders);
                self.unacknowledged = None;
                false
            }
            Some((asked, _)) => {
                *asked -= 1;
                true
            }
        }
    }
}

/// The server_uuid of that other server.
pub(crate) const STRANGER: &str = "99999999-71ca-11e1-9e33-c80aa9429562";
/// The file that is left of a log that was purged.
const LATER_FILE: &str = "binlog.000005";
const HEARTBEAT: Duration = Duration::from_millis(200);

/// A running server; it ends with this.
pub(crate) struct FakeServer {
    pub(crate) port: u16,
    script: Arc<RwLock<Script>>,
    task: JoinHandle<()>,
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeServer {
    pub(crate) async fn start(script: Script) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        let script = Arc::new(RwLock::new(script));
        let played = Arc::clone(&script);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).ok();
                let script = Arc::clone(&played);
                let is_stranger = {
                    let mut script = script.write().expect("no connection panics");
                    script.connections += 1;
                    script.stranger == Some(script.connections - 1)
                };
                connections.spawn(async move {
                    // A client that goes away ends its connection; that is no failure.
                    Connection { stream, script, is_stranger }.serve().await.ok();
                });
            }
        });
        Ok(Self { port, script, task })
    }

    /// Changes what it has. Connections to the log go on as before.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.write().expect("no connection panics"));
    }

    /// What it has.
    pub(crate) fn script(&self) -> RwLockReadGuard<'_, Script> {
        self.script.read().expect("no connection panics")
    }

    pub(crate) fn config(&self) -> MysqlConfig {
        let port = self.port;
        MysqlConfig {
            port,
            tls: Tls::Disabled,
            snapshot_delay: Duration::ZERO,
            database: "shop".to_owned(),
            ..MysqlConfig::default()
        }
    }
}

struct Connection {
    stream: TcpStream,
    script: Arc<RwLock<Script>>,
    is_stranger: bool,
}

impl Connection {
    fn script(&self) -> RwLockReadGuard<'_, Script> {
        self.script.read().expect("no connection panics")
    }

    async fn serve(mut self) -> std::io::Result<()> {
        let breaks_tls = self.script().breaks_tls;
        self.answer(0, &[greeting(breaks_tls)]).await?;
        self.read().await?;
        if breaks_tls {
            return Ok(());
        }
        self.answer(2, &[ok()]).await?;
        loop {
            let command = self.read().await?;
            match command.split_first() {
                Some((0x03, sql)) => self.query(&String::from_utf8_lossy(sql)).await?,
                Some((0x12, body)) => return self.dump(body).await,
                Some((0x15, _)) => self.answer(1, &[ok()]).await?,
                _ => return Ok(()),
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
        let mut body = vec![0; usize::try_from(length).unwrap_or(0)];
        self.stream.read_exact(&mut body).await?;
        Ok(body)
    }

    async fn answer(&mut self, sequence: u8, packets: &[Vec<u8>]) -> std::io::Result<()> {
        let (mut out, mut sequence) = (Vec::new(), sequence);
        packets.iter().for_each(|payload| packet(&mut out, &mut sequence, payload));
        self.stream.write_all(&out).await
    }

    async fn query(&mut self, sql: &str) -> std::io::Result<()> {
        let is_mute = self.script().mute.is_some_and(|head| sql.starts_with(head));
        if is_mute {
            self.script.write().expect("no connection panics").was_mute = true;
            return std::future::pending().await;
        }
        let text = |values: &[&str]| values.iter().map(|v| Some((*v).to_owned())).collect::<Vec<_>>();
        let packets = if sql.starts_with("SHOW GLOBAL VARIABLES WHERE Variable_name = 'gtid_mode'") {
            result(&["Variable_name", "Value"], vec![text(&["gtid_mode", "OFF"])])
        } else if sql.starts_with("SELECT @@GLOBAL.server_uuid") {
            let uuid = self.script().uuid.clone();
            let uuid = match (self.is_stranger, uuid.as_str()) {
                (true, _) => STRANGER,
                (false, "") => "3e11fa47-71ca-11e1-9e33-c80aa9429562",
                (false, uuid) => uuid,
            };
            result(&["uuid"], vec![text(&[uuid])])
        } else if sql.starts_with("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged") {
            result(&["executed", "purged"], vec![text(&["", ""])])
        } else if sql.starts_with("SHOW BINARY LOGS") {
            let end = self.script().log.end().to_string();
            let file = if self.script().is_purged { LATER_FILE } else { FILE };
            result(&["Log_name", "File_size", "Encrypted"], vec![text(&[file, &end, "No"])])
        } else if sql.starts_with("SHOW REPLICA STATUS") {
            result(&["Source_Host"], Vec::new())
        } else if sql.starts_with("SHOW GLOBAL VARIABLES LIKE 'rpl") {
            let settings = [("enabled", "ON"), ("timeout", "3600000"), ("wait_point", "AFTER_SYNC")];
            let row = |(name, value): (&str, &str)| text(&[&format!("rpl_semi_sync_source_{name}"), value]);
            result(&["Variable_name", "Value"], settings.into_iter().map(row).collect())
        } else if sql.starts_with("SHOW GLOBAL STATUS LIKE 'Rpl") {
            let mut script = self.script.write().expect("no connection panics");
            script.looks += 1;
            let ended = if script.is_busy { script.looks.to_string() } else { "7".to_owned() };
            let count = if script.acknowledge() || script.is_busy { "1" } else { "0" };
            let values = [("wait_sessions", count), ("yes_tx", &ended), ("no_tx", "2")];
            let row = |(name, value): (&str, &str)| text(&[&format!("Rpl_semi_sync_source_{name}"), value]);
            result(&["Variable_name", "Value"], values.into_iter().map(row).collect())
        } else if sql.starts_with("SHOW GLOBAL VARIABLES") {
            let settings =
                [("log_bin", "ON"), ("binlog_format", "ROW"), ("binlog_row_image", "FULL"), ("server_id", "1")];
            result(&["Variable_name", "Value"], settings.iter().map(|(name, value)| text(&[name, value])).collect())
        } else if sql.starts_with("SHOW BINARY LOG STATUS") {
            let end = self.script().log.end().to_string();
            result(&["File", "Position", "Executed_Gtid_Set"], vec![text(&[FILE, &end, ""])])
        } else if sql.contains("information_schema.COLUMNS") {
            let names = [
                "COLUMN_NAME",
                "DATA_TYPE",
                "COLUMN_TYPE",
                "CHARACTER_SET_NAME",
                "COLLATION_NAME",
                "IS_NULLABLE",
                "EXTRA",
            ];
            let row = |column: SourceColumn| {
                let nullable = if column.nullable { "YES" } else { "NO" };
                let (charset, collation) = (column.charset, column.collation);
                let some = |text: &str| Some(text.to_owned());
                vec![
                    some(&column.name),
                    some(&column.data_type),
                    some(&column.column_type),
                    charset,
                    collation,
                    some(nullable),
                    some(""),
                ]
            };
            result(&names, super::columns(true).into_iter().map(row).collect())
        } else if sql.contains("information_schema.STATISTICS") {
            result(&["COLUMN_NAME"], if sql.contains("'bag'") { Vec::new() } else { vec![text(&["id"])] })
        } else if sql.contains("information_schema.KEY_COLUMN_USAGE") {
            // It has no foreign keys, so nobody asks what they do.
            result(&["TABLE_SCHEMA"], Vec::new())
        } else if sql.starts_with("SELECT TABLE_ROWS") {
            result(&["TABLE_ROWS"], vec![text(&["7"])])
        } else if sql.starts_with("SELECT") && sql.contains("FROM `shop`.`orders`") {
            self.chunk(sql)
        } else if sql.starts_with("SET") {
            vec![ok()]
        } else {
            vec![refusal(sql)]
        };
        self.answer(1, &packets).await
    }

    /// Rows behind the cursor, as many as are asked for.
    fn chunk(&self, sql: &str) -> Vec<Vec<u8>> {
        let number = |behind: &str| -> Option<i64> {
            let digits = sql.split(behind).nth(1)?.split(' ').next()?;
            digits.parse().ok()
        };
        let from = number(" WHERE `id` > ").unwrap_or(i64::MIN);
        let count = usize::try_from(number(" LIMIT ").unwrap_or(0)).unwrap_or(0);
        let columns: Vec<&str> = sql
            .strip_prefix("SELECT ")
            .unwrap_or_default()
            .split(" FROM ")
            .next()
            .unwrap_or_default()
            .split(", ")
            .collect();
        let script = self.script();
        let behind = script.orders.iter().filter(|(id, _)| *id > from).take(count);
        let row = |(id, name): &(i64, String)| {
            let value = |column: &&str| Some(if column.contains("name") { name.clone() } else { id.to_string() });
            columns.iter().map(value).collect()
        };
        result(&columns, behind.map(row).collect())
    }

    async fn dump(mut self, body: &[u8]) -> std::io::Result<()> {
        let offset = body.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b));
        let id = body.get(6..10).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let (mut stream, heartbeat, cut, refused, piece_bytes) = {
            let mut script = self.script.write().expect("no connection panics");
            script.asked_as.push(id);
            let refused = (!script.refusals.is_empty()).then(|| script.refusals.remove(0));
            let cut = (!script.cuts.is_empty()).then(|| script.cuts.remove(0));
            let stream = script.log.stream_from(u64::from(offset));
            (stream, script.log.heartbeat.clone(), cut, refused, script.piece_bytes.max(1))
        };
        if let Some((code, message)) = refused {
            return self.answer(1, &[error(code, &message)]).await;
        }
        stream.truncate(cut.unwrap_or(usize::MAX));
        for piece in stream.chunks(piece_bytes) {
            self.stream.write_all(piece).await?;
            self.stream.flush().await?;
            tokio::task::yield_now().await;
        }
        if cut.is_some() {
            return self.stream.shutdown().await;
        }
        // Nothing more comes: it says so until the client goes away.
        loop {
            tokio::select! {
                read = self.stream.read_u8() => return read.map(|_| ()),
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
            self.answer(1, &[[&[0], heartbeat.as_slice()].concat()]).await?;
        }
    }
}

fn greeting(with_tls: bool) -> Vec<u8> {
    const CAPABILITIES: u32 = 1 | 1 << 2 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 17 | 1 << 19;
    let capabilities = (CAPABILITIES | u32::from(with_tls) << 11).to_le_bytes();
    let mut out = vec![10];
    out.extend_from_slice(b"8.4.0\0");
    out.extend_from_slice(&7_u32.to_le_bytes());
    out.extend_from_slice(b"12345678\0");
    out.extend_from_slice(&capabilities[..2]);
    out.extend_from_slice(&[45, 2, 0]);
    out.extend_from_slice(&capabilities[2..]);
    out.push(21);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(b"123456789012\0mysql_native_password\0");
    out
}

fn ok() -> Vec<u8> {
    vec![0, 0, 0, 2, 0, 0, 0]
}

/// An error that names what was asked, for whoever reads the test's output.
fn refusal(sql: &str) -> Vec<u8> {
    error(1064, &format!("the fake server does not know: {sql}"))
}

fn error(code: u16, message: &str) -> Vec<u8> {
    let mut out = vec![0xff];
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(b"#42000");
    out.extend_from_slice(message.as_bytes());
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length) if length < 0xfb => out.push(length),
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// A result set as text.
fn result(columns: &[&str], rows: Vec<Vec<Option<String>>>) -> Vec<Vec<u8>> {
    let end = || vec![0xfe, 0, 0, 2, 0];
    let mut packets = vec![vec![u8::try_from(columns.len()).unwrap_or(0)]];
    for column in columns {
        let mut definition = Vec::new();
        for text in ["def", "", "", "", column, ""] {
            string(&mut definition, text);
        }
        definition.extend_from_slice(&[0x0c, 45, 0, 0, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
        packets.push(definition);
    }
    packets.push(end());
    for row in rows {
        let mut packet = Vec::new();
        for value in row {
            match value {
                None => packet.push(0xfb),
                Some(text) => string(&mut packet, &text),
            }
        }
        packets.push(packet);
    }
    packets.push(end());
    packets
}
