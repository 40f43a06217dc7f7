//! `reconcile models`: every kept model against the batch engine's answer over the stored tables, at one step.

use std::sync::Arc;

use futures::TryStreamExt as _;
use plan::{TableName, delimited};
use query::{Difference, Isolation, Session};

use crate::definition::PlannedModel;

/// Rows of each side that are shown where they differ.
const SHOWN_MAX: usize = 5;

/// How one model compares.
#[derive(Debug, Clone)]
pub struct Compared {
    pub schema: String,
    pub model: String,
    /// None where the comparison itself failed.
    pub difference: Option<Difference>,
    /// What it was compared with, or why it could not be.
    pub message: String,
}

impl Compared {
    /// Whether the model is right; none where that is not known.
    pub fn is_equal(&self) -> Option<bool> {
        Some(self.difference.as_ref()?.equal)
    }
}

/// A model of which there is nothing to be compared, and why.
pub fn unknown(name: &TableName, why: String) -> Compared {
    Compared { schema: name.schema.clone(), model: name.name.clone(), difference: None, message: why }
}

/// Compares all models, each pair at the step of the session.
pub async fn models(
    catalog: Arc<query::Catalog>,
    snapshot: store::Snapshot,
    queries: Arc<query::Runtime>,
    models: &[PlannedModel],
) -> Vec<Compared> {
    let mut out = Vec::with_capacity(models.len());
    for model in models {
        let session = Session::new(snapshot.clone(), Arc::clone(&catalog), Arc::clone(&queries));
        out.push(compare(&session, model).await);
    }
    out
}

async fn compare(session: &Session, model: &PlannedModel) -> Compared {
    let compared = |difference, message: String| Compared {
        schema: model.name.schema.clone(),
        model: model.name.name.clone(),
        difference,
        message,
    };
    match against_batch(session, model).await {
        Ok(difference) => compared(Some(difference), "against the batch answer".to_owned()),
        // A batch query ends at a row on which an expression fails; the model leaves such rows out, so the flow is
        // answered with them left out.
        Err(batch) => match against_flow(session, model).await {
            Ok((difference, rejected)) if rejected > 0 => {
                compared(Some(difference), format!("against the batch answer without {rejected} rejected rows"))
            }
            Ok(_) => compared(None, batch.to_string()),
            Err(error) => compared(None, error.to_string()),
        },
    }
}

async fn kept(session: &Session, model: &PlannedModel) -> query::Result<query::Answer> {
    session.sql(&format!("select * from {}.{}", delimited(&model.name.schema), delimited(&model.name.name))).await
}

async fn against_batch(session: &Session, model: &PlannedModel) -> query::Result<Difference> {
    let kept = kept(session, model).await?;
    let batch = session.logical(model.planned.logical.clone()).await?;
    query::compare(kept.stream, batch, SHOWN_MAX).await
}

async fn against_flow(session: &Session, model: &PlannedModel) -> query::Result<(Difference, u64)> {
    let rejected = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = Arc::clone(&rejected);
    let isolation = Isolation::Rows(Arc::new(move |_| {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }));
    let kept = kept(session, model).await?;
    let flow = &model.planned.flow;
    let answer = session.flow(flow, flow.output, &isolation).await?;
    let difference = query::compare(kept.stream, answer, SHOWN_MAX).await?;
    Ok((difference, rejected.load(std::sync::atomic::Ordering::Relaxed)))
}

/// All rows of an answer.
pub async fn collect(answer: query::Answer) -> query::Result<Vec<arrow::array::RecordBatch>> {
    Ok(answer.stream.try_collect().await?)
}
