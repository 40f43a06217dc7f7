//! The test binary run once more, as the process that is killed or meets a full disk.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use store::{Options, Store, TableId, Writes};

use super::Random;
use super::model::{Op, from_text, to_text, writes};

/// Says what to do (`write` or `full`); the folder follows in [`DIR`].
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
