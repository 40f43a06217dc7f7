//! A process that is killed at any write: the stories in `tests/kills` are played with files that stop working at the n-th
//! operation, for every n, and taken up again as a source would. Law: whatever is asked afterwards has the answer that it has
//! where nothing was killed, and every model equals the batch engine's answer over the tables.
//!
//! The files are those of the log and the stages. The operation at which it ends is left half done: of a write the first half
//! of its bytes are there. What was written before is there too, synced or not: losing that is the store's own trial.
//!
//! So that it is known what is sent again, each step of a story is one input: a transaction or chunk, which moves the source's
//! position, or a reload, or a sweep.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use std::fs::File;
use std::io::{Error, Result as IoResult};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use engine::{Load, Reject};
use house::story::{Act, Piece};
use house::{Contents, Host, House, Mode};
use store::files::{Files, System};

/// Files that work for so many operations.
#[derive(Debug)]
struct Mortal(AtomicI64);

impl Mortal {
    fn is_dead(&self) -> bool {
        self.0.load(Ordering::Acquire) < 0
    }

    /// What is left of an operation.
    fn one(&self, last: impl FnOnce() -> IoResult<()>) -> IoResult<()> {
        match self.0.fetch_sub(1, Ordering::AcqRel) {
            1.. => return Ok(()),
            0 => last()?,
            _ => {}
        }
        Err(Error::other("the process is gone"))
    }
}

impl Files for Mortal {
    fn create(&self, path: &Path) -> IoResult<File> {
        self.one(|| System.create(path).map(drop))?;
        System.create(path)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> IoResult<()> {
        self.one(|| file.write_all_at(&bytes[..bytes.len() / 2], offset))?;
        System.write_at(file, path, bytes, offset)
    }

    fn set_len(&self, file: &File, path: &Path, bytes: u64) -> IoResult<()> {
        self.one(|| Ok(()))?;
        System.set_len(file, path, bytes)
    }

    fn sync(&self, file: &File, path: &Path) -> IoResult<()> {
        self.one(|| Ok(()))?;
        System.sync(file, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> IoResult<()> {
        self.one(|| System.rename(from, to))?;
        System.rename(from, to)
    }

    fn remove(&self, path: &Path) -> IoResult<()> {
        self.one(|| System.remove(path))?;
        System.remove(path)
    }

    fn sync_folder(&self, dir: &Path) -> IoResult<()> {
        self.one(|| Ok(()))?;
        System.sync_folder(dir)
    }
}

/// What there is at the end of a story.
#[derive(Debug, PartialEq, Eq)]
struct End {
    tables: Contents,
    models: Contents,
    rejects: Vec<String>,
}

impl End {
    fn of(house: &mut House) -> Self {
        let text = |reject: &Reject| format!("{} {} {:?}", reject.node, reject.reason, reject.row);
        let mut rejects: Vec<String> = house.engine().rejects(1_000).unwrap().iter().map(text).collect();
        rejects.sort();
        Self { tables: house.table_contents().unwrap(), models: house.contents().unwrap(), rejects }
    }
}

/// Plays a story until the files end, takes it up again, and plays it to its end; whether they ended.
fn played(host: &Host, acts: &[Act], mode: Mode, operations: i64) -> (End, bool) {
    let files = Arc::new(Mortal(AtomicI64::new(i64::MAX)));
    let mut house = House::new(host, mode).unwrap();
    house.use_files(Arc::clone(&files) as Arc<dyn Files>);
    let told = acts.iter().position(|act| matches!(act, Act::Load(_))).unwrap();
    acts[..=told].iter().for_each(|act| house.act(act).unwrap());
    house.fold().unwrap();
    files.0.store(operations, Ordering::Release);
    let mut was_killed = false;
    for act in &acts[told + 1..] {
        let sent = house.sent();
        let outcome = house.act(act);
        if !files.is_dead() {
            outcome.unwrap();
            continue;
        }
        if std::mem::replace(&mut was_killed, true) {
            outcome.unwrap();
            continue;
        }
        house.use_files(Arc::new(System));
        house.restart(false).unwrap();
        if !is_taken(&mut house, act, sent) {
            house.act(act).unwrap();
        }
    }
    house.use_files(Arc::new(System));
    for folded in [false, true] {
        house.restart(folded).unwrap();
        house.check().unwrap();
        house.check_all_delivered().unwrap();
    }
    (End::of(&mut house), was_killed)
}

/// Whether what was sent in an act was taken before the end, so that a source does not send it again.
fn is_taken(house: &mut House, act: &Act, sent: u64) -> bool {
    let piece = match act {
        Act::Step(batches) => {
            assert!(matches!(batches.as_slice(), [batch] if !batch.is_empty()), "not one input: {}", act.text());
            batches[0].first()
        }
        // A table's columns, and the models, are what they are by now: the opening has found them.
        Act::Altered { .. } | Act::Propose => return true,
        Act::Chain(_) => None,
        _ => return false,
    };
    match piece {
        Some(Piece::Reload(name)) => {
            let mut tables = house.engine().tables();
            let table = tables.find(|table| table.name.name == *name).unwrap();
            matches!(table.load, Load::Reloading { .. })
        }
        // To sweep what is swept does nothing.
        Some(Piece::Sweep { .. }) => false,
        _ => house.sent() > sent && house.is_at_what_was_sent(),
    }
}

fn every_write(name: &str, mode: Mode) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kills").join(name);
    let blocks = testkit::blocks(&std::fs::read_to_string(path).unwrap());
    let acts: Vec<Act> = blocks.iter().map(|block| Act::of(block).unwrap().unwrap()).collect();
    let host = Host::new().unwrap();
    let (wanted, _) = played(&host, &acts, mode, i64::MAX);
    let mut kills = 0;
    loop {
        let (end, was_killed) = played(&host, &acts, mode, kills);
        assert_eq!(end, wanted, "{name}, killed at operation {kills}");
        if !was_killed {
            break;
        }
        kills += 1;
    }
    assert!(kills > 10, "{name}: only {kills} operations");
}

/// Each kind of operator over transactions, small ones and such as are chains.
#[test]
fn operators() {
    every_write("operators.case", Mode { fold_built: true, emptied_rows_max: 2, ..Mode::default() });
}

/// The same with every transaction in parts: each is staged, and is a chain.
#[test]
fn operators_in_parts() {
    let mode = Mode { fold_built: true, parts: true, emptied_rows_max: 1, ..Mode::default() };
    every_write("operators.case", mode);
}

/// Rows that are delivered: what the other side has in the end is what the relation has.
#[test]
fn deliveries() {
    every_write("outbox.case", Mode { fold_built: true, emptied_rows_max: 2, ..Mode::default() });
}

/// Tables that are loaded again in their places, with a key and without one.
#[test]
fn reloads() {
    every_write("reloads.case", Mode { fold_built: true, ..Mode::default() });
}

/// A table whose columns change, and once more while it is loaded.
#[test]
fn altered() {
    every_write("altered.case", Mode { fold_built: true, ..Mode::default() });
}

/// The same without folds of what was built: after the end it is built again.
#[test]
fn altered_and_not_folded() {
    every_write("altered.case", Mode::default());
}
