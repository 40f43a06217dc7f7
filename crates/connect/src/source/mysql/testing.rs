//! A door for the case files: the assembler and the windows without a server. Not for use by other crates.

use relation::SourceBatch;

use crate::source::Limits;

use super::CaptureTable;
use super::assemble::{Assembler, Notice, Step};
use super::position::{LogPoint, LogPosition};
use super::statement::statement;
use super::window::Chunk;

/// Plays log events into an assembler.
#[derive(Debug)]
pub struct Replay {
    assembler: Assembler,
}

impl Replay {
    /// Starts at a position, as [`relation::Position`] has it.
    pub fn new(tables: Vec<CaptureTable>, position: &str) -> Result<Self, String> {
        let position: LogPosition = position.parse().map_err(|e| format!("{e}"))?;
        Ok(Self { assembler: Assembler::new(tables, position, Limits::default(), 0) })
    }

    /// Gives one event; says what it asked for, if anything.
    pub fn event(&mut self, event: &[u8]) -> Result<Option<String>, String> {
        match self.assembler.event(event) {
            Ok(Step::Next) => Ok(None),
            Ok(Step::Committed) => Ok(Some("committed".to_owned())),
            Ok(Step::Describe(index)) => Ok(Some(format!("describe {}", self.assembler.table(index).name))),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Answers a request to describe a table: unchanged, or altered.
    pub fn described(&mut self, name: &str, unchanged: bool) {
        let mut index = 0;
        while self.assembler.table(index).name != name {
            index += 1;
        }
        let mut columns = self.assembler.table(index).columns.clone();
        if !unchanged {
            columns.pop();
        }
        self.assembler.described(index, Some(&columns));
    }

    /// The connection is lost.
    pub fn abandon(&mut self) {
        self.assembler.abandon();
    }

    /// A chunk of the table with this index arrives. Returns false if it must wait.
    pub fn chunk(&mut self, table: usize, rows: relation::Rows, high: (&str, u64), complete: bool) -> bool {
        let high = LogPoint::new(high.0, high.1);
        let chunk = Chunk { table, run: 0, rows, cursor: Vec::new(), complete, high, rows_estimate: 0 };
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
        let line = |notice| match notice {
            Notice::Parked { table, reason } => format!("parked {table}: {reason}"),
            Notice::Rejected(row) => {
                format!("rejected {}: {} ({})", row.table, row.reason, row.row)
            }
        };
        self.assembler.notices().into_iter().map(line).collect()
    }
}

/// A position read and written again.
pub fn position(text: &str) -> Result<String, String> {
    text.parse::<LogPosition>().map(|p| p.to_string()).map_err(|e| e.to_string())
}

/// Whether a GTID position has seen all of another.
pub fn covers(current: &str, target: &str) -> Result<bool, String> {
    let position = |text: &str| relation::Position(text.to_owned());
    super::reached(&position(current), &position(target)).map_err(|e| e.to_string())
}

/// How a statement of the log is understood.
pub fn understood(sql: &str) -> String {
    format!("{:?}", statement(sql.as_bytes()))
}
