//! Orders to a running instance: a line of JSON each way, over a loopback port that the data folder names.
//!
//! Who can read the data folder may give orders: the port and a word that must be said are noted in it, in a file that only
//! its owner reads. Orders change what is served; questions go over the Postgres wire.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use plan::TableName;
use relation::Schema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::definition::Definition;
use crate::follow::{Command, Commanded, Line};
use crate::instance::Addresses;
use crate::pump::{Applied, Described, Message, Request};
use crate::reconcile::source::{Compared, Ours, Pace};
use crate::setup::{Global, Setup};
use crate::status::Status;

/// Bytes of an order at most.
const ORDER_BYTES_MAX: u64 = 64 << 10;

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
    Resnapshot { tables: Vec<String>, source: Option<String> },
    /// Reads nothing more of a source until told to.
    Pause(String),
    Resume(String),
    /// Compares the tables of one source, or of all, with what the source has.
    ReconcileSource { source: Option<String>, rows_per_second: Option<u64> },
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
    Applied(Applied),
    RolledBack,
    Serving(Serving),
    Compared(Vec<Compared>),
    /// It is done, or begun: in lines for people.
    Done(Vec<String>),
    /// It is not done yet: how far it is. Other replies follow.
    Progress(String),
    /// It cannot be done, and why.
    Refused(String),
}

/// [`Described`] as it travels.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Serving {
    pub definition: Definition,
    /// Schema, name, rows.
    pub rows: Vec<(String, String, i64)>,
    /// Columns of the tables: schema, name, and the columns with types and the key's positions.
    pub tables: Vec<(String, String, TableShape)>,
}

/// A table's columns.
#[derive(Debug, Default, Serialize, Deserialize)]
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
        }
    }
}

impl Serving {
    /// The tables, as they are planned over.
    pub fn tables(&self) -> anyhow::Result<Vec<(TableName, Schema)>> {
        let tables =
            self.tables.iter().map(|(schema, name, shape)| Ok((TableName::new(schema, name), shape.schema()?)));
        tables.collect()
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
    pub async fn serve(self, office: Office, mut stopped: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            let (word, office) = (self.word.clone(), office.clone());
            let mut ends = stopped.clone();
            tokio::spawn(async move {
                tokio::select! {
                    served = attend(stream, &word, &office) => {
                        if let Err(error) = served {
                            tracing::debug!(%error, "an order could not be taken");
                        }
                    }
                    _ = ends.wait_for(|stop| *stop) => {}
                }
            });
        }
    }
}

async fn attend(mut stream: TcpStream, word: &str, office: &Office) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    BufReader::new(tokio::io::AsyncReadExt::take(reader, ORDER_BYTES_MAX)).read_line(&mut line).await?;
    let letter: Letter = serde_json::from_str(&line)?;
    if letter.word != word {
        bail!("an order with another word");
    }
    let (progress, mut told) = mpsc::unbounded_channel();
    let mut order = std::pin::pin!(carry_out(letter.order, office, &progress));
    let reply = loop {
        tokio::select! {
            biased;
            Some(text) = told.recv() => write(&mut writer, &Reply::Progress(text)).await?,
            done = &mut order => break done.unwrap_or_else(|error| Reply::Refused(format!("{error:#}"))),
        }
    };
    write(&mut writer, &reply).await?;
    Ok(writer.shutdown().await?)
}

async fn write(writer: &mut (impl tokio::io::AsyncWrite + Unpin), reply: &Reply) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(reply)?;
    text.push('\n');
    Ok(writer.write_all(text.as_bytes()).await?)
}

/// What it takes to carry orders out.
#[derive(Clone)]
pub struct Office {
    pub inbox: mpsc::Sender<Message>,
    pub global: Arc<Global>,
    pub status: Arc<Status>,
    /// The ways to the sources, by name.
    pub lines: Arc<BTreeMap<String, Line>>,
}

impl Office {
    /// Has a source do something. Errors: there is none of that name, or it cannot.
    async fn command(&self, source: &str, what: Commanded) -> anyhow::Result<Vec<String>> {
        let Some(line) = self.lines.get(source) else {
            let known: Vec<&str> = self.lines.keys().map(String::as_str).collect();
            bail!("there is no source \"{source}\"\nHint: One of: {}.", known.join(", "));
        };
        let (answer, answered) = oneshot::channel();
        let stopping = || anyhow::anyhow!("the instance is stopping");
        line.send(Command { what, answer }).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?.map_err(|reason| anyhow::anyhow!(reason))
    }

    async fn resnapshot(&self, wanted: &[String], source: Option<&str>) -> anyhow::Result<Vec<String>> {
        let mut done = Vec::new();
        if wanted.is_empty() {
            for name in self.lines.keys().filter(|name| source.is_none_or(|source| source == **name)) {
                done.extend(self.command(name, Commanded::ReloadAll).await?);
            }
            if let (Some(source), true) = (source, done.is_empty()) {
                done.extend(self.command(source, Commanded::ReloadAll).await?);
            }
            return Ok(done);
        }
        let mut by_source: BTreeMap<String, Vec<TableName>> = BTreeMap::new();
        for text in wanted {
            let (source, table) = self.table(text)?;
            by_source.entry(source).or_default().push(table);
        }
        for (source, tables) in by_source {
            done.extend(self.command(&source, Commanded::Reload(tables)).await?);
        }
        Ok(done)
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

async fn carry_out(order: Order, office: &Office, progress: &Progress) -> anyhow::Result<Reply> {
    let (inbox, global) = (&office.inbox, &office.global);
    match order {
        Order::Resnapshot { tables, source } => office.resnapshot(&tables, source.as_deref()).await.map(Reply::Done),
        Order::Pause(source) => office.command(&source, Commanded::Pause).await.map(Reply::Done),
        Order::Resume(source) => office.command(&source, Commanded::Resume).await.map(Reply::Done),
        Order::ReconcileSource { source, rows_per_second } => {
            let say = |text| progress.send(text).map_or((), |()| ());
            let pace = Pace { rows_per_second, progress: &say };
            reconcile_source(office, source.as_deref(), &pace).await.map(Reply::Compared)
        }
        Order::Apply => apply(inbox, global).await.map(Reply::Applied),
        Order::Rollback => {
            let done = ask(inbox, Request::Rollback).await?;
            Ok(done.map_or_else(Reply::Refused, |()| Reply::RolledBack))
        }
        Order::Describe => Ok(Reply::Serving(ask(inbox, Request::Describe).await?.into())),
    }
}

/// Lines on how far an order is. Few: one a table.
type Progress = mpsc::UnboundedSender<String>;

async fn reconcile_source(office: &Office, wanted: Option<&str>, pace: &Pace<'_>) -> anyhow::Result<Vec<Compared>> {
    let global = Arc::clone(&office.global);
    let setup = tokio::task::spawn_blocking(move || Setup::load(&global)).await??;
    let mut compared = Vec::new();
    for (name, source, places) in crate::reconcile::source::feeds(&setup, wanted).await? {
        let (of, status) = (name.clone(), Arc::clone(&office.status));
        let known = ask(&office.inbox, |answer| Request::Tables { source: of, places, answer }).await?;
        let ours = Ours {
            source: name,
            number: known.number,
            tables: known.tables,
            positions: known.positions,
            view: Box::new(move || status.view().1),
            is_running: true,
        };
        compared.extend(crate::reconcile::source::compare(&source, &ours, pace).await?);
    }
    Ok(compared)
}

/// Applies the project as it is on disk now.
pub async fn apply(inbox: &mpsc::Sender<Message>, global: &Global) -> anyhow::Result<Applied> {
    let global = global.clone();
    let setup = tokio::task::spawn_blocking(move || Setup::load(&global)).await??;
    if setup.has_errors() {
        let errors = setup.findings.iter().filter(|finding| finding.is_error()).map(ToString::to_string);
        bail!("{}", errors.collect::<Vec<_>>().join("\n"));
    }
    let described = ask(inbox, Request::Describe).await?;
    let checked = setup.clone();
    let findings =
        tokio::task::spawn_blocking(move || crate::warehouse::findings(&checked, &described.tables, &[])).await?;
    if !findings.is_empty() {
        bail!("{}", findings.iter().map(|finding| setup.shown(finding)).collect::<Vec<_>>().join("\n"));
    }
    let definition = Definition::of(&setup);
    ask(inbox, |answer| Request::Apply { definition, answer }).await
}

async fn ask<T>(
    inbox: &mpsc::Sender<Message>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> anyhow::Result<T> {
    let (answer, answered) = oneshot::channel();
    inbox.send(Message::Ask(request(answer))).await.map_err(|_| anyhow::anyhow!("the instance is stopping"))?;
    answered.await.map_err(|_| anyhow::anyhow!("the instance stopped before it was done"))
}

/// Gives an order to the instance that runs over a data folder; none if none runs there.
pub async fn order(data: &Path, order: Order) -> anyhow::Result<Option<Reply>> {
    order_with(data, order, |_| ()).await
}

/// As [`order`], for orders that tell how far they are.
pub async fn order_with(data: &Path, order: Order, mut progress: impl FnMut(&str)) -> anyhow::Result<Option<Reply>> {
    let Some(addresses) = Addresses::read(data) else { return Ok(None) };
    let (Some(address), Some(word)) = (addresses.control, addresses.word) else { return Ok(None) };
    // A process that was killed leaves its note behind.
    let Ok(mut stream) = TcpStream::connect(&address).await else { return Ok(None) };
    let mut text = serde_json::to_string(&Letter { word, order })?;
    text.push('\n');
    stream.write_all(text.as_bytes()).await?;
    let mut replies = BufReader::new(&mut stream);
    loop {
        let mut line = String::new();
        replies.read_line(&mut line).await?;
        if line.is_empty() {
            bail!("the instance stopped before it was done");
        }
        match serde_json::from_str(&line)? {
            Reply::Progress(text) => progress(&text),
            reply => return Ok(Some(reply)),
        }
    }
}
