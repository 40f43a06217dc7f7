//! HTTP: health, metrics, SQL, and the web page.

mod answer;
pub(crate) mod page;
mod sql;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;

use crate::reader::SqlError;
use crate::service::Service;

/// Serves HTTP until `shutdown` is ready, then gives requests [`crate::Limits::shutdown_grace`] to end.
pub async fn serve_http(listener: TcpListener, service: Arc<Service>, shutdown: impl Future<Output = ()> + Send) {
    let (stop, mut stopped) = watch::channel(false);
    let grace = service.limits.shutdown_grace;
    let hub = Arc::clone(&service);
    let loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let server = axum::serve(listener, router(service, loopback)).with_graceful_shutdown(async move {
        // An error would mean that the sender is gone, and with it the server.
        drop(stopped.wait_for(|stop| *stop).await);
    });
    let limit = async {
        shutdown.await;
        stop.send_replace(true);
        hub.hub.close();
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        ended = server.into_future() => if let Err(error) = ended {
            warn!(%error, "the HTTP server ended");
        },
        () = limit => {}
    }
}

/// What a request is answered from.
#[derive(Clone)]
struct Site {
    service: Arc<Service>,
    /// The listener is on loopback, so only this machine may ask for rows.
    loopback: bool,
}

fn router(service: Arc<Service>, loopback: bool) -> Router {
    let body_limit = DefaultBodyLimit::max(service.limits.message_bytes);
    let site = Site { service, loopback };
    Router::new()
        .merge(page::routes(&site))
        .route("/health/livez", get(|| async { text(StatusCode::OK, "ok") }))
        .route("/health/startupz", get(startupz))
        .route("/health/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/sql", post(sql::post))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(body_limit)
        .layer(axum::middleware::from_fn(page::secured))
        .with_state(site)
}

/// Start and recovery are done.
async fn startupz(State(site): State<Site>) -> Response {
    let health = site.service.reader.health();
    state(health.started, &health.message)
}

/// Queries are answered.
async fn readyz(State(site): State<Site>) -> Response {
    let health = site.service.reader.health();
    state(health.started && health.ready, &health.message)
}

async fn metrics(State(site): State<Site>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, site.service.metrics()).into_response()
}

async fn not_found(State(site): State<Site>, headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("text/html") {
        return page::nothing(&site.service, "page at this address");
    }
    let error = SqlError::new("not_found", "there is nothing at this address").hint("GET / is the page.");
    failure(StatusCode::NOT_FOUND, &error)
}

async fn method_not_allowed() -> Response {
    failure(StatusCode::METHOD_NOT_ALLOWED, &SqlError::new("method_not_allowed", "this address has another method"))
}

fn state(well: bool, message: &str) -> Response {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, if message.is_empty() { "ok" } else { message })
}

fn text(status: StatusCode, line: &str) -> Response {
    (status, format!("{line}\n")).into_response()
}

/// `{"error":{"code","message","detail","hint"}}`; what is not known is left out.
fn failure(status: StatusCode, error: &SqlError) -> Response {
    let mut fields = json!({"code": error.code, "message": error.message});
    for (name, value) in [("detail", &error.detail), ("hint", &error.hint)] {
        if let Some(value) = value {
            fields[name] = json!(value);
        }
    }
    if let Some(position) = error.position {
        fields["position"] = json!(position);
    }
    (status, axum::Json(json!({"error": fields}))).into_response()
}
