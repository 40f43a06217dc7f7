//! Questions before the first start: do the brokers answer, are the topics there, for how long are messages kept, and is the first
//! message of each table what its declaration says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::consumer::Consumer;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::ask::{Asker, reader};
use super::declared::{Format, Topical};
use super::lanes::{Ends, Survey, Topic};
use super::message::{Documents, Message, Parsed, Read, Schemas, Told, read};
use super::shelf::Shelf;
use super::told;
use crate::kafka::{Context, PATIENCE};
use crate::registry::Found;
use crate::source::{Check, Failure, TablePlace};

/// Messages of a topic that are looked at.
const MESSAGES_MAX: usize = 200;
/// How long the first messages of a topic are waited for.
const FIRST_MESSAGES: Duration = Duration::from_secs(5);

pub(super) async fn ask(asker: &Arc<Asker>, connection: &str, wanted: &[TablePlace]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut tables: BTreeMap<String, Vec<(&TablePlace, Topical)>> = BTreeMap::new();
    for place in wanted {
        let topical = match (&asker.registry, Topical::is_told(place)) {
            (Some(registry), true) => told::read(place, registry).await.map_err(Vec::from),
            (None, true) => told::topic_of(place),
            (_, false) => Topical::read(place),
        };
        match topical {
            Ok(topical) => tables.entry(topical.topic.clone()).or_default().push((place, topical)),
            Err(failures) => checks.extend(failures.into_iter().map(|Failure { message, detail, hint }| {
                Check::failed("declared", format!("table {}: {message}", place.name), detail, hint)
            })),
        }
    }
    let topics: BTreeSet<String> = tables.keys().cloned().collect();
    let survey = match asker.survey(topics.into_iter().collect()).await {
        Ok(survey) => survey,
        Err(trouble) => {
            let Failure { message, detail, hint } = trouble.failure;
            checks.push(Check::failed("brokers", message, detail, hint));
            return checks;
        }
    };
    checks.push(Check::ok("brokers", format!("Kafka answers at {}", asker.config.address())));
    let failed = |Failure { message, detail, hint }| Check::failed("registry", message, detail, hint);
    if let Some(registry) = &asker.registry {
        checks.push(match registry.look().await {
            Ok(()) => Check::ok("registry", format!("the schema registry answers at {}", registry.address())),
            Err(trouble) => failed(trouble.failure),
        });
    } else if let Some(failure) =
        tables.values().flatten().find_map(|(_, topical)| topical.needs_no_registry(connection).err())
    {
        checks.push(failed(failure));
    }
    for (topic, of_topic) in &tables {
        of_topic_checks(asker, topic, of_topic, &survey, &mut checks).await;
    }
    checks
}

async fn of_topic_checks(
    asker: &Asker,
    topic: &str,
    tables: &[(&TablePlace, Topical)],
    survey: &Survey,
    checks: &mut Vec<Check>,
) {
    let there = match survey.get(topic) {
        Some(Topic::There(there)) => there,
        Some(Topic::Denied(failure)) => {
            let Failure { message, detail, hint } = failure.clone();
            checks.push(Check::failed("topic", message, detail, hint));
            return;
        }
        Some(Topic::Missing) | None => {
            let hint = "Check `topic` in the table's `meta`, and make the topic. Until then its tables wait for it.";
            checks.push(Check::failed("topic", format!("there is no topic \"{topic}\""), "", hint));
            return;
        }
    };
    let messages: i64 = there.values().flatten().map(|ends| ends.high - ends.low).sum();
    let away = there.values().filter(|ends| ends.is_none()).count();
    let message = format!("topic \"{topic}\": partitions: {}, offsets kept: {messages}", there.len());
    checks.push(match away {
        0 => Check::ok("topic", message),
        _ => Check::warning("topic", message, format!("Of {away} of its partitions no leader answers."), ""),
    });
    checks.extend(retention(asker, topic, tables).await);
    let first = first_messages(asker, topic, tables, there).await;
    for ((place, _), found) in tables.iter().zip(first) {
        let of = format!("table {}", place.name);
        checks.push(match found {
            Some(Ok(())) => Check::ok("message", format!("{of}: its first message is read")),
            Some(Err((at, reason))) => {
                let hint = "Compare `format`, `key` and the columns' `data_type`s with the message.";
                Check::failed("message", format!("{of}: its first message ({at}) cannot be read"), reason, hint)
            }
            None if messages == 0 => Check::ok("message", format!("{of}: there is no message yet")),
            None => {
                let detail = "Its `database`, `table` or `identifier` may name what no message has.";
                Check::warning("message", format!("{of}: none of the topic's first messages is its"), detail, "")
            }
        });
    }
}

/// For how long messages are kept, where that may be asked.
async fn retention(asker: &Asker, topic: &str, tables: &[(&TablePlace, Topical)]) -> Option<Check> {
    let client: AdminClient<Context> = asker.config.client().create_with_context(Context::default()).ok()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let answers = client.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await.ok()?;
    let settings = answers.into_iter().next()?.ok()?;
    let value = |name: &str| settings.get(name).and_then(|entry| entry.value.clone());
    let kept_ms: i64 = value("retention.ms")?.parse().ok()?;
    if value("cleanup.policy").is_some_and(|policy| !policy.contains("delete")) {
        return Some(Check::ok("retention", format!("topic \"{topic}\" keeps the last message of each key")));
    }
    if kept_ms < 0 {
        return Some(Check::ok("retention", format!("topic \"{topic}\" keeps its messages for ever")));
    }
    let message = format!("topic \"{topic}\" keeps its messages for {}", span(kept_ms / 1000));
    if tables.iter().all(|(_, topical)| !topical.is_keyed()) {
        return Some(Check::ok("retention", message));
    }
    let detail = "A table that is loaded has the rows whose messages are there: those that have not changed since then are missing.";
    let hint =
        "Have the topic compacted (`cleanup.policy=compact`), or written anew from its source before the first load.";
    Some(Check::warning("retention", message, detail, hint))
}

fn span(seconds: i64) -> String {
    match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7_200.. => format!("{} hours", seconds / 3_600),
        _ => format!("{seconds} s"),
    }
}

type First = Option<Result<(), (String, String)>>;

/// How the first message of each table is read, as far as there is one among the topic's first.
async fn first_messages(
    asker: &Asker,
    topic: &str,
    tables: &[(&TablePlace, Topical)],
    there: &BTreeMap<i32, Option<Ends>>,
) -> Vec<First> {
    let mut found: Vec<First> = vec![None; tables.len()];
    let Ok(client) = reader(&asker.config) else { return found };
    let mut list = TopicPartitionList::new();
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, ends) in there.iter().filter_map(|(p, ends)| Some((*p, (*ends)?))) {
        if ends.low < ends.high && list.add_partition_offset(topic, partition, Offset::Offset(ends.low)).is_ok() {
            last.insert(partition, ends.high);
        }
    }
    if last.is_empty() || client.assign(&list).is_err() {
        return found;
    }
    let (mut schemas, mut shelf) = (Schemas::default(), Shelf::default());
    let look = async {
        for _ in 0..MESSAGES_MAX {
            // What a client says of its connections, and of the end of a partition, is no message.
            let Ok(message) = client.recv().await else { continue };
            let message = Message {
                topic,
                partition: message.partition(),
                offset: message.offset(),
                at_us: None,
                key: message.key(),
                value: message.payload(),
            };
            if tables.iter().any(|(_, topical)| topical.format == Format::Avro) {
                fill(&mut shelf, asker, &message).await;
            }
            let documents = Documents::of(&message, &shelf);
            let (json, avro) = (Parsed::of(&message), Parsed::of_avro(&message, &documents));
            for ((_, topical), found) in tables.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                let parsed = if topical.format == Format::Avro { &avro } else { &json };
                *found = match read(topical, parsed, &mut schemas) {
                    Read::Elsewhere => None,
                    Read::Poison(reason) => Some(Err((message.to_string(), reason))),
                    Read::Told(told) => {
                        let bad = told.into_iter().find_map(|told| match told {
                            Told::Unread { reason, .. } => Some(reason),
                            _ => None,
                        });
                        Some(bad.map_or(Ok(()), |reason| Err((message.to_string(), reason))))
                    }
                };
            }
            if found.iter().all(Option::is_some) {
                break;
            }
        }
    };
    // The topic may have fewer messages than are looked at.
    tokio::time::timeout(FIRST_MESSAGES, look).await.ok();
    tokio::task::spawn_blocking(move || drop(client)).await.ok();
    found
}

/// Asks for the schemas that a message names.
async fn fill(shelf: &mut Shelf, asker: &Asker, message: &Message<'_>) {
    let Some(registry) = &asker.registry else { return };
    while let Some(id) = shelf.lacking(message) {
        let found = registry.schema(id).await;
        shelf.put(id, found.unwrap_or_else(|trouble| Found::None(trouble.failure.text())));
    }
}
