//! Maxwell's own cases on real servers (`SLOW=1`): what it publishes for some SQL, and what we do, with and without its quirks.

use std::path::{Path, PathBuf};

use connect::maxwell::{Filter, Job, Options, Routing, StopAt, Teller, To};
use connect::source::mysql::{MysqlConfig, Start, Tls};
use libtest_mimic::Trial;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row};
use serde_json::Value as Json;
use tokio::sync::watch;

use super::Folder;
use crate::capture::server::{Outcome, port_of, trial};

/// Trials for each server that there is; all cases are in one, since they write into databases of the same names.
pub(crate) fn trials() -> Vec<Trial> {
    if std::env::var_os("SLOW").is_none_or(|v| v != "1") {
        return Vec::new();
    }
    let mut out = Vec::new();
    for server in ["mysql", "mariadb"] {
        let Some(port) = port_of(server) else { continue };
        out.push(trial(server, "maxwell_conformance", move || all(server, port)));
        out.push(trial(server, "maxwell_begins", move || super::begin::is_kept_when_it_is_told(port)));
        out.push(trial(server, "maxwell_one_number_for_two", move || super::begin::one_number_for_two(port)));
        out.push(trial(server, "maxwell_kafka", move || super::kafka::waits_for_brokers(server, port)));
    }
    out
}

/// A case: its statements, and the messages that are published for them.
struct Case {
    statements: Vec<String>,
    messages: Vec<Json>,
}

async fn all(server: &'static str, port: u16) -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).map_err(|e| e.to_string())?.flatten().map(|e| e.path()).collect();
    cases.retain(|path| path.extension().is_some_and(|ending| ending == "case"));
    cases.sort();
    if cases.is_empty() {
        return Err("there are no cases".to_owned());
    }
    for path in cases {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
        one(server, port, &name, &text).await.map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

async fn one(server: &str, port: u16, name: &str, text: &str) -> Outcome {
    let case = read(text)?;
    let databases = databases(&case);
    let opts =
        OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).user(Some("root")).prefer_socket(false);
    let mut conn = Conn::new(opts).await.map_err(|e| e.to_string())?;
    for database in databases.iter().filter(|database| *database != "test") {
        run(&mut conn, &format!("DROP DATABASE IF EXISTS `{database}`")).await?;
    }
    run(&mut conn, "CREATE DATABASE IF NOT EXISTS test").await?;
    if name == "minimal" {
        run(&mut conn, "DROP TABLE IF EXISTS test.test_table, test.test_table_2").await?;
        run(&mut conn, "SET SESSION binlog_row_image = MINIMAL").await?;
    }
    let asks = if server == "mysql" { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let row: Option<Row> = conn.query_first(asks).await.map_err(|e| e.to_string())?;
    let row = row.ok_or("the server writes no log")?;
    let (file, offset): (String, u64) = (row.get(0).ok_or("file")?, row.get(1).ok_or("offset")?);
    let zone: Option<String> = conn.query_first("SELECT @@GLOBAL.time_zone").await.map_err(|e| e.to_string())?;
    for statement in &case.statements {
        run(&mut conn, statement).await?;
    }
    // Others use this server too, and some say what its zone is.
    run(&mut conn, &format!("SET GLOBAL time_zone = '{}'", zone.ok_or("the server has no zone")?)).await?;
    for compat in [false, true] {
        let folder = Folder::new();
        let included: Vec<String> = databases.iter().map(|database| format!("include: `{database}`.*")).collect();
        let to = folder.0.join("messages");
        let job = Job {
            server: MysqlConfig {
                port,
                tls: Tls::Disabled,
                start: Start::Binlog { file: file.clone(), offset },
                ..MysqlConfig::default()
            },
            options: Options { compat, ..Options::default() },
            filter: Filter::parse(&format!("exclude: *.*, {}", included.join(", "))).map_err(|e| e.to_string())?,
            routing: Routing::default(),
            to: To::File(to.clone()),
            state: folder.0.join("state"),
            stop_at: Some(StopAt::End),
            own_database: "maxwell".to_owned(),
            client_id: "maxwell".to_owned(),
            bootstraps: false,
        };
        let (_stop, stopped) = watch::channel(false);
        let done = connect::maxwell::run(job, stopped, Teller::new(|_, _| {})).await;
        done.map_err(|failure| failure.text())?;
        let printed = std::fs::read_to_string(to).map_err(|e| e.to_string())?;
        compare(&case.messages, &printed).map_err(|error| format!("maxwell_compat={compat}: {error}"))?;
    }
    conn.disconnect().await.map_err(|e| e.to_string())
}

async fn run(conn: &mut Conn, sql: &str) -> Result<(), String> {
    conn.query_drop(sql).await.map_err(|e| format!("{sql}: {e}"))
}

fn compare(wanted: &[Json], printed: &str) -> Outcome {
    let got: Vec<&str> = printed.lines().collect();
    if got.len() != wanted.len() {
        return Err(format!("{} messages instead of {}:\n{printed}", got.len(), wanted.len()));
    }
    for (wanted, line) in wanted.iter().zip(got) {
        let message: Json = serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
        let members = wanted.as_object().ok_or("a message is an object")?;
        if members.iter().any(|(key, value)| message.get(key) != Some(value)) {
            return Err(format!("{line}\ninstead of\n{wanted}"));
        }
    }
    Ok(())
}

/// The databases that a case makes or uses.
fn databases(case: &Case) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for statement in &case.statements {
        let words: Vec<String> =
            statement.split_whitespace().map(|word| word.trim_matches(['`', ';']).to_owned()).collect();
        let name = match words.iter().map(|word| word.to_lowercase()).collect::<Vec<_>>().as_slice() {
            [create, database, ..] if create == "create" && database == "database" && words[2] != "if" => words.get(2),
            [first, ..] if first == "use" => words.get(1),
            _ => None,
        };
        out.extend(name.filter(|name| !out.contains(name)).cloned());
    }
    out
}

fn read(text: &str) -> Result<Case, String> {
    let mut case = Case { statements: Vec::new(), messages: Vec::new() };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("->") {
            Some(message) => {
                let json = quoted(message.trim());
                case.messages.push(serde_json::from_str(&json).map_err(|e| format!("{json}: {e}"))?);
            }
            None => case.statements.push(line.trim_end_matches(';').to_owned()),
        }
    }
    Ok(case)
}

/// JSON whose keys may stand without quotes.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '"' {
            out.push(letter);
            let mut escaped = false;
            for inside in letters.by_ref() {
                out.push(inside);
                if inside == '"' && !escaped {
                    break;
                }
                escaped = inside == '\\' && !escaped;
            }
        } else if letter.is_alphabetic() || letter == '_' {
            let mut word = letter.to_string();
            while let Some(more) = letters.next_if(|c| c.is_alphanumeric() || *c == '_') {
                word.push(more);
            }
            while letters.next_if(|c| c.is_whitespace()).is_some() {}
            let is_key = letters.peek() == Some(&':');
            out.push_str(&if is_key { format!("\"{word}\"") } else { word });
        } else {
            out.push(letter);
        }
    }
    out
}
