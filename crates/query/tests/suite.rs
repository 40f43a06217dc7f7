//! Case files of queries. Each file is a small warehouse and questions to it.
//!
//! ```text
//! table [bag]        definitions, one a line: schema.name(column type, …); public is the default schema
//! rows NAME          rows, one a line, values between ` | `; `3 * …` three times the same (bags only)
//! view NAME          its SQL
//! comment NAME       what is said of a table or view, or of `table.column`
//! references NAME(COLUMN, …)   a line like the name: the table and the columns that these refer to
//! grant NAME         from here on this is all that may be read of it, SQL over the whole; nothing: all of it. What has no grant is not there
//! unavailable NAME   the message that reading it gives
//! set NAME VALUE     memory_bytes, batch_rows, partitions, user; path a,b (search path), own_path a,b (that of the session); rows a NUMBER (estimate)
//! query [sorted]     SQL → columns with types, then rows; or the error
//! reads              SQL → what was read of the store: point reads, entries walked; then the number of rows
//! explain            SQL → the reads of its physical plan
//! describe [types]   SQL → parameter types and columns
//! origins            SQL → each column, and the stored columns that it is made of; as a model too, where that says otherwise
//! execute VALUES     SQL with $1, …; a value is type:text
//! point [VALUES]     SQL executed, and asked a second time → `by key` or `by a known plan`, if that was not planned, else `planned`; then its rows
//! then [VALUES / VALUES]   two statements, `---` between them (or one, twice), the second of which follows the first → how it is answered
//!                    and what that reads, as for `point` and `reads`; then its rows, as they are where nothing is known
//! sights             statements, `---` between them, as a server asks them one after another → how each is answered
//! flow               SQL planned as a model → rows of its flow, checked against its logical plan
//! isolated           the same with failing rows left out → rows, then the rejects
//! compare            two queries, `---` between them → the difference
//! statements         SQL → kind and verb of each statement, and what refuses it
//! ```
//!
//! `{oid NAME}` in SQL stands for a table's oid. The tables live in memory; `store.case` has them in a real store.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType as Arrow, Field, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use plan::{TableName, parse_table_definition};
use query::{
    Access, Asked, Catalog, Error, Form, Isolation, Reject, Runtime, Session, Settings, Storage, StoredTable,
    VirtualRows, VirtualTable, Visitor, compare, parse,
};
use relation::schema::{TYPE_NAME, registered_name};
use relation::{DataType, Layout, Rows, Schema, TableId, Value};
use testkit::{Block, Driver};

fn main() {
    testkit::run(env!("CARGO_MANIFEST_DIR"), "tests/cases", Warehouse::new)
}

type Tables = BTreeMap<(u32, Vec<u8>), Vec<u8>>;

/// Tables in memory that count what is read of them.
#[derive(Clone, Default)]
struct Memory {
    tables: Arc<Tables>,
    gets: Arc<AtomicUsize>,
    entries: Arc<AtomicUsize>,
}

impl Storage for Memory {
    fn step(&self) -> u64 {
        7
    }

    fn get(&self, table: TableId, key: &[u8], found: &mut dyn FnMut(&[u8])) -> query::Result<()> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        if let Some(value) = self.tables.get(&(table.0, key.to_vec())) {
            found(value);
        }
        Ok(())
    }

    fn visit(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>, visitor: Visitor<'_>) -> query::Result<()> {
        for ((_, key), value) in self.tables.range(bounds(table, from, to)) {
            self.entries.fetch_add(1, Ordering::Relaxed);
            if let ControlFlow::Break(()) = visitor(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> query::Result<Option<Vec<u8>>> {
        Ok(self.tables.range(bounds(table, from, to)).next_back().map(|((_, key), _)| key.clone()))
    }
}

fn bounds(table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> (Bound<(u32, Vec<u8>)>, Bound<(u32, Vec<u8>)>) {
    let key = |key: &[u8]| (table.0, key.to_vec());
    let from = match from {
        Bound::Unbounded => Bound::Included((table.0, vec![])),
        Bound::Included(from) => Bound::Included(key(from)),
        Bound::Excluded(from) => Bound::Excluded(key(from)),
    };
    let to = match to {
        Bound::Unbounded => Bound::Excluded((table.0 + 1, vec![])),
        Bound::Included(to) => Bound::Included(key(to)),
        Bound::Excluded(to) => Bound::Excluded(key(to)),
    };
    (from, to)
}

struct Warehouse {
    defined: BTreeMap<TableName, (StoredTable, Option<u64>)>,
    views: BTreeMap<TableName, String>,
    unavailable: BTreeMap<TableName, String>,
    documentation: BTreeMap<TableName, query::Documentation>,
    grants: BTreeMap<TableName, Access>,
    path: Vec<String>,
    rows: Tables,
    settings: Settings,
    user: Option<String>,
    own_path: Option<Vec<String>>,
    /// Whether queries read a real store.
    stored: bool,
    /// Those that were made, with the folders they are in.
    stores: Mutex<Vec<(store::Store, tempfile::TempDir)>>,
    runtime: tokio::runtime::Runtime,
}

impl Warehouse {
    fn new(path: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self {
            defined: BTreeMap::new(),
            views: BTreeMap::new(),
            unavailable: BTreeMap::new(),
            documentation: BTreeMap::new(),
            grants: BTreeMap::new(),
            path: vec!["public".to_owned(), "shop".to_owned()],
            rows: BTreeMap::new(),
            settings: Settings::default(),
            user: None,
            own_path: None,
            stores: Mutex::default(),
            stored: path.file_stem().is_some_and(|stem| stem == "store"),
            runtime: runtime.expect("threads can be started"),
        }
    }

    fn define(&mut self, text: &str, bag: bool) -> Result<(), String> {
        for line in text.lines() {
            let (name, schema) = parse_table_definition(line)?;
            let id = TableId(10 + u32::try_from(self.defined.len()).map_err(|e| e.to_string())?);
            let form = if bag || schema.key.is_empty() { Form::Bag } else { Form::Keyed };
            self.defined.insert(name.clone(), (StoredTable { name, id, schema, form }, None));
        }
        Ok(())
    }

    fn name(&self, text: &str) -> TableName {
        let (schema, name) = text.split_once('.').unwrap_or(("public", text));
        TableName::new(schema, name)
    }

    /// Notes what is said of a table, or of a column of it.
    fn comment(&mut self, name: &str, text: &str) -> Result<(), String> {
        if let Some((table, column)) = name.rsplit_once('.')
            && (table.contains('.') || self.knows(&self.name(table)))
        {
            let said = self.documentation.entry(self.name(table)).or_default();
            said.columns.insert(column.to_owned(), text.to_owned());
        } else {
            self.documentation.entry(self.name(name)).or_default().text = Some(text.to_owned());
        }
        Ok(())
    }

    fn knows(&self, name: &TableName) -> bool {
        self.defined.contains_key(name) || self.views.contains_key(name)
    }

    /// Notes that columns refer to others.
    fn references(&mut self, from: &str, to: &str) -> Result<(), String> {
        let part = |text: &str| -> Result<(TableName, Vec<String>), String> {
            let (name, columns) =
                text.trim().strip_suffix(')').and_then(|text| text.split_once('(')).ok_or("NAME(COLUMN, …)")?;
            Ok((self.name(name), columns.split(',').map(|column| column.trim().to_owned()).collect()))
        };
        let ((name, columns), (table, referred)) = (part(from)?, part(to)?);
        let reference = query::Reference { columns, table, referred };
        self.documentation.entry(name).or_default().references.push(reference);
        Ok(())
    }

    fn fill(&mut self, name: &str, text: &str) -> Result<(), String> {
        let name = self.name(name);
        let (table, _) = self.defined.get(&name).ok_or_else(|| format!("no table {name}"))?;
        let layout = Layout::new(table.schema.types());
        for line in text.lines() {
            let (weight, line) = match line.split_once(" * ") {
                Some((weight, rest)) => (weight.parse::<i64>().map_err(|e| e.to_string())?, rest),
                None => (1, line),
            };
            let row = encoded(&layout, &table.schema, line)?;
            let mut key = Vec::new();
            let value = match table.form {
                Form::Keyed => {
                    relation::key::push_row(&mut key, &layout, &row, &table.schema.key);
                    row
                }
                Form::Bag => {
                    key.extend_from_slice(&relation::key::hash128(&row));
                    [weight.to_le_bytes().as_slice(), &row].concat()
                }
            };
            self.rows.insert((table.id.0, key), value);
        }
        Ok(())
    }

    fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::new(self.path.clone());
        for (table, rows) in self.defined.values() {
            catalog.add_table(table.clone());
            if let Some(rows) = rows {
                catalog.set_rows(table.id, *rows);
            }
        }
        for (name, sql) in &self.views {
            catalog.add_view(name.clone(), sql);
        }
        for (name, message) in &self.unavailable {
            let error = Error::not_ready(message).hint("Its state is in tidemill.models.");
            catalog.add_unavailable(name.clone(), error);
        }
        catalog.add_virtual(models());
        for (name, said) in &self.documentation {
            catalog.document(name.clone(), said.clone());
        }
        catalog
    }

    /// What the session sees of it.
    fn granted(&self) -> Arc<Catalog> {
        let all = Arc::new(self.catalog());
        if self.grants.is_empty() {
            return all;
        }
        Arc::new(all.granted(|name| self.grants.get(name).cloned().unwrap_or(Access::None)))
    }

    fn session(&self, memory: &Memory) -> Result<Session, String> {
        let runtime = Runtime::new(&self.settings).map_err(|e| e.to_string())?;
        let session = if self.stored {
            let (folder, store) = stored(&memory.tables)?;
            let snapshot = store.snapshot();
            self.stores.lock().expect("no panic").push((store, folder));
            Session::new(snapshot, self.granted(), runtime)
        } else {
            Session::new(memory.clone(), self.granted(), runtime)
        };
        // As a reader's: every node of its plans is watched.
        let session = session.with_watch(query::Watch::new());
        let session = match &self.own_path {
            Some(path) => session.with_search_path(path.clone()),
            None => session,
        };
        Ok(match &self.user {
            Some(user) => session.with_identity(query::Identity { user: user.clone(), ..query::Identity::default() }),
            None => session,
        })
    }

    fn memory(&self) -> Memory {
        Memory { tables: Arc::new(self.rows.clone()), ..Memory::default() }
    }

    /// Puts oids in the place of `{oid name}`.
    fn sql(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{oid ") {
            let (name, after) = after.split_once('}').ok_or("no } after {oid")?;
            let name = self.name(name);
            let sql = format!(
                "select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                 where n.nspname = '{}' and c.relname = '{}'",
                name.schema, name.name
            );
            let session = self.session(&self.memory())?;
            let answer = self.runtime.block_on(collect(&session, &sql, &[])).map_err(|e| e.to_string())?;
            let oid = answer.1.first().ok_or_else(|| format!("no oid of {name}"))?;
            out += &format!("{before}{oid}");
            rest = after;
        }
        Ok(out + rest)
    }

    fn query(&self, block: &Block) -> Result<String, String> {
        let session = self.session(&self.memory())?;
        let sql = self.sql(&block.body)?;
        let sorted = block.arguments.iter().any(|word| word == "sorted");
        let order = if sorted { Order::Any } else { Order::AsAnswered };
        Ok(match self.runtime.block_on(asked_twice(&session, &sql, &[], order)) {
            Ok((header, mut rows, _)) => {
                rows.insert(0, header);
                rows.join("\n")
            }
            Err(error) => shown(&error),
        })
    }

    fn reads(&self, block: &Block) -> Result<String, String> {
        let memory = self.memory();
        let session = self.session(&memory)?;
        let (_, rows) = self.runtime.block_on(collect(&session, &block.body, &[])).map_err(|e| shown(&e))?;
        let (gets, entries) = (memory.gets.load(Ordering::Relaxed), memory.entries.load(Ordering::Relaxed));
        Ok(format!("gets {gets}, entries {entries}, rows {}", rows.len()))
    }

    fn explain(&self, block: &Block) -> Result<String, String> {
        let session = self.session(&self.memory())?;
        let sql = format!("explain {}", block.body);
        let (_, rows) = self.runtime.block_on(collect(&session, &sql, &[])).map_err(|e| shown(&e))?;
        let text = rows.join("\n");
        let lines = text.lines().filter(|line| line.contains("StoredScan")).map(str::trim);
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    fn describe(&self, block: &Block) -> Result<String, String> {
        let session = self.session(&self.memory())?;
        let hints = block.arguments.iter().map(|word| word.parse::<DataType>().ok().map(DataType::to_arrow));
        let statements = match parse(&block.body) {
            Ok(statements) => statements,
            Err(error) => return Ok(shown(&error)),
        };
        Ok(match session.describe(&statements[0], &hints.collect::<Vec<_>>()) {
            Ok(description) => {
                let parameters: Vec<_> = description.parameters.iter().map(|field| named_type(field)).collect();
                let columns = description.schema.fields().iter();
                let columns: Vec<_> = columns.map(|field| format!("{} {}", field.name(), named_type(field))).collect();
                format!("({}) -> {}", parameters.join(", "), columns.join(" | "))
            }
            Err(error) => shown(&error),
        })
    }

    fn origins(&self, block: &Block) -> Result<String, String> {
        let line = |(name, origins): (String, query::Origins)| {
            let origins: Vec<String> = origins.iter().map(|(table, column)| format!("{table}.{column}")).collect();
            format!("{name}: {}", origins.join(", "))
        };
        let session = self.session(&self.memory())?;
        let lines = match session.origins(&block.body) {
            Ok(columns) => columns.into_iter().map(line).collect::<Vec<_>>().join("\n"),
            Err(error) => shown(&error),
        };
        let planned = plan::plan_model(&block.body, &Planner(self));
        let Ok(planned) = planned else { return Ok(lines) };
        let names = planned.schema.columns.iter().map(|column| column.name.clone());
        let of_model = query::origins(&planned.logical).map_err(|e| shown(&e))?;
        let of_model: Vec<String> = names.zip(of_model).map(line).collect();
        let of_model = of_model.join("\n");
        Ok(if of_model == lines { lines } else { format!("{lines}\n-- as a model\n{of_model}") })
    }

    fn execute(&self, block: &Block) -> Result<String, String> {
        let session = self.session(&self.memory())?;
        let values = block.arguments.iter().map(|word| parameter(word)).collect::<Result<Vec<_>, _>>()?;
        Ok(match self.runtime.block_on(asked_twice(&session, &block.body, &values, Order::AsAnswered)) {
            Ok((header, rows, _)) => [vec![header], rows].concat().join("\n"),
            Err(error) => shown(&error),
        })
    }

    fn point(&self, block: &Block) -> Result<String, String> {
        let session = self.session(&self.memory())?;
        let values = block.arguments.iter().map(|word| parameter(word)).collect::<Result<Vec<_>, _>>()?;
        Ok(match self.runtime.block_on(asked_twice(&session, &block.body, &values, Order::AsAnswered)) {
            Ok((header, rows, way)) => [vec![way.to_owned(), header], rows].concat().join("\n"),
            Err(error) => shown(&error),
        })
    }

    fn then(&self, block: &Block) -> Result<String, String> {
        let (first, second) = block.body.split_once("\n---\n").unwrap_or((&block.body, &block.body));
        let values =
            block.arguments.split(|word| word == "/").map(|words| words.iter().map(|word| parameter(word)).collect());
        let values = values.collect::<Result<Vec<Vec<_>>, _>>()?;
        let (before, after) = (&values[0], values.get(1).unwrap_or(&values[0]));
        let memory = self.memory();
        let session = self.session(&memory)?;
        let known = self.runtime.block_on(async {
            collect(&session, first, before).await?;
            memory.gets.store(0, Ordering::Relaxed);
            memory.entries.store(0, Ordering::Relaxed);
            asked(&session, second, after).await
        });
        let planned = self.runtime.block_on(collect(&self.session(&self.memory())?, second, after));
        let told = |answer: Result<(String, Vec<String>), Error>| match answer {
            Ok((columns, rows)) => [vec![columns], rows].concat().join("\n"),
            Err(error) => shown(&error),
        };
        let (way, known) = match known {
            Ok(Some((way, columns, rows))) => (way, Ok((columns, rows))),
            Ok(None) => return Ok(format!("{PLANNED}\n{}", told(planned))),
            Err(error) => ("by what is known", Err(error)),
        };
        let (known, planned) = (told(known), told(planned));
        if known != planned {
            return Err(format!("{way} it is\n{known}\nplanned it is\n{planned}"));
        }
        let (gets, entries) = (memory.gets.load(Ordering::Relaxed), memory.entries.load(Ordering::Relaxed));
        Ok(format!("{way}: gets {gets}, entries {entries}\n{known}"))
    }

    fn sights(&self, block: &Block) -> Result<String, String> {
        let session = self.session(&self.memory())?;
        let answered = async |sql: &str| {
            Ok(match session.asked(sql, &[])? {
                Asked::Row(_) => "by key",
                Asked::Statement(asking) => {
                    let way = if asking.is_planned() { "by a known plan" } else { PLANNED };
                    texts(session.answer(sql, asking, &[]).await?.stream).await?;
                    way
                }
            })
        };
        let ways = block.body.split("\n---\n").map(|sql| self.runtime.block_on(answered(sql)));
        let ways: Vec<String> =
            ways.map(|way: Result<&str, Error>| way.map_or_else(|error| shown(&error), str::to_owned)).collect();
        Ok(ways.join("\n"))
    }

    fn flow(&self, block: &Block, isolated: bool) -> Result<String, String> {
        let planned = plan::plan_model(&block.body, &Planner(self)).map_err(|refusal| refusal.to_string())?;
        let session = self.session(&self.memory())?;
        let rejects: Arc<Mutex<Vec<String>>> = Arc::default();
        let report = Arc::clone(&rejects);
        let isolation = if isolated {
            Isolation::Rows(Arc::new(move |reject: Reject| {
                let row: Vec<_> = reject.row.iter().map(ToString::to_string).collect();
                report.lock().expect("no panic").push(format!("reject {}: {}", row.join(" | "), reject.error));
            }))
        } else {
            Isolation::Query
        };
        self.runtime.block_on(async {
            let output = planned.flow.output;
            if !isolated {
                let left = session.flow(&planned.flow, output, &isolation).await.map_err(|e| shown(&e))?;
                let right = session.logical(planned.logical.clone()).await.map_err(|e| shown(&e))?;
                let difference = compare(left, right, 5).await.map_err(|e| shown(&e))?;
                if !difference.equal {
                    return Err(format!("flow and plan differ: {difference:?}\n{}", planned.flow));
                }
            }
            let stream = movable(session.flow(&planned.flow, output, &isolation)).await.map_err(|e| shown(&e))?;
            let schema = stream.schema();
            for (field, column) in schema.fields().iter().zip(&planned.flow.node(output).schema.columns) {
                if *field.data_type() != column.data_type.to_arrow() {
                    return Err(format!("column {} is {}", column.name, field.data_type()));
                }
            }
            let mut rows = texts(stream).await.map_err(|e| shown(&e))?;
            rows.sort();
            rows.insert(0, header(&planned.schema.to_arrow()));
            let mut rejects = rejects.lock().expect("no panic").clone();
            rejects.sort();
            rows.extend(rejects);
            Ok(rows.join("\n"))
        })
    }

    fn compare(&self, block: &Block) -> Result<String, String> {
        let (left, right) = block.body.split_once("\n---\n").ok_or("no --- between the queries")?;
        let session = self.session(&self.memory())?;
        let compared: Result<_, Error> = self.runtime.block_on(async {
            let (left, right) = (session.sql(left).await?.stream, session.sql(right).await?.stream);
            compare(left, right, 3).await
        });
        Ok(match compared {
            Err(error) => shown(&error),
            Ok(difference) => {
                let word = if difference.equal { "equal" } else { "different" };
                let mut out = format!("{word}: {} rows, {} rows", difference.rows_left, difference.rows_right);
                if difference.unknown_rows {
                    out += ", rows unknown";
                }
                for row in &difference.only_left {
                    out += &format!("\nleft {row}");
                }
                for row in &difference.only_right {
                    out += &format!("\nright {row}");
                }
                out
            }
        })
    }

    fn set(&mut self, words: &[String]) -> Result<(), String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let number = |text: &str| text.parse::<usize>().map_err(|e| e.to_string());
        match words.as_slice() {
            ["memory_bytes", bytes] => self.settings.memory_bytes = number(bytes)?,
            ["batch_rows", rows] => self.settings.batch_rows = number(rows)?,
            ["partitions", partitions] => self.settings.target_partitions = number(partitions)?,
            ["user", user] => self.user = Some((*user).to_owned()),
            ["own_path", path] => self.own_path = Some(path.split(',').map(str::to_owned).collect()),
            ["path", path] => self.path = path.split(',').map(str::to_owned).collect(),
            ["rows", table, rows] => {
                let name = self.name(table);
                let rows = Some(number(rows)? as u64);
                self.defined.get_mut(&name).ok_or("no such table")?.1 = rows;
            }
            other => return Err(format!("cannot set {other:?}")),
        }
        Ok(())
    }
}

impl Driver for Warehouse {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        let first = block.arguments.first().cloned().unwrap_or_default();
        match block.directive.as_str() {
            "table" => self.define(&block.body, first == "bag").map(|()| String::new()),
            "rows" => self.fill(&first, &block.body).map(|()| String::new()),
            "view" => {
                self.views.insert(self.name(&first), block.body.clone());
                Ok(String::new())
            }
            "unavailable" => {
                self.unavailable.insert(self.name(&first), block.body.clone());
                Ok(String::new())
            }
            "comment" => self.comment(&first, &block.body).map(|()| String::new()),
            "references" => self.references(&block.arguments.join(" "), &block.body).map(|()| String::new()),
            "grant" => {
                let access = if block.body.is_empty() { Access::All } else { Access::Through(block.body.clone()) };
                self.grants.insert(self.name(&first), access);
                Ok(String::new())
            }
            "set" => self.set(&block.arguments).map(|()| String::new()),
            "query" => self.query(block),
            "reads" => self.reads(block),
            "explain" => self.explain(block),
            "describe" => self.describe(block),
            "origins" => self.origins(block),
            "execute" => self.execute(block),
            "point" => self.point(block),
            "then" => self.then(block),
            "sights" => self.sights(block),
            "flow" => self.flow(block, false),
            "isolated" => self.flow(block, true),
            "compare" => self.compare(block),
            "statements" => Ok(statements(&block.body)),
            other => Err(format!("unknown directive {other}")),
        }
    }
}

/// The tables as `plan` looks them up.
struct Planner<'a>(&'a Warehouse);

impl plan::Catalog for Planner<'_> {
    fn table(&self, schema: Option<&str>, name: &str) -> Option<plan::TableInfo> {
        let schemas = schema.map_or_else(|| self.0.path.clone(), |schema| vec![schema.to_owned()]);
        let found = schemas.iter().find_map(|schema| self.0.defined.get(&TableName::new(schema, name)));
        found.map(|(table, _)| plan::TableInfo { name: table.name.clone(), schema: table.schema.clone() })
    }

    fn view(&self, schema: Option<&str>, name: &str) -> Option<String> {
        self.0.views.get(&TableName::new(schema.unwrap_or("public"), name)).cloned()
    }
}

fn encoded(layout: &Layout, schema: &Schema, line: &str) -> Result<Vec<u8>, String> {
    let texts: Vec<&str> = line.split('|').map(str::trim).collect();
    if texts.len() != schema.columns.len() {
        return Err(format!("{} values for {} columns: {line}", texts.len(), schema.columns.len()));
    }
    let values = texts.iter().zip(&schema.columns).map(|(text, column)| Value::parse(column.data_type, text));
    let values = values.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    let mut rows = Rows::new();
    rows.push_values(layout, &values).map_err(|e| e.to_string())?;
    Ok(rows.get(0).to_vec())
}

/// The same entries in a store on disk, half of them folded.
fn stored(tables: &Tables) -> Result<(tempfile::TempDir, store::Store), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let text = |e: store::Error| e.to_string();
    let store = store::Store::open(folder.path(), store::Options::default()).map_err(text)?;
    let half = tables.len() / 2;
    for (step, from, to) in [(1, 0, half), (2, half, tables.len())] {
        let mut writes = store::Writes::new();
        for ((table, key), value) in tables.iter().skip(from).take(to - from) {
            writes.put(TableId(*table), key, value);
        }
        store.append(step, b"a step of a case").map_err(text)?;
        store.commit(step, writes).map_err(text)?;
        if step == 1 {
            store.fold_now().map_err(text)?;
        }
    }
    Ok((folder, store))
}

/// A system table of fixed rows.
fn models() -> VirtualTable {
    let schema = Schema::new(
        vec![relation::Column::new("model", DataType::Text), relation::Column::new("rows", DataType::Int64)],
        vec![],
    );
    let arrow = schema.to_arrow();
    let rows = Arc::new(move || {
        let layout = Layout::new(schema.types());
        let mut rows = Rows::new();
        let row = [Value::Text("revenue".to_owned()), Value::Int(3)];
        rows.push_values(&layout, &row).expect("values of the columns' types");
        relation::columns::decode((0..1).map(|i| rows.get(i)), &layout, &[0, 1], &schema.to_arrow())
            .expect("a row that was just written")
    });
    VirtualTable { name: TableName::new("tidemill", "models"), schema: arrow, rows: VirtualRows::Whole(rows) }
}

async fn collect(session: &Session, sql: &str, values: &[ScalarValue]) -> Result<(String, Vec<String>), Error> {
    let statements = parse(sql)?;
    let [statement] = statements.as_slice() else {
        return session.sql(sql).await.map(|_| (String::new(), Vec::new()));
    };
    let answer = movable(session.execute(statement, values)).await?;
    Ok((header(&answer.schema), texts(answer.stream).await?))
}

/// Whether rows are shown in the order in which they come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    AsAnswered,
    Any,
}

/// The same, and how the next such statement is answered; where it is not planned, it must have the same answer.
async fn asked_twice(
    session: &Session,
    sql: &str,
    values: &[ScalarValue],
    order: Order,
) -> Result<(String, Vec<String>, &'static str), Error> {
    let sorted = |mut rows: Vec<String>| {
        if order == Order::Any {
            rows.sort();
        }
        rows
    };
    let (columns, rows) = collect(session, sql, values).await?;
    let rows = sorted(rows);
    let Some((way, again, rows_again)) = asked(session, sql, values).await? else {
        return Ok((columns, rows, PLANNED));
    };
    let rows_again = sorted(rows_again);
    if (&again, &rows_again) != (&columns, &rows) {
        return Err(Error::internal(format!("{way} it is {rows_again:?}, planned it is {rows:?}")));
    }
    Ok((columns, rows, way))
}

const PLANNED: &str = "planned";

/// The answer without a plan of its own, and by what; none where the statement is planned.
async fn asked(
    session: &Session,
    sql: &str,
    values: &[ScalarValue],
) -> Result<Option<(&'static str, String, Vec<String>)>, Error> {
    let (way, answer) = match session.asked(sql, values)? {
        Asked::Row(answer) => ("by key", answer),
        Asked::Statement(asking) if asking.is_planned() => {
            ("by a known plan", movable(session.answer(sql, asking, values)).await?)
        }
        Asked::Statement(_) => return Ok(None),
    };
    Ok(Some((way, header(&answer.schema), texts(answer.stream).await?)))
}

/// Servers run queries on any thread: the futures must be `Send`.
fn movable<F: Future + Send>(future: F) -> F {
    future
}

async fn texts(stream: SendableRecordBatchStream) -> Result<Vec<String>, Error> {
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    let mut out = Vec::new();
    for batch in &batches {
        let options = FormatOptions::default().with_null("NULL");
        let columns = batch.columns().iter().map(|column| match registered_name(column.data_type()) {
            // An oid with its name, which is shown.
            Some(_) => ArrayFormatter::try_new(column.as_struct().column(1).as_ref(), &options),
            None => ArrayFormatter::try_new(column.as_ref(), &options),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|e| Error::internal(e.to_string()))?;
        for row in 0..batch.num_rows() {
            let values: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            out.push(values.join(" | "));
        }
    }
    Ok(out)
}

fn header(schema: &SchemaRef) -> String {
    let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), typed(field.data_type())));
    columns.collect::<Vec<_>>().join(" | ")
}

/// The name by which a field's type goes, else the type.
fn named_type(field: &Field) -> String {
    field.metadata().get(TYPE_NAME).cloned().unwrap_or_else(|| typed(field.data_type()))
}

fn typed(arrow: &Arrow) -> String {
    if let Some(registered) = registered_name(arrow) {
        return registered.to_owned();
    }
    // Arrow's names say what lists and intervals are made of.
    if matches!(arrow, Arrow::List(_) | Arrow::Interval(_)) {
        return arrow.to_string();
    }
    DataType::from_arrow(arrow).map_or_else(|_| arrow.to_string(), |ours| ours.to_string())
}

fn parameter(word: &str) -> Result<ScalarValue, String> {
    let (data_type, text) = word.split_once(':').ok_or("a value is type:text")?;
    let data_type: DataType = data_type.parse().map_err(|e: relation::Error| e.to_string())?;
    let text = ScalarValue::Utf8((text != "NULL").then(|| text.to_owned()));
    text.cast_to(&data_type.to_arrow()).map_err(|e| e.to_string())
}

fn shown(error: &Error) -> String {
    let mut out = format!("ERROR {}: {}", error.code, error.message);
    if let Some((line, column)) = error.position {
        out += &format!(" (line {line}, column {column})");
    }
    for (label, text) in [("Detail", &error.detail), ("Hint", &error.hint)] {
        if let Some(text) = text {
            out += &format!("\n{label}: {text}");
        }
    }
    out
}

fn statements(sql: &str) -> String {
    match parse(sql) {
        Err(error) => shown(&error),
        Ok(statements) => {
            let lines = statements.iter().map(|statement| {
                let refusal = match statement.kind {
                    query::Kind::Query => String::new(),
                    _ => format!(": {}", statement.refusal()),
                };
                format!("{:?} {}{refusal}", statement.kind, statement.verb())
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}
