//! Cases of Maxwell's messages: log events, and the lines that come of them.
//!
//! ```text
//! config               lines of a maxwell.properties, which hold from now on; a server of `mariadb` where it says so
//! recorded             what a real server wrote, as cases of `decode` have it: its messages, in one transaction
//! log                  events, a line each, as cases of `capture` have them: messages as they come out, and what is told
//! lost                 the connection is lost: where it goes on
//! definitions [mariadb]   statements, and what is told of each
//! settings             what a maxwell.properties comes to: notes, or what is wrong with it
//! kept                 whether definitions are read back as they are kept
//! ```
//!
//! With `SLOW=1` the cases of Maxwell's own (`tests/conformance`) are run on the servers of `scripts/services`.

#![allow(clippy::unwrap_used, reason = "test code: a panic fails the case")]

mod begin;
mod conformance;
mod kafka;

use connect::maxwell::properties;
use connect::maxwell::testing::{Replay, definitions};
use testkit::{Block, Driver};

use crate::capture::build::EventBuilder;
use crate::{capture, decode};

pub(crate) use conformance::trials;

/// Runs one case.
#[derive(Default)]
pub(crate) struct MaxwellDriver {
    config: String,
    is_mariadb: bool,
    replay: Option<Replay>,
    builder: Option<EventBuilder>,
    folder: Option<Folder>,
}

/// A folder of the case's own, as long as it runs.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidemill-maxwell-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

impl Driver for MaxwellDriver {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        let is_mariadb = block.arguments.iter().any(|word| word == "mariadb");
        match block.directive.as_str() {
            "config" => {
                (self.config, self.is_mariadb) = (block.body.clone(), is_mariadb);
                (self.replay, self.builder) = (None, None);
                Ok(String::new())
            }
            "recorded" => self.recorded(&block.body),
            "log" => self.log(&block.body),
            "lost" => {
                let replay = self.replay.as_mut().ok_or("nothing is read")?;
                replay.abandon();
                Ok(replay.position())
            }
            "definitions" => Ok(definitions(&block.body, is_mariadb).join("\n")),
            "settings" => {
                let entries = properties::entries(&block.body, "maxwell.properties");
                Ok(match properties::config(&entries) {
                    Ok(config) => config.notes.join("\n"),
                    Err(failures) => failures.iter().map(connect::Failure::text).collect::<Vec<_>>().join("\n"),
                })
            }
            "kept" => self.replay.as_ref().ok_or("nothing is read")?.schemas(),
            other => Err(format!("unknown directive \"{other}\"")),
        }
    }
}

impl MaxwellDriver {
    fn fresh(&mut self) -> Result<Replay, String> {
        let entries = properties::entries(&self.config, "config");
        let config = properties::config(&entries).map_err(|failures| format!("{failures:?}"))?;
        let folder = self.folder.get_or_insert_with(Folder::new);
        let routing = (config.producer == properties::Producer::Kafka).then_some(config.routing);
        Ok(Replay::new(config.options, config.filter, routing, &folder.0, self.is_mariadb))
    }

    fn log(&mut self, lines: &str) -> Result<String, String> {
        if self.replay.is_none() {
            let mut replay = self.fresh()?;
            for table in ["orders", "bag"] {
                replay.know("shop", table, capture::columns(table == "orders"));
            }
            self.replay = Some(replay);
            self.builder = None;
        }
        let replay = self.replay.as_mut().ok_or("nothing is read")?;
        let mut out = Vec::new();
        let builder = self.builder.get_or_insert_with(|| EventBuilder::new(4));
        if builder.offset() == 4 {
            replay.event(&builder.format_description())?;
        }
        for line in lines.lines() {
            if let Some(words) = line.strip_prefix("session") {
                builder.set_session(words)?;
                continue;
            }
            let event = builder.event(line)?;
            out.extend(replay.event(&event).unwrap_or_else(|error| vec![format!("error: {error}")]));
        }
        Ok(out.join("\n"))
    }

    fn recorded(&mut self, text: &str) -> Result<String, String> {
        let recording = decode::parse(text)?;
        let mut replay = self.fresh()?;
        let mut builder = EventBuilder::new(4);
        replay.event(&builder.format_description())?;
        replay.event(&builder.event("begin")?)?;
        let mut out = Vec::new();
        for (kind, payload) in &recording.events {
            if *kind == 19 {
                let map = connect::source::mysql::decode::TableMap::parse(payload).map_err(|e| e.to_string())?;
                replay.know(&map.database, &map.table, recording.columns.clone());
            }
            out.extend(replay.event(&builder.raw(*kind, payload))?);
        }
        out.extend(replay.event(&builder.event("xid 7")?)?);
        // The test's server has a database for each case.
        let database = out.first().and_then(|line| line.split('"').nth(3)).unwrap_or_default().to_owned();
        Ok(out.join("\n").replace(&format!("\"database\":\"{database}\""), "\"database\":\"d\""))
    }
}
