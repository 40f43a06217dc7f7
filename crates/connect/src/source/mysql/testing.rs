//! A door for the case files: the assembler and the windows without a server. Not for use by other crates.

use relation::SourceBatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::source::{Absence, Limits, OwnFacts};

use super::assemble::{Assembler, Notice, Step};
use super::cascade::Cascades;
use super::continuity::{Follows, Ground, Replica, Verdict, Way};
use super::event;
use super::position::{DomainGtids, GtidSet, LogPoint, LogPosition};
use super::sentry::LogEnd;
use super::statement::{Dialect, read, statement};
use super::window::Chunk;
use super::wire::{ServerInfo, Transport, Wire};
use super::{CaptureTable, MysqlConfig, SourceColumn};

/// The columns that a source tells to be those of a table.
pub fn columns_of(facts: &OwnFacts) -> Option<&Vec<SourceColumn>> {
    facts.get::<super::kind::Known>().map(|known| &known.columns)
}

/// Plays log events into an assembler.
#[derive(Debug)]
pub struct Replay {
    assembler: Assembler,
    /// The readers whose chunks count.
    run: u64,
}

/// What a server says of a table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Same,
    Altered,
    Gone,
}

impl Replay {
    /// Starts at a position, as [`relation::Position`] has it.
    pub fn new(tables: Vec<CaptureTable>, position: &str) -> Result<Self, String> {
        Self::with_limits(tables, position, Limits::default())
    }

    /// The same with limits of its own.
    pub fn with_limits(tables: Vec<CaptureTable>, position: &str, limits: Limits) -> Result<Self, String> {
        let position: LogPosition = position.parse().map_err(|e| format!("{e}"))?;
        let mut assembler = Assembler::new(tables, position, limits, 0);
        const RUN: u64 = 1;
        assembler.loading().into_iter().for_each(|index| assembler.resume_load(index, RUN));
        Ok(Self { assembler, run: RUN })
    }

    /// Whether a batch must be taken before the next event.
    pub fn is_full(&self) -> bool {
        self.assembler.is_full()
    }

    /// Whether there is a batch worth sending.
    pub fn is_ready(&self) -> bool {
        self.assembler.is_ready()
    }

    /// Where the source would resume.
    pub fn position(&self) -> String {
        place_of(&self.marked())
    }

    /// The same with that by which the log is known again.
    pub fn marked(&self) -> String {
        self.assembler.position().to_string()
    }

    /// The log comes from this offset on, which is before the position.
    pub fn resume_from(&mut self, offset: u64) {
        self.assembler.resume_from(offset);
    }

    /// The log comes by numbers, and is this server's.
    pub fn moves_to(&mut self, server: &str) {
        self.assembler.moves_to(server);
    }

    /// Whether the log ends before what was read, as the sentry sees it.
    pub fn has_gone_back(&self, end: (&str, u64)) -> bool {
        let (point, read) = (LogPoint::new(end.0, end.1), self.assembler.position().point.clone());
        LogEnd { point, read, is_numbered: false }.has_gone_back()
    }

    /// The server numbers all transactions.
    pub fn adopt(&mut self) {
        self.assembler.adopt();
    }

    /// Walks the events that have arrived, as the source does, and takes the batches that must be taken on the way.
    pub fn walk(&mut self, stream: &mut Stream) -> Result<Vec<SourceBatch>, String> {
        let mut batches = Vec::new();
        loop {
            while self.assembler.is_full() {
                if !self.assembler.is_ready() {
                    return Err("the batch is full, and there is nothing to take".to_owned());
                }
                batches.push(self.assembler.take());
            }
            let Some(packet) = stream.wire.next_packet().map_err(|e| e.to_string())? else { return Ok(batches) };
            let event = packet.get(1..).unwrap_or_default();
            match self.assembler.event(event).map_err(|e| e.to_string())? {
                Step::Next | Step::Committed | Step::Outgrown | Step::Asked => {}
                Step::Paused => stream.wire.unread(),
                Step::Describe(_) => return Err("a table is to be described".to_owned()),
                Step::Keys => return Err("foreign keys are to be read".to_owned()),
                Step::Reach => return Err("objects of databases are to be read".to_owned()),
            }
        }
    }

    /// Gives one event; says what it asked for, if anything.
    pub fn event(&mut self, event: &[u8]) -> Result<Option<String>, String> {
        match self.assembler.event(event) {
            Ok(Step::Next | Step::Asked) => Ok(None),
            Ok(Step::Committed) => Ok(Some("committed".to_owned())),
            Ok(Step::Outgrown) => Ok(Some("outgrown".to_owned())),
            Ok(Step::Paused) => Ok(Some("paused".to_owned())),
            Ok(Step::Describe(index)) => Ok(Some(format!("describe {}", self.assembler.table(index).name))),
            Ok(Step::Keys) => Ok(Some("keys".to_owned())),
            Ok(Step::Reach) => Ok(Some("reach".to_owned())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Answers a request to describe a table: unchanged, altered, or gone.
    pub fn described(&mut self, name: &str, answer: Answer) {
        let index = self.index(name);
        let columns = self.columns(index, answer);
        self.assembler.described(index, columns.as_deref().ok_or(Absence::DROPPED));
    }

    /// The same, with these columns in this order, those that are not known being ints of which a rule speaks.
    pub fn described_as(&mut self, name: &str, order: &str) {
        let index = self.index(name);
        let table = self.assembler.table(index);
        let new = |name: &str| SourceColumn {
            name: name.to_owned(),
            data_type: "int".to_owned(),
            column_type: "int".to_owned(),
            left_out: table.rule.leaves_out(name, None),
            ..SourceColumn::default()
        };
        let known = |name: &str| table.columns.iter().find(|column| column.name == name).cloned();
        let columns: Vec<SourceColumn> =
            order.split(',').map(|name| known(name).unwrap_or_else(|| new(name))).collect();
        self.assembler.described(index, Ok(&columns));
    }

    /// A table is looked at, of which rows were read without a look; answers which.
    pub fn look(&mut self) -> Option<String> {
        let index = self.assembler.unlooked()?;
        self.assembler.look(index);
        Some(self.assembler.table(index).name.clone())
    }

    /// What is given from now on was read so many seconds after some time.
    pub fn set_time(&mut self, seconds: i64) {
        self.assembler.set_read_time(seconds * 1_000_000);
    }

    /// The log ends here, where that is to be known; answers whether it was.
    pub fn settle(&mut self, end: (&str, u64)) -> bool {
        let is_unsettled = self.assembler.is_unsettled();
        if is_unsettled {
            self.assembler.settle(&LogPoint::new(end.0, end.1));
        }
        is_unsettled
    }

    /// The server's foreign keys whose actions its log does not have, a line each, read when the log ended at `end`.
    pub fn set_keys(&mut self, lines: &str, end: (&str, u64)) -> Result<(), String> {
        let keys = Cascades::written(lines, &self.assembler.captures()).ok_or("a foreign key cannot be read")?;
        self.assembler.set_cascades(keys, LogPoint::new(end.0, end.1));
        Ok(())
    }

    /// Nothing is behind the objects of databases.
    pub fn set_reach(&mut self) {
        self.assembler.set_reach(super::reach::Reach::default());
    }

    /// The loads that wait begin, the log ending at `high`; answers which.
    pub fn begin(&mut self, high: (&str, u64), answer: Answer) -> Vec<String> {
        let waiting: Vec<usize> = self.assembler.waiting().collect();
        let mut begun = Vec::new();
        for index in waiting {
            let columns = self.columns(index, answer);
            self.assembler.begin_load(index, LogPoint::new(high.0, high.1), self.run);
            if self.assembler.load_described(index, self.run, columns.as_deref().ok_or(Absence::DROPPED)) {
                begun.push(self.assembler.table(index).name.clone());
            }
        }
        begun
    }

    /// A person asks for a table to be loaded again; answers whether that may be now.
    pub fn ask(&mut self, name: &str) -> bool {
        let index = self.index(name);
        self.assembler.ask(index, "by hand".to_owned())
    }

    /// Whether the open transaction must be read again.
    pub fn is_void(&self) -> bool {
        self.assembler.is_void()
    }

    /// The server is MariaDB of a version like 101105 for 10.11.5, or MySQL.
    pub fn set_server(&mut self, mariadb: bool, version: u32, has_exact_names: bool) {
        self.assembler.set_server(Dialect { mariadb, version, ..Dialect::default() }, has_exact_names);
    }

    fn index(&self, name: &str) -> usize {
        let mut index = 0;
        while self.assembler.table(index).name != name {
            index += 1;
        }
        index
    }

    fn columns(&self, index: usize, answer: Answer) -> Option<Vec<SourceColumn>> {
        let mut columns = self.assembler.table(index).columns.clone();
        match answer {
            Answer::Same => {}
            Answer::Altered => drop(columns.pop()),
            Answer::Gone => return None,
        }
        Some(columns)
    }

    /// The connection is lost.
    pub fn abandon(&mut self) {
        self.assembler.abandon();
    }

    /// A chunk of the table with this index arrives. Returns false if it must wait.
    pub fn chunk(
        &mut self,
        table: usize,
        rows: relation::Rows,
        high: (&str, u64),
        (begins, complete): (bool, bool),
    ) -> bool {
        let high = LogPoint::new(high.0, high.1);
        let chunk = Chunk {
            table,
            run: self.run,
            rows,
            unread: relation::Rows::new(),
            cursor: Vec::new(),
            complete,
            high,
            rows_estimate: 0,
            begins,
            _turn: None,
        };
        if !self.assembler.may_close(&chunk) {
            return false;
        }
        self.assembler.add_chunk(chunk);
        true
    }

    /// The whole transactions so far.
    pub fn take(&mut self) -> SourceBatch {
        self.assembler.take()
    }

    /// What was parked or rejected since the last call, a line each.
    pub fn notices(&mut self) -> Vec<String> {
        let notices = self.assembler.notices();
        let line = |notice| match notice {
            Notice::Parked { table, reason } => format!("parked {table}: {reason}"),
            Notice::Reload { table, reason, .. } => format!("reload {table}: {reason}"),
            Notice::Altered { table, statement } => format!("altered {table}: {statement}"),
            Notice::Learned { index } => {
                let columns = &self.assembler.table(index).columns;
                let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                format!("learned {}", names.join(", "))
            }
        };
        notices.into_iter().map(line).collect()
    }
}

/// The log's bytes as a socket brings them.
#[derive(Debug)]
pub struct Stream {
    wire: Wire,
    far: DuplexStream,
}

impl Stream {
    /// A connection on which nothing has come yet.
    pub fn new() -> Self {
        const HELD_BYTES: usize = 64 << 20;
        let (near, far) = tokio::io::duplex(HELD_BYTES);
        Self { wire: Wire::new(Transport::Memory(near)), far }
    }

    /// These bytes come, and are read at once.
    pub async fn bring(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.far.write_all(bytes).await.map_err(|e| e.to_string())?;
        let mut read = 0;
        while read < bytes.len() {
            read += self.wire.fill().await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The next packet that has arrived whole.
    pub fn packet(&mut self) -> Result<Option<Vec<u8>>, String> {
        Ok(self.wire.next_packet().map_err(|e| e.to_string())?.map(<[u8]>::to_vec))
    }

    /// The last packet comes once more.
    pub fn unread(&mut self) {
        self.wire.unread();
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

/// What a server has heard of somebody who logs in, a packet each, and how that ended.
#[derive(Debug)]
pub struct LoggedIn {
    pub heard: Vec<Vec<u8>>,
    pub ended: Result<(), String>,
}

/// Logs in over a connection that comes from `peer`, to a server that says these packets, its greeting first; after each whether it
/// waits to hear something.
pub async fn log_in(config: &MysqlConfig, peer: &str, says: Vec<(Vec<u8>, bool)>) -> Result<LoggedIn, String> {
    const HELD_BYTES: usize = 1 << 20;
    let (near, mut far) = tokio::io::duplex(HELD_BYTES);
    let mut wire = Wire::new(Transport::Memory(near));
    wire.peer = Some(std::net::SocketAddr::new(peer.parse().map_err(|_| format!("no address: {peer}"))?, config.port));
    let client = async move {
        let entered = super::login::enter(&mut wire, config, config.tls != super::Tls::Disabled).await;
        entered.map_err(|error| match super::error::failure(&error, config) {
            Some(failure) => format!("{}\n{}\n{}", failure.message, failure.detail, failure.hint),
            None => error.to_string(),
        })
    };
    let server = async move {
        let (mut heard, mut sequence) = (Vec::new(), 0_u8);
        for (packet, waits) in says {
            let length = u32::try_from(packet.len()).unwrap_or(0).to_le_bytes();
            let head = [length[0], length[1], length[2], sequence];
            if far.write_all(&[head.as_slice(), packet.as_slice()].concat()).await.is_err() {
                break;
            }
            sequence = sequence.wrapping_add(1);
            let mut head = [0; 4];
            // Who has gone away says nothing more.
            if !waits || far.read_exact(&mut head).await.is_err() {
                continue;
            }
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
            let mut body = vec![0; usize::try_from(length).unwrap_or(0)];
            if far.read_exact(&mut body).await.is_ok() {
                heard.push(body);
            }
            sequence = head[3].wrapping_add(1);
        }
        heard
    };
    let (ended, heard) = tokio::join!(client, server);
    Ok(LoggedIn { heard, ended })
}

/// What the doctor says of a connection's secrecy; empty where that is nothing.
pub fn sealed(config: &MysqlConfig, is_encrypted: bool, is_of_this_machine: bool) -> String {
    let Some(check) = super::doctor::sealed(config, is_encrypted, is_of_this_machine) else { return String::new() };
    let parts = [format!("{:?}: {}", check.outcome, check.message), check.detail, check.hint];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A set of transactions as a log file's head has it.
pub fn previous_gtids(text: &str) -> Result<Vec<u8>, String> {
    text.parse::<GtidSet>().map(|set| set.encode()).map_err(|e| e.to_string())
}

/// A position read and written again.
pub fn position(text: &str) -> Result<String, String> {
    text.parse::<LogPosition>().map(|p| p.to_string()).map_err(|e| e.to_string())
}

/// A position without that by which its log is known again.
pub fn place_of(text: &str) -> String {
    match text.parse::<LogPosition>() {
        Ok(position) => LogPosition::new(position.point, position.gtids).to_string(),
        Err(_) => text.to_owned(),
    }
}

/// A server of a version as it names it.
fn info(version: &str) -> ServerInfo {
    ServerInfo { version: version.to_owned(), mariadb: version.contains("MariaDB"), connection_id: 0 }
}

/// Whether a server's log leads on from a position: lines of what it is and has, and the position.
pub fn judge(lines: &str) -> Result<String, String> {
    let mut ground = Ground { info: info("8.4.0"), ..Ground::default() };
    let mut position = LogPosition::default();
    for line in lines.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "position" => position = rest.parse().map_err(|e| format!("{e}"))?,
            "server" => rest.clone_into(&mut ground.server),
            "version" => ground.info = info(rest),
            "numbered" => ground.is_numbered = true,
            "executed" => ground.executed = rest.parse::<GtidSet>().map_err(|e| format!("{e}"))?,
            "purged" => ground.purged = rest.parse::<GtidSet>().map_err(|e| format!("{e}"))?,
            "domains" => {
                for gtid in rest.split(',') {
                    let one: DomainGtids = gtid.parse().map_err(|e| format!("{e}"))?;
                    ground.domains.extend(one.iter().map(|(domain, (id, sequence))| ((domain, id), sequence)));
                }
            }
            "files" => {
                for file in rest.split(' ') {
                    let (name, bytes) = file.split_once('=').ok_or("FILE=BYTES")?;
                    ground.files.push((name.to_owned(), bytes.parse().map_err(|_| "BYTES")?));
                }
            }
            "replica" => {
                let (is_running, is_writable) = (rest == "running", rest == "promoted");
                ground.follows = match rest {
                    "untold" => Follows::Untold(ground.info.right_to_ask_for_source()),
                    _ => Follows::Another(Replica {
                        source: "old:3306".to_owned(),
                        is_running,
                        is_writable,
                        behind_s: None,
                    }),
                };
            }
            other => return Err(format!("unknown word \"{other}\"")),
        }
    }
    let config = MysqlConfig { host: "shop".to_owned(), ..MysqlConfig::default() };
    Ok(match ground.judge(&position, &config) {
        Verdict::GoOn(Way::File(offset)) => format!("goes on in its file from {offset}"),
        Verdict::GoOn(Way::Numbers) => "goes on by numbers".to_owned(),
        Verdict::Stalled(said) => format!("stalls: {}\n{}\n{}", said.message, said.detail, said.hint),
    })
}

/// What the doctor tells of a server's settings: `mariadb`, `replica`, or `name value` in a line each.
pub fn diagnosed(lines: &str) -> String {
    let (mut mariadb, mut is_replica) = (false, false);
    let mut values = std::collections::BTreeMap::new();
    for line in lines.lines() {
        match line.split_once(' ') {
            None if line == "mariadb" => mariadb = true,
            None if line == "replica" => is_replica = true,
            None => drop(values.insert(line.to_owned(), String::new())),
            Some((name, value)) => drop(values.insert(name.to_owned(), value.to_owned())),
        }
    }
    let line = |check: crate::source::Check| {
        let hint = if check.hint.is_empty() { String::new() } else { format!("\n  {}", check.hint) };
        format!("{:?} {}: {}{hint}\n", check.outcome, check.name, check.message)
    };
    super::doctor::settings_told(&values, mariadb, is_replica).into_iter().map(line).collect()
}

/// Whether a GTID position has seen all of another.
pub fn covers(current: &str, target: &str) -> Result<bool, String> {
    let position = |text: &str| relation::Position(text.to_owned());
    super::reached(&position(current), &position(target)).map_err(|e| e.to_string())
}

/// How a text is understood: by which server, in which modes, and what it says.
pub fn understood(sql: &str, mariadb: bool, version: u32, modes: &str) -> String {
    let (ansi_quotes, plain_backslashes) = (modes.contains("ansi"), modes.contains("plain"));
    read(sql, Dialect { mariadb, version, ansi_quotes, plain_backslashes }).to_string()
}

/// How a statement is understood, given the body of its event.
pub fn understood_event(body: &[u8], mariadb: bool, version: u32) -> Result<String, String> {
    let query = event::query(body).map_err(|e| e.to_string())?;
    Ok(statement(&query, Dialect { mariadb, version, ..Dialect::default() }).to_string())
}
