//! Rows of the log: by their table's columns as they are there, as messages of the open transaction.

use std::sync::Arc;

use super::super::bootstrap::Request;
use super::super::ddl::Unknown;
use super::super::filter::Passage;
use super::super::options::Options;
use super::super::routing::Surroundings;
use super::super::schema;
use super::super::shape::{Image, Shape, field};
use super::super::value::{Fault, write_text, write_unsigned};
use super::{Follower, Mapped, Open, Settings, Target, disk, place};
use crate::source::mysql::decode::{self, RowsKind, TableMap};
use crate::source::mysql::log::parts::{Header, PARTIAL_UPDATE};
use crate::source::mysql::log::{Heard, Hearing, WireError, event};

/// Table ids remembered; a server hands out a new one whenever it reopens a table.
const MAPS_MAX: usize = 16_384;

impl Follower {
    pub(super) fn table_map(&mut self, body: &[u8]) -> Result<Hearing, WireError> {
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

    pub(super) fn rows(&mut self, heard: &Heard<'_>, kind: u8, body: &[u8]) -> Result<(), WireError> {
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
) -> Result<(), (usize, Fault)> {
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

/// Tables of managed servers that tell nothing but that they live.
fn is_heartbeat(database: &str, table: &str) -> bool {
    database == "mysql" && (table == "ha_health_check" || table.starts_with("rds_heartbeat"))
}
