//! Can this server be captured? Questions asked before the first use, each answered with what mends it.
//!
//! Rights are tried, not read from grants: the log is asked for just as the source does it. What the server's settings
//! mean for a capture is told from their values alone (`settings`), what a table's columns and rows mean by asking for
//! them (`tables`).

mod settings;
mod tables;

use std::collections::BTreeMap;
use std::time::Duration;

pub(super) use settings::checks as settings_told;

use relation::Position;

use crate::source::{Check, CheckOutcome, Failure, LeftOut, Pattern, TablePlace, now_us, without_effect};

use super::continuity::{Follows, Ground, Verdict, Way, follows};
use super::describe;
use super::describe::Described;
use super::error::{LogRefusal, WireError, failure, purged};
use super::kind::left_out;
use super::login::Met;
use super::position::{Gtids, LogPosition};
use super::run::open_log;
use super::server::{Facts, end_position, unreachable_server};
use super::wire::{ServerInfo, Wire};
use super::{ANSWER, MysqlConfig, Tls, login};

/// Logs kept for less than this are a risk: a weekend without us, and the tables must be loaded again.
const RETENTION_MIN_S: u64 = 3 * 86_400;
/// Rows a second that a first load has been seen to reach at least.
const LOADED_ROWS_PER_S: u64 = 100_000;
/// How long the log is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clocks further apart than this make latencies meaningless.
const CLOCK_OFFSET_MAX_US: i64 = 1_000_000;

/// Checks the server, the user's rights, and the tables that shall be captured: (database, name) each.
///
/// Never fails: what cannot be asked because of an earlier answer is left out.
pub async fn doctor(config: &MysqlConfig, tables: &[(String, String)]) -> Vec<Check> {
    let place = |(database, name): &(String, String)| TablePlace {
        database: database.clone(),
        name: name.clone(),
        ..TablePlace::default()
    };
    ask(config, &tables.iter().map(place).collect::<Vec<_>>()).await
}

/// As [`doctor`], with the rules for the tables' columns.
pub(super) async fn ask(config: &MysqlConfig, tables: &[TablePlace]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut wire = match login::connect(config).await {
        Ok(wire) => wire,
        Err(error) => {
            checks.push(of_error("connection", &error, config));
            return checks;
        }
    };
    let kind = if wire.server.mariadb { "MariaDB" } else { "MySQL" };
    checks.push(Check::ok("connection", format!("{kind} {} at {}", wire.server.plain_version(), config.address())));
    checks.extend(sealed(config, wire.is_encrypted(), wire.is_of_this_machine()));
    match Facts::read(&mut wire).await {
        Ok(facts) => {
            basics(&facts, &wire.server, &mut checks);
            let found = further(&mut wire, &facts, config, tables, &mut checks).await;
            found.unwrap_or_else(|error| checks.push(of_error("settings", &error, config)));
            if facts.log_bin {
                checks.push(rights(&mut wire, config, &facts).await);
            }
            match clock(&mut wire).await {
                Ok(check) => checks.push(check),
                Err(error) => checks.push(of_error("clock", &error, config)),
            }
            of_tables(&mut wire, config, &facts, tables, &mut checks).await;
        }
        Err(error) => checks.push(of_error("settings", &error, config)),
    }
    wire.close().await;
    checks
}

/// Who else may read what goes over the connection, or answer in the server's place. Nobody stands between two processes of one
/// machine, unless its project says that it wants to be sure.
pub(super) fn sealed(config: &MysqlConfig, is_encrypted: bool, is_of_this_machine: bool) -> Option<Check> {
    let minds = !is_of_this_machine || matches!(config.tls, Tls::Required | Tls::Verify);
    minds.then(|| match (is_encrypted, config.tls) {
        (true, Tls::Verify) => Check::ok("tls", "the connection is encrypted, and the server has proven its name"),
        (true, _) => Check::warning(
            "tls",
            "the connection is encrypted, but nobody has checked to whom it leads",
            "Whoever can take the server's place on the network gets the password and the rows.",
            "Set `tls: verify`, with `tls_ca: FILE` where the certificate is signed by an authority of your own.",
        ),
        (false, _) => Check::warning(
            "tls",
            "the connection is not encrypted",
            "Rows go over the network as they are. The password itself is not sent, only a proof of it.",
            "Have the server offer TLS (ssl_cert, ssl_key), and set `tls: verify` or `tls: required`.",
        ),
    })
}

fn of_error(name: &'static str, error: &WireError, config: &MysqlConfig) -> Check {
    let failure = failure(error, config).unwrap_or_else(|| unreachable_server(error, config));
    Check::failed(name, failure.message, failure.detail, failure.hint)
}

fn basics(facts: &Facts, server: &ServerInfo, checks: &mut Vec<Check>) {
    checks.push(if facts.log_bin {
        Check::ok("log_bin", "the server writes a binary log")
    } else {
        Check::failed(
            "log_bin",
            "the server writes no binary log",
            "Without it changes cannot be followed. It can only be switched on at start.",
            "In the server's configuration: log_bin = binlog, binlog_format = ROW, server_id = 1; then restart it.",
        )
    });
    checks.push(match facts.binlog_format.as_str() {
        "ROW" | "" => Check::ok("binlog_format", "rows are logged"),
        other => Check::failed(
            "binlog_format",
            format!("binlog_format is {other}"),
            "Statements do not tell which rows they changed.",
            "SET GLOBAL binlog_format = 'ROW'; then let the applications reconnect.",
        ),
    });
    checks.push(match facts.row_image.as_str() {
        "FULL" | "" => Check::ok("binlog_row_image", "whole rows are logged"),
        other => Check::failed(
            "binlog_row_image",
            format!("binlog_row_image is {other}"),
            "Rows in the log lack columns.",
            "SET GLOBAL binlog_row_image = 'FULL'; then let the applications reconnect.",
        ),
    });
    checks.push(match facts.row_metadata.as_str() {
        "FULL" => Check::ok("binlog_row_metadata", "the log names its columns"),
        "" => Check::ok("binlog_row_metadata", "this server cannot name columns in the log; it works without"),
        other => Check::warning(
            "binlog_row_metadata",
            format!("binlog_row_metadata is {other}"),
            "Column names are taken from information_schema, which shows a table as it is now. A renamed column is \
             noticed only by its ALTER statement.",
            "SET GLOBAL binlog_row_metadata = 'FULL'",
        ),
    });
    if !server.mariadb {
        checks.push(if facts.gtid_mode {
            Check::ok("gtid_mode", "transactions are numbered")
        } else {
            Check::warning(
                "gtid_mode",
                "transactions are not numbered",
                "Positions are files and offsets, which mean nothing on another server after a failover.",
                "Set enforce_gtid_consistency = ON, then gtid_mode step by step to ON.",
            )
        });
    }
    checks.push(if facts.server_id == 0 {
        Check::failed(
            "server_id",
            "server_id is 0",
            "A server with id 0 accepts no replicas.",
            "SET GLOBAL server_id = 1",
        )
    } else {
        Check::ok("server_id", format!("the server's id is {}", facts.server_id))
    });
    checks.push(retention(facts.expire_s, server));
}

/// What hurts later: settings, who else reads the log, and whom the server itself follows.
async fn further(
    wire: &mut Wire,
    facts: &Facts,
    config: &MysqlConfig,
    tables: &[TablePlace],
    checks: &mut Vec<Check>,
) -> Result<(), WireError> {
    let names = settings::NAMES.map(|name| format!("'{name}'")).join(",");
    let rows = wire.query(&format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")).await?;
    let values = rows.rows.into_iter().filter_map(|row| {
        let mut values = row.into_iter().flatten();
        Some((values.next()?, values.next()?))
    });
    let values: BTreeMap<String, String> = values.collect();
    let followed = follows(wire).await?;
    checks.extend(settings::checks(&values, wire.server.mariadb, matches!(followed, Follows::Another(_))));
    match followed {
        Follows::Nobody => {}
        Follows::Another(replica) => checks.push(settings::position_of(&replica, &values, &wire.server)),
        Follows::Untold(right) => checks.push(Check::warning(
            "replica",
            "whether the server follows another one, it does not tell",
            "A replica that lags behind what we have read cannot be told from a server that has lost it.",
            format!("GRANT {right} ON *.* TO '{}'@'%'", config.user),
        )),
    }
    if facts.log_bin {
        // Whether that may be asked is the affair of the check of rights.
        if let Ok(rows) = wire.query(super::server::log_status(&wire.server)).await {
            let list = |name| rows.first(name).unwrap_or_default().to_owned();
            checks.extend(settings::left_out(&list("Binlog_Do_DB"), &list("Binlog_Ignore_DB"), tables));
        }
        let command = if wire.server.speaks_of_replicas() { "SHOW REPLICAS" } else { "SHOW SLAVE HOSTS" };
        if let Ok(rows) = wire.query(command).await {
            let ids = rows.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()?.parse().ok()).collect();
            checks.push(readers(ids, facts.server_id));
        }
    }
    Ok(())
}

/// Who reads the log: two under one server id cut each other off for ever.
fn readers(mut ids: Vec<u64>, own: u64) -> Check {
    let count = ids.len();
    ids.sort_unstable();
    let twice = ids.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    match twice.or(ids.contains(&own).then_some(own)) {
        None => Check::ok("replicas", format!("{count} others read the log, each under an id of its own")),
        Some(id) => Check::warning(
            "replicas",
            format!("server_id {id} is used more than once"),
            "Two that read the log under one id cut each other off, again and again.",
            "SET GLOBAL server_id = … on one of them, to a number that no other has",
        ),
    }
}

fn retention(expire_s: u64, server: &ServerInfo) -> Check {
    let hours = expire_s / 3_600;
    match expire_s {
        0 => Check::ok("retention", "log files are kept until they are purged by hand"),
        s if s < RETENTION_MIN_S => Check::warning(
            "retention",
            format!("log files are dropped after {hours} h"),
            "If capture stands still for longer, its tables must be loaded again.",
            server.keep_for_a_week(),
        ),
        _ => Check::ok("retention", format!("log files are kept for {hours} h")),
    }
}

/// A first load that is interrupted goes on where it was only as long as the log is there from then on: one that takes most
/// of that time leaves none for a pause.
fn first_load(rows: u64, expire_s: u64, server: &ServerInfo) -> Option<Check> {
    let load_s = rows / LOADED_ROWS_PER_S;
    let is_long = expire_s > 0 && load_s.saturating_mul(2) >= expire_s;
    is_long.then(|| {
        Check::warning(
            "first_load",
            format!(
                "a first load of about {rows} rows may take {} min, and log files are dropped after {} min",
                load_s.div_ceil(60),
                expire_s / 60
            ),
            format!(
                "It is reckoned with {LOADED_ROWS_PER_S} rows a second. Where it stands still for the rest of that time, all of it \
                 begins again."
            ),
            server.keep_for_longer(load_s),
        )
    })
}

/// Whether the server's log leads on from a position: what can be known of it, and then the log itself is asked for, which may be
/// found to be gone only then. Errors: it does not, or cannot be asked.
pub(super) async fn leads_on(config: &MysqlConfig, position: &Position) -> Result<(), Failure> {
    let Ok(position) = position.0.parse::<LogPosition>() else { return Ok(()) };
    let asked = async {
        let mut wire = login::connect(config).await?;
        let met = Met::ask(&mut wire).await?;
        let facts = Facts::read(&mut wire).await?;
        let ground = Ground::read(&mut wire, &facts, &met).await?;
        let server = wire.server.clone();
        wire.close().await;
        let way = match ground.judge(&position, config) {
            Verdict::GoOn(way) => way,
            Verdict::Stalled(failure) => return Err(WireError::Stalled(Box::new(failure))),
        };
        match tokio::time::timeout(PATIENCE, first_event_by(config, &position, way)).await {
            // It searches its log.
            Err(_) => Ok(()),
            Ok(Err(error)) if LogRefusal::of(&error) == Some(LogRefusal::Purged) => {
                Err(WireError::Stalled(Box::new(purged(config, error.to_string(), &server))))
            }
            Ok(asked) => asked,
        }
    };
    let asked = login::in_time(ANSWER, asked).await;
    asked.map_err(|error| failure(&error, config).unwrap_or_else(|| unreachable_server(&error, config)))
}

/// Asks for the end of the log, and then for the log itself, as the source does.
async fn rights(wire: &mut Wire, config: &MysqlConfig, facts: &Facts) -> Check {
    let position = match end_position(wire, facts).await {
        Ok(position) => position,
        Err(error) if error.code().is_some() => {
            return missing_right(config, &wire.server, "REPLICATION CLIENT", &error);
        }
        Err(error) => return of_error("grants", &error, config),
    };
    match tokio::time::timeout(PATIENCE, first_event(config, facts, &position)).await {
        Err(_) | Ok(Ok(())) => Check::ok("grants", format!("user \"{}\" may read the log", config.user)),
        Ok(Err(error)) if error.code().is_some() => missing_right(config, &wire.server, "REPLICATION SLAVE", &error),
        Ok(Err(error)) => of_error("grants", &error, config),
    }
}

async fn first_event(config: &MysqlConfig, facts: &Facts, position: &LogPosition) -> Result<(), WireError> {
    let way = match &position.gtids {
        Gtids::MySql(_) if !facts.gtid_mode => Way::File(position.point.offset),
        Gtids::Off => Way::File(position.point.offset),
        Gtids::MySql(_) | Gtids::MariaDb(_) => Way::Numbers,
    };
    first_event_by(config, position, way).await
}

/// Asks for the log behind a position, until the first event of it has come.
async fn first_event_by(config: &MysqlConfig, position: &LogPosition, way: Way) -> Result<(), WireError> {
    let mut log = login::connect(config).await?;
    open_log(&mut log, config, position, way).await?;
    let packet = log.read_packet().await?;
    match packet.first() {
        Some(0xff) => Err(WireError::Server(super::error::ServerError::parse(&packet))),
        _ => Ok(()),
    }
}

fn missing_right(config: &MysqlConfig, server: &ServerInfo, right: &str, error: &WireError) -> Check {
    Check::failed(
        "grants",
        format!("user \"{}\" may not read the log", config.user),
        format!("{error}. Missing is {right}."),
        format!("GRANT {} ON *.* TO '{}'@'%'", server.rights_to_follow(), config.user),
    )
}

async fn clock(wire: &mut Wire) -> Result<Check, WireError> {
    let before = now_us();
    let rows = wire.query("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)").await?;
    let after = now_us();
    let theirs = rows.single().and_then(|n| n.parse::<i64>().ok()).unwrap_or(before);
    let offset = theirs - (before + after) / 2;
    let ms = offset / 1_000;
    Ok(if offset.abs() > CLOCK_OFFSET_MAX_US {
        Check::warning(
            "clock",
            format!("the server's clock differs from ours by {ms} ms"),
            "Latencies from commit to here are wrong by as much.",
            "Synchronise both clocks (NTP).",
        )
    } else {
        Check::ok("clock", format!("clocks agree within {} ms", ms.abs().max(1)))
    })
}

/// Filters that name no column: whoever misspells a name reads what should not be read.
fn filters(wanted: &[TablePlace], described: &[Described]) -> Vec<Check> {
    let left_out: Vec<Option<Vec<LeftOut>>> =
        described.iter().map(|table| table.facts.as_ref().ok().map(|facts| left_out(&facts.columns))).collect();
    let tables = wanted.iter().zip(&left_out).map(|(place, left_out)| (&place.columns, left_out.as_deref()));
    let check = |pattern: &Pattern| {
        Check::warning(
            "filter",
            format!("{pattern} names no column"),
            "Nothing is left out by it.",
            "Correct the name, or take the line out.",
        )
    };
    without_effect(tables).into_iter().map(check).collect()
}

async fn of_tables(
    wire: &mut Wire,
    config: &MysqlConfig,
    facts: &Facts,
    wanted: &[TablePlace],
    checks: &mut Vec<Check>,
) {
    let described = match describe::ask(config, wanted).await.map_err(|unanswered| unanswered.failure) {
        Ok(described) => described,
        Err(failure) => {
            checks.push(Check::failed("tables", failure.message, failure.detail, failure.hint));
            return;
        }
    };
    let rows = described.iter().filter_map(|table| table.facts.as_ref().ok()).map(|facts| facts.rows_estimate).sum();
    checks.extend(first_load(rows, facts.expire_s, &wire.server));
    checks.extend(filters(wanted, &described));
    let (all, mut refused) = (described.len(), Vec::new());
    for (place, table) in wanted.iter().zip(described) {
        let name = format!("{}.{}", table.database, table.name);
        let checked = checks.len();
        match table.facts {
            Err(reason) => {
                let hint = match reason == describe::ABSENT {
                    true => {
                        let user = &config.user;
                        format!("GRANT SELECT ON {name} TO '{user}'@'%', or correct the name in the project's sources.")
                    }
                    false if !place.columns.left_out.is_empty() => {
                        "Correct the project's filter, or its sources.".to_owned()
                    }
                    false => "Take it out of the project's sources, or mend it there.".to_owned(),
                };
                checks.push(Check::failed("table", format!("table \"{name}\" cannot be captured"), reason, hint));
            }
            Ok(facts) if facts.schema.key.is_empty() => {
                checks.push(Check::warning(
                    "primary_key",
                    format!("table \"{name}\" has no primary key"),
                    "Equal rows cannot be told apart; it is loaded in one piece, which on MySQL needs a short lock.",
                    format!("ALTER TABLE {name} ADD COLUMN id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY"),
                ));
                match tables::readable(wire, config, &table.database, &table.name).await {
                    Err(check) => checks.push(check),
                    Ok(()) => checks.extend(tables::lock(wire, config, &table.database, &table.name, &facts).await),
                }
            }
            Ok(facts) => match tables::readable(wire, config, &table.database, &table.name).await {
                Err(check) => checks.push(check),
                Ok(()) => {
                    checks.extend(tables::of_key(wire, &table.database, &table.name, &facts).await);
                    checks.extend(tables::lock(wire, config, &table.database, &table.name, &facts).await);
                }
            },
        }
        if checks.iter().skip(checked).any(|check| check.outcome == CheckOutcome::Failed) {
            refused.push(name);
        }
        match tables::cascades(wire, config, facts, &table.database, &table.name).await {
            Ok(more) => checks.extend(more),
            Err(error) => checks.push(Check::warning(
                "foreign_key",
                format!("the foreign keys of \"{}.{}\" cannot be asked for", table.database, table.name),
                error.to_string(),
                "",
            )),
        }
    }
    let told = match all - refused.len() {
        0 => return,
        1 if all == 1 => "1 table can be captured".to_owned(),
        fine if fine == all => format!("{fine} tables can be captured"),
        fine => format!("{fine} of {all} tables can be captured; not {}", refused.join(", ")),
    };
    checks.push(Check::ok("tables", told));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, mariadb: bool) -> ServerInfo {
        ServerInfo { version: version.to_owned(), mariadb, connection_id: 1 }
    }

    #[test]
    fn a_first_load_that_takes_half_of_the_retention_is_warned_of() {
        let (mysql, old) = (server("8.4.0", false), server("10.4.0-MariaDB", true));
        let of = |rows, expire_s, server: &ServerInfo| {
            first_load(rows, expire_s, server).map(|check| (check.message, check.hint))
        };
        assert_eq!(of(20_000_000, 86_400, &mysql), None);
        assert_eq!(of(1 << 60, 0, &mysql), None, "kept until it is purged by hand");
        let message = "a first load of about 20000000 rows may take 4 min, and log files are dropped after 5 min";
        let hint = "SET GLOBAL binlog_expire_logs_seconds = 604800";
        assert_eq!(of(20_000_000, 300, &mysql), Some((message.to_owned(), hint.to_owned())));
        let (_, hint) = of(100_000_000_000, 1_000_000, &mysql).unwrap();
        assert_eq!(hint, "SET GLOBAL binlog_expire_logs_seconds = 4000000");
        let (_, hint) = of(100_000_000_000, 1_000_000, &old).unwrap();
        assert_eq!(hint, "SET GLOBAL expire_logs_days = 46");
    }
}
