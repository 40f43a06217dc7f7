//! When a log is asked for again, and what the error means that has ended it.

use std::time::Duration;

use crate::backoff::{Backoff, jitter};

use crate::source::Failure;

use super::MysqlConfig;
use super::error::{LogRefusal, WireError, another_history, purged};
use super::wire::ServerInfo;

/// What only a person or time can mend is looked at again after this.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long the place where to start may be looked for: where it is a time, each log file is asked for its own.
pub(crate) const START: Duration = Duration::from_secs(600);
/// Where the first event of a log file is.
pub(crate) const HEAD: u64 = 4;
/// The end of the log is asked for whenever so many ticks of a reader have passed.
pub(crate) const CHECK_TICKS: u32 = 10;
const FIRST: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(15);

/// Pauses between tries to read a log.
#[derive(Debug)]
pub(crate) struct Pauses(Backoff);

impl Default for Pauses {
    fn default() -> Self {
        Self(Backoff::new(FIRST, MAX))
    }
}

impl Pauses {
    /// The next one.
    pub(crate) fn take(&mut self, seed: u64) -> Duration {
        let pause = self.0.next();
        pause + jitter(pause, seed)
    }
}

/// What an error means to who read the log: before the place where it was left was found again (`was_passing`), one about it is about
/// the log's history.
pub(crate) fn understood(
    error: WireError,
    was_passing: bool,
    config: &MysqlConfig,
    server: &ServerInfo,
    server_id: u32,
) -> WireError {
    match LogRefusal::of(&error) {
        Some(LogRefusal::NoSuchPlace | LogRefusal::NoSuchEvent) if was_passing => another_history(&error.to_string()),
        _ if was_passing && matches!(error, WireError::Damaged(_)) => another_history(&error.to_string()),
        Some(LogRefusal::Purged | LogRefusal::NoSuchPlace) => {
            WireError::Stalled(Box::new(purged(config, error.to_string(), server)))
        }
        Some(LogRefusal::Duplicate) if config.server_id.is_some() => WireError::Stalled(Box::new(Failure {
            message: format!(
                "another reader of {} has the number {server_id}, which the settings give us",
                config.address()
            ),
            detail: format!("{error}. The server ends the one when the other comes."),
            hint:
                "Leave `replica_server_id` out, and a number is taken that nobody else has; or stop the other reader."
                    .to_owned(),
        })),
        Some(LogRefusal::Duplicate) => WireError::Protocol(format!(
            "another one reads the log under server_id {server_id}, which was ours; the next attempt takes another one ({error})"
        )),
        _ => error,
    }
}
