//! A door for the case files: messages from events without a server. Not for use by other crates.

use std::path::Path;

use crate::source::Limits;
use crate::source::mysql::SourceColumn;
use crate::source::mysql::log::{Assembler, Step};
use crate::source::mysql::log::{Dialect, LogPoint, LogPosition};

use super::ddl;
use super::follow::{Follower, Settings};
use super::schema::{Schemas, Table};
use super::{Filter, Options, Routing, java};

/// Plays log events, and has messages of them.
#[derive(Debug)]
pub struct Replay {
    assembler: Assembler,
    follower: Follower,
}

impl Replay {
    /// Begins at a position, with a server of a kind and a version such as 101105 for 10.11.5.
    pub fn new(options: Options, filter: Filter, routing: Option<Routing>, folder: &Path, mariadb: bool) -> Self {
        let settings = Settings {
            options,
            filter,
            routing,
            own_database: "maxwell".to_owned(),
            client_id: "maxwell".to_owned(),
            folder: folder.to_owned(),
        };
        let schemas =
            Schemas { charset: "utf8mb4".to_owned(), has_exact_names: true, version: 1, ..Schemas::default() };
        let mut follower = Follower::new(settings, schemas);
        let version = if mariadb { 101_105 } else { 90_700 };
        let dialect = Dialect { mariadb, version, ..Dialect::default() };
        follower.set_server(dialect);
        let position = LogPosition { point: LogPoint::new("binlog.000001", 4), ..LogPosition::default() };
        let mut assembler = Assembler::new(Vec::new(), position, Limits::default(), 0);
        assembler.set_server(dialect, true);
        Self { assembler, follower }
    }

    /// A table is known.
    pub fn know(&mut self, database: &str, name: &str, columns: Vec<SourceColumn>) {
        self.follower.schemas.insert(Table {
            database: database.to_owned(),
            name: name.to_owned(),
            charset: "utf8mb4".to_owned(),
            columns,
            as_of: LogPoint::default(),
        });
    }

    /// Gives an event as it came. What is asked for is not there. Answers messages and news, a line each.
    pub fn event(&mut self, event: &[u8]) -> Result<Vec<String>, String> {
        while self.assembler.event_heard(event, &mut self.follower).map_err(|error| error.to_string())? == Step::Asked {
            for unknown in std::mem::take(&mut self.follower.asked) {
                self.follower.answer_table(unknown, None);
            }
        }
        while self.follower.is_ending() {
            self.follower.go_on().map_err(|error| error.to_string())?;
        }
        let output = self.follower.take_output();
        let mut lines: Vec<String> = String::from_utf8_lossy(&output.bytes).lines().map(str::to_owned).collect();
        let mut from = 0;
        for (line, record) in lines.iter_mut().zip(&output.records) {
            let text = |from: usize, to: usize| String::from_utf8_lossy(&output.names[from..to]).into_owned();
            *line = format!(
                "{} {} {}\n  {line}",
                text(record.key, record.topic),
                java::partition(record.hash, 12),
                text(from, record.key)
            );
            from = record.topic;
        }
        for path in self.follower.settled() {
            std::fs::remove_file(path).ok();
        }
        lines.extend(self.follower.news().into_iter().map(|line| format!("told: {line}")));
        Ok(lines)
    }

    /// The connection is lost.
    pub fn abandon(&mut self) {
        self.assembler.abandon();
        self.follower.abandon();
    }

    /// Where reading would go on.
    pub fn position(&self) -> String {
        self.assembler.position().point.to_string()
    }

    /// What definitions are kept as, and whether they are read back the same.
    pub fn schemas(&self) -> Result<String, String> {
        let text = self.follower.schemas.text();
        let read = Schemas::read(&text).ok_or("they cannot be read")?;
        if read.text() == text { Ok(text) } else { Err("they are read otherwise".to_owned()) }
    }
}

/// Reads statements, one a line, and answers what is told of them and what becomes of the tables.
pub fn definitions(statements: &str, mariadb: bool) -> Vec<String> {
    let mut schemas =
        Schemas { charset: "utf8mb4".to_owned(), has_exact_names: true, is_whole: true, ..Schemas::default() };
    schemas.insert_database("shop", "latin1");
    let version = if mariadb { 101_105 } else { 90_700 };
    let dialect = Dialect { mariadb, version, ..Dialect::default() };
    let mut out = Vec::new();
    for (at, statement) in (100..).zip(statements.lines()) {
        let Some(change) = ddl::parse(statement, dialect) else {
            out.push("nothing".to_owned());
            continue;
        };
        let told = ddl::apply(&mut schemas, &change, "shop", None, &LogPoint::new("binlog.000001", at));
        out.extend(told.iter().map(|told| {
            let table = told.table.as_ref().map(|table| format!(".{table}")).unwrap_or_default();
            format!("{} {}{table}{}", told.kind, told.database, String::from_utf8_lossy(&told.members))
        }));
        if told.is_empty() {
            out.push("untold".to_owned());
        }
    }
    out
}
