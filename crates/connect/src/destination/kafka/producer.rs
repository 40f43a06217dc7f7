//! A producer, and what becomes of what it was given.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::destination::MARKERS;
use crate::kafka::{Aside, Config, Context, SLICE, Trouble, code_of, trouble};

use super::Wanted;
use super::markers::{Marker, PARTITION};
use super::topics::{Facts, MESSAGE_BYTES_MAX, wait};

/// Bytes of messages that wait to be sent; a larger one waits alone.
const QUEUE_BYTES: usize = 32 << 20;
/// The largest batch, where its topic takes it.
const BATCH_BYTES: usize = 1_000_000;
/// How long a message may take.
const MESSAGE_TIMEOUT_MS: &str = "30000";
/// How long a transaction may be open before the broker ends it. It is longer than what a message may take.
const TRANSACTION_TIMEOUT_MS: &str = "60000";
/// How long the end of a transaction is waited for, and that of sessions before.
const END_SLICES: u32 = 80;
/// How long it is tried to take a transaction back: the broker does it, too.
const ABORT_SLICES: u32 = 10;
/// What no row's number is: a marker's.
const MARKER: usize = usize::MAX;

/// What was said of messages since it was last asked for.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Messages that are not there, by the number they were given.
    pub(super) failed: Vec<(usize, Code)>,
    /// Where partitions of the rows' topic end behind what is there.
    pub(super) ends: BTreeMap<i32, i64>,
    /// The offset of the marker.
    pub(super) marker: Option<i64>,
}

/// The producer's ear.
#[derive(Debug, Default)]
struct Ear {
    context: Context,
    /// Messages of which nothing is known yet.
    under_way: AtomicUsize,
    reports: Mutex<Reports>,
}

impl Ear {
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl ProducerContext for Ear {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let mut reports = self.reports();
        match result {
            Ok(message) if number == MARKER => reports.marker = Some(message.offset()),
            // What was there already, by an answer that was lost, has no offset.
            Ok(message) if message.offset() >= 0 => {
                let end = reports.ends.entry(message.partition()).or_default();
                *end = (*end).max(message.offset() + 1);
            }
            Ok(_) => {}
            Err((error, _)) => reports.failed.push((number, code_of(error).unwrap_or(Code::Fail))),
        }
        drop(reports);
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A producer of one sync. Its calls block.
pub(super) struct Producer {
    producer: Aside<ThreadedProducer<Ear>>,
    is_exact: bool,
    headers: OwnedHeaders,
}

impl Producer {
    /// One that writes in transactions, or one that does not. What it sends arrives in its order, and once as long as it lives.
    pub(super) fn open(config: &Config, sync: &str, is_exact: bool, facts: &Facts) -> Result<Self, Trouble> {
        let room = facts.room();
        let mut settings = config.client();
        settings
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            // As the Java clients choose a partition, so that topics of both can be joined.
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS)
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", (QUEUE_BYTES.max(2 * room) >> 10).to_string())
            .set("message.max.bytes", (room.max(BATCH_BYTES) + (64 << 10)).to_string())
            .set("batch.size", room.min(BATCH_BYTES).to_string());
        if is_exact {
            settings
                .set("transactional.id", format!("tidemill.{sync}"))
                .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        }
        let producer = settings.create_with_context(Ear::default());
        let producer = producer.map_err(|error| trouble(config, &Context::default(), &error))?;
        Ok(Self { producer: Aside::new(producer), is_exact, headers: OwnedHeaders::new() })
    }

    fn ear(&self) -> &Ear {
        self.producer.client().context()
    }

    /// What is wrong, of a sync: another session may have taken it over.
    fn trouble(&self, config: &Config, sync: &str, error: &KafkaError) -> Trouble {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        let is_fence = |code: &Code| matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch);
        let code = code_of(error);
        match code.iter().chain(&fatal).any(is_fence) {
            true => taken_over(sync),
            false => trouble(config, &self.ear().context, error),
        }
    }

    /// Takes the sync over from sessions before: what they have under way is ended.
    pub(super) fn fence(&self, config: &Config, sync: &str, wanted: &Wanted) -> Result<(), Trouble> {
        if !self.is_exact {
            return Ok(());
        }
        let fenced = self.until_done(END_SLICES, wanted, |producer| producer.init_transactions(SLICE));
        fenced.map_err(|error| match error {
            Unfinished::Unwanted(trouble) => trouble,
            Unfinished::Failed(error) => {
                let mut trouble = self.trouble(config, sync, &error);
                if trouble.code == Some(Code::TransactionalIdAuthorizationFailed) {
                    trouble.failure.hint =
                        format!("It needs WRITE and DESCRIBE on the transactional id \"tidemill.{sync}\".");
                }
                trouble
            }
        })
    }

    /// Calls something that goes on where it was when it is called again.
    fn until_done(
        &self,
        slices: u32,
        wanted: &Wanted,
        call: impl Fn(&ThreadedProducer<Ear>) -> Result<(), KafkaError>,
    ) -> Result<(), Unfinished> {
        for _ in 1..slices {
            match call(&self.producer) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
                Err(KafkaError::Flush(Code::OperationTimedOut)) => {}
                done => return done.map_err(Unfinished::Failed),
            }
            wanted.or_ended().map_err(Unfinished::Unwanted)?;
            // Some come back before their time.
            wait(SLICE / 10);
        }
        call(&self.producer).map_err(Unfinished::Failed)
    }

    /// The headers of all messages from here on.
    pub(super) fn set_headers(&mut self, headers: OwnedHeaders) {
        self.headers = headers;
    }

    pub(super) fn begin(&self, config: &Config, sync: &str) -> Result<(), Trouble> {
        if !self.is_exact {
            return Ok(());
        }
        self.producer.begin_transaction().map_err(|error| self.trouble(config, sync, &error))
    }

    /// Has a message sent; its number comes back in [`Reports`]. Waits while too much is under way. Errors: nothing more can be
    /// sent.
    pub(super) fn send(
        &self,
        topic: &str,
        number: usize,
        key: &[u8],
        value: Option<&[u8]>,
        wanted: &Wanted,
    ) -> Result<(), Sent> {
        self.ear().under_way.fetch_add(1, Ordering::AcqRel);
        let sent = self.try_send(topic, number, key, value, wanted);
        if sent.is_err() {
            self.ear().under_way.fetch_sub(1, Ordering::AcqRel);
        }
        sent
    }

    fn try_send(
        &self,
        topic: &str,
        number: usize,
        key: &[u8],
        value: Option<&[u8]>,
        wanted: &Wanted,
    ) -> Result<(), Sent> {
        let mut record = BaseRecord::with_opaque_to(topic, number).key(key).headers(self.headers.clone());
        record.payload = value;
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), record)) => record,
                Err((error, _)) => return Err(Sent::Refused(code_of(&error).unwrap_or(Code::Fail))),
            };
            wanted.or_ended().map_err(Sent::Unwanted)?;
            // It is full: some of it is waited for, all of it at most.
            self.producer.flush(SLICE / 10).ok();
        }
    }

    /// Has the marker sent, with the headers of all messages and these.
    pub(super) fn send_marker(&self, sync: &str, marker: &Marker) -> Result<(), KafkaError> {
        let value = marker.value();
        let record = BaseRecord::with_opaque_to(MARKERS, MARKER).key(sync.as_bytes()).payload(&value);
        let record = record.headers(marker.headers(self.headers.clone())).partition(PARTITION);
        self.ear().under_way.fetch_add(1, Ordering::AcqRel);
        self.producer.send(record).map_err(|(error, _)| {
            self.ear().under_way.fetch_sub(1, Ordering::AcqRel);
            error
        })
    }

    /// Waits until something is known of all messages, and tells it.
    pub(super) fn reports(&self, wanted: &Wanted) -> Result<Reports, Trouble> {
        // Each message comes to its end by itself, after a while.
        while self.ear().under_way.load(Ordering::Acquire) > 0 {
            self.producer.flush(SLICE).ok();
            wanted.or_ended()?;
        }
        Ok(std::mem::take(&mut *self.ear().reports()))
    }

    /// Ends a transaction, with all that is in it. Errors: nothing of it is there, or nobody knows: the next session finds out.
    pub(super) fn commit(&self, config: &Config, sync: &str, wanted: &Wanted) -> Result<(), Trouble> {
        if !self.is_exact {
            return Ok(());
        }
        match self.until_done(END_SLICES, wanted, |producer| producer.commit_transaction(SLICE)) {
            Ok(()) => Ok(()),
            Err(Unfinished::Unwanted(trouble)) => Err(trouble),
            Err(Unfinished::Failed(error)) => {
                if matches!(&error, KafkaError::Transaction(error) if error.txn_requires_abort()) {
                    self.abort(wanted);
                }
                Err(self.trouble(config, sync, &error))
            }
        }
    }

    /// Takes back what was sent since [`Producer::begin`]. Where that cannot be, the broker does it after a while, or the next
    /// session. Answers whether it was done.
    pub(super) fn abort(&self, wanted: &Wanted) -> bool {
        if !self.is_exact {
            return true;
        }
        let is_done = self.until_done(ABORT_SLICES, wanted, |producer| producer.abort_transaction(SLICE)).is_ok();
        *self.ear().reports() = Reports::default();
        is_done
    }

    /// What a message's failure means to all.
    pub(super) fn trouble_of(&self, config: &Config, sync: &str, topic: &str, code: Code) -> Trouble {
        self.trouble(config, sync, &KafkaError::MessageProduction(code)).about(topic)
    }
}

/// Why something that takes a while has no end.
enum Unfinished {
    Unwanted(Trouble),
    Failed(KafkaError),
}

/// Why a message was not even taken.
pub(super) enum Sent {
    Unwanted(Trouble),
    Refused(Code),
}

/// Whether a message is refused for its size.
pub(super) fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge)
}

/// Bytes that a message takes with all that it is wrapped in, before it is packed. They are a few too many.
pub(super) fn wrapped(key: &[u8], value: Option<&[u8]>, sync: &str) -> usize {
    // A batch has 61 bytes of its own, a message up to 41, and the headers are two words and two values.
    key.len() + value.map_or(0, <[u8]>::len) + sync.len() + 160
}

/// Another one delivers.
pub(super) fn taken_over(sync: &str) -> Trouble {
    Trouble::passing(
        format!("the deliveries of sync \"{sync}\" were taken over"),
        "Another instance delivers under the same name, or a transaction took so long that the broker has ended it.",
    )
}

const _: () = assert!(MESSAGE_BYTES_MAX < 1 << 30, "what the client takes");
