//! Messages into Kafka, with `SLOW=1`: a real server, and the C client's own stand-in for brokers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connect::maxwell::{Filter, Job, Options, PartitionBy, Routing, StopAt, Teller, To};
use connect::source::mysql::{MysqlConfig, Start, Tls};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Folder;
use crate::capture::server::Outcome;

const PARTITIONS: i32 = 12;
const ROWS: i32 = 500;
const PATIENCE: Duration = Duration::from_secs(30);

/// Brokers that are away when it begins: it waits, says so, and sends all of it when they are back, to the partitions that Java would
/// choose.
pub(super) async fn waits_for_brokers(server: &str, port: u16) -> Outcome {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let opts =
        OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).user(Some("root")).prefer_socket(false);
    let mut conn = Conn::new(opts).await.map_err(|e| text(&e))?;
    let database = format!("connect_maxwell_kafka_{server}");
    for sql in [
        format!("DROP DATABASE IF EXISTS {database}"),
        format!("CREATE DATABASE {database}"),
        format!("CREATE TABLE {database}.t (id int primary key, word varchar(20))"),
    ] {
        conn.query_drop(sql).await.map_err(|e| text(&e))?;
    }
    let asks = if server == "mysql" { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let row: Option<Row> = conn.query_first(asks).await.map_err(|e| text(&e))?;
    let row = row.ok_or("the server writes no log")?;
    let (file, offset): (String, u64) = (row.get(0).ok_or("file")?, row.get(1).ok_or("offset")?);
    for id in 0..ROWS {
        let sql = format!("INSERT INTO {database}.t VALUES ({id}, 'first')");
        conn.query_drop(sql).await.map_err(|e| text(&e))?;
    }
    conn.query_drop(format!("UPDATE {database}.t SET word = 'second'")).await.map_err(|e| text(&e))?;

    let cluster = MockCluster::new(1).map_err(|e| text(&e))?;
    cluster.create_topic("changes", PARTITIONS, 1).map_err(|e| text(&e))?;
    cluster.broker_down(1).map_err(|e| text(&e))?;
    let folder = Folder::new();
    let job = Job {
        server: MysqlConfig {
            port,
            tls: Tls::Disabled,
            start: Start::Binlog { file, offset },
            ..MysqlConfig::default()
        },
        options: Options::default(),
        filter: Filter::parse(&format!("exclude: *.*, include: {database}.*")).map_err(|e| text(&e))?,
        routing: Routing { by: PartitionBy::PrimaryKey, topic: "changes".to_owned(), ..Routing::default() },
        to: To::Kafka {
            settings: vec![("bootstrap.servers".to_owned(), cluster.bootstrap_servers())],
            dead_letter_topic: None,
        },
        state: folder.0.join("state"),
        stop_at: Some(StopAt::End),
        own_database: "maxwell".to_owned(),
        client_id: "maxwell".to_owned(),
        bootstraps: false,
    };
    let waits = Arc::new(Notify::new());
    let heard = Arc::clone(&waits);
    let teller = Teller::new(move |_, line| {
        if line.contains("takes messages") {
            heard.notify_one();
        }
    });
    let (_stop, stopped) = watch::channel(false);
    let back = async {
        waits.notified().await;
        cluster.broker_up(1).map_err(|e| text(&e))
    };
    let (done, back) = tokio::join!(connect::maxwell::run(job, stopped, teller), back);
    back?;
    let done = done.map_err(|failure| failure.text())?;
    let wanted = u64::from(ROWS.unsigned_abs()) * 2;
    if done.messages != wanted || done.position.is_none() {
        return Err(format!("{done:?} instead of {wanted} messages"));
    }
    check(&cluster.bootstrap_servers())?;
    conn.query_drop(format!("DROP DATABASE {database}")).await.map_err(|e| text(&e))?;
    conn.disconnect().await.map_err(|e| text(&e))
}

/// Each key twice, first the one word and then the other, in its partition.
fn check(brokers: &str) -> Outcome {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers).set("group.id", "check").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = client.create().map_err(|e| e.to_string())?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset("changes", partition, Offset::Beginning).map_err(|e| e.to_string())?;
    }
    consumer.assign(&all).map_err(|e| e.to_string())?;
    let mut words: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    let (mut count, begun) = (0, Instant::now());
    while count < ROWS * 2 {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{count} messages came"));
        }
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message.map_err(|e| e.to_string())?;
        let json: serde_json::Value =
            serde_json::from_slice(message.payload().unwrap_or_default()).map_err(|e| e.to_string())?;
        let id = json["data"]["id"].as_i64().and_then(|id| i32::try_from(id).ok()).ok_or("no id")?;
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        if !key.ends_with(&format!("\"table\":\"t\",\"pk.id\":{id}}}")) {
            return Err(format!("the key of {id} is {key}"));
        }
        let hash = id.to_string().bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
        if message.partition() != (hash % PARTITIONS).abs() {
            return Err(format!("{id} is in partition {}", message.partition()));
        }
        words.entry(id).or_default().push(json["data"]["word"].as_str().unwrap_or_default().to_owned());
        count += 1;
    }
    match words.iter().find(|(_, words)| **words != ["first", "second"]) {
        None => Ok(()),
        Some((id, words)) => Err(format!("of {id} came {words:?}")),
    }
}
