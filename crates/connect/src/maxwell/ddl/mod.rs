//! Statements that define tables and databases: what they make of what is known, and the messages that tell of them.
//!
//! A statement may have been carried out already in what the server said of a table: then there is nothing left to do, and what is
//! told of it is the table as it is known ([`super::schema`]).

mod column;
mod parse;

use crate::source::mysql::SourceColumn;
use crate::source::mysql::decode::labels;
use crate::source::mysql::log::LogPoint;

use column::{Definition, Place, to_binary};
use parse::{Body, Edit, Name};
pub(crate) use parse::{Change, parse};

use super::schema::{Schemas, Table};
use super::value::{write_text, write_unsigned};

/// What is not known of the server and must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unknown {
    /// A table: database and name.
    Table(String, String),
    /// The charset of a database.
    Database(String),
}

/// A message about a definition, as far as it does not depend on its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) kind: &'static str,
    pub(crate) database: String,
    pub(crate) table: Option<String>,
    /// The members behind these two, each with a comma before it.
    pub(crate) members: Vec<u8>,
}

/// What of the server must be known before a statement, its session's database being `default`.
pub(crate) fn unknown(schemas: &Schemas, change: &Change, default: &str) -> Vec<Unknown> {
    let mut out = Vec::new();
    if schemas.is_whole {
        return out;
    }
    let mut table = |name: &Name| {
        let database = name.database.as_deref().unwrap_or(default);
        if schemas.table(database, &name.name).is_none() {
            out.push(Unknown::Table(database.to_owned(), name.name.clone()));
        }
    };
    match change {
        Change::AlterTable { table: name, .. } | Change::CreateTable { body: Body::Like(name), .. } => table(name),
        Change::CreateTable { table: name, if_absent: true, .. } => table(name),
        Change::RenameTables(pairs) => pairs.iter().for_each(|(from, _)| table(from)),
        _ => {}
    }
    if let Change::CreateTable { table, body: Body::Columns { charset: None, .. }, .. } = change {
        let database = table.database.as_deref().unwrap_or(default);
        if schemas.database(database).is_none() {
            out.push(Unknown::Database(database.to_owned()));
        }
    }
    out
}

/// Carries a statement out, of the session whose database is `default` and whose server has this charset, at a place of the log.
/// Answers what is told of it.
pub(crate) fn apply(
    schemas: &mut Schemas,
    change: &Change,
    default: &str,
    charset: Option<&str>,
    at: &LogPoint,
) -> Vec<Told> {
    let server = charset.map_or_else(|| schemas.charset.clone(), str::to_owned);
    let place = |name: &Name| (name.database.clone().unwrap_or_else(|| default.to_owned()), name.name.clone());
    let told = match change {
        Change::CreateDatabase { name, charset, if_absent, replaces } => {
            if *if_absent && schemas.database(name).is_some() {
                return Vec::new();
            }
            if *replaces {
                schemas.remove_database(name);
            }
            let charset = charset.clone().unwrap_or(server);
            schemas.insert_database(name, &charset);
            vec![database("database-create", name, Some(&charset))]
        }
        Change::AlterDatabase { name, charset } => {
            let name = name.as_deref().unwrap_or(default);
            if let Some(charset) = charset {
                schemas.insert_database(name, charset);
            }
            vec![database("database-alter", name, schemas.database(name))]
        }
        Change::DropDatabase { name } => {
            schemas.remove_database(name);
            vec![database("database-drop", name, None)]
        }
        Change::CreateTable { table, if_absent, body, .. } => {
            let (database, name) = place(table);
            if *if_absent && schemas.table(&database, &name).is_some() {
                return Vec::new();
            }
            match created(schemas, (database, name), body, default, &server, at) {
                None => return Vec::new(),
                Some(table) => {
                    let told = of_table("table-create", &table, None, Some(&table));
                    schemas.insert(table);
                    vec![told]
                }
            }
        }
        Change::AlterTable { table, edits } => {
            let (database, name) = place(table);
            let Some(old) = schemas.table(&database, &name).cloned() else { return Vec::new() };
            let mut new = old.clone();
            // What the server said of it later has all this.
            if old.as_of < *at || old.as_of.file.is_empty() {
                edits.iter().for_each(|edit| alter(&mut new, edit, default, schemas.database(&database)));
                new.as_of = at.clone();
            } else if let Some(Edit::Rename(to)) = edits.iter().rfind(|edit| matches!(edit, Edit::Rename(_))) {
                (new.database, new.name) = place(to);
            }
            if (&new.database, &new.name) != (&old.database, &old.name) {
                schemas.remove(&database, &name);
            }
            schemas.insert(new.clone());
            vec![of_table("table-alter", &old, Some(&old), Some(&new))]
        }
        Change::DropTables(names) => {
            let mut drop = |name: &Name| {
                let (database, name) = place(name);
                let known = schemas.remove(&database, &name);
                // Where not all is known it may have been there.
                let table = known.or((!schemas.is_whole).then_some(Table { database, name, ..Table::default() }))?;
                Some(of_table("table-drop", &table, None, None))
            };
            names.iter().filter_map(&mut drop).collect()
        }
        Change::RenameTables(pairs) => {
            let mut rename = |(from, to): &(Name, Name)| {
                let (database, name) = place(from);
                let old = schemas.remove(&database, &name)?;
                let (database, name) = place(to);
                let new = Table { database, name, ..old.clone() };
                schemas.insert(new.clone());
                Some(of_table("table-alter", &old, Some(&old), Some(&new)))
            };
            pairs.iter().filter_map(&mut rename).collect()
        }
    };
    schemas.version += u64::from(!told.is_empty());
    told
}

fn created(
    schemas: &Schemas,
    (database, name): (String, String),
    body: &Body,
    default: &str,
    server: &str,
    at: &LogPoint,
) -> Option<Table> {
    match body {
        Body::Like(of) => {
            let of = schemas.table(of.database.as_deref().unwrap_or(default), &of.name)?;
            Some(Table { database, name, as_of: at.clone(), ..of.clone() })
        }
        Body::Columns { columns, key, charset } => {
            let of_database = || schemas.database(&database).unwrap_or(server).to_owned();
            let charset = charset.clone().filter(|charset| charset != "default").unwrap_or_else(of_database);
            let columns = columns.iter().map(|definition| completed(definition.clone(), &charset)).collect();
            let mut table = Table { database, name, charset, columns, as_of: at.clone() };
            table.set_key(key);
            Some(table)
        }
    }
}

/// A column of a table of this charset.
fn completed(mut definition: Definition, charset: &str) -> SourceColumn {
    if definition.is_text {
        definition.column.charset.get_or_insert_with(|| charset.to_owned());
        if definition.column.charset.as_deref() == Some("binary") {
            to_binary(&mut definition);
        }
    }
    definition.column
}

fn alter(table: &mut Table, edit: &Edit, default: &str, of_database: Option<&str>) {
    let mut key: Vec<String> = table.key().into_iter().map(str::to_owned).collect();
    match edit {
        Edit::Add(definition, place) => {
            let name = definition.column.name.clone();
            if table.position(&name).is_some() {
                return;
            }
            if definition.is_key {
                key = vec![name];
            }
            let column = completed(definition.clone(), &table.charset);
            put(table, column, place, None);
        }
        Edit::Drop(name) => {
            if let Some(at) = table.position(name) {
                table.columns.remove(at);
                key.retain(|column| !super::schema::same(column, name));
            }
        }
        Edit::Change(name, definition, place) => {
            let Some(at) = table.position(name) else { return };
            let to = &definition.column.name;
            for column in key.iter_mut().filter(|column| super::schema::same(column, name)) {
                to.clone_into(column);
            }
            if definition.is_key {
                key = vec![to.clone()];
            }
            table.columns.remove(at);
            let column = completed(definition.clone(), &table.charset);
            put(table, column, place, Some(at));
        }
        Edit::RenameColumn(from, to) => {
            let Some(at) = table.position(from) else { return };
            to.clone_into(&mut table.columns[at].name);
            for column in key.iter_mut().filter(|column| super::schema::same(column, from)) {
                to.clone_into(column);
            }
        }
        Edit::Key(names) => key.clone_from(names),
        Edit::DropKey => key.clear(),
        Edit::Rename(to) => {
            table.database = to.database.clone().unwrap_or_else(|| match default.is_empty() {
                true => table.database.clone(),
                false => default.to_owned(),
            });
            to.name.clone_into(&mut table.name);
        }
        Edit::Charset(charset) => charset.clone_into(&mut table.charset),
        Edit::Convert(charset) => {
            let charset = charset.as_deref().or(of_database).unwrap_or(&table.charset).to_owned();
            for column in table.columns.iter_mut().filter(|column| column.charset.is_some()) {
                column.charset = Some(charset.clone());
            }
            table.charset = charset;
        }
    }
    table.set_key(&key);
}

/// Puts a column where it goes; `before` is where it was.
fn put(table: &mut Table, column: SourceColumn, place: &Place, before: Option<usize>) {
    let end = table.columns.len();
    let at = match place {
        Place::First => 0,
        Place::After(name) => table.position(name).map_or(end, |at| at + 1),
        Place::Unsaid => before.unwrap_or(end),
    };
    table.columns.insert(at.min(end), column);
}

fn database(kind: &'static str, name: &str, charset: Option<&str>) -> Told {
    let mut members = Vec::new();
    if let Some(charset) = charset {
        members.extend_from_slice(b",\"charset\":");
        write_text(charset, &mut members);
    }
    Told { kind, database: name.to_owned(), table: None, members }
}

fn of_table(kind: &'static str, table: &Table, old: Option<&Table>, new: Option<&Table>) -> Told {
    let mut members = Vec::new();
    for (word, table) in [("old", old), ("def", new)] {
        if let Some(table) = table {
            members.extend_from_slice(format!(",\"{word}\":").as_bytes());
            write_table(table, &mut members);
        }
    }
    Told { kind, database: table.database.clone(), table: Some(table.name.clone()), members }
}

fn write_table(table: &Table, out: &mut Vec<u8>) {
    for (word, text) in
        [("{\"database\":", &table.database), (",\"charset\":", &table.charset), (",\"table\":", &table.name)]
    {
        out.extend_from_slice(word.as_bytes());
        write_text(text, out);
    }
    out.extend_from_slice(b",\"columns\":[");
    let visible = table.columns.iter().filter(|column| column.left_out.is_none());
    for (i, column) in visible.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_column(column, out);
    }
    out.extend_from_slice(b"],\"primary-key\":");
    write_list(&table.key(), out);
    out.push(b'}');
}

fn write_list(texts: &[&str], out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, text) in texts.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_text(text, out);
    }
    out.push(b']');
}

fn write_column(column: &SourceColumn, out: &mut Vec<u8>) {
    let kind = if column.is_mariadb_json { "json" } else { column.data_type.as_str() };
    out.extend_from_slice(b"{\"type\":");
    write_text(kind, out);
    out.extend_from_slice(b",\"name\":");
    write_text(&column.name, out);
    match kind {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => {
            let is_signed = !column.column_type.to_ascii_lowercase().contains("unsigned");
            out.extend_from_slice(format!(",\"signed\":{is_signed}").as_bytes());
        }
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            if let Some(charset) = &column.charset {
                out.extend_from_slice(b",\"charset\":");
                write_text(charset, out);
            }
        }
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            out.extend_from_slice(b",\"charset\":\"binary\"");
        }
        "enum" | "set" => {
            let labels = labels(column).unwrap_or_default();
            out.extend_from_slice(b",\"enum-values\":");
            write_list(&labels.iter().map(String::as_str).collect::<Vec<_>>(), out);
        }
        "datetime" | "timestamp" | "time" => {
            let inside = column.column_type.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
            let digits = inside.and_then(|(digits, _)| digits.trim().parse().ok()).unwrap_or(0);
            out.extend_from_slice(b",\"column-length\":");
            write_unsigned(digits, out);
        }
        _ => {}
    }
    out.push(b'}');
}
