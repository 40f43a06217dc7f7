//! A running instance: sources, pump and servers, from the first line of output to a clean stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use connect::source::mysql::{self, CaptureTable, MysqlConfig, MysqlSource};
use connect::{Failure, Limits, SourceEvent, SourceState};
use engine::Load;
use relation::{Position, TableId};
use serve::{Service, Site};
use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, WallClock};
use crate::pump::{Message, Pump};
use crate::reader::InstanceReader;
use crate::setup::{Feed, Setup};
use crate::status::{Facts, Status};
use crate::warehouse::{SourceTable, Warehouse};

/// Where a running instance can be reached, as it notes it in its data folder.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Addresses {
    pub pid: u32,
    pub pg: String,
    pub http: String,
}

impl Addresses {
    fn path(data: &Path) -> PathBuf {
        data.join("instance.json")
    }

    /// What a running instance noted; none if none runs there, as far as the folder tells.
    pub fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(data)).ok()?).ok()
    }
}

/// A source that is to be followed: its settings, and its tables as numbered by the engine.
pub struct PlannedFeed {
    pub name: String,
    pub kind: FeedKind,
    pub tables: Vec<PlannedTable>,
}

/// What is at the other end.
pub enum FeedKind {
    Mysql(Box<MysqlConfig>),
    Simulator(Box<crate::demo::Simulator>),
}

/// A table of a feed.
#[derive(Debug, Clone)]
pub struct PlannedTable {
    pub database: String,
    pub identifier: String,
    pub name: plan::TableName,
    /// As the source described it at the start; none where it could not be asked.
    pub facts: Option<mysql::TableFacts>,
}

/// Sources, pump and servers.
pub struct Instance {
    pub addresses: Addresses,
    pub status: Arc<Status>,
    pub reader: Arc<InstanceReader>,
    inbox: mpsc::Sender<Message>,
    stop: Arc<AtomicBool>,
    shutdown: watch::Sender<bool>,
    pump: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
    servers: Vec<tokio::task::JoinHandle<()>>,
    feeds: Vec<tokio::task::JoinHandle<()>>,
    data: PathBuf,
}

/// Asks every source for its tables. Errors: a source of which nothing is known yet cannot be asked.
pub async fn plan_feeds(setup: &Setup) -> anyhow::Result<(Vec<PlannedFeed>, Vec<SourceTable>)> {
    let mut feeds = Vec::new();
    let mut described = Vec::new();
    let known = known_tables(&setup.data);
    for feed in setup.feeds()? {
        if let project::ConnectionKind::Simulator { shop, .. } = &feed.connection.kind {
            let simulator = crate::demo::Simulator::new(shop);
            let (planned, tables) = plan_simulator(&feed, simulator)?;
            feeds.push(planned);
            described.extend(tables);
            continue;
        }
        let config = feed.mysql().await?;
        let answer = mysql::describe(&config, &feed.wanted()).await;
        let facts = match answer {
            Ok(described) => described.into_iter().map(|d| d.facts).map(Some).collect::<Vec<_>>(),
            Err(failure) if known => {
                tracing::warn!(source = %feed.connection.name, "{}", said(&failure));
                feed.tables.iter().map(|_| None).collect()
            }
            Err(failure) => return Err(anyhow::anyhow!(said(&failure))),
        };
        let mut tables = Vec::new();
        for ((table, (database, identifier)), facts) in feed.tables.iter().zip(feed.wanted()).zip(facts) {
            let name = plan::TableName::new(&table.source, &table.name);
            let facts = match facts {
                Some(Ok(facts)) => Some(facts),
                Some(Err(reason)) => anyhow::bail!(
                    "table \"{database}\".\"{identifier}\" of source \"{}\" cannot be captured: {reason}",
                    table.source
                ),
                None => None,
            };
            if let Some(facts) = &facts {
                let source = feed.connection.name.clone();
                described.push(SourceTable { source, name: name.clone(), schema: facts.schema.clone() });
            }
            tables.push(PlannedTable { database, identifier, name, facts });
        }
        feeds.push(PlannedFeed { name: feed.connection.name.clone(), kind: FeedKind::Mysql(Box::new(config)), tables });
    }
    Ok((feeds, described))
}

/// A simulated shop, whose tables nobody has to be asked for. Errors: a table that it does not have.
pub(crate) fn plan_simulator(
    feed: &Feed<'_>,
    simulator: crate::demo::Simulator,
) -> anyhow::Result<(PlannedFeed, Vec<SourceTable>)> {
    let mut described = Vec::new();
    let mut tables = Vec::new();
    for table in &feed.tables {
        let schema = simulator.schema(&table.identifier);
        let schema = schema.with_context(|| format!("the simulated shop has no table \"{}\"", table.identifier))?;
        let name = plan::TableName::new(&table.source, &table.name);
        described.push(SourceTable { source: feed.connection.name.clone(), name: name.clone(), schema });
        let (database, identifier) = (String::new(), table.identifier.clone());
        tables.push(PlannedTable { database, identifier, name, facts: None });
    }
    let kind = FeedKind::Simulator(Box::new(simulator));
    Ok((PlannedFeed { name: feed.connection.name.clone(), kind, tables }, described))
}

/// Whether a data folder was used before.
fn known_tables(data: &Path) -> bool {
    data.join("store").is_dir()
}

/// A failure in one text.
pub fn said(failure: &Failure) -> String {
    let mut text = failure.message.clone();
    for (label, part) in [("Detail", &failure.detail), ("Hint", &failure.hint)] {
        if !part.is_empty() {
            text.push_str(&format!("\n{label}: {part}"));
        }
    }
    text
}

impl Instance {
    /// Starts serving and following. The warehouse is open; its models are built as their tables are complete.
    pub async fn start(setup: &Setup, mut warehouse: Warehouse, feeds: Vec<PlannedFeed>) -> anyhow::Result<Self> {
        feeds.iter().for_each(|feed| skip_load(feed, &mut warehouse));
        let runtime = tokio::runtime::Handle::current();
        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        let status = Status::new(warehouse.engine.store().clone());
        note_settings(setup, &status);
        let reader = Arc::new(InstanceReader {
            status: Arc::clone(&status),
            queries: Arc::clone(&warehouse.queries),
            models: Arc::new(warehouse.models.clone()),
        });
        let profile = &setup.project.profile;
        let pg = serve::bind(&profile.pg.addr.to_string(), profile.pg.explicit).await?;
        let http = serve::bind(&profile.http.addr.to_string(), profile.http.explicit).await?;
        let addresses = Addresses {
            pid: std::process::id(),
            pg: pg.local_addr()?.to_string(),
            http: http.local_addr()?.to_string(),
        };
        std::fs::write(Addresses::path(&setup.data), serde_json::to_vec_pretty(&addresses)?)
            .context("cannot note the addresses in the data folder")?;
        let site = Site {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            project: setup.project.name.clone(),
            schema: setup.project.profile.schema.clone(),
            pg: addresses.pg.clone(),
        };
        let answers = Arc::clone(&reader) as Arc<dyn serve::Reader>;
        let dashboards = crate::dashboards::of(&setup.project);
        let service = Service::with_dashboards(answers, serve::Limits::default(), site, dashboards);
        let (shutdown, stopped) = watch::channel(false);
        let servers = vec![
            tokio::spawn(serve::serve_pg(pg, Arc::clone(&service), until(stopped.clone()))),
            tokio::spawn(serve::serve_http(http, service, until(stopped.clone()))),
        ];
        let (inbox, mut outbox) = mpsc::channel(2);
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = feeds.into_iter().map(|feed| start_feed(feed, &warehouse, &inbox, &status, &stopped)).collect();
        let mut pump = Pump::new(warehouse, Arc::clone(&status), clock, Arc::clone(&stop), runtime);
        let thread = std::thread::Builder::new().name("pump".to_owned()).spawn(move || pump.run(&mut outbox))?;
        Ok(Self {
            addresses,
            status,
            reader,
            inbox,
            stop,
            shutdown,
            pump: Some(thread),
            servers,
            feeds: tasks,
            data: setup.data.clone(),
        })
    }

    /// Whether the pump has ended by itself: the store failed.
    pub fn has_failed(&self) -> bool {
        self.pump.as_ref().is_some_and(std::thread::JoinHandle::is_finished)
    }

    /// Waits until all that was sent to the pump so far is visible.
    pub async fn settle(&self) -> Option<u64> {
        let (done, visible) = tokio::sync::oneshot::channel();
        self.inbox.send(Message::Ask(crate::pump::Request::Barrier(done))).await.ok()?;
        visible.await.ok()
    }

    /// Stops sources, pump and servers, in this order. Errors: what ended the pump before.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Release);
        self.shutdown.send_replace(true);
        for feed in self.feeds.drain(..) {
            feed.await.ok();
        }
        let pump = self.pump.take();
        let ended = tokio::task::spawn_blocking(move || pump.map(std::thread::JoinHandle::join)).await?;
        for server in self.servers.drain(..) {
            server.await.ok();
        }
        std::fs::remove_file(Addresses::path(&self.data)).ok();
        match ended {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) => Err(anyhow::anyhow!("internal error: the engine's thread panicked; restart to continue")),
        }
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same as its word.
    stopped.wait_for(|stop| *stop).await.map(|_| ()).ok();
}

fn note_settings(setup: &Setup, status: &Status) {
    let profile = &setup.project.profile;
    let mut facts = status.facts();
    facts.settings = [
        ("project", setup.project.name.clone(), "Name of the dbt project."),
        ("target", profile.target.clone(), "Chosen output of profiles.yml."),
        ("data", setup.data.display().to_string(), "Folder of everything durable."),
        ("workers", profile.workers.map_or("default".to_owned(), |w| w.to_string()), "Threads for large steps."),
        ("memory", profile.memory.map_or("default".to_owned(), |m| m.to_string()), "Bytes of state kept in memory."),
    ]
    .map(|(name, value, description)| (name.to_owned(), value, description.to_owned()))
    .to_vec();
    facts.message = "starting".to_owned();
    note_models(setup, &mut facts);
}

/// The models and views of the project, and who reads whom.
fn note_models(setup: &Setup, facts: &mut Facts) {
    let named = |model: &project::Model| plan::TableName::new(&model.schema, &model.alias);
    for model in setup.project.models.iter().filter(|m| m.materialized != project::Materialized::Ephemeral) {
        let name = named(model);
        let is_view = model.materialized == project::Materialized::View;
        let of = if is_view { &mut facts.views } else { &mut facts.models };
        let status = of.entry(name.clone()).or_default();
        status.materialized = model.materialized.word().to_owned();
        status.sql.clone_from(&model.sql);
        status.path.clone_from(&model.file);
        status.description = model.description.clone().unwrap_or_default();
        if is_view {
            status.state = "live".to_owned();
        }
        let upstream = model.reads.iter().filter_map(|read| match read {
            project::Dependency::Model(of) => setup.project.model(of).map(named),
            project::Dependency::Source { source, table } => Some(plan::TableName::new(source, table)),
        });
        facts.lineage.extend(upstream.map(|upstream| (upstream, name.clone())));
    }
}

/// A source that begins at a place of its log has no first load: its tables hold what the log says from there on.
fn skip_load(feed: &PlannedFeed, warehouse: &mut Warehouse) {
    let FeedKind::Mysql(config) = &feed.kind else { return };
    if config.start == mysql::Start::Snapshot {
        return;
    }
    for table in &feed.tables {
        let id = warehouse.engine.tables().find(|t| t.name == table.name).map(|t| t.id);
        id.into_iter().for_each(|id| warehouse.engine.follow_without_load(id));
    }
}

/// Follows one source in a task of its own.
fn start_feed(
    feed: PlannedFeed,
    warehouse: &Warehouse,
    inbox: &mpsc::Sender<Message>,
    status: &Arc<Status>,
    stopped: &watch::Receiver<bool>,
) -> tokio::task::JoinHandle<()> {
    let engine = &warehouse.engine;
    let number = engine.source(&feed.name).unwrap_or_default();
    let resume = engine.position(number).cloned();
    let mut tables = Vec::new();
    for table in feed.tables {
        let Some(known) = engine.tables().find(|t| t.name == table.name) else { continue };
        let schema = engine.relation(known.id).map(|r| r.schema.clone()).unwrap_or_default();
        tables.push(Followed { id: known.id, load: known.load.clone(), schema, table });
    }
    let kind = if matches!(feed.kind, FeedKind::Mysql(_)) { "mysql" } else { "simulator" };
    {
        let mut facts = status.facts();
        let entry = facts.sources.entry(feed.name.clone()).or_default();
        entry.kind = kind.to_owned();
        entry.state = "connecting".to_owned();
        entry.position = resume.clone().unwrap_or_default().0;
    }
    let (inbox, stopped) = (inbox.clone(), stopped.clone());
    match feed.kind {
        FeedKind::Mysql(config) => {
            let lag = watch_lag(feed.name, (*config).clone(), Arc::clone(status), stopped.clone());
            let follow = follow_mysql(number, *config, tables, resume, inbox, stopped);
            tokio::spawn(async move {
                tokio::join!(follow, lag);
            })
        }
        FeedKind::Simulator(simulator) => {
            let tables = tables.into_iter().map(|f| (f.table.identifier, f.id, f.load)).collect();
            tokio::spawn(simulator.run(number, tables, resume, inbox, stopped))
        }
    }
}

/// How often a server is asked how much of its log is not read yet.
const LAG_INTERVAL: Duration = Duration::from_secs(5);

/// Notes how many bytes of a server's log are not read yet; while the server cannot say it, nobody knows.
async fn watch_lag(source: String, config: MysqlConfig, status: Arc<Status>, mut stopped: watch::Receiver<bool>) {
    while tokio::time::timeout(LAG_INTERVAL, stopped.wait_for(|stop| *stop)).await.is_err() {
        let position = status.facts().sources.get(&source).map(|source| source.position.clone()).unwrap_or_default();
        let position = Position(position);
        let behind = tokio::select! {
            behind = mysql::bytes_behind(&config, &position) => behind.ok().flatten(),
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        if let Some(source) = status.facts().sources.get_mut(&source) {
            source.lag_bytes = behind.and_then(|bytes| i64::try_from(bytes).ok());
        }
    }
}

/// A table that a source is to follow.
struct Followed {
    id: TableId,
    load: Load,
    schema: relation::Schema,
    table: PlannedTable,
}

/// How long to wait before asking again a server that could not be asked at the start.
const DESCRIBE_RETRY: Duration = Duration::from_secs(2);

async fn follow_mysql(
    number: u32,
    config: MysqlConfig,
    mut tables: Vec<Followed>,
    resume: Option<Position>,
    inbox: mpsc::Sender<Message>,
    mut stopped: watch::Receiver<bool>,
) {
    while tables.iter().any(|t| t.table.facts.is_none()) {
        if let Err(failure) = describe_again(&config, &mut tables).await {
            let event = SourceEvent::State(SourceState::Stalled, said(&failure).replace('\n', " "));
            if inbox.send(Message::Event(number, event)).await.is_err() {
                return;
            }
            let wait = tokio::time::timeout(DESCRIBE_RETRY, stopped.wait_for(|stop| *stop)).await;
            if wait.is_ok() {
                return;
            }
        }
    }
    let mut captured = Vec::new();
    for followed in tables {
        let (Some(facts), Some(load)) = (followed.table.facts, load_of(&followed.load)) else { continue };
        if facts.schema != followed.schema {
            let reason = "its columns changed while Tidemill could not see it; restart to load it again".to_owned();
            let event = SourceEvent::Parked { table: followed.id, reason };
            inbox.send(Message::Event(number, event)).await.ok();
            continue;
        }
        captured.push(CaptureTable {
            id: followed.id,
            database: followed.table.database,
            name: followed.table.identifier,
            columns: facts.columns,
            schema: facts.schema,
            load,
        });
    }
    let (mut events, control) = MysqlSource::start(config, captured, resume, Limits::default());
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = stopped.wait_for(|stop| *stop) => None,
        };
        let Some(event) = event else { break };
        let sent = tokio::select! {
            sent = inbox.send(Message::Event(number, event)) => sent.is_ok(),
            _ = stopped.wait_for(|stop| *stop) => false,
        };
        if !sent {
            break;
        }
    }
    drop(events);
    control.stop().await;
}

async fn describe_again(config: &MysqlConfig, tables: &mut [Followed]) -> Result<(), Failure> {
    let wanted: Vec<_> = tables.iter().map(|t| (t.table.database.clone(), t.table.identifier.clone())).collect();
    let described = mysql::describe(config, &wanted).await?;
    for (followed, described) in tables.iter_mut().zip(described) {
        let facts = described.facts.map_err(|reason| Failure {
            message: format!("table \"{}\" cannot be captured", described.name),
            detail: reason,
            hint: String::new(),
        });
        followed.table.facts = Some(facts?);
    }
    Ok(())
}

fn load_of(load: &Load) -> Option<mysql::Load> {
    match load {
        Load::Loading { cursor } => Some(mysql::Load::Pending { cursor: cursor.clone() }),
        Load::Complete | Load::Partial => Some(mysql::Load::Complete),
        Load::Parked { .. } => None,
    }
}
