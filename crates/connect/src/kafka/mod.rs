//! Kafka, as far as sources and destinations have it in common: who the brokers are and who we are to them, the C client's
//! callbacks, and its errors in words of people.
//!
//! ```text
//! Settings ── Config::read (a check) / Config::open (secrets resolved) ──► Config ── client() ──► rdkafka's ClientConfig
//!                                                                                                    │ with a Context
//! KafkaError + what the Context was told last ── trouble() ──► Trouble: message, detail, hint   ◄────┘
//! ```
//!
//! The client (librdkafka) keeps threads of its own, and connects again by itself: it never says that it cannot, only that a call was not
//! answered in its time. Why is told beside, to the [`Context`]. [`metadata`] puts both together: it asks until a broker answers,
//! and gives up early where nobody will.
//!
//! Its calls block: they belong on [`blocking`]. Its own logs go to `tracing`, at debug.

mod config;
mod context;
mod trouble;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

pub(crate) use config::Config;
pub(crate) use context::Context;
pub(crate) use trouble::{Trouble, code_of, said_of, trouble};

/// How long brokers may take until one of them answers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a call blocks before somebody looks whether it is still wanted.
pub(crate) const SLICE: Duration = Duration::from_millis(500);
/// So many slices are waited for a broker even where all of them have refused: a name may have more addresses than the first.
const SLICES_MIN: u32 = 3;

/// A client that is let go of on a thread of its own: that waits for the client's threads, and for the end of what they do.
pub(crate) struct Aside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Aside<T> {
    pub(crate) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is let go of")
    }
}

impl<T: Send + 'static> Drop for Aside<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // Where no thread can be had, it is waited for here.
        std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(client)).ok();
    }
}

/// Runs calls that block on a thread for such.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Trouble::passing("it was ended", "Tidemill stops.")),
    }
}

/// What a broker says of a topic, or of all of them; it makes none. `serve` is called between two tries, for as long as it is told:
/// it has the client's events handled, which say why nobody answers. Clients with a thread for that just wait. Errors: nobody
/// answers, or not to us.
pub(crate) fn metadata<C: ClientContext + AsRef<Context>>(
    client: &Client<C>,
    config: &Config,
    topic: Option<&str>,
    serve: impl Fn(Duration),
) -> Result<Metadata, Trouble> {
    let slices = u32::try_from(PATIENCE.as_millis() / SLICE.as_millis()).unwrap_or(SLICES_MIN);
    let mut last = KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure);
    for slice in 0..slices {
        match client.fetch_metadata(topic, SLICE) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => last = error,
        }
        serve(SLICE / 10);
        let context = heard(client);
        if context.is_refused() || (context.is_alone() && slice + 1 >= SLICES_MIN) {
            break;
        }
    }
    Err(trouble(config, heard(client), &last))
}

/// What a client was told.
pub(crate) fn heard<C: ClientContext + AsRef<Context>>(client: &Client<C>) -> &Context {
    let context: &C = client.context();
    context.as_ref()
}

/// How many partitions a topic has, numbered from 0; none: there is no such topic. Errors: we may not see it, or its leaders are
/// being chosen.
pub(crate) fn partitions<C: ClientContext + AsRef<Context>>(
    client: &Client<C>,
    config: &Config,
    topic: &str,
    serve: impl Fn(Duration),
) -> Result<Option<usize>, Trouble> {
    Ok(led(client, config, topic, serve)?.map(|led| led.len()))
}

/// The same, with whether each of them has a leader.
pub(crate) fn led<C: ClientContext + AsRef<Context>>(
    client: &Client<C>,
    config: &Config,
    topic: &str,
    serve: impl Fn(Duration),
) -> Result<Option<Vec<bool>>, Trouble> {
    let metadata = metadata(client, config, Some(topic), serve)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {
            let leaders: BTreeMap<i32, bool> =
                found.partitions().iter().map(|partition| (partition.id(), partition.leader() >= 0)).collect();
            let numbers = 0..i32::try_from(leaders.len()).unwrap_or(i32::MAX);
            Ok(Some(numbers.map(|number| leaders.get(&number).copied().unwrap_or(false)).collect()))
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(trouble(config, heard(client), &KafkaError::MetadataFetch(code)).about(topic)),
    }
}
