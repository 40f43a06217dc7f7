//! Kafka: rows become messages of a topic under their keys, and a row that leaves a message without a value (a tombstone).
//!
//! ```text
//! exactly_once    fence (init_transactions), read the marker ─► begin │ rows … │ marker │ commit        one transaction a portion
//! at_least_once   read the marker, leave a token             ─► rows … acknowledged ─► marker, acknowledged
//! ```
//!
//! A marker is the last message under the sync's name in the topic `_tidemill_deliveries` ([`markers`]). With `exactly_once` it is in
//! the transaction of its rows: who reads committed messages sees both or neither, and a session that begins takes the sync's
//! transactional id over, by which the broker ends what the one before has under way. So a portion whose acknowledgement was lost is
//! known, whatever the outage took, and nothing goes back. What was committed before is read up to where the marks ended after that.
//! With `at_least_once` a portion that was cut off is sent again: the same keys and values in their order, by a producer that sends each
//! message once as long as it lives. It lives until it is known what has become of all that it has sent, and nothing is sent by another
//! one before: no message comes behind a newer one of its key. (Only what was on its way when this process was killed may.) A session
//! looks for the tokens of others before each portion. Of either kind, one that has nothing to send looks for the marks of others.
//!
//! Offsets of a topic never go back, whatever it lets go of: where they did, or where it has other partitions, everything is sent
//! again. What a topic lets go of by its own rules (`retention.ms`, compaction) is not missed.
//!
//! Calls of the client block: a portion's are made on a thread that is for such, in slices, so that they end when nobody wants them.

mod avro;
mod form;
mod markers;
mod producer;
mod topics;
mod write;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value as Json;

use crate::kafka::{Config, Trouble, blocking};
use crate::registry::Registry;
use crate::source::{Check, Failure, Settings};

use super::kind::{failure_of, told_of};
use super::{Begun, Destination, DestinationKind, Down, MARKERS, Outcome, Place, Portion, Problem, Seal, Target};
use form::Form;
use topics::Topics;
use write::{Sending, Session};

/// Connections of the type `kafka`.
#[derive(Debug, Clone, Copy)]
pub struct Kind;

#[async_trait]
impl DestinationKind for Kind {
    fn types(&self) -> &'static [&'static str] {
        &["kafka"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &form::KEYS
    }

    fn check_settings(&self, settings: &Settings) -> Result<(), Failure> {
        Config::read(settings).map(|_| ())
    }

    fn check(&self, target: &Target) -> Vec<Problem> {
        Form::of(target).err().unwrap_or_default()
    }

    fn lacks(&self, settings: &Settings, target: &Target) -> Vec<Problem> {
        if target.text("format") != Some("avro") || settings.get("schema_registry").is_some() {
            return Vec::new();
        }
        let Failure { message, detail, hint } = write::no_registry().failure;
        vec![Problem::new(super::At::To("format".to_owned()), message).detail(detail).hint(hint)]
    }

    /// A topic, and the table that keys in Maxwell's words name.
    fn place(&self, settings: &Settings, to: &BTreeMap<String, Json>) -> Option<Place> {
        let text = |key: &str| to.get(key).and_then(Json::as_str);
        let topic = text("topic")?;
        let name = match text("table").filter(|_| text("format") == Some("maxwell")) {
            Some(table) => format!("{topic} {table}"),
            None => topic.to_owned(),
        };
        Some(Place { within: Config::read(settings).ok()?.address(), what: "topic", name })
    }

    fn seals(&self, to: &BTreeMap<String, Json>) -> bool {
        to.get("delivery").and_then(Json::as_str) == Some("exactly_once")
    }

    /// What ends a transaction, and what is waited for behind a portion, takes as long for few as for many.
    fn rows_max(&self) -> usize {
        20_000
    }

    async fn open(&self, settings: &Settings, target: Target) -> Result<Box<dyn Destination>, Failure> {
        let form = Form::of(&target).map_err(|problems| {
            let none = || Problem::new(super::At::Sync, "the sync cannot be understood").failure();
            failure_of(problems).unwrap_or_else(none)
        })?;
        let config = Config::open(settings).await?;
        let registry = config.registry().map(Registry::new).transpose()?;
        Ok(Box::new(Kafka { of: Arc::new(Of { config, registry, target, form }), held: Arc::default() }))
    }

    async fn doctor(&self, settings: &Settings, targets: Vec<Target>) -> Vec<Check> {
        let failed = |Failure { message, detail, hint }| vec![Check::failed("connection", message, detail, hint)];
        let config = match Config::open(settings).await {
            Ok(config) => config,
            Err(failure) => return failed(failure),
        };
        let kind = *self;
        let asked = match config.registry().map(Registry::new).transpose() {
            Ok(None) => Vec::new(),
            Ok(Some(registry)) => ask_registry(&registry, &targets).await,
            Err(failure) => return failed(failure),
        };
        let lacks: Vec<Problem> = targets.iter().flat_map(|target| self.lacks(settings, target)).collect();
        let checks = working(move |wanted| kind.ask(&config, targets, wanted)).await;
        let mut checks = checks.unwrap_or_else(|down| failed(down.failure));
        checks.extend(asked);
        if let Some(failure) = failure_of(lacks) {
            checks.extend(failed(failure));
        }
        checks
    }
}

/// What a doctor asks of a schema registry: whether it answers, and would take the schemas of targets.
async fn ask_registry(registry: &Registry, targets: &[Target]) -> Vec<Check> {
    let failed = |Failure { message, detail, hint }| Check::failed("registry", message, detail, hint);
    if let Err(trouble) = registry.look().await {
        return vec![failed(trouble.failure)];
    }
    let mut checks = vec![Check::ok("registry", format!("the schema registry answers at {}", registry.address()))];
    let forms = targets.iter().filter_map(|target| Form::of(target).ok());
    for (topic, schemas) in forms.filter_map(|form| Some((form.topic, form.avro?))) {
        for (what, schema) in [("key", &schemas.key), ("value", &schemas.value)] {
            if let Err(trouble) = registry.would_take(&format!("{topic}-{what}"), schema).await {
                checks.push(failed(trouble.failure));
            }
        }
    }
    checks
}

impl Kind {
    /// What a doctor asks. It blocks.
    fn ask(self, config: &Config, targets: Vec<Target>, wanted: &Wanted) -> Result<Vec<Check>, Trouble> {
        markers::Markers::open(config, "")?.reach(config, MARKERS)?;
        let topics = Topics::open(config)?;
        let mut checks = vec![Check::ok("connection", format!("{} lets us in", config.address()))];
        if let Some(policy) = topics.partitions(MARKERS)?.and_then(|_| topics.facts(MARKERS).policy)
            && policy != "compact"
        {
            checks.push(Check::warning(
                "markers",
                format!("the topic \"{MARKERS}\" is not kept by its keys (cleanup.policy={policy})"),
                "A marker that it lets go of is missed: everything is sent again then.",
                format!("kafka-configs --alter --topic {MARKERS} --add-config cleanup.policy=compact"),
            ));
        }
        for target in targets {
            wanted.or_ended()?;
            let (problem, whereto) = match Form::of(&target) {
                Err(problems) => (failure_of(problems), String::new()),
                Ok(form) => match whereto(&topics, &form) {
                    Ok(whereto) => (None, whereto),
                    Err(trouble) => (Some(trouble.failure), String::new()),
                },
            };
            checks.push(told_of(&target, "topic", &whereto, problem));
        }
        Ok(checks)
    }
}

/// What is to be said of a form's topic.
fn whereto(topics: &Topics<'_>, form: &Form) -> Result<String, Trouble> {
    let topic = &form.topic;
    match (topics.partitions(topic)?, form.made) {
        (None, None) => Err(write::no_topic(topic)),
        (None, Some(_)) => Ok(format!(" to \"{topic}\", which will be made")),
        (Some(partitions), _) => {
            let policy = topics.facts(topic).policy.map(|policy| format!(", cleanup.policy={policy}"));
            let s = if partitions == 1 { "" } else { "s" };
            Ok(format!(" to \"{topic}\" ({partitions} partition{s}{})", policy.unwrap_or_default()))
        }
    }
}

/// Whether somebody still waits for a call. It is told by letting go of the first of these.
#[derive(Debug, Clone, Default)]
struct Wanted(Arc<AtomicBool>);

impl Wanted {
    /// Errors: nobody does.
    fn or_ended(&self) -> Result<(), Trouble> {
        match self.0.load(Ordering::Acquire) {
            true => Err(Trouble::passing("the delivery was ended", "Nobody waits for it any more.")),
            false => Ok(()),
        }
    }
}

/// Says that nobody waits any more, whichever way that comes.
struct Waiting(Wanted);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

/// Runs a part of a session's work on a thread that is for such, as long as somebody waits for it.
async fn working<T: Send + 'static>(
    work: impl FnOnce(&Wanted) -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Down> {
    let waiting = Waiting(Wanted::default());
    let wanted = waiting.0.clone();
    blocking(move || work(&wanted)).await.map_err(Down::from)
}

impl From<Trouble> for Down {
    fn from(Trouble { failure, is_ours, code }: Trouble) -> Self {
        Self { failure, is_ours, is_taken: code == Some(producer::TAKEN) }
    }
}

/// What does not change while a sync is delivered.
struct Of {
    config: Config,
    registry: Option<Registry>,
    target: Target,
    form: Form,
}

/// One sync's topic.
struct Kafka {
    of: Arc<Of>,
    held: Arc<Mutex<Held>>,
}

/// A session, which is kept until it is known what has become of all that it has sent. Whoever works with it has it locked, also when
/// nobody waits for that any more.
#[derive(Default)]
struct Held {
    session: Option<Session>,
    /// All that it was told to do is done.
    is_ready: bool,
}

impl Kafka {
    /// Works with the session, on a thread that is for such.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Of, &mut Held, &Wanted) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Down> {
        let (of, held) = (Arc::clone(&self.of), Arc::clone(&self.held));
        working(move |wanted| {
            // Whatever a panic has left is not ready.
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            work(&of, &mut held, wanted)
        })
        .await
    }
}

impl Held {
    /// The session, if it is ready; it is again when its work has gone well.
    fn take_up(&mut self) -> Result<&mut Session, Trouble> {
        let is_ready = std::mem::take(&mut self.is_ready);
        let begun = self.session.as_mut().filter(|_| is_ready);
        begun.ok_or_else(not_begun)
    }
}

fn not_begun() -> Trouble {
    Trouble::passing("the delivery has not begun", "A connection was lost.")
}

#[async_trait]
impl Destination for Kafka {
    async fn begin(&mut self, rows: u64) -> Result<Begun, Down> {
        let with = self.with(move |of, held, wanted| {
            held.is_ready = false;
            if let Some(before) = &held.session {
                before.settle(&of.config, wanted)?;
            }
            held.session = None;
            let form = (&of.form, of.registry.as_ref());
            let begun = write::begin(&of.config, &of.target, form, rows, &mut held.session, wanted)?;
            held.is_ready = true;
            Ok(begun)
        });
        with.await
    }

    async fn deliver(&mut self, portion: &Arc<Portion>, seal: &Seal<'_>) -> Result<Vec<Outcome>, Down> {
        let sent = Arc::clone(portion);
        let outcomes = self
            .with(move |of, held, wanted| {
                let Of { config, target, form, .. } = of;
                held.take_up()?.send(&Sending { config, target, form, portion: &sent, wanted })
            })
            .await?;
        let seal = seal(&outcomes);
        self.with(move |of, held, wanted| {
            held.session.as_mut().ok_or_else(not_begun)?.seal(&of.config, seal, wanted)?;
            held.is_ready = true;
            Ok(())
        })
        .await?;
        Ok(outcomes)
    }

    /// Whether nobody else has taken over.
    async fn look(&mut self) -> Result<(), Down> {
        self.with(move |of, held, wanted| {
            held.take_up()?.look_for_others(&of.config, wanted)?;
            held.is_ready = true;
            Ok(())
        })
        .await
    }

    async fn close(self: Box<Self>) {
        // Every message was answered: there is nothing to say, and the client ends its threads by itself.
    }
}
