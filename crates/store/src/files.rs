//! How the log and the stages touch their files: the seam at which tests let an operation fail.
//!
//! The methods do what they say on the file system; a test replaces some of them ([`crate::Store::open_with_files`]) to
//! fill the disk, to fail a sync, or to lose what was not synced. One call through a pointer per system call costs
//! nothing that could be measured.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Operations on files that can fail for want of room, or be lost with the power.
pub trait Files: Debug + Send + Sync {
    /// Makes an empty file, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    /// Writes all bytes at an offset. After an error any part of them may be there.
    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _ = path;
        file.write_all_at(bytes, offset)
    }

    /// Cuts a file, or makes it longer.
    fn set_len(&self, file: &File, path: &Path, bytes: u64) -> io::Result<()> {
        let _ = path;
        file.set_len(bytes)
    }

    /// Makes a file's bytes and its length durable. After an error nobody knows what the disk has of them, and a second
    /// call that succeeds says nothing about bytes that were written before the first.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        let _ = path;
        file.sync_data()
    }

    /// Gives a file another name in the same folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    /// Makes created, renamed and removed names of a folder durable.
    fn sync_folder(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// The file system as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Files for System {}
