//! What moves, over server-sent events: one stream a page.
//!
//! A board is what all viewers of one page share: it is computed once a second however many look, and not at all when
//! nobody does, for the last viewer's leaving ends its task. A stream sends all of the board first, then only the keys
//! whose texts changed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use futures::future::BoxFuture;
use page::{Live, NodeKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;

use super::{Site, Words, dashboard, frame, read, syncs};
use crate::http::failure;
use crate::reader::{Role, SqlError};
use crate::service::Service;

/// From the end of one computation to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Streams at a time; one more is refused, and the browser tries again.
const STREAMS_MAX: usize = 512;

/// Computes what moves on a page.
type Compute = Box<dyn Fn() -> BoxFuture<'static, Live> + Send>;

/// The boards that somebody looks at.
pub(crate) struct Hub {
    boards: Mutex<BTreeMap<String, Weak<Board>>>,
    streams: Arc<Semaphore>,
    closed: Arc<watch::Sender<bool>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            boards: Mutex::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            closed: Arc::new(watch::Sender::new(false)),
        }
    }
}

/// A page's moving part, shared by its viewers.
struct Board {
    state: watch::Receiver<Arc<Live>>,
    task: AbortHandle,
}

impl Drop for Board {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hub {
    /// Boards for others, within the same bounds.
    pub(crate) fn beside(&self) -> Self {
        let (streams, closed) = (Arc::clone(&self.streams), Arc::clone(&self.closed));
        Self { boards: Mutex::default(), streams, closed }
    }

    /// Ends all streams, so that a shutdown does not wait for viewers.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// The board of a topic: the one that others look at, or a new one.
    fn board(&self, topic: String, compute: Compute) -> Arc<Board> {
        let mut boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(board) = boards.get(&topic).and_then(Weak::upgrade) {
            return board;
        }
        boards.retain(|_, board| board.strong_count() > 0);
        let (sender, state) = watch::channel(Arc::default());
        let task = tokio::spawn(async move {
            loop {
                let live = Arc::new(compute().await);
                sender.send_if_modified(|known| {
                    let moved = *known != live;
                    *known = live;
                    moved
                });
                tokio::time::sleep(PAUSE).await;
            }
        });
        let board = Arc::new(Board { state, task: task.abort_handle() });
        boards.insert(topic, Arc::downgrade(&board));
        board
    }
}

/// One viewer.
struct Viewer {
    board: Arc<Board>,
    state: watch::Receiver<Arc<Live>>,
    sent: Arc<Live>,
    closed: watch::Receiver<bool>,
    /// Held while the stream lasts.
    _permit: OwnedSemaphorePermit,
}

impl Viewer {
    /// The next change, as JSON of keys and texts; none when serving ends.
    async fn next(&mut self) -> Option<String> {
        loop {
            tokio::select! {
                changed = self.state.changed() => changed.ok()?,
                _ = self.closed.wait_for(|closed| *closed) => return None,
            }
            let now = Arc::clone(&self.state.borrow_and_update());
            let moved: BTreeMap<&str, &str> = moved(&self.sent, &now).collect();
            let text = serde_json::json!(moved).to_string();
            let is_empty = moved.is_empty();
            self.sent = now;
            if !is_empty {
                return Some(text);
            }
        }
    }
}

/// Keys whose texts are not what they were.
fn moved<'a>(before: &'a Live, now: &'a Live) -> impl Iterator<Item = (&'a str, &'a str)> {
    now.iter().filter(|(key, text)| before.get(*key) != Some(text)).map(|(key, text)| (key.as_str(), text.as_str()))
}

fn stream(viewer: Viewer) -> impl Stream<Item = Result<Event, Infallible>> {
    futures::stream::unfold(viewer, |mut viewer| async move {
        let text = viewer.next().await?;
        debug_assert!(Arc::strong_count(&viewer.board) > 0);
        Some((Ok(Event::default().event("patch").data(text)), viewer))
    })
}

/// `GET /events/…`: the stream of the page at `/…`.
pub(super) async fn events(site: Site, Path(topic): Path<String>, Query(mut words): Words) -> Response {
    let (service, role) = (site.service, site.role);
    // Words that no filter has would make a board of its own out of the same page.
    let dashboard = topic.strip_prefix("dashboards/").unwrap_or_default();
    let dashboards = service.dashboards();
    let dashboard = dashboards.iter().find(|known| known.name == dashboard);
    words.retain(|word, _| match dashboard {
        Some(known) => known.filters.iter().any(|filter| filter.name == *word),
        None => topic == "rejects" && word == "node",
    });
    let Some(compute) = computation(&service, &role, &topic, &words) else {
        return failure(StatusCode::NOT_FOUND, &SqlError::new("not_found", "no page moves at this address"));
    };
    let Ok(permit) = Arc::clone(&service.hub.streams).try_acquire_owned() else {
        return failure(StatusCode::SERVICE_UNAVAILABLE, &SqlError::new("53300", "too many pages are open"));
    };
    // Whoever comes after a change of grants looks at nothing that was computed before.
    let topic = format!("{topic}?{words:?} {}", service.reader.grants(&role));
    let board = service.hub.board(topic, compute);
    let mut state = board.state.clone();
    // What is there already counts as new for a new viewer.
    state.mark_changed();
    let closed = service.hub.closed.subscribe();
    let viewer = Viewer { board, state, sent: Arc::default(), closed, _permit: permit };
    Sse::new(stream(viewer)).keep_alive(KeepAlive::default()).into_response()
}

/// What a topic's board computes; none if there is no such topic.
fn computation(service: &Arc<Service>, role: &Role, topic: &str, words: &BTreeMap<String, String>) -> Option<Compute> {
    let parts: Vec<&str> = topic.split('/').collect();
    match parts.as_slice() {
        ["graph"] => Some(compute(service, |service| async move {
            read::graph(&service).await.map(|graph| graph.live()).unwrap_or_default()
        })),
        ["sources"] => Some(compute(service, |service| async move {
            read::sources(&service).await.map(|found| page::view::Sources::live(&found)).unwrap_or_default()
        })),
        ["sources", name] => {
            let name = (*name).to_owned();
            Some(compute(service, move |service| {
                let name = name.clone();
                async move {
                    let found = read::sources(&service).await.unwrap_or_default();
                    let found = found.into_iter().find(|source| source.name == name);
                    found.map(|source| page::view::SourcePage::live(&source)).unwrap_or_default()
                }
            }))
        }
        ["syncs"] => Some(compute(service, |service| async move {
            syncs::syncs(&service).await.map(|found| page::view::SyncList::live(&found)).unwrap_or_default()
        })),
        ["syncs", name] => {
            let name = (*name).to_owned();
            Some(compute(service, move |service| {
                let name = name.clone();
                async move { Box::pin(syncs::sync_live(&service, &name)).await }
            }))
        }
        ["rejects"] => {
            let node = words.get("node").cloned().unwrap_or_default();
            Some(compute(service, move |service| {
                let node = node.clone();
                async move {
                    let (counts, rejects) = read::rejects(&service, &node).await;
                    page::view::Rejects::live(&counts, &rejects)
                }
            }))
        }
        ["system"] => Some(compute(service, |service| async move { read::system_live(&service).await })),
        [kind @ ("models" | "tables"), schema, name] => {
            let kind = if *kind == "models" { NodeKind::Model } else { NodeKind::Table };
            let (schema, name) = ((*schema).to_owned(), (*name).to_owned());
            Some(compute(service, move |service| {
                let (schema, name) = (schema.clone(), name.clone());
                async move { read::node_live(&service, kind, &schema, &name).await }
            }))
        }
        ["dashboards", name] => {
            service.dashboards().iter().find(|dashboard| dashboard.name == *name)?;
            let (words, is_owner) = (words.clone(), *role == Role::Owner);
            let name = (*name).to_owned();
            Some(compute(service, move |service| {
                let (words, name) = (words.clone(), name.clone());
                async move {
                    let dashboards = service.dashboards();
                    let found = match dashboards.iter().find(|dashboard| dashboard.name == name) {
                        Some(found) if is_owner => Some(found.clone()),
                        Some(found) => dashboard::readable(&service, found).await,
                        None => None,
                    };
                    match found {
                        Some(found) => dashboard::live(&service, &found, &words).await,
                        None => Live::new(),
                    }
                }
            }))
        }
        _ => None,
    }
}

fn compute<F: Future<Output = Live> + Send + 'static>(
    service: &Arc<Service>,
    work: impl Fn(Arc<Service>) -> F + Send + 'static,
) -> Compute {
    // A board must not keep the service, whose hub knows the board, from ending.
    let service = Arc::downgrade(service);
    Box::new(move || match service.upgrade() {
        Some(service) => {
            let work = work(Arc::clone(&service));
            Box::pin(async move {
                let mut live = work.await;
                live.extend(frame(&service).live());
                live
            })
        }
        None => Box::pin(futures::future::ready(Live::new())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(pairs: &[(&str, &str)]) -> Live {
        pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
    }

    /// A computation that never ends, and tells when it is given up.
    fn never(dropped: Arc<tokio::sync::Notify>) -> Compute {
        struct Guard(Arc<tokio::sync::Notify>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        Box::new(move || {
            let guard = Guard(Arc::clone(&dropped));
            Box::pin(async move {
                let _guard = guard;
                futures::future::pending().await
            })
        })
    }

    #[test]
    fn only_what_moved_is_sent() {
        let before = live(&[("t/a", "1"), ("t/b", "2")]);
        let now = live(&[("t/a", "1"), ("t/b", "3"), ("t/c", "4")]);
        assert_eq!(moved(&before, &now).collect::<Vec<_>>(), [("t/b", "3"), ("t/c", "4")]);
    }

    #[tokio::test]
    async fn viewers_share_a_board_and_the_last_one_ends_it() {
        let hub = Hub::default();
        let dropped = Arc::new(tokio::sync::Notify::new());
        let first = hub.board("graph".to_owned(), never(Arc::clone(&dropped)));
        let second = hub.board("graph".to_owned(), never(Arc::default()));
        assert!(Arc::ptr_eq(&first, &second));
        drop(first);
        assert!(!second.task.is_finished());
        tokio::task::yield_now().await;
        drop(second);
        dropped.notified().await;
        assert!(hub.boards.lock().unwrap().values().all(|board| board.strong_count() == 0));
    }
}
