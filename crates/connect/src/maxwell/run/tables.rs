//! What is asked of the server about its tables: all of them before anything is read, and one where its rows come.

use std::sync::Arc;

use super::super::ddl::Unknown;
use super::super::schema::{Schemas, Table, charset_of};
use super::{ANSWER, Halt, Runner};
use crate::source::ColumnRule;
use crate::source::mysql::Start;
use crate::source::mysql::log::{Facts, Met, START, Wire, WireError, columns, connect_again, literal, log_end};

/// Tables whose columns are asked for before anything is read; those of larger servers are when their first rows come.
const PRELOADED_MAX: usize = 2_000;

impl Runner {
    /// Asks what tables there are, where nothing is known of them yet.
    pub(super) async fn learn(&mut self, mut sql: Wire, facts: &Facts) -> Result<Wire, Halt> {
        let from_now = self.is_first && matches!(self.config.start, Start::Now | Start::Snapshot);
        let mut schemas = Schemas { has_exact_names: facts.has_exact_names, version: 1, ..Schemas::default() };
        let (sql, schemas) = self
            .answered(START, async move {
                let rows = sql.query("SELECT @@GLOBAL.character_set_server").await?;
                rows.single().unwrap_or("utf8mb4").clone_into(&mut schemas.charset);
                if !from_now {
                    // What the log says from there on is older than what the server would say.
                    return Ok((sql, schemas));
                }
                let rows = sql
                    .query("SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA")
                    .await?;
                for row in &rows.rows {
                    if let [Some(name), Some(charset)] = &row[..] {
                        schemas.insert_database(name, charset);
                    }
                }
                let rows = sql
                    .query(
                        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN \
                         ('mysql', 'sys', 'information_schema', 'performance_schema') AND TABLE_TYPE <> 'VIEW'",
                    )
                    .await?;
                let wanted: Vec<(String, String)> = rows
                    .rows
                    .into_iter()
                    .filter_map(|row| {
                        let mut values = row.into_iter();
                        Some((values.next()??, values.next()??))
                    })
                    .collect();
                if wanted.len() > PRELOADED_MAX {
                    return Ok((sql, schemas));
                }
                schemas.is_whole = true;
                for (database, name) in &wanted {
                    if let Some(table) = described(&mut sql, database, name).await? {
                        schemas.insert(table);
                    }
                }
                Ok((sql, schemas))
            })
            .await?;
        self.follower.begin_with(schemas);
        self.is_known = true;
        Ok(sql)
    }

    /// Asks the server what the follower must know.
    pub(super) async fn answer(&mut self, met: &Met, asking: &mut Option<Wire>) -> Result<(), Halt> {
        for unknown in std::mem::take(&mut self.follower.asked) {
            let (config, met, kept, question) = (Arc::clone(&self.config), met.clone(), asking.take(), unknown.clone());
            let (wire, answer) = self
                .answered(ANSWER, async move {
                    if let Some(mut wire) = kept
                        && let Ok(answer) = ask(&mut wire, &question).await
                    {
                        return Ok((wire, answer));
                    }
                    let mut wire = connect_again(&config, &met).await?;
                    let answer = ask(&mut wire, &question).await?;
                    Ok((wire, answer))
                })
                .await?;
            *asking = Some(wire);
            match answer {
                Answer::Table(table) => self.follower.answer_table(unknown, table),
                Answer::Database(charset) => self.follower.answer_database(unknown, charset.as_deref()),
            }
        }
        Ok(())
    }
}

enum Answer {
    Table(Option<Table>),
    Database(Option<String>),
}

async fn ask(wire: &mut Wire, unknown: &Unknown) -> Result<Answer, WireError> {
    Ok(match unknown {
        Unknown::Table(database, name) => Answer::Table(described(wire, database, name).await?),
        Unknown::Database(name) => {
            let sql = format!(
                "SELECT DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
                literal(name)
            );
            Answer::Database(wire.query(&sql).await?.single().map(str::to_owned))
        }
    })
}

/// A table as the server describes it now; none where it is not there, or may not be seen.
pub(super) async fn described(wire: &mut Wire, database: &str, name: &str) -> Result<Option<Table>, WireError> {
    let Some(columns) = columns(wire, database, name, &ColumnRule::default()).await? else { return Ok(None) };
    let sql = format!(
        "SELECT TABLE_COLLATION FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        literal(database),
        literal(name)
    );
    let collation = wire.query(&sql).await?.single().map(str::to_owned);
    let charset = collation.and_then(|collation| charset_of(&collation)).unwrap_or_else(|| "utf8mb4".to_owned());
    let (as_of, _) = log_end(wire).await?;
    Ok(Some(Table { database: database.to_owned(), name: name.to_owned(), charset, columns, as_of }))
}
