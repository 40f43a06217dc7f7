//! What SQL means: expressions with PostgreSQL's type and answer, read here as a statement and as a model's flow.
//!
//! The list is `conformance/sql/expressions.tsv` in the folder `shared` beside a checkout; without it the trial is left
//! out. Per line: the expression, its type, the answer as psql writes it (rows by ` | `, columns by `, `), or `error` and
//! the SQLSTATE. An expression is *equal* here, *refused* (an error in place of an answer), or *different*.
//!
//! `known.tsv` beside this file holds every line that is not equal, with what it gives instead: what is in it and has
//! become equal, and what is not in it and differs, fails the trial. `UPDATE=1` writes it anew. `TIDEMILL_EXPRESSIONS`
//! names another list, which is only counted.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and tells its table")]

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
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

fn main() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("TIDEMILL_EXPRESSIONS").map(PathBuf::from);
    let counted = named.is_some();
    let list = named.into_iter().chain(LISTS.map(|list| manifest.join(list))).find(|path| path.exists());
    let trial = match list {
        None => Trial::test("as postgres: left out, there is no list of expressions beside the checkout", || Ok(()))
            .with_ignored_flag(true),
        Some(list) => Trial::test("as postgres", move || run(&list, counted).map_err(Failed::from)),
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit()
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

fn run(list: &Path, counted: bool) -> Result<(), String> {
    let text = std::fs::read_to_string(list).map_err(|e| format!("{}: {e}", list.display()))?;
    let house = House::new();
    let mut counts: BTreeMap<(&str, Verdict), usize> = BTreeMap::new();
    let mut found = String::new();
    for line in text.lines().filter(|line| !line.starts_with("# ")).filter_map(line) {
        for (way, outcome) in [("read", house.read(&line.sql)), ("model", house.model(&line.sql))] {
            let (verdict, got) = judged(&line, &outcome, way == "model");
            *counts.entry((way, verdict)).or_default() += 1;
            if verdict != Verdict::Equal {
                found += &format!("{way}\t{verdict:?}\t{}\t{} {}\t{got}\n", line.text, line.types, line.answer);
            }
        }
    }
    for ((way, verdict), count) in &counts {
        println!("{way:<6} {verdict:?}: {count}");
    }
    if counted {
        println!("{found}");
        return Ok(());
    }
    let known = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/meaning/known.tsv");
    if std::env::var_os("UPDATE").is_some_and(|v| v == "1") {
        return std::fs::write(&known, found).map_err(|e| e.to_string());
    }
    let known = std::fs::read_to_string(&known).map_err(|e| e.to_string())?;
    let changed = |from: &str, to: &str, sign: &str| {
        let lines = from.lines().filter(|line| !to.lines().any(|other| other == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    let difference = changed(&known, &found, "-") + &changed(&found, &known, "+");
    if difference.is_empty() {
        Ok(())
    } else {
        Err(format!("known.tsv says otherwise (UPDATE=1 writes it):\n{difference}"))
    }
}

fn line(text: &str) -> Option<Line<'_>> {
    let mut parts = text.split('\t');
    let (text, types, answer) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
    let is_query = ["select", "with", "values"].iter().any(|word| text.trim_start().to_lowercase().starts_with(word));
    Some(Line { sql: if is_query { text.to_owned() } else { format!("select {text}") }, text, types, answer })
}

fn judged(line: &Line<'_>, outcome: &Outcome, unordered: bool) -> (Verdict, String) {
    let wants_error = line.types == "error";
    match outcome {
        Err((code, _)) if wants_error && (code == line.answer || unordered) => (Verdict::Equal, String::new()),
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
            let kinds: Vec<&str> = line.types.split(", ").map(|t| if unordered { kept_as(t) } else { t }).collect();
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

/// A warehouse with one table of one row.
struct House {
    session: Session,
    runtime: tokio::runtime::Runtime,
    table: StoredTable,
}

struct OneRow(Vec<u8>, Vec<u8>);

impl Storage for OneRow {
    fn step(&self) -> u64 {
        1
    }

    fn get(&self, _: TableId, key: &[u8], found: &mut dyn FnMut(&[u8])) -> query::Result<()> {
        if key == self.0 {
            found(&self.1);
        }
        Ok(())
    }

    fn visit(&self, _: TableId, _: Bound<&[u8]>, _: Bound<&[u8]>, visitor: Visitor<'_>) -> query::Result<()> {
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = visitor(&self.0, &self.1)?;
        Ok(())
    }

    fn last_key(&self, _: TableId, _: Bound<&[u8]>, _: Bound<&[u8]>) -> query::Result<Option<Vec<u8>>> {
        Ok(Some(self.0.clone()))
    }
}

impl House {
    fn new() -> Self {
        let (name, schema) = parse_table_definition("one_row(id bigint primary key)").unwrap();
        let layout = Layout::new(schema.types());
        let mut rows = Rows::new();
        rows.push_values(&layout, &[Value::Int(1)]).unwrap();
        let row = rows.get(0).to_vec();
        let mut key = Vec::new();
        relation::key::push_row(&mut key, &layout, &row, &schema.key);
        let table = StoredTable { name, id: TableId(10), schema, form: Form::Keyed };
        let mut catalog = Catalog::new(vec!["public".to_owned()]);
        catalog.add_table(table.clone());
        let settings = Settings { memory_bytes: 256 << 20, ..Settings::default() };
        let session = Session::new(OneRow(key, row), Arc::new(catalog), Runtime::new(&settings).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { session, runtime, table }
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
        let table = &self.table;
        (table.name.name == name)
            .then(|| TableInfo { name: TableName::new(&table.name.schema, name), schema: table.schema.clone() })
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
