//! Who asks over HTTP: a password in each request, or a browser's cookie after the login page.
//!
//! Nothing is answered before [`admit`] has said by whose grants: it puts the [`Site`] into the request that its handler
//! reads by, and a handler without one answers nothing. Health needs nobody, and says no more than whether it is well.
//!
//! The cookie is one that no other host can set and no script reads, and a browser sends it with nothing that begins on a
//! foreign page. What changes something is a POST from our own page besides (`super::at_home`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::DataType;
use async_trait::async_trait;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;

use super::patience::Phase;
use super::{Site, failure, page};
use crate::door::{Admission, Door, Happened};
use crate::reader::{Answer, Description, Health, Param, Pin, QueryContext, Reader, Role, SqlError};
use crate::service::{Protocol, Service};

/// Roles whose page is kept apart; of more, all begin anew.
const ROLES_MAX: usize = 64;
/// What is needed to ask for a password.
const OPEN: [&str; 5] = ["/login", "/health", "/health/livez", "/health/startupz", "/health/readyz"];

/// The services by which roles read.
#[derive(Default)]
pub(super) struct ByRole {
    services: Mutex<BTreeMap<String, Arc<Service>>>,
}

impl ByRole {
    /// The service of a role.
    fn of(&self, service: &Arc<Service>, role: &Role) -> Arc<Service> {
        let Role::Named(name) = role else { return Arc::clone(service) };
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if services.len() >= ROLES_MAX && !services.contains_key(name) {
            services.clear();
        }
        let made = services.entry(name.clone()).or_insert_with(|| {
            let (reader, role) = (Arc::clone(&service.reader), role.clone());
            service.reading(Arc::new(Granted { reader, role }))
        });
        Arc::clone(made)
    }
}

/// A reader by the grants of a role, whoever asks it.
struct Granted {
    reader: Arc<dyn Reader>,
    role: Role,
}

impl Granted {
    fn as_role(&self, context: &QueryContext) -> QueryContext {
        QueryContext { role: self.role.clone(), ..context.clone() }
    }
}

#[async_trait]
impl Reader for Granted {
    fn pin(&self) -> Pin {
        self.reader.pin()
    }

    async fn query(&self, sql: &str, params: &[Param], context: &QueryContext) -> Result<Answer, SqlError> {
        self.reader.query(sql, params, &self.as_role(context)).await
    }

    async fn describe(
        &self,
        sql: &str,
        declared: &[Option<DataType>],
        context: &QueryContext,
    ) -> Result<Description, SqlError> {
        self.reader.describe(sql, declared, &self.as_role(context)).await
    }

    fn grants(&self, _: &Role) -> u64 {
        self.reader.grants(&self.role)
    }

    fn health(&self) -> Health {
        // Its message names what is not granted, and why it is as it is.
        Health { message: String::new(), ..self.reader.health() }
    }

    fn metrics(&self) -> String {
        // They name what is not granted.
        String::new()
    }
}

impl FromRequestParts<Site> for Site {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &Site) -> Result<Self, Response> {
        std::future::ready(parts.extensions.get::<Self>().cloned()).await.ok_or_else(|| {
            let error = SqlError::internal("a request came past the door");
            failure(StatusCode::INTERNAL_SERVER_ERROR, &error)
        })
    }
}

/// Lets a request in by whose it is, or asks for a password.
pub(super) async fn admit(
    State(site): State<Site>,
    ConnectInfo(phase): ConnectInfo<Phase>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if OPEN.contains(&path) || path.starts_with("/assets/") {
        request.extensions_mut().insert(site);
        return next.run(request).await;
    }
    let door = Arc::clone(&site.service.door);
    let admission = match asked_by(&site, &door, phase.peer, request.headers()).await {
        Ok(Some(admission)) => admission,
        Ok(None) => return who_are_you(&site, &request),
        Err(error) => return failure(StatusCode::TOO_MANY_REQUESTS, &error),
    };
    let (role, user) = (admission.role(), admission.user().to_owned());
    let service = site.by_role.of(&site.service, &role);
    request.extensions_mut().insert(Site { service, role, user, ..site });
    let response = next.run(request).await;
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    // What is sent for long ends when whoever asked is not let in any more.
    let (head, body) = response.into_parts();
    let outstays = async move { door.outstay(&admission).await };
    Response::from_parts(head, Body::from_stream(body.into_data_stream().take_until(Box::pin(outstays))))
}

/// Whose a request is; none if it does not say, or not rightly.
async fn asked_by(
    site: &Site,
    door: &Arc<Door>,
    from: Option<IpAddr>,
    headers: &HeaderMap,
) -> Result<Option<Admission>, SqlError> {
    if door.trusts(site.listener) {
        return Ok(Some(Admission::Trusted));
    }
    if let Some(given) = headers.get(header::AUTHORIZATION) {
        return match (basic(given), bearer(given)) {
            (Some((name, password)), _) => door.proves(from, &name, &password).await,
            (None, Some(word)) => door.knows(from, word),
            (None, None) => Ok(None),
        };
    }
    let session = cookie(headers, site.cookie()).and_then(|word| door.sessions.of(word));
    Ok(session.filter(|admission| door.admits(admission)))
}

/// The key of `Authorization: Bearer …`.
fn bearer(given: &HeaderValue) -> Option<&str> {
    let (scheme, word) = given.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(word.trim())
}

/// Name and password of `Authorization: Basic …`.
fn basic(given: &HeaderValue) -> Option<(String, String)> {
    let (scheme, rest) = given.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// The value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, word)| word)
}

/// Asks for a password: people by a page, programs by an error.
fn who_are_you(site: &Site, request: &Request) -> Response {
    let headers = request.headers();
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_basic = headers.contains_key(header::AUTHORIZATION);
    let is_key = headers.get(header::AUTHORIZATION).is_some_and(|given| bearer(given).is_some());
    if *request.method() == Method::GET && accepts.contains("text/html") && !is_basic {
        let asked = request.uri().path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str);
        return ([(header::LOCATION, format!("/login?next={}", ::page::url(asked)))], StatusCode::SEE_OTHER)
            .into_response();
    }
    let hint = if site.service.door.users().is_empty() {
        "There are no users: `tidemill users add NAME` makes one."
    } else {
        "Send `Authorization: Basic` with a user and the password or `Authorization: Bearer` with a key, or log in at /login."
    };
    let message = match (is_basic, is_key) {
        (_, true) => "the key is not known, or has ended",
        (true, false) => "the user or the password is wrong",
        (false, false) => "this needs a login",
    };
    let mut response = failure(StatusCode::UNAUTHORIZED, &SqlError::new("28000", message).hint(hint));
    // A browser's own dialog would come over the page that fetches.
    if !headers.contains_key("sec-fetch-mode") {
        let challenge = HeaderValue::from_static("Basic realm=\"Tidemill\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// `GET /login`: the page that asks.
pub(super) async fn login_page(Query(words): Query<BTreeMap<String, String>>) -> Response {
    std::future::ready(page::login(StatusCode::OK, &own(words.get("next")), "")).await
}

/// `POST /login`: the cookie for the right password.
pub(super) async fn login(site: Site, ConnectInfo(phase): ConnectInfo<Phase>, body: Bytes) -> Response {
    let fields = fields(&body);
    let word = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let next = own(fields.get("next"));
    let door = &site.service.door;
    match door.proves(phase.peer, word("user"), word("password")).await {
        Ok(Some(Admission::Known(name, user))) => {
            let cookie = site.set_cookie(&door.sessions.begin(&name, &user), None);
            ([(header::LOCATION, next), (header::SET_COOKIE, cookie)], StatusCode::SEE_OTHER).into_response()
        }
        Ok(_) => page::login(StatusCode::UNAUTHORIZED, &next, "The user or the password is wrong."),
        Err(error) => {
            let hint = error.hint.unwrap_or_default();
            page::login(StatusCode::TOO_MANY_REQUESTS, &next, &format!("Too many logins have failed. {hint}"))
        }
    }
}

/// `POST /logout`.
pub(super) async fn logout(site: Site, ConnectInfo(phase): ConnectInfo<Phase>, headers: HeaderMap) -> Response {
    let door = &site.service.door;
    if let Some(name) = cookie(&headers, site.cookie()).and_then(|word| door.sessions.end(word)) {
        door.tell(Happened::LoggedOut, &name, phase.peer, Protocol::Http);
    }
    let gone = site.set_cookie("", Some(0));
    std::future::ready(([(header::LOCATION, "/login".to_owned()), (header::SET_COOKIE, gone)], StatusCode::SEE_OTHER))
        .await
        .into_response()
}

impl Site {
    /// Name of the cookie. Under TLS a browser takes it from this host alone, over TLS alone.
    fn cookie(&self) -> &'static str {
        if self.service.door.tls.is_some() { "__Host-tidemill" } else { "tidemill" }
    }

    fn set_cookie(&self, word: &str, seconds: Option<u32>) -> String {
        let secure = if self.service.door.tls.is_some() { "; Secure" } else { "" };
        let age = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
        format!("{}={word}; Path=/; HttpOnly; SameSite=Strict{secure}{age}", self.cookie())
    }
}

/// An address of this site, as it was asked for; the first page for any other.
fn own(next: Option<&String>) -> String {
    let is_own = |next: &&String| {
        let inside = next.strip_prefix('/').is_some_and(|rest| !rest.starts_with(['/', '\\']));
        inside && next.chars().all(|c| c.is_ascii_graphic()) && next.len() <= 2_000
    };
    next.filter(is_own).map_or_else(|| "/".to_owned(), Clone::clone)
}

/// Fields of a form.
fn fields(body: &[u8]) -> BTreeMap<String, String> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let uri = Uri::try_from(format!("/?{text}")).ok();
    let fields = uri.and_then(|uri| Query::<BTreeMap<String, String>>::try_from_uri(&uri).ok());
    fields.map(|Query(fields)| fields).unwrap_or_default()
}
