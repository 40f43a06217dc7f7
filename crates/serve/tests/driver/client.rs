//! Statements through tokio-postgres, which prepares them and reads binary.
//!
//! A line is a statement; `text SELECT …` sends it by the simple protocol, `portal 2 SELECT …` reads it in pieces of
//! two rows inside a transaction, ` | 5` behind a statement is a parameter, a text that the server's type reads.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use tokio_postgres::{Client, Error, NoTls, Row, SimpleQueryMessage};

use super::Outcome;

/// A client's login: `user=` and `password=` among the words.
pub(super) fn config(address: SocketAddr, words: &[&str]) -> String {
    let word = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let password = word("password").map(|password| format!(" password={password}")).unwrap_or_default();
    let user = word("user").unwrap_or("ann");
    format!("host={} port={} user={user} dbname=shop{password}", address.ip(), address.port())
}

/// A client that stays, for `hold` and `held`.
pub(super) async fn open(address: SocketAddr, words: &[&str]) -> Result<Client, String> {
    let (client, connection) =
        tokio_postgres::connect(&config(address, words), NoTls).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

/// What it hears.
pub(super) async fn ask(client: &Client, sql: &str) -> String {
    simple(client, sql).await.unwrap_or_else(|error| failed(&error))
}

pub(super) async fn run(address: SocketAddr, words: &[&str], body: &str) -> Outcome {
    let (mut client, connection) = match tokio_postgres::connect(&config(address, words), NoTls).await {
        Ok(connected) => connected,
        Err(error) => return Ok(failed(&error)),
    };
    let driver = tokio::spawn(connection);
    let mut out = String::new();
    for line in body.lines() {
        let answer = match line.split_once(' ') {
            Some(("text", sql)) => simple(&client, sql).await,
            Some(("portal", rest)) => portal(&mut client, rest).await,
            _ => prepared(&client, line).await,
        };
        let _ = writeln!(out, "{}", answer.unwrap_or_else(|error| failed(&error)));
    }
    drop(client);
    driver.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    Ok(out)
}

fn failed(error: &Error) -> String {
    match error.as_db_error() {
        Some(e) => {
            format!("error {} {}, {:?}, {:?}", e.code().code(), e.message(), e.detail(), e.hint())
        }
        None => format!("error {error}"),
    }
}

async fn simple(client: &Client, sql: &str) -> Result<String, Error> {
    let mut out = Vec::new();
    for message in client.simple_query(sql).await? {
        out.push(match message {
            SimpleQueryMessage::Row(row) => {
                (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join(" | ")
            }
            SimpleQueryMessage::CommandComplete(rows) => format!("done, {rows} rows"),
            SimpleQueryMessage::RowDescription(columns) => {
                columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(", ")
            }
            _ => "?".to_owned(),
        });
    }
    Ok(out.join("\n"))
}

async fn prepared(client: &Client, line: &str) -> Result<String, Error> {
    let mut parts = line.split(" | ");
    let sql = parts.next().unwrap_or_default();
    let values: Vec<Text> = parts.map(Text::from).collect();
    let statement = client.prepare(sql).await?;
    let params: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
    let rows = client.query(&statement, &params).await?;
    let types = statement.columns().iter().map(|column| format!("{} {}", column.name(), column.type_().name()));
    let mut out = types.collect::<Vec<_>>().join(", ");
    for row in &rows {
        let _ = write!(out, "\n{}", printed(row));
    }
    Ok(out)
}

async fn portal(client: &mut Client, rest: &str) -> Result<String, Error> {
    let (size, sql) = rest.split_once(' ').unwrap_or(("1", rest));
    let size: i32 = size.parse().unwrap();
    let transaction = client.transaction().await?;
    let portal = transaction.bind(sql, &[]).await?;
    let mut pieces = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, size).await?;
        if rows.is_empty() {
            break;
        }
        pieces.push(rows.iter().map(printed).collect::<Vec<_>>().join("; "));
    }
    transaction.commit().await?;
    Ok(pieces.join("\n"))
}

fn printed(row: &Row) -> String {
    let cells = row.columns().iter().enumerate().map(|(i, column)| cell(row, i, column.type_()));
    cells.collect::<Vec<_>>().join(" | ")
}

/// A value read as the driver's own type for it; what has none as bytes.
fn cell(row: &Row, i: usize, kind: &Type) -> String {
    fn get<'a, T: FromSql<'a> + std::fmt::Debug>(row: &'a Row, i: usize) -> String {
        row.get::<_, Option<T>>(i).map_or("NULL".to_owned(), |value| format!("{value:?}"))
    }
    match *kind {
        Type::BOOL => get::<bool>(row, i),
        Type::INT2 => get::<i16>(row, i),
        Type::INT4 => get::<i32>(row, i),
        Type::INT8 => get::<i64>(row, i),
        Type::FLOAT4 => get::<f32>(row, i),
        Type::FLOAT8 => get::<f64>(row, i),
        Type::TEXT => get::<&str>(row, i),
        Type::BYTEA => get::<&[u8]>(row, i),
        Type::INT8_ARRAY => get::<Vec<Option<i64>>>(row, i),
        Type::TEXT_ARRAY => get::<Vec<Option<&str>>>(row, i),
        Type::TIMESTAMPTZ | Type::TIMESTAMP => get::<std::time::SystemTime>(row, i).split("tv_").skip(1).collect(),
        _ => get::<Raw>(row, i),
    }
}

/// Bytes of any type.
struct Raw(Vec<u8>);

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A parameter written as text, sent in the binary form of the type that the server asks for.
#[derive(Debug)]
struct Text(Option<String>);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self((text != "NULL").then(|| text.to_owned()))
    }
}

impl ToSql for Text {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        match *kind {
            Type::BOOL => text.parse::<bool>()?.to_sql(kind, out),
            Type::INT2 => text.parse::<i16>()?.to_sql(kind, out),
            Type::INT4 => text.parse::<i32>()?.to_sql(kind, out),
            Type::INT8 => text.parse::<i64>()?.to_sql(kind, out),
            Type::FLOAT8 => text.parse::<f64>()?.to_sql(kind, out),
            Type::INT8_ARRAY => text.split(',').map(str::parse).collect::<Result<Vec<i64>, _>>()?.to_sql(kind, out),
            _ => text.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
