//! Statements of the log: where transactions begin and end, and definitions, of which messages may tell.

use super::super::ddl;
use super::super::routing::random_uuid;
use super::super::value::{write_text, write_unsigned};
use super::{Follower, place};
use crate::source::mysql::log::parts::of_collation;
use crate::source::mysql::log::{
    Effect, Heard, Hearing, LogPoint, Statement, WireError, Xa, event, statement, text_and_dialect,
};

/// Characters of a statement that are told.
const SHOWN_CHARS_MAX: usize = 200;

impl Follower {
    pub(super) fn query(&mut self, heard: &Heard<'_>, query: event::Query<'_>) -> Result<Hearing, WireError> {
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
        let default = String::from_utf8_lossy(query.database).into_owned();
        let Some(change) = ddl::parse(&text, dialect) else {
            if effects.iter().any(|effect| matches!(effect, Effect::Written(_) | Effect::Unread)) {
                let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
                self.tell(format!(
                    "a statement is logged as text at {}, and the rows that it changes are not: they are not output: {shown}",
                    place(heard)
                ));
            }
            effects.iter().for_each(|effect| self.tell_emptied(heard, &default, effect));
            return Ok(Hearing::Taken);
        };
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

    /// Maxwell has no message for a TRUNCATE, and who reads its messages would know none; but somebody may want to know.
    fn tell_emptied(&mut self, heard: &Heard<'_>, default: &str, effect: &Effect) {
        let Effect::Emptied(table) = effect else { return };
        let database = table.database.as_deref().unwrap_or(default);
        let filter = &self.settings.filter;
        if *database != self.settings.own_database && filter.tells_definitions(database, &table.name) {
            self.tell(format!(
                "{database}.{} was emptied by TRUNCATE at {}: as with Maxwell, no message says so",
                table.name,
                place(heard)
            ));
        }
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
}
