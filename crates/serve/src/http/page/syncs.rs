//! Syncs as the page shows them: their nodes in the graph, their list, and the page of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use page::graph::{DESTINATION_LAYER, sync_id};
use page::view::{Sync, SyncPage, system_of};
use page::{Grid, Live, Node, NodeKind, Panel};

use super::ask::panel;
use super::frame;
use super::read::{self, owned};
use crate::service::Service;

/// Syncs that a page reads.
const SYNCS_MAX: usize = 10_000;
/// Deliveries that a sync's page shows.
const LOG_MAX: usize = 20;
/// Refused rows that it shows.
const REFUSED_MAX: usize = 20;

pub(super) const DELIVERIES: &str = "select * from tidemill.deliveries";
const SYNCS: &str = "select * from tidemill.syncs";
const LOG: &str = "select * from tidemill.delivery_log where sync = $1 order by \"at\" desc";
const REFUSED: &str = "select * from tidemill.rejects where node = $1 order by first_at desc nulls last limit 1000";

/// A row of [`DELIVERIES`] as a node of the graph.
pub(super) fn node(deliveries: &Grid, row: usize) -> Node {
    Node {
        id: sync_id(deliveries.text(row, "sync").unwrap_or_default()),
        kind: NodeKind::Sync,
        state: owned(deliveries, row, "state"),
        rows: deliveries.count(row, "backlog_rows"),
        rate: deliveries.number(row, "sent_per_second"),
        lag_seconds: deliveries.number(row, "oldest_seconds"),
        rejects: deliveries.count(row, "refused_rows").unwrap_or(0),
        message: owned(deliveries, row, "message"),
        layer: DESTINATION_LAYER.to_owned(),
        system: system_of(deliveries.text(row, "type").unwrap_or_default()).to_owned(),
        destination: owned(deliveries, row, "destination"),
        last_error: owned(deliveries, row, "last_error"),
        ..Node::default()
    }
}

/// All syncs.
pub(super) async fn syncs(service: &Arc<Service>) -> Panel<Vec<Sync>> {
    let (deliveries, said, sources) = futures::join!(
        panel(service, DELIVERIES, &[], SYNCS_MAX),
        panel(service, SYNCS, &[], SYNCS_MAX),
        panel(service, "select source from tidemill.sources", &[], SYNCS_MAX),
    );
    // Without the other two there is a little less.
    let (deliveries, said, sources) = (deliveries?, said.unwrap_or_default(), sources.unwrap_or_default());
    let said_of: BTreeMap<&str, usize> =
        (0..said.rows.len()).filter_map(|row| Some((said.text(row, "sync")?, row))).collect();
    let is_source = |name: &str| (0..sources.rows.len()).any(|row| sources.text(row, "source") == Some(name));
    let sync = |row| {
        let name = deliveries.text(row, "sync").unwrap_or_default();
        // A row that is not there has no texts.
        let at = said_of.get(name).copied().unwrap_or(usize::MAX);
        Sync {
            node: node(&deliveries, row),
            has_namesake: is_source(name),
            description: owned(&said, at, "description"),
            path: owned(&said, at, "path"),
            address: owned(&said, at, "address"),
            target: owned(&said, at, "target"),
            mode: owned(&said, at, "mode"),
            matched: owned(&said, at, "match"),
            fields: owned(&said, at, "fields"),
            guards: owned(&said, at, "guards"),
            backlog_bytes: deliveries.count(row, "backlog_bytes"),
            sent_total: deliveries.count(row, "sent_total"),
            deleted_total: deliveries.count(row, "deleted_total"),
            rejected_total: deliveries.count(row, "rejected_total"),
            refused_rows: deliveries.count(row, "refused_rows"),
            step: deliveries.count(row, "step"),
            p50_ms: deliveries.number(row, "p50_ms"),
            p99_ms: deliveries.number(row, "p99_ms"),
            stale_since: owned(&deliveries, row, "stale_since"),
            last_error_at: owned(&deliveries, row, "last_error_at"),
        }
    };
    Ok((0..deliveries.rows.len()).map(sync).collect())
}

/// The page of a sync; none if there is no such sync.
pub(super) async fn sync(service: &Arc<Service>, name: &str) -> Panel<Option<SyncPage>> {
    let id = sync_id(name);
    let (names, ids) = ([Some(name)], [Some(id.as_str())]);
    let (all, graph, log, refused) = futures::join!(
        syncs(service),
        read::graph(service),
        panel(service, LOG, &names, LOG_MAX),
        panel(service, REFUSED, &ids, REFUSED_MAX),
    );
    let Some(sync) = all?.into_iter().find(|sync| sync.node.id == id) else { return Ok(None) };
    let follows = graph.ok().and_then(|graph| graph.neighbours(&id, false).into_iter().next().cloned());
    let columns = ["at", "step", "rows", "deletes", "refused", "took_ms", "outcome", "tries", "message"];
    let log = log.map(|grid| grid.select(&columns.map(str::to_owned)));
    let columns = ["key", "reason", "code", "row", "first_at"];
    let refused = refused.map(|grid| grid.select(&columns.map(str::to_owned)));
    Ok(Some(SyncPage { frame: frame(service), sync, follows, log, refused }))
}

/// What moves on it.
pub(super) async fn sync_live(service: &Arc<Service>, name: &str) -> Live {
    Box::pin(sync(service, name)).await.ok().flatten().map(|page| page.live()).unwrap_or_default()
}
