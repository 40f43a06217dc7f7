//! What a server's settings mean for a capture, from their values alone.

use std::collections::BTreeMap;

use crate::source::{Check, TablePlace};

use super::super::continuity::Replica;
use super::super::wire::ServerInfo;

/// The settings that are looked at; a server knows some of them.
pub(super) const NAMES: [&str; 26] = [
    "binlog_row_value_options",
    "binlog_checksum",
    "binlog_transaction_compression",
    "log_bin_compress",
    "log_replica_updates",
    "log_slave_updates",
    "replica_parallel_workers",
    "slave_parallel_workers",
    "slave_parallel_threads",
    "replica_preserve_commit_order",
    "slave_preserve_commit_order",
    "sync_binlog",
    "innodb_flush_log_at_trx_commit",
    "sql_select_limit",
    "max_join_size",
    "max_execution_time",
    "max_statement_time",
    "time_zone",
    "system_time_zone",
    "gtid_mode",
    "rpl_semi_sync_source_enabled",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_source_wait_point",
    "rpl_semi_sync_master_wait_point",
    "rpl_semi_sync_source_timeout",
    "rpl_semi_sync_master_timeout",
];

/// A replica that is further behind than this is no source for what is shown now.
const REPLICA_LAG_MAX_S: u64 = 60;
/// The largest number, which means no limit; MariaDB and MySQL print it alike.
const NO_LIMIT: &str = "18446744073709551615";

struct Values<'a>(&'a BTreeMap<String, String>);

impl Values<'_> {
    /// The first of these names that the server knows: newer ones before older ones.
    fn get(&self, names: &[&str]) -> Option<&str> {
        self.0.get(self.known(names)?).map(String::as_str)
    }

    /// The name among these that the server knows: to set another one is an error.
    fn known<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().find(|name| self.0.contains_key(**name)).copied()
    }

    fn is(&self, names: &[&str], wanted: &str) -> bool {
        self.get(names).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
    }

    fn is_on(&self, names: &[&str]) -> bool {
        self.is(names, "ON") || self.is(names, "1")
    }

    fn number(&self, names: &[&str]) -> Option<u64> {
        self.get(names)?.parse().ok()
    }
}

/// All that is told from the settings.
pub(in super::super) fn checks(values: &BTreeMap<String, String>, mariadb: bool, is_replica: bool) -> Vec<Check> {
    let values = Values(values);
    let mut checks = vec![row_values(&values), checksums(&values), durability(&values), limits(&values), zone(&values)];
    if values.is_on(&["binlog_transaction_compression"]) || values.is_on(&["log_bin_compress"]) {
        checks.push(Check::ok("compression", "the log is compressed, which is understood"));
    }
    checks.extend(acknowledged(&values, mariadb));
    if is_replica {
        checks.push(passed_on(&values));
        checks.extend(commit_order(&values, mariadb));
    }
    checks
}

fn row_values(values: &Values<'_>) -> Check {
    match values.get(&["binlog_row_value_options"]).unwrap_or_default() {
        "" => Check::ok("binlog_row_value_options", "documents are logged whole"),
        other => Check::warning(
            "binlog_row_value_options",
            format!("binlog_row_value_options is {other}"),
            "Changes of JSON documents are logged in part. They are put together with the row before, as long as \
             binlog_row_image is FULL.",
            "SET GLOBAL binlog_row_value_options = ''; then let the applications reconnect.",
        ),
    }
}

fn checksums(values: &Values<'_>) -> Check {
    match values.is(&["binlog_checksum"], "NONE") {
        false => Check::ok("binlog_checksum", "events have checksums"),
        true => Check::warning(
            "binlog_checksum",
            "events have no checksums",
            "What is damaged on the way or on the server's disk is not noticed as such.",
            "SET GLOBAL binlog_checksum = 'CRC32'",
        ),
    }
}

/// After a crash, a server that does not sync its log has another history than the one that was read.
fn durability(values: &Values<'_>) -> Check {
    let (log, engine) = (["sync_binlog"], ["innodb_flush_log_at_trx_commit"]);
    match (values.is(&log, "1"), values.is(&engine, "1")) {
        (true, true) => Check::ok("sync_binlog", "what is committed survives a crash of the server"),
        (is_synced, _) => Check::warning(
            "sync_binlog",
            match is_synced {
                true => "innodb_flush_log_at_trx_commit is not 1".to_owned(),
                false => format!("sync_binlog is {}", values.get(&log).unwrap_or("unknown")),
            },
            "When the server's machine crashes, transactions that we have read may be gone there. All tables must be \
             loaded again then.",
            "SET GLOBAL sync_binlog = 1; SET GLOBAL innodb_flush_log_at_trx_commit = 1",
        ),
    }
}

/// What cuts or ends queries. Our own sessions set what they need.
fn limits(values: &Values<'_>) -> Check {
    let mut limited = Vec::new();
    for name in ["sql_select_limit", "max_join_size"] {
        if values.get(&[name]).is_some_and(|value| value != NO_LIMIT) {
            limited.push(name);
        }
    }
    for name in ["max_execution_time", "max_statement_time"] {
        // MariaDB prints a fraction.
        if values.get(&[name]).is_some_and(|value| !value.trim_matches(['0', '.']).is_empty()) {
            limited.push(name);
        }
    }
    match limited.is_empty() {
        true => Check::ok("limits", "queries are not limited"),
        false => Check::ok("limits", format!("{} are set; our sessions set their own", limited.join(", "))),
    }
}

fn zone(values: &Values<'_>) -> Check {
    let zone = match values.get(&["time_zone"]).unwrap_or("SYSTEM") {
        "SYSTEM" => values.get(&["system_time_zone"]).unwrap_or("unknown"),
        other => other,
    };
    Check::ok("time_zone", format!("the server's zone is {zone}; our sessions speak UTC"))
}

/// A commit that waits for a replica is in the log, and no query shows it.
fn acknowledged(values: &Values<'_>, mariadb: bool) -> Option<Check> {
    const NAME: &str = "semi_sync";
    let named = |end: &str| ["source", "master"].map(|of| format!("rpl_semi_sync_{of}_{end}"));
    let (enabled, point, timeout) = (named("enabled"), named("wait_point"), named("timeout"));
    let is_before = values.get(&point.each_ref().map(String::as_str)).is_none_or(|value| value == "AFTER_SYNC");
    if !values.is_on(&enabled.each_ref().map(String::as_str)) || !is_before {
        return None;
    }
    // Both tell which transactions are committed.
    if mariadb || values.is(&["gtid_mode"], "ON") {
        return Some(Check::ok(
            NAME,
            "what waits for a replica's acknowledgement is waited for before tables are loaded",
        ));
    }
    let timeout_ms = values.number(&timeout.each_ref().map(String::as_str)).unwrap_or(0);
    Some(Check::warning(
        NAME,
        format!("a commit may wait {timeout_ms} ms for a replica, and transactions are not numbered"),
        "It is in the log before queries show it, and the server does not tell which are. No table is loaded before no session \
         waits, or so long.",
        "SET GLOBAL gtid_mode = ON, in its steps, from OFF over OFF_PERMISSIVE and ON_PERMISSIVE",
    ))
}

fn passed_on(values: &Values<'_>) -> Check {
    let names = ["log_replica_updates", "log_slave_updates"];
    match values.is_on(&names) {
        true => Check::ok("log_replica_updates", "the replica logs what it takes over"),
        false => Check::failed(
            "log_replica_updates",
            "the replica does not log what it takes over",
            "Its log has only what is written to it directly.",
            format!(
                "In the server's configuration: {} = ON; then restart it.",
                values.known(&names).unwrap_or("log_slave_updates")
            ),
        ),
    }
}

/// Transactions that a replica commits in another order than its source make a position ambiguous after a failover.
fn commit_order(values: &Values<'_>, mariadb: bool) -> Option<Check> {
    const NAME: &str = "replica_preserve_commit_order";
    if mariadb {
        // MariaDB keeps the order within a domain in all of its modes.
        return None;
    }
    let workers = values.number(&["replica_parallel_workers", "slave_parallel_workers"]).unwrap_or(0);
    let order = ["replica_preserve_commit_order", "slave_preserve_commit_order"];
    if workers <= 1 || values.is_on(&order) {
        return Some(Check::ok(NAME, "the replica commits in the order of its source"));
    }
    Some(Check::warning(
        NAME,
        format!("the replica commits in an order of its own, with {workers} workers"),
        "A reader may see an order and not yet its customer; chunks of a load may be older than the log says.",
        match values.known(&order) {
            Some(NAME) => {
                "STOP REPLICA SQL_THREAD; SET GLOBAL replica_preserve_commit_order = ON; START REPLICA SQL_THREAD"
            }
            _ => "STOP SLAVE SQL_THREAD; SET GLOBAL slave_preserve_commit_order = ON; START SLAVE SQL_THREAD",
        },
    ))
}

/// Databases that the server's log leaves out.
pub(in super::super) fn left_out(only: &str, ignored: &str, tables: &[TablePlace]) -> Option<Check> {
    let names = |list: &str| list.split(',').map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect();
    let (only, ignored): (Vec<String>, Vec<String>) = (names(only), names(ignored));
    if only.is_empty() && ignored.is_empty() {
        return None;
    }
    let is_missing = |database: &String| !only.is_empty() && !only.contains(database) || ignored.contains(database);
    let missing = tables.iter().map(|place| &place.database).find(|database| is_missing(database));
    Some(match missing {
        None => Check::warning(
            "binlog_do_db",
            "the log leaves databases out",
            "With rows, what counts is the database of each table; with statements, the one of the session.",
            "Remove binlog-do-db and binlog-ignore-db from the server's configuration, and restart it.",
        ),
        Some(database) => Check::failed(
            "binlog_do_db",
            format!("the log leaves database \"{database}\" out"),
            "Changes of its tables are not logged.",
            "Remove binlog-do-db and binlog-ignore-db from the server's configuration, and restart it.",
        ),
    })
}

/// How a replica keeps up with its source.
pub(in super::super) fn position_of(
    replica: &Replica,
    values: &BTreeMap<String, String>,
    server: &ServerInfo,
) -> Check {
    let of = format!("the server is a replica of {}", replica.source);
    match (replica.is_running, replica.behind_s) {
        (false, _) => Check::warning(
            "replica",
            format!("{of}, and does not follow it at the moment"),
            "What is read here stands still until it does.",
            if server.speaks_of_replicas() { "START REPLICA" } else { "START SLAVE" },
        ),
        (true, Some(behind)) if behind > REPLICA_LAG_MAX_S => Check::warning(
            "replica",
            format!("{of}, {behind} s behind"),
            "What is read here is as old, and whatever is behind a position we have read makes us wait.",
            more_workers(&Values(values)),
        ),
        (true, _) => Check::ok("replica", of),
    }
}

fn more_workers(values: &Values<'_>) -> String {
    match values.known(&["replica_parallel_workers", "slave_parallel_workers", "slave_parallel_threads"]) {
        None => "Read from the primary.".to_owned(),
        Some(name) => {
            format!("Read from the primary, or give the replica more workers, and restart it: SET GLOBAL {name} = 8")
        }
    }
}
