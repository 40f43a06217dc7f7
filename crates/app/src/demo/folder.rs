//! Where a demo keeps its data: in a folder that is given, or in a temporary one that goes with it.
//!
//! A demo that was killed leaves its folder, and the next one takes that away. A folder is locked as long as its demo runs, and the
//! system lets go of the lock with the process: what is locked is never touched. A folder is empty until it is locked, and empty ones
//! stay: so none is taken from under a demo that is about to lock it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

/// What temporary folders begin with.
const PREFIX: &str = "tidemill-demo-";

/// The folder of the data.
pub(super) enum Folder {
    Temporary {
        dir: TempDir,
        /// Held until the end.
        _lock: File,
    },
    Given(PathBuf),
}

impl Folder {
    /// The folder that is given, or a new temporary one; then what killed demos left is taken away, and it is answered how much.
    pub(super) fn new(given: Option<PathBuf>) -> anyhow::Result<(Self, usize)> {
        let Some(path) = given else { return Self::temporary(&std::env::temp_dir()) };
        Ok((Self::Given(path), 0))
    }

    fn temporary(place: &Path) -> anyhow::Result<(Self, usize)> {
        let swept = sweep(place);
        let trouble = || format!("cannot make a temporary folder in {}; give one with --data", place.display());
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place).with_context(trouble)?;
        let lock = File::open(dir.path()).with_context(trouble)?;
        lock.lock().with_context(trouble)?;
        Ok((Self::Temporary { dir, _lock: lock }, swept))
    }

    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Temporary { dir, .. } => dir.path().to_owned(),
            Self::Given(path) => path.clone(),
        }
    }

    /// Removes what is temporary, and says what is left.
    pub(super) fn close(self) -> anyhow::Result<String> {
        match self {
            Self::Temporary { dir, .. } => {
                let path = dir.path().to_owned();
                dir.close().with_context(|| format!("cannot remove the temporary folder {}", path.display()))?;
                Ok("stopped; nothing is left".to_owned())
            }
            Self::Given(path) => Ok(format!("stopped; the shop goes on with --data {}", path.display())),
        }
    }
}

/// The data folders of the demos that run on this machine in temporary folders, and can be looked into.
pub fn running() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let is_demo = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(PREFIX);
    let folders = entries.filter(is_demo).map(|entry| entry.path());
    let mut running: Vec<PathBuf> = folders.filter(|folder| crate::opening::is_running(folder)).collect();
    running.sort();
    running
}

/// Removes the folders of demos that run no more; answers how many. What cannot be removed stays.
fn sweep(place: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(place) else { return 0 };
    let is_of_demo = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(PREFIX) && path.symlink_metadata().is_ok_and(|about| about.is_dir())
    };
    let folders = entries.flatten().map(|entry| entry.path()).filter(is_of_demo);
    folders.filter(|folder| is_left(folder) && std::fs::remove_dir_all(folder).is_ok()).count()
}

/// Whether nobody holds a folder that something is in: neither it nor its store.
fn is_left(folder: &Path) -> bool {
    let is_free = |path: &Path| File::open(path).is_ok_and(|file| file.try_lock().is_ok());
    let store = folder.join("store/lock");
    is_free(folder)
        && std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
        && (!store.exists() || is_free(&store))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_demo_left_is_taken_away_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let made = |name: &str, file: Option<&str>| {
            let path = place.path().join(name);
            std::fs::create_dir_all(path.join("store")).unwrap();
            file.into_iter().for_each(|file| std::fs::write(path.join(file), "x").unwrap());
            path
        };
        let (running, swept) = Folder::temporary(place.path()).unwrap();
        assert_eq!(swept, 0);
        std::fs::write(running.path().join("note"), "x").unwrap();
        let left = made("tidemill-demo-left", Some("store/lock"));
        let older = made("tidemill-demo-older", Some("store/lock"));
        let held = File::open(older.join("store/lock")).unwrap();
        held.lock().unwrap();
        let other = made("tidemill-other", Some("note"));
        let begun = place.path().join("tidemill-demo-begun");
        std::fs::create_dir(&begun).unwrap();
        let (second, swept) = Folder::temporary(place.path()).unwrap();
        assert_eq!(swept, 1);
        assert!(!left.exists());
        for path in [&running.path(), &older, &other, &begun, &second.path()] {
            assert!(path.exists(), "{}", path.display());
        }
        drop(held);
        assert_eq!(second.close().unwrap(), "stopped; nothing is left");
        assert_eq!(sweep(place.path()), 1);
        assert!(running.path().exists() && !older.exists());
    }
}
