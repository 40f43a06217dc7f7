//! While the log is read, somebody asks the server now and then whether it is still the same log.
//!
//! A server that is reset does not tell those who read its log: it sends them heartbeats as if nothing had happened. So its
//! end is asked for by a connection of its own, a query every few seconds. The log only grows: an end before what was read
//! when the question was asked is another log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::error::WireError;
use super::login::Met;
use super::position::LogPoint;
use super::server::log_end;
use super::wire::Wire;
use super::{MysqlConfig, login};

/// A server that does not answer for so long is asked again on a new connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the log ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) point: LogPoint,
    /// What had been read when it was asked for.
    pub(crate) read: LogPoint,
    /// The server numbers all transactions.
    pub(crate) is_numbered: bool,
}

impl LogEnd {
    /// Whether it is before what was read: another log. A place that the log has not told yet, or that is in files of another
    /// name, is none to compare with.
    pub(crate) fn has_gone_back(&self) -> bool {
        !self.read.file.is_empty() && self.point.compares_with(&self.read) && self.point < self.read
    }
}

/// Asks on a connection of its own. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Sentry {
    _task: JoinSet<()>,
    ask: mpsc::Sender<LogPoint>,
    /// Where it ends; or that there is another server now.
    pub(crate) answers: mpsc::Receiver<Result<LogEnd, WireError>>,
}

impl Sentry {
    /// Begins with a connection that is open already.
    pub(crate) fn start(config: Arc<MysqlConfig>, met: Met, wire: Wire) -> Self {
        let (ask, mut asked) = mpsc::channel::<LogPoint>(1);
        let (answer, answers) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut wire = Some(wire);
            while let Some(read) = asked.recv().await {
                let end = tokio::time::timeout(PATIENCE, end(&config, &met, &mut wire, read)).await;
                match end {
                    Ok(Ok(end)) => {
                        if answer.send(Ok(end)).await.is_err() {
                            return;
                        }
                    }
                    Ok(Err(error @ WireError::Elsewhere { .. })) => return drop(answer.send(Err(error)).await),
                    // Whether the log itself still comes is seen there; here only a question goes unanswered.
                    Ok(Err(error)) => {
                        tracing::debug!(server = %config.address(), %error, "the end of the log cannot be asked for");
                        wire = None;
                    }
                    Err(_) => wire = None,
                }
            }
        });
        Self { _task: task, ask, answers }
    }

    /// Asks where the log ends, of which so much is read. A question that is still open is not asked twice.
    pub(crate) fn ask(&self, read: &LogPoint) {
        if self.ask.capacity() > 0 {
            // Full or gone: the next question will do.
            self.ask.try_send(read.clone()).ok();
        }
    }
}

async fn end(config: &MysqlConfig, met: &Met, wire: &mut Option<Wire>, read: LogPoint) -> Result<LogEnd, WireError> {
    let mut open = match wire.take() {
        Some(open) => open,
        None => login::connect_again(config, met).await?,
    };
    let is_numbered = match open.server.mariadb {
        true => false,
        false => {
            let rows = open.query("SHOW GLOBAL VARIABLES WHERE Variable_name = 'gtid_mode'").await?;
            rows.rows.first().is_some_and(|row| row.get(1).is_some_and(|mode| mode.as_deref() == Some("ON")))
        }
    };
    let (point, _) = log_end(&mut open).await?;
    *wire = Some(open);
    Ok(LogEnd { point, read, is_numbered })
}
