//! A statement's rows as text, for a panel of the page.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::FieldRef;
use bytes::BytesMut;
use futures::StreamExt;
use page::view::Stale;
use page::{Column as GridColumn, Grid, Trouble};
use pgwire::api::Type;
use tracing::debug;

use crate::http::answer::type_name;
use crate::pg::parameter::undeclared;
use crate::reader::{About, Lane, Param, QueryContext, SqlError, Warning};
use crate::service::{Service, guarded};
use crate::value::{Cells, Column};

/// Longest that a panel waits for its rows.
const PATIENCE: Duration = Duration::from_secs(10);

/// The rows of a statement at the newest step, at most `rows_max`; `$1` is the first value. The error is as a page shows it.
pub(super) async fn panel(
    service: &Arc<Service>,
    sql: &str,
    values: &[Option<&str>],
    rows_max: usize,
) -> Result<Grid, Trouble> {
    panel_at(service, sql, values, rows_max, &QueryContext::default()).await.map(|(grid, _)| grid)
}

/// The same at the step that the context names, and what of it is out of date.
pub(super) async fn panel_at(
    service: &Arc<Service>,
    sql: &str,
    values: &[Option<&str>],
    rows_max: usize,
    context: &QueryContext,
) -> Result<(Grid, Option<Stale>), Trouble> {
    let patience = service.limits.statement_timeout.unwrap_or(PATIENCE).min(PATIENCE);
    let late = || SqlError::new("57014", "the statement took too long for this page").hint("Run it in the console.");
    let answer = tokio::time::timeout(patience, guarded(rows(service, sql, values, rows_max, context))).await;
    answer.unwrap_or_else(|_| Err(late())).map_err(|error| {
        // A message may quote a value.
        debug!(code = error.code, "a panel of the page has no rows");
        let more: Vec<&str> = [&error.detail, &error.hint].into_iter().flatten().map(String::as_str).collect();
        Trouble { message: error.message.clone(), hint: more.join(" ") }
    })
}

async fn rows(
    service: &Arc<Service>,
    sql: &str,
    values: &[Option<&str>],
    rows_max: usize,
    context: &QueryContext,
) -> Result<(Grid, Option<Stale>), SqlError> {
    let _turn = service.panels.acquire().await.map_err(|_| SqlError::internal("no statement may run"))?;
    let context = &QueryContext { lane: Lane::Page, ..context.clone() };
    let params = match values {
        [] => Vec::new(),
        values => params(values, &service.reader.describe(sql, &[], context).await?.parameters)?,
    };
    let mut answer = service.reader.query(sql, &params, context).await?;
    let columns = answer.schema.fields().iter();
    let columns = columns.map(|field| GridColumn { name: field.name().clone(), kind: type_name(field.data_type()) });
    let mut grid = Grid { columns: columns.collect(), rows: Vec::new(), cut: false };
    while let Some(batch) = answer.stream.next().await {
        let batch = batch?;
        let columns = batch.columns().iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
        let taken = batch.num_rows().min(rows_max - grid.rows.len());
        grid.rows.extend((0..taken).map(|row| columns.iter().map(|column| text(column, row)).collect()));
        if taken < batch.num_rows() {
            grid.cut = true;
            break;
        }
    }
    Ok((grid, answer.warning.map(stale)))
}

/// What a tile says of a warning.
fn stale(warning: Warning) -> Stale {
    let Warning { error: SqlError { message, detail, hint, .. }, why, about } = warning;
    let (detail, hint) = (detail.unwrap_or_default(), hint.unwrap_or_default());
    let all = |first: &str| sentences([first, detail.as_str(), hint.as_str()]);
    let line = match about {
        About::Age(Some(age_us)) => format!("Out of date: true {} ago", page::number::seconds(age_us as f64 / 1e6)),
        About::Age(None) => "Out of date, for how long is not known".to_owned(),
        About::Held => "Not as the project says".to_owned(),
        About::Statement => message.clone(),
    };
    let why = if about == About::Statement { all(&message) } else { all(&why) };
    Stale { line, whole: all(&message), why }
}

/// Texts as sentences one behind the other; empty ones are none.
pub(super) fn sentences<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        match out.chars().last() {
            None => {}
            Some('.' | '?' | '!' | ':' | ';') => out.push(' '),
            Some(_) => out.push_str(". "),
        }
        out.push_str(text);
    }
    out
}

fn params(values: &[Option<&str>], expected: &[FieldRef]) -> Result<Vec<Param>, SqlError> {
    let each = values.iter().enumerate().map(|(at, value)| undeclared(Type::TEXT, expected.get(at), *value));
    each.collect()
}

fn text(column: &Column, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    if let Cells::Bool(array) = &column.cells {
        return Some(array.value(row).to_string());
    }
    let mut out = BytesMut::new();
    column.text(row, &mut out);
    Some(String::from_utf8_lossy(&out).into_owned())
}
