//! The figures of the store that ARCHITECTURE.md quotes: `cargo bench -p store --bench store [-- NAME …]`.
//!
//! Order-like entries: keys of 32 bytes in random order, values of 148 bytes, half of them noise. Times are per unit,
//! as minimum, median and maximum of the repetitions: wall time where a disk is waited for, processor time of the thread
//! where it only computes. "cpu" is of the whole process, fold and compaction threads included.
//! `TIDEMILL_BENCH_DIR` says where (default: a temporary folder).

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench measures the clock and prints")]
#![expect(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::{Options, Store, TableId, Writes};

const TABLE: TableId = TableId(16);
const OTHER: TableId = TableId(17);

type Bench = (&'static str, fn(&Path));

const BENCHES: &[Bench] = &[
    ("append", append),
    ("put_commit", put_commit),
    ("hot", hot),
    ("overlay", overlay),
    ("scan", scan),
    ("fold", fold),
    ("quiet", quiet),
    ("reopen", reopen),
    ("steady", steady),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for (name, bench) in BENCHES {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            let parent = std::env::var_os("TIDEMILL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
            let dir = tempfile::tempdir_in(parent).unwrap();
            println!("== {name}");
            bench(dir.path());
        }
    }
}

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The `n`th key: scattered over the key space, the same every time.
fn key(n: u64) -> [u8; 32] {
    let mut out = [0; 32];
    out[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    out[8..16].copy_from_slice(&n.to_be_bytes());
    out[16..].copy_from_slice(b"-0123456789abcde");
    out
}

fn value(noise: &mut Noise) -> [u8; 148] {
    let mut out = *b"paid   |credit_card |sao paulo            |2018-03-01 12:00:00|0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234";
    for chunk in out[..74].chunks_mut(8) {
        let bytes = noise.next().to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
    out
}

fn batch(from: u64, to: u64, noise: &mut Noise) -> Writes {
    let mut writes = Writes::new();
    for n in from..to {
        writes.put(TABLE, &key(n), &value(noise));
    }
    writes
}

fn manual() -> Options {
    Options {
        fold_entries_min: usize::MAX,
        fold_interval: Duration::from_secs(3600),
        overlay_bytes: 4 << 30,
        ..Options::default()
    }
}

/// Processor time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn per(what: &str, unit: &str, units: u64, mut times: Vec<Duration>) {
    times.sort_unstable();
    let each = |t: Duration| t.as_nanos() as f64 / units as f64;
    let show = |ns: f64| match ns {
        0.0..1e3 => format!("{ns:.0} ns"),
        1e3..1e6 => format!("{:.1} µs", ns / 1e3),
        _ => format!("{:.1} ms", ns / 1e6),
    };
    let (min, median, max) = (each(times[0]), each(times[times.len() / 2]), each(times[times.len() - 1]));
    println!("{what:<58} {:>9} {:>9} {:>9} per {unit}", show(min), show(median), show(max));
}

/// Wall time.
fn time(mut f: impl FnMut()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

/// Processor time of this thread: what computing costs, whoever else is busy on the machine.
fn busy(mut f: impl FnMut()) -> Duration {
    let now = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
    };
    let start = now();
    f();
    now() - start
}

fn append(dir: &Path) {
    for (what, changes) in
        [("append + fdatasync, 1 change (180 bytes)", 1), ("append + fdatasync, 5,000 changes (900 kB)", 5_000)]
    {
        let dir = dir.join(changes.to_string());
        let store = Store::open(&dir, manual()).unwrap();
        let mut noise = Noise(1);
        let record: Vec<u8> = (0..changes).flat_map(|n| [&key(n)[..], &value(&mut noise)].concat()).collect();
        let before = cpu();
        let times: Vec<_> = (1..=400).map(|step| time(|| store.append(step, &record).unwrap())).collect();
        let used = cpu() - before;
        let mut sorted = times.clone();
        sorted.sort_unstable();
        per(what, "step", 1, times);
        println!(
            "    p99 {:?}, cpu {:.2} µs per change",
            sorted[396],
            used.as_micros() as f64 / (400 * changes) as f64
        );
    }
}

fn put_commit(dir: &Path) {
    for entries in [100_000_u64, 20_000, 1_000, 10] {
        let store = Store::open(&dir.join(entries.to_string()), manual()).unwrap();
        let mut noise = Noise(2);
        // In groups of about 100,000 entries, which the clock can measure.
        let rounds = 100_000 / entries;
        let (mut puts, mut commits, mut step) = (Vec::new(), Vec::new(), 0);
        let values: Vec<_> = (0..entries).map(|_| value(&mut noise)).collect();
        for group in 0..20 {
            let mut all = Vec::new();
            puts.push(busy(|| {
                for round in group * rounds..(group + 1) * rounds {
                    let mut writes = Writes::new();
                    for (n, value) in values.iter().enumerate() {
                        writes.put(TABLE, &key(round * entries + n as u64), value);
                    }
                    all.push(writes);
                }
            }));
            commits.push(busy(|| {
                for writes in all.drain(..) {
                    step += 1;
                    store.commit(step, writes).unwrap();
                }
            }));
            if group % 5 == 4 {
                store.fold_now().unwrap();
            }
        }
        per(&format!("put, steps of {entries}"), "entry", entries * rounds, puts);
        per(&format!("commit, steps of {entries} (merging included)"), "entry", entries * rounds, commits);
    }
}

fn hot(dir: &Path) {
    let store = Store::open(dir, Options { hot_bytes: 512 << 20, ..manual() }).unwrap();
    let mut noise = Noise(3);
    let entries = 500_000;
    store.commit(1, batch(0, entries, &mut noise)).unwrap();
    store.fold_now().unwrap();
    let snapshot = store.snapshot();
    let get = |n: u64| black_box(store.hot().get(&snapshot, TABLE, &key(n)).unwrap());
    let order: Vec<u64> = (0..entries).map(|_| noise.next() % entries).collect();
    let missed = busy(|| (0..entries).for_each(|n| drop(get(n))));
    per("hot get, miss (read from the tables and remembered)", "get", entries, vec![missed]);
    per("hot get, hit", "get", entries, (0..7).map(|_| busy(|| order.iter().for_each(|n| drop(get(*n))))).collect());
    let few: Vec<u64> = order.iter().map(|n| n % 20_000).collect();
    per(
        "hot get, hit among 20,000",
        "get",
        entries,
        (0..7).map(|_| busy(|| few.iter().for_each(|n| drop(get(*n))))).collect(),
    );
    let mut times = Vec::new();
    for step in 2..9 {
        let mut writes = Writes::new();
        for n in &order[..100_000] {
            writes.put(TABLE, &key(*n), &value(&mut noise));
        }
        let keys = writes.len() as u64;
        times.push(
            busy(|| store.commit(step, std::mem::take(&mut writes)).unwrap()) * 100_000 / u32::try_from(keys).unwrap(),
        );
    }
    per("commit of keys that are hot, steps of 100,000", "entry", 100_000, times);
}

fn overlay(dir: &Path) {
    for runs in [1_u64, 10] {
        let store = Store::open(&dir.join(runs.to_string()), Options { merge_entries_max: 0, ..manual() }).unwrap();
        let mut noise = Noise(4);
        let entries = 500_000;
        let each = entries / runs;
        for run in 0..runs {
            store.commit(run + 1, batch(run * each, (run + 1) * each, &mut noise)).unwrap();
        }
        let snapshot = store.snapshot();
        let order: Vec<u64> = (0..200_000).map(|_| noise.next() % entries).collect();
        let get = |n: u64| black_box(snapshot.get(TABLE, &key(n)).unwrap());
        let hits = (0..7).map(|_| busy(|| order.iter().for_each(|n| drop(get(*n))))).collect();
        per(&format!("overlay get, hit, {runs} runs of {each}"), "get", 200_000, hits);
        let misses = (0..5).map(|_| busy(|| order.iter().for_each(|n| drop(get(n + entries))))).collect();
        per(&format!("overlay get, miss, {runs} runs, and the empty tables"), "get", 200_000, misses);
        let first = busy(|| drop(snapshot.scan(TABLE, &[]).next()));
        per("    first scan, which sorts", "entry", entries, vec![first]);
    }
}

fn scan(dir: &Path) {
    let store = Store::open(dir, manual()).unwrap();
    let mut noise = Noise(5);
    // 50,000 groups of 20 rows.
    let group = |g: u64, row: u64| {
        let mut key = key(g);
        key[31] = row.to_le_bytes()[0];
        key
    };
    let mut writes = Writes::new();
    for n in 0..1_000_000 {
        writes.put(TABLE, &group(n / 20, n % 20), &value(&mut noise));
    }
    store.commit(1, writes).unwrap();
    store.fold_now().unwrap();
    store.wait_idle().unwrap();
    let order: Vec<u64> = (0..20_000).map(|_| noise.next() % 50_000).collect();
    let measure = |what: &str| {
        let snapshot = store.snapshot();
        let all = (0..3).map(|_| busy(|| assert_eq!(snapshot.scan(TABLE, &[]).count(), 1_000_000))).collect();
        per(&format!("scan of 1,000,000 rows, {what}"), "row", 1_000_000, all);
        let prefix = |g: &u64| assert_eq!(snapshot.scan(TABLE, &group(*g, 0)[..31]).count(), 20);
        let prefixes = (0..3).map(|_| busy(|| order.iter().for_each(prefix))).collect();
        per(&format!("scan of a prefix with 20 rows, {what}"), "prefix", 20_000, prefixes);
        let gets = (0..3).map(|_| {
            busy(|| order.iter().for_each(|g| assert!(snapshot.get(TABLE, &group(*g, 7)).unwrap().is_some())))
        });
        per(&format!("get from the tables, {what}"), "get", 20_000, gets.collect());
        let misses = (0..3).map(|_| {
            busy(|| order.iter().for_each(|g| assert!(snapshot.get(TABLE, &group(*g, 77)).unwrap().is_none())))
        });
        per(&format!("get, miss, {what}"), "get", 20_000, misses.collect());
    };
    measure("all folded");
    for step in 2..10 {
        let mut writes = Writes::new();
        for _ in 0..20_000 {
            let n = noise.next() % 1_000_000;
            writes.put(TABLE, &group(n / 20, n % 20), &value(&mut noise));
        }
        store.commit(step, writes).unwrap();
    }
    measure("8 runs of 20,000 above");
}

fn fold(dir: &Path) {
    let store = Store::open(dir, manual()).unwrap();
    let mut noise = Noise(6);
    let entries = 200_000;
    let (mut fresh, mut updates, mut step) = (Vec::new(), Vec::new(), 0);
    let before = cpu();
    let mut committing = Duration::ZERO;
    for round in 0..20_u64 {
        let mut writes = Writes::new();
        let start = cpu();
        for n in 0..entries {
            let n = if round < 10 { round * entries + n } else { noise.next() % (10 * entries) };
            writes.put(TABLE, &key(n), &value(&mut noise));
        }
        step += 1;
        store.commit(step, writes).unwrap();
        committing += cpu() - start;
        let took = time(|| store.fold_now().unwrap());
        if round < 10 { fresh.push(took) } else { updates.push(took) }
    }
    store.wait_idle().unwrap();
    let used = cpu() - before - committing;
    per("fold of 200,000 new entries", "entry", entries, fresh);
    per("fold of 200,000 changes of 2 M entries", "entry", entries, updates);
    println!(
        "    cpu of folds and compaction until idle: {:.2} µs per entry",
        used.as_micros() as f64 / (20 * entries) as f64
    );
    println!("    {:?}", store.stats());
}

/// 200 transactions a second of five entries each, folded every 30 s or 5 s: 20 minutes of it, without the waiting.
fn quiet(dir: &Path) {
    for (what, entries, folds) in [("30 s", 30_000_u64, 40_u64), ("5 s", 5_000, 240)] {
        let dir = dir.join(what);
        let store = Store::open(&dir, manual()).unwrap();
        let mut noise = Noise(7);
        store.commit(1, batch(0, 2_000_000, &mut noise)).unwrap();
        store.wait_idle().unwrap();
        let (before, written) = (cpu(), written_bytes());
        let mut level0 = 0;
        for round in 0..folds {
            let mut writes = Writes::new();
            for _ in 0..entries {
                writes.put(TABLE, &key(noise.next() % 2_000_000), &value(&mut noise));
            }
            store.commit(round + 2, writes).unwrap();
            store.fold_now().unwrap();
            level0 = level0.max(store.stats().level0_tables);
        }
        store.wait_idle().unwrap();
        let user = entries * folds * 180;
        println!(
            "20 minutes of 1,000 entries a second over 2 M, folded every {what}: cpu {:.0} s, written {:.1} times the \
             user's bytes, at most {level0} tables in level 0",
            (cpu() - before).as_secs_f64(),
            (written_bytes() - written) as f64 / user as f64
        );
    }
}

/// Bytes that this process gave the disk to write.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}

fn reopen(dir: &Path) {
    {
        let store = Store::open(dir, manual()).unwrap();
        let mut noise = Noise(8);
        store.commit(1, batch(0, 2_000_000, &mut noise)).unwrap();
        store.wait_idle().unwrap();
        let record = vec![b'r'; 180 * 5_000];
        for step in 2..42 {
            store.append(step, &record).unwrap();
        }
    }
    per(
        "open, 2 M entries, 36 MB of log",
        "open",
        1,
        (0..7).map(|_| time(|| drop(Store::open(dir, manual()).unwrap()))).collect(),
    );
    let store = Store::open(dir, manual()).unwrap();
    let replay = || assert_eq!(store.replay().unwrap().map(|r| r.unwrap().1.len()).sum::<usize>(), 180 * 5_000 * 40);
    per("replay, reading 200,000 changes", "change", 200_000, (0..5).map(|_| time(replay)).collect());
}

/// As fast as it goes: each change writes its row, an index entry and an aggregate; the fold runs beside it.
fn steady(dir: &Path) {
    let store = Store::open(dir, Options::default()).unwrap();
    let mut noise = Noise(9);
    let changes = 20_000_u64;
    let (steps, mut record) = (150_u64, Vec::new());
    let (before, start) = (cpu(), Instant::now());
    let mut times = Vec::new();
    for step in 1..=steps {
        let one = Instant::now();
        let snapshot = store.snapshot();
        let mut writes = Writes::new();
        record.clear();
        for _ in 0..changes {
            let n = noise.next() % 2_000_000;
            let (key, value) = (key(n), value(&mut noise));
            record.extend_from_slice(&key);
            record.extend_from_slice(&value);
            writes.put(TABLE, &key, &value);
            writes.put(OTHER, &key[8..], &[]);
            let group = (n % 5_000).to_be_bytes();
            let state = TableId(18);
            let old = match writes.get(state, &group) {
                Some(value) => value.map(<[u8]>::len),
                None => store.hot().get(&snapshot, state, &group).unwrap().map(|v| v.len()),
            };
            black_box(old);
            writes.put(state, &group, &value[..24]);
        }
        store.append_unsynced(step, &record).unwrap();
        let syncing = store.start_sync();
        syncing.wait().unwrap();
        store.commit(step, writes).unwrap();
        times.push(one.elapsed());
    }
    let wall = start.elapsed();
    per("step of 20,000 changes, 3 entries and a read each", "change", changes, times);
    store.wait_idle().unwrap();
    let idle = start.elapsed();
    let total = steps * changes;
    println!(
        "    {:.0} changes/s; until idle {:.0}; cpu {:.2} µs per change; commits waited {:?}",
        total as f64 / wall.as_secs_f64(),
        total as f64 / idle.as_secs_f64(),
        (cpu() - before).as_micros() as f64 / total as f64,
        store.stats().commit_wait,
    );
    println!("    {:?}", store.stats());
}
