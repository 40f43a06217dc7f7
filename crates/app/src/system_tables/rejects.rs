//! `tidemill.rejects`: rows that a table, model or destination could not take.
//!
//! There may be any number of them, and they stay in the store: a query reads them batch by batch, all at one step, and what it does not
//! ask for is gone before the next batch. So counts and filters are over all of them, in bounded memory.

use std::sync::{Arc, Weak};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use engine::outbox::RefusedRow;
use engine::{Reject, RejectedRow};
use plan::TableName;
use query::error::code;
use query::{Batches, VirtualRows, VirtualTable};

use super::{Column, Columns, SCHEMA, batch, schema_of, text};
use crate::delivery::figures;
use crate::rejected;
use crate::status::{Facts, Noticed, RejectStatus, Status};
use engine::outbox::Status as OutboxStatus;

/// A batch has so many rows at most, and ends behind the row that makes it so large.
const BATCH_ROWS_MAX: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;

/// The table. It does not keep the status: see [`super::add_one`].
pub(super) fn table(status: &Arc<Status>) -> VirtualTable {
    let schema = schema_of(&columns(&[]));
    let (batch_schema, status) = (Arc::clone(&schema), Arc::downgrade(status));
    let rows = VirtualRows::Batches(Arc::new(move || batches(&status, &batch_schema)));
    VirtualTable { name: TableName::new(SCHEMA, "rejects"), schema, rows }
}

pub(super) fn columns(rows: &[RejectStatus]) -> Columns {
    vec![
        ("id", text(rows, |r| &r.id)),
        ("node", text(rows, |r| &r.node)),
        ("reason", text(rows, |r| &r.reason)),
        ("code", text(rows, |r| &r.code)),
        // NULL where a row has none, or none that could be read.
        ("key", Column::Text(rows.iter().map(|r| Some(r.key.clone()).filter(|key| !key.is_empty())).collect())),
        ("row", text(rows, |r| &r.row)),
        ("position", text(rows, |r| &r.position)),
        ("first_at", Column::Time(rows.iter().map(|r| Some(r.first_at_us).filter(|t| *t > 0)).collect())),
    ]
}

/// A row as it is kept.
enum Kept {
    Taken(Reject),
    Refused(Arc<OutboxStatus>, RefusedRow),
}

type KeptRows = Box<dyn Iterator<Item = engine::Result<Kept>> + Send>;

fn batches(status: &Weak<Status>, schema: &SchemaRef) -> Batches {
    let Some(of_now) = status.upgrade() else { return Box::new(std::iter::empty()) };
    let mut rows = kept(&of_now);
    let (status, schema) = (Weak::clone(status), Arc::clone(schema));
    drop(of_now);
    let mut has_failed = false;
    Box::new(std::iter::from_fn(move || {
        if has_failed {
            return None;
        }
        let next = next(&mut rows, &status, &schema).transpose();
        has_failed = matches!(next, Some(Err(_)));
        next.map(|batch| batch.map_err(|error| query::Error::new(code::INTERNAL, error.to_string())))
    }))
}

/// All rows at the present step: those of sources, of models, and of syncs.
fn kept(status: &Status) -> KeptRows {
    let facts = status.facts();
    let (reader, outboxes) = (facts.rejected.reader.clone(), facts.rejected.outboxes);
    // Rows of a sync that is wanted no more are nobody's.
    let syncs = facts.deliveries.values().filter_map(|delivery| delivery.outbox.as_ref());
    let syncs: Vec<Arc<OutboxStatus>> = syncs.filter(|of| !of.is_retired).map(|of| Arc::new(of.clone())).collect();
    drop(facts);
    let snapshot = status.store().snapshot();
    let taken = reader.map(|reader| reader.read(snapshot.clone()));
    let taken = taken.into_iter().flatten().map(|reject| reject.map(Kept::Taken));
    let syncs = outboxes.into_iter().flat_map(move |outboxes| syncs.clone().into_iter().map(move |of| (outboxes, of)));
    let refused = syncs.flat_map(move |(outboxes, of)| -> KeptRows {
        match outboxes.read_refused(&snapshot, &of.name) {
            Ok(rows) => Box::new(rows.map(move |row| row.map(|row| Kept::Refused(Arc::clone(&of), row)))),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    });
    Box::new(taken.chain(refused))
}

/// The next batch; none where all have been read, or the instance has ended.
fn next(rows: &mut KeptRows, status: &Weak<Status>, schema: &SchemaRef) -> engine::Result<Option<RecordBatch>> {
    let mut found = Vec::new();
    let mut bytes = 0;
    while found.len() < BATCH_ROWS_MAX && bytes < BATCH_BYTES {
        let Some(row) = rows.next() else { break };
        let row = shaped(row?);
        bytes += row.row.len() + row.reason.len() + row.key.len();
        found.push(row);
    }
    let Some(status) = status.upgrade().filter(|_| !found.is_empty()) else { return Ok(None) };
    let catalog = status.view().catalog;
    let facts = status.facts();
    for row in &mut found {
        place(row, &facts);
    }
    let shown = rejected::shown(found, &facts, &catalog);
    drop(facts);
    Ok(Some(batch(schema, columns(&shown))))
}

/// A row as people read it.
fn shaped(row: Kept) -> RejectStatus {
    let reject = match row {
        Kept::Taken(reject) => reject,
        Kept::Refused(outbox, row) => return figures::reject(&outbox, row),
    };
    let row = match reject.row {
        RejectedRow::Text(text) => text,
        RejectedRow::Columns(columns) => crate::output::json_row(columns.iter().map(|(name, value)| (name, value))),
    };
    RejectStatus {
        id: reject.id,
        node: reject.node,
        reason: reject.reason,
        code: reject.code,
        key: reject.key.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        row,
        position: reject.position,
        first_at_us: reject.at_us,
        step: reject.step,
        of: None,
    }
}

/// Of a model's row only the step is kept: when that was, and where its sources were then, is remembered beside it.
fn place(row: &mut RejectStatus, facts: &Facts) {
    if row.first_at_us != 0 {
        return;
    }
    let noticed = facts.rejected.failed_in.get(&(row.node.clone(), row.step)).cloned();
    let noticed = noticed.or_else(|| {
        let step = facts.recent.of(row.step)?;
        Some(Noticed { position: step.position.clone(), at_us: step.visible_us })
    });
    if let Some(noticed) = noticed {
        (row.position, row.first_at_us) = (noticed.position, noticed.at_us);
    }
}
