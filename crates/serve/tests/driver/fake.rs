//! The reader of the tests: it knows a statement's answer because a case said so.
//!
//! ```text
//! answer
//! select * from orders          the statement
//! parameters bigint, text       types of its parameters
//! columns id bigint, total decimal(10,2)
//! | 1 | 20.00                   a row
//! batches 3                     the rows three times, a batch each
//! error 22012 division by zero  ends the answer (after the rows, if there are any)
//! detail …, hint …, position 8  of the error
//! hang                          the answer never comes (after the rows: never ends)
//! panic                         our bug
//! echo                          a row of the parameters' values, named by their Arrow types, numerics without their digits
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt;
use serve::{Answer, Description, Health, Param, Pin, QueryContext, Reader, SqlError};
use tokio::sync::Notify;

use super::table;

/// Step of every answer.
const STEP: u64 = 7;

pub(super) struct Fake {
    scripts: Mutex<BTreeMap<String, Script>>,
    /// Steps that were pinned: each is the next.
    pins: AtomicU64,
    pub(super) health: Mutex<Health>,
    /// Told when a statement that never ends begins.
    pub(super) hanging: Arc<Notify>,
    /// Told when such a statement is dropped.
    pub(super) dropped: Arc<Notify>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            scripts: Mutex::default(),
            pins: AtomicU64::default(),
            health: Mutex::new(Health { started: true, ready: true, is_well: true, message: String::new() }),
            hanging: Arc::default(),
            dropped: Arc::default(),
        }
    }
}

#[derive(Clone)]
struct Script {
    parameters: Vec<Field>,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    error: Option<SqlError>,
    hang: bool,
    panic: bool,
    echo: bool,
}

impl Fake {
    /// Learns an answer.
    pub(super) fn script(&self, body: &str) -> Result<(), String> {
        let (sql, rest) = body.split_once('\n').ok_or("an answer needs lines")?;
        let mut script = Script {
            parameters: Vec::new(),
            schema: Arc::new(Schema::empty()),
            batches: Vec::new(),
            error: None,
            hang: false,
            panic: false,
            echo: false,
        };
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut batches = 1;
        for line in rest.lines() {
            let (word, text) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "columns" => script.schema = Arc::new(Schema::new(table::fields(text)?)),
                "parameters" => script.parameters = parameters(text)?,
                "|" => rows.push(text.split('|').map(|cell| cell.trim().to_owned()).collect()),
                "batches" => batches = text.parse().map_err(|_| "batches N")?,
                "error" => {
                    let (code, message) = text.split_once(' ').unwrap_or((text, ""));
                    script.error = Some(SqlError::new(code.to_owned().leak(), message.replace("\\0", "\0")));
                }
                "detail" => script.error = script.error.map(|error| error.detail(text)),
                "hint" => script.error = script.error.map(|error| error.hint(text)),
                "position" => script.error = script.error.map(|error| error.at(text.parse().unwrap())),
                "line" => {
                    let (line, column) = text.split_once(':').ok_or("line L:C")?;
                    let (line, column) = (line.parse().unwrap(), column.parse().unwrap());
                    script.error = script.error.map(|error| error.at_line(sql, line, column));
                }
                "hang" => script.hang = true,
                "panic" => script.panic = true,
                "echo" => script.echo = true,
                other => return Err(format!("no such line: {other}")),
            }
        }
        if !rows.is_empty() {
            script.batches = vec![table::batch(&script.schema, &rows)?; batches];
        }
        self.scripts.lock().unwrap().insert(sql.to_owned(), script);
        Ok(())
    }

    /// Whether some script never ends.
    pub(super) fn is_hanging(&self) -> bool {
        self.scripts.lock().unwrap().values().any(|script| script.hang)
    }

    fn find(&self, sql: &str) -> Result<Script, SqlError> {
        let found = self.scripts.lock().unwrap().get(sql).cloned();
        found.ok_or_else(|| SqlError::new("42601", format!("no answer is known to {sql:?}")).at(1))
    }
}

fn parameters(text: &str) -> Result<Vec<Field>, String> {
    table::split(text, ',').iter().map(|name| table::field(&format!("$ {}", name.trim()))).collect()
}

#[async_trait]
impl Reader for Fake {
    fn pin(&self) -> Pin {
        let step = STEP + self.pins.fetch_add(1, Ordering::Relaxed);
        Pin::new(step, step)
    }

    async fn query(&self, sql: &str, params: &[Param], context: &QueryContext) -> Result<Answer, SqlError> {
        if sql == "select context" {
            return Ok(one_row(context));
        }
        if sql == "select role" {
            return Ok(role(context));
        }
        let script = self.find(sql)?;
        assert!(!script.panic, "a panic that a case asked for");
        if script.echo {
            return echo(params);
        }
        let guard = script.hang.then(|| Guard(Arc::clone(&self.dropped)));
        if script.hang && script.batches.is_empty() {
            self.hanging.notify_one();
            futures::future::pending::<()>().await;
        }
        if let (Some(error), true) = (&script.error, script.batches.is_empty()) {
            return Err(error.clone());
        }
        let rows = futures::stream::iter(script.batches.into_iter().map(Ok).chain(script.error.map(Err)));
        let stream = match guard {
            None => rows.boxed(),
            Some(guard) => {
                let hanging = Arc::clone(&self.hanging);
                let never = futures::stream::once(async move {
                    hanging.notify_one();
                    let _guard = guard;
                    futures::future::pending().await
                });
                rows.chain(never).boxed()
            }
        };
        Ok(Answer { schema: script.schema, stream, step: STEP, warning: None })
    }

    async fn describe(
        &self,
        sql: &str,
        declared: &[Option<DataType>],
        _: &QueryContext,
    ) -> Result<Description, SqlError> {
        let script = self.find(sql)?;
        if let (Some(error), true, true) = (&script.error, script.batches.is_empty(), script.schema.fields().is_empty())
        {
            return Err(error.clone());
        }
        let parameter = |(i, known): (usize, &Field)| match declared.get(i).cloned().flatten() {
            Some(declared) => Arc::new(Field::new("", declared, true)),
            None => Arc::new(known.clone()),
        };
        let parameters: Vec<_> = script.parameters.iter().enumerate().map(parameter).collect();
        let types: Vec<_> = parameters.iter().map(|parameter| parameter.data_type().clone()).collect();
        let columns = if script.echo { echo_schema(&types) } else { script.schema };
        Ok(Description { parameters, columns })
    }

    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    fn metrics(&self) -> String {
        "# HELP tidemill_test A metric of the reader.\n# TYPE tidemill_test gauge\ntidemill_test 1\n".to_owned()
    }
}

/// Tells of its end.
struct Guard(Arc<Notify>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn echo_schema(types: &[DataType]) -> SchemaRef {
    // A numeric's digits are those of its value, which a description does not know; a long one has more of them.
    let name = |kind: &DataType| match kind {
        DataType::Decimal128(..) | DataType::Decimal256(..) => "Decimal128".to_owned(),
        other => other.to_string(),
    };
    let fields: Vec<Field> = types.iter().map(|kind| Field::new(name(kind), kind.clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

fn echo(params: &[Param]) -> Result<Answer, SqlError> {
    let arrays: Vec<ArrayRef> = params.iter().map(|param| Arc::clone(&param.0)).collect();
    let types: Vec<DataType> = arrays.iter().map(|array| array.data_type().clone()).collect();
    let batch = RecordBatch::try_new(echo_schema(&types), arrays).map_err(|e| SqlError::new("XX000", e.to_string()))?;
    Ok(Answer { schema: batch.schema(), stream: futures::stream::iter([Ok(batch)]).boxed(), step: STEP, warning: None })
}

fn one_row(context: &QueryContext) -> Answer {
    let fields = ["user", "database", "pid", "search_path", "at"].map(|name| Field::new(name, DataType::Utf8, true));
    let schema: SchemaRef = Arc::new(Schema::new(fields.to_vec()));
    let at = context.at.as_ref().and_then(Pin::held::<u64>).map_or_else(|| "newest".to_owned(), u64::to_string);
    let pid = context.pid.to_string();
    let cells = [&context.user, &context.database, &pid, &context.search_path.join(","), &at];
    let batch = table::batch(&schema, &[cells.map(String::clone).to_vec()]).unwrap();
    Answer { schema, stream: futures::stream::iter([Ok(batch)]).boxed(), step: STEP, warning: None }
}

fn role(context: &QueryContext) -> Answer {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("role", DataType::Utf8, true)]));
    let batch = table::batch(&schema, &[vec![format!("{:?}", context.role)]]).unwrap();
    Answer { schema, stream: futures::stream::iter([Ok(batch)]).boxed(), step: STEP, warning: None }
}
