//! From log events to messages: who listens to the log beside the assembler, which keeps the place.
//!
//! The law: messages of a transaction come out when it has ended, whole and in order, and those of one that was rolled back never. What
//! cannot be printed stops its table alone, and is told ([`Follower::news`]).
//!
//! What is not known of a table is asked for ([`Follower::asked`]) before its event is taken, which then comes once more.

mod prepared;
mod rows;
mod statements;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::source::Failure;
use crate::source::mysql::decode;
use crate::source::mysql::log::{Dialect, Heard, Hearing, Listener, Origin, WireError, event, kind};

use super::bootstrap::{Request, Touched};
use super::ddl::Unknown;
use super::filter::Filter;
use super::message::{Output, Writer};
use super::options::Options;
use super::routing::Routing;
use super::schema::{Schemas, Table};
use super::shape::Shape;
use super::transaction::{Blocks, Rows};

/// What to follow, and how.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) options: Options,
    pub(crate) filter: Filter,
    /// Of Kafka; none for places that know no keys.
    pub(crate) routing: Option<Routing>,
    /// The database that Maxwell keeps its own tables in: they are not output.
    pub(crate) own_database: String,
    /// Whose requests for bootstraps are ours.
    pub(crate) client_id: String,
    /// Where large and prepared transactions are kept meanwhile.
    pub(crate) folder: PathBuf,
}

/// What a table id of the log means.
#[derive(Debug)]
struct Mapped {
    /// The table map's bytes.
    bytes: Vec<u8>,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// None of its rows is output.
    Hidden,
    Shown(Arc<Shape>),
    /// Rows that ask for a bootstrap.
    Requests(Arc<Shape>),
    /// Its rows cannot be read.
    Broken,
}

/// The transaction that is open.
#[derive(Debug, Default)]
struct Open {
    gtid: Option<String>,
    server_id: u32,
    thread_id: Option<u32>,
    /// The statement that rows are changed by.
    query: Option<String>,
    is_xa: bool,
}

/// A transaction that has ended, of which not all has come out.
#[derive(Debug)]
struct Ended {
    blocks: Blocks,
    /// The file that they are in, where that outlives the process.
    kept: Option<PathBuf>,
    xid: Option<u64>,
    index: u64,
    count: u64,
}

/// See the module's story.
#[derive(Debug)]
pub(crate) struct Follower {
    settings: Settings,
    pub(crate) schemas: Schemas,
    dialect: Dialect,
    maps: HashMap<u64, Mapped>,
    origin: Origin,
    open: Open,
    rows: Rows,
    ended: Option<Ended>,
    output: Output,
    /// What must be known before the event is taken.
    pub(crate) asked: Vec<Unknown>,
    /// What was asked for and is not there, since the last definition.
    absent: BTreeSet<Unknown>,
    /// Tables that were asked for again because rows did not fit, with what they were found to be.
    doubted: BTreeMap<(String, String), Vec<u8>>,
    /// Definitions have changed since this was last taken.
    has_new_schemas: bool,
    news: Vec<String>,
    /// Rows that could not be output.
    pub(crate) unread: u64,
    /// Messages so far.
    pub(crate) messages: u64,
    requests: Vec<Request>,
    /// Keys that the log brings of a table that is being bootstrapped.
    pub(crate) touched: Option<Touched>,
    /// Prepared transactions that were committed or rolled back, whose files may go when what has come out is safe.
    settled: Vec<PathBuf>,
    /// All of these that may not have gone yet: nothing is kept under their names until they have.
    leaving: BTreeSet<PathBuf>,
}

impl Follower {
    pub(crate) fn new(settings: Settings, schemas: Schemas) -> Self {
        let rows = Rows::new(&settings.folder);
        Self {
            settings,
            schemas,
            dialect: Dialect::default(),
            maps: HashMap::new(),
            origin: Origin::default(),
            open: Open::default(),
            rows,
            ended: None,
            output: Output::default(),
            asked: Vec::new(),
            absent: BTreeSet::new(),
            doubted: BTreeMap::new(),
            has_new_schemas: false,
            news: Vec::new(),
            unread: 0,
            messages: 0,
            requests: Vec::new(),
            touched: None,
            settled: Vec::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Says whose log it is.
    pub(crate) fn set_server(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// What is known of tables before anything is read.
    pub(crate) fn begin_with(&mut self, schemas: Schemas) {
        self.schemas = schemas;
        self.has_new_schemas = true;
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A new connection begins behind the last whole transaction: the open one comes again.
    pub(crate) fn abandon(&mut self) {
        self.rows.clear();
        self.open = Open::default();
        self.maps.clear();
        self.asked.clear();
        self.absent.clear();
    }

    /// An answer to something that was asked for.
    pub(crate) fn answer_table(&mut self, unknown: Unknown, table: Option<Table>) {
        match table {
            Some(table) => {
                self.schemas.insert(table);
                self.has_new_schemas = true;
            }
            None => drop(self.absent.insert(unknown)),
        }
    }

    pub(crate) fn answer_database(&mut self, unknown: Unknown, charset: Option<&str>) {
        match (&unknown, charset) {
            (Unknown::Database(name), Some(charset)) => self.schemas.insert_database(name, charset),
            _ => drop(self.absent.insert(unknown)),
        }
    }

    /// What is to be told to people since the last call.
    pub(crate) fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    fn tell(&mut self, news: String) {
        const NEWS_MAX: usize = 100;
        if self.news.len() < NEWS_MAX {
            self.news.push(news);
        }
    }

    /// Bootstraps that were asked for since the last call.
    pub(crate) fn requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// A file may go when all that has come out is safe.
    pub(crate) fn settle(&mut self, path: PathBuf) {
        self.settled.push(path);
    }

    /// Messages of no event have come out.
    pub(crate) fn count(&mut self, messages: u64) {
        self.messages += messages;
    }

    /// Files of prepared transactions that may go when all that has come out is safe.
    pub(crate) fn settled(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.settled)
    }

    /// The definitions, if they have changed since the last call.
    pub(crate) fn new_schemas(&mut self) -> Option<String> {
        std::mem::take(&mut self.has_new_schemas).then(|| self.schemas.text())
    }

    /// Bytes of messages that have come out and were not taken.
    pub(crate) fn waiting(&self) -> usize {
        self.output.bytes.len()
    }

    /// Whether a transaction has not come out to its end.
    pub(crate) fn is_ending(&self) -> bool {
        self.ended.is_some()
    }

    /// Has more come out of the transaction that has ended.
    pub(crate) fn go_on(&mut self) -> Result<(), WireError> {
        let Some(ended) = &mut self.ended else { return Ok(()) };
        let next = ended.blocks.next();
        match next.map_err(|error| unread(&error, &self.settings.folder, ended.kept.as_deref()))? {
            None => self.ended = None,
            Some(block) => {
                let writer = Writer::new(&self.settings, ended.xid, ended.count);
                self.messages += writer.rows(&block, &mut ended.index, &mut self.output);
            }
        }
        Ok(())
    }

    /// Where messages come out, for those that are of no event.
    pub(crate) fn output(&mut self) -> (&Settings, &mut Output, u64) {
        (&self.settings, &mut self.output, self.messages)
    }

    /// What has come out.
    pub(crate) fn take_output(&mut self) -> Output {
        std::mem::take(&mut self.output)
    }

    fn begin(&mut self, server_id: u32, gtid: Option<String>) {
        self.rows.clear();
        self.open = Open { gtid, server_id, ..Open::default() };
    }

    fn wants_gtid(&self) -> bool {
        self.settings.options.gtid_position
    }

    /// The open transaction has ended well.
    fn commit(&mut self, xid: Option<u64>) -> Result<(), WireError> {
        let count = self.rows.count;
        if count == 0 {
            return Ok(());
        }
        if self.rows.is_large() {
            let blocks = self.rows.take().map_err(|error| disk(&error, &self.settings.folder))?;
            self.ended = Some(Ended { blocks, kept: None, xid, index: 0, count });
            return Ok(());
        }
        let writer = Writer::new(&self.settings, xid, count);
        self.messages += writer.rows(self.rows.held().rest, &mut 0, &mut self.output);
        self.rows.clear();
        Ok(())
    }
}

impl Listener for Follower {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<Hearing, WireError> {
        let body = heard.body;
        match heard.header.kind {
            kind::TABLE_MAP => return self.table_map(body),
            k if kind::is_rows(k) => self.rows(heard, k, body)?,
            k if kind::MARIADB_ROWS_COMPRESSED.contains(&k) => {
                let plain = decode::inflate_mariadb(k, body).map_err(|error| WireError::Damaged(error.to_string()))?;
                if let Some((kind, body)) = plain {
                    self.rows(heard, kind, &body)?;
                }
            }
            kind::XID => {
                let xid = body.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
                self.commit(xid)?;
            }
            kind::GTID | kind::ANONYMOUS_GTID => {
                let is_anonymous = heard.header.kind == kind::ANONYMOUS_GTID;
                let head = event::gtid(body, is_anonymous, &mut self.origin)?;
                let gtid = head.number.filter(|_| self.wants_gtid()).map(|number| self.origin.transaction(number));
                self.begin(event::server_id(heard.event), gtid);
            }
            kind::GTID_TAGGED => {
                let head = event::gtid_tagged(body, &mut self.origin)?;
                let gtid = head.number.filter(|_| self.wants_gtid()).map(|number| self.origin.transaction(number));
                self.begin(event::server_id(heard.event), gtid);
            }
            kind::MARIADB_GTID => {
                let gtid = event::mariadb_gtid(body)?;
                let server_id = event::server_id(heard.event);
                let text = self.wants_gtid().then(|| format!("{}-{server_id}-{}", gtid.domain, gtid.sequence));
                self.begin(server_id, text);
                self.open.is_xa = gtid.prepared_xa;
            }
            kind::QUERY => return self.query(heard, event::query(body)?),
            kind::MARIADB_QUERY_COMPRESSED => {
                let query = event::query(body)?;
                let text = decode::inflate_mariadb_block(query.text);
                let text = text.map_err(|error| WireError::Damaged(error.to_string()))?;
                return self.query(heard, query.with_text(&text));
            }
            kind::EXECUTE_LOAD_QUERY => return self.query(heard, event::load_query(body)?),
            kind::ROWS_QUERY | kind::MARIADB_ANNOTATE_ROWS if self.settings.options.row_query => {
                // MySQL's has a byte before it that is its length, as far as that fits.
                let skip = usize::from(heard.header.kind == kind::ROWS_QUERY);
                let text = String::from_utf8_lossy(body.get(skip..).unwrap_or_default());
                let length = self.settings.options.row_query_max_length;
                self.open.query =
                    Some(if length > 0 { text.chars().take(length).collect() } else { text.into_owned() });
            }
            kind::XA_PREPARE => return self.xa_prepare(body),
            kind::INCIDENT => {
                return Err(WireError::Fatal(Box::new(Failure {
                    message: format!("the server has lost part of its log before {}", place(heard)),
                    detail: "It says so itself, by an INCIDENT event: changes are missing that nobody can read.".to_owned(),
                    hint: "Bootstrap the tables anew, and begin behind it: remove the kept position, or set init_position."
                        .to_owned(),
                })));
            }
            _ => {}
        }
        Ok(Hearing::Taken)
    }
}

/// Where an event begins, as `position` has it.
fn place(heard: &Heard<'_>) -> String {
    format!("{}:{}", heard.file, heard.start)
}

/// Rows of a transaction that wait in a file, and do not come back. None of what follows it is output before.
fn unread(error: &io::Error, folder: &Path, kept: Option<&Path>) -> WireError {
    if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) {
        return disk(error, folder);
    }
    let hint = match kept {
        None => "Start it again: the transaction is read anew, from the log.".to_owned(),
        Some(path) => format!(
            "It was prepared before, and the log does not say it again. Restore {}; or remove it, and bootstrap the tables that the \
             transaction has changed.",
            path.display()
        ),
    };
    WireError::Stalled(Box::new(Failure {
        message: "rows of a transaction cannot be read back from the state folder".to_owned(),
        detail: format!("In {}: {error}.", kept.unwrap_or(folder).display()),
        hint,
    }))
}

/// A folder that cannot be written.
pub(crate) fn disk(error: &io::Error, folder: &Path) -> WireError {
    WireError::Stalled(Box::new(Failure {
        message: format!("the state folder {} cannot be used", folder.display()),
        detail: error.to_string(),
        hint: "Make room on its disk, and see that it may be written; or name another one with --state.".to_owned(),
    }))
}
