//! Where each sync delivers to, and how what is there is read by that server's own client.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use super::laws::Laws;
use super::sides::{Server, told};
use crate::Rows;
use crate::shop::plain;

/// A model, in words that Tidemill and the source's server both answer.
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    /// Its columns, in their order.
    columns: &'static [&'static str],
}

pub(super) const MODELS: &[Model] = &[
    Model {
        name: "stock",
        sql: "select id, version, shelf, grade, amount, name from $items where amount >= 0",
        columns: &["id", "version", "shelf", "grade", "amount", "name"],
    },
    Model {
        name: "labels",
        sql: "select i.id, greatest(i.version, s.version) as version, i.amount, s.label from $items i \
              join $shelves s on s.shelf = i.shelf",
        columns: &["id", "version", "amount", "label"],
    },
    Model {
        name: "grades",
        sql: "select shelf, grade, count(*) as pieces, sum(coalesce(amount, 0)) as total from $items group by shelf, grade",
        columns: &["shelf", "grade", "pieces", "total"],
    },
    Model { name: "wares", sql: "select id, version, note from $flood", columns: &["id", "version", "note"] },
];

/// How a sync's rows lie there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    /// Messages, each in a transaction's portion.
    Exact,
    /// Messages, of which some may come twice.
    Least,
    Table,
    Hash,
    Document,
    Ranked,
    Set,
}

/// A sync.
pub(super) struct Target {
    pub(super) sync: &'static str,
    model: &'static str,
    /// Its connection.
    pub(super) side: &'static str,
    form: As,
}

const fn target(sync: &'static str, model: &'static str, side: &'static str, form: As) -> Target {
    Target { sync, model, side, form }
}

pub(super) const TARGETS: &[Target] = &[
    target("exact_stock", "stock", "kafka", As::Exact),
    target("exact_labels", "labels", "kafka", As::Exact),
    target("least_stock", "stock", "kafka", As::Least),
    target("postgres_stock", "stock", "postgres", As::Table),
    target("mysql_labels", "labels", "mysql", As::Table),
    target("mariadb_stock", "stock", "mariadb", As::Table),
    target("hash_stock", "stock", "redis", As::Hash),
    target("document_labels", "labels", "redis", As::Document),
    target("ranked_grades", "grades", "redis", As::Ranked),
    target("set_grades", "grades", "redis", As::Set),
];

/// What a large table is delivered to.
pub(super) const FLOODED: &[Target] = &[
    target("exact_wares", "wares", "kafka", As::Exact),
    target("postgres_wares", "wares", "postgres", As::Table),
    target("mysql_wares", "wares", "mysql", As::Table),
    target("mariadb_wares", "wares", "mariadb", As::Table),
    target("hash_wares", "wares", "redis", As::Hash),
];

/// The connections, each with the name of its server: of `scripts/services`, but for those of their own.
pub(super) const SIDES: [&str; 5] = ["kafka", "postgres", "mysql", "mariadb", "redis"];

/// The servers that are delivered to, and the name that all places of this walk there have.
pub(super) struct There {
    pub(super) servers: BTreeMap<&'static str, Server>,
    pub(super) place: String,
    /// What tells names that stay (topics, markers of syncs) from those of other runs.
    run: String,
}

/// What a table counts of itself: every row that is written, and every one that goes.
const COUNTED: [&str; 4] = [
    "create table written (n bigint auto_increment primary key, id bigint not null, version bigint not null, what varchar(5) not null)",
    "create trigger put after insert on $table for each row insert into written (id, version, what) values (new.id, new.version, 'there')",
    "create trigger changed after update on $table for each row insert into written (id, version, what) values (new.id, new.version, 'there')",
    "create trigger gone after delete on $table for each row insert into written (id, version, what) values (old.id, old.version, 'gone')",
];
const COUNTED_BY_POSTGRES: [&str; 3] = [
    "create table written (n bigserial primary key, id bigint not null, version bigint not null, what text not null)",
    "create function note() returns trigger language plpgsql as $$ begin \
     if tg_op = 'DELETE' then insert into written (id, version, what) values (old.id, old.version, 'gone'); \
     else insert into written (id, version, what) values (new.id, new.version, 'there'); end if; return null; end $$",
    "create trigger noted after insert or update or delete on $table for each row execute function note()",
];

impl There {
    /// Makes the places anew.
    pub(super) fn open(servers: BTreeMap<&'static str, Server>, place: &str) -> Result<Self, String> {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_err(|e| e.to_string())?;
        let there = Self { servers, place: place.to_owned(), run: now.as_millis().to_string() };
        there.forget()?;
        let name = &there.place;
        there.sql("postgres", "postgres", &format!("create database {name}"))?;
        for side in ["mysql", "mariadb"] {
            there.sql(side, "", &format!("create database {name} character set utf8mb4 collate utf8mb4_bin"))?;
        }
        for target in TARGETS.iter().filter(|target| target.form == As::Table) {
            let columns = match target.model {
                "stock" => "shelf int, grade int, amount decimal(12,2), name varchar(40)",
                _ => "amount decimal(12,2), label varchar(40)",
            };
            let table =
                format!("create table {} (id bigint primary key, version bigint not null, {columns})", target.model);
            there.sql(target.side, name, &table)?;
            let counted: &[&str] = if target.side == "postgres" { &COUNTED_BY_POSTGRES } else { &COUNTED };
            for sql in counted {
                there.sql(target.side, name, &sql.replace("$table", target.model))?;
            }
        }
        Ok(there)
    }

    /// Takes the places away; topics stay, of which no other walk has the name.
    pub(super) fn forget(&self) -> Result<(), String> {
        self.sql("postgres", "postgres", &format!("drop database if exists {} with (force)", self.place))?;
        for side in ["mysql", "mariadb"] {
            self.sql(side, "", &format!("drop database if exists {}", self.place))?;
        }
        let keys = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('UNLINK', key) end";
        self.redis(&["EVAL", keys, "0", &format!("{}:*", self.place)])?;
        self.redis(&["EVAL", keys, "0", &format!("_tidemill_deliveries:{}_*", self.place)]).map(drop)
    }

    fn server(&self, side: &str) -> Result<&Server, String> {
        self.servers.get(side).ok_or_else(|| format!("there is no {side}"))
    }

    /// The name of a sync: markers of several walks are in one topic.
    pub(super) fn sync(&self, target: &Target) -> String {
        format!("{}_{}_{}", self.place, target.sync, self.run)
    }

    /// The connections' part of `connections.yml`.
    pub(super) fn connections(&self) -> Result<String, String> {
        let (kafka, redis) = (self.server("kafka")?.port, self.server("redis")?.port);
        let mut text = format!("kafka: {{type: kafka, brokers: '127.0.0.1:{kafka}'}}\n");
        text.push_str(&format!("redis: {{type: redis, url: 'redis://127.0.0.1:{redis}/0'}}\n"));
        for (side, user) in [("postgres", "postgres"), ("mysql", "root"), ("mariadb", "root")] {
            let (port, place) = (self.server(side)?.port, &self.place);
            text.push_str(&format!(
                "{side}: {{type: {side}, host: 127.0.0.1, port: {port}, user: {user}, database: {place}}}\n"
            ));
        }
        Ok(text)
    }

    /// The file of a sync.
    pub(super) fn file(&self, target: &Target) -> String {
        let (Target { model, side, .. }, place) = (target, &self.place);
        let topic = self.topic(target);
        let to = match target.form {
            As::Exact => format!("topic: {topic}, delivery: exactly_once, create: true, partitions: 3"),
            As::Least => format!("topic: {topic}, create: true, partitions: 2"),
            As::Table => format!("table: {model}, create: true"),
            As::Hash => format!("key: '{place}:{model}:{{id}}', as: hash"),
            As::Document => format!("key: '{place}:{model}:{{id}}', as: json"),
            As::Ranked => format!("key: '{place}:ranked:{{shelf}}', as: zset, member: '{{grade}}', score: pieces"),
            As::Set => format!("key: '{place}:set:{{shelf}}', as: set, member: '{{grade}}'"),
        };
        let sync = self.sync(target);
        format!(
            "sync: {sync}\nmodel: {model}\nto: {{destination: {side}, {to}}}\nmode: mirror\nguards: {{removals: 100%}}\n"
        )
    }

    fn topic(&self, target: &Target) -> String {
        format!("{}.{}.{}", self.place, target.sync, self.run)
    }

    /// The rows that are there, as the model has them, and whether what was written on the way keeps the laws.
    pub(super) fn rows(&self, target: &Target, laws: &mut Laws) -> Result<Rows, String> {
        match target.form {
            As::Exact | As::Least => self.messages(target, laws),
            As::Table => self.table(target, laws),
            As::Hash | As::Document | As::Ranked | As::Set => self.keys(target),
        }
    }

    /// What the source's rows of a model come to where they go: not all forms have all columns.
    pub(super) fn shown(target: &Target, rows: Rows) -> Rows {
        let taken: &[usize] = match target.form {
            As::Ranked => &[0, 1, 2],
            As::Set => &[0, 1],
            _ => return rows,
        };
        rows.into_iter().map(|row| taken.iter().map(|&at| row[at].clone()).collect()).collect()
    }

    fn messages(&self, target: &Target, laws: &mut Laws) -> Result<Rows, String> {
        let mut kcat = Command::new("kcat");
        kcat.args([
            "-C",
            "-e",
            "-q",
            "-f",
            "%p\t%k\t%S\t%h\t%s\n",
            "-X",
            "isolation.level=read_committed",
            "-o",
            "beginning",
        ]);
        kcat.args(["-b", &format!("127.0.0.1:{}", self.server("kafka")?.port), "-t", &self.topic(target)]);
        kcat.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kcat.spawn().map_err(|e| format!("kcat: {e}"))?;
        let out = child.stdout.take().ok_or("kcat has no stdout")?;
        let columns = model(target).columns;
        let mut folded: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in BufReader::new(out).lines() {
            let line = line.map_err(|e| e.to_string())?;
            let [partition, key, length, headers, value] = line.splitn(5, '\t').collect::<Vec<_>>()[..] else {
                return Err(format!("kcat says {line}"));
            };
            let step = headers.split(',').find_map(|header| header.strip_prefix("tidemill.step="));
            let step: u64 = step.and_then(|step| step.parse().ok()).ok_or_else(|| format!("no step: {line}"))?;
            let key = format!("{partition} {key}");
            if length == "-1" {
                laws.gone(&key, Some(step), target.form == As::Exact);
                folded.remove(&key);
                continue;
            }
            let value: Json = serde_json::from_str(value).map_err(|e| format!("{line}: {e}"))?;
            let row: Vec<String> = columns.iter().map(|column| text(&value[column])).collect();
            let version = row[1].parse().map_err(|_| format!("no version: {line}"))?;
            laws.there(&key, version, Some(step), target.form == As::Exact);
            folded.insert(key, row);
        }
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(format!("kcat: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(sorted(folded.into_values().collect()))
    }

    fn table(&self, target: &Target, laws: &mut Laws) -> Result<Rows, String> {
        let model = model(target);
        let sql = format!("select {} from {}", model.columns.join(", "), model.name);
        let rows = parted(&self.sql(target.side, &self.place, &sql)?);
        // A table that was not made by this walk does not count.
        if TARGETS.iter().any(|of| of.sync == target.sync) {
            for row in
                parted(&self.sql(target.side, &self.place, "select id, version, what from written order by n")?)
            {
                let version = row[1].parse().map_err(|_| format!("no version: {row:?}"))?;
                match row[2].as_str() {
                    "gone" => laws.gone(&row[0], None, true),
                    _ => laws.there(&row[0], version, None, true),
                }
            }
        }
        Ok(sorted(rows))
    }

    fn keys(&self, target: &Target) -> Result<Rows, String> {
        let (read, part) = match target.form {
            As::Hash => ("HGETALL", target.model),
            As::Document => ("GET", target.model),
            As::Ranked => ("ZRANGE", "ranked"),
            _ => ("SMEMBERS", "set"),
        };
        let more = if target.form == As::Ranked { ", 0, -1, 'WITHSCORES'" } else { "" };
        let script = format!(
            "local out = {{}} for _, key in ipairs(redis.call('KEYS', ARGV[1])) do \
             out[#out + 1] = cjson.encode({{key, redis.call('{read}', key{more})}}) end return out"
        );
        // Both forms are under one word where they are of one model: each asks for its own.
        let asked = format!("{}:{part}:*", self.place);
        let said = self.redis(&["EVAL", &script, "0", &asked])?;
        let columns = model(target).columns;
        let mut rows = Rows::new();
        for line in said.lines().filter(|line| !line.is_empty()) {
            let json: Json = serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
            let last = json[0].as_str().and_then(|key| key.rsplit(':').next()).ok_or("no key")?.to_owned();
            let words: Vec<String> = json[1].as_array().into_iter().flatten().map(text).collect();
            match target.form {
                As::Hash => {
                    let fields: BTreeMap<&str, &str> =
                        words.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
                    rows.push(
                        columns.iter().map(|column| fields.get(column).map_or("NULL", |v| v).to_owned()).collect(),
                    );
                }
                As::Document => {
                    let document = json[1].as_str().ok_or_else(|| format!("no document: {line}"))?;
                    let document: Json = serde_json::from_str(document).map_err(|e| format!("{line}: {e}"))?;
                    rows.push(columns.iter().map(|column| text(&document[column])).collect());
                }
                As::Ranked => rows.extend(words.chunks(2).map(|of| vec![last.clone(), of[0].clone(), of[1].clone()])),
                _ => rows.extend(words.iter().map(|member| vec![last.clone(), member.clone()])),
            }
        }
        Ok(sorted(rows))
    }

    fn redis(&self, words: &[&str]) -> Result<String, String> {
        told(Command::new("redis-cli").args(["-e", "-p", &self.server("redis")?.port.to_string()]).args(words))
    }

    /// Asks a database by its own client: values are parted by tabs.
    fn sql(&self, side: &str, database: &str, sql: &str) -> Result<String, String> {
        let port = self.server(side)?.port.to_string();
        if side == "postgres" {
            let mut psql = Command::new("psql");
            psql.args(["-X", "-A", "-t", "-q", "-w", "-F", "\t", "-P", "null=NULL", "-v", "ON_ERROR_STOP=1"]);
            psql.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", database, "-c", sql]);
            return told(psql.env("PGOPTIONS", "-c client_min_messages=warning"));
        }
        let mut client = Command::new("mariadb");
        client.args([
            "--no-defaults",
            "--skip-ssl",
            "--default-character-set=utf8mb4",
            "--batch",
            "--skip-column-names",
        ]);
        client.args(["--quick", "-h", "127.0.0.1", "-P", &port, "-u", "root", "-e", sql]);
        told(client.args((!database.is_empty()).then_some(database)))
    }
}

fn model(target: &Target) -> &'static Model {
    MODELS.iter().find(|model| model.name == target.model).unwrap()
}

/// The rows that the source's server answers to the target's model.
pub(super) fn asked_of_source(target: &Target) -> String {
    model(target).sql.replace('$', "")
}

fn text(value: &Json) -> String {
    match value {
        Json::Null => "NULL".to_owned(),
        Json::String(text) => plain(Some(text)),
        other => plain(Some(&other.to_string())),
    }
}

fn parted(said: &str) -> Rows {
    let row = |line: &str| line.split('\t').map(|cell| plain(Some(cell))).collect();
    said.lines().filter(|line| !line.is_empty()).map(row).collect()
}

fn sorted(mut rows: Rows) -> Rows {
    rows.sort();
    rows
}
