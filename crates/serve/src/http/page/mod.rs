//! The web page: routes, who may ask, and the headers that keep a browser to this page's own files.
//!
//! Every number comes by SQL from the [`crate::Reader`] (`read`, `dashboard`), the `page` crate makes HTML of it, and
//! `live` sends what moved, once a second and only while somebody looks.

mod ask;
pub(crate) mod dashboard;
pub(crate) mod live;
mod read;
mod syncs;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use page::view::{Console, DashboardList, Frame, Home, Login, Rejects, Sources, SyncList, Trace, TroublePage};
use page::{NodeKind, Trouble, asset};

use super::Site;
use crate::reader::Role;
use crate::service::Service;

/// Rows that the console asks for at first.
const CONSOLE_ROWS: usize = 1_000;

/// Edges up and down around a picked node, if the address does not say.
const HOPS: usize = 2;

/// What a browser may load for these pages: their own files and nothing else.
const SECURITY: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

type Words = Query<BTreeMap<String, String>>;

/// Routes of the page.
pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/", get(home))
        .route("/models/{schema}/{name}", get(model))
        .route("/tables/{schema}/{name}", get(table))
        .route("/sources", get(sources))
        .route("/sources/{name}", get(source))
        .route("/syncs", get(sync_list))
        .route("/syncs/{name}", get(sync))
        .route("/rejects", get(rejects))
        .route("/dashboards", get(dashboards))
        .route("/dashboards/{name}", get(one_dashboard))
        .route("/console", get(console))
        .route("/trace", get(trace))
        .route("/system", get(system))
        .route("/events/{*topic}", get(live::events))
        .route("/assets/{path}", get(file))
}

/// Puts the headers of [`SECURITY`] on an answer.
pub(super) async fn secured(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in SECURITY {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Refuses a request by a name that is not this machine's: to programs as they read it, to people as a page.
pub(super) fn foreign(site: &Site, path: &str) -> Response {
    if ["/sql", "/metrics", "/health", "/health/livez", "/health/startupz", "/health/readyz"].contains(&path) {
        return super::stranger();
    }
    let trouble = Trouble {
        message: "This server listens on this machine alone, and answers only requests that name it so.".to_owned(),
        hint: "Ask localhost or 127.0.0.1.".to_owned(),
    };
    // Whoever asks may be anybody: what is out of order here, and what it is called, is not for them.
    let frame = Frame { message: String::new(), ..frame(&site.service) };
    let page = TroublePage { frame, heading: "Not here".to_owned(), trouble };
    (StatusCode::FORBIDDEN, document(page.html())).into_response()
}

fn frame(service: &Service) -> Frame {
    let health = service.reader.health();
    let state = match (health.started, health.ready, health.is_well) {
        (false, ..) => "starting",
        (true, false, _) => "waiting",
        (true, true, false) => "degraded",
        (true, true, true) => "ready",
    };
    Frame {
        project: service.site.project.clone(),
        version: service.site.version.clone(),
        state: state.to_owned(),
        message: if state == "ready" { String::new() } else { health.message },
        asks_passwords: !service.door.users().is_empty(),
    }
}

/// What a stranger sees.
pub(super) fn login(status: StatusCode, next: &str, fault: &str) -> Response {
    (status, document(Login { next: next.to_owned(), fault: fault.to_owned() }.html())).into_response()
}

/// Rows of a shop are not for a browser's cache.
fn document(html: String) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response()
}

fn failed(service: &Service, status: StatusCode, heading: &str, trouble: Trouble) -> Response {
    let page = TroublePage { frame: frame(service), heading: heading.to_owned(), trouble };
    (status, document(page.html())).into_response()
}

pub(super) fn nothing(service: &Service, what: &str) -> Response {
    let trouble = Trouble { message: format!("There is no {what}."), hint: "The graph shows all there is.".to_owned() };
    failed(service, StatusCode::NOT_FOUND, "Not found", trouble)
}

async fn home(site: Site, Query(words): Words) -> Response {
    let service = &site.service;
    let pick = words.get("node").map(|node| node.trim()).filter(|node| !node.is_empty()).map(str::to_owned);
    let hops = words.get("hops").and_then(|hops| hops.parse().ok()).unwrap_or(HOPS);
    document(Home { frame: frame(service), graph: read::graph(service).await, pick, hops }.html())
}

async fn model(site: Site, Path((schema, name)): Path<(String, String)>) -> Response {
    node(&site.service, NodeKind::Model, &schema, &name).await
}

async fn table(site: Site, Path((schema, name)): Path<(String, String)>) -> Response {
    node(&site.service, NodeKind::Table, &schema, &name).await
}

async fn node(service: &Arc<Service>, kind: NodeKind, schema: &str, name: &str) -> Response {
    match read::node(service, kind, schema, name).await {
        Ok(Some(page)) => document(page.html()),
        Ok(None) => nothing(service, &format!("{} “{schema}.{name}”", kind.word())),
        Err(trouble) => failed(service, StatusCode::SERVICE_UNAVAILABLE, name, trouble),
    }
}

async fn sources(site: Site) -> Response {
    let service = &site.service;
    document(Sources { frame: frame(service), sources: read::sources(service).await }.html())
}

async fn source(site: Site, Path(name): Path<String>) -> Response {
    let service = &site.service;
    match read::source(service, &name).await {
        Ok(Some(page)) => document(page.html()),
        Ok(None) => nothing(service, &format!("source “{name}”")),
        Err(trouble) => failed(service, StatusCode::SERVICE_UNAVAILABLE, &name, trouble),
    }
}

async fn sync_list(site: Site) -> Response {
    let service = &site.service;
    document(SyncList { frame: frame(service), syncs: syncs::syncs(service).await }.html())
}

async fn sync(site: Site, Path(name): Path<String>) -> Response {
    let service = &site.service;
    match Box::pin(syncs::sync(service, &name)).await {
        Ok(Some(page)) => document(page.html()),
        Ok(None) => nothing(service, &format!("sync “{name}”")),
        Err(trouble) => failed(service, StatusCode::SERVICE_UNAVAILABLE, &name, trouble),
    }
}

async fn rejects(site: Site, Query(words): Words) -> Response {
    let service = &site.service;
    let node = words.get("node").map(|node| node.trim().to_owned()).unwrap_or_default();
    let (counts, rejects) = read::rejects(service, &node).await;
    document(Rejects { frame: frame(service), node, counts, rejects }.html())
}

async fn dashboards(site: Site) -> Response {
    let service = &site.service;
    let mut dashboards = Vec::new();
    for dashboard in service.dashboards().iter() {
        dashboards.extend(seen(&site, dashboard).await);
    }
    document(DashboardList { frame: frame(service), dashboards }.html())
}

async fn one_dashboard(site: Site, Path(name): Path<String>, Query(words): Words) -> Response {
    let service = &site.service;
    let found = match service.dashboards().iter().find(|dashboard| dashboard.name == name) {
        Some(found) => seen(&site, found).await,
        None => None,
    };
    match found {
        Some(found) => document(dashboard::page(service, &found, &words).await.html()),
        None => nothing(service, &format!("dashboard “{name}”")),
    }
}

/// A dashboard as whoever asks sees it; none where it is not there for them.
async fn seen(site: &Site, dashboard: &page::Dashboard) -> Option<page::Dashboard> {
    match site.role {
        Role::Owner => Some(dashboard.clone()),
        Role::Named(_) => dashboard::readable(&site.service, dashboard).await,
    }
}

async fn console(site: Site, Query(words): Words) -> Response {
    let service = &site.service;
    let sql = words.get("sql").cloned().unwrap_or_default();
    document(Console { frame: frame(service), sql, rows_max: CONSOLE_ROWS }.html())
}

async fn trace(site: Site, Query(words): Words) -> Response {
    let service = &site.service;
    let query = words.get("q").map(|word| word.trim().to_owned()).unwrap_or_default();
    let (steps, cut) = match read::trace(service, &query).await {
        Ok((steps, cut)) => (Ok(steps), cut),
        Err(trouble) => (Err(trouble), false),
    };
    document(Trace { frame: frame(service), query, steps, cut }.html())
}

async fn system(site: Site) -> Response {
    document(read::system(&site.service).await.html())
}

/// A file of the page; its name changes with its content, so a browser may keep it.
async fn file(site: Site, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = asset::find(&path) else { return super::not_found(site, headers).await };
    let kind = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, asset::CACHE_CONTROL),
        (header::VARY, "accept-encoding"),
    ];
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("gzip") && !asset.gzip.is_empty() {
        return (kind, [(header::CONTENT_ENCODING, "gzip")], Body::from(asset.gzip.as_slice())).into_response();
    }
    (kind, Body::from(asset.bytes)).into_response()
}
