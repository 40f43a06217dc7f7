//! A running instance: sources, pump and servers, from the first line of output to a clean stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use plan::TableName;
use project::ListenSpec;
use serve::{Service, Site};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::address;
use crate::ages::{self, Ages};
use crate::atomic;
use crate::audit::Audit;
use crate::backlog::Bounds;
use crate::beside::Threads;
use crate::clock::{Clock, WallClock};
use crate::control::{Applier, Attendant, Desk};
use crate::deep::STACK_BYTES;
use crate::delivery::{self, Wanted};
use crate::follow::{self, Marks, Outlet, PlannedFeed, Roster};
use crate::grants::Grants;
use crate::pump::{Message, Pump};
use crate::reader::{InstanceReader, Lanes};
use crate::reconcile::book::Book;
use crate::reconcile::keeper::Keeper;
use crate::setup::{Global, Setup};
use crate::sources;
use crate::stale;
use crate::status::Status;
use crate::users;
use crate::warehouse::Warehouse;

/// Where a running instance can be reached, as it notes it in its data folder.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Addresses {
    pub pid: u32,
    pub pg: String,
    pub http: String,
    /// Where orders are taken, and the word to be said there.
    #[serde(default)]
    pub control: Option<String>,
    #[serde(default)]
    pub word: Option<String>,
}

impl Addresses {
    fn path(data: &Path) -> PathBuf {
        data.join("instance.json")
    }

    /// Writes them where only the owner of the folder reads them: they say how to give orders.
    fn note(&self, data: &Path) -> std::io::Result<()> {
        atomic::replace(&Self::path(data), &serde_json::to_vec_pretty(self)?)
    }

    /// The same on a disk that had no room for it: the instance serves meanwhile, though the command line does not find it.
    async fn note_when_there_is_room(self, data: PathBuf, mut stopped: watch::Receiver<bool>) {
        while tokio::time::timeout(NOTE_AGAIN, stopped.wait_for(|stop| *stop)).await.is_err() {
            if self.note(&data).is_ok() {
                return;
            }
        }
    }

    /// What a running instance noted; none if none runs there, as far as the folder tells.
    pub fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(data)).ok()?).ok()
    }
}

/// Sources, pump and servers.
pub struct Instance {
    pub addresses: Addresses,
    pub status: Arc<Status>,
    pub reader: Arc<InstanceReader>,
    pub inbox: mpsc::Sender<Message>,
    /// Who applies the project on disk; none where the options by which it is found are not known.
    pub applier: Option<Arc<Applier>>,
    stop: Arc<AtomicBool>,
    shutdown: watch::Sender<bool>,
    pump: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
    servers: Vec<tokio::task::JoinHandle<()>>,
    sources: Arc<Roster>,
    data: PathBuf,
    /// Where the protocols run.
    _protocols: Threads,
}

impl Instance {
    /// Starts serving and following. The warehouse is open; its models are built as their tables are complete.
    /// With the options by which its project was found it takes orders. HTTP is served on what is listened on already, if anything.
    pub async fn start(
        setup: &Setup,
        mut warehouse: Warehouse,
        feeds: Vec<PlannedFeed>,
        global: Option<Arc<Global>>,
        http: Option<TcpListener>,
    ) -> anyhow::Result<Self> {
        follow::skip_loads(&feeds, &mut warehouse);
        let runtime = tokio::runtime::Handle::current();
        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        let status = Status::new(warehouse.engine.store().clone());
        let limits = serve::Limits::default();
        note_settings(setup, &status);
        status.facts().personal = crate::grants::declared(&setup.project);
        match Book::read(&setup.data) {
            Ok(book) => status.facts().reconciled = book,
            Err(error) => tracing::warn!("{error:#}"),
        }
        {
            let known: Vec<&TableName> = warehouse.engine.tables().map(|table| &table.name).collect();
            let absent = warehouse.absent.iter().map(|table| &table.name);
            let broken = setup.project.broken_connections.keys().map(String::as_str);
            let sources = feeds.iter().map(|feed| feed.name.as_str()).chain(broken);
            let models = warehouse.serving.models.iter().map(|model| &model.name);
            Ages::read(&setup.data).recall(&mut status.facts(), sources, known.into_iter().chain(absent), models);
        }
        for table in &warehouse.absent {
            follow::note_parked(&status, table);
        }
        // What there is of their tables grows old, whoever reads it.
        for (name, place) in &setup.project.broken_connections {
            let reason = format!(
                "its connection is declared with a mistake ({place})\nHint: `tidemill check` says which; `tidemill apply` takes it when \
                 that is mended, and so does a restart."
            );
            status.facts().sources.entry(name.clone()).or_default().go_to("stalled", reason, clock.now_us());
        }
        let grants = Arc::new(Grants::of(&setup.project, setup.half_read()));
        let reader = Arc::new(InstanceReader {
            status: Arc::clone(&status),
            queries: Arc::clone(&warehouse.queries),
            clock: Arc::clone(&clock),
            lanes: Lanes::new(limits.running)?,
            grants: Arc::clone(&grants),
        });
        let profile = &setup.project.profile;
        let desk = if global.is_some() { Some(Desk::open().await?) } else { None };
        let (control, word) = desk.as_ref().map(Desk::address).transpose()?.unzip();
        let audit = status.audit(|| Audit::open(&setup.data, Arc::clone(&clock)));
        let door = users::door(setup, word.as_deref(), &audit)?;
        let protocols = Threads::of_protocols()?;
        // A socket belongs to the threads on which it was made.
        let bound = |listen: ListenSpec| {
            protocols.handle().spawn(async move { serve::bind(&listen.addr.to_string(), listen.explicit).await })
        };
        let pg = bound(profile.pg).await??;
        let http = match http {
            Some(http) => {
                let moved = http.into_std()?;
                protocols.handle().spawn(async move { TcpListener::from_std(moved) }).await??
            }
            None => bound(profile.http).await??,
        };
        let addresses = Addresses {
            pid: std::process::id(),
            pg: pg.local_addr()?.to_string(),
            http: http.local_addr()?.to_string(),
            control,
            word,
        };
        let noted = addresses.note(&setup.data);
        let is_noted = noted.is_ok();
        match noted {
            Err(error) if atomic::is_full(&error) => {
                tracing::error!(%error, "the command line does not find this instance until there is room in the data folder");
            }
            noted => noted.context("cannot note the addresses in the data folder")?,
        }
        let site = Site {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            project: setup.project.name.clone(),
            schema: setup.project.profile.schema.clone(),
            pg: addresses.pg.clone(),
        };
        let answers = Arc::clone(&reader) as Arc<dyn serve::Reader>;
        let dashboards = crate::dashboards::of(&setup.project);
        let service = Service::behind(Arc::clone(&door), answers, limits, site, dashboards);
        let (shutdown, stopped) = watch::channel(false);
        let (inbox, mut outbox) = mpsc::channel(2);
        let stop = Arc::new(AtomicBool::new(false));
        let outlet = Outlet {
            inbox: inbox.clone(),
            status: Arc::clone(&status),
            clock: Arc::clone(&clock),
            stopped: stopped.clone(),
            marks: Arc::new(Marks::of(&setup.data)),
        };
        let sources = Arc::new(Roster::start(feeds, &warehouse, outlet));
        let clock_of_keeper = Arc::clone(&clock);
        let outboxes = warehouse.engine.outboxes();
        let mut pump = Pump::new(warehouse, Arc::clone(&status), clock, Arc::clone(&stop), runtime);
        let wanted = Arc::new(Wanted::of(setup));
        pump.deliver(Arc::clone(&wanted), &inbox, stopped.clone())?;
        let page = Arc::clone(&service);
        // Whoever came before waits: now there is something to read by, and no name is unknown that is not.
        let mut servers = vec![
            protocols.handle().spawn(serve::serve_pg(pg, Arc::clone(&service), until(stopped.clone()))),
            protocols.handle().spawn(serve::serve_http(http, service, until(stopped.clone()))),
        ];
        if !is_noted {
            let later = addresses.clone().note_when_there_is_room(setup.data.clone(), stopped.clone());
            servers.push(tokio::spawn(later));
        }
        servers.push(tokio::spawn(ages::keep(setup.data.clone(), Arc::clone(&status), stopped.clone())));
        servers.push(tokio::spawn(stale::keep(Arc::clone(&status), Arc::clone(&clock_of_keeper), stopped.clone())));
        servers.push(tokio::spawn(delivery::figures::keep(Arc::clone(&status), outboxes, stopped.clone())));
        let again = follow::load_again(Arc::clone(&sources), Arc::clone(&status), stopped.clone());
        servers.push(tokio::spawn(again));
        let applier = global.map(|global| {
            Arc::new(Applier {
                inbox: inbox.clone(),
                global,
                started: Arc::new(setup.clone()),
                status: Arc::clone(&status),
                sources: Arc::clone(&sources),
                turn: tokio::sync::Mutex::default(),
                grants,
                service: page,
                syncs: std::sync::Mutex::new(wanted),
            })
        });
        if let (Some(desk), Some(applier)) = (desk, &applier) {
            let (inbox, status, applier) = (inbox.clone(), Arc::clone(&status), Arc::clone(applier));
            let global = Arc::clone(&applier.global);
            let keeper = Keeper::new(inbox.clone(), Arc::clone(&status), clock_of_keeper, global, setup.data.clone());
            let keeper = Arc::new(keeper);
            let (by_itself, spec, ends) = (Arc::clone(&keeper), profile.reconcile, stopped.clone());
            servers.push(tokio::spawn(async move { by_itself.by_itself(spec, ends).await }));
            let (repaired, ends) = (Arc::clone(&keeper), stopped.clone());
            servers.push(tokio::spawn(async move { repaired.look_at_repaired(spec.share, ends).await }));
            let attendant = Attendant { inbox, status, applier, keeper, door, audit };
            servers.push(tokio::spawn(desk.serve(attendant, stopped)));
        }
        let thread = std::thread::Builder::new()
            .name("pump".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || pump.run(&mut outbox))?;
        Ok(Self {
            addresses,
            status,
            reader,
            inbox,
            applier,
            stop,
            shutdown,
            pump: Some(thread),
            servers,
            sources,
            data: setup.data.clone(),
            _protocols: protocols,
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
        self.sources.ended().await;
        let pump = self.pump.take();
        let mut ending = tokio::task::spawn_blocking(move || pump.map(std::thread::JoinHandle::join));
        let ended = match tokio::time::timeout(LAST_FOLD, &mut ending).await {
            Ok(ended) => ended?,
            Err(_) => {
                // A commit that waits for room on a full disk, or a long fold, waits no longer.
                self.status.store().close();
                ending.await?
            }
        };
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

/// How often it is tried to note the addresses.
const NOTE_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);
/// How long the last fold may take at a stop.
const LAST_FOLD: std::time::Duration = std::time::Duration::from_secs(3);

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same as its word.
    stopped.wait_for(|stop| *stop).await.map(|_| ()).ok();
}

fn note_settings(setup: &Setup, status: &Status) {
    let profile = &setup.project.profile;
    let mut facts = status.facts();
    let places = setup.project.connections.iter().map(|of| (of.name.clone(), of.place.to_string()));
    facts.declared_at = places.collect();
    let addresses = setup.project.connections.iter();
    facts.addresses = addresses.map(|of| (of.name.clone(), address::words(&sources::settings(of)))).collect();
    facts.backlog_max = Bounds {
        age_us: i64::from(profile.backlog.seconds) * 1_000_000,
        // What is more than a number can say is no bound.
        bytes: i64::try_from(profile.backlog.bytes).unwrap_or(i64::MAX),
    };
    let backlog = format!("{} s or {} bytes", profile.backlog.seconds, profile.backlog.bytes);
    facts.settings = [
        ("project", setup.project.name.clone(), "Name of the dbt project."),
        ("target", profile.target.clone(), "Chosen output of profiles.yml."),
        ("data", setup.data.display().to_string(), "Folder of everything durable."),
        ("workers", profile.workers.map_or("default".to_owned(), |w| w.to_string()), "Threads for large steps."),
        ("backlog", backlog, "How far a source may be behind before it is said."),
        ("memory", profile.memory.map_or("default".to_owned(), |m| m.to_string()), "Bytes of state kept in memory."),
    ]
    .map(|(name, value, description)| (name.to_owned(), value, description.to_owned()))
    .to_vec();
}
