//! The kinds of sources that a connection may be of, and a project's connection as the settings of one.
//!
//! Nothing else matches on what a connection is: whoever needs a source opens it ([`open`]) and asks it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use anyhow::bail;
use async_trait::async_trait;
use connect::source::Again;
use connect::{
    Absence, Check, Control, Declared, DeclaredColumn, Failure, FollowedTable, Limits, OwnFacts, Retention, Settings,
    Source, SourceEvent, SourceKind, TableFacts, TablePlace, Unanswered, WholeReader,
};
use project::{Connection, ConnectionKind, Diagnostic, Project, ShopProfile, SimulatedShop, SourceTable, Start, Tls};
use relation::Position;
use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, watch};

use crate::reason::Reason;

/// Kinds that need more than `connect` may know.
static OWN: &[&dyn SourceKind] = &[&crate::demo::SimulatorKind];

/// All kinds.
pub fn kinds() -> impl Iterator<Item = &'static dyn SourceKind> {
    connect::source::KINDS.iter().chain(OWN).copied()
}

/// The kind of a connection. Errors: there is none of its type.
pub fn kind(connection: &Connection) -> anyhow::Result<&'static dyn SourceKind> {
    let wanted = type_of(connection);
    match kinds().find(|kind| kind.is_of(wanted)) {
        Some(kind) => Ok(kind),
        None => {
            let known: Vec<&str> = kinds().flat_map(|kind| kind.types()).copied().collect();
            bail!(
                "connection \"{}\" is of the type `{wanted}`, from which nothing can be read yet\nHint: One of: {}.",
                connection.name,
                known.join(", ")
            )
        }
    }
}

/// The source at a connection, which is not reached for yet. Errors: settings that its kind refuses, a secret that cannot
/// be read.
pub async fn try_open(connection: &Connection) -> Result<Arc<dyn Source>, Failure> {
    let refused = |error: anyhow::Error| {
        let Reason { message, detail, hint } = Reason::of(&error.to_string());
        Failure { message, detail, hint }
    };
    kind(connection).map_err(refused)?.open(&settings(connection)).await
}

/// The source at a connection. One that cannot be opened is a source that stalls, and is opened as soon as it can be: it stops itself alone.
pub async fn open_by_and_by(connection: &Connection) -> Arc<dyn Source> {
    match try_open(connection).await {
        Ok(source) => source,
        Err(failure) => Arc::new(Unopened { connection: connection.clone(), failure, opened: OnceLock::new() }),
    }
}

/// What the project declares of a table, where its source goes by that.
pub(crate) fn declared(connection: &Connection, table: &SourceTable) -> Declared {
    let keys = kind(connection).map(|kind| kind.declared_keys()).unwrap_or_default();
    if keys.is_empty() {
        return Declared::default();
    }
    let meta = table.meta.iter().filter(|(key, _)| keys.contains(&key.as_str()));
    let column = |column: &project::Column| DeclaredColumn {
        name: column.name.clone(),
        data_type: column.data_type.as_deref().and_then(crate::known::declared_type),
        written: column.data_type.clone().unwrap_or_default(),
    };
    Declared {
        meta: meta.map(|(key, value)| (key.clone(), value.to_string())).collect(),
        columns: table.columns.iter().map(column).collect(),
    }
}

/// What is wrong with what is declared of a table, where its source goes by that.
pub(crate) fn faults(project: &Project, table: &SourceTable) -> Vec<Failure> {
    let Some(connection) = project.connection(&table.connection) else { return Vec::new() };
    match kind(connection) {
        Ok(kind) => {
            let place = crate::setup::place(connection, table);
            kind.declared(&settings(connection), &place).err().unwrap_or_default()
        }
        Err(_) => Vec::new(),
    }
}

/// What is wrong with declarations that sources go by.
pub(crate) fn findings(project: &Project) -> Vec<Diagnostic> {
    /// Words of `meta` that mean something of every source.
    const EVERYWHERE: [&str; 4] = ["connection", "columns", "on_change", "on_unsupported"];
    let mut found = Vec::new();
    for table in &project.sources {
        let name = format!("{}.{}", table.source, table.name);
        for Failure { message, detail, hint } in faults(project, table) {
            let error = Diagnostic::error(table.place.clone(), format!("source table {name}: {message}"));
            let said = |text: String| Some(text).filter(|text| !text.is_empty());
            found.push(Diagnostic { detail: said(detail), hint: said(hint), ..error });
        }
        let of_kind = project.connection(&table.connection).and_then(|connection| kind(connection).ok());
        let keys = of_kind.map(|kind| kind.declared_keys()).unwrap_or_default();
        for key in table.meta.keys().filter(|key| !EVERYWHERE.contains(&key.as_str())) {
            if let Some(meant) = project::closest(key, keys.iter().copied()).filter(|meant| meant != key) {
                let message = format!("source table {name}: `{key}` of its `meta` has no effect");
                found.push(Diagnostic::warning(table.place.clone(), message).hint(format!("Did you mean `{meant}`?")));
            }
        }
    }
    found
}

/// Whether a source that cannot be opened may be while it is asked again: its settings are those of the start, and so is the environment;
/// what a file has, or a command prints, may be otherwise by then.
fn may_be_mended(connection: &Connection) -> bool {
    // Also in a mapping of settings, as a login is.
    fn changes(value: &Json) -> bool {
        let is_one = value.get("file").or_else(|| value.get("command")).is_some();
        is_one || value.as_object().is_some_and(|parts| parts.values().any(changes))
    }
    settings(connection).values.values().any(changes)
}

/// A source whose settings or secrets cannot be read yet.
struct Unopened {
    connection: Connection,
    /// Why.
    failure: Failure,
    /// It, once they can.
    opened: OnceLock<Arc<dyn Source>>,
}

/// Its settings may have a secret in them.
impl fmt::Debug for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unopened").field("connection", &self.connection.name).finish_non_exhaustive()
    }
}

impl Unopened {
    fn there(&self) -> Result<&Arc<dyn Source>, Failure> {
        self.opened.get().ok_or_else(|| self.failure.clone())
    }
}

#[async_trait]
impl Source for Unopened {
    fn word(&self) -> &'static str {
        let of_type = kind(&self.connection).ok().and_then(|kind| kind.types().first());
        of_type.copied().unwrap_or("unknown")
    }

    async fn tables(&self, database: &str) -> Result<Vec<String>, Failure> {
        self.there()?.tables(database).await
    }

    fn loads(&self) -> bool {
        self.opened.get().is_none_or(|source| source.loads())
    }

    fn reads_by(&self, facts: &OwnFacts) -> Option<String> {
        self.opened.get()?.reads_by(facts)
    }

    /// Tries to open it; whoever starts it has asked for its tables before.
    async fn describe(&self, wanted: &[TablePlace]) -> Result<Vec<Result<TableFacts, Absence>>, Unanswered> {
        if self.opened.get().is_none() {
            let again = if may_be_mended(&self.connection) { Again::Seldom } else { Again::AfterRestart };
            let opened = try_open(&self.connection).await.map_err(|failure| Unanswered { failure, again })?;
            self.opened.get_or_init(|| opened);
        }
        self.there()?.describe(wanted).await
    }

    fn start(
        &self,
        tables: Vec<FollowedTable>,
        resume: Option<Position>,
        limits: Limits,
    ) -> (mpsc::Receiver<SourceEvent>, Control) {
        let failure = match self.there() {
            Ok(source) => return source.start(tables, resume, limits),
            Err(failure) => failure,
        };
        let (events, receiver) = mpsc::channel(1);
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            events.send(SourceEvent::Failed(failure)).await.ok();
            stopped.wait_for(|stop| *stop).await.map(|_| ()).ok();
        });
        (receiver, Control::new(stop, task))
    }

    async fn current_position(&self) -> Result<Option<Position>, Failure> {
        self.there()?.current_position().await
    }

    fn reached(&self, current: &Position, target: &Position) -> Result<bool, Failure> {
        self.there()?.reached(current, target)
    }

    async fn bytes_behind(&self, position: &Position) -> Result<Option<u64>, Failure> {
        self.there()?.bytes_behind(position).await
    }

    async fn retention(&self, position: &Position) -> Result<Option<Retention>, Failure> {
        self.there()?.retention(position).await
    }

    async fn leads_on(&self, position: &Position) -> Result<(), Failure> {
        self.there()?.leads_on(position).await
    }

    async fn open_whole(&self) -> Result<Box<dyn WholeReader>, Failure> {
        self.there()?.open_whole().await
    }

    async fn doctor(&self, wanted: &[TablePlace]) -> Vec<Check> {
        match self.there() {
            Ok(source) => source.doctor(wanted).await,
            Err(Failure { message, detail, hint }) => vec![Check::failed("connection", message, detail, hint)],
        }
    }
}

/// The `type:` of a connection.
pub fn type_of(connection: &Connection) -> &str {
    match &connection.kind {
        ConnectionKind::Mysql { .. } => "mysql",
        ConnectionKind::Simulator { .. } => "simulator",
        ConnectionKind::Other { kind, .. } => kind,
    }
}

/// What the project understood of a connection, in the words in which it was written.
pub(crate) fn settings(connection: &Connection) -> Settings {
    let values = match &connection.kind {
        ConnectionKind::Mysql { host, port, user, password, database, tls, tls_ca, server_public_key, start } => {
            object([
                ("host", json!(host)),
                ("port", json!(port)),
                ("user", json!(user)),
                ("password", password.as_ref().map_or(Json::Null, secret)),
                ("database", json!(database)),
                ("tls", json!(tls_word(*tls))),
                ("tls_ca", json!(tls_ca)),
                ("server_public_key", json!(server_public_key)),
                ("start", start_of(start)),
            ])
        }
        ConnectionKind::Simulator { shop, .. } => shop_of(shop),
        ConnectionKind::Other { settings, .. } => settings.clone(),
    };
    Settings { connection: connection.name.clone(), kind: type_of(connection).to_owned(), values }
}

fn object<const N: usize>(pairs: [(&str, Json); N]) -> BTreeMap<String, Json> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn secret(secret: &project::Secret) -> Json {
    match secret {
        project::Secret::Literal(text) => json!(text),
        project::Secret::Env(name) => json!({ "env": name }),
        project::Secret::File(path) => json!({ "file": path }),
        project::Secret::Command(command) => json!({ "command": command }),
    }
}

fn tls_word(tls: Tls) -> &'static str {
    match tls {
        Tls::Disabled => "disabled",
        Tls::Preferred => "preferred",
        Tls::Required => "required",
        Tls::Verify => "verify",
    }
}

fn start_of(start: &Start) -> Json {
    match start {
        Start::Snapshot => json!("snapshot"),
        Start::Now => json!("now"),
        Start::Since(time) => json!({ "since": time }),
        Start::Binlog { file, position } => json!({ "binlog": [file, position] }),
        Start::Gtid(set) => json!({ "gtid": set }),
    }
}

fn shop_of(shop: &SimulatedShop) -> BTreeMap<String, Json> {
    let profile = match shop.profile {
        ShopProfile::Standard => "standard",
        ShopProfile::Large => "large",
    };
    object([
        ("profile", json!(profile)),
        ("seed", json!(shop.seed)),
        ("users", json!(shop.users)),
        ("orders_per_day", json!(shop.orders_per_day)),
        ("events_per_user", json!(shop.events_per_user)),
        ("new_user_share", json!(shop.new_user_share)),
        ("speed", json!(shop.speed)),
        ("history_orders", json!(shop.history_orders)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that has an answer of its own to whatever it may leave to the trait.
    #[derive(Debug)]
    struct Telling;

    fn told(what: &str) -> Failure {
        Failure { message: what.to_owned(), detail: String::new(), hint: String::new() }
    }

    #[async_trait]
    impl Source for Telling {
        fn word(&self) -> &'static str {
            "telling"
        }

        async fn tables(&self, database: &str) -> Result<Vec<String>, Failure> {
            Ok(vec![database.to_owned()])
        }

        fn loads(&self) -> bool {
            false
        }

        async fn describe(&self, _wanted: &[TablePlace]) -> Result<Vec<Result<TableFacts, Absence>>, Unanswered> {
            Ok(Vec::new())
        }

        fn reads_by(&self, _facts: &OwnFacts) -> Option<String> {
            Some("a word".to_owned())
        }

        fn start(
            &self,
            _tables: Vec<FollowedTable>,
            _resume: Option<Position>,
            _limits: Limits,
        ) -> (mpsc::Receiver<SourceEvent>, Control) {
            unreachable!("nobody starts it")
        }

        async fn current_position(&self) -> Result<Option<Position>, Failure> {
            Ok(None)
        }

        fn reached(&self, _current: &Position, _target: &Position) -> Result<bool, Failure> {
            Ok(true)
        }

        async fn bytes_behind(&self, _position: &Position) -> Result<Option<u64>, Failure> {
            Ok(Some(7))
        }

        async fn retention(&self, _position: &Position) -> Result<Option<Retention>, Failure> {
            Err(told("retention"))
        }

        async fn leads_on(&self, _position: &Position) -> Result<(), Failure> {
            Err(told("leads on"))
        }

        async fn open_whole(&self) -> Result<Box<dyn WholeReader>, Failure> {
            Err(told("whole"))
        }

        async fn doctor(&self, _wanted: &[TablePlace]) -> Vec<Check> {
            vec![Check::ok("telling", "fine")]
        }
    }

    /// Once it could be opened, it is the source in all that it is asked.
    #[tokio::test]
    async fn a_source_that_was_opened_late_is_that_source() {
        let kind = ConnectionKind::Other { kind: "telling".to_owned(), settings: BTreeMap::new() };
        let place = project::Place { file: "connections.yml".to_owned(), line: 1, column: 1 };
        let connection = Connection { name: "shop".to_owned(), kind, filter: project::Filter::default(), place };
        let late = Unopened { connection, failure: told("not yet"), opened: OnceLock::new() };
        assert_eq!(late.reads_by(&OwnFacts::new(())), None);
        assert_eq!(late.leads_on(&Position::default()).await.unwrap_err().message, "not yet");
        late.opened.set(Arc::new(Telling)).unwrap();
        let at = Position::default();
        assert_eq!(late.reads_by(&OwnFacts::new(())).as_deref(), Some("a word"));
        assert_eq!(late.tables("shop").await.unwrap(), ["shop"]);
        assert_eq!(late.leads_on(&at).await.unwrap_err().message, "leads on");
        assert_eq!(late.retention(&at).await.unwrap_err().message, "retention");
        assert_eq!(late.open_whole().await.err().unwrap().message, "whole");
        assert_eq!((late.loads(), late.bytes_behind(&at).await.unwrap()), (false, Some(7)));
        assert_eq!(late.doctor(&[]).await[0].name, "telling");
    }

    /// A process keeps the environment that it was started with; a file may come.
    #[test]
    fn only_what_may_change_beside_a_process_is_worth_asking_again() {
        let of = |password: project::Secret| Connection {
            name: "shop".to_owned(),
            kind: ConnectionKind::Other {
                kind: "mysql".to_owned(),
                settings: [("password".to_owned(), secret(&password))].into(),
            },
            filter: project::Filter::default(),
            place: project::Place::file("connections.yml"),
        };
        assert!(!may_be_mended(&of(project::Secret::Env("NO_SUCH".to_owned()))));
        assert!(!may_be_mended(&of(project::Secret::Literal("word".to_owned()))));
        assert!(may_be_mended(&of(project::Secret::File("/run/secret".into()))));
        assert!(may_be_mended(&of(project::Secret::Command("pass shop".to_owned()))));
    }
}
