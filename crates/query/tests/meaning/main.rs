//! What SQL means: expressions with PostgreSQL's type and answer, read here as a statement and as a model's flow.
//!
//! There are two lists: `everyday.tsv` beside this file, and `conformance/sql/expressions.tsv` in the folder `shared` beside
//! a checkout, without which its trial is left out. Per line: the expression, its type, the answer as psql writes it
//! (rows by ` | `, columns by `, `), or `error` and the SQLSTATE. An expression is *equal* here, *refused* (an error in
//! place of an answer), or *different*. What has a FROM may read the tables below.
//!
//! `known.tsv` and `known_everyday.tsv` hold every line that is not equal, with what it gives instead: what is in one and
//! has become equal, and what is not in it and differs, fails the trial. `UPDATE=1` writes them anew.
//! `TIDEMILL_EXPRESSIONS` names another list, which is only counted.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and tells its table")]

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use libtest_mimic::{Arguments, Failed, Trial};
use plan::{TableInfo, TableName, parse_table_definition};
use query::{Catalog, Form, Isolation, Runtime, Session, Settings, Storage, StoredTable, Visitor};
use relation::{Layout, Rows, TableId, Value};

/// Where the list may lie beside a checkout or a work tree of one.
const LISTS: [&str; 2] =
    ["../../../shared/conformance/sql/expressions.tsv", "../../../../shared/conformance/sql/expressions.tsv"];

/// The tables of the warehouse and their rows; PostgreSQL's answers are over the same.
const TABLES: [(&str, &[&str]); 2] = [
    ("one_row(id bigint primary key)", &["1"]),
    (
        "things(id bigint primary key, i integer, n decimal(10,2), f double, s text, d date, ts timestamp, \
         tz timestamptz, b boolean, j json)",
        &[
            r#"1 | 10 | 12.50 | 1.5 | Ann | 2024-01-15 | 2024-01-15 10:30:00 | 2024-01-15 10:30:00+00 | true | {"a":1,"tags":["x","y"],"o":{"k":"v"}}"#,
            "2 | -3 | 0.00 | -2.25 | bob smith | 2024-02-29 | 2024-02-29 23:59:59.5 | 2024-02-29 23:59:59.5+00 | false | [1,2,3]",
            "3 | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL",
            r#"4 | 7 | 99.99 | 1234567.125 | Ünï | 2023-12-31 | 2023-12-31 00:00:00 | 2023-12-31 20:00:00+00 | false | {"a":null}"#,
            r#"5 | 10 | -5.25 | 0 |  | 2024-03-05 | 2024-03-05 14:07:09.123456 | 2024-03-05 14:07:09.123456+00 | true | {"a":5,"tags":[]}"#,
        ],
    ),
];

fn main() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let trials = match std::env::var_os("TIDEMILL_EXPRESSIONS").map(PathBuf::from) {
        Some(named) => vec![trial("as postgres", named, None)],
        None => {
            let own = manifest.join("tests/meaning");
            let shared = LISTS.map(|list| manifest.join(list)).into_iter().find(|path| path.exists());
            vec![
                match shared {
                    None => Trial::test(
                        "as postgres: left out, there is no list of expressions beside the checkout",
                        || Ok(()),
                    )
                    .with_ignored_flag(true),
                    Some(list) => trial("as postgres", list, Some(own.join("known.tsv"))),
                },
                trial("everyday as postgres", own.join("everyday.tsv"), Some(own.join("known_everyday.tsv"))),
            ]
        }
    };
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}

fn trial(name: &str, list: PathBuf, known: Option<PathBuf>) -> Trial {
    Trial::test(name, move || run(&list, known.as_deref()).map_err(Failed::from))
}

/// What an expression gives: a type per column and rows of cells, or an error's code and message.
type Outcome = Result<(Vec<String>, Vec<Vec<Option<String>>>), (String, String)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Equal,
    Refused,
    Different,
}

struct Line<'a> {
    sql: String,
    text: &'a str,
    types: &'a str,
    answer: &'a str,
}

fn run(list: &Path, known: Option<&Path>) -> Result<(), String> {
    let text = std::fs::read_to_string(list).map_err(|e| format!("{}: {e}", list.display()))?;
    let house = House::new();
    let mut counts: BTreeMap<(&str, Verdict), usize> = BTreeMap::new();
    let mut found = String::new();
    for line in text.lines().filter(|line| !line.starts_with("# ")).filter_map(line) {
        for (way, outcome) in [(Way::Read, house.read(&line.sql)), (Way::Model, house.model(&line.sql))] {
            let (verdict, got) = judged(&line, &outcome, way);
            let way = way.name();
            *counts.entry((way, verdict)).or_default() += 1;
            if verdict != Verdict::Equal {
                found += &format!("{way}\t{verdict:?}\t{}\t{} {}\t{got}\n", line.text, line.types, line.answer);
            }
        }
    }
    for ((way, verdict), count) in &counts {
        println!("{way:<6} {verdict:?}: {count}");
    }
    let Some(known) = known else {
        println!("{found}");
        return Ok(());
    };
    if std::env::var_os("UPDATE").is_some_and(|v| v == "1") {
        return std::fs::write(known, found).map_err(|e| e.to_string());
    }
    let file = known.display();
    let known = std::fs::read_to_string(known).map_err(|e| format!("{file}: {e}"))?;
    let changed = |from: &str, to: &str, sign: &str| {
        let lines = from.lines().filter(|line| !to.lines().any(|other| other == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    let difference = changed(&known, &found, "-") + &changed(&found, &known, "+");
    if difference.is_empty() {
        Ok(())
    } else {
        Err(format!("{file} says otherwise (UPDATE=1 writes it):\n{difference}"))
    }
}

fn line(text: &str) -> Option<Line<'_>> {
    let mut parts = text.split('\t');
    let (text, types, answer) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
    let is_query =
        ["select", "with", "values", "(select"].iter().any(|word| text.trim_start().to_lowercase().starts_with(word));
    Some(Line { sql: if is_query { text.to_owned() } else { format!("select {text}") }, text, types, answer })
}

/// How an expression is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Model,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Model => "model",
        }
    }
}

fn judged(line: &Line<'_>, outcome: &Outcome, way: Way) -> (Verdict, String) {
    let wants_error = line.types == "error";
    let is_model = way == Way::Model;
    // Rows come in any order, unless the text says in which one.
    let unordered = is_model || !line.sql.to_lowercase().contains("order by");
    match outcome {
        Err((code, _)) if wants_error && (code == line.answer || is_model) => (Verdict::Equal, String::new()),
        Err((code, message)) => {
            let message = message.lines().next().unwrap_or_default().replace('\t', " ");
            // The right refusal by another number is told apart from none at all by `error` in its own column.
            (Verdict::Refused, format!("{code} {message}"))
        }
        Ok((types, rows)) => {
            let cells = |row: &Vec<Option<String>>| {
                row.iter().map(|c| c.as_deref().unwrap_or("NULL").replace('\n', "\\n")).collect::<Vec<_>>().join(", ")
            };
            let mut rows: Vec<String> = rows.iter().map(cells).collect();
            let mut wanted: Vec<String> = line.answer.split(" | ").map(str::to_owned).collect();
            if line.answer.is_empty() && rows.is_empty() {
                wanted.clear();
            }
            if unordered {
                rows.sort();
                wanted.sort();
            }
            let types = types.join(", ");
            let kinds: Vec<&str> = line.types.split(", ").map(|t| if is_model { kept_as(t) } else { t }).collect();
            if types == kinds.join(", ") && rows == wanted && !wants_error {
                (Verdict::Equal, String::new())
            } else {
                (Verdict::Different, format!("{types} {}", rows.join(" | ")))
            }
        }
    }
}

/// The type of a model's column for what PostgreSQL keeps under a name of its own.
fn kept_as(name: &str) -> &str {
    match name {
        "character varying" | "character" | "name" | "char" | "uuid" => "text",
        "jsonb" => "json",
        other => other,
    }
}

fn sql_name(name: &str) -> String {
    if let Some(element) = name.strip_prefix('_') {
        return format!("{}[]", sql_name(element));
    }
    match name {
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "bool" => "boolean",
        "varchar" => "character varying",
        "bpchar" => "character",
        other => other,
    }
    .to_owned()
}

/// A warehouse with the tables.
struct House {
    session: Session,
    runtime: tokio::runtime::Runtime,
    tables: Vec<StoredTable>,
}

struct Memory(BTreeMap<(u32, Vec<u8>), Vec<u8>>);

impl Storage for Memory {
    fn step(&self) -> u64 {
        1
    }

    fn get(&self, table: TableId, key: &[u8], found: &mut dyn FnMut(&[u8])) -> query::Result<()> {
        self.0.get(&(table.0, key.to_vec())).into_iter().for_each(|row| found(row));
        Ok(())
    }

    fn visit(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>, visitor: Visitor<'_>) -> query::Result<()> {
        for (key, row) in self.between(table, from, to) {
            if visitor(key, row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> query::Result<Option<Vec<u8>>> {
        Ok(self.between(table, from, to).last().map(|(key, _)| key.to_vec()))
    }
}

impl Memory {
    fn between<'a>(
        &'a self,
        table: TableId,
        from: Bound<&'a [u8]>,
        to: Bound<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let of_table = self.0.range((table.0, Vec::new())..(table.0 + 1, Vec::new()));
        of_table
            .map(|((_, key), row)| (key.as_slice(), row.as_slice()))
            .filter(move |(key, _)| RangeBounds::<[u8]>::contains(&(from, to), *key))
    }
}

impl House {
    fn new() -> Self {
        let mut catalog = Catalog::new(vec!["public".to_owned()]);
        let mut stored = BTreeMap::new();
        let mut tables = Vec::new();
        for (id, (definition, lines)) in (10_u32..).zip(TABLES) {
            let (name, schema) = parse_table_definition(definition).unwrap();
            let layout = Layout::new(schema.types());
            for line in lines {
                let types = schema.columns.iter().map(|column| column.data_type);
                let values: Vec<Value> =
                    types.zip(line.split(" | ")).map(|(t, text)| Value::parse(t, text).unwrap()).collect();
                let mut rows = Rows::new();
                rows.push_values(&layout, &values).unwrap();
                let row = rows.get(0).to_vec();
                let mut key = Vec::new();
                relation::key::push_row(&mut key, &layout, &row, &schema.key);
                stored.insert((id, key), row);
            }
            let table = StoredTable { name, id: TableId(id), schema, form: Form::Keyed };
            catalog.add_table(table.clone());
            tables.push(table);
        }
        let settings = Settings { memory_bytes: 256 << 20, ..Settings::default() };
        let session = Session::new(Memory(stored), Arc::new(catalog), Runtime::new(&settings).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { session, runtime, tables }
    }

    fn read(&self, sql: &str) -> Outcome {
        self.runtime.block_on(async {
            let answer = self.session.sql(sql).await.map_err(told)?;
            let (schema, batch) = (Arc::clone(&answer.schema), whole(answer.stream).await?);
            outcome(&schema, &batch)
        })
    }

    /// The rows of the model's flow; a query without FROM is asked of the table's one row.
    fn model(&self, sql: &str) -> Outcome {
        let planned = plan::plan_model(sql, self).map_err(|refusal| ("refused".to_owned(), refusal.to_string()))?;
        self.runtime.block_on(async {
            let stream =
                self.session.flow(&planned.flow, planned.flow.output, &Isolation::Query).await.map_err(told)?;
            let schema = planned.schema.to_arrow();
            outcome(&schema, &whole(stream).await?)
        })
    }
}

impl plan::Catalog for House {
    fn table(&self, _: Option<&str>, name: &str) -> Option<TableInfo> {
        let table = self.tables.iter().find(|table| table.name.name == name)?;
        Some(TableInfo { name: TableName::new(&table.name.schema, name), schema: table.schema.clone() })
    }

    fn view(&self, _: Option<&str>, _: &str) -> Option<String> {
        None
    }
}

fn told(error: query::Error) -> (String, String) {
    (error.code.to_owned(), error.message)
}

async fn whole(stream: SendableRecordBatchStream) -> Result<RecordBatch, (String, String)> {
    let schema = stream.schema();
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(|e| told(query::Error::from(e)))?;
    concat_batches(&schema, &batches).map_err(|e| ("XX000".to_owned(), e.to_string()))
}

fn outcome(schema: &arrow::datatypes::Schema, batch: &RecordBatch) -> Outcome {
    let mut types = Vec::new();
    let mut rows = vec![Vec::new(); batch.num_rows()];
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let (name, cells) = serve::shown(field, array).map_err(|e| (e.code.to_owned(), e.message))?;
        types.push(sql_name(&name));
        rows.iter_mut().zip(cells).for_each(|(row, cell)| row.push(cell));
    }
    Ok((types, rows))
}
