//! A disk that is full now and then: every so many operations one has no room, while it is told so.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use store::files::{Files, System};

#[derive(Debug)]
pub(crate) struct Flaky {
    every: u64,
    done: AtomicU64,
    is_on: AtomicBool,
}

impl Flaky {
    pub(crate) fn new(every: u64) -> Self {
        Self { every, done: AtomicU64::new(0), is_on: AtomicBool::new(false) }
    }

    pub(crate) fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Release);
    }

    fn one(&self) -> Result<()> {
        let has_room = !self.is_on.load(Ordering::Acquire)
            || self.done.fetch_add(1, Ordering::AcqRel) % self.every != self.every - 1;
        if has_room { Ok(()) } else { Err(Error::from(ErrorKind::StorageFull)) }
    }
}

impl Files for Flaky {
    fn create(&self, path: &Path) -> Result<File> {
        self.one()?;
        System.create(path)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
        if let Err(error) = self.one() {
            file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        System.write_at(file, path, bytes, offset)
    }

    fn set_len(&self, file: &File, path: &Path, bytes: u64) -> Result<()> {
        self.one()?;
        System.set_len(file, path, bytes)
    }

    fn sync(&self, file: &File, path: &Path) -> Result<()> {
        self.one()?;
        System.sync(file, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.one()?;
        System.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.one()?;
        System.remove(path)
    }

    fn sync_folder(&self, dir: &Path) -> Result<()> {
        self.one()?;
        System.sync_folder(dir)
    }
}
