//! `connections.yml`: where sources and destinations are.
//!
//! Secrets stay references here: they are resolved only where a connection is opened, never rendered into text.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;

use crate::config;
use crate::diagnostic::{Diagnostic, Place, Severity, alone, closest};
use crate::files::Files;
use crate::jinja::YamlJinja;
use crate::yaml::{self, Data, Node, Reader};

/// The file's name.
pub(crate) const FILE: &str = "connections.yml";

pub(crate) const MYSQL_KEYS: &[&str] =
    &["type", "host", "port", "user", "password", "database", "tls", "tls_ca", "server_public_key", "start", "filter"];
pub(crate) const SIMULATOR_KEYS: &[&str] = &[
    "type",
    "database",
    "profile",
    "seed",
    "users",
    "orders_per_day",
    "events_per_user",
    "new_user_share",
    "speed",
    "history_orders",
];
const TYPES: &[&str] = &["mysql", "mariadb", "postgres", "kafka", "http", "file", "simulator", "redis"];

/// Keys whose value may be a secret and is therefore not rendered.
const SECRET_KEYS: &[&str] =
    &["password", "token", "secret", "api_key", "client_secret", "private_key", "access_token", "secret_key"];

/// A password, or where it is to be had.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Written into the file, with a warning.
    Literal(String),
    /// The value of an environment variable.
    Env(String),
    /// The text of a file, without its last newline.
    File(String),
    /// What a command prints.
    Command(String),
}

impl Secret {
    /// As a connector's settings carry it: a text, or a mapping of one reference.
    fn json(self) -> Json {
        match self {
            Self::Literal(text) => Json::from(text),
            Self::Env(name) => config::object([("env", Json::from(name))]),
            Self::File(path) => config::object([("file", Json::from(path))]),
            Self::Command(command) => config::object([("command", Json::from(command))]),
        }
    }
}

impl fmt::Debug for Secret {
    /// Never shows a literal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal(…)"),
            Self::Env(name) => write!(f, "Env({name})"),
            Self::File(path) => write!(f, "File({path})"),
            Self::Command(command) => write!(f, "Command({command})"),
        }
    }
}

/// Whether and how strictly the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Never.
    Disabled,
    /// If the server can.
    #[default]
    Preferred,
    /// Or not at all; the server's certificate is not checked.
    Required,
    /// Or not at all; the certificate has to be valid for the host.
    Verify,
}

/// Where reading a source begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// All rows there are, then every change.
    #[default]
    Snapshot,
    /// Changes from now on.
    Now,
    /// Changes since a time, `YYYY-MM-DD hh:mm:ss`.
    Since(String),
    /// Changes from a position of the binlog.
    Binlog {
        /// Name of the binlog file.
        file: String,
        /// Offset in it, bytes.
        position: u64,
    },
    /// Changes after a set of GTIDs.
    Gtid(String),
}

/// How large the simulated shop is where its own settings do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShopProfile {
    /// 100,000 daily users, 3,000 orders a day.
    #[default]
    Standard,
    /// 1,000,000 daily users, 50,000 orders a day.
    Large,
}

/// Settings of the simulated shop; what is none is as the profile says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SimulatedShop {
    /// The size of the shop.
    pub profile: ShopProfile,
    /// Seed of its randomness; without one it is 0.
    pub seed: u64,
    /// People who visit it on a day.
    pub users: Option<u32>,
    /// Orders on an average day.
    pub orders_per_day: Option<u32>,
    /// Page events of a visitor on an average day, from 3 to 30.
    pub events_per_user: Option<u32>,
    /// Of a day's visitors, those who come for the first time, from 0 to 1; without one 0.005.
    pub new_user_share: Option<f64>,
    /// How much faster its time runs than life; without one 1000, and 0 for a shop that is closed.
    pub speed: Option<f64>,
    /// Orders there are at the beginning; without one 100,000.
    pub history_orders: Option<u32>,
}

/// What is at the other end.
#[derive(Debug, Clone, PartialEq)]
pub enum ConnectionKind {
    /// MySQL or MariaDB.
    Mysql {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Who logs in.
        user: String,
        /// Their password.
        password: Option<Secret>,
        /// Database that source tables are in unless the source says otherwise.
        database: Option<String>,
        /// Encryption.
        tls: Tls,
        /// Path of the certificates (PEM) of those who vouch for the server's; none: the web's.
        tls_ca: Option<String>,
        /// Path of the server's public key (PEM), by which it is given the password without TLS.
        server_public_key: Option<String>,
        /// Where to begin.
        start: Start,
    },
    /// The built-in shop.
    Simulator {
        /// Name under which its tables appear.
        database: Option<String>,
        /// How it is set up.
        shop: SimulatedShop,
    },
    /// Anything else: checked by the connector of that name.
    Other {
        /// The `type:`.
        kind: String,
        /// All other keys; secrets are still references.
        settings: BTreeMap<String, Json>,
    },
}

/// Names of tables, or of columns of tables, with `*` for any characters and `?` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As it is written.
    pub text: String,
    /// The server's database; none where it is the connection's.
    pub database: Option<String>,
    /// The table in the server.
    pub table: String,
    /// Of one for columns.
    pub column: String,
    /// Where it is written.
    pub place: Place,
}

/// What of a source is not read, though it is declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Tables that are read alone, if there are any.
    pub include: Vec<Pattern>,
    /// Tables that are not read.
    pub exclude: Vec<Pattern>,
    /// Columns that are not read.
    pub columns: Vec<Pattern>,
}

/// One entry of `connections.yml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// Its name: a dbt source of that name reads from it.
    pub name: String,
    /// What is at the other end.
    pub kind: ConnectionKind,
    /// What is not read of it.
    pub filter: Filter,
    /// Where it is declared.
    pub place: Place,
}

impl Connection {
    /// The database of tables whose source names none.
    pub fn database(&self) -> Option<&str> {
        match &self.kind {
            ConnectionKind::Mysql { database, .. } | ConnectionKind::Simulator { database, .. } => database.as_deref(),
            ConnectionKind::Other { settings, .. } => settings.get("database").and_then(Json::as_str),
        }
    }
}

/// Reads the file, if there is one: its entries, and those with a mistake.
pub(crate) fn read(
    files: &Files,
    jinja: &YamlJinja,
    found: &mut Vec<Diagnostic>,
) -> (Vec<Connection>, BTreeMap<String, Place>) {
    let nothing = (Vec::new(), BTreeMap::new());
    let Some(text) = files.get(FILE) else { return nothing };
    let mut node = match yaml::parse(FILE, text) {
        Ok(node) => node,
        Err(error) => {
            found.push(error);
            return nothing;
        }
    };
    if node.is_null() || !(Reader { file: FILE, found: &mut *found }).expect_map(&node, FILE) {
        return nothing;
    }
    let Data::Map(pairs) = &mut node.data else { return nothing };
    let (mut connections, mut broken) = (Vec::new(), BTreeMap::new());
    for (key, value) in pairs {
        let before = found.len();
        jinja.render(value, FILE, SECRET_KEYS, found);
        let mut reader = Reader { file: FILE, found: &mut *found };
        let kind = connection(&mut reader, value);
        let filter = match &kind {
            Some(ConnectionKind::Mysql { .. }) => {
                value.get("filter").map(|node| filter(&mut reader, node)).unwrap_or_default()
            }
            _ => Filter::default(),
        };
        let place = key.place(FILE);
        let is_broken = alone(&mut found[before..]);
        match kind {
            Some(kind) if !is_broken => {
                connections.push(Connection { name: key.text.clone(), kind, filter, place });
            }
            _ => _ = broken.insert(key.text.clone(), place),
        }
    }
    (connections, broken)
}

fn connection(reader: &mut Reader<'_>, node: &Node) -> Option<ConnectionKind> {
    if !reader.expect_map(node, "a connection") {
        return None;
    }
    let kind = reader.name(node, "type", "the connection")?;
    match kind.as_str() {
        "mysql" | "mariadb" => mysql(reader, node),
        "simulator" => Some(simulator(reader, node)),
        known if TYPES.contains(&known) => Some(other(reader, node, kind)),
        unknown => match closest(unknown, TYPES.iter().copied()) {
            Some(meant) => {
                let place = node.get("type").unwrap_or(node);
                let error = reader.error(place, format!("unknown connection type `{unknown}`"));
                error.hint = Some(format!("Did you mean `{meant}`?"));
                None
            }
            None => Some(other(reader, node, kind)),
        },
    }
}

fn mysql(reader: &mut Reader<'_>, node: &Node) -> Option<ConnectionKind> {
    reader.check_keys(node, "a connection of type `mysql`", MYSQL_KEYS, Severity::Error);
    let host = reader.name(node, "host", "the connection");
    let user = reader.name(node, "user", "the connection");
    let port = reader.number(node, "port", "a port number").unwrap_or(3306);
    let password = node.get("password").and_then(|value| secret(reader, value, "password"));
    let database = reader.text(node, "database");
    let tls = tls(reader, node);
    let (tls_ca, server_public_key) = (reader.text(node, "tls_ca"), reader.text(node, "server_public_key"));
    if let (Some(_), Some(value), true) = (&tls_ca, node.get("tls_ca"), tls != Tls::Verify) {
        let place = value.place(reader.file);
        let warning = Diagnostic::warning(place, "`tls_ca` has no effect: the server's certificate is not checked");
        reader.found.push(warning.hint("Set `tls: verify`."));
    }
    let start = node.get("start").and_then(|value| start(reader, value)).unwrap_or_default();
    let (host, user) = (host?, user?);
    Some(ConnectionKind::Mysql { host, port, user, password, database, tls, tls_ca, server_public_key, start })
}

/// `{tables: {include: […], exclude: […]}, columns: {exclude: […]}}`.
fn filter(reader: &mut Reader<'_>, node: &Node) -> Filter {
    let mut found = Filter::default();
    if node.is_null() || !reader.expect_map(node, "`filter`") {
        return found;
    }
    reader.check_keys(node, "`filter`", &["tables", "columns"], Severity::Error);
    if let Some(tables) = node.get("tables").filter(|node| !node.is_null() && reader.expect_map(node, "`tables`")) {
        reader.check_keys(tables, "`tables` of a filter", &["include", "exclude"], Severity::Error);
        found.include = patterns(reader, tables, "include", Names::Tables);
        found.exclude = patterns(reader, tables, "exclude", Names::Tables);
    }
    if let Some(columns) = node.get("columns").filter(|node| !node.is_null() && reader.expect_map(node, "`columns`")) {
        reader.check_keys(columns, "`columns` of a filter", &["exclude"], Severity::Error);
        found.columns = patterns(reader, columns, "exclude", Names::Columns);
    }
    found
}

/// What patterns name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// `table` or `database.table`.
    Tables,
    /// `table.column` or `database.table.column`.
    Columns,
}

fn patterns(reader: &mut Reader<'_>, map: &Node, key: &str, names: Names) -> Vec<Pattern> {
    let items = reader.items(map, key);
    items.iter().filter_map(|item| pattern(reader, item, names)).collect()
}

fn pattern(reader: &mut Reader<'_>, item: &Node, names: Names) -> Option<Pattern> {
    let (what, forms, needed) = match names {
        Names::Tables => ("tables", "`table` or `database.table`", 1),
        Names::Columns => ("columns", "`table.column` or `database.table.column`", 2),
    };
    let text = item.text().unwrap_or_default().to_owned();
    let mut parts: Vec<String> = text.split('.').map(|part| part.trim().to_owned()).collect();
    let database = (parts.len() == needed + 1).then(|| parts.remove(0));
    if parts.len() != needed || parts.iter().chain(&database).any(String::is_empty) {
        let error = reader.error(item, format!("a filter of {what} cannot be read"));
        error.hint = Some(format!("Write {forms}, with the names of the server; `*` stands for any characters."));
        return None;
    }
    let column = if names == Names::Columns { parts.pop().unwrap_or_default() } else { String::new() };
    let table = parts.pop().unwrap_or_default();
    Some(Pattern { text, database, table, column, place: item.place(reader.file) })
}

fn simulator(reader: &mut Reader<'_>, node: &Node) -> ConnectionKind {
    reader.check_keys(node, "a connection of type `simulator`", SIMULATOR_KEYS, Severity::Error);
    const PROFILES: [(&str, ShopProfile); 2] = [("standard", ShopProfile::Standard), ("large", ShopProfile::Large)];
    let profile = reader.text(node, "profile").and_then(|word| {
        let known = PROFILES.into_iter().find(|(name, _)| *name == word).map(|(_, profile)| profile);
        if let (None, Some(value)) = (known, node.get("profile")) {
            let error = reader.error(value, format!("unknown `profile` of the simulated shop `{word}`"));
            error.hint = Some("One of: standard, large.".to_owned());
        }
        known
    });
    let shop = SimulatedShop {
        profile: profile.unwrap_or_default(),
        seed: reader.number(node, "seed", "a number from 0").unwrap_or(0),
        users: reader.number(node, "users", "a number from 0"),
        orders_per_day: reader.number(node, "orders_per_day", "a number from 0"),
        events_per_user: events_per_user(reader, node),
        new_user_share: decimal(reader, node, "new_user_share", "a number from 0 to 1", 1.0),
        speed: decimal(reader, node, "speed", "a number from 0 to 1000000", 1e6),
        history_orders: reader.number(node, "history_orders", "a number from 0"),
    };
    ConnectionKind::Simulator { database: reader.text(node, "database"), shop }
}

fn events_per_user(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    const RANGE: &str = "a number from 3 to 30";
    let events = reader.number(node, "events_per_user", RANGE)?;
    if let (false, Some(found)) = ((3..=30).contains(&events), node.get("events_per_user")) {
        reader.error(found, format!("`events_per_user` should be {RANGE}, not `{events}`"));
    }
    Some(events)
}

/// A number from 0 to some largest one, with a fraction.
fn decimal(reader: &mut Reader<'_>, node: &Node, key: &str, range: &str, max: f64) -> Option<f64> {
    let text = reader.text(node, key)?;
    let value = text.trim().parse::<f64>().ok().filter(|value| (0.0..=max).contains(value));
    if let (None, Some(found)) = (value, node.get(key)) {
        reader.error(found, format!("`{key}` should be {range}, not `{text}`"));
    }
    value
}

fn other(reader: &mut Reader<'_>, node: &Node, kind: String) -> ConnectionKind {
    let pairs = node.pairs().iter().filter(|(key, _)| key.text != "type");
    let settings = pairs.map(|(key, value)| (key.text.clone(), setting(reader, &key.text, value))).collect();
    ConnectionKind::Other { kind, settings }
}

/// A setting of a connector, with the secrets in it as references, also where they are in a mapping (`sasl: {password: …}`).
fn setting(reader: &mut Reader<'_>, key: &str, value: &Node) -> Json {
    if SECRET_KEYS.contains(&key) {
        return secret(reader, value, key).map_or(Json::Null, |secret| secret.json());
    }
    match &value.data {
        Data::Map(pairs) => {
            pairs.iter().map(|(key, value)| (key.text.clone(), setting(reader, &key.text, value))).collect()
        }
        _ => value.json(),
    }
}

fn tls(reader: &mut Reader<'_>, node: &Node) -> Tls {
    const MODES: [(&str, Tls); 4] = [
        ("disabled", Tls::Disabled),
        ("preferred", Tls::Preferred),
        ("required", Tls::Required),
        ("verify", Tls::Verify),
    ];
    let Some(word) = reader.text(node, "tls") else { return Tls::default() };
    if let Some((_, mode)) = MODES.into_iter().find(|(name, _)| *name == word) {
        return mode;
    }
    if let Some(value) = node.get("tls") {
        let error = reader.error(value, format!("unknown `tls` mode `{word}`"));
        error.hint = Some("One of: disabled, preferred, required, verify.".to_owned());
    }
    Tls::default()
}

fn start(reader: &mut Reader<'_>, node: &Node) -> Option<Start> {
    match node.text() {
        Some("snapshot") => return Some(Start::Snapshot),
        Some("now") => return Some(Start::Now),
        _ => {}
    }
    let found = match node.pairs() {
        [(key, value)] => match (key.text.as_str(), &value.data) {
            ("since", Data::Text(time)) => Some(Start::Since(time.clone())),
            ("gtid", Data::Text(set)) => Some(Start::Gtid(set.clone())),
            ("binlog", Data::List(items)) => match items.as_slice() {
                [file, at] => file
                    .text()
                    .zip(at.text().and_then(|at| at.parse().ok()))
                    .map(|(file, position)| Start::Binlog { file: file.to_owned(), position }),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    if found.is_none() {
        let error = reader.error(node, "`start` is not understood");
        let forms = "snapshot, now, {since: '2026-01-01 00:00:00'}, {binlog: [binlog.000003, 154]}, {gtid: '…'}";
        error.hint = Some(format!("One of: {forms}."));
    }
    found
}

/// A secret: a reference, or a literal with a warning.
pub(crate) fn secret(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Secret> {
    if let Some(text) = node.text() {
        return literal(reader, node, text, what);
    }
    if let [(key, value)] = node.pairs()
        && let Some(text) = value.text().map(str::to_owned)
    {
        match key.text.as_str() {
            "env" => return Some(Secret::Env(text)),
            "file" => return Some(Secret::File(text)),
            "command" => return Some(Secret::Command(text)),
            _ => {}
        }
    }
    let error = reader.error(node, format!("`{what}` is not understood"));
    error.hint = Some("One of: {env: VARIABLE}, {file: PATH}, {command: 'COMMAND'}.".to_owned());
    None
}

fn literal(reader: &mut Reader<'_>, node: &Node, text: &str, what: &str) -> Option<Secret> {
    if text.contains("{{") {
        // dbt's own idiom is the reference in other words.
        if let Some(name) = env_var_alone(text) {
            return Some(Secret::Env(name.to_owned()));
        }
        let error = reader.error(node, format!("`{what}` is not rendered: secrets are references"));
        error.hint = Some("Use {env: VARIABLE}, {file: PATH} or {command: 'COMMAND'}.".to_owned());
        return None;
    }
    if text.is_empty() {
        // It says that there is none.
        return Some(Secret::Literal(String::new()));
    }
    let warning = Diagnostic::warning(node.place(reader.file), format!("a `{what}` is written into the file"));
    reader.found.push(warning.hint("Keep it outside: {env: VARIABLE}, {file: PATH} or {command: 'COMMAND'}."));
    Some(Secret::Literal(text.to_owned()))
}

/// The variable of a text that is nothing but `{{ env_var('NAME') }}`.
fn env_var_alone(text: &str) -> Option<&str> {
    let call = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let argument = call.strip_prefix("env_var")?.trim().strip_prefix('(')?.strip_suffix(')')?.trim();
    let quote = argument.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let name = argument.strip_prefix(quote)?.strip_suffix(quote)?;
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
}
