//! Every write and every sync of a script fails, one after the other: once, for ever, or as the last thing that the
//! process did. Whatever was acknowledged is there afterwards, whole, and nothing else is.
//!
//! The disk is modelled as pessimistically as it may behave: what was not synced is lost with the process, names
//! included; after a failed sync the kernel has forgotten what it could not write, and a second sync that succeeds brings
//! none of it back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Result as IoResult};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use store::files::Files;
use store::{Options, StageId, Store};

use super::model::{Model, Op, compare, from_text, to_text, writes};

pub(crate) fn trials() -> Vec<Trial> {
    let all = [
        ("write_fails_once", Fault::Write, Lasting::Once),
        ("write_fails_for_long", Fault::Write, Lasting::Long),
        ("sync_fails_once", Fault::Sync, Lasting::Once),
        ("sync_fails_for_long", Fault::Sync, Lasting::Long),
        ("killed_at_a_write", Fault::Write, Lasting::Killed),
        ("killed_at_a_sync", Fault::Sync, Lasting::Killed),
    ];
    all.into_iter()
        .map(|(name, fault, lasting)| Trial::test(format!("faults/{name}"), move || every(fault, lasting)))
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Write,
    Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasting {
    Once,
    /// Until the script has tried a few times.
    Long,
    /// Nothing works afterwards.
    Killed,
}

/// What a file has on disk, and what only the kernel knows.
#[derive(Debug, Default, Clone)]
struct Content {
    durable: Vec<u8>,
    dirty: Vec<Range<usize>>,
}

#[derive(Debug)]
struct Disk {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    contents: Vec<Content>,
    /// Files by name, as programs see them and as they are after a power loss.
    live: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    fault: Fault,
    lasting: Lasting,
    /// Operations of the kind until the fault.
    left: usize,
    is_healed: bool,
    has_failed: bool,
    is_dead: bool,
}

impl Disk {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heal(&self) {
        self.state().is_healed = true;
    }

    /// What a power loss leaves of the files that go through here.
    fn lose_power(&self, dir: &Path) -> IoResult<()> {
        let state = self.state();
        for folder in ["log", "staged"] {
            let Ok(entries) = std::fs::read_dir(dir.join(folder)) else { continue };
            for entry in entries {
                std::fs::remove_file(entry?.path())?;
            }
        }
        for (path, content) in &state.durable {
            std::fs::write(path, &state.contents[*content].durable)?;
        }
        Ok(())
    }
}

impl State {
    /// Whether the operation that is about to run must fail.
    fn fails(&mut self, fault: Fault) -> IoResult<bool> {
        if self.is_dead {
            return Err(Error::other("the process is gone"));
        }
        if fault != self.fault || self.is_healed {
            return Ok(false);
        }
        if self.left > 0 {
            self.left -= 1;
            return Ok(false);
        }
        let first = !std::mem::replace(&mut self.has_failed, true);
        self.is_dead |= self.lasting == Lasting::Killed;
        Ok(first || self.lasting != Lasting::Once)
    }

    fn content(&mut self, path: &Path) -> &mut Content {
        let count = self.contents.len();
        let at = *self.live.entry(path.to_owned()).or_insert(count);
        if at == count {
            // It was there before: all of it is on disk.
            let durable = std::fs::read(path).unwrap_or_default();
            self.contents.push(Content { durable, dirty: Vec::new() });
            self.durable.insert(path.to_owned(), at);
        }
        &mut self.contents[at]
    }
}

impl Files for Disk {
    fn create(&self, path: &Path) -> IoResult<File> {
        let mut state = self.state();
        if state.fails(Fault::Write)? {
            return Err(ErrorKind::StorageFull.into());
        }
        let count = state.contents.len();
        state.contents.push(Content::default());
        state.live.insert(path.to_owned(), count);
        File::options().read(true).write(true).create(true).truncate(true).open(path)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> IoResult<()> {
        let mut state = self.state();
        let fails = state.fails(Fault::Write)?;
        // Half of it is written all the same.
        let bytes = if fails { &bytes[..bytes.len() / 2] } else { bytes };
        file.write_all_at(bytes, offset)?;
        let from = usize::try_from(offset).unwrap_or(0);
        state.content(path).dirty.push(from..from + bytes.len());
        if fails { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&self, file: &File, path: &Path, bytes: u64) -> IoResult<()> {
        let mut state = self.state();
        if state.fails(Fault::Write)? {
            return Err(ErrorKind::StorageFull.into());
        }
        let end = usize::try_from(bytes).unwrap_or(0);
        for range in &mut state.content(path).dirty {
            *range = range.start.min(end)..range.end.min(end);
        }
        file.set_len(bytes)
    }

    fn sync(&self, file: &File, path: &Path) -> IoResult<()> {
        let mut state = self.state();
        let fails = state.fails(Fault::Sync)?;
        let content = state.content(path);
        let dirty = std::mem::take(&mut content.dirty);
        if fails {
            return Err(Error::other("the disk did not take it"));
        }
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        content.durable.resize(length, 0);
        for range in dirty {
            let range = range.start.min(length)..range.end.min(length);
            file.read_exact_at(&mut content.durable[range.clone()], range.start as u64)?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> IoResult<()> {
        let mut state = self.state();
        if state.fails(Fault::Write)? {
            return Err(ErrorKind::StorageFull.into());
        }
        std::fs::rename(from, to)?;
        state.content(from);
        if let Some(content) = state.live.remove(from) {
            state.live.insert(to.to_owned(), content);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> IoResult<()> {
        let mut state = self.state();
        if state.fails(Fault::Write)? {
            return Err(Error::other("the disk did not take it"));
        }
        std::fs::remove_file(path)?;
        state.content(path);
        state.live.remove(path);
        Ok(())
    }

    fn sync_folder(&self, dir: &Path) -> IoResult<()> {
        let mut state = self.state();
        if state.fails(Fault::Sync)? {
            return Err(Error::other("the disk did not take it"));
        }
        let live: Vec<_> =
            state.live.iter().filter(|(path, _)| path.starts_with(dir)).map(|(p, c)| (p.clone(), *c)).collect();
        state.durable.retain(|path, _| !path.starts_with(dir));
        state.durable.extend(live);
        Ok(())
    }
}

const STEPS: u64 = 14;
/// A step that takes pieces from a stage writes them into this table.
const STAGED: u32 = 20;

fn ops(step: u64) -> Vec<Op> {
    let mut ops: Vec<Op> = (0..6)
        .map(|i| Op::Put(16, format!("k{:02}", (step * 7 + i * 5) % 20).into(), format!("{step}-{i}").into()))
        .collect();
    ops.push(Op::Delete(16, format!("k{:02}", step % 20).into()));
    ops
}

fn pieces(step: u64) -> Vec<Vec<u8>> {
    // One of them is larger than what is synced together.
    let bytes = |i: u64| if i == 2 { 900 } else { 300 };
    (0..6).map(|i| to_text(&[Op::Put(STAGED, format!("s{step}-{i}").into(), vec![b'v'; bytes(i)])]).into()).collect()
}

fn options() -> Options {
    Options {
        cache_bytes: 1 << 20,
        hot_bytes: 64 << 10,
        fold_entries_min: usize::MAX,
        fold_interval: Duration::from_secs(100_000),
        // Only who asks for a fold has it tried again.
        fold_retry: Duration::from_secs(100_000),
        segment_bytes: 700,
        stage_bytes: 700,
        ..Options::default()
    }
}

/// What a record does: its ops, and those of the stage that it names.
fn effect(store: &Store, record: &[u8]) -> Result<Vec<Op>, String> {
    let text = std::str::from_utf8(record).map_err(|e| e.to_string())?;
    let Some(id) = text.strip_prefix("stage ") else { return from_text(text) };
    let id = StageId(id.trim().parse().map_err(|e| format!("{text}: {e}"))?);
    let mut ops = Vec::new();
    for piece in store.read_stage(id).map_err(|e| e.to_string())? {
        let piece = piece.map_err(|e| e.to_string())?;
        ops.extend(from_text(std::str::from_utf8(&piece).map_err(|e| e.to_string())?)?);
    }
    Ok(ops)
}

/// Tries again, and lets the disk work again after a few times. None when the process is gone.
fn persist<T>(disk: &Disk, mut action: impl FnMut() -> store::Result<T>) -> Result<Option<T>, String> {
    for attempt in 0..5 {
        match action() {
            Ok(value) => return Ok(Some(value)),
            Err(_) if disk.state().is_dead => return Ok(None),
            Err(e) if attempt == 4 => return Err(format!("it does not go on: {e}")),
            Err(_) if attempt == 2 => disk.heal(),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Runs the script. The step that was acknowledged last.
fn run(dir: &Path, disk: &Arc<Disk>, model: &mut Model) -> Result<u64, String> {
    let files = || Arc::clone(disk) as Arc<dyn Files>;
    let Some(store) = persist(disk, || Store::open_with_files(dir, options(), files()))? else { return Ok(0) };
    let mut stages = Vec::new();
    for step in 1..=STEPS {
        let staged = step % 5 == 3;
        let ops = if staged {
            pieces(step).iter().map(|p| from_text(&String::from_utf8_lossy(p))).collect::<Result<Vec<_>, _>>()?.concat()
        } else {
            ops(step)
        };
        let record = if staged {
            let Some(mut writer) = persist(disk, || store.begin_stage())? else { return Ok(step - 1) };
            for piece in pieces(step) {
                if persist(disk, || writer.append(&piece))?.is_none() {
                    return Ok(step - 1);
                }
            }
            let Some(id) = persist(disk, || writer.seal())? else { return Ok(step - 1) };
            stages.push(id);
            format!("stage {id}")
        } else {
            to_text(&ops)
        };
        model.apply(step, &ops);
        if persist(disk, || store.append(step, record.as_bytes()))?.is_none() {
            return Ok(step - 1);
        }
        if staged {
            store.commit_hidden(step, writes(&ops)).map_err(|e| e.to_string())?;
        } else {
            store.commit(step, writes(&ops)).map_err(|e| e.to_string())?;
        }
        compare(&store.working(), &model.at(step), &[16, STAGED])?;
        if step % 6 == 5 {
            if persist(disk, || store.fold_now())?.is_none() {
                return Ok(step);
            }
            for id in stages.drain(..) {
                if persist(disk, || store.drop_stage(id))?.is_none() {
                    return Ok(step);
                }
            }
        }
    }
    Ok(STEPS)
}

/// Opens with a disk that works, and compares everything.
fn verify(dir: &Path, model: &Model, acknowledged: u64) -> Result<(), String> {
    let store = Store::open(dir, options()).map_err(|e| e.to_string())?;
    for item in store.replay().map_err(|e| e.to_string())? {
        let (step, record) = item.map_err(|e| e.to_string())?;
        let ops = effect(&store, &record)?;
        store.commit(step, writes(&ops)).map_err(|e| e.to_string())?;
    }
    let step = store.snapshot().step();
    // The step that was being appended is there or is not.
    if step != acknowledged && step != acknowledged + 1 {
        return Err(format!("step {acknowledged} was acknowledged, the store has {step}"));
    }
    compare(&store.snapshot(), &model.at(step), &[16, STAGED])?;
    store.append(step + 1, b"put 16 on on").map_err(|e| e.to_string())?;
    store.commit(step + 1, writes(&[])).map_err(|e| e.to_string())?;
    store.fold_now().map_err(|e| e.to_string())?;
    compare(&store.snapshot(), &model.at(step), &[16, STAGED])
}

fn every(fault: Fault, lasting: Lasting) -> Result<(), Failed> {
    for n in 0.. {
        let dir = tempfile::tempdir()?;
        let state = State {
            contents: Vec::new(),
            live: BTreeMap::new(),
            durable: BTreeMap::new(),
            fault,
            lasting,
            left: n,
            is_healed: false,
            has_failed: false,
            is_dead: false,
        };
        let disk = Arc::new(Disk { state: Mutex::new(state) });
        let mut model = Model::default();
        let text = |e: String| format!("{fault:?} {n}, {lasting:?}: {e}");
        let acknowledged = run(dir.path(), &disk, &mut model).map_err(text)?;
        if lasting == Lasting::Killed && n % 2 == 0 {
            // The process alone is gone: the kernel still has everything.
            verify(dir.path(), &model, acknowledged).map_err(text)?;
        } else {
            disk.lose_power(dir.path())?;
            verify(dir.path(), &model, acknowledged).map_err(text)?;
        }
        if !disk.state().has_failed {
            return if n > 20 { Ok(()) } else { Err(format!("the script has {n} operations only").into()) };
        }
    }
    Ok(())
}
