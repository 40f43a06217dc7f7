//! The server that a walk writes to.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};

/// A connection to a running server in an empty database of the walk's own, with the server's port and the database's name.
pub(crate) async fn open(server: &str, walk: &str) -> Result<(Conn, u16, String), String> {
    let variable = format!("TIDEMILL_TEST_{}_PORT", server.to_uppercase());
    let port = std::env::var(&variable)
        .map_err(|_| format!("no server {server}: start it with scripts/services start {server}"))?;
    let port: u16 = port.parse().map_err(|_| format!("{variable} is no port: {port}"))?;
    let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).user(Some("root"));
    let mut connection = Conn::new(options.prefer_socket(false)).await.map_err(|e| e.to_string())?;
    let database = format!("tidemill_{walk}_{server}");
    for sql in [
        format!("drop database if exists {database}"),
        format!("create database {database} character set utf8mb4 collate utf8mb4_bin"),
        format!("use {database}"),
    ] {
        connection.query_drop(&sql).await.map_err(|e| format!("{sql}: {e}"))?;
    }
    Ok((connection, port, database))
}
