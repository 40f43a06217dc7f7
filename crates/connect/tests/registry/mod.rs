//! A schema registry for cases: one of a case's own, which keeps to Confluent's contract as far as it is asked here and can be away,
//! deny and refuse; or, in cases whose name begins with `registry`, the real one whose port is `TIDEMILL_TEST_REGISTRY_PORT`.
//!
//! ```text
//! registry away | back            nothing listens there, and it does again
//! registry deny | forget | fail   from now on: it wants another login, it knows nothing of schemas, it has trouble of its own
//! registry frozen SUBJECT         it takes no other schema under a subject
//! registry mend                   … and is as it was
//! registry asked                  what it was asked since it was asked for that
//! registry schemas SUBJECT        what is under a subject, a line each
//! schema NAME SUBJECT             registers the last line of the body, which refers to those before it; from here on $NAME are the
//!                                 first bytes of its messages, as they are written in cases
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::destination::there::free_port;

/// The path under which the real one keeps to the contract; the fake one is there, too.
const PATH: &str = "/apis/ccompat/v7";

/// A registry.
pub(crate) struct Registry {
    port: u16,
    runtime: Handle,
    state: Arc<Mutex<State>>,
    /// None: it is away, or the real one.
    task: Option<JoinHandle<()>>,
    names: BTreeMap<String, u32>,
}

/// What a registry knows.
#[derive(Default)]
struct State {
    /// Schemas with those that they refer to; a number is a place behind one of these.
    schemas: Vec<(String, Vec<Json>)>,
    subjects: BTreeMap<String, Vec<u32>>,
    frozen: BTreeSet<String>,
    trouble: Option<&'static str>,
    asked: Vec<String>,
}

/// Whether the real one can be asked.
pub(crate) fn is_there() -> bool {
    real_port().is_some()
}

fn real_port() -> Option<u16> {
    std::env::var("TIDEMILL_TEST_REGISTRY_PORT").ok()?.parse().ok()
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

impl Registry {
    /// One of a case's own.
    pub(crate) fn start(runtime: &Handle) -> Result<Self, String> {
        let (state, names) = (Arc::default(), BTreeMap::new());
        let mut registry = Self { port: free_port()?, runtime: runtime.clone(), state, task: None, names };
        registry.listen()?;
        Ok(registry)
    }

    /// The real one.
    pub(crate) fn real(runtime: &Handle) -> Result<Self, String> {
        let port = real_port().ok_or("TIDEMILL_TEST_REGISTRY_PORT is not set")?;
        Ok(Self { port, runtime: runtime.clone(), state: Arc::default(), task: None, names: BTreeMap::new() })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// A case's text with what stands for bytes.
    pub(crate) fn told(&self, text: &str) -> String {
        let longest_first = self.names.iter().rev();
        longest_first.fold(text.to_owned(), |text, (name, id)| {
            let [a, b, c, d] = id.to_be_bytes();
            text.replace(&format!("${name}"), &format!("\\x00\\x{a:02x}\\x{b:02x}\\x{c:02x}\\x{d:02x}"))
        })
    }

    /// A text without what is another one in each run.
    pub(crate) fn masked(&self, text: &str) -> String {
        text.replace(&format!(":{}{PATH}", self.port), ":$REGISTRY")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&mut self) -> Result<(), String> {
        let listener = self.runtime.block_on(TcpListener::bind(("127.0.0.1", self.port))).map_err(text)?;
        let state = Arc::clone(&self.state);
        self.task = Some(self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, &state).await.ok();
            }
        }));
        Ok(())
    }

    /// A directive `registry`.
    pub(crate) fn act(&mut self, words: &[&str]) -> Result<String, String> {
        match words {
            ["away"] => {
                if let Some(task) = self.task.take() {
                    task.abort();
                    self.runtime.block_on(task).ok();
                }
            }
            ["back"] => self.listen()?,
            ["deny"] => self.state().trouble = Some("deny"),
            ["fail"] => self.state().trouble = Some("fail"),
            ["forget"] => *self.state() = State::default(),
            ["mend"] => {
                self.state().trouble = None;
                self.state().frozen.clear();
            }
            ["frozen", subject] => drop(self.state().frozen.insert((*subject).to_owned())),
            ["schemas", subject] => {
                let state = self.state();
                let ids = state.subjects.get(*subject).cloned().unwrap_or_default();
                let texts = ids.into_iter().filter_map(|id| Some(state.schema(id)?.0));
                return Ok(texts.collect::<Vec<_>>().join("\n"));
            }
            ["asked"] => return Ok(std::mem::take(&mut self.state().asked).join("\n")),
            other => return Err(format!("registry {other:?}?")),
        }
        Ok(String::new())
    }

    /// A directive `schema`.
    pub(crate) fn schema(&mut self, name: &str, subject: &str, body: &str) -> Result<String, String> {
        let mut texts: Vec<&str> = body.lines().collect();
        let last = texts.pop().ok_or("a schema")?;
        let mut references = Vec::new();
        for (at, text) in texts.into_iter().enumerate() {
            let of = format!("{subject}-{at}");
            self.register(&of, text, &references)?;
            references.push(json!({"name": of, "subject": of, "version": 1}));
        }
        let id = self.register(subject, last, &references)?;
        self.names.insert(name.to_owned(), id);
        Ok(String::new())
    }

    fn register(&self, subject: &str, schema: &str, references: &[Json]) -> Result<u32, String> {
        let body = json!({"schema": schema, "references": references}).to_string();
        let head = format!(
            "POST {PATH}/subjects/{subject}/versions HTTP/1.1\r\nHost: registry\r\nConnection: close\r\nContent-Type: \
             application/vnd.schemaregistry.v1+json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = self.runtime.block_on(async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.map_err(text)?;
            stream.write_all((head + &body).as_bytes()).await.map_err(text)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map_err(text)?;
            Ok::<_, String>(answer)
        })?;
        self.state().asked.clear();
        // Some send the body in parts.
        let json = answer.find('{').zip(answer.rfind('}')).and_then(|(from, to)| answer.get(from..=to));
        let json: Json = serde_json::from_str(json.ok_or_else(|| answer.clone())?).map_err(text)?;
        json["id"].as_u64().and_then(|id| u32::try_from(id).ok()).ok_or(answer)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Answers one question.
async fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let (head, body) = loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&request);
        let Some((head, body)) = said.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0_usize) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let (status, body) = state.lock().unwrap_or_else(PoisonError::into_inner).answer(&head, &body);
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn error(status: u16, code: u32, message: &str) -> (u16, Json) {
    (status, json!({"error_code": code, "message": message}))
}

impl State {
    fn answer(&mut self, head: &str, body: &str) -> (u16, Json) {
        let mut words = head.lines().next().unwrap_or_default().split(' ');
        let (method, url) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Some(path) = url.strip_prefix(PATH) else { return error(404, 404, "HTTP 404 Not Found") };
        self.asked.push(format!("{method} {path}"));
        let login = head.lines().find_map(|line| line.strip_prefix("authorization: "));
        match self.trouble {
            // tidemill:geheim
            Some("deny") if login != Some("Basic dGlkZW1pbGw6Z2VoZWlt") => return error(401, 401, "Unauthorized"),
            Some("fail") => return error(500, 50_001, "Error in the backend data store"),
            _ => {}
        }
        let body: Json = serde_json::from_str(body).unwrap_or_default();
        let schema = body["schema"].as_str().unwrap_or_default().to_owned();
        let references = body["references"].as_array().cloned().unwrap_or_default();
        let known = self.schemas.iter().position(|(text, _)| *text == schema);
        let id = known.and_then(|at| u32::try_from(at + 1).ok());
        let of = |subject: &str| subject.replace("%2E", ".");
        match (method, &path.split('/').skip(1).collect::<Vec<_>>()[..]) {
            ("GET", ["schemas", "types"]) => (200, json!(["JSON", "PROTOBUF", "AVRO"])),
            ("GET", ["schemas", "ids", id]) => match self.schema(id.parse().unwrap_or(0)) {
                Some((schema, references)) => (200, json!({"schema": schema, "references": references})),
                None => error(404, 40_403, "Schema not found"),
            },
            ("GET", ["subjects", subject, "versions", version]) => {
                let ids = self.subjects.get(&of(subject)).cloned().unwrap_or_default();
                let number = if *version == "latest" { ids.len() } else { version.parse().unwrap_or(0) };
                let at = number.wrapping_sub(1);
                let id = ids.get(at).copied();
                match id.and_then(|id| Some((id, self.schema(id)?))) {
                    Some((id, (schema, references))) => (
                        200,
                        json!({"subject": subject, "id": id, "version": at + 1, "schema": schema, "references": references}),
                    ),
                    None => error(404, 40_402, "Version not found"),
                }
            }
            ("POST", ["subjects", subject]) => match (self.subjects.get(&of(subject)), id) {
                (None, _) => error(404, 40_401, "Subject not found"),
                (Some(ids), Some(id)) if ids.contains(&id) => (200, json!({"id": id, "schema": schema})),
                _ => error(404, 40_403, "Schema not found"),
            },
            ("POST", ["compatibility", "subjects", subject, "versions", "latest"]) => {
                match (self.subjects.contains_key(&of(subject)), self.frozen.contains(&of(subject))) {
                    (false, _) => error(404, 40_401, "Subject not found"),
                    (true, is_frozen) => (200, json!({"is_compatible": !is_frozen || id.is_some()})),
                }
            }
            ("POST", ["subjects", subject, "versions"]) => {
                let subject = of(subject);
                if self.frozen.contains(&subject) {
                    let message = "Schema being registered is incompatible with an earlier schema";
                    return error(409, 409, &format!("{message} for subject \"{subject}\""));
                }
                let id = id.unwrap_or_else(|| {
                    self.schemas.push((schema, references));
                    u32::try_from(self.schemas.len()).unwrap_or(0)
                });
                let ids = self.subjects.entry(subject).or_default();
                if !ids.contains(&id) {
                    ids.push(id);
                }
                (200, json!({"id": id}))
            }
            _ => error(404, 404, "HTTP 404 Not Found"),
        }
    }

    fn schema(&self, id: u32) -> Option<(String, Vec<Json>)> {
        self.schemas.get(usize::try_from(id).ok()?.checked_sub(1)?).cloned()
    }
}
