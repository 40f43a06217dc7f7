//! Orders to a running instance: lines of JSON, over a loopback port that the data folder names.
//!
//! Who can read the data folder may give orders: the port and a word that must be said are noted in it, in a file that only
//! its owner reads. Orders change what is served; questions go over the Postgres wire.
//!
//! An order is one line. The answer is a line at once, that it is taken or why not, and one more when it is carried out, however long
//! that takes. Whoever connects has [`ORDER_WAIT`] to say a line of [`ORDER_BYTES_MAX`]; more than [`ORDERS_MAX`] are
//! refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use plan::TableName;
use relation::Schema;
use serde::{Deserialize, Serialize};
use serve::{Door, Service};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::audit::Audit;
use crate::clock::{Clock as _, WallClock};
use crate::dashboards;
use crate::definition::{Definition, ModelText};
use crate::delivery::{self, Wanted as WantedSyncs};
use crate::follow::{Commanded, Roster, Wanted};
use crate::grants::Grants;
use crate::hold::Standing;
use crate::instance::Addresses;
use crate::pump::{Applied, Described, Message, Request, SOURCE_TABLE, Undone};
use crate::reason::Reason;
use crate::reconcile::keeper::Keeper;
use crate::reconcile::source::{Compared, PORTION_ROWS, Pace};
use crate::setup::{Global, Setup};
use crate::status::Status;
use crate::warehouse::{AbsentTable, Proposal, SourceTable, newly_refused};

/// Bytes of an order at most.
const ORDER_BYTES_MAX: u64 = 64 << 10;
/// How long whoever connects may take to give an order, and who gives one waits to hear that it is taken.
const ORDER_WAIT: Duration = Duration::from_secs(5);
/// Orders that are heard and carried out at once.
const ORDERS_MAX: usize = 32;
/// How long the desk waits where nobody can be let in: out of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What can be ordered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Builds what the project on disk says beside what serves, and puts it in place.
    Apply,
    /// Goes back to what served before.
    Rollback,
    /// What serves.
    Describe,
    /// Loads tables again: these, or all of one source or of all.
    Resnapshot {
        tables: Vec<String>,
        source: Option<String>,
    },
    /// Loads the rows of a table again for which a condition of its source's SQL holds.
    ResnapshotRows {
        table: String,
        condition: String,
    },
    /// Reads nothing more of a source, or delivers nothing more of a sync, until told to.
    Pause(String),
    Resume(String),
    /// Something that is wanted of a sync.
    Sync {
        name: String,
        order: SyncOrder,
    },
    /// Reads the users of the data folder anew; `what` happened to the one of this name.
    Users {
        what: String,
        name: String,
    },
    /// Compares the tables of one source, or of all, with what the source has.
    ReconcileSource {
        source: Option<String>,
        pace: ReconcilePace,
        /// Whether what was compared before an interruption is compared again.
        restart: bool,
    },
}

/// What can be ordered of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncOrder {
    Pause,
    Resume,
    /// Sends all rows again: the other side has lost what it had.
    Refill,
    /// Sends the rows again that the other side has refused.
    Retry,
}

/// How fast a source is read to be compared.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct ReconcilePace {
    pub rows_per_second: Option<u64>,
    /// Parts of a hundred of the time.
    pub share: Option<u8>,
    /// Rows that are compared at one place of the log.
    pub portion_rows: Option<u64>,
}

impl ReconcilePace {
    /// The same, and who is told how far it is.
    pub fn telling<'a>(&self, progress: &'a (dyn Fn(String) + Send + Sync)) -> Pace<'a> {
        Pace {
            reading: connect::WholePace { rows_per_second: self.rows_per_second, share: self.share },
            portion_rows: self.portion_rows.unwrap_or(PORTION_ROWS),
            progress,
        }
    }
}

/// An order, with the word from the data folder.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    word: String,
    order: Order,
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was heard, and is being carried out.
    Taken,
    Applied(Applied),
    /// What served before serves again.
    RolledBack,
    /// What a rollback has given up serves again.
    RolledForward,
    /// What was coming is given up.
    GivenUp,
    Serving(Serving),
    Compared(Vec<Compared>),
    /// It is done, or begun: in lines for people.
    Done(Vec<String>),
    /// It is not done yet: how far it is. Other replies follow.
    Progress(String),
    /// It cannot be done, and why.
    Refused(String),
}

impl Reply {
    /// Why it is not the reply that was waited for.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Self::Refused(reason) => anyhow::anyhow!(reason),
            other => anyhow::anyhow!("an answer to another order: {other:?}"),
        }
    }
}

/// [`Described`] as it travels.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Serving {
    pub definition: Definition,
    /// Schema, name, rows.
    pub rows: Vec<(String, String, i64)>,
    /// Columns of the tables: schema, name, and the columns with types and the key's positions.
    pub tables: Vec<(String, String, TableShape)>,
    /// Tables that models wait for: source, schema, name, why.
    pub absent: Vec<(String, String, String, String)>,
    /// What of the project on disk is taken up by a restart alone.
    pub restart: Vec<String>,
    /// Roles and personal columns that the project on disk has otherwise.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Dashboards that the project on disk has otherwise.
    #[serde(default)]
    pub dashboards: Vec<String>,
    /// Syncs that it has otherwise.
    #[serde(default)]
    pub syncs: Vec<String>,
    /// Where syncs have delivered to: their names, and numbers of what holds the places and of these.
    #[serde(default)]
    pub places: BTreeMap<String, (u64, u64)>,
    /// Models and views that are wanted and wait, as they are written.
    #[serde(default)]
    pub waiting: Vec<ModelText>,
    /// Source tables of the project on disk that are not followed yet, and those that are and are not in it.
    #[serde(default)]
    pub new_tables: Vec<String>,
    #[serde(default)]
    pub gone_tables: Vec<String>,
    /// Source tables of which other columns are wanted: schema, name, and the columns they will have.
    #[serde(default)]
    pub changed_tables: Vec<(String, String, TableShape)>,
    /// Source tables for which another rule is wanted, and in what words the rules differ.
    #[serde(default)]
    pub changed_rules: Vec<String>,
    /// Why source tables that are followed cannot be read as the project on disk wants: it cannot be applied.
    #[serde(default)]
    pub unreadable: Vec<String>,
    /// What may be a mistake, of what is asked of the sources.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A table's columns.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableShape {
    /// Name, type, and whether it may be NULL.
    columns: Vec<(String, String, bool)>,
    key: Vec<usize>,
}

impl From<&Schema> for TableShape {
    fn from(schema: &Schema) -> Self {
        let columns = schema.columns.iter().map(|c| (c.name.clone(), c.data_type.to_string(), c.nullable));
        Self { columns: columns.collect(), key: schema.key.clone() }
    }
}

impl TableShape {
    fn schema(&self) -> anyhow::Result<Schema> {
        let columns = self.columns.iter().map(|(name, data_type, nullable)| {
            let data_type =
                data_type.parse().map_err(|_| anyhow::anyhow!("a column of the unknown type {data_type}"))?;
            Ok(relation::Column { name: name.clone(), data_type, nullable: *nullable })
        });
        Ok(Schema::new(columns.collect::<anyhow::Result<Vec<_>>>()?, self.key.clone()))
    }
}

impl From<Described> for Serving {
    fn from(described: Described) -> Self {
        let shape = |(name, schema): &(TableName, Schema)| (name.schema.clone(), name.name.clone(), schema.into());
        Self {
            definition: described.definition,
            rows: described.rows.into_iter().map(|(name, rows)| (name.schema, name.name, rows)).collect(),
            tables: described.tables.iter().map(shape).collect(),
            absent: described.absent.into_iter().map(|t| (t.source, t.name.schema, t.name.name, t.reason)).collect(),
            waiting: described.waiting,
            places: described.places.into_iter().map(|(sync, of)| (sync, (of.within, of.place))).collect(),
            ..Self::default()
        }
    }
}

impl Serving {
    /// Where syncs have delivered to.
    pub fn places(&self) -> delivery::Places {
        let place = |(within, place): &(u64, u64)| engine::outbox::Place { within: *within, place: *place };
        self.places.iter().map(|(sync, of)| (sync.clone(), place(of))).collect()
    }

    /// With what a project wants followed that is not.
    fn with(mut self, wanted: Wanted) -> Self {
        self.new_tables = wanted.new_tables().map(|table| table.name.to_string()).collect();
        self.gone_tables = wanted.gone.iter().map(|(_, name)| name.to_string()).collect();
        self.unreadable = wanted.unreadable();
        self.restart = wanted.restart;
        self.warnings = wanted.warnings;
        let mut rules = wanted.rules;
        for table in wanted.described.tables {
            if wanted.changed.contains(&table.name) {
                let (TableName { schema, name }, shape) = (table.name, TableShape::from(&table.schema));
                let is_known = |of: &(String, String, TableShape)| (&of.0, &of.1, &of.2) == (&schema, &name, &shape);
                if !self.tables.iter().any(is_known) {
                    rules.remove(&TableName::new(&schema, &name));
                    self.changed_tables.push((schema, name, shape));
                }
                continue;
            }
            self.tables.push((table.name.schema, table.name.name, (&table.schema).into()));
        }
        self.changed_rules = rules.iter().map(|(name, words)| shown_rules(name, words)).collect();
        for (name, rows) in wanted.described.rows.into_iter().filter(|(name, _)| !wanted.changed.contains(name)) {
            self.rows.push((name.schema, name.name, i64::try_from(rows).unwrap_or(i64::MAX)));
        }
        let absent = wanted.described.absent.into_iter();
        self.absent.extend(absent.map(|table| (table.source, table.name.schema, table.name.name, table.reason)));
        self
    }

    /// The tables, as they are planned over.
    pub fn tables(&self) -> anyhow::Result<Vec<(TableName, Schema)>> {
        let tables =
            self.tables.iter().map(|(schema, name, shape)| Ok((TableName::new(schema, name), shape.schema()?)));
        tables.collect()
    }

    /// The tables as they will be with the columns that are wanted.
    pub fn tables_to_come(&self) -> anyhow::Result<Vec<(TableName, Schema)>> {
        let mut tables = self.tables()?;
        for (schema, name, shape) in &self.changed_tables {
            let changed = TableName::new(schema, name);
            for (_, known) in tables.iter_mut().filter(|(name, _)| *name == changed) {
                *known = shape.schema()?;
            }
        }
        Ok(tables)
    }

    /// Tables that models wait for.
    pub fn absent(&self) -> Vec<AbsentTable> {
        let absent = self.absent.iter().map(|(source, schema, name, reason)| AbsentTable {
            source: source.clone(),
            name: TableName::new(schema, name),
            reason: reason.clone(),
            is_unasked: false,
        });
        absent.collect()
    }

    /// Rows of tables and models.
    pub fn row_counts(&self) -> BTreeMap<TableName, i64> {
        self.rows.iter().map(|(schema, name, rows)| (TableName::new(schema, name), *rows)).collect()
    }
}

/// Where orders are taken.
pub struct Desk {
    listener: TcpListener,
    word: String,
}

/// Who carries orders out.
pub struct Attendant {
    pub inbox: mpsc::Sender<Message>,
    pub status: Arc<Status>,
    pub applier: Arc<Applier>,
    pub keeper: Arc<Keeper>,
    /// Who may come in.
    pub door: Arc<Door>,
    pub audit: Arc<Audit>,
}

/// Who applies the project as it is on disk to an instance that was started with another.
pub struct Applier {
    pub inbox: mpsc::Sender<Message>,
    /// The options by which the project is found.
    pub global: Arc<Global>,
    /// The project as the instance started with it.
    pub started: Arc<Setup>,
    pub status: Arc<Status>,
    pub sources: Arc<Roster>,
    /// Whose turn it is to propose a project: who reads the files later proposes later, so that no older project takes the place
    /// of a newer one.
    pub turn: Mutex<()>,
    /// Who reads what: they go by the project on disk as soon as it is applied.
    pub grants: Arc<Grants>,
    /// Whose page shows the dashboards.
    pub service: Arc<Service>,
    /// What is delivered.
    pub syncs: std::sync::Mutex<Arc<WantedSyncs>>,
}

/// How often it is told how far an apply is, and looked whether anything is done.
const TOLD_EVERY: Duration = Duration::from_secs(1);

impl Desk {
    /// Opens a port on the loopback address.
    pub async fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot open a port for orders")?;
        let mut random = [0_u8; 16];
        std::io::Read::read_exact(
            &mut std::fs::File::open("/dev/urandom").context("cannot read random bytes")?,
            &mut random,
        )?;
        Ok(Self { listener, word: random.iter().map(|b| format!("{b:02x}")).collect() })
    }

    /// The port, and the word to be said there.
    pub fn address(&self) -> anyhow::Result<(String, String)> {
        Ok((self.listener.local_addr()?.to_string(), self.word.clone()))
    }

    /// Takes orders until stopped.
    pub async fn serve(self, attendant: Attendant, mut stopped: watch::Receiver<bool>) {
        let (attendant, word): (_, Arc<str>) = (Arc::new(attendant), self.word.as_str().into());
        let places = Arc::new(Semaphore::new(ORDERS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
            let Ok((mut stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let busy = format!("{ORDERS_MAX} orders are being carried out\nHint: Give it again in some seconds.");
                // Its buffer is empty: nobody is waited for.
                say(&mut stream, &Reply::Refused(busy)).await.ok();
                continue;
            };
            let (word, attendant, mut ends) = (Arc::clone(&word), Arc::clone(&attendant), stopped.clone());
            tokio::spawn(async move {
                tokio::select! {
                    served = attendant.attend(stream, &word) => {
                        if let Err(error) = served {
                            tracing::debug!(%error, "an order could not be answered");
                        }
                    }
                    _ = ends.wait_for(|stop| *stop) => {}
                }
                drop(place);
            });
        }
    }
}

/// The order that is given. Errors are for who gave it.
async fn heard(stream: &mut TcpStream, word: &str) -> anyhow::Result<Order> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(ORDER_BYTES_MAX));
    let Ok(read) = timeout(ORDER_WAIT, reader.read_line(&mut line)).await else {
        bail!("no order came within {} s: it is a line of JSON", ORDER_WAIT.as_secs());
    };
    read.context("this is no order")?;
    if !line.ends_with('\n') {
        bail!("this is no order: it is a line of JSON of at most {ORDER_BYTES_MAX} bytes");
    }
    let letter: Letter = serde_json::from_str(&line).context("this is no order")?;
    if letter.word != word {
        bail!("the word is wrong: it stands in instance.json of the data folder, which its owner alone may read");
    }
    Ok(letter.order)
}

async fn say(stream: &mut TcpStream, reply: &Reply) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(reply)?;
    text.push('\n');
    Ok(stream.write_all(text.as_bytes()).await?)
}

/// Waits until the other side has left.
async fn left(stream: &TcpStream) {
    match stream.peek(&mut [0]).await {
        Ok(0) | Err(_) => {}
        // Nobody has anything more to say behind an order.
        Ok(_) => std::future::pending().await,
    }
}

impl Attendant {
    async fn attend(&self, mut stream: TcpStream, word: &str) -> anyhow::Result<()> {
        let order = match heard(&mut stream, word).await {
            Ok(order) => order,
            Err(error) => return say(&mut stream, &Reply::Refused(format!("{error:#}"))).await,
        };
        say(&mut stream, &Reply::Taken).await?;
        // What changes nothing is for whoever asked alone, and may take an hour.
        let is_question = matches!(order, Order::ReconcileSource { .. });
        let (progress, mut told) = mpsc::unbounded_channel();
        let mut order = std::pin::pin!(self.carry_out(order, &progress));
        let mut looks = tokio::time::interval(TOLD_EVERY);
        let mut waits = String::new();
        let reply = loop {
            tokio::select! {
                biased;
                Some(text) = told.recv() => say(&mut stream, &Reply::Progress(text)).await?,
                _ = looks.tick() => {
                    let now = self.waits();
                    if now != waits && !now.is_empty() {
                        say(&mut stream, &Reply::Progress(now.clone())).await?;
                    }
                    waits = now;
                }
                () = left(&stream), if is_question => return Ok(()),
                done = &mut order => break done.unwrap_or_else(|error| Reply::Refused(format!("{error:#}"))),
            }
        };
        say(&mut stream, &reply).await?;
        Ok(stream.shutdown().await?)
    }

    /// Why nothing is done at all; empty where something is.
    fn waits(&self) -> String {
        let (facts, now) = (self.status.facts(), WallClock.now_us());
        let waits = facts.waits_since_us.map(|since_us| {
            format!("waiting for room on the disk {}: {}", crate::stale::since(since_us, now), facts.waits)
        });
        waits.unwrap_or_default()
    }

    async fn carry_out(&self, order: Order, progress: &Progress) -> anyhow::Result<Reply> {
        match order {
            Order::Resnapshot { tables, source } => self.resnapshot(&tables, source.as_deref()).await.map(Reply::Done),
            Order::ResnapshotRows { table, condition } => {
                let (source, name) = self.table(&table)?;
                let amendment = self.keeper.look(&source, &name, &condition).await?;
                self.command(&source, Commanded::Amend(Box::new(amendment))).await.map(Reply::Done)
            }
            Order::Users { what, name } => {
                let users = crate::users::read(&self.applier.started.data)?;
                self.audit.note(&what, &name, "", "command");
                self.door.set_users(users);
                Ok(Reply::Done(Vec::new()))
            }
            Order::Pause(name) => self.pause_or_resume(&name, Commanded::Pause, SyncOrder::Pause).await,
            Order::Resume(name) => self.pause_or_resume(&name, Commanded::Resume, SyncOrder::Resume).await,
            Order::Sync { name, order } => self.order_sync(&name, order).await.map(Reply::Done),
            Order::ReconcileSource { source, pace, restart } => {
                let say = |text| progress.send(text).map_or((), |()| ());
                let compared = self.keeper.by_hand(source.as_deref(), &pace.telling(&say), restart).await;
                compared.map(Reply::Compared)
            }
            Order::Apply => {
                let mut told = tokio::time::interval(TOLD_EVERY);
                let mut last = String::new();
                let mut applying = std::pin::pin!(self.applier.apply());
                loop {
                    tokio::select! {
                        applied = &mut applying => return Ok(Reply::Applied(applied?)),
                        _ = told.tick() => {
                            let now = self.status.facts().under_way();
                            if now != last && !now.is_empty() {
                                progress.send(now.clone()).ok();
                            }
                            last = now;
                        }
                    }
                }
            }
            Order::Rollback => Ok(match ask(&self.inbox, Request::Rollback).await? {
                Ok(Undone::Serving) => Reply::RolledBack,
                Ok(Undone::Rollback) => Reply::RolledForward,
                Ok(Undone::Coming) => Reply::GivenUp,
                Err(reason) => Reply::Refused(reason),
            }),
            Order::Describe => {
                let described = ask(&self.inbox, Request::Describe).await?;
                let serving = Serving::from(described);
                // A project that cannot be loaded is told about by who asked.
                Ok(Reply::Serving(match load(&self.applier.global).await {
                    Ok(now) => {
                        let roles = self.applier.grants.differences(&now.project);
                        let shown = self.applier.service.dashboards();
                        let new = dashboards::in_place_of(&shown, &now.project, &now.findings);
                        let dashboards = dashboards::differences(&shown, &new);
                        let syncs = delivery::differences(&self.applier.syncs(), &WantedSyncs::of(&now));
                        Serving { roles, dashboards, syncs, ..serving.with(self.applier.wanted(&now).await?) }
                    }
                    Err(_) => serving,
                }))
            }
        }
    }
}

impl Attendant {
    async fn command(&self, source: &str, what: Commanded) -> anyhow::Result<Vec<String>> {
        self.applier.sources.command(source, what).await
    }

    /// Pauses, or has go on, what is of this name: a source or a sync. Where both are, a sync is meant by `sync:NAME`.
    async fn pause_or_resume(&self, name: &str, of_source: Commanded, of_sync: SyncOrder) -> anyhow::Result<Reply> {
        let sources = self.applier.sources.names();
        let syncs: Vec<String> = self.status.facts().deliveries.keys().cloned().collect();
        let is_in = |names: &[String]| names.iter().any(|known| known == name);
        let done = match (name.strip_prefix("sync:"), is_in(&sources), is_in(&syncs)) {
            (Some(sync), ..) => self.order_sync(sync, of_sync).await?,
            (None, true, true) => bail!(
                "\"{name}\" is a source and a sync\nHint: Say `sync:{name}` where the sync is meant, or give one of them another name."
            ),
            (None, false, true) => self.order_sync(name, of_sync).await?,
            (None, true, false) => self.command(name, of_source).await?,
            // Without syncs there is nothing else that could be meant.
            (None, false, false) if syncs.is_empty() => self.command(name, of_source).await?,
            (None, false, false) => bail!(
                "there is no source and no sync \"{name}\"\nHint: One of: {}.",
                sources.into_iter().chain(syncs).collect::<Vec<_>>().join(", ")
            ),
        };
        Ok(Reply::Done(done))
    }

    async fn order_sync(&self, name: &str, order: SyncOrder) -> anyhow::Result<Vec<String>> {
        let known: Vec<String> = self.status.facts().deliveries.keys().cloned().collect();
        if !known.iter().any(|of| of == name) {
            let hint = match known.is_empty() {
                true => "A sync is a file in the folder syncs/ of the project.".to_owned(),
                false => format!("One of: {}.", known.join(", ")),
            };
            bail!("there is no sync \"{name}\"\nHint: {hint}");
        }
        let name = name.to_owned();
        let done = ask(&self.applier.inbox, |answer| Request::Sync { name, order, answer }).await?;
        done.map_err(|reason| anyhow::anyhow!(reason))
    }

    async fn resnapshot(&self, wanted: &[String], source: Option<&str>) -> anyhow::Result<Vec<String>> {
        let mut orders: Vec<(String, Commanded)> = Vec::new();
        if wanted.is_empty() {
            let names = match source {
                Some(source) => vec![source.to_owned()],
                None => self.applier.sources.names(),
            };
            orders.extend(names.into_iter().map(|name| (name, Commanded::ReloadAll)));
        }
        let mut by_source: BTreeMap<String, Vec<TableName>> = BTreeMap::new();
        for text in wanted {
            let (source, table) = self.table(text)?;
            let tables = by_source.entry(source).or_default();
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        orders.extend(by_source.into_iter().map(|(source, tables)| (source, Commanded::Reload(tables))));
        // One source that cannot is no reason not to ask the others, and what these do is told all the same.
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for (source, what) in orders {
            match self.command(&source, what).await {
                Ok(lines) => done.extend(lines),
                Err(error) => failed.push(format!("{error:#}")),
            }
        }
        if failed.is_empty() {
            return Ok(done);
        }
        failed.extend(done);
        bail!(failed.join("\n"))
    }

    /// A table by its name, with or without the schema, and its source.
    fn table(&self, text: &str) -> anyhow::Result<(String, TableName)> {
        let facts = self.status.facts();
        let is_it = |name: &&TableName| name.to_string() == text || name.name == text;
        let found: Vec<&TableName> = facts.tables.keys().filter(is_it).collect();
        match found[..] {
            [name] => Ok((facts.tables[name].source.clone(), name.clone())),
            [] => {
                let known: Vec<String> = facts.tables.keys().map(ToString::to_string).collect();
                bail!("there is no source table \"{text}\"\nHint: One of: {}.", known.join(", "))
            }
            _ => {
                let names: Vec<String> = found.iter().map(ToString::to_string).collect();
                bail!("\"{text}\" is more than one table\nHint: One of: {}.", names.join(", "))
            }
        }
    }
}

/// Lines on how far an order is. Few: one a table.
type Progress = mpsc::UnboundedSender<String>;

async fn load(global: &Arc<Global>) -> anyhow::Result<Setup> {
    let global = Arc::clone(global);
    tokio::task::spawn_blocking(move || Setup::load(&global)).await?
}

impl Applier {
    /// Applies the project as it is on disk now; its new source tables are followed from now on, and those that it has no more
    /// are let go when it is in place.
    pub async fn apply(&self) -> anyhow::Result<Applied> {
        let mine = self.turn.lock().await;
        let proposed = match self.propose().await {
            Ok(proposed) => proposed,
            Err(error) => {
                let said = error.to_string();
                self.status.facts().not_applied = Reason::of(said.lines().next().unwrap_or_default());
                return Err(error);
            }
        };
        let Proposed { proposal, errors, notices, restart, roles, new_tables, changed_tables, absent, warnings, setup } =
            proposed;
        let (answer, answered) = oneshot::channel();
        let wanted = Arc::new(WantedSyncs::of(&setup));
        let asked = Request::Apply { proposal, wanted: Arc::clone(&wanted), answer };
        let asked = self.inbox.send(Message::Ask(asked)).await;
        asked.map_err(|_| anyhow::anyhow!(STOPPING))?;
        drop(mine);
        let mut applied = answered.await.map_err(|_| anyhow::anyhow!(STOPPED))?;
        (applied.errors, applied.notices) = (errors, notices);
        applied.restart = restart;
        applied.roles = roles;
        applied.new_tables = new_tables;
        applied.changed_tables = changed_tables;
        applied.warnings = warnings;
        applied.waiting.extend(absent);
        if applied.failed.is_empty() {
            applied.dashboards = self.take_dashboards(&setup);
            applied.syncs = delivery::differences(&self.syncs(), &wanted);
            *self.syncs.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
        }
        // What serves on as it was may read what the project has no more.
        if applied.failed.is_empty() && applied.held.is_empty() {
            applied.gone_tables = self.let_go().await?;
        }
        Ok(applied)
    }

    /// What a project wants of the sources, and what of all of it is taken up by a restart alone.
    async fn wanted(&self, setup: &Setup) -> anyhow::Result<Wanted> {
        let mut wanted = self.sources.wanted(setup).await?;
        wanted.restart = setup.needs_restart(&self.started, std::mem::take(&mut wanted.restart));
        Ok(wanted)
    }

    /// The project as it is on disk now, planned; what it wants followed is followed. Errors: what keeps all of it from being
    /// run.
    async fn propose(&self) -> anyhow::Result<Proposed> {
        let setup = load(&self.global).await?;
        let shown = |is_error: bool| {
            let findings = setup.findings.iter().filter(move |finding| finding.is_error() == is_error);
            findings.map(|finding| setup.shown(finding)).collect::<Vec<_>>()
        };
        let (mut errors, mut notices) = (shown(true), shown(false));
        if setup.is_stopped() {
            bail!("{}", errors.join("\n"));
        }
        let roles = self.take_grants(&setup);
        let wanted = self.wanted(&setup).await?;
        let described = ask(&self.inbox, Request::Describe).await?;
        let mut tables = described.tables;
        if let Some(reason) = wanted.unreadable().into_iter().next() {
            bail!(reason);
        }
        let changed_tables = changed(&tables, &wanted);
        tables.retain(|(name, _)| !wanted.changed.contains(name));
        tables.extend(wanted.described.tables.iter().map(|table| (table.name.clone(), table.schema.clone())));
        let mut absent = described.absent;
        // What their sources have just answered is what is true of them now.
        let answered = &wanted.described;
        let there = answered.tables.iter().map(|table| &table.name);
        let asked: BTreeSet<&TableName> = there.chain(answered.absent.iter().map(|table| &table.name)).collect();
        absent.retain(|table| setup.has_table(&table.name) && !asked.contains(&table.name));
        absent.extend(wanted.described.absent.iter().cloned());
        let waiting = described.waiting;
        let beside = Standing { serving: described.definition, failing: Vec::new() };
        let places = described.places;
        let setup = Arc::new(setup);
        let planned_of = Arc::clone(&setup);
        // Planned here: the pump has steps to make.
        let planned = tokio::task::spawn_blocking(move || {
            let setup = planned_of;
            let absent = setup.not_followed(&tables, absent);
            let unwanted: BTreeSet<TableName> =
                tables.iter().map(|(name, _)| name).filter(|name| !setup.has_table(name)).cloned().collect();
            let definition = Definition::of(&setup);
            let proposal = Proposal::of(&definition, beside, tables.clone(), absent.clone(), unwanted);
            let refused = newly_refused(proposal.keepable.refused.clone(), &definition, &waiting);
            let mut findings = crate::warehouse::findings(&setup, &refused);
            let models = &proposal.keepable.contents.models;
            findings.extend(crate::grants::faults::findings(&setup, &definition, &tables, models));
            findings.extend(delivery::check::findings_over(&setup, &tables, &proposal.keepable.contents, &places));
            let contents = &proposal.keepable.contents;
            findings.extend(dashboards::check::findings(&setup, &tables, contents, &absent, |_, _| ()));
            findings.extend(crate::unique_key::findings(&setup, models));
            let found: Vec<(bool, String)> =
                findings.iter().map(|finding| (finding.is_error(), setup.shown(finding))).collect();
            (Box::new(proposal), found)
        });
        let (proposal, found) = planned.await?;
        for (is_error, text) in found {
            if is_error { errors.push(text) } else { notices.push(text) }
        }
        let new_tables = wanted.new_tables().map(|table| table.name.to_string()).collect();
        let Wanted { feeds, described, restart, warnings, .. } = wanted;
        let said = |table: AbsentTable| format!("{SOURCE_TABLE}{}: {}", table.name, table.reason);
        let absent = described.absent.into_iter().map(said).collect();
        errors.extend(self.sources.follow(feeds).await?);
        Ok(Proposed { proposal, errors, notices, restart, roles, new_tables, changed_tables, absent, warnings, setup })
    }

    /// Roles read by the project on disk from now on, whatever becomes of its models. Returns what is otherwise.
    fn take_grants(&self, setup: &Setup) -> Vec<String> {
        let differences = self.grants.differences(&setup.project);
        self.grants.set(&setup.project, setup.half_read());
        self.status.facts().personal = crate::grants::declared(&setup.project);
        differences.iter().for_each(|what| self.status.note_audit(what, "command"));
        differences
    }

    /// What is delivered.
    fn syncs(&self) -> Arc<WantedSyncs> {
        Arc::clone(&self.syncs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows the dashboards of a project that is in place. Returns what is otherwise.
    fn take_dashboards(&self, setup: &Setup) -> Vec<String> {
        let shown = self.service.dashboards();
        let new = dashboards::in_place_of(&shown, &setup.project, &setup.findings);
        let differences = dashboards::differences(&shown, &new);
        self.service.set_dashboards(new);
        differences
    }

    /// Source tables that the project on disk has no more are followed no more. What is stored of them goes by itself.
    async fn let_go(&self) -> anyhow::Result<Vec<String>> {
        // Nobody proposes meanwhile what would have them again.
        let mine = self.turn.lock().await;
        let gone = self.sources.gone(&load(&self.global).await?);
        let names = gone.iter().map(|(_, name)| name.to_string()).collect();
        self.sources.let_go(gone).await?;
        drop(mine);
        Ok(names)
    }
}

/// Tables that will have other columns than these, and which, as people read it; then those whose columns stay, and another
/// rule holds for them.
fn changed(tables: &[(TableName, Schema)], wanted: &Wanted) -> Vec<String> {
    let of = wanted.described.tables.iter().filter(|table| wanted.changed.contains(&table.name));
    let line = |table: &SourceTable| {
        let (_, old) = tables.iter().find(|(name, _)| *name == table.name)?;
        (*old != table.schema).then(|| (table.name.clone(), shown_change(&table.name, old, &table.schema)))
    };
    let columns: BTreeMap<TableName, String> = of.filter_map(line).collect();
    let rules = wanted.rules.iter().filter(|(name, _)| !columns.contains_key(*name));
    let rules: Vec<String> = rules.map(|(name, words)| shown_rules(name, words)).collect();
    columns.into_values().chain(rules).collect()
}

/// `shop.users: - name text, + mark integer`
pub fn shown_change(name: &TableName, old: &Schema, new: &Schema) -> String {
    format!("{name}: {}", crate::change::columns(old, new).join(", "))
}

/// `shop.users: on_change: park (was apply)`
fn shown_rules(name: &TableName, words: &[String]) -> String {
    format!("{name}: {}", words.join(", "))
}

/// A project that can be given to the pump.
struct Proposed {
    proposal: Box<Proposal>,
    /// What is wrong with the project, each at its place.
    errors: Vec<String>,
    /// What of it may be a mistake.
    notices: Vec<String>,
    restart: Vec<String>,
    /// Roles and personal columns that are others now.
    roles: Vec<String>,
    /// Source tables that are followed from now on.
    new_tables: Vec<String>,
    /// Those of which other columns are read from now on, and which.
    changed_tables: Vec<String>,
    /// Those of them that are not there, and why.
    absent: Vec<String>,
    warnings: Vec<String>,
    /// All of it.
    setup: Arc<Setup>,
}

pub(crate) const STOPPING: &str = "the instance is stopping";
pub(crate) const STOPPED: &str = "the instance stopped before it was done";

async fn ask<T>(
    inbox: &mpsc::Sender<Message>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> anyhow::Result<T> {
    let (answer, answered) = oneshot::channel();
    inbox.send(Message::Ask(request(answer))).await.map_err(|_| anyhow::anyhow!(STOPPING))?;
    answered.await.map_err(|_| anyhow::anyhow!(STOPPED))
}

/// What came of giving an order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each command, moved once")]
pub enum Ordered {
    Answered(Reply),
    /// Nothing runs over the data folder. An instance of this process may have ended without taking its note along.
    Nobody {
        left_by: Option<u32>,
    },
}

/// Gives an order to the instance that runs over a data folder.
pub async fn order(data: &Path, order: Order) -> anyhow::Result<Ordered> {
    order_with(data, order, |_| ()).await
}

/// As [`order`], for orders that tell how far they are.
pub async fn order_with(data: &Path, order: Order, mut progress: impl FnMut(&str)) -> anyhow::Result<Ordered> {
    let Some(addresses) = Addresses::read(data) else { return Ok(Ordered::Nobody { left_by: None }) };
    let nobody = Ordered::Nobody { left_by: Some(addresses.pid) };
    let (Some(address), Some(word)) = (addresses.control, addresses.word) else { return Ok(nobody) };
    let Ok(Ok(mut stream)) = timeout(ORDER_WAIT, TcpStream::connect(&address)).await else { return Ok(nobody) };
    let mut text = serde_json::to_string(&Letter { word, order })?;
    text.push('\n');
    // Who is refused may be told so before all was said.
    stream.write_all(text.as_bytes()).await.ok();
    let mut lines = BufReader::new(stream);
    let stranger = || {
        format!(
            "what listens at {address} is no Tidemill, though the note in {} says so\n\
             Hint: An instance was killed, and its port is somebody else's by now. `tidemill up` writes the note anew.",
            data.display()
        )
    };
    // Twice as long as the other side takes to refuse.
    let Ok(first) = timeout(ORDER_WAIT * 2, reply_of(&mut lines)).await else { bail!(stranger()) };
    match first {
        Ok(Some(Reply::Taken)) => {}
        Ok(Some(reply)) => return Ok(Ordered::Answered(reply)),
        Ok(None) | Err(_) => bail!(stranger()),
    }
    let last = loop {
        match reply_of(&mut lines).await? {
            Some(Reply::Progress(text)) => progress(&text),
            last => break last,
        }
    };
    match last {
        Some(reply) => Ok(Ordered::Answered(reply)),
        None => bail!(
            "the instance stopped before it was done\nHint: `tidemill up` goes on from what it kept, and applies the project on disk at its start."
        ),
    }
}

/// The next line; none where the other side has closed.
async fn reply_of(lines: &mut BufReader<TcpStream>) -> anyhow::Result<Option<Reply>> {
    let mut line = String::new();
    match lines.read_line(&mut line).await {
        Ok(0) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
        read => {
            read?;
            Ok(Some(serde_json::from_str(&line)?))
        }
    }
}
