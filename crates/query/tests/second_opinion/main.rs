//! PostgreSQL as a second opinion: random models over random small tables, answered here and there.
//!
//! Models are built, kept and recomputed by one planner, so no comparison among the three finds a planner's mistake. Here
//! each seed stands for some rows and a SELECT; what the query engine makes of the text, of the model's plan and of its
//! flow is compared with PostgreSQL's rows. A difference is shrunk and printed as a case file. With `SLOW=1` only; the
//! server is that of `scripts/services start postgres`.
//!
//! ```text
//! TIDEMILL_SEEDS=1000..21000   other seeds than the first few hundred
//! TIDEMILL_DIFFERENCES=20      go on after a difference until there are so many
//! TIDEMILL_TOLD=1              what was refused, and how often
//! ```

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and tells what it was asked for")]

mod joins;
mod question;
mod tape;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType as Arrow;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use libtest_mimic::{Arguments, Failed, Trial};
use plan::{TableInfo, parse_table_definition};
use query::error::code;
use query::{Catalog, Form, Isolation, Runtime, Session, Settings, Storage, StoredTable, Visitor};
use question::{TABLES, Type, written};
use relation::{DataType, Layout, Rows, Schema, TableId, Value};
use tape::{shrunk, tape};
use testkit::Rng;

const SEEDS: Range<u64> = 0..400;
const TRIALS_OF_A_DIFFERENCE_MAX: usize = 1500;

fn main() {
    let slow = std::env::var("SLOW").as_deref() == Ok("1");
    let name = if slow { "postgres agrees" } else { "postgres agrees: left out, SLOW=1 and a server make it run" };
    let merged = if slow { "postgres agrees on joined columns" } else { "postgres agrees on joined columns: left out" };
    let trials = vec![
        Trial::test(name, || run().map_err(Failed::from)).with_ignored_flag(!slow),
        Trial::test(merged, || House::new().and_then(|house| joins::differences(&house)).map_err(Failed::from))
            .with_ignored_flag(!slow),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}

/// Rows of each table, as text; none is NULL.
type Contents = Vec<Vec<Vec<Option<String>>>>;
/// A row as text that can be compared: numbers by their value.
type Row = Vec<String>;

fn run() -> Result<(), String> {
    let seeds = match std::env::var("TIDEMILL_SEEDS") {
        Err(_) => SEEDS,
        Ok(text) => range(&text).ok_or_else(|| format!("TIDEMILL_SEEDS is FROM..TO, not {text}"))?,
    };
    let differences_max = std::env::var("TIDEMILL_DIFFERENCES").map_or(Ok(1), |text| text.parse::<usize>());
    let differences_max = differences_max.map_err(|e| format!("TIDEMILL_DIFFERENCES: {e}"))?;
    let house = House::new()?;
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let mut differences = Vec::new();
    for seed in seeds {
        let (question, rows) = (tape(seed), contents(seed));
        match house.ask(&written(&question), &rows) {
            Outcome::Same => *told.entry("same".to_owned()).or_default() += 1,
            Outcome::Unanswered(why) => *told.entry(why).or_default() += 1,
            Outcome::Different(what) => {
                let case = house.case(seed, &what, question, rows);
                if differences_max > 1 {
                    println!("{case}");
                }
                differences.push(case);
                if differences.len() >= differences_max {
                    break;
                }
            }
        }
    }
    if std::env::var("TIDEMILL_TOLD").is_ok() {
        let mut lines: Vec<_> = told.iter().collect();
        lines.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        lines.iter().for_each(|(why, count)| println!("{count:6} {why}"));
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

fn range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// What came of one question.
enum Outcome {
    Same,
    /// PostgreSQL or this planner refuses it.
    Unanswered(String),
    Different(Difference),
}

struct Difference {
    /// Which of our ways differs.
    way: &'static str,
    ours: String,
    theirs: Vec<Row>,
}

struct House {
    runtime: tokio::runtime::Runtime,
    queries: Arc<Runtime>,
    postgres: tokio_postgres::Client,
    tables: Vec<StoredTable>,
    catalog: Arc<Catalog>,
}

impl House {
    fn new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let variable = |what: &str| {
            let name = format!("TIDEMILL_TEST_POSTGRES_{what}");
            std::env::var(&name).map_err(|_| format!("SLOW=1 needs {name}: scripts/services start postgres"))
        };
        let mut config = tokio_postgres::Config::new();
        let port = variable("PORT")?.parse().map_err(|e| format!("the port: {e}"))?;
        config.host(variable("HOST")?).port(port).user(variable("USER")?).dbname("postgres");
        let postgres = runtime.block_on(async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(|e| e.to_string())?;
            tokio::spawn(connection);
            for table in &TABLES {
                let sql = format!("create temporary table {}", table.definition);
                client.batch_execute(&sql).await.map_err(|e| e.to_string())?;
            }
            Ok::<_, String>(client)
        })?;
        let mut tables = Vec::new();
        let mut catalog = Catalog::new(vec!["public".to_owned()]);
        for (i, table) in TABLES.iter().enumerate() {
            let (name, schema) = parse_table_definition(table.definition)?;
            let form = if schema.key.is_empty() { Form::Bag } else { Form::Keyed };
            tables.push(StoredTable { name, id: TableId(10 + u32::try_from(i).unwrap()), schema, form });
            catalog.add_table(tables[i].clone());
        }
        let queries = Runtime::new(&Settings::default()).map_err(|e| e.to_string())?;
        Ok(Self { runtime, queries, postgres, tables, catalog: Arc::new(catalog) })
    }

    fn ask(&self, sql: &str, rows: &Contents) -> Outcome {
        let theirs = match self.runtime.block_on(self.theirs(sql, rows)) {
            Ok(theirs) => Ok(theirs),
            Err(why) if why == plan::SEVERAL_ROWS => Err(code::CARDINALITY),
            Err(why) => return Outcome::Unanswered(format!("postgres: {why}")),
        };
        let session =
            Session::new(Memory::new(&self.tables, rows), Arc::clone(&self.catalog), Arc::clone(&self.queries));
        let mut refused = None;
        for (way, answer) in self.runtime.block_on(ours(&session, sql, &Known(&self.tables))) {
            let different = |ours: String| {
                let told = |code: &str| vec![vec![format!("ERROR {code}")]];
                Outcome::Different(Difference { way, ours, theirs: theirs.clone().unwrap_or_else(told) })
            };
            match answer {
                Answer::Rows(ours) if theirs.as_ref() == Ok(&ours) => {}
                Answer::Rows(ours) => return different(shown(&ours)),
                Answer::Failed(why) if theirs.as_ref().is_err_and(|code| why.starts_with(code)) => {}
                Answer::Failed(why) => return different(why),
                Answer::Refused(why) => refused = Some(format!("{way}: {why}")),
            }
        }
        refused.map_or(Outcome::Same, Outcome::Unanswered)
    }

    /// What PostgreSQL calls the columns of an answer, and what they are called here.
    fn names(&self, sql: &str) -> Result<(Vec<String>, Vec<String>), String> {
        let theirs = self.runtime.block_on(self.postgres.prepare(sql)).map_err(|e| e.to_string())?;
        let theirs = theirs.columns().iter().map(|column| column.name().to_owned());
        let nothing: Contents = TABLES.iter().map(|_| Vec::new()).collect();
        let session =
            Session::new(Memory::new(&self.tables, &nothing), Arc::clone(&self.catalog), Arc::clone(&self.queries));
        let ours = self.runtime.block_on(session.sql(sql)).map_err(|e| format!("{sql}: {e}"))?;
        let ours = ours.schema.fields().iter().map(|field| field.name().clone());
        Ok((theirs.collect(), ours.collect()))
    }

    async fn theirs(&self, sql: &str, rows: &Contents) -> Result<Vec<Row>, String> {
        let mut fill = "begin;".to_owned();
        for (table, rows) in TABLES.iter().zip(rows) {
            fill += &format!("delete from {};", table.name);
            for row in rows {
                let values: Vec<_> =
                    row.iter().map(|v| v.as_ref().map_or_else(|| "null".to_owned(), |v| format!("'{v}'"))).collect();
                fill += &format!("insert into {} values ({});", table.name, values.join(", "));
            }
        }
        self.postgres.batch_execute(&fill).await.map_err(|e| format!("{e:?}"))?;
        let answer = self.postgres.simple_query(sql).await;
        self.postgres.batch_execute("rollback").await.map_err(|e| e.to_string())?;
        let messages = answer.map_err(|e| e.as_db_error().map_or_else(|| e.to_string(), |e| e.message().to_owned()))?;
        let mut out = Vec::new();
        for message in messages {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                out.push((0..row.len()).map(|i| row.get(i).map_or_else(|| "NULL".to_owned(), comparable)).collect());
            }
        }
        out.sort();
        Ok(out)
    }

    /// The smallest question and rows that still differ, as a case file.
    fn case(&self, seed: u64, first: &Difference, question: Vec<u16>, mut rows: Contents) -> String {
        let differs = |sql: &str, rows: &Contents| match self.ask(sql, rows) {
            Outcome::Different(what) if what.way == first.way => Some(what),
            _ => None,
        };
        let question =
            shrunk(question, TRIALS_OF_A_DIFFERENCE_MAX, &mut |tape| differs(&written(tape), &rows).is_some());
        let sql = written(&question);
        for table in 0..rows.len() {
            for row in (0..rows[table].len()).rev() {
                let mut fewer = rows.clone();
                fewer[table].remove(row);
                if differs(&sql, &fewer).is_some() {
                    rows = fewer;
                }
            }
        }
        let mut out = format!("# seed {seed}, by {}\n", first.way);
        for (table, rows) in TABLES.iter().zip(&rows) {
            if !rows.is_empty() || sql.contains(&format!(" {} r", table.name)) {
                out += &format!("table\n{}\n\n", table.definition);
            }
        }
        out += &format!("model m\n{sql}\n\nstep\n");
        for (table, rows) in TABLES.iter().zip(&rows) {
            for row in rows {
                let values: Vec<_> = row.iter().map(|v| v.clone().unwrap_or_else(|| "NULL".to_owned())).collect();
                let quoted = values.iter().map(|v| if v.is_empty() { "''".to_owned() } else { v.clone() });
                out += &format!("+ {} {}\n", table.name, quoted.collect::<Vec<_>>().join(" "));
            }
        }
        let Some(what) = differs(&sql, &rows) else { return out + "# (no longer differs)\n" };
        out + &format!("\nshow m\n----\n{}\n\n# ours:\n{}\n", shown(&what.theirs), what.ours)
    }
}

fn shown(rows: &[Row]) -> String {
    rows.iter().map(|row| row.join(" ")).collect::<Vec<_>>().join("\n")
}

/// Numbers by their value, to four digits (averages end earlier here than there); truth by words.
fn comparable(text: &str) -> String {
    match text {
        "t" => return "true".to_owned(),
        "f" => return "false".to_owned(),
        "" => return "''".to_owned(),
        _ => {}
    }
    match text.parse::<f64>() {
        Ok(number) if text.contains('.') => {
            let fixed = format!("{number:.4}");
            let short = fixed.trim_end_matches('0').trim_end_matches('.');
            if short == "-0" { "0".to_owned() } else { short.to_owned() }
        }
        _ => text.to_owned(),
    }
}

/// One of our ways to an answer.
enum Answer {
    Rows(Vec<Row>),
    /// It is not supported, and says so.
    Refused(String),
    /// It was taken on, and then failed.
    Failed(String),
}

/// The text as a query, the model's plan, and its flow.
async fn ours(session: &Session, sql: &str, catalog: &Known<'_>) -> Vec<(&'static str, Answer)> {
    let text = match session.sql(sql).await {
        Ok(answer) => collected(answer.stream).await,
        Err(error) => Err(error),
    };
    let mut out = vec![("query", judged(text))];
    let planned = match plan::plan_model(sql, catalog) {
        Ok(planned) => planned,
        Err(refusal) => {
            out.push(("model", Answer::Refused(format!("{} {}", refusal.message, refusal.detail))));
            return out;
        }
    };
    let logical = match session.logical(planned.logical.clone()).await {
        Ok(stream) => collected(stream).await,
        Err(error) => Err(error),
    };
    out.push(("plan", judged(logical)));
    let flow = match session.flow(&planned.flow, planned.flow.output, &Isolation::Query).await {
        Ok(stream) => collected(stream).await,
        Err(error) => Err(error),
    };
    out.push(("flow", judged(flow)));
    out
}

fn judged(answer: query::Result<Vec<Row>>) -> Answer {
    match answer {
        Ok(rows) => Answer::Rows(rows),
        Err(error) if error.code == code::NOT_SUPPORTED => Answer::Refused(error.message),
        Err(error) => Answer::Failed(format!("{}: {}", error.code, error.message)),
    }
}

async fn collected(stream: SendableRecordBatchStream) -> query::Result<Vec<Row>> {
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    let mut out = Vec::new();
    for batch in &batches {
        let options = FormatOptions::default().with_null("NULL");
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|e| query::Error::internal(e.to_string()))?;
        for row in 0..batch.num_rows() {
            let value =
                |(column, array): (&ArrayFormatter<'_>, &ArrayRef)| match (array.is_null(row), array.data_type()) {
                    (true, _) => "NULL".to_owned(),
                    (_, Arrow::Interval(_) | Arrow::List(_)) => nested(array, row),
                    _ => comparable(&column.value(row).to_string()),
                };
            out.push(columns.iter().zip(batch.columns()).map(value).collect());
        }
    }
    out.sort();
    Ok(out)
}

/// An interval or an array as PostgreSQL writes it.
fn nested(array: &ArrayRef, row: usize) -> String {
    let own = DataType::from_arrow(array.data_type()).unwrap();
    let layout = Layout::new(vec![own]);
    let mut bytes = Vec::new();
    let values = arrow::compute::cast(array, &own.to_arrow()).unwrap();
    relation::columns::RowEncoder::new(layout.clone(), vec![values]).push(row, &mut bytes).unwrap();
    layout.value(&bytes, 0).to_string()
}

/// Few rows of few values, a quarter of them NULL.
fn contents(seed: u64) -> Contents {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let table = |table: &question::Table| {
        let count = rng.below(7);
        let mut rows = Vec::new();
        let mut keys: Vec<Vec<Option<String>>> = Vec::new();
        for _ in 0..count {
            let row: Vec<_> =
                table.columns.iter().enumerate().map(|(i, (_, of))| cell(&mut rng, *of, i < table.key)).collect();
            if table.key > 0 && keys.contains(&row[..table.key].to_vec()) {
                continue;
            }
            keys.push(row[..table.key].to_vec());
            rows.push(row);
        }
        rows
    };
    TABLES.iter().map(table).collect()
}

fn cell(rng: &mut Rng, of: Type, in_key: bool) -> Option<String> {
    if !in_key && rng.below(4) == 0 {
        return None;
    }
    let values: &[&str] = match of {
        Type::Int => &["1", "2", "3", "0", "-1"],
        Type::Decimal => &["1.50", "0.00", "2.25", "-2.25", "10.00"],
        Type::Text => &["x", "y", "", "zx"],
        Type::Bool => &["true", "false"],
        Type::Span => &["1 day", "2 days"],
        Type::List => &["{x,y}", "{}"],
    };
    Some((*rng.pick(values)).to_owned())
}

/// The tables as `plan` looks them up.
struct Known<'a>(&'a [StoredTable]);

impl plan::Catalog for Known<'_> {
    fn table(&self, _schema: Option<&str>, name: &str) -> Option<TableInfo> {
        let found = self.0.iter().find(|table| table.name.name == name);
        found.map(|table| TableInfo { name: table.name.clone(), schema: table.schema.clone() })
    }

    fn view(&self, _schema: Option<&str>, _name: &str) -> Option<String> {
        None
    }
}

/// The tables in memory.
struct Memory(BTreeMap<(u32, Vec<u8>), Vec<u8>>);

impl Memory {
    fn new(tables: &[StoredTable], contents: &Contents) -> Self {
        let mut entries = BTreeMap::new();
        for (table, rows) in tables.iter().zip(contents) {
            let layout = Layout::new(table.schema.types());
            for row in rows {
                let row = encoded(&layout, &table.schema, row);
                let mut key = Vec::new();
                match table.form {
                    Form::Keyed => {
                        relation::key::push_row(&mut key, &layout, &row, &table.schema.key);
                        entries.insert((table.id.0, key), row);
                    }
                    Form::Bag => {
                        key.extend_from_slice(&relation::key::hash128(&row));
                        let entry = entries.entry((table.id.0, key));
                        let value: &mut Vec<u8> = entry.or_insert_with(|| [&[0; 8], row.as_slice()].concat());
                        let weight = i64::from_le_bytes(value[..8].try_into().unwrap()) + 1;
                        value[..8].copy_from_slice(&weight.to_le_bytes());
                    }
                }
            }
        }
        Self(entries)
    }
}

fn encoded(layout: &Layout, schema: &Schema, row: &[Option<String>]) -> Vec<u8> {
    let values = row.iter().zip(&schema.columns).map(|(text, column)| match text {
        None => Value::Null,
        Some(text) => Value::parse(column.data_type, text).unwrap(),
    });
    let mut rows = Rows::new();
    rows.push_values(layout, &values.collect::<Vec<_>>()).unwrap();
    rows.get(0).to_vec()
}

impl Storage for Memory {
    fn step(&self) -> u64 {
        1
    }

    fn get(&self, table: TableId, key: &[u8], found: &mut dyn FnMut(&[u8])) -> query::Result<()> {
        if let Some(value) = self.0.get(&(table.0, key.to_vec())) {
            found(value);
        }
        Ok(())
    }

    fn visit(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>, visitor: Visitor<'_>) -> query::Result<()> {
        for ((_, key), value) in self.0.range(bounds(table, from, to)) {
            if let ControlFlow::Break(()) = visitor(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> query::Result<Option<Vec<u8>>> {
        Ok(self.0.range(bounds(table, from, to)).next_back().map(|((_, key), _)| key.clone()))
    }
}

fn bounds(table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> (Bound<(u32, Vec<u8>)>, Bound<(u32, Vec<u8>)>) {
    let key = |key: &[u8]| (table.0, key.to_vec());
    let from = match from {
        Bound::Unbounded => Bound::Included((table.0, vec![])),
        other => other.map(key),
    };
    let to = match to {
        Bound::Unbounded => Bound::Excluded((table.0 + 1, vec![])),
        other => other.map(key),
    };
    (from, to)
}
