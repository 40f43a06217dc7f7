//! Tables read whole as they were at one place of the log: what they are compared with is taken at the same place.
//!
//! One transaction reads everything, so all rows are of one moment. Which place of the log that moment is:
//!
//! - MariaDB tells it with the snapshot.
//! - MySQL does not. The log's end is asked for before and after the snapshot is taken, until both are the same: nothing was
//!   logged in between. For the moment between two steps of a commit a transaction may still be in one of log and snapshot
//!   alone (`capture.md` S2), so a difference counts only if it is found twice.
//!
//! The transaction keeps no lock on a table that was read: an ALTER of it waits for that reading alone.

use std::ops::ControlFlow;
use std::time::Duration;

use async_trait::async_trait;
use relation::{Position, Rows};
use tokio::time::Instant;

use crate::source::{Failure, FollowedTable, ReadWhole, RowSink, WholePace, WholePart, WholeReader};

use super::commits::{Since, are_shown};
use super::decode::SnapshotPlan;
use super::error::{WireError, failure};
use super::position::LogPosition;
use super::server::{Facts, end_position, unreachable_server};
use super::snapshot::{chunk_query, encode_cursor, full_name, key_columns, mariadb_snapshot, plan_of};
use super::wire::Wire;
use super::{CaptureTable, MysqlConfig, login};

/// How often a snapshot is taken anew because something was committed meanwhile. At 2,000 commits a second one of three
/// attempts fails.
const ATTEMPTS_MAX: usize = 2_000;
/// For how long commits are waited for that the log has and that the tables do not show yet.
const SHOWN: Duration = Duration::from_secs(60);
/// How long it may take until the tables can be read: a moment without a commit is looked for.
const OPEN: Duration = Duration::from_secs(600);
/// Rows of a query.
const CHUNK_ROWS: u64 = 100_000;
/// The same where the reading pauses between two: some ten milliseconds of work.
const PACED_CHUNK_ROWS: u64 = 10_000;

/// A transaction that reads.
pub(super) struct Whole {
    config: MysqlConfig,
    wire: Wire,
    position: Position,
    counts_after: Option<Duration>,
}

impl Whole {
    /// Opens the transaction.
    pub(super) async fn open(config: &MysqlConfig) -> Result<Self, Failure> {
        let opened = async {
            let mut wire = login::connect(config).await?;
            for statement in SnapshotPlan::SESSION {
                wire.execute(statement).await?;
            }
            // It waits for what is compared with it, and pauses where it is not to be fast.
            wire.execute("SET SESSION net_write_timeout = 3600, wait_timeout = 86400").await?;
            wire.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
            let facts = Facts::read(&mut wire).await?;
            if let Some(failure) = facts.refuse(config) {
                return Err(failure.into());
            }
            let counts_after = match wire.server.mariadb {
                true => None,
                // Which transactions are executed tells of those that wait for a replica, if they are numbered.
                false if facts.gtid_mode => Some(config.snapshot_delay),
                false => Some(config.snapshot_delay),
            };
            let position = snapshot(&mut wire, &facts).await?;
            if !wire.server.mariadb && !facts.gtid_mode {
                wait_for_commits(&mut wire, &position, config).await?;
            }
            wire.execute("SAVEPOINT begun").await?;
            Ok::<_, WireError>((wire, position, counts_after))
        };
        let opened = login::in_time(OPEN, opened).await;
        let (wire, position, counts_after) = opened.map_err(|e| said(&e, config))?;
        Ok(Self { config: config.clone(), wire, position: position.to_position(), counts_after })
    }
}

/// Waits until who reads the tables from now on finds all that the log has up to a place: what differs twice differs indeed.
async fn wait_for_commits(wire: &mut Wire, position: &LogPosition, config: &MysqlConfig) -> Result<(), WireError> {
    let (since, begun) = (Since::now(), Instant::now());
    while !are_shown(wire, position, &since).await? {
        if begun.elapsed() > SHOWN {
            return Err(Failure {
                message: format!("commits of {} wait for a replica that does not acknowledge them", config.address()),
                detail: "They are in the server's log, and its tables do not show them: nothing can be compared with either.".to_owned(),
                hint: "Compare once more when they are acknowledged (semi-synchronous replication).".to_owned(),
            }
            .into());
        }
    }
    Ok(())
}

/// Takes a snapshot at a place of the log that is known.
async fn snapshot(wire: &mut Wire, facts: &Facts) -> Result<LogPosition, WireError> {
    if wire.server.mariadb {
        let point = mariadb_snapshot(wire).await?;
        return super::server::position_at(wire, point).await;
    }
    for _ in 0..ATTEMPTS_MAX {
        let before = end_position(wire, facts).await?;
        wire.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
        let after = end_position(wire, facts).await?;
        if before == after {
            return Ok(after);
        }
        wire.execute("ROLLBACK").await?;
    }
    Err(Failure {
        message: "the server commits without a pause: no snapshot of it has a known place in its log".to_owned(),
        detail: format!("It was tried {ATTEMPTS_MAX} times."),
        hint: "Compare in a quieter hour, or with a replica as the connection's host.".to_owned(),
    }
    .into())
}

fn said(error: &WireError, config: &MysqlConfig) -> Failure {
    failure(error, config).unwrap_or_else(|| match error.code() {
        None => unreachable_server(error, config),
        Some(_) => Failure {
            message: format!("{} ended the reading", config.address()),
            detail: error.to_string(),
            hint: "Compare once more.".to_owned(),
        },
    })
}

#[async_trait]
impl WholeReader for Whole {
    fn position(&self) -> &Position {
        &self.position
    }

    async fn read(
        &mut self,
        table: &FollowedTable,
        part: &WholePart,
        pace: WholePace,
        sink: &mut RowSink<'_>,
    ) -> Result<ReadWhole, Failure> {
        let table = super::kind::capture(table.clone());
        let asks = part.condition.is_some();
        let read = async {
            let read = match read(&mut self.wire, &table, part, pace, sink).await {
                Err(error) if asks && error.code().is_some() => return Err(refused_condition(&table, &error)),
                read => read?,
            };
            self.wire.execute("ROLLBACK TO SAVEPOINT begun").await?;
            Ok(read)
        };
        read.await.map_err(|error| said(&error, &self.config))
    }

    fn counts_after(&self) -> Option<Duration> {
        self.counts_after
    }

    async fn close(self: Box<Self>) {
        self.wire.close().await;
    }
}

/// One answer on its way into the sink.
struct Answer<'a> {
    plan: &'a SnapshotPlan,
    rows: Rows,
    last: Vec<Vec<u8>>,
    read: ReadWhole,
    /// Rows of the present query, and whether the last of them could be read.
    count: u64,
    ends_readable: bool,
    /// The sink wants no more.
    is_over: bool,
}

impl Answer<'_> {
    fn row(&mut self, values: &[Option<&[u8]>], sink: &mut RowSink<'_>) {
        if self.is_over {
            return;
        }
        let (cells, keys) = values.split_at(values.len() - self.last.len());
        self.count += 1;
        for (last, key) in self.last.iter_mut().zip(keys) {
            last.clear();
            last.extend_from_slice(key.unwrap_or_default());
        }
        self.rows.truncate(0);
        let written = self.plan.write_row(cells.iter().copied(), &mut self.rows.start_row(self.plan.layout()));
        self.ends_readable = written.is_ok();
        match written {
            Ok(()) => {
                self.rows.finish_row();
                self.read.rows += 1;
                self.is_over = sink(self.rows.get(0)) == ControlFlow::Break(());
            }
            // Such a row is a reject of the table, and not among its rows.
            Err(_) => {
                self.rows.abandon_row();
                self.read.unreadable += 1;
            }
        }
    }
}

async fn read(
    wire: &mut Wire,
    table: &CaptureTable,
    part: &WholePart,
    pace: WholePace,
    sink: &mut RowSink<'_>,
) -> Result<ReadWhole, WireError> {
    let plan = plan_of(table).map_err(|reason| refused(table, reason))?;
    let keys = key_columns(table).map_err(|reason| refused(table, reason))?;
    let mut answer = Answer {
        plan: &plan,
        rows: Rows::new(),
        last: vec![Vec::new(); keys.len()],
        read: ReadWhole::default(),
        count: 0,
        ends_readable: true,
        is_over: false,
    };
    if keys.is_empty() || part.condition.is_some() {
        let mut sql = format!("SELECT {} FROM {}", plan.select_list().join(", "), full_name(table));
        if let Some(condition) = &part.condition {
            // A comment at its end must not swallow the bracket.
            sql.push_str(&format!(" WHERE ({condition}\n)"));
        }
        answer.last.clear();
        wire.query_with(&sql, |values| {
            answer.row(values, sink);
            Ok(())
        })
        .await?;
        return Ok(answer.read);
    }
    let begun = Instant::now();
    let chunk_rows = if pace == WholePace::default() { CHUNK_ROWS } else { PACED_CHUNK_ROWS };
    let mut cursor = part.after.clone();
    loop {
        let so_far = answer.read.rows + answer.read.unreadable;
        let limit = part.rows_max.map_or(chunk_rows, |max| max.saturating_sub(so_far).clamp(1, chunk_rows));
        let rows = usize::try_from(limit).unwrap_or(usize::MAX);
        let sql = chunk_query(table, &plan, &keys, cursor.as_deref(), rows).map_err(|r| refused(table, r))?;
        answer.count = 0;
        let asked = Instant::now();
        wire.query_with(&sql, |values| {
            answer.row(values, sink);
            Ok(())
        })
        .await?;
        if answer.is_over || answer.count < limit {
            return Ok(answer.read);
        }
        let last = encode_cursor(&answer.last);
        let mut pause = pace.pause_after(asked.elapsed());
        if let Some(rate) = pace.rows_per_second {
            let due = Duration::from_micros(answer.read.rows.saturating_mul(1_000_000) / rate.max(1));
            pause = pause.max(due.saturating_sub(begun.elapsed()));
        }
        tokio::time::sleep(pause).await;
        let is_enough = part.rows_max.is_some_and(|max| answer.read.rows + answer.read.unreadable >= max);
        // What the sink has not seen is no place to go on from.
        if is_enough && answer.ends_readable {
            answer.read.next = Some(last);
            return Ok(answer.read);
        }
        cursor = Some(last);
    }
}

fn refused_condition(table: &CaptureTable, error: &WireError) -> WireError {
    Failure {
        message: format!("the server refuses the condition on table {}.{}", table.database, table.name),
        detail: error.to_string(),
        hint: "Nothing was changed. A condition is what may stand behind WHERE in a SELECT from that table.".to_owned(),
    }
    .into()
}

fn refused(table: &CaptureTable, reason: String) -> WireError {
    Failure {
        message: format!("table {}.{} cannot be read whole", table.database, table.name),
        detail: reason,
        hint: String::new(),
    }
    .into()
}
