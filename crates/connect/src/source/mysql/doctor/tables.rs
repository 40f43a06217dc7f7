//! What a table's columns and rows mean for a capture: whether it may be read, and what its key is worth.

use relation::unreal::SHOWN;

use crate::source::Check;

use super::super::MysqlConfig;
use super::super::cascade::{grant_select, keys_of_table};
use super::super::decode::SourceColumn;
use super::super::describe::{self, TableFacts, quoted};
use super::super::error::WireError;
use super::super::server::Facts;
use super::super::snapshot::{grant_lock, may_lock};
use super::super::wire::Wire;

/// Keys of tables with more rows than this are not searched from end to end.
const SEARCHED_ROWS_MAX: u64 = 1_000_000;

/// What such a date does to models.
const FUNCTIONS: &str = "A model that computes with one has NULL for it, or leaves its row out and reports it.";

fn full_name(database: &str, name: &str) -> String {
    format!("{}.{}", quoted(database), quoted(name))
}

/// Whether rows may be read: a table is seen by whoever has any right on it.
pub(super) async fn readable(wire: &mut Wire, config: &MysqlConfig, database: &str, name: &str) -> Result<(), Check> {
    let asked = wire.query(&format!("SELECT 1 FROM {} LIMIT 0", full_name(database, name))).await;
    let Err(error) = asked else { return Ok(()) };
    Err(Check::failed(
        "table",
        format!("table \"{database}.{name}\" cannot be read"),
        error.to_string(),
        format!("GRANT SELECT ON {} TO '{}'@'%'", full_name(database, name), config.user),
    ))
}

/// Whether a table may be locked whose load needs that: MariaDB tells the place of a snapshot without a lock, but no engine without
/// transactions has one.
pub(super) async fn lock(
    wire: &mut Wire,
    config: &MysqlConfig,
    database: &str,
    name: &str,
    facts: &TableFacts,
) -> Option<Check> {
    let has_key = !facts.schema.key.is_empty();
    let at_once = describe::kept_at_once(wire, database, name).await.ok()?;
    let needs_lock = at_once.is_some() || !has_key && !wire.server.mariadb;
    if !needs_lock || !matches!(may_lock(wire, database).await, Ok(false)) {
        return None;
    }
    let (message, grant) =
        (format!("table \"{database}.{name}\" may not be locked"), grant_lock(database, &config.user));
    Some(match (at_once, has_key) {
        (Some(engine), true) => Check::warning(
            "lock",
            message,
            format!(
                "Rows of the engine {engine} are seen before they are in the log: while nobody may wait for who writes, a load may \
                 have to be repeated."
            ),
            grant,
        ),
        (Some(engine), false) => Check::failed(
            "lock",
            message,
            format!(
                "It has no primary key and no transactions (engine {engine}): while it is loaded, nobody may write to it."
            ),
            grant,
        ),
        (None, _) => {
            Check::failed("lock", message, "It has no primary key, and loading it needs a lock for a moment.", grant)
        }
    })
}

/// Keys that do not tell rows apart for ever.
pub(super) async fn of_key(wire: &mut Wire, database: &str, name: &str, facts: &TableFacts) -> Vec<Check> {
    let mut checks = Vec::new();
    for column in facts.columns.iter().filter(|column| column.key_position.is_some()) {
        match column.data_type.as_str() {
            "float" | "double" => checks.push(Check::warning(
                "key",
                format!("the key of \"{database}.{name}\" has a {} ({})", column.data_type, column.name),
                "It is printed and compared with rounding: a key that is looked for is not always found.",
                format!(
                    "ALTER TABLE {} MODIFY {} DECIMAL(20, 6) NOT NULL",
                    full_name(database, name),
                    quoted(&column.name)
                ),
            )),
            "date" | "datetime" | "timestamp" => checks.extend(zero_dates(wire, database, name, facts, column).await),
            _ => {}
        }
    }
    checks
}

/// Dates that no calendar has in a key: they stay apart, which nobody can see of them.
async fn zero_dates(
    wire: &mut Wire,
    database: &str,
    name: &str,
    facts: &TableFacts,
    column: &SourceColumn,
) -> Option<Check> {
    let of = quoted(&column.name);
    let unreal = format!("MONTH({of}) = 0 OR DAYOFMONTH({of}) = 0 OR DAYOFMONTH({of}) > DAYOFMONTH(LAST_DAY({of}))");
    let is_unreal = match facts.rows_estimate > SEARCHED_ROWS_MAX {
        true if column.key_position != Some(0) => return None,
        // The key's own order finds these at once.
        true => format!("{of} < '0000-12-31'"),
        false => unreal.clone(),
    };
    let asked = wire.query(&format!("SELECT 1 FROM {} WHERE {is_unreal} LIMIT 1", full_name(database, name))).await;
    let (message, detail) = match asked {
        Ok(rows) if rows.rows.is_empty() => return None,
        Ok(_) => (
            format!("the key of \"{database}.{name}\" has dates that no calendar has ({})", column.name),
            format!("Their rows are all kept, but each of them is shown as {SHOWN}. {FUNCTIONS}"),
        ),
        Err(error) => (
            format!(
                "the key of \"{database}.{name}\" cannot be searched for dates that no calendar has ({})",
                column.name
            ),
            format!("{error}. Rows with such dates are all kept, but each of them is shown as {SHOWN}. {FUNCTIONS}"),
        ),
    };
    let hint =
        format!("SELECT {of} FROM {} WHERE {unreal} shows them; give them real dates.", full_name(database, name));
    Some(Check::warning("key", message, detail, hint))
}

/// Rows changed by a foreign key's action are not logged by InnoDB.
pub(super) async fn cascades(
    wire: &mut Wire,
    config: &MysqlConfig,
    facts: &Facts,
    database: &str,
    name: &str,
) -> Result<Vec<Check>, WireError> {
    if facts.logs_cascades() {
        return Ok(Vec::new());
    }
    let (keys, unseen) = keys_of_table(wire, database, name).await?;
    let Some(key) = keys.first() else { return Ok(Vec::new()) };
    let (constraint, parent) = (&key.name, &key.parent.1);
    let mut checks = vec![Check::warning(
        "foreign_key",
        format!("rows of \"{database}.{name}\" may change without a trace in the log"),
        format!(
            "Foreign key \"{constraint}\" changes them when a row of \"{parent}\" is deleted or its key changes, which is not \
             logged: the table is loaded again whenever that may have happened, and `tidemill apply` waits while a table is that it \
             reads."
        ),
        format!(
            "ALTER TABLE {} DROP FOREIGN KEY {}; and have the application change those rows itself",
            full_name(database, name),
            quoted(constraint)
        ),
    )];
    if !unseen.is_empty() {
        let names: Vec<String> = unseen.iter().map(|(database, name)| format!("{database}.{name}")).collect();
        let grants: Vec<String> = unseen.iter().map(|place| grant_select(place, &config.user)).collect();
        checks.push(Check::warning(
            "foreign_key",
            format!("rows of \"{database}.{name}\" may change without anybody being told"),
            format!(
                "Its foreign keys lead to {}, which the user may not SELECT from: what rows of these refer to, and change with, \
                 nobody tells. Such changes are found by `tidemill reconcile source` alone.",
                names.join(", ")
            ),
            grants.join("; "),
        ));
    }
    Ok(checks)
}
