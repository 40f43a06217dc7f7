//! What is known of a project's source tables without running it: from the data folder, from what the project declares, or from the
//! sources themselves.

use std::collections::BTreeSet;

use plan::TableName;
use project::{Diagnostic, SourceTable};
use relation::{Column, DataType, Schema};

use crate::cli::serving;
use crate::reason::Reason;
use crate::setup::Setup;
use crate::sources;
use crate::warehouse::AbsentTable;

/// Source tables with their columns, as far as they are known.
#[derive(Debug, Default)]
pub struct Known {
    pub tables: Vec<(TableName, Schema)>,
    /// Those of the tables whose columns are what the project says.
    pub declared: BTreeSet<TableName>,
    /// Those of these of which the project does not say the key: nobody has set out to say all of them, so there may be more columns
    /// than are declared ([`Known::may_have_more`]). A table with types and key is whole, as `init` writes it: a column that is not
    /// among its columns is a mistake, or is declared first.
    pub keyless: BTreeSet<TableName>,
    /// Tables that are not known, and why.
    pub absent: Vec<AbsentTable>,
    /// What is wrong with the project, as far as that came out.
    pub findings: Vec<Diagnostic>,
}

/// Why the columns of a table are not known, where nobody was asked.
const UNKNOWN: &str = "its columns are not known";
/// The same where its source was asked.
const UNASKED: &str = "its source cannot be asked";

/// Whether more may be known of a table once its source is asked.
pub fn is_unasked(table: &AbsentTable) -> bool {
    table.is_unasked || table.reason == UNKNOWN
}

impl Known {
    /// Without asking a source: what a running instance has, or a stopped one has kept, what is the same everywhere, and what is
    /// declared.
    pub async fn offline(setup: &Setup) -> anyhow::Result<Self> {
        let mut known = Self::default();
        if setup.data.join("store").is_dir() {
            let serving = serving(setup).await?;
            known.tables = serving.tables_to_come()?;
            known.tables.retain(|(name, _)| setup.has_table(name));
            known.absent = serving.absent();
            known.absent.retain(|table| setup.has_table(&table.name));
        }
        for feed in setup.feeds()? {
            if feed.tables.iter().all(|table| known.has(&name_of(table))) {
                continue;
            }
            match sources::kind(feed.connection) {
                Ok(kind) if kind.is_described_offline() => {
                    known.ask(&feed).await;
                    continue;
                }
                Ok(_) => {}
                Err(error) => known.findings.push(told(Diagnostic::error(feed.connection.place.clone(), ""), &error)),
            }
            for table in &feed.tables {
                let place = crate::setup::place(feed.connection, table);
                let settings = sources::settings(feed.connection);
                match sources::kind(feed.connection).map(|kind| kind.declared(&settings, &place)) {
                    // It is that, and nothing more.
                    Ok(Ok(Some(schema))) if !known.has(&name_of(table)) => {
                        known.absent.retain(|absent| absent.name != name_of(table));
                        known.tables.push((name_of(table), schema));
                    }
                    _ => known.declare(table, UNKNOWN),
                }
            }
        }
        Ok(known)
    }

    /// As the sources say it now. One that cannot be asked is a finding, and what is declared holds for its tables.
    pub async fn online(setup: &Setup) -> anyhow::Result<Self> {
        let mut known = Self::default();
        for feed in setup.feeds()? {
            known.ask(&feed).await;
        }
        Ok(known)
    }

    /// Whether a table may have other columns than those that are known.
    pub fn may_have_more(&self, table: &TableName) -> bool {
        self.declared.contains(table) && self.keyless.contains(table)
    }

    fn has(&self, name: &TableName) -> bool {
        self.tables.iter().any(|(known, _)| known == name)
    }

    /// Asks a source for its tables.
    async fn ask(&mut self, feed: &crate::setup::Feed<'_>) {
        let wanted: Vec<&SourceTable> =
            feed.tables.iter().copied().filter(|table| !self.has(&name_of(table))).collect();
        let source = feed.source().await;
        // Where the project alone says what the key is, there is no other.
        let has_own_key = sources::kind(feed.connection).is_ok_and(|kind| !kind.declared_keys().contains(&"key"));
        let answers = source.describe(&feed.wanted()).await;
        let answers = match answers.map_err(|unanswered| anyhow::anyhow!(unanswered.failure.text())) {
            Ok(answers) => answers,
            Err(error) => {
                self.findings.push(told(Diagnostic::error(feed.connection.place.clone(), ""), &error));
                wanted.into_iter().for_each(|table| self.declare(table, UNASKED));
                return;
            }
        };
        for (table, answer) in feed.tables.iter().zip(answers) {
            let name = name_of(table);
            if self.has(&name) {
                continue;
            }
            match answer {
                Ok(facts) => {
                    self.findings.extend(other_key(table, &facts.schema).filter(|_| has_own_key));
                    self.tables.push((name, facts.schema));
                }
                Err(connect::Absence(reason)) => {
                    let message = format!("source table {name} cannot be read");
                    let mut error = Diagnostic::error(table.place.clone(), message).detail(reason.clone());
                    error.hint = others(source.as_ref(), table).await;
                    self.findings.push(error);
                    let source = table.connection.clone();
                    // What was kept of it may have said otherwise.
                    self.absent.retain(|absent| absent.name != name);
                    self.absent.push(AbsentTable { source, name, reason, is_unasked: false });
                }
            }
        }
    }

    /// Takes the columns of a table as the project declares them, if it says the types of all that it names; otherwise it is not
    /// known, and why.
    fn declare(&mut self, table: &SourceTable, otherwise: &str) {
        let name = name_of(table);
        if self.has(&name) {
            return;
        }
        let mut columns = Vec::new();
        for column in &table.columns {
            let Some(data_type) = column.data_type.as_deref().and_then(declared_type) else { break };
            columns.push(Column { name: column.name.clone(), data_type, nullable: true });
        }
        if columns.is_empty() || columns.len() < table.columns.len() {
            if !self.absent.iter().any(|absent| absent.name == name) {
                let (source, reason) = (table.connection.clone(), otherwise.to_owned());
                self.absent.push(AbsentTable { source, name, reason, is_unasked: false });
            }
            return;
        }
        self.absent.retain(|absent| absent.name != name);
        // Of one that keeps its columns, these are what is read.
        if table.meta.get("on_change").is_none_or(|policy| policy != "map") {
            self.declared.insert(name.clone());
        }
        let key = declared_key(table, &columns).unwrap_or_else(|mistake| {
            self.findings.push(mistake);
            None
        });
        if key.is_none() {
            self.keyless.insert(name.clone());
        }
        let key = key.unwrap_or_default();
        key.iter().for_each(|&column| columns[column].nullable = false);
        self.tables.push((name, Schema::new(columns, key)));
    }
}

/// Tables that a hint lists.
const LISTED_MAX: usize = 20;

/// What there is instead of a table that is not there, as a hint.
async fn others(source: &dyn connect::Source, table: &SourceTable) -> Option<String> {
    let names = source.tables(table.schema.as_deref().unwrap_or_default()).await.ok()?;
    match project::closest(&table.identifier, names.iter().map(String::as_str)) {
        Some(meant) if meant == table.identifier => None,
        Some(meant) => Some(format!("Did you mean `{meant}`?")),
        None if (1..=LISTED_MAX).contains(&names.len()) => Some(format!("There are: {}.", names.join(", "))),
        None => None,
    }
}

/// Which columns are the key of a table by its `meta`, none where it does not say. Errors: it names what is no column.
fn declared_key(table: &SourceTable, columns: &[Column]) -> Result<Option<Vec<usize>>, Diagnostic> {
    let Some(names) = key_names(table)? else { return Ok(None) };
    let position = |name: &String| {
        let at = columns.iter().position(|column| column.name == *name);
        at.ok_or_else(|| {
            let mistake = mistaken_key(table, format!("there is no column `{name}` for its key"));
            let there = columns.iter().map(|column| column.name.as_str());
            match project::closest(name, there.clone()) {
                Some(meant) => mistake.hint(format!("Did you mean `{meant}`?")),
                None => mistake.hint(format!("There are: {}.", there.collect::<Vec<_>>().join(", "))),
            }
        })
    };
    names.iter().map(position).collect::<Result<_, _>>().map(Some)
}

/// The names of a declared key.
fn key_names(table: &SourceTable) -> Result<Option<Vec<String>>, Diagnostic> {
    let Some(key) = table.meta.get("key").filter(|key| !key.is_null()) else { return Ok(None) };
    let names =
        key.as_array().and_then(|names| names.iter().map(serde_json::Value::as_str).collect::<Option<Vec<_>>>());
    match names {
        Some(names) => {
            let mut key: Vec<String> = Vec::new();
            for name in names {
                if !key.iter().any(|known| known == name) {
                    key.push(name.to_owned());
                }
            }
            Ok(Some(key))
        }
        None => {
            let mistake = mistaken_key(table, "`key` should be a list of names of columns".to_owned());
            Err(mistake.hint("Write `config: {meta: {key: [id]}}`; `[]` says that there is none."))
        }
    }
}

fn mistaken_key(table: &SourceTable, why: String) -> Diagnostic {
    Diagnostic::warning(table.place.clone(), format!("{}: {why}", name_of(table)))
}

/// That a table has another key than the project says; its source's is the one that holds.
fn other_key(table: &SourceTable, schema: &Schema) -> Option<Diagnostic> {
    let mut declared = match key_names(table) {
        Ok(names) => names?,
        Err(mistake) => return Some(mistake),
    };
    let mut key: Vec<String> = schema.key.iter().map(|&column| schema.columns[column].name.clone()).collect();
    let written = |names: &[String]| match names {
        [] => "no key".to_owned(),
        names => format!("the key ({})", names.join(", ")),
    };
    let (said, has) = (written(&declared), written(&key));
    declared.sort_unstable();
    key.sort_unstable();
    if declared == key {
        return None;
    }
    let mistake = mistaken_key(table, format!("it has {has}, and is declared with {said}"));
    Some(mistake.hint("Mend `key` in its `meta`. What the source has holds when it runs."))
}

/// Words of types, for who has misspelt one.
const TYPES: [&str; 25] = [
    "bigint",
    "integer",
    "int",
    "smallint",
    "tinyint",
    "boolean",
    "text",
    "varchar",
    "char",
    "numeric",
    "decimal",
    "real",
    "double",
    "float",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "datetime",
    "json",
    "jsonb",
    "bytea",
    "blob",
    "uuid",
    "interval",
];

/// Types of a table's columns that are none: mistakes where the table is known by them alone.
pub fn mistaken_types(table: &SourceTable, known: &Known) -> Vec<Diagnostic> {
    let name = name_of(table);
    let is_needed = known.absent.iter().any(|absent| absent.name == name && is_unasked(absent));
    let mistaken = table.columns.iter().filter_map(|column| {
        let text = column.data_type.as_deref().filter(|text| declared_type(text).is_none())?;
        let message = format!("column `{}` of {name} has the unknown type `{text}`", column.name);
        let finding = match is_needed {
            true => Diagnostic::error(column.data_type_place.clone(), message),
            false => Diagnostic::warning(column.data_type_place.clone(), message),
        };
        let word = text.split('(').next().unwrap_or_default().trim();
        Some(match project::closest(word, TYPES) {
            Some(meant) => finding.hint(format!("Did you mean `{meant}`?")),
            None => finding.hint("Types are those of SQL and of MySQL: bigint, text, numeric(10,2), timestamp."),
        })
    });
    mistaken.collect()
}

fn name_of(table: &SourceTable) -> TableName {
    TableName::new(&table.source, &table.name)
}

/// A finding with the parts of an error.
fn told(finding: Diagnostic, error: &anyhow::Error) -> Diagnostic {
    let Reason { message, detail, hint } = Reason::of(&format!("{error:#}"));
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    Diagnostic { message, detail: said(detail), hint: said(hint), ..finding }
}

/// The type that a `data_type` names, in SQL's words or MySQL's; none where it names none.
pub(crate) fn declared_type(text: &str) -> Option<DataType> {
    let lower = text.trim().to_lowercase();
    let is_unsigned = lower.split_whitespace().any(|word| word == "unsigned");
    if let (false, Ok(known)) = (is_unsigned, lower.parse()) {
        return Some(known);
    }
    let base = lower.split('(').next().unwrap_or_default().trim();
    Some(match base.split_whitespace().next().unwrap_or_default() {
        "tinyint" => DataType::Int16,
        "smallint" if is_unsigned => DataType::Int32,
        "smallint" => DataType::Int16,
        "int" | "integer" if is_unsigned => DataType::Int64,
        "int" | "integer" | "mediumint" | "year" => DataType::Int32,
        "bigint" if is_unsigned => DataType::UInt64,
        "bigint" => DataType::Int64,
        "bit" => DataType::UInt64,
        "varchar" | "character" | "nvarchar" | "tinytext" | "mediumtext" | "longtext" | "enum" | "set" | "uuid" => {
            DataType::Text
        }
        "binary" | "varbinary" | "tinyblob" | "mediumblob" | "longblob" => DataType::Bytes,
        "jsonb" => DataType::Json,
        "datetime" => DataType::Timestamp,
        "timestamp" if lower.contains("with time zone") && !lower.contains("without") => DataType::TimestampTz,
        "timestamp" => DataType::Timestamp,
        "timestamptz" => DataType::TimestampTz,
        "time" => DataType::Time,
        "decimal" | "numeric" => lower.split_whitespace().next()?.parse().ok()?,
        "double" => DataType::Float64,
        "float" => DataType::Float32,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_are_read_in_the_words_of_both() {
        for (text, wanted) in [
            ("bigint", "bigint"),
            ("VARCHAR(255)", "text"),
            ("int(10) unsigned", "bigint"),
            ("numeric(10,2)", "decimal(10,2)"),
            ("timestamp without time zone", "timestamp"),
            ("timestamp with time zone", "timestamptz"),
            ("datetime(6)", "timestamp"),
            ("enum('a','b')", "text"),
            ("double precision", "double"),
        ] {
            assert_eq!(declared_type(text), wanted.parse().ok(), "{text}");
        }
        assert_eq!(declared_type("strng"), None);
    }
}
