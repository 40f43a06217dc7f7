//! Commits that the log has and that no query shows yet.
//!
//! A server writes a transaction to its log, from where we fetch it, before it commits it in its tables. A moment lies between
//! both, or as long as a disk is slow or a replica owes its acknowledgement (semi-synchronous, AFTER_SYNC). What is read of a
//! table in that time would take the place of what the log has brought. So nothing is read before all is committed that the log
//! had when it was asked for its end:
//!
//! - MySQL that numbers its transactions knows which it has executed, and waits for others.
//! - MariaDB tells with a snapshot up to which place of its log all is committed.
//! - MySQL that does not number them tells neither; but how many sessions wait for an acknowledgement, how many waits have come to
//!   their end, and after which time one does anyway. Replicas acknowledge in the order of the log: all that it had at the first look
//!   is committed when nobody waits, or, as on a server where somebody always does, when so many waits have ended since that none of
//!   then is left ([`Waits::are_over`]). What else may delay a commit is over by [`super::MysqlConfig::snapshot_delay`].

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::describe::literal;
use super::error::WireError;
use super::position::{Gtids, LogPoint, LogPosition};
use super::snapshot::mariadb_snapshot;
use super::wire::Wire;

/// How long a server is asked before it is said that it is waited for.
const ASKED: Duration = Duration::from_secs(5);
/// Between two questions of those that do not wait themselves.
const PAUSE: Duration = Duration::from_millis(50);
/// What is said of a server that is waited for.
pub(super) const WAITS: &str = "waits for commits that are in the server's log and that its queries do not show yet, as while no \
                                replica acknowledges them (semi-synchronous replication)";

/// Groups of transactions that may be in the log and do not wait yet: one stands behind that which waits, one is written to disk, and
/// one is written to the log.
const GROUPS: u64 = 3;

/// A function that the server does not know: MySQL before 5.7.
const NO_FUNCTION: u16 = 1305;

/// When the log was seen to have what is waited for, and what was seen of waits at the first look since.
#[derive(Debug, Clone)]
pub(super) struct Since {
    pub(super) at: Instant,
    first: Arc<OnceLock<Waits>>,
}

impl Since {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), first: Arc::default() }
    }
}

/// Waits for acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waits {
    sessions: u64,
    /// Since the server was started, acknowledged or not.
    ended: u64,
}

impl Waits {
    async fn read(wire: &mut Wire) -> Result<Self, WireError> {
        let rows = wire.query("SHOW GLOBAL STATUS LIKE 'Rpl\\_semi\\_sync\\_%'").await?;
        let sum = |ends: &[&str]| -> u64 {
            let is_of = |name: &str| ends.iter().any(|end| name.ends_with(end));
            let count = |row: &Vec<Option<String>>| row.get(1)?.as_deref()?.parse::<u64>().ok();
            let rows = rows.rows.iter().filter(|row| row.first().and_then(Option::as_deref).is_some_and(is_of));
            rows.filter_map(count).sum()
        };
        Ok(Self { sessions: sum(&["_wait_sessions"]), ended: sum(&["_yes_tx", "_no_tx"]) })
    }

    /// Whether all have ended that were to be waited for when this was seen first.
    fn are_over(self, first: Self) -> bool {
        // A server that was started anew has committed all that its log has.
        self.ended < first.ended || self.ended - first.ended >= first.sessions + GROUPS
    }
}

/// Waits for a while until all is committed that the log has up to a place; answers whether it is. `since`: when the log was
/// seen to have it.
pub(super) async fn are_shown(wire: &mut Wire, until: &LogPosition, since: &Since) -> Result<bool, WireError> {
    if wire.server.mariadb {
        return are_in_snapshot(wire, until).await;
    }
    if let Gtids::MySql(set) = &until.gtids {
        let question = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', {})", ASKED.as_secs());
        match wire.query(&question).await {
            Err(error) if error.code() == Some(NO_FUNCTION) => {}
            answer => return Ok(answer?.single() == Some("0")),
        }
    }
    let Some(timeout) = acknowledgement(wire).await? else { return Ok(true) };
    let asked = Instant::now();
    let mut was_idle = false;
    while since.at.elapsed() <= timeout {
        let now = Waits::read(wire).await?;
        // Nobody waits for a moment between two groups, too.
        let is_idle = now.sessions == 0;
        if is_idle && was_idle || now.are_over(*since.first.get_or_init(|| now)) {
            return Ok(true);
        }
        was_idle = is_idle;
        if asked.elapsed() >= ASKED {
            return Ok(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(true)
}

async fn are_in_snapshot(wire: &mut Wire, until: &LogPosition) -> Result<bool, WireError> {
    let asked = Instant::now();
    loop {
        let shown = mariadb_snapshot(wire).await?;
        wire.execute("ROLLBACK").await?;
        if shown >= until.point {
            return Ok(true);
        }
        if asked.elapsed() >= ASKED {
            return are_no_commits(wire, &shown, &until.point).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether no transaction stands between two places of a MariaDB's log. A snapshot tells the place of the last commit, and the
/// log may end behind it for as long as nobody commits: the note that an older file is not needed for recovery any more
/// (Binlog_checkpoint) is written some time after a new file is begun. A server that does not say has transactions there.
async fn are_no_commits(wire: &mut Wire, from: &LogPoint, until: &LogPoint) -> Result<bool, WireError> {
    let state = |point: &LogPoint| format!("BINLOG_GTID_POS({}, {})", literal(&point.file), point.offset);
    let answer = wire.query(&format!("SELECT {} = {}", state(from), state(until))).await?;
    Ok(answer.single() == Some("1"))
}

/// For how long a commit may wait for a replica before it is shown; none where it does not.
async fn acknowledgement(wire: &mut Wire) -> Result<Option<Duration>, WireError> {
    let rows = wire.query("SHOW GLOBAL VARIABLES LIKE 'rpl\\_semi\\_sync\\_%'").await?;
    let get = |end: &str| {
        let is_it = |name: &str| ["source", "master"].iter().any(|of| name == format!("rpl_semi_sync_{of}_{end}"));
        let row = rows.rows.iter().find(|row| row.first().is_some_and(|name| name.as_deref().is_some_and(is_it)))?;
        row.get(1)?.clone()
    };
    let is_on = get("enabled").is_some_and(|value| value.eq_ignore_ascii_case("ON") || value == "1");
    let is_before = get("wait_point").is_none_or(|value| value.eq_ignore_ascii_case("AFTER_SYNC"));
    let timeout_ms = get("timeout").and_then(|ms| ms.parse().ok());
    Ok(timeout_ms.filter(|_| is_on && is_before).map(Duration::from_millis))
}
