//! The tables on disk: one fjall keyspace, written by nothing but sorted ingestions.
//!
//! What was learnt about fjall 3.1 the hard way, and holds here:
//!
//! - every ingestion carries `folded_step`, and nothing is ever written to the keyspace in another way: an ordinary
//!   insert, then an ingested tombstone, then a compaction brought deleted keys back;
//! - keys of an ingestion rise strictly, or it panics;
//! - `persist(SyncAll)` comes before an ingestion: it is what notices a poisoned database, ingestion does not;
//! - an error of an ingestion is final until the database is reopened, and an abandoned one leaves a file behind until then;
//! - nothing throttles ingestion, and each asks for one round of compaction at most: the fold asks for more itself;
//! - a merge removes its files under the lock that every read takes: the versions are held meanwhile ([`crate::merges`]);
//! - `expect_point_read_hits` would leave ingested tables without a bloom filter.
//!
//! After an error the tables are opened again beside themselves: a successor folder gets a link to each of their files, which
//! never change, and is opened as a database of its own; readers of the old one go on as long as they like, and it is
//! removed after the last. So no reader ever meets closed tables. The successor's name is what makes it one: of `tables`,
//! `tables.1`, … the highest counts when the store opens, and it was complete before it got that name.
//!
//! A large value has a file of its own ([`VALUE_FILE_MIN`]), to which its entry points: a merge of entries holds one of each table
//! that it reads in memory, and several copies of the one that it writes. The file goes with its entry, so nothing has ever to
//! be moved from one such file into another; the library's way of doing that takes two values of a key for one where both
//! came by ingestions.
//!
//! A dropped table has no range delete: its number is remembered as dead, files that hold nothing else are dropped at
//! once, compaction filters the rest away, and the memory of it goes when nothing is left.

use std::collections::BTreeSet;
use std::fs::File;
use std::panic::RefUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard, Weak};

use fjall::compaction::Leveled;
use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use fjall::config::{HashRatioPolicy, PinningPolicy};
use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use relation::TableId;

use crate::base::{Base, DEAD, FOLDED_STEP, Prefixed, Tables, after};
use crate::cursor::{Cursor, Merge};
use crate::merges::Versions;
use crate::part::Part;
use crate::{Error, META, Result, lock};

/// Name of the one keyspace.
const KEYSPACE: &str = "entries";

/// What the first folder of tables is called, and how the names of its successors begin.
const FOLDER: &str = "tables";
/// Bytes of a value from which on it has a file of its own.
const VALUE_FILE_MIN: u32 = 4 << 20;
/// Folders whose files never change: of entries, and of large values.
const FIXED_FOLDERS: [&str; 2] = ["tables", "blobs"];

/// Older copies of the tables that readers may hold before the next successor must wait.
const COPIES_MAX: usize = 3;

/// The open tables.
pub(crate) struct Disk {
    /// The data folder.
    dir: PathBuf,
    cache_bytes: u64,
    handles: Mutex<Option<Handles>>,
    /// The folder of the tables.
    current: Mutex<PathBuf>,
    /// Folders that have a successor, and whether somebody reads from them.
    old: Mutex<Vec<(PathBuf, Weak<PathBuf>)>>,
    /// Read by whoever merges; written by whoever needs that nobody does.
    merging: RwLock<()>,
    purge: Arc<Purge>,
}

#[derive(Clone)]
struct Handles {
    keyspace: Keyspace,
    home: Home,
    versions: Arc<Versions>,
}

/// A database and its folder, which is removed when it has a successor and nobody holds this any more.
#[derive(Clone)]
pub(crate) struct Home {
    database: Database,
    path: Arc<PathBuf>,
}

/// What one ingestion writes.
pub(crate) struct Fold<'a> {
    /// The step that the tables stand at afterwards.
    pub(crate) step: u64,
    /// Parts by table, each table's oldest first.
    pub(crate) tables: &'a [(TableId, Vec<Arc<Part>>)],
    /// Dead tables of which nothing is left.
    pub(crate) forget: &'a BTreeSet<TableId>,
}

impl Disk {
    /// Opens or creates the tables of a data folder.
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<Self> {
        let mut disk = Self {
            dir: dir.to_owned(),
            cache_bytes,
            handles: Mutex::new(None),
            current: Mutex::default(),
            old: Mutex::default(),
            merging: RwLock::default(),
            purge: Arc::new(Purge { tables: RwLock::default() }),
        };
        let mut folders = disk.folders()?;
        let newest = folders.pop().map_or(0, |(number, _)| number);
        disk.current = Mutex::new(disk.folder(newest));
        disk.reopen()?;
        let old = folders.into_iter().map(|(_, path)| (path, Weak::new()));
        lock(&disk.old).extend(old);
        disk.sweep();
        Ok(disk)
    }

    /// The folders of tables, the newest last; what was never finished is removed.
    fn folders(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(Error::io("list", &self.dir))? {
            let path = entry.map_err(Error::io("list", &self.dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(rest) = name.strip_prefix(FOLDER) else { continue };
            match (rest, rest.strip_prefix('.').map(str::parse)) {
                ("", _) => folders.push((0, path)),
                (_, Some(Ok(number))) => folders.push((number, path)),
                (".new", _) => std::fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?,
                _ => {}
            }
        }
        folders.sort_unstable();
        Ok(folders)
    }

    fn folder(&self, number: u64) -> PathBuf {
        self.dir.join(if number == 0 { FOLDER.to_owned() } else { format!("{FOLDER}.{number}") })
    }

    fn open_handles(&self, path: &Path) -> Result<Handles> {
        let purge = Arc::clone(&self.purge);
        let builder = Database::builder(path)
            .cache_size(self.cache_bytes)
            // Who merges is `crate::merges`; nothing is ever flushed, since nothing is written but by ingestions.
            .worker_threads_unchecked(0)
            .manual_journal_persist(true)
            .with_compaction_filter_factories(Arc::new(move |name| {
                (name == KEYSPACE).then(|| Arc::new(PurgeFactory(Arc::clone(&purge))) as Arc<dyn Factory>)
            }));
        let database = builder.open().map_err(Error::tables_in("open", path))?;
        let options = || {
            // Every ingestion touches all tables, so level 0 is merged with the whole of level 1: twice as seldom as is the
            // default, with a level 1 of the same size.
            KeyspaceCreateOptions::default()
                .data_block_hash_ratio_policy(HashRatioPolicy::all(1.33))
                .index_block_pinning_policy(PinningPolicy::all(true))
                .filter_block_pinning_policy(PinningPolicy::all(true))
                .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(8).with_table_target_size(32 << 20)))
                .with_kv_separation(Some(
                    KvSeparationOptions::default()
                        .separation_threshold(VALUE_FILE_MIN)
                        // The next value begins another file, and no file is ever written anew.
                        .file_target_size(1)
                        .age_cutoff(0.0),
                ))
        };
        let keyspace = database.keyspace(KEYSPACE, options).map_err(Error::tables_in("open", path))?;
        let versions = Arc::new(Versions::default());
        versions.hold(&keyspace);
        Ok(Handles { keyspace, home: Home { database, path: Arc::new(path.to_owned()) }, versions })
    }

    fn handles(&self) -> Result<Handles> {
        lock(&self.handles).clone().ok_or(Error::TablesClosed)
    }

    /// The tables as they are now.
    pub(crate) fn tables(&self) -> Result<Tables> {
        let Handles { keyspace, home, .. } = self.handles()?;
        Ok(Tables { snapshot: home.database.snapshot(), keyspace, _home: home })
    }

    /// Waits until no merge is under way, and lets none begin.
    pub(crate) fn hold_merges(&self) -> RwLockWriteGuard<'_, ()> {
        self.merging.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes everything. The caller has taken the handles out of every [`Base`] before.
    pub(crate) fn close(&self) {
        let closed = lock(&self.handles).take();
        if let Some(handles) = closed {
            handles.versions.release_all();
        }
    }

    /// Opens the tables, at first or after [`Disk::close`].
    pub(crate) fn reopen(&self) -> Result<()> {
        let path = lock(&self.current).clone();
        *lock(&self.handles) = Some(self.open_handles(&path)?);
        Ok(())
    }

    /// Opens a successor of the tables as they are on disk; readers of the old ones go on. After an error nothing has
    /// changed.
    pub(crate) fn succeed(&self) -> Result<()> {
        self.sweep();
        let copies = lock(&self.old).len();
        if copies >= COPIES_MAX {
            return Err(Error::TablesHeld { copies });
        }
        let old = self.handles()?.home.path;
        let newest = self.folders()?.pop().map_or(0, |(number, _)| number);
        let (unfinished, path) = (self.folder_of_unfinished(), self.folder(newest + 1));
        let made = link_folder(&old, &unfinished, &old).map_err(Error::io("copy", &old)).and_then(|()| {
            // Whether it opens is known before it counts.
            drop(self.open_handles(&unfinished)?);
            let rename = std::fs::rename(&unfinished, &path).and_then(|()| File::open(&self.dir)?.sync_all());
            rename.map_err(Error::io("rename", &unfinished))?;
            self.open_handles(&path)
        });
        match made {
            Ok(handles) => {
                *lock(&self.handles) = Some(handles);
                *lock(&self.current) = path;
                lock(&self.old).push((PathBuf::clone(&old), Arc::downgrade(&old)));
                Ok(())
            }
            Err(e) => {
                // One that has its name is as good as the old one, but would be taken for newer.
                drop(std::fs::rename(&path, &unfinished));
                drop(std::fs::remove_dir_all(&unfinished));
                Err(e)
            }
        }
    }

    fn folder_of_unfinished(&self) -> PathBuf {
        self.dir.join(format!("{FOLDER}.new"))
    }

    /// Removes old tables that nobody reads from any more.
    pub(crate) fn sweep(&self) {
        lock(&self.old).retain(|(path, readers)| {
            let is_free = readers.strong_count() == 0;
            if is_free && let Err(error) = std::fs::remove_dir_all(path) {
                tracing::warn!(folder = %path.display(), %error, "cannot remove tables that have a successor");
            }
            !is_free
        });
    }

    /// Writes a fold: all of it is durable when this returns, or none of it. The number of entries written.
    pub(crate) fn ingest(&self, fold: &Fold<'_>, stop: &AtomicBool) -> Result<u64> {
        let Handles { keyspace, home, versions } = self.handles()?;
        home.database.persist(PersistMode::SyncAll).map_err(Error::tables("sync"))?;
        let failed = Error::tables("fold into");
        let mut out = keyspace.start_ingestion().map_err(&failed)?;
        for (dead, is_new) in self.markers(fold) {
            let key = Prefixed::new(META, &[DEAD, &dead.0.to_be_bytes()].concat());
            if is_new { out.write(key.bytes(), []) } else { out.write_tombstone(key.bytes()) }.map_err(&failed)?;
        }
        out.write(Prefixed::new(META, FOLDED_STEP).bytes(), fold.step.to_be_bytes()).map_err(&failed)?;
        let mut entries = 1;
        let mut key = Vec::new();
        for (table, parts) in fold.tables {
            key.clear();
            key.extend_from_slice(&table.0.to_be_bytes());
            let cursors = parts.iter().enumerate().filter_map(|(age, part)| Cursor::whole(part, age));
            let mut merge = Merge::forward(cursors.collect());
            while let Some((part, i)) = merge.next() {
                key.truncate(4);
                key.extend_from_slice(part.key(i));
                match part.value(i) {
                    Some(value) => out.write(&*key, value),
                    None => out.write_tombstone(&*key),
                }
                .map_err(&failed)?;
                entries += 1;
                if entries % 4096 == 0 && stop.load(Ordering::Relaxed) {
                    return Err(Error::Closed);
                }
            }
        }
        versions.hold(&keyspace);
        out.finish().map_err(&failed)?;
        versions.hold(&keyspace);
        Ok(entries)
    }

    /// Tables that this fold kills, and those it forgets, in key order.
    fn markers(&self, fold: &Fold<'_>) -> Vec<(TableId, bool)> {
        let dropped = fold.tables.iter().filter(|(_, parts)| parts.iter().any(|p| p.is_dropped()));
        let new = dropped.map(|(table, _)| (*table, true));
        let mut all: Vec<_> = new.chain(fold.forget.iter().map(|table| (*table, false))).collect();
        all.sort_unstable();
        all.dedup_by_key(|(table, _)| *table);
        all
    }

    /// Number of tables in level 0, where each ingestion adds one or more.
    pub(crate) fn level0_tables(&self) -> usize {
        self.handles().map_or(0, |h| h.keyspace.l0_table_count())
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.handles().map_or(0, |h| h.keyspace.disk_space())
    }

    /// Changes what the tables are made of: files that are not among them any more are removed at its end, under no lock of the
    /// library's. Versions in between need no hold, since they have no file that neither the first nor the last has.
    fn merge<T>(&self, change: impl FnOnce(&Keyspace, &Home) -> Result<T>) -> Result<T> {
        let _merging = self.merging.read().unwrap_or_else(PoisonError::into_inner);
        let Handles { keyspace, home, versions } = self.handles()?;
        versions.hold(&keyspace);
        let changed = change(&keyspace, &home);
        versions.hold(&keyspace);
        versions.release(&keyspace);
        changed
    }

    /// One round of compaction on the caller's thread; whether it changed anything.
    pub(crate) fn compact_once(&self) -> Result<bool> {
        self.merge(|keyspace, home| {
            let before = keyspace.tree.current_version().id();
            let watermark = home.database.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
            let strategy = Arc::clone(&keyspace.config.compaction_strategy);
            match keyspace.tree.compact(strategy, watermark) {
                Ok(_) => Ok(keyspace.tree.current_version().id() != before),
                // What became of tables that have a successor is nobody's concern.
                Err(_) if *lock(&self.current) != *home.path => Ok(false),
                Err(error) => Err(Error::tables("compact")(error.into())),
            }
        })
    }

    /// Merges everything into the last level.
    pub(crate) fn compact_all(&self) -> Result<()> {
        self.merge(|keyspace, _| keyspace.major_compact().map_err(Error::tables("compact")))
    }

    /// No reader sees these dropped tables any more: their entries may go.
    pub(crate) fn purge(&self, dead: &[TableId]) -> Result<()> {
        self.merge(|keyspace, _| {
            for table in dead {
                let first = Prefixed::new(*table, &[]);
                let end = after(*table);
                let range = (std::ops::Bound::Included(first.bytes()), end.as_ref().map(Prefixed::bytes));
                let dropped = keyspace.tree.drop_range::<&[u8], _>(range);
                dropped.map_err(|e| Error::tables("drop a table of")(e.into()))?;
            }
            Ok(())
        })?;
        self.purge.tables.write().unwrap_or_else(PoisonError::into_inner).extend(dead);
        Ok(())
    }

    /// Nothing is left of these: compaction need not look for them any more.
    pub(crate) fn forget(&self, dead: &BTreeSet<TableId>) {
        self.purge.tables.write().unwrap_or_else(PoisonError::into_inner).retain(|table| !dead.contains(table));
    }

    /// Dropped tables whose entries may go.
    pub(crate) fn purged(&self) -> BTreeSet<TableId> {
        self.purge.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The tables as they are now, as a base.
    pub(crate) fn base(&self) -> Result<Base> {
        Base::new(self.tables()?)
    }
}

/// Makes a folder like another: files that never change are linked, the others, all of them small, are copied.
fn link_folder(from: &Path, to: &Path, root: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let (entry, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        let is_of_fixed = FIXED_FOLDERS.iter().any(|name| from.ends_with(name)) && from != root;
        // To the journal nothing is ever written.
        let is_fixed = is_of_fixed || entry.extension().is_some_and(|end| end == "jnl");
        if entry.is_dir() {
            link_folder(&entry, &target, root)?;
        } else if is_fixed {
            std::fs::hard_link(&entry, &target)?;
        } else {
            std::fs::copy(&entry, &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

/// Dropped tables that no reader sees any more.
#[derive(Debug)]
struct Purge {
    tables: RwLock<BTreeSet<TableId>>,
}

struct PurgeFactory(Arc<Purge>);

impl RefUnwindSafe for PurgeFactory {}

impl Factory for PurgeFactory {
    fn name(&self) -> &str {
        "dropped tables"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        let tables = self.0.tables.read().unwrap_or_else(PoisonError::into_inner);
        Box::new(PurgeFilter(tables.iter().map(|table| table.0.to_be_bytes()).collect()))
    }
}

/// Prefixes of the tables to be removed, sorted.
struct PurgeFilter(Vec<[u8; 4]>);

impl CompactionFilter for PurgeFilter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let prefix = item.key().first_chunk::<4>();
        let dead = prefix.is_some_and(|prefix| self.0.binary_search(prefix).is_ok());
        // No tombstone is needed: nobody reads a dead table, so an older version may show through.
        Ok(if dead { Verdict::Destroy } else { Verdict::Keep })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use relation::TableId;

    use super::VALUE_FILE_MIN;
    use crate::{Options, Store, Writes};

    const TABLE: TableId = TableId(16);

    /// A value that has a file of its own, and that compresses to almost nothing.
    fn large(tag: u8) -> Vec<u8> {
        vec![tag; VALUE_FILE_MIN as usize]
    }

    fn value_files(dir: &Path) -> usize {
        let keyspaces = std::fs::read_dir(dir.join("keyspaces")).unwrap();
        let folders = keyspaces.map(|folder| folder.unwrap().path().join("blobs")).filter(|folder| folder.is_dir());
        folders.map(|folder| std::fs::read_dir(folder).unwrap().count()).sum()
    }

    fn folded(store: &Store, step: u64, key: &[u8], value: Option<&[u8]>) {
        let mut writes = Writes::new();
        match value {
            Some(value) => writes.put(TABLE, key, value),
            None => writes.delete(TABLE, key),
        }
        store.commit(step, writes).unwrap();
        store.fold_now().unwrap();
    }

    fn first_byte(snapshot: &crate::Snapshot, key: &[u8]) -> Option<u8> {
        let value = snapshot.get(TABLE, key).unwrap()?;
        assert!(value.len() == 1 || value.len() == VALUE_FILE_MIN as usize);
        assert!(value.iter().all(|byte| *byte == value[0]));
        Some(value[0])
    }

    /// Each version of a large value has a file, which goes with its last reader; what replaces it may be small, and a
    /// successor of the tables and a restart know them all.
    #[test]
    fn a_large_value_has_a_file_that_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let tables = dir.path().join("tables");
        for step in 1..=6 {
            folded(&store, step, b"replaced", Some(&large(u8::try_from(step).unwrap())));
        }
        let reader = store.snapshot();
        folded(&store, 7, b"deleted", Some(&large(70)));
        folded(&store, 8, b"shrunk", Some(&large(80)));
        folded(&store, 9, b"kept", Some(&large(90)));
        folded(&store, 10, b"replaced", Some(&large(10)));
        folded(&store, 11, b"deleted", None);
        folded(&store, 12, b"shrunk", Some(b"s"));
        store.compact().unwrap();
        assert_eq!(first_byte(&reader, b"replaced"), Some(6));
        let newest = [(&b"replaced"[..], Some(10)), (b"deleted", None), (b"shrunk", Some(b's')), (b"kept", Some(90))];
        let is_newest = |store: &Store| {
            for (key, value) in newest {
                assert_eq!(first_byte(&store.snapshot(), key), value, "{}", key.escape_ascii());
            }
        };
        is_newest(&store);
        drop(reader);
        // A merge lets go of what nobody reads: of what was merged a few folds before it.
        for step in 13..=40 {
            folded(&store, step, b"small", Some(b"x"));
            store.compact().unwrap();
        }
        assert_eq!(value_files(&tables), 2, "the files of `replaced` and `kept`");

        store.shared().disk.succeed().unwrap();
        let successor = dir.path().join("tables.1");
        assert_eq!(value_files(&successor), 2);
        is_newest(&store);
        folded(&store, 41, b"later", Some(&large(41)));
        assert_eq!(first_byte(&store.snapshot(), b"later"), Some(41));
        drop(store);

        let store = Store::open(dir.path(), Options::default()).unwrap();
        is_newest(&store);
        assert_eq!(first_byte(&store.snapshot(), b"later"), Some(41));
        let mut writes = Writes::new();
        writes.drop_table(TABLE);
        store.commit(42, writes).unwrap();
        store.fold_now().unwrap();
        for step in 43..=70 {
            let mut writes = Writes::new();
            writes.put(TableId(17), b"small", b"x");
            store.commit(step, writes).unwrap();
            store.fold_now().unwrap();
            store.compact().unwrap();
        }
        assert_eq!(value_files(&successor), 0);
    }
}
