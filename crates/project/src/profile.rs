//! `profiles.yml`: which target the project runs as, where its data lies, where it listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::diagnostic::{Diagnostic, Place, Severity, did_you_mean};
use crate::files::{Files, USER_PROFILES};
use crate::jinja::YamlJinja;
use crate::yaml::{self, Data, Node, Reader};

pub(crate) const KEYS: &[&str] = &[
    "type",
    "schema",
    "data",
    "pg",
    "http",
    "workers",
    "memory",
    "tls",
    "users",
    "threads",
    "database",
    "dbname",
    "backlog",
    "reconcile",
];

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenSpec {
    /// Host and port; port 0 means a free one.
    pub addr: SocketAddr,
    /// Whether the profile names it: an explicit address that is taken is an error, a default one moves on.
    pub explicit: bool,
}

/// How far a source may be behind before it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogSpec {
    /// Age of the oldest commit that is not visible.
    pub seconds: u32,
    /// Bytes of the source's log that are not read.
    pub bytes: u64,
}

impl Default for BacklogSpec {
    fn default() -> Self {
        Self { seconds: 60, bytes: 1 << 30 }
    }
}

/// When source tables are compared with their sources without anybody asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconcileSpec {
    /// Seconds from the end of one comparison to the begin of the next; none: only when somebody asks.
    pub every_s: Option<u32>,
    /// Of a hundred parts of the time a source works for it in so many, at most.
    pub share: u8,
}

impl Default for ReconcileSpec {
    fn default() -> Self {
        Self { every_s: None, share: 10 }
    }
}

/// TLS of the listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSpec {
    /// The profile does not say: none, and nobody beyond this machine may connect.
    Unsaid,
    /// The profile says that there is none: passwords and rows go over the network as they are.
    Off,
    /// By these files in PEM, relative to the project folder unless absolute.
    Files {
        /// The chain, the server's own certificate first.
        cert: String,
        /// Its private key.
        key: String,
    },
}

/// The chosen output of the project's profile, or the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Name of the profile (`profile:` of `dbt_project.yml`).
    pub name: String,
    /// Name of the chosen output.
    pub target: String,
    /// Whether there is such an output; where there is none the defaults hold.
    pub is_found: bool,
    /// dbt's `target.schema`: where models without a schema of their own go.
    pub schema: String,
    /// The data folder, as written: relative to the project folder unless absolute.
    pub data: String,
    /// Postgres wire.
    pub pg: ListenSpec,
    /// Page, API, metrics.
    pub http: ListenSpec,
    /// Worker threads; none means one per core.
    pub workers: Option<usize>,
    /// Bytes of state kept in memory; none means half of the machine.
    pub memory: Option<u64>,
    /// dbt's `threads`: shown to macros, otherwise without effect.
    pub threads: usize,
    /// Name of the database that macros see as `target.database`.
    pub database: String,
    /// What those who connect are sealed by.
    pub tls: TlsSpec,
    /// From where on a source that is behind is said to be.
    pub backlog: BacklogSpec,
    /// When source tables are compared with their sources.
    pub reconcile: ReconcileSpec,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            target: "dev".to_owned(),
            is_found: false,
            schema: "public".to_owned(),
            data: ".tidemill".to_owned(),
            pg: ListenSpec { addr: loopback(5433), explicit: false },
            http: ListenSpec { addr: loopback(8080), explicit: false },
            workers: None,
            memory: None,
            threads: 1,
            database: "tidemill".to_owned(),
            tls: TlsSpec::Unsaid,
            backlog: BacklogSpec::default(),
            reconcile: ReconcileSpec::default(),
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Finds the project's profile among the files; without one the defaults hold.
pub(crate) fn read(
    files: &Files,
    name: Option<&str>,
    target: Option<&str>,
    jinja: &YamlJinja,
    found: &mut Vec<Diagnostic>,
) -> Profile {
    let defaults = Profile { name: name.unwrap_or("default").to_owned(), ..Profile::default() };
    let Some((file, text)) = ["profiles.yml", USER_PROFILES].into_iter().find_map(|f| Some((f, files.get(f)?))) else {
        if let Some(target) = target {
            let message = format!("no profiles.yml has a target `{target}`");
            found.push(Diagnostic::error(Place::file("profiles.yml"), message));
        }
        return defaults;
    };
    let mut node = match yaml::parse(file, text) {
        Ok(node) => node,
        Err(error) => {
            found.push(error);
            return defaults;
        }
    };
    let mut reader = Reader { file, found };
    // A file that many projects share says nothing about one that names no profile.
    let alone = || only_profile(&node).filter(|_| file != USER_PROFILES);
    let Some(name) = name.map(str::to_owned).or_else(alone) else {
        return defaults;
    };
    // Other profiles of the file are other projects' business: only this one is rendered and checked.
    let Data::Map(pairs) = &mut node.data else { return defaults };
    let Some((key, profile)) = pairs.iter_mut().find(|(key, _)| key.text == name) else {
        if file == "profiles.yml" {
            let names = pairs.iter().map(|(key, _)| key.text.as_str());
            let hint = did_you_mean(&name, names);
            let message = format!("profiles.yml has no profile `{name}`, which dbt_project.yml names");
            reader.found.push(Diagnostic::error(Place::new(file, 1, 1), message).maybe_hint(hint));
        }
        return defaults;
    };
    let place = key.place(file);
    jinja.render(profile, file, &["password"], reader.found);
    chosen(&mut reader, profile, place, target, Profile { name, ..defaults })
}

fn only_profile(node: &Node) -> Option<String> {
    let mut names = node.pairs().iter().map(|(key, _)| &key.text).filter(|name| *name != "config");
    names.next().filter(|_| names.next().is_none()).cloned()
}

fn chosen(reader: &mut Reader<'_>, profile: &Node, place: Place, target: Option<&str>, defaults: Profile) -> Profile {
    if !reader.expect_map(profile, "a profile") {
        return defaults;
    }
    reader.check_keys(profile, "a profile", &["target", "outputs", "config"], Severity::Error);
    let target = target.map(str::to_owned).or_else(|| reader.text(profile, "target"));
    let target = target.unwrap_or_else(|| "default".to_owned());
    let outputs = profile.get("outputs").map(Node::pairs).unwrap_or_default();
    let Some((_, output)) = outputs.iter().find(|(key, _)| key.text == target) else {
        let names: Vec<&str> = outputs.iter().map(|(key, _)| key.text.as_str()).collect();
        let listed = (!names.is_empty()).then(|| format!("It has: {}.", names.join(", ")));
        let hint = did_you_mean(&target, names).or(listed);
        let message = format!("profile `{}` has no output `{target}`", defaults.name);
        reader.found.push(Diagnostic::error(place, message).maybe_hint(hint));
        return defaults;
    };
    output_profile(reader, output, Profile { target, is_found: true, ..defaults })
}

fn output_profile(reader: &mut Reader<'_>, output: &Node, defaults: Profile) -> Profile {
    if !reader.expect_map(output, "an output") {
        return defaults;
    }
    let kind = reader.name(output, "type", "the output");
    let schema = reader.text(output, "schema").unwrap_or_else(|| defaults.schema.clone());
    let threads = reader.number(output, "threads", "a number from 1").unwrap_or(1);
    if let Some(kind) = kind.filter(|kind| kind != "tidemill") {
        let warning = Diagnostic::warning(
            output.place(reader.file),
            format!("output `{}` is of type `{kind}`, not `tidemill`", defaults.target),
        );
        let detail = "Its schema is used; for everything else the defaults hold.";
        reader.found.push(warning.detail(detail).hint("Add an output of type `tidemill`."));
        return Profile { schema, threads, ..defaults };
    }
    reader.check_keys(output, "an output of type `tidemill`", KEYS, Severity::Error);
    let database = reader.text(output, "database").or_else(|| reader.text(output, "dbname"));
    let tls = tls(reader, output);
    let profile = Profile {
        schema,
        threads,
        data: reader.text(output, "data").unwrap_or(defaults.data),
        pg: listen(reader, output, "pg", defaults.pg),
        http: listen(reader, output, "http", defaults.http),
        workers: workers(reader, output),
        memory: size(reader, output, "memory"),
        backlog: backlog(reader, output),
        reconcile: reconcile(reader, output),
        database: database.unwrap_or(defaults.database),
        tls,
        name: defaults.name,
        target: defaults.target,
        is_found: defaults.is_found,
    };
    check_exposure(reader, output, &profile);
    profile
}

/// `tls: {cert: FILE, key: FILE}`, or `tls: off`.
fn tls(reader: &mut Reader<'_>, output: &Node) -> TlsSpec {
    let Some(node) = output.get("tls").filter(|node| !node.is_null()) else { return TlsSpec::Unsaid };
    if node.text() == Some("off") {
        return TlsSpec::Off;
    }
    if !matches!(node.data, Data::Map(_)) {
        let error = reader.error(node, "`tls` should be the files of a certificate and its key");
        error.hint = Some("Write `tls: {cert: FILE, key: FILE}`, or `tls: off` for none.".to_owned());
        return TlsSpec::Unsaid;
    }
    reader.check_keys(node, "`tls`", &["cert", "key"], Severity::Error);
    match (reader.name(node, "cert", "`tls`"), reader.name(node, "key", "`tls`")) {
        (Some(cert), Some(key)) => TlsSpec::Files { cert, key },
        _ => TlsSpec::Unsaid,
    }
}

fn listen(reader: &mut Reader<'_>, output: &Node, key: &str, default: ListenSpec) -> ListenSpec {
    let Some(text) = reader.text(output, key) else { return default };
    let Some(addr) = address(&text) else {
        if let Some(node) = output.get(key) {
            let error = reader.error(node, format!("`{key}` should be an address and a port, not `{text}`"));
            error.hint = Some(format!("For instance {}; port 0 means a free one.", default.addr));
        }
        return default;
    };
    ListenSpec { addr, explicit: true }
}

impl ListenSpec {
    /// An address and a port, or a port of this machine alone: `127.0.0.1:5433`, `localhost:5433`, `5433`. Port 0 is a free one.
    pub fn given(text: &str) -> Option<Self> {
        address(text).map(|addr| Self { addr, explicit: true })
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(port) = text.parse() {
        return Some(loopback(port));
    }
    match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(loopback),
        None => text.parse().ok(),
    }
}

fn backlog(reader: &mut Reader<'_>, output: &Node) -> BacklogSpec {
    let defaults = BacklogSpec::default();
    let Some(node) = output.get("backlog").filter(|node| !node.is_null() && reader.expect_map(node, "`backlog`"))
    else {
        return defaults;
    };
    reader.check_keys(node, "`backlog`", &["seconds", "bytes"], Severity::Error);
    BacklogSpec {
        seconds: reader.number(node, "seconds", "a number of seconds").unwrap_or(defaults.seconds),
        bytes: size(reader, node, "bytes").unwrap_or(defaults.bytes),
    }
}

fn reconcile(reader: &mut Reader<'_>, output: &Node) -> ReconcileSpec {
    let defaults = ReconcileSpec::default();
    let Some(node) = output.get("reconcile").filter(|node| !node.is_null() && reader.expect_map(node, "`reconcile`"))
    else {
        return defaults;
    };
    reader.check_keys(node, "`reconcile`", &["every", "share"], Severity::Error);
    let mut read = |key: &str, form: &str, parse: fn(&str) -> Option<u32>| {
        let text = reader.text(node, key)?;
        let value = parse(&text);
        if let (None, Some(node)) = (value, node.get(key)) {
            reader.error(node, format!("`{key}` should be {form}, not `{text}`"));
        }
        value
    };
    let every_s = read("every", "a time such as 1h or 30m", seconds);
    let share = read("share", "a share from 1% to 100%", percent).and_then(|share| u8::try_from(share).ok());
    ReconcileSpec { every_s, share: share.unwrap_or(defaults.share) }
}

/// A time with a unit: `90s`, `30m`, `1h`, `1d`.
fn seconds(text: &str) -> Option<u32> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u32 = text.get(..digits)?.parse().ok()?;
    let unit = match text.get(digits..)?.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(unit).filter(|seconds| *seconds > 0)
}

fn percent(text: &str) -> Option<u32> {
    let number: u32 = text.trim().strip_suffix('%')?.trim_end().parse().ok()?;
    (1..=100).contains(&number).then_some(number)
}

/// Worker threads: none work with none.
fn workers(reader: &mut Reader<'_>, output: &Node) -> Option<usize> {
    let wanted = reader.number::<usize>(output, "workers", "a number from 1")?;
    if let (0, Some(node)) = (wanted, output.get("workers")) {
        reader.error(node, "`workers` should be a number from 1, not `0`");
    }
    Some(wanted).filter(|wanted| *wanted > 0)
}

fn size(reader: &mut Reader<'_>, map: &Node, key: &str) -> Option<u64> {
    let text = reader.text(map, key)?;
    let bytes = bytes(&text);
    if bytes.is_none() {
        let node = map.get(key)?;
        reader.error(node, format!("`{key}` should be a size such as 4GiB, not `{text}`"));
    }
    bytes
}

/// A size with a unit: `4GiB`, `512 MB`, `1073741824`.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let unit: u64 = match text.get(digits..)?.trim().to_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// What a profile can say about who reaches the listeners. Who may log in is not in the project: users are kept with the data.
fn check_exposure(reader: &mut Reader<'_>, output: &Node, profile: &Profile) {
    if let Some(node) = output.get("users") {
        let error = reader.error(node, "users are not in the profile: they are kept in the data folder");
        error.detail = Some("Nothing would ask for these passwords.".to_owned());
        error.hint = Some("`tidemill users add NAME` makes a user; take `users` out of the profile.".to_owned());
    }
    for (key, spec) in [("pg", profile.pg), ("http", profile.http)] {
        if !spec.addr.ip().is_loopback() && profile.tls == TlsSpec::Unsaid {
            let node = output.get(key).unwrap_or(output);
            let error = reader.error(node, format!("`{key}` listens beyond this machine, and nothing is said of TLS"));
            error.detail = Some(format!("{} is not a loopback address.", spec.addr));
            let hint =
                "Add `tls: {cert: FILE, key: FILE}`; or `tls: off`, where passwords and rows may be read on the way.";
            error.hint = Some(hint.to_owned());
        }
    }
}
