//! The whole, as a user has it: the binary, a project folder, a real server.
//!
//! ```text
//! shop                  writes a project over the simulated shop, whose clock stands still: 12 brands of 5 countries, and more
//! file PATH             writes the body into the project folder
//! large PATH            the same, with `$(count|part|between)` written out as in `hostile`
//! run ARGS              runs the binary, with the body as the last argument: its exit code, stdout and stderr
//! full ARGS             the same with a stdout to which nothing can be written, as to a file on a full disk
//! feed ARGS             the same with the body on its stdin
//! login USER PASSWORD   one statement over the Postgres wire as this user: its rows, or the error
//! connect NAME USER PASSWORD / on NAME   opens a session that stays, and what it answers
//! key NAME ROLE         makes a key of this role
//! ask KEY PATH          what HTTP answers to it, a body being POSTed: see `guard`
//! canary USER PASSWORD KEY WORD…   where words are found that must be nowhere: answers, pages, commands, files but the tables, log
//! clear WORD            files of the data folder that have this word in them, and lines of the instance's log
//! server KIND           the case needs this server (mysql, mariadb, mysql_nobinlog …); it runs with SLOW=1 alone
//! mysql                 runs SQL in the server, in a database of the case's own
//! hold / release        a session of the server that stays when its SQL was run, with its locks; ends it
//! remove PATH           takes a file out of the project folder
//! move PATH PATH        gives one another name
//! up ARGS / stop / kill starts an instance, ends it cleanly, or with SIGKILL
//! said                  waits until the instance has said these lines on stderr, in this order, since the last `said`
//! begin ARGS / end      runs the binary beside what follows, and waits for it: answered as by `run`; several in the order they were begun
//! interrupt             what Ctrl-C does to it, and waits for it likewise;  slay: what SIGKILL does, which is not answered
//! reader NAME           asks again and again, over one connection, from now on
//! answers NAME          ends that: all answers that differed from the one before, in their order, errors among them
//! proxy up / down / silent   opens or cuts the way to the server, or has it pass nothing on and say nothing
//! disk full / disk room      whether the instance, or what was begun first, may write to any file;  disk BYTES: as far as these
//! wait                  asks the instance until the answer is the expected one (or two minutes have passed)
//! sql                   asks the instance once
//! order FORM            what the port for orders answers: see `orders`
//! bytes PATH            writes the body, in hex, into the project folder
//! taken                 holds a port from now on: `$TAKEN` in bodies
//! impostor KIND         somebody else listens where the note of an instance says: `silent`, or greeting like `ssh`
//! surfaces LEVEL        what every surface says of a trouble of the source, table, model or sync: see `surfaces`
//! mode PATH             the permissions of a file
//! lines PATH            what stands in one;  lines PATH there: whether it is there; waits for the expected answer
//! tally PATH            what a capture has written there: see `tally`
//! spoil HOW FOLDER      of the largest file below a folder: `cut` in its middle, a byte there `flip`ped, or `remove`d
//! hostile MS            a statement that means harm, over HTTP, with this timeout: see `hostile`
//! raw                   bytes of HTTP as they stand, and the connection left open
//! crowd IDLE BUSY       opens so many connections, has them all answered, and closes them: see `crowd`
//! peak MIB              whether the instance has ever had more memory
//! there NAME KIND / at NAME / delivered NAME / way NAME STATE   where syncs deliver to: see `there`
//! ```
//!
//! In bodies `$DATABASE`, `$HOST`, `$PORT`, `$USER` stand for the server's.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that may panic, with deadlines of its own")]

mod crowd;
mod damage;
mod guard;
mod hostile;
mod orders;
mod proxy;
mod reader;
mod surfaces;
mod tally;
mod there;

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use proxy::Proxy;
use reader::Reader;
use testkit::{Block, Driver};
use there::There;

fn main() {
    testkit::run(env!("CARGO_MANIFEST_DIR"), "tests/cases", |path: &Path| Case::new(path))
}

/// How long a case waits for an answer before it is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

/// The files of `shop`, without models.
const SHOP: [(&str, &str); 4] = [
    ("dbt_project.yml", "name: shop\nprofile: shop\nmodels:\n  shop:\n    +materialized: table"),
    (
        "profiles.yml",
        "shop:\n  target: dev\n  outputs:\n    dev: {type: tidemill, memory: 256MiB, pg: '127.0.0.1:0', http: '127.0.0.1:0'}",
    ),
    ("connections.yml", "shop: {type: simulator, speed: 0, users: 1000, history_orders: 3000}"),
    ("models/sources.yml", "sources:\n  - name: shop\n    tables: [{name: brands}, {name: products}, {name: users}]"),
];

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
    /// What was begun and not ended.
    beside: VecDeque<Child>,
    /// A session of the server that stays.
    held: Option<Child>,
    readers: BTreeMap<String, Reader>,
    /// Keys by name.
    keys: BTreeMap<String, String>,
    sessions: BTreeMap<String, guard::Session>,
    /// Where syncs deliver to, by name.
    theres: BTreeMap<String, There>,
    /// A port that is somebody's.
    taken: Option<TcpListener>,
    /// Bytes of the instance's stderr behind the last line that was waited for.
    heard: usize,
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
        self.readers.values().try_for_each(Reader::catch_up)?;
        let body = self.filled(&block.body);
        match block.directive.as_str() {
            "shop" => SHOP.iter().try_for_each(|(path, text)| self.write(path, text)).map(|()| String::new()),
            "file" => self.write(&block.arguments[0], &body).map(|()| String::new()),
            "large" => {
                let body = hostile::written_out(&body)?;
                self.write(&block.arguments[0], &body).map(|()| String::new())
            }
            "run" => self.run(&block.arguments, &body),
            "full" => self.full(&block.arguments),
            "feed" => self.feed(&block.arguments, &body),
            "login" => self.login(&block.arguments[0], &block.arguments[1], &body),
            "connect" => {
                let [name, user, password] = block.arguments.as_slice() else {
                    return Err("NAME USER PASSWORD".into());
                };
                self.sessions.insert(name.clone(), guard::Session::open(&self.pg()?, user, password)?);
                Ok(String::new())
            }
            "on" => Ok(self.sessions.get(&block.arguments[0]).ok_or("there is no such session")?.answer(&body)),
            "key" => self.make_key(&block.arguments[0], &block.arguments[1]).map(|()| String::new()),
            "ask" => guard::ask(&self.http()?, self.key(&block.arguments[0])?, &block.arguments[1], &body),
            "canary" => self.canary(&block.arguments),
            "clear" => self.clear(&block.arguments[0]),
            "mysql" => self.mysql(&body, true).map(|()| String::new()),
            "hold" => self.hold(&body).map(|()| String::new()),
            "release" => self.release().map(|()| String::new()),
            "remove" => std::fs::remove_file(self.path(&block.arguments[0])).map(|()| String::new()).map_err(text_of),
            "move" => std::fs::rename(self.path(&block.arguments[0]), self.path(&block.arguments[1]))
                .map(|()| String::new())
                .map_err(text_of),
            "up" => self.up(&block.arguments).map(|()| String::new()),
            "said" => self.said(&body).map(|()| String::new()),
            "begin" => self.begin(&block.arguments, &body).map(|()| String::new()),
            "end" => self.end(),
            "interrupt" => {
                let child = self.beside.front().ok_or("nothing runs beside")?;
                Command::new("kill").args(["-INT", &child.id().to_string()]).status().map_err(text_of)?;
                self.end()
            }
            "slay" => {
                let mut child = self.beside.pop_front().ok_or("nothing runs beside")?;
                child.kill().and_then(|()| child.wait()).map(|_| String::new()).map_err(text_of)
            }
            "reader" => {
                self.readers.insert(block.arguments[0].clone(), Reader::start(body, self.pg().ok()));
                Ok(String::new())
            }
            "answers" => {
                let reader = self.readers.remove(&block.arguments[0]).ok_or("there is no such reader")?;
                reader.answers()
            }
            "spoil" => {
                let [how, place] = block.arguments.as_slice() else { return Err("spoil HOW FOLDER".to_owned()) };
                // The rows are in the tables' files or in the log's, as it came: those of tables are to have them.
                if place.contains("/tables") {
                    damage::fold(self.folder.path())?;
                }
                damage::spoil(&self.path(place), how).map(|()| String::new())
            }
            "damage" => damage::damage(self.folder.path(), &block.arguments).map(|()| String::new()),
            "hostile" => hostile::statement(&self.http()?, &body, block.arguments.first()),
            "raw" => hostile::raw(&self.http()?, &body),
            "crowd" => crowd::crowd(&self.pg()?, &block.arguments[0], &block.arguments[1]),
            "there" => {
                let [name, kind] = block.arguments.as_slice() else { return Err("NAME KIND".into()) };
                let case = self.name.replace('-', "_");
                self.theres.insert(name.clone(), There::new(kind, &case, name, self.folder.path())?);
                Ok(String::new())
            }
            "at" => Ok(self.masked(&self.there(&block.arguments[0])?.ask(&body)?)),
            "delivered" => {
                let there = self.there(&block.arguments[0])?;
                // What is not made yet is an answer like others.
                let ask = || Ok(self.masked(&there.ask(&body).unwrap_or_else(|said| said)));
                self.until(block.answer.as_deref().unwrap_or_default(), ask)
            }
            "way" => {
                self.there(&block.arguments[0])?.way(&block.arguments[1]);
                Ok(String::new())
            }
            "peak" => hostile::peak(self.instance.as_ref().ok_or("nothing runs")?.id(), &block.arguments[0]),
            "order" => orders::order(&self.note()?, &block.arguments, &body).map(|answer| self.masked(&answer)),
            "surfaces" => {
                let run = |arguments: &[&str]| -> Result<(String, String), String> {
                    let output = self.binary().args(arguments).output().map_err(text_of)?;
                    let text = |bytes: &[u8]| self.masked(&String::from_utf8_lossy(bytes));
                    Ok((text(&output.stdout), text(&output.stderr)))
                };
                // A source may be begun anew behind what was waited for, and each surface is asked at its own moment.
                let http = self.http()?;
                let ask = || surfaces::surfaces(&http, &block.arguments[0], &run).map(|said| self.masked(&said));
                self.until(block.answer.as_deref().unwrap_or_default(), ask)
            }
            "bytes" => {
                let digits: Vec<char> = body.chars().filter(char::is_ascii_hexdigit).collect();
                let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).map_err(text_of);
                let bytes = digits.chunks(2).map(byte).collect::<Result<Vec<_>, _>>()?;
                std::fs::write(self.path(&block.arguments[0]), bytes).map(|()| String::new()).map_err(text_of)
            }
            "taken" => {
                self.taken = Some(TcpListener::bind("127.0.0.1:0").map_err(text_of)?);
                Ok(String::new())
            }
            "mode" => self.mode(&block.arguments[0]),
            "lines" if block.arguments.get(1).is_some_and(|word| word == "there") => {
                let path = self.path(&block.arguments[0]);
                self.until(block.answer.as_deref().unwrap_or_default(), || Ok(path.exists().to_string()))
            }
            "lines" => self.until(block.answer.as_deref().unwrap_or_default(), || {
                // Who writes it may not have begun yet.
                let text = std::fs::read_to_string(self.path(&block.arguments[0])).unwrap_or_default();
                Ok(self.masked(text.trim_end()))
            }),
            "tally" => {
                let path = self.path(&block.arguments[0]);
                self.until(block.answer.as_deref().unwrap_or_default(), || tally::tally(&path, &block.arguments[1..]))
            }
            "impostor" => orders::impostor(&self.path(".tidemill/instance.json"), &block.arguments[0]),
            "stop" => self.stop("-TERM").map(|()| String::new()),
            "kill" => self.stop("-KILL").map(|()| String::new()),
            "disk" => self.disk(&block.arguments[0]).map(|()| String::new()),
            "proxy" => self.proxy(&block.arguments[0]).map(|()| String::new()),
            "sql" => self.sql(&body),
            "wait" => self.wait(&body, block.answer.as_deref().unwrap_or_default()),
            other => Err(format!("unknown directive {other}")),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        self.readers.clear();
        self.sessions.clear();
        self.end_all();
        for there in std::mem::take(&mut self.theres).into_values() {
            there.forget()?;
        }
        if let (Some(server), false) = (&self.server, self.skipped) {
            let drop = format!("drop database if exists `{}`", server.database);
            self.mysql(&drop, false)?;
        }
        Ok(())
    }
}

impl Drop for Case {
    /// A case that broke off leaves nothing running.
    fn drop(&mut self) {
        self.end_all();
    }
}

impl Case {
    fn end_all(&mut self) {
        for mut child in self.beside.drain(..).chain(self.held.take()).chain(self.instance.take()) {
            child.kill().ok();
            child.wait().ok();
        }
    }

    fn new(path: &Path) -> Self {
        let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            name,
            server: None,
            skipped: false,
            instance: None,
            proxy: None,
            beside: VecDeque::new(),
            held: None,
            readers: BTreeMap::new(),
            keys: BTreeMap::new(),
            sessions: BTreeMap::new(),
            theres: BTreeMap::new(),
            taken: None,
            heard: 0,
        }
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

    fn taken_port(&self) -> Option<String> {
        Some(self.taken.as_ref()?.local_addr().ok()?.port().to_string())
    }

    fn there(&self, name: &str) -> Result<&There, String> {
        self.theres.get(name).ok_or_else(|| format!("nothing is called {name} there"))
    }

    fn filled(&self, text: &str) -> String {
        let words = self.theres.iter().flat_map(|(name, there)| there.words(name));
        let text = words.fold(text.to_owned(), |text, (word, value)| text.replace(&word, &value));
        let text = &text;
        let text = &self.taken_port().map_or_else(|| text.to_owned(), |port| text.replace("$TAKEN", &port));
        let Some(server) = &self.server else { return text.to_owned() };
        let port = self.proxy.as_ref().map_or(server.port, |p| p.port);
        text.replace("$DATABASE", &server.database)
            .replace("$HOST", &server.host)
            .replace("$PORT", &port.to_string())
            .replace("$USER", &server.user)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Written beside and moved into place, as editors do: whoever watches sees no half of it.
    fn write(&self, path: &str, text: &str) -> Result<(), String> {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).map_err(|e| e.to_string())?;
        let half = self.path(".half");
        std::fs::write(&half, format!("{text}\n")).map_err(text_of)?;
        std::fs::rename(half, path).map_err(text_of)
    }

    fn binary(&self) -> Command {
        let built = |_| env!("CARGO_BIN_EXE_tidemill").to_owned();
        let mut command = Command::new(std::env::var("TIDEMILL").unwrap_or_else(built));
        // Without a project the demo that runs is asked, and that would be anybody's.
        let folder = self.folder.path();
        command.current_dir(folder).env("TIDEMILL_LOG", "warn").env("DBT_PROFILES_DIR", folder).env("TMPDIR", folder);
        command
    }

    /// The binary as most systems start it: with few open files, unless it asks for more. A limit on the size of files stands for
    /// the full disk: the signal that comes with it is ignored.
    fn limited(&self) -> Command {
        let plain = self.binary();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -Sn 1024 && trap '' XFSZ && exec \"$0\" \"$@\""]).arg(plain.get_program());
        command.current_dir(self.folder.path());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    fn run(&self, arguments: &[String], last: &str) -> Result<String, String> {
        let last = Some(last).filter(|last| !last.is_empty());
        let output = self.binary().args(arguments).args(last).output().map_err(text_of)?;
        Ok(self.shown(&output))
    }

    fn full(&self, arguments: &[String]) -> Result<String, String> {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").map_err(text_of)?;
        Ok(self.shown(&self.binary().args(arguments).stdout(full).output().map_err(text_of)?))
    }

    fn feed(&self, arguments: &[String], input: &str) -> Result<String, String> {
        let mut command = self.binary();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(text_of)?;
        child.stdin.take().ok_or("no stdin")?.write_all(input.as_bytes()).map_err(text_of)?;
        Ok(self.shown(&child.wait_with_output().map_err(text_of)?))
    }

    fn login(&self, user: &str, password: &str, sql: &str) -> Result<String, String> {
        let pg = self.pg()?;
        let (host, port) = pg.rsplit_once(':').ok_or("no address")?;
        let url = format!("host={host} port={port} user={user} dbname=shop");
        let mut psql = Command::new("psql");
        psql.args(["-X", "-A", "-t", "-w", "-d", &url, "-c", sql]).env("PGPASSWORD", password).env("LC_ALL", "C.UTF-8");
        let output = psql.output().map_err(|e| format!("psql: {e}"))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(port, "PORT");
        Ok(self.masked(format!("{}{}", said(&output.stdout), said(&output.stderr)).trim_end()))
    }

    fn make_key(&mut self, name: &str, role: &str) -> Result<(), String> {
        let output = self.binary().args(["keys", "add", name, "--role", role]).output().map_err(text_of)?;
        if !output.status.success() {
            return Err(self.shown(&output));
        }
        let key = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        self.keys.insert(name.to_owned(), key);
        Ok(())
    }

    fn key(&self, name: &str) -> Result<&str, String> {
        self.keys.get(name).map(String::as_str).ok_or_else(|| format!("there is no key {name}"))
    }

    /// Where a word is found by a role, by the commands that tell of the instance, in its files and its log.
    fn canary(&self, arguments: &[String]) -> Result<String, String> {
        let [user, password, key, words @ ..] = arguments else { return Err("USER PASSWORD KEY WORD…".to_owned()) };
        let psql = |sql: &str| self.login(user, password, sql);
        let session = guard::Session::open(&self.pg()?, user, password)?;
        let mut found = guard::leaks(words, &self.http()?, self.key(key)?, &session, &psql)?;
        let mut look = |what: String, text: &str| {
            found
                .extend(words.iter().filter(|word| text.contains(word.as_str())).map(|word| format!("{word}: {what}")));
        };
        let commands: [&[&str]; 13] = [
            &["status"],
            &["status", "--json"],
            &["check"],
            &["doctor"],
            &["plan"],
            &["plan", "--json"],
            &["users", "list", "--json"],
            &["keys", "list", "--json"],
            &["completions", "bash"],
            &["reconcile", "history"],
            &["query", "--json", "select * from tidemill.rejects"],
            &["query", "--json", "select * from tidemill.audit"],
            &[
                "query",
                "--json",
                "select message, detail, hint from tidemill.models union all select message, detail, hint from tidemill.tables",
            ],
        ];
        for command in commands {
            let output = self.binary().args(command).output().map_err(text_of)?;
            let said = [output.stdout, output.stderr].concat();
            look(format!("`tidemill {}`", command.join(" ")), &String::from_utf8_lossy(&said));
        }
        for word in words {
            for file in guard::files(&self.path(".tidemill"), &self.path(".tidemill/store"), word)? {
                look(format!("{}", file.strip_prefix(self.folder.path()).unwrap().display()), word);
            }
        }
        for line in self.log().lines() {
            look(format!("said: {line}"), line);
        }
        Ok(found.join("\n"))
    }

    /// Where a word stands that must stand nowhere.
    fn clear(&self, word: &str) -> Result<String, String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path(".tidemill")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(text_of)? {
                let path = entry.map_err(text_of)?.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        let bytes = std::fs::read(&path).map_err(text_of)?;
                        if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                            found.push(format!("{} has it", path.strip_prefix(self.folder.path()).unwrap().display()));
                        }
                    }
                }
            }
        }
        let log = self.log();
        found.extend(log.lines().filter(|line| line.contains(word)).map(|line| format!("said: {line}")));
        found.sort();
        Ok(found.join("\n"))
    }

    fn shown(&self, output: &Output) -> String {
        let text = |bytes: &[u8]| self.masked(&String::from_utf8_lossy(bytes));
        let mut out = format!("exit {}", output.status.code().unwrap_or(-1));
        for (label, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            for line in text(bytes).lines().filter(|line| !line.trim().is_empty()) {
                out.push_str(&format!("\n{label}: {}", line.trim_end()));
            }
        }
        out
    }

    fn begin(&mut self, arguments: &[String], last: &str) -> Result<(), String> {
        let mut command = self.limited();
        let child = command
            .args(arguments)
            .args(Some(last).filter(|last| !last.is_empty()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        self.beside.push_back(child.map_err(text_of)?);
        Ok(())
    }

    fn end(&mut self) -> Result<String, String> {
        let mut child = self.beside.pop_front().ok_or("nothing runs beside")?;
        let begun = Instant::now();
        while child.try_wait().map_err(text_of)?.is_none() {
            if begun.elapsed() > PATIENCE {
                child.kill().map_err(text_of)?;
                let said = child.wait_with_output().map_err(text_of)?;
                return Err(format!("it does not end: {}", self.shown(&said)));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let output = child.wait_with_output().map_err(text_of)?;
        Ok(self.shown(&output))
    }

    fn mode(&self, path: &str) -> Result<String, String> {
        use std::os::unix::fs::PermissionsExt as _;
        let about = std::fs::metadata(self.path(path)).map_err(text_of)?;
        Ok(format!("{:o}", about.permissions().mode() & 0o777))
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
        if let Some(port) = self.taken_port() {
            text = text.replace(&port, "$TAKEN");
        }
        for port in self.theres.values().flat_map(There::ports) {
            text = text.replace(&port.to_string(), "$PORT");
        }
        // Lines of the log begin with the time.
        let untimed = |line: &str| match line.split_once("Z ") {
            Some((time, rest)) if time.len() == 26 && time.starts_with("20") => rest.trim_start().to_owned(),
            _ => line.to_owned(),
        };
        text = text.lines().map(untimed).collect::<Vec<_>>().join("\n");
        for phrase in [
            "clocks agree within ",
            "the server's id is ",
            "MySQL ",
            "MariaDB ",
            "log files are kept for ",
            "replicas — ",
            "applied after ",
            "what listens at 127.0.0.1:",
            "process ",
            "`kill ",
            "wire at 127.0.0.1:",
            "page at 127.0.0.1:",
            "was true ",
            "tried again in ",
            "Stop process ",
            "of them compared ",
            " rows  ended ",
            " ago, took ",
            " is read was closed ",
            " at byte ",
            "the record after step ",
            "not finished: begun ",
            "\"ts\":",
            "\"xid\":",
        ] {
            text = without_number(&text, phrase);
        }
        without_places(&text)
    }

    fn client(&self, in_database: bool) -> Result<Command, String> {
        let server = self.server.as_ref().ok_or("the case names no server")?;
        let mut client = Command::new("mariadb");
        client.args(["--skip-ssl", "--default-character-set=utf8mb4", "-h", &server.host, "-u", &server.user]);
        client.args(["-P", &server.port.to_string()]);
        if in_database {
            client.arg(&server.database);
        }
        Ok(client)
    }

    /// Runs SQL in a session that stays.
    fn hold(&mut self, sql: &str) -> Result<(), String> {
        let mut client = self.client(true)?;
        client.args(["--unbuffered", "--skip-column-names"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = client.spawn().map_err(text_of)?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        child
            .stdin
            .as_mut()
            .ok_or("no stdin")?
            .write_all(format!("{sql}\nselect 'held';\n").as_bytes())
            .map_err(text_of)?;
        self.held = Some(child);
        let mut line = String::new();
        while line.trim() != "held" {
            line.clear();
            if answers.read_line(&mut line).map_err(text_of)? == 0 {
                return Err("the session has ended".to_owned());
            }
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), String> {
        let mut child = self.held.take().ok_or("no session stays")?;
        drop(child.stdin.take());
        child.wait().map(drop).map_err(text_of)
    }

    fn mysql(&self, sql: &str, in_database: bool) -> Result<(), String> {
        let mut client = self.client(in_database)?;
        let mut child =
            client.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| format!("mariadb: {e}"))?;
        child.stdin.take().unwrap().write_all(sql.as_bytes()).map_err(|e| e.to_string())?;
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn up(&mut self, arguments: &[String]) -> Result<(), String> {
        let log = std::fs::File::create(self.path("up.log")).map_err(text_of)?;
        self.heard = 0;
        let mut command = self.limited();
        let mut child = command.arg("up").args(arguments).stdout(Stdio::null()).stderr(log).spawn().map_err(text_of)?;
        let begun = Instant::now();
        let pid = child.id();
        while self.note().is_ok_and(|note| note["pid"] != pid) || self.note().is_err() {
            if let Some(status) = child.try_wait().map_err(text_of)? {
                return Err(format!("up ended with {status}: {}", self.log()));
            }
            if begun.elapsed() > PATIENCE {
                self.instance = Some(child);
                return Err(format!("up did not start: {}", self.log()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.instance = Some(child);
        let pg = self.pg()?;
        self.readers.values().for_each(|reader| reader.go_on(pg.clone()));
        Ok(())
    }

    /// What the instance noted of itself.
    fn note(&self) -> Result<serde_json::Value, String> {
        let text = std::fs::read_to_string(self.path(".tidemill/instance.json")).map_err(text_of)?;
        serde_json::from_str(&text).map_err(text_of)
    }

    fn pg(&self) -> Result<String, String> {
        self.note()?["pg"].as_str().map(str::to_owned).ok_or_else(|| "it noted no address".to_owned())
    }

    fn http(&self) -> Result<String, String> {
        self.note()?["http"].as_str().map(str::to_owned).ok_or_else(|| "it noted no address".to_owned())
    }

    fn said(&mut self, lines: &str) -> Result<(), String> {
        let begun = Instant::now();
        for line in lines.lines() {
            loop {
                let log = self.masked(&self.log());
                if let Some(at) = log.get(self.heard..).and_then(|log| log.find(line)) {
                    self.heard += at + line.len();
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    return Err(format!("it does not say {line}, but: {}", log.get(self.heard..).unwrap_or_default()));
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default()
    }

    fn stop(&mut self, signal: &str) -> Result<(), String> {
        let mut child = self.instance.take().ok_or("no instance runs")?;
        self.readers.values().for_each(Reader::pause);
        Command::new("kill").args([signal, &child.id().to_string()]).status().map_err(|e| e.to_string())?;
        let begun = Instant::now();
        while child.try_wait().map_err(|e| e.to_string())?.is_none() {
            if begun.elapsed() > PATIENCE {
                self.instance = Some(child);
                return Err(format!("it does not stop: {}", self.log()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    fn sql(&self, sql: &str) -> Result<String, String> {
        let output = self.binary().args(["query", sql]).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            // Not the statement once more, with its mark.
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_quoted = |line: &str| line.starts_with("  ") && line.contains(" | ");
            let lines: Vec<&str> = said.lines().filter(|line| !is_quoted(line)).collect();
            return Ok(self.masked(&lines.join("\n")));
        }
        // Rows without header and footer.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows = text.lines().skip(2).filter(|line| !line.starts_with('('));
        Ok(rows.map(|line| self.masked(line.trim())).collect::<Vec<_>>().join("\n"))
    }

    fn wait(&self, sql: &str, wanted: &str) -> Result<String, String> {
        self.until(wanted, || self.sql(sql))
    }

    /// Asks until the answer is the expected one.
    fn until(&self, wanted: &str, ask: impl Fn() -> Result<String, String>) -> Result<String, String> {
        let begun = Instant::now();
        loop {
            let got = ask()?;
            let update = std::env::var("UPDATE").is_ok_and(|v| v == "1") && begun.elapsed() > Duration::from_secs(8);
            if cells(&got) == cells(wanted) {
                return Ok(wanted.to_owned());
            }
            if update || begun.elapsed() > PATIENCE {
                return Ok(got);
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    fn disk(&self, state: &str) -> Result<(), String> {
        let who = self.instance.as_ref().or(self.beside.front());
        let pid = who.ok_or("nothing runs")?.id().to_string();
        let limit = match state {
            "full" => "--fsize=1:".to_owned(),
            "room" => "--fsize=unlimited:".to_owned(),
            bytes => format!("--fsize={bytes}:"),
        };
        let set =
            Command::new("prlimit").args(["--pid", &pid, &limit]).status().map_err(|e| format!("prlimit: {e}"))?;
        if set.success() { Ok(()) } else { Err("prlimit failed".to_owned()) }
    }

    fn proxy(&mut self, state: &str) -> Result<(), String> {
        let server = self.server.as_ref().ok_or("the case names no server")?;
        let target = (server.host.clone(), server.port);
        let proxy = match self.proxy.take() {
            Some(proxy) => proxy,
            None => Proxy::start(target).map_err(|e| e.to_string())?,
        };
        proxy.set(state);
        self.proxy = Some(proxy);
        Ok(())
    }
}

/// The values of an answer, the last of which may be empty, however wide its columns are: that depends on what the columns are called.
fn cells(answer: &str) -> Vec<Vec<&str>> {
    answer.lines().map(|line| line.split(" |").map(str::trim).collect()).collect()
}

fn text_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The text with `$PLACE` for each place in a log, `binlog.000003:154`.
fn without_places(text: &str) -> String {
    const FILE: &str = "binlog.";
    let mut parts = text.split(FILE);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let file = digits(part);
        let behind = part.get(file..).unwrap_or_default();
        let place = behind.strip_prefix(':').map_or(0, digits);
        match file > 0 && place > 0 {
            true => out.extend(["$PLACE", behind.get(1 + place..).unwrap_or_default()]),
            false => out.extend([FILE, part]),
        }
    }
    out
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
