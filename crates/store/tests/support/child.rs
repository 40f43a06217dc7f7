//! The test binary run once more, as the process that is killed or meets a full disk.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use store::{Options, Store, TableId, Writes};

use super::Random;
use super::model::{Op, from_text, to_text, writes};

/// Says what to do (`write`, `full`, `chain` or `small`); the folder follows in [`DIR`].
pub(crate) const ROLE: &str = "TIDEMILL_STORE_CHILD";
pub(crate) const DIR: &str = "TIDEMILL_STORE_DIR";

pub(crate) fn is_child() -> bool {
    std::env::var_os(ROLE).is_some()
}

pub(crate) fn main() {
    let dir = std::env::var(DIR).expect("a folder");
    match &*std::env::var(ROLE).expect("a role") {
        "write" => write(Path::new(&dir)),
        "full" => full(Path::new(&dir)),
        "chain" => chain(Path::new(&dir)),
        "small" => small(Path::new(&dir)),
        role => panic!("unknown role {role}"),
    }
}

/// Tables that hold for good, and one incarnation after the other of a table that is dropped.
pub(crate) const LASTING: [u32; 3] = [16, 17, 18];

pub(crate) fn incarnation(step: u64) -> u32 {
    1000 + u32::try_from(step / 97).expect("few steps")
}

/// What a step writes: the same in every process.
pub(crate) fn ops(step: u64) -> Vec<Op> {
    let mut random = Random::new(step);
    let mut ops = Vec::new();
    let count = if step.is_multiple_of(23) { 400 } else { 1 + random.below(30) };
    for _ in 0..count {
        let table = LASTING[random.index(3)];
        let key = format!("key{:05}", random.below(3_000)).into_bytes();
        if random.below(4) == 0 {
            ops.push(Op::Delete(table, key));
        } else {
            ops.push(Op::Put(table, key, format!("{step}-{}", "v".repeat(random.index(100))).into_bytes()));
        }
    }
    let table = incarnation(step);
    ops.push(Op::Put(table, format!("s{step:06}").into_bytes(), b"here".to_vec()));
    if incarnation(step + 1) != table {
        ops.push(Op::Drop(table));
    }
    ops
}

pub(crate) fn options() -> Options {
    Options {
        cache_bytes: 4 << 20,
        hot_bytes: 1 << 20,
        fold_entries_min: 300,
        fold_interval: Duration::from_millis(5),
        fold_entries_quiet: 10,
        segment_bytes: 40_000,
        overlay_bytes: 4 << 20,
        ..Options::default()
    }
}

/// Appends and commits for ever, and prints each step that is acknowledged.
fn write(dir: &Path) {
    let store = Store::open(dir, options()).expect("opens");
    for item in store.replay().expect("replays") {
        let (step, record) = item.expect("reads");
        let ops = from_text(std::str::from_utf8(&record).expect("text")).expect("ops");
        store.commit(step, writes(&ops)).expect("commits");
    }
    let mut out = std::io::stdout().lock();
    for step in store.snapshot().step() + 1.. {
        let ops = ops(step);
        store.append_unsynced(step, to_text(&ops).as_bytes()).expect("appends");
        if step.is_multiple_of(3) {
            store.start_sync().wait().expect("syncs");
        } else {
            store.sync().expect("syncs");
        }
        writeln!(out, "{step}").expect("the parent listens");
        out.flush().expect("the parent listens");
        store.commit(step, writes(&ops)).expect("commits");
        if step.is_multiple_of(61) {
            store.wait_idle().expect("folds");
        }
    }
}

fn limit_file_size(bytes: &str) {
    let pid = std::process::id().to_string();
    let status = std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
    assert!(status.expect("prlimit of util-linux").success());
}

/// Writes with a limit on file sizes, which fails as a full disk does: half-way through a write.
fn full(dir: &Path) {
    let options = Options { fold_retry: Duration::from_millis(20), fold_entries_min: usize::MAX, ..options() };
    let store = Store::open(dir, Options { segment_bytes: 64 << 20, ..options }).expect("opens");
    let record = vec![7; 30_000];
    let mut rows = Random::new(1);
    let mut commit = |step: u64, entries: u64| {
        let mut writes = Writes::new();
        for i in 0..entries {
            let noise: Vec<u8> = (0..100).map(|_| rows.next().to_le_bytes()[0]).collect();
            writes.put(TableId(16), format!("{step:04}-{i:06}").as_bytes(), &noise);
        }
        store.commit(step, writes).expect("commits within the budget");
    };
    store.append(1, &record).expect("appends");
    commit(1, 10);
    store.fold_now().expect("folds");
    let early = store.snapshot();
    limit_file_size("100000");
    for step in 2..=3 {
        store.append(step, &record).expect("appends");
        commit(step, 3_000);
    }
    let refused = store.append(4, &record).expect_err("the fourth record is beyond the limit");
    assert!(refused.is_disk_full(), "{refused}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("Free disk space")));
    store.append(4, b"small").expect("a smaller record fits");
    commit(4, 10);
    let refused = store.fold_now().expect_err("the fold is beyond the limit");
    assert!(refused.is_disk_full(), "{refused}");
    assert!(store.stats().last_error.is_some_and(|e| e.is_disk_full()));
    // Reading and committing go on.
    assert_eq!(store.snapshot().scan(TableId(16), &[]).count(), 10 + 2 * 3_000 + 10);
    assert_eq!(early.scan(TableId(16), &[]).count(), 10);
    store.append(5, b"small").expect("appends");
    commit(5, 10);
    limit_file_size("unlimited");
    // Folding starts again by itself, once there is room.
    let folded = || store.stats().folded_step;
    for _ in 0..3_000 {
        if folded() >= 4 {
            break;
        }
        let (_sender, never) = std::sync::mpsc::channel::<()>();
        assert!(never.recv_timeout(Duration::from_millis(10)).is_err());
    }
    assert!(folded() >= 4, "{:?}", store.stats());
    assert!(store.stats().last_error.is_none());
    store.fold_now().expect("folds");
    assert_eq!(store.snapshot().scan(TableId(16), &[]).count(), 10 + 2 * 3_000 + 20);
    store.append(6, &record).expect("appends");
    commit(6, 10);
    writeln!(std::io::stdout(), "done").expect("the parent listens");
}

/// Listens to nobody for a moment.
fn pause() {
    let (_sender, never) = std::sync::mpsc::channel::<()>();
    assert!(never.recv_timeout(Duration::from_millis(10)).is_err());
}

fn noise(rows: &mut Random, step: u64, entries: u64) -> Writes {
    let mut writes = Writes::new();
    for i in 0..entries {
        let noise: Vec<u8> = (0..100).map(|_| rows.next().to_le_bytes()[0]).collect();
        writes.put(TableId(16), format!("{step:04}-{i:06}").as_bytes(), &noise);
    }
    writes
}

/// A fold fails in the middle of a chain of hidden steps: what readers see stays readable, on tables that are older than
/// those that are opened again, until the chain ends.
fn chain(dir: &Path) {
    let options = Options { fold_retry: Duration::from_millis(20), fold_entries_min: usize::MAX, ..options() };
    let store =
        Store::open(dir, Options { segment_bytes: 64 << 20, fold_interval: Duration::from_secs(3600), ..options });
    let store = store.expect("opens");
    let mut rows = Random::new(1);
    let count = |snapshot: store::Snapshot| {
        let rows = snapshot.scan(TableId(16), &[]).collect::<Result<Vec<_>, _>>();
        rows.expect("reads").len()
    };
    let step = |step: u64| store.append(step, b"small").expect("appends");
    step(1);
    store.commit(1, noise(&mut rows, 1, 1_000)).expect("commits");
    store.fold_now().expect("folds");
    step(2);
    store.commit_hidden(2, noise(&mut rows, 2, 1_000)).expect("commits");
    store.fold_now().expect("folds hidden steps");
    limit_file_size("100000");
    for hidden in 3..=4 {
        step(hidden);
        store.commit_hidden(hidden, noise(&mut rows, hidden, 3_000)).expect("commits");
    }
    let refused = store.fold_now().expect_err("the fold is beyond the limit");
    assert!(refused.is_disk_full(), "{refused}");
    assert_eq!((count(store.snapshot()), count(store.working())), (1_000, 8_000));
    let early = store.snapshot();
    limit_file_size("unlimited");
    while store.stats().folded_step < 4 {
        pause();
    }
    assert_eq!((count(store.snapshot()), count(store.working())), (1_000, 8_000));
    let folders = || {
        std::fs::read_dir(dir)
            .expect("lists")
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("tables"))
            .count()
    };
    assert_eq!(folders(), 2, "the old tables are still read from");
    step(5);
    store.commit(5, Writes::new()).expect("commits");
    assert_eq!((count(store.snapshot()), count(early)), (8_000, 1_000));
    store.fold_now().expect("folds");
    assert_eq!(folders(), 1, "nobody reads from the old tables any more");
    assert_eq!(count(store.snapshot()), 8_000);
    drop(store);
    let store = Store::open(dir, super::child::options()).expect("opens what became of it");
    assert_eq!(count(store.snapshot()), 8_000);
    // A commit that waits for room ends with the store.
    drop(store);
    waiting_commit(dir);
    writeln!(std::io::stdout(), "done").expect("the parent listens");
}

/// With a full overlay, on a disk that stays full: closing ends the commit that waits.
fn waiting_commit(dir: &Path) {
    let options = Options { overlay_bytes: 100_000, fold_retry: Duration::from_millis(20), ..options() };
    let store = Store::open(dir, options).expect("opens");
    let mut rows = Random::new(2);
    limit_file_size("100000");
    store.commit(6, noise(&mut rows, 6, 3_000)).expect("commits");
    let theirs = store.clone();
    let waiting = std::thread::spawn(move || theirs.commit(7, noise(&mut rows, 7, 10)));
    while store.stats().last_error.is_none() {
        pause();
    }
    assert!(!waiting.is_finished());
    store.close();
    let ended = waiting.join().expect("no panic");
    assert!(matches!(ended, Err(store::Error::Closed)), "{ended:?}");
    assert!(matches!(store.wait_for_space(Duration::from_secs(3600)), Err(store::Error::Closed)));
    assert!(store.snapshot().get(TableId(16), b"0001-000001").expect("reads").is_some());
    limit_file_size("unlimited");
}

/// A file system of its own that is full to the last block: everything waits or is told, nothing is damaged, and the store
/// opens on it.
fn small(dir: &Path) {
    let options = || Options {
        fold_retry: Duration::from_millis(20),
        fold_entries_min: usize::MAX,
        fold_interval: Duration::from_secs(3600),
        overlay_bytes: 64 << 20,
        ..options()
    };
    let mut store = Store::open(dir, options()).expect("opens");
    let mut rows = Random::new(3);
    let record = vec![7; 100_000];
    store.append(1, &record).expect("appends");
    store.commit(1, noise(&mut rows, 1, 5_000)).expect("commits");
    store.fold_now().expect("folds");
    for step in 2..=4 {
        store.append(step, &[7; 1_000]).expect("appends");
        store.commit(step, noise(&mut rows, step, 100)).expect("commits");
    }
    let mut stage = store.begin_stage().expect("begins");
    let refused = loop {
        if let Err(refused) = stage.append(&record) {
            break refused;
        }
    };
    assert!(refused.is_disk_full() && refused.hint().is_some(), "{refused}");
    let mut newest = 4;
    let refused = loop {
        match store.append(newest + 1, &[7; 1_000]) {
            Ok(()) => newest += 1,
            Err(refused) => break refused,
        }
        store.commit(newest, noise(&mut rows, newest, 100)).expect("commits");
    };
    assert!(refused.is_disk_full() && refused.hint().is_some(), "{refused}");
    let refused = store.fold_now().expect_err("the disk is full");
    assert!(refused.is_disk_full() && refused.hint().is_some(), "{refused}");
    assert!(!store.wait_for_space(Duration::from_millis(50)).expect("waits"));
    let count = |store: &Store| store.snapshot().scan(TableId(16), &[]).filter(Result::is_ok).count();
    let before = count(&store);
    drop(store);
    // What the unsealed stage held is free now: somebody else takes it.
    drop(stage);
    let filler = dir.join("filler");
    let mut file = std::fs::File::create(&filler).expect("creates");
    while file.write_all(&[1; 4_096]).is_ok() {}
    drop(file);
    // Opened again on the full disk: reading works, and the log is replayed.
    store = Store::open(dir, options()).expect("opens on a full disk");
    let mut replayed = 1;
    for item in store.replay().expect("replays") {
        let (step, _) = item.expect("reads");
        store.commit(step, noise(&mut Random::new(step), step, 100)).expect("commits");
        replayed = step;
    }
    assert_eq!((replayed, count(&store)), (newest, before));
    assert!(store.append(newest + 1, &record).expect_err("the disk is full").is_disk_full());
    assert!(!store.wait_for_space(Duration::ZERO).expect("waits"));
    // Space returns, and everything goes on.
    std::fs::remove_file(&filler).expect("removes");
    assert!(store.wait_for_space(Duration::from_secs(60)).expect("waits"));
    store.append(newest + 1, &record).expect("the same append");
    store.commit(newest + 1, Writes::new()).expect("commits");
    store.fold_now().expect("folds");
    assert_eq!(count(&store), before);
    assert!(store.stats().last_error.is_none());
    writeln!(std::io::stdout(), "done").expect("the parent listens");
}
