//! From log events to messages: who listens to the log beside the assembler, which keeps the place.
//!
//! The law: messages of a transaction come out when it has ended, whole and in order, and those of one that was rolled back never. What
//! cannot be printed stops its table alone, and is told ([`Follower::news`]).
//!
//! What is not known of a table is asked for ([`Follower::asked`]) before its event is taken, which then comes once more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::source::Failure;
use crate::source::mysql::decode::{self, RowsKind, TableMap};
use crate::source::mysql::log::parts::{Header, PARTIAL_UPDATE, of_collation};
use crate::source::mysql::log::{
    Dialect, Effect, Heard, Hearing, Listener, LogPoint, Origin, Statement, WireError, Xa, Xid, event, kind, statement,
    text_and_dialect,
};

use super::bootstrap::{Request, Touched};
use super::ddl::{self, Unknown};
use super::filter::{Filter, Passage};
use super::message::{Output, Writer};
use super::options::Options;
use super::routing::{Routing, Surroundings, random_uuid};
use super::schema::{self, Schemas, Table};
use super::shape::{Image, Shape};
use super::transaction::{Blocks, Rows};
use super::value::{write_text, write_unsigned};

/// Table ids remembered; a server hands out a new one whenever it reopens a table.
const MAPS_MAX: usize = 16_384;
/// The longest name of a prepared transaction by which its file is called.
const NAME_MAX: usize = 200;
/// Characters of a statement that are told.
const SHOWN_CHARS_MAX: usize = 200;

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
        match ended.blocks.next().map_err(|error| disk(&error, &self.settings.folder))? {
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
            self.ended = Some(Ended { blocks, xid, index: 0, count });
            return Ok(());
        }
        let writer = Writer::new(&self.settings, xid, count);
        self.messages += writer.rows(self.rows.held().rest, &mut 0, &mut self.output);
        self.rows.clear();
        Ok(())
    }

    fn query(&mut self, heard: &Heard<'_>, query: event::Query<'_>) -> Result<Hearing, WireError> {
        match statement(&query, self.dialect) {
            Statement::Begin => {
                self.rows.clear();
                self.open.query = None;
                self.open.server_id = event::server_id(heard.event);
                self.open.thread_id = Some(query.connection);
            }
            Statement::Commit => self.commit(None)?,
            Statement::Rollback => self.rows.clear(),
            Statement::RollbackTo if !self.rows.is_empty() => self.tell(format!(
                "a transaction rolled back to a savepoint after its rows were logged, before {}: some of them may be output \
                 that did not happen",
                place(heard)
            )),
            Statement::RollbackTo | Statement::Xa(Xa::End) => {}
            Statement::Xa(Xa::Start) => {
                self.rows.clear();
                self.open.is_xa = true;
                self.open.server_id = event::server_id(heard.event);
                self.open.thread_id = Some(query.connection);
            }
            Statement::Xa(Xa::Commit(xid)) => self.xa_commit(&xid)?,
            Statement::Xa(Xa::Rollback(xid)) => {
                self.rows.clear();
                let path = self.prepared(&xid);
                if path.exists() {
                    self.leaves(path);
                }
            }
            Statement::Effects(effects) => return self.effects(heard, query, &effects),
        }
        Ok(Hearing::Taken)
    }

    fn effects(
        &mut self,
        heard: &Heard<'_>,
        query: event::Query<'_>,
        effects: &[Effect],
    ) -> Result<Hearing, WireError> {
        let (text, dialect) = text_and_dialect(&query, self.dialect);
        let Some(change) = ddl::parse(&text, dialect) else {
            if effects.iter().any(|effect| matches!(effect, Effect::Written(_) | Effect::Unread)) {
                let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
                self.tell(format!(
                    "a statement is logged as text at {}, and the rows that it changes are not: they are not output: {shown}",
                    place(heard)
                ));
            }
            return Ok(Hearing::Taken);
        };
        let default = String::from_utf8_lossy(query.database).into_owned();
        let mut unknown = ddl::unknown(&self.schemas, &change, &default);
        unknown.retain(|unknown| !self.absent.contains(unknown));
        if !unknown.is_empty() {
            self.asked = unknown;
            return Ok(Hearing::Asks);
        }
        let end = LogPoint::new(heard.file, heard.start + heard.event.len() as u64);
        let collation = query.status().server_collation.and_then(of_collation);
        let told = ddl::apply(&mut self.schemas, &change, &default, collation.map(|charset| charset.name()), &end);
        // Tables have other columns now, and those that were not there may be.
        self.maps.clear();
        self.absent.clear();
        self.has_new_schemas = true;
        if self.settings.options.ddl {
            told.iter().for_each(|told| self.tell_definition(heard, told, &text));
        }
        Ok(Hearing::Taken)
    }

    fn tell_definition(&mut self, heard: &Heard<'_>, told: &ddl::Told, sql: &str) {
        let (database, table) = (&told.database, told.table.as_deref());
        let is_told = match table {
            Some(table) => self.settings.filter.tells_definitions(database, table),
            None => self.settings.filter.tells_database(database),
        };
        if !is_told || *database == self.settings.own_database {
            return;
        }
        let options = &self.settings.options;
        let out = &mut self.output.bytes;
        out.extend_from_slice(b"{\"type\":");
        write_text(told.kind, out);
        out.extend_from_slice(b",\"database\":");
        write_text(database, out);
        if let Some(table) = table {
            out.extend_from_slice(b",\"table\":");
            write_text(table, out);
        }
        out.extend_from_slice(&told.members);
        out.extend_from_slice(b",\"ts\":");
        write_unsigned(u64::from(heard.header.timestamp) * 1_000, out);
        out.extend_from_slice(b",\"sql\":");
        write_text(sql, out);
        if options.binlog_position {
            out.extend_from_slice(b",\"position\":");
            write_text(&place(heard), out);
        }
        if options.gtid_position {
            out.extend_from_slice(b",\"gtid\":");
            match &self.open.gtid {
                Some(gtid) => write_text(gtid, out),
                None => out.extend_from_slice(b"null"),
            }
        }
        if options.schema_id {
            out.extend_from_slice(b",\"schema_id\":");
            write_unsigned(self.schemas.version, out);
        }
        out.extend_from_slice(b"}\n");
        self.messages += 1;
        if let Some(routing) = &self.settings.routing {
            let template = routing.ddl_topic.as_ref().unwrap_or(&routing.topic);
            let topic = routing.topic(template, database, table.unwrap_or_default(), told.kind);
            let key = random_uuid(self.messages);
            self.output.record(key.as_bytes(), topic.as_bytes(), routing.hash_of_definition(database, table));
        }
    }

    /// Where the rows of a prepared transaction are kept.
    fn prepared(&self, xid: &Xid) -> PathBuf {
        let mut name = xid.to_string().replace('/', "-");
        if name.len() > NAME_MAX {
            // No file may be called so.
            name = relation::key::hash128(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        }
        self.settings.folder.join(format!("prepared-{name}"))
    }

    fn xa_commit(&mut self, xid: &Xid) -> Result<(), WireError> {
        let path = self.prepared(xid);
        let folder = &self.settings.folder;
        let mut blocks = match Rows::kept(&path) {
            Ok(blocks) => blocks,
            // It has changed nothing that is output, or was prepared before we began.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(disk(&error, folder)),
        };
        // How many there are: once over them.
        let mut count = 0;
        while let Some(block) = blocks.next().map_err(|error| disk(&error, folder))? {
            count += super::transaction::RowsOf { rest: &block }.count() as u64;
        }
        let blocks = Rows::kept(&path).map_err(|error| disk(&error, folder))?;
        self.ended = Some(Ended { blocks, xid: None, index: 0, count });
        self.leaves(path);
        Ok(())
    }

    /// A file of a prepared transaction may go when all that has come out is safe.
    fn leaves(&mut self, path: PathBuf) {
        self.leaving.insert(path.clone());
        self.settled.push(path);
    }

    fn xa_prepare(&mut self, body: &[u8]) -> Result<Hearing, WireError> {
        let (is_whole, xid) = event::xa_prepare(body)?;
        if is_whole {
            return self.commit(None).map(|()| Hearing::Taken);
        }
        let path = self.prepared(&xid);
        self.leaving.retain(|path| path.exists());
        if self.leaving.contains(&path) {
            // One of this name has ended, and its rows are not safe yet: its file would be written over, and then taken away.
            return Ok(Hearing::Asks);
        }
        if self.rows.is_empty() {
            // Of another one with this name, which was ended while its file could not be taken away.
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(&error, &self.settings.folder)),
                _ => Ok(Hearing::Taken),
            };
        }
        self.rows.keep(&path).map_err(|error| disk(&error, &self.settings.folder))?;
        Ok(Hearing::Taken)
    }

    fn table_map(&mut self, body: &[u8]) -> Result<Hearing, WireError> {
        let damaged = || WireError::Damaged("a table map".to_owned());
        let id = decode::table_id(body).ok_or_else(damaged)?;
        if self.maps.get(&id).is_some_and(|known| known.bytes == body) {
            return Ok(Hearing::Taken);
        }
        let (database, table) = event::mapped_name(body).ok_or_else(damaged)?;
        let is_request = database == self.settings.own_database && table == "bootstrap";
        let is_hidden = !is_request
            && (database == self.settings.own_database
                || is_heartbeat(&database, &table)
                || self.settings.filter.passage(&database, &table, std::iter::empty()) == Passage::Nothing
                    && !self.settings.filter.may_pass_rows(&database, &table));
        let target = match is_hidden {
            true => Target::Hidden,
            false => match self.shape(body, &database, &table, is_request) {
                Err(unknown) => {
                    self.asked = vec![unknown];
                    return Ok(Hearing::Asks);
                }
                Ok(target) => target,
            },
        };
        if self.maps.len() >= MAPS_MAX {
            self.maps.clear();
        }
        self.maps.insert(id, Mapped { bytes: body.to_vec(), target });
        Ok(Hearing::Taken)
    }

    /// What becomes of a table's rows; an error is what must be known first.
    fn shape(&mut self, body: &[u8], database: &str, table: &str, is_request: bool) -> Result<Target, Unknown> {
        let unknown = Unknown::Table(database.to_owned(), table.to_owned());
        let map = match TableMap::parse(body) {
            Ok(map) => map,
            Err(error) => return Ok(self.broken(database, table, &error.to_string())),
        };
        let known = self.schemas.table(database, table);
        // The log tells all but which texts of MariaDB are JSON.
        let must_know = map.names.is_none() || self.dialect.mariadb;
        if known.is_none() && must_know && !self.schemas.is_whole && !self.absent.contains(&unknown) {
            return Err(unknown);
        }
        match schema::shape(&map, known) {
            Ok((columns, plan)) => {
                let names = columns.iter().map(|column| column.name.as_str());
                let passage = match is_request {
                    true => Passage::All,
                    false => self.settings.filter.passage(database, table, names),
                };
                if passage == Passage::Nothing {
                    return Ok(Target::Hidden);
                }
                let shape = Arc::new(Shape::new(&map, &columns, plan, passage, &self.settings.options));
                Ok(if is_request { Target::Requests(shape) } else { Target::Shown(shape) })
            }
            Err(reason) => {
                // Once for each form of its rows: what is known may be of another time.
                let place = (database.to_owned(), table.to_owned());
                if !self.absent.contains(&unknown)
                    && self.doubted.get(&place).is_none_or(|bytes| bytes[..] != body[6..])
                {
                    self.doubted.insert(place, body[6..].to_vec());
                    return Err(unknown);
                }
                Ok(self.broken(database, table, &reason))
            }
        }
    }

    fn broken(&mut self, database: &str, table: &str, reason: &str) -> Target {
        self.tell(format!(
            "rows of {database}.{table} cannot be read, and are not output: {reason} With `SET GLOBAL binlog_row_metadata = FULL` \
             the log itself tells what columns they have"
        ));
        Target::Broken
    }

    fn rows(&mut self, heard: &Heard<'_>, kind: u8, body: &[u8]) -> Result<(), WireError> {
        let damaged = |what: &str| WireError::Damaged(what.to_owned());
        let id = decode::table_id(body).ok_or_else(|| damaged("a rows event"))?;
        let Some(mapped) = self.maps.get(&id) else {
            return Err(damaged("rows of a table that no table map has introduced"));
        };
        let (shape, is_request) = match &mapped.target {
            Target::Hidden => return Ok(()),
            Target::Broken => {
                self.unread += 1;
                return Ok(());
            }
            Target::Shown(shape) => (Arc::clone(shape), false),
            Target::Requests(shape) => (Arc::clone(shape), true),
        };
        self.print(&shape, heard, kind, body, is_request)
    }

    fn print(
        &mut self,
        shape: &Shape,
        heard: &Heard<'_>,
        kind: u8,
        body: &[u8],
        is_request: bool,
    ) -> Result<(), WireError> {
        let damaged = || WireError::Damaged(format!("rows of {}.{}", shape.database, shape.table));
        let header = Header::read(kind, body).map_err(|error| WireError::Damaged(error.to_string()))?;
        if header.columns != shape.columns.len() {
            return Err(damaged());
        }
        if is_request && header.kind != RowsKind::Insert {
            return Ok(());
        }
        let (mut before, mut after) = (Image::default(), Image::default());
        let mut rest = header.rows;
        while !rest.is_empty() {
            before.cells.clear();
            after.cells.clear();
            if header.kind != RowsKind::Insert {
                shape.take(header.present[0], &mut rest, &mut before).ok_or_else(damaged)?;
            }
            if header.kind != RowsKind::Delete {
                let present = header.present[usize::from(header.kind == RowsKind::Update)];
                let taken = match kind {
                    PARTIAL_UPDATE => shape.take_partial(present, &before, &mut rest, &mut after),
                    _ => shape.take(present, &mut rest, &mut after),
                };
                taken.ok_or_else(damaged)?;
            }
            self.message(shape, heard, header.kind, &before, &after)?;
            if is_request && let Some(request) = Request::of(shape, &after, &self.settings.client_id) {
                self.requests.push(request);
            }
        }
        Ok(())
    }

    fn message(
        &mut self,
        shape: &Shape,
        heard: &Heard<'_>,
        kind: RowsKind,
        before: &Image<'_>,
        after: &Image<'_>,
    ) -> Result<(), WireError> {
        let Settings { options, filter, routing, .. } = &self.settings;
        if let Some(touched) =
            self.touched.as_mut().filter(|touched| touched.database == shape.database && touched.table == shape.table)
        {
            touched.note(shape, before, options);
            touched.note(shape, &after.completed(before), options);
        }
        let completed;
        let image = match kind {
            RowsKind::Delete => before,
            RowsKind::Insert => after,
            RowsKind::Update if after.is_whole() => after,
            RowsKind::Update => {
                completed = after.completed(before);
                &completed
            }
        };
        if shape.passage == Passage::ByRow {
            let names = shape.columns.iter().map(|column| column.name.as_str());
            let value = |name: &str| {
                let at = shape.columns.iter().position(|column| column.name == name)?;
                image.java_text(shape, at)
            };
            if !filter.passes(&shape.database, &shape.table, names, value) {
                return Ok(());
            }
        }
        let out = self.rows.begin();
        out.extend_from_slice(&shape.head);
        if options.row_query
            && let Some(query) = &self.open.query
        {
            out.extend_from_slice(b",\"query\":");
            write_text(query, out);
        }
        out.extend_from_slice(match kind {
            RowsKind::Insert => b",\"type\":\"insert\",\"ts\":",
            RowsKind::Update => b",\"type\":\"update\",\"ts\":",
            RowsKind::Delete => b",\"type\":\"delete\",\"ts\":",
        });
        write_unsigned(u64::from(heard.header.timestamp), out);
        let head = self.rows.length();
        let around = Around { heard, open: &self.open, schema_id: self.schemas.version, options };
        around.write(shape, image, self.rows.out());
        let written = data(shape, kind, before, after, options, self.rows.out());
        if let Err((at, fault)) = written {
            self.rows.forget();
            self.unread += 1;
            self.tell(format!(
                "a row of {}.{} at {} cannot be output: column \"{}\": {fault}",
                shape.database,
                shape.table,
                place(heard),
                shape.columns[at].name
            ));
            return Ok(());
        }
        let tail = self.rows.length() - head;
        let (mut key, mut hash) = (0, 0);
        if let Some(routing) = routing {
            let number = self.messages + self.rows.count;
            let around = Surroundings { thread_id: self.open.thread_id, number };
            let out = self.rows.out();
            routing.write_key(shape, image, number, options.style(), out);
            key = self.rows.length() - head - tail;
            hash = routing.hash_of_row(shape, image, around);
            let word = match kind {
                RowsKind::Insert => "insert",
                RowsKind::Update => "update",
                RowsKind::Delete => "delete",
            };
            let topic = routing.topic(&routing.topic, &shape.database, &shape.table, word);
            self.rows.out().extend_from_slice(topic.as_bytes());
        }
        self.rows.end(head, tail, key, hash).map_err(|error| disk(&error, &self.settings.folder))
    }
}

/// What a message says of its place and its transaction.
struct Around<'a> {
    heard: &'a Heard<'a>,
    open: &'a Open,
    schema_id: u64,
    options: &'a Options,
}

impl Around<'_> {
    fn write(&self, shape: &Shape, image: &Image<'_>, out: &mut Vec<u8>) {
        let Self { heard, open, options, .. } = self;
        use super::shape::field;
        if options.binlog_position {
            field("position", options, out);
            write_text(&place(heard), out);
        }
        if options.gtid_position {
            field("gtid", options, out);
            match &open.gtid {
                Some(gtid) => write_text(gtid, out),
                None => out.extend_from_slice(b"null"),
            }
        }
        if options.server_id {
            field("server_id", options, out);
            write_unsigned(u64::from(open.server_id), out);
        }
        if let Some(thread_id) = open.thread_id.filter(|_| options.thread_id) {
            field("thread_id", options, out);
            write_unsigned(u64::from(thread_id), out);
        }
        if options.schema_id {
            field("schema_id", options, out);
            write_unsigned(self.schema_id, out);
        }
        if options.push_timestamp {
            field("push_ts", options, out);
            let now_us = crate::source::now_us();
            out.extend_from_slice(format!("{}.{:06}", now_us / 1_000_000, now_us % 1_000_000).as_bytes());
        }
        if options.primary_keys {
            field("primary_key", options, out);
            out.push(b'[');
            for (i, &at) in shape.key.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                image.write(shape, at, options.style(), out);
            }
            out.push(b']');
        }
        out.extend_from_slice(&shape.key_columns);
    }
}

/// Appends `,"data":{…}`, what was before, and the end of a message.
fn data(
    shape: &Shape,
    kind: RowsKind,
    before: &Image<'_>,
    after: &Image<'_>,
    options: &Options,
    out: &mut Vec<u8>,
) -> Result<(), (usize, super::value::Fault)> {
    out.extend_from_slice(b",\"data\":");
    match kind {
        RowsKind::Insert => after.write_data(shape, None, options, out)?,
        RowsKind::Delete => before.write_data(shape, None, options, out)?,
        RowsKind::Update => {
            after.write_data(shape, Some(before), options, out)?;
            after.write_old(shape, before, options, out)?;
        }
    }
    out.push(b'}');
    Ok(())
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

/// Tables of managed servers that tell nothing but that they live.
fn is_heartbeat(database: &str, table: &str) -> bool {
    database == "mysql" && (table == "ha_health_check" || table.starts_with("rds_heartbeat"))
}

/// A folder that cannot be written.
pub(crate) fn disk(error: &io::Error, folder: &Path) -> WireError {
    WireError::Stalled(Box::new(Failure {
        message: format!("the state folder {} cannot be used", folder.display()),
        detail: error.to_string(),
        hint: "Make room on its disk, and see that it may be written; or name another one with --state.".to_owned(),
    }))
}
