//! Recording from a real server (`SLOW=1`): runs a case's SQL, reads the log it made, and takes a snapshot.

use std::sync::Mutex;
use std::time::Duration;

use connect::source::mysql::decode::SnapshotPlan;
use connect::source::mysql::{MysqlConfig, Tls, describe};
use futures::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStreamRequest, Conn, Opts, OptsBuilder, Row, Value};

use super::{Recording, TABLE_MAP, hex};

/// Settings are global to a server: one case at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How long a server may take over a case.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs statements, one a line, in a database of their own, and records what becomes of the table `t`.
pub(super) fn record(product: &str, settings: &[&str], database: &str, sql: &str) -> Result<Recording, String> {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let work = recorded(product, settings, database, sql);
        tokio::time::timeout(PATIENCE, work).await.map_err(|_| "the server does not answer".to_owned())?
    })
}

async fn recorded(product: &str, settings: &[&str], database: &str, sql: &str) -> Result<Recording, String> {
    let config = config(product, database)?;
    let mut conn = connect(&config).await?;
    let mut undo = Vec::new();
    for setting in settings {
        let (name, value) = setting.split_once('=').ok_or("setting=value")?;
        let before: Option<String> = run_first(&mut conn, &format!("SELECT @@GLOBAL.{name}")).await?;
        undo.push(set_global(name, &before.unwrap_or_default()));
        run(&mut conn, &set_global(name, value)).await?;
    }
    let result = play(&config, product, database, sql).await;
    for statement in undo {
        run(&mut conn, &statement).await?;
    }
    run(&mut conn, &format!("DROP DATABASE IF EXISTS {database}")).await?;
    conn.disconnect().await.map_err(|e| e.to_string())?;
    result
}

/// Numbers must not be quoted, words must.
fn set_global(name: &str, value: &str) -> String {
    let quote = if value.parse::<u64>().is_ok() { "" } else { "'" };
    format!("SET GLOBAL {name} = {quote}{value}{quote}")
}

async fn play(config: &MysqlConfig, product: &str, database: &str, sql: &str) -> Result<Recording, String> {
    let mut conn = connect(config).await?;
    run(&mut conn, &format!("DROP DATABASE IF EXISTS {database}")).await?;
    run(&mut conn, &format!("CREATE DATABASE {database} CHARACTER SET utf8mb4")).await?;
    run(&mut conn, &format!("USE {database}")).await?;
    run(&mut conn, "SET time_zone = '+00:00'").await?;
    let (file, start) = position(&mut conn, product).await?;
    for statement in sql.lines().filter(|line| !line.trim().is_empty()) {
        run(&mut conn, statement.trim().trim_end_matches(';')).await?;
    }
    let described = describe(config, &[(database.to_owned(), "t".to_owned())]).await.map_err(|e| e.to_string())?;
    let facts = described.into_iter().next().ok_or("no table")?.facts?;
    let events = events(config, database, &file, start).await?;
    let snapshot = snapshot(config, database, &facts.columns).await?;
    conn.disconnect().await.map_err(|e| e.to_string())?;
    Ok(Recording { columns: facts.columns, events, snapshot: Some(snapshot), keeps: None })
}

fn config(product: &str, database: &str) -> Result<MysqlConfig, String> {
    let variable = |what: &str| {
        let name = format!("TIDEMILL_TEST_{}_{what}", product.to_uppercase());
        std::env::var(&name).map_err(|_| format!("SLOW=1 needs {name}: run the services first"))
    };
    Ok(MysqlConfig {
        host: variable("HOST")?,
        port: variable("PORT")?.parse().map_err(|_| "port")?,
        user: variable("USER")?,
        password: Some(variable("PASSWORD")?).filter(|p| !p.is_empty()),
        database: database.to_owned(),
        tls: Tls::Disabled,
        ..MysqlConfig::default()
    })
}

async fn connect(config: &MysqlConfig) -> Result<Conn, String> {
    let opts = OptsBuilder::default()
        .ip_or_hostname(config.host.clone())
        .tcp_port(config.port)
        .user(Some(config.user.clone()))
        .pass(config.password.clone())
        .prefer_socket(false);
    Conn::new(Opts::from(opts)).await.map_err(|e| e.to_string())
}

async fn run(conn: &mut Conn, sql: &str) -> Result<(), String> {
    conn.query_drop(sql).await.map_err(|e| format!("{sql}: {e}"))
}

async fn run_first(conn: &mut Conn, sql: &str) -> Result<Option<String>, String> {
    conn.query_first(sql).await.map_err(|e| format!("{sql}: {e}"))
}

/// Binlog file and offset of the server's end.
async fn position(conn: &mut Conn, product: &str) -> Result<(String, u64), String> {
    let sql = if product == "mariadb" { "SHOW MASTER STATUS" } else { "SHOW BINARY LOG STATUS" };
    let row: Row = conn.query_first(sql).await.map_err(|e| e.to_string())?.ok_or("the server writes no binlog")?;
    Ok((row.get(0).ok_or("file")?, row.get(1).ok_or("offset")?))
}

/// Table maps of the database and the rows events that belong to them, with the table number set to zero: it differs
/// from run to run.
async fn events(config: &MysqlConfig, database: &str, file: &str, start: u64) -> Result<Vec<(u8, Vec<u8>)>, String> {
    let conn = connect(config).await?;
    let request = BinlogStreamRequest::new(87_001).with_filename(file.as_bytes()).with_pos(start).with_non_blocking();
    let mut stream = conn.get_binlog_stream(request).await.map_err(|e| e.to_string())?;
    let mut ours = Vec::new();
    let mut out = Vec::new();
    while let Some(event) = stream.next().await {
        let event = event.map_err(|e| e.to_string())?;
        let (kind, mut payload) = (event.header().event_type_raw(), event.data().to_vec());
        match kind {
            TABLE_MAP if hex(&payload).contains(&hex(database.as_bytes())) => ours.push(payload[..6].to_vec()),
            TABLE_MAP => {
                ours.retain(|id| *id != payload[..6]);
                continue;
            }
            23..=25 | 30..=32 | 39 | 166..=171 if ours.iter().any(|id| *id == payload[..6]) => {}
            _ => continue,
        }
        payload[..6].fill(0);
        out.push((kind, payload));
    }
    Ok(out)
}

async fn snapshot(
    config: &MysqlConfig,
    database: &str,
    columns: &[connect::source::mysql::SourceColumn],
) -> Result<Vec<Vec<Option<Vec<u8>>>>, String> {
    let mut conn = connect(config).await?;
    for statement in SnapshotPlan::SESSION {
        run(&mut conn, statement).await?;
    }
    let plan = SnapshotPlan::new(columns).map_err(|e| format!("{e}: {}", e.reason))?;
    let sql = format!("SELECT {} FROM {database}.t", plan.select_list().join(", "));
    let rows: Vec<Row> = conn.query(sql).await.map_err(|e| e.to_string())?;
    let cell = |value: Value| match value {
        Value::NULL => Ok(None),
        Value::Bytes(bytes) => Ok(Some(bytes)),
        other => Err(format!("no text: {other:?}")),
    };
    let out = rows.into_iter().map(|row| row.unwrap().into_iter().map(cell).collect()).collect();
    conn.disconnect().await.map_err(|e| e.to_string())?;
    out
}
