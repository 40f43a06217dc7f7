//! Questions over HTTP: one on each connection, with a bound for the answer's bytes and its time.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::{Config, Place};
use crate::base64;
use crate::source::Failure;
use crate::tls::{Tls, client_config};

/// How long a question may take, from the connection to the answer's last byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// What registries call their JSON; some take no other name for it.
const MEDIA: &str = "application/vnd.schemaregistry.v1+json";

/// Whom to ask.
pub(super) struct Client {
    place: Place,
    user: Option<String>,
    authorization: Option<HeaderValue>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Without the login.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.place.url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// What is read and written: with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    pub(super) fn new(config: &Config) -> Result<Self, Failure> {
        let unusable = |what: &str, detail: String| Failure {
            message: format!("`schema_registry`: {what} cannot be used"),
            detail,
            hint: "Correct it in connections.yml.".to_owned(),
        };
        let Config { place, user, password, tls_ca, .. } = config;
        let tls = match place.is_encrypted {
            true => {
                let config = client_config(Tls::Verify, tls_ca.as_deref());
                Some(Arc::new(config.map_err(|detail| unusable("`tls_ca`", detail))?))
            }
            false => None,
        };
        let authorization = match user {
            None => None,
            Some(user) => {
                let login = base64::text(format!("{user}:{password}").as_bytes());
                let value = HeaderValue::from_str(&format!("Basic {login}"));
                let mut value = value.map_err(|error| unusable("the login", error.to_string()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { place: place.clone(), user: user.clone(), authorization, tls })
    }

    pub(super) fn address(&self) -> &str {
        &self.place.url
    }

    /// Who we are to it.
    pub(super) fn who(&self) -> String {
        match &self.user {
            Some(user) => format!("user \"{user}\""),
            None => "who comes without a login".to_owned(),
        }
    }

    /// Asks. Errors: there is no answer, as a sentence.
    pub(super) async fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<Answer, String> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("There is no answer within {} s.", PATIENCE.as_secs())),
        }
    }

    async fn exchange(&self, method: &str, path: &str, body: Option<&str>) -> Result<Answer, String> {
        let stream = self.connect().await?;
        let broken = |error: &hyper::Error| format!("The connection broke: {}.", innermost(error));
        let started = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = started.map_err(|error| broken(&error))?;
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.place.path))
            .header(HOST, self.host())
            .header(USER_AGENT, "tidemill")
            .header(ACCEPT, format!("{MEDIA}, application/json"))
            .header(CONNECTION, "close");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, MEDIA);
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default().to_owned()));
        let request = request.body(body).map_err(|error| format!("It cannot be asked: {error}."))?;
        let answering = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = response.status().as_u16();
            let read = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            match read {
                Ok(body) => Ok(Answer { status, body: body.to_bytes() }),
                Err(error) if error.is::<LengthLimitError>() => {
                    Err(format!("Its answer is larger than {} MiB.", ANSWER_BYTES_MAX >> 20))
                }
                Err(error) => Err(format!("The connection broke: {}.", innermost(&*error))),
            }
        };
        tokio::pin!(answering, connection);
        // The connection is moved on until there is an answer; its end alone is none.
        tokio::select! {
            biased;
            answer = &mut answering => answer,
            ended = &mut connection => match ended {
                Ok(()) => answering.await,
                Err(error) => Err(broken(&error)),
            },
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let Place { host, port, .. } = &self.place;
        let stream = match TcpStream::connect((host.as_str(), *port)).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                return Err("The connection is refused.".to_owned());
            }
            Err(error) => return Err(format!("{}.", capitalised(&error.to_string()))),
        };
        stream.set_nodelay(true).ok();
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.clone()).map_err(|_| format!("\"{host}\" is no name of a host."))?;
        match TlsConnector::from(Arc::clone(tls)).connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(format!("There is no encrypted connection: {error}.")),
        }
    }

    fn host(&self) -> String {
        let Place { host, port, .. } = &self.place;
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }
}

/// What lies below an error, which says more than it.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A part of a path, with what means something in one as its number.
pub(super) fn escaped(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}
