//! What a block of a case does.
//!
//! ```text
//! limits connections=2           before anything else: limits of the service
//! answer                         a statement (first line) and what the reader says to it, see `fake`
//! connect a user=ann             a client `a` logs in; its frames are printed
//! send a                         messages, a line each, see `wire`; frames are printed up to the last ReadyForQuery
//! receive a until=Z              frames of what was sent with `until=none`
//! hang                           waits until a statement that never ends runs;  `dropped` until it is given up
//! cancel a                       a cancel request with the key of `a`;  `forge a` with a wrong one
//! users ann=secret bob=…:reader  from now on these log in, by password and perhaps role; nobody: none
//! tls first                      before anything else: TLS by a certificate of `tests/tls`;  `renew second` puts another in place
//! happened                       what was told of logins since the last time
//! hold a user=ann password=…     a client that stays;  `held a` one statement of it
//! client user=… password=…       statements through tokio-postgres, see `client`
//! psql -A -t                     a script through psql
//! http POST /sql                 lines `> Name: value` are headers, the others the body; of HTML its `main` is printed
//! http GET / headers             all headers that say what a browser may do, not the body
//! dashboard today                lines `filter NAME SQL`, `KIND TITLE: SQL`, and `compare …`, `x …`, `good …` and so on of the tile above
//! events /events/graph           the first message of a stream, which stays open until `leave`
//! health started=no message      what the reader says of itself
//! render                         metrics as Prometheus text
//! bind                           what happens to taken and free ports
//! stop                           shuts down
//! ```

mod client;
mod fake;
mod reply;
mod table;
mod wire;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serve::metrics::{Histogram, Kind, Metric, Value};
use serve::{Dashboard, Door, Filter, Good, Health, Limits, Service, Site, Tile, TileKind, User, Users, Verifier};
use testkit::{Block, Driver};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use fake::Fake;
use reply::{printed_headers, printed_reply};
use wire::Client;

/// Longest that any block waits: a case that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

type Outcome = Result<String, String>;

/// One case file: a service and its clients.
pub(crate) struct Case {
    runtime: Runtime,
    fake: Arc<Fake>,
    limits: Limits,
    servers: Option<Servers>,
    clients: BTreeMap<String, Client>,
    dashboards: Vec<Dashboard>,
    stream: Option<TcpStream>,
    users: Users,
    certificate: Option<tempfile::TempDir>,
    door: Option<Arc<Door>>,
    happened: Arc<Mutex<Vec<String>>>,
    held: BTreeMap<String, tokio_postgres::Client>,
    /// The cookie that was set last, `$COOKIE` in headers.
    cookie: String,
}

struct Servers {
    pg: SocketAddr,
    http: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Case {
    pub(crate) fn new(_: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self {
            runtime,
            fake: Arc::default(),
            limits: Limits::default(),
            servers: None,
            clients: BTreeMap::new(),
            dashboards: Vec::new(),
            stream: None,
            users: Users::new("a secret of the tests".to_owned()),
            certificate: None,
            door: None,
            happened: Arc::default(),
            held: BTreeMap::new(),
            cookie: String::new(),
        }
    }
}

impl Driver for Case {
    fn block(&mut self, block: &Block) -> Outcome {
        let handle = self.runtime.handle().clone();
        handle.block_on(async {
            let done = tokio::time::timeout(PATIENCE, self.run(block)).await;
            done.unwrap_or_else(|_| Err("nothing came for twenty seconds".to_owned()))
        })
    }
}

impl Case {
    async fn run(&mut self, block: &Block) -> Outcome {
        let words: Vec<&str> = block.arguments.iter().map(String::as_str).collect();
        let first = words.first().copied().unwrap_or_default();
        match block.directive.as_str() {
            "limits" => self.limits(&words),
            "answer" => self.fake.script(&block.body).map(|()| String::new()),
            "health" => self.health(&words),
            "login" => self.connect(first, words.get(1..).unwrap_or_default()).await,
            "connect" => {
                let heard = self.connect(first, words.get(1..).unwrap_or_default()).await?;
                Ok(if heard.ends_with("Z I\n") { String::new() } else { heard })
            }
            "send" => {
                let expected = self.client(first)?.write(&block.body).await?;
                match until(&words) {
                    Some("none") => Ok(String::new()),
                    Some(kind) => self.client(first)?.read_until(kind, 1).await,
                    None => self.client(first)?.read_until("Z", expected).await,
                }
            }
            "receive" => self.client(first)?.read_until(until(&words).unwrap_or("Z"), 1).await,
            "hang" => {
                self.fake.hanging.notified().await;
                Ok(String::new())
            }
            "dropped" => {
                self.fake.dropped.notified().await;
                Ok("the statement was given up".to_owned())
            }
            "cancel" => self.cancel(first, 0).await,
            "forge" => self.cancel(first, 1).await,
            "client" => client::run(self.servers().await?.pg, &words, &block.body).await,
            "users" => self.users(&words),
            "tls" | "renew" => self.certify(first),
            "happened" => Ok(std::mem::take(&mut *self.happened.lock().unwrap()).join("\n")),
            "hold" => {
                let client = client::open(self.servers().await?.pg, &words).await?;
                self.held.insert(first.to_owned(), client);
                Ok(String::new())
            }
            "held" => Ok(client::ask(self.held.get(first).ok_or("nobody is held")?, &block.body).await),
            "psql" => self.psql(&words, &block.body).await,
            "http" => self.http(&words, &block.body).await,
            "dashboard" => self.dashboard(first, &block.body),
            "events" => self.events(first).await,
            "leave" => {
                self.stream = None;
                Ok(String::new())
            }
            "render" => render(&block.body),
            "bind" => bind().await,
            "stop" => self.stop().await,
            other => Err(format!("unknown directive {other:?}")),
        }
    }

    fn client(&mut self, name: &str) -> Result<&mut Client, String> {
        self.clients.get_mut(name).ok_or_else(|| format!("no client {name:?}"))
    }

    fn limits(&mut self, words: &[&str]) -> Outcome {
        for word in words {
            let (name, value) = word.split_once('=').ok_or("limits want name=value")?;
            let number: usize = value.parse().map_err(|_| format!("{value:?} is no number"))?;
            let millis = Duration::from_millis(number as u64);
            match name {
                "connections" => self.limits.connections = number,
                "running" => self.limits.running = number,
                "message_bytes" => self.limits.message_bytes = number,
                "statements" => self.limits.statements = number,
                "portals" => self.limits.portals = number,
                "session_bytes" => self.limits.session_bytes = number,
                "sessions_bytes" => self.limits.sessions_bytes = number,
                "waiting" => self.limits.waiting = number,
                "turn_timeout_ms" => self.limits.turn_timeout = millis,
                "usual_timeout_ms" => self.limits.statement_timeout_usual = millis,
                "hold_timeout_ms" => self.limits.hold_timeout = millis,
                "message_timeout_ms" => self.limits.message_timeout = millis,
                "idle_timeout_ms" => self.limits.idle_timeout = millis,
                "http_connections" => self.limits.http_connections = number,
                "statement_timeout_ms" => self.limits.statement_timeout = Some(millis),
                "startup_timeout_ms" => self.limits.startup_timeout = millis,
                "pin_timeout_ms" => self.limits.pin_timeout = millis,
                "shutdown_grace_ms" => self.limits.shutdown_grace = millis,
                other => return Err(format!("unknown limit {other:?}")),
            }
        }
        Ok(String::new())
    }

    fn health(&mut self, words: &[&str]) -> Outcome {
        let mut health = Health { started: true, ready: true, is_well: true, message: String::new() };
        let mut message = Vec::new();
        for word in words {
            match *word {
                "started=no" => health.started = false,
                "ready=no" => health.ready = false,
                word => message.push(word),
            }
        }
        health.message = message.join(" ");
        *self.fake.health.lock().unwrap() = health;
        Ok(String::new())
    }

    /// Starts both servers at the first need.
    async fn servers(&mut self) -> Result<&Servers, String> {
        if self.servers.is_none() {
            let pg = serve::bind("127.0.0.1:0", true).await.map_err(|e| e.to_string())?;
            let http = serve::bind("localhost:0", true).await.map_err(|e| e.to_string())?;
            let tls = self
                .certificate
                .as_ref()
                .map(|folder| serve::Tls::by_files(folder.path().join("now.crt"), folder.path().join("now.key")));
            let happened = Arc::clone(&self.happened);
            let witness = move |event: &serve::Event<'_>| {
                let line = format!("{}: {} by {}", event.what.word(), event.user, event.by);
                happened.lock().unwrap().push(line);
            };
            let door = Door::new(self.users.clone(), tls.transpose().map_err(|e| e.to_string())?);
            let door = Arc::new(door.with_witness(Arc::new(witness)));
            self.door = Some(Arc::clone(&door));
            self.servers = Some(start(pg, http, &self.fake, &self.limits, &self.dashboards, door));
        }
        self.servers.as_ref().ok_or_else(|| "no servers".to_owned())
    }

    fn users(&mut self, words: &[&str]) -> Outcome {
        let mut users = Users::new(self.users.secret().to_owned());
        for word in words {
            let (name, rest) = word.split_once('=').ok_or("NAME=PASSWORD[:ROLE]")?;
            let (password, role) = rest.split_once(':').unwrap_or((rest, "owner"));
            // Who stays as they were keep their verifier.
            let known = self.users.get(name).filter(|user| user.role == role && user.verifier.admits(password));
            let made = || User { verifier: Verifier::of(password), role: role.to_owned() };
            users.insert(name.to_owned(), known.cloned().unwrap_or_else(made));
        }
        self.users = users.clone();
        if let Some(door) = &self.door {
            door.set_users(users);
        }
        Ok(String::new())
    }

    fn certify(&mut self, name: &str) -> Outcome {
        let folder = match self.certificate.take() {
            Some(folder) => folder,
            None => tempfile::tempdir().map_err(|e| e.to_string())?,
        };
        for end in ["crt", "key"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/tls/{name}.{end}"));
            let half = folder.path().join("half");
            std::fs::copy(&from, &half).map_err(|e| format!("{}: {e}", from.display()))?;
            std::fs::rename(half, folder.path().join(format!("now.{end}"))).map_err(|e| e.to_string())?;
        }
        self.certificate = Some(folder);
        Ok(String::new())
    }

    async fn connect(&mut self, name: &str, parameters: &[&str]) -> Outcome {
        let address = self.servers().await?.pg;
        let mut client = Client::open(address).await?;
        let raw = parameters.first() == Some(&"raw");
        let printed = if raw { String::new() } else { client.login(parameters).await? };
        self.clients.insert(name.to_owned(), client);
        Ok(printed)
    }

    async fn cancel(&mut self, name: &str, wrong: i32) -> Outcome {
        let (pid, secret) = self.client(name)?.key;
        let address = self.servers().await?.pg;
        let mut socket = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        let words = [16, 80_877_102, pid, secret.wrapping_add(wrong)];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &i32| word.to_be_bytes()).collect();
        socket.write_all(&bytes).await.map_err(|e| e.to_string())?;
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.map_err(|e| e.to_string())?;
        Ok(format!("{} bytes answered", rest.len()))
    }

    async fn psql(&mut self, words: &[&str], script: &str) -> Outcome {
        let address = self.servers().await?.pg;
        let tls = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls");
        let mut url = format!("host={} port={} dbname=shop", address.ip(), address.port());
        let (login, words): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.contains('='));
        for word in ["user=ann"].iter().chain(&login) {
            let _ = write!(url, " {}", word.replace("$TLS", tls));
        }
        let mut command = tokio::process::Command::new("psql");
        command.args(["-X", "-d", &url]).args(words).env("PGCLIENTENCODING", "UTF8").env("LC_ALL", "C.UTF-8");
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        let mut stdin = child.stdin.take().ok_or("no stdin")?;
        stdin.write_all(script.as_bytes()).await.map_err(|e| e.to_string())?;
        drop(stdin);
        let output = child.wait_with_output().await.map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        Ok(said.replace(&format!("port {}", address.port()), "port PORT"))
    }

    async fn http(&mut self, words: &[&str], body: &str) -> Outcome {
        let (method, path, headers) = match words {
            [method, path] => (method, path, false),
            [method, path, "headers"] => (method, path, true),
            _ => return Err("http METHOD PATH [headers]".to_owned()),
        };
        let address = self.servers().await?.http;
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        let mut content = Vec::new();
        let mut host = true;
        for line in body.lines() {
            match line.strip_prefix("> ") {
                Some(header) => {
                    host &= !header.starts_with("Host:");
                    let _ = write!(request, "{header}\r\n");
                }
                None => content.push(line),
            }
        }
        if host {
            let _ = write!(request, "Host: {address}\r\n");
        }
        let content = content.join("\n");
        let _ = write!(request, "Content-Length: {}\r\n\r\n{content}", content.len());
        let request = request.replace("$COOKIE", &self.cookie);
        let socket = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        let reply = match &self.certificate {
            None => exchange(socket, &request).await,
            Some(folder) => exchange(sealed(socket, &folder.path().join("now.crt")).await?, &request).await,
        };
        let mut reply = reply.map_err(|e| e.to_string())?;
        if let Some(word) = cookie_of(&reply).filter(|word| !word.is_empty()) {
            reply = String::from_utf8_lossy(&reply).replace(&word, "COOKIE").into_bytes();
            self.cookie = word;
        }
        Ok(if headers { printed_headers(&reply) } else { printed_reply(&reply, address) })
    }

    fn dashboard(&mut self, name: &str, body: &str) -> Outcome {
        let mut dashboard =
            Dashboard { name: name.to_owned(), title: format!("Title of {name}"), ..Dashboard::default() };
        for line in body.lines() {
            let (word, rest) = line.split_once(' ').ok_or("a dashboard's line has words")?;
            let above = dashboard.tiles.last_mut();
            match (word, above, TileKind::from_word(word)) {
                ("filter", ..) => {
                    let (name, sql) = rest.split_once(' ').ok_or("filter NAME SQL")?;
                    let filter = Filter { name: name.to_owned(), title: String::new(), sql: Some(sql.to_owned()) };
                    dashboard.filters.push(filter);
                }
                (_, _, Some(kind)) => {
                    let (title, sql) = rest.split_once(": ").ok_or("KIND TITLE: SQL")?;
                    let (title, sql) = (title.to_owned(), sql.to_owned());
                    dashboard.tiles.push(Tile { title, kind, sql, ..Tile::default() });
                }
                ("compare", Some(tile), _) => tile.compare = Some(rest.to_owned()),
                ("compare_title", Some(tile), _) => tile.compare_title = rest.to_owned(),
                ("good", Some(tile), _) => tile.good = Good::from_word(rest).ok_or("good up, down or neither")?,
                ("about", Some(tile), _) => tile.description = rest.to_owned(),
                ("currency", Some(tile), _) => tile.currency = rest.to_owned(),
                ("y2", Some(tile), _) => tile.y2 = rest.split(' ').map(str::to_owned).collect(),
                ("unfinished", Some(tile), _) => tile.unfinished = rest == "yes",
                ("x", Some(tile), _) => tile.x = Some(rest.to_owned()),
                ("y", Some(tile), _) => tile.y = rest.split(' ').map(str::to_owned).collect(),
                _ => return Err(format!("no such line: {line}")),
            }
        }
        self.dashboards.push(dashboard);
        Ok(String::new())
    }

    /// A stream's first message, a line each key. A stream without one answers as soon as it is open.
    async fn events(&mut self, path: &str) -> Outcome {
        let address = self.servers().await?.http;
        let mut socket = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
        let mut reply = Vec::new();
        let message = loop {
            let mut piece = [0; 4096];
            let count = socket.read(&mut piece).await.map_err(|e| e.to_string())?;
            reply.extend_from_slice(piece.get(..count).unwrap_or_default());
            let text = String::from_utf8_lossy(&reply).into_owned();
            let data = text.split_once("\ndata: ").and_then(|(_, rest)| rest.split_once("\n\n"));
            if let Some((data, _)) = data {
                break data.to_owned();
            }
            if count == 0 || self.fake.is_hanging() {
                self.stream = Some(socket);
                return Ok(String::new());
            }
        };
        self.stream = Some(socket);
        let fields: BTreeMap<String, String> = serde_json::from_str(&message).map_err(|e| e.to_string())?;
        let lines = fields.iter().map(|(key, text)| format!("{key} = {text}"));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    async fn stop(&mut self) -> Outcome {
        let servers = self.servers.take().ok_or("nothing runs")?;
        servers.stop.send_replace(true);
        for task in servers.tasks {
            task.await.map_err(|e| e.to_string())?;
        }
        Ok("stopped".to_owned())
    }
}

/// Sends a request and reads to the end. TLS that is cut off without a farewell has ended too: the connection was to close.
async fn exchange(mut socket: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> std::io::Result<Vec<u8>> {
    socket.write_all(request.as_bytes()).await?;
    socket.flush().await?;
    let mut reply = Vec::new();
    match socket.read_to_end(&mut reply).await {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(reply),
    }
}

/// The socket under TLS that trusts this certificate alone.
async fn sealed(socket: TcpStream, cert: &Path) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(cert).map_err(|e| e.to_string())?;
    roots.add(CertificateDer::from_pem_slice(&pem).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(|e| e.to_string())
}

/// The value of a cookie that a reply sets.
fn cookie_of(reply: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(reply).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("set-cookie: "))?;
    line.split_once('=').and_then(|(_, rest)| rest.split_once(';')).map(|(word, _)| word.to_owned())
}

fn until<'a>(words: &[&'a str]) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix("until="))
}

fn start(
    pg: TcpListener,
    http: TcpListener,
    fake: &Arc<Fake>,
    limits: &Limits,
    dashboards: &[Dashboard],
    door: Arc<Door>,
) -> Servers {
    let (stop, stopped) = watch::channel(false);
    let addresses = (pg.local_addr().unwrap(), http.local_addr().unwrap());
    let site = Site {
        version: "0.0.0".to_owned(),
        project: "shop <test>".to_owned(),
        schema: "public".to_owned(),
        pg: "127.0.0.1:5433".to_owned(),
    };
    let service = Service::behind(door, Arc::<Fake>::clone(fake), limits.clone(), site, dashboards.to_vec());
    let wait = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let tasks = vec![
        tokio::spawn(serve::serve_pg(pg, Arc::clone(&service), wait(stopped.clone()))),
        tokio::spawn(serve::serve_http(http, service, wait(stopped))),
    ];
    Servers { pg: addresses.0, http: addresses.1, stop, tasks }
}

/// Lines `counter NAME VALUE label=value …`, `histogram NAME bounds=1,2 counts=3,4,5 sum=6 …`; `help` is the name.
fn render(body: &str) -> Outcome {
    let mut metrics = Vec::new();
    for line in body.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, name, rest @ ..] = words.as_slice() else {
            return Err(format!("no metric: {line}"));
        };
        let kind = match *kind {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "histogram" => Kind::Histogram,
            other => return Err(format!("no kind: {other}")),
        };
        let mut metric = Metric {
            name: (*name).to_owned(),
            help: format!("Help of {name}, with a \\ and\na line."),
            kind,
            labels: Vec::new(),
            value: Value::Number(0.0),
        };
        let mut histogram = Histogram::default();
        for word in rest {
            match word.split_once('=') {
                Some(("bounds", list)) => histogram.bounds = numbers(list),
                Some(("counts", list)) => histogram.counts = list.split(',').map(|n| n.parse().unwrap()).collect(),
                Some(("sum", sum)) => histogram.sum = sum.parse().unwrap(),
                Some((label, value)) => metric.labels.push((label.to_owned(), value.replace("\\n", "\n"))),
                None if word.contains('.') || word.chars().any(char::is_alphabetic) => {
                    metric.value = Value::Number(word.parse().unwrap());
                }
                None => metric.value = Value::Integer(word.parse().unwrap()),
            }
        }
        if kind == Kind::Histogram {
            metric.value = Value::Histogram(histogram);
        }
        metrics.push(metric);
    }
    Ok(serve::metrics::render(&metrics))
}

fn numbers(list: &str) -> Vec<f64> {
    list.split(',').map(|number| number.parse().unwrap()).collect()
}

/// A taken port: refused if named, passed over if not. The numbers are the system's, so words are printed for them.
async fn bind() -> Outcome {
    let holder = serve::bind("127.0.0.1:0", true).await.map_err(|e| e.to_string())?;
    let taken = holder.local_addr().map_err(|e| e.to_string())?;
    let hidden = |text: String| text.replace(&taken.to_string(), "127.0.0.1:TAKEN");
    let mut out = String::new();
    let say = |result: Result<TcpListener, serve::BindError>| match result {
        Ok(listener) => {
            let port = listener.local_addr().unwrap().port();
            if port > taken.port() { "the next free port".to_owned() } else { format!("port {port}") }
        }
        Err(error) => hidden(error.to_string()),
    };
    let _ = writeln!(out, "explicit: {}", say(serve::bind(&taken.to_string(), true).await));
    let _ = writeln!(out, "default: {}", say(serve::bind(&taken.to_string(), false).await));
    let _ = write!(out, "nonsense: {}", say(serve::bind("here", true).await));
    Ok(out)
}
