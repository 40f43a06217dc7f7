//! What an outage of one side, and a flood, do to the others: figures, and that nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::Rng;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::canary::{self, Canary, Times};
use super::sides::Away;
use super::stock::Stock;
use super::{Scene, number, size};
use crate::Walk;
use crate::instance::Instance;

/// Rows of one transaction.
const ROWS: usize = 100;
/// How often a canary flies.
const CANARY: Duration = Duration::from_millis(500);
/// Rows a second of what is small beside a flood.
const SMALL_RATE: usize = 200;
/// How long all may take to be level again.
const LEVEL_MAX: Duration = Duration::from_secs(900);

/// One side is away for a while, at a rate of rows that change.
pub(super) async fn outage(walk: &Walk) -> Result<(), String> {
    let length = Duration::from_secs(number("WALK_OUTAGE", 60)?);
    let rate = size(number("WALK_RATE", 1_000)?)?;
    let of = std::env::var("WALK_OF").unwrap_or_else(|_| "kafka".to_owned());
    let mut scene = Scene::open(walk, 0, "512MiB").await?;
    scene.server(&of)?;
    scene.instance.start()?;
    scene.check().await?;
    let mut canary = Canary::open(&scene.there, &of).await?;
    let steady = Steady::start(&scene.stock, Rng::new(walk.seed), rate);
    eprintln!("outage: {of} for {} s at {rate} rows/s; before it: {}", length.as_secs(), weight(&scene.instance)?);
    let mut measured = Measured::begin(&steady);
    measured.go_on(&scene, &mut canary, Duration::from_secs(10)).await?;
    eprintln!("outage: with all sides there: {}", measured.told(&steady));
    let mut measured = Measured::begin(&steady);
    let away = match std::env::var("WALK_AWAY").as_deref() {
        Ok("frozen") => Away::Frozen,
        Ok("killed") => Away::Killed,
        _ => Away::Stopped,
    };
    scene.server(&of)?.leave(away)?;
    // Its memory and disk are told ten times.
    for _ in 0..10 {
        measured.go_on(&scene, &mut canary, length / 10).await?;
        eprintln!("outage:   {:.0} s: {}", measured.begun.elapsed().as_secs_f64(), weight(&scene.instance)?);
    }
    eprintln!("outage: while {of} is away ({away:?}): {}", measured.told(&steady));
    for row in scene
        .instance
        .rows("select sync, state, backlog_rows, backlog_bytes, oldest_seconds from tidemill.deliveries")
        .await?
    {
        eprintln!("outage:   {}", row.join(" | "));
    }
    scene.server(&of)?.come_back(away)?;
    let mut measured = Measured::begin(&steady);
    // It is level while changes go on.
    while !is_level(&scene.instance, &of).await? {
        if measured.begun.elapsed() > LEVEL_MAX {
            return Err("it does not get level".to_owned());
        }
        measured.go_on(&scene, &mut canary, CANARY).await?;
    }
    eprintln!(
        "outage: level {:.1} s after it was back, while changes went on: {}; {}",
        measured.begun.elapsed().as_secs_f64(),
        measured.told(&steady),
        weight(&scene.instance)?
    );
    steady.end().await?;
    scene.check().await?;
    scene.close().await
}

/// So many rows change in one transaction, and go to every kind of side; small changes of other syncs go on.
pub(super) async fn flood(walk: &Walk) -> Result<(), String> {
    let rows = size(number("WALK_FLOOD", 100_000)?)?;
    let mut scene = Scene::open(walk, rows, "1GiB").await?;
    scene.instance.start()?;
    let begun = Instant::now();
    scene.check().await?;
    eprintln!(
        "flood: {rows} rows loaded and delivered in {:.0} s; {}",
        begun.elapsed().as_secs_f64(),
        weight(&scene.instance)?
    );
    let mut canary = Canary::open(&scene.there, "").await?;
    let steady = Steady::start(&scene.stock, Rng::new(walk.seed), SMALL_RATE);
    let mut measured = Measured::begin(&steady);
    measured.go_on(&scene, &mut canary, Duration::from_secs(10)).await?;
    eprintln!("flood: before it: {}", measured.told(&steady));
    let begun = Instant::now();
    scene.stock.lock().await.flood().await?;
    eprintln!("flood: the source took {:.0} s for it", begun.elapsed().as_secs_f64());
    let mut measured = Measured::begin(&steady);
    loop {
        measured.go_on(&scene, &mut canary, CANARY).await?;
        let left = "select count(*) from wares where version = 3";
        let left = scene.instance.rows(left).await?.first().map(|row| row[0].clone());
        if left.as_deref() == Some("0") && is_level(&scene.instance, "wares").await? {
            break;
        }
        if measured.begun.elapsed() > LEVEL_MAX {
            return Err("it does not get level".to_owned());
        }
    }
    eprintln!(
        "flood: delivered everywhere {:.0} s after its commit; meanwhile: {}; {}",
        measured.begun.elapsed().as_secs_f64(),
        measured.told(&steady),
        weight(&scene.instance)?
    );
    steady.end().await?;
    scene.check().await?;
    scene.close().await
}

/// Rows that change at a rate.
struct Steady {
    is_over: Arc<AtomicBool>,
    changed: Arc<AtomicUsize>,
    task: JoinHandle<Result<(), String>>,
}

impl Steady {
    fn start(stock: &Arc<Mutex<Stock>>, mut rng: Rng, rate: usize) -> Self {
        let (is_over, changed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stock, seen, counted) = (Arc::clone(stock), Arc::clone(&is_over), Arc::clone(&changed));
        let rows = ROWS.min(rate);
        let pause = Duration::from_secs(1).mul_f64(rows as f64 / rate as f64);
        let task = tokio::spawn(async move {
            // What a slow source does not take in time is not made up for.
            let mut ticks = tokio::time::interval(pause);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !seen.load(Ordering::Acquire) {
                ticks.tick().await;
                stock.lock().await.some(&mut rng, rows).await?;
                counted.fetch_add(rows, Ordering::AcqRel);
            }
            Ok(())
        });
        Self { is_over, changed, task }
    }

    async fn end(self) -> Result<(), String> {
        self.is_over.store(true, Ordering::Release);
        self.task.await.map_err(|e| e.to_string())?
    }
}

/// What was seen in a while.
struct Measured {
    begun: Instant,
    times: Times,
    changed_before: usize,
    rss_mib_max: u64,
}

impl Measured {
    fn begin(steady: &Steady) -> Self {
        let changed_before = steady.changed.load(Ordering::Acquire);
        Self { begun: Instant::now(), times: Times::new(), changed_before, rss_mib_max: 0 }
    }

    /// Canaries fly for a while.
    async fn go_on(&mut self, scene: &Scene, canary: &mut Canary, length: Duration) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < length {
            let flown = Instant::now();
            let version = scene.stock.lock().await.canary().await?;
            canary.see(version, &mut self.times).await?;
            self.rss_mib_max = self.rss_mib_max.max(resident_mib(&scene.instance)?.0);
            tokio::time::sleep(CANARY.saturating_sub(flown.elapsed())).await;
        }
        Ok(())
    }

    fn told(&self, steady: &Steady) -> String {
        let changed = steady.changed.load(Ordering::Acquire) - self.changed_before;
        let rate = changed as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        format!("{rate:.0} rows/s changed, at most {} MiB resident; {}", self.rss_mib_max, canary::told(&self.times))
    }
}

/// Whether the syncs of a side, or those whose name has this word, have delivered all but what has just come.
async fn is_level(instance: &Instance, of: &str) -> Result<bool, String> {
    let asked = format!(
        "select count(*) from tidemill.deliveries where (destination = '{of}' or sync like '%{of}%') \
         and (state <> 'live' or oldest_seconds > 1)"
    );
    Ok(instance.rows(&asked).await?.first().is_some_and(|row| row[0] == "0"))
}

/// Resident memory, now and at most.
fn resident_mib(instance: &Instance) -> Result<(u64, u64), String> {
    let pid = instance.pid().ok_or("nothing runs")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| e.to_string())?;
    let of = |word: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    Ok((of("VmRSS:"), of("VmHWM:")))
}

/// Memory and disk that the instance has.
fn weight(instance: &Instance) -> Result<String, String> {
    let (now, most) = resident_mib(instance)?;
    Ok(format!("{now} MiB resident (at most {most}), {} MiB on disk", instance.disk_bytes() >> 20))
}
