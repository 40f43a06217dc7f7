//! Stages: pieces come back as they were, whole or not at all, and damage is told with its place.

use libtest_mimic::{Failed, Trial};
use store::{Error, StageId, Store};

use super::Random;
use super::driver::options;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("stages/round_trip", round_trip),
        Trial::test("stages/unsealed_ones_go", unsealed),
        Trial::test("stages/ids_are_never_given_out_twice", ids),
        Trial::test("stages/damaged_at_every_byte", damaged),
    ]
}

fn open(dir: &std::path::Path) -> Result<Store, Failed> {
    Ok(Store::open(dir, options(&[])?)?)
}

fn stage(store: &Store, pieces: &[Vec<u8>]) -> Result<StageId, Failed> {
    let mut writer = store.begin_stage()?;
    for piece in pieces {
        writer.append(piece)?;
    }
    Ok(writer.seal()?)
}

fn read(store: &Store, id: StageId, from: u64) -> Result<Vec<Vec<u8>>, Error> {
    store.read_stage_from(id, from)?.collect()
}

/// Small and large pieces, from the first and from any later one, before and after the store was opened again.
fn round_trip() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let mut random = Random::new(1);
    let sizes = [0, 1, 100, 3 << 20, 70_000, (1 << 20) - 24, 5, 1 << 20];
    let noise = |size| (0..size).map(|_| random.next().to_le_bytes()[0]).collect::<Vec<u8>>();
    let pieces: Vec<Vec<u8>> = sizes.into_iter().map(noise).collect();
    let mut store = open(dir.path())?;
    let (full, empty) = (stage(&store, &pieces)?, stage(&store, &[])?);
    for _ in 0..2 {
        for from in 0..=pieces.len() {
            if read(&store, full, from as u64)? != pieces[from..] {
                return Err(format!("from {from}: other pieces").into());
            }
        }
        if !read(&store, empty, 0)?.is_empty() || store.stages() != [full, empty] {
            return Err(format!("{:?}", store.stages()).into());
        }
        if read(&store, full, pieces.len() as u64 + 1).is_ok() {
            return Err("a piece that is not there".into());
        }
        drop(store);
        store = open(dir.path())?;
    }
    store.drop_stage(full)?;
    store.drop_stage(full)?;
    match read(&store, full, 0) {
        Err(Error::NoStage { id }) if id == full => {}
        other => return Err(format!("{other:?}").into()),
    }
    if store.stages() == [empty] { Ok(()) } else { Err(format!("{:?}", store.stages()).into()) }
}

/// What was not sealed is gone: at once where its writer is dropped, at the next opening where the process was.
fn unsealed() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path())?;
    let mut writer = store.begin_stage()?;
    writer.append(b"piece")?;
    let staged = || std::fs::read_dir(dir.path().join("staged")).map(Iterator::count);
    if staged()? != 1 {
        return Err("the stage has no file".into());
    }
    drop(writer);
    if staged()? != 0 {
        return Err("the file of a dropped writer stays".into());
    }
    let mut writer = store.begin_stage()?;
    writer.append(b"piece")?;
    std::mem::forget(writer);
    drop(store);
    let store = open(dir.path())?;
    if staged()? == 0 && store.stages().is_empty() { Ok(()) } else { Err("an unsealed stage stays".into()) }
}

/// A record of the log may name a stage that was dropped: no other stage ever has its id.
fn ids() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let mut seen = Vec::new();
    for step in 1..=5 {
        let store = open(dir.path())?;
        for _ in 0..3 {
            let id = stage(&store, &[b"piece".to_vec()])?;
            if seen.contains(&id) {
                return Err(format!("{id} again").into());
            }
            seen.push(id);
            store.drop_stage(id)?;
        }
        store.append(step, b"names them")?;
        store.commit(step, store::Writes::new())?;
        if step == 3 {
            store.fold_now()?;
        }
    }
    Ok(())
}

/// Changed or cut anywhere, a stage reads with an error or as it was.
fn damaged() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path())?;
    let pieces = vec![b"first".to_vec(), b"second".to_vec()];
    let id = stage(&store, &pieces)?;
    let path = dir.path().join("staged").join(format!("{:020}.stage", id.0));
    let bytes = std::fs::read(&path)?;
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        for content in [&flipped[..], &bytes[..at]] {
            std::fs::write(&path, content)?;
            if let Ok(read) = read(&store, id, 0) {
                return Err(format!("damaged at {at}: {read:?}").into());
            }
        }
    }
    Ok(())
}
