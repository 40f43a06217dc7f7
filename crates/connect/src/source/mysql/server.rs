//! What a server is, and where its log ends.

use relation::Position;

use crate::source::{Failure, Retention};

use super::error::{ServerError, WireError, failure, told};
use super::login::Met;
use super::position::{DomainGtids, GtidSet, Gtids, LogPoint, LogPosition, is_same_server};
use super::wire::{ServerInfo, TextRows, Wire};
use super::{ANSWER, CaptureTable, MysqlConfig, Start, login};

const UNKNOWN_VARIABLE: u16 = 1193;

/// Settings that capture depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) log_bin: bool,
    pub(crate) binlog_format: String,
    pub(crate) row_image: String,
    /// Empty on servers that do not know it.
    pub(crate) row_metadata: String,
    /// MySQL numbers transactions; MariaDB always does.
    pub(crate) gtid_mode: bool,
    pub(crate) server_id: u64,
    /// Seconds after which log files are dropped; 0: never.
    pub(crate) expire_s: u64,
    /// What MySQL 9.6 and later call the old way, in which cascades are not logged.
    pub(crate) native_foreign_keys: Option<bool>,
    /// Names of tables that differ by case only are different tables.
    pub(crate) has_exact_names: bool,
}

impl Facts {
    pub(crate) async fn read(wire: &mut Wire) -> Result<Self, WireError> {
        let names = "'log_bin','binlog_format','binlog_row_image','binlog_row_metadata','gtid_mode','server_id',\
                     'binlog_expire_logs_seconds','expire_logs_days','innodb_native_foreign_keys',\
                     'lower_case_table_names'";
        let rows = wire.query(&format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")).await?;
        let get = |name: &str| variable(&rows, name).unwrap_or_default();
        let on = |name: &str| matches!(get(name).to_ascii_uppercase().as_str(), "ON" | "1");
        let seconds = get("binlog_expire_logs_seconds").parse().unwrap_or(0);
        let days: f64 = get("expire_logs_days").parse().unwrap_or(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "days of log retention are few")]
        let days_s = (days * 86_400.0) as u64;
        Ok(Self {
            log_bin: on("log_bin"),
            binlog_format: get("binlog_format").to_ascii_uppercase(),
            row_image: get("binlog_row_image").to_ascii_uppercase(),
            row_metadata: get("binlog_row_metadata").to_ascii_uppercase(),
            gtid_mode: get("gtid_mode").eq_ignore_ascii_case("ON"),
            server_id: get("server_id").parse().unwrap_or(0),
            expire_s: if seconds > 0 { seconds } else { days_s },
            native_foreign_keys: variable(&rows, "innodb_native_foreign_keys").map(|v| v.eq_ignore_ascii_case("ON")),
            has_exact_names: matches!(get("lower_case_table_names").as_str(), "" | "0"),
        })
    }

    /// Whether the log has what foreign keys do to other tables: MySQL 9.6 does it above the engine, and logs it, unless it is
    /// told otherwise.
    pub(crate) fn logs_cascades(&self) -> bool {
        self.native_foreign_keys == Some(false)
    }

    /// Whether a table has this database and name.
    pub(crate) fn is_same_place(&self, (database, name): &(String, String), table: &CaptureTable) -> bool {
        let is_same = |one: &str, other: &str| match self.has_exact_names {
            true => one == other,
            false => one.to_lowercase() == other.to_lowercase(),
        };
        is_same(database, &table.database) && is_same(name, &table.name)
    }

    /// What makes capture impossible, for a person to mend.
    pub(crate) fn refuse(&self, config: &MysqlConfig) -> Option<Failure> {
        if !self.log_bin {
            return Some(Failure {
                message: format!("{} writes no binary log", config.address()),
                detail: "log_bin is OFF.".to_owned(),
                hint: "Start the server with log_bin, binlog_format = ROW and a server_id.".to_owned(),
            });
        }
        // MySQL 9 drops the variable: ROW is all there is.
        if !self.binlog_format.is_empty() && self.binlog_format != "ROW" {
            return Some(Failure {
                message: format!("{} logs statements, not rows", config.address()),
                detail: format!("binlog_format is {}.", self.binlog_format),
                hint: "SET GLOBAL binlog_format = 'ROW'; then let the applications reconnect.".to_owned(),
            });
        }
        None
    }
}

/// By what a server is told from others: its UUID. MariaDB has none, and its id is often copied with its settings; host
/// name and port belong to it, which a restart leaves and a copy of the server does not have.
pub(crate) async fn identity(wire: &mut Wire) -> Result<String, WireError> {
    if !wire.server.mariadb {
        match wire.query("SELECT @@GLOBAL.server_uuid").await {
            // MySQL 5.5 has none.
            Err(error) if error.code() == Some(UNKNOWN_VARIABLE) => {}
            other => return Ok(other?.single().ok_or_else(|| unclear("who it is"))?.to_owned()),
        }
    }
    let rows = wire.query("SELECT @@GLOBAL.server_id, @@GLOBAL.hostname, @@GLOBAL.port").await?;
    let row = rows.rows.into_iter().next().unwrap_or_default();
    let [Some(id), Some(host), Some(port)] = &row[..] else { return Err(unclear("who it is")) };
    // It is a word in positions.
    let host: String = host.chars().filter(|c| !c.is_whitespace()).collect();
    Ok(format!("{id}@{host}:{port}"))
}

/// An answer that is none.
pub(crate) fn unclear(what: &str) -> WireError {
    WireError::Protocol(format!("the server does not tell {what}"))
}

fn variable(rows: &TextRows, name: &str) -> Option<String> {
    let row = rows.rows.iter().find(|r| r.first().is_some_and(|n| n.as_deref() == Some(name)))?;
    row.get(1)?.clone()
}

/// The end of the log now, and the transactions executed where the server tells them with it.
pub(crate) async fn log_end(wire: &mut Wire) -> Result<(LogPoint, String), WireError> {
    let rows = wire.query(log_status(&wire.server)).await?;
    let file = rows.first("File").unwrap_or_default();
    let offset = rows.first("Position").and_then(|p| p.parse().ok());
    let (Some(offset), false) = (offset, file.is_empty()) else {
        return Err(WireError::Protocol("the server does not tell the end of its log".to_owned()));
    };
    Ok((LogPoint::new(file, offset), rows.first("Executed_Gtid_Set").unwrap_or_default().to_owned()))
}

/// The command that tells the end of the log, by the server's age.
pub(crate) fn log_status(server: &ServerInfo) -> &'static str {
    if !server.mariadb && server.numbers() >= (8, 2, 0) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }
}

/// The end of the log as a position to resume from.
pub(crate) async fn end_position(wire: &mut Wire, facts: &Facts) -> Result<LogPosition, WireError> {
    let (point, executed) = log_end(wire).await?;
    let gtids = if wire.server.mariadb {
        mariadb_gtids(wire, &point).await?
    } else if facts.gtid_mode {
        Gtids::MySql(executed.parse().map_err(|e| WireError::Protocol(format!("{e}")))?)
    } else {
        Gtids::Off
    };
    of_server(wire, LogPosition::new(point, gtids)).await
}

/// A place of a MariaDB server's log as a position to resume from.
pub(crate) async fn position_at(wire: &mut Wire, point: LogPoint) -> Result<LogPosition, WireError> {
    let gtids = mariadb_gtids(wire, &point).await?;
    of_server(wire, LogPosition::new(point, gtids)).await
}

/// A position says whose log it is in: its file means nothing elsewhere.
async fn of_server(wire: &mut Wire, mut position: LogPosition) -> Result<LogPosition, WireError> {
    position.mark.server = identity(wire).await?;
    Ok(position)
}

/// MariaDB's transactions at a place of its log.
async fn mariadb_gtids(wire: &mut Wire, point: &LogPoint) -> Result<Gtids, WireError> {
    let file = point.file.replace(['\'', '\\'], "");
    let rows = wire.query(&format!("SELECT BINLOG_GTID_POS('{file}', {})", point.offset)).await?;
    // NULL: no such place, or a log that is not numbered.
    let Some(text) = rows.single() else { return Ok(Gtids::Off) };
    Ok(text.parse::<DomainGtids>().map_or(Gtids::Off, Gtids::MariaDb))
}

/// Where a source that has no position begins, and from which commit time on (microseconds since 1970).
pub(crate) async fn start_position(
    wire: &mut Wire,
    facts: &Facts,
    config: &MysqlConfig,
) -> Result<(LogPosition, i64), WireError> {
    match &config.start {
        Start::Snapshot | Start::Now => Ok((end_position(wire, facts).await?, 0)),
        Start::Binlog { file, offset } => Ok((LogPosition::new(LogPoint::new(file.clone(), *offset), Gtids::Off), 0)),
        Start::Gtid(text) => {
            let bad = |e: &dyn std::fmt::Display| Failure {
                message: "the connection's start is no GTID set".to_owned(),
                detail: e.to_string(),
                hint: "Write it as SELECT @@gtid_executed (MySQL) or @@gtid_binlog_pos (MariaDB) shows it.".to_owned(),
            };
            let gtids = if wire.server.mariadb {
                Gtids::MariaDb(text.parse::<DomainGtids>().map_err(|e| bad(&e))?)
            } else {
                Gtids::MySql(text.parse::<GtidSet>().map_err(|e| bad(&e))?)
            };
            Ok((LogPosition::new(LogPoint::new("", 4), gtids), 0))
        }
        Start::Since(us) => {
            let files: Vec<String> = log_files(wire).await?.into_iter().map(|(name, _)| name).collect();
            let met = Met::ask(wire).await?;
            let file = file_before(config, &met, &files, *us).await?;
            Ok((LogPosition::new(LogPoint::new(file, 4), Gtids::Off), *us))
        }
    }
}

/// The server's log files and their sizes, oldest first.
pub(crate) async fn log_files(wire: &mut Wire) -> Result<Vec<(String, u64)>, WireError> {
    let rows = wire.query("SHOW BINARY LOGS").await?;
    let file = |row: Vec<Option<String>>| {
        let mut values = row.into_iter();
        let name = values.next().flatten().ok_or_else(|| unclear("its log files"))?;
        let bytes = values.next().flatten().and_then(|bytes| bytes.parse().ok());
        Ok((name, bytes.ok_or_else(|| unclear("the sizes of its log files"))?))
    };
    rows.rows.into_iter().map(file).collect()
}

/// The newest log file that was begun before a time, or the oldest there is.
async fn file_before(config: &MysqlConfig, met: &Met, files: &[String], us: i64) -> Result<String, WireError> {
    for file in files.iter().rev() {
        if i64::from(begun_s(config, met, file).await?) * 1_000_000 <= us {
            return Ok(file.clone());
        }
    }
    files.first().cloned().ok_or_else(|| WireError::Protocol("the server has no log files".to_owned()))
}

/// When a log file was begun, in seconds since 1970: the time of its format description.
async fn begun_s(config: &MysqlConfig, met: &Met, file: &str) -> Result<u32, WireError> {
    let mut wire = login::connect_again(config, met).await?;
    announce_checksum(&mut wire).await?;
    wire.dump_from_file(config.server_id.unwrap_or(u32::MAX), file, 4).await?;
    loop {
        let packet = wire.read_packet().await?;
        if packet.first() == Some(&0xff) {
            return Err(WireError::Server(ServerError::parse(&packet)));
        }
        let event = packet.get(1..).unwrap_or_default();
        let header = super::event::Header::parse(event)?;
        if header.kind == super::event::kind::FORMAT_DESCRIPTION {
            wire.close().await;
            return Ok(header.timestamp);
        }
    }
}

/// Tells the server that we understand checksums; it refuses to send a log with them otherwise.
pub(crate) async fn announce_checksum(wire: &mut Wire) -> Result<(), WireError> {
    wire.execute(
        "SET @master_binlog_checksum = @@GLOBAL.binlog_checksum, @source_binlog_checksum = @@GLOBAL.binlog_checksum",
    )
    .await
}

/// Where the server's log ends now, in the form of the positions that the source sends: for "until caught up".
pub async fn current_position(config: &MysqlConfig) -> Result<Position, Failure> {
    let position = async {
        let mut wire = login::connect(config).await?;
        let facts = Facts::read(&mut wire).await?;
        let position = end_position(&mut wire, &facts).await?;
        wire.close().await;
        Ok::<_, WireError>(position.to_position())
    };
    let position = login::in_time(ANSWER, position).await;
    position.map_err(|e| failure(&e, config).unwrap_or_else(|| unreachable_server(&e, config)))
}

/// Bytes of the server's log behind a position: what is not read yet. None where the log no longer has the position, or
/// the position names no file.
pub async fn bytes_behind(config: &MysqlConfig, position: &Position) -> Result<Option<u64>, Failure> {
    let Ok(LogPosition { point, mark, .. }) = position.0.parse::<LogPosition>() else { return Ok(None) };
    let files = async {
        let mut wire = login::connect(config).await?;
        let is_its_log = mark.server.is_empty() || is_same_server(&mark.server, &identity(&mut wire).await?);
        let files = if is_its_log { log_files(&mut wire).await? } else { Vec::new() };
        wire.close().await;
        Ok::<_, WireError>(files)
    };
    let files = login::in_time(ANSWER, files).await;
    let files = files.map_err(|e| failure(&e, config).unwrap_or_else(|| unreachable_server(&e, config)))?;
    Ok(after(files.iter().map(|(name, bytes)| (name.as_str(), *bytes)), &point.file, point.offset))
}

/// For how long the log behind a position is kept. A server drops a file that nothing was written to for so long; when the last
/// was written to one is when the next was begun. None where files are kept until somebody purges them, or the log no longer
/// has the position.
pub async fn retention(config: &MysqlConfig, position: &Position) -> Result<Option<Retention>, Failure> {
    let Ok(LogPosition { point, mark, .. }) = position.0.parse::<LogPosition>() else { return Ok(None) };
    let asked = async {
        let mut wire = login::connect(config).await?;
        let facts = Facts::read(&mut wire).await?;
        let is_its_log = mark.server.is_empty() || is_same_server(&mark.server, &identity(&mut wire).await?);
        let files = if is_its_log && facts.expire_s > 0 { log_files(&mut wire).await? } else { Vec::new() };
        let Some(at) = files.iter().position(|(name, _)| *name == point.file) else {
            wire.close().await;
            return Ok::<_, WireError>(None);
        };
        let closed_us = match files.get(at + 1) {
            None => None,
            Some((next, _)) => {
                let met = Met::ask(&mut wire).await?;
                Some(i64::from(begun_s(config, &met, next).await?) * 1_000_000)
            }
        };
        let mend = wire.server.keep_for_longer(facts.expire_s);
        wire.close().await;
        Ok(Some(Retention { kept_s: facts.expire_s, closed_us, mend }))
    };
    let asked = login::in_time(ANSWER, asked).await;
    asked.map_err(|e| failure(&e, config).unwrap_or_else(|| unreachable_server(&e, config)))
}

/// Bytes of log files, oldest first, behind an offset in one of them.
fn after<'a>(files: impl Iterator<Item = (&'a str, u64)>, file: &str, offset: u64) -> Option<u64> {
    let mut bytes = files.skip_while(|(name, _)| *name != file).map(|(_, bytes)| bytes);
    let rest = bytes.next()?.saturating_sub(offset);
    Some(rest + bytes.sum::<u64>())
}

/// What to do where a server is not to be reached.
pub(crate) const REACH: &str = "Check host and port of the connection, and that the server runs.";

/// A server that cannot be asked right now.
pub(crate) fn unreachable_server(error: &WireError, config: &MysqlConfig) -> Failure {
    Failure {
        message: format!("cannot reach {}", config.address()),
        detail: told(error, &config.address()),
        hint: REACH.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn what_is_not_read_yet_is_the_rest_of_the_file_and_all_after_it() {
        let files = [("binlog.000007", 900), ("binlog.000008", 1_000), ("binlog.000009", 30)];
        assert_eq!(after(files.into_iter(), "binlog.000008", 400), Some(630));
        assert_eq!(after(files.into_iter(), "binlog.000009", 30), Some(0));
        assert_eq!(after(files.into_iter(), "binlog.000009", 50), Some(0), "written between the two questions");
        assert_eq!(after(files.into_iter(), "binlog.000006", 4), None);
    }
}
