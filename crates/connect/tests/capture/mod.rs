//! Cases of the capture: log events in, batches out; chunks between them; positions and statements.
//!
//! ```text
//! start POSITION [loading]      two tables: shop.orders(id int primary key, name varchar(20)), shop.bag without the key; with `partly`
//!                               shop.partly(id int primary key, name varchar(20), raw_a int), of which `raw_*` is left out;
//!                               loading: their loads have begun at the position
//!     waiting                   their loads have not begun
//!     broken                    their loads were under way when we stopped, and in doubt
//!     rows=N bytes=N            the limits of a batch
//! server mysql|mariadb N [fold] what the log is of: a version like 80404; names of tables differ by more than case or not
//! events [crc32]                plays the lines of the body; prints what the capture asks for or complains of, and the
//!                               batches that must be taken before the next event
//!     gtid N [TIME]             head of a transaction on MySQL, committed at TIME microseconds
//!     anonymous [TIME]          the same without a number;  tagged TAG N [TIME]
//!     mariadb D-S-N [ddl|xa|done]   head of a transaction on MariaDB
//!     begin | xid [N] | query SQL | rotate FILE | heartbeat | previous SET | unknown N [ignorable] | incident
//!     session [db=NAME] [mode=N] [charset=NAME] [dbs=NAME,…]   of the statements that follow
//!     xa-prepare HEX [one-phase]
//!     map ID TABLE [columns=N | types=T…]  table map; of shop.orders with another number of columns if asked, or with these:
//!                               `i` an int, `v` a varchar(20)
//!     insert ID ID,NAME …       rows, or VALUE|VALUE|…, whatever the columns are;  delete likewise;  update ID OLD=>NEW …; `unchecked` (in front): while foreign keys are
//!                               not checked; `partial`: with the first column alone
//!     payload LINE; LINE; …     the lines inside a compressed transaction;  zipped likewise, and compressed indeed
//!     garbage HEX               an event with this body, as a rows event
//! chunk TABLE FILE:OFFSET [begins] [complete]   rows of the body arrive with this end of the log; placed or waits
//! described TABLE same|altered|gone|COLUMN,…   the answer to a request to look at a table again; prints what goes out before
//! time SECONDS                  of reading what follows
//! look                          whether a table is looked at that was read without, and which
//! settle FILE:OFFSET            where the log ends, where that is to be known; prints whether it was
//! keys [PLACE]                  the server's foreign keys whose actions its log does not have, a line each, as
//!                               CHILD(COLUMN,…) PARENT(COLUMN,…) ON_DELETE ON_UPDATE
//! reach                         nothing is behind the objects of the server's databases
//! begin FILE:OFFSET [altered|gone]    loads that wait begin, the log ending there; prints which
//! ask TABLE                     a person wants it loaded again
//! abandon                       the connection is lost
//! resume OFFSET                 the log comes from this offset on, before the position: what follows is played from there
//! moves SERVER                  the log comes by numbers, and is this server's
//! ends FILE:OFFSET              the server's log ends there now: fine, or another history
//! adopt                         the server numbers all transactions now
//! mark                          prints the position with that by which its log is known again
//! judge                         whether a server's log leads on from a position: what it is and has, a line each
//! settings                      what the doctor tells of a server's settings, a line each
//! take                          prints the batch and the news
//! position | covers             one answer per line of the body
//! statement [mariadb] [version=N] [ansi] [plain] [charset=NAME]   likewise; `⏎` is a new line
//! secret KIND [REFERENCE]       resolves a secret
//! login TLS PEER [KEY]          logs in as shop with the password `geheim`, over a connection from PEER that is as TLS says, with the
//!                               server's public key in a file; the server says the lines of the body:
//!     greeting PLUGIN [tls] | switch PLUGIN | full | fast | key FILE | word BYTES | ok
//!                               prints what it has heard, and how that ended
//! sealed TLS here|away plain|encrypted   what the doctor says of such a connection
//! ```

pub(crate) mod build;
pub(crate) mod continuity;
mod fake;
pub(crate) mod histories;
mod login;
mod proxy;
mod repair;
mod rights;
pub(crate) mod runner;
pub(crate) mod server;
mod splits;
mod texts;

use std::path::Path;

use build::{EventBuilder, Session, rows_of};
use connect::source::mysql::testing::{
    Answer, Replay, covers, diagnosed, judge, place_of, position, understood, understood_event,
};
use connect::source::mysql::{CaptureTable, Load, SourceColumn, decode};
use connect::{ColumnRule, Limits, Pattern, Secret};
use relation::{Entry, Layout, SourceBatch, TableId, Unread};
use testkit::{Block, Driver};

/// Runs one case.
#[derive(Default)]
pub(crate) struct CaptureDriver {
    replay: Option<Replay>,
    builder: EventBuilder,
}

impl Driver for CaptureDriver {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        let arguments: Vec<&str> = block.arguments.iter().map(String::as_str).collect();
        match block.directive.as_str() {
            "start" => self.start(&arguments),
            "events" => self.events(arguments.contains(&"crc32"), &block.body),
            "chunk" => self.chunk(&arguments, &block.body),
            "time" => {
                let seconds: i64 = arguments[0].parse().map_err(|_| "SECONDS")?;
                self.replay()?.set_time(seconds);
                Ok(String::new())
            }
            "look" => Ok(self.replay()?.look().map_or("none".to_owned(), |name| format!("describe {name}"))),
            "settle" => {
                let end = place(arguments[0])?;
                Ok(if self.replay()?.settle(end) { "asked" } else { "known" }.to_owned())
            }
            "described" => {
                let order = arguments.get(1).filter(|word| word.contains(','));
                let answer = if order.is_some() { Answer::Same } else { answer_of(arguments.get(1).copied())? };
                let replay = self.replay()?;
                // As the source does: the table is left as the log has made it up to here.
                let mut out = String::new();
                while replay.is_ready() {
                    out += &print_batch(&replay.take());
                }
                match order {
                    None => replay.described(arguments[0], answer),
                    Some(order) => replay.described_as(arguments[0], order),
                }
                if replay.is_void() {
                    out += "void\n";
                }
                Ok(out)
            }
            "keys" => {
                // By default they are older than all that comes.
                let end = arguments.first().map_or(Ok(("", 0)), |word| place(word))?;
                self.replay()?.set_keys(&block.body, end)?;
                Ok(String::new())
            }
            "reach" => {
                self.replay()?.set_reach();
                Ok(String::new())
            }
            "begin" => {
                let (file, offset) = place(arguments[0])?;
                let answer = answer_of(arguments.get(1).copied())?;
                let begun = self.replay()?.begin((file, offset), answer);
                Ok(begun.join(" "))
            }
            "ask" => Ok(if self.replay()?.ask(arguments[0]) { "looks" } else { "waits" }.to_owned()),
            "server" => {
                let version = arguments.get(1).and_then(|n| n.parse().ok()).ok_or("server KIND VERSION")?;
                let has_exact_names = !arguments.contains(&"fold");
                self.replay()?.set_server(arguments[0] == "mariadb", version, has_exact_names);
                Ok(String::new())
            }
            "abandon" => {
                self.replay()?.abandon();
                Ok(String::new())
            }
            "resume" => {
                let offset = arguments[0].parse().map_err(|_| "OFFSET")?;
                self.builder = EventBuilder::new(offset);
                self.replay()?.resume_from(offset);
                Ok(String::new())
            }
            "moves" => {
                self.replay()?.moves_to(arguments[0]);
                Ok(String::new())
            }
            "ends" => {
                let has_gone_back = self.replay()?.has_gone_back(place(arguments[0])?);
                Ok(if has_gone_back { "another history" } else { "fine" }.to_owned())
            }
            "adopt" => {
                self.replay()?.adopt();
                Ok(String::new())
            }
            "mark" => Ok(self.replay()?.marked()),
            "judge" => judge(&block.body),
            "settings" => Ok(diagnosed(&block.body)),
            "take" => {
                let replay = self.replay()?;
                let batch = replay.take();
                let mut out = print_batch(&batch);
                for notice in replay.notices() {
                    out += &format!("{notice}\n");
                }
                Ok(out)
            }
            "position" => Ok(lines(&block.body, |line| position(line).unwrap_or_else(|e| format!("error: {e}")))),
            "covers" => Ok(lines(&block.body, |line| {
                let (current, target) = line.split_once(" >= ").unwrap_or((line, ""));
                covers(current, target).map_or_else(|e| format!("error: {e}"), |yes| yes.to_string())
            })),
            "statement" => statements(&arguments, &block.body),
            "login" => login::login(&arguments, &block.body),
            "sealed" => login::sealed(&arguments),
            "secret" => secret(&arguments, &block.body),
            other => Err(format!("unknown directive \"{other}\"")),
        }
    }
}

fn answer_of(word: Option<&str>) -> Result<Answer, String> {
    match word {
        None | Some("same") => Ok(Answer::Same),
        Some("altered") => Ok(Answer::Altered),
        Some("gone") => Ok(Answer::Gone),
        Some(other) => Err(format!("unknown answer \"{other}\"")),
    }
}

fn place(text: &str) -> Result<(&str, u64), String> {
    let (file, offset) = text.rsplit_once(':').ok_or("FILE:OFFSET")?;
    Ok((file, offset.parse().map_err(|_| "offset")?))
}

fn statements(arguments: &[&str], body: &str) -> Result<String, String> {
    let value = |name: &str| arguments.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix('='));
    let mariadb = arguments.contains(&"mariadb");
    let version = value("version").map_or(Ok(if mariadb { 101_105 } else { 80_404 }), str::parse);
    let version = version.map_err(|_| "version=N")?;
    let modes = arguments.join(" ");
    let mut out = String::new();
    for line in body.lines() {
        let line = line.replace('⏎', "\n");
        out += &match value("charset") {
            None => understood(&line, mariadb, version, &modes),
            Some(charset) => {
                let session = Session { charset: Some(charset.to_owned()), ..Session::default() };
                understood_event(&build::query(&line, &session)?, mariadb, version)?
            }
        };
        out.push('\n');
    }
    Ok(out)
}

fn secret(arguments: &[&str], body: &str) -> Result<String, String> {
    let reference = arguments.get(1).copied().unwrap_or_default().to_owned();
    let secret = match arguments[0] {
        "literal" => Secret::Literal(reference),
        "env" => Secret::Env(reference),
        "file" => Secret::File(Path::new(env!("CARGO_MANIFEST_DIR")).join(reference)),
        _ => Secret::Command(body.to_owned()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    Ok(match runtime.block_on(secret.resolve()) {
        Ok(text) => format!("{text} (shown as {secret:?})").replace(env!("CARGO_MANIFEST_DIR"), "…"),
        Err(failure) => format!("error: {}\nDetail: {}\nHint: {}", failure.message, failure.detail, failure.hint)
            .replace(env!("CARGO_MANIFEST_DIR"), "…"),
    })
}

impl CaptureDriver {
    fn replay(&mut self) -> Result<&mut Replay, String> {
        self.replay.as_mut().ok_or_else(|| "start is missing".to_owned())
    }

    fn start(&mut self, arguments: &[&str]) -> Result<String, String> {
        // Everything up to the word `loading` is the position; it may hold a space before its GTIDs.
        let loading = arguments.contains(&"loading");
        let waiting = arguments.contains(&"waiting");
        let broken = arguments.contains(&"broken");
        let mut limits = Limits::default();
        let mut text = Vec::new();
        let flags = ["loading", "waiting", "broken", "labels", "partly"];
        for argument in arguments.iter().copied().filter(|a| !flags.contains(a)) {
            match argument.split_once('=') {
                Some(("rows", n)) => limits.rows_max = n.parse().map_err(|_| "rows=N")?,
                Some(("bytes", n)) => limits.bytes_max = n.parse().map_err(|_| "bytes=N")?,
                _ => text.push(argument),
            }
        }
        let text = text.join(" ");
        let offset = text.split(' ').next().and_then(|p| p.rsplit_once(':')).ok_or("FILE:OFFSET")?.1;
        self.builder = EventBuilder::new(offset.parse().map_err(|_| "offset")?);
        let load = || match () {
            () if broken => Load::Pending { cursor: Some(Vec::new()) },
            () if loading || waiting => Load::Pending { cursor: None },
            () => Load::Complete,
        };
        let mut tables = vec![table(0, "orders", true, load()), table(1, "bag", false, load())];
        if arguments.contains(&"labels") {
            let mut labels = table(2, "labels", true, load());
            labels.columns[1].data_type = "enum".to_owned();
            labels.columns[1].column_type = "enum('good')".to_owned();
            tables.push(labels);
        }
        if arguments.contains(&"partly") {
            tables.push(partly(load()));
        }
        let mut replay = Replay::with_limits(tables, &text, limits)?;
        if loading {
            replay.begin(place(text.split(' ').next().unwrap_or_default())?, Answer::Same);
        }
        self.replay = Some(replay);
        Ok(String::new())
    }

    fn events(&mut self, crc32: bool, body: &str) -> Result<String, String> {
        let mut out = String::new();
        self.builder.set_checksums(crc32);
        let format = self.builder.format_description();
        if let Err(error) = self.replay()?.event(&format) {
            return Ok(format!("the file's head: error: {error}\n"));
        }
        for line in body.lines() {
            if let Some(session) = line.strip_prefix("session") {
                self.builder.set_session(session)?;
                continue;
            }
            let event = self.builder.event(line.trim())?;
            let mut step = self.replay()?.event(&event);
            loop {
                while self.replay()?.is_full() {
                    out += &print_batch(&self.replay()?.take());
                }
                if step != Ok(Some("paused".to_owned())) {
                    break;
                }
                step = self.replay()?.event(&event);
            }
            match step {
                Ok(None) => {}
                Ok(Some(step)) if step == "committed" || step == "outgrown" => {}
                Ok(Some(step)) => {
                    out += &format!("{line}: {step}\n");
                    // As the source does: answered later by a `described` block, and given again there.
                    self.builder.step_back();
                    break;
                }
                Err(error) => {
                    out += &format!("{line}: error: {error}\n");
                    break;
                }
            }
        }
        Ok(out)
    }

    fn chunk(&mut self, arguments: &[&str], body: &str) -> Result<String, String> {
        let [name, high, rest @ ..] = arguments else {
            return Err("chunk TABLE FILE:OFFSET".to_owned());
        };
        let index = ["orders", "bag", "labels"].iter().position(|known| known == name).ok_or("a table")?;
        let (file, offset) = place(high)?;
        let rows = rows_of(body.split_whitespace())?;
        let place = (rest.contains(&"begins"), rest.contains(&"complete"));
        let placed = self.replay()?.chunk(index, rows, (file, offset), place);
        Ok(if placed { "placed" } else { "waits" }.to_owned())
    }
}

fn lines(body: &str, answer: impl Fn(&str) -> String) -> String {
    body.lines().map(|line| answer(line) + "\n").collect()
}

/// The columns of the test's tables.
pub(crate) fn columns(keyed: bool) -> Vec<SourceColumn> {
    vec![
        SourceColumn {
            name: "id".to_owned(),
            data_type: "int".to_owned(),
            column_type: "int".to_owned(),
            key_position: keyed.then_some(0),
            ..SourceColumn::default()
        },
        SourceColumn {
            name: "name".to_owned(),
            data_type: "varchar".to_owned(),
            column_type: "varchar(20)".to_owned(),
            charset: Some("utf8mb4".to_owned()),
            collation: Some("utf8mb4_general_ci".to_owned()),
            nullable: true,
            ..SourceColumn::default()
        },
    ]
}

pub(crate) fn table(id: u32, name: &str, keyed: bool, load: Load) -> CaptureTable {
    let columns = columns(keyed);
    let schema = decode::relation_schema(&columns).expect("the test's columns are plain");
    CaptureTable {
        id: TableId(id),
        database: "shop".to_owned(),
        name: name.to_owned(),
        columns,
        is_placed: false,
        rule: ColumnRule::default(),
        schema,
        load,
    }
}

/// A table of which columns are left out.
fn partly(load: Load) -> CaptureTable {
    let mut partly = table(3, "partly", true, load);
    let (column, text, place) = ("raw_*".to_owned(), "*.raw_*".to_owned(), "connections.yml".to_owned());
    partly.rule.left_out = vec![Pattern { column, text, place }];
    let left_out = partly.rule.leaves_out("raw_a", None);
    partly.columns.push(SourceColumn {
        name: "raw_a".to_owned(),
        data_type: "int".to_owned(),
        column_type: "int".to_owned(),
        left_out,
        ..SourceColumn::default()
    });
    partly
}

fn unread(bytes: &[u8]) -> String {
    let Unread { key, row, reason, position, .. } = Unread::read(bytes).expect("as it was written");
    let key = if key.is_empty() { "no key".to_owned() } else { format!("key {key:02x?}") };
    let said = [key, position, reason, row];
    said.into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join(" ")
}

fn print_batch(batch: &SourceBatch) -> String {
    let layout = Layout::new(decode::relation_schema(&columns(true)).expect("plain").types());
    let row = |row: &[u8]| layout.values(row).iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut out = match batch.part {
        None => String::new(),
        Some(part) => format!("part {}{}\n", part.number, if part.is_last { ", the last" } else { "" }),
    };
    if batch.part.is_none_or(|part| part.is_last) || !batch.position.0.is_empty() {
        out += &format!("position {}\n", place_of(&batch.position.0));
    }
    for mark in &batch.transactions {
        let (time, changes) = (mark.commit_time_us, mark.changes);
        out += &format!("transaction at {time} us: {changes} changes\n");
    }
    for (table, changes) in &batch.tables {
        if changes.truncated {
            out += &format!("{table} emptied\n");
        }
        for entry in changes.entries() {
            out += &match entry {
                Entry::Row(bytes, weight) => format!("{table} {weight:+} {}\n", row(bytes)),
                Entry::Unread(bytes, weight) => format!("{table} {weight:+} unread: {}\n", unread(bytes)),
            };
        }
    }
    for chunk in &batch.chunks {
        let rows: Vec<String> = chunk.rows.iter().map(row).collect();
        let complete = if chunk.complete { ", complete" } else { "" };
        out += &format!("{} chunk [{}]{complete}\n", chunk.table, rows.join(" "));
        chunk.unread.iter().for_each(|bytes| out += &format!("{} chunk unread: {}\n", chunk.table, unread(bytes)));
    }
    out
}
