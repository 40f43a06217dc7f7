//! What `information_schema` says of tables: their columns, keys and sizes, for the tables asked for and no others.
//!
//! Columns that are to be left out are marked ([`SourceColumn::left_out`]), and nothing more is asked of them.
//! Labels of enums and sets that it may not show as they are come from the values themselves.

use relation::Schema;

use crate::source::{Again, ColumnRule, Failure, OnUnsupported, TablePlace, Unanswered};

use super::again::LOOK_AGAIN;
use super::decode::{HASH, HIDDEN, ROW_END, ROW_START, SourceColumn, labels, relation_schema, unsupported};
use super::error::{NO_SUCH_TABLE, WireError, ends, failure};
use super::server::{unclear, unreachable_server};
use super::wire::{TextRows, Wire};
use super::{ANSWER, MysqlConfig, login};

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
    let place = |(database, name): &(String, String)| TablePlace {
        database: database.clone(),
        name: name.clone(),
        ..TablePlace::default()
    };
    let places: Vec<TablePlace> = wanted.iter().map(place).collect();
    ask(config, &places).await.map_err(|unanswered| unanswered.failure)
}

/// As [`describe`], by the rules for columns, for who may ask again.
pub(crate) async fn ask(config: &MysqlConfig, wanted: &[TablePlace]) -> Result<Vec<Described>, Unanswered> {
    let answer = async {
        let mut wire = login::connect(config).await?;
        let mut out = Vec::with_capacity(wanted.len());
        for place in wanted {
            let facts = login::in_time(ANSWER, facts(&mut wire, place)).await?;
            out.push(Described { database: place.database.clone(), name: place.name.clone(), facts });
        }
        wire.close().await;
        Ok::<_, WireError>(out)
    };
    answer.await.map_err(|e| Unanswered {
        failure: failure(&e, config).unwrap_or_else(|| unreachable_server(&e, config)),
        again: if ends(&e) { Again::Seldom } else { Again::Soon },
    })
}

/// Why nothing is known of a table.
pub(super) const ABSENT: &str = "The table does not exist, or the user may not SELECT from it.";

/// Why nothing is seen any more of a table that was: it was dropped, or the user may not read it any more. Rights on a table outlive
/// it, so who is told that it is not there has them.
pub(super) async fn lost(wire: &mut Wire, user: &str, database: &str, name: &str) -> Result<Option<String>, WireError> {
    let of = format!("{}.{}", quoted(database), quoted(name));
    match wire.query(&format!("SELECT 1 FROM {of} LIMIT 0")).await {
        Err(error) if error.is_denied() => Ok(Some(format!(
            "the user may not SELECT from it any more: it is looked for every {} s, and loaded again as soon as it is seen\nHint: GRANT \
             SELECT ON {of} TO '{user}'@'%'",
            LOOK_AGAIN.as_secs()
        ))),
        Err(error) if error.code().is_none() => Err(error),
        _ => Ok(None),
    }
}

/// How an engine keeps the rows of its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// What a transaction reads is of one moment, and what it writes is seen when it is logged.
    InTransactions,
    /// Rows are seen as they are written, before they are in the log.
    AtOnce,
}

/// How a table's rows are kept, by its line in `information_schema.TABLES`; or why it cannot be followed, as a sentence: by its engine,
/// what happens to its rows is not told by the log under its name.
pub(super) async fn engine(
    wire: &mut Wire,
    database: &str,
    name: &str,
    line: &TextRows,
) -> Result<Result<Kept, String>, WireError> {
    let Some(engine) = line.first("ENGINE") else {
        // MariaDB says there why it cannot open it.
        let said = line.first("TABLE_COMMENT").filter(|said| !said.is_empty());
        return Ok(said.map_or(Ok(Kept::InTransactions), |said| Err(format!("The server cannot open it: {said}."))));
    };
    Ok(match engine.to_uppercase().as_str() {
        "MRG_MYISAM" => {
            let children = match definition(wire, database, name).await? {
                Some(text) => children(&text).map_or("its children".to_owned(), |of| format!("its children ({of})")),
                None => format!("its children, which the server cannot open ({})", line.first("TABLE_COMMENT").unwrap_or("")),
            };
            Err(format!(
                "It is a MERGE table: what is written to its children is logged under their names alone. Name {children} as \
                 tables of the source, and unite them in a model."
            ))
        }
        "FEDERATED" | "CONNECT" | "SPIDER" | "S3" | "OQGRAPH" | "SPHINX" => Err(format!(
            "Its rows are kept elsewhere (engine {engine}), and what others do to them there is not in this server's log. Read \
             them where they are."
        )),
        "BLACKHOLE" => Err(
            "It keeps no rows (engine BLACKHOLE): what the log tells of it could never be loaded or compared. Follow the server \
             that keeps them."
                .to_owned(),
        ),
        "MYISAM" | "ARIA" | "CSV" | "ARCHIVE" | "MEMORY" | "MROONGA" | "EXAMPLE" => Ok(Kept::AtOnce),
        _ => Ok(Kept::InTransactions),
    })
}

/// The engine of a table whose rows are seen as they are written; none of one with transactions.
pub(super) async fn kept_at_once(wire: &mut Wire, database: &str, name: &str) -> Result<Option<String>, WireError> {
    let rows = wire
        .query(&format!(
            "SELECT ENGINE, TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(database),
            literal(name)
        ))
        .await?;
    let kept = engine(wire, database, name, &rows).await?;
    Ok(rows.first("ENGINE").filter(|_| kept == Ok(Kept::AtOnce)).map(str::to_owned))
}

/// The tables that a MERGE table is made of, as its definition names them.
fn children(definition: &str) -> Option<String> {
    let (_, behind) = definition.rsplit_once(" UNION=(")?;
    Some(behind.split_once(')')?.0.replace('`', "").replace(',', ", "))
}

/// The tables of a database, by name; views and the like are none.
///
/// Errors: the server cannot be reached or refuses, or the user sees no such database.
pub(crate) async fn tables(config: &MysqlConfig, database: &str) -> Result<Vec<String>, Failure> {
    let told = |error: &WireError| failure(error, config).unwrap_or_else(|| unreachable_server(error, config));
    let mut wire = login::connect(config).await.map_err(|e| told(&e))?;
    let listed = login::in_time(ANSWER, listed(&mut wire, database)).await.map_err(|e| told(&e))?;
    wire.close().await;
    listed
}

/// Databases that are the server's own.
const OWN: &str = "'mysql', 'sys', 'information_schema', 'performance_schema'";

async fn listed(wire: &mut Wire, database: &str) -> Result<Result<Vec<String>, Failure>, WireError> {
    let first = |row: Vec<Option<String>>| row.into_iter().next().flatten();
    let schemas =
        format!("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ({OWN}) ORDER BY 1");
    let known: Vec<String> = wire.query(&schemas).await?.rows.into_iter().filter_map(first).collect();
    if !known.iter().any(|name| name == database) {
        let hint = match known.is_empty() {
            true => "Grant the user SELECT on it.".to_owned(),
            false => format!("The user sees: {}.", known.join(", ")),
        };
        let message = format!("there is no database \"{database}\", or the user may not see it");
        return Ok(Err(Failure { message, detail: String::new(), hint }));
    }
    let rows = wire
        .query(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} \
             AND TABLE_TYPE IN ('BASE TABLE', '{VERSIONED}') ORDER BY TABLE_NAME",
            literal(database)
        ))
        .await?;
    Ok(Ok(rows.rows.into_iter().filter_map(first).collect()))
}

async fn facts(wire: &mut Wire, place: &TablePlace) -> Result<Result<TableFacts, String>, WireError> {
    let TablePlace { database, name, columns: rule, .. } = place;
    let (schema, table) = (literal(database), literal(name));
    let rows = wire
        .query(&format!(
            "SELECT TABLE_TYPE, TABLE_ROWS, ENGINE, TABLE_COMMENT FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {table}"
        ))
        .await?;
    let Some(kind) = rows.first("TABLE_TYPE") else { return Ok(Err(ABSENT.to_owned())) };
    if kind != "BASE TABLE" && kind != VERSIONED {
        return Ok(Err(format!("It is no table but a {}; changes of it are not logged.", kind.to_lowercase())));
    }
    if let Err(reason) = engine(wire, database, name, &rows).await? {
        return Ok(Err(reason));
    }
    let rows_estimate = rows.first("TABLE_ROWS").and_then(|n| n.parse().ok()).unwrap_or(0);
    let Some(columns) = columns(wire, database, name, rule).await? else {
        return Ok(Err("The table has no columns that the user may see.".to_owned()));
    };
    for column in columns.iter().filter(|column| column.key_position.is_some()) {
        if let Some(pattern) = rule.pattern_of(&column.name) {
            let (column, reason) = (&column.name, "a column of its primary key cannot be left out");
            return Ok(Err(format!("Column \"{column}\" is named by {pattern}: {reason}. Take it out of the filter.")));
        }
    }
    if !columns.iter().any(SourceColumn::is_stored) {
        return Ok(Err("All its columns are left out. Leave the table out, or name fewer columns.".to_owned()));
    }
    Ok(match relation_schema(&columns) {
        Ok(mut schema) => {
            if rule.declared().is_some() {
                // A column may go, and is NULL then.
                let is_key = |at: usize| schema.key.contains(&at);
                let others: Vec<usize> = (0..schema.columns.len()).filter(|&at| !is_key(at)).collect();
                others.into_iter().for_each(|at| schema.columns[at].nullable = true);
            }
            Ok(TableFacts { schema, columns, rows_estimate })
        }
        Err(error) => Err(format!("{error}: {} {}", error.reason, error.hint())),
    })
}

/// A table's columns in table order, those marked that a rule leaves out, or none if there is no such table.
///
/// A column of the key is not marked, whatever the rule says: without it nobody knows a row again.
pub(crate) async fn columns(
    wire: &mut Wire,
    database: &str,
    name: &str,
    rule: &ColumnRule,
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
            left_out: rule.leaves_out(&name, None).filter(|_| !key.contains(&name)),
            name,
        }
    };
    let mut columns: Vec<SourceColumn> = rows.rows.into_iter().map(column).collect();
    if wire.server.mariadb && wire.server.numbers() >= VERSIONS_SINCE {
        note_period(wire, &of, &mut columns).await?;
    }
    if wire.server.mariadb && wire.server.numbers() >= HASHES_SINCE {
        note_hashes(wire, &of, &mut columns).await?;
    }
    for column in columns.iter_mut().filter(|column| column.is_stored() && has_doubtful_labels(column)) {
        match labelled(wire, database, name, column).await {
            Ok(column_type) => column.column_type = column_type,
            Err(error) if error.code() == Some(NO_SUCH_TABLE) => return Ok(None),
            // No labels at all, for whatever reason: the column is refused, and says why. All else can be told.
            Err(error) if error.code().is_some() => {
                column.column_type = format!("information_schema does not show all characters of them, and {error}");
            }
            Err(error) => return Err(error),
        }
    }
    if rule.on_unsupported == OnUnsupported::LeaveOut || rule.declared().is_some() {
        let may_go = |column: &&mut SourceColumn| column.is_stored() && column.key_position.is_none();
        for column in columns.iter_mut().filter(may_go) {
            column.left_out =
                unsupported(column).map(|error| format!("left out since it cannot be held: {}", error.reason));
        }
    }
    Ok(Some(columns))
}

/// Whether `information_schema` may show other labels than there are: it has no characters beyond the basic plane, for which it
/// shows question marks, and puts backslashes before some of the others.
fn has_doubtful_labels(column: &SourceColumn) -> bool {
    const WIDE: [&str; 5] = ["utf8mb4", "utf16", "utf16le", "utf32", "gb18030"];
    let is_wide = || column.charset.as_deref().is_some_and(|charset| WIDE.contains(&charset));
    let text = &column.column_type;
    matches!(column.data_type.as_str(), "enum" | "set") && (text.contains('\\') || text.contains('?') && is_wide())
}

/// The type of an enum or a set with the labels that its values really have: no row is read, a column of the same type is
/// made up, of all labels by their numbers.
async fn labelled(wire: &mut Wire, database: &str, name: &str, column: &SourceColumn) -> Result<String, WireError> {
    let Ok(shown) = labels(column) else { return Ok(column.column_type.clone()) };
    let depth = if wire.server.mariadb { "max_recursive_iterations" } else { "cte_max_recursion_depth" };
    const ROUNDS_DEFAULT: usize = 1_000;
    if shown.len() >= ROUNDS_DEFAULT {
        wire.execute(&format!("SET SESSION {depth} = {}", shown.len() + 1)).await?;
    }
    let next = if column.data_type == "set" { "1 << number" } else { "number + 1" };
    let rows = wire
        .query(&format!(
            "WITH RECURSIVE labels (number, label) AS (\
             SELECT 0, t.{} FROM (SELECT 1) AS one LEFT JOIN {}.{} AS t ON FALSE \
             UNION ALL SELECT number + 1, {next} FROM labels WHERE number < {}) \
             SELECT CONVERT(label USING utf8mb4) FROM labels WHERE number > 0 ORDER BY number",
            quoted(&column.name),
            quoted(database),
            quoted(name),
            shown.len()
        ))
        .await?;
    let found = rows.rows.into_iter().map(|mut row| row.swap_remove(0)).collect::<Option<Vec<_>>>();
    let found = found.filter(|found| found.len() == shown.len()).ok_or_else(|| unclear("the labels of a column"))?;
    let quoted: Vec<String> = found.iter().map(|label| format!("'{}'", label.replace('\'', "''"))).collect();
    Ok(format!("{}({})", column.data_type, quoted.join(",")))
}

/// What `TABLE_TYPE` calls a table that keeps its history.
const VERSIONED: &str = "SYSTEM VERSIONED";
/// The first MariaDB that has such tables.
const VERSIONS_SINCE: (u32, u32, u32) = (10, 3, 0);

/// Notes which columns tell when a version of a row began and ended; those that a table has without its definition naming
/// them are its last.
async fn note_period(wire: &mut Wire, of: &str, columns: &mut Vec<SourceColumn>) -> Result<(), WireError> {
    let kind = wire.query(&format!("SELECT TABLE_TYPE FROM information_schema.TABLES WHERE {of}")).await?;
    if kind.single() != Some(VERSIONED) {
        return Ok(());
    }
    let bounds = wire
        .query(&format!(
            "SELECT COLUMN_NAME, GENERATION_EXPRESSION FROM information_schema.COLUMNS \
             WHERE {of} AND GENERATION_EXPRESSION IN ('ROW START', 'ROW END')"
        ))
        .await?;
    for row in &bounds.rows {
        let [Some(name), Some(bound)] = &row[..] else { return Err(unclear("a table's period")) };
        for column in columns.iter_mut().filter(|column| column.name == *name) {
            column.data_type = bound.to_lowercase();
        }
    }
    if bounds.rows.is_empty() {
        columns.extend([("row_start", ROW_START), ("row_end", ROW_END)].map(|(name, data_type)| SourceColumn {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            column_type: "timestamp(6)".to_owned(),
            ..SourceColumn::default()
        }));
    }
    Ok(())
}

/// The first MariaDB that has unique keys over values of any length.
const HASHES_SINCE: (u32, u32, u32) = (10, 4, 0);

/// Notes the hidden columns, behind all others, in which MariaDB keeps a hash for each unique key over values of any length:
/// the log has them, and no query shows them.
async fn note_hashes(wire: &mut Wire, of: &str, columns: &mut Vec<SourceColumn>) -> Result<(), WireError> {
    let keys = wire
        .query(&format!(
            "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS WHERE {of} AND INDEX_TYPE = 'HASH' \
             AND (SELECT ENGINE FROM information_schema.TABLES WHERE {of}) <> 'MEMORY'"
        ))
        .await?;
    columns.extend((1..=keys.rows.len()).map(|number| SourceColumn {
        name: format!("{HASH}{number}"),
        data_type: "bigint".to_owned(),
        column_type: "bigint unsigned".to_owned(),
        left_out: Some(HIDDEN.to_owned()),
        ..SourceColumn::default()
    }));
    Ok(())
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

/// A table's own definition, `SHOW CREATE TABLE`. None: the server does not show it.
pub(super) async fn definition(wire: &mut Wire, database: &str, name: &str) -> Result<Option<String>, WireError> {
    match wire.query(&format!("SHOW CREATE TABLE {}.{}", quoted(database), quoted(name))).await {
        Ok(rows) => Ok(rows.first("Create Table").map(str::to_owned)),
        Err(WireError::Server(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Text as an SQL literal. Sessions run without `NO_BACKSLASH_ESCAPES`, so backslashes count too.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name as SQL quotes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::children;

    #[test]
    fn the_children_of_a_merge_table_stand_in_its_definition() {
        let text = "CREATE TABLE `m` (\n  `id` int\n) ENGINE=MRG_MyISAM DEFAULT CHARSET=utf8mb4 INSERT_METHOD=LAST UNION=(`c1`,`d`.`c2`)";
        assert_eq!(children(text).as_deref(), Some("c1, d.c2"));
        assert_eq!(children("CREATE TABLE `m` (`id` int) ENGINE=MRG_MyISAM"), None);
    }
}
