//! What `information_schema` says of tables: their columns, keys and sizes, for the tables asked for and no others.

use relation::Schema;

use crate::source::{Failure, Unanswered};

use super::decode::{SourceColumn, relation_schema};
use super::error::{WireError, ends, failure};
use super::server::unreachable_server;
use super::wire::Wire;
use super::{MysqlConfig, login};

/// What is known of a table that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub database: String,
    pub name: String,
    /// The table, or why it cannot be captured, as a sentence.
    pub facts: Result<TableFacts, String>,
}

/// A table that can be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFacts {
    pub schema: Schema,
    /// In table order; hand them back in [`super::CaptureTable`].
    pub columns: Vec<SourceColumn>,
    /// Rows, as the server estimates them.
    pub rows_estimate: u64,
}

/// Reads the tables' columns. Tables are (database, name) as the log writes them.
///
/// Errors: the server cannot be reached or refuses. A table that is missing or cannot be held is in the answer.
pub async fn describe(config: &MysqlConfig, wanted: &[(String, String)]) -> Result<Vec<Described>, Failure> {
    ask(config, wanted).await.map_err(|unanswered| unanswered.failure)
}

/// As [`describe`], for who may ask again.
pub(crate) async fn ask(config: &MysqlConfig, wanted: &[(String, String)]) -> Result<Vec<Described>, Unanswered> {
    let answer = async {
        let mut wire = login::connect(config).await?;
        let mut out = Vec::with_capacity(wanted.len());
        for (database, name) in wanted {
            let facts = facts(&mut wire, database, name).await?;
            out.push(Described { database: database.clone(), name: name.clone(), facts });
        }
        wire.close().await;
        Ok::<_, WireError>(out)
    };
    answer.await.map_err(|e| Unanswered {
        failure: failure(&e, config).unwrap_or_else(|| unreachable_server(&e, config)),
        is_ours: ends(&e),
    })
}

async fn facts(wire: &mut Wire, database: &str, name: &str) -> Result<Result<TableFacts, String>, WireError> {
    let (schema, table) = (literal(database), literal(name));
    let rows = wire
        .query(&format!(
            "SELECT TABLE_TYPE, TABLE_ROWS FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {table}"
        ))
        .await?;
    let Some(kind) = rows.first("TABLE_TYPE") else {
        return Ok(Err("The table does not exist, or the user may not SELECT from it.".to_owned()));
    };
    if kind != "BASE TABLE" {
        return Ok(Err(format!("It is no table but a {}; changes of it are not logged.", kind.to_lowercase())));
    }
    let rows_estimate = rows.first("TABLE_ROWS").and_then(|n| n.parse().ok()).unwrap_or(0);
    let Some(columns) = columns(wire, database, name).await? else {
        return Ok(Err("The table has no columns that the user may see.".to_owned()));
    };
    Ok(match relation_schema(&columns) {
        Ok(schema) => Ok(TableFacts { schema, columns, rows_estimate }),
        Err(error) => Err(format!("{error}: {} {}", error.reason, error.hint())),
    })
}

/// A table's columns in table order, or none if there is no such table.
pub(crate) async fn columns(
    wire: &mut Wire,
    database: &str,
    name: &str,
) -> Result<Option<Vec<SourceColumn>>, WireError> {
    let of = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(database), literal(name));
    let rows = wire
        .query(&format!(
            "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, IS_NULLABLE, EXTRA \
             FROM information_schema.COLUMNS WHERE {of} ORDER BY ORDINAL_POSITION"
        ))
        .await?;
    if rows.rows.is_empty() {
        return Ok(None);
    }
    let key = key(wire, &of).await?;
    let json = if wire.server.mariadb { json_columns(wire, database, name).await? } else { Vec::new() };
    let column = |row: Vec<Option<String>>| {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten();
        let name = next().unwrap_or_default();
        SourceColumn {
            data_type: next().unwrap_or_default(),
            column_type: next().unwrap_or_default(),
            charset: next(),
            collation: next(),
            nullable: next().is_some_and(|n| n == "YES"),
            extra: next().unwrap_or_default(),
            is_mariadb_json: json.contains(&name),
            key_position: key.iter().position(|k| *k == name),
            name,
        }
    };
    Ok(Some(rows.rows.into_iter().map(column).collect()))
}

/// The primary key's columns, in key order.
async fn key(wire: &mut Wire, of: &str) -> Result<Vec<String>, WireError> {
    let rows = wire
        .query(&format!(
            "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE {of} AND INDEX_NAME = 'PRIMARY' \
             ORDER BY SEQ_IN_INDEX"
        ))
        .await?;
    Ok(rows.rows.into_iter().filter_map(|mut row| row.swap_remove(0)).collect())
}

/// MariaDB's JSON columns: those whose check is `json_valid` of themselves.
async fn json_columns(wire: &mut Wire, database: &str, name: &str) -> Result<Vec<String>, WireError> {
    let rows = wire
        .query(&format!(
            "SELECT CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
             WHERE CONSTRAINT_SCHEMA = {} AND TABLE_NAME = {}",
            literal(database),
            literal(name)
        ))
        .await;
    // Servers before 10.2 know no checks.
    let rows = match rows {
        Err(WireError::Server(_)) => return Ok(Vec::new()),
        other => other?,
    };
    let column = |row: Vec<Option<String>>| {
        let clause = row.into_iter().nth(1).flatten()?;
        let inside = clause.trim().strip_prefix("json_valid(`")?.strip_suffix("`)")?;
        Some(inside.replace("``", "`"))
    };
    Ok(rows.rows.into_iter().filter_map(column).collect())
}

/// Text as an SQL literal. Sessions run without `NO_BACKSLASH_ESCAPES`, so backslashes count too.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name as SQL quotes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
