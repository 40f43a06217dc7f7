//! Cases of the capture: log events in, batches out; chunks between them; positions and statements.
//!
//! ```text
//! start POSITION [loading]      two tables: shop.orders(id int primary key, name varchar(20)), shop.bag without the key
//!     rows=N bytes=N            the limits of a batch
//! events [crc32]                plays the lines of the body; prints what the capture asks for or complains of, and the
//!                               batches that must be taken before the next event
//!     gtid N [TIME]             head of a transaction on MySQL, committed at TIME microseconds
//!     anonymous [TIME]          the same without a number;  tagged TAG N [TIME]
//!     mariadb D-S-N [ddl]       head of a transaction on MariaDB
//!     begin | xid [N] | query SQL | rotate FILE | heartbeat | unknown N [ignorable] | incident
//!     map ID TABLE [columns=N]  table map; of shop.orders with another number of columns if asked
//!     insert ID ID,NAME …       rows;  delete likewise;  update ID OLD=>NEW …
//!     payload LINE; LINE; …     the lines inside a compressed transaction;  zipped likewise, and compressed indeed
//!     garbage HEX               an event with this body, as a rows event
//! chunk TABLE FILE:OFFSET [complete]   rows of the body arrive with this end of the log; placed or waits
//! described TABLE same|altered  the answer to a request to look at a table again
//! abandon                       the connection is lost
//! resume OFFSET                 the log comes from this offset on, before the position: what follows is played from there
//! belongs SERVER                the log that comes is this server's
//! adopt FILE:OFFSET SET         what the server has executed up to a place of its log
//! mark                          prints the position with that by which its log is known again
//! judge                         whether a server's log leads on from a position: what it is and has, a line each
//! settings                      what the doctor tells of a server's settings, a line each
//! take                          prints the batch and the news
//! position | covers | statement  one answer per line of the body
//! secret KIND [REFERENCE]       resolves a secret
//! ```

mod build;
pub(crate) mod continuity;
mod fake;
pub(crate) mod histories;
pub(crate) mod runner;
pub(crate) mod server;
mod splits;

use std::path::Path;

use build::{EventBuilder, rows_of};
use connect::source::mysql::testing::{Replay, covers, diagnosed, judge, place_of, position, understood};
use connect::source::mysql::{CaptureTable, Load, SourceColumn, decode};
use connect::{Limits, Secret};
use relation::{Layout, SourceBatch, TableId};
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
            "described" => {
                self.replay()?.described(arguments[0], arguments.get(1) == Some(&"same"));
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
            "belongs" => {
                self.replay()?.belongs_to(arguments[0]);
                Ok(String::new())
            }
            "adopt" => {
                let (file, offset) = arguments[0].rsplit_once(':').ok_or("FILE:OFFSET")?;
                let offset = offset.parse().map_err(|_| "offset")?;
                self.replay()?.adopt((file, offset), arguments[1]).map(|()| String::new())
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
            "statement" => Ok(lines(&block.body, understood)),
            "secret" => secret(&arguments, &block.body),
            other => Err(format!("unknown directive \"{other}\"")),
        }
    }
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
        let mut limits = Limits::default();
        let mut text = Vec::new();
        for argument in arguments.iter().copied().filter(|a| *a != "loading") {
            match argument.split_once('=') {
                Some(("rows", n)) => limits.rows_max = n.parse().map_err(|_| "rows=N")?,
                Some(("bytes", n)) => limits.bytes_max = n.parse().map_err(|_| "bytes=N")?,
                _ => text.push(argument),
            }
        }
        let text = text.join(" ");
        let offset = text.split(' ').next().and_then(|p| p.rsplit_once(':')).ok_or("FILE:OFFSET")?.1;
        self.builder = EventBuilder::new(offset.parse().map_err(|_| "offset")?);
        let load = || if loading { Load::Pending { cursor: None } } else { Load::Complete };
        let tables = vec![table(0, "orders", true, load()), table(1, "bag", false, load())];
        self.replay = Some(Replay::with_limits(tables, &text, limits)?);
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
        let index = usize::from(*name == "bag");
        let (file, offset) = high.rsplit_once(':').ok_or("FILE:OFFSET")?;
        let offset = offset.parse().map_err(|_| "offset")?;
        let rows = rows_of(body.split_whitespace())?;
        let placed = self.replay()?.chunk(index, rows, (file, offset), rest.contains(&"complete"));
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
    CaptureTable { id: TableId(id), database: "shop".to_owned(), name: name.to_owned(), columns, schema, load }
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
        for (bytes, weight) in changes.rows.iter().zip(&changes.weights) {
            out += &format!("{table} {weight:+} {}\n", row(bytes));
        }
    }
    for chunk in &batch.chunks {
        let rows: Vec<String> = chunk.rows.iter().map(row).collect();
        let complete = if chunk.complete { ", complete" } else { "" };
        out += &format!("{} chunk [{}]{complete}\n", chunk.table, rows.join(" "));
    }
    out
}
