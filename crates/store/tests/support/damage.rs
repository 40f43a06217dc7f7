//! The log cut and damaged at every byte.

use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};
use store::{Error, Store, Writes};

use super::driver::options;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("damage/torn_at_every_byte", torn),
        Trial::test("damage/flipped_at_every_byte", flipped),
        Trial::test("damage/zeros_at_the_end", zeros),
    ]
}

const STEPS: u64 = 5;
/// Head of the segment, then per record a header and seven bytes.
const HEAD: usize = 28;
const RECORD: usize = 40 + 7;

fn open(dir: &Path) -> Result<Store, Error> {
    Store::open(dir, options(&[]).unwrap_or_default())
}

/// A log of five acknowledged records, and its only segment.
fn prepared() -> Result<(tempfile::TempDir, PathBuf, Vec<u8>), Failed> {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path())?;
    for step in 1..=STEPS {
        store.append(step, format!("record{step}").as_bytes())?;
        store.commit(step, Writes::new())?;
    }
    drop(store);
    let path = dir.path().join("log").join(format!("{:020}.log", 1));
    let bytes = std::fs::read(&path)?;
    if bytes.len() != HEAD + RECORD * 5 {
        return Err(format!("the segment has {} bytes", bytes.len()).into());
    }
    Ok((dir, path, bytes))
}

fn steps(dir: &Path) -> Result<Vec<u64>, Error> {
    open(dir)?.replay()?.map(|item| item.map(|(step, _)| step)).collect()
}

fn torn() -> Result<(), Failed> {
    let (dir, path, bytes) = prepared()?;
    for cut in 0..bytes.len() {
        std::fs::write(&path, &bytes[..cut])?;
        let whole = cut.saturating_sub(HEAD) / RECORD;
        let got = steps(dir.path())?;
        if got != (1..=whole as u64).collect::<Vec<_>>() {
            return Err(format!("cut at {cut}: {got:?}").into());
        }
        // The log goes on where it was cut.
        let store = open(dir.path())?;
        let next = whole as u64 + 1;
        store.append(next, b"again")?;
        drop(store);
        if steps(dir.path())?.last() != Some(&next) {
            return Err(format!("cut at {cut}: step {next} did not follow").into());
        }
        // A first segment that was lost entirely was made anew.
        std::fs::write(&path, &bytes)?;
    }
    Ok(())
}

/// An acknowledged record that does not read is an error that names the place, except for the last batch: of that, a
/// torn write cannot be told from damage.
fn flipped() -> Result<(), Failed> {
    let (dir, path, bytes) = prepared()?;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&path, &damaged)?;
        let record = at.saturating_sub(HEAD) / RECORD;
        let place = if at < HEAD { 0 } else { HEAD + record * RECORD };
        match steps(dir.path()) {
            // The head's field "previous" is only looked at together with its checksum.
            Err(Error::Damaged { offset, .. }) if record < 4 && offset == place as u64 => {}
            Ok(got) if record == 4 && got == [1, 2, 3, 4] => {}
            other => return Err(format!("flipped {at}: {other:?}").into()),
        }
        std::fs::write(&path, &bytes)?;
    }
    Ok(())
}

/// What a power loss leaves of a file that had grown: zeros.
fn zeros() -> Result<(), Failed> {
    let (dir, path, bytes) = prepared()?;
    for zeros in [1, 39, 40, 41, 5_000] {
        std::fs::write(&path, [&bytes[..], &vec![0; zeros]].concat())?;
        let got = steps(dir.path())?;
        if got != [1, 2, 3, 4, 5] || std::fs::metadata(&path)?.len() != bytes.len() as u64 {
            return Err(format!("{zeros} zeros: {got:?}").into());
        }
    }
    Ok(())
}
