//! Every type that a server has, with its edges: what a value is must not depend on how it came.
//!
//! A table gets random columns and rows; these are there before an instance begins (the first load), are copied to other keys
//! while it follows (the log's insertions), and are copied over rows of NULLs (the log's updates). Then every value is the
//! same in all three rows, is what the server itself says when it is asked for it as text, is so after a `kill -9`, and
//! `reconcile source` finds nothing. What differs is told by column and value: nothing has to be shrunk by hand.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value};
use testkit::Rng;

use crate::instance::Instance;
use crate::server::open;
use crate::shop::plain;
use crate::{Rows, Walk};

/// Columns of a table, and rows of each way.
const COLUMNS: usize = 14;
const ROWS: usize = 40;
const TABLES: usize = 6;
/// Between the keys of a row that was loaded, its copy, and the one it was copied over.
const WAY: i64 = 1_000;

/// How a column's text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Text as it is, without zeros at the end of a fraction.
    Plain,
    Float,
    Double,
    /// The server says it in hexadecimal digits, we as `\x…`.
    Bytes,
    Json,
    /// With dates that no calendar has, which are NULL here.
    Date,
    /// A shape in words, with or without blanks and the brackets of its points.
    Shape,
    /// A list of numbers.
    Numbers,
}

/// A type: how it is declared, how the server is asked for its text, and values as literals.
struct Kind {
    declared: String,
    /// With `$c` for the column.
    asked: &'static str,
    form: Form,
    values: Vec<String>,
}

fn kind(declared: impl Into<String>, asked: &'static str, form: Form, values: &[&str]) -> Kind {
    Kind { declared: declared.into(), asked, form, values: values.iter().map(|value| (*value).to_owned()).collect() }
}

/// A whole number of a type, signed or not.
fn whole(rng: &mut Rng) -> Kind {
    let (name, bits) = *rng.pick(&[("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32), ("bigint", 64)]);
    let (least, most): (i128, i128) = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1);
    let unsigned = (1_i128 << bits) - 1;
    match rng.below(2) {
        0 => kind(name, "$c", Form::Plain, &[&least.to_string(), &most.to_string(), "0", "-1", "1", "77"]),
        _ => kind(format!("{name} unsigned"), "$c", Form::Plain, &[&unsigned.to_string(), &most.to_string(), "0", "1"]),
    }
}

fn decimal(rng: &mut Rng) -> Kind {
    let digits = rng.between(1, 65);
    let scale = rng.below(digits.min(30) + 1);
    let nines = "9".repeat(digits - scale);
    let most = format!("{}.{}", if nines.is_empty() { "0" } else { &nines }, "9".repeat(scale.max(1)));
    let most = if scale == 0 { nines } else { most };
    let least = format!("-{most}");
    let small = if scale == 0 { "1".to_owned() } else { format!("0.{}1", "0".repeat(scale - 1)) };
    kind(format!("decimal({digits},{scale})"), "$c", Form::Plain, &[&most, &least, "0", "-0", &small, "1", "0.5"])
}

/// Text in a character set and collation, with what the set has.
fn text(rng: &mut Rng) -> Kind {
    let sets: [(&str, &[&str]); 8] = [
        ("utf8mb4", &["'é'", "'漢字'", "'😀'", "'ﬃ'", "_utf8mb4 x'e4b880'"]),
        ("utf8mb3", &["'é'", "'漢字'", "'ß'"]),
        ("latin1", &["'é'", "'ÿ'", "'€'", "'œ'"]),
        ("ascii", &["'~'", "'a'"]),
        ("ucs2", &["'é'", "'漢'"]),
        ("utf16", &["'😀'", "'é'"]),
        ("gbk", &["'漢字'", "'中'"]),
        ("sjis", &["'日本'", "'ｱ'"]),
    ];
    let (set, own) = *rng.pick(&sets);
    let length = rng.between(1, 40);
    let declared = match rng.below(5) {
        0 => format!("char({length}) character set {set}"),
        1 => format!("varchar({length}) character set {set}"),
        2 => format!("tinytext character set {set}"),
        3 => format!("mediumtext character set {set}"),
        _ => format!("varchar({}) character set {set}", 300 + length),
    };
    let mut of = kind(
        declared,
        "convert($c using utf8mb4)",
        Form::Plain,
        &["''", "' '", "'a  '", "'  a'", "'1.50'", "'NULL'", "'a\\nb\\tc'", "'\\\\x41'", "'''\"'", "repeat('x', 300)"],
    );
    of.values.extend(own.iter().map(|value| (*value).to_owned()));
    of
}

fn bytes(rng: &mut Rng) -> Kind {
    let length = rng.between(1, 20);
    let name = rng.pick(&["binary", "varbinary", "tinyblob", "blob", "longblob"]);
    let declared = if name.ends_with("binary") { format!("{name}({length})") } else { (*name).to_owned() };
    kind(
        declared,
        "hex($c)",
        Form::Bytes,
        &["''", "x'00'", "x'0000ff'", "'ab'", "x'20'", "x'5c'", "repeat(x'fe', 300)"],
    )
}

fn temporal(rng: &mut Rng) -> Kind {
    let digits = rng.below(7);
    match rng.below(5) {
        0 => kind(
            "date",
            "cast($c as char)",
            Form::Date,
            &[
                "'0000-00-00'",
                "'2026-00-10'",
                "'2026-02-31'",
                "'1000-01-01'",
                "'9999-12-31'",
                "'0001-01-01'",
                "'2024-02-29'",
            ],
        ),
        1 => kind(
            format!("datetime({digits})"),
            "cast($c as char)",
            Form::Date,
            &[
                "'0000-00-00 00:00:00'",
                "'2026-03-00 01:02:03.5'",
                "'1000-01-01 00:00:00'",
                "'9999-12-31 23:59:59'",
                "'2026-03-01 10:00:00.999999'",
                "'2026-03-01 10:00:00.000001'",
                "'1969-12-31 23:59:59.5'",
            ],
        ),
        2 => kind(
            format!("timestamp({digits}) null"),
            "cast($c as char)",
            Form::Date,
            &[
                "'0000-00-00 00:00:00'",
                "'1970-01-01 00:00:01'",
                "'2038-01-19 03:14:07'",
                "'2026-03-29 02:30:00.123456'",
            ],
        ),
        3 => kind(
            format!("time({digits})"),
            "cast($c as char)",
            Form::Plain,
            &[
                "'-838:59:59'",
                "'838:59:59'",
                "'00:00:00'",
                "'-00:00:01'",
                "'00:00:00.000001'",
                "'-00:00:00.5'",
                "'23:59:59.999999'",
            ],
        ),
        _ => kind("year", "$c + 0", Form::Plain, &["0", "1901", "2155", "2026", "1999"]),
    }
}

fn other(rng: &mut Rng, is_mariadb: bool) -> Kind {
    let bits = rng.between(1, 64);
    let geometry: &[&str] = &[
        "st_geomfromtext('POINT(1.5 -2)')",
        "st_geomfromtext('LINESTRING(0 0, 1 1, 2 3)', 0)",
        "st_geomfromtext('POLYGON((0 0, 0 1, 1 1, 0 0))')",
        "st_geomfromtext('MULTIPOINT(0 0, 5 5)')",
    ];
    match rng.below(if is_mariadb { 10 } else { 8 }) {
        0 => kind(
            "float",
            "cast($c as double)",
            Form::Float,
            &["0", "-0e0", "1.1", "3.4028234e38", "-1e-38", "16777217", "0.1"],
        ),
        1 => kind(
            "double",
            "$c",
            Form::Double,
            &["0", "-0e0", "1.7976931348623157e308", "2.2250738585072014e-308", "0.1", "1e15", "-123456789.125"],
        ),
        2 => {
            let ones = format!("b'{}'", "1".repeat(bits));
            kind(format!("bit({bits})"), "$c + 0", Form::Plain, &[&ones, "b'0'", "b'1'"])
        }
        3 => kind(
            "enum('a', 'B', '', 'ü', 'x y')",
            "if($c + 0 = 0, null, cast($c as char))",
            Form::Plain,
            &["'a'", "'B'", "'ü'", "'x y'", "''", "0", "2"],
        ),
        4 => kind(
            "set('a', 'b', 'ü', 'last')",
            "cast($c as char)",
            Form::Plain,
            &["''", "'a,ü'", "'last'", "15", "'b,a'"],
        ),
        5 | 6 => kind(
            "json",
            "$c",
            Form::Json,
            &[
                "'null'",
                "'[]'",
                "'{}'",
                "'{\"a\": {\"b\": [1, -2.5, null, true, \"x\"]}}'",
                "'\"é 😀 \\\\u0000 \\\\\" \"'",
                "'18446744073709551615'",
                "'-9223372036854775808'",
                "'1e300'",
                "'{\"b\": 1, \"a\": 2, \"aa\": 3}'",
                "'[[[[[[[[1]]]]]]]]'",
            ],
        ),
        7 => kind("geometry", "st_astext($c)", Form::Shape, geometry),
        8 => kind(
            "uuid",
            "cast($c as char)",
            Form::Plain,
            &[
                "'00000000-0000-0000-0000-000000000000'",
                "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
                "'123e4567-e89b-12d3-a456-426655440000'",
            ],
        ),
        _ => match rng.below(2) {
            0 => kind(
                "inet6",
                "cast($c as char)",
                Form::Plain,
                &["'::'", "'::1'", "'::ffff:1.2.3.4'", "'2001:db8::ff00:42:8329'"],
            ),
            _ => kind("inet4", "cast($c as char)", Form::Plain, &["'0.0.0.0'", "'255.255.255.255'", "'10.1.2.3'"]),
        },
    }
}

fn any(rng: &mut Rng, is_mariadb: bool) -> Kind {
    match rng.below(6) {
        0 => whole(rng),
        1 => decimal(rng),
        2 => text(rng),
        3 => bytes(rng),
        4 => temporal(rng),
        _ => other(rng, is_mariadb),
    }
}

/// A vector of four numbers, as MySQL has them.
fn vector() -> Kind {
    kind(
        "vector(4)",
        "vector_to_string($c)",
        Form::Numbers,
        &["string_to_vector('[1, -2.5, 0, 3e38]')", "string_to_vector('[0, 0, 0, 0]')"],
    )
}

struct Table {
    name: String,
    kinds: Vec<Kind>,
}

impl Table {
    fn column(at: usize) -> String {
        format!("c{at}")
    }

    fn columns(&self) -> String {
        (0..self.kinds.len()).map(Self::column).collect::<Vec<_>>().join(", ")
    }
}

struct Types {
    connection: Conn,
    tables: Vec<Table>,
}

impl Types {
    async fn run(&mut self, sql: &str) -> Result<(), String> {
        self.connection.query_drop(sql).await.map_err(|e| format!("{sql}: {e}"))
    }

    /// The tables, filled.
    async fn fill(&mut self, rng: &mut Rng, is_mariadb: bool) -> Result<(), String> {
        for number in 0..TABLES {
            let mut kinds: Vec<Kind> = (0..COLUMNS).map(|_| any(rng, is_mariadb)).collect();
            if !is_mariadb && number == 0 {
                kinds.push(vector());
            }
            let declared: Vec<String> =
                kinds.iter().enumerate().map(|(at, kind)| format!("{} {}", Table::column(at), kind.declared)).collect();
            let table = Table { name: format!("t{number}"), kinds };
            self.run(&format!("create table {} (id int primary key, {})", table.name, declared.join(", "))).await?;
            for id in 0..ROWS {
                let value = |rng: &mut Rng, kind: &Kind| match rng.chance(10) {
                    true => "null".to_owned(),
                    false => rng.pick(&kind.values).clone(),
                };
                // A server refuses some of its edges in some of its versions: one value at a time, what it takes is there.
                self.run(&format!("insert into {} (id) values ({id})", table.name)).await?;
                for (at, kind) in table.kinds.iter().enumerate() {
                    let set = format!(
                        "update ignore {} set {} = {} where id = {id}",
                        table.name,
                        Table::column(at),
                        value(rng, kind)
                    );
                    match self.connection.query_drop(&set).await {
                        Ok(()) | Err(mysql_async::Error::Server(_)) => {}
                        Err(error) => return Err(format!("{set}: {error}")),
                    }
                }
            }
            self.tables.push(table);
        }
        Ok(())
    }

    /// Copies all rows to other keys, and over rows of NULLs.
    async fn copy(&mut self) -> Result<(), String> {
        let mut statements = Vec::new();
        for table in &self.tables {
            let (name, columns) = (&table.name, table.columns());
            let set: Vec<String> =
                (0..table.kinds.len()).map(|at| format!("b.{0} = a.{0}", Table::column(at))).collect();
            statements.push(format!("insert into {name} select id + {WAY}, {columns} from {name} where id < {WAY}"));
            statements.push(format!("insert into {name} (id) select id + 2 * {WAY} from {name} where id < {WAY}"));
            statements.push(format!(
                "update {name} a join {name} b on b.id = a.id + 2 * {WAY} set {} where a.id < {WAY}",
                set.join(", ")
            ));
        }
        statements.push("update marks set n = n + 1".to_owned());
        for statement in statements {
            self.run(&statement).await?;
        }
        Ok(())
    }

    async fn rows(&mut self, sql: &str) -> Result<Rows, String> {
        let rows: Vec<Row> = self.connection.query(sql).await.map_err(|e| format!("{sql}: {e}"))?;
        let text = |value: Value| match value {
            Value::NULL => "NULL".to_owned(),
            Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => format!("{other:?}"),
        };
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
    }

    /// Every value of every row, however it came.
    async fn check(&mut self, instance: &Instance, trouble: &mut String) -> Result<(), String> {
        for number in 0..self.tables.len() {
            let table = &self.tables[number];
            let (name, columns) = (table.name.clone(), table.columns());
            let of: Vec<(String, Form, String)> = table
                .kinds
                .iter()
                .enumerate()
                .map(|(at, kind)| (kind.asked.replace("$c", &Table::column(at)), kind.form, kind.declared.clone()))
                .collect();
            let asked: Vec<&str> = of.iter().map(|(asked, ..)| asked.as_str()).collect();
            let theirs = self.rows(&format!("select id, {} from {name} where id < {WAY}", asked.join(", "))).await?;
            let ours = instance.rows_as_they_are(&format!("select id, {columns} from shop.{name}")).await?;
            let mut by_id = std::collections::BTreeMap::new();
            for row in &ours {
                by_id.insert(row[0].parse::<i64>().map_err(|e| e.to_string())?, &row[1..]);
            }
            if by_id.len() != theirs.len() * 3 {
                trouble.push_str(&format!("{name}: {} rows, and {} in the server\n", by_id.len(), theirs.len() * 3));
            }
            for row in &theirs {
                let id: i64 = row[0].parse().map_err(|e: std::num::ParseIntError| e.to_string())?;
                for (at, (_, form, declared)) in of.iter().enumerate() {
                    let said = &row[at + 1];
                    for (way, added) in [("loaded", 0), ("inserted", WAY), ("updated", 2 * WAY)] {
                        let Some(values) = by_id.get(&(id + added)) else { continue };
                        if !is_same(*form, said, &values[at]) {
                            trouble.push_str(&format!(
                                "{declared}: the server says {said:?}, {way} is {:?}\n",
                                values[at]
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether the server's text and ours are the same value.
fn is_same(form: Form, theirs: &str, ours: &str) -> bool {
    if theirs == "NULL" || ours == "NULL" {
        // A text may be this word.
        return theirs == ours || (form == Form::Date && ours == "NULL" && is_unreal(theirs));
    }
    match form {
        Form::Plain => plain(Some(theirs)) == plain(Some(ours)),
        Form::Float => {
            // Rounded from its digits, as the server's own float was.
            matches!((theirs.parse::<f32>(), ours.parse::<f32>()), (Ok(a), Ok(b)) if a == b)
        }
        Form::Double => matches!((theirs.parse::<f64>(), ours.parse::<f64>()), (Ok(a), Ok(b)) if a == b),
        Form::Bytes => ours.strip_prefix("\\x").is_some_and(|ours| ours.eq_ignore_ascii_case(theirs)),
        Form::Json => {
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
            theirs == ours || value(theirs).is_some_and(|theirs| value(ours) == Some(theirs))
        }
        Form::Date => {
            let ours = ours.strip_suffix("+00").unwrap_or(ours);
            plain(Some(theirs)) == plain(Some(ours))
        }
        Form::Shape => {
            let bare = |text: &str| text.replace([' ', '(', ')'], "");
            bare(theirs) == bare(ours)
        }
        Form::Numbers => {
            let numbers = |text: &str| -> Option<Vec<f32>> { serde_json::from_str(text).ok() };
            numbers(theirs).is_some_and(|theirs| numbers(ours) == Some(theirs))
        }
    }
}

/// Whether no calendar has this date.
fn is_unreal(text: &str) -> bool {
    let parts: Vec<u32> = text.get(..10).unwrap_or_default().split('-').filter_map(|part| part.parse().ok()).collect();
    let [year, month, day] = parts[..] else { return false };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    !(1..=12).contains(&month) || !(1..=days).contains(&day)
}

/// One seed from its beginning to its end.
pub(crate) async fn types(walk: &Walk) -> Result<(), String> {
    let mut rng = Rng::new(walk.seed);
    let (connection, port, database) = open(walk.server, "types").await?;
    let mut types = Types { connection, tables: Vec::new() };
    for statement in [
        "set names utf8mb4",
        "set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'",
        "create table marks (id int primary key, n bigint not null)",
        "insert into marks values (1, 0)",
    ] {
        types.run(statement).await?;
    }
    types.fill(&mut rng, walk.server == "mariadb").await?;
    let names: Vec<&str> = types.tables.iter().map(|table| table.name.as_str()).chain(["marks"]).collect();
    let mut instance = Instance::over(port, &database, &names)?;
    instance.start()?;
    instance.wait_for_mark(0).await?;
    types.copy().await?;
    instance.wait_for_mark(1).await?;
    let mut trouble = String::new();
    types.check(&instance, &mut trouble).await?;
    instance.kill()?;
    instance.start()?;
    instance.wait_for_mark(1).await?;
    let mut after = String::new();
    types.check(&instance, &mut after).await?;
    if trouble != after {
        trouble.push_str(&format!("after a restart it is another:\n{after}"));
    }
    for row in instance.rows("select node, reason, \"row\" from tidemill.rejects").await? {
        trouble.push_str(&format!("rejected: {}\n", row.join(" | ")));
    }
    if let Err(differs) = instance.ordered("reconcile source") {
        trouble.push_str(&differs);
    }
    if !trouble.is_empty() {
        let mut lines: Vec<&str> = trouble.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        return Err(lines.join("\n"));
    }
    instance.stop()?;
    types.run(&format!("drop database {database}")).await?;
    types.connection.disconnect().await.map_err(|e| e.to_string())
}
