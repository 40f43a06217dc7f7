//! Deliveries, counted: each change is everywhere exactly once, whatever dies meanwhile.
//!
//! A stock changes at random ([`stock`]), models over it are delivered to every kind of destination ([`targets`]), the instance is
//! killed with SIGKILL at random moments, and where the servers are this walk's own each of them, the source too, is frozen, killed
//! and stopped for a while ([`sides`]). At checkpoints, when everything is back and no sync says that it has something to deliver, each
//! place has exactly the rows that the source's own server answers to the model's SQL, and all that was ever written there keeps the
//! laws of [`laws`]: topics by their committed messages, databases by triggers of their tables.
//!
//! ```text
//! scripts/deliveries [--kills N] [--stops N] [--stop-seconds S] [--seconds S] [--seed N]
//! scripts/deliveries --outage SECONDS [--of SIDE] [--rate N]       one side is away: see `outage`
//! scripts/deliveries --flood ROWS                                  so many rows change at once: see `flood`
//! ```

mod canary;
mod laws;
mod outage;
mod sides;
mod stock;
mod targets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::Rng;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::instance::{Instance, PATIENCE};
use crate::{Walk, compare};
use laws::Laws;
use sides::{Away, Server};
use stock::Stock;
use targets::{FLOODED, MODELS, SIDES, TARGETS, Target, There};

/// How it goes, as the environment says.
struct Plan {
    kills: usize,
    /// How often each server is away, and for how long.
    stops: usize,
    stop: Duration,
    length: Duration,
    /// Pause between two transactions.
    pause_ms: usize,
}

fn number(name: &str, usual: u64) -> Result<u64, String> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name} is no number: {text}")),
        Err(_) => Ok(usual),
    }
}

fn size(n: u64) -> Result<usize, String> {
    usize::try_from(n).map_err(|e| e.to_string())
}

impl Plan {
    fn of(walk: &Walk) -> Result<Self, String> {
        let stops = size(number("WALK_STOPS", 0)?)?;
        Ok(Self {
            kills: walk.kills,
            stops,
            stop: Duration::from_secs(number("WALK_STOP_SECONDS", 10)?),
            length: Duration::from_secs(number("WALK_SECONDS", 12)?),
            pause_ms: size(number("WALK_PAUSE_MS", 20)?)?,
        })
    }

    /// What happens when, the first first.
    fn timeline(&self, rng: &mut Rng) -> Result<Vec<(Duration, Event)>, String> {
        let ms = |duration: Duration| size(u64::try_from(duration.as_millis()).map_err(|e| e.to_string())?);
        let (length, stop) = (ms(self.length)?, ms(self.stop)?);
        let at = |at: usize| Duration::from_millis(at as u64);
        let mut events: Vec<(Duration, Event)> = Vec::new();
        // The first kills fall into the first load and the first deliveries.
        let early = self.kills.div_ceil(4);
        events.extend((0..early).map(|_| (at(rng.below((length / 4).clamp(1, 8_000))), Event::Kill)));
        events.extend((early..self.kills).map(|_| (at(rng.below(length)), Event::Kill)));
        for side in SIDES.iter().copied().chain([SOURCE]) {
            for turn in 0..self.stops {
                let (from, to) = (length * turn / self.stops, length * (turn + 1) / self.stops);
                let room = (to - from).checked_sub(stop + 2_000).ok_or("the stops take longer than all of it")?;
                let begin = from + 1_000 + rng.below(room.max(1));
                let away = *rng.pick(&[Away::Frozen, Away::Killed, Away::Stopped]);
                events.push((at(begin), Event::Leave(side, away)));
                events.push((at(begin + stop), Event::ComeBack(side, away)));
            }
        }
        events.sort_by_key(|(at, _)| *at);
        Ok(events)
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Kill,
    Leave(&'static str, Away),
    ComeBack(&'static str, Away),
}

/// The source among the sides.
const SOURCE: &str = "source";

/// All that takes part.
struct Scene {
    stock: Arc<Mutex<Stock>>,
    source: Server,
    there: There,
    instance: Instance,
    syncs: Vec<&'static Target>,
    /// How long all may take to be delivered.
    patience: Duration,
}

impl Scene {
    /// Servers of this walk's own are those with `:counts` in their names; without them nobody's server is stopped.
    async fn open(walk: &Walk, flood: usize, memory: &str) -> Result<Self, String> {
        let is_own = std::env::var("WALK_OWN").is_ok_and(|own| own == "1");
        let named = |kind: &str| if is_own { format!("{kind}:counts") } else { kind.to_owned() };
        let source =
            Server::of(&if is_own { format!("{}:counts-source", walk.server) } else { walk.server.to_owned() })?;
        let mut servers = BTreeMap::new();
        for side in SIDES {
            servers.insert(side, Server::of(&named(side))?);
        }
        let database = format!("tidemill_stock_{}", walk.server);
        let there = There::open(servers, &format!("tidemill_deliveries_{}", walk.server))?;
        let stock = Stock::open(source.clone(), &database, flood).await?;
        let instance = Instance::over(source.port, &database, stock::TABLES)?;
        let connection = format!(
            "shop: {{type: mysql, host: 127.0.0.1, port: {}, user: root, database: {database}}}\n{}",
            source.port,
            there.connections()?
        );
        instance.write("connections.yml", &connection)?;
        let address = "'127.0.0.1:0'";
        instance.write(
            "profiles.yml",
            &format!("walk:\n  target: dev\n  outputs:\n    dev: {{type: tidemill, schema: public, memory: {memory}, pg: {address}, http: {address}}}\n"),
        )?;
        let flooded: &[Target] = if flood > 0 { FLOODED } else { &[] };
        let syncs: Vec<&'static Target> = TARGETS.iter().chain(flooded).collect();
        for model in MODELS {
            instance.put_model(model.name, model.sql)?;
        }
        for sync in &syncs {
            instance.write(&format!("syncs/{}.yml", sync.sync), &there.file(sync))?;
        }
        let patience = PATIENCE + Duration::from_millis(flood as u64);
        Ok(Self { stock: Arc::new(Mutex::new(stock)), source, there, instance, syncs, patience })
    }

    fn server(&self, side: &str) -> Result<&Server, String> {
        match side {
            SOURCE => Ok(&self.source),
            _ => self.there.servers.get(side).ok_or_else(|| format!("there is no {side}")),
        }
    }

    /// Everything is where it belongs, while nothing changes at the source.
    async fn check(&mut self) -> Result<(), String> {
        let stock = Arc::clone(&self.stock);
        let mut stock = stock.lock().await;
        let mark = stock.mark().await?;
        self.instance.wait_for_mark(mark).await?;
        self.settle().await?;
        let mut trouble = String::new();
        let mut written = 0;
        for target in &self.syncs {
            let theirs = stock.rows(&targets::asked_of_source(target)).await?;
            let mut laws = Laws::default();
            let ours = self.there.rows(target, &mut laws)?;
            compare(target.sync, &There::shown(target, theirs), &ours, &mut trouble);
            trouble.push_str(&laws.trouble(target.sync));
            written += laws.written;
        }
        for row in self.instance.rows("select node, reason from tidemill.rejects").await? {
            trouble.push_str(&format!("rejected: {}\n", row.join(" | ")));
        }
        eprintln!("deliveries: {} transactions, {written} writes that were counted", stock.done);
        if trouble.is_empty() { Ok(()) } else { Err(format!("{trouble}{}", self.instance.log_end())) }
    }

    /// Waits until each sync has delivered all that can be read now. That it has nothing to deliver may be half a second old: it counts as
    /// of the step that it says.
    async fn settle(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        let steps = self.instance.rows("select max(step) from tidemill.steps").await?;
        let step = steps.first().ok_or("no step")?[0].clone();
        let step: u64 = step.parse().map_err(|_| format!("no step: {step}"))?;
        let asked = "select sync, state, backlog_rows, message, step from tidemill.deliveries";
        let is_there = |row: &Vec<String>| {
            row[1] == "live" && row[2] == "0" && row[4].parse::<u64>().is_ok_and(|delivered| delivered >= step)
        };
        loop {
            let said = self.instance.rows(asked).await;
            let is_all = said.as_ref().is_ok_and(|rows| rows.len() == self.syncs.len() && rows.iter().all(is_there));
            if is_all {
                return Ok(());
            }
            self.instance.is_running()?;
            if begun.elapsed() > self.patience {
                let told = said?.iter().map(|row| row.join(" | ")).collect::<Vec<_>>().join("\n");
                return Err(format!("not everything is delivered:\n{told}\n{}", self.instance.log_end()));
            }
            crate::pause(50).await;
        }
    }

    async fn close(mut self) -> Result<(), String> {
        self.instance.stop()?;
        self.there.forget()?;
        let stock = Arc::try_unwrap(self.stock).map_err(|_| "the stream still runs")?;
        stock.into_inner().close().await
    }
}

/// Transactions that come by themselves.
struct Stream {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<Result<(), String>>,
}

impl Stream {
    fn start(stock: &Arc<Mutex<Stock>>, mut rng: Rng, pause_ms: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (stock, seen) = (Arc::clone(stock), Arc::clone(&is_over));
        let task = tokio::spawn(async move {
            while !seen.load(Ordering::Acquire) {
                stock.lock().await.act(&mut rng).await?;
                crate::pause(rng.below(2 * pause_ms + 1)).await;
            }
            Ok(())
        });
        Self { is_over, task }
    }

    fn has_failed(&self) -> bool {
        self.task.is_finished()
    }

    async fn end(self) -> Result<(), String> {
        self.is_over.store(true, Ordering::Release);
        self.task.await.map_err(|e| e.to_string())?
    }
}

/// One walk from its beginning to its end.
pub(crate) async fn deliveries(walk: &Walk) -> Result<(), String> {
    if std::env::var_os("WALK_OUTAGE").is_some() {
        return outage::outage(walk).await;
    }
    if std::env::var_os("WALK_FLOOD").is_some() {
        return outage::flood(walk).await;
    }
    let plan = Plan::of(walk)?;
    let mut rng = Rng::new(walk.seed);
    let mut scene = Scene::open(walk, 0, "512MiB").await?;
    scene.instance.start()?;
    let timeline = plan.timeline(&mut rng)?;
    let stream = Stream::start(&scene.stock, Rng::new(walk.seed + 1), plan.pause_ms);
    let begun = Instant::now();
    let mut is_checked = false;
    let mut away = 0_usize;
    for (at, event) in timeline {
        while begun.elapsed() < at && !stream.has_failed() {
            crate::pause(20).await;
        }
        match event {
            Event::Kill => {
                scene.instance.kill()?;
                crate::pause(rng.below(500)).await;
                scene.instance.start()?;
            }
            Event::Leave(side, how) => {
                eprintln!("deliveries: {:.0} s: {side} is {how:?}", begun.elapsed().as_secs_f64());
                scene.server(side)?.leave(how)?;
                away += 1;
            }
            Event::ComeBack(side, how) => {
                scene.server(side)?.come_back(how)?;
                eprintln!("deliveries: {:.0} s: {side} is back", begun.elapsed().as_secs_f64());
                away -= 1;
            }
        }
        if !is_checked && away == 0 && at > plan.length / 2 {
            is_checked = true;
            scene.check().await.map_err(|e| format!("after {:.0} s: {e}", begun.elapsed().as_secs_f64()))?;
        }
    }
    while begun.elapsed() < plan.length && !stream.has_failed() {
        crate::pause(20).await;
    }
    stream.end().await?;
    scene.check().await.map_err(|e| format!("at the end: {e}"))?;
    // Nothing is sent again because somebody looks once more.
    scene.instance.stop()?;
    scene.instance.start()?;
    scene.check().await.map_err(|e| format!("after a clean restart: {e}"))?;
    scene.close().await
}
