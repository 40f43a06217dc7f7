//! Random walks: tables, models and what comes about are made up by a seed, and the laws are held against all of it.
//!
//! ```text
//! cargo test -p engine --test walk                                   2,000 seeds
//! WALK_SEEDS=200000 cargo test --release -p engine --test walk       a night's worth (WALK_FROM: the first seed)
//! WALK_SEED=17 cargo test -p engine --test walk                      one seed, looked at after every act
//! WALK_WITHOUT=negzero,truncate …                                    without some of what a walk may do
//! WALK_SAVE=FOLDER …                                                 failing stories are saved there as cases
//! ```
//!
//! The laws stand in [`play`]. A walk that fails is made small ([`shrink`]) and printed as a case for `tests/cases`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../house/mod.rs"]
mod house;
mod ledger;
mod play;
mod server;
mod shrink;
mod sql;
mod tale;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use house::story::Act;
use house::{Host, House, Mode};
use libtest_mimic::{Arguments, Failed, Trial};
use play::{Cut, Failure, Looks, play};
use shrink::Shrinker;
use testkit::Rng;

/// What walks are to leave out, by name: `negzero`, `truncate`, `batches`, `loading`, `late`, `restart`, `bags`, `moves`,
/// `long`, `topk`, `union`, `residual`, `subqueries`, `filter`, `minmax`, `rejects`, `cuts`, `chains`, `beside`, `reload`,
/// `altered`, `unnest`, `shapes`, `unread`, `big`, `full`, `park`, `apply`.
#[derive(Clone, Default)]
pub(crate) struct Without(Arc<BTreeSet<String>>);

impl Without {
    fn of(list: &str) -> Self {
        Self(Arc::new(list.split(',').map(|word| word.trim().to_owned()).collect()))
    }

    pub(crate) fn has(&self, word: &str) -> bool {
        self.0.contains(word)
    }
}

/// Seeds of a trial.
const SEEDS_EACH: u64 = 100;
/// Failing stories of a trial that are made small: it takes some seconds each.
const SHRUNK_MAX: usize = 2;

fn main() {
    let arguments = Arguments::from_args();
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().unwrap());
    let without = Without::of(&std::env::var("WALK_WITHOUT").unwrap_or_default());
    // Panics are failures of a walk, and are told with it.
    std::panic::set_hook(Box::new(|_| {}));
    let trials = match number("WALK_SEED") {
        Some(seed) => vec![Trial::test(format!("seed {seed}"), move || one(seed, &without))],
        None => {
            let (first, seeds) = (number("WALK_FROM").unwrap_or(1), number("WALK_SEEDS").unwrap_or(2_000));
            let kinds: Kinds = Arc::default();
            let starts = (first..first + seeds).step_by(SEEDS_EACH.try_into().unwrap());
            let trial = |from: u64| {
                let until = (from + SEEDS_EACH).min(first + seeds);
                let (without, kinds) = (without.clone(), Arc::clone(&kinds));
                Trial::test(format!("seeds {from} to {}", until - 1), move || many(from..until, &without, &kinds))
            };
            let open = OPEN.iter().filter(|(seed, _)| (first..first + seeds).contains(seed));
            let open = open.map(|&(seed, fault)| {
                let without = without.clone();
                Trial::test(format!("open: seed {seed}, {fault}"), move || one(seed, &without)).with_ignored_flag(true)
            });
            starts.map(trial).chain(open).collect()
        }
    };
    libtest_mimic::run(&arguments, trials).exit()
}

/// Seeds that show faults which are known and not mended yet: they are shown as ignored, by name, and nothing else is.
const OPEN: &[(u64, &str)] = &[];

/// How often which kind of failure was seen; one of each is made small.
type Kinds = Arc<Mutex<BTreeMap<String, usize>>>;

/// How a seed's story is played.
#[derive(Clone, Copy)]
struct Way {
    mode: Mode,
    cut: Cut,
}

fn ways(seed: u64, without: &Without) -> Vec<Way> {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let mode = Mode { fold_built: rng.chance(70), in_rows: rng.chance(20), forgets_before: true, ..Mode::default() };
    let mut ways = vec![Way { mode, cut: Cut::AsTold }];
    if !without.has("cuts") {
        match rng.below(8) {
            0 => ways.push(Way { mode, cut: Cut::InOneStep }),
            1 => ways.push(Way { mode, cut: Cut::PieceByPiece }),
            _ => {}
        }
    }
    let mut mode = mode;
    mode.workers = 1 + rng.weighted(&[7, 2, 1]);
    mode.beside = usize::from(rng.chance(20) && !without.has("beside"));
    if !without.has("chains") {
        mode.emptied_rows_max = *rng.pick(&[1, 3, 50_000]);
        (mode.parts, mode.killed) = (rng.chance(15), rng.chance(30));
    }
    if !without.has("full") {
        mode.full_every = *rng.pick(&[0, 0, 0, 11, 17, 29]);
    }
    ways.iter_mut().for_each(|way| way.mode = mode);
    ways
}

/// The story of a seed, or the panic in which its telling ended.
fn told(seed: u64, without: &Without) -> Result<Vec<Act>, Failure> {
    let told = || {
        let acts = tale::told(seed, without);
        let mut rng = Rng::new(seed ^ 0xc4a1);
        ledger::mended(&if without.has("chains") { acts } else { tale::in_chains(&mut rng, acts) })
    };
    catch_unwind(AssertUnwindSafe(told)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let text = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
        Failure { kind: "panic while planning".to_owned(), text, act: 0 }
    })
}

fn many(seeds: std::ops::Range<u64>, without: &Without, kinds: &Kinds) -> Result<(), Failed> {
    let host = Host::new()?;
    let mut report = String::new();
    let mut shrunk = 0;
    for seed in seeds.filter(|seed| OPEN.iter().all(|(open, _)| open != seed)) {
        let Some((failure, acts, mode)) = failing(&host, seed, without) else { continue };
        let first = {
            let mut kinds = kinds.lock().unwrap();
            let count = kinds.entry(failure.kind.clone()).or_insert(0);
            *count += 1;
            *count <= 2
        };
        report.push_str(&format!("\nseed {seed}: {}\n", failure.kind));
        if first && shrunk < SHRUNK_MAX {
            shrunk += 1;
            report.push_str(&small(&host, seed, mode, acts, failure));
        }
    }
    if report.is_empty() { Ok(()) } else { Err(report.into()) }
}

/// The first way in which a seed's story fails: the failure, the acts as they were cut, and how they were played.
fn failing(host: &Host, seed: u64, without: &Without) -> Option<(Failure, Vec<Act>, Mode)> {
    let acts = match told(seed, without) {
        Ok(acts) => acts,
        Err(failure) => return Some((failure, Vec::new(), Mode::default())),
    };
    ways(seed, without).into_iter().find_map(|way| {
        let acts = ledger::mended(&way.cut.of(&acts));
        // Another cut is another way to the same end.
        let looks = if way.cut == Cut::AsTold { Looks::Some(seed) } else { Looks::AtEnd };
        let failure = play(host, &acts, way.mode, looks)?;
        Some((failure, acts, way.mode))
    })
}

fn one(seed: u64, without: &Without) -> Result<(), Failed> {
    let host = Host::new()?;
    let acts = told(seed, without).map_err(|failure| Failed::from(failure.text))?;
    if std::env::var_os("WALK_PRINT").is_some() {
        return Err(case(&host, Mode::default(), &acts).into());
    }
    for way in ways(seed, without) {
        let acts = ledger::mended(&way.cut.of(&acts));
        if let Some(failure) = play(&host, &acts, way.mode, Looks::All { states: true }) {
            return Err(small(&host, seed, way.mode, acts, failure).into());
        }
    }
    Ok(())
}

/// Makes a failing story small and tells it as a case.
fn small(host: &Host, seed: u64, mode: Mode, acts: Vec<Act>, failure: Failure) -> String {
    if acts.is_empty() {
        return failure.text;
    }
    let seconds = std::env::var("WALK_SHRINK_SECONDS").ok().and_then(|v| v.parse().ok()).unwrap_or(20);
    let (acts, failure) = Shrinker::new(host, mode, acts, failure, Duration::from_secs(seconds)).shrunk();
    let told: String = failure.text.lines().map(|line| format!("# {line}\n")).collect();
    let how = format!(
        "folded after builds: {}, built row by row: {}, beside the steps: {}, in parts: {}, emptied by {}, killed: {}, {} workers, full every {}",
        mode.fold_built,
        mode.in_rows,
        mode.beside,
        mode.parts,
        mode.emptied_rows_max,
        mode.killed,
        mode.workers,
        mode.full_every
    );
    let case = format!("# {}, seed {seed}; {how}\n{told}{}", failure.kind, case(host, mode, &acts));
    if let Ok(folder) = std::env::var("WALK_SAVE") {
        let kind: String = failure.kind.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).take(60).collect();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(format!("{folder}/{kind}-{seed}.case"), &case).unwrap();
    }
    case
}

/// A story as a case file. The answers are the batch engine's, as far as the story goes.
fn case(host: &Host, mode: Mode, acts: &[Act]) -> String {
    let mut out = String::new();
    let house = catch_unwind(AssertUnwindSafe(|| House::new(host, mode).ok())).ok().flatten();
    let mut house = house;
    for act in acts {
        out.push_str(&act.text());
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let house = house.as_mut()?;
            let before = match act {
                Act::Step(_) | Act::Chain(_) => {
                    house.begun().ok()?;
                    house.wanted().ok()?
                }
                _ => house::Contents::new(),
            };
            // What fails in the act itself is told by the failure.
            house.act(act).ok()?;
            let answers = matches!(act, Act::Step(_) | Act::Chain(_));
            answers.then(|| Some(house::difference(&before, &house.wanted().ok()?)))?
        }));
        match answer {
            Ok(Some(answer)) if answer.is_empty() => out.push_str("----\n"),
            Ok(Some(answer)) => out.push_str(&format!("----\n{answer}\n")),
            Ok(None) => {}
            Err(_) => house = None,
        }
        out.push('\n');
    }
    out
}
