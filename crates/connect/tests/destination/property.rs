//! Laws held on real servers: what is read back is what was sent, for values of all types; and a destination that loses connections
//! before and after its commits, and data now and then, has in the end what its sender wants it to have, each write once.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "bits by chance"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use connect::destination::{Destination, Mapping, Outcome, Portion, Target, kind_of};
use libtest_mimic::{Failed, Trial};
use relation::{Column, DataType, Rows, Schema, Value};
use serde_json::{Value as Json, json};
use testkit::Rng;

use super::proxy::{Cut, Proxy};
use super::there::{self, There};

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    // Kafka says itself where it is, so that no way there can be cut; and it keeps no rows that could be asked for.
    let servers = there::SERVERS.into_iter().filter(|server| *server != "kafka" && there::is_there(server));
    for server in servers {
        trials.push(trial(server, "values_come_back", move || values_come_back(server)));
        if server != "redis" {
            trials.push(trial(server, "begin_at_once", move || begin_at_once(server)));
        }
        for seed in 0..4 {
            trials.push(trial(server, &format!("converges_{seed}"), move || converges(server, seed)));
        }
    }
    trials
}

fn trial(server: &str, name: &str, run: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    Trial::test(format!("server/{server}/{name}"), move || run().map_err(Failed::from))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(work)
}

const TYPES: [DataType; 20] = [
    DataType::Bool,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::UInt64,
    DataType::Float32,
    DataType::Float64,
    DataType::Decimal { precision: 18, scale: 4 },
    DataType::Decimal { precision: 38, scale: 0 },
    DataType::Decimal { precision: 60, scale: 20 },
    DataType::Decimal { precision: 9, scale: 9 },
    DataType::Text,
    DataType::Json,
    DataType::Bytes,
    DataType::Date,
    DataType::Time,
    DataType::Timestamp,
    DataType::TimestampTz,
    DataType::Interval,
    DataType::Bool, // stands for an array of texts
];

fn types() -> Vec<DataType> {
    let mut types = TYPES.to_vec();
    *types.last_mut().unwrap() = DataType::Text.array().unwrap();
    types
}

fn text(rng: &mut Rng) -> String {
    const PIECES: [&str; 16] =
        ["a", "Z", " ", "'", "\"", "\\", "{", "}", ",", "é", "😀", "\n", "\t", "NULL", "--", "%s"];
    (0..rng.below(12)).map(|_| *rng.pick(&PIECES)).collect()
}

/// A value of a type, often one at an end of its range.
fn value(rng: &mut Rng, data_type: DataType, server: &str) -> Value {
    let bits = rng.bits();
    let edge = rng.chance(20);
    let days = |rng: &mut Rng| i64::try_from(rng.below(3_652_059)).unwrap() - 719_162;
    match data_type {
        _ if rng.chance(15) => Value::Null,
        DataType::Bool => Value::Bool(bits & 1 == 1),
        DataType::Int16 if edge => Value::Int(*rng.pick(&[i16::MIN.into(), i16::MAX.into(), 0])),
        DataType::Int16 => Value::Int((bits as i16).into()),
        DataType::Int32 if edge => Value::Int(*rng.pick(&[i32::MIN.into(), i32::MAX.into(), 0])),
        DataType::Int32 => Value::Int((bits as i32).into()),
        DataType::Int64 if edge => Value::Int(*rng.pick(&[i64::MIN, i64::MAX, 0])),
        DataType::Int64 => Value::Int(bits as i64),
        DataType::UInt64 if edge => Value::UInt(*rng.pick(&[u64::MAX, 0, 1 << 63])),
        DataType::UInt64 => Value::UInt(bits),
        // MySQL has neither.
        DataType::Float32 | DataType::Float64 if edge && !is_mysql(server) => {
            Value::Float(*rng.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]))
        }
        DataType::Float32 => {
            let number = f32::from_bits(bits as u32);
            Value::Float(f64::from(if number.is_normal() { number } else { 0.1 }))
        }
        DataType::Float64 => {
            let number = f64::from_bits(bits);
            Value::Float(if number.is_normal() { number } else { -1.5e-7 })
        }
        DataType::Decimal { precision: precision @ ..=38, scale } => {
            let limit = 10_i128.pow(u32::from(precision)) - 1;
            let number = if edge { *rng.pick(&[limit, -limit, 0, 1]) } else { (i128::from(bits as i64) << 64) % limit };
            Value::Decimal(number, scale)
        }
        DataType::Decimal { .. } => {
            let digits: String = (0..rng.between(1, 40)).map(|_| char::from(b'1' + rng.below(9) as u8)).collect();
            Value::parse(data_type, &format!("-{digits}.{}", rng.below(1_000_000))).unwrap()
        }
        DataType::Text => Value::Text(text(rng)),
        DataType::Json => {
            let document = json!({"a": text(rng), "n": rng.below(1_000), "l": [true, null, 1.5], "o": {"é": "x"}});
            Value::Text(document.to_string())
        }
        DataType::Bytes => Value::Bytes((0..rng.below(20)).map(|_| rng.bits() as u8).collect()),
        DataType::Date if edge => Value::parse(
            data_type,
            rng.pick::<&str>(&["0000-00-00", "2020-00-00", "2020-02-00", "0001-01-01", "9999-12-31"]),
        )
        .unwrap(),
        DataType::Date => Value::Date(days(rng).try_into().unwrap()),
        DataType::Time => Value::Time((bits % 86_400_000_000) as i64),
        DataType::Timestamp | DataType::TimestampTz => {
            let us = match edge {
                true => days(rng) * 86_400_000_000,
                false => days(rng) * 86_400_000_000 + (bits % 86_400_000_000) as i64,
            };
            if data_type == DataType::Timestamp { Value::Timestamp(us) } else { Value::TimestampTz(us) }
        }
        DataType::Interval => {
            let part = |bits: u64| (bits % 200) as i32 - 100;
            let micros = (bits % 90_000_000_000) as i64 - 45_000_000_000;
            Value::Interval(relation::value::Interval { months: part(bits >> 8), days: part(bits >> 20), micros })
        }
        DataType::Array(element) => {
            let count = rng.below(4);
            Value::Array((0..count).map(|_| value(rng, *element, server)).collect())
        }
    }
}

fn is_mysql(server: &str) -> bool {
    matches!(server, "mysql" | "mariadb")
}

fn wide_schema() -> Schema {
    let mut columns = vec![Column::new("id", DataType::Int64)];
    columns.extend(types().into_iter().enumerate().map(|(i, data_type)| Column::new(format!("c{i}"), data_type)));
    Schema::new(columns, vec![0])
}

/// What a server shows of a value, as the value that it is.
fn read(data_type: DataType, text: &str, server: &str) -> Result<Value, String> {
    let bad = |e: relation::Error| format!("{e}");
    match (data_type, server) {
        (DataType::Json | DataType::Array(_), _) => Ok(Value::Text(text.to_owned())),
        (DataType::Date, _) if text == "-infinity" => Ok(Value::Date(*relation::unreal::DAYS.start())),
        (DataType::TimestampTz, _) => Value::parse(data_type, text.trim_end_matches("+00")).map_err(bad),
        (DataType::Text, _) => Ok(Value::Text(text.to_owned())),
        _ => Value::parse(data_type, text).map_err(bad),
    }
}

/// Whether what came back is what was sent.
fn is_same(data_type: DataType, sent: &Value, back: &Value, server: &str) -> bool {
    match (data_type, sent, back) {
        (DataType::Float32 | DataType::Float64, Value::Float(a), Value::Float(b)) => {
            let narrow = |number: f64| if data_type == DataType::Float32 { f64::from(number as f32) } else { number };
            a.is_nan() && b.is_nan() || narrow(*a) == narrow(*b)
        }
        (DataType::Json, Value::Text(a), Value::Text(b)) => {
            let document = |text: &str| serde_json::from_str::<Json>(text).ok();
            document(a) == document(b) && document(a).is_some()
        }
        (DataType::Array(_), Value::Array(values), Value::Text(text)) => {
            let element = |value: &Value| match value {
                Value::Text(text) => Json::from(text.as_str()),
                _ => Json::Null,
            };
            serde_json::from_str::<Json>(text).ok() == Some(values.iter().map(element).collect())
        }
        // All of them are before all others there.
        (DataType::Date, Value::Date(a), Value::Date(b)) if !is_mysql(server) => {
            let is_unreal = |days: &i32| relation::unreal::is_day((*days).into());
            a == b || is_unreal(a) && is_unreal(b)
        }
        (_, sent, back) => sent == back,
    }
}

fn target(schema: &Schema, to: Json) -> Target {
    let to = match to {
        Json::Object(to) => to.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    let mapping = Mapping::of(schema, &[], None).expect("a mapping");
    Target { sync: "s".to_owned(), to, mapping, deletes: true }
}

fn to_of(there: &There, table: &str) -> Json {
    match there {
        There::Redis { .. } => json!({"key": "row:{id}"}),
        _ => json!({"table": format!("{}.{table}", there.place()), "create": true}),
    }
}

fn values_come_back(server: &'static str) -> Result<(), String> {
    block_on(async {
        let mut there = There::prepare(server, &format!("{server}/values")).await?;
        let (schema, mut rng) = (wide_schema(), Rng::new(7));
        let target = target(&schema, to_of(&there, "t"));
        let mapping = target.mapping.clone();
        let kind = kind_of(server).ok_or("a kind")?;
        let mut destination = kind.open(&there.settings(there.port()), target).await.map_err(|e| format!("{e:?}"))?;
        destination.begin(0).await.map_err(|e| format!("{e:?}"))?;
        let mut sent: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
        for round in 0..4 {
            let (mut portion, mut rows) = (Portion::new(round), Rows::new());
            for id in 0..300 {
                let mut row = vec![Value::Int(id)];
                row.extend(types().into_iter().map(|data_type| value(&mut rng, data_type, server)));
                rows.push_values(mapping.layout(), &row).map_err(|e| e.to_string())?;
                sent.insert(id, row);
            }
            rows.iter().for_each(|row| portion.upsert(row));
            let outcomes = destination.deliver(&Arc::new(portion), &|_| vec![1]).await.map_err(|e| format!("{e:?}"))?;
            if let Some(at) = outcomes.iter().position(|outcome| *outcome != Outcome::Accepted) {
                return Err(format!("{:?} of {:?}", outcomes[at], sent.values().nth(at)));
            }
        }
        destination.close().await;
        for (id, row) in &sent {
            let back = there.row(*id, &schema).await?;
            for ((column, sent), back) in schema.columns.iter().zip(row).zip(back) {
                let back = match back {
                    None => Value::Null,
                    Some(bytes) if column.data_type == DataType::Bytes => Value::Bytes(bytes),
                    Some(bytes) => {
                        let text = String::from_utf8(bytes).map_err(|e| e.to_string())?;
                        read(column.data_type, &text, server).map_err(|e| format!("{}: {e}", column.name))?
                    }
                };
                if !is_same(column.data_type, sent, &back, server) {
                    return Err(format!("row {id}, a {}: sent {sent:?}, came back {back:?}", column.data_type));
                }
            }
        }
        Ok(())
    })
}

/// Syncs that begin at once where nothing is yet: the table of their markers is made once, and that is nobody's trouble.
fn begin_at_once(server: &'static str) -> Result<(), String> {
    block_on(async {
        for round in 0..10 {
            let there = There::prepare(server, &format!("{server}/at_once")).await?;
            let (schema, kind) = (wide_schema(), kind_of(server).ok_or("a kind")?);
            let begin = async |number: usize| {
                let target = target(&schema, to_of(&there, &format!("t{number}")));
                let target = Target { sync: format!("s{number}"), ..target };
                let settings = there.settings(there.port());
                let mut destination = kind.open(&settings, target).await.map_err(|e| format!("{e:?}"))?;
                destination.begin(0).await.map_err(|e| format!("round {round}: {e:?}"))?;
                destination.close().await;
                Ok::<_, String>(())
            };
            futures::future::try_join_all((0..6).map(begin)).await?;
        }
        Ok(())
    })
}

/// A value that the other side refuses.
const UNLUCKY: i64 = 13;

/// Who sends: what it wants to be there, and what it knows to be there.
struct Sender {
    there: There,
    proxy: Proxy,
    destination: Box<dyn Destination>,
    mapping: Mapping,
    known: BTreeMap<i64, (i64, i64)>,
    sequence: u64,
}

fn converges(server: &'static str, seed: u64) -> Result<(), String> {
    block_on(async {
        let there = There::prepare(server, &format!("{server}/converges_{seed}")).await?;
        let column = |name: &str| Column::new(name, DataType::Int64);
        let schema = Schema::new(vec![column("id"), column("n"), column("version")], vec![0]);
        let target = target(&schema, to_of(&there, "t"));
        let mapping = target.mapping.clone();
        let proxy = Proxy::start(there.port(), server == "postgres").await?;
        let kind = kind_of(server).ok_or("a kind")?;
        let destination = kind.open(&there.settings(proxy.port), target).await.map_err(|e| format!("{e:?}"))?;
        let mut sender = Sender { there, proxy, destination, mapping, known: BTreeMap::new(), sequence: 0 };
        sender.destination.begin(0).await.map_err(|e| format!("{e:?}"))?;
        sender.there.watch().await?;
        let (mut rng, mut version) = (Rng::new(seed), 0);
        for _ in 0..60 {
            let mut changes: BTreeMap<i64, Option<(i64, i64)>> = BTreeMap::new();
            for _ in 0..rng.between(1, 30) {
                let id = i64::try_from(rng.below(60)).unwrap();
                version += 1;
                let n = i64::try_from(rng.below(20)).unwrap();
                changes.insert(id, (!rng.chance(25)).then_some((n, version)));
            }
            match rng.below(8) {
                0 | 1 => sender.proxy.arm(Cut::Before),
                2 | 3 => sender.proxy.arm(Cut::After),
                4 if server == "redis" => sender.proxy.arm(Cut::Answers),
                _ => {}
            }
            if rng.chance(8) {
                sender.there.empty().await?;
                let begun = sender.begin(u64::try_from(sender.known.len()).unwrap()).await?;
                if begun.marker.is_none() {
                    let rows = std::mem::take(&mut sender.known);
                    rows.into_iter().for_each(|(id, row)| {
                        changes.entry(id).or_insert(Some(row));
                    });
                }
            }
            sender.send(changes).await?;
        }
        let there = sender.there.content().await?;
        if there != sender.known {
            return Err(format!("there is\n{there:?}, and should be\n{:?}", sender.known));
        }
        match sender.there.written_twice().await?.as_str() {
            "" => Ok(()),
            twice => Err(format!("written twice: {twice}")),
        }
    })
}

impl Sender {
    /// Sends changes until they are there, as the app does.
    async fn send(&mut self, mut changes: BTreeMap<i64, Option<(i64, i64)>>) -> Result<(), String> {
        for _ in 0..20 {
            self.sequence += 1;
            let sequence = self.sequence;
            let (portion, ids) = self.portion(&changes)?;
            let portion = Arc::new(portion);
            let seal = |outcomes: &[Outcome]| {
                let refused = outcomes.iter().enumerate().filter(|(_, o)| matches!(o, Outcome::Refused(_)));
                let refused: Vec<String> = refused.map(|(at, _)| at.to_string()).collect();
                format!("{sequence}:{}", refused.join(",")).into_bytes()
            };
            if let Ok(outcomes) = self.destination.deliver(&portion, &seal).await {
                let marker = seal(&outcomes);
                return self.acknowledge(&changes, &ids, &marker);
            }
            let rows = u64::try_from(self.known.len()).unwrap();
            let begun = self.begin(rows).await?;
            match begun.marker {
                // It was there, and its answer was lost.
                Some(marker) if marker.starts_with(format!("{sequence}:").as_bytes()) => {
                    return self.acknowledge(&changes, &ids, &marker);
                }
                Some(_) => {}
                // All that is there has to be sent again.
                None => {
                    for (id, row) in std::mem::take(&mut self.known) {
                        changes.entry(id).or_insert(Some(row));
                    }
                }
            }
        }
        Err("it does not come through".to_owned())
    }

    async fn begin(&mut self, rows: u64) -> Result<connect::destination::Begun, String> {
        for _ in 0..10 {
            match self.destination.begin(rows).await {
                Ok(begun) => return Ok(begun),
                // The cut may have met the taking over.
                Err(down) if !down.is_ours => {}
                Err(down) => return Err(format!("{down:?}")),
            }
        }
        Err("it does not begin".to_owned())
    }

    fn portion(&self, changes: &BTreeMap<i64, Option<(i64, i64)>>) -> Result<(Portion, Vec<i64>), String> {
        let (mut portion, mut ids) = (Portion::new(self.sequence), Vec::new());
        for (id, change) in changes {
            match change {
                None => portion.delete_values(&self.mapping, &[Value::Int(*id)]).map_err(|e| e.to_string())?,
                Some((n, version)) => {
                    let mut rows = Rows::new();
                    let row = [Value::Int(*id), Value::Int(*n), Value::Int(*version)];
                    rows.push_values(self.mapping.layout(), &row).map_err(|e| e.to_string())?;
                    portion.upsert(rows.get(0));
                }
            }
            ids.push(*id);
        }
        Ok((portion, ids))
    }

    fn acknowledge(
        &mut self,
        changes: &BTreeMap<i64, Option<(i64, i64)>>,
        ids: &[i64],
        marker: &[u8],
    ) -> Result<(), String> {
        let text = String::from_utf8_lossy(marker).into_owned();
        let refused = text.split_once(':').map_or("", |(_, refused)| refused);
        let refused: BTreeSet<usize> = refused.split(',').filter_map(|at| at.parse().ok()).collect();
        for (at, id) in ids.iter().enumerate() {
            let change = changes[id];
            let is_unlucky = change.is_some_and(|(n, _)| n == UNLUCKY);
            let is_checked = !matches!(self.there, There::Redis { .. });
            if refused.contains(&at) != (is_unlucky && is_checked) {
                return Err(format!("{change:?} of {id} was refused: {}", refused.contains(&at)));
            }
            match change {
                _ if refused.contains(&at) => {}
                None => drop(self.known.remove(id)),
                Some(row) => drop(self.known.insert(*id, row)),
            }
        }
        Ok(())
    }
}

impl There {
    /// A row of the table `t` or the hash `row:ID`, column by column, as the server shows it.
    async fn row(&mut self, id: i64, schema: &Schema) -> Result<Vec<Option<Vec<u8>>>, String> {
        let names: Vec<String> = schema.columns.iter().map(|column| column.name.clone()).collect();
        if let Self::Redis { port, .. } = self {
            let hash = there::redis_hash(*port, &format!("row:{id}")).await?;
            return Ok(names.iter().map(|name| hash.get(name).cloned()).collect());
        }
        let is_bytes = |column: &Column| column.data_type == DataType::Bytes;
        let shown = |column: &Column| match self {
            Self::Postgres { .. } if is_bytes(column) => format!("encode({}, 'hex')", column.name),
            Self::Postgres { .. } => format!("{}::text", column.name),
            _ if is_bytes(column) => format!("HEX({})", column.name),
            _ => column.name.clone(),
        };
        let shown: Vec<String> = schema.columns.iter().map(shown).collect();
        let sql = format!("SELECT {} FROM {}.t WHERE id = {id}", shown.join(", "), self.place());
        let row = self.first(&sql).await?;
        let unhex = |text: &[u8]| -> Vec<u8> {
            let pair = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap();
            text.chunks(2).map(pair).collect()
        };
        Ok(row
            .into_iter()
            .zip(&schema.columns)
            .map(|(value, column)| value.map(|value| if is_bytes(column) { unhex(&value) } else { value }))
            .collect())
    }

    /// Refuses unlucky rows, and notes each write.
    async fn watch(&mut self) -> Result<(), String> {
        let place = self.place();
        let statements: Vec<String> = match self {
            Self::Redis { .. } | Self::Kafka(_) => return Ok(()),
            Self::Postgres { .. } => vec![
                format!("CREATE TABLE {place}.log (id bigint, version bigint)"),
                format!("ALTER TABLE {place}.t ADD CONSTRAINT luck CHECK (n <> {UNLUCKY})"),
                format!(
                    "CREATE FUNCTION {place}.note() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN INSERT INTO {place}.log VALUES (NEW.id, NEW.version); RETURN NEW; END $$"
                ),
                format!(
                    "CREATE TRIGGER note AFTER INSERT OR UPDATE ON {place}.t FOR EACH ROW EXECUTE FUNCTION {place}.note()"
                ),
            ],
            Self::Mysql { .. } => vec![
                format!("CREATE TABLE {place}.log (id bigint, version bigint) ENGINE = InnoDB"),
                format!("ALTER TABLE {place}.t ADD CONSTRAINT luck CHECK (n <> {UNLUCKY})"),
                format!(
                    "CREATE TRIGGER {place}.put AFTER INSERT ON {place}.t FOR EACH ROW \
                     INSERT INTO {place}.log VALUES (NEW.id, NEW.version)"
                ),
                format!(
                    "CREATE TRIGGER {place}.upd AFTER UPDATE ON {place}.t FOR EACH ROW \
                     INSERT INTO {place}.log VALUES (NEW.id, NEW.version)"
                ),
            ],
        };
        for statement in statements {
            match self.ask(&statement).await?.as_str() {
                "" => {}
                error => return Err(error.to_owned()),
            }
        }
        Ok(())
    }

    /// Loses all rows; what was written stays noted as of then.
    async fn empty(&mut self) -> Result<(), String> {
        let place = self.place();
        let statement = match self {
            Self::Redis { .. } => "FLUSHALL".to_owned(),
            Self::Kafka(_) => return Err("it keeps no rows".to_owned()),
            Self::Postgres { .. } => format!("TRUNCATE {place}.t, {place}.log"),
            Self::Mysql { .. } => format!("DELETE FROM {place}.log\nDELETE FROM {place}.t"),
        };
        match self.ask(&statement).await?.as_str() {
            "" | "OK" => Ok(()),
            error => Err(error.to_owned()),
        }
    }

    /// All rows.
    async fn content(&mut self) -> Result<BTreeMap<i64, (i64, i64)>, String> {
        let mut rows = BTreeMap::new();
        if let Self::Redis { port, .. } = self {
            for id in 0..60 {
                let hash = there::redis_hash(*port, &format!("row:{id}")).await?;
                let number = |name: &str| String::from_utf8_lossy(&hash[name]).parse::<i64>().unwrap();
                if !hash.is_empty() {
                    rows.insert(id, (number("n"), number("version")));
                }
            }
            return Ok(rows);
        }
        let sql = format!("SELECT id, n, version FROM {}.t ORDER BY id", self.place());
        for line in self.ask(&sql).await?.lines() {
            let numbers: Vec<i64> = line.split(" | ").map(|text| text.parse().unwrap()).collect();
            rows.insert(numbers[0], (numbers[1], numbers[2]));
        }
        Ok(rows)
    }

    /// Writes that were noted more than once.
    async fn written_twice(&mut self) -> Result<String, String> {
        if matches!(self, Self::Redis { .. }) {
            return Ok(String::new());
        }
        let place = self.place();
        self.ask(&format!("SELECT id, version FROM {place}.log GROUP BY id, version HAVING count(*) > 1 ORDER BY 1, 2"))
            .await
    }
}
