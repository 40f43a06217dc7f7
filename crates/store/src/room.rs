//! Whether the disk has room: asked before much is written, and tried where asking does not tell (a quota, a limit on
//! the size of files).

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::{Error, Result};

/// Bytes that are left to others when room is asked for: the log must not find the last block taken.
const RESERVE: u64 = 8 << 20;
/// Names of the files that are written to try it; leftovers go when the store opens.
pub(crate) const PROBES: [&str; 2] = ["probe.fold", "probe.append"];
/// Most bytes written to try it.
const PROBE_BYTES_MAX: u64 = 64 << 20;

/// Whether about so many bytes can be written, by what the file system says of itself.
pub(crate) fn ask(dir: &Path, bytes: u64) -> Result<()> {
    let Ok(stat) = rustix::fs::statvfs(dir) else {
        // Not every file system knows; then the write itself will tell.
        return Ok(());
    };
    if stat.f_bavail.saturating_mul(stat.f_frsize) >= bytes.saturating_add(RESERVE) {
        return Ok(());
    }
    let source = Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
    Err(Error::Io { action: "find room in", path: dir.to_owned(), source })
}

/// Whether they can be written, by writing as many as are needed to know.
pub(crate) fn probe(dir: &Path, name: &str, bytes: u64) -> Result<()> {
    // Without this the probe might be what fills the disk, while a record is appended.
    let bytes = bytes.min(PROBE_BYTES_MAX);
    ask(dir, bytes)?;
    let path = dir.join(name);
    let write = || {
        let mut file = File::create(&path)?;
        let block = vec![0x5a; 64 << 10];
        for _ in 0..bytes / (64 << 10) + 1 {
            file.write_all(&block)?;
        }
        file.sync_data()
    };
    let written = write().map_err(Error::io("write", &path));
    let removed = std::fs::remove_file(&path).map_err(Error::io("remove", &path));
    written.and(removed)
}
