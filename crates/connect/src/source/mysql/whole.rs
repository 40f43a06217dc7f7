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

use std::time::Duration;

use async_trait::async_trait;
use relation::{Position, Rows};

use crate::source::{Failure, FollowedTable, ReadWhole, RowSink, WholeReader};

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
/// Rows of a query: between two the reading may pause.
const CHUNK_ROWS: usize = 100_000;

/// A transaction that reads.
pub(super) struct Whole {
    config: MysqlConfig,
    wire: Wire,
    position: Position,
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
            let position = snapshot(&mut wire, &facts).await?;
            wire.execute("SAVEPOINT begun").await?;
            Ok::<_, WireError>((wire, position))
        };
        let (wire, position) = opened.await.map_err(|e| said(&e, config))?;
        Ok(Self { config: config.clone(), wire, position: position.to_position() })
    }
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
        rows_per_second: Option<u64>,
        sink: &mut RowSink<'_>,
    ) -> Result<ReadWhole, Failure> {
        let table = super::kind::capture(table.clone());
        let read = async {
            let read = read(&mut self.wire, &table, rows_per_second, sink).await?;
            self.wire.execute("ROLLBACK TO SAVEPOINT begun").await?;
            Ok(read)
        };
        read.await.map_err(|error| said(&error, &self.config))
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
    count: usize,
}

impl Answer<'_> {
    fn row(&mut self, values: &[Option<&[u8]>], sink: &mut RowSink<'_>) {
        let (cells, keys) = values.split_at(values.len() - self.last.len());
        self.count += 1;
        for (last, key) in self.last.iter_mut().zip(keys) {
            last.clear();
            last.extend_from_slice(key.unwrap_or_default());
        }
        self.rows.truncate(0);
        match self.plan.write_row(cells.iter().copied(), &mut self.rows.start_row(self.plan.layout())) {
            Ok(()) => {
                self.rows.finish_row();
                self.read.rows += 1;
                sink(self.rows.get(0));
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
    rows_per_second: Option<u64>,
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
    };
    if keys.is_empty() {
        let sql = format!("SELECT {} FROM {}", plan.select_list().join(", "), full_name(table));
        wire.query_with(&sql, |values| {
            answer.row(values, sink);
            Ok(())
        })
        .await?;
        return Ok(answer.read);
    }
    let begun = tokio::time::Instant::now();
    let mut cursor = None;
    loop {
        let sql = chunk_query(table, &plan, &keys, cursor.as_deref(), CHUNK_ROWS).map_err(|r| refused(table, r))?;
        answer.count = 0;
        wire.query_with(&sql, |values| {
            answer.row(values, sink);
            Ok(())
        })
        .await?;
        if answer.count < CHUNK_ROWS {
            return Ok(answer.read);
        }
        cursor = Some(encode_cursor(&answer.last));
        if let Some(rate) = rows_per_second {
            let due = Duration::from_micros(answer.read.rows.saturating_mul(1_000_000) / rate.max(1));
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        }
    }
}

fn refused(table: &CaptureTable, reason: String) -> WireError {
    Failure {
        message: format!("table {}.{} cannot be read whole", table.database, table.name),
        detail: reason,
        hint: String::new(),
    }
    .into()
}
