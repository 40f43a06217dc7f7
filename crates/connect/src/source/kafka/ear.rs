//! What a reader's client calls back: beside its logs and troubles, once a second how far it has fetched.
//!
//! The law: [`Fetched::next`] is behind nothing that was not taken. The client tells how much waits to be taken in the same report: where
//! that is nothing, whatever it has fetched before was taken, and what is between the last message and `next` is none: marks of
//! transactions, what was aborted, and what a topic does not keep any more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;

use crate::kafka::Context;

/// How often a client reports.
pub(super) const REPORT_MS: &str = "1000";

/// A reader's ear.
#[derive(Debug, Default)]
pub(super) struct Ear {
    context: Context,
    fetched: Mutex<Fetched>,
}

/// How far a client has fetched, as of its last report with nothing waiting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    /// For each partition of which its broker has answered, the offset that is fetched next.
    pub(super) next: BTreeMap<(String, i32), i64>,
    /// So many reports in a row have had nothing waiting.
    pub(super) quiet: u32,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Fetched> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it has fetched.
    pub(super) fn fetched(&self) -> Fetched {
        self.heard().clone()
    }
}

impl AsRef<Context> for Ear {
    fn as_ref(&self) -> &Context {
        &self.context
    }
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| {
            // One that is no partition counts what belongs to none.
            topic.partitions.values().filter(|of| of.partition >= 0).map(|of| (topic.topic.as_str(), of))
        });
        let (mut waiting, mut next) = (0, BTreeMap::new());
        for (topic, of) in partitions {
            waiting += of.fetchq_cnt;
            // Before an answer there is no end to know.
            if of.hi_offset >= 0 && of.next_offset >= 0 {
                next.insert((topic.to_owned(), of.partition), of.next_offset);
            }
        }
        let mut heard = self.heard();
        match waiting {
            0 => *heard = Fetched { next, quiet: heard.quiet.saturating_add(1) },
            _ => heard.quiet = 0,
        }
    }
}

impl ConsumerContext for Ear {}
