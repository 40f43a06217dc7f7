//! The whole, as a user has it: the binary, a project folder, a real server.
//!
//! ```text
//! file PATH             writes the body into the project folder
//! run ARGS              runs the binary: its exit code, stdout and stderr
//! server KIND           the case needs this server (mysql, mariadb, mysql_nobinlog …); it runs with SLOW=1 alone
//! mysql                 runs SQL in the server, in a database of the case's own
//! up / stop / kill      starts an instance, ends it cleanly, or with SIGKILL
//! proxy up / proxy down opens or cuts the way to the server
//! wait                  asks the instance until the answer is the expected one (or a minute has passed)
//! sql                   asks the instance once
//! ```
//!
//! In bodies `$DATABASE`, `$HOST`, `$PORT`, `$USER` stand for the server's.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that may panic, with deadlines of its own")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::{Block, Driver};

fn main() {
    testkit::run(env!("CARGO_MANIFEST_DIR"), "tests/cases", |path: &Path| Case::new(path))
}

/// How long a case waits for an answer before it is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    host: String,
    port: u16,
    user: String,
    database: String,
}

struct Case {
    folder: tempfile::TempDir,
    name: String,
    server: Option<Server>,
    skipped: bool,
    instance: Option<Child>,
    proxy: Option<Proxy>,
}

impl Driver for Case {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        if block.directive == "server" {
            self.find_server(&block.arguments[0])?;
            return Ok(String::new());
        }
        if self.skipped {
            return Ok(block.answer.clone().unwrap_or_default());
        }
        let body = self.filled(&block.body);
        match block.directive.as_str() {
            "file" => self.write(&block.arguments[0], &body).map(|()| String::new()),
            "run" => self.run(&block.arguments),
            "mysql" => self.mysql(&body, true).map(|()| String::new()),
            "up" => self.up().map(|()| String::new()),
            "stop" => self.stop("-TERM").map(|()| String::new()),
            "kill" => self.stop("-KILL").map(|()| String::new()),
            "proxy" => self.proxy(&block.arguments[0]).map(|()| String::new()),
            "sql" => self.sql(&body),
            "wait" => self.wait(&body, block.answer.as_deref().unwrap_or_default()),
            other => Err(format!("unknown directive {other}")),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        if let Some(mut child) = self.instance.take() {
            child.kill().map_err(|e| e.to_string())?;
            child.wait().map_err(|e| e.to_string())?;
        }
        if let (Some(server), false) = (&self.server, self.skipped) {
            let drop = format!("drop database if exists `{}`", server.database);
            self.mysql(&drop, false)?;
        }
        Ok(())
    }
}

impl Case {
    fn new(path: &Path) -> Self {
        let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        let folder = tempfile::tempdir().unwrap();
        Self { folder, name, server: None, skipped: false, instance: None, proxy: None }
    }

    fn find_server(&mut self, kind: &str) -> Result<(), String> {
        let variable = |what: &str| std::env::var(format!("TIDEMILL_TEST_{}_{what}", kind.to_uppercase()));
        if std::env::var("SLOW").as_deref() != Ok("1") {
            self.skipped = true;
            return Ok(());
        }
        let port =
            variable("PORT").map_err(|_| format!("SLOW=1, but no server {kind}: start it with scripts/services"))?;
        let server = Server {
            host: variable("HOST").unwrap_or_else(|_| "127.0.0.1".into()),
            port: port.parse().map_err(|_| format!("no port: {port}"))?,
            user: variable("USER").unwrap_or_else(|_| "root".into()),
            database: format!("tidemill_app_{}_{}", kind.replace('-', "_"), self.name.replace('-', "_")),
        };
        let create = format!("drop database if exists `{0}`; create database `{0}`", server.database);
        self.server = Some(server);
        self.mysql(&create, false)
    }

    fn filled(&self, text: &str) -> String {
        let Some(server) = &self.server else { return text.to_owned() };
        let port = self.proxy.as_ref().map_or(server.port, |p| p.port);
        text.replace("$DATABASE", &server.database)
            .replace("$HOST", &server.host)
            .replace("$PORT", &port.to_string())
            .replace("$USER", &server.user)
    }

    fn write(&self, path: &str, text: &str) -> Result<(), String> {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).map_err(|e| e.to_string())?;
        std::fs::write(path, format!("{text}\n")).map_err(|e| e.to_string())
    }

    fn binary(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.current_dir(self.folder.path()).args(["--log", "warn"]).env("DBT_PROFILES_DIR", self.folder.path());
        command
    }

    fn run(&self, arguments: &[String]) -> Result<String, String> {
        let output = self.binary().args(arguments).output().map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| self.masked(&String::from_utf8_lossy(bytes));
        let mut out = format!("exit {}", output.status.code().unwrap_or(-1));
        for (label, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            for line in text(bytes).lines().filter(|line| !line.trim().is_empty()) {
                out.push_str(&format!("\n{label}: {}", line.trim_end()));
            }
        }
        Ok(out)
    }

    /// Without what differs from run to run: folders and ports.
    fn masked(&self, text: &str) -> String {
        let mut text = text.replace(&*self.folder.path().to_string_lossy(), "$FOLDER");
        if let Some(server) = &self.server {
            text = text.replace(&server.database, "$DATABASE").replace(&server.port.to_string(), "$PORT");
            if let Some(proxy) = &self.proxy {
                text = text.replace(&proxy.port.to_string(), "$PORT");
            }
        }
        for phrase in ["clocks agree within ", "the server's id is ", "MySQL ", "MariaDB ", "log files are kept for "] {
            text = without_number(&text, phrase);
        }
        text
    }

    fn mysql(&self, sql: &str, in_database: bool) -> Result<(), String> {
        let server = self.server.as_ref().ok_or("the case names no server")?;
        let mut client = Command::new("mariadb");
        client.args(["--skip-ssl", "--default-character-set=utf8mb4", "-h", &server.host, "-u", &server.user]);
        client.args(["-P", &server.port.to_string()]);
        if in_database {
            client.arg(&server.database);
        }
        let mut child =
            client.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| format!("mariadb: {e}"))?;
        child.stdin.take().unwrap().write_all(sql.as_bytes()).map_err(|e| e.to_string())?;
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn up(&mut self) -> Result<(), String> {
        let log = std::fs::File::create(self.folder.path().join("up.log")).map_err(|e| e.to_string())?;
        let mut child = self.binary().arg("up").stdout(Stdio::null()).stderr(log).spawn().map_err(|e| e.to_string())?;
        let note: PathBuf = self.folder.path().join(".tidemill/instance.json");
        let begun = Instant::now();
        let pid = child.id().to_string();
        while !std::fs::read_to_string(&note).is_ok_and(|text| text.contains(&pid)) {
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                return Err(format!("up ended with {status}: {}", self.log()));
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("up did not start: {}", self.log()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.instance = Some(child);
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default()
    }

    fn stop(&mut self, signal: &str) -> Result<(), String> {
        let mut child = self.instance.take().ok_or("no instance runs")?;
        Command::new("kill").args([signal, &child.id().to_string()]).status().map_err(|e| e.to_string())?;
        let begun = Instant::now();
        while child.try_wait().map_err(|e| e.to_string())?.is_none() {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(format!("it does not stop: {}", self.log()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    fn sql(&self, sql: &str) -> Result<String, String> {
        let output = self.binary().args(["query", sql]).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Ok(self.masked(&String::from_utf8_lossy(&output.stderr)));
        }
        // Rows without header and footer.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows = text.lines().skip(2).filter(|line| !line.starts_with('('));
        Ok(rows.map(|line| self.masked(line.trim())).collect::<Vec<_>>().join("\n"))
    }

    fn wait(&self, sql: &str, wanted: &str) -> Result<String, String> {
        let begun = Instant::now();
        loop {
            let got = self.sql(sql)?;
            let update = std::env::var("UPDATE").is_ok_and(|v| v == "1") && begun.elapsed() > Duration::from_secs(8);
            if got == wanted || update || begun.elapsed() > PATIENCE {
                return Ok(got);
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    fn proxy(&mut self, state: &str) -> Result<(), String> {
        let server = self.server.as_ref().ok_or("the case names no server")?;
        let target = (server.host.clone(), server.port);
        let proxy = match self.proxy.take() {
            Some(proxy) => proxy,
            None => Proxy::start(target).map_err(|e| e.to_string())?,
        };
        proxy.set(state == "up");
        self.proxy = Some(proxy);
        Ok(())
    }
}

/// The text with `N` for the number or version after each occurrence of a phrase.
fn without_number(text: &str, phrase: &str) -> String {
    let mut parts = text.split(phrase);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(phrase);
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        out.push_str(if rest.len() < part.len() { "N" } else { "" });
        out.push_str(rest);
    }
    out
}

/// A way to the server that can be cut.
struct Proxy {
    port: u16,
    gate: Arc<Mutex<Gate>>,
}

#[derive(Default)]
struct Gate {
    open: bool,
    streams: Vec<TcpStream>,
}

impl Proxy {
    fn start(target: (String, u16)) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let gate: Arc<Mutex<Gate>> = Arc::default();
        let theirs = Arc::clone(&gate);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut gate = theirs.lock().unwrap();
                let Ok(server) = TcpStream::connect((target.0.as_str(), target.1)) else { continue };
                if !gate.open {
                    continue;
                }
                for (from, to) in [(&client, &server), (&server, &client)] {
                    gate.streams.push(from.try_clone().unwrap());
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || copy(from, to));
                }
            }
        });
        Ok(Self { port, gate })
    }

    fn set(&self, open: bool) {
        let mut gate = self.gate.lock().unwrap();
        gate.open = open;
        if !open {
            for stream in gate.streams.drain(..) {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}
