//! A `maxwell.properties` as it is: what each key is to us.
//!
//! The law: a key changes what is done, or is said to be of no use here, or is refused because the output would be another without it,
//! or is told to be no key of Maxwell's either. None is passed over in silence.

use std::path::PathBuf;

use crate::source::Failure;
use crate::source::mysql::{MysqlConfig, Start, Tls};

use super::{Filter, KeyFormat, Options, PartitionBy, PartitionHash, Routing};

/// Where a setting stands: a file and its line, or the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: String,
    pub place: String,
}

/// Where messages are to go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Producer {
    #[default]
    Stdout,
    File(PathBuf),
    Kafka,
    Nowhere,
}

/// What settings come to.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its password is that of the settings, in plain words.
    pub server: MysqlConfig,
    pub options: Options,
    pub filter: Filter,
    pub routing: Routing,
    pub producer: Producer,
    /// Settings of Kafka's client, without `kafka.` before them.
    pub kafka: Vec<(String, String)>,
    /// Of records that are too large.
    pub dead_letter_topic: Option<String>,
    pub own_database: String,
    pub client_id: String,
    pub log_level: Option<String>,
    /// Requests of `maxwell.bootstrap` are seen to.
    pub bootstraps: bool,
    /// What is to be told of the settings, a line each.
    pub notes: Vec<String>,
}

/// Reads the lines of a file in the form of Java's properties.
pub fn entries(text: &str, file: &str) -> Vec<Entry> {
    let mut out = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while is_continued(&logical) {
            logical.pop();
            let Some((_, more)) = lines.next() else { break };
            logical.push_str(more.trim_start());
        }
        let (key, value) = parted(&logical);
        out.push(Entry { key, value, place: format!("{file}:{}", at + 1) });
    }
    out
}

/// Whether a line ends in a backslash that is no escaped one.
fn is_continued(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

/// Key and value: what parts them is a sign of equality, a colon or white space.
fn parted(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let is_end = !escaped && (matches!(c, '=' | ':') || c.is_whitespace());
        escaped = !escaped && *c == '\\';
        is_end
    });
    let (key, rest) = line.split_at(end.map_or(line.len(), |(at, _)| at));
    let rest = rest.trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (unescaped(key), unescaped(rest.trim_start()).trim_end().to_owned())
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('f') => out.push('\u{c}'),
                Some('u') => {
                    let digits: String = letters.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                Some(other) => out.push(other),
                None => {}
            },
            (letter, false) => out.push(letter),
        }
    }
    out
}

/// Keys that do nothing here, by why: those that end in a star are all that begin so.
const NEEDLESS: [(&str, &[&str]); 9] = [
    (
        "nothing is written into the server: position and definitions are in the state folder",
        &[
            "schema_host",
            "schema_port",
            "schema_user",
            "schema_password",
            "schema_ssl",
            "schema_jdbc_options",
            "max_schemas",
            "recapture_schema",
            "replication_jdbc_options",
            "jdbc_options",
            "master_recovery",
        ],
    ),
    ("the log is read by numbers of transactions wherever the server has them", &["gtid_mode"]),
    ("there is no JVM and no metrics registry: messages are counted at the end", &["metrics_*", "http_*"]),
    (
        "errors of a producer are never passed over: a message is sent until it is acknowledged",
        &["ignore_producer_error", "producer_ack_timeout"],
    ),
    ("one client speaks to brokers of all versions", &["kafka_version"]),
    ("memory is bounded by itself", &["buffer_memory_usage", "binlog_event_queue_size", "buffered_tx_threshold"]),
    ("the server is asked for heartbeats of its own", &["binlog_heartbeat", "heartbeat_*"]),
    (
        "settings are read from files and the command line",
        &["config", "config_file", "env_config_prefix", "env_config"],
    ),
    ("it runs in the foreground, as services are run today", &["daemon"]),
];

/// Keys that would change the output, or where it goes, and are not done.
const REFUSED: [(&str, &[&str], &str); 4] = [
    (
        "a JavaScript filter is not run",
        &["javascript"],
        "Leave columns out with exclude_columns and rows with filter; or filter what reads the topic.",
    ),
    (
        "messages are not encrypted",
        &["encrypt", "secret_key"],
        "Leave both out, and have Kafka's own TLS and rights keep messages secret.",
    ),
    (
        "several instances do not agree by themselves on who captures",
        &["ha", "jgroups_config", "raft_member_id"],
        "Run one, and have it started elsewhere with the same state folder.",
    ),
    (
        "that producer is not there",
        &[
            "custom_producer.*",
            "kinesis_*",
            "sqs_*",
            "sns_*",
            "nats_*",
            "rabbitmq_*",
            "redis_*",
            "pubsub_*",
            "bigquery_*",
        ],
        "Messages go to stdout, a file or Kafka: take the keys of other producers out.",
    ),
];

/// Keys of before filters were one.
const OLD_FILTERS: [&str; 7] = [
    "include_dbs",
    "exclude_dbs",
    "include_tables",
    "exclude_tables",
    "blacklist_dbs",
    "blacklist_tables",
    "include_column_values",
];

fn is_one_of(key: &str, names: &[&str]) -> bool {
    names.iter().any(|name| match name.strip_suffix('*') {
        Some(begin) => key.starts_with(begin),
        None => key == *name,
    })
}

fn bad(entry: &Entry, expected: &str) -> Failure {
    Failure {
        message: format!("{}: {} is \"{}\"", entry.place, entry.key, entry.value),
        detail: format!("Expected is {expected}."),
        hint: String::new(),
    }
}

fn flag(entry: &Entry) -> Result<bool, Failure> {
    match entry.value.to_ascii_lowercase().as_str() {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(bad(entry, "true or false")),
    }
}

fn number<T: std::str::FromStr>(entry: &Entry, expected: &str) -> Result<T, Failure> {
    entry.value.parse().map_err(|_| bad(entry, expected))
}

/// What `init_position` says: a file and an offset, as `binlog.000003:154`, or transactions.
pub fn init_position(text: &str) -> Option<Start> {
    let mut parts = text.split(':');
    if let (Some(file), Some(Ok(offset))) = (parts.next(), parts.next().map(str::parse))
        && file.contains('.')
        && parts.next().is_none_or(|heartbeat| heartbeat.parse::<u64>().is_ok())
    {
        return Some(Start::Binlog { file: file.to_owned(), offset });
    }
    let is_gtid = text.contains('-') && text.chars().all(|c| c.is_ascii_alphanumeric() || "-:,_ ".contains(c));
    is_gtid.then(|| Start::Gtid(text.to_owned()))
}

/// What settings come to, the last of a key holding. Errors: all that is wrong with them.
pub fn config(entries: &[Entry]) -> Result<Config, Vec<Failure>> {
    let mut reader = Reader::new();
    let mut failures = Vec::new();
    for entry in entries {
        if let Err(failure) = reader.take(entry) {
            failures.push(failure);
        }
    }
    match reader.finish() {
        Ok(config) if failures.is_empty() => Ok(config),
        Ok(_) => Err(failures),
        Err(failure) => {
            failures.push(failure);
            Err(failures)
        }
    }
}

struct Reader {
    config: Config,
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    tls: Option<Tls>,
    output_file: Option<PathBuf>,
    producer: Option<Entry>,
    columns: Option<Entry>,
    needless: Vec<(&'static str, Vec<String>)>,
}

impl Reader {
    fn new() -> Self {
        let server = MysqlConfig { user: "maxwell".to_owned(), start: Start::Now, ..MysqlConfig::default() };
        let config = Config {
            server,
            options: Options::default(),
            filter: Filter::default(),
            routing: Routing::default(),
            producer: Producer::default(),
            kafka: Vec::new(),
            dead_letter_topic: None,
            own_database: "maxwell".to_owned(),
            client_id: "maxwell".to_owned(),
            log_level: None,
            bootstraps: true,
            notes: Vec::new(),
        };
        Self {
            config,
            host: None,
            port: None,
            user: None,
            password: None,
            tls: None,
            output_file: None,
            producer: None,
            columns: None,
            needless: Vec::new(),
        }
    }

    fn take(&mut self, entry: &Entry) -> Result<(), Failure> {
        let value = entry.value.clone();
        match entry.key.as_str() {
            "host" => self.config.server.host = value,
            "port" => self.config.server.port = number(entry, "a port")?,
            "user" => self.config.server.user = value,
            "password" => self.config.server.password = Some(value),
            "ssl" => self.config.server.tls = tls(entry)?,
            "replication_host" => self.host = Some(value),
            "replication_port" => self.port = Some(number(entry, "a port")?),
            "replication_user" => self.user = Some(value),
            "replication_password" => self.password = Some(value),
            "replication_ssl" => self.tls = Some(tls(entry)?),
            "replica_server_id" => self.config.server.server_id = Some(number(entry, "a number from 1 to 4294967295")?),
            "init_position" => {
                let start = init_position(&entry.value);
                self.config.server.start = start.ok_or_else(|| bad(entry, "FILE:OFFSET, or a set of GTIDs"))?;
            }
            "client_id" => self.config.client_id = value,
            "schema_database" => self.config.own_database = value,
            "log_level" => self.config.log_level = Some(value.to_ascii_lowercase()),
            "bootstrapper" => {
                self.config.bootstraps = match value.as_str() {
                    "async" | "sync" => true,
                    "none" => false,
                    _ => return Err(bad(entry, "async, sync or none")),
                };
            }
            "producer" => self.producer = Some(entry.clone()),
            "output_file" => self.output_file = Some(PathBuf::from(value)),
            "filter" => {
                self.config.filter = Filter::parse(&entry.value).map_err(|error| Failure {
                    message: format!("{}: filter: {error}", entry.place),
                    detail: String::new(),
                    hint: "Rules are written as `exclude: db.*, include: db.table`.".to_owned(),
                })?;
            }
            "exclude_columns" => {
                self.config.options.exclude_columns = Options::parse_columns(&entry.value)
                    .map_err(|reason| bad(entry, &format!("a list of names: {reason}")))?;
            }
            "producer_partition_by" => self.config.routing.by = partition_by(entry)?,
            "producer_partition_by_fallback" => self.config.routing.fallback = partition_by(entry)?,
            "producer_partition_columns" => {
                self.config.routing.columns = value.split(',').map(|name| name.trim().to_owned()).collect();
                self.columns = Some(entry.clone());
            }
            "kafka_topic" => self.config.routing.topic = value,
            "ddl_kafka_topic" => self.config.routing.ddl_topic = Some(value),
            "dead_letter_topic" => self.config.dead_letter_topic = Some(value),
            "kafka_partition_hash" => {
                self.config.routing.hash = match value.as_str() {
                    "default" => PartitionHash::Default,
                    "murmur3" => PartitionHash::Murmur3,
                    _ => return Err(bad(entry, "default or murmur3")),
                };
            }
            "kafka_key_format" => {
                self.config.routing.key_format = match value.as_str() {
                    "hash" => KeyFormat::Hash,
                    "array" => KeyFormat::Array,
                    _ => return Err(bad(entry, "hash or array")),
                };
            }
            "output_naming_strategy" => {
                self.config.options.camel_case = match value.as_str() {
                    "none" => false,
                    "underscore_to_camelcase" => true,
                    _ => return Err(bad(entry, "none or underscore_to_camelcase")),
                };
            }
            "row_query_max_length" => {
                self.config.options.row_query_max_length = number(entry, "a number of characters")?
            }
            "encrypt" if value == "none" => {}
            "ha" if value == "false" => {}
            key => match key.strip_prefix("kafka.") {
                Some(setting) => self.config.kafka.push((setting.to_owned(), value)),
                None => return self.take_other(entry),
            },
        }
        Ok(())
    }

    fn take_other(&mut self, entry: &Entry) -> Result<(), Failure> {
        let options = &mut self.config.options;
        let place = match entry.key.as_str() {
            "output_commit_info" => &mut options.commit_info,
            "output_xoffset" => &mut options.xoffset,
            "output_nulls" => &mut options.nulls,
            "output_server_id" => &mut options.server_id,
            "output_thread_id" => &mut options.thread_id,
            "output_schema_id" => &mut options.schema_id,
            "output_row_query" => &mut options.row_query,
            "output_primary_keys" => &mut options.primary_keys,
            "output_primary_key_columns" => &mut options.primary_key_columns,
            "output_null_zerodates" => &mut options.null_zerodates,
            "output_binlog_position" => &mut options.binlog_position,
            "output_gtid_position" => &mut options.gtid_position,
            "output_push_timestamp" => &mut options.push_timestamp,
            "output_ddl" => &mut options.ddl,
            // Ours alone.
            "maxwell_compat" => &mut options.compat,
            key => {
                if let Some((why, _)) = NEEDLESS.iter().find(|(_, names)| is_one_of(key, names)) {
                    match self.needless.iter_mut().find(|(known, _)| known == why) {
                        Some((_, keys)) => keys.push(key.to_owned()),
                        None => self.needless.push((why, vec![key.to_owned()])),
                    }
                    return Ok(());
                }
                return Err(refused(entry));
            }
        };
        *place = flag(entry)?;
        Ok(())
    }

    fn finish(mut self) -> Result<Config, Failure> {
        let server = &mut self.config.server;
        self.host.into_iter().for_each(|host| server.host = host);
        self.port.into_iter().for_each(|port| server.port = port);
        self.user.into_iter().for_each(|user| server.user = user);
        self.tls.into_iter().for_each(|tls| server.tls = tls);
        server.password = self.password.or(server.password.take());
        let word = self.producer.as_ref().map_or("stdout", |entry| entry.value.as_str());
        self.config.producer = match (word, self.output_file) {
            ("stdout", _) => Producer::Stdout,
            ("none", _) => Producer::Nowhere,
            ("kafka", _) => Producer::Kafka,
            ("file", Some(path)) => Producer::File(path),
            ("file", None) => {
                return Err(Failure {
                    message: "the producer is a file, and output_file does not say which".to_owned(),
                    detail: String::new(),
                    hint: "Add output_file=PATH.".to_owned(),
                });
            }
            _ => {
                let place = self.producer.as_ref().map(|entry| entry.place.clone()).unwrap_or_default();
                return Err(Failure {
                    message: format!("{place}: there is no producer \"{word}\""),
                    detail: "Messages go to stdout, file, kafka or none.".to_owned(),
                    hint: "Have them go to Kafka or a file, and from there on.".to_owned(),
                });
            }
        };
        if self.config.routing.by == PartitionBy::Column && self.config.routing.columns.is_empty() {
            return Err(Failure {
                message: "partitions are chosen by columns, and producer_partition_columns names none".to_owned(),
                detail: String::new(),
                hint: "Add producer_partition_columns=NAME,NAME, and producer_partition_by_fallback for tables without them."
                    .to_owned(),
            });
        }
        for (why, keys) in self.needless {
            self.config.notes.push(format!("{}: not needed here; {why}", keys.join(", ")));
        }
        Ok(self.config)
    }
}

fn refused(entry: &Entry) -> Failure {
    let key = entry.key.as_str();
    if let Some((why, _, hint)) = REFUSED.iter().find(|(_, names, _)| is_one_of(key, names)) {
        return Failure {
            message: format!("{}: {key}: {why}", entry.place),
            detail: "Without it the output would be another than is asked for.".to_owned(),
            hint: (*hint).to_owned(),
        };
    }
    if OLD_FILTERS.contains(&key) {
        return Failure {
            message: format!("{}: {key} is a key of before Maxwell 1.17, and it is not read any more", entry.place),
            detail: String::new(),
            hint: "Say it by `filter`: `exclude: *.*, include: db.*`.".to_owned(),
        };
    }
    Failure {
        message: format!("{}: {key} is no key that Maxwell knows either", entry.place),
        detail: String::new(),
        hint: "Correct it, or take it out.".to_owned(),
    }
}

fn partition_by(entry: &Entry) -> Result<PartitionBy, Failure> {
    let words = "database, table, primary_key, transaction_id, thread_id, column or random";
    PartitionBy::named(&entry.value).ok_or_else(|| bad(entry, words))
}

fn tls(entry: &Entry) -> Result<Tls, Failure> {
    Ok(match entry.value.to_ascii_uppercase().as_str() {
        "DISABLED" | "FALSE" => Tls::Disabled,
        "PREFERRED" => Tls::Preferred,
        "REQUIRED" | "TRUE" => Tls::Required,
        "VERIFY_CA" | "VERIFY_IDENTITY" => Tls::Verify,
        _ => return Err(bad(entry, "DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, Vec<String>> {
        config(&entries(text, "m.properties")).map_err(|all| all.into_iter().map(|one| one.message).collect())
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = "# comment\n! other\n\nhost = db.example \nport:3307\nuser maxwell2\nfilter=exclude: *.*, \\\n   include: shop.*\npassword=a\\=b\\u00e9\\\\\n";
        let found: Vec<(String, String, String)> =
            entries(text, "f").into_iter().map(|entry| (entry.key, entry.value, entry.place)).collect();
        let wanted = [
            ("host", "db.example", "f:4"),
            ("port", "3307", "f:5"),
            ("user", "maxwell2", "f:6"),
            ("filter", "exclude: *.*, include: shop.*", "f:7"),
            ("password", "a=bé\\", "f:9"),
        ];
        let wanted = wanted.map(|(key, value, place)| (key.to_owned(), value.to_owned(), place.to_owned()));
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_config_of_maxwells_own_is_taken() {
        let config = read(
            "log_level=info\nproducer=kafka\nkafka.bootstrap.servers=localhost:9092\nhost=store\nreplication_host=replica\n\
             user=maxwell\npassword=maxwell\nkafka_topic=%{database}\nkafka.acks=all\nmetrics_type=http\nmetrics_prefix=m\n\
             output_ddl=true\noutput_nulls=false\ninit_position=binlog.000003:154:1234\nreplica_server_id=64\n",
        )
        .unwrap();
        assert_eq!(config.server.host, "replica");
        assert_eq!(config.server.start, Start::Binlog { file: "binlog.000003".to_owned(), offset: 154 });
        assert_eq!(config.server.server_id, Some(64));
        assert_eq!(config.producer, Producer::Kafka);
        assert_eq!(config.kafka.len(), 2);
        assert!(config.options.ddl && !config.options.nulls && config.options.commit_info);
        assert_eq!(config.notes.len(), 1, "said once: {:?}", config.notes);
        assert!(config.notes[0].starts_with("metrics_type, metrics_prefix: not needed here"));
    }

    #[test]
    fn what_is_not_done_is_refused_and_all_of_it_is_told() {
        let said = read("javascript=f.js\nfoo=1\nproducer=kinesis\noutput_ddl=perhaps\ninclude_dbs=a\n").unwrap_err();
        assert_eq!(
            said,
            [
                "m.properties:1: javascript: a JavaScript filter is not run",
                "m.properties:2: foo is no key that Maxwell knows either",
                "m.properties:4: output_ddl is \"perhaps\"",
                "m.properties:5: include_dbs is a key of before Maxwell 1.17, and it is not read any more",
                "m.properties:3: there is no producer \"kinesis\"",
            ]
        );
        assert_eq!(read("encrypt=none\nha=false\nbootstrapper=none\n").unwrap().notes, [""; 0]);
        assert_eq!(read("producer=file\n").unwrap_err().len(), 1);
        assert_eq!(read("producer_partition_by=column\n").unwrap_err().len(), 1);
    }

    #[test]
    fn places_to_begin_at() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5";
        assert_eq!(init_position(uuid), Some(Start::Gtid(uuid.to_owned())));
        assert_eq!(init_position("0-1-270"), Some(Start::Gtid("0-1-270".to_owned())));
        assert_eq!(init_position("binlog.000001:x"), None);
        assert_eq!(init_position("soon"), None);
    }
}
