//! Kafka as a kind of source: settings in, and the functions of this folder behind [`Source`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use relation::{Position, Schema};
use tokio::sync::{mpsc, watch};

use super::ask::Asker;
use super::declared::{KEYS, Topical};
use super::lanes::{Lane, Topic, stall_of};
use super::position::{self, At, Kept, NoPosition};
use super::run::{Feed, Run};
use super::told::{self, Untold};
use crate::kafka::{Config, Trouble};
use crate::source::{
    Absence, Check, Control, Failure, FollowedTable, Limits, OwnFacts, Requests, Settings, Source, SourceEvent,
    SourceKind, TableFacts, TablePlace, Unanswered,
};

/// Connections of the type `kafka`.
#[derive(Debug, Clone, Copy)]
pub struct Kind;

#[async_trait]
impl SourceKind for Kind {
    fn types(&self) -> &'static [&'static str] {
        &["kafka"]
    }

    fn is_comparable(&self) -> bool {
        false
    }

    fn declared_keys(&self) -> &'static [&'static str] {
        KEYS
    }

    fn declared(&self, settings: &Settings, place: &TablePlace) -> Result<Option<Schema>, Vec<Failure>> {
        let is_told = Topical::is_told(place);
        let topical = if is_told { told::topic_of(place) } else { Topical::read(place) }?;
        if settings.get("schema_registry").is_none() {
            topical.needs_no_registry(&settings.connection).map_err(|failure| vec![failure])?;
        }
        // What a registry tells is not known yet.
        Ok(Some(topical.schema).filter(|_| !is_told))
    }

    async fn open(&self, settings: &Settings) -> Result<Arc<dyn Source>, Failure> {
        let asker = Arc::new(Asker::new(Config::open(settings).await?)?);
        let connection = settings.connection.clone();
        Ok(Arc::new(Kafka { connection, asker, topics: Mutex::new(BTreeSet::new()) }))
    }
}

/// The topics of some brokers.
#[derive(Debug)]
struct Kafka {
    /// Its name.
    connection: String,
    asker: Arc<Asker>,
    /// Those of tables that were asked for.
    topics: Mutex<BTreeSet<String>>,
}

impl Kafka {
    fn note_topic(&self, topic: &str) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if !topics.contains(topic) {
            topics.insert(topic.to_owned());
        }
    }

    /// What a table of a topic is.
    async fn topical(&self, place: &TablePlace) -> Result<Topical, Untold> {
        let is_told = Topical::is_told(place);
        if let (Some(registry), true) = (&self.asker.registry, is_told) {
            return told::read(place, registry).await;
        }
        let topical = if is_told { told::topic_of(place) } else { Topical::read(place) };
        let topical = topical.map_err(Untold::Wrong)?;
        if self.asker.registry.is_none() {
            topical.needs_no_registry(&self.connection).map_err(|failure| Untold::Wrong(vec![failure]))?;
        }
        Ok(topical)
    }

    fn topics(&self) -> Vec<String> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// All that is wrong, as a sentence.
fn absence(failures: Vec<Failure>) -> Absence {
    let mut words = Vec::new();
    for Failure { message, detail, hint } in failures {
        words.push(format!("{}.", message.trim_end_matches('.')));
        words.extend([detail, hint].into_iter().filter(|part| !part.is_empty()));
    }
    let mut text = words.join(" ");
    if let Some(first) = text.get(..1).map(str::to_uppercase) {
        text.replace_range(..1, &first);
    }
    Absence(text)
}

fn no_position(error: &NoPosition) -> Failure {
    Failure {
        message: error.to_string(),
        detail: "It was written by a source of another kind, or by another version.".to_owned(),
        hint: "To go on, have all tables read anew: `tidemill resnapshot --all`.".to_owned(),
    }
}

fn refused(trouble: Trouble) -> Failure {
    trouble.failure
}

#[async_trait]
impl Source for Kafka {
    fn word(&self) -> &'static str {
        "kafka"
    }

    /// A table is what is declared of it, or else what a registry says; a topic that is not there is waited for.
    async fn describe(&self, wanted: &[TablePlace]) -> Result<Vec<Result<TableFacts, Absence>>, Unanswered> {
        let mut answers = Vec::with_capacity(wanted.len());
        for place in wanted {
            let topical = match self.topical(place).await {
                Err(Untold::Unasked(failure)) => return Err(failure.into()),
                Err(Untold::Wrong(failures)) => Err(absence(failures)),
                Ok(topical) => Ok(topical),
            };
            answers.push(topical.map(|topical| {
                self.note_topic(&topical.topic);
                let schema = topical.schema.clone();
                TableFacts { schema, left_out: Vec::new(), rows_estimate: 0, own: OwnFacts::new(topical) }
            }));
        }
        Ok(answers)
    }

    fn reads_by(&self, facts: &OwnFacts) -> Option<String> {
        facts.get::<Topical>().map(Topical::word)
    }

    fn start(
        &self,
        tables: Vec<FollowedTable>,
        resume: Option<Position>,
        limits: Limits,
    ) -> (mpsc::Receiver<SourceEvent>, Control) {
        let (events, receiver) = mpsc::channel(limits.queue.max(1));
        let (stop, stopped) = watch::channel(false);
        let (restart, restarted) = watch::channel(());
        let requests = Requests::default();
        let described = tables.into_iter().filter_map(|table| {
            let topical = table.facts.own.get::<Topical>()?.clone();
            self.note_topic(&topical.topic);
            Some((table, topical))
        });
        let feed = Feed { events, stopped, requests: requests.clone(), restarted };
        let run = Run::new(Arc::clone(&self.asker), described.collect(), resume.as_ref(), limits, feed);
        let task = tokio::spawn(run.run());
        (receiver, Control::new(stop, task).with_reloads(requests).with_restart(restart))
    }

    async fn current_position(&self) -> Result<Option<Position>, Failure> {
        let survey = self.asker.survey(self.topics()).await.map_err(refused)?;
        let end = |(topic, found): (String, Topic)| {
            let Topic::There(there) = found else { return None };
            let ends = there.into_iter().filter_map(|(p, ends)| Some((p, At { next: ends?.high, last: None })));
            Some(Kept { topic, tables: Vec::new(), at: ends.collect::<BTreeMap<_, _>>() })
        };
        let ends: Vec<Kept> = survey.into_iter().filter_map(end).collect();
        Ok(Some(position::write(ends.iter())))
    }

    fn reached(&self, current: &Position, target: &Position) -> Result<bool, Failure> {
        position::reached(current, target).map_err(|error| no_position(&error))
    }

    /// Offsets count messages, and nobody counts their bytes.
    async fn bytes_behind(&self, _position: &Position) -> Result<Option<u64>, Failure> {
        Ok(None)
    }

    async fn leads_on(&self, position: &Position) -> Result<(), Failure> {
        let kept = position::read(position).map_err(|error| no_position(&error))?;
        let topics: BTreeSet<String> = kept.iter().map(|lane| lane.topic.clone()).collect();
        let survey = self.asker.survey(topics.into_iter().collect()).await.map_err(refused)?;
        let mut lanes: Vec<Lane> = kept.into_iter().map(|kept| Lane::resumed(kept, None)).collect();
        for lane in &mut lanes {
            if let Some(topic) = survey.get(&lane.kept.topic) {
                lane.look(topic);
            }
        }
        stall_of(&lanes).map_or(Ok(()), Err)
    }

    async fn doctor(&self, wanted: &[TablePlace]) -> Vec<Check> {
        super::doctor::ask(&self.asker, &self.connection, wanted).await
    }
}
