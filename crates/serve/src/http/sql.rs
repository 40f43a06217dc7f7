//! `POST /sql`: one statement, answered as JSON, CSV or an Arrow stream, as the client accepts.
//!
//! The body is the statement itself, or `{"sql": "…", "params": […], "limit": 1000, "timeout_ms": 500}`. A small answer is sent when it is whole, so that
//! an error has a status of its own; a large one is sent as it comes, and an error cuts it off, which clients notice.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use pgwire::api::Type;
use serde_json::Value as Json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::debug;

use super::answer::{Format, Writer};
use super::{Site, failure};
use crate::pg::parameter::undeclared;
use crate::reader::{Param, QueryContext, SqlError, Warning};
use crate::service::{Protocol, Service, guarded};
use crate::sql::{Command, command, split};

/// Bytes of an answer that wait for its end before any is sent.
const WHOLE_BYTES: usize = 256 << 10;
/// Values of a question: the parameters that the other protocol can have, and what else there is.
const VALUES_MAX: usize = 65_535 + 8;

/// A statement and its values.
struct Question {
    sql: String,
    values: Vec<Json>,
    /// Rows at most; the statement is given up behind them.
    limit: Option<usize>,
    /// Longest it may run, where that is shorter than is usual.
    timeout: Option<Duration>,
}

pub(super) async fn post(site: Site, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    let Some(format) = Format::accepted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok())) else {
        let error = SqlError::new("not_acceptable", "no such format")
            .hint("Accept application/json, text/csv or application/vnd.apache.arrow.stream.");
        return failure(StatusCode::NOT_ACCEPTABLE, &error);
    };
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            return failure(rejection.status(), &SqlError::new("54000", rejection.body_text()));
        }
    };
    let mut run = Run::new(Arc::clone(&site.service), site.user);
    match run.answer(&body, format).await {
        Ok((step, warning, chunks)) => {
            let headers = [(header::CONTENT_TYPE.as_str(), format.media_type()), ("tidemill-step", &step.to_string())];
            let stale = warning.map(|warning| [("tidemill-stale", in_header(&warning.error))]);
            let body = Body::from_stream(run.rest(chunks));
            match stale {
                Some(stale) => (headers, stale, body).into_response(),
                None => (headers, body).into_response(),
            }
        }
        Err(error) => {
            run.failed = true;
            failure(status(error.code), &error)
        }
    }
}

/// What is out of date, as a header may say it: in one line of ASCII.
fn in_header(warning: &SqlError) -> String {
    let text = [Some(&warning.message), warning.detail.as_ref()].into_iter().flatten().cloned().collect::<Vec<_>>();
    text.join(". ").chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

/// What HTTP calls an SQLSTATE.
fn status(code: &str) -> StatusCode {
    match code {
        "57014" => StatusCode::GATEWAY_TIMEOUT,
        "42501" => StatusCode::FORBIDDEN,
        _ => match code.get(..2).unwrap_or_default() {
            "08" | "0A" | "21" | "22" | "23" | "25" | "34" | "3F" | "42" | "54" => StatusCode::BAD_REQUEST,
            "53" | "57" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}

/// A running statement; its end, however it comes, is noted.
struct Run {
    service: Arc<Service>,
    /// Who asks.
    user: String,
    started: Instant,
    timeout: Duration,
    failed: bool,
    /// Held until the end.
    #[allow(dead_code, reason = "its drop is its use")]
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.service.traffic.note(Protocol::Http, self.started.elapsed(), self.failed);
    }
}

/// What is still to be sent.
struct Chunks {
    writer: Writer,
    stream: BoxStream<'static, Result<arrow::array::RecordBatch, SqlError>>,
    /// Head and first rows.
    first: Option<Bytes>,
    ended: bool,
    /// Rows that may still be sent.
    left: usize,
}

impl Run {
    fn new(service: Arc<Service>, user: String) -> Self {
        let limits = &service.limits;
        let timeout = limits.statement_timeout_usual.min(limits.statement_timeout.unwrap_or(Duration::MAX));
        Self { service, user, started: Instant::now(), timeout, failed: false, permit: None }
    }

    /// Runs the statement up to its first rows. Returns the step with them, and what of it is out of date.
    async fn answer(&mut self, body: &[u8], format: Format) -> Result<(u64, Option<Warning>, Chunks), SqlError> {
        let question = question(body)?;
        self.timeout = self.timeout.min(question.timeout.unwrap_or(Duration::MAX));
        let sql = statement(&question.sql)?;
        self.permit = Some(self.timed(self.service.turn()).await?);
        let reader = Arc::clone(&self.service.reader);
        let context = QueryContext { user: self.user.clone(), ..QueryContext::default() };
        let params = match question.values.as_slice() {
            [] => Vec::new(),
            values => {
                let description = self.timed(reader.describe(sql, &[], &context)).await?;
                params(values, &description.parameters)?
            }
        };
        let answer = self.timed(reader.query(sql, &params, &context)).await?;
        let left = question.limit.unwrap_or(usize::MAX);
        let (writer, mut first) = Writer::new(format, &answer.schema, answer.step)?;
        let mut chunks = Chunks { writer, stream: answer.stream, first: None, ended: false, left };
        while !chunks.ended && first.len() < WHOLE_BYTES {
            self.append(&mut chunks, &mut first).await?;
        }
        chunks.first = Some(first.freeze());
        Ok((answer.step, answer.warning, chunks))
    }

    /// The body: head and first rows, the other rows, the end.
    fn rest(self, chunks: Chunks) -> impl Stream<Item = Result<Bytes, SqlError>> + Send + 'static {
        futures::stream::unfold((self, chunks), |(mut run, mut chunks)| async move {
            if let Some(first) = chunks.first.take() {
                return Some((Ok(first), (run, chunks)));
            }
            if chunks.ended {
                return None;
            }
            let mut chunk = BytesMut::new();
            let appended = run.append(&mut chunks, &mut chunk).await;
            if let Err(error) = &appended {
                debug!(code = error.code, "cut off an answer");
                (run.failed, chunks.ended) = (true, true);
            }
            Some((appended.map(|()| chunk.freeze()), (run, chunks)))
        })
    }

    /// Writes the next rows, or the end.
    async fn append(&self, chunks: &mut Chunks, out: &mut BytesMut) -> Result<(), SqlError> {
        let stream = &mut chunks.stream;
        match self.timed(async { stream.next().await.transpose() }).await? {
            Some(batch) if batch.num_rows() > chunks.left => {
                chunks.ended = true;
                chunks.writer.rows(&batch.slice(0, chunks.left), out)?;
                chunks.writer.end(true, out)
            }
            Some(batch) => {
                chunks.left -= batch.num_rows();
                chunks.writer.rows(&batch, out)
            }
            None => {
                chunks.ended = true;
                chunks.writer.end(false, out)
            }
        }
    }

    /// Work within the time that a statement has; a panic is its error.
    async fn timed<T>(&self, work: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
        let late = || SqlError::new("57014", "canceling statement due to statement timeout");
        let left = self.timeout.saturating_sub(self.started.elapsed());
        // A statement at its limit still gets a moment, so that what is ready is answered.
        let left = left.max(Duration::from_millis(1));
        tokio::time::timeout(left, guarded(work)).await.unwrap_or_else(|_| Err(late()))
    }
}

fn question(body: &[u8]) -> Result<Question, SqlError> {
    let text = std::str::from_utf8(body).map_err(|_| SqlError::new("22021", "the statement is not UTF-8"))?;
    // No statement begins with a brace.
    if !text.trim_start().starts_with('{') {
        return Ok(Question { sql: text.to_owned(), values: Vec::new(), limit: None, timeout: None });
    }
    let wrong = |detail: String| {
        SqlError::new("22P02", "the body is no question")
            .detail(detail)
            .hint("Send the statement itself, or {\"sql\": \"…\", \"params\": […], \"limit\": …}.")
    };
    if values(text) > VALUES_MAX {
        return Err(wrong(format!("It has more than {VALUES_MAX} values.")));
    }
    let mut fields = match serde_json::from_str(text) {
        Ok(Json::Object(fields)) => fields,
        Ok(_) => return Err(wrong("It is no object.".to_owned())),
        Err(error) => return Err(wrong(format!("{error}."))),
    };
    let Some(Json::String(sql)) = fields.remove("sql") else {
        return Err(wrong("\"sql\" is missing.".to_owned()));
    };
    let values = match fields.remove("params") {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Array(values)) => values,
        Some(_) => return Err(wrong("\"params\" is no list.".to_owned())),
    };
    let limit = match fields.remove("limit") {
        None | Some(Json::Null) => None,
        Some(limit) => match limit.as_u64().and_then(|limit| usize::try_from(limit).ok()) {
            Some(limit) => Some(limit),
            None => return Err(wrong("\"limit\" is no number of rows.".to_owned())),
        },
    };
    let timeout = match fields.remove("timeout_ms") {
        None | Some(Json::Null) => None,
        Some(timeout) => match timeout.as_u64() {
            Some(timeout) => Some(Duration::from_millis(timeout)),
            None => return Err(wrong("\"timeout_ms\" is no number of milliseconds.".to_owned())),
        },
    };
    match fields.keys().next() {
        Some(unknown) => Err(wrong(format!("\"{unknown}\" is not known."))),
        None => Ok(Question { sql, values, limit, timeout }),
    }
}

/// About how many values a document has: each but the first stands behind a comma. One takes many times its text in memory.
fn values(text: &str) -> usize {
    let (mut commas, mut in_text, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b',' if !in_text => commas += 1,
            _ => {}
        }
    }
    commas + 1
}

/// The one statement of a body, if it is for the reader.
fn statement(sql: &str) -> Result<&str, SqlError> {
    let mut statements = split(sql);
    let (Some(statement), None) = (statements.next(), statements.next()) else {
        return Err(SqlError::new("42601", "a request holds exactly one statement"));
    };
    match command(statement.text)? {
        Command::Read | Command::Functions(_) => Ok(statement.text),
        _ => Err(SqlError::new("0A000", "a request has no session: no transactions, settings or cursors")
            .hint("Use the Postgres wire.")),
    }
}

fn params(values: &[Json], expected: &[arrow::datatypes::FieldRef]) -> Result<Vec<Param>, SqlError> {
    if values.len() != expected.len() {
        let message = format!("{} parameters are given, the statement has {}", values.len(), expected.len());
        return Err(SqlError::new("08P01", message));
    }
    let each = values.iter().zip(expected).map(|(value, expected)| match value {
        Json::Null => undeclared(Type::TEXT, Some(expected), None),
        Json::Bool(value) => undeclared(Type::BOOL, Some(expected), Some(&value.to_string())),
        Json::Number(number) if number.is_i64() => undeclared(Type::INT8, Some(expected), Some(&number.to_string())),
        Json::Number(number) => undeclared(Type::FLOAT8, Some(expected), Some(&number.to_string())),
        Json::String(text) => undeclared(Type::TEXT, Some(expected), Some(text)),
        other => Err(SqlError::new("22P02", format!("a parameter is no single value: {other}"))),
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::{VALUES_MAX, question};

    #[test]
    fn a_question_of_millions_of_values_is_refused_before_it_is_read() {
        let of = |values: usize, text: &str| {
            let list = vec!["1"; values].join(",");
            question(format!("{{\"sql\": \"{text}\", \"params\": [{list}]}}").as_bytes()).map(|of| of.values.len())
        };
        assert_eq!(of(65_535, "\\\",,\\\\").ok(), Some(65_535));
        assert_eq!(of(VALUES_MAX + 1, "").unwrap_err().code, "22P02");
    }
}
