//! What a role can get at: by keys over HTTP, and by everything that an instance says, keeps or shows.
//!
//! A canary is a word that whoever looks may not see. It is looked for in all that they can ask for, in all that the commands
//! say, and in all files but the tables, whose rows have it by right.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an answer may take. A stream has no end: it is read for [`STREAM`].
const PATIENCE: Duration = Duration::from_secs(60);
const STREAM: Duration = Duration::from_secs(1);
/// Characters of an answer that a case shows.
const SHOWN: usize = 600;

/// Pages and streams, for whoever may see them.
const PAGES: [&str; 27] = [
    "/",
    "/sources",
    "/sources/shop",
    "/syncs",
    "/syncs/whole",
    "/rejects",
    "/dashboards",
    "/console",
    "/system",
    "/metrics",
    "/login",
    "/health/readyz",
    "/health/startupz",
    "/nowhere",
    "/events/graph",
    "/events/sources",
    "/events/sources/shop",
    "/events/syncs",
    "/events/syncs/whole",
    "/events/rejects",
    "/events/system",
    "/console?sql=select+1",
    "/models/public/nothing",
    "/tables/shop/users",
    "/events/tables/shop/users",
    "/dashboards/people",
    "/events/dashboards/people",
];

/// Statements that try to get at more than is granted.
const ATTACKS: [&str; 16] = [
    "select * from pg_catalog.pg_class",
    "select * from pg_catalog.pg_attribute",
    "select * from pg_catalog.pg_namespace",
    "select * from pg_catalog.pg_views",
    "select * from pg_catalog.pg_description",
    "select * from pg_catalog.pg_constraint",
    "select * from pg_catalog.pg_stats",
    "select * from pg_catalog.pg_roles",
    "select * from pg_catalog.pg_stat_activity",
    "select * from pg_catalog.pg_settings",
    "select * from information_schema.columns",
    "select * from information_schema.views",
    "select * from information_schema.table_constraints",
    "select current_schemas(true)",
    "show all",
    "select * from information_schema.schemata",
];

/// Request and answer of whoever has a key; a body makes it a POST.
pub(crate) fn ask(http: &str, key: &str, path: &str, body: &str) -> Result<String, String> {
    let (status, body) = asked(http, key, path, body)?;
    let text = match serde_json::from_str::<serde_json::Value>(&body) {
        // The step is another one each time.
        Ok(mut value) => {
            value.as_object_mut().map(|fields| fields.remove("step"));
            value.to_string()
        }
        Err(_) if body.contains("<html") => main_of(&body),
        Err(_) => body.trim_end().to_owned(),
    };
    Ok(format!("{status} {}", text.chars().take(SHOWN).collect::<String>()).trim_end().to_owned())
}

/// Headings and troubles of a page: what says whether it shows something.
fn main_of(html: &str) -> String {
    let texts = |tag: &str| -> Vec<String> {
        let opening = format!("<{tag}");
        let parts = html.split(&opening).skip(1).filter_map(|part| part.split_once('>'));
        parts.map(|(_, rest)| rest.split("</").next().unwrap_or_default().trim().to_owned()).collect()
    };
    let trouble = html.matches("class=\"trouble\"").count();
    format!("{} | {trouble} troubles", [texts("h1"), texts("h2")].concat().join(", "))
}

/// Asks again while what was ended before, a stream, has not stopped yet.
fn asked(http: &str, key: &str, path: &str, body: &str) -> Result<(String, String), String> {
    let begun = Instant::now();
    loop {
        let answer = asked_once(http, key, path, body)?;
        if !answer.1.contains("too many statements run at once") || begun.elapsed() > PATIENCE {
            return Ok(answer);
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn asked_once(http: &str, key: &str, path: &str, body: &str) -> Result<(String, String), String> {
    let method = if body.is_empty() { "GET" } else { "POST" };
    // A stream would be sent in chunks.
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {http}\r\nAuthorization: Bearer {key}\r\nAccept: */*\r\n");
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let mut socket = TcpStream::connect(http).map_err(|e| e.to_string())?;
    let is_stream = path.starts_with("/events/");
    let patience = if is_stream { STREAM } else { PATIENCE };
    socket.set_read_timeout(Some(patience)).map_err(|e| e.to_string())?;
    socket.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let (mut answer, begun) = (Vec::new(), Instant::now());
    let mut room = [0; 8192];
    loop {
        match socket.read(&mut room) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&room[..read]),
            Err(_) if is_stream => break,
            Err(error) => return Err(format!("{path}: {error}")),
        }
        if is_stream && begun.elapsed() > STREAM {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{path}: no answer: {answer:?}"))?;
    Ok((head.split(' ').nth(1).unwrap_or_default().to_owned(), body.to_owned()))
}

/// Statements and requests whose answers have one of the words.
pub(crate) fn leaks(
    words: &[String],
    http: &str,
    key: &str,
    session: &Session,
    psql: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut look = |what: String, text: &str| {
        found.extend(words.iter().filter(|word| text.contains(word.as_str())).map(|word| format!("{word}: {what}")));
    };
    let mut pages: Vec<String> = PAGES.map(str::to_owned).to_vec();
    pages.extend(words.iter().map(|word| format!("/trace?q={word}")));
    let names = psql("select table_schema || '.' || table_name from information_schema.tables")?;
    let own = |name: &&str| !name.starts_with("pg_catalog.") && !name.starts_with("information_schema.");
    let mut statements: Vec<String> = ATTACKS.map(str::to_owned).to_vec();
    for name in names.lines().filter(own) {
        pages.extend(["models", "tables"].map(|kind| format!("/{kind}/{}", name.replace('.', "/"))));
        statements.push(format!("select * from {name}"));
        statements.push(format!("explain select * from {name}"));
        if !name.starts_with("tidemill.") {
            let copy = format!("copy (select * from {name}) to stdout");
            look(format!("psql: {copy}"), &psql(&copy)?);
        }
    }
    for page in pages {
        let (_, body) = asked(http, key, &page, "")?;
        // What is looked for is echoed to whoever looks.
        let echo =
            page.strip_prefix("/trace?q=").map(|word| body.replace(&format!("“{word}”"), "").replacen(word, "", 1));
        look(format!("page {page}"), &echo.unwrap_or(body));
    }
    for sql in statements {
        look(format!("session: {sql}"), &session.answer(&sql));
        look(format!("POST /sql: {sql}"), &asked(http, key, "/sql", &sql)?.1);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// A client that stays connected.
pub(crate) struct Session {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Session {
    pub(crate) fn open(pg: &str, user: &str, password: &str) -> Result<Self, String> {
        let (host, port) = pg.rsplit_once(':').ok_or("no address")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(port.parse().map_err(|_| "no port")?).user(user).password(password).dbname("shop");
        let client = runtime.block_on(async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(|e| e.to_string())?;
            tokio::spawn(connection);
            Ok::<_, String>(client)
        })?;
        Ok(Self { runtime, client })
    }

    /// What the session answers to some statements.
    pub(crate) fn answer(&self, sql: &str) -> String {
        match self.runtime.block_on(self.client.simple_query(sql)) {
            Ok(messages) => crate::reader::text_of(&messages),
            Err(error) => match error.as_db_error() {
                Some(error) => format!("{} {}", error.code().code(), error.message()),
                None => error.to_string(),
            },
        }
    }
}

/// Files below a folder that have the word, but those below `except`.
pub(crate) fn files(folder: &Path, except: &Path, word: &str) -> Result<Vec<PathBuf>, String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| e.to_string())? {
            let path = entry.map_err(|e| e.to_string())?.path();
            if path == except {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).map_err(|e| e.to_string())?;
            if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                found.push(path);
            }
        }
    }
    Ok(found)
}
