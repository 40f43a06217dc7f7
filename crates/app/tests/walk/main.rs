//! A walk on real servers: a shop that does at random what shops do, and an instance that is killed at random meanwhile.
//!
//! A project of plain models over tables with and without keys is started on a filled database and killed while it loads;
//! then the actions come, with `kill -9` and restarts between and during them. The project changes meanwhile and is applied, and
//! rolled back, and some of the kills fall into an apply. At checkpoints, when the instance has
//! caught up, every table equals the server's own, every model of the project on disk the server's own answer to the same SQL, and
//! `reconcile models` says equal.
//!
//! The storm ([`storm`]) is the same over tables whose columns and names change all the time. The types ([`types`]) are tables of
//! random columns with the edges of every type, a seed at a time. The deliveries ([`deliveries`]) count what is written to each kind
//! of destination.
//!
//! ```text
//! scripts/walk [--storm | --types] [--server mysql|mariadb] [--actions N] [--kills N] [--seed N]
//! scripts/deliveries …                          the deliveries, with servers of their own
//! SLOW=1 cargo test -p app --test walk          a short one of each on each server
//! TIDEMILL=PATH …                               another binary than the one just built
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test that may panic, with deadlines of its own, that says what it does"
)]

mod deliveries;
mod instance;
mod models;
mod server;
mod shop;
mod storm;
mod types;

use instance::Instance;
use libtest_mimic::{Arguments, Failed, Trial};
use shop::Shop;
use testkit::Rng;

fn main() {
    let arguments = Arguments::from_args();
    let slow = std::env::var("SLOW").is_ok_and(|v| v == "1");
    let wanted = std::env::var("WALK_SERVER").ok();
    let servers = ["mysql", "mariadb"].into_iter().filter(|s| wanted.as_deref().is_none_or(|wanted| wanted == *s));
    // The deliveries count all that is written to a server: they want servers that nobody else writes to.
    let has_own = std::env::var_os("WALK_OWN").is_some();
    let trials = servers.flat_map(|server| {
        let stories = [Story::Walk, Story::Storm, Story::Types, Story::Deliveries];
        stories.into_iter().filter(|story| has_own || !matches!(story, Story::Deliveries)).map(move |story| {
            let walk = move || Walk::of(server, story).and_then(|walk| walk.run()).map_err(Failed::from);
            Trial::test(format!("{} on {server}", story.name()), walk).with_ignored_flag(!slow)
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit()
}

/// What happens in a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// Rows change, and the project.
    Walk,
    /// Rows change, and the tables.
    Storm,
    /// Values of all types come in all ways.
    Types,
    /// Rows are delivered.
    Deliveries,
}

impl Story {
    fn name(self) -> &'static str {
        match self {
            Self::Walk => "walk",
            Self::Storm => "storm",
            Self::Types => "types",
            Self::Deliveries => "deliveries",
        }
    }
}

/// How long the walk is, and by which seed.
struct Walk {
    server: &'static str,
    story: Story,
    actions: usize,
    kills: usize,
    seed: u64,
}

impl Walk {
    fn of(server: &'static str, story: Story) -> Result<Self, String> {
        let number = |name: &str, usual: u64| match std::env::var(name) {
            Ok(text) => text.parse::<u64>().map_err(|_| format!("{name} is no number: {text}")),
            Err(_) => Ok(usual),
        };
        let size = |n: u64| usize::try_from(n).map_err(|e| e.to_string());
        Ok(Self {
            server,
            story,
            actions: size(number("WALK_ACTIONS", 60)?)?,
            kills: size(number("WALK_KILLS", 3)?)?,
            seed: number("WALK_SEED", 1)?,
        })
    }

    fn run(self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| e.to_string())?;
        let Self { server, actions, kills, seed, .. } = self;
        let again = match self.story {
            Story::Walk => format!("scripts/walk --server {server} --actions {actions} --kills {kills} --seed {seed}"),
            Story::Storm => {
                format!("scripts/walk --storm --server {server} --actions {actions} --kills {kills} --seed {seed}")
            }
            Story::Types => format!("scripts/walk --types --server {server} --seed {seed}"),
            Story::Deliveries => format!("scripts/deliveries --server {server} --kills {kills} --seed {seed}"),
        };
        eprintln!("{}: {again}", self.story.name());
        let walked = async {
            match self.story {
                Story::Walk => self.walk().await,
                Story::Storm => storm::storm(&self).await,
                Story::Types => types::types(&self).await,
                Story::Deliveries => deliveries::deliveries(&self).await,
            }
        };
        runtime.block_on(walked).map_err(|e| format!("{e}\nAgain with: {again}"))
    }

    async fn walk(&self) -> Result<(), String> {
        let mut rng = Rng::new(self.seed);
        let mut shop = Shop::open(self.server, &mut rng).await?;
        let mut instance = Instance::new(&shop)?;
        instance.start()?;
        // The first kills fall into the first load.
        let in_load = (self.kills / 5).max(1).min(self.kills);
        for _ in 0..in_load {
            pause(rng.below(900)).await;
            shop.act(&mut rng).await?;
            instance.kill()?;
            instance.start()?;
        }
        let mut kills = kill_points(&mut rng, self.actions, self.kills - in_load);
        let every = (self.actions / 10).clamp(10, 100);
        for action in 0..self.actions {
            let done = shop.act(&mut rng).await.map_err(|e| format!("action {action}: {e}"))?;
            if std::env::var_os("WALK_TRACE").is_some() {
                eprintln!("walk: {action}: {done}");
            }
            if rng.chance(4) {
                apply(&mut rng, &mut instance).await.map_err(|e| format!("action {action}: {e}"))?;
            }
            while kills.last() == Some(&action) {
                kills.pop();
                let mut order = None;
                if rng.chance(50) {
                    let version = instance.project.version + 1;
                    instance.put(instance.project.changed(&mut rng, version))?;
                    order = Some(instance.order("apply")?);
                }
                pause(rng.below(400)).await;
                instance.kill()?;
                if let Some(order) = order {
                    // It may be done, or have lost the instance; it must end.
                    order.wait_with_output().map_err(|e| e.to_string())?;
                }
                if rng.chance(30) {
                    shop.act(&mut rng).await?;
                }
                instance.start()?;
            }
            if rng.chance(10) {
                pause(rng.below(120)).await;
            }
            if action % every == every - 1 {
                let place = format!("after {} actions", action + 1);
                check(&mut shop, &mut instance).await.map_err(|e| format!("{place}: {e}"))?;
                eprintln!("walk: {place}: equal");
            }
        }
        check(&mut shop, &mut instance).await.map_err(|e| format!("at the end: {e}"))?;
        // Once more as it comes back by itself.
        instance.stop()?;
        instance.start()?;
        check(&mut shop, &mut instance).await.map_err(|e| format!("after a clean restart: {e}"))?;
        instance.stop()?;
        shop.close().await
    }
}

/// Another project is applied; sometimes it is taken back.
async fn apply(rng: &mut Rng, instance: &mut Instance) -> Result<(), String> {
    // After a kill the project on disk gets into place by itself, and is what is gone back to then.
    instance.wait_for_version().await?;
    let before = instance.project.clone();
    instance.put(before.changed(rng, before.version + 1))?;
    instance.ordered("apply")?;
    instance.wait_for_version().await?;
    if rng.chance(30) {
        instance.ordered("rollback")?;
        instance.put(before)?;
        instance.wait_for_version().await?;
        // What is on disk is what serves: nothing happens by this.
        instance.ordered("apply")?;
    }
    Ok(())
}

/// After which actions the instance is killed, the last one first.
fn kill_points(rng: &mut Rng, actions: usize, kills: usize) -> Vec<usize> {
    let mut points: Vec<usize> = (0..kills).map(|_| rng.below(actions.max(1))).collect();
    points.sort_unstable_by(|a, b| b.cmp(a));
    points
}

async fn pause(ms: usize) {
    tokio::time::sleep(std::time::Duration::from_millis(ms as u64)).await;
}

/// All tables and models against the server, and the models against themselves.
async fn check(shop: &mut Shop, instance: &mut Instance) -> Result<(), String> {
    let mark = shop.mark().await?;
    instance.wait_for_version().await?;
    instance.wait_for_mark(mark).await?;
    let mut trouble = String::new();
    for table in shop::TABLES {
        let theirs = shop.rows(&format!("select * from {}", table.name)).await?;
        let ours = instance.rows(&format!("select * from shop.{}", table.name)).await?;
        compare(table.name, &theirs, &ours, &mut trouble);
    }
    for (name, sql, in_server) in instance.project.models() {
        if in_server {
            let theirs = shop.rows(&instance.project.for_server(&sql)).await?;
            let ours = instance.rows(&format!("select * from {name}")).await?;
            compare(name, &theirs, &ours, &mut trouble);
        }
    }
    for name in instance.project.absent() {
        if instance.rows(&format!("select * from {name}")).await.is_ok() {
            trouble.push_str(&format!("{name} is not in the project, and can be read\n"));
        }
    }
    for row in instance.rows("reconcile models").await? {
        if !row[2].starts_with('t') {
            trouble.push_str(&format!("reconcile models: {}\n", row.join(" | ")));
        }
    }
    let states = "select model, state, message from tidemill.models where state <> 'live'";
    for row in instance.rows(states).await? {
        trouble.push_str(&format!("not live: {}\n", row.join(" | ")));
    }
    if trouble.is_empty() { Ok(()) } else { Err(format!("{trouble}{}", instance.log_end())) }
}

type Rows = Vec<Vec<String>>;

/// Rows of both sides as sorted text; the first that differ are told.
fn compare(name: &str, theirs: &Rows, ours: &Rows, trouble: &mut String) {
    if theirs == ours {
        return;
    }
    trouble.push_str(&format!("{name}: {} rows in the server, {} here\n", theirs.len(), ours.len()));
    let (mut i, mut j, mut shown) = (0, 0, 0);
    while shown < 10 && (i < theirs.len() || j < ours.len()) {
        let order = match (theirs.get(i), ours.get(j)) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Equal => (i, j) = (i + 1, j + 1),
            std::cmp::Ordering::Less => {
                trouble.push_str(&format!("  server alone: {}\n", theirs[i].join(" | ")));
                (i, shown) = (i + 1, shown + 1);
            }
            std::cmp::Ordering::Greater => {
                trouble.push_str(&format!("  here alone:   {}\n", ours[j].join(" | ")));
                (j, shown) = (j + 1, shown + 1);
            }
        }
    }
}
