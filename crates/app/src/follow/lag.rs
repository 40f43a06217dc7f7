//! How many bytes of a source's log are not read yet.

use std::sync::Arc;
use std::time::Duration;

use connect::Source;
use relation::Position;

use super::Outlet;

/// How often a source is asked how much of its log is not read yet.
const LAG_INTERVAL: Duration = Duration::from_secs(5);

/// Notes how many bytes of a source's log are not read yet; while the source cannot say it, nobody knows.
pub(super) async fn watch_lag(name: String, source: Arc<dyn Source>, outlet: Outlet) {
    let (status, mut stopped) = (outlet.status, outlet.stopped);
    while tokio::time::timeout(LAG_INTERVAL, stopped.wait_for(|stop| *stop)).await.is_err() {
        let position = status.facts().sources.get(&name).map(|source| source.position.clone()).unwrap_or_default();
        let position = Position(position);
        let behind = tokio::select! {
            behind = source.bytes_behind(&position) => behind.ok().flatten(),
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        if let Some(source) = status.facts().sources.get_mut(&name) {
            source.lag_bytes = behind.and_then(|bytes| i64::try_from(bytes).ok());
        }
    }
}
