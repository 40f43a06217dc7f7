//! A producer, and what becomes of what it was given.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
/// How long a message may take within a transaction: the next one ends it, whatever has come of it.
const MESSAGE_TIMEOUT_MS: &str = "30000";
/// Without one it takes as long as it takes: a message that was given up may still come, behind newer ones of its key.
const NO_TIMEOUT_MS: &str = "0";
/// How long messages are gathered that go together; a portion's are given at once.
const LINGER_MS: &str = "2";
/// Whoever waits for room is told after so many that have come to their end, and at the last one.
const TOLD_EACH: usize = 1_024;
/// How long it may be that no message comes to its end while a portion is sent, and while it is waited for what was sent before.
const SILENCE_SLICES: u32 = 60;
const SETTLE_SLICES: u32 = 20;
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
    /// Some have come to their end.
    told: Condvar,
}

impl Ear {
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing is under way, or less than before, and not for long. The client's own `flush` lets a tenth of a second pass
    /// each time, whatever happens meanwhile.
    fn wait(&self, is_enough: impl Fn(usize) -> bool) {
        let under_way = || self.under_way.load(Ordering::Acquire);
        let waited = self.told.wait_timeout_while(self.reports(), SLICE / 10, |_| !is_enough(under_way()));
        drop(waited);
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
        // With the reports held: whoever waits has not looked yet, or is waiting.
        let before = self.under_way.fetch_sub(1, Ordering::AcqRel);
        drop(reports);
        if before % TOLD_EACH == 1 {
            self.told.notify_all();
        }
    }
}

/// A producer of one sync. Its calls block.
pub(super) struct Producer {
    producer: Aside<ThreadedProducer<Ear>>,
    is_exact: bool,
    headers: OwnedHeaders,
}

impl Producer {
    /// One that writes in transactions, or one that does not. What it sends arrives in its order, and once as long as it lives; one that
    /// writes without transactions is not let go of before it is known what has become of all of it ([`Producer::settle`]).
    pub(super) fn open(config: &Config, sync: &str, is_exact: bool, facts: &Facts) -> Result<Self, Trouble> {
        let room = facts.room();
        let mut settings = config.client();
        settings
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", LINGER_MS)
            // As the Java clients choose a partition, so that topics of both can be joined.
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", if is_exact { MESSAGE_TIMEOUT_MS } else { NO_TIMEOUT_MS })
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
        // An epoch alone may have ended with a transaction that took too long: nobody has taken over then.
        let is_fence = |code: &Code| matches!(code, Code::Fenced | Code::ProducerFenced);
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
        config: &Config,
        topic: &str,
        number: usize,
        key: &[u8],
        value: Option<&[u8]>,
        wanted: &Wanted,
    ) -> Result<(), Sent> {
        let mut record = BaseRecord::with_opaque_to(topic, number).key(key).headers(self.headers.clone());
        record.payload = value;
        let mut silence = Silence::of(self, SILENCE_SLICES);
        loop {
            record = match self.give(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), record)) => record,
                Err((error, _)) => return Err(Sent::Refused(code_of(&error).unwrap_or(Code::Fail))),
            };
            wanted.or_ended().map_err(Sent::Unwanted)?;
            // It is full: some of it is waited for.
            let full = self.under_way();
            self.ear().wait(|under_way| under_way + TOLD_EACH <= full || under_way == 0);
            silence.lasts(self, config, SLICE / 10).map_err(Sent::Unwanted)?;
        }
    }

    /// Has the marker sent, with the headers of all messages and these.
    pub(super) fn send_marker(&self, sync: &str, marker: &Marker) -> Result<(), KafkaError> {
        let value = marker.value();
        let record = BaseRecord::with_opaque_to(MARKERS, MARKER).key(sync.as_bytes()).payload(&value[..]);
        let record = record.headers(marker.headers(self.headers.clone())).partition(PARTITION);
        self.give(record).map_err(|(error, _)| error)
    }

    /// Gives a message to the client, counted as under way. Errors: it does not take it, and gives it back.
    #[expect(clippy::result_large_err, reason = "the record comes back to be given once more")]
    fn give<'a>(&self, record: Record<'a>) -> Result<(), (KafkaError, Record<'a>)> {
        // It may be there before the client has said that it takes it.
        self.ear().under_way.fetch_add(1, Ordering::AcqRel);
        self.producer.send(record).inspect_err(|_| {
            self.ear().under_way.fetch_sub(1, Ordering::AcqRel);
        })
    }

    fn under_way(&self) -> usize {
        self.ear().under_way.load(Ordering::Acquire)
    }

    /// Waits until it is known what has become of all that was sent, where no transaction tells. Errors: it is not, and another one must
    /// not send meanwhile.
    pub(super) fn settle(&self, config: &Config, wanted: &Wanted) -> Result<(), Trouble> {
        match self.is_exact {
            true => Ok(()),
            false => self.until_known(config, SETTLE_SLICES, wanted),
        }
    }

    fn until_known(&self, config: &Config, slices: u32, wanted: &Wanted) -> Result<(), Trouble> {
        let mut silence = Silence::of(self, slices);
        while self.under_way() > 0 {
            self.ear().wait(|under_way| under_way == 0);
            wanted.or_ended()?;
            silence.lasts(self, config, SLICE / 10)?;
        }
        Ok(())
    }

    /// Waits until something is known of all messages, and tells it.
    /// Errors: of some it is not known, and has not been for a while.
    pub(super) fn reports(&self, config: &Config, wanted: &Wanted) -> Result<Reports, Trouble> {
        self.until_known(config, SILENCE_SLICES, wanted)?;
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

/// A message for a topic, with its number.
type Record<'a> = BaseRecord<'a, [u8], [u8], usize>;

/// Nothing that is under way comes to its end.
struct Silence {
    under_way: usize,
    lasted: Duration,
    max: Duration,
}

impl Silence {
    fn of(producer: &Producer, slices: u32) -> Self {
        Self { under_way: producer.under_way(), lasted: Duration::ZERO, max: SLICE * slices }
    }

    /// It has lasted so much longer, or is over. Errors: it is too long.
    fn lasts(&mut self, producer: &Producer, config: &Config, time: Duration) -> Result<(), Trouble> {
        let under_way = producer.under_way();
        if under_way != self.under_way {
            *self = Self { under_way, lasted: Duration::ZERO, max: self.max };
            return Ok(());
        }
        self.lasted += time;
        match self.lasted >= self.max {
            // What its reason is stands beside it.
            true => {
                Err(trouble(config, &producer.ear().context, &KafkaError::MessageProduction(Code::MessageTimedOut)))
            }
            false => Ok(()),
        }
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
    let trouble = Trouble::passing(
        format!("the deliveries of sync \"{sync}\" were taken over"),
        "Another instance delivers under the same name, or a transaction took so long that the broker has ended it.",
    );
    Trouble { code: Some(TAKEN), ..trouble }
}

/// By this it is told that another one delivers.
pub(super) const TAKEN: Code = Code::ProducerFenced;

const _: () = assert!(MESSAGE_BYTES_MAX < 1 << 30, "what the client takes");
