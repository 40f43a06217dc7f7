//! HTTP: health, metrics, SQL, and the web page, all behind one gate.

mod answer;
mod antechamber;
mod gate;
pub(crate) mod page;
mod patience;
mod sql;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;

pub use self::antechamber::{Antechamber, Starting};
use self::gate::ByRole;
use self::patience::{Patient, Phase};
use crate::door::is_loopback;
use crate::reader::{Role, SqlError};
use crate::service::Service;

/// Serves HTTP until `shutdown` is ready, then gives requests [`crate::Limits::shutdown_grace`] to end.
pub async fn serve_http(listener: TcpListener, service: Arc<Service>, shutdown: impl Future<Output = ()> + Send) {
    let (stop, mut stopped) = watch::channel(false);
    let grace = service.limits.shutdown_grace;
    let hub = Arc::clone(&service);
    let address = listener.local_addr().ok().map(|address| address.ip());
    let listener = Patient::new(listener, &service);
    let router = router(service, address).into_make_service_with_connect_info::<Phase>();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
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
    /// What whoever asks may read.
    role: Role,
    /// Whom they have logged in as; empty where nobody is asked.
    user: String,
    /// The address that is listened on. On loopback only this machine may ask.
    listener: Option<IpAddr>,
    by_role: Arc<ByRole>,
}

impl Site {
    fn is_loopback(&self) -> bool {
        self.listener.is_some_and(is_loopback)
    }
}

fn router(service: Arc<Service>, listener: Option<IpAddr>) -> Router {
    let site = Site { service, role: Role::Owner, user: String::new(), listener, by_role: Arc::default() };
    Router::new()
        .merge(page::routes())
        .route("/health", get(|| async { text(StatusCode::OK, HEALTH.trim_end()) }))
        .route("/health/livez", get(|| async { text(StatusCode::OK, "ok") }))
        .route("/health/startupz", get(startupz))
        .route("/health/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/sql", post(sql::post))
        .route("/login", get(gate::login_page).post(gate::login))
        .route("/logout", post(gate::logout))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        // What was read is as large as it may be.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(site.clone(), gate::admit))
        .layer(axum::middleware::from_fn_with_state(site.clone(), at_home))
        .layer(axum::middleware::from_fn(page::secured))
        .layer(axum::middleware::from_fn_with_state(site.clone(), patience::heard_out))
        .with_state(site)
}

/// Refuses what a foreign page makes a browser send, or asks by a name that is not this machine's: a foreign page's name may
/// point here. Nothing of this machine is for it, not even its figures.
async fn at_home(State(site): State<Site>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !is_own_host(&site, headers) {
        return page::foreign(&site, request.uri().path());
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !reads && !is_own_origin(headers) {
        return stranger();
    }
    next.run(request).await
}

/// Whether a request names this machine, where only this machine may ask.
fn is_own_host(site: &Site, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        // An IPv6 address without port ends in a bracket.
        if port.ends_with(']') { host } else { name }
    });
    // An address and no name that looks like one: `127.example.org` may point anywhere, and here tomorrow.
    let is_loopback = name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    let local = ["localhost", "[::1]", ""].contains(&name) || is_loopback;
    local || !site.is_loopback()
}

/// Whether a request that may change something, or cost much, comes from no page or from our own: a browser says which.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if header("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].contains(&site)) {
        return false;
    }
    let host = header("host").unwrap_or_default();
    header("origin")
        .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, from)| from == host && !from.is_empty()))
}

fn stranger() -> Response {
    let error = SqlError::new("forbidden", "this request comes from a foreign page")
        .detail("The server listens on this machine alone, and answers rows only to requests that name it so.")
        .hint("Ask localhost or 127.0.0.1.");
    failure(StatusCode::FORBIDDEN, &error)
}

/// What there is below `/health`.
const HEALTH: &str = "\
/health/livez     200 as soon as the process answers
/health/startupz  200 when start and recovery are done
/health/readyz    200 when queries are answered; the text says what is served old
";

/// Start and recovery are done.
async fn startupz(site: Site) -> Response {
    let health = site.service.reader.health();
    state(&site, health.started, &health.message)
}

/// Queries are answered.
async fn readyz(site: Site) -> Response {
    let health = site.service.reader.health();
    state(&site, health.started && health.ready, &health.message)
}

async fn metrics(site: Site) -> Response {
    if site.role != Role::Owner {
        let error = SqlError::new("42501", "permission denied for the metrics")
            .hint("A user of the role owner reads them: `tidemill users add NAME`.");
        return failure(StatusCode::FORBIDDEN, &error);
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, site.service.metrics()).into_response()
}

async fn not_found(site: Site, headers: HeaderMap) -> Response {
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

/// Whether all is well; why not is for whoever may read it.
fn state(site: &Site, well: bool, message: &str) -> Response {
    let is_open = site.service.door.trusts(site.listener);
    match (well, is_open) {
        (true, false) => text(StatusCode::OK, "ok"),
        (false, false) => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: whoever is logged in sees why"),
        (true, true) => text(StatusCode::OK, if message.is_empty() { "ok" } else { message }),
        (false, true) => text(StatusCode::SERVICE_UNAVAILABLE, if message.is_empty() { "not ready" } else { message }),
    }
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
