//! Tables as they are at the place of the log that is read: what a server says of them, and what its log's statements make of that.
//!
//! The law: a row is read by the columns that its table had when it was written. Where the log tells these itself
//! (`binlog_row_metadata = FULL`) it is believed. Otherwise a table's columns are those of `information_schema` when it was first
//! asked for, and each statement of the log since has changed them as it says. What the server said may be of later than the place that
//! is read, so a statement that was carried out by then changes nothing any more ([`Table::as_of`]); and where columns and rows do not
//! fit, nothing is printed.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::source::mysql::SourceColumn;
use crate::source::mysql::decode::{Plan, TableMap};
use crate::source::mysql::log::LogPoint;
use crate::source::mysql::log::parts::{BINARY_COLLATION, code};

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Table {
    pub(crate) database: String,
    pub(crate) name: String,
    /// That of columns that say none.
    pub(crate) charset: String,
    /// In table order.
    pub(crate) columns: Vec<SourceColumn>,
    /// It is so behind this place of the log, if not before.
    pub(crate) as_of: LogPoint,
}

impl Table {
    /// Names of the primary key's columns, in its order.
    pub(crate) fn key(&self) -> Vec<&str> {
        let mut key: Vec<(usize, &str)> =
            self.columns.iter().filter_map(|column| Some((column.key_position?, column.name.as_str()))).collect();
        key.sort_unstable();
        key.into_iter().map(|(_, name)| name).collect()
    }

    pub(crate) fn set_key(&mut self, names: &[String]) {
        for column in &mut self.columns {
            column.key_position = names.iter().position(|name| same(name, &column.name));
            column.nullable &= column.key_position.is_none();
        }
    }

    pub(crate) fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|known| same(&known.name, column))
    }
}

/// Names of columns are the same whatever the case of their letters.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || one.to_lowercase() == other.to_lowercase()
}

/// All that is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schemas {
    /// Charsets of databases by name.
    pub(crate) databases: BTreeMap<String, String>,
    /// By database and name, as they are compared.
    pub(crate) tables: BTreeMap<(String, String), Table>,
    /// The server's own charset.
    pub(crate) charset: String,
    /// Counts the definitions that have changed.
    pub(crate) version: u64,
    /// Names differ by more than the case of their letters.
    pub(crate) has_exact_names: bool,
    /// Whatever is not known here is not there: all was read, or all has been told since.
    pub(crate) is_whole: bool,
}

impl Schemas {
    fn place(&self, database: &str, name: &str) -> (String, String) {
        match self.has_exact_names {
            true => (database.to_owned(), name.to_owned()),
            false => (database.to_lowercase(), name.to_lowercase()),
        }
    }

    pub(crate) fn table(&self, database: &str, name: &str) -> Option<&Table> {
        self.tables.get(&self.place(database, name))
    }

    pub(crate) fn insert(&mut self, table: Table) {
        self.tables.insert(self.place(&table.database, &table.name), table);
    }

    pub(crate) fn remove(&mut self, database: &str, name: &str) -> Option<Table> {
        self.tables.remove(&self.place(database, name))
    }

    /// The charset of a database, if that is known.
    pub(crate) fn database(&self, name: &str) -> Option<&str> {
        self.databases.get(&self.place(name, "").0).map(String::as_str)
    }

    pub(crate) fn insert_database(&mut self, name: &str, charset: &str) {
        let key = self.place(name, "").0;
        self.databases.insert(key, charset.to_owned());
    }

    /// The database goes, with its tables.
    pub(crate) fn remove_database(&mut self, name: &str) -> bool {
        let key = self.place(name, "").0;
        self.tables.retain(|(database, _), _| *database != key);
        self.databases.remove(&key).is_some()
    }

    /// As [`Schemas::read`] takes it.
    pub(crate) fn text(&self) -> String {
        let column = |column: &SourceColumn| {
            json!({
                "name": column.name, "type": column.data_type, "column_type": column.column_type,
                "charset": column.charset, "collation": column.collation, "nullable": column.nullable,
                "json": column.is_mariadb_json, "key": column.key_position, "hidden": column.left_out,
            })
        };
        let table = |table: &Table| {
            json!({
                "database": table.database, "name": table.name, "charset": table.charset,
                "as_of": table.as_of.to_string(), "columns": table.columns.iter().map(column).collect::<Vec<_>>(),
            })
        };
        json!({
            "format": 1, "version": self.version, "charset": self.charset, "exact_names": self.has_exact_names,
            "whole": self.is_whole, "databases": self.databases,
            "tables": self.tables.values().map(table).collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// The reverse of [`Schemas::text`]; none where it is none.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(text).ok()?;
        let word = |json: &Json, key: &str| json[key].as_str().map(str::to_owned);
        let mut schemas = Self {
            charset: word(&json, "charset")?,
            version: json["version"].as_u64()?,
            has_exact_names: json["exact_names"].as_bool()?,
            is_whole: json["whole"].as_bool()?,
            ..Self::default()
        };
        if json["format"].as_u64() != Some(1) {
            return None;
        }
        for (name, charset) in json["databases"].as_object()? {
            schemas.databases.insert(name.clone(), charset.as_str()?.to_owned());
        }
        let column = |json: &Json| {
            Some(SourceColumn {
                name: word(json, "name")?,
                data_type: word(json, "type")?,
                column_type: word(json, "column_type")?,
                charset: word(json, "charset"),
                collation: word(json, "collation"),
                nullable: json["nullable"].as_bool()?,
                is_mariadb_json: json["json"].as_bool()?,
                key_position: json["key"].as_u64().and_then(|at| usize::try_from(at).ok()),
                left_out: word(json, "hidden"),
                extra: String::new(),
            })
        };
        for table in json["tables"].as_array()? {
            let as_of = word(table, "as_of")?;
            let (file, offset) = as_of.rsplit_once(':')?;
            schemas.insert(Table {
                database: word(table, "database")?,
                name: word(table, "name")?,
                charset: word(table, "charset")?,
                columns: table["columns"].as_array()?.iter().map(column).collect::<Option<_>>()?,
                as_of: LogPoint::new(file, offset.parse().ok()?),
            });
        }
        Some(schemas)
    }
}

/// The columns of the rows behind a table map, and how they are read: by what the map tells, and by what is known of the table.
/// Errors: the two do not fit, as a sentence.
pub(crate) fn shape(map: &TableMap, known: Option<&Table>) -> Result<(Vec<SourceColumn>, Plan), String> {
    let Some(names) = &map.names else {
        let known = known.ok_or("It is not known what columns it has.")?;
        return planned(map, known.columns.clone());
    };
    let by_name = |name: &String| known.and_then(|table| table.columns.iter().find(|column| column.name == *name));
    let told = |i: usize| {
        made_up(map, i, &names[i]).ok_or_else(|| format!("The log does not tell all of column \"{}\".", names[i]))
    };
    let best: Result<Vec<_>, String> =
        (0..names.len()).map(|i| by_name(&names[i]).cloned().map_or_else(|| told(i), Ok)).collect();
    if let Ok(columns) = best
        && let Ok(shape) = planned(map, columns)
    {
        return Ok(shape);
    }
    // What is known may be of another time.
    planned(map, (0..names.len()).map(told).collect::<Result<_, _>>()?)
}

fn planned(map: &TableMap, mut columns: Vec<SourceColumn>) -> Result<(Vec<SourceColumn>, Plan), String> {
    for (i, column) in columns.iter_mut().enumerate() {
        // Whether it may be NULL decides nothing here.
        column.nullable = true;
        if let Some(key) = &map.primary_key {
            column.key_position = key.iter().position(|at| *at == i);
        }
    }
    match Plan::new(map, &columns) {
        Ok(plan) => Ok((columns, plan)),
        Err(mismatch) => Err(mismatch.reason),
    }
}

/// A column as the log alone describes it; none where it does not.
fn made_up(map: &TableMap, i: usize, name: &str) -> Option<SourceColumn> {
    let [first, second] = map.column_meta[i];
    let is_binary = || map.collations[i].map(|collation| collation == BINARY_COLLATION);
    let or_binary = |binary: &'static str, text: &'static str| is_binary().map(|is| if is { binary } else { text });
    let word = match map.column_types[i] {
        code::TINY => "tinyint",
        code::SHORT => "smallint",
        code::INT24 => "mediumint",
        code::LONG => "int",
        code::LONGLONG => "bigint",
        code::FLOAT => "float",
        code::DOUBLE => "double",
        code::NEWDECIMAL => "decimal",
        code::BIT => "bit",
        code::YEAR => "year",
        code::DATE | code::NEWDATE => "date",
        code::DATETIME | code::DATETIME2 => "datetime",
        code::TIMESTAMP | code::TIMESTAMP2 => "timestamp",
        code::TIME | code::TIME2 => "time",
        code::JSON => "json",
        code::GEOMETRY => "geometry",
        code::VECTOR => "vector",
        code::ENUM if map.labels[i].is_some() => "enum",
        code::SET if map.labels[i].is_some() => "set",
        code::STRING => or_binary("binary", "char")?,
        code::VARCHAR | code::VAR_STRING | code::VARCHAR_COMPRESSED => or_binary("varbinary", "varchar")?,
        code::TINY_BLOB..=code::BLOB | code::BLOB_COMPRESSED => or_binary("blob", "text")?,
        _ => return None,
    };
    let sign = match &map.unsigned {
        Some(signs) if signs[i] => " unsigned",
        Some(_) => "",
        None if word.ends_with("int") => return None,
        None => "",
    };
    let arguments = match word {
        "decimal" => format!("({first},{second})"),
        "datetime" | "timestamp" | "time" => format!("({first})"),
        "binary" => format!("({})", u16::from_le_bytes([first, second])),
        // The log's own hold.
        "enum" | "set" => "('')".to_owned(),
        _ => String::new(),
    };
    Some(SourceColumn {
        name: name.to_owned(),
        data_type: word.to_owned(),
        column_type: format!("{word}{arguments}{sign}"),
        // The log's own holds, where it is text.
        charset: Some("utf8mb4".to_owned()),
        ..SourceColumn::default()
    })
}

/// The charset of a collation's name; none for those that are of any charset.
pub(crate) fn charset_of(collation: &str) -> Option<String> {
    let first = collation.split('_').next().unwrap_or_default().to_lowercase();
    if matches!(first.as_str(), "" | "uca1400" | "default") { None } else { Some(first) }
}

/// MySQL's JSON among the types of the log.
pub(crate) const JSON_CODE: u8 = code::JSON;
