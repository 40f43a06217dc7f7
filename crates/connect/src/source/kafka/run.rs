//! A source at work: two readers of messages, one for what is followed and one for what is loaded, and a look at the topics every few
//! seconds.
//!
//! ```text
//!   Asker ── Survey ──► lanes begin, break, heal ──► readers are assigned partitions and offsets
//!   readers ── messages ──► lanes take them ──► rows by their format ──► Builder ──► SourceEvent::Batch, with the offsets
//! ```
//!
//! A table that is loaded has a reader of its own, so that those that are followed do not wait for it; when it is there it goes over to
//! theirs, which steps back as far as the two are apart, and each lane passes over what it has seen.
//! Nothing is read while a batch waits to be taken; what waits in the client is bounded by bytes. Nor while a message waits for a schema
//! of the registry: that one message is held, and all behind it stay where they are.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{pending, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _, OwnedMessage, Timestamp};
use rdkafka::{Offset, TopicPartitionList};
use relation::{Position, TableId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ask::Asker;
use super::batch::Builder;
use super::declared::{Format, Start, Topical};
use super::ear::Ear;
use super::lanes::{Lane, Pending, Survey, Topic, Wants, merge, stall_of, sum_of, targets};
use super::message::{Documents, Message, Parsed, Read, Schemas, read};
use super::position::{self, Kept};
use super::reader::{Of, Reader, Silent, begin_reading, of_lane, received};
use super::shelf::Shelf;
use crate::kafka::{Trouble, code_of};
use crate::registry::{self, Found};
use crate::source::{Failure, FollowedTable, Limits, Load, Requests, SourceEvent, SourceState, now_us};

/// How often it is looked what becomes of the topics.
const LOOK: Duration = Duration::from_secs(5);
/// How soon it is looked again where a reader says that something is wrong.
const LOOK_SOON: Duration = Duration::from_secs(1);
/// How often offsets are handed over that have moved without rows.
const TICK: Duration = Duration::from_millis(500);
/// Messages of one reader that are taken before the other one has its turn.
const TURN_MESSAGES_MAX: usize = 256;
/// How long it is waited before a registry is asked again that does not do what it should: at first, and at most.
const ASK_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// How long it is waited before a schema is asked for once more of which the registry knows nothing: one of several may not have
/// heard of it yet.
const ASK_TWICE: Duration = Duration::from_secs(1);

/// A source of these tables, until it is stopped.
pub(super) struct Run {
    asker: Arc<Asker>,
    tables: BTreeMap<TableId, Topical>,
    lanes: Vec<Lane>,
    /// Tables whose load has not begun.
    pending: Vec<Pending>,
    /// Tables whose load was under way, and nobody knows how far: they are loaded again.
    again: Vec<TableId>,
    /// Why loads do not begin, as it was said.
    delayed: BTreeMap<TableId, String>,
    builder: Builder,
    schemas: Schemas,
    /// Schemas of the registry.
    shelf: Shelf,
    /// A message that waits for a schema, and the reader that it has come to.
    held: Option<(Of, OwnedMessage)>,
    asked: Option<Asked>,
    followed: Reader,
    loading: Reader,
    feed: Feed,
    /// What was said of the source last.
    said: Option<(SourceState, String)>,
    /// Readers have lost what they read, or it is in doubt: they are assigned anew with the next look.
    is_shaken: bool,
    /// Readers have lost their connections, and get them again by themselves.
    is_away: bool,
    silent: Silent,
    /// Of topics with several tables, which of them tells of what nobody can read.
    tellers: BTreeMap<String, TableId>,
}

/// A question to the registry.
struct Asked {
    id: u32,
    answer: JoinHandle<Result<Found, registry::Trouble>>,
    /// How long it is waited before the next one, where this one is not answered.
    wait: Duration,
    /// Why the one before was not.
    trouble: Option<Failure>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

/// The way to whoever follows the source, and what they want of it.
pub(super) struct Feed {
    pub(super) events: mpsc::Sender<SourceEvent>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) requests: Requests,
    pub(super) restarted: watch::Receiver<()>,
}

/// Why a source ends.
enum End {
    /// It was told to, or nobody listens any more.
    Stopped,
    Failed(Failure),
}

/// What is to be seen to next.
enum Next<'m> {
    Looked(Result<Survey, Trouble>),
    Reload(BTreeMap<TableId, String>),
    Anew,
    Tick,
    /// The registry has answered, or not.
    Found(Result<Found, registry::Trouble>),
    /// Nothing waits to be read.
    Idle,
    /// A message has come to a reader, or an error; some may have come with it.
    Came(Of, Result<BorrowedMessage<'m>, KafkaError>),
}

impl Feed {
    async fn send(&mut self, event: SourceEvent) -> Result<(), End> {
        tokio::select! {
            sent = self.events.send(event) => sent.map_err(|_| End::Stopped),
            _ = self.stopped.wait_for(|stop| *stop) => Err(End::Stopped),
        }
    }
}

impl Run {
    pub(super) fn new(
        asker: Arc<Asker>,
        followed: Vec<(FollowedTable, Topical)>,
        resume: Option<&Position>,
        limits: Limits,
        feed: Feed,
    ) -> Self {
        let kept = resume.and_then(|position| position::read(position).ok()).unwrap_or_default();
        let (mut lanes, mut pending, mut tables, mut again) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        for (FollowedTable { id, load, .. }, topical) in followed {
            let known = kept.iter().find(|lane| lane.tables.contains(&id));
            let of_topic = known.filter(|lane| lane.topic == topical.topic);
            let left = of_topic.map(|lane| Kept { tables: vec![id], ..lane.clone() });
            let begins = |from_end| Pending { table: id, topic: topical.topic.clone(), from_end };
            match (load, left) {
                (Load::Complete, Some(left)) => lanes.push(Lane::resumed(left, None)),
                (Load::Complete, None) => lanes.push(Lane::lost(&topical.topic, id)),
                (Load::Pending { cursor: Some(cursor) }, left) => match (targets(&cursor), left) {
                    (Some(to), Some(left)) => lanes.push(Lane::resumed(left, Some(to))),
                    _ => again.push(id),
                },
                // What was read once is read anew from the beginning, whatever it began with then.
                (Load::Pending { cursor: None }, _) => {
                    pending.push(begins(known.is_none() && topical.start == Start::Latest))
                }
            }
            tables.insert(id, topical);
        }
        merge(&mut lanes);
        Self {
            asker,
            tables,
            lanes,
            pending,
            again,
            delayed: BTreeMap::new(),
            builder: Builder::new(limits),
            schemas: Schemas::default(),
            shelf: Shelf::default(),
            held: None,
            asked: None,
            followed: Reader::default(),
            loading: Reader::default(),
            feed,
            said: None,
            is_shaken: true,
            is_away: false,
            silent: Silent::default(),
            tellers: BTreeMap::new(),
        }
    }

    /// Runs until stopped.
    pub(super) async fn run(mut self) {
        if let Err(End::Failed(failure)) = self.work().await {
            self.feed.send(SourceEvent::Failed(failure)).await.ok();
            // It is ended by whoever began it.
            self.feed.stopped.wait_for(|stop| *stop).await.map(drop).ok();
        }
        let clients = (self.followed.client.take(), self.loading.client.take());
        // Closing waits for the client's threads.
        tokio::task::spawn_blocking(move || drop(clients)).await.ok();
    }

    async fn work(&mut self) -> Result<(), End> {
        self.say(SourceState::Connecting, String::new()).await?;
        for table in std::mem::take(&mut self.again) {
            self.begin_anew(table, "it is not known how far its load was".to_owned()).await?;
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = Some(self.look());
        let mut looked = Instant::now();
        let mut turn = [Of::Followed, Of::Loading];
        loop {
            turn.reverse();
            let clients = turn.map(|of| self.reader(of).client.clone());
            let [first, second] = &clients;
            let (has_rows, is_held) = (self.builder.has_rows(), self.held.is_some());
            let next = tokio::select! {
                biased;
                _ = self.feed.stopped.wait_for(|stop| *stop) => return Err(End::Stopped),
                tables = self.feed.requests.taken() => Next::Reload(tables),
                anew = self.feed.restarted.changed() => match anew {
                    Ok(()) => Next::Anew,
                    Err(_) => return Err(End::Stopped),
                },
                answer = answered(&mut look) => Next::Looked(answer),
                found = found(&mut self.asked) => Next::Found(found),
                _ = tick.tick() => Next::Tick,
                came = received(first.as_deref()), if !is_held => Next::Came(turn[0], came),
                came = received(second.as_deref()), if !is_held => Next::Came(turn[1], came),
                () = ready(()), if has_rows => Next::Idle,
            };
            match next {
                Next::Looked(answer) => {
                    look = None;
                    looked = Instant::now();
                    self.note_look(answer).await?;
                }
                Next::Reload(tables) => {
                    self.flush().await?;
                    for (table, reason) in tables {
                        self.begin_anew(table, reason).await?;
                    }
                    look.get_or_insert_with(|| self.look());
                }
                Next::Anew => {
                    self.flush().await?;
                    for table in self.tables.keys().copied().collect::<Vec<_>>() {
                        self.begin_anew(table, "all tables are loaded again".to_owned()).await?;
                    }
                    look.get_or_insert_with(|| self.look());
                }
                Next::Tick => {
                    self.pass();
                    self.note_heard().await?;
                    if self.builder.has_news() || self.lanes.iter().any(Lane::is_loaded) {
                        self.flush().await?;
                    }
                    // What lasts is tried at ease: others are read meanwhile.
                    let is_new = self.is_shaken && self.complaint().is_none();
                    let is_soon = is_new || self.is_away || self.silent.is_new();
                    let every = if is_soon { LOOK_SOON } else { LOOK };
                    if look.is_none() && looked.elapsed() >= every {
                        look = Some(self.look());
                    }
                }
                Next::Found(found) => self.note_found(found).await?,
                Next::Idle => {
                    self.pass();
                    self.flush().await?;
                }
                Next::Came(of, came) => {
                    match came {
                        Ok(message) => self.come(of, &message),
                        Err(error) => self.note_error(of, &error),
                    }
                    for (of, client) in turn.into_iter().zip(&clients) {
                        client.iter().for_each(|client| self.drain(of, client));
                    }
                    if self.builder.is_full() {
                        self.pass();
                        self.flush().await?;
                    }
                }
            }
        }
    }

    fn reader(&self, of: Of) -> &Reader {
        match of {
            Of::Followed => &self.followed,
            Of::Loading => &self.loading,
        }
    }

    fn reader_mut(&mut self, of: Of) -> &mut Reader {
        match of {
            Of::Followed => &mut self.followed,
            Of::Loading => &mut self.loading,
        }
    }

    /// What cannot be read and was not to be read for a while.
    fn complaint(&self) -> Option<&Failure> {
        let complaints = [&self.followed, &self.loading].map(|reader| reader.complaint.as_ref());
        complaints.into_iter().flatten().find(|known| known.is_lasting).map(|known| &known.failure)
    }

    /// Notes what is read again.
    async fn note_heard(&mut self) -> Result<(), End> {
        let mut is_news = false;
        for of in [Of::Followed, Of::Loading] {
            let reader = self.reader_mut(of);
            if reader.is_heard() {
                is_news |= reader.complaint.take().is_some_and(|known| known.is_lasting);
            }
        }
        if is_news { self.say_state().await } else { Ok(()) }
    }

    /// Asks for the topics, beside all else.
    fn look(&self) -> JoinHandle<Result<Survey, Trouble>> {
        let topics: BTreeSet<String> = self.tables.values().map(|table| table.topic.clone()).collect();
        let asker = Arc::clone(&self.asker);
        tokio::spawn(async move { asker.survey(topics.into_iter().collect()).await })
    }

    async fn note_look(&mut self, answer: Result<Survey, Trouble>) -> Result<(), End> {
        let survey = match answer {
            Ok(survey) => survey,
            Err(trouble) if trouble.is_ours => return Err(End::Failed(trouble.failure)),
            Err(trouble) => {
                // What answers next may be another broker, with other topics.
                self.is_shaken = true;
                let failure = trouble.failure.and(&format!("It is tried again every {} s.", LOOK.as_secs()));
                return self.say(SourceState::Stalled, failure.text()).await;
            }
        };
        if self.is_shaken {
            self.lanes.iter_mut().for_each(Lane::doubt);
        }
        self.is_away = false;
        self.silent.note(&self.lanes, &survey);
        let mut is_other = std::mem::take(&mut self.is_shaken);
        for lane in &mut self.lanes {
            if let Some(topic) = survey.get(&lane.kept.topic) {
                is_other |= lane.look(topic);
            }
        }
        if self.begin(&survey).await? || is_other {
            self.assign(is_other)?;
        }
        self.say_state().await
    }

    /// Begins loads whose topics are there. Answers whether there was one.
    async fn begin(&mut self, survey: &Survey) -> Result<bool, End> {
        if self.pending.is_empty() {
            return Ok(false);
        }
        // What begins comes in a batch of its own: what else would be in it of a table without a key would be void.
        self.flush().await?;
        let mut begun: Vec<Lane> = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            let lane = match survey.get(&pending.topic) {
                Some(Topic::There(there)) => Lane::begun(&pending.topic, vec![pending.table], there, pending.from_end)
                    .ok_or_else(|| format!("Not all partitions of topic \"{}\" answer.", pending.topic)),
                Some(Topic::Denied(failure)) => Err(failure.text()),
                Some(Topic::Missing) => Err(format!(
                    "there is no topic \"{}\"\nDetail: It is looked for by itself.\nHint: Check `topic` in the table's `meta`, and that \
                     the topic was made.",
                    pending.topic
                )),
                None => Err("Its topic was not asked for yet.".to_owned()),
            };
            match lane {
                Ok(lane) => {
                    self.delayed.remove(&pending.table);
                    begun.push(lane);
                }
                Err(reason) => {
                    let table = pending.table;
                    self.pending.push(pending);
                    if self.delayed.get(&table) != Some(&reason) {
                        self.delayed.insert(table, reason.clone());
                        self.feed.send(SourceEvent::Delayed { table, reason }).await?;
                    }
                }
            }
        }
        if begun.is_empty() {
            return Ok(false);
        }
        merge(&mut begun);
        for lane in &begun {
            for table in &lane.kept.tables {
                self.builder.chunk(*table, lane.cursor(), false, lane.messages_to_load());
            }
        }
        self.lanes.append(&mut begun);
        self.hand_over().await?;
        Ok(true)
    }

    /// A table is to be loaded again, from its topic's beginning.
    async fn begin_anew(&mut self, table: TableId, reason: String) -> Result<(), End> {
        let Some(topical) = self.tables.get(&table) else { return Ok(()) };
        let topic = topical.topic.clone();
        for lane in &mut self.lanes {
            lane.kept.tables.retain(|of| *of != table);
        }
        // They are assigned anew for it: another lane of it begins elsewhere.
        for reader in [&mut self.followed, &mut self.loading] {
            reader.reads.0.remove(&table);
        }
        self.lanes.retain(|lane| !lane.kept.tables.is_empty());
        self.pending.retain(|pending| pending.table != table);
        self.pending.push(Pending { table, topic, from_end: false });
        self.delayed.remove(&table);
        self.feed.send(SourceEvent::Reload { table, reason }).await
    }

    /// Gives readers what their lanes want; anew, whatever they read, where `all` of it may be otherwise.
    fn assign(&mut self, all: bool) -> Result<(), End> {
        self.tellers.clear();
        for (id, table) in self.tables.iter().filter(|(_, table)| table.is_shared()) {
            self.tellers.entry(table.topic.clone()).or_insert(*id);
        }
        for of in [Of::Followed, Of::Loading] {
            let mut tables = BTreeSet::new();
            let mut wanted: BTreeMap<(String, i32), i64> = BTreeMap::new();
            for lane in self.lanes.iter().filter(|lane| lane.broken.is_none() && of_lane(lane) == of) {
                tables.extend(lane.kept.tables.iter().copied());
                for partition in lane.kept.at.keys() {
                    let Some(from) = lane.from(*partition) else { continue };
                    let at = wanted.entry((lane.kept.topic.clone(), *partition)).or_insert(from);
                    *at = from.min(*at);
                }
            }
            let reads = (tables, wanted.keys().cloned().collect());
            if !all && self.reader(of).reads == reads {
                continue;
            }
            let client = begin_reading(&self.asker, &wanted).map_err(|trouble| End::Failed(trouble.failure))?;
            self.lanes.iter_mut().filter(|lane| of_lane(lane) == of).for_each(Lane::mend);
            let reader = self.reader_mut(of);
            let before = reader.renewed(client, reads);
            // What was held of it comes again, where it is still to be read.
            self.held.take_if(|(held_of, _)| *held_of == of);
            // Closing it waits for its threads.
            tokio::task::spawn_blocking(move || drop(before));
        }
        Ok(())
    }

    /// Takes what waits already.
    fn drain(&mut self, of: Of, client: &StreamConsumer<Ear>) {
        let mut context = TaskContext::from_waker(Waker::noop());
        for _ in 0..TURN_MESSAGES_MAX {
            if self.builder.is_full() || self.held.is_some() {
                break;
            }
            match pin!(client.recv()).poll(&mut context) {
                Poll::Ready(Ok(message)) => self.come(of, &message),
                Poll::Ready(Err(error)) => self.note_error(of, &error),
                Poll::Pending => break,
            }
        }
    }

    /// A message has come to a reader. It is taken, or held until the schemas are there that it names.
    fn come(&mut self, of: Of, message: &BorrowedMessage<'_>) {
        if self.lacking(of, &of_client(message)).is_some() {
            self.held = Some((of, message.detach()));
            self.see_to_held();
        } else {
            self.take(of, of_client(message));
        }
    }

    /// The number of a schema that a message names, and nobody has asked for.
    fn lacking(&self, of: Of, message: &Message<'_>) -> Option<u32> {
        let is_avro = |id: &TableId| self.tables.get(id).is_some_and(|table| table.format == Format::Avro);
        let lanes = self.lanes.iter().filter(|lane| lane.kept.topic == message.topic && of_lane(lane) == of);
        let mut tables = lanes.filter(|lane| lane.broken.is_none()).flat_map(|lane| &lane.kept.tables);
        if tables.any(is_avro) { self.shelf.lacking(message) } else { None }
    }

    /// Takes what is held, or asks for what it lacks.
    fn see_to_held(&mut self) {
        let Some((of, message)) = self.held.take() else { return };
        match self.lacking(of, &of_client(&message)) {
            None => self.take(of, of_client(&message)),
            Some(id) => {
                if self.asked.is_none() {
                    let ([wait, _], trouble) = (ASK_AGAIN, None);
                    self.asked = self.ask(id, Duration::ZERO).map(|answer| Asked { id, answer, wait, trouble });
                }
                // Who has no registry has no table of Avro.
                self.held = self.asked.is_some().then_some((of, message));
            }
        }
    }

    /// Asks for a schema, after a while.
    fn ask(&self, id: u32, wait: Duration) -> Option<JoinHandle<Result<Found, registry::Trouble>>> {
        let registry = Arc::clone(self.asker.registry.as_ref()?);
        Some(tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            match registry.schema(id).await {
                Ok(Found::None(_)) => {
                    tokio::time::sleep(ASK_TWICE).await;
                    registry.schema(id).await
                }
                answer => answer,
            }
        }))
    }

    /// What the registry has answered: a schema, or that there is none; or it is asked again, and nothing is read meanwhile.
    async fn note_found(&mut self, found: Result<Found, registry::Trouble>) -> Result<(), End> {
        let Some(asked) = self.asked.take() else { return Ok(()) };
        match found {
            Ok(found) => {
                self.shelf.put(asked.id, found);
                self.see_to_held();
            }
            // Nobody waits for it any more.
            Err(_) if self.held.is_none() => {}
            Err(registry::Trouble { failure, is_ours }) => {
                let [_, most] = ASK_AGAIN;
                let wait = if is_ours { most } else { asked.wait };
                let told = failure.and(&format!(
                    "No topic of the source is read meanwhile. It is asked again within {} s.",
                    most.as_secs()
                ));
                let answer = self.ask(asked.id, wait);
                let next = |answer| Asked { id: asked.id, answer, wait: (2 * wait).min(most), trouble: Some(told) };
                self.asked = answer.map(next);
            }
        }
        self.say_state().await
    }

    /// Whose lanes are of a message's topic, and have not seen it, take it.
    fn take(&mut self, of: Of, message: Message<'_>) {
        let sum = sum_of(&message);
        let Self { lanes, tables, builder, schemas, shelf, is_shaken, tellers, .. } = self;
        let (json, documents) = (OnceCell::new(), OnceCell::new());
        let avro = OnceCell::new();
        let (now, mut changes) = (now_us(), 0);
        for lane in lanes.iter_mut().filter(|lane| lane.kept.topic == message.topic && of_lane(lane) == of) {
            let was_broken = lane.broken.is_some();
            let wants = lane.take(&message, sum);
            *is_shaken |= lane.broken.is_some() && !was_broken;
            if wants == Wants::Nothing {
                continue;
            }
            builder.moved();
            for id in &lane.kept.tables {
                let Some(table) = tables.get(id) else { continue };
                let (parsed, message) = match table.format {
                    Format::Avro => {
                        let documents = documents.get_or_init(|| Documents::of(&message, shelf));
                        (avro.get_or_init(|| Parsed::of_avro(&message, documents)), documents.shown(&message))
                    }
                    _ => (json.get_or_init(|| Parsed::of(&message)), message),
                };
                match read(table, parsed, schemas) {
                    Read::Elsewhere => {}
                    Read::Told(told) => {
                        for told in told {
                            builder.tell((*id, table), told, &message, now);
                            changes += 1;
                        }
                    }
                    Read::Poison(_) if table.is_shared() && tellers.get(message.topic) != Some(id) => {}
                    Read::Poison(reason) => {
                        builder.poison(*id, reason, &message, now);
                        changes += 1;
                    }
                }
            }
        }
        // How long ago what is loaded was written is no delay of ours.
        if changes > 0 && of == Of::Followed {
            builder.commit(message.at_us, now, changes);
        }
    }

    /// What the clients have passed that was no message: marks of transactions, what was aborted, and what is not kept any more.
    fn pass(&mut self) {
        for of in [Of::Followed, Of::Loading] {
            let Some(client) = self.reader(of).client.clone() else { continue };
            let positions = client.position().ok();
            for element in positions.iter().flat_map(TopicPartitionList::elements) {
                if let Offset::Offset(offset) = element.offset() {
                    self.pass_to(of, element.topic(), element.partition(), offset);
                }
            }
            for ((topic, partition), next) in client.context().fetched().next {
                self.pass_to(of, &topic, partition, next);
            }
        }
    }

    fn pass_to(&mut self, of: Of, topic: &str, partition: i32, offset: i64) {
        // The client has passed what is held, and nobody has taken it.
        let offset = match &self.held {
            Some((held_of, held)) if (*held_of, held.topic(), held.partition()) == (of, topic, partition) => {
                offset.min(held.offset())
            }
            _ => offset,
        };
        for lane in self.lanes.iter_mut().filter(|lane| of_lane(lane) == of && lane.kept.topic == topic) {
            if lane.pass(partition, offset) {
                self.builder.moved();
            }
        }
    }

    /// Hands over what has come, and the loads that are done with it.
    async fn flush(&mut self) -> Result<(), End> {
        let mut is_loaded = false;
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_loaded()) {
            let cursor = lane.cursor();
            for table in &lane.kept.tables {
                self.builder.chunk(*table, cursor.clone(), true, 0);
            }
            lane.to = None;
            is_loaded = true;
        }
        if !self.builder.has_news() {
            return Ok(());
        }
        self.hand_over().await?;
        if is_loaded {
            self.assign(false)?;
            self.say_state().await?;
        }
        Ok(())
    }

    async fn hand_over(&mut self) -> Result<(), End> {
        merge(&mut self.lanes);
        // What is to be read anew is not begun by its `start` when it is begun by the next one.
        let anew = |pending: &&Pending| !pending.from_end;
        let waits =
            |pending: &Pending| Kept { topic: pending.topic.clone(), tables: vec![pending.table], at: BTreeMap::new() };
        let waiting: Vec<Kept> = self.pending.iter().filter(anew).map(waits).collect();
        let position = position::write(self.lanes.iter().map(|lane| &lane.kept).chain(&waiting));
        let batch = self.builder.take(position);
        self.feed.send(SourceEvent::Batch(batch)).await
    }

    /// What a client says of its reading. What it cannot go on from is looked into, and said where the next client says it too.
    fn note_error(&mut self, of: Of, error: &KafkaError) {
        match (error, code_of(error)) {
            // The end of a partition.
            (KafkaError::PartitionEOF(_), _) => {}
            // What it is in no group for, it need not be let into.
            (_, Some(Code::GroupAuthorizationFailed)) => {}
            (
                _,
                Some(
                    Code::BrokerTransportFailure
                    | Code::AllBrokersDown
                    | Code::Resolve
                    | Code::OperationTimedOut
                    | Code::RequestTimedOut
                    | Code::SSL
                    | Code::Authentication
                    | Code::SaslAuthenticationFailed,
                ),
            ) => self.is_away = true,
            _ => {
                tracing::debug!(%error, "a reader of Kafka may not go on");
                // It goes on behind what it cannot read.
                self.lanes.iter_mut().filter(|lane| of_lane(lane) == of).for_each(Lane::tear);
                self.is_shaken = true;
                let config = self.asker.config.clone();
                self.reader_mut(of).complain(&config, LOOK, error);
            }
        }
    }

    /// Why not all is read that is to be read, if so.
    fn stall(&self) -> Option<Failure> {
        let mut stalls =
            [stall_of(&self.lanes), self.complaint().cloned(), self.silent.failure()].into_iter().flatten();
        let first = stalls.next()?;
        Some(stalls.fold(first, |told, other| told.and(&format!("And {}: {}", other.message, other.detail))))
    }

    async fn say_state(&mut self) -> Result<(), End> {
        if let Some(failure) = self.stall() {
            return self.say(SourceState::Stalled, failure.text()).await;
        }
        if let Some(failure) =
            self.asked.as_ref().filter(|_| self.held.is_some()).and_then(|asked| asked.trouble.as_ref())
        {
            let told = failure.text();
            return self.say(SourceState::Stalled, told).await;
        }
        let is_loading = !self.pending.is_empty() || self.lanes.iter().any(Lane::is_loading);
        let state = if is_loading { SourceState::Snapshot } else { SourceState::Streaming };
        self.say(state, String::new()).await
    }

    async fn say(&mut self, state: SourceState, reason: String) -> Result<(), End> {
        let news = (state, reason);
        if self.said.as_ref() == Some(&news) {
            return Ok(());
        }
        self.said = Some(news.clone());
        self.feed.send(SourceEvent::State(news.0, news.1)).await
    }
}

/// A message as the client gives it.
fn of_client(message: &impl rdkafka::Message) -> Message<'_> {
    let at_us = match message.timestamp() {
        Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => Some(ms.saturating_mul(1000)),
        Timestamp::NotAvailable => None,
    };
    Message {
        topic: message.topic(),
        partition: message.partition(),
        offset: message.offset(),
        at_us,
        key: message.key(),
        value: message.payload(),
    }
}

/// The registry's answer; never, where it was not asked.
async fn found(asked: &mut Option<Asked>) -> Result<Found, registry::Trouble> {
    match asked {
        Some(asked) => match (&mut asked.answer).await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => pending().await,
        },
        None => pending().await,
    }
}

/// The answer to a question that was asked; never, where none was.
async fn answered(look: &mut Option<JoinHandle<Result<Survey, Trouble>>>) -> Result<Survey, Trouble> {
    match look {
        Some(asked) => match asked.await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Trouble::passing("the question was broken off", "Tidemill stops.")),
        },
        None => pending().await,
    }
}
