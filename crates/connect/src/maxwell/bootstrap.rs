//! Bootstraps: the rows of a table by a query, because somebody has inserted a request into `maxwell.bootstrap`.
//!
//! The law: rows of the log go on between those of the query, and the last message of a key has its last row. So a row of the query is
//! left out where the log has brought its key since the query was about to begin ([`Touched`]); and the query begins a while after
//! that, for a commit is in the log before a query shows it. A table without a key has no such order: its rows may be there twice.
//!
//! A request is kept in the state folder until its last row is safe. After a crash it begins anew, as Maxwell's do.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hashbrown::HashSet;
use relation::key::hash128;
use serde_json::json;
use tokio::time::Instant;

use crate::source::Failure;
use crate::source::mysql::SourceColumn;
use crate::source::mysql::log::parts::{Kind, expression};
use crate::source::mysql::log::{Asked, Wire, WireError, quoted};

use super::cell;
use super::message::Output;
use super::options::Options;
use super::schema::Table;
use super::shape::{Image, Shape, field, write_names};
use super::value::{Style, unquoted, write_text, write_unsigned};

/// Rows that are taken at a time, between what the log brings.
const PORTION_ROWS: usize = 1_000;
/// And bytes.
const PORTION_BYTES: usize = 1 << 20;
/// How long a commit may be in the log before a query shows it.
const DELAY: Duration = Duration::from_secs(1);
/// Keys that the log may bring meanwhile.
const TOUCHED_MAX: usize = 2_000_000;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) database: String,
    pub(crate) table: String,
    /// A condition for its rows.
    pub(crate) condition: Option<String>,
    pub(crate) comment: Option<String>,
}

impl Request {
    /// The request that a row of `maxwell.bootstrap` is, if it is for this client and not done.
    pub(crate) fn of(shape: &Shape, image: &Image<'_>, client_id: &str) -> Option<Self> {
        let text = |name: &str| {
            let at = shape.columns.iter().position(|column| column.name == name)?;
            image.java_text(shape, at).flatten()
        };
        let is_ours = text("client_id").is_none_or(|id| id == client_id);
        let is_done = text("is_complete").is_some_and(|done| done != "0");
        if !is_ours || is_done {
            return None;
        }
        Some(Self {
            id: text("id").unwrap_or_default(),
            database: text("database_name")?,
            table: text("table_name")?,
            condition: text("where_clause").filter(|condition| !condition.trim().is_empty()),
            comment: text("comment"),
        })
    }

    /// Where it is kept until it is done.
    pub(crate) fn path(&self, folder: &Path) -> PathBuf {
        let id: String = self.id.chars().filter(char::is_ascii_alphanumeric).collect();
        folder.join(format!("bootstrap-{id}.json"))
    }

    pub(crate) fn keep(&self, folder: &Path) -> io::Result<()> {
        let text = json!({
            "id": self.id, "database": self.database, "table": self.table, "where": self.condition, "comment": self.comment,
        });
        let path = self.path(folder);
        let half = path.with_added_extension("new");
        std::fs::write(&half, text.to_string())?;
        std::fs::File::open(&half)?.sync_all()?;
        std::fs::rename(half, path)?;
        std::fs::File::open(folder)?.sync_all()
    }

    /// Those that are kept, in the order of their numbers. Errors: one cannot be read, which is to be known before it is passed over.
    pub(crate) fn kept(folder: &Path) -> Result<Vec<Self>, Failure> {
        let failed = |path: &Path, detail: String| Failure {
            message: "a request for a bootstrap that is kept cannot be read".to_owned(),
            detail: format!("{}: {detail}", path.display()),
            hint: "Remove the file, and ask for the bootstrap once more.".to_owned(),
        };
        let read = |path: PathBuf| {
            let text = std::fs::read(&path).map_err(|error| failed(&path, error.to_string()))?;
            Self::of_json(&text).ok_or_else(|| failed(&path, "It is not what a capture writes.".to_owned()))
        };
        let is_request = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("bootstrap-") && name.ends_with(".json")
        };
        let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|error| failed(folder, error.to_string()))?;
        let paths = entries.into_iter().map(|entry| entry.path()).filter(is_request);
        let mut found = paths.map(read).collect::<Result<Vec<Self>, Failure>>()?;
        found.sort_by_key(|request| request.id.parse::<u64>().unwrap_or(u64::MAX));
        Ok(found)
    }

    fn of_json(text: &[u8]) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_slice(text).ok()?;
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        Some(Self {
            id: text("id")?,
            database: text("database")?,
            table: text("table")?,
            condition: text("where"),
            comment: text("comment"),
        })
    }
}

/// Keys of a table that the log has brought since its bootstrap was about to begin.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) database: String,
    pub(crate) table: String,
    keys: HashSet<[u8; 16]>,
}

impl Touched {
    /// Notes the key of an image of the log.
    pub(crate) fn note(&mut self, shape: &Shape, image: &Image<'_>, options: &Options) {
        if shape.key.is_empty() || image.cells.is_empty() || self.is_full() {
            return;
        }
        let mut key = Vec::new();
        for &at in &shape.key {
            image.write(shape, at, options.style(), &mut key);
            key.push(0);
        }
        self.keys.insert(hash128(&key));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.keys.len() >= TOUCHED_MAX
    }
}

/// A bootstrap under way.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    pub(crate) request: Request,
    /// None: there is no such table.
    columns: Vec<(SourceColumn, Kind, Vec<u8>)>,
    /// Places of the key's columns among these.
    key: Vec<usize>,
    not_before: Instant,
    query: Option<(Wire, Asked)>,
    pub(crate) rows: u64,
}

/// What is to be done after a portion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Portion {
    /// There may be more.
    More,
    /// Not before some time.
    Wait,
    Done,
}

impl Bootstrap {
    /// Of a table, if there is one. Errors: a column that cannot be read, as a sentence.
    pub(crate) fn new(request: Request, table: Option<Table>, options: &Options) -> Result<Self, String> {
        let mut columns = Vec::new();
        for column in table.into_iter().flat_map(|table| table.columns) {
            if column.left_out.is_some() || column.is_of_period() {
                continue;
            }
            let kind = Kind::of(&column).map_err(|error| format!("column \"{}\": {}", error.column, error.reason))?;
            let mut label = Vec::new();
            write_text(&options.named(&column.name), &mut label);
            label.push(b':');
            columns.push((column, kind, label));
        }
        let mut key: Vec<(usize, usize)> =
            columns.iter().enumerate().filter_map(|(at, (column, ..))| Some((column.key_position?, at))).collect();
        key.sort_unstable();
        let key = key.into_iter().map(|(_, at)| at).collect();
        Ok(Self { request, columns, key, not_before: Instant::now() + DELAY, query: None, rows: 0 })
    }

    pub(crate) fn is_of_table(&self) -> bool {
        !self.columns.is_empty()
    }

    /// What is to be noted of the log from now on.
    pub(crate) fn touched(&self) -> Touched {
        let Request { database, table, .. } = &self.request;
        Touched { database: database.clone(), table: table.clone(), keys: HashSet::new() }
    }

    /// The query of its rows, in the order of the key.
    fn sql(&self) -> String {
        let Request { database, table, condition, .. } = &self.request;
        let selected: Vec<String> =
            self.columns.iter().map(|(column, kind, _)| expression(&column.name, kind)).collect();
        let condition = condition.as_ref().map(|condition| format!(" WHERE ({condition})")).unwrap_or_default();
        let order: Vec<String> = self.key.iter().map(|&at| quoted(&self.columns[at].0.name)).collect();
        let order = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
        format!("SELECT {} FROM {}.{}{condition}{order}", selected.join(", "), quoted(database), quoted(table))
    }

    /// Has some rows come out. `wire` is a connection for the query, if it has not begun.
    pub(crate) async fn portion(
        &mut self,
        wire: Option<Wire>,
        touched: &Touched,
        writer: &Writing<'_>,
        out: &mut Output,
    ) -> Result<Portion, WireError> {
        if Instant::now() < self.not_before {
            return Ok(Portion::Wait);
        }
        if let Some(mut wire) = wire {
            let asked = wire.ask(&self.sql()).await?;
            self.query = Some((wire, asked));
        }
        let Some((wire, asked)) = &mut self.query else { return Ok(Portion::Wait) };
        let begin = out.bytes.len();
        let (columns, key, request) = (&self.columns, &self.key, &self.request);
        let mut taken = 0;
        let mut rows = 0;
        let mut take = |cells: &[Option<&[u8]>]| {
            taken += 1;
            rows += u64::from(writer.row(request, columns, key, cells, touched, out)?);
            let has_enough = taken >= PORTION_ROWS || out.bytes.len() - begin >= PORTION_BYTES;
            if has_enough { Err(WireError::Enough) } else { Ok(()) }
        };
        let read = wire.rows(asked, &mut take).await;
        self.rows += rows;
        match read {
            Ok(()) => Ok(Portion::Done),
            Err(WireError::Enough) => Ok(Portion::More),
            Err(error) => Err(error),
        }
    }

    /// Whether its query is to be begun, on a connection of its own.
    pub(crate) fn wants_connection(&self) -> bool {
        self.query.is_none() && Instant::now() >= self.not_before
    }

    /// The connection was lost: the query begins anew.
    pub(crate) fn begin_anew(&mut self) {
        self.query = None;
        self.not_before = Instant::now() + DELAY;
    }

    /// Tells the server that it is done, where the user may: somebody may wait for it there.
    pub(crate) fn done_sql(&self, own_database: &str) -> String {
        let id: String = self.request.id.chars().filter(char::is_ascii_digit).collect();
        format!(
            "UPDATE {}.`bootstrap` SET is_complete = 1, inserted_rows = {}, completed_at = NOW() WHERE id = {}",
            quoted(own_database),
            self.rows,
            if id.is_empty() { "0" } else { &id }
        )
    }

    /// Appends the message that it begins or ends.
    pub(crate) fn mark(&self, kind: &str, writer: &Writing<'_>, out: &mut Output) {
        let key: Vec<&str> = self.key.iter().map(|&at| self.columns[at].0.name.as_str()).collect();
        writer.head(&self.request, kind, &mut out.bytes);
        let options = writer.options;
        if options.primary_keys {
            field("primary_key", options, &mut out.bytes);
            let values = if kind == "bootstrap-start" { vec!["null"; key.len()] } else { Vec::new() };
            out.bytes.extend_from_slice(format!("[{}]", values.join(",")).as_bytes());
        }
        if options.primary_key_columns {
            field("primary_key_columns", options, &mut out.bytes);
            write_names(key.iter().copied(), &mut out.bytes);
        }
        out.bytes.extend_from_slice(b",\"data\":{}}\n");
        writer.record(&self.request, kind, &[], &|_| None, out);
    }
}

/// How messages of bootstraps are written.
pub(crate) struct Writing<'a> {
    pub(crate) options: &'a Options,
    pub(crate) routing: Option<&'a super::Routing>,
    /// Counts messages.
    pub(crate) number: u64,
}

impl Writing<'_> {
    fn head(&self, request: &Request, kind: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"database\":");
        write_text(&request.database, out);
        out.extend_from_slice(b",\"table\":");
        write_text(&request.table, out);
        out.extend_from_slice(b",\"type\":");
        write_text(kind, out);
        out.extend_from_slice(b",\"ts\":");
        write_unsigned((crate::source::now_us() / 1_000_000).unsigned_abs(), out);
        if let Some(comment) = &request.comment {
            field("comment", &Options::default(), out);
            write_text(comment, out);
        }
    }

    /// Appends a row's message; false where the log has brought it.
    fn row(
        &self,
        request: &Request,
        columns: &[(SourceColumn, Kind, Vec<u8>)],
        key: &[usize],
        cells: &[Option<&[u8]>],
        touched: &Touched,
        out: &mut Output,
    ) -> Result<bool, WireError> {
        let style = self.options.style();
        let bad = |at: usize, fault: &str| {
            let (table, column) = (&request.table, &columns[at].0.name);
            WireError::Protocol(format!("a row of table \"{table}\" cannot be output: column \"{column}\": {fault}"))
        };
        let cell = |at: usize, out: &mut Vec<u8>| match cells.get(at).copied().flatten() {
            None => {
                out.extend_from_slice(b"null");
                Ok(())
            }
            Some(text) => cell::write(&columns[at].1, text, style, out).map_err(|fault| bad(at, fault)),
        };
        let mut values = Vec::new();
        let mut parts = Vec::new();
        for &at in key {
            let from = values.len();
            cell(at, &mut values)?;
            parts.push(from..values.len());
            values.push(0);
        }
        if !key.is_empty() && touched.keys.contains(&hash128(&values)) {
            return Ok(false);
        }
        let bytes = &mut out.bytes;
        self.head(request, "bootstrap-insert", bytes);
        if self.options.primary_keys {
            field("primary_key", self.options, bytes);
            let parts: Vec<&[u8]> = parts.iter().map(|part| &values[part.clone()]).collect();
            bytes.push(b'[');
            bytes.extend_from_slice(&parts.join(&b','));
            bytes.push(b']');
        }
        if self.options.primary_key_columns {
            field("primary_key_columns", self.options, bytes);
            write_names(key.iter().map(|&at| columns[at].0.name.as_str()), bytes);
        }
        bytes.extend_from_slice(b",\"data\":{");
        let begin = bytes.len();
        for (at, (column, _, label)) in columns.iter().enumerate() {
            if self.options.excludes(&column.name) {
                continue;
            }
            let before = bytes.len();
            if before > begin {
                bytes.push(b',');
            }
            bytes.extend_from_slice(label);
            let value = bytes.len();
            cell(at, bytes)?;
            if !self.options.nulls && bytes[value..] == *b"null" {
                bytes.truncate(before);
            }
        }
        bytes.extend_from_slice(b"}}\n");
        let names: Vec<&str> = key.iter().map(|&at| columns[at].0.name.as_str()).collect();
        let values: Vec<(&str, &[u8])> = names.into_iter().zip(parts.into_iter().map(|part| &values[part])).collect();
        let text_of = |name: &str| {
            let at = columns.iter().position(|(column, ..)| column.name == name)?;
            let mut json = Vec::new();
            cell::write(&columns[at].1, cells.get(at).copied().flatten()?, Style::HASHED, &mut json).ok()?;
            Some(unquoted(&json, matches!(columns[at].1, Kind::Set(_))))
        };
        self.record(request, "bootstrap-insert", &values, &text_of, out);
        Ok(true)
    }

    /// The record of the message that was written last.
    fn record(
        &self,
        request: &Request,
        kind: &str,
        key: &[(&str, &[u8])],
        text_of: &dyn Fn(&str) -> Option<String>,
        out: &mut Output,
    ) {
        let Some(routing) = self.routing else { return };
        let number = self.number + out.records.len() as u64;
        let (text, hash) = routing.of_bootstrap(&request.database, &request.table, key, text_of, number);
        let topic = routing.topic(&routing.topic, &request.database, &request.table, kind);
        out.record(&text, topic.as_bytes(), hash);
    }
}

/// Requests that have been seen, in their order, each once.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    known: BTreeSet<String>,
    pub(crate) waiting: std::collections::VecDeque<Request>,
}

impl Requests {
    pub(crate) fn add(&mut self, request: Request) {
        if self.known.insert(request.id.clone()) {
            self.waiting.push_back(request);
        }
    }

    /// One has ended.
    pub(crate) fn end(&mut self, request: &Request) {
        self.known.remove(&request.id);
    }
}
