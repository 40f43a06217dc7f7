//! MySQL and MariaDB as a kind of source: settings in, and the functions of this folder behind [`Source`].

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use relation::{DataType, Position, Value, unreal};
use serde_json::Value as Json;
use tokio::sync::mpsc;

use crate::source::{
    Absence, Check, Control, Failure, FollowedTable, LeftOut, Limits, OwnFacts, Retention, Settings, Source,
    SourceEvent, SourceKind, TablePlace, Unanswered, WholeReader,
};

use super::decode::{HIDDEN, keep_only};
use super::position::BadPosition;
use super::{CaptureTable, MysqlConfig, MysqlSource, SourceColumn, Start, Tls};

const KEYS: [&str; 9] = ["host", "port", "user", "password", "database", "tls", "tls_ca", "server_public_key", "start"];

/// Connections of the types `mysql` and `mariadb`.
#[derive(Debug, Clone, Copy)]
pub struct Kind;

#[async_trait]
impl SourceKind for Kind {
    fn types(&self) -> &'static [&'static str] {
        &["mysql", "mariadb"]
    }

    async fn open(&self, settings: &Settings) -> Result<Arc<dyn Source>, Failure> {
        let mut config = config(settings)?;
        if let Some(secret) = settings.secret("password")? {
            config.password = Some(secret.resolve().await?);
        }
        Ok(Arc::new(Mysql { config }))
    }
}

/// The settings without the password.
pub(crate) fn config(settings: &Settings) -> Result<MysqlConfig, Failure> {
    settings.refuse_others(&KEYS)?;
    Ok(MysqlConfig {
        host: settings.required("host")?.to_owned(),
        port: settings.number("port")?.unwrap_or(3306),
        user: settings.required("user")?.to_owned(),
        database: settings.text("database")?.unwrap_or_default().to_owned(),
        tls: Tls::of(settings)?,
        tls_ca: settings.text("tls_ca")?.map(PathBuf::from),
        server_key: settings.text("server_public_key")?.map(PathBuf::from),
        start: match settings.get("start") {
            None => Start::Snapshot,
            Some(value) => start(value).ok_or_else(|| {
                let forms = "snapshot, now, {since: '2026-01-01 00:00:00'} (UTC), {binlog: [binlog.000003, 154]} or \
                             {gtid: '…'}";
                settings.bad("start", forms)
            })?,
        },
        ..MysqlConfig::default()
    })
}

fn start(value: &Json) -> Option<Start> {
    match value.as_str() {
        Some("snapshot") => return Some(Start::Snapshot),
        Some("now") => return Some(Start::Now),
        _ => {}
    }
    if let Some(time) = value.get("since") {
        let Ok(Value::Timestamp(us)) = Value::parse(DataType::Timestamp, time.as_str()?) else { return None };
        return (!unreal::is_instant(us)).then_some(Start::Since(us));
    }
    if let Some(place) = value.get("binlog") {
        let (file, offset) = (place.get(0)?.as_str()?, place.get(1)?.as_u64()?);
        return Some(Start::Binlog { file: file.to_owned(), offset });
    }
    Some(Start::Gtid(value.get("gtid")?.as_str()?.to_owned()))
}

/// One server.
#[derive(Debug)]
struct Mysql {
    config: MysqlConfig,
}

/// Columns that are not read.
pub(super) fn left_out(columns: &[SourceColumn]) -> Vec<LeftOut> {
    let of = |column: &SourceColumn| {
        let reason = column.left_out.clone().filter(|reason| !column.is_of_period() && reason != HIDDEN)?;
        Some(LeftOut { column: column.name.clone(), reason })
    };
    columns.iter().filter_map(of).collect()
}

/// A word for columns by which rows of the log are read. What a newer server calls otherwise is the same, and of columns that are left
/// out nothing matters but where they are: the log itself says how many bytes to pass over.
fn reads_by(columns: &[SourceColumn]) -> String {
    let old_name = |text: &str| text.replace("utf8mb3", "utf8");
    let of = |column: &SourceColumn| {
        if column.left_out.is_some() {
            return format!("{:?}", column.name);
        }
        let is_number = column.data_type.ends_with("int") || column.data_type == "year";
        let width = column.column_type.find('(').zip(column.column_type.find(')')).filter(|_| is_number);
        let mut column_type = column.column_type.clone();
        width.into_iter().for_each(|(from, to)| column_type.replace_range(from..=to, ""));
        let text = |text: &Option<String>| text.as_deref().map(old_name);
        let kind = (&column.name, &column.data_type, old_name(&column_type), text(&column.charset));
        format!("{kind:?} {:?} {:?}", column.key_position, column.is_mariadb_json)
    };
    let all: Vec<String> = columns.iter().map(of).collect();
    super::assemble::hex(&relation::key::hash128(all.join("\n").as_bytes()))
}

/// What a source knows of a table's columns beside what is followed, as [`OwnFacts`].
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) columns: Vec<SourceColumn>,
    /// As [`CaptureTable::is_placed`], of the place behind which the next batch is.
    pub(super) is_placed: bool,
}

/// A table as the source's own parts know it.
pub(super) fn capture(table: FollowedTable) -> CaptureTable {
    // Without its columns a table has none, and the log will contradict that: the table is parked, and says so.
    let known = table.facts.own.get::<Known>().cloned();
    let Known { mut columns, is_placed } = known.unwrap_or(Known { columns: Vec::new(), is_placed: false });
    if table.place.columns.declared().is_some() {
        keep_only(&mut columns, &table.facts.schema);
    }
    CaptureTable {
        id: table.id,
        database: table.place.database,
        name: table.place.name,
        columns,
        is_placed,
        rule: table.place.columns,
        schema: table.facts.schema,
        load: table.load,
    }
}

#[async_trait]
impl Source for Mysql {
    fn word(&self) -> &'static str {
        "mysql"
    }

    async fn tables(&self, database: &str) -> Result<Vec<String>, Failure> {
        super::describe::tables(&self.config, database).await
    }

    fn loads(&self) -> bool {
        self.config.start == Start::Snapshot
    }

    async fn describe(
        &self,
        wanted: &[TablePlace],
    ) -> Result<Vec<Result<crate::source::TableFacts, Absence>>, Unanswered> {
        let described = super::describe::ask(&self.config, wanted).await?;
        let facts = |facts: super::TableFacts| crate::source::TableFacts {
            schema: facts.schema,
            left_out: left_out(&facts.columns),
            rows_estimate: facts.rows_estimate,
            own: OwnFacts::new(Known { columns: facts.columns, is_placed: false }),
        };
        Ok(described.into_iter().map(|d| d.facts.map(facts).map_err(Absence)).collect())
    }

    fn reads_by(&self, facts: &OwnFacts) -> Option<String> {
        facts.get::<Known>().map(|known| reads_by(&known.columns))
    }

    fn start(
        &self,
        tables: Vec<FollowedTable>,
        resume: Option<Position>,
        limits: Limits,
    ) -> (mpsc::Receiver<SourceEvent>, Control) {
        MysqlSource::start(self.config.clone(), tables.into_iter().map(capture).collect(), resume, limits)
    }

    async fn current_position(&self) -> Result<Option<Position>, Failure> {
        super::current_position(&self.config).await.map(Some)
    }

    fn reached(&self, current: &Position, target: &Position) -> Result<bool, Failure> {
        super::reached(current, target).map_err(|error| match error {
            BadPosition::NoPosition(_) => Failure {
                message: error.to_string(),
                detail: "It was written by a source of another kind, or by another version.".to_owned(),
                hint: format!("To go on, {}.", super::error::LOAD_ALL_AGAIN),
            },
            BadPosition::OtherServer(..) => Failure {
                message: error.to_string(),
                detail: "The connection's address leads to several servers, or another one has taken it over."
                    .to_owned(),
                hint: "Name one server as the connection's `host`, and try again.".to_owned(),
            },
        })
    }

    async fn bytes_behind(&self, position: &Position) -> Result<Option<u64>, Failure> {
        super::bytes_behind(&self.config, position).await
    }

    async fn retention(&self, position: &Position) -> Result<Option<Retention>, Failure> {
        super::retention(&self.config, position).await
    }

    async fn leads_on(&self, position: &Position) -> Result<(), Failure> {
        super::doctor::leads_on(&self.config, position).await
    }

    async fn open_whole(&self) -> Result<Box<dyn WholeReader>, Failure> {
        Ok(Box::new(super::whole::Whole::open(&self.config).await?))
    }

    async fn doctor(&self, wanted: &[TablePlace]) -> Vec<Check> {
        super::doctor::ask(&self.config, wanted).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_alike_by_servers_of_another_age() {
        let column = |name: &str, data_type: &str, column_type: &str, charset: &str| SourceColumn {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            column_type: column_type.to_owned(),
            charset: Some(charset.to_owned()),
            ..SourceColumn::default()
        };
        let old = [column("n", "int", "int(11) unsigned", ""), column("t", "text", "text", "utf8")];
        let new = [column("n", "int", "int unsigned", ""), column("t", "text", "text", "utf8mb3")];
        assert_eq!(reads_by(&old), reads_by(&new));
        let labels = |of: &str| reads_by(&[column("e", "enum", of, "utf8mb4")]);
        assert_ne!(labels("enum('a','b')"), labels("enum('b','a')"));
        let moved: Vec<SourceColumn> = new.iter().rev().cloned().collect();
        assert_ne!(reads_by(&new), reads_by(&moved));
        // As an ALTER of the log brings it along, and as the server tells it later.
        let left_out = |column: SourceColumn| SourceColumn { left_out: Some("left out".to_owned()), ..column };
        let brought = [new[0].clone(), left_out(SourceColumn { name: "t".to_owned(), ..SourceColumn::default() })];
        let told = [new[0].clone(), left_out(new[1].clone())];
        assert_eq!(reads_by(&brought), reads_by(&told));
        assert_ne!(reads_by(&told), reads_by(&new));
    }
}
